# SPDX-License-Identifier: GPL-2.0-or-later
"""Domains from definition to end, by Debian's virsh and python3-libvirt against vireod with real guests."""
import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import threading
import time

import libvirt
import pytest

from conftest import PLAIN, Vireod
from limits import SLOW
from listener import Listener

HERE = os.path.dirname(os.path.abspath(__file__))


@pytest.fixture(scope="session")
def kernel(tmp_path_factory):
    """The small guest of guest.asm."""
    path = tmp_path_factory.mktemp("guest") / "guest.bin"
    subprocess.run(["nasm", "-f", "bin", "-o", path, os.path.join(HERE, "guest.asm")], check=True)
    return path


def uuid(n):
    return f"6f2f3a8e-0000-4000-8000-{n:012x}"


@pytest.fixture
def xml(kernel, tmp_path):
    """A function that writes a definition to a file and returns its path."""
    def write(name, n=1, devices="", more="", vcpu="1", memory=32, kind="qemu"):
        path = tmp_path / f"{n}.{len(os.listdir(tmp_path))}.xml"
        path.write_text(f"<domain type='{kind}'><name>{name}</name><uuid>{uuid(n)}</uuid><memory unit='MiB'>{memory}</memory><vcpu>{vcpu}</vcpu>"
                        f"<os><type arch='x86_64' machine='q35'>hvm</type><kernel>{kernel}</kernel></os><features><acpi/></features>{more}"
                        f"<devices><serial type='pty'/><console type='pty'/>{devices}</devices></domain>", encoding="utf-8")
        return path
    return write


def wait_for(what, condition, seconds=15):
    until = time.monotonic() + seconds * SLOW
    while not condition():
        assert time.monotonic() < until, f"{what} did not happen within {seconds} s"
        time.sleep(0.02)


def reason(vireod, name):
    return vireod.virsh("domstate", name, "--reason").strip()


def rows(text):
    """The rows of a virsh table, as lists of words."""
    return [line.split() for line in text.splitlines()[2:] if line.strip()]


def machines(vireod):
    """Processes of this daemon's machines."""
    found = []
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            try:
                with open(f"/proc/{pid}/environ", "rb") as f:
                    environ = f.read()
            except OSError:
                continue
            if b"VIREO_DOMAIN=" + vireod.root.encode() in environ:
                found.append(int(pid))
    return found


def state_files(vireod):
    return sorted(f for f in os.listdir(os.path.join(vireod.root, "run/vireo/qemu")) if f != "autostarted")


@pytest.fixture
def vireod(vireod):
    """Whatever a test did: machines of its daemon are ended."""
    yield vireod
    for pid in machines(vireod):
        with contextlib.suppress(ProcessLookupError):  # it ends by itself
            os.kill(pid, signal.SIGKILL)


class Console:
    """virsh console on a terminal of its own."""

    def __init__(self, vireod, name, *options):
        self.fd, other = pty.openpty()
        self.process = subprocess.Popen(["virsh", "-c", vireod.uri, "console", name, *options], stdin=other, stdout=other, stderr=other, env=PLAIN)
        os.close(other)
        self.seen = b""

    def expect(self, text, seconds=10):
        until = time.monotonic() + seconds * SLOW
        while text not in self.seen:
            left = until - time.monotonic()
            assert left > 0, f"{text} is not in {self.seen}"
            if select.select([self.fd], [], [], left)[0]:
                try:
                    self.seen += os.read(self.fd, 4096)
                except OSError:
                    assert text in self.seen, f"the console ended: {self.seen}"

    def connected(self):
        """What was typed before virsh has set its terminal is thrown away by it."""
        self.expect(b"Connected to domain")
        wait_for("a raw terminal", lambda: not termios.tcgetattr(self.fd)[3] & termios.ICANON)

    def type(self, text):
        os.write(self.fd, text)

    def close(self):
        if self.process.poll() is None:
            self.type(b"\x1d")
            try:
                self.process.wait(10 * SLOW)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        os.close(self.fd)
        return self.process.returncode


# ---- definitions ----

def test_define_list_and_undefine(vireod, xml):
    path = xml("a")
    assert vireod.virsh("define", path) == f"Domain 'a' defined from {path}\n\n"
    vireod.virsh("define", xml("b", 2))
    out = vireod.virsh("list", "--all")
    assert out.splitlines()[0].split() == ["Id", "Name", "State"]
    assert rows(out) == [["-", "a", "shut", "off"], ["-", "b", "shut", "off"]]
    assert rows(vireod.virsh("list")) == []
    assert vireod.virsh("list", "--all", "--name").split() == ["a", "b"]
    assert vireod.virsh("list", "--inactive", "--uuid").split() == [uuid(1), uuid(2)]
    vireod.virsh("autostart", "a")
    assert vireod.virsh("list", "--all", "--autostart", "--name").split() == ["a"]
    assert vireod.virsh("list", "--all", "--no-autostart", "--name").split() == ["b"]
    assert vireod.virsh("list", "--all", "--with-snapshot", "--name").split() == []
    assert vireod.virsh("list", "--all", "--transient", "--name").split() == []
    assert os.path.islink(os.path.join(vireod.root, "etc/vireo/qemu/autostart/a.xml"))
    assert vireod.virsh("domuuid", "a").strip() == uuid(1)
    assert vireod.virsh("domname", uuid(2)).strip() == "b"
    assert vireod.virsh("domid", "a").strip() == "-"
    assert "Domain 'a' has been undefined" in vireod.virsh("undefine", "a")
    assert not os.path.lexists(os.path.join(vireod.root, "etc/vireo/qemu/autostart/a.xml"))
    assert "failed to get domain" in vireod.virsh("domstate", "a", status=1)


def test_names_and_uuids_stay_unique(vireod, xml):
    vireod.virsh("define", xml("a"))
    assert f"domain 'a' already exists with uuid {uuid(1)}" in vireod.virsh("define", xml("a", 2), status=1)
    assert f"domain 'a' is already defined with uuid {uuid(1)}" in vireod.virsh("define", xml("b", 1), status=1)
    assert "name without '/'" in vireod.virsh("define", xml("../b", 3), status=1)
    vireod.virsh("define", xml("a", memory=48))  # the same: changed
    assert "49152 KiB" in vireod.virsh("dominfo", "a")
    assert vireod.virsh("list", "--all", "--name").split() == ["a"]


