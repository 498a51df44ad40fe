# SPDX-License-Identifier: GPL-2.0-or-later
"""A Linux with two vCPUs that counts on its serial console is saved, put aside and restored: no number is missing, none comes twice."""
import os
import subprocess
import sys
import time

from conftest import BUILD
from guest_image import GUEST
from limits import SLOW

sys.path.insert(0, GUEST)
import initramfs  # noqa: E402 pylint: disable=wrong-import-position


def kernel_of(where):
    kernels = os.environ.get("VIREO_GUEST", os.path.join(os.path.abspath(BUILD), "guest"))
    os.makedirs(kernels, exist_ok=True)
    subprocess.run(["flock", os.path.join(kernels, ".lock"), os.path.join(GUEST, "make_kernels.sh"), kernels], check=True)
    with open(where / "initrd", "wb") as f:
        f.write(initramfs.build(kernels, "cloud", ("virtio_blk", "virtio_balloon"), "i=0; while true; do echo count $i; i=$((i+1)); sleep 0.1; done"))
    return f"{kernels}/cloud/vmlinuz"


def test_counts_on(vireod, tmp_path):
    serial = tmp_path / "serial"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "d.qcow2", "16M"], check=True)
    (tmp_path / "vm.xml").write_text(
        f"<domain type='qemu'><name>vm</name><memory unit='MiB'>192</memory><vcpu>2</vcpu><os><type arch='x86_64' machine='q35'>hvm</type><kernel>{kernel_of(tmp_path)}</kernel>"
        f"<initrd>{tmp_path}/initrd</initrd><cmdline>console=ttyS0 panic=-1 quiet</cmdline></os><features><acpi/><apic/></features><devices>"
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{tmp_path}/d.qcow2'/><target dev='vda' bus='virtio'/></disk>"
        f"<serial type='file'><source path='{serial}' append='on'/></serial></devices></domain>", encoding="utf-8")

    def counted():
        lines = serial.read_text(encoding="utf-8", errors="replace").split("\n")[:-1] if serial.exists() else []
        return [int(line.split()[1]) for line in lines if line.startswith("count ")]

    def further(than):
        end = time.monotonic() + 60 * SLOW
        while not counted() or counted()[-1] < than + 3:
            assert time.monotonic() < end, f"{counted()[-3:]}\n{vireod.messages()}"
            time.sleep(0.05)
    vireod.virsh("define", tmp_path / "vm.xml")
    vireod.virsh("start", "vm")
    further(0)
    for _ in range(2):
        vireod.virsh("managedsave", "vm")
        at = counted()[-1]
        vireod.virsh("start", "vm")
        further(at)
    vireod.virsh("save", "vm", tmp_path / "state")
    at = counted()[-1]
    vireod.virsh("restore", tmp_path / "state")
    further(at)
    assert counted() == list(range(counted()[-1] + 1))
    vireod.virsh("snapshot-create-as", "vm", "s1", "--halt")
    at = counted()[-1]
    serial.unlink()
    vireod.virsh("snapshot-revert", "vm", "s1", "--running")
    further(at)
    assert at <= counted()[0] <= at + 2  # a line may have been on its way
    vireod.virsh("destroy", "vm")
