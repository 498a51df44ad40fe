# SPDX-License-Identifier: GPL-2.0-or-later
"""Interfaces of domains on the host: rates (<bandwidth>), as virsh sets them and as the kernel has them. vireod runs in a network namespace of its own; what is said of
definitions is compared with the real libvirtd."""
import json
import os
import re
import subprocess
import sys

import pytest

from limits import SLOW
from network_lab import BUILD, NAT, isolated, lab, needs_root, run, wait_for, whole_lab  # noqa: F401  pylint: disable=unused-import
from test_complete import judge  # noqa: F401  pylint: disable=unused-import
from test_domain import kernel  # noqa: F401  pylint: disable=unused-import

GUEST_TESTS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "guest")
sys.path.insert(0, GUEST_TESTS)
import initramfs  # noqa: E402  pylint: disable=wrong-import-position

MAC = "52:54:00:00:4d:01"
PORTS = "<controller type='pci' index='0' model='pcie-root'/>" + "".join(f"<controller type='pci' index='{n}' model='pcie-root-port'/>" for n in range(1, 9))


def interface(kind, source, more="", mac=MAC):
    return f"<interface type='{kind}'><mac address='{mac}'/>{source}<model type='virtio'/>{more}</interface>"


@pytest.fixture
def domain(lab, kernel, tmp_path):  # noqa: F811
    """domain(devices): defines the domain `t` and starts it; gone at the end."""
    def define(devices, name="t", start=True):
        path = tmp_path / f"{name}.xml"
        path.write_text(f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type><kernel>{kernel}</kernel></os>"
                        f"<features><acpi/></features><devices><serial type='pty'/>{PORTS}{devices}</devices></domain>")
        lab.virsh("define", path)
        names.append(name)
        if start:
            lab.virsh("start", name)
    names = []
    yield define
    for name in names:
        lab.virsh("destroy", name, status=None)
        lab.virsh("undefine", name, status=None)


@pytest.fixture
def bridge(lab):  # noqa: F811
    lab.run("ip", "link", "add", "brt0", "type", "bridge")
    lab.run("ip", "link", "set", "brt0", "up")
    yield "brt0"
    lab.run("ip", "link", "del", "brt0")


def tuned(lab, *words):  # noqa: F811
    """{parameter: value} of domiftune."""
    return {k.strip(): int(v) for k, v in (line.split(":") for line in lab.virsh("domiftune", *words).splitlines() if ":" in line)}


def sent(lab, device):  # noqa: F811
    """Rate and ceiling of what the host sends by a device, in KB/s; None: no limit."""
    found = re.search(r"class htb 1:1 .*?rate (\d+)(\w+) ceil (\d+)(\w+)", lab.run("tc", "class", "show", "dev", device))
    unit = {"bit": 1, "Kbit": 1000, "Mbit": 1000000}
    return found and (round(int(found[1]) * unit[found[2]] / 8000), round(int(found[3]) * unit[found[4]] / 8000))


def received(lab, device):  # noqa: F811
    """Rate of what the host takes from a device, in KB/s, by whichever means the kernel has; None: no limit."""
    police = re.search(r"police .*?rate (\d+)(\w+)", lab.run("tc", "filter", "show", "dev", device, "ingress", status=None))
    if police:
        return round(int(police[1]) * {"bit": 1, "Kbit": 1000, "Mbit": 1000000}[police[2]] / 8000)
    rules = lab.run("nft", "list", "ruleset")
    found = re.search(rf'device "?{device}"? .*?limit rate over (\d+) (k|m)?bytes/second', rules, re.S)
    return found and int(found[1]) * {None: 1, "k": 1024, "m": 1 << 20}[found[2]] // 1000


def nothing_left(lab):  # noqa: F811
    assert "vireo_vnet" not in lab.run("nft", "list", "tables") and "vnet" not in lab.run("ip", "-br", "link")


# ---- rates ----

RATES = "<bandwidth><inbound average='1000' peak='2000' burst='512'/><outbound average='300' burst='128'/></bandwidth>"


