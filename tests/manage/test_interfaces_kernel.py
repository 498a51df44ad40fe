# SPDX-License-Identifier: GPL-2.0-or-later
"""Interfaces that need what the host's kernel may lack: macvtap, and tc's police. vireod, virsh and machines in a Debian guest, whose network cards eth0 and eth1 are
ends of virtual cables; the other ends are peer0 and peer1. One boot for all tests. The judges are ip and tc."""
import re

import pytest

from storage_guest import storage_guest

MODULES = ("virtio_pci", "virtio_blk", "ext4", "crc32c_generic", "veth", "bridge", "macvtap", "tun", "sch_htb", "sch_ingress", "cls_u32", "act_police")
MAC = {n: f"52:54:00:00:4e:0{n}" for n in range(1, 6)}
RATES = "<bandwidth><inbound average='1000' peak='2000' burst='512'/><outbound average='300' burst='128'/></bandwidth>"
SETUP = """for n in 0 1; do ip link add eth$n type veth peer name peer$n; ip link set peer$n up; done; ip addr add 10.9.0.1/24 dev peer0
mkdir -p /root/x; ip -br link > /root/before"""
PORTS = "<controller type='pci' index='0' model='pcie-root'/>" + "".join(f"<controller type='pci' index='{n}' model='pcie-root-port'/>" for n in range(1, 7))


@pytest.fixture(scope="module")
def whole_guest():
    with storage_guest((), {}, MODULES) as machine:
        machine.run(SETUP)
        yield machine


@pytest.fixture
def guest(whole_guest):
    """Whatever a test did: no domain and no network is left, and no device."""
    yield whole_guest
    whole_guest.run("for d in $(virsh -q list --name); do virsh -q destroy $d; done; for d in $(virsh -q list --all --name); do virsh -q undefine $d; done\n"
                    "for n in $(virsh -q net-list --name); do virsh -q net-destroy $n; done; for n in $(virsh -q net-list --all --name); do virsh -q net-undefine $n; done", None)
    left = whole_guest.run("ip -br link")
    assert "macvtap" not in left and "vnet" not in left, left


def nic(kind, source, more="", mac=MAC[1]):
    return f"<interface type='{kind}'><mac address='{mac}'/>{source}<model type='virtio'/>{more}</interface>"


def define(guest, name, devices, more=""):
    text = (f"<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>{name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu><os><type arch='x86_64' "
            f"machine='q35'>hvm</type></os><devices><emulator>/usr/bin/vireo-vmm</emulator>{PORTS}{devices}</devices>{more}</domain>")
    guest.run(f"cat > /root/x/{name}.xml <<'XML'\n{text}\nXML\nvirsh -q define /root/x/{name}.xml")


def start(guest, name, devices, more=""):
    define(guest, name, devices, more)
    guest.run(f"virsh -q start {name}")


def link(guest, device):
    return guest.run(f"ip -d -o link show {device}")


def address(guest, device):
    return re.search(r"link/ether (\S+)", link(guest, device))[1]


def restart(guest, kill="kill -9 $(pidof vireod)", killed="vireod"):
    guest.run(f"{kill}; while pidof {killed}; do sleep 0.02; done; rm -f /srv/run/vireo/libvirt-sock; (/srv/vireod --root /srv > /tmp/vireod.log 2>&1 &)\n"
              "while ! virsh -q uri; do sleep 0.05; done")


def test_direct(guest):
    start(guest, "a", nic("direct", "<source dev='eth0' mode='bridge'/>"))
    shown = link(guest, "macvtap0")
    assert "macvtap mode bridge" in shown and f"link/ether {MAC[1]}" in shown and re.search("<[^>]*UP[,>]", shown) and "eth0" in shown
    assert re.search("<[^>]*UP[,>]", link(guest, "eth0")), "the device below was not switched on"
    index = shown.split(":")[0]
    assert f"/dev/tap{index}" in guest.run("ls -l /proc/$(pidof vireo-vmm)/fd"), "the machine has no descriptor of the macvtap"
    assert guest.virsh("domiflist a").split() == ["macvtap0", "direct", "eth0", "virtio", MAC[1]]
    assert "macvtap0 up" in guest.virsh("domif-getlink a macvtap0")
    text = guest.virsh("dumpxml a")
    assert "<source dev='eth0' mode='bridge'/>" in text and "<target dev='macvtap0'/>" in text and "macvtap0" not in guest.virsh("dumpxml a --inactive")
    guest.run("for i in 1 2 3; do echo > /dev/udp/10.9.0.77/9; done; until [ $(cat /sys/class/net/macvtap0/statistics/rx_packets) -gt 0 ]; do sleep 0.05; done")
    numbers = dict(re.findall(r"(\wx_\w+) (\d+)", guest.virsh("domifstat a macvtap0")))
    assert int(numbers["rx_packets"]) > 0, "what came by the cable is what the guest received"
    assert re.search(r"net\.0\.rx\.pkts=[1-9]", guest.virsh("domstats a --interface"))
    guest.virsh("domif-setlink a macvtap0 down")
    assert "down" in guest.virsh("domif-getlink a macvtap0")
    guest.virsh("destroy a")
    guest.run("ip link show macvtap0", 1)


