/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The controller: registers (NVMe 1.4, 3), queues (4.1), interrupts (7.5), life; and the classes nvme and nvme-ns. */
#include "vmm/dev/nvme/nvme.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "vmm/core/machine.h"
#include "vmm/core/state.h"

enum { BAR_REGS = 0, BAR_MSIX = 4, DOORBELLS = 0x1000, REGS_SIZE = 0x2000 };
enum { REG_CAP = 0x00, REG_VS = 0x08, REG_INTMS = 0x0c, REG_INTMC = 0x10, REG_CC = 0x14, REG_CSTS = 0x1c, REG_AQA = 0x24, REG_ASQ = 0x28, REG_ACQ = 0x30 };
enum { CC_EN = 1, CC_SHN = 3 << 14, CC_MPS_SHIFT = 7 };
enum { CSTS_RDY = 1, CSTS_FATAL = 2, CSTS_SHUTTING = 1 << 2, CSTS_SHUT = 2 << 2, CSTS_SHST = 3 << 2 };
enum { MAX_PAGE_SHIFT = 4, TIMEOUT = 15 /* of 500 ms */, EVENT_NAMESPACE = 1 << 8 };

extern const struct device_class nvme_class;

/* ---- interrupts ---- */

static void update_intx(struct nvme *n)
{
    bool level = false;
    for (unsigned i = 0; i <= n->max_ioqpairs; i++)
        level |= n->cq[i].used && n->cq[i].interrupts && n->cq[i].head != n->cq[i].tail && !(n->intms & 1u << MIN(n->cq[i].vector, 31));
    pci_intx(&n->pci, level);
}

static void interrupt(struct nvme *n)
{
    bool messages = pci_msix_enabled(&n->pci), any = false;
    for (unsigned i = 0; i <= n->max_ioqpairs; i++) {
        struct nvme_cq *q = &n->cq[i];
        if (!q->notify)
            continue;
        q->notify = false;
        any = true;
        if (messages && q->interrupts)
            pci_msix_send(&n->pci, q->vector);
    }
    if (any && !messages)
        update_intx(n);
}

/* ---- completion queues ---- */

static void release(struct nvme_command *c)
{
    g_free(c->iov);
    g_free(c->gpa);
    g_free(c->ranges);
    g_free(c);
}

static bool full(const struct nvme_cq *q)
{
    return (q->tail + 1) % q->size == q->head;
}

static void answer(struct nvme *n, struct nvme_sq *sq, uint16_t cid, uint32_t result, uint16_t status);

/* 4.6. The entry's phase bit makes it valid: it is written with the rest, in one piece of RAM. */
static void post(struct nvme_cq *q, struct nvme_command *c)
{
    struct nvme *n = c->n;
    struct nvme_sq *sq = c->sq;
    uint8_t e[NVME_CQE] = { 0 };
    uint64_t at = q->base + (uint64_t)q->tail * NVME_CQE;
    uint8_t *host = guest_memory_ptr(n->dev.machine->memory, at, NVME_CQE, true);
    pci_set32(e, c->result);
    pci_set16(e + 8, sq->head);
    pci_set16(e + 10, sq->id);
    pci_set16(e + 12, c->cid);
    pci_set16(e + 14, c->status << 1 | q->phase);
    if (host) {
        memcpy(host, e, 14);
        __atomic_store_n((uint16_t *)(host + 14), pci_get16(e + 14), __ATOMIC_RELEASE);
        guest_memory_written(n->dev.machine->memory, at, NVME_CQE);
    } else {
        n->csts |= CSTS_FATAL;
    }
    q->tail = (q->tail + 1) % q->size;
    q->phase ^= !q->tail;
    q->notify = true;
    sq->inflight--;
    release(c);
    if (sq->deleting && !sq->inflight) {
        sq->deleting = sq->used = false;
        n->cq[sq->cq].users--;
        answer(n, &n->sq[0], sq->delete_cid, 0, NVME_OK);
    }
}

static void post_waiting(struct nvme_cq *q)
{
    while (q->used && !full(q) && !g_queue_is_empty(&q->waiting))
        post(q, g_queue_pop_head(&q->waiting));
}

