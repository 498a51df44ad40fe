# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's own kernels, unmodified, reach user space and power off."""
import os
import re
import shutil

import pytest

import initramfs
import vmm

BOOT = 120  # seconds; a boot takes a few

REPORT = """
echo "VT cpus $(grep -c '^processor' /proc/cpuinfo)"
echo "VT mem $(grep MemTotal /proc/meminfo)"
"""


def packed(kernels, kernel):
    """The file as Debian has it, whatever other tests boot."""
    return f"{kernels}/{kernel}/vmlinuz"


def finish(m):
    m.wait_text("VT done", BOOT, "the initial RAM disk's script did not finish")
    m.wait(30, 0, "`poweroff -f` in the guest did not end the program with status 0")


@pytest.mark.parametrize("kernel,arch", [("generic", "x86_64"), ("cloud", "x86_64"), ("686-pae", "i686")])
def test_debian_kernel_boots_and_powers_off(linux, kernels, kernel, arch):
    m = linux(kernel=kernel, image=packed(kernels, kernel), script=REPORT)
    m.wait_text(f"VT init {arch} 6.1", BOOT, f"Debian's {kernel} kernel did not run /init")
    m.wait_text("VT cpus 1", 30)
    finish(m)


@pytest.mark.parametrize("kernel,entry,arch", [("generic", 16, "x86_64"), ("generic", 32, "x86_64"), ("cloud", 64, "x86_64"),
                                               ("686-pae", 16, "i686"), ("686-pae", 32, "i686")])
def test_linux_entries(linux, kernels, kernel, entry, arch):
    """Each entry of the Linux boot protocol: real mode with BIOS calls, 32-bit, 64-bit."""
    if vmm.IS_QEMU:
        pytest.skip("QEMU chooses the entry itself")
    m = linux("-machine", f"q35,linux-entry={entry}", kernel=kernel, image=packed(kernels, kernel), script=REPORT)
    m.wait_text(f"VT init {arch} 6.1", BOOT, f"Debian's {kernel} kernel did not run /init when entered in {entry}-bit mode")
    m.wait_text("VT cpus 1", 30)
    finish(m)


@pytest.mark.parametrize("kernel,arch", [("generic", "x86_64"), ("686-pae", "i686")])
def test_pvh_entry(linux, kernels, kernel, arch):
    """The same kernels unpacked: ELF files with a PVH entry point."""
    m = linux(kernel=kernel, image=initramfs.unpacked(kernels, kernel), script=REPORT)
    m.wait_text(f"VT init {arch} 6.1", BOOT, f"Debian's {kernel} kernel did not run /init when entered through PVH")
    finish(m)


def test_documented_command_line(machine, kernels, work):
    """The very command of the README: -nographic, no terminal on standard input."""
    initrd = f"{work}/initrd"
    with open(initrd, "wb") as f:
        f.write(initramfs.build(kernels, "generic"))
    m = machine("-accel", "jit", "-m", "512", "-nographic", "-no-reboot", "-kernel", f"{kernels}/generic/vmlinuz", "-initrd", initrd,
                "-append", "console=ttyS0 panic=-1")
    m.wait_text("Linux version 6.1", BOOT, "the kernel's first line did not come")
    finish(m)


@pytest.mark.parametrize("cpus", [2, 4])
def test_several_cpus(linux, cpus):
    m = linux("-smp", str(cpus), script=REPORT)
    m.wait_text(f"VT cpus {cpus}\r\n", BOOT, f"a guest with -smp {cpus} does not see {cpus} CPUs")
    finish(m)


def test_cpus_work_together(linux):
    """Four CPUs hash the same data at once: one wrong atomic or one lost wake-up shows."""
    m = linux("-smp", "4", script="""
dd if=/dev/zero of=/tmp/z bs=1M count=8 2>/dev/null
for round in 1 2; do
    for i in 1 2 3 4; do (sha256sum /tmp/z > /tmp/s$i) & done
    wait
    cat /tmp/s1 /tmp/s2 /tmp/s3 /tmp/s4
done | sort | uniq -c | while read n sum f; do echo "VT sums $n $sum"; done
""")
    m.wait_text("VT sums 8 2daeb1f36095b44b318410b3f4e8b5d989dcc7bb023d1426c492dab0a3053e74", BOOT + 60,
                "sha256 computed on four CPUs at once is wrong")
    finish(m)


