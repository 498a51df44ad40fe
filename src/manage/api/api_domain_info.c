/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Domains: replies that become C structures. */
#include <stdlib.h>
#include <string.h>

#include "manage/api/api.h"

/* Sets the error where the caller's result pointer is missing. */
#define NEED(pointer) ((pointer) || (api_fail(NULL, VIR_ERR_INVALID_ARG, "%s in %s must not be NULL", #pointer, __func__), false))

int virDomainGetInfo(virDomainPtr domain, virDomainInfoPtr info)
{
    g_autoptr(GVariant) r = CALL(domain, DOMAIN_GET_INFO, domain);
    if (!r || !NEED(info))
        return -1;
    uint64_t max, memory, time;
    memset(info, 0, sizeof(*info));
    g_variant_get(r, "(yttqt)", &info->state, &max, &memory, &info->nrVirtCpu, &time);
    info->maxMem = max;
    info->memory = memory;
    info->cpuTime = time;
    return 0;
}

int virDomainGetState(virDomainPtr domain, int *state, int *reason, unsigned int flags)
{
    g_autoptr(GVariant) r = CALL(domain, DOMAIN_GET_STATE, domain, flags);
    if (!r || !NEED(state))
        return -1;
    int why;
    g_variant_get(r, "(ii)", state, reason ? reason : &why);
    return 0;
}

int virDomainGetControlInfo(virDomainPtr domain, virDomainControlInfoPtr info, unsigned int flags)
{
    g_autoptr(GVariant) r = CALL(domain, DOMAIN_GET_CONTROL_INFO, domain, flags);
    if (!r || !NEED(info))
        return -1;
    uint64_t time;
    g_variant_get(r, "(uut)", &info->state, &info->details, &time);
    info->stateTime = time;
    return 0;
}

int virDomainGetAutostart(virDomainPtr domain, int *autostart)
{
    g_autoptr(GVariant) r = CALL(domain, DOMAIN_GET_AUTOSTART, domain);
    if (!r || !NEED(autostart))
        return -1;
    g_variant_get(r, "(i)", autostart);
    return 0;
}

unsigned long virDomainGetMaxMemory(virDomainPtr domain)
{
    g_autoptr(GVariant) r = CALL(domain, DOMAIN_GET_MAX_MEMORY, domain);
    uint64_t v = 0;
    if (r)
        g_variant_get(r, "(t)", &v);
    return v;
}

int virDomainGetTime(virDomainPtr dom, long long *seconds, unsigned int *nseconds, unsigned int flags)
{
    g_autoptr(GVariant) r = CALL(dom, DOMAIN_GET_TIME, dom, flags);
    int64_t s;
    unsigned n;
    if (!r)
        return -1;
    g_variant_get(r, "(xu)", &s, &n);
    if (seconds)
        *seconds = s;
    if (nseconds)
        *nseconds = n;
    return 0;
}

char *virDomainGetSchedulerType(virDomainPtr domain, int *nparams)
{
    g_autoptr(GVariant) r = CALL(domain, DOMAIN_GET_SCHEDULER_TYPE, domain);
    char *type = NULL;
    int n;
    if (r)
        g_variant_get(r, "(si)", &type, nparams ? nparams : &n);
    return type;
}

static int get_u64(GVariant *reply, unsigned long long *ret)
{
    g_autoptr(GVariant) r = reply;
    uint64_t v;
    if (!r)
        return -1;
    g_variant_get(r, "(t)", &v);
    if (ret)
        *ret = v;
    return 0;
}

int virDomainMigrateGetCompressionCache(virDomainPtr domain, unsigned long long *cacheSize, unsigned int flags)
{
    return get_u64(CALL(domain, DOMAIN_MIGRATE_GET_COMPRESSION_CACHE, domain, flags), cacheSize);
}

int virDomainMigrateGetMaxDowntime(virDomainPtr domain, unsigned long long *downtime, unsigned int flags)
{
    return get_u64(CALL(domain, DOMAIN_MIGRATE_GET_MAX_DOWNTIME, domain, flags), downtime);
}

