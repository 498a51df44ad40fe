/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Jobs of a domain, and migration to another host. */
#include "vireo_commands.h"
#include "vireo_domain.h"

#include <stdlib.h>
#include <string.h>

/* Typed parameters of migration and the options that give them. */
static const struct {
    const char *option, *field;
    int kind;
} parameters[] = {
    {"migrateuri", VIR_MIGRATE_PARAM_URI, VIR_TYPED_PARAM_STRING},
    {"graphicsuri", VIR_MIGRATE_PARAM_GRAPHICS_URI, VIR_TYPED_PARAM_STRING},
    {"listen-address", VIR_MIGRATE_PARAM_LISTEN_ADDRESS, VIR_TYPED_PARAM_STRING},
    {"dname", VIR_MIGRATE_PARAM_DEST_NAME, VIR_TYPED_PARAM_STRING},
    {"disks-port", VIR_MIGRATE_PARAM_DISKS_PORT, VIR_TYPED_PARAM_INT},
    {"disks-uri", VIR_MIGRATE_PARAM_DISKS_URI, VIR_TYPED_PARAM_STRING},
    {"comp-mt-level", VIR_MIGRATE_PARAM_COMPRESSION_MT_LEVEL, VIR_TYPED_PARAM_INT},
    {"comp-mt-threads", VIR_MIGRATE_PARAM_COMPRESSION_MT_THREADS, VIR_TYPED_PARAM_INT},
    {"comp-mt-dthreads", VIR_MIGRATE_PARAM_COMPRESSION_MT_DTHREADS, VIR_TYPED_PARAM_INT},
    {"comp-xbzrle-cache", VIR_MIGRATE_PARAM_COMPRESSION_XBZRLE_CACHE, VIR_TYPED_PARAM_ULLONG},
    {"auto-converge-initial", VIR_MIGRATE_PARAM_AUTO_CONVERGE_INITIAL, VIR_TYPED_PARAM_INT},
    {"auto-converge-increment", VIR_MIGRATE_PARAM_AUTO_CONVERGE_INCREMENT, VIR_TYPED_PARAM_INT},
    {"postcopy-bandwidth", VIR_MIGRATE_PARAM_BANDWIDTH_POSTCOPY, VIR_TYPED_PARAM_ULLONG},
    {"parallel-connections", VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS, VIR_TYPED_PARAM_INT},
    {"bandwidth", VIR_MIGRATE_PARAM_BANDWIDTH, VIR_TYPED_PARAM_ULLONG},
    {"tls-destination", VIR_MIGRATE_PARAM_TLS_DESTINATION, VIR_TYPED_PARAM_STRING},
};

static unsigned migrate_flags(struct call *c)
{
    return opt_flags(c, "live", VIR_MIGRATE_LIVE, "offline", VIR_MIGRATE_OFFLINE, "p2p", VIR_MIGRATE_PEER2PEER, "tunnelled", VIR_MIGRATE_TUNNELLED,
        "persistent", VIR_MIGRATE_PERSIST_DEST, "undefinesource", VIR_MIGRATE_UNDEFINE_SOURCE, "suspend", VIR_MIGRATE_PAUSED,
        "copy-storage-all", VIR_MIGRATE_NON_SHARED_DISK, "copy-storage-inc", VIR_MIGRATE_NON_SHARED_INC,
        "copy-storage-synchronous-writes", VIR_MIGRATE_NON_SHARED_SYNCHRONOUS_WRITES, "change-protection", VIR_MIGRATE_CHANGE_PROTECTION,
        "unsafe", VIR_MIGRATE_UNSAFE, "compressed", VIR_MIGRATE_COMPRESSED, "auto-converge", VIR_MIGRATE_AUTO_CONVERGE,
        "rdma-pin-all", VIR_MIGRATE_RDMA_PIN_ALL, "abort-on-error", VIR_MIGRATE_ABORT_ON_ERROR, "postcopy", VIR_MIGRATE_POSTCOPY,
        "postcopy-resume", VIR_MIGRATE_POSTCOPY_RESUME, "zerocopy", VIR_MIGRATE_ZEROCOPY, "tls", VIR_MIGRATE_TLS, "parallel", VIR_MIGRATE_PARALLEL, NULL);
}

static bool string_list(struct params *p, const char *text, const char *key)
{
    g_auto(GStrv) words = g_strsplit(text ? text : "", ",", -1);
    return !text || virTypedParamsAddStringList(&p->list, &p->n, &p->max, key, (const char **)words) == 0;
}

