/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vCPUs come and go, by their number (virsh setvcpus) or one by one (virsh setvcpu, <vcpus>). */
#include <string.h>

#include "manage/drivers/domain/tune/domain_tune.h"

/* ---- in a machine ---- */

static int by_core(const void *a, const void *b)
{
    struct json_object *x = *(struct json_object *const *)a, *y = *(struct json_object *const *)b;
    static const char *const keys[] = { "node-id", "socket-id", "die-id", "core-id", "thread-id" };
    x = json_object_object_get(x, "props");
    y = json_object_object_get(y, "props");
    for (unsigned i = 0; i < G_N_ELEMENTS(keys); i++) {
        int64_t p = json_object_get_int64(json_object_object_get(x, keys[i])), q = json_object_get_int64(json_object_object_get(y, keys[i]));
        if (p != q)
            return p < q ? -1 : 1;
    }
    return 0;
}

/* Places of vCPUs in the machine; the n-th is vCPU n. json_object_put it. */
static struct json_object *query_slots(struct domain *d, GError **error)
{
    struct json_object *list = monitor_command(d, "query-hotpluggable-cpus", NULL, error);
    if (list && json_object_is_type(list, json_type_array)) {
        json_object_array_sort(list, by_core);
        return list;
    }
    if (list)
        manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "the machine cannot change its vCPUs");
    json_object_put(list);
    return NULL;
}

static bool plug(struct domain *d, struct json_object *slot, unsigned number, GError **error)
{
    struct json_object *args = NULL, *props = json_object_object_get(slot, "props");
    g_autofree char *id = g_strdup_printf("vcpu%u", number);
    if (!props || json_object_deep_copy(props, &args, NULL) < 0)
        return manage_fail(error, VIR_ERR_INTERNAL_ERROR, "the machine does not say where vCPU %u goes", number);
    json_object_object_add(args, "driver", json_object_new_string(json_object_get_string(json_object_object_get(slot, "type"))));
    json_object_object_add(args, "id", json_object_new_string(id));
    struct json_object *o = monitor_command(d, "device_add", args, error);
    json_object_put(o);
    return o != NULL;
}

static bool unplug(struct domain *d, struct json_object *slot, unsigned number, GError **error)
{
    const char *path = json_object_get_string(json_object_object_get(slot, "qom-path"));
    g_autofree char *name = path ? g_path_get_basename(path) : NULL;
    if (!name || !g_str_has_prefix(name, "vcpu"))
        return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "vCPU %u was there when the machine started and cannot be taken out", number);
    struct json_object *args = json_object_new_object();
    json_object_object_add(args, "id", json_object_new_string(name));
    struct json_object *o = monitor_command(d, "device_del", args, error);
    json_object_put(o);
    return o != NULL;
}

/* Until n are there: added from the lowest free place on, taken out from the highest used one down. */
bool domain_vcpus_hotplug(struct domain *d, unsigned n, GError **error)
{
    struct json_object *list = query_slots(d, error);
    if (!list)
        return false;
    size_t all = json_object_array_length(list), have = 0;
    bool ok = true;
    for (size_t i = 0; i < all; i++)
        have += json_object_object_get(json_object_array_get_idx(list, i), "qom-path") != NULL;
    for (size_t i = 0; ok && have < n && i < all; i++) {
        struct json_object *slot = json_object_array_get_idx(list, i);
        if (!json_object_object_get(slot, "qom-path"))
            have += ok = plug(d, slot, (unsigned)i, error);
    }
    for (size_t i = all; ok && have > n && i-- > 0;) {
        struct json_object *slot = json_object_array_get_idx(list, i);
        if (json_object_object_get(slot, "qom-path"))
            have -= ok = unplug(d, slot, (unsigned)i, error);
    }
    json_object_put(list);
    return ok && (have == n || manage_fail(error, VIR_ERR_OPERATION_FAILED, "the machine has room for %zu vCPUs", have));
}

/* ---- one by one ---- */

struct vcpu_state {
    bool on, pluggable; /* pluggable: was not there from the start, may go */
};

