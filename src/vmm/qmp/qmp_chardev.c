/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Character back ends over QMP: added and removed while the machine lives. Shapes of arguments and answers: QMP reference of QEMU 7.2. */
#include "vmm/qmp/qmp_chardev.h"

#include <string.h>

#include "base/error.h"
#include "base/keyval.h"
#include "vmm/core/chardev.h"
#include "vmm/core/machine.h"

const struct qmp_arg qmp_chardev_add_args[] = { { "id", QMP_ARG_STRING }, { "backend", QMP_ARG_OBJECT }, { NULL } };
const struct qmp_arg qmp_chardev_remove_args[] = { { "id", QMP_ARG_STRING }, { NULL } };

#define COMMON { "logfile", QMP_ARG_STRING, true }, { "logappend", QMP_ARG_BOOL, true }
static const struct qmp_arg common_args[] = { COMMON, { NULL } };
static const struct qmp_arg pty_args[] = { COMMON, { "x-fd", QMP_ARG_STRING, true }, { NULL } }; /* x-fd is not QEMU's: its master, passed by getfd */
static const struct qmp_arg file_args[] = { COMMON, { "in", QMP_ARG_STRING, true }, { "out", QMP_ARG_STRING }, { "append", QMP_ARG_BOOL, true }, { NULL } };
static const struct qmp_arg socket_args[] = {
    COMMON, { "addr", QMP_ARG_OBJECT }, { "server", QMP_ARG_BOOL, true }, { "wait", QMP_ARG_BOOL, true }, { "nodelay", QMP_ARG_BOOL, true },
    { "telnet", QMP_ARG_BOOL, true }, { "reconnect", QMP_ARG_INT, true }, { "tls-creds", QMP_ARG_STRING, true }, { "tls-authz", QMP_ARG_STRING, true },
    { "tn3270", QMP_ARG_BOOL, true }, { "websocket", QMP_ARG_BOOL, true }, { NULL }
};
static const struct qmp_arg wrapped_args[] = { { "type", QMP_ARG_STRING }, { "data", QMP_ARG_OBJECT }, { NULL } };
static const struct qmp_arg unix_args[] = { { "path", QMP_ARG_STRING }, { "abstract", QMP_ARG_BOOL, true }, { "tight", QMP_ARG_BOOL, true }, { NULL } };
static const struct qmp_arg inet_args[] = {
    { "host", QMP_ARG_STRING }, { "port", QMP_ARG_STRING }, { "numeric", QMP_ARG_BOOL, true }, { "to", QMP_ARG_INT, true }, { "ipv4", QMP_ARG_BOOL, true },
    { "ipv6", QMP_ARG_BOOL, true }, { "keep-alive", QMP_ARG_BOOL, true }, { "mptcp", QMP_ARG_BOOL, true }, { NULL }
};
static const struct qmp_arg fd_args[] = { { "str", QMP_ARG_STRING }, { NULL } };

/* A type and the members of its "data"; args NULL: QEMU has it, this program does not. */
struct variant {
    const char *type;
    const struct qmp_arg *args;
    const char *missing; /* what to do instead */
};

static const char others[] = "there are null, pty, file and socket";
static const struct variant backends[] = {
    { "null", common_args }, { "pty", pty_args }, { "file", file_args }, { "socket", socket_args },
    { "stdio", NULL, "standard input and output belong to who starts the program: -chardev stdio" },
    { "udp", NULL, others }, { "pipe", NULL, others }, { "serial", NULL, others }, { "parallel", NULL, others }, { "mux", NULL, others },
    { "ringbuf", NULL, others }, { "memory", NULL, others }, { "vc", NULL, others }, { "msmouse", NULL, others }, { "wctablet", NULL, others },
    { "testdev", NULL, others }, { "braille", NULL, others }, { "spicevmc", NULL, others }, { "spiceport", NULL, others }, { "qemu-vdagent", NULL, others },
    { "dbus", NULL, others }, { NULL }
};
static const struct variant addresses[] = {
    { "unix", unix_args }, { "inet", inet_args }, { "fd", fd_args }, { "vsock", NULL, "there are unix, inet and fd" }, { NULL }
};

/* Members that would need what is not there; with "off" or 0 they ask for nothing. */
static const char *const refused[] = { "logfile", "in", "tls-creds", "tls-authz", "tn3270", "websocket", "addr.data.to", "addr.data.ipv4", "addr.data.ipv6",
                                       "addr.data.mptcp", "addr.data.keep-alive" };
