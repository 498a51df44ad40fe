# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's virt-manager, unmodified, on a vireod: a guest is made by the wizard, seen running, its serial console read and typed at, stopped and
deleted, all with the mouse; virsh on the same vireod is the judge. The screenshots stay in BUILD/virt-manager."""
import os
import re
import shutil
import subprocess

import pytest

import guest_image
from conftest import BUILD, Vireod
from desktop import Desktop
from limits import SLOW

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the virtual network 'default' is started in a network namespace")

NETNS = ("unshare", "-n", "-m", "sh", "-c", 'mount -t sysfs sysfs /sys && ip link set lo up && exec "$@"', "vireod")
# The URI that everybody uses: with a socket in the URI virt-manager takes the host for another one, and shows no display.
AS_LIBVIRT = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs tmpfs /run && mkdir /run/libvirt && ln -s "$1" /run/libvirt/libvirt-sock && shift && exec "$@"', "client")
SCREENS = os.path.join(os.path.abspath(BUILD), "virt-manager")
BOOT = 180  # seconds; much else is going on meanwhile
BAD_WORDS = re.compile(r"Traceback|libvirtError|is not supported|unsupported flags|unknown procedure", re.I)


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """A guest that says something until somebody types at its serial console, answers that, and tells there what was typed at its display."""
    return guest_image.make(tmp_path_factory.mktemp("image"), 'echo "words on the display" > /dev/tty1; '
                            '(while read -r w; do echo "$w" > /display; done < /dev/tty1) & '
                            '(while [ ! -e /typed ]; do echo "VT up"; sleep 1; done) & '
                            'while read -r w; do touch /typed; echo "heard $w and $(cat /display)"; done; sleep 600')


class Manager:
    """A virt-manager on a daemon."""

    def __init__(self, home, daemon):
        self.desktop = d = Desktop(home)
        self.log_path = os.path.join(str(home), "debug.log")
        os.makedirs(SCREENS, exist_ok=True)
        with open(self.log_path, "wb") as log:
            d.start([*AS_LIBVIRT, daemon.socket, "virt-manager", "--debug", "--connect", "qemu:///system"], stdout=log, stderr=log)
        self.main = d.window("Virtual Machine Manager")
        d.get(self.main, "table cell", "QEMU/KVM")

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def picture(self, name):
        return self.desktop.picture(os.path.join(SCREENS, name + ".png"))

    def lit(self, name, node):
        """How many pixels of a part of the screen are bright."""
        self.picture(name)
        x, y, width, height = self.desktop.box(node)
        out = subprocess.run(["convert", os.path.join(SCREENS, name + ".png"), "-crop", f"{width}x{height}+{x}+{y}", "+repage", "-threshold", "50%", "-format",
                              "%[fx:round(mean*w*h)]", "info:"], stdout=subprocess.PIPE, check=True, text=True, timeout=30 * SLOW).stdout
        return float(out)

    def step(self, wizard, number):
        d = self.desktop
        d.press(wizard, "Forward")
        d.until(f"step {number}", lambda: any(d.text(n).startswith(f"Step {number} of") for n in d.all(wizard, "label", "pagenum-label")))

    def wizard(self, name, disk, memory):
        """The dialogue for a new machine with a disk that exists, up to its last page. Returns its window."""
        d = self.desktop
        d.press(self.main, "New")
        wizard = d.window("New VM")
        d.press(wizard, "Import existing.*", "radio button")
        self.step(wizard, 2)
        d.fill(d.get(wizard, "text", "import-entry"), str(disk))
        system = d.get(wizard, "text", "oslist-entry")
        d.click(system)
        d.fill(system, "generic")
        d.press(wizard, "Generic Linux 2022.*", "table cell")
        d.until("the chosen system", lambda: d.text(system).startswith("Generic Linux 2022"))
        self.step(wizard, 3)
        spin = d.until("memory", lambda: [n for n in d.all(wizard, "spin button") if d.name(n) != "cpus"])[0]
        d.set_value(spin, memory)
        self.step(wizard, 4)
        d.fill(d.get(wizard, "text", ""), name)
        return wizard

    def console(self, window):
        """What the terminal of this window shows."""
        return "\n".join(self.desktop.text(n) for n in self.desktop.all(window, "terminal"))


@pytest.fixture
def manager(tmp_path):
    daemon = Vireod(tmp_path / "root", prefix=NETNS)
    os.makedirs(tmp_path / "home")
    started = None
    try:
        started = Manager(tmp_path / "home", daemon)
        started.daemon = daemon
        yield started
    except BaseException:
        print(daemon.messages())
        raise
    finally:
        if started:
            started.picture("last")
            started.desktop.stop()
        daemon.virsh("destroy", "vm", status=None)
        daemon.virsh("net-destroy", "default", status=None)
        daemon.stop(status=None)


def stop_and_delete(manager, window):
    """By the menus of the machine's window. The disk stays."""
    d, daemon = manager.desktop, manager.daemon
    d.press(window, "Virtual Machine", "menu")
    d.press(window, "Shut Down", "menu")
    d.press(window, "Force Off", "menu item")
    d.press(None, "Yes")
    d.until("the machine off", lambda: daemon.virsh("domstate", "vm").strip() == "shut off")
    d.until("its state in the list", lambda: "Shutoff" in d.words())
    manager.picture("off")
    d.press(window, "Virtual Machine", "menu")
    d.press(window, "Delete", "menu item")
    delete = d.window("Delete.*")
    storage = d.get(delete, "check box", "Delete.*")
    if d.has(storage, "CHECKED"):
        d.click(storage)
    manager.picture("delete")
    d.press(delete, "Delete")
    d.until("no machine", lambda: not daemon.virsh("list", "--all", "--name").strip())


