/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The connection itself: opening, features, names and versions. */
#include <string.h>
#include <unistd.h>

#include "manage/core/manage_services.h"
#include "manage/drivers/host/host.h"

#define LIBVIRT_VERSION 9000000 /* whose API this is */

/* virDrvFeature: which of them are answered 1 (wire facts, section 5). */
static bool has_feature(int feature)
{
    switch (feature) {
    case 4:  /* migration: daemon to daemon */
    case 6:  /* version 3 */
    case 7:  /* nothing changes the domain in between */
    case 11: /* documents for another host */
    case 12: /* of domains that do not run */
    case 13: /* with parameters */
    case 8:  /* descriptors */
    case 9:  /* string parameters */
    case 10: /* keepalive */
    case 14: /* events filtered by the server */
    case 15: /* close callback */
    case 16: /* arguments of network_update in the right order */
        return true;
    default:
        return false;
    }
}

static GVariant *connect_open(struct manage_call *c, GError **error)
{
    const char *name = NULL;
    uint32_t flags;
    g_variant_get(c->args, "(m&su)", &name, &flags);
    if (c->conn->open)
        return manage_null(error, VIR_ERR_INTERNAL_ERROR, "the connection is open already");
    const uint32_t started_by_client = 4; /* libvirt's library sends it along with a session's daemon that it has started */
    if (!manage_check_flags(flags, VIR_CONNECT_RO | VIR_CONNECT_NO_ALIASES | started_by_client, error))
        return NULL;
    struct manage_state *s = c->conn->state;
    const char *path = name ? strstr(name, ":///") : NULL;
    bool test = s->table == &manage_table_test;
    if (name && *name) {
        static const char *const schemes[] = { "qemu:", "vireo:", "kvm:", NULL };
        bool known = false;
        for (unsigned i = 0; schemes[i]; i++)
            known |= g_str_has_prefix(name, schemes[i]);
        if (test ? !g_str_has_prefix(name, "test:") : !known)
            return manage_null(error, VIR_ERR_NO_CONNECT, "no connection driver available for %s", name);
        if (!test && path && !g_str_has_prefix(path, ":///system") && !g_str_has_prefix(path, ":///session") && !g_str_has_prefix(path, ":///embed"))
            return manage_null(error, VIR_ERR_INTERNAL_ERROR, "unexpected path in '%s': try %s:///system or :///session", name, "qemu");
        if (!test && path && g_str_has_prefix(path, ":///system") && !s->privileged)
            return manage_null(error, VIR_ERR_INTERNAL_ERROR, "this daemon serves a user's session: use qemu:///session instead of '%s'", name);
    }
    c->conn->readonly |= (flags & VIR_CONNECT_RO) != 0;
    c->conn->uri = g_strdup(name && *name ? name : s->uri);
    c->conn->open = true;
    return manage_void();
}

static GVariant *connect_close(struct manage_call *c, GError **error)
{
    c->conn->open = false;
    return manage_void();
}

static GVariant *get_type(struct manage_call *c, GError **error) { return g_variant_new("(s)", c->conn->state->table->type); }
static GVariant *get_lib_version(struct manage_call *c, GError **error) { return g_variant_new("(t)", (uint64_t)LIBVIRT_VERSION); }
static GVariant *get_uri(struct manage_call *c, GError **error) { return g_variant_new("(s)", c->conn->uri ? c->conn->uri : c->conn->state->uri); }
static GVariant *is_secure(struct manage_call *c, GError **error) { return g_variant_new("(i)", c->conn->uid != (uid_t)-1); }

static GVariant *get_version(struct manage_call *c, GError **error)
{
    host_emulator_auto *e = host_emulator_get(c->conn->state, NULL, error);
    return e ? g_variant_new("(t)", e->version) : NULL;
}

static GVariant *get_hostname(struct manage_call *c, GError **error) { return g_variant_new("(s)", g_get_host_name()); }

static GVariant *supports_feature(struct manage_call *c, GError **error)
{
    int feature;
    g_variant_get(c->args, "(i)", &feature);
    return g_variant_new("(i)", (int)has_feature(feature));
}

static GVariant *nothing(struct manage_call *c, GError **error) { return manage_void(); }

