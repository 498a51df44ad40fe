# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks of running domains by the real virsh: resizing, pulling a backing chain into the image, limits, sizes."""
import json
import os
import shutil
import subprocess
import time

import pytest

from limits import SLOW

HERE = os.path.dirname(os.path.abspath(__file__))


@pytest.fixture(scope="session")
def kernel(tmp_path_factory):
    path = tmp_path_factory.mktemp("guest") / "guest.bin"
    subprocess.run(["nasm", "-f", "bin", "-o", path, os.path.join(HERE, "guest.asm")], check=True)
    return path


@pytest.fixture
def domain(vireod, kernel, tmp_path):
    """A running domain `vm` with a disk vda: an overlay over an image that holds data."""
    base, top = tmp_path / "base.qcow2", tmp_path / "top.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", base, "16M"], check=True)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 0x5a 0 4M", base], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", top], check=True)
    xml = tmp_path / "vm.xml"
    xml.write_text(f"<domain type='qemu'><name>vm</name><memory unit='MiB'>32</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type>"
                   f"<kernel>{kernel}</kernel></os><devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{top}'/>"
                   f"<target dev='vda' bus='virtio'/></disk></devices></domain>", encoding="utf-8")
    vireod.virsh("define", xml)
    vireod.virsh("start", "vm")
    yield top
    vireod.virsh("destroy", "vm", status=None)


def info(path):
    return json.loads(subprocess.run(["qemu-img", "info", "-U", "--output=json", path], check=True, stdout=subprocess.PIPE).stdout)


def test_resize(vireod, domain):
    vireod.virsh("blockresize", "vm", "vda", "24M")
    assert "Capacity:       25165824" in vireod.virsh("domblkinfo", "vm", "vda")
    assert info(domain)["virtual-size"] == 24 << 20
    assert "not found" in vireod.virsh("blockresize", "vm", "vdz", "24M", status=1)


