# SPDX-License-Identifier: GPL-2.0-or-later
"""Domain definitions against a real libvirt (its test driver, in this process): what it prints survives our parser and formatter byte for byte, what it
accepts we accept, and wrong values that it refuses we refuse. VIREO_REGENERATE=1 writes what it prints to golden/domain."""
import os
import re
import subprocess

import pytest

from limits import SLOW

libvirt = pytest.importorskip("libvirt", reason="python3-libvirt is not installed")
HERE = os.path.dirname(os.path.abspath(__file__))
TOOL = os.path.join(os.environ.get("VIREO_BUILD", "build"), "src", "manage", "rpc", "doc_test")
UUID = "11111111-2222-3333-4444-555555555555"
BASE = f"<domain type='test'><name>n</name><uuid>{UUID}</uuid>%s<memory unit='KiB'>6048576</memory>%s</domain>"
OS = "<os><type arch='x86_64'>hvm</type></os>"
PLACES = {
    "devices": lambda piece: BASE % (OS, f"<devices>{piece}</devices>"),
    "features": lambda piece: BASE % (OS, f"<features>{piece}</features>"),
    "os": lambda piece: BASE % (piece, ""),
    "vcpu": lambda piece: BASE % (OS + piece, ""),
    "domain": lambda piece: BASE % (OS + "<vcpu>8</vcpu>", piece),
}


def pieces():
    with open(os.path.join(HERE, "documents.txt"), encoding="utf-8") as f:
        for part in f.read().split("\n== ")[1:]:
            head, _, text = part.partition("\n")
            place, name = head.split()
            yield pytest.param(PLACES[place](text), name, id=name)


@pytest.fixture(scope="module")
def judge():
    libvirt.registerErrorHandler(lambda context, error: None, None)
    connection = libvirt.open("test:///default")
    yield connection
    connection.close()


def ours(tmp_path, xml):
    path = tmp_path / "in.xml"
    path.write_text(xml, encoding="utf-8")
    return subprocess.run([TOOL, "format", "domain", str(path)], capture_output=True, encoding="utf-8", check=False, timeout=20 * SLOW)


@pytest.mark.parametrize("xml, name", pieces())
def test_same_as_libvirt(judge, tmp_path, xml, name):
    domain = judge.defineXMLFlags(xml, 0)
    printed = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
    domain.undefine()
    assert ours(tmp_path, xml).returncode == 0, ours(tmp_path, xml).stdout
    assert ours(tmp_path, printed).stdout == printed
    if os.environ.get("VIREO_REGENERATE"):
        with open(os.path.join(HERE, "golden", "domain", name + ".xml"), "w", encoding="utf-8") as f:
            f.write(printed)


# Values that say nothing good in any attribute that is a list of words or a number.
WRONG = [("type='kvm'", "type='kwm'"), ("mode='custom'", "mode='costum'"), ("bus='virtio'", "bus='vertio'"), ("cache='none'", "cache='nil'"),
         ("<vcpu>2</vcpu>", "<vcpu>two</vcpu>"), ("unit='KiB'", "unit='KiBi'"), ("slot='0x03'", "slot='0x3f'"), ("52:54:00:12:34:56", "52:54:00:12:34"),
         (UUID, UUID[:-1]), ("<on_reboot>restart<", "<on_reboot>resume<"), ("offset='utc'", "offset='uct'"), ("dev='vda'", "dev='xda'"),
         ("policy='require'", "policy='wish'"), ("port='-1'", "port='x'"), ("model='virtio'", "model='virtual'"), ("</devices>", "</device>")]
GOOD = f"""<domain type='kvm'><name>n</name><uuid>{UUID}</uuid><memory unit='KiB'>6048576</memory><vcpu>2</vcpu>{OS}
<cpu mode='custom' match='exact'><model>qemu64</model><feature policy='require' name='vmx'/></cpu><clock offset='utc'/><on_reboot>restart</on_reboot><devices>
<disk type='file'><driver name='qemu' type='raw' cache='none'/><source file='/a'/><target dev='vda' bus='virtio'/><address type='pci' domain='0' bus='0' slot='0x03' function='0'/></disk>
<interface type='user'><mac address='52:54:00:12:34:56'/></interface><graphics type='vnc' port='-1'/><rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
</devices></domain>"""


def test_good_is_good(judge, tmp_path):
    assert ours(tmp_path, GOOD).returncode == 0
    judge.defineXMLFlags(GOOD.replace("type='kvm'", "type='test'"), 0).undefine()


@pytest.mark.parametrize("old, new", WRONG, ids=[new for _, new in WRONG])
def test_wrong_value_is_refused_by_both(judge, tmp_path, old, new):
    assert old in GOOD
    bad = GOOD.replace(old, new, 1)
    result = ours(tmp_path, bad)
    assert result.returncode == 1 and re.search(r"line \d+: ", result.stdout)
    with pytest.raises(libvirt.libvirtError):
        judge.defineXMLFlags(bad.replace("type='kvm'", "type='test'"), 0)
