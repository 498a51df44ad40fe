# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's sockets: frames by hand, hostile ones too, and Debian's virsh."""
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

import pytest

from conftest import BUILD, Vireod
from limits import SLOW
from wire import (AUTH_LIST, CALL, CALL_FDS, CLOSE, CONTINUE, ERROR, FEATURE, GET_TYPE, GET_URI, HOSTNAME, KEEPALIVE, LIB_VERSION, MESSAGE, OK, OPEN, QEMU, REMOTE,
                  REPLY, STREAM, Wire, message, string)

CAPABILITIES = 7


def test_opening(shared_vireod):
    """auth_list, a feature before the connection is open, open, a call, close."""
    with Wire(shared_vireod.socket, opened=False) as w:
        assert w.call(AUTH_LIST).ints() == (1, 0)
        assert w.call(FEATURE, struct.pack(">i", 10)).ints() == (1,)
        assert w.call(GET_TYPE).error()[0] == 1, "a call before the connection is open must be refused"
        assert w.call(OPEN, struct.pack(">I", 1) + string("qemu:///system") + struct.pack(">I", 0)).status == OK
        assert w.call(OPEN, struct.pack(">I", 1) + string("qemu:///system") + struct.pack(">I", 0)).error()[0] == 1
        assert w.call(GET_TYPE).text() == "QEMU"
        assert w.call(GET_URI).text() == "qemu:///system"
        for feature, answer in ((8, 1), (9, 1), (14, 1), (15, 1), (2, 0), (999, 0)):
            assert w.call(FEATURE, struct.pack(">i", feature)).ints() == (answer,), f"feature {feature}"
        assert w.call(CLOSE).status == OK


def test_any_number_but_nought_says_that_a_value_is_there(shared_vireod):
    """The client in Go, go-libvirt, writes it as the bytes 1 0 0 0."""
    with Wire(shared_vireod.socket, opened=False) as w:
        assert w.call(OPEN, b"\1\0\0\0" + string("qemu:///system") + struct.pack(">I", 0)).status == OK
        assert w.call(GET_TYPE).text() == "QEMU"


def test_unknown_uri(shared_vireod):
    with Wire(shared_vireod.socket, opened=False) as w:
        code, _, text = w.call(OPEN, struct.pack(">I", 1) + string("xen:///system") + struct.pack(">I", 0)).error()
        assert code == 5 and "xen:///system" in text


def test_unknown_procedures_and_programs(shared_vireod):
    """Clients fall back to older calls on just this error."""
    with Wire(shared_vireod.socket) as w:
        for procedure in (0, 318, 454, 1000, 0xffffffff):
            code, domain, text = w.call(procedure).error()
            assert (code, domain) == (39, 7) and text.startswith("unknown procedure"), f"procedure {procedure}: {text}"
        assert w.call(99, program=QEMU).error()[:2] == (39, 7)
        assert w.call(1, program=0x12345678).error()[:2] == (39, 7)
        assert w.call(GET_TYPE, version=2).error()[0] == 39
        assert w.call(GET_TYPE, status=ERROR).error()[0] == 39
        assert w.call(GET_TYPE).text() == "QEMU", "the connection goes on after refusals"


def test_arguments_that_are_cut_off(shared_vireod):
    with Wire(shared_vireod.socket) as w:
        for payload in (b"", b"\0\0\0", b"\0\0\0\5ab", b"\xff\xff\xff\xff", string(b"\xff\xfe")):
            assert w.call(23, payload).error()[0] == 39, f"domain_lookup_by_name with {payload}"
        assert w.call(HOSTNAME, b"trailing bytes are ignored").text() == socket.gethostname()


@pytest.mark.parametrize("length", [0, 3, 4, 27, 33554437, 0x7fffffff, 0xffffffff])
def test_hostile_length(shared_vireod, length):
    """There is no way to find the next message: the connection is closed, others go on."""
    with Wire(shared_vireod.socket) as other, Wire(shared_vireod.socket) as w:
        w.send(message(GET_TYPE, length=length))
        assert w.is_closed()
        assert other.call(GET_TYPE).text() == "QEMU"


