# SPDX-License-Identifier: GPL-2.0-or-later
"""Small guests of our own (tests/guest/asm) and the CPU conformance program on `-accel kvm`."""
import pytest

import vmm


def test_few_byte_guest(bare):
    m = bare("hello", defines=("VALUE=42",))
    m.wait(30, 42 << 1 | 1, "isa-debug-exit with value 42")
    assert m.text() == "few bytes\n", "the guest's output on COM1 is not what it wrote" + m.tail()


def test_pvh_kernel(bare):
    m = bare("pvh", "-append", "one two=3")
    m.wait(30, None)
    assert "PVH start info good" in m.text() and "command line: one two=3" in m.text(), "a PVH kernel does not get its start_info" + m.tail()


def test_triple_fault_ends_the_machine(bare):
    m = bare("triple")
    m.wait(30, 0, "a triple fault with -no-reboot")
    assert m.text() == "falling\n"


def test_triple_fault_resets_the_machine(machine, outer, flat):
    m = machine("-accel", "kvm", "-m", "64", "-nodefaults", "-display", "none", "-serial", "stdio", "-kernel", outer.put(flat("triple")))
    for _ in range(3):
        m.wait_text("falling\n", 30, "the machine did not start again after a triple fault")


def test_self_modifying_code(bare):
    m = bare("selfmod")
    m.wait(60, 3, "self-modifying code")


@pytest.mark.parametrize("irqchip", ["on", "off"])
@pytest.mark.parametrize("guest", ["halt", "spin"])
def test_a_guest_that_never_yields_obeys_qmp(bare, guest, irqchip):
    m = bare(guest, "-machine", f"q35,kernel-irqchip={irqchip}", "-smp", "2", qmp=True)
    m.wait_text("ing\n", 30)
    assert m.qmp.command("query-status")["status"] == "running"
    m.qmp.command("stop")
    assert m.qmp.command("query-status")["status"] == "paused"
    m.qmp.command("cont")
    m.qmp.command("quit")
    m.wait(20, 0)


def test_system_reset(machine, outer, flat):
    m = machine("-accel", "kvm", "-m", "64", "-nodefaults", "-display", "none", "-serial", "stdio", "-kernel", outer.put(flat("spin")), qmp=True)
    for _ in range(3):
        m.wait_text("spinning\n", 30, "the guest does not start again after system_reset")
        m.qmp.command("system_reset")


@pytest.mark.parametrize("guest,count", [("ports", 10000), ("msrs", 0), ("mmio", 10000)])
def test_random_device_accesses(bare, guest, count):
    """Whatever is written to ports, MSRs and device registers: the guest says that it lives, or the machine was reset."""
    m = bare(guest, "-nic", "user,model=virtio-net-pci", "-device", "virtio-rng-pci", defines=(f"COUNT={count}", "NO_FPU") if count else (), qmp=True)
    status = m.wait(60, None, f"a guest that accesses {guest} at random did not come to its end")
    if status not in (0, 3) or (status == 3 and "survived" not in m.text()):
        m.fail(f"random accesses to {guest} ended the program with status {status}")


@pytest.mark.parametrize("seed", [1, 2])
def test_random_code(bare, seed):
    """Random bytes as code: the machine stops, resets or spins; the program answers."""
    import subprocess
    m = bare("random", defines=(f"SEED={seed * 0x9e3779b9 & 0xffffffff}",), qmp=True)
    try:
        status = m.process.wait(5 * vmm.SLOW)
    except subprocess.TimeoutExpired:
        assert m.qmp.command("query-status")["status"] in ("running", "internal-error", "shutdown")
        m.qmp.command("quit")
        m.wait(20, 0, "after hostile code QMP quit does not end the program")
        return
    if status < 0 or (status != 0 and not status & 1):
        m.fail(f"random code ended the program with status {status}")
