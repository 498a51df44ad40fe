/* SPDX-License-Identifier: GPL-2.0-or-later */
/* PCI configuration, BARs and interrupts; virtqueues as a driver uses them, and as an attacker does. */
#include <string.h>
#include <unistd.h>

#include "vmm/bus/pci.h"
#include "vmm/bus/virtio.h"
#include "vmm/bus/virtio_event.h"
#include "vmm/core/fake_accel.h"
#include "vmm/core/machine.h"

#define RAM_SIZE (1u << 20)
#define ECAM 0xe0000000ull
#define MMIO 0xc0000000ull
enum { SIZE = 16, DESC = 0x1000, AVAIL = 0x2000, USED = 0x3000, INDIRECT = 0x4000, DATA = 0x10000 };
enum { COMMON = 0, ISR = 0x1000, CONFIG = 0x2000, NOTIFY = 0x3000 };

/* ---- a device that copies what it reads to where it may write ---- */

struct echo {
    struct virtio_device v;
    unsigned seen;
};

static uint64_t echo_features(struct virtio_device *v)
{
    return 1;
}

static void echo_config(struct virtio_device *v, uint8_t *ret)
{
    memcpy(ret, "config!!", 8);
}

static void echo_notify(struct virtio_device *v, unsigned queue)
{
    struct virtio_chain *c;
    for (unsigned i = 0; i < 64 && (c = virtqueue_pop(&v->queues[queue])); i++) {
        uint8_t bytes[256];
        size_t n = virtio_chain_read(c, 0, bytes, sizeof(bytes));
        ((struct echo *)v)->seen++;
        virtqueue_push(c, virtio_chain_write(c, 0, bytes, n));
    }
    virtqueue_interrupt(&v->queues[queue]);
}

static bool echo_realize(struct device *d, GError **error)
{
    static const uint16_t sizes[] = { SIZE, 256 };
    return virtio_realize((struct virtio_device *)d, 2, sizes, error);
}

static void echo_unrealize(struct device *d)
{
    virtio_unrealize((struct virtio_device *)d);
}

static const struct virtio_class echo = { .name = "echo", .id = 4, .pci_class = 0xff, .config_size = 8, .features = echo_features,
                                          .config_read = echo_config, .queue_notify = echo_notify };
static const struct device_prop pci_props[] = { VIRTIO_PCI_PROPS(struct echo, "3"), { NULL } };
static const struct device_prop mmio_props[] = { VIRTIO_COMMON_PROPS(struct echo), { NULL } };
static const struct device_class echo_pci = { .name = "echo-pci", .bus = DEV_BUS_PCI, .size = sizeof(struct echo), .props = pci_props,
                                              .realize = echo_realize, .reset = virtio_device_reset, .unrealize = echo_unrealize, .bus_class = &echo };
static const struct device_class echo_mmio = { .name = "echo-device", .bus = DEV_BUS_VIRTIO, .size = sizeof(struct echo), .props = mmio_props,
                                               .realize = echo_realize, .reset = virtio_device_reset, .unrealize = echo_unrealize, .bus_class = &echo };

const struct device_class *device_class_find(const char *name) { return NULL; }
bool device_class_missing(const char *name) { return false; }
const struct device_class *const *device_class_list(void)
{
    static const struct device_class *const none[] = { NULL };
    return none;
}

/* ---- a machine of RAM, bus and wires ---- */

struct fixture {
    struct machine m;
    uint8_t *ram;
    bool wires[24];
    unsigned messages;
    uint64_t msi_address;
    uint32_t msi_data;
    struct device *pci, *mmio;
    uint64_t regs, msix;
};

static void set_wire(void *opaque, unsigned input, bool level)
{
    ((struct fixture *)opaque)->wires[input] = level;
}

static void message(void *opaque, uint64_t address, uint32_t data)
{
    struct fixture *f = opaque;
    f->messages++;
    f->msi_address = address;
    f->msi_data = data;
}

static uint64_t rd(struct fixture *f, uint64_t gpa, unsigned size)
{
    return guest_io_read(f->m.memory, false, gpa, size);
}

static void wr(struct fixture *f, uint64_t gpa, unsigned size, uint64_t value)
{
    guest_io_write(f->m.memory, false, gpa, size, value);
}

static uint64_t conf(struct fixture *f, unsigned reg)
{
    return ECAM + PCI_DEVFN(1, 0) * 4096ull + reg;
}

static void assign(struct fixture *f)
{
    static const struct pci_windows w = { .mem32_base = MMIO, .mem32_size = 1 << 20, .io_base = 0xc000, .io_size = 0x1000, .gsi_base = 16 };
    g_autoptr(GError) error = NULL;
    g_assert_true(pci_bus_assign(f->m.pci, &w, &error));
    f->regs = rd(f, conf(f, PCI_REG_BAR0 + 16), 4) & ~15ull;
    f->msix = rd(f, conf(f, PCI_REG_BAR0 + 4), 4) & ~15ull;
}

