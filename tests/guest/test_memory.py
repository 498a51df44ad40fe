# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory of the machine: where the host takes it from, the nodes that the guest sees, what is given back and what is plugged."""
import json
import os
import pty
import re
import select
import subprocess
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


@pytest.mark.parametrize("policy,shown", [("bind", "bind:0"), ("preferred", "prefer:0"), ("interleave", "interleave:0")])
def test_memory_lies_on_the_nodes_of_the_host(machine, flat, policy, shown):
    m = machine(*QUIET, "-m", "48", "-object", json.dumps({"qom-type": "memory-backend-ram", "id": "m", "size": 48 * MIB, "policy": policy, "host-nodes": [0]}),
                "-machine", "q35,memory-backend=m", "-kernel", flat("halt"), qmp=True)
    m.wait_text("halting", 20)
    path = f"/proc/{m.process.pid}/numa_maps"
    if not os.path.exists(path):
        pytest.skip("this kernel has no NUMA")
    with open(path, encoding="ascii") as f:
        found = [line.split()[1] for line in f if re.search(r"anon=\d+", line) and line.split()[1] != "default"]
    assert found and all(f.startswith(shown) for f in found), f"the guest's memory has the policy {found}"
    memdev = m.qmp.command("query-memdev")[0]
    assert (memdev["host-nodes"], memdev["policy"]) == ([0], policy)


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


# ---- balloon ----

BALLOON = ["-device", "virtio-balloon-pci,id=balloon0"]
# Fills memory with what cannot be merged, then gives it up.
FILL = """
mount -t tmpfs -o size=90% tmp /mnt
fill() { dd if=/dev/urandom of=/mnt/fill bs=1M count=$1 2>/dev/null; }
"""


def wait_for(what, message, deadline=40, machine=None):
    end = time.monotonic() + deadline * vmm.SLOW
    while not (value := what()):
        if time.monotonic() > end:
            raise AssertionError(message + (f"\n{machine.qmp.command('query-memory-devices')}{machine.tail(60)}" if machine else ""))
        time.sleep(0.2)
    return value


@pytest.mark.parametrize("backend", ["memory-backend-ram,id=m", "memory-backend-memfd,id=m", "memory-backend-ram,share=on,id=m"])
def test_the_balloon_gives_memory_back_to_the_host(linux, backend):
    m = linux("-object", backend + ",size=512M", "-machine", "q35,memory-backend=m", *BALLOON, modules=["virtio_pci", "virtio_balloon"],
              script=FILL + "fill 200; rm /mnt/fill; echo VT filled; read x", qmp=True)
    m.wait_text("VT filled", 90)
    full = smaps_of(m.process.pid)
    began = time.monotonic()
    m.qmp.command("balloon", value=256 * MIB)
    wait_for(lambda: m.qmp.command("query-balloon")["actual"] == 256 * MIB, "the balloon did not reach its size")
    m.qmp.wait_event("BALLOON_CHANGE")
    seconds = time.monotonic() - began

    def changes():
        m.qmp.command("query-status")  # takes in the events that have come
        return [e["data"]["actual"] for e in m.qmp.events if e["event"] == "BALLOON_CHANGE"]
    wait_for(lambda: changes()[-1:] == [256 * MIB], "no BALLOON_CHANGE tells the size that was reached")
    assert len(changes()) < 20 + seconds, "BALLOON_CHANGE comes more than once a second"
    assert smaps_of(m.process.pid) < full - 150 * 1024, f"the process had {full} KiB, it has {smaps_of(m.process.pid)} now"
    m.qmp.command("balloon", value=512 * MIB)
    wait_for(lambda: m.qmp.command("query-balloon")["actual"] == 512 * MIB, "the balloon did not let go")


