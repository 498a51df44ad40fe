/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Disks at work: copying, committing, pulling, resizing; and backups. */
#include "vireo_commands.h"
#include "vireo_domain.h"

#include <stdlib.h>
#include <string.h>

/* --bandwidth counts in MiB/s, or in bytes with --bytes. */
static bool bandwidth(struct call *c, unsigned long *ret_mib_or_bytes)
{
    unsigned long long n = 0;
    *ret_mib_or_bytes = 0;
    if (!opt_str(c, "bandwidth"))
        return true;
    if (opt_size(c, "bandwidth", &n, opt_bool(c, "bytes") ? 1 : 1024 * 1024) < 0)
        return false;
    *ret_mib_or_bytes = opt_bool(c, "bytes") ? n : n / (1024 * 1024);
    return true;
}

/* Waits for the job of a disk: shows how far it is, ends it on ^C or when --timeout is over. `until_ready` also ends when all is copied
 * and only writes are mirrored. */
static bool wait_job(struct call *c, virDomainPtr domain, const char *disk, const char *label, bool until_ready, bool *ret_ready)
{
    int timeout = 0, shown = -1;
    bool verbose = opt_bool(c, "verbose"), good = true, told = false;
    if (opt_int(c, "timeout", &timeout) < 0)
        return false;
    gint64 end = timeout ? g_get_monotonic_time() + timeout * G_USEC_PER_SEC : G_MAXINT64;
    *ret_ready = false;
    vireo_catch_interrupt(true);
    for (;;) {
        virDomainBlockJobInfo info;
        int n = virDomainGetBlockJobInfo(domain, disk, &info, 0);
        if (n < 0) {
            good = complain(c, "failed to query job for disk %s", disk);
            break;
        }
        if (!n)
            break;
        int percent = info.end ? (int)(100.0 * info.cur / info.end) : 0;
        if (percent >= 100 && info.cur < info.end)
            percent = 99;
        if (verbose && percent != shown)
            fprintf(stderr, "\r%s: [%3d %%]", label, percent);
        shown = percent;
        if (until_ready && info.end && info.cur == info.end) {
            *ret_ready = true;
            break;
        }
        if (!told && (vireo_interrupted() || g_get_monotonic_time() > end)) {
            if (virDomainBlockJobAbort(domain, disk, opt_bool(c, "async") ? VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC : 0) < 0)
                complain(c, "failed to abort job for disk '%s'", disk);
            told = true;
            good = false;
        }
        g_usleep(100000);
    }
    vireo_catch_interrupt(false);
    if (verbose && good && shown < 100)
        fprintf(stderr, "\r%s: [%3d %%]", label, 100);
    return good;
}

/* Whether the command stays until the job has ended. */
static bool wants_wait(struct call *c)
{
    return opt_bool(c, "wait") || opt_str(c, "timeout") || opt_bool(c, "pivot") || opt_bool(c, "finish") || opt_bool(c, "keep-overlay");
}

/* --verbose and --async tell how to wait, so something must ask for waiting. */
static bool needs_wait(struct call *c, const char *ending)
{
    const char *how = opt_bool(c, "verbose") ? "verbose" : opt_bool(c, "async") ? "async" : NULL;
    if (!ending && !opt_bool(c, "wait")) {
        const char *asks = how ? how : opt_str(c, "timeout") ? "timeout" : NULL;
        return !asks || complain(c, "Option --%s is required by option --%s", "wait", asks);
    }
    if (how && !wants_wait(c))
        return complain(c, "--%s requires at least one of --timeout, --wait, --pivot, or --%s", how, ending);
    return true;
}

static bool finish_job(struct call *c, virDomainPtr domain, const char *disk, bool ready, bool pivot, bool finish, const char *done_text)
{
    if (pivot && virDomainBlockJobAbort(domain, disk, VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT) < 0)
        return complain(c, "failed to pivot job for disk %s", disk);
    if (finish && virDomainBlockJobAbort(domain, disk, 0) < 0)
        return complain(c, "failed to finish job for disk %s", disk);
    say(c, "\n%s", pivot ? "Successfully pivoted" : finish ? "Successfully copied" : ready ? "Now in mirroring phase" : done_text);
    return true;
}

