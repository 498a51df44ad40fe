# SPDX-License-Identifier: GPL-2.0-or-later
"""Bad input: one line that says what is wrong and what to do, exit status 1, and nothing left behind."""
import os
import re
import shutil
import subprocess

import pytest

import vmm

pytestmark = pytest.mark.skipif(vmm.IS_QEMU, reason="QEMU's messages are its own")


def refused(work, args, *words, wrapper=(), cwd=None):
    """Runs with a pid file and a QMP socket; all that is left afterwards is one line with these words (regular expressions)."""
    leave = [] if "-pidfile" in args else ["-pidfile", f"{work}/pid"]
    if "-qmp" not in args:
        leave += ["-qmp", f"unix:{work}/qmp,server=on,wait=off"]
    before = set(os.listdir(work))
    status, out, err = vmm.run(["-display", "none", *leave, *args], wrapper=wrapper, cwd=cwd)
    assert status == 1, f"exit status {status} instead of 1 for {' '.join(args)}: {out}{err}"
    assert err.count("\n") == 1 and err.endswith("\n"), f"the error is not a single line: {err!r}"
    assert err.startswith("vireo-vmm: "), f"the error does not begin with the program's name: {err!r}"
    for word in words:
        assert re.search(word, err, re.I), f"the error does not speak of {word!r}: {err!r}"
    assert out == "", f"something was printed on standard output: {out!r}"
    left = set(os.listdir(work)) - before
    assert not left, f"left behind: {left}"
    return err


