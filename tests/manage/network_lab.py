# SPDX-License-Identifier: GPL-2.0-or-later
"""A host for tests of virtual networks: vireod in a network namespace of its own, with further namespaces as guests."""
import glob
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

from limits import SLOW

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
                          timeout=timeout * SLOW)
    assert status is None or done.returncode == status, f"{' '.join(map(str, words))}: {done.returncode}: {done.stdout}"
    return done.stdout


def wait_for(what, condition, seconds=20):
    until = time.monotonic() + seconds * SLOW
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

    def pings(self, address, seconds=int(max(SLOW, 1))):
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
        assert self.daemon.wait(20 * SLOW) == 0
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


def outside_of(lab):
    """A machine beyond the host, 203.0.113.2, without a route to the guests."""
    outside = lab.guest(None)
    lab.run("ip", "addr", "add", "203.0.113.1/24", "dev", outside.port)
    outside.run("ip", "addr", "add", "203.0.113.2/24", "dev", "eth0")
    return outside
