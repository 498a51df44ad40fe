/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fifty calls of libvirt's C interface in one program, written for libvirt: it is compiled against both libraries and must print the same against the
 * same daemon. What it makes it takes away again. usage: api50 URI [KERNEL]; with a kernel
 * the domain is also run, paused at first. A call that changes a state is followed by its event before the next, so that the order is certain.
 */
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int calls, last_event = -1;

static void failed(void *opaque, virErrorPtr e) { (void)opaque, (void)e; }

/* Says what a call gave, with the last error where it failed. */
static void said(const char *call, long long result)
{
    calls++;
    if (result >= 0)
        printf("%2d %s: %lld\n", calls, call, result);
    else
        printf("%2d %s: error %d: %s\n", calls, call, virGetLastErrorCode(), virGetLastErrorMessage());
}

static void said_text(const char *call, char *text, int show)
{
    calls++;
    if (text)
        printf("%2d %s: %s\n", calls, call, show ? text : "(text)");
    else
        printf("%2d %s: error %d: %s\n", calls, call, virGetLastErrorCode(), virGetLastErrorMessage());
    free(text);
}

static int on_event(virConnectPtr conn, virDomainPtr dom, int event, int detail, void *opaque)
{
    (void)conn, (void)opaque;
    printf("   event of %s: %d %d\n", virDomainGetName(dom), event, detail);
    last_event = event;
    return 0;
}

static void on_second(int timer, void *opaque)
{
    (void)timer;
    *(int *)opaque = 1;
}

/* Runs the event loop until this event has come, or two seconds are over. */
static void wait_event(int event)
{
    int over = 0, timer = virEventAddTimeout(2000, on_second, &over, NULL);
    while (last_event != event && !over)
        virEventRunDefaultImpl();
    virEventRemoveTimeout(timer);
}

static char *domain_xml(const char *type, const char *name, const char *kernel)
{
    char *xml = NULL;
    if (asprintf(&xml,
                 "<domain type='%s'><name>%s</name><uuid>a1f2b3c4-0000-4000-8000-00000000a50a</uuid><title>fifty</title>"
                 "<memory unit='MiB'>64</memory><currentMemory unit='MiB'>64</currentMemory><vcpu>2</vcpu><os><type arch='%s'>hvm</type>%s%s%s</os>"
                 "<devices><memballoon model='none'/></devices></domain>",
                 type, name, strcmp(type, "test") ? "x86_64" : "i686", kernel ? "<kernel>" : "", kernel ? kernel : "", kernel ? "</kernel>" : "") < 0)
        abort();
    return xml;
}

static void host(virConnectPtr conn)
{
    unsigned long version = 0;
    virNodeInfo info;
    said("virConnectGetVersion", virConnectGetVersion(conn, &version));
    said("virConnectGetLibVersion", virConnectGetLibVersion(conn, &version));
    printf("   %lu\n", version);
    said_text("virConnectGetType", strdup(virConnectGetType(conn)), 1);
    said_text("virConnectGetURI", virConnectGetURI(conn), 1);
    said_text("virConnectGetHostname", virConnectGetHostname(conn), 1);
    said("virConnectIsAlive", virConnectIsAlive(conn));
    said("virConnectIsSecure", virConnectIsSecure(conn));
    said("virConnectIsEncrypted", virConnectIsEncrypted(conn));
    said("virNodeGetInfo", virNodeGetInfo(conn, &info));
    printf("   %s %lu %u %u %u %u\n", info.model, info.memory, info.cpus, info.sockets, info.cores, info.threads);
    said_text("virConnectGetCapabilities", virConnectGetCapabilities(conn), 0);
    said("virConnectGetMaxVcpus", virConnectGetMaxVcpus(conn, NULL));
    said("virNodeGetFreeMemory", virNodeGetFreeMemory(conn) > 0);
    said("virConnectSetKeepAlive", virConnectSetKeepAlive(conn, 5, 3));
}

