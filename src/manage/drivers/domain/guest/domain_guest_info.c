/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the guest's agent tells of the guest: users, system, time zone, name, file systems, interfaces, as typed parameters. */
#include <string.h>

#include "manage/drivers/domain/guest/domain_agent.h"

enum {
    ALL = VIR_DOMAIN_GUEST_INFO_USERS | VIR_DOMAIN_GUEST_INFO_OS | VIR_DOMAIN_GUEST_INFO_TIMEZONE | VIR_DOMAIN_GUEST_INFO_HOSTNAME | VIR_DOMAIN_GUEST_INFO_FILESYSTEM |
          VIR_DOMAIN_GUEST_INFO_INTERFACES,
    ITEMS = 256, /* of one list */
};

static size_t length(struct json_object *list)
{
    return json_object_is_type(list, json_type_array) ? MIN(json_object_array_length(list), (size_t)ITEMS) : 0;
}

/* A string member under a parameter's name, where it is there. */
static void string_param(GVariantBuilder *b, struct json_object *o, const char *member, const char *format, ...) G_GNUC_PRINTF(4, 5);
static void string_param(GVariantBuilder *b, struct json_object *o, const char *member, const char *format, ...)
{
    const char *s = json_object_get_string(json_object_object_get(o, member));
    va_list args;
    va_start(args, format);
    g_autofree char *name = g_strdup_vprintf(format, args);
    va_end(args);
    if (s)
        manage_param_string(b, name, s);
}

static void number_param(GVariantBuilder *b, struct json_object *o, const char *member, const char *format, ...) G_GNUC_PRINTF(4, 5);
static void number_param(GVariantBuilder *b, struct json_object *o, const char *member, const char *format, ...)
{
    struct json_object *v = json_object_object_get(o, member);
    va_list args;
    va_start(args, format);
    g_autofree char *name = g_strdup_vprintf(format, args);
    va_end(args);
    if (v)
        manage_param_u64(b, name, (uint64_t)json_object_get_int64(v));
}

static void users(GVariantBuilder *b, struct json_object *list)
{
    unsigned n = (unsigned)length(list);
    manage_param_u32(b, "user.count", n);
    for (unsigned i = 0; i < n; i++) {
        struct json_object *o = json_object_array_get_idx(list, i);
        g_autofree char *login = g_strdup_printf("user.%u.login-time", i);
        string_param(b, o, "user", "user.%u.name", i);
        string_param(b, o, "domain", "user.%u.domain", i);
        manage_param_u64(b, login, (uint64_t)(json_object_get_double(json_object_object_get(o, "login-time")) * 1000));
    }
}

static void os(GVariantBuilder *b, struct json_object *o)
{
    static const char *const members[] = { "id", "name", "pretty-name", "version", "version-id", "machine", "variant", "variant-id", "kernel-release", "kernel-version" };
    for (unsigned i = 0; i < G_N_ELEMENTS(members); i++)
        string_param(b, o, members[i], "os.%s", members[i]);
}

static void timezone_of(GVariantBuilder *b, struct json_object *o)
{
    string_param(b, o, "zone", "timezone.name");
    manage_param_i32(b, "timezone.offset", json_object_get_int(json_object_object_get(o, "offset")));
}

static void hostname(GVariantBuilder *b, struct json_object *o) { string_param(b, o, "host-name", "hostname"); }

static void filesystems(GVariantBuilder *b, struct json_object *list)
{
    unsigned n = (unsigned)length(list);
    manage_param_u32(b, "fs.count", n);
    for (unsigned i = 0; i < n; i++) {
        struct json_object *o = json_object_array_get_idx(list, i), *disks = json_object_object_get(o, "disk");
        unsigned ndisks = (unsigned)length(disks);
        g_autofree char *count = g_strdup_printf("fs.%u.disk.count", i);
        string_param(b, o, "mountpoint", "fs.%u.mountpoint", i);
        string_param(b, o, "name", "fs.%u.name", i);
        string_param(b, o, "type", "fs.%u.fstype", i);
        number_param(b, o, "total-bytes", "fs.%u.total-bytes", i);
        number_param(b, o, "used-bytes", "fs.%u.used-bytes", i);
        manage_param_u32(b, count, ndisks);
        for (unsigned k = 0; k < ndisks; k++) {
            string_param(b, json_object_array_get_idx(disks, k), "serial", "fs.%u.disk.%u.serial", i, k);
            string_param(b, json_object_array_get_idx(disks, k), "dev", "fs.%u.disk.%u.device", i, k);
        }
    }
}

