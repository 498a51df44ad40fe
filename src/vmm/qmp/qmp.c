/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The protocol: greeting, negotiation, commands in, answers and events out. */
#include "vmm/qmp/qmp.h"

#include <string.h>

#include "base/error.h"
#include "base/fdset.h"
#include "vmm/core/chardev.h"
#include "vmm/core/machine.h"
#include "vmm/qmp/qmp_limit.h"

#define MESSAGE_MAX (1 << 20) /* bytes of one command */
#define DEPTH_MAX 64

struct qmp {
    struct machine *machine;
    struct chardev *host;
    struct json_tokener *tokener;
    size_t length;      /* of the message that is coming in */
    bool connected, negotiated, pretty;
    bool skipping;      /* after a syntax error, to the end of the line */
    bool corked;        /* more commands have come already: their answers leave together */
    struct qmp_limit *limit;
    GString *backlog;   /* answers that the client does not take yet; no command is read meanwhile */
};

static const char *const class_generic = "GenericError", *const class_not_found = "CommandNotFound",
                  *const class_not_active = "DeviceNotActive", *const class_no_device = "DeviceNotFound";

/* ---- output ---- */

static void push(struct qmp *q)
{
    size_t n = chardev_write(q->host, q->backlog->str, q->backlog->len);
    g_string_erase(q->backlog, 0, (gssize)n);
    if (q->backlog->len)
        chardev_can_write(q->host); /* asks to be told */
}

