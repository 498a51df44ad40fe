/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio block device (virtio 1.2, 5.2). Requests are checked on the thread that is notified (a vCPU's, or the iothread), which also
 * answers what the host has in its cache; the rest is completed by the block layer's threads, under the device's lock, with one
 * interrupt for all that have become ready (vmm/dev/disk/disk.h).
 */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "vmm/bus/virtio.h"
#include "vmm/bus/virtio_event.h"
#include "vmm/core/iothread.h"
#include "vmm/core/machine.h"
#include "vmm/core/state.h"
#include "vmm/dev/disk/disk.h"
#include "vmm/dev/virtio_devices.h"

enum { F_SEG_MAX = 1 << 2, F_RO = 1 << 5, F_BLK_SIZE = 1 << 6, F_FLUSH = 1 << 9, F_TOPOLOGY = 1 << 10, F_CONFIG_WCE = 1 << 11,
       F_MQ = 1 << 12, F_DISCARD = 1 << 13, F_WRITE_ZEROES = 1 << 14 };
enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };
enum { SECTOR = 512, HEADER = 16, ID_BYTES = 20, RANGES = 16 /* of one discard */, LEGACY_SEG_MAX = 126 };
enum { CONFIG_SIZE = 60, CONFIG_WRITEBACK = 32 };
enum { AUTO_QUEUES = 65535, DEFAULT_VECTORS = 2 };

struct virtio_blk {
    struct virtio_device v;
    struct disk disk;
    uint64_t num_queues, queue_size, max_discard, max_write_zeroes; /* the last two: sectors */
    bool scsi, seg_max_adjust, config_wce, discard, write_zeroes, request_merging, report_granularity;
    char *iothread;
    GQueue parked;       /* struct virtio_chain *: requests of a saved machine, which begin when this one runs */
    uint64_t interrupts; /* queues with answers that the driver has not been told of */
};

struct range { uint64_t sector; uint32_t count, flags; }; /* 5.2.6 */

struct request {
    struct disk_request d;
    struct virtio_blk *s;
    struct virtio_chain *c;
    unsigned at, nranges;
    struct range ranges[RANGES];
    struct iovec iov[];
};

/* ---- answers ---- */

static void finish(struct virtio_blk *s, struct virtio_chain *c, uint8_t status, uint64_t written)
{
    s->interrupts |= 1ull << c->queue->index;
    virtio_chain_write(c, c->in_len - 1, &status, 1);
    /* "written" counts from the first byte: with less than the whole, the status byte would lie beyond it. */
    virtqueue_push(c, written + 1 >= c->in_len ? c->in_len : status == S_OK ? written + 1 : c->in_len);
}

static void interrupt(void *opaque)
{
    struct virtio_blk *s = opaque;
    for (; s->interrupts; s->interrupts &= s->interrupts - 1)
        virtqueue_interrupt(&s->v.queues[__builtin_ctzll(s->interrupts)]);
}

/* The next range of a discard, which has been checked. */
static void take_range(struct request *r)
{
    const struct range *g = &r->ranges[r->at++];
    r->d.r.offset = g->sector * SECTOR;
    r->d.r.length = (uint64_t)g->count * SECTOR;
    r->d.r.flags = g->flags & 1 ? BLOCK_MAY_UNMAP : 0;
}

static void complete(struct disk_request *d, int err)
{
    struct request *r = (struct request *)d;
    if (err == ECANCELED) { /* a reset */
        virtio_chain_free(r->c);
    } else if (!err && r->at < r->nranges) {
        take_range(r);
        disk_submit(&r->s->disk, d);
        return;
    } else {
        finish(r->s, r->c, err ? S_IOERR : S_OK, d->r.op == BLOCK_READ ? d->r.length : 0);
    }
    g_free(r);
}

/* ---- requests ---- */

static bool in_bounds(const struct virtio_blk *s, uint64_t sector, uint64_t bytes)
{
    uint64_t capacity = block_size(s->disk.block) / SECTOR, block = s->disk.logical_block_size;
    return bytes % block == 0 && sector % (block / SECTOR) == 0 && sector <= capacity && bytes / SECTOR <= capacity - sector;
}

static bool data_request(struct virtio_blk *s, struct request *r, bool write, uint64_t sector)
{
    struct virtio_chain *c = r->c;
    struct block_request *b = &r->d.r;
    uint64_t length = write ? c->out_len - HEADER : c->in_len - 1;
    if (!in_bounds(s, sector, length) || (write && block_read_only(s->disk.block)))
        return false;
    b->op = write ? BLOCK_WRITE : BLOCK_READ;
    b->offset = sector * SECTOR;
    b->length = length;
    b->iov = r->iov;
    b->niov = write ? disk_slice(c->iov, c->nout, HEADER, length, r->iov) : disk_slice(c->iov + c->nout, c->nin, 0, length, r->iov);
    return true;
}