static bool file_parameter(struct call *c, struct params *p, const char *option, const char *key)
{
    if (!opt_str(c, option))
        return true;
    g_autofree char *text = opt_file(c, option);
    return text && virTypedParamsAddString(&p->list, &p->n, &p->max, key, text) == 0;
}

static bool migrate_parameters(struct call *c, struct params *p)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(parameters); i++)
        if (!params_from_option(c, p, parameters[i].option, parameters[i].field, parameters[i].kind))
            return false;
    return string_list(p, opt_str(c, "migrate-disks"), VIR_MIGRATE_PARAM_MIGRATE_DISKS) && string_list(p, opt_str(c, "comp-methods"), VIR_MIGRATE_PARAM_COMPRESSION)
        && file_parameter(c, p, "xml", VIR_MIGRATE_PARAM_DEST_XML) && file_parameter(c, p, "persistent-xml", VIR_MIGRATE_PARAM_PERSIST_XML);
}

struct migration {
    struct call *c;
    virDomainPtr domain;
    virConnectPtr there;
    struct params p;
    unsigned flags;
    int result;
    virErrorPtr error;
    gint done;
};

static gpointer migrate_thread(gpointer opaque)
{
    struct migration *m = opaque;
    if (m->there) {
        g_autoptr(virDomain) moved = virDomainMigrate3(m->domain, m->there, m->p.list, m->p.n, m->flags);
        m->result = moved ? 0 : -1;
    } else {
        m->result = virDomainMigrateToURI3(m->domain, opt_str(m->c, "desturi"), m->p.list, m->p.n, m->flags);
    }
    m->error = m->result < 0 ? virSaveLastError() : NULL;
    g_atomic_int_set(&m->done, 1);
    return NULL;
}

/* Shows how far it is; ^C ends it; when the time is up the guest pauses, or what --timeout-postcopy says. */
static bool migrate_watch(struct migration *m, int timeout)
{
    struct call *c = m->c;
    bool verbose = opt_bool(c, "verbose"), late = false, after_first = opt_bool(c, "postcopy-after-precopy");
    gint64 end = timeout > 0 ? g_get_monotonic_time() + timeout * G_USEC_PER_SEC : G_MAXINT64;
    int shown = -1;
    GThread *thread = g_thread_new("migrate", migrate_thread, m);
    vireo_catch_interrupt(true);
    for (unsigned tick = 0; !g_atomic_int_get(&m->done); tick++) {
        virDomainJobInfo info;
        g_usleep(20000);
        if (vireo_interrupted())
            virDomainAbortJob(m->domain);
        if (!late && g_get_monotonic_time() > end) {
            late = true;
            if (opt_bool(c, "timeout-postcopy"))
                virDomainMigrateStartPostCopy(m->domain, 0);
            else
                virDomainSuspend(m->domain);
        }
        if (tick % 10 || (!verbose && !after_first) || virDomainGetJobInfo(m->domain, &info) < 0 || !info.dataTotal)
            continue;
        int percent = 100 - (int)(100.0 * info.dataRemaining / info.dataTotal);
        if (verbose && percent != shown)
            fprintf(stderr, "\rMigration: [%3d %%]", percent);
        shown = percent;
        if (after_first && info.memProcessed >= info.memTotal && info.memTotal) {
            after_first = false;
            virDomainMigrateStartPostCopy(m->domain, 0);
        }
    }
    vireo_catch_interrupt(false);
    g_thread_join(thread);
    if (verbose && !m->result)
        fprintf(stderr, "\rMigration: [%3d %%]\n", 100);
    if (m->result < 0) {
        forget_library_error(c->v);
        c->v->last_error = m->error;
    }
    return m->result == 0;
}

static bool cmd_migrate(struct call *c)
{
    int timeout = 0;
    if (!opt_exclusive(c, "live", "offline", NULL) || !opt_exclusive(c, "timeout-suspend", "timeout-postcopy", NULL)
        || !opt_exclusive(c, "copy-storage-all", "copy-storage-inc", NULL) || opt_int(c, "timeout", &timeout) < 0)
        return false;
    if (opt_str(c, "timeout") && timeout < 1)
        return complain(c, "migrate: Invalid timeout");
    if (opt_str(c, "timeout") && !opt_bool(c, "live"))
        return complain(c, "migrate: Unexpected timeout for offline migration");
    g_autoptr(virDomain) domain = arg_domain(c);
    struct migration m = {.c = c, .domain = domain, .flags = migrate_flags(c)};
    bool good = domain && migrate_parameters(c, &m.p);
    bool alone = opt_bool(c, "p2p") || opt_bool(c, "direct");
    if (good && !alone) {
        m.there = virConnectOpenAuth(opt_str(c, "desturi"), virConnectAuthPtrDefault, 0);
        good = m.there != NULL;
    }
    good = good && migrate_watch(&m, timeout);
    if (m.there)
        virConnectClose(m.there);
    params_clear(&m.p);
    return good;
}

