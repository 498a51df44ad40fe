# SPDX-License-Identifier: GPL-2.0-or-later
"""Block jobs by the real virsh and libvirt's Python module: copy, commit, pull, with the chain in the documents, the data after each job, events, and a daemon that is killed in between."""
import os
import re
import time

import pytest

from disk_lab import Events, Machine, info, loop, reads, run  # noqa: F401 pylint: disable=unused-import
from limits import SLOW


@pytest.fixture
def machine(vireod, tmp_path):
    yield Machine(vireod, tmp_path)
    vireod.virsh("destroy", "vm", status=None)


@pytest.fixture
def transient(vireod, tmp_path):
    yield Machine(vireod, tmp_path, persistent=False)
    vireod.virsh("destroy", "vm", status=None)


@pytest.fixture
def events(vireod, loop): # noqa: F811
    e = Events(vireod.uri)
    yield e
    e.connection.close()


# ---- the chain ----

def test_chain_is_in_the_live_document_and_the_machine(machine):
    assert machine.chain() == ["top", "mid", "base"] and machine.chain("--inactive") == ["top"]
    xml = machine.disk()
    assert re.findall(r"index='(\d)'", xml) == ["1", "2", "3"] and "<backingStore/>" in xml
    assert machine.nodes() == [f"libvirt-{n}-{k}" for n in (1, 2, 3) for k in ("format", "storage")]
    writable = {n["node-name"]: not n["ro"] for n in machine.qmp("query-named-block-nodes", flat=True)["return"]}
    assert writable["libvirt-1-format"] and not writable["libvirt-2-format"] and not writable["libvirt-3-format"]


def test_backing_file_without_a_format(machine):
    machine.virsh("destroy", "vm")
    run("qemu-img", "rebase", "-u", "-b", "base.qcow2", "-F", "qcow2", machine.file("mid"))
    with open(machine.file("top"), "r+b") as f: # the header extension that names the format becomes one that nobody knows
        head = f.read(4096)
        at = head.index(b"\xe2\x79\x2a\xca")
        f.seek(at)
        f.write(b"\x12\x34\x56\x78")
    out = machine.virsh("start", "vm", "--paused", status=1)
    assert "was not specified in the image metadata" in out and str(machine.file("mid")) in out


def test_missing_backing_file_is_named(machine):
    machine.virsh("destroy", "vm")
    os.rename(machine.file("base"), machine.file("gone"))
    out = machine.virsh("start", "vm", "--paused", status=1)
    assert str(machine.file("base")) in out and "is missing" in out


def test_hostile_headers(machine):
    """A header says anything: the daemon says what is wrong, or the machine does, and both go on."""
    machine.virsh("destroy", "vm")
    mid = machine.file("mid")
    good = mid.read_bytes()

    def change(at, data):
        return good[:at] + data + good[at + len(data):]

    name_at = int.from_bytes(good[8:16], "big")
    extensions = int.from_bytes(good[100:104], "big")
    cases = [good[:10], good[:71], good[:103], change(8, b"\xff" * 8), change(16, b"\xff" * 4), change(8, (1 << 30).to_bytes(8, "big")), change(name_at, b"\xff\xfe\x00\x01"),
             change(100, b"\xff" * 4), change(extensions + 4, b"\xff" * 4), change(extensions + 4, b"\x00" * 4), change(name_at, b"/dev/zero"), change(name_at, b"json:{}.."), change(name_at, b"top.qcow2"),
             change(name_at, b"/dev/full"), change(name_at, b"../../.."[:9])]
    for n, data in enumerate(cases):
        mid.write_bytes(data)
        out = machine.virsh("start", "vm", "--paused", status=None)
        assert machine.daemon.process.poll() is None, f"case {n}: {out}"
        machine.virsh("destroy", "vm", status=None)
    os.symlink("top.qcow2", machine.file("loop"))
    mid.write_bytes(change(name_at, b"loop.qcow2"))
    assert "more than 64 deep" in machine.virsh("start", "vm", "--paused", status=1)
    mid.write_bytes(good)
    machine.virsh("start", "vm", "--paused")
    assert machine.chain() == ["top", "mid", "base"]