def test_the_guest_tells_statistics(linux):
    m = linux(*BALLOON, modules=["virtio_pci", "virtio_balloon"], script="echo VT total $(awk '/MemTotal/ { print $2 }' /proc/meminfo); echo VT up; read x", qmp=True,
              no_reboot=False)
    m.wait_text("VT up", 60)
    path = "/machine/peripheral/balloon0"
    assert {"name": "balloon0", "type": "child<virtio-balloon-pci>"} in m.qmp.command("qom-list", path="/machine/peripheral")
    assert {"guest-stats", "guest-stats-polling-interval"} <= {p["name"] for p in m.qmp.command("qom-list", path=path)}
    assert m.qmp.command("qom-get", path=path, property="guest-stats-polling-interval") == 0
    m.qmp.command("qom-set", path=path, property="guest-stats-polling-interval", value=1)

    def stats():
        return m.qmp.command("qom-get", path=path, property="guest-stats")
    first = wait_for(lambda: (s := stats())["last-update"] and s, "no statistics came")
    total = int(re.search(r"VT total (\d+)", m.text()).group(1))
    assert first["stats"]["stat-total-memory"] == total * 1024
    assert 0 < first["stats"]["stat-free-memory"] < total * 1024
    assert first["stats"]["stat-htlb-pgalloc"] in (0, 2 ** 64 - 1)
    wait_for(lambda: stats()["last-update"] > first["last-update"], "statistics are not asked for again")
    assert "takes seconds" in m.qmp.execute("qom-set", path=path, property="guest-stats-polling-interval", value=-1)["error"]["desc"]
    m.qmp.command("system_reset")
    wait_for(lambda: stats()["last-update"] == 0, "statistics of a guest that is gone")


def test_free_pages_are_reported(linux):
    script = FILL + "fill 200; echo VT filled; read x; rm /mnt/fill; echo VT freed; read x"
    m = linux("-device", "virtio-balloon-pci,free-page-reporting=on", modules=["virtio_pci", "virtio_balloon"], script=script, qmp=True)
    m.wait_text("VT filled", 90)
    full = smaps_of(m.process.pid)
    m.send("\n")
    m.wait_text("VT freed", 20)
    wait_for(lambda: smaps_of(m.process.pid) < full - 150 * 1024, f"the process had {full} KiB and keeps them", 60)


def test_the_balloon_refuses_hints(flat):
    status, _, err = vmm.run(["-display", "none", "-nodefaults", "-kernel", flat("halt"), "-device", "virtio-balloon-pci,free-page-hint=on"])
    assert status == 1 and "migration" in err


# ---- memory that comes and goes ----

# `show N`: memory in MiB. A file with known content lies in memory all the while.
PLUG = """
mount -t tmpfs -o size=8G tmp /mnt
cat > /bin/online <<'END'
for m in /sys/devices/system/memory/memory*; do
    [ $(cat $m/state) = online ] || echo online_movable > $m/state
done
END
chmod +x /bin/online
total() { online 2>/dev/null; echo "VT $1 $(awk '/MemTotal/ { print int($2 / 1024) }' /proc/meminfo) MiB"; }
dd if=/dev/urandom of=/mnt/data bs=1M count=64 2>/dev/null
sum=$(md5sum < /mnt/data)
check() { [ "$(md5sum < /mnt/data)" = "$sum" ] && echo "VT data intact" || echo "VT data BROKEN"; }
echo "VT up"
while read command; do
    case $command in
    check) check ;;
    total*) total "$command" ;;
    fill) dd if=/dev/urandom of=/mnt/more bs=1M count=600 2>/dev/null; echo VT filled ;;
    free) rm /mnt/more; echo VT freed ;;
    end) break ;;
    esac
done
"""


class Plug:
    """Talks to the script above."""

    def __init__(self, m):
        self.m = m
        self.n = 0
        m.wait_text("VT up", 90)

    def total(self):
        self.n += 1
        self.m.send(f"total{self.n}\n")
        self.m.wait_text(f"VT total{self.n} ", 60)
        return int(self.m.wait_text(" MiB", 60))

    def do(self, command, answer):
        self.m.send(command + "\n")
        self.m.wait_text(answer, 90)

    def intact(self):
        self.do("check", "VT data intact")


def sizes(q):
    s = q.command("query-memory-size-summary")
    return s["base-memory"] // MIB, s["plugged-memory"] // MIB


