# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines that are saved in the middle of their work and go on in another process, or from a snapshot: every kind of disk, network card, display, sound
and input that is not virtio's, and what is under way with them."""
import json
import os
import re
import socket
import subprocess
import time

import pytest

import vmm
from test_sound import samples, soundtool, wav  # noqa: F401

pytestmark = pytest.mark.skipif(vmm.IS_QEMU, reason="the form of a saved machine is this program's own")
BOOT = 120
IMG = os.path.join(vmm.BUILD, "vireo-img")


def migrated(m):
    """Waits until it has gone."""
    end = time.monotonic() + 90 * vmm.SLOW
    while (info := m.qmp.command("query-migrate")).get("status") not in ("completed", "failed", "cancelled") and time.monotonic() < end:
        time.sleep(0.05)
    assert info["status"] == "completed", f"{info}" + m.tail()


def send_descriptor(m, f, name):
    request = json.dumps({"execute": "getfd", "arguments": {"fdname": name}}).encode() + b"\n"
    socket.send_fds(m.qmp.sock, [request], [f.fileno()])
    answer = m.qmp.reply()
    assert "return" in answer, f"getfd failed: {answer}"


def moved(m, path, machine, args):
    """Saves the machine into a file, ends the process, and starts another one with it."""
    with open(path, "wb") as f:
        send_descriptor(m, f, "state")
    m.qmp.command("migrate", uri="fd:state")
    migrated(m)
    m.qmp.command("quit")
    m.wait(30)
    to = machine(*args, "-incoming", "defer", qmp=True)
    with open(path, "rb") as f:
        send_descriptor(to, f, "state")
    to.qmp.command("migrate-incoming", uri="fd:state")
    return to


def no_kernel(m):
    """The options again, as the program wants them: -kernel and what belongs to it are part of what is loaded, and stay."""
    return [a for a in m.args[1:] if a != "-qmp" and not a.startswith("unix:")]


# ---- everything at work ----

DISKS = {"ide": 24, "scsi": 25, "usb": 26, "nvme": 27}
CDS = ("sr0", "sr1")
CARDS = {"e1000": 1, "e1000e": 2, "rtl8139": 3}
MODULES = ("ahci", "sd_mod", "sr_mod", "virtio_pci", "virtio_scsi", "nvme", "xhci-pci", "usb-storage", "usbhid", "hid-generic", "evdev", "e1000", "e1000e", "8139cp",
           "af_packet", "snd-hda-codec-generic", "snd-hda-intel", "virtio_balloon", "virtio_rng")
WORK = r"""
disk_of() { for d in /sys/block/*; do [ "$(cat $d/size)" = $(($1 * 2048)) ] && opens /dev/$(basename $d) && echo /dev/$(basename $d) && return; done; }
dd if=/dev/urandom of=/tmp/blob bs=1M count=1 2>/dev/null
number() { local n=; while [ -z "$n" ]; do n=$(cat $1); done; echo $n; } # of a file that may just be written
use_disk() {
    await "[ -n \"\$(disk_of $2)\" ]"
    d=$(disk_of $2); n=0
    while [ ! -e /tmp/stop ]; do
        dd if=/tmp/blob of=$d bs=64k seek=$((n % 20 * 16)) oflag=direct conv=notrunc 2>/dev/null || { echo "VT $1 cannot write"; break; }
        dd if=$d bs=64k skip=$((n % 20 * 16)) count=16 iflag=direct 2>/dev/null | cmp -s - /tmp/blob || { echo "VT $1 differs"; break; }
        n=$((n + 1)); echo $n > /tmp/n.$1
    done
}
use_cd() {
    await "opens /dev/$1"; n=0; sum=$(dd if=/dev/$1 bs=64k iflag=direct 2>/dev/null | md5sum)
    while [ ! -e /tmp/stop ]; do
        [ "$(dd if=/dev/$1 bs=64k iflag=direct 2>/dev/null | md5sum)" = "$sum" ] || { echo "VT $1 differs"; break; }
        n=$((n + 1)); echo $n > /tmp/n.$1
    done
}
use_card() {
    n=0; lost=0
    i=$(basename $(ls -d /sys/bus/pci/drivers/$3/*/net/*)); ip link set $i up; ip addr add 10.$2.0.15/24 dev $i
    while [ ! -e /tmp/stop ]; do
        ping -c 1 -W 5 -s 1000 10.$2.0.2 >/dev/null && n=$((n + 1)) || lost=$((lost + 1)); echo $n > /tmp/n.$1; echo $lost > /tmp/lost.$1
    done
}
"""


