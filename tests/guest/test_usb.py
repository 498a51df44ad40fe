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


@pytest.mark.parametrize("controller", ["qemu-xhci,p2=15,p3=15", "nec-usb-xhci,msix=off", "qemu-xhci,msix=off,msi=off"])
def test_devices_are_found(linux, controller):
    m = linux("-device", f"{controller},id=usb", "-device", "usb-tablet,bus=usb.0,port=1", "-device", "usb-kbd,bus=usb.0", "-device", "usb-mouse,bus=usb.0,port=4",
              kernel="generic", modules=MODULES, script=LIST + """
await '[ $(ls -d /sys/bus/usb/devices/1-[1-9]:1.0/driver 2>/dev/null | wc -l) -ge 3 ]'
list; grep -i xhci /proc/interrupts | sed 's/^/VT irq /'
""")
    m.wait_text("VT listed", BOOT)
    m.wait(30)
    text = m.text()
    assert re.search(r"VT usb 1-1 0627:0001 speed 12 class 03 driver usbhid name Vireo USB Tablet", text), m.tail()
    assert re.search(r"VT usb 1-2 0627:0001 speed 12 class 03 driver usbhid name Vireo USB Keyboard", text), m.tail()
    assert re.search(r"VT usb 1-4 0627:0001 speed 12 class 03 driver usbhid name Vireo USB Mouse", text), m.tail()
    assert ("IO-APIC" if "msi=off" in controller else "PCI-MSI") in re.search(r"VT irq (.*)", text).group(1), "the controller's interrupt is not what was asked for" + m.tail()


DISK = ("xhci-pci", "usb-storage", "sd_mod", "ext4", "crc32c_generic")


@pytest.mark.parametrize("ports,speed", [("p2=4,p3=4", "5000"), ("p2=4,p3=0", "480")])
def test_disk_is_read_and_written(linux, work, ports, speed):
    path = os.path.join(work, "disk.img")
    data = os.urandom(8 << 20)
    with open(path, "wb") as f:
        f.write(data)
    m = linux("-device", f"qemu-xhci,id=usb,{ports}", "-drive", f"file={path},format=raw,if=none,id=d", "-device",
              "usb-storage,bus=usb.0,port=2,drive=d,serial=S-1,removable=on", kernel="generic", modules=DISK, script=LIST + """
await 'opens /dev/sda'
list
echo "VT disk $(cat /sys/block/sda/size) $(cat /sys/block/sda/removable) $(cat /sys/block/sda/device/model | xargs) $(cat /sys/bus/usb/devices/*-2/serial)"
echo "VT sum $(md5sum < /dev/sda | cut -c 1-32)"
tr '\\0' x < /dev/zero | dd of=/dev/sda bs=64k count=48 seek=16 iflag=fullblock conv=fsync 2>/dev/null
dd if=/dev/sda of=/dev/null bs=512 count=300 iflag=direct 2>/dev/null && echo "VT small"
dd if=/dev/sda of=/dev/null bs=4M iflag=direct 2>/dev/null && echo "VT large"
""")
    m.wait_text("VT large", BOOT, "the guest could not use its disk")
    m.wait(30)
    text = m.text()
    assert f"VT sum {hashlib.md5(data).hexdigest()}" in text, m.tail()
    assert "VT disk 16384 1 USB DISK S-1" in text, m.tail()
    assert re.search(rf"VT usb [12]-2 46f4:0001 speed {speed} class 08 driver usb-storage", text), m.tail()
    with open(path, "rb") as f:
        now = f.read()
    assert now == data[:1 << 20] + b"x" * (3 << 20) + data[4 << 20:], "the image is not what the guest wrote"


EVENTS = LIST + r"""
find_event() { for e in /sys/class/input/event*; do case "$(cat $e/device/name)" in *"$1"*) opens /dev/input/$(basename $e) && echo /dev/input/$(basename $e) ;; esac; done; }
await '[ -n "$(find_event Tablet)" ] && [ -n "$(find_event Keyboard)" ] && [ -n "$(find_event "USB Mouse")" ]'
k=$(find_event "USB Keyboard"); t=$(find_event "USB Tablet"); p=$(find_event "USB Mouse")
exec 3< $k 4< $t 5< $p # open: from now on the guest asks for reports
(timeout 60 dd bs=24 count=12 <&3 2>/dev/null | hexdump -v -e '24/1 "%02x" "\n"' | sed 's/^/VT key /') &
(timeout 60 dd bs=24 count=9 <&4 2>/dev/null | hexdump -v -e '24/1 "%02x" "\n"' | sed 's/^/VT ptr /') &
(timeout 60 dd bs=24 count=5 <&5 2>/dev/null | hexdump -v -e '24/1 "%02x" "\n"' | sed 's/^/VT rel /') &
for d in /sys/bus/usb/devices/1-1; do echo 100 > $d/power/autosuspend_delay_ms; echo auto > $d/power/control; done
await '[ "$(cat /sys/bus/usb/devices/1-1/power/runtime_status)" = suspended ]'
echo "VT ready"
wait
"""


