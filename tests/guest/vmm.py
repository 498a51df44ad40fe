# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine under test: starts the program, reads its serial console, speaks QMP, and always ends what it started.

VIREO_BUILD  the build directory (build/vireo-vmm lies in it, guest material in its guest/)
VIREO_VMM    another program with the same options instead; for QEMU `-accel jit` is turned into `-accel tcg`
VIREO_SLOW   a factor on all deadlines, for slow hosts
"""
import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import threading
import time

BUILD = os.path.abspath(os.environ.get("VIREO_BUILD", "build"))
VMM = os.environ.get("VIREO_VMM", os.path.join(BUILD, "vireo-vmm"))
IS_QEMU = os.path.basename(VMM).startswith("qemu")
SLOW = float(os.environ.get("VIREO_SLOW", "1"))
SANITIZED = "asan" in BUILD  # a build with sanitizers (tests/check.py)


def options(*args):
    """The options as the program under test wants them."""
    out = list(args)
    if IS_QEMU:
        out = ["tcg" if a == "jit" and i and out[i - 1] == "-accel" else a for i, a in enumerate(out)]
    return out


class GuestError(AssertionError):
    """What went wrong, in the user's words, and the last lines of the console."""


def connect_unix(path):
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock


class Qmp:
    """A client of the control protocol on a UNIX socket. Events are kept in order until somebody asks for them."""

    def __init__(self, path, deadline=20, greet=True, connect=connect_unix):
        end = time.monotonic() + deadline * SLOW
        while True:
            try:
                self.sock = connect(path)
                break
            except OSError:
                if time.monotonic() > end:
                    raise GuestError(f"the QMP socket {path} did not accept a connection") from None
                time.sleep(0.05)
        self.buffer = b""
        self.events = []
        self.greeting = self.read(deadline)
        if greet:
            self.command("qmp_capabilities")

    def close(self):
        self.sock.close()

    def send_raw(self, data):
        self.sock.sendall(data)

    def read(self, deadline=20):
        """The next message; None at the end of the stream."""
        end = time.monotonic() + deadline * SLOW
        while b"\n" not in self.buffer:
            ready, _, _ = select.select([self.sock], [], [], max(0, end - time.monotonic()))
            if not ready:
                raise GuestError(f"no answer on QMP within {deadline * SLOW:.0f} s")
            try:
                data = self.sock.recv(65536)
            except ConnectionError:
                data = b""
            if not data:
                return None
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line) if line.strip() else self.read(deadline)

    def reply(self, deadline=20):
        """The next message that is not an event."""
        while True:
            message = self.read(deadline)
            if message is None:
                raise GuestError("the QMP connection was closed before the answer came")
            if "event" not in message:
                return message
            self.events.append(message)

    def execute(self, name, /, deadline=20, **arguments):
        """The whole answer, an error included."""
        request = {"execute": name, "id": name}
        if arguments:
            request["arguments"] = arguments
        self.send_raw(json.dumps(request).encode() + b"\n")
        return self.reply(deadline)

    def command(self, name, /, deadline=20, **arguments):
        answer = self.execute(name, deadline, **arguments)
        if "return" not in answer:
            raise GuestError(f"QMP command {name} failed: {answer}")
        return answer["return"]

    def unplug(self, name, deadline=20):
        """device_del of a PCI device that the guest may have seen just now: as long as it blinks with the slot's light, it takes no other request."""
        end = time.monotonic() + deadline * SLOW
        while "blinking" in str(answer := self.execute("device_del", id=name)) and time.monotonic() < end:
            time.sleep(0.1)
        if "return" not in answer:
            raise GuestError(f"device_del of {name} failed: {answer}")

    def wait_event(self, name, deadline=20):
        end = time.monotonic() + deadline * SLOW
        while True:
            for i, event in enumerate(self.events):
                if event["event"] == name:
                    return self.events.pop(i)
            left = end - time.monotonic()
            try:
                message = self.read(max(0.01, left / SLOW))
            except GuestError:
                message = None
            if message is None:
                raise GuestError(f"no event {name} on QMP; seen: {[e['event'] for e in self.events]}")
            self.events.append(message)


