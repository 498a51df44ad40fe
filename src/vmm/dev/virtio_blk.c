/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio block device (virtio 1.2, 5.2). Requests are checked on the vCPU's thread and executed by the image's workers,
 * which complete them under the device's lock. A request that failed under the policy "stop" waits in `retry` until the
 * machine goes on.
 */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "block/block.h"
#include "vmm/bus/virtio.h"
#include "vmm/core/machine.h"
#include "vmm/dev/virtio_devices.h"

enum { F_SEG_MAX = 1 << 2, F_RO = 1 << 5, F_BLK_SIZE = 1 << 6, F_FLUSH = 1 << 9, F_MQ = 1 << 12, F_DISCARD = 1 << 13,
       F_WRITE_ZEROES = 1 << 14 };
enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };
enum { SECTOR = 512, HEADER = 16, ID_BYTES = 20, QUEUE_SIZE = 256, MAX_RANGE = 1 << 22 /* sectors of one discard */ };
enum { CONFIG_SIZE = 60 };

struct virtio_blk {
    struct virtio_device v;
    char *drive, *serial;
    uint64_t num_queues, logical_block_size;
    int rerror, werror;
    bool share_rw, scsi;
    struct block_device *block;
    unsigned inflight;
    GCond idle;
    GQueue retry; /* struct request * */
};

struct request {
    struct block_request r;
    struct virtio_blk *s;
    struct virtio_chain *c;
    struct iovec iov[];
};

static void finish(struct virtio_blk *s, struct virtio_chain *c, uint8_t status, uint64_t written)
{
    struct virtqueue *q = c->queue;
    virtio_chain_write(c, c->in_len - 1, &status, 1);
    /* "written" counts from the first byte: with less than the whole, the status byte would lie beyond it. */
    virtqueue_push(c, written + 1 >= c->in_len ? c->in_len : status == S_OK ? written + 1 : c->in_len);
    virtqueue_interrupt(q);
}

/* ---- errors of the host ---- */

static enum block_on_error policy(const struct virtio_blk *s, bool read)
{
    int own = read ? s->rerror : s->werror; /* "auto", then as enum block_on_error */
    if (own)
        return own - 1;
    return read ? block_device_options(s->block)->rerror : block_device_options(s->block)->werror;
}

/* True: the request stays and is tried again. */
static bool handle_error(struct virtio_blk *s, struct request *r, int err, uint8_t *ret_status)
{
    bool read = r->r.op == BLOCK_READ;
    enum block_on_error p = policy(s, read);
    bool stop = p == BLOCK_ON_ERROR_STOP || (p == BLOCK_ON_ERROR_ENOSPC && err == ENOSPC && !read);
    const struct block_device_options *o = block_device_options(s->block);
    const struct block_node *node = block_device_node(s->block);
    struct block_io_error e = { .device = o->id ? o->id : "", .node = node ? block_node_name(node) : "", .operation = read ? "read" : "write",
                                .action = stop ? "stop" : p == BLOCK_ON_ERROR_IGNORE ? "ignore" : "report", .reason = g_strerror(err),
                                .nospace = err == ENOSPC };
    *ret_status = p == BLOCK_ON_ERROR_IGNORE ? S_OK : S_IOERR;
    machine_report_io_error(s->v.dev.machine, &e);
    return stop;
}

static void done(struct block_request *br, int err)
{
    struct request *r = br->opaque;
    struct virtio_blk *s = r->s;
    uint8_t status = S_OK;
    g_mutex_lock(&s->v.dev.lock);
    s->inflight--;
    if (err && !s->v.stopping && handle_error(s, r, err, &status)) {
        g_queue_push_tail(&s->retry, r);
    } else {
        finish(s, r->c, status, r->r.op == BLOCK_READ ? r->r.length : 0);
        g_free(r);
    }
    if (!s->inflight)
        g_cond_broadcast(&s->idle);
    g_mutex_unlock(&s->v.dev.lock);
}

