/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Host, networks, storage, secrets, devices: replies that become C structures. */
#include <stdlib.h>
#include <string.h>

#include "manage/api/api.h"

#define NEED(pointer) ((pointer) || (api_fail(NULL, VIR_ERR_INVALID_ARG, "%s in %s must not be NULL", #pointer, __func__), false))

/* ---- connection and host ---- */

static int get_version(GVariant *reply, unsigned long *ret)
{
    g_autoptr(GVariant) r = reply;
    uint64_t v;
    if (!r)
        return -1;
    g_variant_get(r, "(t)", &v);
    *ret = v;
    return 0;
}

int virConnectGetVersion(virConnectPtr conn, unsigned long *hvVer)
{
    GVariant *r = CALL(conn, CONNECT_GET_VERSION);
    return r && !NEED(hvVer) ? (g_variant_unref(r), -1) : get_version(r, hvVer);
}

int virConnectGetLibVersion(virConnectPtr conn, unsigned long *libVer)
{
    GVariant *r = CALL(conn, CONNECT_GET_LIB_VERSION);
    return r && !NEED(libVer) ? (g_variant_unref(r), -1) : get_version(r, libVer);
}

int virNodeGetInfo(virConnectPtr conn, virNodeInfoPtr info)
{
    g_autoptr(GVariant) r = CALL(conn, NODE_GET_INFO);
    if (!r || !NEED(info))
        return -1;
    const char *model;
    uint64_t memory;
    memset(info, 0, sizeof(*info));
    g_variant_get(r, "(&stiiiiii)", &model, &memory, &info->cpus, &info->mhz, &info->nodes, &info->sockets, &info->cores, &info->threads);
    g_strlcpy(info->model, model, sizeof(info->model));
    info->memory = memory;
    return 0;
}

unsigned long long virNodeGetFreeMemory(virConnectPtr conn)
{
    g_autoptr(GVariant) r = CALL(conn, NODE_GET_FREE_MEMORY);
    uint64_t v = 0;
    if (r)
        g_variant_get(r, "(t)", &v);
    return v;
}

/* The reply's first list, of u64, into an array of `max`. */
static int copy_u64(GVariant *reply, unsigned long long *to, gsize max)
{
    g_autoptr(GVariant) r = reply;
    if (!r)
        return -1;
    g_autoptr(GVariant) list = g_variant_get_child_value(r, 0);
    gsize n = MIN(g_variant_n_children(list), max);
    for (gsize i = 0; to && i < n; i++) {
        uint64_t v;
        g_variant_get_child(list, i, "t", &v);
        to[i] = v;
    }
    return (int)n;
}

int virNodeGetCellsFreeMemory(virConnectPtr conn, unsigned long long *freeMems, int startCell, int maxCells)
{
    return copy_u64(CALL(conn, NODE_GET_CELLS_FREE_MEMORY, startCell, maxCells), freeMems, (gsize)MAX(maxCells, 0));
}

int virNodeGetFreePages(virConnectPtr conn, unsigned int npages, unsigned int *pages, int startCell, unsigned int cellCount, unsigned long long *counts,
                        unsigned int flags)
{
    return copy_u64(CALL(conn, NODE_GET_FREE_PAGES, pages, npages, startCell, cellCount, flags), counts, (gsize)npages * cellCount);
}

int virNodeAllocPages(virConnectPtr conn, unsigned int npages, unsigned int *pageSizes, unsigned long long *pageCounts, int startCell,
                      unsigned int cellCount, unsigned int flags)
{
    return INT(conn, NODE_ALLOC_PAGES, pageSizes, npages, pageCounts, npages, startCell, cellCount, flags);
}

/* Rows of a name and a number; both structures look alike. */
G_STATIC_ASSERT(sizeof(virNodeCPUStats) == sizeof(virNodeMemoryStats) && G_STRUCT_OFFSET(virNodeCPUStats, value) == G_STRUCT_OFFSET(virNodeMemoryStats, value));

