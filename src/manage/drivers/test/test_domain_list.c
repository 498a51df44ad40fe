/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Domains of the test driver: finding them and what they say of themselves. */
#include "manage/drivers/test/test.h"

/* Each group of flags that has a bit set must have the one that fits. */
static bool match(const struct test_object *o, uint32_t flags)
{
    const struct { uint32_t group, mine; } g[] = {
        { 3, o->active ? 1 : 2 },
        { 12, o->persistent ? 4 : 8 },
        { 240, o->state == VIR_DOMAIN_RUNNING ? 16 : o->state == VIR_DOMAIN_PAUSED ? 32 : o->state == VIR_DOMAIN_SHUTOFF ? 64 : 128 },
        { 768, 512 },
        { 3072, o->autostart ? 1024 : 2048 },
        { 12288, 8192 },
        { 49152, 32768 },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(g); i++)
        if ((flags & g[i].group) && !(flags & g[i].mine))
            return false;
    return true;
}

LOCKED(list_all)
{
    int results;
    uint32_t flags;
    g_variant_get(c->args, "(iu)", &results, &flags);
    return manage_check_flags(flags, 0xffff, error) ? test_list(t, TEST_DOMAIN, results, flags, match) : NULL;
}

static int max_arg(struct manage_call *c)
{
    int max;
    g_variant_get_child(c->args, 0, "i", &max);
    return max;
}

LOCKED(list_defined) { return test_names(t, TEST_DOMAIN, false, max_arg(c)); }
LOCKED(num_defined) { return g_variant_new("(i)", test_count(t, TEST_DOMAIN, false)); }
LOCKED(num) { return g_variant_new("(i)", test_count(t, TEST_DOMAIN, true)); }

LOCKED(list_ids)
{
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("ai"));
    int max = max_arg(c);
    for (unsigned i = 0; i < t->objects[TEST_DOMAIN]->len; i++) {
        const struct test_object *o = t->objects[TEST_DOMAIN]->pdata[i];
        if (o->active && max-- > 0)
            g_variant_builder_add(&b, "i", o->id);
    }
    return g_variant_new("(ai)", &b);
}

LOCKED(lookup)
{
    struct test_object *o = test_arg(c, t, TEST_DOMAIN, error);
    return o ? g_variant_new("(@(sayi))", test_record(o)) : NULL;
}

LOCKED(lookup_id)
{
    int id = max_arg(c);
    for (unsigned i = 0; i < t->objects[TEST_DOMAIN]->len; i++) {
        const struct test_object *o = t->objects[TEST_DOMAIN]->pdata[i];
        if (o->active && o->id == id)
            return g_variant_new("(@(sayi))", test_record(o));
    }
    return manage_null(error, VIR_ERR_NO_DOMAIN, "no domain with matching id %d", id);
}

/* Microseconds that the domain has run, as if one of its vCPUs was always busy. */
static uint64_t cpu_time(const struct test_object *o) { return o->active ? (uint64_t)(g_get_monotonic_time() - o->started) * 1000 : 0; }

LOCKED(info)
{
    struct test_object *o = test_arg(c, t, TEST_DOMAIN, error);
    return o ? g_variant_new("(yttqt)", (uint8_t)o->state, o->max_kib, o->memory_kib, (uint16_t)o->vcpus, cpu_time(o)) : NULL;
}

LOCKED(state)
{
    struct test_object *o = test_arg(c, t, TEST_DOMAIN, error);
    return o ? g_variant_new("(ii)", o->state, o->reason) : NULL;
}

LOCKED(control)
{
    struct test_object *o = test_arg(c, t, TEST_DOMAIN, error);
    return o && test_want(o, TEST_DOMAIN, true, error) ? g_variant_new("(uut)", 0u, 0u, (uint64_t)0) : NULL;
}

LOCKED(os_type)
{
    struct test_object *o = test_arg(c, t, TEST_DOMAIN, error);
    return o ? g_variant_new("(s)", "linux") : NULL;
}

LOCKED(hostname)
{
    struct test_object *o = test_arg(c, t, TEST_DOMAIN, error);
    g_autofree char *name = o ? g_strconcat(o->name, "host", NULL) : NULL;
    return o ? g_variant_new("(s)", name) : NULL;
}

LOCKED(scheduler_type) { return test_arg(c, t, TEST_DOMAIN, error) ? g_variant_new("(si)", "fair", 1) : NULL; }

LOCKED(scheduler)
{
    if (!test_arg(c, t, TEST_DOMAIN, error))
        return NULL;
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(sv)"));
    manage_param_u32(&b, "weight", 50);
    return g_variant_new("(a(sv))", &b);
}

LOCKED(max_memory)
{
    struct test_object *o = test_arg(c, t, TEST_DOMAIN, error);
    return o ? g_variant_new("(t)", o->max_kib) : NULL;
}

LOCKED(vcpus_flags)
{
    struct test_object *o = test_arg(c, t, TEST_DOMAIN, error);
    uint32_t flags;
    if (!o)
        return NULL;
    g_variant_get_child(c->args, 1, "u", &flags);
    return g_variant_new("(i)", (int)(flags & VIR_DOMAIN_VCPU_MAXIMUM ? o->max_vcpus : o->vcpus));
}