static void print_indented(GString *s, struct json_object *o)
{
    g_string_append(s, json_object_to_json_string_ext(o, JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
}

static void print_object(GString *s, struct json_object *o)
{
    const char *separator = "";
    g_string_append_c(s, '{');
    json_object_object_foreach(o, key, value) {
        json_auto *name = json_object_new_string(key);
        g_string_append_printf(s, "%s%s: ", separator, json_object_to_json_string_ext(name, JSON_C_TO_STRING_NOSLASHESCAPE));
        qmp_print(s, value, false);
        separator = ", ";
    }
    g_string_append_c(s, '}');
}

void qmp_print(GString *s, struct json_object *o, bool pretty)
{
    if (pretty) {
        print_indented(s, o);
    } else if (json_object_is_type(o, json_type_object)) {
        print_object(s, o);
    } else if (json_object_is_type(o, json_type_array)) {
        g_string_append_c(s, '[');
        for (size_t i = 0; i < json_object_array_length(o); i++) {
            g_string_append(s, i ? ", " : "");
            qmp_print(s, json_object_array_get_idx(o, i), false);
        }
        g_string_append_c(s, ']');
    } else {
        g_string_append(s, json_object_to_json_string_ext(o, JSON_C_TO_STRING_NOSLASHESCAPE));
    }
}

/* Takes o over. */
static void send_object(struct qmp *q, struct json_object *o)
{
    qmp_print(q->backlog, o, q->pretty);
    json_object_put(o);
    g_string_append(q->backlog, "\r\n");
    if (!q->corked)
        push(q);
}

static void send_error(struct qmp *q, const char *class, const char *desc, struct json_object *id)
{
    struct json_object *answer = json_object_new_object();
    if (id)
        json_object_object_add(answer, "id", json_object_get(id));
    json_object_object_add(answer, "error", json_make("class", json_object_new_string(class), "desc", json_object_new_string(desc), NULL));
    send_object(q, answer);
}

static void send_greeting(struct qmp *q)
{
    struct json_object *hello = json_make("version", qmp_version(), "capabilities", json_object_new_array(), NULL);
    send_object(q, json_make("QMP", hello, NULL));
}

/* ---- commands ---- */

static bool type_fits(struct json_object *value, enum qmp_arg_type type)
{
    static const json_type types[] = { [QMP_ARG_STRING] = json_type_string, [QMP_ARG_INT] = json_type_int, [QMP_ARG_BOOL] = json_type_boolean,
                                       [QMP_ARG_ARRAY] = json_type_array, [QMP_ARG_OBJECT] = json_type_object };
    return type == QMP_ARG_ANY || json_object_is_type(value, types[type]);
}

static const struct qmp_arg *find_arg(const struct qmp_arg *rows, const char *name)
{
    for (const struct qmp_arg *a = rows; a && a->name; a++) {
        if (!strcmp(a->name, name))
            return a;
    }
    return NULL;
}

static bool check_args(const struct qmp_arg *rows, bool open, struct json_object *args, GError **error)
{
    static const char *const names[] = { [QMP_ARG_STRING] = "string", [QMP_ARG_INT] = "integer", [QMP_ARG_BOOL] = "boolean",
                                        [QMP_ARG_ARRAY] = "array", [QMP_ARG_OBJECT] = "object", [QMP_ARG_ANY] = "value" };
    if (args) {
        json_object_object_foreach(args, key, value) {
            const struct qmp_arg *a = find_arg(rows, key);
            if (!a && open)
                continue;
            if (!a)
                return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter '%s' is unexpected", key);
            if (!type_fits(value, a->type))
                return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid parameter type for '%s', expected: %s", key, names[a->type]);
        }
    }
    for (const struct qmp_arg *a = rows; a && a->name; a++) {
        if (!a->optional && !json_object_object_get_ex(args, a->name, NULL))
            return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter '%s' is missing", a->name);
    }
    return true;
}

bool qmp_check_args(const struct qmp_arg *rows, struct json_object *args, GError **error)
{
    return check_args(rows, false, args, error);
}

/* The members of a command object, checked; borrowed from it. */
struct request {
    const char *name;
    struct json_object *args, *id;
};

static bool read_request(struct json_object *o, struct request *r, GError **error)
{
    if (!json_object_is_type(o, json_type_object))
        return vireo_fail(error, VIREO_ERROR_INVALID, "QMP input must be a JSON object");
    json_object_object_get_ex(o, "id", &r->id);
    json_object_object_foreach(o, key, value) {
        if (!strcmp(key, "execute")) {
            if (!json_object_is_type(value, json_type_string))
                return vireo_fail(error, VIREO_ERROR_INVALID, "QMP input member 'execute' must be a string");
            r->name = json_object_get_string(value);
        } else if (!strcmp(key, "arguments")) {
            if (!json_object_is_type(value, json_type_object))
                return vireo_fail(error, VIREO_ERROR_INVALID, "QMP input member 'arguments' must be an object");
            r->args = value;
        } else if (strcmp(key, "id")) {
            return vireo_fail(error, VIREO_ERROR_INVALID, "QMP input member '%s' is unexpected", key);
        }
    }
    return r->name || vireo_fail(error, VIREO_ERROR_INVALID, "QMP input lacks member 'execute'");
}

static const struct qmp_command *find_command(const char *name)
{
    for (const struct qmp_command *c = qmp_commands; c->name; c++) {
        if (!strcmp(c->name, name))
            return c;
    }
    return NULL;
}

/* Why this command cannot be run now, in the words of the specification's error class CommandNotFound; NULL: it can. */
static char *not_now(struct qmp *q, const struct request *r)
{
    bool negotiate = !strcmp(r->name, "qmp_capabilities");
    if (!q->negotiated && !negotiate)
        return g_strdup("Expecting capabilities negotiation with 'qmp_capabilities'");
    if (q->negotiated && negotiate)
        return g_strdup("Capabilities negotiation is already complete, command ignored");
    if (find_command(r->name))
        return NULL;
    return g_strdup_printf(qmp_command_known(r->name) ? "The command %s is not there yet" : "The command %s has not been found", r->name);
}

/* qmp_capabilities: the one argument is a list of capabilities, of which there are none. */
static bool negotiate(struct qmp *q, struct json_object *args, GError **error)
{
    struct json_object *enable = NULL;
    if (args) {
        json_object_object_foreach(args, key, value) {
            if (strcmp(key, "enable"))
                return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter '%s' is unexpected", key);
            enable = value;
        }
    }
    if (enable && !json_object_is_type(enable, json_type_array))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid parameter type for 'enable', expected: array");
    if (enable && json_object_array_length(enable))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Capability '%s' is not available",
                          json_object_get_string(json_object_array_get_idx(enable, 0)));
    q->negotiated = true;
    return true;
}

static struct json_object *run(struct qmp *q, const struct request *r, GError **error)
{
    const struct qmp_command *c = find_command(r->name);
    if (!c->run)
        return negotiate(q, r->args, error) ? json_object_new_object() : NULL;
    if (!check_args(c->args, c->open, r->args, error))
        return NULL;
    fdset_offer(chardev_take_fd(q->host));
    struct json_object *value = c->run(q->machine, r->args, error);
    chardev_put_fd(q->host, fdset_offer(-1));
    return value ? value : json_object_new_object();
}

static const char *absent_class(const struct qmp_command *c)
{
    return c->absent == QMP_ABSENT_NOT_ACTIVE ? class_not_active : c->absent == QMP_ABSENT_NOT_FOUND ? class_no_device : class_generic;
}

static void handle(struct qmp *q, struct json_object *o)
{
    struct request r = { 0 };
    g_autoptr(GError) error = NULL;
    if (!read_request(o, &r, &error)) {
        send_error(q, class_generic, error->message, r.id);
        return;
    }
    g_autofree char *why = not_now(q, &r);
    if (why) {
        send_error(q, class_not_found, why, r.id);
        return;
    }
    struct json_object *value = run(q, &r, &error);
    if (error) {
        json_object_put(value);
        bool absent = g_error_matches(error, VIREO_ERROR, VIREO_ERROR_NOT_FOUND);
        send_error(q, absent ? absent_class(find_command(r.name)) : class_generic, error->message, r.id);
        return;
    }
    struct json_object *answer = json_make("return", value, NULL);
    if (r.id)
        json_object_object_add(answer, "id", json_object_get(r.id));
    send_object(q, answer);
}

/* ---- input ---- */

static void syntax_error(struct qmp *q, const char *what)
{
    send_error(q, class_generic, what, NULL);
    json_tokener_reset(q->tokener);
    q->length = 0;
    q->skipping = true;
}

static const char *syntax_error_text(enum json_tokener_error e)
{
    switch (e) {
    case json_tokener_error_depth: return "JSON nesting depth limit exceeded";
    case json_tokener_error_parse_string: return "JSON parse error, invalid string";
    case json_tokener_error_parse_object_key_name: return "JSON parse error, key is not a string in object";
    case json_tokener_error_parse_object_key_sep: return "JSON parse error, missing : in object pair";
    case json_tokener_error_parse_object_value_sep: return "JSON parse error, expected separator in dict";
    case json_tokener_error_parse_array: return "JSON parse error, expected separator in list";
    default: return "JSON parse error, expecting value";
    }
}

/* Consumes some of data[0..n): one message, or all. */
static size_t feed(struct qmp *q, const char *data, size_t n)
{
    if (q->skipping) {
        const char *end = memchr(data, '\n', n);
        q->skipping = !end;
        return end ? (size_t)(end - data) + 1 : n;
    }
    if (!q->length && (g_ascii_isspace(*data) || *data == '\xff'))
        return 1; /* between messages; 0xff is how clients ask for a fresh start */
    struct json_object *o = json_tokener_parse_ex(q->tokener, data, (int)n);
    enum json_tokener_error e = json_tokener_get_error(q->tokener);
    size_t used = json_tokener_get_parse_end(q->tokener);
    if (e == json_tokener_continue) {
        q->length += n;
        if (q->length > MESSAGE_MAX)
            syntax_error(q, "JSON token size limit exceeded");
        return n;
    }
    if (e != json_tokener_success) {
        syntax_error(q, syntax_error_text(e));
        return used;
    }
    q->length = 0;
    json_tokener_reset(q->tokener);
    handle(q, o);
    json_object_put(o);
    return used ? used : 1;
}

static size_t host_room(void *opaque)
{
    struct qmp *q = opaque;
    return q->backlog->len ? 0 : 4096;
}

static void host_receive(void *opaque, const uint8_t *data, size_t n)
{
    struct qmp *q = opaque;
    q->corked = true;
    for (size_t done = 0; done < n;)
        done += feed(q, (const char *)data + done, n - done);
    q->corked = false;
    if (q->backlog->len)
        push(q);
}

static void start_session(struct qmp *q)
{
    json_tokener_reset(q->tokener);
    g_string_truncate(q->backlog, 0);
    q->length = 0;
    q->negotiated = q->skipping = false;
}

static void host_event(void *opaque, enum chardev_event ev)
{
    struct qmp *q = opaque;
    switch (ev) {
    case CHARDEV_OPENED:
        start_session(q);
        q->connected = true;
        send_greeting(q);
        break;
    case CHARDEV_CLOSED:
        start_session(q);
        q->connected = false;
        break;
    case CHARDEV_WRITABLE:
        push(q);
        if (!q->backlog->len)
            chardev_receive_ready(q->host);
        break;
    case CHARDEV_BREAK:
        break;
    }
}

static const struct chardev_handlers host_handlers = { host_room, host_receive, host_event };

/* ---- events ---- */

static struct json_object *cause_data(enum machine_cause cause)
{
    bool guest = cause == CAUSE_GUEST_SHUTDOWN || cause == CAUSE_GUEST_RESET || cause == CAUSE_GUEST_PANIC;
    return json_make("guest", json_object_new_boolean(guest), "reason", json_object_new_string(machine_cause_name(cause)), NULL);
}

static struct json_object *io_error_data(const struct block_io_error *e)
{
    struct json_object *data = json_make("device", json_object_new_string(e->device ? e->device : ""), "operation",
                                         json_object_new_string(e->operation), "action", json_object_new_string(e->action), "nospace",
                                         json_object_new_boolean(e->nospace), "reason", json_object_new_string(e->reason ? e->reason : ""), NULL);
    if (e->node)
        json_object_object_add(data, "node-name", json_object_new_string(e->node));
    return data;
}

static struct json_object *panic_data(struct qmp *q)
{
    return json_make("action", json_object_new_string(q->machine->config->no_shutdown ? "pause" : "poweroff"), NULL);
}

static struct json_object *event_data(struct qmp *q, enum machine_event ev, enum machine_cause cause, const struct block_io_error *io)
{
    switch (ev) {
    case EVENT_SHUTDOWN:
    case EVENT_RESET: return cause_data(cause);
    case EVENT_BLOCK_IO_ERROR: return io_error_data(io);
    case EVENT_GUEST_PANICKED: return panic_data(q);
    case EVENT_GUEST_CRASHLOADED: return json_make("action", json_object_new_string("run"), NULL);
    default: return NULL;
    }
}

static bool wants_events(const struct qmp *q)
{
    return q->connected && q->negotiated && q->backlog->len <= MESSAGE_MAX;
}

/* Takes data over, which may be NULL. */
static void send_event(struct qmp *q, const char *name, struct json_object *data)
{
    int64_t now = g_get_real_time();
    struct json_object *stamp = json_make("seconds", json_object_new_int64(now / G_USEC_PER_SEC), "microseconds",
                                          json_object_new_int64(now % G_USEC_PER_SEC), NULL);
    struct json_object *event = json_make("timestamp", stamp, "event", json_object_new_string(name), NULL);
    if (data)
        json_object_object_add(event, "data", data);
    send_object(q, event);
}

static void on_event(void *opaque, enum machine_event ev, enum machine_cause cause, const struct block_io_error *io)
{
    static const char *const names[] = {
        [EVENT_SHUTDOWN] = "SHUTDOWN", [EVENT_RESET] = "RESET", [EVENT_STOP] = "STOP", [EVENT_RESUME] = "RESUME",
        [EVENT_POWERDOWN] = "POWERDOWN", [EVENT_GUEST_PANICKED] = "GUEST_PANICKED", [EVENT_BLOCK_IO_ERROR] = "BLOCK_IO_ERROR",
        [EVENT_GUEST_CRASHLOADED] = "GUEST_CRASHLOADED",
    };
    struct qmp *q = opaque;
    if (wants_events(q))
        send_event(q, names[ev], event_data(q, ev, cause, io));
}

static void send_named(void *opaque, const char *name, struct json_object *data)
{
    struct qmp *q = opaque;
    if (wants_events(q))
        send_event(q, name, json_object_get(data));
}

static void on_named_event(void *opaque, const char *name, struct json_object *data)
{
    qmp_limit_event(((struct qmp *)opaque)->limit, name, data);
}

/* ---- the server ---- */

struct qmp *qmp_create(struct machine *m, struct chardev *c, bool pretty, GError **error)
{
    struct qmp *q = g_new0(struct qmp, 1);
    q->machine = m;
    q->host = c;
    q->pretty = pretty;
    q->tokener = json_tokener_new_ex(DEPTH_MAX);
    q->backlog = g_string_new(NULL);
    q->limit = qmp_limit_create(send_named, q);
    machine_add_listener(m, (struct machine_listener){ on_event, q, on_named_event });
    chardev_accept_fds(c);
    if (chardev_attach(c, &host_handlers, q, error))
        return q;
    q->host = NULL;
    qmp_destroy(q);
    return NULL;
}

void qmp_destroy(struct qmp *q)
{
    if (!q)
        return;
    for (guint i = 0; i < q->machine->listeners->len; i++) {
        if (g_array_index(q->machine->listeners, struct machine_listener, i).opaque == q)
            g_array_remove_index(q->machine->listeners, i--);
    }
    if (q->host)
        chardev_detach(q->host);
    qmp_announce_end(q->machine);
    qmp_limit_destroy(q->limit);
    json_tokener_free(q->tokener);
    g_string_free(q->backlog, TRUE);
    g_free(q);
}
