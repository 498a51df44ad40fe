# SPDX-License-Identifier: GPL-2.0-or-later
"""vdi, vmdk and vhdx: no power cut at any moment loses what was flushed."""
import os
import random

import pytest
from conftest import BUILD, BlockIO, run
from test_qcow2_crash import FLUSH, SIZE, UNIT, History, apply, entries


def verify(history, form, image, scratch, what):
    """As History.verify, of another format."""
    run("qemu-img", "convert", "-f", form, "-O", "raw", image, scratch)
    with open(scratch, "rb") as f:
        got = f.read()
    for i, may in enumerate(history.may):
        for at in range(i * UNIT, (i + 1) * UNIT, 512):
            assert got[at] in may and got[at:at + 512] == got[at:at + 1] * 512, f"{what}: at {at}: {got[at]}, may be {sorted(may)}"


def record(form, img, log):
    """Random requests over a recording node: the log's length and what must be there, before each request and at each flush."""
    rand, history, last, moments = random.Random(3), History(SIZE), [0] * (SIZE // UNIT), []
    node = f"driver={form},file.driver=blklogwrites,file.file.driver=file,file.file.filename={img},file.log.driver=file,file.log.filename={log}"
    with BlockIO(node, "unmap") as io:
        for _ in range(60):
            first, value = rand.randrange(SIZE // UNIT), rand.choice((0, *range(1, 256)))
            n = min(1 + rand.randrange(24), SIZE // UNIT - first)
            moments.append((os.stat(log).st_size, history.copy(), (first * UNIT, n * UNIT, [value])))
            io(f"w {first * UNIT} {n * UNIT} {value}" if value else f"zu {first * UNIT} {n * UNIT}")
            history.write(first * UNIT, n * UNIT, [value])
            last[first:first + n] = [value] * n
            if rand.random() < 0.2:
                io("f")
                history.may = [{v} for v in last]
                moments.append((os.stat(log).st_size, history.copy(), None))
    return moments


def judge(form, image, scratch, moments, end, what):
    at = [m for m in moments if m[0] <= end]
    history, now = (at[-1][1].copy(), at[-1][2]) if at else (moments[0][1].copy(), None)
    if now:
        history.write(*now)
    verify(history, form, image, scratch, what)


@pytest.mark.parametrize("form,options", [("vdi", ""), ("vmdk", ""), ("vmdk", "subformat=monolithicSparse,zeroed_grain=on"), ("vhdx", "block_size=1M")])
def test_power_cut(img, tmp_path, form, options):
    log, state, some, scratch = (tmp_path / name for name in ("log", "state", "some", "scratch"))
    rand, pending, tried = random.Random(1), [], 0
    run(os.path.join(BUILD, "tests", "block", "blockio"), "create", form, img, SIZE, options)
    run("cp", img, state)
    open(log, "wb").close()
    moments = record(form, img, log)
    for entry in entries(log):
        end = entry[0]
        if entry[3] & FLUSH:
            for _ in range(2 if pending else 0):  # some of what was not flushed yet
                run("cp", state, some)
                for one in rand.sample(pending, rand.randrange(len(pending) + 1)):
                    apply(some, one)
                judge(form, some, scratch, moments, end - 512, f"part of the writes before {end}")
                tried += 1
            for p in pending:
                apply(state, p)
            pending = []
            continue
        pending.append(entry)
        if rand.random() < 0.1:
            run("cp", state, some)
            for p in pending:
                apply(some, p)
            judge(form, some, scratch, moments, end, f"the writes up to {end}")
            tried += 1
    assert tried > 10
    for p in pending:
        apply(state, p)
    judge(form, state, scratch, moments, os.stat(log).st_size, "all")
