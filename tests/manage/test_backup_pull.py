# SPDX-License-Identifier: GPL-2.0-or-later
"""Backups in pull mode by the real virsh: nbdcopy, nbdinfo and qemu-img read a disk as it was while it is being written to, with the bitmap of what was written since a
checkpoint; the end leaves nothing, whoever ends it. On vireo-vmm and on QEMU."""
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import threading
import time

import pytest

from disk_lab import Domain, Events, libvirt, loop, run  # noqa: F401 pylint: disable=unused-import
from limits import SLOW

QEMU = shutil.which("qemu-system-x86_64")


class Pulled(Domain):
    """`vm` on one of the emulators, with a socket beside its disks that takes what a guest would write."""

    def __init__(self, daemon, path, emulator):
        super().__init__(daemon, path, running=False)
        if emulator == "qemu":
            self.xml.write_text(self.xml.read_text(encoding="utf-8").replace("<devices>", f"<devices><emulator>{QEMU}</emulator>"), encoding="utf-8")
            self.virsh("undefine", "vm")
            self.virsh("define", self.xml)
        self.virsh("start", "vm", "--paused")
        self.vireo = emulator == "vireo"
        self.nbd = path / "pull.sock"
        self.files = sorted(os.listdir(path))

    def node(self, disk="vda"):
        return [d for d in self.qmp("query-block")["return"] if f"/virtio-disk{'ab'.index(disk[2])}/" in d.get("qdev", "") + "/"][0]["inserted"]["node-name"]

    def qemu_io(self, command, disk="vda"):
        """QEMU lets nobody beside the guest's device write to the disk, but writes by the device itself."""
        self.virsh("qemu-monitor-command", "vm", "--hmp", f'qemu-io -d /machine/peripheral/virtio-disk{"ab".index(disk[2])}/virtio-backend "{command}"')

    def xml_of(self, rows=None, since=None, server=None):
        server = server or f"<server transport='unix' socket='{self.nbd}'/>"
        rows = rows or f"<disk name='vda' backup='yes' type='file'><scratch file='{self.path}/scratch.vda'/></disk>"
        text = f"<domainbackup mode='pull'>{f'<incremental>{since}</incremental>' if since else ''}{server}<disks>{rows}</disks></domainbackup>"
        (self.path / "pull.xml").write_text(text, encoding="utf-8")
        return self.path / "pull.xml"

    def pull(self, *args, checkpoint=None, status=0, words=(), **named):
        file = self.xml_of(*args, **named)
        if checkpoint:
            (self.path / "check.xml").write_text(f"<domaincheckpoint><name>{checkpoint}</name><disks><disk name='vda'/></disks></domaincheckpoint>", encoding="utf-8")
            words = ["--checkpointxml", self.path / "check.xml"]
        return self.virsh("backup-begin", "vm", file, *words, status=status)

    def uri(self, name="vda"):
        return f"nbd+unix:///{name}?socket={self.nbd}"

    def read(self, name="vda"):
        """What a client gets."""
        out = self.path / "read.raw"
        run("nbdcopy", self.uri(name), out)
        data = out.read_bytes()
        out.unlink()
        return data

    def dirty(self, bitmap="backup-vda", name="vda"):
        found = json.loads(run("nbdinfo", "--json", f"--map=qemu:dirty-bitmap:{bitmap}", self.uri(name)))
        return [(e["offset"], e["length"]) for e in found if e["type"]]

    def write(self, what, at, size="64k", disk="vda"):
        """Like a guest: to the disk itself."""
        if not self.vireo:
            self.qemu_io(f"write -P {what} {at} {size}", disk)
            return
        there = self.nbd.exists()
        sock = self.nbd if there else self.path / "write.sock"
        if not there:
            self.qmp("nbd-server-start", addr={"type": "unix", "data": {"path": str(sock)}})
        assert "error" not in self.qmp("block-export-add", type="nbd", id="e", writable=True, name="d", **{"node-name": self.node(disk)})
        try:
            run("qemu-io", "-f", "raw", "-c", f"write -P {what} {at} {size}", "-c", "flush", f"nbd+unix:///d?socket={sock}")
        finally:
            self.qmp("block-export-del", id="e", mode="hard")
            until(lambda: not any(x["id"] == "e" for x in self.qmp("query-block-exports")["return"]))
            if not there:
                self.qmp("nbd-server-stop")

    def status_file(self):
        return pathlib.Path(self.daemon.root) / "run/vireo/qemu/vm.xml"

    def over(self):
        self.until("no domain backup job present", "backup-dumpxml", "vm")

    def left(self):
        """Files that were not there before the first backup, beside what the tests write themselves."""
        return sorted(set(os.listdir(self.path)) - set(self.files) - {"pull.xml", "check.xml"})

    def clean(self):
        """Nothing is left of any backup."""
        assert not self.left() and len(self.nodes()) == 8, (self.left(), self.nodes())
        assert self.qmp("query-jobs")["return"] == [] and self.qmp("query-block-exports")["return"] == []
        assert "error" in self.qmp("nbd-server-stop") and "backup-vda" not in json.dumps(self.qmp("query-named-block-nodes", flat=True))