@needs_root
def test_rates_from_start_to_end(lab, domain, bridge):  # noqa: F811
    domain(interface("bridge", f"<source bridge='{bridge}'/>", RATES))
    assert sent(lab, "vnet0") == (1000, 2000) and received(lab, "vnet0") == 300
    assert tuned(lab, "t", "vnet0") == {"inbound.average": 1000, "inbound.peak": 2000, "inbound.burst": 512, "inbound.floor": 0, "outbound.average": 300, "outbound.peak": 0,
                                        "outbound.burst": 128}
    lab.virsh("domiftune", "t", MAC, "--inbound", "500", "--live")
    assert sent(lab, "vnet0") == (500, 500) and received(lab, "vnet0") == 300, "one direction alone was spoken of"
    assert tuned(lab, "t", MAC, "--config")["inbound.average"] == 1000
    lab.virsh("domiftune", "t", "vnet0", "--outbound", "0", "--live")
    assert received(lab, "vnet0") is None and "outbound" not in lab.virsh("dumpxml", "t") and "<inbound average='500'/>" in lab.virsh("dumpxml", "t")
    lab.virsh("domiftune", "t", MAC, "--outbound", "700,0,70", "--live", "--config")
    assert received(lab, "vnet0") == 700 and tuned(lab, "t", MAC, "--config")["outbound.average"] == 700
    assert "not a known interface" in lab.virsh("domiftune", "t", "vnet9", status=1)
    lab.daemon.kill()
    lab.daemon.wait()
    lab.start()
    assert tuned(lab, "t", "vnet0")["outbound.average"] == 700 and received(lab, "vnet0") == 700
    lab.virsh("destroy", "t")
    nothing_left(lab)


@needs_root
def test_rates_of_devices_that_come_and_change(lab, domain, bridge, tmp_path):  # noqa: F811
    nic = tmp_path / "nic.xml"
    domain(interface("bridge", f"<source bridge='{bridge}'/>"))
    assert sent(lab, "vnet0") is None and received(lab, "vnet0") is None
    nic.write_text(interface("bridge", f"<source bridge='{bridge}'/>", RATES.replace("1000", "800")))
    lab.virsh("update-device", "t", nic, "--live")
    assert sent(lab, "vnet0") == (800, 2000) and received(lab, "vnet0") == 300
    nic.write_text(interface("bridge", f"<source bridge='{bridge}'/>"))
    lab.virsh("update-device", "t", nic, "--live")
    assert sent(lab, "vnet0") is None and received(lab, "vnet0") is None and "bandwidth" not in lab.virsh("dumpxml", "t")
    nic.write_text(interface("bridge", f"<source bridge='{bridge}'/>", RATES, "52:54:00:00:4d:02"))
    lab.virsh("attach-device", "t", nic, "--live")
    assert sent(lab, "vnet1") == (1000, 2000) and received(lab, "vnet1") == 300
    nic.write_text(interface("bridge", f"<source bridge='{bridge}'/>", "<bandwidth><inbound average='10' floor='5'/></bandwidth>", "52:54:00:00:4d:03"))
    assert "floor" in lab.virsh("attach-device", "t", nic, "--live", status=1)
    assert "vnet2" not in lab.run("ip", "-br", "link") and "4d:03" not in lab.virsh("dumpxml", "t")


@needs_root
def test_to_another_network_while_the_machine_runs(lab, domain, bridge, tmp_path):  # noqa: F811
    """As virt-manager and Cockpit do it when somebody chooses another network for a card; what is shown is where the tap is."""
    nic = tmp_path / "nic.xml"

    def plug(kind, source, more="", status=0):
        nic.write_text(interface(kind, source, more))
        said = lab.virsh("update-device", "t", nic, "--live", status=status)
        text = lab.virsh("dumpxml", "t")
        master = re.search(r"master (\S+)", lab.run("ip", "link", "show", "vnet0")).group(1)
        assert f"bridge='{master}'/>" in text and "<target dev='vnet0'/>" in text
        return said, master, re.search("<interface .*?</interface>", text, re.S).group()

    lab.define(NAT)
    lab.define(isolated("iso1", "vri1", 3, "<portgroup name='slow' default='yes'><bandwidth><inbound average='1000'/></bandwidth></portgroup>"))
    domain(interface("network", "<source network='nat1'/>"))
    assert plug("network", "<source network='iso1'/>")[1] == "vri1" and sent(lab, "vnet0") == (1000, 1000)
    lab.daemon.kill()
    lab.daemon.wait()
    lab.start()
    _, master, text = plug("bridge", f"<source bridge='{bridge}'/>")
    assert master == bridge and "<interface type='bridge'>" in text and "iso1" not in text and sent(lab, "vnet0") is None
    said, master, text = plug("network", "<source network='none'/>", status=1)
    assert "none" in said and master == bridge and "<interface type='bridge'>" in text
    said, master, _ = plug("bridge", "<source bridge='nowhere'/>", status=1)
    assert "there is no bridge 'nowhere'" in said and master == bridge
    said, master, _ = plug("network", "<source network='nat1'/>", "<bandwidth><inbound average='10' floor='5'/></bandwidth>", status=1)
    assert "floor" in said and master == bridge
    assert "cannot change" in plug("user", "", status=1)[0]
    assert plug("network", "<source network='nat1'/>")[1] == "vrn1"
    assert "nat1" in lab.virsh("dumpxml", "t", "--inactive")
    lab.virsh("destroy", "t")
    nothing_left(lab)


