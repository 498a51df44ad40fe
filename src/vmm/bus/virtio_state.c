/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A virtio device in a saved machine: its queues, and requests that are under way. What is loaded is hostile. */
#include <string.h>

#include "vmm/bus/virtio_event.h"
#include "vmm/bus/virtqueue_private.h"
#include "vmm/core/state.h"

enum { QUEUE_WORDS = 10, CHAIN_WORDS = 5 };
enum { W_FLAGS, W_SIZE, W_VECTOR, W_DESC, W_AVAIL, W_USED, W_LAST_AVAIL, W_USED_IDX, W_SIGNALLED, W_SINCE };
enum { Q_ENABLED = 1, Q_AVAIL_WRAP = 2, Q_USED_WRAP = 4, Q_SIGNALLED = 8, Q_NO_EVENTS = 16, Q_FLAGS = 31 };

void virtio_save(struct virtio_device *v, struct state_writer *w)
{
    g_autofree uint64_t *words = g_new0(uint64_t, v->nqueues * QUEUE_WORDS);
    for (unsigned i = 0; i < v->nqueues; i++) {
        const struct virtqueue *q = &v->queues[i];
        uint64_t *to = words + i * QUEUE_WORDS;
        to[W_FLAGS] = (q->enabled ? Q_ENABLED : 0) | (q->avail_wrap ? Q_AVAIL_WRAP : 0) | (q->used_wrap ? Q_USED_WRAP : 0) |
                      (q->signalled_valid ? Q_SIGNALLED : 0) | (q->no_avail_events ? Q_NO_EVENTS : 0);
        to[W_SIZE] = q->size;
        to[W_VECTOR] = q->vector;
        to[W_DESC] = q->desc;
        to[W_AVAIL] = q->avail;
        to[W_USED] = q->used;
        to[W_LAST_AVAIL] = q->last_avail;
        to[W_USED_IDX] = q->used_idx;
        to[W_SIGNALLED] = q->signalled_used;
        to[W_SINCE] = q->since_signal;
    }
    state_put(w, "virtio.queues", words, 8, v->nqueues * QUEUE_WORDS);
}

/* What the field table has set. */
static bool check_registers(struct virtio_device *v, struct state_reader *r, GError **error)
{
    if (v->features & ~v->host_features)
        return state_bad(r, error, "its driver uses features %#" G_GINT64_MODIFIER "x, which the device here does not offer", v->features & ~v->host_features);
    if (v->isr > 3) /* of the status a driver may have set any bit */
        return state_bad(r, error, "its interrupt status is %#x", v->isr);
    if (v->config_vector != VIRTIO_NO_VECTOR && v->config_vector >= v->transport->vectors(v))
        return state_bad(r, error, "it has no interrupt vector %u", v->config_vector);
    return true;
}

static bool load_queue(struct virtqueue *q, const uint64_t *from, struct state_reader *r, GError **error)
{
    struct virtio_device *v = q->v;
    uint64_t flags = from[W_FLAGS], vector = from[W_VECTOR];
    bool broken = v->broken;
    if (flags & ~(uint64_t)Q_FLAGS || from[W_SIZE] > UINT16_MAX || from[W_LAST_AVAIL] > UINT16_MAX || from[W_USED_IDX] > UINT16_MAX ||
        from[W_SIGNALLED] > UINT16_MAX || from[W_SINCE] > UINT16_MAX)
        return state_bad(r, error, "a register of queue %u is out of bounds", q->index);
    if (vector != VIRTIO_NO_VECTOR && vector >= v->transport->vectors(v))
        return state_bad(r, error, "queue %u has interrupt vector %" G_GUINT64_FORMAT ", of %u", q->index, vector, v->transport->vectors(v));
    q->size = (uint16_t)from[W_SIZE];
    q->vector = (uint16_t)vector;
    q->desc = from[W_DESC];
    q->avail = from[W_AVAIL];
    q->used = from[W_USED];
    if (!(flags & Q_ENABLED))
        return true;
    v->broken = true; /* enabling tells nobody */
    virtqueue_enable(q);
    v->broken = broken;
    if (!broken && !q->desc_host)
        return state_bad(r, error, "the rings of queue %u lie outside RAM, or their size (%u) is not possible", q->index, q->size);
    if (q->packed && !broken && (from[W_LAST_AVAIL] >= q->size || from[W_USED_IDX] >= q->size))
        return state_bad(r, error, "the places in the ring of queue %u are beyond its size", q->index);
    q->avail_wrap = flags & Q_AVAIL_WRAP;
    q->used_wrap = flags & Q_USED_WRAP;
    q->signalled_valid = flags & Q_SIGNALLED;
    q->no_avail_events = flags & Q_NO_EVENTS;
    q->last_avail = (uint16_t)from[W_LAST_AVAIL];
    q->used_idx = (uint16_t)from[W_USED_IDX];
    q->signalled_used = (uint16_t)from[W_SIGNALLED];
    q->since_signal = (unsigned)from[W_SINCE];
    return true;
}

