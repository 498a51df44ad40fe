# SPDX-License-Identifier: GPL-2.0-or-later
"""Migration between two daemons on this host, by Debian's virsh and by vireo. A guest counts, so that it is seen to go on; whatever fails or is killed, it runs on one side."""
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
import tty
import uuid

import pytest

from conftest import BUILD, PLAIN, Vireod
from limits import SLOW
from listener import Listener
from save_lab import EMULATORS, kernel

UUID = "0d3f5c36-5c0f-4a32-9d0e-5f1f0f5f2b5a"
LOCAL = ("--migrateuri", "tcp://127.0.0.1", "--listen-address", "127.0.0.1")
PREPARE, PERFORM, FINISH = 303, 305, 306


def wait(what, seconds=20):
    end = time.monotonic() + seconds * SLOW
    while not (got := what()):
        assert time.monotonic() < end, f"{what} does not come true"
        time.sleep(0.03)
    return got


class Pair:
    """Two daemons, a guest that counts, and who drives migrations of it."""

    def __init__(self, path, emulator, modules=0):
        self.path, self.emulator, self.said, self.client = path, EMULATORS[emulator], 0, "virsh"
        self.a, self.b = (Vireod(path / n, config=f'host_uuid = "{uuid.uuid4()}"\n') for n in "ab")
        initrd = ""
        if modules:  # memory that is not all zeroes
            (path / "noise").write_bytes(os.urandom(modules << 20))
            initrd = f"<initrd>{path / 'noise'}</initrd>"
        self.xml = (f"<domain type='qemu'><name>vm</name><uuid>{UUID}</uuid><memory unit='MiB'>{32 + modules * 2}</memory><vcpu>1</vcpu>"
                    f"<os><type arch='x86_64' machine='q35'>hvm</type><kernel>{kernel(path)}</kernel>{initrd}</os>"
                    f"<devices><emulator>{self.emulator}</emulator><serial type='pty'/></devices></domain>")
        (path / "vm.xml").write_text(self.xml, encoding="utf-8")

    def run(self, define=True):
        self.a.virsh("define" if define else "create", self.path / "vm.xml")
        if define:
            self.a.virsh("start", "vm")
        self.goes_on(self.a)

    def goes_on(self, at, name="vm"):
        """The guest at this daemon counts on from where it was."""
        where = re.search(r"<serial type='pty'>\s*<source path='([^']+)'", at.virsh("dumpxml", name))[1]
        fd = os.open(where, os.O_RDWR | os.O_NOCTTY)
        try:
            tty.setraw(fd)
            os.write(fd, b"x")
            assert select.select([fd], [], [], 20 * SLOW)[0], f"the guest does not answer: {at.messages()}"
            assert os.read(fd, 1) == bytes([97 + self.said % 26])
        finally:
            os.close(fd)
        self.said += 1

    def words(self, at, to, *options, name="vm", uri=None):
        if self.client == "vireo":
            return [os.path.join(BUILD, "vireo"), "-c", at.uri, "migrate", name, uri or to.uri, *LOCAL, *options]
        return ["virsh", "-c", at.uri, "migrate", name, uri or to.uri, *LOCAL, *options]

    def migrate(self, at, to, *options, status=0, **named):
        done = subprocess.run(self.words(at, to, *options, **named), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=PLAIN, timeout=60 * SLOW, text=True, check=False)
        assert status is None or done.returncode == status, f"migrate ended with {done.returncode}: {done.stdout}\n{at.messages()}\n{to.messages()}"
        return done.stdout

    def begin(self, at, to, *options, **named):
        """A migration that does not end by itself for a while."""
        process = subprocess.Popen(self.words(at, to, *options, "--bandwidth", "1", **named), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=PLAIN, text=True)
        wait(lambda: "Outgoing migration" in at.virsh("domjobinfo", "vm", status=None) and re.search(r"Data processed: +[1-9]", at.virsh("domjobinfo", "vm", status=None)))
        return process

    @staticmethod
    def state(at, name="vm"):
        return at.virsh("domstate", name, "--reason", status=None).strip()

    @staticmethod
    def pid(at, name="vm"):
        with open(os.path.join(at.root, f"run/vireo/qemu/{name}.xml"), encoding="utf-8") as f:
            return int(re.search(r" pid='(\d+)'", f.read())[1])

    @staticmethod
    def left(at):
        """Files and directories of machines that run, or did."""
        return [n for n in os.listdir(os.path.join(at.root, "run/vireo/qemu")) if n != "autostarted"]

    def only_at(self, at, other, reason=None):
        """It runs here, and there is nothing of it there."""
        wait(lambda: self.state(at).startswith("running"))
        wait(lambda: not self.left(other))
        assert reason is None or self.state(at) == f"running ({reason})"
        assert "running" not in other.virsh("list", "--all") and "paused" not in other.virsh("list", "--all")
        self.goes_on(at)

    def end(self):
        for daemon in (self.a, self.b):
            if daemon.process.poll() is not None:
                daemon.start()
            for name in daemon.virsh("list", "--name").split():
                daemon.virsh("destroy", name, status=None)
            daemon.stop(status=None)
            daemon.sweep()


