/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the machine shows, and keys and pointer. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fdset.h"
#include "base/sandbox.h"
#include "vmm/core/device.h"
#include "vmm/core/machine.h"
#include "vmm/display/display.h"
#include "vmm/qmp/qmp.h"
#include "vmm/qmp/qmp_display.h"

enum { HOLD_MS = 100, MAX_HOLD_MS = 60000, MAX_KEYS = 16 };

static const char *text_of(struct json_object *args, const char *key) { return json_object_get_string(json_object_object_get(args, key)); }

/* The place of text in names; -1 with *error. */
static int choice(const char *key, const char *text, const char *const *names, GError **error)
{
    for (int i = 0; names[i]; i++)
        if (text && !strcmp(text, names[i]))
            return i;
    vireo_fail(error, VIREO_ERROR_INVALID, "Parameter '%s' does not accept value '%s'", key, text ? text : "");
    return -1;
}

/* Whether device and head, which may be absent, name the one head. */
static bool check_head(struct machine *m, const char *id, int64_t head, GError **error)
{
    const struct device *d = id ? device_find(m, id) : NULL;
    if (!id)
        return true;
    if (!d)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Device '%s' not found", id);
    if (head || g_strcmp0(d->class->name, display_card(m->display)))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Device %s (head %d) is not bound to a QemuConsole", id, (int)head);
    return true;
}

/* ---- screendump ---- */

const struct qmp_arg qmp_screendump_args[] = {
    { "filename", QMP_ARG_STRING }, { "device", QMP_ARG_STRING, true }, { "head", QMP_ARG_INT, true }, { "format", QMP_ARG_STRING, true }, { NULL }
};

static bool write_all(int fd, const guint8 *data, gsize size)
{
    while (size) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        data += n;
        size -= (gsize)n;
    }
    return true;
}

/* A file that was not there before is not left half written. */
static bool write_file(const char *path, const guint8 *data, gsize size, GError **error)
{
    if (!fdset_path(path) && !sandbox_may_open_image(path, error))
        return false;
    bool made = true;
    int fd = fdset_open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0 && errno == EEXIST) {
        made = false;
        fd = fdset_open(path, O_WRONLY | O_TRUNC | O_NOCTTY | O_CLOEXEC, 0666);
    }
    if (fd < 0)
        return vireo_fail_errno(error, errno, "failed to open file '%s'", path);
    bool ok = write_all(fd, data, size);
    int err = errno;
    if (close(fd) && ok) {
        ok = false;
        err = errno;
    }
    if (!ok && made && !fdset_path(path))
        unlink(path);
    return ok || vireo_fail_errno(error, err, "cannot write the picture to '%s'", path);
}

struct json_object *qmp_screendump(struct machine *m, struct json_object *args, GError **error)
{
    static const char *const formats[] = { "ppm", "png", NULL };
    const char *id = text_of(args, "device"), *format = text_of(args, "format");
    struct json_object *head = NULL;
    g_autofree guint8 *data = NULL;
    gsize size;
    int kind = format ? choice("format", format, formats, error) : 0;
    if (kind < 0)
        return NULL;
    if (json_object_object_get_ex(args, "head", &head) && !id)
        vireo_fail(error, VIREO_ERROR_INVALID, "'head' must be specified together with 'device'");
    else if (check_head(m, id, head ? json_object_get_int64(head) : 0, error) && display_dump(display_of(m), kind == 1, &data, &size, error))
        (void)write_file(text_of(args, "filename"), data, size, error);
    return NULL;
}

/* ---- members of nested arguments ---- */

struct member { const char *name; enum json_type type; };

/* Exactly these members of an object that the client knows as `where`. */
static bool check_members(struct json_object *o, const char *where, const struct member *members, unsigned n, GError **error)
{
    static const char *const names[] = { [json_type_boolean] = "boolean", [json_type_int] = "integer", [json_type_string] = "string",
                                         [json_type_object] = "object", [json_type_array] = "array" };
    if (!json_object_is_type(o, json_type_object))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid parameter type for '%s', expected: object", where);
    for (unsigned i = 0; i < n; i++) {
        struct json_object *v;
        if (!json_object_object_get_ex(o, members[i].name, &v))
            return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter '%s.%s' is missing", where, members[i].name);
        if (members[i].type != json_type_null && !json_object_is_type(v, members[i].type))
            return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid parameter type for '%s.%s', expected: %s", where, members[i].name, names[members[i].type]);
    }
    json_object_object_foreach(o, key, value) {
        bool known = false;
        (void)value;
        for (unsigned i = 0; i < n; i++)
            known |= !strcmp(key, members[i].name);
        if (!known)
            return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter '%s.%s' is unexpected", where, key);
    }
    return true;
}

