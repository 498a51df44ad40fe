# SPDX-License-Identifier: GPL-2.0-or-later
"""Filters and the null drivers: blkdebug, copy-on-read, throttle, null-co; on blockio, with Debian's tools as judges."""
import json
import os
import subprocess

import pytest

TOOL = os.path.join(os.environ["VIREO_BUILD"], "tests", "block", "blockio")
MIB = 1 << 20


def run(*argv):
    p = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert p.returncode == 0, f"{' '.join(argv)}: {p.stdout}{p.stderr}"
    return p.stdout


def blockio(options, *commands, flags=()):
    p = subprocess.run([TOOL, options, *flags], input="".join(c + "\n" for c in commands), capture_output=True, text=True, timeout=60, check=False)
    assert p.returncode == 0, p.stderr
    return p.stdout.split("\n")[:len(commands)]


def refused(options):
    p = subprocess.run([TOOL, options], input="", capture_output=True, text=True, timeout=60, check=False)
    assert p.returncode == 1 and len(p.stderr.splitlines()) == 1, p.stderr
    return p.stderr


@pytest.fixture
def image(tmp_path):
    path = str(tmp_path / "disk.raw")
    run("qemu-img", "create", "-q", "-f", "raw", path, "16M")
    return path


def debug(path, rules):
    return f"driver=raw,file.driver=blkdebug,file.image.driver=file,file.image.filename={path}," + ",".join("file." + r for r in rules)


# ---- blkdebug ----

def test_an_injected_error_comes_and_stays(image):
    options = debug(image, ["inject-error.0.event=write_aio", "inject-error.0.errno=28"])
    assert blockio(options, "r 0 512 0", "w 0 512 1", "w 512 512 1", "r 0 512 0") == ["ok", "error ENOSPC", "error ENOSPC", "error ENOSPC"]


def test_once_by_sector_and_by_kind(image):
    options = debug(image, ["inject-error.0.event=write_aio", "inject-error.0.once=on", "inject-error.0.iotype=write"])
    assert blockio(options, "w 0 512 1", "w 0 512 1", "r 0 512 1") == ["error EIO", "ok", "ok"]
    options = debug(image, ["inject-error.0.event=none", "inject-error.0.sector=8", "inject-error.0.iotype=read"])
    assert blockio(options, "r 0 4096 1", "r 4096 512 0", "r 3584 1024 0", "w 4096 512 3", "r 4608 512 0")[1:] == \
        ["error EIO", "error EIO", "ok", "ok"]
    options = debug(image, ["inject-error.0.event=flush_to_disk", "inject-error.0.iotype=flush"])
    assert blockio(options, "w 0 512 1", "f") == ["ok", "error EIO"]


def test_states(image):
    options = debug(image, ["set-state.0.event=write_aio", "set-state.0.state=1", "set-state.0.new_state=2", "inject-error.0.event=read_aio",
                            "inject-error.0.state=2", "inject-error.0.iotype=read", "inject-error.0.once=on"])
    assert blockio(options, "r 0 512 0", "w 0 512 1", "r 0 512 1", "r 0 512 1") == ["ok", "ok", "error EIO", "ok"]


def test_rules_from_a_file(image, tmp_path):
    rules = tmp_path / "rules"
    rules.write_text('# a comment\n[inject-error]\nevent = "write_aio"\nerrno = "5"\niotype = "write"\n\n[set-state]\nstate = "1"\nevent = "read_aio"\nnew_state = "2"\n')
    assert blockio(f"blkdebug:{rules}:{image}", "w 0 512 1", "r 0 512 0") == ["error EIO", "ok"]
    rules.write_text("event = 5\n")
    assert "line 1" in refused(f"blkdebug:{rules}:{image}")


def test_wrong_rules_are_refused(image):
    for rule, words in ((["inject-error.0.errno=5"], "Missing event"), (["inject-error.0.event=nonsense"], "nonsense"),
                        (["inject-error.0.event=l2_update"], "l2_update"), (["inject-error.0.event=none", "inject-error.0.foo=1"], "foo"),
                        (["inject-error.1.event=none"], "inject-error.0"), (["align=3"], "power of two")):
        assert words in refused(debug(image, rule))


def test_qcow2_reports_what_its_file_reports(tmp_path):
    path = str(tmp_path / "d.qcow2")
    run("qemu-img", "create", "-q", "-f", "qcow2", path, "16M")
    options = (f"driver=qcow2,file.driver=blkdebug,file.image.driver=file,file.image.filename={path},file.inject-error.0.event=none,"
               "file.inject-error.0.iotype=write,file.inject-error.0.errno=28")
    answers = blockio(options, "w 0 65536 1", "r 0 65536 0")
    assert answers == ["error ENOSPC", "ok"]
    run("qemu-img", "check", "-q", path)


