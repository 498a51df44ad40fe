# SPDX-License-Identifier: GPL-2.0-or-later
"""SATA disks and CD-ROM drives on AHCI, as Debian's ahci, sd_mod and sr_mod drive them."""
import hashlib
import os
import subprocess

import pytest

import vmm
from disk_image import holds_what_was_written

BOOT = 150
AHCI = ("ahci", "crct10dif_generic", "sd_mod", "sr_mod")
FILES = AHCI + ("ext4", "crc32c_generic", "isofs")


def disk(path, extra="", drive=""):
    return ("-drive", f"file={path},format=raw,if=none,id=d{drive}", "-device", f"ide-hd,drive=d{extra}")


def test_written_file_system_is_whole(linux, image):
    """Two vCPUs, queued commands, flushes, discards; what the guest wrote is in the image."""
    path = image(ext4=True)
    m = linux(*disk(path, ",serial=SATA-1,wwn=0x5000c50015ea71ad"), "-smp", "2", kernel="generic", modules=FILES, script="""
await "opens /dev/sda"
echo "VT disk $(cat /sys/block/sda/size) $(cat /sys/block/sda/device/model) $(cat /sys/block/sda/device/queue_depth) $(cat /sys/block/sda/device/wwid)"
mount -t ext4 -o discard /dev/sda /mnt
mkdir /mnt/tree
for i in 1 2 3 4 5 6 7 8; do dd if=/dev/urandom of=/mnt/tree/f$i bs=64k count=$((i * 8)) 2>/dev/null & done; wait
cp -r /mnt/tree /mnt/copy; rm /mnt/tree/f3
sync; fstrim /mnt 2>/dev/null && echo "VT trimmed"
umount /mnt; mount -t ext4 /dev/sda /mnt
(cd /mnt; find . -type f | sort | xargs sha256sum) | sed 's/^/VT sum /'
umount /mnt
dmesg | grep -iE 'ata[0-9].*(error|exception|failed|fail)|I/O error' | sed 's/^/VT bad /'
""")
    m.wait_text("VT disk 131072 QEMU HARDDISK    32 naa.5000c50015ea71ad", BOOT, "the guest does not see the SATA disk as it is")
    text = m.wait_text("VT done", BOOT + 60, "the guest could not write its SATA disk")
    m.wait(30)
    assert "VT bad" not in text, text
    holds_what_was_written(m, path, text, 15)


def test_without_queue_and_six_disks(linux, image):
    """DMA and PIO commands without NCQ; six drives, one of them on a second controller behind a root port."""
    drives = []
    for n in range(6):
        drives += ["-drive", f"file={image(4, f'i{n}')},format=raw,if=none,id=d{n}"]
        bus = f"ide.{n}" if n < 5 else "second.3"
        drives += ["-device", f"ide-hd,drive=d{n},bus={bus},serial=S{n}"]
    m = linux("-device", "pcie-root-port,id=r,chassis=1", "-device", "ich9-ahci,id=second,bus=r", *drives, kernel="generic", modules=AHCI,
              append="libata.force=noncq", script="""
await "opens /dev/sda /dev/sdb /dev/sdc /dev/sdd /dev/sde /dev/sdf"
for d in a b c d e f; do
    dd if=/dev/urandom of=/tmp/w bs=64k count=16 2>/dev/null
    dd if=/tmp/w of=/dev/sd$d bs=64k conv=fsync 2>/dev/null; echo 3 > /proc/sys/vm/drop_caches
    [ "$(dd if=/dev/sd$d bs=4k count=256 2>/dev/null | sha256sum)" = "$(sha256sum < /tmp/w)" ] && echo "VT same"
done
echo "VT depth $(cat /sys/block/sda/device/queue_depth)"
""")
    text = m.wait_text("VT done", BOOT + 60)
    m.wait(30)
    assert text.count("VT same") == 6 and "VT depth 1" in text, text


