/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Drives: identity, commands. Section numbers are those of ACS-2 (ATA/ATAPI Command Set 2). */
#include "vmm/dev/sata/ide.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "vmm/core/machine.h"
#include "vmm/core/state.h"

enum { SECTOR = 512, MULTIPLE_MAX = 16, QUEUE_DEPTH = 32, TRIM_BLOCKS = 8, IOV_LIMIT = 1000 };

static void finish(struct ide_drive *d, struct ide_command *c, uint8_t error)
{
    c->error = error;
    c->status = ATA_DRDY | ATA_DSC | (error ? ATA_ERR : 0);
    c->done(c);
}

static void put16(uint8_t *p, uint16_t v) { p[0] = v; p[1] = v >> 8; }

static void put64(uint8_t *p, uint64_t v)
{
    for (unsigned i = 0; i < 8; i++)
        p[i] = v >> 8 * i;
}

static uint64_t capacity(const struct ide_drive *d)
{
    return d->disk.block ? block_size(d->disk.block) / SECTOR : 0;
}

void ide_command_clear(struct ide_command *c)
{
    g_clear_pointer(&c->bounce, g_free);
}

/* ---- data that the drive makes ---- */

static void copy_out(const struct ide_command *c, const uint8_t *data, size_t n)
{
    for (int i = 0; i < c->niov && n; i++) {
        size_t part = MIN(n, c->iov[i].iov_len);
        memcpy(c->iov[i].iov_base, data, part);
        data += part;
        n -= part;
    }
}

static void copy_in(const struct ide_command *c, uint8_t *data, size_t n)
{
    for (int i = 0; i < c->niov && n; i++) {
        size_t part = MIN(n, c->iov[i].iov_len);
        memcpy(data, c->iov[i].iov_base, part);
        data += part;
        n -= part;
    }
}

static void send(struct ide_drive *d, struct ide_command *c, enum ide_protocol protocol, const uint8_t *data, uint32_t n)
{
    c->protocol = protocol;
    c->to_host = true;
    if (n && !c->map(c, n)) {
        finish(d, c, ATA_ABRT);
        return;
    }
    copy_out(c, data, n);
    c->bytes = n;
    finish(d, c, 0);
}

/* ---- IDENTIFY DEVICE (7.13), IDENTIFY PACKET DEVICE (7.14) ---- */

/* Text: two characters to a word, the first in the high byte. */
static void text(uint8_t *page, unsigned word, unsigned n, const char *s)
{
    for (unsigned i = 0; i < n; i++)
        page[word * 2 + (i ^ 1)] = *s ? *s++ : ' ';
}

static void words(uint8_t *page, const uint16_t (*rows)[2], unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        put16(page + 2 * rows[i][0], rows[i][1]);
}

static void seal(uint8_t *page, uint8_t signature)
{
    uint8_t sum = 0;
    if (signature)
        page[510] = signature;
    for (unsigned i = 0; i < 511; i++)
        sum += page[i];
    page[511] = (uint8_t)-sum;
}

static void geometry(const struct ide_drive *d, uint16_t *cylinders, uint16_t *heads, uint16_t *sectors)
{
    *heads = d->heads ? d->heads : 16;
    *sectors = d->sectors ? d->sectors : 63;
    *cylinders = d->cylinders ? d->cylinders : MIN(capacity(d) / (*heads * *sectors), 16383);
}

static void identify_common(const struct ide_drive *d, uint8_t *page)
{
    static const uint16_t rows[][2] = { { 49, 0x0f00 }, { 53, 7 }, { 64, 3 }, { 65, 120 }, { 66, 120 }, { 67, 120 }, { 68, 120 }, { 80, 0x03f0 }, { 93, 0 } };
    words(page, rows, G_N_ELEMENTS(rows));
    text(page, 10, 20, d->disk.serial);
    text(page, 23, 8, d->version);
    text(page, 27, 40, d->model);
    put16(page + 2 * 63, 0x0007 | (d->transfer_mode >> 3 == 4 ? 0x100 << (d->transfer_mode & 7) : 0));
    put16(page + 2 * 88, 0x003f | (d->transfer_mode >> 3 == 8 ? 0x100 << (d->transfer_mode & 7) : 0));
}

