# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots of disks by the real virsh: live and shut off, in files of their own and inside images; their documents, which survive the daemon; and their end."""
import os
import re

import pytest

from disk_lab import Domain, info, reads, run, write


@pytest.fixture
def running(vireod, tmp_path):
    yield Domain(vireod, tmp_path)
    vireod.virsh("destroy", "vm", status=None)


@pytest.fixture
def off(vireod, tmp_path):
    yield Domain(vireod, tmp_path, running=False)
    vireod.virsh("destroy", "vm", status=None)


ALONE = ("--disk-only", "--diskspec", "vdb,snapshot=no")


# ---- live, in files of their own ----

def test_live_snapshot(running):
    running.snapshot("s1", "what it is for", "--disk-only", "--atomic")
    assert running.chain() == [str(running.path / n).rsplit("/", maxsplit=1)[-1].removesuffix(".qcow2") for n in ("top.s1", "top", "mid", "base")]
    assert "second.s1" in running.virsh("dumpxml", "vm") and "second.s1" in running.virsh("dumpxml", "vm", "--inactive")
    assert info(running.path / "top.s1")["full-backing-filename"] == str(running.file("top"))
    assert info(running.path / "second.s1")["backing-filename-format"] == "raw"
    running.nbd_write("libvirt-6-format", 0x55, "0", "64k")
    xml = running.virsh("snapshot-dumpxml", "vm", "s1")
    assert "<state>disk-snapshot</state>" in xml and "<description>what it is for</description>" in xml and "<memory snapshot='no'/>" in xml
    assert f"<source file='{running.path}/top.s1'/>" in xml and "<disk name='sda' snapshot='no'/>" in xml and "<inactiveDomain type='qemu'>" in xml
    running.virsh("destroy", "vm")
    reads(running.file("top"), 1, "0", "1M")
    reads(running.path / "top.s1", 0x55, "0", "64k")
    reads(running.path / "top.s1", 1, "64k", "64k")
    running.virsh("start", "vm", "--paused")
    assert running.chain()[0] == "top.s1"


def test_all_disks_or_none(running):
    """The second disk's overlay cannot be made: the first stays as it was, no file and no document is left."""
    out = running.snapshot("s1", "--disk-only", "--diskspec", "vdb,file=/no/such/dir/x.qcow2", status=1)
    assert "/no/such/dir/x.qcow2" in out
    assert running.chain() == ["top", "mid", "base"] and not (running.path / "top.s1").exists() and running.names() == []
    os.symlink("/dev/full", running.path / "second.s2")
    running.snapshot("s2", "--disk-only", status=1)
    assert running.chain() == ["top", "mid", "base"] and not (running.path / "top.s2").exists() and running.names() == []


def test_named_and_reused_files(running):
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", running.file("top"), "-F", "qcow2", running.file("mine"))
    assert "already exists and is not a block device" in running.snapshot("s1", *ALONE, "--diskspec", f"vda,file={running.file('mine')}", status=1)
    running.snapshot("s1", *ALONE, "--reuse-external", "--diskspec", f"vda,file={running.file('mine')}")
    assert running.chain() == ["mine", "top", "mid", "base"]
    assert "missing existing file" in running.snapshot("s2", *ALONE, "--reuse-external", "--diskspec", f"vda,file={running.file('none')}", status=1)
    running.snapshot("s2", *ALONE, "--no-metadata", "--diskspec", f"vda,file={running.file('other')}")
    assert running.chain()[:2] == ["other", "mine"] and running.names() == ["s1"]


