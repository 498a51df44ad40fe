# SPDX-License-Identifier: GPL-2.0-or-later
"""QMP's block commands: each on a machine, and the data after it as Debian's programs see it."""
import os
import signal
import struct
import sys
import time

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "guest"))
import vmm  # noqa: E402
from conftest import run  # noqa: E402

MIB = 1 << 20
SIZE = 16 * MIB


def make(path, fmt="qcow2", backing=None, size=SIZE, options=None):
    words = ["qemu-img", "create", "-q", "-f", fmt]
    if backing:
        words += ["-b", backing, "-F", "qcow2"]
    if options:
        words += ["-o", options]
    run(*words, path, *([] if backing else [str(size)]))
    return str(path)


def io(path, *commands, fmt="qcow2", flags=()):
    words = ["qemu-io", "-f", fmt, *flags]
    for c in commands:
        words += ["-c", c]
    out = run(*words, path)
    assert "fail" not in out.lower(), out
    return out


def pattern(path, rows, fmt="qcow2"):
    """[(byte, start in MiB, MiB)] is what the image holds, and nothing else."""
    at = 0
    reads = []
    for byte, start, n in rows:
        if start > at:
            reads.append(f"read -P 0 {at}M {start - at}M")
        reads.append(f"read -P {byte} {start}M {n}M")
        at = start + n
    if at < SIZE // MIB:
        reads.append(f"read -P 0 {at}M {SIZE // MIB - at}M")
    io(path, *reads, fmt=fmt, flags=("-r",))


class Vm:
    def __init__(self, tmp_path, *args):
        self.dir = tmp_path
        self.m = vmm.Machine([*(() if "-M" in args else ("-M", "none")), "-nodefaults", "-display", "none", *map(str, args)], str(tmp_path / "log"), qmp_path=str(tmp_path / "qmp"))
        self.q = self.m.qmp

    def __call__(self, name, /, **args):
        return self.q.command(name, **{k.replace("_", "-"): v for k, v in args.items()})

    def refused(self, name, text, /, cls="GenericError", **args):
        answer = self.q.execute(name, **{k.replace("_", "-"): v for k, v in args.items()})
        assert "error" in answer, answer
        assert text in answer["error"]["desc"] and answer["error"]["class"] == cls, answer

    def wait(self, event, **fields):
        while True:
            e = self.q.wait_event(event, 30)
            if all(e["data"].get(k) == v for k, v in fields.items()):
                return e["data"]

    def status(self, job, *wanted):
        """The JOB_STATUS_CHANGEs of the job, until the last of those wanted; they must be just these."""
        seen = []
        while not seen or seen[-1] != wanted[-1]:
            e = self.q.wait_event("JOB_STATUS_CHANGE", 30)
            if e["data"]["id"] == job:
                seen.append(e["data"]["status"])
        assert seen == list(wanted), seen

    def add(self, name, path, fmt="qcow2", **more):
        self("blockdev-add", driver=fmt, node_name=name, file={"driver": "file", "filename": str(path)}, **more)

    def quit(self):
        self.q.command("quit")
        assert self.m.process.wait(20) == 0, self.m.stderr()
        assert not self.m.stderr(), self.m.stderr()


@pytest.fixture
def vm(tmp_path):
    made = []

    def start(*args):
        made.append(Vm(tmp_path, *args))
        return made[-1]
    yield start
    for v in made:
        v.q.close()
        if v.m.process.poll() is None:
            v.m.process.kill()
        v.m.process.wait()


def drive(path, name="d0", fmt="qcow2"):
    return "-drive", f"file={path},format={fmt},if=none,id={name},node-name=n0"


# ---- nodes ----

