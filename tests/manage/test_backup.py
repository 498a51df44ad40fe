# SPDX-License-Identifier: GPL-2.0-or-later
"""Checkpoints and backups by the real virsh: what was written since is what an incremental backup holds, over snapshots and commits, and over a daemon that is killed."""
import json
import os
import re
import time

import pytest

from disk_lab import Domain, Events, loop, reads, run  # noqa: F401 pylint: disable=unused-import
from limits import SLOW

NOT_VDB = ("--diskspec", "vda", "--diskspec", "vdb,checkpoint=no")


class Backed(Domain):
    def write(self, what, at, size="64k"):
        self.nbd_write(f"libvirt-{re.search(chr(60) + r'source [^>]*index=.([0-9]+)', self.disk())[1]}-format", what, at, size)

    def backup(self, name, since=None, disks=("vda",), checkpoint=None, status=0, form="qcow2"):
        xml = self.path / "backup.xml"
        rows = "".join(f"<disk name='{d}' type='file'><target file='{self.path}/{name}.{d}'/><driver type='{form}'/></disk>" for d in disks)
        xml.write_text(f"<domainbackup>{f'<incremental>{since}</incremental>' if since else ''}<disks>{rows}</disks></domainbackup>", encoding="utf-8")
        words = []
        if checkpoint:
            (self.path / "checkpoint.xml").write_text(f"<domaincheckpoint><name>{checkpoint}</name><disks><disk name='vda'/></disks></domaincheckpoint>", encoding="utf-8")
            words = ["--checkpointxml", self.path / "checkpoint.xml"]
        out = self.virsh("backup-begin", "vm", "--backupxml", xml, *words, status=status)
        if not status:
            self.until("no domain backup job present", "backup-dumpxml", "vm")
        return out

    def extents(self, name):
        """What the image holds by itself: (start, length)."""
        return [(e["start"], e["length"]) for e in json.loads(run("qemu-img", "map", "--output=json", self.path / name)) if e["data"]]


@pytest.fixture
def machine(vireod, tmp_path):
    yield Backed(vireod, tmp_path)
    vireod.virsh("destroy", "vm", status=None)


def test_full_backup(machine, vireod, loop): # noqa: F811
    events = Events(vireod.uri)
    machine.backup("full", disks=("vda", "vdb"))
    events.wait(("top.qcow2", "backup", "completed"), ("vda", "backup", "completed"), ("vdb", "backup", "completed"))
    events.connection.close()
    machine.write(0x66, "0")
    machine.virsh("dump", "vm", machine.path / "core", "--memory-only", "--live")
    assert "Dump" in machine.virsh("domjobinfo", "vm", "--completed", "--keep-completed")
    machine.backup("again", disks=("vda", "vdb"))  # of the jobs that ended the last one is told
    assert "Backup" in (out := machine.virsh("domjobinfo", "vm", "--completed")) and "Completed" in out and "24.000 MiB" in out
    assert len(machine.nodes()) == 8 and os.stat(machine.path / "full.vda").st_mode & 0o777 == 0o600
    assert "exists" in machine.backup("full", status=1)
    machine.virsh("destroy", "vm")
    for n in (1, 2, 3):
        reads(machine.path / "full.vda", n, f"{n - 1}M", "1M")
    assert "identical" in run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", machine.path / "full.vdb", machine.path / "second.img")


def test_incremental_backups(machine):
    machine.backup("full", checkpoint="c1")
    machine.write(0x11, "4M")
    machine.backup("one", since="c1", checkpoint="c2")
    machine.write(0x22, "8M")
    machine.backup("two", since="c2")
    machine.backup("both", since="c1")
    assert machine.extents("one.vda") == [(4 << 20, 65536)] and machine.extents("two.vda") == [(8 << 20, 65536)] and machine.extents("both.vda") == [(4 << 20, 65536), (8 << 20, 65536)]
    reads(machine.path / "two.vda", 0x22, "8M", "64k")
    assert machine.virsh("checkpoint-list", "vm", "--name").split() == ["c1", "c2"] and machine.virsh("checkpoint-parent", "vm", "c2").strip() == "c1"
    assert f"size='{65536 * 2}'" in machine.virsh("checkpoint-dumpxml", "vm", "c1", "--size", "--no-domain")
    machine.virsh("destroy", "vm")
    machine.virsh("start", "vm", "--paused")
    machine.write(0x33, "12M")
    machine.backup("three", since="c2")
    assert machine.extents("three.vda") == [(8 << 20, 65536), (12 << 20, 65536)]
    machine.virsh("checkpoint-delete", "vm", "c2")
    assert machine.virsh("checkpoint-list", "vm", "--name").split() == ["c1"] and "c2" not in json.dumps(machine.qmp("query-named-block-nodes", flat=True))


