/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The names of the devices that QEMU 7.2 has for x86-64 (-device help, aliases included; CPUs left out). Who asks for one
 * that is in no row of devices.c is told that it is not there yet, instead of that there is no such thing. */
#include <stdlib.h>
#include <string.h>

#include "vmm/core/device.h"

static const char *const known[] = { /* sorted by strcmp */
    "AC97", "AMDVI-PCI", "ES1370", "VGA", "ac97", "acpi-erst", "adlib", "ahci", "am53c974", "amd-iommu", "ati-vga",
    "bochs-display", "ccid-card-emulated", "ccid-card-passthru", "cirrus-vga", "cs4231a", "ctucan_pci", "cxl-downstream",
    "cxl-rp", "cxl-type3", "cxl-upstream", "dc390", "e1000", "e1000-82540em", "e1000-82544gc", "e1000-82545em", "e1000e", "edu",
    "es1370", "floppy", "guest-loader", "gus", "hda-duplex", "hda-micro", "hda-output", "hv-syndbg", "hyperv-testdev",
    "i2c-ddc", "i6300esb", "i8042", "i82550", "i82551", "i82557a", "i82557b", "i82557c", "i82558a", "i82558b", "i82559a",
    "i82559b", "i82559c", "i82559er", "i82562", "i82801", "i82801b11-bridge", "ib700", "ich9-ahci", "ich9-intel-hda",
    "ich9-usb-ehci1", "ich9-usb-ehci2", "ich9-usb-uhci1", "ich9-usb-uhci2", "ich9-usb-uhci3", "ich9-usb-uhci4",
    "ich9-usb-uhci5", "ich9-usb-uhci6", "ide-cd", "ide-hd", "intel-hda", "intel-iommu", "ioh3420", "ipmi-bmc-extern",
    "ipmi-bmc-sim", "ipoctal232", "isa-applesmc", "isa-cirrus-vga", "isa-debug-exit", "isa-debugcon", "isa-fdc", "isa-ide",
    "isa-ipmi-bt", "isa-ipmi-kcs", "isa-parallel", "isa-serial", "isa-vga", "ivshmem-doorbell", "ivshmem-plain", "kvaser_pci",
    "loader", "lsi", "lsi53c810", "lsi53c895a", "mc146818rtc", "megasas", "megasas-gen2", "mioe3680_pci", "mptsas1068",
    "ne2k_isa", "ne2k_pci", "nec-usb-xhci", "nvdimm", "nvme", "nvme-ns", "nvme-subsys", "pc-dimm", "pc-testdev", "pci-bridge",
    "pci-bridge-seat", "pci-ipmi-bt", "pci-ipmi-kcs", "pci-ohci", "pci-serial", "pci-serial-2x", "pci-serial-4x", "pci-testdev",
    "pcie-pci-bridge", "pcie-root-port", "pcm3680_pci", "pcnet", "piix3-ide", "piix3-usb-uhci", "piix4-ide", "piix4-usb-uhci",
    "pvpanic", "pvpanic-pci", "pvrdma", "pvscsi", "pxb", "pxb-cxl", "pxb-pcie", "qemu-xhci", "qxl", "qxl-vga", "ramfb",
    "rocker", "rtl8139", "sb16", "scsi-block", "scsi-cd", "scsi-generic", "scsi-hd", "sd-card", "sdhci-pci", "secondary-vga",
    "sga", "smbus-ipmi", "tpci200", "tpm-crb", "tpm-tis", "tulip", "u2f-passthru", "usb-audio", "usb-bot", "usb-braille",
    "usb-ccid", "usb-ehci", "usb-host", "usb-hub", "usb-kbd", "usb-mouse", "usb-mtp", "usb-net", "usb-redir", "usb-serial",
    "usb-storage", "usb-tablet", "usb-uas", "usb-wacom-tablet", "vfio-pci", "vfio-pci-igd-lpc-bridge", "vfio-pci-nohotplug",
    "vhost-scsi", "vhost-scsi-pci", "vhost-scsi-pci-non-transitional", "vhost-scsi-pci-transitional", "vhost-user-blk",
    "vhost-user-blk-pci", "vhost-user-blk-pci-non-transitional", "vhost-user-blk-pci-transitional", "vhost-user-fs-device",
    "vhost-user-fs-pci", "vhost-user-gpio-device", "vhost-user-gpio-pci", "vhost-user-gpu", "vhost-user-gpu-pci",
    "vhost-user-i2c-device", "vhost-user-i2c-pci", "vhost-user-input", "vhost-user-input-pci", "vhost-user-rng",
    "vhost-user-rng-pci", "vhost-user-scsi", "vhost-user-scsi-pci", "vhost-user-scsi-pci-non-transitional",
    "vhost-user-scsi-pci-transitional", "vhost-user-vga", "vhost-user-vsock-device", "vhost-user-vsock-pci",
    "vhost-user-vsock-pci-non-transitional", "vhost-vsock-device", "vhost-vsock-pci", "vhost-vsock-pci-non-transitional",
    "virtconsole", "virtio-9p", "virtio-9p-device", "virtio-9p-pci", "virtio-9p-pci-non-transitional",
    "virtio-9p-pci-transitional", "virtio-balloon", "virtio-balloon-device", "virtio-balloon-pci",
    "virtio-balloon-pci-non-transitional", "virtio-balloon-pci-transitional", "virtio-blk", "virtio-blk-device",
    "virtio-blk-pci", "virtio-blk-pci-non-transitional", "virtio-blk-pci-transitional", "virtio-crypto-device",
    "virtio-crypto-pci", "virtio-gpu", "virtio-gpu-device", "virtio-gpu-gl", "virtio-gpu-gl-device", "virtio-gpu-gl-pci",
    "virtio-gpu-pci", "virtio-input-host", "virtio-input-host-device", "virtio-input-host-pci", "virtio-iommu",
    "virtio-iommu-device", "virtio-iommu-pci", "virtio-keyboard", "virtio-keyboard-device", "virtio-keyboard-pci", "virtio-mem",
    "virtio-mem-pci", "virtio-mouse", "virtio-mouse-device", "virtio-mouse-pci", "virtio-net", "virtio-net-device",
    "virtio-net-pci", "virtio-net-pci-non-transitional", "virtio-net-pci-transitional", "virtio-pmem", "virtio-pmem-pci",
    "virtio-rng", "virtio-rng-device", "virtio-rng-pci", "virtio-rng-pci-non-transitional", "virtio-rng-pci-transitional",
    "virtio-scsi", "virtio-scsi-device", "virtio-scsi-pci", "virtio-scsi-pci-non-transitional", "virtio-scsi-pci-transitional",
    "virtio-serial", "virtio-serial-device", "virtio-serial-pci", "virtio-serial-pci-non-transitional",
    "virtio-serial-pci-transitional", "virtio-tablet", "virtio-tablet-device", "virtio-tablet-pci", "virtio-vga",
    "virtio-vga-gl", "virtserialport", "vmbus-bridge", "vmcoreinfo", "vmgenid", "vmmouse", "vmware-svga", "vmxnet3",
    "x-pci-proxy-dev", "x3130-upstream", "xio3130-downstream",
    NULL
};

static int compare(const void *name, const void *row)
{
    return strcmp(name, *(const char *const *)row);
}

bool device_class_missing(const char *name)
{
    return !device_class_find(name) && bsearch(name, known, G_N_ELEMENTS(known) - 1, sizeof(known[0]), compare);
}

const char *const *device_class_known_list(void)
{
    return known;
}
