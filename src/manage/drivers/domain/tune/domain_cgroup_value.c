/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Values of control groups: one meaning, two sets of files (kernel documentation, admin-guide/cgroup-v1 and admin-guide/cgroup-v2). */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "manage/core/manage_error.h"
#include "manage/drivers/domain/tune/domain_cgroup.h"

enum { V2_WEIGHT_MAX = 10000 };

static bool write_number(const struct cgroup *g, const char *child, enum cgroup_controller c, const char *file, int64_t v, GError **error)
{
    char text[24];
    g_snprintf(text, sizeof(text), "%" G_GINT64_FORMAT, v);
    return cgroup_write(g, child, c, file, text, error);
}

static bool read_number(const struct cgroup *g, const char *child, enum cgroup_controller c, const char *file, int64_t *ret)
{
    g_autofree char *text = cgroup_read(g, child, c, file);
    if (!text || !(g_ascii_isdigit(*text) || *text == '-'))
        return false;
    *ret = g_ascii_strtoll(text, NULL, 10);
    return true;
}

/* ---- processor time ---- */

bool cgroup_set_shares(const struct cgroup *g, uint64_t shares, GError **error)
{
    if (!cgroup_has(g, CGROUP_CPU) || !cgroup_is_v2(g, CGROUP_CPU))
        return write_number(g, NULL, CGROUP_CPU, "cpu.shares", (int64_t)MIN(shares, G_MAXINT64), error);
    if (shares < 1 || shares > V2_WEIGHT_MAX)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "shares '%" G_GUINT64_FORMAT "' must be in range [1, %d]", shares, V2_WEIGHT_MAX);
    return write_number(g, NULL, CGROUP_CPU, "cpu.weight", (int64_t)shares, error);
}

bool cgroup_get_shares(const struct cgroup *g, uint64_t *ret)
{
    int64_t v;
    if (!cgroup_has(g, CGROUP_CPU) || !read_number(g, NULL, CGROUP_CPU, cgroup_is_v2(g, CGROUP_CPU) ? "cpu.weight" : "cpu.shares", &v))
        return false;
    *ret = (uint64_t)v;
    return true;
}

bool cgroup_get_bandwidth(const struct cgroup *g, const char *child, uint64_t *ret_period, int64_t *ret_quota)
{
    int64_t period, quota;
    if (!cgroup_has(g, CGROUP_CPU))
        return false;
    if (cgroup_is_v2(g, CGROUP_CPU)) {
        g_autofree char *text = cgroup_read(g, child, CGROUP_CPU, "cpu.max");
        const char *at = text ? strchr(text, ' ') : NULL;
        if (!at)
            return false;
        *ret_quota = *text == 'm' ? -1 : g_ascii_strtoll(text, NULL, 10);
        *ret_period = g_ascii_strtoull(at + 1, NULL, 10);
        return true;
    }
    if (!read_number(g, child, CGROUP_CPU, "cpu.cfs_period_us", &period) || !read_number(g, child, CGROUP_CPU, "cpu.cfs_quota_us", &quota))
        return false;
    *ret_period = (uint64_t)period;
    *ret_quota = quota;
    return true;
}

/* The two are one value to the kernel: what does not go together leaves the old ones. */
static bool set_bandwidth_v1(const struct cgroup *g, const char *child, uint64_t period, int64_t quota, GError **error)
{
    int64_t old = 0;
    if (period && !read_number(g, child, CGROUP_CPU, "cpu.cfs_period_us", &old))
        old = 0;
    if (period && !write_number(g, child, CGROUP_CPU, "cpu.cfs_period_us", (int64_t)period, error))
        return false;
    if (!quota || write_number(g, child, CGROUP_CPU, "cpu.cfs_quota_us", quota < 0 ? -1 : quota, error))
        return true;
    if (old)
        (void)!write_number(g, child, CGROUP_CPU, "cpu.cfs_period_us", old, NULL);
    return false;
}

bool cgroup_set_bandwidth(const struct cgroup *g, const char *child, uint64_t period, int64_t quota, GError **error)
{
    uint64_t old_period = 100000;
    int64_t old_quota = -1;
    char text[64];
    if (!period && !quota)
        return true;
    if (!cgroup_has(g, CGROUP_CPU) || !cgroup_is_v2(g, CGROUP_CPU))
        return set_bandwidth_v1(g, child, period, quota, error);
    (void)cgroup_get_bandwidth(g, child, &old_period, &old_quota);
    period = period ? period : old_period;
    quota = quota ? quota : old_quota;
    if (quota < 0)
        g_snprintf(text, sizeof(text), "max %" G_GUINT64_FORMAT, period);
    else
        g_snprintf(text, sizeof(text), "%" G_GINT64_FORMAT " %" G_GUINT64_FORMAT, quota, period);
    return cgroup_write(g, child, CGROUP_CPU, "cpu.max", text, error);
}