static void identify_disk(const struct ide_drive *d, uint8_t *page)
{
    uint64_t sectors = capacity(d);
    uint16_t cyl, heads, spt, cache = disk_has_cache(&d->disk) ? 0x20 : 0, ratio = d->disk.physical_block_size / SECTOR;
    geometry(d, &cyl, &heads, &spt);
    const uint16_t rows[][2] = {
        { 0, 0x0040 }, { 1, cyl }, { 3, heads }, { 6, spt }, { 47, 0x8000 | MULTIPLE_MAX }, { 50, 0x4000 }, { 54, cyl }, { 55, heads }, { 56, spt },
        { 57, cyl * heads * spt & 0xffff }, { 58, cyl * heads * spt >> 16 }, { 59, d->multiple ? 0x100 | d->multiple : 0 },
        { 60, MIN(sectors, 0x0fffffff) & 0xffff }, { 61, MIN(sectors, 0x0fffffff) >> 16 }, { 75, QUEUE_DEPTH - 1 }, { 76, 0x010e },
        { 82, 0x4069 }, { 83, 0x7400 }, { 84, 0x4060 | (d->wwn ? 0x100 : 0) }, /* supported: NOP, look-ahead, cache, power, SMART; LBA48, FLUSH */
        { 85, 0x4008 | cache | (d->look_ahead ? 0x40 : 0) | (d->smart ? 1 : 0) }, { 86, 0x7400 }, { 87, 0x4060 | (d->wwn ? 0x100 : 0) },
        { 105, TRIM_BLOCKS }, { 106, ratio > 1 ? 0x6000 | (uint16_t)__builtin_ctz(ratio) : 0x4000 }, { 169, 1 }, { 217, (uint16_t)d->rotation_rate }, { 222, 0x1020 },
    };
    words(page, rows, G_N_ELEMENTS(rows));
    put64(page + 200, sectors);
    for (unsigned i = 0; d->wwn && i < 4; i++)
        put16(page + 2 * (108 + i), d->wwn >> (48 - 16 * i));
    identify_common(d, page);
}

static void identify(struct ide_drive *d, struct ide_command *c)
{
    uint8_t page[SECTOR] = { 0 };
    if (d->atapi) { /* shows its signature and gives up: so hosts learn what it is (7.13.2) */
        ide_signature(d, c);
        finish(d, c, ATA_ABRT);
        return;
    }
    identify_disk(d, page);
    seal(page, 0xa5);
    send(d, c, IDE_PIO_IN, page, sizeof(page));
}

static void identify_packet(struct ide_drive *d, struct ide_command *c)
{
    static const uint16_t rows[][2] = {
        { 0, 0x85c0 }, /* ATAPI, CD-ROM, removable, 12-byte packets */ { 71, 30 }, { 72, 30 }, { 76, 0x000e }, { 82, 0x4210 }, { 83, 0x4000 }, { 84, 0x4000 },
        { 85, 0x4210 }, { 87, 0x4000 }, { 222, 0x1020 },
    };
    uint8_t page[SECTOR] = { 0 };
    words(page, rows, G_N_ELEMENTS(rows));
    identify_common(d, page);
    seal(page, 0xa5);
    send(d, c, IDE_PIO_IN, page, sizeof(page));
}

void ide_signature(const struct ide_drive *d, struct ide_command *ret)
{
    ret->count = 1;
    ret->lba = d->atapi ? 0xeb1401 : 1;
    ret->device = 0;
    ret->error = 1;
    ret->status = d->atapi ? 0 : ATA_DRDY | ATA_DSC;
}

/* ---- reading and writing ---- */

static uint8_t error_of(int err)
{
    return err == ECANCELED ? ATA_ABRT : err == EIO ? ATA_UNC : ATA_ABRT | ATA_UNC;
}

static void data_done(struct disk_request *r, int err)
{
    struct ide_command *c = (struct ide_command *)r;
    struct ide_drive *d = (struct ide_drive *)r->disk->dev;
    if (!err && c->bounce && r->r.op == BLOCK_READ)
        copy_out(c, c->bounce, r->r.length);
    c->bytes = err ? 0 : r->r.length;
    if (err && c->protocol == IDE_QUEUED) {
        d->queue_failed = true;
        d->failed_tag = c->count >> 3 & 31;
        d->failed_status = ATA_DRDY | ATA_ERR;
        d->failed_error = error_of(err);
        d->failed_lba = c->lba;
    }
    finish(d, c, err ? error_of(err) : 0);
}