int virDomainMigrateGetMaxSpeed(virDomainPtr domain, unsigned long *bandwidth, unsigned int flags)
{
    unsigned long long v = 0;
    int ret = get_u64(CALL(domain, DOMAIN_MIGRATE_GET_MAX_SPEED, domain, flags), &v);
    if (!ret && bandwidth)
        *bandwidth = v;
    return ret;
}

/* ---- blocks and interfaces ---- */

int virDomainGetBlockInfo(virDomainPtr domain, const char *disk, virDomainBlockInfoPtr info, unsigned int flags)
{
    g_autoptr(GVariant) r = CALL(domain, DOMAIN_GET_BLOCK_INFO, domain, disk, flags);
    if (!r || !NEED(info))
        return -1;
    uint64_t allocation, capacity, physical; /* the wire's order is not the structure's */
    g_variant_get(r, "(ttt)", &allocation, &capacity, &physical);
    *info = (virDomainBlockInfo){ .allocation = allocation, .capacity = capacity, .physical = physical };
    return 0;
}

int virDomainGetBlockJobInfo(virDomainPtr dom, const char *disk, virDomainBlockJobInfoPtr info, unsigned int flags)
{
    g_autoptr(GVariant) r = CALL(dom, DOMAIN_GET_BLOCK_JOB_INFO, dom, disk, flags);
    if (!r || !NEED(info))
        return -1;
    int found, type;
    uint64_t bandwidth, cur, end;
    g_variant_get(r, "(iittt)", &found, &type, &bandwidth, &cur, &end);
    memset(info, 0, sizeof(*info));
    if (found)
        *info = (virDomainBlockJobInfo){ type, bandwidth, cur, end };
    return found;
}

/* A structure of 64-bit numbers that callers may know shorter. */
static int get_numbers(GVariant *reply, void *to, size_t size)
{
    g_autoptr(GVariant) r = reply;
    if (!r)
        return -1;
    size_t n = MIN(g_variant_n_children(r), size / sizeof(int64_t));
    for (size_t i = 0; to && i < n; i++)
        g_variant_get_child(r, i, "x", (int64_t *)to + i);
    return 0;
}

int virDomainBlockStats(virDomainPtr dom, const char *disk, virDomainBlockStatsPtr stats, size_t size)
{
    return get_numbers(CALL(dom, DOMAIN_BLOCK_STATS, dom, disk), stats, MIN(size, sizeof(*stats)));
}

int virDomainInterfaceStats(virDomainPtr dom, const char *device, virDomainInterfaceStatsPtr stats, size_t size)
{
    return get_numbers(CALL(dom, DOMAIN_INTERFACE_STATS, dom, device), stats, MIN(size, sizeof(*stats)));
}

static GVariant *bytes_of(GVariant *reply, unsigned at)
{
    return g_variant_get_child_value(reply, at);
}

/* Copies the reply's bytes `at` into the caller's buffer; what is missing is 0. */
static void copy_bytes(GVariant *reply, unsigned at, void *to, size_t size)
{
    g_autoptr(GVariant) v = bytes_of(reply, at);
    size_t n = MIN(g_variant_get_size(v), size);
    if (!to)
        return;
    memset(to, 0, size);
    if (n)
        memcpy(to, g_variant_get_data(v), n);
}

static int peek(GVariant *reply, void *buffer, size_t size)
{
    g_autoptr(GVariant) r = reply;
    if (r)
        copy_bytes(r, 0, buffer, size);
    return r ? 0 : -1;
}

int virDomainBlockPeek(virDomainPtr dom, const char *disk, unsigned long long offset, size_t size, void *buffer, unsigned int flags)
{
    return peek(CALL(dom, DOMAIN_BLOCK_PEEK, dom, disk, (uint64_t)offset, (unsigned)size, flags), buffer, size);
}

int virDomainMemoryPeek(virDomainPtr dom, unsigned long long start, size_t size, void *buffer, unsigned int flags)
{
    return peek(CALL(dom, DOMAIN_MEMORY_PEEK, dom, (uint64_t)start, (unsigned)size, flags), buffer, size);
}