bool cgroup_get_time(const struct cgroup *g, uint64_t *ret_all, uint64_t *ret_user, uint64_t *ret_system)
{
    unsigned long long all, user, sys;
    if (!cgroup_has(g, CGROUP_CPUACCT))
        return false;
    bool v2 = cgroup_is_v2(g, CGROUP_CPUACCT);
    g_autofree char *text = cgroup_read(g, NULL, CGROUP_CPUACCT, v2 ? "cpu.stat" : "cpuacct.stat"), *usage = v2 ? NULL : cgroup_read(g, NULL, CGROUP_CPUACCT, "cpuacct.usage");
    if (v2) {
        if (!text || sscanf(text, "usage_usec %llu user_usec %llu system_usec %llu", &all, &user, &sys) != 3)
            return false;
        all *= 1000, user *= 1000, sys *= 1000;
    } else {
        if (!text || !usage || sscanf(text, "user %llu system %llu", &user, &sys) != 2)
            return false;
        unsigned long long tick = 1000000000ull / (unsigned long long)sysconf(_SC_CLK_TCK);
        all = g_ascii_strtoull(usage, NULL, 10), user *= tick, sys *= tick;
    }
    *ret_all = all;
    *ret_user = user;
    *ret_system = sys;
    return true;
}

GArray *cgroup_get_time_by_cpu(const struct cgroup *g, const char *child)
{
    if (!cgroup_has(g, CGROUP_CPUACCT) || cgroup_is_v2(g, CGROUP_CPUACCT))
        return NULL;
    g_autofree char *text = cgroup_read(g, child, CGROUP_CPUACCT, "cpuacct.usage_percpu");
    if (!text)
        return NULL;
    GArray *ret = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    g_auto(GStrv) words = g_strsplit(text, " ", -1);
    for (char **w = words; *w; w++) {
        uint64_t v = g_ascii_strtoull(*w, NULL, 10);
        if (g_ascii_isdigit(**w))
            g_array_append_val(ret, v);
    }
    return ret;
}

/* ---- memory ---- */

static const char *const memory_files[][2] = { [CGROUP_HARD] = { "memory.limit_in_bytes", "memory.max" }, [CGROUP_SOFT] = { "memory.soft_limit_in_bytes", "memory.high" },
                                               [CGROUP_SWAP] = { "memory.memsw.limit_in_bytes", "memory.swap.max" } };

static bool read_limit(const struct cgroup *g, const char *file, uint64_t *ret_kib)
{
    g_autofree char *text = cgroup_read(g, NULL, CGROUP_MEMORY, file);
    if (!text)
        return false;
    uint64_t bytes = g_ascii_isdigit(*text) ? g_ascii_strtoull(text, NULL, 10) : UINT64_MAX; /* "max" */
    *ret_kib = MIN(bytes >> 10, CGROUP_UNLIMITED);
    if (*ret_kib >= CGROUP_UNLIMITED - 3) /* v1's own largest number, in whole pages */
        *ret_kib = CGROUP_UNLIMITED;
    return true;
}

bool cgroup_get_memory(const struct cgroup *g, enum cgroup_limit which, uint64_t *ret_kib)
{
    if (!cgroup_has(g, CGROUP_MEMORY))
        return false;
    bool v2 = cgroup_is_v2(g, CGROUP_MEMORY);
    uint64_t kib, hard;
    if (!read_limit(g, memory_files[which][v2], &kib))
        return false;
    if (v2 && which == CGROUP_SWAP && kib != CGROUP_UNLIMITED) {
        if (!read_limit(g, memory_files[CGROUP_HARD][1], &hard))
            return false;
        kib = hard == CGROUP_UNLIMITED ? hard : kib + hard;
    }
    *ret_kib = kib;
    return true;
}

bool cgroup_set_memory(const struct cgroup *g, enum cgroup_limit which, uint64_t kib, GError **error)
{
    bool v2 = cgroup_has(g, CGROUP_MEMORY) && cgroup_is_v2(g, CGROUP_MEMORY);
    const char *file = memory_files[which][v2];
    if (kib >= CGROUP_UNLIMITED)
        return cgroup_write(g, NULL, CGROUP_MEMORY, file, v2 ? "max" : "-1", error);
    if (v2 && which == CGROUP_SWAP) {
        uint64_t hard = CGROUP_UNLIMITED;
        if (!read_limit(g, memory_files[CGROUP_HARD][1], &hard) || hard == CGROUP_UNLIMITED || hard > kib)
            return manage_fail(error, VIR_ERR_INVALID_ARG, "a limit of memory and swap together needs a hard limit of memory that is not above it");
        kib -= hard;
    }
    return write_number(g, NULL, CGROUP_MEMORY, file, (int64_t)(kib << 10), error);
}