static bool cmd_blockpull(struct call *c)
{
    unsigned long rate;
    const char *disk = opt_str(c, "path"), *base = opt_str(c, "base");
    unsigned flags = opt_flags(c, "keep-relative", VIR_DOMAIN_BLOCK_REBASE_RELATIVE, "bytes", VIR_DOMAIN_BLOCK_REBASE_BANDWIDTH_BYTES, NULL);
    bool ready;
    if (!needs_wait(c, NULL) || !bandwidth(c, &rate))
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain)
        return false;
    if (!opt_str(c, "bandwidth"))
        flags &= ~VIR_DOMAIN_BLOCK_REBASE_BANDWIDTH_BYTES;
    int result = base || (flags & VIR_DOMAIN_BLOCK_REBASE_RELATIVE)
        ? virDomainBlockRebase(domain, disk, base, rate, flags)
        : virDomainBlockPull(domain, disk, rate, flags & VIR_DOMAIN_BLOCK_REBASE_BANDWIDTH_BYTES ? VIR_DOMAIN_BLOCK_PULL_BANDWIDTH_BYTES : 0);
    if (result < 0)
        return false;
    if (!wants_wait(c)) {
        note(c, "Block Pull started");
        return true;
    }
    if (!wait_job(c, domain, disk, "Block Pull", false, &ready)) {
        say(c, "\nPull aborted");
        return false;
    }
    say(c, "\nPull complete");
    return true;
}

static bool cmd_blockcommit(struct call *c)
{
    unsigned long rate;
    const char *disk = opt_str(c, "path");
    bool pivot = opt_bool(c, "pivot"), keep = opt_bool(c, "keep-overlay"), active = opt_bool(c, "active") || pivot || keep, ready;
    unsigned flags = opt_flags(c, "shallow", VIR_DOMAIN_BLOCK_COMMIT_SHALLOW, "delete", VIR_DOMAIN_BLOCK_COMMIT_DELETE,
        "keep-relative", VIR_DOMAIN_BLOCK_COMMIT_RELATIVE, NULL);
    if (!opt_exclusive(c, "pivot", "keep-overlay", NULL) || !needs_wait(c, "keep-overlay") || !bandwidth(c, &rate))
        return false;
    if (active)
        flags |= VIR_DOMAIN_BLOCK_COMMIT_ACTIVE;
    if (opt_bool(c, "bytes") && opt_str(c, "bandwidth"))
        flags |= VIR_DOMAIN_BLOCK_COMMIT_BANDWIDTH_BYTES;
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain || virDomainBlockCommit(domain, disk, opt_str(c, "base"), opt_str(c, "top"), rate, flags) < 0)
        return false;
    if (!wants_wait(c)) {
        note(c, active ? "Active Block Commit started" : "Block Commit started");
        return true;
    }
    if (!wait_job(c, domain, disk, "Block commit", active, &ready)) {
        say(c, "\nCommit aborted");
        return false;
    }
    return finish_job(c, domain, disk, ready, pivot, keep, "Commit complete");
}

static char *copy_document(struct call *c)
{
    if (opt_str(c, "xml"))
        return opt_file(c, "xml");
    bool block = opt_bool(c, "blockdev");
    g_autofree char *source = g_markup_printf_escaped(block ? "  <source dev='%s'/>\n" : "  <source file='%s'/>\n", opt_str(c, "dest"));
    g_autofree char *driver = opt_str(c, "format") ? g_markup_printf_escaped("  <driver type='%s'/>\n", opt_str(c, "format")) : g_strdup("");
    return g_strdup_printf("<disk type='%s'>\n%s%s</disk>\n", block ? "block" : "file", source, driver);
}

