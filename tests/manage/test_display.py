# SPDX-License-Identifier: GPL-2.0-or-later
"""What a person sees and touches of a domain on vireo-vmm: VNC ports and passwords, pictures, viewers by a descriptor, keys, input devices that come and go."""
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib

import pytest

from conftest import BUILD, Vireod
from limits import SLOW

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "guest"))
import rfb  # noqa: E402

DOMAIN = """<domain type='kvm'><name>{name}</name><memory unit='MiB'>128</memory><os><type machine='q35'>hvm</type></os><features><acpi/></features><devices>
<controller type='usb' model='qemu-xhci' ports='8'/>{devices}<serial type='null'/></devices></domain>"""
VNC = "<graphics type='vnc'{more}/><video><model type='{video}'/></video><input type='tablet' bus='usb'/>"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    daemon = Vireod(tmp_path_factory.mktemp("vireod"))
    yield daemon
    for name in daemon.virsh("list", "--name").split():
        daemon.virsh("destroy", name)
    daemon.stop()


@pytest.fixture
def create(daemon, tmp_path):
    """Starts a domain, which is gone after the test."""
    names = []

    def start(name, devices, status=0):
        (tmp_path / f"{name}.xml").write_text(DOMAIN.format(name=name, devices=devices))
        out = daemon.virsh("create", tmp_path / f"{name}.xml", status=status)
        if not status:
            names.append(name)
        return out
    yield start
    for name in names:
        daemon.virsh("destroy", name, status=None)


def wait_for(what, condition, seconds=30):
    until = time.monotonic() + seconds * SLOW
    while not condition():
        assert time.monotonic() < until, f"{what} did not happen within {seconds} s"
        time.sleep(0.1)


def greeting(address):
    with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as s:
        s.settimeout(20 * SLOW)
        s.connect(address)
        return s.recv(12)


def png_size(path):
    """Width and height of a PNG whose checks are right."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    size, kind = struct.unpack(">I4s", data[8:16])
    assert kind == b"IHDR" and zlib.crc32(data[12:16 + size]) == struct.unpack(">I", data[16 + size:20 + size])[0]
    return struct.unpack(">II", data[16:24])


def test_socket_of_its_own(daemon, create):
    """A display that is to listen at a socket, which the document does not name, gets one beside the monitor's, and no TCP port."""
    create("own", "<graphics type='vnc'><listen type='socket'/></graphics><video><model type='vga'/></video>")
    shown = daemon.virsh("domdisplay", "own").strip()
    assert shown.startswith("vnc+unix:///") and shown.endswith("-own/vnc.sock")
    path = shown[len("vnc+unix://"):]
    assert greeting(path).startswith(b"RFB ")
    assert f"socket='{path}'" in daemon.virsh("dumpxml", "own") and "vnc.sock" not in daemon.virsh("dumpxml", "own", "--migratable")
    daemon.virsh("destroy", "own")
    assert not os.path.exists(path)


@pytest.mark.parametrize("video", ["virtio", "vga"])
def test_picture_of_the_firmware(daemon, create, tmp_path, video):
    create("a", VNC.format(more="", video=video))
    shot = tmp_path / "shot.png"
    wait_for("a picture that the firmware has written to", lambda: "image/png" in daemon.virsh("screenshot", "a", shot) and shot.stat().st_size > 1500)
    assert png_size(shot) in ((720, 400), (640, 480))
    assert "no screen 1" in daemon.virsh("screenshot", "a", shot, "--screen", 1, status=1)


def test_two_domains_have_two_ports(daemon, create):
    create("a", VNC.format(more="", video="vga"))
    create("b", VNC.format(more=" port='-1' autoport='yes'", video="bochs"))
    ports = []
    for name in "ab":
        shown = daemon.virsh("vncdisplay", name).strip()
        assert shown.startswith("127.0.0.1:")
        assert daemon.virsh("domdisplay", name).strip() == f"vnc://{shown}"
        ports.append(int(shown.split(":")[1]))
        assert greeting(("127.0.0.1", 5900 + ports[-1])).startswith(b"RFB 003.")
    assert ports[0] != ports[1]


def test_two_that_start_at_once_have_two_ports(daemon, create, tmp_path):
    """Both command lines are made before either machine listens."""
    slow = tmp_path / "slow"
    slow.write_text(f"#!/bin/sh\ncase \"$*\" in *guest=*) sleep 3;; esac\nexec {BUILD}/vireo-vmm \"$@\"\n")
    slow.chmod(0o755)
    threads = [threading.Thread(target=create, args=(name, f"<emulator>{slow}</emulator>" + VNC.format(more="", video="vga"))) for name in "ab"]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    ports = {int(daemon.virsh("vncdisplay", name).strip().split(":")[1]) for name in "ab"}
    assert len(ports) == 2
    for port in ports:
        assert greeting(("127.0.0.1", 5900 + port)).startswith(b"RFB 003.")


