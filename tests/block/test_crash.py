# SPDX-License-Identifier: GPL-2.0-or-later
"""A crash at any moment loses nothing that was flushed, and leaves an image without errors (leaked clusters are allowed).

Power cuts are simulated from a log of all writes (driver blklogwrites): what had been flushed is there, of what came after a prefix
or any part, in any order. A crash of the process alone is a real one (SIGKILL in the midst of a load)."""
import os
import random
import shutil
import signal
import struct
import subprocess
import time

import pytest
from conftest import BUILD, BlockIO, run

SIZE = 2 << 20
UNIT = 2048
OPTIONS = {"default": "", "small": "cluster_size=4k", "narrow": "cluster_size=512,refcount_bits=1", "wide": "cluster_size=4k,refcount_bits=64",
           "lazy": "cluster_size=4k,lazy_refcounts=on", "extended": "extended_l2=on,cluster_size=16k", "v2": "compat=0.10,cluster_size=4k"}
BACKING = "backing"


def make(path, options, backing=None):
    words = ["qemu-img", "create", "-q", "-f", "qcow2"]
    words += ["-o", options] if options else []
    words += ["-b", backing, "-F", "raw"] if backing else []
    run(*words, path, SIZE)


def entries(log):
    """[(offset, flags, data)] of a log, as many as its super block says."""
    with open(log, "rb") as f:
        magic, version, count, sector = struct.unpack("<QQQI", f.read(28))
        assert magic == 0x6A736677736872 and version == 1
        at, found = sector, []
        for _ in range(count):
            f.seek(at)
            where, sectors, flags, length = struct.unpack("<QQQQ", f.read(32))
            f.seek(at + sector)
            data = f.read(length)
            assert len(data) == length
            found.append((where * sector, flags, data if length else sectors * sector if flags & 4 else b""))
            at += sector + length
        return found


def logged(log):
    with open(log, "rb") as f:
        return struct.unpack("<QQQ", f.read(24))[2]


def apply(content, some):
    for offset, flags, data in some:
        if flags & 4:
            if offset < len(content):
                end = min(offset + data, len(content))
                content[offset:end] = bytes(end - offset)
        elif data:
            if len(content) < offset + len(data):
                content.extend(bytes(offset + len(data) - len(content)))
            content[offset:offset + len(data)] = data


