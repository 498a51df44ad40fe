# SPDX-License-Identifier: GPL-2.0-or-later
"""Part of `make bench`: vireo-img beside Debian's qemu-img: requests on images of all kinds, conversion, check, create, info, growth.

usage: disks.py BUILD [--runs N] [--only requests|images|growth|nbd]... [--write]

Both programs run the same command lines in turn, on the same images, which Debian's qemu-img made. The best of the runs counts; --write puts
the tables into docs/benchmarks.md. The images take some 10 GiB in TMPDIR (default /var/tmp), for as long as it runs.
"""
import argparse
import math
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
QEMU = "/usr/bin/qemu-img"
MIB, GIB = 1 << 20, 1 << 30


def run(*words, cwd=None):
    done = subprocess.run([str(w) for w in words], cwd=cwd, capture_output=True, text=True, timeout=1800, check=False)
    if done.returncode:
        sys.exit(f"disks.py: {' '.join(map(str, words))}: {done.stdout}{done.stderr}")
    return done.stdout


def drop_cache(*paths):
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def fill_cache(*paths):
    """Nothing is read from the disk afterwards, and nothing waits to be written."""
    os.sync()
    for path in paths:
        with open(path, "rb", buffering=0) as f:
            buffer = bytearray(MIB)
            while f.readinto(buffer):
                pass


def geometric(values):
    return math.exp(sum(map(math.log, values)) / len(values))


# ---- requests ----

SIZE = 512 * MIB


def write_random(path, size):
    rng = random.Random(1)
    block = rng.randbytes(MIB)
    with open(path, "wb") as f:
        for i in range(size // MIB):
            f.write(struct.pack("<Q", i) + block[8:])


def make_images(d):
    """{name: (path, format, files)}"""
    write_random(os.path.join(d, "raw"), SIZE)
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "raw", "full.qcow2", cwd=d)
    below = "full.qcow2"
    for i in range(1, 8):
        name = f"chain{i}.qcow2"
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", below, "-F", "qcow2", name, cwd=d)
        run("qemu-io", "-c", f"write -P {i} {i * 32}M 16M", name, cwd=d)
        below = name
    run("qemu-img", "create", "-q", "-f", "qcow2", "new.qcow2", SIZE, cwd=d)
    return {"raw": ("raw", "raw"), "new qcow2": ("new.qcow2", "qcow2"), "full qcow2": ("full.qcow2", "qcow2"), "chain of 8": ("chain7.qcow2", "qcow2")}


def bench(program, d, path, fmt, write, size, step, depth, count, cold):
    """Requests per second."""
    (drop_cache if cold else fill_cache)(*(os.path.join(d, n) for n in os.listdir(d) if cold or not n.startswith("w-") or n == path))
    words = [program, "bench", "-f", fmt, "-c", count, "-d", depth, "-s", size, "-S", step, *(["-w"] if write else []), *(["-t", "none"] if cold else []), path]
    return count / float(re.search(r"completed in ([0-9.]+)", run(*words, cwd=d))[1])


# Steps that come to every part of the image in no order the host would read ahead: an odd number of units, coprime to their number.
KINDS = (("4 KiB random", 4096, 4096 * 77773), ("64 KiB sequential", 65536, 65536))


def beside_raw(vireo, d, runs):
    """The rate on the full qcow2 image beside that on the raw one, in turn. What a write into the host's cache costs depends on the size of the pieces
    in which the file came there, so both are copied in the same way right before."""
    ratios = []
    for _, size, step in KINDS:
        for write in (False, True):
            for depth in (1, 32):
                best = {"raw": 0, "qcow2": 0}
                for _ in range(runs):
                    for fmt, path in (("raw", "raw"), ("qcow2", "full.qcow2")):
                        target = "w-" + path if write else path
                        if write:
                            shutil.copyfile(os.path.join(d, path), os.path.join(d, target))
                        best[fmt] = max(best[fmt], bench(vireo, d, target, fmt, write, size, step, depth, 50000 if size == 4096 else 8000, False))
                ratios.append(best["qcow2"] / best["raw"])
    return geometric(ratios)


