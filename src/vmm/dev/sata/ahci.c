/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Serial ATA controller (AHCI 1.3.1) with six ports, as Intel's ICH9 has it (8086:2922). Section numbers are those of AHCI 1.3.1.
 *
 * Locks: a port and what is at it are covered by the drive's device.lock (by the port's own where there is none); global registers by
 * `lock`, a leaf but for interrupts. Commands are copied from guest memory once, and checked.
 */
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "vmm/bus/pci.h"
#include "vmm/core/machine.h"
#include "vmm/core/state.h"
#include "vmm/dev/sata/ide.h"

enum { NPORTS = 6, NSLOTS = 32, BAR_REGS = 5, REGS_SIZE = 0x1000, PORTS_AT = 0x100, PORT_SIZE = 0x80 };
enum { CAP = 0x00, GHC = 0x04, IS = 0x08, PI = 0x0c, VS = 0x10, CAP2 = 0x24 };
enum { GHC_RESET = 1u << 0, GHC_INTERRUPT = 1u << 1, GHC_AHCI = 1u << 31 };
/* 64-bit addresses, NCQ, command list override, AHCI only, 6 Gbit/s, 32 slots, six ports */
#define CAP_VALUE (1u << 31 | 1u << 30 | 1u << 24 | 1u << 18 | 3u << 20 | (NSLOTS - 1) << 8 | (NPORTS - 1))
#define VERSION 0x00010301u
enum { P_CLB = 0x00, P_CLBU = 0x04, P_FB = 0x08, P_FBU = 0x0c, P_IS = 0x10, P_IE = 0x14, P_CMD = 0x18, P_TFD = 0x20, P_SIG = 0x24, P_SSTS = 0x28,
       P_SCTL = 0x2c, P_SERR = 0x30, P_SACT = 0x34, P_CI = 0x38 };
#define CMD_ST (1u << 0)
#define CMD_CLO (1u << 3)
#define CMD_FRE (1u << 4)
#define CMD_FR (1u << 14)
#define CMD_CR (1u << 15)
#define CMD_ATAPI (1u << 24)
/* spin-up and power-on are always done */
#define CMD_FIXED (1u << 1 | 1u << 2)
#define CMD_WRITABLE (CMD_ST | CMD_FRE | 1u << 24 | 1u << 25)
#define IRQ_DHR (1u << 0)
#define IRQ_PS (1u << 1)
#define IRQ_SDB (1u << 3)
#define IRQ_PC (1u << 6)
#define IRQ_HBF (1u << 29)
#define IRQ_TFE (1u << 30)
#define SERR_EXCHANGED (1u << 26 | 1u << 16)
enum { FIS_H2D = 0x27, FIS_D2H = 0x34, FIS_SDB = 0xa1, FIS_PIO = 0x5f };
enum { RX_PIO = 0x20, RX_D2H = 0x40, RX_SDB = 0x58 };
enum { HEADER_SIZE = 32, PRDT_AT = 0x80, PACKET_AT = 0x40, PRD_SIZE = 16, FIS_SIZE = 20 };
#define LINK_UP 0x133u /* device there, 6 Gbit/s, active */

struct ahci;

struct port {
    struct ide_port ide; /* first */
    struct ahci *hba;
    GMutex own_lock;
    uint64_t clb, fb;
    uint32_t is, ie, cmd, tfd, sig, ssts, sctl, serr, sact, ci;
    uint32_t running;    /* slots that the drive has */
    uint32_t again;      /* of a loaded machine: slots that the drive had, and that begin anew when it runs */
    uint32_t finished;   /* queued commands whose bits go with the next Set Device Bits */
    uint8_t current;
    bool halted;         /* an error: until ST is cleared */
    bool in_reset;       /* software reset: the second FIS is awaited */
    bool stopping;       /* commands that come back are forgotten */
};

struct ahci {
    struct device dev;
    struct pci_device pci;
    int addr;
    GMutex lock;
    uint32_t ghc, is;
    struct port ports[NPORTS];
};

