# SPDX-License-Identifier: GPL-2.0-or-later
"""`make bench`: the same guest, kernel and disk under vireo-vmm and under Debian's qemu-system-x86_64 -accel tcg, in turn.

usage: bench.py BUILD [--rows NAME,...] [--runs N] [--quick] [--write] [--smp N] [--memory SIZE] [--guest DIRECTORY]

Each run boots the guest once under each program, logs in on the serial console and has it do the rows' work (rows.sh). The
host's clock decides, read when the marks before and after the work arrive on the console; a guest whose own clock tells
another time is reported. Best of the runs. Other load on the host disturbs: the ratio of the CPU time that the two processes
used stands beside. --write puts the table into docs/benchmarks.md.
"""
import argparse
import datetime
import os
import platform
import re
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
QEMU = "/usr/bin/qemu-system-x86_64"
PROGRAM = "/usr/lib/x86_64-linux-gnu/libcrypto.so.3"  # of the guest; what gzip and 7-Zip compress
# Row: what the table says, seconds it may take in a guest.
BOOT = {"init": ("power on to user space", 300), "login": ("power on to `login:`", 400)}
WORK = {
    "sha256": ("SHA-256 of 128 MiB (openssl)", 120),
    "aes": ("AES-128-CBC of 128 MiB (openssl)", 120),
    "rsa": ("1000 RSA-2048 signatures (openssl)", 120),
    "gzip": ("gzip -9 and test, 5 MB program", 120),
    "7zip": ("7-Zip, one thread, 5 MB program", 240),
    "sqlite": ("SQLite counts 400,000 rows", 120),
    "awk": ("1,000,000 rounds of floating point in awk", 120),
    "fork": ("300 forks (fork, exec, wait)", 120),
    "bytes": ("300,000 one-byte reads and writes (dd)", 120),
}
START = "start"
START_KVM = "start-kvm"  # where /dev/kvm opens
SIDES = ("vireo", "qemu")


class Failed(Exception):
    pass