/* Too many pieces for one request of the host go through one buffer. */
static void move(struct ide_drive *d, struct ide_command *c, bool write, uint64_t offset, uint32_t bytes,
                 void (*complete)(struct disk_request *r, int err))
{
    struct block_request *r = &c->request.r;
    c->to_host = !write;
    if (!c->map(c, bytes)) {
        finish(d, c, ATA_ABRT);
        return;
    }
    *r = (struct block_request){ .op = write ? BLOCK_WRITE : BLOCK_READ, .offset = offset, .length = bytes, .iov = c->iov, .niov = c->niov, .flags = r->flags };
    if (c->niov > IOV_LIMIT) {
        c->bounce = g_malloc(bytes);
        c->bounce_iov = (struct iovec){ c->bounce, bytes };
        r->iov = &c->bounce_iov;
        r->niov = 1;
        if (write)
            copy_in(c, c->bounce, bytes);
    }
    c->request.complete = complete;
    disk_submit(&d->disk, &c->request);
}

/* Sector counts and addresses of 28 and 48 bits; 0 means all (7.22). */
static void place(const struct ide_command *c, bool ext, uint64_t *lba, uint32_t *n)
{
    *lba = ext ? c->lba : (c->lba & 0xffffff) | (uint64_t)(c->device & 15) << 24;
    *n = ext ? (c->count ? c->count : 65536) : (c->count & 0xff ? c->count & 0xff : 256);
}

static bool in_bounds(const struct ide_drive *d, uint64_t lba, uint64_t n)
{
    uint64_t all = capacity(d);
    return lba <= all && n <= all - lba;
}

enum { WRITE = 1, EXT = 2, FUA = 4, VERIFY = 8, MULTIPLE = 16, QUEUED = 32, DMA = 64 };

static void transfer(struct ide_drive *d, struct ide_command *c, unsigned flags)
{
    uint64_t lba;
    uint32_t n;
    place(c, flags & EXT, &lba, &n);
    c->protocol = flags & DMA ? IDE_DMA : flags & WRITE ? IDE_PIO_OUT : IDE_PIO_IN;
    if (flags & QUEUED) { /* 7.25: the count is where the features were */
        c->protocol = IDE_QUEUED;
        lba = c->lba;
        n = c->feature ? c->feature : 65536;
        flags |= c->device & 0x80 ? FUA : 0;
    }
    if ((flags & MULTIPLE) && !d->multiple) {
        finish(d, c, ATA_ABRT);
    } else if (!in_bounds(d, lba, n)) {
        finish(d, c, ATA_IDNF);
    } else if (flags & VERIFY) {
        c->protocol = IDE_NONDATA;
        finish(d, c, 0);
    } else if ((flags & WRITE) && block_read_only(d->disk.block)) {
        finish(d, c, ATA_ABRT);
    } else {
        c->request.r.flags = flags & FUA && flags & WRITE ? BLOCK_FUA : 0;
        move(d, c, flags & WRITE, lba * SECTOR, n * SECTOR, data_done);
    }
}

static void flush_done(struct disk_request *r, int err)
{
    finish((struct ide_drive *)r->disk->dev, (struct ide_command *)r, err ? ATA_ABRT | ATA_UNC : 0);
}

static void flush(struct ide_drive *d, struct ide_command *c)
{
    c->request.r = (struct block_request){ .op = BLOCK_FLUSH };
    c->request.complete = flush_done;
    disk_submit(&d->disk, &c->request);
}

/* ---- DATA SET MANAGEMENT with TRIM (7.5): ranges of 8 bytes, one after the other ---- */

static void trim_next(struct ide_drive *d, struct ide_command *c);

static void trim_done(struct disk_request *r, int err)
{
    struct ide_command *c = (struct ide_command *)r;
    struct ide_drive *d = (struct ide_drive *)r->disk->dev;
    if (err && err != ENOTSUP)
        finish(d, c, ATA_ABRT);
    else
        trim_next(d, c);
}

