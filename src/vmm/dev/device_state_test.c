/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Saved and loaded devices: of every class it is decided what is saved; what a driver has done to a device is the same in the device that it is
 * loaded into; a saved state that somebody has changed is refused or harmless.
 */
#include <string.h>

#include "block/block.h"
#include "block/node.h"
#include "vmm/bus/pci.h"
#include "vmm/bus/virtio.h"
#include "vmm/core/fake_accel.h"
#include "vmm/core/machine.h"
#include "vmm/core/machine_private.h"
#include "vmm/core/object.h"
#include "vmm/core/state.h"
#include "vmm/dev/mem_hotplug.h"
#include "vmm/display/display.h"

#define RAM_SIZE (1u << 20)
#define ECAM 0xe0000000ull

struct rig {
    struct machine *m;
    uint8_t *ram;
    struct block_graph *graph;
    struct block_device *disk;
};

static void no_wire(void *opaque, unsigned input, bool level) { }
static void no_message(void *opaque, uint64_t address, uint32_t data) { }

static void add_disk(struct rig *r)
{
    keyval_auto *kv = keyval_parse("driver=null-co,size=1M,read-zeroes=on", NULL, NULL);
    const struct block_device_options o = { .id = "d" };
    r->graph = block_graph_create();
    struct block_node *n = block_open_options(r->graph, kv, BLOCK_RDWR, NULL);
    g_assert_nonnull(n);
    r->disk = block_device_create(r->graph, n, &o);
    block_node_unref(n);
    g_hash_table_insert(r->m->drives, (void *)"d", r->disk);
}

static void add(struct rig *r, const char *text)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) parts = g_strsplit(text, ",", -1);
    const struct device_class *c = device_class_find(parts[0]);
    g_assert_nonnull(c);
    struct device *d = device_create(r->m, c);
    for (unsigned i = 1; parts[i]; i++) {
        g_auto(GStrv) kv = g_strsplit(parts[i], "=", 2);
        g_assert_true(device_set_prop(d, kv[0], kv[1], &error));
    }
    if (!device_realize(d, &error))
        g_error("%s: %s", text, error->message);
}

static struct device *nth(const struct rig *r, unsigned i) { return r->m->devices->pdata[i]; }

static void reset_all(struct rig *r)
{
    for (guint i = 0; i < r->m->devices->len; i++) {
        struct device *d = nth(r, i);
        if (d->class->reset)
            d->class->reset(d);
    }
}

static void destroy_bus(struct machine *m) { pci_bus_destroy(m->pci); }

/* What may be plugged: a place for memory, modules, and two objects of it. */
static void add_memory(struct rig *r)
{
    static const char *const objects[] = { "memory-backend-ram,id=m,size=64M", "memory-backend-ram,id=n,size=64M" };
    struct machine_config *c = r->m->config;
    c->ram_size = RAM_SIZE;
    c->max_ram_size = 1ull << 30;
    c->mem_slots = 2;
    r->m->plug_base = 1ull << 32;
    r->m->plug_size = 1ull << 32;
    for (unsigned i = 0; i < G_N_ELEMENTS(objects); i++) {
        keyval_auto *kv = keyval_parse(objects[i], "qom-type", NULL);
        g_assert_nonnull(object_create(r->m, kv, NULL));
    }
    g_assert_true(mem_hotplug_create(r->m, (struct irq_line){ no_wire, r, 0 }, NULL));
}

/* text: devices with their properties, between spaces; the last one is what is tested. */
static void set_up(struct rig *r, const char *text)
{
    static const struct pci_windows w = { .mem32_base = 0xc0000000, .mem32_size = 1 << 28, .mem64_base = 1ull << 36, .mem64_size = 1ull << 32,
                                          .io_base = 0xc000, .io_size = 0x1000, .gsi_base = 16 };
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) devices = g_strsplit(text, " ", -1);
    struct irq_line lines[8];
    memset(r, 0, sizeof(*r));
    for (unsigned i = 0; i < 8; i++)
        lines[i] = (struct irq_line){ no_wire, r, i };
    struct machine *m = r->m = machine_create(g_new0(struct machine_config, 1));
    m->msi = (struct msi_sink){ no_message, r };
    m->board_destroy = destroy_bus;
    r->ram = guest_memory_alloc(m->memory, "ram", RAM_SIZE, &error);
    g_assert_true(guest_memory_add_ram(m->memory, 0, RAM_SIZE, r->ram, false, &error));
    add_disk(r);
    add_memory(r);
    pci_bus_map_ports(pci_bus_create(m, lines));
    pci_bus_map_ecam(m->pci, ECAM);
    for (unsigned i = 0; devices[i]; i++)
        add(r, devices[i]);
    reset_all(r);
    g_assert_true(pci_bus_assign(m->pci, &w, &error));
}