void nvme_complete(struct nvme_command *c, uint16_t status)
{
    struct nvme *n = c->n;
    struct nvme_cq *q = &n->cq[c->sq->cq];
    for (unsigned i = 0; c->to_guest && !status && i < c->niov; i++)
        guest_memory_written(n->dev.machine->memory, c->gpa[i], c->iov[i].iov_len);
    c->status = status;
    if (n->resetting || !q->used) {
        c->sq->inflight--;
        release(c);
    } else if (full(q) || !g_queue_is_empty(&q->waiting)) {
        g_queue_push_tail(&q->waiting, c);
    } else {
        post(q, c);
    }
}

static void answer(struct nvme *n, struct nvme_sq *sq, uint16_t cid, uint32_t result, uint16_t status)
{
    struct nvme_command *c = g_new0(struct nvme_command, 1);
    c->n = n;
    c->sq = sq;
    c->cid = cid;
    c->result = result;
    sq->inflight++;
    nvme_complete(c, status);
}

/* 5.2: notices of changed namespaces, the only events; one until the log has been read. */
void nvme_answer_aer(struct nvme *n)
{
    if (!n->event_pending || n->event_masked || !n->naer || !(n->event_config & EVENT_NAMESPACE))
        return;
    n->event_pending = false;
    n->event_masked = true;
    answer(n, &n->sq[0], n->aer[--n->naer], 2 | 0 << 8 | 4 << 16, NVME_OK);
}

/* ---- submission queues ---- */

static bool can_dma(const struct nvme *n)
{
    return pci_get16(n->pci.config + PCI_REG_COMMAND) & PCI_CMD_MASTER;
}

/* No more commands at once than the queue has entries: a driver that rings without waiting for answers has to wait. */
static void process(struct nvme *n, struct nvme_sq *q)
{
    while (q->used && !q->deleting && q->head != q->tail && q->inflight < q->size && (n->csts & (CSTS_RDY | CSTS_FATAL)) == CSTS_RDY &&
           !n->resetting && can_dma(n)) {
        struct nvme_command *c = g_new0(struct nvme_command, 1);
        if (!guest_memory_read(n->dev.machine->memory, q->base + (uint64_t)q->head * NVME_SQE, c->sqe, NVME_SQE)) {
            g_free(c);
            n->csts |= CSTS_FATAL;
            return;
        }
        q->head = (q->head + 1) % q->size;
        q->inflight++;
        c->n = n;
        c->sq = q;
        c->cid = nvme16(c->sqe + 2);
        if (c->sqe[1] & 3) /* fused operations */
            nvme_complete(c, NVME_BAD_FIELD | NVME_DNR);
        else if (q->id)
            nvme_io(c);
        else
            nvme_admin(c);
    }
}

static void process_all(struct nvme *n)
{
    for (unsigned i = 0; i <= n->max_ioqpairs; i++)
        process(n, &n->sq[i]);
    interrupt(n);
}

static void batch_done(void *opaque)
{
    process_all(((struct nvme_ns *)opaque)->n);
}

static void doorbell(struct nvme *n, unsigned index, uint32_t value)
{
    unsigned id = index / 2;
    if (id > n->max_ioqpairs || !(n->csts & CSTS_RDY) || n->resetting)
        return;
    if (index % 2) {
        struct nvme_cq *q = &n->cq[id];
        if (!q->used || value >= q->size)
            return;
        q->head = value;
        post_waiting(q);
        if (!pci_msix_enabled(&n->pci))
            update_intx(n);
        process_all(n); /* those that waited for room */
    } else if (n->sq[id].used && value < n->sq[id].size) {
        n->sq[id].tail = value;
        process(n, &n->sq[id]);
        interrupt(n);
    }
}

/* ---- reset, start, shutdown ---- */

void nvme_drop_waiting(struct nvme_cq *q)
{
    struct nvme_command *c;
    while ((c = g_queue_pop_head(&q->waiting)))
        release(c);
}

static void drop_again(struct nvme *n)
{
    struct nvme_command *c;
    while ((c = g_queue_pop_head(&n->again)))
        release(c);
}

/* Lock held, given up while it waits for the commands that are at work. */
static void reset(struct nvme *n)
{
    if (n->resetting)
        return;
    n->resetting = true;
    for (unsigned i = 0; i < NVME_MAX_NS; i++) {
        if (n->ns[i]) {
            disk_settle(&n->ns[i]->disk);
            disk_reset_cache(&n->ns[i]->disk);
        }
    }
    drop_again(n);
    for (unsigned i = 0; i < NVME_MAX_QUEUES; i++) {
        nvme_drop_waiting(&n->cq[i]);
        n->sq[i] = (struct nvme_sq){ .id = i };
        n->cq[i] = (struct nvme_cq){ 0 };
    }
    n->csts = 0;
    n->naer = 0;
    n->event_pending = n->event_masked = false;
    n->event_config = n->arbitration = n->coalescing = n->error_recovery = 0;
    n->temperature = 343;
    n->resetting = false;
    pci_intx(&n->pci, false);
}

