# SPDX-License-Identifier: GPL-2.0-or-later
"""What a machine may take of its host and where it runs: Debian's virsh sets it, the kernel's files tell what is in force. Columns and messages are libvirtd 9.0's."""
import os
import re
import signal

import pytest

from test_domain import kernel, machines, vireod, wait_for, xml  # noqa: F401  pylint: disable=unused-import

CPUS = sorted(os.sched_getaffinity(0))
TUNED = ("<iothreads>1</iothreads><cputune><shares>2048</shares><period>50000</period><quota>40000</quota><global_quota>90000</global_quota><emulator_quota>60000</emulator_quota>"
         "<vcpupin vcpu='0' cpuset='0'/><vcpupin vcpu='1' cpuset='1'/><emulatorpin cpuset='0-1'/><iothreadpin iothread='1' cpuset='1'/></cputune>")


def rights():
    """Can groups be made here?"""
    if os.geteuid() != 0:
        return "not root"
    try:
        os.rmdir(os.mkdir("/sys/fs/cgroup/cpu/vireo-test-rights") or "/sys/fs/cgroup/cpu/vireo-test-rights")
    except OSError as e:
        return f"no cgroup v1 controller 'cpu' that can be written to: {e}"
    return None


groups = pytest.mark.skipif(rights() is not None, reason=f"control groups: {rights()}")
two = pytest.mark.skipif(len(CPUS) < 2, reason="the host has one processor")


def read(*path):
    with open(os.path.join(*path), encoding="ascii") as f:
        return f.read().strip()


def pid_of(vireod):
    found = machines(vireod)
    assert len(found) == 1, found
    return found[0]


