/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vCPUs as the guest sees them: its agent tells which are there, and switches them (QEMU guest agent protocol, guest-get-vcpus, guest-set-vcpus). */
#include <string.h>

#include "manage/drivers/domain/guest/domain_agent.h"
#include "manage/drivers/domain/tune/domain_tune.h"

enum { VCPUS_MAX = 4096 };

struct guest_vcpu {
    int64_t id;
    bool online, can_offline;
};

/* Inside a job. */
static GArray *ask(struct domain *d, GError **error)
{
    struct json_object *list = domain_agent_command(d, "guest-get-vcpus", NULL, false, error);
    if (!list)
        return NULL;
    GArray *a = g_array_new(FALSE, TRUE, sizeof(struct guest_vcpu));
    for (size_t i = 0; json_object_is_type(list, json_type_array) && i < MIN(json_object_array_length(list), (size_t)VCPUS_MAX); i++) {
        struct json_object *o = json_object_array_get_idx(list, i);
        struct guest_vcpu v = { json_object_get_int64(json_object_object_get(o, "logical-id")), json_object_get_boolean(json_object_object_get(o, "online")),
                                json_object_get_boolean(json_object_object_get(o, "can-offline")) };
        g_array_append_val(a, v);
    }
    json_object_put(list);
    return a;
}

/* Those that `change` has true for get `online`. The agent may do a part of it and say how much: it is asked again for the rest. */
static bool tell(struct domain *d, const GArray *all, const bool *change, bool online, GError **error)
{
    struct json_object *list = json_object_new_array();
    for (unsigned i = 0; i < all->len; i++) {
        if (!change[i])
            continue;
        struct json_object *o = json_object_new_object();
        json_object_object_add(o, "logical-id", json_object_new_int64(g_array_index(all, struct guest_vcpu, i).id));
        json_object_object_add(o, "online", json_object_new_boolean(online));
        json_object_array_add(list, o);
    }
    size_t want = json_object_array_length(list);
    struct json_object *args = json_object_new_object();
    json_object_object_add(args, "vcpus", list);
    if (!want) {
        json_object_put(args);
        return true;
    }
    struct json_object *o = domain_agent_command(d, "guest-set-vcpus", args, false, error);
    int64_t done = json_object_get_int64(o);
    json_object_put(o);
    return o && (done == (int64_t)want || manage_fail(error, VIR_ERR_INTERNAL_ERROR, "the guest switched %d of %zu vCPUs", (int)done, want));
}

int domain_guest_count_vcpus(struct domain *d, bool all, GError **error)
{
    g_autoptr(GArray) list = ask(d, error);
    int n = 0;
    for (unsigned i = 0; list && i < list->len; i++)
        n += all || g_array_index(list, struct guest_vcpu, i).online;
    return list ? n : -1;
}

/* From the first that is off on, or from the last that can go down. */
bool domain_guest_set_vcpus(struct domain *d, unsigned n, GError **error)
{
    g_autoptr(GArray) list = ask(d, error);
    unsigned on = 0;
    if (!list)
        return false;
    g_autofree bool *change = g_new0(bool, list->len + 1);
    for (unsigned i = 0; i < list->len; i++)
        on += g_array_index(list, struct guest_vcpu, i).online;
    bool up = on < n;
    for (unsigned k = 0; k < list->len && on != n; k++) {
        unsigned i = up ? k : list->len - 1 - k;
        const struct guest_vcpu *v = &g_array_index(list, struct guest_vcpu, i);
        if (up ? v->online : !v->online || !v->can_offline)
            continue;
        change[i] = true;
        on += up ? 1 : -1u;
    }
    return on == n ? tell(d, list, change, up, error)
                   : manage_fail(error, VIR_ERR_INVALID_ARG, "requested vcpu count %u is not what the guest can have: %u are there or cannot be switched off", n, on);
}

/* ---- calls ---- */

static void add_number(GString *s, int64_t n) { g_string_append_printf(s, "%s%lld", s->len ? "," : "", (long long)n); }

static GVariant *get_guest_vcpus(struct manage_call *c, GError **error)
{
    domain_auto *d = manage_check_flags(tune_u32(c, 1), 0, error) ? domain_of_call(c, 0, error) : NULL;
    if (!d || !domain_begin(d, "guest agent", true, error))
        return NULL;
    g_autoptr(GArray) list = ask(d, error);
    domain_end(d);
    if (!list)
        return NULL;
    g_autoptr(GString) all = g_string_new(NULL), online = g_string_new(NULL), can = g_string_new(NULL);
    for (unsigned i = 0; i < list->len; i++) {
        const struct guest_vcpu *v = &g_array_index(list, struct guest_vcpu, i);
        add_number(all, v->id);
        if (v->online)
            add_number(online, v->id);
        if (v->can_offline)
            add_number(can, v->id);
    }
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(sv)"));
    manage_param_string(&b, "vcpus", all->str);
    manage_param_string(&b, "online", online->str);
    manage_param_string(&b, "offlinable", can->str);
    return g_variant_new("(a(sv))", &b);
}

static bool switch_these(struct domain *d, const struct cpu_map *map, bool on, GError **error)
{
    g_autoptr(GArray) list = ask(d, error);
    if (!list)
        return false;
    g_autofree bool *change = g_new0(bool, list->len + 1);
    struct cpu_map left = *map;
    for (unsigned i = 0; i < list->len; i++) {
        const struct guest_vcpu *v = &g_array_index(list, struct guest_vcpu, i);
        if (v->id < 0 || v->id >= CPU_MAP_BITS || !cpu_map_test(map, (unsigned)v->id))
            continue;
        left.bits[v->id / 8] &= (uint8_t)~(1u << v->id % 8);
        change[i] = v->online != on;
        if (!on && v->online && !v->can_offline)
            return manage_fail(error, VIR_ERR_INVALID_ARG, "vCPU '%d' can't be offlined", (int)v->id);
    }
    if (!cpu_map_empty(&left)) {
        g_autofree char *text = cpu_map_format(&left);
        return manage_fail(error, VIR_ERR_INVALID_ARG, "guest is missing vCPU '%s'", text);
    }
    return tell(d, list, change, on, error);
}

static GVariant *set_guest_vcpus(struct manage_call *c, GError **error)
{
    const char *text;
    int state;
    struct cpu_map map;
    g_variant_get_child(c->args, 1, "&s", &text);
    g_variant_get_child(c->args, 2, "i", &state);
    if (!manage_check_flags(tune_u32(c, 3), 0, error))
        return NULL;
    if (state != 0 && state != 1)
        return manage_null(error, VIR_ERR_INVALID_ARG, "unsupported state value");
    if (!cpu_map_parse(&map, text))
        return manage_null(error, VIR_ERR_INVALID_ARG, "Failed to parse bitmap '%s'", text);
    domain_auto *d = domain_of_call(c, 0, error);
    if (!d || !domain_begin(d, "guest agent", true, error))
        return NULL;
    bool ok = switch_these(d, &map, state, error);
    domain_end(d);
    return ok ? manage_void() : NULL;
}

const struct manage_row domain_rows_guest_vcpus[] = {
    { RPC_DOMAIN_GET_GUEST_VCPUS, get_guest_vcpus },
    { RPC_DOMAIN_SET_GUEST_VCPUS, set_guest_vcpus },
    { 0, NULL },
};
