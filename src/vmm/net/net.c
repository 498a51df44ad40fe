/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What all network back ends share: the front end, and frames that wait for its buffers. One row per kind. */
#include <string.h>

#include "base/error.h"
#include "vmm/net/net_private.h"

enum { WAITING_MAX = 256 }; /* frames; more are dropped, as on a wire */

static const struct net_backend_ops *const kinds[] = { &net_slirp };

struct net_backend *net_backend_create(const char *type, const char *id, GHashTable *opts, GPtrArray *hostfwd, GError **error)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (strcmp(kinds[i]->type, type))
            continue;
        struct net_backend *b = kinds[i]->create(id, opts, hostfwd, error);
        if (b) {
            b->ops = kinds[i];
            b->id = g_strdup(id);
        }
        return b;
    }
    vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "netdev type '%s' is not there; there is: user", type);
    return NULL;
}

void net_backend_destroy(struct net_backend *b)
{
    if (!b)
        return;
    g_queue_clear_full(&b->waiting, (GDestroyNotify)g_bytes_unref);
    g_free(b->id);
    b->ops->destroy(b);
}

bool net_backend_attach(struct net_backend *b, const struct net_frontend *f, void *opaque, GError **error)
{
    if (b->frontend)
        return vireo_fail(error, VIREO_ERROR_BUSY, "netdev '%s' is already used by another device", b->id);
    b->frontend = f;
    b->frontend_opaque = opaque;
    return true;
}

void net_backend_detach(struct net_backend *b)
{
    b->frontend = NULL;
    g_queue_clear_full(&b->waiting, (GDestroyNotify)g_bytes_unref);
}

void net_send(struct net_backend *b, const uint8_t *frame, size_t n)
{
    b->ops->send(b, frame, n);
}

void net_receive_ready(struct net_backend *b)
{
    b->ops->wake(b);
}

const char *net_backend_id(const struct net_backend *b)
{
    return b->id;
}

void net_flush(struct net_backend *b)
{
    while (b->frontend && !g_queue_is_empty(&b->waiting) && b->frontend->can_receive(b->frontend_opaque)) {
        g_autoptr(GBytes) frame = g_queue_pop_head(&b->waiting);
        b->frontend->receive(b->frontend_opaque, g_bytes_get_data(frame, NULL), g_bytes_get_size(frame));
    }
}

void net_deliver(struct net_backend *b, const uint8_t *frame, size_t n)
{
    if (!b->frontend)
        return;
    net_flush(b);
    if (g_queue_is_empty(&b->waiting) && b->frontend->can_receive(b->frontend_opaque))
        b->frontend->receive(b->frontend_opaque, frame, n);
    else if (g_queue_get_length(&b->waiting) < WAITING_MAX)
        g_queue_push_tail(&b->waiting, g_bytes_new(frame, n));
}