static void settings(virDomainPtr dom)
{
    virDomainInfo info;
    int state = -1, reason = -1, autostart = -1, n = 0;
    char uuid[VIR_UUID_STRING_BUFLEN];
    virTypedParameter params[16];
    said("virDomainGetInfo", virDomainGetInfo(dom, &info));
    printf("   %d %lu %lu %d\n", info.state, info.maxMem, info.memory, info.nrVirtCpu);
    said("virDomainGetState", virDomainGetState(dom, &state, &reason, 0));
    printf("   %d %d\n", state, reason);
    said("virDomainGetUUIDString", virDomainGetUUIDString(dom, uuid));
    printf("   %s id %d\n", uuid, (int)virDomainGetID(dom));
    said_text("virDomainGetOSType", virDomainGetOSType(dom), 1);
    said_text("virDomainGetXMLDesc", virDomainGetXMLDesc(dom, VIR_DOMAIN_XML_INACTIVE), 1);
    said("virDomainGetMaxMemory", (long long)virDomainGetMaxMemory(dom));
    said("virDomainGetMaxVcpus", virDomainGetMaxVcpus(dom));
    said("virDomainGetVcpusFlags", virDomainGetVcpusFlags(dom, VIR_DOMAIN_AFFECT_CONFIG));
    said("virDomainSetMemoryFlags", virDomainSetMemoryFlags(dom, 32 * 1024, VIR_DOMAIN_AFFECT_CONFIG));
    said("virDomainSetAutostart", virDomainSetAutostart(dom, 1));
    said("virDomainGetAutostart", virDomainGetAutostart(dom, &autostart));
    said("virDomainSetAutostart", virDomainSetAutostart(dom, 0));
    said("virDomainIsPersistent", virDomainIsPersistent(dom));
    said("virDomainIsUpdated", virDomainIsUpdated(dom));
    said("virDomainHasManagedSaveImage", virDomainHasManagedSaveImage(dom, 0));
    said("virDomainSnapshotNum", virDomainSnapshotNum(dom, 0));
    said_text("virDomainGetMetadata", virDomainGetMetadata(dom, VIR_DOMAIN_METADATA_TITLE, NULL, 0), 1);
    said_text("virDomainGetMetadata (description)", virDomainGetMetadata(dom, VIR_DOMAIN_METADATA_DESCRIPTION, NULL, 0), 1);
    said("virDomainGetSchedulerParameters", virDomainGetSchedulerParameters(dom, params, &n));
    said("virDomainResume (not running)", virDomainResume(dom));
    said("virDomainDestroy (not running)", virDomainDestroy(dom));
}

static void running(virDomainPtr dom)
{
    virDomainPtr list[] = { dom, NULL };
    virDomainStatsRecordPtr *stats = NULL;
    int state = -1;
    said("virDomainCreateWithFlags", virDomainCreateWithFlags(dom, VIR_DOMAIN_START_PAUSED));
    wait_event(VIR_DOMAIN_EVENT_SUSPENDED);
    said("virDomainIsActive", virDomainIsActive(dom));
    said("virDomainGetState", virDomainGetState(dom, &state, NULL, 0));
    printf("   %d\n", state);
    said("virDomainListGetStats", virDomainListGetStats(list, VIR_DOMAIN_STATS_STATE, &stats, 0));
    if (stats && stats[0])
        said("virTypedParamsGetInt", virTypedParamsGetInt(stats[0]->params, stats[0]->nparams, "state.state", &state));
    virDomainStatsRecordListFree(stats);
    said("virDomainResume", virDomainResume(dom));
    wait_event(VIR_DOMAIN_EVENT_RESUMED);
    said("virDomainSuspend", virDomainSuspend(dom));
    wait_event(VIR_DOMAIN_EVENT_SUSPENDED);
    said("virDomainDestroy", virDomainDestroy(dom));
    wait_event(VIR_DOMAIN_EVENT_STOPPED);
    printf("   id %d\n", (int)virDomainGetID(dom));
}

static void domains(virConnectPtr conn, const char *kernel)
{
    char *xml = domain_xml(!strcmp(virConnectGetType(conn), "TEST") ? "test" : "qemu", "fifty", kernel);
    virDomainPtr *all = NULL, found;
    int callback = virConnectDomainEventRegisterAny(conn, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_event), NULL, NULL);
    said("virConnectDomainEventRegisterAny", callback < 0 ? -1 : 0);
    virDomainPtr dom = virDomainDefineXML(conn, xml);
    said("virDomainDefineXML", dom ? 0 : -1);
    free(xml);
    if (!dom)
        return;
    wait_event(VIR_DOMAIN_EVENT_DEFINED);
    int n = virConnectListAllDomains(conn, &all, VIR_CONNECT_LIST_DOMAINS_INACTIVE);
    said("virConnectListAllDomains", n);
    for (int i = 0; i < n; i++) {
        printf("   %s\n", virDomainGetName(all[i]));
        virDomainFree(all[i]);
    }
    free(all);
    said("virConnectNumOfDefinedDomains", virConnectNumOfDefinedDomains(conn));
    found = virDomainLookupByName(conn, "fifty");
    said("virDomainLookupByName", found ? 0 : -1);
    if (found)
        virDomainFree(found);
    found = virDomainLookupByUUIDString(conn, "a1f2b3c4-0000-4000-8000-00000000a50a");
    said("virDomainLookupByUUIDString", found ? 0 : -1);
    if (found)
        virDomainFree(found);
    said("virDomainLookupByName (missing)", virDomainLookupByName(conn, "no-such-domain") ? 0 : -1);
    said("virDomainLookupByID (missing)", virDomainLookupByID(conn, 123456) ? 0 : -1);
    settings(dom);
    if (kernel)
        running(dom);
    said("virDomainUndefine", virDomainUndefine(dom));
    said("virDomainFree", virDomainFree(dom));
    wait_event(VIR_DOMAIN_EVENT_UNDEFINED);
    said("virConnectDomainEventDeregisterAny", virConnectDomainEventDeregisterAny(conn, callback));
}

