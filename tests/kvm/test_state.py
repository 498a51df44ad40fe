# SPDX-License-Identifier: GPL-2.0-or-later
"""All CPU state in one form: read, written back and compared; and a guest that is stopped on one accelerator and continued on the
other, and notices nothing."""
import re
import time

import pytest

import vmm

# The sandbox lets nobody make an accelerator once the machine runs.
SWITCHABLE = () if vmm.IS_QEMU else ("-sandbox", "off")
# What both accelerators have: no paravirtual leaves, no more than the translator's instructions.
COMMON = "vireo64,kvm=off,-vme"
# What the translator says of itself, and this KVM cannot: a machine that moves between processes must have what both have.
BOTH = COMMON + "".join(",-" + f for f in "ibpb btc-no lfence-always-serializing null-sel-clr-base auto-ibrs srso-no tsa-sq-no tsa-l1-no".split())
ROUND = re.compile(r"round ([0-9A-F]{8}) (good|BAD) (TSC )?([0-9A-F]{8}) ([0-9A-F]{8})\n")


def check_state(m):
    m.qmp.command("stop")
    answer = m.qmp.command("x-vcpu-state-check")
    assert len(answer) == m.cpus, f"not every vCPU was checked: {answer}"
    for cpu in answer:
        assert not cpu["differences"], f"what was written back to vCPU {cpu['cpu-index']} and read again differs: {cpu['differences']}"
    m.qmp.command("cont")


def rounds(m, at_least, what):
    """Waits for so many rounds; each is good, time goes on and so do both timers."""
    text, seen = "", []
    while len(seen) < at_least:
        text += m.wait_text("\n", 90, f"{what}: the guest does not go on") + "\n"
        assert "fault" not in text, f"{what}: an exception that should not be: {text!r}"
        seen = ROUND.findall(text)
    assert all(verdict == "good" for _, verdict, *_ in seen), f"{what}: the guest's registers are not what they should be: {seen}"
    assert not any(tsc for *_, tsc, _, _ in seen), f"{what}: the guest's time stamp counter went back: {seen}"
    numbers = [int(n, 16) for n, *_ in seen]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), f"{what}: the guest's memory is not what it should be: {seen}"
    for timer, column in (("8254", 3), ("local APIC's timer", 4)):
        assert int(seen[-1][column], 16) > int(seen[0][column], 16), f"{what}: no more interrupts of the {timer}: {seen}"


@pytest.mark.parametrize("irqchip", ["on", "split", "off"])
@pytest.mark.parametrize("cpu", ["host", COMMON])
def test_state_written_back_is_what_was_read(bare, irqchip, cpu):
    m = bare("rounds", "-machine", f"q35,kernel-irqchip={irqchip}", cpu=cpu, qmp=True)
    m.cpus = 1
    rounds(m, 2, "before")
    for n in range(5):
        check_state(m)
        rounds(m, 2, f"after check {n}")


@pytest.mark.parametrize("irqchip", ["on", "split", "off"])
def test_from_kvm_to_the_translator_and_back(bare, irqchip):
    m = bare("rounds", "-machine", f"q35,kernel-irqchip={irqchip}", *SWITCHABLE, cpu=COMMON, defines=("STEPS=500000",), qmp=True)
    rounds(m, 3, "on KVM")
    for accel in ("jit", "kvm", "jit", "kvm"):
        m.qmp.command("stop")
        m.qmp.command("x-accel-switch", deadline=60, accel=accel)
        m.qmp.command("cont")
        rounds(m, 6, f"after the switch to {accel}")
    m.qmp.command("quit")
    m.wait(20, 0)


