# SPDX-License-Identifier: GPL-2.0-or-later
"""Side by side with the real libvirtd: both define the same documents, and both show them. libvirtd runs in mount and network namespaces of its own, with empty
directories in place of the system's."""
import glob
import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from conftest import PLAIN
from limits import SLOW

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "domain")
CASES = sorted(os.path.basename(f)[:-4] for f in glob.glob(os.path.join(HERE, "*.xml")) if not f.endswith(".complete.xml") and not os.path.basename(f).startswith("vireo-"))
SCRIPT = """
ip link set lo up
for d in /run/libvirt /etc/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do mkdir -p $d && mount -t tmpfs none $d || exit 1; done
mount --bind "$1" /run/libvirt
mkdir -p /etc/libvirt/qemu
printf 'user="root"\\ngroup="root"\\nsecurity_driver="none"\\ncgroup_controllers=[]\\nnamespaces=[]\\nstdio_handler="file"\\n' > /etc/libvirt/qemu.conf
printf 'auth_unix_rw="none"\\n' > /etc/libvirt/libvirtd.conf
exec libvirtd --timeout 600 --pid-file /run/libvirt/judge.pid
"""


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    if not shutil.which("libvirtd") or not shutil.which("qemu-system-x86_64"):
        pytest.skip("libvirtd or qemu-system-x86_64 is not installed")
    if os.geteuid() != 0:
        pytest.skip("a libvirtd in namespaces of its own needs root")
    run = tmp_path_factory.mktemp("judge")
    log = open(run / "log", "wb")
    p = subprocess.Popen(["unshare", "-m", "-n", "bash", "-c", SCRIPT, "judge", str(run)], stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=PLAIN, start_new_session=True)
    until = time.monotonic() + 30 * SLOW
    while not (run / "libvirt-sock").exists():
        if p.poll() is not None:
            pytest.skip("libvirtd does not run here: " + (run / "log").read_text(errors="replace")[-300:])
        assert time.monotonic() < until, "libvirtd does not answer"
        time.sleep(0.1)
    uri = f"qemu+unix:///system?socket={run}/libvirt-sock"

    def virsh(*args):
        return subprocess.run(["virsh", "-c", uri, *args], capture_output=True, text=True, env=PLAIN, timeout=60 * SLOW, check=False)

    virsh.uri = uri
    yield virsh
    os.killpg(p.pid, signal.SIGTERM)
    try:
        p.wait(20 * SLOW)
    except subprocess.TimeoutExpired:
        os.killpg(p.pid, signal.SIGKILL)
        p.wait()


@pytest.mark.parametrize("case", CASES)
def test_same_definition_as_libvirtd(case, judge, shared_vireod):
    path = os.path.join(HERE, case + ".xml")
    theirs = judge("define", path)
    assert theirs.returncode == 0, f"libvirtd does not take {case}: {theirs.stderr}"
    theirs = judge("dumpxml", case).stdout
    judge("undefine", case)
    shared_vireod.virsh("define", path)
    ours = shared_vireod.virsh("dumpxml", case)
    assert ours == theirs


# ---- small pieces, in one document each ----

UUID = "11111111-2222-3333-4444-555555555555"
WHOLE = f"<domain type='qemu'><name>n</name><uuid>{UUID}</uuid>%s<memory unit='KiB'>6048576</memory>%s</domain>"
EMULATOR = "<emulator>/usr/bin/qemu-system-x86_64</emulator>"


def whole(machine, place, piece):
    system, devices = f"<os><type arch='x86_64' machine='{machine}'>hvm</type></os>", f"<devices>{EMULATOR}</devices>"
    if place == "devices":
        return WHOLE % (system, f"<devices>{EMULATOR}{piece}</devices>")
    if place == "features":
        return WHOLE % (system, f"<features>{piece}</features>" + devices)
    return WHOLE % (piece if place == "os" else system + ("" if place == "vcpu" else "<vcpu>8</vcpu>"), ("" if place == "os" else piece) + ("" if "<devices>" in piece else devices))


def pieces(file):
    with open(os.path.join(os.path.dirname(HERE), file), encoding="utf-8") as f:
        for part in f.read().split("\n== ")[1:]:
            head, _, text = part.partition("\n")
            machine, place, name = head.split()
            yield pytest.param(whole(machine, place, text), id=name)


@pytest.fixture(scope="module", name="both")
def fixture_both(judge, shared_vireod):
    """Connections to the real libvirtd and to vireod."""
    libvirt = pytest.importorskip("libvirt", reason="python3-libvirt is not installed")
    libvirt.registerErrorHandler(lambda context, error: None, None)
    connections = libvirt.open(judge.uri), libvirt.open(shared_vireod.uri)
    yield connections
    for connection in connections:
        connection.close()


def defined(connection, text):
    domain = connection.defineXML(text)
    printed = domain.XMLDesc(2)
    domain.undefine()
    return re.sub(r">/[^<]*/qemu/nvram/", ">/var/lib/libvirt/qemu/nvram/", printed)  # each has its own


@pytest.mark.parametrize("text", pieces("complete.txt"))
def test_same_piece_as_libvirtd(text, both):
    theirs = defined(both[0], text)
    assert defined(both[1], text) == theirs
    assert defined(both[1], theirs) == theirs, "what libvirt printed is made to something else"


@pytest.mark.parametrize("text", pieces("refused.txt"))
def test_same_piece_is_refused(text, both):
    import libvirt
    for connection in both:
        with pytest.raises(libvirt.libvirtError) as error:
            defined(connection, text)
    assert re.search(r"line \d+", str(error.value)), f"the message names no line: {error.value}"