def test_numbers_of_each_image(machine):
    out = machine.virsh("domstats", "vm", "--block", "--backing")
    assert "block.count=3" in out and "block.count=1" in machine.virsh("domstats", "vm", "--block")
    for n, name in enumerate(("top", "mid", "base")):
        assert f"block.{n}.path={machine.file(name)}" in out and f"block.{n}.backingIndex={n + 1}" in out and f"block.{n}.capacity={16 << 20}" in out and f"block.{n}.name=vda" in out
    sizes = machine.virsh("domblkinfo", "vm", "vda")
    assert re.search(rf"Physical: +{os.stat(machine.file('top')).st_size}", sizes) and re.search(rf"Allocation: +{os.stat(machine.file('top')).st_blocks * 512}", sizes)


# ---- copy ----

def test_copy_needs_a_word_about_transience(machine):
    assert "domain is not transient" in machine.virsh("blockcopy", "vm", "vda", machine.file("copy"), status=1)
    assert not machine.file("copy").exists()


def test_copy_and_pivot(machine, events):
    old = machine.disk()
    machine.virsh("blockcopy", "vm", "vda", machine.file("copy"), "--transient-job")
    events.wait(("top.qcow2", "copy", "ready"), ("vda", "copy", "ready"))
    xml = machine.disk()
    assert f"<mirror type='file' file='{machine.file('copy')}' format='qcow2' job='copy' ready='yes'>" in xml
    assert f"<source file='{machine.file('copy')}' index='4'/>" in xml and "Block Copy: [100 %]" in machine.virsh("blockjob", "vm", "vda")
    for refused in ["blockcopy", "vm", "vda", machine.file("other"), "--transient-job"], ["blockpull", "vm", "vda"], ["blockcommit", "vm", "vda", "--active"]:
        assert "already in active block job" in machine.virsh(*refused, status=1)
    machine.virsh("blockjob", "vm", "vda", "--pivot")
    events.wait(("copy.qcow2", "copy", "completed"), ("vda", "copy", "completed"))
    assert machine.chain() == ["copy"] and machine.chain("--inactive") == ["copy"] and "<mirror" not in machine.disk()
    assert machine.disk() != old and machine.nodes() == ["libvirt-4-format", "libvirt-4-storage"]
    assert "No current block job" in machine.virsh("blockjob", "vm", "vda")
    machine.virsh("destroy", "vm")
    for n in (1, 2, 3):
        reads(machine.file("copy"), n, f"{n - 1}M", "1M")
    assert "identical" in run("qemu-img", "compare", machine.file("top"), machine.file("copy")) and "backing-filename" not in info(machine.file("copy"))
    machine.virsh("start", "vm", "--paused")
    assert machine.chain() == ["copy"]


def test_shallow_copy_keeps_what_is_below(machine, events):
    machine.virsh("blockcopy", "vm", "vda", machine.file("copy"), "--shallow", "--transient-job", "--wait", "--pivot")
    events.wait(("vda", "copy", "completed"))
    assert machine.chain() == ["copy", "mid", "base"]
    machine.virsh("destroy", "vm")
    assert info(machine.file("copy"))["full-backing-filename"] == str(machine.file("mid"))
    assert run("qemu-img", "map", "--output=json", machine.file("copy")).count('"depth": 0') == run("qemu-img", "map", "--output=json", machine.file("top")).count('"depth": 0')
    assert "identical" in run("qemu-img", "compare", machine.file("top"), machine.file("copy"))
    machine.virsh("start", "vm", "--paused")


