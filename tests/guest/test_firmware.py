# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine without -kernel starts Debian's SeaBIOS, which finds its memory, tables and disks, and boots from them."""
import os
import shutil
import subprocess

import initramfs
import pytest

BASE = ("-machine", "q35", "-accel", "jit", "-m", "256", "-nodefaults", "-display", "none", "-serial", "stdio")
EXIT = ("-device", "isa-debug-exit,iobase=0xf4")

BUSES = {
    "virtio": lambda d: ["-device", f"virtio-blk-pci,drive={d}"],
    "virtio behind a port": lambda d: ["-device", "pcie-root-port,id=p,chassis=1", "-device", f"virtio-blk-pci,drive={d},bus=p"],
    "scsi": lambda d: ["-device", "virtio-scsi-pci", "-device", f"scsi-hd,drive={d}"],
    "nvme": lambda d: ["-device", f"nvme,drive={d},serial=1"],
    "sata": lambda d: ["-device", f"ide-hd,drive={d}"],
    "usb": lambda d: ["-device", "qemu-xhci", "-device", f"usb-storage,drive={d}"],
}


def drive(name, path):
    return ["-drive", f"if=none,id={name},file={path},format=raw"]


@pytest.fixture
def sector(flat, work):
    """sector(letter): the path of a disk with a boot sector that prints the letter."""
    def make(letter, *defines):
        path = os.path.join(work, f"disk-{letter}")
        shutil.copy(flat("bootsector", f"LETTER={letter}", *defines), path)
        os.truncate(path, 16 << 20)
        return path
    return make


@pytest.mark.parametrize("bus", BUSES)
def test_boot_sector(machine, sector, bus):
    m = machine(*BASE, *EXIT, *drive("d", sector("X")), *BUSES[bus]("d"))
    m.wait_text("boot sector X", 30, "firmware did not start from the disk")
    m.wait(20, 0x55)
    entries = ord(m.text().split("map entries: ")[1][0]) - ord("0")
    assert entries >= 6, "the memory map that firmware gives is short"


def test_order_by_bootindex(machine, sector):
    """The disk with the lowest bootindex is first, whatever bus it is on and in whatever order the disks were named.
    Not the whole line: firmware may put a character of its own between the first ones."""
    disks = [*drive("a", sector("A")), *drive("b", sector("B")), *drive("c", sector("C"))]
    m = machine(*BASE, *EXIT, *disks, "-device", "virtio-blk-pci,drive=a,bootindex=3", "-device", "ide-hd,drive=b,bootindex=2",
                "-device", "virtio-scsi-pci,id=s", "-device", "scsi-hd,bus=s.0,drive=c,scsi-id=4,lun=0,bootindex=1")
    m.wait_text("sector C", 30, "bootindex=1 on a SCSI disk is not the first")
    m.wait(20, 0x55)
    m = machine(*BASE, *EXIT, *disks, "-device", "virtio-blk-pci,drive=a,bootindex=3", "-device", "ide-hd,drive=b,bootindex=2",
                "-device", "virtio-scsi-pci,id=s", "-device", "scsi-hd,bus=s.0,drive=c,scsi-id=4,lun=0")
    m.wait_text("sector B", 30, "bootindex=2 on a SATA disk is not the first")
    m.wait(20, 0x55)
    m = machine(*BASE, *EXIT, *disks, "-device", "pcie-root-port,id=p,chassis=1", "-device", "virtio-blk-pci,drive=a,bus=p,bootindex=1",
                "-device", "ide-hd,drive=b,bootindex=2")
    m.wait_text("sector A", 30, "bootindex=1 on a virtio disk behind a port is not the first")
    m.wait(20, 0x55)
    m = machine(*BASE, *EXIT, *disks, "-device", "qemu-xhci,p3=0", "-device", "usb-storage,port=2,drive=a,bootindex=1", "-device", "ide-hd,drive=b,bootindex=2")
    m.wait_text("sector A", 30, "bootindex=1 on a USB disk is not the first")


def test_starts_again_after_a_reset(machine, sector):
    m = machine(*BASE, *EXIT, *drive("d", sector("R", "REBOOT")), *BUSES["virtio"]("d"))
    m.wait(40, 0x55)
    assert m.text().count("boot sector R") == 2, "firmware does not start again after a reset" + m.tail()


def test_nothing_to_boot(machine):
    m = machine(*BASE, qmp=True)
    m.wait_text("No bootable device", 30)
    assert m.qmp.command("query-status")["status"] == "running"


@pytest.fixture(scope="module")
def cd(kernels, tmp_path_factory):
    """An image with GRUB, Debian's kernel and a RAM disk, that starts as a CD and as a disk."""
    tree = tmp_path_factory.mktemp("cd")
    os.makedirs(tree / "iso/boot/grub")
    shutil.copy(f"{kernels}/cloud/vmlinuz", tree / "iso/vmlinuz")
    with open(tree / "iso/initrd", "wb") as f:
        f.write(initramfs.build(kernels, "cloud", (), 'echo "VT cpus $(nproc) $(dmesg | grep -c "ACPI: RSDP")"; '
                                'cat /sys/class/dmi/id/sys_vendor | sed "s/^/VT vendor /"'))
    with open(tree / "iso/boot/grub/grub.cfg", "w", encoding="ascii") as f:
        f.write("set timeout=0\nmenuentry x {\n linux /vmlinuz console=ttyS0 panic=-1 quiet\n initrd /initrd\n}\n")
    image = tree / "boot.iso"
    subprocess.run(["grub-mkrescue", "-o", image, tree / "iso"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return image


@pytest.mark.parametrize("how", ["disk", "cd"])
def test_grub_starts_debian(machine, cd, how):
    device = ["-device", "ide-cd,drive=d,bus=ide.0"] if how == "cd" else ["-device", "virtio-blk-pci,drive=d"]
    m = machine(*BASE, "-no-reboot", "-smp", "2", "-drive", f"if=none,id=d,file={cd},format=raw,readonly=on", *device)
    m.wait_text("VT done", 90, "Debian does not start through firmware and GRUB")
    m.wait(30, 0)
    assert "VT cpus 2 1" in m.text(), "the CPUs or the ACPI tables did not come through firmware" + m.tail()
    assert "VT vendor Vireo" in m.text(), "the SMBIOS tables did not come through firmware" + m.tail()


CARDS = [["-nic", "user,model=virtio-net-pci", "-boot", "order=n"], ["-netdev", "user,id=n", "-device", "e1000e,netdev=n,bootindex=1"]]


@pytest.mark.parametrize("card", CARDS, ids=["virtio", "e1000e"])
def test_network(machine, card):
    """iPXE in the card's option ROM gets an address; nobody offers a file."""
    m = machine(*BASE, *card)
    m.wait_text("10.0.2.15/255.255.255.0", 60, "iPXE did not start, or got no address")


def test_no_option_rom_where_nobody_asks(machine):
    m = machine(*BASE, "-nic", "user,model=virtio-net-pci")
    m.wait_text("No bootable device", 30)
    assert "iPXE" not in m.text()


def test_errors(machine, work):
    empty = os.path.join(work, "empty")
    open(empty, "wb").close()
    for args, words in (["-bios", "/does/not/exist"], "'/does/not/exist'"), (["-bios", empty], "no BIOS image"), (["-boot", "order=x"], "letters a, c, d and n"):
        m = machine(*BASE, *args)
        m.wait(10, 1)
        assert words in m.stderr(), m.stderr()
