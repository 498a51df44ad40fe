/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pools that are an iSCSI target, whose volumes are its units, by iscsiadm. Volumes are made on the target, not here. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "storage.h"

static const char *target_of(const struct storage_pool *p) { return el_get(storage_pool_source(p), "device/@path"); }

static char *portal(const struct el *source)
{
    const char *host = el_get(source, "host/@name"), *port = el_get_or(source, "host/@port", "3260");
    return strchr(host, ':') && *host != '[' ? g_strdup_printf("[%s]:%s", host, port) : g_strdup_printf("%s:%s", host, port);
}

static bool check_def(struct doc *def, GError **error)
{
    const char *host = el_get_or(doc_root(def), "source/host/@name", ""), *target = el_get_or(doc_root(def), "source/device/@path", "");
    if (*host == '-' || *target == '-' || *el_get_or(doc_root(def), "source/initiator/iqn/@name", "") == '-')
        return manage_fail(error, VIR_ERR_XML_ERROR, "the names of host, target and initiator do not begin with '-'");
    return true;
}

/* The number of the session with the target: "tcp: [3] 10.0.0.1:3260,1 iqn... (non-flash)". -1: none. */
static bool find_session(const char *target, int *ret, GError **error)
{
    const char *argv[] = { "iscsiadm", "--mode", "session", NULL };
    g_autofree char *out = NULL;
    int status;
    *ret = -1;
    if (!storage_run_status(argv, &out, &status, error))
        return false;
    g_auto(GStrv) lines = g_strsplit(status == 0 ? out : "", "\n", -1);
    for (unsigned i = 0; lines[i]; i++) {
        g_auto(GStrv) word = g_strsplit(lines[i], " ", -1);
        if (g_strv_length(word) >= 4 && !strcmp(word[3], target) && *word[1] == '[')
            *ret = atoi(word[1] + 1);
    }
    return true;
}

static bool is_active(struct storage_pool *p, bool *ret, GError **error)
{
    int session;
    if (!find_session(target_of(p), &session, error))
        return false;
    *ret = session >= 0;
    return true;
}

static const char *initiator_of(const struct storage_pool *p) { return el_get(storage_pool_source(p), "initiator/iqn/@name"); }

/* iscsiadm's name for "as this initiator"; NULL: as the host. */
static char *interface_of(const struct storage_pool *p)
{
    const char *initiator = initiator_of(p);
    return initiator ? g_strdup_printf("vireo-%08x", g_str_hash(initiator)) : NULL;
}

static bool make_interface(struct storage_pool *p, GError **error)
{
    g_autofree char *name = interface_of(p);
    const char *add[] = { "iscsiadm", "--mode", "iface", "--interface", name, "--op", "new", NULL };
    const char *show[] = { "iscsiadm", "--mode", "iface", "--interface", name, NULL };
    const char *update[] = { "iscsiadm", "--mode", "iface", "--interface", name, "--op", "update", "--name", "iface.initiatorname", "--value", initiator_of(p), NULL };
    return !name || ((storage_run(show, NULL, NULL) || storage_run(add, NULL, error)) && storage_run(update, NULL, error));
}

static bool node(struct storage_pool *p, const char *const *more, GError **error)
{
    g_autofree char *at = portal(storage_pool_source(p)), *interface = interface_of(p);
    const char *argv[18] = { "iscsiadm", "--mode", "node", "--portal", at, "--targetname", target_of(p) };
    unsigned n = 7;
    if (interface) {
        argv[n++] = "--interface";
        argv[n++] = interface;
    }
    for (unsigned i = 0; more[i] && n + 1 < G_N_ELEMENTS(argv); i++)
        argv[n++] = more[i];
    return storage_run(argv, NULL, error);
}

static bool set(struct storage_pool *p, const char *name, const char *value, GError **error)
{
    const char *more[] = { "--op", "update", "--name", name, "--value", value, NULL };
    return node(p, more, error);
}

