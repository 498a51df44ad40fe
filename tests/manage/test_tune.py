# SPDX-License-Identifier: GPL-2.0-or-later
"""What a machine may take of its host and where it runs: Debian's virsh sets it, the kernel's files tell what is in force. Columns and messages are libvirtd 9.0's."""
import os
import re
import signal

import pytest

from limits import SLOW
from test_complete import judge  # noqa: F401  pylint: disable=unused-import
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


@groups
def test_schedinfo_without_iothreads(vireod, start):  # noqa: F811
    """As libvirtd tells it: what holds for the whole machine."""
    start("")
    shown = values(vireod.virsh("schedinfo", "t"))
    assert (shown["iothread_period"], shown["iothread_quota"]) == ("100000", "-1")
    vireod.virsh("schedinfo", "t", "--live", "--set", "global_period=50000", "global_quota=90000")
    shown = values(vireod.virsh("schedinfo", "t"))
    assert (shown["iothread_period"], shown["iothread_quota"]) == ("50000", "90000")


@pytest.mark.parametrize("word, message", [
    ("vcpu_period=5", "invalid argument: value of 'vcpu_period' is out of range [1000, 1000000]"),
    ("emulator_quota=999", "invalid argument: value of 'emulator_quota' is out of range [1000, 17592186044415]"),
    ("cpu_shares=1", "invalid argument: shares '1' must be in range [2, 262144]"),
    ("foo=5", "invalid scheduler option: foo"),
])
@groups
def test_schedinfo_that_is_refused(vireod, xml, word, message):  # noqa: F811
    vireod.virsh("define", xml("t"))
    assert message in vireod.virsh("schedinfo", "t", "--set", word, status=1)


# ---- memory, block I/O, nodes ----

@groups
def test_memtune(vireod, start):  # noqa: F811
    pid = start("<memtune><hard_limit unit='MiB'>300</hard_limit></memtune>")
    top = group(pid, "memory")
    assert read(top, "memory.limit_in_bytes") == str(300 << 20)
    assert values(vireod.virsh("memtune", "t")) == {"hard_limit": "307200", "soft_limit": "unlimited", "swap_hard_limit": "unlimited"}
    vireod.virsh("memtune", "t", "--hard-limit", "400M", "--soft-limit", "200M", "--live", "--config")
    assert [read(top, f"memory.{f}limit_in_bytes") for f in ("", "soft_")] == [str(400 << 20), str(200 << 20)]
    message = vireod.virsh("memtune", "t", "--swap-hard-limit", "100", status=1)
    assert "invalid argument: memory hard_limit tunable value must be lower than or equal to swap_hard_limit" in message
    if os.path.exists(f"{top}/memory.memsw.limit_in_bytes"):
        vireod.virsh("memtune", "t", "--swap-hard-limit", "600M", "--hard-limit", "500M")
        vireod.virsh("memtune", "t", "--swap-hard-limit", "900M", "--hard-limit", "800M")
        assert read(top, "memory.memsw.limit_in_bytes") == str(900 << 20)
    vireod.virsh("memtune", "t", "--hard-limit", "-1", "--config")
    assert values(vireod.virsh("memtune", "t", "--config")) == {"hard_limit": "unlimited", "soft_limit": "204800", "swap_hard_limit": "unlimited"}
    assert "<memtune>\n    <soft_limit unit='KiB'>204800</soft_limit>\n  </memtune>" in vireod.virsh("dumpxml", "t", "--inactive")
    assert "argument unsupported: parameter 'min_guarantee' not supported" in vireod.virsh("memtune", "t", "--min-guarantee", "5", status=1)


@groups
def test_a_machine_that_takes_more_memory_than_it_may(vireod, xml):  # noqa: F811
    """The limit is the kernel's: it ends the machine, nobody else, and the domain is known to have crashed."""
    more = "<memtune><hard_limit unit='MiB'>40</hard_limit><swap_hard_limit unit='MiB'>40</swap_hard_limit></memtune><memoryBacking><allocation mode='immediate'/></memoryBacking>"
    vireod.virsh("define", xml("t", more=more, memory=256))
    vireod.virsh("start", "t", status=None)
    wait_for("the machine's end", lambda: vireod.virsh("domstate", "t").strip() == "shut off", 30)
    assert vireod.groups() == []


def block_device():
    """Any block device of the host."""
    for name in sorted(os.listdir("/sys/block")) if os.path.isdir("/sys/block") else []:
        if os.path.exists(f"/dev/{name}"):
            return f"/dev/{name}", read("/sys/block", name, "dev")
    return None, None