static int node_stats(GVariant *reply, virNodeCPUStatsPtr params, int *nparams)
{
    g_autoptr(GVariant) r = reply;
    if (!r)
        return -1;
    if (!nparams) {
        api_fail(NULL, VIR_ERR_INVALID_ARG, "nparams must not be NULL");
        return -1;
    }
    if (!*nparams) {
        g_variant_get_child(r, 1, "i", nparams);
        return 0;
    }
    g_autoptr(GVariant) list = g_variant_get_child_value(r, 0);
    *nparams = MIN(*nparams, (int)g_variant_n_children(list));
    for (int i = 0; params && i < *nparams; i++) {
        const char *field;
        uint64_t v;
        g_variant_get_child(list, (gsize)i, "(&st)", &field, &v);
        g_strlcpy(params[i].field, field, sizeof(params[i].field));
        params[i].value = v;
    }
    return 0;
}

int virNodeGetCPUStats(virConnectPtr conn, int cpuNum, virNodeCPUStatsPtr params, int *nparams, unsigned int flags)
{
    return node_stats(CALL(conn, NODE_GET_CPU_STATS, cpuNum, api_count(nparams), flags), params, nparams);
}

int virNodeGetMemoryStats(virConnectPtr conn, int cellNum, virNodeMemoryStatsPtr params, int *nparams, unsigned int flags)
{
    return node_stats(CALL(conn, NODE_GET_MEMORY_STATS, api_count(nparams), cellNum, flags), (virNodeCPUStatsPtr)params, nparams);
}

int virNodeGetCPUMap(virConnectPtr conn, unsigned char **cpumap, unsigned int *online, unsigned int flags)
{
    g_autoptr(GVariant) r = CALL(conn, NODE_GET_CPU_MAP, !!cpumap, !!online, flags);
    if (!r)
        return -1;
    g_autoptr(GVariant) map = g_variant_get_child_value(r, 0);
    unsigned on;
    int n;
    g_variant_get_child(r, 1, "u", &on);
    g_variant_get_child(r, 2, "i", &n);
    if (cpumap)
        *cpumap = g_memdup2(g_variant_get_data(map), g_variant_get_size(map));
    if (online)
        *online = on;
    return n;
}

/* Asks twice: how many, then for them. */
static int params_twice(virTypedParameterPtr *params, int *nparams, GVariant *count, GVariant *(*ask)(void *o, int n, unsigned flags), void *o, unsigned flags)
{
    g_autoptr(GVariant) first = count;
    int n;
    if (!first)
        return -1;
    g_variant_get_child(first, 1, "i", &n);
    g_autoptr(GVariant) r = ask(o, n, flags);
    if (!r)
        return -1;
    g_autoptr(GVariant) list = g_variant_get_child_value(r, 0);
    *params = api_params_of(list, nparams);
    return 0;
}

static GVariant *ask_sev(void *o, int n, unsigned flags)
{
    virConnectPtr conn = o;
    return CALL(conn, NODE_GET_SEV_INFO, n, flags);
}

int virNodeGetSEVInfo(virConnectPtr conn, virTypedParameterPtr *params, int *nparams, unsigned int flags)
{
    flags = api_string_flags(conn, flags);
    GVariant *count = CALL(conn, NODE_GET_SEV_INFO, 0, flags);
    if (count && (!NEED(params) || !NEED(nparams)))
        return g_variant_unref(count), -1;
    return params_twice(params, nparams, count, ask_sev, conn, flags);
}

static GVariant *ask_port(void *o, int n, unsigned flags)
{
    virNetworkPortPtr port = o;
    return CALL(port, NETWORK_PORT_GET_PARAMETERS, port, n, flags);
}

int virNetworkPortGetParameters(virNetworkPortPtr port, virTypedParameterPtr *params, int *nparams, unsigned int flags)
{
    GVariant *count = CALL(port, NETWORK_PORT_GET_PARAMETERS, port, 0, flags);
    if (count && (!NEED(params) || !NEED(nparams)))
        return g_variant_unref(count), -1;
    return params_twice(params, nparams, count, ask_port, port, flags);
}