def test_memory_modules_are_plugged_and_unplugged(linux):
    m = linux("-object", "memory-backend-ram,id=cold,size=256M", "-device", "pc-dimm,memdev=cold,id=dimm0", script=PLUG, memory="256,slots=4,maxmem=4G",
              kernel="generic", qmp=True, no_reboot=False)
    p, q = Plug(m), m.qmp
    base = p.total()
    assert 350 < base < 512, f"a module given at the start is not seen: {base} MiB"
    assert sizes(q) == (256, 256)
    q.command("object-add", **{"qom-type": "memory-backend-memfd", "id": "hot", "size": 512 * MIB})
    q.command("device_add", driver="pc-dimm", memdev="hot", id="dimm1")
    wait_for(lambda: p.total() > base + 480, "the guest does not see the module that was plugged")
    p.intact()
    assert sizes(q) == (256, 768)
    devices = {d["data"]["id"]: d for d in q.command("query-memory-devices")}
    assert devices["dimm1"]["type"] == "dimm" and devices["dimm1"]["data"]["size"] == 512 * MIB and devices["dimm1"]["data"]["hotplugged"] is True
    assert devices["dimm1"]["data"]["memdev"] == "/objects/hot" and devices["dimm1"]["data"]["slot"] == 1
    assert {o["id"] for o in q.command("query-memdev")} == {"pc.ram", "cold", "hot"}
    p.do("fill", "VT filled")
    assert "in use" in q.execute("object-del", id="hot")["error"]["desc"]
    used = smaps_of(m.process.pid)
    p.do("free", "VT freed")
    q.command("device_del", id="dimm1")
    event = q.wait_event("DEVICE_DELETED", 60)
    assert event["data"] == {"path": "/machine/peripheral/dimm1", "device": "dimm1"}
    assert smaps_of(m.process.pid) < used - 100 * 1024, "what was in the module stays with the process"
    assert p.total() <= base
    p.intact()
    q.command("object-del", id="hot")
    q.command("object-add", **{"qom-type": "memory-backend-ram", "id": "hot", "size": 512 * MIB})
    q.command("device_add", driver="pc-dimm", memdev="hot", id="dimm1", slot=3)
    wait_for(lambda: p.total() > base + 480, "a second time the guest does not see the module")
    p.intact()
    q.command("system_reset")
    m.wait_text("VT up", 90)
    p.mark = len(m.output)
    assert p.total() > base + 480, "a module is lost over a reset"


def test_a_module_in_its_node(linux):
    m = linux("-numa", "node", "-numa", "node", "-object", "memory-backend-ram,id=cold,size=512M", "-device", "pc-dimm,memdev=cold,node=1", "-smp", "2",
              script="for m in /sys/devices/system/memory/memory*; do echo online > $m/state; done 2>/dev/null\n" + NODES, memory="512,slots=2,maxmem=2G",
              kernel="generic")
    nodes = nodes_of(vt(m))
    assert nodes[1][1] > nodes[0][1] + 400 * 1024, f"the module of 512 MiB is not in node 1: {nodes}"


def test_modules_are_refused(linux, machine, flat):
    m = machine(*QUIET, "-m", "128,slots=2,maxmem=1G", "-kernel", flat("halt"), qmp=True)
    m.wait_text("halting", 20)
    q = m.qmp

    def error(command, **args):
        return q.execute(command, **args)["error"]["desc"]

    def add(name, size):
        q.command("object-add", **{"qom-type": "memory-backend-ram", "id": name, "size": size * MIB})
    add("a", 512)
    add("b", 512)
    assert "'memdev' property is not set" in error("device_add", driver="pc-dimm", id="d")
    assert "no memory 'zz'" in error("device_add", driver="pc-dimm", memdev="zz", id="d")
    assert "usable range" in error("device_add", driver="pc-dimm", memdev="a", id="d", addr=1 << 20)
    assert "multiple" in error("device_add", driver="pc-dimm", memdev="a", id="d", addr=(1 << 32) + 1)
    assert "invalid slot number 2" in error("device_add", driver="pc-dimm", memdev="a", id="d", slot=2)
    assert "numa nodes" in error("device_add", driver="pc-dimm", memdev="a", id="d", node=1)
    q.command("device_add", driver="pc-dimm", memdev="a", id="d", addr=1 << 32)
    assert "already busy" in error("device_add", driver="pc-dimm", memdev="a", id="e")
    assert "Duplicate" in error("device_add", driver="pc-dimm", memdev="b", id="d")
    assert "not enough space" in error("device_add", driver="pc-dimm", memdev="b", id="e")
    add("c", 128)
    assert "conflicts with memory device id='d'" in error("device_add", driver="pc-dimm", memdev="c", id="e", addr=(1 << 32) + (256 << 20))
    assert "slot 0 is busy" in error("device_add", driver="pc-dimm", memdev="c", id="e", slot=0)
    q.command("device_add", driver="pc-dimm", memdev="c", id="e")
    add("f", 128)
    assert "no free slots" in error("device_add", driver="pc-dimm", memdev="f", id="g")
    for options, words in ((["-m", "128,maxmem=1G"], "no slots"), (["-m", "128"], "slots=N,maxmem"), (["-M", "microvm", "-m", "128,slots=1,maxmem=1G"], "microvm")):
        status, _, err = vmm.run(["-display", "none", "-nodefaults", "-kernel", flat("halt"), *options, "-object", "memory-backend-ram,id=a,size=128M",
                                  "-device", "pc-dimm,memdev=a"])
        assert status == 1 and words in err, err


