/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* CONNECT_GET_ALL_DOMAIN_STATS: groups of numbers of many domains in one call. A group is a row. */
#include <string.h>
#include <unistd.h>

#include "manage/drivers/domain/domain_chain.h"
#include "manage/drivers/domain/domain_stats.h"
#include "manage/drivers/domain/domain_tune.h"

struct gather {
    struct domain *d;
    GVariantBuilder *b;
    struct doc *doc; /* live, or the definition where it does not run; NULL: not needed */
    const char *disks; /* domain_disk_list.c, in its place where it does not run; NULL otherwise */
    bool backing;       /* of disks, what is below them as well */
    bool running, busy; /* busy: another job has the machine, and the caller does not wait */
    pid_t pid;
};

static void put_u64(struct gather *g, uint64_t v, const char *format, ...) G_GNUC_PRINTF(3, 4);
static void put_u64(struct gather *g, uint64_t v, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *field = g_strdup_vprintf(format, args);
    va_end(args);
    manage_param_u64(g->b, field, v);
}

static void put_u32(struct gather *g, uint32_t v, const char *format, unsigned index)
{
    g_auto(GStrv) parts = g_strsplit(format, "%u", 2);
    g_autofree char *field = g_strdup_printf("%s%u%s", parts[0], index, parts[1]);
    manage_param_u32(g->b, field, v);
}

static void put_text(struct gather *g, const char *v, const char *format, ...) G_GNUC_PRINTF(3, 4);
static void put_text(struct gather *g, const char *v, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *field = g_strdup_vprintf(format, args);
    va_end(args);
    manage_param_string(g->b, field, v);
}

/* ---- groups ---- */

static void group_state(struct gather *g)
{
    g_mutex_lock(&g->d->lock);
    int state = g->d->state, reason = g->d->reason;
    g_mutex_unlock(&g->d->lock);
    manage_param_i32(g->b, "state.state", state);
    manage_param_i32(g->b, "state.reason", reason);
}

static void group_cpu(struct gather *g)
{
    uint64_t all, user, system;
    if (!g->running || !domain_cpu_time(g->d, &all, &user, &system))
        return;
    manage_param_u64(g->b, "cpu.time", all);
    manage_param_u64(g->b, "cpu.user", user);
    manage_param_u64(g->b, "cpu.system", system);
}

static void group_balloon(struct gather *g)
{
    g_mutex_lock(&g->d->lock);
    uint64_t now = g->d->balloon_kib ? g->d->balloon_kib : g->d->memory_kib, max = g->d->max_kib;
    g_mutex_unlock(&g->d->lock);
    if (g->running)
        manage_param_u64(g->b, "balloon.current", now);
    manage_param_u64(g->b, "balloon.maximum", max);
    uint64_t resident = g->running ? domain_process_kib(g->pid) : 0;
    if (resident)
        manage_param_u64(g->b, "balloon.rss", resident);
}

static void group_vcpu(struct gather *g)
{
    g_mutex_lock(&g->d->lock);
    unsigned now = g->d->vcpus, max = g->d->max_vcpus;
    g_mutex_unlock(&g->d->lock);
    manage_param_u32(g->b, "vcpu.current", now);
    manage_param_u32(g->b, "vcpu.maximum", max);
    struct json_object *list = g->running && !g->busy ? monitor_command(g->d, "query-cpus-fast", NULL, NULL) : NULL;
    for (size_t i = 0; list && json_object_is_type(list, json_type_array) && i < json_object_array_length(list); i++) {
        struct json_object *o = json_object_array_get_idx(list, i);
        uint64_t run, wait;
        unsigned index = (unsigned)js_number(o, "cpu-index");
        domain_thread_time(g->pid, (int)js_number(o, "thread-id"), &run, &wait);
        g_autofree char *state = g_strdup_printf("vcpu.%u.state", index);
        manage_param_i32(g->b, state, VIR_VCPU_RUNNING);
        put_u64(g, run, "vcpu.%u.time", index);
        put_u64(g, domain_thread_wait(g->pid, (int)js_number(o, "thread-id")), "vcpu.%u.wait", index);
        put_u64(g, wait, "vcpu.%u.delay", index);
    }
    json_object_put(list);
}

