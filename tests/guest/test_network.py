# SPDX-License-Identifier: GPL-2.0-or-later
"""The user network: DHCP, DNS, TCP both ways."""
import hashlib
import http.server
import os
import socket
import subprocess
import threading
import time

import pytest

import vmm

BOOT = 120
MODULES = ("virtio_pci", "virtio_net", "af_packet")
UP = """
cat > /tmp/dhcp.sh <<'E'
[ "$1" = bound ] || exit 0
ip addr add $ip/24 dev $interface; ip route add default via $router
echo "nameserver $dns" > /etc/resolv.conf
echo "VT dhcp $ip $router $dns" > /dev/console
E
chmod +x /tmp/dhcp.sh; mkdir -p /etc
ip link set lo up; ip link set eth0 up
udhcpc -i eth0 -n -q -s /tmp/dhcp.sh >/dev/null 2>&1 || echo "VT no lease"
"""


@pytest.fixture
def web_server():
    """A server on the host's loopback with a megabyte of noise; yields (port, digest, list of bodies posted)."""
    data = os.urandom(3 << 20)
    posted = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_POST(self):
            posted.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1], hashlib.sha256(data).hexdigest(), posted
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("bus", ["pci", "mmio"])
def test_dhcp_and_tcp_to_the_host(linux, web_server, bus):
    port, digest, posted = web_server
    script = UP + f"""
ping -c 2 -W 5 10.0.2.2 >/dev/null && echo "VT ping"
wget -q -O /tmp/data http://10.0.2.2:{port}/ && echo "VT sum $(sha256sum < /tmp/data)"
wget -q -O /dev/null --post-data=hello-from-the-guest http://10.0.2.2:{port}/ && echo "VT posted"
"""
    if bus == "pci":
        m = linux("-nic", "user,model=virtio-net-pci,mac=52:54:00:11:22:33", script=script + "cat /sys/class/net/eth0/address", modules=MODULES)
    else:
        m = linux("-machine", "microvm", "-netdev", "user,id=n", "-device", "virtio-net-device,netdev=n", script=script,
                  modules=("virtio_mmio",) + MODULES[1:])
    m.wait_text("VT dhcp 10.0.2.15 10.0.2.2 10.0.2.3", BOOT, "the guest gets no address from DHCP")
    m.wait_text("VT ping", 30, "the gateway does not answer pings")
    m.wait_text(f"VT sum {digest}", 60, "a download from the host's loopback through 10.0.2.2 fails or differs")
    m.wait_text("VT posted", 30)
    assert posted == [b"hello-from-the-guest"]
    rest = m.wait_text("VT done", 30)
    if bus == "pci":
        assert "52:54:00:11:22:33" in rest, "the card does not have the MAC address of -nic"


class NameServer(threading.Thread):
    """Answers every question for an address with 192.0.2.77 (RFC 1035; an address reserved for examples, RFC 5737)."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.names = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 53))

    def run(self):
        while True:
            query, peer = self.socket.recvfrom(512)
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1:at + 1 + query[at]].decode())
                at += 1 + query[at]
            self.names.append(".".join(labels))
            question, kind = query[12:at + 5], query[at + 1:at + 3]
            answers = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x4d" if kind == b"\x00\x01" else b""
            self.socket.sendto(query[:2] + b"\x81\x80\x00\x01" + (b"\x00\x01" if answers else b"\x00\x00") + bytes(4) + question + answers, peer)


def test_dns(linux, work):
    """The guest's questions reach the host's name server: one of our own, named in a resolv.conf that only the program sees."""
    if os.getuid():
        pytest.skip("a name server on port 53 and a private /etc/resolv.conf need root")
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("no private mount namespace can be made here (in a chroot, its root is no mount point)")
    server = NameServer("127.0.0.77")
    server.start()
    conf = os.path.join(work, "resolv.conf")
    with open(conf, "w") as f:
        f.write("nameserver 127.0.0.77\n")
    private = ["unshare", "-m", "sh", "-c", f'mount --bind {conf} "$(readlink -f /etc/resolv.conf)" && exec "$@"', "sh"]
    m = linux("-nic", "user,model=virtio-net-pci", modules=MODULES, wrapper=private, script=UP + """
nslookup guest.vireo.test 10.0.2.3 > /tmp/ns 2>&1; cat /tmp/ns; echo "VT asked"
""")
    shown = m.wait_text("VT asked", BOOT)
    assert "guest.vireo.test" in server.names, "the guest's question does not reach the host's name server" + m.tail()
    assert "192.0.2.77" in shown, "the name server's answer does not reach the guest" + m.tail()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_hostfwd(linux):
    port = free_port()
    m = linux("-netdev", f"user,id=n,hostfwd=tcp:127.0.0.1:{port}-:7000", "-device", "virtio-net-pci,netdev=n", modules=MODULES, script=UP + """
echo "VT listening"
nc -l -p 7000 < /proc/version > /tmp/in
echo "VT got $(cat /tmp/in)"
""")
    m.wait_text("VT listening", BOOT)
    end = time.monotonic() + 30 * vmm.SLOW
    answer = b""
    while not answer and time.monotonic() < end:
        try:
            with socket.create_connection(("127.0.0.1", port), 10) as s:
                s.settimeout(10)
                s.sendall(b"from the host\n")
                s.shutdown(socket.SHUT_WR)
                while chunk := s.recv(4096):
                    answer += chunk
        except OSError:
            time.sleep(0.3)
    assert answer.startswith(b"Linux version 6.1"), f"hostfwd brought {answer!r} from the guest's listener" + m.tail()
    m.wait_text("VT got from the host", 30)


def test_busy_forward_port_is_an_error(flat):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        status, _, err = vmm.run(["-accel", "jit", "-nodefaults", "-display", "none", "-kernel", flat("halt"),
                                  "-nic", f"user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:{port}-:22"])
    assert status == 1 and str(port) in err, f"a forwarded port that is taken is not an error that names it: {err}"
