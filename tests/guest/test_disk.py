# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks: what the guest wrote is on the image, whatever happens to the program; locks; write errors."""
import hashlib
import os
import re
import resource
import signal
import subprocess

import pytest

import vmm
from disk_image import fsck, holds_what_was_written

BOOT = 120
MODULES = ("virtio_pci", "virtio_blk", "ext4", "crc32c_generic")


def drive(path, extra=""):
    return ("-drive", f"file={path},format=raw,if=virtio{extra}")


WRITE = """
mount -t ext4 /dev/vda /mnt || { echo VT mount failed; poweroff -f; }
mkdir /mnt/tree
for i in 1 2 3 4 5 6 7 8; do dd if=/dev/urandom of=/mnt/tree/f$i bs=64k count=$((i * 8)) 2>/dev/null; done
cp -r /mnt/tree /mnt/copy; rm /mnt/tree/f3; mv /mnt/copy/f1 /mnt/moved
umount /mnt; mount -t ext4 /dev/vda /mnt
(cd /mnt; find . -type f | sort | xargs sha256sum) | sed 's/^/VT sum /'
umount /mnt
echo "VT features $(cat /sys/block/vda/device/features)"
"""


@pytest.mark.parametrize("setup", ["pci", "mmio", "blockdev", "direct", "packed", "packed mmio", "plain rings", "iothread", "iothread mmio"])
def test_written_file_system_is_whole(linux, image, setup):
    path = image(ext4=True)
    modules, extra = MODULES, drive(path)
    if "mmio" in setup:
        if vmm.IS_QEMU:
            pytest.skip("QEMU's microvm does not start a kernel beside a disk with this firmware")
        modules = ("virtio_mmio",) + MODULES[1:]
        more = ",packed=on" if "packed" in setup else ",iothread=io" if "iothread" in setup else ""
        extra = ("-machine", "microvm", "-object", "iothread,id=io", "-drive", f"file={path},format=raw,if=none,id=d", "-device",
                 "virtio-blk-device,drive=d" + more)
    elif setup == "iothread":
        extra = ("-object", "iothread,id=io", "-drive", f"file={path},format=raw,if=none,id=d", "-device",
                 "virtio-blk-pci,drive=d,iothread=io,num-queues=4,queue-size=16,packed=on,event_idx=off")
    elif setup in ("packed", "plain rings"):
        rings = "packed=on" if setup == "packed" else "event_idx=off,indirect_desc=off"
        extra = ("-drive", f"file={path},format=raw,if=none,id=d", "-device", f"virtio-blk-pci,drive=d,{rings}")
    elif setup == "blockdev":
        extra = ("-blockdev", f"driver=file,node-name=f,filename={path}", "-blockdev", "driver=raw,node-name=r,file=f",
                 "-device", "virtio-blk-pci,drive=r,serial=abc")
    elif setup == "direct":
        extra = drive(path, ",cache=none")
    m = linux(*extra, "-smp", "2", script=WRITE, modules=modules)
    text = m.wait_text("VT done", BOOT + 60, "the guest could not write its disk")
    m.wait(30)
    features = re.search(r"VT features (\d+)", m.text()).group(1)
    assert (features[34] == "1") == ("packed" in setup or setup == "iothread"), f"the guest has other rings than asked for: {features}"
    holds_what_was_written(m, path, text, 15)


