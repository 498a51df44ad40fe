# SPDX-License-Identifier: GPL-2.0-or-later
"""Virtual networks as guests see them: namespaces on the bridges of vireod in a namespace of its own; and what others do to the host meanwhile.

Root alone can make bridges: without root these tests are skipped.
"""
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from limits import SLOW
from network_lab import DNSMASQ, ENV, NAT, NO_PING, isolated, lab, needs_root, outside_of, wait_for, whole_lab  # pylint: disable=unused-import


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
    with open(f"{lab.root}/named.xml", "w", encoding="utf-8") as f:
        f.write("<domain type='qemu'><name>named</name><memory unit='MiB'>32</memory><os><type arch='x86_64' machine='q35'>hvm</type></os><devices><controller type='usb' model='none'/>"
                "<interface type='network'><mac address='52:54:00:bb:00:01'/><source network='nat1'/><model type='virtio'/></interface></devices></domain>")
    lab.virsh("create", f"{lab.root}/named.xml", "--paused")
    assert lab.virsh("domhostname", "named", "--source", "lease").strip() == "walker"
    lab.virsh("destroy", "named")
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
        lab.daemon.wait(20 * SLOW)
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
        wait_for(f"rules after nft {command[0]}", lambda: lab.run("nft", "list", "table", "inet", "vireo_vrn1", status=None) == before)
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

    def used():
        """In two seconds."""
        before = cpu_ticks(lab.daemon.pid)
        time.sleep(2)
        return cpu_ticks(lab.daemon.pid) - before
    wait_for("rest, once all is set up", lambda: used() <= 1, 20)


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
    """How long so much takes from the host to a guest, or back; the start of programs is not counted."""
    guest_ip = guest.dhcp()["ip"]
    there, here = (guest, lab) if to_guest else (lab, guest)
    receive = ("import socket, time; s = socket.create_server(('', 7777)); print('ready', flush=True); c = s.accept()[0]; n = 0; start = time.monotonic()\n"
               "while True:\n    d = c.recv(65536)\n    n += len(d)\n    if not d:\n        break\nprint(n, time.monotonic() - start)")
    send = f"import socket; s = socket.create_connection(('{guest_ip if to_guest else '10.61.1.1'}', 7777)); s.sendall(bytes({megabytes} << 20))"
    sink = subprocess.Popen(there.words(sys.executable, "-c", receive), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    assert sink.stdout.readline().strip() == "ready"
    here.run(sys.executable, "-c", send)
    received, seconds = sink.communicate(timeout=40 * SLOW)[0].split()
    assert int(received) == megabytes << 20
    return float(seconds)


@needs_root
def test_bandwidth_is_limited_both_ways(lab):
    limits = "<bandwidth><inbound average='1024' burst='64'/><outbound average='1024' burst='64'/></bandwidth>"
    lab.define(NAT.replace("  <ip address", f"  {limits}\n  <ip address", 1))
    guest = lab.guest("vrn1")
    assert 1.4 < seconds_for(lab, guest, 2, True) < 6 * SLOW, "2 MiB at 1 MiB/s into the network"
    assert 1 < seconds_for(lab, guest, 2, False) < 12 * SLOW, "2 MiB at 1 MiB/s out of the network"
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
        client.wait(20 * SLOW)
        lab.start()
        if not re.search(r"^ nat1 +active", lab.virsh("net-list", "--all"), re.M):
            assert lab.left("nat1", "vrn1") == [], f"round {i}"
            lab.virsh("net-start", "nat1")
        lab.virsh("net-destroy", "nat1")
        assert lab.left("nat1", "vrn1") == [], f"round {i}"


if __name__ == "__main__":
    sys.exit(pytest.main(["-q", __file__]))
