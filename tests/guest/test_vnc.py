# SPDX-License-Identifier: GPL-2.0-or-later
"""The VNC server: viewers see what the guest shows, type and point; who gets in; what QMP tells; what hostile clients do."""
import contextlib
import os
import random
import socket
import struct
import time

import pytest

import rfb
import vmm
from rfb import Viewer
from test_display import BOOT, EVENTS, MODULES, screendump, seen_events, ppm

BARE = ("-S", "-nodefaults", "-serial", "null", "-name", "seen from afar")


def start(machine, work, *args, vnc="", **kwargs):
    path = f"{work}/vnc"
    m = machine(*BARE, "-vnc", f"unix:{path}{vnc}", *args, qmp=True, **kwargs)
    assert m.qmp.command("query-status")["status"] == "prelaunch"
    return m, path


def same_picture(viewer, dump):
    """Whether a viewer shows what a screendump holds."""
    width, height, pixels = viewer.picture()
    rgb = bytearray(width * height * 3)
    rgb[0::3], rgb[1::3], rgb[2::3] = pixels[2::4], pixels[1::4], pixels[0::4]
    return (width, height, bytes(rgb)) == ppm(dump)


def test_viewer_sees_types_and_points(linux, work):
    m = linux("-vnc", f"unix:{work}/vnc,audiodev=a", "-device", "virtio-gpu-pci,xres=800,yres=600", "-device", "virtio-tablet-pci", kernel="generic",
              modules=MODULES, qmp=True, script=EVENTS + """
echo "VT shown"
events "AT Translated" 40; events "Vireo virtio tablet" 9
for i in 1 2 3; do echo "a line on the screen" > /dev/tty1; done; echo "VT written"; read x
""")
    m.qmp.command("query-status")
    v = Viewer(f"{work}/vnc", encodings=(0, rfb.RESIZE, rfb.KEYS, rfb.POINTER))
    assert (v.width, v.height) == (640, 480)
    m.wait_text("VT shown", BOOT)
    v.request(incremental=True)
    while rfb.RESIZE not in v.update():
        v.request(incremental=True)
    assert (v.width, v.height) == (800, 600), "the viewer does not learn the guest's mode"
    assert v.scan_codes and v.absolute is not None
    v.settle()
    m.wait_text("VT ready", BOOT)
    for _ in range(7):
        v.type(0xffe1, ord("A"))
        v.scan_code(0xc8, True)
        v.scan_code(0xc8, False)
        time.sleep(0.1)  # the kernel keeps 64 events for a reader
    got = [(c, value) for t, c, value in seen_events(m.wait_text("VT end", 30)) if t == 1]
    assert got[:6] == [(42, 1), (30, 1), (30, 0), (42, 0), (103, 1), (103, 0)], f"what is typed arrives as {got}"
    m.wait_text("VT ready", BOOT)
    v.request(incremental=True)
    while not v.absolute:
        v.update()
    v.settle()
    v.pointer(0, 0)
    v.pointer(799, 599)
    v.pointer(400, 300, 1)
    v.pointer(400, 300, 0)
    got = seen_events(m.wait_text("VT end", 30))
    assert [e for e in got if e[0] == 3][:2] == [(3, 0, 0x7fff), (3, 1, 0x7fff)] and (1, 272, 1) in got, f"the pointer arrives as {got}"
    m.wait_text("VT written", 30)
    end = time.monotonic() + 10 * vmm.SLOW
    while not same_picture(v, screendump(m, work)) or not any(v.pixels):  # the kernel's console reaches the card a little later, and its cursor blinks
        if time.monotonic() < end:
            time.sleep(0.1)
            continue
        m.fail("the viewer's picture is not the guest's" if any(v.pixels) else "the picture is black")