static void copy_text(GVariant *reply, unsigned at, char *to, size_t size)
{
    g_autoptr(GVariant) v = g_variant_get_child_value(reply, at);
    size_t n = MIN(g_variant_get_size(v), size - 1);
    memset(to, 0, size);
    if (n)
        memcpy(to, g_variant_get_data(v), n);
}

int virNodeGetSecurityModel(virConnectPtr conn, virSecurityModelPtr secmodel)
{
    g_autoptr(GVariant) r = CALL(conn, NODE_GET_SECURITY_MODEL);
    if (!r || !NEED(secmodel))
        return -1;
    copy_text(r, 0, secmodel->model, sizeof(secmodel->model));
    copy_text(r, 1, secmodel->doi, sizeof(secmodel->doi));
    return 0;
}

int virConnectGetCPUModelNames(virConnectPtr conn, const char *arch, char ***models, unsigned int flags)
{
    return api_names_new(ON(conn), models, RPC_CONNECT_GET_CPU_MODEL_NAMES, arch, !!models, flags);
}

int virConnectListDomains(virConnectPtr conn, int *ids, int maxids)
{
    g_autoptr(GVariant) r = CALL(conn, CONNECT_LIST_DOMAINS, maxids);
    if (!r)
        return -1;
    g_autoptr(GVariant) list = g_variant_get_child_value(r, 0);
    int n = MIN((int)g_variant_n_children(list), MAX(maxids, 0));
    for (int i = 0; ids && i < n; i++)
        g_variant_get_child(list, (gsize)i, "i", &ids[i]);
    return n;
}

/* ---- networks ---- */

/* An "i" that is returned through a pointer. */
static int get_flag(GVariant *reply, int *ret)
{
    g_autoptr(GVariant) r = reply;
    if (r && ret)
        g_variant_get(r, "(i)", ret);
    return r ? 0 : -1;
}

int virNetworkGetAutostart(virNetworkPtr network, int *autostart) { return get_flag(CALL(network, NETWORK_GET_AUTOSTART, network), autostart); }
int virStoragePoolGetAutostart(virStoragePoolPtr pool, int *autostart) { return get_flag(CALL(pool, STORAGE_POOL_GET_AUTOSTART, pool), autostart); }

int virNodeDeviceGetAutostart(virNodeDevicePtr dev, int *autostart)
{
    return get_flag(CALL(dev, NODE_DEVICE_GET_AUTOSTART, api_name(dev)), autostart);
}

const char *virNodeDeviceGetParent(virNodeDevicePtr dev)
{
    if (!BEGIN(dev))
        return NULL;
    char *parent = STRING(dev, NODE_DEVICE_GET_PARENT, api_name(dev));
    if (parent && !g_atomic_pointer_compare_and_exchange(&dev->o.more, NULL, parent))
        g_free(parent); /* it stays what it was: the caller may hold it */
    return dev->o.more;
}

static virNetworkDHCPLeasePtr lease_of(GVariant *row)
{
    virNetworkDHCPLeasePtr l = g_new0(virNetworkDHCPLease, 1);
    int64_t expiry;
    g_variant_get(row, "(sximsmssumsms)", &l->iface, &expiry, &l->type, &l->mac, &l->iaid, &l->ipaddr, &l->prefix, &l->hostname, &l->clientid);
    l->expirytime = expiry;
    return l;
}

int virNetworkGetDHCPLeases(virNetworkPtr network, const char *mac, virNetworkDHCPLeasePtr **leases, unsigned int flags)
{
    g_autoptr(GVariant) r = CALL(network, NETWORK_GET_DHCP_LEASES, network, mac, !!leases, flags);
    if (!r)
        return -1;
    g_autoptr(GVariant) list = g_variant_get_child_value(r, 0);
    unsigned count;
    g_variant_get_child(r, 1, "u", &count);
    if (!leases)
        return (int)count;
    gsize n = g_variant_n_children(list);
    *leases = g_new0(virNetworkDHCPLeasePtr, n + 1);
    for (gsize i = 0; i < n; i++) {
        g_autoptr(GVariant) row = g_variant_get_child_value(list, i);
        (*leases)[i] = lease_of(row);
    }
    return (int)n;
}

