# SPDX-License-Identifier: GPL-2.0-or-later
"""virtio-scsi with Debian's driver: disks and CD drives, data on the image, what they say of themselves, resets, coming and going."""
import hashlib
import os
import subprocess

import pytest

import vmm
from disk_image import holds_what_was_written

BOOT = 120
MODULES = ("virtio_pci", "virtio_scsi", "sd_mod", "sr_mod", "ext4", "isofs", "crc32c_generic")
DISK = ("-device", "virtio-scsi-pci,id=s{more}", "-drive", "file={path},format=raw,if=none,id=d,discard=unmap", "-device", "scsi-hd,drive=d,bus=s.0,serial=SN-7{prop}")


def options(path, more="", prop=""):
    return [o.format(path=path, more=more, prop=prop) for o in DISK]


WRITE = """
await "opens /dev/sda"
mount -t ext4 /dev/sda /mnt || { echo VT mount failed; poweroff -f; }
for i in 1 2 3 4 5 6 7 8; do dd if=/dev/urandom of=/mnt/f$i bs=64k count=$((i * 8)) 2>/dev/null & done; wait
rm /mnt/f3; umount /mnt; mount -t ext4 /dev/sda /mnt
(cd /mnt; find . -type f | sort | xargs sha256sum) | sed 's/^/VT sum /'
umount /mnt
"""


@pytest.mark.parametrize("setup", ["", ",num_queues=4,packed=on", ",iothread=io,virtqueue_size=16"])
def test_written_file_system_is_whole(linux, image, setup):
    path = image(ext4=True)
    m = linux("-smp", "2", "-object", "iothread,id=io", *options(path, setup), script=WRITE, modules=MODULES)
    text = m.wait_text("VT done", BOOT + 60, "the guest could not write its disk")
    m.wait(30)
    holds_what_was_written(m, path, text, 7)


def test_what_a_disk_says(linux, image):
    """INQUIRY, its pages, MODE SENSE and SELECT, sizes, UNMAP, WRITE SAME, a reset of the unit."""
    path = image(16)
    m = linux(*options(path, prop=",wwn=0x5000c500a1b2c3d4,physical_block_size=4096,rotation_rate=1,vendor=ACME,product=Rocket,ver=1.5"), "-drive",
              f"file={image(2, 'ro.img')},format=raw,if=none,id=r,readonly=on", "-device", "scsi-hd,drive=r,scsi-id=0,lun=3", modules=MODULES, script="""
await "opens /dev/sda /dev/sdb"
a=$(ls /sys/bus/scsi/devices/0:0:0:0/block) b=$(ls /sys/bus/scsi/devices/0:0:0:3/block) # the names go to whichever answers first
q=/sys/block/$a/queue; d=/sys/block/$a/device
echo "VT who $(cat $d/vendor $d/model $d/rev | xargs) $(cat $d/wwid) serial $(tail -c +5 $d/vpd_pg80)"
echo "VT sizes $(cat $q/logical_block_size $q/physical_block_size $q/rotational /sys/block/$a/size | xargs)"
echo "VT second $(basename $(readlink /sys/block/$b/device)) ro $(cat /sys/block/$b/ro)"
c=$(ls -d $d/scsi_disk/*); echo "VT cache $(cat $c/cache_type)"
echo "write through" > $c/cache_type; echo "VT cache now $(cat $c/cache_type)"; echo "write back" > $c/cache_type
tr '\\0' 'x' < /dev/zero | dd of=/dev/$a bs=1M count=16 iflag=fullblock conv=fsync 2>/dev/null
echo "VT mode $(cat $c/provisioning_mode)"
blkdiscard -o 1048576 -l 2097152 /dev/$a && echo "VT discarded"
sync
dd if=/dev/$a of=/dev/null bs=4k iflag=direct 2>/dev/null & 
echo "VT reset"; h=/sys/class/scsi_host/host0/host_reset; echo 1 > /sys/bus/scsi/devices/0:0:0:0/rescan
wait; echo "VT sum $(dd if=/dev/$a bs=1M count=1 2>/dev/null | md5sum | cut -c 1-32)"
""")
    m.wait_text("VT who ACME Rocket 1.5 naa.5000c500a1b2c3d4 serial SN-7", BOOT)
    m.wait_text("VT sizes 512 4096 0 32768", 30)
    m.wait_text("VT second 0:0:0:3 ro 1", 30)
    m.wait_text("VT cache write back", 30)
    m.wait_text("VT cache now write through", 30)
    m.wait_text("VT mode unmap", 30)
    m.wait_text("VT discarded", 30)
    m.wait_text("VT sum " + hashlib.md5(b"x" * (1 << 20)).hexdigest(), 60)
    m.wait(60)
    with open(path, "rb") as f:
        assert f.read() == b"x" * (1 << 20) + b"\0" * (2 << 20) + b"x" * (13 << 20)
    assert os.stat(path).st_blocks * 512 <= (14 << 20) + 65536, "what the guest discarded still takes room"