static bool admin_queues(struct nvme *n)
{
    uint32_t sq = (n->aqa & 0xfff) + 1, cq = (n->aqa >> 16 & 0xfff) + 1;
    if (sq < 2 || cq < 2 || n->asq % 4096 || n->acq % 4096 || (n->cc >> CC_MPS_SHIFT & 15) > MAX_PAGE_SHIFT || (n->cc >> 4 & 7))
        return false;
    n->sq[0] = (struct nvme_sq){ .used = true, .base = n->asq, .size = sq };
    n->cq[0] = (struct nvme_cq){ .used = true, .interrupts = true, .base = n->acq, .size = cq, .phase = true, .users = 1 };
    return true;
}

struct shutdown {
    struct disk_request d;
    struct nvme *n;
};

static void shutdown_done(struct disk_request *d, int err)
{
    struct nvme *n = ((struct shutdown *)d)->n;
    if (!--n->flushing && (n->csts & CSTS_SHST) == CSTS_SHUTTING)
        n->csts = (n->csts & ~CSTS_SHST) | CSTS_SHUT;
    g_free(d);
}

/* 7.6.2: the caches are written out before it is complete. */
static void shut_down(struct nvme *n)
{
    n->csts = (n->csts & ~CSTS_SHST) | CSTS_SHUTTING;
    n->flushing++;
    for (unsigned i = 0; i < NVME_MAX_NS; i++) {
        if (!n->ns[i])
            continue;
        struct shutdown *s = g_new0(struct shutdown, 1);
        s->n = n;
        s->d.r.op = BLOCK_FLUSH;
        s->d.complete = shutdown_done;
        n->flushing++;
        disk_submit(&n->ns[i]->disk, &s->d);
    }
    if (!--n->flushing)
        n->csts = (n->csts & ~CSTS_SHST) | CSTS_SHUT;
}

static void write_cc(struct nvme *n, uint32_t value)
{
    uint32_t old = n->cc;
    if (n->resetting)
        return;
    n->cc = value;
    if ((old & CC_EN) && !(value & CC_EN)) {
        reset(n);
    } else if (!(old & CC_EN) && (value & CC_EN)) {
        n->csts = admin_queues(n) ? CSTS_RDY : CSTS_FATAL;
    }
    if ((value & CC_SHN) && !(old & CC_SHN))
        shut_down(n);
    else if (!(value & CC_SHN))
        n->csts &= ~CSTS_SHST;
}

/* ---- registers ---- */

static uint64_t capabilities(void)
{
    /* MQES, CQR, TO, DSTRD 0, NVM command set, pages of 4 to 64 KiB */
    return (NVME_MAX_ENTRIES - 1) | 1ull << 16 | (uint64_t)TIMEOUT << 24 | 1ull << 37 | (uint64_t)MAX_PAGE_SHIFT << 52;
}

static uint64_t regs_read(void *opaque, uint64_t offset, unsigned size)
{
    const struct nvme *n = opaque;
    switch (offset) {
    case REG_CAP: return (uint32_t)capabilities();
    case REG_CAP + 4: return capabilities() >> 32;
    case REG_VS: return 0x00010400;
    case REG_INTMS: case REG_INTMC: return n->intms;
    case REG_CC: return n->cc;
    case REG_CSTS: return n->csts;
    case REG_AQA: return n->aqa;
    case REG_ASQ: return (uint32_t)n->asq;
    case REG_ASQ + 4: return n->asq >> 32;
    case REG_ACQ: return (uint32_t)n->acq;
    case REG_ACQ + 4: return n->acq >> 32;
    default: return 0;
    }
}

static void set_half(uint64_t *field, bool high, uint32_t value)
{
    *field = high ? (*field & 0xffffffff) | (uint64_t)value << 32 : (*field & ~0xffffffffull) | value;
}

