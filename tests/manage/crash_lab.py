# SPDX-License-Identifier: GPL-2.0-or-later
"""A daemon that is killed at chosen steps (strace injects the signal), and its machine, which goes on without one."""
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import xml.etree.ElementTree as ET

import libvirt
import pytest

from conftest import Vireod
from disk_lab import Domain, run
from limits import SLOW

STEPS_MOST = 120


@pytest.fixture
def running():
    """`vm` of a daemon whose files are in memory: it syncs their file system at each start after a kill, and that of a busy disk takes its time."""
    where = pathlib.Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    daemon = Vireod(where)
    try:
        yield Domain(daemon, where)
        if daemon.process.poll() is not None:  # a test that failed in between leaves its machine
            daemon.start()
        daemon.virsh("destroy", "vm", status=None)
    finally:
        daemon.stop(status=None)
        daemon.sweep()
        shutil.rmtree(where)


def can_trace():
    if not shutil.which("strace"):
        return "strace is not installed"
    done = subprocess.run(["strace", "-qq", "-e", "trace=none", "true"], stderr=subprocess.PIPE, text=True, check=False)
    return None if done.returncode == 0 else f"strace cannot be used here: {done.stderr.strip()}"


class Killer:
    """The daemon gets SIGKILL when one of its threads is about to make its k-th call of these since now."""

    def __init__(self, daemon, calls, k):
        self.daemon = daemon
        self.process = subprocess.Popen(["strace", "-f", "-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={calls}:signal=KILL:when={k}", "-p", str(daemon.process.pid)],
                                        stderr=subprocess.PIPE, text=True)
        line = self.process.stderr.readline()
        assert "attached" in line, line

    def finish(self, sure):
        """Whether it was killed; sure: its client has lost it."""
        try:
            self.daemon.process.wait(20 * SLOW if sure else 0.5)
        except subprocess.TimeoutExpired:
            pass
        self.process.send_signal(signal.SIGINT)
        self.process.communicate()
        return self.daemon.process.poll() is not None


def lives_through(vm, calls, k, call):
    """Whether the daemon did. call: what is done with the domain."""
    c = libvirt.open(vm.daemon.uri)
    d = c.lookupByName("vm")
    killer = Killer(vm.daemon, calls, k)
    error = None
    try:
        call(d)
    except libvirt.libvirtError as e:
        error = e
    killed = killer.finish(error is not None)
    assert killed or error is None, error
    try:
        c.close()
    except libvirt.libvirtError:
        pass
    return not killed


def found_again(vm):
    """A new daemon answers before it has connected to the machine."""
    vm.daemon.start()
    vm.until('"return"', "qemu-monitor-command", "vm", '{"execute": "query-status"}')


def images(vm, *flags):
    """Paths of each disk's images, from the top, as a document has them."""
    found = {}
    for disk in ET.fromstring(vm.virsh("dumpxml", "vm", *flags)).iter("disk"):
        chain, at = [], disk
        while at is not None and at.find("source") is not None:
            chain.append(at.find("source").get("file"))
            at = at.find("backingStore")
        if chain:
            found[disk.find("target").get("dev")] = chain
    return found


def in_machine(vm):
    """The same as the machine has it."""
    chains = []
    for drive in vm.qmp("query-block")["return"]:
        chain, at = [], drive.get("inserted", {}).get("image")
        while at:
            chain.append(at["filename"])
            at = at.get("backing-image")
        if chain:
            chains.append(chain)
    return sorted(chains)


class Monitor:
    """The machine's own socket, while no daemon holds it."""

    def __init__(self, vm):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(next((vm.path / "run/vireo/qemu").glob("domain-*")) / "monitor.sock"))
        self.file = self.socket.makefile("rw", encoding="utf-8")
        self.file.readline()
        self.command("qmp_capabilities")

    def command(self, what, /, **arguments):
        self.file.write(json.dumps({"execute": what, "arguments": arguments}) + "\n")
        self.file.flush()
        while True:
            answer = json.loads(self.file.readline())
            if "event" not in answer:
                assert "return" in answer, answer
                return answer["return"]

    def close(self):
        self.file.close()
        self.socket.close()

    def top(self, path):
        """The node over which a drive has this image; None: no drive has it."""
        return next((d["inserted"]["node-name"] for d in self.command("query-block") if d.get("inserted", {}).get("image", {}).get("filename") == str(path)), None)

    def node(self):
        """Where the first disk writes to."""
        return next(d["inserted"]["node-name"] for d in self.command("query-block") if not d.get("inserted", {}).get("image", {}).get("filename", ".img").endswith(".img"))

    def write(self, vm, node, what):
        where = vm.path / "own-nbd"
        self.command("nbd-server-start", addr={"type": "unix", "data": {"path": str(where)}})
        self.command("block-export-add", type="nbd", id="x", writable=True, name="d", **{"node-name": node})
        run("qemu-io", "-f", "raw", "-c", f"write -P {what} 0 64k", "-c", "flush", f"nbd+unix:///d?socket={where}")
        self.command("block-export-del", id="x", mode="hard")
        self.command("nbd-server-stop")


def end_machine(vm):
    pid = int(ET.fromstring((vm.path / "run/vireo/qemu/vm.xml").read_text(encoding="utf-8").split(">\n", 1)[0] + "/>").get("pid"))
    os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 20 * SLOW
    while os.path.exists(f"/proc/{pid}") and " Z " not in open(f"/proc/{pid}/stat", encoding="utf-8").read():
        assert time.monotonic() < end
        time.sleep(0.01)
