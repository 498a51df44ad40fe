# SPDX-License-Identifier: GPL-2.0-or-later
"""qcow2: no crash and no power cut at any moment loses what was flushed, or leaves more than leaked clusters."""
import os
import random
import signal
import struct
import subprocess
import time
import zlib
import zlib

import pytest
from conftest import BUILD, BlockIO, run
from test_qcow2 import BLOCKIO, MIB, create, q2

SIZE = 4 * MIB
UNIT = 4096
FLUSH, DISCARD = 1, 4


class History:
    """What each unit may hold: its value at the last completed flush, or any it was given since."""

    def __init__(self, size):
        self.may = [{0} for _ in range(size // UNIT)]

    def write(self, offset, length, values):
        for i in range(offset // UNIT, (offset + length) // UNIT):
            self.may[i] = self.may[i] | set(values)

    def copy(self):
        other = History(0)
        other.may = list(self.may)
        return other

    def verify(self, image, scratch, what):
        run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, scratch)
        with open(scratch, "rb") as f:
            got = f.read()
        for i, may in enumerate(self.may):
            piece = got[i * UNIT:(i + 1) * UNIT]
            # A write in flight may be there in part: sector by sector.
            for s in range(0, UNIT, 512):
                sector = piece[s:s + 512]
                assert sector[0] in may and sector == sector[:1] * 512, f"{what}: at {i * UNIT + s}: {sector[0]}, may be {sorted(may)}"


def entries(log):
    """(offset in the log behind the entry, place, flags, bytes or None)."""
    with open(log, "rb") as f:
        data = f.read()
    at = 512
    while at + 512 <= len(data):
        sector, sectors, flags, length = struct.unpack_from("<QQQQ", data, at)
        if not (sectors or flags):
            break
        yield at + 512 + length, sector * 512, sectors * 512, flags, data[at + 512:at + 512 + length] if length else None
        at += 512 + length


def apply(image, entry):
    _, offset, length, flags, data = entry
    if flags & DISCARD:
        data = bytes(length)
    if data:
        with open(image, "r+b") as f:
            f.seek(offset)
            f.write(data)


def consistent(image, lazy, what):
    done = subprocess.run(["qemu-img", "check", "-f", "qcow2", str(image)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False)
    if lazy and done.returncode == 2:
        done = subprocess.run(["qemu-img", "check", "-q", "-r", "all", "-f", "qcow2", str(image)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=60, check=False)
        assert done.returncode == 0, f"{what}: {done.stdout.decode()[-1500:]}"
        return
    assert done.returncode in (0, 3), f"{what}: {done.stdout.decode()[-1500:]}"


def record(img, log, options, seed, compressed):
    """Random requests over a recording node; the log's length and what must be there, at each flush."""
    rand = random.Random(seed)
    history, flushes, last = History(SIZE), [], [{0}] * (SIZE // UNIT)
    node = f"driver=qcow2,file.driver=blklogwrites,file.file.driver=file,file.file.filename={img},file.log.driver=file,file.log.filename={log}"
    cluster = 65536
    for word in options.split(","):
        if word.startswith("cluster_size="):
            cluster = int(word[13:].replace("k", "000")) if "k" not in word else int(word[13:-1]) << 10
    with BlockIO(node, "unmap") as io:
        for _ in range(70):
            kind = rand.choice("wwwwwzuud" + ("cc" if compressed else ""))
            first = rand.randrange(SIZE // UNIT)
            n = min(1 + rand.randrange(24), SIZE // UNIT - first)
            offset, length, value = first * UNIT, n * UNIT, rand.randrange(1, 256) if kind in "wc" else 0
            if kind == "c":
                length = max(cluster, UNIT)
                offset -= offset % length
            flushes.append((os.stat(log).st_size, history.copy(), (offset, length, [value])))
            if kind in "wc":
                io(f"{kind} {offset} {length} {value}")
            else:
                io(f"{dict(z='z', u='zu', d='d')[kind]} {offset} {length}")
            history.write(offset, length, [value])
            for i in range(offset // UNIT, (offset + length) // UNIT):
                last[i] = last[i] | {0} if kind == "d" else {value} # a discard may leave what was there
            if rand.random() < 0.15:
                io("f")
                history.may = list(last)
                flushes.append((os.stat(log).st_size, history.copy(), None))
    return flushes


@pytest.mark.parametrize("options", ["", "cluster_size=4k", "cluster_size=512,refcount_bits=64", "extended_l2=on,cluster_size=16k", "compat=0.10",
                                     "lazy_refcounts=on,cluster_size=4k"])
@pytest.mark.parametrize("backing", [False, True])
def test_power_cut(img, tmp_path, options, backing):
    """Every prefix of the writes between flushes, and random choices of them, is consistent and holds what was flushed."""
    base, log, state, scratch = (tmp_path / name for name in ("base", "log", "state", "scratch"))
    rand = random.Random(1)
    create("theirs", base, size=SIZE)
    create("ours", img, options, size=SIZE, backing=base if backing else None)
    run("cp", img, state)
    open(log, "wb").close()
    moments = record(img, log, options, zlib.crc32(f"{options} {backing}".encode()) & 0xfff, not backing)
    lazy = "lazy" in options
    pending, tried = [], 0
    for entry in entries(log):
        end = entry[0]
        if entry[3] & FLUSH:
            # Some of what was not flushed yet, in another order than it was written in.
            for _ in range(2 if pending else 0):
                run("cp", state, str(state) + ".some")
                for some in rand.sample(pending, rand.randrange(len(pending) + 1)):
                    apply(str(state) + ".some", some)
                judge(str(state) + ".some", scratch, moments, end - 512, lazy, f"part of the writes before {end}")
                tried += 1
            for p in pending:
                apply(state, p)
            pending = []
            continue
        pending.append(entry)
        if rand.random() < 0.12:
            run("cp", state, str(state) + ".some")
            for p in pending:
                apply(str(state) + ".some", p)
            judge(str(state) + ".some", scratch, moments, end, lazy, f"the writes up to {end}")
            tried += 1
    assert tried > 10
    for p in pending:
        apply(state, p)
    consistent(state, False, "at the end")


def judge(image, scratch, moments, end, lazy, what):
    consistent(image, lazy, what)
    known = None
    for at, history, op in moments:
        if at > end:
            break
        known = (history, op)
    history, op = known
    if op: # it may have been under way
        history = history.copy()
        history.write(*op)
    history.verify(image, scratch, what)


@pytest.mark.parametrize("options", ["", "cluster_size=4096", "extended_l2=on", "lazy_refcounts=on"])
def test_killed(img, tmp_path, options):
    """kill -9 at random moments of a write load by several threads, again and again on the same image."""
    rand = random.Random(5)
    size = 16 * MIB
    create("ours", img, options, size=size)
    history = [{0} for _ in range(size // UNIT)]
    for round_ in range(25): # 100 in all
        p = subprocess.Popen([BLOCKIO, q2(img), "unmap"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        p.stdin.write(f"load {round_ + 1} 100000 4 {UNIT} 40\n".encode())
        p.stdin.flush()
        time.sleep(rand.uniform(0.02, 0.4))
        p.send_signal(signal.SIGKILL)
        out = p.stdout.read().decode().splitlines()
        p.wait()
        p.stdin.close()
        follow(history, out)
        consistent(img, "lazy" in options, f"round {round_}")
        run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", img, tmp_path / "raw")
        with open(tmp_path / "raw", "rb") as f:
            got = f.read()
        for i, may in enumerate(history):
            for s in range(i * UNIT, (i + 1) * UNIT, 512):
                assert got[s] in may, f"round {round_} at {s}: {got[s]} instead of {sorted(may)}"
            history[i] = {got[s] for s in range(i * UNIT, (i + 1) * UNIT, 512)}


def follow(history, lines):
    """Narrows what each unit may hold by what the load said before it was killed."""
    done_at, flushed = {}, -1
    begun = {}
    for number, line in enumerate(lines):
        words = line.split()
        if len(words) < 6:
            continue # cut off
        when, kind, ident = words[0], words[1], int(words[5])
        if when == "begin":
            begun[ident] = number
        elif when == "done" and kind == "f":
            flushed = max(flushed, begun[ident])
        elif when == "done":
            done_at[ident] = number
    for line in lines:
        words = line.split()
        if len(words) < 6 or words[0] != "begin" or words[1] == "f":
            continue
        offset, length, value, ident = (int(w) for w in words[2:6])
        stable = ident in done_at and done_at[ident] < flushed
        for i in range(offset // UNIT, (offset + length) // UNIT):
            old = history[i]
            history[i] = {value} if stable and words[1] != "d" else old | {value}
