# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots of a running domain with its memory, inside its images and in files, and the way back. The guest counts."""
import subprocess
import time

import pytest

libvirt = pytest.importorskip("libvirt", reason="python3-libvirt is not installed")
from crash_lab import can_trace, lives_through  # noqa: E402
from disk_lab import info, loop  # noqa: E402, F401 pylint: disable=unused-import
from limits import SLOW  # noqa: E402
from save_lab import Counter, fixture_vm, header, told  # noqa: E402, F401 pylint: disable=unused-import


def names(vm, *words):
    return vm.virsh("snapshot-list", "vm", "--name", *words).split()


def inside(image):
    return [s["name"] for s in info(image).get("snapshots", [])]


# ---- inside the images ----

def test_back(vm):
    vm.start()
    for _ in range(3):
        vm.goes_on()
    vm.virsh("snapshot-create-as", "vm", "s1")
    assert vm.state() == "running (unpaused)" and inside(vm.image) == ["s1"]
    xml = vm.virsh("snapshot-dumpxml", "vm", "s1")
    assert "<state>running</state>" in xml and "<memory snapshot='internal'/>" in xml and "snapshot='internal'" in xml
    assert names(vm, "--active") == names(vm, "--internal") == ["s1"] and not names(vm, "--disk-only")
    for _ in range(4):
        vm.goes_on()
    pid = vm.pid()
    vm.virsh("snapshot-revert", "vm", "s1")
    assert vm.state() == "running (from snapshot)" and vm.pid() == pid
    vm.said = 3
    vm.goes_on()
    vm.virsh("snapshot-revert", "vm", "s1", "--paused")
    assert vm.state() == "paused (from snapshot)"
    vm.virsh("resume", "vm")
    vm.said = 3
    vm.goes_on()
    vm.virsh("destroy", "vm")
    vm.virsh("snapshot-revert", "vm", "s1")
    assert vm.state() == "running (from snapshot)"
    vm.said = 3
    vm.goes_on()
    vm.virsh("snapshot-create-as", "vm", "s2", "--halt")
    assert vm.state() == "shut off (from snapshot)"
    vm.virsh("snapshot-revert", "vm", "s2", "--running")
    vm.goes_on()
    vm.virsh("suspend", "vm")
    vm.virsh("snapshot-create-as", "vm", "s3")
    assert vm.state() == "paused (user)" and "<state>paused</state>" in vm.virsh("snapshot-dumpxml", "vm", "s3")
    assert vm.virsh("snapshot-current", "vm", "--name").strip() == "s3" and vm.virsh("snapshot-parent", "vm", "s3").strip() == "s2"
    vm.virsh("snapshot-delete", "vm", "s2")  # of a running domain
    assert inside(vm.image) == ["s1", "s3"]
    vm.virsh("resume", "vm")
    vm.goes_on()
    vm.virsh("destroy", "vm")
    vm.virsh("snapshot-delete", "vm", "s1")  # of one that is shut off
    assert inside(vm.image) == ["s3"] and names(vm) == ["s3"]


def test_another_machine(vm):
    """What the snapshot has is not the machine that runs: that one is not ended unasked."""
    vm.start()
    vm.goes_on()
    vm.virsh("snapshot-create-as", "vm", "s1")
    disk = vm.path / "second.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1M"], check=True)
    vm.virsh("attach-disk", "vm", disk, "vdb", "--subdriver", "qcow2")
    vm.goes_on()
    assert "requires force" in vm.virsh("snapshot-revert", "vm", "s1", status=1)
    vm.goes_on()
    vm.virsh("snapshot-revert", "vm", "s1", "--force")
    assert "vdb" not in vm.virsh("domblklist", "vm")
    vm.said = 1
    vm.goes_on()


def test_events(loop, vm):  # noqa: F811
    seen = []
    connection = libvirt.open(vm.daemon.uri)
    connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lambda _c, _d, event, detail, _o: seen.append((event, detail)), None)
    vm.start()
    vm.goes_on()
    told(seen, (libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_BOOTED))
    vm.virsh("snapshot-create-as", "vm", "s1")
    told(seen, (libvirt.VIR_DOMAIN_EVENT_SUSPENDED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED_PAUSED), (libvirt.VIR_DOMAIN_EVENT_RESUMED, libvirt.VIR_DOMAIN_EVENT_RESUMED_UNPAUSED))
    vm.virsh("destroy", "vm")
    told(seen, (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED))
    vm.virsh("snapshot-revert", "vm", "s1")
    told(seen, (libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_FROM_SNAPSHOT), (libvirt.VIR_DOMAIN_EVENT_RESUMED, libvirt.VIR_DOMAIN_EVENT_RESUMED_FROM_SNAPSHOT),
         (libvirt.VIR_DOMAIN_EVENT_DEFINED, libvirt.VIR_DOMAIN_EVENT_DEFINED_FROM_SNAPSHOT))
    connection.close()