def events(text, kind):
    """(type, code, value) of the events that dd read, without those that only close a report."""
    raw = [bytes.fromhex(line) for line in re.findall(rf"VT {kind} ([0-9a-f]{{48}})", text)]
    return [e for e in (struct.unpack("<16xHHi", r) for r in raw) if e[0] not in (0, 4)]


def test_keys_and_pointer(linux):
    """The tablet sleeps meanwhile, and wakes its port."""
    m = linux("-device", "qemu-xhci,id=usb", "-device", "usb-tablet,bus=usb.0", "-device", "usb-kbd,bus=usb.0", "-device", "usb-mouse,bus=usb.0",
              kernel="generic", modules=MODULES, script=EVENTS, qmp=True)
    m.wait_text("VT ready", BOOT)
    assert "VT never" not in m.text(), m.tail()
    # In one request: a key that is held for a quarter of a second repeats.
    m.qmp.command("input-send-event", events=[{"type": "key", "data": {"down": down, "key": {"type": "qcode", "data": key}}}
                                              for key, down in (("ctrl", True), ("a", True), ("a", False), ("ctrl", False))])
    m.qmp.command("input-send-event", events=[{"type": "abs", "data": {"axis": "x", "value": 0x1234}}, {"type": "abs", "data": {"axis": "y", "value": 0x7fff}}])
    for down in (True, False):
        m.qmp.command("input-send-event", events=[{"type": "btn", "data": {"down": down, "button": "left"}}])
    m.qmp.command("input-send-event", events=[{"type": "rel", "data": {"axis": "x", "value": 5}}, {"type": "rel", "data": {"axis": "y", "value": -300}}])
    m.wait_text("VT done", 90)
    moved = events(m.text(), "rel")
    assert (2, 0, 5) in moved and sum(e[2] for e in moved if e[:2] == (2, 1)) < -120, f"the mouse said {moved}" + m.tail()
    keys, pointer = events(m.text(), "key"), events(m.text(), "ptr")
    assert keys == [(1, 29, 1), (1, 30, 1), (1, 30, 0), (1, 29, 0)], f"the keyboard said {keys}" + m.tail()
    assert (3, 0, 0x1234) in pointer and (3, 1, 0x7fff) in pointer and (1, 272, 1) in pointer and (1, 272, 0) in pointer, f"the tablet said {pointer}" + m.tail()


def test_come_and_go(linux, work):
    path = os.path.join(work, "disk.img")
    with open(path, "wb") as f:
        f.write(b"u" * (1 << 20))
    m = linux("-device", "qemu-xhci,id=usb", "-drive", f"file={path},format=raw,if=none,id=d", kernel="generic", modules=MODULES + DISK, qmp=True, script=LIST + r"""
echo "VT empty"
await 'opens /dev/sda'; echo "VT sum $(md5sum < /dev/sda | cut -c 1-32)"
await '[ ! -e /sys/block/sda ]'; echo "VT disk went"
await '[ -d /sys/bus/usb/devices/1-3 ]'; sleep 0.5; list
await '[ ! -d /sys/bus/usb/devices/1-3 ]'; echo "VT tablet went"
""")
    m.wait_text("VT empty", BOOT)
    m.qmp.command("device_add", driver="usb-storage", id="stick", bus="usb.0", drive="d")
    m.wait_text(f"VT sum {hashlib.md5(b'u' * (1 << 20)).hexdigest()}", 60)
    m.qmp.command("device_del", id="stick")
    assert m.qmp.wait_event("DEVICE_DELETED")["data"]["device"] == "stick"
    m.wait_text("VT disk went", 60)
    m.qmp.command("device_add", driver="usb-tablet", id="pen", bus="usb.0", port="3")
    m.wait_text("VT usb 1-3 0627:0001", 60)
    assert "already taken" in m.qmp.execute("device_add", driver="usb-mouse", bus="usb.0", port="3")["error"]["desc"]
    m.qmp.command("device_del", id="pen")
    m.qmp.wait_event("DEVICE_DELETED")
    m.wait_text("VT tablet went", 60)
    m.wait(30)


def test_what_is_refused(machine):
    for words, message in (("-device usb-tablet", "there is no USB controller; put -device qemu-xhci before it"),
                           ("-usb -device usb-kbd,bus=usb-bus.0,port=9", "the controller has the ports 1 to 4"),
                           ("-usb -device usb-kbd,port=1.2", "there are no hubs yet"),
                           ("-device qemu-xhci,p2=1,p3=0 -usbdevice mouse -device usb-kbd -device usb-kbd -device usb-kbd -device usb-kbd -device usb-kbd", "all 1 ports"),
                           ("-device ich9-usb-ehci1", "'ich9-usb-ehci1' is not there yet"), ("-usb -device usb-storage", "give drive=ID")):
        m = machine("-nodefaults", "-display", "none", "-accel", "jit", *words.split())
        m.wait(20, status=1)
        assert message in m.stderr(), m.stderr()