@pytest.fixture(name="pair", params=list(EMULATORS))
def pair_of_daemons(request, tmp_path):
    pair = Pair(tmp_path, request.param)
    yield pair
    pair.end()


@pytest.fixture(name="own")
def pair_of_vireo(tmp_path):
    pair = Pair(tmp_path, "vireo")
    yield pair
    pair.end()


@pytest.fixture(name="foreign")
def pair_of_qemu(tmp_path):
    pair = Pair(tmp_path, "qemu")
    yield pair
    pair.end()


@pytest.fixture(name="slow")
def pair_with_memory(tmp_path):
    pair = Pair(tmp_path, "vireo", modules=16)
    yield pair
    pair.end()


def listen(at, path):
    """A listener for all kinds of events. It has registered those of migrations before those of the metadata."""
    (path / "mark.xml").write_text("<domain type='qemu'><name>mark</name><memory>65536</memory><os><type>hvm</type></os></domain>", encoding="utf-8")
    heard = Listener("virsh", "-c", at.uri, "event", "--all", "--loop")
    at.virsh("define", path / "mark.xml")
    heard.until("'metadata-change' for domain 'mark'", lambda: at.virsh("desc", "mark", "--config", "--title", time.monotonic_ns()))
    at.virsh("undefine", "mark")
    return heard


# ---- what is to work ----

def test_there_and_back(pair):
    pair.run()
    with listen(pair.a, pair.path) as here, listen(pair.b, pair.path) as there:
        assert "100 %" in pair.migrate(pair.a, pair.b, "--live", "--verbose")
        pair.only_at(pair.b, pair.a, "migrated")
        assert pair.state(pair.a) == "shut off (migrated)"
        for heard, texts in ((here, ("Suspended Migrated", "Stopped Migrated", "migration-iteration", "job-completed")), (there, ("Started Migrated", "Resumed Migrated"))):
            for text in texts:
                heard.until(text)
        info = pair.a.virsh("domjobinfo", "vm", "--completed")
        for line in ("Completed", "Outgoing migration", "Memory total:", "Total downtime:", "Iteration:"):
            assert line in info, info
        assert "None" in pair.a.virsh("domjobinfo", "vm", "--completed"), "told once"
        pair.migrate(pair.b, pair.a, "--live", "--p2p", "--undefinesource", "--persistent")
        pair.only_at(pair.a, pair.b, "migrated")
        assert "vm" not in pair.b.virsh("list", "--all") and "Persistent:     yes" in pair.a.virsh("dominfo", "vm")


def test_by_vireo(own):
    own.client = "vireo"
    own.run()
    own.migrate(own.a, own.b, "--live", "--persistent", "--undefinesource")
    own.only_at(own.b, own.a, "migrated")
    assert "vm" not in own.a.virsh("list", "--all")
    own.migrate(own.b, own.a, "--live", "--p2p")
    own.only_at(own.a, own.b, "migrated")
    assert "same host" in own.migrate(own.a, own.a, "--live", status=1)
    own.goes_on(own.a)