@needs_root
def test_rates_of_a_portgroup(lab, domain):  # noqa: F811
    group = f"<portgroup name='slow' default='yes'>{RATES}</portgroup><portgroup name='fast'><bandwidth><inbound average='90000'/></bandwidth></portgroup>"
    lab.define(NAT.replace("</network>", f"{group}</network>"))
    domain(interface("network", "<source network='nat1'/>"))
    assert sent(lab, "vnet0") == (1000, 2000) and received(lab, "vnet0") == 300 and "average='1000'" in lab.virsh("dumpxml", "t")
    assert "bandwidth" not in lab.virsh("dumpxml", "t", "--inactive")
    domain(interface("network", "<source network='nat1' portgroup='fast'/>", mac="52:54:00:00:4d:05"), "u")
    assert sent(lab, "vnet1") == (90000, 90000) and received(lab, "vnet1") is None
    domain(interface("network", "<source network='nat1'/>", "<bandwidth><outbound average='50'/></bandwidth>", mac="52:54:00:00:4d:06"), "v")
    assert sent(lab, "vnet2") is None and received(lab, "vnet2") == 50, "an interface's own rates come first"


@needs_root
def test_rates_in_definitions_are_libvirtds(lab, domain, judge, tmp_path):  # noqa: F811
    domain(interface("bridge", "<source bridge='br0'/>", RATES), start=False)
    text = re.sub("<kernel>.*</kernel>", "", (tmp_path / "t.xml").read_text())
    (tmp_path / "judge.xml").write_text(text)
    theirs = judge("define", str(tmp_path / "judge.xml"))
    assert theirs.returncode == 0, theirs.stderr

    def both(*words):
        ours, libvirtd = lab.virsh(*words, status=None), judge(*words)
        assert ours.strip() == (libvirtd.stdout + libvirtd.stderr).strip(), " ".join(words)
    for change in (["--inbound", "1"], ["--inbound", "5,6,7"], ["--outbound", "8,9,10"], ["--inbound", "0"], ["--outbound", "0"], ["--inbound", "1,2,3", "--outbound", "4"],
                   ["--inbound", "0", "--outbound", "0"], ["--inbound", "100,1,2,50"], ["--inbound", "0,0,0,20"], ["--inbound", "nothing"]):
        both("domiftune", "t", MAC, *change, "--config")
        both("domiftune", "t", MAC, "--config")
        ours, libvirtd = (re.findall("<bandwidth>.*</bandwidth>", t, re.S) for t in (lab.virsh("dumpxml", "t"), judge("dumpxml", "t").stdout))
        assert ours == [t for t in libvirtd if "bound" in t], change
    both("domiftune", "t", "nothing", "--config")
    both("domiftune", "t", "52:54:00:00:4d:99", "--config")
    for wrong in ("<inbound peak='5'/>", "<outbound peak='5'/>", "<outbound average='5' floor='1'/>"):
        path = tmp_path / "wrong.xml"
        path.write_text(re.sub("<bandwidth>.*</bandwidth>", f"<bandwidth>{wrong}</bandwidth>", text))
        theirs = judge("define", str(path))
        ours = lab.virsh("define", path, status=None)
        assert ("error" in ours) == (theirs.returncode != 0), f"{wrong}: {ours}: {theirs.stderr}"


# ---- frames in sockets ----

SOCKETS = {"mcast": "<source address='230.0.0.1' port='5558'/>", "server": "<source address='127.0.0.1' port='5701'/>", "client": "<source address='127.0.0.1' port='5701'/>",
           "udp": "<source address='127.0.0.1' port='5702'><local address='127.0.0.1' port='5703'/></source>"}