static void regs_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct nvme *n = opaque;
    if (offset >= DOORBELLS) {
        doorbell(n, (offset - DOORBELLS) / 4, value);
        return;
    }
    switch (offset) {
    case REG_INTMS: n->intms |= value; update_intx(n); break;
    case REG_INTMC: n->intms &= ~value; update_intx(n); break;
    case REG_CC: write_cc(n, value); break;
    case REG_AQA: n->aqa = value; break;
    case REG_ASQ: case REG_ASQ + 4: set_half(&n->asq, offset & 4, value); break;
    case REG_ACQ: case REG_ACQ + 4: set_half(&n->acq, offset & 4, value); break;
    }
}

static const struct io_ops regs_ops = { regs_read, regs_write, 4, 4 };

/* ---- namespaces ---- */

struct nvme_ns *nvme_find_ns(const struct nvme *n, uint32_t nsid)
{
    return nsid && nsid <= NVME_MAX_NS ? n->ns[nsid - 1] : NULL;
}

static void notice(struct nvme_ns *ns)
{
    ns->changed = ns->n->event_pending = true;
    nvme_answer_aer(ns->n);
    interrupt(ns->n);
}

static void ns_changed(void *opaque, bool resized)
{
    struct nvme_ns *ns = opaque;
    g_mutex_lock(ns->disk.lock);
    if (ns->n->csts & CSTS_RDY)
        notice(ns);
    g_mutex_unlock(ns->disk.lock);
}

/* Without a UUID of the user's: the same for the same serial number and place. */
static void make_uuid(const struct nvme *n, struct nvme_ns *ns)
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    uint8_t digest[32];
    gsize length = sizeof(digest);
    g_autofree char *text = g_strdup_printf("vireo nvme %s %u", n->serial, ns->nsid);
    g_checksum_update(sum, (const guchar *)text, -1);
    g_checksum_get_digest(sum, digest, &length);
    memcpy(ns->uuid, digest, 16);
    ns->uuid[6] = (ns->uuid[6] & 0x0f) | 0x50;
    ns->uuid[8] = (ns->uuid[8] & 0x3f) | 0x80;
}

bool nvme_attach_ns(struct nvme *n, struct nvme_ns *ns, struct device *dev, uint32_t nsid, GError **error)
{
    for (; !nsid && ns->nsid < NVME_MAX_NS && n->ns[ns->nsid]; ns->nsid++)
        ;
    ns->nsid = nsid ? nsid : ns->nsid + 1;
    if (ns->nsid > NVME_MAX_NS || n->ns[ns->nsid - 1])
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: nsid=%u is %s", dev->class->name, ns->nsid,
                          ns->nsid > NVME_MAX_NS ? "too large: there are 256" : "already taken");
    if (!disk_open(&ns->disk, dev, &n->dev.lock, false, error))
        return false;
    ns->n = n;
    ns->disk.batch_done = batch_done;
    ns->disk.changed = ns_changed;
    ns->disk.opaque = ns;
    make_uuid(n, ns);
    g_mutex_lock(&n->dev.lock);
    n->ns[ns->nsid - 1] = ns;
    g_mutex_unlock(&n->dev.lock);
    return true;
}

void nvme_detach_ns(struct nvme_ns *ns)
{
    struct nvme *n = ns->n;
    if (!n)
        return;
    g_mutex_lock(&n->dev.lock);
    n->ns[ns->nsid - 1] = NULL;
    disk_settle(&ns->disk);
    g_mutex_unlock(&n->dev.lock);
    disk_close(&ns->disk);
    ns->n = NULL;
}

/* ---- a saved machine ---- */

/* Rows of numbers. A command that waits for another try: its queue and entry; an answer that waits for room: queue, id, status, result. */
enum { SQ_WORDS = 8, CQ_WORDS = 8, COMMAND_WORDS = 1 + NVME_SQE / 8, ANSWER_WORDS = 4, MAX_SAVED = NVME_MAX_QUEUES * 4096 };

/* One namespace's end may begin another's command: until all are at rest. */
static void drain(struct device *d)
{
    struct nvme *n = (struct nvme *)d;
    for (unsigned i = 0; i < NVME_MAX_NS; i++) {
        if (!n->ns[i] || !n->ns[i]->disk.inflight)
            continue;
        disk_drain(&n->ns[i]->disk);
        i = (unsigned)-1;
    }
}