def everything(work):
    args = ["-object", "iothread,id=io", "-device", "ich9-ahci,id=ahci", "-device", "virtio-scsi-pci,id=scsi,iothread=io", "-device", "qemu-xhci,id=usb"]
    on = {"ide": "ide-hd,bus=ahci.1", "scsi": "scsi-hd,bus=scsi.0", "usb": "usb-storage,bus=usb.0", "nvme": "nvme,serial=N"}
    for name, size in DISKS.items():
        subprocess.run([IMG, "create", "-q", "-f", "qcow2", f"{work}/{name}.qcow2", f"{size}M"], check=True)
        args += ["-blockdev", f"driver=qcow2,node-name={name},file.driver=file,file.filename={work}/{name}.qcow2", "-device", f"{on[name]},drive={name}"]
    for name in CDS:
        with open(f"{work}/{name}", "wb") as f:
            f.write(os.urandom(1 << 20))
        args += ["-blockdev", f"driver=file,node-name=cd{name[-1]},filename={work}/{name},read-only=on"]
    for name, net in CARDS.items():
        args += ["-netdev", f"user,id={name},net=10.{net}.0.0/24", "-device", f"{name},netdev={name}"]
    return args + ["-device", "ide-cd,bus=ahci.2,drive=cd0", "-device", "scsi-cd,bus=scsi.0,drive=cd1", "-device", "usb-tablet,bus=usb.0", "-device", "usb-kbd,bus=usb.0", "-vga", "std",
                   "-audiodev", f"wav,id=a,path={work}/sound.wav", "-device", "ich9-intel-hda", "-device", "hda-duplex,audiodev=a", "-device", "virtio-balloon-pci",
                   "-device", "virtio-rng-pci"]


def screen(m, path):
    m.qmp.command("screendump", filename=path)
    with open(path, "rb") as f:
        return f.read()


