# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's kernels on `-accel kvm`, under the real kvm.ko and kvm-amd.ko: to user space, with a disk and a network, and power off."""
import pytest

import vmm

BOOT = 150

# The sums of 4 MiB: known bytes, so that what comes back can be told from what should.
WORK = """
echo "VT cpus $(grep -c '^processor' /proc/cpuinfo)"
echo "VT clock $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
disk=/dev/vda
echo "VT disk $(cat /sys/block/vda/size)"
i=0; while [ $i -lt 512 ]; do echo "block $i of the disk's test, written by the guest and read back"; i=$((i + 1)); done > /tmp/pattern
dd if=/tmp/pattern of=$disk bs=4096 seek=100 conv=fsync 2>/dev/null
echo 3 > /proc/sys/vm/drop_caches
[ "$(dd if=$disk bs=4096 skip=100 count=16 2>/dev/null | head -c $(wc -c < /tmp/pattern) | sha256sum)" = "$(sha256sum < /tmp/pattern)" ] && echo "VT disk good"
ip link set lo up; ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2
ping -c 2 -W 10 10.0.2.2 > /dev/null && echo "VT ping good"
[ "$(nc -w 20 10.0.2.2 @PORT@ < /dev/null | sha256sum)" = "@SUM@  -" ] && echo "VT tcp good"
dmesg | grep kvm-guest | sed 's/^/VT pv /'
echo "VT irqs $(grep -c . /proc/interrupts)"
[ $(grep -c '^processor' /proc/cpuinfo) = $(grep 'LOC:' /proc/interrupts | tr -s ' ' '\\n' | grep -c '^[1-9]') ] && echo "VT timers good"
"""

CASES = [("cloud", 1, "on"), ("cloud", 2, "split"), ("cloud", 2, "off"), ("generic", 2, "on"), ("generic", 1, "split"), ("generic", 1, "off")]


@pytest.fixture
def server(outer):
    """(port, digest): in the outer guest, where the inner guest's 10.0.2.2 leads, a server that sends 1 MiB to whoever connects."""
    if not outer.shell("ls /tmp/served 2>/dev/null", check=False):
        outer.shell("head -c 1048576 /dev/urandom > /tmp/served")
        outer.shell("setsid nc -ll -p 5555 -e cat /tmp/served > /dev/null 2>&1 < /dev/null & sleep 0.5")
    return 5555, outer.shell("sha256sum < /tmp/served").split()[0]


@pytest.mark.parametrize("kernel,cpus,irqchip", CASES)
def test_debian_with_disk_and_network(linux, outer, server, kernel, cpus, irqchip):
    disk = f"/tmp/disk-{kernel}-{cpus}-{irqchip}"
    outer.shell(f"head -c 16777216 /dev/zero > {disk}")
    port, digest = server
    m = linux("-machine", f"q35,kernel-irqchip={irqchip}", "-smp", str(cpus), "-drive", f"file={disk},format=raw,if=virtio",
              "-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n" + (",romfile=" if vmm.IS_QEMU else ""), kernel=kernel,
              modules=("virtio_pci", "virtio_blk", "virtio_net", "af_packet"), script=WORK.replace("@PORT@", str(port)).replace("@SUM@", digest))
    try:
        m.wait_text("VT init x86_64 6.1", BOOT, f"Debian's {kernel} kernel with {cpus} vCPUs and kernel-irqchip={irqchip} does not run /init on KVM")
        m.wait_text(f"VT cpus {cpus}\r\n", 30)
        m.wait_text("VT disk 32768", 20)
        m.wait_text("VT disk good", 60, "what the guest writes to its virtio disk is not what it reads back")
        m.wait_text("VT ping good", 30, "the gateway of -netdev user does not answer pings")
        m.wait_text("VT tcp good", 60, "1 MiB over TCP through -netdev user comes changed, or not")
        m.wait_text("VT timers good", 30, "a vCPU gets no timer interrupts")
        m.wait_text("VT done", 30)
        m.wait(30, 0, "`poweroff -f` in the guest does not end the program with status 0")
        there = outer.shell(f"dd if={disk} bs=4096 skip=100 count=16 2>/dev/null | head -n 512 | tail -n 1")
        assert there.startswith("block 511 of the disk's test"), f"the guest's data are not in the image: {there!r}"
        assert "VT clock kvm-clock" in m.text(), "the guest does not find KVM's clock by CPUID"
        for feature in ("setup pv remote TLB flush", "setup PV IPIs", "setup PV sched yield") if cpus > 1 and irqchip != "off" else ():
            assert feature in m.text(), f"the guest's kernel does not find by CPUID what it calls '{feature}'"
    finally:
        outer.shell(f"rm -f {disk}")
