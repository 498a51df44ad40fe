# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine that is saved to a file, loaded in another process, and migrated while it runs."""
import os
import re
import socket
import subprocess
import threading
import time

import pytest

import vmm

# Writes files, and a journal of their checksums on the console, until it is told to stop; then all of them are read again from the disk.
WRITER = """
mount -t ext4 /dev/vda /mnt || echo "VT no mount"
echo "VT ready"
{ read x < /dev/console; touch /tmp/stop; } &
i=0
while [ ! -e /tmp/stop ]; do
    dd if=/dev/urandom of=/mnt/f$i bs=64k count=3 2>/dev/null
    (cd /mnt && sha256sum f$i >> /tmp/sums)
    cut -d ' ' -f 1 /proc/uptime > /tmp/up
    echo "VT n $i $(cat /tmp/up) $(date +%s)"
    i=$((i+1)); sleep 0.05
done
sync
echo 3 > /proc/sys/vm/drop_caches
cd /mnt && sha256sum -c /tmp/sums > /tmp/result 2>&1 && echo "VT all there $(wc -l < /tmp/result)"
cd / && umount /mnt && echo "VT unmounted"
"""


def give_fd(m, name, fd):
    socket.send_fds(m.qmp.sock, [b'{"execute": "getfd", "arguments": {"fdname": "%s"}}\n' % name.encode()], [fd])
    assert "return" in m.qmp.reply()


def wait_migration(m, wanted, deadline=60):
    end = time.monotonic() + deadline * vmm.SLOW
    while True:
        info = m.qmp.command("query-migrate")
        status = info.get("status")
        if status == wanted:
            return info
        if status in ("completed", "failed", "cancelled") or time.monotonic() > end:
            m.fail(f"the migration is {status} instead of {wanted}: {info}")
        time.sleep(0.02)


def save(m, path):
    with open(path, "wb") as f:
        give_fd(m, "save", f.fileno())
    m.qmp.command("migrate", uri="fd:save")
    info = wait_migration(m, "completed")
    assert m.qmp.command("query-status")["status"] == "postmigrate"
    return info


def load(m, path, status="completed"):
    with open(path, "rb") as f:
        give_fd(m, "load", f.fileno())
    m.qmp.command("migrate-incoming", uri="fd:load")
    return wait_migration(m, status)


def common(disk, *more, smp="1"):
    return ["-smp", smp, "-blockdev", f"driver=file,filename={disk},node-name=file0",
            "-blockdev", f"driver={'qcow2' if disk.endswith('qcow2') else 'raw'},file=file0,node-name=disk0",
            "-device", "virtio-blk-pci,drive=disk0,id=d0", "-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0,id=net0", *more]


def uptimes(text):
    return [(int(n), float(up), int(now)) for n, up, now in re.findall(r"VT n (\d+) ([\d.]+) (\d+)", text)]


@pytest.mark.parametrize("smp,kind", [("1", "raw"), ("4", "qcow2")])
def test_saved_in_the_middle_of_writing(linux, work, image, smp, kind):
    disk = image(512, ext4=True)
    if kind == "qcow2":
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", disk, disk + ".qcow2"], check=True)
        disk += ".qcow2"
    args = common(disk, smp=smp)
    modules = ("virtio_pci", "virtio_blk", "virtio_net", "ext4", "crc32c_generic")
    m = linux(*args, script=WRITER, modules=modules, qmp=True)
    m.wait_text("VT n 5 ", 90)
    saved = os.path.join(work, "saved")
    info = save(m, saved)
    assert info["ram"]["total"] >= 500 << 20 and info["ram"]["transferred"] < 400 << 20, info
    assert os.path.getsize(saved) < 400 << 20
    m.qmp.command("quit")
    m.wait(20)
    first = m.text()
    n = linux(*args, "-incoming", "defer", script=WRITER, modules=modules, qmp=True)
    assert n.qmp.command("query-status")["status"] == "inmigrate"
    load(n, saved)
    for _ in range(10):
        n.wait_text("VT n ", 60, "the guest does not go on")
    n.send("stop\n")
    n.wait_text("VT all there ", 120)
    count = int(n.wait_text("\n", 10))
    n.wait_text("VT unmounted", 30)
    n.wait(30)
    seen = uptimes(first + n.text())
    assert [s[0] for s in seen] == list(range(count)), "a line of the journal is missing, or came twice"
    assert all(a[1] <= b[1] and a[2] <= b[2] + 1 for a, b in zip(seen, seen[1:])), f"the guest's time went back: {seen}"
    if kind == "raw":
        subprocess.run(["e2fsck", "-fn", disk], check=True, stdout=subprocess.DEVNULL)
    else:
        subprocess.run(["qemu-img", "check", disk], check=True, stdout=subprocess.DEVNULL)