def test_all_at_work(linux, machine, work, soundtool):  # noqa: F811
    frames = 48000 * 12
    drivers = {"e1000": "e1000", "e1000e": "e1000e", "rtl8139": "8139cp"}
    script = WORK + "\n".join(f"use_disk {n} {s} &" for n, s in DISKS.items()) + "\nuse_cd sr0 &\nuse_cd sr1 &\n" + "\n".join(f"use_card {n} {i} {drivers[n]} &" for n, i in CARDS.items()) + f"""
printf '\\033[?25lthe screen is kept' > /dev/tty1
await '[ -e /dev/snd/pcmC0D0p ]'
soundtool play /dev/snd/pcmC0D0p 48000 {frames} > /tmp/played 2>&1 &
find_event() {{ for e in /sys/class/input/event*; do case "$(cat $e/device/name)" in *"$1"*) opens /dev/input/$(basename $e) && echo /dev/input/$(basename $e) ;; esac; done; }}
await '[ -n "$(find_event "USB Keyboard")" ]'
dd bs=24 count=2 < $(find_event "USB Keyboard") 2>/dev/null | hexdump -v -e '24/1 "%02x" "\\n"' > /tmp/keys &
await '[ -e /tmp/n.ide -a -e /tmp/n.scsi -a -e /tmp/n.usb -a -e /tmp/n.nvme -a -e /tmp/n.e1000 -a -e /tmp/n.e1000e -a -e /tmp/n.rtl8139 -a -e /tmp/n.sr0 -a -e /tmp/n.sr1 ]'
echo "VT at work"
read line
echo "VT before $(cd /tmp; for f in n.*; do echo -n "$f=$(number $f) "; done)"
read line
for f in /tmp/n.*; do number $f > /tmp/then.${{f#*/n.}}; done
for f in /tmp/n.*; do await "[ \\$(cat $f) -gt \\$((\\$(cat /tmp/then.${{f#*/n.}}) + 1)) ]"; done # each goes on
touch /tmp/stop; wait
echo "VT after $(cd /tmp; for f in n.* lost.*; do echo -n "$f=$(cat $f) "; done)"
sed 's/^/VT key /' /tmp/keys; cat /tmp/played
"""
    args = everything(work)
    m = linux(*args, kernel="generic", modules=MODULES, extra=soundtool, script=script, qmp=True, append="net.ifnames=0")
    m.wait_text("VT at work", BOOT, "the guest did not come to work")
    assert "VT never" not in m.text(), m.tail()
    for what in ("snapshot-save", "snapshot-load"):  # first back in time, in the same process
        assert job(m, what, "j", tag="then", vmstate="nvme", devices=list(DISKS)) is None
        time.sleep(0.5)
    m.send("\n")
    before = dict(re.findall(r"n\.(\w+)=(\d+)", m.wait_text("VT before", 30) + m.wait_text("\n", 30)))
    picture = screen(m, f"{work}/before.ppm")
    m2 = moved(m, f"{work}/state", machine, no_kernel(m))
    m2.qmp.wait_event("RESUME", 60)
    assert screen(m2, f"{work}/after.ppm") == picture, "the screen is another one"
    for down in (True, False):
        m2.qmp.command("input-send-event", events=[{"type": "key", "data": {"down": down, "key": {"type": "qcode", "data": "a"}}}])
    m2.send("\n")
    text = m2.wait_text("VT after", 90, "the guest does not go on") + m2.wait_text("VT done", 60)
    after = dict(re.findall(r"(\w+\.\w+)=(\d+)", text))
    for name in [*DISKS, *CDS, *CARDS]:
        assert int(after[f"n.{name}"]) > int(before[name]) + 1, f"{name} stands still: {before[name]}, then {after}" + m2.tail()
    for name in CARDS:
        # What is under way when the machine goes back in time, and when it moves, may be lost.
        assert int(after[f"lost.{name}"]) <= 2, f"{name} loses packets: {after}" + m2.tail()
    assert "differs" not in text and "cannot" not in text, m2.tail()
    assert len(re.findall(r"VT key ", text)) == 2, m2.tail()
    assert "VT played" in text or "Broken pipe" in text, "the guest could not play on" + m2.tail()
    m2.wait(30)
    for name in DISKS:
        assert subprocess.run([IMG, "check", f"{work}/{name}.qcow2"], stdout=subprocess.PIPE, check=False).returncode == 0, f"the image of {name} is damaged"
    if "VT played" not in text:
        print("the guest could not keep up with its sound on this host: what was played is not looked at")
        return
    data, played = wav(f"{work}/sound.wav")[1], samples(frames)
    data = data[:-100000]  # behind the end the last buffer comes once more
    assert data and data in played, "what was played after the move is not in the file"
    assert played.index(data) + len(data) > len(played) - 200000, "the end of what was played is missing"


# ---- snapshots with memory ----

COUNT = """
n=0
await 'opens /dev/vda /dev/vdb'
while [ ! -e /tmp/stop ]; do
    n=$((n + 1))
    for d in /dev/vda /dev/vdb; do echo "number $n of $d" | dd of=$d bs=512 conv=sync,notrunc,fsync oflag=direct 2>/dev/null; done
    [ -e /tmp/ask ] && { rm /tmp/ask; echo "VT count $n disks $(head -n 1 /dev/vda) $(head -n 1 /dev/vdb)"; }
done &
while read line; do touch /tmp/ask; done
"""