def test_rename(vireod, xml):
    vireod.virsh("define", xml("a"))
    vireod.virsh("define", xml("b", 2))
    vireod.virsh("autostart", "a")
    assert "already exists" in vireod.virsh("domrename", "a", "b", status=1)
    assert "Domain successfully renamed" in vireod.virsh("domrename", "a", "c")
    assert vireod.virsh("list", "--all", "--name").split() == ["b", "c"]
    assert sorted(f for f in os.listdir(os.path.join(vireod.root, "etc/vireo/qemu")) if f.endswith(".xml")) == ["b.xml", "c.xml"]
    assert "<name>c</name>" in vireod.virsh("dumpxml", "c")
    assert "enable" in re.search("Autostart: *(.*)", vireod.virsh("dominfo", "c")).group(1)
    vireod.virsh("start", "c")
    assert "cannot rename active domain" in vireod.virsh("domrename", "c", "d", status=1)
    vireod.virsh("destroy", "c")


def test_definitions_outlive_the_daemon(vireod, xml):
    for n in range(1, 6):
        vireod.virsh("define", xml(f"d{n}", n))
    vireod.virsh("desc", "d1", "--config", "--title", "first of all")
    text = vireod.virsh("dumpxml", "d1")
    path = os.path.join(vireod.root, "etc/vireo/qemu/d2.xml")
    vireod.stop()
    with open(path, "r+", encoding="utf-8") as f:  # by hand, as the comment at its head says
        changed = f.read().replace("32768", "65536")
        f.seek(0)
        f.write(changed)
    with open(os.path.join(vireod.root, "etc/vireo/qemu/d3.xml"), "r+", encoding="utf-8") as f:
        f.truncate(700)
    vireod.start()
    assert vireod.virsh("list", "--all", "--name").split() == ["d1", "d2", "d4", "d5"]
    assert vireod.virsh("dumpxml", "d1") == text
    assert "65536 KiB" in vireod.virsh("dominfo", "d2")
    assert "d3.xml: not loaded, the file is left as it is" in vireod.messages()
    assert os.path.getsize(os.path.join(vireod.root, "etc/vireo/qemu/d3.xml")) == 700


def test_two_thousand_definitions_are_found_again(vireod, xml):
    vireod.virsh("define", xml("d0", 0))
    folder = os.path.join(vireod.root, "etc/vireo/qemu")
    with open(os.path.join(folder, "d0.xml"), encoding="utf-8") as f:
        text = f.read()

    def fnv(*texts):
        h = 0xcbf29ce484222325
        for data in texts:
            for at in range(0, len(data), 8):
                h = (h ^ int.from_bytes(data[at:at + 8], "little")) * 0x100000001b3 & 0xffffffffffffffff
                h ^= h >> 29
        return h

    head, body = text.split("-->\n", 1)
    assert f"{fnv(b'd0', body.encode()):x}" in head
    # 40 with their own sums, the others as if changed by hand: both ways of loading
    for n in range(1, 2001):
        mine = body.replace("<name>d0<", f"<name>d{n}<").replace(uuid(0), uuid(n))
        summary = re.sub("summary: .*", f"summary: {uuid(n)} 32768 32768 1 1 hvm {fnv(f'd{n}'.encode(), mine.encode()) if n < 40 else 0:x}", head)
        with open(os.path.join(folder, f"d{n}.xml"), "w", encoding="utf-8") as f:
            f.write(summary + "-->\n" + mine)
    vireod.stop()
    vireod.start()
    assert len(vireod.virsh("list", "--all", "--name").split()) == 2001


def test_undefine_and_uefi_variables(vireod, xml, tmp_path):
    """They go only when that was said."""
    variables = tmp_path / "vars.fd"
    for flag, left in (("--nvram", False), ("--keep-nvram", True)):
        variables.write_text("what the firmware knows")
        path = xml("a")
        path.write_text(path.read_text().replace("</os>", f"<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader><nvram>{variables}</nvram></os>"))
        vireod.virsh("define", path)
        assert "--keep-nvram" in vireod.virsh("undefine", "a", status=1)
        vireod.virsh("undefine", "a", flag)
        assert variables.exists() == left


# ---- life ----

def test_life(vireod, xml):
    vireod.virsh("define", xml("a"))
    assert vireod.virsh("start", "a") == "Domain 'a' started\n\n"
    assert rows(vireod.virsh("list")) == [["1", "a", "running"]]
    assert reason(vireod, "a") == "running (booted)"
    assert "Domain is already active" in vireod.virsh("start", "a", status=1)
    info = dict(line.split(":", 1) for line in vireod.virsh("dominfo", "a").splitlines() if ":" in line)
    assert {k: info[k].strip() for k in ("Id", "Name", "UUID", "OS Type", "State", "CPU(s)", "Max memory", "Used memory", "Persistent", "Autostart", "Managed save")} == {
        "Id": "1", "Name": "a", "UUID": uuid(1), "OS Type": "hvm", "State": "running", "CPU(s)": "1", "Max memory": "32768 KiB", "Used memory": "32768 KiB",
        "Persistent": "yes", "Autostart": "disable", "Managed save": "no"}
    assert "<domain type='qemu' id='1'>" in vireod.virsh("dumpxml", "a")
    assert "id=" not in vireod.virsh("dumpxml", "a", "--inactive").splitlines()[0]
    assert "Domain 'a' suspended" in vireod.virsh("suspend", "a")
    assert reason(vireod, "a") == "paused (user)"
    assert rows(vireod.virsh("list", "--state-paused")) == [["1", "a", "paused"]]
    assert "Domain 'a' resumed" in vireod.virsh("resume", "a")
    assert reason(vireod, "a") == "running (unpaused)"
    assert "already running" in vireod.virsh("resume", "a", status=1)
    assert "Domain 'a' was reset" in vireod.virsh("reset", "a")
    assert vireod.virsh("domcontrol", "a").strip() == "ok"
    assert vireod.virsh("domjobinfo", "a").split() == ["Job", "type:", "None"]
    assert "no job is active" in vireod.virsh("domjobabort", "a", status=1)
    assert "Domain 'a' destroyed" in vireod.virsh("destroy", "a")
    assert reason(vireod, "a") == "shut off (destroyed)"
    for command in ("destroy", "suspend", "resume", "reset", "reboot", "shutdown", "inject-nmi"):
        assert "domain is not running" in vireod.virsh(command, "a", status=1), command
    assert not machines(vireod) and not state_files(vireod)
    with open(os.path.join(vireod.root, "var/log/vireo/qemu/a.log"), encoding="utf-8") as f:
        log = f.read()
    assert re.search(r"^20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\+0000: starting up\n.*vireo-vmm", log, re.M) and "-name guest=a" in log and "shutting down" in log