static bool cmd_set_downtime(struct call *c)
{
    unsigned long long ms = 0;
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain || opt_ull(c, "downtime", &ms) < 0)
        return false;
    if (ms < 1)
        return complain(c, "migrate: Invalid downtime");
    return virDomainMigrateSetMaxDowntime(domain, ms, 0) == 0;
}

static bool cmd_get_downtime(struct call *c)
{
    unsigned long long ms;
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain || virDomainMigrateGetMaxDowntime(domain, &ms, 0) < 0)
        return false;
    return say_value(c, "milliseconds", "%llu", ms);
}

static bool cmd_compcache(struct call *c)
{
    unsigned long long size = 0;
    const char *unit;
    g_autoptr(virDomain) domain = arg_domain(c);
    int set = domain ? opt_size(c, "size", &size, 1) : -1;
    if (set < 0 || (set && virDomainMigrateSetCompressionCache(domain, size, 0) < 0) || virDomainMigrateGetCompressionCache(domain, &size, 0) < 0)
        return false;
    double value = pretty_size(size, &unit);
    json_member(c, "bytes", "%llu", size);
    say(c, "Compression cache: %.3lf %s", value, unit);
    return true;
}

static bool cmd_setspeed(struct call *c)
{
    unsigned long long mib = 0;
    g_autoptr(virDomain) domain = arg_domain(c);
    return domain && opt_ull(c, "bandwidth", &mib) > 0
        && virDomainMigrateSetMaxSpeed(domain, mib, opt_flags(c, "postcopy", VIR_DOMAIN_MIGRATE_MAX_SPEED_POSTCOPY, NULL)) == 0;
}

static bool cmd_getspeed(struct call *c)
{
    unsigned long mib;
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain || virDomainMigrateGetMaxSpeed(domain, &mib, opt_flags(c, "postcopy", VIR_DOMAIN_MIGRATE_MAX_SPEED_POSTCOPY, NULL)) < 0)
        return false;
    return say_value(c, "mib-per-second", "%lu", mib);
}

static bool cmd_postcopy(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    return domain && virDomainMigrateStartPostCopy(domain, 0) == 0;
}

static bool cmd_jobabort(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    unsigned flags = opt_flags(c, "postcopy", VIR_DOMAIN_ABORT_JOB_POSTCOPY, NULL);
    return domain && (flags ? virDomainAbortJobFlags(domain, flags) : virDomainAbortJob(domain)) == 0;
}

enum unit { MILLISECONDS, SIZE, RATE, COUNT, SIGNED };

