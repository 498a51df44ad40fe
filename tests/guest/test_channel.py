# SPDX-License-Identifier: GPL-2.0-or-later
"""Character back ends and ports of a virtio serial device that come and go while the guest runs (chardev-add, device_add), with bytes through them."""
import array
import json
import os
import pty
import select
import socket

import pytest

import vmm

BOOT = 150
QUIET = ("-accel", "tcg" if vmm.IS_QEMU else "jit", "-m", "64", "-nodefaults", "-display", "none", "-S")


def unix(path, server=True, **more):
    return {"type": "socket", "data": {"addr": {"type": "unix", "data": {"path": path}}, "server": server, **more}}


def passed(name):
    return {"type": "socket", "data": {"addr": {"type": "fd", "data": {"str": name}}, "server": True, "wait": False}}


def pass_fd(q, fd, name):
    data = json.dumps({"execute": "getfd", "arguments": {"fdname": name}}).encode() + b"\n"
    q.sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
    assert q.reply() == {"return": {}}


def add_pty(q, name):
    """The machine opens nothing here: /dev/ptmx may be closed to it. QEMU opens one by itself."""
    if vmm.IS_QEMU:
        return q.command("chardev-add", id=name, backend={"type": "pty", "data": {}})["pty"]
    main, other = pty.openpty()
    pass_fd(q, main, "master")
    path = os.ttyname(other)
    assert q.command("chardev-add", id=name, backend={"type": "pty", "data": {"x-fd": "master"}}) == {"pty": path}
    os.close(main)
    os.close(other)
    return path


def read_until(fd, wanted, deadline=60):
    got = b""
    while wanted not in got:
        assert select.select([fd], [], [], deadline)[0], f"{wanted} never came, but {got}"
        got += os.read(fd, 4096)
    return got


SCRIPT = """
port() { for d in /sys/class/virtio-ports/vport*; do [ "$(cat $d/name)" = $1 ] && basename $d; done; }
talk() {
    await "[ -c /dev/\\$(port $1) ]"
    echo "VT $1 is $(port $1)"
    exec 3<>/dev/$(port $1)
    read line <&3
    echo "VT $1 read $line"
    echo "answer to $line" >&3
    await "! [ -e /sys/class/virtio-ports/vport0p$2 ]"
    echo "VT $1 gone"
    exec 3>&-
}
echo "VT ready"
talk org.test.first 1
talk org.test.second 1
await "[ -c /dev/hvc0 ]"
echo "VT console now"
read line </dev/hvc0
echo "VT console read $line"
echo "from the console" >/dev/hvc0
await "! [ -e /sys/class/virtio-ports/vport0p0 ]"
echo "VT console gone"
"""


def test_ports_come_and_go_in_a_running_guest(work, linux):
    m = linux("-device", "virtio-serial-pci,id=vs0", script=SCRIPT, modules=("virtio_pci", "virtio_console"), qmp=True)
    q = m.qmp
    m.wait_text("VT ready", BOOT)

    def channel(name, backend, path):
        q.command("chardev-add", id="charc0", backend=backend)
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(path)
            q.command("device_add", driver="virtserialport", id="c0", bus="vs0.0", nr=1, chardev="charc0", name=name)
            m.wait_text(f"VT {name} is vport0p1", 60, "a port that is plugged in does not appear in the guest")
            s.sendall(f"hello {name}\n".encode())
            m.wait_text(f"VT {name} read hello {name}", 60, "what the host writes into a new channel does not reach the guest")
            read_until(s.fileno(), f"answer to hello {name}\n".encode())
            busy = q.execute("chardev-remove", id="charc0")["error"]
            assert busy["class"] == "GenericError" and "charc0" in busy["desc"], busy
            q.unplug("c0")
            q.wait_event("DEVICE_DELETED")
            m.wait_text(f"VT {name} gone", 60, "a port that was taken away stays in the guest")
        q.command("chardev-remove", id="charc0")

    channel("org.test.first", unix(f"{work}/first", wait=False), f"{work}/first")
    assert not os.path.exists(f"{work}/first"), "the socket of a back end that was removed is left over"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{work}/second")
        listener.listen(1)
        pass_fd(q, listener.fileno(), "listener")
    channel("org.test.second", passed("listener"), f"{work}/second")

    path = add_pty(q, "charp0")
    q.command("device_add", driver="virtconsole", id="p0", bus="vs0.0", nr=0, chardev="charp0")
    terminal = os.open(path, os.O_RDWR | os.O_NOCTTY)
    m.wait_text("VT console now", 60, "a console that is plugged in does not appear in the guest")
    os.write(terminal, b"to the console\n")
    m.wait_text("VT console read to the console", 60)
    read_until(terminal, b"from the console")
    q.unplug("p0")
    q.wait_event("DEVICE_DELETED")
    m.wait_text("VT console gone", 60)
    q.command("chardev-remove", id="charp0")
    os.close(terminal)
    q.wait_event("SHUTDOWN", 60)


