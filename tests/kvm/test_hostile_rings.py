# SPDX-License-Identifier: GPL-2.0-or-later
"""The hostile guests of tests/guest/test_hostile.py on KVM: ports and virtqueues, for which a KVM in software is too slow."""
import pytest

import test_hostile as on_the_host
from test_hostile import hostile  # noqa: F401 (a fixture)


def start(machine, outer, kernel, task, seed=1):
    disk = outer.shell("truncate -s 1M /tmp/hostile && echo /tmp/hostile").strip()
    return machine("-accel", "kvm", "-m", "64", "-smp", "2", "-nodefaults", "-display", "none", "-serial", "stdio", "-kernel", outer.put(kernel),
                   "-append", f"{task} seed={seed}", "-drive", f"file={disk},format=raw,if=none,id=disk", "-device", "virtio-blk-pci,drive=disk",
                   "-nic", "user,model=virtio-net-pci", "-nic", "user,model=e1000e", "-nic", "user,model=rtl8139", "-device", "virtio-rng-pci",
                   "-device", "virtio-balloon-pci", "-device", "virtio-serial-pci", "-chardev", "null,id=console", "-device",
                   "virtconsole,chardev=console", qmp=True)


@pytest.mark.parametrize("task", ["ports", "rings cases", "rings random"])
def test_hostile(machine, outer, hostile, task):  # noqa: F811
    m = start(machine, outer, hostile, task)
    if task.startswith("rings"):
        said = m.wait_text("devices: 0x00000005\n", 120, "the guest did not try all devices")
        assert said.endswith("start\n"), "a device did not survive:\n" + said
    on_the_host.lives(m, 120)
    on_the_host.obeys(m, deadline=40, picture=False)