def words_of_trouble(manager):
    return [line for line in manager.log().splitlines() if BAD_WORDS.search(line)]


def test_guest_from_the_wizard_to_its_end(manager, image, tmp_path):
    """All that the wizard proposes is taken: network, VNC, virtio video, USB tablet, agent channel."""
    d, daemon, disk = manager.desktop, manager.daemon, tmp_path / "disk.img"
    shutil.copy(image, disk)
    wizard = manager.wizard("vm", disk, 512)
    assert manager.picture("wizard") > 50
    d.press(wizard, "Finish")
    d.press(None, "Yes")  # the network 'default' is to be started
    d.until("a running machine", lambda: daemon.virsh("list", "--name", "--state-running").strip() == "vm")
    assert " default " in daemon.virsh("net-list")
    xml = daemon.virsh("dumpxml", "vm")
    for part in ("<graphics type='vnc'", "<model type='virtio'", "<input type='tablet' bus='usb'", "<controller type='usb' index='0' model='qemu-xhci'"):
        assert part in xml, f"{part} is not what the wizard chose: {xml}"
    window = d.window("vm on .*")
    d.until("a viewer of the display", lambda: '"clients":[{' in daemon.virsh("qemu-monitor-command", "vm", '{"execute":"query-vnc"}'))
    d.until("the guest's own words on the display", lambda: manager.lit("display", d.get(window, "drawing area")) > 600, BOOT)
    d.hover(d.get(window, "drawing area"))  # a click would keep the pointer there: the guest has no driver for the tablet
    d.type("world")
    daemon.virsh("screenshot", "vm", os.path.join(SCREENS, "screen.png"))
    assert open(os.path.join(SCREENS, "screen.png"), "rb").read(8) == b"\x89PNG\r\n\x1a\n"

    d.press(window, "View", "menu")
    d.press(window, "Consoles", "menu")
    d.press(window, "Serial 1", "radio menu item")
    d.until("the guest's words", lambda: "VT up" in manager.console(window), BOOT)
    d.click(d.get(window, "terminal"))
    d.type("hello")
    d.until("the guest's answer", lambda: "heard hello and world" in manager.console(window))
    d.until("the machine in the list", lambda: "Running" in d.words())
    assert manager.picture("console") > 50
    stop_and_delete(manager, window)
    assert disk.exists(), "the disk was not to be deleted"
    assert not words_of_trouble(manager), "\n".join(words_of_trouble(manager)) + daemon.messages()
