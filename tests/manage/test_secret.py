# SPDX-License-Identifier: GPL-2.0-or-later
"""Secrets as an administrator sees them: Debian's virsh and python3-libvirt on vireod."""
import base64
import os
import re
import stat
import subprocess
import sys

import pytest

from conftest import PLAIN, Vireod
from limits import SLOW

USAGES = {"volume": ("volume", "/srv/x.luks"), "ceph": ("name", "client.admin"), "iscsi": ("target", "portal"), "tls": ("name", "TLS"), "vtpm": ("name", "V")}


@pytest.fixture
def daemon(tmp_path):
    root = tmp_path / "root"
    os.makedirs(root / "etc/vireo/qemu/networks")
    d = Vireod(root)
    yield d
    d.stop(status=None)


def define(daemon, tmp_path, xml, status=0):
    file = tmp_path / "s.xml"
    file.write_text(xml)
    text = daemon.virsh("secret-define", file, status=status)
    return re.search(r"Secret (\S+) created", text)[1] if not status else text


def set_value(daemon, tmp_path, uuid, value):
    (tmp_path / "value").write_bytes(value)
    daemon.virsh("secret-set-value", uuid, "--file", tmp_path / "value", "--plain")


def value_of(daemon, uuid):
    return base64.b64decode(daemon.virsh("secret-get-value", uuid).strip())


@pytest.mark.parametrize("usage", USAGES)
def test_each_usage(daemon, tmp_path, usage):
    element, value = USAGES[usage]
    uuid = define(daemon, tmp_path, f"<secret><usage type='{usage}'><{element}>{value}</{element}></usage></secret>")
    assert daemon.virsh("secret-dumpxml", uuid).strip() == (f"<secret ephemeral='no' private='no'>\n  <uuid>{uuid}</uuid>\n  <usage type='{usage}'>\n"
                                                            f"    <{element}>{value}</{element}>\n  </usage>\n</secret>")
    lines = daemon.virsh("secret-list").splitlines()
    assert lines[0].split() == ["UUID", "Usage"] and re.fullmatch(rf" {uuid} +{usage} {re.escape(value)}", lines[2])


def test_value_and_files(daemon, tmp_path):
    uuid = define(daemon, tmp_path, "<secret ephemeral='no' private='no'><description>d</description><usage type='ceph'><name>n</name></usage></secret>")
    assert "does not have a value" in daemon.virsh("secret-get-value", uuid, status=1)
    assert "must not be empty" in daemon.virsh("secret-set-value", uuid, "????", status=1)  # no base64: virsh makes nothing of it
    assert "does not have a value" in daemon.virsh("secret-get-value", uuid, status=1)
    set_value(daemon, tmp_path, uuid, b"\0binary\xff")
    assert value_of(daemon, uuid) == b"\0binary\xff"
    directory = os.path.join(daemon.root, "etc/vireo/secrets")
    assert sorted(os.listdir(directory)) == [uuid + ".base64", uuid + ".xml"]
    for name in os.listdir(directory):
        assert stat.S_IMODE(os.stat(os.path.join(directory, name)).st_mode) == 0o600
    daemon.process.kill()
    daemon.process.wait()
    daemon.start()
    assert value_of(daemon, uuid) == b"\0binary\xff"
    daemon.virsh("secret-undefine", uuid)
    assert os.listdir(directory) == []
    assert "Secret not found" in daemon.virsh("secret-dumpxml", uuid, status=1)


