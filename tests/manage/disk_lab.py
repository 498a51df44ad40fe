# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of block jobs, snapshots and backups share: a paused domain with a chain of images, what is in the images, and libvirt's events.
No guest runs: what a guest would write comes over NBD. A test that uses `events` or Events imports the fixture `loop`, too."""
import atexit
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import pytest

from limits import SLOW

libvirt = pytest.importorskip("libvirt", reason="python3-libvirt is not installed")
TYPES = {1: "pull", 2: "copy", 3: "commit", 4: "active commit", 5: "backup"}
STATES = {0: "completed", 1: "failed", 2: "canceled", 3: "ready"}


def run(*words):
    done = subprocess.run(list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}"
    return done.stdout


def write(image, what, at, size, form="qcow2"):
    run("qemu-io", "-f", form, "-c", f"write -P {what} {at} {size}", image)


def reads(image, what, at, size, form="qcow2"):
    out = run("qemu-io", "-U", "-r", "-f", form, "-c", f"read -P {what} {at} {size}", image)
    assert "failed" not in out, f"{image}: not {what} at {at}: {out}"


def info(image):
    return json.loads(run("qemu-img", "info", "-U", "--output=json", image))


IMAGES = ("base.qcow2", "mid.qcow2", "top.qcow2", "second.img")


@functools.lru_cache(maxsize=None)
def chain_of_three():
    """A directory with the images that all tests begin with, made once: top over mid over base, and a raw one."""
    where = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, where, True)
    for n, (name, below) in enumerate((("base", None), ("mid", "base"), ("top", "mid"))):
        run("qemu-img", "create", "-q", "-f", "qcow2", *(["-b", below + ".qcow2", "-F", "qcow2"] if below else []), f"{where}/{name}.qcow2", *([] if below else ["16M"]))
        write(f"{where}/{name}.qcow2", n + 1, f"{n}M", "1M")
    run("qemu-img", "create", "-q", "-f", "raw", f"{where}/second.img", "8M")
    write(f"{where}/second.img", 7, "0", "1M", "raw")
    return where


class Machine:
    """A paused domain `vm` whose disk vda is top.qcow2 over mid.qcow2 over base.qcow2; each holds a MiB of its own: 1, 2, 3."""

    def __init__(self, daemon, path, persistent=True, start=True):
        self.daemon, self.path = daemon, path
        for image in IMAGES:
            shutil.copy(os.path.join(chain_of_three(), image), path)
        self.xml = path / "vm.xml"
        self.xml.write_text(f"<domain type='qemu'><name>vm</name><memory unit='MiB'>32</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os><devices>"
                            f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{self.file('top')}'/><target dev='vda' bus='virtio'/></disk>"
                            f"</devices></domain>", encoding="utf-8")
        if persistent and start:
            self.virsh("define", self.xml)
            self.virsh("start", "vm", "--paused")
        elif start:
            self.virsh("create", self.xml, "--paused")

    def file(self, name):
        return self.path / (name + ".qcow2")

    def virsh(self, *words, **named):
        return self.daemon.virsh(*words, **named)

    def disk(self, *flags):
        return re.search(r"<disk .*?</disk>", self.virsh("dumpxml", "vm", *flags), re.S)[0]

    def chain(self, *flags):
        """Names of the images from top to bottom, as the document has them."""
        xml = re.sub(r"<mirror.*?</mirror>", "", self.disk(*flags), flags=re.S)
        return [os.path.basename(f).removesuffix(".qcow2") for f in re.findall(r"<source file='([^']*)'", xml)]

    def index(self, name):
        return re.search(r"index='(\d+)'[^/]*(?:<format type='qcow2'/>\s*)?<source file='%s'/>" % self.file(name), self.disk())[1]

    def qmp(self, command, **arguments):
        return json.loads(self.virsh("qemu-monitor-command", "vm", json.dumps({"execute": command, "arguments": arguments})))

    def nodes(self):
        return sorted(n["node-name"] for n in self.qmp("query-named-block-nodes", flat=True)["return"] if n["node-name"].startswith("libvirt-"))

    def until(self, text, *words):
        end = time.monotonic() + 20 * SLOW
        while text not in (out := self.virsh(*words, status=None)):
            assert time.monotonic() < end, f"virsh {words} never says {text!r}: {out}"
            time.sleep(0.05)

    def nbd_write(self, node, what, at, size):
        socket = self.path / "nbd"
        self.qmp("nbd-server-start", addr={"type": "unix", "data": {"path": str(socket)}})
        self.qmp("block-export-add", type="nbd", id="e", writable=True, name="d", **{"node-name": node})
        run("qemu-io", "-f", "raw", "-c", f"write -P {what} {at} {size}", f"nbd+unix:///d?socket={socket}")
        self.qmp("block-export-del", id="e", mode="hard")
        self.qmp("nbd-server-stop")

    def kill(self):
        """The daemon, without a word."""
        self.daemon.process.send_signal(signal.SIGKILL)
        self.daemon.process.wait()

    def restart(self):
        self.kill()
        self.daemon.start()


class Domain(Machine):
    """`vm` with vda over a chain of three, and a raw vdb."""

    def __init__(self, daemon, path, running=True):
        super().__init__(daemon, path, start=False)
        xml = self.xml.read_text(encoding="utf-8")
        self.xml.write_text(xml.replace("</devices>", f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{path}/second.img'/><target dev='vdb' bus='virtio'/></disk>"
                                        "<disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk></devices>"), encoding="utf-8")
        self.virsh("define", self.xml)
        if running:
            self.virsh("start", "vm", "--paused")

    def snapshot(self, name, *words, status=0):
        return self.virsh("snapshot-create-as", "vm", name, *words, status=status)

    def names(self, *words):
        return self.virsh("snapshot-list", "vm", "--name", *words).split()

    def tree(self):
        return re.sub(r"[|+\-\s]+", " ", self.virsh("snapshot-list", "vm", "--tree")).strip()


@pytest.fixture(scope="session")
def loop():
    """One thread that delivers libvirt's events for all tests."""
    libvirt.virEventRegisterDefaultImpl()
    libvirt.registerErrorHandler(lambda *_: None, None)

    def turn():
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=turn, daemon=True).start()


class Events:
    def __init__(self, uri):
        self.seen, self.connection = [], libvirt.open(uri)
        for which in libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB, libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2:
            self.connection.domainEventRegisterAny(None, which, self.note, None)

    def note(self, _connection, _domain, disk, kind, status, _opaque):
        self.seen.append((os.path.basename(disk), TYPES[kind], STATES[status]))

    def wait(self, *wanted):
        end = time.monotonic() + 20 * SLOW
        while not set(wanted) <= set(self.seen):
            assert time.monotonic() < end, f"{set(wanted) - set(self.seen)} did not come, but {self.seen}"
            time.sleep(0.02)
        self.seen.clear()