static void set_up(struct fixture *f, gconstpointer packed)
{
    g_autoptr(GError) error = NULL;
    struct irq_line lines[24];
    for (unsigned i = 0; i < 24; i++)
        lines[i] = (struct irq_line){ set_wire, f, i };
    f->m.memory = guest_memory_create();
    f->m.devices = g_ptr_array_new();
    f->m.msi = (struct msi_sink){ message, f };
    f->ram = guest_memory_alloc(f->m.memory, "ram", RAM_SIZE, &error);
    g_assert_true(guest_memory_add_ram(f->m.memory, 0, RAM_SIZE, f->ram, false, &error));
    struct pci_bus *bus = pci_bus_create(&f->m, lines + 16);
    pci_bus_map_ports(bus);
    pci_bus_map_ecam(bus, ECAM);
    virtio_mmio_define_slots(&f->m, 0xfeb00000, 0x200, 2, lines + 5);
    f->pci = device_create(&f->m, &echo_pci);
    g_assert_true(device_set_prop(f->pci, "packed", packed ? "on" : "off", &error));
    g_assert_true(device_realize(f->pci, &error));
    f->mmio = device_create(&f->m, &echo_mmio);
    g_assert_true(device_realize(f->mmio, &error));
    assign(f);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    device_destroy(f->pci);
    if (f->mmio)
        device_destroy(f->mmio);
    pci_bus_destroy(f->m.pci);
    virtio_mmio_destroy_slots(&f->m);
    guest_memory_destroy(f->m.memory);
    g_ptr_array_free(f->m.devices, TRUE);
    if (f->m.hooks)
        g_array_free(f->m.hooks, TRUE);
}

/* ---- PCI ---- */

static void test_config(struct fixture *f, gconstpointer data)
{
    g_assert_cmphex(rd(f, conf(f, 0), 4), ==, 0x10441af4);
    g_assert_cmphex(rd(f, ECAM + PCI_DEVFN(2, 0) * 4096, 4), ==, 0xffffffff);
    guest_io_write(f->m.memory, true, 0xcf8, 4, 0x80000000 | PCI_DEVFN(1, 0) << 8);
    g_assert_cmphex(guest_io_read(f->m.memory, true, 0xcfe, 2), ==, 0x1044);
    guest_io_write(f->m.memory, true, 0xcf8, 4, 0x80010000);
    g_assert_cmphex(guest_io_read(f->m.memory, true, 0xcfc, 4), ==, 0xffffffff);
    wr(f, conf(f, 0), 4, 0);
    g_assert_cmphex(rd(f, conf(f, 0), 4), ==, 0x10441af4);
    /* The capability list ends, and has MSI-X with 3 vectors. */
    unsigned at = rd(f, conf(f, PCI_REG_CAP_PTR), 1), n = 0, msix = 0;
    for (; at && n < 32; n++, at = rd(f, conf(f, at + 1), 1))
        msix = rd(f, conf(f, at), 1) == PCI_CAP_MSIX ? at : msix;
    g_assert_cmpuint(n, ==, 7);
    g_assert_cmpuint(rd(f, conf(f, msix + 2), 2), ==, 2);
    g_assert_cmpuint(rd(f, conf(f, PCI_REG_INT_LINE), 1), ==, 16 + pci_intx_line(1, 1));
}

static void test_bar(struct fixture *f, gconstpointer data)
{
    unsigned bar = PCI_REG_BAR0 + 16;
    g_assert_cmpuint(rd(f, f->regs + 0x12, 2), ==, 2); /* num_queues */
    wr(f, conf(f, PCI_REG_COMMAND), 2, 0);
    g_assert_cmphex(rd(f, f->regs + 0x12, 2), ==, 0xffff);
    wr(f, conf(f, bar), 4, 0xffffffff);
    wr(f, conf(f, bar + 4), 4, 0xffffffff);
    g_assert_cmphex(rd(f, conf(f, bar), 4), ==, 0xffffc00c);
    g_assert_cmphex(rd(f, conf(f, bar + 4), 4), ==, 0xffffffff);
    wr(f, conf(f, PCI_REG_COMMAND), 2, PCI_CMD_MEMORY); /* decoding at the top of the space: nowhere */
    wr(f, conf(f, bar), 4, 0x10000000);
    wr(f, conf(f, bar + 4), 4, 0x20);
    g_assert_cmpuint(rd(f, 0x2010000012, 2), ==, 2);
    device_destroy(g_steal_pointer(&f->pci)); /* its windows go with it */
    g_assert_cmphex(rd(f, 0x2010000012, 2), ==, 0xffff);
    g_assert_cmphex(rd(f, conf(f, 0), 4), ==, 0xffffffff);
}

/* ---- a driver ---- */

static void desc(struct fixture *f, uint64_t table, unsigned i, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
    uint8_t *d = f->ram + table + 16 * i;
    memcpy(d, &addr, 8);
    memcpy(d + 8, &len, 4);
    memcpy(d + 12, &flags, 2);
    memcpy(d + 14, &next, 2);
}

static uint16_t *ring16(struct fixture *f, uint64_t at)
{
    return (uint16_t *)(f->ram + at);
}

static void offer(struct fixture *f, uint16_t head)
{
    uint16_t *idx = ring16(f, AVAIL + 2);
    *ring16(f, AVAIL + 4 + 2 * (*idx % SIZE)) = head;
    ++*idx;
}

