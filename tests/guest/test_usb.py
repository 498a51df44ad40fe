# SPDX-License-Identifier: GPL-2.0-or-later
"""USB with Debian's generic kernel: what is on the bus, keys and pointer, disks, coming and going."""
import hashlib
import os
import re
import struct

import pytest

import vmm

BOOT = 120
MODULES = ("xhci-pci", "usbhid", "hid-generic", "evdev")

LIST = r"""
sleep_until() { for i in $(seq 200); do eval "$1" && return; sleep 0.1; done; echo "VT never: $1"; }
list() {
    for d in /sys/bus/usb/devices/[0-9]*-*; do
        case $d in *:*) continue ;; esac
        [ -e $d/idVendor ] || continue
        i=$(ls -d $d/*:1.0); drv=$(basename $(readlink $i/driver 2>/dev/null) 2>/dev/null)
        echo "VT usb $(basename $d) $(cat $d/idVendor):$(cat $d/idProduct) speed $(cat $d/speed) class $(cat $i/bInterfaceClass) driver $drv name $(cat $d/product)"
    done
    echo "VT listed"
}
"""


@pytest.mark.parametrize("controller", ["qemu-xhci,p2=15,p3=15", "nec-usb-xhci", "qemu-xhci,msix=off", "qemu-xhci,msix=off,msi=off"])
def test_devices_are_found(linux, controller):
    m = linux("-device", f"{controller},id=usb", "-device", "usb-tablet,bus=usb.0,port=1", "-device", "usb-kbd,bus=usb.0", "-device", "usb-mouse,bus=usb.0,port=4",
              kernel="generic", modules=MODULES, script=LIST + """
sleep_until '[ $(ls -d /sys/bus/usb/drivers/usbhid/*-* | wc -l) -ge 3 ]'
list; grep -i xhci /proc/interrupts | sed 's/^/VT irq /'
""")
    m.wait_text("VT listed", BOOT)
    m.wait(30)
    text = m.text()
    assert re.search(r"VT usb 1-1 0627:0001 speed 12 class 03 driver usbhid name Vireo USB Tablet", text), m.tail()
    assert re.search(r"VT usb 1-2 0627:0001 speed 12 class 03 driver usbhid name Vireo USB Keyboard", text), m.tail()
    assert re.search(r"VT usb 1-4 0627:0001 speed 12 class 03 driver usbhid name Vireo USB Mouse", text), m.tail()
    assert ("IO-APIC" if "msi=off" in controller else "PCI-MSI") in re.search(r"VT irq (.*)", text).group(1), "the controller's interrupt is not what was asked for" + m.tail()
