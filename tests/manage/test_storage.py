# SPDX-License-Identifier: GPL-2.0-or-later
"""Storage as an administrator sees it: Debian's virsh on vireod, qemu-img as the judge of what was made."""
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time

import libvirt
import pytest

from conftest import PLAIN, Vireod
from limits import SLOW
from listener import Listener

MIB = 1 << 20
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts and loop devices")


def run(*words, status=0):
    done = subprocess.run([str(w) for w in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=PLAIN, check=False, text=True, timeout=60 * SLOW)
    assert status is None or done.returncode == status, f"{' '.join(map(str, words))}: {done.stdout}"
    return done.stdout


def make_daemon(root):
    os.makedirs(os.path.join(root, "etc/vireo/qemu/networks"))  # no default network: nothing here is about networks
    return Vireod(root)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    d = make_daemon(tmp_path_factory.mktemp("storage"))
    yield d
    d.stop()


@pytest.fixture
def own(tmp_path):
    """A daemon that the test may kill."""
    d = make_daemon(tmp_path / "root")
    yield d
    d.stop(status=None)


@pytest.fixture
def pool(daemon, tmp_path):
    """A directory pool of the test's own: (name, path)."""
    path = tmp_path / "pool"
    path.mkdir()
    name = "p-" + tmp_path.name
    daemon.virsh("pool-create-as", name, "dir", "--target", path)
    yield name, str(path)
    daemon.virsh("pool-destroy", name)
    assert [f for f in os.listdir(path) if "unfinished" in f] == []


def info(path, **options):
    words = ["qemu-img", "info", "--output=json", "-U"]
    return json.loads(run(*words, path))


def xml_value(text, element):
    found = re.search(rf"<{element}[^>]*>([^<]*)<", text)
    return found and found[1]


def table(text):
    """The rows of one of virsh's tables, by the words of its title."""
    lines = [line for line in text.splitlines() if line.strip()]
    title = re.split(r"\s{2,}", lines[0].strip())
    assert set(lines[1]) == {"-"}, text
    return title, [re.split(r"\s{2,}", line.strip()) for line in lines[2:]]


# ---- pools ----

def test_default_pool_is_there_at_first_start(daemon):
    title, rows = table(daemon.virsh("pool-list", "--all"))
    assert title == ["Name", "State", "Autostart"]
    assert ["default", "active", "yes"] in rows
    assert xml_value(daemon.virsh("pool-dumpxml", "default"), "path") == os.path.join(daemon.root, "var/lib/vireo/images")


def test_life_of_a_pool(daemon, tmp_path):
    path = tmp_path / "a" / "b"
    v = daemon.virsh
    assert "Pool life defined" in v("pool-define-as", "life", "dir", "--target", path)
    assert "pool-build life" in v("pool-start", "life", status=1), "the error says what to do"
    assert "Pool life built" in v("pool-build", "life")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o711
    assert "Pool life started" in v("pool-start", "life")
    assert "already active" in v("pool-start", "life", status=1)
    v("pool-autostart", "life")
    assert os.path.islink(os.path.join(daemon.root, "etc/vireo/storage/autostart/life.xml"))
    text = v("pool-info", "life")
    for label, value in (("Name", "life"), ("State", "running"), ("Persistent", "yes"), ("Autostart", "yes")):
        assert re.search(rf"^{label}: +{value}$", text, re.M), text
    uuid = v("pool-uuid", "life").strip()
    assert v("pool-name", uuid).strip() == "life"
    assert "still active" in v("pool-delete", "life", status=1)
    assert "still active" in v("pool-undefine", "life", status=1)
    v("pool-destroy", "life")
    v("pool-delete", "life")
    assert not path.exists()
    v("pool-undefine", "life")
    assert not os.path.exists(os.path.join(daemon.root, "etc/vireo/storage/life.xml"))
    assert "Storage pool not found" in v("pool-info", "life", status=1)


def test_pool_of_libvirt_glib(daemon, tmp_path):
    """GNOME Boxes makes its pool with libvirt-glib, which writes a <directory> that libvirt takes no notice of."""
    images, path = tmp_path / "images", tmp_path / "boxes.xml"
    path.write_text(f'<pool type="dir"><name>gnome-boxes</name><source><directory path="{images}"/></source><target><path>{images}</path>'
                    "<permissions><owner>0</owner><group>0</group><mode>744</mode></permissions></target></pool>")
    daemon.virsh("pool-define", path)
    assert "<directory" not in daemon.virsh("pool-dumpxml", "gnome-boxes")
    daemon.virsh("pool-undefine", "gnome-boxes")


def test_pool_lists_and_filters(daemon, pool):
    name = pool[0]
    assert name in daemon.virsh("pool-list", "--transient")
    assert name not in daemon.virsh("pool-list", "--all", "--persistent")
    assert name not in daemon.virsh("pool-list", "--inactive")
    assert name in daemon.virsh("pool-list", "--type", "dir,fs")
    assert name not in daemon.virsh("pool-list", "--type", "logical")
    title, _ = table(daemon.virsh("pool-list", "--all", "--details"))
    assert title == ["Name", "State", "Autostart", "Persistent", "Capacity", "Allocation", "Available"]


def test_pool_document_comes_back_as_libvirt_prints_it(daemon):
    golden = os.path.join(os.path.dirname(__file__), "golden", "pool")
    for kind in ("netfs-options", "logical", "disk", "iscsi", "fs", "dir-cow"):
        with open(os.path.join(golden, kind + ".xml"), encoding="utf-8") as f:
            text = f.read()
        name = xml_value(text, "name")
        daemon.virsh("pool-define", os.path.join(golden, kind + ".xml"))
        try:
            assert daemon.virsh("pool-dumpxml", name).rstrip("\n") == text.rstrip("\n"), kind
        finally:
            daemon.virsh("pool-undefine", name)


@pytest.mark.parametrize("xml,word", [
    ("<pool type='rbd'><name>x</name></pool>", "rbd"),
    ("<pool type='gluster'><name>x</name></pool>", "gluster"),
    ("<pool type='nope'><name>x</name></pool>", "nope"),
    ("<pool type='dir'><name>x</name></pool>", "target path"),
    ("<pool type='dir'><target><path>/x</path></target></pool>", "name"),
    ("<pool type='dir'><name>a/b</name><target><path>/x</path></target></pool>", "a/b"),
    ("<pool type='dir'><name>x</name><target><path>rel</path></target></pool>", "rel"),
    ("<pool type='dir'><name>x</name><bogus/><target><path>/x</path></target></pool>", "bogus"),
    ("<pool type='netfs'><name>x</name><source><dir path='/x'/></source><target><path>/x</path></target></pool>", "host"),
    ("<pool type='fs'><name>x</name><target><path>/x</path></target></pool>", "device"),
    ("<pool type='fs'><name>x</name><source><device path='/dev/x'/><format type='bad'/></source><target><path>/x</path></target></pool>", "bad"),
    ("<pool type='dir'><name>default</name><target><path>/x</path></target></pool>", "default"),
])
def test_a_bad_pool_is_refused_by_name(daemon, tmp_path, xml, word):
    file = tmp_path / "p.xml"
    file.write_text(xml)
    before = daemon.virsh("pool-list", "--all")
    assert word in daemon.virsh("pool-define", file, status=1)
    assert daemon.virsh("pool-list", "--all") == before


def test_two_pools_cannot_have_the_same_directory(daemon, pool):
    assert pool[0] in daemon.virsh("pool-define-as", "second", "dir", "--target", pool[1] + "/", status=1)


def test_read_only_connection_changes_nothing(daemon, pool):
    assert pool[0] in daemon.virsh("pool-list", readonly=True)
    for words in (("pool-destroy", pool[0]), ("pool-refresh", pool[0]), ("vol-create-as", pool[0], "x", "1M"), ("pool-undefine", "default")):
        assert "read only" in daemon.virsh(*words, status=1, readonly=True)


def test_capabilities(daemon):
    text = daemon.virsh("pool-capabilities")
    assert "<pool type='dir' supported='yes'>\n    <volOptions>\n      <defaultFormat type='raw'/>" in text
    assert "<pool type='rbd' supported='no'>" in text


def test_missing_tool_names_the_package(daemon):
    if shutil.which("iscsiadm"):
        pytest.skip("iscsiadm is on this host: its absence cannot be seen")
    assert "open-iscsi" in daemon.virsh("find-storage-pool-sources-as", "iscsi", "--host", "127.0.0.1", status=1)


# ---- volumes ----

def test_raw_volume(daemon, pool):
    name, path = pool
    daemon.virsh("vol-create-as", name, "full", "3M")
    daemon.virsh("vol-create-as", name, "sparse", "300M", "--allocation", "0")
    assert os.stat(f"{path}/full").st_blocks * 512 >= 3 * MIB
    assert os.stat(f"{path}/sparse").st_blocks * 512 < MIB
    assert os.stat(f"{path}/sparse").st_size == 300 * MIB
    assert stat.S_IMODE(os.stat(f"{path}/full").st_mode) == 0o600
    text = daemon.virsh("vol-info", "sparse", name)
    for label, value in (("Name", "sparse"), ("Type", "file"), ("Capacity", "300.00 MiB"), ("Allocation", "0.00 B")):
        assert re.search(rf"^{label}: +{value}$", text, re.M), text
    title, rows = table(daemon.virsh("vol-list", name, "--details"))
    assert title == ["Name", "Path", "Type", "Capacity", "Allocation"]
    assert ["full", f"{path}/full", "file", "3.00 MiB", "3.00 MiB"] in rows
    assert daemon.virsh("vol-path", "full", name).strip() == f"{path}/full"
    assert daemon.virsh("vol-key", "full", name).strip() == f"{path}/full"
    assert daemon.virsh("vol-name", f"{path}/full").strip() == "full"
    assert daemon.virsh("vol-pool", f"{path}/full").strip() == name
    assert "exists already" in daemon.virsh("vol-create-as", name, "full", "1M", status=1)
    daemon.virsh("vol-delete", "full", name)
    assert os.listdir(path) == ["sparse"]


def test_qcow2_volumes(daemon, pool, tmp_path):
    name, path = pool
    daemon.virsh("vol-create-as", name, "base.qcow2", "8M", "--format", "qcow2")
    daemon.virsh("vol-create-as", name, "over.qcow2", "8M", "--format", "qcow2", "--backing-vol", "base.qcow2", "--backing-vol-format", "qcow2")
    assert "unknown format type foo" in daemon.virsh("vol-create-as", name, "x.qcow2", "8M", "--format", "qcow2", "--backing-vol", "base.qcow2", "--backing-vol-format", "foo", status=1)
    daemon.virsh("vol-create-as", name, "meta.qcow2", "8M", "--format", "qcow2", "--prealloc-metadata")
    file = tmp_path / "v.xml"
    file.write_text("<volume><name>new.qcow2</name><capacity unit='M'>8</capacity><target><format type='qcow2'/><compat>1.1</compat>"
                    "<clusterSize unit='KiB'>128</clusterSize><features><lazy_refcounts/><extended_l2/></features>"
                    "<permissions><mode>0640</mode><owner>0</owner><group>0</group></permissions></target></volume>")
    daemon.virsh("vol-create", name, file)
    assert info(f"{path}/base.qcow2")["virtual-size"] == 8 * MIB
    over = info(f"{path}/over.qcow2")
    assert over["backing-filename"] == f"{path}/base.qcow2" and over["backing-filename-format"] == "qcow2"
    new = info(f"{path}/new.qcow2")
    assert new["cluster-size"] == 131072 and new["format-specific"]["data"]["lazy-refcounts"] and new["format-specific"]["data"]["extended-l2"]
    assert stat.S_IMODE(os.stat(f"{path}/new.qcow2").st_mode) == 0o640
    for image in os.listdir(path):
        run("qemu-img", "check", f"{path}/{image}")
    text = daemon.virsh("vol-dumpxml", "over.qcow2", name)
    assert f"  <backingStore>\n    <path>{path}/base.qcow2</path>\n    <format type='qcow2'/>\n    <permissions>\n" in text
    text = daemon.virsh("vol-dumpxml", "new.qcow2", name)
    assert ("    <compat>1.1</compat>\n    <clusterSize unit='B'>131072</clusterSize>\n    <features>\n      <lazy_refcounts/>\n      <extended_l2/>\n"
            "    </features>\n  </target>\n") in text
    file.write_text("<volume><name>x</name><capacity>1</capacity><target><format type='qcow2'/></target><backingStore><path>/nope</path></backingStore></volume>")
    assert "inaccessible backing store" in daemon.virsh("vol-create", name, file, status=1)
    assert "x" not in os.listdir(path)


def test_clone_and_convert(daemon, pool, tmp_path):
    name, path = pool
    data = os.urandom(3 * MIB) + bytes(4 * MIB) + os.urandom(12345 // 512 * 512)
    daemon.virsh("vol-create-as", name, "a", len(data), "--allocation", "0")
    with open(f"{path}/a", "r+b") as f:
        f.write(data[:3 * MIB])
        f.seek(7 * MIB)
        f.write(data[7 * MIB:])
    daemon.virsh("vol-clone", "a", "b", "--pool", name)
    with open(f"{path}/b", "rb") as f:
        assert f.read() == data
    assert os.stat(f"{path}/b").st_blocks * 512 < 5 * MIB, "holes stay holes"
    file = tmp_path / "v.xml"
    for source, target, form in (("a", "c", "qcow2"), ("c", "d", "vdi"), ("d", "e", "raw"), ("c", "f", "qcow2")):
        file.write_text(f"<volume><name>{target}</name><capacity>0</capacity><target><format type='{form}'/></target></volume>")
        daemon.virsh("vol-create-from", name, file, source, "--inputpool", name)
        assert info(f"{path}/{target}")["format"] == form
        run("qemu-img", "compare", "-f", "raw", "-F", form, f"{path}/a", f"{path}/{target}")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", f"{path}/c", "-F", "qcow2", f"{path}/over")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 9 1M 64k", f"{path}/over")
    daemon.virsh("pool-refresh", name)
    daemon.virsh("vol-clone", "over", "flat-or-over", "--pool", name)
    run("qemu-img", "compare", f"{path}/over", f"{path}/flat-or-over")
    assert "no storage vol" in daemon.virsh("vol-clone", "nope", "x", "--pool", name, status=1)


def test_reflink_is_refused_where_the_file_system_cannot(daemon, pool):
    name, path = pool
    daemon.virsh("vol-create-as", name, "a", "1M")
    shares = subprocess.run(["cp", "--reflink=always", f"{path}/a", f"{path}/../probe"], stderr=subprocess.DEVNULL, check=False).returncode == 0
    text = daemon.virsh("vol-clone", "a", "b", "--pool", name, "--reflink", status=None)
    assert os.path.exists(f"{path}/b") == shares
    assert shares or "reflink" in text


def test_resize(daemon, pool):
    name, path = pool
    daemon.virsh("vol-create-as", name, "r", "2M", "--allocation", "0")
    daemon.virsh("vol-create-as", name, "q", "2M", "--format", "qcow2")
    for volume in ("r", "q"):
        daemon.virsh("vol-resize", volume, "4M", name)
        daemon.virsh("vol-resize", volume, "1M", name, "--delta")
        assert info(f"{path}/{volume}")["virtual-size"] == 5 * MIB
        assert "shrink" in daemon.virsh("vol-resize", volume, "1M", name, status=1)
        daemon.virsh("vol-resize", volume, "1M", name, "--shrink")
        assert info(f"{path}/{volume}")["virtual-size"] == MIB
    daemon.virsh("vol-resize", "r", "3M", name, "--allocate")
    assert os.stat(f"{path}/r").st_blocks * 512 >= 2 * MIB
    run("qemu-img", "check", f"{path}/q")


@pytest.mark.parametrize("algorithm", ["zero", "random", "dod", "nnsa", "bsi", "schneier", "gutmann", "pfitzner7"])
def test_wipe(daemon, pool, algorithm):
    name, path = pool
    daemon.virsh("vol-create-as", name, "w", "1M")
    with open(f"{path}/w", "r+b") as f:
        f.write(b"secret" * 100000)
    daemon.virsh("vol-wipe", "w", name, "--algorithm", algorithm)
    with open(f"{path}/w", "rb") as f:
        content = f.read()
    assert len(content) == MIB and b"secret" not in content
    assert (content == bytes(MIB)) == (algorithm in ("zero", "nnsa"))


def test_upload_and_download(daemon, pool, tmp_path):
    name, path = pool
    data = os.urandom(5 * MIB + 4321)
    (tmp_path / "in").write_bytes(data)
    daemon.virsh("vol-create-as", name, "u", len(data))
    daemon.virsh("vol-upload", "u", tmp_path / "in", name)
    with open(f"{path}/u", "rb") as f:
        assert f.read() == data
    daemon.virsh("vol-download", "u", tmp_path / "out", name)
    assert (tmp_path / "out").read_bytes() == data
    daemon.virsh("vol-download", "u", tmp_path / "part", name, "--offset", 1000, "--length", 3 * MIB)
    assert (tmp_path / "part").read_bytes() == data[1000:1000 + 3 * MIB]
    (tmp_path / "in").write_bytes(b"x" * 100)
    daemon.virsh("vol-upload", "u", tmp_path / "in", name, "--offset", 50, "--length", 100)
    with open(f"{path}/u", "rb") as f:
        assert f.read() == data[:50] + b"x" * 100 + data[150:]
    run("qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "in", "1M")
    daemon.virsh("vol-upload", "u", tmp_path / "in", name)
    assert "<format type='qcow2'/>" in daemon.virsh("vol-dumpxml", "u", name)
    (tmp_path / "in").write_bytes(b"y" * 200)
    assert "length" in daemon.virsh("vol-upload", "u", tmp_path / "in", name, "--offset", 0, "--length", 100, status=1)
    assert "offset" in daemon.virsh("vol-download", "u", tmp_path / "out", name, "--offset", 1 << 40, status=1)


def test_what_is_in_a_directory(daemon, pool):
    """Files of other programs, links, directories; what is no volume is not shown."""
    name, path = pool
    os.mkdir(f"{path}/dir")
    os.mkfifo(f"{path}/fifo")
    os.symlink("nowhere", f"{path}/dangling")
    os.symlink("raw", f"{path}/link")
    run("qemu-img", "create", "-q", f"{path}/raw", "1M")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", "/nonexistent", "-F", "raw", f"{path}/lost.qcow2", "3M")
    run("qemu-img", "create", "-q", "-f", "vmdk", f"{path}/v.vmdk", "5M")
    with open(f"{path}/a<b&'c", "wb") as f:
        f.write(b"x")
    with open(os.fsencode(path) + b"/\xff\xfe", "wb") as f:
        f.write(b"no text")
    daemon.virsh("pool-refresh", name)
    _, rows = table(daemon.virsh("vol-list", name, "--details"))
    assert [r[0] for r in rows] == ["a<b&'c", "dir", "link", "lost.qcow2", "raw", "v.vmdk"]
    assert [r[2] for r in rows] == ["file", "dir", "file", "file", "file", "file"]
    assert "<name>a&lt;b&amp;&apos;c</name>" in daemon.virsh("vol-dumpxml", "a<b&'c", name)
    assert "  <backingStore>\n    <path>/nonexistent</path>\n    <format type='raw'/>\n  </backingStore>\n" in daemon.virsh("vol-dumpxml", "lost.qcow2", name)
    assert "<capacity unit='bytes'>5242880</capacity>" in daemon.virsh("vol-dumpxml", "v.vmdk", name)
    daemon.virsh("vol-delete", "dir", name)
    os.unlink(f"{path}/raw")
    assert "no storage vol" in daemon.virsh("vol-info", "gone", name, status=1)
    assert "has gone" in daemon.virsh("vol-info", "raw", name, status=1)


def test_hostile_images(daemon, pool):
    """Headers that lie, and backing files that lead elsewhere or round in a circle: the refresh is quick and the daemon lives."""
    name, path = pool
    run("qemu-img", "create", "-q", "-f", "qcow2", f"{path}/base", "1M")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", f"{path}/self", "-F", "qcow2", f"{path}/circle", "3M")
    os.rename(f"{path}/circle", f"{path}/self")
    with open(f"{path}/base", "rb") as f:
        head = bytearray(f.read(65536))
    for i, (at, value) in enumerate([(24, b"\xff" * 8), (20, b"\xff" * 4), (8, b"\xff" * 8), (16, b"\x7f" * 4), (100, b"\xff" * 4), (8, bytes(7) + b"\x01" + bytes(8))]):
        bad = bytearray(head)
        bad[at:at + len(value)] = value
        with open(f"{path}/bad{i}", "wb") as f:
            f.write(bad)
    with open(f"{path}/short", "wb") as f:
        f.write(b"QFI\xfb\0\0\0\3")
    daemon.virsh("pool-refresh", name)
    _, rows = table(daemon.virsh("vol-list", name))
    assert len(rows) == 9
    for row in rows:
        assert "<volume type='file'>" in daemon.virsh("vol-dumpxml", row[0], name)
    assert daemon.virsh("vol-clone", "self", "copy", "--pool", name, status=1)
    assert not os.path.exists(f"{path}/copy")


def test_thousands_of_files_are_looked_at(daemon, pool):
    name, path = pool
    run("qemu-img", "create", "-q", "-f", "qcow2", f"{path}/0", "1M")
    for i in range(1, 4000):
        shutil.copyfile(f"{path}/0", f"{path}/{i}") if i % 100 == 0 else os.link(f"{path}/0", f"{path}/{i}")
    daemon.virsh("pool-refresh", name)
    assert len(daemon.virsh("vol-list", name).splitlines()) >= 4000


def test_name_cannot_leave_the_pool(daemon, pool, tmp_path):
    name, path = pool
    file = tmp_path / "v.xml"
    for bad in ("../x", "a/b", "..", "."):
        file.write_text(f"<volume><name>{bad}</name><capacity>1</capacity></volume>")
        daemon.virsh("vol-create", name, file, status=1)
    assert os.listdir(path) == [] and not os.path.exists(f"{path}/../x")


# ---- long work ----

def big_source(daemon, name, path, size):
    daemon.virsh("vol-create-as", name, "big", size, "--allocation", "0")
    with open(f"{path}/big", "r+b") as f:
        for at in range(0, size, 1 << 25):
            f.seek(at)
            f.write(b"data")


def start_clone(daemon, name, tmp_path):
    """A conversion that takes some seconds, in the background."""
    (tmp_path / "v.xml").write_text("<volume><name>copy</name><capacity>0</capacity><target><format type='qcow2'/></target></volume>")
    process = subprocess.Popen(["virsh", "-c", daemon.uri, "vol-create-from", name, tmp_path / "v.xml", "big", "--inputpool", name], env=PLAIN, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
    until = time.monotonic() + 10 * SLOW
    while "copy" not in daemon.virsh("vol-list", name):
        assert time.monotonic() < until and process.poll() is None, process.stdout.read() if process.poll() is not None else "the copy does not begin"
        time.sleep(0.02)
    return process


def test_clone_beside_other_calls_and_given_up(daemon, pool, tmp_path):
    name, path = pool
    big_source(daemon, name, path, 2 << 40)
    process = start_clone(daemon, name, tmp_path)
    connection = libvirt.open(daemon.uri)  # a program for each question would take longer than the copy
    there = connection.storagePoolLookupByName(name)
    copy = there.storageVolLookupByName("copy")
    for call, words in ((there.refresh, "asynchronous jobs"), (there.destroy, "asynchronous jobs"), (copy.delete, "still being allocated"),
                        (there.storageVolLookupByName("big").delete, "in use")):
        with pytest.raises(libvirt.libvirtError, match=words):
            call()
    there.createXML("<volume><name>other</name><capacity unit='M'>1</capacity></volume>").delete()
    assert xml_value(copy.XMLDesc(), "capacity") == str(2 << 40)
    assert process.poll() is None, "the copy ended too soon for this test"
    connection.close()
    process.send_signal(signal.SIGKILL)
    process.wait()
    until = time.monotonic() + 10 * SLOW
    while "copy" in daemon.virsh("vol-list", name):
        assert time.monotonic() < until, "a copy whose client has gone goes on"
        time.sleep(0.05)
    assert os.listdir(path) == ["big"]
    daemon.virsh("pool-refresh", name)
    daemon.virsh("vol-delete", "big", name)


def test_kill_in_the_middle_of_a_clone(own, tmp_path):
    images = os.path.join(own.root, "var/lib/vireo/images")
    big_source(own, "default", images, 2 << 40)
    process = start_clone(own, "default", tmp_path)
    own.process.kill()
    own.process.wait()
    process.kill()
    process.wait()
    assert os.listdir(images) == ["big"]
    own.start()
    _, rows = table(own.virsh("vol-list", "default"))
    assert [r[0] for r in rows] == ["big"]
    own.virsh("vol-delete", "big", "default")


def test_restart_keeps_pools(own, tmp_path):
    for name in ("keep", "stopped"):
        (tmp_path / name).mkdir()
        own.virsh("pool-define-as", name, "dir", "--target", tmp_path / name)
        own.virsh("pool-start", name)
        own.virsh("pool-autostart", name)
    own.virsh("vol-create-as", "keep", "v", "1M")
    own.virsh("pool-destroy", "stopped")
    own.process.kill()
    own.process.wait()
    own.start()
    _, rows = table(own.virsh("pool-list", "--all"))
    assert rows == [["default", "active", "yes"], ["keep", "active", "yes"], ["stopped", "inactive", "yes"]]
    assert "v" in own.virsh("vol-list", "keep")


def test_damaged_definition_is_left_alone(own):
    path = os.path.join(own.root, "etc/vireo/storage/bad.xml")
    own.stop()
    with open(path, "w", encoding="utf-8") as f:
        f.write("<pool type='dir'><name>bad</name>")
    own.start()
    assert "bad" not in own.virsh("pool-list", "--all")
    assert "bad.xml" in own.messages() and os.path.exists(path)


def test_events(daemon, tmp_path):
    path = tmp_path / "ev"
    with Listener("virsh", "-c", daemon.uri, "pool-event", "--event", "lifecycle", "--loop") as heard:
        heard.until("storage pool mark: ", lambda: (daemon.virsh("pool-define-as", "mark", "dir", "--target", path), daemon.virsh("pool-undefine", "mark")))
        for words in (("pool-define-as", "ev", "dir", "--target", path), ("pool-build", "ev"), ("pool-start", "ev"), ("pool-refresh", "ev"), ("pool-destroy", "ev"),
                      ("pool-delete", "ev"), ("pool-undefine", "ev")):
            daemon.virsh(*words)
        heard.until("storage pool ev: Undefined")
        seen = re.findall(r"event '([^']*)' for storage pool ev:? ?(\w*)", heard.text)
    assert [(a, b.lower()) for a, b in seen] == [("lifecycle", "defined"), ("lifecycle", "created"), ("lifecycle", "started"),
                                                ("lifecycle", "stopped"), ("lifecycle", "deleted"), ("lifecycle", "undefined")], heard.text


def test_volume_of_a_running_domain_is_left_alone(own):
    images = os.path.join(own.root, "var/lib/vireo/images")
    own.virsh("vol-create-as", "default", "base", "1M", "--format", "qcow2")
    own.virsh("vol-create-as", "default", "disk", "1M", "--format", "qcow2", "--backing-vol", "base", "--backing-vol-format", "qcow2")
    xml = os.path.join(own.root, "d.xml")
    with open(xml, "w", encoding="utf-8") as f:
        f.write("<domain type='qemu'><name>user</name><memory unit='MiB'>32</memory><os><type>hvm</type></os><devices><disk type='file' device='disk'>"
                f"<driver name='qemu' type='qcow2'/><source file='{images}/disk'/><target dev='vda' bus='virtio'/></disk></devices></domain>")
    own.virsh("create", xml)
    for words in (("vol-delete", "disk", "default"), ("vol-wipe", "disk", "default"), ("vol-resize", "disk", "2M", "default"),
                  ("vol-upload", "disk", xml, "default")):
        assert "domain 'user'" in own.virsh(*words, status=1)
    own.virsh("destroy", "user")
    own.virsh("vol-delete", "disk", "default")


# ---- many at once ----

def test_many_clients_at_once(daemon, pool):
    name, path = pool
    failed = []

    def work(i):
        try:
            for k in range(3):
                daemon.virsh("vol-create-as", name, f"m{i}-{k}", "1M", "--format", "qcow2")
                daemon.virsh("vol-resize", f"m{i}-{k}", "2M", name)
                daemon.virsh("vol-delete", f"m{i}-{k}", name)
        except AssertionError as e:
            failed.append(e)
    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed, failed[0]
    assert os.listdir(path) == []


def test_daemon_that_is_told_to_stop_gives_up_a_clone(own, tmp_path):
    images = os.path.join(own.root, "var/lib/vireo/images")
    big_source(own, "default", images, 2 << 40)
    process = start_clone(own, "default", tmp_path)
    own.stop() # which waits for 20 seconds: the clone of 2 TiB is not waited for
    process.wait()
    assert os.listdir(images) == ["big"]


def test_transfer_that_breaks_off_lets_the_volume_go(daemon, pool, tmp_path):
    name, path = pool
    daemon.virsh("vol-create-as", name, "t", "64M", "--allocation", "0")
    script = """
import libvirt, os, sys
c = libvirt.open(sys.argv[1])
v = c.storageVolLookupByPath(sys.argv[2])
s = c.newStream()
getattr(v, sys.argv[3])(s, 0, 0, 0)
if sys.argv[3] == "upload":
    s.send(b"x" * 100000)
else:
    s.recv(1000)
if sys.argv[4] == "abort":
    s.abort()
    v.delete()
else:
    os._exit(0)
"""
    for what in ("upload", "download"):
        subprocess.run([sys.executable, "-c", script, daemon.uri, f"{path}/t", what, "die"], env=PLAIN, check=True, timeout=30 * SLOW)
        until = time.monotonic() + 5 * SLOW
        while "in use" in daemon.virsh("vol-resize", "t", "64M", name, status=None):
            assert time.monotonic() < until, f"a broken {what} holds the volume"
            time.sleep(0.05)
    subprocess.run([sys.executable, "-c", script, daemon.uri, f"{path}/t", "download", "abort"], env=PLAIN, check=True, timeout=30 * SLOW)
    assert os.listdir(path) == []


def test_new_definition_of_an_active_pool_comes_when_it_stops(daemon, tmp_path):
    v, file = daemon.virsh, tmp_path / "p.xml"
    v("pool-define-as", "again", "dir", "--target", tmp_path / "one")
    v("pool-build", "again")
    v("pool-start", "again")
    text = v("pool-dumpxml", "again")
    file.write_text(text.replace("/one<", "/two<"))
    v("pool-define", file)
    assert xml_value(v("pool-dumpxml", "again"), "path") == str(tmp_path / "one")
    assert xml_value(v("pool-dumpxml", "again", "--inactive"), "path") == str(tmp_path / "two")
    v("pool-destroy", "again")
    assert xml_value(v("pool-dumpxml", "again"), "path") == str(tmp_path / "two")
    v("pool-undefine", "again")


def test_pool_whose_directory_has_gone_is_stopped(daemon, tmp_path):
    path = tmp_path / "gone"
    path.mkdir()
    daemon.virsh("pool-define-as", "gone", "dir", "--target", path)
    daemon.virsh("pool-start", "gone")
    path.rmdir()
    assert str(path) in daemon.virsh("pool-refresh", "gone", status=1)
    assert re.search(r"State: +inactive", daemon.virsh("pool-info", "gone"))
    daemon.virsh("pool-undefine", "gone")


@needs_root
def test_without_privileges(tmp_path_factory):
    """An ordinary user's daemon has its pool and makes volumes; what needs root says so."""
    import tempfile
    with tempfile.TemporaryDirectory(prefix="vireo-user-", dir="/tmp") as root:
        os.makedirs(root + "/etc/vireo/qemu/networks")
        for folder, _, _ in os.walk(root):
            os.chown(folder, 65534, 65534)
        with open(root + "/log", "wb") as log:
            process = subprocess.Popen([os.path.join(os.environ.get("VIREO_BUILD", "build"), "vireod"), "--root", root], user=65534, group=65534, extra_groups=[],
                                       stdout=log, stderr=log, env=dict(PLAIN, HOME=root))
        try:
            uri = f"qemu+unix:///session?socket={root}/run/vireo/libvirt-sock"
            until = time.monotonic() + 15 * SLOW
            while not os.path.exists(f"{root}/run/vireo/libvirt-sock"):
                assert process.poll() is None and time.monotonic() < until, open(root + "/log", encoding="utf-8").read()
                time.sleep(0.05)
            assert re.search("default +active +yes", run("virsh", "-c", uri, "pool-list", "--all"))
            run("virsh", "-c", uri, "vol-create-as", "default", "a", "1M", "--format", "qcow2")
            assert os.stat(f"{root}/var/lib/vireo/images/a").st_uid == 65534
            assert info(f"{root}/var/lib/vireo/images/a")["format"] == "qcow2"
            run("virsh", "-c", uri, "vol-clone", "a", "b", "--pool", "default")
            run("virsh", "-c", uri, "nodedev-dumpxml", "computer")
            run("virsh", "-c", uri, "pool-define-as", "fs", "fs", "--source-dev", "/dev/null", "--source-format", "ext4", "--target", root + "/mnt")
            run("virsh", "-c", uri, "pool-build", "fs")
            assert "mount" in run("virsh", "-c", uri, "pool-start", "fs", status=1)
        finally:
            process.terminate()
            process.wait(20 * SLOW)


@pytest.mark.parametrize("size", [1000, 513, 1])
def test_odd_sizes(daemon, pool, tmp_path, size):
    name, path = pool
    daemon.virsh("vol-create-as", name, "q", size, "--format", "qcow2")
    assert info(f"{path}/q")["virtual-size"] == 1024
    daemon.virsh("vol-create-as", name, "r", size)
    assert os.stat(f"{path}/r").st_size == size
    daemon.virsh("vol-resize", "q", 2049, name)
    assert info(f"{path}/q")["virtual-size"] == 2560
    (tmp_path / "v.xml").write_text("<volume><name>c</name><capacity>0</capacity><target><format type='qcow2'/></target></volume>")
    daemon.virsh("vol-create-from", name, tmp_path / "v.xml", "r", "--inputpool", name)


def test_defined_and_undefined_by_many(own, tmp_path):
    """Whatever the order, the files on disk are those of the pools that there are."""
    file = tmp_path / "p.xml"
    file.write_text(f"<pool type='dir'><name>race</name><uuid>11111111-2222-3333-4444-555555555555</uuid><target><path>{tmp_path}/race</path></target></pool>")
    script = """
import libvirt, sys
libvirt.registerErrorHandler(lambda *a: None, None)
c = libvirt.open(sys.argv[1])
xml = open(sys.argv[2]).read()
for i in range(60):
    for call in (lambda: c.storagePoolDefineXML(xml), lambda: c.storagePoolLookupByName("race").setAutostart(1), lambda: c.storagePoolLookupByName("race").undefine()):
        try:
            call()
        except libvirt.libvirtError:
            pass
"""
    clients = [subprocess.Popen([sys.executable, "-c", script, own.uri, file], env=PLAIN) for _ in range(4)]
    for c in clients:
        assert c.wait(60 * SLOW) == 0
    directory = os.path.join(own.root, "etc/vireo/storage")
    there = "race" in own.virsh("pool-list", "--all")
    assert os.path.exists(f"{directory}/race.xml") == there
    assert os.path.lexists(f"{directory}/autostart/race.xml") <= there


def test_names_that_begin_with_a_dot(own, tmp_path):
    own.virsh("pool-define-as", ".dot", "dir", "--target", tmp_path / "dot")
    own.virsh("vol-create-as", "default", ".v", "1M")
    assert "unfinished" in own.virsh("vol-create-as", "default", ".vireo-x.unfinished", "1M", status=1)
    own.stop()
    own.start()
    assert ".dot" in own.virsh("pool-list", "--all") and ".v" in own.virsh("vol-list", "default")


def test_physical_size_and_progress_of_a_copy(daemon, pool, tmp_path):
    name, path = pool
    daemon.virsh("vol-create-as", name, "q", "64M", "--format", "qcow2")
    text = daemon.virsh("vol-info", "q", name, "--physical")
    assert re.search(r"^Physical: +\d", text, re.M), text
    big_source(daemon, name, path, 2 << 40)
    process = start_clone(daemon, name, tmp_path)
    seen, until = set(), time.monotonic() + 20 * SLOW
    while len(seen) < 3 and process.poll() is None and time.monotonic() < until:
        seen.add(xml_value(daemon.virsh("vol-dumpxml", "copy", name), "allocation"))
    process.kill()
    process.wait()
    assert len(seen) > 2, f"what is allocated does not grow: {seen}"
    until = time.monotonic() + 10 * SLOW
    while "copy" in daemon.virsh("vol-list", name):
        assert time.monotonic() < until
        time.sleep(0.05)
    daemon.virsh("vol-delete", "big", name)
