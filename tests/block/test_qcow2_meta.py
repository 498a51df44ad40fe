# SPDX-License-Identifier: GPL-2.0-or-later
"""What a qcow2 image holds beside its content: check and repair of damaged images, snapshots, bitmaps, amend, measure, compressed clusters.
qemu-img is the judge, in both directions."""
import json
import os
import random
import struct
import subprocess
import zlib

import pytest

from conftest import BUILD, BlockIO, run
from test_qcow2_crash import FLUSH, apply, entries

TOOL = os.path.join(BUILD, "tests", "block", "metatool")
K, M = 1024, 1024 * 1024
COPIED, COMPRESSED = 1 << 63, 1 << 62
OFFSET = 0x00fffffffffffe00


def tool(*words, status=0):
    return run(TOOL, *words, status=status)


def qemu_io(path, *commands):
    return run("qemu-io", "-f", "qcow2", *[w for c in commands for w in ("-c", c)], path)


def ours(path, *fix):
    """Numbers of our check by qemu-img's names, and what it said."""
    lines = tool("check", path, *fix).splitlines()
    names = ("check-errors", "corruptions", "leaks", "corruptions-fixed", "leaks-fixed", "allocated-clusters", "fragmented-clusters",
             "compressed-clusters", "total-clusters", "image-end-offset")
    return dict(zip(names, map(int, lines[0].split()))), lines[1:]


def judge(path, *words):
    """The same by qemu-img; None: it cannot."""
    done = subprocess.run(["qemu-img", "check", "-f", "qcow2", "--output=json", *words, path], capture_output=True, check=False)
    if done.returncode not in (0, 2, 3):
        return None
    found = json.loads(done.stdout)
    return {k: found.get(k, 0) for k in ("check-errors", "corruptions", "leaks", "allocated-clusters", "fragmented-clusters",
                                         "compressed-clusters", "total-clusters", "image-end-offset")}


def clean(path):
    found = judge(path)
    assert found and not found["check-errors"] and not found["corruptions"] and not found["leaks"], found
    mine, said = ours(path)
    assert not mine["check-errors"] and not mine["corruptions"] and not mine["leaks"], said
    assert {k: mine[k] for k in found} == found


def content(path):
    raw = f"{path}.content"
    tool("copy", path, raw)
    with open(raw, "rb") as f:
        data = f.read()
    os.unlink(raw)
    return data


# ---- images and their tables ----

VARIANTS = {
    "plain": "", "v2": "compat=0.10", "small": "cluster_size=4k", "tiny": "cluster_size=512", "bits1": "refcount_bits=1", "bits4": "refcount_bits=4",
    "bits64": "refcount_bits=64", "extended": "extended_l2=on,cluster_size=16k", "lazy": "lazy_refcounts=on", "zstd": "compression_type=zstd",
}
SIZE = 6 * M


def make(path, variant):
    """An image with data, zeroes, compressed clusters, a snapshot and a bitmap, as far as the variant has them."""
    options = VARIANTS[variant]
    run("qemu-img", "create", "-q", "-f", "qcow2", *(("-o", options) if options else ()), path, SIZE)
    qemu_io(path, "write -P 1 0 512k", "write -P 2 1M 300k", "write -c -P 3 2M 64k", "write -c -P 4 2240k 64k")
    if variant != "bits1":
        run("qemu-img", "snapshot", "-c", "first", path)
    qemu_io(path, "write -P 5 128k 64k", "write -P 6 4M 200k")
    if variant != "v2":
        qemu_io(path, "write -z 3M 128k", "write -z 256k 64k")
        run("qemu-img", "bitmap", "--add", "-g", "4096", path, "b")
        qemu_io(path, "write -P 7 5M 64k")


