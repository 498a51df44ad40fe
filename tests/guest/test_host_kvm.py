# SPDX-License-Identifier: GPL-2.0-or-later
"""Small guests on this host's own /dev/kvm, whatever its CPU says. (Kernels of distributions on KVM: tests/kvm; the CPU's modes: the
unit test kvm.)"""
import os
import socket
import time

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



# What the translator and the plainest KVM both have.
COMMON = "vireo64,kvm=off,-vme," + ",".join("-" + f for f in ("popcnt btc-no sse4.2 sse3 srso-no auto-ibrs ssse3 rdtscp sse4.1 amd-no-ssb null-sel-clr-base ibpb lfence-always-serializing tsa-sq-no tsa-l1-no").split())


@pytest.mark.parametrize("chips", CHIPS)
def test_saved_on_one_accelerator_and_loaded_on_the_other(machine, flat, work, chips):
    """Here a guest of few instructions; one that checks itself: tests/kvm/test_state.py."""
    path = os.path.join(work, "saved")

    def pass_file(m, mode):
        with open(path, mode) as f:
            socket.send_fds(m.qmp.sock, [b'{"execute": "getfd", "arguments": {"fdname": "f"}}\n'], [f.fileno()])
        m.qmp.reply()

    for n, accel in enumerate(("jit", f"kvm,kernel-irqchip={chips}", "jit", f"kvm,kernel-irqchip={chips}")):
        m = machine("-accel", accel, "-cpu", COMMON, "-smp", "2", "-m", "64", "-nodefaults", "-display", "none", "-serial", "stdio", "-kernel", flat("spin"),
                    *(("-incoming", "defer") if n else ()), qmp=True)
        if n:
            pass_file(m, "rb")
            m.qmp.command("migrate-incoming", uri="fd:f")
            m.qmp.wait_event("RESUME")
        else:
            m.wait_text("ing\n", 60)
        assert m.qmp.command("query-status")["status"] == "running", m.tail()
        pass_file(m, "wb")
        m.qmp.command("migrate", uri="fd:f")
        m.qmp.wait_event("STOP")
        while m.qmp.command("query-migrate")["status"] not in ("completed", "failed"):
            time.sleep(0.02)
        assert m.qmp.command("query-migrate")["status"] == "completed", m.qmp.command("query-migrate")
        for cpu in m.qmp.command("x-vcpu-state-check"):
            assert not cpu["differences"], cpu
    m.qmp.command("cont")
    m.qmp.command("system_reset")
    m.wait_text("ing\n", 60)
