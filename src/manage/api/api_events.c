/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Events: registrations, and the way from the thread that read a message to the program's event loop. Messages are queued and an eventfd wakes the
 * loop (writing to it is safe from any thread, whatever loop the program has); callbacks run in the loop alone, with no lock held.
 * Locks: registering, then lock. `registering` is held over the register call, so that an event cannot overtake its callback's number.
 */
#include "manage/api/api_events.h"

#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct message {
    const struct rpc_proc *proc; /* NULL: the connection has ended */
    GVariant *payload;
    int reason;
};

struct api_events {
    gint refs; /* the connection's and the loop's */
    GMutex registering;
    GMutex lock; /* what follows */
    virConnectPtr conn; /* NULL once it has gone */
    GPtrArray *callbacks;
    GQueue messages;
    int wake, watch, next;
};

static void message_free(struct message *m)
{
    if (m->payload)
        g_variant_unref(m->payload);
    g_free(m);
}

static void events_unref(void *opaque)
{
    struct api_events *e = opaque;
    if (!g_atomic_int_dec_and_test(&e->refs))
        return;
    struct message *m;
    while ((m = g_queue_pop_head(&e->messages)))
        message_free(m);
    g_ptr_array_unref(e->callbacks);
    close(e->wake);
    g_mutex_clear(&e->lock);
    g_mutex_clear(&e->registering);
    g_free(e);
}

/* ---- callbacks ---- */

static struct api_callback *callback_ref(struct api_callback *c)
{
    g_atomic_int_inc(&c->refs);
    return c;
}

static void callback_unref(gpointer opaque)
{
    struct api_callback *c = opaque;
    if (!g_atomic_int_dec_and_test(&c->refs))
        return;
    if (c->free)
        c->free(c->opaque);
    api_object_unref(c->object);
    api_object_unref(c->conn);
    g_free(c);
}

/* ---- in the event loop ---- */

static enum api_class class_of_proc(unsigned number)
{
    switch (number) {
    case RPC_NETWORK_EVENT_LIFECYCLE:
    case RPC_NETWORK_EVENT_CALLBACK_METADATA_CHANGE:
        return API_NETWORK;
    case RPC_STORAGE_POOL_EVENT_LIFECYCLE:
    case RPC_STORAGE_POOL_EVENT_REFRESH:
        return API_POOL;
    case RPC_NODE_DEVICE_EVENT_LIFECYCLE:
    case RPC_NODE_DEVICE_EVENT_UPDATE:
        return API_NODEDEV;
    case RPC_SECRET_EVENT_LIFECYCLE:
    case RPC_SECRET_EVENT_VALUE_CHANGED:
        return API_SECRET;
    case RPC_QEMU_DOMAIN_MONITOR_EVENT:
        return API_MONITOR;
    default:
        return API_DOMAIN;
    }
}

/* The callbacks behind a number of the other side's; each is held. */
static GPtrArray *callbacks_of(struct api_events *e, enum api_class class, int remote)
{
    GPtrArray *found = g_ptr_array_new_with_free_func(callback_unref);
    g_mutex_lock(&e->lock);
    for (unsigned i = 0; i < e->callbacks->len; i++) {
        struct api_callback *c = e->callbacks->pdata[i];
        if (c->class == class && c->remote == remote)
            g_ptr_array_add(found, callback_ref(c));
    }
    g_mutex_unlock(&e->lock);
    return found;
}

static void deliver(struct api_events *e, const struct message *m)
{
    int remote = -1;
    g_variant_get_child(m->payload, 0, "i", &remote);
    g_mutex_lock(&e->registering);
    g_autoptr(GPtrArray) found = callbacks_of(e, class_of_proc(m->proc->number), remote);
    g_mutex_unlock(&e->registering);
    for (unsigned i = 0; i < found->len; i++) {
        struct api_callback *c = found->pdata[i];
        if (!c->removed)
            api_event_call(c, m->proc->number, m->payload);
    }
}