static void group_interface(struct gather *g)
{
    static const char *const names[] = { "rx.bytes", "rx.pkts", "rx.errs", "rx.drop", "tx.bytes", "tx.pkts", "tx.errs", "tx.drop" };
    unsigned n = 0;
    if (!g->running)
        return;
    el_each(nic, el_find(doc_root(g->doc), "devices"), "interface")
        n++;
    manage_param_u32(g->b, "net.count", n);
    n = 0;
    el_each(nic, el_find(doc_root(g->doc), "devices"), "interface") {
        const char *tap = el_get(nic, "target/@dev");
        uint64_t v[8];
        if (tap)
            put_text(g, tap, "net.%u.name", n);
        if (domain_net_stats(tap, v))
            for (unsigned i = 0; i < 8; i++)
                put_u64(g, v[i], "net.%u.%s", n, names[i]);
        n++;
    }
}

static void one_disk(struct gather *g, const struct el *disk, unsigned n, struct json_object *stats, struct json_object *nodes)
{
    const char *path = domain_disk_path(disk), *alias = el_get(disk, "alias/@name");
    struct disk_stats s;
    struct disk_sizes size;
    put_text(g, el_get_or(disk, "target/@dev", ""), "block.%u.name", n);
    if (path)
        put_text(g, path, "block.%u.path", n);
    if (domain_chain_index(disk))
        put_u32(g, domain_chain_index(disk), "block.%u.backingIndex", n);
    if (stats && alias && domain_disk_stats(stats, alias, &s)) {
        const struct { const char *name; uint64_t value; } rows[] = { { "rd.reqs", s.rd_reqs }, { "rd.bytes", s.rd_bytes }, { "rd.times", s.rd_ns }, { "wr.reqs", s.wr_reqs },
                                                                      { "wr.bytes", s.wr_bytes }, { "wr.times", s.wr_ns }, { "fl.reqs", s.fl_reqs }, { "fl.times", s.fl_ns } };
        for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
            put_u64(g, rows[i].value, "block.%u.%s", n, rows[i].name);
    }
    if (path && domain_disk_sizes(g->d, disk, nodes, &size, NULL)) {
        put_u64(g, size.allocation, "block.%u.allocation", n);
        put_u64(g, size.capacity, "block.%u.capacity", n);
        put_u64(g, g->running ? size.allocation : size.physical, "block.%u.physical", n);
    }
}

/* An image below the disk: sizes alone, the drive's numbers are those of the first. */
static void one_backing(struct gather *g, const struct el *disk, const struct el *image, unsigned n, struct json_object *nodes)
{
    const char *path = domain_chain_path(image);
    struct disk_sizes size;
    put_text(g, el_get_or(disk, "target/@dev", ""), "block.%u.name", n);
    if (path)
        put_text(g, path, "block.%u.path", n);
    put_u32(g, domain_chain_index(image), "block.%u.backingIndex", n);
    if (!path || !domain_disk_sizes(g->d, image, nodes, &size, NULL))
        return;
    put_u64(g, size.allocation, "block.%u.allocation", n);
    put_u64(g, size.capacity, "block.%u.capacity", n);
    put_u64(g, size.allocation, "block.%u.physical", n);
}

static unsigned count_images(struct gather *g)
{
    unsigned n = 0;
    el_each(disk, el_find(doc_root(g->doc), "devices"), "disk") {
        n++;
        for (const struct el *e = g->backing ? domain_chain_below(disk) : NULL; e; e = domain_chain_below(e))
            n++;
    }
    return n;
}