def test_nodes(vm, tmp_path):
    """Nodes come, are resized, reopened and go; what is in use stays."""
    a, b = make(tmp_path / "a.qcow2"), make(tmp_path / "b.raw", "raw")
    v = vm(*drive(a))
    v.refused("blockdev-add", "node-name", driver="raw", file={"driver": "file", "filename": b})
    v("blockdev-add", driver="file", node_name="f", filename=b)
    v("blockdev-add", driver="raw", node_name="r", file="f")
    v.refused("blockdev-add", "Duplicate", driver="raw", node_name="r", file="f")
    v.refused("blockdev-del", "in use", node_name="f")
    v.refused("blockdev-del", "Failed to find", node_name="none")
    v.refused("blockdev-del", "in use", node_name="n0")
    v("block_resize", node_name="r", size=SIZE * 2)
    v("block_resize", device="d0", size=SIZE * 2)
    v.refused("block_resize", "Cannot find", cls="DeviceNotFound", device="nope", size=1)
    v("blockdev-reopen", options=[{"driver": "raw", "node-name": "r", "file": "f", "read-only": True}])
    info = {n["node-name"]: n for n in v("query-named-block-nodes", flat=True)}
    assert info["r"]["ro"] and not info["n0"]["ro"] and info["n0"]["image"]["virtual-size"] == SIZE * 2
    v("blockdev-del", node_name="r")
    v("blockdev-del", node_name="f")
    assert [x["device"] for x in v("query-block")] == ["d0"]
    assert v("query-blockstats")[0]["parent"]["stats"]["wr_highest_offset"] > 0
    v("block-set-write-threshold", node_name="n0", write_threshold=12345)
    assert v("query-block")[0]["inserted"]["write_threshold"] == 12345
    v.refused("x-blockdev-change", "quorum", parent="n0")
    v.quit()
    assert os.path.getsize(b) == SIZE * 2
    assert f'"virtual-size": {SIZE * 2}' in run("qemu-img", "info", "--output=json", a)


def test_blockdev_options(vm, tmp_path):
    """-blockdev with nodes that come later, -snapshot, and a sandbox that opens nothing more."""
    a, b = make(tmp_path / "a.qcow2"), make(tmp_path / "b.qcow2")
    io(a, "write -P 7 0 1M")
    v = vm("-blockdev", "driver=qcow2,node-name=q,file=f", "-blockdev", f"driver=file,node-name=f,filename={a}", "-sandbox", "on,files=off",
           "-drive", f"file={b},if=none,id=d0,format=qcow2,snapshot=on")
    v.refused("blockdev-add", "sandbox", driver="file", node_name="x", filename=b)
    inserted = v("query-block")[0]["inserted"]
    assert inserted["backing_file_depth"] == 1 and inserted["image"]["backing-image"]["filename"] == b
    v.quit()
    assert not [f for f in os.listdir("/var/tmp") if f.startswith("vl.")], "a temporary overlay stays behind"


# ---- snapshots, commit, stream ----

def test_snapshot_and_commit(vm, tmp_path):
    base, top, top2 = tmp_path / "base.qcow2", tmp_path / "top.qcow2", tmp_path / "top2.qcow2"
    io(make(base), "write -P 1 0 4M")
    v = vm(*drive(base))
    v("blockdev-snapshot-sync", device="d0", snapshot_file=str(top), snapshot_node_name="t1")
    v.refused("blockdev-snapshot-sync", "already in use", device="d0", snapshot_file=str(top2), snapshot_node_name="t1")
    v("blockdev-snapshot-sync", device="d0", snapshot_file=str(top2))
    assert v("query-block")[0]["inserted"]["image"]["backing-image"]["filename"] == str(top)
    v.quit()
    assert run("qemu-img", "info", "--backing-chain", top2).count("image:") == 3
    io(top, "write -P 2 2M 4M")
    io(top2, "write -P 3 5M 4M", "write -z 0 1M")
    rows = [(1, 1, 1), (2, 2, 3), (3, 5, 4)]
    pattern(top2, rows)
    # the middle one goes into the base
    v = vm(*drive(top2))
    v("block-commit", device="d0", top=str(top), job_id="j", speed=0)
    v.status("j", "created", "running", "waiting", "pending", "concluded", "null")
    assert v.wait("BLOCK_JOB_COMPLETED")["type"] == "commit"
    v.quit()
    assert run("qemu-img", "info", "--backing-chain", top2).count("image:") == 2
    pattern(top2, rows)
    run("qemu-img", "check", base)
    # the active one too
    v = vm(*drive(top2))
    v("block-commit", device="d0", job_id="j")
    v.status("j", "created", "running", "ready")
    v.wait("BLOCK_JOB_READY", device="j")
    assert v("query-block-jobs")[0]["ready"]
    v("block-job-complete", device="j")
    v.status("j", "waiting", "pending", "concluded", "null")
    assert v("query-block")[0]["inserted"]["file"] == str(base)
    v.quit()
    pattern(base, rows)
    run("qemu-img", "check", base)


