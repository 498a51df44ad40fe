# SPDX-License-Identifier: GPL-2.0-or-later
"""qcow2: images that we make and write are read by Debian's programs and called clean by them; theirs by us."""
import json
import os
import random
import struct
import subprocess
import zlib
import zlib

import pytest
from conftest import BUILD, BlockIO, run

MIB = 1 << 20
SIZE = 64 * MIB
SMALL = 16 * MIB
BLOCKIO = os.path.join(BUILD, "tests", "block", "blockio")

# Format options, as for -o.
OPTIONS = [
    "",
    "compat=0.10",
    "cluster_size=512",
    "cluster_size=512,refcount_bits=64",
    "cluster_size=4096,refcount_bits=1",
    "cluster_size=1M,refcount_bits=2",
    "cluster_size=2M",
    "refcount_bits=4",
    "refcount_bits=8",
    "refcount_bits=32",
    "refcount_bits=64",
    "lazy_refcounts=on",
    "compression_type=zstd",
    "extended_l2=on",
    "extended_l2=on,cluster_size=16k",
    "extended_l2=on,cluster_size=2M,lazy_refcounts=on",
    "preallocation=metadata",
    "preallocation=falloc",
    "preallocation=full,cluster_size=4096",
    "compat=0.10,cluster_size=1024,preallocation=metadata",
    "data_file=DATA",
    "data_file=DATA,data_file_raw=on",
]


def q2(img):
    return f"driver=qcow2,file.driver=file,file.filename={img}"


def create(maker, img, options="", size=SIZE, backing=None):
    options = options.replace("DATA", f"{img}.data")
    if maker == "ours":
        run(BLOCKIO, "create", "qcow2", img, size, options, *([backing, "qcow2"] if backing else []))
    else:
        run("qemu-img", "create", "-q", "-f", "qcow2", *(["-o", options] if options else []), *(["-b", backing, "-F", "qcow2"] if backing else []), img, size)