static void save_queues(const struct nvme *n, struct state_writer *w)
{
    uint64_t sq[NVME_MAX_QUEUES * SQ_WORDS], cq[NVME_MAX_QUEUES * CQ_WORDS];
    for (unsigned i = 0; i < NVME_MAX_QUEUES; i++) {
        const struct nvme_sq *s = &n->sq[i];
        const struct nvme_cq *c = &n->cq[i];
        const uint64_t srow[SQ_WORDS] = { s->used, s->deleting, s->base, s->size, s->head, s->tail, s->cq, s->delete_cid };
        const uint64_t crow[CQ_WORDS] = { c->used, c->interrupts, c->base, c->size, c->head, c->tail, c->vector, c->phase };
        memcpy(sq + i * SQ_WORDS, srow, sizeof(srow));
        memcpy(cq + i * CQ_WORDS, crow, sizeof(crow));
    }
    state_put(w, "sq", sq, 8, G_N_ELEMENTS(sq));
    state_put(w, "cq", cq, 8, G_N_ELEMENTS(cq));
}

static void add_command(GArray *a, const struct nvme_command *c)
{
    uint64_t row[COMMAND_WORDS] = { c->sq->id };
    memcpy(row + 1, c->sqe, NVME_SQE);
    g_array_append_vals(a, row, COMMAND_WORDS);
}

static void save(struct device *d, struct state_writer *w)
{
    struct nvme *n = (struct nvme *)d;
    g_autoptr(GArray) commands = g_array_new(FALSE, FALSE, 8), answers = g_array_new(FALSE, FALSE, 8);
    for (GList *l = n->again.head; l; l = l->next)
        add_command(commands, l->data);
    for (unsigned i = 0; i < NVME_MAX_NS; i++) {
        for (GList *l = n->ns[i] ? n->ns[i]->disk.retry.head : NULL; l; l = l->next) {
            if (((struct disk_request *)l->data)->complete != shutdown_done) /* that begins anew by itself */
                add_command(commands, l->data);
        }
    }
    for (unsigned i = 0; i < NVME_MAX_QUEUES; i++) {
        for (GList *l = n->cq[i].waiting.head; l; l = l->next) {
            const struct nvme_command *c = l->data;
            const uint64_t row[ANSWER_WORDS] = { c->sq->id, c->cid, c->status, c->result };
            g_array_append_vals(answers, row, ANSWER_WORDS);
        }
    }
    save_queues(n, w);
    state_put(w, "commands", commands->data, 8, commands->len);
    state_put(w, "answers", answers->data, 8, answers->len);
    if (n->own.n) {
        disk_save(&n->own.disk, w);
        state_put_u64(w, "changed", n->own.changed);
    }
}

/* The first queues' sizes come from a register of twelve bits. */
static bool queue_ok(const uint64_t *row, unsigned i)
{
    return row[0] <= 1 && row[1] <= 1 && (!row[0] || (row[3] >= 2 && row[3] <= (i ? NVME_MAX_ENTRIES : 4096) && row[4] < row[3] && row[5] < row[3]));
}

static bool load_queues(struct nvme *n, struct state_reader *r, GError **error)
{
    uint64_t sq[NVME_MAX_QUEUES * SQ_WORDS], cq[NVME_MAX_QUEUES * CQ_WORDS];
    if (!state_get(r, "sq", sq, 8, G_N_ELEMENTS(sq), error) || !state_get(r, "cq", cq, 8, G_N_ELEMENTS(cq), error))
        return false;
    for (unsigned i = 0; i < NVME_MAX_QUEUES; i++) {
        const uint64_t *c = cq + i * CQ_WORDS;
        if (!queue_ok(c, i) || c[6] >= MAX(n->msix_qsize, 1) || c[7] > 1 || (c[0] && i > n->max_ioqpairs))
            return state_bad(r, error, "its completion queue %u is not possible", i);
        n->cq[i] = (struct nvme_cq){ .used = c[0], .interrupts = c[1], .base = c[2], .size = (uint32_t)c[3], .head = (uint32_t)c[4], .tail = (uint32_t)c[5],
                                     .vector = (uint16_t)c[6], .phase = c[7] };
    }
    for (unsigned i = 0; i < NVME_MAX_QUEUES; i++) {
        const uint64_t *s = sq + i * SQ_WORDS;
        if (!queue_ok(s, i) || s[6] >= NVME_MAX_QUEUES || s[7] > UINT16_MAX || (s[0] && (i > n->max_ioqpairs || !n->cq[s[6]].used)))
            return state_bad(r, error, "its submission queue %u is not possible", i);
        n->sq[i] = (struct nvme_sq){ .used = s[0], .deleting = s[1] && s[0], .base = s[2], .size = (uint32_t)s[3], .head = (uint32_t)s[4],
                                     .tail = (uint32_t)s[5], .id = (uint16_t)i, .cq = (uint16_t)s[6], .delete_cid = (uint16_t)s[7] };
        n->cq[s[6]].users += n->sq[i].used;
    }
    return true;
}