def test_big_message_before_open(shared_vireod):
    with Wire(shared_vireod.socket, opened=False) as w:
        w.send(message(OPEN, length=1 << 20))
        assert w.is_closed()


def test_messages_that_ask_for_nothing(shared_vireod):
    """Replies, events and data of streams that do not exist are ignored."""
    with Wire(shared_vireod.socket) as w:
        for kind in (REPLY, MESSAGE, STREAM, 6, 77):
            w.send(message(GET_TYPE, b"abcd", serial=9, kind=kind))
        assert w.call(GET_TYPE).text() == "QEMU"


def test_pipelined_calls(shared_vireod):
    """A hundred calls in one write: every one is answered, whatever the order."""
    with Wire(shared_vireod.socket) as w:
        procedures = [(HOSTNAME, CAPABILITIES, LIB_VERSION, GET_TYPE)[i % 4] for i in range(100)]
        w.send(b"".join(message(p, serial=1000 + i) for i, p in enumerate(procedures)))
        answers = [w.receive() for _ in procedures]
        assert sorted(a.serial for a in answers) == list(range(1000, 1100))
        assert all(a.status == OK and a.procedure == procedures[a.serial - 1000] for a in answers)


def test_message_in_single_bytes(shared_vireod):
    with Wire(shared_vireod.socket) as w:
        for byte in message(GET_TYPE, serial=5):
            w.send(bytes([byte]))
            time.sleep(0.001)
        assert w.receive().text() == "QEMU"


def test_keepalive(tmp_path):
    """Pings are answered; a client that has asked for the feature and then says nothing is pinged and disconnected, others are left alone."""
    daemon = Vireod(tmp_path, config="keepalive_interval = 1\nkeepalive_count = 2\n")
    try:
        with Wire(daemon.socket) as silent, Wire(daemon.socket) as simple:
            assert silent.call(FEATURE, struct.pack(">i", 10)).ints() == (1,)
            silent.send(message(1, program=KEEPALIVE, kind=MESSAGE))
            pong = silent.receive()
            assert (pong.program, pong.procedure, pong.kind, pong.length) == (KEEPALIVE, 2, MESSAGE, 28)
            ping = silent.receive()
            assert (ping.program, ping.procedure, ping.kind) == (KEEPALIVE, 1, MESSAGE)
            silent.send(message(2, program=KEEPALIVE, kind=MESSAGE))
            assert silent.is_closed(8), "two pings without an answer must end the connection"
            assert simple.call(GET_TYPE).text() == "QEMU"
    finally:
        daemon.stop()


def test_readonly_socket_changes_nothing(shared_vireod):
    """Every procedure that writes is refused on the read-only socket, and on a connection opened read-only."""
    rows = os.path.join(os.path.dirname(__file__), "../../src/manage/rpc/rpc_procs.inc")
    with open(rows, encoding="utf-8") as f:
        rows = re.findall(r'^RPC_PROC\((\d+), (\w+), \w+, \d, ([^,]*), (?:"([^"]*)"|NULL),', f.read(), re.M)
    writing = [(int(n), name) for n, name, flags, args in rows if "RPC_WRITE" in flags]
    assert len(writing) > 150
    with Wire(shared_vireod.socket + "-ro") as w, Wire(shared_vireod.socket, flags=1) as v:
        for client in (w, v):
            for number, name in writing:
                # An answer from the driver would mean that it was reached. Zeroes are valid arguments of every procedure.
                code, _, text = client.call(number, bytes(400)).error()
                assert code == 29 or (code == 39 and text.startswith("unknown procedure")), f"{name}: {code} {text}"
    assert "define" in shared_vireod.virsh("define", "/etc/hostname", readonly=True, status=1)


