/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtqueues: what both forms have, and the split ones (virtio 1.2, 2.7). The rings are read and written through host pointers that were checked when the queue
 * was enabled; whatever is read from them is copied once and checked. Device lock held throughout.
 */
#include <string.h>

#include "vmm/bus/virtqueue_private.h"

enum { AVAIL_NO_INTERRUPT = 1, USED_NO_NOTIFY = 1 };         /* 2.7.6, 2.7.8 */

struct desc { /* 2.7.5, little endian as the host is */
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

static bool usable(const struct virtqueue *q)
{
    return q->enabled && !q->v->broken && q->desc_host;
}

void virtqueue_enable(struct virtqueue *q)
{
    struct guest_memory *m = q->v->dev.machine->memory;
    unsigned n = q->size;
    if (q->enabled)
        return;
    q->enabled = true;
    q->packed = virtio_has(q->v, VIRTIO_F_RING_PACKED);
    if (q->packed) {
        virtqueue_packed_enable(q);
        return;
    }
    if (!n || n > q->max_size || (n & (n - 1))) {
        virtio_broken(q->v, "queue %u: a size of %u is not possible", q->index, n);
        return;
    }
    if (q->desc % 16 || q->avail % 2 || q->used % 4) {
        virtio_broken(q->v, "queue %u: its rings are not aligned", q->index);
        return;
    }
    q->desc_host = guest_memory_ptr(m, q->desc, 16 * n, false);
    q->avail_host = guest_memory_ptr(m, q->avail, 6 + 2 * n, false);
    q->used_host = guest_memory_ptr(m, q->used, 6 + 8 * n, true);
    if (!q->desc_host || !q->avail_host || !q->used_host) {
        q->desc_host = NULL;
        virtio_broken(q->v, "queue %u: its rings are outside RAM", q->index);
    }
}

void virtqueue_disable(struct virtqueue *q)
{
    q->enabled = q->signalled_valid = q->no_avail_events = false;
    q->desc_host = q->avail_host = q->used_host = NULL;
    q->last_avail = q->used_idx = q->signalled_used = 0;
    q->desc = q->avail = q->used = 0;
    q->inflight = q->since_signal = 0;
    q->packed = false;
    q->size = q->max_size;
    q->vector = VIRTIO_NO_VECTOR;
}

/* ---- taking requests ---- */

static bool add_piece(struct walk *w, uint64_t gpa, uint64_t len, bool write)
{
    unsigned n = w->nout + w->nin;
    void *host = guest_memory_ptr(w->q->v->dev.machine->memory, gpa, len, write);
    if (!host || n == VIRTIO_MAX_CHAIN)
        return false;
    w->iov[n] = (struct iovec){ host, len };
    w->gpa[n] = gpa;
    if (write)
        w->nin++;
    else
        w->nout++;
    return true;
}

/* A buffer that is not one piece of RAM may still be RAM, page by page (across the hole below 4 GiB it never is). */
bool virtqueue_walk_buffer(struct walk *w, uint64_t addr, uint32_t len, bool write)
{
    if (!write && w->nin) {
        virtio_broken(w->q->v, "queue %u: a buffer to read after one to write", w->q->index);
        return false;
    }
    if (write)
        w->in_len += len;
    else
        w->out_len += len;
    if (!len || (addr + len >= addr && add_piece(w, addr, len, write)))
        return true;
    uint64_t at = addr, left = addr + len >= addr ? len : 0;
    while (left) {
        uint64_t n = MIN(left, 4096 - at % 4096);
        if (!add_piece(w, at, n, write))
            break;
        at += n;
        left -= n;
    }
    if (left || addr + len < addr) {
        virtio_broken(w->q->v, "queue %u: a buffer at 0x%" G_GINT64_MODIFIER "x of %u bytes is not RAM, or in too many pieces",
                      w->q->index, addr, len);
        return false;
    }
    return true;
}

const uint8_t *virtqueue_walk_table(struct walk *w, uint64_t addr, uint32_t len, bool next)
{
    struct virtio_device *v = w->q->v;
    const uint8_t *host = NULL;
    if (virtio_has(v, VIRTIO_F_INDIRECT_DESC) && len && len % 16 == 0 && !next)
        host = guest_memory_ptr(v->dev.machine->memory, addr, len, false);
    if (!host)
        virtio_broken(v, "queue %u: an indirect table at 0x%" G_GINT64_MODIFIER "x of %u bytes is not allowed", w->q->index, addr, len);
    return host;
}

/* One table: the queue's, or an indirect one. */
static bool walk_table(struct walk *w, const uint8_t *host, unsigned n, unsigned index, bool indirect)
{
    for (unsigned steps = 0;; steps++) {
        struct desc d;
        if (index >= n || steps >= n || w->ndesc++ >= VIRTIO_MAX_CHAIN) {
            virtio_broken(w->q->v, "queue %u: a chain of descriptors loops, or leaves its table", w->q->index);
            return false;
        }
        memcpy(&d, host + 16ul * index, sizeof(d));
        atomic_signal_fence(memory_order_seq_cst);
        if (d.flags & DESC_INDIRECT) {
            if (indirect) {
                virtio_broken(w->q->v, "queue %u: an indirect table within one", w->q->index);
                return false;
            }
            host = virtqueue_walk_table(w, d.addr, d.len, d.flags & DESC_NEXT);
            return host && walk_table(w, host, d.len / 16, 0, true);
        }
        if (!virtqueue_walk_buffer(w, d.addr, d.len, d.flags & DESC_WRITE))
            return false;
        if (!(d.flags & DESC_NEXT))
            return true;
        index = d.next;
    }
}

static struct virtio_chain *chain_new(const struct walk *w, uint16_t head, uint16_t places)
{
    unsigned n = w->nout + w->nin;
    struct virtio_chain *c = g_malloc(sizeof(*c) + n * (sizeof(struct iovec) + sizeof(uint64_t)));
    *c = (struct virtio_chain){ .queue = w->q, .head = head, .places = places, .epoch = w->q->v->epoch, .nout = w->nout, .nin = w->nin,
                                .out_len = w->out_len, .in_len = w->in_len, .iov = (struct iovec *)(c + 1) };
    c->gpa = (uint64_t *)(c->iov + n);
    memcpy(c->iov, w->iov, n * sizeof(w->iov[0]));
    memcpy(c->gpa, w->gpa, n * sizeof(w->gpa[0]));
    return c;
}

void virtio_chain_free(struct virtio_chain *c)
{
    g_free(c);
}

static uint16_t waiting(struct virtqueue *q)
{
    uint16_t n = load16(q->avail_host + 2) - q->last_avail;
    if (n > q->size) {
        virtio_broken(q->v, "queue %u: %u requests wait, more than its size", q->index, n);
        return 0;
    }
    return n;
}

bool virtqueue_ready(struct virtqueue *q)
{
    return usable(q) && virtio_running(q->v) && (q->packed ? virtqueue_packed_waiting(q) : waiting(q) != 0);
}

static void publish_avail_event(struct virtqueue *q)
{
    if (q->packed) {
        virtqueue_packed_publish(q, true);
        return;
    }
    if (virtio_has(q->v, VIRTIO_F_EVENT_IDX))
        store16(q, q->used, q->used_host, 4 + 8 * q->size, q->last_avail);
    atomic_thread_fence(memory_order_seq_cst);
}

static bool split_take(struct virtqueue *q, struct walk *w, uint16_t *ret_head)
{
    *ret_head = load16(q->avail_host + 4 + 2 * (q->last_avail % q->size));
    if (q->inflight >= q->size) {
        virtio_broken(q->v, "queue %u: more requests in flight than its size", q->index);
        return false;
    }
    if (!walk_table(w, q->desc_host, q->size, *ret_head, false))
        return false;
    q->last_avail++;
    q->inflight++;
    return true;
}

struct virtio_chain *virtqueue_pop(struct virtqueue *q)
{
    uint16_t head, places = 1;
    struct walk w;
    if (!virtqueue_ready(q))
        return NULL;
    w.q = q;
    w.nout = w.nin = w.ndesc = 0;
    w.out_len = w.in_len = 0;
    if (!(q->packed ? virtqueue_packed_take(q, &w, &head, &places) : split_take(q, &w, &head)))
        return NULL;
    if (!q->no_avail_events && virtio_has(q->v, VIRTIO_F_EVENT_IDX))
        publish_avail_event(q);
    return chain_new(&w, head, places);
}

void virtqueue_unpop(struct virtqueue *q, struct virtio_chain *c)
{
    if (c->epoch == q->v->epoch && q->packed) {
        virtqueue_packed_untake(q, c->places);
    } else if (c->epoch == q->v->epoch) {
        q->last_avail--;
        q->inflight--;
    }
    virtio_chain_free(c);
}

bool virtqueue_want_notify(struct virtqueue *q, bool on)
{
    if (!usable(q))
        return false;
    q->no_avail_events = !on;
    if (q->packed && !on)
        virtqueue_packed_publish(q, false);
    else if (!q->packed && !virtio_has(q->v, VIRTIO_F_EVENT_IDX))
        store16(q, q->used, q->used_host, 0, on ? 0 : USED_NO_NOTIFY);
    if (!on)
        return false;
    publish_avail_event(q);
    return virtqueue_ready(q);
}

/* ---- handing the rings to the kernel ---- */

bool virtqueue_hand_over(struct virtqueue *q, struct virtqueue_rings *ret)
{
    if (!usable(q) || q->inflight || q->packed)
        return false;
    *ret = (struct virtqueue_rings){ q->desc_host, q->avail_host, q->used_host, q->size, q->last_avail };
    return true;
}

void virtqueue_take_back(struct virtqueue *q, uint16_t last_avail)
{
    if (!usable(q))
        return;
    q->last_avail = last_avail;
    q->used_idx = load16(q->used_host + 2);
    q->signalled_valid = false;
    guest_memory_written(q->v->dev.machine->memory, q->used, 6 + 8 * q->size);
}

/* ---- giving them back ---- */

void virtio_chain_written(const struct virtio_chain *c, uint64_t n)
{
    struct guest_memory *m = c->queue->v->dev.machine->memory;
    for (unsigned i = c->nout; i < c->nout + c->nin && n; i++) {
        uint64_t part = MIN(n, c->iov[i].iov_len);
        guest_memory_written(m, c->gpa[i], part);
        n -= part;
    }
}

static void split_give(struct virtqueue *q, struct virtio_chain *const *c, const uint32_t *written, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        unsigned at = 4 + 8 * ((uint16_t)(q->used_idx + i) % q->size);
        uint32_t elem[2] = { c[i]->head, written[i] };
        memcpy(q->used_host + at, elem, sizeof(elem));
        guest_memory_written(q->v->dev.machine->memory, q->used + at, sizeof(elem));
    }
    q->used_idx += n;
    q->inflight -= MIN(q->inflight, n);
    store16(q, q->used, q->used_host, 2, q->used_idx);
}