int virDomainGetDiskErrors(virDomainPtr dom, virDomainDiskErrorPtr errors, unsigned int maxerrors, unsigned int flags)
{
    g_autoptr(GVariant) r = CALL(dom, DOMAIN_GET_DISK_ERRORS, dom, maxerrors, flags);
    if (!r)
        return -1;
    g_autoptr(GVariant) list = g_variant_get_child_value(r, 0);
    int count;
    g_variant_get_child(r, 1, "i", &count);
    unsigned n = MIN((unsigned)g_variant_n_children(list), maxerrors);
    for (unsigned i = 0; errors && i < n; i++)
        g_variant_get_child(list, i, "(si)", &errors[i].disk, &errors[i].error);
    return errors ? (int)n : count;
}

/* ---- statistics ---- */

int virDomainMemoryStats(virDomainPtr dom, virDomainMemoryStatPtr stats, unsigned int nr_stats, unsigned int flags)
{
    if (!nr_stats)
        return BEGIN(dom) ? 0 : -1;
    g_autoptr(GVariant) r = CALL(dom, DOMAIN_MEMORY_STATS, dom, MIN(nr_stats, 1024u), flags);
    if (!r || !NEED(stats))
        return -1;
    g_autoptr(GVariant) list = g_variant_get_child_value(r, 0);
    unsigned n = MIN((unsigned)g_variant_n_children(list), nr_stats);
    for (unsigned i = 0; i < n; i++) {
        uint64_t v;
        g_variant_get_child(list, i, "(it)", &stats[i].tag, &v);
        stats[i].val = v;
    }
    return (int)n;
}

static virDomainStatsRecordPtr record_of(virConnectPtr conn, GVariant *row)
{
    g_autoptr(GVariant) domain = g_variant_get_child_value(row, 0), params = g_variant_get_child_value(row, 1);
    virDomainStatsRecordPtr rec = g_new0(virDomainStatsRecord, 1);
    rec->dom = api_object_of(conn, API_DOMAIN, domain, NULL);
    rec->params = api_params_of(params, &rec->nparams);
    return rec;
}

static int take_stats(virConnectPtr conn, GVariant *reply, virDomainStatsRecordPtr **ret)
{
    g_autoptr(GVariant) r = reply;
    if (!r)
        return -1;
    g_autoptr(GVariant) list = g_variant_get_child_value(r, 0);
    gsize n = g_variant_n_children(list);
    virDomainStatsRecordPtr *rows = g_new0(virDomainStatsRecordPtr, n + 1);
    for (gsize i = 0; i < n; i++) {
        g_autoptr(GVariant) row = g_variant_get_child_value(list, i);
        rows[i] = record_of(conn, row);
    }
    *ret = rows;
    return (int)n;
}

int virConnectGetAllDomainStats(virConnectPtr conn, unsigned int stats, virDomainStatsRecordPtr **retStats, unsigned int flags)
{
    GVariant *r = CALL(conn, CONNECT_GET_ALL_DOMAIN_STATS, NULL, 0u, stats, flags);
    return r && !NEED(retStats) ? (g_variant_unref(r), -1) : take_stats(conn, r, retStats);
}

int virDomainListGetStats(virDomainPtr *doms, unsigned int stats, virDomainStatsRecordPtr **retStats, unsigned int flags)
{
    virResetLastError();
    unsigned n = 0;
    while (doms && doms[n])
        n++;
    if (!n) {
        api_fail(NULL, VIR_ERR_INVALID_ARG, "doms in %s must name at least one domain", __func__);
        return -1;
    }
    GVariant *r = CALL(doms[0], CONNECT_GET_ALL_DOMAIN_STATS, doms, n, stats, flags);
    return r && !NEED(retStats) ? (g_variant_unref(r), -1) : take_stats(doms[0]->o.conn, r, retStats);
}

void virDomainStatsRecordListFree(virDomainStatsRecordPtr *stats)
{
    for (virDomainStatsRecordPtr *s = stats; s && *s; s++) {
        virTypedParamsFree((*s)->params, (*s)->nparams);
        api_object_unref((*s)->dom);
        g_free(*s);
    }
    g_free(stats);
}

