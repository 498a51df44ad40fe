/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which processors of the host vCPUs, I/O threads and the rest of a machine run on. */
#include <string.h>

#include "manage/drivers/domain/tune/domain_tune.h"

enum { AFFECT = VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG };

/* ---- in documents ---- */

struct pin {
    const char *element, *key; /* key NULL: there is one */
    unsigned index;
    const char *cpus;
};

static struct el *find_pin(const struct el *root, const struct pin *p)
{
    g_autofree char *text = g_strdup_printf("%u", p->index);
    el_each(e, el_find(root, "cputune"), p->element)
        if (!p->key || el_is(e, p->key, text))
            return e;
    return NULL;
}

static int by_key(const void *a, const void *b)
{
    const struct pin *p = a, *q = b;
    return p->index < q->index ? -1 : p->index > q->index;
}

/* Pins stand in the order of what they pin: the lists are made anew. */
static void edit_pin(struct el *root, void *opaque)
{
    const struct pin *p = opaque;
    struct el *tune = el_find(root, "cputune"), *old = find_pin(root, p);
    if (p->key && g_str_equal(p->element, "iothreadpin"))
        domain_iothread_ids(root);
    if (!tune)
        tune = el_add(root, "cputune");
    if (!p->key) {
        g_autofree char *path = g_strconcat(p->element, "/@cpuset", NULL);
        el_set(tune, path, p->cpus);
        return;
    }
    if (old) {
        el_set(old, "@cpuset", p->cpus);
        return;
    }
    g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(struct pin));
    g_array_append_val(all, *p);
    el_each(e, tune, p->element) {
        uint64_t index = 0;
        el_get_u64(e, p->key, &index);
        struct pin one = { p->element, p->key, (unsigned)index, el_get(e, "@cpuset") };
        g_array_append_val(all, one);
    }
    for (struct el *e; (e = el_child(tune, p->element));)
        el_remove(e);
    g_array_sort(all, by_key);
    for (unsigned i = 0; i < all->len; i++) {
        const struct pin *one = &g_array_index(all, struct pin, i);
        struct el *e = el_add(tune, p->element);
        el_setf(e, p->key, "%u", one->index);
        el_set(e, "@cpuset", one->cpus);
    }
}

/* ---- in a machine ---- */

/* Group first: to widen a cpuset is to reset the affinity of what is in it. */
static bool move(struct domain *d, const char *child, pid_t tid, const struct cpu_map *cpus, const char *list, GError **error)
{
    cgroup_auto *g = domain_cgroup(d);
    if (cgroup_has(g, CGROUP_CPUSET) && !cgroup_set_cpus(g, child, list, error))
        return false;
    return tid ? cpu_map_apply(cpus, tid, error) : domain_tune_emulator(d, cpus, error);
}

static pid_t tid_of(const GArray *threads, unsigned index)
{
    for (unsigned i = 0; i < threads->len; i++)
        if (g_array_index(threads, struct domain_vcpu, i).index == index)
            return g_array_index(threads, struct domain_vcpu, i).tid;
    return 0;
}

static void tell(struct domain *d, const char *name, unsigned index, bool numbered, const char *list)
{
    GVariantBuilder b;
    g_autofree char *field = numbered ? g_strdup_printf("cputune.%s%u", name, index) : g_strdup_printf("cputune.%s", name);
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(sv)"));
    manage_param_string(&b, field, list);
    tune_event(d, &b);
}

/* ---- vCPUs ---- */

static bool check_vcpu(const struct el *root, unsigned vcpu, bool live, GError **error)
{
    uint64_t max = 1, shown;
    el_get_u64(root, "vcpu", &max);
    if (live || !el_get_u64(root, "vcpu/@current", &shown)) /* of a definition libvirt names those that are on, and takes the others as well */
        shown = max;
    return vcpu < max || manage_fail(error, VIR_ERR_INVALID_ARG, "vcpu %u is out of range of %s cpu count %u", vcpu, live ? "live" : "persistent", (unsigned)shown);
}

/* `check` on each document that is affected. */
static bool check_both(struct domain *d, uint32_t which, bool (*check)(const struct el *, unsigned, bool, GError **), unsigned index, GError **error)
{
    doc_auto *live = which & VIR_DOMAIN_AFFECT_LIVE ? domain_live(d, error) : NULL;
    if ((which & VIR_DOMAIN_AFFECT_LIVE) && !(live && check(doc_root(live), index, true, error)))
        return false;
    doc_auto *config = which & VIR_DOMAIN_AFFECT_CONFIG ? domain_definition(d, error) : NULL;
    return !(which & VIR_DOMAIN_AFFECT_CONFIG) || (config && check(doc_root(config), index, false, error));
}

