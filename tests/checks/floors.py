# SPDX-License-Identifier: GPL-2.0-or-later
"""Holds the table of who may include whom (docs/architecture.md): each #include "..." under src/ against the rooms' rows.

usage: floors.py SOURCE_ROOT
"""
import os
import re
import sys

# A room: what its files may include, by the beginning of the path. Its own files are always allowed. The longest name that
# fits a file decides.
ROOMS = {
    "base": [],
    "cpu": ["base"],
    "accel": ["base", "cpu"],
    "accel/kvm": ["base", "cpu", "accel/accel.h"],
    "accel/jit": ["base", "cpu", "accel/accel.h"],
    "block": ["base"],
    "vmm": ["base", "cpu", "block", "vmm", "accel/accel.h"],
    "vmm/core": ["base", "cpu", "accel/accel.h"],
    "vmm/bus": ["base", "vmm/core"],
    "vmm/blockdev": ["base", "block", "vmm/core"],
    "vmm/dev": ["base", "vmm/core", "vmm/bus", "block", "vmm/net", "vmm/display", "vmm/dev/disk", "vmm/dev/vga"],
    "vmm/dev/disk": ["base", "vmm/core", "block"], # what the disks of all buses have in common
    "vmm/dev/vga": ["base", "vmm/core", "vmm/bus", "vmm/display"], # what all cards with a VGA have in common
    "vmm/net": ["base", "vmm/core"],
    "vmm/display": ["base", "vmm/core"],
    "vmm/board": ["base", "cpu", "vmm", "block", "accel/accel.h"],
    "vmm/qmp": ["base", "cpu", "vmm", "block", "accel/accel.h"],
    "vmm/migrate": ["base", "cpu", "vmm", "block", "accel/accel.h"],
    "manage": ["base"],
    "manage/model": ["base", "manage/core/manage_error.h"],
    "manage/core": ["base", "manage/model", "manage/rpc"],
    "manage/rpc": ["base", "manage/core"],
    "manage/api": ["base", "manage/core", "manage/rpc", "manage/model"],
    "manage/daemon": ["base", "manage/core", "manage/rpc"],
    "manage/drivers": ["base", "block", "manage/core", "manage/model", "manage/rpc"],
    "tools/vireo": ["base"],
    "tools/img": ["base", "block"],
    "web": ["base"],
}
# The list of all devices, which is no device itself.
DEVICE_LISTS = {"vmm/dev/devices.c", "vmm/dev/devices.h", "vmm/dev/virtio_devices.h"}
# A device may read its own header and that of its family: "virtio_blk.c" includes "virtio_blk.h" or "virtio.h".


def room_of(path):
    fits = [r for r in ROOMS if path == r or path.startswith(r + "/")]
    return max(fits, key=len) if fits else None


def allowed(includer, included):
    room = room_of(includer)
    if room is None:
        return False
    target = room_of(included) if "/" in included else room
    if room == "vmm/dev" and target == "vmm/dev":
        if includer in DEVICE_LISTS or included in DEVICE_LISTS:
            return True
        own = os.path.splitext(os.path.basename(includer))[0]
        header = os.path.splitext(os.path.basename(included))[0]
        return own == header or own.startswith(header + "_") or os.path.dirname(includer) == os.path.dirname(included) != "vmm/dev"
    if target == room:
        return True
    return any(included == a or included.startswith(a + "/") for a in ROOMS[room])


def main():
    root = os.path.join(sys.argv[1], "src")
    breaches, seen = [], 0
    for folder, _, names in os.walk(root):
        for name in sorted(names):
            if not name.endswith((".c", ".h")) or name.endswith("_test.c"):
                continue
            path = os.path.relpath(os.path.join(folder, name), root)
            with open(os.path.join(folder, name), encoding="utf-8") as f:
                for number, line in enumerate(f, 1):
                    m = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
                    if not m:
                        continue
                    seen += 1
                    included = m.group(1)
                    if "/" not in included:
                        included = os.path.join(os.path.dirname(path), included)
                    if not os.path.exists(os.path.join(root, included)):
                        continue  # generated, or of include/
                    if not allowed(path, included):
                        breaches.append(f"src/{path}:{number}: {room_of(path)} may not include \"{included}\"")
    # The table must bite: a few includes that have to be refused.
    for includer, included in (("base/log.c", "vmm/core/machine.h"), ("accel/jit/engine/jit_run.c", "vmm/core/vcpu.h"),
                               ("accel/jit/ir/ir.c", "accel/kvm/kvm.h"), ("vmm/dev/rtc.c", "vmm/dev/hpet.h"),
                               ("vmm/dev/rtc.c", "accel/accel.h"), ("vmm/board/pc.c", "accel/jit/engine/jit_engine.h"),
                               ("block/block.c", "vmm/core/machine.h"), ("vmm/bus/pci.c", "vmm/dev/pm.h"), ("manage/x.c", "vmm/core/x.h")):
        if allowed(includer, included):
            breaches.append(f"the check itself lets {includer} include {included}")
    if seen < 50:
        breaches.append(f"only {seen} includes found under {root}")
    print("\n".join(breaches) or f"{seen} includes keep to the floors")
    sys.exit(1 if breaches else 0)


main()
