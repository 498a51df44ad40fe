/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Data pointers (NVMe 1.4, 4.3, 4.4) and the NVM command set (6). */
#include <errno.h>
#include <string.h>

#include "vmm/core/machine.h"
#include "vmm/dev/nvme/nvme.h"

enum { OP_FLUSH = 0x00, OP_WRITE = 0x01, OP_READ = 0x02, OP_WRITE_ZEROES = 0x08, OP_DSM = 0x09 };
enum { SGL_DATA = 0, SGL_BIT_BUCKET = 1, SGL_SEGMENT = 2, SGL_LAST_SEGMENT = 3, SGL_SIZE = 16, SGL_SEGMENTS = 256 };
enum { RANGE = 16, ALL_NS = 0xffffffff };
enum { FUA = 1u << 30, DEALLOCATE = 1u << 25, DSM_AD = 4 };

/* ---- data pointers ---- */

static uint16_t add(struct nvme_command *c, uint64_t gpa, uint64_t length, bool to_guest)
{
    struct iovec *last = c->niov ? &c->iov[c->niov - 1] : NULL;
    uint8_t *host = guest_memory_ptr(c->n->dev.machine->memory, gpa, length, to_guest);
    if (!host)
        return NVME_DATA_ERROR | NVME_DNR;
    c->length += length;
    if (last && (uint8_t *)last->iov_base + last->iov_len == host && c->gpa[c->niov - 1] + last->iov_len == gpa) {
        last->iov_len += length;
        return NVME_OK;
    }
    if (c->niov == NVME_MAX_IOV)
        return NVME_BAD_SGL_COUNT | NVME_DNR;
    c->iov[c->niov] = (struct iovec){ host, length };
    c->gpa[c->niov++] = gpa;
    return NVME_OK;
}

/* 4.3: the first page from where it says; then a second one, or lists of pages, each list's last entry the next list when more follow. */
static uint16_t map_prp(struct nvme_command *c, uint64_t length, bool to_guest)
{
    struct guest_memory *m = c->n->dev.machine->memory;
    uint64_t page = 4096ull << (c->n->cc >> 7 & 15), prp1 = nvme64(c->sqe + 24), prp2 = nvme64(c->sqe + 32);
    uint64_t part = MIN(length, page - prp1 % page), left = length - part;
    uint16_t status = add(c, prp1, part, to_guest);
    if (status || !left)
        return status;
    if (left <= page)
        return prp2 % page ? NVME_BAD_PRP | NVME_DNR : add(c, prp2, left, to_guest);
    uint64_t list = prp2;
    if (list % 8)
        return NVME_BAD_PRP | NVME_DNR;
    while (left && !status) {
        uint8_t entry[8];
        if (!guest_memory_read(m, list, entry, 8))
            return NVME_DATA_ERROR | NVME_DNR;
        uint64_t at = nvme64(entry);
        if (list % page == page - 8 && left > page) { /* the next list */
            if (at % page)
                return NVME_BAD_PRP | NVME_DNR;
            list = at;
            continue;
        }
        if (at % page)
            return NVME_BAD_PRP | NVME_DNR;
        part = MIN(left, page);
        status = add(c, at, part, to_guest);
        left -= part;
        list += 8;
    }
    return status;
}

