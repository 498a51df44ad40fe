/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Calls that the guest's agent answers, and the machine's own commands as clients of the qemu program send them. */
#include <string.h>

#include "manage/drivers/domain/guest/domain_agent.h"

/* The domain of a call, running, inside a job. */
static struct domain *begin(struct manage_call *c, GError **error)
{
    struct domain *d = domain_of_call(c, 0, error);
    if (!d || domain_begin(d, "guest agent", true, error))
        return d;
    domain_unref(d);
    return NULL;
}

static void end(struct domain *d)
{
    domain_end(d);
    domain_unref(d);
}

/* Asks the agent of the call's domain; args is taken over. */
static struct json_object *ask(struct manage_call *c, const char *command, struct json_object *args, GError **error)
{
    struct domain *d = begin(c, error);
    if (!d) {
        json_object_put(args);
        return NULL;
    }
    struct json_object *o = domain_agent_command(d, command, args, false, error);
    end(d);
    return o;
}

static uint32_t u32_arg(struct manage_call *c, unsigned i)
{
    uint32_t v;
    g_variant_get_child(c->args, i, "u", &v);
    return v;
}

static GVariant *done(struct json_object *o)
{
    json_object_put(o);
    return o ? manage_void() : NULL;
}

/* ---- name and time ---- */

/* What the DHCP servers of its networks know. */
static GVariant *leased_hostname(struct manage_call *c, GError **error)
{
    domain_auto *d = domain_of_call(c, 0, error);
    doc_auto *doc = d ? domain_live(d, error) : NULL;
    if (!doc)
        return NULL;
    char *(*find)(struct manage_state *, const char *, const char *) = manage_services_of(c->conn->state)->network_lease_name;
    el_each(nic, el_find(doc_root(doc), "devices"), "interface") {
        const char *network = el_get(nic, "source/@network"), *mac = el_get(nic, "mac/@address");
        g_autofree char *name = find && network && mac ? find(c->conn->state, network, mac) : NULL;
        if (name && *name && g_utf8_validate(name, -1, NULL))
            return g_variant_new("(s)", name);
    }
    return manage_null(error, VIR_ERR_NO_HOSTNAME, "no hostname found for domain %s", d->name);
}

static GVariant *get_hostname(struct manage_call *c, GError **error)
{
    uint32_t flags = u32_arg(c, 1);
    if (!manage_check_flags(flags, VIR_DOMAIN_GET_HOSTNAME_LEASE | VIR_DOMAIN_GET_HOSTNAME_AGENT, error))
        return NULL;
    if (flags == (VIR_DOMAIN_GET_HOSTNAME_LEASE | VIR_DOMAIN_GET_HOSTNAME_AGENT))
        return manage_null(error, VIR_ERR_INVALID_ARG, "a host name comes from a lease or from the agent, not both");
    if (flags & VIR_DOMAIN_GET_HOSTNAME_LEASE)
        return leased_hostname(c, error);
    struct json_object *o = ask(c, "guest-get-host-name", NULL, error);
    const char *name = json_object_get_string(json_object_object_get(o, "host-name"));
    GVariant *v = name && g_utf8_validate(name, -1, NULL) ? g_variant_new("(s)", name) : NULL;
    if (o && !v)
        manage_fail(error, VIR_ERR_INTERNAL_ERROR, "the guest agent's answer has no host name");
    json_object_put(o);
    return v;
}

static GVariant *get_time(struct manage_call *c, GError **error)
{
    if (!manage_check_flags(u32_arg(c, 1), 0, error))
        return NULL;
    struct json_object *o = ask(c, "guest-get-time", NULL, error);
    int64_t ns = json_object_get_int64(o);
    json_object_put(o);
    return o ? g_variant_new("(xu)", (gint64)(ns / 1000000000), (guint32)(ns % 1000000000)) : NULL;
}

static GVariant *set_time(struct manage_call *c, GError **error)
{
    gint64 seconds;
    g_variant_get_child(c->args, 1, "x", &seconds);
    uint32_t ns = u32_arg(c, 2), flags = u32_arg(c, 3);
    if (!manage_check_flags(flags, VIR_DOMAIN_TIME_SYNC, error))
        return NULL;
    if (seconds < 0 || seconds > G_MAXINT64 / 1000000000 - 1 || ns > 999999999)
        return manage_null(error, VIR_ERR_OVERFLOW, "Time '%" G_GINT64_FORMAT "' is too big for guest agent", seconds);
    struct json_object *args = NULL;
    if (!(flags & VIR_DOMAIN_TIME_SYNC)) {
        args = json_object_new_object();
        json_object_object_add(args, "time", json_object_new_int64(seconds * 1000000000 + ns));
    }
    return done(ask(c, "guest-set-time", args, error));
}