def test_private_and_ephemeral(daemon, tmp_path):
    private = define(daemon, tmp_path, "<secret ephemeral='no' private='yes'/>")
    ephemeral = define(daemon, tmp_path, "<secret ephemeral='yes' private='no'/>")
    for uuid in (private, ephemeral):
        set_value(daemon, tmp_path, uuid, b"x")
    assert "private" in daemon.virsh("secret-get-value", private, status=1)
    assert value_of(daemon, ephemeral) == b"x"
    assert ephemeral in daemon.virsh("secret-list", "--ephemeral") and private not in daemon.virsh("secret-list", "--ephemeral")
    assert private in daemon.virsh("secret-list", "--private") and private not in daemon.virsh("secret-list", "--no-private")
    assert ephemeral not in str(os.listdir(os.path.join(daemon.root, "etc/vireo/secrets")))
    daemon.stop()
    daemon.start()
    assert ephemeral not in daemon.virsh("secret-list") and private in daemon.virsh("secret-list")
    assert "private" in define(daemon, tmp_path, f"<secret ephemeral='no' private='no'><uuid>{private}</uuid></secret>", status=1)


@pytest.mark.parametrize("xml,word", [
    ("<secret><usage type='nope'/></secret>", "nope"), ("<secret><usage type='volume'/></secret>", "volume"), ("<secret><uuid>12</uuid></secret>", "uuid"),
    ("<secreta/>", "secret"), ("<secret", "secret"), ("<secret><bogus/></secret>", "bogus"), ("<secret private='maybe'/>", "maybe"),
])
def test_bad_documents(daemon, tmp_path, xml, word):
    assert word in define(daemon, tmp_path, xml, status=1)
    assert len(daemon.virsh("secret-list").strip().splitlines()) == 2


def test_one_secret_for_a_usage(daemon, tmp_path):
    uuid = define(daemon, tmp_path, "<secret><usage type='tls'><name>a</name></usage></secret>")
    assert uuid in define(daemon, tmp_path, "<secret><usage type='tls'><name>a</name></usage></secret>", status=1)
    assert "already defined" in define(daemon, tmp_path, f"<secret><uuid>{uuid}</uuid><usage type='tls'><name>b</name></usage></secret>", status=1)
    define(daemon, tmp_path, f"<secret><uuid>{uuid}</uuid><description>new</description><usage type='tls'><name>a</name></usage></secret>")
    assert "<description>new</description>" in daemon.virsh("secret-dumpxml", uuid)


def test_read_only(daemon, tmp_path):
    uuid = define(daemon, tmp_path, "<secret/>")
    set_value(daemon, tmp_path, uuid, b"x")
    assert "read only" in daemon.virsh("secret-get-value", uuid, status=1, readonly=True)
    assert "read only" in daemon.virsh("secret-undefine", uuid, status=1, readonly=True)


def test_python_events_and_lookup(daemon):
    script = """
import libvirt, sys, threading
libvirt.virEventRegisterDefaultImpl()
def loop():
    while True:
        libvirt.virEventRunDefaultImpl()
threading.Thread(target=loop, daemon=True).start()
c = libvirt.open(sys.argv[1])
seen, done = [], threading.Event()
def life(conn, secret, event, detail, opaque):
    seen.append(("life", event))
    if event == 1:
        done.set()
c.secretEventRegisterAny(None, libvirt.VIR_SECRET_EVENT_ID_LIFECYCLE, life, None)
c.secretEventRegisterAny(None, libvirt.VIR_SECRET_EVENT_ID_VALUE_CHANGED, lambda conn, secret, opaque: seen.append(("value", secret.usageID())), None)
s = c.secretDefineXML("<secret><usage type='volume'><volume>/v</volume></usage></secret>")
s.setValue(b"abc")
assert s.value() == b"abc"
assert c.secretLookupByUsage(libvirt.VIR_SECRET_USAGE_TYPE_VOLUME, "/v").UUIDString() == s.UUIDString()
assert c.numOfSecrets() == 1 and c.listSecrets() == [s.UUIDString()]
s.undefine()
assert done.wait(20)
print(seen)
"""
    done = subprocess.run([sys.executable, "-c", script, daemon.uri], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=PLAIN, timeout=30 * SLOW, check=False)
    assert done.stdout.strip() == "[('life', 0), ('value', '/v'), ('life', 1)]", done.stdout
