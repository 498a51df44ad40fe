# SPDX-License-Identifier: GPL-2.0-or-later
"""`make bench`, part: vireod beside Debian's libvirtd, with the same definitions and the same virsh.

usage: manage.py BUILD [--sizes N,N] [--clients N] [--running N] [--starts N] [--side vireod|libvirtd] [--write]

Both run in a mount and a network namespace of their own, on empty directories of the same file system; what is below /run is in memory, as it is on a host.
Each is started once before it is measured, so that what it keeps of emulators is there. --write puts the table into docs/benchmarks.md.

/dev/kvm is hidden: libvirtd asks an emulator for its abilities again at each definition that it loads where root can open it and libvirt-qemu cannot, half a second
each time, and the domains here run on translators anyway.
"""
import argparse
import collections
import mmap
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import uuid

import manage_running
import page

HERE = os.path.dirname(os.path.abspath(__file__))
SIDES = ("vireod", "libvirtd")
DISK = "1000 blocks to the disk, each once the one before is there" # no daemon's
PRIVATE = "BENCH_PRIVATE"
DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "net/tun", "rtc", "hpet")
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


# What a call of a client took, the daemon's CPU time meanwhile, and the client's own.
Call = collections.namedtuple("Call", "seconds cpu client out")


def clients_cpu():
    """CPU seconds of all children that have ended: of a client, between two calls of this; the daemon has not."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def document(number, prefix="vm"):
    mac = f"{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
    return DOMAIN.format(name=f"{prefix}{number:05}", uuid=uuid.uuid5(uuid.NAMESPACE_DNS, f"{prefix}{number}"), mac=mac)


class Daemon:
    """One side on fresh directories."""

    def __init__(self, side, build, work):
        self.side, self.work, self.process = side, work, None
        home = os.path.join(work, side)
        for d in [home + "/root/run"] if side == "vireod" else LIBVIRT_DIRS:
            subprocess.run(["umount", d], stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(home, ignore_errors=True)
        if side == "vireod":
            root = os.path.join(home, "root")
            os.makedirs(root + "/run")
            subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", root + "/run"], check=True)
            self.definitions = os.path.join(root, "etc/vireo/qemu")
            self.socket = os.path.join(root, "run/vireo/libvirt-sock")
            self.command = [os.path.join(build, "vireod"), "--root", root]
        else:
            self.libvirt_directories(home)
            self.definitions = "/etc/libvirt/qemu"
            self.socket = "/run/libvirt/libvirt-sock"
            config = os.path.join(work, "libvirtd.conf")
            with open(config, "w", encoding="utf-8") as f:
                f.write('auth_unix_rw = "none"\nauth_unix_ro = "none"\n')
            with open("/etc/libvirt/qemu.conf", "w", encoding="utf-8") as f:
                f.write('stdio_handler = "file"\n') # otherwise through virtlogd, one process more
            self.command = ["libvirtd", "-f", config, "-p", os.path.join(work, "libvirtd.pid")]
        self.uri = f"qemu+unix:///system?socket={self.socket}"
        self.own = os.path.join(build, "vireo") if side == "vireod" else "virsh" # the client that comes with it
        os.makedirs(self.definitions, exist_ok=True)

    def libvirt_directories(self, home):
        for d in LIBVIRT_DIRS:
            os.makedirs(d, exist_ok=True)
            if d.startswith("/run"):
                subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", d], check=True)
            else:
                os.makedirs(home + d)
                subprocess.run(["mount", "--bind", home + d, d], check=True)

    def start(self):
        """Seconds from the start of the process to the end of the first virsh that got an answer. libvirtd 9.0 never answers some of those who come while it
        still starts: it is asked once it has had nothing to do for a while, and again where that did not help; neither is counted."""
        begun, lost = time.monotonic(), 0
        with open(os.path.join(self.work, self.side + ".log"), "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        while not os.path.exists(self.socket):
            if self.process.poll() is not None:
                sys.exit(f"manage.py: {self.side} ended with {self.process.returncode}: {open(os.path.join(self.work, self.side + '.log'), encoding='utf-8').read()}")
            time.sleep(0.001)
        for _ in range(10):
            if self.side == "libvirtd":
                lost += self.settle()
            asked = time.monotonic()
            try:
                if self.answers():
                    return time.monotonic() - begun - lost
                time.sleep(0.001)
            except subprocess.TimeoutExpired:
                print(f"note: {self.side} has not answered for {time.monotonic() - asked:.0f} s, it is asked again", flush=True)
                lost += time.monotonic() - asked
        raise RuntimeError(f"{self.side} does not answer")

    def answers(self):
        done = subprocess.run(["virsh", "-q", "-c", self.uri, "list", "--name"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=10, check=False,
                              env=dict(os.environ, LIBVIRT_AUTOSTART="0"))
        return done.returncode == 0

    def settle(self):
        """Waits until the process has used no CPU for 1.5 s, and no program runs that it asks."""
        used, since = -1, time.monotonic()
        while time.monotonic() - since < 1.5:
            with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="utf-8") as f:
                now = self.cpu(), f.read()
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

    def virsh(self, words=(), script=None, program="virsh"):
        before, client, begun = self.cpu(), clients_cpu(), time.monotonic()
        done = subprocess.run([program, "-q", "-c", self.uri, *words], input=script, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=900, check=False,
                              env=dict(os.environ, LC_ALL="C", LIBVIRT_AUTOSTART="0"))
        took = time.monotonic() - begun
        if done.returncode or "error:" in done.stderr:
            print(f"note: {program} {' '.join(words)} on {self.side}: {done.stderr[:300]}", flush=True)
        return Call(took, self.cpu() - before, clients_cpu() - client, done.stdout)

    def clients(self, scripts, program="virsh"):
        """One client for each, all at once."""
        before, client, begun = self.cpu(), clients_cpu(), time.monotonic()
        clients = [subprocess.Popen([program, "-q", "-c", self.uri], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
                                    env=dict(os.environ, LC_ALL="C", LIBVIRT_AUTOSTART="0")) for _ in scripts]
        for c, script in zip(clients, scripts):
            c.stdin.write(script)
            c.stdin.close()
        for c in clients:
            c.wait(600)
        return Call(time.monotonic() - begun, self.cpu() - before, clients_cpu() - client, "")


def disk_writes(folder, count):
    """Seconds for `count` blocks of 4 KiB written in place, one after the other, each on the disk before the next: the least that as many definitions take that are to
    survive a power cut."""
    path, block = os.path.join(folder, "blocks"), mmap.mmap(-1, 4096)
    with open(path, "wb") as f:
        f.write(bytes(4096 * count))
        os.fsync(f.fileno())
    fd = os.open(path, os.O_WRONLY | os.O_DSYNC | os.O_DIRECT)
    try:
        begun = time.monotonic()
        for i in range(count):
            os.pwrite(fd, block, 4096 * i)
        return time.monotonic() - begun
    finally:
        os.close(fd)
        os.unlink(path)


class Bench:
    def __init__(self, args):
        self.args = args
        self.results = {} # row -> side -> text, number
        self.rows = []
        self.more = {} # row -> how many clients run beside each other, seconds of the disk that no daemon can save

    def call(self, row, side, call, beside=1, disk=0.0):
        self.more[row] = (beside, min(disk, self.more.get(row, (0, disk))[1]))
        self.note(row, side, call.seconds, "s", call.cpu, call.client)

    def note(self, row, side, value, unit, cpu=None, client=None):
        if row not in self.results:
            self.results[row] = {}
            self.rows.append(row)
        self.results[row][side] = (value, unit, cpu, client)
        print(f"{side:9} {row:55} {value:9.3f} {unit}" + (f"  (CPU of the daemon {cpu:.2f} s)" if cpu is not None else "") +
              (f"  (of the client {client:.2f} s)" if client is not None else ""), flush=True)

    @staticmethod
    def trouble(side, text):
        print(f"note: {side}: {text}", flush=True)

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
            out = d.virsh(["list", "--all"]).out
            assert out.count("vm") == count, f"{side} lists {out.count('vm')} of {count} domains"
            self.call(f"virsh list --all, {count} domains", side, min(d.virsh(["list", "--all"]) for _ in range(3)))
            self.call(f"virsh domstats, {count} domains", side, d.virsh(["domstats"]))
            self.call(f"list --all by the own client, {count} domains", side, min(d.virsh(["list", "--all"], program=d.own) for _ in range(3)))
            self.call(f"domstats by the own client, {count} domains", side, d.virsh(["domstats"], program=d.own))
            time.sleep(3)
            self.note(f"memory after that, {count} domains", side, d.memory(), "MiB")
            if count == self.args.sizes[0]:
                self.changes(d)
                self.many(d)
                manage_running.run(self, d)
        finally:
            d.stop()

    def changes(self, d):
        """1000 definitions and back, each a command of one client. All are made before the first goes: ext4 passes over the inodes that were freed in the last minutes, one by
        one, whenever it makes a file."""
        folder = os.path.join(self.args.work, "new")
        os.makedirs(folder, exist_ok=True)
        ways = [(what, program, range(first, first + 1000)) for what, program, first in (("", "virsh", 20000), (" by the own client", d.own, 21000))]
        for _, _, numbers in ways:
            for i in numbers:
                with open(os.path.join(folder, f"{i}.xml"), "w", encoding="utf-8") as f:
                    f.write(document(i, "new"))
        disk = disk_writes(self.args.work, 1000)
        self.note(DISK, d.side, disk, "s")
        for what, program, numbers in ways:
            self.call(f"define 1000 domains{what}", d.side, disk=disk, call=d.virsh(script="".join(f"define {folder}/{i}.xml\n" for i in numbers), program=program))
        for what, program, numbers in ways:
            self.call(f"undefine 1000 domains{what}", d.side, d.virsh(script="".join(f"undefine new{i:05}\n" for i in numbers), program=program))

    def many(self, d):
        """Clients at once, each with questions for domains' states."""
        count = min(500, self.args.sizes[0])
        for what, program in (("virsh", "virsh"), ("of the own clients", d.own)):
            call = d.clients(["".join(f"domstate vm{i:05}\n" for i in range(count))] * self.args.clients, program)
            self.call(f"{self.args.clients} {what} at once, domstate of {count} domains each", d.side, call, beside=min(self.args.clients, os.cpu_count()))

    def bound(self, row, both):
        """The ratio of a daemon that takes no time at all: what is left is the client's own, and the disk's."""
        if not all(both) or not both[0][3]:
            return ""
        beside, disk = self.more[row]
        return f"{both[1][0] / (both[0][3] / beside + disk):.1f}"

    def table(self):
        lines = ["| management | vireod | CPU of it | of the client | libvirtd | CPU of it | of the client | libvirtd / vireod, time | at most | CPU |", "|---" + "|---:" * 9 + "|"]
        for row in self.rows:
            cells, both = [], [self.results[row].get(s) for s in SIDES]
            for r in both:
                cells += [f"{r[0]:.3f} {r[1]}" if r else "-"] + [f"{cpu:.2f} s" if cpu is not None else "" for cpu in (r[2:] if r else (None, None))]
            ratio = f"{both[1][0] / both[0][0]:.1f}" if all(both) and both[0][0] and row != DISK else ""
            cpu = f"{both[1][2] / both[0][2]:.1f}" if all(both) and both[0][2] and both[1][2] is not None else ""
            lines.append(f"| {row} | {' | '.join(cells)} | {ratio} | {self.bound(row, both)} | {cpu} |")
        return "\n".join(lines)

    def run(self):
        begin = os.getloadavg()[0]
        for count in self.args.sizes:
            for side in self.args.sides:
                try:
                    self.size(side, count)
                except (subprocess.TimeoutExpired, RuntimeError) as e:
                    self.trouble(side, f"with {count} definitions: {e}")
        text = f"{self.table()}\n\nLoad average when the run began: {begin:.2f}. {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}."
        print("\n" + text)
        return text


