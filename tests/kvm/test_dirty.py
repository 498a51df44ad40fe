# SPDX-License-Identifier: GPL-2.0-or-later
"""The log of written pages, read while the guest writes: each page that the guest's own record names is in it, and no other."""
import re
import subprocess
import time

import pytest

import vmm

FIRST, PAGES = 0x1000000 >> 12, 4096  # dirty.asm
KINDS = [("bitmap", 1, ""), ("bitmap", 2, ""), ("ring", 2, ",dirty-ring-size=1024")]


def read_log(m):
    """The numbers of all pages that the log names, which forgets them."""
    pages = set()
    for run in m.qmp.command("x-dirty-log-read"):
        assert run["gpa"] % 4096 == 0 and run["pages"] > 0, f"not a run of pages: {run}"
        pages.update(range(run["gpa"] >> 12, (run["gpa"] >> 12) + run["pages"]))
    return pages


def in_region(pages):
    return {p - FIRST for p in pages if FIRST <= p < FIRST + PAGES}


def record(m):
    """What the guest says that it wrote since it was last asked."""
    m.send("p")
    bits = int(m.wait_text("\n", 60).strip()[-PAGES // 4:], 16)
    return {i for i in range(PAGES) if bits >> i & 1}


def compare(logged, written, when):
    missing, more = written - logged, logged - written
    assert not missing, f"{len(missing)} of {len(written)} pages that the guest wrote {when} are not in the log: {sorted(missing)[:10]}"
    assert not more, f"the log names {len(more)} pages that the guest did not write {when}: {sorted(more)[:10]}"


@pytest.mark.parametrize("kind,cpus,option", KINDS, ids=[f"{k}-{c}" for k, c, _ in KINDS])
def test_each_written_page_is_reported(bare, kind, cpus, option):
    m = bare("dirty", "-smp", str(cpus), accel="kvm" + option, defines=("AP",) if cpus > 1 else (), qmp=True)
    m.wait_text("ready\n", 30)
    m.send("w")
    m.wait_text("wrote\n", 30)
    record(m)  # before the log: nobody asks for it
    m.qmp.command("x-dirty-log-start")
    read_log(m)
    for n in range(3):
        m.send("w")
        m.wait_text("wrote\n", 30)
        logged = in_region(read_log(m))
        compare(logged, record(m), f"in round {n}")
    # A page written again after a look is reported again.
    logged, looks = set(), 0
    m.send("g")
    m.wait_text("going\n", 30)
    for _ in range(6):
        time.sleep(0.1)
        now = in_region(read_log(m))
        looks += bool(now)
        logged |= now
    m.send("s")
    m.wait_text("stopped\n", 30)
    logged |= in_region(read_log(m))
    compare(logged, record(m), "while the log was read")
    assert looks >= 2, "the log was empty while the guest wrote"
    assert not in_region(read_log(m)), "the log names pages although the guest wrote none since the last look"
    m.qmp.command("x-dirty-log-stop")
    assert "error" in m.qmp.execute("x-dirty-log-read"), "a log that was stopped can be read"
    m.qmp.command("x-dirty-log-start")
    read_log(m)
    m.send("w")
    m.wait_text("wrote\n", 30)
    logged = in_region(read_log(m))
    compare(logged, record(m), "after the log was stopped and started again")


@pytest.mark.parametrize("mode,option", [("dirty-bitmap", ""), ("dirty-ring", ",dirty-ring-size=1024")])
def test_dirty_rate(bare, mode, option):
    m = bare("dirty", accel="kvm" + option, qmp=True)
    m.wait_text("ready\n", 30)
    m.send("g")
    m.wait_text("going\n", 30)
    m.qmp.command("calc-dirty-rate", **{"calc-time": 1, "mode": mode})
    end = time.monotonic() + 20 * vmm.SLOW
    while (answer := m.qmp.command("query-dirty-rate"))["status"] == "measuring" and time.monotonic() < end:
        time.sleep(0.2)
    assert answer["status"] == "measured" and answer["mode"] == mode and answer["dirty-rate"] > 0, answer


@pytest.mark.parametrize("option", ["", ",dirty-ring-size=4096"], ids=["bitmap", "ring"])
def test_pages_that_the_disk_writes(linux, outer, work, option):
    """A device's writes (DMA of the virtio disk) are in the log like the CPU's."""
    program = f"{work}/pages"
    subprocess.run(["gcc", "-static", "-O1", "-o", program, __file__.replace("test_dirty.py", "pages.c")], check=True)
    disk = "/tmp/disk-dirty"
    outer.shell(f"head -c 1048576 /dev/urandom > {disk}")
    with open(program, "rb") as f:
        m = linux("-drive", f"file={disk},format=raw,if=virtio", accel="kvm" + option, modules=("virtio_pci", "virtio_blk"),
                  script="/pages", extra={"pages": (0o100755, f.read())}, qmp=True)
    m.wait_text("VT waiting", 120)
    m.qmp.command("x-dirty-log-start")
    read_log(m)
    m.send("\n")
    text = m.wait_text("VT pages written", 30)
    logged = read_log(m)
    named = re.findall(r"PFN (cpu|disk) ([0-9a-f]+)", text)
    assert len(named) == 64
    for who in ("cpu", "disk"):
        missing = [pfn for w, pfn in named if w == who and int(pfn, 16) not in logged]
        assert not missing, f"of the 32 pages written by the {who}, {len(missing)} are not in the log"