def test_modes_and_names(guest):
    start(guest, "a", nic("direct", "<source dev='eth0' mode='private'/>") + nic("direct", "<source dev='eth1'/>", "<target dev='mine0'/>", MAC[2]))
    assert "macvtap mode private" in link(guest, "macvtap0") and "macvtap mode vepa" in link(guest, "mine0")
    guest.run(f"cat > /root/x/nic.xml <<'XML'\n{nic('direct', '''<source dev='eth0' mode='private'/>''', RATES, MAC[3])}\nXML")
    guest.virsh("attach-device a /root/x/nic.xml --config")
    assert guest.virsh("domiflist a").count("direct") == 2
    guest.virsh("attach-device a /root/x/nic.xml --live")
    assert guest.virsh("domiflist a").count("direct") == 3 and f"link/ether {MAC[3]}" in link(guest, "macvtap1") and "rate 8Mbit" in guest.run("tc filter show dev macvtap1 ingress")
    guest.run(f"sed -e 's/eth0/eth9/; s/{MAC[3]}/{MAC[4]}/' /root/x/nic.xml > /root/x/no.xml")
    assert "eth9" in guest.virsh("attach-device a /root/x/no.xml --live", status=1)
    assert "macvtap2" not in guest.run("ip -br link") and MAC[4] not in guest.virsh("dumpxml a")
    guest.virsh("destroy a")
    guest.run("ip link show mine0", 1)


def test_passthrough_takes_the_address_and_gives_it_back(guest):
    own = address(guest, "eth1")
    start(guest, "a", nic("direct", "<source dev='eth1' mode='passthrough'/>"))
    assert "macvtap mode passthru" in link(guest, "macvtap0") and address(guest, "eth1") == address(guest, "macvtap0") == MAC[1]
    define(guest, "b", nic("direct", "<source dev='eth1' mode='passthrough'/>", mac=MAC[2]))
    assert "eth1" in guest.virsh("start b", status=1)
    assert address(guest, "eth1") == MAC[1] and "macvtap1" not in guest.run("ip -br link")
    guest.virsh("destroy a")
    assert address(guest, "eth1") == own


def test_what_fails_leaves_nothing(guest):
    own = address(guest, "eth1")
    define(guest, "a", nic("direct", "<source dev='eth9' mode='bridge'/>"))
    assert "no network device 'eth9'" in guest.virsh("start a", status=1)
    define(guest, "b", nic("direct", "<source dev='eth0' mode='bridge'/>") + nic("direct", "<source dev='lo' mode='bridge'/>", mac=MAC[2]))
    assert "'lo'" in guest.virsh("start b", status=1)
    assert "macvtap" not in guest.run("ip -br link")
    define(guest, "c", nic("direct", "<source dev='eth1' mode='passthrough'/>"), "<qemu:commandline><qemu:arg value='-no-such-option'/></qemu:commandline>")
    assert "no-such-option" in guest.virsh("start c", status=1)
    assert "macvtap" not in guest.run("ip -br link") and address(guest, "eth1") == own
    guest.run("modprobe -r macvtap 2>/dev/null", None)


def test_rates(guest):
    guest.run("ip link add br0 type bridge; ip link set br0 up")
    start(guest, "a", nic("direct", "<source dev='eth0' mode='bridge'/>", RATES) + nic("bridge", "<source bridge='br0'/>", RATES, MAC[2]))
    for device, sent, taken in ("macvtap0", "2400Kbit ceil 2400Kbit", "8Mbit"), ("vnet0", "8Mbit ceil 16Mbit", "2400Kbit"):
        assert f"rate {sent}" in guest.run(f"tc class show dev {device}"), device
        assert f"rate {taken}" in guest.run(f"tc filter show dev {device} ingress"), device
    guest.virsh("domiftune a vnet0 --outbound 0 --live", "domiftune a macvtap0 --inbound 500 --live")
    assert guest.run("tc filter show dev vnet0 ingress") == "" and "rate 4Mbit" in guest.run("tc filter show dev macvtap0 ingress")
    guest.virsh("destroy a")
    guest.run("ip link del br0")


