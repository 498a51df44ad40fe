# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests that do everything wrong (tests/guest/hostile): all MSRs, all ports, PCI configuration space and BARs, virtqueues, vCPUs that halt
for good. Whatever they do, the program lives, answers on QMP, resets, starts the guest again, ends with status 0, and uses no CPU
time for a guest that sleeps. VIREO_SEED adds a seed of the caller's to those that are always tried."""
import os
import subprocess
import time

import pytest

import vmm

HERE = os.path.dirname(os.path.abspath(__file__))
SEEDS = [1, 2463534242] + [int(s) for s in [os.environ.get("VIREO_SEED")] if s]
FLAGS = ("-m32 -march=i686 -mno-sse -mno-mmx -O1 -ffreestanding -fno-pic -fno-pie -no-pie -fno-stack-protector -fno-toplevel-reorder "
         "-fno-tree-loop-distribute-patterns -fno-asynchronous-unwind-tables -nostdlib -static -Wl,-N,-Ttext=0x100000,--build-id=none,"
         "-z,noexecstack").split()


@pytest.fixture(scope="module")
def hostile():
    """The guest, compiled."""
    out = os.path.join(vmm.BUILD, "guest", "hostile")
    os.makedirs(os.path.dirname(out), exist_ok=True)
    sources = [os.path.join(HERE, "hostile", name) for name in ("start.c", "registers.c", "rings.c", "ahci.c", "usb.c")] # start.c: the header is first
    subprocess.run(["gcc", *FLAGS, "-Wl,--no-warn-rwx-segments", "-o", out, *sources], check=True)
    return out


@pytest.fixture(params=["jit", "kvm"])
def accel(request):
    if request.param == "kvm":
        try:
            os.close(os.open("/dev/kvm", os.O_RDWR))
        except OSError as e:
            pytest.skip(f"/dev/kvm does not open here: {e.strerror}")
    return request.param


@pytest.fixture
def real(accel):
    """The accelerator, for guests with hundreds of thousands of exits, and for triple faults: KVM only where a processor runs it."""
    if accel == "kvm":
        with open("/proc/cpuinfo", encoding="ascii") as f:
            if not {"vmx", "svm"} & set(f.read().split()):
                pytest.skip("this host's KVM is software (its CPU shows neither vmx nor svm): too slow for many exits, and a triple fault is an emulation failure to it")
    return accel


def start(machine, work, accel, kernel, task="", seed=1):
    """Every device that a guest can talk to, two vCPUs. The task is on the guest's command line."""
    disk = f"{work}/disk"
    for name in (disk, disk + "1", disk + "2", disk + "3"):
        with open(name, "wb") as f:
            f.truncate(1 << 20)
    print(f"task {task!r} seed {seed}")
    return machine("-accel", accel, "-m", "64", "-smp", "2", "-nodefaults", "-display", "none", "-serial", "stdio",
                   "-kernel", kernel, "-append", f"{task} seed={seed}", "-drive", f"file={disk},format=raw,if=none,id=disk",
                   "-device", "virtio-blk-pci,drive=disk", "-nic", "user,model=virtio-net-pci", "-nic", "user,model=e1000e",
                   "-drive", f"file={disk}1,format=raw,if=ide,index=0", "-drive", f"file={disk}2,format=raw,if=ide,index=1,media=cdrom",
                   "-device", "pcie-root-port,id=port,chassis=1", "-device", "rtl8139,bus=port",
                   "-nic", "user,model=rtl8139", "-device", "virtio-rng-pci", "-device", "virtio-balloon-pci",
                   "-device", "virtio-serial-pci", "-chardev", "null,id=console", "-device", "virtconsole,chardev=console", "-device", "virtio-vga",
                   "-device", "virtio-keyboard-pci", "-device", "virtio-tablet-pci",
                   "-drive", f"file={disk}3,format=raw,if=none,id=stick", "-device", "qemu-xhci", "-device", "usb-tablet,port=1", "-device", "usb-kbd,port=2",
                   "-device", "usb-storage,port=3,drive=stick", "-audiodev", "none,id=audio", "-device", "ich9-intel-hda", "-device", "hda-duplex", qmp=True)


