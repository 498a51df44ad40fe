/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Admin commands (NVMe 1.4, 5): queues, identification, features, logs, events. */
#include <string.h>

#include "vmm/dev/nvme/nvme.h"

enum { OP_DELETE_SQ = 0x00, OP_CREATE_SQ = 0x01, OP_GET_LOG = 0x02, OP_DELETE_CQ = 0x04, OP_CREATE_CQ = 0x05, OP_IDENTIFY = 0x06, OP_ABORT = 0x08,
       OP_SET_FEATURES = 0x09, OP_GET_FEATURES = 0x0a, OP_AER = 0x0c };
enum { PAGE = 4096, ALL_NS = 0xffffffff };

/* ---- queues (5.3 to 5.6) ---- */

static bool other_queue(const struct nvme *n, unsigned id)
{
    return id && id <= n->max_ioqpairs;
}

static uint16_t create_cq(struct nvme *n, const struct nvme_command *c)
{
    unsigned id = nvme_dw(c, 10) & 0xffff, size = (nvme_dw(c, 10) >> 16) + 1, vector = nvme_dw(c, 11) >> 16;
    uint64_t base = nvme64(c->sqe + 24);
    if (!other_queue(n, id) || n->cq[id].used)
        return NVME_BAD_QID | NVME_DNR;
    if (size < 2 || size > NVME_MAX_ENTRIES)
        return NVME_BAD_QSIZE | NVME_DNR;
    if (vector >= n->msix_qsize)
        return NVME_BAD_VECTOR | NVME_DNR;
    if (!(nvme_dw(c, 11) & 1) || base % PAGE) /* contiguous queues only (CAP.CQR) */
        return NVME_BAD_FIELD | NVME_DNR;
    n->cq[id] = (struct nvme_cq){ .used = true, .interrupts = nvme_dw(c, 11) & 2, .base = base, .size = size, .vector = vector, .phase = true };
    return NVME_OK;
}

static uint16_t create_sq(struct nvme *n, const struct nvme_command *c)
{
    unsigned id = nvme_dw(c, 10) & 0xffff, size = (nvme_dw(c, 10) >> 16) + 1, cq = nvme_dw(c, 11) >> 16;
    uint64_t base = nvme64(c->sqe + 24);
    if (!other_queue(n, cq) || !n->cq[cq].used)
        return NVME_BAD_CQ | NVME_DNR;
    if (!other_queue(n, id) || n->sq[id].used)
        return NVME_BAD_QID | NVME_DNR;
    if (size < 2 || size > NVME_MAX_ENTRIES)
        return NVME_BAD_QSIZE | NVME_DNR;
    if (!(nvme_dw(c, 11) & 1) || base % PAGE)
        return NVME_BAD_FIELD | NVME_DNR;
    n->sq[id] = (struct nvme_sq){ .used = true, .base = base, .size = size, .id = id, .cq = cq };
    n->cq[cq].users++;
    return NVME_OK;
}

static uint16_t delete_cq(struct nvme *n, const struct nvme_command *c)
{
    unsigned id = nvme_dw(c, 10) & 0xffff;
    if (!other_queue(n, id) || !n->cq[id].used)
        return NVME_BAD_QID | NVME_DNR;
    if (n->cq[id].users)
        return NVME_BAD_DELETION | NVME_DNR;
    nvme_drop_waiting(&n->cq[id]);
    n->cq[id].used = false;
    return NVME_OK;
}

/* Its commands come to their end first; nvme_complete frees it then. */
static void delete_sq(struct nvme_command *c)
{
    struct nvme *n = c->n;
    unsigned id = nvme_dw(c, 10) & 0xffff;
    struct nvme_sq *q = other_queue(n, id) ? &n->sq[id] : NULL;
    if (!q || !q->used || q->deleting) {
        nvme_complete(c, NVME_BAD_QID | NVME_DNR);
    } else if (q->inflight) {
        q->deleting = true;
        q->delete_cid = c->cid;
        /* The answer is made anew when it is time. */
        c->sq->inflight--;
        g_free(c);
    } else {
        n->cq[q->cq].users--;
        q->used = false;
        nvme_complete(c, NVME_OK);
    }
}

/* ---- identification (5.15) ---- */

static void put_text(uint8_t *to, size_t n, const char *text)
{
    memset(to, ' ', n);
    memcpy(to, text, MIN(n, strlen(text)));
}

