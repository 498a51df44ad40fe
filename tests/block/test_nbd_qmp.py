# SPDX-License-Identifier: GPL-2.0-or-later
"""The NBD server of a machine over QMP, and I/O limits: QEMU's arguments, errors and events. The guest does not run."""
import json
import os
import socket
import struct
import subprocess
import sys
import time

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "guest"))
import vmm  # noqa: E402

MIB = 1 << 20


def run(*argv, ok=True):
    p = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert not ok or p.returncode == 0, f"{' '.join(argv)}: {p.stdout}{p.stderr}"
    return p.stdout + p.stderr


@pytest.fixture
def disk(tmp_path):
    path = str(tmp_path / "d.qcow2")
    run("qemu-img", "create", "-q", "-f", "qcow2", path, "64M")
    run("qemu-io", "-c", "write -P 7 0 1M", path)
    return path


@pytest.fixture
def kernel(tmp_path):
    """A multiboot kernel that halts: 32 bytes of header with addresses, then cli; hlt."""
    path = str(tmp_path / "kernel")
    flags = 1 << 16
    with open(path, "wb") as f:
        f.write(struct.pack("<8I", 0x1BADB002, flags, -(0x1BADB002 + flags) & 0xffffffff, 0x100000, 0x100000, 0, 0, 0x100020) + b"\xfa\xf4\xeb\xfd")
    return path


@pytest.fixture
def start(tmp_path, kernel):
    machines = []

    def go(*args):
        m = vmm.Machine(["-M", "q35", "-m", "64", "-S", "-nographic", "-nodefaults", "-kernel", kernel, *args], str(tmp_path / f"log{len(machines)}"),
                        qmp_path=str(tmp_path / f"qmp{len(machines)}"))
        machines.append(m)
        return m
    yield go
    for m in machines:
        m.kill()


def error_of(q, name, /, **arguments):
    reply = q.execute(name, **arguments)
    assert "error" in reply, reply
    return reply["error"]["desc"]


def drive(path):
    return ("-blockdev", f"driver=qcow2,node-name=n0,file.driver=file,file.filename={path}", "-device", "virtio-blk-pci,drive=n0,id=v0")


def unix(path):
    return {"type": "unix", "data": {"path": path}}