def test_sixteen_cpus_and_256_gigabytes(linux):
    """Memory is reserved by nobody: 256 GiB start on any host."""
    if vmm.IS_QEMU:
        pytest.skip("QEMU reserves the guest's memory, unless the host overcommits")
    m = linux("-smp", "16", memory="256G", script=REPORT)
    m.wait_text("VT cpus 16\r\n", 240, "a guest with -smp 16 -m 256G does not see 16 CPUs")
    m.wait_text("VT mem", 30)
    kib = int(re.search(r"(\d+) kB", m.wait_text("kB", 30) + "kB").group(1))
    assert kib > 250 * 1024 * 1024, f"the guest sees {kib} kB of the 256 GiB"
    finish(m)


def test_memory_around_the_hole_below_4_gigabytes(linux):
    m = linux(memory="6G", script=REPORT + "\ngrep 'System RAM' /proc/iomem | sed 's/^/VT ram /'\n")
    m.wait_text("VT mem", BOOT)
    kib = int(re.search(r"(\d+)", m.wait_text("kB", 30)).group(1))
    assert kib > 5.7 * 1024 * 1024, f"the guest sees {kib} kB of 6 GiB"
    ranges = re.findall(r"VT ram ([0-9a-f]+)-([0-9a-f]+)", m.wait_text("VT done", 30))
    assert ranges, "the guest's memory map names no RAM"
    assert any(int(start, 16) == 1 << 32 for start, _ in ranges), f"no RAM starts at 4 GiB: {ranges}"
    for start, end in ranges:
        assert int(end, 16) < 0xc0000000 or int(start, 16) >= 1 << 32, f"RAM lies where PCI devices live: {start}-{end}"
    assert sum(int(e, 16) + 1 - int(s, 16) for s, e in ranges) > 6 * 1024**3 - 2 * 1024**2, f"memory is missing: {ranges}"
    m.wait(30)


def test_small_memory(linux):
    m = linux(memory="128", script=REPORT)
    m.wait_text("VT cpus 1", BOOT, "the cloud kernel does not start in 128 MiB")
    finish(m)


@pytest.mark.parametrize("kernel,cpus", [("generic", 1), ("cloud", 4)])
def test_microvm(linux, kernels, kernel, cpus):
    m = linux("-machine", "microvm", "-smp", str(cpus), kernel=kernel, image=packed(kernels, kernel), script=REPORT,
              append="reboot=t" if vmm.IS_QEMU else "")
    m.wait_text(f"VT cpus {cpus}\r\n", BOOT, f"the {kernel} kernel on microvm does not see {cpus} CPUs")
    m.wait_text("VT done", 30)
    if vmm.IS_QEMU:
        return  # its microvm needs other firmware options to power off
    m.wait(30, 0, "`poweroff -f` on microvm did not end the program with status 0")


def test_reboot_restarts_the_guest(linux):
    """Without -no-reboot a reset starts the kernel again."""
    m = linux(no_reboot=False, script='echo "VT up"; reboot -f; sleep 1000')
    for _ in range(2):
        m.wait_text("VT up", BOOT, "the guest did not come back after `reboot -f`")


def test_no_reboot_ends_the_program(linux):
    m = linux(script='echo "VT up"; reboot -f; sleep 1000')
    m.wait_text("VT up", BOOT)
    m.wait(60, 0, "with -no-reboot, `reboot -f` did not end the program with status 0")


def test_kernel_panic_with_no_reboot_ends_the_program(linux):
    m = linux(script="echo VT up; exit 3")
    m.wait_text("Kernel panic", BOOT, "the guest's panic (init has ended) was not printed")
    m.wait(60, 0, "a panic with panic=-1 and -no-reboot did not end the program")


def test_automatic_accelerator(linux):
    if vmm.IS_QEMU:
        pytest.skip("QEMU has no -accel auto")
    m = linux(accel="auto", script=REPORT)
    m.wait_text("VT cpus 1", BOOT, "the guest does not start with -accel auto")
    finish(m)


def test_as_an_ordinary_user(linux, as_nobody, work, kernels):
    # The checkout may lie where that user may not look, such as /root.
    image = shutil.copy(os.path.join(kernels, "cloud", "vmlinuz"), work)
    m = linux(script=REPORT, wrapper=as_nobody, image=image)
    m.wait_text("VT cpus 1", BOOT, "the guest does not start for an ordinary user")
    finish(m)