/* Rows of processor i begin at params[i * nparams]; unused ones have an empty name. */
static int scatter(GVariant *list, virTypedParameterPtr params, unsigned per_cpu, unsigned per_cpu_caller)
{
    gsize n = g_variant_n_children(list);
    for (gsize i = 0; per_cpu && i < n; i++) {
        gsize cpu = i / per_cpu, at = i % per_cpu;
        if (at >= per_cpu_caller)
            continue;
        g_autoptr(GVariant) row = g_variant_get_child_value(list, i), one = NULL;
        one = g_variant_ref_sink(g_variant_new_array(G_VARIANT_TYPE("(sv)"), &row, 1));
        if (api_params_fill(one, &params[cpu * per_cpu_caller + at], 1) < 0)
            return -1;
    }
    return 0;
}

int virDomainGetCPUStats(virDomainPtr domain, virTypedParameterPtr params, unsigned int nparams, int start_cpu, unsigned int ncpus, unsigned int flags)
{
    g_autoptr(GVariant) r = CALL(domain, DOMAIN_GET_CPU_STATS, domain, nparams, start_cpu, ncpus, api_string_flags(domain, flags));
    if (!r)
        return -1;
    g_autoptr(GVariant) list = g_variant_get_child_value(r, 0);
    int per_cpu;
    g_variant_get_child(r, 1, "i", &per_cpu);
    gsize n = g_variant_n_children(list);
    if (!nparams || !n)
        return per_cpu;
    if (per_cpu <= 0 || !NEED(params) || n > (gsize)per_cpu * MAX(ncpus, 1)) {
        api_fail(domain->o.conn, VIR_ERR_RPC, "%" G_GSIZE_FORMAT " statistics for %u processors", n, ncpus);
        return -1;
    }
    memset(params, 0, sizeof(*params) * nparams * MAX(ncpus, 1));
    return scatter(list, params, (unsigned)per_cpu, nparams) < 0 ? -1 : per_cpu;
}

/* ---- jobs ---- */

int virDomainGetJobInfo(virDomainPtr domain, virDomainJobInfoPtr info)
{
    g_autoptr(GVariant) r = CALL(domain, DOMAIN_GET_JOB_INFO, domain);
    if (!r || !NEED(info))
        return -1;
    uint64_t v[11];
    g_variant_get_child(r, 0, "i", &info->type);
    for (unsigned i = 0; i < 11; i++)
        g_variant_get_child(r, i + 1, "t", &v[i]);
    *info = (virDomainJobInfo){ info->type, v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9], v[10] };
    return 0;
}

int virDomainGetJobStats(virDomainPtr domain, int *type, virTypedParameterPtr *params, int *nparams, unsigned int flags)
{
    g_autoptr(GVariant) r = CALL(domain, DOMAIN_GET_JOB_STATS, domain, flags);
    if (!r || !NEED(type) || !NEED(params) || !NEED(nparams))
        return -1;
    g_variant_get_child(r, 0, "i", type);
    g_autoptr(GVariant) list = g_variant_get_child_value(r, 1);
    *params = api_params_of(list, nparams);
    return 0;
}

int virDomainGetGuestInfo(virDomainPtr domain, unsigned int types, virTypedParameterPtr *params, int *nparams, unsigned int flags)
{
    return PARAMS_NEW(domain, params, nparams, DOMAIN_GET_GUEST_INFO, domain, types, flags);
}

int virDomainGetGuestVcpus(virDomainPtr domain, virTypedParameterPtr *params, unsigned int *nparams, unsigned int flags)
{
    return PARAMS_NEW(domain, params, (int *)nparams, DOMAIN_GET_GUEST_VCPUS, domain, flags);
}

int virDomainGetLaunchSecurityInfo(virDomainPtr domain, virTypedParameterPtr *params, int *nparams, unsigned int flags)
{
    return PARAMS_NEW(domain, params, nparams, DOMAIN_GET_LAUNCH_SECURITY_INFO, domain, flags);
}

int virDomainGetPerfEvents(virDomainPtr domain, virTypedParameterPtr *params, int *nparams, unsigned int flags)
{
    return PARAMS_NEW(domain, params, nparams, DOMAIN_GET_PERF_EVENTS, domain, flags);
}

