/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The virtio network card as a driver uses it and as an attacker does, over a pair of datagram sockets. */
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/bus/virtio.h"
#include "vmm/core/fake_accel.h"
#include "vmm/core/machine.h"
#include "vmm/dev/virtio_devices.h"
#include "vmm/dev/virtio_net.h"
#include "vmm/net/net.h"

#define RAM_SIZE (4u << 20)
#define REGS 0xfeb00000ull
enum { SIZE = 64, RX = 0, TX = 1, CTRL = 2, DATA = 0x100000, CTRL_DATA = 0x300000 };
enum { DESC_NEXT = 1, DESC_WRITE = 2 };

struct fixture {
    struct machine *m;
    struct device *d;
    uint8_t *ram;
    int peer;
    uint16_t avail[3], used[3];
};

static void set_wire(void *opaque, unsigned input, bool level) { }

static void wr(struct fixture *f, unsigned reg, uint32_t value)
{
    guest_io_write(f->m->memory, false, REGS + reg, 4, value);
}

static uint32_t rd(struct fixture *f, unsigned reg)
{
    return (uint32_t)guest_io_read(f->m->memory, false, REGS + reg, 4);
}

static uint64_t ring(unsigned queue, unsigned part)
{
    return 0x10000 + queue * 0x4000ull + part * 0x1000ull;
}

/* Resets and starts the device as a driver with these features does (virtio 1.2, 3.1.1 and 4.2.3). */
static void start(struct fixture *f, uint32_t features)
{
    wr(f, 0x70, 0);
    wr(f, 0x70, 1);
    wr(f, 0x70, 3);
    wr(f, 0x24, 0);
    wr(f, 0x20, features);
    wr(f, 0x24, 1);
    wr(f, 0x20, 1);
    wr(f, 0x70, 11);
    g_assert_cmphex(rd(f, 0x70), ==, 11);
    for (unsigned q = 0; q < 3; q++) {
        memset(f->ram + ring(q, 0), 0, 0x3000);
        wr(f, 0x30, q);
        wr(f, 0x38, SIZE);
        for (unsigned i = 0; i < 3; i++) {
            wr(f, 0x80 + 0x10 * i, (uint32_t)ring(q, i));
            wr(f, 0x84 + 0x10 * i, 0);
        }
        wr(f, 0x44, 1);
        f->avail[q] = f->used[q] = 0;
    }
    wr(f, 0x70, 15);
}

static void put_desc(struct fixture *f, unsigned queue, unsigned index, uint64_t addr, uint32_t len, unsigned flags, unsigned next)
{
    uint8_t *d = f->ram + ring(queue, 0) + 16 * index;
    memcpy(d, &addr, 8);
    memcpy(d + 8, &len, 4);
    memcpy(d + 12, &(uint16_t){ (uint16_t)flags }, 2);
    memcpy(d + 14, &(uint16_t){ (uint16_t)next }, 2);
}

static void offer(struct fixture *f, unsigned queue, unsigned head)
{
    uint8_t *a = f->ram + ring(queue, 1);
    memcpy(a + 4 + 2 * (f->avail[queue] % SIZE), &(uint16_t){ (uint16_t)head }, 2);
    __atomic_store_n((uint16_t *)(a + 2), ++f->avail[queue], __ATOMIC_SEQ_CST);
}

static void offer_rx(struct fixture *f, unsigned from, unsigned n, uint32_t len)
{
    for (unsigned i = from; i < from + n; i++) {
        put_desc(f, RX, i, DATA + 0x1000 * i, len, DESC_WRITE, 0);
        offer(f, RX, i);
    }
    wr(f, 0x50, RX);
}

static uint16_t used_index(struct fixture *f, unsigned queue)
{
    return __atomic_load_n((uint16_t *)(f->ram + ring(queue, 2) + 2), __ATOMIC_SEQ_CST);
}

