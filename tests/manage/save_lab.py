# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that counts, and the domain around it: what the tests of saved states share."""
import os
import re
import socket
import struct
import subprocess
import time

import pytest

from conftest import BUILD, HERE
from limits import SLOW

EMULATORS = {"qemu": "/usr/bin/qemu-system-x86_64", "vireo": os.path.abspath(os.path.join(BUILD, "vireo-vmm"))}


def kernel(where):
    path = os.path.join(where, "tally")
    if not os.path.exists(path):
        subprocess.run(["nasm", "-f", "bin", "-o", path, os.path.join(HERE, "tally.asm")], check=True)
    return path


class Counter:
    """A domain `vm` whose guest answers each byte on its serial port with the next letter of the alphabet."""

    def __init__(self, daemon, path, emulator, mib=32, define=True, devices=""):
        self.daemon, self.path, self.said = daemon, path, 0
        self.serial, self.image, self.xml = path / "serial", path / "disk.qcow2", path / "vm.xml"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", self.image, "8M"], check=True)
        self.xml.write_text(f"<domain type='qemu'><name>vm</name><uuid>0d3f5c36-5c0f-4a32-9d0e-5f1f0f5f2b5a</uuid><memory unit='MiB'>{mib}</memory><vcpu>1</vcpu>"
                            f"<os><type arch='x86_64' machine='q35'>hvm</type><kernel>{kernel(path)}</kernel></os><devices><emulator>{EMULATORS[emulator]}</emulator>"
                            f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{self.image}'/><target dev='vda' bus='virtio'/></disk>"
                            f"<serial type='unix'><source mode='bind' path='{self.serial}'/></serial>{devices}</devices></domain>", encoding="utf-8")
        if define:
            self.virsh("define", self.xml)

    def virsh(self, *words, **named):
        return self.daemon.virsh(*words, **named)

    def start(self, *words):
        self.virsh("start", "vm", *words)
        self.said = 0

    def connect(self):
        end = time.monotonic() + 20 * SLOW
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(20 * SLOW)
        while s.connect_ex(str(self.serial)) != 0:
            assert time.monotonic() < end, self.daemon.messages()
            time.sleep(0.02)
        return s

    def goes_on(self):
        """The guest counts on from where it was."""
        expected = bytes([97 + self.said % 26])
        with self.connect() as s:
            s.sendall(b"x")
            assert s.recv(1) == expected
        self.said += 1

    def starts_over(self):
        """The guest is being reset, which may lose what it is asked before it is up."""
        answers, end = b"", time.monotonic() + 20 * SLOW
        with self.connect() as s:
            s.settimeout(0.3)
            while not answers:
                assert time.monotonic() < end
                s.sendall(b"x")
                try:
                    while True:
                        answers += s.recv(1)
                except TimeoutError:
                    pass
        assert b"abcdefghijklmnopqrstuvwxyz".startswith(answers), answers
        self.said = len(answers)

    def state(self):
        return self.virsh("domstate", "vm", "--reason").strip()

    def until(self, text, *words):
        end = time.monotonic() + 20 * SLOW
        while text not in (out := self.virsh(*words, status=None)):
            assert time.monotonic() < end, f"virsh {words} never says {text!r}: {out}\n{self.daemon.messages()}"
            time.sleep(0.05)

    def xml_status(self):
        """What a daemon that comes after this one would find."""
        try:
            return (self.path / "run/vireo/qemu/vm.xml").read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    def pid(self):
        return int(re.search(r" pid='(\d+)'", self.xml_status())[1])

    def saved(self):
        return self.path / "var/lib/vireo/qemu/save/vm.save"


def header(path):
    """Magic, the 19 words, the document."""
    data = path.read_bytes()
    words = struct.unpack("<19I", data[16:92])
    return data[:16].decode(), words, data[92:92 + words[1]].split(b"\0")[0].decode()


@pytest.fixture(name="vm", params=list(EMULATORS))
def fixture_vm(request, vireod, tmp_path):
    counter = Counter(vireod, tmp_path, request.param)
    yield counter
    vireod.virsh("destroy", "vm", status=None)


def told(seen, *wanted):
    """Waits until just these events have come, in this order, and forgets them."""
    end = time.monotonic() + 20 * SLOW
    while seen != list(wanted):
        assert time.monotonic() < end and len(seen) <= len(wanted), seen
        time.sleep(0.02)
    seen.clear()
