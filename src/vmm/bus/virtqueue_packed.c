/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Packed virtqueues (virtio 1.2, 2.8): one ring of descriptors that the driver makes available and the device overwrites as used,
 * told apart by two bits that change their meaning with each lap. A request has as many places of the ring as it has descriptors.
 */
#include <string.h>

#include "vmm/bus/virtqueue_private.h"

enum { DESC_AVAIL = 1 << 7, DESC_USED = 1 << 15 };                    /* 2.8.1 */
enum { EVENT_OFF_WRAP = 0, EVENT_FLAGS = 2, EVENT_SIZE = 4 };         /* 2.8.14 */
enum { EVENTS_ON = 0, EVENTS_OFF = 1, EVENTS_AT = 2 };
enum { MAX_PACKED_SIZE = 1 << 15 };                                   /* 2.8.10.1 */

struct packed_desc { /* 2.8.13 */
    uint64_t addr;
    uint32_t len;
    uint16_t id, flags;
};

void virtqueue_packed_enable(struct virtqueue *q)
{
    struct guest_memory *m = q->v->dev.machine->memory;
    unsigned n = q->size;
    if (!n || n > q->max_size || n > MAX_PACKED_SIZE) {
        virtio_broken(q->v, "queue %u: a size of %u is not possible", q->index, n);
        return;
    }
    if (q->desc % 16 || q->avail % 4 || q->used % 4) {
        virtio_broken(q->v, "queue %u: its rings are not aligned", q->index);
        return;
    }
    q->desc_host = guest_memory_ptr(m, q->desc, 16 * n, true);
    q->avail_host = guest_memory_ptr(m, q->avail, EVENT_SIZE, false);
    q->used_host = guest_memory_ptr(m, q->used, EVENT_SIZE, true);
    q->avail_wrap = q->used_wrap = true;
    if (!q->desc_host || !q->avail_host || !q->used_host) {
        q->desc_host = NULL;
        virtio_broken(q->v, "queue %u: its rings are outside RAM", q->index);
    }
}

static void step(uint16_t *index, bool *wrap, uint16_t by, uint16_t size)
{
    unsigned at = *index + by;
    if (at >= size) {
        at -= size;
        *wrap = !*wrap;
    }
    *index = at;
}

bool virtqueue_packed_waiting(struct virtqueue *q)
{
    uint16_t flags = load16(q->desc_host + 16u * q->last_avail + 14);
    return !!(flags & DESC_AVAIL) == q->avail_wrap && !!(flags & DESC_USED) != q->avail_wrap;
}

/* The only bit that counts in an indirect table is WRITE; its descriptors follow each other (2.8.7). */
static bool walk_indirect(struct walk *w, const struct packed_desc *d)
{
    const uint8_t *host = virtqueue_walk_table(w, d->addr, d->len, d->flags & DESC_NEXT);
    unsigned n = d->len / 16;
    if (host && n > VIRTIO_MAX_CHAIN)
        virtio_broken(w->q->v, "queue %u: an indirect table of %u descriptors", w->q->index, n);
    if (!host || n > VIRTIO_MAX_CHAIN)
        return false;
    for (unsigned i = 0; i < n; i++) {
        struct packed_desc e;
        memcpy(&e, host + 16 * i, sizeof(e));
        atomic_signal_fence(memory_order_seq_cst);
        if (!virtqueue_walk_buffer(w, e.addr, e.len, e.flags & DESC_WRITE))
            return false;
    }
    return true;
}