class Guest:
    """A program under test with its serial console on standard output; every chunk is kept with the time it came."""

    def __init__(self, cmd, log):
        self.log = open(log, "wb")
        self.errors = open(log + ".stderr", "wb")
        self.seen, self.mark = b"", 0
        self.begun = time.monotonic()
        self.process = subprocess.Popen(cmd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
                                        start_new_session=True)

    def wait(self, pattern, limit, what):
        """(match, time of arrival) of the next text that fits."""
        end = time.monotonic() + limit
        regex = re.compile(pattern)
        fd = self.process.stdout.fileno()
        now = time.monotonic()
        while True:
            m = regex.search(self.seen, self.mark)
            if m:
                self.mark = m.end()
                return m, now
            ready, _, _ = select.select([fd], [], [], max(0, end - time.monotonic()))
            if not ready:
                raise Failed(f"{what}: nothing after {limit} s; the console is in {self.log.name}")
            chunk = os.read(fd, 65536)
            now = time.monotonic()
            if not chunk:
                raise Failed(f"{what}: the program ended; the console is in {self.log.name}")
            self.log.write(chunk)
            self.seen += chunk

    def cpu(self):
        """Seconds of CPU that the whole process has used."""
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def send(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.log.close()
        self.errors.close()


class Bench:
    def __init__(self, args):
        self.args = args
        self.out = os.path.join(args.build, "bench")
        self.guest = args.guest or os.path.join(args.build, "guest")
        self.programs = {"vireo": [os.path.join(args.build, "vireo-vmm"), "-accel", "jit"],
                         "qemu": [QEMU, "-accel", "tcg"]}
        self.times = {}   # (row, side) -> seconds of each run; (row, "native") as well
        self.cpu = {}     # the same, CPU time of the process
        self.peak = {s: [] for s in SIDES}
        self.trouble = []
        os.makedirs(self.out, exist_ok=True)

    def note(self, row, side, seconds, cpu=None):
        self.times.setdefault((row, side), []).append(seconds)
        if cpu is not None:
            self.cpu.setdefault((row, side), []).append(cpu)

    def best(self, row, side, what=None):
        times = (what or self.times).get((row, side))
        return None if not times else statistics.median(times) if row in (START, START_KVM) else min(times)

    def wanted(self, names):
        return [n for n in names if not self.args.rows or n in self.args.rows]

    # The guest.

    def command(self, side, disk):
        return self.programs[side] + [
            "-machine", "q35", "-cpu", "max", "-smp", str(self.args.smp), "-m", self.args.memory, "-nodefaults",
            "-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", os.path.join(self.guest, "vmlinuz"),
            "-initrd", os.path.join(self.guest, "initrd.img"), "-append", "root=/dev/vda rw console=ttyS0",
            "-drive", f"file={disk},format=raw,if=virtio", "-nic", "user,model=virtio-net-pci"]

    def image(self):
        """A copy of the guest's disk with rows.sh in it; nothing is mounted."""
        disk = os.path.join(self.out, "disk.img")
        subprocess.run(["cp", "--sparse=always", os.path.join(self.guest, "disk.img"), disk], check=True)
        subprocess.run(["debugfs", "-w", "-R", f"write {HERE}/rows.sh /root/rows.sh", disk], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return disk

    def work(self, guest, row, limit):
        """Has the guest's shell do one row: seconds by the host's clock, seconds of CPU that the process used."""
        # The marks are split so that an echo of the line is not taken for them.
        guest.send(f"echo VB''EGIN; b=$EPOCHREALTIME; sh /root/rows.sh {row} /dev/shm; r=$?; "
                   "echo VE''ND $r $(( ${EPOCHREALTIME/./} - ${b/./} ))\n")
        _, begun = guest.wait(rb"VBEGIN\r?\n", limit, row)
        cpu = guest.cpu()
        if row == "rsa":
            took, count = self.signing(guest, limit)
            cpu = (guest.cpu() - cpu) / count * 1000
        m, ended = guest.wait(rb"VEND (\d+) (\d+)\r?\n", limit, row)
        host, own = ended - begun, int(m.group(2)) / 1e6
        if m.group(1) != b"0":
            raise Failed(f"{row}: the guest's command ended with status {int(m.group(1))}; "
                         f"the console is in {guest.log.name}")
        if row != "prepare" and abs(host - own) > 0.1 + 0.05 * host:
            self.trouble.append(f"{row} ({os.path.basename(guest.log.name)}): {own:.2f} s by the guest's clock, "
                                f"{host:.2f} s by the host's")
        return (took, cpu) if row == "rsa" else (host, guest.cpu() - cpu)

    @staticmethod
    def signing(guest, limit):
        """Seconds for 1000 signatures, and how many were made. `openssl speed` counts them for some seconds, which are taken from
        the host's clock."""
        _, begun = guest.wait(rb"Doing 2048 bits? private rsa", limit, "rsa")
        m, ended = guest.wait(rb"(\d+) 2048 bits? private RSA", limit, "rsa")
        if not int(m.group(1)):
            raise Failed("rsa: not one signature within the time")
        return (ended - begun) / int(m.group(1)) * 1000, int(m.group(1))

    def run_guest(self, side, number):
        disk = self.image()
        guest = Guest(self.command(side, disk), os.path.join(self.out, f"{side}{number}.console"))
        try:
            _, when = guest.wait(rb"Loading, please wait", BOOT["init"][1], "power on to user space")
            self.note("init", side, when - guest.begun, guest.cpu())
            _, when = guest.wait(rb"login: ", BOOT["login"][1], "power on to login:")
            self.note("login", side, when - guest.begun, guest.cpu())
            rows = self.wanted(WORK)
            if rows:
                guest.send("root\n")
                guest.wait(rb"# ", 60, "login as root")
                # Services that start late would be measured with the first row.
                guest.send("PS1=; stty -echo; export TERM=dumb; systemctl is-system-running --wait >/dev/null; "
                           f"sleep 1; cp {PROGRAM} /dev/shm/program; echo VR''EADY\n")
                guest.wait(rb"VREADY\r?\n", 200, "the guest's start")
                self.work(guest, "prepare", 120)
            for row in rows:
                try:
                    self.note(row, side, *self.work(guest, row, WORK[row][1]))
                except Failed as e:
                    self.trouble.append(f"{side}: {e}")
                    if "status" not in str(e):
                        raise
        except Failed as e:
            if str(e) not in (self.trouble[-1:] or [""])[0]:
                self.trouble.append(f"{side}: {e}")
        finally:
            guest.end()
            os.unlink(disk)

    # The host.

    def run_native(self, rows):
        """The rows' work on the host itself, with the guest's file as data; best of two."""
        memory = "/dev/shm" if os.path.isdir("/dev/shm") and shutil.disk_usage("/dev/shm").free > 256 << 20 else self.out
        with tempfile.TemporaryDirectory(dir=memory) as tmp:
            subprocess.run(["debugfs", "-R", f"dump {PROGRAM} {tmp}/program", os.path.join(self.guest, "disk.img")],
                           check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            script = ["sh", os.path.join(HERE, "rows.sh")]
            subprocess.run(script + ["prepare", tmp], check=True)
            for row in rows * 2:
                start = time.monotonic()
                done = subprocess.run(script + [row, tmp], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                      check=False)
                took = time.monotonic() - start
                if done.returncode == 0:
                    m = re.search(r"(\d+) 2048 bits? private RSA\S* in ([0-9.]+)s", done.stdout) if row == "rsa" else None
                    self.note(row, "native", float(m.group(2)) / int(m.group(1)) * 1000 if m else took)

    # Exec to the first instruction.

    def run_start(self, row, count):
        spawn, flat = os.path.join(self.out, "spawn"), os.path.join(self.out, "hello.flat")
        subprocess.run(["cc", "-O2", "-o", spawn, os.path.join(HERE, "spawn.c")], check=True)
        asm = os.path.join(ROOT, "tests", "guest", "asm")
        subprocess.run(["nasm", "-f", "bin", "-I", asm + "/", "-o", flat, os.path.join(asm, "hello.asm")], check=True)
        rest = ["-machine", "q35", "-m", "128", "-nodefaults", "-display", "none", "-serial", "stdio",
                "-device", "isa-debug-exit,iobase=0xf4,iosize=0x4", "-kernel", flat]
        if row == START_KVM:
            rest += ["-accel", "kvm"]
        for i in range(count + 1):
            for side in SIDES:
                program = self.programs[side] if row == START else self.programs[side][:1]
                cmd = [spawn, str(0x2a << 1 | 1)] + program + rest
                done = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
                if done.returncode:
                    self.trouble.append(f"{side}: the few-byte guest did not end with its value ({row})")
                    return
                if i:  # the first run fills the page cache
                    nanoseconds, kib, microseconds = map(int, done.stdout.split())
                    self.note(row, side, nanoseconds / 1e9, microseconds / 1e6)
                    if row == START:
                        self.peak[side].append(kib / 1024)

    # The table.

    def line(self, row, label):
        vireo, qemu, native = (self.best(row, s) for s in (*SIDES, "native"))
        form = (lambda v: "-" if v is None else f"{v:.3f}" if v < 1 else f"{v:.2f}")
        ratio = (lambda a, b: f"{a / b:.2f}" if a and b else "-")
        cpu = ratio(self.best(row, "qemu", self.cpu), self.best(row, "vireo", self.cpu))
        return f"| {label} | {form(vireo)} | {form(qemu)} | {ratio(qemu, vireo)} | {cpu} | {form(native)} |"

    def mean(self, what):
        """Geometric mean of QEMU's time over ours, of the rows in the guest, and how many rows."""
        ratios = [self.best(r, "qemu", what) / self.best(r, "vireo", what) for r in WORK
                  if self.best(r, "qemu", what) and self.best(r, "vireo", what)]
        return (statistics.geometric_mean(ratios), len(ratios)) if ratios else (None, 0)

    def table(self):
        lines = ["| row | vireo-vmm, s | QEMU TCG, s | QEMU / vireo-vmm | the same, CPU time | native, s |",
                 "|---|---:|---:|---:|---:|---:|"]
        lines += [self.line(r, BOOT[r][0]) for r in BOOT if any((r, s) in self.times for s in SIDES)]
        lines += [self.line(r, WORK[r][0]) for r in self.wanted(WORK)]
        mean, rows = self.mean(self.times)
        cpu, _ = self.mean(self.cpu)
        if mean:
            lines.append(f"| **geometric mean of the {rows} rows in the guest** | | | **{mean:.2f}** | {cpu:.2f} | |")
        if any((START_KVM, s) in self.times for s in SIDES):
            lines.append(self.line(START_KVM, "exec to exit of a few-byte guest on KVM (median)"))
        if any(self.peak.values()):
            lines.append(self.line(START, "exec to exit of a few-byte guest, whole process (median)"))
            vireo, qemu = (statistics.median(self.peak[s]) if self.peak[s] else None for s in SIDES)
            if vireo and qemu:
                lines.append(f"| the same, peak memory in MiB (median) | {vireo:.1f} | {qemu:.1f} | {qemu / vireo:.2f} "
                             "| - | - |")
        return "\n".join(lines)

    def circumstances(self):
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            text = f.read()
        model = re.search(r"model name\s*: (.*)", text)
        numbers = [re.search(rf"(?m)^{k}\s*: (.*)", text) for k in ("cpu family", "model", "stepping")]
        cpu = model.group(1) if model else platform.machine()
        if all(numbers):
            cpu += " (family {}, model {}, stepping {})".format(*(n.group(1) for n in numbers))
        with open("/proc/meminfo", encoding="utf-8") as f:
            memory = int(f.readline().split()[1]) / (1 << 20)
        virtual = ", itself a virtual machine" if re.search(r"\bhypervisor\b", text) else ""
        versions = [subprocess.run([self.programs[s][0], "-version"], stdout=subprocess.PIPE, text=True,
                                   check=True).stdout.split("\n")[0] for s in SIDES]
        commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short=12", "HEAD"], stdout=subprocess.PIPE,
                                stderr=subprocess.DEVNULL, text=True, check=False).stdout.strip()
        with open(os.path.join(self.guest, "vmlinuz"), "rb") as f:
            setup = f.read(65536)
        # Linux boot protocol, kernel_version: where its version is, from 0x200.
        guest = setup[int.from_bytes(setup[0x20e:0x210], "little") + 0x200:].split(b" ")[0].decode("ascii", "replace")
        return "\n".join([
            f"- Date: {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC",
            f"- Machine: {cpu}, {os.cpu_count()} cores, {memory:.0f} GiB{virtual}; Linux {platform.release()}",
            f"- Load average of the machine when the run began: {self.load:.2f}, when it ended: {self.load_end:.2f} (the run "
            "itself makes about 1; with more cores wanted than there are, times grow: see the ratio of CPU times then)",
            f"- Programs: {versions[0]}{f' (commit {commit})' if commit else ''}; {versions[1]}",
            f"- Guest: Debian 12, Linux {guest}; {self.args.smp} vCPU, {self.args.memory} of memory, `-cpu max`",
            f"- Runs: {self.args.runs} of each program in turn, the best counts; {self.args.starts} starts of the few-byte "
            "guest, the median counts",
        ])

    def run(self):
        self.load = os.getloadavg()[0]
        boot, work = self.wanted(BOOT), self.wanted(WORK)
        begun = time.monotonic()
        say = (lambda text: print(f"[{time.monotonic() - begun:4.0f} s] {text}", flush=True))
        if self.wanted([START]):
            say("a few-byte guest, many times ...")
            self.run_start(START, self.args.starts)
        if self.wanted([START_KVM]) and os.access("/dev/kvm", os.R_OK | os.W_OK):
            say("the same on KVM ...")
            self.run_start(START_KVM, min(self.args.starts, 5))
        if work:
            say("the work on the host itself ...")
            self.run_native(work)
        if boot or work:
            for number in range(1, self.args.runs + 1):
                for side in SIDES:
                    say(f"run {number} of {self.args.runs}: {os.path.basename(self.programs[side][0])} ...")
                    self.run_guest(side, number)
        self.load_end = os.getloadavg()[0]
        say("done")
        print("\n" + self.circumstances() + "\n\n" + self.table() + "\n")
        for text in self.trouble:
            print("note: " + text)

    def write(self):
        path = os.path.join(ROOT, "docs", "benchmarks.md")
        with open(path, encoding="utf-8") as f:
            before, middle = f.read().split("<!-- table -->\n")
            _, after = middle.split("<!-- end of table -->")
        notes = "".join(f"\n- {t.replace(self.out + '/', '')}" for t in self.trouble)
        with open(path + ".new", "w", encoding="utf-8") as f:
            f.write(f"{before}<!-- table -->\n{self.circumstances()}\n\n{self.table()}\n" +
                    (f"\nNotes of this run:\n{notes}\n" if notes else "") + "<!-- end of table -->" + after)
        os.replace(path + ".new", path)
        print(f"written to {os.path.relpath(path)}")


def arguments():
    names = [*BOOT, *WORK, START, START_KVM]
    p = argparse.ArgumentParser(description="vireo-vmm beside QEMU's translator, in one run", epilog="rows: " + " ".join(names))
    p.add_argument("build")
    p.add_argument("--rows", type=lambda t: t.split(","), help="only these rows")
    p.add_argument("--runs", type=int, help="boots of each program (default 2)")
    p.add_argument("--starts", type=int, help="starts of the few-byte guest (default 41)")
    p.add_argument("--quick", action="store_true", help="one boot of each program, 9 starts")
    p.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    p.add_argument("--smp", type=int, default=1)
    p.add_argument("--memory", default="1G")
    p.add_argument("--guest", help="directory with vmlinuz, initrd.img, disk.img (default BUILD/guest)")
    args = p.parse_args()
    args.build = os.path.abspath(args.build)
    args.runs = args.runs or (1 if args.quick else 2)
    args.starts = args.starts or (9 if args.quick else 41)
    unknown = set(args.rows or []) - set(names)
    if unknown:
        p.error(f"no row {', '.join(sorted(unknown))}; there are: {' '.join(names)}")
    return args


def main():
    bench = Bench(arguments())
    bench.run()
    if bench.args.write:
        bench.write()
    complete = all(bench.best(r, s) for r in bench.wanted([*BOOT, *WORK, START]) for s in SIDES)
    sys.exit(0 if complete else 1)


main()