def requests(vireo, d, runs):
    rows, images = [], make_images(d)
    for name, (path, fmt) in images.items():
        for cold in (False, True):
            for kind, size, step in KINDS:
                for write in (False, True):
                    if cold and name == "new qcow2" and not write:
                        continue  # nothing is read there
                    for depth in (1, 32):
                        rows.append((name, "cold, O_DIRECT" if cold else "warm", kind, "writes" if write else "reads", depth,
                                     (path, fmt, write, size, step, depth, cold)))
    best = {}
    for n in range(runs + 3):
        for row in rows:
            path, fmt, write, size, step, depth, cold = row[5]
            if n >= runs and not cold:
                continue  # a disk that others share varies more than memory does
            count = (8000 if size == 4096 else 4000) if cold else (50000 if size == 4096 else 8000)
            for side, program in (("vireo", vireo), ("qemu", QEMU)):
                target = path
                if write:  # each program writes its own fresh copy: an overlay stays an overlay
                    target = "w-" + path
                    if row[0] == "new qcow2":
                        run("qemu-img", "create", "-q", "-f", "qcow2", target, SIZE, cwd=d)
                    elif not os.path.exists(os.path.join(d, target)):
                        shutil.copyfile(os.path.join(d, path), os.path.join(d, target))
                        os.sync()
                rate = bench(program, d, target, fmt, write, size, step, depth, count, cold)
                best[side, row[:5]] = max(rate, best.get((side, row[:5]), 0))
    lines = ["| image | cache | requests | depth | vireo-img, /s | qemu-img, /s | vireo-img / qemu-img |", "|---|---|---|---:|---:|---:|---:|"]
    ratios = []
    for row in rows:
        ours, theirs = best["vireo", row[:5]], best["qemu", row[:5]]
        ratios.append(ours / theirs)
        lines.append(f"| {row[0]} | {row[1]} | {row[2]} {row[3]} | {row[4]} | {ours:,.0f} | {theirs:,.0f} | {ours / theirs:.2f}{' (goal: 0.95)' if ours < theirs * 0.95 else ''} |")
    lines.append(f"| **geometric mean** | | | | | | **{geometric(ratios):.2f}** |")
    lines.append(f"| full qcow2 beside raw, warm, vireo-img | | all | | | | {beside_raw(vireo, d, max(runs, 5)):.2f} (goal: 0.95) |")
    return "\n".join(lines)


# ---- images ----

def make_source(path):
    """2 GiB, each other MiB a hole, half of the rest compressible."""
    rng = random.Random(5)
    base = rng.randbytes(MIB)
    with open(path, "wb") as f:
        f.truncate(2 * GIB)
        for i in range(0, 2048, 2):
            piece = bytearray(base)
            for k in range(0, MIB, 4096):
                piece[k:k + 2048] = (b"%08d abcdefg " % (i * 256 + k))[:16] * 128
            f.seek(i * MIB)
            f.write(piece)


def make_tera(path):
    """1 TiB of which 1 million clusters are allocated, in a file of some 64 GiB that is nearly all holes."""
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", path, 61 * GIB)
    run("qemu-img", "resize", "-q", path, 1 << 40)


def seconds(words, d):
    start = time.monotonic()
    run(*words, cwd=d)
    return time.monotonic() - start


