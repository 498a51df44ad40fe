/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Calls that change what a domain's handle knows (its id), that take descriptors along, and those made of other calls. */
#include <unistd.h>

#include "manage/api/api.h"

/* ---- starting and stopping: the id follows ---- */

int virDomainCreate(virDomainPtr domain)
{
    if (VOID(domain, DOMAIN_CREATE, domain) < 0)
        return -1;
    virDomainPtr now = MAKE(domain, DOMAIN, DOMAIN_LOOKUP_BY_UUID, domain->o.uuid);
    if (now)
        domain->o.id = now->o.id;
    api_object_unref(now);
    return 0;
}

static int take_id(virDomainPtr domain, virDomainPtr now)
{
    if (!now)
        return -1;
    domain->o.id = now->o.id;
    api_object_unref(now);
    return 0;
}

int virDomainCreateWithFlags(virDomainPtr domain, unsigned int flags)
{
    return take_id(domain, MAKE(domain, DOMAIN, DOMAIN_CREATE_WITH_FLAGS, domain, flags));
}

int virDomainDestroy(virDomainPtr domain)
{
    if (VOID(domain, DOMAIN_DESTROY, domain) < 0)
        return -1;
    domain->o.id = -1;
    return 0;
}

int virDomainDestroyFlags(virDomainPtr domain, unsigned int flags)
{
    if (VOID(domain, DOMAIN_DESTROY_FLAGS, domain, flags) < 0)
        return -1;
    domain->o.id = -1;
    return 0;
}

virDomainPtr virDomainCreateLinux(virConnectPtr conn, const char *xmlDesc, unsigned int flags) { return virDomainCreateXML(conn, xmlDesc, flags); }

static virDomainPtr domain_of(virConnectPtr conn, GVariant *reply)
{
    g_autoptr(GVariant) r = reply;
    if (!r)
        return NULL;
    g_autoptr(GVariant) record = g_variant_get_child_value(r, 0);
    return api_object_of(conn, API_DOMAIN, record, NULL);
}

virDomainPtr virDomainCreateXMLWithFiles(virConnectPtr conn, const char *xmlDesc, unsigned int nfiles, int *files, unsigned int flags)
{
    return domain_of(conn, api_call_fds(ON(conn), files, nfiles, NULL, RPC_DOMAIN_CREATE_XML_WITH_FILES, xmlDesc, flags));
}

int virDomainCreateWithFiles(virDomainPtr domain, unsigned int nfiles, int *files, unsigned int flags)
{
    GVariant *r = api_call_fds(ON(domain), files, nfiles, NULL, RPC_DOMAIN_CREATE_WITH_FILES, domain, flags);
    return r ? take_id(domain, domain_of(domain->o.conn, r)) : -1;
}

int virDomainFDAssociate(virDomainPtr domain, const char *name, unsigned int nfds, int *fds, unsigned int flags)
{
    g_autoptr(GVariant) r = api_call_fds(ON(domain), fds, nfds, NULL, RPC_DOMAIN_FD_ASSOCIATE, domain, name, flags);
    return r ? 0 : -1;
}

int virDomainRename(virDomainPtr dom, const char *new_name, unsigned int flags)
{
    if (INT(dom, DOMAIN_RENAME, dom, new_name, flags) < 0)
        return -1;
    g_free(dom->o.more);
    dom->o.more = dom->o.name; /* the program may still hold it */
    dom->o.name = g_strdup(new_name);
    return 0;
}

int virDomainOpenGraphics(virDomainPtr dom, unsigned int idx, int fd, unsigned int flags)
{
    g_autoptr(GVariant) r = api_call_fds(ON(dom), &fd, 1, NULL, RPC_DOMAIN_OPEN_GRAPHICS, dom, idx, flags);
    return r ? 0 : -1;
}

int virDomainOpenGraphicsFD(virDomainPtr dom, unsigned int idx, unsigned int flags)
{
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    g_autoptr(GVariant) r = api_call_fds(ON(dom), NULL, 0, fds, RPC_DOMAIN_OPEN_GRAPHICS_FD, dom, idx, flags);
    if (!r)
        return -1;
    for (unsigned i = 1; i < fds->len; i++)
        close(g_array_index(fds, int, i));
    if (fds->len > 0)
        return g_array_index(fds, int, 0);
    api_fail(dom->o.conn, VIR_ERR_INTERNAL_ERROR, "no descriptor came with the reply");
    return -1;
}

/* ---- streams ---- */

int virDomainOpenConsole(virDomainPtr dom, const char *dev_name, virStreamPtr st, unsigned int flags)
{
    g_autoptr(GVariant) r = STREAM(dom, st, DOMAIN_OPEN_CONSOLE, dom, dev_name, flags);
    return r ? 0 : -1;
}

int virDomainOpenChannel(virDomainPtr dom, const char *name, virStreamPtr st, unsigned int flags)
{
    g_autoptr(GVariant) r = STREAM(dom, st, DOMAIN_OPEN_CHANNEL, dom, name, flags);
    return r ? 0 : -1;
}

char *virDomainScreenshot(virDomainPtr domain, virStreamPtr stream, unsigned int screen, unsigned int flags)
{
    g_autoptr(GVariant) r = STREAM(domain, stream, DOMAIN_SCREENSHOT, domain, screen, flags);
    char *mime = NULL;
    if (r)
        g_variant_get(r, "(ms)", &mime);
    return mime;
}

/* ---- lookups by text ---- */

static bool parse_uuid(const char *text, uint8_t uuid[16])
{
    if (text && manage_uuid_parse(text, uuid))
        return true;
    api_fail(NULL, VIR_ERR_INVALID_ARG, "Invalid UUID");
    return false;
}

#define BY_UUID_TEXT(Type, Object)                                                                   \
    Type##Ptr Type##LookupByUUIDString(Object object, const char *uuidstr)                           \
    {                                                                                                \
        uint8_t uuid[16];                                                                            \
        return BEGIN(object) && parse_uuid(uuidstr, uuid) ? Type##LookupByUUID(object, uuid) : NULL; \
    }
BY_UUID_TEXT(virDomain, virConnectPtr)
BY_UUID_TEXT(virNetwork, virConnectPtr)
BY_UUID_TEXT(virStoragePool, virConnectPtr)
BY_UUID_TEXT(virNWFilter, virConnectPtr)
BY_UUID_TEXT(virSecret, virConnectPtr)
BY_UUID_TEXT(virNetworkPort, virNetworkPtr)
