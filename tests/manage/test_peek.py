# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks into disks and memory of a domain by python3-libvirt, and what the driver answers as libvirt's."""
import os
import subprocess

import libvirt
import pytest

from conftest import BUILD, Vireod

DOMAIN = """<domain type='qemu'><name>a</name><memory unit='MiB'>64</memory><os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{0}/a.qcow2'/><target dev='vda' bus='virtio'/></disk>
<disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk></devices></domain>"""


@pytest.fixture(scope="module")
def connection(tmp_path_factory):
    root = tmp_path_factory.mktemp("peek")
    daemon = Vireod(root)
    subprocess.run([os.path.join(BUILD, "vireo-img"), "create", "-q", "-f", "qcow2", root / "a.qcow2", "1M"], check=True)
    libvirt.registerErrorHandler(lambda *_: None, None)
    c = libvirt.open(daemon.uri)
    c.image = root / "a.qcow2"
    c.defineXML(DOMAIN.format(root))
    yield c
    c.close()
    daemon.stop()
    daemon.sweep()


def refused(call, code, text):
    with pytest.raises(libvirt.libvirtError) as info:
        call()
    assert info.value.get_error_code() == code and text in str(info.value), info.value


def test_block(connection):
    d = connection.lookupByName("a")
    data = connection.image.read_bytes()
    size = len(data)
    for name in ("vda", str(connection.image)):
        assert d.blockPeek(name, 0, 512) == data[:512], "not the bytes of the image's file"
    assert d.blockPeek("vda", 4096, 70000) == data[4096:74096] and d.blockPeek("vda", 0, 0) == b""
    refused(lambda: d.blockPeek("vda", size - 10, 512), libvirt.VIR_ERR_INVALID_ARG, "has only 10 bytes available")
    refused(lambda: d.blockPeek("vda", 2**63, 512), libvirt.VIR_ERR_INVALID_ARG, "has only 0 bytes available")
    refused(lambda: d.blockPeek("vdb", 0, 512), libvirt.VIR_ERR_INVALID_ARG, "disk 'vdb' not found in domain")
    refused(lambda: d.blockPeek("sda", 0, 512), libvirt.VIR_ERR_CONFIG_UNSUPPORTED, "no file or device")
    refused(lambda: d.blockPeek("vda", 0, 512, 1), libvirt.VIR_ERR_INVALID_ARG, "flags")
    refused(lambda: d.memoryPeek(0, 16, 2), libvirt.VIR_ERR_OPERATION_INVALID, "domain is not running")


def test_memory(connection):
    d = connection.lookupByName("a")
    d.create()
    try:
        reset = d.memoryPeek(0xfffffff0, 16, libvirt.VIR_MEMORY_PHYSICAL)
        assert reset[0] == 0xea and d.memoryPeek(0xffff0, 5, 2) == reset[:5], "the firmware's first jump is a far one, at the top of 4 GiB and of 1 MiB"
        assert d.memoryPeek(0xffff5, 8, 2)[2:3] == b"/", "the firmware's date stands behind it"
        assert len(d.memoryPeek(0, 1 << 20, 2)) == 1 << 20
        assert d.memoryPeek(1 << 42, 16, 2) == bytes(16) and d.memoryPeek((64 << 20) - 8, 16, 2)[8:] == bytes(8), "what is no memory reads as zeroes"
        assert d.memoryPeek(0, 0, 2) == b""
        for flags in (0, 3):
            refused(lambda: d.memoryPeek(0, 16, flags), libvirt.VIR_ERR_INVALID_ARG, "VIR_MEMORY_VIRTUAL")
        refused(lambda: d.memoryPeek(0, 16, 1), libvirt.VIR_ERR_OPERATION_UNSUPPORTED, "memsave")
    finally:
        d.destroy()


def test_answered_as_libvirt(connection):
    d = connection.lookupByName("a")
    refused(lambda: d.sendProcessSignal(1, 1), libvirt.VIR_ERR_NO_SUPPORT, "virDomainSendProcessSignal")
    refused(lambda: connection.suspendForDuration(libvirt.VIR_NODE_SUSPEND_TARGET_MEM, 60), libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED, "sleep")
    refused(connection.getSEVInfo, libvirt.VIR_ERR_OPERATION_UNSUPPORTED, "SEV")
    assert connection.setIdentity({libvirt.VIR_CONNECT_IDENTITY_USER_NAME: "ann"}) == 0
    refused(lambda: connection.setIdentity({"nonsense": "x"}), libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED, "parameter 'nonsense' not supported")