@pytest.fixture
def files(work, flat, kernels):
    """Files that are wrong in one way each."""
    path = os.path.join(work, "in")
    os.mkdir(path, 0o755)
    os.chmod(path, 0o755)

    def put(name, data):
        with open(f"{path}/{name}", "wb") as f:
            f.write(data)
        os.chmod(f"{path}/{name}", 0o644)
        return f"{path}/{name}"
    with open(f"{kernels}/cloud/vmlinuz", "rb") as f:
        kernel = f.read()
    with open(flat("pvh"), "rb") as f:
        pvh = f.read()
    result = {
        "good": shutil.copy(flat("halt"), f"{path}/good"),
        "linux": put("linux", kernel),
        "linux-short": put("linux-short", kernel[:len(kernel) // 2]),
        "linux-head": put("linux-head", kernel[:700]),
        "elf-short": put("elf-short", pvh[:100]),
        "elf-arm": put("elf-arm", pvh[:18] + b"\xb7\0" + pvh[20:]),
        "text": put("text", b"This is no kernel.\n" * 100),
        "empty": put("empty", b""),
        "disk": put("disk", bytes(1 << 20)),
        "disk-odd": put("disk-odd", bytes(1000)),
        "qcow2": f"{path}/qcow2",
        "directory": path,
        "missing": f"{path}/missing",
        "secret": put("secret", kernel),
        "big": f"{path}/big",
    }
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", result["qcow2"], "1M"], check=True)
    with open(result["big"], "wb") as f:
        f.truncate(600 << 20)
    os.chmod(result["secret"], 0)
    return result


@pytest.mark.parametrize("name,words", [
    ("missing", ["missing", "No such file"]), ("linux-short", ["linux-short", "truncated|short|end"]), ("linux-head", ["linux-head"]),
    ("elf-short", ["elf-short"]), ("elf-arm", ["elf-arm", "x86|machine|architecture"]), ("text", ["text", "Linux|kernel"]),
    ("empty", ["empty"]), ("directory", ["directory"])])
def test_bad_kernel(work, files, name, words):
    refused(work, ["-kernel", files[name]], *words)


def test_bad_initrd(work, files):
    refused(work, ["-kernel", files["linux"], "-initrd", files["missing"]], "missing", "No such file")
    refused(work, ["-kernel", files["linux"], "-initrd", files["directory"]], re.escape(files["directory"]))
    refused(work, ["-kernel", files["linux"], "-m", "256", "-initrd", files["big"]], "big", "memory|-m")


def test_unreadable_files(work, files, as_nobody):
    os.chmod(work, 0o777)
    refused(work, ["-kernel", files["secret"]], "secret", "Permission denied", wrapper=as_nobody)
    refused(work, ["-kernel", files["linux"], "-initrd", files["secret"]], "secret", "Permission denied", wrapper=as_nobody)
    refused(work, ["-kernel", files["good"], "-drive", f"file={files['secret']},format=raw,if=virtio"], "secret", "Permission denied",
            wrapper=as_nobody)


@pytest.mark.parametrize("name,words", [("missing", ["missing", "No such file"]), ("directory", ["directory"]), ("empty", ["empty"])])
def test_bad_disk(work, files, name, words):
    refused(work, ["-kernel", files["good"], "-drive", f"file={files[name]},format=raw,if=virtio"], *words)


def test_foreign_disk(work, files):
    """A format that nobody knows, and an image of one that cannot be read here: it is not taken for raw."""
    refused(work, ["-kernel", files["good"], "-drive", f"file={files['disk']},format=nonsense,if=virtio"], "nonsense")
    foreign = os.path.join(work, "foreign")
    with open(foreign, "wb") as f:
        f.write(b"QED\0" + bytes(1 << 20))
    refused(work, ["-kernel", files["good"], "-drive", f"file={foreign},if=virtio"], "foreign", "qed", "qemu-img convert")


@pytest.mark.parametrize("memory,words", [
    ("0", ["-m"]), ("8", ["16"]), ("-5", ["-m", "-5"]), ("abc", ["abc"]), ("300G", ["256"]), ("99999999999999999999", ["-m"]), ("1.5X", ["1.5X"]),
    ("", ["-m"])])
def test_bad_memory_size(work, files, memory, words):
    refused(work, ["-kernel", files["good"], "-m", memory], *words)


def test_too_little_memory_for_the_kernel(work, files):
    refused(work, ["-kernel", files["linux"], "-m", "16"], "memory|-m")


@pytest.mark.parametrize("smp,words", [("0", ["-smp"]), ("999", ["999"]), ("-1", ["-smp"]), ("two", ["two"]), ("2,maxcpus=1", ["maxcpus"]),
                                       ("4,sockets=3,cores=1,threads=1", ["-smp"]), ("4,chairs=3", ["chairs"])])
def test_bad_number_of_cpus(work, files, smp, words):
    refused(work, ["-kernel", files["good"], "-smp", smp], *words)


CONTRADICTIONS = [
    (["-initrd", "{disk}"], ["-kernel"]), (["-append", "text"], ["-kernel"]),
    (["-kernel", "{good}", "-drive", "file={disk},format=raw,if=none,id=a", "-drive", "file={disk},format=raw,if=none,id=a"], ["a"]),
    (["-kernel", "{good}", "-chardev", "null,id=a", "-chardev", "null,id=a"], ["'a'"]),
    (["-kernel", "{good}", "-netdev", "user,id=a", "-netdev", "user,id=a"], ["'a'"]),
    (["-kernel", "{good}", "-serial", "stdio", "-qmp", "stdio"], ["stdio"]),
    (["-kernel", "{good}", "-serial", "stdio", "-serial", "stdio"], ["stdio"]),
    (["-kernel", "{good}", "-nographic", "-daemonize"], ["daemonize|nographic|stdio"]),
    (["-kernel", "{good}", "-drive", "file={disk},format=raw,if=none,id=d", "-device", "virtio-blk-pci,drive=d", "-device", "virtio-blk-pci,drive=d"],
     ["'d'"]),
    (["-kernel", "{good}", "-machine", "microvm", "-device", "virtio-rng-pci"], ["virtio-rng-pci|PCI"]),
]


@pytest.mark.parametrize("args,words", CONTRADICTIONS, ids=[" ".join(a) for a, _ in CONTRADICTIONS])
def test_options_that_contradict_each_other(work, files, args, words):
    refused(work, [a.format(**files) for a in args], *words)


UNKNOWN = [
    (["-no-such-option"], ["no-such-option", "-help"]), (["stray-word"], ["stray-word"]), (["-kernel"], ["-kernel"]), (["-m"], ["-m"]),
    (["-machine", "pdp11"], ["pdp11", "q35", "microvm"]), (["-machine", "q35,colour=red"], ["colour"]),
    (["-accel", "warp"], ["warp", "jit"]), (["-machine", "q35,accel=warp"], ["warp", "jit"]), (["-cpu", "pentium-iii-of-mine"], ["pentium-iii-of-mine"]),
    (["-cpu", "max,+warp"], ["warp"]),
    (["-device", "flux-capacitor"], ["flux-capacitor", "-device help"]), (["-device", "virtio-rng-pci,colour=red"], ["colour"]),
    (["-device", "isa-debug-exit,iobase=zzz"], ["zzz|iobase"]),
    (["-device", "virtio-blk-pci,drive=nothing"], ["nothing"]), (["-device", "virtio-net-pci,netdev=nothing"], ["nothing"]),
    (["-device", "virtio-net-pci,netdev=n,mac=12", "-netdev", "user,id=n"], ["mac|12"]),
    (["-device", "virtio-blk-pci"], ["drive"]), (["-netdev", "vhost-user,id=t"], ["vhost-user", "passt"]), (["-netdev", "smoke,id=t"], ["smoke", "tap"]), (["-netdev", "user"], ["id"]),
    (["-nic", "user,model=ne2k_pci"], ["ne2k_pci", "virtio"]), (["-netdev", "user,id=n,hostfwd=nonsense"], ["nonsense"]),
    (["-chardev", "smoke,id=s"], ["smoke"]), (["-serial", "smoke"], ["smoke"]), (["-monitor", "stdio"], ["monitor|stdio", "-qmp|none"]),
    (["-display", "gtk"], ["gtk", "none"]), (["-vnc", ":1,sasl=on"], ["SASL", "password=on"]), (["-drive", "file={disk},if=floppy,format=raw"], ["floppy"]),
    (["-drive", "file={disk},format=raw,if=virtio,colour=red"], ["colour"]), (["-drive", "format=raw,if=virtio"], ["file"]),
    (["-blockdev", "driver=nbd,node-name=x"], ["nbd"]), (["-blockdev", "{{not json"], ["JSON|blockdev"]), (["-uuid", "12345"], ["12345"]),
    (["-rtc", "base=yesterday"], ["yesterday"]), (["-d", "everything-else"], ["everything-else"]), (["-boot", "order=x"], ["order|boot"]),
    (["-device", "{{\"driver\": 3"], ["JSON|-device"]), (["-pflash", "x.bin"], ["-pflash", "-bios"]),
]


@pytest.mark.parametrize("args,words", UNKNOWN, ids=[" ".join(a) for a, _ in UNKNOWN])
def test_unknown_options_and_values(work, files, args, words):
    args = [a.format(**files) for a in args]
    refused(work, (["-kernel", files["good"]] if args != ["-kernel"] else []) + args, *words)


def test_nothing_to_start(work):
    refused(work, ["-machine", "microvm", "-nodefaults"], "-kernel")
    refused(work, ["-nodefaults", "-bios", "/nonexistent/bios.bin"], "/nonexistent/bios.bin")


PATHS = [["-chardev", "file,id=c,path=/nonexistent/x"], ["-serial", "file:/nonexistent/x"], ["-serial", "unix:/nonexistent/x,server=on,wait=off"],
         ["-chardev", "socket,id=c,path=/nonexistent/x"], ["-qmp", "unix:/nonexistent/x,server=on,wait=off"], ["-pidfile", "/nonexistent/x"],
         ["-D", "/nonexistent/x"], ["-serial", "unix:/" + "x" * 200 + ",server=on,wait=off"]]


@pytest.mark.parametrize("args", PATHS, ids=[" ".join(a)[:50] for a in PATHS])
def test_path_that_cannot_be_opened(work, files, args):
    refused(work, ["-kernel", files["good"], *args], "nonexistent|x{50}")


def test_sockets_are_removed_when_a_later_step_fails(work, files):
    refused(work, ["-kernel", files["good"], "-serial", f"unix:{work}/serial,server=on,wait=off", "-drive",
                   f"file={files['missing']},format=raw,if=virtio"], "missing")


def test_pid_file_and_socket_live_as_long_as_the_machine(work, machine, flat):
    m = machine("-accel", "jit", "-nodefaults", "-display", "none", "-serial", "stdio", "-kernel", flat("halt"), "-pidfile", f"{work}/pid", qmp=True)
    m.wait_text("halting\n", 20)
    with open(f"{work}/pid", encoding="ascii") as f:
        assert int(f.read()) == m.process.pid
    m.process.terminate()
    m.wait(10)
    assert not os.path.exists(f"{work}/pid"), "the pid file was left behind"
    assert not os.path.exists(m.qmp_path), "the QMP socket was left behind"


def test_help_and_version():
    for args, word in ((["-help"], "-kernel FILE"), (["-version"], "vireo"), (["-machine", "help"], "microvm"), (["-accel", "help"], "jit"),
                       (["-cpu", "help"], "max"), (["-device", "help"], "virtio-blk-pci"), (["-device", "virtio-blk-pci,help"], "drive"),
                       (["-d", "help"], "")):
        status, out, err = vmm.run(args)
        assert (status, err) == (0, ""), f"{' '.join(args)} ends with {status}: {err}"
        assert word in out, f"{' '.join(args)} does not print {word!r}"


def test_every_refused_option_says_what_to_do():
    """Options of QEMU that are not there are refused by name, not taken for unknown ones."""
    for option in ("-fda", "-pflash", "-spice", "-gdb", "-icount", "-incoming", "-debugcon"):
        status, _, err = vmm.run([option, "x"])
        assert status == 1 and option in err and len(err) > len(option) + 30, f"{option} is refused without a reason: {err!r}"
