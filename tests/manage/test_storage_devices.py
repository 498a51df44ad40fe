# SPDX-License-Identifier: GPL-2.0-or-later
"""Storage on devices and file systems of the test's own, encrypted volumes, sparse streams: what takes longer than the rest (test_storage.py)."""
import json
import os
import re
import shutil
import subprocess

import pytest

from conftest import PLAIN
from test_storage import MIB, daemon, info, needs_root, pool, run, xml_value  # noqa: F401: fixtures


def test_encrypted_volume(daemon, pool, tmp_path):
    name, path = pool
    file = tmp_path / "s.xml"
    file.write_text(f"<secret ephemeral='no' private='no'><usage type='volume'><volume>{path}/l.luks</volume></usage></secret>")
    uuid = re.search(r"Secret (\S+) created", daemon.virsh("secret-define", file))[1]
    (tmp_path / "key").write_text("swordfish")
    daemon.virsh("secret-set-value", uuid, "--file", tmp_path / "key", "--plain")
    xml = ("<volume><name>{}</name><capacity unit='M'>2</capacity><target><format type='{}'/><encryption format='luks'>"
           f"<secret type='passphrase' uuid='{uuid}'/></encryption></target></volume>")
    file.write_text(xml.format("l.luks", "raw"))
    daemon.virsh("vol-create", name, file)
    text = daemon.virsh("vol-dumpxml", "l.luks", name)
    assert f"    <encryption format='luks'>\n      <secret type='passphrase' uuid='{uuid}'/>\n    </encryption>" in text
    assert xml_value(text, "capacity") == str(2 * MIB)
    assert info(f"{path}/l.luks")["format"] == "luks"
    secret = f"secret,id=k,file={tmp_path}/key"
    run("qemu-io", "--object", secret, "--image-opts", f"driver=luks,key-secret=k,file.filename={path}/l.luks", "-c", "write -P 7 0 2M")
    file.write_text("<volume><name>clear</name><capacity>0</capacity><target><format type='raw'/></target></volume>")
    daemon.virsh("vol-create-from", name, file, "l.luks", "--inputpool", name)
    with open(f"{path}/clear", "rb") as f:
        assert f.read() == b"\7" * 2 * MIB
    daemon.virsh("secret-undefine", uuid)
    file.write_text(xml.format("no.luks", "raw"))
    assert uuid in daemon.virsh("vol-create", name, file, status=1)
    assert sorted(os.listdir(path)) == ["clear", "l.luks"]


def test_sparse_streams(daemon, pool, tmp_path):
    name, path = pool
    with open(tmp_path / "in", "wb") as f:
        f.truncate(300 * MIB)
        for at in (0, 100 * MIB, 299 * MIB):
            f.seek(at)
            f.write(os.urandom(70000))
    daemon.virsh("vol-create-as", name, "s", "300M", "--allocation", "0")
    daemon.virsh("vol-upload", "s", tmp_path / "in", name, "--sparse")
    run("cmp", tmp_path / "in", f"{path}/s")
    assert os.stat(f"{path}/s").st_blocks * 512 < 2 * MIB
    daemon.virsh("vol-download", "s", tmp_path / "out", name, "--sparse")
    run("cmp", tmp_path / "in", tmp_path / "out")
    assert os.stat(tmp_path / "out").st_blocks * 512 < 2 * MIB


@needs_root
def test_full_file_system(daemon, tmp_path):
    path = tmp_path / "small"
    path.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", path)
    try:
        daemon.virsh("pool-create-as", "small", "dir", "--target", path)
        assert "No space left" in daemon.virsh("vol-create-as", "small", "a", "20M", status=1)
        assert os.listdir(path) == []
        daemon.virsh("vol-create-as", "small", "a", "5M")
        assert "No space left" in daemon.virsh("vol-clone", "a", "b", "--pool", "small", status=1)
        (tmp_path / "in").write_bytes(os.urandom(12 * MIB))
        daemon.virsh("vol-create-as", "small", "u", "12M", "--allocation", "0")
        assert "No space left" in daemon.virsh("vol-upload", "u", tmp_path / "in", "small", status=1)
        assert sorted(os.listdir(path)) == ["a", "u"]
        daemon.virsh("pool-destroy", "small")
    finally:
        run("umount", path)