static void closed(virConnectPtr conn, int reason)
{
    g_mutex_lock(&conn->lock);
    virConnectCloseFunc fn = conn->close_fn;
    void *data = conn->close_data;
    virFreeCallback ff = conn->close_free;
    conn->close_fn = NULL;
    conn->close_free = NULL;
    g_mutex_unlock(&conn->lock);
    if (fn)
        fn(conn, reason, data);
    if (ff)
        ff(data);
    if (fn)
        api_object_unref(conn); /* of the registration */
}

/* A reference to the connection where it has not gone. */
static virConnectPtr hold(struct api_events *e)
{
    g_mutex_lock(&e->lock);
    virConnectPtr conn = e->conn;
    bool held = false;
    while (conn && !held) {
        gint n = g_atomic_int_get(&conn->o.refs);
        if (n == 0)
            conn = NULL;
        else
            held = g_atomic_int_compare_and_exchange(&conn->o.refs, n, n + 1);
    }
    g_mutex_unlock(&e->lock);
    return conn;
}

static void on_wake(int watch, int fd, int events, void *opaque)
{
    struct api_events *e = opaque;
    uint64_t count;
    (void)!read(fd, &count, sizeof(count));
    virConnectPtr conn = hold(e);
    if (!conn)
        return;
    for (;;) {
        g_mutex_lock(&e->lock);
        struct message *m = g_queue_pop_head(&e->messages);
        g_mutex_unlock(&e->lock);
        if (!m)
            break;
        if (m->proc)
            deliver(e, m);
        else
            closed(conn, m->reason);
        message_free(m);
    }
    api_object_unref(conn);
}

/* ---- from the backend ---- */

static void enqueue(virConnectPtr conn, struct message m)
{
    g_mutex_lock(&conn->lock);
    struct api_events *e = conn->events;
    g_mutex_unlock(&conn->lock);
    if (!e) {
        if (m.payload)
            g_variant_unref(m.payload);
        return;
    }
    g_mutex_lock(&e->lock);
    g_queue_push_tail(&e->messages, g_memdup2(&m, sizeof(m)));
    g_mutex_unlock(&e->lock);
    uint64_t one = 1;
    (void)!write(e->wake, &one, sizeof(one));
}

void api_event_received(virConnectPtr conn, const struct rpc_proc *proc, GVariant *payload)
{
    if (proc->number == RPC_CONNECT_EVENT_CONNECTION_CLOSED) {
        int reason = VIR_CONNECT_CLOSE_REASON_ERROR;
        g_variant_get(payload, "(i)", &reason);
        api_conn_lost(conn, reason);
        return;
    }
    enqueue(conn, (struct message){ proc, g_variant_ref(payload), 0 });
}

void api_conn_lost(virConnectPtr conn, int reason) { enqueue(conn, (struct message){ .reason = reason }); }

/* ---- registering ---- */

/* Takes it out of the loop. */
static void discard(struct api_events *e)
{
    g_mutex_lock(&e->lock);
    e->conn = NULL;
    g_mutex_unlock(&e->lock);
    virEventRemoveHandle(e->watch);
    events_unref(e);
}

/* The connection's events, with a handle in the loop; NULL: the last error is set. */
static struct api_events *events_of(virConnectPtr conn)
{
    g_mutex_lock(&conn->lock);
    struct api_events *e = conn->events;
    g_mutex_unlock(&conn->lock);
    if (e)
        return e;
    if (!api_loop_present()) {
        api_fail(conn, VIR_ERR_INTERNAL_ERROR, "events need an event loop: call virEventRegisterDefaultImpl() before the connection is opened");
        return NULL;
    }
    e = g_new0(struct api_events, 1);
    e->refs = 2;
    e->conn = conn;
    g_mutex_init(&e->lock);
    g_mutex_init(&e->registering);
    e->callbacks = g_ptr_array_new_with_free_func(callback_unref);
    e->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    e->watch = virEventAddHandle(e->wake, VIR_EVENT_HANDLE_READABLE, on_wake, e, events_unref);
    if (e->watch < 0) {
        e->refs = 1;
        events_unref(e);
        api_fail(conn, VIR_ERR_INTERNAL_ERROR, "the event loop takes no handle");
        return NULL;
    }
    g_mutex_lock(&conn->lock);
    struct api_events *first = conn->events; /* another thread may have been faster */
    if (!first)
        conn->events = e;
    g_mutex_unlock(&conn->lock);
    if (first)
        discard(e);
    return first ? first : e;
}

