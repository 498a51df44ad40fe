# SPDX-License-Identifier: GPL-2.0-or-later
"""Virtual networks as an administrator sees them: Debian's virsh on vireod, in a network namespace of its own.

Root alone can make bridges: without root these tests are skipped, but for the user mode test at the end.
"""
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

import pytest

from limits import SLOW
from listener import Listener
from network_lab import BUILD, DNSMASQ, ENV, GOLDEN, NAT, isolated, lab, needs_root, outside_of, run, wait_for, whole_lab  # pylint: disable=unused-import


# ---- documents ----

@pytest.mark.parametrize("kind", ["network", "interface", "networkport"])
def test_documents_of_libvirt_survive_byte_for_byte(kind):
    """Printed by a real libvirtd; read and written here they are the same."""
    files = sorted(glob.glob(f"{GOLDEN}/{kind}/*.xml"))
    assert files
    run(f"{BUILD}/src/manage/rpc/doc_test", "same", kind, *files)


@needs_root
def test_a_defined_network_is_printed_as_libvirt_prints_it(lab):
    default = lab.virsh("net-dumpxml", "default")
    lab.virsh("net-undefine", "default")
    for path in sorted(glob.glob(f"{GOLDEN}/network/*.xml")):
        with open(path, encoding="utf-8") as f:
            xml = f.read()
        if path.endswith("/pf2.xml"):
            assert "Unsupported network-wide <bandwidth>" in lab.refuse("net-define", xml), "libvirtd refuses it too: its test driver has printed it"
            continue
        name = lab.define(xml, start=False)
        assert lab.virsh("net-dumpxml", name) == xml + "\n", path
        with open(f"{lab.root}/etc/vireo/qemu/networks/{name}.xml", encoding="utf-8") as f:
            assert f.read() == xml
        lab.virsh("net-undefine", name)
    lab.define(default, start=False)


# ---- virsh commands and their columns ----

@needs_root
def test_default_network_is_there_from_the_beginning(lab):
    assert re.search(r"^ default +inactive +no +yes$", lab.virsh("net-list", "--all"), re.M)
    assert "<range start='192.168.122.2' end='192.168.122.254'/>" in lab.virsh("net-dumpxml", "default")
    lab.virsh("net-start", "default")
    assert "192.168.122.1/24" in lab.run("ip", "-br", "addr", "show", "virbr0")
    assert lab.virsh("net-info", "default").splitlines()[2:] == ["Active:         yes", "Persistent:     yes", "Autostart:      no", "Bridge:         virbr0", ""]


@needs_root
def test_columns_and_filters(lab):
    lab.define(NAT)
    lab.define(isolated("off", "vrn2", 2), start=False)
    lines = lab.virsh("net-list", "--all").splitlines()
    assert lines[0].split() == ["Name", "State", "Autostart", "Persistent"] and set(lines[1]) == {"-"}
    assert [line.split() for line in lines[2:5]] == [["default", "inactive", "no", "yes"], ["nat1", "active", "no", "yes"], ["off", "inactive", "no", "yes"]]
    assert lab.virsh("net-list", "--name").split() == ["nat1"]
    assert lab.virsh("net-list", "--inactive", "--name").split() == ["default", "off"]
    lab.virsh("net-autostart", "off")
    assert lab.virsh("net-list", "--all", "--autostart", "--name").split() == ["off"]
    assert os.path.islink(f"{lab.root}/etc/vireo/qemu/networks/autostart/off.xml")
    lab.virsh("net-autostart", "off", "--disable")
    assert lab.virsh("net-list", "--all", "--autostart", "--name").split() == []
    assert lab.virsh("net-uuid", "nat1").strip() == "6b1c9f0e-5d4e-4f4a-9d5f-0d7a3c2b1a01"
    assert lab.virsh("net-name", "6b1c9f0e-5d4e-4f4a-9d5f-0d7a3c2b1a01").strip() == "nat1"
    assert "Network not found: no network with matching name 'nope'" in lab.virsh("net-info", "nope", status=1)
    assert lab.virsh("net-port-list", "nat1").split()[0] == "UUID"
    live = lab.virsh("net-dumpxml", "nat1")
    assert "<port start='1024' end='65535'/>" in live and "1024" not in lab.virsh("net-dumpxml", "nat1", "--inactive")