class Tables:
    """Where the tables of an image are; changes single words."""

    def __init__(self, path):
        self.f = open(path, "r+b")
        self.bits, = struct.unpack(">I", self.at(20, 4))
        self.cluster = 1 << self.bits
        self.l1_size, self.l1 = struct.unpack(">IQ", self.at(36, 12))
        self.rt, self.rt_clusters, self.snapshots, self.table = struct.unpack(">QIIQ", self.at(48, 24))
        self.version, = struct.unpack(">I", self.at(4, 4))
        incompatible, = struct.unpack(">Q", self.at(72, 8)) if self.version > 2 else (0,)
        self.words = 2 if incompatible & 16 else 1
        self.order, = struct.unpack(">I", self.at(96, 4)) if self.version > 2 else (4,)

    def close(self):
        self.f.close()

    def at(self, offset, n):
        self.f.seek(offset)
        return self.f.read(n)

    def put(self, offset, data):
        self.f.seek(offset)
        self.f.write(data)

    def word(self, offset):
        return struct.unpack(">Q", self.at(offset, 8))[0]

    def change(self, offset, fn):
        self.put(offset, struct.pack(">Q", fn(self.word(offset)) & (1 << 64) - 1))

    def l1_entries(self):
        return [self.l1 + 8 * i for i in range(self.l1_size) if self.word(self.l1 + 8 * i) & OFFSET]

    def l2_entries(self, wanted):
        """Places of entries for which wanted(entry) holds."""
        found = []
        for place in self.l1_entries():
            table = self.word(place) & OFFSET
            for at in range(table, table + self.cluster, 8 * self.words):
                entry = self.word(at)
                if entry and wanted(entry):
                    found.append(at)
        return found

    def data(self):
        return self.l2_entries(lambda e: not e & COMPRESSED and not e & 1 and e & COPIED)

    def compressed(self):
        return self.l2_entries(lambda e: e & COMPRESSED)

    def set_count(self, cluster, value):
        per = self.cluster * 8 >> self.order
        block, i = self.word(self.rt + 8 * (cluster // per)), cluster % per
        if self.order < 3:
            bit = i << self.order
            old, = self.at(block + bit // 8, 1)
            mask = (1 << (1 << self.order)) - 1
            self.put(block + bit // 8, bytes([old & ~(mask << bit % 8) | (value & mask) << bit % 8]))
        else:
            n = 1 << self.order - 3
            self.put(block + i * n, value.to_bytes(n, "big"))


def host(t, place):
    return (t.word(place) & OFFSET) // t.cluster


# Damages: what is done to the tables, and whether the content is to stay what it was after a repair.
def count_zero(t):
    t.set_count(host(t, t.data()[1]), 0)


def count_low_l2(t):
    t.set_count(host(t, t.l1_entries()[0]), 0)


def count_high(t):
    t.set_count(host(t, t.data()[2]), 0 if t.order == 0 else 2)


def count_leak(t):
    t.f.seek(0, 2)
    end = -(-t.f.tell() // t.cluster)
    t.put(end * t.cluster, b"x" * t.cluster)
    t.set_count(end, 1)


def copied_lost(t):
    t.change(t.data()[0], lambda e: e & ~COPIED)


def copied_l1_lost(t):
    t.change(t.l1_entries()[0], lambda e: e & ~COPIED)


def copied_wrong(t):
    for place in t.l2_entries(lambda e: not e & COMPRESSED and not e & COPIED and e & OFFSET)[:3]:
        t.change(place, lambda e: e | COPIED)


def copied_compressed(t):
    t.change(t.compressed()[0], lambda e: e | COPIED)


def data_unaligned(t):
    t.change(t.data()[0], lambda e: e + 512)


def data_beyond(t):
    t.change(t.data()[0], lambda e: e & ~OFFSET | 1 << 40)


def data_twice(t):
    places = t.data()
    t.change(places[0], lambda e: t.word(places[1]))


def data_on_l2(t):
    t.change(t.data()[0], lambda e: e & ~OFFSET | t.word(t.l1_entries()[0]) & OFFSET)


def data_on_header(t):
    """The first cluster's host offset becomes that of the refcount table."""
    t.change(t.data()[0], lambda e: e & ~OFFSET | t.rt)


def l2_reserved(t):
    t.change(t.data()[0], lambda e: e | 1 << 57)


def l1_reserved(t):
    t.change(t.l1_entries()[0], lambda e: e | 1 << 58)


def l1_unaligned(t):
    t.change(t.l1_entries()[-1], lambda e: e + 512)


def l1_beyond(t):
    t.change(t.l1_entries()[-1], lambda e: e & ~OFFSET | 1 << 41)


def rt_reserved(t):
    t.change(t.rt, lambda e: e | 5)


def rt_unaligned(t):
    t.change(t.rt, lambda e: e + 512)


def rt_zero(t):
    t.change(t.rt, lambda e: 0)


def rt_on_l2(t):
    t.change(t.rt, lambda e: t.word(t.l1_entries()[0]) & OFFSET)


def block_garbage(t):
    """Random counts for the first clusters."""
    t.put(t.word(t.rt), bytes(random.Random(3).randrange(256) for _ in range(256)))


def block_zero(t):
    t.put(t.word(t.rt), bytes(t.cluster))


def dirty(t):
    t.change(72, lambda e: e | 1)
    count_zero(t)


def corrupt(t):
    t.change(72, lambda e: e | 2)


def snapshot_l1_unaligned(t):
    t.change(t.table, lambda e: e + 512)


def snapshot_l1_beyond(t):
    t.change(t.table, lambda e: 1 << 42)


def zero_unaligned(t):
    """A zero cluster with a host offset that is no cluster's."""
    place = t.l2_entries(lambda e: e & 1 and not e & COMPRESSED)[0]
    t.change(place, lambda e: 1 << 20 | 512 | 1)


KEEPS = (count_zero, count_low_l2, count_high, count_leak, copied_lost, copied_l1_lost, copied_wrong, copied_compressed, rt_reserved, rt_unaligned, rt_zero,
         rt_on_l2, block_garbage, block_zero, dirty, corrupt, l1_reserved, l2_reserved)
LOSES = (data_unaligned, data_beyond, data_twice, data_on_l2, data_on_header, l1_unaligned, l1_beyond, snapshot_l1_unaligned, snapshot_l1_beyond, zero_unaligned)


def fits(damage, variant):
    if variant == "v2" and damage in (dirty, corrupt, zero_unaligned):
        return False
    if variant == "bits1" and damage in (snapshot_l1_unaligned, snapshot_l1_beyond, copied_wrong):
        return False
    if damage in (data_unaligned, l1_unaligned, rt_unaligned, zero_unaligned, snapshot_l1_unaligned) and variant == "tiny":
        return False
    return not (variant == "extended" and damage is zero_unaligned)


@pytest.mark.parametrize("variant", VARIANTS)
def test_damage(variant, tmp_path):
    """Our verdict is qemu-img's; a repair leaves what qemu-img calls clean; what could be read before can be read after."""
    whole = variant in ("plain", "v2", "small", "bits1", "extended")
    good, bad = tmp_path / "good.qcow2", tmp_path / "bad.qcow2"
    make(good, variant)
    clean(good)
    before = content(good)
    damages = [d for d in KEEPS + LOSES if fits(d, variant)]
    for damage in damages if whole else damages[len(variant) % 3::3]:
        bad.write_bytes(good.read_bytes())
        tables = Tables(bad)
        damage(tables)
        tables.close()
        what = f"{variant}, {damage.__name__}"
        found = judge(bad)
        mine, said = ours(bad)
        if found is None: # a table's offset that qemu-img stops at
            assert damage is rt_unaligned and mine["corruptions"], what
        elif damage is l1_unaligned: # there qemu-img goes on in the middle of a table
            assert mine["corruptions"] and found["corruptions"]
        else:
            assert {k: mine[k] for k in found} == found, f"{what}: {said}"
        repaired, said = ours(bad, "all")
        hopeless = damage in (l1_reserved, l2_reserved, data_unaligned, data_beyond, l1_unaligned, l1_beyond, snapshot_l1_unaligned, snapshot_l1_beyond) or \
            (variant == "bits1" and damage in (data_twice, data_on_l2, data_on_header))
        if hopeless:
            assert repaired["corruptions"], what
        else:
            clean(bad)
        if damage in KEEPS:
            assert content(bad) == before, f"{what}: the content changed"


@pytest.mark.parametrize("variant", ["plain", "small", "bits64"])
def test_leaks_only(variant, tmp_path):
    path = tmp_path / "a.qcow2"
    make(path, variant)
    tables = Tables(path)
    count_leak(tables)
    tables.close()
    assert ours(path)[0]["leaks"] == 1
    assert ours(path, "leaks")[0]["leaks-fixed"] == 1
    clean(path)
    tables = Tables(path)
    data_beyond(tables)
    tables.close()
    found, said = ours(path, "leaks") # what is lost may be among what looks leaked
    assert found["leaks"] == 1 and found["corruptions"] and "left as they are" in "".join(said)


def test_repair_needs_writing(tmp_path):
    path = tmp_path / "a.qcow2"
    make(path, "plain")
    assert ours(path, "all")[0]["corruptions-fixed"] == 0
    clean(path)


# ---- snapshots ----

@pytest.mark.parametrize("variant", ["plain", "v2", "small", "bits4", "extended", "lazy"])
def test_snapshots(variant, tmp_path):
    """A random walk of writes, snapshots, reversals and deletions, by us and by qemu-img in turn, against a model."""
    path, rand = tmp_path / "a.qcow2", random.Random(variant)
    make(path, variant)
    if variant != "v2":
        assert "active dirty bitmaps" in tool("snapshot", path, "apply", "first", status=1)
        tool("bitmap", path, "remove", "b")
    disk = content(path)
    saved = {}
    for row in tool("snapshot", path, "list").splitlines():
        tool("copy", path, f"{path}.s", row.split()[1])
        saved[row.split()[1]] = (tmp_path / "a.qcow2.s").read_bytes()
    assert list(saved) == ["first"]
    for step in range(14):
        what = rand.choice(["create", "apply", "delete", "write", "write"]) if len(saved) > 1 else rand.choice(["create", "write"])
        mine = rand.random() < 0.5
        if what == "write":
            at, n, byte = rand.randrange(0, SIZE - 300 * K, 512), rand.randrange(512, 300 * K, 512), rand.randrange(1, 256)
            if mine:
                with BlockIO(path) as io:
                    io(f"w {at} {n} {byte}")
            else:
                qemu_io(path, f"write -P {byte} {at} {n}")
            disk = disk[:at] + bytes([byte]) * n + disk[at + n:]
        elif what == "create":
            name = f"s{step}"
            tool("snapshot", path, "create", name) if mine else run("qemu-img", "snapshot", "-c", name, path)
            saved[name] = disk
        else:
            name = rand.choice(list(saved))
            tool("snapshot", path, what, name) if mine else run("qemu-img", "snapshot", "-a" if what == "apply" else "-d", name, path)
            if what == "apply":
                disk = saved[name]
            else:
                del saved[name]
        clean(path)
        assert content(path) == disk, f"{what} {name if what != 'write' else ''} by {'us' if mine else 'qemu-img'}"
    for name, data in saved.items():
        tool("copy", path, f"{path}.s", name)
        assert (tmp_path / "a.qcow2.s").read_bytes() == data
        run("qemu-img", "convert", "-l", name, "-O", "raw", path, f"{path}.q")
        assert (tmp_path / "a.qcow2.q").read_bytes() == data


def test_snapshot_sizes_and_state(tmp_path):
    """A VM state beyond the end of the disk; snapshots of other disk sizes."""
    path = tmp_path / "a.qcow2"
    make(path, "plain")
    tool("bitmap", path, "remove", "b")
    before = content(path)
    assert tool("vmstate", path, "write", "registers").strip() == "same"
    tool("snapshot", path, "create", "live", 4096)
    clean(path)
    assert "4 KiB" in run("qemu-img", "snapshot", "-l", path)
    assert tool("vmstate", path, "read", "registers").strip() == "differs"
    run("qemu-img", "resize", "-q", path, "20M")
    qemu_io(path, "write -P 9 19M 64k")
    tool("snapshot", path, "create", "large")
    tool("snapshot", path, "apply", "live")
    clean(path)
    assert content(path) == before
    assert tool("vmstate", path, "read", "registers").strip() == "same"
    tool("snapshot", path, "apply", "large")
    clean(path)
    assert len(content(path)) == 20 * M
    qemu_io(path, "read -P 9 19M 64k")
    assert "Can't find the snapshot 'none'" in tool("snapshot", path, "apply", "none", status=1)


def test_snapshot_refused(tmp_path):
    path = tmp_path / "a.qcow2"
    make(path, "bits1")
    assert "cannot create snapshot 'x'" in tool("snapshot", path, "create", "x", status=1)
    clean(path)
    path = tmp_path / "b.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={tmp_path}/data", path, SIZE)
    assert "external data file" in tool("snapshot", path, "create", "x", status=1)
    qemu_io(path, "write -P 1 0 1M")
    clean(path)


# ---- bitmaps ----

def bitmaps_by_qemu(path):
    data = json.loads(run("qemu-img", "info", "--output=json", path))["format-specific"]["data"]
    return {b["name"]: (b["granularity"], sorted(b["flags"])) for b in data.get("bitmaps", [])}


def dirty_by_qemu(path, name):
    """Dirty ranges as qemu-nbd shows them."""
    sock = f"{path}.sock"
    server = subprocess.Popen(["qemu-nbd", "-r", "-f", "qcow2", "-B", name, "-k", sock, path])
    try:
        for _ in range(100):
            if os.path.exists(sock):
                break
            subprocess.run(["sleep", "0.05"], check=True)
        rows = json.loads(run("qemu-img", "map", "--output=json", "--image-opts",
                              f"driver=nbd,server.type=unix,server.path={sock},x-dirty-bitmap=qemu:dirty-bitmap:{name}"))
    finally:
        server.wait(20)
    return [(r["start"], r["length"]) for r in rows if not r["data"]]


@pytest.mark.parametrize("variant", ["plain", "small", "tiny", "extended", "bits1"])
def test_bitmaps(variant, tmp_path):
    path = tmp_path / "a.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", VARIANTS[variant] or "compat=1.1", path, 64 * M)
    tool("bitmap", path, "add", "mine", 65536)
    run("qemu-img", "bitmap", "--add", "-g", "512", path, "theirs")
    assert bitmaps_by_qemu(path) == {"mine": (65536, ["auto"]), "theirs": (512, ["auto"])}
    with BlockIO(path) as io:
        io(f"w {3 * M + 512} 1024 1")
        io(f"z {9 * M} {2 * M}")
        io("f")
    qemu_io(path, "write 30M 1k", "write 32M 4M")
    clean(path)
    expect = [(3 * M + 512, 1024), (9 * M, 2 * M), (30 * M, 1024), (32 * M, 4 * M)]
    got = [tuple(map(int, row.split())) for row in tool("bitmap", path, "get", "theirs").splitlines()]
    assert got == expect
    assert dirty_by_qemu(path, "theirs") == expect
    assert dirty_by_qemu(path, "mine") == [(3 * M, 65536), (9 * M, 2 * M), (30 * M, 65536), (32 * M, 4 * M)]
    tool("bitmap", path, "disable", "mine")
    run("qemu-img", "bitmap", "--disable", path, "theirs")
    assert bitmaps_by_qemu(path) == {"mine": (65536, []), "theirs": (512, [])}
    with BlockIO(path) as io:
        io(f"w {20 * M} 512 1")
    assert tool("bitmap", path, "get", "theirs").count("\n") == 4
    tool("bitmap", path, "clear", "theirs")
    tool("bitmap", path, "merge", "theirs", "mine")
    assert dirty_by_qemu(path, "theirs") == [(3 * M, 65536), (9 * M, 2 * M), (30 * M, 65536), (32 * M, 4 * M)]
    clean(path)
    tool("bitmap", path, "remove", "mine")
    assert list(bitmaps_by_qemu(path)) == ["theirs"]
    tool("bitmap", path, "remove", "theirs")
    clean(path)
    assert not bitmaps_by_qemu(path)
    assert "not found" in tool("bitmap", path, "clear", "mine", status=1)


def test_bitmap_all_and_none(tmp_path):
    """Whole tables of ones and zeroes, and a last grain that is cut off."""
    path = tmp_path / "a.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=512", path, 4 * M + 512)
    tool("bitmap", path, "add", "b", 512)
    with BlockIO(path) as io:
        io(f"w 0 {4 * M + 512} 7")
    assert tool("bitmap", path, "get", "b").strip() == f"0 {4 * M + 512}"
    assert dirty_by_qemu(path, "b") == [(0, 4 * M + 512)]
    clean(path)


def test_bitmap_not_closed(tmp_path):
    """A program that was killed leaves bitmaps that nobody trusts, in either direction."""
    path = tmp_path / "a.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", path, 64 * M)
    tool("bitmap", path, "add", "b", 65536)
    io = BlockIO(path)
    io(f"w {3 * M} 1024 1")
    io("f")
    io.process.kill()
    io.process.wait()
    assert bitmaps_by_qemu(path) == {"b": (65536, ["auto", "in-use"])}
    assert "inconsistent" in tool("bitmap", path, "list")
    assert "is inconsistent" in tool("bitmap", path, "clear", "b", status=1)
    assert bitmaps_by_qemu(path) == {"b": (65536, ["auto", "in-use"])}
    clean(path)
    tool("bitmap", path, "remove", "b")
    clean(path)
    assert not bitmaps_by_qemu(path)


def test_bitmap_lost_by_others(tmp_path):
    """The autoclear bit is off: somebody wrote who does not know bitmaps."""
    path = tmp_path / "a.qcow2"
    make(path, "plain")
    tables = Tables(path)
    tables.change(88, lambda e: e & ~1)
    tables.close()
    found = judge(path)
    mine, _ = ours(path)
    assert found["leaks"] and mine["leaks"] == found["leaks"]
    ours(path, "all")
    clean(path)
    assert "Cannot store dirty bitmaps in qcow2 v2 files" in tool("bitmap", make_v2(tmp_path), "add", "b", 65536, status=1)


def make_v2(tmp_path):
    path = tmp_path / "v2.qcow2"
    make(path, "v2")
    return path


# ---- amend, measure, compressed clusters ----

def test_amend(tmp_path):
    path, base = tmp_path / "a.qcow2", tmp_path / "base.raw"
    base.write_bytes(b"b" * SIZE)
    make(path, "plain")
    before = content(path)
    run("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", base, "-F", "raw", path)
    tool("amend", path, f"backing_file={base},backing_fmt=raw")
    below = content(path) # unallocated clusters show the base now, zero clusters do not
    steps = ("refcount_bits=8", "refcount_bits=64", "refcount_bits=4", "lazy_refcounts=on", "lazy_refcounts=off", "refcount_bits=16")
    for options in steps:
        tool("amend", path, options)
        clean(path)
        assert content(path) == below, options
    assert "requires refcount_bits=16" in tool("amend", path, "refcount_bits=32,compat=0.10", status=1)
    tool("amend", path, "refcount_bits=16")
    assert "remove them first" in tool("amend", path, "compat=0.10", status=1)
    tool("bitmap", path, "remove", "b")
    tool("amend", path, "compat=0.10")
    clean(path)
    assert content(path) == below
    run("qemu-img", "convert", "-O", "raw", path, f"{path}.raw")
    assert (tmp_path / "a.qcow2.raw").read_bytes() == below
    tool("copy", path, f"{path}.s", "first")
    assert "compat: 0.10" in run("qemu-img", "info", path)
    tool("amend", path, "compat=1.1")
    clean(path)
    tool("amend", path, "backing_file=")
    clean(path)
    assert "backing file" not in run("qemu-img", "info", path)
    tool("amend", path, f"size={SIZE + 4 * M}")
    clean(path)
    assert len(content(path)) == SIZE + 4 * M
    for bad, why in (("cluster_size=4k", "cluster_size"), ("refcount_bits=7", "power of two"), ("colour=red", "colour"), ("compat=2", "compat"),
                     ("data_file=x", "external data file"), ("data_file_raw=on", "existing images")):
        assert why in tool("amend", path, bad, status=1)
    clean(path)
    assert before[:128 * K] == content(path)[:128 * K]


def test_amend_counts_too_large(tmp_path):
    path = tmp_path / "a.qcow2"
    make(path, "plain")
    assert "Cannot decrease refcount entry width" in tool("amend", path, "refcount_bits=1", status=1)
    clean(path)


def test_measure():
    for size in (0, 1, 64 * K, M, 1024 * M, 123456789, 1 << 40):
        for options in ("", "cluster_size=512", "cluster_size=2M", "refcount_bits=1", "refcount_bits=64", "extended_l2=on", "preallocation=full"):
            theirs = subprocess.run(["qemu-img", "measure", "--output=json", "-O", "qcow2", "--size", str(size), *(("-o", options) if options else ())],
                                    capture_output=True, check=False)
            if theirs.returncode:
                tool("measure", size, 0, options, status=1)
                continue
            found = json.loads(theirs.stdout)
            assert tool("measure", size, 0, options).split() == [str(found["required"]), str(found["fully-allocated"])], f"{size} {options}"


@pytest.mark.parametrize("options", ["compression_type=zlib", "compression_type=zstd", "compression_type=zlib,cluster_size=512", "compression_type=zstd,cluster_size=2M",
                                     "compression_type=zlib,cluster_size=16k,extended_l2=on", "compat=0.10"])
def test_compressed(options, tmp_path):
    """What compresses well, badly and not at all; written by each, read by the other."""
    rand = random.Random(7)
    words = [rand.randbytes(rand.randrange(3, 12)) for _ in range(2000)] # found again mostly further back than 4 KiB
    data = bytes(300 * K) + b"".join(rand.choices(words, k=60000)) + b"hello world " * 40000 + rand.randbytes(700 * K) + bytes(rand.choice(b"ab") for _ in range(300 * K))
    data = data[:len(data) // 512 * 512]
    raw, mine, theirs = tmp_path / "raw", tmp_path / "mine.qcow2", tmp_path / "theirs.qcow2"
    raw.write_bytes(data)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, mine, len(data))
    tool("compress", mine, raw)
    clean(mine)
    run("qemu-img", "compare", "-s", "-f", "raw", "-F", "qcow2", raw, mine, status=None)
    assert "identical" in run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, mine)
    run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", options, raw, theirs)
    assert content(theirs) == data
    clean(theirs)
    assert os.stat(mine).st_blocks <= os.stat(theirs).st_blocks * 1.2 + 256
    if "zstd" not in options: # no match is further back than the window that readers of the format have
        tables = Tables(mine)
        for place in tables.compressed():
            entry, shift = tables.word(place), 62 - (tables.bits - 8)
            offset = entry & (1 << shift) - 1
            packed = tables.at(offset, ((entry >> shift & (1 << tables.bits - 8) - 1) + 1) * 512 - offset % 512)
            reader, size = zlib.decompressobj(-12), 0
            while size < tables.cluster and packed:
                size += len(reader.decompress(packed, 700))
                packed = reader.unconsumed_tail
            assert size >= tables.cluster
        tables.close()
    with BlockIO(mine) as io: # over compressed clusters
        io(f"w {301 * K} 5000 9".replace("5000", str(5120)))
    clean(mine)