void api_events_free(virConnectPtr conn)
{
    struct api_events *e = conn->events;
    conn->events = NULL;
    if (e)
        discard(e);
}

static const struct {
    enum api_class class;
    uint16_t add, remove;
    int events; /* ids 0 to events - 1 */
} kinds[] = {
    { API_DOMAIN, RPC_CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY, RPC_CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY, 27 },
    { API_NETWORK, RPC_CONNECT_NETWORK_EVENT_REGISTER_ANY, RPC_CONNECT_NETWORK_EVENT_DEREGISTER_ANY, 1 },
    { API_POOL, RPC_CONNECT_STORAGE_POOL_EVENT_REGISTER_ANY, RPC_CONNECT_STORAGE_POOL_EVENT_DEREGISTER_ANY, 2 },
    { API_NODEDEV, RPC_CONNECT_NODE_DEVICE_EVENT_REGISTER_ANY, RPC_CONNECT_NODE_DEVICE_EVENT_DEREGISTER_ANY, 2 },
    { API_SECRET, RPC_CONNECT_SECRET_EVENT_REGISTER_ANY, RPC_CONNECT_SECRET_EVENT_DEREGISTER_ANY, 2 },
    { API_MONITOR, RPC_QEMU_CONNECT_DOMAIN_MONITOR_EVENT_REGISTER, RPC_QEMU_CONNECT_DOMAIN_MONITOR_EVENT_DEREGISTER, 1 },
};

static unsigned kind_of(enum api_class class)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (kinds[i].class == class)
            return i;
    g_assert_not_reached();
}

/* Under e->registering: a callback that the other side knows by c.remote. Its number for the program. */
static int store(struct api_events *e, virConnectPtr conn, struct api_callback c)
{
    struct api_callback *copy = g_memdup2(&c, sizeof(c));
    copy->refs = 1;
    copy->conn = api_object_ref(conn);
    if (copy->object)
        api_object_ref(copy->object);
    g_mutex_lock(&e->lock);
    int local = copy->id = e->next++;
    g_ptr_array_add(e->callbacks, copy);
    g_mutex_unlock(&e->lock);
    return local;
}

static bool same_object(const struct api_object *a, const struct api_object *b)
{
    if (!a || !b)
        return a == b;
    return !memcmp(a->uuid, b->uuid, sizeof(a->uuid)) && (a->magic != API_MAGIC + API_NODEDEV || !strcmp(a->name, b->name));
}

/* Under e->registering: the number under which the other side sends this event already, or -1. */
static int remote_of(struct api_events *e, enum api_class class, int event, const void *object)
{
    int remote = -1;
    g_mutex_lock(&e->lock);
    for (unsigned i = 0; i < e->callbacks->len && remote < 0; i++) {
        const struct api_callback *c = e->callbacks->pdata[i];
        if (c->class == class && c->event == event && same_object(c->object, object))
            remote = c->remote;
    }
    g_mutex_unlock(&e->lock);
    return remote;
}

