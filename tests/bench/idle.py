# SPDX-License-Identifier: GPL-2.0-or-later
"""`make bench`, part: what a machine costs that does nothing, beside Debian's QEMU.

usage: idle.py BUILD [--machines N] [--no-debian] [--write]

Private memory is what smaps calls Private_Clean and Private_Dirty, without the guest's RAM, which is a memfd under both
programs: what the process itself needs for one more machine. The guest is a halted program of a few bytes; last, a Debian
that has been idle for a minute. --write puts the table into docs/benchmarks.md.
"""
import argparse
import os
import re
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
QEMU = "/usr/bin/qemu-system-x86_64"
SIDES = ("vireo", "qemu")
RAM = re.compile(r"/memfd:(pc\.ram|memory-backend-memfd)")


class Idle:
    def __init__(self, args):
        self.args = args
        self.out = os.path.join(args.build, "bench")
        self.guest = os.path.join(args.build, "guest")
        self.rows = []
        os.makedirs(self.out, exist_ok=True)
        self.flat = os.path.join(self.out, "halt.flat")
        asm = os.path.join(ROOT, "tests", "guest", "asm")
        subprocess.run(["nasm", "-f", "bin", "-I", asm + "/", "-o", self.flat, os.path.join(asm, "halt.asm")], check=True)

    def command(self, side, machine, memory):
        if side == "vireo":
            return [os.path.join(self.args.build, "vireo-vmm"), "-accel", "jit", "-object", f"memory-backend-memfd,id=pc.ram,size={memory}M",
                    "-machine", f"{machine},memory-backend=pc.ram", "-m", memory]
        return [QEMU, "-accel", "tcg", "-object", f"memory-backend-memfd,id=m,size={memory}M,share=on",
                "-machine", f"{machine},memory-backend=m", "-m", memory]

    @staticmethod
    def usage(pid):
        """KiB: private and proportional memory of the process without the guest's RAM."""
        private = pss = 0
        ram = False
        with open(f"/proc/{pid}/smaps", encoding="utf-8") as f:
            for line in f:
                if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                    ram = bool(RAM.search(line))
                elif not ram and line.startswith(("Private_Clean:", "Private_Dirty:")):
                    private += int(line.split()[1])
                elif not ram and line.startswith("Pss:"):
                    pss += int(line.split()[1])
        return private, pss

    def start_flat(self, side, machine, count):
        """`count` machines that have said that they halt; seconds until all had."""
        logs = [os.path.join(self.out, f"idle-{side}-{i}.console") for i in range(count)]
        running = []
        begun = time.monotonic()
        for log in logs:
            if os.path.exists(log):
                os.unlink(log)
            running.append(subprocess.Popen(self.command(side, machine, "128") + ["-nodefaults", "-display", "none", "-serial", f"file:{log}",
                                                                                  "-kernel", self.flat],
                                            stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        waiting = set(logs)
        while waiting and time.monotonic() - begun < 300:
            for log in list(waiting):
                if os.path.exists(log):
                    with open(log, "rb") as f:
                        if b"halting" in f.read():
                            waiting.remove(log)
            time.sleep(0.005)
        took = time.monotonic() - begun
        if waiting:
            self.stop(running, logs)
            sys.exit(f"idle.py: {len(waiting)} of {count} machines of {side} did not start")
        return running, logs, took

    @staticmethod
    def stop(running, logs):
        for p in running:
            p.kill()
        for p in running:
            p.wait()
        for log in logs:
            if os.path.exists(log):
                os.unlink(log)

    def flat_rows(self, machine, count):
        found = {}
        for side in SIDES:
            running, logs, took = self.start_flat(side, machine, count)
            time.sleep(1)
            usage = [self.usage(p.pid) for p in running]
            ticks = [self.ticks(p.pid) for p in running]
            time.sleep(5)
            cpu = sum(self.ticks(p.pid) - t for p, t in zip(running, ticks)) / os.sysconf("SC_CLK_TCK") / 5
            self.stop(running, logs)
            found[side] = (statistics.median(u[0] for u in usage), sum(u[1] for u in usage), took, cpu)
        v, q = found["vireo"], found["qemu"]
        mib = (lambda k: f"{k / 1024:.1f}")
        self.rows.append(f"| private memory of an idle {machine}, MiB (median of {count}) | {mib(v[0])} | {mib(q[0])} | {q[0] / v[0]:.1f} |")
        if machine == "q35":
            self.rows.append(f"| {count} idle {machine} at once, MiB in all | {mib(v[1])} | {mib(q[1])} | {q[1] / v[1]:.1f} |")
            self.rows.append(f"| seconds to start these {count}, one after the other | {v[2]:.2f} | {q[2]:.2f} | {q[2] / v[2]:.1f} |")
            self.rows.append(f"| CPU that these {count} use while idle, cores | {v[3]:.3f} | {q[3]:.3f} | - |")

    @staticmethod
    def ticks(pid):
        with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    def debian(self):
        found = {}
        for side in SIDES:
            disk, log = os.path.join(self.out, "idle.img"), os.path.join(self.out, "idle.console")
            subprocess.run(["cp", "--sparse=always", os.path.join(self.guest, "disk.img"), disk], check=True)
            if os.path.exists(log):
                os.unlink(log)
            p = subprocess.Popen(self.command(side, "q35", "512") + [
                "-cpu", "max", "-nodefaults", "-display", "none", "-serial", f"file:{log}", "-no-reboot",
                "-kernel", os.path.join(self.guest, "vmlinuz"), "-initrd", os.path.join(self.guest, "initrd.img"),
                "-append", "root=/dev/vda rw console=ttyS0", "-drive", f"file={disk},format=raw,if=virtio",
                "-nic", "user,model=virtio-net-pci"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            end = time.monotonic() + 300
            while time.monotonic() < end and p.poll() is None:
                time.sleep(0.5)
                if os.path.exists(log):
                    with open(log, "rb") as f:
                        if b"login: " in f.read():
                            break
            else:
                sys.exit(f"idle.py: Debian did not start under {side}")
            time.sleep(60)
            found[side] = self.usage(p.pid)[0]
            p.kill()
            p.wait()
            os.unlink(disk)
        v, q = found["vireo"], found["qemu"]
        self.rows.append(f"| private memory under a Debian a minute after `login:`, MiB | {v / 1024:.1f} | {q / 1024:.1f} | {q / v:.1f} |")

    def run(self):
        self.flat_rows("q35", self.args.machines)
        self.flat_rows("microvm", min(self.args.machines, 10))
        if self.args.debian:
            self.debian()
        table = "\n".join(["| idle machines, translator | vireo-vmm | QEMU TCG | QEMU / vireo-vmm |", "|---|---:|---:|---:|"] + self.rows)
        print(table)
        if self.args.write:
            write(os.path.join(ROOT, "docs", "benchmarks.md"), "idle", table)


def write(path, mark, table):
    """Replaces what stands between <!-- MARK --> and <!-- end of MARK -->."""
    with open(path, encoding="utf-8") as f:
        before, middle = f.read().split(f"<!-- {mark} -->\n")
        _, after = middle.split(f"<!-- end of {mark} -->")
    with open(path + ".new", "w", encoding="utf-8") as f:
        f.write(f"{before}<!-- {mark} -->\n{table}\n<!-- end of {mark} -->{after}")
    os.replace(path + ".new", path)


def main():
    p = argparse.ArgumentParser(description="idle machines beside QEMU's, in one run")
    p.add_argument("build")
    p.add_argument("--machines", type=int, default=100)
    p.add_argument("--no-debian", dest="debian", action="store_false")
    p.add_argument("--write", action="store_true")
    args = p.parse_args()
    args.build = os.path.abspath(args.build)
    Idle(args).run()


if __name__ == "__main__":
    main()
