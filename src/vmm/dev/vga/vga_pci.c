/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The cards: `VGA` and `bochs-display`, both 1234:1111 (QEMU, "standard VGA" and "bochs-display" of its specifications). BAR 0 is the memory, BAR 2
 * registers. `bochs-display` has neither VGA's registers nor its ports and window.
 */
#include <string.h>

#include "base/error.h"
#include "vmm/bus/pci.h"
#include "vmm/core/machine.h"
#include "vmm/dev/vga/vga.h"
#include "vmm/display/display.h"
#include "vmm/display/edid.h"

enum { BAR_MEMORY = 0, BAR_REGISTERS = 2 };

struct vga_card {
    struct device dev;
    struct pci_device pci;
    int devfn;
    uint64_t megabytes, bytes /* vgamem_mb, or bochs-display's vgamem */, width, height;
    bool edid;
    uint8_t edid_block[EDID_SIZE];
    struct vga vga;
};

/* ---- the card ---- */

static bool realize_card(struct vga_card *c, bool legacy, const char *rom, GError **error)
{
    static const char *const name[] = { "bochs-display", "VGA" };
    const struct pci_id id = { .vendor = 0x1234, .device = 0x1111, .subsys_vendor = 0x1af4, .subsys = 0x1100, .revision = 2, .class_code = 0x03,
                               .subclass = legacy ? 0x00 : 0x80 };
    struct display *display = display_of(c->dev.machine);
    uint64_t size = c->bytes ? c->bytes : c->megabytes << 20;
    if (size & (size - 1))
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: %s: the card's memory is a power of two", name[legacy], c->bytes ? "vgamem" : "vgamem_mb");
    uint8_t *vram = guest_memory_alloc(c->dev.machine->memory, name[legacy], size, error);
    if (!vram)
        return false;
    edid_make(c->edid_block, (unsigned)c->width, (unsigned)c->height);
    vga_init(&c->vga, &c->dev, vram, (uint32_t)size, legacy);
    pci_device_init(&c->pci, &c->dev, name[legacy], &id);
    pci_bar_init_ram(&c->pci, BAR_MEMORY, PCI_BAR_MEM32_PREFETCH, size, vram);
    pci_bar_init(&c->pci, BAR_REGISTERS, PCI_BAR_MEM32, VGA_REGISTERS_SIZE, &vga_register_ops, &c->vga, &c->dev.lock);
    c->pci.rom_default = rom;
    c->vga.edid = c->edid ? c->edid_block : NULL;
    if (display_claim(display, c->dev.class->name, error)) {
        if (pci_device_plug(&c->pci, c->dev.machine, c->devfn, error)) {
            vga_attach(&c->vga, display);
            return true;
        }
        display_release(display);
    }
    pci_device_unplug(&c->pci);
    vga_finish(&c->vga);
    return false;
}

static bool vga_realize(struct device *d, GError **error) { return realize_card((struct vga_card *)d, true, "vgabios-stdvga.bin", error); }

static bool bochs_realize(struct device *d, GError **error) { return realize_card((struct vga_card *)d, false, "vgabios-bochs-display.bin", error); }

static void unrealize(struct device *d)
{
    struct vga_card *c = (struct vga_card *)d;
    vga_detach(&c->vga);
    display_release(display_of(d->machine));
    pci_device_unplug(&c->pci);
    vga_finish(&c->vga);
}

static void reset(struct device *d)
{
    struct vga_card *c = (struct vga_card *)d;
    pci_device_reset(&c->pci);
    g_mutex_lock(&d->lock);
    vga_reset(&c->vga);
    g_mutex_unlock(&d->lock);
}

static void save(struct device *d, struct state_writer *w)
{
    vga_save(&((struct vga_card *)d)->vga, w);
}

static bool load(struct device *d, struct state_reader *r, GError **error)
{
    return vga_load(&((struct vga_card *)d)->vga, r, error);
}

#define T struct vga_card
#define COMMON_PROPS \
    { "xres", PROP_UINT, offsetof(T, width), 64, DISPLAY_MAX_SIZE / 2 - 1, .def = "1280", .help = "width in pixels that the monitor prefers" }, \
    { "yres", PROP_UINT, offsetof(T, height), 64, DISPLAY_MAX_SIZE / 2 - 1, .def = "800", .help = "height in pixels" }, \
    { "edid", PROP_BOOL, offsetof(T, edid), .def = "on", .help = "the monitor tells what it is" }, \
    { "addr", PROP_PCI_ADDR, offsetof(T, devfn), .help = "slot.function" }
static const struct device_prop vga_props[] = {
    { "vgamem_mb", PROP_UINT, offsetof(T, megabytes), 1, 256, .def = "16", .help = "memory in MiB, a power of two" }, COMMON_PROPS, { NULL }
};
static const struct device_prop bochs_props[] = {
    { "vgamem", PROP_SIZE, offsetof(T, bytes), 4 << 20, 256 << 20, .def = "16M", .help = "memory, a power of two" }, COMMON_PROPS, { NULL }
};
static const struct device_field fields[] = { VGA_FIELDS(T), { NULL } };

extern const struct device_class vga_class, bochs_display_class;
const struct device_class vga_class = {
    .name = "VGA", .help = "standard VGA with Bochs' large modes", .bus = DEV_BUS_PCI, .size = sizeof(T), .props = vga_props, .fields = fields,
    .user_creatable = true, .realize = vga_realize, .reset = reset, .unrealize = unrealize, .save = save, .load = load,
};
const struct device_class bochs_display_class = {
    .name = "bochs-display", .help = "a simple frame buffer, without VGA", .bus = DEV_BUS_PCI, .size = sizeof(T), .props = bochs_props, .fields = fields,
    .user_creatable = true, .realize = bochs_realize, .reset = reset, .unrealize = unrealize, .save = save, .load = load,
};