def test_stands_still(own):
    own.run(define=False)
    own.migrate(own.a, own.b)  # not live
    own.only_at(own.b, own.a, "migrated")
    own.migrate(own.b, own.a, "--live", "--suspend")
    assert own.state(own.a) == "paused (user)" and not own.left(own.b)
    for options in (["--live"], ["--live", "--p2p"]):  # one that is paused stays so
        own.migrate(own.a, own.b, *options)
        assert own.state(own.b) == "paused (user)" and not own.left(own.a)
        own.a, own.b = own.b, own.a
    own.a.virsh("resume", "vm")
    own.goes_on(own.a)


def test_names_and_documents(own):
    own.run()
    other, kept = own.path / "other.xml", own.path / "kept.xml"
    live = own.a.virsh("dumpxml", "vm", "--migratable")
    other.write_text(live.replace("<uuid>", "<title>moved</title><uuid>"), encoding="utf-8")
    kept.write_text(live.replace("<uuid>", "<title>kept</title><uuid>"), encoding="utf-8")
    own.migrate(own.a, own.b, "--live", "--xml", other, "--persistent", "--persistent-xml", kept, "--dname", "there")
    assert own.state(own.b, "there") == "running (migrated)"
    own.goes_on(own.b, "there")
    assert "<title>moved</title>" in own.b.virsh("dumpxml", "there") and "<title>kept</title>" in own.b.virsh("dumpxml", "there", "--inactive")
    other.write_text(live.replace("<memory unit='KiB'>32768", "<memory unit='KiB'>65536").replace("<name>vm", "<name>there"), encoding="utf-8")
    assert "does not match source" in own.migrate(own.b, own.a, "--live", "--xml", other, name="there", status=1)
    own.goes_on(own.b, "there")


def test_offline(own):
    own.a.virsh("define", own.path / "vm.xml")
    assert "persistent" in own.migrate(own.a, own.b, "--offline", status=1)
    for options in ([], ["--p2p"]):
        own.migrate(own.a, own.b, "--offline", "--persistent", "--undefinesource", *options)
        assert "shut off" in own.b.virsh("list", "--all") and "vm" not in own.a.virsh("list", "--all")
        own.a, own.b = own.b, own.a
    own.a.virsh("start", "vm")
    own.goes_on(own.a)


def test_by_a_socket(own):
    own.run()
    where = own.path / "state"
    words = ["virsh", "-c", own.a.uri, "migrate", "--live", "--p2p", "vm", own.b.uri, "--migrateuri", f"unix://{where}"]
    subprocess.run(words, env=PLAIN, timeout=60 * SLOW, check=True, stdout=subprocess.PIPE)
    own.only_at(own.b, own.a)