/* A slot's command. */
struct task {
    struct ide_command c; /* first */
    struct port *port;
    uint8_t slot;
    uint32_t header;      /* word 0 */
    uint64_t table;       /* guest address */
    struct iovec *iov;
    uint64_t *gpa;        /* of each */
};

static uint32_t get32(const uint8_t *p) { return pci_get32(p); }
static uint64_t get64(const uint8_t *p) { return get32(p) | (uint64_t)get32(p + 4) << 32; }

static GMutex *lock_of(struct port *p)
{
    return p->ide.drive ? &p->ide.drive->dev.lock : &p->own_lock;
}

static struct guest_memory *memory_of(const struct port *p)
{
    return p->hba->dev.machine->memory;
}

static bool may_dma(const struct ahci *h)
{
    return pci_get16(h->pci.config + PCI_REG_COMMAND) & PCI_CMD_MASTER;
}

/* ---- interrupts (10.7) ---- */

static void update_interrupt_locked(struct ahci *h)
{
    bool on = h->is && (h->ghc & GHC_INTERRUPT);
    if (pci_msi_enabled(&h->pci)) {
        pci_intx(&h->pci, false);
        if (on)
            pci_msi_send(&h->pci);
    } else {
        pci_intx(&h->pci, on);
    }
}

static void port_interrupt(struct port *p)
{
    struct ahci *h = p->hba;
    if (!(p->is & p->ie))
        return;
    g_mutex_lock(&h->lock);
    h->is |= 1u << (p - h->ports);
    update_interrupt_locked(h);
    g_mutex_unlock(&h->lock);
}

/* ---- what the drive sends (4.2.1) ---- */

static void receive(struct port *p, unsigned at, const uint8_t *fis, unsigned size)
{
    if ((p->cmd & CMD_FRE) && may_dma(p->hba) && !guest_memory_write(memory_of(p), p->fb + at, fis, size))
        p->is |= IRQ_HBF;
}

/* The shape that D2H Register and PIO Setup share (Serial ATA 3.1, 10.3.5, 10.3.11). */
static void fill(uint8_t *fis, uint8_t type, uint8_t flags, const struct ide_command *c)
{
    memset(fis, 0, FIS_SIZE);
    fis[0] = type;
    fis[1] = flags;
    fis[2] = c->status;
    fis[3] = c->error;
    for (unsigned i = 0; i < 3; i++) {
        fis[4 + i] = c->lba >> 8 * i;
        fis[8 + i] = c->lba >> (24 + 8 * i);
    }
    fis[7] = c->device;
    fis[12] = c->count;
    fis[13] = c->count >> 8;
}

static void send_d2h(struct port *p, const struct ide_command *c, bool interrupt)
{
    uint8_t fis[FIS_SIZE];
    fill(fis, FIS_D2H, interrupt ? 0x40 : 0, c);
    p->tfd = c->status | c->error << 8;
    receive(p, RX_D2H, fis, sizeof(fis));
    if (interrupt)
        p->is |= IRQ_DHR;
    if (c->status & ATA_ERR)
        p->is |= IRQ_TFE;
}

static void send_pio(struct port *p, const struct ide_command *c)
{
    uint8_t fis[FIS_SIZE];
    fill(fis, FIS_PIO, 0x40 | (c->to_host ? 0x20 : 0), c);
    fis[2] = c->status | ATA_DRQ;
    fis[15] = c->status; /* when the data have been moved */
    fis[16] = c->bytes;
    fis[17] = c->bytes >> 8;
    p->tfd = c->status | c->error << 8;
    receive(p, RX_PIO, fis, sizeof(fis));
    p->is |= IRQ_PS;
}

static void send_device_bits(struct port *p, uint8_t status, uint8_t error, uint32_t finished)
{
    uint8_t fis[8] = { FIS_SDB, 0x40, status & 0x77, error };
    pci_set32(fis + 4, finished);
    receive(p, RX_SDB, fis, sizeof(fis));
    p->sact &= ~finished;
    p->tfd = (p->tfd & ATA_BSY) | (status & 0x77) | error << 8;
    p->is |= IRQ_SDB;
    if (status & ATA_ERR)
        p->is |= IRQ_TFE;
}

