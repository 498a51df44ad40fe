# SPDX-License-Identifier: GPL-2.0-or-later
"""What the process may still do once its machine runs: system calls, capabilities, user, root directory, descriptors."""
import array
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

import vmm

pytestmark = pytest.mark.skipif(vmm.IS_QEMU, reason="QEMU's sandbox is another one")
ROOT = os.getuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="only root can become another user or change the root directory")
QUIET = ("-accel", "jit", "-m", "64", "-nodefaults", "-display", "none")


def threads(pid):
    """{thread name: {field of /proc/PID/task/TID/status: value}}"""
    out = {}
    for tid in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{tid}/status") as f:
                fields = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        except (FileNotFoundError, ProcessLookupError):  # one that has just ended
            continue
        out[fields["Name"] + " " + tid] = fields
    return out


def check_closed(pid, kinds):
    found = threads(pid)
    for kind in kinds:
        assert any(name.startswith(kind + " ") for name in found), f"no thread '{kind}': {list(found)}"
    for name, f in found.items():
        assert f["Seccomp"] == "2", f"thread {name} has no filter of system calls"
        assert f["NoNewPrivs"] == "1", f"thread {name} could get new privileges"
        assert {f[c] for c in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {"0" * 16}, f"thread {name} has capabilities: {f}"
        narrow = not name.startswith("vireo-vmm")
        assert int(f["Seccomp_filters"]) - int(found_base(found)) == narrow, f"thread {name} has {f['Seccomp_filters']} filters"


def found_base(found):
    return next(f["Seccomp_filters"] for name, f in found.items() if name.startswith("vireo-vmm"))


@pytest.fixture
def disk(work):
    path = f"{work}/disk"
    with open(path, "wb") as f:
        f.truncate(1 << 20)
    return path


def test_on_by_default(machine, flat, disk):
    """Each thread has its filter before the guest's first instruction, and no privileges."""
    m = machine(*QUIET, "-serial", "stdio", "-smp", "2", "-kernel", flat("halt"), "-drive", f"file={disk},format=raw,if=virtio", qmp=True)
    m.wait_text("halting\n", 20)
    check_closed(m.process.pid, ["vclock", "block", "CPU 0/JIT", "CPU 1/JIT"])
    assert m.qmp.command("query-block")[0]["inserted"]["image"]["actual-size"] >= 0
    m.qmp.command("quit")
    m.wait(20)


def test_off(machine, flat):
    m = machine(*QUIET, "-serial", "stdio", "-kernel", flat("halt"), "-sandbox", "off")
    m.wait_text("halting\n", 20)
    assert {f["Seccomp"] for f in threads(m.process.pid).values()} == {"0"}


def test_what_libvirt_asks_for(machine, flat):
    m = machine(*QUIET, "-serial", "stdio", "-kernel", flat("halt"), "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny")
    m.wait_text("halting\n", 20)
    check_closed(m.process.pid, ["CPU 0/JIT"])


def test_daemon(work, flat):
    pid = f"{work}/pid"
    status, out, err = vmm.run([*QUIET, "-kernel", flat("halt"), "-serial", f"file:{work}/serial", "-daemonize", "-pidfile", pid, "-qmp",
                                f"unix:{work}/qmp,server=on,wait=off"])
    assert (status, out, err) == (0, "", "")
    with open(pid) as f:
        n = int(f.read())
    try:
        check_closed(n, ["CPU 0/JIT"])
        q = vmm.Qmp(f"{work}/qmp")
        q.command("quit")
        q.close()
        for _ in range(200):
            if not os.path.exists(f"/proc/{n}"):
                break
            time.sleep(0.05)
        assert not os.path.exists(pid) and not os.path.exists(f"{work}/qmp"), "PID file and socket stay after the end"
    finally:
        try:
            os.kill(n, signal.SIGKILL)
        except ProcessLookupError:
            pass


def test_reconnecting_client(machine, flat, work):
    """A connection made anew after the sandbox is closed."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(f"{work}/server")
    server.listen(1)
    server.settimeout(20 * vmm.SLOW)
    m = machine(*QUIET, "-kernel", flat("echo"), "-chardev", f"socket,id=c,path={work}/server,reconnect=1", "-serial", "chardev:c")
    for _ in range(2):
        peer, _ = server.accept()
        peer.settimeout(20 * vmm.SLOW)
        peer.sendall(b"x")
        assert peer.recv(100), "nothing comes back over the new connection"
        peer.close()
    server.close()
    assert m.running(), f"the process ended: {m.stderr()}"


# ---- another user, another root ----

@needs_root
@pytest.mark.parametrize("how", ["name", "numbers", "runas"])
def test_run_as(machine, flat, disk, how):
    user = {"name": ("-run-with", "user=nobody"), "numbers": ("-run-with", "user=65534:65534"), "runas": ("-runas", "nobody")}[how]
    os.chmod(disk, 0o600)
    m = machine(*QUIET, "-serial", "stdio", "-kernel", flat("halt"), "-drive", f"file={disk},format=raw,if=virtio", *user)
    m.wait_text("halting\n", 20, what="the machine did not start as another user, with a disk that only root can open")
    for name, f in threads(m.process.pid).items():
        assert set(f["Uid"].split() + f["Gid"].split()) == {"65534"}, f"thread {name} runs as {f['Uid']}"
        assert f["Groups"].split() == ["65534"], f"thread {name} has groups {f['Groups']}"
    check_closed(m.process.pid, ["block", "CPU 0/JIT"])


@needs_root
@pytest.mark.parametrize("sandbox", ["on", "off"])
@pytest.mark.parametrize("option", ["-run-with", "-chroot"])
def test_chroot(machine, work, flat, option, sandbox):
    jail = f"{work}/jail"
    os.mkdir(jail)
    m = machine(*QUIET, "-serial", "stdio", "-kernel", flat("halt"), "-pidfile", f"{work}/pid", option, f"chroot={jail}" if option == "-run-with" else jail,
                "-sandbox", sandbox, qmp=True)
    m.wait_text("halting\n", 20)
    assert os.readlink(f"/proc/{m.process.pid}/root") == jail
    assert os.path.exists(f"{work}/pid")
    m.qmp.command("quit")
    m.wait(20)
    assert sorted(os.listdir(work)) == ["console0", "console0.stderr", "jail"], "PID file and socket stay after the end"


@needs_root
def test_daemon_in_jail_as_nobody(work, flat):
    os.mkdir(f"{work}/jail")
    os.chmod(work, 0o777)
    status, out, err = vmm.run([*QUIET, "-kernel", flat("halt"), "-serial", "null", "-daemonize", "-pidfile", f"{work}/pid", "-run-with",
                                f"user=nobody,chroot={work}/jail"])
    assert (status, out, err) == (0, "", "")
    with open(f"{work}/pid") as f:
        n = int(f.read())
    check_closed(n, ["CPU 0/JIT"])
    os.kill(n, signal.SIGTERM)
    for _ in range(200):
        if not os.path.exists(f"/proc/{n}"):
            break
        time.sleep(0.05)
    assert not os.path.exists(f"{work}/pid"), "the PID file stays, though its directory may be written by everybody"


def refused(args, *words, wrapper=(), **kwargs):
    status, out, err = vmm.run(["-display", "none", *args], wrapper=wrapper, **kwargs)
    assert status == 1 and err.count("\n") == 1, f"status {status}: {err}"
    for word in words:
        assert re.search(word, err), f"the error does not speak of {word!r}: {err}"


def test_bad_users(flat, as_nobody, work):
    kernel = ("-kernel", flat("halt"))
    if ROOT:
        refused([*kernel, "-run-with", "user=no-such-user"], "user=no-such-user: there is no such user")
        refused([*kernel, "-run-with", "user=12:x"], "there is no such user; give NAME or UID:GID")
        refused([*kernel, "-run-with", f"chroot={work}/nowhere"], "nowhere: cannot change the root directory: No such file")
    else:
        pytest.skip("only root can try what root may")
    prefix = {"wrapper": as_nobody}
    shutil.copy(flat("halt"), f"{work}/kernel")
    os.chmod(f"{work}/kernel", 0o644)
    program = f"{work}/vireo-vmm"
    shutil.copy(vmm.VMM, program)
    for args, word in ((("-run-with", "user=root"), "only root can become another user"), (("-chroot", "/tmp"), "only root can change the root")):
        done = subprocess.run([*prefix["wrapper"], program, "-display", "none", "-kernel", f"{work}/kernel", *args], capture_output=True, timeout=20,
                              check=False)
        assert done.returncode == 1 and word in done.stderr.decode(), done.stderr


# ---- descriptors ----

def pass_fd(q, fd, request):
    data = json.dumps(request).encode() + b"\n"
    q.sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
    return q.reply()


def test_getfd_and_sets(machine, flat, work):
    m = machine(*QUIET, "-serial", "stdio", "-kernel", flat("halt"), qmp=True)
    m.wait_text("halting\n", 20)
    q = m.qmp
    assert "SCM_RIGHTS" in q.execute("getfd", fdname="x")["error"]["desc"]
    fd = os.open(f"{work}/passed", os.O_RDWR | os.O_CREAT)
    count = len(os.listdir(f"/proc/{m.process.pid}/fd"))
    assert pass_fd(q, fd, {"execute": "getfd", "arguments": {"fdname": "x"}}) == {"return": {}}
    assert pass_fd(q, fd, {"execute": "getfd", "arguments": {"fdname": "x"}}) == {"return": {}}, "the same name again takes the place of the first"
    assert pass_fd(q, fd, {"execute": "getfd", "arguments": {"fdname": "9x"}})["error"]["desc"].endswith("not starting with a digit")
    assert q.execute("closefd", fdname="x")["return"] == {}
    assert q.execute("closefd", fdname="x")["error"]["desc"] == "File descriptor named 'x' not found"
    one = pass_fd(q, fd, {"execute": "add-fd", "arguments": {"opaque": "one"}})["return"]
    two = pass_fd(q, fd, {"execute": "add-fd", "arguments": {"fdset-id": one["fdset-id"]}})["return"]
    assert one["fdset-id"] == two["fdset-id"] == 0
    sets = q.command("query-fdsets")
    assert sets == [{"fdset-id": 0, "fds": [{"fd": one["fd"], "opaque": "one"}, {"fd": two["fd"]}]}]
    q.send_raw(b'{"execute": "remove-fd", "arguments": {"fdset-id": 0, "fd": %d}}\n' % one["fd"])
    assert q.reply() == {"return": {}}
    q.send_raw(b'{"execute": "remove-fd", "arguments": {"fdset-id": 0}}\n')
    assert q.reply() == {"return": {}}
    assert q.command("query-fdsets") == []
    q.send_raw(b'{"execute": "remove-fd", "arguments": {"fdset-id": 0}}\n')
    assert "fdset-id:0" in q.reply()["error"]["desc"]
    pass_fd(q, fd, {"execute": "query-status"})  # nobody takes it
    q.close()
    for _ in range(100):
        if len(os.listdir(f"/proc/{m.process.pid}/fd")) < count:
            break
        time.sleep(0.05)
    assert len(os.listdir(f"/proc/{m.process.pid}/fd")) == count - 1, "descriptors are left over (the client's connection is the one that went)"
    m._qmp = None
    os.close(fd)


def test_sets_as_files(work, flat, disk):
    """A set gives the descriptor that was opened in the way that is asked for; each refusal is named."""
    read_only = os.open(disk, os.O_RDONLY)
    kernel = os.open(flat("triple"), os.O_RDONLY)
    serial = os.open(f"{work}/serial", os.O_WRONLY | os.O_CREAT)
    base = [*QUIET, "-no-reboot", "-add-fd", f"fd={kernel},set=1,opaque=kernel", "-kernel", "/dev/fdset/1"]
    fds = {"pass_fds": (read_only, kernel, serial)}
    try:
        status, out, err = vmm.run([*base, "-add-fd", f"fd={serial},set=2", "-serial", "file:/dev/fdset/2", "-add-fd", f"fd={read_only},set=3", "-drive",
                                    "file=/dev/fdset/3,format=raw,if=virtio,readonly=on"], **fds)
        assert (status, err) == (0, "")
        assert os.path.getsize(f"{work}/serial") > 0, "the serial port wrote nothing into the descriptor that was passed"
        refused([*base, "-drive", "file=/dev/fdset/9,format=raw,if=virtio"], "/dev/fdset/9': there is no such set", **fds)
        refused([*base, "-add-fd", f"fd={read_only},set=3", "-drive", "file=/dev/fdset/3,format=raw,if=virtio"],
                "no descriptor in that set is open for reading and writing", **fds)
        refused([*base, "-serial", "chardev:c", "-chardev", "socket,id=c,fd=name"], "named 'name' has not been found", **fds)
        refused([*base, "-serial", "chardev:c", "-chardev", f"socket,id=c,fd={kernel}"], "is not a socket", **fds)
        refused([*base, "-serial", "chardev:c", "-chardev", "socket,id=c,fd=999"], "'999' is not open", **fds)
    finally:
        for fd in (read_only, kernel, serial):
            os.close(fd)


# What the loader reads; nothing else is opened by a process that was given descriptors.
LOADER = re.compile(r"openat (/etc/ld\.so\.(cache|preload)|/.*\.so(\.[0-9]+)*)$")


def test_descriptors_alone(work, flat, disk):
    """Kernel, disk, serial port, control and PID file by descriptor: not one file is opened by name, from exec to the end."""
    opens = os.path.join(vmm.BUILD, "tests", "opens")
    if not os.access(opens, os.X_OK):
        pytest.fail(f"there is no {opens}: build first")
    serial, serial_vmm = socket.socketpair()
    control, control_vmm = socket.socketpair()
    files = [os.open(flat("halt"), os.O_RDONLY), os.open(disk, os.O_RDWR), os.open(f"{work}/pid", os.O_RDWR | os.O_CREAT)]
    log = f"{work}/opened"
    args = [opens, log, os.path.realpath(vmm.VMM), *QUIET]
    for n, fd in enumerate(files):
        args += ["-add-fd", f"fd={fd},set={n}"]
    args += ["-kernel", "/dev/fdset/0", "-drive", "file=/dev/fdset/1,format=raw,if=virtio", "-pidfile", "/dev/fdset/2",
             "-chardev", f"socket,id=s,fd={serial_vmm.fileno()}", "-serial", "chardev:s",
             "-chardev", f"socket,id=q,fd={control_vmm.fileno()}", "-mon", "q,mode=control"]
    try:
        p = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=vmm.end_with_parent(),
                             pass_fds=[*files, serial_vmm.fileno(), control_vmm.fileno()])
    except OSError as e:
        pytest.fail(str(e))
    try:
        serial.settimeout(30 * vmm.SLOW)
        said = b""
        while b"halting" not in said:
            part = serial.recv(4096)
            assert part, f"the machine ended: {p.communicate()}"
            said += part
        control.settimeout(20 * vmm.SLOW)
        control.sendall(b'{"execute":"qmp_capabilities"}{"execute":"query-block"}{"execute":"quit"}\n')
        status = p.wait(30 * vmm.SLOW)
        out, err = p.stdout.read(), p.stderr.read()
        if status == 126 and b"seccomp" in err:
            pytest.skip("system calls cannot be traced here")
        assert (status, out, err) == (0, b"", b"")
    finally:
        p.kill()
        p.wait()
        for x in (serial, serial_vmm, control, control_vmm, p.stdout, p.stderr):
            x.close()
        for fd in files:
            os.close(fd)
    with open(log) as f:
        lines = f.read().split("\n")
    assert any(line.startswith("execve ") for line in lines) and any(LOADER.match(line) for line in lines), f"the tracer saw nothing: {lines}"
    own = [line for line in lines if line and not LOADER.match(line) and not line.startswith("execve ")]
    assert not own, f"opened by name: {own}"
    with open(f"{work}/pid") as f:
        assert f.read().strip().isdigit(), "the PID file that was passed is empty"