def own_dev(work):
    """A /dev without kvm. (Not something mounted over /dev/kvm: libvirtd cannot take that along into a machine's own /dev.)"""
    new = os.path.join(work, "dev")
    os.makedirs(new)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", new], check=True)
    for name in DEVICES:
        if os.path.exists("/dev/" + name):
            os.makedirs(os.path.dirname(f"{new}/{name}"), exist_ok=True)
            os.mknod(f"{new}/{name}", stat.S_IFCHR | 0o666, os.stat("/dev/" + name).st_rdev)
            os.chmod(f"{new}/{name}", 0o666)
    for name, kind, options in (("pts", "devpts", "newinstance,ptmxmode=0666,mode=620,gid=5"), ("shm", "tmpfs", "mode=1777")):
        os.makedirs(f"{new}/{name}")
        subprocess.run(["mount", "-t", kind, "-o", options, kind, f"{new}/{name}"], check=True)
    os.symlink("pts/ptmx", new + "/ptmx")
    os.symlink("/proc/self/fd", new + "/fd")
    subprocess.run(["umount", "-R", "-l", "/dev"], stderr=subprocess.DEVNULL, check=False) # what it covered would still be in the list of mounts
    subprocess.run(["mount", "--move", new, "/dev"], check=True)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    p.add_argument("build")
    p.add_argument("--sizes", type=lambda t: [int(n) for n in t.split(",")], default=[1000, 10000])
    p.add_argument("--clients", type=int, default=20)
    p.add_argument("--running", type=int, default=100)
    p.add_argument("--starts", type=int, default=9)
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
        os.chmod(args.work, 0o755) # libvirtd's emulators are another user's
        own_dev(args.work)
        text = Bench(args).run()
    if args.write:
        page.put("manage", text)


if __name__ == "__main__":
    main()