/* 5.2.6. Returns the status, S_OK: to be submitted. */
static uint8_t range_request(struct virtio_blk *s, struct request *r, bool zeroes)
{
    uint64_t length = r->c->out_len - HEADER, most = zeroes ? s->max_write_zeroes : s->max_discard;
    if (!(zeroes ? s->write_zeroes : s->discard))
        return S_UNSUPP;
    if (!length || length % sizeof(struct range) || length > sizeof(r->ranges) || virtio_chain_read(r->c, HEADER, r->ranges, length) != length ||
        block_read_only(s->disk.block))
        return S_IOERR;
    r->nranges = length / sizeof(struct range);
    for (unsigned i = 0; i < r->nranges; i++) {
        const struct range *g = &r->ranges[i];
        if (g->flags & ~(zeroes ? 1u : 0u))
            return S_UNSUPP;
        if (g->count > most || !in_bounds(s, g->sector, (uint64_t)g->count * SECTOR))
            return S_IOERR;
    }
    r->d.r.op = zeroes ? BLOCK_WRITE_ZEROES : BLOCK_DISCARD;
    take_range(r);
    return S_OK;
}

static void get_id(struct virtio_blk *s, struct virtio_chain *c)
{
    char id[ID_BYTES] = { 0 };
    const char *serial = s->disk.serial;
    if (serial)
        memcpy(id, serial, MIN(strlen(serial), sizeof(id)));
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
    /* Only what is looked at before it is set is cleared: the vectors and ranges are not. */
    struct request *r = g_malloc(sizeof(*r) + (c->nout + c->nin) * sizeof(struct iovec));
    memset(r, 0, offsetof(struct request, ranges));
    r->s = s;
    r->c = c;
    r->d.complete = complete;
    switch (h.type) {
    case T_IN: case T_OUT: status = data_request(s, r, h.type == T_OUT, h.sector) ? S_OK : S_IOERR; break;
    case T_FLUSH: r->d.r.op = BLOCK_FLUSH; break;
    case T_DISCARD: case T_WRITE_ZEROES: status = range_request(s, r, h.type == T_WRITE_ZEROES); break;
    default: status = S_UNSUPP; /* secure erase, zones: not offered */
    }
    if (status == S_OK) {
        disk_submit(&s->disk, &r->d);
    } else {
        g_free(r);
        finish(s, c, status, 0);
    }
}

static void queue_notify(struct virtio_device *v, unsigned queue)
{
    struct virtio_blk *s = (struct virtio_blk *)v;
    struct virtqueue *q = &v->queues[queue];
    struct virtio_chain *c;
    unsigned budget = 2 * q->size;
    do {
        (void)virtqueue_want_notify(q, false);
        while (budget && (c = virtqueue_pop(q))) {
            handle(s, c);
            budget--;
        }
        if (s->interrupts) /* before the driver's next requests are looked for */
            interrupt(s);
    } while (virtqueue_want_notify(q, true) && budget);
    if (!budget && virtqueue_ready(q))
        virtio_queue_again(q);
}

/* ---- saving and loading ---- */

static void drain(struct device *d)
{
    disk_drain(&((struct virtio_blk *)d)->disk);
}

/* Requests that failed and wait for another try begin again from their descriptors. */
static void save(struct device *d, struct state_writer *w)
{
    struct virtio_blk *s = (struct virtio_blk *)d;
    unsigned n = 0;
    virtio_save(&s->v, w);
    state_put_u64(w, "write_cache", disk_has_cache(&s->disk));
    for (const GList *l = s->disk.retry.head; l; l = l->next, n++) {
        g_autofree char *name = g_strdup_printf("request%u", n);
        virtio_chain_save(((struct request *)l->data)->c, w, name);
    }
    for (const GList *l = s->parked.head; l; l = l->next, n++) {
        g_autofree char *name = g_strdup_printf("request%u", n);
        virtio_chain_save(l->data, w, name);
    }
    state_put_u64(w, "requests", n);
}

static bool load(struct device *d, struct state_reader *r, GError **error)
{
    struct virtio_blk *s = (struct virtio_blk *)d;
    uint64_t cache;
    if (!virtio_load(&s->v, r, error) || !state_get_u64(r, "write_cache", 1, &cache, error))
        return false;
    disk_set_cache(&s->disk, cache);
    return virtio_chains_load(&s->v, r, VIRTIO_MAX_QUEUES * s->queue_size, &s->parked, error);
}