def until(fn):
    end = time.monotonic() + 20 * SLOW
    while not fn():
        assert time.monotonic() < end
        time.sleep(0.02)


def parts(data, *where):
    return [data[at] for at in where]


M = 1 << 20


@pytest.fixture(params=["vireo", "qemu"])
def machine(vireod, tmp_path, request):
    if request.param == "qemu" and not QEMU:
        pytest.skip("qemu-system-x86_64 is not installed")
    where = tmp_path / "disks"
    where.mkdir()
    yield Pulled(vireod, where, request.param)
    vireod.virsh("destroy", "vm", status=None)


def test_disks_are_read_as_they_were(machine, vireod, loop):  # noqa: F811
    events = Events(vireod.uri)
    done = []
    events.connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, lambda _c, _d, params, _o: done.append(params), None)
    rows = f"<disk name='vda' backup='yes' type='file'><scratch file='{machine.path}/a.scratch'/></disk><disk name='vdb' backup='yes' type='file' exportname='second'>" \
           f"<driver type='qcow2'/><scratch file='{machine.path}/b.scratch'/></disk>"
    machine.pull(rows)
    document = machine.virsh("backup-dumpxml", "vm")
    for text in ("<domainbackup mode='pull'>", f"<server transport='unix' socket='{machine.nbd}'/>", "backupmode='full'", "exportname='vda'", "exportname='second'", f"<scratch file='{machine.path}/b.scratch'/>"):
        assert text in document, (text, document)
    assert "Unbounded" in (out := machine.virsh("domjobinfo", "vm")) and "Temporary disk space total: 24.000 MiB" in out, out
    assert os.stat(machine.path / "a.scratch").st_mode & 0o777 == 0o600 and os.stat(machine.nbd).st_mode & 0o777 == 0o600
    info = run("nbdinfo", "--list", machine.uri(""))
    assert 'export="vda"' in info and 'export="second"' in info and "is_read_only: true" in info and "qemu:dirty" not in info
    before = machine.read()
    assert parts(before, 0, M, 2 * M, 3 * M) == [1, 2, 3, 0]
    for what, at in ((0x51, "0"), (0x52, "1M"), (0x53, "9M")):
        machine.write(what, at, "192k")
    machine.write(0x54, "512k", "1M", "vdb")
    assert machine.read() == before and machine.read("second") == (machine.path / "second.img").read_bytes()[:512 << 10] + b"\7" * (512 << 10) + bytes(7 * M)
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", machine.uri(), machine.path / "copy.qcow2")
    assert "identical" in run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", machine.uri(), machine.path / "copy.qcow2")
    (machine.path / "copy.qcow2").unlink()
    assert "another backup" in machine.pull(status=1)
    machine.virsh("domjobabort", "vm")
    machine.over()
    until(lambda: done)
    assert done[0]["success"] and done[0]["operation"] == libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP and done[0]["disk_temp_total"] >= 24 * M, done
    events.wait(("top.qcow2", "backup", "canceled"), ("vda", "backup", "canceled"), ("vdb", "backup", "canceled"))
    events.connection.close()
    assert "Completed" in machine.virsh("domjobinfo", "vm", "--completed")
    machine.clean()


