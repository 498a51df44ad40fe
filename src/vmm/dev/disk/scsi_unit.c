/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands of a SCSI logical unit: what they share, and those that read and write blocks (SBC-3, SPC-4). */
#include <errno.h>
#include <string.h>

#include "vmm/dev/disk/scsi_private.h"

enum { MAX_PATTERN = 1 << 20 /* bytes written at once by WRITE SAME */, MAX_RANGES = 256, UNMAP_HEADER = 8, UNMAP_RANGE = 16 };
enum { CDB_FUA = 8 };

/* ---- answers ---- */

static void end(struct scsi_command *c)
{
    g_clear_pointer(&c->iov, g_free);
    g_clear_pointer(&c->buffer, g_free);
    c->finished(c);
}

static void set_sense(uint8_t sense[SCSI_SENSE_SIZE], uint8_t key, uint16_t asc)
{
    memset(sense, 0, SCSI_SENSE_SIZE);
    sense[0] = 0x70; /* current, fixed format (SPC-4, 4.5.3) */
    sense[2] = key;
    sense[7] = SCSI_SENSE_SIZE - 8;
    sense[12] = asc >> 8;
    sense[13] = asc;
}

void scsi_fail(struct scsi_command *c, uint8_t key, uint16_t asc)
{
    c->status = SCSI_CHECK_CONDITION;
    set_sense(c->sense, key, asc);
    end(c);
}

void scsi_good(struct scsi_command *c)
{
    c->status = SCSI_GOOD;
    end(c);
}

static size_t copy_in(struct scsi_command *c, const uint8_t *data, size_t n)
{
    size_t done = 0;
    for (unsigned i = 0; i < c->nin && done < n; i++) {
        size_t part = MIN(n - done, c->in[i].iov_len);
        memcpy(c->in[i].iov_base, data + done, part);
        done += part;
    }
    return done;
}

void scsi_answer(struct scsi_command *c, const uint8_t *data, size_t length, uint64_t allocated)
{
    c->wanted = MIN(length, allocated);
    c->transferred = copy_in(c, data, c->wanted);
    scsi_good(c);
}

size_t scsi_take(struct scsi_command *c, void *ret, size_t n)
{
    size_t done = 0;
    for (unsigned i = 0; i < c->nout && done < n; i++) {
        size_t part = MIN(n - done, c->out[i].iov_len);
        memcpy((uint8_t *)ret + done, c->out[i].iov_base, part);
        done += part;
    }
    c->transferred = done;
    return done;
}

uint64_t scsi_blocks(const struct scsi_unit *u)
{
    return u->disk->block ? block_size(u->disk->block) / u->disk->logical_block_size : 0;
}

bool scsi_need_medium(struct scsi_command *c)
{
    const struct scsi_unit *u = c->unit;
    bool open = u->cd && u->tray.open;
    if (!open && disk_has_medium(u->disk) && !u->stopped)
        return true;
    if (!open && disk_has_medium(u->disk))
        scsi_fail(c, SCSI_NOT_READY, 0x0402); /* initializing command required */
    else
        scsi_fail(c, SCSI_NOT_READY, open ? SCSI_ASC_NO_MEDIUM_TRAY_OPEN : SCSI_ASC_NO_MEDIUM);
    return false;
}

/* What an error of the host is to the guest. */
static void fail_errno(struct scsi_command *c, int err)
{
    bool read = c->d.r.op == BLOCK_READ;
    switch (err) {
    case ENOMEDIUM: scsi_fail(c, SCSI_NOT_READY, SCSI_ASC_NO_MEDIUM); break;
    case ENOSPC: scsi_fail(c, SCSI_DATA_PROTECT, SCSI_ASC_SPACE); break;
    case ENOMEM: scsi_fail(c, SCSI_HARDWARE_ERROR, SCSI_ASC_TARGET_FAILURE); break;
    default: scsi_fail(c, SCSI_MEDIUM_ERROR, read ? SCSI_ASC_READ_ERROR : SCSI_ASC_WRITE_ERROR);
    }
}

/* ---- reading and writing ---- */