static void on_hook(void *opaque, enum machine_hook_event ev)
{
    struct virtio_blk *s = opaque;
    struct virtio_chain *c;
    if (ev != HOOK_RUN)
        return;
    g_mutex_lock(&s->v.dev.lock);
    while ((c = g_queue_pop_head(&s->parked)))
        handle(s, c);
    if (s->interrupts)
        interrupt(s);
    g_mutex_unlock(&s->v.dev.lock);
}

/* ---- device ---- */

static uint64_t features(struct virtio_device *v)
{
    struct virtio_blk *s = (struct virtio_blk *)v;
    bool ro = block_read_only(s->disk.block);
    return F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY | (s->config_wce ? F_CONFIG_WCE : 0) | (ro ? F_RO : 0) |
           (!ro && s->discard ? F_DISCARD : 0) | (!ro && s->write_zeroes ? F_WRITE_ZEROES : 0) | (s->num_queues > 1 ? F_MQ : 0);
}

/* 5.2.6.2: a driver that knows neither flushes nor the cache mode expects each write to be on the disk. */
static void features_set(struct virtio_device *v)
{
    struct virtio_blk *s = (struct virtio_blk *)v;
    if (!(v->features & (F_FLUSH | F_CONFIG_WCE)))
        disk_set_cache(&s->disk, false);
}

static void config_read(struct virtio_device *v, uint8_t *ret)
{
    struct virtio_blk *s = (struct virtio_blk *)v;
    const struct disk *d = &s->disk;
    const uint64_t capacity = block_size(d->block) / SECTOR;
    const uint32_t block = d->logical_block_size, sectors = block / SECTOR, ranges = RANGES;
    const uint32_t seg_max = s->seg_max_adjust ? s->queue_size - 2 : LEGACY_SEG_MAX, opt = d->opt_io_size / block;
    const uint32_t granularity = s->report_granularity ? MAX(d->discard_granularity / SECTOR, sectors) : sectors;
    const uint32_t max_discard = s->max_discard, max_zeroes = s->max_write_zeroes;
    const uint16_t queues = s->num_queues, min = MIN(d->min_io_size / block, 0xffff);
    memcpy(ret, &capacity, 8);
    memcpy(ret + 12, &seg_max, 4);
    memcpy(ret + 20, &block, 4);
    ret[24] = __builtin_ctzll(d->physical_block_size / block);
    memcpy(ret + 26, &min, 2);
    memcpy(ret + 28, &opt, 4);
    ret[CONFIG_WRITEBACK] = disk_has_cache(d);
    memcpy(ret + 34, &queues, 2);
    memcpy(ret + 36, &max_discard, 4);   /* max_discard_sectors, _seg, discard_sector_alignment */
    memcpy(ret + 40, &ranges, 4);
    memcpy(ret + 44, &granularity, 4);
    memcpy(ret + 48, &max_zeroes, 4);    /* max_write_zeroes_sectors, _seg, may_unmap */
    memcpy(ret + 52, &ranges, 4);
    ret[56] = 1;
}

static void config_write(struct virtio_device *v, unsigned offset, unsigned size, uint64_t value)
{
    if (offset == CONFIG_WRITEBACK && size == 1 && virtio_has(v, F_CONFIG_WCE))
        disk_set_cache(&((struct virtio_blk *)v)->disk, value & 1);
}

static void stop(struct virtio_device *v)
{
    struct virtio_blk *s = (struct virtio_blk *)v;
    disk_settle(&s->disk);
    disk_reset_cache(&s->disk);
    g_queue_clear_full(&s->parked, (GDestroyNotify)virtio_chain_free);
    s->interrupts = 0;
}

static void changed(void *opaque, bool resized)
{
    struct virtio_blk *s = opaque;
    g_mutex_lock(&s->v.dev.lock);
    virtio_config_changed(&s->v);
    g_mutex_unlock(&s->v.dev.lock);
}

static bool check(struct virtio_blk *s, GError **error)
{
    const struct device *d = &s->v.dev;
    if (s->scsi)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "device %s: scsi=on is not possible", d->class->name);
    if (s->queue_size & (s->queue_size - 1))
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: queue-size=%" G_GUINT64_FORMAT " is no power of two", d->class->name, s->queue_size);
    if (s->num_queues == AUTO_QUEUES)
        s->num_queues = d->class->bus == DEV_BUS_PCI && d->machine->config ? CLAMP(d->machine->config->cpus, 1, VIRTIO_MAX_QUEUES) : 1;
    if (s->num_queues > VIRTIO_MAX_QUEUES)
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: num-queues=%" G_GUINT64_FORMAT ": 1 to %u, or %u: one per vCPU", d->class->name,
                          s->num_queues, VIRTIO_MAX_QUEUES, AUTO_QUEUES);
    if (s->iothread && *s->iothread && !(s->v.iothread = iothread_find(d->machine, s->iothread, error)))
        return false;
    if (s->v.iothread && !s->v.ioeventfd)
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: ioeventfd is required for iothread", d->class->name);
    return true;
}

