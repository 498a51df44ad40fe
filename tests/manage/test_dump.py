# SPDX-License-Identifier: GPL-2.0-or-later
"""virsh dump: the memory as a core that debuggers read, or as the machine's stream; and what a crashed guest leaves."""
import os
import re
import shutil
import struct
import subprocess
import time

import pytest

libvirt = pytest.importorskip("libvirt", reason="python3-libvirt is not installed")
from limits import SLOW  # noqa: E402
from save_lab import EMULATORS, Counter, fixture_vm  # noqa: E402, F401 pylint: disable=unused-import


def loads(path):
    """Physical address, offset in the file, size of each segment that is memory; sizes of the notes."""
    data = path.read_bytes()
    assert data[:4] == b"\x7fELF" and data[4] == 2 and struct.unpack_from("<H", data, 16)[0] == 4, "no core"
    at, size, count = struct.unpack_from("<Q", data, 32)[0], *struct.unpack_from("<HH", data, 54)
    found, notes = [], 0
    for i in range(count):
        kind, _flags, offset, _virtual, physical, in_file, _in_memory, _align = struct.unpack_from("<IIQQQQQQ", data, at + i * size)
        if kind == 1:
            found.append((physical, offset, in_file))
        notes += in_file if kind == 4 else 0
    return data, found, notes


def memory(path, at, size):
    data, found, _ = loads(path)
    return next(data[offset + at - physical:][:size] for physical, offset, length in found if physical <= at < physical + length)


def test_core(vm):
    where = vm.path / "core"
    vm.start()
    for _ in range(5):
        vm.goes_on()
    vm.virsh("dump", "vm", where, "--memory-only", "--verbose")
    code = (vm.path / "tally").read_bytes()
    assert memory(where, 0x800000, 4) == struct.pack("<I", 5) and memory(where, 0x100000, 64) == code[:64]
    assert loads(where)[2] > 300  # registers
    if shutil.which("readelf"):
        told = subprocess.run(["readelf", "-l", "-n", where], stdout=subprocess.PIPE, text=True, check=True).stdout
        assert "CORE (Core file)" in told and re.search(r"NT_PRSTATUS", told), told
    assert vm.state() == "running (unpaused)" and "Dump" in vm.virsh("domjobinfo", "vm", "--completed")
    vm.goes_on()
    vm.virsh("dump", "vm", where, "--memory-only", "--live", "--bypass-cache")
    assert memory(where, 0x800000, 4) == struct.pack("<I", 6)
    vm.virsh("suspend", "vm")
    vm.virsh("dump", "vm", where, "--memory-only", "--format", "elf")
    assert vm.state() == "paused (user)"
    vm.virsh("resume", "vm")
    vm.goes_on()


def test_stream(vm):
    where = vm.path / "stream"
    vm.start()
    vm.goes_on()
    vm.virsh("dump", "vm", where)
    assert where.stat().st_size > 10000 and vm.state() == "running (unpaused)"
    vm.goes_on()
    vm.virsh("dump", "vm", where, "--live")
    vm.until("running", "domstate", "vm")
    vm.goes_on()


def test_what_follows(vm):
    where = vm.path / "core"
    vm.start()
    vm.goes_on()
    vm.virsh("dump", "vm", where, "--memory-only", "--reset")
    vm.starts_over()
    vm.virsh("dump", "vm", where, "--memory-only", "--crash")
    assert vm.state() == "shut off (crashed)" and loads(where)[1]


def test_refused(vm):
    where = vm.path / "core"
    vm.start()
    for words, text in ((["--crash", "--live"], "exclusive"), (["--format", "kdump-zlib"], "only works with --memory-only"), (["--memory-only", "--format", "nonsense"], "not supported")):
        assert text in vm.virsh("dump", "vm", where, *words, status=1), words
    assert "is an image of" in vm.virsh("dump", "vm", vm.image, "--memory-only", status=1)
    assert "No such file" in vm.virsh("dump", "vm", vm.path / "none/core", status=1)
    assert not where.exists() and vm.state() == "running (booted)"
    vm.virsh("destroy", "vm")
    assert "not running" in vm.virsh("dump", "vm", where, status=1)


@pytest.mark.parametrize("emulator", list(EMULATORS))
@pytest.mark.parametrize("action", ["coredump-destroy", "coredump-restart"])
def test_panic(vireod, tmp_path, action, emulator):
    """A guest that panics: its memory is on the disk before <on_crash> is done."""
    guest = tmp_path / "guest"
    subprocess.run(["nasm", "-f", "bin", "-o", guest, os.path.join(os.path.dirname(__file__), "guest.asm")], check=True)
    vm = Counter(vireod, tmp_path, emulator, define=False, devices="<panic model='isa'><address type='isa' iobase='0x505'/></panic>")
    vm.xml.write_text(vm.xml.read_text(encoding="utf-8").replace(str(tmp_path / "tally"), str(guest)).replace("<devices>", f"<features><acpi/></features><on_crash>{action}</on_crash><devices>", 1), encoding="utf-8")
    vm.virsh("define", vm.xml)
    vm.virsh("start", "vm")
    end, found, wanted = time.monotonic() + 20 * SLOW, [], {"coredump-destroy": "shut off (crashed)", "coredump-restart": "running (booted)"}[action]
    with vm.connect() as serial:
        while not found or vm.state() != wanted:
            assert time.monotonic() < end, f"{vm.state()} {found}\n{vireod.messages()}"
            if not found and vm.state() == "running (booted)":
                serial.send(b"p")  # what comes before it is up may be lost
            time.sleep(0.1)
            found = list((tmp_path / "var/lib/vireo/qemu/dump").glob("*-vm-*"))
    assert memory(found[0], 0x100000, 16) == guest.read_bytes()[:16]
    vm.virsh("destroy", "vm", status=None)