static void start(struct fixture *f)
{
    memset(f->ram, 0, RAM_SIZE);
    wr(f, f->regs + 0x14, 1, 0);
    wr(f, f->regs + 0x14, 1, 3);
    for (unsigned i = 0; i < 2; i++) {
        wr(f, f->regs + 0x00, 4, i);
        uint32_t features = rd(f, f->regs + 0x04, 4);
        wr(f, f->regs + 0x08, 4, i);
        wr(f, f->regs + 0x0c, 4, features & ~(i ? 0u : 1u << 29)); /* without the event index */
    }
    wr(f, f->regs + 0x14, 1, 11);
    g_assert_cmphex(rd(f, f->regs + 0x14, 1), ==, 11);
    wr(f, f->regs + 0x16, 2, 0);
    g_assert_cmpuint(rd(f, f->regs + 0x18, 2), ==, SIZE);
    wr(f, f->regs + 0x20, 8, DESC);
    wr(f, f->regs + 0x28, 8, AVAIL);
    wr(f, f->regs + 0x30, 8, USED);
    wr(f, f->regs + 0x1c, 2, 1);
    wr(f, f->regs + 0x14, 1, 15);
}

static void kick(struct fixture *f)
{
    wr(f, f->regs + NOTIFY, 2, 0);
}

static void echo_once(struct fixture *f)
{
    uint16_t before = *ring16(f, USED + 2);
    memcpy(f->ram + DATA, "hello", 5);
    memset(f->ram + DATA + 0x100, 0, 16);
    desc(f, DESC, 3, DATA, 5, 1, 7);
    desc(f, DESC, 7, DATA + 0x100, 16, 2, 0);
    offer(f, 3);
    kick(f);
    g_assert_cmpuint(*ring16(f, USED + 2), ==, (uint16_t)(before + 1));
    g_assert_cmpmem(f->ram + DATA + 0x100, 5, "hello", 5);
    g_assert_cmpuint(*(uint32_t *)(f->ram + USED + 4 + 8 * (before % SIZE)), ==, 3);
    g_assert_cmpuint(*(uint32_t *)(f->ram + USED + 8 + 8 * (before % SIZE)), ==, 5);
}

static void test_queue(struct fixture *f, gconstpointer data)
{
    start(f);
    g_assert_cmphex(rd(f, f->regs + CONFIG + 4, 4), ==, 0x21216769);
    g_assert_cmphex(rd(f, f->regs + CONFIG + 8, 4), ==, 0xffffffff);
    for (unsigned i = 0; i < 70000; i++) /* past the indices' wrap */
        echo_once(f);
    g_assert_true(f->wires[16 + pci_intx_line(1, 1)]);
    wr(f, conf(f, PCI_REG_COMMAND), 2, PCI_CMD_MEMORY | PCI_CMD_INTX_OFF);
    g_assert_false(f->wires[16 + pci_intx_line(1, 1)]);
    wr(f, conf(f, PCI_REG_COMMAND), 2, PCI_CMD_MEMORY | PCI_CMD_MASTER);
    g_assert_true(f->wires[16 + pci_intx_line(1, 1)]);
    g_assert_cmpuint(rd(f, f->regs + ISR, 1), ==, 1);
    g_assert_false(f->wires[16 + pci_intx_line(1, 1)]);
    *ring16(f, AVAIL) = 1; /* no interrupts wanted */
    echo_once(f);
    g_assert_cmpuint(rd(f, f->regs + ISR, 1), ==, 0);
    desc(f, INDIRECT, 0, DATA, 5, 1, 1);
    desc(f, INDIRECT, 1, DATA + 0x200, 16, 2, 0);
    desc(f, DESC, 0, INDIRECT, 32, 4, 0);
    offer(f, 0);
    kick(f);
    g_assert_cmpmem(f->ram + DATA + 0x200, 5, "hello", 5);
}

static void test_msix(struct fixture *f, gconstpointer data)
{
    unsigned cap = 0;
    for (unsigned at = rd(f, conf(f, PCI_REG_CAP_PTR), 1); at; at = rd(f, conf(f, at + 1), 1))
        cap = rd(f, conf(f, at), 1) == PCI_CAP_MSIX ? at : cap;
    start(f);
    wr(f, conf(f, cap + 2), 2, 0x8000);
    wr(f, f->msix + 16, 8, 0xfee01000);
    wr(f, f->msix + 24, 4, 0x4041);
    wr(f, f->regs + 0x1a, 2, 9); /* there is no vector 9 */
    g_assert_cmphex(rd(f, f->regs + 0x1a, 2), ==, 0xffff);
    wr(f, f->regs + 0x1a, 2, 1);
    echo_once(f);
    g_assert_cmpuint(f->messages, ==, 0); /* masked: pending */
    g_assert_cmpuint(rd(f, f->msix + 0x800, 4), ==, 2);
    wr(f, f->msix + 28, 4, 0);
    g_assert_cmpuint(f->messages, ==, 1);
    g_assert_cmphex(f->msi_address, ==, 0xfee01000);
    g_assert_cmphex(f->msi_data, ==, 0x4041);
    g_assert_cmpuint(rd(f, f->msix + 0x800, 4), ==, 0);
    echo_once(f);
    g_assert_cmpuint(f->messages, ==, 2);
    device_destroy(g_steal_pointer(&f->pci));
}

