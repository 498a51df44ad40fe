# SPDX-License-Identifier: GPL-2.0-or-later
"""NVMe with Debian's driver: data on the image, several queues and namespaces, discard, resets, what it says of itself."""
import hashlib
import os

import pytest

import vmm
from disk_image import holds_what_was_written

BOOT = 120
MODULES = ("nvme", "ext4", "crc32c_generic")


WRITE = """
await "opens /dev/nvme0n1"
echo "VT queues $(ls /sys/block/nvme0n1/mq | wc -l)"
mount -t ext4 /dev/nvme0n1 /mnt || { echo VT mount failed; poweroff -f; }
for i in 1 2 3 4 5 6 7 8; do dd if=/dev/urandom of=/mnt/f$i bs=64k count=$((i * 8)) 2>/dev/null & done; wait
rm /mnt/f3; umount /mnt; mount -t ext4 /dev/nvme0n1 /mnt
(cd /mnt; find . -type f | sort | xargs sha256sum) | sed 's/^/VT sum /'
umount /mnt
"""


@pytest.mark.parametrize("more", ["", ",max_ioqpairs=1,mdts=2", ",msix_qsize=2,write-cache=off"])
def test_written_file_system_is_whole(linux, image, more):
    path = image(ext4=True)
    m = linux("-smp", "3", "-drive", f"file={path},format=raw,if=none,id=d", "-device", f"nvme,drive=d,serial=SN-9{more}", script=WRITE, modules=MODULES)
    text = m.wait_text("VT done", BOOT + 60, "the guest could not write its disk")
    m.wait(30)
    assert f"VT queues {3 if not more else 1}" in m.text()
    holds_what_was_written(m, path, text, 7)


def test_namespaces_discard_and_resets(linux, image):
    path = image(16)
    m = linux("-device", "nvme,serial=SN-10,id=n", "-drive", f"file={path},format=raw,if=none,id=d,discard=unmap", "-device",
              "nvme-ns,drive=d,bus=n,nsid=2,uuid=12345678-9abc-def0-1234-56789abcdef0,physical_block_size=4096,logical_block_size=4096", "-drive",
              f"file={image(4, 'ro.img')},format=raw,if=none,id=r,readonly=on", "-device", "nvme-ns,drive=r,nsid=7", modules=MODULES, script="""
await "opens /dev/nvme0n1 /dev/nvme0n2"
d=/sys/block/nvme0n1; [ "$(cat $d/nsid)" = 2 ] || d=/sys/block/nvme0n2
b=/dev/$(basename $d); q=$d/queue
echo "VT who $(cat /sys/class/nvme/nvme0/model | xargs) $(cat /sys/class/nvme/nvme0/serial | xargs)"
echo "VT sizes $(cat $q/logical_block_size $q/physical_block_size $d/size | xargs)"
for x in /sys/block/nvme0n*; do [ $(cat $x/nsid) = 7 ] && echo "VT seven $(cat $x/size) ro $(cat $x/ro)"; done
tr '\\0' 'x' < /dev/zero | dd of=$b bs=1M count=16 iflag=fullblock conv=fsync 2>/dev/null
blkdiscard -o 1048576 -l 2097152 $b && echo "VT discarded"; sync
for i in 1 2 3; do
    dd if=$b of=/dev/null bs=4k iflag=direct 2>/dev/null &
    echo 1 > /sys/class/nvme/nvme0/reset_controller && echo "VT reset $i"; wait
done
echo "VT sum $(dd if=$b bs=1M count=1 2>/dev/null | md5sum | cut -c 1-32)"
""")
    m.wait_text("VT who Vireo NVMe SN-10", BOOT)
    m.wait_text("VT sizes 4096 4096 32768", 30)
    m.wait_text("VT seven 8192 ro 1", 30)
    m.wait_text("VT discarded", 30)
    m.wait_text("VT reset 3", 60)
    m.wait_text("VT sum " + hashlib.md5(b"x" * (1 << 20)).hexdigest(), 60)
    m.wait(60)
    with open(path, "rb") as f:
        assert f.read() == b"x" * (1 << 20) + b"\0" * (2 << 20) + b"x" * (13 << 20)
    assert os.stat(path).st_blocks * 512 <= (14 << 20) + 65536, "what the guest discarded still takes room"


def test_comes_and_goes(linux, image):
    """Through a PCI Express root port, while it is read."""
    m = linux("-device", "pcie-root-port,id=rp,chassis=1", "-drive", f"file={image(8)},format=raw,if=none,id=d", modules=MODULES, qmp=True, script="""
echo "VT ready"
for i in 1 2; do
    await "opens /dev/nvme0n1"
    dd if=/dev/nvme0n1 of=/dev/null bs=1M count=8 2>/dev/null && echo "VT there $i"
    (while dd if=/dev/nvme0n1 of=/dev/null bs=4k iflag=direct 2>/dev/null; do :; done) &
    await "[ ! -b /dev/nvme0n1 ]"
    wait; echo "VT away $i"
done
""")
    m.wait_text("VT ready", BOOT)
    for i in (1, 2):
        m.qmp.command("device_add", driver="nvme", id="n", drive="d", serial="S", bus="rp")
        m.wait_text(f"VT there {i}", 40, "the guest does not see a controller that came")
        m.qmp.unplug("n")
        assert m.qmp.wait_event("DEVICE_DELETED", 40)["data"]["device"] == "n"
        m.wait_text(f"VT away {i}", 60, "the guest still has a disk that went")
    m.wait(30)


def test_refusals(machine, image, kernels):
    path = image(2)
    for extra, words in (
            (["-device", "nvme,drive=d"], "serial"),
            (["-device", "nvme-ns,drive=d"], "no NVMe controller"),
            (["-device", "nvme,drive=d,serial=s,ioeventfd=on"], "ioeventfd"),
            (["-device", "nvme,drive=d,serial=s", "-drive", f"file={path}2,format=raw,if=none,id=e", "-device", "nvme-ns,drive=e,nsid=1"], "already taken"),
            (["-device", "nvme,serial=s", "-device", "nvme-ns,drive=d,uuid=nonsense"], "UUID"),
            (["-device", "nvme,drive=d,serial=s,logical_block_size=100"], "logical_block_size")):
        with open(path + "2", "wb") as f:
            f.truncate(1 << 20)
        m = machine("-nodefaults", "-display", "none", "-S", "-kernel", os.path.join(kernels, "cloud", "vmlinuz"), "-drive",
                    f"file={path},format=raw,if=none,id=d", *extra)
        m.wait(10, 1, f"{extra} is not refused")
        assert words in m.stderr(), m.stderr()