def blocks(n=300, first=0):
    """What can be told apart block by block."""
    return b"".join(b"%08d" % (first + i) * 256 for i in range(n))


@pytest.fixture(scope="module")
def cdtool(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("cdtool") / "cdtool")
    subprocess.run(["cc", "-O2", "-static", "-o", path, os.path.join(os.path.dirname(__file__), "cdtool.c")], check=True)
    with open(path, "rb") as f:
        return {"bin/cdtool": (0o100755, f.read())}


def test_cd_rom(linux, image, cdtool):
    data = blocks()
    path = image(name="cd", data=data)
    m = linux("-drive", f"file={path},format=raw,if=none,id=cd,readonly=on", "-device", "ide-cd,drive=cd,id=cd0,bus=ide.2", kernel="generic", modules=AHCI,
              extra=cdtool, script="""
await "opens /dev/sr0"
echo "VT cd $(cat /sys/block/sr0/size) $(cat /sys/block/sr0/device/model)"
echo "VT sum $(dd if=/dev/sr0 bs=64k 2>/dev/null | sha256sum)"
dd if=/dev/zero of=/dev/sr0 bs=2048 count=1 2>/dev/null || echo "VT not written"
grep 'lock tray' /proc/sys/dev/cdrom/info | sed 's/^/VT info /'
cdtool /dev/sr0 lock; cdtool /dev/sr0 eject; cdtool /dev/sr0 unlock
cdtool /dev/sr0 eject | sed 's/^/VT /'
cdtool /dev/sr0 status | sed 's/^/VT /'
dd if=/dev/sr0 bs=2048 count=1 of=/dev/null 2>&1 | grep -c medium | sed 's/^/VT nothing read /'
cdtool /dev/sr0 load | sed 's/^/VT /'
cdtool /dev/sr0 status | sed 's/^/VT /'
echo "VT again $(dd if=/dev/sr0 bs=64k 2>/dev/null | sha256sum)"
""", qmp=True)
    digest = hashlib.sha256(data).hexdigest()
    assert m.qmp.command("query-status")["running"]
    m.wait_text("VT cd 1200 QEMU DVD-ROM", BOOT, "the guest does not see the CD-ROM drive")
    m.wait_text("VT sum " + digest, 60, "the guest reads other bytes than the CD has")
    m.wait_text("VT not written", 30)
    m.wait_text("VT info Can lock tray:\t\t1", 30)
    m.wait_text("VT eject 0", 30)
    m.wait_text("VT status 2", 30, "the guest does not see that its tray is open")
    assert m.qmp.wait_event("DEVICE_TRAY_MOVED", 20)["data"] == {"device": "cd", "id": "cd0", "tray-open": True}
    m.wait_text("VT load 0", 30)
    m.wait_text("VT status 4", 30)
    assert m.qmp.wait_event("DEVICE_TRAY_MOVED", 20)["data"]["tray-open"] is False
    m.wait_text("VT again " + digest, 60)
    m.wait_text("VT done", 30)
    m.wait(30)


def test_empty_cd_rom(linux, cdtool):
    m = linux("-device", "ide-cd,id=cd0", kernel="generic", modules=AHCI, extra=cdtool, script="""
await "cdtool /dev/sr0 status > /tmp/status"
cdtool /dev/sr0 status | sed 's/^/VT /'
dd if=/dev/sr0 of=/dev/null bs=2048 count=1 2>&1 | grep -i 'no medium' | sed 's/^/VT /'
""")
    m.wait_text("VT status 1", BOOT)
    m.wait_text("o medium", 30, "an empty drive is not empty to the guest")
    m.wait_text("VT done", 30)
    m.wait(30)