static void test_mmio(struct fixture *f, gconstpointer data)
{
    const uint64_t r = 0xfeb00000;
    g_assert_cmpuint(virtio_mmio_used(&f->m), ==, 1);
    g_assert_cmphex(rd(f, r, 4), ==, 0x74726976);
    g_assert_cmpuint(rd(f, r + 4, 4), ==, 2);
    g_assert_cmpuint(rd(f, r + 8, 4), ==, 4);
    wr(f, r + 0x70, 4, 3);
    wr(f, r + 0x24, 4, 1);
    wr(f, r + 0x20, 4, 1);
    wr(f, r + 0x70, 4, 11);
    g_assert_cmpuint(rd(f, r + 0x70, 4), ==, 11);
    wr(f, r + 0x30, 4, 0);
    wr(f, r + 0x38, 4, SIZE);
    wr(f, r + 0x80, 4, DESC);
    wr(f, r + 0x90, 4, AVAIL);
    wr(f, r + 0xa0, 4, USED);
    wr(f, r + 0x44, 4, 1);
    wr(f, r + 0x70, 4, 15);
    memcpy(f->ram + DATA, "hello", 5);
    desc(f, DESC, 0, DATA, 5, 1, 1);
    desc(f, DESC, 1, DATA + 64, 64, 2, 0);
    offer(f, 0);
    wr(f, r + 0x50, 4, 0);
    g_assert_cmpmem(f->ram + DATA + 64, 5, "hello", 5);
    g_assert_true(f->wires[5]);
    wr(f, r + 0x64, 4, 1);
    g_assert_false(f->wires[5]);
}

/* ---- events without a way through the process ---- */

static struct { int kick, irqfd; uint64_t address, message; uint32_t data; bool masked; unsigned kicks, routes; } kernel;

static bool fake_ioeventfd(struct accel *a, int fd, bool port, uint64_t address, unsigned size, bool match, uint64_t value, bool on, GError **error)
{
    g_assert_true(on == !kernel.kick);
    kernel.kick = on ? fd : 0;
    kernel.address = address;
    kernel.kicks++;
    return true;
}
static int fake_route_add(struct accel *a, uint64_t address, uint32_t data, GError **error)
{
    kernel.message = address;
    kernel.data = data;
    return 24 + (int)kernel.routes++;
}
static void fake_route_set(struct accel *a, unsigned route, uint64_t address, uint32_t data, bool masked)
{
    kernel.message = address;
    kernel.data = data;
}
static void fake_route_remove(struct accel *a, unsigned route) { kernel.routes--; }
static bool fake_irqfd(struct accel *a, int fd, int resample, unsigned route, bool on, GError **error)
{
    g_assert_true(on == !kernel.irqfd);
    kernel.irqfd = on ? fd : 0;
    return true;
}

static void run_main_loop(void)
{
    while (g_main_context_iteration(NULL, FALSE))
        ;
}

static void signal_it(int fd)
{
    uint64_t one = 1;
    g_assert_cmpint(write(fd, &one, 8), ==, 8);
}