/* Place and number of blocks of a command of any length. */
static void where(const uint8_t *cdb, uint64_t *ret_lba, uint64_t *ret_blocks)
{
    switch (cdb[0] >> 5) {
    case 0:
        *ret_lba = (uint64_t)(cdb[1] & 0x1f) << 16 | be16(cdb + 2);
        *ret_blocks = cdb[4] ? cdb[4] : 256;
        break;
    case 1: case 2:
        *ret_lba = be32(cdb + 2);
        *ret_blocks = be16(cdb + 7);
        break;
    case 4:
        *ret_lba = be64(cdb + 2);
        *ret_blocks = be32(cdb + 10);
        break;
    default: /* 12 bytes */
        *ret_lba = be32(cdb + 2);
        *ret_blocks = be32(cdb + 6);
    }
}

/* False: it has ended. */
static bool check_range(struct scsi_command *c, uint64_t lba, uint64_t blocks, bool write)
{
    uint64_t all = scsi_blocks(c->unit);
    if (!scsi_need_medium(c))
        return false;
    if (write && (c->unit->cd || block_read_only(c->unit->disk->block))) {
        scsi_fail(c, SCSI_DATA_PROTECT, SCSI_ASC_WRITE_PROTECTED);
        return false;
    }
    if (lba > all || blocks > all - lba) {
        scsi_fail(c, SCSI_ILLEGAL_REQUEST, SCSI_ASC_LBA_RANGE);
        return false;
    }
    return true;
}

static void rw_done(struct disk_request *d, int err)
{
    struct scsi_command *c = (struct scsi_command *)d;
    if (err == ECANCELED) {
        c->cancelled = true;
        end(c);
    } else if (err) {
        fail_errno(c, err);
    } else {
        c->transferred = d->r.length;
        scsi_good(c);
    }
}

static void read_write(struct scsi_command *c, bool write)
{
    uint64_t lba, blocks, block = c->unit->disk->logical_block_size;
    where(c->cdb, &lba, &blocks);
    if (c->cdb[0] >= 0x20 && (c->cdb[1] & 0xe0)) { /* no protection information */
        scsi_fail(c, SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD);
        return;
    }
    if (!check_range(c, lba, blocks, write))
        return;
    c->wanted = blocks * block;
    uint64_t length = MIN(c->wanted, write ? c->out_len : c->in_len);
    length -= length % block;
    if (!length) {
        scsi_good(c);
        return;
    }
    c->iov = g_new(struct iovec, write ? c->nout : c->nin);
    c->d.r.niov = disk_slice(write ? c->out : c->in, write ? c->nout : c->nin, 0, length, c->iov);
    c->d.r.iov = c->iov;
    c->d.r.op = write ? BLOCK_WRITE : BLOCK_READ;
    c->d.r.flags = write && c->cdb[0] >= 0x20 && (c->cdb[1] & CDB_FUA) ? BLOCK_FUA : 0;
    c->d.r.offset = lba * block;
    c->d.r.length = length;
    c->d.complete = rw_done;
    disk_submit(c->unit->disk, &c->d);
}

/* The data is not compared when BYTCHK is 0: a check that the blocks are there. */
static void verify(struct scsi_command *c)
{
    uint64_t lba, blocks;
    where(c->cdb, &lba, &blocks);
    if (c->cdb[1] & 6)
        scsi_fail(c, SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD);
    else if (check_range(c, lba, blocks, false))
        scsi_good(c);
}

static void synchronize(struct scsi_command *c)
{
    if (!scsi_need_medium(c))
        return;
    c->d.r.op = BLOCK_FLUSH;
    c->d.complete = rw_done;
    disk_submit(c->unit->disk, &c->d);
}

/* ---- ranges ---- */

static void next_range(struct scsi_command *c);

static void range_done(struct disk_request *d, int err)
{
    struct scsi_command *c = (struct scsi_command *)d;
    if (err)
        rw_done(d, err);
    else
        next_range(c);
}

