# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory of the machine: where the host takes it from, the nodes that the guest sees, what is given back and what is plugged."""
import json
import os
import re
import time

import pytest

import vmm

MIB = 1 << 20
QUIET = ["-nodefaults", "-display", "none", "-serial", "stdio"]


def smaps_of(pid, field="Rss"):
    """KiB of this field of the process's memory."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return int(re.search(rf"^{field}:\s+(\d+) kB", f.read(), re.M).group(1))


def vt(machine, deadline=90):
    """What the test script printed in lines that begin with "VT ", up to the end."""
    machine.wait_text("VT done", deadline, "the guest's test script did not come to its end")
    machine.wait(60, 0)
    return [line[3:] for line in machine.text().split("\n") if line.startswith("VT ")]


# ---- NUMA ----

NODES = """
for n in /sys/devices/system/node/node[0-9]*; do
    echo "VT ${n##*/} cpus=$(cat $n/cpulist) mem=$(awk '/MemTotal/ { print $4 }' $n/meminfo) distance=$(cat $n/distance)"
done
"""


def nodes_of(lines):
    found = {}
    for line in lines:
        m = re.match(r"node(\d+) cpus=(\S*) mem=(\d+) distance=([\d ]+)", line)
        if m:
            found[int(m[1])] = (m[2], int(m[3]), [int(d) for d in m[4].split()])
    return found


def test_the_guest_sees_nodes_with_their_memory_cpus_and_distances(linux):
    m = linux("-smp", "4", "-object", "memory-backend-ram,id=a,size=256M", "-object",
              json.dumps({"qom-type": "memory-backend-memfd", "id": "b", "size": 512 * MIB, "share": True, "prealloc": True}),
              "-numa", "node,memdev=a,cpus=0,cpus=2", "-numa", "node,memdev=b,cpus=1", "-numa", "cpu,node-id=1,socket-id=0,core-id=3",
              "-numa", "dist,src=0,dst=1,val=31", memory="768", script=NODES)
    nodes = nodes_of(vt(m))
    assert {n: nodes[n][0] for n in nodes} == {0: "0,2", 1: "1,3"}, "vCPUs are in other nodes than -numa says"
    assert 150 * 1024 < nodes[0][1] < 256 * 1024 < 400 * 1024 < nodes[1][1] < 512 * 1024, f"memory of the nodes in KiB: {nodes}"
    assert nodes[0][2] == [10, 31] and nodes[1][2] == [31, 10], f"distances: {nodes}"


def test_nodes_share_the_memory_around_the_hole_below_4_gib(linux):
    m = linux("-smp", "2", "-numa", "node", "-numa", "node", memory="5G", script=NODES)
    nodes = nodes_of(vt(m))
    assert set(nodes) == {0, 1}
    assert all(2100 * 1024 < nodes[n][1] <= 2560 * 1024 for n in nodes), f"5 GiB in equal parts: {nodes}"


def test_memory_of_a_file_can_be_seen_in_the_file(linux, work):
    path = f"{work}/ram"
    m = linux("-object", f"memory-backend-file,id=ram0,size=256M,share=on,mem-path={path}", "-machine", "q35,memory-backend=ram0",
              memory="256", script="echo marker-in-$((6 * 7))-memory > /tmp/marker; echo VT ready; sleep 60")
    m.wait_text("VT ready", 60)
    with open(path, "rb") as f:
        assert b"marker-in-42-memory" in f.read(), "what the guest wrote is not in the shared file"


def test_memory_without_a_file_of_its_own_leaves_nothing(linux, work):
    os.mkdir(f"{work}/dir")
    m = linux("-mem-path", f"{work}/dir", "-mem-prealloc", memory="128", script="echo VT here")
    assert "here" in vt(m)
    assert not os.listdir(f"{work}/dir"), "a file was left in the directory of -mem-path"


def test_prealloc_takes_the_memory_at_once(machine, flat):
    for option, least, most in ((["-mem-prealloc"], 192, 240), ([], 0, 24)):
        m = machine(*QUIET, "-m", "192", "-kernel", flat("halt"), *option)
        m.wait_text("halting", 20)
        rss = smaps_of(m.process.pid) / 1024
        assert least <= rss <= most, f"with {option} a machine of 192 MiB uses {rss:.0f} MiB"


def test_merging_by_the_host_can_be_refused(machine, flat):
    def flags(*options):
        m = machine(*QUIET, "-m", "48", "-kernel", flat("halt"), *options)
        m.wait_text("halting", 20)
        with open(f"/proc/{m.process.pid}/smaps", encoding="ascii") as f:
            for area in re.split(r"(?m)^(?=[0-9a-f]+-)", f.read()):
                if re.search(r"^Size:\s+49152 kB", area, re.M):
                    return re.search(r"VmFlags: (.*)", area).group(1).split()
        raise AssertionError("the guest's memory is not to be found in smaps")
    if os.path.exists("/sys/kernel/mm/ksm/run"):
        assert "mg" in flags(), "by default the host may merge pages"
        assert "mg" not in flags("-machine", "mem-merge=off")
    assert "dd" in flags(), "by default a core dump does not have the guest's memory"
    assert "dd" not in flags("-machine", "dump-guest-core=on")


def test_memory_is_locked(machine, flat):
    m = machine(*QUIET, "-m", "64", "-overcommit", "mem-lock=on", "-kernel", flat("halt"))
    m.wait_text("halting", 20)
    with open(f"/proc/{m.process.pid}/status", encoding="ascii") as f:
        assert int(re.search(r"VmLck:\s+(\d+)", f.read()).group(1)) >= 64 * 1024


# ---- bad input ----

REFUSED = [
    (["-object", "memory-backend-memfd,id=a,size=1025G,hugetlb=on"], "not enough huge pages of 2048 KiB: .*free.*nr_hugepages"),
    (["-object", "memory-backend-memfd,id=a,size=3M,hugetlb=on"], "multiple of 0x200000"),
    (["-object", "memory-backend-memfd,id=a,size=64M,hugetlb=on,hugetlbsize=16M"], "no huge pages of 16384 KiB.*/sys/kernel/mm/hugepages"),
    (["-object", "memory-backend-ram,id=a,size=4097"], "multiple of 0x1000"),
    (["-object", "memory-backend-ram,id=a"], "size=|size 0"),
    (["-object", "memory-backend-ram,size=1M"], "'id' is missing"),
    (["-object", "memory-backend-ram,id=1a,size=1M"], "identifier"),
    (["-object", "memory-backend-ram,id=a,size=1M", "-object", "rng-builtin,id=a"], "duplicate"),
    (["-object", "memory-backend-ram,id=a,size=1M,polcy=bind"], "'polcy'.*did you mean 'policy'"),
    (["-object", "memory-backend-ram,id=a,size=1M,policy=bind"], "host-nodes must be set for policy bind"),
    (["-object", "memory-backend-ram,id=a,size=1M,host-nodes=0"], "host-nodes must be empty for policy default"),
    (["-object", "memory-backend-ram,id=a,size=1M,policy=bind,host-nodes=99"], "no memory node 99"),
    (["-object", "memory-backend-file,id=a,size=1M"], "mem-path"),
    (["-object", "memory-backend-file,id=a,size=1M,mem-path=/dev/null"], "neither a directory nor a file"),
    (["-object", "memory-backend-file,id=a,size=1M,pmem=on,mem-path=/dev/shm"], "persistent"),
    (["-object", "memory-backend-epc,id=a,size=1M"], "SGX"),
    (["-object", "rng-random,id=a,filename=/dev/zero"], "/dev/urandom"),
    (["-object", "thing,id=a"], "invalid object type: thing.*-object help"),
    (["-mem-path", "/nowhere/at/all"], "-mem-path /nowhere/at/all.*No such file"),
    (["-machine", "memory-backend=m"], "no memory 'm'.*-object"),
    (["-object", "rng-builtin,id=m", "-machine", "memory-backend=m"], "'m' is a rng-builtin"),
    (["-object", "memory-backend-ram,id=m,size=64M", "-machine", "memory-backend=m", "-m", "128"], "does not match"),
    (["-object", "memory-backend-ram,id=m,size=64M", "-m", "128", "-numa", "node,memdev=m", "-numa", "node,memdev=m"], "multiple times"),
    (["-m", "128", "-numa", "node,mem=64", "-numa", "node,mem=32"], "should equal RAM size.*add up to -m"),
    (["-numa", "node,memdev=m"], "no memory 'm'"),
    (["-smp", "2", "-numa", "node,cpus=0-1", "-numa", "node,cpus=1"], "CPU 1 is already assigned"),
    (["-smp", "2", "-numa", "node,cpus=2"], "should be smaller than maxcpus"),
    (["-numa", "node,nodeid=1"], "Node ID missing: 0"),
    (["-numa", "node", "-numa", "node", "-numa", "dist,src=0,dst=3,val=20"], "node is missing"),
    (["-numa", "node", "-numa", "node", "-numa", "dist,src=0,dst=0,val=20"], "Local distance"),
    (["-numa", "cpu,node-id=0"], "must be defined"),
    (["-numa", "hmat-lb,initiator=0"], "HMAT"),
    (["-numa", "nod"], "there are: node, dist, cpu"),
    (["-m", "128,slots=2"], "'slots' given without 'maxmem'"),
    (["-m", "1G,maxmem=512M"], "must be at least the initial"),
    (["-device", "virtio-rng-pci,rng=r"], "no such object.*-object rng-builtin,id=r"),
]


@pytest.mark.parametrize("options,words", REFUSED, ids=lambda v: " ".join(v)[:60] if isinstance(v, list) else "")
def test_refused(flat, options, words):
    status, _, err = vmm.run(["-display", "none", "-nodefaults", "-kernel", flat("halt"), *options])
    assert status == 1 and err.count("\n") == 1, f"status {status}: {err}"
    assert re.search(words, err), f"the error does not speak of {words!r}: {err}"


def test_a_file_that_is_too_small_or_not_ours(flat, work, as_nobody):
    with open(f"{work}/small", "wb") as f:
        f.truncate(MIB)
    args = ["-display", "none", "-nodefaults", "-kernel", flat("halt"), "-object"]
    _, _, err = vmm.run([*args, f"memory-backend-file,id=a,size=64M,mem-path={work}/small"])
    assert "smaller than 'size'" in err and os.path.getsize(f"{work}/small") == MIB, "a file in use by somebody must not be changed"
    os.chmod(f"{work}/small", 0o400)
    if as_nobody:
        status, _, err = vmm.run([*args, f"memory-backend-file,id=a,size=1M,mem-path={work}/small"], wrapper=as_nobody)
        assert status == 1 and "Permission denied" in err, err


def test_locking_without_the_right_to_do_so(flat, as_nobody):
    if not as_nobody:
        pytest.skip("needs root, to become a user with a small limit")
    status, _, err = vmm.run(["-display", "none", "-nodefaults", "-m", "64", "-overcommit", "mem-lock=on", "-kernel", flat("halt")],
                             wrapper=["prlimit", "--memlock=65536", *as_nobody])
    assert status == 1 and "64 KiB" in err and "RLIMIT_MEMLOCK" in err, err