def netdevs(name):
    """The -netdev arguments of the process of this machine."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", encoding="utf-8") as f:
                words = f.read().split("\0")
        except OSError:
            continue
        if any(word == name or word.startswith(f"guest={name}") for word in words):
            return [json.loads(words[i + 1]) for i, word in enumerate(words) if word == "-netdev"]
    return None


@needs_root
def test_command_line_of_sockets_is_libvirts(lab, domain, judge, tmp_path):  # noqa: F811
    nics = "".join(interface(kind, source, mac=f"52:54:00:00:4d:1{n}") for n, (kind, source) in enumerate(SOCKETS.items()) if kind != "mcast")
    domain(nics, "sock-ours")
    path = tmp_path / "judge.xml"
    path.write_text(re.sub("<kernel>.*</kernel>", "", (tmp_path / "sock-ours.xml").read_text()).replace("sock-ours", "sock-theirs"))
    theirs = judge("create", str(path), "--paused")
    assert theirs.returncode == 0, theirs.stderr
    try:
        assert netdevs("sock-ours") == netdevs("sock-theirs") != []
    finally:
        judge("destroy", "sock-theirs")


@needs_root
def test_sockets_between_machines(lab, domain, judge, tmp_path):  # noqa: F811
    lab.run("ip", "route", "add", "224.0.0.0/4", "dev", "lo", status=None)
    domain(interface("server", SOCKETS["server"]))
    listening = lab.run("ss", "-ltn")
    assert "127.0.0.1:5701" in listening, listening
    domain("".join(interface(k, SOCKETS[k], mac=f"52:54:00:00:4d:1{n}") for n, k in enumerate(("client", "udp", "mcast"))), "u")
    assert "127.0.0.1:5701" in lab.run("ss", "-tn"), "the client is not connected to the server"
    assert {"127.0.0.1:5703", "230.0.0.1:5558"} <= set(lab.run("ss", "-lun", "-a").split()) | set(lab.run("ss", "-un", "-a").split())
    rows = [line.split() for line in lab.virsh("domiflist", "u").splitlines()[2:] if line.strip()]
    assert [row[:3] for row in rows] == [["-", "client", "-"], ["-", "udp", "-"], ["-", "mcast", "-"]]
    for kind in SOCKETS:
        path = tmp_path / "bad.xml"
        path.write_text(f"<domain type='qemu'><name>bad</name><memory unit='MiB'>32</memory><os><type arch='x86_64' machine='q35'>hvm</type></os><devices>"
                        f"{interface(kind, '''<source port='5'/>''')}</devices></domain>")
        ours, theirs = lab.virsh("define", path, status=None), judge("define", str(path))
        assert ("error" in ours) == (theirs.returncode != 0), f"{kind}: {ours}: {theirs.stderr}"


# ---- macvtap, where the kernel has none (with one: test_interfaces_kernel.py), and networks over pools ----

@needs_root
def test_direct_that_cannot_be(lab, domain):  # noqa: F811
    lab.run("ip", "link", "add", "brt1", "type", "bridge")
    domain(interface("direct", "<source dev='nowhere0' mode='bridge'/>"), start=False)
    assert "no network device 'nowhere0'" in lab.virsh("start", "t", status=1)
    domain(interface("direct", "<source dev='brt1'/>"), "u", start=False)
    said = lab.virsh("start", "u", status=None)
    assert "started" in said or "the kernel has no macvtap" in said
    domain(interface("direct", "<source dev='brt1'/>", "<mtu size='1400'/>", "52:54:00:00:4d:0a"), "v", start=False)
    assert "setting MTU on interface type direct is not supported yet" in lab.virsh("start", "v", status=1)
    lab.virsh("destroy", "u", status=None)
    assert "macvtap" not in lab.run("ip", "-br", "link")
    lab.run("ip", "link", "del", "brt1")


SCRIPT = """ip addr add 10.9.0.2/24 dev eth0; ip link set eth0 up
for i in 1 2 3 4 5 6 7 8 9; do ping -c 1 -W 1 10.9.0.1 && echo "VT reached" && break; done
ip link show eth0 | grep -o "link/ether [0-9a-f:]*"
echo "VT asked"; nc -l -p 7 > /tmp/in; echo "VT got $(wc -c < /tmp/in)"; sleep 600
"""


@needs_root
def test_frames_of_a_real_guest_go_by_macvtap(lab, tmp_path):  # noqa: F811
    """Both ways, small packets and large ones that the host's kernel hands over uncut."""
    lab.run("ip", "link", "add", "cable0", "type", "veth", "peer", "name", "there0")
    other = lab.guest(None)
    lab.run("ip", "link", "set", "there0", "netns", str(other.pid))
    other.run("ip", "addr", "add", "10.9.0.1/24", "dev", "there0")
    other.run("ip", "link", "set", "there0", "up")
    if lab.run("ip", "link", "add", "link", "cable0", "name", "try0", "type", "macvtap", status=None):
        lab.run("ip", "link", "del", "cable0")
        pytest.skip("the kernel has no macvtap")
    lab.run("ip", "link", "del", "try0")
    where = os.environ.get("VIREO_GUEST", os.path.join(os.path.abspath(BUILD), "guest"))
    if not os.path.exists(os.path.join(where, "cloud", "vmlinuz")):
        os.makedirs(where, exist_ok=True)
        subprocess.run(["flock", os.path.join(where, ".lock"), os.path.join(GUEST_TESTS, "make_kernels.sh"), where], check=True)
    (tmp_path / "initrd").write_bytes(initramfs.build(where, "cloud", ("virtio_pci", "virtio_net"), SCRIPT))
    path, out = tmp_path / "g.xml", tmp_path / "out"
    path.write_text(f"<domain type='qemu'><name>g</name><memory unit='MiB'>192</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type><kernel>{where}/cloud/vmlinuz</kernel>"
                    f"<initrd>{tmp_path}/initrd</initrd><cmdline>console=ttyS0 panic=-1 quiet</cmdline></os><features><acpi/><apic/></features><cpu mode='maximum'/><devices>"
                    f"{interface('direct', '''<source dev='cable0' mode='bridge'/>''')}<serial type='file'><source path='{out}'/></serial></devices></domain>")
    lab.virsh("create", path)
    try:
        wait_for("the guest reaches the other end", lambda: "VT asked" in out.read_text(errors="replace"), 90)
        assert "VT reached" in out.read_text(errors="replace") and f"link/ether {MAC}" in out.read_text(errors="replace")
        # "asked" comes before the guest listens
        other.run("sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do head -c 3000000 /dev/zero | busybox nc -w 20 10.9.0.2 7 && exit; sleep 1; done; exit 1", timeout=90 * SLOW)
        wait_for("the guest has all of it", lambda: "VT got 3000000" in out.read_text(errors="replace"), 30)
        counts = dict(re.findall(r"(\wx_bytes) (\d+)", lab.virsh("domifstat", "g", "macvtap0")))
        assert int(counts["rx_bytes"]) > 3000000 > int(counts["tx_bytes"]) > 0, "received is what the guest received"
    finally:
        lab.virsh("destroy", "g", status=None)
        lab.run("ip", "link", "del", "cable0")