int virDomainGetMessages(virDomainPtr domain, char ***msgs, unsigned int flags)
{
    return api_names_new(ON(domain), msgs, RPC_DOMAIN_GET_MESSAGES, domain, flags);
}

int virDomainAuthorizedSSHKeysGet(virDomainPtr domain, const char *user, char ***keys, unsigned int flags)
{
    return api_names_new(ON(domain), keys, RPC_DOMAIN_AUTHORIZED_SSH_KEYS_GET, domain, user, flags);
}

/* ---- processors ---- */

int virDomainGetVcpus(virDomainPtr domain, virVcpuInfoPtr info, int maxinfo, unsigned char *cpumaps, int maplen)
{
    g_autoptr(GVariant) r = CALL(domain, DOMAIN_GET_VCPUS, domain, maxinfo, cpumaps ? maplen : 0);
    if (!r)
        return -1;
    g_autoptr(GVariant) list = g_variant_get_child_value(r, 0);
    int n = MIN((int)g_variant_n_children(list), maxinfo);
    for (int i = 0; info && i < n; i++) {
        uint64_t time;
        g_variant_get_child(list, (gsize)i, "(uiti)", &info[i].number, &info[i].state, &time, &info[i].cpu);
        info[i].cpuTime = time;
    }
    if (cpumaps && maplen > 0 && maxinfo > 0)
        copy_bytes(r, 1, cpumaps, (size_t)maplen * (size_t)maxinfo);
    return n;
}

int virDomainGetVcpuPinInfo(virDomainPtr domain, int ncpumaps, unsigned char *cpumaps, int maplen, unsigned int flags)
{
    g_autoptr(GVariant) r = CALL(domain, DOMAIN_GET_VCPU_PIN_INFO, domain, ncpumaps, maplen, flags);
    int n;
    if (!r || !NEED(cpumaps))
        return -1;
    copy_bytes(r, 0, cpumaps, (size_t)MAX(maplen, 0) * (size_t)MAX(ncpumaps, 0));
    g_variant_get_child(r, 1, "i", &n);
    return n;
}

int virDomainGetEmulatorPinInfo(virDomainPtr domain, unsigned char *cpumap, int maplen, unsigned int flags)
{
    g_autoptr(GVariant) r = CALL(domain, DOMAIN_GET_EMULATOR_PIN_INFO, domain, maplen, flags);
    int n;
    if (!r || !NEED(cpumap))
        return -1;
    copy_bytes(r, 0, cpumap, (size_t)MAX(maplen, 0));
    g_variant_get_child(r, 1, "i", &n);
    return n;
}

int virDomainGetIOThreadInfo(virDomainPtr dom, virDomainIOThreadInfoPtr **info, unsigned int flags)
{
    g_autoptr(GVariant) r = CALL(dom, DOMAIN_GET_IOTHREAD_INFO, dom, flags);
    if (!r || !NEED(info))
        return -1;
    g_autoptr(GVariant) list = g_variant_get_child_value(r, 0);
    gsize n = g_variant_n_children(list);
    *info = g_new0(virDomainIOThreadInfoPtr, n + 1);
    for (gsize i = 0; i < n; i++) {
        g_autoptr(GVariant) row = g_variant_get_child_value(list, i), map = g_variant_get_child_value(row, 1);
        virDomainIOThreadInfoPtr t = (*info)[i] = g_new0(virDomainIOThreadInfo, 1);
        g_variant_get_child(row, 0, "u", &t->iothread_id);
        t->cpumaplen = (int)g_variant_get_size(map);
        t->cpumap = g_memdup2(g_variant_get_data(map), (gsize)t->cpumaplen);
    }
    return (int)n;
}

void virDomainIOThreadInfoFree(virDomainIOThreadInfoPtr info)
{
    if (info)
        g_free(info->cpumap);
    g_free(info);
}

/* ---- what the guest says ---- */

