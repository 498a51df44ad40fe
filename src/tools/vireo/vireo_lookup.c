/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Objects by what the user calls them: id, UUID, name, key, path. */
#include "vireo.h"

#include <string.h>

static bool is_uuid(const char *text)
{
    return strlen(text) == VIR_UUID_STRING_BUFLEN - 1;
}

virDomainPtr find_domain(struct call *c, const char *name)
{
    virDomainPtr domain = NULL;
    virConnectPtr connection = c->v->connection;
    char *end;
    gint64 id = g_ascii_strtoll(name, &end, 10);
    if (end != name && !*end && id >= 0 && id <= G_MAXINT)
        domain = virDomainLookupByID(connection, id);
    if (!domain && is_uuid(name))
        domain = virDomainLookupByUUIDString(connection, name);
    if (!domain)
        domain = virDomainLookupByName(connection, name);
    if (domain)
        return domain;
    /* "not found" says nothing that is not said here; anything else does */
    if (c->v->last_error && c->v->last_error->code == VIR_ERR_NO_DOMAIN)
        forget_library_error(c->v);
    complain(c, "failed to get domain '%s'", name);
    return NULL;
}

virDomainPtr arg_domain(struct call *c)
{
    return find_domain(c, opt_str(c, "domain"));
}

virNetworkPtr arg_network(struct call *c)
{
    const char *name = opt_str(c, "network");
    virNetworkPtr network = is_uuid(name) ? virNetworkLookupByUUIDString(c->v->connection, name) : NULL;
    if (!network)
        network = virNetworkLookupByName(c->v->connection, name);
    if (!network)
        complain(c, "failed to get network '%s'", name);
    return network;
}

virStoragePoolPtr arg_pool(struct call *c, const char *option)
{
    const char *name = opt_str(c, option);
    virStoragePoolPtr pool = is_uuid(name) ? virStoragePoolLookupByUUIDString(c->v->connection, name) : NULL;
    if (!pool)
        pool = virStoragePoolLookupByName(c->v->connection, name);
    if (!pool)
        complain(c, "failed to get pool '%s'", name);
    return pool;
}

/* A volume of a pool by its name, of any by key or path. */
virStorageVolPtr arg_volume(struct call *c, const char *option, const char *pool_option)
{
    const char *name = opt_str(c, option);
    g_autoptr(virStoragePool) pool = NULL;
    virStorageVolPtr volume = NULL;
    if (pool_option && opt_str(c, pool_option)) {
        pool = arg_pool(c, pool_option);
        if (!pool)
            return NULL;
        if (virStoragePoolIsActive(pool) != 1) {
            complain(c, "pool '%s' is not active", opt_str(c, pool_option));
            return NULL;
        }
        volume = virStorageVolLookupByName(pool, name);
    }
    if (!volume)
        volume = virStorageVolLookupByKey(c->v->connection, name);
    if (!volume)
        volume = virStorageVolLookupByPath(c->v->connection, name);
    if (!volume) {
        if (pool || !pool_option)
            complain(c, "failed to get vol '%s'", name);
        else
            complain(c, "failed to get vol '%s', specifying --%s might help", name, pool_option);
        return NULL;
    }
    if (pool) {
        g_autoptr(virStoragePool) home = virStoragePoolLookupByVolume(volume);
        if (!home || strcmp(virStoragePoolGetName(home), virStoragePoolGetName(pool))) {
            forget_library_error(c->v);
            complain(c, "Requested volume '%s' is not in pool '%s'", name, virStoragePoolGetName(pool));
            virStorageVolFree(volume);
            return NULL;
        }
    }
    return volume;
}

virSecretPtr arg_secret(struct call *c)
{
    const char *name = opt_str(c, "secret");
    virSecretPtr secret = virSecretLookupByUUIDString(c->v->connection, name);
    if (!secret)
        complain(c, "failed to get secret '%s'", name);
    return secret;
}

virInterfacePtr arg_interface(struct call *c, const char *option)
{
    const char *name = opt_str(c, option);
    unsigned a[6];
    char end;
    bool mac = sscanf(name, "%2x:%2x:%2x:%2x:%2x:%2x%c", &a[0], &a[1], &a[2], &a[3], &a[4], &a[5], &end) == 6;
    virInterfacePtr interface = mac ? virInterfaceLookupByMACString(c->v->connection, name) : virInterfaceLookupByName(c->v->connection, name);
    if (!interface)
        complain(c, "failed to get interface '%s'", name);
    return interface;
}

virNWFilterPtr arg_nwfilter(struct call *c)
{
    const char *name = opt_str(c, "nwfilter");
    virNWFilterPtr filter = is_uuid(name) ? virNWFilterLookupByUUIDString(c->v->connection, name) : NULL;
    if (!filter)
        filter = virNWFilterLookupByName(c->v->connection, name);
    if (!filter)
        complain(c, "failed to get nwfilter '%s'", name);
    return filter;
}

/* A device's name, or the WWNN,WWPN pair of a SCSI host. */
virNodeDevicePtr arg_nodedev(struct call *c)
{
    const char *name = opt_str(c, "device");
    virNodeDevicePtr device = NULL;
    g_auto(GStrv) wwn = g_strsplit(name, ",", 2);
    if (wwn[0] && wwn[1])
        device = virNodeDeviceLookupSCSIHostByWWN(c->v->connection, wwn[0], wwn[1], 0);
    else
        device = virNodeDeviceLookupByName(c->v->connection, name);
    if (!device)
        complain(c, "Could not find matching device '%s'", name);
    return device;
}