def test_by_tcp(own, tmp_path):
    """From daemon to daemon over TCP, and the state to an address of either family."""
    address = "127.%d.%d.%d" % tuple(os.urandom(3))  # nobody else's port is in the way
    own.b.stop()
    own.b = Vireod(tmp_path / "b", "--listen", config=f'host_uuid = "{uuid.uuid4()}"\nlisten_addr = "{address}"\nauth_tcp = "none"\n')
    own.run()
    own.migrate(own.a, own.b, "--live", "--p2p", uri=f"qemu+tcp://{address}/system")
    own.only_at(own.b, own.a, "migrated")
    words = ["virsh", "-c", f"qemu+tcp://{address}/system", "migrate", "--live", "vm", own.a.uri, "--migrateuri", "tcp://[::1]", "--listen-address", "::1"]
    done = subprocess.run(words, env=PLAIN, timeout=60 * SLOW, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    own.only_at(own.a, own.b, "migrated")


def test_what_the_machine_can(pair):
    """Capabilities of QEMU; one that the machine has not is refused by its name."""
    pair.run()
    kinds = (["--auto-converge", "--auto-converge-initial", "30", "--auto-converge-increment", "10"], ["--compressed", "--comp-methods", "xbzrle", "--comp-xbzrle-cache", "8388608"],
             ["--parallel", "--parallel-connections", "3"])
    for words in kinds:
        out = pair.migrate(pair.a, pair.b, "--live", *words, status=None)
        if pair.state(pair.b).startswith("running"):
            pair.only_at(pair.b, pair.a)
            pair.a, pair.b = pair.b, pair.a
        else:
            assert "migration capability" in out and "qemu" not in pair.emulator and "--auto-converge" not in words, out
            pair.only_at(pair.a, pair.b)


class Libvirtd:
    """Debian's, in a mount namespace of its own; only its sockets are seen from here."""

    def __init__(self, where):
        where.mkdir()
        (where / "libvirtd.conf").write_text(f'unix_sock_dir = "{where}"\nauth_unix_rw = "none"\nauth_unix_ro = "none"\nhost_uuid = "{uuid.uuid4()}"\n', encoding="utf-8")
        script = ("for d in /run/libvirt /etc/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do mkdir -p $d; mount -t tmpfs tmpfs $d; done; mkdir -p /etc/libvirt/qemu; "
                  "printf 'stdio_handler = \"file\"\\nsecurity_driver = \"none\"\\nuser = \"root\"\\ngroup = \"root\"\\ncgroup_controllers = []\\nremember_owner = 0\\nnamespaces = []\\n'"
                  f" > /etc/libvirt/qemu.conf; exec libvirtd -f {where}/libvirtd.conf -p {where}/pid -t 60")
        with open(where / "log", "wb") as log:
            self.process = subprocess.Popen(["unshare", "-m", "sh", "-c", script], stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        self.where, self.uri = where, f"qemu+unix:///system?socket={where}/libvirt-sock"
        wait((where / "libvirt-sock").exists)

    def messages(self):
        return (self.where / "log").read_text()

    def virsh(self, *words, status=0):
        done = subprocess.run(["virsh", "-c", self.uri, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=PLAIN, timeout=60 * SLOW, check=False, text=True)
        assert status is None or done.returncode == status, done.stdout
        return done.stdout


@pytest.mark.skipif(not shutil.which("libvirtd") or os.geteuid() != 0, reason="no libvirtd here, or not root")
def test_with_libvirtd(tmp_path):
    """To Debian's libvirtd and back, driven by the client and from daemon to daemon."""
    pair = Pair(tmp_path, "qemu")
    theirs = Libvirtd(tmp_path / "libvirtd")
    try:
        pair.run()
        for options, client in ((["--p2p"], "virsh"), ([], "vireo")):
            pair.client = client
            for at, to in ((pair.a, theirs), (theirs, pair.a)):
                pair.migrate(at, to, "--live", "--persistent", "--undefinesource", *options)
                pair.goes_on(to)
    finally:
        theirs.virsh("destroy", "vm", status=None)
        theirs.process.terminate()
        theirs.process.wait(20 * SLOW)
        pair.end()


# ---- what is refused ----

def test_refused(own):
    own.run()
    assert "vireo-vmm" in own.migrate(own.a, own.b, "--live", "--copy-storage-all", status=1)
    for words, text in ((("--tunnelled", "--p2p"), "TUNNELLED"), (("--tls",), "TLS"), (("--postcopy",), "POSTCOPY"),
                        (("--zerocopy", "--parallel"), "ZEROCOPY"), (("--compressed", "--comp-methods", "mt"), "'mt'"), (("--graphicsuri", "spice://x:1"), "graphics_uri")):
        assert text in own.migrate(own.a, own.b, "--live", *words, status=1), words
    for options in ([], ["--p2p"]):
        assert "Attempt to migrate guest to the same host" in own.migrate(own.a, own.a, "--live", *options, status=1)
    assert "/nowhere" in own.migrate(own.a, own.b, "--live", "--p2p", uri="qemu+unix:///system?socket=/nowhere", status=1)
    assert "starts no program" in own.migrate(own.a, own.b, "--live", "--p2p", uri="qemu+ext://other/system?command=/bin/true", status=1)
    own.b.virsh("define", own.path / "vm.xml")
    own.b.virsh("start", "vm")
    assert "already active" in own.migrate(own.a, own.b, "--live", status=1)
    own.b.virsh("destroy", "vm")
    assert "None" in own.a.virsh("domjobinfo", "vm")
    own.only_at(own.a, own.b)


def test_unsafe(own, tmp_path):
    disk = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "8M"], check=True)
    text = own.xml.replace("<serial ", f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{disk}'/><target dev='vda' bus='virtio'/></disk><serial ")
    (own.path / "vm.xml").write_text(text, encoding="utf-8")
    own.run()
    assert "Unsafe migration" in own.migrate(own.a, own.b, "--live", status=1)
    own.only_at(own.a, own.b)
    own.migrate(own.a, own.b, "--live", "--unsafe")
    own.only_at(own.b, own.a)


class Disks:
    """The guest's disk, for each host its own."""

    def __init__(self, pair):
        self.pair, self.here, self.there = pair, pair.path / "here.qcow2", pair.path / "there.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", self.here, "16M"], check=True)
        subprocess.run(["qemu-io", "-c", "write -P 7 1M 14M", self.here], check=True, stdout=subprocess.PIPE)
        disk = f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{self.here}'/><target dev='vda' bus='virtio'/></disk>"
        (pair.path / "vm.xml").write_text(pair.xml.replace("<serial ", disk + "<serial "), encoding="utf-8")
        pair.run()
        self.xml = pair.path / "there.xml"
        self.xml.write_text(pair.a.virsh("dumpxml", "vm", "--migratable").replace(str(self.here), str(self.there)), encoding="utf-8")
        self.words = ["--live", "--copy-storage-all", "--xml", str(self.xml)]