static bool pin_vcpu_live(struct domain *d, unsigned vcpu, const struct cpu_map *cpus, const char *list, GError **error)
{
    g_autoptr(GArray) threads = domain_vcpu_threads(d, error);
    g_autofree char *child = g_strdup_printf("vcpu%u", vcpu);
    if (!threads)
        return false;
    pid_t tid = tid_of(threads, vcpu);
    if (tid && !move(d, child, tid, cpus, list, error)) /* one that is not plugged in is pinned when it comes */
        return false;
    tell(d, "vcpupin", vcpu, true, list);
    return true;
}

static GVariant *pin_vcpu_with(struct manage_call *c, uint32_t flags, GError **error)
{
    struct cpu_map cpus;
    uint32_t vcpu = tune_u32(c, 1), which;
    if (!manage_check_flags(flags, AFFECT, error) || !cpu_map_argument(&cpus, c->args, 2, error))
        return NULL;
    struct domain *d = tune_begin(c, "pin vcpu", flags, &which, error);
    if (!d)
        return NULL;
    g_autofree char *list = cpu_map_format(&cpus);
    struct pin p = { "vcpupin", "@vcpu", vcpu, list };
    bool ok = check_both(d, which, check_vcpu, vcpu, error) && (!(which & VIR_DOMAIN_AFFECT_LIVE) || pin_vcpu_live(d, vcpu, &cpus, list, error)) &&
              domain_edit(d, which, edit_pin, &p, error);
    return tune_end(d, ok);
}

static GVariant *pin_vcpu(struct manage_call *c, GError **error) { return pin_vcpu_with(c, VIR_DOMAIN_AFFECT_LIVE, error); }
static GVariant *pin_vcpu_flags(struct manage_call *c, GError **error) { return pin_vcpu_with(c, tune_u32(c, 3), error); }

static GVariant *map_variant(const uint8_t *maps, gsize size) { return g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, maps, size, 1); }

static GVariant *get_vcpu_pin_info(struct manage_call *c, GError **error)
{
    int count, bytes;
    bool live;
    g_variant_get_child(c->args, 1, "i", &count);
    g_variant_get_child(c->args, 2, "i", &bytes);
    uint32_t flags = tune_u32(c, 3);
    if (!manage_check_flags(flags, AFFECT, error))
        return NULL;
    if (count < 0 || bytes < 0 || count > 16384 || (int64_t)count * bytes > 1 << 22)
        return manage_null(error, VIR_ERR_RPC, "too much is asked for: %d vCPUs with maps of %d bytes", count, bytes);
    domain_auto *d = domain_of_call(c, 0, error);
    doc_auto *doc = d ? tune_document(d, flags, &live, error) : NULL;
    if (!doc)
        return NULL;
    uint64_t max = 1;
    el_get_u64(doc_root(doc), "vcpu", &max);
    unsigned n = (unsigned)MIN((uint64_t)count, max);
    g_autofree uint8_t *maps = g_malloc0((gsize)n * (gsize)bytes + 1);
    for (unsigned i = 0; i < n; i++) {
        struct cpu_map m;
        domain_cpus_of(doc_root(doc), "vcpupin", "@vcpu", i, &m);
        memcpy(maps + (gsize)i * (gsize)bytes, m.bits, MIN((gsize)bytes, sizeof(m.bits)));
    }
    return g_variant_new("(@ayi)", map_variant(maps, (gsize)n * (gsize)bytes), (int)n);
}

/* ---- emulator ---- */

static GVariant *pin_emulator(struct manage_call *c, GError **error)
{
    struct cpu_map cpus;
    uint32_t flags = tune_u32(c, 2), which;
    if (!manage_check_flags(flags, AFFECT, error) || !cpu_map_argument(&cpus, c->args, 1, error))
        return NULL;
    struct domain *d = tune_begin(c, "pin emulator", flags, &which, error);
    if (!d)
        return NULL;
    g_autofree char *list = cpu_map_format(&cpus);
    struct pin p = { "emulatorpin", NULL, 0, list };
    bool ok = !(which & VIR_DOMAIN_AFFECT_LIVE) || move(d, "emulator", 0, &cpus, list, error);
    if (ok && (which & VIR_DOMAIN_AFFECT_LIVE))
        tell(d, "emulatorpin", 0, false, list);
    return tune_end(d, ok && domain_edit(d, which, edit_pin, &p, error));
}