/* CHAP, with the value of a secret. */
static bool authenticate(struct storage_pool *p, GError **error)
{
    const struct el *auth = el_find(storage_pool_source(p), "auth");
    struct manage_state *state = p->storage->state;
    if (!auth)
        return true;
    if (!el_is(auth, "@type", "chap"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "iscsi pools authenticate by chap alone");
    g_autoptr(GBytes) value = state->services->secret_value(state, el_get(auth, "secret/@uuid"), "iscsi", el_get(auth, "secret/@usage"), error);
    if (!value)
        return false;
    g_autofree char *word = g_strndup(g_bytes_get_data(value, NULL), g_bytes_get_size(value));
    GError *e = NULL;
    bool ok = set(p, "node.session.auth.authmethod", "CHAP", &e) && set(p, "node.session.auth.username", el_get(auth, "@username"), &e);
    if (ok && !set(p, "node.session.auth.password", word, NULL)) /* its error would show the word */
        ok = manage_fail(&e, VIR_ERR_OPERATION_FAILED, "iscsiadm does not take the password of pool '%s'", p->name);
    explicit_bzero(word, strlen(word));
    if (e)
        g_propagate_error(error, e);
    return ok;
}

/* A record of the target for iscsiadm, if it has none: discovery may have left one, and with two each login and logout would be tried twice. */
static bool make_record(struct storage_pool *p, GError **error)
{
    static const char *const add[] = { "--op", "new", NULL }, *const show[] = { NULL };
    return node(p, show, NULL) || (node(p, add, error) && set(p, "node.startup", "manual", error)); /* whether it starts with the host is the pool's affair */
}

static bool start(struct storage_pool *p, GError **error)
{
    static const char *const login[] = { "--login", NULL };
    GError *e = NULL;
    int session;
    if (!find_session(target_of(p), &session, error))
        return false;
    if (session >= 0)
        return true;
    if (!make_interface(p, error) || !make_record(p, error) || !authenticate(p, error))
        return false;
    if (node(p, login, &e) || (find_session(target_of(p), &session, NULL) && session >= 0)) { /* one of two records says that there is a session already */
        g_clear_error(&e);
        return true;
    }
    g_propagate_error(error, e);
    return false;
}

static bool stop(struct storage_pool *p, GError **error)
{
    static const char *const logout[] = { "--logout", NULL };
    bool active;
    return is_active(p, &active, error) && (!active || node(p, logout, error));
}

/* One unit of the target: /sys/class/scsi_device's H:B:T:L with the block device in it. */
static void add_unit(struct storage_pool *p, const char *path, const char *address, struct storage_scan *ret)
{
    g_autofree char *blocks = g_build_filename(path, address, "block", NULL);
    g_autoptr(GDir) dir = g_dir_open(blocks, 0, NULL);
    const char *disk = dir ? g_dir_read_name(dir) : NULL;
    unsigned bus, target, unit;
    if (!disk || sscanf(address, "%*u:%u:%u:%u", &bus, &target, &unit) != 3)
        return;
    g_autofree char *device = g_build_filename("/dev", disk, NULL), *name = g_strdup_printf("unit:%u:%u:%u", bus, target, unit);
    g_autofree char *stable = storage_device_stable(storage_pool_path(p), device);
    struct storage_volume *v = storage_volume_new(name);
    storage_volume_set_path(v, stable);
    if (!storage_device_look(v, NULL)) {
        storage_volume_unref(v);
        return;
    }
    ret->capacity += v->target.capacity;
    ret->allocation += v->target.capacity;
    storage_scan_add(ret, v);
}

static bool refresh(struct storage_pool *p, struct storage_scan *ret, GError **error)
{
    int session;
    const char *name, *inner;
    if (!find_session(target_of(p), &session, error))
        return false;
    if (session < 0)
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "there is no session with the target '%s'", target_of(p));
    g_autofree char *device = g_strdup_printf("/sys/class/iscsi_session/session%d/device", session), *number = g_strdup_printf("%d", session);
    const char *rescan[] = { "iscsiadm", "--mode", "session", "--sid", number, "--rescan", NULL };
    if (!storage_run(rescan, NULL, error))
        return false;
    storage_device_settle();
    g_autoptr(GDir) targets = g_dir_open(device, 0, NULL);
    while (targets && (name = g_dir_read_name(targets))) {
        g_autofree char *path = g_build_filename(device, name, NULL);
        g_autoptr(GDir) units = g_str_has_prefix(name, "target") ? g_dir_open(path, 0, NULL) : NULL;
        while (units && (inner = g_dir_read_name(units)))
            add_unit(p, path, inner, ret);
    }
    return true;
}

static char *find_sources(struct storage *s, const struct el *spec, GError **error)
{
    (void)s;
    if (!el_get(spec, "host/@name"))
        return manage_null(error, VIR_ERR_INVALID_ARG, "hostname must be specified for iscsi sources");
    g_autofree char *at = portal(spec), *out = NULL;
    const char *argv[] = { "iscsiadm", "--mode", "discovery", "--type", "sendtargets", "--op", "nonpersistent", "--portal", at, NULL };
    if (!storage_run(argv, &out, error))
        return NULL;
    g_auto(GStrv) lines = g_strsplit(out, "\n", -1);
    GString *text = g_string_new("<sources>\n");
    for (unsigned i = 0; lines[i]; i++) {
        const char *target = strchr(lines[i], ' ');
        if (!target)
            continue;
        g_autofree char *one = g_markup_printf_escaped("  <source>\n    <host name='%s'/>\n    <device path='%s'/>\n  </source>\n", el_get(spec, "host/@name"), target + 1);
        g_string_append(text, one);
    }
    g_string_append(text, "</sources>\n");
    return g_string_free(text, FALSE);
}

static const struct storage_tool tools[] = { { "iscsiadm", "open-iscsi" }, { NULL, NULL } };

const struct storage_backend storage_iscsi = {
    .type = "iscsi", .number = 5, .needs = STORAGE_HOST | STORAGE_DEVICE | STORAGE_TARGET, .tools = tools, .check_def = check_def, .find_sources = find_sources,
    .is_active = is_active, .start = start, .stop = stop, .refresh = refresh, .look_at = storage_device_look_at,
};