static void identify_controller(const struct nvme *n, uint8_t *p)
{
    pci_set16(p, n->pci.config[0] | n->pci.config[1] << 8);
    pci_set16(p + 2, 0x1af4);
    put_text(p + 4, 20, n->serial);
    put_text(p + 24, 40, "Vireo NVMe");
    put_text(p + 64, 8, "1.0");
    p[72] = 6;                   /* arbitration burst */
    p[77] = n->mdts;
    pci_set32(p + 80, 0x00010400);
    pci_set32(p + 92, 1 << 8);   /* OAES: namespace attribute notices */
    pci_set32(p + 96, 0);
    p[111] = 1;                  /* an I/O controller */
    p[258] = 3;                  /* abort limit */
    p[259] = NVME_AER_MAX - 1;
    p[260] = 3;                  /* one firmware slot, read only */
    p[261] = 1 << 1;             /* log pages: commands supported is not; extended data no */
    p[262] = 0;
    pci_set16(p + 266, 343);     /* warning, critical temperature, K */
    pci_set16(p + 268, 373);
    p[512] = 0x66;               /* sizes of queue entries: 64, 16 */
    p[513] = 0x44;
    pci_set32(p + 516, NVME_MAX_NS);
    pci_set16(p + 520, 1 << 2 | 1 << 3); /* dataset management, write zeroes */
    p[525] = 1 | 3 << 1; /* volatile write cache; a flush may be for all namespaces */
    pci_set32(p + 536, 1);       /* SGLs */
    g_autofree char *nqn = g_strdup_printf("nqn.2014-08.org.nvmexpress:vireo:%s", n->serial);
    memcpy(p + 768, nqn, MIN(strlen(nqn), 223u));
    pci_set16(p + 2048, 0x09c4); /* power state 0: 25 W */
}

static void identify_ns(const struct nvme_ns *ns, uint8_t *p)
{
    const struct disk *d = &ns->disk;
    uint64_t block = d->logical_block_size, blocks = block_size(d->block) / block;
    nvme_put64(p, blocks);
    nvme_put64(p + 8, blocks);
    nvme_put64(p + 16, blocks);
    p[24] = 1 << 2 | 1 << 4;     /* deallocated blocks can be told of as such; NPWG and its siblings count */
    p[33] = 1 | 1 << 3;          /* deallocated reads as zeroes; write zeroes deallocates */
    pci_set16(p + 64, d->physical_block_size / block - 1); /* NPWG, NPWA, NPDG, NPDA, NOWS */
    pci_set16(p + 66, d->physical_block_size / block - 1);
    pci_set16(p + 68, d->discard_granularity / block - 1);
    pci_set16(p + 70, d->discard_granularity / block - 1);
    pci_set16(p + 72, d->opt_io_size ? MIN(d->opt_io_size / block, 0x10000) - 1 : d->physical_block_size / block - 1);
    p[99] = block_read_only(d->block) ? 1 : 0; /* NSATTR: write protected */
    p[130] = __builtin_ctzll(block); /* the only format */
}

static void ns_list(const struct nvme *n, uint32_t after, uint8_t *p)
{
    for (unsigned i = 0, at = 0; i < NVME_MAX_NS; i++) {
        if (n->ns[i] && i + 1 > after) {
            pci_set32(p + at, i + 1);
            at += 4;
        }
    }
}

static void identify(struct nvme_command *c)
{
    uint8_t page[PAGE] = { 0 };
    uint32_t nsid = nvme_dw(c, 1);
    const struct nvme_ns *ns = nvme_find_ns(c->n, nsid);
    bool valid = nsid && nsid <= NVME_MAX_NS;
    switch (nvme_dw(c, 10) & 0xff) {
    case 0x00:
        if (ns)
            identify_ns(ns, page);
        else if (!valid && nsid != ALL_NS)
            break;
        nvme_reply(c, page, PAGE);
        return;
    case 0x01:
        identify_controller(c->n, page);
        nvme_reply(c, page, PAGE);
        return;
    case 0x02:
        if (nsid >= ALL_NS - 1)
            break;
        ns_list(c->n, nsid, page);
        nvme_reply(c, page, PAGE);
        return;
    case 0x03:
        if (!ns)
            break;
        page[0] = 3; /* UUID */
        page[1] = 16;
        memcpy(page + 4, ns->uuid, 16);
        nvme_reply(c, page, PAGE);
        return;
    default:
        nvme_complete(c, NVME_BAD_FIELD | NVME_DNR);
        return;
    }
    nvme_complete(c, NVME_BAD_NS | NVME_DNR);
}

/* ---- features (5.14, 5.21) ---- */