bool virtio_load(struct virtio_device *v, struct state_reader *r, GError **error)
{
    uint64_t words[VIRTIO_MAX_QUEUES * QUEUE_WORDS];
    if (!check_registers(v, r, error) || !state_get(r, "virtio.queues", words, 8, v->nqueues * QUEUE_WORDS, error))
        return false;
    for (unsigned i = 0; i < v->nqueues; i++) {
        if (!load_queue(&v->queues[i], words + i * QUEUE_WORDS, r, error))
            return false;
    }
    v->transport->loaded(v);
    if (v->event) {
        virtio_event_update(v->event);
        virtio_event_look_again(v->event);
    }
    return true;
}

/* ---- requests that are under way ---- */

void virtio_chain_save(const struct virtio_chain *c, struct state_writer *w, const char *name)
{
    unsigned n = c->nout + c->nin;
    g_autofree uint64_t *words = g_new0(uint64_t, CHAIN_WORDS + 2 * n);
    const uint64_t head[CHAIN_WORDS] = { c->queue->index, c->head, c->places, c->nout, c->nin };
    memcpy(words, head, sizeof(head));
    for (unsigned i = 0; i < n; i++) {
        words[CHAIN_WORDS + 2 * i] = c->gpa[i];
        words[CHAIN_WORDS + 2 * i + 1] = c->iov[i].iov_len;
    }
    state_put(w, name, words, 8, CHAIN_WORDS + 2 * n);
}

static bool load_pieces(struct virtio_chain *c, const uint64_t *pieces, struct state_reader *r, const char *name, GError **error)
{
    for (unsigned i = 0; i < c->nout + c->nin; i++) {
        uint64_t gpa = pieces[2 * i], size = pieces[2 * i + 1];
        void *host = size && size <= UINT32_MAX && gpa + size >= gpa ? guest_memory_ptr(c->queue->v->dev.machine->memory, gpa, size, i >= c->nout) : NULL;
        if (size && !host)
            return state_bad(r, error, "'%s' names a buffer that is not RAM", name);
        c->iov[i] = (struct iovec){ host, size };
        c->gpa[i] = gpa;
        *(i < c->nout ? &c->out_len : &c->in_len) += size;
    }
    return true;
}

struct virtio_chain *virtio_chain_load(struct virtio_device *v, struct state_reader *r, const char *name, GError **error)
{
    uint64_t words[CHAIN_WORDS + 2 * VIRTIO_MAX_CHAIN];
    uint32_t count;
    if (!state_get_some(r, name, words, 8, G_N_ELEMENTS(words), &count, error))
        return NULL;
    struct virtqueue *q = count >= CHAIN_WORDS && words[0] < v->nqueues ? &v->queues[words[0]] : NULL;
    bool sane = q && q->enabled && words[1] <= UINT16_MAX && words[2] >= 1 && words[2] <= q->size && words[3] <= VIRTIO_MAX_CHAIN && words[4] <= VIRTIO_MAX_CHAIN &&
                count == CHAIN_WORDS + 2 * (words[3] + words[4]) && q->inflight + words[2] <= q->size && (q->packed || words[1] < q->size);
    if (!sane) {
        state_bad(r, error, "'%s' is no request of its queues", name);
        return NULL;
    }
    unsigned n = (unsigned)(words[3] + words[4]);
    struct virtio_chain *c = g_malloc0(sizeof(*c) + n * (sizeof(struct iovec) + sizeof(uint64_t)));
    *c = (struct virtio_chain){ .queue = q, .head = (uint16_t)words[1], .places = (uint16_t)words[2], .epoch = v->epoch, .nout = (unsigned)words[3],
                                .nin = (unsigned)words[4], .iov = (struct iovec *)(c + 1) };
    c->gpa = (uint64_t *)(c->iov + n);
    if (!load_pieces(c, words + CHAIN_WORDS, r, name, error)) {
        virtio_chain_free(c);
        return NULL;
    }
    q->inflight += q->packed ? c->places : 1;
    return c;
}

bool virtio_chains_load(struct virtio_device *v, struct state_reader *r, uint64_t max, GQueue *ret, GError **error)
{
    uint64_t n;
    if (!state_get_u64(r, "requests", max, &n, error))
        return false;
    for (unsigned i = 0; i < n; i++) {
        g_autofree char *name = g_strdup_printf("request%u", i);
        struct virtio_chain *c = virtio_chain_load(v, r, name, error);
        if (!c)
            return false;
        g_queue_push_tail(ret, c);
    }
    return true;
}