static void send_finished(struct port *p)
{
    if (p->finished && !p->halted)
        send_device_bits(p, ATA_DRDY, 0, p->finished);
    p->finished = 0;
}

/* ---- commands that come back ---- */

static void task_free(struct task *t)
{
    ide_command_clear(&t->c);
    g_free(t->iov);
    g_free(t->gpa);
    g_free(t);
}

static void tell_written(struct task *t)
{
    uint64_t left = t->c.to_host ? t->c.bytes : 0;
    for (int i = 0; i < t->c.niov && left; i++) {
        uint64_t part = MIN(left, t->c.iov[i].iov_len);
        guest_memory_written(memory_of(t->port), t->gpa[i], part);
        left -= part;
    }
}

/* 5.5.1 and 5.6: how each protocol ends. */
static void done(struct ide_command *c)
{
    struct task *t = (struct task *)c;
    struct port *p = t->port;
    uint32_t bit = 1u << t->slot;
    bool failed = c->status & ATA_ERR;
    tell_written(t);
    p->running &= ~bit;
    if (p->stopping || p->halted) {
        task_free(t);
        return;
    }
    if (c->protocol == IDE_QUEUED) {
        if (failed) {
            send_finished(p);
            send_device_bits(p, c->status, c->error, 0);
            p->halted = true;
        } else {
            p->finished |= bit;
        }
        task_free(t);
        return;
    }
    uint8_t moved[4];
    pci_set32(moved, c->bytes);
    if (!guest_memory_write(memory_of(p), p->clb + t->slot * HEADER_SIZE + 4, moved, sizeof(moved)))
        p->is |= IRQ_HBF;
    if (!failed && (c->protocol == IDE_PIO_IN || (c->protocol == IDE_PACKET && !c->dma && c->bytes)))
        send_pio(p, c);
    if (failed || c->protocol != IDE_PIO_IN)
        send_d2h(p, c, true);
    if (failed)
        p->halted = true;
    else
        p->ci &= ~bit;
    task_free(t);
}

/* ---- a slot's command (4.2.2, 4.2.3) ---- */

static bool add_piece(struct task *t, uint64_t gpa, uint32_t n, uint32_t *room)
{
    uint8_t *host = guest_memory_ptr(memory_of(t->port), gpa, n, t->c.to_host);
    struct iovec *last = t->c.niov ? &t->iov[t->c.niov - 1] : NULL;
    if (!host)
        return false;
    if (last && (uint8_t *)last->iov_base + last->iov_len == host && t->gpa[t->c.niov - 1] + last->iov_len == gpa) {
        last->iov_len += n;
        return true;
    }
    if ((uint32_t)t->c.niov == *room) {
        *room = *room ? *room * 2 : 32;
        t->iov = g_renew(struct iovec, t->iov, *room);
        t->gpa = g_renew(uint64_t, t->gpa, *room);
    }
    t->iov[t->c.niov] = (struct iovec){ host, n };
    t->gpa[t->c.niov++] = gpa;
    return true;
}

static bool map(struct ide_command *c, uint32_t bytes)
{
    struct task *t = (struct task *)c;
    uint32_t entries = t->header >> 16, room = 0;
    for (uint32_t i = 0; bytes && i < entries; i++) {
        uint8_t prd[PRD_SIZE];
        if (!guest_memory_read(memory_of(t->port), t->table + PRDT_AT + (uint64_t)i * PRD_SIZE, prd, sizeof(prd)))
            break;
        uint32_t n = MIN((get32(prd + 12) & 0x3fffff) + 1, bytes);
        if (!add_piece(t, get64(prd), n, &room))
            break;
        bytes -= n;
    }
    c->iov = t->iov;
    if (bytes) {
        log_at(LOG_GUEST_ERRORS, "ahci: the list of slot %u is too short, or leads to what is not RAM", t->slot);
        t->port->is |= IRQ_HBF;
        c->niov = 0;
    }
    return !bytes;
}

