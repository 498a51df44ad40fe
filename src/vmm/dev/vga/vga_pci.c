/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The cards: `VGA` and `bochs-display`, both 1234:1111 (QEMU, "standard VGA" and "bochs-display" of its specifications). BAR 0 is the memory, BAR 2
 * registers: EDID at 0, VGA's ports from 3C0h on at 400h, the Bochs extensions at 500h, two registers for the byte order at 600h. `bochs-display`
 * has neither VGA's registers nor its ports and window.
 */
#include <string.h>

#include "base/error.h"
#include "vmm/bus/pci.h"
#include "vmm/core/machine.h"
#include "vmm/dev/vga/vga.h"
#include "vmm/display/display.h"
#include "vmm/display/edid.h"

enum { BAR_MEMORY = 0, BAR_REGISTERS = 2, REGISTERS_SIZE = 4096 };
enum { AT_EDID = 0, AT_VGA = 0x400, AT_DISPI = 0x500, AT_EXTENDED = 0x600 };
enum { VGA_PORTS = 0x20, FIRST_PORT = 0x3c0, EXTENDED_SIZE = 8 };
#define LITTLE 0x1e1e1e1eu
#define BIG 0xbebebebeu

struct vga_card {
    struct device dev;
    struct pci_device pci;
    int devfn;
    uint64_t megabytes, bytes /* vgamem_mb, or bochs-display's vgamem */, width, height;
    bool edid;
    uint8_t edid_block[EDID_SIZE];
    struct vga vga;
};

/* ---- BAR 2 ---- */

static uint64_t edid_read(const struct vga_card *c, unsigned at, unsigned size)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)(c->edid && at + i < EDID_SIZE ? c->edid_block[at + i] : 0) << 8 * i;
    return value;
}

static uint64_t registers_read(void *opaque, uint64_t offset, unsigned size)
{
    struct vga_card *c = opaque;
    unsigned at = (unsigned)offset;
    uint64_t value = 0;
    if (at < AT_VGA)
        return edid_read(c, at, size);
    if (at < AT_VGA + VGA_PORTS && c->vga.legacy) {
        for (unsigned i = 0; i < MIN(size, 2u); i++)
            value |= (uint64_t)vga_port_read(&c->vga, FIRST_PORT + at - AT_VGA + i) << 8 * i;
        return value;
    }
    if (at >= AT_DISPI && at < AT_DISPI + 2 * VGA_NDISPI && size == 2)
        return vga_dispi_read(&c->vga, (at - AT_DISPI) / 2);
    if (at == AT_EXTENDED && size == 4)
        return EXTENDED_SIZE;
    if (at == AT_EXTENDED + 4 && size == 4)
        return c->vga.big_endian ? BIG : LITTLE;
    return 0;
}

static void registers_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct vga_card *c = opaque;
    unsigned at = (unsigned)offset;
    if (at >= AT_VGA && at < AT_VGA + VGA_PORTS && c->vga.legacy) {
        for (unsigned i = 0; i < MIN(size, 2u); i++)
            vga_port_write(&c->vga, FIRST_PORT + at - AT_VGA + i, (uint8_t)(value >> 8 * i));
    } else if (at >= AT_DISPI && at < AT_DISPI + 2 * VGA_NDISPI && size == 2) {
        vga_dispi_write(&c->vga, (at - AT_DISPI) / 2, (uint16_t)value);
    } else if (at == AT_EXTENDED + 4 && size == 4 && (value == BIG || value == LITTLE)) {
        c->vga.big_endian = value == BIG;
        c->vga.touched = true;
    }
}

static const struct io_ops registers_ops = { registers_read, registers_write, 1, 4 };

/* ---- the card ---- */

static bool realize_card(struct vga_card *c, bool legacy, const char *rom, GError **error)
{
    static const char *const name[] = { "bochs-display", "VGA" };
    const struct pci_id id = { .vendor = 0x1234, .device = 0x1111, .subsys_vendor = 0x1af4, .subsys = 0x1100, .revision = 2, .class_code = 0x03,
                               .subclass = legacy ? 0x00 : 0x80 };
    uint64_t size = c->bytes ? c->bytes : c->megabytes << 20;
    if (size & (size - 1))
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: %s: the card's memory is a power of two", name[legacy], c->bytes ? "vgamem" : "vgamem_mb");
    uint8_t *vram = guest_memory_alloc(c->dev.machine->memory, name[legacy], size, error);
    if (!vram)
        return false;
    edid_make(c->edid_block, (unsigned)c->width, (unsigned)c->height);
    vga_init(&c->vga, &c->dev, vram, (uint32_t)size, legacy);
    pci_device_init(&c->pci, &c->dev, name[legacy], &id);
    pci_bar_init_ram(&c->pci, BAR_MEMORY, PCI_BAR_MEM32, size, vram);
    c->pci.config[PCI_REG_BAR0 + 4 * BAR_MEMORY] |= 8; /* prefetchable */
    pci_bar_init(&c->pci, BAR_REGISTERS, PCI_BAR_MEM32, REGISTERS_SIZE, &registers_ops, c, &c->dev.lock);
    c->pci.rom_default = rom;
    if (vga_attach(&c->vga, error) && pci_device_plug(&c->pci, c->dev.machine, c->devfn, error))
        return true;
    vga_detach(&c->vga);
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
static const struct device_field fields[] = {
    DEVICE_FIELD(T, vga.misc), DEVICE_FIELD(T, vga.feature), DEVICE_FIELD(T, vga.seq_index), DEVICE_FIELD(T, vga.gfx_index), DEVICE_FIELD(T, vga.attr_index),
    DEVICE_FIELD(T, vga.crtc_index), DEVICE_FIELD(T, vga.attr_data), DEVICE_ARRAY(T, vga.seq), DEVICE_ARRAY(T, vga.gfx), DEVICE_ARRAY(T, vga.attr),
    DEVICE_ARRAY(T, vga.crtc), DEVICE_FIELD(T, vga.dac_mask), DEVICE_FIELD(T, vga.dac_read), DEVICE_FIELD(T, vga.dac_write), DEVICE_FIELD(T, vga.dac_step),
    DEVICE_FIELD(T, vga.dac_reads), DEVICE_ARRAY(T, vga.dac_latch), DEVICE_ARRAY(T, vga.palette), DEVICE_ARRAY(T, vga.latch), DEVICE_FIELD(T, vga.dispi_index),
    DEVICE_ARRAY(T, vga.dispi), DEVICE_FIELD(T, vga.big_endian), { NULL }
};

extern const struct device_class vga_class, bochs_display_class;
const struct device_class vga_class = {
    .name = "VGA", .help = "standard VGA with Bochs' large modes", .bus = DEV_BUS_PCI, .size = sizeof(T), .props = vga_props, .fields = fields,
    .user_creatable = true, .realize = vga_realize, .reset = reset, .unrealize = unrealize,
};
const struct device_class bochs_display_class = {
    .name = "bochs-display", .help = "a simple frame buffer, without VGA", .bus = DEV_BUS_PCI, .size = sizeof(T), .props = bochs_props, .fields = fields,
    .user_creatable = true, .realize = bochs_realize, .reset = reset, .unrealize = unrealize,
};
