# SPDX-License-Identifier: GPL-2.0-or-later
"""From documents to command lines: domain/NAME.xml must give domain/NAME.argv, one line an option. VIREO_REGENERATE=1 writes the files anew."""
import glob
import os
import re
import shutil
import subprocess

import pytest

from conftest import BUILD
from limits import SLOW

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "domain")
CASES = sorted(os.path.basename(f)[:-4] for f in glob.glob(os.path.join(HERE, "*.xml")) if not f.endswith(".complete.xml"))
GOLDEN = os.path.join(BUILD, "src/manage/drivers/domain_golden")
QEMU = "/usr/bin/qemu-system-x86_64"


def golden(how, path):
    return subprocess.run([GOLDEN, how, path], capture_output=True, text=True, timeout=20 * SLOW, check=False)


def need_qemu(path):
    with open(path, encoding="utf-8") as f:
        if QEMU in f.read() and not shutil.which(QEMU):
            pytest.skip(f"{QEMU} is not installed")


def compare(path, out):
    if os.environ.get("VIREO_REGENERATE"):
        with open(path, "w", encoding="utf-8") as f:
            f.write(out)
    with open(path, encoding="utf-8") as f:
        assert out == f.read(), f"{path} is what it should be (VIREO_REGENERATE=1 takes what it is now)"


@pytest.mark.parametrize("case", CASES)
def test_command_line(case):
    path = os.path.join(HERE, case + ".xml")
    need_qemu(path)
    p = golden("argv", path)
    compare(path[:-4] + ".argv", p.stdout if p.returncode == 0 else "error: " + p.stderr)


def test_qemu_takes_the_settings(tmp_path):
    """Names and values of settings.argv, judged by the QEMU that they are for. (The disk in the network is left out: it would be asked for.)"""
    path = os.path.join(HERE, "settings.xml")
    need_qemu(path)
    with open(path, encoding="utf-8") as f:
        text = f.read()
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "a.qcow2", "1M"], check=True)
    text = re.sub(r"<disk type='network'.*?</disk>", "", text, flags=re.S).replace("/images/a.qcow2", str(tmp_path / "a.qcow2"))
    (tmp_path / "d.xml").write_text(text)
    lines = [line for line in golden("argv", str(tmp_path / "d.xml")).stdout.splitlines() if "charmonitor" not in line and not line.startswith("-vnc")]
    words = [lines[0], "-display", "none"] + [word for line in lines[1:] for word in line.split(" ", 1)]
    quit_at_once = '{"execute":"qmp_capabilities"}{"execute":"quit"}'
    p = subprocess.run([*words, "-qmp", "stdio"], input=quit_at_once, capture_output=True, text=True, timeout=60 * SLOW, check=False)
    assert p.returncode == 0 and '"SHUTDOWN"' in p.stdout and not p.stderr, p.stderr


SETTINGS = [  # of vireo-vmm and of QEMU: what there is not said of it
    ("<sysinfo type='fwcfg'><entry name='opt/a'>b</entry></sysinfo>", "", "firmware configuration", False), ("<os><type machine='q35'>hvm</type><bios useserial='yes'/></os>", "<serial type='null'/>", "useserial", False),
    ("<os><type machine='q35'>hvm</type><bios rebootTimeout='5'/></os>", "", "rebootTimeout", False), ("<features><acpi/><pmu state='on'/></features>", "", "counting", False),
    ("<clock offset='utc'><timer name='rtc' track='guest'/></clock>", "", "track", False), ("<defaultiothread thread_pool_max='4'/>", "", "main thread", False),
    ("<idmap><uid start='0' target='1000' count='10'/><gid start='0' target='1000' count='10'/></idmap>", "", "user mapping", True),
    ("", "<controller type='pci' model='pcie-root'><pcihole64 unit='GiB'>64</pcihole64></controller>", "pcihole64", False),
    ("", "<disk><driver name='qemu' type='raw'/><source file='/a' fdgroup='x'/><target dev='vda'/></disk>", "fdgroup", True),
    ("", "<disk><driver name='qemu' type='raw'/><source file='/a'><slices><slice type='storage' offset='512' size='4096'/></slices></source><target dev='vda'/></disk>", "slices", True),
    ("", "<interface type='user'><coalesce><rx><frames max='7'/></rx></coalesce></interface>", "coalesce", True),
    ("", "<interface type='user'><teaming type='persistent'/></interface>", "teaming", True), ("", "<interface type='user'><tune><sndbuf>1600</sndbuf></tune></interface>", "tune", True),
    ("", "<interface type='user'><backend type='passt' logFile='/x'/></interface>", "logFile", True),
    ("", "<graphics type='vnc'/><video><driver name='vhostuser'/><model type='virtio'/></video>", "another process", True),
    ("<maxMemory slots='4' unit='MiB'>1024</maxMemory><cpu><numa><cell id='0' cpus='0' memory='65536'/></numa></cpu>",
     "<memory model='dimm'><source><nodemask>0</nodemask></source><target><size unit='MiB'>64</size><node>0</node></target></memory>", "nodemask", True),
]