/* ---- block I/O ---- */

/* The weight is in a file of the scheduler's that is there, BFQ's or the older one. */
static const char *weight_file(const struct cgroup *g)
{
    static const char *const files[][2] = { { "blkio.weight", "io.weight" }, { "blkio.bfq.weight", "io.bfq.weight" } };
    for (unsigned i = 0; i < G_N_ELEMENTS(files); i++) {
        const char *file = files[i][cgroup_is_v2(g, CGROUP_IO)];
        g_autofree char *text = cgroup_read(g, NULL, CGROUP_IO, file);
        if (text)
            return file;
    }
    return NULL;
}

bool cgroup_set_weight(const struct cgroup *g, unsigned weight, GError **error)
{
    char text[32];
    if (!cgroup_has(g, CGROUP_IO))
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "blkio cgroup isn't mounted");
    const char *file = weight_file(g);
    if (!file)
        return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "the host has no block I/O weights: its kernel lacks a scheduler with them (BFQ)");
    g_snprintf(text, sizeof(text), "%s%u", cgroup_is_v2(g, CGROUP_IO) ? "default " : "", weight);
    return cgroup_write(g, NULL, CGROUP_IO, file, text, error);
}

bool cgroup_get_weight(const struct cgroup *g, unsigned *ret)
{
    const char *file = cgroup_has(g, CGROUP_IO) ? weight_file(g) : NULL;
    g_autofree char *text = file ? cgroup_read(g, NULL, CGROUP_IO, file) : NULL;
    const char *at = text && g_str_has_prefix(text, "default ") ? text + 8 : text;
    if (!at || !g_ascii_isdigit(*at))
        return false;
    *ret = (unsigned)g_ascii_strtoull(at, NULL, 10);
    return true;
}

bool cgroup_set_device(const struct cgroup *g, enum cgroup_io which, const char *path, uint64_t value, GError **error)
{
    static const struct { const char *v1, *v2; } rows[] = {
        [CGROUP_IO_WEIGHT] = { "weight_device", "" }, [CGROUP_IO_READ_IOPS] = { "blkio.throttle.read_iops_device", "riops" }, [CGROUP_IO_WRITE_IOPS] = { "blkio.throttle.write_iops_device", "wiops" },
        [CGROUP_IO_READ_BYTES] = { "blkio.throttle.read_bps_device", "rbps" }, [CGROUP_IO_WRITE_BYTES] = { "blkio.throttle.write_bps_device", "wbps" } };
    struct stat st;
    if (!cgroup_has(g, CGROUP_IO))
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "blkio cgroup isn't mounted");
    if (stat(path, &st) < 0)
        return manage_fail_errno(error, errno, "cannot look at the device '%s'", path);
    if (!S_ISBLK(st.st_mode))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "path '%s' must be a block device", path);
    bool v2 = cgroup_is_v2(g, CGROUP_IO);
    const char *weights = which == CGROUP_IO_WEIGHT ? weight_file(g) : "";
    if (!weights)
        return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "the host has no block I/O weights: its kernel lacks a scheduler with them (BFQ)");
    g_autofree char *number = v2 && which == CGROUP_IO_WEIGHT && !value ? g_strdup("default") : v2 && !value ? g_strdup("max") : g_strdup_printf("%" G_GUINT64_FORMAT, value);
    g_autofree char *text = g_strdup_printf("%u:%u %s%s%s", major(st.st_rdev), minor(st.st_rdev), v2 ? rows[which].v2 : "", v2 && *rows[which].v2 ? "=" : "", number);
    g_autofree char *file = which != CGROUP_IO_WEIGHT ? g_strdup(v2 ? "io.max" : rows[which].v1) : v2 ? g_strdup(weights) : g_strconcat(weights, "_device", NULL);
    return cgroup_write(g, NULL, CGROUP_IO, file, text, error);
}

/* ---- processors and memory nodes ---- */

/* v1 lets no group have what its parent has not, nor less than its children: the domain's own group stays as wide as the partition's. */
bool cgroup_set_cpus(const struct cgroup *g, const char *child, const char *cpus, GError **error)
{
    return cgroup_write(g, child, CGROUP_CPUSET, "cpuset.cpus", cpus, error);
}

bool cgroup_set_mems(const struct cgroup *g, const char *child, const char *nodes, GError **error)
{
    if (cgroup_has(g, CGROUP_CPUSET) && !cgroup_is_v2(g, CGROUP_CPUSET) && !cgroup_write(g, child, CGROUP_CPUSET, "cpuset.memory_migrate", "1", error))
        return false; /* what has been allocated moves along */
    return cgroup_write(g, child, CGROUP_CPUSET, "cpuset.mems", nodes, error);
}