/* ---- file systems ---- */

static struct json_object *names(struct manage_call *c, unsigned i)
{
    g_autoptr(GVariant) list = g_variant_get_child_value(c->args, i);
    struct json_object *a = json_object_new_array();
    for (gsize k = 0; k < g_variant_n_children(list); k++) {
        const char *s;
        g_variant_get_child(list, k, "&s", &s);
        json_object_array_add(a, json_object_new_string(s));
    }
    return a;
}

static GVariant *count(struct json_object *o)
{
    int n = json_object_get_int(o);
    json_object_put(o);
    return o ? g_variant_new("(i)", n) : NULL;
}

static GVariant *fsfreeze(struct manage_call *c, GError **error)
{
    if (!manage_check_flags(u32_arg(c, 2), 0, error))
        return NULL;
    struct json_object *points = names(c, 1), *args = NULL;
    if (!json_object_array_length(points)) {
        json_object_put(points);
        return count(ask(c, "guest-fsfreeze-freeze", NULL, error));
    }
    args = json_object_new_object();
    json_object_object_add(args, "mountpoints", points);
    return count(ask(c, "guest-fsfreeze-freeze-list", args, error));
}

static GVariant *fsthaw(struct manage_call *c, GError **error)
{
    return manage_check_flags(u32_arg(c, 2), 0, error) ? count(ask(c, "guest-fsfreeze-thaw", NULL, error)) : NULL;
}

static GVariant *fstrim(struct manage_call *c, GError **error)
{
    const char *point = NULL;
    guint64 minimum;
    g_variant_get_child(c->args, 1, "m&s", &point);
    g_variant_get_child(c->args, 2, "t", &minimum);
    if (!manage_check_flags(u32_arg(c, 3), 0, error))
        return NULL;
    if (point)
        return manage_null(error, VIR_ERR_ARGUMENT_UNSUPPORTED, "Specifying mount point is not supported for now");
    struct json_object *args = json_object_new_object();
    json_object_object_add(args, "minimum", json_object_new_int64((int64_t)minimum));
    return done(ask(c, "guest-fstrim", args, error));
}

/* "vda1 /  ext4": a string of the agent's, never NULL. */
static const char *text(struct json_object *o, const char *name)
{
    const char *s = json_object_get_string(json_object_object_get(o, name));
    return s && g_utf8_validate(s, -1, NULL) ? s : "";
}

static GVariant *get_fsinfo(struct manage_call *c, GError **error)
{
    if (!manage_check_flags(u32_arg(c, 1), 0, error))
        return NULL;
    struct json_object *list = ask(c, "guest-get-fsinfo", NULL, error);
    if (!list)
        return NULL;
    GVariantBuilder b;
    guint32 n = 0;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(sssas)"));
    for (size_t i = 0; json_object_is_type(list, json_type_array) && i < MIN(json_object_array_length(list), 256); i++, n++) {
        struct json_object *o = json_object_array_get_idx(list, i), *disks = json_object_object_get(o, "disk");
        GVariantBuilder names_of;
        g_variant_builder_init(&names_of, G_VARIANT_TYPE("as"));
        for (size_t k = 0; json_object_is_type(disks, json_type_array) && k < MIN(json_object_array_length(disks), 256); k++) {
            struct json_object *disk = json_object_array_get_idx(disks, k);
            g_variant_builder_add(&names_of, "s", *text(disk, "dev") ? text(disk, "dev") : text(disk, "serial"));
        }
        g_variant_builder_add(&b, "(sssas)", text(o, "mountpoint"), text(o, "name"), text(o, "type"), &names_of);
    }
    json_object_put(list);
    return g_variant_new("(a(sssas)u)", &b, n);
}

/* ---- users ---- */

