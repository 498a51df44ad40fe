# SPDX-License-Identifier: GPL-2.0-or-later
"""What an installation has: all programs, and that they find each other; manual pages, units, completion, headers and what pkg-config tells."""
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

import pytest

from conftest import BUILD, PLAIN
from limits import SLOW

C = r"""
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <stdio.h>
int main(void)
{
    virConnectPtr c = virConnectOpen("test:///default");
    printf("%d\n", c ? virConnectNumOfDomains(c) : -1);
    return c ? virConnectClose(c) : 1;
}
"""


@pytest.fixture(scope="module")
def tree():
    """The built programs, installed below another directory, where an ordinary user reaches them."""
    where = pathlib.Path(tempfile.mkdtemp(prefix="vireo-installed-"))
    where.chmod(0o755)
    try:
        subprocess.run(["meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", where], check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120 * SLOW)
        yield where
    finally:
        shutil.rmtree(where)


def one(tree, name):
    found = [os.path.join(top, name) for top, _, files in os.walk(tree) if name in files]
    assert len(found) == 1, f"{name} is installed {len(found)} times"
    return found[0]


def runs(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_all_is_there(tree):
    for name in ("vireo", "vireod", "vireo-vmm", "vireo-img", "vireo.1", "vireo-vmm.1", "vireo-img.1", "vireod.8", "vireod.service", "vireod.socket", "vireod-ro.socket",
                 "vireo.bash", "vireo.pc", "vireo-vnc.so", "libvireo.so.0", "libvirt.so.0", "libvirt.h"):
        one(tree, name)
    assert os.path.exists(tree / "etc/vireo/vireod.conf"), "the configuration is where vireod reads it, whatever the prefix"


def test_a_configuration_that_is_there_stays(tmp_path):
    os.makedirs(tmp_path / "etc/vireo")
    (tmp_path / "etc/vireo/vireod.conf").write_text("max_clients = 7\n")
    subprocess.run(["meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", tmp_path], check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120 * SLOW)
    assert (tmp_path / "etc/vireo/vireod.conf").read_text() == "max_clients = 7\n"


def test_programs_find_each_other(tree):
    """vireo in bin starts the session's vireod, which is in sbin, and that one runs machines by the vireo-vmm in bin; PATH has neither."""
    home = tempfile.mkdtemp(prefix="vireo-home-")
    env = dict(PLAIN, PATH="/usr/bin:/bin", HOME=home, XDG_RUNTIME_DIR=home, LD_LIBRARY_PATH=os.path.dirname(one(tree, "libvireo.so.0.9000.0")))
    for name in ("LIBVIRT_AUTOSTART", "VIREO_VMM", "VIREOD_PATH", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        env.pop(name, None)
    user = []
    if os.geteuid() == 0:  # a session is an ordinary user's
        os.chown(home, 65534, 65534)
        user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    try:
        done = subprocess.run([*user, one(tree, "vireo"), "domcapabilities"], env=env, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60 * SLOW, check=False)
        assert os.path.exists(f"{home}/vireo/vireod.pid"), done.stdout
        with open(f"{home}/vireo/vireod.pid", encoding="utf-8") as f:
            pid = int(f.read())
        try:
            assert os.readlink(f"/proc/{pid}/exe") == one(tree, "vireod")
            assert done.returncode == 0 and f"<path>{one(tree, 'vireo-vmm')}</path>" in done.stdout, done.stdout
        finally:
            os.kill(pid, 15)
            end = time.monotonic() + 20 * SLOW
            while runs(pid):  # it takes its files away until then
                assert time.monotonic() < end, "vireod does not end"
                time.sleep(0.05)
    finally:
        shutil.rmtree(home)


def test_a_program_of_ones_own(tree, tmp_path):
    """pkg-config's answer is enough for a program written for libvirt."""
    (tmp_path / "own.c").write_text(C)
    env = dict(PLAIN, PKG_CONFIG_PATH=os.path.dirname(one(tree, "vireo.pc")), PKG_CONFIG_SYSROOT_DIR=str(tree), PKG_CONFIG_ALLOW_SYSTEM_LIBS="1")
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "vireo"], env=env, check=True, stdout=subprocess.PIPE, text=True, timeout=20 * SLOW).stdout.split()
    subprocess.run(["gcc", "-Wall", "-Werror", "-o", tmp_path / "own", tmp_path / "own.c", *flags], check=True, timeout=60 * SLOW)
    done = subprocess.run([tmp_path / "own"], env=dict(PLAIN, LD_LIBRARY_PATH=os.path.dirname(one(tree, "libvireo.so.0.9000.0"))), stdout=subprocess.PIPE, text=True, timeout=20 * SLOW, check=False)
    assert done.stdout == "1\n" and done.returncode == 0


@pytest.mark.parametrize("page", ["vireo.1", "vireo-vmm.1", "vireo-img.1", "vireod.8"])
def test_manual_pages_have_no_faults(tree, page):
    done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-Wbreak", "-z", one(tree, page)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60 * SLOW, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_unit_names_the_program(tree):
    with open(one(tree, "vireod.service"), encoding="utf-8") as f:
        start = [line.split("=", 1)[1].split()[0] for line in f if line.startswith("ExecStart=")]
    assert [os.path.join(tree, path.lstrip("/")) for path in start] == [one(tree, "vireod")]
