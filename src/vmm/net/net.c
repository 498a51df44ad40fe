/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What all network back ends share: the front end, and frames that wait for its buffers. One row per kind. */
#include <string.h>

#include "base/error.h"
#include "base/keyval.h"
#include "vmm/core/machine.h"
#include "vmm/net/net_private.h"

enum { WAITING_MAX = 256 /* frames; more are dropped, as on a wire */, PIECES = 320 };

static const struct net_backend_ops *const kinds[] = { &net_slirp, &net_tap, &net_bridge, &net_socket, &net_stream, &net_dgram };

/* Kinds of QEMU that are not there, and what does the same. */
static const struct { const char *type, *instead; } missing[] = {
    { "hubport", "there are no hubs; connect machines through a bridge of the host (tap, bridge) or dgram" },
    { "l2tpv3", "make the tunnel on the host (ip l2tp) and bridge it to a tap" },
    { "vde", "connect the VDE switch to a tap of the host, and use tap" },
    { "netmap", "use tap" },
    { "af-xdp", "use tap" },
    { "vhost-user", "shared rings with another process are not there yet; use tap, or stream with passt" },
    { "vhost-vdpa", "use tap" },
    { "vmnet-host", "it belongs to another operating system; use tap" },
    { "vmnet-shared", "it belongs to another operating system; use user" },
    { "vmnet-bridged", "it belongs to another operating system; use bridge" },
};

static bool no_such_kind(const char *type, GError **error)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(missing); i++) {
        if (!strcmp(missing[i].type, type))
            return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "netdev type '%s' is not available: %s", type, missing[i].instead);
    }
    GString *all = g_string_new(NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++)
        g_string_append_printf(all, "%s%s", i ? ", " : "", kinds[i]->type);
    vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "netdev type '%s' is not there; there are: %s", type, all->str);
    g_string_free(all, TRUE);
    return false;
}

struct net_backend *net_backend_create(const char *type, const char *id, GHashTable *opts, GPtrArray *hostfwd, GError **error)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (strcmp(kinds[i]->type, type))
            continue;
        if (hostfwd && hostfwd->len && kinds[i] != &net_slirp) {
            vireo_fail(error, VIREO_ERROR_INVALID, "netdev %s: hostfwd belongs to user", type);
            return NULL;
        }
        struct net_backend *b = kinds[i]->create(id, opts, hostfwd, error);
        if (b) {
            b->ops = b->ops ? b->ops : kinds[i];
            b->id = g_strdup(id);
            b->queues = MAX(b->queues, 1);
        }
        return b;
    }
    no_such_kind(type, error);
    return NULL;
}

void net_backend_destroy(struct net_backend *b)
{
    if (!b)
        return;
    g_assert(!b->frontend);
    g_queue_clear_full(&b->waiting, (GDestroyNotify)g_bytes_unref);
    g_free(b->id);
    b->ops->destroy(b);
}

/* ---- by name ---- */

bool net_open(struct machine *m, const struct keyval *kv, const char *id, GError **error)
{
    keyval_auto *copy = keyval_copy(kv);
    g_autofree char *type = keyval_take(copy, "type"), *own_id = keyval_take(copy, "id");
    g_autoptr(GPtrArray) hostfwd = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < kv->pairs->len; i++) {
        const struct keyval_pair *p = kv->pairs->pdata[i];
        /* as JSON: hostfwd is a list of objects with one member, str */
        bool in_json = g_str_has_prefix(p->key, "hostfwd.") && g_str_has_suffix(p->key, ".str");
        if (in_json)
            g_free(keyval_take(copy, p->key));
        if (in_json || !strcmp(p->key, "hostfwd"))
            g_ptr_array_add(hostfwd, g_strdup(p->value ? p->value : ""));
    }
    g_free(keyval_take(copy, "hostfwd"));
    if (!type)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'type' is missing; the type comes first, as in user,id=...");
    if (own_id)
        id = own_id;
    if (!id || !*id)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'id' is missing; add id=NAME");
    if (g_hash_table_contains(m->netdevs, id))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Duplicate ID '%s' for netdev", id);
    g_autoptr(GHashTable) opts = keyval_to_hash(copy);
    struct net_backend *b = net_backend_create(type, id, opts, hostfwd, error);
    if (b) {
        b->machine = m;
        g_hash_table_insert(m->netdevs, b->id, b);
    }
    return b;
}

bool net_close(struct machine *m, const char *id, GError **error)
{
    struct net_backend *b = g_hash_table_lookup(m->netdevs, id);
    if (!b)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Device '%s' not found", id);
    if (b->frontend)
        return vireo_fail(error, VIREO_ERROR_BUSY, "netdev '%s' is used by a device; remove that first", id);
    g_hash_table_steal(m->netdevs, id);
    net_backend_destroy(b);
    return true;
}

/* ---- the front end ---- */

bool net_backend_attach(struct net_backend *b, const struct net_frontend *f, void *opaque, GError **error)
{
    if (b->frontend)
        return vireo_fail(error, VIREO_ERROR_BUSY, "netdev '%s' is already used by another device", b->id);
    b->frontend_opaque = opaque;
    b->frontend = f;
    if (b->ops->start)
        b->ops->start(b);
    return true;
}

