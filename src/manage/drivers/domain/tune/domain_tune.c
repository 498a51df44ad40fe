/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A document's settings are put in force when its machine starts (domain_tune.h). */
#include "manage/drivers/domain/tune/domain_tune.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_PARTITION "/machine"
enum { IOTHREADS_MAX = 1024 };

/* ---- the group ---- */

struct cgroup *domain_cgroup(struct domain *d)
{
    g_mutex_lock(&d->lock);
    struct cgroup *g = d->run ? cgroup_ref(d->run->cgroup) : NULL;
    g_mutex_unlock(&d->lock);
    return g;
}

struct cgroup *domain_cgroup_need(struct domain *d, enum cgroup_controller c, GError **error)
{
    static const char *const words[] = { "cgroup CPU controller is not mounted", "cgroup CPUACCT controller is not mounted", "cgroup cpuset controller is not mounted",
                                         "cgroup memory controller is not mounted", "blkio cgroup isn't mounted" };
    struct cgroup *g = domain_cgroup(d);
    if (cgroup_has(g, c))
        return g;
    cgroup_unref(g);
    return manage_null(error, VIR_ERR_OPERATION_INVALID, "%s", words[c]);
}

/* Daemons with directories of their own number their machines for themselves. */
static char *group_name(struct domain *d)
{
    const char *dir = d->driver->state_dir;
    g_autofree char *salt = g_str_equal(dir, "/run/vireo/qemu") ? NULL : g_strdup_printf("%08x", g_str_hash(dir));
    return cgroup_machine_name(d->id, d->name, salt);
}

void domain_tune_found(struct domain *d)
{
    if (!d->driver->state->privileged)
        return;
    g_autofree char *name = group_name(d);
    g_mutex_lock(&d->lock);
    if (d->run && !d->run->cgroup && d->live)
        d->run->cgroup = cgroup_open(d->driver->cgroups, el_get_or(doc_root(d->live), "resource/partition", DEFAULT_PARTITION), name);
    g_mutex_unlock(&d->lock);
}

static bool make_group(struct domain *d, const char *wanted, GError **error)
{
    GError *e = NULL;
    if (!d->driver->state->privileged)
        return true;
    g_autofree char *name = group_name(d);
    struct cgroup *g = cgroup_make(d->driver->cgroups, wanted ? wanted : DEFAULT_PARTITION, name, &e);
    if (e) {
        g_propagate_error(error, e);
        return false;
    }
    g_mutex_lock(&d->lock);
    d->run->cgroup = g;
    if (g && !wanted)
        el_set(doc_root(d->live), "resource/partition", DEFAULT_PARTITION);
    g_mutex_unlock(&d->lock);
    return true;
}

/* ---- what needs a controller ---- */

/* Elements that a machine without it would run without: refused by name. */
static bool check_available(struct domain *d, const struct cgroup *g, const struct el *root, GError **error)
{
    static const struct { const char *path; enum cgroup_controller c; const char *what; } rows[] = {
        { "cputune/shares", CGROUP_CPU, "CPU" }, { "cputune/period", CGROUP_CPU, "CPU" }, { "cputune/quota", CGROUP_CPU, "CPU" }, { "cputune/global_period", CGROUP_CPU, "CPU" },
        { "cputune/global_quota", CGROUP_CPU, "CPU" }, { "cputune/emulator_period", CGROUP_CPU, "CPU" }, { "cputune/emulator_quota", CGROUP_CPU, "CPU" },
        { "cputune/iothread_period", CGROUP_CPU, "CPU" }, { "cputune/iothread_quota", CGROUP_CPU, "CPU" }, { "memtune/hard_limit", CGROUP_MEMORY, "Memory" },
        { "memtune/soft_limit", CGROUP_MEMORY, "Memory" }, { "memtune/swap_hard_limit", CGROUP_MEMORY, "Memory" }, { "blkiotune/weight", CGROUP_IO, "Block I/O" },
        { "blkiotune/device", CGROUP_IO, "Block I/O" } };
    static const struct { const char *path, *what; } never[] = { { "cputune/cachetune", "cache allocation" }, { "cputune/memorytune", "memory bandwidth allocation" },
                                                                  { "memtune/min_guarantee", "a guaranteed minimum of memory" }, { "resource/fibrechannel", "a fibre channel application ID" } };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
        if (el_find(root, rows[i].path) && !cgroup_has(g, rows[i].c))
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<%s> is asked for, and %s tuning is not available %s", rows[i].path, rows[i].what,
                               d->driver->state->privileged ? "on this host: it has no control group for it" : "in session mode");
    for (unsigned i = 0; i < G_N_ELEMENTS(never); i++)
        if (el_find(root, never[i].path))
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<%s> is asked for, and %s is not supported", never[i].path, never[i].what);
    const char *partition = el_get(root, "resource/partition");
    if (partition && !g && !g_str_equal(partition, DEFAULT_PARTITION))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the resource partition '%s' is asked for, and there are no control groups", partition);
    return true;
}

