# SPDX-License-Identifier: GPL-2.0-or-later
"""Side by side with the real libvirtd: both define the same documents, and both show them. libvirtd runs in mount and network namespaces of its own, with empty
directories in place of the system's."""
import glob
import os
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
