/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From an event message to the callback's C arguments: one case a signature. */
#include "manage/api/api_events.h"

#include <libvirt/libvirt-qemu.h>

#define AS(Type) ((Type)c->fn)

static void graphics(const struct api_callback *c, virDomainPtr dom, GVariant *p)
{
    int phase;
    virDomainEventGraphicsAddress local = { 0 }, remote = { 0 };
    g_autofree char *auth = NULL;
    g_autoptr(GVariant) list = NULL;
    g_variant_get(p, "(i@(sayi)i(iss)(iss)s@a(ss))", NULL, NULL, &phase, &local.family, &local.node, &local.service, &remote.family, &remote.node,
                  &remote.service, &auth, &list);
    virDomainEventGraphicsSubject subject = { .nidentity = (int)g_variant_n_children(list) };
    subject.identities = g_new0(virDomainEventGraphicsSubjectIdentity, (gsize)subject.nidentity + 1);
    for (int i = 0; i < subject.nidentity; i++)
        g_variant_get_child(list, (gsize)i, "(ss)", &subject.identities[i].type, &subject.identities[i].name);
    AS(virConnectDomainEventGraphicsCallback)(c->conn, dom, phase, &local, &remote, auth, &subject, c->opaque);
    for (int i = 0; i < subject.nidentity; i++) {
        g_free(subject.identities[i].type);
        g_free(subject.identities[i].name);
    }
    g_free(subject.identities);
    g_free(local.node);
    g_free(local.service);
    g_free(remote.node);
    g_free(remote.service);
}

static void params_event(const struct api_callback *c, virDomainPtr dom, GVariant *p)
{
    g_autoptr(GVariant) list = g_variant_get_child_value(p, 2);
    int n;
    virTypedParameterPtr params = api_params_of(list, &n);
    AS(virConnectDomainEventTunableCallback)(c->conn, dom, params, n, c->opaque);
    virTypedParamsFree(params, n);
}

/* Members from the third on. */
static int number(GVariant *p, unsigned at)
{
    g_autoptr(GVariant) v = g_variant_get_child_value(p, at);
    return g_variant_is_of_type(v, G_VARIANT_TYPE_UINT32) ? (int)g_variant_get_uint32(v) : g_variant_get_int32(v);
}

/* Lives as long as p: tuples of event messages are not changed. */
static const char *string(GVariant *p, unsigned at)
{
    const char *s = NULL;
    g_autoptr(GVariant) v = g_variant_get_child_value(p, at);
    g_variant_get_child(p, at, g_variant_is_of_type(v, G_VARIANT_TYPE_STRING) ? "&s" : "m&s", &s);
    return s;
}

static void monitor_event(const struct api_callback *c, virDomainPtr dom, GVariant *p)
{
    int64_t seconds;
    g_variant_get_child(p, 3, "x", &seconds);
    AS(virConnectDomainQemuMonitorEventCallback)(c->conn, dom, string(p, 2), seconds, (unsigned)number(p, 4), string(p, 5), c->opaque);
}

