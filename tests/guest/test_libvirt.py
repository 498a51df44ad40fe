# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line that libvirt 9.0 makes of virt-install's default Linux domain on q35 (virsh domxml-to-native), without what needs USB,
a display or sound: it starts, the guest finds its devices where libvirt has put them, and a disk is plugged into a free port as libvirt does."""
import json
import os
import subprocess

import vmm

BOOT = 150
MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio_balloon", "virtio_rng", "ahci", "crct10dif_generic", "sd_mod", "sr_mod")


def ports():
    out = []
    for i in range(14):
        row = {"driver": "pcie-root-port", "port": 8 + i, "chassis": 1 + i, "id": f"pci.{1 + i}", "bus": "pcie.0"}
        if i % 8 == 0:
            row["multifunction"] = True
        row["addr"] = f"0x{1 + i // 8:x}" + (f".0x{i % 8:x}" if i % 8 else "")
        out += ["-device", json.dumps(row)]
    return out


def command_line(work, kernel, initrd):
    def blockdev(n, path, driver, **more):
        return ["-blockdev", json.dumps({"driver": "file", "filename": path, "node-name": f"libvirt-{n}-storage", "auto-read-only": True, "discard": "unmap"}),
                "-blockdev", json.dumps({"node-name": f"libvirt-{n}-format", "driver": driver, "file": f"libvirt-{n}-storage", **more})]

    def device(**row):
        return ["-device", json.dumps(row)]
    return [
        "-name", "guest=deb,debug-threads=on", "-S",
        "-object", json.dumps({"qom-type": "secret", "id": "masterKey0", "format": "raw", "file": f"{work}/master-key.aes"}),
        "-machine", "pc-q35-7.2,usb=off,vmport=off,dump-guest-core=off,memory-backend=pc.ram", "-accel", "tcg", "-cpu", "qemu64", "-m", "512",
        "-object", json.dumps({"qom-type": "memory-backend-ram", "id": "pc.ram", "size": 512 << 20}), "-overcommit", "mem-lock=off",
        "-smp", "2,sockets=2,cores=1,threads=1", "-uuid", "76515f37-ecdd-4998-ae45-75a337574c2f", "-display", "none", "-no-user-config", "-nodefaults",
        "-chardev", f"socket,id=charmonitor,path={work}/qmp0,server=on,wait=off", "-mon", "chardev=charmonitor,id=monitor,mode=control",
        "-rtc", "base=utc,driftfix=slew", "-global", "kvm-pit.lost_tick_policy=delay", "-no-hpet", "-no-shutdown", "-global", "ICH9-LPC.disable_s3=1",
        "-global", "ICH9-LPC.disable_s4=1", "-boot", "strict=on", "-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 panic=-1 quiet", *ports(),
        *device(driver="virtio-serial-pci", id="virtio-serial0", bus="pci.2", addr="0x0"),
        *blockdev(3, f"{work}/disk.qcow2", "qcow2", **{"read-only": False, "discard": "unmap"}),
        *device(driver="virtio-blk-pci", bus="pci.3", addr="0x0", drive="libvirt-3-format", id="virtio-disk0", bootindex=1),
        *blockdev(2, f"{work}/cd.iso", "raw", **{"read-only": True}),
        *device(driver="ide-cd", bus="ide.0", drive="libvirt-2-format", id="sata0-0-0"),
        *blockdev(1, f"{work}/sata.img", "raw", **{"read-only": False}),
        *device(driver="ide-hd", bus="ide.1", drive="libvirt-1-format", id="sata0-0-1"),
        "-netdev", json.dumps({"type": "user", "id": "hostnet0"}), # libvirt: {"type":"tap","fd":"23","id":"hostnet0"}
        *device(driver="virtio-net-pci", netdev="hostnet0", id="net0", mac="52:54:00:f7:69:90", bus="pci.1", addr="0x0"),
        "-chardev", "stdio,id=charserial0", *device(driver="isa-serial", chardev="charserial0", id="serial0", index=0), # libvirt: pty
        "-chardev", f"socket,id=charchannel0,path={work}/agent.sock,server=on,wait=off",
        *device(driver="virtserialport", bus="virtio-serial0.0", nr=1, chardev="charchannel0", id="channel0", name="org.qemu.guest_agent.0"),
        "-audiodev", json.dumps({"id": "audio1", "driver": "none"}),
        *device(driver="virtio-balloon-pci", id="balloon0", bus="pci.4", addr="0x0"),
        "-object", json.dumps({"qom-type": "rng-random", "id": "objrng0", "filename": "/dev/urandom"}),
        *device(driver="virtio-rng-pci", rng="objrng0", id="rng0", bus="pci.5", addr="0x0"),
        "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny", "-msg", "timestamp=on",
    ]


def test_default_domain_starts(work, machine, kernels):
    import initramfs
    initrd = os.path.join(work, "initrd")
    script = """
await "opens /dev/sr0 /dev/sda /dev/vda && [ -e /sys/class/virtio-ports/vport*/name ]"
for d in /sys/bus/pci/devices/*; do [ -e $d/driver ] && echo "VT at $(basename $d) $(basename $(readlink $d/driver))"; done
echo "VT disks $(cat /sys/block/vda/size) $(cat /sys/block/sda/size) $(cat /sys/block/sr0/size) $(cat /sys/class/virtio-ports/vport*/name)"
await "opens /dev/vdb"
echo "VT plugged $(cat /sys/block/vdb/size)"
"""
    with open(initrd, "wb") as f:
        f.write(initramfs.build(kernels, "generic", MODULES, script))
    with open(os.path.join(work, "master-key.aes"), "wb") as f:
        f.write(os.urandom(32))
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", os.path.join(work, "disk.qcow2"), "64M"], check=True)
    for name, size in (("cd.iso", 2 << 20), ("sata.img", 8 << 20), ("more.img", 4 << 20)):
        with open(os.path.join(work, name), "wb") as f:
            f.truncate(size)
    m = machine(*command_line(work, os.path.join(kernels, "generic", "vmlinuz"), initrd))
    m.qmp_path = os.path.join(work, "qmp0")
    q = m.qmp
    q.command("cont")
    text = m.wait_text("VT disks 131072 16384 4096 org.qemu.guest_agent.0", BOOT, "the guest does not find the domain's disks and channel")
    for place in ("0000:01:00.0 virtio-pci", "0000:02:00.0 virtio-pci", "0000:03:00.0 virtio-pci", "0000:04:00.0 virtio-pci", "0000:05:00.0 virtio-pci",
                  "0000:00:1f.2 ahci", "0000:00:01.0 pcieport", "0000:00:02.5 pcieport"):
        assert f"VT at {place}\n" in text, (place, text)
    q.command("blockdev-add", **{"driver": "file", "filename": os.path.join(work, "more.img"), "node-name": "libvirt-4-storage", "auto-read-only": True})
    q.command("blockdev-add", **{"node-name": "libvirt-4-format", "read-only": False, "driver": "raw", "file": "libvirt-4-storage"})
    q.command("device_add", driver="virtio-blk-pci", bus="pci.6", addr="0x0", drive="libvirt-4-format", id="virtio-disk1")
    m.wait_text("VT plugged 8192", 60, "a disk that is plugged in as libvirt does it does not appear")
    q.wait_event("SHUTDOWN", 60)
    q.command("quit")
    m.wait(20)
    assert vmm.IS_QEMU or "Z vireo-vmm: warning" in m.stderr() or not m.stderr(), m.stderr()