/* Of a domain that does not run. */
static void listed_disks(struct gather *g)
{
    const char *at = g->disks, *name, *path;
    struct disk_sizes size;
    unsigned n = 0;
    bool raw;
    while (domain_disk_list_next(&at, &raw, &name, &path))
        n++;
    manage_param_u32(g->b, "block.count", n);
    at = g->disks;
    for (n = 0; domain_disk_list_next(&at, &raw, &name, &path); n++) {
        put_text(g, name, "block.%u.name", n);
        if (*path)
            put_text(g, path, "block.%u.path", n);
        if (!*path || !domain_image_sizes(path, raw, &size))
            continue;
        put_u64(g, size.allocation, "block.%u.allocation", n);
        put_u64(g, size.capacity, "block.%u.capacity", n);
        put_u64(g, size.physical, "block.%u.physical", n);
    }
}

static void group_block(struct gather *g)
{
    if (g->disks) {
        listed_disks(g);
        return;
    }
    unsigned n = 0;
    bool ask = g->running && !g->busy;
    struct json_object *stats = ask ? monitor_command(g->d, "query-blockstats", NULL, NULL) : NULL;
    struct json_object *nodes = ask ? monitor_command(g->d, "query-named-block-nodes", NULL, NULL) : NULL;
    if (stats && !json_object_is_type(stats, json_type_array))
        json_object_put(g_steal_pointer(&stats));
    if (nodes && !json_object_is_type(nodes, json_type_array))
        json_object_put(g_steal_pointer(&nodes));
    manage_param_u32(g->b, "block.count", count_images(g));
    el_each(disk, el_find(doc_root(g->doc), "devices"), "disk") {
        one_disk(g, disk, n++, stats, nodes);
        for (const struct el *e = g->backing ? domain_chain_below(disk) : NULL; e; e = domain_chain_below(e))
            one_backing(g, disk, e, n++, nodes);
    }
    json_object_put(stats);
    json_object_put(nodes);
}

static void group_iothread(struct gather *g)
{
    struct json_object *list = g->running && !g->busy ? monitor_command(g->d, "query-iothreads", NULL, NULL) : NULL;
    unsigned n = list && json_object_is_type(list, json_type_array) ? (unsigned)json_object_array_length(list) : 0;
    if (list)
        manage_param_u32(g->b, "iothread.count", n);
    for (unsigned i = 0; i < n; i++) {
        struct json_object *o = json_object_array_get_idx(list, i);
        const char *id = json_object_get_string(json_object_object_get(o, "id"));
        if (!id || !g_str_has_prefix(id, "iothread") || !g_ascii_isdigit(id[8]))
            continue;
        unsigned index = (unsigned)g_ascii_strtoull(id + 8, NULL, 10);
        put_u64(g, (uint64_t)js_number(o, "poll-max-ns"), "iothread.%u.poll-max-ns", index);
        put_u32(g, (uint32_t)js_number(o, "poll-grow"), "iothread.%u.poll-grow", index);
        put_u32(g, (uint32_t)js_number(o, "poll-shrink"), "iothread.%u.poll-shrink", index);
    }
    json_object_put(list);
}