def job(m, what, job_id, **arguments):
    """Runs one to its end; its error, or None."""
    m.qmp.command(what, **{"job-id": job_id, **arguments})
    end = time.monotonic() + 60 * vmm.SLOW
    while (found := [j for j in m.qmp.command("query-jobs", deadline=60) if j["id"] == job_id][0])["status"] != "concluded" and time.monotonic() < end:
        time.sleep(0.02)
    assert found["type"] == what and found["status"] == "concluded", f"{found}"
    m.qmp.command("job-dismiss", id=job_id)
    return found.get("error")


def count(m):
    """How far the guest has counted; its disks say the same, or nearly."""
    m.send("\n")
    m.wait_text("VT count ", 60)
    text = m.wait_text("\n", 30)
    n, a, b = (int(x) for x in re.match(r"(\d+) disks number (\d+) of /dev/vda number (\d+) of /dev/vdb", text).groups())
    assert a == b == n, f"the disks are not of the same time as the memory: {text}"
    return n


def qcow2_disks(work, *more):
    args = []
    for name in ("a", "b"):
        subprocess.run([IMG, "create", "-q", "-f", "qcow2", f"{work}/{name}.qcow2", "16M"], check=True)
        args += ["-blockdev", f"driver=qcow2,node-name={name},file.driver=file,file.filename={work}/{name}.qcow2", "-device", f"virtio-blk-pci,drive={name}"]
    return [*args, *more]


def snapshots(path):
    return json.loads(subprocess.run([IMG, "info", "--output", "json", "-U", path], check=True, stdout=subprocess.PIPE).stdout).get("snapshots", [])


def test_snapshots_with_memory(linux, machine, work, image):
    args = qcow2_disks(work)
    subprocess.run([IMG, "create", "-q", "-f", "qcow2", f"{work}/full.qcow2", "1M"], check=True)
    bad = (f"driver=qcow2,node-name=full,file.driver=blkdebug,file.image.driver=file,file.image.filename={work}/full.qcow2,"
           "file.inject-error.0.event=none,file.inject-error.0.errno=28,file.inject-error.0.iotype=write")
    m = linux(*args, "-blockdev", bad, modules=("virtio_pci", "virtio_blk"), script=COUNT, qmp=True)
    m.wait_text("VT init", BOOT)
    assert count(m) > 0
    # The last image has no room: none gets a snapshot, and the guest goes on.
    why = job(m, "snapshot-save", "j", tag="half", vmstate="a", devices=["a", "b", "full"])
    assert "No space left" in why, why
    assert not snapshots(f"{work}/a.qcow2") and not snapshots(f"{work}/b.qcow2")
    assert count(m) > 0 and m.qmp.command("query-status")["status"] == "running"
    m.qmp.command("blockdev-del", **{"node-name": "full"})
    assert job(m, "snapshot-save", "j0", tag="then", vmstate="a", devices=["a", "b"]) is None
    saved = count(m)
    for path, has_state in ((f"{work}/a.qcow2", True), (f"{work}/b.qcow2", False)):
        found = snapshots(path)
        assert [s["name"] for s in found] == ["then"] and (found[0]["vm-state-size"] > 1 << 20) is has_state, f"{found}"
        assert found[0]["vm-clock-sec"] + found[0]["vm-clock-nsec"] > 0
    listed = subprocess.run([IMG, "snapshot", "-U", "-l", f"{work}/a.qcow2"], check=True, stdout=subprocess.PIPE, text=True).stdout
    assert re.search(r"then +[\d.]+ MiB +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +00:00:\d\d\.\d{3}", listed), listed
    # What cannot be leaves nothing behind.
    assert "already exists in one or more devices" in job(m, "snapshot-save", "j1", tag="then", vmstate="a", devices=["a", "b"])
    assert "does not exist" in job(m, "snapshot-save", "j1", tag="x", vmstate="nobody", devices=["a", "b"])
    assert "does not have the requested snapshot" in job(m, "snapshot-load", "j1", tag="x", vmstate="a", devices=["a", "b"])
    assert [s["name"] for s in snapshots(f"{work}/b.qcow2")] == ["then"]
    time.sleep(1)
    later = count(m)
    assert later > saved
    assert job(m, "snapshot-load", "j2", tag="then", vmstate="a", devices=["a", "b"]) is None
    assert m.qmp.command("query-status")["status"] == "running"
    again = count(m)
    assert again < later, f"the guest has not gone back: {saved}, {later}, {again}"
    m.qmp.command("quit")
    m.wait(30)
    # Another process goes on from it.
    rest = no_kernel(m)
    at = rest.index(bad)
    rest = rest[:at - 1] + rest[at + 1:]
    m2 = machine(*rest, "-loadvm", "then", qmp=True)
    assert count(m2) < later
    assert job(m2, "snapshot-delete", "j3", tag="then", devices=["a", "b"]) is None
    assert not snapshots(f"{work}/a.qcow2") and not snapshots(f"{work}/b.qcow2")
    assert count(m2) > 0
    m2.qmp.command("quit")
    m2.wait(30)
    for name in ("a", "b"):
        assert subprocess.run([IMG, "check", f"{work}/{name}.qcow2"], stdout=subprocess.PIPE, check=False).returncode == 0
    m3 = machine(*rest, "-loadvm", "then")
    m3.wait(30, status=1)
    assert "-loadvm then: no disk has a snapshot 'then' with the state of a machine" in m3.stderr(), m3.stderr()


