# SPDX-License-Identifier: GPL-2.0-or-later
"""Part of `make bench`: a machine saved to a file, loaded, and migrated while it runs, under vireo-vmm's translator and QEMU's, in turn.

usage: migrate.py BUILD [--runs N] [--write]

A Debian kernel with an initial RAM disk; 512 MiB, of which the guest has filled 192 with random bytes. The file is in memory, so that no disk is measured; live
migration goes through a UNIX socket with the same limits (no bandwidth limit, 300 ms of downtime), while the guest does nothing, and while it writes 32 MiB over and over.
Best of the runs; --write puts the table into docs/benchmarks.md.
"""
import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "guest"))
import initramfs  # noqa: E402
import page  # noqa: E402
import vmm  # noqa: E402

QEMU = "/usr/bin/qemu-system-x86_64"
SCRIPT = """
mkdir -p /m && mount -t tmpfs -o size=400m t /m
dd if=/dev/urandom of=/m/a bs=1M count=192 2>/dev/null
echo VT filled
[ "$WRITE" = 1 ] || sleep 600
while true; do dd if=/dev/zero of=/m/b bs=1M count=32 conv=notrunc 2>/dev/null; done
"""
ROWS = (("save", "save to a file, until the machine may end", "s"), ("size", "the file", "MiB"), ("load", "load it, from the start of the process until the guest runs", "s"),
        ("idle", "live migration, the guest idle: all of it", "s"), ("idle_down", "the guest stands still for", "ms"),
        ("busy", "live migration, the guest writes: all of it", "s"), ("busy_down", "the guest stands still for", "ms"))


class Machine:
    def __init__(self, program, work, guest, initrd, *more):
        self.path = tempfile.mktemp(dir=work)
        self.console = open(self.path + ".console", "wb")
        self.begun = time.monotonic()
        self.process = subprocess.Popen([*program, "-machine", "q35", "-cpu", "max", "-m", "512", "-nodefaults", "-display", "none", "-serial", "stdio", "-kernel",
                                         os.path.join(guest, "cloud", "vmlinuz"), "-initrd", initrd, "-append", "console=ttyS0 quiet", "-device", "virtio-net-pci,netdev=n",
                                         "-netdev", "user,id=n", "-qmp", f"unix:{self.path},server=on,wait=off", *more], stdin=subprocess.DEVNULL, stdout=self.console)
        self.qmp = vmm.Qmp(self.path, 60)

    def wait_text(self, text):
        for _ in range(3000):
            with open(self.path + ".console", "rb") as f:
                if text in f.read():
                    return
            time.sleep(0.1)
        sys.exit(f"migrate.py: no '{text.decode()}' from the guest")

    def give(self, fd, name):
        socket.send_fds(self.qmp.sock, [b'{"execute": "getfd", "arguments": {"fdname": "%s"}}\n' % name], [fd])
        assert "return" in self.qmp.reply()

    def limits(self):
        self.qmp.command("migrate-set-parameters", **{"max-bandwidth": 1 << 40, "downtime-limit": 300})

    def finish(self, deadline=120):
        """query-migrate's last word."""
        end = time.monotonic() + deadline
        while (info := self.qmp.command("query-migrate")).get("status") not in ("completed", "failed", "cancelled") and time.monotonic() < end:
            time.sleep(0.002)
        if info.get("status") != "completed":
            sys.exit(f"migrate.py: {self.process.args[0]}: {info}")
        return info

    def wait_running(self):
        while self.qmp.command("query-status")["status"] != "running":
            time.sleep(0.001)

    def end(self):
        self.process.kill()
        self.process.wait()
        self.console.close()


def saved(program, work, guest, initrd):
    m = Machine(program, work, guest, initrd)
    m.wait_text(b"VT filled")
    m.limits()
    file = os.path.join(work, "saved")
    m.qmp.command("stop")
    begun = time.monotonic()
    with open(file, "wb") as f:
        m.give(f.fileno(), b"f")
    m.qmp.command("migrate", uri="fd:f")
    m.finish()
    out = {"save": time.monotonic() - begun, "size": os.path.getsize(file) / (1 << 20)}
    m.end()
    with open(file, "rb") as f:
        m = Machine(program, work, guest, initrd, "-incoming", "defer")
        m.give(f.fileno(), b"f")
    m.qmp.command("migrate-incoming", uri="fd:f")
    m.finish()
    m.qmp.command("cont")
    m.wait_running()
    out["load"] = time.monotonic() - m.begun
    m.end()
    os.unlink(file)
    return out


def live(program, work, guest, initrd, name):
    source = Machine(program, work, guest, initrd)
    source.wait_text(b"VT filled")
    time.sleep(1)
    path = os.path.join(work, "channel")
    target = Machine(program, work, guest, initrd, "-incoming", f"unix:{path}")
    source.limits()
    source.qmp.command("migrate", uri=f"unix:{path}")
    info = source.finish()
    target.wait_running()
    source.end()
    target.end()
    return {name: info["total-time"] / 1000, name + "_down": info["downtime"]}


def table(best):
    lines = ["| row | vireo-vmm | QEMU TCG | QEMU / vireo-vmm |", "|---|---:|---:|---:|"]
    for row, what, unit in ROWS:
        ours, theirs = best["vireo"][row], best["qemu"][row]
        digits = 2 if unit == "s" else 0
        lines.append(f"| {what} | {ours:.{digits}f} {unit} | {theirs:.{digits}f} {unit} | {theirs / ours:.2f} |" if ours else f"| {what} | 0 {unit} | {theirs:.{digits}f} {unit} | |")
    return "\n".join(lines)


def main():
    p = argparse.ArgumentParser(description="saving and migrating a machine beside QEMU")
    p.add_argument("build")
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--write", action="store_true")
    args = p.parse_args()
    build = os.path.abspath(args.build)
    guest, out = os.path.join(build, "guest"), os.path.join(build, "bench")
    os.makedirs(out, exist_ok=True)
    subprocess.run([os.path.join(ROOT, "tests", "guest", "make_kernels.sh"), guest], check=True)
    initrds = {}
    for name, first in (("idle", ""), ("busy", "WRITE=1\n")):
        initrds[name] = os.path.join(out, f"migrate-{name}.initrd")
        with open(initrds[name], "wb") as to:
            to.write(initramfs.build(guest, "cloud", ("virtio_pci", "virtio_net"), first + SCRIPT))
    programs = {"vireo": [os.path.join(build, "vireo-vmm"), "-accel", "jit"], "qemu": [QEMU, "-accel", "tcg"]}
    best = {side: {} for side in programs}
    with tempfile.TemporaryDirectory(dir="/dev/shm") as work:
        for _ in range(args.runs):
            for side, program in programs.items():
                found = saved(program, work, guest, initrds["idle"])
                for name, initrd in initrds.items():
                    found.update(live(program, work, guest, initrd, name))
                print(side, found, flush=True)
                for row, figure in found.items():
                    best[side][row] = min(best[side].get(row, figure), figure)
    print(table(best))
    if args.write:
        page.put("migrate", table(best))


main()