def test_what_qmp_tells(machine, work):
    m, path = start(machine, work)
    server = {"host": "", "service": path, "family": "unix", "websocket": False, "auth": "none"}
    assert m.qmp.command("query-vnc") == {"enabled": True, "host": "", "service": path, "family": "unix", "auth": "none", "clients": []}
    v = Viewer(path)
    assert v.name == "seen from afar"
    client = {"host": "", "service": "", "family": "unix", "websocket": False}
    for name in ("VNC_CONNECTED", "VNC_INITIALIZED"):
        assert m.qmp.wait_event(name)["data"] == {"server": server, "client": client}
    assert m.qmp.command("query-vnc-servers") == [{"id": "default", "auth": "none", "server": [server], "clients": [client]}]
    v.close()
    assert m.qmp.wait_event("VNC_DISCONNECTED")["data"]["client"] == client
    assert m.qmp.command("query-vnc")["clients"] == []
    here, there = socket.socketpair()
    with here, there:
        socket.send_fds(m.qmp.sock, [b'{"execute": "getfd", "arguments": {"fdname": "viewer"}}\n'], [there.fileno()])
        assert m.qmp.reply() == {"return": {}}
        m.qmp.command("add_client", protocol="vnc", fdname="viewer", skipauth=True)
        assert Viewer(None, sock=here).picture()[:2] == (640, 480)
    m.qmp.command("quit")
    m.wait(20)
    assert not os.path.exists(path), "the socket stays behind"


@pytest.mark.parametrize("vnc", ["none", "none,audiodev=x"])
def test_server_that_listens_nowhere(machine, vnc):
    """A viewer comes by a descriptor, as virt-viewer does where libvirt's document has <listen type='none'/>."""
    m = machine(*BARE, "-vnc", vnc, qmp=True)
    assert m.qmp.command("query-vnc") == {"enabled": False}
    assert m.qmp.command("query-vnc-servers") == [{"id": "default", "auth": "none", "server": [], "clients": []}]
    here, there = socket.socketpair()
    with here, there:
        socket.send_fds(m.qmp.sock, [b'{"execute": "getfd", "arguments": {"fdname": "viewer"}}\n'], [there.fileno()])
        assert m.qmp.reply() == {"return": {}}
        m.qmp.command("add_client", protocol="vnc", fdname="viewer")
        assert Viewer(None, sock=here).picture()[:2] == (640, 480)
    assert m.qmp.wait_event("VNC_DISCONNECTED")["data"]["client"]["family"] == "unix"


def test_tcp(machine, work):
    m = machine(*BARE, "-vnc", "127.0.0.1:200,to=240", qmp=True)
    servers = m.qmp.command("query-vnc-servers")
    port = int(servers[0]["server"][0]["service"])
    assert servers[0]["server"][0]["host"] == "127.0.0.1" and servers[0]["server"][0]["family"] == "ipv4" and 6100 <= port <= 6140
    v = Viewer(("127.0.0.1", port))
    peer = m.qmp.wait_event("VNC_INITIALIZED")["data"]["client"]
    assert peer == {"host": "127.0.0.1", "service": str(v.sock.getsockname()[1]), "family": "ipv4", "websocket": False}
    v.close()
    second = vmm.run([*BARE, "-vnc", f"127.0.0.1:{port - 5900}"])
    assert second[0] == 1 and "Address already in use" in second[2]


def test_passwords(machine, work):
    m, path = start(machine, work, vnc=",password=on")

    def gets_in(password):
        try:
            Viewer(path, password).close()
            return True
        except rfb.Refused:
            return False
    assert not gets_in("") and not gets_in("secret"), "somebody gets in before there is a password"
    with pytest.raises(rfb.Refused):
        Viewer(path)
    m.qmp.command("set_password", protocol="vnc", password="secret")
    assert gets_in("secret") and not gets_in("Secret")
    assert m.qmp.command("query-vnc")["auth"] == "vnc"
    m.qmp.command("expire_password", protocol="vnc", time="now")
    assert not gets_in("secret"), "an expired password lets somebody in"
    m.qmp.command("expire_password", protocol="vnc", time="+1000")
    assert gets_in("secret")
    m.qmp.command("change-vnc-password", password="another")
    assert gets_in("another") and not gets_in("secret")
    m.qmp.command("expire_password", protocol="vnc", time="never")
    challenges = set()
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(path)
            s.sendall(b"RFB 003.008\n\2")
            s.settimeout(20 * vmm.SLOW)
            data = b""
            while len(data) < 12 + 2 + 16:
                data += s.recv(100)
            challenges.add(data[14:])
    assert len(challenges) == 3, "a challenge comes twice"
    assert m.qmp.execute("set_password", protocol="vnc", password="x", connected="disconnect")["error"]["desc"] == "Invalid parameter 'connected'"
    assert m.qmp.execute("set_password", protocol="spice", password="x")["error"] == {"class": "DeviceNotActive", "desc": "SPICE is not in use"}
    m2 = machine(*BARE, "-object", "secret,id=s,data=initial", "-vnc", f"unix:{work}/vnc2,password-secret=s", qmp=True)
    m2.qmp.command("query-status")
    path = f"{work}/vnc2"
    assert gets_in("initial") and not gets_in("secret")