/* The callback's number, or -1. */
static int add(const char *func, virConnectPtr conn, enum api_class class, void *object, int id, void (*fn)(void), void *opaque, virFreeCallback ff, bool legacy)
{
    unsigned k = kind_of(class);
    if (!api_begin(func, conn, API_CONN) || (object && !api_valid(func, object, class)))
        return -1;
    if (!fn || id < 0 || id >= kinds[k].events) {
        if (fn)
            api_fail(conn, VIR_ERR_INVALID_ARG, "eventID in %s must be less than %d", func, kinds[k].events);
        else
            api_fail(conn, VIR_ERR_INVALID_ARG, "cb in %s must not be NULL", func);
        return -1;
    }
    struct api_events *e = events_of(conn);
    if (!e)
        return -1;
    g_mutex_lock(&e->registering);
    int remote = remote_of(e, class, id, object), local = -1;
    if (remote < 0)
        remote = api_int(func, conn, API_CONN, kinds[k].add, id, object);
    if (remote >= 0)
        local = store(e, conn, (struct api_callback){ .class = class, .remote = remote, .event = id, .fn = fn, .opaque = opaque, .free = ff, .legacy = legacy, .object = object });
    g_mutex_unlock(&e->registering);
    return local;
}

int api_monitor_event_add(virConnectPtr conn, virDomainPtr dom, const char *event, void (*fn)(void), void *opaque, virFreeCallback ff, unsigned flags)
{
    struct api_events *e = BEGIN(conn) ? events_of(conn) : NULL;
    if (!e)
        return -1;
    g_mutex_lock(&e->registering);
    int remote = INT(conn, QEMU_CONNECT_DOMAIN_MONITOR_EVENT_REGISTER, dom, event, flags), local = -1;
    if (remote >= 0)
        local = store(e, conn, (struct api_callback){ .class = API_MONITOR, .remote = remote, .event = -1, .fn = fn, .opaque = opaque, .free = ff, .object = dom });
    g_mutex_unlock(&e->registering);
    return local;
}

/* Under e->registering. The other side stops with the last callback of its number. */
static int take_away(const char *func, virConnectPtr conn, struct api_events *e, struct api_callback *c)
{
    c->removed = true;
    g_autoptr(GPtrArray) others = callbacks_of(e, c->class, c->remote);
    return others->len == 0 && conn->backend->alive(conn) ? api_void(func, conn, API_CONN, kinds[kind_of(c->class)].remove, c->remote) : 0;
}

/* By number, or (fn set) by function among those registered the old way. */
static int drop(const char *func, virConnectPtr conn, enum api_class class, int id, void (*fn)(void))
{
    if (!api_begin(func, conn, API_CONN))
        return -1;
    struct api_events *e = conn->events;
    struct api_callback *found = NULL;
    int ret = -1;
    if (e) {
        g_mutex_lock(&e->registering);
        g_mutex_lock(&e->lock);
    }
    for (unsigned i = 0; e && i < e->callbacks->len && !found; i++) {
        struct api_callback *c = e->callbacks->pdata[i];
        if (c->class == class && (fn ? c->legacy && c->fn == fn : c->id == id))
            found = g_ptr_array_steal_index(e->callbacks, i);
    }
    if (e) {
        g_mutex_unlock(&e->lock);
        ret = found ? take_away(func, conn, e, found) : -1;
        g_mutex_unlock(&e->registering);
    }
    if (found) {
        callback_unref(found); /* it may call the program's virFreeCallback */
        return ret;
    }
    api_fail(conn, VIR_ERR_INVALID_ARG, "%s: no callback with number %d is registered", func, id);
    return -1;
}

int api_monitor_event_drop(virConnectPtr conn, int id) { return drop(__func__, conn, API_MONITOR, id, NULL); }

#define FN(cb) ((void (*)(void))(cb))

int virConnectDomainEventRegisterAny(virConnectPtr conn, virDomainPtr dom, int eventID, virConnectDomainEventGenericCallback cb, void *opaque,
                                     virFreeCallback freecb)
{
    return add(__func__, conn, API_DOMAIN, dom, eventID, FN(cb), opaque, freecb, false);
}

int virConnectDomainEventRegister(virConnectPtr conn, virConnectDomainEventCallback cb, void *opaque, virFreeCallback freecb)
{
    return add(__func__, conn, API_DOMAIN, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE, FN(cb), opaque, freecb, true) < 0 ? -1 : 0;
}