/* Exits by reason and the time in them, summed over the vCPUs: what vireo-vmm counts. */
static void group_vm(struct gather *g)
{
    if (!g->running || g->busy)
        return;
    struct json_object *args = json_object_new_object();
    json_object_object_add(args, "target", json_object_new_string("vcpu"));
    struct json_object *list = monitor_command(g->d, "query-stats", args, NULL);
    g_autoptr(GHashTable) sums = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_autoptr(GPtrArray) order = g_ptr_array_new();
    for (size_t i = 0; list && json_object_is_type(list, json_type_array) && i < json_object_array_length(list); i++) {
        struct json_object *stats = json_object_object_get(json_object_array_get_idx(list, i), "stats");
        for (size_t k = 0; stats && json_object_is_type(stats, json_type_array) && k < json_object_array_length(stats); k++) {
            struct json_object *o = json_object_array_get_idx(stats, k), *name, *value;
            if (!json_object_object_get_ex(o, "name", &name) || !json_object_object_get_ex(o, "value", &value) || !json_object_is_type(value, json_type_int))
                continue;
            uint64_t *sum = g_hash_table_lookup(sums, json_object_get_string(name));
            if (!sum) {
                char *key = g_strdup(json_object_get_string(name));
                sum = g_new0(uint64_t, 1);
                g_hash_table_insert(sums, key, sum);
                g_ptr_array_add(order, key);
            }
            *sum += (uint64_t)json_object_get_int64(value);
        }
    }
    for (unsigned i = 0; i < order->len; i++)
        put_u64(g, *(uint64_t *)g_hash_table_lookup(sums, order->pdata[i]), "vm.%s.sum", (const char *)order->pdata[i]);
    json_object_put(list);
}

static const struct {
    uint32_t bit;
    void (*fn)(struct gather *g);
    bool document, monitor;
} groups[] = {
    { VIR_DOMAIN_STATS_STATE, group_state, false, false },
    { VIR_DOMAIN_STATS_CPU_TOTAL, group_cpu, false, false },
    { VIR_DOMAIN_STATS_BALLOON, group_balloon, false, false },
    { VIR_DOMAIN_STATS_VCPU, group_vcpu, false, true },
    { VIR_DOMAIN_STATS_INTERFACE, group_interface, true, false },
    { VIR_DOMAIN_STATS_BLOCK, group_block, true, true },
    { VIR_DOMAIN_STATS_IOTHREAD, group_iothread, false, true },
    { 1u << 10, group_vm, false, true }, /* VIR_DOMAIN_STATS_VM, newer than some headers */
};

/* ---- the call ---- */

static bool wanted(struct domain *d, uint32_t flags)
{
    g_mutex_lock(&d->lock);
    bool active = d->id >= 0, persistent = d->persistent;
    int state = d->state;
    g_mutex_unlock(&d->lock);
    static const struct { uint32_t bit; int state; } states[] = { { VIR_CONNECT_GET_ALL_DOMAINS_STATS_RUNNING, VIR_DOMAIN_RUNNING }, { VIR_CONNECT_GET_ALL_DOMAINS_STATS_PAUSED, VIR_DOMAIN_PAUSED },
                                                                  { VIR_CONNECT_GET_ALL_DOMAINS_STATS_SHUTOFF, VIR_DOMAIN_SHUTOFF } };
    const uint32_t any_active = VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE | VIR_CONNECT_GET_ALL_DOMAINS_STATS_INACTIVE;
    const uint32_t any_kind = VIR_CONNECT_GET_ALL_DOMAINS_STATS_PERSISTENT | VIR_CONNECT_GET_ALL_DOMAINS_STATS_TRANSIENT;
    const uint32_t any_state = VIR_CONNECT_GET_ALL_DOMAINS_STATS_RUNNING | VIR_CONNECT_GET_ALL_DOMAINS_STATS_PAUSED | VIR_CONNECT_GET_ALL_DOMAINS_STATS_SHUTOFF |
                               VIR_CONNECT_GET_ALL_DOMAINS_STATS_OTHER;
    if ((flags & any_active) && !(flags & (active ? VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE : VIR_CONNECT_GET_ALL_DOMAINS_STATS_INACTIVE)))
        return false;
    if ((flags & any_kind) && !(flags & (persistent ? VIR_CONNECT_GET_ALL_DOMAINS_STATS_PERSISTENT : VIR_CONNECT_GET_ALL_DOMAINS_STATS_TRANSIENT)))
        return false;
    if (!(flags & any_state))
        return true;
    uint32_t bit = VIR_CONNECT_GET_ALL_DOMAINS_STATS_OTHER;
    for (unsigned i = 0; i < G_N_ELEMENTS(states); i++)
        bit = states[i].state == state ? states[i].bit : bit;
    return flags & bit;
}