static void tear_down(struct rig *r)
{
    machine_destroy(r->m);
    block_device_destroy(r->disk);
    block_graph_destroy(r->graph);
}

/* ---- what a driver does: all kinds of things to its registers ---- */

static void poke(struct rig *r, GRand *rand, unsigned times)
{
    GArray *windows = g_array_new(FALSE, FALSE, sizeof(struct io_window));
    for (struct pci_device *p = NULL; (p = pci_bus_next(r->m->pci, p));) {
        for (unsigned b = 0; b < PCI_NBARS; b++) {
            if (p->bars[b].kind != PCI_BAR_NONE && p->bars[b].window.mapped && !p->bars[b].window.ram)
                g_array_append_val(windows, p->bars[b].window);
        }
    }
    for (unsigned i = 0; windows->len && i < times; i++) {
        const struct io_window *w = &g_array_index(windows, struct io_window, g_rand_int_range(rand, 0, (gint32)windows->len));
        uint64_t span = g_rand_boolean(rand) ? MIN(w->size, 256) : w->size, at = (uint64_t)g_rand_int_range(rand, 0, (gint32)span) & ~3ull;
        uint32_t value = g_rand_int(rand) >> g_rand_int_range(rand, 0, 32);
        (void)guest_io_read(r->m->memory, w->port, w->base + at, 4);
        guest_io_write(r->m->memory, w->port, w->base + at, 4, value);
    }
    g_array_unref(windows);
}

/* ---- saving and loading ---- */

static void drain(struct rig *r)
{
    for (guint i = 0; i < r->m->devices->len; i++) {
        struct device *d = nth(r, i);
        g_mutex_lock(&d->lock);
        if (d->class->drain)
            d->class->drain(d);
        g_mutex_unlock(&d->lock);
    }
}

static GBytes *save(struct device *d)
{
    struct state_writer *w = state_writer_new();
    g_mutex_lock(&d->lock);
    device_save(d, w);
    g_mutex_unlock(&d->lock);
    return state_writer_end(w);
}

static bool load(struct device *d, GBytes *bytes, GError **error)
{
    struct state_reader *r = state_reader_new(bytes, d->class->name, error);
    if (!r)
        return false;
    g_mutex_lock(&d->lock);
    bool ok = device_load(d, r, error);
    g_mutex_unlock(&d->lock);
    if (!ok)
        state_reader_free(r);
    return ok && state_reader_end(r, error);
}

static const char *const setups[] = {
    "ich9-ahci,id=a", "ich9-ahci,id=a ide-hd,drive=d", "ich9-ahci,id=a ide-cd,drive=d", "virtio-scsi-pci", "virtio-scsi-pci scsi-hd,drive=d",
    "virtio-scsi-pci scsi-cd,drive=d", "nvme,serial=x,drive=d", "nvme,serial=x nvme-ns,drive=d", "qemu-xhci", "nec-usb-xhci", "qemu-xhci usb-storage,drive=d",
    "qemu-xhci usb-tablet", "qemu-xhci usb-mouse", "qemu-xhci usb-kbd", "ich9-intel-hda", "intel-hda", "ich9-intel-hda hda-duplex", "ich9-intel-hda hda-output",
    "ich9-intel-hda hda-micro", "VGA", "bochs-display", "virtio-vga", "virtio-gpu-pci", "virtio-keyboard-pci", "virtio-mouse-pci", "virtio-tablet-pci",
    "e1000", "e1000e", "rtl8139", "virtio-balloon-pci", "virtio-rng-pci", "virtio-mem-pci,memdev=m,requested-size=8M", "pc-dimm,memdev=n", "pvpanic", "isa-debug-exit",
};