static void trim_next(struct ide_drive *d, struct ide_command *c)
{
    while (c->bytes < c->bounce_size) {
        uint64_t entry;
        memcpy(&entry, (uint8_t *)c->bounce + c->bytes, 8);
        c->bytes += 8;
        uint64_t lba = entry & 0xffffffffffffull, n = entry >> 48;
        if (!n)
            continue;
        if (!in_bounds(d, lba, n)) {
            finish(d, c, ATA_IDNF);
            return;
        }
        c->request.r = (struct block_request){ .op = BLOCK_DISCARD, .offset = lba * SECTOR, .length = n * SECTOR };
        c->request.complete = trim_done;
        disk_submit(&d->disk, &c->request);
        return;
    }
    finish(d, c, 0);
}

static void trim(struct ide_drive *d, struct ide_command *c, unsigned flags)
{
    uint32_t bytes = c->count * SECTOR;
    c->protocol = IDE_DMA;
    if (!(c->feature & 1) || !c->count || c->count > TRIM_BLOCKS || block_read_only(d->disk.block) || !c->map(c, bytes)) {
        finish(d, c, ATA_ABRT);
        return;
    }
    c->bounce = g_malloc(bytes);
    c->bounce_size = bytes;
    copy_in(c, c->bounce, bytes);
    trim_next(d, c);
}

/* ---- logs (7.24), SMART (7.48) ---- */

static void log_page(struct ide_drive *d, struct ide_command *c, unsigned flags)
{
    unsigned log = c->lba & 0xff, pages = MIN(c->count ? c->count : 1, 16u);
    uint8_t data[16 * SECTOR] = { 0 };
    if (log == 0) { /* which there are */
        put16(data, 1);
        data[2 * 0x10] = 1;
    } else if (log == 0x10) { /* A.7: the queued command that failed */
        data[0] = d->queue_failed ? d->failed_tag : 0x80;
        data[2] = d->failed_status;
        data[3] = d->failed_error;
        for (unsigned i = 0; i < 3; i++) {
            data[4 + i] = d->failed_lba >> 8 * i;
            data[8 + i] = d->failed_lba >> (24 + 8 * i);
        }
        d->queue_failed = false;
        seal(data, 0);
    } else {
        finish(d, c, ATA_ABRT);
        return;
    }
    send(d, c, flags & DMA ? IDE_DMA : IDE_PIO_IN, data, pages * SECTOR);
}

static void smart(struct ide_drive *d, struct ide_command *c, unsigned flags)
{
    uint8_t page[SECTOR] = { 0 }, op = c->feature & 0xff;
    bool enabled = d->smart;
    if ((c->lba >> 8 & 0xffff) != 0xc24f || (op != 0xd8 && !enabled)) {
        finish(d, c, ATA_ABRT);
        return;
    }
    switch (op) {
    case 0xd8: case 0xd9: /* enable, disable operations */
        d->smart = op == 0xd8;
        finish(d, c, 0);
        break;
    case 0xd2: /* autosave */
    case 0xda: /* return status: the signature unchanged means all is well */
        finish(d, c, 0);
        break;
    case 0xd0: case 0xd1: /* data and thresholds: structure revision, no attributes */
        put16(page, 1);
        seal(page, 0);
        send(d, c, IDE_PIO_IN, page, sizeof(page));
        break;
    default:
        finish(d, c, ATA_ABRT);
    }
}

/* ---- settings ---- */

static void set_features(struct ide_drive *d, struct ide_command *c, unsigned flags)
{
    uint8_t error = 0;
    switch (c->feature & 0xff) {
    case 0x02: case 0x82: /* write cache */
        disk_set_cache(&d->disk, (c->feature & 0xff) == 0x02);
        if (!disk_has_cache(&d->disk)) { /* what is in it goes to the disk */
            flush(d, c);
            return;
        }
        break;
    case 0x03:
        switch (c->count >> 3 & 31) { /* table 56: PIO, multiword DMA, Ultra DMA */
        case 0: case 1: case 4: case 8: d->transfer_mode = c->count; break;
        default: error = ATA_ABRT;
        }
        break;
    case 0xaa: case 0x55:
        d->look_ahead = (c->feature & 0xff) == 0xaa;
        break;
    case 0x05: case 0x85: case 0x66: case 0xcc: /* power management, defaults at reset */
        break;
    default:
        error = ATA_ABRT;
    }
    finish(d, c, error);
}