/* Who a client acts for. Nothing here depends on it: who may connect may do everything that its socket allows. */
static GVariant *set_identity(struct manage_call *c, GError **error)
{
    static const char *const known[] = { VIR_CONNECT_IDENTITY_USER_NAME, VIR_CONNECT_IDENTITY_UNIX_USER_ID, VIR_CONNECT_IDENTITY_GROUP_NAME, VIR_CONNECT_IDENTITY_UNIX_GROUP_ID,
                                         VIR_CONNECT_IDENTITY_PROCESS_ID, VIR_CONNECT_IDENTITY_PROCESS_TIME, VIR_CONNECT_IDENTITY_SASL_USER_NAME,
                                         VIR_CONNECT_IDENTITY_X509_DISTINGUISHED_NAME, VIR_CONNECT_IDENTITY_SELINUX_CONTEXT, NULL };
    g_autoptr(GVariant) params = g_variant_get_child_value(c->args, 0);
    for (gsize i = 0; i < g_variant_n_children(params); i++) {
        const char *name;
        g_variant_get_child(params, i, "(&sv)", &name, NULL);
        if (!g_strv_contains(known, name))
            return manage_null(error, VIR_ERR_ARGUMENT_UNSUPPORTED, "parameter '%s' not supported", name);
    }
    return manage_void();
}

const struct manage_row host_rows[] = {
    { RPC_CONNECT_OPEN, connect_open },
    { RPC_CONNECT_CLOSE, connect_close },
    { RPC_CONNECT_GET_TYPE, get_type },
    { RPC_CONNECT_GET_VERSION, get_version },
    { RPC_CONNECT_GET_LIB_VERSION, get_lib_version },
    { RPC_CONNECT_GET_HOSTNAME, get_hostname },
    { RPC_CONNECT_GET_URI, get_uri },
    { RPC_CONNECT_IS_SECURE, is_secure },
    { RPC_CONNECT_SUPPORTS_FEATURE, supports_feature },
    { RPC_CONNECT_REGISTER_CLOSE_CALLBACK, nothing },
    { RPC_CONNECT_UNREGISTER_CLOSE_CALLBACK, nothing },
    { RPC_CONNECT_SET_IDENTITY, set_identity },
    { RPC_CONNECT_GET_CAPABILITIES, host_capabilities },
    { RPC_CONNECT_GET_DOMAIN_CAPABILITIES, host_domain_capabilities },
    { RPC_CONNECT_COMPARE_CPU, host_compare_cpu },
    { RPC_CONNECT_COMPARE_HYPERVISOR_CPU, host_compare_cpu },
    { RPC_CONNECT_BASELINE_CPU, host_baseline_cpu },
    { RPC_CONNECT_BASELINE_HYPERVISOR_CPU, host_baseline_cpu },
    { RPC_CONNECT_GET_CPU_MODEL_NAMES, host_cpu_model_names },
    { 0, NULL },
};

/* ---- the driver ---- */

/* The host's own UUID: of the firmware where it gives one, else made once and kept. */
static bool find_uuid(struct manage_state *s, char text[37], GError **error)
{
    g_autofree char *path = g_build_filename(s->dirs.config, "host-uuid", NULL), *have = NULL;
    uint8_t uuid[16];
    if (!g_file_get_contents("/sys/class/dmi/id/product_uuid", &have, NULL, NULL) || !manage_uuid_parse(g_strchomp(have), uuid)) {
        g_clear_pointer(&have, g_free);
        if (!g_file_get_contents(path, &have, NULL, NULL) || !manage_uuid_parse(g_strchomp(have), uuid)) {
            manage_uuid_random(uuid);
            manage_uuid_format(uuid, text);
            return manage_write_file(path, text, -1, 0644, error);
        }
    }
    manage_uuid_format(uuid, text);
    return true;
}

static const char *host_uuid(struct manage_state *s)
{
    const struct host_data *h = manage_data(s, "host");
    return s->host_uuid ? s->host_uuid : h->uuid;
}

static void emulator_unref(gpointer e) { host_emulator_unref(e); }

static bool start(struct manage_state *s, void **ret_data, GError **error)
{
    struct host_data *h = g_new0(struct host_data, 1);
    g_mutex_init(&h->lock);
    h->emulators = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, emulator_unref);
    *ret_data = h;
    manage_services_of(s)->host_uuid = host_uuid;
    return find_uuid(s, h->uuid, error);
}

static void stop(struct manage_state *s, void *data)
{
    struct host_data *h = data;
    g_hash_table_unref(h->emulators);
    g_mutex_clear(&h->lock);
    g_free(h);
}

static const struct manage_row *const more_rows[] = { host_node_rows, host_tune_rows, host_sysinfo_rows, NULL };
const struct manage_driver manage_driver_host = { .name = "host", .rows = host_rows, .more_rows = more_rows, .start = start, .stop = stop };
