# SPDX-License-Identifier: GPL-2.0-or-later
"""Graphics and input as a guest's drivers and the people outside see them: the picture, keys, the pointer."""
import re
import struct
import time

import vmm

BOOT = 60
MODULES = ("virtio_pci", "virtio_gpu", "virtio_input", "psmouse", "evdev")
# `events NAME N` waits for the input device of this name, and prints N events of it in hexadecimal; after `calm NAME` a key that is held, as on
# a busy host, repeats after a minute only (EV_REP, REP_DELAY: 60000).
EVENTS = r"""
device() { grep -l -i "$1" /sys/class/input/event*/device/name | head -n 1 | cut -d / -f 5; }
there() { await "[ -n \"\$(device '$1')\" ] && opens /dev/input/\$(device '$1')"; }
calm() { there "$1"; printf '\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\024\0\0\0\140\352\0\0' > /dev/input/$(device "$1"); }
events() {
    there "$1"; d=$(device "$1"); dd if=/dev/input/$d bs=24 count=$2 of=/tmp/events 2>/dev/null &
    until ls -l /proc/$!/fd 2>/dev/null | grep -q $d; do sleep 0.1; done
    sleep 0.3; echo "VT ready $1 $d"; wait; hexdump -v -e '24/1 "%02x" "\n"' /tmp/events | sed 's/^/VT event /'; echo "VT end"
}
"""


def ppm(data):
    """(width, height, pixels as bytes) of a binary PPM."""
    head = re.match(rb"P6\n(\d+) (\d+)\n255\n", data)
    width, height = int(head.group(1)), int(head.group(2))
    pixels = data[head.end():]
    assert len(pixels) == width * height * 3
    return width, height, pixels


def screendump(m, work, **arguments):
    path = f"{work}/picture"
    m.qmp.command("screendump", filename=path, **arguments)
    with open(path, "rb") as f:
        return f.read()


def seen_events(text):
    """(type, code, value) of each line of `events`, the reports' ends left out."""
    found = [struct.unpack("<HHi", bytes.fromhex(line.split()[-1])[16:]) for line in text.split("\n") if line.startswith("VT event ")]
    return [e for e in found if e[0]]


def keys(*names):
    return [{"type": "qcode", "data": n} for n in names]


def test_console_on_virtio_gpu(linux, work):
    m = linux("-device", "virtio-gpu-pci,xres=1024,yres=768", kernel="generic", modules=MODULES, qmp=True, script="""
cat /sys/class/graphics/fb0/name /sys/class/graphics/fb0/virtual_size
cat /sys/class/drm/card0-*/modes | head -n 1
echo "VT edid $(hexdump -v -e '1/1 "%02x"' /sys/class/drm/card0-*/edid)"
for i in 1 2 3 4 5 6 7 8 9; do echo "a line on the screen" > /dev/tty1; done
echo "VT shown"; sleep 1000
""")
    assert ppm(screendump(m, work))[:2] == (640, 480), "before the guest shows something there is a dark picture of 640 by 480"
    text = m.wait_text("VT shown", BOOT)
    assert "virtio_gpudrm" in text.replace("-", "_"), "the frame buffer is not the card's" + m.tail()
    assert "1024,768" in text and "1024x768" in text, "the guest does not see the mode that was asked for" + m.tail()
    edid = bytes.fromhex(re.search(r"VT edid ([0-9a-f]+)", text).group(1))
    assert len(edid) == 128 and sum(edid) % 256 == 0 and b"Vireo" in edid
    end = time.monotonic() + 10 * vmm.SLOW
    while True:  # the kernel's console reaches the card a little later, its cursor or a part of it first
        width, height, pixels = ppm(screendump(m, work))
        if sum(1 for b in pixels if b) > 1000 or time.monotonic() > end:
            break
        time.sleep(0.1)
    assert (width, height) == (1024, 768)
    assert len(set(pixels[i:i + 3] for i in range(0, len(pixels), 3))) >= 2, "the picture has one colour only"
    assert sum(1 for b in pixels if b) > 1000, "nothing stands on the screen"
    png = screendump(m, work, format="png")
    assert png.startswith(b"\x89PNG\r\n\x1a\n") and struct.unpack(">II", png[16:24]) == (1024, 768)


def send_events(m, *events):
    m.qmp.command("input-send-event", events=list(events))


def move(kind, axis, value):
    return {"type": kind, "data": {"axis": axis, "value": value}}


def button(name, down):
    return {"type": "btn", "data": {"button": name, "down": down}}


def current_mouse(m):
    """Whether the pointer that listens is told places."""
    return [x["absolute"] for x in m.qmp.command("query-mice") if x["current"]]