@pytest.mark.parametrize("keep", [False, True])
def test_stream(vm, tmp_path, keep):
    base, mid, top = (tmp_path / f"{n}.qcow2" for n in ("base", "mid", "top"))
    io(make(base), "write -P 1 0 4M")
    io(make(mid, backing=base), "write -P 2 2M 4M", "write -z 0 512k")
    io(make(top, backing=mid), "write -P 3 5M 4M")
    run("cp", top, tmp_path / "before.qcow2")
    v = vm(*drive(top))
    v.refused("block-stream", "not in this", device="d0", base="nothing", job_id="j")
    v("block-stream", device="d0", job_id="j", **({"base": str(base)} if keep else {}))
    v.status("j", "created", "running", "waiting", "pending", "concluded", "null")
    v.quit()
    assert run("qemu-img", "info", "--backing-chain", top).count("image:") == (2 if keep else 1)
    run("qemu-img", "check", top)
    run("qemu-img", "compare", top, tmp_path / "before.qcow2")


def test_internal_snapshots(vm, tmp_path):
    a = make(tmp_path / "a.qcow2")
    v = vm(*drive(a))
    v("blockdev-snapshot-internal-sync", device="d0", name="s1")
    v.refused("blockdev-snapshot-internal-sync", "already exists", device="d0", name="s1")
    v("blockdev-snapshot-internal-sync", device="d0", name="s2")
    assert v("blockdev-snapshot-delete-internal-sync", device="d0", name="s1")["name"] == "s1"
    v.refused("blockdev-snapshot-delete-internal-sync", "does not exist", device="d0", name="s1")
    v.quit()
    out = run("qemu-img", "snapshot", "-l", a)
    assert "s2" in out and "s1" not in out
    run("qemu-img", "check", a)


# ---- mirror and backup ----

@pytest.mark.parametrize("sync", ["full", "top"])
@pytest.mark.parametrize("end", ["pivot", "cancel"])
def test_drive_mirror(vm, tmp_path, sync, end):
    base, top, to = (tmp_path / f"{n}.qcow2" for n in ("base", "top", "to"))
    io(make(base), "write -P 1 0 4M")
    io(make(top, backing=base), "write -P 2 2M 4M", "write -z 0 512k")
    v = vm(*drive(top))
    v("drive-mirror", device="d0", target=str(to), sync=sync, job_id="j", copy_mode="write-blocking")
    v.refused("block-stream", "busy", device="d0", job_id="k")
    v.wait("BLOCK_JOB_READY")
    if end == "pivot":
        v("job-complete", id="j")
        v.status("j", "created", "running", "ready", "waiting", "pending", "concluded", "null")
        assert v("query-block")[0]["inserted"]["file"] == str(to)
        assert v("query-block")[0]["inserted"]["backing_file_depth"] == (1 if sync == "top" else 0)
    else:
        v("block-job-cancel", device="j")
        v.wait("BLOCK_JOB_COMPLETED")
        assert v("query-block")[0]["inserted"]["file"] == str(top)
    v.quit()
    run("qemu-img", "check", to)
    run("qemu-img", "compare", to, top)


def test_blockdev_mirror(vm, tmp_path):
    a, b = make(tmp_path / "a.qcow2"), make(tmp_path / "b.raw", "raw")
    io(a, "write -P 5 1M 3M", "write -P 6 15M 1M")
    v = vm(*drive(a))
    v.add("t", b, "raw")
    v.refused("blockdev-mirror", "attached", device="d0", target="n0", sync="full", job_id="j")
    v("blockdev-mirror", device="d0", target="t", sync="full", job_id="j", auto_finalize=False, auto_dismiss=False)
    v.wait("BLOCK_JOB_READY")
    v.refused("job-finalize", "cannot accept command verb 'finalize'", id="j")
    v.refused("job-pause", "Job not found", id="x")
    v("job-pause", id="j")
    v.status("j", "created", "running", "ready", "standby")
    v("job-resume", id="j")
    v.status("j", "ready")
    v("job-complete", id="j")
    v.wait("BLOCK_JOB_PENDING")
    assert v("query-block")[0]["inserted"]["node-name"] == "n0"
    v("job-finalize", id="j")
    assert v("query-block")[0]["inserted"]["node-name"] == "t"
    assert v("query-jobs")[0]["status"] == "concluded"
    v("job-dismiss", id="j")
    assert v("query-jobs") == []
    v.quit()
    pattern(b, [(5, 1, 3), (6, 15, 1)], "raw")
    assert os.stat(b).st_blocks * 512 <= 5 * MIB, "holes have become data"


