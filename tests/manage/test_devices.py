# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices that come, go and change in a running Debian kernel, by Debian's virsh; what goes wrong leaves the machine as it was."""
import json
import os
import re
import select
import socket
import subprocess
import sys
import termios
import time

import pytest

from conftest import BUILD, PLAIN, Vireod
from limits import SLOW

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "guest"))
import initramfs  # noqa: E402
import vmm  # noqa: E402

GUEST = os.environ.get("VIREO_GUEST", os.path.join(os.path.abspath(BUILD), "guest"))
UUID = "6f2f3a8e-0000-4000-8000-0000000000d2"

# Says what it sees, when asked.
AGENT = """
while read word a; do
    case $word in
    disks) echo "VT disks" $(ls /sys/block | grep -v -e loop -e ram) . ;;
    cards) echo "VT cards" $(ls /sys/class/net | grep -v lo) . ;;
    size) echo "VT size" $(cat /sys/block/$a/size) . ;;
    ports) echo "VT ports" $(cat /sys/class/virtio-ports/*/name 2>/dev/null) $(ls /sys/class/virtio-ports 2>/dev/null | grep p0$) . ;;
    talk)
        for d in /sys/class/virtio-ports/*; do [ "$(cat $d/name 2>/dev/null)" = $a ] && a=$(basename $d); done
        await "[ -c /dev/$a ]"
        exec 3<>/dev/$a; read -r line <&3; echo "answer to $line" >&3; exec 3>&-; echo "VT talk $line ." ;;
    link) ip link set $a up; echo "VT link" $(cat /sys/class/net/$a/carrier) . ;;
    end) break ;;
    esac
done
"""


class Guest:
    """A running domain with the agent above on its console."""

    def __init__(self, vireod, name):
        self.vireod, self.name, self.text = vireod, name, ""
        path = vireod.virsh("ttyconsole", name).strip()
        self.fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        mode = termios.tcgetattr(self.fd)
        mode[3] &= ~(termios.ECHO | termios.ICANON)
        termios.tcsetattr(self.fd, termios.TCSANOW, mode)

    def wait(self, pattern, seconds=60):
        until = time.monotonic() + seconds * SLOW
        while True:
            found = re.search(pattern, self.text)
            if found:
                self.text = self.text[found.end():]
                return found
            assert time.monotonic() < until, f"the guest does not say {pattern!r}: {self.text[-1500:]}"
            if select.select([self.fd], [], [], 0.2)[0]:
                try:
                    self.text += os.read(self.fd, 65536).decode(errors="replace")
                except OSError:
                    time.sleep(0.1)

    def ask(self, word, *args):
        os.write(self.fd, " ".join([word, *args]).encode() + b"\n")
        return self.wait(rf"VT {word} (.*?)\s*\.\s").group(1).split()

    def until(self, what, *words, seconds=30):
        end = time.monotonic() + seconds * SLOW
        while True:
            answer = self.ask(*words)
            if what(answer):
                return answer
            assert time.monotonic() < end, f"{words}: the guest sees {answer}"
            time.sleep(0.3)


@pytest.fixture(scope="module")
def kernels():
    if not os.path.exists(os.path.join(GUEST, "cloud", "vmlinuz")):
        os.makedirs(GUEST, exist_ok=True)
        subprocess.run(["flock", os.path.join(GUEST, ".lock"), os.path.join(HERE, "../guest/make_kernels.sh"), GUEST], check=True, stdout=subprocess.DEVNULL)
    return GUEST


def wait_for(what, condition, seconds=30):
    end = time.monotonic() + seconds * SLOW
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds * SLOW:.0f} s"
        time.sleep(0.1)


def image(directory, name, mib=4):
    path = os.path.join(str(directory), name)
    with open(path, "wb") as f:
        f.truncate(mib << 20)
    return path


