# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the management layer: vireod on a temporary root, with Debian's clients as judges. VIREO_BUILD names the build directory, VIREO_DAEMON
another vireod that lies in it (one built with sanitizers)."""
import os
import signal
import socket
import struct
import subprocess
import time

import pytest

from limits import SLOW

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("VIREO_BUILD", os.path.join(os.path.dirname(os.path.dirname(HERE)), "build"))
DAEMON = os.environ.get("VIREO_DAEMON", os.path.join(BUILD, "vireod"))
os.environ["PATH"] += ":/usr/sbin:/sbin"  # where an ordinary user's shell does not look
PLAIN = dict(os.environ, LANG="C", LC_ALL="C", LIBVIRT_AUTOSTART="0")
PLAIN.pop("LIBVIRT_DEFAULT_URI", None)


class Vireod:
    """A vireod of its own. `root` holds all that it keeps; `prefix` are words of a command that becomes the vireod."""

    def __init__(self, root, *options, config="", env=None, wait=True, prefix=()):
        self.root = str(root)
        self.socket = os.path.join(self.root, "run/vireo/libvirt-sock")
        self.uri = f"qemu+unix:///{'system' if os.geteuid() == 0 else 'session'}?socket={self.socket}"
        self.options, self.prefix, self.env = options, prefix, dict(PLAIN, **(env or {}))
        self.log = os.path.join(self.root, "vireod.log")
        os.makedirs(os.path.join(self.root, "etc/vireo"), exist_ok=True)
        if config:
            with open(os.path.join(self.root, "etc/vireo/vireod.conf"), "w", encoding="utf-8") as f:
                f.write(config)
        self.process = None
        self.start(wait)

    def start(self, wait=True):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([*self.prefix, DAEMON, "--root", self.root, *self.options], stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL, env=self.env, start_new_session=True)
        until = time.monotonic() + 20 * SLOW
        while wait and not self.answers():
            assert self.process.poll() is None, f"vireod ended with {self.process.returncode}: {self.messages()}"
            assert time.monotonic() < until, f"vireod does not answer: {self.messages()}"
            time.sleep(0.02)

    def answers(self):
        """Not so one that was killed: a machine that was just being made holds its socket until the machine's program runs."""
        with socket.socket(socket.AF_UNIX) as s:
            try:
                s.connect(self.socket)
            except OSError:
                return False
            listener = struct.unpack("3i", s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
            return os.path.exists(f"/proc/{listener}")

    def messages(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def stop(self, number=signal.SIGTERM, status=0):
        """Ends it; it must end well."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(20 * SLOW)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"vireod does not end: {self.messages()}") from None
        if status is not None:
            assert self.process.returncode == status, f"vireod ended with {self.process.returncode}: {self.messages()}"

    def groups(self):
        """Control groups of this daemon's machines. Their names end with glib's g_str_hash of the directory: daemons with other directories have others."""
        salt = 5381
        for byte in os.path.join(self.root, "run/vireo/qemu").encode():
            salt = (salt * 33 + byte) & 0xffffffff
        return [os.path.join(top, d) for top, dirs, _ in os.walk("/sys/fs/cgroup") for d in dirs if d.endswith(f"-{salt:08x}.libvirt-qemu")]

    def sweep(self):
        """Takes away groups of machines that were killed while no daemon looked after them, as soon as the last one has ended."""
        until = time.monotonic() + 5 * SLOW
        while (groups := self.groups()) and time.monotonic() < until:
            for path in (path for group in groups for path, _, _ in os.walk(group, topdown=False)):
                try:
                    os.rmdir(path)
                except OSError:
                    time.sleep(0.02)

    def virsh(self, *words, status=0, readonly=False, stdin=None):
        """Output (and errors) of Debian's virsh on this daemon, which must end with this status (None: any)."""
        where = ["-r", "-c", self.uri + "-ro"] if readonly else ["-c", self.uri]
        done = subprocess.run(["virsh", *where, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=PLAIN, timeout=60 * SLOW, check=False,
                              input=stdin, text=True)
        assert status is None or done.returncode == status, f"virsh {' '.join(map(str, words))} ended with {done.returncode}: {done.stdout}\n{self.messages()}"
        return done.stdout


@pytest.fixture
def vireod(tmp_path):
    """A vireod on a fresh root, stopped at the end of the test."""
    daemon = Vireod(tmp_path)
    yield daemon
    daemon.stop(status=None)
    daemon.sweep()


@pytest.fixture(scope="module")
def shared_vireod(tmp_path_factory):
    """One vireod for all tests of a file."""
    daemon = Vireod(tmp_path_factory.mktemp("vireod"))
    yield daemon
    daemon.stop()
    daemon.sweep()


@pytest.fixture
def virsh(vireod):
    return vireod.virsh