static bool wait_used(struct fixture *f, unsigned queue, unsigned n, unsigned ms)
{
    for (unsigned i = 0; (uint16_t)(used_index(f, queue) - f->used[queue]) < n; i++) {
        if (i == ms)
            return false;
        g_usleep(1000);
    }
    return true;
}

static void make_frame(uint8_t *frame, size_t n, const char *mac)
{
    for (size_t i = 0; i < n; i++)
        frame[i] = (uint8_t)(i * 7 + (i >> 8));
    memcpy(frame, mac, 6);
}

static bool control(struct fixture *f, const void *command, size_t n)
{
    memcpy(f->ram + CTRL_DATA, command, n);
    f->ram[CTRL_DATA + 0x1000] = 77;
    put_desc(f, CTRL, 0, CTRL_DATA, (uint32_t)n, DESC_NEXT, 1);
    put_desc(f, CTRL, 1, CTRL_DATA + 0x1000, 1, DESC_WRITE, 0);
    f->used[CTRL] = used_index(f, CTRL);
    offer(f, CTRL, 0);
    wr(f, 0x50, CTRL);
    g_assert_true(wait_used(f, CTRL, 1, 2000));
    g_assert_cmpuint(f->ram[CTRL_DATA + 0x1000], <=, 1);
    return !f->ram[CTRL_DATA + 0x1000];
}

static void set_up(struct fixture *f, gconstpointer data)
{
    int pair[2];
    struct irq_line line = { set_wire, f, 0 };
    g_autofree char *fd = NULL;
    g_autoptr(GError) error = NULL;
    f->m = machine_create(g_new0(struct machine_config, 1));
    f->ram = guest_memory_alloc(f->m->memory, "ram", RAM_SIZE, &error);
    g_assert_true(guest_memory_add_ram(f->m->memory, 0, RAM_SIZE, f->ram, false, &error));
    virtio_mmio_define_slots(f->m, REGS, 0x200, 1, &line);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair), ==, 0);
    f->peer = pair[0];
    g_autoptr(GHashTable) opts = g_hash_table_new(g_str_hash, g_str_equal);
    fd = g_strdup_printf("%d", pair[1]);
    g_hash_table_insert(opts, "local.type", "fd");
    g_hash_table_insert(opts, "local.str", fd);
    struct net_backend *b = net_backend_create("dgram", "n", opts, NULL, &error);
    g_assert_no_error(error);
    g_hash_table_insert(f->m->netdevs, (void *)net_backend_id(b), b);
    f->d = device_create(f->m, &virtio_net_mmio_class);
    g_assert_true(device_set_prop(f->d, "netdev", "n", &error) && device_set_prop(f->d, "event_idx", "off", &error));
    g_assert_true(device_set_prop(f->d, "mac", "52:54:00:00:00:01", &error));
    g_assert_true(device_realize(f->d, &error));
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    struct net_backend *b = g_hash_table_lookup(f->m->netdevs, "n");
    device_destroy(f->d);
    virtio_mmio_destroy_slots(f->m);
    g_hash_table_remove_all(f->m->netdevs);
    net_backend_destroy(b);
    machine_destroy(f->m);
    close(f->peer);
}

static const char own[] = "\x52\x54\x00\x00\x00\x01", other[] = "\x52\x54\x00\x00\x00\x02";

/* A frame that is larger than all buffers waits for more of them, and arrives whole. */
static void test_large_frame(struct fixture *f, gconstpointer data)
{
    static uint8_t frame[20000];
    make_frame(frame, sizeof(frame), own);
    start(f, (uint32_t)NET_F_MRG_RXBUF);
    offer_rx(f, 0, 12, 1024);
    g_assert_cmpint(send(f->peer, frame, sizeof(frame), 0), ==, sizeof(frame));
    g_assert_false(wait_used(f, RX, 1, 50));
    offer_rx(f, 12, 4, 1024);
    g_assert_false(wait_used(f, RX, 1, 50));
    offer_rx(f, 16, 10, 1024);
    g_assert_true(wait_used(f, RX, 20, 2000));
    g_assert_cmpuint(used_index(f, RX), ==, 20);
    g_assert_cmpuint(f->ram[DATA + 10], ==, 20);
    size_t at = 0;
    for (unsigned i = 0; i < 20; i++) {
        size_t skip = i ? 0 : NET_HEADER, n = MIN(1024 - skip, sizeof(frame) - at);
        g_assert_cmpmem(f->ram + DATA + 0x1000 * i + skip, n, frame + at, n);
        at += n;
    }
    /* What was left over serves the next. */
    g_assert_cmpint(send(f->peer, frame, 100, 0), ==, 100);
    g_assert_true(wait_used(f, RX, 21, 2000));
    g_assert_cmpmem(f->ram + DATA + 0x1000 * 20 + NET_HEADER, 100, frame, 100);
}