/* A software reset is two FIS with SRST set, then clear (10.4.1). */
static void control(struct port *p, const uint8_t *fis, unsigned slot)
{
    bool reset = fis[15] & 4;
    p->ci &= ~(1u << slot);
    if (reset) {
        p->in_reset = true;
        p->tfd |= ATA_BSY;
    } else if (p->in_reset) {
        struct ide_command c = { 0 };
        p->in_reset = false;
        ide_reset(p->ide.drive, true);
        ide_signature(p->ide.drive, &c);
        send_d2h(p, &c, false);
    }
}

static void start(struct port *p, unsigned slot)
{
    uint8_t header[HEADER_SIZE], table[PRDT_AT];
    struct guest_memory *memory = memory_of(p);
    if (!guest_memory_read(memory, p->clb + slot * HEADER_SIZE, header, sizeof(header)) ||
        !guest_memory_read(memory, get64(header + 8) & ~127ull, table, sizeof(table)) || table[0] != FIS_H2D) {
        log_at(LOG_GUEST_ERRORS, "ahci: slot %u has no command", slot);
        p->is |= IRQ_HBF;
        p->halted = true;
        return;
    }
    p->current = slot;
    if (!(table[1] & 0x80)) {
        control(p, table, slot);
        return;
    }
    struct task *t = g_new0(struct task, 1);
    t->port = p;
    t->slot = slot;
    t->header = get32(header);
    t->table = get64(header + 8) & ~127ull;
    t->c.command = table[2];
    t->c.feature = table[3] | table[11] << 8;
    t->c.device = table[7];
    for (unsigned i = 0; i < 3; i++)
        t->c.lba |= (uint64_t)table[4 + i] << 8 * i | (uint64_t)table[8 + i] << (24 + 8 * i);
    t->c.count = table[12] | table[13] << 8;
    memcpy(t->c.packet, table + PACKET_AT, sizeof(t->c.packet));
    t->c.map = map;
    t->c.done = done;
    p->running |= 1u << slot;
    bool queued = t->c.command == 0x60 || t->c.command == 0x61;
    if (queued && (t->c.count >> 3 & 31) != slot) { /* 5.6.4: the tag is the slot */
        t->c.status = ATA_DRDY | ATA_ERR;
        t->c.error = ATA_ABRT;
        done(&t->c);
        return;
    }
    if (queued) {
        struct ide_command taken = { .status = ATA_DRDY | ATA_DSC, .lba = t->c.lba, .device = t->c.device };
        send_d2h(p, &taken, false); /* the slot is free, the tag is not */
        p->ci &= ~(1u << slot);
    } else {
        p->tfd |= ATA_BSY;
    }
    ide_execute(p->ide.drive, &t->c);
}

/* Commands without a queue go one at a time, and not beside queued ones. */
static void run(struct port *p)
{
    for (unsigned i = 0; i < NSLOTS; i++) {
        uint32_t bit = 1u << i;
        if (!(p->cmd & CMD_ST) || p->halted || p->stopping || !p->ide.drive || !may_dma(p->hba) || (p->tfd & ATA_BSY && !p->in_reset))
            break;
        if ((p->ci & bit) && !(p->running & bit))
            start(p, i);
    }
    send_finished(p);
    port_interrupt(p);
}

static void batch_done(struct ide_port *ide)
{
    run((struct port *)ide);
}

static const struct ide_port_ops port_ops = { batch_done };

/* ---- stopping, resetting ---- */

/* What is on its way ends, and is forgotten. Lock held, given up meanwhile. */
static void stop(struct port *p)
{
    if (p->running && p->ide.drive) {
        p->stopping = true;
        disk_settle(&p->ide.drive->disk);
        p->stopping = false;
    }
    p->ci = p->sact = p->finished = p->running = p->again = 0;
    p->halted = p->in_reset = false;
    p->cmd &= ~(CMD_CR | 0x1f00);
}

/* COMRESET (10.4.2): the drive is there again and sends its signature. */
static void port_reset(struct port *p)
{
    struct ide_command c = { 0 };
    stop(p);
    p->cmd &= ~CMD_ST;
    p->tfd = 0x7f;
    p->sig = 0xffffffff;
    p->ssts = 0;
    if (!p->ide.drive)
        return;
    p->ssts = LINK_UP;
    p->serr |= SERR_EXCHANGED;
    p->is |= IRQ_PC;
    ide_reset(p->ide.drive, true);
    ide_signature(p->ide.drive, &c);
    p->sig = (uint32_t)(c.lba << 8) | c.count;
    send_d2h(p, &c, false);
}

