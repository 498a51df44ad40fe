# SPDX-License-Identifier: GPL-2.0-or-later
"""kill -9 of the daemon at each step of a save, a managed save, a restore and a start from a managed save (strace injects the signal): afterwards the guest runs on, or its state is whole
on the disk, never both and never neither; and it counts on from where it was."""
import os
import pathlib
import shutil
import tempfile
import time

import pytest

libvirt = pytest.importorskip("libvirt", reason="python3-libvirt is not installed")
from conftest import Vireod  # noqa: E402
from crash_lab import can_trace, lives_through  # noqa: E402
from limits import SLOW  # noqa: E402
from save_lab import Counter, header  # noqa: E402

pytestmark = pytest.mark.skipif(can_trace() is not None, reason=str(can_trace()))
STEPS_MOST = 40


@pytest.fixture
def vm(emulator):
    where = pathlib.Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    daemon = Vireod(where)
    try:
        yield Counter(daemon, where, emulator)
        if daemon.process.poll() is not None:
            daemon.start()
        daemon.virsh("destroy", "vm", status=None)
    finally:
        daemon.stop(status=None)
        daemon.sweep()
        shutil.rmtree(where)


def settled(vm):
    """What the next daemon has made of it: "running", "paused" or "shut off"."""
    vm.daemon.start()
    end = time.monotonic() + 20 * SLOW
    while True:
        state = vm.virsh("domstate", "vm").strip()
        busy = "saving kind=" in vm.xml_status()
        if state in ("running", "shut off") and not busy:
            return state
        assert time.monotonic() < end, f"{vm.state()}: {vm.xml_status()[:1000]}\n{vm.daemon.messages()}"
        time.sleep(0.05)


@pytest.mark.parametrize("emulator, calls, managed", [("vireo", "rename", False), ("vireo", "fsync,pwrite64,unlink", True), ("qemu", "sendmsg", True), ("qemu", "recvfrom", False)])
def test_save(vm, calls, managed):
    where = vm.saved() if managed else vm.path / "state"
    seen = []
    vm.start()
    for k in range(1, STEPS_MOST):
        vm.goes_on()
        lived = lives_through(vm, calls, k, lambda d: d.managedSave(0) if managed else d.save(str(where)))
        if lived:
            break
        state = settled(vm)
        seen.append(state)
        assert where.exists() == (state == "shut off"), f"step {k}: {state}, {where.exists()}\n{vm.daemon.messages()}"
        if state == "shut off":
            assert header(where)[0] == "LibvirtQemudSave"
            assert bool(vm.virsh("list", "--all", "--name", "--with-managed-save").split()) == managed
            vm.virsh(*(["start", "vm"] if managed else ["restore", where]))
            if not managed:
                where.unlink()
        vm.goes_on()
    print(calls, k - 1, "kills,", seen.count("shut off"), "after it was whole")
    assert lived and k > 2 and vm.state() == "shut off (saved)" and where.exists()


@pytest.mark.parametrize("emulator, calls, managed", [("vireo", "rename,unlink", True), ("qemu", "recvfrom", True)])  # what the machine itself, which is traced too, does not call
def test_restore(vm, calls, managed):
    where = vm.saved() if managed else vm.path / "state"
    vm.start()
    vm.goes_on()
    ran = 0
    for k in range(1, STEPS_MOST):
        vm.virsh(*(["managedsave", "vm"] if managed else ["save", "vm", where]))
        connection = libvirt.open(vm.daemon.uri)
        connection.close()
        lived = lives_through(vm, calls, k, lambda d: d.create() if managed else d.connect().restore(str(where)))
        if lived:
            break
        state = settled(vm)
        if state == "shut off":  # nothing is lost: it is all there for another time
            assert header(where)[0] == "LibvirtQemudSave"
            vm.virsh(*(["start", "vm"] if managed else ["restore", where]))
        else:
            ran += 1
            assert not managed or not where.exists(), f"step {k}: it runs, and its past would be started again"
        vm.goes_on()
    print(calls, k - 1, "kills,", ran, "after the guest had its state")
    assert lived and k > 2
    vm.goes_on()
    assert vm.state() == "running (restored)"