def test_pull_makes_the_image_stand_alone(vireod, domain):
    assert "backing-filename" in info(domain)
    vireod.virsh("blockpull", "vm", "vda", "--wait")
    until = time.monotonic() + 20 * SLOW
    while "backing-filename" in info(domain):
        assert time.monotonic() < until, "the image still has its backing file"
        time.sleep(0.05)
    assert "No current block job" in vireod.virsh("blockjob", "vm", "vda")
    vireod.virsh("destroy", "vm")
    out = subprocess.run(["qemu-io", "-f", "qcow2", "-c", "read -P 0x5a 0 4M", domain], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert "read 4194304/4194304" in out and "failed" not in out


def test_slow_pull_is_seen_and_aborted(vireod, domain):
    vireod.virsh("blockpull", "vm", "vda", "65536", "--bytes")
    seen = vireod.virsh("blockjob", "vm", "vda")
    assert "Block Pull" in seen, seen
    assert "already in active block job" in vireod.virsh("blockpull", "vm", "vda", status=1)
    vireod.virsh("blockjob", "vm", "vda", "--bandwidth", "131072", "--bytes")
    vireod.virsh("blockjob", "vm", "vda", "--abort")
    assert "No current block job" in vireod.virsh("blockjob", "vm", "vda")
    assert "does not have an active block job" in vireod.virsh("blockjob", "vm", "vda", "--abort", status=1)


def test_limits(vireod, domain):
    vireod.virsh("blkdeviotune", "vm", "vda", "--total-bytes-sec", "1048576", "--live", "--config")
    for where in "--live", "--config":
        values = dict(line.split(":") for line in vireod.virsh("blkdeviotune", "vm", "vda", where).splitlines() if ":" in line)
        assert values["total_bytes_sec"].strip() == "1048576", values
    assert "<total_bytes_sec>1048576</total_bytes_sec>" in vireod.virsh("dumpxml", "vm", "--inactive")
    vireod.virsh("blkdeviotune", "vm", "vda", "--total-bytes-sec", "0", "--live", "--config")
    assert "iotune" not in vireod.virsh("dumpxml", "vm", "--inactive")


def limits(vireod, *where):
    return {k.strip(): v.strip() for k, v in (line.split(":", 1) for line in vireod.virsh("blkdeviotune", "vm", "vda", *where).splitlines() if ":" in line)}


def test_limits_of_one_kind_replace_each_other(vireod, domain):
    """As with libvirtd: a total in the place of read and write and the other way round; bursts with their length; groups; nothing that the next start would stumble over."""
    both = ["blkdeviotune", "vm", "vda", "--live", "--config"]
    vireod.virsh(*both, "--total-bytes-sec", "1M", "--total-bytes-sec-max", "10M", "--total-bytes-sec-max-length", "5")
    for where in "--live", "--config":
        now = limits(vireod, where)
        assert (now["total_bytes_sec"], now["total_bytes_sec_max"], now["total_bytes_sec_max_length"], now["group_name"]) == ("1048576", "10485760", "5", ""), now
    vireod.virsh(*both, "--read-bytes-sec", "2M", "--group-name", "slow")
    for where in "--live", "--config":
        now = limits(vireod, where)
        assert (now["total_bytes_sec"], now["read_bytes_sec"], now["total_bytes_sec_max"], now["total_bytes_sec_max_length"], now["group_name"]) == ("0", "2097152", "0", "0", "slow"), now
    for words, say in ((("--total-bytes-sec", "1", "--read-bytes-sec", "5"), "total and read/write of bytes_sec cannot be set at the same time"),
                       (("--total-iops-sec-max", "5"), "'total_iops_sec_max' cannot be set if 'total_iops_sec' is not set"),
                       (("--size-iops-sec", "4096"), "size_iops_sec"), (("--read-bytes-sec", "100", "--read-bytes-sec-max", "50"), "cannot be smaller than 'read_bytes_sec'")):
        for where in (), ("--live",), ("--config",):
            assert say in vireod.virsh("blkdeviotune", "vm", "vda", *words, *where, status=1), (words, where)
    assert limits(vireod) == limits(vireod, "--config") == now
    vireod.virsh("destroy", "vm")
    vireod.virsh("start", "vm")
    assert limits(vireod) == now
    vireod.virsh(*both, "--read-bytes-sec", "0")
    assert "iotune" not in vireod.virsh("dumpxml", "vm") + vireod.virsh("dumpxml", "vm", "--inactive")


@pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="no qemu-system-x86_64")
@pytest.mark.parametrize("bus, dev", [("virtio", "vda"), ("sata", "sda"), ("scsi", "sda")])
def test_limits_of_a_qemu(vireod, tmp_path, bus, dev):
    """QEMU takes limits at the start and while it runs, whatever the disk is attached to; its virtio disk has them in an inner device."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "a.qcow2", "16M"], check=True)
    (tmp_path / "q.xml").write_text(
        f"<domain type='qemu'><name>q</name><memory unit='MiB'>32</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os><devices>"
        f"<emulator>/usr/bin/qemu-system-x86_64</emulator><disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{tmp_path}/a.qcow2'/>"
        f"<target dev='{dev}' bus='{bus}'/><iotune><total_iops_sec>77</total_iops_sec></iotune></disk></devices></domain>", encoding="utf-8")

    def rates():
        return [(d["inserted"]["iops"], d["inserted"]["bps"]) for d in json.loads(vireod.virsh("qemu-monitor-command", "q", "query-block"))["return"] if "inserted" in d]

    vireod.virsh("define", tmp_path / "q.xml")
    vireod.virsh("start", "q", "--paused")
    try:
        assert rates() == [(77, 0)]
        vireod.virsh("blkdeviotune", "q", dev, "--total-bytes-sec", "1000000", "--live")
        assert rates() == [(77, 1000000)]
        vireod.virsh("blkdeviotune", "q", dev, "--total-bytes-sec", "0", "--total-iops-sec", "0")
        assert rates() == [(0, 0)] and "iotune" not in vireod.virsh("dumpxml", "q")
    finally:
        vireod.virsh("destroy", "q", status=None)


def test_definition_with_limits_that_exclude_each_other_is_refused(vireod, domain, tmp_path):
    text = vireod.virsh("dumpxml", "vm", "--inactive").replace("<target dev='vda'", "<iotune><total_iops_sec>5</total_iops_sec><write_iops_sec>2</write_iops_sec></iotune><target dev='vda'")
    (tmp_path / "x.xml").write_text(text, encoding="utf-8")
    assert "total and read/write of iops_sec" in vireod.virsh("define", tmp_path / "x.xml", status=1)


def test_command_lines_are_not_read_back(vireod, tmp_path):
    (tmp_path / "args").write_text("qemu-system-x86_64 -m 64\n", encoding="utf-8")
    assert "not supported by the connection driver: virConnectDomainXMLFromNative" in vireod.virsh("domxml-from-native", "qemu-argv", tmp_path / "args", status=1)