# ---- requests that wait for another try ----

FULL = r"""
disk_of() { for d in /sys/block/*; do [ "$(cat $d/size)" = $(($1 * 2048)) ] && opens /dev/$(basename $d) && echo /dev/$(basename $d) && return; done; }
tr '\0' x < /dev/zero | dd of=/tmp/blob bs=64k count=4 iflag=fullblock 2>/dev/null
write() { dd if=/tmp/blob of=$(disk_of $2) bs=64k seek=16 oflag=direct conv=notrunc 2>/dev/null && echo "VT written $1"; }
"""


def test_requests_that_wait_are_done_there(linux, machine, work, image):
    """The host has no room for a disk: the machine stops. Saved so, it goes on where there is room for that one, but none for the next."""
    on = {"ide": "ide-hd,bus=ahci.1", "scsi": "scsi-hd,bus=scsi.0", "usb": "usb-storage,bus=usb.0", "nvme": "nvme,serial=N", "virtio": "virtio-blk-pci"}
    sizes = {**DISKS, "virtio": 28}
    files = {name: image(size, name + ".img") for name, size in sizes.items()}

    def disks(full):
        args = ["-device", "ich9-ahci,id=ahci", "-device", "virtio-scsi-pci,id=scsi", "-device", "qemu-xhci,id=usb"]
        for name in sizes:
            node = f"driver=file,node-name={name},filename={files[name]}"
            if name == full:
                node = f"driver=blkdebug,node-name={name},image.driver=file,image.filename={files[name]}," + ",".join(
                    f"inject-error.{i}.{k}={v}" for i, at in enumerate((2048, 2176, 2304)) for k, v in (("event", "none"), ("errno", 28), ("iotype", "write"), ("sector", at)))
            args += ["-blockdev", node, "-device", f"{on[name]},drive={name}"]
        return args

    script = FULL + "\n".join(f"await '[ -n \"$(disk_of {size})\" ]'" for size in sizes.values()) + "\necho VT ready\n" + \
        "\n".join(f"write {name} {size}" for name, size in sizes.items()) + "\necho VT all written\n"
    names = list(sizes)
    m = linux(*disks(names[0]), kernel="generic", modules=(*MODULES[:8], "virtio_blk"), script=script, qmp=True)
    m.wait_text("VT ready", BOOT)
    for k, name in enumerate(names):
        m.qmp.wait_event("STOP", 60)
        assert m.qmp.command("query-status")["status"] == "io-error"
        assert m.qmp.wait_event("BLOCK_IO_ERROR")["data"]["node-name"] == name
        rest, old = no_kernel(m), disks(name)
        first = rest.index("ich9-ahci,id=ahci") - 1
        m = moved(m, f"{work}/state", machine, rest[:first] + disks(names[k + 1] if k + 1 < len(names) else None) + rest[first + len(old):])
        end = time.monotonic() + 30 * vmm.SLOW
        while m.qmp.command("query-status")["status"] == "inmigrate" and time.monotonic() < end:
            time.sleep(0.05)
        assert m.qmp.command("query-status")["status"] == "io-error"
        m.qmp.command("cont")
        m.wait_text(f"VT written {name}", 60, f"what waited for {name} is not done")
    m.wait_text("VT all written", 60)
    m.wait(30)
    for name in names:
        with open(files[name], "rb") as f:
            f.seek(1 << 20)
            assert f.read(256 << 10) == b"x" * (256 << 10), f"{name} has lost what waited"