/* What jobinfo tells, in its order. */
static const struct {
    const char *field, *label;
    enum unit unit;
} job_rows[] = {
    {VIR_DOMAIN_JOB_TIME_ELAPSED, "Time elapsed:", MILLISECONDS},
    {VIR_DOMAIN_JOB_TIME_ELAPSED_NET, "Time elapsed w/o network:", MILLISECONDS},
    {VIR_DOMAIN_JOB_TIME_REMAINING, "Time remaining:", MILLISECONDS},
    {VIR_DOMAIN_JOB_DATA_PROCESSED, "Data processed:", SIZE},
    {VIR_DOMAIN_JOB_DATA_REMAINING, "Data remaining:", SIZE},
    {VIR_DOMAIN_JOB_DATA_TOTAL, "Data total:", SIZE},
    {VIR_DOMAIN_JOB_MEMORY_PROCESSED, "Memory processed:", SIZE},
    {VIR_DOMAIN_JOB_MEMORY_REMAINING, "Memory remaining:", SIZE},
    {VIR_DOMAIN_JOB_MEMORY_TOTAL, "Memory total:", SIZE},
    {VIR_DOMAIN_JOB_MEMORY_BPS, "Memory bandwidth:", RATE},
    {VIR_DOMAIN_JOB_DISK_PROCESSED, "File processed:", SIZE},
    {VIR_DOMAIN_JOB_DISK_REMAINING, "File remaining:", SIZE},
    {VIR_DOMAIN_JOB_DISK_TOTAL, "File total:", SIZE},
    {VIR_DOMAIN_JOB_DISK_BPS, "File bandwidth:", RATE},
    {VIR_DOMAIN_JOB_MEMORY_DIRTY_RATE, "Dirty rate:", COUNT},
    {VIR_DOMAIN_JOB_MEMORY_PAGE_SIZE, "Page size:", COUNT},
    {VIR_DOMAIN_JOB_MEMORY_ITERATION, "Iteration:", COUNT},
    {VIR_DOMAIN_JOB_MEMORY_POSTCOPY_REQS, "Postcopy requests:", COUNT},
    {VIR_DOMAIN_JOB_MEMORY_CONSTANT, "Constant pages:", COUNT},
    {VIR_DOMAIN_JOB_MEMORY_NORMAL, "Normal pages:", COUNT},
    {VIR_DOMAIN_JOB_MEMORY_NORMAL_BYTES, "Normal data:", SIZE},
    {VIR_DOMAIN_JOB_DOWNTIME, "Total downtime:", MILLISECONDS},
    {VIR_DOMAIN_JOB_SETUP_TIME, "Setup time:", MILLISECONDS},
    {VIR_DOMAIN_JOB_AUTO_CONVERGE_THROTTLE, "Auto converge throttle:", SIGNED},
};

static void job_line(struct call *c, struct params *p, unsigned i)
{
    unsigned long long n = 0;
    int number = 0;
    const char *unit;
    if (job_rows[i].unit == SIGNED) {
        if (virTypedParamsGetInt(p->list, p->n, job_rows[i].field, &number) != 1)
            return;
        json_member(c, job_rows[i].field, "%d", number);
        say(c, "%-17s %-13d\n", job_rows[i].label, number);
        return;
    }
    if (virTypedParamsGetULLong(p->list, p->n, job_rows[i].field, &n) != 1)
        return;
    json_member(c, job_rows[i].field, "%llu", n);
    double value = pretty_size(n, &unit);
    switch (job_rows[i].unit) {
    case MILLISECONDS: say(c, "%-17s %-12llu ms\n", job_rows[i].label, n); break;
    case SIZE: say(c, "%-17s %-.3lf %s\n", job_rows[i].label, value, unit); break;
    case RATE: say(c, "%-17s %-.3lf %s/s\n", job_rows[i].label, value, unit); break;
    default:
        if (!strcmp(job_rows[i].field, VIR_DOMAIN_JOB_MEMORY_DIRTY_RATE))
            say(c, "%-17s %-12llu pages/s\n", job_rows[i].label, n);
        else if (!strcmp(job_rows[i].field, VIR_DOMAIN_JOB_MEMORY_PAGE_SIZE))
            say(c, "%-17s %-12llu bytes\n", job_rows[i].label, n);
        else
            say(c, "%-17s %-12llu\n", job_rows[i].label, n);
    }
}

static bool job_statistics(struct call *c, virDomainPtr domain, int *type, struct params *p)
{
    unsigned flags = opt_flags(c, "completed", VIR_DOMAIN_JOB_STATS_COMPLETED, "keep-completed", VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED | VIR_DOMAIN_JOB_STATS_COMPLETED, NULL);
    if (virDomainGetJobStats(domain, type, &p->list, &p->n, flags) == 0)
        return true;
    virDomainJobInfo info;
    if (flags || !c->v->last_error || c->v->last_error->code != VIR_ERR_NO_SUPPORT)
        return false;
    forget_library_error(c->v);
    if (virDomainGetJobInfo(domain, &info) < 0)
        return false;
    *type = info.type;
    const struct {
        const char *field;
        unsigned long long value;
    } old[] = {{VIR_DOMAIN_JOB_TIME_ELAPSED, info.timeElapsed}, {VIR_DOMAIN_JOB_TIME_REMAINING, info.timeRemaining},
        {VIR_DOMAIN_JOB_DATA_PROCESSED, info.dataProcessed}, {VIR_DOMAIN_JOB_DATA_REMAINING, info.dataRemaining}, {VIR_DOMAIN_JOB_DATA_TOTAL, info.dataTotal},
        {VIR_DOMAIN_JOB_MEMORY_PROCESSED, info.memProcessed}, {VIR_DOMAIN_JOB_MEMORY_REMAINING, info.memRemaining}, {VIR_DOMAIN_JOB_MEMORY_TOTAL, info.memTotal}};
    for (unsigned i = 0; i < G_N_ELEMENTS(old); i++)
        virTypedParamsAddULLong(&p->list, &p->n, &p->max, old[i].field, old[i].value);
    return true;
}