void net_backend_detach(struct net_backend *b)
{
    if (b->ops->stop)
        b->ops->stop(b);
    b->frontend = NULL;
    g_queue_clear_full(&b->waiting, (GDestroyNotify)g_bytes_unref);
    net_use_header(b, false);
}

bool net_attached(const struct net_backend *b)
{
    return b->frontend;
}

const char *net_backend_id(const struct net_backend *b)
{
    return b->id;
}

const char *net_backend_type(const struct net_backend *b)
{
    return b->ops->type;
}

/* ---- frames ---- */

enum net_sent net_sendv(struct net_backend *b, unsigned queue, const struct iovec *iov, unsigned n)
{
    if (atomic_load_explicit(&b->down, memory_order_relaxed))
        return NET_DROPPED;
    return b->ops->sendv(b, queue, iov, n);
}

void net_send(struct net_backend *b, const uint8_t *frame, size_t n)
{
    static const uint8_t none[NET_HEADER];
    struct iovec iov[2] = { { (void *)none, sizeof(none) }, { (void *)frame, n } };
    (void)net_sendv(b, 0, b->header ? iov : iov + 1, b->header ? 2 : 1);
}

void net_receive_ready(struct net_backend *b)
{
    b->ops->wake(b, 0);
}

void net_receive_ready_queue(struct net_backend *b, unsigned queue)
{
    b->ops->wake(b, queue);
}

bool net_give(struct net_backend *b, unsigned queue, const uint8_t *frame, size_t n)
{
    const struct net_frontend *f = b->frontend;
    struct iovec iov[PIECES];
    if (!f->rx_buffers) {
        if (!f->can_receive(b->frontend_opaque))
            return false;
        f->receive(b->frontend_opaque, frame, n);
        return true;
    }
    unsigned pieces = f->rx_buffers(b->frontend_opaque, queue, iov, PIECES);
    if (!pieces)
        return false;
    f->rx_done(b->frontend_opaque, queue, net_iov_scatter(iov, pieces, frame, n));
    return true;
}

void net_flush(struct net_backend *b)
{
    while (b->frontend && !g_queue_is_empty(&b->waiting)) {
        GBytes *frame = g_queue_peek_head(&b->waiting);
        if (!net_give(b, 0, g_bytes_get_data(frame, NULL), g_bytes_get_size(frame)))
            return;
        g_bytes_unref(g_queue_pop_head(&b->waiting));
    }
}

void net_deliver(struct net_backend *b, const uint8_t *frame, size_t n)
{
    if (!b->frontend || b->down)
        return;
    net_flush(b);
    if (g_queue_is_empty(&b->waiting) && net_give(b, 0, frame, n))
        return;
    if (g_queue_get_length(&b->waiting) < WAITING_MAX)
        g_queue_push_tail(&b->waiting, g_bytes_new(frame, n));
}

size_t net_iov_length(const struct iovec *iov, unsigned n)
{
    size_t sum = 0;
    for (unsigned i = 0; i < n; i++)
        sum += iov[i].iov_len;
    return sum;
}

size_t net_iov_gather(const struct iovec *iov, unsigned n, void *ret, size_t size)
{
    size_t done = 0;
    for (unsigned i = 0; i < n && done < size; i++) {
        size_t part = MIN(size - done, iov[i].iov_len);
        memcpy((uint8_t *)ret + done, iov[i].iov_base, part);
        done += part;
    }
    return done;
}

size_t net_iov_scatter(const struct iovec *iov, unsigned n, const void *data, size_t size)
{
    size_t done = 0;
    for (unsigned i = 0; i < n && done < size; i++) {
        size_t part = MIN(size - done, iov[i].iov_len);
        memcpy(iov[i].iov_base, (const uint8_t *)data + done, part);
        done += part;
    }
    return done;
}

/* ---- what the two agree on ---- */

unsigned net_queues(const struct net_backend *b)
{
    return b->queues;
}

void net_set_queues(struct net_backend *b, unsigned n)
{
    if (b->ops->set_queues)
        b->ops->set_queues(b, n);
}

bool net_has_header(const struct net_backend *b)
{
    return b->has_header;
}

void net_use_header(struct net_backend *b, bool on)
{
    if (!b->has_header || b->header == on)
        return;
    b->header = on;
    if (b->ops->set_header)
        b->ops->set_header(b, on);
}

void net_set_offloads(struct net_backend *b, unsigned offloads)
{
    if (b->header && b->ops->set_offloads)
        b->ops->set_offloads(b, offloads);
}

struct vhost *net_vhost(struct net_backend *b, unsigned queue, int *ret_fd, bool *ret_forced)
{
    return b->ops->vhost && queue < b->queues ? b->ops->vhost(b, queue, ret_fd, ret_forced) : NULL;
}

bool net_link(const struct net_backend *b)
{
    return !b->down;
}

void net_set_link(struct net_backend *b, bool up)
{
    if (b->down == !up)
        return;
    b->down = !up;
    if (b->frontend && b->frontend->link_changed)
        b->frontend->link_changed(b->frontend_opaque);
    if (up && b->frontend)
        for (unsigned i = 0; i < b->queues; i++)
            b->ops->wake(b, i);
}