static void test_events(struct fixture *f, gconstpointer data)
{
    struct accel_ops ops = fake_accel;
    struct virtio_device *v = (struct virtio_device *)f->pci;
    unsigned cap = 0;
    ops.ioeventfd = fake_ioeventfd;
    ops.route_add = fake_route_add;
    ops.route_set = fake_route_set;
    ops.route_remove = fake_route_remove;
    ops.irqfd = fake_irqfd;
    f->m.accel_ops = &ops;
    f->m.irqchip = ACCEL_IRQCHIP_ON;
    f->m.state = MACHINE_RUNNING;
    memset(&kernel, 0, sizeof(kernel));
    for (unsigned at = rd(f, conf(f, PCI_REG_CAP_PTR), 1); at; at = rd(f, conf(f, at + 1), 1))
        cap = rd(f, conf(f, at), 1) == PCI_CAP_MSIX ? at : cap;

    start(f);
    g_assert_cmpint(kernel.kick, >, 0);
    g_assert_cmphex(kernel.address, ==, f->regs + NOTIFY);
    memcpy(f->ram + DATA, "hello", 5);
    desc(f, DESC, 3, DATA, 5, 1, 7);
    desc(f, DESC, 7, DATA + 0x100, 16, 2, 0);
    offer(f, 3);
    signal_it(kernel.kick);
    run_main_loop();
    g_assert_cmpuint(*ring16(f, USED + 2), ==, 1);
    /* A machine that stands still handles it when it runs again. */
    f->m.state = MACHINE_PAUSED;
    offer(f, 3);
    signal_it(kernel.kick);
    run_main_loop();
    g_assert_cmpuint(*ring16(f, USED + 2), ==, 1);
    f->m.state = MACHINE_RUNNING;
    const struct { machine_hook_fn fn; void *opaque; } *hook = (void *)f->m.hooks->data;
    hook[0].fn(hook[0].opaque, HOOK_RUN);
    run_main_loop();
    g_assert_cmpuint(*ring16(f, USED + 2), ==, 2);
    /* The BAR is moved, and taken away. */
    wr(f, conf(f, PCI_REG_BAR0 + 16), 4, f->regs + 0x8000);
    g_assert_cmphex(kernel.address, ==, f->regs + 0x8000 + NOTIFY);
    wr(f, conf(f, PCI_REG_COMMAND), 2, PCI_CMD_MASTER);
    g_assert_cmpint(kernel.kick, ==, 0);
    wr(f, conf(f, PCI_REG_BAR0 + 16), 4, f->regs);
    wr(f, conf(f, PCI_REG_COMMAND), 2, PCI_CMD_MASTER | PCI_CMD_MEMORY);
    g_assert_cmpint(kernel.kick, >, 0);

    /* Calls: by the main loop while the vector is masked (pending), by the kernel afterwards. */
    g_mutex_lock(&f->pci->lock);
    int call = virtio_queue_call_fd(&v->queues[0]);
    g_mutex_unlock(&f->pci->lock);
    wr(f, conf(f, cap + 2), 2, 0x8000);
    wr(f, f->msix + 16, 8, 0xfee01000);
    wr(f, f->msix + 24, 4, 0x4041);
    wr(f, f->regs + 0x1a, 2, 1);
    g_assert_cmpint(kernel.irqfd, ==, 0);
    signal_it(call);
    run_main_loop();
    g_assert_cmpuint(f->messages, ==, 0);
    g_assert_cmpuint(rd(f, f->msix + 0x800, 4), ==, 2);
    wr(f, f->msix + 28, 4, 0);
    g_assert_cmpuint(f->messages, ==, 1);
    g_assert_cmpint(kernel.irqfd, ==, call);
    g_assert_cmphex(kernel.data, ==, 0x4041);
    wr(f, f->msix + 24, 4, 0x4055);
    g_assert_cmphex(kernel.data, ==, 0x4055);
    wr(f, conf(f, cap + 2), 2, 0xc000); /* the function mask */
    g_assert_cmpint(kernel.irqfd, ==, 0);
    wr(f, conf(f, cap + 2), 2, 0x8000);
    g_assert_cmpint(kernel.irqfd, ==, call);

    /* Somebody else serves the queue; without the kernel a notification signals the same descriptor. */
    g_mutex_lock(&f->pci->lock);
    int kick_fd = virtio_queue_kick_fd(&v->queues[0]);
    g_mutex_unlock(&f->pci->lock);
    g_assert_cmpint(kernel.kick, ==, kick_fd);
    unsigned seen = ((struct echo *)v)->seen;
    offer(f, 3);
    kick(f);
    run_main_loop();
    uint64_t n = 0;
    g_assert_cmpuint(((struct echo *)v)->seen, ==, seen);
    g_assert_cmpint(read(kick_fd, &n, 8), ==, 8);
    /* Another accelerator. */
    hook[0].fn(hook[0].opaque, HOOK_ACCEL_LEAVE);
    g_assert_cmpint(kernel.kick | kernel.irqfd, ==, 0);
    g_assert_cmpuint(kernel.routes, ==, 0);
    hook[0].fn(hook[0].opaque, HOOK_ACCEL_ENTER);
    g_assert_cmpint(kernel.kick, ==, kick_fd);
    g_assert_cmpint(kernel.irqfd, ==, call);
    wr(f, f->regs + 0x14, 1, 0); /* reset of the device */
    g_assert_cmpint(kernel.kick | kernel.irqfd, ==, 0);
    device_destroy(g_steal_pointer(&f->pci));
    device_destroy(g_steal_pointer(&f->mmio));
    f->m.accel_ops = NULL;
}

/* ---- an attacker ---- */

static void expect_broken(struct fixture *f, const char *what)
{
    kick(f);
    g_test_message("%s", what);
    g_assert_cmphex(rd(f, f->regs + 0x14, 1) & 0x40, ==, 0x40);
    g_assert_cmpuint(*ring16(f, USED + 2), ==, 0);
    start(f);
    echo_once(f); /* a reset heals */
    start(f);
}

static void test_hostile(struct fixture *f, gconstpointer data)
{
    start(f);
    desc(f, DESC, 0, DATA, 1, 1, 0);
    offer(f, 0);
    expect_broken(f, "a descriptor that follows itself");
    offer(f, SIZE);
    expect_broken(f, "a head outside the table");
    desc(f, DESC, 0, DATA, 1, 1, 99);
    offer(f, 0);
    expect_broken(f, "next outside the table");
    desc(f, DESC, 0, RAM_SIZE - 4, 8, 0, 0);
    offer(f, 0);
    expect_broken(f, "a buffer over the end of RAM");
    desc(f, DESC, 0, ~0ull - 3, 8, 2, 0);
    offer(f, 0);
    expect_broken(f, "a buffer that wraps");
    desc(f, DESC, 0, f->regs, 8, 2, 0);
    offer(f, 0);
    expect_broken(f, "a buffer in device registers");
    desc(f, DESC, 0, 0, 0xffffffff, 2, 0);
    offer(f, 0);
    expect_broken(f, "a buffer larger than RAM");
    desc(f, DESC, 0, DATA, 8, 3, 1);
    desc(f, DESC, 1, DATA, 8, 0, 0);
    offer(f, 0);
    expect_broken(f, "reading after writing");
    desc(f, DESC, 0, INDIRECT, 17, 4, 0);
    offer(f, 0);
    expect_broken(f, "an indirect table of an odd length");
    desc(f, DESC, 0, INDIRECT, 16, 4, 0);
    desc(f, INDIRECT, 0, INDIRECT, 16, 4, 0);
    offer(f, 0);
    expect_broken(f, "an indirect table in itself");
    *ring16(f, AVAIL + 2) = SIZE + 1;
    expect_broken(f, "more requests than the queue has room for");
    wr(f, f->regs + 0x14, 1, 0);
    wr(f, f->regs + 0x20, 8, RAM_SIZE - 8);
    wr(f, f->regs + 0x28, 8, ~0ull & ~15ull);
    wr(f, f->regs + 0x1c, 2, 1);
    g_assert_cmphex(rd(f, f->regs + 0x14, 1) & 0x40, ==, 0x40); /* rings outside RAM */
    start(f);
    echo_once(f);
}

