# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest's CPU does on KVM is what the CPU below does: one program (tests/guest/cputest) runs in the outer guest and, on KVM, in
an inner one, and prints the same lines."""
import glob
import importlib.util
import os
import re
import subprocess

GUEST = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "guest")
spec = importlib.util.spec_from_file_location("guest_test_cpu", os.path.join(GUEST, "test_cpu.py"))
guest_test_cpu = importlib.util.module_from_spec(spec)
spec.loader.exec_module(guest_test_cpu)

# Not trap_flag, far_transfers and singlestep: the emulation below kills or hangs the first program that does that. Nor cpuid_promises:
# the inner guest has no XSAVE (conftest.py, `linux`), but AVX's subfeatures. Nor counters, litmus and dekker: atomic operations are the CPU's own, in
# which KVM has no part, and the emulation below now and then leaves one of two CPUs that contend without an interrupt for minutes. Nor breakpoints: the
# emulated VMRUN loads DR7 but arms nothing, so that an exit between MOV to DR7 and the hit loses the hit (QEMU in the program's place shows the same).
SUBTESTS = ("traps privileged pages floating crossing midway strings compat selectors code16 bases tsc fp_state rounding "
            "random_numbers rewrite alias protection cross_thread patching shootdown write_protect "
            "processes alternate_stack")


def same(lines):
    """Without RF in the saved flags: KVM sets it for the exceptions that it passes on, the emulation below never does. And without
    XRSTOR: see above."""
    return [re.sub(r" flags 1?(?=[0-9a-f]{4} )", " flags ", re.sub(r" flags ([0-9a-f]{1,4}) ", lambda m: f" flags {m[1].zfill(4)} ", line)) for line in lines
            if "xrstor" not in line]


def test_cpu_on_kvm_behaves_like_the_one_below(linux, outer, work):
    program = f"{work}/cputest"
    subprocess.run(["gcc", "-static", "-no-pie", "-O1", "-pthread", "-o", program, *sorted(glob.glob(f"{GUEST}/cputest/*.c")), "-lm"], check=True)
    there = outer.put(program)
    below = guest_test_cpu.lines_of(outer.shell(f"chmod 755 {there}; {there} {SUBTESTS} 2>/dev/null", timeout=120))
    assert below[-1] == "all subtests have run"
    with open(program, "rb") as f:
        # The outer guest's kernel begins behind the code that would turn paging of five levels on.
        m = linux("-smp", "2", kernel="generic", append="no5lvl", script=f"/cputest {SUBTESTS} 2>/dev/null", extra={"cputest": (0o100755, f.read())}, memory="512")
    text = m.wait_text("CT all subtests have run", 200, "the CPU tests did not come to their end in the guest")
    m.wait(60)
    wrong = guest_test_cpu.differences(same(below[:-1]), same(guest_test_cpu.lines_of(text)))
    assert not wrong, f"{len(wrong)} of {len(below)} lines differ between the CPU below and the guest's on KVM:\n" + "\n".join(wrong)
