# SPDX-License-Identifier: GPL-2.0-or-later
"""Small guests of our own (tests/guest/asm): how a machine starts and ends, and that nothing a guest does breaks the program."""
import signal

import pytest

import vmm

EXIT_DEVICE = ("-device", "isa-debug-exit,iobase=0xf4,iosize=0x4")


def bare(machine, kernel, *args, memory="64", **kwargs):
    return machine("-accel", "jit", "-m", memory, "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot", *EXIT_DEVICE,
                   "-kernel", kernel, *args, **kwargs)


@pytest.mark.parametrize("value", [0, 1, 0x2a, 0x7f])
def test_exit_status_of_isa_debug_exit(machine, flat, value):
    m = bare(machine, flat("hello", f"VALUE={value}"))
    m.wait(20, (value << 1 | 1) & 0xff, f"isa-debug-exit with value {value}")
    assert m.text() == "few bytes\n", "the guest's output on COM1 is not what it wrote"


def test_documented_command_line(machine, flat):
    """The very command of the README, without -m and -accel."""
    m = machine("-nodefaults", "-display", "none", "-serial", "stdio", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x4",
                "-kernel", flat("hello"))
    m.wait(20, 0x55)
    assert m.text() == "few bytes\n"


def test_debug_port(machine, flat, work):
    m = bare(machine, flat("hello"), "-chardev", f"file,id=d,path={work}/debug", "-device", "isa-debugcon,chardev=d,iobase=0xe9")
    m.wait(20, 0x55)
    with open(f"{work}/debug", "rb") as f:
        assert f.read() == b"E", "what the guest wrote to port 0xe9 is not in the file"


def test_serial_to_a_file(machine, flat, work):
    m = machine("-accel", "jit", "-nodefaults", "-display", "none", "-serial", f"file:{work}/serial", *EXIT_DEVICE, "-kernel", flat("hello"))
    m.wait(20, 0x55)
    with open(f"{work}/serial", "rb") as f:
        assert f.read() == b"few bytes\n"


def test_pvh_kernel(machine, flat):
    m = bare(machine, flat("pvh"), "-append", "one two=3")
    m.wait(20, None)
    assert "PVH start info good" in m.text(), "a PVH kernel does not get a good start_info" + m.tail()
    assert "command line: one two=3" in m.text(), "a PVH kernel does not get its command line" + m.tail()


def test_triple_fault_ends_the_machine(machine, flat):
    m = bare(machine, flat("triple"))
    m.wait(20, 0, "a triple fault with -no-reboot")
    assert m.text() == "falling\n"


def test_triple_fault_resets_the_machine(machine, flat):
    m = machine("-accel", "jit", "-m", "64", "-nodefaults", "-display", "none", "-serial", "stdio", "-kernel", flat("triple"))
    for _ in range(3):
        m.wait_text("falling\n", 20, "the machine did not start again after a triple fault")


@pytest.mark.parametrize("guest", ["halt", "spin"])
@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_any_guest(machine, flat, guest, sig):
    m = bare(machine, flat(guest))
    m.wait_text("halting\n" if guest == "halt" else "spinning\n", 20)
    m.process.send_signal(sig)
    m.wait(10, 0, f"{sig.name} did not end a guest that never yields")


@pytest.mark.parametrize("guest", ["halt", "spin"])
def test_a_guest_that_never_yields_obeys_qmp(machine, flat, guest):
    m = machine("-accel", "jit", "-m", "64", "-nodefaults", "-display", "none", "-serial", "stdio", "-smp", "2", "-kernel", flat(guest), qmp=True)
    m.wait_text("ing\n", 20)
    assert m.qmp.command("query-status")["status"] == "running"
    m.qmp.command("stop")
    assert m.qmp.command("query-status")["status"] == "paused"
    m.qmp.command("cont")
    m.qmp.command("system_reset")
    m.wait_text("ing\n", 20, "after system_reset the guest does not start again")
    m.qmp.command("quit")
    m.wait(10, 0)


def test_undefined_opcodes(machine, flat):
    if vmm.IS_QEMU:
        pytest.skip("QEMU 7.2 executes some opcodes that do not exist")
    m = bare(machine, flat("undefined"))
    m.wait(20, 3, "an opcode that does not exist did not raise #UD")


def test_self_modifying_code(machine, flat):
    m = bare(machine, flat("selfmod"))
    m.wait(30, 3, "self-modifying code")


def survived(m, deadline):
    """The guest says so, or the machine was reset by it, or it is beyond help but the program still answers."""
    import subprocess
    try:
        status = m.process.wait(deadline * vmm.SLOW)
    except subprocess.TimeoutExpired:
        assert m.qmp.command("query-status")["status"] in ("running", "internal-error", "shutdown"), "QMP does not answer" + m.tail()
        m.qmp.command("quit")
        m.wait(10, 0, "after hostile code QMP quit does not end the program")
        return
    m.reader.join(10)
    if status < 0 or (status != 0 and not status & 1):
        m.fail(f"what the guest did ended the program with status {status}")
    assert "survived" in m.text() or status == 0, "the program ended with an error" + m.tail()


@pytest.mark.parametrize("guest", ["ports", "msrs", "mmio"])
@pytest.mark.parametrize("seed", [0x12345678, 0xdeadbeef])
def test_random_device_accesses(machine, flat, guest, seed):
    """Devices with back ends are there too, so that their registers are found."""
    m = bare(machine, flat(guest, f"SEED={seed}"), "-nic", "user,model=virtio-net-pci", "-device", "virtio-rng-pci", qmp=True)
    survived(m, 10)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_random_code(machine, flat, seed):
    m = bare(machine, flat("random", f"SEED={seed * 0x9e3779b9 & 0xffffffff}"), qmp=True)
    survived(m, 4)