@groups
@pytest.mark.skipif(block_device()[0] is None, reason="the host has no block device")
def test_blkiotune(vireod, start):  # noqa: F811
    path, number = block_device()
    pid = start()
    top = group(pid, "blkio")
    vireod.virsh("blkiotune", "t", "--device-read-iops-sec", f"{path},100", "--device-write-bytes-sec", f"{path},1000000", "--live", "--config")
    assert read(top, "blkio.throttle.read_iops_device") == f"{number} 100"
    assert read(top, "blkio.throttle.write_bps_device") == f"{number} 1000000"
    shown = values(vireod.virsh("blkiotune", "t"))
    assert list(shown) == ["weight", "device_weight", "device_read_iops_sec", "device_write_iops_sec", "device_read_bytes_sec", "device_write_bytes_sec"]
    assert shown["device_read_iops_sec"] == f"{path},100" and shown["device_write_bytes_sec"] == f"{path},1000000"
    vireod.virsh("blkiotune", "t", "--device-read-iops-sec", f"{path},0")
    assert read(top, "blkio.throttle.read_iops_device") == ""
    assert "read_iops" not in vireod.virsh("dumpxml", "t") and "read_iops" in vireod.virsh("dumpxml", "t", "--inactive")
    if os.path.exists(f"{top}/blkio.bfq.weight"):
        vireod.virsh("blkiotune", "t", "--weight", "500")
        assert read(top, "blkio.bfq.weight") == "500" and values(vireod.virsh("blkiotune", "t"))["weight"] == "500"
    assert "must be a block device" in vireod.virsh("blkiotune", "t", "--device-read-iops-sec", "/dev/null,5", status=1)
    vireod.virsh("destroy", "t")
    vireod.virsh("start", "t")
    assert read(group(pid_of(vireod), "blkio"), "blkio.throttle.read_iops_device") == f"{number} 100"


@groups
def test_numatune(vireod, start):  # noqa: F811
    pid = start()
    assert values(vireod.virsh("numatune", "t")) == {"numa_mode": "strict", "numa_nodeset": ""}
    vireod.virsh("numatune", "t", "--nodeset", "0")
    assert [read(group(pid, "cpuset"), d, "cpuset.mems") for d in ("emulator", "vcpu0", "vcpu1")] == ["0"] * 3
    assert "can't change numatune mode for running domain" in vireod.virsh("numatune", "t", "--mode", "interleave", status=1)
    assert "change of nodeset for running domain requires restrictive numa mode" in vireod.virsh("numatune", "t", "--nodeset", "0", status=1)
    vireod.virsh("numatune", "t", "--mode", "strict", "--nodeset", "99", "--config")
    assert "<memory mode='strict' nodeset='99'/>" in vireod.virsh("dumpxml", "t", "--inactive")
    vireod.virsh("destroy", "t")
    assert "NUMA node 99 is unavailable" in vireod.virsh("start", "t", status=1)


# ---- I/O threads ----

@two
def test_iothreads(vireod, start):  # noqa: F811
    pid = start("<iothreads>1</iothreads>")
    assert vireod.virsh("iothreadinfo", "t").splitlines()[:2] == [" IOThread ID   CPU Affinity", "-" * 29]
    assert table(vireod.virsh("iothreadinfo", "t")) == [["1", "0-1"]]
    vireod.virsh("iothreadadd", "t", "4")
    vireod.virsh("iothreadpin", "t", "4", "1")
    assert table(vireod.virsh("iothreadinfo", "t")) == [["1", "0-1"], ["4", "1"]]
    assert "already using iothread_id '4'" in vireod.virsh("iothreadadd", "t", "4", status=1)
    assert "cannot find IOThread '9' in iothreadids list" in vireod.virsh("iothreaddel", "t", "9", status=1)
    assert "<iothread id='1'/>\n    <iothread id='4'/>" in vireod.virsh("dumpxml", "t")
    vireod.virsh("iothreadset", "t", "4", "--poll-max-ns", "1000")
    assert "iothread.4.poll-max-ns=1000" in vireod.virsh("domstats", "t", "--iothread")
    assert "configuring persistent polling values is not supported" in vireod.virsh("iothreadset", "t", "1", "--poll-max-ns", "1000", "--config", status=1)
    vireod.virsh("iothreaddel", "t", "4")
    assert table(vireod.virsh("iothreadinfo", "t")) == [["1", "0-1"]]
    live = vireod.virsh("dumpxml", "t")
    assert "<iothreads>1</iothreads>" in live and "iothreadpin" not in live
    vireod.virsh("iothreadadd", "t", "5", "--config")
    assert table(vireod.virsh("iothreadinfo", "t", "--config")) == [["1", "0-1"], ["5", "0-1"]]
    assert "iothread5" not in str(os.listdir(group(pid, "cpu"))) if rights() is None else True