# ---- virtio's display and input, and what was plugged in at run time ----

LATER = r"""
find_event() { for e in /sys/class/input/event*; do case "$(cat $e/device/name)" in *"$1"*) opens /dev/input/$(basename $e) && echo /dev/input/$(basename $e) ;; esac; done; }
await '[ -n "$(find_event "virtio tablet")" ]'
dd bs=24 count=3 < $(find_event "virtio tablet") 2>/dev/null | hexdump -v -e '24/1 "%02x" "\n"' > /tmp/moves &
printf '\033[?25lthe first picture\n' > /dev/tty1
echo "VT shown"
read line
await '[ -d /sys/devices/system/cpu/cpu1 ]'
await 'echo 1 > /sys/devices/system/cpu/cpu1/online'
for b in /sys/devices/system/memory/memory*; do grep -q offline $b/state && echo online_movable > $b/state; done
await '[ $(awk "/MemTotal/ { print \$2 }" /proc/meminfo) -gt 400000 ]'
mount -t tmpfs -o size=90% none /mnt
dd if=/dev/urandom of=/mnt/noise bs=1M count=80 2>/dev/null; sum=$(md5sum < /mnt/noise)
echo "VT plugged $(nproc) $(awk '/MemTotal/ { print $2 }' /proc/meminfo)"
read line
[ "$(md5sum < /mnt/noise)" = "$sum" ] && echo "VT noise is whole"
echo "VT now $(nproc) $(awk '/MemTotal/ { print $2 }' /proc/meminfo) $(cat /sys/devices/system/cpu/online)"
await '[ -e /sys/class/net/eth0 ]'; ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up; await '[ "$(cat /sys/class/net/eth0/carrier)" = 1 ]'; ping -c 2 -W 5 10.0.2.2 > /dev/null && echo "VT ping"
printf 'the second picture\n' > /dev/tty1
await '[ "$(wc -l < /tmp/moves)" -ge 3 ]'; sed 's/^/VT move /' /tmp/moves
echo "VT more"
read line
"""


