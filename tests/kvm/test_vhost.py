# SPDX-License-Identifier: GPL-2.0-or-later
"""vhost=on: the outer guest's kernel moves the inner guest's frames between its rings and a TAP interface."""
import os
import subprocess

import pytest

BOOT = 150
MODULES = ("virtio_pci", "virtio_net", "af_packet")
TOOL = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "guest", "nettool.c")
SCRIPT = "#!/bin/sh\nip addr add 10.9.0.1/24 dev $1\nip link set $1 up\n"


@pytest.fixture(scope="module")
def tool(outer, tmp_path_factory):
    """nettool serves in the outer guest; files that bring it into an inner one."""
    path = str(tmp_path_factory.mktemp("nettool") / "nettool")
    subprocess.run(["cc", "-O2", "-static", "-o", path, TOOL, "-lpthread"], check=True)
    there = outer.put(path)
    outer.shell(f"chmod 755 {there}; setsid {there} serve 5001 > /dev/null 2>&1 < /dev/null & sleep 1")
    outer.run("/bin/sh", "-c", "cat > /tmp/ifup; chmod 755 /tmp/ifup; ls /dev/net/tun /dev/vhost-net", stdin=SCRIPT.encode())
    with open(path, "rb") as f:
        return {"bin/nettool": (0o100755, f.read())}


def worker_ticks(outer):
    """CPU time of the kernel's threads named vhost-PID."""
    return int(outer.shell("n=0; for p in /proc/[0-9]*/stat; do read -r line < $p 2>/dev/null || continue; case \"$line\" in *'(vhost-'*) "
                           "set -- ${line##*)}; n=$((n + ${12} + ${13}));; esac; done; echo $n"))


@pytest.mark.parametrize("queues,cpus", [(1, 1), (2, 2)])
def test_vhost(linux, outer, tool, queues, cpus):
    netdev = "tap,id=n,ifname=tap0,script=/tmp/ifup,downscript=no,vhost=on,vhostforce=on" + (f",queues={queues}" if queues > 1 else "")
    m = linux("-smp", str(cpus), "-netdev", netdev, "-device", "virtio-net-pci,netdev=n" + (",mq=on" if queues > 1 else ""), modules=MODULES,
              extra=tool, qmp=True, cpu="qemu64", script="""
ip link set lo up; ip addr add 10.9.0.2/24 dev eth0; ip link set eth0 up
ping -c 3 -W 10 10.9.0.1 > /dev/null && echo "VT ping"
nettool send 10.9.0.1 5001 40
nettool recv 10.9.0.1 5001 40
echo "VT more"
nettool send 10.9.0.1 5001 30 & nettool recv 10.9.0.1 5001 30 & wait
echo "VT end"; read line < /dev/console
""")
    m.wait_text("VT ping", BOOT, "nothing passes with vhost=on")
    for way in ("send", "recv"):
        m.wait_text(f"{way} 40 MiB", 120)
        m.wait_text(" ok", 10, f"{way}: bytes changed on the way")
    m.wait_text("VT more", 20)
    for _ in range(3):
        m.qmp.command("stop")
        m.qmp.command("cont")
    text = m.wait_text("VT end", 120, "frames do not flow after stop and cont with vhost=on")
    assert text.count(" ok") == 2, "bytes were lost over stop and cont" + m.tail()
    assert worker_ticks(outer) > 0, "the kernel's thread has not done anything: vhost was not used"
    m.send("\n")
    m.wait(30)