def test_descriptors_are_not_kept(shared_vireod):
    """Descriptors come with a call that wants none; too many of them, or fewer than named."""
    def own_fds():
        return len(os.listdir(f"/proc/{shared_vireod.process.pid}/fd"))
    with open("/dev/null", "rb") as null, Wire(shared_vireod.socket) as w:
        assert w.call(GET_TYPE).text() == "QEMU"
        before = own_fds()
        for serial in range(20):
            w.send(message(GET_TYPE, struct.pack(">I", 2), serial=serial, kind=CALL_FDS))
            for _ in range(2):
                socket.send_fds(w.socket, [b"\0"], [null.fileno()])
            assert w.receive().text() == "QEMU"
        assert own_fds() == before
    with Wire(shared_vireod.socket) as w:
        w.send(message(GET_TYPE, struct.pack(">I", 33), kind=CALL_FDS))
        assert w.is_closed()
    with Wire(shared_vireod.socket) as w:
        w.send(message(GET_TYPE, struct.pack(">I", 1), kind=CALL_FDS) + b"\0" + message(GET_TYPE))
        assert w.is_closed()


def test_slow_client_harms_no_other(shared_vireod):
    """One client asks and asks and never reads; its neighbour's calls stay quick, the daemon's memory small."""
    def memory():
        with open(f"/proc/{shared_vireod.process.pid}/status", encoding="utf-8") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read())[1])
    with Wire(shared_vireod.socket) as slow, Wire(shared_vireod.socket) as quick:
        slow.socket.settimeout(0.5)
        before, sent = memory(), 0
        question = message(CAPABILITIES) * 500
        try:
            for _ in range(400):
                slow.send(question)
                sent += 500
        except socket.timeout:
            pass
        for _ in range(200): # each within the time that a call may take at all
            assert quick.call(GET_TYPE).text() == "QEMU"
        assert sent < 200000, "the daemon should have stopped reading from a client that does not read"
        assert memory() - before < 60000, f"kilobytes: {memory() - before}"


def test_many_clients_at_once(shared_vireod):
    failures = []

    def work():
        try:
            with Wire(shared_vireod.socket) as w:
                for _ in range(200):
                    assert w.call(LIB_VERSION).status == OK
                assert w.call(CAPABILITIES).text().startswith("<capabilities>")
        except Exception as e: # pylint: disable=broad-except
            failures.append(e)
    threads = [threading.Thread(target=work) for _ in range(20)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


@pytest.fixture
def open_path():
    """A directory that other users can pass through (pytest's own is root's alone)."""
    path = tempfile.mkdtemp(prefix="vireo-wire-")
    os.chmod(path, 0o755)
    yield pathlib.Path(path)
    shutil.rmtree(path)


def test_clients_that_never_open(open_path):
    """An ordinary user can have few connections that are not open, and locks out nobody else."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    daemon = Vireod(open_path, config="max_anonymous_clients = 3\n")
    program = ("import os,socket,sys\nos.setuid(65534)\nopen_=[]\n"
               "for _ in range(8):\n s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.settimeout(1); open_.append(s)\n"
               "n=0\nfor s in open_:\n try:\n  n+=s.recv(1)==b''\n except socket.timeout: pass\nprint(n,flush=True)\nsys.stdin.read()\n")
    other = subprocess.Popen(["/usr/bin/python3", "-c", program, daemon.socket + "-ro"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline().strip() == "5", "of 8 connections 3 may stay"
        assert "max_anonymous_clients" in daemon.messages()
        with Wire(daemon.socket) as w:
            assert w.call(GET_TYPE).text() == "QEMU"
    finally:
        other.stdin.close()
        other.wait(10 * SLOW)
        other.stdout.close()
        daemon.stop()


def test_main_socket_is_the_owners(shared_vireod):
    assert os.stat(shared_vireod.socket).st_mode & 0o777 == 0o700
    assert os.stat(shared_vireod.socket + "-ro").st_mode & 0o777 == 0o777
    with Wire(os.path.join(os.path.dirname(shared_vireod.socket), "vireo-sock")) as w:
        assert w.call(GET_TYPE).text() == "QEMU"


def test_tcp(tmp_path):
    """Off by default; refused without the word that nobody is asked; then as the socket."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    daemon = Vireod(tmp_path / "a", config=f"tcp_port = \"{port}\"\nlisten_tcp = 1\n", wait=False)
    assert daemon.process.wait(10 * SLOW) == 1 and "auth_tcp" in daemon.messages()
    daemon = Vireod(tmp_path / "b", "--listen", config=f"tcp_port = \"{port}\" # loopback\nauth_tcp = \"none\"\n")
    try:
        with Wire(("127.0.0.1", port)) as w:
            assert w.call(HOSTNAME).text() == socket.gethostname()
        done = subprocess.run(["virsh", "-c", f"qemu+tcp://127.0.0.1:{port}/system", "hostname"], capture_output=True, text=True, timeout=20 * SLOW, check=False)
        assert done.stdout.strip() == socket.gethostname(), done.stderr
    finally:
        daemon.stop()