static GVariant *set_user_password(struct manage_call *c, GError **error)
{
    const char *user = NULL, *password = NULL;
    g_variant_get_child(c->args, 1, "m&s", &user);
    g_variant_get_child(c->args, 2, "m&s", &password);
    uint32_t flags = u32_arg(c, 3);
    if (!manage_check_flags(flags, VIR_DOMAIN_PASSWORD_ENCRYPTED, error))
        return NULL;
    if (!user || !password)
        return manage_null(error, VIR_ERR_INVALID_ARG, "a user and a password are needed");
    g_autofree char *coded = g_base64_encode((const guchar *)password, strlen(password));
    struct json_object *args = json_object_new_object();
    json_object_object_add(args, "username", json_object_new_string(user));
    json_object_object_add(args, "password", json_object_new_string(coded));
    json_object_object_add(args, "crypted", json_object_new_boolean(flags & VIR_DOMAIN_PASSWORD_ENCRYPTED));
    return done(ask(c, "guest-set-user-password", args, error));
}

static GVariant *get_ssh_keys(struct manage_call *c, GError **error)
{
    const char *user;
    g_variant_get_child(c->args, 1, "&s", &user);
    if (!manage_check_flags(u32_arg(c, 2), 0, error))
        return NULL;
    struct json_object *args = json_object_new_object();
    json_object_object_add(args, "username", json_object_new_string(user));
    struct json_object *o = ask(c, "guest-ssh-get-authorized-keys", args, error), *keys = json_object_object_get(o, "keys");
    if (!o)
        return NULL;
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("as"));
    for (size_t i = 0; json_object_is_type(keys, json_type_array) && i < MIN(json_object_array_length(keys), 2048); i++) {
        const char *s = json_object_get_string(json_object_array_get_idx(keys, i));
        g_variant_builder_add(&b, "s", s && g_utf8_validate(s, -1, NULL) ? s : "");
    }
    json_object_put(o);
    return g_variant_new("(as)", &b);
}

static GVariant *set_ssh_keys(struct manage_call *c, GError **error)
{
    const char *user;
    g_variant_get_child(c->args, 1, "&s", &user);
    uint32_t flags = u32_arg(c, 3), append = VIR_DOMAIN_AUTHORIZED_SSH_KEYS_SET_APPEND, gone = VIR_DOMAIN_AUTHORIZED_SSH_KEYS_SET_REMOVE;
    if (!manage_check_flags(flags, append | gone, error))
        return NULL;
    struct json_object *args = json_object_new_object();
    json_object_object_add(args, "username", json_object_new_string(user));
    json_object_object_add(args, "keys", names(c, 2));
    if (!(flags & gone))
        json_object_object_add(args, "reset", json_object_new_boolean(!(flags & append)));
    return done(ask(c, flags & gone ? "guest-ssh-remove-authorized-keys" : "guest-ssh-add-authorized-keys", args, error));
}

/* ---- suspend ---- */

static GVariant *pm_suspend(struct manage_call *c, GError **error)
{
    static const char *const commands[] = { "guest-suspend-ram", "guest-suspend-disk", "guest-suspend-hybrid" };
    uint32_t target = u32_arg(c, 1);
    guint64 duration;
    g_variant_get_child(c->args, 2, "t", &duration);
    if (!manage_check_flags(u32_arg(c, 3), 0, error))
        return NULL;
    if (duration)
        return manage_null(error, VIR_ERR_ARGUMENT_UNSUPPORTED, "Duration not supported. Use 0 for now");
    if (target >= G_N_ELEMENTS(commands))
        return manage_null(error, VIR_ERR_INVALID_ARG, "Unknown suspend target: %u", target);
    struct domain *d = begin(c, error);
    if (!d)
        return NULL;
    struct json_object *o = domain_agent_command(d, commands[target], NULL, true, error);
    end(d);
    return done(o);
}

static GVariant *set_response_timeout(struct manage_call *c, GError **error)
{
    int timeout;
    g_variant_get_child(c->args, 1, "i", &timeout);
    if (!manage_check_flags(u32_arg(c, 2), 0, error))
        return NULL;
    if (timeout < VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK)
        return manage_null(error, VIR_ERR_INVALID_ARG, "guest agent timeout '%d' is less than the minimum '%d'", timeout, VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK);
    domain_auto *d = domain_of_call(c, 0, error);
    if (!d)
        return NULL;
    g_mutex_lock(&d->lock); /* not in turn: the next command is to know it, also after one that hangs */
    d->agent_patience = true;
    d->agent_timeout = timeout;
    g_mutex_unlock(&d->lock);
    return domain_write_status(d, error) ? g_variant_new("(i)", 0) : NULL;
}