def test_copy_is_finished_without_pivot(transient, events):
    transient.virsh("blockcopy", "vm", "vda", transient.file("copy"), "--wait", "--finish", "--format", "raw")
    events.wait(("vda", "copy", "canceled"))
    assert transient.chain() == ["top", "mid", "base"] and "<mirror" not in transient.disk() and len(transient.nodes()) == 6
    transient.virsh("destroy", "vm")
    assert info(transient.file("copy"))["format"] == "raw"
    assert "identical" in run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", transient.file("top"), transient.file("copy"))


def test_copy_into_what_is_there(transient, events):
    write_to = transient.file("there")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", transient.file("mid"), "-F", "qcow2", write_to)
    assert "already exists and is not a block device" in transient.virsh("blockcopy", "vm", "vda", write_to, status=1)
    transient.virsh("blockcopy", "vm", "vda", write_to, "--reuse-external", "--shallow", "--wait", "--pivot")
    assert transient.chain() == ["there", "mid", "base"] and len(transient.nodes()) == 6
    assert "in use by the running domain" in transient.virsh("blockcopy", "vm", "vda", transient.file("mid"), "--reuse-external", status=1)
    transient.virsh("destroy", "vm")
    assert "identical" in run("qemu-img", "compare", transient.file("top"), write_to)


def test_copy_by_a_document(transient):
    xml = transient.path / "to.xml"
    xml.write_text(f"<disk type='file'><source file='{transient.file('copy')}'/><driver type='raw'/></disk>", encoding="utf-8")
    transient.virsh("blockcopy", "vm", "vda", "--xml", xml, "--granularity", "65536", "--buf-size", "1048576", "--synchronous-writes")
    transient.until("ready='yes'", "dumpxml", "vm")
    transient.virsh("blockjob", "vm", "vda", "--pivot")
    assert transient.chain() == ["copy"] and "type='raw'" in transient.disk()
    for wrong in "<disk type='file'/>", "<interface type='user'/>", f"<disk type='dir'><source dir='{transient.path}'/></disk>":
        xml.write_text(wrong, encoding="utf-8")
        transient.virsh("blockcopy", "vm", "vda", "--xml", xml, status=1)
    assert "no-such" in transient.virsh("blockcopy", "vm", "vda", "/no-such/file", status=1)


def test_what_is_written_during_a_copy_is_in_the_copy(transient):
    socket = transient.path / "nbd"
    transient.qmp("nbd-server-start", addr={"type": "unix", "data": {"path": str(socket)}})
    transient.qmp("block-export-add", type="nbd", id="e", writable=True, name="d", **{"node-name": "libvirt-1-format"})
    transient.virsh("blockcopy", "vm", "vda", transient.file("copy"), "--bandwidth", "1")
    url = f"nbd+unix:///d?socket={socket}"
    for n, at in enumerate(("0", "5M", "15M")):
        run("qemu-io", "-f", "raw", "-c", f"write -P {0x10 + n} {at} 64k", url)
    transient.virsh("blockjob", "vm", "vda", "--bandwidth", "0")
    transient.until("ready='yes'", "dumpxml", "vm")
    run("qemu-io", "-f", "raw", "-c", "write -P 0x77 8M 64k", url)
    transient.qmp("block-export-del", id="e", mode="hard")
    transient.virsh("blockjob", "vm", "vda", "--pivot")
    transient.virsh("destroy", "vm")
    for what, at in (0x10, "0"), (0x11, "5M"), (0x12, "15M"), (0x77, "8M"):
        reads(transient.file("copy"), what, at, "64k")
    assert "identical" in run("qemu-img", "compare", transient.file("top"), transient.file("copy"))


def test_slow_copy_is_aborted(transient, events):
    transient.virsh("blockcopy", "vm", "vda", transient.file("copy"), "--bandwidth", "65536", "--bytes")
    assert "Bandwidth limit: 65536 bytes/s" in transient.virsh("blockjob", "vm", "vda", "--bytes")
    assert "not ready for pivot yet" in transient.virsh("blockjob", "vm", "vda", "--pivot", status=1)
    transient.virsh("blockjob", "vm", "vda", "--abort")
    events.wait(("top.qcow2", "copy", "canceled"))
    assert transient.chain() == ["top", "mid", "base"] and len(transient.nodes()) == 6
    assert "does not have an active block job" in transient.virsh("blockjob", "vm", "vda", "--abort", status=1)