def test_server_and_exports(start, disk, tmp_path):
    m = start(*drive(disk))
    q = m.qmp
    sock = str(tmp_path / "nbd")
    assert error_of(q, "nbd-server-add", device="n0") == "NBD server not running"
    assert error_of(q, "nbd-server-stop") == "NBD server not running"
    assert error_of(q, "nbd-server-remove", name="x") == "NBD server not running"
    assert q.command("query-block-exports") == []
    q.command("nbd-server-start", addr=unix(sock))
    assert error_of(q, "nbd-server-start", addr=unix(sock)) == "NBD server already running"
    assert error_of(q, "nbd-server-add", device="nix") == "Cannot find device='nix' nor node-name='nix'"
    assert error_of(q, "block-export-add", type="nbd", id="e", **{"node-name": "nix"}) == "Cannot find device='' nor node-name='nix'"
    assert error_of(q, "block-export-add", type="nbd", id="0e", **{"node-name": "n0"}) == "Invalid block export id"
    assert "fuse" in error_of(q, "block-export-add", type="fuse", id="e", **{"node-name": "n0"})
    assert error_of(q, "block-export-add", type="nbd", id="e", bitmaps=["b"], **{"node-name": "n0"}) == "Bitmap 'b' is not found"
    q.command("nbd-server-add", device="n0", writable=True)
    assert error_of(q, "nbd-server-add", device="n0") == "Block export id 'n0' is already in use"
    q.command("block-export-add", type="nbd", id="ro", name="read only", description="of the test", **{"node-name": "n0"})
    assert error_of(q, "block-export-add", type="nbd", id="other", name="n0", **{"node-name": "n0"}) == "NBD server already has export named 'n0'"
    assert sorted(e["id"] for e in q.command("query-block-exports")) == ["n0", "ro"]
    assert q.command("query-block-exports")[0] == {"node-name": "n0", "shutting-down": False, "type": "nbd", "id": "n0"}
    uri = f"nbd+unix:///n0?socket={sock}"
    run("qemu-io", "-f", "raw", "-c", "read -P 7 0 1M", "-c", "write -P 8 2M 64k", "-c", "flush", uri)
    assert "is_read_only: true" in run("nbdinfo", f"nbd+unix:///read%20only?socket={sock}")
    # In use: only by force.
    client = subprocess.Popen(["qemu-io", "-f", "raw", uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    client.stdin.write("read 0 512\n")
    client.stdin.flush()
    assert "512" in client.stdout.readline() + client.stdout.readline()
    assert "still in use" in error_of(q, "nbd-server-remove", name="n0")
    q.command("nbd-server-remove", name="n0", mode="hard")
    assert q.wait_event("BLOCK_EXPORT_DELETED")["data"] == {"id": "n0"}
    client.communicate("read 0 512\nquit\n", timeout=30)
    assert error_of(q, "block-export-del", id="n0") == "Export 'n0' is not found"
    q.command("nbd-server-stop")
    assert q.wait_event("BLOCK_EXPORT_DELETED")["data"] == {"id": "ro"}
    assert q.command("query-block-exports") == [] and not os.path.exists(sock)
    q.command("nbd-server-start", addr=unix(sock))
    q.command("quit")
    m.wait()
    run("qemu-io", "-c", "read -P 8 2M 64k", disk)
    run("qemu-img", "check", disk)


def test_read_only_nodes(start, disk, tmp_path):
    q = start("-blockdev", f"driver=qcow2,node-name=n0,read-only=on,file.driver=file,file.filename={disk}").qmp
    sock = str(tmp_path / "nbd")
    q.command("nbd-server-start", addr=unix(sock))
    assert "read-only" in error_of(q, "block-export-add", type="nbd", id="e", writable=True, **{"node-name": "n0"})
    q.command("nbd-server-add", device="n0", writable=True)
    assert "is_read_only: true" in run("nbdinfo", f"nbd+unix:///n0?socket={sock}")
    assert "in use" in error_of(q, "blockdev-del", **{"node-name": "n0"})
    q.command("nbd-server-stop")
    q.command("blockdev-del", **{"node-name": "n0"})


def test_a_listening_socket_by_descriptor(start, disk, tmp_path):
    """What the sandbox does not let the machine make itself is given to it."""
    m = start(*drive(disk))
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    port = listener.getsockname()[1]
    refusal = error_of(m.qmp, "nbd-server-start", addr={"type": "inet", "data": {"host": "127.0.0.1", "port": "0"}})
    assert "getfd" in refusal and "-sandbox off" in refusal
    m.qmp.sock.sendmsg([json.dumps({"execute": "getfd", "arguments": {"fdname": "nbd"}}).encode()],
                       [(socket.SOL_SOCKET, socket.SCM_RIGHTS, listener.fileno().to_bytes(4, "little"))])
    assert "return" in m.qmp.reply()
    listener.close()
    m.qmp.command("nbd-server-start", addr={"type": "fd", "data": {"str": "nbd"}}, **{"max-connections": 8})
    m.qmp.command("block-export-add", type="nbd", id="e", name="e", **{"node-name": "n0"})
    run("qemu-io", "-r", "-f", "raw", "-c", "read -P 7 0 1M", f"nbd://127.0.0.1:{port}/e")
    m.qmp.command("quit")
    m.wait()


def test_machine_on_an_nbd_server(start, disk, tmp_path):
    """One machine's disk is another one's export; the server goes away and comes back."""
    sock = str(tmp_path / "nbd")
    server = start(*drive(disk))
    server.qmp.command("nbd-server-start", addr=unix(sock))
    server.qmp.command("nbd-server-add", device="n0", writable=True)
    client = start("-blockdev", f"driver=nbd,node-name=far,server.type=unix,server.path={sock},export=n0,reconnect-delay=10",
                   "-device", "virtio-blk-pci,drive=far,id=v0")
    inserted = client.qmp.command("query-block")[0]["inserted"]
    assert inserted["drv"] == "nbd" and inserted["image"]["virtual-size"] == 64 * MIB
    sock2 = str(tmp_path / "nbd2")
    client.qmp.command("nbd-server-start", addr=unix(sock2))
    client.qmp.command("nbd-server-add", device="far", writable=True)
    run("qemu-io", "-f", "raw", "-c", "read -P 7 0 1M", "-c", "write -P 9 5M 1M", f"nbd+unix:///far?socket={sock2}")
    server.qmp.command("nbd-server-stop")
    p = subprocess.Popen(["qemu-io", "-f", "raw", "-c", "read -P 9 5M 1M", f"nbd+unix:///far?socket={sock2}"], stdout=subprocess.PIPE, text=True)
    time.sleep(1)
    server.qmp.command("nbd-server-start", addr=unix(sock))
    server.qmp.command("nbd-server-add", device="n0", writable=True)
    out = p.communicate(timeout=30)[0]
    assert p.returncode == 0 and "read 1048576/1048576" in out and "failed" not in out


def test_limits(start, disk, tmp_path):
    m = start("-drive", f"file={disk},format=qcow2,if=none,id=d0,throttling.iops-total=100,throttling.iops-total-max=200,throttling.bps-read=1000000",
              "-device", "virtio-blk-pci,drive=d0,id=v0")
    q = m.qmp
    info = q.command("query-block")[0]["inserted"]
    assert (info["iops"], info["iops_max"], info["iops_max_length"], info["bps_rd"], info["bps"], info["group"]) == (100, 200, 1, 1000000, 0, "d0")
    none = dict(bps=0, bps_rd=0, bps_wr=0, iops=0, iops_rd=0, iops_wr=0)
    q.command("block_set_io_throttle", device="d0", **{**none, "bps": 5000, "bps_max": 6000, "group": "g"})
    info = q.command("query-block")[0]["inserted"]
    assert (info["bps"], info["bps_max"], info["iops"], info["group"]) == (5000, 6000, 0, "g") and "iops_max" not in info
    assert "cannot be used at the same time" in error_of(q, "block_set_io_throttle", device="d0", **{**none, "bps": 5000, "bps_rd": 1})
    assert error_of(q, "block_set_io_throttle", device="nix", **none) == "Device 'nix' not found"
    assert "is missing" in error_of(q, "block_set_io_throttle", device="d0", bps=1)
    q.command("block_set_io_throttle", id="v0", **none)
    info = q.command("query-block")[0]["inserted"]
    assert info["bps"] == 0 and "group" not in info


@pytest.mark.parametrize("option,words", [("throttling.iops-total=1,throttling.iops-read=1", "same time"), ("throttling.foo=1", "throttling.foo"),
                                          ("bps_max=5", "require corresponding")])
def test_wrong_limits(disk, kernel, option, words):
    status, out, err = vmm.run(["-M", "q35", "-nographic", "-kernel", kernel, "-drive", f"file={disk},format=qcow2,if=virtio,{option}"])[:3]
    assert status == 1 and words in err


def test_throttle_node(start, disk):
    q = start("-object", "throttle-group,id=tg,limits.iops-total=50", "-blockdev", f"driver=qcow2,node-name=n0,file.driver=file,file.filename={disk}", "-blockdev",
              "driver=throttle,node-name=t0,throttle-group=tg,file=n0", "-device", "virtio-blk-pci,drive=t0").qmp
    assert q.command("query-block")[0]["inserted"]["drv"] == "throttle"
