# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine that is put onto another accelerator, or a new one of its own kind, while it stands still; the log of written pages."""
import time

import pytest

import vmm


def spinning(machine, flat, *args):
    m = machine("-accel", "jit", "-m", "64", "-nodefaults", "-display", "none", "-serial", "stdio", "-kernel", flat("spin"), *args, qmp=True)
    m.wait_text("spinning\n", 20)
    return m


def test_change_of_accelerator_under_debian(machine, kernels):
    """Again and again from translator to translator, while the kernel starts: it reaches user space and powers off."""
    m = machine("-accel", "jit", "-sandbox", "off", "-machine", "q35", "-smp", "2", "-m", "256", "-no-reboot", "-nodefaults", "-display", "none",
                "-serial", "stdio", "-kernel", f"{kernels}/cloud/vmlinuz", "-append", "console=ttyS0 panic=-1", qmp=True)
    m.wait_text("Linux version", 30)
    for n in range(6):
        m.qmp.command("stop")
        for cpu in m.qmp.command("x-vcpu-state-check"):
            assert not cpu["differences"], f"what was written back and read again differs: {cpu}"
        m.qmp.command("x-accel-switch", accel="jit")
        m.qmp.command("cont")
    m.wait_text("Unable to mount root fs", 60, "the kernel does not come to its end after changes of accelerator")
    m.wait(30, None)


def test_change_of_accelerator_is_refused(machine, flat):
    m = spinning(machine, flat, "-sandbox", "off")
    assert "stop it first" in m.qmp.execute("x-accel-switch", accel="jit")["error"]["desc"]
    m.qmp.command("stop")
    assert "warp" in m.qmp.execute("x-accel-switch", accel="warp")["error"]["desc"]
    m.qmp.command("x-dirty-log-start")
    assert "x-dirty-log-stop" in m.qmp.execute("x-accel-switch", accel="jit")["error"]["desc"]
    m.qmp.command("x-dirty-log-stop")
    m.qmp.command("x-accel-switch", accel="jit")
    m.qmp.command("cont")
    assert m.qmp.command("query-status")["status"] == "running"
    m.qmp.command("quit")
    m.wait(20, 0)


@pytest.mark.skipif(vmm.SANITIZED, reason="a sanitized build has no sandbox")
def test_the_sandbox_allows_no_new_accelerator(machine, flat):
    m = spinning(machine, flat)
    m.qmp.command("stop")
    assert "-sandbox off" in m.qmp.execute("x-accel-switch", accel="jit")["error"]["desc"]
    m.qmp.command("cont")
    m.qmp.command("quit")
    m.wait(20, 0)


def test_dirty_rate(machine, flat):
    m = spinning(machine, flat)
    assert m.qmp.command("query-dirty-rate")["status"] == "unstarted"
    assert "range" in m.qmp.execute("calc-dirty-rate", **{"calc-time": 1, "sample-pages": 100})["error"]["desc"]
    assert "ring" in m.qmp.execute("calc-dirty-rate", **{"calc-time": 1, "mode": "dirty-ring"})["error"]["desc"]
    m.qmp.command("calc-dirty-rate", **{"calc-time": 1, "mode": "dirty-bitmap"})
    end = time.monotonic() + 20 * vmm.SLOW
    while (answer := m.qmp.command("query-dirty-rate"))["status"] == "measuring" and time.monotonic() < end:
        time.sleep(0.1)
    assert answer["status"] == "measured" and answer["dirty-rate"] == 0, answer  # it spins in registers
    m.qmp.command("calc-dirty-rate", **{"calc-time": 60, "mode": "dirty-bitmap"})
    assert m.qmp.command("query-dirty-rate")["status"] == "measuring"
    m.qmp.command("quit")
    m.wait(20, 0)


def test_dirty_rate_of_sampled_pages(machine, flat, work):
    """virsh domdirtyrate-calc asks for this mode: 48 MiB of 64 change under a guest that writes nothing itself."""
    m = spinning(machine, flat, "-object", f"memory-backend-file,id=ram,size=64M,mem-path={work}/ram,share=on", "-machine", "q35,memory-backend=ram")

    def rate(change, seconds):
        m.qmp.command("calc-dirty-rate", **{"calc-time": seconds, "sample-pages": 4096})
        if seconds > 1:
            assert "already" in m.qmp.execute("calc-dirty-rate", **{"calc-time": 1})["error"]["desc"]
        if change:
            with open(f"{work}/ram", "r+b") as f:
                f.seek(16 << 20)
                f.write(b"new!" * (12 << 20))
        end = time.monotonic() + 20 * vmm.SLOW
        while (answer := m.qmp.command("query-dirty-rate"))["status"] == "measuring" and time.monotonic() < end:
            time.sleep(0.1)
        assert answer["status"] == "measured"
        assert (answer["mode"], answer["sample-pages"], answer["calc-time"]) == ("page-sampling", 4096, seconds)
        return answer["dirty-rate"]
    assert rate(False, 1) == 0
    assert 0 < rate(True, 4) <= 64
    m.qmp.command("quit")
    m.wait(20, 0)
