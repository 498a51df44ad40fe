# SPDX-License-Identifier: GPL-2.0-or-later
"""Saved states: save, restore, managed save. A guest counts, so that it is seen to go on from where it was."""
import os
import shutil
import subprocess
import threading
import time

import pytest

libvirt = pytest.importorskip("libvirt", reason="python3-libvirt is not installed")
from disk_lab import loop  # noqa: E402, F401 pylint: disable=unused-import
from limits import SLOW  # noqa: E402
from save_lab import EMULATORS, Counter, fixture_vm, header, told  # noqa: E402, F401 pylint: disable=unused-import
from test_migrate import Libvirtd  # noqa: E402

WHOLE, PARTIAL = "LibvirtQemudSave", "LibvirtQemudPart"


def refused(vm, text, *words):
    out = vm.virsh(*words, status=1)
    assert text in out, out


# ---- save and restore ----

def test_goes_on(vm):
    where = vm.path / "state"
    vm.start()
    for _ in range(3):
        vm.goes_on()
    assert f"saved to {where}" in vm.virsh("save", "vm", where)
    assert vm.state() == "shut off (saved)"
    magic, words, xml = header(where)
    assert magic == WHOLE and words[0] == 2 and words[2] == 1 and words[3] == 0 and "<name>vm</name>" in xml and "<alias" not in xml
    assert where.stat().st_mode & 0o777 == 0o600
    for _ in range(2):  # the file stays, and is as good as before
        vm.virsh("restore", where)
        assert vm.state() == "running (restored)"
        vm.goes_on()
        vm.virsh("destroy", "vm")
        vm.said = 3
    refused(vm, "domain is not running", "save", "vm", where)


def test_who_runs(vm):
    where = vm.path / "state"
    vm.start()
    vm.goes_on()
    vm.virsh("save", "vm", where, "--paused")
    vm.virsh("restore", where)
    assert vm.state().startswith("paused")
    vm.virsh("resume", "vm")
    vm.goes_on()
    vm.virsh("suspend", "vm")
    vm.virsh("save", "vm", where)
    vm.virsh("restore", where, "--running", "--bypass-cache")
    vm.goes_on()
    vm.virsh("save", "vm", where, "--bypass-cache")
    vm.virsh("restore", where, "--paused")
    assert vm.state().startswith("paused")
    refused(vm, "mutually exclusive", "save", "vm", where, "--running", "--paused")
    assert vm.state().startswith("paused")


def test_document(vm):
    where = vm.path / "state"
    vm.start()
    vm.goes_on()
    xml = vm.virsh("dumpxml", "vm", "--migratable")
    other, wrong = vm.path / "other.xml", vm.path / "wrong.xml"
    other.write_text(xml.replace("<uuid>", "<title>moved</title><uuid>"), encoding="utf-8")
    wrong.write_text(xml.replace("<memory unit='KiB'>32768", "<memory unit='KiB'>65536"), encoding="utf-8")
    refused(vm, "does not match source", "save", "vm", where, "--xml", wrong)
    assert not where.exists() and vm.state() == "running (booted)"
    vm.virsh("save", "vm", where, "--xml", other)
    assert "<title>moved</title>" in vm.virsh("save-image-dumpxml", where)
    vm.virsh("save-image-define", where, vm.xml, "--paused")
    assert "moved" not in vm.virsh("save-image-dumpxml", where) and header(where)[1][2] == 0
    refused(vm, "does not match source", "save-image-define", where, wrong)
    refused(vm, "does not match source", "restore", where, "--xml", wrong)
    assert vm.state() == "shut off (saved)"
    vm.virsh("restore", where, "--xml", other, "--running")
    assert "moved" in vm.virsh("dumpxml", "vm") and "moved" not in vm.virsh("dumpxml", "vm", "--inactive")
    vm.goes_on()