/* Random rings and random registers: nothing may crash or hang, and a reset must heal. */
static void test_fuzz(struct fixture *f, gconstpointer data)
{
    for (unsigned round = 0; round < 3000; round++) {
        start(f);
        for (unsigned i = 0; i < SIZE; i++) {
            desc(f, DESC, i, g_test_rand_int_range(0, 4) ? (uint64_t)g_test_rand_int_range(0, RAM_SIZE) : (uint64_t)g_test_rand_int(),
                 g_test_rand_int_range(0, 3) ? g_test_rand_int_range(0, 64) * 16 : g_test_rand_int(), g_test_rand_int_range(0, 8),
                 g_test_rand_int_range(0, SIZE + 1));
            offer(f, g_test_rand_int_range(0, SIZE + 1));
        }
        kick(f);
        for (unsigned i = 0; i < 8; i++) {
            wr(f, f->regs + g_test_rand_int_range(0, 0x40), 1 << g_test_rand_int_range(0, 3), g_test_rand_int());
            rd(f, f->regs + g_test_rand_int_range(0, 0x4000), 4);
            kick(f);
        }
    }
    start(f);
    echo_once(f);
}

/* ---- packed rings ---- */

enum { EVENT_DRIVER = AVAIL, EVENT_DEVICE = USED, P_AVAIL = 0x80, P_USED = 0x8000 };

struct packed { /* the driver's side */
    unsigned size, next, used;
    bool wrap, used_wrap;
};

static void packed_start(struct fixture *f, struct packed *p, unsigned size, bool event_index)
{
    memset(f->ram, 0, RAM_SIZE);
    *p = (struct packed){ .size = size, .wrap = true, .used_wrap = true };
    wr(f, f->regs + 0x14, 1, 0);
    wr(f, f->regs + 0x14, 1, 3);
    wr(f, f->regs + 0x08, 4, 0);
    wr(f, f->regs + 0x0c, 4, 1u << 28 | (event_index ? 1u << 29 : 0));
    wr(f, f->regs + 0x08, 4, 1);
    wr(f, f->regs + 0x0c, 4, 1 | 1u << 2);
    wr(f, f->regs + 0x14, 1, 11);
    g_assert_cmphex(rd(f, f->regs + 0x14, 1), ==, 11);
    wr(f, f->regs + 0x16, 2, 0);
    wr(f, f->regs + 0x18, 2, size);
    wr(f, f->regs + 0x20, 8, DESC);
    wr(f, f->regs + 0x28, 8, EVENT_DRIVER);
    wr(f, f->regs + 0x30, 8, EVENT_DEVICE);
    wr(f, f->regs + 0x1c, 2, 1);
    wr(f, f->regs + 0x14, 1, 15);
}

/* The next place of the ring, available at once. */
static void packed_put(struct fixture *f, struct packed *p, uint64_t addr, uint32_t len, uint16_t id, unsigned flags)
{
    desc(f, DESC, p->next, addr, len, id, flags | (p->wrap ? P_AVAIL : P_USED)); /* id where a split one has its flags */
    if (++p->next == p->size) {
        p->next = 0;
        p->wrap = !p->wrap;
    }
}

static bool packed_used(struct fixture *f, struct packed *p, unsigned places, uint16_t *ret_id, uint32_t *ret_len)
{
    const uint8_t *d = f->ram + DESC + 16 * p->used;
    uint16_t flags = *(uint16_t *)(d + 14);
    if (!!(flags & P_USED) != p->used_wrap || !!(flags & P_AVAIL) != p->used_wrap)
        return false;
    *ret_id = *(uint16_t *)(d + 12);
    *ret_len = *(uint32_t *)(d + 8);
    p->used += places;
    if (p->used >= p->size) {
        p->used -= p->size;
        p->used_wrap = !p->used_wrap;
    }
    return true;
}

static void packed_echo(struct fixture *f, struct packed *p, uint16_t id)
{
    uint16_t got = 0;
    uint32_t len = 0;
    memcpy(f->ram + DATA, "hello", 5);
    memset(f->ram + DATA + 0x100, 0, 16);
    packed_put(f, p, DATA, 2, 0xdead, 1);
    packed_put(f, p, DATA + 2, 3, 0xbeef, 1);
    packed_put(f, p, DATA + 0x100, 16, id, 2);
    kick(f);
    g_assert_true(packed_used(f, p, 3, &got, &len));
    g_assert_cmpuint(got, ==, id);
    g_assert_cmpuint(len, ==, 5);
    g_assert_cmpmem(f->ram + DATA + 0x100, 5, "hello", 5);
}