def test_socket_of_a_display(daemon, create, tmp_path):
    path = tmp_path / "vnc.sock"
    create("a", VNC.format(more=f" socket='{path}'", video="vga"))
    assert greeting(str(path)).startswith(b"RFB 003.")
    assert daemon.virsh("domdisplay", "a").strip() == f"vnc+unix://{path}"


def test_passwords(daemon, create, tmp_path):
    create("a", VNC.format(more=" passwd='pw-one'", video="vga"))
    port = 5900 + int(daemon.virsh("vncdisplay", "a").strip().split(":")[1])
    rfb.Viewer(("127.0.0.1", port), password="pw-one").close()
    (tmp_path / "g.xml").write_text(f"<graphics type='vnc' port='{port}' autoport='yes' listen='127.0.0.1' passwd='pw-two'/>")
    daemon.virsh("update-device", "a", tmp_path / "g.xml")
    with pytest.raises(rfb.Refused):
        rfb.Viewer(("127.0.0.1", port), password="pw-one")
    rfb.Viewer(("127.0.0.1", port), password="pw-two").close()
    assert "pw-two" not in daemon.virsh("dumpxml", "a") and "passwd='pw-two'" in daemon.virsh("dumpxml", "a", "--security-info")
    before = daemon.virsh("dumpxml", "a", "--security-info")
    (tmp_path / "g.xml").write_text(re.search("<graphics .*?</graphics>", daemon.virsh("dumpxml", "a"), re.S).group())
    daemon.virsh("update-device", "a", tmp_path / "g.xml", "--live")
    (tmp_path / "g.xml").write_text(f"<graphics type='vnc' port='{port}' autoport='yes' listen='127.0.0.1' keymap='de' passwd='pw-two'/>")
    assert "keymap cannot change" in daemon.virsh("update-device", "a", tmp_path / "g.xml", "--live", status=1)
    assert daemon.virsh("dumpxml", "a", "--security-info") == before, "what was not asked for, or refused, has changed"
    (tmp_path / "g.xml").write_text(f"<graphics type='vnc' port='{port}' autoport='yes' listen='127.0.0.1' passwd='pw-3rd' passwdValidTo='2001-01-01T00:00:00'/>")
    daemon.virsh("update-device", "a", tmp_path / "g.xml")
    with pytest.raises(rfb.Refused):
        rfb.Viewer(("127.0.0.1", port), password="pw-3rd")


VIEWER = """
import libvirt, os, socket, sys, threading
libvirt.virEventRegisterDefaultImpl()
def loop():
    while True: libvirt.virEventRunDefaultImpl()
threading.Thread(target=loop, daemon=True).start()
c = libvirt.open(sys.argv[1]); d = c.lookupByName("a")
seen, gone = [], threading.Event()
def event(conn, dom, phase, local, remote, scheme, subject, opaque):
    seen.append((phase, scheme, sorted(local)))
    if phase == libvirt.VIR_DOMAIN_EVENT_GRAPHICS_DISCONNECT: gone.set()
c.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_GRAPHICS, event, None)
s = socket.socket(fileno=d.openGraphicsFD(0, libvirt.VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH)); s.settimeout(40)
print(s.recv(12)); s.send(b"RFB 003.008\\n"); n = s.recv(1)[0]; print("methods", list(s.recv(n)))
s.send(b"\\1"); print("security", s.recv(4)); s.send(b"\\1"); print("size", int.from_bytes(s.recv(2), "big") > 0)
s.close(); print("gone", gone.wait(40)); print("phases", [p for p, *_ in seen])
mine, other = socket.socketpair(); d.openGraphics(0, other.fileno(), libvirt.VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH); other.close()
mine.settimeout(40); print("second", mine.recv(12))
try: d.openGraphicsFD(3, 0)
except libvirt.libvirtError as e: print(e)
"""


DESCRIPTOR = """
import libvirt, socket, sys
d = libvirt.open(sys.argv[1]).lookupByName("nowhere")
s = socket.socket(fileno=d.openGraphicsFD(0))
s.settimeout(40); print(s.recv(12))
"""


def test_viewer_by_descriptor_and_events(daemon, create):
    """What virt-manager and virt-viewer do: no port is asked for, and the password is not when the caller may skip it."""
    create("a", VNC.format(more=" passwd='hidden'", video="vga"))
    done = subprocess.run([sys.executable, "-c", VIEWER, daemon.uri], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60 * SLOW, check=False)
    out = done.stdout
    assert done.returncode == 0 and out.count("RFB 003.") == 2, out
    assert "methods [1]" in out and "size True" in out and "gone True" in out and "phases [0, 1, 2]" in out and "index 3" in out, out