static void one_domain(struct domain *d, uint32_t stats, uint32_t flags, GVariantBuilder *all)
{
    GVariantBuilder b;
    struct gather g = { .d = d, .b = &b };
    bool document = false, monitor = false;
    for (unsigned i = 0; i < G_N_ELEMENTS(groups); i++) {
        document |= (stats & groups[i].bit) && groups[i].document;
        monitor |= (stats & groups[i].bit) && groups[i].monitor;
    }
    g_mutex_lock(&d->lock);
    g.running = d->id >= 0;
    g.pid = d->pid;
    g.backing = flags & VIR_CONNECT_GET_ALL_DOMAINS_STATS_BACKING;
    g.busy = d->busy && (flags & VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT);
    g_mutex_unlock(&d->lock);
    g_autofree char *disks = document && !g.running && !g.backing ? domain_disk_list(d) : NULL;
    doc_auto *doc = document && !disks ? domain_any_document(d, NULL) : NULL;
    g.doc = doc;
    g.disks = disks;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(sv)"));
    for (unsigned i = 0; i < G_N_ELEMENTS(groups); i++)
        if ((stats & groups[i].bit) && (!groups[i].document || doc || disks))
            groups[i].fn(&g);
    GVariant *record = g_variant_new("(@(sayi)a(sv))", domain_variant(d), &b);
    g_variant_get_data(record); /* one piece of memory from here on, not hundreds */
    g_variant_builder_add_value(all, record);
}

static GVariant *get_all_domain_stats(struct manage_call *c, GError **error)
{
    struct domain_driver *dr = manage_data(c->conn->state, "domain");
    uint32_t stats, flags, known = 0;
    g_autoptr(GVariant) named = g_variant_get_child_value(c->args, 0);
    g_variant_get_child(c->args, 1, "u", &stats);
    g_variant_get_child(c->args, 2, "u", &flags);
    for (unsigned i = 0; i < G_N_ELEMENTS(groups); i++)
        known |= groups[i].bit;
    if (!manage_check_flags(flags, 0xffu | VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT | VIR_CONNECT_GET_ALL_DOMAINS_STATS_BACKING |
                                   VIR_CONNECT_GET_ALL_DOMAINS_STATS_ENFORCE_STATS, error))
        return NULL;
    if ((flags & VIR_CONNECT_GET_ALL_DOMAINS_STATS_ENFORCE_STATS) && (stats & ~known))
        return manage_null(error, VIR_ERR_ARGUMENT_UNSUPPORTED, "Stats types bits 0x%x are not supported by this daemon", stats & ~known);
    stats = stats ? stats & known : known;
    GVariantBuilder all;
    g_variant_builder_init(&all, G_VARIANT_TYPE("a((sayi)a(sv))"));
    if (!g_variant_n_children(named)) {
        g_autoptr(GPtrArray) list = domain_all(dr);
        for (unsigned i = 0; i < list->len; i++)
            if (wanted(list->pdata[i], flags))
                one_domain(list->pdata[i], stats, flags, &all);
        return g_variant_new("(a((sayi)a(sv)))", &all);
    }
    for (gsize i = 0; i < g_variant_n_children(named); i++) {
        g_autoptr(GVariant) record = g_variant_get_child_value(named, i);
        domain_auto *d = domain_by_uuid(dr, manage_variant_uuid(record), NULL, NULL);
        if (d && wanted(d, flags)) /* one that has gone meanwhile is left out */
            one_domain(d, stats, flags, &all);
    }
    return g_variant_new("(a((sayi)a(sv)))", &all);
}

const struct manage_row domain_rows_stats_all[] = {
    { RPC_CONNECT_GET_ALL_DOMAIN_STATS, get_all_domain_stats },
    { 0, NULL },
};