def definition(kernels, initrd, disk, name="dev", uuid=UUID, ports=8, mac="52:54:00:00:0d:02", qmp=None):
    """qmp: a second monitor, for the test's own questions."""
    more = f"<qemu:commandline><qemu:arg value='-qmp'/><qemu:arg value='unix:{qmp},server=on,wait=off'/></qemu:commandline>" if qmp else ""
    return (f"<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>256</memory><vcpu>1</vcpu>"
            f"<os><type arch='x86_64' machine='q35'>hvm</type><kernel>{kernels}/cloud/vmlinuz</kernel><initrd>{initrd}</initrd>"
            "<cmdline>console=ttyS0 panic=-1 quiet</cmdline></os><features><acpi/><apic/></features><cpu mode='maximum'/><devices>"
            f"<disk type='file'><driver name='qemu' type='raw'/><source file='{disk}'/><target dev='vda' bus='virtio'/></disk>"
            "<disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>" + "<controller type='pci' model='pcie-root-port'/>" * ports +
            f"<interface type='user'><mac address='{mac}'/><model type='virtio'/></interface><controller type='scsi' model='virtio-scsi'/>"
            f"<serial type='pty'/><memballoon model='none'/></devices>{more}</domain>")


@pytest.fixture(scope="module")
def guest(kernels, tmp_path_factory):
    """One running guest for all tests of the file: they leave it as they found it."""
    root = tmp_path_factory.mktemp("devices")
    initrd = os.path.join(str(root), "initrd")
    with open(initrd, "wb") as f:
        f.write(initramfs.build(kernels, "cloud", ("virtio_pci", "virtio_blk", "virtio_net", "virtio_scsi", "sd_mod", "virtio_console"), AGENT))
    daemon = Vireod(os.path.join(str(root), "root"))
    path = os.path.join(str(root), "dev.xml")
    with open(path, "w", encoding="utf-8") as f:
        f.write(definition(kernels, initrd, image(root, "root.img"), qmp=os.path.join(str(root), "qmp")))
    daemon.virsh("define", path)
    daemon.virsh("start", "dev")
    g = Guest(daemon, "dev")
    g.initrd, g.kernels, g.dir = initrd, kernels, root
    g.qmp = vmm.Qmp(os.path.join(str(root), "qmp"))
    g.wait("VT init", 90)
    yield g
    g.qmp.close()
    daemon.virsh("destroy", "dev", status=None)
    os.close(g.fd)
    daemon.stop()


def nodes(guest):
    """The machine's own view."""
    return sorted(n["node-name"] for n in guest.qmp.command("query-named-block-nodes") if n.get("node-name"))


def live(vireod):
    return vireod.virsh("dumpxml", "dev")


def test_disk_comes_and_goes(guest, tmp_path):
    v, disk = guest.vireod, image(tmp_path, "b.img", 8)
    before, xml = nodes(guest), live(v)
    v.virsh("attach-disk", "dev", disk, "vdb", "--live", "--config", "--serial", "SECOND")
    assert guest.until(lambda d: "vdb" in d, "disks")
    assert guest.ask("size", "vdb") == [str(8 << 11)]
    assert re.search(r"vdb +" + re.escape(disk), v.virsh("domblklist", "dev"))
    assert disk in v.virsh("dumpxml", "dev", "--inactive"), "--config does not reach the definition"
    v.virsh("detach-disk", "dev", "vdb", "--live", "--config")
    assert guest.until(lambda d: "vdb" not in d, "disks")
    wait_for("the disk gone from the document", lambda: disk not in live(v))  # the guest knows it first
    assert disk not in v.virsh("dumpxml", "dev", "--inactive")
    assert nodes(guest) == before, "nodes of the image stay behind"
    assert live(v) == xml


def test_scsi_disk(guest, tmp_path):
    v, disk = guest.vireod, image(tmp_path, "s.img")
    v.virsh("attach-disk", "dev", disk, "sdb", "--targetbus", "scsi", "--live")
    assert guest.until(lambda d: "sda" in d, "disks")
    v.virsh("detach-disk", "dev", "sdb", "--live")
    assert guest.until(lambda d: "sda" not in d, "disks")