def test_start_paused_and_graceful_destroy(vireod, xml):
    vireod.virsh("define", xml("a"))
    vireod.virsh("start", "a", "--paused")
    assert reason(vireod, "a") == "paused (user)"
    vireod.virsh("resume", "a")
    log = os.path.join(vireod.root, "var/log/vireo/qemu/a.log")
    assert os.path.exists(log)
    vireod.virsh("destroy", "a", "--graceful", "--remove-logs")
    assert reason(vireod, "a") == "shut off (destroyed)" and not os.path.exists(log)


def test_document_for_another_host(vireod, xml):
    """dumpxml --migratable of a running machine holds nothing that only this run of it has."""
    vireod.virsh("define", xml("a", devices="<channel type='unix'><target type='virtio' name='org.x'/></channel>"))
    vireod.virsh("start", "a", "--paused")
    live, text = vireod.virsh("dumpxml", "a"), vireod.virsh("dumpxml", "a", "--migratable")
    assert "<alias " in live and "/dev/pts/" in live and "/qemu/domain-" in live
    assert "<alias " not in text and "/dev/pts/" not in text and "/qemu/domain-" not in text and "<source mode='bind'/>" not in text and " id='" not in text.splitlines()[0]
    vireod.virsh("destroy", "a")


EMULATORS = {"vireo": "", "qemu": "<emulator>/usr/bin/qemu-system-x86_64</emulator>"}


@pytest.mark.parametrize("emulator", EMULATORS)
def test_variables_of_the_emulator(emulator, vireod, xml):
    """<qemu:env>, as libguestfs sends it: in the process, in the log and in domxml-to-native. A daemon started anew finds the machine, whatever was set."""
    own = {"TMPDIR": "/var/tmp", "VIREO_DOMAIN": "/elsewhere", "WORDS_": "two words"}
    more = ("<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>" + "".join(f"<qemu:env name='{k}' value='{v}'/>" for k, v in own.items()) +
            "<qemu:env name='NOTHING'/></qemu:commandline>")
    vireod.virsh("define", xml("a", more=more, devices=EMULATORS[emulator]))
    assert "TMPDIR='/var/tmp'" in vireod.virsh("domxml-to-native", "qemu-argv", "--domain", "a")
    vireod.virsh("start", "a", "--paused")
    (pid,) = machines(vireod)
    with open(f"/proc/{pid}/environ", encoding="utf-8") as f:
        got = dict(v.split("=", 1) for v in f.read().split("\0") if v)
    assert (got["TMPDIR"], got["WORDS_"], got["NOTHING"]) == ("/var/tmp", "two words", "")
    with open(os.path.join(vireod.root, "var/log/vireo/qemu/a.log"), encoding="utf-8") as f:
        assert "WORDS_='two words' " in f.read()
    vireod.stop()
    vireod.start()
    assert reason(vireod, "a") == "paused (user)"
    vireod.virsh("destroy", "a")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: /dev/kvm is hidden")
@pytest.mark.parametrize("mode", ["host-passthrough", "maximum"])
def test_qemu_of_the_type_kvm_on_a_host_without(mode, tmp_path, xml):
    """vireod's capabilities offer 'kvm' on every host, and libguestfs takes it for the QEMU that it names: such a machine runs in software, and its log says so."""
    daemon = Vireod(tmp_path / "root", prefix=("unshare", "-m", "sh", "-c", '[ ! -e /dev/kvm ] || mount --bind /dev/null /dev/kvm; exec "$@"', "sh"))
    try:
        daemon.virsh("define", xml("a", kind="kvm", more=f"<cpu mode='{mode}'/>", devices=EMULATORS["qemu"]))
        daemon.virsh("start", "a")
        assert reason(daemon, "a") == "running (booted)" and "<domain type='kvm'" in daemon.virsh("dumpxml", "a")
        with open(os.path.join(daemon.root, "var/log/vireo/qemu/a.log"), encoding="utf-8") as f:
            log = f.read()
        assert "no usable /dev/kvm" in log and "-accel tcg" in log
        daemon.virsh("destroy", "a")
    finally:
        daemon.stop()
        daemon.sweep()


def test_shutdown_by_button_and_by_guest(vireod, xml):
    vireod.virsh("define", xml("a"))
    vireod.virsh("start", "a")
    assert "Domain 'a' is being shutdown" in vireod.virsh("shutdown", "a")
    wait_for("the end", lambda: reason(vireod, "a") == "shut off (shutdown)")
    assert not machines(vireod)
    vireod.virsh("start", "a")
    c = Console(vireod, "a")
    c.connected()
    c.type(b"q")
    wait_for("the end", lambda: reason(vireod, "a") == "shut off (shutdown)")
    assert c.close() == 0
    vireod.virsh("start", "a")
    assert "agent" in vireod.virsh("shutdown", "a", "--mode", "agent", status=1)
    assert "ACPI" in vireod.virsh("shutdown", "a", "--mode", "initctl", status=1)
    vireod.virsh("destroy", "a")


def test_reboot(vireod, xml):
    vireod.virsh("define", xml("a"))
    vireod.virsh("start", "a")
    c = Console(vireod, "a")
    c.connected()
    c.type(b"x")  # what a guest says to a terminal that nobody has open is lost
    c.expect(b"x")
    pid = machines(vireod)
    assert "Domain 'a' is being rebooted" in vireod.virsh("reboot", "a")
    c.expect(b"up\r\n")
    c.seen = b""
    assert reason(vireod, "a") == "running (booted)"
    assert machines(vireod) == pid
    c.type(b"r")  # by itself
    c.expect(b"rup\r\n")
    vireod.virsh("destroy", "a")
    c.close()