def ticks(m):
    """CPU time of the process so far (proc(5), stat, fields 14 and 15)."""
    with open(f"/proc/{m.process.pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def idle(m, seconds=1):
    """The least of several times: a busy host charges a process with what others take from it, and the guest may not have come to its HLT."""
    used = []
    while len(used) < 5 and not (used and used[-1] <= 6 * seconds):
        before = ticks(m)
        time.sleep(seconds)
        used.append(ticks(m) - before)
    assert min(used) <= 6 * seconds, f"a guest whose vCPUs are all halted costs {used} ticks in {seconds} s each" + m.tail()


def obeys(m, again="start\n", deadline=10, picture=True):
    """QMP answers, there is a picture (of a machine with a card), a reset starts the guest anew, the program ends when told."""
    assert m.running(), "what the guest did has ended the program" + m.tail()
    assert m.qmp.command("query-status", 5)["status"] in ("running", "shutdown", "paused", "internal-error"), "QMP does not answer" + m.tail()
    if picture:
        m.qmp.command("screendump", 20, filename=m.log + ".ppm")
    m.mark = len(m.output)
    m.qmp.command("system_reset", 5)
    m.wait_text(again, deadline, "after system_reset the guest does not come up again")
    m.qmp.command("quit", 5)
    m.wait(10, 0, "after hostile code QMP quit does not end the program")
    assert "assert" not in m.stderr().lower() and "critical" not in m.stderr().lower(), m.stderr()


def lives(m, deadline=15):
    """The guest reaches its end, and nothing complained on the way."""
    said = m.wait_text("alive\n", deadline, "the guest did not come to its end")
    assert "wrong" not in said
    return said


@pytest.mark.parametrize("seed", SEEDS)
def test_all_msrs(machine, work, hostile, accel, seed):
    m = start(machine, work, accel, hostile, "msrs", seed)
    said = lives(m)
    assert int(said.split("readable MSRs: ")[1].split()[0], 16) > 16, "hardly any MSR can be read"
    idle(m)
    obeys(m)


@pytest.mark.parametrize("seed", SEEDS)
def test_all_ports(machine, work, hostile, real, seed):
    m = start(machine, work, real, hostile, "ports", seed)
    lives(m, 30)
    obeys(m)


@pytest.mark.parametrize("seed", SEEDS)
def test_pci_configuration_and_bars(machine, work, hostile, accel, seed):
    m = start(machine, work, accel, hostile, "pci", seed)
    lives(m, 30)
    obeys(m)


@pytest.mark.parametrize("seed", SEEDS)
def test_pci_with_bus_mastering(machine, work, hostile, seed):
    """Devices may write over the guest, which then does anything at all; only the program is looked at."""
    m = start(machine, work, "jit", hostile, "pci master", seed)
    time.sleep(4)
    obeys(m)


@pytest.mark.parametrize("seed", SEEDS)
def test_sata(machine, work, hostile, real, seed):
    """Command lists that cannot be; after a reset of the controller its drives answer (the guest looks)."""
    m = start(machine, work, real, hostile, "ahci", seed)
    lives(m, 60)
    idle(m)
    obeys(m)


@pytest.mark.parametrize("seed", SEEDS)
def test_usb_and_sound(machine, work, hostile, real, seed):
    """Rings, contexts and lists that cannot be; after a reset of the controller a USB device answers (the guest looks)."""
    m = start(machine, work, real, hostile, "usb", seed)
    lives(m, 60)
    idle(m)
    obeys(m)


def test_impossible_rings(machine, work, hostile, real):
    """DEVICE_NEEDS_RESET for each kind of nonsense, and the device works again after a reset (the guest looks)."""
    m = start(machine, work, real, hostile, "rings cases")
    said = m.wait_text("devices: 0x00000005\n", 60, "the guest did not try all devices")
    assert said.endswith("start\n"), "a device did not survive impossible rings:\n" + said
    lives(m)
    idle(m)
    obeys(m)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_rings(machine, work, hostile, real, seed):
    m = start(machine, work, real, hostile, "rings random", seed)
    said = m.wait_text("devices: 0x00000005\n", 60, "the guest did not try all devices")
    assert said.endswith("start\n"), "a device did not survive random rings:\n" + said
    lives(m)
    idle(m)
    obeys(m)


def test_halted_for_good(machine, work, flat, accel):
    m = start(machine, work, accel, flat("halt"))
    m.wait_text("halting\n", 20)
    time.sleep(0.5)
    idle(m, 2)
    obeys(m, "halting\n")


def test_triple_fault(machine, work, flat, real):
    m = machine("-accel", real, "-m", "64", "-nodefaults", "-display", "none", "-serial", "stdio", "-kernel", flat("triple"), qmp=True)
    m.wait_text("falling\n", 20)
    m.qmp.wait_event("RESET", 10)
    m.qmp.command("quit")
    m.wait(10, 0)
    m = machine("-accel", real, "-m", "64", "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", flat("triple"))
    m.wait(20, 0, "a triple fault with -no-reboot")