def type_keys(m):
    m.wait_text("VT ready", BOOT, "the guest has no such keyboard")
    for names in (("a",), ("shift", "b"), ("ctrl", "alt", "f9"), ("kp_enter",), ("pause",)):
        m.qmp.command("send-key", keys=keys(*names), **{"hold-time": 20})
    m.qmp.command("send-key", keys=[{"type": "number", "data": 0xc8}])
    for _ in range(12):
        m.qmp.command("send-key", keys=keys("z"), **{"hold-time": 5})
    got = [(c, v) for t, c, v in seen_events(m.wait_text("VT end", 30)) if t == 1]
    pressed = [c for c, v in got if v == 1]
    assert list(dict.fromkeys(pressed)) == [30, 42, 48, 29, 56, 67, 96, 119, 103, 44], f"typed keys arrive as {got}"
    assert got[:6] == [(30, 1), (30, 0), (42, 1), (48, 1), (48, 0), (42, 0)]


def use_mouse(m):
    m.wait_text("VT ready", BOOT, "the guest has no such mouse")
    assert current_mouse(m) == [False]
    send_events(m, move("rel", "x", 10), move("rel", "y", -20))
    send_events(m, button("left", True), button("left", False))
    send_events(m, button("right", True))
    send_events(m, button("right", False))
    send_events(m, button("wheel-up", True), button("wheel-up", False))
    for _ in range(4):
        send_events(m, move("rel", "x", 1))
    got = seen_events(m.wait_text("VT end", 30))
    assert (2, 0, 10) in got and (2, 1, -20) in got, f"the pointer's motion arrives as {got}"
    assert [e for e in got if e[0] == 1] == [(1, 272, 1), (1, 272, 0), (1, 273, 1), (1, 273, 0)], got
    assert (2, 8, 1) in got, f"the wheel arrives as {got}"


def test_ps2_keyboard_and_mouse(linux):
    m = linux(kernel="generic", modules=MODULES, qmp=True, script=EVENTS + """
events "AT Translated Set 2 keyboard" 60; events "ImPS/2 Generic Wheel Mouse" 14
""")
    type_keys(m)
    use_mouse(m)


def test_virtio_keyboard_mouse_and_tablet(linux):
    m = linux("-device", "virtio-keyboard-pci", "-device", "virtio-mouse-pci", "-device", "virtio-tablet-pci,id=t", kernel="generic", modules=MODULES,
              qmp=True, script=EVENTS + """
calm "Vireo virtio keyboard"; events "Vireo virtio keyboard" 40; events "Vireo virtio tablet" 5
echo virtio2 > /sys/bus/virtio/drivers/virtio_input/unbind; events "Vireo virtio mouse" 14
""")
    answer = m.qmp.execute("input-send-event", events=[move("abs", "x", 5)])
    assert answer["error"]["desc"] == "Input handler not found for event type abs", "a tablet without driver takes places"
    type_keys(m)
    m.wait_text("VT ready", BOOT)
    assert current_mouse(m) == [True]
    send_events(m, move("abs", "x", 1000), move("abs", "y", 32767))
    send_events(m, button("left", True))
    got = seen_events(m.wait_text("VT end", 30))
    assert got == [(3, 0, 1000), (3, 1, 32767), (1, 272, 1)], f"the tablet's events arrive as {got}"
    send_events(m, button("left", False))
    use_mouse(m)


def test_refusals(machine, work):
    """Errors of QEMU 7.2."""
    m = machine("-S", "-display", "none", "-nodefaults", "-serial", "null", qmp=True)

    def error(name, **arguments):
        return m.qmp.execute(name, **arguments)["error"]
    assert error("screendump", filename=f"{work}/x", head=1)["desc"] == "'head' must be specified together with 'device'"
    assert error("screendump", filename=f"{work}/x", device="nix") == {"class": "DeviceNotFound", "desc": "Device 'nix' not found"}
    assert "no console to take a screendump from" in error("screendump", filename=f"{work}/x")["desc"]
    assert error("screendump", filename=f"{work}/x", format="gif")["desc"] == "Parameter 'format' does not accept value 'gif'"
    assert error("send-key", keys=keys("nokey"))["desc"] == "Parameter 'data' does not accept value 'nokey'"
    assert error("send-key", keys=[{"type": "number", "data": "x"}])["desc"] == "Invalid parameter type for 'keys[0].data', expected: integer"
    assert error("send-key", keys=[5])["desc"] == "Invalid parameter type for 'keys[0]', expected: object"
    assert error("send-key", keys=[{"type": "qcode"}])["desc"] == "Parameter 'keys[0].data' is missing"
    assert error("send-key", keys=[{"type": "qcode", "data": "a", "x": 1}])["desc"] == "Parameter 'keys[0].x' is unexpected"
    assert error("input-send-event", events=[{"type": "btn", "data": {"down": True, "button": "nix"}}])["desc"] == \
        "Parameter 'button' does not accept value 'nix'"
    assert error("input-send-event", events=[{"type": "btn", "data": {"down": True, "button": "left"}}])["desc"] == "VM not running"