def images(vireo, d, runs):
    make_source(os.path.join(d, "source.raw"))
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "source.raw", "source.qcow2", cwd=d)
    make_tera(os.path.join(d, "tera.qcow2"))
    os.sync()
    # Name, command, how often it runs in a row, how many rounds more than the others: what takes a third of a second and writes a GiB varies.
    rows = (("convert, 2 GiB half-empty, raw to qcow2", ["convert", "-f", "raw", "-O", "qcow2", "source.raw", "out"], 1, 7),
            ("convert, the same, qcow2 to raw", ["convert", "-f", "qcow2", "-O", "raw", "source.qcow2", "out"], 1, 7),
            ("convert, the same, raw to compressed qcow2", ["convert", "-c", "-f", "raw", "-O", "qcow2", "source.raw", "out"], 1, -1),
            ("check, 1 TiB with 1 million clusters", ["check", "-q", "tera.qcow2"], 1, 0),
            ("create, qcow2 of 100 GiB", ["create", "-q", "-f", "qcow2", "out", "100G"], 20, 0),
            ("info of it", ["info", "source.qcow2"], 20, 0))
    best = {}
    for name, words, times, more in rows:
        for _ in range(max(runs + more, 1)):
            for side, program in (("vireo", vireo), ("qemu", QEMU)):
                for _ in range(times):
                    out = os.path.join(d, "out")
                    if os.path.exists(out):
                        os.unlink(out)
                        if times == 1:
                            os.sync()
                    best[side, name] = min(seconds([program, *words], d), best.get((side, name), 1e9))
    lines = ["| row | vireo-img, s | qemu-img, s | vireo-img / qemu-img |", "|---|---:|---:|---:|"]
    ratios = []
    for name, *_ in rows:
        ours, theirs = best["vireo", name], best["qemu", name]
        ratios.append(ours / theirs)
        lines.append(f"| {name} | {ours:.4g} | {theirs:.4g} | {ours / theirs:.2f}{' (goal: 1)' if ours > theirs else ''} |")
    lines.append(f"| **geometric mean** | | | **{geometric(ratios):.2f}** |")
    return "\n".join(lines)


# ---- growth ----

def growth(vireo, d, runs):
    """Warm random reads of 4 KiB, microseconds each, depth 1."""
    def micros(path, count=20000, size=4096, step=4096 * 7919):
        return min(1e6 / bench(vireo, d, path, "qcow2", False, size, step, 1, count, False) for _ in range(max(runs, 2)))

    lines = ["| what grows | | | | | |", "|---|---:|---:|---:|---:|---:|"]
    sizes = [("1 GiB", GIB), ("64 GiB", 64 * GIB), ("1 TiB", 1 << 40), ("16 TiB", 16 << 40)]
    row = []
    for name, size in sizes:
        run("qemu-img", "create", "-q", "-f", "qcow2", "g.qcow2", size, cwd=d)
        unit = size // 1024 & ~65535
        run("qemu-io", *(w for i in range(1000) for w in ("-c", f"write -q -P 1 {i * unit} 4k")), "g.qcow2", cwd=d)
        row.append((name, micros("g.qcow2", step=unit)))
    lines.append("| size of the image: µs for a read, 1,000 places all over it | " + " | ".join(f"{n}: {v:.2f}" for n, v in row) + " | |")
    row, below = [], None
    for depth in range(1, 65):
        name = f"d{depth}.qcow2"
        run("qemu-img", "create", "-q", "-f", "qcow2", *(["-b", below, "-F", "qcow2"] if below else []), name, *([] if below else ["256M"]), cwd=d)
        if not below:
            run("qemu-io", "-c", "write -P 1 0 256M", name, cwd=d)
        below = name
        if depth in (1, 8, 64):
            row.append((depth, micros(name)))
    lines.append("| images in the chain, all data in the lowest: µs for a read | " + " | ".join(f"{n}: {v:.2f}" for n, v in row) + " | | |")
    row = []
    for disks in (1, 8, 32):
        start = time.monotonic()
        each = 320000 // disks
        running = [subprocess.Popen([vireo, "bench", "-f", "qcow2", "-c", str(each), "-d", "1", "-S", str(4096 * 7919), "d1.qcow2"], cwd=d, stdout=subprocess.DEVNULL)
                   for _ in range(disks)]
        for p in running:
            if p.wait():
                sys.exit("disks.py: bench failed")
        row.append((disks, (time.monotonic() - start) / (each * disks) * 1e6 * min(disks, os.cpu_count())))
    lines.append("| disks read at the same time: µs of a processor for a read | " + " | ".join(f"{n}: {v:.2f}" for n, v in row) + " | | |")
    return "\n".join(lines)