void virtqueue_push_batch(struct virtio_chain **c, const uint32_t *written, unsigned n)
{
    struct virtqueue *q = n ? c[0]->queue : NULL;
    bool live = q && c[0]->epoch == q->v->epoch && usable(q);
    for (unsigned i = 0; live && i < n; i++)
        virtio_chain_written(c[i], written[i]);
    if (live)
        (q->packed ? virtqueue_packed_give : split_give)(q, c, written, n);
    for (unsigned i = 0; i < n; i++)
        virtio_chain_free(c[i]);
}

void virtqueue_push(struct virtio_chain *c, uint32_t written)
{
    virtqueue_push_batch(&c, &written, 1);
}

/* 2.7.7.1, 2.7.10: whether used_event lies between what was signalled last and now. */
static bool wants_interrupt(struct virtqueue *q)
{
    if (q->packed)
        return virtqueue_packed_wants_interrupt(q);
    atomic_thread_fence(memory_order_seq_cst);
    if (!virtio_has(q->v, VIRTIO_F_EVENT_IDX))
        return !(load16(q->avail_host) & AVAIL_NO_INTERRUPT);
    uint16_t event = load16(q->avail_host + 4 + 2 * q->size), old = q->signalled_used;
    bool valid = q->signalled_valid;
    q->signalled_used = q->used_idx;
    q->signalled_valid = true;
    return !valid || (uint16_t)(q->used_idx - event - 1) < (uint16_t)(q->used_idx - old);
}

void virtqueue_interrupt(struct virtqueue *q)
{
    if (usable(q) && virtio_running(q->v) && wants_interrupt(q))
        q->v->transport->queue_interrupt(q->v, q->index);
}

/* ---- contents ---- */

static size_t copy(const struct iovec *iov, unsigned n, uint64_t offset, void *to, const void *from, size_t size)
{
    size_t done = 0;
    for (unsigned i = 0; i < n && done < size; i++) {
        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        size_t part = MIN(size - done, iov[i].iov_len - offset);
        uint8_t *host = (uint8_t *)iov[i].iov_base + offset;
        if (to)
            memcpy((uint8_t *)to + done, host, part);
        else
            memcpy(host, (const uint8_t *)from + done, part);
        done += part;
        offset = 0;
    }
    return done;
}

size_t virtio_chain_read(const struct virtio_chain *c, uint64_t offset, void *ret, size_t n)
{
    return copy(c->iov, c->nout, offset, ret, NULL, n);
}

size_t virtio_chain_write(struct virtio_chain *c, uint64_t offset, const void *data, size_t n)
{
    return copy(c->iov + c->nout, c->nin, offset, NULL, data, n);
}