static void submit(struct virtio_blk *s, struct request *r)
{
    int err;
    if (block_try_now(s->block, &r->r, &err)) {
        finish(s, r->c, S_OK, r->r.length);
        g_free(r);
        return;
    }
    s->inflight++;
    block_submit(s->block, &r->r);
}

static void resumed(void *opaque, enum machine_event ev, enum machine_cause cause, const struct block_io_error *io)
{
    struct virtio_blk *s = opaque;
    struct request *r;
    if (ev != EVENT_RESUME)
        return;
    g_mutex_lock(&s->v.dev.lock);
    for (unsigned n = g_queue_get_length(&s->retry); n && (r = g_queue_pop_head(&s->retry)); n--)
        submit(s, r);
    g_mutex_unlock(&s->v.dev.lock);
}

/* ---- requests ---- */

/* The vectors from byte `skip` on, `length` bytes. */
static int slice(const struct iovec *iov, unsigned n, uint64_t skip, uint64_t length, struct iovec *ret)
{
    int count = 0;
    for (unsigned i = 0; i < n && length; i++) {
        uint64_t off = MIN(skip, iov[i].iov_len), part = MIN(iov[i].iov_len - off, length);
        skip -= off;
        if (part)
            ret[count++] = (struct iovec){ (char *)iov[i].iov_base + off, part };
        length -= part;
    }
    return count;
}

static bool in_bounds(const struct virtio_blk *s, uint64_t sector, uint64_t bytes)
{
    uint64_t capacity = block_size(s->block) / SECTOR;
    return bytes % s->logical_block_size == 0 && sector % (s->logical_block_size / SECTOR) == 0 && sector <= capacity &&
           bytes / SECTOR <= capacity - sector;
}

static bool data_request(struct virtio_blk *s, struct request *r, bool write, uint64_t sector)
{
    struct virtio_chain *c = r->c;
    uint64_t length = write ? c->out_len - HEADER : c->in_len - 1;
    if (!in_bounds(s, sector, length) || (write && block_read_only(s->block)))
        return false;
    r->r.op = write ? BLOCK_WRITE : BLOCK_READ;
    r->r.offset = sector * SECTOR;
    r->r.length = length;
    r->r.iov = r->iov;
    r->r.niov = write ? slice(c->iov, c->nout, HEADER, length, r->iov) : slice(c->iov + c->nout, c->nin, 0, length, r->iov);
    return true;
}

/* One segment (max_discard_seg, max_write_zeroes_seg); 5.2.6. Returns the status, S_OK: to be submitted. */
static uint8_t range_request(struct virtio_blk *s, struct request *r, bool zeroes)
{
    struct { uint64_t sector; uint32_t count, flags; } seg;
    if (r->c->out_len != HEADER + sizeof(seg) || virtio_chain_read(r->c, HEADER, &seg, sizeof(seg)) != sizeof(seg))
        return S_IOERR;
    if (seg.flags & ~(zeroes ? 1u : 0u))
        return S_UNSUPP;
    if (block_read_only(s->block) || seg.count > MAX_RANGE || !in_bounds(s, seg.sector, (uint64_t)seg.count * SECTOR))
        return S_IOERR;
    r->r.op = zeroes ? BLOCK_WRITE_ZEROES : BLOCK_DISCARD;
    r->r.offset = seg.sector * SECTOR;
    r->r.length = (uint64_t)seg.count * SECTOR;
    return S_OK;
}

static void get_id(struct virtio_blk *s, struct virtio_chain *c)
{
    char id[ID_BYTES] = { 0 };
    if (s->serial)
        memcpy(id, s->serial, MIN(strlen(s->serial), sizeof(id)));
    size_t n = virtio_chain_write(c, 0, id, MIN(c->in_len - 1, sizeof(id)));
    finish(s, c, S_OK, n);
}