static GVariant *get_emulator_pin_info(struct manage_call *c, GError **error)
{
    int bytes;
    bool live;
    struct cpu_map m;
    g_variant_get_child(c->args, 1, "i", &bytes);
    uint32_t flags = tune_u32(c, 2);
    if (!manage_check_flags(flags, AFFECT, error))
        return NULL;
    if (bytes < 0 || bytes > 1 << 16)
        return manage_null(error, VIR_ERR_RPC, "too much is asked for: a map of %d bytes", bytes);
    domain_auto *d = domain_of_call(c, 0, error);
    doc_auto *doc = d ? tune_document(d, flags, &live, error) : NULL;
    if (!doc)
        return NULL;
    domain_cpus_of(doc_root(doc), "emulatorpin", NULL, 0, &m);
    g_autofree uint8_t *map = g_malloc0((gsize)bytes + 1);
    memcpy(map, m.bits, MIN((gsize)bytes, sizeof(m.bits)));
    return g_variant_new("(@ayi)", map_variant(map, (gsize)bytes), 1);
}

/* ---- I/O threads ---- */

static bool has_iothread(const struct el *root, unsigned id)
{
    g_autofree char *text = g_strdup_printf("%u", id);
    const struct el *ids = el_find(root, "iothreadids");
    uint64_t n = 0;
    el_each(t, ids, "iothread")
        if (el_is(t, "@id", text))
            return true;
    el_get_u64(root, "iothreads", &n);
    return !ids && id >= 1 && id <= n; /* those without numbers of their own are 1, 2, ... */
}

static bool check_iothread(const struct el *root, unsigned id, bool live, GError **error)
{
    return has_iothread(root, id) || manage_fail(error, VIR_ERR_INVALID_ARG, live ? "invalid argument: iothread %u not found" : "invalid argument: iothreadid %u not found", id);
}

static bool pin_iothread_live(struct domain *d, unsigned id, const struct cpu_map *cpus, const char *list, GError **error)
{
    g_autoptr(GArray) threads = domain_iothreads(d, error);
    g_autofree char *child = g_strdup_printf("iothread%u", id);
    if (!threads)
        return false;
    pid_t tid = tid_of(threads, id);
    if (!tid)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "iothread %u not found", id);
    if (!move(d, child, tid, cpus, list, error))
        return false;
    tell(d, "iothreadpin", id, true, list);
    return true;
}

static GVariant *pin_iothread(struct manage_call *c, GError **error)
{
    struct cpu_map cpus;
    uint32_t id = tune_u32(c, 1), flags = tune_u32(c, 3), which;
    if (!manage_check_flags(flags, AFFECT, error))
        return NULL;
    if (!id)
        return manage_null(error, VIR_ERR_INVALID_ARG, "iothread_id in virDomainPinIOThread must not be zero");
    if (!cpu_map_argument(&cpus, c->args, 2, error))
        return NULL;
    struct domain *d = tune_begin(c, "pin iothread", flags, &which, error);
    if (!d)
        return NULL;
    g_autofree char *list = cpu_map_format(&cpus);
    struct pin p = { "iothreadpin", "@iothread", id, list };
    bool ok = check_both(d, which, check_iothread, id, error) && (!(which & VIR_DOMAIN_AFFECT_LIVE) || pin_iothread_live(d, id, &cpus, list, error)) &&
              domain_edit(d, which, edit_pin, &p, error);
    return tune_end(d, ok);
}

const struct manage_row domain_rows_pin[] = {
    { RPC_DOMAIN_PIN_VCPU, pin_vcpu },
    { RPC_DOMAIN_PIN_VCPU_FLAGS, pin_vcpu_flags },
    { RPC_DOMAIN_GET_VCPU_PIN_INFO, get_vcpu_pin_info },
    { RPC_DOMAIN_PIN_EMULATOR, pin_emulator },
    { RPC_DOMAIN_GET_EMULATOR_PIN_INFO, get_emulator_pin_info },
    { RPC_DOMAIN_PIN_IOTHREAD, pin_iothread },
    { 0, NULL },
};