def test_refusals(machine, work):
    for option, reason in ((":1,websocket=on", "WebSocket"), (":1,tls-creds=x", "TLS"), ("127.0.0.1", "HOST:NUMBER"), (":99999", "HOST:NUMBER"),
                           (f"unix:/{'x' * 200}", "107"), (":1,pasword=on", "password"), ("unix:/nowhere/at/all", "No such file")):
        status, _, err = vmm.run([*BARE, "-vnc", option])
        assert status == 1 and reason in err and err.count("\n") == 1, err
    m = machine(*BARE, "-display", "none", qmp=True)
    assert m.qmp.command("query-vnc") == {"enabled": False} and m.qmp.command("query-vnc-servers") == []
    for name, arguments, desc in (("set_password", {"protocol": "vnc", "password": "x"}, "Could not set password"),
                                  ("change-vnc-password", {"password": "x"}, "Could not set password"),
                                  ("expire_password", {"protocol": "vnc", "time": "now"}, "Could not set password expire time")):
        assert m.qmp.execute(name, **arguments)["error"] == {"class": "GenericError", "desc": desc}
    with open(f"/proc/{m.process.pid}/maps", encoding="ascii") as f:
        assert "vnc" not in f.read(), "a machine without a VNC server carries its library"


def test_hostile_clients(machine, work):
    """Clients that send nonsense, say nothing, or do not read: the machine and other viewers go on."""
    m, path = start(machine, work)
    rng = random.Random(7)
    silent = []
    for _ in range(3):
        s = socket.socket(socket.AF_UNIX)
        s.connect(path)
        silent.append(s)
    for i in range(40):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(path)
            s.sendall(b"RFB 003.008\n\1\1" if i % 2 else b"RFB 003.003\n\1")
            body = bytes([rng.choice((0, 2, 3, 4, 5, 6, 8, 200, 249, 250, 251, 252, 255))]) + bytes(rng.randrange(256) for _ in range(rng.randrange(64)))
            s.sendall(body + struct.pack(">BxxxI", 6, 0xffffffff if i % 3 else 0x7fffffff))
    v = Viewer(path)
    assert v.picture()[:2] == (640, 480)
    greedy = Viewer(path)
    with contextlib.suppress(ConnectionError):  # it is thrown out in the end
        for _ in range(200):
            greedy.request()  # and never reads
    assert m.qmp.command("query-status")["status"] == "prelaunch", "the machine waits for a viewer that does not read"
    for s in silent:
        s.close()
    for _ in range(40):
        s = socket.socket(socket.AF_UNIX)
        s.connect(path)
        silent.append(s)
    greedy.close()
    v.close()
    for s in silent:
        s.close()
    assert Viewer(path).picture()[:2] == (640, 480)
    with open(f"/proc/{m.process.pid}/status", encoding="ascii") as f:
        resident = next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))
    assert resident < 150 << 10, f"{resident} KiB are resident after what clients sent"
    assert m.running() and not m.stderr(), m.stderr()
    drip = socket.socket(socket.AF_UNIX)  # half a message: the end of the machine does not wait for the rest
    drip.connect(path)
    drip.sendall(b"RFB 003.008\n\1\1\3\0")
    m.qmp.command("quit")
    m.wait(20)
    drip.close()