static void port_power_on(struct port *p)
{
    g_mutex_lock(lock_of(p));
    p->clb = p->fb = 0;
    p->ie = p->cmd = p->sctl = 0;
    port_reset(p);
    p->is = p->serr = 0;
    p->current = 0;
    g_mutex_unlock(lock_of(p));
}

static void hba_reset(struct ahci *h)
{
    for (unsigned i = 0; i < NPORTS; i++)
        port_power_on(&h->ports[i]);
    g_mutex_lock(&h->lock);
    h->ghc = GHC_AHCI;
    h->is = 0;
    update_interrupt_locked(h);
    g_mutex_unlock(&h->lock);
}

/* ---- registers ---- */

static uint32_t port_read(struct port *p, unsigned offset)
{
    switch (offset) {
    case P_CLB: return (uint32_t)p->clb;
    case P_CLBU: return p->clb >> 32;
    case P_FB: return (uint32_t)p->fb;
    case P_FBU: return p->fb >> 32;
    case P_IS: return p->is;
    case P_IE: return p->ie;
    case P_CMD:
        return p->cmd | CMD_FIXED | (p->cmd & CMD_FRE ? CMD_FR : 0) | (p->cmd & CMD_ST ? (uint32_t)p->current << 8 : 0);
    case P_TFD: return p->tfd;
    case P_SIG: return p->sig;
    case P_SSTS: return p->ssts;
    case P_SCTL: return p->sctl;
    case P_SERR: return p->serr;
    case P_SACT: return p->sact;
    case P_CI: return p->ci;
    default: return 0;
    }
}

static void command_write(struct port *p, uint32_t value)
{
    uint32_t old = p->cmd;
    p->cmd = (old & ~CMD_WRITABLE) | (value & CMD_WRITABLE);
    if (value & CMD_CLO)
        p->tfd &= ~(ATA_BSY | ATA_DRQ);
    if ((p->cmd & CMD_FRE) && !(old & CMD_FRE) && p->ide.drive && p->ssts) { /* the signature that had no place to go */
        struct ide_command c = { 0 };
        uint32_t tfd = p->tfd;
        ide_signature(p->ide.drive, &c);
        send_d2h(p, &c, false);
        p->tfd = tfd;
    }
    if ((old & CMD_ST) && !(value & CMD_ST))
        stop(p);
    else if (p->cmd & CMD_ST)
        p->cmd |= CMD_CR;
    run(p);
}

static void control_write(struct port *p, uint32_t value)
{
    uint32_t old = p->sctl & 15;
    p->sctl = value & 0xfff;
    if ((value & 15) == 1 && old != 1) {
        stop(p);
        p->ssts = 0;
        p->tfd = 0x7f;
    } else if (old == 1 && (value & 15) == 0) {
        port_reset(p);
        port_interrupt(p);
    } else if ((value & 15) == 4) { /* off line */
        stop(p);
        p->ssts = 4;
    }
}

static void set_half(uint64_t *to, bool high, uint32_t value)
{
    *to = high ? (*to & 0xffffffff) | (uint64_t)value << 32 : (*to & ~0xffffffffull) | value;
}

static void port_write(struct port *p, unsigned offset, uint32_t value)
{
    switch (offset) {
    case P_CLB: set_half(&p->clb, false, value & ~0x3ffu); break;
    case P_CLBU: set_half(&p->clb, true, value); break;
    case P_FB: set_half(&p->fb, false, value & ~0xffu); break;
    case P_FBU: set_half(&p->fb, true, value); break;
    case P_IS: p->is &= ~value; break;
    case P_IE:
        p->ie = value & 0xfdc000ff;
        port_interrupt(p);
        break;
    case P_CMD: command_write(p, value); break;
    case P_SCTL: control_write(p, value); break;
    case P_SERR:
        p->serr &= ~value;
        if (!(p->serr & (1u << 26)))
            p->is &= ~IRQ_PC;
        break;
    case P_SACT:
        if (p->cmd & CMD_ST)
            p->sact |= value;
        break;
    case P_CI:
        if (p->cmd & CMD_ST) {
            p->ci |= value;
            run(p);
        }
        break;
    }
}

