/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who wants to hear of what: the register and deregister procedures, and delivery. */
#include <string.h>

#include "manage/core/manage_private.h"

struct registration {
    struct manage_conn *conn;
    enum manage_class class;
    unsigned id;
    int callback;
    bool legacy; /* registered without a callback id (feature 14 is off): gets the old messages */
    GBytes *key; /* NULL: all objects */
    GRegex *name; /* MANAGE_MONITOR: of the event; NULL: any */
};

struct manage_events {
    GMutex lock;
    GPtrArray *list; /* of struct registration *, owned */
    int next;
};

/* The event procedure of (class, event id); 0: there is none. */
static unsigned event_proc(enum manage_class class, unsigned id)
{
    static const uint16_t domain[] = { 318, 319, 320, 321, 322, 323, 324, 325, 326, 327, 328, 329, 330, 331, 332, 333, 339, 346, 348, 354, 359, 363, 367, 379,
                                       385, 423, 438, 453 };
    static const uint16_t network[] = { 315, 446 }, pool[] = { 370, 373 }, nodedev[] = { 376, 377 }, secret[] = { 382, 383 }, monitor[] = { RPC_QEMU_DOMAIN_MONITOR_EVENT };
    static const struct { const uint16_t *proc; unsigned n; } all[MANAGE_NCLASSES] = {
        [MANAGE_DOMAIN] = { domain, G_N_ELEMENTS(domain) }, [MANAGE_NETWORK] = { network, 2 }, [MANAGE_POOL] = { pool, 2 }, [MANAGE_NODEDEV] = { nodedev, 2 },
        [MANAGE_SECRET] = { secret, 2 }, [MANAGE_MONITOR] = { monitor, 1 },
    };
    return id < all[class].n ? all[class].proc[id] : 0;
}

/* The old message of a domain event: no callback id. */
static unsigned legacy_proc(unsigned id)
{
    static const uint16_t legacy[] = { 107, 169, 170, 171, 172, 173, 195, 224, 241, 248, 268, 269, 270, 276, 292, 311 };
    return id < G_N_ELEMENTS(legacy) ? legacy[id] : 0;
}

static void registration_free(gpointer opaque)
{
    struct registration *r = opaque;
    manage_conn_unref(r->conn);
    if (r->key)
        g_bytes_unref(r->key);
    if (r->name)
        g_regex_unref(r->name);
    g_free(r);
}

struct manage_events *manage_events_new(void)
{
    struct manage_events *e = g_new0(struct manage_events, 1);
    g_mutex_init(&e->lock);
    e->list = g_ptr_array_new_with_free_func(registration_free);
    return e;
}

void manage_events_free(struct manage_events *e)
{
    g_ptr_array_unref(e->list);
    g_mutex_clear(&e->lock);
    g_free(e);
}

void manage_events_forget(struct manage_events *e, struct manage_conn *c)
{
    g_mutex_lock(&e->lock);
    for (unsigned i = e->list->len; i-- > 0;) {
        struct registration *r = e->list->pdata[i];
        if (r->conn == c)
            g_ptr_array_remove_index(e->list, i);
    }
    g_mutex_unlock(&e->lock);
}

struct delivery {
    struct manage_conn *conn;
    int callback;
    bool legacy;
};

/* (callback, body...) */
static GVariant *with_callback(int callback, GVariant *body)
{
    gsize n = g_variant_n_children(body);
    g_autofree GVariant **child = g_new0(GVariant *, n + 1);
    child[0] = g_variant_new_int32(callback);
    for (gsize i = 0; i < n; i++)
        child[i + 1] = g_variant_get_child_value(body, i);
    GVariant *v = g_variant_new_tuple(child, n + 1);
    for (gsize i = 0; i < n; i++)
        g_variant_unref(child[i + 1]);
    return v;
}

/* Messages in which the domain stands behind the first field (wire facts, section 7). */
static GVariant *reason_first(GVariant *body)
{
    g_autoptr(GVariant) domain = g_variant_get_child_value(body, 0), reason = g_variant_get_child_value(body, 1);
    GVariant *swapped[] = { reason, domain };
    return g_variant_new_tuple(swapped, 2);
}

static void deliver(const struct delivery *d, enum manage_class class, unsigned id, GVariant *body)
{
    const struct rpc_proc *p = rpc_proc(d->legacy ? legacy_proc(id) : event_proc(class, id));
    if (!p || !d->conn->event)
        return;
    g_autoptr(GVariant) payload = g_variant_ref_sink(d->legacy ? g_variant_ref(body) : with_callback(d->callback, body));
    if (g_variant_is_of_type(payload, G_VARIANT_TYPE(p->args_type)))
        d->conn->event(d->conn, p, payload);
    else
        g_critical("event %s: %s instead of %s", p->name, g_variant_get_type_string(payload), p->args_type);
}

bool manage_event_wanted(struct manage_state *s, enum manage_class class, unsigned id)
{
    struct manage_events *e = s->events;
    bool wanted = false;
    g_mutex_lock(&e->lock);
    for (unsigned i = 0; i < e->list->len && !wanted; i++) {
        const struct registration *r = e->list->pdata[i];
        wanted = r->class == class && r->id == id;
    }
    g_mutex_unlock(&e->lock);
    return wanted;
}

