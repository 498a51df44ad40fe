# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures: guest material made once, machines that are always ended, one private directory per test."""
import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.dirname(__file__))
import initramfs  # noqa: E402
import vmm  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
GUEST = os.environ.get("VIREO_GUEST", os.path.join(vmm.BUILD, "guest"))


@contextlib.contextmanager
def alone():
    """Guest material is made by one run at a time: two may share a directory."""
    os.makedirs(GUEST, exist_ok=True)
    with open(os.path.join(GUEST, ".lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def pytest_report_header():
    return f"program under test: {vmm.VMM}"


@pytest.fixture(scope="session", autouse=True)
def program():
    if not (shutil.which(vmm.VMM) or os.access(vmm.VMM, os.X_OK)):
        pytest.exit(f"there is no {vmm.VMM}: build first (make), or name another program with VIREO_VMM", returncode=1)
    return vmm.VMM


@pytest.fixture(scope="session")
def kernels():
    """The directory with kernels, busybox and memtest86+."""
    with alone():
        subprocess.run([os.path.join(HERE, "make_kernels.sh"), GUEST], check=True)
    return GUEST


@pytest.fixture(scope="session")
def rootfs():
    """The directory with the systemd guest: vmlinuz, initrd.img, disk.img. The image is copied before it is written."""
    with alone():
        subprocess.run([os.path.join(HERE, "make_rootfs.sh"), GUEST], check=True)
    return GUEST


@pytest.fixture(scope="session")
def flat():
    """flat(name): a guest of tests/guest/asm, assembled."""
    out = os.path.join(GUEST, "asm")
    os.makedirs(out, exist_ok=True)

    def assemble(name, *defines):
        tag = "".join("-" + d.replace("=", "-") for d in defines)
        target = os.path.join(out, name + tag + ".flat")
        part = f"{target}.{os.getpid()}"  # another run may be starting the same guest
        subprocess.run(["nasm", "-f", "bin", "-I", HERE + "/asm/", *("-D" + d for d in defines), "-o", part,
                        os.path.join(HERE, "asm", name + ".asm")], check=True)
        os.replace(part, target)
        return target
    return assemble


@pytest.fixture
def work():
    """A directory of this test's own. Not pytest's: those are deep, and a UNIX socket's path may have 107 bytes."""
    path = tempfile.mkdtemp(prefix="vireo-test-")
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def machine(work):
    """machine(*options, qmp=False, ...): starts the program; it is ended with the test."""
    started = []

    def start(*args, qmp=False, **kwargs):
        n = len(started)
        m = vmm.Machine(args, os.path.join(work, f"console{n}"), os.path.join(work, f"qmp{n}") if qmp else None, **kwargs)
        started.append(m)
        return m
    yield start
    for m in started:
        m.kill()


@pytest.fixture
def linux(work, machine, kernels):
    """linux(script, kernel="cloud", modules=(), ...): boots a Debian kernel with an initial RAM disk that runs the script."""
    def boot(*args, script=None, kernel="cloud", modules=(), append="", memory="512", accel="jit", no_reboot=True, image=None, extra=None, **kwargs):
        initrd = os.path.join(work, "initrd")
        with open(initrd, "wb") as f:
            f.write(initramfs.build(kernels, kernel, modules, script, extra=extra))
        board = [] if "-machine" in args else ["-machine", "q35"]
        if no_reboot:
            board += ["-no-reboot"]
        return machine(*board, "-accel", accel, "-m", memory, "-nodefaults", "-display", "none", "-serial", "stdio",
                       "-kernel", image or (initramfs.unpacked(kernels, kernel) if kernel == "generic" else os.path.join(kernels, kernel, "vmlinuz")), "-initrd", initrd,
                       "-append", f"console=ttyS0 panic=-1 quiet {append}".strip(), *args, **kwargs)
    return boot


@pytest.fixture
def image(work):
    """image(mib=64, name="disk.img", ...): the path of a new raw image; with an empty file system, or with these bytes."""
    def make(mib=64, name="disk.img", ext4=False, data=None):
        path = os.path.join(work, name)
        with open(path, "wb") as f:
            f.write(data or b"")
            if not data:
                f.truncate(mib << 20)
        if ext4:
            subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", path], check=True)
        return path
    return make


@pytest.fixture
def as_nobody():
    """The command prefix that runs a program as an ordinary user; empty where the test runs as one already."""
    if os.getuid() != 0:
        return []
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