static void features(struct nvme_command *c, bool set)
{
    struct nvme *n = c->n;
    unsigned id = nvme_dw(c, 10) & 0xff, select = nvme_dw(c, 10) >> 8 & 7, queues = n->max_ioqpairs - 1;
    uint32_t value = nvme_dw(c, 11), *plain = NULL;
    if (set && nvme_dw(c, 10) >> 31) {
        nvme_complete(c, NVME_NOT_SAVEABLE | NVME_DNR);
        return;
    }
    switch (id) {
    case 0x01: plain = &n->arbitration; break;
    case 0x04: plain = &n->temperature; break;
    case 0x05: plain = &n->error_recovery; break;
    case 0x08: plain = &n->coalescing; break;
    case 0x0b: plain = &n->event_config; break;
    case 0x02: case 0x0a: c->result = 0; break; /* one power state; atomicity is as it is */
    case 0x06:
        for (unsigned i = 0; i < NVME_MAX_NS; i++) {
            if (n->ns[i] && set)
                disk_set_cache(&n->ns[i]->disk, value & 1);
            if (n->ns[i])
                c->result |= disk_has_cache(&n->ns[i]->disk);
        }
        break;
    case 0x07:
        if (set && ((value & 0xffff) == 0xffff || value >> 16 == 0xffff)) {
            nvme_complete(c, NVME_BAD_FIELD | NVME_DNR);
            return;
        }
        c->result = queues | queues << 16;
        break;
    case 0x09:
        if ((value & 0xffff) >= n->msix_qsize) {
            nvme_complete(c, NVME_BAD_FIELD | NVME_DNR);
            return;
        }
        c->result = value & 0xffff;
        break;
    default:
        nvme_complete(c, NVME_BAD_FIELD | NVME_DNR);
        return;
    }
    if (plain && set)
        *plain = value;
    if (plain)
        c->result = select == 1 && !set ? 0 : *plain;
    nvme_complete(c, NVME_OK);
    if (set && id == 0x0b)
        nvme_answer_aer(n);
}

/* ---- logs (5.14.1) ---- */

static size_t log_smart(const struct nvme *n, uint8_t *p)
{
    uint64_t units[2] = { 0 }, commands[2] = { 0 };
    for (unsigned i = 0; i < NVME_MAX_NS; i++) {
        struct block_stats s;
        if (!n->ns[i])
            continue;
        block_device_stats(n->ns[i]->disk.block, &s);
        for (unsigned k = 0; k < 2; k++) {
            units[k] += s.bytes[k ? BLOCK_WRITE : BLOCK_READ] / 512;
            commands[k] += s.operations[k ? BLOCK_WRITE : BLOCK_READ];
        }
    }
    pci_set16(p + 1, 323); /* 50 C */
    p[3] = 100;            /* spare */
    p[4] = 10;
    for (unsigned k = 0; k < 2; k++) {
        nvme_put64(p + 32 + 16 * k, (units[k] + 999) / 1000);
        nvme_put64(p + 64 + 16 * k, commands[k]);
    }
    return 512;
}

static size_t log_changed(struct nvme *n, uint8_t *p)
{
    for (unsigned i = 0, at = 0; i < NVME_MAX_NS; i++) {
        if (n->ns[i] && n->ns[i]->changed) {
            pci_set32(p + at, i + 1);
            at += 4;
            n->ns[i]->changed = false;
        }
    }
    return PAGE;
}

static void get_log(struct nvme_command *c)
{
    struct nvme *n = c->n;
    uint8_t page[PAGE] = { 0 };
    uint64_t offset = nvme64(c->sqe + 48), length = ((nvme_dw(c, 10) >> 16 | (uint64_t)(nvme_dw(c, 11) & 0xffff) << 16) + 1) * 4;
    bool keep = nvme_dw(c, 10) & 0x8000; /* the event stays told */
    size_t size;
    switch (nvme_dw(c, 10) & 0xff) {
    case 0x01: size = 64; break; /* no errors */
    case 0x02: size = log_smart(c->n, page); break;
    case 0x03:
        page[0] = 1;
        memcpy(page + 8, "1.0     ", 8);
        size = 512;
        break;
    case 0x04:
        size = log_changed(c->n, page);
        if (!keep)
            c->n->event_masked = false;
        break;
    default:
        nvme_complete(c, NVME_BAD_LOG | NVME_DNR);
        return;
    }
    if (offset > size || offset % 4) {
        nvme_complete(c, NVME_BAD_FIELD | NVME_DNR);
        return;
    }
    nvme_reply(c, page + offset, MIN(length, size - offset));
    nvme_answer_aer(n);
}

static void event_request(struct nvme_command *c)
{
    struct nvme *n = c->n;
    if (n->naer == NVME_AER_MAX) {
        nvme_complete(c, NVME_AER_LIMIT | NVME_DNR);
        return;
    }
    n->aer[n->naer++] = c->cid;
    c->sq->inflight--;
    g_free(c);
    nvme_answer_aer(n);
}

void nvme_admin(struct nvme_command *c)
{
    switch (c->sqe[0]) {
    case OP_DELETE_SQ: delete_sq(c); break;
    case OP_CREATE_SQ: nvme_complete(c, create_sq(c->n, c)); break;
    case OP_DELETE_CQ: nvme_complete(c, delete_cq(c->n, c)); break;
    case OP_CREATE_CQ: nvme_complete(c, create_cq(c->n, c)); break;
    case OP_GET_LOG: get_log(c); break;
    case OP_IDENTIFY: identify(c); break;
    case OP_ABORT: /* 5.1: what has begun cannot be called back */
        c->result = 1;
        nvme_complete(c, NVME_OK);
        break;
    case OP_SET_FEATURES: features(c, true); break;
    case OP_GET_FEATURES: features(c, false); break;
    case OP_AER: event_request(c); break;
    default: nvme_complete(c, NVME_BAD_OPCODE | NVME_DNR); /* format, firmware, namespace management: not there */
    }
}