static void test_round(gconstpointer text)
{
    GRand *rand = g_rand_new_with_seed(7);
    for (unsigned round = 0; round < 8; round++) {
        struct rig from, to;
        set_up(&from, text);
        set_up(&to, text);
        poke(&from, rand, round * 200);
        drain(&from);
        for (guint i = 0; i < from.m->devices->len; i++) {
            g_autoptr(GError) error = NULL;
            g_autoptr(GBytes) there = save(nth(&from, i));
            if (!load(nth(&to, i), there, &error))
                g_error("%s: %s", (const char *)text, error->message);
            g_autoptr(GBytes) here = save(nth(&to, i));
            g_assert_true(g_bytes_equal(there, here));
        }
        machine_run_hooks(to.m, HOOK_RUN);
        drain(&to);
        tear_down(&from);
        tear_down(&to);
    }
    g_rand_free(rand);
}

/* Bytes of values, not of names or shapes: those the reader has refused already. */
static GBytes *damage(GBytes *good, GRand *rand)
{
    gsize n;
    const uint8_t *data = g_bytes_get_data(good, &n);
    uint8_t *copy = g_memdup2(data, n);
    for (gsize at = 0; at < n;) {
        gsize head = 1u + data[at] + 1u, name = at;
        uint32_t count;
        memcpy(&count, data + at + head, 4);
        gsize from = at + head + 4, bytes = (gsize)data[name + 1u + data[name]] * count;
        for (unsigned i = 0; bytes && i < 1 + bytes / 256 && g_rand_int_range(rand, 0, 3) == 0; i++)
            copy[from + (gsize)g_rand_int_range(rand, 0, (gint32)bytes)] = g_rand_boolean(rand) ? (uint8_t)g_rand_int(rand) : (uint8_t)g_rand_int_range(rand, 0, 3);
        at = from + bytes;
    }
    return g_bytes_new_take(copy, n);
}

static void test_damaged(gconstpointer text)
{
    GRand *rand = g_rand_new_with_seed(11);
    struct rig r;
    set_up(&r, text);
    struct device *d = nth(&r, r.m->devices->len - 1);
    g_autoptr(GBytes) good = save(d);
    for (unsigned round = 0; round < 300; round++) {
        g_autoptr(GBytes) bad = damage(good, rand);
        reset_all(&r);
        (void)!load(d, bad, NULL);
        machine_run_hooks(r.m, HOOK_RUN);
        poke(&r, rand, 20);
        drain(&r);
        g_autoptr(GBytes) again = save(d);
    }
    reset_all(&r);
    g_rand_free(rand);
    tear_down(&r);
}

/* A class's table, its hooks, or a word that says why there is nothing. */
static void test_decided(void)
{
    for (const struct device_class *const *all = device_class_list(); *all; all++) {
        const struct device_class *c = *all;
        bool saved = c->fields || c->save || c->load;
        if (saved + (c->unsaved != NULL) + c->stateless == 0)
            g_error("%s: neither a table of its state, nor stateless, nor unsaved", c->name);
        if (c->stateless && (saved || c->unsaved))
            g_error("%s: stateless, and it has state", c->name);
        for (const struct device_field *f = c->fields; f && f->name; f++) {
            if (f->offset + (size_t)f->size * f->count > c->size || (f->size != 1 && f->size != 2 && f->size != 4 && f->size != 8))
                g_error("%s: the row of '%s' is not in its struct", c->name, f->name);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/device-state/decided", test_decided);
    for (unsigned i = 0; i < G_N_ELEMENTS(setups); i++) {
        g_autofree char *round = g_strdup_printf("/device-state/round/%u", i), *damaged = g_strdup_printf("/device-state/damaged/%u", i);
        g_test_add_data_func(round, setups[i], test_round);
        g_test_add_data_func(damaged, setups[i], test_damaged);
    }
    return g_test_run();
}