/* Members that change nothing here. */
static const char *const ignored[] = { "logappend", "nodelay", "addr.type", "addr.data.tight", "addr.data.numeric" };
/* Members that -chardev has under another name. */
static const struct { const char *member, *key; } renamed[] = {
    { "out", "path" }, { "addr.data.path", "path" }, { "addr.data.abstract", "abstract" }, { "addr.data.host", "host" }, { "addr.data.port", "port" }, { "addr.data.str", "fd" },
    { "x-fd", "fd" },
};

/* {"type": T, "data": {...}} against the rows of that type. what: its name in messages. */
static bool check_variant(const struct variant *rows, struct json_object *o, const char *what, GError **error)
{
    const char *type = json_object_get_string(json_object_object_get(o, "type"));
    if (!qmp_check_args(wrapped_args, o, error)) {
        g_prefix_error(error, "'%s': ", what);
        return false;
    }
    while (rows->type && strcmp(rows->type, type))
        rows++;
    if (!rows->type)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter '%s.type' does not accept value '%s'", what, type);
    if (!rows->args)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "'%s' of type '%s' cannot come while the machine is there; %s", what, type, rows->missing);
    if (qmp_check_args(rows->args, json_object_object_get(o, "data"), error))
        return true;
    g_prefix_error(error, "'%s.data': ", what);
    return false;
}

/* The members of "data" as keys of -chardev. */
static bool translate(struct json_object *data, bool socket, struct keyval *kv, GError **error)
{
    if (!json_flatten_object(data, kv, error))
        return false;
    for (size_t i = 0; i < G_N_ELEMENTS(refused); i++) {
        g_autofree char *value = keyval_take(kv, refused[i]);
        if (value && strcmp(value, "off"))
            return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "'backend.data.%s' is not there yet; leave it out", refused[i]);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(ignored); i++)
        g_free(keyval_take(kv, ignored[i]));
    for (size_t i = 0; i < G_N_ELEMENTS(renamed); i++) {
        g_autofree char *value = keyval_take(kv, renamed[i].member);
        if (value)
            keyval_add(kv, renamed[i].key, value);
    }
    if (socket && !keyval_get(kv, "server"))
        keyval_add(kv, "server", "on");
    if (socket && !strcmp(keyval_get(kv, "server"), "on") && !keyval_get(kv, "wait"))
        keyval_add(kv, "wait", "off"); /* -chardev's default is on */
    return true;
}

static struct chardev *open_backend(const char *id, struct json_object *backend, GError **error)
{
    const char *type = json_object_get_string(json_object_object_get(backend, "type"));
    struct json_object *data = json_object_object_get(backend, "data");
    bool socket = !strcmp(type, "socket");
    keyval_auto *kv = keyval_new();
    if ((socket && !check_variant(addresses, json_object_object_get(data, "addr"), "backend.data.addr", error)) || !translate(data, socket, kv, error))
        return NULL;
    g_autoptr(GHashTable) opts = keyval_to_hash(kv);
    return chardev_open_opts(type, id, opts, error);
}

struct json_object *qmp_chardev_add(struct machine *m, struct json_object *args, GError **error)
{
    static const char pty[] = "pty:";
    const char *id = json_object_get_string(json_object_object_get(args, "id"));
    struct json_object *backend = json_object_object_get(args, "backend");
    if (!check_variant(backends, backend, "backend", error))
        return NULL;
    if (g_hash_table_contains(m->chardevs, id)) {
        vireo_fail(error, VIREO_ERROR_INVALID, "there is a chardev '%s' already; give this one another id", id);
        return NULL;
    }
    struct chardev *c = open_backend(id, backend, error);
    if (!c) {
        g_prefix_error(error, "chardev '%s': ", id);
        return NULL;
    }
    g_hash_table_insert(m->chardevs, (void *)chardev_id(c), c);
    const char *name = chardev_filename(c);
    return g_str_has_prefix(name, pty) ? json_make("pty", json_object_new_string(name + strlen(pty)), NULL) : NULL;
}

struct json_object *qmp_chardev_remove(struct machine *m, struct json_object *args, GError **error)
{
    const char *id = json_object_get_string(json_object_object_get(args, "id"));
    const struct chardev *c = g_hash_table_lookup(m->chardevs, id);
    if (!c)
        vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Chardev '%s' not found", id);
    else if (chardev_busy(c))
        vireo_fail(error, VIREO_ERROR_BUSY, "Chardev '%s' is in use; remove its device first", id);
    else
        g_hash_table_remove(m->chardevs, id); /* the table owns it */
    return NULL;
}