def test_a_channel_without_its_other_end_is_shown_so(work, linux):
    m = linux("-device", "virtio-serial-pci,id=vs0", "-chardev", f"socket,id=c,path={work}/s,server=on,wait=off", "-device", "virtserialport,chardev=c,nr=1,name=org.test",
              modules=("virtio_pci", "virtio_console"), qmp=True, script="""
await "[ -c /dev/vport0p1 ]"
(echo "held back" > /dev/vport0p1; echo "VT written") &
sleep 2
echo "VT ready"
wait
""")
    text = m.wait_text("VT ready", BOOT)
    assert "VT written" not in text, "what a guest writes into a channel that nobody has opened is thrown away"
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(f"{work}/s")
        read_until(s.fileno(), b"held back\n")
        m.wait_text("VT written", 60)


@pytest.mark.parametrize("name", ["port0", "disk0", "tablet0"])
def test_two_requests_to_go(machine, name):
    """The second comes while the first is being carried out: refused, or the device is gone already; never done twice."""
    m = machine(*QUIET, "-device", "virtio-serial-pci,id=vs0", "-device", "virtio-scsi-pci,id=scsi0", "-drive", "if=none,id=d0,driver=null-co,size=1M",
                "-device", "scsi-hd,id=disk0,drive=d0", "-device", "virtserialport,id=port0", "-device", "qemu-xhci", "-device", "usb-tablet,id=tablet0", qmp=True)
    q = m.qmp
    q.send_raw(b'{"execute": "device_del", "arguments": {"id": "%s"}}\n' % name.encode() * 3)
    answers = [q.reply() for _ in range(3)]
    assert "return" in answers[0], answers
    assert all(a["error"]["class"] in ("GenericError", "DeviceNotFound") for a in answers[1:]), answers
    assert q.command("query-status")["running"] is False, "the machine is gone"