# Copies 4 MiB of noise around in memory without end, and looks each time whether it is what it was.
CHURN = """
mount -t ext4 /dev/vda /mnt
dd if=/dev/urandom of=/tmp/a bs=1M count=4 2>/dev/null
good=$(sha256sum < /tmp/a)
{ read x < /dev/console; touch /tmp/stop; } &
i=0
while [ ! -e /tmp/stop ]; do
    cp /tmp/a /tmp/b$((i % 3))
    [ "$(sha256sum < /tmp/b$((i % 3)))" = "$good" ] || echo "VT wrong $i"
    cp /tmp/a /mnt/c; sync /mnt/c
    [ $((i % 5)) = 0 ] && echo "VT round $i"
    [ "$(date +%s)" -lt 1700000000 ] && echo "VT no time"
    i=$((i+1))
done
echo 3 > /proc/sys/vm/drop_caches
[ "$(sha256sum < /mnt/c)" = "$good" ] && echo "VT disk good"
umount /mnt && echo "VT end of churn"
"""
MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "ext4", "crc32c_generic")


def churning(linux, disk, *args, smp="2"):
    m = linux(*common(disk, *args, smp=smp), script=CHURN, modules=MODULES, qmp=True)
    return m


def connect(m, n):
    """The two ends of a connection: migrate to fd:there of m, migrate-incoming from fd:here of n."""
    a, b = socket.socketpair()
    give_fd(m, "there", a.fileno())
    give_fd(n, "here", b.fileno())
    a.close()
    b.close()


def events_of(m):
    m.qmp.command("query-name")
    return [e["data"]["status"] for e in m.qmp.events if e["event"] == "MIGRATION"]