static GArray *get_rows(struct state_reader *r, const char *name, unsigned words, GError **error)
{
    uint32_t count;
    g_autoptr(GArray) a = g_array_new(FALSE, FALSE, 8);
    if (!state_get_count(r, name, 8, MAX_SAVED * words, &count, error))
        return NULL;
    g_array_set_size(a, count);
    if (!state_get_some(r, name, a->data, 8, count, &count, error) || (count % words && !state_bad(r, error, "'%s' ends within a row", name)))
        return NULL;
    return g_steal_pointer(&a);
}

/* A command of that queue, counted as under way; NULL: the queue is not there. */
static struct nvme_command *command_of(struct nvme *n, uint64_t queue)
{
    if (queue >= NVME_MAX_QUEUES || !n->sq[queue].used)
        return NULL;
    struct nvme_command *c = g_new0(struct nvme_command, 1);
    c->n = n;
    c->sq = &n->sq[queue];
    c->sq->inflight++;
    return c;
}

static bool load_commands(struct nvme *n, struct state_reader *r, GError **error)
{
    g_autoptr(GArray) commands = get_rows(r, "commands", COMMAND_WORDS, error), answers = commands ? get_rows(r, "answers", ANSWER_WORDS, error) : NULL;
    for (unsigned i = 0; answers && i < commands->len; i += COMMAND_WORDS) {
        const uint64_t *row = &g_array_index(commands, uint64_t, i);
        struct nvme_command *c = command_of(n, row[0]);
        if (!c)
            return state_bad(r, error, "a command belongs to no queue");
        memcpy(c->sqe, row + 1, NVME_SQE);
        c->cid = nvme16(c->sqe + 2);
        g_queue_push_tail(&n->again, c);
    }
    for (unsigned i = 0; answers && i < answers->len; i += ANSWER_WORDS) {
        const uint64_t *row = &g_array_index(answers, uint64_t, i);
        struct nvme_command *c = row[1] <= UINT16_MAX && row[2] <= UINT16_MAX && row[3] <= UINT32_MAX ? command_of(n, row[0]) : NULL;
        if (!c)
            return state_bad(r, error, "an answer belongs to no queue");
        c->cid = (uint16_t)row[1];
        c->status = (uint16_t)row[2];
        c->result = (uint32_t)row[3];
        g_queue_push_tail(&n->cq[c->sq->cq].waiting, c);
    }
    return answers != NULL;
}

static bool load(struct device *d, struct state_reader *r, GError **error)
{
    struct nvme *n = (struct nvme *)d;
    uint64_t changed = 0;
    bool ok = n->naer <= NVME_AER_MAX || state_bad(r, error, "it has %u requests for events", n->naer);
    ok = ok && load_queues(n, r, error) && load_commands(n, r, error);
    ok = ok && (!n->own.n || (disk_load(&n->own.disk, r, error) && state_get_u64(r, "changed", 1, &changed, error)));
    n->own.changed = changed;
    if (!ok)
        reset(n);
    return ok;
}

static void on_hook(void *opaque, enum machine_hook_event ev)
{
    struct nvme *n = opaque;
    struct nvme_command *c;
    if (ev != HOOK_RUN)
        return;
    g_mutex_lock(&n->dev.lock);
    bool any = !g_queue_is_empty(&n->again);
    for (unsigned left = g_queue_get_length(&n->again); left && (c = g_queue_pop_head(&n->again)); left--) {
        if (c->sq->id)
            nvme_io(c);
        else
            nvme_admin(c);
    }
    if (any)
        process_all(n);
    if ((n->csts & CSTS_SHST) == CSTS_SHUTTING && !n->flushing)
        shut_down(n);
    g_mutex_unlock(&n->dev.lock);
}

/* ---- the controller's life ---- */

static void unrealize(struct device *d)
{
    struct nvme *n = (struct nvme *)d;
    machine_remove_hook(d->machine, on_hook, n);
    pci_device_detach(&n->pci);
    g_mutex_lock(&d->lock);
    reset(n);
    g_mutex_unlock(&d->lock);
    for (unsigned i = 0; i < NVME_MAX_NS; i++) {
        if (n->ns[i])
            nvme_detach_ns(n->ns[i]);
    }
    pci_device_unplug(&n->pci);
}

