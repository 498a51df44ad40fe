# SPDX-License-Identifier: GPL-2.0-or-later
"""`make bench`, part: vireod beside Debian's libvirtd, with the same definitions and the same virsh.

usage: manage.py BUILD [--sizes N,N] [--clients N] [--side vireod|libvirtd] [--write]

Both run in a mount and a network namespace of their own, libvirtd on empty directories in memory. Each is started once before it is measured, so that what it keeps
of emulators is there. --write puts the table into docs/benchmarks.md.
"""
import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SIDES = ("vireod", "libvirtd")
PRIVATE = "BENCH_PRIVATE"
LIBVIRT_DIRS = ("/run/libvirt", "/etc/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt")
DOMAIN = """<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='KiB'>1048576</memory>
  <currentMemory unit='KiB'>1048576</currentMemory>
  <vcpu placement='static'>2</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <boot dev='hd'/>
  </os>
  <features>
    <acpi/>
    <apic/>
  </features>
  <clock offset='utc'/>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='/var/lib/images/{name}.qcow2'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <interface type='network'>
      <mac address='52:54:00:{mac}'/>
      <source network='default'/>
      <model type='virtio'/>
    </interface>
    <serial type='pty'/>
    <console type='pty'/>
    <graphics type='vnc' port='-1' autoport='yes'/>
    <video>
      <model type='virtio'/>
    </video>
  </devices>
</domain>
"""


def document(number, prefix="vm"):
    mac = f"{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
    return DOMAIN.format(name=f"{prefix}{number:05}", uuid=uuid.uuid5(uuid.NAMESPACE_DNS, f"{prefix}{number}"), mac=mac)


