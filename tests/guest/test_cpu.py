# SPDX-License-Identifier: GPL-2.0-or-later
"""What the guest's CPU does is what the host's CPU does: one program (cputest/) runs on both and prints the same lines."""
import functools
import glob
import os
import platform
import subprocess

import pytest

import initramfs
import vmm

HERE = os.path.dirname(os.path.abspath(__file__))

# Lines that differ on purpose: docs/compatibility.md, "Known limits". The host's line is not looked at.
KNOWN = set()
# Where makers' processors differ (what a segment register's push leaves in its slot, how long two loads of SS hold off a trap, RF after an
# iteration of a string instruction, the address of XRSTOR's fault), the translator does as AMD's: on another maker's host these are not looked at.
NOT_AMD = {"floating: xrstor_hole", "trap_flag: mov_ss_twice", "breakpoints: write 1", "breakpoints: write 4", "breakpoints: access 1", "breakpoints: access 8",
           "breakpoints: four at once", "singlestep", "far_transfers: far_call_64", "far_transfers: iret_same"}


@pytest.fixture(scope="session")
def cputest(tmp_path_factory):
    """The program, linked statically and at a fixed address, so that the addresses it prints are the same everywhere."""
    out = str(tmp_path_factory.mktemp("cputest") / "cputest")
    subprocess.run(["gcc", "-static", "-no-pie", "-O1", "-pthread", "-o", out, *sorted(glob.glob(f"{HERE}/cputest/*.c")), "-lm"], check=True)
    return out


@functools.lru_cache
def on_host(program):
    if platform.machine() != "x86_64":
        pytest.skip("the host has another kind of CPU")
    done = subprocess.run([program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60 * vmm.SLOW, check=True)
    return lines_of(done.stdout.decode())


def lines_of(text):
    return [line[3:] for line in text.replace("\r", "").split("\n") if line.startswith("CT ")]


def amd():
    with open("/proc/cpuinfo", encoding="ascii") as f:
        return "AuthenticAMD" in f.read()


def differences(host, guest):
    """Names are unique: what follows the second colon (or the first) is the result."""
    def table(lines):
        out = {}
        for line in lines:
            parts = line.split(": ")
            key = ": ".join(parts[:2]) if len(parts) > 2 else parts[0]
            n = 0
            while (key, n) in out:
                n += 1
            out[key, n] = line
        return out
    a, b, known = table(host), table(guest), KNOWN if amd() else KNOWN | NOT_AMD
    return [f"host:  {a.get(k, 'no such line')}\nguest: {b.get(k, 'no such line')}" for k in {**a, **b}
            if a.get(k) != b.get(k) and k[0] not in known]


@pytest.mark.parametrize("cpus", [1, 4])
def test_guest_cpu_behaves_like_the_hosts(machine, kernels, work, cputest, cpus):
    host = on_host(cputest)
    with open(cputest, "rb") as f:
        program = f.read()
    extra = {"cputest": (0o100755, program)}
    initrd = os.path.join(work, "initrd")
    with open(initrd, "wb") as f:
        f.write(initramfs.build(kernels, "generic", script="/cputest 2>/dev/null", extra=extra))
    m = machine("-machine", "q35", "-no-reboot", "-accel", "jit", "-smp", str(cpus), "-m", "512", "-nodefaults", "-display", "none",
                "-serial", "stdio", "-kernel", initramfs.unpacked(kernels, "generic"), "-initrd", initrd,
                "-append", "console=ttyS0 panic=-1 quiet")
    text = m.wait_text("CT all subtests have run", 240, "the CPU tests did not come to their end in the guest")
    m.wait(60)
    wrong = differences(host[:-1], lines_of(text))
    assert not wrong, f"{len(wrong)} of {len(host)} lines differ between the host and a guest with {cpus} CPUs:\n" + "\n".join(wrong)
