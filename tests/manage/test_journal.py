# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal of the definitions: what a call has answered is there after a crash that took the files with it."""
import os
import signal

import pytest

from conftest import Vireod

DOMAIN = "<domain type='qemu'><name>{0}</name><title>{1}</title><memory unit='MiB'>16</memory><os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"


def definition(vireod, name):
    return os.path.join(vireod.root, "etc/vireo/qemu", name + ".xml")


def journal(vireod):
    return os.path.join(vireod.root, "var/lib/vireo/qemu/definitions.journal")


def crash(vireod, changes):
    """Makes the changes and kills the daemon before it has emptied the journal (a second later)."""
    for _ in range(20):
        changes()
        vireod.process.kill()
        vireod.process.wait()
        with open(journal(vireod), "rb") as f:
            if any(f.read(64)):
                return
        vireod.start()
    pytest.fail("the journal is empty whenever the daemon is killed")


def records(vireod):
    """Of one block each, as small definitions and removals are."""
    n = 0
    with open(journal(vireod), "rb") as f:
        while any(f.read(4096)[:4]):
            n += 1
    return n


def define(vireod, name, title="first"):
    path = os.path.join(vireod.root, name + ".new")
    with open(path, "w", encoding="utf-8") as f:
        f.write(DOMAIN.format(name, title))
    vireod.virsh("define", path)
    os.unlink(path)


def title(vireod, name):
    return vireod.virsh("desc", "--title", name).strip()