def test_bad_files(vm):
    where, bad = vm.path / "state", vm.path / "bad"
    vm.start()
    vm.virsh("save", "vm", where)
    data = where.read_bytes()
    for name, content, text in (("magic", b"x" + data[1:], "image magic is incorrect"), ("version", data[:16] + b"\3" + data[17:], "image version is not supported"),
                                ("short", data[:80], "failed to read qemu header"), ("document", data[:200], "ends before"), ("partial", PARTIAL.encode() + data[16:], "incomplete"),
                                ("length", data[:20] + b"\xff\xff\xff\x7f" + data[24:], "invalid header data length"), ("packed", data[:28] + b"\x77" + data[29:], "packed"),
                                ("text", data[:92] + b"<nothing" + data[100:], "domain"), ("cookie", data[:32] + b"\xff\xff\xff\x7f" + data[36:], "invalid header data length"),
                                ("empty", b"", "failed to read qemu header")):
        bad.write_bytes(content)
        refused(vm, text, "restore", bad)
        assert bad.read_bytes() == content and vm.state() == "shut off (saved)", name
    bad.write_bytes(data[:92 + header(where)[1][1] + 20000])  # a stream that is cut off
    vm.virsh("restore", bad, status=1)
    assert vm.state().startswith("shut off") and bad.exists()
    refused(vm, "No such file", "restore", vm.path / "none")
    vm.start()
    refused(vm, "already active", "restore", where)
    refused(vm, "Is a directory", "save", "vm", vm.path)
    refused(vm, "No such file", "save", "vm", vm.path / "none/state")
    refused(vm, "is an image of the running domain", "save", "vm", vm.image)
    os.mkfifo(vm.path / "fifo")
    refused(vm, "neither a file", "save", "vm", vm.path / "fifo")
    vm.goes_on()


def test_full_disk(vm):
    """A file that cannot be written to its end: it goes, and the guest runs on."""
    small = vm.path / "small"
    small.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=72k", "none", small], stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted: {done.stderr}")
    try:
        vm.start()
        vm.goes_on()
        vm.virsh("save", "vm", small / "state", status=1)
        assert not list(small.iterdir()) and vm.state() == "running (save canceled)"
        vm.goes_on()
        vm.virsh("save", "vm", vm.path / "state")
        vm.virsh("restore", vm.path / "state")
        vm.goes_on()
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def test_packed(vm):
    where = vm.path / "state"
    connection = libvirt.open(vm.daemon.uri)
    domain = connection.lookupByName("vm")
    for n, name in enumerate(("gzip", "bzip2", "xz", "lzop", "zstd"), 1):
        vm.start()
        vm.goes_on()
        domain.saveParams({"file": str(where), "image_format": name})
        assert header(where)[1][3] == n
        connection.restoreParams({"file": str(where)})
        vm.goes_on()
        vm.virsh("destroy", "vm")
    connection.close()


def test_transient(vireod, tmp_path):
    vm = Counter(vireod, tmp_path, "vireo", define=False)
    vm.virsh("create", vm.xml)
    vm.goes_on()
    vm.virsh("save", "vm", tmp_path / "state")
    assert "vm" not in vm.virsh("list", "--all", "--name").split()
    vm.virsh("restore", tmp_path / "state")
    vm.goes_on()
    refused(vm, "transient", "managedsave", "vm")
    vm.virsh("destroy", "vm")


DEVICES = ("<controller type='scsi' model='virtio-scsi'/><disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk><interface type='user'><model type='virtio'/></interface>"
           "<interface type='user'><model type='e1000e'/></interface><channel type='unix'><source mode='bind'/><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
           "<input type='tablet' bus='usb'/><graphics type='vnc' port='-1'/><video><model type='vga'/></video><rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
           "<sound model='ich9'/><console type='pty'><target type='virtio'/></console><panic model='isa'/>")