# ---- commit ----

def test_commit_of_the_active_layer(machine, events):
    assert "requires active flag" in machine.virsh("blockcommit", "vm", "vda", status=1)
    machine.virsh("blockcommit", "vm", "vda", "--active")
    events.wait(("top.qcow2", "active commit", "ready"))
    assert "<mirror type='file' job='active-commit' ready='yes'>" in machine.disk() and f"<source file='{machine.file('base')}' index='3'/>" in machine.disk()
    machine.virsh("blockjob", "vm", "vda", "--pivot")
    events.wait(("base.qcow2", "active commit", "completed"), ("vda", "active commit", "completed"))
    assert machine.chain() == ["base"] == machine.chain("--inactive") and machine.nodes() == ["libvirt-3-format", "libvirt-3-storage"]
    machine.virsh("destroy", "vm")
    for n in (1, 2, 3):
        reads(machine.file("base"), n, f"{n - 1}M", "1M")
    machine.virsh("start", "vm", "--paused")


def test_commit_of_the_active_layer_is_given_up(machine, events):
    machine.virsh("blockcommit", "vm", "vda", "--active", "--shallow", "--wait", "--keep-overlay")
    events.wait(("vda", "active commit", "canceled"))
    assert machine.chain() == ["top", "mid", "base"] and len(machine.nodes()) == 6
    machine.virsh("blockcommit", "vm", "vda", "--active", "--shallow", "--pivot")
    assert machine.chain() == ["mid", "base"] == machine.chain("--inactive")


def test_commit_in_the_middle(machine, events):
    machine.virsh("blockcommit", "vm", "vda", "--top", machine.file("mid"), "--base", f"vda[{machine.index('base')}]", "--wait", "--delete")
    events.wait(("top.qcow2", "commit", "completed"))
    assert machine.chain() == ["top", "base"] and not machine.file("mid").exists()
    assert machine.nodes() == [f"libvirt-{n}-{k}" for n in (1, 3) for k in ("format", "storage")]
    machine.virsh("destroy", "vm")
    assert info(machine.file("top"))["backing-filename"] == str(machine.file("base"))
    for n in (1, 2, 3):
        reads(machine.file("top"), n, f"{n - 1}M", "1M")
    reads(machine.file("base"), 2, "1M", "1M")


def test_commit_keeps_relative_names(machine, events):
    machine.virsh("blockcommit", "vm", "vda", "--top", machine.file("mid"), "--keep-relative", "--wait")
    events.wait(("vda", "commit", "completed"))
    assert info(machine.file("top"))["backing-filename"] == "base.qcow2"


@pytest.mark.parametrize("words, answer", [
    (["--top", "/no/such"], "could not find image '/no/such'"), (["--top", "mid"], "could not find image"), (["--top", "BASE"], "could not find base image"),
    (["--top", "MID", "--active"], "is not active"), (["--base", "TOP", "--active"], "could not find image"), (["--base", "BASE", "--shallow", "--active"], "is not immediately below"),
    (["--base", "vda[9]", "--active"], "could not find backing store index '9'"),
])
def test_commit_that_cannot_be(machine, words, answer):
    words = [str(machine.file(w.lower())) if w.isupper() else w for w in words]
    assert answer in machine.virsh("blockcommit", "vm", "vda", *words, status=1)
    assert "<mirror" not in machine.disk()


# ---- pull ----