static void set_multiple(struct ide_drive *d, struct ide_command *c, unsigned flags)
{
    unsigned n = c->count & 0xff;
    bool ok = n <= MULTIPLE_MAX && !(n & (n - 1));
    if (ok)
        d->multiple = n;
    finish(d, c, ok ? 0 : ATA_ABRT);
}

static void native_max(struct ide_drive *d, struct ide_command *c, unsigned flags)
{
    uint64_t last = capacity(d) - 1;
    c->lba = flags & EXT ? last : MIN(last, 0x0ffffffe) & 0xffffff;
    if (!(flags & EXT))
        c->device = (c->device & 0xf0) | (MIN(last, 0x0ffffffe) >> 24 & 15);
    finish(d, c, 0);
}

static void power_mode(struct ide_drive *d, struct ide_command *c, unsigned flags)
{
    c->count = 0xff; /* active or idle */
    finish(d, c, 0);
}

static void diagnose(struct ide_drive *d, struct ide_command *c, unsigned flags)
{
    ide_signature(d, c);
    c->done(c);
}

static void device_reset(struct ide_drive *d, struct ide_command *c, unsigned flags)
{
    ide_reset(d, false);
    diagnose(d, c, flags);
}

static void accept(struct ide_drive *d, struct ide_command *c, unsigned flags) { finish(d, c, 0); }
static void refuse(struct ide_drive *d, struct ide_command *c, unsigned flags) { finish(d, c, ATA_ABRT); }
static void flush_command(struct ide_drive *d, struct ide_command *c, unsigned flags) { flush(d, c); }
static void identify_command(struct ide_drive *d, struct ide_command *c, unsigned flags) { identify(d, c); }
static void identify_packet_command(struct ide_drive *d, struct ide_command *c, unsigned flags) { identify_packet(d, c); }

/* ---- PACKET (7.18): the error register has the sense key ---- */

static void packet_failed(struct ide_drive *d, struct ide_command *c)
{
    finish(d, c, (uint8_t)(d->mmc.key << 4 | (d->mmc.key == SENSE_ILLEGAL_REQUEST ? ATA_ABRT : 0)));
}

static void packet_read_done(struct disk_request *r, int err)
{
    struct ide_command *c = (struct ide_command *)r;
    struct ide_drive *d = (struct ide_drive *)r->disk->dev;
    if (err) {
        mmc_read_failed(&d->mmc, err);
        packet_failed(d, c);
        return;
    }
    if (c->bounce)
        copy_out(c, c->bounce, r->r.length);
    c->bytes = r->r.length;
    c->count = 3; /* interrupt reason: done (7.18.5) */
    finish(d, c, 0);
}

static void packet_read(struct ide_drive *d, struct ide_command *c, const struct mmc_result *r)
{
    if (r->bytes > UINT32_MAX / 2) {
        finish(d, c, ATA_ABRT);
        return;
    }
    move(d, c, false, r->offset, r->bytes, packet_read_done);
}

static void packet(struct ide_drive *d, struct ide_command *c, unsigned flags)
{
    struct mmc_result r;
    c->protocol = IDE_PACKET;
    c->dma = c->feature & 1;
    c->to_host = true;
    mmc_command(&d->mmc, c->packet, &r);
    c->count = 3;
    switch (r.kind) {
    case MMC_CHECK:
        packet_failed(d, c);
        break;
    case MMC_READ:
        packet_read(d, c, &r);
        break;
    case MMC_REPLY:
        send(d, c, IDE_PACKET, r.data, r.length);
        break;
    case MMC_TAKE:
        c->to_host = false;
        c->bytes = r.length;
        finish(d, c, 0);
        break;
    default:
        finish(d, c, 0);
    }
}

/* ---- the commands ---- */