void virNetworkDHCPLeaseFree(virNetworkDHCPLeasePtr lease)
{
    if (!lease)
        return;
    g_free(lease->iface);
    g_free(lease->mac);
    g_free(lease->iaid);
    g_free(lease->ipaddr);
    g_free(lease->hostname);
    g_free(lease->clientid);
    g_free(lease);
}

/* ---- storage ---- */

int virStoragePoolGetInfo(virStoragePoolPtr pool, virStoragePoolInfoPtr info)
{
    g_autoptr(GVariant) r = CALL(pool, STORAGE_POOL_GET_INFO, pool);
    if (!r || !NEED(info))
        return -1;
    uint8_t state;
    uint64_t capacity, allocation, available;
    g_variant_get(r, "(yttt)", &state, &capacity, &allocation, &available);
    *info = (virStoragePoolInfo){ state, capacity, allocation, available };
    return 0;
}

static int volume_info(GVariant *reply, virStorageVolInfoPtr info)
{
    g_autoptr(GVariant) r = reply;
    if (!r)
        return -1;
    uint8_t type;
    uint64_t capacity, allocation;
    g_variant_get(r, "(ytt)", &type, &capacity, &allocation);
    *info = (virStorageVolInfo){ (int8_t)type, capacity, allocation };
    return 0;
}

int virStorageVolGetInfo(virStorageVolPtr vol, virStorageVolInfoPtr info)
{
    GVariant *r = CALL(vol, STORAGE_VOL_GET_INFO, vol);
    return r && !NEED(info) ? (g_variant_unref(r), -1) : volume_info(r, info);
}

int virStorageVolGetInfoFlags(virStorageVolPtr vol, virStorageVolInfoPtr info, unsigned int flags)
{
    GVariant *r = CALL(vol, STORAGE_VOL_GET_INFO_FLAGS, vol, flags);
    return r && !NEED(info) ? (g_variant_unref(r), -1) : volume_info(r, info);
}

int virStorageVolDownload(virStorageVolPtr vol, virStreamPtr stream, unsigned long long offset, unsigned long long length, unsigned int flags)
{
    g_autoptr(GVariant) r = STREAM(vol, stream, STORAGE_VOL_DOWNLOAD, vol, (uint64_t)offset, (uint64_t)length, flags);
    return r ? 0 : -1;
}

int virStorageVolUpload(virStorageVolPtr vol, virStreamPtr stream, unsigned long long offset, unsigned long long length, unsigned int flags)
{
    g_autoptr(GVariant) r = STREAM(vol, stream, STORAGE_VOL_UPLOAD, vol, (uint64_t)offset, (uint64_t)length, flags);
    return r ? 0 : -1;
}

/* ---- secrets ---- */

unsigned char *virSecretGetValue(virSecretPtr secret, size_t *value_size, unsigned int flags)
{
    if (BEGIN(secret) && secret->o.conn->readonly) {
        api_fail(secret->o.conn, VIR_ERR_OPERATION_DENIED, "read only access prevents %s", __func__);
        return NULL;
    }
    g_autoptr(GVariant) r = CALL(secret, SECRET_GET_VALUE, secret, flags);
    if (!r || !NEED(value_size))
        return NULL;
    g_autoptr(GVariant) value = g_variant_get_child_value(r, 0);
    *value_size = g_variant_get_size(value);
    unsigned char *copy = g_malloc(*value_size + 1);
    if (*value_size)
        memcpy(copy, g_variant_get_data(value), *value_size);
    copy[*value_size] = 0;
    return copy;
}