def test_dirty_image(tmp_path):
    """Lazy reference counts, and the writer killed: the next writer mends them."""
    path = tmp_path / "a.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", path, SIZE)
    io = BlockIO(path)
    io("w 0 1000000 7")
    io("f")
    io.process.kill()
    io.process.wait()
    assert ours(path)[0]["corruptions"] == judge(path)["corruptions"] > 0
    with BlockIO(path) as io:
        io("r 0 1000000 7")
        io("w 4000000 4096 9")
    clean(path)


# ---- power cuts ----

def only_flags(said):
    """All that is wrong is a "copied" flag, which no data depend on, or leaked."""
    return all(line.startswith(("ERROR OFLAG_COPIED", "Leaked")) for line in said)


CUTS = {
    "snapshot create": ("snapshot", "create", "new"), "snapshot delete": ("snapshot", "delete", "first"), "snapshot apply": ("snapshot", "apply", "first"),
    "bitmap": ("bitmap", "add", "c", "4096"), "bitmap remove": ("bitmap", "remove", "b"), "refcount_bits": ("amend", "refcount_bits=64"),
    "compat": ("amend", "compat=0.10"), "rebuild": ("check", "all"),
}


@pytest.mark.parametrize("what,variant", [(what, "plain") for what in CUTS] + [("snapshot create", "small"), ("rebuild", "small")])
def test_power_cut(what, variant, tmp_path):
    """After any prefix of the writes, and some of those since the last flush: content and snapshots are there; a repair mends the rest."""
    rand = random.Random(what)
    path, log, state, some = (tmp_path / n for n in ("a.qcow2", "log", "state.qcow2", "some.qcow2"))
    verb, *args = CUTS[what]
    make(path, variant)
    if "bitmap" not in what:
        tool("bitmap", path, "remove", "b")
    before = content(path)
    tool("copy", path, f"{path}.s", "first")
    snapshot = (tmp_path / "a.qcow2.s").read_bytes()
    if what == "rebuild":
        tables = Tables(path)
        rt_reserved(tables)
        tables.close()
    state.write_bytes(path.read_bytes())
    log.write_bytes(b"")
    tool(verb, f"driver=qcow2,file.driver=blklogwrites,file.file.driver=file,file.file.filename={path},file.log.driver=file,file.log.filename={log}", *args)
    good = {before} | ({snapshot} if what == "snapshot apply" else set())
    clean(path)
    assert content(path) in good

    def look(image):
        found, said = ours(image)
        assert not found["check-errors"] and (only_flags(said) or what == "rebuild"), said
        assert what == "rebuild" or content(image) in good
        if what != "snapshot delete" and what != "rebuild":
            tool("copy", image, f"{image}.s", "first")
            assert (tmp_path / f"{image.name}.s").read_bytes() == snapshot
        ours(image, "all")
        clean(image)
        assert content(image) in good

    pending, tried = [], 0
    for entry in list(entries(log)):
        if entry[3] & FLUSH:
            for _ in range(2 if pending else 0):
                some.write_bytes(state.read_bytes())
                for e in rand.sample(pending, rand.randrange(len(pending) + 1)):
                    apply(some, e)
                look(some)
                tried += 1
            for e in pending:
                apply(state, e)
            pending = []
        else:
            pending.append(entry)
    assert tried >= 4
    for e in pending:
        apply(state, e)
    clean(state)