def test_an_iothread_that_a_disk_uses(vireod, xml, tmp_path):  # noqa: F811
    (tmp_path / "d.img").write_bytes(bytes(1 << 20))
    disk = f"<disk type='file'><driver name='qemu' type='raw' iothread='1'/><source file='{tmp_path}/d.img'/><target dev='vda' bus='virtio'/></disk>"
    vireod.virsh("define", xml("t", more="<iothreads>2</iothreads>", devices=disk))
    assert "cannot remove IOThread 1 since it is being used by disk 'vda'" in vireod.virsh("iothreaddel", "t", "1", "--config", status=1)
    vireod.virsh("start", "t")
    assert "cannot remove IOThread 1 since it is being used by disk 'vda'" in vireod.virsh("iothreaddel", "t", "1", status=1)
    vireod.virsh("iothreaddel", "t", "2")


# ---- processor time that has been used ----

@groups
def test_cpu_stats(vireod, start):  # noqa: F811
    start()
    shown = vireod.virsh("cpu-stats", "t")
    for n in CPUS:
        assert re.search(rf"CPU{n}:\n\tcpu_time +[\d.]+ seconds\n\tvcpu_time +[\d.]+ seconds", shown), shown
    assert re.search(r"Total:\n\tcpu_time +(\d+\.\d+) seconds\n\tuser_time +[\d.]+ seconds\n\tsystem_time +[\d.]+ seconds", shown), shown
    one = vireod.virsh("cpu-stats", "t", "--start", "0", "--count", "1")
    assert "CPU0:" in one and "CPU1:" not in one and "Total:" not in one
    assert "Start CPU 500 is out of range" in vireod.virsh("cpu-stats", "t", "--start", "500", status=1)


def test_domstats(vireod, start):  # noqa: F811
    start("<iothreads>1</iothreads>")
    shown = vireod.virsh("domstats", "t", "--vcpu", "--cpu-total", "--iothread")
    for name in ("cpu.time", "cpu.user", "cpu.system", "vcpu.current", "vcpu.maximum", "vcpu.1.state", "vcpu.1.time", "vcpu.1.wait", "vcpu.1.delay", "iothread.count", "iothread.1.poll-max-ns",
                 "iothread.1.poll-grow", "iothread.1.poll-shrink"):
        assert re.search(rf"^  {re.escape(name)}=\d+$", shown, re.M), (name, shown)


# ---- the rest ----

def test_perf(vireod, start):  # noqa: F811
    start()
    shown = values(vireod.virsh("perf", "t"))
    assert len(shown) == 22 and set(shown.values()) == {"disabled"}
    vireod.virsh("perf", "t", "--disable", "cmt")
    assert "argument unsupported: unable to enable host cpu perf event for cmt" in vireod.virsh("perf", "t", "--enable", "cmt", status=1)


def test_what_follows_a_reset_can_be_changed_while_the_machine_runs(vireod, start):  # noqa: F811
    start()
    vireod.virsh("set-lifecycle-action", "t", "reboot", "destroy")
    assert "<on_reboot>destroy</on_reboot>" in vireod.virsh("dumpxml", "t")
    assert "doesn't support the 'preserve' action" in vireod.virsh("set-lifecycle-action", "t", "poweroff", "preserve", status=1)
    vireod.virsh("reset", "t")
    wait_for("the machine's end", lambda: vireod.virsh("domstate", "t").strip() == "shut off")


def test_block_threshold(vireod, xml, tmp_path):  # noqa: F811
    (tmp_path / "d.img").write_bytes(bytes(1 << 20))
    disk = f"<disk type='file'><driver name='qemu' type='raw'/><source file='{tmp_path}/d.img'/><target dev='vda' bus='virtio'/></disk>"
    vireod.virsh("define", xml("t", devices=disk))
    assert "domain is not running" in vireod.virsh("domblkthreshold", "t", "vda", "65536", status=1)
    vireod.virsh("start", "t")
    vireod.virsh("domblkthreshold", "t", "vda", "65536")
    vireod.virsh("domblkthreshold", "t", "vda[1]", "65536")
    assert "invalid argument: failed to find disk 'vdb'" in vireod.virsh("domblkthreshold", "t", "vdb", "65536", status=1)