@pytest.mark.parametrize("words, answer", [
    ([], "internal snapshot for disk vdb unsupported for storage type raw"), (["--memspec", "file=/tmp/x,snapshot=internal"], "requires external snapshot"), (["--disk-only", "--diskspec", "vda,snapshot=internal"], "require external disk snapshots"),
    (["--disk-only", "--diskspec", "vdz"], "no disk named 'vdz'"), (["--disk-only", "--diskspec", "vda,snapshot=no", "--diskspec", "vdb,snapshot=no"], "nothing selected"),
    (["--disk-only", "--diskspec", "vda,driver=raw"], "format for disk vda is unsupported: raw"), (["--disk-only", "--quiesce"], "agent is not configured"),
    (["--disk-only", "--diskspec", "vda,file=rel.qcow2"], "rel.qcow2"), (["--disk-only", "--diskspec", "sda,snapshot=external,file=/tmp/x"], "no medium"),
])
def test_live_snapshot_that_cannot_be(running, words, answer):
    assert answer in running.snapshot("s", *words, status=1)
    assert running.names() == [] and running.chain() == ["top", "mid", "base"] and not list(running.path.glob("*.s"))


def test_not_during_a_job(running):
    running.virsh("blockcopy", "vm", "vda", running.file("copy"), "--transient-job", "--bandwidth", "1")
    assert "active block job" in running.snapshot("s", *ALONE, status=1)
    running.virsh("blockjob", "vm", "vda", "--abort")
    running.snapshot("s", *ALONE)


def test_halt(running):
    running.snapshot("s", *ALONE, "--halt")
    assert "shut off (from snapshot)" in running.virsh("domstate", "vm", "--reason") and running.chain("--inactive")[0] == "top.s"


# ---- documents ----

def test_lists_and_the_daemon_killed(running):
    for n in "abc":
        running.snapshot(n, *ALONE)
    running.virsh("snapshot-current", "vm", "a")
    running.snapshot("d", *ALONE)
    for _ in range(2):
        assert running.names() == ["a", "b", "c", "d"] and running.tree() == "a b c d"
        assert running.names("--roots") == ["a"] and running.names("--leaves") == ["c", "d"] and running.names("--from", "a") == ["b", "d"]
        assert running.names("--from", "a", "--descendants") == ["b", "c", "d"] and running.names("--internal") == [] and len(running.names("--external", "--disk-only")) == 4
        assert running.names("--inactive") == [] and running.virsh("snapshot-parent", "vm", "c").strip() == "b" and running.virsh("snapshot-current", "vm", "--name").strip() == "d"
        out = running.virsh("snapshot-info", "vm", "a")
        assert re.search(r"Current: +no", out) and re.search(r"Children: +2", out) and re.search(r"Descendants: +3", out) and re.search(r"Location: +external", out)
        assert "vm" in running.virsh("list", "--all", "--with-snapshot") and "vm" not in running.virsh("list", "--all", "--without-snapshot")
        before = running.virsh("snapshot-dumpxml", "vm", "b")
        running.restart()
        assert running.virsh("snapshot-dumpxml", "vm", "b") == before
    running.virsh("snapshot-delete", "vm", "b", "--metadata")
    assert running.tree() == "a c d"
    running.virsh("snapshot-delete", "vm", "a", "--children-only", "--metadata")
    assert running.names() == ["a"] and running.virsh("snapshot-current", "vm", "--name").strip() == "a"
    assert "already exists" in running.snapshot("a", *ALONE, status=1)
    for bad in ("x/y", ".x"):
        assert "invalid snapshot name" in running.snapshot(bad, *ALONE, status=1)


def test_documents_follow_the_domain(off):
    off.snapshot("s", "--disk-only")
    assert "cannot delete inactive domain with 1 snapshots" in off.virsh("undefine", "vm", status=1)
    off.virsh("domrename", "vm", "other")
    assert off.virsh("snapshot-list", "other", "--name").split() == ["s"]
    off.restart()
    assert off.virsh("snapshot-list", "other", "--name").split() == ["s"]
    off.virsh("domrename", "other", "vm")
    off.virsh("undefine", "vm", "--snapshots-metadata")
    assert not list((off.path / "var/lib/vireo/qemu").glob("snapshot/*"))
    off.virsh("define", off.xml)
    assert off.names() == []


