# SPDX-License-Identifier: GPL-2.0-or-later
"""Virtual networks as an administrator sees them: Debian's virsh on vireod, in a network namespace of its own, with further namespaces as guests.

Root alone can make bridges: without root these tests are skipped, but for the user mode test at the end.
"""
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("VIREO_BUILD", os.path.join(os.path.dirname(os.path.dirname(HERE)), "build"))
GOLDEN = os.path.join(HERE, "golden")
ENV = dict(os.environ, LANG="C", LC_ALL="C", LIBVIRT_AUTOSTART="0")
ENV.pop("LIBVIRT_DEFAULT_URI", None)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: bridges, nftables and network namespaces")

# What busybox's DHCP client does with a lease.
LEASE_SCRIPT = """#!/bin/sh
case $1 in
bound|renew)
    ip addr flush dev $interface
    ip addr add $ip/$mask dev $interface
    [ -n "$router" ] && ip route add default via ${router%% *}
    echo "ip=$ip router=$router dns=$dns domain=$domain" > $OUT ;;
esac
"""


def run(*words, status=0, stdin=None, env=None, timeout=40):
    done = subprocess.run([str(w) for w in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env or ENV, check=False, input=stdin, text=True,
                          timeout=timeout)
    assert status is None or done.returncode == status, f"{' '.join(map(str, words))}: {done.returncode}: {done.stdout}"
    return done.stdout


def wait_for(what, condition, seconds=8):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not within {seconds} s: {what}"
        time.sleep(0.05)


class Space:
    """A network namespace (and mount namespace), held by a sleeping process."""

    def __init__(self):
        self.holder = subprocess.Popen(["unshare", "-n", "-m", "sleep", "600"])
        self.pid = self.holder.pid
        own = os.readlink("/proc/self/ns/net")
        wait_for("namespace", lambda: os.readlink(f"/proc/{self.pid}/ns/net") != own and
                 open(f"/proc/{self.pid}/comm", encoding="ascii").read().strip() == "sleep")
        self.run("ip", "link", "set", "lo", "up")

    def words(self, *words):
        return ["nsenter", "-t", str(self.pid), "-n", "-m", *words]

    def run(self, *words, **options):
        return run(*self.words(*words), **options)

    def end(self):
        self.holder.kill()
        self.holder.wait()


class Guest(Space):
    """A namespace with eth0 on a bridge of the lab."""

    count = 0

    def __init__(self, lab, bridge, mac=None):
        super().__init__()
        Guest.count += 1
        self.lab, self.port = lab, f"gst{Guest.count}"
        lab.run("ip", "link", "add", self.port, "type", "veth", "peer", "name", "eth0", "netns", self.pid)
        if mac:
            self.run("ip", "link", "set", "eth0", "address", mac)
        if bridge:
            lab.run("ip", "link", "set", self.port, "master", bridge)
        lab.run("ip", "link", "set", self.port, "up")
        self.run("ip", "link", "set", "eth0", "up")

    def dhcp(self, hostname="guest", status=0):
        """What the lease said: {"ip": ..., "router": ..., "dns": ...}."""
        out = os.path.join(self.lab.root, f"lease-{self.port}")
        script = os.path.join(self.lab.root, "lease.sh")
        with open(script, "w", encoding="ascii") as f:
            f.write(LEASE_SCRIPT)
        os.chmod(script, 0o755)
        self.run("busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "5", "-T", "1", "-x", f"hostname:{hostname}", "-s", script, env=dict(ENV, OUT=out), status=status)
        if status:
            return None
        with open(out, encoding="ascii") as f:
            return dict(w.split("=", 1) for w in f.read().strip().split(" ") if "=" in w)

    def pings(self, address, seconds=1):
        return self.run("busybox", "ping", "-c", "1", "-W", seconds, address, status=None).find(" 0% packet loss") > 0

    def resolve(self, name, server):
        return self.run("busybox", "nslookup", name, server, status=None)


class Lab(Space):
    """The host: a namespace in which vireod runs."""

    def __init__(self, root):
        super().__init__()
        self.root = root
        os.chmod(root, 0o755)
        self.uri = f"qemu+unix:///system?socket={root}/run/vireo/libvirt-sock"
        self.daemon = None
        self.guests = []
        self.start()

    def start(self):
        with open(f"{self.root}/vireod.log", "ab") as log:
            self.daemon = subprocess.Popen(self.words(f"{BUILD}/vireod", "--root", self.root), stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=ENV)
        wait_for("vireod answers", lambda: self.virsh("uri", status=None).startswith("qemu"))

    def virsh(self, *words, status=0, readonly=False, env=None):
        uri = self.uri + ("-ro" if readonly else "")
        return run("virsh", *(["-r"] if readonly else []), "-c", uri, *words, status=status, env=env)

    def define(self, xml, start=True):
        path = f"{self.root}/network.xml"
        with open(path, "w", encoding="utf-8") as f:
            f.write(xml)
        assert "defined from" in self.virsh("net-define", path)
        name = re.search("<name>(.*?)</name>", xml).group(1)
        if start:
            self.virsh("net-start", name)
        return name

    def refuse(self, command, xml):
        path = f"{self.root}/network.xml"
        with open(path, "w", encoding="utf-8") as f:
            f.write(xml)
        return self.virsh(command, path, status=1)

    def guest(self, bridge, mac=None):
        self.guests.append(Guest(self, bridge, mac))
        return self.guests[-1]

    def dnsmasq(self, name):
        try:
            with open(f"{self.root}/run/vireo/network/{name}.pid", encoding="ascii") as f:
                return int(f.read())
        except FileNotFoundError:
            return None

    def left(self, name, bridge):
        """What is left of a network that has been stopped."""
        found = [p for p in glob.glob(f"{self.root}/run/vireo/network/{name}.*")]
        if os.path.exists(f"/proc/{self.pid}/root") and bridge in self.run("ip", "-br", "link"):
            found.append(bridge)
        if f"vireo_{bridge}" in self.run("nft", "list", "tables"):
            found.append("nft table")
        found += [line for line in run("ps", "-eo", "args").splitlines() if f"{self.root}/var/lib/vireo/dnsmasq/{name}.conf" in line]
        return found

    def clean(self):
        if self.daemon.poll() is not None:
            self.start()
        for guest in self.guests:
            guest.end()
        self.guests = []
        for name in self.virsh("net-list", "--name").split():
            self.virsh("net-destroy", name)
        for name in self.virsh("net-list", "--all", "--name").split():
            if name != "default":
                self.virsh("net-undefine", name)

    def end(self):
        self.clean()
        self.daemon.send_signal(signal.SIGTERM)
        assert self.daemon.wait(20) == 0
        super().end()


@pytest.fixture(scope="module")
def whole_lab():
    root = tempfile.mkdtemp(prefix="vireo-net-")
    lab = Lab(root)
    yield lab
    lab.end()
    shutil.rmtree(root)


@pytest.fixture
def lab(whole_lab):
    yield whole_lab
    whole_lab.clean()


# dnsmasq asks for 3 s whether somebody has an address before it offers it; tests do not wait for that.
DNSMASQ = "xmlns:dnsmasq='http://libvirt.org/schemas/network/dnsmasq/1.0'"
NO_PING = "<dnsmasq:options><dnsmasq:option value='no-ping'/></dnsmasq:options>"

NAT = f"""<network {DNSMASQ}>
  <name>nat1</name>
  <uuid>6b1c9f0e-5d4e-4f4a-9d5f-0d7a3c2b1a01</uuid>
  <forward mode='nat'/>
  <bridge name='vrn1' stp='off' delay='0'/>
  <mac address='52:54:00:11:22:33'/>
  <domain name='lab.test' localOnly='yes'/>
  <dns>
    <txt name='info' value='hello world'/>
    <srv service='sip' protocol='udp' target='sip.lab.test' port='5060' priority='1' weight='2'/>
    <host ip='10.61.1.50'>
      <hostname>printer.lab.test</hostname>
    </host>
  </dns>
  <ip address='10.61.1.1' netmask='255.255.255.0'>
    <dhcp>
      <range start='10.61.1.100' end='10.61.1.120'/>
      <host mac='52:54:00:aa:00:01' name='fixed' ip='10.61.1.7'/>
    </dhcp>
  </ip>
  {NO_PING}
</network>
"""


def isolated(name, bridge, third, more=""):
    return (f"<network {DNSMASQ}><name>{name}</name><bridge name='{bridge}' stp='off' delay='0'/><ip address='10.61.{third}.1' prefix='24'>"
            f"<dhcp><range start='10.61.{third}.100' end='10.61.{third}.120'/></dhcp></ip>{more}{NO_PING}</network>")


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
    watch = subprocess.Popen(["virsh", "-c", lab.uri, "net-event", "--event", "lifecycle", "--loop", "--timeout", "2"], stdout=subprocess.PIPE, text=True, env=ENV)
    time.sleep(0.5)
    lab.define(isolated("ev", "vrn4", 4))
    lab.virsh("net-destroy", "ev")
    lab.virsh("net-undefine", "ev")
    said = watch.communicate(timeout=20)[0]
    assert re.findall(r"network ev: (\w+)", said) == ["Defined", "Started", "Stopped", "Undefined"]


@needs_root
def test_a_read_only_connection_changes_nothing(lab):
    lab.define(isolated("ro", "vrn5", 5), start=False)
    for words in (["net-start", "ro"], ["net-undefine", "ro"], ["net-autostart", "ro"], ["net-update", "ro", "add", "dns-txt", "<txt name='a' value='b'/>", "--config"]):
        assert "read only" in lab.virsh(*words, status=1, readonly=True), words
    assert re.search(r"^ ro +inactive +no +yes$", lab.virsh("net-list", "--all", readonly=True), re.M)


# ---- guests ----

@needs_root
def test_lease_name_and_records(lab):
    lab.define(NAT)
    guest = lab.guest("vrn1", "52:54:00:bb:00:01")
    lease = guest.dhcp("walker")
    assert re.fullmatch(r"10\.61\.1\.1(0\d|1\d|20)", lease["ip"]) and lease["router"] == "10.61.1.1" and lease["dns"] == "10.61.1.1"
    table = lab.virsh("net-dhcp-leases", "nat1").splitlines()
    assert re.split("  +", table[0].strip()) == ["Expiry Time", "MAC address", "Protocol", "IP address", "Hostname", "Client ID or DUID"]
    row = re.split("  +", table[2].strip())
    assert row[1:5] == ["52:54:00:bb:00:01", "ipv4", lease["ip"] + "/24", "walker"]
    assert abs(time.mktime(time.strptime(row[0], "%Y-%m-%d %H:%M:%S")) - time.time() - 3600) < 120
    fixed = lab.guest("vrn1", "52:54:00:aa:00:01")
    assert fixed.dhcp("whatever")["ip"] == "10.61.1.7"
    assert "10.61.1.7/24" in lab.virsh("net-dhcp-leases", "nat1", "52:54:00:AA:00:01")
    assert "walker" not in lab.virsh("net-dhcp-leases", "nat1", "52:54:00:AA:00:01")
    assert "10.61.1.50" in guest.resolve("printer.lab.test", "10.61.1.1")
    assert "10.61.1.7" in guest.resolve("fixed.lab.test", "10.61.1.1")
    assert "hello world" in guest.run("busybox", "nslookup", "-type=txt", "info", "10.61.1.1", status=None)
    assert guest.pings("10.61.1.7"), "guests of one network see each other"


@needs_root
def test_update_of_a_running_network_is_felt_by_guests(lab):
    lab.define(NAT)
    guest = lab.guest("vrn1", "52:54:00:bb:00:02")
    lab.virsh("net-update", "nat1", "add", "ip-dhcp-host", "<host mac='52:54:00:bb:00:02' name='late' ip='10.61.1.9'/>", "--live", "--config")
    assert guest.dhcp()["ip"] == "10.61.1.9"
    lab.virsh("net-update", "nat1", "add", "dns-host", "<host ip='10.61.1.60'><hostname>scanner.lab.test</hostname></host>", "--live")
    assert "10.61.1.60" in guest.resolve("scanner.lab.test", "10.61.1.1")
    assert "scanner" in lab.virsh("net-dumpxml", "nat1") and "scanner" not in lab.virsh("net-dumpxml", "nat1", "--inactive")
    lab.virsh("net-update", "nat1", "delete", "dns-host", "<host ip='10.61.1.60'/>", "--live")
    assert "10.61.1.60" not in guest.resolve("scanner.lab.test", "10.61.1.1")
    said = lab.virsh("net-update", "nat1", "add", "ip-dhcp-host", "<host mac='52:54:00:bb:00:02' name='again' ip='10.61.1.10'/>", "--live", status=1)
    assert "existing dhcp host entry" in said
    said = lab.virsh("net-update", "nat1", "add", "bridge", "<bridge name='x'/>", "--live", status=1)
    assert "can't update 'bridge' section" in said


def outside_of(lab):
    """A machine beyond the host, 203.0.113.2, without a route to the guests."""
    outside = lab.guest(None)
    lab.run("ip", "addr", "add", "203.0.113.1/24", "dev", outside.port)
    outside.run("ip", "addr", "add", "203.0.113.2/24", "dev", "eth0")
    return outside


@needs_root
def test_nat_reaches_out_and_lets_nobody_in(lab):
    lab.define(NAT)
    outside, guest = outside_of(lab), lab.guest("vrn1", "52:54:00:bb:00:03")
    ip = guest.dhcp()["ip"]
    assert guest.pings("203.0.113.2"), "a guest behind NAT reaches the world"
    outside.run("ip", "route", "add", "10.61.1.0/24", "via", "203.0.113.1")
    assert not outside.pings(ip), "and is not reached from there"


@needs_root
def test_routed_network_is_reached_from_outside(lab):
    lab.define("<network><name>rt</name><forward mode='route'/><bridge name='vrn6' stp='off' delay='0'/><ip address='10.61.6.1' prefix='24'/></network>")
    outside, guest = outside_of(lab), lab.guest("vrn6")
    guest.run("ip", "addr", "add", "10.61.6.10/24", "dev", "eth0")
    guest.run("ip", "route", "add", "default", "via", "10.61.6.1")
    assert not guest.pings("203.0.113.2"), "no address translation: the answer has no way back"
    outside.run("ip", "route", "add", "10.61.6.0/24", "via", "203.0.113.1")
    assert guest.pings("203.0.113.2") and outside.pings("10.61.6.10")


@needs_root
def test_isolation_holds(lab):
    lab.define(NAT)
    lab.define(isolated("iso", "vrn7", 7))
    lab.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
    outside, free, caged, mate = outside_of(lab), lab.guest("vrn1"), lab.guest("vrn7"), lab.guest("vrn7")
    ip, other = caged.dhcp(), mate.dhcp()
    assert not ip["router"], "an isolated guest is told no way out"
    caged.run("ip", "route", "add", "default", "via", "10.61.7.1")
    outside.run("ip", "route", "add", "10.61.7.0/24", "via", "203.0.113.1")
    assert caged.pings(other["ip"]) and caged.pings("10.61.7.1")
    assert not caged.pings("203.0.113.2") and not caged.pings(free.dhcp()["ip"])
    assert not outside.pings(ip["ip"]) and not free.pings(ip["ip"])


@needs_root
def test_ipv6_by_router_advertisement(lab):
    lab.define("<network><name>six</name><forward mode='route'/><bridge name='vrn8' stp='off' delay='0'/>"
               "<ip family='ipv6' address='fd61:8::1' prefix='64'/></network>")
    guest = lab.guest("vrn8")
    wait_for("an address by router advertisement", lambda: "fd61:8:" in guest.run("ip", "-6", "addr", "show", "dev", "eth0"), 15)
    assert "default via fe80" in guest.run("ip", "-6", "route")
    wait_for("the host answers", lambda: guest.pings("fd61:8::1"), 10)


@needs_root
def test_all_that_a_document_can_say_starts(lab):
    """The longest document: each part arrives at the kernel and at dnsmasq."""
    lab.run("ip", "link", "add", "uplink", "type", "bridge")
    lab.define(f"""<network {DNSMASQ} ipv6='yes'>
  <name>long</name>
  <forward mode='nat' dev='uplink'>
    <nat ipv6='yes'><address start='10.99.0.4' end='10.99.0.10'/><port start='500' end='1000'/></nat>
  </forward>
  <bridge name='vrn13' stp='off' delay='0'/>
  <mtu size='1400'/>
  <domain name='example.com' localOnly='yes'/>
  <dns forwardPlainNames='no'>
    <forwarder addr='127.0.0.9'/><forwarder domain='a.example' addr='127.0.0.8'/><forwarder domain='b.example'/>
    <txt name='t' value='a, b'/><srv service='s' protocol='tcp'/><srv service='s2' protocol='tcp' domain='d' target='.' port='1' priority='2' weight='3'/>
    <host ip='10.61.13.2'><hostname>one</hostname><hostname>two</hostname></host><host ip='fd61:13::2'><hostname>six</hostname></host>
  </dns>
  <ip address='10.61.13.1' prefix='24' localPtr='yes'>
    <tftp root='/tmp'/>
    <dhcp>
      <range start='10.61.13.100' end='10.61.13.110'><lease expiry='2' unit='hours'/></range>
      <host mac='52:54:00:00:00:01' name='foo' ip='10.61.13.10'><lease expiry='0'/></host><host name='bar' ip='10.61.13.11'/>
      <bootp file='pxe' server='10.61.13.9'/>
    </dhcp>
  </ip>
  <ip family='ipv6' address='fd61:13::1' prefix='64' localPtr='yes'>
    <dhcp><range start='fd61:13::100' end='fd61:13::1ff'/><host id='0:1:0:1:18:aa:62:fe:0:16:3e:44:55:66' name='paul' ip='fd61:13::5'/></dhcp>
  </ip>
  <ip address='10.62.13.1' netmask='255.255.255.128'/>
  <route address='10.63.0.0' prefix='16' gateway='10.61.13.200' metric='7'/>
  {NO_PING}
</network>""")
    rules = lab.run("nft", "list", "table", "inet", "vireo_vrn13")
    for words in ('oifname "uplink" meta l4proto { tcp, udp } snat ip to 10.99.0.4-10.99.0.10:500-1000', "ip6 saddr fd61:13::/64", "masquerade to :500-1000",
                  "ip saddr 10.62.13.0/25", "ip saddr 10.63.0.0/16"):
        assert words in rules, rules
    assert "10.63.0.0/16 via 10.61.13.200 dev vrn13 proto static metric 7" in lab.run("ip", "route")
    assert "mtu 1400" in lab.run("ip", "link", "show", "vrn13")
    addresses = lab.run("ip", "-br", "addr", "show", "vrn13")
    assert "10.61.13.1/24" in addresses and "10.62.13.1/25" in addresses and "fd61:13::1/64" in addresses
    guest = lab.guest("vrn13", "52:54:00:00:00:01")
    assert guest.dhcp()["ip"] == "10.61.13.10"
    assert "10.61.13.10/24" in lab.virsh("net-dhcp-leases", "long")
    for name, answer in (("two", "10.61.13.2"), ("six", "fd61:13::2")):
        assert answer in guest.resolve(name, "10.61.13.1"), name
    lab.virsh("net-destroy", "long")
    assert lab.left("long", "vrn13") == []
    lab.run("ip", "link", "del", "uplink")


@needs_root
def test_full_disk_leaves_nothing_half_made(lab):
    lab.define(NAT, start=False)
    for folder, words in (("etc/vireo/qemu/networks", ["net-define", f"{lab.root}/other.xml"]), ("run/vireo/network", ["net-start", "nat1"])):
        with open(f"{lab.root}/other.xml", "w", encoding="utf-8") as f:
            f.write(isolated("other", "vrn14", 14))
        lab.run("mount", "-t", "tmpfs", "-o", "size=4k", "full", f"{lab.root}/{folder}")
        lab.run("sh", "-c", f"head -c 100000 /dev/zero > {lab.root}/{folder}/filler", status=None)
        said = lab.virsh(*words, status=1)
        lab.run("umount", f"{lab.root}/{folder}")
        assert "No space left on device" in said
        assert "other" not in lab.virsh("net-list", "--all") and lab.left("nat1", "vrn1") == [], words
    lab.virsh("net-start", "nat1")


@needs_root
def test_autostart_with_the_host_but_not_with_each_start_of_the_daemon(lab):
    lab.define(isolated("auto", "vrn15", 15), start=False)
    lab.virsh("net-autostart", "auto")
    for reboot in (False, True):
        lab.daemon.terminate()
        lab.daemon.wait(20)
        if reboot:  # what lies in /run is gone then
            os.unlink(f"{lab.root}/run/vireo/network/autostarted")
        lab.start()
        assert bool(re.search(r"^ auto +active +yes", lab.virsh("net-list"), re.M)) == reboot


# ---- what others do ----

@needs_root
def test_flushed_rules_come_back(lab):
    lab.define(NAT)
    outside, guest = outside_of(lab), lab.guest("vrn1")
    guest.dhcp()
    assert guest.pings("203.0.113.2")
    before = lab.run("nft", "list", "table", "inet", "vireo_vrn1")
    for i, command in enumerate((["flush", "ruleset"], ["delete", "table", "inet", "vireo_vrn1"], ["flush", "chain", "inet", "vireo_vrn1", "postrouting"])):
        time.sleep(0.6 if i else 0)
        lab.run("nft", *command)
        start = time.monotonic()
        wait_for(f"rules after nft {command[0]}", lambda: lab.run("nft", "list", "table", "inet", "vireo_vrn1", status=None) == before)
        assert time.monotonic() - start < 3
    assert guest.pings("203.0.113.2")
    assert outside.pings("203.0.113.1")


@needs_root
def test_another_firewall_that_drops_is_named(lab):
    lab.run("nft", "-f", "-", stdin="table ip other { chain FWD { type filter hook forward priority 0; policy drop; }; }\n")
    lab.define(NAT)
    with open(f"{lab.root}/vireod.log", encoding="utf-8") as f:
        assert re.search(r"network 'nat1': another firewall drops .*ip other FWD.*iifname vrn1 accept", f.read())
    lab.run("nft", "delete", "table", "ip", "other")


def cpu_ticks(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        words = f.read().rsplit(")", 1)[1].split()
    return int(words[11]) + int(words[12])


@needs_root
def test_watching_costs_nothing(lab):
    lab.define(NAT)
    time.sleep(0.5)
    before = cpu_ticks(lab.daemon.pid)
    time.sleep(2)
    assert cpu_ticks(lab.daemon.pid) - before <= 1


@needs_root
def test_killed_daemon_finds_its_networks_again(lab):
    lab.define(NAT)
    guest, outside = lab.guest("vrn1", "52:54:00:bb:00:05"), outside_of(lab)
    guest.dhcp("stays")
    server = lab.dnsmasq("nat1")
    lab.daemon.kill()
    lab.daemon.wait()
    assert guest.pings("203.0.113.2"), "the network goes on without the daemon"
    lab.run("nft", "flush", "ruleset")
    lab.start()
    assert re.search(r"^ nat1 +active +no +yes$", lab.virsh("net-list"), re.M)
    assert lab.dnsmasq("nat1") == server
    assert "stays" in lab.virsh("net-dhcp-leases", "nat1")
    assert guest.pings("203.0.113.2"), "rules that went while the daemon was away are back"
    assert outside.pings("203.0.113.1")


@needs_root
def test_dnsmasq_and_bridge_that_went_while_the_daemon_was_away(lab):
    lab.define(NAT)
    lab.define(isolated("gone", "vrn9", 9))
    lab.daemon.kill()
    lab.daemon.wait()
    server = lab.dnsmasq("nat1")
    os.kill(server, signal.SIGKILL)
    lab.run("ip", "link", "del", "vrn9")
    lab.start()
    assert lab.dnsmasq("nat1") != server and lab.guest("vrn1").dhcp()["ip"]
    assert re.search(r"^ gone +inactive", lab.virsh("net-list", "--all"), re.M)
    assert lab.left("gone", "vrn9") == []


@needs_root
def test_dnsmasq_that_dies_comes_back(lab):
    lab.define(NAT)
    server = lab.dnsmasq("nat1")
    os.kill(server, signal.SIGKILL)
    wait_for("dnsmasq again", lambda: lab.dnsmasq("nat1") not in (None, server))
    assert lab.guest("vrn1").dhcp()["ip"]


def seconds_for(lab, guest, megabytes, to_guest):
    """How long so much takes from the host to a guest, or back."""
    guest_ip = guest.dhcp()["ip"]
    there, here = (guest, lab) if to_guest else (lab, guest)
    receive = ("import socket; s = socket.create_server(('', 7777)); print('ready', flush=True); c = s.accept()[0]; n = 0\n"
               "while True:\n    d = c.recv(65536)\n    n += len(d)\n    if not d:\n        break\nprint(n)")
    send = f"import socket; s = socket.create_connection(('{guest_ip if to_guest else '10.61.1.1'}', 7777)); s.sendall(bytes({megabytes} << 20))"
    sink = subprocess.Popen(there.words(sys.executable, "-c", receive), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    assert sink.stdout.readline().strip() == "ready"
    start = time.monotonic()
    here.run(sys.executable, "-c", send)
    assert int(sink.communicate(timeout=40)[0]) == megabytes << 20
    return time.monotonic() - start


@needs_root
def test_bandwidth_is_limited_both_ways(lab):
    limits = "<bandwidth><inbound average='1024' burst='64'/><outbound average='1024' burst='64'/></bandwidth>"
    lab.define(NAT.replace("  <ip address", f"  {limits}\n  <ip address", 1))
    guest = lab.guest("vrn1")
    assert 1.4 < seconds_for(lab, guest, 2, True) < 6, "2 MiB at 1 MiB/s into the network"
    assert 1 < seconds_for(lab, guest, 2, False) < 12, "2 MiB at 1 MiB/s out of the network"
    lab.clean()
    lab.define(NAT)
    guest = lab.guest("vrn1")
    assert seconds_for(lab, guest, 2, True) < 1 and seconds_for(lab, guest, 2, False) < 1


@needs_root
def test_killed_at_any_moment_of_start_and_stop_nothing_is_left(lab):
    lab.define(NAT, start=False)
    for i in range(8):
        client = subprocess.Popen(["virsh", "-c", lab.uri, "net-start nat1; net-destroy nat1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENV)
        time.sleep(0.03 + 0.018 * i)
        lab.daemon.kill()
        lab.daemon.wait()
        client.wait(20)
        lab.start()
        if not re.search(r"^ nat1 +active", lab.virsh("net-list", "--all"), re.M):
            assert lab.left("nat1", "vrn1") == [], f"round {i}"
            lab.virsh("net-start", "nat1")
        lab.virsh("net-destroy", "nat1")
        assert lab.left("nat1", "vrn1") == [], f"round {i}"


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
    assert "10.61.1.0/24" in said and "10.61.0.0/16" in said and "net-edit nat1" in said
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
    for mode, words in (("passthrough", "passthrough"), ("hostdev", "hostdev")):
        lab.define(f"<network><name>{mode}</name><forward mode='{mode}'><interface dev='eth9'/></forward></network>", start=False)
        assert words in lab.virsh("net-start", mode, status=1)
    assert sorted(lab.virsh("net-list", "--all", "--name").split()) == ["default", "hostdev", "nat1", "passthrough"]


@needs_root
def test_nothing_is_left_after_destroy(lab):
    lab.define(NAT)
    server = lab.dnsmasq("nat1")
    assert server
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
    assert lab.virsh("nwfilter-list").split()[:2] == ["UUID", "Name"]
    assert "no nwfilter with matching name 'clean-traffic'" in lab.virsh("nwfilter-dumpxml", "clean-traffic", status=1)
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
        daemon.wait(20)
        shutil.rmtree(root)


if __name__ == "__main__":
    sys.exit(pytest.main(["-q", __file__]))