/* 4.4. A segment's descriptors are read one by one; only its last one may lead to another segment. */
static uint16_t map_sgl(struct nvme_command *c, uint64_t length, bool to_guest)
{
    struct guest_memory *m = c->n->dev.machine->memory;
    uint8_t d[SGL_SIZE];
    uint64_t at = 0, n = 1;
    uint16_t status = NVME_OK;
    memcpy(d, c->sqe + 24, SGL_SIZE);
    for (unsigned steps = 0; !status; steps++) {
        uint64_t addr = nvme64(d), bytes = nvme32(d + 8);
        unsigned type = d[15] >> 4;
        if ((d[15] & 15) || type > SGL_LAST_SEGMENT || type == SGL_BIT_BUCKET)
            return NVME_BAD_SGL_TYPE | NVME_DNR;
        if (steps > NVME_MAX_IOV + SGL_SEGMENTS)
            return NVME_BAD_SGL_COUNT | NVME_DNR;
        if (type == SGL_DATA) {
            bytes = MIN(bytes, length - c->length);
            status = bytes ? add(c, addr, bytes, to_guest) : NVME_OK;
            n--;
            at += SGL_SIZE;
        } else {
            if (n != 1 || !bytes || bytes % SGL_SIZE)
                return NVME_BAD_SGL_COUNT | NVME_DNR;
            at = addr;
            n = bytes / SGL_SIZE;
        }
        if (!n)
            break;
        if (!status && !guest_memory_read(m, at, d, SGL_SIZE))
            return NVME_DATA_ERROR | NVME_DNR;
    }
    return status ? status : c->length < length ? NVME_BAD_SGL_LENGTH | NVME_DNR : NVME_OK;
}

uint16_t nvme_map(struct nvme_command *c, uint64_t length, bool to_guest)
{
    unsigned psdt = c->sqe[1] >> 6;
    uint64_t pieces = psdt ? NVME_MAX_IOV : MIN(length / 4096 + 2, (uint64_t)NVME_MAX_IOV);
    c->iov = g_new(struct iovec, pieces);
    c->gpa = g_new(uint64_t, pieces);
    c->to_guest = to_guest;
    return psdt == 0 ? map_prp(c, length, to_guest) : psdt < 3 ? map_sgl(c, length, to_guest) : NVME_BAD_FIELD | NVME_DNR;
}

void nvme_reply(struct nvme_command *c, const uint8_t *data, uint64_t length)
{
    uint16_t status = length ? nvme_map(c, length, true) : NVME_OK;
    for (unsigned i = 0; !status && i < c->niov; i++) {
        memcpy(c->iov[i].iov_base, data, c->iov[i].iov_len);
        data += c->iov[i].iov_len;
    }
    nvme_complete(c, status);
}

/* ---- commands ---- */

static uint16_t status_of(const struct nvme_command *c, int err)
{
    switch (err) {
    case 0: return NVME_OK;
    case ECANCELED: return NVME_ABORTED;
    case ENOSPC: return NVME_CAPACITY;
    case EROFS: return NVME_READ_ONLY | NVME_DNR;
    default: return c->d.r.op == BLOCK_READ ? NVME_READ_FAULT : NVME_WRITE_FAULT;
    }
}

static void done(struct disk_request *d, int err)
{
    struct nvme_command *c = (struct nvme_command *)d;
    nvme_complete(c, status_of(c, err));
}

/* Place and size of slba, nlb; a status. */
static uint16_t where(struct nvme_command *c)
{
    const struct disk *d = &c->ns->disk;
    uint64_t lba = nvme64(c->sqe + 40), blocks = (nvme_dw(c, 12) & 0xffff) + 1ull, all = block_size(d->block) / d->logical_block_size;
    if (lba > all || blocks > all - lba)
        return NVME_LBA_RANGE | NVME_DNR;
    c->d.r.offset = lba * d->logical_block_size;
    c->d.r.length = blocks * d->logical_block_size;
    return NVME_OK;
}

static void start(struct nvme_command *c, enum block_op op)
{
    c->d.r.op = op;
    c->d.complete = done;
    disk_submit(&c->ns->disk, &c->d);
}

static void read_write(struct nvme_command *c, bool write)
{
    uint16_t status = where(c);
    if (!status && c->d.r.length > 4096ull << c->n->mdts)
        status = NVME_BAD_FIELD | NVME_DNR;
    if (!status && write && block_read_only(c->ns->disk.block))
        status = NVME_READ_ONLY | NVME_DNR;
    if (!status)
        status = nvme_map(c, c->d.r.length, !write);
    if (status) {
        nvme_complete(c, status);
        return;
    }
    c->d.r.iov = c->iov;
    c->d.r.niov = c->niov;
    c->d.r.flags = write && (nvme_dw(c, 12) & FUA) ? BLOCK_FUA : 0;
    start(c, write ? BLOCK_WRITE : BLOCK_READ);
}

