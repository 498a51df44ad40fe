# SPDX-License-Identifier: GPL-2.0-or-later
"""kill -9 of the daemon before each file that it renames and each message that it sends while a backup with a checkpoint begins (strace injects the signal): afterwards
the backup is there as a whole, or nothing of it."""
import os
import time

import pytest

libvirt = pytest.importorskip("libvirt", reason="python3-libvirt is not installed")
from crash_lab import STEPS_MOST, can_trace, end_machine, found_again, lives_through, running  # noqa: E402, F401 pylint: disable=unused-import
from disk_lab import reads, run  # noqa: E402
from limits import SLOW  # noqa: E402

pytestmark = pytest.mark.skipif(can_trace() is not None, reason=str(can_trace()))


def begin(vm, mode, calls, k):
    name, path = f"b{k:03}", vm.path
    pull = f"<server transport='unix' socket='{path}/{name}.sock'/>" if mode == "pull" else ""
    image = "scratch" if mode == "pull" else "target"
    xml = f"<domainbackup mode='{mode}'>{pull}<disks><disk name='vda' type='file'><{image} file='{path}/{name}.image'/></disk></disks></domainbackup>"
    check = f"<domaincheckpoint><name>{name}</name><disks><disk name='vda'/></disks></domaincheckpoint>"
    return name, lives_through(vm, calls, k, lambda d: d.backupBegin(xml, check, 0))


def is_over(vm):
    return "no domain backup job present" in vm.virsh("backup-dumpxml", "vm", status=None)


def left(vm, name):
    return sorted(p.name for p in vm.path.glob(f"{name}.*"))


def bitmaps(vm):
    return {b["name"] for n in vm.qmp("query-named-block-nodes", flat=True)["return"] for b in n.get("dirty-bitmaps", []) if b.get("name")}


def half(vm, name, mode):
    """What is not as it is to be, or None."""
    known = name in vm.virsh("checkpoint-list", "vm", "--name").split()
    if known != (name in bitmaps(vm)):
        return f"the checkpoint is {'' if known else 'not '}listed, the bitmaps are {bitmaps(vm)}"
    if mode == "pull" and not is_over(vm):
        if not known or left(vm, name) != [f"{name}.image", f"{name}.sock"]:
            return f"the backup runs with {left(vm, name)}, checkpoint: {known}"
        return None if "16777216" in run("nbdinfo", f"nbd+unix:///vda?socket={vm.path}/{name}.sock") else "nobody can read"
    if not is_over(vm) or len(vm.nodes()) != 8 or vm.qmp("query-jobs")["return"] or any(b.startswith("backup-") for b in bitmaps(vm)):
        return f"nodes {vm.nodes()}, jobs {vm.qmp('query-jobs')['return']}, bitmaps {bitmaps(vm)}"
    if mode == "push" and known:
        return None if left(vm, name) == [f"{name}.image"] else f"the backup is complete, and there is {left(vm, name)}"
    if known or left(vm, name):
        return f"checkpoint: {known}, files {left(vm, name)}"
    return None if "error" in vm.qmp("nbd-server-stop") else "the server was still there"


def whole(vm, name, mode):
    end = time.monotonic() + 20 * SLOW
    while (what := half(vm, name, mode)):
        assert time.monotonic() < end, f"{name}: {what}\n{vm.daemon.messages()}"
        time.sleep(0.05)


@pytest.mark.parametrize("mode, calls", [("pull", "rename"), ("pull", "sendmsg"), ("pull", "bind,unlink"), ("push", "rename"), ("push", "sendmsg")])
def test_killed_while_it_begins(running, mode, calls):
    kept = 0
    for k in range(1, STEPS_MOST):
        name, lived = begin(running, mode, calls, k)
        if not lived:
            found_again(running)
        whole(running, name, mode)
        if name in running.virsh("checkpoint-list", "vm", "--name").split():
            kept += 1
            if mode == "pull":
                running.virsh("domjobabort", "vm")
                running.until("no domain backup job present", "backup-dumpxml", "vm")
            else:
                run("qemu-img", "check", running.path / f"{name}.image")
                os.unlink(running.path / f"{name}.image")
            running.virsh("checkpoint-delete", "vm", name)
        assert not left(running, name)
        if lived:
            break
    print(mode, calls, k - 1, "kills,", kept, "kept")
    assert lived and k > 1 and kept, f"{k} steps"


def test_machine_ended_meanwhile(running):
    """Nobody can be asked: files and the checkpoint of what was being begun go."""
    for k in range(1, STEPS_MOST):
        name, lived = begin(running, "pull", "rename", k)
        if lived:
            break
        end_machine(running)
        running.daemon.start()
        running.until("shut off", "domstate", "vm")
        assert not left(running, name), running.daemon.messages()
        for one in running.virsh("checkpoint-list", "vm", "--name").split():
            running.virsh("checkpoint-delete", "vm", one, "--metadata")
        running.virsh("start", "vm", "--paused")
    running.virsh("domjobabort", "vm")
    running.until("no domain backup job present", "backup-dumpxml", "vm")
    running.virsh("destroy", "vm")
    assert lived and k > 3
    reads(running.file("top"), 3, "2M", "1M")