@pytest.mark.parametrize("accel", ["jit", "kvm"])
def test_hostile_guest_registers(machine, flat, accel):
    """A guest that writes anything to the registers of memory modules harms nobody; it may let go of a module unasked."""
    if accel == "kvm" and not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("/dev/kvm does not open here")
    m = machine("-accel", accel, *QUIET, "-m", "64,slots=3,maxmem=1G", "-object", "memory-backend-ram,id=a,size=128M", "-object",
                "memory-backend-memfd,id=b,size=256M", "-device", "pc-dimm,memdev=a,id=d0", "-device", "pc-dimm,memdev=b,id=d1,slot=2", "-kernel",
                flat("memhp"), "-S", qmp=True)
    q = m.qmp
    assert sizes(q) == (64, 384)
    q.command("cont")
    text = m.wait_text("end\n", 60)
    assert "module 00000001 FFFFFFFF 00000000 00000000 00000001 07FFFFFF 00000001 08000000 00000000 00000000" in text, text
    assert "next FFFFFFFF" in text, text
    assert {q.wait_event("DEVICE_DELETED", 20)["data"]["device"] for _ in range(2)} == {"d0", "d1"}
    assert sizes(q) == (64, 0)
    q.command("device_add", driver="pc-dimm", memdev="b", id="d1")
    assert sizes(q) == (64, 256)
    q.command("object-del", id="a")
    q.command("object-add", **{"qom-type": "memory-backend-ram", "id": "a", "size": 64 * MIB})
    q.command("device_add", driver="pc-dimm", memdev="a", id="d0")
    q.command("system_reset")
    assert {q.wait_event("DEVICE_DELETED", 20)["data"]["device"] for _ in range(2)} == {"d0", "d1"}, "after the reset the guest ejects them again"


MEM = ["-object", "memory-backend-ram,id=vm0,size={size}", "-device", "virtio-mem-pci,id=vmem,memdev=vm0,requested-size={requested}"]


def test_virtio_mem_grows_and_shrinks(linux):
    options = [o.format(size="64G", requested="0") for o in MEM]
    m = linux(*options, script=PLUG, memory="384,maxmem=65G", modules=["virtio_pci", "virtio_mem"], append="memhp_default_state=online_movable ignore_loglevel", qmp=True,
              no_reboot=False)
    p, q = Plug(m), m.qmp
    base = p.total()

    def ask(size):
        q.command("qom-set", path="vmem", property="requested-size", value=size * MIB)
        wait_for(lambda: q.command("qom-get", path="/machine/peripheral/vmem", property="size") == size * MIB, f"the guest does not go to {size} MiB")
    ask(1024)
    event = q.wait_event("MEMORY_DEVICE_SIZE_CHANGE")
    assert event["data"]["id"] == "vmem" and event["data"]["qom-path"] == "/machine/peripheral/vmem"
    # The last block is asked for before the kernel has taken it into use.
    wait_for(lambda: p.total() >= base + 1000, "the guest does not use what it was given")
    assert sizes(q) == (384, 1024)
    data = q.command("query-memory-devices")[0]
    assert data["type"] == "virtio-mem" and data["data"]["size"] == data["data"]["requested-size"] == 1024 * MIB
    assert (data["data"]["max-size"], data["data"]["block-size"]) == (65536 * MIB, 2 * MIB)
    p.do("fill", "VT filled")
    used = smaps_of(m.process.pid)
    ask(512)
    p.intact()
    p.do("free", "VT freed")
    ask(0)
    p.intact()
    assert smaps_of(m.process.pid) < used - 200 * 1024, "unplugged memory stays with the process"
    ask(3072)
    wait_for(lambda: p.total() >= base + 3000, "the guest does not use what it was given")
    p.intact()
    assert "exceed" in q.execute("qom-set", path="vmem", property="requested-size", value=128 << 30)["error"]["desc"]
    assert "multiples of 'block-size'" in q.execute("qom-set", path="vmem", property="requested-size", value=MIB)["error"]["desc"]
    q.command("qom-set", path="vmem", property="requested-size", value=256 * MIB)
    q.command("system_reset")
    m.wait_text("VT up", 90)
    wait_for(lambda: sizes(q)[1] == 256, "after a reset the guest does not plug what is asked for", 60, m)


