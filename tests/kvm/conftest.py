# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the nested KVM tests. `machine` and `linux` are those of tests/guest, but the program runs in the outer guest (outer.py),
which is booted once for all tests. VIREO_VMM=/usr/bin/qemu-system-x86_64 tries the harness with QEMU in the program's place."""
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile

import pytest
from _pytest.runner import runtestprotocol

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "guest")]
import initramfs  # noqa: E402
import outer as outer_guest  # noqa: E402
import vmm  # noqa: E402

spec = importlib.util.spec_from_file_location("guest_conftest", os.path.join(os.path.dirname(HERE), "guest", "conftest.py"))
guest_conftest = importlib.util.module_from_spec(spec)
spec.loader.exec_module(guest_conftest)
pytest_report_header = guest_conftest.pytest_report_header
program, kernels, flat, work = (getattr(guest_conftest, name) for name in ("program", "kernels", "flat", "work"))

QEMU_FILES = ("bios-256k.bin", "kvmvapic.bin", "linuxboot_dma.bin", "multiboot_dma.bin", "pvh.bin", "multiboot.bin")


@pytest.fixture(scope="session")
def has_kvm(program):
    assert vmm.IS_QEMU or "kvm" in vmm.run(["-accel", "help"])[1], "the program has no -accel kvm"


@pytest.fixture(scope="session")
def outer(kernels, has_kvm, request):
    where = tempfile.mkdtemp(prefix="vireo-outer-")
    there = "vireo-vmm"
    files = {}
    if vmm.IS_QEMU:
        there = "qemu-system-x86_64"
        for name in QEMU_FILES:
            for path in (f"/usr/share/seabios/{name}", f"/usr/share/qemu/{name}"):
                if os.path.exists(path):
                    with open(path, "rb") as f:
                        files[f"usr/share/qemu/{name}"] = (0o100644, f.read())
    guest = None
    cpu = int(os.environ.get("VIREO_OUTER_CPU", max(os.sched_getaffinity(0))))
    try:
        guest = outer_guest.Outer(initramfs, kernels, where, {there: shutil.which(vmm.VMM)}, files, deadline=80 * vmm.SLOW, cpu=cpu)
        request.session.outer_guest = guest
        guest.program = "/" + there
        guest.options = ["-L", "/usr/share/qemu"] if vmm.IS_QEMU else []
        yield guest
    finally:
        if guest:
            guest.end()
        shutil.rmtree(where, ignore_errors=True)


def pytest_runtest_protocol(item, nextitem):
    """A test that failed while the outer guest hung or died (the emulation does that now and then) runs once more, in a new one."""
    hook = item.ihook
    hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    # As if another test of the file came next: the outer guest outlives this one.
    reports = runtestprotocol(item, nextitem=item.parent, log=False)
    guest = item.session.__dict__.get("outer_guest")
    if guest and any(r.failed for r in reports) and not guest.alive() and guest.restarts < 3:
        print(f"\nthe outer guest hung in {item.nodeid}; again in a new one. Its console: {guest.text()[-1000:]}", flush=True)
        guest.restart()
        item._initrequest()
        reports = runtestprotocol(item, nextitem=item.parent, log=False)
    item.session._setupstate.teardown_exact(nextitem)
    for report in reports:
        hook.pytest_runtest_logreport(report=report)
    hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