def test_bitmap_since_a_checkpoint(machine):
    machine.pull(checkpoint="c1")
    assert machine.virsh("checkpoint-list", "vm", "--name").split() == ["c1"]
    machine.write(0x61, "4M")  # after the checkpoint, which is of the backup's moment
    machine.virsh("domjobabort", "vm")
    machine.over()
    machine.clean()
    machine.write(0x62, "8M", "128k")
    machine.pull(since="c1", checkpoint="c2")
    machine.write(0x63, "8M")
    machine.write(0x64, "12M")
    assert machine.dirty() == [(4 * M, 65536), (8 * M, 131072)]
    data = machine.read()
    assert parts(data, 4 * M, 8 * M, 12 * M) == [0x61, 0x62, 0]
    machine.virsh("domjobabort", "vm")
    machine.over()
    machine.pull(f"<disk name='vda' type='file' exportname='foo' exportbitmap='c2'><scratch file='{machine.path}/scratch.vda'/></disk>", since="c2")
    assert "exportbitmap='c2'" in machine.virsh("backup-dumpxml", "vm")
    assert machine.dirty("c2", "foo") == [(8 * M, 65536), (12 * M, 65536)] and parts(machine.read("foo"), 8 * M, 12 * M) == [0x63, 0x64]
    image = f"driver=nbd,server.type=unix,server.path={machine.nbd},export=foo,x-dirty-bitmap=qemu:dirty-bitmap:c2"
    found = json.loads(run("qemu-img", "map", "--output=json", "--image-opts", image))
    assert [(e["start"], e["length"]) for e in found if not e["data"]] == [(8 * M, 65536), (12 * M, 65536)], found
    machine.virsh("domjobabort", "vm")
    machine.over()
    machine.clean()
    machine.virsh("checkpoint-delete", "vm", "c1")


def test_writes_all_the_while_change_nothing(machine):
    machine.pull()
    before = machine.read()
    stop = threading.Event()
    if machine.vireo:
        assert "error" not in machine.qmp("block-export-add", type="nbd", id="e", writable=True, name="d", **{"node-name": machine.node()})

    def writer():
        for what in range(1, 255):
            places = [f"write -P {what} {at * M + what * 4096} 60k" for at in range(0, 16, 2)]
            if stop.is_set():
                break
            if machine.vireo:
                run("qemu-io", "-f", "raw", *(w for p in places for w in ("-c", p)), machine.uri("d"))
                continue
            for place in places:
                machine.qemu_io(place)

    thread = threading.Thread(target=writer)
    thread.start()
    try:
        for _ in range(6):
            assert machine.read() == before
    finally:
        stop.set()
        thread.join()
    if machine.vireo:
        machine.qmp("block-export-del", id="e", mode="hard")
    machine.virsh("domjobabort", "vm")
    machine.over()
    machine.clean()
    machine.virsh("destroy", "vm")
    assert run("qemu-io", "-r", "-f", "qcow2", "-c", f"read -v {2 * M + 4096} 1", machine.file("top")).split()[1] == "01"  # there were writes: it was 3


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_over_tcp(machine):
    port = free_port()
    server = f"<server transport='tcp' name='127.0.0.1' port='{port}'/>"
    machine.pull(server=server)
    assert json.loads(run("nbdinfo", "--json", f"nbd://127.0.0.1:{port}/vda"))["exports"][0]["export-size"] == 16 * M
    machine.virsh("domjobabort", "vm")
    machine.over()
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", port))
        s.listen()
        assert f"port {port}: Address already in use" in machine.pull(server=server, checkpoint="c", status=1)
    assert machine.virsh("checkpoint-list", "vm", "--name").strip() == ""
    machine.clean()