def test_live_migration_under_load(linux, image, work):
    disk = image(64, ext4=True)
    m = churning(linux, disk)
    m.wait_text("VT round 0", 90)
    save(m, os.path.join(work, "saved")) # after which the machine may go on: it takes its disks again
    m.qmp.command("cont")
    m.wait_text("VT round", 60)
    n = churning(linux, disk, "-incoming", "defer")
    for side in (m, n):
        side.qmp.command("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
    connect(m, n)
    m.qmp.command("migrate-set-parameters", **{"downtime-limit": 500, "max-bandwidth": 0})
    n.qmp.command("migrate-incoming", uri="fd:here")
    m.qmp.command("migrate", uri="fd:there")
    info = wait_migration(m, "completed", 90)
    assert info["ram"]["dirty-sync-count"] >= 2 and info["downtime"] < info["total-time"], info
    assert m.qmp.command("query-status")["status"] == "postmigrate"
    wait_migration(n, "completed")
    assert events_of(m) == ["setup", "active", "device", "completed"]
    assert events_of(n) == ["setup", "active", "completed"]
    n.wait_text("VT round", 60)
    n.wait_text("VT round", 60)
    assert n.qmp.command("query-status")["status"] == "running"
    assert "previous migration" in m.qmp.execute("migrate", uri="fd:x")["error"]["desc"]
    m.qmp.command("quit")
    m.wait(20)
    n.send("stop\n")
    n.wait_text("VT disk good", 60)
    n.wait_text("VT end of churn", 60)
    n.wait(30)
    assert "VT wrong" not in m.text() + n.text() and "VT no time" not in n.text()
    subprocess.run(["e2fsck", "-fn", disk], check=True, stdout=subprocess.DEVNULL)


# Writes 48 MiB of noise again and again.
HASTE = """
dd if=/dev/urandom of=/tmp/a bs=1M count=48 2>/dev/null
good=$(sha256sum < /tmp/a)
{ read x < /dev/console; touch /tmp/stop; } &
i=0
while [ ! -e /tmp/stop ]; do
    dd if=/tmp/a of=/tmp/b bs=64k conv=notrunc 2>/dev/null
    [ $((i % 5)) = 0 ] && echo "VT round $i"
    i=$((i+1))
done
[ "$(sha256sum < /tmp/b)" = "$good" ] && echo "VT memory good"
"""


def test_auto_converge(linux):
    """A guest that writes faster than its memory is sent goes nowhere; with auto-converge its vCPUs rest until it does, and rest no more where it has arrived."""
    def start(*args):
        return linux("-smp", "2", *args, script=HASTE, memory="256", qmp=True)

    m = start()
    m.wait_text("VT round 0", 90)
    a, b = socket.socketpair()
    reader = threading.Thread(target=lambda: [None for _ in iter(lambda: b.recv(1 << 20), b"")])
    reader.start()
    give_fd(m, "there", a.fileno())
    a.close()
    m.qmp.command("migrate-set-parameters", **{"downtime-limit": 100, "max-bandwidth": 32 << 20, "cpu-throttle-initial": 60, "cpu-throttle-increment": 39})
    m.qmp.command("migrate", uri="fd:there")
    end = time.monotonic() + 60 * vmm.SLOW
    while (info := m.qmp.command("query-migrate"))["ram"]["dirty-sync-count"] < 6:
        assert info["status"] == "active" and "cpu-throttle-percentage" not in info and time.monotonic() < end, info
        time.sleep(0.1)
    m.qmp.command("migrate_cancel")
    wait_migration(m, "cancelled")
    reader.join()
    b.close()
    n = start("-incoming", "defer")
    connect(m, n)
    m.qmp.command("migrate-set-capabilities", capabilities=[{"capability": "auto-converge", "state": True}])
    n.qmp.command("migrate-incoming", uri="fd:here")
    m.qmp.command("migrate", uri="fd:there")
    rested = set()
    end = time.monotonic() + 120 * vmm.SLOW
    while (info := m.qmp.command("query-migrate"))["status"] == "active":
        assert time.monotonic() < end, info
        rested.add(info.get("cpu-throttle-percentage", 0))
        time.sleep(0.05)
    wait_migration(m, "completed")
    assert rested <= {0, 60, 99} and 60 in rested, rested
    assert "cpu-throttle-percentage" not in m.qmp.command("query-migrate")
    wait_migration(n, "completed")
    m.qmp.command("quit")
    m.wait(20)
    n.wait_text("VT round", 60)
    n.send("stop\n")
    n.wait_text("VT memory good", 60)
    n.wait(30)


def test_what_ends_a_migration_leaves_the_guest_running(linux, image):
    """Cancelled, its other side dies, nobody reads: the guest goes on, and its disk is its own. In the end it moves after all."""
    disk = image(64, ext4=True)
    m = churning(linux, disk)
    m.wait_text("VT round 0", 90)
    # nobody reads: it is cancelled in the middle of a write
    a, b = socket.socketpair()
    give_fd(m, "there", a.fileno())
    m.qmp.command("migrate", uri="fd:there")
    assert "in progress" in m.qmp.execute("migrate", uri="fd:there")["error"]["desc"]
    m.qmp.command("migrate_cancel")
    wait_migration(m, "cancelled")
    m.wait_text("VT round", 60)
    a.close()
    b.close()
    # the other side is killed
    n = churning(linux, disk, "-incoming", "defer")
    connect(m, n)
    n.qmp.command("migrate-incoming", uri="fd:here")
    m.qmp.command("migrate-set-parameters", **{"max-bandwidth": 20 << 20})
    m.qmp.command("migrate", uri="fd:there")
    while m.qmp.command("query-migrate")["ram"]["transferred"] < 4 << 20:
        time.sleep(0.02)
    n.kill()
    assert "cannot be written" in wait_migration(m, "failed")["error-desc"]
    assert m.qmp.command("query-status")["status"] == "running"
    m.wait_text("VT round", 60)
    # before the disks change hands the client is asked, and changes its mind
    n = churning(linux, disk, "-incoming", "defer")
    connect(m, n)
    n.qmp.command("migrate-incoming", uri="fd:here")
    m.qmp.command("migrate-set-parameters", **{"max-bandwidth": 0, "downtime-limit": 2000})
    m.qmp.command("migrate-set-capabilities", capabilities=[{"capability": "pause-before-switchover", "state": True}])
    m.qmp.command("migrate", uri="fd:there")
    wait_migration(m, "pre-switchover")
    assert m.qmp.command("query-status")["status"] == "finish-migrate"
    assert "error" in m.qmp.execute("cont")
    m.qmp.command("migrate_cancel")
    wait_migration(m, "cancelled")
    n.wait(20, 1)
    assert "-incoming: the saved machine ends in the middle" in n.stderr()
    m.wait_text("VT round", 60)
    # and at last
    n = churning(linux, disk, "-incoming", "defer", "-S")
    connect(m, n)
    n.qmp.command("migrate-incoming", uri="fd:here")
    m.qmp.command("migrate", uri="fd:there")
    wait_migration(m, "pre-switchover")
    m.qmp.command("migrate-continue", state="pre-switchover")
    wait_migration(m, "completed")
    wait_migration(n, "completed")
    assert n.qmp.command("query-status")["status"] == "paused"
    m.kill()
    n.qmp.command("cont")
    n.send("stop\n")
    n.wait_text("VT disk good", 60)
    n.wait(30)
    assert "VT wrong" not in m.text() + n.text()


FLAT = ["-accel", "jit", "-m", "32", "-nodefaults", "-display", "none", "-serial", "stdio", "-machine", "q35"]


def spinning(machine, flat, *args):
    return machine(*FLAT, "-kernel", flat("spin"), *args, qmp=True)


@pytest.fixture
def saved(machine, flat, work):
    m = spinning(machine, flat)
    m.wait_text("spinning\n", 20)
    path = os.path.join(work, "saved")
    save(m, path)
    m.qmp.command("quit")
    m.wait(20)
    return path


def refused(machine, flat, path, *args):
    n = spinning(machine, flat, "-incoming", "defer", *args)
    with open(path, "rb") as f:
        give_fd(n, "load", f.fileno())
    n.qmp.command("migrate-incoming", uri="fd:load")
    n.wait(20, 1)
    lines = n.stderr().strip().split("\n")
    assert len(lines) == 1 and lines[0].startswith("vireo-vmm: -incoming: "), lines
    return lines[0]


def test_another_machine_is_refused(machine, flat, saved):
    """Each difference by its name."""
    assert "RAM of 64768 KiB at 0xc0000" in refused(machine, flat, saved, "-m", "64")
    assert "vCPU 1" in refused(machine, flat, saved, "-smp", "2")
    assert "virtio-rng-pci at PCI 05.0" in refused(machine, flat, saved, "-device", "virtio-rng-pci,addr=5")
    assert "CPU feature " in refused(machine, flat, saved, "-cpu", "qemu64")
    assert "board microvm" in refused(machine, flat, saved, "-machine", "microvm")


def test_devices_are_known_by_their_place(machine, flat, work):
    """Who plugs and unplugs names what is left anew where the machine is started again."""
    def named(rng, first, second):
        return ("-device", f"virtio-rng-pci,addr=5,id={rng}", "-device", "virtio-serial-pci,addr=6,id=vs", "-chardev", "null,id=c1", "-chardev", "null,id=c2",
                "-device", f"virtserialport,id={first},chardev=c1,nr=1,name=a", "-device", f"virtserialport,id={second},chardev=c2,nr=2,name=b")
    m = spinning(machine, flat, *named("rng7", "channel8", "channel9"))
    m.wait_text("spinning\n", 20)
    path = os.path.join(work, "saved")
    save(m, path)
    m.qmp.command("quit")
    m.wait(20)
    n = spinning(machine, flat, "-incoming", "defer", *named("rng0", "channel0", "channel1"))
    load(n, path)
    assert n.qmp.command("query-status")["status"] in ("paused", "postmigrate", "running")
    assert "virtserialport at port 3" in refused(machine, flat, path, *named("rng7", "channel8", "channel9"), "-device", "virtserialport,id=channel10,nr=3")


def test_a_damaged_stream_is_refused(machine, flat, saved, work):
    with open(saved, "rb") as f:
        good = f.read()
    bad = os.path.join(work, "bad")
    size = len(good)
    cases = {"empty": b"", "of something else": b"\x7fELF" + good[4:], "cut in its header": good[:10], "cut in the middle": good[:size // 2], "cut at its end": good[:-1]}
    for at in (9, 20, 40, 3000, size // 3, size - 300, size - 2):
        cases[f"with a bit flipped at {at}"] = good[:at] + bytes([good[at] ^ 4]) + good[at + 1:]
    for what, data in cases.items():
        with open(bad, "wb") as f:
            f.write(data)
        message = refused(machine, flat, bad)
        assert re.search("saved machine|not a saved|was saved in version", message), f"a stream {what}: {message}"


def test_refusals_of_commands(machine, flat):
    m = spinning(machine, flat)
    q = m.qmp
    for name in ("xbzrle", "postcopy-ram", "multifd", "return-path"):
        text = q.execute("migrate-set-capabilities", capabilities=[{"capability": name, "state": True}])["error"]["desc"]
        assert f"'{name}' is not there" in text
    assert "does not accept" in q.execute("migrate-set-capabilities", capabilities=[{"capability": "x", "state": True}])["error"]["desc"]
    assert {c["capability"] for c in q.command("query-migrate-capabilities")} == {"events", "pause-before-switchover", "late-block-activate", "auto-converge"}
    assert "unexpected" in q.execute("migrate-set-parameters", warp=9)["error"]["desc"]
    assert "range" in q.execute("migrate-set-parameters", **{"downtime-limit": -1})["error"]["desc"]
    for name, value in (("cpu-throttle-initial", 0), ("cpu-throttle-increment", 100), ("max-cpu-throttle", 100), ("throttle-trigger-threshold", 101), ("throttle-trigger-threshold", "50")):
        assert f"'{name}' expects an integer in the range of 1 to" in q.execute("migrate-set-parameters", **{name: value})["error"]["desc"]
    assert "not encrypted" in q.execute("migrate-set-parameters", **{"tls-creds": "x"})["error"]["desc"]
    q.command("migrate-set-parameters", **{"max-bandwidth": 1 << 20, "downtime-limit": 50, "cpu-throttle-initial": 30})
    now = q.command("query-migrate-parameters")
    assert (now["max-bandwidth"], now["downtime-limit"], now["cpu-throttle-initial"]) == (1 << 20, 50, 30)
    assert "unknown migration protocol" in q.execute("migrate", uri="pigeon:1")["error"]["desc"]
    assert "not been found" in q.execute("migrate", uri="fd:nothing")["error"]["desc"]
    assert "was not specified" in q.execute("migrate-incoming", uri="fd:x")["error"]["desc"]
    assert "expected state" in q.execute("migrate-continue", state="device")["error"]["desc"]
    assert "no postcopy" in q.execute("migrate-recover", uri="fd:x")["error"]["desc"]
    assert q.command("query-migrate") == {}
    q.command("migrate_cancel")
    assert "sandbox" in q.execute("migrate", uri="exec:cat")["error"]["desc"]
    q.command("quit")
    m.wait(20)


def test_addresses(machine, flat, work):
    """unix:, tcp: and exec:, which need a process that may make sockets and programs."""
    m = spinning(machine, flat, "-sandbox", "off")
    m.wait_text("spinning\n", 20)
    path = os.path.join(work, "packed")
    m.qmp.command("migrate", uri=f"exec:gzip -1 > {path}")
    wait_migration(m, "completed")
    m.qmp.command("quit")
    m.wait(20)
    n = spinning(machine, flat, "-sandbox", "off", "-incoming", f"exec:gzip -d < {path}")
    wait_migration(n, "completed")
    assert n.qmp.command("query-status")["status"] == "running"
    o = spinning(machine, flat, "-incoming", f"unix:{work}/sock")
    o.qmp.command("query-status")
    n.qmp.command("migrate", uri=f"unix:{work}/sock")
    wait_migration(n, "completed")
    wait_migration(o, "completed")
    assert o.qmp.command("query-status")["status"] == "running"
    address = "tcp:127.%d.%d.%d:7777" % tuple(os.urandom(3))  # nobody else's port is in the way
    p = spinning(machine, flat, "-sandbox", "off", "-incoming", address)
    p.qmp.command("query-status")
    assert "sandbox" in o.qmp.execute("migrate", uri=address)["error"]["desc"]
    q = spinning(machine, flat, "-sandbox", "off")
    q.wait_text("spinning\n", 20)
    q.qmp.command("migrate", uri=address)
    wait_migration(q, "completed")
    wait_migration(p, "completed")
    assert p.qmp.command("query-status")["status"] == "running"