/* UNMAP (SBC-3, 5.28): the ranges were checked and lie in c->buffer. */
static void next_range(struct scsi_command *c)
{
    uint64_t block = c->unit->disk->logical_block_size;
    while (c->at < c->nranges) {
        const uint8_t *range = c->buffer + UNMAP_HEADER + UNMAP_RANGE * c->at++;
        if (!be32(range + 8))
            continue;
        c->d.r.op = BLOCK_DISCARD;
        c->d.r.offset = be64(range) * block;
        c->d.r.length = be32(range + 8) * block;
        c->d.complete = range_done;
        disk_submit(c->unit->disk, &c->d);
        return;
    }
    c->transferred = c->wanted;
    scsi_good(c);
}

static void unmap(struct scsi_command *c)
{
    unsigned length = be16(c->cdb + 7);
    c->buffer = g_malloc0(UNMAP_HEADER + MAX_RANGES * UNMAP_RANGE);
    c->wanted = length;
    if (c->cdb[1] & 1) { /* ANCHOR */
        scsi_fail(c, SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD);
        return;
    }
    if (!check_range(c, 0, 0, true))
        return;
    size_t n = scsi_take(c, c->buffer, MIN(length, UNMAP_HEADER + MAX_RANGES * UNMAP_RANGE));
    if (!length) {
        scsi_good(c);
        return;
    }
    if (n < UNMAP_HEADER || length > n || be16(c->buffer) + 2u > n || be16(c->buffer + 2) + (unsigned)UNMAP_HEADER > n) {
        scsi_fail(c, SCSI_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LENGTH);
        return;
    }
    c->nranges = be16(c->buffer + 2) / UNMAP_RANGE;
    uint64_t all = scsi_blocks(c->unit);
    for (unsigned i = 0; i < c->nranges; i++) {
        const uint8_t *range = c->buffer + UNMAP_HEADER + UNMAP_RANGE * i;
        if (be64(range) > all || be32(range + 8) > all - be64(range)) {
            scsi_fail(c, SCSI_ILLEGAL_REQUEST, SCSI_ASC_LBA_RANGE);
            return;
        }
    }
    next_range(c);
}

/* ---- WRITE SAME (SBC-3, 5.43) ---- */

static void pattern_done(struct disk_request *d, int err);

static void next_pattern(struct scsi_command *c)
{
    c->step = MIN(c->left, (uint64_t)MAX_PATTERN);
    c->iov->iov_len = c->step;
    c->d.r.length = c->step;
    c->left -= c->step;
    disk_submit(c->unit->disk, &c->d);
}

static void pattern_done(struct disk_request *d, int err)
{
    struct scsi_command *c = (struct scsi_command *)d;
    if (err || !c->left) {
        d->r.length = c->unit->disk->logical_block_size;
        rw_done(d, err);
        return;
    }
    d->r.offset += c->step;
    next_pattern(c);
}

static void write_same(struct scsi_command *c)
{
    uint64_t lba, blocks, block = c->unit->disk->logical_block_size;
    bool no_data = c->cdb[0] == 0x93 && (c->cdb[1] & 1), zero = true;
    where(c->cdb, &lba, &blocks);
    if ((c->cdb[1] & 0xf6 & ~8u) || (!no_data && c->out_len < block) || !blocks) { /* WSNZ: a number is needed */
        scsi_fail(c, SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD);
        return;
    }
    if (!check_range(c, lba, blocks, true))
        return;
    c->wanted = no_data ? 0 : block;
    c->left = blocks * block;
    c->d.r.offset = lba * block;
    size_t room = MAX(MIN(c->left, (uint64_t)MAX_PATTERN), block);
    c->buffer = g_malloc0(block);
    if (!no_data)
        scsi_take(c, c->buffer, block);
    for (size_t i = 0; i < block; i++)
        zero &= !c->buffer[i];
    if (zero) {
        c->d.r.op = BLOCK_WRITE_ZEROES;
        c->d.r.flags = c->cdb[1] & 8 ? BLOCK_MAY_UNMAP : 0;
        c->d.r.length = c->left;
        c->left = 0;
        c->d.complete = pattern_done;
        disk_submit(c->unit->disk, &c->d);
        return;
    }
    c->buffer = g_realloc(c->buffer, room);
    for (size_t at = block; at < room; at += block)
        memcpy(c->buffer + at, c->buffer, block);
    c->iov = g_new(struct iovec, 1);
    *c->iov = (struct iovec){ c->buffer, room };
    c->d.r.op = BLOCK_WRITE;
    c->d.r.iov = c->iov;
    c->d.r.niov = 1;
    c->d.complete = pattern_done;
    next_pattern(c);
}

