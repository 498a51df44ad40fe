# SPDX-License-Identifier: GPL-2.0-or-later
"""Part of `make bench`: a guest reads and writes its virtio disk under both translators, in turn.

usage: guest_disk.py BUILD [--runs N] [--write]

The same kernel, initial RAM disk and image; dd past the guest's cache, timed by the guest's clock. The best of the runs counts.
"""
import argparse
import math
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
GUEST = os.path.join(os.path.dirname(HERE), "guest")
sys.path[:0] = [HERE, GUEST]
MIB = 1 << 20
SIZE = 512 * MIB
ROWS = {"4 KiB reads": ("if=/dev/vda of=/dev/null bs=4k iflag=direct", 20000, 1), "4 KiB writes": ("if=/dev/zero of=/dev/vda bs=4k oflag=direct", 20000, 1),
        "4 KiB reads, 8 at once": ("if=/dev/vda of=/dev/null bs=4k iflag=direct", 5000, 8), "1 MiB reads": ("if=/dev/vda of=/dev/null bs=1M iflag=direct", 500, 1),
        "1 MiB writes": ("if=/dev/zero of=/dev/vda bs=1M oflag=direct", 500, 1), "1 MiB writes, 4 at once": ("if=/dev/zero of=/dev/vda bs=1M oflag=direct", 125, 4)}
IMAGES = {"raw": ("raw", "writeback"), "qcow2": ("qcow2", "writeback"), "raw, cache=none": ("raw", "none"), "qcow2, cache=none": ("qcow2", "none")}


def script():
    lines = ["dd if=/dev/zero of=/dev/vda bs=1M 2>/dev/null; sync", "now() { cut -d' ' -f1 /proc/uptime; }"]
    for i, (words, count, jobs) in enumerate(ROWS.values()):
        one = f"dd {words} count={count} 2>/dev/null"
        many = " ".join(f"{one} skip={j * count} seek={j * count} &" if jobs > 1 else one for j in range(jobs))
        lines += ["before=$(now)", many + (" wait" if jobs > 1 else ""), f'echo "VT row {i} $before $(now)"']
    return "\n".join(lines) + "\n"


def measure(program, accel, kernel, initrd, image, form, cache):
    command = [program, "-accel", accel, "-machine", "q35", "-m", "256", "-smp", "2", "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
               "-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 panic=-1 quiet mitigations=off",
               "-drive", f"file={image},format={form},if=none,id=d,cache={cache}", "-device", "virtio-blk-pci,drive=d"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=900, check=False)
    found = re.findall(r"VT row (\d+) ([0-9.]+) ([0-9.]+)", done.stdout.decode("utf-8", "replace"))
    if len(found) != len(ROWS):
        sys.exit(f"guest_disk.py: {' '.join(command)}: status {done.returncode}: {done.stdout[-500:]!r} {done.stderr[-500:]!r}")
    return {int(row): float(end) - float(begin) for row, begin, end in found}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    import initramfs
    build = os.path.abspath(args.build)
    guest = os.path.join(build, "guest")
    subprocess.run([f"{GUEST}/make_kernels.sh", guest], check=True)
    sides = {"vireo": (os.path.join(build, "vireo-vmm"), "jit"), "qemu": ("/usr/bin/qemu-system-x86_64", "tcg")}
    times = {}
    with tempfile.TemporaryDirectory(prefix="vireo-guest-disk-", dir=os.environ.get("TMPDIR", "/var/tmp")) as d:
        initrd = os.path.join(d, "initrd")
        with open(initrd, "wb") as f:
            f.write(initramfs.build(guest, "cloud", ("virtio_pci", "virtio_blk"), script(), compress=False))
        for name, (form, cache) in IMAGES.items():
            for _ in range(args.runs):
                for side, (program, accel) in sides.items():
                    image = os.path.join(d, "image")
                    subprocess.run(["qemu-img", "create", "-q", "-f", form, image, str(SIZE)], check=True)
                    for row, seconds in measure(program, accel, f"{guest}/cloud/vmlinuz", initrd, image, form, cache).items():
                        times.setdefault((name, row, side), []).append(seconds)
                    os.unlink(image)
    lines = ["| a guest's virtio disk, translators | vireo-vmm, MiB/s | QEMU, MiB/s | vireo-vmm / QEMU |", "|---|---:|---:|---:|"]
    ratios = []
    for name in IMAGES:
        for row, (label, (words, count, jobs)) in enumerate(ROWS.items()):
            unit = MIB if "bs=1M" in words else 4096
            ours, theirs = (count * jobs * unit / MIB / max(min(times[name, row, side]), 0.01) for side in ("vireo", "qemu"))
            ratios.append(ours / theirs)
            lines.append(f"| {name}: {label} | {ours:.0f} | {theirs:.0f} | {ours / theirs:.2f}{'' if ours >= theirs else ' (goal: 1)'} |")
    lines.append(f"| **geometric mean** | | | {math.exp(sum(map(math.log, ratios)) / len(ratios)):.2f} |")
    print("\n".join(lines), flush=True)
    if args.write:
        import idle
        idle.write(os.path.join(os.path.dirname(os.path.dirname(HERE)), "docs", "benchmarks.md"), "guest-disk", "\n".join(lines))


if __name__ == "__main__":
    main()