int virDomainGetFSInfo(virDomainPtr dom, virDomainFSInfoPtr **info, unsigned int flags)
{
    g_autoptr(GVariant) r = CALL(dom, DOMAIN_GET_FSINFO, dom, flags);
    if (!r)
        return -1;
    g_autoptr(GVariant) list = g_variant_get_child_value(r, 0);
    gsize n = g_variant_n_children(list);
    if (!info) {
        unsigned count;
        g_variant_get_child(r, 1, "u", &count);
        return (int)count;
    }
    *info = g_new0(virDomainFSInfoPtr, n + 1);
    for (gsize i = 0; i < n; i++) {
        virDomainFSInfoPtr f = (*info)[i] = g_new0(virDomainFSInfo, 1);
        g_variant_get_child(list, i, "(sss^as)", &f->mountpoint, &f->name, &f->fstype, &f->devAlias);
        f->ndevAlias = g_strv_length(f->devAlias);
    }
    return (int)n;
}

void virDomainFSInfoFree(virDomainFSInfoPtr info)
{
    if (!info)
        return;
    g_free(info->mountpoint);
    g_free(info->name);
    g_free(info->fstype);
    g_strfreev(info->devAlias);
    g_free(info);
}

static virDomainInterfacePtr interface_of(GVariant *row)
{
    virDomainInterfacePtr f = g_new0(virDomainInterface, 1);
    g_autoptr(GVariant) addresses = g_variant_get_child_value(row, 2);
    g_variant_get_child(row, 0, "s", &f->name);
    g_variant_get_child(row, 1, "ms", &f->hwaddr);
    f->naddrs = (unsigned)g_variant_n_children(addresses);
    f->addrs = g_new0(virDomainIPAddress, f->naddrs + 1);
    for (unsigned i = 0; i < f->naddrs; i++)
        g_variant_get_child(addresses, i, "(isu)", &f->addrs[i].type, &f->addrs[i].addr, &f->addrs[i].prefix);
    return f;
}

int virDomainInterfaceAddresses(virDomainPtr dom, virDomainInterfacePtr **ifaces, unsigned int source, unsigned int flags)
{
    g_autoptr(GVariant) r = CALL(dom, DOMAIN_INTERFACE_ADDRESSES, dom, source, flags);
    if (!r || !NEED(ifaces))
        return -1;
    g_autoptr(GVariant) list = g_variant_get_child_value(r, 0);
    gsize n = g_variant_n_children(list);
    *ifaces = g_new0(virDomainInterfacePtr, n + 1);
    for (gsize i = 0; i < n; i++) {
        g_autoptr(GVariant) row = g_variant_get_child_value(list, i);
        (*ifaces)[i] = interface_of(row);
    }
    return (int)n;
}

void virDomainInterfaceFree(virDomainInterfacePtr iface)
{
    if (!iface)
        return;
    for (unsigned i = 0; i < iface->naddrs; i++)
        g_free(iface->addrs[i].addr);
    g_free(iface->addrs);
    g_free(iface->name);
    g_free(iface->hwaddr);
    g_free(iface);
}

/* ---- labels ---- */

static void take_label(GVariant *row, virSecurityLabelPtr label)
{
    memset(label, 0, sizeof(*label));
    copy_bytes(row, 0, label->label, sizeof(label->label));
    label->label[sizeof(label->label) - 1] = 0;
    g_variant_get_child(row, 1, "i", &label->enforcing);
}

int virDomainGetSecurityLabel(virDomainPtr domain, virSecurityLabelPtr seclabel)
{
    g_autoptr(GVariant) r = CALL(domain, DOMAIN_GET_SECURITY_LABEL, domain);
    if (!r || !NEED(seclabel))
        return -1;
    take_label(r, seclabel);
    return 0;
}

int virDomainGetSecurityLabelList(virDomainPtr domain, virSecurityLabelPtr *seclabels)
{
    g_autoptr(GVariant) r = CALL(domain, DOMAIN_GET_SECURITY_LABEL_LIST, domain);
    if (!r || !NEED(seclabels))
        return -1;
    g_autoptr(GVariant) list = g_variant_get_child_value(r, 0);
    gsize n = g_variant_n_children(list);
    *seclabels = g_new0(virSecurityLabel, n + 1);
    for (gsize i = 0; i < n; i++) {
        g_autoptr(GVariant) row = g_variant_get_child_value(list, i);
        take_label(row, &(*seclabels)[i]);
    }
    return (int)n;
}