static bool cmd_blockcopy(struct call *c)
{
    const char *disk = opt_str(c, "path");
    bool pivot = opt_bool(c, "pivot"), finish = opt_bool(c, "finish"), ready;
    unsigned long rate;
    unsigned flags = opt_flags(c, "shallow", VIR_DOMAIN_BLOCK_COPY_SHALLOW, "reuse-external", VIR_DOMAIN_BLOCK_COPY_REUSE_EXT,
        "transient-job", VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB, "synchronous-writes", VIR_DOMAIN_BLOCK_COPY_SYNCHRONOUS_WRITES, NULL);
    if (!opt_exclusive(c, "pivot", "finish", NULL) || !opt_exclusive(c, "dest", "xml", NULL) || !needs_wait(c, "finish") || !bandwidth(c, &rate))
        return false;
    if (!opt_str(c, "dest") && !opt_str(c, "xml"))
        return complain(c, "need either --dest or --xml");
    g_autofree char *xml = copy_document(c);
    if (!xml)
        return false;
    if (opt_bool(c, "print-xml")) {
        say(c, "%s", xml);
        return true;
    }
    g_autoptr(virDomain) domain = arg_domain(c);
    struct params p = {};
    if (rate)
        virTypedParamsAddULLong(&p.list, &p.n, &p.max, VIR_DOMAIN_BLOCK_COPY_BANDWIDTH, opt_bool(c, "bytes") ? rate : rate * 1024 * 1024);
    bool good = domain && params_from_option(c, &p, "granularity", VIR_DOMAIN_BLOCK_COPY_GRANULARITY, VIR_TYPED_PARAM_UINT)
        && params_from_option(c, &p, "buf-size", VIR_DOMAIN_BLOCK_COPY_BUF_SIZE, VIR_TYPED_PARAM_ULLONG)
        && virDomainBlockCopy(domain, disk, xml, p.list, p.n, flags) == 0;
    params_clear(&p);
    if (!good)
        return false;
    if (!wants_wait(c)) {
        note(c, "Block Copy started");
        return true;
    }
    if (!wait_job(c, domain, disk, "Block Copy", true, &ready)) {
        say(c, "\nCopy aborted");
        return false;
    }
    return finish_job(c, domain, disk, ready, pivot, finish, "Copy complete");
}

static bool job_info(struct call *c, virDomainPtr domain, const char *disk)
{
    static const char *const types[] = {"Unknown job", "Block Pull", "Block Copy", "Block Commit", "Active Block Commit", "Backup"};
    virDomainBlockJobInfo info;
    const char *unit;
    bool raw = opt_bool(c, "raw"), bytes = opt_bool(c, "bytes");
    int n = virDomainGetBlockJobInfo(domain, disk, &info, VIR_DOMAIN_BLOCK_JOB_INFO_BANDWIDTH_BYTES);
    bool in_bytes = n >= 0;
    if (n < 0) {
        forget_library_error(c->v);
        n = virDomainGetBlockJobInfo(domain, disk, &info, 0);
    }
    if (n < 0)
        return false;
    if (!n) {
        if (!raw)
            say(c, "No current block job for %s", disk);
        return true;
    }
    unsigned long long rate = in_bytes ? info.bandwidth : (unsigned long long)info.bandwidth * 1024 * 1024;
    const char *type = info.type >= 0 && info.type < (int)G_N_ELEMENTS(types) ? types[info.type] : types[0];
    json_member(c, "type", "%s", type);
    json_member(c, "bandwidth", "%llu", rate);
    json_member(c, "cur", "%llu", info.cur);
    json_member(c, "end", "%llu", info.end);
    if (raw) {
        say(c, " type=%s\n bandwidth=%llu\n cur=%llu\n end=%llu\n", type, bytes ? rate : rate / (1024 * 1024), info.cur, info.end);
        return true;
    }
    say(c, "%s: [%3d %%]", type, info.end ? (int)(100.0 * info.cur / info.end) : 0);
    if (rate) {
        double value = pretty_size(rate, &unit);
        say(c, "    Bandwidth limit: %llu bytes/s (%-.3lf %s/s)", rate, value, unit);
    }
    say(c, "\n");
    return true;
}