bool virtqueue_packed_take(struct virtqueue *q, struct walk *w, uint16_t *ret_id, uint16_t *ret_places)
{
    uint16_t at = q->last_avail, places = 0;
    bool wrap = q->avail_wrap;
    struct packed_desc d;
    do {
        if (q->inflight + places >= q->size || places >= VIRTIO_MAX_CHAIN) {
            virtio_broken(q->v, "queue %u: a chain of descriptors is longer than what is left of the ring", q->index);
            return false;
        }
        memcpy(&d, q->desc_host + 16u * at, sizeof(d));
        atomic_signal_fence(memory_order_seq_cst);
        places++;
        step(&at, &wrap, 1, q->size);
        if (d.flags & DESC_INDIRECT) {
            if (places > 1) {
                virtio_broken(q->v, "queue %u: an indirect table within a chain", q->index);
                return false;
            }
            if (!walk_indirect(w, &d))
                return false;
            break;
        }
        if (!virtqueue_walk_buffer(w, d.addr, d.len, d.flags & DESC_WRITE))
            return false;
    } while (d.flags & DESC_NEXT);
    q->last_avail = at;
    q->avail_wrap = wrap;
    q->inflight += places;
    *ret_id = d.id; /* the last one's counts (2.8.6) */
    *ret_places = places;
    return true;
}

void virtqueue_packed_untake(struct virtqueue *q, uint16_t places)
{
    if (q->last_avail < places) {
        q->last_avail += q->size;
        q->avail_wrap = !q->avail_wrap;
    }
    q->last_avail -= places;
    q->inflight -= places;
}

/* 2.8.10: the place in the ring from which on the driver is to notify, where it can. */
void virtqueue_packed_publish(struct virtqueue *q, bool want_notify)
{
    bool at = want_notify && virtio_has(q->v, VIRTIO_F_EVENT_IDX);
    if (at)
        store16(q, q->used, q->used_host, EVENT_OFF_WRAP, q->last_avail | q->avail_wrap << 15);
    store16(q, q->used, q->used_host, EVENT_FLAGS, at ? EVENTS_AT : want_notify ? EVENTS_ON : EVENTS_OFF);
    atomic_thread_fence(memory_order_seq_cst);
}

void virtqueue_packed_give(struct virtqueue *q, struct virtio_chain *const *c, const uint32_t *written, unsigned n)
{
    uint16_t first = q->used_idx, first_flags = 0;
    for (unsigned i = 0; i < n; i++) {
        unsigned at = 16u * q->used_idx;
        uint16_t flags = (q->used_wrap ? DESC_AVAIL | DESC_USED : 0) | (written[i] ? DESC_WRITE : 0);
        memcpy(q->desc_host + at + 8, &written[i], 4);
        memcpy(q->desc_host + at + 12, &c[i]->head, 2);
        if (i)
            store16(q, q->desc, q->desc_host, at + 14, flags);
        else
            first_flags = flags;
        guest_memory_written(q->v->dev.machine->memory, q->desc + at + 8, 6);
        step(&q->used_idx, &q->used_wrap, c[i]->places, q->size);
        q->inflight -= MIN(q->inflight, c[i]->places);
        q->since_signal += c[i]->places;
    }
    /* The driver looks at the first one: with it all become visible. */
    store16(q, q->desc, q->desc_host, 16u * first + 14, first_flags);
}

/* 2.8.10, 2.8.14: whether the place that the driver waits for lies between what was signalled last and now. */
bool virtqueue_packed_wants_interrupt(struct virtqueue *q)
{
    unsigned since = q->since_signal;
    atomic_thread_fence(memory_order_seq_cst);
    uint16_t flags = load16(q->avail_host + EVENT_FLAGS) & 3;
    if (flags == EVENTS_OFF)
        return false;
    q->since_signal = 0;
    if (flags != EVENTS_AT || !virtio_has(q->v, VIRTIO_F_EVENT_IDX) || since >= q->size)
        return true;
    uint16_t event = load16(q->avail_host + EVENT_OFF_WRAP), at = event & 0x7fff;
    /* Steps from the driver's place to ours, backwards over at most one lap. */
    int behind = (int)q->used_idx - at + (event >> 15 != q->used_wrap ? q->size : 0);
    return behind > 0 && (unsigned)behind <= since;
}
