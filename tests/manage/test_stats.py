# SPDX-License-Identifier: GPL-2.0-or-later
"""domstats of many running machines in one call: all of a machine's questions are on their way at once, and those of the next machines as well."""
import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from conftest import PLAIN
from limits import SLOW

DOMAIN = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>16</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices>{emulator}<controller type='usb' model='none'/><memballoon model='none'/>{disk}</devices></domain>"""
DISK = "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{path}'/><target dev='vda' bus='virtio'/></disk>"
QEMU = "/usr/bin/qemu-system-x86_64"
RUNNING, ALL = 36, 42 # more than are asked ahead


def define(vireod, name, emulator="", disk=False):
    path = os.path.join(vireod.root, name)
    if disk:
        with open(path + ".img", "wb") as f:
            f.truncate(1 << 20)
    with open(path + ".xml", "w", encoding="utf-8") as f:
        f.write(DOMAIN.format(name=name, emulator=f"<emulator>{emulator}</emulator>" if emulator else "", disk=DISK.format(path=path + ".img") if disk else ""))
    return path + ".xml"


def records(text):
    """name -> field -> value, in the order in which they came"""
    return {part.split("'")[0]: dict(line.strip().split("=", 1) for line in part.splitlines()[1:] if "=" in line) for part in text.split("Domain: '")[1:]}


def process_of(vireod, name):
    """The machine's process, by the mark that the daemon leaves in its environment."""
    mark = re.compile(f"VIREO_DOMAIN={re.escape(vireod.root)}/[^\0]*-{name}\0".encode())
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{number}/environ", "rb") as f:
                if mark.search(f.read() + b"\0"):
                    return int(number)
        except OSError:
            continue
    raise AssertionError(f"no process of {name}")


def unread(process):
    """Whether there is something in a UNIX socket of this process that it has not read."""
    where = f"/proc/{process}/fd"
    mine = {os.readlink(f"{where}/{n}") for n in os.listdir(where)}
    rows = [line.split() for line in subprocess.run(["ss", "-xH"], stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()]
    return any(int(row[2]) and f"socket:[{row[5]}]" in mine for row in rows)


@pytest.fixture
def many(vireod):
    names = [f"vm{i:02}" for i in range(ALL)]
    with_qemu = names[3] if os.access(QEMU, os.X_OK) else None
    paths = [define(vireod, n, QEMU if n == with_qemu else "", disk=i % 5 == 0 or n == with_qemu) for i, n in enumerate(names)]
    vireod.virsh(stdin="".join(f"define {p}\n" for p in paths) + "".join(f"start {n} --paused\n" for n in names[:RUNNING]))
    yield names
    vireod.virsh(stdin="".join(f"destroy {n}\n" for n in names[:RUNNING]))
    if not with_qemu:
        print("note: no QEMU here, all machines are vireo-vmm")


def test_many_machines(vireod, many):
    stats = records(vireod.virsh("domstats"))
    assert list(stats) == many
    for i, name in enumerate(many):
        running, disk = i < RUNNING, i % 5 == 0 or i == 3 and shutil.which(QEMU)
        s = stats[name]
        assert s["block.count"] == ("1" if disk else "0"), (name, s)
        assert s["balloon.current"] == s["balloon.maximum"], (name, s)
        assert ("vcpu.0.time" in s) == running and ("iothread.count" in s) == running, (name, s)
        if disk:
            assert s["block.0.capacity"] == str(1 << 20), (name, s)
            assert ("block.0.rd.reqs" in s) == running, (name, s)
    assert list(records(vireod.virsh("domstats", "--list-active", "--state"))) == many[:RUNNING]
    assert list(records(vireod.virsh("domstats", "vm02", "vm40", "vm01"))) == ["vm02", "vm40", "vm01"]


def test_machine_that_ends_while_it_is_asked(vireod, many):
    """It has been asked and hangs; then it ends: all others' numbers come, and its own as far as they go."""
    victim = process_of(vireod, many[7])
    os.kill(victim, signal.SIGSTOP)
    with subprocess.Popen(["virsh", "-c", vireod.uri, "domstats", "--list-active", "--vcpu"], stdout=subprocess.PIPE, text=True, env=PLAIN) as asker:
        until = time.monotonic() + 30 * SLOW
        while not unread(victim):
            assert asker.poll() is None and time.monotonic() < until, "it is not asked"
            time.sleep(0.05)
        os.kill(victim, signal.SIGKILL)
        stats = records(asker.communicate(timeout=50 * SLOW)[0])
    assert list(stats) == many[:RUNNING]
    assert [n for n in stats if "vcpu.0.time" not in stats[n]] == [many[7]]


@pytest.fixture
def writer(vireod):
    vireod.virsh("define", define(vireod, "writer"))
    vireod.virsh("start", "writer")
    yield vireod.virsh
    vireod.virsh("destroy", "writer")


def test_dirty_rate_in_each_mode(writer):
    for mode, number in ((None, "page-sampling"), ("page-sampling", "page-sampling"), ("dirty-bitmap", "dirty-bitmap")):
        writer("domdirtyrate-calc", "writer", "--seconds", "1", *(["--mode", mode] if mode else []))
        until = time.monotonic() + 30 * SLOW
        while (seen := records(writer("domstats", "--dirtyrate", "writer"))["writer"])["dirtyrate.calc_status"] != "2":
            assert time.monotonic() < until, f"the measurement does not end: {seen}"
            time.sleep(0.1)
        assert (seen["dirtyrate.calc_mode"], seen["dirtyrate.calc_period"]) == (number, "1")
        assert int(seen["dirtyrate.megabytes_per_second"]) >= 0
    assert "bitmap" in writer("domdirtyrate-calc", "writer", "--mode", "dirty-ring", status=1)
