/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the fuzzers share: an input that is eaten from the front, and a machine of RAM, a PCI bus and one device of each input's
 * choice. The machine is made for every input and destroyed after it, so that what is lost is noticed. Included once by a fuzzer.
 *
 * An input that has ended reads as zeros: it never fails, and every operation has a meaning.
 */
#pragma once

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "block/block.h"
#include "vmm/bus/pci.h"
#include "vmm/bus/virtio.h"
#include "vmm/core/fake_accel.h"
#include "vmm/core/machine.h"
#include "vmm/net/net_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    const uint8_t *at;
    size_t left;
};

static void take(struct input *in, void *ret, size_t n)
{
    size_t there = MIN(n, in->left);
    memset(ret, 0, n);
    memcpy(ret, in->at, there);
    in->at += there;
    in->left -= there;
}

static uint8_t take8(struct input *in)
{
    uint8_t v;
    take(in, &v, 1);
    return v;
}

static uint16_t take16(struct input *in)
{
    uint16_t v;
    take(in, &v, 2);
    return v;
}

static uint32_t take32(struct input *in)
{
    uint32_t v;
    take(in, &v, 4);
    return v;
}

/* ---- the network: what is sent is read and forgotten, frames come when the input says so ---- */

struct fake_net {
    struct net_backend b;
    bool block, blocked; /* nothing is taken now; the front end waits for that to end */
    bool woken;          /* the front end has buffers again: looked at by fixture_settle, for it says so with its lock held */
    unsigned sum;        /* of what was sent, so that every byte is looked at */
};

static enum net_sent fake_sendv(struct net_backend *b, unsigned queue, const struct iovec *iov, unsigned n)
{
    struct fake_net *f = (struct fake_net *)b;
    if (f->block) {
        f->blocked = true;
        return NET_BLOCKED;
    }
    for (unsigned i = 0; i < n; i++) {
        for (size_t k = 0; k < iov[i].iov_len; k++)
            f->sum += ((uint8_t *)iov[i].iov_base)[k];
    }
    return NET_SENT;
}

static void fake_wake(struct net_backend *b, unsigned queue) { ((struct fake_net *)b)->woken = true; }
static void fake_net_destroy(struct net_backend *b) { g_free(b); }
static const struct net_backend_ops fake_net_ops = { .type = "fake", .destroy = fake_net_destroy, .sendv = fake_sendv, .wake = fake_wake };

/* ---- the machine ---- */

#define RAM_SIZE (1u << 20)
#define ECAM 0xe0000000ull
#define DEVICES_MAX 3

struct fixture {
    struct machine *m;
    uint8_t *ram;
    struct fake_net *net;
    struct device *d[DEVICES_MAX]; /* the first is the one that is played with */
    unsigned n;
    struct block_graph *graph; /* of fixture_disk */
    struct block_device *disk; /* of fixture_play */
    uint64_t bar[6];
    bool port[6];
};

static void set_wire(void *opaque, unsigned input, bool level) { }
static void message(void *opaque, uint64_t address, uint32_t data) { }
static uint64_t conf(unsigned reg) { return ECAM + PCI_DEVFN(1, 0) * 4096ull + reg; }

static uint64_t rd(struct fixture *f, unsigned bar, uint64_t reg, unsigned size)
{
    return guest_io_read(f->m->memory, f->port[bar], f->bar[bar] + reg, size);
}

static void wr(struct fixture *f, unsigned bar, uint64_t reg, unsigned size, uint64_t value)
{
    guest_io_write(f->m->memory, f->port[bar], f->bar[bar] + reg, size, value);
}