static const char *const key_kinds[] = { "number", "qcode", NULL };

/* A KeyValue: its code (0: one that no keyboard here has), or -1 with *error. */
static int key_code(struct json_object *o, const char *where, GError **error)
{
    static const struct member any[] = { { "type", json_type_string }, { "data", json_type_null } };
    if (!check_members(o, where, any, 2, error))
        return -1;
    int kind = choice("type", text_of(o, "type"), key_kinds, error);
    if (kind < 0)
        return -1;
    struct member exact[] = { { "type", json_type_string }, { "data", kind ? json_type_string : json_type_int } };
    if (!check_members(o, where, exact, 2, error))
        return -1;
    if (!kind) {
        int64_t number = json_object_get_int64(json_object_object_get(o, "data"));
        return number < 0 || number > 0xff ? 0 : (int)display_code_of_number((unsigned)number);
    }
    const char *name = text_of(o, "data");
    unsigned code = display_code_of_qcode(name);
    if (!code && strcmp(name, "unmapped")) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'data' does not accept value '%s'", name);
        return -1;
    }
    return (int)code;
}

/* ---- send-key ---- */

const struct qmp_arg qmp_send_key_args[] = { { "keys", QMP_ARG_ARRAY }, { "hold-time", QMP_ARG_INT, true }, { NULL } };

struct json_object *qmp_send_key(struct machine *m, struct json_object *args, GError **error)
{
    struct json_object *keys = json_object_object_get(args, "keys"), *hold = NULL;
    unsigned codes[MAX_KEYS], n = 0;
    if (json_object_array_length(keys) > MAX_KEYS) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'keys' has more than %d keys at once", MAX_KEYS);
        return NULL;
    }
    for (size_t i = 0; i < json_object_array_length(keys); i++) {
        g_autofree char *where = g_strdup_printf("keys[%zu]", i);
        int code = key_code(json_object_array_get_idx(keys, i), where, error);
        if (code < 0)
            return NULL;
        if (code)
            codes[n++] = (unsigned)code;
    }
    int64_t ms = json_object_object_get_ex(args, "hold-time", &hold) ? json_object_get_int64(hold) : HOLD_MS;
    display_type(display_of(m), codes, n, (unsigned)(ms <= 0 ? HOLD_MS : MIN(ms, MAX_HOLD_MS)));
    return NULL;
}

/* ---- input-send-event ---- */

const struct qmp_arg qmp_input_send_event_args[] = { { "device", QMP_ARG_STRING, true }, { "head", QMP_ARG_INT, true }, { "events", QMP_ARG_ARRAY }, { NULL } };

enum event_kind { EVENT_KEY, EVENT_BTN, EVENT_REL, EVENT_ABS };
/* Events checked, and what they come to. */
struct input_event { enum event_kind kind; unsigned what; bool down; int value; };

static bool parse_key(struct json_object *data, const char *where, struct input_event *e, GError **error)
{
    static const struct member members[] = { { "down", json_type_boolean }, { "key", json_type_object } };
    g_autofree char *inner = g_strdup_printf("%s.key", where);
    if (!check_members(data, where, members, 2, error))
        return false;
    int code = key_code(json_object_object_get(data, "key"), inner, error);
    e->what = (unsigned)MAX(code, 0);
    e->down = json_object_get_boolean(json_object_object_get(data, "down"));
    return code >= 0;
}

static bool parse_button(struct json_object *data, const char *where, struct input_event *e, GError **error)
{
    static const struct member members[] = { { "down", json_type_boolean }, { "button", json_type_string } };
    static const char *const names[] = { "left", "middle", "right", "wheel-up", "wheel-down", "side", "extra", "wheel-left", "wheel-right", NULL };
    int which = check_members(data, where, members, 2, error) ? choice("button", text_of(data, "button"), names, error) : -1;
    e->what = which < 0 ? 0 : 1u << which; /* DISPLAY_BUTTON_... have this order */
    e->down = json_object_get_boolean(json_object_object_get(data, "down"));
    return which >= 0;
}