def test_plugged_in_and_virtio_display(linux, machine, work):
    base = ["-device", "virtio-vga,xres=800,yres=600", "-device", "virtio-tablet-pci", "-device", "virtio-keyboard-pci", "-device", "virtio-mouse-pci", "-device",
            "pcie-root-port,id=rp,chassis=1,slot=1", "-netdev", "user,id=n", "-smp", "1,maxcpus=2"]
    m = linux(*base, kernel="generic", modules=("virtio_pci", "virtio_gpu", "virtio_input", "evdev", "e1000e", "af_packet"), script=LATER, qmp=True,
              append="net.ifnames=0", memory="256,slots=2,maxmem=2G")
    m.wait_text("VT shown", BOOT)
    q = m.qmp
    q.command("object-add", **{"qom-type": "memory-backend-ram", "id": "mem1", "size": 256 << 20})
    q.command("device_add", driver="pc-dimm", id="dimm1", memdev="mem1")
    place = [c for c in q.command("query-hotpluggable-cpus") if "qom-path" not in c][0]
    q.command("device_add", driver=place["type"], id="cpu1", **place["props"])
    q.command("device_add", driver="e1000e", id="nic1", netdev="n", bus="rp")
    m.send("\n")
    m.wait_text("VT plugged 2 ", 60, "the guest does not see what is plugged in")
    total = int(m.wait_text("\n", 30))
    picture = screen(m, f"{work}/before.ppm")
    assert len(set(picture[20:])) > 1, "nothing is on the screen"
    cpu = ",".join(f"{k}={v}" for k, v in place["props"].items())
    m2 = moved(m, f"{work}/state", machine, [*no_kernel(m), "-object", "memory-backend-ram,id=mem1,size=256M", "-device", "e1000e,id=nic1,netdev=n,bus=rp", "-device",
                                             f"{place['type']},id=cpu1,{cpu}", "-device", "pc-dimm,id=dimm1,memdev=mem1"])
    m2.qmp.wait_event("RESUME", 60)
    assert screen(m2, f"{work}/after.ppm") == picture, "the picture is another one"
    m2.qmp.command("input-send-event", events=[{"type": "abs", "data": {"axis": "x", "value": 0x1234}}, {"type": "abs", "data": {"axis": "y", "value": 0x4321}}])
    m2.send("\n")
    text = m2.wait_text("VT more", 60, "the guest does not go on")
    assert "VT noise is whole" in text and f"VT now 2 {total} 0-1" in text and "VT ping" in text, m2.tail()
    assert len(re.findall(r"VT move \w+", text)) == 3, m2.tail()
    end = time.monotonic() + 10 * vmm.SLOW
    while screen(m2, f"{work}/later.ppm") == picture and time.monotonic() < end:
        time.sleep(0.1)
    assert screen(m2, f"{work}/later.ppm") != picture, "the screen stands still"
    m2.qmp.unplug("nic1")
    assert m2.qmp.wait_event("DEVICE_DELETED", 30)["data"]["device"] == "nic1"
    m2.send("\n")
    m2.wait(30)


BLOCKS = r"""
await '[ $(awk "/MemTotal/ { print \$2 }" /proc/meminfo) -gt 500000 ]'
mount -t tmpfs -o size=90% none /mnt
dd if=/dev/urandom of=/mnt/noise bs=1M count=80 2>/dev/null; sum=$(md5sum < /mnt/noise)
echo "VT full $(awk '/MemTotal/ { print $2 }' /proc/meminfo)"
read line
[ "$(md5sum < /mnt/noise)" = "$sum" ] && echo "VT whole $(awk '/MemTotal/ { print $2 }' /proc/meminfo)"
rm /mnt/noise
read line
"""

def test_memory_in_blocks(linux, machine, work):
    m = linux("-object", "memory-backend-ram,id=vm0,size=8G", "-device", "virtio-mem-pci,id=vmem,memdev=vm0,requested-size=0", script=BLOCKS,
              memory="384,maxmem=9G", modules=["virtio_pci", "virtio_mem"], append="memhp_default_state=online_movable", qmp=True)
    m.wait_text("VT init", BOOT)
    time.sleep(1)
    m.qmp.command("qom-set", path="vmem", property="requested-size", value=256 << 20)
    m.wait_text("VT full ", 100, "the guest does not plug what is asked for")
    total = m.wait_text("\n")
    args = [a.replace("requested-size=0", "requested-size=256M") for a in no_kernel(m)]
    m2 = moved(m, f"{work}/state", machine, args)
    m2.qmp.wait_event("RESUME", 60)
    assert m2.qmp.command("qom-get", path="/machine/peripheral/vmem", property="size") == 256 << 20
    m2.send("\n")
    m2.wait_text("VT whole " + total.strip(), 60)
    m2.qmp.command("qom-set", path="vmem", property="requested-size", value=0)
    end = time.monotonic() + 60 * vmm.SLOW
    while m2.qmp.command("qom-get", path="/machine/peripheral/vmem", property="size") and time.monotonic() < end:
        time.sleep(0.1)
    assert m2.qmp.command("qom-get", path="/machine/peripheral/vmem", property="size") == 0