def test_disks_are_copied(foreign):
    disks = Disks(foreign)
    assert "vdz" in foreign.migrate(foreign.a, foreign.b, "--live", "--copy-storage-all", "--migrate-disks", "vdz", status=1)
    for options in ([], ["--p2p", "--copy-storage-synchronous-writes"]):
        foreign.migrate(foreign.a, foreign.b, *disks.words, *options)
        foreign.only_at(foreign.b, foreign.a)
        assert re.search(r"File total: +16.000 MiB", foreign.a.virsh("domjobinfo", "vm", "--completed"))
        foreign.b.virsh("destroy", "vm")
        subprocess.run(["qemu-img", "compare", disks.here, disks.there], check=True, stdout=subprocess.PIPE)
        disks.there.unlink()
        foreign.a.virsh("start", "vm")
        foreign.said = 0
    disks.xml.write_text(disks.xml.read_text().replace("there.qcow2", "nowhere/there.qcow2"), encoding="utf-8")
    assert "cannot make the image" in foreign.migrate(foreign.a, foreign.b, *disks.words, status=1)
    foreign.only_at(foreign.a, foreign.b)


def test_top_of_a_disk_is_copied(foreign):
    """The image below is on both hosts."""
    disks = Disks(foreign)
    foreign.a.virsh("destroy", "vm")
    foreign.said = 0
    base = foreign.path / "base.qcow2"
    disks.here.rename(base)
    for path in (disks.here, disks.there):
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", path], check=True)
    subprocess.run(["qemu-io", "-c", "write -P 9 8M 1M", disks.here], check=True, stdout=subprocess.PIPE)
    foreign.a.virsh("start", "vm")
    foreign.goes_on(foreign.a)
    disks.xml.write_text(foreign.a.virsh("dumpxml", "vm", "--migratable").replace(str(disks.here), str(disks.there)), encoding="utf-8")
    words = [w.replace("--copy-storage-all", "--copy-storage-inc") for w in disks.words]
    foreign.migrate(foreign.a, foreign.b, *words)
    foreign.only_at(foreign.b, foreign.a)
    foreign.b.virsh("destroy", "vm")
    subprocess.run(["qemu-img", "compare", disks.here, disks.there], check=True, stdout=subprocess.PIPE)
    assert str(base) in subprocess.run(["qemu-img", "info", disks.there], check=True, stdout=subprocess.PIPE, text=True).stdout
    assert disks.there.stat().st_size < 4 << 20, "what is below the top was copied too"