def test_back_ends(machine, work):
    m = machine(*QUIET, "-chardev", "null,id=n0", "-device", "virtio-serial-pci", "-device", "virtconsole,chardev=n0", qmp=True)
    q = m.qmp
    null = {"type": "null", "data": {}}

    def refused(*words, id="x", **backend):
        e = q.execute("chardev-add", id=id, backend=backend)["error"]
        assert e["class"] == "GenericError" and all(w in e["desc"] for w in words), e

    assert q.command("chardev-add", id="a", backend=null) == {}
    refused("'a'", "already", id="a", **null)
    refused("type", "nosuch", type="nosuch", data={})
    refused("data", "missing", type="null")
    refused("bogus", "unexpected", type="null", data={"bogus": 1})
    refused("out", "missing", type="file", data={})
    refused("out", "string", type="file", data={"out": 5})
    refused("x", f"{work}/no/out", "No such file", type="file", data={"out": f"{work}/no/out"})
    refused("addr", "missing", type="socket", data={})
    refused("bogus", type="socket", data={"addr": {"type": "bogus", "data": {}}})
    refused("path", "missing", type="socket", data={"addr": {"type": "unix", "data": {}}})
    refused("nofd", **passed("nofd"))
    refused("wait", **unix(f"{work}/none", server=False, wait=True))
    refused("reconnect", **unix(f"{work}/none", reconnect=1))
    if not vmm.IS_QEMU:
        for kind in ("stdio", "udp", "ringbuf", "mux", "vc"):
            refused(f"'{kind}'", type=kind, data={})
        refused("tls-creds", "not there", **unix(f"{work}/none", **{"tls-creds": "t"}))
        refused("logfile", "not there", type="null", data={"logfile": f"{work}/log"})
        pass_fd(q, 0, "nothing")
        refused("nothing", "master", type="pty", data={"x-fd": "nothing"})
    with open(f"{work}/log", "w", encoding="ascii") as f:
        f.write("before\n")
    q.command("chardev-add", id="f", backend={"type": "file", "data": {"out": f"{work}/log", "append": True}})
    assert os.path.getsize(f"{work}/log") == 7
    q.command("chardev-add", id="g", backend={"type": "file", "data": {"out": f"{work}/log"}})
    assert os.path.getsize(f"{work}/log") == 0
    q.command("chardev-add", id="s", backend=unix(f"{work}/s")) # server and not waiting, as it is QEMU's default
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(f"{work}/s")
    labels = {c["label"]: c["frontend-open"] for c in q.command("query-chardev")}
    assert {k: labels[k] for k in ("a", "f", "g", "s", "n0")} == {"a": False, "f": False, "g": False, "s": False, "n0": True}
    for name in "afgs":
        assert q.command("chardev-remove", id=name) == {}
    for name in ("a", "n0", "compat_monitor0"):
        e = q.execute("chardev-remove", id=name)["error"]
        assert e["class"] == "GenericError" and f"'{name}'" in e["desc"], e
    assert not os.path.exists(f"{work}/s")
    q.command("chardev-add", id="last", backend=unix(f"{work}/last"))
    q.command("quit")
    m.wait(20)
    assert not os.path.exists(f"{work}/last"), "the socket of a back end that QMP made is left over at the end"


@pytest.mark.skipif(vmm.IS_QEMU, reason="QEMU's sandbox lets files be opened")
def test_what_the_sandbox_leaves(machine, work):
    """Each is made, or refused by name, and the machine lives on; with a file system of terminals that is open to everybody, as hosts have it."""
    terminals = ("unshare", *(() if os.geteuid() == 0 else ("-r",)), "-m", "sh", "-c", 'mount -t devpts -o newinstance,ptmxmode=0666,mode=600 devpts /dev/pts && exec "$@"', "sh")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{work}/listener")
        listener.listen(1)
        for sandbox, makes in (("on,files=off", ()), ("on,files=on", ("pty", "file", "unix")), ("off", ("pty", "file", "unix", "client", "tcp", "again"))):
            q = machine(*QUIET, "-sandbox", sandbox, qmp=True, wrapper=terminals).qmp
            tries = {"pty": {"type": "pty", "data": {}}, "file": {"type": "file", "data": {"out": f"{work}/out"}}, "unix": unix(f"{work}/made"),
                     "client": unix(f"{work}/listener", server=False), "again": unix(f"{work}/none", server=False, reconnect=1),
                     "tcp": {"type": "socket", "data": {"addr": {"type": "inet", "data": {"host": "127.0.0.1", "port": "0"}}}}}
            for name, backend in tries.items():
                answer = q.execute("chardev-add", id=name, backend=backend)
                if name in makes:
                    assert "return" in answer, (sandbox, name, answer)
                    assert q.command("chardev-remove", id=name) == {}
                else:
                    assert "sandbox" in answer["error"]["desc"], (sandbox, name, answer)
            assert q.command("query-status")["running"] is False