def test_card_comes_and_goes(guest, tmp_path):
    v = guest.vireod
    (tmp_path / "nic.xml").write_text("<interface type='network'><source network='nowhere'/><model type='virtio'/></interface>")
    assert "nowhere" in v.virsh("attach-device", "dev", tmp_path / "nic.xml", "--live", status=1)
    (tmp_path / "nic.xml").write_text("<interface type='user'><mac address='52:54:00:00:0d:03'/><model type='virtio'/></interface>")
    out = v.virsh("attach-device", "dev", tmp_path / "nic.xml", "--live", status=None)
    if "descriptor" in out or "sandbox" in out:
        assert "52:54:00:00:0d:03" not in live(v), "an attachment that failed is in the document"
        return  # the sandbox makes no sockets at run time: refused, with its reason, and nothing stays
    assert guest.until(lambda c: len(c) == 2, "cards")
    v.virsh("detach-interface", "dev", "user", "--mac", "52:54:00:00:0d:03", "--live")
    assert guest.until(lambda c: len(c) == 1, "cards")
    wait_for("the card gone from the document", lambda: "52:54:00:00:0d:03" not in live(v))


def read_until(fd, wanted, seconds=30):
    text, end = b"", time.monotonic() + seconds * SLOW
    while wanted not in text:
        assert select.select([fd], [], [], max(0, end - time.monotonic()))[0], f"{wanted} did not come: {text}"
        text += os.read(fd, 4096)
    return text


def chardevs(v, name):
    return sorted(c["label"] for c in json.loads(v.virsh("qemu-monitor-command", name, '{"execute":"query-chardev"}'))["return"])


def channels_come_and_go(g, name, tmp_path):
    """The guest and the host speak over what has come. At the end all is as before, but for a controller that has come with the first."""
    v = g.vireod
    xml = tmp_path / "char.xml"
    before = chardevs(v, name)

    def attach(text, status=0):
        xml.write_text(text)
        return v.virsh("attach-device", name, xml, "--live", status=status)

    def detach(text):
        xml.write_text(text)
        v.virsh("detach-device", name, xml, "--live")

    def talk(what, fd):
        os.write(g.fd, f"talk {what}\n".encode())
        time.sleep(1) # a console's line discipline is the guest's from when it is open
        os.write(fd, f"hello {what}\n".encode())
        read_until(fd, f"answer to hello {what}".encode())
        g.wait(rf"VT talk hello {what} \.")

    # A socket of vireod's own making.
    agent = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
    attach(agent)
    now = v.virsh("dumpxml", name)
    path = re.search(r"<channel type='unix'>\s*<source mode='bind' path='([^']*/org.qemu.guest_agent.0)'/>\s*<target type='virtio' name='org.qemu.guest_agent.0'[^>]*/>\s*"
                     r"<alias name='channel0'/>\s*<address type='virtio-serial' controller='0' bus='0' port='1'/>", now).group(1)
    assert "org.qemu.guest_agent.0" in g.until(lambda p: "org.qemu.guest_agent.0" in p, "ports")
    with socket.socket(socket.AF_UNIX) as s:
        at = os.open(os.path.dirname(path), os.O_PATH)
        s.connect(f"/proc/self/fd/{at}/{os.path.basename(path)}") # the path may be longer than an address
        os.close(at)
        talk("org.qemu.guest_agent.0", s.fileno())
    assert "org.qemu.guest_agent.0" in attach(agent, status=1)
    assert v.virsh("dumpxml", name).count("org.qemu.guest_agent.0") == now.count("org.qemu.guest_agent.0")
    # Port 0 is a console's: the machine refuses the second step, and the first is taken back.
    attach("<channel type='unix'><source mode='bind' path='%s/refused'/><target type='virtio' name='org.test'/><address type='virtio-serial' controller='0' bus='0' port='0'/></channel>"
           % tmp_path, status=1)
    assert chardevs(v, name) == sorted([*before, "charchannel0"]), "a back end whose device was refused stays behind"
    assert not os.path.exists(tmp_path / "refused")
    # A console, and a channel on a terminal after it.
    attach("<console type='pty'><target type='virtio'/></console>")
    g.until(lambda p: any(x.endswith("p0") for x in p), "ports")
    alias = re.search(r"<console type='pty'[^>]*>\s*<source path='/dev/pts/\d+'/>\s*<target type='virtio' port='1'/>\s*<alias name='(console\d)'/>", v.virsh("dumpxml", name)).group(1)
    main, other = os.openpty()
    with subprocess.Popen(["virsh", "-c", v.uri, "console", name, "--devname", alias], stdin=other, stdout=other, stderr=other, env=PLAIN) as virsh:
        read_until(main, b"Escape character")
        talk("hvc0", main)
        os.write(main, b"\x1d")
        virsh.wait(20 * SLOW)
    os.close(main)
    os.close(other)
    terminal = "<channel type='pty'><target type='virtio' name='org.test.terminal'/></channel>"
    attach(terminal)
    path = re.search(r"<source path='(/dev/pts/\d+)'/>\s*<target type='virtio' name='org.test.terminal'", v.virsh("dumpxml", name)).group(1)
    g.until(lambda p: "org.test.terminal" in p, "ports")
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
    time.sleep(1) # the emulator looks now and then whether somebody is there
    talk("org.test.terminal", fd)
    os.close(fd)
    detach(terminal)
    # What connects.
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(tmp_path / "l"))
        s.listen(1)
        client = f"<channel type='unix'><source mode='connect' path='{tmp_path}/l'/><target type='virtio' name='org.test.client'/></channel>"
        attach(client)
        peer = s.accept()[0]
        g.until(lambda p: "org.test.client" in p, "ports")
        talk("org.test.client", peer.fileno())
        peer.close()
        detach(client)
    own = f"<channel type='unix'><source mode='bind' path='{tmp_path}/own'/><target type='virtio' name='org.test.own'/></channel>"
    attach(own)
    assert os.path.exists(tmp_path / "own")
    detach(own)
    assert not os.path.exists(tmp_path / "own"), "the socket of a channel that went is left over"
    v.virsh("detach-device-alias", name, alias, "--live")
    detach(agent)
    assert g.until(lambda p: not p, "ports") == []
    wait_for("back ends of what went gone", lambda: chardevs(v, name) == before)
    for refused in ("<console type='pty'/>", "<console type='pty'><target type='serial'/></console>", "<channel type='pty'><target type='guestfwd' address='10.0.2.1' port='4600'/></channel>"):
        assert "cannot come while the machine runs" in attach(refused, status=1)