static bool check_nodes(const struct el *root, GError **error)
{
    const char *set = el_get(root, "numatune/memory/@nodeset");
    struct cpu_map want, have;
    cpu_map_nodes(&have);
    if (!set || !cpu_map_parse(&want, set) || cpu_map_subset(&want, &have))
        return true;
    unsigned n = 0;
    while (!cpu_map_test(&want, n) || cpu_map_test(&have, n))
        n++;
    return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "NUMA node %u is unavailable", n);
}

/* ---- limits of the whole ---- */

static uint64_t number(const struct el *root, const char *path)
{
    uint64_t v = 0;
    el_get_u64(root, path, &v);
    return v;
}

static int64_t signed_number(const struct el *root, const char *path)
{
    const char *text = el_get(root, path);
    return text ? g_ascii_strtoll(text, NULL, 10) : 0;
}

static bool set_memory(struct cgroup *g, const struct el *root, GError **error)
{
    static const struct { const char *path; enum cgroup_limit which; } rows[] = { { "memtune/hard_limit", CGROUP_HARD }, { "memtune/soft_limit", CGROUP_SOFT }, { "memtune/swap_hard_limit", CGROUP_SWAP } };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        uint64_t bytes;
        if (el_get_bytes(root, rows[i].path, "KiB", &bytes) && !cgroup_set_memory(g, rows[i].which, bytes >> 10, error))
            return false;
    }
    return true;
}

static bool set_blkio(struct cgroup *g, const struct el *root, GError **error)
{
    static const struct { const char *name; enum cgroup_io which; } rows[] = { { "weight", CGROUP_IO_WEIGHT }, { "read_iops_sec", CGROUP_IO_READ_IOPS }, { "write_iops_sec", CGROUP_IO_WRITE_IOPS },
                                                                               { "read_bytes_sec", CGROUP_IO_READ_BYTES }, { "write_bytes_sec", CGROUP_IO_WRITE_BYTES } };
    uint64_t weight = number(root, "blkiotune/weight");
    if (weight && !cgroup_set_weight(g, (unsigned)weight, error))
        return false;
    el_each(dev, el_find(root, "blkiotune"), "device")
        for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
            uint64_t v = number(dev, rows[i].name);
            if (v && !cgroup_set_device(g, rows[i].which, el_get_or(dev, "path", ""), v, error))
                return false;
        }
    return true;
}

static bool set_limits(struct cgroup *g, const struct el *root, GError **error)
{
    uint64_t shares = number(root, "cputune/shares");
    return (!shares || cgroup_set_shares(g, shares, error)) &&
           cgroup_set_bandwidth(g, NULL, number(root, "cputune/global_period"), signed_number(root, "cputune/global_quota"), error) && set_memory(g, root, error) && set_blkio(g, root, error);
}

/* ---- processors and nodes of threads ---- */

bool domain_cpus_of(const struct el *root, const char *element, const char *key, unsigned index, struct cpu_map *ret)
{
    g_autofree char *text = g_strdup_printf("%u", index);
    const char *set = el_get(root, "vcpu/@cpuset");
    el_each(pin, el_find(root, "cputune"), element)
        if (!key || el_is(pin, key, text))
            set = el_get(pin, "@cpuset");
    if (set && cpu_map_parse(ret, set))
        return true;
    cpu_map_online(ret);
    return false;
}

/* The nodes that memory must come from, else NULL. */
static const char *strict_nodes(const struct el *root)
{
    const struct el *m = el_find(root, "numatune/memory");
    return m && (!el_get(m, "@mode") || el_is(m, "@mode", "strict") || el_is(m, "@mode", "restrictive")) ? el_get(m, "@nodeset") : NULL;
}