@pytest.mark.parametrize("top,devices,word,both", SETTINGS, ids=[s[2] for s in SETTINGS])
def test_setting_is_kept_and_refused_at_the_start(top, devices, word, both, tmp_path):
    """What nobody is told of is not left out in silence."""
    for emulator in ("", f"<emulator>{QEMU}</emulator>") if both and shutil.which(QEMU) else ("",):
        machine = "" if "<os>" in top else "<os><type machine='q35'>hvm</type></os>"
        (tmp_path / "d.xml").write_text(f"<domain type='qemu'><name>t</name><memory>131072</memory>{machine}{top}<devices>{emulator}{devices}</devices></domain>")
        kept, p = golden("complete", str(tmp_path / "d.xml")), golden("argv", str(tmp_path / "d.xml"))
        assert kept.returncode == 0 and p.returncode == 1 and word in p.stderr and "line 1" in p.stderr, kept.stderr + p.stderr


@pytest.mark.parametrize("case", CASES)
def test_definition(case):
    """The definition as libvirtd 9.0 keeps it (test_complete.py compares with the real one)."""
    path = os.path.join(HERE, case + ".xml")
    need_qemu(path)
    p = golden("complete", path)
    assert p.returncode == 0, p.stderr
    compare(path[:-4] + ".complete.xml", p.stdout)


def recounted(text):
    """The lines, with each virtio console numbered by its place among the consoles."""
    lines, n = [], -1
    for line in text.splitlines():
        n += line.lstrip().startswith("<console ")
        lines.append(re.sub(r"(<target type='virtio' port=)'\d+'", rf"\1'{n}'", line))
    return lines


@pytest.mark.parametrize("case", CASES)
def test_completed_definition_stays(case, tmp_path):
    """What is complete is not changed by being defined again, but for two things, as with libvirtd: the order of disks whose bus had to be guessed, and the numbers of virtio
    consoles, which count the one that was made for the serial port from then on."""
    path = os.path.join(HERE, case + ".complete.xml")
    need_qemu(path)
    p = golden("complete", path)
    assert p.returncode == 0, p.stderr
    with open(path, encoding="utf-8") as f:
        before = f.read()
    assert sorted(p.stdout.splitlines()) == sorted(recounted(before))
    (tmp_path / "again.xml").write_text(p.stdout)
    assert golden("complete", str(tmp_path / "again.xml")).stdout == p.stdout


HEAD = "<domain type='qemu'>\n<name>t</name>\n<memory>65536</memory>\n<os><type machine='{machine}'>hvm</type></os>\n<devices>\n"
REFUSED = [
    # what, machine, devices, in the message
    ("two disks of one name", "q35", "<disk><source file='/a'/><target dev='vda'/></disk>\n<disk><source file='/b'/><target dev='vda'/></disk>", ["'vda'", "line 6", "line 7"]),
    ("one MAC twice", "q35", "<interface type='user'><mac address='52:54:00:00:00:01'/></interface>\n<interface type='user'><mac address='52:54:00:00:00:01'/></interface>",
     ["52:54:00:00:00:01", "line 6", "line 7"]),
    ("a multicast MAC", "q35", "<interface type='user'><mac address='53:54:00:00:00:01'/></interface>", ["53:54:00:00:00:01", "multicast"]),
    ("one PCI address twice", "q35", "".join(f"<rng model='virtio'><backend model='builtin'/><address type='pci' bus='0' slot='{s}'/></rng>\n" for s in (9, 9)), ["slot 0x09", "twice"]),
    ("a slot that a port lacks", "q35", "<controller type='pci' index='1' model='pcie-root-port'/><rng model='virtio'><backend model='builtin'/><address type='pci' bus='1' slot='3'/></rng>",
     ["pcie-root-port", "slots from 0 to 0"]),
    ("an unknown machine", "q36", "", ["'q36'", "line 4", "q35"]),
    ("a disk without a source", "q35", "<disk><target dev='vda'/></disk>", ["'vda'", "source", "line 6"]),
    ("a disk without a target", "q35", "<disk><source file='/a'/></disk>", ["target", "line 6"]),
    ("IDE on q35", "q35", "<disk><source file='/a'/><target dev='hda' bus='ide'/></disk>", ["'hda'", "sata"]),
    ("a network without a name", "q35", "<interface type='network'/>", ["source"]),
    ("one boot order twice", "q35", "".join(f"<disk><source file='/{d}'/><target dev='{d}'/><boot order='1'/></disk>\n" for d in ("vda", "vdb")), ["boot order '1'", "line 6", "line 7"]),
    ("modules without room", "q35", "<memory model='dimm'><target><size>1024</size></target></memory>", ["maxMemory"]),
    ("a channel that is none", "q35", "<channel type='pty'/>", ["channel", "target"]),
]