def test_channels_come_and_go(guest, tmp_path):
    before = live(guest.vireod)
    channels_come_and_go(guest, "dev", tmp_path)
    guest.vireod.virsh("detach-device-alias", "dev", "virtio-serial0", "--live")
    wait_for("the controller gone", lambda: live(guest.vireod) == before)


def test_link_goes_down_and_up(guest):
    v = guest.vireod
    assert guest.until(lambda carrier: carrier == ["1"], "link", "eth0")
    v.virsh("domif-setlink", "dev", "52:54:00:00:0d:02", "down")
    assert guest.until(lambda carrier: carrier == ["0"], "link", "eth0")
    assert "down" in v.virsh("domif-getlink", "dev", "52:54:00:00:0d:02")
    v.virsh("domif-setlink", "dev", "52:54:00:00:0d:02", "up")
    assert guest.until(lambda carrier: carrier == ["1"], "link", "eth0")


def test_medium_changes(guest, tmp_path):
    v, one, two = guest.vireod, image(tmp_path, "one.iso", 2), image(tmp_path, "two.iso", 3)
    before = nodes(guest)

    def inserted():
        for d in guest.qmp.command("query-block"):
            if d.get("qdev", "").endswith("sata0-0-0"):
                return d.get("inserted", {}).get("image", {}).get("filename") or d.get("inserted", {}).get("file")
        return None

    v.virsh("change-media", "dev", "sda", one, "--insert", "--live")
    assert inserted() == one
    v.virsh("change-media", "dev", "sda", two, "--update", "--live", "--config")
    assert inserted() == two and two in v.virsh("dumpxml", "dev", "--inactive")
    out = v.virsh("change-media", "dev", "sda", str(tmp_path / "none.iso"), "--update", "--live", status=1)
    assert "none.iso' is missing" in out
    assert inserted() == two, "a medium that is missing took the one away that was there"
    v.virsh("change-media", "dev", "sda", "--eject", "--live", "--config")
    assert not inserted() and nodes(guest) == before


def test_taken_away_before_the_guest_has_it(guest, tmp_path):
    """The guest is still busy with the slot, and says so with its light."""
    v, path = guest.vireod, image(tmp_path, "hasty.img")
    before = nodes(guest)
    for delay in (0, 0.1):
        v.virsh("attach-disk", "dev", path, "vdh", "--live")
        time.sleep(delay)
        v.virsh("detach-disk", "dev", "vdh", "--live")
        wait_for("the disk gone", lambda: "vdh" not in live(v))
    assert nodes(guest) == before


