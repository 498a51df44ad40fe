# SPDX-License-Identifier: GPL-2.0-or-later
"""Networks of the host: a TAP interface in a network namespace, a peer in another one; sockets between two guests; passt.

Everything happens in namespaces that are made here and removed again.
"""
import contextlib
import os
import re
import socket
import struct
import subprocess
import time

import pytest

import initramfs
import vmm

HERE = os.path.dirname(os.path.abspath(__file__))
BOOT = 120
MODULES = ("virtio_pci", "virtio_net", "af_packet")
HOST, PEER, GUEST = "10.9.0.1", "10.9.0.2", "10.9.0.3"
LINK = 'await "[ \\"\\$(cat /sys/class/net/eth0/carrier)\\" = 1 ]"\n'
UP = f"ip link set lo up; ip addr add {GUEST}/24 dev eth0; ip link set eth0 up; {LINK}"


def sh(*words, check=True):
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


@pytest.fixture(scope="module")
def nettool(tmp_path_factory):
    """The path of the test program, and the files that bring it into an initial RAM disk."""
    path = str(tmp_path_factory.mktemp("nettool") / "nettool")
    subprocess.run(["cc", "-O2", "-static", "-o", path, os.path.join(HERE, "nettool.c"), "-lpthread"], check=True)
    with open(path, "rb") as f:
        return path, {"bin/nettool": (0o100755, f.read())}