def test_edit_and_redefine(off):
    off.snapshot("s", "--disk-only")
    xml = off.virsh("snapshot-dumpxml", "vm", "s")
    path = off.path / "s.xml"
    path.write_text(xml.replace("<name>s</name>", "<name>s</name>\n  <description>new</description>", 1), encoding="utf-8")
    off.virsh("snapshot-create", "vm", path, "--redefine")
    assert "<description>new</description>" in off.virsh("snapshot-dumpxml", "vm", "s") and off.virsh("snapshot-current", "vm", "--name").strip() == "s"
    off.virsh("snapshot-delete", "vm", "s", "--metadata")
    off.virsh("snapshot-create", "vm", path, "--redefine", "--current")
    assert off.virsh("snapshot-current", "vm", "--name").strip() == "s"
    for change, answer in (("<domain type.*</domain>", "missing domain in snapshot"), ("<creationTime>.*</creationTime>", "missing creationTime"), ("<uuid>[^<]*</uuid>", "must use uuid")):
        new = "<uuid>11111111-1111-1111-1111-111111111111</uuid>" if "uuid" in change else ""
        path.write_text(re.sub(change, new, xml, flags=re.S), encoding="utf-8")
        assert answer in off.virsh("snapshot-create", "vm", path, "--redefine", status=1)
    path.write_text(xml.replace("<state>", "<parent><name>nobody</name></parent><state>", 1).replace("<name>s</name>", "<name>t</name>", 1), encoding="utf-8")
    assert "parent nobody for moment t not found" in off.virsh("snapshot-create", "vm", path, "--redefine", status=1)


def test_damaged_files_harm_nobody(off):
    off.snapshot("s", "--disk-only")
    where = off.path / "var/lib/vireo/qemu/snapshot/vm"
    (where / "broken.xml").write_text("<domainsnapshot>", encoding="utf-8")
    (where / "named.xml").write_text("<domainsnapshot><name>another</name></domainsnapshot>", encoding="utf-8")
    for n, parent in (("p", "q"), ("q", "p")):
        (where / f"{n}.xml").write_text(f"<domainsnapshot><name>{n}</name><state>shutoff</state><parent><name>{parent}</name></parent><creationTime>1</creationTime></domainsnapshot>", encoding="utf-8")
    off.restart()
    assert off.names() == ["p", "q", "s"] and "broken.xml" in off.daemon.messages() and "named 'another'" in off.daemon.messages()
    assert len(off.names("--from", "p", "--descendants") + off.names("--from", "q", "--descendants")) == 1


# ---- shut off ----

def test_snapshot_of_a_domain_that_is_off(off):
    off.snapshot("s", "--disk-only")
    assert off.chain("--inactive")[0] == "top.s" and "second.s" in off.virsh("dumpxml", "vm") and "<state>shutoff</state>" in off.virsh("snapshot-dumpxml", "vm", "s")
    off.virsh("start", "vm", "--paused")
    assert off.chain() == ["top.s", "top", "mid", "base"]
    assert "revert to external snapshot not supported yet" in off.virsh("snapshot-revert", "vm", "s", status=1)