@pytest.mark.parametrize("compress", [False, True])
def test_backup_and_bitmaps(vm, tmp_path, compress):
    a, full, inc = (tmp_path / f"{n}.qcow2" for n in ("a", "full", "inc"))
    io(make(a), "write -P 1 0 4M")
    v = vm(*drive(a))
    v("transaction", actions=[{"type": "block-dirty-bitmap-add", "data": {"node": "n0", "name": "b0", "persistent": True}},
                              {"type": "drive-backup", "data": {"device": "d0", "target": str(full), "sync": "full", "job-id": "j", "compress": compress}}])
    v.status("j", "created", "running", "waiting", "pending", "concluded", "null")
    v.quit()
    run("qemu-img", "compare", a, full)
    run("qemu-img", "check", full)
    io(a, "write -P 2 2M 1M", "write -P 3 9M 1M")
    make(inc, backing=full)
    v = vm(*drive(a))
    assert v("query-block")[0]["inserted"]["dirty-bitmaps"][0]["count"] == 2 * MIB
    v.add("inc", inc)
    v("blockdev-backup", device="d0", target="inc", sync="incremental", bitmap="b0", job_id="j")
    v.status("j", "created", "running", "waiting", "pending", "concluded", "null")
    assert v("query-block")[0]["inserted"]["dirty-bitmaps"][0]["count"] == 0
    v.quit()
    run("qemu-img", "compare", a, inc)
    assert int(os.stat(inc).st_blocks * 512) < 4 * MIB


def test_bitmap_commands(vm, tmp_path):
    v = vm(*drive(make(tmp_path / "a.qcow2")))
    v("block-dirty-bitmap-add", node="n0", name="x", granularity=65536)
    v.refused("block-dirty-bitmap-add", "x", node="n0", name="x")
    v("block-dirty-bitmap-disable", node="n0", name="x")
    v("block-dirty-bitmap-enable", node="n0", name="x")
    v("block-dirty-bitmap-clear", node="n0", name="x")
    v("block-dirty-bitmap-add", node="n0", name="y", disabled=True)
    v("block-dirty-bitmap-merge", node="n0", target="y", bitmaps=["x", {"node": "n0", "name": "x"}])
    v.refused("block-dirty-bitmap-merge", "not found", node="n0", target="y", bitmaps=["z"])
    v.refused("block-dirty-bitmap-remove", "not found", node="n0", name="z")
    v("block-dirty-bitmap-remove", node="n0", name="x")
    assert [b["name"] for b in v("query-block")[0]["inserted"]["dirty-bitmaps"]] == ["y"]
    v.quit()


def test_transaction_is_all_or_nothing(vm, tmp_path):
    a, over, b = make(tmp_path / "a.qcow2"), tmp_path / "over.qcow2", tmp_path / "b.qcow2"
    v = vm(*drive(a))
    actions = [{"type": "blockdev-snapshot-sync", "data": {"device": "d0", "snapshot-file": str(over)}},
               {"type": "block-dirty-bitmap-add", "data": {"node": "n0", "name": "b0"}},
               {"type": "blockdev-snapshot-internal-sync", "data": {"device": "d0", "name": "s"}},
               {"type": "drive-backup", "data": {"device": "d0", "target": str(b), "sync": "full", "job-id": "j"}}]
    v.refused("transaction", "aborted", actions=actions + [{"type": "abort", "data": {}}])
    inserted = v("query-block")[0]["inserted"]
    assert inserted["file"] == a and "dirty-bitmaps" not in inserted and not inserted["ro"] and v("query-jobs") == []
    v.refused("transaction", "does not accept", actions=[{"type": "nothing", "data": {}}])
    v("transaction", actions=actions)
    v.wait("BLOCK_JOB_COMPLETED")
    assert v("query-block")[0]["inserted"]["file"] == str(over)
    v.quit()
    run("qemu-img", "check", a)
    run("qemu-img", "check", over)
    run("qemu-img", "compare", a, b)