POOLS = ["<forward mode='bridge' dev='eth0'/><bridge name='br0'/>", "<forward mode='vepa' dev='eth0'/><bridge name='br0'/>", "<forward mode='bridge'/>", "<forward mode='passthrough'/>",
         "<forward mode='private'><interface dev='eth0'/><interface dev='eth0'/></forward>", "<forward mode='private' dev='eth1'><interface dev='eth0'/></forward>",
         "<forward mode='private' dev='eth1'/><bandwidth><inbound average='5'/></bandwidth>", "<forward mode='bridge'/><bridge name='br0' stp='on'/>",
         "<forward mode='private' dev='eth0'/><ip address='1.2.3.4' prefix='24'/>", "<forward mode='vepa'><interface dev='eth0'/><interface dev='eth1'/></forward>",
         "<forward mode='bridge'/><bridge name='br0'/>", "<forward mode='bridge' dev='eth0'/><portgroup name='p' default='yes'><bandwidth><outbound average='9'/></bandwidth></portgroup>"]


def words_of(said):
    return re.sub("^(XML error|unsupported configuration): ", "", said.split("error: ")[-1].strip())


@needs_root
def test_networks_over_the_hosts_devices_are_libvirtds(lab, judge, tmp_path):  # noqa: F811
    path = tmp_path / "net.xml"
    for text in POOLS:
        path.write_text(f"<network><name>x</name><uuid>6b1c9f0e-5d4e-4f4a-9d5f-0d7a3c2b1a77</uuid>{text}</network>")
        theirs, ours = judge("net-define", str(path)), lab.virsh("net-define", path, status=None)
        assert words_of(ours) == words_of(theirs.stdout + theirs.stderr), text
        if theirs.returncode == 0:
            assert judge("net-start", "x").returncode == 0
            lab.virsh("net-start", "x")
            assert lab.virsh("net-dumpxml", "x") == judge("net-dumpxml", "x").stdout
            for words in ("net-destroy", "x"), ("net-undefine", "x"):
                judge(*words)
                lab.virsh(*words)


@needs_root
def test_portgroup_that_asks_for_what_is_not_there(lab, domain):  # noqa: F811
    lab.define(NAT.replace("</network>", "<portgroup name='tagged'><vlan><tag id='42'/></vlan></portgroup></network>"))
    domain(interface("network", "<source network='nat1' portgroup='tagged'/>"), start=False)
    assert "requesting a vlan tag" in lab.virsh("start", "t", status=1)
    assert "connections" not in lab.virsh("net-dumpxml", "nat1")


if __name__ == "__main__":
    raise SystemExit(pytest.main([os.path.abspath(__file__)]))