def test_properties_reach_the_guest(linux, image):
    """Queues as vCPUs, block sizes, topology, discard and its granularity, the cache mode, and a new binding of the driver while I/O runs."""
    path = image(16)
    m = linux("-smp", "3", "-drive", f"file={path},format=raw,if=none,id=d,discard=unmap", "-device",
              "virtio-blk-pci,drive=d,logical_block_size=1024,physical_block_size=4096,min_io_size=8192,opt_io_size=65536,discard_granularity=32768",
              modules=MODULES[:2], script="""
q=/sys/block/vda/queue
echo "VT queues $(ls /sys/block/vda/mq | wc -l) $(cat $q/logical_block_size $q/physical_block_size $q/minimum_io_size $q/optimal_io_size | xargs)"
echo "VT discard $(cat $q/discard_granularity) cache $(cat $q/write_cache)"
echo "write through" > /sys/block/vda/cache_type; echo "VT cache now $(cat $q/write_cache)"
echo "write back" > /sys/block/vda/cache_type; echo "VT cache then $(cat $q/write_cache)"
tr '\\0' 'x' < /dev/zero | dd of=/dev/vda bs=1M count=16 iflag=fullblock conv=fsync 2>/dev/null
blkdiscard -o 1048576 -l 2097152 /dev/vda; sync
d=$(basename $(readlink -f /sys/block/vda/device))
for i in 1 2 3; do
    dd if=/dev/vda of=/dev/null bs=4k iflag=direct 2>/dev/null &
    echo $d > /sys/bus/virtio/drivers/virtio_blk/unbind; wait; echo $d > /sys/bus/virtio/drivers/virtio_blk/bind
done
echo "VT again $(dd if=/dev/vda bs=1M count=1 2>/dev/null | md5sum | cut -c 1-32)"
""")
    m.wait_text("VT queues 3 1024 4096 8192 65536", BOOT)
    m.wait_text("VT discard 32768 cache write back", 30)
    m.wait_text("VT cache now write through", 30)
    m.wait_text("VT cache then write back", 30)
    m.wait_text("VT again " + hashlib.md5(b"x" * (1 << 20)).hexdigest(), 60, "after new bindings of its driver the disk does not work")
    m.wait(60)
    with open(path, "rb") as f:
        data = f.read()
    assert data == b"x" * (1 << 20) + b"\0" * (2 << 20) + b"x" * (13 << 20)
    assert os.stat(path).st_blocks * 512 <= (14 << 20) + 65536, "what the guest discarded still takes room"


def test_iothread_objects(linux, image):
    """Made at the start and later, shown, changed, busy while a device uses one."""
    m = linux("-object", "iothread,id=io0,poll-max-ns=0", "-drive", f"file={image(8)},format=raw,if=none,id=d", "-device",
              "virtio-blk-pci,drive=d,iothread=io0,id=disk0", modules=MODULES[:2], qmp=True, script="""
dd if=/dev/vda of=/dev/null bs=1M 2>/dev/null && echo "VT read"; read line
""")
    m.wait_text("VT read", BOOT)
    m.qmp.command("object-add", **{"qom-type": "iothread", "id": "io1"})
    threads = {t["id"]: t for t in m.qmp.command("query-iothreads")}
    assert sorted(threads) == ["io0", "io1"] and threads["io0"]["poll-max-ns"] == 0 and threads["io1"]["poll-max-ns"] == 32768
    for t in threads.values():
        with open(f"/proc/{m.process.pid}/task/{t['thread-id']}/comm", encoding="ascii") as f:
            assert f.read().startswith("IO ")
    m.qmp.command("qom-set", path="/objects/io1", property="poll-max-ns", value=1000)
    assert m.qmp.command("qom-get", path="/objects/io1", property="poll-max-ns") == 1000
    m.qmp.command("object-del", id="io1")
    assert "in use" in m.qmp.execute("object-del", id="io0")["error"]["desc"]
    m.qmp.command("stop")
    m.qmp.command("cont")
    m.qmp.command("quit")
    m.wait(20, 0)


def test_read_only_drive(linux, image):
    path = image(1)
    m = linux(*drive(path, ",readonly=on"), modules=MODULES[:2], script="""
echo "VT ro $(cat /sys/block/vda/ro)"
dd if=/dev/zero of=/dev/vda bs=512 count=1 conv=fsync 2>/dev/null || echo "VT refused"
""")
    m.wait_text("VT ro 1", BOOT, "a drive with readonly=on is writable in the guest")
    m.wait_text("VT refused", 30)
    m.wait(30)


def test_serial_number_and_size(linux, image):
    path = image(3)
    m = linux("-drive", f"file={path},format=raw,if=none,id=d", "-device", "virtio-blk-pci,drive=d,serial=SN-123", modules=MODULES[:2],
              script='echo "VT disk $(cat /sys/block/vda/serial) $(cat /sys/block/vda/size)"')
    m.wait_text("VT disk SN-123 6144", BOOT)
    m.wait(30)


