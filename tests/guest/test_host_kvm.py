# SPDX-License-Identifier: GPL-2.0-or-later
"""Small guests on this host's own /dev/kvm, whatever its CPU says. (Kernels of distributions on KVM: tests/kvm; the CPU's modes: the
unit test kvm.)"""
import os

import pytest

import vmm

EXIT_DEVICE = ("-device", "isa-debug-exit,iobase=0xf4,iosize=0x4")
CHIPS = ["on", "split", "off"]


@pytest.fixture(autouse=True)
def opens():
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError as e:
        pytest.skip(f"/dev/kvm does not open on this host: {e.strerror}")


def bare(machine, kernel, chips, *args, **kwargs):
    return machine("-accel", f"kvm,kernel-irqchip={chips}", "-m", "64", "-nodefaults", "-display", "none", "-serial", "stdio", *EXIT_DEVICE,
                   "-kernel", kernel, *args, **kwargs)


@pytest.mark.parametrize("chips", CHIPS)
@pytest.mark.parametrize("board", ["q35", "microvm"])
def test_few_byte_guest(machine, flat, board, chips):
    m = bare(machine, flat("hello"), chips, "-machine", board, "-no-reboot")
    m.wait(60, 0x55)
    assert m.text() == "few bytes\n"


def test_pvh_kernel(machine, flat):
    m = bare(machine, flat("pvh"), "on", "-append", "one two=3", "-no-reboot")
    m.wait(60, None)
    assert "PVH start info good" in m.text() and "command line: one two=3" in m.text(), m.tail()


@pytest.mark.parametrize("chips", CHIPS)
@pytest.mark.parametrize("guest", ["halt", "spin"])
def test_a_guest_that_never_yields_obeys_qmp(machine, flat, guest, chips):
    m = bare(machine, flat(guest), chips, "-smp", "2", qmp=True)
    m.wait_text("ing\n", 60)
    assert m.qmp.command("query-kvm") == {"enabled": True, "present": True}
    m.qmp.command("stop")
    assert m.qmp.command("query-status")["status"] == "paused"
    m.qmp.command("cont")
    m.qmp.command("system_reset")
    m.wait_text("ing\n", 60, "after system_reset the guest does not start again")
    names = [open(f"/proc/{m.process.pid}/task/{c['thread-id']}/comm", encoding="utf-8").read() for c in m.qmp.command("query-cpus-fast")]
    assert names == ["CPU 0/KVM\n", "CPU 1/KVM\n"]
    m.qmp.command("quit")
    m.wait(10, 0)


def test_to_the_translator_and_back(machine, flat):
    m = bare(machine, flat("spin"), "on", "-sandbox", "off", "-cpu", "vireo64,kvm=off,-vme", qmp=True)
    m.wait_text("ing\n", 60)
    for accel in ("jit", "kvm", "jit"):
        m.qmp.command("stop")
        m.qmp.command("x-accel-switch", accel=accel)
        assert m.qmp.command("query-kvm")["enabled"] == (accel == "kvm")
        m.qmp.command("cont")
        assert m.qmp.command("query-status")["status"] == "running"
    m.qmp.command("quit")
    m.wait(10, 0)
