# SPDX-License-Identifier: GPL-2.0-or-later
"""The real virt-install against vireod: an image with a boot loader becomes a running guest, whose numbers the real virsh reads."""
import os
import shutil
import subprocess
import time

import pytest

import guest_image
from conftest import PLAIN
from limits import SLOW

@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """A disk with GRUB, Debian's kernel and a RAM disk whose shell answers on the serial console."""
    return guest_image.make(tmp_path_factory.mktemp("image"), 'dd if=/dev/vda of=/dev/null bs=64k count=16 2>/dev/null; echo "VT up"; sleep 600', modules=("virtio_blk", "virtio_balloon"))


def wait_for(what, condition, seconds=90):
    until = time.monotonic() + seconds * SLOW
    while not condition():
        assert time.monotonic() < until, f"{what} did not happen within {seconds} s"
        time.sleep(0.1)


def values(text):
    return dict(line.strip().split("=", 1) for line in text.splitlines() if "=" in line)


def test_import_runs_and_is_counted(vireod, image, tmp_path):
    disk, console = tmp_path / "disk.img", tmp_path / "console"
    shutil.copy(image, disk)
    done = subprocess.run(["virt-install", "--connect", vireod.uri, "--import", "--name", "vm", "--memory", "512", "--vcpus", "2", "--disk",
                           f"path={disk},format=raw,bus=virtio", "--network", "none", "--graphics", "none", "--osinfo", "detect=off,require=off",
                           "--serial", f"file,path={console}", "--noautoconsole"], env=PLAIN, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=120 * SLOW, check=False)
    assert done.returncode == 0 and "Domain creation completed" in done.stdout, done.stdout + vireod.messages()
    wait_for("the guest's start from its disk", lambda: console.exists() and b"VT up" in console.read_bytes())
    assert vireod.virsh("domstate", "vm").strip() == "running"

    stats = values(vireod.virsh("domstats", "vm"))
    assert stats["state.state"] == "1" and stats["vcpu.current"] == "2" and int(stats["cpu.time"]) > 0
    assert stats["block.0.name"] == "vda" and stats["block.0.path"] == str(disk)
    assert int(stats["block.0.rd.bytes"]) >= 1 << 20, "what the guest has read is not counted"
    assert int(stats["block.0.capacity"]) == os.path.getsize(disk)
    assert int(stats["vm.exits.sum"]) > 0
    assert set(values(vireod.virsh("domstats", "vm", "--state"))) == {"state.state", "state.reason"}

    blk = dict(line.split()[1:] for line in vireod.virsh("domblkstat", "vm", "vda").splitlines() if line.strip())
    assert int(blk["rd_bytes"]) >= 1 << 20 and int(blk["wr_req"]) == 0
    assert f"Capacity:       {os.path.getsize(disk)}" in vireod.virsh("domblkinfo", "vm", "vda")
    assert "invalid path" in vireod.virsh("domblkstat", "vm", "vdz", status=1)
    memory = dict(line.split() for line in vireod.virsh("dommemstat", "vm").splitlines() if line)
    assert int(memory["actual"]) == 512 * 1024 and int(memory["last_update"]) == int(values(vireod.virsh("domstats", "vm", "--balloon"))["balloon.last-update"])
    assert "not in suspended state" in vireod.virsh("dompmwakeup", "vm", status=1)
    assert vireod.virsh("domstats", "vm", "--enforce", "--memory").strip() == "Domain: 'vm'"
    assert "cpu_time" in vireod.virsh("cpu-stats", "vm", "--total")
    assert "No errors found" in vireod.virsh("domblkerror", "vm")

    vireod.virsh("destroy", "vm")
    assert "not running" in vireod.virsh("domblkstat", "vm", "vda", status=1)
    vireod.virsh("undefine", "vm")