static void test_packed(struct fixture *f, gconstpointer data)
{
    struct packed p;
    uint16_t id;
    uint32_t len;
    for (unsigned size = 3; size <= SIZE; size++) { /* any size is allowed */
        packed_start(f, &p, size, size & 1);
        for (unsigned i = 0; i < 5000; i++)
            packed_echo(f, &p, i);
    }
    /* Two at once, the second with an indirect table, whose flags but for WRITE mean nothing. */
    packed_start(f, &p, SIZE, false);
    rd(f, f->regs + ISR, 1);
    desc(f, INDIRECT, 0, DATA, 5, 0xffff, 0xfffd);
    desc(f, INDIRECT, 1, DATA + 0x200, 16, 0xffff, 0xffff);
    memcpy(f->ram + DATA, "hello", 5);
    packed_put(f, &p, DATA, 5, 7, 0);
    packed_put(f, &p, INDIRECT, 32, 8, 4);
    kick(f);
    g_assert_true(packed_used(f, &p, 1, &id, &len));
    g_assert_cmpuint(id, ==, 7);
    g_assert_true(packed_used(f, &p, 1, &id, &len));
    g_assert_cmpuint(id, ==, 8);
    g_assert_cmpmem(f->ram + DATA + 0x200, 5, "hello", 5);
    g_assert_false(packed_used(f, &p, 1, &id, &len));
    g_assert_cmpuint(rd(f, f->regs + ISR, 1), ==, 1);
    *ring16(f, EVENT_DRIVER + 2) = 1; /* no interrupts */
    packed_echo(f, &p, 1);
    g_assert_cmpuint(rd(f, f->regs + ISR, 1), ==, 0);
    *ring16(f, EVENT_DRIVER + 2) = 0;
    packed_echo(f, &p, 1);
    g_assert_cmpuint(rd(f, f->regs + ISR, 1), ==, 1);
}

static void test_packed_events(struct fixture *f, gconstpointer data)
{
    struct packed p;
    packed_start(f, &p, 5, true);
    *ring16(f, EVENT_DRIVER + 2) = 2;
    for (unsigned i = 0; i < 200; i++) {
        /* Wanted when the third descriptor from here is used up: after the first request, or not before the second. */
        unsigned at = p.used + (i & 1 ? 5 : 2);
        bool wrap = p.used_wrap;
        while (at >= 5) {
            at -= 5;
            wrap = !wrap;
        }
        *ring16(f, EVENT_DRIVER) = at | wrap << 15;
        packed_echo(f, &p, i);
        g_assert_cmpuint(rd(f, f->regs + ISR, 1), ==, !(i & 1));
        if (i & 1) {
            packed_echo(f, &p, i);
            g_assert_cmpuint(rd(f, f->regs + ISR, 1), ==, 1);
        }
        /* The device asks to be notified of the next descriptor. */
        g_assert_cmpuint(*ring16(f, EVENT_DEVICE + 2), ==, 2);
        g_assert_cmphex(*ring16(f, EVENT_DEVICE), ==, p.next | p.wrap << 15);
    }
    g_mutex_lock(&f->pci->lock);
    struct virtqueue *q = &((struct virtio_device *)f->pci)->queues[0];
    struct virtqueue_rings rings;
    g_assert_false(virtqueue_want_notify(q, false));
    g_assert_cmpuint(*ring16(f, EVENT_DEVICE + 2), ==, 1);
    packed_put(f, &p, DATA, 5, 7, 0);
    g_assert_true(virtqueue_want_notify(q, true));
    g_assert_false(virtqueue_hand_over(q, &rings));
    /* What is put back comes again. */
    for (unsigned i = 0; i < 3; i++) {
        struct virtio_chain *c = virtqueue_pop(q);
        g_assert_cmpuint(c->head, ==, 7);
        virtqueue_unpop(q, c);
    }
    g_mutex_unlock(&f->pci->lock);
}

static void expect_packed_broken(struct fixture *f, struct packed *p, const char *what)
{
    uint16_t id;
    uint32_t len;
    kick(f);
    g_test_message("%s", what);
    g_assert_cmphex(rd(f, f->regs + 0x14, 1) & 0x40, ==, 0x40);
    g_assert_false(packed_used(f, p, 1, &id, &len));
    packed_start(f, p, SIZE, true);
    packed_echo(f, p, 1);
    packed_start(f, p, SIZE, true);
}

static void packed_bad_place(struct fixture *f, struct packed *p, unsigned size, uint64_t ring, uint64_t driver, uint64_t device, const char *what)
{
    wr(f, f->regs + 0x14, 1, 0);
    wr(f, f->regs + 0x14, 1, 3);
    wr(f, f->regs + 0x08, 4, 1);
    wr(f, f->regs + 0x0c, 4, 1 | 1u << 2);
    wr(f, f->regs + 0x14, 1, 11);
    wr(f, f->regs + 0x16, 2, 0);
    wr(f, f->regs + 0x18, 2, size);
    wr(f, f->regs + 0x20, 8, ring);
    wr(f, f->regs + 0x28, 8, driver);
    wr(f, f->regs + 0x30, 8, device);
    wr(f, f->regs + 0x1c, 2, 1);
    wr(f, f->regs + 0x14, 1, 15);
    expect_packed_broken(f, p, what);
}