def test_actions(vireod, xml):
    vireod.virsh("define", xml("stays", 1, more="<on_poweroff>restart</on_poweroff><on_reboot>destroy</on_reboot>"))
    vireod.virsh("start", "stays")
    c = Console(vireod, "stays")
    c.connected()
    c.type(b"q")
    c.expect(b"qup\r\n")
    assert vireod.virsh("domstate", "stays").strip() == "running"
    c.type(b"r")
    wait_for("the end", lambda: vireod.virsh("domstate", "stays").strip() == "shut off")
    c.close()
    for n, (action, state) in enumerate((("destroy", "shut off (crashed)"), ("preserve", "crashed (panicked)"), ("restart", "running (booted)")), 2):
        vireod.virsh("define", xml(action, n, more=f"<on_crash>{action}</on_crash>", devices="<panic model='isa'/>"))
        vireod.virsh("start", action)
        c = Console(vireod, action)
        c.connected()
        c.type(b"p")
        wait_for(f"{action}: {state}", lambda a=action, s=state: reason(vireod, a) == s)
        if action != "destroy":
            vireod.virsh("destroy", action)
        c.close()


def test_transient(vireod, xml):
    assert "Domain 't' created from" in vireod.virsh("create", xml("t"))
    assert "no" in re.search("Persistent: *(.*)", vireod.virsh("dominfo", "t")).group(1)
    assert "cannot undefine transient domain" in vireod.virsh("undefine", "t", status=1)
    assert "transient" in vireod.virsh("autostart", "t", status=1)
    assert "already active" in vireod.virsh("create", xml("t"), status=1)
    vireod.virsh("destroy", "t")
    assert vireod.virsh("list", "--all", "--name").split() == []
    vireod.virsh("create", xml("t"))
    vireod.virsh("define", xml("t"))
    vireod.virsh("destroy", "t")
    assert vireod.virsh("list", "--all", "--name").split() == ["t"]
    vireod.virsh("start", "t")
    vireod.virsh("undefine", "t")
    assert vireod.virsh("list", "--transient", "--name").split() == ["t"]
    vireod.virsh("destroy", "t")
    assert vireod.virsh("list", "--all", "--name").split() == []


def test_autodestroy(vireod, xml):
    c = libvirt.open(vireod.uri)
    c.createXML(xml("t").read_text(), libvirt.VIR_DOMAIN_START_AUTODESTROY)
    vireod.virsh("define", xml("p", 2))
    c.lookupByName("p").createWithFlags(libvirt.VIR_DOMAIN_START_AUTODESTROY)
    assert len(machines(vireod)) == 2
    c.close()
    wait_for("the end of both", lambda: not machines(vireod) and vireod.virsh("list", "--all", "--name").split() == ["p"])


def test_autostart(vireod, xml):
    vireod.virsh("define", xml("a"))
    vireod.virsh("define", xml("b", 2))
    vireod.virsh("autostart", "a")
    vireod.stop()
    os.unlink(os.path.join(vireod.root, "run/vireo/qemu/autostarted"))  # as after a start of the host
    vireod.start()
    wait_for("its start", lambda: vireod.virsh("list", "--name").split() == ["a"])
    vireod.virsh("destroy", "a")
    vireod.stop()
    vireod.start()  # the daemon alone: what was stopped stays so
    time.sleep(0.3)
    assert vireod.virsh("list", "--name").split() == []


# ---- the daemon ends, machines go on ----

def test_machines_outlive_the_daemon(vireod, xml):
    vireod.virsh("define", xml("runs", 1))
    vireod.virsh("define", xml("waits", 2))
    vireod.virsh("define", xml("dies", 3))
    vireod.virsh("define", xml("quits", 4))
    for name in ("runs", "dies", "quits"):
        vireod.virsh("start", name)
    vireod.virsh("start", "waits", "--paused")
    vireod.virsh("create", xml("transient", 5))
    live = vireod.virsh("dumpxml", "runs")
    pids = {}
    for name in ("runs", "waits", "dies", "quits", "transient"):
        with open(os.path.join(vireod.root, f"run/vireo/qemu/{name}.xml"), encoding="utf-8") as f:
            pids[name] = int(re.search(r" pid='(\d+)'", f.read()).group(1))
    console = re.search("<source path='(/dev/pts/[0-9]+)'", vireod.virsh("dumpxml", "quits")).group(1)
    vireod.stop(signal.SIGKILL, status=-9)
    os.kill(pids["dies"], signal.SIGKILL)
    with open(console, "wb", buffering=0) as f:  # powers itself off while nobody looks
        f.write(b"q")
        time.sleep(1.5)
        vireod.start()
        assert vireod.virsh("dumpxml", "runs") == live
        wait_for("the end of 'quits'", lambda: reason(vireod, "quits") == "shut off (shutdown)")
    assert {name: reason(vireod, name) for name in ("runs", "waits", "dies", "transient")} == {
        "runs": "running (booted)", "waits": "paused (user)", "dies": "shut off (unknown)", "transient": "running (booted)"}
    assert sorted(machines(vireod)) == sorted(pids[name] for name in ("runs", "waits", "transient"))
    vireod.virsh("suspend", "runs")
    vireod.virsh("resume", "waits")
    os.kill(pids["transient"], signal.SIGKILL)  # not a child of this daemon
    wait_for("the end of 'transient'", lambda: "transient" not in vireod.virsh("list", "--all", "--name").split())
    for name in ("runs", "waits"):
        vireod.virsh("destroy", name)
    vireod.virsh("start", "runs")
    assert int(vireod.virsh("domid", "runs")) == 6
    vireod.virsh("destroy", "runs")
    assert not machines(vireod) and not state_files(vireod)


def test_process_number_of_another(vireod, xml):
    """A status file that names a process which is not the machine: nobody is harmed."""
    vireod.virsh("define", xml("a"))
    vireod.virsh("start", "a")
    path = os.path.join(vireod.root, "run/vireo/qemu/a.xml")
    vireod.stop(signal.SIGKILL, status=-9)
    for pid in machines(vireod):
        os.kill(pid, signal.SIGKILL)
    other = subprocess.Popen(["sleep", "100"])
    with open(path, encoding="utf-8") as f:
        text = f.read()
    with open(path, "w", encoding="utf-8") as f:
        f.write(re.sub(r" pid='\d+'", f" pid='{other.pid}'", text))
    vireod.start()
    assert vireod.virsh("domstate", "a").strip() == "shut off"
    assert other.poll() is None
    other.kill()
    other.wait()


