# SPDX-License-Identifier: GPL-2.0-or-later
"""The outer guest of the nested KVM tests: Debian's generic kernel with its own kvm.ko and kvm-amd.ko under QEMU's software
emulation of AMD-V, an initial RAM disk with the program under test and its libraries, and agent.c, through which the test on the
host starts programs there. Nothing of this needs /dev/kvm, root or a network beyond the loopback.

As a program it runs one command in an outer guest that is up, with this process's standard input, output, signals and exit status:

    outer.py PORT UID PROGRAM [WORD]...
"""
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
QEMU = "/usr/bin/qemu-system-x86_64"
PORT = 7000
SLOW = float(os.environ.get("VIREO_SLOW", "1")) # a factor on all deadlines
# vhost_net and tun: for `-netdev tap,vhost=on` in there.
MODULES = ("kvm-amd", "virtio_pci", "virtio_net", "af_packet", "tun", "vhost_net")
SCRIPT = """
mount -t tmpfs -o mode=1777 tmpfs /tmp
mkdir -p /run /etc; chmod 777 /run
echo 'root:x:0:0::/:/bin/sh' > /etc/passwd; echo 'nobody:x:65534:65534::/:/bin/sh' >> /etc/passwd
chmod 666 /dev/kvm
ip link set lo up; ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up; ip route add default via 10.0.2.2
ulimit -c 0
/agent
"""


def send_request(sock, *words):
    data = b"".join(os.fsencode(w) + b"\0" for w in words)
    sock.sendall(struct.pack(">I", len(data)) + data)


def recv_exactly(sock, size):
    data = b""
    while len(data) < size:
        chunk = sock.recv(size - len(data))
        if not chunk:
            raise ConnectionError("the outer guest closed the connection")
        data += chunk
    return data


def send_frame(sock, kind, data):
    sock.sendall(kind + struct.pack(">I", len(data)) + data)


def recv_frame(sock):
    kind, size = struct.unpack(">cI", recv_exactly(sock, 5))
    return kind, recv_exactly(sock, size)