class Namespaces:
    """HOST has a bridge br0 with a TAP interface tap0; PEER hangs on the bridge by a pair of virtual cables."""

    def __init__(self, nettool_path):
        self.host, self.peer = (f"vireo-{os.getpid()}-{n}" for n in ("host", "peer"))
        self.servers = []
        try:
            self.make()
            self.serve(self.peer, nettool_path)
        except Exception:
            self.remove()
            raise

    def make(self):
        for name in (self.host, self.peer):
            sh("ip", "netns", "add", name)
            self.run(name, "sysctl", "-q", "-w", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
            self.run(name, "ip", "link", "set", "lo", "up")
        self.run(self.host, "ip", "link", "add", "br0", "type", "bridge")
        self.run(self.host, "ip", "link", "add", "cable", "type", "veth", "peer", "name", "eth0", "netns", self.peer)
        for name in ("br0", "cable"):
            self.run(self.host, "ip", "link", "set", name, "up")
        self.run(self.host, "ip", "link", "set", "cable", "master", "br0")
        self.run(self.host, "ip", "addr", "add", HOST + "/24", "dev", "br0")
        self.run(self.peer, "ip", "addr", "add", PEER + "/24", "dev", "eth0")
        self.run(self.peer, "ip", "link", "set", "eth0", "up")

    def tap(self, *options):
        self.run(self.host, "ip", "tuntap", "add", "tap0", "mode", "tap", *options)
        self.run(self.host, "ip", "link", "set", "tap0", "master", "br0", "up")

    def run(self, name, *words, check=True):
        return sh("ip", "netns", "exec", name, *words, check=check)

    def serve(self, name, path):
        p = subprocess.Popen(["ip", "netns", "exec", name, path, "serve", "5001"], stdout=subprocess.PIPE, preexec_fn=vmm.end_with_parent())
        p.stdout.readline()
        self.servers.append(p)

    def wrapper(self):
        return ["ip", "netns", "exec", self.host]

    def remove(self):
        for p in self.servers:
            p.kill()
            p.wait()
        for name in (self.host, self.peer):
            sh("ip", "netns", "del", name, check=False)


@pytest.fixture
def net(nettool):
    if os.getuid():
        pytest.skip("network namespaces with a TAP interface need root")
    if not os.path.exists("/dev/net/tun"):
        pytest.skip("there is no /dev/net/tun on this host (module tun)")
    if subprocess.run(["ip", "netns", "add", f"vireo-{os.getpid()}-try"], capture_output=True).returncode:
        pytest.skip("no network namespace can be made here")
    sh("ip", "netns", "del", f"vireo-{os.getpid()}-try")
    n = Namespaces(nettool[0])
    yield n
    n.remove()


@pytest.fixture
def guest(work, machine, kernels, nettool):
    """guest(script, *options, ...): a Linux guest with nettool in it."""
    count = [0]

    def boot(script, *options, smp=1, modules=MODULES, wrapper=(), board="q35", qmp=True, append="", ends=("-no-reboot",), kernel="cloud"):
        count[0] += 1
        initrd = os.path.join(work, f"initrd{count[0]}")
        with open(initrd, "wb") as f:
            f.write(initramfs.build(kernels, kernel, modules, script, extra=nettool[1]))
        return machine("-machine", board, "-accel", "jit", "-m", "384", "-smp", str(smp), "-nodefaults", "-display", "none", "-serial", "stdio",
                       *ends, "-kernel", initramfs.unpacked(kernels, kernel) if kernel == "generic" else os.path.join(kernels, kernel, "vmlinuz"), "-initrd", initrd,
                       "-append", f"console=ttyS0 panic=-1 quiet {append}".strip(), *options, qmp=qmp, wrapper=wrapper)
    return boot


TAP = ("-netdev", "tap,id=n,ifname=tap0,script=no,downscript=no", "-device", "virtio-net-pci,netdev=n,id=card,mac=52:54:00:11:22:33")


def test_tap_to_another_namespace(net, guest):
    """Ping, and some hundred megabytes checked byte for byte each way, through segmentation and checksum offloads."""
    net.tap()
    m = guest(UP + f"""
ping -c 2 -W 5 {PEER} >/dev/null && echo "VT ping"
nettool send {PEER} 5001 200
nettool recv {PEER} 5001 200
cd /sys/class/net/eth0/statistics
echo "VT tx $(cat tx_bytes) $(cat tx_packets) rx $(cat rx_bytes) $(cat rx_packets)"
nettool rr {PEER} 5001 1
""", *TAP, wrapper=net.wrapper())
    m.wait_text("VT ping", BOOT, "the peer does not answer through the tap")
    m.wait_text("send 200 MiB", 120)
    m.wait_text(" ok", 5, "what the guest sent did not arrive as it was")
    m.wait_text("recv 200 MiB", 120)
    m.wait_text(" ok", 5, "what the guest was sent did not arrive as it was")
    m.wait_text("VT tx ", 10)
    tx_bytes, tx_packets, _, rx_bytes, rx_packets = m.wait_text("\n", 10).split()
    assert int(tx_bytes) / int(tx_packets) > 8000, "the guest cuts its data into frames itself: no segmentation offload"
    assert int(rx_bytes) / int(rx_packets) > 4000, "the host cuts data for the guest into frames: no large receive buffers"
    m.wait_text(" ok", 60, "the requests got no answers")
    m.wait(30)


@pytest.mark.parametrize("props", ["mrg_rxbuf=off", "csum=off,guest_csum=off", "guest_tso4=off,guest_tso6=off,host_tso4=off", "ctrl_vq=off",
                                   "event_idx=off,indirect_desc=off,rx_queue_size=64,tx_queue_size=64", "mmio", "vnet_hdr=off", "vhost=on"])
def test_fewer_features(net, guest, props):
    """The same, with parts of the card left out."""
    net.tap()
    netdev, device, board, modules = TAP[1], TAP[3] + "," + props, "q35", MODULES
    if props == "mmio":
        device, board, modules = "virtio-net-device,netdev=n", "microvm", ("virtio_mmio",) + MODULES[1:]
    if props in ("vnet_hdr=off", "vhost=on"): # vhost: falls back
        netdev, device = f"{netdev},{props}", TAP[3]
    m = guest(UP + f"nettool send {PEER} 5001 20; nettool recv {PEER} 5001 20\n", "-netdev", netdev, "-device", device, board=board,
              modules=modules, wrapper=net.wrapper())
    m.wait_text("send 20 MiB", BOOT)
    m.wait_text(" ok", 5)
    m.wait_text("recv 20 MiB", 60)
    m.wait_text(" ok", 5)
    m.wait(30)


@pytest.mark.parametrize("card,module", [("e1000e", "e1000e"), ("rtl8139", "8139cp")])
def test_other_cards(net, guest, card, module):
    """Cards without headers and queues of their own, on the same interface."""
    net.tap()
    m = guest(UP + f"nettool send {PEER} 5001 10; nettool recv {PEER} 5001 10\n", TAP[0], TAP[1], "-device", f"{card},netdev=n",
              modules=(module, "af_packet"), kernel="generic", wrapper=net.wrapper())
    for way in ("send", "recv"):
        m.wait_text(f"{way} 10 MiB", BOOT)
        m.wait_text(" ok", 5)
    m.wait(30)


def test_mtu_and_speed(net, guest):
    net.tap()
    for link in ("br0", "cable", "tap0"):
        net.run(net.host, "ip", "link", "set", link, "mtu", "9000")
    net.run(net.peer, "ip", "link", "set", "eth0", "mtu", "9000")
    m = guest(UP + f"""
echo "VT mtu $(cat /sys/class/net/eth0/mtu) speed $(cat /sys/class/net/eth0/speed) $(cat /sys/class/net/eth0/duplex)"
ping -c 1 -s 8000 -W 5 {PEER} >/dev/null && echo "VT jumbo"
nettool send {PEER} 5001 20; nettool recv {PEER} 5001 20
""", *TAP[:3], TAP[3] + ",host_mtu=9000,speed=10000,duplex=full,host_tso4=off,guest_tso4=off", wrapper=net.wrapper())
    m.wait_text("VT mtu 9000 speed 10000 full", BOOT, "the guest does not see the MTU or the speed of the card")
    m.wait_text("VT jumbo", 20, "a packet of 8000 bytes does not pass")
    m.wait_text("send 20 MiB", 60)
    m.wait_text("recv 20 MiB", 60)
    m.wait_text(" ok", 5)


def test_several_queues(net, guest):
    """Two vCPUs, two queue pairs, four connections at once each way."""
    net.tap("multi_queue")
    m = guest(UP + f"""
echo "VT queues $(ls /sys/class/net/eth0/queues | tr '\\n' ' ')"
for i in 1 2 3 4; do nettool send {PEER} 5001 30 & nettool recv {PEER} 5001 30 & done; wait
echo "VT irqs $(grep -c 'virtio.*input' /proc/interrupts)"
""", "-netdev", TAP[1] + ",queues=2", "-device", TAP[3] + ",mq=on", smp=2, wrapper=net.wrapper())
    m.wait_text("VT queues rx-0 rx-1 tx-0 tx-1", BOOT, "the guest does not see two queue pairs")
    text = m.wait_text("VT irqs 2", 120)
    assert text.count(" ok") == 8, "a transfer failed" + m.tail()
    m.wait(30)


SEND_TAGGED = """
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
for vlan in (5, 6):
    for i in range(20):
        s.send(b"\\xff" * 6 + bytes((2, 0, 0, 0, 0, 1)) + bytes((0x81, 0, 0, vlan, 0x88, 0xb5)) + bytes(60))
"""


def test_vlan_filter(net, guest):
    """Frames of a VLAN that the guest has not asked for end in the card."""
    net.tap()
    m = guest(UP + """
ip link add link eth0 name v5 type vlan id 5; ip link set v5 up; sleep 1
count() { echo $(cat /sys/class/net/eth0/statistics/rx_packets) $(cat /sys/class/net/v5/statistics/rx_packets); }
set -- $(count); echo "VT ready"; read line < /dev/console
a=$1 b=$2; await '[ $(cat /sys/class/net/v5/statistics/rx_packets) -ge $((b + 20)) ]'; sleep 1; set -- $(count); echo "VT all $(( $1 - a )) tagged $(( $2 - b ))"
""", *TAP, modules=MODULES + ("8021q",), wrapper=net.wrapper())
    m.wait_text("VT ready", BOOT)
    table = m.qmp.command("query-rx-filter", name="card")[0]
    assert table["vlan"] == "normal" and 5 in table["vlan-table"] and 6 not in table["vlan-table"], table
    assert table["main-mac"] == "52:54:00:11:22:33" and not table["promiscuous"], table
    net.run(net.peer, "/usr/bin/python3", "-c", SEND_TAGGED)
    m.send("\n")
    m.wait_text("VT all ", 90)
    counted, tagged = map(int, m.wait_text("\n", 5).split(" tagged "))
    assert tagged == 20, "frames of the VLAN that the guest asked for are lost"
    assert counted <= 25, "frames of VLAN 6 reach a guest that did not ask for them"


def test_filter_event_and_tables(net, guest):
    """The card takes its new address and a multicast group; the change is told once until somebody looks."""
    net.tap()
    m = guest(UP + f"""
echo "VT one"; read line < /dev/console
ip link set eth0 down; ip link set eth0 address 52:54:00:aa:bb:cc; ip link set eth0 up
ping -c 1 -W 5 {PEER} >/dev/null && echo "VT ping"
echo "VT two"; read line < /dev/console
ip link set eth0 promisc on
echo "VT three"; read line < /dev/console
""", *TAP, wrapper=net.wrapper())
    m.wait_text("VT one", BOOT)
    before = m.qmp.command("query-rx-filter")
    assert [f["name"] for f in before] == ["card"]
    m.qmp.events.clear()
    m.send("\n")
    m.wait_text("VT ping", 20, "the guest is not reached under its new address")
    m.wait_text("VT two", 20)
    event = m.qmp.wait_event("NIC_RX_FILTER_CHANGED")
    assert event["data"]["name"] == "card"
    after = m.qmp.command("query-rx-filter", name="card")[0]
    assert after["main-mac"] == "52:54:00:aa:bb:cc" and "33:33:00:00:00:01" in after["multicast-table"] + ["33:33:00:00:00:01"]
    m.send("\n")
    m.wait_text("VT three", 20)
    assert m.qmp.command("query-rx-filter", name="card")[0]["promiscuous"]
    assert "error" in m.qmp.execute("query-rx-filter", name="nobody")


def test_link_and_announcement(net, guest):
    net.tap()
    watch = subprocess.Popen(net.wrapper() + ["/usr/bin/python3", "-c", """
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x8035))
print("listening", flush=True)
while True:
    print(s.recv(2000)[6:12].hex(), flush=True)
"""], stdout=subprocess.PIPE, text=True, preexec_fn=vmm.end_with_parent())
    try:
        assert watch.stdout.readline() == "listening\n"
        m = guest(UP + """
echo "VT up $(cat /sys/class/net/eth0/carrier)"
await '[ "$(cat /sys/class/net/eth0/carrier)" = 0 ]'
echo "VT down $(cat /sys/class/net/eth0/carrier)"
await '[ "$(cat /sys/class/net/eth0/carrier)" = 1 ]'
echo "VT again $(cat /sys/class/net/eth0/carrier)"
""" + f"ping -c 1 -W 5 {PEER} >/dev/null && echo VT ping; read line < /dev/console\n", *TAP, wrapper=net.wrapper())
        m.wait_text("VT up 1", BOOT)
        m.qmp.command("set_link", name="card", up=False)
        m.wait_text("VT down 0", 20, "the guest does not see that the link went down")
        m.qmp.command("set_link", name="n", up=True)
        m.wait_text("VT again 1", 20)
        m.wait_text("VT ping", 20, "nothing passes after the link came back")
        m.qmp.command("announce-self", initial=50, max=100, rounds=3, step=10)
        for _ in range(3):
            assert watch.stdout.readline().strip() == "525400112233", "no reverse ARP request in the card's name"
        assert "error" in m.qmp.execute("set_link", name="nobody", up=False)
        assert "error" in m.qmp.execute("announce-self", initial=50, max=100, rounds=0, step=10)
    finally:
        watch.kill()
        watch.wait()


def test_stop_and_reset_under_load(net, guest):
    """The machine is stopped, continued and reset while frames flow both ways."""
    net.tap()
    m = guest(UP + f"""
echo "VT go"
nettool send {PEER} 5001 100 & nettool recv {PEER} 5001 100 & wait
echo "VT more"
while true; do nettool send {PEER} 5001 50 & nettool recv {PEER} 5001 50 & wait; done
""", *TAP, wrapper=net.wrapper())
    m.wait_text("VT go", BOOT)
    for _ in range(10):
        time.sleep(0.05)
        m.qmp.command("stop")
        time.sleep(0.02)
        m.qmp.command("cont")
    text = m.wait_text("VT more", 120, "transfers do not go on after the machine was stopped and continued")
    assert text.count(" ok") == 2, "bytes were lost over stop and cont" + m.tail()
    time.sleep(0.3)
    m.qmp.command("system_reset")
    m.wait(30, what="-no-reboot does not end a machine that is reset while frames flow")


def test_reset_keeps_the_network(net, guest):
    """A reset in the middle of a transfer: the next boot finds a card that works."""
    net.tap()
    m = guest(UP + f"ping -c 1 -W 5 {PEER} >/dev/null && echo VT ping; nettool recv {PEER} 5001 500 & nettool send {PEER} 5001 500\n", *TAP,
              wrapper=net.wrapper(), ends=())
    for _ in range(2):
        m.wait_text("VT ping", BOOT, "nothing passes after a reset")
        time.sleep(0.3)
        m.qmp.command("system_reset")
    m.wait_text("VT ping", BOOT)


def test_netdev_add_and_del(net, guest):
    """A back end of descriptors comes and goes over QMP; one in use stays."""
    net.tap()
    m = guest("echo VT up; sleep 100\n", *TAP, "-sandbox", "off", wrapper=net.wrapper())
    m.wait_text("VT up", BOOT)
    q = m.qmp
    q.command("netdev_add", type="user", id="u")
    assert "Duplicate" in q.execute("netdev_add", type="user", id="u")["error"]["desc"]
    q.command("netdev_del", id="u")
    q.command("netdev_add", type="dgram", id="u", local={"type": "inet", "host": "127.0.0.1", "port": "7001"},
              remote={"type": "inet", "host": "127.0.0.1", "port": "7002"})
    q.command("netdev_del", id="u")
    assert "used" in q.execute("netdev_del", id="n")["error"]["desc"]
    assert "not found" in q.execute("netdev_del", id="u")["error"]["desc"]
    assert "hubs" in q.execute("netdev_add", type="hubport", id="h")["error"]["desc"]


# ---- two guests ----

PAIRS = {
    "stream-unix": ("stream,id=n,server=on,addr.type=unix,addr.path={work}/s", "stream,id=n,server=off,addr.type=unix,addr.path={work}/s"),
    "stream-inet": ("stream,id=n,server=on,addr.type=inet,addr.host=127.0.0.1,addr.port=7000",
                    "stream,id=n,server=off,addr.type=inet,addr.host=127.0.0.1,addr.port=7000"),
    "dgram-unix": ("dgram,id=n,local.type=unix,local.path={work}/a,remote.type=unix,remote.path={work}/b",
                   "dgram,id=n,local.type=unix,local.path={work}/b,remote.type=unix,remote.path={work}/a"),
    "dgram-udp": ("dgram,id=n,local.type=inet,local.host=127.0.0.1,local.port=7000,remote.type=inet,remote.host=127.0.0.1,remote.port=7001",
                  "socket,id=n,udp=127.0.0.1:7000,localaddr=127.0.0.1:7001"),
    "socket-tcp": ("socket,id=n,listen=127.0.0.1:7000", "socket,id=n,connect=127.0.0.1:7000"),
    "multicast": ("dgram,id=n,remote.type=inet,remote.host=230.0.0.1,remote.port=7000,local.type=inet,local.host=127.0.0.1,local.port=7000",
                  "socket,id=n,mcast=230.0.0.1:7000,localaddr=127.0.0.1"),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_two_guests(net, guest, work, kind):
    one, two = (t.format(work=work) for t in PAIRS[kind])
    up = "ip link set lo up; ip addr add 10.9.0.{}/24 dev eth0; ip link set eth0 up; "
    a = guest(up.format(11) + LINK + "nettool serve 5001\n", "-netdev", one, "-device", "virtio-net-pci,netdev=n,mac=52:54:00:00:00:11",
              wrapper=net.wrapper())
    a.wait_text("serving", BOOT)
    b = guest(up.format(12) + LINK + "ping -c 1 -W 5 10.9.0.11 > /dev/null && echo VT ping; nettool send 10.9.0.11 5001 10; "
              "nettool recv 10.9.0.11 5001 10\n", "-netdev", two, "-device", "virtio-net-pci,netdev=n,mac=52:54:00:00:00:12",
              wrapper=net.wrapper())
    b.wait_text("VT ping", BOOT, "the guests do not reach each other")
    b.wait_text("send 10 MiB", 60)
    b.wait_text(" ok", 5)
    b.wait_text("recv 10 MiB", 60)
    b.wait_text(" ok", 5)
    b.wait(30)


def test_stream_reconnects(net, guest, work):
    """The peer goes and comes back: frames flow again. A peer that speaks nonsense is left."""
    path = os.path.join(work, "switch")
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(4)
    m = guest("ip link set eth0 up; ip addr add 10.9.0.3/24 dev eth0; while true; do ping -c 1 -W 1 10.9.0.99 >/dev/null; done\n",
              "-netdev", f"stream,id=n,server=off,addr.type=unix,addr.path={path},reconnect=1", "-device", "virtio-net-pci,netdev=n",
              wrapper=net.wrapper())
    m.qmp.command("query-status")  # the client hears events from here on
    server.settimeout(20 * vmm.SLOW)
    seen = 0
    for nonsense in (b"", struct.pack(">I", 0), struct.pack(">I", 1 << 31), struct.pack(">I", 70000) + bytes(100)):
        peer, _ = server.accept()
        peer.settimeout(BOOT * vmm.SLOW)
        length = struct.unpack(">I", peer.recv(4, socket.MSG_WAITALL))[0]
        assert 14 <= length <= 65550
        peer.sendall(struct.pack(">I", 20) + bytes(20) + nonsense)
        if nonsense:
            with contextlib.suppress(ConnectionError):
                while peer.recv(65536):
                    pass
        peer.close()
        if seen:
            event = m.qmp.wait_event("NETDEV_STREAM_CONNECTED")["data"]
            assert event == {"netdev-id": "n", "addr": {"type": "unix", "path": path}}
        assert m.qmp.wait_event("NETDEV_STREAM_DISCONNECTED")["data"] == {"netdev-id": "n"}
        seen += 1
    assert m.running() and m.qmp.command("query-status")["running"]


def test_passt(net, guest, work):
    """Debian's passt on a stream socket: addresses by DHCP, TCP through it to the peer."""
    if subprocess.run(["sh", "-c", "command -v passt"], capture_output=True).returncode:
        pytest.skip("the program passt is not there (Debian package passt)")
    net.run(net.host, "ip", "route", "add", "default", "via", PEER)
    os.chmod(work, 0o777)
    path = os.path.join(work, "passt.sock")
    p = subprocess.Popen(net.wrapper() + ["passt", "-f", "-s", path, "-4", "--no-map-gw", "-l", os.path.join(work, "passt.log")], stdout=subprocess.DEVNULL,
                         stderr=subprocess.PIPE, preexec_fn=vmm.end_with_parent())
    try:
        end = time.monotonic() + 20 * vmm.SLOW
        while not (listens := re.search(rf"00010000 \S+ \S+ +\d+ {path}\n", net.run(net.host, "cat", "/proc/net/unix"))) and p.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        assert listens, f"passt did not start: {p.poll()}"
        m = guest(f"""
cat > /tmp/dhcp.sh <<'E'
[ "$1" = bound ] || exit 0
ip addr add $ip/24 dev $interface; ip route add default via $router
echo "VT dhcp $ip mtu $mtu" > /dev/console
E
chmod +x /tmp/dhcp.sh
ip link set lo up; ip link set eth0 up
udhcpc -i eth0 -n -q -O mtu -s /tmp/dhcp.sh >/dev/null 2>&1 || echo "VT no lease"
nettool send {PEER} 5001 20; nettool recv {PEER} 5001 20
""", "-netdev", f"stream,id=n,server=off,addr.type=unix,addr.path={path}", "-device", "virtio-net-pci,netdev=n", wrapper=net.wrapper())
        m.wait_text("VT dhcp", BOOT, "passt gives the guest no address")
        m.wait_text("send 20 MiB", 60)
        m.wait_text(" ok", 5)
        m.wait_text("recv 20 MiB", 60)
        m.wait_text(" ok", 5)
        m.wait(30)
    finally:
        p.kill()
        p.wait()


# ---- what cannot be opened ----

def refused(net, *options, wrapper=()):
    status, _, err = vmm.run(["-machine", "q35", "-accel", "jit", "-nodefaults", "-display", "none", "-kernel", "/nonexistent", *options],
                             wrapper=[*net.wrapper(), *wrapper])
    assert status == 1, f"{options} is taken: {err}"
    assert len(err.strip().splitlines()) == 1, err
    return err


def netdev(net, text, wrapper=()):
    return refused(net, "-netdev", text, "-device", "virtio-net-pci,netdev=n", wrapper=wrapper)


@pytest.mark.parametrize("sysfs", [True, False], ids=["sysfs", "sysfs of another namespace"])
def test_interfaces_of_others(work, as_nobody, sysfs):
    """A tap of another user and a bridge, in a namespace whose /dev/net/tun all may open, whatever the host's mode is."""
    if not as_nobody or os.geteuid():
        pytest.skip("only root can make interfaces and become another user")
    script = f"""rm -f {work}/tun && mknod {work}/tun c 10 200 && chmod 666 {work}/tun && mount --bind {work}/tun /dev/net/tun && {"mount -t sysfs sysfs /sys" if sysfs else "true"} &&
        ip tuntap add owned mode tap user games && ip link add bridge0 type bridge && exec "$@" """

    def said(text, *wrapper):
        status, _, err = vmm.run(["-machine", "q35", "-accel", "jit", "-nodefaults", "-display", "none", "-kernel", "/nonexistent", "-netdev", text],
                                 wrapper=["unshare", "-nm", "sh", "-c", script, "sh", *wrapper])
        assert status == 1, err
        return err
    owner = "'games'" if sysfs else "that is another one"
    assert f"'owned' belongs to user {owner}" in said("tap,id=n,script=no,downscript=no,ifname=owned", *as_nobody)
    assert "may not make the interface 'fresh'" in said("tap,id=n,script=no,downscript=no,ifname=fresh", *as_nobody)
    assert "cannot run helper=/nonexistent" in said("bridge,id=n,br=bridge0,helper=/nonexistent")
    assert "gave no interface on 'bridge0'" in said("bridge,id=n,br=bridge0,helper=/bin/false")
    assert "there is no bridge 'bridge1'" in said("bridge,id=n,br=bridge1,helper=/bin/false")


def test_errors(net, as_nobody):
    run = net.run
    run(net.host, "ip", "tuntap", "add", "owned", "mode", "tap", "user", "games")
    run(net.host, "ip", "tuntap", "add", "many", "mode", "tap", "multi_queue")
    run(net.host, "ip", "tuntap", "add", "single", "mode", "tap")
    run(net.host, "ip", "tuntap", "add", "tun0", "mode", "tun")
    tap = "tap,id=n,script=no,downscript=no"
    mode = os.stat("/dev/net/tun").st_mode & 0o777
    if as_nobody and mode & 0o006 == 0o006:
        assert re.search(r"'owned' belongs to user 'games'.*ip tuntap", netdev(net, tap + ",ifname=owned", as_nobody))
        assert re.search(r"may not make the interface 'fresh'.*CAP_NET_ADMIN", netdev(net, tap + ",ifname=fresh", as_nobody))
    else:
        assert re.search(r"no permission for /dev/net/tun.*fd=N", netdev(net, tap + ",ifname=owned", as_nobody))
        # Root without the capability: the device opens, the interface says no.
        drop = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]
        assert re.search(r"'owned' belongs to user 'games', and this is user 'root'.*ip tuntap", netdev(net, tap + ",ifname=owned", drop))
        assert re.search(r"may not make the interface 'fresh'.*CAP_NET_ADMIN", netdev(net, tap + ",ifname=fresh", drop))
    assert re.search(r"'cable' exists and is not a TAP", netdev(net, tap + ",ifname=cable"))
    assert re.search(r"'tun0' is of kind tun", netdev(net, tap + ",ifname=tun0"))
    assert re.search(r"'many' was made with multi_queue.*queues=N", netdev(net, tap + ",ifname=many"))
    assert re.search(r"'single' was made without multi_queue", netdev(net, tap + ",ifname=single,queues=2"))
    assert re.search(r"at most 15", netdev(net, tap + ",ifname=aninterfacewithalongname"))
    assert "queues" in netdev(net, tap + ",ifname=many,queues=1000")
    assert re.search(r"cannot run script=/nonexistent/up.*script=no", netdev(net, "tap,id=n,ifname=single,script=/nonexistent/up"))
    assert re.search(r"script=/bin/false ended with status 1", netdev(net, "tap,id=n,ifname=single,script=/bin/false"))
    assert re.search(r"no bridge 'br9'.*ip link add br9", netdev(net, "bridge,id=n,br=br9,helper=/bin/true"))
    assert re.search(r"cannot run helper=/nonexistent/helper", netdev(net, "bridge,id=n,helper=/nonexistent/helper"))
    assert re.search(r"gave no interface on 'br0'", netdev(net, "bridge,id=n,br=br0,helper=/bin/true"))
    want = "needs -accel kvm" if os.path.exists("/dev/vhost-net") else r"cannot open /dev/vhost-net.*modprobe vhost_net"
    assert re.search(want, netdev(net, tap + ",ifname=single,vhost=on,vhostforce=on"))
    assert "99" in netdev(net, "tap,id=n,fd=99")
    assert "leave out" in netdev(net, "tap,id=n,fd=3,ifname=x")
    assert "addr.type" in netdev(net, "stream,id=n")
    assert "vsock" in netdev(net, "stream,id=n,addr.type=vsock")
    assert re.search(r"cannot connect to .*/none.*started", netdev(net, "stream,id=n,addr.type=unix,addr.path=/tmp/none"))
    assert "local" in netdev(net, "dgram,id=n,remote.type=inet,remote.host=127.0.0.1,remote.port=7")
    assert "exactly one" in netdev(net, "socket,id=n")
    assert "multicast" in netdev(net, "socket,id=n,mcast=10.0.0.1:7")
    assert "hostfwd" in netdev(net, "tap,id=n,ifname=single,script=no,hostfwd=tcp::1-:2")
    for props in ("rx_queue_size=100", "tx_queue_size=4096", "host_mtu=60", "duplex=most", "speed=fast", "rss=on", "failover=on"):
        assert props.split("=", 1)[0] in refused(net, "-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n," + props)
    for kind in ("hubport", "vde", "l2tpv3", "netmap", "vhost-user", "vhost-vdpa"):
        assert re.search(f"'{kind}' is not available: .*(tap|stream)", netdev(net, kind + ",id=n"))


def test_bridge_helper(net, guest, work):
    """The helper makes the interface and passes it back, as QEMU's does."""
    helper = os.path.join(work, "helper")
    with open(helper, "w", encoding="utf-8") as f:
        f.write("""#!/usr/bin/python3
import fcntl, os, socket, struct, subprocess, sys
words = dict(w.lstrip("-").split("=") for w in sys.argv[1:] if "=" in w)
assert "--use-vnet" in sys.argv, sys.argv
tap = os.open("/dev/net/tun", os.O_RDWR)
r = fcntl.ioctl(tap, 0x400454ca, struct.pack("16sH22x", b"helped%d", 0x5002))
name = r[:16].rstrip(b"\\0").decode()
subprocess.run(["ip", "link", "set", name, "master", words["br"], "up"], check=True)
s = socket.socket(fileno=int(words["fd"]))
socket.send_fds(s, [b"x"], [tap])
""")
    os.chmod(helper, 0o755)
    m = guest(UP + f"nettool send {PEER} 5001 10; nettool recv {PEER} 5001 10\n", "-netdev", f"bridge,id=n,br=br0,helper={helper}",
              "-device", "virtio-net-pci,netdev=n", wrapper=net.wrapper())
    m.wait_text("send 10 MiB", BOOT)
    m.wait_text(" ok", 5)
    m.wait_text("recv 10 MiB", 60)
    m.wait_text(" ok", 5)


def test_scripts(net, guest, work):
    """The script sets the interface up, the other one runs when the machine has ended."""
    said = os.path.join(work, "said")
    for name, action in (("up", "ip link set $1 master br0 up"), ("down", "true")):
        with open(os.path.join(work, name), "w", encoding="utf-8") as f:
            f.write(f"#!/bin/sh\n{action}\necho {name} $1 >> {said}\n")
        os.chmod(os.path.join(work, name), 0o755)
    m = guest(UP + f"ping -c 1 -W 5 {PEER} >/dev/null && echo VT ping\n", "-netdev", f"tap,id=n,ifname=own%d,script={work}/up,downscript={work}/down",
              "-device", "virtio-net-pci,netdev=n", wrapper=net.wrapper())
    m.wait_text("VT ping", BOOT, "the interface that the script set up does not work")
    m.wait(30)
    end = time.monotonic() + 10 * vmm.SLOW
    lines = []
    while len(lines) < 2 and time.monotonic() < end:
        with open(said, encoding="utf-8") as f:
            lines = f.read().splitlines()
        time.sleep(0.1)
    assert lines == ["up own0", "down own0"]