def test_daemon_killed_meanwhile(machine):
    machine.pull(checkpoint="c1")
    before = machine.read()
    machine.write(0x71, "0")
    machine.restart()
    assert "exportname='vda'" in machine.virsh("backup-dumpxml", "vm") and "Unbounded" in machine.virsh("domjobinfo", "vm")
    assert machine.read() == before
    machine.virsh("domjobabort", "vm")
    machine.over()
    machine.clean()
    assert machine.virsh("checkpoint-list", "vm", "--name").split() == ["c1"]
    machine.pull(since="c1")
    machine.kill()
    machine.daemon.start()
    assert machine.dirty() == [(0, 65536)]
    machine.kill()
    pid = int(re.search(r"pid='(\d+)'", machine.status_file().read_text(encoding='utf-8'))[1])
    os.kill(pid, 9)
    machine.daemon.start()
    machine.until("shut off", "domstate", "vm")
    assert not machine.left() and "no domain backup job" in machine.virsh("backup-dumpxml", "vm", status=1)
    machine.virsh("start", "vm", "--paused")


def test_guest_that_ends_meanwhile(machine, vireod, loop):  # noqa: F811
    events, done = Events(vireod.uri), []
    events.connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, lambda _c, _d, params, _o: done.append(params), None)
    machine.pull()
    assert machine.left() == ["pull.sock", "scratch.vda"]
    machine.virsh("destroy", "vm")
    until(lambda: done)
    assert not done[0]["success"] and not machine.left() and "no domain backup job" in machine.virsh("backup-dumpxml", "vm", status=1)
    events.connection.close()
    machine.virsh("start", "vm", "--paused")
    machine.pull()
    machine.virsh("domjobabort", "vm")
    machine.over()
    machine.clean()


def test_what_cannot_be(machine):
    disk = f"<disk name='vda' type='file'%s><scratch file='{machine.path}/s'/>%s</disk>"
    tcp = "<server name='127.0.0.1' port='1'%s/>"
    for named, text in (({"server": "<x/>"}, ""), ({"server": tcp % " tls='yes'"}, "no TLS"), ({"server": "<server transport='unix'/>"}, "'socket'"),
                        ({"server": f"<server transport='unix' socket='/{'x' * 120}'/>"}, "longer than 107"), ({"server": f"<server transport='unix' socket='{machine.path}/second.img'/>"}, "is no socket"),
                        ({"rows": disk % ("", "<driver type='raw'/>")}, "must be qcow2"), ({"rows": disk % (" exportbitmap='b'", "")}, "no bitmap"),
                        ({"rows": f"<disk name='vda' type='file'><target file='{machine.path}/s'/></disk>"}, "push mode"), ({"since": "c7"}, "no domain checkpoint with matching name 'c7'"),
                        ({"rows": disk % (" exportname='x'", "") + f"<disk name='vdb' type='file' exportname='x'><scratch file='{machine.path}/t'/></disk>"}, "same exportname 'x'"),
                        ({"rows": f"<disk name='vda' type='file'><scratch file='{machine.path}/second.img'/></disk>"}, "in use"),
                        ({"rows": f"<disk name='vda' type='file'><scratch file='{machine.path}/no/s'/></disk>"}, "No such file or directory")):
        if "since" in named:
            assert text in machine.pull(status=1, **named)
        else:
            assert text in machine.pull(status=1, checkpoint="c", **named)
        assert machine.virsh("checkpoint-list", "vm", "--name").strip() == ""
        machine.clean()
    (machine.path / "pull.xml").write_text(f"<domainbackup><disks><disk name='vda' type='file' exportname='x'><target file='{machine.path}/s'/></disk></disks></domainbackup>", encoding="utf-8")
    assert "is for backups in pull mode" in machine.virsh("backup-begin", "vm", machine.path / "pull.xml", status=1)
    machine.clean()


def test_an_export_that_fails_takes_all_back(machine):
    """Another has the name: known when the jobs run already."""
    machine.qmp("nbd-server-start", addr={"type": "unix", "data": {"path": str(machine.path / "own")}})
    assert "already running" in machine.pull(checkpoint="c", status=1)
    machine.qmp("nbd-server-stop")
    machine.clean()
    assert "c" not in machine.virsh("checkpoint-list", "vm", "--name").split()
    long = "n" * 4097
    assert "too long" in machine.pull(f"<disk name='vda' type='file' exportname='{long}'><scratch file='{machine.path}/s'/></disk>", checkpoint="c", status=1)
    assert "c" not in machine.virsh("checkpoint-list", "vm", "--name").split() and '"c"' not in json.dumps(machine.qmp("query-named-block-nodes", flat=True))
    machine.clean()


