/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Handles: made from records of replies, counted, checked at each public function. */
#include <string.h>

#include "manage/api/api.h"

static const struct {
    const char *what;
    int invalid;    /* error of a bad pointer */
    const char *type; /* of its record */
    gsize size;
} classes[API_NCLASSES] = {
    [API_CONN] = { "connection", VIR_ERR_INVALID_CONN, "()", sizeof(struct _virConnect) },
    [API_DOMAIN] = { "domain", VIR_ERR_INVALID_DOMAIN, "(sayi)", sizeof(struct _virDomain) },
    [API_NETWORK] = { "network", VIR_ERR_INVALID_NETWORK, "(say)", sizeof(struct _virNetwork) },
    [API_POOL] = { "storage pool", VIR_ERR_INVALID_STORAGE_POOL, "(say)", sizeof(struct _virStoragePool) },
    [API_VOLUME] = { "storage volume", VIR_ERR_INVALID_STORAGE_VOL, "(sss)", sizeof(struct _virStorageVol) },
    [API_NODEDEV] = { "node device", VIR_ERR_INVALID_NODE_DEVICE, "(s)", sizeof(struct _virNodeDevice) },
    [API_INTERFACE] = { "interface", VIR_ERR_INVALID_INTERFACE, "(ss)", sizeof(struct _virInterface) },
    [API_SECRET] = { "secret", VIR_ERR_INVALID_SECRET, "(ayis)", sizeof(struct _virSecret) },
    [API_NWFILTER] = { "nwfilter", VIR_ERR_INVALID_NWFILTER, "(say)", sizeof(struct _virNWFilter) },
    [API_BINDING] = { "nwfilter binding", VIR_ERR_INVALID_NWFILTER_BINDING, "(ss)", sizeof(struct _virNWFilterBinding) },
    [API_PORT] = { "network port", VIR_ERR_INVALID_NETWORK_PORT, "((say)ay)", sizeof(struct _virNetworkPort) },
    [API_SNAPSHOT] = { "snapshot", VIR_ERR_INVALID_DOMAIN_SNAPSHOT, "(s(sayi))", sizeof(struct _virDomainSnapshot) },
    [API_CHECKPOINT] = { "checkpoint", VIR_ERR_INVALID_DOMAIN_CHECKPOINT, "(s(sayi))", sizeof(struct _virDomainCheckpoint) },
    [API_STREAM] = { "stream", VIR_ERR_INVALID_STREAM, "()", sizeof(struct _virStream) },
};

bool api_valid(const char *func, const void *object, enum api_class class)
{
    const struct api_object *o = object;
    if (o && o->magic == API_MAGIC + class)
        return true;
    api_fail(NULL, classes[class].invalid, "invalid %s pointer in %s", classes[class].what, func);
    return false;
}

bool api_begin(const char *func, const void *object, enum api_class class)
{
    virResetLastError();
    return api_valid(func, object, class);
}

void *api_object_new(virConnectPtr conn, enum api_class class, const char *name)
{
    struct api_object *o = g_malloc0(classes[class].size);
    o->magic = API_MAGIC + class;
    o->refs = 1;
    o->conn = class == API_CONN ? (virConnectPtr)o : api_object_ref(conn);
    o->name = g_strdup(name);
    o->id = -1;
    return o;
}

static void take_uuid(struct api_object *o, GVariant *record, gsize at)
{
    g_autoptr(GVariant) v = g_variant_get_child_value(record, at);
    if (g_variant_get_size(v) == sizeof(o->uuid))
        memcpy(o->uuid, g_variant_get_data(v), sizeof(o->uuid));
}

static char *take_string(GVariant *record, gsize at)
{
    g_autoptr(GVariant) v = g_variant_get_child_value(record, at);
    return g_variant_dup_string(v, NULL);
}

static int take_int(GVariant *record, gsize at)
{
    g_autoptr(GVariant) v = g_variant_get_child_value(record, at);
    return g_variant_get_int32(v);
}

static void take_parent(struct api_object *o, enum api_class class, GVariant *record, gsize at, void *parent)
{
    g_autoptr(GVariant) v = g_variant_get_child_value(record, at);
    o->parent = parent ? api_object_ref(parent) : api_object_of(o->conn, class, v, NULL);
}