@pytest.fixture
def loop(tmp_path):
    """A loop device of 64 MiB."""
    with open(tmp_path / "disk", "wb") as f:
        f.truncate(64 * MIB)
    done = subprocess.run(["losetup", "-f", "--show", tmp_path / "disk"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no loop devices here: {done.stdout.strip()}")
    device = done.stdout.strip()
    yield device
    subprocess.run(["partx", "-d", device], stderr=subprocess.DEVNULL, check=False)
    run("losetup", "-d", device, status=None)


@needs_root
def test_disk_pool(daemon, loop, tmp_path):
    if not shutil.which("sfdisk"):
        pytest.skip("sfdisk (package fdisk) is not on this host")
    v, base = daemon.virsh, os.path.basename(loop)
    v("pool-define-as", "disk", "disk", "--source-dev", loop, "--source-format", "gpt", "--target", "/dev")
    try:
        v("pool-build", "disk")
        assert "overwrite" in v("pool-build", "disk", status=1)
        v("pool-build", "disk", "--overwrite")
        v("pool-start", "disk")
        assert f"expected '{base}p1'" in v("vol-create-as", "disk", "name", "10M", status=1)
        v("vol-create-as", "disk", f"{base}p1", "10M", "--format", "linux-swap")
        v("vol-create-as", "disk", f"{base}p2", "5M")
        assert "no free piece" in v("vol-create-as", "disk", f"{base}p3", "500M", status=1)
        table_now = json.loads(run("sfdisk", "--json", loop))["partitiontable"]["partitions"]
        assert [p["size"] * 512 for p in table_now] == [10 * MIB, 5 * MIB]
        text = v("vol-dumpxml", f"{base}p1", "disk")
        assert f"  <source>\n    <device path='{loop}'>\n      <extent start='1048576' end='11534336'/>\n    </device>\n  </source>\n" in text
        assert "<format type='linux-swap'/>" in text
        (tmp_path / "in").write_bytes(os.urandom(5 * MIB))
        v("vol-upload", f"{base}p2", tmp_path / "in", "disk")
        v("vol-download", f"{base}p2", tmp_path / "out", "disk")
        assert (tmp_path / "in").read_bytes() == (tmp_path / "out").read_bytes()
        v("vol-delete", f"{base}p1", "disk")
        assert "<freeExtent start='1048576' end='11534336'/>" in v("pool-dumpxml", "disk")
        v("pool-destroy", "disk")
    finally:
        v("pool-destroy", "disk", status=None)
        v("pool-undefine", "disk", status=None)


@needs_root
def test_fs_pool(daemon, loop, tmp_path):
    v = daemon.virsh
    v("pool-define-as", "fs", "fs", "--source-dev", loop, "--source-format", "ext4", "--target", tmp_path / "mnt")
    try:
        v("pool-build", "fs", "--no-overwrite")
        assert "overwrite" in v("pool-build", "fs", "--no-overwrite", status=1)
        v("pool-start", "fs")
        with open(f"/proc/{daemon.process.pid}/mounts", encoding="utf-8") as f:
            line = next(x for x in f if str(tmp_path / "mnt") in x)
        assert {"nodev", "nosuid", "noexec"} <= set(line.split()[3].split(","))
        v("vol-create-as", "fs", "v", "1M")
        v("pool-destroy", "fs")
        assert not os.path.ismount(tmp_path / "mnt")
        v("pool-start", "fs")
        assert "v" in v("vol-list", "fs")
        v("pool-destroy", "fs")
    finally:
        v("pool-destroy", "fs", status=None)
        v("pool-undefine", "fs", status=None)


@needs_root
def test_logical_pool(daemon, loop):
    if not shutil.which("vgcreate"):
        pytest.skip("vgcreate (package lvm2) is not on this host")
    if subprocess.run(["dmsetup", "version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("the kernel of this host has no device mapper: logical volumes cannot be activated")
    v = daemon.virsh
    v("pool-define-as", "vireo-test", "logical", "--source-dev", loop)
    try:
        v("pool-build", "vireo-test")
        v("pool-start", "vireo-test")
        v("vol-create-as", "vireo-test", "lv", "8M")
        assert "lv" in run("lvs", "--noheadings", "-o", "lv_name", "vireo-test")
        v("vol-resize", "lv", "12M", "vireo-test")
        assert "12.00 MiB" in v("vol-info", "lv", "vireo-test")
        v("vol-delete", "lv", "vireo-test")
        v("pool-destroy", "vireo-test")
        v("pool-delete", "vireo-test")
    finally:
        v("pool-destroy", "vireo-test", status=None)
        run("vgremove", "-f", "vireo-test", status=None)
        v("pool-undefine", "vireo-test", status=None)