def test_a_missing_image_changes_nothing(guest, tmp_path):
    v = guest.vireod
    before, xml = nodes(guest), live(v)
    out = v.virsh("attach-disk", "dev", tmp_path / "none.img", "vdc", "--live", "--config", status=1)
    assert "none.img' is missing" in out and "'vdc'" in out
    assert nodes(guest) == before and live(v) == xml and "vdc" not in v.virsh("dumpxml", "dev", "--inactive")


def test_a_missing_backing_file_is_named(guest, tmp_path):
    base = image(tmp_path, "base.img")
    subprocess.run([os.path.join(BUILD, "vireo-img"), "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", tmp_path / "top.qcow2"], check=True)
    os.unlink(base)
    out = guest.vireod.virsh("attach-disk", "dev", tmp_path / "top.qcow2", "vdc", "--subdriver", "qcow2", "--live", status=1)
    assert "backing file" in out and "base.img" in out and "top.qcow2" in out


def test_the_same_target_is_refused(guest, tmp_path):
    out = guest.vireod.virsh("attach-disk", "dev", image(tmp_path, "c.img"), "vda", "--live", status=1)
    assert "'vda'" in out and "already" in out


def test_a_second_writer_is_refused(guest, tmp_path):
    v = guest.vireod
    disk = os.path.join(str(guest.dir), "root.img")
    path = tmp_path / "second.xml"
    path.write_text(definition(guest.kernels, guest.initrd, disk, "second", UUID[:-1] + "3", mac="52:54:00:00:0d:99"))
    v.virsh("define", path)
    out = v.virsh("start", "second", status=1)
    assert disk in out and "'dev'" in out and "in use" in out
    path.write_text(definition(guest.kernels, guest.initrd, image(tmp_path, "own.img"), "second", UUID[:-1] + "3"))
    v.virsh("define", path)
    out = v.virsh("start", "second", status=1)
    assert "52:54:00:00:0d:02" in out and "'dev'" in out
    v.virsh("undefine", "second")


def test_no_free_port_is_said(guest, tmp_path):
    v, taken = guest.vireod, []
    for i in range(9):
        out = v.virsh("attach-disk", "dev", image(tmp_path, f"p{i}.img"), f"vd{'efghijklm'[i]}", "--live", status=None)
        if "no free PCI slot" in out:
            break
        taken.append(f"vd{'efghijklm'[i]}")
    assert taken and "pcie-root-port" in out
    assert guest.until(lambda d: taken[-1] in d or len([x for x in d if x.startswith("vd")]) == len(taken) + 1, "disks")
    for t in taken:
        guest.qmp.unplug(re.search(rf"dev='{t}'.*?alias name='([^']*)'", live(v), re.S).group(1))
    wait_for("what the guest gave away gone from the document", lambda: not any(f"dev='{t}'" in live(v) for t in taken))


@pytest.mark.parametrize("xml,words", [
    ("<disk><source file='/dev/zero'/><target dev='sdc' bus='sata'/></disk>", ["'sdc'", "'sata'"]),
    ("<input type='tablet' bus='xen'/>", ["input"]),
    ("<disk><sauce file='/x'/><target dev='vdx'/></disk>", ["sauce"]),
    ("<nothing/>", ["nothing"]),
    ("<serial type='pty'/>", ["serial"]),
])
def test_what_cannot_come_is_refused(guest, xml, words, tmp_path):
    before = live(guest.vireod)
    (tmp_path / "d.xml").write_text(xml)
    out = guest.vireod.virsh("attach-device", "dev", tmp_path / "d.xml", "--live", status=1)
    for w in words:
        assert w in out, out
    assert live(guest.vireod) == before


def test_what_is_not_there_cannot_go(guest, tmp_path):
    (tmp_path / "d.xml").write_text("<disk><source file='/x'/><target dev='vdx'/></disk>")
    assert "device not found" in guest.vireod.virsh("detach-device", "dev", tmp_path / "d.xml", "--live", status=1)
    assert "device not found" in guest.vireod.virsh("detach-device-alias", "dev", "ua-none", "--live", status=1)
    assert "cannot be taken away" in guest.vireod.virsh("detach-device-alias", "dev", "serial0", "--live", status=1)