def test_configuration_mistakes(tmp_path):
    for number, (text, says) in enumerate((("max_clients = many\n", "max_clients takes a number"), ("\n\nmax_client = 3\n", "line 3: there is no key 'max_client'"),
                                           ("listen_tcp\n", "not of the form"), ("unix_sock_rw_perms = \"rwx\"\n", "octal"),
                                           ("unix_sock_group = \"no-such-group\"\n", "no group 'no-such-group'"))):
        daemon = Vireod(tmp_path / str(number), config=text, wait=False)
        assert daemon.process.wait(10 * SLOW) == 1
        assert says in daemon.messages(), daemon.messages()
        assert not os.path.exists(daemon.socket), "nothing half made is left"


def test_reload(tmp_path):
    daemon = Vireod(tmp_path)
    try:
        with Wire(daemon.socket) as one:
            with open(tmp_path / "etc/vireo/vireod.conf", "w", encoding="utf-8") as f:
                f.write("max_clients = 1\n")
            daemon.process.send_signal(signal.SIGHUP)
            until = time.monotonic() + 5 * SLOW
            while time.monotonic() < until:
                with Wire(daemon.socket, opened=False) as two:
                    if two.is_closed(0.2):
                        break
            else:
                raise AssertionError("the new limit is not in force")
            assert one.call(GET_TYPE).text() == "QEMU"
    finally:
        daemon.stop()


def test_signals_from_the_first_moment(tmp_path):
    """Whoever finds the socket may send signals: the daemon is held up just behind its first listen()."""
    daemon = Vireod(tmp_path, prefix=("strace", "-f", "-o", "/dev/null", "-e", "trace=listen", "-e", "inject=listen:delay_exit=500000"))
    with open(tmp_path / "run/vireo/vireod.pid", encoding="utf-8") as f:
        pid = int(f.read())
    os.kill(pid, signal.SIGHUP)
    try:
        with Wire(daemon.socket) as one:
            assert one.call(GET_TYPE).text() == "QEMU"
    finally:
        if daemon.process.poll() is None:
            os.kill(pid, signal.SIGTERM)
        assert daemon.process.wait(20 * SLOW) == 0, daemon.messages()


def test_two_daemons_on_one_root(vireod):
    again = subprocess.run([os.path.join(BUILD, "vireod"), "--root", vireod.root], capture_output=True, text=True, timeout=20 * SLOW, check=False)
    assert again.returncode == 1 and "another vireod runs already" in again.stderr
    assert vireod.virsh("uri").strip() == vireod.uri


def test_end(vireod):
    """SIGTERM: clients are let go, the sockets and the pid file are gone, status 0; after kill -9 the next daemon starts."""
    with Wire(vireod.socket) as w:
        vireod.stop()
        assert w.is_closed()
    assert not os.path.exists(vireod.socket) and not os.path.exists(os.path.join(vireod.root, "run/vireo/vireod.pid"))
    vireod.start()
    vireod.stop(signal.SIGKILL, -9)
    vireod.start()
    vireod.virsh("uri")