enum { DISK = 1, CD = 2, BOTH = 3 };
static const struct { uint8_t from, to, who; unsigned flags; void (*run)(struct ide_drive *d, struct ide_command *c, unsigned flags); } commands[] = {
    { 0x00, 0x00, BOTH, 0, refuse },             /* NOP (7.17) */
    { 0x06, 0x06, DISK, 0, trim },
    { 0x08, 0x08, CD, 0, device_reset },
    { 0x10, 0x1f, DISK, 0, accept },             /* RECALIBRATE */
    { 0x20, 0x21, DISK, 0, transfer },
    { 0x24, 0x24, DISK, EXT, transfer },
    { 0x25, 0x25, DISK, EXT | DMA, transfer },
    { 0x27, 0x27, DISK, EXT, native_max },
    { 0x29, 0x29, DISK, EXT | MULTIPLE, transfer },
    { 0x2f, 0x2f, DISK, 0, log_page },
    { 0x30, 0x31, DISK, WRITE, transfer },
    { 0x34, 0x34, DISK, WRITE | EXT, transfer },
    { 0x35, 0x35, DISK, WRITE | EXT | DMA, transfer },
    { 0x39, 0x39, DISK, WRITE | EXT | MULTIPLE, transfer },
    { 0x3d, 0x3d, DISK, WRITE | EXT | DMA | FUA, transfer },
    { 0x40, 0x41, DISK, VERIFY, transfer },
    { 0x42, 0x42, DISK, VERIFY | EXT, transfer },
    { 0x47, 0x47, DISK, DMA, log_page },
    { 0x60, 0x60, DISK, QUEUED, transfer },
    { 0x61, 0x61, DISK, QUEUED | WRITE, transfer },
    { 0x70, 0x7f, DISK, 0, accept },             /* SEEK */
    { 0x90, 0x90, BOTH, 0, diagnose },
    { 0x91, 0x91, DISK, 0, accept },             /* INITIALIZE DEVICE PARAMETERS */
    { 0x94, 0x97, BOTH, 0, accept },             /* power modes, as old hosts ask for them */
    { 0x98, 0x98, BOTH, 0, power_mode },
    { 0xa0, 0xa0, CD, 0, packet },
    { 0xa1, 0xa1, CD, 0, identify_packet_command },
    { 0xb0, 0xb0, DISK, 0, smart },
    { 0xc4, 0xc4, DISK, MULTIPLE, transfer },
    { 0xc5, 0xc5, DISK, WRITE | MULTIPLE, transfer },
    { 0xc6, 0xc6, DISK, 0, set_multiple },
    { 0xc8, 0xc8, DISK, DMA, transfer },
    { 0xca, 0xca, DISK, WRITE | DMA, transfer },
    { 0xce, 0xce, DISK, WRITE | EXT | MULTIPLE | FUA, transfer },
    { 0xe0, 0xe3, BOTH, 0, accept },             /* STANDBY IMMEDIATE, IDLE IMMEDIATE, STANDBY, IDLE */
    { 0xe5, 0xe5, BOTH, 0, power_mode },
    { 0xe6, 0xe6, BOTH, 0, accept },             /* SLEEP */
    { 0xe7, 0xe7, DISK, 0, flush_command },
    { 0xea, 0xea, DISK, 0, flush_command },
    { 0xec, 0xec, BOTH, 0, identify_command },
    { 0xef, 0xef, BOTH, 0, set_features },
    { 0xf8, 0xf8, DISK, 0, native_max },
};

void ide_execute(struct ide_drive *d, struct ide_command *c)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (c->command < commands[i].from || c->command > commands[i].to || !(commands[i].who & (d->atapi ? CD : DISK)))
            continue;
        commands[i].run(d, c, commands[i].flags);
        return;
    }
    log_at(LOG_GUEST_ERRORS, "%s: the guest gave command %#x, which is not there", d->dev.class->name, c->command);
    finish(d, c, ATA_ABRT);
}

void ide_reset(struct ide_drive *d, bool hard)
{
    d->queue_failed = false;
    if (!hard)
        return;
    d->multiple = MULTIPLE_MAX;
    d->look_ahead = d->smart = true;
    d->transfer_mode = 0x45;
    disk_reset_cache(&d->disk);
    if (d->atapi)
        mmc_reset(&d->mmc);
}

/* ---- the devices ---- */

static void batch_done(void *opaque)
{
    struct ide_drive *d = opaque;
    if (d->port)
        d->port->ops->batch_done(d->port);
}

static void medium_changed(void *opaque, bool resized)
{
    struct ide_drive *d = opaque;
    if (!d->atapi)
        return;
    g_mutex_lock(&d->dev.lock);
    mmc_medium_changed(&d->mmc);
    g_mutex_unlock(&d->dev.lock);
}