@pytest.mark.parametrize("emulator", list(EMULATORS))
def test_whole_machine(vireod, tmp_path, emulator):
    """Devices of all kinds, with a disk and vCPUs that came after the start."""
    vm = Counter(vireod, tmp_path, emulator, mib=64, define=False, devices=DEVICES)
    vm.xml.write_text(vm.xml.read_text(encoding="utf-8").replace("<vcpu>1</vcpu>", "<vcpu current='1'>4</vcpu><features><acpi/><apic/></features>"), encoding="utf-8")
    vm.virsh("define", vm.xml)
    vm.start()
    vm.goes_on()
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "second.qcow2", "4M"], check=True)
    vm.virsh("setvcpus", "vm", "3", "--live")
    vm.virsh("attach-disk", "vm", tmp_path / "second.qcow2", "vdb", "--subdriver", "qcow2", "--live")
    for _ in range(2):
        vm.virsh("save", "vm", tmp_path / "state")
        vm.virsh("restore", tmp_path / "state")
        vm.goes_on()
        assert vm.virsh("vcpucount", "vm", "--live", "--current").strip() == "3" and "vdb" in vm.virsh("domblklist", "vm")
    vm.virsh("destroy", "vm")
    assert "vdb" not in vm.virsh("domblklist", "vm")


@pytest.mark.skipif(not shutil.which("libvirtd") or os.geteuid() != 0, reason="no libvirtd here, or not root")
def test_with_libvirtd(vireod, tmp_path):
    """Debian's libvirtd restores what was saved here, and the other way round."""
    vm, theirs = Counter(vireod, tmp_path, "qemu"), Libvirtd(tmp_path / "libvirtd")
    try:
        vm.start()
        vm.goes_on()
        vm.virsh("save", "vm", tmp_path / "ours")
        theirs.virsh("restore", tmp_path / "ours")
        vm.goes_on()
        theirs.virsh("save", "vm", tmp_path / "theirs")
        vm.virsh("restore", tmp_path / "theirs")
        vm.goes_on()
    finally:
        theirs.virsh("destroy", "vm", status=None)
        theirs.process.terminate()
        theirs.process.wait(20 * SLOW)
        vm.virsh("destroy", "vm", status=None)


def test_events_and_job(loop, vm):  # noqa: F811
    seen, where = [], vm.path / "state"
    connection = libvirt.open(vm.daemon.uri)
    connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lambda _c, _d, event, detail, _o: seen.append((event, detail)), None)
    connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, lambda _c, _d, params, _o: seen.append(("job", params["operation"])), None)
    vm.start()
    vm.goes_on()
    told(seen, (libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_BOOTED))
    vm.virsh("save", "vm", where)
    saved = ((libvirt.VIR_DOMAIN_EVENT_SUSPENDED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED_PAUSED), ("job", libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE),
             (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED))
    told(seen, *saved)
    out = vm.virsh("domjobinfo", "vm", "--completed", "--keep-completed")
    assert "Completed" in out and "Save" in out and "Data total" in out
    vm.virsh("restore", where)
    told(seen, (libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_RESTORED), (libvirt.VIR_DOMAIN_EVENT_RESUMED, libvirt.VIR_DOMAIN_EVENT_RESUMED_FROM_SNAPSHOT))
    vm.virsh("save", "vm", where)
    told(seen, *saved)
    vm.virsh("restore", where, "--paused")
    told(seen, (libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_RESTORED), (libvirt.VIR_DOMAIN_EVENT_SUSPENDED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED_RESTORED))
    connection.close()


def save_begun(daemon, where):
    """The domain, when its memory is on its way into the file: asked without a program for each question, which may take longer than all of the save."""
    domain = libvirt.open(daemon.uri).lookupByName("vm")
    end = time.monotonic() + 20 * SLOW
    while not where.exists() or where.stat().st_size < 65536 or domain.jobStats().get("operation") != libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE:
        assert time.monotonic() < end, daemon.messages()
        time.sleep(0.005)
    return domain


def test_abort(vireod, tmp_path):
    """A job that takes its time (vireo-vmm is done with memory that nobody has touched at once): it is seen, nothing else comes between, and its end leaves a guest that runs."""
    vm = Counter(vireod, tmp_path, "qemu", mib=6144)
    vm.start()
    vm.goes_on()
    ended = []
    saving = threading.Thread(target=lambda: ended.append(vm.virsh("save", "vm", tmp_path / "state", "--verbose", status=1)))
    saving.start()
    domain = save_begun(vireod, tmp_path / "state")
    assert header(tmp_path / "state")[0] == PARTIAL and domain.state() == [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_SAVE]
    domain.abortJob()
    saving.join()
    assert "aborted" in ended[0] and not (tmp_path / "state").exists()
    assert vm.state() == "running (save canceled)"
    vm.goes_on()
    vm.virsh("domjobabort", "vm", status=1)
    vm.virsh("destroy", "vm")