def test_snapshots_inside_the_image(off):
    assert "vdb unsupported for storage type raw" in off.snapshot("i1", status=1)
    xml = off.virsh("dumpxml", "vm")
    off.xml.write_text(re.sub(r"<disk type='file' device='disk'>\s*<driver name='qemu' type='raw'.*?</disk>", "", xml, flags=re.S), encoding="utf-8")
    off.virsh("define", off.xml)
    top = off.file("top")
    off.snapshot("i1")
    assert "i1" in run("qemu-img", "snapshot", "-l", top) and "<disk name='vda' snapshot='internal'/>" in off.virsh("snapshot-dumpxml", "vm", "i1")
    write(top, 0x44, "0", "2M")
    off.snapshot("i2")
    assert off.tree() == "i1 i2" and off.names("--internal") == ["i1", "i2"]
    off.virsh("desc", "vm", "--config", "changed since")
    off.virsh("snapshot-revert", "vm", "i1")
    reads(top, 1, "0", "1M")
    assert "changed since" not in off.virsh("dumpxml", "vm") and off.virsh("snapshot-current", "vm", "--name").strip() == "i1"
    off.virsh("snapshot-revert", "vm", "i2", "--paused")
    assert "paused" in off.virsh("domstate", "vm")
    off.virsh("snapshot-delete", "vm", "i1")
    assert "i1" not in run("qemu-img", "snapshot", "-U", "-l", top) and off.tree() == "i2"
    off.virsh("snapshot-revert", "vm", "i2")
    assert "shut off (from snapshot)" in off.virsh("domstate", "vm", "--reason")
    reads(top, 0x44, "0", "2M")
    off.virsh("snapshot-delete", "vm", "i2")
    assert run("qemu-img", "snapshot", "-l", top).strip() == ""
    run("qemu-img", "check", "-q", top)


# ---- the end of external ones ----

def test_delete_merges_live(running):
    for n in "ab":
        running.snapshot(n, *ALONE)
        running.nbd_write(re.search(r"index='(\d+)'", running.disk())[1].join(["libvirt-", "-format"]), ord(n), "0" if n == "a" else "1M", "64k")
    assert "external children" in running.virsh("snapshot-delete", "vm", "a", "--children", status=1)
    running.virsh("snapshot-delete", "vm", "a")
    assert running.chain() == ["top.b", "top", "mid", "base"] and not (running.path / "top.a").exists() and running.names() == ["b"]
    running.virsh("snapshot-delete", "vm", "b")
    assert running.chain() == ["top", "mid", "base"] and running.chain("--inactive") == ["top", "mid", "base"][:len(running.chain("--inactive"))] and running.names() == []
    assert not (running.path / "top.b").exists()
    running.virsh("destroy", "vm")
    reads(running.file("top"), ord("a"), "0", "64k")
    reads(running.file("top"), ord("b"), "1M", "64k")
    reads(running.file("top"), 3, "2M", "1M")
    running.virsh("start", "vm", "--paused")


def test_delete_merges_shut_off(off):
    off.snapshot("a", "--disk-only")
    off.snapshot("b", "--disk-only")
    write(off.path / "top.a", 0x61, "0", "64k")
    run("qemu-io", "-f", "qcow2", "-c", "write -z 2M 64k", off.path / "top.a")
    write(off.path / "second.b", 0x62, "4M", "64k")
    off.virsh("snapshot-delete", "vm", "a")
    assert not (off.path / "top.a").exists() and off.chain("--inactive")[0] == "top.b" and info(off.path / "top.b")["backing-filename"] == str(off.file("top"))
    off.virsh("snapshot-delete", "vm", "b")
    assert off.chain("--inactive")[0] == "top" and "second.img" in off.virsh("dumpxml", "vm") and off.names() == []
    reads(off.file("top"), 0x61, "0", "64k")
    reads(off.file("top"), 0, "2M", "64k")
    reads(off.file("top"), 3, "2112k", "64k")
    reads(off.path / "second.img", 0x62, "4M", "64k", "raw")
    off.virsh("start", "vm", "--paused")
    assert off.chain() == ["top", "mid", "base"]


def test_delete_of_what_is_elsewhere(running):
    running.snapshot("a", *ALONE)
    running.virsh("blockpull", "vm", "vda", "--wait")
    running.virsh("blockcopy", "vm", "vda", running.file("copy"), "--transient-job", "--wait", "--pivot")
    assert "is not in the chain of disk 'vda'" in running.virsh("snapshot-delete", "vm", "a", status=1)
    running.virsh("snapshot-delete", "vm", "a", "--metadata")