def test_pull_down_to_a_base(machine, events):
    machine.virsh("blockpull", "vm", "vda", "--base", machine.file("base"), "--wait")
    events.wait(("top.qcow2", "pull", "completed"))
    assert machine.chain() == ["top", "base"] and len(machine.nodes()) == 4
    assert info(machine.file("top"))["backing-filename"] == str(machine.file("base"))
    machine.virsh("blockpull", "vm", "vda", "--wait")
    events.wait(("vda", "pull", "completed"))
    assert machine.chain() == ["top"] and "<backingStore/>" in machine.disk() and "backing-filename" not in info(machine.file("top"))
    machine.virsh("destroy", "vm")
    for n in (1, 2, 3):
        reads(machine.file("top"), n, f"{n - 1}M", "1M")


def test_pull_keeps_relative_names(machine, events):
    machine.virsh("blockpull", "vm", "vda", "--base", machine.file("base"), "--keep-relative")
    events.wait(("vda", "pull", "completed"))
    assert info(machine.file("top"))["backing-filename"] == "base.qcow2"


def test_failed_job_is_told(machine, events):
    """A table of the base is broken: what it leads to cannot be read."""
    with open(machine.file("base"), "r+b") as f:
        f.seek(40)
        f.seek(int.from_bytes(f.read(8), "big")) # the first table, then the first of the second tables (QCOW2 specification)
        f.seek(int.from_bytes(f.read(8), "big") & 0xfffffffffffe00)
        f.write(b"\x80" + b"\x00" * 5 + b"\x02\x01")
    machine.virsh("blockpull", "vm", "vda")
    events.wait(("vda", "pull", "failed"))
    assert machine.chain() == ["top", "mid", "base"]
    assert "failed" in (machine.path / "var/log/vireo/qemu/vm.log").read_text(encoding="utf-8")


# ---- a daemon that is killed ----

def test_copy_is_found_again(machine):
    machine.virsh("blockcopy", "vm", "vda", machine.file("copy"), "--transient-job", "--bandwidth", "65536", "--bytes")
    machine.restart()
    machine.until("Block Copy", "blockjob", "vm", "vda")
    assert "job='copy'" in machine.disk() and "ready=" not in machine.disk()
    machine.virsh("blockjob", "vm", "vda", "--bandwidth", "0")
    machine.until("ready='yes'", "dumpxml", "vm")
    machine.restart()
    machine.until("ready='yes'", "dumpxml", "vm")
    machine.virsh("blockjob", "vm", "vda", "--pivot")
    assert machine.chain() == ["copy"] == machine.chain("--inactive")
    machine.virsh("destroy", "vm")
    assert "identical" in run("qemu-img", "compare", machine.file("top"), machine.file("copy"))


def test_commit_that_ended_without_the_daemon(machine):
    machine.virsh("blockcommit", "vm", "vda", "--top", machine.file("mid"), "--bandwidth", "1")
    monitor = next((machine.path / "run/vireo/qemu").glob("domain-*/monitor.sock"))
    machine.kill()
    end = time.monotonic() + 20 * SLOW
    while "mid" in info(machine.file("top"))["backing-filename"]:
        assert time.monotonic() < end and monitor.exists(), "the commit does not end"
        time.sleep(0.05)
    machine.daemon.start()
    end = time.monotonic() + 20 * SLOW
    while machine.chain() != ["top", "base"]:
        assert time.monotonic() < end, machine.disk()
        time.sleep(0.05)
    assert "No current block job" in machine.virsh("blockjob", "vm", "vda") and len(machine.nodes()) == 4
    assert machine.qmp("query-jobs")["return"] == []


def test_jobs_end_with_the_machine(machine):
    machine.virsh("blockcopy", "vm", "vda", machine.file("copy"), "--transient-job", "--bandwidth", "1")
    machine.virsh("destroy", "vm")
    machine.virsh("start", "vm", "--paused")
    assert "No current block job" in machine.virsh("blockjob", "vm", "vda") and "<mirror" not in machine.disk()


def test_a_disk_with_a_job_stays(machine):
    machine.virsh("blockcopy", "vm", "vda", machine.file("copy"), "--transient-job", "--bandwidth", "1")
    assert "active block job" in machine.virsh("detach-disk", "vm", "vda", "--live", status=1)