int virConnectDomainEventDeregister(virConnectPtr conn, virConnectDomainEventCallback cb) { return drop(__func__, conn, API_DOMAIN, -1, FN(cb)); }

int virConnectNetworkEventRegisterAny(virConnectPtr conn, virNetworkPtr net, int eventID, virConnectNetworkEventGenericCallback cb, void *opaque,
                                      virFreeCallback freecb)
{
    return add(__func__, conn, API_NETWORK, net, eventID, FN(cb), opaque, freecb, false);
}

int virConnectStoragePoolEventRegisterAny(virConnectPtr conn, virStoragePoolPtr pool, int eventID, virConnectStoragePoolEventGenericCallback cb,
                                          void *opaque, virFreeCallback freecb)
{
    return add(__func__, conn, API_POOL, pool, eventID, FN(cb), opaque, freecb, false);
}

int virConnectNodeDeviceEventRegisterAny(virConnectPtr conn, virNodeDevicePtr dev, int eventID, virConnectNodeDeviceEventGenericCallback cb,
                                         void *opaque, virFreeCallback freecb)
{
    return add(__func__, conn, API_NODEDEV, dev, eventID, FN(cb), opaque, freecb, false);
}

int virConnectSecretEventRegisterAny(virConnectPtr conn, virSecretPtr secret, int eventID, virConnectSecretEventGenericCallback cb, void *opaque,
                                     virFreeCallback freecb)
{
    return add(__func__, conn, API_SECRET, secret, eventID, FN(cb), opaque, freecb, false);
}

int virConnectDomainEventDeregisterAny(virConnectPtr conn, int callbackID) { return drop(__func__, conn, API_DOMAIN, callbackID, NULL); }
int virConnectNetworkEventDeregisterAny(virConnectPtr conn, int callbackID) { return drop(__func__, conn, API_NETWORK, callbackID, NULL); }
int virConnectStoragePoolEventDeregisterAny(virConnectPtr conn, int callbackID) { return drop(__func__, conn, API_POOL, callbackID, NULL); }
int virConnectNodeDeviceEventDeregisterAny(virConnectPtr conn, int callbackID) { return drop(__func__, conn, API_NODEDEV, callbackID, NULL); }
int virConnectSecretEventDeregisterAny(virConnectPtr conn, int callbackID) { return drop(__func__, conn, API_SECRET, callbackID, NULL); }

/* ---- the end of a connection ---- */

int virConnectRegisterCloseCallback(virConnectPtr conn, virConnectCloseFunc cb, void *opaque, virFreeCallback freecb)
{
    if (!BEGIN(conn))
        return -1;
    if (!cb || conn->close_fn) {
        api_fail(conn, cb ? VIR_ERR_OPERATION_INVALID : VIR_ERR_INVALID_ARG, cb ? "a close callback is already registered" : "cb must not be NULL");
        return -1;
    }
    if (api_loop_present())
        events_of(conn);
    g_mutex_lock(&conn->lock);
    conn->close_fn = cb;
    conn->close_data = opaque;
    conn->close_free = freecb;
    g_mutex_unlock(&conn->lock);
    api_object_ref(conn);
    return 0;
}

int virConnectUnregisterCloseCallback(virConnectPtr conn, virConnectCloseFunc cb)
{
    if (!BEGIN(conn))
        return -1;
    g_mutex_lock(&conn->lock);
    bool mine = conn->close_fn && conn->close_fn == cb;
    virFreeCallback ff = mine ? conn->close_free : NULL;
    void *data = conn->close_data;
    if (mine) {
        conn->close_fn = NULL;
        conn->close_free = NULL;
    }
    g_mutex_unlock(&conn->lock);
    if (!mine) {
        api_fail(conn, VIR_ERR_INVALID_ARG, "%s: this close callback is not registered", __func__);
        return -1;
    }
    if (ff)
        ff(data);
    api_object_unref(conn);
    return 0;
}