static bool wants(const struct registration *r, enum manage_class class, unsigned id, const void *key, gsize key_size, const char *name)
{
    return r->class == class && r->id == id && (!r->key || (g_bytes_get_size(r->key) == key_size && !memcmp(g_bytes_get_data(r->key, NULL), key, key_size))) &&
           (!r->name || g_regex_match(r->name, name, 0, NULL));
}

void manage_event(struct manage_state *s, enum manage_class class, unsigned id, const void *key, gsize key_size, GVariant *floating)
{
    struct manage_events *e = s->events;
    g_autoptr(GVariant) given = g_variant_ref_sink(floating);
    bool swapped = class == MANAGE_DOMAIN && (id == 11 || id == 12 || id == 14);
    g_autoptr(GVariant) body = swapped ? g_variant_ref_sink(reason_first(given)) : g_variant_ref(given);
    g_autoptr(GArray) to = g_array_new(FALSE, FALSE, sizeof(struct delivery));
    const char *name = "";
    if (class == MANAGE_MONITOR)
        g_variant_get_child(body, 1, "&s", &name);
    g_mutex_lock(&e->lock);
    for (unsigned i = 0; i < e->list->len; i++) {
        const struct registration *r = e->list->pdata[i];
        if (!wants(r, class, id, key, key_size, name))
            continue;
        struct delivery d = { manage_conn_ref(r->conn), r->callback, r->legacy };
        g_array_append_val(to, d);
    }
    g_mutex_unlock(&e->lock);
    for (unsigned i = 0; i < to->len; i++) {
        deliver(&g_array_index(to, struct delivery, i), class, id, body);
        manage_conn_unref(g_array_index(to, struct delivery, i).conn);
    }
}

/* ---- procedures ---- */

/* Takes over key and name. */
static int add(struct manage_call *c, enum manage_class class, unsigned id, GBytes *key, GRegex *name, bool legacy)
{
    struct manage_events *e = c->conn->state->events;
    struct registration *r = g_new0(struct registration, 1);
    *r = (struct registration){ manage_conn_ref(c->conn), class, id, 0, legacy, key, name };
    g_mutex_lock(&e->lock);
    r->callback = ++e->next;
    g_ptr_array_add(e->list, r);
    g_mutex_unlock(&e->lock);
    return r->callback;
}

/* The key of an optional object: its UUID, or a node device's name. */
static GBytes *key_of(GVariant *maybe, enum manage_class class)
{
    g_autoptr(GVariant) object = g_variant_get_maybe(maybe);
    if (!object)
        return NULL;
    if (class == MANAGE_NODEDEV) {
        const char *name;
        g_variant_get_child(object, 0, "&s", &name);
        return g_bytes_new(name, strlen(name));
    }
    g_autoptr(GVariant) uuid = g_variant_get_child_value(object, class == MANAGE_SECRET ? 0 : 1);
    return g_bytes_new(g_variant_get_data(uuid), g_variant_get_size(uuid));
}

static GVariant *register_any(struct manage_call *c, enum manage_class class, GError **error)
{
    int id;
    g_variant_get_child(c->args, 0, "i", &id);
    if (id < 0 || !event_proc(class, (unsigned)id))
        return manage_null(error, VIR_ERR_INVALID_ARG, "unsupported event ID %d", id);
    g_autoptr(GVariant) object = g_variant_get_child_value(c->args, 1);
    return g_variant_new("(i)", add(c, class, (unsigned)id, key_of(object, class), NULL, false));
}

static GVariant *deregister(struct manage_call *c, enum manage_class class, GError **error)
{
    struct manage_events *e = c->conn->state->events;
    int callback;
    bool found = false;
    g_variant_get_child(c->args, 0, "i", &callback);
    g_mutex_lock(&e->lock);
    for (unsigned i = 0; i < e->list->len && !found; i++) {
        const struct registration *r = e->list->pdata[i];
        if ((found = r->conn == c->conn && r->class == class && r->callback == callback))
            g_ptr_array_remove_index(e->list, i);
    }
    g_mutex_unlock(&e->lock);
    return found ? manage_void() : manage_null(error, VIR_ERR_INVALID_ARG, "no event callback %d is registered", callback);
}

/* Flags of the qemu program's registration: the name is a regular expression, upper and lower case are one. */
enum { NAME_IS_REGEX = 1, NAME_IN_ANY_CASE = 2 };