def test_timeout_and_background(tmp_path):
    """--daemon returns when clients can connect; --timeout ends a daemon that nobody uses."""
    (tmp_path / "etc").mkdir()
    done = subprocess.run([os.path.join(BUILD, "vireod"), "--root", str(tmp_path), "--daemon", "--timeout=3"], timeout=20 * SLOW, check=False)
    assert done.returncode == 0
    pid_file = tmp_path / "run/vireo/vireod.pid"
    with Wire(str(tmp_path / "run/vireo/libvirt-sock")) as w:
        time.sleep(5)
        assert w.call(GET_TYPE).text() == "QEMU", "a daemon with a client stays"
    until = time.monotonic() + 10 * SLOW
    while pid_file.exists():
        assert time.monotonic() < until, "it should have ended"
        time.sleep(0.1)


def test_socket_activation(tmp_path):
    """LISTEN_FDS: inherited sockets are served and not removed."""
    rw, ro = str(tmp_path / "s"), str(tmp_path / "s-ro")
    program = ("import os,socket,sys\nfds=[]\nfor i,p in enumerate(sys.argv[1:3]):\n s=socket.socket(socket.AF_UNIX); s.bind(p); s.listen(); fds.append(s)\n"
               "a,b=(os.dup2(os.dup(s.fileno()),20+i) for i,s in enumerate(fds))\nos.dup2(20,3); os.dup2(21,4); os.set_inheritable(3,True); os.set_inheritable(4,True)\n"
               "os.environ.update(LISTEN_FDS='2',LISTEN_PID=str(os.getpid()))\nos.execv(sys.argv[3],sys.argv[3:])\n")
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(["/usr/bin/python3", "-c", program, rw, ro, os.path.join(BUILD, "vireod"), "--root", str(tmp_path / "root")], stdout=log, stderr=log)
    try:
        until = time.monotonic() + 10 * SLOW
        while True:
            try:
                with Wire(rw) as w:
                    assert w.call(GET_TYPE).text() == "QEMU"
                break
            except (FileNotFoundError, ConnectionRefusedError):
                assert time.monotonic() < until and process.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.05)
        with Wire(ro) as w:
            assert w.call(12, bytes(400)).error()[0] in (29, 39)
    finally:
        process.terminate()
        assert process.wait(10 * SLOW) == 0
    assert os.path.exists(rw), "an inherited socket is the other's to remove"


def test_libvirt_names(tmp_path):
    """The sockets that clients look for by themselves."""
    daemon = Vireod(tmp_path, config="libvirt_names = 1\n")
    try:
        for name in ("libvirt-sock", "virtqemud-sock", "libvirt-sock-ro", "virtqemud-sock-ro"):
            with Wire(str(tmp_path / "run/libvirt" / name)) as w:
                assert w.call(GET_TYPE).text() == "QEMU"
    finally:
        daemon.stop()
    other = socket.socket(socket.AF_UNIX)
    other.bind(str(tmp_path / "run/libvirt/libvirt-sock"))
    other.listen()
    daemon = Vireod(tmp_path, wait=False)
    assert daemon.process.wait(10 * SLOW) == 1 and "another daemon listens" in daemon.messages()
    other.close()


def test_virsh(shared_vireod):
    assert shared_vireod.virsh("uri").strip() == shared_vireod.uri
    assert shared_vireod.virsh("hostname").strip() == socket.gethostname()
    assert "Using API: QEMU" in shared_vireod.virsh("version")
    assert "CPU(s):" in shared_vireod.virsh("nodeinfo")
    assert shared_vireod.virsh("capabilities").startswith("<capabilities>")
    assert "CPU(s):" in shared_vireod.virsh("nodeinfo", readonly=True)
    assert "error:" in shared_vireod.virsh("-k", "1", "-K", "3", "dominfo", "no-such-domain", status=1)