def test_random_numbers_come_and_go(guest, tmp_path):
    """The machine opens no file of the host by then."""
    v, before = guest.vireod, live(guest.vireod)
    (tmp_path / "r.xml").write_text("<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>")
    v.virsh("attach-device", "dev", tmp_path / "r.xml", "--live")
    assert "<backend model='random'>/dev/urandom</backend>" in live(v)
    v.virsh("detach-device", "dev", tmp_path / "r.xml", "--live")
    wait_for("the source of random numbers to go", lambda: live(v) == before)


@pytest.mark.parametrize("what, part, changed", [
    ("disk", "<driver name='qemu' type='raw'", "<driver name='qemu' type='raw' cache='none'"), ("disk", "<target dev='vda'", "<serial>other</serial><target dev='vda'"),
    ("interface", "<model type='virtio'/>", "<model type='e1000e'/>"), ("interface", "<model type='virtio'/>", "<model type='virtio'/><mtu size='1400'/>"),
    ("interface", "<model type='virtio'/>", "<model type='virtio'/><driver queues='4'/>"), ("interface", "<mac address='52", "<mac address='56"),
    ("disk", "<target dev='vda'", "<readonly/><target dev='vda'"), ("disk", "<target dev='vda'", "<shareable/><target dev='vda'"),
    ("disk", "<target dev='vda'", "<transient/><target dev='vda'")])
def test_what_stays_as_it_is_while_the_machine_runs(guest, tmp_path, what, part, changed):
    """It is refused: to say that it is done and to show it in the document would be a lie."""
    v, before = guest.vireod, live(guest.vireod)
    device = re.search(rf"<{what} .*?</{what}>", before, re.S).group()
    assert part in device
    (tmp_path / "d.xml").write_text(device.replace(part, changed))
    assert "cannot change while the machine runs" in v.virsh("update-device", "dev", tmp_path / "d.xml", "--live", status=1)
    assert live(v) == before
    (tmp_path / "d.xml").write_text(device)
    v.virsh("update-device", "dev", tmp_path / "d.xml", "--live")
    assert live(v) == before


def test_definition_alone(guest, tmp_path):
    """--config: nothing happens to the machine."""
    v, before = guest.vireod, live(guest.vireod)
    (tmp_path / "r.xml").write_text("<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>")
    v.virsh("attach-device", "dev", tmp_path / "r.xml", "--config")
    assert "<rng model='virtio'>" in v.virsh("dumpxml", "dev", "--inactive") and live(v) == before
    v.virsh("detach-device", "dev", tmp_path / "r.xml", "--config")
    assert "<rng" not in v.virsh("dumpxml", "dev", "--inactive")


def test_native_command_line(guest, tmp_path):
    out = guest.vireod.virsh("domxml-to-native", "qemu-argv", "--domain", "dev")
    assert "-name guest=dev " in out and "virtio-blk-pci" in out and "-kernel" in out


@pytest.mark.parametrize("first", ["A", "B"])
def test_boot_order(first, tmp_path, shared_vireod):
    """Without a kernel the firmware starts the disk that comes first: virtio (A) or SATA (B)."""
    disks = ""
    for letter, target in (("A", "vda' bus='virtio"), ("B", "sdb' bus='sata")):
        path = tmp_path / f"{letter}.img"
        subprocess.run(["nasm", "-f", "bin", "-I", os.path.join(HERE, "../guest/asm/"), f"-DLETTER={letter}", "-o", path, os.path.join(HERE, "../guest/asm/bootsector.asm")], check=True)
        with open(path, "r+b") as f:
            f.truncate(1 << 20)
        disks += f"<disk type='file'><source file='{path}'/><target dev='{target}'/><boot order='{1 if letter == first else 2}'/></disk>"
    (tmp_path / "b.xml").write_text(f"<domain type='qemu'><name>boots{first}</name><memory unit='MiB'>64</memory><os><type machine='q35'>hvm</type></os><features><acpi/></features><devices>{disks}"
                                    f"<serial type='file'><source path='{tmp_path}/serial'/></serial></devices></domain>")
    shared_vireod.virsh("create", tmp_path / "b.xml")
    try:
        end = time.monotonic() + 30 * SLOW
        while f"boot sector {first}" not in (tmp_path / "serial").read_text(errors="replace"):
            assert time.monotonic() < end, (tmp_path / "serial").read_text(errors="replace")
            time.sleep(0.2)
    finally:
        shared_vireod.virsh("destroy", f"boots{first}")


