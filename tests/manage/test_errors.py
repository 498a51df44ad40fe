# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs act on the number of an error and on the part that it comes from (virErrorNumber, virErrorDomain): those of the usual failures are libvirtd 9.0's.
Each line is a call of python3-libvirt and what a real libvirtd answered to it: number, part."""
import os

import libvirt

HERE = os.path.dirname(os.path.abspath(__file__))
DOMAIN = """<domain type='qemu'><name>t1</name><uuid>11111111-1111-1111-1111-111111111111</uuid><memory unit='MiB'>128</memory><vcpu current='2'>4</vcpu><iothreads>1</iothreads>
<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os><devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/nowhere/a.qcow2'/><target dev='vda' bus='virtio'/></disk>
<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/></interface><graphics type='vnc'/><memballoon model='virtio'/></devices></domain>"""
NETWORK = """<network><name>n</name><uuid>22222222-2222-2222-2222-222222222222</uuid><bridge name='br7'/><ip address='10.77.0.1' netmask='255.255.255.0'><dhcp>
<range start='10.77.0.2' end='10.77.0.9'/></dhcp></ip></network>"""
POOL = "<pool type='dir'><name>p</name><target><path>/nowhere/pool</path></target></pool>"
with open(os.path.join(HERE, "errors.txt"), encoding="utf-8") as f:
    LINES = [line.rstrip("\n").rsplit(" ", 2) for line in f if line.strip() and not line.startswith("#")]


def test_numbers_and_parts(vireod):
    libvirt.registerErrorHandler(lambda *_: None, None)
    c, r = libvirt.open(vireod.uri), libvirt.openReadOnly(vireod.uri + "-ro")
    names = {"c": c, "r": r, "xml": DOMAIN, "d": c.defineXML(DOMAIN), "n": c.networkDefineXML(NETWORK), "p": c.storagePoolDefineXML(POOL), "libvirt": libvirt}
    wrong = []
    for call, number, part in LINES:
        try:
            eval(call, names)  # pylint: disable=eval-used
            wrong.append(f"{call}: no error, expected are {number} {part}")
        except libvirt.libvirtError as e:
            if (e.get_error_code(), e.get_error_domain()) != (int(number), int(part)):
                wrong.append(f"{call}: {e.get_error_code()} {e.get_error_domain()}, expected are {number} {part} ({e})")
    names.clear()
    c.close()
    r.close()
    assert len(LINES) > 100 and not wrong, f"{len(wrong)} of {len(LINES)}:\n" + "\n".join(wrong)