def test_grouped_jobs(vm, tmp_path):
    """completion-mode grouped: one that is cancelled takes the other with it."""
    a, b = make(tmp_path / "a.qcow2"), make(tmp_path / "b.qcow2")
    io(a, "write -P 1 0 16M")
    v = vm(*drive(a), "-drive", f"file={b},if=none,id=d1,format=qcow2")
    act = [{"type": "drive-backup", "data": {"device": d, "target": str(tmp_path / f"{d}.out"), "format": "qcow2", "sync": "full", "job-id": "j" + d, "speed": s}}
           for d, s in (("d0", 65536), ("d1", 0))]
    v("transaction", actions=act, properties={"completion-mode": "grouped"})
    v.wait("JOB_STATUS_CHANGE", id="jd1", status="waiting")
    assert {j["id"]: j["status"] for j in v("query-jobs")} == {"jd0": "running", "jd1": "waiting"}
    v("job-cancel", id="jd0")
    v.wait("BLOCK_JOB_CANCELLED", device="jd0")
    v.wait("BLOCK_JOB_CANCELLED", device="jd1")
    v.quit()


def test_blockdev_create(vm, tmp_path):
    path = str(tmp_path / "new.qcow2")
    v = vm()
    v("blockdev-create", job_id="c1", options={"driver": "file", "filename": path, "size": 0})
    v.status("c1", "created", "running", "waiting", "pending", "concluded")
    v("job-dismiss", id="c1")
    v("blockdev-add", driver="file", node_name="f", filename=path)
    v("blockdev-create", job_id="c2", options={"driver": "qcow2", "file": "f", "size": SIZE, "cluster-size": 131072})
    v.status("c2", "created", "running", "waiting", "pending", "concluded")
    assert "error" not in v("query-jobs")[0], v("query-jobs")
    v("job-dismiss", id="c2")
    v("blockdev-create", job_id="c3", options={"driver": "nothing", "file": "f", "size": SIZE})
    v.status("c3", "created", "running", "aborting", "concluded")
    assert "nothing" in v("query-jobs")[0]["error"]
    v("job-dismiss", id="c3")
    v.quit()
    assert "cluster_size: 131072" in run("qemu-img", "info", path)
    run("qemu-img", "check", path)


# ---- errors, and ends in the midst ----

def test_full_target(vm, tmp_path):
    """A target that is full stops the job with on-target-error=enospc; with report it fails and says why."""
    a = make(tmp_path / "a.raw", "raw")
    io(a, "write -P 1 0 16M", fmt="raw")
    b = make(tmp_path / "b.raw", "raw")
    rules = {"driver": "raw", "node-name": "t", "file": {"driver": "blkdebug", "image": {"driver": "file", "filename": b},
                                                          "inject-error": [{"event": "none", "errno": 28, "iotype": "write", "once": True}]}}
    v = vm("-drive", f"file={a},format=raw,if=none,id=d0,node-name=n0")
    v("blockdev-add", **rules)
    v("blockdev-mirror", device="d0", target="t", sync="full", job_id="j", on_target_error="enospc")
    assert v.wait("BLOCK_JOB_ERROR") == {"device": "j", "operation": "write", "action": "stop"}
    v.status("j", "created", "running", "paused")
    assert v("query-block-jobs")[0]["io-status"] == "nospace"
    v("block-job-resume", device="j")
    v.wait("BLOCK_JOB_READY")
    v("block-job-cancel", device="j")
    v.wait("BLOCK_JOB_COMPLETED")
    v("blockdev-del", node_name="t")
    v("blockdev-add", **rules)
    v("blockdev-mirror", device="d0", target="t", sync="full", job_id="j")
    assert "No space" in v.wait("BLOCK_JOB_COMPLETED")["error"]
    v.quit()


