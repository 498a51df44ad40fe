# SPDX-License-Identifier: GPL-2.0-or-later
"""PCI Express root ports and bridges: disks and cards behind them, and those that come and go while Debian's kernel runs."""
import time

import pytest

import vmm

BOOT = 120
BLOCK = ("virtio_pci", "virtio_blk")

# Does what the host says on the console, one line each.
AGENT = """
disks() { echo "VT disks" $(ls /sys/block | grep -v -e loop -e ram); }
cards() { echo "VT cards" $(ls /sys/class/net | grep -v lo); }
functions() { echo "VT functions" $(ls /sys/bus/pci/devices); }
functions; disks
while read word a b; do
    case $word in
    disk) await "opens /dev/$a"; echo "VT got $a $(cat /sys/block/$a/serial)" ;;
    nodisk) await "[ ! -e /sys/block/$a ]"; wait; disks ;; # a disk's name is free when the last that has it open has gone
    write) echo "$b" > /tmp/w; dd if=/tmp/w of=/dev/$a conv=fsync,notrunc 2>/dev/null && echo "VT written" ;;
    card) await "[ -e /sys/class/net/eth0 ]"; ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up; ping -c 2 -w 20 10.0.2.2 > /tmp/ping && echo "VT pinged" ;;
    nocard) await "[ ! -e /sys/class/net/eth0 ]"; cards ;;
    power) echo $b > /sys/bus/pci/slots/$a/power; echo "VT power $?" ;;
    functions) functions ;;
    there) await "[ -e /sys/bus/pci/devices/$a ]"; echo "VT there" ;;
    away) await "[ ! -e /sys/bus/pci/devices/$a ]"; echo "VT away" ;;
    busy) exec 5<>/dev/$a; d=/proc/self/fd/5 # by its name, dd would make a file where the disk was
          for i in 1 2 3; do while dd if=/dev/zero of=$d bs=64k count=64 conv=notrunc 2>/dev/null && dd if=$d of=/dev/null bs=4k 2>/dev/null; do :; done & done
          exec 5<&-; echo "VT busy" ;;
    disks) disks ;;
    end) break ;;
    esac
done
"""


def say(m, text, wait, deadline=60, why="the guest does not answer"):
    m.process.stdin.write(text.encode() + b"\n")
    m.process.stdin.flush()
    return m.wait_text(wait, deadline, why)


def ports(n, first=1):
    """As libvirt lays them out: functions of slot 2, eight each."""
    out = []
    for i in range(n):
        multi = ",multifunction=on" if i % 8 == 0 else ""
        out += ["-device", f"pcie-root-port,port={16 + i},chassis={first + i},slot={first + i},id=p{first + i},bus=pcie.0,addr={2 + i // 8:#x}.{i % 8}{multi}"]
    return out


def none_drive(path, node):
    return ("-drive", f"file={path},format=raw,if=none,id={node}")


def gone(m, name, deadline=30):
    event = m.qmp.wait_event("DEVICE_DELETED", deadline)
    while event["data"].get("device") != name:
        event = m.qmp.wait_event("DEVICE_DELETED", deadline)


def test_disk_comes_and_goes_and_comes_again(linux, image):
    path = image(4, "a")
    m = linux(*ports(2), *none_drive(path, "d"), script=AGENT, modules=BLOCK, qmp=True)
    m.wait_text("VT disks\r\n", BOOT)
    q = m.qmp
    for n in range(3):
        began = time.monotonic()
        q.command("device_add", driver="virtio-blk-pci", id=f"disk{n}", drive="d", bus="p1", serial=f"round{n}")
        say(m, "disk vda", f"VT got vda round{n}", 20, "the guest does not see a disk that was plugged in")
        assert time.monotonic() - began < 3 * vmm.SLOW, "plugging takes seconds"
        text = f"written in round {n}"
        say(m, f"write vda {text}", "VT written")
        with open(path, "rb") as f:
            assert f.read(64).startswith(text.encode()), "what the guest wrote to a plugged disk is not in its image"
        q.unplug(f"disk{n}")
        assert "already in the process" in q.execute("device_del", id=f"disk{n}")["error"]["desc"]
        gone(m, f"disk{n}")
        say(m, "nodisk vda", "VT disks\r\n", 20, "the guest keeps a disk that is gone")
    buses = q.command("query-pci")[0]["devices"]
    p1 = next(d for d in buses if d["qdev_id"] == "p1")
    assert p1["pci_bridge"]["devices"] == [] and p1["pci_bridge"]["bus"]["secondary"] == 1
    say(m, "end", "VT done")
    m.wait(30)


def test_net_card_comes_and_goes(linux):
    m = linux(*ports(1), "-netdev", "user,id=n", script=AGENT, modules=("virtio_pci", "virtio_net"), qmp=True)
    m.wait_text("VT disks", BOOT)
    for n in range(2):
        m.qmp.command("device_add", driver="virtio-net-pci", id=f"card{n}", netdev="n", bus="p1")
        say(m, "card", "VT pinged", 60, "a plugged network card does not work")
        m.qmp.unplug(f"card{n}")
        gone(m, f"card{n}")
        say(m, "nocard", "VT cards\r\n")
    say(m, "end", "VT done")
    m.wait(30)


