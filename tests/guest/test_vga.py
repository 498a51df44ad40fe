# SPDX-License-Identifier: GPL-2.0-or-later
"""The VGA as firmware, boot sectors and Linux use it, by what a screendump shows."""
import os
import shutil
import struct
import time
import zlib

import pytest

import rfb
import vmm

BASE = ("-machine", "q35", "-accel", "jit", "-m", "256", "-nodefaults", "-display", "none", "-serial", "stdio")


class Picture:
    """A binary PPM."""

    def __init__(self, path):
        with open(path, "rb") as f:
            magic, size, top, self.data = f.read().split(b"\n", 3)
        assert magic == b"P6" and top == b"255"
        self.width, self.height = map(int, size.split())
        assert len(self.data) == self.width * self.height * 3

    def pixel(self, x, y):
        at = 3 * (y * self.width + x)
        return int.from_bytes(self.data[at:at + 3], "big")

    def cell(self, column, row):
        """What stands there in 80 columns of 9 by 16 dots: which dots are not black."""
        return tuple(self.data[at:at + 27:3] for at in (3 * ((row * 16 + y) * self.width + column * 9) for y in range(16)))

    def text(self, alphabet_row):
        """The screen's text. Two of its rows show the characters 20h to 7eh, and so say how they look."""
        glyphs = {self.cell(i % 80, alphabet_row + i // 80): chr(0x20 + i) for i in range(95)}
        assert len(glyphs) == 95, "some of the characters look alike"
        return "\n".join("".join(glyphs.get(self.cell(c, r), "?") for c in range(80)).rstrip() for r in range(25))


@pytest.fixture
def show(machine, flat, work):
    """show(what, *options): starts the boot sector, and returns the machine and a function that takes a picture."""
    def start(what, *options, nodefaults=True):
        disk = os.path.join(work, "disk")
        shutil.copy(flat("vga", what), disk)
        os.truncate(disk, 1 << 20)
        base = BASE if nodefaults else [o for o in BASE if o != "-nodefaults"] + ["-nic", "none"]
        m = machine(*base, "-drive", f"if=virtio,format=raw,file={disk}", *options, qmp=True)
        if "-S" not in options:
            m.wait_text("ready", 30, "firmware did not start the boot sector")
        return m, lambda: take(m, work)
    return start


def take(m, work):
    path = os.path.join(work, "picture")
    m.qmp.command("screendump", filename=path)
    return Picture(path)


@pytest.mark.parametrize("card", ["std", "virtio"])
def test_firmware_shows_text(show, card):
    _, picture = show("TEXT", "-vga", card)
    p = picture()
    assert (p.width, p.height) == (720, 400)
    # the row that the boot sector has filled
    rows = [r for r in range(25) if all(any(map(any, p.cell(c, r))) for c in range(1, 80))]
    assert len(rows) == 1, f"rows without a gap: {rows}"
    text = p.text(rows[0])
    assert "SeaBIOS (version" in text, text
    assert "Booting from Hard Disk..." in text, text
    assert "pqrstuvwxyz{|}" in text, text


def wide(six):
    return six << 2 | six >> 4


def test_256_colours(show):
    _, picture = show("MODE13", "-device", "VGA")
    p = picture()
    assert (p.width, p.height) == (640, 400)
    for n in (*range(0, 64000, 997), 63999):
        i = (n + n // 256) % 256
        colour = wide(i >> 2) << 16 | wide(63 - (i >> 2)) << 8 | wide(i & 63)
        x, y = n % 320 * 2, n // 320 * 2
        assert [p.pixel(x + k, y + l) for k in (0, 1) for l in (0, 1)] == [colour] * 4, f"pixel {n}"


def test_vbe_linear_frame_buffer(show):
    m, picture = show("VBE", "-device", "VGA,vgamem_mb=8")
    p = picture()
    assert (p.width, p.height) == (1024, 768)
    assert p.data == b"".join(struct.pack(">I", n)[1:] for n in range(1024 * 768)), "the picture is not what the guest wrote"
    m.qmp.command("system_reset")
    m.wait_text("ready", 30, "firmware did not start again after a reset in a large mode")
    assert zlib.crc32(picture().data) == zlib.crc32(p.data)


def test_banks_by_ports(show):
    _, picture = show("DISPI", "-device", "VGA")
    p = picture()
    assert (p.width, p.height) == (800, 600)
    for n in range(0, 32768, 331):
        five = [n >> 11, n & 31]
        colour = (five[0] << 3 | five[0] >> 2) << 16 | wide(n >> 5 & 63) << 8 | (five[1] << 3 | five[1] >> 2)
        assert p.pixel(n % 800, n // 800) == colour, f"pixel {n}"


def test_viewer_follows(show, work):
    """A viewer that has been there from the start sees the BIOS come and the boot sector's mode; the card is there without being asked for."""
    m, picture = show("MODE13", "-vnc", f"unix:{work}/vnc", "-S", nodefaults=False)
    m.qmp.command("query-status")
    viewer = rfb.Viewer(f"{work}/vnc")
    m.qmp.command("cont")
    m.wait_text("ready", 30, "firmware did not start the boot sector")
    p, seen = picture(), b""
    end = time.monotonic() + 20 * vmm.SLOW
    while seen != p.data and time.monotonic() < end:
        viewer.request(incremental=True)
        viewer.update()
        rgb = bytearray(len(viewer.pixels) // 4 * 3)
        rgb[0::3], rgb[1::3], rgb[2::3] = viewer.pixels[2::4], viewer.pixels[1::4], viewer.pixels[0::4]
        seen = bytes(rgb)
    assert seen == p.data, "the viewer does not see what a screendump shows"
    assert (viewer.width, viewer.height) == (640, 400)
    viewer.close()


def test_black_before_firmware(show):
    _, picture = show("TEXT", "-device", "VGA", "-S")
    assert not any(picture().data)


@pytest.mark.parametrize("card, driver", [("VGA", "bochs"), ("bochs-display", "bochs"), ("virtio-vga", "virtio-gpu")])
def test_linux_console(linux, work, card, driver):
    """Debian's own driver: text on its console lights pixels; the monitor's wish is the size."""
    m = linux("-device", f"{card},xres=1024,yres=640", script='cat /sys/class/drm/card0-*/modes | head -n 1 | sed "s/^/VT mode /"; '
              'printf "\\033[2J\\033[Hhello\\n" > /dev/tty0; echo "VT written"; read x', kernel="generic", modules=(driver, "virtio_pci") if card == "virtio-vga" else (driver,), qmp=True, append="vt.cur_default=1")
    m.wait_text("VT mode 1024x640", 60, "the driver did not take the EDID's size")
    m.wait_text("VT written", 20)
    lit, end = [], time.monotonic() + 10 * vmm.SLOW
    while not lit and time.monotonic() < end:  # a worker of the kernel's brings to the card what was written
        p = take(m, work)
        assert (p.width, p.height) == (1024, 640)
        lit = [(i // 3 % p.width, i // 3 // p.width) for i in range(0, len(p.data), 3) if p.data[i]]
    assert lit, "Linux' console is black"
    assert max(x for x, _ in lit) < 5 * 8 and max(y for _, y in lit) < 16, "something else than one word is on the screen"


def test_errors(machine, work):
    odd = os.path.join(work, "odd")
    open(odd, "wb").close()
    for args, words in ((["-device", "VGA,vgamem_mb=3"], "power of two"), (["-device", "VGA", "-vga", "std"], "VGA"),
                        (["-device", "VGA,romfile=/does/not/exist"], "cannot open the image '/does/not/exist'"),
                        (["-device", f"virtio-rng-pci,romfile={odd}"], "1 byte to 16 MiB"), (["-vga", "cirrus"], "std, virtio, none"),
                        (["-device", "pcie-root-port,id=p,chassis=1,romfile=vgabios.bin"], "bridge")):
        m = machine(*BASE, *args)
        m.wait(10, 1)
        assert words in m.stderr(), m.stderr()