# ---- in files ----

@pytest.mark.parametrize("live", [[], ["--live"]])
def test_memory_in_a_file(vm, live):
    memory, overlay = vm.path / "memory", vm.path / "disk.s1"
    vm.start()
    for _ in range(3):
        vm.goes_on()
    vm.virsh("snapshot-create-as", "vm", "s1", "--memspec", f"file={memory}", *live)
    vm.until("running", "domstate", "vm")
    assert header(memory)[0] == "LibvirtQemudSave" and info(overlay)["backing-filename"] == str(vm.image)
    xml = vm.virsh("snapshot-dumpxml", "vm", "s1")
    assert f"<memory snapshot='external' file='{memory}'/>" in xml and "<state>running</state>" in xml
    assert names(vm, "--external") == names(vm, "--active") == ["s1"]
    assert str(overlay) in vm.virsh("domblklist", "vm") and str(overlay) in vm.virsh("domblklist", "vm", "--inactive")
    vm.goes_on()
    assert "revert to external snapshot not supported" in vm.virsh("snapshot-revert", "vm", "s1", status=1)
    vm.virsh("destroy", "vm")
    vm.virsh("restore", memory)  # with the images as they were: the overlay is not in it
    assert str(overlay) not in vm.virsh("domblklist", "vm")
    vm.said = 3
    vm.goes_on()


def test_refused(vm):
    assert "inactive domain" in vm.virsh("snapshot-create-as", "vm", "s1", "--memspec", f"file={vm.path}/memory", status=1)
    vm.start()
    vm.goes_on()
    for words, text in ((["--live"], "only with external checkpoints"), (["--memspec", "file=memory,snapshot=external"], "a path from the root"), (["--memspec", f"file={vm.path}/none/memory"], "No such file"),
                        (["--memspec", f"file={vm.xml}"], "is no saved state"), (["--memspec", "snapshot=external"], "require"), (["--memspec", f"file={vm.image}"], "is no saved state"),
                        (["--diskspec", "vda,snapshot=external"], "mixing internal and external"), (["--diskspec", "vda,snapshot=no"], "nothing selected")):
        out = vm.virsh("snapshot-create-as", "vm", "s1", *words, status=1)
        assert text in out, (words, out)
    assert not names(vm) and not inside(vm.image) and not (vm.path / "memory").exists() and not (vm.path / "disk.s1").exists()
    vm.goes_on()
    assert vm.xml.stat().st_size > 100


def test_disks_that_fail(vm):
    """The memory is written, the disks cannot be taken: nothing is left, and the guest runs on."""
    memory, taken = vm.path / "memory", vm.path / "disk.s1"
    taken.write_text("somebody's", encoding="ascii")
    vm.start()
    vm.goes_on()
    assert "already exists" in vm.virsh("snapshot-create-as", "vm", "s1", "--memspec", f"file={memory}", status=1)
    assert not memory.exists() and not names(vm) and taken.read_text(encoding="ascii") == "somebody's"
    assert vm.state().startswith("running")
    vm.goes_on()


# ---- a daemon that is killed ----

@pytest.mark.skipif(can_trace() is not None, reason=str(can_trace()))
@pytest.mark.parametrize("external, calls", [(False, "rename"), (True, "rename")])
def test_killed(vireod, tmp_path, external, calls):
    vm = Counter(vireod, tmp_path, "vireo")
    vm.start()
    taken = 0
    for k in range(1, 30):
        vm.goes_on()
        name, memory = f"s{k}", tmp_path / f"memory{k}"
        where = f"<memory snapshot='external' file='{memory}'/>" if external else ""
        lived = lives_through(vm, calls, k, lambda d: d.snapshotCreateXML(f"<domainsnapshot><name>{name}</name>{where}</domainsnapshot>"))
        if lived:
            break
        vireod.start()
        end = time.monotonic() + 20 * SLOW
        while vm.state().split()[0] != "running" or "saving kind=" in vm.xml_status():
            assert time.monotonic() < end, f"{vm.state()}\n{vireod.messages()}"
            time.sleep(0.05)
        there = name in names(vm)
        taken += there
        if external:
            assert memory.exists() == there == (tmp_path / f"disk.{name}").exists(), f"step {k}: {there}\n{vireod.messages()}"
        else:
            assert (name in inside(vm.image)) == there, f"step {k}: {there} {inside(vm.image)}\n{vireod.messages()}"
        vm.goes_on()
        if there and not external:
            vm.virsh("snapshot-revert", "vm", name)
            vm.said -= 1
            vm.goes_on()
    print(calls, k - 1, "kills,", taken, "after it was taken")
    assert lived and k > 2
    vm.goes_on()
    vm.virsh("destroy", "vm")