static uint64_t regs_read(void *opaque, uint64_t offset, unsigned size)
{
    struct ahci *h = opaque;
    uint32_t value = 0;
    if (offset >= PORTS_AT) {
        unsigned n = (offset - PORTS_AT) / PORT_SIZE;
        if (n >= NPORTS)
            return 0;
        g_mutex_lock(lock_of(&h->ports[n]));
        value = port_read(&h->ports[n], offset % PORT_SIZE);
        g_mutex_unlock(lock_of(&h->ports[n]));
        return value;
    }
    g_mutex_lock(&h->lock);
    switch (offset) {
    case CAP: value = CAP_VALUE; break;
    case GHC: value = h->ghc; break;
    case IS: value = h->is; break;
    case PI: value = (1u << NPORTS) - 1; break;
    case VS: value = VERSION; break;
    }
    g_mutex_unlock(&h->lock);
    return value;
}

/* A port whose bit is cleared while it has something to say sets it again (3.1.4). */
static void status_write(struct ahci *h, uint32_t value)
{
    g_mutex_lock(&h->lock);
    h->is &= ~value;
    update_interrupt_locked(h);
    g_mutex_unlock(&h->lock);
    for (unsigned i = 0; i < NPORTS; i++) {
        if (!(value >> i & 1))
            continue;
        g_mutex_lock(lock_of(&h->ports[i]));
        port_interrupt(&h->ports[i]);
        g_mutex_unlock(lock_of(&h->ports[i]));
    }
}

static void regs_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct ahci *h = opaque;
    if (offset >= PORTS_AT) {
        unsigned n = (offset - PORTS_AT) / PORT_SIZE;
        if (n >= NPORTS)
            return;
        g_mutex_lock(lock_of(&h->ports[n]));
        port_write(&h->ports[n], offset % PORT_SIZE, (uint32_t)value);
        g_mutex_unlock(lock_of(&h->ports[n]));
    } else if (offset == GHC && (value & GHC_RESET)) {
        hba_reset(h);
    } else if (offset == GHC) {
        g_mutex_lock(&h->lock);
        h->ghc = GHC_AHCI | (value & GHC_INTERRUPT);
        update_interrupt_locked(h);
        g_mutex_unlock(&h->lock);
    } else if (offset == IS) {
        status_write(h, (uint32_t)value);
    }
}

static const struct io_ops regs_ops = { regs_read, regs_write, 4, 4 };

/* ---- a saved machine: commands that wait for another try begin anew from their slots, which the guest leaves alone until they end ---- */

static void drain(struct device *d)
{
    struct ahci *h = (struct ahci *)d;
    for (unsigned i = 0; i < NPORTS; i++) {
        struct port *p = &h->ports[i];
        g_mutex_lock(lock_of(p));
        if (p->ide.drive)
            disk_drain(&p->ide.drive->disk);
        g_mutex_unlock(lock_of(p));
    }
}

static void save(struct device *d, struct state_writer *w)
{
    struct ahci *h = (struct ahci *)d;
    uint32_t again[NPORTS];
    for (unsigned i = 0; i < NPORTS; i++)
        again[i] = h->ports[i].running | h->ports[i].again;
    state_put(w, "again", again, sizeof(again[0]), NPORTS);
}

static bool load(struct device *d, struct state_reader *r, GError **error)
{
    struct ahci *h = (struct ahci *)d;
    uint32_t again[NPORTS];
    if (!state_get(r, "again", again, sizeof(again[0]), NPORTS, error))
        return false;
    for (unsigned i = 0; i < NPORTS; i++) {
        struct port *p = &h->ports[i];
        p->running = p->finished = 0;
        p->again = p->ide.drive && !p->halted ? again[i] : 0;
        p->current %= NSLOTS;
    }
    return true;
}