static void others(virConnectPtr conn)
{
    virNetworkPtr *nets = NULL;
    virStoragePoolPtr *pools = NULL;
    char *names[64];
    int n = virConnectListAllNetworks(conn, &nets, 0);
    said("virConnectListAllNetworks", n);
    for (int i = 0; i < n; i++) {
        printf("   %s %d\n", virNetworkGetName(nets[i]), virNetworkIsActive(nets[i]));
        virNetworkFree(nets[i]);
    }
    free(nets);
    said("virConnectNumOfNetworks", virConnectNumOfNetworks(conn));
    said("virNetworkLookupByName (missing)", virNetworkLookupByName(conn, "no-such-network") ? 0 : -1);
    n = virConnectListAllStoragePools(conn, &pools, 0);
    said("virConnectListAllStoragePools", n);
    for (int i = 0; i < n; i++) {
        printf("   %s\n", virStoragePoolGetName(pools[i]));
        virStoragePoolFree(pools[i]);
    }
    free(pools);
    said("virStoragePoolLookupByName (missing)", virStoragePoolLookupByName(conn, "no-such-pool") ? 0 : -1);
    n = virConnectListNetworks(conn, names, 64);
    said("virConnectListNetworks", n);
    for (int i = 0; i < n; i++)
        free(names[i]);
    said("virStorageVolLookupByPath (missing)", virStorageVolLookupByPath(conn, "/no/such/volume") ? 0 : -1);
}

/* Mistakes of the program itself: what the library says without asking anybody. */
static void mistakes(virConnectPtr conn)
{
    virTypedParameterPtr params = NULL;
    int n = 0, max = 0;
    unsigned value = 0;
    said("virDomainLookupByUUIDString (bad)", virDomainLookupByUUIDString(conn, "xyz") ? 0 : -1);
    said("virTypedParamsAddUInt", virTypedParamsAddUInt(&params, &n, &max, "one", 1));
    said("virTypedParamsAddString", virTypedParamsAddString(&params, &n, &max, "two", "zwei"));
    said("virTypedParamsGetUInt", virTypedParamsGetUInt(params, n, "one", &value));
    said("virTypedParamsGetUInt (missing)", virTypedParamsGetUInt(params, n, "three", &value));
    virTypedParamsFree(params, n);
    virStreamPtr st = virStreamNew(conn, VIR_STREAM_NONBLOCK);
    said("virStreamNew", st ? 0 : -1);
    if (st)
        said("virStreamFree", virStreamFree(st));
}

static void readonly(const char *uri)
{
    virConnectPtr conn = virConnectOpenReadOnly(uri);
    said("virConnectOpenReadOnly", conn ? 0 : -1);
    if (!conn)
        return;
    char *xml = domain_xml("qemu", "fifty", NULL);
    said("virDomainDefineXML (read-only)", virDomainDefineXML(conn, xml) ? 0 : -1);
    free(xml);
    said("virConnectClose", virConnectClose(conn));
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    virSetErrorFunc(NULL, failed);
    said("virInitialize", virInitialize());
    said("virEventRegisterDefaultImpl", virEventRegisterDefaultImpl());
    virConnectPtr conn = virConnectOpen(argv[1]);
    said("virConnectOpen", conn ? 0 : -1);
    if (!conn)
        return 1;
    host(conn);
    domains(conn, argc > 2 ? argv[2] : NULL);
    others(conn);
    mistakes(conn);
    if (strncmp(argv[1], "test:", 5))
        readonly(argv[1]);
    said("virConnectClose", virConnectClose(conn));
    return 0;
}