/* Without mergeable buffers it can never arrive; later ones do. */
static void test_no_merge(struct fixture *f, gconstpointer data)
{
    static uint8_t frame[20000];
    make_frame(frame, sizeof(frame), own);
    start(f, 0);
    offer_rx(f, 0, 8, 1536);
    g_assert_cmpint(send(f->peer, frame, sizeof(frame), 0), ==, sizeof(frame));
    g_assert_cmpint(send(f->peer, frame, 60, 0), ==, 60);
    g_assert_true(wait_used(f, RX, 1, 2000));
    g_usleep(20000);
    g_assert_cmpuint(used_index(f, RX), ==, 1);
    g_assert_cmpmem(f->ram + DATA + NET_HEADER, 60, frame, 60);
}

static void test_filters(struct fixture *f, gconstpointer data)
{
    uint8_t frame[64];
    uint8_t vlan[64];
    static const uint8_t not_promisc[] = { 0, 0, 0 }, vlan5[] = { 2, 0, 5, 0 }, table[] = { 1, 0, 1, 0, 0, 0, 0x52, 0x54, 0, 0, 0, 2, 0, 0, 0, 0 };
    start(f, (uint32_t)(NET_F_CTRL_VQ | NET_F_CTRL_RX | NET_F_CTRL_VLAN | NET_F_MRG_RXBUF));
    g_assert_true(control(f, not_promisc, sizeof(not_promisc)));
    g_assert_true(control(f, vlan5, sizeof(vlan5)));
    offer_rx(f, 0, 16, 1536);
    make_frame(frame, sizeof(frame), other);
    g_assert_cmpint(send(f->peer, frame, sizeof(frame), 0), ==, sizeof(frame));
    make_frame(vlan, sizeof(vlan), own);
    memcpy(vlan + 12, "\x81\x00\x00\x06", 4);
    g_assert_cmpint(send(f->peer, vlan, sizeof(vlan), 0), ==, sizeof(vlan));
    g_assert_false(wait_used(f, RX, 1, 50));
    vlan[15] = 5;
    g_assert_cmpint(send(f->peer, vlan, sizeof(vlan), 0), ==, sizeof(vlan));
    g_assert_true(wait_used(f, RX, 1, 2000));
    g_assert_true(control(f, table, sizeof(table)));
    g_assert_cmpint(send(f->peer, frame, sizeof(frame), 0), ==, sizeof(frame));
    g_assert_true(wait_used(f, RX, 2, 2000));
}

/* Whatever the control queue is given is answered. */
static void test_control_nonsense(struct fixture *f, gconstpointer data)
{
    start(f, (uint32_t)(NET_F_CTRL_VQ | NET_F_CTRL_RX | NET_F_CTRL_VLAN));
    static const uint8_t huge_table[] = { 1, 0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5, 6 }, far_vlan[] = { 2, 0, 0xff, 0xff };
    g_assert_false(control(f, huge_table, sizeof(huge_table)));
    g_assert_false(control(f, far_vlan, sizeof(far_vlan)));
    for (unsigned i = 0; i < 2000; i++) {
        uint8_t bytes[40];
        for (unsigned k = 0; k < sizeof(bytes); k++)
            bytes[k] = (uint8_t)g_test_rand_int();
        bytes[0] %= 7;
        (void)control(f, bytes, (size_t)g_test_rand_int_range(1, sizeof(bytes)));
    }
}