static void on_hook(void *opaque, enum machine_hook_event ev)
{
    struct ahci *h = opaque;
    for (unsigned i = 0; ev == HOOK_RUN && i < NPORTS; i++) {
        struct port *p = &h->ports[i];
        g_mutex_lock(lock_of(p));
        if (p->again) {
            p->tfd &= ~ATA_BSY;
            p->ci |= p->again;
            p->again = 0;
            run(p);
        }
        g_mutex_unlock(lock_of(p));
    }
}

/* ---- device ---- */

static struct ide_port *port_of(struct device *d, unsigned n)
{
    return &((struct ahci *)d)->ports[n].ide;
}

const struct ide_bus_class ahci_bus_class = { NPORTS, port_of };

static void unrealize(struct device *d)
{
    struct ahci *h = (struct ahci *)d;
    machine_remove_hook(d->machine, on_hook, h);
    pci_device_unplug(&h->pci);
    for (unsigned i = 0; i < NPORTS; i++)
        g_mutex_clear(&h->ports[i].own_lock);
    g_mutex_clear(&h->lock);
}

static bool realize(struct device *d, GError **error)
{
    static const struct pci_id id = { .vendor = 0x8086, .device = 0x2922, .subsys_vendor = 0x1af4, .subsys = 0x1100, .revision = 2, .class_code = 0x01,
                                      .subclass = 0x06, .prog_if = 0x01, .int_pin = 1 };
    struct ahci *h = (struct ahci *)d;
    g_mutex_init(&h->lock);
    for (unsigned i = 0; i < NPORTS; i++) {
        h->ports[i].ide.ops = &port_ops;
        h->ports[i].hba = h;
        g_mutex_init(&h->ports[i].own_lock);
    }
    pci_device_init(&h->pci, d, d->class->name, &id);
    pci_msi_init(&h->pci);
    pci_bar_init(&h->pci, BAR_REGS, PCI_BAR_MEM32, REGS_SIZE, &regs_ops, h, NULL);
    h->ghc = GHC_AHCI;
    machine_add_hook(d->machine, on_hook, h);
    if (pci_device_plug(&h->pci, d->machine, h->addr, error))
        return true;
    unrealize(d);
    return false;
}

static void reset(struct device *d)
{
    struct ahci *h = (struct ahci *)d;
    hba_reset(h);
    pci_device_reset(&h->pci);
}

#define T struct ahci
static const struct device_prop props[] = { { "addr", PROP_PCI_ADDR, offsetof(T, addr), .def = "-1", .help = "slot[.function]" }, { NULL } };
#define PORT_FIELDS(n)                                                                                                          \
    DEVICE_FIELD(T, ports[n].clb), DEVICE_FIELD(T, ports[n].fb), DEVICE_FIELD(T, ports[n].is), DEVICE_FIELD(T, ports[n].ie),      \
    DEVICE_FIELD(T, ports[n].cmd), DEVICE_FIELD(T, ports[n].tfd), DEVICE_FIELD(T, ports[n].sig), DEVICE_FIELD(T, ports[n].ssts),  \
    DEVICE_FIELD(T, ports[n].sctl), DEVICE_FIELD(T, ports[n].serr), DEVICE_FIELD(T, ports[n].sact), DEVICE_FIELD(T, ports[n].ci), \
    DEVICE_FIELD(T, ports[n].current), DEVICE_FIELD(T, ports[n].halted), DEVICE_FIELD(T, ports[n].in_reset)
static const struct device_field fields[] = {
    DEVICE_FIELD(T, ghc), DEVICE_FIELD(T, is), PORT_FIELDS(0), PORT_FIELDS(1), PORT_FIELDS(2), PORT_FIELDS(3),
    PORT_FIELDS(4), PORT_FIELDS(5), { NULL }
};

extern const struct device_class ahci_class;
const struct device_class ahci_class = {
    .name = "ich9-ahci", .help = "SATA controller with six ports", .bus = DEV_BUS_PCI, .size = sizeof(T), .props = props, .fields = fields,
    .user_creatable = true, .realize = realize, .reset = reset, .unrealize = unrealize, .drain = drain, .save = save, .load = load,
    .bus_class = &ahci_bus_class,
};