def test_short_options(linux, image):
    cd = blocks(100)
    paths = [image(1, "a.img"), image(2, "b.img"), image(name="c", data=cd), image(3, "d.img")]
    m = linux("-hda", paths[0], "-drive", f"file={paths[1]},format=raw", "-cdrom", paths[2], "-drive", f"file={paths[3]},format=raw,if=ide,index=4",
              kernel="generic", modules=AHCI, script="""
await "opens /dev/sda /dev/sdb /dev/sdc /dev/sr0"
for d in /sys/block/sd[a-c] /sys/block/sr0; do echo "VT $(readlink $d | grep -o 'ata[0-9]*') $(cat $d/size)"; done | sort
echo "VT sum $(dd if=/dev/sr0 bs=64k 2>/dev/null | sha256sum)"
""")
    # by their ports: the names go to whichever answers first
    m.wait_text("VT ata1 2048\r\nVT ata2 4096\r\nVT ata3 400\r\nVT ata5 6144\r\nVT sum " + hashlib.sha256(cd).hexdigest(), BOOT)
    m.wait_text("VT done", 30)
    m.wait(30)


def test_medium_changes(linux, image, cdtool):
    """By QMP, as libvirt and QEMU's users do it; the guest hears of it, and may hold the tray."""
    first, second = blocks(100), blocks(200, 5000)
    paths = [image(name="a", data=first), image(name="b", data=second)]
    m = linux("-drive", "if=none,id=cd,media=cdrom", "-device", "ide-cd,drive=cd,id=cd0", kernel="generic", modules=AHCI, extra=cdtool, script="""
await "cdtool /dev/sr0 status > /tmp/status"
echo "VT empty"
while read word; do
    case $word in
    sum) await "[ $(cdtool /dev/sr0 status | cut -d ' ' -f 2) = 4 ]"; echo "VT sum $(dd if=/dev/sr0 bs=64k 2>/dev/null | sha256sum)" ;;
    end) break ;;
    *) cdtool /dev/sr0 $word | sed 's/^/VT /' ;;
    esac
done
""", qmp=True)
    m.wait_text("VT empty", BOOT)
    q = m.qmp
    for n, path in enumerate(paths):
        q.command("blockdev-add", **{"driver": "raw", "node-name": f"medium{n}", "read-only": True, "file": {"driver": "file", "filename": path}})

    def say(text, wait):
        m.process.stdin.write(text.encode() + b"\n")
        m.process.stdin.flush()
        return m.wait_text(wait, 60)
    q.command("blockdev-open-tray", id="cd0")
    say("status", "VT status 2")
    q.command("blockdev-insert-medium", **{"id": "cd0", "node-name": "medium0"})
    q.command("blockdev-close-tray", id="cd0")
    say("sum", "VT sum " + hashlib.sha256(first).hexdigest())
    say("lock", "VT lock 0")
    answer = q.execute("blockdev-open-tray", id="cd0")
    assert "is locked and force was not specified" in answer["error"]["desc"]
    say("unlock", "VT unlock 0")
    q.command("blockdev-open-tray", id="cd0", force=True)
    q.command("blockdev-remove-medium", id="cd0")
    q.command("blockdev-insert-medium", **{"id": "cd0", "node-name": "medium1"})
    q.command("blockdev-close-tray", id="cd0")
    say("sum", "VT sum " + hashlib.sha256(second).hexdigest())
    q.command("eject", id="cd0", force=True)
    say("status", "VT status 2")
    say("end", "VT done")
    m.wait(30)


@pytest.mark.parametrize("options,text", [
    (("ide-hd",), "needs drive="),
    (("ide-cd,bus=ide.6",), "Bus 'ide.6' not found"),
    (("ide-cd,bus=ide.1", "ide-cd,bus=ide.1"), "a drive at 'ide.1' already"),
    (("ide-cd,unit=1",), "supports only 1 units"),
    (("ide-cd",) * 7, "every port has its drive"),
    (("ide-cd,serial=" + "x" * 21,), "up to 20 characters"),
])
def test_refused(flat, options, text):
    args = [a for o in options for a in ("-device", o)]
    status, _, err = vmm.run(("-M", "q35", "-m", "64", "-nodefaults", "-display", "none", "-kernel", flat("hello"), *args))
    assert status == 1 and text in err and err.count("\n") == 1, err