def judge(path, raw, allowed, lazy):
    """Clean, and every unit has a value it may have."""
    if lazy:  # dirty after a crash: opening it for writing mends it
        run("qemu-img", "check", "-q", "-r", "all", path)
    status = subprocess.run(["qemu-img", "check", "-f", "qcow2", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert status.returncode in (0, 3), status.stdout.decode()
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw)
    with open(raw, "rb") as f:
        content = f.read()
    for unit, values in enumerate(allowed):
        for sector in range(unit * UNIT, (unit + 1) * UNIT, 512):
            found = set(content[sector:sector + 512])
            assert found <= values, f"at byte {sector}: {sorted(found)} instead of one of {sorted(values)}"


def power_cut_load(img, log, rng, base):
    """Writes with flushes in between: [(entries of the log then, [values each unit may have until the next flush])]."""
    options = (f"driver=qcow2,discard=unmap,file.driver=blklogwrites,file.file.driver=file,file.file.filename={img},"
               f"file.log.driver=file,file.log.filename={log}")
    now = [{base} for _ in range(SIZE // UNIT)]  # what each unit may read as
    states = []
    with BlockIO(options) as io:
        assert int(io("s", None)) == SIZE  # it is open
        states.append((logged(log), [set(v) for v in now]))
        for _ in range(14):
            for _ in range(rng.randrange(1, 9)):
                count = rng.choice((1, 1, 2, 5, 40, 100))
                first = rng.randrange(SIZE // UNIT - count)
                kind = rng.choice(("w", "w", "w", "z", "zu", "d"))
                value = rng.randrange(1, 256) if kind == "w" else 0
                io(f"{kind} {first * UNIT} {count * UNIT}" + (f" {value}" if kind == "w" else ""))
                for unit in range(first, first + count):
                    # discarded: zeroes, or what was there, or what is behind it
                    now[unit] = now[unit] | {0, base} if kind == "d" else {value}
                    states[-1][1][unit] |= now[unit]
            io("f")
            now = [read_back(io, unit, v) if len(v) > 1 else v for unit, v in enumerate(now)]
            states.append((logged(log), [set(v) for v in now]))
    return states


def read_back(io, unit, values):
    for v in values:
        if io(f"r {unit * UNIT} {UNIT} {v}", None) == "ok":
            return {v}
    raise AssertionError(f"unit {unit} has none of the values {values} after a discard")


@pytest.mark.parametrize("backing", [False, True], ids=["alone", "backing"])
@pytest.mark.parametrize("name", OPTIONS)
def test_power_cut(tmp_path, name, backing):
    rng = random.Random(f"{name}{backing}")
    img, log, cut, raw = tmp_path / "a.qcow2", tmp_path / "log", tmp_path / "cut.qcow2", tmp_path / "raw"
    base = 0
    if backing:
        base = 0x77
        with open(tmp_path / "base", "wb") as f:
            f.write(bytes([base]) * SIZE)
    make(img, OPTIONS[name], tmp_path / "base" if backing else None)
    with open(img, "rb") as f:
        start = f.read()
    log.touch()
    states = power_cut_load(img, log, rng, base)
    writes = entries(log)
    judge(img, raw, [set(s) for s in states[-1][1]], "lazy" in name)  # closed in order
    flushes = [i for i, e in enumerate(writes) if e[1] & 1]
    for _ in range(40):
        at = rng.randrange(1, len(writes) + 1)
        stable = max([i + 1 for i in flushes if i + 1 <= at], default=0)
        loose = writes[stable:at]
        if rng.random() < 0.6:  # the disk did some of it, in any order
            loose = rng.sample(loose, rng.randrange(len(loose) + 1))
        content = bytearray(start)
        apply(content, writes[:stable] + loose)
        with open(cut, "wb") as f:
            f.write(content)
        allowed = [values for position, values in states if position <= at][-1]
        judge(cut, raw, allowed, "lazy" in name)


@pytest.mark.parametrize("name", OPTIONS)
def test_killed(tmp_path, name):
    """SIGKILL in the midst of writes by four threads: what was flushed before is there."""
    rng = random.Random(name)
    img, raw = tmp_path / "a.qcow2", tmp_path / "raw"
    for turn in range(15):
        img.unlink(missing_ok=True)
        make(img, OPTIONS[name])
        with open(tmp_path / "out", "wb") as out:
            process = subprocess.Popen([os.path.join(BUILD, "tests", "block", "blockio"), f"driver=qcow2,discard=unmap,file.driver=file,file.filename={img}"],
                                       stdin=subprocess.PIPE, stdout=out)
            process.stdin.write(f"load {turn} 1000000 4 {UNIT} 20\n".encode())
            process.stdin.flush()
            time.sleep(rng.uniform(0.02, 0.4))
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdin.close()
        judge(img, raw, allowed_after(tmp_path / "out"), "lazy" in name)


def allowed_after(path):
    """What each unit may have, from what the program said before it was killed: the last write that was done before the last
    successful flush began, and whatever was not done by then."""
    with open(path, encoding="ascii") as f:
        lines = [line.split() for line in f.read().split("\n")[:-1]]
    assert not [line for line in lines if line[0] == "failed"]
    done = {words[5]: i for i, words in enumerate(lines) if words[0] == "done"}
    flushes = [i for i, words in enumerate(lines) if words[:2] == ["begin", "f"] and words[5] in done]
    cut = max(flushes, default=-1)
    allowed = [{0} for _ in range(SIZE // UNIT)]
    for when, kind, offset, length, value, number in lines:
        if when != "begin" or kind == "f":
            continue
        first, count = int(offset) // UNIT, int(length) // UNIT
        for unit in range(first, first + count):
            if done.get(number, len(lines)) > cut:
                allowed[unit] |= {int(value)}
            elif kind == "d":
                allowed[unit] |= {0}
            else:
                allowed[unit] = {int(value)}
    return allowed