@pytest.mark.parametrize("who", ["client", "source daemon"])
def test_killed_while_disks_are_copied(foreign, who):
    disks = Disks(foreign)
    process = subprocess.Popen(foreign.words(foreign.a, foreign.b, *disks.words, "--bandwidth", "1"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=PLAIN, text=True)
    wait(lambda: re.search(r"File processed: +[1-9]", foreign.a.virsh("domjobinfo", "vm", status=None)))
    assert disks.there.exists()
    victim = {"source daemon": foreign.a, "destination daemon": foreign.b}.get(who)
    if victim:
        kill_again(victim)
        victim.start()
    else:
        process.kill()
    assert process.wait(40 * SLOW) != 0
    foreign.only_at(foreign.a, foreign.b)
    wait(lambda: "No current block job" in foreign.a.virsh("blockjob", "vm", "vda", status=None))
    assert "mirror" not in foreign.a.virsh("dumpxml", "vm") and not disks.there.exists()


# ---- limits, and a migration that is ended ----

def test_limits_and_abort(slow):
    slow.run()
    a = slow.a
    assert a.virsh("migrate-getspeed", "vm").strip() == "8796093022207"
    a.virsh("migrate-setspeed", "vm", 2)
    assert a.virsh("migrate-getspeed", "vm").strip() == "2"
    a.virsh("migrate-setmaxdowntime", "vm", 120)
    assert a.virsh("migrate-getmaxdowntime", "vm").strip() == "120"
    for options in ([], ["--p2p"]):
        process = slow.begin(a, slow.b, "--live", *options)
        info = a.virsh("domjobinfo", "vm")
        assert "Unbounded" in info and "Data remaining:" in info
        assert "paused (migrating)" == slow.state(slow.b)
        a.virsh("domjobabort", "vm")
        assert "canceled by client" in process.communicate(timeout=30 * SLOW)[0] and process.returncode == 1
        slow.only_at(a, slow.b)
    process = slow.begin(a, slow.b, "--live", "--timeout", "1", "--timeout-suspend")
    wait(lambda: slow.state(a).startswith("paused"))
    a.virsh("migrate-setspeed", "vm", 1000)
    assert process.wait(30 * SLOW) == 0
    slow.only_at(slow.b, a)


# ---- whoever dies ----

@pytest.mark.parametrize("how,who", [("client", "client"), ("client", "source daemon"), ("client", "destination daemon"), ("client", "source machine"), ("p2p", "client"),
                                     ("p2p", "source daemon"), ("p2p", "destination daemon"), ("p2p", "destination machine")])
def test_killed_while_it_moves(slow, how, who):
    slow.run()
    process = slow.begin(slow.a, slow.b, "--live", *(["--p2p"] if how == "p2p" else []))
    {"client": lambda: process.kill(), "source daemon": lambda: slow.a.process.kill(), "destination daemon": lambda: slow.b.process.kill(),
     "source machine": lambda: os.kill(slow.pid(slow.a), signal.SIGKILL), "destination machine": lambda: os.kill(slow.pid(slow.b), signal.SIGKILL)}[who]()
    for daemon in (slow.a, slow.b):
        if who.endswith("daemon") and daemon is (slow.a if who.startswith("source") else slow.b):
            daemon.process.wait()
            daemon.start()
    assert process.wait(40 * SLOW) != 0
    if who == "source machine":
        wait(lambda: slow.state(slow.a) == "shut off (crashed)")
        wait(lambda: not slow.left(slow.a) and not slow.left(slow.b))
    else:
        slow.only_at(slow.a, slow.b)


class Proxy:
    """Stands between a client and the destination's daemon, and does something when a message of a procedure passes: act(proxy) -> whether to pass it on."""

    def __init__(self, to, procedure, reply, act):
        self.to, self.procedure, self.reply, self.act, self.done = to, procedure, reply, act, False
        self.path = os.path.join(to.root, "proxy")
        self.uri = f"qemu+unix:///system?socket={self.path}"
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(self.path)
        self.socket.listen(8)
        self.pairs = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            here, _ = self.socket.accept()
            there = socket.socket(socket.AF_UNIX)
            if there.connect_ex(self.to.socket):
                here.close()
                continue
            self.pairs.append((here, there))
            threading.Thread(target=self.pass_on, args=(here, there, 0), daemon=True).start()
            threading.Thread(target=self.pass_on, args=(there, here, 1), daemon=True).start()

    def cut(self):
        for s in (s for p in self.pairs for s in p):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def pass_on(self, source, sink, kind):
        data = b""
        try:
            while chunk := source.recv(65536):
                data += chunk
                while len(data) >= 28 and len(data) >= (size := struct.unpack(">I", data[:4])[0]):
                    message, data = data[:size], data[size:]
                    procedure, sort = struct.unpack(">iI", message[12:20])
                    if not self.done and (procedure, sort) == (self.procedure, int(self.reply)):
                        self.done = True
                        if not self.act(self):
                            continue
                    sink.sendall(message)
        except OSError:
            pass
        for s in (source, sink):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def kill_again(daemon):
    daemon.process.kill()
    daemon.process.wait()


@pytest.mark.parametrize("reply", [False, True])
def test_connection_lost_in_finish(own, reply):
    """The source asks again, and finds the guest there or not."""
    own.run()

    def act(proxy):
        proxy.cut()
        return False
    proxy = Proxy(own.b, FINISH, reply, act)
    own.migrate(own.a, own.b, "--live", "--p2p", "--persistent", uri=proxy.uri, status=0 if reply else 1)
    if reply:
        own.only_at(own.b, own.a, "migrated")
    else:
        own.only_at(own.a, own.b)


@pytest.mark.parametrize("who", ["source", "destination"])
@pytest.mark.parametrize("step,reply", [(PREPARE, True), (FINISH, False), (FINISH, True)])
def test_daemon_killed_in_a_step(own, who, step, reply):
    own.run()
    killed = own.a if who == "source" else own.b

    def act(proxy):
        kill_again(killed)
        killed.start()
        return False
    proxy = Proxy(own.b, step, reply, act)
    process = subprocess.Popen(own.words(own.a, own.b, "--live", "--p2p", uri=proxy.uri), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=PLAIN, text=True)
    process.wait(50 * SLOW)
    if step == FINISH and reply:
        own.only_at(own.b, own.a)
    else:
        own.only_at(own.a, own.b)


def test_client_killed_after_prepare(own):
    own.run()
    holder = []

    def act(proxy):
        holder[0].kill()
        return False
    proxy = Proxy(own.b, PREPARE, True, act)
    holder.append(subprocess.Popen(own.words(own.a, own.b, "--live", uri=proxy.uri), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=PLAIN, text=True))
    holder[0].wait(30 * SLOW)
    own.only_at(own.a, own.b)
    own.a.virsh("setmem", "vm", 32768, "--config")  # other work is not kept away any more


def test_client_killed_before_finish(own):
    """Nobody tells the source what became of it: the guest stands still until somebody says so."""
    own.run()
    holder = []

    def act(proxy):
        holder[0].kill()
        return False
    proxy = Proxy(own.b, FINISH, False, act)
    holder.append(subprocess.Popen(own.words(own.a, own.b, "--live", uri=proxy.uri), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=PLAIN, text=True))
    holder[0].wait(30 * SLOW)
    wait(lambda: not own.left(own.b))
    assert own.state(own.a) == "paused (migrating)"
    own.a.virsh("resume", "vm")
    own.only_at(own.a, own.b)