static void fixture_init(struct fixture *f)
{
    g_autoptr(GError) error = NULL;
    struct irq_line lines[8];
    for (unsigned i = 0; i < 8; i++)
        lines[i] = (struct irq_line){ set_wire, f, i };
    *f = (struct fixture){ 0 };
    struct machine_config *c = g_new0(struct machine_config, 1);
    c->ram_size = RAM_SIZE;
    f->m = machine_create(c);
    f->m->msi = (struct msi_sink){ message, f };
    /* as much that cannot be touched on both sides: what is missed by a check of addresses falls */
    uint8_t *room = mmap(NULL, 3 * RAM_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    g_assert_true(room != MAP_FAILED && !mprotect(room + RAM_SIZE, RAM_SIZE, PROT_READ | PROT_WRITE));
    f->ram = room + RAM_SIZE;
    g_assert_true(guest_memory_add_ram(f->m->memory, 0, RAM_SIZE, f->ram, false, &error));
    pci_bus_map_ports(pci_bus_create(f->m, lines));
    pci_bus_map_ecam(f->m->pci, ECAM);
    f->net = g_new0(struct fake_net, 1);
    f->net->b = (struct net_backend){ .ops = &fake_net_ops, .id = g_strdup("n"), .queues = 1 };
    g_hash_table_insert(f->m->netdevs, f->net->b.id, &f->net->b);
}

/* props: name and value in turn, ends with NULL. */
static void fixture_add(struct fixture *f, const struct device_class *class, const char *const *props)
{
    GError *error = NULL;
    struct device *d = device_create(f->m, class);
    for (; props && *props; props += 2) {
        if (!device_set_prop(d, props[0], props[1], &error))
            g_error("%s: %s", class->name, error->message);
    }
    if (!device_realize(d, &error))
        g_error("%s: %s", class->name, error->message);
    f->d[f->n++] = d;
}

/* A raw disk of 64 KiB, the drive "d". */
static struct block_device *fixture_disk(struct fixture *f)
{
    GError *error = NULL;
    int fd = memfd_create("disk", MFD_CLOEXEC);
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
    const struct block_device_options o = { .id = "d", .werror = BLOCK_ON_ERROR_ENOSPC };
    g_assert_true(fd >= 0 && !ftruncate(fd, 64 << 10));
    f->graph = block_graph_create();
    block_node_auto *node = block_open_filename(f->graph, path, "raw", NULL, BLOCK_RDWR | BLOCK_UNMAP, &error);
    g_assert_no_error(error);
    close(fd);
    struct block_device *b = block_device_create(f->graph, node, &o);
    g_hash_table_insert(f->m->drives, (void *)"d", b);
    return b;
}

/* b may be NULL. */
static void fixture_end_disk(struct fixture *f, struct block_device *b)
{
    block_device_destroy(b);
    if (f->graph)
        block_graph_destroy(f->graph);
}

/* All devices are there: their registers get their places, the clock runs. */
static void fixture_start(struct fixture *f)
{
    static const struct pci_windows w = { .mem32_base = 0xc0000000, .mem32_size = 1 << 24, .io_base = 0xc000, .io_size = 0x1000, .gsi_base = 16 };
    g_autoptr(GError) error = NULL;
    for (unsigned i = 0; i < f->n; i++) {
        if (f->d[i]->class->reset)
            f->d[i]->class->reset(f->d[i]);
    }
    g_assert_true(pci_bus_assign(f->m->pci, &w, &error));
    for (unsigned i = 0; i < 6; i++) {
        uint32_t v = (uint32_t)guest_io_read(f->m->memory, false, conf(PCI_REG_BAR0 + 4 * i), 4);
        f->port[i] = v & 1;
        f->bar[i] = v & 1 ? v & ~3u : v & ~15u;
    }
    vclock_resume(f->m->clock);
}

/* What other threads and the devices have put off for the main loop. */
static void fixture_settle(struct fixture *f)
{
    for (unsigned i = 0; i < 64 && g_main_context_iteration(NULL, FALSE); i++)
        ;
    if (f->net->woken) {
        f->net->woken = false;
        net_flush(&f->net->b);
    }
}

static void fixture_finish(struct fixture *f)
{
    fixture_settle(f);
    while (f->n)
        device_destroy(f->d[--f->n]);
    g_hash_table_remove_all(f->m->netdevs);
    net_backend_destroy(&f->net->b);
    pci_bus_destroy(f->m->pci);
    f->m->pci = NULL;
}

/* After the back ends are closed. */
static void fixture_destroy(struct fixture *f)
{
    machine_destroy(f->m);
    munmap(f->ram - RAM_SIZE, 3 * RAM_SIZE);
}

/* ---- operations that every PCI device has ---- */

static void op_registers(struct fixture *f, struct input *in, bool write)
{
    unsigned how = take8(in), bar = how % 6, size = 1u << (how >> 6);
    uint64_t reg = take16(in);
    if (f->port[bar])
        size = MIN(size, 4);
    if (how & 0x20)
        reg |= 0x10000;
    if (!f->bar[bar])
        return;
    if (!write) {
        (void)rd(f, bar, reg, size);
        return;
    }
    uint64_t value = take32(in);
    wr(f, bar, reg, size, size == 8 ? value << 32 | value : value);
}

static void op_config(struct fixture *f, struct input *in)
{
    unsigned how = take8(in), size = 1u << (how & 3) % 3, reg = (take8(in) | (how & 0x30) << 4) & ~(size - 1);
    if (how & 0x80)
        guest_io_write(f->m->memory, false, conf(reg), size, take32(in));
    else
        (void)guest_io_read(f->m->memory, false, conf(reg), size);
}

static void op_ram(struct fixture *f, struct input *in)
{
    unsigned at = take16(in), n = take8(in) & 63;
    take(in, f->ram + at * 4, n);
}

/* A frame: a few bytes of the input, then a pattern. The first byte says to whom it goes. */
static void op_frame(struct fixture *f, struct input *in)
{
    static const uint8_t own[6] = { 0x52, 0x54, 0, 0, 0, 1 };
    static const uint8_t tcp[] = { 8, 0, 0x45, 0, 0, 60, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2 };
    static uint8_t frame[NET_FRAME_MAX + NET_HEADER];
    unsigned how = take8(in), given = take8(in) & 63;
    size_t n = how & 0x80 ? (size_t)take16(in) % NET_FRAME_MAX : 14 + take8(in) * 6;
    for (size_t i = 0; i < n; i++)
        frame[i] = (uint8_t)(i * 7 + (i >> 8));
    if (n > 14 + sizeof(tcp) && (how & 4))
        memcpy(frame + 12, tcp, sizeof(tcp));
    take(in, frame + (how & 8 ? 12 : 0), MIN(given, n > 12 ? n - 12 : 0));
    if (n >= 6 && (how & 3) == 1)
        memcpy(frame, own, 6);
    else if (n >= 6 && (how & 3) == 2)
        memset(frame, 0xff, 6);
    net_deliver(&f->net->b, frame, n);
}

static void op_net(struct fixture *f, struct input *in)
{
    switch (take8(in) & 3) {
    case 0: f->net->block = true; break;
    case 1:
        f->net->block = false;
        if (f->net->blocked && f->net->b.frontend && f->net->b.frontend->tx_ready) {
            f->net->blocked = false;
            f->net->b.frontend->tx_ready(f->net->b.frontend_opaque, 0);
        }
        break;
    case 2: net_set_link(&f->net->b, false); break;
    case 3: net_set_link(&f->net->b, true); break;
    }
}

/* Operations 0 to 3 of fuzzers that have no numbers of their own for them. False: it is another. */
static bool op_common(struct fixture *f, struct input *in, unsigned op)
{
    switch (op) {
    case 0: op_registers(f, in, true); return true;
    case 1: op_registers(f, in, false); return true;
    case 2: op_config(f, in); return true;
    case 3: op_ram(f, in); return true;
    default: return false;
    }
}

static void op_settle(struct fixture *f, bool reset)
{
    if (reset)
        f->d[0]->class->reset(f->d[0]);
    fixture_settle(f);
}

/* ---- one input, from the first byte to the last ---- */

struct game {
    bool disk;                                                         /* fixture_disk, f->disk */
    void (*add)(struct fixture *f, struct input *in);                  /* the devices */
    void (*begin)(struct fixture *f);                                  /* as a driver would; NULL: not */
    void (*op)(struct fixture *f, struct input *in, unsigned op);      /* op: any byte */
};

/* f: zeros, the first member of what the game keeps. What LLVMFuzzerTestOneInput returns. */
static int fixture_play(struct fixture *f, const struct game *g, const uint8_t *data, size_t size)
{
    struct input in = { data, MIN(size, 4096) };
    fixture_init(f);
    if (g->disk)
        f->disk = fixture_disk(f);
    g->add(f, &in);
    fixture_start(f);
    if (g->begin)
        g->begin(f);
    while (in.left)
        g->op(f, &in, take8(&in));
    fixture_finish(f);
    g_hash_table_remove_all(f->m->drives);
    fixture_end_disk(f, f->disk);
    fixture_destroy(f);
    return 0;
}