static bool set_cpuset(struct cgroup *g, const char *child, const struct el *root, const struct cpu_map *cpus, GError **error)
{
    const char *nodes = strict_nodes(root);
    g_autofree char *list = cpus ? cpu_map_format(cpus) : NULL;
    if (!cgroup_has(g, CGROUP_CPUSET)) /* affinity alone does it for processors */
        return true;
    return (!nodes || cgroup_set_mems(g, child, nodes, error)) && (!list || cgroup_set_cpus(g, child, list, error));
}

static bool set_affinity(pid_t tid, const struct cpu_map *cpus, GError **error)
{
    struct cpu_map now;
    cpu_map_of_thread(&now, tid);
    return !memcmp(&now, cpus, sizeof(now)) || cpu_map_empty(&now) || cpu_map_apply(cpus, tid, error);
}

/* <vcpusched vcpus= scheduler= priority=/>: the one that names this thread; one without a list is for all. */
static bool set_scheduler(const struct el *root, const char *element, const char *key, unsigned index, pid_t tid, GError **error)
{
    static const struct { const char *name; int policy; } rows[] = { { "batch", SCHED_BATCH }, { "idle", SCHED_IDLE }, { "fifo", SCHED_FIFO }, { "rr", SCHED_RR } };
    const struct el *found = NULL;
    el_each(s, el_find(root, "cputune"), element) {
        struct cpu_map m;
        const char *list = key ? el_get(s, key) : NULL;
        if (!list || (cpu_map_parse(&m, list) && cpu_map_test(&m, index)))
            found = s;
    }
    for (unsigned i = 0; found && i < G_N_ELEMENTS(rows); i++) {
        struct sched_param p = { .sched_priority = rows[i].policy == SCHED_FIFO || rows[i].policy == SCHED_RR ? (int)number(found, "@priority") : 0 };
        if (el_is(found, "@scheduler", rows[i].name) && sched_setscheduler(tid, rows[i].policy, &p) < 0)
            return manage_fail_errno(error, errno, "cannot give thread %d the scheduler '%s'", (int)tid, rows[i].name);
    }
    return true;
}

/* ---- threads ---- */

/* A machine may tell any number: threads of others are nothing to it. */
bool domain_owns_thread(struct domain *d, pid_t tid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/task/%d", (int)d->pid, (int)tid);
    if (d->pid > 0 && tid > 0 && g_file_test(path, G_FILE_TEST_IS_DIR))
        return true;
    g_warning("domain '%s': its machine names thread %d, which is not one of its process %d; it is left out", d->name, (int)tid, (int)d->pid);
    return false;
}

GArray *domain_iothreads(struct domain *d, GError **error)
{
    struct json_object *list = monitor_command(d, "query-iothreads", NULL, error);
    if (!list)
        return NULL;
    GArray *ret = g_array_new(FALSE, FALSE, sizeof(struct domain_vcpu));
    for (size_t i = 0; json_object_is_type(list, json_type_array) && i < json_object_array_length(list); i++) {
        struct json_object *o = json_object_array_get_idx(list, i);
        const char *id = json_object_get_string(json_object_object_get(o, "id"));
        struct domain_vcpu t = { 0, (pid_t)json_object_get_int64(json_object_object_get(o, "thread-id")) };
        if (!id || !g_str_has_prefix(id, "iothread") || !g_ascii_isdigit(id[8]))
            continue;
        t.index = (unsigned)strtoul(id + 8, NULL, 10);
        if (ret->len < IOTHREADS_MAX && domain_owns_thread(d, t.tid))
            g_array_append_val(ret, t);
    }
    json_object_put(list);
    return ret;
}

bool domain_tune_thread(struct domain *d, struct cgroup *g, const struct el *root, bool vcpu, const struct domain_vcpu *t, GError **error)
{
    struct cpu_map cpus;
    bool pinned = vcpu ? domain_cpus_of(root, "vcpupin", "@vcpu", t->index, &cpus) : domain_cpus_of(root, "iothreadpin", "@iothread", t->index, &cpus);
    g_autofree char *child = g_strdup_printf(vcpu ? "vcpu%u" : "iothread%u", t->index);
    uint64_t period = number(root, vcpu ? "cputune/period" : "cputune/iothread_period");
    int64_t quota = signed_number(root, vcpu ? "cputune/quota" : "cputune/iothread_quota");
    if (g && !(cgroup_make_child(g, child, error) && set_cpuset(g, child, root, pinned ? &cpus : NULL, error) && cgroup_set_bandwidth(g, child, period, quota, error) &&
               cgroup_add_thread(g, child, t->tid, error)))
        return false;
    return set_affinity(t->tid, &cpus, error) &&
           set_scheduler(root, vcpu ? "vcpusched" : "iothreadsched", vcpu ? "@vcpus" : "@iothreads", t->index, t->tid, error);
}