def test_help_and_man(shared_vireod):
    text = subprocess.run([os.path.join(BUILD, "vireod"), "--help"], capture_output=True, text=True, timeout=20 * SLOW, check=True).stdout
    man = subprocess.run([os.path.join(BUILD, "vireod"), "--help=man"], capture_output=True, text=True, timeout=20 * SLOW, check=True).stdout
    for option in re.findall(r"--([a-z-]+)", text):
        assert option.replace("-", "\\-") in man, f"{option} is not in the manual page"
    assert subprocess.run([os.path.join(BUILD, "vireod"), "--no-such"], capture_output=True, timeout=20 * SLOW, check=False).returncode == 1
    done = subprocess.run(["groff", "-man", "-Tascii", "-ww", "-z"], input=man, capture_output=True, text=True, timeout=20 * SLOW, check=False)
    assert not done.stderr, done.stderr


def threads_of(daemon):
    return len(os.listdir(f"/proc/{daemon.process.pid}/task"))


@pytest.fixture(scope="module")
def volume(shared_vireod):
    """The wire's record of a volume of 8 MiB."""
    target = os.path.join(shared_vireod.root, "pool")
    os.makedirs(target)
    shared_vireod.virsh("pool-create-as", "p", "dir", "--target", target)
    shared_vireod.virsh("vol-create-as", "p", "v.img", "8M", "--format", "raw")
    return string("p") + string("v.img") + string(os.path.join(target, "v.img"))


def transfer(volume, length=0, flags=0):
    return volume + struct.pack(">QQI", 0, length, flags)


UPLOAD, DOWNLOAD = 208, 209


def test_streams_up_and_down(shared_vireod, volume):
    """What was sent is there once the server has confirmed it; an end of file is an empty message."""
    data = os.urandom(1 << 20)
    with Wire(shared_vireod.socket) as w:
        assert w.call(UPLOAD, transfer(volume, len(data))).status == OK
        serial = w.serial
        for at in range(0, len(data), 262120):
            w.send(message(UPLOAD, data[at:at + 262120], serial=serial, kind=STREAM, status=CONTINUE))
        w.send(message(UPLOAD, serial=serial, kind=STREAM, status=OK))
        end = w.receive()
        assert (end.kind, end.status, end.serial, end.payload) == (STREAM, OK, serial, b"")
        assert w.call(DOWNLOAD, transfer(volume, len(data))).status == OK
        got = b""
        while True:
            part = w.receive()
            assert (part.kind, part.status, part.serial) == (STREAM, CONTINUE, w.serial) and part.length <= 262148
            if not part.payload:
                break
            got += part.payload
        w.send(message(DOWNLOAD, serial=w.serial, kind=STREAM, status=OK))
        assert w.receive().status == OK
        assert got == data


def test_streams_that_are_left(shared_vireod, volume):
    """A client that aborts, one that goes away in the middle, one that never reads: no thread and no descriptor stays."""
    before = threads_of(shared_vireod), len(os.listdir(f"/proc/{shared_vireod.process.pid}/fd"))
    for _ in range(5):
        with Wire(shared_vireod.socket) as w:
            for _ in range(8):
                w.serial += 1
                w.send(message(DOWNLOAD, transfer(volume), serial=w.serial))
            time.sleep(0.05)
    with Wire(shared_vireod.socket) as w:
        until = time.monotonic() + 10 * SLOW # those who left still read for a moment
        while w.call(UPLOAD, transfer(volume)).status != OK:
            assert time.monotonic() < until
            time.sleep(0.05)
        w.send(message(UPLOAD, b"x" * 1000, serial=w.serial, kind=STREAM, status=CONTINUE))
        w.send(message(UPLOAD, serial=w.serial, kind=STREAM, status=ERROR))
        end = w.receive()
        assert (end.kind, end.status) == (STREAM, OK)
        w.send(message(UPLOAD, b"late", serial=w.serial, kind=STREAM, status=CONTINUE))
        assert w.call(GET_TYPE).text() == "QEMU"
        assert w.call(DOWNLOAD, transfer(volume)).status == OK
        w.send(message(DOWNLOAD, b"not allowed", serial=w.serial, kind=STREAM, status=CONTINUE))
        while (answer := w.receive()).status != ERROR:
            assert answer.kind == STREAM
        assert "only sends" in answer.error()[2]
    until = time.monotonic() + 20 * SLOW # idle workers end by themselves
    while threads_of(shared_vireod) > before[0] + 8 or len(os.listdir(f"/proc/{shared_vireod.process.pid}/fd")) > before[1]:
        assert time.monotonic() < until, f"before {before}, now {threads_of(shared_vireod)} threads"
        time.sleep(0.1)