static void write_zeroes(struct nvme_command *c)
{
    uint16_t status = block_read_only(c->ns->disk.block) ? NVME_READ_ONLY | NVME_DNR : where(c);
    if (status) {
        nvme_complete(c, status);
        return;
    }
    c->d.r.flags = (nvme_dw(c, 12) & DEALLOCATE ? BLOCK_MAY_UNMAP : 0) | (nvme_dw(c, 12) & FUA ? BLOCK_FUA : 0);
    start(c, BLOCK_WRITE_ZEROES);
}

static void next_range(struct disk_request *d, int err)
{
    struct nvme_command *c = (struct nvme_command *)d;
    uint64_t block = c->ns->disk.logical_block_size, all = block_size(c->ns->disk.block) / block;
    while (!err && c->at < c->nranges) {
        const uint8_t *r = c->ranges + RANGE * c->at++;
        uint64_t blocks = nvme32(r + 4), lba = nvme64(r + 8);
        if (lba > all || blocks > all - lba) {
            nvme_complete(c, NVME_LBA_RANGE | NVME_DNR);
            return;
        }
        if (!blocks)
            continue;
        c->d.r.op = BLOCK_DISCARD;
        c->d.r.offset = lba * block;
        c->d.r.length = blocks * block;
        c->d.complete = next_range;
        disk_submit(&c->ns->disk, &c->d);
        return;
    }
    nvme_complete(c, status_of(c, err));
}

/* 6.7: only deallocation is more than advice that is not needed. */
static void dataset_management(struct nvme_command *c)
{
    unsigned n = (nvme_dw(c, 10) & 0xff) + 1, at = 0;
    if (!(nvme_dw(c, 11) & DSM_AD)) {
        nvme_complete(c, NVME_OK);
        return;
    }
    uint16_t status = block_read_only(c->ns->disk.block) ? NVME_READ_ONLY | NVME_DNR : nvme_map(c, (uint64_t)n * RANGE, false);
    if (status) {
        nvme_complete(c, status);
        return;
    }
    c->ranges = g_malloc(n * RANGE);
    for (unsigned i = 0; i < c->niov; at += c->iov[i++].iov_len)
        memcpy(c->ranges + at, c->iov[i].iov_base, c->iov[i].iov_len);
    c->nranges = n;
    next_range(&c->d, 0);
}

/* All namespaces one after the other, when the command is for all of them. */
static void flush_next(struct disk_request *d, int err)
{
    struct nvme_command *c = (struct nvme_command *)d;
    while (!err && c->at < NVME_MAX_NS && !c->n->ns[c->at])
        c->at++;
    if (err || c->at == NVME_MAX_NS) {
        nvme_complete(c, status_of(c, err));
        return;
    }
    c->ns = c->n->ns[c->at++];
    c->d.r.op = BLOCK_FLUSH;
    c->d.complete = flush_next;
    disk_submit(&c->ns->disk, &c->d);
}

void nvme_io(struct nvme_command *c)
{
    uint32_t nsid = nvme_dw(c, 1);
    if (c->sqe[0] == OP_FLUSH && nsid == ALL_NS) {
        flush_next(&c->d, 0);
        return;
    }
    c->ns = nvme_find_ns(c->n, nsid);
    if (!c->ns) {
        nvme_complete(c, (nsid && nsid <= NVME_MAX_NS ? NVME_BAD_FIELD : NVME_BAD_NS) | NVME_DNR);
        return;
    }
    switch (c->sqe[0]) {
    case OP_FLUSH: start(c, BLOCK_FLUSH); break;
    case OP_WRITE: read_write(c, true); break;
    case OP_READ: read_write(c, false); break;
    case OP_WRITE_ZEROES: write_zeroes(c); break;
    case OP_DSM: dataset_management(c); break;
    default: nvme_complete(c, NVME_BAD_OPCODE | NVME_DNR); /* compare, verify, reservations: not offered */
    }
}