class Daemon:
    """One side on fresh directories."""

    def __init__(self, side, build, work):
        self.side, self.work, self.process = side, work, None
        if side == "vireod":
            self.root = os.path.join(work, "root")
            shutil.rmtree(self.root, ignore_errors=True)
            self.definitions = os.path.join(self.root, "etc/vireo/qemu")
            self.socket = os.path.join(self.root, "run/vireo/libvirt-sock")
            self.command = [os.path.join(build, "vireod"), "--root", self.root]
        else:
            for d in LIBVIRT_DIRS:
                os.makedirs(d, exist_ok=True)
                subprocess.run(["umount", d], stderr=subprocess.DEVNULL, check=False)
                kept = os.path.join(work, "kept" + d) # what it knows of the emulators: to probe them all takes minutes
                if d == "/var/cache/libvirt" and not os.path.exists(kept):
                    shutil.copytree(d, kept)
                subprocess.run(["mount", "-t", "tmpfs", "tmpfs", d], check=True)
                if d == "/var/cache/libvirt":
                    subprocess.run(["cp", "-a", kept + "/.", d], check=True)
            self.definitions = "/etc/libvirt/qemu"
            self.socket = "/run/libvirt/libvirt-sock"
            config = os.path.join(work, "libvirtd.conf")
            with open(config, "w", encoding="utf-8") as f:
                f.write('auth_unix_rw = "none"\nauth_unix_ro = "none"\n')
            self.command = ["libvirtd", "-f", config, "-p", os.path.join(work, "libvirtd.pid")]
        self.uri = f"qemu+unix:///system?socket={self.socket}"
        os.makedirs(self.definitions, exist_ok=True)

    def start(self):
        """Seconds from the start of the process to the end of the first virsh that got an answer. libvirtd 9.0 never answers some of those who come while it
        still starts: it is asked once it has had nothing to do for a while, which is not counted."""
        begun, pause = time.monotonic(), 0
        with open(os.path.join(self.work, self.side + ".log"), "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        while not os.path.exists(self.socket):
            if self.process.poll() is not None:
                sys.exit(f"manage.py: {self.side} ended with {self.process.returncode}: {open(os.path.join(self.work, self.side + '.log'), encoding='utf-8').read()}")
            time.sleep(0.001)
        if self.side == "libvirtd":
            pause = self.settle()
        while subprocess.run(["virsh", "-q", "-c", self.uri, "list", "--name"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=200, check=False,
                             env=dict(os.environ, LIBVIRT_AUTOSTART="0")).returncode:
            time.sleep(0.001)
        return time.monotonic() - begun - pause

    def settle(self):
        """Waits until the process has used no CPU for 1.5 s."""
        used, since = -1, time.monotonic()
        while time.monotonic() - since < 1.5:
            now = self.cpu()
            if now != used:
                used, since = now, time.monotonic()
            time.sleep(0.02)
        return time.monotonic() - since

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def cpu(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self):
        """MiB that are this process's own."""
        private = 0
        with open(f"/proc/{self.process.pid}/smaps_rollup", encoding="utf-8") as f:
            for line in f:
                if line.startswith(("Private_Clean:", "Private_Dirty:")):
                    private += int(line.split()[1])
        return private / 1024

    def virsh(self, words=(), script=None):
        """(seconds, CPU seconds of the daemon, output)"""
        before, begun = self.cpu(), time.monotonic()
        done = subprocess.run(["virsh", "-q", "-c", self.uri, *words], input=script, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=900, check=False,
                              env=dict(os.environ, LC_ALL="C", LIBVIRT_AUTOSTART="0"))
        took = time.monotonic() - begun
        if done.returncode or "error:" in done.stderr:
            print(f"note: virsh {' '.join(words)} on {self.side}: {done.stderr[:200]}", flush=True)
        return took, self.cpu() - before, done.stdout


class Bench:
    def __init__(self, args):
        self.args = args
        self.results = {} # row -> side -> text, number
        self.rows = []

    def note(self, row, side, value, unit, cpu=None):
        if row not in self.results:
            self.results[row] = {}
            self.rows.append(row)
        self.results[row][side] = (value, unit, cpu)
        print(f"{side:9} {row:55} {value:9.3f} {unit}" + (f"  (CPU of the daemon {cpu:.2f} s)" if cpu is not None else ""), flush=True)

    def size(self, side, count):
        d = Daemon(side, self.args.build, self.args.work)
        try:
            d.start()
            d.virsh(["capabilities"])
        finally:
            d.stop()
        for i in range(count):
            with open(os.path.join(d.definitions, f"vm{i:05}.xml"), "w", encoding="utf-8") as f:
                f.write(document(i))
        try:
            self.note(f"start with {count} definitions, to the first answer", side, d.start(), "s", d.cpu())
            took, cpu, out = d.virsh(["list", "--all"])
            assert out.count("vm") == count, f"{side} lists {out.count('vm')} of {count} domains"
            took, cpu, out = min(d.virsh(["list", "--all"]) for _ in range(3))
            self.note(f"virsh list --all, {count} domains", side, took, "s", cpu)
            took, cpu, out = d.virsh(["domstats"])
            self.note(f"virsh domstats, {count} domains", side, took, "s", cpu)
            time.sleep(2)
            self.note(f"memory after that, {count} domains", side, d.memory(), "MiB")
            if count == self.args.sizes[0]:
                self.changes(d)
                self.many(d)
        finally:
            d.stop()

    def changes(self, d):
        """1000 definitions and back, each a call of one virsh."""
        folder = os.path.join(self.args.work, "new")
        os.makedirs(folder, exist_ok=True)
        numbers = range(20000, 21000)
        for i in numbers:
            with open(os.path.join(folder, f"{i}.xml"), "w", encoding="utf-8") as f:
                f.write(document(i, "new"))
        took, cpu, _ = d.virsh(script="".join(f"define {folder}/{i}.xml\n" for i in numbers))
        self.note("define 1000 domains", d.side, took, "s", cpu)
        took, cpu, _ = d.virsh(script="".join(f"undefine new{i:05}\n" for i in numbers))
        self.note("undefine 1000 domains", d.side, took, "s", cpu)

    def many(self, d):
        """Clients at once, each with 500 questions for a domain's state."""
        script = "".join(f"domstate vm{i:05}\n" for i in range(500))
        before, begun = d.cpu(), time.monotonic()
        clients = [subprocess.Popen(["virsh", "-q", "-c", d.uri], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=dict(os.environ, LC_ALL="C"))
                   for _ in range(self.args.clients)]
        for c in clients:
            c.stdin.write(script)
            c.stdin.close()
        for c in clients:
            c.wait(600)
        self.note(f"{self.args.clients} virsh at once, domstate of 500 domains each", d.side, time.monotonic() - begun, "s", d.cpu() - before)

    def table(self):
        lines = ["| management | vireod | CPU of it | libvirtd | CPU of it | libvirtd / vireod, time | CPU |", "|---|---:|---:|---:|---:|---:|---:|"]
        for row in self.rows:
            cells, both = [], [self.results[row].get(s) for s in SIDES]
            for r in both:
                cells += [f"{r[0]:.3f} {r[1]}" if r else "-", f"{r[2]:.2f} s" if r and r[2] is not None else ""]
            ratio = f"{both[1][0] / both[0][0]:.1f}" if all(both) and both[0][0] else ""
            cpu = f"{both[1][2] / both[0][2]:.1f}" if all(both) and both[0][2] and both[1][2] is not None else ""
            lines.append(f"| {row} | {' | '.join(cells)} | {ratio} | {cpu} |")
        return "\n".join(lines)

    def run(self):
        begin = os.getloadavg()[0]
        for count in self.args.sizes:
            for side in self.args.sides:
                try:
                    self.size(side, count)
                except subprocess.TimeoutExpired as e:
                    print(f"note: {side} with {count} definitions: {e}", flush=True)
        text = f"{self.table()}\n\nLoad average when the run began: {begin:.2f}. {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}."
        print("\n" + text)
        return text


def write(text):
    path = os.path.join(ROOT, "docs", "benchmarks.md")
    with open(path, encoding="utf-8") as f:
        page = f.read()
    page = re.sub(r"(<!-- manage -->\n).*?(<!-- end of manage -->)", lambda m: m[1] + text + "\n" + m[2], page, flags=re.S)
    with open(path + ".new", "w", encoding="utf-8") as f:
        f.write(page)
    os.replace(path + ".new", path)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    p.add_argument("build")
    p.add_argument("--sizes", type=lambda t: [int(n) for n in t.split(",")], default=[1000, 10000])
    p.add_argument("--clients", type=int, default=20)
    p.add_argument("--side", action="append", choices=SIDES, dest="sides")
    p.add_argument("--write", action="store_true")
    args = p.parse_args()
    if os.geteuid() != 0:
        sys.exit("manage.py: needs root, for the namespaces in which libvirtd is kept from the system's directories")
    if PRIVATE not in os.environ:
        os.execvpe("unshare", ["unshare", "-m", "-n", sys.executable, "-B", *sys.argv], dict(os.environ, **{PRIVATE: "1"}))
    args.build, args.sides = os.path.abspath(args.build), args.sides or list(SIDES)
    if "libvirtd" in args.sides and not shutil.which("libvirtd"):
        print("note: there is no libvirtd here; install libvirt-daemon-system to compare")
        args.sides.remove("libvirtd")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=False)
    with tempfile.TemporaryDirectory(prefix="bench-manage-", ignore_cleanup_errors=True) as args.work:
        text = Bench(args).run()
    if args.write:
        write(text)


if __name__ == "__main__":
    main()