def test_machine_killed(vireod, xml):
    vireod.virsh("define", xml("a"))
    vireod.virsh("start", "a")
    os.kill(machines(vireod)[0], signal.SIGKILL)
    wait_for("the end", lambda: reason(vireod, "a") == "shut off (crashed)")
    assert not state_files(vireod)
    vireod.virsh("start", "a")
    vireod.virsh("destroy", "a")


# ---- errors ----

def test_emulator_that_dies_at_once(vireod, xml, tmp_path):
    script = tmp_path / "emulator"
    script.write_text("#!/bin/sh\ncase \"$*\" in *-qmp*|*-version*) exec " + os.path.join(os.environ.get("VIREO_BUILD", "build"), "vireo-vmm") +
                      " \"$@\";; esac\necho 'no such thing as luck' >&2\nexit 3\n")
    script.chmod(0o755)
    bad = tmp_path / "bad"
    bad.write_bytes(b"not a kernel")
    broken = xml("a").read_text().replace("guest.bin", "../bad")
    path = tmp_path / "broken.xml"
    path.write_text(re.sub("<kernel>.*</kernel>", f"<kernel>{bad}</kernel>", broken), encoding="utf-8")
    vireod.virsh("define", path)
    out = vireod.virsh("start", "a", status=1)
    assert "ended at once (exit status 1)" in out and "is no kernel" in out
    assert reason(vireod, "a") == "shut off (failed)"
    assert not machines(vireod) and not state_files(vireod)
    missing = tmp_path / "missing.xml"
    missing.write_text(re.sub("<kernel>.*</kernel>", "<kernel>/nowhere/kernel</kernel>", broken), encoding="utf-8")
    assert "/nowhere/kernel" in vireod.virsh("create", missing, status=1)
    assert vireod.virsh("list", "--all", "--name").split() == ["a"]


def test_read_only(vireod, xml):
    vireod.virsh("define", xml("a"))
    for words in (["start", "a"], ["undefine", "a"], ["define", xml("b", 2)], ["autostart", "a"], ["domrename", "a", "b"], ["desc", "a", "--config", "--title", "t"],
                  ["setmem", "a", "16M", "--config"]):
        assert "read only" in vireod.virsh(*words, readonly=True, status=1), words
    vireod.virsh("start", "a", "--paused")
    for words in (["destroy", "a"], ["resume", "a"], ["shutdown", "a"], ["reset", "a"]):
        assert "read only" in vireod.virsh(*words, readonly=True, status=1), words
    assert reason(vireod, "a") == "paused (user)"
    vireod.virsh("destroy", "a")
    assert vireod.virsh("list", "--all", "--name", readonly=True).split() == ["a"]
    assert "forbidden" in vireod.virsh("dumpxml", "a", "--security-info", readonly=True, status=1)
    assert vireod.virsh("dominfo", "a", readonly=True)


def test_what_the_machine_cannot(vireod, xml, tmp_path):
    vireod.virsh("define", xml("a"))
    vireod.virsh("start", "a")
    for words, text in ((["screenshot", "a", tmp_path / "p"], "no graphics card"),
                        (["domhostname", "a", "--source", "agent"], "agent"), (["domtime", "a"], "agent")):
        assert text in vireod.virsh(*words, status=1), words
    assert "no manage save image" in vireod.virsh("managedsave-remove", "a")
    assert "Some processes" not in vireod.virsh("destroy", "a")


def test_unknown_flags(vireod, xml):
    c = libvirt.open(vireod.uri)
    d = c.defineXML(xml("a").read_text())
    for call in (lambda: d.createWithFlags(1 << 20), lambda: d.undefineFlags(1 << 20), lambda: d.XMLDesc(1 << 20), lambda: c.listAllDomains(1 << 20),
                 lambda: c.defineXMLFlags("<domain/>", 1 << 20), lambda: d.reset(4)):
        with pytest.raises(libvirt.libvirtError) as e:
            call()
        assert "unsupported flags" in str(e.value)
    c.close()