def test_session_mode_has_no_groups_and_says_so(tmp_path):
    """An ordinary user's daemon: what needs a group is refused by name, pins work."""
    import shutil
    import subprocess
    from conftest import BUILD, PLAIN
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("needs root and setpriv to become an ordinary user")
    os.chmod(tmp_path, 0o777)
    for up in tmp_path.parents:
        if not os.stat(up).st_mode & 1: # the run's own directory
            os.chmod(up, 0o755)
    root = tmp_path / "root"
    root.mkdir()
    os.chown(root, 65534, 65534)
    daemon = subprocess.Popen(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", os.path.join(BUILD, "vireod"), "--root", str(root)], env=dict(PLAIN, HOME=str(root)),
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        socket = root / "run/vireo/libvirt-sock"
        wait_for("the daemon", socket.exists)

        def virsh(*words):
            done = subprocess.run(["virsh", "-c", f"qemu+unix:///session?socket={socket}", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=PLAIN, text=True, timeout=60 * SLOW, check=False)
            return done.stdout
        for words, what in ((("schedinfo", "t"), "CPU"), (("memtune", "t"), "Memory"), (("blkiotune", "t"), "Block I/O"), (("numatune", "t", "--nodeset", "0", "--config"), "NUMA")):
            (root / "t.xml").write_text("<domain type='qemu'><name>t</name><memory>65536</memory><os><type machine='q35'>hvm</type></os></domain>")
            virsh("define", str(root / "t.xml"))
            assert f"{what} tuning is not available in session mode" in virsh(*words)
        (root / "u.xml").write_text("<domain type='qemu'><name>u</name><memory>65536</memory><cputune><shares>100</shares></cputune><os><type machine='q35'>hvm</type></os></domain>")
        virsh("define", str(root / "u.xml"))
        assert "<cputune/shares> is asked for, and CPU tuning is not available in session mode" in virsh("start", "u")
        started = virsh("start", "t")
        if "started" in started:
            assert "error" not in virsh("vcpupin", "t", "0", "0")
            assert table(virsh("vcpuinfo", "t") and virsh("vcpupin", "t")) == [["0", "0"]]
            virsh("destroy", "t")
        else:
            assert "Permission denied" in started  # the build directory is not for everybody to read
    finally:
        daemon.terminate()
        daemon.wait(20 * SLOW)


# ---- vCPUs one by one ----

def vcpu_list(text):
    return re.findall(r"<vcpu id='(\d+)' enabled='(\w+)' hotpluggable='(\w+)'", text)


def test_single_vcpus(vireod, start):  # noqa: F811
    start(vcpu="3", current=1)
    assert "<vcpus>" not in vireod.virsh("dumpxml", "t")
    vireod.virsh("setvcpu", "t", "2", "--enable")
    shown = vireod.virsh("dumpxml", "t")
    assert vcpu_list(shown) == [("0", "yes", "no"), ("1", "no", "yes"), ("2", "yes", "yes")] and "current='2'>3<" in shown
    assert re.findall(r"VCPU: +(\d)", vireod.virsh("vcpuinfo", "t")) == ["0", "2"]
    for words, message in ((("2", "--enable"), "vcpu '2' is already in requested state"), (("0", "--disable"), "vcpu '0' can't be unplugged"),
                           (("9", "--enable"), "vcpu 9 is not present in live config"), (("9", "--enable", "--config"), "vcpu 9 is not present in persistent config"),
                           (("0", "--disable", "--config"), "vCPU '0' can't be modified"), (("x", "--enable"), "Failed to parse bitmap 'x'")):
        assert message in vireod.virsh("setvcpu", "t", *words, status=1)
    vireod.virsh("setvcpu", "t", "1-2", "--enable", "--config")
    vireod.virsh("setvcpu", "t", "1", "--disable", "--config")
    shown = vireod.virsh("dumpxml", "t", "--inactive")
    assert vcpu_list(shown) == [("0", "yes", "no"), ("1", "no", "yes"), ("2", "yes", "yes")] and "current='2'>3<" in shown
    vireod.virsh("destroy", "t")
    vireod.virsh("start", "t")
    assert re.findall(r"VCPU: +(\d)", vireod.virsh("vcpuinfo", "t")) == ["0", "2"]
    assert "order='2'" in vireod.virsh("dumpxml", "t")


def test_vcpus_out_of_order(vireod, xml):  # noqa: F811
    path = xml("t", vcpu="3", more="")
    path.write_text(path.read_text().replace("</vcpu>", "</vcpu><vcpus><vcpu id='0' enabled='yes' hotpluggable='no'/><vcpu id='1' enabled='no' hotpluggable='yes'/>"
                                             "<vcpu id='2' enabled='yes' hotpluggable='no'/></vcpus>"))
    vireod.virsh("define", path)
    assert "vCPU 2, which is not hot-pluggable, stands behind one" in vireod.virsh("start", "t", status=1)


def test_tunable_events(vireod, start):  # noqa: F811
    """A client that listens is told what has been changed."""
    import subprocess
    from conftest import PLAIN
    start()
    with subprocess.Popen(["virsh", "-c", vireod.uri, "event", "t", "--event", "tunable"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=PLAIN, text=True) as listener:
        for _ in range(100):
            vireod.virsh("vcpupin", "t", "0", "0")
            if listener.poll() is not None:
                break
        said = listener.communicate(timeout=20 * SLOW)[0]
    assert "event 'tunable' for domain 't':\n\tcputune.vcpupin0: 0\n" in said, said


# ---- beside the real libvirtd ----

SAME = """
schedinfo j
schedinfo j --set cpu_shares=700 vcpu_quota=50000
schedinfo j --set vcpu_period=5
schedinfo j --set foo=5
schedinfo j --set global_quota=-1 iothread_period=20000
schedinfo j --set vcpu_quota=0
memtune j
memtune j --hard-limit 500000 --soft-limit 300000
memtune j --swap-hard-limit 100
memtune j --swap-hard-limit 600000
memtune j --min-guarantee 5
memtune j
blkiotune j
blkiotune j --weight 500 --device-weights /dev/sda,500 --device-read-iops-sec /dev/sda,100,/dev/sdb,200
blkiotune j --device-read-iops-sec /dev/sda,0 --device-write-bytes-sec /dev/sdc,1000
blkiotune j --device-weights nonsense
blkiotune j
numatune j
numatune j --mode interleave
numatune j --mode preferred --nodeset 0
numatune j --nodeset 0-x
numatune j
vcpupin j
vcpupin j 1 0 --config
vcpupin j 7 0 --config
vcpupin j 0 0 --live
vcpupin j
emulatorpin j
emulatorpin j 0 --config
emulatorpin j
iothreadinfo j
iothreadadd j 5
iothreadadd j 5
iothreadpin j 1 0 --config
iothreadpin j 9 0 --config
iothreaddel j 9
iothreadset j 5 --poll-max-ns 1000 --config
iothreadset j 5 --thread-pool-min 1 --thread-pool-max 4 --config
iothreadinfo j
iothreaddel j 1
vcpuinfo j
setvcpu j 2 --enable --config
setvcpu j 1 --disable --config
setvcpu j 0 --disable --config
setvcpu j 7 --enable --config
setvcpu j x --enable --config
vcpucount j
perf j
perf j --disable cmt
set-lifecycle-action j reboot destroy
set-lifecycle-action j poweroff preserve
domjobinfo j
domjobabort j
cpu-stats j
domblkthreshold j vda 100
dumpxml j
"""


@two
def test_definitions_beside_libvirtd(judge, vireod, tmp_path):  # noqa: F811
    """The same commands on a domain that does not run: every word that virsh prints is the same."""
    path = tmp_path / "j.xml"
    path.write_text("<domain type='qemu'><name>j</name><uuid>6f2f3a8e-0000-4000-8000-00000000000a</uuid><memory unit='MiB'>64</memory><vcpu current='2'>3</vcpu><iothreads>1</iothreads>"
                    "<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os><devices><emulator>/usr/bin/qemu-system-x86_64</emulator></devices></domain>")
    assert judge("define", str(path)).returncode == 0
    vireod.virsh("define", path)
    differences = []
    for line in SAME.strip().splitlines():
        theirs = judge(*line.split())
        ours = vireod.virsh(*line.split(), status=None)
        theirs = theirs.stdout + theirs.stderr
        if sorted(filter(None, ours.splitlines())) != sorted(filter(None, theirs.splitlines())):  # errors come on a way of their own
            differences.append(f"{line}\nlibvirtd: {theirs}\nvireod:   {ours}")
    judge("undefine", "j")
    assert not differences, "\n".join(differences)