static bool realize(struct device *d, GError **error)
{
    struct virtio_blk *s = (struct virtio_blk *)d;
    uint16_t sizes[VIRTIO_MAX_QUEUES];
    if (!check(s, error) || !disk_open(&s->disk, d, NULL, false, error))
        return false;
    s->disk.batch_done = interrupt;
    s->disk.changed = changed;
    s->disk.opaque = s;
    for (unsigned i = 0; i < s->num_queues; i++)
        sizes[i] = s->queue_size;
    if (s->num_queues > 1 && s->v.pci_vectors == DEFAULT_VECTORS)
        s->v.pci_vectors = s->num_queues + 1;
    if (!virtio_realize(&s->v, s->num_queues, sizes, error)) {
        disk_close(&s->disk);
        return false;
    }
    g_queue_init(&s->parked);
    machine_add_hook(d->machine, on_hook, s);
    return true;
}

static void unrealize(struct device *d)
{
    struct virtio_blk *s = (struct virtio_blk *)d;
    machine_remove_hook(d->machine, on_hook, s);
    virtio_unrealize(&s->v);
    disk_close(&s->disk);
}

#define T struct virtio_blk
#define BLK_PROPS                                                                                                          \
    DISK_PROPS(T, disk), DISK_ERROR_PROPS(T, disk), DISK_SERIAL_PROP(T, disk, "serial number, the first 20 bytes"),         \
    { "num-queues", PROP_UINT, offsetof(T, num_queues), 1, AUTO_QUEUES, .def = "65535", .help = "request queues; 65535: as many as vCPUs (PCI)" }, \
    { "queue-size", PROP_UINT, offsetof(T, queue_size), 4, 1024, .def = "256", .help = "requests of a queue, a power of two" }, \
    { "seg-max-adjust", PROP_BOOL, offsetof(T, seg_max_adjust), .def = "on", .help = "pieces of a request: as many as the queue has room for" }, \
    { "config-wce", PROP_BOOL, offsetof(T, config_wce), .def = "on", .help = "the guest may switch the write cache" },      \
    { "discard", PROP_BOOL, offsetof(T, discard), .def = "on", .help = "offer discard" },                                   \
    { "write-zeroes", PROP_BOOL, offsetof(T, write_zeroes), .def = "on", .help = "offer write zeroes" },                    \
    { "max-discard-sectors", PROP_UINT, offsetof(T, max_discard), 1, 4194303, .def = "4194303", .help = "sectors of one range" }, \
    { "max-write-zeroes-sectors", PROP_UINT, offsetof(T, max_write_zeroes), 1, 4194303, .def = "4194303", .help = "sectors of one range" }, \
    { "report-discard-granularity", PROP_BOOL, offsetof(T, report_granularity), .def = "on", .help = "tell the guest discard_granularity" }, \
    { "request-merging", PROP_BOOL, offsetof(T, request_merging), .def = "on", .help = "accepted: requests are not merged" }, \
    { "iothread", PROP_STRING, offsetof(T, iothread), .help = "id of the -object iothread that serves the queues" },        \
    { "scsi", PROP_BOOL, offsetof(T, scsi), .def = "off", .help = "only off" }

static const struct device_prop pci_props[] = { BLK_PROPS, VIRTIO_PCI_PROPS(T, "2"), { NULL } };
static const struct device_prop mmio_props[] = { BLK_PROPS, VIRTIO_COMMON_PROPS(T), { NULL } };
static const struct device_field fields[] = { VIRTIO_FIELDS(T), { NULL } };
static const struct virtio_class blk = {
    .name = "virtio-blk", .id = VIRTIO_ID_BLOCK, .pci_class = 0x01, .pci_subclass = 0x00, .config_size = CONFIG_SIZE, .features = features,
    .features_set = features_set, .config_read = config_read, .config_write = config_write, .queue_notify = queue_notify, .stop = stop,
};

const struct device_class virtio_blk_pci_class = {
    .name = "virtio-blk-pci", .help = "virtio disk", .bus = DEV_BUS_PCI, .size = sizeof(T), .props = pci_props, .fields = fields,
    .user_creatable = true, .realize = realize, .reset = virtio_device_reset, .unrealize = unrealize, .drain = drain, .save = save, .load = load, .bus_class = &blk,
};
const struct device_class virtio_blk_mmio_class = {
    .name = "virtio-blk-device", .help = "virtio disk in an MMIO slot", .bus = DEV_BUS_VIRTIO, .size = sizeof(T), .props = mmio_props,
    .fields = fields, .user_creatable = true, .realize = realize, .reset = virtio_device_reset, .unrealize = unrealize, .drain = drain, .save = save, .load = load, .bus_class = &blk,
};
