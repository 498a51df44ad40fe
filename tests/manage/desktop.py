# SPDX-License-Identifier: GPL-2.0-or-later
"""A desktop that nobody sits at: Xvfb and a session bus of its own, on which a GTK program is read through the accessibility bus and moved with
the mouse, as a person would.

Buttons are clicked where they are on the screen: an action that is called over the bus would not return before the dialogue it opens is closed.
"""
import os
import re
import subprocess
import time

from gi.repository import Gio, GLib

from limits import SLOW

ACCESSIBLE = "org.a11y.atspi.Accessible"
STATES = {"CHECKED": 4, "SENSITIVE": 24, "SHOWING": 25}


class Desktop:
    """X server, session bus, and the variables by which programs find them."""

    def __init__(self, home, width=1280, height=900):
        self.home, self.processes = str(home), []
        os.makedirs(os.path.join(self.home, ".config/glib-2.0/settings"), exist_ok=True)
        reading, writing = os.pipe()
        self.start(["Xvfb", "-displayfd", str(writing), "-screen", "0", f"{width}x{height}x24", "-nolisten", "tcp"], pass_fds=[writing], stderr=subprocess.DEVNULL)
        os.close(writing)
        with os.fdopen(reading) as f:
            display = ":" + f.readline().strip()
        assert len(display) > 1, "Xvfb does not start"
        self.variables = {"DISPLAY": display, "HOME": self.home, "XDG_CONFIG_HOME": os.path.join(self.home, ".config"), "XDG_RUNTIME_DIR": self.home,
                          "XDG_CACHE_HOME": os.path.join(self.home, ".cache"), "XDG_DATA_HOME": os.path.join(self.home, ".local/share"),
                          "GSETTINGS_BACKEND": "keyfile", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "LIBVIRT_AUTOSTART": "0", "GTK_THEME": "Adwaita"}
        self.environment = dict(os.environ, **self.variables)
        for name in ("LIBVIRT_DEFAULT_URI", "WAYLAND_DISPLAY", "SESSION_MANAGER"):
            self.environment.pop(name, None)
        bus = self.start(["dbus-daemon", "--session", "--nofork", "--print-address=1"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.variables["DBUS_SESSION_BUS_ADDRESS"] = self.environment["DBUS_SESSION_BUS_ADDRESS"] = bus.stdout.readline().strip()
        session = self.bus(self.variables["DBUS_SESSION_BUS_ADDRESS"])
        self.connection = session
        self.connection = self.bus(self.call(("org.a11y.Bus", "/org/a11y/bus"), "org.a11y.Bus", "GetAddress")[0])

    def bus(self, address):
        kind = Gio.DBusConnectionFlags
        return Gio.DBusConnection.new_for_address_sync(address, kind.AUTHENTICATION_CLIENT | kind.MESSAGE_BUS_CONNECTION, None, None)

    def start(self, words, **options):
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, env=getattr(self, "environment", None), start_new_session=True, **options)
        self.processes.append(process)
        return process

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(10 * SLOW)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    # ---- reading: a node is the bus name of a program and a path ----

    def call(self, node, interface, method, signature=None, *values):
        """The answer's values; GLib.Error when the node is gone, which it may be at any moment."""
        values = GLib.Variant(signature, values) if signature else None
        return self.connection.call_sync(node[0], node[1], interface, method, values, None, Gio.DBusCallFlags.NONE, 10000, None).unpack()

    def children(self, node):
        try:
            return self.call(node, ACCESSIBLE, "GetChildren")[0]
        except GLib.Error:
            return []

    def tree(self, node):
        """The node and what is seen below it."""
        yield node
        for child in self.children(node):
            if self.showing(child):
                yield from self.tree(child)

    def windows(self):
        return [w for program in self.children(("org.a11y.atspi.Registry", "/org/a11y/atspi/accessible/root")) for w in self.children(program)
                if self.showing(w)]

    def has(self, node, state):
        try:
            low, high = self.call(node, ACCESSIBLE, "GetState")[0]
        except GLib.Error:
            return False
        return bool((low | high << 32) >> STATES[state] & 1)

    def showing(self, node):
        return self.has(node, "SHOWING")

    def name(self, node):
        try:
            return self.call(node, "org.freedesktop.DBus.Properties", "Get", "(ss)", ACCESSIBLE, "Name")[0]
        except GLib.Error:
            return ""

    def text(self, node):
        try:
            return self.call(node, "org.a11y.atspi.Text", "GetText", "(ii)", 0, -1)[0]
        except GLib.Error:
            return ""

    def box(self, node):
        """x, y, width and height on the screen."""
        return self.call(node, "org.a11y.atspi.Component", "GetExtents", "(u)", 0)[0]

    def fits(self, node, role, name):
        try:
            return self.call(node, ACCESSIBLE, "GetRoleName")[0] == role and (name is None or re.fullmatch(name, self.name(node)))
        except GLib.Error:
            return False

    def all(self, root, role, name=None):
        """What is seen of this role below root (None: in any window), with a name that the pattern fits."""
        return [n for top in ([root] if root else self.windows()) for n in self.tree(top) if self.fits(n, role, name)]

    def until(self, what, condition, seconds=30):
        end = time.monotonic() + seconds * SLOW
        while True:
            found = condition()
            if found:
                return found
            assert time.monotonic() < end, f"virt-manager: {what} was not seen within {seconds * SLOW:.0f} s; on the screen: {self.words()}"
            time.sleep(0.1)

    def get(self, root, role, name=None, seconds=30):
        return self.until(f"{role} '{name}'", lambda: next(iter(self.all(root, role, name)), None), seconds)

    def window(self, name, seconds=30):
        return self.until(f"window '{name}'", lambda: next((w for w in self.windows() if re.fullmatch(name, self.name(w))), None), seconds)

    def words(self):
        """All that can be read on the screen, for messages."""
        return " | ".join(filter(None, (self.name(n) or self.text(n)[:200] for w in self.windows() for n in self.tree(w))))

    # ---- doing ----

    def hover(self, node):
        """The pointer over its middle."""
        # Windows come up where they want to be, and are moved once: a place is believed when it is the same twice
        places = [None]

        def ready():
            places.append(self.box(node))
            return places[-1] == places[-2] and (self.has(node, "SENSITIVE") or self.fits(node, "table cell", None))
        self.until(f"'{self.name(node)}' ready for the pointer", ready)
        x, y, width, height = places[-1]
        self.do("xdotool", "mousemove", x + width // 2, y + height // 2)

    def click(self, node):
        self.hover(node)
        self.do("xdotool", "click", 1)

    def do(self, *words):
        subprocess.run([str(w) for w in words], env=self.environment, check=True, timeout=30 * SLOW, stdin=subprocess.DEVNULL)

    def type(self, words):
        """Into what has the keyboard."""
        self.do("xdotool", "type", "--delay", 20, words)
        self.do("xdotool", "key", "Return")

    def press(self, root, name, role="push button"):
        self.click(self.get(root, role, name))

    def fill(self, node, text):
        self.call(node, "org.a11y.atspi.EditableText", "SetTextContents", "(s)", text)

    def set_value(self, node, value):
        self.call(node, "org.freedesktop.DBus.Properties", "Set", "(ssv)", "org.a11y.atspi.Value", "CurrentValue", GLib.Variant("d", value))

    def picture(self, path, window="root"):
        """A screenshot as PNG; how many colours it has."""
        self.do("import", "-window", window, path)
        return int(subprocess.run(["identify", "-format", "%k", path], stdout=subprocess.PIPE, check=True, text=True, timeout=30 * SLOW).stdout)
