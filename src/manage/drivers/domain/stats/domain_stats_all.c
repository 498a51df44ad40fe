/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* CONNECT_GET_ALL_DOMAIN_STATS: groups of numbers of many domains in one call. A group is a row. Machines are asked ahead of the domain whose record is being made, all questions
 * of one at once: a machine's time to answer is spent on the others' records. */
#include <string.h>
#include <unistd.h>

#include "manage/drivers/domain/block/domain_chain.h"
#include "manage/drivers/domain/stats/domain_stats.h"
#include "manage/drivers/domain/tune/domain_tune.h"
#include "manage/rpc/rpc_message.h"
#include "manage/rpc/rpc_xdr.h"

#define STATS_MEMORY (1u << 8) /* newer than some headers: VIR_DOMAIN_STATS_MEMORY, _VM */
#define STATS_VM (1u << 10)

enum { AHEAD = 32 }; /* domains whose machines are asked before their turn: what they answer is in memory */

enum { RECORDS_LIMIT = 16384, PARAMS_LIMIT = 262144 }; /* of the procedure */

/* What a machine is asked. */
enum question { ASK_VCPUS, ASK_BLOCKSTATS, ASK_NODES, ASK_IOTHREADS, ASK_STATS, ASK_BALLOON, ASK_DIRTY_RATE, QUESTIONS };

struct gather {
    struct domain *d;       /* a reference */
    uint32_t stats;         /* groups */
    GByteArray *to;         /* the message; the record's parameters go behind what is there */
    guint32 params;         /* how many so far */
    GError *error;          /* the first string that was too long */
    struct doc *doc;         /* live, or the definition where it does not run; NULL: not needed */
    char *disks;            /* domain_disk_list.c, in its place where it does not run; NULL otherwise */
    bool backing;           /* of disks, what is below them as well */
    bool running, busy;     /* busy: another job has the machine, and the caller does not wait */
    pid_t pid;
    struct monitor_batch *batch;
    int asked[QUESTIONS];   /* which of the batch; -1: not asked */
};

/* ---- parameters ---- */

static void put_string(struct gather *g, const char *text)
{
    if (!g->error)
        (void)!rpc_put_string(g->to, text, &g->error);
}

/* A parameter's name, which is a format with a number and perhaps a word in it, and its kind; the value has to follow. */
static void put_name(struct gather *g, int kind, const char *format, ...) G_GNUC_PRINTF(3, 4);
static void put_name(struct gather *g, int kind, const char *format, ...)
{
    char small[64];
    const char *name = format;
    g_autofree char *big = NULL;
    if (strchr(format, '%')) {
        va_list args, again;
        va_start(args, format);
        va_copy(again, args);
        size_t need = (size_t)g_vsnprintf(small, sizeof(small), format, args);
        big = need < sizeof(small) ? NULL : g_strdup_vprintf(format, again);
        va_end(again);
        va_end(args);
        name = big ? big : small;
    }
    put_string(g, name);
    rpc_put_u32(g->to, (guint32)kind);
    g->params++;
}

static void put_valid(struct gather *g, const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    put_string(g, valid);
}

/* One parameter: its value, then its name as a format. */
#define put_u64(g, v, ...) (put_name(g, VIR_TYPED_PARAM_ULLONG, __VA_ARGS__), rpc_put_u64((g)->to, v))
#define put_i64(g, v, ...) (put_name(g, VIR_TYPED_PARAM_LLONG, __VA_ARGS__), rpc_put_u64((g)->to, (guint64)(v)))
#define put_u32(g, v, ...) (put_name(g, VIR_TYPED_PARAM_UINT, __VA_ARGS__), rpc_put_u32((g)->to, v))
#define put_i32(g, v, ...) (put_name(g, VIR_TYPED_PARAM_INT, __VA_ARGS__), rpc_put_u32((g)->to, (guint32)(v)))
#define put_text(g, v, ...) (put_name(g, VIR_TYPED_PARAM_STRING, __VA_ARGS__), put_valid(g, v))

/* ---- questions ---- */

static struct json_object *question_args(const struct gather *g, enum question q)
{
    if (q == ASK_BALLOON)
        return domain_balloon_question(g->doc);
    struct json_object *args = q == ASK_NODES || q == ASK_STATS ? json_object_new_object() : NULL;
    if (q == ASK_NODES) /* each with its own size: those below it are nodes of the list, too */
        json_object_object_add(args, "flat", json_object_new_boolean(true));
    else if (q == ASK_STATS)
        json_object_object_add(args, "target", json_object_new_string("vcpu"));
    return args;
}

