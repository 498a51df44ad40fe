# SPDX-License-Identifier: GPL-2.0-or-later
"""NBD: our server with qemu-io, qemu-img and the libnbd tools as clients and with hostile ones; our client with qemu-nbd and nbdkit as
servers. The server and the client run without a machine, in nbdtool."""
import json
import os
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

TOOL = os.path.join(os.environ["VIREO_BUILD"], "tests", "block", "nbdtool")
MIB = 1 << 20


def run(*argv, ok=True, text=None, timeout=60):
    p = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=timeout, check=False)
    assert not ok or p.returncode == 0, f"{' '.join(argv)}: {p.stdout}{p.stderr}"
    return p.stdout + (p.stderr if not ok else "")


class Server:
    def __init__(self, path, options, *flags, name="disk"):
        self.path = path
        self.uri = f"nbd+unix:///{name}?socket={path}"
        self.p = subprocess.Popen([TOOL, "serve", path, *flags, "-n", name, options], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True)
        line = self.p.stdout.readline()
        assert line == "ready\n", line + self.p.stderr.read()

    def alive(self):
        return self.p.poll() is None

    def stop(self):
        self.p.stdin.close()
        status = self.p.wait(20)
        assert status == 0, self.p.stderr.read()


class Client:
    def __init__(self, what):
        self.p = subprocess.Popen([TOOL, "io", what], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.p.stdout.readline()
        assert line == "ready\n", line + self.p.stderr.read()

    def send(self, line):
        self.p.stdin.write(line + "\n")
        self.p.stdin.flush()

    def do(self, line):
        self.send(line)
        return self.p.stdout.readline().strip()

    def reads(self, offset, length):
        """The byte that all of the range is, or a text of what went wrong."""
        words = self.do(f"read {offset} {length}").split()
        return int(words[3]) if words[0] == "ok" and words[2] == "same" else " ".join(words)

    def stop(self):
        self.p.stdin.close()
        assert self.p.wait(30) == 0, self.p.stderr.read()


def raw(path):
    return f"driver=raw,file.driver=file,file.filename={path}"


@pytest.fixture
def image(tmp_path):
    path = str(tmp_path / "disk.raw")
    run("qemu-img", "create", "-q", "-f", "raw", path, "64M")
    run("qemu-io", "-f", "raw", "-c", "write -P 7 0 1M", "-c", "write -P 9 32M 64k", path)
    return path


@pytest.fixture
def serve(tmp_path):
    servers = []

    def start(options, *flags, name="disk"):
        servers.append(Server(str(tmp_path / f"s{len(servers)}"), options, *flags, name=name))
        return servers[-1]
    yield start
    for s in servers:
        assert s.alive(), s.p.stderr.read()
        s.stop()


@pytest.fixture
def peer(tmp_path):
    """A server of somebody else, waited for until its socket is there."""
    running = []

    def start(path, *argv):
        running.append(subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        for _ in range(1500):
            if os.path.exists(path):
                return running[-1]
            time.sleep(0.02)
        raise AssertionError(f"{argv[0]} did not start")
    yield start
    for p in running:
        p.kill()
        p.wait()


# ---- our server ----

def test_qemu_io_reads_and_writes_our_server(serve, image):
    s = serve(raw(image), "-w")
    out = run("qemu-io", "-f", "raw", "-c", "read -P 7 0 1M", "-c", "read -P 0 1M 31M", "-c", "write -P 5 2M 1M", "-c", "write -f -P 6 3M 4k",
              "-c", "write -z 2M 512k", "-c", "write -z -u 2560k 64k", "-c", "discard 4M 1M", "-c", "flush", "-c", "aio_write -P 3 8M 1M",
              "-c", "aio_write -P 4 9M 1M", "-c", "aio_read -P 9 32M 64k", "-c", "aio_flush", "-c", "read -P 3 8M 1M", "-c", "read -P 4 9M 1M", s.uri)
    assert "verification failed" not in out and "rror" not in out, out
    run("qemu-io", "-r", "-f", "raw", "-U", "-c", "read -P 0 2M 576k", "-c", "read -P 5 2688k 384k", "-c", "read -P 6 3M 4k", "-c", "read -P 4 9M 1M", image)


def test_read_only_export_refuses_writes(serve, image):
    s = serve(raw(image))
    assert "Permission denied" in run("qemu-io", "-f", "raw", "-c", "write 0 4k", s.uri, ok=False)
    assert Raw(s.path).command(1, 0, 4, b"abcd")[0] == 1
    assert "is_read_only: true" in run("nbdinfo", s.uri)


def test_nbdcopy_and_qemu_img_copy_the_same(serve, image, tmp_path):
    s = serve(raw(image), "-w")
    for name, argv in (("a", ("nbdcopy", s.uri)), ("b", ("qemu-img", "convert", "-f", "raw", "-O", "raw", s.uri))):
        copy = str(tmp_path / name)
        if name == "a":
            run("truncate", "-s", "64M", copy)
        run(*argv, copy)
        run("qemu-img", "compare", "-U", "-f", "raw", "-F", "raw", copy, image)
    run("qemu-io", "-f", "raw", "-c", "write -P 1 10M 5M", str(tmp_path / "b"))
    run("nbdcopy", str(tmp_path / "b"), s.uri)
    run("qemu-img", "compare", "-U", "-f", "raw", "-F", "raw", str(tmp_path / "b"), image)


def test_several_connections_share_the_export(serve, image):
    s = serve(raw(image), "-w")
    assert "can_multi_conn: true" in run("nbdinfo", s.uri)
    run("nbdcopy", "-C", "4", "-R", "32", s.uri, "null:")


def test_block_status_is_that_of_the_image(serve, image):
    s = serve(raw(image), "-d")
    extents = json.loads(run("nbdinfo", "--map", "--json", s.uri))
    assert [(e["offset"], e["length"], e["type"]) for e in extents] == \
        [(0, MIB, 0), (MIB, 31 * MIB, 3), (32 * MIB, 65536, 0), (32 * MIB + 65536, 32 * MIB - 65536, 3)]
    assert json.loads(run("nbdinfo", "--map=qemu:allocation-depth", "--json", s.uri))[0]["type"] == 1


def test_dirty_bitmap_is_shown(serve, image):
    s = serve(raw(image), "-w", "-b", "b0")
    assert "qemu:dirty-bitmap:b0" in run("nbdinfo", s.uri)
    run("qemu-io", "-f", "raw", "-c", "write 3M 64k", s.uri)
    dirty = [e for e in json.loads(run("nbdinfo", "--map=qemu:dirty-bitmap:b0", "--json", s.uri)) if e["type"] == 1]
    assert [(e["offset"], e["length"]) for e in dirty] == [(3 * MIB, 65536)]
    # qemu-img shows dirty clusters as "data": false
    spec = f"driver=nbd,server.type=unix,server.path={s.path},export=disk,x-dirty-bitmap=qemu:dirty-bitmap:b0"
    shown = json.loads(run("qemu-img", "map", "--output=json", "--image-opts", spec))
    assert [(e["start"], e["length"]) for e in shown if not e["data"]] == [(3 * MIB, 65536)]


def test_export_names(serve, image):
    s = serve(raw(image), "-D", "what it is", name="täglich/1")
    listed = run("nbdinfo", "--list", f"nbd+unix:///?socket={s.path}")
    assert 'export="täglich/1"' in listed and "what it is" in listed
    assert "No such file" in run("nbdinfo", f"nbd+unix:///other?socket={s.path}", ok=False)
    # The oldest way to choose one, which has no answer but the end.
    c = hello(s.path)
    option(c, 1, "täglich/1".encode())
    size, flags = struct.unpack(">QH", receive(c, 10))
    assert size == 64 * MIB and flags & 1
    c.close()


def test_reads_at_the_end_and_beyond(serve, image):
    c = Raw(serve(raw(image), "-w").path)
    assert c.command(0, 64 * MIB - 512, 512)[0] == 0
    assert c.command(0, 64 * MIB - 511, 512)[0] == 22
    assert c.command(0, 1 << 63, 512)[0] == 22
    assert c.command(0, 2 ** 64 - 1, 512)[0] == 22
    assert c.command(1, 64 * MIB, 4, b"abcd")[0] == 28
    assert c.command(6, 64 * MIB - 4, 8)[0] == 28
    assert c.command(4, 0, 0xffffffff)[0] == 22
    assert c.command(0, 0, 33 * MIB)[0] == 22
    assert c.command(77, 0, 0)[0] == 22
    assert c.command(0, 0, 512, flags=0x8000)[0] == 22
    assert c.command(7, 0, 512)[0] == 22  # no context was asked for
    assert c.command(3, 0, 0)[0] == 0
    assert c.command(0, 0, 4) == (0, b"\7\7\7\7")


def test_max_connections(serve, image):
    s = serve(raw(image), "-m", "2")
    held = [hello(s.path), hello(s.path)]
    third = socket.socket(socket.AF_UNIX)
    third.connect(s.path)
    third.settimeout(0.5)
    with pytest.raises(TimeoutError):
        third.recv(8)
    held[0].close()
    third.settimeout(10)
    assert receive(third, 8) == b"NBDMAGIC"
    held[1].close()
    third.close()


def test_removing_an_export_ends_its_connections(serve, image):
    s = serve(raw(image))
    c = Raw(s.path)
    s.p.stdin.write("remove\n")
    s.p.stdin.flush()
    assert s.p.stdout.readline() == "gone disk\n"
    assert c.sock.recv(1) == b""
    assert "No such file" in run("nbdinfo", s.uri, ok=False)


def test_a_client_that_vanishes_disturbs_nobody(serve, image):
    s = serve(raw(image), "-w")
    for _ in range(20):
        c = Raw(s.path)
        for i in range(50):
            c.sock.send(struct.pack(">IHHQQI", 0x25609513, 0, 0, i, i * MIB, MIB))
        c.sock.close()
    run("qemu-io", "-f", "raw", "-c", "read -P 7 0 1M", s.uri)


# ---- hostile clients ----

def receive(sock, n):
    data = b""
    while len(data) < n:
        part = sock.recv(n - len(data))
        assert part, "the server closed the connection"
        data += part
    return data


def hello(path, flags=3):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(20)
    sock.connect(path)
    assert receive(sock, 18) == b"NBDMAGICIHAVEOPT\0\3"
    sock.sendall(struct.pack(">I", flags))
    return sock


def option(sock, number, data=b"", length=None):
    sock.sendall(b"IHAVEOPT" + struct.pack(">II", number, len(data) if length is None else length) + data)


def option_reply(sock):
    magic, number, kind, length = struct.unpack(">QIII", receive(sock, 20))
    assert magic == 0x3e889045565a9
    return kind, receive(sock, length)


class Raw:
    """A client that speaks the protocol by hand, with simple replies."""

    def __init__(self, path, name=b"disk"):
        self.sock = hello(path)
        option(self.sock, 7, struct.pack(">I", len(name)) + name + b"\0\0")
        while option_reply(self.sock)[0] != 1:
            pass

    def command(self, kind, offset, length, data=b"", flags=0):
        self.sock.sendall(struct.pack(">IHHQQI", 0x25609513, flags, kind, 42, offset, length) + data)
        magic, error, cookie = struct.unpack(">IIQ", receive(self.sock, 16))
        assert (magic, cookie) == (0x67446698, 42)
        return error, receive(self.sock, length) if kind == 0 and not error else b""


@pytest.mark.parametrize("sent", [
    b"", b"\0" * 64, b"GET / HTTP/1.1\r\n\r\n", struct.pack(">I", 0xffffffff), struct.pack(">I", 3) + b"IHAVEOPT",
    struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", 7, 0xffffffff),
    struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", 1, 0x7fffffff) + b"x" * 100,
    struct.pack(">I", 3) + b"NOTANOPT" + struct.pack(">II", 7, 0),
])
def test_nonsense_in_the_negotiation_ends_the_connection(serve, image, sent):
    s = serve(raw(image))
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(s.path)
    sock.settimeout(20)
    sock.sendall(sent)
    sock.shutdown(socket.SHUT_WR)
    while sock.recv(4096):
        pass
    run("nbdinfo", s.uri)


@pytest.mark.parametrize("number,data,kind", [
    (7, b"", 0x80000003), (7, b"\0\0\0\5disk\0\0", 0x80000003), (7, b"\xff\xff\xff\xffdisk\0\0", 0x80000003), (7, b"\0\0\0\4disk\0\1", 0x80000003),
    (7, b"\0\0\0\4nope\0\0", 0x80000006), (6, b"\0\0\0\4disk\0\0\0", 0x80000003), (3, b"x", 0x80000003), (5, b"", 0x80000002), (8, b"x", 0x80000003),
    (9, b"\0\0\0\4disk\0\0\0\0", 0x80000003), (99, b"", 0x80000001), (99, b"x" * 70000, 0x80000009),
])
def test_wrong_options_get_the_right_error(serve, image, number, data, kind):
    sock = hello(serve(raw(image)).path)
    option(sock, number, data)
    assert option_reply(sock)[0] == kind
    option(sock, 3)  # and the dialogue goes on
    assert option_reply(sock)[0] == 2
    assert option_reply(sock)[0] == 1


@pytest.mark.parametrize("queries", [b"\xff\xff\xff\xff", b"\0\0\0\1\xff\xff\xff\xffbase", b"\0\0\0\1\0\0\0\17base:allocatio", b"\0\0\0\0x"])
def test_wrong_queries_of_contexts(serve, image, queries):
    sock = hello(serve(raw(image)).path)
    option(sock, 8)
    assert option_reply(sock)[0] == 1
    option(sock, 10, b"\0\0\0\4disk" + queries)
    assert option_reply(sock)[0] in (0x80000003, 1)


def test_options_without_end(serve, image):
    s = serve(raw(image))
    sock = hello(s.path)
    with pytest.raises((AssertionError, OSError)):
        for _ in range(3000):
            option(sock, 99)
            option_reply(sock)
    run("nbdinfo", s.uri)


def test_a_request_with_wrong_magic_or_length_ends_the_connection(serve, image):
    s = serve(raw(image), "-w")
    for request in (b"\0" * 28, struct.pack(">IHHQQI", 0x25609513, 0, 1, 1, 0, 0xffffffff) + b"x" * 4096):
        c = Raw(s.path)
        c.sock.sendall(request)
        assert c.sock.recv(16) == b""
    run("nbdinfo", s.uri)


# ---- our client ----

def exercise(c):
    assert c.do("size") == f"ok {64 * MIB}"
    assert c.do(f"write {5 * MIB} {MIB} 85") == "ok"
    assert c.reads(5 * MIB, MIB) == 85
    assert c.do(f"write {5 * MIB + 1} 3 17 fua") == "ok"
    assert c.reads(5 * MIB + 1, 3) == 17
    assert c.do(f"zero {5 * MIB} 65536 1") == "ok"
    assert c.do(f"zero {5 * MIB + 65536} 4096") == "ok"
    assert c.reads(5 * MIB, 65536 + 4096) == 0
    assert c.reads(6 * MIB - 4096, 4096) == 85
    assert c.do(f"discard {8 * MIB} {MIB}") == "ok"
    assert c.do("flush") == "ok"
    assert c.do("load 8 1 65536").startswith("ok ")


@pytest.mark.parametrize("form", ["nbd:unix:{}:exportname=x", "nbd+unix:///x?socket={}", "driver=nbd,server.type=unix,server.path={},export=x",
                                  "driver=nbd,path={},export=x", "json:{{\"driver\":\"nbd\",\"server\":{{\"type\":\"unix\",\"path\":\"{}\"}},\"export\":\"x\"}}"])
def test_our_client_with_qemu_nbd(peer, image, tmp_path, form):
    path = str(tmp_path / "q")
    peer(path, "qemu-nbd", "-t", "-f", "raw", "-x", "x", "-e", "9", "-k", path, image)
    c = Client(form.format(path))
    assert c.reads(0, MIB) == 7
    exercise(c)
    if "driver" in form:
        assert c.do(f"status 0 {64 * MIB}") == f"ok {MIB} data"
        assert c.do(f"status {12 * MIB} {52 * MIB}").endswith("zero")
    c.stop()


@pytest.mark.parametrize("extra", [[], ["--filter=delay", "delay-read=5ms"], ["--filter=blocksize-policy", "blocksize-minimum=512", "blocksize-maximum=1M",
                                                                              "blocksize-error-policy=error"],
                                   ["--filter=nozero"], ["--filter=fua", "fuamode=emulate"], ["--filter=noparallel"], ["--no-sr"]])
def test_our_client_with_nbdkit(peer, tmp_path, extra):
    path = str(tmp_path / "k")
    filters = [a for a in extra if a.startswith("-")]
    peer(path, "nbdkit", "-f", "-U", path, *filters, "memory", "64M", *[a for a in extra if not a.startswith("-")])
    c = Client(f"nbd+unix:///?socket={path}")
    exercise(c)
    c.stop()


def test_our_client_over_tcp_with_our_server(image):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    s = Server(str(port), raw(image), "-w")
    for name in (f"nbd://127.0.0.1:{port}/disk", f"nbd:127.0.0.1:{port}:exportname=disk", f"driver=nbd,host=localhost,port={port},export=disk"):
        c = Client(name)
        assert c.reads(0, MIB) == 7
        exercise(c)
        c.stop()
    s.stop()


def test_errors_of_the_server_come_through(peer, tmp_path):
    path = str(tmp_path / "k")
    peer(path, "nbdkit", "-f", "-U", path, "--filter=error", "memory", "64M", "error-pwrite=ENOSPC", "error-pwrite-rate=100%",
         "error-pread=EIO", "error-pread-rate=100%")
    c = Client(f"driver=nbd,path={path}")
    assert c.do("write 0 4096 1") == "error No space left on device"
    assert c.do("read 0 4096") == "error Input/output error"
    assert c.do("flush") == "ok"
    c.stop()


def test_a_read_only_server(peer, image, tmp_path):
    path = str(tmp_path / "q")
    peer(path, "qemu-nbd", "-r", "-t", "-f", "raw", "-k", path, image)
    c = Client(f"driver=nbd,path={path}")  # auto-read-only
    assert c.reads(0, MIB) == 7
    assert c.do("write 0 512 1").startswith("error")
    c.stop()


@pytest.mark.parametrize("what,words", [
    ("nbd://127.0.0.1:1/", ["127.0.0.1:1", "refused"]), ("nbd+unix:///?socket=/nonexistent/s", ["/nonexistent/s", "No such file"]),
    ("nbds://127.0.0.1/", ["TLS"]), ("nbd+unix:///", ["socket=PATH"]), ("nbd:unix:", ["path"]), ("nbd:localhost", ["nbd:HOST:PORT"]),
    ("driver=nbd", ["server"]), ("driver=nbd,path=/x,host=y", ["twice"]), ("driver=nbd,server.type=vsock", ["vsock"]),
    ("driver=nbd,server.type=unix,server.path=/x,server.port=5", ["server.port"]), ("nbd://127.0.0.1/?foo=1", ["socket="]),
    ("nbd+vsock://1/", ["vsock"]), ("driver=nbd,path=" + "x" * 200, ["too long"]),
])
def test_wrong_names_are_refused(what, words):
    p = subprocess.run([TOOL, "io", what], input="", capture_output=True, text=True, timeout=30, check=False)
    assert p.returncode == 1 and len(p.stderr.splitlines()) == 1, p.stderr
    for w in words:
        assert w in p.stderr


# ---- servers that die ----

def test_a_server_that_dies_gives_errors_and_is_found_again(peer, image, tmp_path):
    path = str(tmp_path / "q")
    argv = ["qemu-nbd", "-t", "-f", "raw", "-e", "9", "-k", path, image]
    p = peer(path, *argv)
    c = Client(f"driver=nbd,path={path}")
    assert c.reads(0, MIB) == 7
    p.kill()
    p.wait()
    os.unlink(path)
    for _ in range(3):
        assert c.do("read 0 4096") == "error Input/output error"
    peer(path, *argv)
    deadline = time.monotonic() + 60
    while c.reads(0, MIB) != 7:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    c.stop()


def test_requests_wait_for_a_server_with_reconnect_delay(peer, image, tmp_path):
    path = str(tmp_path / "q")
    argv = ["qemu-nbd", "-t", "-f", "raw", "-e", "9", "-k", path, image]
    p = peer(path, *argv)
    c = Client(f"driver=nbd,path={path},reconnect-delay=20")
    p.kill()
    p.wait()
    os.unlink(path)
    c.send("read 0 1048576")
    time.sleep(1.5)
    peer(path, *argv)
    assert c.p.stdout.readline().split()[3] == "7"
    c.stop()


def test_reconnect_delay_ends(peer, image, tmp_path):
    path = str(tmp_path / "q")
    p = peer(path, "qemu-nbd", "-t", "-f", "raw", "-k", path, image)
    c = Client(f"driver=nbd,path={path},reconnect-delay=2")
    begin = time.monotonic()  # from the loss of the connection on, the delay passes
    p.kill()
    p.wait()
    assert c.do("read 0 4096") == "error Input/output error"
    assert 1.5 < time.monotonic() - begin < 10
    begin = time.monotonic()
    assert c.do("read 0 4096") == "error Input/output error"
    assert time.monotonic() - begin < 3
    c.stop()


def test_open_timeout_waits_for_the_server(peer, image, tmp_path):
    path = str(tmp_path / "q")
    late = threading.Timer(1.5, peer, (path, "qemu-nbd", "-t", "-f", "raw", "-k", path, image))
    late.start()
    c = Client(f"driver=nbd,path={path},open-timeout=20")
    assert c.reads(0, MIB) == 7
    c.stop()
    late.join()


def test_another_export_after_the_reconnect_is_not_used(peer, image, tmp_path):
    path = str(tmp_path / "q")
    p = peer(path, "qemu-nbd", "-t", "-f", "raw", "-k", path, image)
    c = Client(f"driver=nbd,path={path}")
    p.kill()
    p.wait()
    os.unlink(path)
    run("qemu-img", "resize", "-q", "-f", "raw", image, "128M")
    peer(path, "qemu-nbd", "-t", "-f", "raw", "-e", "9", "-k", path, image)
    for _ in range(4):
        assert c.do("read 0 4096") == "error Input/output error"
        time.sleep(0.5)
    c.stop()


@pytest.mark.parametrize("reply", [b"\0" * 16, struct.pack(">IIQ", 0x67446698, 0, 77), struct.pack(">IHHQI", 0x668e33ef, 1, 1, 0, 0xffffffff), b""])
def test_a_server_that_answers_nonsense(tmp_path, reply):
    path = str(tmp_path / "h")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def answer():
        sock, _ = listener.accept()
        sock.sendall(b"NBDMAGICIHAVEOPT\0\3")
        receive(sock, 4)
        while True:
            _, number, length = struct.unpack(">QII", receive(sock, 16))
            receive(sock, length)
            if number == 7:
                info = struct.pack(">HQH", 0, 64 * MIB, 1)
                sock.sendall(struct.pack(">QIII", 0x3e889045565a9, 7, 3, len(info)) + info + struct.pack(">QIII", 0x3e889045565a9, 7, 1, 0))
                break
            sock.sendall(struct.pack(">QIII", 0x3e889045565a9, number, 0x80000001, 0))
        receive(sock, 28)
        sock.sendall(reply)
        sock.close()

    t = threading.Thread(target=answer)
    t.start()
    c = Client(f"driver=nbd,path={path}")
    listener.close()
    assert c.do("read 0 4096") == "error Input/output error"
    t.join()
    c.stop()


def test_stopped_server_is_not_waited_for_when_opening(peer, image, tmp_path):
    path = str(tmp_path / "q")
    p = peer(path, "qemu-nbd", "-t", "-f", "raw", "-k", path, image)
    p.send_signal(signal.SIGSTOP)
    begin = time.monotonic()
    out = subprocess.run([TOOL, "io", f"driver=nbd,path={path}"], input="", capture_output=True, text=True, timeout=60, check=False)
    assert out.returncode == 1 and "does not answer" in out.stderr and time.monotonic() - begin < 30