def test_a_download_that_is_read_and_never_finished_leaves_the_volume_free(shared_vireod, volume):
    """So go-libvirt does it."""
    shared_vireod.virsh("vol-create-as", "p", "left.img", "64K", "--format", "raw")
    left = string("p") + string("left.img") + string(os.path.join(shared_vireod.root, "pool/left.img"))
    with Wire(shared_vireod.socket) as w:
        assert w.call(DOWNLOAD, transfer(left)).status == OK
        while w.receive().payload:
            pass
        shared_vireod.virsh("vol-delete", "left.img", "p")


def test_number_of_streams_is_limited(shared_vireod, volume):
    def answer(w):
        while (reply := w.receive()).kind == STREAM:
            pass
        return reply
    with Wire(shared_vireod.socket) as w:
        for serial in range(65):
            w.send(message(DOWNLOAD, transfer(volume, 1), serial=serial))
            if serial < 64:
                assert answer(w).status == OK
        code, _, text = answer(w).error()
        assert "64 streams" in text and code != 39
        w.send(message(GET_TYPE, serial=100))
        assert answer(w).text() == "QEMU"


def test_session(open_path):
    """An ordinary user's daemon, started by Debian's virsh on demand."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    home = open_path / "home"
    home.mkdir()
    run = home / "run"
    run.mkdir()
    conf = home / ".config/vireo"
    conf.mkdir(parents=True)
    (conf / "vireod.conf").write_text("libvirt_names = 1\n")
    for path in (home, run, home / ".config", conf, conf / "vireod.conf"):
        os.chown(path, 65534, 65534)
    os.chmod(run, 0o700)
    (home / "bin").mkdir()
    os.symlink(os.path.join(os.path.abspath(BUILD), "vireod"), home / "bin/libvirtd") # the name that virsh starts
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "XDG_RUNTIME_DIR": str(run), "LC_ALL": "C", "LIBVIRTD_PATH": str(home / "bin")}
    readable = subprocess.run(["test", "-x", os.path.join(BUILD, "vireod")], user=65534, group=65534, check=False).returncode == 0
    if not readable:
        pytest.skip("the build directory cannot be read by an ordinary user")

    def virsh(*words):
        return subprocess.run(["virsh", "-c", "qemu:///session", *words], capture_output=True, text=True, timeout=30 * SLOW, user=65534, group=65534, extra_groups=[], env=env,
                              cwd=home, check=False)
    try:
        first = virsh("hostname")
        assert first.stdout.strip() == socket.gethostname(), first.stderr
        assert os.stat(run / "vireo/libvirt-sock").st_mode & 0o777 == 0o700
        assert os.stat(run / "vireo/libvirt-sock-ro").st_mode & 0o777 == 0o700, "a user's own daemon is for him alone"
        assert virsh("net-list", "--all").returncode == 0
        assert (home / ".config/vireo/host-uuid").exists() or os.path.exists("/sys/class/dmi/id/product_uuid")
    finally:
        pid = run / "vireo/vireod.pid"
        if pid.exists():
            os.kill(int(pid.read_text()), signal.SIGTERM)
            until = time.monotonic() + 10 * SLOW
            while pid.exists() and time.monotonic() < until:
                time.sleep(0.05)
            assert not pid.exists(), "the session's daemon does not end"