# ---- NBD ----

def nbd(vireo, d, runs):
    """Our server beside qemu-nbd with the same clients; our client beside qemu-img on the same server."""
    write_random(os.path.join(d, "raw"), SIZE)
    tool = os.path.join(os.path.dirname(vireo), "tests", "block", "nbdtool")
    ours = subprocess.Popen([tool, "serve", os.path.join(d, "v"), "-n", "x", f"driver=raw,file.driver=file,file.filename={d}/raw"], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE)
    theirs = subprocess.Popen(["qemu-nbd", "-r", "-t", "-e", "16", "-x", "x", "-f", "raw", "-k", os.path.join(d, "q"), os.path.join(d, "raw")])
    try:
        ours.stdout.readline()
        while not os.path.exists(os.path.join(d, "q")):
            time.sleep(0.05)
        uri = {side: f"nbd+unix:///x?socket={d}/{name}" for side, name in (("vireo", "v"), ("qemu", "q"))}
        copy = [(f"server: nbdcopy of {SIZE // MIB} MiB", {side: ["sh", "-c", f"nbdcopy --no-extents '{uri[side]}' - >/dev/null"] for side in uri})]
        asked = [(f"server: 20,000 reads of 4 KiB by qemu-img bench, depth {n}", {side: [QEMU, "bench", "-f", "raw", "-c", "20000", "-d", n, "-s", "4096", uri[side]]
                                                                               for side in uri}) for n in ("1", "32")]
        client = [(f"client: 20,000 reads of 4 KiB from qemu-nbd, depth {n}", {side: [program, "bench", "-f", "raw", "-c", "20000", "-d", n, "-s", "4096", uri["qemu"]]
                                                                              for side, program in (("vireo", vireo), ("qemu", QEMU))}) for n in ("1", "32")]
        conversion = [("client: convert from qemu-nbd to raw", {side: [program, "convert", "-f", "raw", "-O", "raw", uri["qemu"], "out"]
                                                               for side, program in (("vireo", vireo), ("qemu", QEMU))})]
        rows = copy + asked + client + conversion
        best = {}
        for _ in range(max(runs, 3)):
            for name, words in rows:
                for side in words:
                    best[side, name] = min(seconds(words[side], d), best.get((side, name), 1e9))
    finally:
        theirs.kill()
        theirs.wait()
        ours.stdin.close()
        ours.wait()
    lines = ["| NBD | vireo, s | qemu, s | vireo / qemu |", "|---|---:|---:|---:|"]
    lines += [f"| {name} | {best['vireo', name]:.4g} | {best['qemu', name]:.4g} | {best['vireo', name] / best['qemu', name]:.2f} |" for name, _ in rows]
    return "\n".join(lines)


def write(text):
    path = os.path.join(ROOT, "docs", "benchmarks.md")
    with open(path, encoding="utf-8") as f:
        page = f.read()
    page = re.sub(r"<!-- disks -->\n.*?<!-- end of disks -->", lambda _: f"<!-- disks -->\n{text}\n<!-- end of disks -->", page, flags=re.S)
    with open(path, "w", encoding="utf-8") as f:
        f.write(page)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", action="append", choices=("requests", "images", "growth", "nbd"))
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    vireo = os.path.abspath(os.path.join(args.build, "vireo-img"))
    tables = []
    for name, fn in (("requests", requests), ("images", images), ("growth", growth), ("nbd", nbd)):
        if args.only and name not in args.only:
            continue
        with tempfile.TemporaryDirectory(prefix="vireo-disks-", dir=os.environ.get("TMPDIR", "/var/tmp")) as d:
            tables.append(fn(vireo, d, args.runs))
        print(tables[-1] + "\n", flush=True)
    if args.write:
        write("\n\n".join(tables))


main()
