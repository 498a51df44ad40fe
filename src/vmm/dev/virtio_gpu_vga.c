/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `virtio-vga`: a virtio GPU that is a VGA until a virtio driver shows something, and again when that has let go of it: firmware and boot loaders
 * have a screen. BAR 0 is the VGA's memory, BAR 2 its registers; virtio's are behind them.
 */
#include "base/error.h"
#include "vmm/bus/pci.h"
#include "vmm/core/machine.h"
#include "vmm/dev/vga/vga.h"
#include "vmm/dev/virtio_gpu.h"
#include "vmm/display/display.h"
#include "vmm/display/edid.h"

enum { BAR_MEMORY = 0, BAR_REGISTERS = 2 };

struct virtio_vga {
    struct virtio_gpu gpu; /* first */
    uint64_t megabytes;
    uint8_t edid_block[EDID_SIZE];
    struct vga vga;
};

static void pci_more(struct virtio_device *v, struct pci_device *d)
{
    struct virtio_vga *c = (struct virtio_vga *)v;
    pci_bar_init_ram(d, BAR_MEMORY, PCI_BAR_MEM32_PREFETCH, c->vga.vram_size, c->vga.vram);
    pci_bar_init(d, BAR_REGISTERS, PCI_BAR_MEM32, VGA_REGISTERS_SIZE, &vga_register_ops, &c->vga, &v->dev.lock);
    d->rom_default = "vgabios-virtio.bin";
}

/* A driver that switches its picture off does not want the firmware's back; only its end brings that. */
static void active(struct virtio_gpu *g, bool on)
{
    if (on)
        vga_hide(&((struct virtio_vga *)g)->vga, true);
}

static void stop(struct virtio_device *v)
{
    virtio_gpu_stop(v);
    vga_hide(&((struct virtio_vga *)v)->vga, false);
}

static bool realize(struct device *d, GError **error)
{
    struct virtio_vga *c = (struct virtio_vga *)d;
    uint64_t size = c->megabytes << 20;
    if (size & (size - 1))
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: vgamem_mb: the card's memory is a power of two", d->class->name);
    uint8_t *vram = guest_memory_alloc(d->machine->memory, d->class->name, size, error);
    if (!vram)
        return false;
    edid_make(c->edid_block, (unsigned)c->gpu.width, (unsigned)c->gpu.height);
    vga_init(&c->vga, d, vram, (uint32_t)size, true);
    c->vga.edid = c->gpu.edid ? c->edid_block : NULL;
    c->gpu.active = active;
    if (virtio_gpu_realize(d, error)) {
        vga_attach(&c->vga, c->gpu.display);
        return true;
    }
    vga_finish(&c->vga);
    return false;
}

static void unrealize(struct device *d)
{
    struct virtio_vga *c = (struct virtio_vga *)d;
    vga_detach(&c->vga);
    virtio_gpu_unrealize(d);
    vga_finish(&c->vga);
}

static void reset(struct device *d)
{
    struct virtio_vga *c = (struct virtio_vga *)d;
    virtio_device_reset(d);
    g_mutex_lock(&d->lock);
    vga_reset(&c->vga);
    g_mutex_unlock(&d->lock);
}

static void save(struct device *d, struct state_writer *w)
{
    virtio_gpu_save(d, w);
    vga_save(&((struct virtio_vga *)d)->vga, w);
}

/* The VGA first: it gives way when the GPU shows something. */
static bool load(struct device *d, struct state_reader *r, GError **error)
{
    return vga_load(&((struct virtio_vga *)d)->vga, r, error) && virtio_gpu_load(d, r, error);
}

#define T struct virtio_vga
static const struct device_prop props[] = {
    { "vgamem_mb", PROP_UINT, offsetof(T, megabytes), 1, 256, .def = "8", .help = "memory of the VGA in MiB, a power of two" },
    VIRTIO_GPU_PROPS(T), VIRTIO_PCI_PROPS(struct virtio_gpu, "3"), { NULL }
};
static const struct device_field fields[] = { VIRTIO_FIELDS(struct virtio_gpu), VIRTIO_GPU_FIELDS(T, gpu), VGA_FIELDS(T), { NULL } };
static const struct virtio_class gpu = VIRTIO_GPU_CLASS("virtio-vga", 0x00, stop, pci_more);

extern const struct device_class virtio_vga_class;
const struct device_class virtio_vga_class = {
    .name = "virtio-vga", .help = "virtio graphics card that is a VGA until its driver comes", .bus = DEV_BUS_PCI, .size = sizeof(T), .props = props,
    .fields = fields, .user_creatable = true, .realize = realize, .reset = reset, .unrealize = unrealize, .save = save,
    .load = load, .bus_class = &gpu,
};