static GVariant *monitor_register(struct manage_call *c, GError **error)
{
    g_autoptr(GVariant) object = g_variant_get_child_value(c->args, 0);
    const char *name;
    uint32_t flags;
    GRegex *regex = NULL;
    g_variant_get_child(c->args, 1, "m&s", &name);
    g_variant_get_child(c->args, 2, "u", &flags);
    if (!manage_check_flags(flags, NAME_IS_REGEX | NAME_IN_ANY_CASE, error))
        return NULL;
    if (name) {
        g_autoptr(GError) why = NULL;
        g_autofree char *escaped = g_regex_escape_string(name, -1), *whole = g_strdup_printf("^%s$", escaped);
        regex = g_regex_new(flags & NAME_IS_REGEX ? name : whole, flags & NAME_IN_ANY_CASE ? G_REGEX_CASELESS : 0, 0, &why);
        if (!regex)
            return manage_null(error, VIR_ERR_INVALID_ARG, "'%s' is no regular expression: %s", name, why->message);
    }
    return g_variant_new("(i)", add(c, MANAGE_MONITOR, 0, key_of(object, MANAGE_MONITOR), regex, false));
}

static GVariant *monitor_deregister(struct manage_call *c, GError **error) { return deregister(c, MANAGE_MONITOR, error); }

#define EVENTS(name, CLASS) \
    static GVariant *name##_register(struct manage_call *c, GError **error) { return register_any(c, CLASS, error); } \
    static GVariant *name##_deregister(struct manage_call *c, GError **error) { return deregister(c, CLASS, error); }
EVENTS(domain, MANAGE_DOMAIN)
EVENTS(network, MANAGE_NETWORK)
EVENTS(pool, MANAGE_POOL)
EVENTS(nodedev, MANAGE_NODEDEV)
EVENTS(secret, MANAGE_SECRET)

/* The oldest calls: one registration per event id and connection, messages without a callback id. */
static GVariant *legacy_any(struct manage_call *c, bool on, int id, GError **error)
{
    struct manage_events *e = c->conn->state->events;
    bool found = false;
    if (id < 0 || !legacy_proc((unsigned)id))
        return manage_null(error, VIR_ERR_INVALID_ARG, "unsupported event ID %d", id);
    g_mutex_lock(&e->lock);
    for (unsigned i = 0; i < e->list->len && !found; i++) {
        const struct registration *r = e->list->pdata[i];
        found = r->conn == c->conn && r->legacy && r->id == (unsigned)id;
        if (found && !on)
            g_ptr_array_remove_index(e->list, i);
    }
    g_mutex_unlock(&e->lock);
    if (found == on)
        return manage_null(error, VIR_ERR_INVALID_ARG, on ? "domain event %d already registered" : "domain event %d not registered", id);
    if (on)
        add(c, MANAGE_DOMAIN, (unsigned)id, NULL, NULL, true);
    return manage_void();
}

static int first_int(struct manage_call *c)
{
    int id;
    g_variant_get_child(c->args, 0, "i", &id);
    return id;
}
static GVariant *legacy_register_any(struct manage_call *c, GError **error) { return legacy_any(c, true, first_int(c), error); }
static GVariant *legacy_deregister_any(struct manage_call *c, GError **error) { return legacy_any(c, false, first_int(c), error); }
static GVariant *legacy_register(struct manage_call *c, GError **error)
{
    GVariant *v = legacy_any(c, true, 0, error);
    return v ? g_variant_unref(g_variant_ref_sink(v)), g_variant_new("(i)", 1) : NULL;
}
static GVariant *legacy_deregister(struct manage_call *c, GError **error)
{
    GVariant *v = legacy_any(c, false, 0, error);
    return v ? g_variant_unref(g_variant_ref_sink(v)), g_variant_new("(i)", 0) : NULL;
}

const struct manage_row manage_event_rows[] = {
    { RPC_CONNECT_DOMAIN_EVENT_REGISTER, legacy_register },
    { RPC_CONNECT_DOMAIN_EVENT_DEREGISTER, legacy_deregister },
    { RPC_CONNECT_DOMAIN_EVENT_REGISTER_ANY, legacy_register_any },
    { RPC_CONNECT_DOMAIN_EVENT_DEREGISTER_ANY, legacy_deregister_any },
    { RPC_CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY, domain_register },
    { RPC_CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY, domain_deregister },
    { RPC_CONNECT_NETWORK_EVENT_REGISTER_ANY, network_register },
    { RPC_CONNECT_NETWORK_EVENT_DEREGISTER_ANY, network_deregister },
    { RPC_CONNECT_STORAGE_POOL_EVENT_REGISTER_ANY, pool_register },
    { RPC_CONNECT_STORAGE_POOL_EVENT_DEREGISTER_ANY, pool_deregister },
    { RPC_CONNECT_NODE_DEVICE_EVENT_REGISTER_ANY, nodedev_register },
    { RPC_CONNECT_NODE_DEVICE_EVENT_DEREGISTER_ANY, nodedev_deregister },
    { RPC_CONNECT_SECRET_EVENT_REGISTER_ANY, secret_register },
    { RPC_CONNECT_SECRET_EVENT_DEREGISTER_ANY, secret_deregister },
    { RPC_QEMU_CONNECT_DOMAIN_MONITOR_EVENT_REGISTER, monitor_register },
    { RPC_QEMU_CONNECT_DOMAIN_MONITOR_EVENT_DEREGISTER, monitor_deregister },
    { 0, NULL },
};