def test_the_same_with_qemu(guest, tmp_path):
    """The same builder serves QEMU, named by <emulator>."""
    emulator = "/usr/bin/qemu-system-x86_64"
    if not os.path.exists(emulator):
        pytest.skip(f"{emulator} is not installed")
    v = guest.vireod
    path = tmp_path / "q.xml"
    text = definition(guest.kernels, guest.initrd, image(tmp_path, "q.img"), "withqemu", UUID[:-1] + "4", mac="52:54:00:00:0d:98")
    text = text.replace("<devices>", f"<devices><emulator>{emulator}</emulator>", 1)
    path.write_text(text)
    v.virsh("create", path)
    q = Guest(v, "withqemu")
    try:
        q.wait("VT init", 60)
        v.virsh("attach-disk", "withqemu", image(tmp_path, "second.img"), "vdb", "--live")
        assert q.until(lambda d: "vdb" in d, "disks")
        (tmp_path / "nic.xml").write_text("<interface type='user'><mac address='52:54:00:00:0d:97'/><model type='virtio'/></interface>")
        v.virsh("attach-device", "withqemu", tmp_path / "nic.xml", "--live")
        assert q.until(lambda c: len(c) == 2, "cards")
        channels_come_and_go(q, "withqemu", tmp_path)
        v.virsh("detach-disk", "withqemu", "vdb", "--live")
        assert q.until(lambda d: "vdb" not in d, "disks")
        iso = image(tmp_path, "q.iso")
        v.virsh("change-media", "withqemu", "sda", iso, "--insert", "--live")
        assert iso in v.virsh("domblklist", "withqemu")
    finally:
        os.close(q.fd)
        v.virsh("destroy", "withqemu")


def test_a_directory_that_cannot_be_searched(guest, kernels, tmp_path):
    """An unprivileged daemon says which directory, and as whom."""
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    import shutil
    home = tmp_path / "home"
    closed = tmp_path / "closed"
    home.mkdir()
    closed.mkdir()
    disk = image(closed, "d.img")
    os.chmod(disk, 0o666)
    os.chmod(closed, 0o700)
    os.chown(home, 65534, 65534)
    for d in (tmp_path, *tmp_path.parents):
        if str(d) != "/" and os.stat(d).st_uid == os.geteuid():
            os.chmod(d, os.stat(d).st_mode | 0o011)
    os.chmod(closed, 0o700)
    build = tmp_path / "bin"
    build.mkdir()
    os.chmod(build, 0o755)
    for name in ("vireod", "vireo-vmm"):
        shutil.copy(os.path.join(BUILD, name), build / name)
    p = subprocess.Popen([build / "vireod", "--root", home / "root"], user=65534, group=65534, extra_groups=[], env=dict(PLAIN, HOME=str(home)), stdin=subprocess.DEVNULL,
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        socket = home / "root/run/vireo/libvirt-sock"
        end = time.monotonic() + 15 * SLOW
        while not socket.exists():
            assert p.poll() is None and time.monotonic() < end, "vireod does not start for another user"
            time.sleep(0.05)

        def virsh(*args):
            return subprocess.run(["virsh", "-c", f"qemu+unix:///session?socket={socket}", *map(str, args)], user=65534, group=65534, extra_groups=[], env=dict(PLAIN, HOME=str(home)),
                                  capture_output=True, text=True, check=False, timeout=30 * SLOW)
        path = home / "d.xml"
        path.write_text(definition(kernels, "/dev/null", disk).replace("<initrd>/dev/null</initrd>", ""))
        assert virsh("define", path).returncode == 0
        out = virsh("start", "dev")
        assert out.returncode == 1 and f"'{closed}' is not searchable by user 'nobody'" in out.stderr, out.stderr
        assert "shut off" in virsh("domstate", "dev").stdout
    finally:
        p.terminate()
        p.wait(15 * SLOW)