@needs_root
def test_transient_network(lab):
    path = f"{lab.root}/t.xml"
    with open(path, "w", encoding="utf-8") as f:
        f.write(isolated("brief", "vrn3", 3))
    assert lab.virsh("net-create", path).strip() == f"Network brief created from {path}"
    assert re.search(r"^ brief +active +no +no$", lab.virsh("net-list"), re.M)
    assert "cannot set autostart for transient network" in lab.virsh("net-autostart", "brief", status=1)
    assert "can't undefine transient network" in lab.virsh("net-undefine", "brief", status=1)
    assert "network is already active" in lab.virsh("net-start", "brief", status=1)
    lab.virsh("net-destroy", "brief")
    assert "brief" not in lab.virsh("net-list", "--all")
    assert lab.left("brief", "vrn3") == []


@needs_root
def test_edit_changes_the_definition_and_keeps_what_runs(lab):
    lab.define(NAT)
    editor = f"{lab.root}/editor.sh"
    with open(editor, "w", encoding="ascii") as f:
        f.write("#!/bin/sh\nsed -i s/10.61.1.120/10.61.1.140/ $1\n")
    os.chmod(editor, 0o755)
    assert "Network nat1 XML configuration edited" in lab.virsh("net-edit", "nat1", env=dict(ENV, EDITOR=editor))
    assert "10.61.1.140" in lab.virsh("net-dumpxml", "nat1", "--inactive")
    assert "10.61.1.120" in lab.virsh("net-dumpxml", "nat1")


@needs_root
def test_events(lab):
    with Listener("virsh", "-c", lab.uri, "net-event", "--event", "lifecycle", "--loop") as heard:
        mark = isolated("mark", "vrn5", 5)
        heard.until("network mark: ", lambda: (lab.define(mark, start=False), lab.virsh("net-undefine", "mark")))
        lab.define(isolated("ev", "vrn4", 4))
        lab.virsh("net-destroy", "ev")
        lab.virsh("net-undefine", "ev")
        heard.until("network ev: Undefined")
        assert re.findall(r"network ev: (\w+)", heard.text) == ["Defined", "Started", "Stopped", "Undefined"]


@needs_root
def test_a_read_only_connection_changes_nothing(lab):
    lab.define(isolated("ro", "vrn5", 5), start=False)
    for words in (["net-start", "ro"], ["net-undefine", "ro"], ["net-autostart", "ro"], ["net-update", "ro", "add", "dns-txt", "<txt name='a' value='b'/>", "--config"]):
        assert "read only" in lab.virsh(*words, status=1, readonly=True), words
    assert re.search(r"^ ro +inactive +no +yes$", lab.virsh("net-list", "--all", readonly=True), re.M)


# ---- what goes wrong ----

@needs_root
def test_dnsmasq_that_does_not_start(lab):
    lab.define(f"<network {DNSMASQ}><name>bad</name><forward mode='nat'/><bridge name='vrn10'/>"
               "<ip address='10.61.10.1' prefix='24'/><dnsmasq:options><dnsmasq:option value='foo=bar'/></dnsmasq:options></network>", start=False)
    said = lab.virsh("net-start", "bad", status=1)
    assert "dnsmasq" in said and "bad option" in said and "bad.conf" in said
    assert lab.left("bad", "vrn10") == []
    assert re.search(r"^ bad +inactive", lab.virsh("net-list", "--all"), re.M)


@needs_root
def test_overlap_with_a_route_of_the_host(lab):
    outside_of(lab)
    lab.run("ip", "route", "add", "10.61.0.0/16", "via", "203.0.113.2")
    lab.define(NAT, start=False)
    said = lab.virsh("net-start", "nat1", status=1)
    assert "10.61.1.0/24" in said and "10.61.0.0/16" in said and "net-edit nat1" in said and "for example 192.168.122.0/24" in said
    assert lab.left("nat1", "vrn1") == []
    lab.run("ip", "route", "del", "10.61.0.0/16")
    lab.virsh("net-start", "nat1")


@needs_root
def test_foreign_device_of_the_bridges_name(lab):
    lab.run("ip", "link", "add", "vrn1", "type", "bridge")
    lab.define(NAT, start=False)
    assert "device 'vrn1' already" in lab.virsh("net-start", "nat1", status=1)
    assert "vrn1" in lab.run("ip", "-br", "link"), "what is not ours is left alone"
    lab.run("ip", "link", "del", "vrn1")


