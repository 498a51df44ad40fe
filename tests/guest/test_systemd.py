# SPDX-License-Identifier: GPL-2.0-or-later
"""A whole Debian 12 with systemd: its services start, none fails, it works, and its power button ends it."""
import re
import subprocess

import pytest

BOOT = 400


@pytest.fixture(params=[1, 2], ids=["1cpu", "2cpus"])
def debian(request, rootfs, work, machine):
    image = f"{work}/disk.img"
    subprocess.run(["cp", "--sparse=always", f"{rootfs}/disk.img", image], check=True)
    m = machine("-machine", "q35", "-accel", "jit", "-smp", str(request.param), "-m", "1G", "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
                "-kernel", f"{rootfs}/vmlinuz", "-initrd", f"{rootfs}/initrd.img", "-append", "root=/dev/vda rw console=ttyS0",
                "-drive", f"file={image},format=raw,if=virtio", "-nic", "user,model=virtio-net-pci", qmp=True)
    m.image = image
    m.cpus = request.param
    return m


def shell(m, command, deadline=120):
    """Runs a command in the guest's shell; what it printed. The marks are split, so that the echo of the line is not taken for them."""
    m.send(f"echo VT''BEGIN; {command}; echo VT''END\n")
    m.wait_text("VTBEGIN\r\n", deadline, f"the guest's shell does not run {command!r}")
    return m.wait_text("VTEND", deadline, f"in the guest {command!r} does not end").strip()


# Integer, vector and x87 or SSE floating point in common programs.
SAME_EVERYWHERE = ("head -c 8000000 /dev/zero | sha256sum", "seq 1 200000 | gzip -9 | gunzip | md5sum",
                   "mawk 'BEGIN { for (i = 1; i <= 20000; i++) s += sqrt(i) * sin(i) / exp(1 / i); printf \"%.15g\", s }'",
                   "sqlite3 :memory: 'with recursive c(x) as (select 1 union all select x + 1 from c where x < 5000) select sum(x * 1.5) from c'",
                   "head -c 1000000 /dev/zero | openssl enc -aes-128-cbc -K 00112233445566778899aabbccddeeff -iv 00 2>/dev/null | md5sum")


def native(command):
    return subprocess.run(command, shell=True, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def test_debian_comes_up_and_goes_down(debian):
    m = debian
    m.qmp.command("query-status")
    m.wait_text("login:", BOOT, "Debian does not reach its login prompt")
    m.send("root\n")
    m.wait_text("# ", 120, "root cannot log in on the serial console")
    shell(m, "PS1=; stty -echo 2>/dev/null; export TERM=dumb SYSTEMD_COLORS=0")
    state = shell(m, "systemctl is-system-running --wait", 300).split("\n")[-1]  # before it, what is still being started may report itself
    failed = shell(m, "systemctl --failed --no-legend --plain")
    assert state == "running" and failed == "", f"services that failed in the guest: {failed or state}" + m.tail()
    assert shell(m, "nproc") == str(m.cpus)
    assert shell(m, "findmnt -n -o FSTYPE /") == "ext4"
    address = shell(m, "ip -4 -o addr show scope global")
    assert re.search(r"10\.0\.2\.15/24", address), f"the guest got no address by DHCP: {address!r}"
    for command in SAME_EVERYWHERE:
        assert shell(m, command) == native(command), f"{command!r} prints something else in the guest than on the host"
    assert shell(m, "echo kept > /root/kept; sync; echo ok") == "ok"
    complaints = shell(m, "dmesg | grep -E 'BUG:|WARNING:|Oops|soft lockup|detected stalls' | head -n 3")
    assert complaints == "", f"the guest's kernel complains: {complaints}"
    m.qmp.command("system_powerdown")
    m.qmp.wait_event("POWERDOWN")
    event = m.qmp.wait_event("SHUTDOWN", 180)
    assert event["data"] == {"guest": True, "reason": "guest-shutdown"}, "the guest's power-off is not reported as such"
    m.wait(30, 0, "the power button does not end the program with status 0")
    done = subprocess.run(["e2fsck", "-fn", m.image], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, f"after the guest powered off, e2fsck finds its disk broken:\n{done.stdout}"
    kept = subprocess.run(["debugfs", "-R", "cat /root/kept", m.image], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
    assert kept == b"kept\n", "a file that the guest wrote and synced is not on the image"
