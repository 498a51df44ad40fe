# SPDX-License-Identifier: GPL-2.0-or-later
"""The serial console on a terminal: keys reach the guest, Ctrl-A commands do not, and the terminal is as it was afterwards."""
import os
import pty
import select
import signal
import subprocess
import termios
import time

import pytest

import vmm


class Terminal:
    """A program with a terminal of its own."""

    def __init__(self, args):
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.output = b""
        self.process = subprocess.Popen([vmm.VMM, *vmm.options(*args)], stdin=self.slave, stdout=self.slave, stderr=self.slave,
                                        start_new_session=True)

    def wait_text(self, text, deadline=20):
        end = time.monotonic() + deadline * vmm.SLOW
        while text.encode() not in self.output:
            ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
            assert ready, f"{text!r} did not appear on the terminal: {self.output!r}"
            self.output += os.read(self.master, 4096)

    def send(self, data):
        os.write(self.master, data)

    def end(self, status=0):
        """Waits, while what is printed is read, and compares the terminal's modes."""
        end = time.monotonic() + 15 * vmm.SLOW
        while self.process.poll() is None:
            assert time.monotonic() < end, f"the program does not end; the terminal shows {self.output!r}"
            if select.select([self.master], [], [], 0.05)[0]:
                self.output += os.read(self.master, 4096)
        assert self.process.returncode == status, f"exit status {self.process.returncode}: {self.output!r}"
        assert termios.tcgetattr(self.slave) == self.before, "the terminal's modes are not what they were"

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal():
    open_ones = []

    def start(*args):
        open_ones.append(Terminal(args))
        return open_ones[-1]
    yield start
    for t in open_ones:
        t.close()


ARGS = ("-accel", "jit", "-m", "64", "-nographic")


def test_ctrl_a_x_ends_the_machine(terminal, flat):
    t = terminal(*ARGS, "-kernel", flat("halt"))
    t.wait_text("halting")
    assert not termios.tcgetattr(t.slave)[3] & termios.ICANON, "the terminal is not in raw mode while the guest has it"
    t.send(b"\x01x")
    t.end()


def test_ctrl_a_h_helps(terminal, flat):
    t = terminal(*ARGS, "-kernel", flat("halt"))
    t.wait_text("halting")
    t.send(b"\x01h")
    t.wait_text("C-a x" if vmm.IS_QEMU else "Ctrl-A x")
    t.send(b"\x01x")
    t.end()


def test_keys_reach_the_guest(terminal, flat):
    """Ctrl-C is the guest's, and Ctrl-A twice is one Ctrl-A."""
    t = terminal(*ARGS, "-kernel", flat("echo"), "-device", "isa-debug-exit,iobase=0xf4,iosize=0x4")
    t.wait_text("echoing")
    t.send(b"k\x03\x01\x01\x1a")
    t.wait_text("<6B><03><01><1A>")
    t.send(b"q")
    t.end(3)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_modes_are_restored_after_a_signal(terminal, flat, sig):
    t = terminal(*ARGS, "-kernel", flat("halt"))
    t.wait_text("halting")
    t.process.send_signal(sig)
    t.end()


def test_modes_are_restored_after_an_error(terminal, flat):
    t = terminal(*ARGS, "-kernel", "/nonexistent/kernel")
    t.end(1)
    t = terminal(*ARGS, "-kernel", flat("halt"), "-drive", "file=/nonexistent/disk,format=raw,if=virtio")
    t.end(1)


def test_modes_are_restored_when_the_guest_ends(terminal, flat):
    t = terminal(*ARGS, "-no-reboot", "-kernel", flat("triple"))
    t.end(0)


def test_suspend_and_continue(terminal, flat):
    """After fg the terminal is the guest's again."""
    t = terminal(*ARGS, "-kernel", flat("echo"))
    t.wait_text("echoing")
    t.process.send_signal(signal.SIGSTOP)
    time.sleep(0.2)
    termios.tcsetattr(t.slave, termios.TCSANOW, t.before)  # what a shell does
    t.process.send_signal(signal.SIGCONT)
    end = time.monotonic() + 20 * vmm.SLOW
    while termios.tcgetattr(t.slave)[3] & (termios.ICANON | termios.ISIG):
        assert time.monotonic() < end, "the terminal is not in raw mode again"
        time.sleep(0.02)
    t.send(b"\x03")
    t.wait_text("<03>")
    t.send(b"\x01x")
    t.process.wait(10 * vmm.SLOW)


def test_pty_back_end(machine, flat):
    """-serial pty names the terminal it made, and the guest talks on it."""
    m = machine("-accel", "jit", "-m", "64", "-nodefaults", "-display", "none", "-serial", "pty", "-S", "-kernel", flat("echo"), qmp=True)
    name = next(c["filename"] for c in m.qmp.command("query-chardev") if c["filename"].startswith("pty:"))[4:]
    fd = os.open(name, os.O_RDWR | os.O_NOCTTY)
    try:
        time.sleep(1.2)  # QEMU looks for a reader once a second
        m.qmp.command("cont")
        seen = b""
        while b"echoing" not in seen:
            assert select.select([fd], [], [], 20 * vmm.SLOW)[0], f"nothing comes from the guest on {name}"
            seen += os.read(fd, 4096)
        os.write(fd, b"k")
        while b"<6B>" not in seen:
            assert select.select([fd], [], [], 20 * vmm.SLOW)[0], f"what is written on {name} does not reach the guest"
            seen += os.read(fd, 4096)
    finally:
        os.close(fd)


def test_unix_socket_back_end(machine, flat, work):
    import socket
    m = machine("-accel", "jit", "-m", "64", "-nodefaults", "-display", "none", "-serial", f"unix:{work}/s,server=on,wait=on", "-kernel",
                flat("echo"))
    end = time.monotonic() + 10 * vmm.SLOW
    with socket.socket(socket.AF_UNIX) as s:
        while s.connect_ex(f"{work}/s") and time.monotonic() < end:  # it may be there and not listen yet
            time.sleep(0.05)
        s.settimeout(20 * vmm.SLOW)
        seen = b""
        while b"echoing" not in seen:
            seen += s.recv(4096)
        s.sendall(b"k")
        while b"<6B>" not in seen:
            seen += s.recv(4096)
    m.process.terminate()
    m.wait(10)
    assert not os.path.exists(f"{work}/s"), "the socket was left behind"