/* ---- raw commands ---- */

static GVariant *agent_command(struct manage_call *c, GError **error)
{
    const char *command;
    int seconds;
    g_variant_get_child(c->args, 1, "&s", &command);
    g_variant_get_child(c->args, 2, "i", &seconds);
    if (!manage_check_flags(u32_arg(c, 3), 0, error))
        return NULL;
    if (seconds < -2)
        return manage_null(error, VIR_ERR_INVALID_ARG, "guest agent timeout '%d' is less than the minimum '-2'", seconds);
    if (strchr(command, '\n'))
        return manage_null(error, VIR_ERR_INVALID_ARG, "a command for the guest agent is one line of JSON");
    struct domain *d = begin(c, error);
    if (!d)
        return NULL;
    struct json_object *o = domain_agent_answer(d, command, seconds == -2 ? -1 : seconds == -1 ? 60 : seconds, false, error);
    end(d);
    GVariant *v = o ? g_variant_new("(ms)", json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN)) : NULL;
    json_object_put(o);
    return v;
}

/* {"execute": ..., "arguments": {...}}; the answer is the machine's own, errors too. */
static struct json_object *pass(struct domain *d, const char *command, const int *fds, unsigned nfds, GError **error)
{
    struct json_object *o = json_tokener_parse(command), *args = NULL;
    const char *name = json_object_is_type(o, json_type_object) ? json_object_get_string(json_object_object_get(o, "execute")) : NULL;
    struct json_object *answer = NULL;
    if (!name)
        manage_fail(error, VIR_ERR_INVALID_ARG, "a monitor command is JSON with \"execute\"");
    else {
        args = json_object_get(json_object_object_get(o, "arguments"));
        answer = monitor_answer(d, name, args, fds, nfds, error);
    }
    json_object_put(o);
    return answer;
}

static GVariant *monitor_call(struct manage_call *c, GError **error)
{
    const char *command;
    g_variant_get_child(c->args, 1, "&s", &command);
    uint32_t flags = u32_arg(c, 2);
    if (!manage_check_flags(flags, 1, error))
        return NULL;
    domain_auto *d = domain_of_call(c, 0, error);
    if (!d)
        return NULL;
    struct json_object *o;
    if (flags & 1) { /* a line for the monitor of humans */
        struct json_object *args = json_object_new_object();
        json_object_object_add(args, "command-line", json_object_new_string(command));
        o = monitor_command(d, "human-monitor-command", args, error);
    } else {
        o = pass(d, command, c->fds, c->nfds, error);
    }
    if (!o)
        return NULL;
    const char *s = flags & 1 ? json_object_get_string(o) : json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);
    GVariant *v = g_variant_new("(s)", s && g_utf8_validate(s, -1, NULL) ? s : "");
    json_object_put(o);
    return v;
}

const struct manage_row domain_rows_agent[] = {
    { RPC_DOMAIN_GET_HOSTNAME, get_hostname },
    { RPC_DOMAIN_GET_TIME, get_time },
    { RPC_DOMAIN_SET_TIME, set_time },
    { RPC_DOMAIN_FSFREEZE, fsfreeze },
    { RPC_DOMAIN_FSTHAW, fsthaw },
    { RPC_DOMAIN_FSTRIM, fstrim },
    { RPC_DOMAIN_GET_FSINFO, get_fsinfo },
    { RPC_DOMAIN_SET_USER_PASSWORD, set_user_password },
    { RPC_DOMAIN_AUTHORIZED_SSH_KEYS_GET, get_ssh_keys },
    { RPC_DOMAIN_AUTHORIZED_SSH_KEYS_SET, set_ssh_keys },
    { RPC_DOMAIN_PM_SUSPEND_FOR_DURATION, pm_suspend },
    { RPC_DOMAIN_AGENT_SET_RESPONSE_TIMEOUT, set_response_timeout },
    { RPC_QEMU_DOMAIN_AGENT_COMMAND, agent_command },
    { RPC_QEMU_DOMAIN_MONITOR_COMMAND, monitor_call },
    { RPC_QEMU_DOMAIN_MONITOR_COMMAND_WITH_FILES, monitor_call },
    { 0, NULL },
};