def test_display_that_listens_nowhere(daemon, create):
    """<listen type='none'/>: no port and no socket, and viewers come by descriptors all the same."""
    create("nowhere", "<graphics type='vnc'><listen type='none'/></graphics><video><model type='vga'/></video>")
    text = daemon.virsh("dumpxml", "nowhere")
    assert "<listen type='none'/>" in text and " port=" not in text.split("<graphics ")[1].split(">")[0]
    done = subprocess.run([sys.executable, "-c", DESCRIPTOR, daemon.uri], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60 * SLOW, check=False)
    assert done.returncode == 0 and "RFB 003." in done.stdout, done.stdout
    daemon.virsh("destroy", "nowhere")


def test_keys(daemon, create):
    create("a", VNC.format(more="", video="vga"))
    for words in (["KEY_LEFTCTRL", "KEY_LEFTALT", "KEY_DELETE"], ["--codeset", "usb", "0x4c"], ["--codeset", "atset1", "0x1e"], ["--codeset", "qnum", "0xc8"],
                  ["--codeset", "xt", "--holdtime", "10", "30"]):
        daemon.virsh("send-key", "a", *words)
    assert "cannot be sent" in daemon.virsh("send-key", "a", "--codeset", "os_x", 1, status=1)
    assert "no key for code 200" in daemon.virsh("send-key", "a", "200", status=1)


@pytest.mark.parametrize("bus", ["usb", "virtio"])
def test_input_comes_and_goes(daemon, create, tmp_path, bus):
    ports = "".join(f"<controller type='pci' index='{i}' model='pcie-root-port'/>" for i in range(1, 6))
    create("a", ports + VNC.format(more="", video="vga"))
    (tmp_path / "i.xml").write_text(f"<input type='keyboard' bus='{bus}'/>")
    before = daemon.virsh("dumpxml", "a")
    daemon.virsh("attach-device", "a", tmp_path / "i.xml")
    assert f"<input type='keyboard' bus='{bus}'>" in daemon.virsh("dumpxml", "a")
    daemon.virsh("detach-device", "a", tmp_path / "i.xml")
    if bus == "usb":  # a PCI device waits for a guest that lets go
        wait_for("the keyboard gone", lambda: daemon.virsh("dumpxml", "a") == before)
    (tmp_path / "i.xml").write_text("<input type='keyboard' bus='ps2'/>")
    assert "while the machine runs" in daemon.virsh("attach-device", "a", tmp_path / "i.xml", status=1)


def test_capabilities_name_what_is_there(daemon):
    caps = daemon.virsh("domcapabilities")
    for word in ("<value>vnc</value>", "<value>vga</value>", "<value>virtio</value>", "<value>bochs</value>", "<value>usb</value>"):
        assert word in caps, word
    for word in ("<value>spice</value>", "<value>qxl</value>", "<redirdev supported='yes'"):
        assert word not in caps, word


def test_what_is_not_there_is_named(create):
    for devices, words in ((VNC.format(more="", video="qxl"), "virtio"), ("<graphics type='spice'/>", "vnc"), (VNC.format(more=" websocket='5999'", video="vga"), "websockify")):
        assert words in create("x", devices, status=1)


def test_displays_of_qemu(daemon, tmp_path):
    """What <graphics> says reaches a QEMU: a port for viewers in browsers, and SPICE's password, without which nobody comes in."""
    qemu = "/usr/bin/qemu-system-x86_64"
    if not os.path.exists(qemu):
        pytest.skip(f"{qemu} is not installed")
    devices = f"<emulator>{qemu}</emulator><graphics type='vnc' websocket='-1'/><graphics type='spice' autoport='yes' passwd='secret'/>"
    (tmp_path / "q.xml").write_text(DOMAIN.format(name="q", devices=devices).replace("type='kvm'", "type='qemu'", 1))
    daemon.virsh("create", "--paused", tmp_path / "q.xml")
    try:
        port = int(re.search(r"websocket='(\d+)'", daemon.virsh("dumpxml", "q"))[1])
        assert 5700 <= port < 5900
        with socket.create_connection(("127.0.0.1", port), timeout=20 * SLOW) as s:
            s.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
                      b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: binary\r\n\r\n")
            assert s.recv(100).startswith(b"HTTP/1.1 101 ")
        assert '"auth":"spice"' in daemon.virsh("qemu-monitor-command", "q", '{"execute":"query-spice"}')
    finally:
        daemon.virsh("destroy", "q")
    for more, words in (("tlsPort='5990' autoport='no'/>", "TLS"), (" autoport='yes'><gl enable='yes'/></graphics>", "3D")):
        (tmp_path / "q.xml").write_text(DOMAIN.format(name="q", devices=f"<emulator>{qemu}</emulator><graphics type='spice' {more}"))
        assert words in daemon.virsh("create", tmp_path / "q.xml", status=1)