static bool cmd_jobinfo(struct call *c)
{
    static const char *const types[] = {"None", "Bounded", "Unbounded", "Completed", "Failed", "Cancelled"};
    static const char *const operations[] = {"Unknown", "Start", "Save", "Restore", "Incoming migration", "Outgoing migration", "Snapshot", "Snapshot revert",
        "Dump", "Backup", "Snapshot delete"};
    g_autoptr(virDomain) domain = arg_domain(c);
    struct params p = {};
    int type, operation = 0;
    if (!domain || !job_statistics(c, domain, &type, &p))
        return false;
    if (opt_bool(c, "rawstats")) {
        json_member(c, "Job type", "%d", type);
        say(c, "Job type: %d\n\n", type);
        for (int i = 0; i < p.n; i++) {
            g_autofree char *text = param_text(&p.list[i]);
            value_line(c, p.list[i].field, text, "%s: %s", p.list[i].field, text);
        }
        params_clear(&p);
        return true;
    }
    const char *name = type >= 0 && type < 6 ? types[type] : "Unknown";
    json_member(c, "Job type", "%s", name);
    say(c, "%-17s %-12s\n", "Job type:", name);
    bool more = opt_bool(c, "anystats") || (type != VIR_DOMAIN_JOB_NONE && (opt_bool(c, "completed") || type == VIR_DOMAIN_JOB_BOUNDED || type == VIR_DOMAIN_JOB_UNBOUNDED));
    if (more) {
        virTypedParamsGetInt(p.list, p.n, VIR_DOMAIN_JOB_OPERATION, &operation);
        const char *what = operation >= 0 && operation < (int)G_N_ELEMENTS(operations) ? operations[operation] : operations[0];
        json_member(c, "Operation", "%s", what);
        say(c, "%-17s %-12s\n", "Operation:", what);
        for (unsigned i = 0; i < G_N_ELEMENTS(job_rows); i++)
            job_line(c, &p, i);
    }
    params_clear(&p);
    return true;
}

const struct command domain_migrate_commands[] = {
    {"domjobabort", "domain", "domain! postcopy", cmd_jobabort, 0, "End what is under way with a domain"},
    {"domjobinfo", "domain", "domain! completed keep-completed anystats rawstats", cmd_jobinfo, COMMAND_LIST, "Tell how far the job of a domain is"},
    {"migrate", "domain",
        "domain! desturi! live offline p2p direct tunnelled persistent undefinesource suspend copy-storage-all copy-storage-inc "
        "copy-storage-synchronous-writes change-protection unsafe verbose compressed auto-converge rdma-pin-all abort-on-error "
        "postcopy postcopy-after-precopy postcopy-resume zerocopy migrateuri= graphicsuri= listen-address= dname= timeout# "
        "timeout-suspend timeout-postcopy xml= migrate-disks= disks-port# disks-uri= comp-methods= comp-mt-level# "
        "comp-mt-threads# comp-mt-dthreads# comp-xbzrle-cache# auto-converge-initial# auto-converge-increment# persistent-xml= "
        "tls postcopy-bandwidth# parallel parallel-connections# bandwidth# tls-destination=",
        cmd_migrate, 0, "Move a domain to another host"},
    {"migrate-compcache", "domain", "domain! size#@", cmd_compcache, COMMAND_LIST, "Show or set the cache of compressed migration"},
    {"migrate-getmaxdowntime", "domain", "domain!", cmd_get_downtime, COMMAND_LIST, "Print how long a guest may stand still in migration"},
    {"migrate-getspeed", "domain", "domain! postcopy", cmd_getspeed, COMMAND_LIST, "Print the rate limit of migration"},
    {"migrate-postcopy", "domain", "domain!", cmd_postcopy, 0, "Let the guest run there before all of its memory has come"},
    {"migrate-setmaxdowntime", "domain", "domain! downtime#!", cmd_set_downtime, 0, "Set how long a guest may stand still in migration"},
    {"migrate-setspeed", "domain", "domain! bandwidth#! postcopy", cmd_setspeed, 0, "Set the rate limit of migration"},
    {},
};