/* One number of a domain. */
#define NUMBER(name, expression)                                        \
    LOCKED(name)                                                        \
    {                                                                   \
        struct test_object *o = test_arg(c, t, TEST_DOMAIN, error);     \
        return o ? g_variant_new("(i)", (int)(expression)) : NULL;      \
    }
NUMBER(is_active, o->active)
NUMBER(is_persistent, o->persistent)
NUMBER(is_updated, 0)
NUMBER(autostart, o->autostart)
NUMBER(max_vcpus, o->max_vcpus)
NUMBER(none, 0)

LOCKED(no_snapshots)
{
    if (!test_arg(c, t, TEST_DOMAIN, error))
        return NULL;
    return g_variant_new("(@a(s(sayi))i)", g_variant_new_array(G_VARIANT_TYPE("(s(sayi))"), NULL, 0), 0);
}

static GVariant *stats_of(const struct test_object *o, uint32_t stats)
{
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(sv)"));
    if (stats & VIR_DOMAIN_STATS_STATE) {
        manage_param_i32(&b, "state.state", o->state);
        manage_param_i32(&b, "state.reason", o->reason);
    }
    if ((stats & VIR_DOMAIN_STATS_CPU_TOTAL) && o->active)
        manage_param_u64(&b, "cpu.time", cpu_time(o));
    if (stats & VIR_DOMAIN_STATS_BALLOON) {
        manage_param_u64(&b, "balloon.current", o->memory_kib);
        manage_param_u64(&b, "balloon.maximum", o->max_kib);
    }
    if (stats & VIR_DOMAIN_STATS_VCPU) {
        manage_param_u32(&b, "vcpu.current", o->vcpus);
        manage_param_u32(&b, "vcpu.maximum", o->max_vcpus);
    }
    return g_variant_new("(@(sayi)a(sv))", test_record(o), &b);
}

LOCKED(all_stats)
{
    g_autoptr(GVariant) named = g_variant_get_child_value(c->args, 0);
    uint32_t stats, flags;
    g_variant_get_child(c->args, 1, "u", &stats);
    g_variant_get_child(c->args, 2, "u", &flags);
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a((sayi)a(sv))"));
    for (unsigned i = 0; i < t->objects[TEST_DOMAIN]->len; i++) {
        const struct test_object *o = t->objects[TEST_DOMAIN]->pdata[i];
        bool wanted = !g_variant_n_children(named) && match(o, flags & 0xff);
        for (gsize k = 0; k < g_variant_n_children(named) && !wanted; k++) {
            g_autoptr(GVariant) d = g_variant_get_child_value(named, k);
            wanted = test_find_uuid(t, TEST_DOMAIN, manage_variant_uuid(d)) == o;
        }
        if (wanted)
            g_variant_builder_add_value(&b, stats_of(o, stats ? stats : ~0u));
    }
    return g_variant_new("(a((sayi)a(sv)))", &b);
}

const struct manage_row test_domain_list_rows[] = {
    { RPC_CONNECT_LIST_ALL_DOMAINS, list_all },
    { RPC_CONNECT_LIST_DEFINED_DOMAINS, list_defined },
    { RPC_CONNECT_NUM_OF_DEFINED_DOMAINS, num_defined },
    { RPC_CONNECT_NUM_OF_DOMAINS, num },
    { RPC_CONNECT_LIST_DOMAINS, list_ids },
    { RPC_DOMAIN_LOOKUP_BY_NAME, lookup },
    { RPC_DOMAIN_LOOKUP_BY_UUID, lookup },
    { RPC_DOMAIN_LOOKUP_BY_ID, lookup_id },
    { RPC_DOMAIN_GET_INFO, info },
    { RPC_DOMAIN_GET_STATE, state },
    { RPC_DOMAIN_GET_CONTROL_INFO, control },
    { RPC_DOMAIN_GET_OS_TYPE, os_type },
    { RPC_DOMAIN_GET_MAX_MEMORY, max_memory },
    { RPC_DOMAIN_GET_MAX_VCPUS, max_vcpus },
    { RPC_DOMAIN_GET_VCPUS_FLAGS, vcpus_flags },
    { RPC_DOMAIN_IS_ACTIVE, is_active },
    { RPC_DOMAIN_IS_PERSISTENT, is_persistent },
    { RPC_DOMAIN_IS_UPDATED, is_updated },
    { RPC_DOMAIN_GET_AUTOSTART, autostart },
    { RPC_DOMAIN_HAS_MANAGED_SAVE_IMAGE, none },
    { RPC_DOMAIN_SNAPSHOT_NUM, none },
    { RPC_DOMAIN_HAS_CURRENT_SNAPSHOT, none },
    { RPC_DOMAIN_LIST_ALL_SNAPSHOTS, no_snapshots },
    { RPC_DOMAIN_LIST_ALL_CHECKPOINTS, no_snapshots },
    { RPC_DOMAIN_GET_HOSTNAME, hostname },
    { RPC_DOMAIN_GET_SCHEDULER_TYPE, scheduler_type },
    { RPC_DOMAIN_GET_SCHEDULER_PARAMETERS, scheduler },
    { RPC_DOMAIN_GET_SCHEDULER_PARAMETERS_FLAGS, scheduler },
    { RPC_CONNECT_GET_ALL_DOMAIN_STATS, all_stats },
    { 0, NULL },
};
