# SPDX-License-Identifier: GPL-2.0-or-later
"""Part of `make bench`: virtio-net over a TAP interface, guest to host and back, under vireo-vmm's translator and QEMU's, in turn.

usage: network.py BUILD [--runs N] [--write]

A Debian kernel with an initial RAM disk runs tests/guest/nettool.c against a server on the host's side of the interface, in a
network namespace that is made here and removed again. Both programs get the same options. Best of the runs; --write puts the table
into docs/benchmarks.md.
"""
import argparse
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "guest"))
import initramfs  # noqa: E402
import page  # noqa: E402

QEMU = "/usr/bin/qemu-system-x86_64"
SPACE = f"vireo-bench-{os.getpid()}"
HOST, GUEST = "10.9.0.1", "10.9.0.2"
ROWS = (("send", "one TCP stream, guest to host, MiB/s"), ("recv", "one TCP stream, host to guest, MiB/s"),
        ("rr", "requests of one byte, answered by the host, per second"))
SCRIPT = f"""
ip link set lo up; ip addr add {GUEST}/24 dev eth0; ip link set eth0 up; sleep 1
nettool send {HOST} 5001 64; nettool recv {HOST} 5001 64
echo VT go
nettool send {HOST} 5001 512; nettool recv {HOST} 5001 512; nettool rr {HOST} 5001 3
"""


def sh(*words):
    subprocess.run(words, check=True)


class Network:
    """The namespace with the interface and the server in it."""

    def __init__(self, tool):
        inside = ["ip", "netns", "exec", SPACE]
        sh("ip", "netns", "add", SPACE)
        sh(*inside, "ip", "link", "set", "lo", "up")
        sh(*inside, "ip", "tuntap", "add", "tap0", "mode", "tap")
        sh(*inside, "ip", "addr", "add", HOST + "/24", "dev", "tap0")
        sh(*inside, "ip", "link", "set", "tap0", "up")
        self.inside = inside
        self.server = subprocess.Popen([*inside, tool, "serve", "5001"], stdout=subprocess.PIPE)
        self.server.stdout.readline()

    def remove(self):
        self.server.kill()
        self.server.wait()
        subprocess.run(["ip", "netns", "del", SPACE], check=False)


def measure(network, program, guest, initrd):
    """{row: figure} of one boot."""
    command = [*network.inside, *program, "-machine", "q35", "-cpu", "max", "-m", "512", "-nodefaults", "-display", "none", "-serial", "stdio",
               "-no-reboot", "-kernel", os.path.join(guest, "cloud", "vmlinuz"), "-initrd", initrd, "-append", "console=ttyS0 panic=-1 quiet",
               "-netdev", "tap,id=n,ifname=tap0,script=no,downscript=no", "-device", "virtio-net-pci,netdev=n"]
    text = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=300, check=False).stdout
    text = text.split("VT go", 1)[-1]
    found = {"send": re.search(r"send 512 MiB .* s ([0-9.]+) MiB/s ok", text), "recv": re.search(r"recv 512 MiB .* s ([0-9.]+) MiB/s ok", text),
             "rr": re.search(r"rr .* s ([0-9.]+) /s ok", text)}
    missing = [row for row, m in found.items() if not m]
    if missing:
        sys.exit(f"network.py: {program[0]}: no figure for {', '.join(missing)}; the guest said:\n{text}")
    return {row: float(m.group(1)) for row, m in found.items()}


def table(best):
    lines = ["| row | vireo-vmm | QEMU TCG | vireo-vmm / QEMU |", "|---|---:|---:|---:|"]
    lines += [f"| {what} | {best['vireo'][row]:,.0f} | {best['qemu'][row]:,.0f} | {best['vireo'][row] / best['qemu'][row]:.1f} |" for row, what in ROWS]
    return "\n".join(lines)


def main():
    p = argparse.ArgumentParser(description="virtio-net over TAP beside QEMU's translator")
    p.add_argument("build")
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--write", action="store_true")
    args = p.parse_args()
    build = os.path.abspath(args.build)
    guest, out = os.path.join(build, "guest"), os.path.join(build, "bench")
    if os.getuid() or not os.path.exists("/dev/net/tun"):
        print("network.py: left out: it needs root and /dev/net/tun")
        return
    os.makedirs(out, exist_ok=True)
    sh(os.path.join(ROOT, "tests", "guest", "make_kernels.sh"), guest)
    tool, initrd = os.path.join(out, "nettool"), os.path.join(out, "network.initrd")
    sh("cc", "-O2", "-static", "-o", tool, os.path.join(ROOT, "tests", "guest", "nettool.c"), "-lpthread")
    with open(tool, "rb") as f, open(initrd, "wb") as to:
        to.write(initramfs.build(guest, "cloud", ("virtio_pci", "virtio_net", "af_packet"), SCRIPT, extra={"bin/nettool": (0o100755, f.read())}))
    programs = {"vireo": [os.path.join(build, "vireo-vmm"), "-accel", "jit"], "qemu": [QEMU, "-accel", "tcg"]}
    best = {side: {row: 0.0 for row, _ in ROWS} for side in programs}
    network = Network(tool)
    try:
        for _ in range(args.runs):
            for side, program in programs.items():
                for row, figure in measure(network, program, guest, initrd).items():
                    best[side][row] = max(best[side][row], figure)
    finally:
        network.remove()
    print(table(best))
    if args.write:
        page.put("network", table(best))
    sys.exit(0 if all(best["vireo"][row] >= best["qemu"][row] for row, _ in ROWS) else 1)


main()