@needs_root
def test_duplicates_and_nonsense_are_named(lab):
    lab.define(NAT, start=False)
    one = isolated("two", "vrn1", 8)
    assert "bridge name 'vrn1' already in use by network 'nat1'" in lab.refuse("net-define", one)
    assert "already exists with uuid" in lab.refuse("net-define", one.replace(">two<", ">nat1<"))
    assert "already defined with uuid" in lab.refuse("net-define", NAT.replace("<name>nat1", "<name>copy"))
    assert "is that of network 'nat1'" in lab.refuse("net-define", one.replace("vrn1", "vrn2").replace("<ip", "<mac address='52:54:00:11:22:33'/><ip", 1))
    assert "<blah>" in lab.refuse("net-define", "<network><name>x</name>\n<blah/></network>")
    assert "not entirely within" in lab.refuse("net-define", isolated("x", "vrx", 11).replace("11.120", "12.120"))
    lab.define(isolated("ports", "vrn12", 12, "<port isolated='yes'/>"), start=False)
    assert "<port isolated='yes'>" in lab.virsh("net-start", "ports", status=1)
    lab.virsh("net-undefine", "ports")
    assert "not a device name" in lab.refuse("net-define", NAT.replace("<forward mode='nat'/>", "<forward mode='nat' dev='x\" accept; '/>"))
    lab.define("<network><name>hostdev</name><forward mode='hostdev'><interface dev='eth9'/></forward></network>", start=False)
    assert "hostdev" in lab.virsh("net-start", "hostdev", status=1)
    assert sorted(lab.virsh("net-list", "--all", "--name").split()) == ["default", "hostdev", "nat1"]


@needs_root
def test_nothing_is_left_after_destroy(lab):
    lab.define(NAT)
    server = lab.dnsmasq("nat1")
    assert server and run("ps", "-o", "user=", "-p", server).strip() != "root"
    lab.virsh("net-destroy", "nat1")
    assert lab.left("nat1", "vrn1") == []
    assert not os.path.exists(f"/proc/{server}/exe"), "dnsmasq has ended"
    lab.virsh("net-undefine", "nat1")
    assert glob.glob(f"{lab.root}/**/nat1.*", recursive=True) == []


# ---- the host's devices, filters ----

@needs_root
def test_host_devices_and_filters(lab):
    lab.run("ip", "link", "add", "hostbr", "type", "bridge")
    lab.run("ip", "link", "add", "port0", "type", "veth", "peer", "name", "port1")
    lab.run("ip", "link", "set", "port0", "master", "hostbr")
    table = lab.virsh("iface-list", "--all").splitlines()
    assert table[0].split() == ["Name", "State", "MAC", "Address"]
    names = [line.split()[0] for line in table[2:] if line]
    assert "hostbr" in names and "port1" in names and "lo" in names and "port0" not in names
    xml = lab.virsh("iface-dumpxml", "hostbr")
    assert xml.startswith("<interface type='bridge' name='hostbr'>\n  <mtu size='1500'/>\n  <bridge stp='off' delay='") and "<interface type='ethernet' name='port0'>" in xml
    mac = lab.virsh("iface-mac", "port1").strip()
    assert lab.virsh("iface-name", mac).strip() == "port1"
    assert "couldn't find interface named 'nope'" in lab.virsh("iface-dumpxml", "nope", status=1)
    assert "read only here" in lab.virsh("iface-destroy", "hostbr", status=1)
    assert "clean-traffic" in lab.virsh("nwfilter-list")
    assert "no nwfilter with matching name 'nosuch'" in lab.virsh("nwfilter-dumpxml", "nosuch", status=1)
    lab.run("ip", "link", "del", "hostbr")
    lab.run("ip", "link", "del", "port0")


# ---- without root ----

def test_user_mode_without_privileges():
    """One who is not root has `default` too: active, without a bridge."""
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("needs setpriv to give up root")
    become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    root = tempfile.mkdtemp(prefix="vireo-user-")
    if become:
        os.chown(root, 65534, 65534)
    uri = f"qemu+unix:///session?socket={root}/run/vireo/libvirt-sock"
    with open(f"{root}/log", "wb") as log:
        daemon = subprocess.Popen(["unshare", "-n", *become, f"{BUILD}/vireod", "--root", root] if become else [f"{BUILD}/vireod", "--root", root],
                                  stdout=log, stderr=log, env=dict(ENV, HOME=root), stdin=subprocess.DEVNULL)

    def virsh(*words, status=0):
        return run(*become, "virsh", "-c", uri, *words, status=status, env=dict(ENV, HOME=root))
    try:
        wait_for("vireod answers", lambda: virsh("uri", status=None).startswith("qemu"))
        assert re.search(r"^ default +active +yes +yes$", virsh("net-list"), re.M), virsh("net-list", "--all")
        virsh("net-destroy", "default")
        virsh("net-start", "default")
        assert glob.glob(f"{root}/run/vireo/network/*.pid") == []
    finally:
        daemon.terminate()
        daemon.wait(20 * SLOW)
        shutil.rmtree(root)


if __name__ == "__main__":
    sys.exit(pytest.main(["-q", __file__]))
