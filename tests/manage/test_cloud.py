# SPDX-License-Identifier: GPL-2.0-or-later
"""Cloud images: the real virt-install with a cloud-init seed, and `vireo run`, each from an image to a login by SSH.

The images are Debian, made from its packages by tests/guest/make_cloud.sh (shared with the tests of whole guests).
"""
import contextlib
import os
import socket
import subprocess
import time

import pytest

from conftest import BUILD, HERE, PLAIN
from limits import SLOW
from network_lab import lab, whole_lab  # pylint: disable=unused-import

VIREO = os.path.join(BUILD, "vireo")
GUEST = os.environ.get("VIREO_GUEST", os.path.join(os.path.abspath(BUILD), "guest"))
LIMIT = int(240 * SLOW)  # seconds for a boot


@pytest.fixture(scope="module")
def images():
    """The directory with cloud.img, and run/ with the image of `vireo run debian`."""
    os.makedirs(GUEST, exist_ok=True)
    script = os.path.join(os.path.dirname(HERE), "guest/make_cloud.sh")
    subprocess.run(["flock", os.path.join(GUEST, ".lock"), script, GUEST], check=True)
    return GUEST


@pytest.fixture
def key(tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    return tmp_path / "key"


def wait_for(what, condition, seconds=LIMIT):
    until = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < until, f"{what} did not happen within {seconds} s"
        time.sleep(0.2)
    return result


def ssh(key, address, command, port=22, around=lambda *words: words):
    """(status, what the command printed) in the guest."""
    words = around("ssh", "-i", key, "-p", port, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "BatchMode=yes",
                   "-o", "ConnectTimeout=5", f"debian@{address}", command)
    done = subprocess.run(list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, timeout=LIMIT, check=False)
    return done.returncode, done.stdout


def install(uri, key, image, *network, around=lambda *words: words):
    """virt-install of a guest 'vm' on an overlay over the image, with a seed that lets the key in; it must succeed."""
    words = around("virt-install", "--connect", uri, "--import", "--name", "vm", "--memory", "512", "--vcpus", "2", "--disk",
                   f"size=4,backing_store={image},backing_format=raw,bus=virtio", "--cloud-init", f"clouduser-ssh-key={key}.pub", *network,
                   "--osinfo", "debian11", "--graphics", "none", "--noautoconsole")
    done = subprocess.run(list(map(str, words)), env=PLAIN, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120 * SLOW, check=False)
    assert done.returncode == 0 and "Domain creation completed" in done.stdout, done.stdout


def login(key, address, *where, **options):
    """The user of the seed is there, with sudo, on the host of the seed; when cloud-init has come to its end."""
    wait_for("a login by SSH", lambda: ssh(key, address, "true", *where, **options)[0] == 0)
    status, out = ssh(key, address, "id -un; sudo id -un; cloud-init status --wait | tail -n 1; sudo cat /sys/class/dmi/id/product_serial", *where, **options)
    assert (status, out) == (0, "debian\nroot\nstatus: done\nds=nocloud\n"), out


@contextlib.contextmanager
def ended(virsh):
    """No guest outlives a test that fails."""
    try:
        yield
    finally:
        virsh("destroy", "vm", status=None)


def shut_down_and_forget(virsh):
    """By the guest's power button; nothing of it stays."""
    virsh("shutdown", "vm")
    wait_for("the guest's end", lambda: virsh("domstate", "vm").strip() == "shut off")
    disks = virsh("domblklist", "vm", "--details")
    assert "vm.qcow2" in disks and "cloudinit" not in disks, "the seed is for the first boot only: " + disks
    assert "vm.qcow2) removed" in virsh("undefine", "vm", "--remove-all-storage")
    assert virsh("list", "--all", "--name").strip() == "" and "vm.qcow2" not in virsh("vol-list", "default")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the network 'default' has a bridge and nftables")
def test_virt_install_with_a_seed_to_a_login(lab, images, key):
    """On the network 'default', as its first start made it: an address from its DHCP server."""
    lab.run("mount", "-t", "tmpfs", "none", "/var/lib/libvirt/boot")  # where virt-install puts the seed
    lab.virsh("net-start", "default")
    install(lab.uri, key, f"{images}/cloud.img", "--network", "network=default,mac=52:54:00:12:34:56", around=lab.words)

    def address():
        rows = [line.split() for line in lab.virsh("domifaddr", "vm").splitlines()]
        return next((row[3].split("/")[0] for row in rows if len(row) == 4 and row[1:3] == ["52:54:00:12:34:56", "ipv4"]), None)
    with ended(lab.virsh):
        found = wait_for("an address", address)
        assert found.startswith("192.168.122.") and found in lab.virsh("net-dhcp-leases", "default")
        login(key, found, around=lab.words)
        shut_down_and_forget(lab.virsh)


@pytest.mark.skipif(os.geteuid() == 0, reason="the way without root; as root the network 'default' is taken")
def test_virt_install_without_root(vireod, images, key):
    """In user mode, with a port of this host that leads to the guest's SSH."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    at = "./devices/interface/portForward"
    install(vireod.uri, key, f"{images}/cloud.img", "--network", "user,model=virtio", "--xml", f"{at}/@proto=tcp", "--xml", f"{at}/@address=127.0.0.1",
            "--xml", f"{at}/range/@start={port}", "--xml", f"{at}/range/@to=22")
    with ended(vireod.virsh):
        login(key, "127.0.0.1", port)
        shut_down_and_forget(vireod.virsh)


def vireo(home, *words, timeout=60, stdin=""):
    env = dict(PLAIN, HOME=str(home), XDG_CONFIG_HOME=f"{home}/.config")
    done = subprocess.run([VIREO, *map(str, words)], env=env, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
    return done.returncode, done.stdout, done.stderr


def test_run_debian(vireod, images, tmp_path):
    """`vireo run debian` prints the line that reaches the guest; `ssh` uses it; `rm` takes all away."""
    home, where = tmp_path / "home", ("-q", "-c", vireod.uri)
    status, out, error = vireo(home, *where, "run", "debian", "--base-dir", f"{images}/run", "--network", "user", "--memory", "384M", "--name", "web", "--user", "ann",
                               "--timeout", LIMIT, timeout=2 * LIMIT)
    assert status == 0 and out.startswith("ssh ") and "ann@127.0.0.1" in out, error + vireod.messages()
    assert "web" in vireod.virsh("list", "--name").split()
    status, out, error = vireo(home, *where, "ssh", "web", "id -un; hostname; sudo id -u; df --output=size / | tail -n 1")
    assert status == 0 and out.split()[:3] == ["ann", "web", "0"], error
    assert int(out.split()[3]) > 8 << 20, "the file system has not grown to the disk's 10 GiB"
    assert vireo(home, *where, "ssh", "web", "false")[0] == 1
    assert vireo(home, *where, "rm", "web", stdin="y\n")[0] == 0
    assert vireod.virsh("list", "--all", "--name").strip() == "" and "web" not in vireod.virsh("vol-list", "default")
