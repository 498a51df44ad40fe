/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the two forms of rings share: split (virtqueue.c; virtio 1.2, 2.7) and packed (virtqueue_packed.c; 2.8). Device lock held. */
#pragma once

#include <stdatomic.h>

#include "vmm/bus/virtio.h"
#include "vmm/core/machine.h"

enum { DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4 }; /* 2.7.5, 2.8.1 */

/* A request while its descriptors are read. */
struct walk {
    struct virtqueue *q;
    struct iovec iov[VIRTIO_MAX_CHAIN];
    uint64_t gpa[VIRTIO_MAX_CHAIN];
    unsigned nout, nin, ndesc;
    uint64_t out_len, in_len;
};

static inline uint16_t load16(const uint8_t *p)
{
    return atomic_load_explicit((const _Atomic uint16_t *)p, memory_order_acquire);
}

static inline void store16(struct virtqueue *q, uint64_t ring, uint8_t *host, unsigned offset, uint16_t value)
{
    atomic_store_explicit((_Atomic uint16_t *)(host + offset), value, memory_order_release);
    guest_memory_written(q->v->dev.machine->memory, ring + offset, 2);
}

/* One buffer of the guest. False: the device is broken. */
bool virtqueue_walk_buffer(struct walk *w, uint64_t addr, uint32_t len, bool write) G_GNUC_WARN_UNUSED_RESULT;
/* The host's address of an indirect table of the guest, or NULL: the device is broken. */
const uint8_t *virtqueue_walk_table(struct walk *w, uint64_t addr, uint32_t len, bool next) G_GNUC_WARN_UNUSED_RESULT;

/* The rings' places are in q; sets q->desc_host and the others, or breaks the device. */
void virtqueue_packed_enable(struct virtqueue *q);
bool virtqueue_packed_waiting(struct virtqueue *q);
/* Reads the next request, which waits, and steps over it: its id and how many places of the ring it has. */
bool virtqueue_packed_take(struct virtqueue *q, struct walk *w, uint16_t *ret_id, uint16_t *ret_places) G_GNUC_WARN_UNUSED_RESULT;
void virtqueue_packed_untake(struct virtqueue *q, uint16_t places);
void virtqueue_packed_publish(struct virtqueue *q, bool want_notify);
void virtqueue_packed_give(struct virtqueue *q, struct virtio_chain *const *c, const uint32_t *written, unsigned n);
bool virtqueue_packed_wants_interrupt(struct virtqueue *q);
