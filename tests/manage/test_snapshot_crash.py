# SPDX-License-Identifier: GPL-2.0-or-later
"""kill -9 of the daemon before each file that it renames or syncs and each message that it sends or takes while it makes a live snapshot (strace injects the signal): afterwards documents,
machine, images and the list of snapshots say the same, nothing half made is left, and the next start has what the guest wrote."""
import json
import os
import time

import pytest

libvirt = pytest.importorskip("libvirt", reason="python3-libvirt is not installed")
from conftest import BUILD  # noqa: E402
from crash_lab import STEPS_MOST, Monitor, can_trace, end_machine, found_again, images, in_machine, lives_through, running  # noqa: E402, F401 pylint: disable=unused-import
from disk_lab import reads, run  # noqa: E402
from limits import SLOW  # noqa: E402

pytestmark = pytest.mark.skipif(can_trace() is not None, reason=str(can_trace()))


def try_snapshot(vm, name, calls, k, *words):
    disks = "".join(f"<disk name='{w.split(',')[0]}'><source file='{w.split(',')[1]}'/></disk>" for w in words)
    flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC | (libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT if words else 0)
    return lives_through(vm, calls, k, lambda d: d.snapshotCreateXML(f"<domainsnapshot><name>{name}</name><disks>{disks}</disks></domainsnapshot>", flags))


def on_disk(path):
    return [i["filename"] for i in json.loads(run(os.path.join(BUILD, "vireo-img"), "info", "-U", "--backing-chain", "--output=json", "-f", "raw" if path.endswith(".img") else "qcow2", path))]


def record(vm):
    return "<snapshot " in (vm.path / "run/vireo/qemu/vm.xml").read_text(encoding="utf-8")


def disagreement(vm, name):
    """What is not as it is to be, or None."""
    live, defined, machine, names = images(vm), images(vm, "--inactive"), in_machine(vm), vm.names()
    taken = live["vda"][0].endswith(name)
    if sorted(live.values()) != machine:
        return f"the live document has {live}, the machine {machine}"
    if any(live[disk][:len(chain)] != chain for disk, chain in defined.items()):
        return f"the live document has {live}, the definition {defined}"
    if any(on_disk(chain[0]) != chain for chain in live.values()):
        return f"the live document has {live}, the images name others"
    if (name in names) != taken or live["vdb"][0].endswith(name) != taken:
        return f"the list has {names}, the live document {live}"
    if bool(left(vm, name)) != taken:
        return f"the directory has {left(vm, name)}, the live document {live}"
    if names and vm.virsh("snapshot-current", "vm", "--name").strip() != names[-1]:
        return f"the last of {names} is not the current one"
    return "the record is still there" if record(vm) else None


def left(vm, name):
    return sorted(p.name for p in vm.path.glob(f"*.{name}"))


def settled(vm, name):
    end = time.monotonic() + 20 * SLOW
    while (what := disagreement(vm, name)):
        assert time.monotonic() < end, f"{name}: {what}\n{vm.daemon.messages()}"
        time.sleep(0.05)


# ---- the machine goes on ----

@pytest.mark.parametrize("calls", ["rename", "fsync", "sendmsg", "recvfrom"])
def test_killed_anywhere(running, calls):
    """The machine can be asked."""
    taken = 0
    for k in range(1, STEPS_MOST):
        name = f"s{k:03}"
        lived = try_snapshot(running, name, calls, k)
        if lived:
            assert disagreement(running, name) is None
            break
        found_again(running)
        settled(running, name)
        taken += bool(left(running, name))
    print(calls, k - 1, "kills,", taken, "after the transaction")
    assert lived and k > 3, f"{k} steps"
    running.snapshot("z", "--disk-only")
    settled(running, "z")


def test_files_of_the_caller_stay(running):
    """--reuse-external: whatever happens, the caller's files are not removed."""
    for k in range(1, STEPS_MOST):
        name, chains = f"r{k}", images(running)
        files = [f"{running.path}/{disk}.{name}" for disk in chains]
        for chain, file in zip(chains.values(), files):
            run("qemu-img", "create", "-q", "-f", "qcow2", "-b", chain[0], "-F", "raw" if chain[0].endswith(".img") else "qcow2", file)
        lived = try_snapshot(running, name, "rename", k, *(f"{disk},{file}" for disk, file in zip(chains, files)))
        if lived:
            break
        found_again(running)
        end = time.monotonic() + 20 * SLOW
        while record(running) or sorted(images(running).values()) != in_machine(running):
            assert time.monotonic() < end, running.daemon.messages()
            time.sleep(0.05)
        assert left(running, name) == sorted(map(os.path.basename, files))
        assert [c[0] for c in images(running).values()] == [c[0] for c in images(running, "--inactive").values()]
    assert lived and images(running)["vda"][0] == files[0]


# ---- the machine has ended, too ----

@pytest.mark.parametrize("writes", [True, False])
def test_machine_ended_meanwhile(running, writes):
    """Nobody can be asked: what the guest has written is what the next start shows."""
    written = 0
    for k in range(1, STEPS_MOST):
        name, before = f"m{k}", images(running)["vda"][0]
        overlay = before.rsplit(".", 1)[0] + "." + name
        lived = try_snapshot(running, name, "rename", k)
        if lived:
            break
        monitor = Monitor(running)
        top = monitor.top(overlay)
        if writes:
            monitor.write(running, monitor.node(), 100 + k)
        monitor.close()
        end_machine(running)
        running.daemon.start()
        over = bool(top) and writes
        written += over
        assert "shut off" in running.virsh("domstate", "vm")
        assert images(running, "--inactive")["vda"][0] == (overlay if over else before), f"{name}: {running.daemon.messages()}"
        assert (name in running.names()) == over == bool(left(running, name))
        if over:
            assert overlay in running.daemon.messages() and "its machine ended" in running.daemon.messages()
        if writes:
            reads(images(running, "--inactive")["vda"][0], 100 + k, "0", "64k")
        running.virsh("start", "vm", "--paused")
    assert lived and (not writes or written), f"{k} steps, {written} after the transaction"
