# SPDX-License-Identifier: GPL-2.0-or-later
"""Node devices: Debian's virsh and python3-libvirt on vireod, /sys as the judge."""
import os
import re
import subprocess
import sys

import pytest

from conftest import PLAIN, Vireod
from limits import SLOW


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    root = tmp_path_factory.mktemp("nodedev")
    os.makedirs(root / "etc/vireo/qemu/networks")
    d = Vireod(root)
    yield d
    d.stop()


def names(daemon, *words):
    return daemon.virsh("nodedev-list", *words).split()


def plain(text):
    return re.sub(r"[^A-Za-z0-9]", "_", text)


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read().strip()


def test_pci_devices_are_those_of_sys(daemon):
    there = sorted("pci_" + plain(n) for n in os.listdir("/sys/bus/pci/devices")) if os.path.isdir("/sys/bus/pci/devices") else []
    assert sorted(names(daemon, "--cap", "pci")) == there
    for name in there:
        text = daemon.virsh("nodedev-dumpxml", name)
        path = re.search(r"<path>([^<]*)<", text)[1]
        assert plain(os.path.basename(path)) == name[4:]
        assert f"<product id='{read(path + '/device')}'" in text and f"<vendor id='{read(path + '/vendor')}'" in text
        assert f"<class>{read(path + '/class')}</class>" in text


def test_interfaces(daemon):
    for interface in os.listdir("/sys/class/net"):
        address = f"/sys/class/net/{interface}/address"
        if not os.path.exists(address):
            continue
        name = plain(f"net_{interface}_{read(address)}")
        text = daemon.virsh("nodedev-dumpxml", name)
        assert f"    <interface>{interface}</interface>\n    <address>{read(address)}</address>\n    <link " in text
        assert text.rstrip().endswith("<capability type='80203'/>\n  </capability>\n</device>") or "80211" in text


def test_computer_and_tree(daemon):
    text = daemon.virsh("nodedev-dumpxml", "computer")
    assert text.startswith("<device>\n  <name>computer</name>\n  <capability type='system'>\n") and "<uuid>" in text
    tree = daemon.virsh("nodedev-list", "--tree")
    assert tree.startswith("computer\n") and all(n in tree for n in names(daemon))
    for name in names(daemon):
        parent = re.search(r"<parent>([^<]*)<", daemon.virsh("nodedev-dumpxml", name))
        assert (parent is None) == (name == "computer")
        assert parent is None or parent[1] in names(daemon)


def test_info_and_filters(daemon):
    text = daemon.virsh("nodedev-info", "computer")
    assert re.search(r"^Name: +computer$", text, re.M) and re.search(r"^Active: +yes$", text, re.M)
    both = names(daemon, "--cap", "net,pci")
    assert sorted(both) == sorted(names(daemon, "--cap", "net") + names(daemon, "--cap", "pci"))
    assert names(daemon, "--inactive") == []
    assert names(daemon, "--cap", "system") == ["computer"]


def test_what_is_refused(daemon):
    assert "Node device not found" in daemon.virsh("nodedev-dumpxml", "nope", status=1)
    name = names(daemon)[0]
    for command in ("nodedev-detach", "nodedev-reattach", "nodedev-reset", "nodedev-destroy"):
        assert name in daemon.virsh(command, name, status=1)
        assert "read only" in daemon.virsh(command, name, status=1, readonly=True)


def test_same_as_libvirtd_prints(daemon):
    """Elements and their order of the golden documents, where this host has such a device."""
    golden = os.path.join(os.path.dirname(__file__), "golden", "nodedev", "net_lo_00_00_00_00_0.xml")
    with open(golden, encoding="utf-8") as f:
        expected = f.read()

    def without_features(text):
        return re.sub(r" *<feature name='\w+'/>\n", "", text).strip()
    assert without_features(daemon.virsh("nodedev-dumpxml", "net_lo_00_00_00_00_00_00")) == without_features(expected)


def test_hot_plug(daemon):
    """An interface comes, gets another name and goes: each is told, and seen in the list."""
    interface = f"vt{os.getpid() % 100000}"
    for kind in ("dummy", "ifb"):
        made = subprocess.run(["ip", "link", "add", interface, "type", kind], stderr=subprocess.PIPE, text=True, check=False)
        if not made.returncode:
            break
    else:
        pytest.skip(f"no interface can be made here: {made.stderr.strip()}")
    subprocess.run(["ip", "link", "del", interface], check=True)
    script = """
import libvirt, subprocess, sys, threading
libvirt.virEventRegisterDefaultImpl()
def loop():
    while True:
        libvirt.virEventRunDefaultImpl()
threading.Thread(target=loop, daemon=True).start()
c = libvirt.open(sys.argv[1])
name = sys.argv[2]
seen, done = [], threading.Event()
def life(conn, dev, event, detail, opaque):
    if name in dev.name():
        seen.append((event, dev.name()))
        if len(seen) == 4:
            done.set()
c.nodeDeviceEventRegisterAny(None, libvirt.VIR_NODE_DEVICE_EVENT_ID_LIFECYCLE, life, None)
def ip(*words):
    subprocess.run(["ip", "link", *words], check=True)
ip("add", name, "address", "02:00:00:00:00:07", "type", sys.argv[3])
ip("set", name, "name", name + "b")
ip("del", name + "b")
done.wait(20)
print([(e, n.replace(name, "X").replace("_02_00_00_00_00_07", "")) for e, n in seen])
"""
    try:
        done = subprocess.run([sys.executable, "-c", script, daemon.uri, interface, kind], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=PLAIN, timeout=30 * SLOW,
                              check=False)
    finally:
        subprocess.run(["ip", "link", "del", interface], stderr=subprocess.DEVNULL, check=False)
    assert done.stdout.strip() == "[(0, 'net_X'), (1, 'net_X'), (0, 'net_Xb'), (1, 'net_Xb')]", done.stdout
    assert not [n for n in names(daemon) if interface in n]