/* Not asked: what the document says is not there. */
static bool must_ask(const struct gather *g, enum question q)
{
    static const uint32_t groups[QUESTIONS] = { VIR_DOMAIN_STATS_VCPU, VIR_DOMAIN_STATS_BLOCK, VIR_DOMAIN_STATS_BLOCK, VIR_DOMAIN_STATS_IOTHREAD, STATS_VM, VIR_DOMAIN_STATS_BALLOON, VIR_DOMAIN_STATS_DIRTYRATE };
    const struct el *root = g->doc ? doc_root(g->doc) : NULL;
    if (!(g->stats & groups[q]))
        return false;
    if (q == ASK_BALLOON)
        return root && el_find(root, "devices/memballoon/alias");
    if (q == ASK_IOTHREADS)
        return root && (el_find(root, "iothreads") || el_find(root, "iothreadids"));
    return (q != ASK_BLOCKSTATS && q != ASK_NODES) || (root && el_find(root, "devices/disk"));
}

static void ask_machine(struct gather *g)
{
    static const char *const names[QUESTIONS] = { "query-cpus-fast", "query-blockstats", "query-named-block-nodes", "query-iothreads", "query-stats", "qom-get", "query-dirty-rate" };
    struct monitor_question all[QUESTIONS];
    unsigned n = 0;
    for (enum question q = 0; q < QUESTIONS; q++) {
        g->asked[q] = g->running && !g->busy && must_ask(g, q) ? (int)n : -1;
        if (g->asked[q] >= 0)
            all[n++] = (struct monitor_question){ names[q], question_args(g, q) };
    }
    g->batch = n ? monitor_ask(g->d, all, n, NULL) : NULL;
}

/* A list (of ASK_BALLOON, ASK_DIRTY_RATE: an object); NULL: not asked, or not answered. */
static struct json_object *told(struct gather *g, enum question q)
{
    g_autoptr(GError) error = NULL;
    struct json_object *o = g->batch && g->asked[q] >= 0 ? monitor_batch_answer(g->batch, (unsigned)g->asked[q], &error) : NULL;
    if (q == ASK_NODES && g_error_matches(error, MANAGE_ERROR, VIR_ERR_OPERATION_FAILED)) /* an old QEMU does not know "flat" */
        o = monitor_command(g->d, "query-named-block-nodes", NULL, NULL);
    if (o && !json_object_is_type(o, q == ASK_BALLOON || q == ASK_DIRTY_RATE ? json_type_object : json_type_array))
        json_object_put(g_steal_pointer(&o));
    return o;
}

/* ---- groups ---- */

static void group_state(struct gather *g)
{
    g_mutex_lock(&g->d->lock);
    int state = g->d->state, reason = g->d->reason;
    g_mutex_unlock(&g->d->lock);
    put_i32(g, state, "state.state");
    put_i32(g, reason, "state.reason");
}

static void group_cpu(struct gather *g)
{
    uint64_t all, user, system;
    if (!g->running || !domain_cpu_time(g->d, &all, &user, &system))
        return;
    put_u64(g, all, "cpu.time");
    put_u64(g, user, "cpu.user");
    put_u64(g, system, "cpu.system");
}

static void group_balloon(struct gather *g)
{
    g_mutex_lock(&g->d->lock);
    uint64_t now = g->running && g->d->balloon_kib ? g->d->balloon_kib : g->d->memory_kib, max = g->d->max_kib;
    g_mutex_unlock(&g->d->lock);
    put_u64(g, now, "balloon.current");
    put_u64(g, max, "balloon.maximum");
    struct json_object *o = told(g, ASK_BALLOON);
    struct balloon_stat all[BALLOON_STATS];
    unsigned n = domain_balloon_stats(o, all);
    for (unsigned i = 0; i < n; i++)
        put_u64(g, all[i].value, "balloon.%s", all[i].field);
    json_object_put(o);
    uint64_t resident = g->running ? domain_process_kib(g->pid) : 0;
    if (resident)
        put_u64(g, resident, "balloon.rss");
}