class InnerMachine(vmm.Machine):
    """A program that runs in the outer guest; its QMP socket lies there, too."""

    def __init__(self, outer, args, log, qmp_path, uid):
        self.outer = outer
        super().__init__([*outer.options, *args], log, qmp_path, wrapper=outer.wrapper(uid), program=outer.program)

    def stay_on(self, cpus):
        """Its threads run on these CPUs of the outer guest only (a mask). The translator's tests need one: QEMU 7.2, which emulates the outer
        guest, goes on for good with old code where one CPU writes to a page from which another is just taking code (2,000 of 20,000 such writes),
        as a translator with two vCPUs does all the time. No real CPU does that."""
        self.outer.shell(f"for task in /proc/$(pidof {os.path.basename(self.outer.program)})/task/*; do taskset -p {cpus} ${{task##*/}}; done")

    @property
    def qmp(self):
        if not self._qmp:
            self._qmp = vmm.Qmp(self.qmp_path, connect=self.outer.connect)
        return self._qmp

    def tail(self, lines=25):
        try:
            log = self.outer.shell("dmesg | tail -n 8; echo 'threads: name, state, ticks in user and kernel mode'; for task in "
                                   f"/proc/$(pidof {os.path.basename(self.outer.program)})/task/*; do echo $(cat $task/comm; cat $task/stat | "
                                   "sed 's/.*) //' | cut -d' ' -f1,12,13); done; echo 'where its vCPUs are:'; "
                                   "mount -t tracefs none /sys/kernel/tracing 2>/dev/null; cd /sys/kernel/tracing && "
                                   "for event in kvm_entry kvm_exit kvm_inj_virq; do echo 1 > events/kvm/$event/enable; done; sleep 0.5; "
                                   "echo 0 > tracing_on; tail -n 24 trace | cut -c 1-140; for event in kvm_entry kvm_exit kvm_inj_virq; do "
                                   "echo 0 > events/kvm/$event/enable; done; echo > trace; echo 1 > tracing_on", check=False)
        except outer_guest.OuterError as e:
            log = str(e)
        return super().tail(lines) + "\n--- end of the outer guest's kernel log:\n" + log


@pytest.fixture
def machine(work, outer):
    """machine(*options, qmp=False, uid=0): starts the program in the outer guest; it is ended with the test."""
    started = []

    def start(*args, qmp=False, uid=0):
        n = len(started)
        m = InnerMachine(outer, args, os.path.join(work, f"console{n}"), f"/run/{os.path.basename(work)}.{n}" if qmp else None, uid)
        started.append(m)
        return m
    yield start
    for m in started:
        m.kill()


@pytest.fixture
def refused(outer):
    """refused(options, *words): the program ends with status 1 and one line that has these words."""
    def check(args, *words, uid=0, before=""):
        line = " ".join([outer.program, *outer.options, "-display", "none", "-nodefaults", *args])
        status, out, err = outer.run("/bin/sh", "-c", f"{before} exec {line}", uid=uid, check=False, timeout=30)
        assert status == 1, f"exit status {status} instead of 1 for {line}: {out}{err}"
        if not vmm.IS_QEMU:
            assert err.count("\n") == 1 and err.startswith("vireo-vmm: "), f"the error is not a single line of the program: {err!r}"
            for word in words:
                assert word.lower() in err.lower(), f"the error does not speak of {word!r}: {err!r}"
        return err
    return check


@pytest.fixture
def linux(work, machine, kernels, outer):
    """linux(*options, script=..., kernel=..., ...): a Debian kernel with an initial RAM disk that runs the script, on KVM. Without
    XSAVE: the emulation below does not intercept XSETBV, so that a kernel finds sizes which do not fit, and loses registers."""
    def boot(*args, script=None, kernel="cloud", modules=(), append="", memory="256", accel="kvm", cpu="host,-xsave", extra=None, **kwargs):
        initrd = os.path.join(work, "initrd")
        with open(initrd, "wb") as f:
            f.write(initramfs.build(kernels, kernel, modules, script, compress=False, extra=extra))
        board = [] if "-machine" in args else ["-machine", "q35"]
        return machine(*board, "-no-reboot", "-accel", accel, "-cpu", cpu, "-m", memory, "-nodefaults", "-display", "none", "-serial", "stdio",
                       "-kernel", outer.put(f"{kernels}/{kernel}/vmlinuz"), "-initrd", outer.put(initrd),
                       "-append", f"console=ttyS0 panic=-1 quiet mitigations=off {append}".strip(), *args, **kwargs)
    return boot


@pytest.fixture
def bare(machine, flat, outer):
    """bare(name, *options, defines=(), ...): a flat guest of tests/guest/asm on KVM."""
    def boot(name, *args, defines=(), accel="kvm", cpu="host", memory="64", **kwargs):
        return machine("-accel", accel, "-cpu", cpu, "-m", memory, "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
                       "-device", "isa-debug-exit,iobase=0xf4,iosize=0x4", "-kernel", outer.put(flat(name, *defines)), *args, **kwargs)
    return boot