def test_growing_through_a_filter(tmp_path):
    path = str(tmp_path / "d.qcow2")
    run("qemu-img", "create", "-q", "-f", "qcow2", path, "16M")
    blockio(f"driver=qcow2,file.driver=blkdebug,file.image.driver=file,file.image.filename={path}", "w 0 1048576 7", "w 9000000 70000 8", "f")
    run("qemu-io", "-r", "-c", "read -P 7 0 1M", "-c", "read -P 8 9000000 70000", path)
    run("qemu-img", "check", path)


# ---- copy-on-read ----

@pytest.fixture
def chain(tmp_path):
    names = [str(tmp_path / n) for n in ("base", "middle", "top")]
    for i, name in enumerate(names):
        run("qemu-img", "create", "-q", "-f", "qcow2", *(["-b", names[i - 1], "-F", "qcow2"] if i else []), name, "8M")
    run("qemu-io", "-c", "write -P 1 0 1M", "-c", "write -P 4 6M 64k", names[0])
    run("qemu-io", "-c", "write -P 2 1M 1M", names[1])
    run("qemu-io", "-c", "write -P 3 2M 1M", names[2])
    return names


def allocated(path):
    """What the top image has itself."""
    return [(e["start"], e["length"]) for e in json.loads(run("qemu-img", "map", "--output=json", path)) if e["depth"] == 0 and e["data"]]


def test_copy_on_read_copies_what_is_read(chain):
    options = f"driver=copy-on-read,file.driver=qcow2,file.file.driver=file,file.file.filename={chain[2]}"
    assert blockio(options, "r 524288 4096 1", "r 1048576 65536 2", "r 2097152 1048576 3", "r 4194304 65536 0", "r 6291456 65536 4") == ["ok"] * 5
    assert allocated(chain[2]) == [(524288, 65536), (1048576, 65536), (2 * MIB, MIB), (6 * MIB, 65536)]
    run("qemu-img", "check", chain[2])
    os.rename(chain[0], chain[0] + ".x")
    run("qemu-img", "rebase", "-u", "-b", "", chain[2])
    run("qemu-io", "-r", "-c", "read -P 1 524288 65536", "-c", "read -P 4 6M 64k", "-c", "read -P 3 2M 1M", chain[2])


def test_copy_on_read_down_to_a_bottom(chain):
    options = (f"driver=copy-on-read,bottom=mid,file.driver=qcow2,file.file.driver=file,file.file.filename={chain[2]},file.backing.driver=qcow2,"
               f"file.backing.node-name=mid,file.backing.file.driver=file,file.backing.file.filename={chain[1]}")
    assert blockio(options, "r 0 65536 1", "r 1048576 65536 2") == ["ok", "ok"]
    assert allocated(chain[2]) == [(MIB, 65536), (2 * MIB, MIB)]


def test_copy_on_read_beside_writes(chain):
    """Reads and writes of the same pieces from many threads: no copy undoes a write."""
    options = f"driver=copy-on-read,file.driver=qcow2,file.file.driver=file,file.file.filename={chain[2]}"
    p = subprocess.Popen([TOOL, options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    out = p.communicate("load 7 2000 8 4096 50\n", timeout=120)[0]
    assert p.returncode == 0 and "differs" not in out and "error" not in out
    run("qemu-img", "check", chain[2])


def test_copy_on_read_needs_a_writable_image(chain):
    p = subprocess.run([TOOL, f"driver=copy-on-read,file.driver=qcow2,file.file.driver=file,file.file.filename={chain[2]}", "ro"], input="", capture_output=True,
                       text=True, timeout=60, check=False)
    assert p.returncode == 1 and "read-only=off" in p.stderr
    assert "not found" in refused(f"driver=copy-on-read,bottom=nix,file.driver=qcow2,file.file.driver=file,file.file.filename={chain[2]}")


# ---- the null drivers ----

@pytest.mark.parametrize("what,size", [("driver=null-co", 1 << 30), ("driver=null-aio,size=5M", 5 * MIB), ("null-co://", 1 << 30),
                                       ("driver=null-co,latency-ns=1000000,read-zeroes=on", 1 << 30)])
def test_null(what, size):
    answers = blockio(what, "s", "w 0 4096 5", "r 0 4096 0", "z 0 4096", "f", f"r {size} 512 0")
    assert answers[0].split()[-1] == str(size) and answers[1:5] == ["ok"] * 4 and answers[5].startswith("error")


def test_throttle_needs_its_group(image):
    assert "Throttle group 'tg' does not exist" in refused(f"driver=throttle,throttle-group=tg,file.driver=file,file.filename={image}")
    assert "throttle group" in refused(f"driver=throttle,file.driver=file,file.filename={image}")