def test_cd(linux, image, work):
    """A file system on a CD, read only; an empty drive."""
    tree = os.path.join(work, "tree")
    os.mkdir(tree)
    with open(os.path.join(tree, "hello.txt"), "wb") as f:
        f.write(b"from the disc\n" * 5000)
    iso = os.path.join(work, "cd.iso")
    made = subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-o", iso, tree], stderr=subprocess.PIPE, check=False) if have("xorriso") else None
    fs = "iso9660" if made and not made.returncode else "ext4"
    if fs == "ext4":
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-b", "2048", "-d", tree, iso, "8M"], check=True)
    m = linux("-device", "virtio-scsi-pci", "-drive", f"file={iso},format=raw,if=none,id=c,readonly=on", "-device", "scsi-cd,drive=c,id=cd0",
              "-device", "scsi-cd,id=cd1", modules=MODULES, script=f"""
await "opens /dev/sr0"
mount -t {fs} -o ro /dev/sr0 /mnt && echo "VT sum $(md5sum < /mnt/hello.txt | cut -c 1-32)"
umount /mnt
await 'dd if=/dev/sr1 of=/dev/null bs=2048 count=1 2>&1 | grep -q "No medium"' && echo "VT empty"
echo "VT block $(cat /sys/block/sr0/queue/logical_block_size) $(cat /sys/block/sr0/ro)"
""")
    m.wait_text("VT sum " + hashlib.md5(b"from the disc\n" * 5000).hexdigest(), BOOT)
    m.wait_text("VT empty", 30)
    m.wait_text("VT block 2048", 30)
    m.wait(30)


def have(program):
    return any(os.access(os.path.join(p, program), os.X_OK) for p in os.environ["PATH"].split(":"))


def test_disks_come_and_go(linux, image):
    """device_add and device_del while the guest runs; it hears of both by events, and a disk goes while it is read."""
    m = linux("-device", "virtio-scsi-pci,id=s", "-drive", f"file={image(8)},format=raw,if=none,id=d", modules=MODULES, qmp=True, script="""
echo "VT ready"
for i in 1 2 3; do
    await "opens /dev/sda"
    dd if=/dev/sda of=/dev/null bs=1M count=8 2>/dev/null && echo "VT there $i"
    (while dd if=/dev/sda of=/dev/null bs=4k iflag=direct 2>/dev/null; do :; done) &
    await "[ ! -b /dev/sda ]"
    wait; echo "VT away $i"
done
""")
    m.wait_text("VT ready", BOOT)
    for i in (1, 2, 3):
        m.qmp.command("device_add", driver="scsi-hd", id="hd", drive="d", bus="s.0", **{"scsi-id": 5 * i, "lun": 2 * i})
        m.wait_text(f"VT there {i}", 30, "the guest does not see a disk that came")
        m.qmp.command("device_del", id="hd")
        assert m.qmp.wait_event("DEVICE_DELETED", 20)["data"]["device"] == "hd"
        m.wait_text(f"VT away {i}", 60, "the guest still has a disk that went")
    m.wait(30)


def test_refusals(machine, image, kernels):
    """What cannot be is named."""
    path = image(2)
    for extra, words in (
            (["-device", "scsi-hd,drive=d"], "no SCSI controller"),
            (["-device", "virtio-scsi-pci", "-device", "scsi-hd,drive=d,scsi-id=300"], "no such place"),
            (["-device", "virtio-scsi-pci", "-device", "scsi-hd"], "drive="),
            (["-device", "virtio-scsi-pci", "-device", "scsi-block,drive=d"], "scsi-block"),
            (["-device", "virtio-scsi-pci,num_queues=100"], "num_queues"),
            (["-device", "virtio-scsi-pci,iothread=none"], "iothread"),
            (["-device", "virtio-scsi-pci", "-device", "scsi-cd,scsi-id=1", "-device", "scsi-cd,scsi-id=1,lun=0"], "lun already used")):
        m = machine("-nodefaults", "-display", "none", "-S", "-kernel", os.path.join(kernels, "cloud", "vmlinuz"), "-drive", f"file={path},format=raw,if=none,id=d", *extra)
        m.wait(10, 1, f"{extra} is not refused")
        assert words in m.stderr(), m.stderr()


def test_drive_without_device(linux, image):
    """-drive if=scsi makes the controller by itself; media=cdrom makes a CD drive of it."""
    m = linux("-drive", f"file={image(4)},format=raw,if=scsi", "-drive", f"file={image(2, 'two.img')},format=raw,if=scsi,unit=5", "-drive",
              f"file={image(1, 'cd.img')},format=raw,if=scsi,media=cdrom", modules=MODULES, script="""
await "opens /dev/sda /dev/sdb /dev/sr0"
for d in sda sdb sr0; do echo "VT $(basename $(readlink /sys/block/$d/device)) $(cat /sys/block/$d/size)"; done
""")
    text = m.wait_text("VT done", BOOT)
    for line in ("VT 0:0:0:0 8192", "VT 0:0:5:0 4096", "VT 0:0:1:0 2048"):
        assert line in text, text
    m.wait(30)