@pytest.mark.parametrize("job", ["commit", "commit-active", "stream", "mirror", "backup"])
def test_kill_in_the_midst(vm, tmp_path, job):
    """kill -9 while a job runs: the source holds what it held, and every image is sound."""
    base, mid, top, to = (tmp_path / f"{n}.qcow2" for n in ("base", "mid", "top", "to"))
    io(make(base), "write -P 1 0 8M")
    io(make(mid, backing=base), "write -P 2 4M 8M")
    io(make(top, backing=mid), "write -P 3 10M 4M")
    rows = [(1, 0, 4), (2, 4, 6), (3, 10, 4)]
    v = vm(*drive(top))
    command = {"commit": ("block-commit", {"top": str(mid)}), "commit-active": ("block-commit", {}), "stream": ("block-stream", {}),
               "mirror": ("drive-mirror", {"target": str(to), "sync": "full"}), "backup": ("drive-backup", {"target": str(to), "sync": "full"})}[job]
    v(command[0], device="d0", job_id="j", speed=16 * MIB, **command[1])
    time.sleep(0.3)
    v.m.process.send_signal(signal.SIGKILL)
    v.m.process.wait()
    for image in (base, mid, top, *([to] if to.exists() else [])):
        out = run("qemu-img", "check", image, status=None)
        assert "No errors were found" in out or "leaked clusters were found" in out and " errors were found" not in out, f"{image}: {out}"
    pattern(top, rows)


def test_nodes_as_libvirt_names_them(vm, tmp_path):
    """File and format nodes apart: snapshot onto a node, commit of it, mirror to a node; then the old nodes can go."""
    a, over, to = make(tmp_path / "a.qcow2"), make(tmp_path / "over.qcow2"), make(tmp_path / "to.qcow2")
    io(a, "write -P 1 0 4M")
    kernel = tmp_path / "kernel" # multiboot, of 32 bytes and a halt; it is never started
    kernel.write_bytes(struct.pack("<8I", 0x1BADB002, 1 << 16, -(0x1BADB002 + (1 << 16)) & 0xffffffff, 0x100000, 0x100000, 0, 0, 0x100020) + b"\xfa\xf4\xeb\xfd")
    v = vm("-M", "q35,accel=jit", "-S", "-m", "64", "-kernel", kernel, "-blockdev", f"driver=file,node-name=s,filename={a}", "-blockdev", "driver=qcow2,node-name=f,file=s",
           "-device", "virtio-blk-pci,drive=f,id=disk0")
    for name, path in (("o", over), ("t", to)):
        v("blockdev-add", driver="file", node_name=name + "s", filename=str(path))
        v("blockdev-add", driver="qcow2", node_name=name, file=name + "s", backing=None)
    v("blockdev-snapshot", node="f", overlay="o")
    info = v("query-block")[0]
    assert info["inserted"]["node-name"] == "o" and info["inserted"]["backing_file_depth"] == 1 and info["qdev"].startswith("/machine/peripheral/disk0")
    v.refused("blockdev-del", "in use", node_name="f")
    v("block-commit", device="o", job_id="c", top_node="o", base_node="f", auto_dismiss=False)
    v.wait("BLOCK_JOB_READY")
    v.status("c", "created", "running", "ready")
    v("job-complete", id="c")
    v.status("c", "waiting", "pending", "concluded")
    v("job-dismiss", id="c")
    assert v("query-block")[0]["inserted"]["node-name"] == "f"
    v("blockdev-del", node_name="o")
    v("blockdev-del", node_name="os")
    v("blockdev-mirror", device="f", target="t", sync="full", job_id="m")
    v.wait("BLOCK_JOB_READY")
    v("block-job-complete", device="m")
    v.wait("BLOCK_JOB_COMPLETED", device="m")
    assert v("query-block")[0]["inserted"]["node-name"] == "t"
    v("blockdev-del", node_name="f")
    v("blockdev-del", node_name="s")
    v.quit()
    run("qemu-img", "compare", a, to)


def test_quit_with_a_job(vm, tmp_path):
    """The process ends with a job under way; the source is whole."""
    a = make(tmp_path / "a.qcow2")
    io(a, "write -P 1 0 16M")
    v = vm(*drive(a))
    v("drive-mirror", device="d0", target=str(tmp_path / "to.qcow2"), sync="full", job_id="j", speed=MIB)
    v.q.command("quit")
    assert v.m.process.wait(20) == 0, v.m.stderr()
    pattern(a, [(1, 0, 16)])
    run("qemu-img", "check", a)