/* Of vCPUs 0, 1, ... of a document. Without a list the first ones are on, and stay. */
static GArray *states_of(const struct el *root)
{
    uint64_t max = 1, current;
    el_get_u64(root, "vcpu", &max);
    if (!el_get_u64(root, "vcpu/@current", &current))
        current = max;
    struct el *list = el_find(root, "vcpus");
    GArray *a = g_array_new(FALSE, TRUE, sizeof(struct vcpu_state));
    for (unsigned i = 0; i < max; i++) {
        struct vcpu_state s = { !list && i < current, list || i >= current };
        g_array_append_val(a, s);
    }
    el_each(v, list, "vcpu") {
        uint64_t id = max;
        el_get_u64(v, "@id", &id);
        if (id < max)
            g_array_index(a, struct vcpu_state, id) = (struct vcpu_state){ el_is(v, "@enabled", "yes"), el_is(v, "@hotpluggable", "yes") || el_is(v, "@enabled", "no") };
    }
    return a;
}

struct edit {
    GArray *states;
    bool live;
};

static void edit_states(struct el *root, void *opaque)
{
    const struct edit *e = opaque;
    unsigned on = 0;
    struct el *old = el_find(root, "vcpus");
    if (old)
        el_remove(old);
    struct el *list = el_add(root, "vcpus");
    for (unsigned i = 0; i < e->states->len; i++) {
        const struct vcpu_state *s = &g_array_index(e->states, struct vcpu_state, i);
        struct el *v = el_add(list, "vcpu");
        on += s->on;
        el_setf(v, "@id", "%u", i);
        el_set(v, "@enabled", s->on ? "yes" : "no");
        el_set(v, "@hotpluggable", s->pluggable || !s->on ? "yes" : "no");
        if (e->live && s->on)
            el_setf(v, "@order", "%u", on);
    }
    if (on < e->states->len)
        el_setf(root, "vcpu/@current", "%u", on);
    else
        el_set(root, "vcpu/@current", NULL);
}

static bool slot_on(struct json_object *slot) { return json_object_object_get(slot, "qom-path") != NULL; }

static bool slot_pluggable(struct json_object *slot)
{
    const char *path = json_object_get_string(json_object_object_get(slot, "qom-path"));
    return !path || strstr(path, "/peripheral/");
}

bool domain_vcpus_list(struct domain *d, unsigned n, GError **error)
{
    struct json_object *slots = query_slots(d, error);
    size_t all = slots ? json_object_array_length(slots) : 0;
    g_autoptr(GArray) states = g_array_new(FALSE, TRUE, sizeof(struct vcpu_state));
    unsigned on = 0, pluggable = 0;
    for (size_t i = 0; i < all; i++) {
        struct json_object *slot = json_object_array_get_idx(slots, i);
        struct vcpu_state s = { slot_on(slot), slot_pluggable(slot) };
        on += s.on;
        g_array_append_val(states, s);
    }
    for (size_t i = all; on > n && i-- > 0;) { /* the guest has not let go of it yet */
        struct vcpu_state *s = &g_array_index(states, struct vcpu_state, i);
        on -= s->on && s->pluggable;
        s->on &= !s->pluggable;
    }
    for (size_t i = 0; i < all; i++)
        pluggable += g_array_index(states, struct vcpu_state, i).on && g_array_index(states, struct vcpu_state, i).pluggable;
    json_object_put(slots);
    struct edit e = { states, true };
    return slots && (!pluggable || domain_edit(d, VIR_DOMAIN_AFFECT_LIVE, edit_states, &e, error));
}

static bool check_live(const struct cpu_map *which, bool on, struct json_object *slots, GError **error)
{
    size_t all = json_object_array_length(slots);
    for (unsigned i = 0; i < CPU_MAP_BITS; i++) {
        if (!cpu_map_test(which, i))
            continue;
        struct json_object *slot = i < all ? json_object_array_get_idx(slots, i) : NULL;
        if (!slot)
            return manage_fail(error, VIR_ERR_INVALID_ARG, "vcpu %u is not present in live config", i);
        if (slot_on(slot) == on)
            return manage_fail(error, VIR_ERR_INVALID_ARG, "vcpu '%u' is already in requested state", i);
        if (!on && !slot_pluggable(slot))
            return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "vcpu '%u' can't be unplugged", i);
    }
    return true;
}

static bool switch_live(struct domain *d, const struct cpu_map *which, bool on, GError **error)
{
    struct json_object *slots = query_slots(d, error);
    bool ok = slots && check_live(which, on, slots, error);
    size_t all = slots ? json_object_array_length(slots) : 0;
    g_autoptr(GArray) states = g_array_new(FALSE, TRUE, sizeof(struct vcpu_state));
    for (unsigned i = 0; i < all; i++) {
        struct json_object *slot = json_object_array_get_idx(slots, i);
        struct vcpu_state s = { slot_on(slot), slot_pluggable(slot) };
        if (ok && cpu_map_test(which, i) && (ok = on ? plug(d, slot, i, error) : unplug(d, slot, i, error)))
            s = (struct vcpu_state){ on, true };
        g_array_append_val(states, s);
    }
    json_object_put(slots);
    struct edit e = { states, true };
    return ok && domain_tune_threads(d, error) && domain_edit(d, VIR_DOMAIN_AFFECT_LIVE, edit_states, &e, error);
}