def test_eight_ports_at_once(linux, image):
    drives = [none_drive(image(4, f"i{n}"), f"d{n}") for n in range(8)]
    m = linux(*ports(8), *sum(drives, ()), "-smp", "2", script=AGENT, modules=BLOCK, qmp=True)
    m.wait_text("VT disks\r\n", BOOT)
    for n in range(8):
        m.qmp.command("device_add", driver="virtio-blk-pci", id=f"disk{n}", drive=f"d{n}", bus=f"p{n + 1}", serial=f"S{n}")
    for n in range(8):
        say(m, f"disk vd{'abcdefgh'[n]}", f"VT got vd{'abcdefgh'[n]} S")
    for n in range(8):
        m.qmp.unplug(f"disk{n}")
    for n in range(8):
        m.qmp.wait_event("DEVICE_DELETED", 60)
    say(m, "nodisk vdh", "VT disks\r\n")
    say(m, "end", "VT done")
    m.wait(30)


BEHIND = {
    "root port": ("-device", "pcie-root-port,id=r,chassis=1", "-device", "virtio-blk-pci,drive=d,bus=r,serial=X"),
    "switch": ("-device", "pcie-root-port,id=r,chassis=1", "-device", "x3130-upstream,id=u,bus=r", "-device", "xio3130-downstream,id=w,bus=u,chassis=2",
               "-device", "xio3130-downstream,id=y,bus=u,chassis=3", "-device", "virtio-blk-pci,drive=d,bus=y,serial=X"),
    "conventional": ("-device", "pcie-root-port,id=r,chassis=1", "-device", "pcie-pci-bridge,id=b,bus=r", "-device", "pci-bridge,id=c,bus=b,chassis_nr=5,addr=3",
                     "-device", "virtio-blk-pci,drive=d,bus=c,addr=7,serial=X"),
    "INTx": ("-device", "pcie-root-port,id=r,chassis=1", "-device", "pcie-pci-bridge,id=b,bus=r", "-device", "pci-bridge,id=c,bus=b,chassis_nr=5,addr=3",
             "-device", "virtio-blk-pci,drive=d,bus=c,addr=7,serial=X,vectors=0"),
}


@pytest.mark.parametrize("way", BEHIND)
def test_disk_behind(linux, image, way):
    path = image(4, "a")
    m = linux(*none_drive(path, "d"), *BEHIND[way], script=AGENT, modules=BLOCK)
    m.wait_text("VT disks vda\r\n", BOOT, "the guest does not find a disk behind bridges")
    say(m, "disk vda", "VT got vda X")
    say(m, "write vda from behind", "VT written")
    with open(path, "rb") as f:
        assert f.read(32).startswith(b"from behind")
    say(m, "end", "VT done")
    m.wait(30)


def test_plugged_before_the_guest_runs(linux, image):
    m = linux(*ports(1), *none_drive(image(4, "a"), "d"), *none_drive(image(4, "b"), "e"), "-S", script=AGENT, modules=BLOCK, qmp=True)
    m.qmp.command("device_add", driver="virtio-blk-pci", id="first", drive="e", bus="p1", serial="FIRST")
    m.qmp.unplug("first")
    gone(m, "first")
    m.qmp.command("device_add", driver="virtio-blk-pci", id="disk", drive="d", bus="p1", serial="EARLY")
    m.qmp.command("cont")
    m.wait_text("VT disks vda\r\n", BOOT)
    say(m, "disk vda", "VT got vda EARLY")
    say(m, "end", "VT done")
    m.wait(30)


def test_guest_switches_the_slot_off(linux, image):
    m = linux(*ports(1), *none_drive(image(4, "a"), "d"), "-device", "virtio-blk-pci,drive=d,bus=p1,id=disk", script=AGENT, modules=BLOCK, qmp=True)
    m.wait_text("VT disks vda\r\n", BOOT)
    assert m.qmp.command("query-status")["running"]
    say(m, "power 1 0", "VT power 0")
    gone(m, "disk")
    say(m, "functions", "VT functions 0000:00:00.0 0000:00:02.0 0000:00:1f.0 0000:00:1f.2\r\n")
    say(m, "end", "VT done")
    m.wait(30)


REFUSED = [
    (dict(driver="virtio-rng-pci"), "Bus 'pcie.0' does not support hotplugging"),
    (dict(driver="virtio-rng-pci", bus="p9"), "Bus 'p9' not found"),
    (dict(driver="virtio-rng-pci", bus="p1", addr="1"), "only allows plugging into slot 0"),
    (dict(driver="virtio-rng-pci", bus="fixed"), "unsupported by the port device 'fixed'"),
    (dict(driver="virtio-rng-pci", bus="full"), "all slots of the PCI bus 'full' are taken"),
    (dict(driver="virtio-rng-pci", bus="full", addr="0"), "is taken by 'rng'"),
    (dict(driver="virtio-rng-pci", bus="full", addr="0.1"), "plug function 0 last"),
    (dict(driver="pcie-root-port", chassis=9), "Bus 'pcie.0' does not support hotplugging"),
]