def test_checkpoints_go_on_over_snapshots(machine):
    machine.virsh("checkpoint-create-as", "vm", "c1", *NOT_VDB)
    machine.write(0x11, "4M")
    machine.snapshot("s", "--disk-only", "--diskspec", "vdb,snapshot=no")
    machine.write(0x22, "8M")
    machine.backup("b", since="c1")
    assert machine.extents("b.vda") == [(4 << 20, 65536), (8 << 20, 65536)]
    machine.virsh("snapshot-delete", "vm", "s")
    machine.write(0x33, "12M")
    machine.backup("c", since="c1")
    assert {(4 << 20, 65536), (8 << 20, 65536), (12 << 20, 65536)} <= set(machine.extents("c.vda"))


def test_a_bitmap_that_is_missing_is_told(machine):
    machine.virsh("checkpoint-create-as", "vm", "c1", *NOT_VDB)
    machine.virsh("blockcopy", "vm", "vda", machine.file("copy"), "--transient-job", "--wait", "--pivot")
    assert "missing or broken bitmap 'c1'" in machine.backup("b", since="c1", status=1)
    assert not (machine.path / "b.vda").exists() and "no domain backup job present" in machine.virsh("backup-dumpxml", "vm", status=1)
    assert "no domain checkpoint with matching name 'c7'" in machine.backup("b", since="c7", status=1)
    machine.virsh("checkpoint-delete", "vm", "c1")


@pytest.mark.parametrize("words, answer", [
    ([], "vdb unsupported for storage type raw"), (["--diskspec", "vdz"], "no disk named 'vdz'"), (["--diskspec", "sda,checkpoint=bitmap"], "empty or readonly"),
])
def test_checkpoint_that_cannot_be(machine, words, answer):
    assert answer in machine.virsh("checkpoint-create-as", "vm", "c", *words, status=1)
    assert machine.virsh("checkpoint-list", "vm", "--name").strip() == ""


def test_what_is_refused(machine):
    assert "no job is active" in machine.virsh("domjobabort", "vm", status=1)
    machine.virsh("checkpoint-create-as", "vm", "c1", *NOT_VDB)
    machine.virsh("destroy", "vm")
    assert "inactive domain" in machine.virsh("checkpoint-create-as", "vm", "c2", *NOT_VDB, status=1)
    assert "with 1 checkpoints" in machine.virsh("undefine", "vm", status=1)
    machine.restart()
    assert "<bitmap" not in (out := machine.virsh("checkpoint-dumpxml", "vm", "c1")) and "bitmap='c1'" in out
    machine.virsh("undefine", "vm", "--checkpoints-metadata")


def begin(machine):
    """A backup of both disks that nobody waits for."""
    xml = machine.path / "slow.xml"
    xml.write_text(f"<domainbackup><disks><disk name='vda' type='file'><target file='{machine.path}/slow.vda'/></disk><disk name='vdb' type='file'><target file='{machine.path}/slow.vdb'/>"
                   "</disk></disks></domainbackup>", encoding="utf-8")
    machine.virsh("backup-begin", "vm", xml)


def test_backup_is_aborted_or_over(machine):
    begin(machine)
    out = machine.virsh("domjobabort", "vm", status=None)
    machine.until("no domain backup job present", "backup-dumpxml", "vm")
    assert len(machine.nodes()) == 8
    if "no job is active" not in out and "Cancelled" in machine.virsh("domjobinfo", "vm", "--completed"):
        assert not (machine.path / "slow.vda").exists() or not (machine.path / "slow.vdb").exists()
    machine.backup("after")


def test_backup_outlives_the_daemon(machine):
    begin(machine)
    machine.restart()
    end = time.monotonic() + 20 * SLOW
    while len(machine.nodes()) != 8:
        assert time.monotonic() < end, machine.nodes()
        time.sleep(0.05)
    assert machine.qmp("query-jobs")["return"] == [] and "no domain backup job present" in machine.virsh("backup-dumpxml", "vm", status=1)
    machine.virsh("destroy", "vm")
    reads(machine.path / "slow.vda", 3, "2M", "1M")