FULL = r"""
set -e
mount -t tmpfs -o size=64k tmpfs "$1"/etc/vireo/qemu
exec "$2" --root "$1"
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a mount namespace")
def test_full_disk(tmp_path, xml):
    root = tmp_path / "full"
    os.makedirs(root / "etc/vireo/qemu")
    build = os.environ.get("VIREO_BUILD", "build")
    daemon = Vireod.__new__(Vireod)
    daemon.root, daemon.socket = str(root), str(root / "run/vireo/libvirt-sock")
    daemon.uri, daemon.log = f"qemu+unix:///system?socket={daemon.socket}", str(root / "vireod.log")
    with open(daemon.log, "wb") as log:
        daemon.process = subprocess.Popen(["unshare", "-m", "sh", "-c", FULL, "sh", root, os.path.join(build, "vireod")], stdout=log, stderr=log, env=PLAIN)
    try:
        wait_for("its answer", daemon.answers)
        with open(f"/proc/{daemon.process.pid}/root{root}/etc/vireo/qemu/fill", "wb", buffering=0) as f:
            with pytest.raises(OSError):
                while True:
                    f.write(bytes(1024))
        out = daemon.virsh("define", xml("a"), status=1)
        assert "No space left on device" in out and "a.xml" in out
        assert daemon.virsh("list", "--all", "--name").split() == []
        inside = os.listdir(f"/proc/{daemon.process.pid}/root{root}/etc/vireo/qemu")
        assert not [f for f in inside if f.startswith(".") or f.endswith(".xml")], inside
    finally:
        daemon.process.terminate()
        daemon.process.wait(20 * SLOW)


# ---- consoles ----

def test_console_has_one_user(vireod, xml):
    vireod.virsh("define", xml("a"))
    vireod.virsh("start", "a")
    first = Console(vireod, "a")
    first.connected()
    first.type(b"xyz")
    first.expect(b"xyz")
    second = Console(vireod, "a", "--safe")
    second.expect(b"Active console session exists for this domain")
    assert second.close() == 1
    third = Console(vireod, "a", "--force")
    third.connected()
    third.type(b"uvw")
    third.expect(b"uvw")
    first.process.wait(10 * SLOW)
    assert third.close() == 0
    vireod.virsh("destroy", "a")
    first.close()


# ---- changes ----

def test_memory_and_vcpus(vireod, xml):
    vireod.virsh("define", xml("a", memory=64, vcpu="2"))
    vireod.virsh("setmem", "a", "32M", "--config")
    info = vireod.virsh("dominfo", "a")
    assert "65536 KiB" in info and "32768 KiB" in info
    assert "higher than max memory" in vireod.virsh("setmem", "a", "128M", "--config", status=1)
    vireod.virsh("setmaxmem", "a", "128M", "--config")
    vireod.virsh("setvcpus", "a", "4", "--maximum", "--config")
    vireod.virsh("setvcpus", "a", "1", "--config")
    assert [r[-1] for r in [line.split() for line in vireod.virsh("vcpucount", "a").splitlines() if line]] == ["4", "1"]
    assert "4 > 4" not in vireod.virsh("setvcpus", "a", "5", "--config", status=1)
    vireod.virsh("start", "a")
    assert "cannot resize the maximum memory on an active domain" in vireod.virsh("setmaxmem", "a", "1G", "--live", status=1)
    assert vireod.virsh("vcpucount", "a", "--live", "--current").strip() == "1"
    vireod.virsh("setvcpus", "a", "3", "--live")
    assert vireod.virsh("vcpucount", "a", "--live", "--current").strip() == "3"
    assert vireod.virsh("vcpucount", "a", "--config", "--current").strip() == "1"
    out = vireod.virsh("vcpuinfo", "a")
    assert out.count("VCPU:") == 3 and "CPU Affinity:" in out
    vireod.virsh("destroy", "a")
    assert vireod.virsh("vcpucount", "a", "--config", "--current").strip() == "1"


def test_metadata(vireod, xml):
    vireod.virsh("define", xml("a"))
    assert "No description for domain: a" in vireod.virsh("desc", "a")
    vireod.virsh("desc", "a", "--config", "what it is for & more")
    assert vireod.virsh("desc", "a").strip() == "what it is for & more"
    vireod.virsh("desc", "a", "--config", "--title", "short")
    assert vireod.virsh("list", "--all", "--title").split()[-1] == "short"
    vireod.virsh("metadata", "a", "http://one.example/", "--key", "one", "--set", "<x a='1'><y/></x>")
    vireod.virsh("metadata", "a", "http://two.example/", "--key", "two", "--set", "<z>text</z>")
    assert vireod.virsh("metadata", "a", "http://two.example/").strip() == "<z>text</z>"
    assert "  <metadata>\n    <one:x xmlns:one='http://one.example/' a='1'>\n      <one:y/>\n    </one:x>\n    <two:z" in vireod.virsh("dumpxml", "a").replace('"', "'")
    vireod.virsh("metadata", "a", "http://one.example/", "--remove")
    assert "not present" in vireod.virsh("metadata", "a", "http://one.example/", status=1)
    assert "text</two:z>" in vireod.virsh("dumpxml", "a")
    vireod.virsh("metadata", "a", "http://one.example/", "--key", "one", "--set", "<x xmlns:one='http://one.example/'><y one:a='1'><w/></y></x>")
    alone = vireod.virsh("metadata", "a", "http://one.example/").replace('"', "'").split()
    assert alone == "<x xmlns:one='http://one.example/'> <y one:a='1'> <w/> </y> </x>".split(), alone
    assert "prefix" in vireod.virsh("metadata", "a", "http://one.example/", "--key", "one", "--set", "<x xmlns:one='http://other.example/'/>", status=1)
    assert vireod.virsh("metadata", "a", "http://one.example/").replace('"', "'").split() == alone


def test_a_32_bit_machine(vireod, xml):
    """What old systems are defined as, and what `virt-install --arch i686` asks for."""
    caps = vireod.virsh("capabilities")
    assert "<arch name='i686'>\n      <wordsize>32</wordsize>" in caps and "<arch name='x86_64'>\n      <wordsize>64</wordsize>" in caps
    assert "<arch>i686</arch>" in vireod.virsh("domcapabilities", "--arch", "i686", "--virttype", "qemu")
    assert "architecture x86_64, not aarch64" in vireod.virsh("domcapabilities", "--arch", "aarch64", status=1)
    path = xml("old")
    path.write_text(path.read_text().replace("x86_64", "i686"))
    vireod.virsh("define", path)
    vireod.virsh("start", "old")
    assert "<type arch='i686' machine='q35'>hvm</type>" in vireod.virsh("dumpxml", "old")
    vireod.virsh("destroy", "old")
    path.write_text(path.read_text().replace("i686", "aarch64"))
    assert "'aarch64'" in vireod.virsh("define", path, status=1)


# ---- events ----

NAMES = ["Defined", "Undefined", "Started", "Suspended", "Resumed", "Stopped", "Shutdown", "PMSuspended", "Crashed"]


def test_events(vireod, xml):
    libvirt.virEventRegisterDefaultImpl()
    c = libvirt.open(vireod.uri)
    seen, done = [], threading.Event()
    c.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lambda c, d, event, detail, o: seen.append((d.name(), NAMES[event], detail, d.ID() >= 0)), None)
    c.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, lambda c, d, o: seen.append((d.name(), "Reboot")), None)
    c.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE, lambda c, d, kind, uri, o: seen.append((d.name(), "Metadata", kind, uri)), None)

    def loop():
        while not done.is_set():
            libvirt.virEventRunDefaultImpl()
    timer = libvirt.virEventAddTimeout(100, lambda *a: None, None)
    thread = threading.Thread(target=loop)
    thread.start()
    try:
        vireod.virsh("define", xml("a"))
        vireod.virsh("define", xml("a"))
        vireod.virsh("desc", "a", "--config", "x")
        vireod.virsh("start", "a", "--paused")
        vireod.virsh("resume", "a")
        vireod.virsh("suspend", "a")
        vireod.virsh("resume", "a")
        vireod.virsh("reset", "a")
        wait_for("the reset", lambda: ("a", "Reboot") in seen)
        vireod.virsh("destroy", "a")
        vireod.virsh("start", "a")
        vireod.virsh("shutdown", "a")
        wait_for("the end", lambda: reason(vireod, "a") == "shut off (shutdown)")
        vireod.virsh("undefine", "a")
        wait_for("the last event", lambda: seen and seen[-1][1] == "Undefined")
    finally:
        done.set()
        thread.join()
        libvirt.virEventRemoveTimeout(timer)
        c.close()
    assert [s[1:3] for s in seen if s[1] != "Reboot"] == [
        ("Defined", 0), ("Defined", 1), ("Metadata", 0), ("Started", 0), ("Suspended", 0), ("Resumed", 0), ("Suspended", 0), ("Resumed", 0), ("Stopped", 1),
        ("Started", 0), ("Shutdown", 1), ("Stopped", 0), ("Undefined", 0)], seen
    assert ("a", "Reboot") in seen
    assert {s[1] for s in seen if s[1] not in ("Reboot", "Metadata") and not s[3]} == {"Defined", "Stopped", "Undefined"}, "a machine that has stopped has no id"


def test_monitor_events(vireod, xml):
    """What the emulator tells, by virsh qemu-monitor-event: all of it, one name, an expression, one domain."""
    for n, name in enumerate("ab", 1):
        vireod.virsh("define", xml(name, n))
        vireod.virsh("start", name)
    reset = ("RESET", "b", '{"guest":false,"reason":"host-qmp-system-reset"}')
    stop, resume = ("STOP", "a", "<null>"), ("RESUME", "a", "<null>")
    wanted = {"none": (("--event", "stop"), set()), "all": ((), {stop, resume, reset}), "one": (("--event", "RESUME"), {resume}),
              "some": (("--event", "^(st|xy)o", "--regex", "--no-case"), {stop}), "of b": (("--domain", "b"), {reset})}
    listeners = {what: Listener("virsh", "-q", "-c", vireod.uri, "qemu-monitor-event", "--loop", *words) for what, (words, _) in wanted.items()}

    def heard():
        return {what: {(m[1], m[2], m[3]) for m in re.finditer(r"event (\w+) at \d+\.\d{6} for domain '(\w)': (.*)\n", one.text)} for what, one in listeners.items()}
    try:
        until = time.monotonic() + 60 * SLOW
        while any(len(heard()[what]) < len(all_of_it) for what, (_, all_of_it) in wanted.items()):
            assert time.monotonic() < until, heard()
            vireod.virsh("suspend", "a")
            vireod.virsh("resume", "a")
            vireod.virsh("reset", "b")
    finally:
        for one in listeners.values():
            one.stop()
    assert heard() == {what: all_of_it for what, (_, all_of_it) in wanted.items()}
    assert "regular expression" in vireod.virsh("qemu-monitor-event", "--event", "(", "--regex", status=1)
    assert "read" in vireod.virsh("qemu-monitor-event", "--timeout", "1", readonly=True, status=1)


# ---- the guest's agent ----

AGENT = """
mknod /dev/vp c $(cat /sys/class/virtio-ports/vport*p1/dev | tr : ' ')
exec 3<>/dev/vp
while :; do
    read -r line <&3 || { sleep 0.1; continue; }  # nobody is at the other end
    id=$(echo "$line" | tr -dc '0-9')
    case "$line" in
    *guest-sync-delimited*) printf '\\377{"return": %s}\\n' $id >&3;;
    *guest-get-host-name*) echo '{"return": {"host-name": "inside"}}' >&3;;
    *'guest-get-time"'*) echo '{"return": 1234567890000000000}' >&3;;
    *test-next-freeze-*) next=${line#*test-next-freeze-}; next=${next%%\\"*}; echo '{"return": {}}' >&3;;
    *guest-fsfreeze-freeze*)
        case "$next" in
        dies) echo '{"return": 2}' >&3; exec 3>&-; sleep 12; exec 3<>/dev/vp;;    # killed when they are frozen
        deaf) echo '{"return": 2}' >&3; sleep 16;;                               # there, and busy with something else
        halfway) exec 3>&-; sleep 2; exec 3<>/dev/vp;;                           # killed before it could tell
        *) echo '{"return": 2}' >&3;;
        esac
        next=;;
    *guest-fsfreeze-thaw*) echo '{"return": 2}' >&3;;
    *guest-get-fsinfo*) echo '{"return": [{"name": "vda1", "mountpoint": "/", "type": "ext4", "disk": [{"dev": "/dev/vda"}]}]}' >&3;;
    *guest-get-osinfo*) echo '{"return": {"id": "debian", "pretty-name": "Debian of the test"}}' >&3;;
    *guest-get-users*) echo '{"return": [{"user": "ann", "login-time": 12.5}]}' >&3;;
    *guest-get-vcpus*) echo '{"return": [{"logical-id": 0, "online": true, "can-offline": false}, {"logical-id": 1, "online": false, "can-offline": true}]}' >&3;;
    *guest-set-vcpus*'"logical-id":1,"online":true'*) echo '{"return": 1}' >&3;;
    *guest-shutdown*) poweroff -f;;
    *) echo '{"error": {"class": "CommandNotFound", "desc": "no such command here"}}' >&3;;
    esac