def test_destroyed_while_saving(vireod, tmp_path):
    vm = Counter(vireod, tmp_path, "qemu", mib=6144)
    vm.start()
    saving = threading.Thread(target=lambda: vm.virsh("save", "vm", tmp_path / "state", status=1))
    saving.start()
    save_begun(vireod, tmp_path / "state").destroy()
    saving.join()
    assert vm.state() == "shut off (destroyed)" and not (tmp_path / "state").exists()


# ---- managed ----

def test_managed(vm):
    vm.start()
    vm.goes_on()
    assert "Managed save:   no" in vm.virsh("dominfo", "vm")
    vm.virsh("managedsave", "vm")
    assert vm.state() == "shut off (saved)" and header(vm.saved())[0] == WHOLE
    assert "Managed save:   yes" in vm.virsh("dominfo", "vm") and "saved" in vm.virsh("list", "--all", "--managed-save")
    assert vm.virsh("list", "--all", "--name", "--with-managed-save").split() == ["vm"] and not vm.virsh("list", "--all", "--name", "--without-managed-save").split()
    refused(vm, "Refusing to undefine while domain managed save image exists", "undefine", "vm")
    refused(vm, "managed saved state", "domrename", "vm", "other")
    vm.daemon.stop()
    vm.daemon.start()
    assert "Managed save:   yes" in vm.virsh("dominfo", "vm")
    vm.virsh("start", "vm")
    assert vm.state() == "running (restored)" and not vm.saved().exists()
    vm.goes_on()
    assert not vm.virsh("list", "--all", "--name", "--with-managed-save").split()
    vm.virsh("suspend", "vm")
    vm.virsh("managedsave", "vm")
    assert "<name>vm</name>" in vm.virsh("managedsave-dumpxml", "vm")
    vm.virsh("managedsave-define", "vm", vm.xml, "--running")
    vm.virsh("start", "vm")
    vm.goes_on()
    vm.virsh("managedsave", "vm")
    vm.virsh("start", "vm", "--force-boot")
    vm.said = 0
    assert vm.state() == "running (booted)" and not vm.saved().exists()
    vm.goes_on()
    vm.virsh("managedsave", "vm", "--paused")
    vm.virsh("managedsave-remove", "vm")
    assert not vm.saved().exists()
    vm.start()
    vm.goes_on()
    vm.virsh("managedsave", "vm")
    vm.virsh("undefine", "vm", "--managed-save")
    assert not vm.saved().exists()


def test_managed_that_is_not_whole(vm):
    vm.start()
    vm.goes_on()
    vm.virsh("managedsave", "vm")
    data = vm.saved().read_bytes()
    vm.saved().write_bytes(data[:10000])
    vm.virsh("start", "vm", status=1)  # what was saved is not thrown away without a word
    assert vm.saved().exists() and vm.state().startswith("shut off")
    vm.saved().write_bytes(b"x" * 1000)
    refused(vm, "image magic is incorrect", "start", "vm")
    vm.saved().write_bytes(PARTIAL.encode() + data[16:10000])
    vm.start()  # a daemon was killed: that is no state, and the domain boots
    assert not vm.saved().exists() and vm.state() == "running (booted)"
    vm.goes_on()


def test_autostart(vm):
    vm.virsh("autostart", "vm")
    vm.start()
    vm.goes_on()
    vm.virsh("managedsave", "vm")
    vm.daemon.stop()
    os.unlink(vm.path / "run/vireo/qemu/autostarted")
    vm.daemon.start()
    vm.until("running (restored)", "domstate", "vm", "--reason")
    vm.goes_on()