static bool check(struct nvme *n, GError **error)
{
    const char *name = n->dev.class->name;
    const struct { bool bad; const char *text; } rules[] = {
        { !n->serial || !*n->serial, "serial property not set; give serial=TEXT" },
        { n->serial && strlen(n->serial) > 20, "serial: at most 20 characters" },
        { n->cmb_size_mb, "cmb_size_mb: there is no memory in the controller" },
        { n->ioeventfd, "ioeventfd=on is not possible: a doorbell's value has to come along" },
        { n->use_intel_id, "use-intel-id=on is not possible" },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(rules); i++) {
        if (rules[i].bad)
            return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: %s", name, rules[i].text);
    }
    return true;
}

static bool realize(struct device *d, GError **error)
{
    struct nvme *n = (struct nvme *)d;
    static const struct pci_id id = { .vendor = 0x1b36, .device = 0x0010, .subsys_vendor = 0x1af4, .subsys = 0x1100, .revision = 2, .class_code = 0x01,
                                      .subclass = 0x08, .prog_if = 0x02, .int_pin = 1 };
    if (!check(n, error) || (n->own.disk.drive && !nvme_attach_ns(n, &n->own, d, 1, error)))
        return false;
    pci_device_init(&n->pci, d, d->class->name, &id);
    pci_bar_init(&n->pci, BAR_REGS, PCI_BAR_MEM64, REGS_SIZE, &regs_ops, n, &d->lock);
    pci_msix_init(&n->pci, n->msix_qsize, BAR_MSIX);
    pci_express_init(&n->pci);
    g_mutex_lock(&d->lock);
    reset(n);
    g_mutex_unlock(&d->lock);
    if (pci_device_plug(&n->pci, d->machine, n->addr, error)) {
        machine_add_hook(d->machine, on_hook, n);
        return true;
    }
    pci_device_unplug(&n->pci);
    nvme_detach_ns(&n->own);
    return false;
}

static void device_reset_nvme(struct device *d)
{
    struct nvme *n = (struct nvme *)d;
    g_mutex_lock(&d->lock);
    reset(n);
    n->cc = n->aqa = n->intms = 0;
    n->asq = n->acq = 0;
    g_mutex_unlock(&d->lock);
    pci_device_reset(&n->pci);
}

#define T struct nvme
static const struct device_prop props[] = {
    DISK_PROPS(T, own.disk),
    { "serial", PROP_STRING, offsetof(T, serial), .help = "serial number, up to 20 characters; needed" },
    { "addr", PROP_PCI_ADDR, offsetof(T, addr), .def = "-1", .help = "slot[.function]" },
    { "max_ioqpairs", PROP_UINT, offsetof(T, max_ioqpairs), 1, NVME_MAX_QUEUES - 1, .def = "64", .help = "pairs of I/O queues" },
    { "msix_qsize", PROP_UINT, offsetof(T, msix_qsize), 1, 2048, .def = "65", .help = "interrupt vectors" },
    { "mdts", PROP_UINT, offsetof(T, mdts), 1, 8, .def = "7", .help = "the largest transfer: 4096 bytes to this power of two" },
    { "bootindex", PROP_UINT, offsetof(T, bootindex), 0, UINT32_MAX, .def = "4294967295", .help = "place in the firmware\'s boot order; 4294967295: none" },
    { "cmb_size_mb", PROP_UINT, offsetof(T, cmb_size_mb), 0, UINT32_MAX, .def = "0", .help = "only 0" },
    { "ioeventfd", PROP_BOOL, offsetof(T, ioeventfd), .def = "off", .help = "only off" },
    { "use-intel-id", PROP_BOOL, offsetof(T, use_intel_id), .def = "off", .help = "only off" },
    { NULL }
};
static const struct device_field fields[] = {
    DEVICE_FIELD(T, cc), DEVICE_FIELD(T, csts), DEVICE_FIELD(T, aqa), DEVICE_FIELD(T, intms), DEVICE_FIELD(T, asq), DEVICE_FIELD(T, acq),
    DEVICE_FIELD(T, event_config), DEVICE_FIELD(T, temperature), DEVICE_FIELD(T, arbitration), DEVICE_FIELD(T, coalescing),
    DEVICE_FIELD(T, error_recovery), DEVICE_ARRAY(T, aer), DEVICE_FIELD(T, naer), DEVICE_FIELD(T, event_pending), DEVICE_FIELD(T, event_masked),
    { NULL }
};
const struct device_class nvme_class = {
    .name = "nvme", .help = "NVMe controller", .bus = DEV_BUS_PCI, .size = sizeof(T), .props = props, .fields = fields, .user_creatable = true,
    .realize = realize, .reset = device_reset_nvme, .unrealize = unrealize, .drain = drain, .save = save, .load = load,
};
#undef T