static bool is_among(const GArray *threads, pid_t tid)
{
    for (unsigned i = 0; i < threads->len; i++)
        if (g_array_index(threads, struct domain_vcpu, i).tid == tid)
            return true;
    return false;
}

/* Every thread of the process but these; NULL: all of them. */
static bool each_other(pid_t pid, const GArray *vcpus, const GArray *iothreads, const struct cpu_map *cpus, const struct el *root, GError **error)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/task", (int)pid);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    for (const char *name; dir && (name = g_dir_read_name(dir));) {
        pid_t tid = (pid_t)strtol(name, NULL, 10);
        if (tid <= 0 || (vcpus && is_among(vcpus, tid)) || (iothreads && is_among(iothreads, tid)))
            continue;
        GError *e = NULL;
        bool ok = set_affinity(tid, cpus, &e) && (!root || set_scheduler(root, "emulatorsched", NULL, 0, tid, &e));
        g_autofree char *task = g_build_filename(path, name, NULL);
        if (!ok && g_file_test(task, G_FILE_TEST_EXISTS)) {
            g_propagate_error(error, e);
            return false;
        }
        g_clear_error(&e); /* a thread that ended meanwhile */
    }
    return true;
}

bool domain_tune_emulator(struct domain *d, const struct cpu_map *cpus, GError **error)
{
    g_autoptr(GArray) vcpus = domain_vcpu_threads(d, error), iothreads = vcpus ? domain_iothreads(d, error) : NULL;
    return iothreads && each_other(d->pid, vcpus, iothreads, cpus, NULL, error);
}

/* ---- at the start ---- */

bool domain_tune_process(struct domain *d, GError **error)
{
    struct cpu_map cpus;
    g_mutex_lock(&d->lock);
    domain_iothread_ids(doc_root(d->live));
    g_mutex_unlock(&d->lock);
    doc_auto *live = domain_live(d, error);
    if (!live)
        return false;
    const struct el *root = doc_root(live);
    if (!check_nodes(root, error) || !make_group(d, el_get(root, "resource/partition"), error))
        return false;
    cgroup_auto *g = domain_cgroup(d);
    if (!check_available(d, g, root, error))
        return false;
    bool pinned = domain_cpus_of(root, "emulatorpin", NULL, 0, &cpus);
    if (g && !(set_limits(g, root, error) && set_cpuset(g, "emulator", root, pinned ? &cpus : NULL, error) &&
               cgroup_set_bandwidth(g, "emulator", number(root, "cputune/emulator_period"), signed_number(root, "cputune/emulator_quota"), error) &&
               cgroup_add_process(g, "emulator", d->pid, error)))
        return false;
    return each_other(d->pid, NULL, NULL, &cpus, NULL, error);
}

/* A document without any wish of this kind, on a host without groups, costs no question to the machine. */
static bool has_wishes(const struct el *root) { return el_find(root, "cputune") || el_get(root, "vcpu/@cpuset") || strict_nodes(root); }

bool domain_tune_threads(struct domain *d, GError **error)
{
    cgroup_auto *g = domain_cgroup(d);
    doc_auto *live = domain_live(d, error);
    struct cpu_map cpus;
    if (!live || (!g && !has_wishes(doc_root(live))))
        return live != NULL;
    const struct el *root = doc_root(live);
    g_autoptr(GArray) vcpus = domain_vcpu_threads(d, error), iothreads = vcpus ? domain_iothreads(d, error) : NULL;
    if (!iothreads)
        return false;
    for (unsigned i = 0; i < vcpus->len; i++)
        if (!domain_tune_thread(d, g, root, true, &g_array_index(vcpus, struct domain_vcpu, i), error))
            return false;
    for (unsigned i = 0; i < iothreads->len; i++)
        if (!domain_tune_thread(d, g, root, false, &g_array_index(iothreads, struct domain_vcpu, i), error))
            return false;
    domain_cpus_of(root, "emulatorpin", NULL, 0, &cpus);
    return each_other(d->pid, vcpus, iothreads, &cpus, root, error); /* threads that came while the process was moved */
}