static void handle(struct virtio_blk *s, struct virtio_chain *c)
{
    struct { uint32_t type, reserved; uint64_t sector; } h;
    uint8_t status = S_OK;
    if (virtio_chain_read(c, 0, &h, sizeof(h)) != sizeof(h) || !c->in_len || c->in_len > UINT32_MAX) {
        virtio_broken(&s->v, "a request without header or status");
        virtqueue_push(c, 0);
        return;
    }
    if (h.type == T_GET_ID) {
        get_id(s, c);
        return;
    }
    struct request *r = g_malloc0(sizeof(*r) + (c->nout + c->nin) * sizeof(struct iovec));
    r->s = s;
    r->c = c;
    r->r.done = done;
    r->r.opaque = r;
    switch (h.type) {
    case T_IN: case T_OUT: status = data_request(s, r, h.type == T_OUT, h.sector) ? S_OK : S_IOERR; break;
    case T_FLUSH: r->r.op = BLOCK_FLUSH; break;
    case T_DISCARD: case T_WRITE_ZEROES: status = range_request(s, r, h.type == T_WRITE_ZEROES); break;
    default: status = S_UNSUPP;
    }
    if (status == S_OK) {
        submit(s, r);
    } else {
        g_free(r);
        finish(s, c, status, 0);
    }
}

static void queue_notify(struct virtio_device *v, unsigned queue)
{
    struct virtio_chain *c;
    /* At most its size: what is taken stays in flight until it is done. */
    for (unsigned i = 0; i < v->queues[queue].size && (c = virtqueue_pop(&v->queues[queue])); i++)
        handle((struct virtio_blk *)v, c);
}

/* ---- device ---- */

static uint64_t features(struct virtio_device *v)
{
    struct virtio_blk *s = (struct virtio_blk *)v;
    bool ro = block_read_only(s->block);
    return F_SEG_MAX | F_BLK_SIZE | F_FLUSH | (ro ? F_RO : F_WRITE_ZEROES | F_DISCARD) | (s->num_queues > 1 ? F_MQ : 0);
}

static void config_read(struct virtio_device *v, uint8_t *ret)
{
    struct virtio_blk *s = (struct virtio_blk *)v;
    const uint64_t capacity = block_size(s->block) / SECTOR;
    const uint32_t seg_max = QUEUE_SIZE - 2, blk_size = s->logical_block_size, range = MAX_RANGE, one = 1, sectors = blk_size / SECTOR;
    const uint16_t queues = s->num_queues;
    memcpy(ret, &capacity, 8);
    memcpy(ret + 12, &seg_max, 4);
    memcpy(ret + 20, &blk_size, 4);
    memcpy(ret + 34, &queues, 2);
    memcpy(ret + 36, &range, 4);   /* max_discard_sectors, _seg, discard_sector_alignment */
    memcpy(ret + 40, &one, 4);
    memcpy(ret + 44, &sectors, 4);
    memcpy(ret + 48, &range, 4);   /* max_write_zeroes_sectors, _seg, may_unmap */
    memcpy(ret + 52, &one, 4);
    ret[56] = 1;
}

static void stop(struct virtio_device *v)
{
    struct virtio_blk *s = (struct virtio_blk *)v;
    struct request *r;
    while (s->inflight)
        g_cond_wait(&s->idle, &v->dev.lock);
    while ((r = g_queue_pop_head(&s->retry))) {
        virtio_chain_free(r->c);
        g_free(r);
    }
}