static bool parse_move(struct json_object *data, const char *where, struct input_event *e, GError **error)
{
    static const struct member members[] = { { "axis", json_type_string }, { "value", json_type_int } };
    static const char *const names[] = { "x", "y", NULL };
    int axis = check_members(data, where, members, 2, error) ? choice("axis", text_of(data, "axis"), names, error) : -1;
    e->what = (unsigned)MAX(axis, 0);
    e->value = json_object_get_int(json_object_object_get(data, "value"));
    return axis >= 0;
}

static bool parse_event(struct json_object *o, const char *where, struct input_event *e, GError **error)
{
    static const char *const kinds[] = { "key", "btn", "rel", "abs", NULL };
    static const struct member members[] = { { "type", json_type_string }, { "data", json_type_object } };
    static bool (*const parsers[])(struct json_object *, const char *, struct input_event *, GError **) = { parse_key, parse_button, parse_move, parse_move };
    g_autofree char *inner = g_strdup_printf("%s.data", where);
    int kind = check_members(o, where, members, 2, error) ? choice("type", text_of(o, "type"), kinds, error) : -1;
    if (kind < 0)
        return false;
    e->kind = (enum event_kind)kind;
    return parsers[kind](json_object_object_get(o, "data"), inner, e, error);
}

struct movement { bool any, relative; int d[2]; struct display_pointer_state to; };

static void move(struct display *d, struct movement *v)
{
    if (v->relative || !display_has_absolute_pointer(d))
        display_motion(d, v->d[0], v->d[1], v->to.buttons);
    else
        display_pointer(d, v->to.x, v->to.y, v->to.buttons);
    v->any = v->relative = false;
    v->d[0] = v->d[1] = 0;
}

static void send_event(struct display *d, const struct input_event *e, struct movement *v)
{
    switch (e->kind) {
    case EVENT_KEY:
        display_key(d, e->what, e->down);
        break;
    case EVENT_BTN: /* at once: a press and a release in one command are both seen */
        v->to.buttons = e->down ? v->to.buttons | e->what : v->to.buttons & ~e->what;
        move(d, v);
        break;
    case EVENT_REL:
        v->d[e->what] = CLAMP(v->d[e->what] + CLAMP(e->value, -65536, 65536), -65536, 65536);
        v->any = v->relative = true;
        break;
    case EVENT_ABS:
        *(e->what ? &v->to.y : &v->to.x) = (unsigned)CLAMP(e->value, 0, (int)DISPLAY_POINTER_MAX);
        v->any = true;
        break;
    }
}

struct json_object *qmp_input_send_event(struct machine *m, struct json_object *args, GError **error)
{
    struct json_object *list = json_object_object_get(args, "events"), *head = json_object_object_get(args, "head");
    g_autoptr(GArray) events = g_array_new(FALSE, TRUE, sizeof(struct input_event));
    struct display *d = display_of(m);
    if (!check_head(m, text_of(args, "device"), head ? json_object_get_int64(head) : 0, error))
        return NULL;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        g_autofree char *where = g_strdup_printf("events[%zu]", i);
        struct input_event e = { 0 };
        if (!parse_event(json_object_array_get_idx(list, i), where, &e, error))
            return NULL;
        g_array_append_val(events, e);
    }
    if (m->state != MACHINE_RUNNING) {
        vireo_fail(error, VIREO_ERROR_FAILED, "VM not running");
        return NULL;
    }
    for (guint i = 0; i < events->len; i++)
        if (g_array_index(events, struct input_event, i).kind == EVENT_ABS && !display_has_absolute_pointer(d)) {
            vireo_fail(error, VIREO_ERROR_FAILED, "Input handler not found for event type abs");
            return NULL;
        }
    struct movement v = { .to = display_pointer_state(d) };
    for (guint i = 0; i < events->len; i++)
        send_event(d, &g_array_index(events, struct input_event, i), &v);
    if (v.any)
        move(d, &v);
    return NULL;
}

struct json_object *qmp_query_mice(struct machine *m, struct json_object *args, GError **error)
{
    struct json_object *list = json_object_new_array();
    struct display_mouse mouse;
    for (unsigned i = 0; display_mouse(display_of(m), i, &mouse); i++)
        json_object_array_add(list, json_make("name", json_object_new_string(mouse.name), "index", json_object_new_int((int)i), "current",
                                              json_object_new_boolean(mouse.current), "absolute", json_object_new_boolean(mouse.absolute), NULL));
    return list;
}
