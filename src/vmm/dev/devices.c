/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The list of all device classes. A new device adds one row. */
#include <string.h>

#include "vmm/core/device.h"

#define DEVICE_CLASSES(X)      \
    X(isa_serial_class)        \
    X(isa_debugcon_class)      \
    X(isa_debug_exit_class)    \
    X(pvpanic_class)           \
    X(port80_class)            \
    X(pci_host_class)          \
    X(lpc_class)               \
    X(virtio_blk_pci_class)    \
    X(virtio_blk_mmio_class)   \
    X(virtio_scsi_pci_class)   \
    X(virtio_scsi_mmio_class)  \
    X(scsi_hd_class)           \
    X(nvme_class)              \
    X(nvme_ns_class)           \
    X(scsi_cd_class)           \
    X(virtio_net_pci_class)    \
    X(virtio_net_mmio_class)   \
    X(virtio_rng_pci_class)    \
    X(virtio_rng_mmio_class)   \
    X(virtio_balloon_pci_class) \
    X(virtio_balloon_mmio_class) \
    X(virtio_mem_pci_class)    \
    X(pc_dimm_class)           \
    X(virtio_serial_pci_class) \
    X(virtio_serial_mmio_class) \
    X(virtconsole_class)       \
    X(virtserialport_class)    \
    X(virtio_gpu_pci_class)    \
    X(virtio_keyboard_class)   \
    X(virtio_mouse_class)      \
    X(virtio_tablet_class)     \
    X(cpu_device_class)        \
    X(e1000e_class)            \
    X(e1000_class)             \
    X(rtl8139_class)           \
    X(pcie_root_port_class)    \
    X(ioh3420_class)           \
    X(x3130_upstream_class)    \
    X(xio3130_downstream_class) \
    X(pcie_pci_bridge_class)   \
    X(pci_pci_bridge_class)    \
    X(intel_hda_class)         \
    X(ich9_intel_hda_class)    \
    X(hda_output_class)        \
    X(hda_duplex_class)        \
    X(hda_micro_class)         \
    X(qemu_xhci_class)         \
    X(nec_usb_xhci_class)      \
    X(usb_tablet_class)        \
    X(usb_mouse_class)         \
    X(usb_kbd_class)           \
    X(usb_storage_class)       \
    X(ahci_class)              \
    X(ide_hd_class)            \
    X(ide_cd_class)            \
    X(vga_class)               \
    X(virtio_vga_class)        \
    X(bochs_display_class)

#define X(class) extern const struct device_class class;
DEVICE_CLASSES(X)
#undef X

static const struct device_class *const classes[] = {
#define X(class) &class,
    DEVICE_CLASSES(X)
#undef X
    NULL
};

const struct device_class *device_class_find(const char *name)
{
    for (size_t i = 0; classes[i]; i++) {
        if (!strcmp(classes[i]->name, name))
            return classes[i];
    }
    /* Ours are all virtio 1.x: what QEMU calls non-transitional. */
    if (g_str_has_prefix(name, "virtio-") && g_str_has_suffix(name, "-pci-non-transitional")) {
        g_autofree char *plain = g_strndup(name, strlen(name) - strlen("-non-transitional"));
        return device_class_find(plain);
    }
    return g_str_has_suffix(name, "-x86_64-cpu") ? &cpu_device_class : NULL; /* before it the CPU model, which it checks itself */
}

const struct device_class *const *device_class_list(void)
{
    return classes;
}