def test_virtio_mem_is_refused(flat):
    for options, words in (
            (["-device", "virtio-mem-pci"], "'memdev' property is not set"),
            (["-object", "memory-backend-ram,id=m,size=1G", "-device", "virtio-mem-pci,memdev=m"], "maxmem"),
            (["-m", "128,maxmem=2G", "-object", "memory-backend-ram,id=m,size=1G", "-device", "virtio-mem-pci,memdev=m,block-size=3M"], "power of two"),
            (["-m", "128,maxmem=2G", "-object", "memory-backend-ram,id=m,size=1G", "-device", "virtio-mem-pci,memdev=m,requested-size=2G"], "exceed"),
            (["-m", "128,maxmem=2G", "-object", "memory-backend-ram,id=m,size=1G", "-device", "virtio-mem-pci,memdev=m,prealloc=on"], "prealloc"),
            (["-m", "128,maxmem=2G", "-object", "memory-backend-ram,id=m,size=1G", "-device", "virtio-mem-pci,memdev=m,node=3"], "numa nodes")):
        status, _, err = vmm.run(["-display", "none", "-nodefaults", "-kernel", flat("halt"), *options])
        assert status == 1 and words in err, err


def test_taking_memory_shows_progress_and_can_be_interrupted(flat):
    main, terminal = pty.openpty()
    process = subprocess.Popen([vmm.VMM, *QUIET[:3], "-m", "6G", "-mem-prealloc", "-kernel", flat("halt")], stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    seen = b""
    try:
        while b"taking memory 'pc.ram': " not in seen and process.poll() is None:
            if select.select([main], [], [], 20)[0]:
                seen += os.read(main, 4096)
        assert re.search(rb"\d+ of 6144 MiB", seen), f"no progress on a terminal: {seen!r}"
        process.terminate()
        assert process.wait(20 * vmm.SLOW) == 1
        while select.select([main], [], [], 1)[0]:
            try:
                seen += os.read(main, 4096)
            except OSError:
                break
        assert b"interrupted while memory was taken in advance" in seen, seen
    finally:
        process.kill()
        process.wait()
        os.close(main)


def test_huge_pages(linux):
    with open("/proc/meminfo", encoding="ascii") as f:
        info = f.read()
    free, size = (int(re.search(rf"{k}:\s+(\d+)", info).group(1)) for k in ("HugePages_Free", "Hugepagesize"))
    if free * size < 160 * 1024:
        pytest.skip(f"this host has {free} free huge pages of {size} KiB, the test needs 160 MiB: echo 80 > /proc/sys/vm/nr_hugepages")
    m = linux("-object", "memory-backend-memfd,id=h,size=160M,hugetlb=on", "-machine", "q35,memory-backend=h", memory="160", script="echo VT here")
    m.wait_text("VT here", 60)
    assert int(re.search(r"HugePages_Free:\s+(\d+)", open("/proc/meminfo", encoding="ascii").read()).group(1)) < free, "no huge page was taken"
    vt(m)


def test_a_descriptor_is_the_memory(linux, work):
    with open(f"{work}/ram", "wb") as f:
        f.truncate(128 * MIB)
    m = linux("-add-fd", "fd=9,set=7", "-object", "memory-backend-file,id=r,size=128M,share=on,mem-path=/dev/fdset/7", "-machine", "q35,memory-backend=r",
              memory="128", script="echo marker-in-$((6 * 7))-memory > /tmp/marker; echo VT ready; read x",
              wrapper=["sh", "-c", f'exec 9<>{work}/ram; exec "$@"', "sh"])
    m.wait_text("VT ready", 60)
    with open(f"{work}/ram", "rb") as f:
        assert b"marker-in-42-memory" in f.read()


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