def test_daemon_that_is_killed(guest):
    own = address(guest, "eth1")
    start(guest, "a", nic("direct", "<source dev='eth1' mode='passthrough'/>"))
    restart(guest)
    assert "macvtap0" in guest.virsh("domiflist a") and address(guest, "eth1") == MAC[1]
    guest.virsh("destroy a")
    assert "macvtap" not in guest.run("ip -br link") and address(guest, "eth1") == own
    guest.virsh("start a")
    restart(guest, "kill -9 $(pidof vireod vireo-vmm)", "vireod vireo-vmm")
    assert "macvtap" not in guest.run("ip -br link") and address(guest, "eth1") == own, "the machine ended while no daemon ran"
    for delay in 0.05, 0.2:
        restart(guest, f"(virsh -q start a > /dev/null 2>&1 &); sleep {delay}; kill -9 $(pidof vireod)")
        guest.run("virsh -q destroy a", None)
        assert "macvtap" not in guest.run("ip -br link") and address(guest, "eth1") == own, delay


def network(guest, name, mode, devices):
    text = f"<network><name>{name}</name><forward mode='{mode}'>{''.join(f'''<interface dev='{d}'/>''' for d in devices)}</forward></network>"
    guest.run(f"cat > /root/x/net.xml <<'XML'\n{text}\nXML\nvirsh -q net-define /root/x/net.xml && virsh -q net-start {name}")


def connections(guest, name):
    return re.search(r"<network( connections='\d+')?>", guest.virsh(f"net-dumpxml {name}"))[1], re.findall(r"<interface dev='(\w+)'(?: connections='(\d+)')?/>", guest.virsh(f"net-dumpxml {name}"))


def test_pool_shares_its_devices(guest):
    network(guest, "pool", "bridge", ("eth0", "eth1"))
    for n, name in enumerate("abc", 1):
        start(guest, name, nic("network", "<source network='pool'/>", mac=MAC[n]))
    assert connections(guest, "pool") == (" connections='3'", [("eth0", "2"), ("eth1", "1")])
    assert [guest.virsh(f"domiflist {n}").split()[1:3] for n in "abc"] == [["direct", "pool"]] * 3
    assert [re.search("dev='(eth.)'", guest.virsh(f"dumpxml {n}"))[1] for n in "abc"] == ["eth0", "eth1", "eth0"]
    assert "macvtap mode bridge" in link(guest, "macvtap2")
    text = guest.virsh("dumpxml b")
    assert "<interface type='direct'>" in text and "<source network='pool' dev='eth1' mode='bridge'/>" in text
    assert "<source network='pool'/>" in guest.virsh("dumpxml b --inactive") and "<interface type='network'>" in guest.virsh("dumpxml b --inactive")
    guest.virsh("destroy a")
    assert connections(guest, "pool")[1] == [("eth0", "1"), ("eth1", "1")]
    guest.run("echo \"<interface dev='eth1'/>\" > /root/x/if.xml")
    assert "is being used by 1 domains" in guest.virsh("net-update pool delete forward-interface /root/x/if.xml --live", status=1)
    restart(guest)
    assert connections(guest, "pool")[1] == [("eth0", "1"), ("eth1", "1")]
    guest.virsh("destroy b", "destroy c")
    assert connections(guest, "pool") == (None, [("eth0", ""), ("eth1", "")])


def test_pool_for_one_guest_each(guest):
    network(guest, "own", "passthrough", ("eth0", "eth1"))
    for n, name in enumerate("ab", 1):
        start(guest, name, nic("network", "<source network='own'/>", mac=MAC[n]))
    define(guest, "c", nic("network", "<source network='own'/>", mac=MAC[3]))
    assert "requires exclusive access to interfaces, but none are available" in guest.virsh("start c", status=1)
    assert [address(guest, d) for d in ("eth0", "eth1")] == [MAC[1], MAC[2]]
    guest.virsh("destroy a", "start c")
    assert "<source network='own' dev='eth0' mode='passthrough'/>" in guest.virsh("dumpxml c") and connections(guest, "own")[0] == " connections='2'"
    network(guest, "other", "vepa", ("eth9",))
    define(guest, "d", nic("network", "<source network='other'/>", mac=MAC[4]))
    assert "eth9" in guest.virsh("start d", status=1)
    assert connections(guest, "other") == (None, [("eth9", "")]), "a machine that did not start holds a device of the pool"
