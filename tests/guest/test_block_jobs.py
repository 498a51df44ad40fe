# SPDX-License-Identifier: GPL-2.0-or-later
"""Block jobs and full file systems of the host under a guest that writes: nothing is lost."""
import os
import re
import subprocess

import pytest

import vmm

pytestmark = pytest.mark.skipif(vmm.IS_QEMU, reason="what QEMU does with its own jobs is not asked here")
BOOT = 120
MODULES = ("virtio_pci", "virtio_blk", "ext4", "crc32c_generic")
WRITE = """
mount -t ext4 /dev/vda /mnt || { echo VT mount failed; poweroff -f; }
echo "VT begin"
n=0
while [ ! -e /mnt/enough ]; do
    n=$((n + 1)); dd if=/dev/urandom of=/mnt/f$((n % 40)) bs=64k count=$((n % 23 + 1)) conv=fsync 2>/dev/null
    [ $((n % 7)) = 0 ] && rm -f /mnt/f$((n % 31))
    (cd /mnt; sha256sum f* > sums); sync
    read -t 0 line && touch /mnt/enough
done
umount /mnt; echo 3 > /proc/sys/vm/drop_caches; mount -t ext4 /dev/vda /mnt
(cd /mnt; sha256sum -c sums >/dev/null && echo "VT sums agree after $n rounds" || echo "VT sums differ")
umount /mnt
"""


def run(*argv):
    done = subprocess.run([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stdout}"
    return done.stdout


def make(work, name, ext4=False):
    path = f"{work}/{name}"
    if ext4:
        with open(path + ".raw", "wb") as f:
            f.truncate(96 << 20)
        run("mke2fs", "-q", "-F", "-t", "ext4", path + ".raw")
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", path + ".raw", path)
        os.unlink(path + ".raw")
    else:
        run("qemu-img", "create", "-q", "-f", "qcow2", path, "96M")
    return path


def complete(q):
    q.wait_event("BLOCK_JOB_READY", 120)
    q.command("block-job-complete", device="j")
    done = q.wait_event("BLOCK_JOB_COMPLETED", 60)
    assert "error" not in done["data"], done


def test_jobs_under_a_guest(linux, work):
    """Snapshot, mirror to another image, snapshot, commit, stream, backup, while the guest writes files."""
    path = make(work, "disk.qcow2", ext4=True)
    m = linux("-drive", f"file={path},format=qcow2,if=virtio,id=d", modules=MODULES, script=WRITE, qmp=True)
    q = m.qmp
    m.wait_text("VT begin", BOOT, "the guest does not mount its disk")
    q.command("blockdev-snapshot-sync", device="d", **{"snapshot-file": f"{work}/s1.qcow2"})
    q.command("drive-mirror", device="d", target=f"{work}/copy.qcow2", sync="full", **{"job-id": "j", "copy-mode": "write-blocking"})
    complete(q)
    q.command("blockdev-snapshot-sync", device="d", **{"snapshot-file": f"{work}/s2.qcow2"})
    q.command("blockdev-snapshot-sync", device="d", **{"snapshot-file": f"{work}/s3.qcow2"})
    q.command("block-commit", device="d", top=f"{work}/s2.qcow2", base=f"{work}/copy.qcow2", **{"job-id": "j"})
    assert "error" not in q.wait_event("BLOCK_JOB_COMPLETED", 120)["data"]
    q.command("block-commit", device="d", **{"job-id": "j"})
    complete(q)
    q.command("blockdev-snapshot-sync", device="d", **{"snapshot-file": f"{work}/s4.qcow2"})
    q.command("drive-backup", device="d", target=f"{work}/backup.qcow2", sync="full", **{"job-id": "j"})
    assert "error" not in q.wait_event("BLOCK_JOB_COMPLETED", 120)["data"]
    q.command("block-stream", device="d", **{"job-id": "j"})
    assert "error" not in q.wait_event("BLOCK_JOB_COMPLETED", 120)["data"]
    inserted = q.command("query-block")[0]["inserted"]
    assert (inserted["file"], inserted["backing_file_depth"]) == (f"{work}/s4.qcow2", 0)
    m.send("x\n")
    rounds = re.search(r"VT sums (.*)", m.wait_text("VT done", 240, "the guest does not come to an end")).group(1)
    assert rounds.startswith("agree"), f"what the guest wrote is not what it reads: {rounds}"
    m.wait(30)
    run("qemu-img", "check", f"{work}/s4.qcow2")
    for image in ("s4", "backup"):
        run("qemu-img", "convert", "-O", "raw", f"{work}/{image}.qcow2", f"{work}/{image}.raw")
        done = subprocess.run(["e2fsck", "-f", "-y", f"{work}/{image}.raw"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert done.returncode in (0, 1), f"{image}: {done.stdout}"


FILL = """
yes vireo | dd of=/tmp/z bs=1M count=24 iflag=fullblock 2>/dev/null
echo "VT writing"
dd if=/tmp/z of=/dev/vda bs=1M seek=8 conv=notrunc,fsync 2>/dev/null && echo "VT written" || echo "VT failed"
sha256sum /tmp/z | sed 's/^/VT sum /'
"""


def test_full_host_with_qcow2(linux, work):
    """A growing image fills the host's file system: the guest stops, and after `cont` nothing is lost."""
    mount = f"{work}/small"
    os.mkdir(mount)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", mount], check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("this user may not mount a small file system")
    try:
        path = make(mount, "disk.qcow2")
        m = linux("-drive", f"file={path},format=qcow2,if=virtio,werror=enospc", modules=MODULES[:2], qmp=True, script=FILL)
        m.qmp.command("query-status")
        assert m.qmp.wait_event("BLOCK_IO_ERROR", BOOT)["data"]["nospace"] is True
        m.qmp.wait_event("STOP", 30)
        assert m.qmp.command("query-status")["status"] == "io-error"
        run("mount", "-o", "remount,size=64m", mount)
        m.qmp.command("cont")
        out = m.wait_text("VT done", 60, "after there is room again, `cont` does not go on")
        assert "VT written" in out or "VT written" in m.text(), out
        total = re.search(r"VT sum (\w{64})", m.text()).group(1)
        m.wait(30)
        run("qemu-img", "check", path)
        run("qemu-img", "convert", "-O", "raw", path, f"{work}/out.raw")
        assert run("sh", "-c", f"dd if={work}/out.raw bs=1M skip=8 count=24 2>/dev/null | sha256sum").split()[0] == total
    finally:
        subprocess.run(["umount", "-l", mount], check=False)