def check(img, leaks=False):
    """Debian's verdict: 0 clean; 3 leaks alone."""
    done = subprocess.run(["qemu-img", "check", "-f", "qcow2", str(img)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False)
    assert done.returncode == 0 or (leaks and done.returncode == 3), done.stdout.decode()[-2000:]


def same(img, model, tmp_path, size=None):
    """What qemu-img reads out of the image is what we think it holds."""
    raw = tmp_path / "model.raw"
    with open(raw, "wb") as f:
        f.write(model)
    run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", img, raw)


class Model:
    """Random requests, on an image and on bytes in memory."""

    def __init__(self, size, seed):
        self.bytes = bytearray(size)
        self.rand = random.Random(seed)

    def place(self, unit=512, most=400):
        n = len(self.bytes) // unit
        first = self.rand.randrange(n)
        return first * unit, min(self.rand.randrange(1, most), n - first) * unit

    def step(self, io, kinds="wwwwzuud", aligned=1):
        kind = self.rand.choice(kinds)
        unit = max(aligned, self.rand.choice([512, 4096, 65536]))
        offset, length = self.place(unit, max(2, 200 * 512 // unit * 4))
        value = self.rand.randrange(1, 256) if kind in "wc" else 0
        if kind == "w":
            io(f"w {offset} {length} {value}")
        elif kind in "zu":
            io(f"{'zu' if kind == 'u' else 'z'} {offset} {length}")
        elif kind == "r":
            return
        self.bytes[offset:offset + length] = bytes([value]) * length
        if self.rand.random() < 0.1:
            io("f")


def test_data_file_zeroed_and_written_again(img, tmp_path):
    """What is written into a piece of the data file that was freed just before stays there."""
    create("ours", img, "data_file=DATA,data_file_raw=on")
    with BlockIO(q2(img), "unmap") as io:
        io("w 0 1048576 7")
        io("f")
        io("zu 65536 131072")
        io("d 262144 131072")
        io("w 65536 131072 9")
        io("w 262144 131072 9")
        io("f")
        io("f")
        io("r 65536 131072 9")
        io("r 262144 131072 9")


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("maker", ["ours", "theirs"])
def test_random_writes(img, tmp_path, maker, options):
    create(maker, img, options, size=SMALL)
    check(img)
    model = Model(SMALL, zlib.crc32(f"{maker} {options}".encode()))
    with BlockIO(q2(img), "unmap") as io:
        for _ in range(60):
            model.step(io, "wwwwzu")
    check(img)
    same(img, model.bytes, tmp_path)
    # Opened again, read here, and written by theirs.
    with BlockIO(q2(img)) as io:
        for _ in range(20):
            offset, length = model.place()
            value = model.bytes[offset]
            same_bytes = len(model.bytes[offset:offset + length]) and set(model.bytes[offset:offset + length]) == {value}
            io(f"r {offset} {length} {value}", "ok" if same_bytes else None)
    commands = []
    for _ in range(20):
        offset, length = model.place()
        value = model.rand.randrange(256)
        commands += ["-c", f"write -P {value} {offset} {length}"]
        model.bytes[offset:offset + length] = bytes([value]) * length
    run("qemu-io", "-f", "qcow2", *commands, img)
    with BlockIO(q2(img), "ro") as io:
        start = 0
        while start < SMALL:
            end = min(SMALL, start + 256 * 1024)
            piece = model.bytes[start:end]
            if set(piece) == {piece[0]}:
                io(f"r {start} {end - start} {piece[0]}")
            start = end
    check(img)


@pytest.mark.parametrize("options", ["", "compat=0.10", "extended_l2=on", "cluster_size=512", "cluster_size=2M", "data_file=DATA"])
def test_backing(img, tmp_path, options):
    """Copy-on-write over a chain, with discards that must not bring the backing image's bytes back."""
    base, mid = tmp_path / "base.qcow2", tmp_path / "mid.qcow2"
    create("theirs", base, size=SIZE - 3 * MIB - 512)
    run("qemu-io", "-f", "qcow2", "-c", "write -P 0xaa 0 20M", "-c", "write -P 0xbb 40M 5000k", base)
    create("ours", mid, size=SIZE - MIB, backing=base)
    run("qemu-io", "-f", "qcow2", "-c", "write -P 0xcc 10M 1M", "-c", "write -z 11M 1M", mid)
    create("ours", img, options, backing=mid)
    model = Model(SIZE, 7)
    for offset, length, value in ((0, 20 * MIB, 0xaa), (40 * MIB, 5000 << 10, 0xbb), (10 * MIB, MIB, 0xcc), (11 * MIB, MIB, 0)):
        model.bytes[offset:offset + length] = bytes([value]) * length
    same(img, model.bytes, tmp_path)
    with BlockIO(q2(img), "unmap") as io:
        for _ in range(60):
            model.step(io, "wwwzu")
        if "0.10" not in options:
            io(f"d {16 * MIB} {4 * MIB}")
            model.bytes[16 * MIB:20 * MIB] = bytes(4 * MIB)
    check(img)
    same(img, model.bytes, tmp_path)


@pytest.mark.parametrize("options", ["", "cluster_size=512", "refcount_bits=1", "extended_l2=on", "compression_type=zstd", "cluster_size=2M"])
def test_compressed(img, tmp_path, options):
    create("ours", img, options)
    cluster = int(json.loads(run("qemu-img", "info", "--output=json", img))["cluster-size"])
    model = bytearray(SIZE)
    with BlockIO(q2(img)) as io:
        for i in range(0, 24):
            offset = i * 3 * max(cluster, 4096) % SIZE
            offset -= offset % cluster
            io(f"c {offset} {cluster} {i + 1}")
            model[offset:offset + cluster] = bytes([i + 1]) * cluster
        io(f"r {3 * max(cluster, 4096)} {cluster} 2")
        io(f"w 256 {cluster} 0x77")
        model[256:256 + cluster] = b"\x77" * cluster
    check(img)
    same(img, model, tmp_path)
    # Theirs, read by us.
    other = tmp_path / "other.qcow2"
    run("qemu-img", "convert", "-c", "-f", "qcow2", "-O", "qcow2", *(["-o", options] if options else []), img, other)
    with BlockIO(q2(other)) as io:
        io(f"r 256 {cluster} 0x77")
        io(f"w 1024 512 0x66")
        io("r 1024 512 0x66")
    check(other)


@pytest.mark.parametrize("options", ["", "cluster_size=512", "refcount_bits=64,cluster_size=1024", "extended_l2=on", "data_file=DATA", "lazy_refcounts=on"])
@pytest.mark.parametrize("prealloc", ["off", "metadata", "falloc", "full"])
def test_resize(img, tmp_path, options, prealloc):
    create("ours", img, options, size=8 * MIB + 512)
    model = bytearray(8 * MIB + 512)
    with BlockIO(q2(img)) as io:
        io(f"w 0 {8 * MIB + 512} 0x55")
        model[:] = b"\x55" * len(model)
        io(f"t {20 * MIB} {prealloc}")
        io("s", str(20 * MIB))
        model += bytes(20 * MIB - len(model))
        io(f"w {19 * MIB} {MIB} 0x66")
        model[19 * MIB:] = b"\x66" * MIB
        io(f"t {5 * MIB + 1024}")
        del model[5 * MIB + 1024:]
        io(f"t {9 * MIB}")
        model += bytes(9 * MIB - len(model))
        io("w 0 512 1")
        model[:512] = b"\1" * 512
    check(img)
    same(img, model, tmp_path)


def test_growth_does_not_show_the_backing_image(img, tmp_path):
    base = tmp_path / "base.qcow2"
    create("theirs", base)
    run("qemu-io", "-f", "qcow2", "-c", f"write -P 9 0 {SIZE}", base)
    for options in ("", "compat=0.10", "extended_l2=on"):
        create("ours", img, options, size=MIB + 512, backing=base)
        with BlockIO(q2(img)) as io:
            io(f"w {MIB} 512 3")
            io(f"t {3 * MIB}")
            io(f"r 0 {MIB} 9")
            io(f"r {MIB} 512 3")
            io(f"r {MIB + 512} {2 * MIB - 512} 0")
        check(img)


def test_discard_frees_space(img):
    create("ours", img)
    with BlockIO(q2(img), "unmap") as io:
        io(f"w 0 {32 * MIB} 1")
        io("f")
        used = os.stat(img).st_blocks
        io(f"d 0 {32 * MIB}")
        io("f")
        io("f")
        assert os.stat(img).st_blocks < used // 8
        io(f"r 0 {32 * MIB} 0")
        # Freed clusters are used again: the file does not grow.
        io(f"w 0 {32 * MIB} 2")
        io("f")
    assert os.stat(img).st_size < 34 * MIB
    check(img)


def test_many_threads(img, tmp_path):
    for options in ("", "cluster_size=4096", "extended_l2=on", "lazy_refcounts=on"):
        create("ours", img, options)
        done = subprocess.run([BLOCKIO, q2(img), "unmap"], input="load 3 1500 8 4096 50\n", stdout=subprocess.PIPE, text=True, timeout=120, check=True)
        check(img)
        model = bytearray(SIZE)
        for line in done.stdout.splitlines():
            words = line.split()
            if words[0] == "done" and words[1] in "wzu":
                offset, length, value = map(int, words[2:5])
                model[offset:offset + length] = bytes([value]) * length
            elif words[0] == "done" and words[1] == "d":
                offset, length = map(int, words[2:4])
                model[offset:offset + length] = b"?" * length
            assert words[0] != "failed", line
        verify(img, model, tmp_path)


def verify(img, model, tmp_path):
    """As `same`, but bytes "?" (discarded) may also be zero or what they were: only the others count."""
    raw = tmp_path / "read.raw"
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", img, raw)
    with open(raw, "rb") as f:
        got = f.read()
    for at in range(0, len(model), 4096):
        if model[at] != ord("?"):
            assert got[at:at + 4096] == model[at:at + 4096], f"at {at}: {got[at]} instead of {model[at]}"


@pytest.mark.parametrize("options", ["", "extended_l2=on,preallocation=metadata", "cluster_size=4096,preallocation=falloc"])
def test_encrypted(img, tmp_path, monkeypatch, options):
    monkeypatch.setenv("BLOCKIO_SECRET", "secret,id=s0,data=geheim")
    secret, size = ["--object", "secret,id=s0,data=geheim"], 8 * MIB
    theirs = tmp_path / "theirs.qcow2"
    luks = "encrypt.format=luks,encrypt.key-secret=s0,encrypt.iter-time=20" + (f",{options}" if options else "")
    run("qemu-img", "create", "-q", *secret, "-f", "qcow2", "-o", luks, theirs, size)
    create("ours", img, luks, size=size)
    for image in (img,) if "preallocation" in options else (img, theirs): # theirs reads as garbage then
        opts = f"driver=qcow2,file.filename={image},encrypt.key-secret=s0"
        run("qemu-img", "check", *secret, "--image-opts", opts)
        model = Model(size, 3)
        with BlockIO(q2(image) + ",encrypt.key-secret=s0", "unmap") as io:
            io(f"r 0 {size} 0")
            for _ in range(40):
                model.step(io, "wwwzu")
        run("qemu-img", "check", *secret, "--image-opts", opts)
        with open(tmp_path / "raw", "wb") as f:
            f.write(model.bytes)
        run("qemu-img", "compare", *secret, "--image-opts", opts, f"driver=raw,file.filename={tmp_path / 'raw'}")
        run("qemu-io", *secret, "-c", "write -P 7 1536 70000", "--image-opts", opts)
        with BlockIO(q2(image) + ",encrypt.key-secret=s0") as io:
            io("r 1536 70000 7")
        with open(image, "rb") as f: # nothing in the clear
            assert b"\7" * 512 not in f.read()
    monkeypatch.setenv("BLOCKIO_SECRET", "secret,id=s0,data=falsch")
    done = subprocess.run([BLOCKIO, q2(img) + ",encrypt.key-secret=s0"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1 and b"nvalid password" in done.stderr, done.stderr


def poke(img, offset, data):
    with open(img, "r+b") as f:
        f.seek(offset)
        f.write(data)


def peek64(img, offset):
    with open(img, "rb") as f:
        f.seek(offset)
        return struct.unpack(">Q", f.read(8))[0]


# What is damaged in the header, and what the error names.
DAMAGE = [
    (0, b"QFI\xfa", "qcow2"),
    (4, struct.pack(">I", 4), "version 4"),
    (20, struct.pack(">I", 8), "cluster size"),
    (20, struct.pack(">I", 22), "cluster size"),
    (24, struct.pack(">Q", 1 << 62), "L1 table is too small"),
    (36, struct.pack(">I", 0x7fffffff), "L1 table is too large"),
    (40, struct.pack(">Q", 0x10001), "L1 table has an invalid offset"),
    (48, struct.pack(">Q", 0x10200), "reference count table has an invalid offset"),
    (56, struct.pack(">I", 0), "reference count table"),
    (56, struct.pack(">I", 1 << 20), "reference count table is too large"),
    (60, struct.pack(">I", 1 << 20), "snapshot"),
    (72, struct.pack(">Q", 1 << 40), "features that are not known"),
    (72, struct.pack(">Q", 2), "corrupt"),
    (96, struct.pack(">I", 7), "refcount order"),
    (100, struct.pack(">I", 0xffffff), "header length"),
    (112, struct.pack(">II", 0xe2792aca, 0xfffffff0), "extension"),
]


@pytest.mark.parametrize("offset,data,named", DAMAGE, ids=[f"{d[0]}-{d[2][:12]}" for d in DAMAGE])
def test_damaged_header_is_refused(img, offset, data, named):
    create("theirs", img)
    poke(img, offset, data)
    before = open(img, "rb").read()
    done = subprocess.run([BLOCKIO, q2(img)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=20, check=False)
    assert done.returncode == 1 and named in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert open(img, "rb").read() == before


def test_unknown_feature_is_named(img):
    create("theirs", img)
    poke(img, 72, struct.pack(">Q", 1 << 13))
    table = 112
    while struct.unpack(">I", open(img, "rb").read()[table:table + 4])[0] != 0x6803f857:
        table += 8
    poke(img, table + 8, bytes([0, 13]) + b"time travel".ljust(46, b"\0"))
    done = subprocess.run([BLOCKIO, q2(img)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=20, check=False)
    assert done.returncode == 1 and "time travel" in done.stderr, done.stderr


@pytest.mark.parametrize("what", ["data over the header", "data over the L2 table", "unaligned data", "unaligned table", "free clusters that are not"])
def test_damage_found_later_is_not_made_worse(img, what):
    """Guest data never goes over metadata, and what was found wrong is marked in the image."""
    create("theirs", img)
    run("qemu-io", "-f", "qcow2", "-c", f"write -P 1 0 {MIB}", img)
    l1 = peek64(img, 40)
    l2 = peek64(img, l1) & 0x00fffffffffffe00
    copied = 1 << 63
    if what == "data over the header":
        poke(img, l2, struct.pack(">Q", copied | 0))
        poke(img, l2 + 8, struct.pack(">Q", copied | l1))
    elif what == "data over the L2 table":
        poke(img, l2 + 8, struct.pack(">Q", copied | l2))
    elif what == "unaligned data":
        poke(img, l2 + 8, struct.pack(">Q", copied | 0x50200))
    elif what == "unaligned table":
        poke(img, l1, struct.pack(">Q", copied | (l2 + 512)))
    else:
        block = peek64(img, peek64(img, 48))
        poke(img, block, bytes(65536))
    before = open(img, "rb").read()
    with BlockIO(q2(img)) as io:
        offset = 40 * MIB if what.startswith("free") else 65536
        io(f"w {offset} 65536 7", "error EIO")
        io(f"w {offset} 512 7", "error EIO")
    after = open(img, "rb").read()
    assert after[:72] == before[:72] and after[96:] == before[96:], "more than the feature bits was written"
    assert after[79] & 2, "the image is marked corrupt"
    done = subprocess.run([BLOCKIO, q2(img)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=20, check=False)
    assert done.returncode == 1 and "corrupt" in done.stderr
    with BlockIO(q2(img), "ro") as io:
        io("r 0 512 1", None)


@pytest.mark.parametrize("options", ["", "cluster_size=4096", "extended_l2=on", "cluster_size=512"])
def test_full_file_system(tmp_path, options):
    """No space left: the write fails, all before it stays, and it succeeds once there is space."""
    if os.geteuid():
        pytest.skip("a small file system needs root")
    there = tmp_path / "small"
    there.mkdir()
    img = there / "disk.img"
    shell = subprocess.Popen(["unshare", "-m", "sh", "-c", f"mount -t tmpfs -o size=4m none {there} && echo ready && exec sleep 100"], stdout=subprocess.PIPE)
    try:
        assert shell.stdout.readline() == b"ready\n"
        inside = ["nsenter", "-t", str(shell.pid), "-m"]
        run(*inside, BLOCKIO, "create", "qcow2", img, SIZE, options)
        io = subprocess.Popen([*inside, BLOCKIO, q2(img), "unmap"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

        def ask(line):
            io.stdin.write(line + "\n")
            return io.stdout.readline().strip()

        written, answers = [], []
        for i in range(80):
            answers.append(ask(f"w {i * 100 * 1024} 100000 {i + 1}"))
            if answers[-1] == "ok":
                written.append(i)
        assert "error ENOSPC" in answers and set(answers) <= {"ok", "error ENOSPC"}
        ask("f") # may fail as well
        for i in written:
            assert ask(f"r {i * 100 * 1024} 100000 {i + 1}") == "ok"
        run(*inside, "mount", "-o", "remount,size=64m", there)
        for i in range(80):
            assert ask(f"w {i * 100 * 1024} 100000 {i + 1}") == "ok"
        assert ask("f") == "ok"
        io.stdin.close()
        assert io.wait(30) == 0
        run(*inside, "qemu-img", "check", "-f", "qcow2", img)
        run(*inside, "qemu-io", "-f", "qcow2", *(w for i in range(80) for w in ("-c", f"read -P {i + 1} {i * 100 * 1024} 100000")), img)
        io.stdout.close()
    finally:
        shell.kill()
        shell.wait()
        shell.stdout.close()