@pytest.mark.parametrize("damage", ["gone", "empty", "half"])
def test_lost_files(vireod, damage):
    """The host has crashed before the files were on the disk."""
    define(vireod, "safe", "safe's")
    vireod.stop()
    vireod.start()

    def changes():
        for n in range(3):
            define(vireod, f"d{n}")
            vireod.virsh("desc", "--config", "--title", f"d{n}", f"title {n}")

    crash(vireod, changes)
    for n in range(3):
        path = definition(vireod, f"d{n}")
        if damage == "gone":
            os.unlink(path)
        else:
            os.truncate(path, 0 if damage == "empty" else os.path.getsize(path) // 2)
    vireod.start()
    assert vireod.virsh("list", "--all", "--name").split() == ["d0", "d1", "d2", "safe"]
    assert [title(vireod, f"d{n}") for n in range(3)] == ["title 0", "title 1", "title 2"], vireod.messages()
    vireod.stop()
    with open(journal(vireod), "rb") as f:
        assert not any(f.read(64)), "a daemon that ends leaves its journal full"


def test_old_files(vireod):
    """The host has crashed, and the directory is as it was before: the old definition, and the removed one."""
    define(vireod, "changed")
    define(vireod, "removed")
    vireod.stop()
    old = {}
    for name in ("changed", "removed"):
        with open(definition(vireod, name), "rb") as f:
            old[name] = f.read(), os.stat(definition(vireod, name)).st_mtime_ns
    vireod.start()

    def changes():
        if "removed" not in vireod.virsh("list", "--all", "--name"):
            define(vireod, "removed")
        vireod.virsh("undefine", "removed")
        vireod.virsh("desc", "--config", "--title", "changed", "second")

    crash(vireod, changes)
    for name, (text, ns) in old.items():
        with open(definition(vireod, name), "wb") as f:
            f.write(text)
        os.utime(definition(vireod, name), ns=(ns, ns))
    vireod.start()
    assert vireod.virsh("list", "--all", "--name").split() == ["changed"], vireod.messages()
    assert title(vireod, "changed") == "second"
    assert not os.path.exists(definition(vireod, "removed"))


def test_edited_since(vireod):
    """Somebody edits a file while no daemon runs: that stays."""
    crash(vireod, lambda: define(vireod, "d"))
    with open(definition(vireod, "d"), encoding="utf-8") as f:
        text = f.read()
    with open(definition(vireod, "d"), "w", encoding="utf-8") as f:
        f.write(text.replace(">first<", ">by hand<"))
    vireod.start()
    assert title(vireod, "d") == "by hand"


def test_killed_again_and_again(vireod):
    """A daemon goes on behind the records that it finds; what a power cut left behind a gap never joins them."""
    def changes():
        for n in range(4):
            define(vireod, f"d{n}")
        for n in range(4):
            vireod.virsh("undefine", f"d{n}")
        for n in range(3):
            vireod.process.kill()
            vireod.process.wait()
            vireod.start()
            define(vireod, f"d{n}", f"round {n}")

    for _ in range(20):
        crash(vireod, changes)
        if records(vireod) == 11:
            break
        vireod.start()  # it was emptied in between
    with open(journal(vireod), "r+b") as f:
        # The first removals are lost to a gap; what follows has the journal's generation and the right numbers.
        f.seek(4 * 4096)
        f.write(bytes(4096))
    for n in range(3):
        os.unlink(definition(vireod, f"d{n}"))
    vireod.start()
    assert [title(vireod, f"d{n}") for n in range(4)] == ["first"] * 4, vireod.messages()
    define(vireod, "new")
    vireod.process.kill()
    vireod.process.wait()
    for n in range(4):
        os.utime(definition(vireod, f"d{n}"), (1, 1))  # a file of before the records is not "changed since"
    vireod.start()
    assert vireod.virsh("list", "--all", "--name").split() == ["d0", "d1", "d2", "d3", "new"], vireod.messages()
    assert title(vireod, "d0") == "first"


@pytest.mark.parametrize("damage", ["short", "sizes", "sum", "noise"])
def test_damaged_journal(vireod, damage):
    """Whatever the journal has become, the daemon starts with the files as they are."""
    crash(vireod, lambda: define(vireod, "d"))
    with open(journal(vireod), "r+b") as f:
        if damage == "short":
            f.truncate(5000)
        elif damage == "sizes":
            f.seek(32)
            f.write(b"\xff" * 8)
        elif damage == "sum":
            f.seek(200)
            f.write(b"\x55")
        else:
            f.write(os.urandom(65536))
    vireod.start()
    assert title(vireod, "d") == "first"
    define(vireod, "e")
    vireod.stop(signal.SIGTERM)
    vireod.start()
    assert vireod.virsh("list", "--all", "--name").split() == ["d", "e"]


def test_large_records(vireod):
    """Definitions of many blocks."""
    for n in range(5):
        define(vireod, f"big{n}", "x" * 200)
        vireod.virsh("desc", "--config", f"big{n}", "y" * 90000)
    vireod.process.kill()
    vireod.process.wait()
    vireod.start()
    assert vireod.virsh("list", "--all", "--name").split() == [f"big{n}" for n in range(5)]
    assert len(vireod.virsh("desc", "big4").strip()) == 90000


def test_defined_again(vireod):
    """Removals are noted without waiting for the disk; what is defined after them stays, under the same name and under another with the same UUID."""
    define(vireod, "other")
    uuid = vireod.virsh("domuuid", "other").strip()

    def changes():
        for name in ("again", "gone", "renamed"):
            if name not in vireod.virsh("list", "--all", "--name").split():
                define(vireod, name)
        if "moved" in vireod.virsh("list", "--all", "--name"):
            vireod.virsh("undefine", "moved")
            define(vireod, "other")
        if "now" in vireod.virsh("list", "--all", "--name"):
            vireod.virsh("undefine", "now")
        nonlocal uuid
        uuid = vireod.virsh("domuuid", "other").strip()
        for name in ("again", "gone", "other"):
            vireod.virsh("undefine", name)
        define(vireod, "again", "second")
        path = os.path.join(vireod.root, "moved.new")
        with open(path, "w", encoding="utf-8") as f:
            f.write(DOMAIN.format("moved", "moved").replace("<title>", f"<uuid>{uuid}</uuid><title>"))
        vireod.virsh("define", path)
        vireod.virsh("domrename", "renamed", "now")
        vireod.virsh("undefine", "again")
        define(vireod, "again", "third")

    crash(vireod, changes)
    with open(definition(vireod, "again"), encoding="utf-8") as f:
        stale = f.read()
    for name in ("again", "moved", "now"):
        os.unlink(definition(vireod, name))
    for name in ("other", "gone", "renamed"):
        with open(definition(vireod, name), "w", encoding="utf-8") as f:
            f.write(stale.replace("again", name))
        os.utime(definition(vireod, name), (1, 1))
    vireod.start()
    assert vireod.virsh("list", "--all", "--name").split() == ["again", "moved", "now"], vireod.messages()
    assert title(vireod, "again") == "third"
    assert vireod.virsh("domuuid", "moved").strip() == uuid


def test_lost_removal(vireod):
    """A power cut before a removal's record was on the disk: the domain may be there again, and everything that was defined is."""
    def changes():
        for name in ("first", "last"):
            if name not in vireod.virsh("list", "--all", "--name").split():
                define(vireod, name)
        vireod.virsh("undefine", "first")
        define(vireod, "first", "again")
        vireod.virsh("undefine", "last")

    crash(vireod, changes)
    last = records(vireod) - 1
    with open(journal(vireod), "r+b") as f:
        f.seek(last * 4096)
        f.write(bytes(4096))
    os.unlink(definition(vireod, "first"))
    vireod.start()
    assert vireod.virsh("list", "--all", "--name").split() == ["first", "last"], vireod.messages()
    assert title(vireod, "first") == "again"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a mount namespace")
def test_little_room(tmp_path):
    """A disk that has no room for the journal is not filled up by its beginning, and definitions are kept without it."""
    lib = tmp_path / "var/lib/vireo"
    os.makedirs(lib)
    daemon = Vireod(tmp_path, prefix=["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=4m tmpfs "$0" && exec "$@"', str(lib)])
    try:
        define(daemon, "a")
        room = os.statvfs(f"/proc/{daemon.process.pid}/root{lib}")
        assert room.f_bavail * room.f_frsize > 3 << 20
        daemon.virsh("undefine", "a")
        define(daemon, "b")
        assert daemon.virsh("list", "--all", "--name").split() == ["b"]
    finally:
        daemon.stop()