/* "ide.N" is port N of the board's controller, "ID.N" of the one with that id. Without a name: the first that is free. */
static struct ide_port *find_port(struct ide_drive *d, GError **error)
{
    const GPtrArray *all = d->dev.machine->devices;
    const char *name = d->bus_name, *dot = name ? strrchr(name, '.') : NULL;
    bool seen = false;
    for (guint i = 0; i < all->len; i++) {
        struct device *c = all->pdata[i];
        const struct ide_bus_class *bus = c->class->bus_class;
        if (bus != &ahci_bus_class)
            continue;
        seen = true;
        g_autofree char *prefix = g_strdup_printf("%s.", c->id ? c->id : "ide");
        for (unsigned n = 0; n < bus->nports; n++) {
            struct ide_port *p = bus->port(c, n);
            g_autofree char *own = g_strdup_printf("%s%u", prefix, n);
            if (name ? strcmp(own, name) != 0 : p->drive != NULL)
                continue;
            if (p->drive) {
                vireo_fail(error, VIREO_ERROR_BUSY, "device %s: there is a drive at '%s' already; a port takes one", d->dev.class->name, name);
                return NULL;
            }
            d->dev.parent = c->class->user_creatable && c->id ? c : NULL;
            d->dev.boot_controller = c;
            g_snprintf(d->dev.boot_unit, sizeof(d->dev.boot_unit), "/drive@%x/disk@0", n);
            return p;
        }
    }
    if (!seen)
        vireo_fail(error, VIREO_ERROR_NOT_FOUND, "device %s: there is no IDE bus; use -M q35, or put -device ich9-ahci before it", d->dev.class->name);
    else if (name)
        vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Bus '%s' not found%s", name, dot ? "; a controller has the ports 0 to 5" : "; its ports are ID.0 to ID.5");
    else
        vireo_fail(error, VIREO_ERROR_FAILED, "device %s: every port has its drive; add another controller with -device ich9-ahci,id=ID", d->dev.class->name);
    return NULL;
}

static void give_names(struct ide_drive *d, unsigned n)
{
    if (!d->disk.serial)
        d->disk.serial = g_strdup_printf("QM%05u", n + 1);
    if (!d->version)
        d->version = g_strdup("2.5+");
    if (!d->model)
        d->model = g_strdup(d->atapi ? "QEMU DVD-ROM" : "QEMU HARDDISK");
}

static unsigned count_drives(const struct machine *m)
{
    unsigned n = 0;
    for (guint i = 0; i < m->devices->len; i++) {
        const struct device *d = m->devices->pdata[i];
        n += d->class->bus == DEV_BUS_IDE;
    }
    return n;
}

static bool check(const struct ide_drive *d, GError **error)
{
    const char *name = d->dev.class->name;
    if (d->unit)
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: Can't create IDE unit %u, bus supports only 1 units", name, (unsigned)d->unit);
    if (d->disk.logical_block_size > SECTOR)
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: logical_block_size must be 512 for IDE", name);
    if (strlen(d->disk.serial) > 20 || strlen(d->model) > 40 || strlen(d->version) > 8)
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: serial has up to 20 characters, model 40, ver 8", name);
    return d->atapi || !block_read_only(d->disk.block) || vireo_fail(error, VIREO_ERROR_INVALID, "device %s: Can't use a read-only drive; an ide-cd can", name);
}

static bool realize(struct device *dev, bool atapi, GError **error)
{
    struct ide_drive *d = (struct ide_drive *)dev;
    d->atapi = atapi;
    struct ide_port *p = find_port(d, error);
    if (!p || !disk_open(&d->disk, dev, NULL, atapi, error))
        return false;
    give_names(d, count_drives(dev->machine));
    if (!check(d, error)) {
        disk_close(&d->disk);
        return false;
    }
    d->disk.batch_done = batch_done;
    d->disk.changed = medium_changed;
    d->disk.opaque = d;
    if (atapi)
        mmc_init(&d->mmc, dev, NULL, d->disk.block, d->model, d->version);
    d->port = p;
    p->drive = d;
    ide_reset(d, true);
    return true;
}

static bool realize_hd(struct device *d, GError **error)
{
    return realize(d, false, error);
}

static bool realize_cd(struct device *d, GError **error)
{
    return realize(d, true, error);
}