static void test_packed_hostile(struct fixture *f, gconstpointer data)
{
    struct packed p;
    packed_start(f, &p, SIZE, true);
    for (unsigned i = 0; i < SIZE; i++)
        packed_put(f, &p, DATA, 1, 0, 1);
    expect_packed_broken(f, &p, "a chain without end");
    packed_put(f, &p, RAM_SIZE - 4, 8, 0, 0);
    expect_packed_broken(f, &p, "a buffer over the end of RAM");
    packed_put(f, &p, ~0ull - 3, 8, 0, 2);
    expect_packed_broken(f, &p, "a buffer that wraps");
    packed_put(f, &p, f->regs, 8, 0, 2);
    expect_packed_broken(f, &p, "a buffer in device registers");
    packed_put(f, &p, 0, 0xffffffff, 0, 2);
    expect_packed_broken(f, &p, "a buffer larger than RAM");
    packed_put(f, &p, DATA, 8, 0, 3);
    packed_put(f, &p, DATA, 8, 0, 0);
    expect_packed_broken(f, &p, "reading after writing");
    packed_put(f, &p, INDIRECT, 17, 0, 4);
    expect_packed_broken(f, &p, "an indirect table of an odd length");
    packed_put(f, &p, INDIRECT, 16, 0, 5);
    expect_packed_broken(f, &p, "an indirect table that goes on");
    packed_put(f, &p, DATA, 8, 0, 1);
    packed_put(f, &p, INDIRECT, 16, 0, 4);
    expect_packed_broken(f, &p, "an indirect table in a chain");
    packed_put(f, &p, 0, 16 * 2048, 0, 4);
    expect_packed_broken(f, &p, "an indirect table that is too long");
    packed_put(f, &p, RAM_SIZE, 16, 0, 4);
    expect_packed_broken(f, &p, "an indirect table outside RAM");
    packed_bad_place(f, &p, 0, DESC, EVENT_DRIVER, EVENT_DEVICE, "a size of 0");
    packed_bad_place(f, &p, SIZE + 1, DESC, EVENT_DRIVER, EVENT_DEVICE, "a size beyond the device's");
    packed_bad_place(f, &p, SIZE, RAM_SIZE - 16, EVENT_DRIVER, EVENT_DEVICE, "a ring over the end of RAM");
    packed_bad_place(f, &p, SIZE, DESC + 8, EVENT_DRIVER, EVENT_DEVICE, "a ring that is not aligned");
    packed_bad_place(f, &p, SIZE, DESC, EVENT_DRIVER + 2, EVENT_DEVICE, "an event structure that is not aligned");
    packed_bad_place(f, &p, SIZE, DESC, EVENT_DRIVER, ~3ull, "an event structure nowhere");
    packed_bad_place(f, &p, SIZE, f->regs & ~15ull, EVENT_DRIVER, EVENT_DEVICE, "a ring in device registers");
}

static void test_packed_fuzz(struct fixture *f, gconstpointer data)
{
    struct packed p;
    for (unsigned round = 0; round < 3000; round++) {
        packed_start(f, &p, g_test_rand_int_range(1, SIZE + 1), round & 1);
        for (unsigned i = 0; i < 64; i++) {
            packed_put(f, &p, g_test_rand_int_range(0, 4) ? (uint64_t)g_test_rand_int_range(0, RAM_SIZE) : (uint64_t)g_test_rand_int(),
                       g_test_rand_int_range(0, 3) ? g_test_rand_int_range(0, 64) * 16 : g_test_rand_int(), g_test_rand_int(),
                       g_test_rand_int_range(0, 10) ? g_test_rand_int_range(0, 8) : g_test_rand_int_range(0, 0x10000));
            if (!g_test_rand_int_range(0, 4))
                kick(f);
        }
        *(uint32_t *)(f->ram + EVENT_DRIVER) = g_test_rand_int();
        for (unsigned i = 0; i < 8; i++) {
            wr(f, f->regs + g_test_rand_int_range(0, 0x40), 1 << g_test_rand_int_range(0, 3), g_test_rand_int());
            kick(f);
        }
    }
    packed_start(f, &p, SIZE, false);
    packed_echo(f, &p, 1);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, fn) g_test_add(name, struct fixture, NULL, set_up, fn, tear_down)
    ADD("/pci/config", test_config);
    ADD("/pci/bar", test_bar);
    ADD("/virtio/queue", test_queue);
    ADD("/virtio/msix", test_msix);
    ADD("/virtio/mmio", test_mmio);
    ADD("/virtio/events", test_events);
    ADD("/virtio/hostile", test_hostile);
    ADD("/virtio/fuzz", test_fuzz);
#undef ADD
#define ADD(name, fn) g_test_add(name, struct fixture, "packed", set_up, fn, tear_down)
    ADD("/virtio/packed", test_packed);
    ADD("/virtio/packed/events", test_packed_events);
    ADD("/virtio/packed/hostile", test_packed_hostile);
    ADD("/virtio/packed/fuzz", test_packed_fuzz);
    return g_test_run();
}