LIBC = ctypes.CDLL(None)


def end_with_parent(more=None):
    """For preexec_fn: a killed test run leaves no machine behind (prctl(2), PR_SET_PDEATHSIG)."""
    def setup():
        LIBC.prctl(1, signal.SIGKILL)
        if more:
            more()
    return setup


class Machine:
    """One running program. Everything it prints on standard output is its serial console unless options say otherwise."""

    def __init__(self, args, log, qmp_path=None, wrapper=(), stdin=subprocess.PIPE, preexec=None, env=None, program=None):
        self.args = [*wrapper, program or VMM, *options(*args)]
        if qmp_path:
            self.args += ["-qmp", f"unix:{qmp_path},server=on,wait=off"]
        self.qmp_path = qmp_path
        self._qmp = None
        self.log = log
        self.stderr_path = log + ".stderr"
        with open(self.stderr_path, "wb") as err:
            self.process = subprocess.Popen(self.args, stdin=stdin, stdout=subprocess.PIPE, stderr=err, preexec_fn=end_with_parent(preexec),
                                            env=env, start_new_session=True)
        self.output = b""
        self.mark = 0
        self.changed = threading.Condition()
        self.ended = False
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.started = time.monotonic()

    def _read(self):
        with open(self.log, "wb") as log:
            while chunk := os.read(self.process.stdout.fileno(), 65536):
                log.write(chunk)
                log.flush()
                with self.changed:
                    self.output += chunk
                    self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    @property
    def qmp(self):
        if not self._qmp:
            self._qmp = Qmp(self.qmp_path)
        return self._qmp

    def stderr(self):
        with open(self.stderr_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def text(self):
        return self.output.decode("utf-8", "replace").replace("\r", "")

    def tail(self, lines=25):
        return ("\n--- command: " + " ".join(self.args) + "\n--- standard error: " + self.stderr()[-2000:] +
                "\n--- end of the console:\n" + "\n".join(self.text().split("\n")[-lines:]))

    def fail(self, message):
        raise GuestError(message + self.tail())

    def wait_text(self, wanted, deadline=60, what=None):
        """Waits for the text after what earlier waits have consumed; returns the console between."""
        wanted = wanted.encode()
        end = time.monotonic() + deadline * SLOW
        with self.changed:
            while True:
                at = self.output.find(wanted, self.mark)
                if at >= 0:
                    between = self.output[self.mark:at]
                    self.mark = at + len(wanted)
                    return between.decode("utf-8", "replace").replace("\r", "")
                left = end - time.monotonic()
                if self.ended or left <= 0:
                    break
                self.changed.wait(left)
        why = f"the program ended with status {self.wait(5, None)}" if self.ended else f"{deadline * SLOW:.0f} s passed"
        self.fail(f"{what or 'the guest did not print ' + repr(wanted.decode())}: {why}")

    def send(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def wait(self, deadline=60, status=0, what="the program did not end as it should"):
        """The end of the process with this exit status (None: any)."""
        try:
            got = self.process.wait(deadline * SLOW)
        except subprocess.TimeoutExpired:
            self.fail(f"{what}: still running after {deadline * SLOW:.0f} s")
        self.reader.join(10)
        if status is not None and got != status:
            self.fail(f"{what}: exit status {got} instead of {status}")
        return got

    def running(self):
        return self.process.poll() is None

    def kill(self):
        if self._qmp:
            self._qmp.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        self.reader.join(5)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                try:
                    pipe.close()
                except OSError:
                    pass


def run(args, timeout=20, stdin=subprocess.DEVNULL, wrapper=(), **kwargs):
    """A run that should end by itself: (exit status, standard output, standard error)."""
    cmd = [*wrapper, VMM, *options(*args)]
    try:
        done = subprocess.run(cmd, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout * SLOW, check=False,
                              start_new_session=True, **kwargs)
    except subprocess.TimeoutExpired:
        raise GuestError(f"the program did not end within {timeout * SLOW:.0f} s: {' '.join(cmd)}") from None
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