static void unrealize(struct device *dev)
{
    struct ide_drive *d = (struct ide_drive *)dev;
    disk_close(&d->disk);
    g_mutex_lock(&dev->lock);
    d->port->drive = NULL;
    d->port = NULL;
    g_mutex_unlock(&dev->lock);
}

/* Its commands are in the controller's slots. */
static void drain(struct device *d)
{
    disk_drain(&((struct ide_drive *)d)->disk);
}

static void save(struct device *d, struct state_writer *w)
{
    disk_save(&((struct ide_drive *)d)->disk, w);
}

static bool load(struct device *dev, struct state_reader *r, GError **error)
{
    struct ide_drive *d = (struct ide_drive *)dev;
    if (d->multiple > MULTIPLE_MAX || d->failed_tag >= QUEUE_DEPTH) {
        d->multiple = d->failed_tag = 0;
        return state_bad(r, error, "it moves more sectors at once, or has had more commands, than a drive can");
    }
    return disk_load(&d->disk, r, error);
}

#define T struct ide_drive
#define IDE_PROPS                                                                                                              \
    { "bus", PROP_STRING, offsetof(T, bus_name), .help = "ide.N of the board, or ID.N of a controller; default: the first that is free" }, \
    { "unit", PROP_UINT, offsetof(T, unit), 0, 255, .def = "0", .help = "only 0: a port has one drive" },                       \
    { "ver", PROP_STRING, offsetof(T, version), .help = "firmware version, up to 8 characters" },                               \
    { "model", PROP_STRING, offsetof(T, model), .help = "up to 40 characters" },                                                \
    { "wwn", PROP_UINT, offsetof(T, wwn), .def = "0", .help = "world wide name; 0: none" },                                     \
    { "bootindex", PROP_UINT, offsetof(T, bootindex), 0, UINT32_MAX, .def = "4294967295", .help = "place in the firmware\'s boot order; 4294967295: none" }, \
    DISK_SERIAL_PROP(T, disk, "serial number, up to 20 characters"), DISK_PROPS(T, disk), DISK_ERROR_PROPS(T, disk)
static const struct device_prop hd_props[] = {
    IDE_PROPS,
    { "rotation_rate", PROP_UINT, offsetof(T, rotation_rate), 0, 65535, .def = "0", .help = "revolutions per minute; 1: an SSD, 0: not told" },
    { "cyls", PROP_UINT, offsetof(T, cylinders), 0, 65535, .def = "0", .help = "old geometry; 0: computed" },
    { "heads", PROP_UINT, offsetof(T, heads), 0, 16, .def = "0", .help = "the same" },
    { "secs", PROP_UINT, offsetof(T, sectors), 0, 255, .def = "0", .help = "the same" },
    { NULL }
}, cd_props[] = { IDE_PROPS, { NULL } };
static const struct device_field fields[] = {
    DEVICE_FIELD(T, multiple), DEVICE_FIELD(T, transfer_mode), DEVICE_FIELD(T, look_ahead), DEVICE_FIELD(T, smart), DEVICE_FIELD(T, queue_failed),
    DEVICE_FIELD(T, failed_tag), DEVICE_FIELD(T, failed_status), DEVICE_FIELD(T, failed_error), DEVICE_FIELD(T, failed_lba),
    DEVICE_FIELD(T, mmc.key), DEVICE_FIELD(T, mmc.asc), DEVICE_FIELD(T, mmc.ascq), DEVICE_FIELD(T, mmc.attention), DEVICE_FIELD(T, mmc.event),
    DEVICE_FIELD(T, mmc.removable.open), DEVICE_FIELD(T, mmc.removable.locked), { NULL }
};

extern const struct device_class ide_hd_class, ide_cd_class;
const struct device_class ide_hd_class = {
    .name = "ide-hd", .help = "SATA disk", .bus = DEV_BUS_IDE, .size = sizeof(T), .props = hd_props, .fields = fields, .user_creatable = true,
    .realize = realize_hd, .unrealize = unrealize, .drain = drain, .save = save, .load = load,
};
const struct device_class ide_cd_class = {
    .name = "ide-cd", .help = "SATA CD/DVD-ROM drive", .bus = DEV_BUS_IDE, .size = sizeof(T), .props = cd_props, .fields = fields, .user_creatable = true,
    .realize = realize_cd, .unrealize = unrealize, .drain = drain, .save = save, .load = load,
};