def client(port, uid, words):
    """Runs a command in the outer guest on this process's standard streams; its exit status."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    send_request(sock, "exec", uid, *words)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda n, _: send_frame(sock, b"k", str(n).encode()))
    inputs = [sock, 0]
    while True:
        ready, _, _ = select.select(inputs, [], [])
        if 0 in ready:
            data = os.read(0, 32768)
            send_frame(sock, b"0", data)
            if not data:
                inputs.remove(0)
        if sock in ready:
            kind, data = recv_frame(sock)
            if kind == b"x":
                return int(data)
            out = memoryview(data)
            while out:
                out = out[os.write(1 if kind == b"1" else 2, out):]


def program_files(program, name):
    """{path: (mode, data)} of a program and the libraries that the dynamic linker would load for it."""
    with open(program, "rb") as f:
        files = {name: (0o100755, f.read())}
    listing = subprocess.run(["ldd", program], stdout=subprocess.PIPE, text=True, check=True).stdout
    for path in re.findall(r"(/\S+) \(0x", listing):
        with open(path, "rb") as f:
            # Without the merged /usr of the host, all lie in the two directories that every linker searches.
            where = "lib64/" if "ld-linux" in path else "lib/x86_64-linux-gnu/"
            files[where + os.path.basename(path)] = (0o100755, f.read())
    return files


def with_directories(files):
    """The same with every directory before what lies in it."""
    out = {}
    for path, entry in files.items():
        parts = path.split("/")
        for n in range(1, len(parts)):
            out.setdefault("/".join(parts[:n]), (0o40755, b""))
        out[path] = entry
    return out


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class OuterError(AssertionError):
    pass


class Outer:
    """One outer guest. `programs`: {path there: program here}; `files`: {path there: (mode, data)}; `initramfs`: the module.
    `cpu`: the host's CPU for all threads of the emulation. QEMU 7.2's VMRUN and #VMEXIT change the word of pending interrupts by plain
    read-modify-write instructions, outside of the lock under which other threads set bits in it. On two CPUs an interrupt is lost that way
    now and then, or one that was taken back comes again: the outer guest stands still, or its kernel or the guest inside ends for no reason
    (seen: 4 of 26 boots of two vCPUs). On one CPU such an instruction is whole: 60 boots of 60. No real CPU has that fault."""

    def __init__(self, initramfs, kernels, work, programs, files=None, memory="2G", deadline=120, cpu=None):
        agent = os.path.join(work, "agent")
        subprocess.run(["gcc", "-O1", "-static", "-o", agent, os.path.join(HERE, "agent.c")], check=True)
        extra = {}
        for name, program in {**programs, "agent": agent}.items():
            extra.update(program_files(program, name) if program != agent else {name: (0o100755, open(agent, "rb").read())})
        initrd = os.path.join(work, "initrd")
        with open(initrd, "wb") as f:
            f.write(initramfs.build(kernels, "generic", MODULES, SCRIPT, compress=False, extra=with_directories({**extra, **(files or {})})))
        self.console = os.path.join(work, "console")
        self.kernel = initramfs.unpacked(kernels, "generic")
        self.restarts = 0
        self.cpu = cpu
        self.stderr = os.path.join(work, "stderr")
        # Now and then the emulation hangs before the kernel's first line.
        self.how = (kernels, initrd, memory, deadline)
        for last in (False, False, True):
            try:
                return self.start(*self.how)
            except OuterError:
                if last:
                    raise

    def alive(self):
        """Does it answer?"""
        try:
            return self.process.poll() is None and self.run("/bin/true", check=False, timeout=20)[0] == 0
        except subprocess.TimeoutExpired:
            return False

    def restart(self):
        self.restarts += 1
        self.end()
        self.start(*self.how)

    def start(self, kernels, initrd, memory, deadline):
        import vmm  # not above: the program below needs nothing but Python
        if os.path.exists(self.console):
            os.unlink(self.console)
        self.uploaded = {}
        self.port = free_port()
        cmd = [QEMU, "-accel", "tcg,thread=multi", "-cpu", "max,+svm", "-machine", "q35", "-smp", "2", "-m", memory, "-nodefaults", "-display", "none",
               "-no-reboot", "-serial", f"file:{self.console}", "-kernel", self.kernel, "-initrd", initrd,
               "-append", "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable", "-device", "virtio-rng-pci", "-device",
               "virtio-net-pci,netdev=n,romfile=", "-netdev",
               f"user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-10.0.2.15:{PORT}"]
        with open(self.stderr, "wb") as err:
            self.process = subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=err, stderr=err, start_new_session=True,
                                            preexec_fn=vmm.end_with_parent(self.stay))
        self.wait_up(time.monotonic() + deadline)

    def stay(self):
        if self.cpu is not None:
            os.sched_setaffinity(0, [self.cpu])

    def text(self):
        try:
            with open(self.console, "rb") as f:
                return f.read().decode("utf-8", "replace").replace("\r", "")
        except FileNotFoundError:
            return ""

    def wait_up(self, end):
        while "VT outer guest is up" not in self.text():
            if self.process.poll() is not None or time.monotonic() > end:
                self.end()
                with open(self.stderr, encoding="utf-8") as f:
                    raise OuterError(f"the outer guest did not come up: {f.read()}{self.text()[-3000:]}")
            time.sleep(0.1)

    def wrapper(self, uid=0):
        """The command prefix that runs a program in there."""
        return [sys.executable, os.path.abspath(__file__), str(self.port), str(uid)]

    def check(self):
        """That the outer guest lives; else how it ended."""
        if self.process.poll() is not None:
            with open(self.stderr, encoding="utf-8", errors="replace") as f:
                raise OuterError(f"the outer guest has ended with status {self.process.returncode}: {f.read()[-2000:]}{self.text()[-3000:]}")

    def run(self, *words, timeout=60, uid=0, check=True, stdin=b""):
        """(exit status, standard output, standard error) of a command in there."""
        self.check()
        done = subprocess.run([*self.wrapper(uid), *words], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout * SLOW,
                              check=False)
        out, err = done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
        if check and done.returncode:
            raise OuterError(f"{' '.join(words)} in the outer guest ended with status {done.returncode}: {out}{err}")
        return done.returncode, out, err

    def shell(self, script, **kwargs):
        return self.run("/bin/sh", "-c", script, **kwargs)[1]

    def put(self, path):
        """The same file in there; brought once."""
        with open(path, "rb") as f:
            data = f.read()
        key = (path, hash(data))
        if key not in self.uploaded:
            there = f"/tmp/put/{len(self.uploaded)}-{os.path.basename(path)}"
            self.run("/bin/sh", "-c", f"mkdir -p /tmp/put; cat > {there}", stdin=data, timeout=120)
            self.uploaded[key] = there
        return self.uploaded[key]

    def connect(self, path):
        """A socket that is connected to a UNIX socket in there."""
        sock = socket.create_connection(("127.0.0.1", self.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        send_request(sock, "connect", path)
        if recv_exactly(sock, 1) != b"+":
            sock.close()
            raise ConnectionRefusedError(f"nobody listens on {path} in the outer guest")
        return sock

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


if __name__ == "__main__":
    status = client(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)