@pytest.mark.parametrize("edit", ["begun='0' checkpoint='c1'", "begun='0'"])
def test_half_begun_is_taken_back(machine, edit):
    """As a daemon leaves it that is killed after the transaction and before clients can read."""
    machine.pull(checkpoint="c1")
    machine.kill()
    status = machine.status_file()
    text = status.read_text(encoding="utf-8")
    assert "begun='1'" in text
    status.write_text(text.replace("begun='1'", edit + f" making='{machine.path}/half'"), encoding="utf-8")
    (machine.path / "half").write_text("", encoding="utf-8")
    machine.daemon.start()
    machine.over()
    until(lambda: len(machine.nodes()) == 8)
    machine.clean()
    assert machine.virsh("checkpoint-list", "vm", "--name").split() == ([] if "checkpoint" in edit else ["c1"])


def test_by_python3_libvirt(machine, vireod, loop):  # noqa: F811
    """The file of a caller who says so is used and stays; a job's numbers; its end."""
    run("qemu-img", "create", "-q", "-f", "qcow2", machine.path / "own", "16M")
    connection = libvirt.open(vireod.uri)
    domain = connection.lookupByName("vm")
    row = f"<disk name='vda' type='file' backupmode='full'><scratch file='{machine.path}/own'/></disk>"
    text = machine.xml_of(row).read_text(encoding="utf-8")
    with pytest.raises(libvirt.libvirtError, match="exists"):
        domain.backupBegin(text, None, 0)
    domain.backupBegin(text, None, libvirt.VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL)
    assert f"<scratch file='{machine.path}/own'/>" in domain.backupGetXMLDesc() and "<disk name='vdb' backup='no'/>" in domain.backupGetXMLDesc()
    machine.write(0x41, "3M", "64k")
    stats = domain.jobStats()
    assert stats["type"] == libvirt.VIR_DOMAIN_JOB_UNBOUNDED and stats["operation"] == libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP and stats["disk_temp_used"] >= 65536, stats
    assert set(machine.read()[3 * M:4 * M]) == {0}
    domain.abortJob()
    machine.over()
    assert domain.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)["success"]
    connection.close()
    (machine.path / "own").unlink()
    machine.clean()


def test_scratch_image_that_is_full(machine, vireod):
    """On a device with room for a few clusters: vireo-vmm's guest goes on and the backup fails, with QEMU the guest's write does."""
    if os.geteuid() != 0:
        pytest.skip("a loop device needs root")
    (machine.path / "small").write_bytes(bytes(M // 2))
    done = subprocess.run(["losetup", "-f", "--show", machine.path / "small"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no loop device: {done.stderr.strip()}")
    device = done.stdout.strip()
    try:
        machine.pull(f"<disk name='vda' type='block'><driver type='qcow2'/><scratch dev='{device}'/></disk>")
        assert f"<scratch dev='{device}'/>" in machine.virsh("backup-dumpxml", "vm")
        before = machine.read()
        machine.write(0x42, "2M", "64k")
        assert machine.read() == before
        if machine.vireo:
            machine.write(0x43, "0", "1M")
            machine.over()
            assert "Failed" in machine.virsh("domjobinfo", "vm", "--completed")
        else:
            machine.virsh("domjobabort", "vm")
            machine.over()
    finally:
        machine.virsh("destroy", "vm")
        run("losetup", "-d", device)
        (machine.path / "small").unlink()
    assert not machine.left()


def test_what_others_want_of_a_disk_meanwhile(machine):
    machine.pull()
    for words in (["snapshot-create-as", "vm", "s", "--disk-only"], ["blockcopy", "vm", "vda", machine.path / "copy", "--transient-job"], ["blockcommit", "vm", "vda", "--active"]):
        assert "already in active block job" in (out := machine.virsh(*words, status=1)), out
    assert parts(machine.read(), 0, M) == [1, 2]
    machine.virsh("blockjob", "vm", "vda", "--abort")
    machine.over()
    machine.clean()