def group(pid, controller):
    """The directory of a process's group (v1)."""
    for line in read(f"/proc/{pid}/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            path = path.removesuffix("/emulator")
            return f"/sys/fs/cgroup/{names}{path}"
    raise AssertionError(f"no {controller}")


def threads(pid):
    """Affinity of each thread, by name."""
    return {t: read(f"/proc/{pid}/task/{t}/status").split("Cpus_allowed_list:")[1].split()[0] for t in os.listdir(f"/proc/{pid}/task")}


def table(text):
    return [line.split() for line in text.splitlines()[2:] if line.strip()]


def values(text):
    return {k.strip(): v.strip() for k, v in (line.split(":", 1) for line in text.splitlines() if ":" in line)}


@pytest.fixture
def start(vireod, xml):  # noqa: F811
    def run(more="", vcpu="2", name="t", current=None, **kind):
        path = xml(name, more=more, vcpu=vcpu, **kind)
        if current:
            path.write_text(path.read_text().replace("<vcpu>", f"<vcpu current='{current}'>"))
        vireod.virsh("define", path)
        vireod.virsh("start", name)
        return pid_of(vireod)
    return run


# ---- groups ----

@groups
def test_a_machine_has_a_group_while_it_runs(vireod, start):  # noqa: F811
    pid = start("<iothreads>1</iothreads>")
    for controller in ("cpu", "cpuset", "cpuacct"):
        top = group(pid, controller)
        assert re.search(r"/machine/qemu-1-t-[0-9a-f]{8}\.libvirt-qemu$", top), top
        assert sorted(d for d in os.listdir(top) if os.path.isdir(f"{top}/{d}")) == ["emulator", "iothread1", "vcpu0", "vcpu1"]
        assert len(read(top, "vcpu1/tasks").split()) == len(read(top, "iothread1/tasks").split()) == 1
        inside = sum((read(top, d, "tasks").split() for d in ("emulator", "vcpu0", "vcpu1", "iothread1")), [])
        assert sorted(inside) == sorted(os.listdir(f"/proc/{pid}/task"))
    assert str(pid) in read(group(pid, "memory"), "cgroup.procs").split()
    assert "<partition>/machine</partition>" in vireod.virsh("dumpxml", "t")
    assert "partition" not in vireod.virsh("dumpxml", "t", "--inactive")
    assert vireod.groups()
    vireod.virsh("destroy", "t")
    assert vireod.groups() == []


@groups
def test_the_group_goes_with_a_machine_that_ends_by_itself(vireod, start):  # noqa: F811
    os.kill(start(), signal.SIGKILL)
    wait_for("the group's end", lambda: not vireod.groups())


@groups
def test_the_group_after_a_restart_of_the_daemon(vireod, start):  # noqa: F811
    """Killed and started again, it finds the group and sets values in it; of a machine that ended in between the group goes."""
    pid = start("<cputune><shares>2048</shares></cputune>")
    vireod.process.kill()
    vireod.process.wait()
    vireod.start()
    vireod.virsh("schedinfo", "t", "--set", "cpu_shares=512")
    assert read(group(pid, "cpu"), "cpu.shares") == "512"
    vireod.process.kill()
    vireod.process.wait()
    os.kill(pid, signal.SIGKILL)
    wait_for("the machine's end", lambda: not machines(vireod))
    assert vireod.groups()
    vireod.start()
    wait_for("the group's end", lambda: not vireod.groups())
    assert vireod.virsh("domstate", "t").strip() == "shut off"


@groups
def test_partition(vireod, xml):  # noqa: F811
    vireod.virsh("define", xml("t", more="<resource><partition>/machine/nowhere</partition></resource>"))
    assert "the resource partition '/machine/nowhere' is not there: make the directory" in vireod.virsh("start", "t", status=1)
    assert vireod.groups() == []


@groups
def test_a_start_that_fails_leaves_no_group(vireod, xml):  # noqa: F811
    vireod.virsh("define", xml("t", more="<cputune><shares>512</shares><cachetune vcpus='0'><cache id='0' level='3' type='both' size='1' unit='MiB'/></cachetune></cputune>"))
    assert "<cputune/cachetune> is asked for, and cache allocation is not supported" in vireod.virsh("start", "t", status=1)
    assert vireod.groups() == [] and machines(vireod) == []


# ---- processor time and pins ----

@groups
@two
def test_cputune_of_the_document(vireod, start):  # noqa: F811
    pid = start(TUNED)
    top = group(pid, "cpu")
    assert read(top, "cpu.shares") == "2048"
    assert read(top, "cpu.cfs_quota_us") == "90000"
    assert [read(top, f"vcpu{i}", f) for i in (0, 1) for f in ("cpu.cfs_period_us", "cpu.cfs_quota_us")] == ["50000", "40000"] * 2
    assert read(top, "emulator/cpu.cfs_quota_us") == "60000"
    assert read(top, "iothread1/cpu.cfs_quota_us") == "-1"
    where = group(pid, "cpuset")
    assert [read(where, d, "cpuset.cpus") for d in ("vcpu0", "vcpu1", "emulator", "iothread1")] == ["0", "1", "0-1", "1"]
    allowed = threads(pid)
    assert [allowed[read(where, d, "tasks")] for d in ("vcpu0", "vcpu1", "iothread1")] == ["0", "1", "1"]
    shown = vireod.virsh("vcpuinfo", "t")
    assert re.findall(r"CPU Affinity: +(\S+)", shown) == ["y-", "-y"]


@groups
@two
def test_pins_of_a_running_machine(vireod, start):  # noqa: F811
    pid = start("<iothreads>1</iothreads>", vcpu="3", current=2)
    where = group(pid, "cpuset")
    for words, child, want in ((("vcpupin", "t", "0", "1"), "vcpu0", "1"), (("emulatorpin", "t", "0"), "emulator", "0"), (("iothreadpin", "t", "1", "1"), "iothread1", "1")):
        vireod.virsh(*words)
        assert read(where, child, "cpuset.cpus") == want
        assert {threads(pid)[t] for t in read(where, child, "tasks").split()} == {want}
    vireod.virsh("vcpupin", "t", "2", "1")  # it is not plugged in: pinned when it comes
    vireod.virsh("vcpupin", "t", "1", "0", "--config")
    assert vireod.virsh("vcpupin", "t").splitlines()[:2] == [" VCPU   CPU Affinity", "-" * 22]
    assert table(vireod.virsh("vcpupin", "t")) == [["0", "1"], ["1", "0-1"], ["2", "1"]]
    assert table(vireod.virsh("vcpupin", "t", "--config")) == [["0", "0-1"], ["1", "0"], ["2", "0-1"]]
    assert table(vireod.virsh("emulatorpin", "t")) == [["*:", "0"]]
    live, config = vireod.virsh("dumpxml", "t"), vireod.virsh("dumpxml", "t", "--inactive")
    assert re.findall(r"<(?:vcpu|emulator|iothread)pin.*/>", live) == ["<vcpupin vcpu='0' cpuset='1'/>", "<vcpupin vcpu='2' cpuset='1'/>", "<emulatorpin cpuset='0'/>",
                                                                       "<iothreadpin iothread='1' cpuset='1'/>"]
    assert re.findall(r"<(?:vcpu|emulator|iothread)pin.*/>", config) == ["<vcpupin vcpu='1' cpuset='0'/>"]
    vireod.virsh("setvcpus", "t", "3")
    assert threads(pid)[read(where, "vcpu2/tasks")] == "1"


@pytest.mark.parametrize("words, message", [
    (("vcpupin", "t", "7", "0"), "invalid argument: vcpu 7 is out of range of live cpu count 1"),
    (("vcpupin", "t", "7", "0", "--config"), "invalid argument: vcpu 7 is out of range of persistent cpu count 1"),
    (("iothreadpin", "t", "3", "0"), "invalid argument: iothread 3 not found"),
    (("iothreadpin", "t", "3", "0", "--config"), "invalid argument: iothreadid 3 not found"),
])
def test_pins_that_are_refused(vireod, start, words, message):  # noqa: F811
    start(vcpu="1")
    assert message in vireod.virsh(*words, status=1)


@groups
def test_schedinfo(vireod, start, xml):  # noqa: F811
    vireod.virsh("define", xml("u", 2))
    names = ["cpu_shares", "vcpu_period", "vcpu_quota", "emulator_period", "emulator_quota", "global_period", "global_quota", "iothread_period", "iothread_quota"]
    assert values(vireod.virsh("schedinfo", "u")) == dict({n: "0" for n in names}, Scheduler="posix")
    pid = start("<iothreads>1</iothreads>")
    top = group(pid, "cpu")
    shown = values(vireod.virsh("schedinfo", "t"))
    assert list(shown) == ["Scheduler"] + names
    assert shown == dict(zip(names, ["1024", "100000", "-1"] + ["100000", "-1"] * 3), Scheduler="posix")
    vireod.virsh("schedinfo", "t", "--set", "vcpu_quota=50000", "vcpu_period=80000")
    vireod.virsh("schedinfo", "t", "--set", "cpu_shares=500", "--live", "--config")
    vireod.virsh("schedinfo", "t", "--set", "emulator_quota=30000", "iothread_quota=20000", "global_quota=90000")
    assert [read(top, f) for f in ("cpu.shares", "cpu.cfs_quota_us", "vcpu0/cpu.cfs_quota_us", "vcpu1/cpu.cfs_period_us", "emulator/cpu.cfs_quota_us", "iothread1/cpu.cfs_quota_us")] == \
        ["500", "90000", "50000", "80000", "30000", "20000"]
    assert values(vireod.virsh("schedinfo", "t", "--config")) == dict({n: "0" for n in names}, Scheduler="posix", cpu_shares="500")
    assert re.findall(r"<(shares|period|quota|\w+_quota)>(\d+)<", vireod.virsh("dumpxml", "t")) == [
        ("shares", "500"), ("period", "80000"), ("quota", "50000"), ("global_quota", "90000"), ("emulator_quota", "30000"), ("iothread_quota", "20000")]
    assert "<cputune>\n    <shares>500</shares>\n  </cputune>" in vireod.virsh("dumpxml", "t", "--inactive")
    vireod.virsh("schedinfo", "t", "--set", "cpu_shares=0", "--config")
    assert "cputune" not in vireod.virsh("dumpxml", "t", "--inactive")


@pytest.mark.parametrize("word, message", [
    ("vcpu_period=5", "invalid argument: value of 'vcpu_period' is out of range [1000, 1000000]"),
    ("emulator_quota=999", "invalid argument: value of 'emulator_quota' is out of range [1000, 17592186044415]"),
    ("foo=5", "invalid scheduler option: foo"),
])
@groups
def test_schedinfo_that_is_refused(vireod, xml, word, message):  # noqa: F811
    vireod.virsh("define", xml("t"))
    assert message in vireod.virsh("schedinfo", "t", "--set", word, status=1)