static bool cmd_blockjob(struct call *c)
{
    unsigned long rate;
    const char *disk = opt_str(c, "path");
    bool abort = opt_bool(c, "abort") || opt_bool(c, "pivot") || opt_bool(c, "async");
    static const char *const shows[] = {"info", "raw"}, *const changes[] = {"abort", "async", "pivot", "bandwidth"};
    for (unsigned i = 0; i < G_N_ELEMENTS(shows); i++)
        for (unsigned k = 0; k < G_N_ELEMENTS(changes); k++)
            if (!opt_exclusive(c, shows[i], changes[k], NULL))
                return false;
    if (!bandwidth(c, &rate))
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain)
        return false;
    if (abort)
        return virDomainBlockJobAbort(domain, disk, opt_flags(c, "async", VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC, "pivot", VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT, NULL)) == 0;
    if (opt_str(c, "bandwidth"))
        return virDomainBlockJobSetSpeed(domain, disk, rate, opt_bool(c, "bytes") ? VIR_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES : 0) == 0;
    return job_info(c, domain, disk);
}

static bool cmd_blockresize(struct call *c)
{
    unsigned long long bytes;
    const char *disk = opt_str(c, "path");
    if (opt_size(c, "size", &bytes, 1024) <= 0)
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain)
        return false;
    bool whole = bytes % 1024 == 0;
    if (virDomainBlockResize(domain, disk, whole ? bytes / 1024 : bytes, whole ? 0 : VIR_DOMAIN_BLOCK_RESIZE_BYTES) < 0)
        return complain(c, "Failed to resize block device '%s'", disk);
    note(c, "Block device '%s' is resized", disk);
    return true;
}

static bool cmd_threshold(struct call *c)
{
    unsigned long long bytes;
    g_autoptr(virDomain) domain = arg_domain(c);
    return domain && opt_size(c, "threshold", &bytes, 1) > 0 && virDomainSetBlockThreshold(domain, opt_str(c, "dev"), bytes, 0) == 0;
}

static bool cmd_backup_begin(struct call *c)
{
    g_autofree char *backup = opt_str(c, "backupxml") ? opt_file(c, "backupxml") : g_strdup("<domainbackup/>");
    g_autofree char *checkpoint = backup && opt_str(c, "checkpointxml") ? opt_file(c, "checkpointxml") : NULL;
    if (!backup || (opt_str(c, "checkpointxml") && !checkpoint))
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain || virDomainBackupBegin(domain, backup, checkpoint, opt_flags(c, "reuse-external", VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL, NULL)) < 0)
        return false;
    note(c, "Backup started\n");
    return true;
}

static bool cmd_backup_dumpxml(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    g_autofree char *text = domain ? virDomainBackupGetXMLDesc(domain, 0) : NULL;
    return text && print_document(c, text);
}

const struct command domain_block_commands[] = {
    {"backup-begin", "backup", "domain! backupxml= checkpointxml= reuse-external", cmd_backup_begin, 0, "Start a backup of a running domain's disks"},
    {"backup-dumpxml", "backup", "domain! xpath=@ wrap", cmd_backup_dumpxml, 0, "Print the document of the backup under way"},
    {"blockcommit", "domain",
        "domain! path! bandwidth# base= shallow top= active delete wait verbose timeout# pivot keep-overlay async keep-relative "
        "bytes",
        cmd_blockcommit, 0, "Write an overlay back into what it stands on"},
    {"blockcopy", "domain",
        "domain! path! dest= bandwidth# shallow reuse-external blockdev wait verbose timeout# pivot finish async xml= format= "
        "granularity# buf-size# bytes transient-job synchronous-writes print-xml",
        cmd_blockcopy, 0, "Copy a disk while the guest uses it"},
    {"blockjob", "domain", "domain! path! abort async pivot info bytes raw bandwidth#", cmd_blockjob, COMMAND_LIST, "Show, slow down or end the job of a disk"},
    {"blockpull", "domain",
        "domain! path! bandwidth# base= wait verbose timeout# async keep-relative bytes",
        cmd_blockpull, 0, "Bring all data of a backing file into the image"},
    {"blockresize", "domain", "domain! path! size#!", cmd_blockresize, 0, "Change the size of a disk in use"},
    {"domblkthreshold", "domain", "domain! dev! threshold#!", cmd_threshold, 0, "Ask for an event when a disk has been written this far"},
    {},
};