static bool realize(struct device *d, GError **error)
{
    struct virtio_blk *s = (struct virtio_blk *)d;
    uint16_t sizes[16];
    if (s->scsi)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "device %s: scsi=on is not possible", d->class->name);
    if (!s->drive)
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s needs drive=ID of a -drive or -blockdev", d->class->name);
    s->block = g_hash_table_lookup(d->machine->drives, s->drive);
    if (!s->block)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "device %s: there is no drive '%s'", d->class->name, s->drive);
    if (s->logical_block_size < SECTOR || (s->logical_block_size & (s->logical_block_size - 1)) || block_size(s->block) % s->logical_block_size)
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: logical_block_size=%" G_GUINT64_FORMAT " is not a power of two, or the "
                          "disk's size is not a multiple of it", d->class->name, s->logical_block_size);
    if (!block_claim(s->block, d->id ? d->id : d->class->name, error))
        return false;
    for (unsigned i = 0; i < s->num_queues; i++)
        sizes[i] = QUEUE_SIZE;
    g_cond_init(&s->idle);
    g_queue_init(&s->retry);
    if (!virtio_realize(&s->v, s->num_queues, sizes, error)) {
        block_unclaim(s->block);
        g_cond_clear(&s->idle);
        return false;
    }
    machine_add_listener(d->machine, (struct machine_listener){ resumed, s });
    return true;
}

static void unrealize(struct device *d)
{
    struct virtio_blk *s = (struct virtio_blk *)d;
    machine_remove_listener(d->machine, s);
    virtio_unrealize(&s->v);
    /* The last completion may still hold the lock on its way out. */
    block_drain(s->block);
    block_unclaim(s->block);
    g_cond_clear(&s->idle);
}

static const char *const policies[] = { "auto", "report", "ignore", "stop", "enospc", NULL };
#define T struct virtio_blk
#define BLK_PROPS                                                                                                          \
    { "drive", PROP_DRIVE, offsetof(T, drive), .help = "the disk" },                                                        \
    { "serial", PROP_STRING, offsetof(T, serial), .help = "serial number, the first 20 bytes" },                            \
    { "num-queues", PROP_UINT, offsetof(T, num_queues), 1, 16, .def = "1", .help = "request queues" },                      \
    { "logical_block_size", PROP_UINT, offsetof(T, logical_block_size), 512, 32768, .def = "512", .help = "bytes" },        \
    { "rerror", PROP_ENUM, offsetof(T, rerror), .values = policies, .def = "auto", .help = "what follows a failed read; auto: as the drive says" },  \
    { "werror", PROP_ENUM, offsetof(T, werror), .values = policies, .def = "auto", .help = "what follows a failed write" }, \
    { "share-rw", PROP_BOOL, offsetof(T, share_rw), .def = "off", .help = "accepted; images are never shared for writing" },\
    { "scsi", PROP_BOOL, offsetof(T, scsi), .def = "off", .help = "only off" }

static const struct device_prop pci_props[] = { BLK_PROPS, VIRTIO_PCI_PROPS(T, "2"), { NULL } };
static const struct device_prop mmio_props[] = { BLK_PROPS, VIRTIO_COMMON_PROPS(T), { NULL } };
static const struct device_field fields[] = { VIRTIO_FIELDS(T), { NULL } };
static const struct virtio_class blk = {
    .name = "virtio-blk", .id = VIRTIO_ID_BLOCK, .pci_class = 0x01, .pci_subclass = 0x00, .config_size = CONFIG_SIZE, .features = features,
    .config_read = config_read, .queue_notify = queue_notify, .stop = stop,
};

const struct device_class virtio_blk_pci_class = {
    .name = "virtio-blk-pci", .help = "virtio disk", .bus = DEV_BUS_PCI, .size = sizeof(T), .props = pci_props, .fields = fields,
    .user_creatable = true, .realize = realize, .reset = virtio_device_reset, .unrealize = unrealize, .bus_class = &blk,
};
const struct device_class virtio_blk_mmio_class = {
    .name = "virtio-blk-device", .help = "virtio disk in an MMIO slot", .bus = DEV_BUS_VIRTIO, .size = sizeof(T), .props = mmio_props,
    .fields = fields, .user_creatable = true, .realize = realize, .reset = virtio_device_reset, .unrealize = unrealize, .bus_class = &blk,
};
