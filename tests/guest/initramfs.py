# SPDX-License-Identifier: GPL-2.0-or-later
"""Initial RAM disks for test guests: busybox, the modules a test asks for, and the test's own shell script.

The archive is written here ("newc" cpio, Linux Documentation/driver-api/early-userspace/buffer-format.rst), so that no
device node has to be made and no root is needed.
"""
import gzip
import lzma
import os
import re

# /init: mounts, loads modules, runs the test's script, powers off. A line that starts with "VT " is for the test.
# await CONDITION is for the test's script; so is opens FILE..., for disks: Linux makes the node of a disk before the disk can be opened.
INIT = b"""#!/bin/sh
export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /tmp /mnt
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
exec </dev/console >/dev/console 2>&1
echo 4 > /proc/sys/kernel/printk
echo "VT init $(uname -m) $(uname -r)"
for m in $(cat /modules/order 2>/dev/null); do
    # insmod does not look at the kernel's command line, where a microvm names its devices.
    insmod /modules/$m.ko $(tr ' ' '\\n' < /proc/cmdline | grep "^$m\\." | cut -d . -f 2-) || echo "VT insmod $m failed"
done
await() { local n=0; while [ $n -lt 600 ]; do eval "$1" && return; sleep 0.1; n=$((n + 1)); done; echo "VT never: $1"; }
opens() { local f; for f; do true <"$f" || return; done 2>/dev/null; }
[ -f /test.sh ] && . /test.sh
echo "VT done"
poweroff -f
"""


def _record(ino, name, mode, data=b"", rdev=(0, 0)):
    name = name.encode() + b"\0"
    fields = (ino, mode, 0, 0, 1, 0, len(data), 0, 0, *rdev, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % f for f in fields) + name
    head += b"\0" * (-len(head) % 4)
    return head + data + b"\0" * (-len(data) % 4)


def cpio(files):
    """files: {path: (mode, data)}; a character device has its (major, minor) as data."""
    out = []
    for ino, (path, (mode, data)) in enumerate(files.items(), 1):
        if isinstance(data, tuple):
            out.append(_record(ino, path, mode, rdev=data))
        else:
            out.append(_record(ino, path, mode, data))
    out.append(_record(0, "TRAILER!!!", 0))
    archive = b"".join(out)
    return archive + b"\0" * (-len(archive) % 512)


def _plain(name):
    return name.replace("-", "_")


def module_order(kernel_dir, wanted):
    """The modules to load, dependencies first; what is built into the kernel is left out."""
    files = {_plain(f[:-3]): f[:-3] for f in os.listdir(os.path.join(kernel_dir, "modules"))}
    with open(os.path.join(kernel_dir, "modules.builtin"), encoding="ascii") as f:
        builtin = {_plain(os.path.basename(line.strip())[:-3]) for line in f}
    order = []

    def add(name):
        name = _plain(name)
        if name in builtin or name in order:
            return
        if name not in files:
            raise FileNotFoundError(f"the kernel in {kernel_dir} has no module {name}; make_kernels.sh does not unpack it")
        with open(os.path.join(kernel_dir, "modules", files[name] + ".ko"), "rb") as f:
            info = f.read()
        depends = re.search(rb"\0depends=([^\0]*)\0", info).group(1).decode()
        # "softdep=pre: a b": a library that looks its algorithm up by name.
        soft = re.search(rb"\0softdep=pre: ([^\0:]*)\0", info)
        for d in depends.split(",") if depends else ():
            add(d)
        for d in soft.group(1).decode().split() if soft else ():
            if _plain(d) in files:
                add(d)
        order.append(name)

    for name in wanted:
        add(name)
    return [files[name] for name in order]


def unpacked(guest_dir, kernel):
    """The path of the ELF kernel in a kernel's bzImage (boot.rst: payload_offset counts from the end of the setup code), packed by xz. A guest
    that begins with it need not unpack it, which takes it longer than all that comes after."""
    path = os.path.join(guest_dir, kernel, "vmlinux")
    if not os.path.exists(path):
        with open(os.path.join(guest_dir, kernel, "vmlinuz"), "rb") as f:
            data = f.read()
        start = (data[0x1f1] + 1) * 512 + int.from_bytes(data[0x248:0x24c], "little")
        part = f"{path}.{os.getpid()}"  # another run may be making it, too
        with open(part, "wb") as f:
            f.write(lzma.LZMADecompressor().decompress(data[start:start + int.from_bytes(data[0x24c:0x250], "little")]))
        os.replace(part, path)
    return path


def build(guest_dir, kernel, modules=(), script=None, compress=True, extra=None):
    """The bytes of an initial RAM disk for a kernel of make_kernels.sh; extra: more files, as for cpio()."""
    arch = "i386" if kernel == "686-pae" else "amd64"
    kernel_dir = os.path.join(guest_dir, kernel)
    with open(os.path.join(guest_dir, "busybox-" + arch), "rb") as f:
        busybox = f.read()
    files = {"bin": (0o40755, b""), "bin/busybox": (0o100755, busybox), "bin/sh": (0o120777, b"busybox"),
             "dev": (0o40755, b""), "dev/console": (0o20600, (5, 1)), "dev/null": (0o20666, (1, 3)),
             "init": (0o100755, INIT)}
    order = module_order(kernel_dir, modules)
    if order:
        files["modules"] = (0o40755, b"")
        files["modules/order"] = (0o100644, "\n".join(order).encode() + b"\n")
        for name in order:
            with open(os.path.join(kernel_dir, "modules", name + ".ko"), "rb") as f:
                files[f"modules/{name}.ko"] = (0o100644, f.read())
    if script:
        files["test.sh"] = (0o100644, script.encode())
    files.update(extra or {})
    archive = cpio(files)
    return gzip.compress(archive, 1) if compress else archive