/* The definition's: what is on from the start and goes, may come later. */
static GArray *switched(struct domain *d, const struct cpu_map *which, bool on, GError **error)
{
    doc_auto *doc = domain_definition(d, error);
    GArray *states = doc ? states_of(doc_root(doc)) : NULL;
    for (unsigned i = 0; states && i < CPU_MAP_BITS; i++) {
        if (!cpu_map_test(which, i))
            continue;
        if (i >= states->len || i == 0) {
            g_array_unref(states);
            return i ? manage_null(error, VIR_ERR_INVALID_ARG, "vcpu %u is not present in persistent config", i)
                     : manage_null(error, VIR_ERR_INVALID_ARG, "vCPU '0' can't be modified");
        }
        struct vcpu_state *s = &g_array_index(states, struct vcpu_state, i);
        s->pluggable |= !on;
        s->on = on;
    }
    return states;
}

static GVariant *set_vcpu(struct manage_call *c, GError **error)
{
    const char *text;
    int state;
    struct cpu_map map;
    uint32_t flags = tune_u32(c, 3), which;
    g_variant_get_child(c->args, 1, "&s", &text);
    g_variant_get_child(c->args, 2, "i", &state);
    if (!manage_check_flags(flags, VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG, error))
        return NULL;
    if (state != 0 && state != 1)
        return manage_null(error, VIR_ERR_INVALID_ARG, "unsupported state value");
    if (!cpu_map_parse(&map, text))
        return manage_null(error, VIR_ERR_INVALID_ARG, "Failed to parse bitmap '%s'", text);
    struct domain *d = tune_begin(c, "set vcpu", flags, &which, error);
    if (!d)
        return NULL;
    bool config = which & VIR_DOMAIN_AFFECT_CONFIG;
    g_autoptr(GArray) states = config ? switched(d, &map, state, error) : NULL;
    bool ok = !config || states;
    ok = ok && (!(which & VIR_DOMAIN_AFFECT_LIVE) || switch_live(d, &map, state, error));
    struct edit e = { states, false };
    return tune_end(d, ok && (!config || domain_edit(d, VIR_DOMAIN_AFFECT_CONFIG, edit_states, &e, error)));
}

/* ---- at the start ---- */

unsigned domain_vcpus_cold(const struct el *root)
{
    g_autoptr(GArray) states = states_of(root);
    unsigned n = 0;
    while (n < states->len && g_array_index(states, struct vcpu_state, n).on && !g_array_index(states, struct vcpu_state, n).pluggable)
        n++;
    return MAX(n, 1);
}

bool domain_vcpus_check(const struct el *root, GError **error)
{
    g_autoptr(GArray) states = states_of(root);
    bool end = false;
    for (unsigned i = 0; el_find(root, "vcpus") && i < states->len; i++) {
        const struct vcpu_state *s = &g_array_index(states, struct vcpu_state, i);
        bool cold = s->on && !s->pluggable;
        if (i == 0 && !cold)
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "vCPU 0 must be enabled, and not hot-pluggable");
        if (cold && end)
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "vCPU %u, which is not hot-pluggable, stands behind one that is or that is off", i);
        end |= !cold;
    }
    return true;
}

bool domain_vcpus_start(struct domain *d, GError **error)
{
    doc_auto *live = domain_live(d, error);
    if (!live || !el_find(doc_root(live), "vcpus"))
        return live != NULL;
    g_autoptr(GArray) states = states_of(doc_root(live));
    struct json_object *slots = query_slots(d, error);
    bool ok = slots != NULL;
    for (unsigned i = 0; ok && i < states->len && i < json_object_array_length(slots); i++) {
        struct json_object *slot = json_object_array_get_idx(slots, i);
        if (g_array_index(states, struct vcpu_state, i).on && !slot_on(slot))
            ok = plug(d, slot, i, error);
    }
    json_object_put(slots);
    struct edit e = { states, true };
    return ok && domain_edit(d, VIR_DOMAIN_AFFECT_LIVE, edit_states, &e, error);
}

const struct manage_row domain_rows_vcpu[] = {
    { RPC_DOMAIN_SET_VCPU, set_vcpu },
    { 0, NULL },
};