static void domain_event(const struct api_callback *c, unsigned proc, virDomainPtr dom, GVariant *p)
{
    switch (proc) {
    case RPC_DOMAIN_EVENT_CALLBACK_LIFECYCLE:
        AS(virConnectDomainEventCallback)(c->conn, dom, number(p, 2), number(p, 3), c->opaque);
        break;
    case RPC_DOMAIN_EVENT_CALLBACK_REBOOT:
    case RPC_DOMAIN_EVENT_CALLBACK_CONTROL_ERROR:
        AS(virConnectDomainEventGenericCallback)(c->conn, dom, c->opaque);
        break;
    case RPC_DOMAIN_EVENT_CALLBACK_RTC_CHANGE: {
        int64_t offset;
        g_variant_get_child(p, 2, "x", &offset);
        AS(virConnectDomainEventRTCChangeCallback)(c->conn, dom, offset, c->opaque);
        break;
    }
    case RPC_DOMAIN_EVENT_CALLBACK_BALLOON_CHANGE: {
        uint64_t actual;
        g_variant_get_child(p, 2, "t", &actual);
        AS(virConnectDomainEventBalloonChangeCallback)(c->conn, dom, actual, c->opaque);
        break;
    }
    case RPC_DOMAIN_EVENT_CALLBACK_WATCHDOG:
    case RPC_DOMAIN_EVENT_CALLBACK_MIGRATION_ITERATION:
        AS(virConnectDomainEventWatchdogCallback)(c->conn, dom, number(p, 2), c->opaque);
        break;
    case RPC_DOMAIN_EVENT_CALLBACK_PMWAKEUP:
    case RPC_DOMAIN_EVENT_CALLBACK_PMSUSPEND:
    case RPC_DOMAIN_EVENT_CALLBACK_PMSUSPEND_DISK:
        AS(virConnectDomainEventPMSuspendCallback)(c->conn, dom, number(p, 1), c->opaque);
        break;
    case RPC_DOMAIN_EVENT_CALLBACK_IO_ERROR:
        AS(virConnectDomainEventIOErrorCallback)(c->conn, dom, string(p, 2), string(p, 3), number(p, 4), c->opaque);
        break;
    case RPC_DOMAIN_EVENT_CALLBACK_IO_ERROR_REASON:
        AS(virConnectDomainEventIOErrorReasonCallback)(c->conn, dom, string(p, 2), string(p, 3), number(p, 4), string(p, 5), c->opaque);
        break;
    case RPC_DOMAIN_EVENT_CALLBACK_GRAPHICS:
        graphics(c, dom, p);
        break;
    case RPC_DOMAIN_EVENT_CALLBACK_BLOCK_JOB:
    case RPC_DOMAIN_EVENT_BLOCK_JOB_2:
        AS(virConnectDomainEventBlockJobCallback)(c->conn, dom, string(p, 2), number(p, 3), number(p, 4), c->opaque);
        break;
    case RPC_DOMAIN_EVENT_CALLBACK_DISK_CHANGE:
        AS(virConnectDomainEventDiskChangeCallback)(c->conn, dom, string(p, 2), string(p, 3), string(p, 4), number(p, 5), c->opaque);
        break;
    case RPC_DOMAIN_EVENT_CALLBACK_TRAY_CHANGE:
        AS(virConnectDomainEventTrayChangeCallback)(c->conn, dom, string(p, 2), number(p, 3), c->opaque);
        break;
    case RPC_DOMAIN_EVENT_CALLBACK_DEVICE_REMOVED:
    case RPC_DOMAIN_EVENT_CALLBACK_DEVICE_ADDED:
    case RPC_DOMAIN_EVENT_CALLBACK_DEVICE_REMOVAL_FAILED:
        AS(virConnectDomainEventDeviceRemovedCallback)(c->conn, dom, string(p, 2), c->opaque);
        break;
    case RPC_DOMAIN_EVENT_CALLBACK_TUNABLE:
    case RPC_DOMAIN_EVENT_CALLBACK_JOB_COMPLETED:
        params_event(c, dom, p);
        break;
    case RPC_DOMAIN_EVENT_CALLBACK_AGENT_LIFECYCLE:
        AS(virConnectDomainEventAgentLifecycleCallback)(c->conn, dom, number(p, 2), number(p, 3), c->opaque);
        break;
    case RPC_DOMAIN_EVENT_CALLBACK_METADATA_CHANGE:
        AS(virConnectDomainEventMetadataChangeCallback)(c->conn, dom, number(p, 2), string(p, 3), c->opaque);
        break;
    case RPC_DOMAIN_EVENT_BLOCK_THRESHOLD: {
        uint64_t threshold, excess;
        g_variant_get_child(p, 4, "t", &threshold);
        g_variant_get_child(p, 5, "t", &excess);
        AS(virConnectDomainEventBlockThresholdCallback)(c->conn, dom, string(p, 2), string(p, 3), threshold, excess, c->opaque);
        break;
    }
    case RPC_DOMAIN_EVENT_MEMORY_FAILURE:
        AS(virConnectDomainEventMemoryFailureCallback)(c->conn, dom, number(p, 2), number(p, 3), (unsigned)number(p, 4), c->opaque);
        break;
    case RPC_DOMAIN_EVENT_MEMORY_DEVICE_SIZE_CHANGE: {
        uint64_t size;
        g_variant_get_child(p, 3, "t", &size);
        AS(virConnectDomainEventMemoryDeviceSizeChangeCallback)(c->conn, dom, string(p, 2), size, c->opaque);
        break;
    }
    default:
        break;
    }
}

/* All lifecycle callbacks of other objects look alike, and so do their others: (conn, object, [event, detail,] opaque). */
typedef void (*two_numbers)(virConnectPtr conn, void *object, int event, int detail, void *opaque);
typedef void (*no_numbers)(virConnectPtr conn, void *object, void *opaque);

static void other_event(const struct api_callback *c, unsigned proc, void *object, GVariant *p)
{
    switch (proc) {
    case RPC_NETWORK_EVENT_LIFECYCLE:
    case RPC_STORAGE_POOL_EVENT_LIFECYCLE:
    case RPC_NODE_DEVICE_EVENT_LIFECYCLE:
    case RPC_SECRET_EVENT_LIFECYCLE:
        AS(two_numbers)(c->conn, object, number(p, 2), number(p, 3), c->opaque);
        break;
    case RPC_STORAGE_POOL_EVENT_REFRESH:
    case RPC_NODE_DEVICE_EVENT_UPDATE:
    case RPC_SECRET_EVENT_VALUE_CHANGED:
        AS(no_numbers)(c->conn, object, c->opaque);
        break;
    default: /* the network's metadata: no callback type before libvirt 9.8 */
        break;
    }
}

void api_event_call(const struct api_callback *c, unsigned proc, GVariant *payload)
{
    bool reason_first = proc == RPC_DOMAIN_EVENT_CALLBACK_PMWAKEUP || proc == RPC_DOMAIN_EVENT_CALLBACK_PMSUSPEND ||
                        proc == RPC_DOMAIN_EVENT_CALLBACK_PMSUSPEND_DISK;
    g_autoptr(GVariant) record = g_variant_get_child_value(payload, reason_first ? 2 : 1);
    void *object = api_object_of(c->conn, c->class == API_MONITOR ? API_DOMAIN : c->class, record, NULL);
    if (!object)
        return;
    if (c->class == API_MONITOR)
        monitor_event(c, object, payload);
    else if (c->class == API_DOMAIN)
        domain_event(c, proc, object, payload);
    else
        other_event(c, proc, object, payload);
    api_object_unref(object);
}