def test_what_cannot_come_is_refused(machine, flat):
    m = machine("-M", "q35", "-m", "64", "-nodefaults", "-display", "none", "-S", "-kernel", flat("hello"), *ports(1), "-device",
                "pcie-root-port,id=fixed,chassis=7,hotplug=off", "-device", "pcie-root-port,id=full,chassis=8", "-device", "virtio-rng-pci,id=rng,bus=full",
                qmp=True)
    for arguments, text in REFUSED:
        answer = m.qmp.execute("device_add", **arguments)
        assert text in answer.get("error", {}).get("desc", ""), (arguments, answer)
    assert "does not support hotplugging" in m.qmp.execute("device_del", id="full")["error"]["desc"]
    m.qmp.command("quit")
    m.wait(20)


@pytest.mark.parametrize("options,text", [
    (("pcie-root-port,id=a", "pcie-root-port,id=b"), "Can't add chassis slot"),
    (("virtio-rng-pci,bus=none",), "Bus 'none' not found"),
    (("xio3130-downstream,id=x",), "behind an upstream port"),
    (("x3130-upstream,id=x",), "behind a port"),
    (("pcie-root-port,id=a", "pcie-root-port,id=b,bus=a,chassis=3"), "root bus"),
    (("pcie-root-port,id=a", "virtio-rng-pci,bus=a,addr=4"), "slot 0"),
    (("pcie-root-port,id=a,mem-reserve=2G",), "no room for the windows"),
    (("pcie-root-port,id=a,bus-reserve=300",), "256 bus numbers"),
])
def test_bad_layout(flat, options, text):
    args = [a for o in options for a in ("-device", o)]
    status, _, err = vmm.run(("-M", "q35", "-m", "64", "-nodefaults", "-display", "none", "-kernel", flat("hello"), *args))
    assert status == 1 and text in err and err.count("\n") == 1, err


EVERY = [
    dict(driver="virtio-blk-pci", drive="d"), dict(driver="virtio-net-pci", netdev="n"), dict(driver="e1000e", netdev="o"), dict(driver="e1000"),
    dict(driver="rtl8139"), dict(driver="virtio-rng-pci"), dict(driver="virtio-balloon-pci"), dict(driver="virtio-serial-pci"),
    dict(driver="virtio-scsi-pci"), dict(driver="ich9-ahci"), dict(driver="nvme", serial="S", drive="e"), dict(driver="pcie-pci-bridge"),
]


def test_every_kind_of_device(linux, image):
    """Each comes, is there, and goes."""
    m = linux(*ports(len(EVERY)), *none_drive(image(4, "a"), "d"), *none_drive(image(4, "b"), "e"), "-netdev", "user,id=n", "-netdev", "user,id=o", script=AGENT,
              modules=BLOCK + ("virtio_net",), qmp=True)
    m.wait_text("VT disks\r\n", BOOT)
    known = {d["name"] for d in m.qmp.command("qom-list-types", implements="device")}
    here = []
    for n, what in enumerate(EVERY):
        if what["driver"] not in known:
            print(f"{what['driver']} is not there yet")
            continue
        m.qmp.command("device_add", id=f"x{n}", bus=f"p{n + 1}", **what)
        say(m, f"there 0000:{n + 1:02x}:00.0", "VT there", 20, f"the guest does not see a {what['driver']} that was plugged in")
        here.append(n)
    for n in here:
        m.qmp.unplug(f"x{n}")
    left = {f"x{n}" for n in here}
    while left:
        left.discard(m.qmp.wait_event("DEVICE_DELETED", 60)["data"]["device"])
    for n in here:
        say(m, f"away 0000:{n + 1:02x}:00.0", "VT away", 20, f"the guest keeps a {EVERY[n]['driver']} that is gone")
    say(m, "end", "VT done")
    m.wait(30)


def test_unplugged_while_in_use(linux, image):
    """The guest reads and writes all the time; it gets errors at the end, and the program lives."""
    path = image(16, "a")
    m = linux(*ports(2), *none_drive(path, "d"), "-smp", "2", script=AGENT, modules=BLOCK, qmp=True)
    m.wait_text("VT disks\r\n", BOOT)
    for n in range(2):
        m.qmp.command("device_add", driver="virtio-blk-pci", id=f"disk{n}", drive="d", bus=f"p{1 + n}")
        say(m, "disk vda", "VT got vda")
        say(m, "busy vda", "VT busy")
        m.qmp.unplug(f"disk{n}")
        gone(m, f"disk{n}")
        say(m, "nodisk vda", "VT disks\r\n", 30)
    say(m, "end", "VT done")
    m.wait(30)