static void interfaces(GVariantBuilder *b, struct json_object *list)
{
    unsigned n = (unsigned)length(list);
    manage_param_u32(b, "if.count", n);
    for (unsigned i = 0; i < n; i++) {
        struct json_object *o = json_object_array_get_idx(list, i), *addresses = json_object_object_get(o, "ip-addresses");
        unsigned na = (unsigned)length(addresses);
        g_autofree char *count = g_strdup_printf("if.%u.addr.count", i);
        string_param(b, o, "name", "if.%u.name", i);
        string_param(b, o, "hardware-address", "if.%u.hwaddr", i);
        manage_param_u32(b, count, na);
        for (unsigned k = 0; k < na; k++) {
            struct json_object *a = json_object_array_get_idx(addresses, k);
            g_autofree char *prefix = g_strdup_printf("if.%u.addr.%u.prefix", i, k);
            string_param(b, a, "ip-address-type", "if.%u.addr.%u.type", i, k);
            string_param(b, a, "ip-address", "if.%u.addr.%u.addr", i, k);
            manage_param_u32(b, prefix, (uint32_t)json_object_get_int(json_object_object_get(a, "prefix")));
        }
    }
}

static const struct { uint32_t type; const char *command; void (*add)(GVariantBuilder *b, struct json_object *o); } kinds[] = {
    { VIR_DOMAIN_GUEST_INFO_USERS, "guest-get-users", users },
    { VIR_DOMAIN_GUEST_INFO_OS, "guest-get-osinfo", os },
    { VIR_DOMAIN_GUEST_INFO_TIMEZONE, "guest-get-timezone", timezone_of },
    { VIR_DOMAIN_GUEST_INFO_HOSTNAME, "guest-get-host-name", hostname },
    { VIR_DOMAIN_GUEST_INFO_FILESYSTEM, "guest-get-fsinfo", filesystems },
    { VIR_DOMAIN_GUEST_INFO_INTERFACES, "guest-network-get-interfaces", interfaces },
};

/* Types that were asked for must be had; of all (0) those that the agent does not know are left out. */
static bool collect(struct domain *d, uint32_t types, GVariantBuilder *b, GError **error)
{
    if (!domain_agent_ready(d)) {
        struct json_object *o = domain_agent_command(d, "guest-ping", NULL, false, error); /* says what is wrong */
        json_object_put(o);
        return false;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autoptr(GError) e = NULL;
        if (types && !(types & kinds[i].type))
            continue;
        struct json_object *o = domain_agent_command(d, kinds[i].command, NULL, false, &e);
        if (o)
            kinds[i].add(b, o);
        json_object_put(o);
        if (e && (types || e->code == VIR_ERR_AGENT_UNRESPONSIVE)) {
            g_propagate_error(error, g_steal_pointer(&e));
            return false;
        }
    }
    return true;
}

static GVariant *get_guest_info(struct manage_call *c, GError **error)
{
    uint32_t types, flags;
    GVariantBuilder b;
    g_variant_get_child(c->args, 1, "u", &types);
    g_variant_get_child(c->args, 2, "u", &flags);
    if (!manage_check_flags(flags, 0, error))
        return NULL;
    if (types & ~(uint32_t)ALL)
        return manage_null(error, VIR_ERR_INVALID_ARG, "unsupported guest information types '0x%x'", types & ~(uint32_t)ALL);
    domain_auto *d = domain_of_call(c, 0, error);
    if (!d || !domain_begin(d, "guest agent", true, error))
        return NULL;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(sv)"));
    bool ok = collect(d, types, &b, error);
    domain_end(d);
    if (ok)
        return g_variant_new("(a(sv))", &b);
    g_variant_builder_clear(&b);
    return NULL;
}

/* ---- how fast the guest writes its memory ---- */

enum { MODE_BITMAP = 1 << 0, MODE_RING = 1 << 1 }; /* virDomainDirtyRateCalcFlags; 0: by pages that are looked at */

static GVariant *start_dirty_rate(struct manage_call *c, GError **error)
{
    int seconds;
    uint32_t flags;
    g_variant_get_child(c->args, 1, "i", &seconds);
    g_variant_get_child(c->args, 2, "u", &flags);
    if (!manage_check_flags(flags, MODE_BITMAP | MODE_RING, error))
        return NULL;
    if (flags == (MODE_BITMAP | MODE_RING))
        return manage_null(error, VIR_ERR_INVALID_ARG, "a dirty rate is measured in one mode: page-sampling, dirty-bitmap or dirty-ring");
    if (seconds < 1 || seconds > 60)
        return manage_null(error, VIR_ERR_CONFIG_UNSUPPORTED, "seconds=%d is invalid, please choose value within [1, 60].", seconds);
    domain_auto *d = domain_of_call(c, 0, error);
    if (!d || !domain_begin(d, "dirty rate", true, error))
        return NULL;
    struct json_object *args = json_object_new_object();
    json_object_object_add(args, "calc-time", json_object_new_int(seconds));
    if (flags)
        json_object_object_add(args, "mode", json_object_new_string(flags == MODE_RING ? "dirty-ring" : "dirty-bitmap"));
    struct json_object *o = monitor_command(d, "calc-dirty-rate", args, error);
    domain_end(d);
    json_object_put(o);
    return o ? manage_void() : NULL;
}

const struct manage_row domain_rows_guest[] = {
    { RPC_DOMAIN_GET_GUEST_INFO, get_guest_info },
    { RPC_DOMAIN_START_DIRTY_RATE_CALC, start_dirty_rate },
    { 0, NULL },
};