@pytest.mark.parametrize("irqchip", ["on", "split", "off"])
def test_saved_on_one_accelerator_and_loaded_on_the_other(bare, irqchip):
    last = 0
    for n, accel in enumerate(("kvm", "jit", "kvm")):
        board = "q35" if accel == "jit" else f"q35,kernel-irqchip={irqchip}"
        m = bare("rounds", "-machine", board, *SWITCHABLE, *(("-incoming", f"exec:cat /tmp/saved-{irqchip}") if n else ()), accel=accel, cpu=BOTH,
                 defines=("STEPS=500000",), qmp=True)
        rounds(m, 4, f"on {accel}, process {n}")
        m.qmp.command("migrate", uri=f"exec:cat > /tmp/saved-{irqchip}")
        m.qmp.wait_event("STOP", 60)
        while m.qmp.command("query-migrate")["status"] not in ("completed", "failed"):
            time.sleep(0.05)
        assert m.qmp.command("query-migrate")["status"] == "completed", m.qmp.command("query-migrate")
        numbers = [int(r[0], 16) for r in ROUND.findall(m.text())]
        assert numbers[0] >= last, f"on {accel} the guest has gone back from round {last} to {numbers[0]}"
        last = numbers[-1]
        m.qmp.command("quit")
        m.wait(20, 0)


CLOCK = """
i=0
while [ ! -f /tmp/end ]; do echo "VT at $(cut -d ' ' -f 1 /proc/uptime) $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"; sleep 0.2; done &
read line; touch /tmp/end; wait
dmesg | grep -E 'BUG:|Oops' | grep -v lockup | sed 's/^/VT trouble /'
"""


def test_debian_is_saved_with_its_clock(linux):
    """kvmclock goes on from where it stood, in another process."""
    m = linux(*SWITCHABLE, script=CLOCK, cpu="host", qmp=True)
    m.wait_text("VT at", 150)
    m.wait_text("VT at", 30)
    m.qmp.command("migrate", uri="exec:cat > /tmp/saved-clock")
    m.qmp.wait_event("STOP", 120)
    while m.qmp.command("query-migrate")["status"] not in ("completed", "failed"):
        time.sleep(0.1)
    assert m.qmp.command("query-migrate")["status"] == "completed", m.qmp.command("query-migrate")
    before = re.findall(r"VT at ([\d.]+) (\S+)", m.text())
    m.qmp.command("quit")
    m.wait(30, 0)
    n = linux(*SWITCHABLE, "-incoming", "exec:cat /tmp/saved-clock", script=CLOCK, cpu="host", qmp=True)
    for _ in range(4):
        n.wait_text("VT at", 60, "the guest does not go on")
    after = re.findall(r"VT at ([\d.]+) (\S+)", n.text())
    assert before[-1][1] == "kvm-clock", before
    assert 0 <= float(after[0][0]) - float(before[-1][0]) < 20, f"the guest's time jumps from {before[-1]} to {after[0]}"
    n.send("\n")
    assert "VT trouble" not in n.wait_text("VT done", 60)
    n.wait(30, 0)


SUMS = """
i=0; while [ $i -lt 20000 ]; do echo "line $i of what is summed"; i=$((i + 1)); done > /tmp/data
want=$(sha256sum < /tmp/data)
echo "VT summing"
n=0
while [ ! -f /tmp/end ]; do
    (sha256sum < /tmp/data > /tmp/other) & here=$(sha256sum < /tmp/data); wait
    [ "$here" = "$want" ] && [ "$(cat /tmp/other)" = "$want" ] && echo "VT sum $n good" || echo "VT sum $n BAD"
    sleep 0.05
    n=$((n + 1))
done &
read line; touch /tmp/end; wait
dmesg | grep -E 'BUG:|Oops' | grep -v lockup | sed 's/^/VT trouble /'
"""


@pytest.mark.parametrize("irqchip", ["on", "off"])
def test_debian_goes_on_on_the_translator_and_back(linux, irqchip):
    m = linux("-machine", f"q35,kernel-irqchip={irqchip}", "-smp", "2", *SWITCHABLE, script=SUMS, cpu=COMMON, append="no_timer_check", qmp=True)
    m.cpus = 2
    m.wait_text("VT summing", 150)
    m.wait_text("good", 60)
    check_state(m)
    for accel in ("jit", "kvm"):
        m.qmp.command("stop")
        m.stay_on(1 if accel == "jit" else 3)
        m.qmp.command("x-accel-switch", deadline=60, accel=accel)
        m.qmp.command("cont")
        for _ in range(3):
            text = m.wait_text("good", 120, f"after the switch to {accel} the guest does not go on")
            assert "BAD" not in text, f"after the switch to {accel} a sum is wrong"
    m.send("\n")
    text = m.wait_text("VT done", 60)
    assert "VT trouble" not in text, f"the guest's kernel complains: {text}"
    m.wait(30, 0)