/* ---- size ---- */

static void read_capacity10(struct scsi_command *c)
{
    uint8_t out[8] = { 0 };
    if (!scsi_need_medium(c))
        return;
    if (!(c->cdb[8] & 1) && be32(c->cdb + 2)) {
        scsi_fail(c, SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD);
        return;
    }
    uint64_t last = scsi_blocks(c->unit) - 1;
    put32(out, MIN(last, UINT32_MAX));
    put32(out + 4, c->unit->disk->logical_block_size);
    scsi_answer(c, out, sizeof(out), sizeof(out));
}

static void service_action_in(struct scsi_command *c)
{
    const struct disk *d = c->unit->disk;
    uint8_t out[32] = { 0 };
    if ((c->cdb[1] & 0x1f) != 0x10 || c->unit->cd) { /* READ CAPACITY (16) is the only one */
        scsi_fail(c, SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD);
        return;
    }
    if (!scsi_need_medium(c))
        return;
    put64(out, scsi_blocks(c->unit) - 1);
    put32(out + 8, d->logical_block_size);
    out[13] = MIN(__builtin_ctzll(d->physical_block_size / d->logical_block_size), 15);
    out[14] = d->discard_granularity ? 0x80 : 0; /* LBPME */
    scsi_answer(c, out, sizeof(out), be32(c->cdb + 10));
}

/* ---- the unit itself ---- */

static unsigned put_luns(uint8_t *out, const uint16_t *luns, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        put16(out + 8 + 8 * i, luns[i] < 256 ? luns[i] : 0x4000 | luns[i]); /* SAM-5, 4.7.7 */
    put32(out, 8 * n);
    return 8 + 8 * n;
}

static void report_luns(struct scsi_command *c, const uint16_t *luns, unsigned n)
{
    uint8_t out[8 + 8 * 256] = { 0 };
    uint32_t allocated = be32(c->cdb + 6);
    if (allocated < 16 || c->cdb[2] > 2) {
        scsi_fail(c, SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD);
        return;
    }
    unsigned length = put_luns(out, luns, c->cdb[2] == 1 ? 0 : MIN(n, 256u)); /* 1: only well known ones */
    scsi_answer(c, out, length, allocated);
}

static void unit_report_luns(struct scsi_command *c)
{
    uint16_t luns[256] = { 0 };
    unsigned n = c->unit->luns ? c->unit->luns(c->unit, luns, G_N_ELEMENTS(luns)) : 1;
    report_luns(c, luns, n);
}

/* SPC-4, 6.39: what waits to be told, as data. */
static void request_sense(struct scsi_command *c)
{
    uint8_t sense[SCSI_SENSE_SIZE];
    if (c->cdb[1] & 1) { /* descriptor format */
        scsi_fail(c, SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD);
        return;
    }
    uint16_t asc = c->unit ? c->unit->attention : 0;
    set_sense(sense, !c->unit ? SCSI_ILLEGAL_REQUEST : asc ? SCSI_UNIT_ATTENTION : SCSI_NO_SENSE, c->unit ? asc : SCSI_ASC_NO_SUCH_LUN);
    if (c->unit)
        c->unit->attention = 0;
    scsi_answer(c, sense, sizeof(sense), c->cdb[4]);
}

static void start_stop(struct scsi_command *c)
{
    if (c->unit->cd) {
        scsi_mmc_start_stop(c);
        return;
    }
    if (!(c->cdb[4] & 0xf0)) /* POWER CONDITION 0: the bits count */
        c->unit->stopped = !(c->cdb[4] & 1);
    scsi_good(c);
}

static void prevent_removal(struct scsi_command *c)
{
    if (!c->unit->cd && !c->unit->removable_medium) {
        scsi_fail(c, SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_OPCODE);
        return;
    }
    c->unit->tray.locked = c->cdb[4] & 1;
    scsi_good(c);
}