done
"""


@pytest.fixture(scope="session")
def linux(tmp_path_factory):
    """A Debian kernel, and an initial RAM disk with a shell script in the place of the agent."""
    guest = os.environ.get("VIREO_GUEST", os.path.join(os.environ.get("VIREO_BUILD", "build"), "guest"))
    sys.path.insert(0, os.path.join(os.path.dirname(HERE), "guest"))
    import initramfs
    if not os.path.exists(os.path.join(guest, "cloud", "vmlinuz")):
        os.makedirs(guest, exist_ok=True)
        subprocess.run(["flock", os.path.join(guest, ".lock"), os.path.join(os.path.dirname(HERE), "guest", "make_kernels.sh"), guest], check=True)
    path = tmp_path_factory.mktemp("linux") / "initrd.gz"
    path.write_bytes(initramfs.build(guest, "cloud", ("virtio_pci", "virtio_console"), AGENT))
    return os.path.join(guest, "cloud", "vmlinuz"), path


def test_agent(vireod, linux, tmp_path):
    path = tmp_path / "agent.xml"
    path.write_text(f"<domain type='qemu'><name>a</name><memory unit='MiB'>256</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type><kernel>{linux[0]}</kernel>"
                    f"<initrd>{linux[1]}</initrd><cmdline>console=ttyS0 quiet</cmdline></os><features><acpi/></features><devices><serial type='pty'/><console type='pty'/>"
                    "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel></devices></domain>", encoding="utf-8")
    vireod.virsh("create", path)
    assert "agent is not connected" in vireod.virsh("domhostname", "a", "--source", "agent", status=1)
    wait_for("the agent", lambda: "state='connected'" in vireod.virsh("dumpxml", "a"), 90)
    assert vireod.virsh("domhostname", "a", "--source", "agent").strip() == "inside"
    assert vireod.virsh("domtime", "a").strip() == "Time: 1234567890"
    assert "Froze 2 filesystem(s)" in vireod.virsh("domfsfreeze", "a")
    assert rows(vireod.virsh("domfsinfo", "a")) == [["/", "vda1", "ext4", "vda"]] or "vda1" in vireod.virsh("domfsinfo", "a")
    info = dict((line.split(":", 1)[0].strip(), line.split(":", 1)[1].strip()) for line in vireod.virsh("guestinfo", "a").splitlines() if ":" in line)
    assert info == {"user.count": "1", "user.0.name": "ann", "user.0.login-time": "12500", "os.id": "debian", "os.pretty-name": "Debian of the test",
                    "hostname": "inside", "fs.count": "1", "fs.0.mountpoint": "/", "fs.0.name": "vda1", "fs.0.fstype": "ext4", "fs.0.disk.count": "1",
                    "fs.0.disk.0.device": "/dev/vda"}
    assert "no such command here" in vireod.virsh("guestinfo", "a", "--timezone", status=1)
    assert dict(line.split(":") for line in vireod.virsh("guestvcpus", "a").replace(" ", "").split()) == {"vcpus": "0,1", "online": "0", "offlinable": "1"}
    vireod.virsh("guestvcpus", "a", "--enable", "--cpulist", "1")
    vireod.virsh("setvcpus", "a", "2", "--guest")
    assert vireod.virsh("vcpucount", "a", "--guest").strip() == "1"
    assert "vCPU '0' can't be offlined" in vireod.virsh("guestvcpus", "a", "--disable", "--cpulist", "0", status=1)
    assert "guest is missing vCPU '7'" in vireod.virsh("guestvcpus", "a", "--enable", "--cpulist", "7", status=1)
    assert "no such command here" in vireod.virsh("domfstrim", "a", status=1)
    assert '"host-name":"inside"' in vireod.virsh("qemu-agent-command", "a", '{"execute":"guest-get-host-name"}').replace(" ", "")
    vireod.virsh("shutdown", "a", "--mode", "agent")
    wait_for("the end", lambda: vireod.virsh("list", "--all", "--name").split() == [], 10)


def test_agent_that_is_killed_over_a_snapshot(vireod, linux, tmp_path):
    disk, path = tmp_path / "disk.qcow2", tmp_path / "agent.xml"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "8M"], check=True)
    path.write_text(f"<domain type='qemu'><name>a</name><memory unit='MiB'>256</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type><kernel>{linux[0]}</kernel>"
                    f"<initrd>{linux[1]}</initrd><cmdline>console=ttyS0 quiet</cmdline></os><features><acpi/></features><devices><serial type='pty'/><console type='pty'/>"
                    f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{disk}'/><target dev='vda' bus='virtio'/></disk>"
                    "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel></devices></domain>", encoding="utf-8")

    def connected():
        return "state='connected'" in vireod.virsh("dumpxml", "a")

    def snapshot(name, how, answer):
        wait_for("the agent", lambda: connected() and "inside" in vireod.virsh("domhostname", "a", "--source", "agent", status=None), 90)
        vireod.virsh("qemu-agent-command", "a", '{"execute":"test-next-freeze-%s"}' % how)
        out = vireod.virsh("snapshot-create-as", "a", name, "--disk-only", "--quiesce", status=1 if answer else 0)
        assert answer in out, out

    def images():
        return re.findall(r"<source file='[^']*/([^/']*)'", vireod.virsh("dumpxml", "a"))

    vireod.virsh("define", path)
    vireod.virsh("start", "a")
    assert "less than the minimum '-2'" in vireod.virsh("guest-agent-timeout", "a", "--timeout", "-3", status=1)
    vireod.virsh("guest-agent-timeout", "a", "--timeout", "4")
    vireod.stop()
    vireod.start()
    snapshot("one", "halfway", "guest agent command timed out")  # nothing was taken
    assert images() == ["disk.qcow2"] and not vireod.virsh("snapshot-list", "a", "--name").strip() and not (tmp_path / "disk.one").exists()
    snapshot("two", "dies", "the snapshot 'two' is taken, but the guest's file systems are still frozen")
    assert images() == ["disk.two", "disk.qcow2"] and vireod.virsh("snapshot-list", "a", "--name").split() == ["two"]
    assert "disk.two" in vireod.virsh("dumpxml", "a", "--inactive")
    snapshot("three", "deaf", "did not answer within 4 s")  # as was said before the daemon was started anew
    wait_for("the agent", lambda: "Thawed 2" in vireod.virsh("domfsthaw", "a", status=None), 20)
    snapshot("four", "works", "")
    assert vireod.virsh("snapshot-list", "a", "--name").split() == ["four", "three", "two"] and len(images()) == 4
    vireod.virsh("guest-agent-timeout", "a", "--timeout", "0")
    assert "did not answer within 0 s" in vireod.virsh("domfsthaw", "a", status=1)
    vireod.virsh("destroy", "a")


def test_monitor_command(vireod, xml):
    vireod.virsh("define", xml("a"))
    assert "domain is not running" in vireod.virsh("qemu-monitor-command", "a", '{"execute":"query-status"}', status=1)
    vireod.virsh("start", "a")
    assert '"status":"running"' in vireod.virsh("qemu-monitor-command", "a", '{"execute":"query-status"}').replace(" ", "")
    assert '"error"' in vireod.virsh("qemu-monitor-command", "a", '{"execute":"nothing"}')
    vireod.virsh("destroy", "a")