void *api_object_of(virConnectPtr conn, enum api_class class, GVariant *record, void *parent)
{
    if (!g_variant_is_of_type(record, G_VARIANT_TYPE(classes[class].type))) {
        api_fail(conn, VIR_ERR_RPC, "a %s was expected in the reply", classes[class].what);
        return NULL;
    }
    struct api_object *o = api_object_new(conn, class, NULL);
    switch (class) {
    case API_DOMAIN:
        o->id = take_int(record, 2);
        /* fall through */
    case API_NETWORK:
    case API_POOL:
    case API_NWFILTER:
        o->name = take_string(record, 0);
        take_uuid(o, record, 1);
        break;
    case API_VOLUME:
        o->pool = take_string(record, 0);
        o->name = take_string(record, 1);
        o->more = take_string(record, 2);
        break;
    case API_INTERFACE:
    case API_BINDING:
        o->more = take_string(record, 1);
        /* fall through */
    case API_NODEDEV:
        o->name = take_string(record, 0);
        break;
    case API_SECRET:
        take_uuid(o, record, 0);
        o->id = take_int(record, 1);
        o->more = take_string(record, 2);
        break;
    case API_PORT:
        take_parent(o, API_NETWORK, record, 0, parent);
        take_uuid(o, record, 1);
        break;
    default:
        o->name = take_string(record, 0);
        take_parent(o, API_DOMAIN, record, 1, parent);
        break;
    }
    return o;
}

GVariant *api_object_variant(const void *object)
{
    const struct api_object *o = object;
    switch (o->magic - API_MAGIC) {
    case API_DOMAIN:
        return g_variant_new("(s@ayi)", o->name, manage_uuid_variant(o->uuid), o->id);
    case API_VOLUME:
        return g_variant_new("(sss)", o->pool, o->name, o->more);
    case API_NODEDEV:
        return g_variant_new("(s)", o->name);
    case API_INTERFACE:
    case API_BINDING:
        return g_variant_new("(ss)", o->name, o->more);
    case API_SECRET:
        return g_variant_new("(@ayis)", manage_uuid_variant(o->uuid), o->id, o->more);
    case API_PORT:
        return g_variant_new("(@(say)@ay)", api_object_variant(o->parent), manage_uuid_variant(o->uuid));
    case API_SNAPSHOT:
    case API_CHECKPOINT:
        return g_variant_new("(s@(sayi))", o->name, api_object_variant(o->parent));
    default:
        return g_variant_new("(s@ay)", o->name, manage_uuid_variant(o->uuid));
    }
}

void *api_object_ref(void *object)
{
    struct api_object *o = object;
    g_atomic_int_inc(&o->refs);
    return o;
}

static void stream_finish(virStreamPtr st)
{
    if (st->link)
        st->o.conn->backend->forget(st);
    g_mutex_clear(&st->lock);
}

static void conn_finish(virConnectPtr c)
{
    if (c->backend)
        c->backend->close(c);
    api_events_free(c);
    if (c->close_free)
        c->close_free(c->close_data);
    api_error_free_conn(c);
    g_free(c->uri);
    g_mutex_clear(&c->lock);
}

void api_object_unref(void *object)
{
    struct api_object *o = object;
    if (!o || !g_atomic_int_dec_and_test(&o->refs))
        return;
    enum api_class class = o->magic - API_MAGIC;
    if (class == API_STREAM)
        stream_finish((virStreamPtr)o);
    if (class == API_CONN)
        conn_finish((virConnectPtr)o);
    o->magic = 0;
    virConnectPtr conn = o->conn;
    api_object_unref(o->parent);
    g_free(o->name);
    g_free(o->more);
    g_free(o->pool);
    g_free(o);
    if (class != API_CONN)
        api_object_unref(conn);
}

int api_public_ref(const char *func, void *object, enum api_class class)
{
    if (!api_begin(func, object, class))
        return -1;
    api_object_ref(object);
    return 0;
}

/* The last reference to a stream or handle may be the last one to a connection: its end talks to the daemon. */
int api_public_free(const char *func, void *object, enum api_class class)
{
    if (!api_begin(func, object, class))
        return -1;
    api_object_unref(object);
    return 0;
}

/* ---- public: names, UUIDs, connections of handles ---- */

static int copy_uuid(const char *func, const struct api_object *o, enum api_class class, unsigned char *uuid)
{
    if (!api_begin(func, o, class))
        return -1;
    if (!uuid) {
        api_fail(o->conn, VIR_ERR_INVALID_ARG, "uuid in %s must not be NULL", func);
        return -1;
    }
    memcpy(uuid, o->uuid, sizeof(o->uuid));
    return 0;
}

static int copy_uuid_text(const char *func, const struct api_object *o, enum api_class class, char *text)
{
    unsigned char uuid[16];
    if (!text && api_begin(func, o, class))
        api_fail(o->conn, VIR_ERR_INVALID_ARG, "buf in %s must not be NULL", func);
    if (!text || copy_uuid(func, o, class, uuid) < 0)
        return -1;
    manage_uuid_format(uuid, text);
    return 0;
}