/* ---- nvme-ns ---- */

struct nvme_ns_device {
    struct device dev;
    struct nvme_ns ns;
    char *bus_name, *uuid;
    uint64_t nsid, bootindex;
};

/* "bus" is the controller's id; without it, the last one. */
static struct nvme *find_controller(const struct nvme_ns_device *s)
{
    const GPtrArray *all = s->dev.machine->devices;
    for (unsigned i = all->len; i-- > 0;) {
        struct device *d = g_ptr_array_index(all, i);
        if (d->class == &nvme_class && (!s->bus_name || !g_strcmp0(d->id, s->bus_name)))
            return (struct nvme *)d;
    }
    return NULL;
}

static bool ns_uuid(struct nvme_ns_device *s, GError **error)
{
    unsigned b[16];
    if (!s->uuid || !strcmp(s->uuid, "auto"))
        return true;
    if (!g_uuid_string_is_valid(s->uuid) ||
        sscanf(s->uuid, "%2x%2x%2x%2x-%2x%2x-%2x%2x-%2x%2x-%2x%2x%2x%2x%2x%2x", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &b[6], &b[7], &b[8], &b[9],
               &b[10], &b[11], &b[12], &b[13], &b[14], &b[15]) != 16)
        return vireo_fail(error, VIREO_ERROR_INVALID, "device nvme-ns: uuid=%s is no UUID", s->uuid);
    for (unsigned i = 0; i < 16; i++)
        s->ns.uuid[i] = (uint8_t)b[i];
    return true;
}

static void ns_unrealize(struct device *d)
{
    nvme_detach_ns(&((struct nvme_ns_device *)d)->ns);
}

static bool ns_realize(struct device *d, GError **error)
{
    struct nvme_ns_device *s = (struct nvme_ns_device *)d;
    struct nvme *n = find_controller(s);
    if (!n)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "device nvme-ns: there is no NVMe controller%s%s; put -device nvme,serial=TEXT before it",
                          s->bus_name ? " " : "", s->bus_name ? s->bus_name : "");
    if (!nvme_attach_ns(n, &s->ns, d, s->nsid, error))
        return false;
    d->parent = &n->dev;
    if (ns_uuid(s, error))
        return true;
    ns_unrealize(d);
    return false;
}

/* Its commands are the controller's. */
static void ns_save(struct device *d, struct state_writer *w)
{
    disk_save(&((struct nvme_ns_device *)d)->ns.disk, w);
}

static bool ns_load(struct device *d, struct state_reader *r, GError **error)
{
    return disk_load(&((struct nvme_ns_device *)d)->ns.disk, r, error);
}

#define T struct nvme_ns_device
static const struct device_prop ns_props[] = {
    DISK_PROPS(T, ns.disk),
    { "bus", PROP_STRING, offsetof(T, bus_name), .help = "id of the controller; without it, the last one" },
    { "nsid", PROP_UINT, offsetof(T, nsid), 0, NVME_MAX_NS, .def = "0", .help = "number of the namespace; 0: the first free one" },
    { "uuid", PROP_STRING, offsetof(T, uuid), .help = "UUID; auto: made of the serial number and nsid" },
    { "bootindex", PROP_UINT, offsetof(T, bootindex), 0, UINT32_MAX, .def = "4294967295", .help = "place in the firmware\'s boot order; 4294967295: none" },
    { NULL }
};
static const struct device_field ns_fields[] = { DEVICE_FIELD(T, ns.changed), { NULL } };
const struct device_class nvme_ns_class = {
    .name = "nvme-ns", .help = "namespace of an NVMe controller", .size = sizeof(T), .props = ns_props, .fields = ns_fields,
    .user_creatable = true, .realize = ns_realize, .unrealize = ns_unrealize, .save = ns_save, .load = ns_load,
};
