# SPDX-License-Identifier: GPL-2.0-or-later
"""A small disk with a boot loader, Debian's kernel and a RAM disk, for guests that are imported."""
import os
import shutil
import subprocess
import sys

GUEST = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "guest")
sys.path.insert(0, GUEST)
import initramfs  # noqa: E402

BUILD = os.environ.get("VIREO_BUILD", "build")


def make(where, commands, modules=("virtio_blk",), arguments=""):
    """The path of an image made in the directory `where`: GRUB, the kernel, and a RAM disk that runs these commands with the serial port as console."""
    kernels = os.environ.get("VIREO_GUEST", os.path.join(os.path.abspath(BUILD), "guest"))
    os.makedirs(kernels, exist_ok=True)
    subprocess.run(["flock", os.path.join(kernels, ".lock"), os.path.join(GUEST, "make_kernels.sh"), kernels], check=True)
    os.makedirs(where / "iso/boot/grub")
    shutil.copy(f"{kernels}/cloud/vmlinuz", where / "iso/vmlinuz")
    with open(where / "iso/initrd", "wb") as f:
        f.write(initramfs.build(kernels, "cloud", modules, commands))
    with open(where / "iso/boot/grub/grub.cfg", "w", encoding="ascii") as f:
        f.write(f"set timeout=0\nmenuentry x {{\n linux /vmlinuz console=ttyS0 panic=-1 quiet {arguments}\n initrd /initrd\n}}\n")
    subprocess.run(["grub-mkrescue", "-o", where / "disk.img", where / "iso"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return where / "disk.img"