static void group_vcpu(struct gather *g)
{
    g_mutex_lock(&g->d->lock);
    unsigned now = g->d->vcpus, max = g->d->max_vcpus;
    g_mutex_unlock(&g->d->lock);
    put_u32(g, now, "vcpu.current");
    put_u32(g, max, "vcpu.maximum");
    struct json_object *list = told(g, ASK_VCPUS);
    for (size_t i = 0; list && i < json_object_array_length(list); i++) {
        struct json_object *o = json_object_array_get_idx(list, i);
        uint64_t run, wait;
        unsigned index = (unsigned)js_number(o, "cpu-index");
        domain_thread_time(g->pid, (int)js_number(o, "thread-id"), &run, &wait);
        put_i32(g, VIR_VCPU_RUNNING, "vcpu.%u.state", index);
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
    put_u32(g, n, "net.count");
    n = 0;
    el_each(nic, el_find(doc_root(g->doc), "devices"), "interface") {
        const char *tap = el_get(nic, "target/@dev");
        uint64_t v[8];
        if (tap)
            put_text(g, tap, "net.%u.name", n);
        if (domain_net_stats(nic, v))
            for (unsigned i = 0; i < 8; i++)
                put_u64(g, v[i], "net.%u.%s", n, names[i]);
        n++;
    }
}

static void one_disk(struct gather *g, const struct el *disk, unsigned n, struct json_object *stats, struct json_object *nodes)
{
    g_autofree char *path = domain_disk_image(g->d, disk);
    const char *alias = el_get(disk, "alias/@name");
    struct disk_stats s;
    struct disk_sizes size;
    put_text(g, el_get_or(disk, "target/@dev", ""), "block.%u.name", n);
    if (path)
        put_text(g, path, "block.%u.path", n);
    if (domain_chain_index(disk))
        put_u32(g, domain_chain_index(disk), "block.%u.backingIndex", n);
    bool counted = stats && alias && domain_disk_stats(stats, alias, &s);
    if (counted) {
        const struct { const char *name; uint64_t value; } rows[] = { { "rd.reqs", s.rd_reqs }, { "rd.bytes", s.rd_bytes }, { "rd.times", s.rd_ns }, { "wr.reqs", s.wr_reqs },
                                                                      { "wr.bytes", s.wr_bytes }, { "wr.times", s.wr_ns }, { "fl.reqs", s.fl_reqs }, { "fl.times", s.fl_ns } };
        for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
            put_u64(g, rows[i].value, "block.%u.%s", n, rows[i].name);
    }
    if (path && domain_disk_sizes(g->d, disk, nodes, &size, NULL)) {
        put_u64(g, counted ? s.highest : size.allocation, "block.%u.allocation", n); /* where the guest has written to: thin volumes are made larger by that */
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
    put_u32(g, n, "block.count");
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
    struct json_object *stats = told(g, ASK_BLOCKSTATS), *nodes = told(g, ASK_NODES);
    put_u32(g, count_images(g), "block.count");
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
    struct json_object *list = told(g, ASK_IOTHREADS);
    unsigned n = list ? (unsigned)json_object_array_length(list) : 0;
    if (list || (g->running && !g->busy && !must_ask(g, ASK_IOTHREADS)))
        put_u32(g, n, "iothread.count");
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
    struct json_object *list = told(g, ASK_STATS);
    if (!list)
        return;
    g_autoptr(GHashTable) sums = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_autoptr(GPtrArray) order = g_ptr_array_new();
    for (size_t i = 0; i < json_object_array_length(list); i++) {
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

/* What domdirtyrate-calc measured last. */
static void group_dirty_rate(struct gather *g)
{
    static const char *const states[] = { "unstarted", "measuring", "measured", NULL }; /* enum virDomainDirtyRateStatus */
    struct json_object *o = told(g, ASK_DIRTY_RATE);
    const char *state = o ? json_object_get_string(json_object_object_get(o, "status")) : NULL;
    const char *mode = o ? json_object_get_string(json_object_object_get(o, "mode")) : NULL;
    for (int i = 0; state && states[i]; i++) {
        if (strcmp(state, states[i]))
            continue;
        put_i32(g, i, "dirtyrate.calc_status");
        put_i64(g, (int64_t)js_number(o, "start-time"), "dirtyrate.calc_start_time");
        put_i32(g, (int)js_number(o, "calc-time"), "dirtyrate.calc_period");
        if (mode)
            put_text(g, mode, "dirtyrate.calc_mode");
        if (i == VIR_DOMAIN_DIRTYRATE_MEASURED)
            put_i64(g, (int64_t)js_number(o, "dirty-rate"), "dirtyrate.megabytes_per_second");
    }
    json_object_put(o);
}

static void group_nothing(struct gather *g) { (void)g; } /* monitors of cachetune and memorytune: never there */

static const struct {
    uint32_t bit;
    void (*fn)(struct gather *g);
    bool document;
} groups[] = {
    { VIR_DOMAIN_STATS_STATE, group_state, false },
    { VIR_DOMAIN_STATS_CPU_TOTAL, group_cpu, false },
    { VIR_DOMAIN_STATS_BALLOON, group_balloon, false },
    { VIR_DOMAIN_STATS_VCPU, group_vcpu, false },
    { VIR_DOMAIN_STATS_INTERFACE, group_interface, true },
    { VIR_DOMAIN_STATS_BLOCK, group_block, true },
    { VIR_DOMAIN_STATS_IOTHREAD, group_iothread, true },
    { STATS_MEMORY, group_nothing, false },
    { VIR_DOMAIN_STATS_DIRTYRATE, group_dirty_rate, false },
    { STATS_VM, group_vm, false },
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

static struct gather *gather_new(struct domain *d, uint32_t stats, uint32_t flags)
{
    struct gather *g = g_new0(struct gather, 1);
    bool document = false;
    *g = (struct gather){ .d = domain_ref(d), .stats = stats, .backing = flags & VIR_CONNECT_GET_ALL_DOMAINS_STATS_BACKING };
    g_mutex_lock(&d->lock);
    g->running = d->id >= 0;
    g->pid = d->pid;
    g->busy = d->busy && (flags & VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT);
    g_mutex_unlock(&d->lock);
    for (unsigned i = 0; i < G_N_ELEMENTS(groups); i++)
        document |= (stats & groups[i].bit) && groups[i].document;
    document |= g->running && (stats & VIR_DOMAIN_STATS_BALLOON); /* which device the balloon is */
    g->disks = document && !g->running && !g->backing ? domain_disk_list(d) : NULL;
    g->doc = document && !g->disks ? domain_any_document(d, NULL) : NULL;
    ask_machine(g);
    return g;
}

/* Nothing is left of g. */
static void gather_free(struct gather *g)
{
    monitor_batch_free(g->batch);
    g_clear_error(&g->error);
    doc_free(g->doc);
    g_free(g->disks);
    domain_unref(g->d);
    g_free(g);
}

/* The record of the domain behind the others. */
static bool gather_end(struct gather *g, GByteArray *to, GError **error)
{
    bool ok = domain_put(to, g->d, error);
    guint list = rpc_put_list(to);
    g->to = to;
    for (unsigned i = 0; ok && i < G_N_ELEMENTS(groups); i++)
        if ((g->stats & groups[i].bit) && (!groups[i].document || g->doc || g->disks))
            groups[i].fn(g);
    rpc_put_count(to, list, g->params);
    if (g->error)
        ok = (g_propagate_error(error, g_steal_pointer(&g->error)), false);
    else if (ok && g->params > PARAMS_LIMIT)
        ok = manage_fail(error, VIR_ERR_RPC, "%u statistics of one domain are too many for a message, the limit is %d", g->params, PARAMS_LIMIT);
    gather_free(g);
    return ok;
}

/* Those that the caller names and that are there, or all. */
static GPtrArray *domains_named(struct domain_driver *dr, GVariant *named)
{
    gsize n = g_variant_n_children(named);
    if (!n)
        return domain_all(dr);
    GPtrArray *list = g_ptr_array_new_with_free_func((GDestroyNotify)domain_unref);
    for (gsize i = 0; i < n; i++) {
        g_autoptr(GVariant) record = g_variant_get_child_value(named, i);
        struct domain *d = domain_by_uuid(dr, manage_variant_uuid(record), NULL, NULL);
        if (d)
            g_ptr_array_add(list, d);
    }
    return list;
}

static bool gather_all(GPtrArray *list, uint32_t stats, uint32_t flags, GByteArray *to, GError **error)
{
    GQueue ahead = G_QUEUE_INIT;
    guint32 n = 0;
    bool ok = true;
    guint count = rpc_put_list(to);
    for (unsigned i = 0; ok && i < list->len; i++) {
        if (wanted(list->pdata[i], flags)) {
            g_queue_push_tail(&ahead, gather_new(list->pdata[i], stats, flags));
            n++;
        }
        if (ahead.length > AHEAD)
            ok = gather_end(g_queue_pop_head(&ahead), to, error);
    }
    while (ok && !g_queue_is_empty(&ahead))
        ok = gather_end(g_queue_pop_head(&ahead), to, error);
    g_queue_clear_full(&ahead, (GDestroyNotify)gather_free);
    rpc_put_count(to, count, n);
    return ok && (n <= RECORDS_LIMIT || manage_fail(error, VIR_ERR_RPC, "%u domains are too many for a message, the limit is %d", n, RECORDS_LIMIT));
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
    g_autoptr(GPtrArray) list = domains_named(dr, named);
    g_autoptr(GByteArray) to = rpc_message_blank();
    return gather_all(list, stats, flags, to, error) ? manage_reply_encoded(c, g_steal_pointer(&to)) : NULL;
}

const struct manage_row domain_rows_stats_all[] = {
    { RPC_CONNECT_GET_ALL_DOMAIN_STATS, get_all_domain_stats },
    { 0, NULL },
};