#define HANDLE(Type, Ptr)                                                                            \
    int vir##Type##Ref(Ptr p) { return api_public_ref(ON(p)); }                                      \
    int vir##Type##Free(Ptr p) { return api_public_free(ON(p)); }
#define NAMED(Type, Ptr)                                                                             \
    const char *vir##Type##GetName(Ptr p) { return BEGIN(p) ? p->o.name : NULL; }
#define OF_CONN(Type, Ptr)                                                                           \
    virConnectPtr vir##Type##GetConnect(Ptr p) { return BEGIN(p) ? p->o.conn : NULL; }
#define WITH_UUID(Type, Ptr)                                                                         \
    int vir##Type##GetUUID(Ptr p, unsigned char *uuid) { return copy_uuid(__func__, (struct api_object *)p, API_CLASS(p), uuid); }                   \
    int vir##Type##GetUUIDString(Ptr p, char *text) { return copy_uuid_text(__func__, (struct api_object *)p, API_CLASS(p), text); }

HANDLE(Domain, virDomainPtr)
NAMED(Domain, virDomainPtr)
OF_CONN(Domain, virDomainPtr)
WITH_UUID(Domain, virDomainPtr)
HANDLE(Network, virNetworkPtr)
NAMED(Network, virNetworkPtr)
OF_CONN(Network, virNetworkPtr)
WITH_UUID(Network, virNetworkPtr)
HANDLE(StoragePool, virStoragePoolPtr)
NAMED(StoragePool, virStoragePoolPtr)
OF_CONN(StoragePool, virStoragePoolPtr)
WITH_UUID(StoragePool, virStoragePoolPtr)
HANDLE(StorageVol, virStorageVolPtr)
NAMED(StorageVol, virStorageVolPtr)
OF_CONN(StorageVol, virStorageVolPtr)
HANDLE(NodeDevice, virNodeDevicePtr)
NAMED(NodeDevice, virNodeDevicePtr)
HANDLE(Interface, virInterfacePtr)
NAMED(Interface, virInterfacePtr)
OF_CONN(Interface, virInterfacePtr)
HANDLE(Secret, virSecretPtr)
OF_CONN(Secret, virSecretPtr)
WITH_UUID(Secret, virSecretPtr)
HANDLE(NWFilter, virNWFilterPtr)
NAMED(NWFilter, virNWFilterPtr)
WITH_UUID(NWFilter, virNWFilterPtr)
HANDLE(NWFilterBinding, virNWFilterBindingPtr)
HANDLE(NetworkPort, virNetworkPortPtr)
WITH_UUID(NetworkPort, virNetworkPortPtr)
HANDLE(DomainSnapshot, virDomainSnapshotPtr)
NAMED(DomainSnapshot, virDomainSnapshotPtr)
OF_CONN(DomainSnapshot, virDomainSnapshotPtr)
HANDLE(DomainCheckpoint, virDomainCheckpointPtr)
NAMED(DomainCheckpoint, virDomainCheckpointPtr)
OF_CONN(DomainCheckpoint, virDomainCheckpointPtr)
HANDLE(Stream, virStreamPtr)

unsigned int virDomainGetID(virDomainPtr domain) { return BEGIN(domain) ? (unsigned)domain->o.id : (unsigned)-1; }
const char *virStorageVolGetKey(virStorageVolPtr vol) { return BEGIN(vol) ? vol->o.more : NULL; }
const char *virInterfaceGetMACString(virInterfacePtr iface) { return BEGIN(iface) ? iface->o.more : NULL; }
int virSecretGetUsageType(virSecretPtr secret) { return BEGIN(secret) ? secret->o.id : -1; }
const char *virSecretGetUsageID(virSecretPtr secret) { return BEGIN(secret) ? secret->o.more : NULL; }
const char *virNWFilterBindingGetPortDev(virNWFilterBindingPtr binding) { return BEGIN(binding) ? binding->o.name : NULL; }
const char *virNWFilterBindingGetFilterName(virNWFilterBindingPtr binding) { return BEGIN(binding) ? binding->o.more : NULL; }
virNetworkPtr virNetworkPortGetNetwork(virNetworkPortPtr port) { return BEGIN(port) ? (virNetworkPtr)port->o.parent : NULL; }
virDomainPtr virDomainSnapshotGetDomain(virDomainSnapshotPtr snapshot) { return BEGIN(snapshot) ? (virDomainPtr)snapshot->o.parent : NULL; }
virDomainPtr virDomainCheckpointGetDomain(virDomainCheckpointPtr checkpoint) { return BEGIN(checkpoint) ? (virDomainPtr)checkpoint->o.parent : NULL; }