static void test_unit_ready(struct scsi_command *c)
{
    if (scsi_need_medium(c))
        scsi_good(c);
}

static void command(struct scsi_command *c)
{
    bool cd = c->unit->cd;
    switch (c->cdb[0]) {
    case 0x00: test_unit_ready(c); return;
    case 0x03: request_sense(c); return;
    case 0x12: scsi_inquiry(c); return;
    case 0x15: case 0x55: scsi_mode_select(c); return;
    case 0x1a: case 0x5a: scsi_mode_sense(c); return;
    case 0x1b: start_stop(c); return;
    case 0x1e: prevent_removal(c); return;
    case 0x25: read_capacity10(c); return;
    case 0x08: case 0x28: case 0xa8: case 0x88: read_write(c, false); return;
    case 0x2f: case 0xaf: case 0x8f: verify(c); return;
    case 0x35: case 0x91: synchronize(c); return;
    case 0x9e: service_action_in(c); return;
    case 0xa0: unit_report_luns(c); return;
    case 0x0b: case 0x2b: test_unit_ready(c); return; /* SEEK */
    }
    if (cd && scsi_mmc(c))
        return;
    switch (cd ? 0xff : c->cdb[0]) {
    case 0x0a: case 0x2a: case 0xaa: case 0x8a: read_write(c, true); return;
    case 0x2e: case 0xae: case 0x8e: read_write(c, true); return; /* WRITE AND VERIFY */
    case 0x41: case 0x93: write_same(c); return;
    case 0x42: unmap(c); return;
    }
    /* RESERVE, PERSISTENT RESERVE, FORMAT UNIT, EXTENDED COPY ...: not there. */
    scsi_fail(c, SCSI_ILLEGAL_REQUEST, SCSI_ASC_INVALID_OPCODE);
}

void scsi_execute(struct scsi_command *c)
{
    struct scsi_unit *u = c->unit;
    uint8_t op = c->cdb[0];
    /* SPC-4, 5.8.5: these go on although an attention waits. GET EVENT STATUS NOTIFICATION: MMC-5, 6.7. */
    if (u->attention && op != 0x12 && op != 0xa0 && op != 0x03 && !(u->cd && (op == 0x4a || op == 0x46))) {
        uint16_t asc = u->attention;
        u->attention = 0;
        scsi_fail(c, SCSI_UNIT_ATTENTION, asc);
        return;
    }
    command(c);
}

void scsi_execute_no_unit(struct scsi_command *c, const uint16_t *luns, unsigned nluns)
{
    uint8_t out[36] = { 0x7f, 0, 5, 2, sizeof(out) - 5 }; /* peripheral qualifier 3, type 1fh */
    c->unit = NULL;
    if (c->cdb[0] == 0xa0)
        report_luns(c, luns, nluns);
    else if (c->cdb[0] == 0x12 && !(c->cdb[1] & 1))
        scsi_answer(c, out, sizeof(out), be16(c->cdb + 3));
    else if (c->cdb[0] == 0x03)
        request_sense(c);
    else
        scsi_fail(c, SCSI_ILLEGAL_REQUEST, SCSI_ASC_NO_SUCH_LUN);
}

unsigned scsi_cdb_length(uint8_t opcode)
{
    static const uint8_t lengths[8] = { 6, 10, 10, 0, 16, 12, 0, 0 };
    return lengths[opcode >> 5];
}

/* ---- life ---- */

void scsi_unit_init(struct scsi_unit *u, struct disk *disk, bool cd)
{
    u->disk = disk;
    u->cd = cd;
    u->attention = SCSI_ASC_RESET;
}

void scsi_unit_reset(struct scsi_unit *u)
{
    u->attention = SCSI_ASC_RESET;
    u->tray.locked = u->stopped = false;
    u->media_event = 0;
    if (u->disk->block)
        disk_reset_cache(u->disk);
}

void scsi_unit_changed(struct scsi_unit *u, bool resized)
{
    g_mutex_lock(u->disk->lock);
    if (resized)
        u->attention = SCSI_ASC_CAPACITY_CHANGED;
    g_mutex_unlock(u->disk->lock);
}