def test_kill_loses_nothing_that_was_flushed(linux, image):
    """The guest says a record's number after its fsync; the program is killed in the middle."""
    path = image(8)
    m = linux(*drive(path), modules=MODULES[:2], script="""
i=0
while :; do
    printf 'record %s ' $i > /tmp/r
    dd if=/tmp/r of=/dev/vda bs=512 seek=$i conv=notrunc,fsync 2>/dev/null
    echo "VT record $i"
    i=$((i + 1))
done
""")
    m.wait_text("VT record 60\r\n", BOOT + 60)
    m.process.send_signal(signal.SIGKILL)
    m.wait(10, -signal.SIGKILL)
    last = max(int(n) for n in re.findall(r"VT record (\d+)\n", m.text()))
    assert last >= 60
    with open(path, "rb") as f:
        for i in range(last + 1):
            f.seek(i * 512)
            got = f.read(64).split(b"\0")[0].decode()
            assert got.startswith(f"record {i} "), f"record {i} of {last} was flushed by the guest and is lost: {got!r}"


def test_kill_leaves_a_file_system_that_recovers(linux, image):
    path = image(64, ext4=True)
    m = linux(*drive(path), modules=MODULES, script="""
mount -t ext4 /dev/vda /mnt
i=0
while :; do
    dd if=/dev/urandom of=/mnt/f$i bs=16k count=1 conv=fsync 2>/dev/null
    echo "VT file $i $(sha256sum < /mnt/f$i | cut -c 1-64)"
    i=$((i + 1))
done
""")
    m.wait_text("VT file 25 ", BOOT + 60)
    m.process.send_signal(signal.SIGKILL)
    m.wait(10, -signal.SIGKILL)
    fsck(path, repair=True)
    files = re.findall(r"VT file (\d+) (\w{64})\n", m.text())
    assert len(files) >= 25
    for i, digest in files:
        data = subprocess.run(["debugfs", "-R", f"cat /f{i}", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
        assert hashlib.sha256(data).hexdigest() == digest, f"file {i} was flushed by the guest and is not on the image"


def holder(machine, flat, path, extra=""):
    m = machine("-accel", "jit", "-m", "64", "-nodefaults", "-display", "none", "-serial", "stdio", *drive(path, extra), "-kernel", flat("halt"))
    m.wait_text("halting\n", 20)
    return m


def qemu_io(path, command, *options):
    return subprocess.run(["qemu-io", "-f", "raw", *options, "-c", command, path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False).stdout


def refused(args):
    status, out, err = vmm.run(args)
    assert status == 1, f"a locked disk was opened a second time: {out}{err}"
    assert "lock" in err or "in use" in err, f"the error does not say that the disk is in use: {err}"
    if not vmm.IS_QEMU:
        assert err.count("\n") == 1, f"the error is not one line: {err}"


def test_disk_in_use_is_refused(machine, flat, image):
    path = image(1)
    m = holder(machine, flat, path)
    args = ["-accel", "jit", "-nodefaults", "-display", "none", "-kernel", flat("halt")]
    refused([*args, *drive(path)])
    refused([*args, *drive(path, ",readonly=on")])
    # (`qemu-img info` of a raw image reads nothing, and is let through by QEMU's own lock too.)
    for command in ("read 0 512", "write 0 512"):
        other = qemu_io(path, command)
        assert "lock" in other, f"qemu-io can {command} a disk that the machine has: {other}"
    assert "512/512" in qemu_io(path, "read 0 512", "-r", "-U"), "who asks for a shared look (-U) is refused"
    m.process.terminate()
    m.wait(10)
    assert "512/512" in qemu_io(path, "write 0 512"), "after the machine has ended its disk is still locked"


def test_disk_that_qemu_writes_is_refused(flat, image):
    path = image(1)
    with subprocess.Popen(["qemu-io", "-f", "raw", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as other:
        try:
            other.stdin.write(b"read 0 512\n")
            other.stdin.flush()
            while b"512/512" not in other.stdout.readline():
                pass
            refused(["-accel", "jit", "-nodefaults", "-display", "none", "-kernel", flat("halt"), *drive(path)])
        finally:
            other.stdin.close()
            other.kill()


def test_read_only_disk_is_shared(machine, flat, image):
    path = image(1)
    holder(machine, flat, path, ",readonly=on")
    holder(machine, flat, path, ",readonly=on")


FILL = """
read line
dd if=/dev/zero of=/tmp/z bs=64k count=1 2>/dev/null
echo "VT writing"
dd if=/tmp/z of=/dev/vda bs=64k seek=512 conv=notrunc,fsync 2>/dev/null && echo "VT written" || echo "VT failed"
"""


def bear_limits():
    """Writing past a limit is an error for vireo-vmm by itself; QEMU has to be told."""
    if vmm.IS_QEMU:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def limit_files(m):
    """No file of the running machine may grow past 16 MiB. (Not from the start: its memory is a file too.)"""
    m.wait_text("VT init", BOOT)
    resource.prlimit(m.process.pid, resource.RLIMIT_FSIZE, (16 << 20, resource.RLIM_INFINITY))
    m.send("\n")


def test_write_error_stops_the_guest(linux, image):
    """The image may not grow past 16 MiB; the guest writes at 32 MiB. It stops, and goes on when there is room."""
    path = image(64)
    m = linux(*drive(path, ",werror=stop"), modules=MODULES[:2], script=FILL, qmp=True, preexec=bear_limits)
    limit_files(m)
    m.qmp.command("query-status")
    m.wait_text("VT writing", BOOT)
    event = m.qmp.wait_event("BLOCK_IO_ERROR", 30)
    assert (event["data"]["operation"], event["data"]["action"]) == ("write", "stop")
    m.qmp.wait_event("STOP", 30)
    assert m.qmp.command("query-status")["status"] == "io-error", "a disk write error does not show in query-status"
    resource.prlimit(m.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    m.qmp.command("cont")
    m.wait_text("VT written", 30, "after the cause is gone, `cont` does not repeat the write that failed")
    m.wait(30)


def test_full_disk_stops_the_guest(linux, image, work):
    """A full host file system stops the guest without any option."""
    mount = f"{work}/small"
    os.mkdir(mount)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", mount], check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("this user may not mount a small file system")
    try:
        path = f"{mount}/disk"
        with open(path, "wb") as f:
            f.truncate(64 << 20)
        m = linux(*drive(path), modules=MODULES[:2], qmp=True, script=FILL.replace("count=1", "count=64").replace("bs=64k seek=512", "bs=1M seek=2"))
        m.qmp.command("query-status")
        m.wait_text("VT init", BOOT)
        m.send("\n")
        event = m.qmp.wait_event("BLOCK_IO_ERROR", BOOT)
        assert event["data"]["nospace"] is True
        m.qmp.wait_event("STOP", 30)
        assert m.qmp.command("query-status")["status"] == "io-error"
        m.kill()
    finally:
        subprocess.run(["umount", "-l", mount], check=False)


def test_write_error_can_be_reported_to_the_guest(linux, image):
    path = image(64)
    m = linux(*drive(path, ",werror=report"), modules=MODULES[:2], script=FILL, preexec=bear_limits)
    limit_files(m)
    m.wait_text("VT failed", BOOT, "with werror=report the guest does not see the error")
    m.wait(30)


def test_other_virtio_devices(linux, work):
    """Random numbers, a second console, the balloon."""
    m = linux("-device", "virtio-rng-pci", "-device", "virtio-serial-pci", "-chardev", f"file,id=c,path={work}/hvc",
              "-device", "virtconsole,chardev=c", "-device", "virtio-balloon-pci",
              modules=("virtio_pci", "virtio-rng", "virtio_console", "virtio_balloon"), script="""
echo "VT rng $(cat /sys/class/misc/hw_random/rng_current) $(dd if=/dev/hwrng bs=64 count=4 2>/dev/null | wc -c)"
await "[ -c /dev/hvc0 ] && echo from the guest > /dev/hvc0" # the device's port comes a little after its driver
for d in /sys/bus/virtio/devices/*; do echo "VT driver $(basename $(readlink $d/driver))"; done
""")
    between = m.wait_text("VT done", BOOT)
    m.wait(30)
    assert re.search(r"VT rng virtio_rng\S* 256", between), "the guest gets no random numbers from virtio-rng" + m.tail()
    for driver in ("virtio_rng", "virtio_console", "virtio_balloon"):
        assert f"VT driver {driver}" in between, f"the guest's driver {driver} has not taken its device" + m.tail()
    with open(f"{work}/hvc", "rb") as f:
        assert b"from the guest" in f.read(), "what the guest wrote on its virtio console is not in the file"