@pytest.mark.parametrize("what,machine,devices,words", REFUSED, ids=[r[0] for r in REFUSED])
def test_bad_definition_is_refused(what, machine, devices, words, tmp_path):
    (tmp_path / "d.xml").write_text(HEAD.format(machine=machine) + devices + "\n</devices>\n</domain>\n")
    p = golden("complete", str(tmp_path / "d.xml"))
    assert p.returncode == 1, f"{what} was taken: {p.stdout}"
    for w in words:
        assert w in p.stderr, f"{what}: the message does not say {w!r}: {p.stderr}"


MISSING = [
    ("usb", "<disk device='cdrom'><source file='/a'/><target dev='sda' bus='usb'/></disk>"), ("sound", "<sound model='ac97'/>"), ("graphics", "<graphics type='spice'/>"), ("video", "<video><model type='qxl'/></video>"), ("hub", "<hub type='usb'/>"),
    ("input", "<controller type='usb' model='none'/><input type='tablet' bus='usb'><address type='usb' bus='0' port='1'/></input>"), ("video", "<video><model type='virtio' heads='2'/></video>"),
    ("audio", "<audio id='1' type='alsa'/>"), ("graphics", "<graphics type='vnc' websocket='5999'/>"),
    ("graphics", "<graphics type='vnc' powerControl='yes'/>"),
    ("watchdog", "<watchdog model='i6300esb'/>"), ("tpm", "<tpm model='tpm-crb'><backend type='emulator'/></tpm>"),
    ("hostdev", "<hostdev mode='subsystem' type='pci'><source><address domain='0' bus='1' slot='0' function='0'/></source></hostdev>"),
    ("filesystem", "<filesystem><source dir='/x'/><target dir='y'/></filesystem>"), ("vsock", "<vsock/>"), ("parallel", "<parallel type='null'/>"),
    ("controller", "<controller type='scsi' model='lsilogic'/>"),
]


@pytest.mark.parametrize("name,xml", MISSING, ids=[m[0] for m in MISSING])
def test_missing_device_is_kept_and_refused_at_the_start(name, xml, tmp_path):
    (tmp_path / "d.xml").write_text(HEAD.format(machine="q35") + xml + "\n</devices>\n</domain>\n")
    assert golden("complete", str(tmp_path / "d.xml")).returncode == 0
    p = golden("argv", str(tmp_path / "d.xml"))
    assert p.returncode == 1 and (f"<{name}>" in p.stderr or name == "usb") and "line 6" in p.stderr, p.stderr


def test_old_usb_controllers_become_an_xhci(tmp_path):
    """The group that virt-install gives to a system of which it knows nothing."""
    group = "<controller type='usb' model='ich9-ehci1'/>" + "".join(f"<controller type='usb' model='ich9-uhci{n + 1}'><master startport='{2 * n}'/></controller>" for n in range(3))
    plugs = "".join("<input type='tablet' bus='usb'/>" for _ in range(6))
    for name, devices in ("used", group + plugs), ("free", group):
        (tmp_path / name).write_text(HEAD.format(machine="q35") + devices + "\n</devices>\n</domain>\n")
    used, free = (golden("argv", str(tmp_path / name)) for name in ("used", "free"))
    assert used.returncode == free.returncode == 0, used.stderr + free.stderr
    assert '"driver":"qemu-xhci"' in used.stdout and '"p2":6' in used.stdout and '"addr":"0x1d"' in used.stdout and used.stdout.count('"bus":"usb.0"') == 6
    words = [line for line in (used.stdout + free.stdout).splitlines() if not line.startswith("#")]
    assert not any("uhci" in line or "ehci" in line for line in words) and sum("xhci" in line for line in words) == 1


def test_smm_is_kept_and_refused_at_the_start(tmp_path):
    text = HEAD.format(machine="q35") + "</devices>\n</domain>\n"
    for state, status in ("on", 1), ("off", 0):
        (tmp_path / "d.xml").write_text(text.replace("<devices>", f"<features><smm state='{state}'/></features><devices>"))
        p = golden("argv", str(tmp_path / "d.xml"))
        assert p.returncode == status and ("<smm>" in p.stderr) == (state == "on"), p.stderr


def test_i440fx_is_kept_and_refused_at_the_start(tmp_path):
    (tmp_path / "d.xml").write_text(HEAD.format(machine="pc") + "</devices>\n</domain>\n")
    p = golden("complete", str(tmp_path / "d.xml"))
    assert p.returncode == 0 and "machine='pc'" in p.stdout and "pci-root" in p.stdout
    p = golden("argv", str(tmp_path / "d.xml"))
    assert p.returncode == 1 and "'pc' (line 4)" in p.stderr and "q35" in p.stderr, p.stderr