static void test_transmit(struct fixture *f, gconstpointer data)
{
    uint8_t got[2000];
    start(f, 0);
    make_frame(f->ram + DATA + NET_HEADER, 1000, other);
    put_desc(f, TX, 0, DATA, 5, DESC_NEXT, 1); /* the header in two pieces */
    put_desc(f, TX, 1, DATA + 5, 107, DESC_NEXT, 2);
    put_desc(f, TX, 2, DATA + 112, 900, 0, 0);
    offer(f, TX, 0);
    wr(f, 0x50, TX);
    g_assert_true(wait_used(f, TX, 1, 2000));
    g_assert_cmpint(recv(f->peer, got, sizeof(got), 0), ==, 1000);
    g_assert_cmpmem(got, 1000, f->ram + DATA + NET_HEADER, 1000);
}

static void test_hostile_rings(struct fixture *f, gconstpointer data)
{
    uint8_t frame[64];
    make_frame(frame, sizeof(frame), own);
    start(f, 0); /* no room for the header */
    offer_rx(f, 0, 1, 8);
    g_assert_cmpint(send(f->peer, frame, sizeof(frame), 0), ==, sizeof(frame));
    for (unsigned i = 0; i < 2000 && !(rd(f, 0x70) & VIRTIO_STATUS_NEEDS_RESET); i++)
        g_usleep(1000);
    g_assert_true(rd(f, 0x70) & VIRTIO_STATUS_NEEDS_RESET);
    start(f, 0); /* a frame of nearly 4 MiB */
    put_desc(f, TX, 0, 0, RAM_SIZE, 0, 0);
    offer(f, TX, 0);
    wr(f, 0x50, TX);
    g_assert_true(rd(f, 0x70) & VIRTIO_STATUS_NEEDS_RESET);
    start(f, 0); /* and it works again */
    offer_rx(f, 0, 1, 1536);
    g_assert_cmpint(send(f->peer, frame, sizeof(frame), 0), ==, sizeof(frame));
    g_assert_true(wait_used(f, RX, 1, 2000));
}

static void *flood(void *opaque)
{
    struct fixture *f = opaque;
    uint8_t frame[1000];
    make_frame(frame, sizeof(frame), own);
    for (unsigned i = 0; i < 3000; i++) {
        if (send(f->peer, frame, sizeof(frame), 0) < 0)
            g_usleep(50);
    }
    return NULL;
}

/* The driver resets the card again and again while frames come. */
static void test_reset_under_load(struct fixture *f, gconstpointer data)
{
    g_autoptr(GThread) t = g_thread_new("flood", flood, f);
    for (unsigned i = 0; i < 300; i++) {
        start(f, i & 1 ? (uint32_t)NET_F_MRG_RXBUF : 0);
        offer_rx(f, 0, 32, i & 2 ? 200 : 1536);
        g_usleep(100);
    }
    g_thread_join(g_steal_pointer(&t));
    while (recv(f->peer, &(char){ 0 }, 1, 0) >= 0)
        ;
    start(f, 0);
    uint8_t frame[60];
    make_frame(frame, sizeof(frame), own);
    offer_rx(f, 0, 32, 1536);
    g_assert_cmpint(send(f->peer, frame, sizeof(frame), 0), ==, sizeof(frame));
    g_assert_true(wait_used(f, RX, 1, 2000));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, fn) g_test_add("/virtio-net/" name, struct fixture, NULL, set_up, fn, tear_down)
    ADD("large-frame", test_large_frame);
    ADD("no-merge", test_no_merge);
    ADD("filters", test_filters);
    ADD("control-nonsense", test_control_nonsense);
    ADD("transmit", test_transmit);
    ADD("hostile-rings", test_hostile_rings);
    ADD("reset-under-load", test_reset_under_load);
    return g_test_run();
}
