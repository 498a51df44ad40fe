# SPDX-License-Identifier: GPL-2.0-or-later
"""vCPUs that come and go while Debian's kernel runs."""
import contextlib
import os
import re
import time

import pytest

import vmm

BOOT = 120

# Brings up what the host plugs in, works on all, says what there is; the host tells it what to do over the console.
AGENT = """
load() { while :; do sha256sum /bin/busybox > /dev/null; done; }
count() { echo "VT online $(cat /sys/devices/system/cpu/online) present $(cat /sys/devices/system/cpu/present)"; }
count
while read word n; do
    case $word in
    load) for i in $(seq $n); do load & done; echo "VT loaded" ;;
    up) await "echo 1 > /sys/devices/system/cpu/cpu$n/online" 2>/dev/null; count ;; # the file comes a little after its directory
    down) echo 0 > /sys/devices/system/cpu/cpu$n/online; count ;;
    gone) await "[ ! -e /sys/devices/system/cpu/cpu$n/topology ]"; count ;;
    on) taskset $(printf %x $((1 << n))) sh -c 'echo "VT on $(cut -d" " -f39 /proc/self/stat)"' ;;
    count) count ;;
    end) break ;;
    esac
done
"""


def threads(m):
    names = []
    for t in os.listdir(f"/proc/{m.process.pid}/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # one that has just ended
            with open(f"/proc/{m.process.pid}/task/{t}/comm", encoding="ascii") as f:
                names.append((f.read().strip(), int(t)))
    return {n: t for n, t in names if n.startswith("CPU ")}


def say(m, text, wait, deadline=60, why="the guest does not answer"):
    m.process.stdin.write(text.encode() + b"\n")
    m.process.stdin.flush()
    return m.wait_text(wait, deadline, why)


@pytest.fixture
def smp(linux):
    def boot(*args, script=AGENT, **kwargs):
        m = linux("-sandbox", "on", "-smp", "2,maxcpus=8", *args, script=script, qmp=True, **kwargs)
        m.wait_text("VT online 0-1 present 0-1", BOOT, "the guest does not start with two of eight vCPUs")
        return m
    return boot


def plug(m, n, **more):
    places = [c for c in m.qmp.command("query-hotpluggable-cpus") if "qom-path" not in c]
    place = min(places, key=lambda c: c["props"]["core-id"])
    assert place["props"]["core-id"] == n
    m.qmp.command("device_add", driver=place["type"], id=f"cpu{n}", **place["props"], **more)


def test_eight_come_and_go_under_load(smp):
    m = smp()
    q = m.qmp
    say(m, "load 8", "VT loaded")
    for n in range(2, 8):
        plug(m, n)
        last = say(m, f"up {n}", f"VT online 0-{n} present 0-{n}", 60, f"vCPU {n} does not come up in a guest under load")
        say(m, f"on {n}", f"VT on {n}\r\n", 60, f"nothing runs on vCPU {n}")
    for n in (7, 2):  # by the guest's own will
        say(m, f"down {n}", "VT online 0-6 present 0-7" if n == 7 else "VT online 0-1,3-7 present 0-7", 60, f"vCPU {n} does not go offline")
        say(m, f"up {n}", "VT online 0-7 present 0-7", 60, f"vCPU {n} does not come back online")
    assert last
    cpus = {c["cpu-index"]: c for c in q.command("query-cpus-fast")}
    assert sorted(cpus) == list(range(8))
    assert cpus[5]["qom-path"] == "/machine/peripheral/cpu5"
    running = threads(m)
    for n, cpu in cpus.items():
        assert running[next(name for name in running if name.startswith(f"CPU {n}/"))] == cpu["thread-id"]
    for n in (4, 7, 2, 3, 5, 6):
        q.command("device_del", id=f"cpu{n}")
        event = q.wait_event("DEVICE_DELETED", 60)
        assert event["data"] == {"device": f"cpu{n}", "path": f"/machine/peripheral/cpu{n}"}
        end = time.monotonic() + 10 * vmm.SLOW  # the kernel shows a thread for a moment after others have been told of its end
        while any(name.startswith(f"CPU {n}/") for name in threads(m)):
            assert time.monotonic() < end, "the thread of an ejected vCPU stays"
            time.sleep(0.02)
        assert n not in {c["cpu-index"] for c in q.command("query-cpus-fast")}
    say(m, "gone 6", "VT online 0-1 present 0-1", 30, "the guest keeps vCPUs that were taken away")
    plug(m, 2)  # a place is used again
    say(m, "up 2", "VT online 0-2 present 0-2", 60, "a vCPU does not come up in a place that was used before")
    say(m, "on 2", "VT on 2\r\n")
    say(m, "end", "VT done", 30)
    m.wait(30, 0)


def test_holes_stop_and_reset(smp):
    """A machine with vCPUs 0, 1 and 5: stop, cont, NMI, and a reset after which the guest finds them all by itself."""
    m = smp(no_reboot=False)
    q = m.qmp
    place = next(c for c in q.command("query-hotpluggable-cpus") if c["props"]["core-id"] == 5)
    q.command("device_add", driver=place["type"], id="five", **place["props"])
    m.wait_text("", 1)
    say(m, "up 2", "VT online 0-2 present 0-2", 60, "the third vCPU, in the sixth place, does not come up")
    q.command("stop")
    assert len(q.command("query-cpus-fast")) == 3
    place = next(c for c in q.command("query-hotpluggable-cpus") if c["props"]["core-id"] == 7)
    q.command("device_add", driver=place["type"], id="seven", **place["props"])
    q.command("cont")
    say(m, "up 3", "VT online 0-3 present 0-3", 60, "a vCPU that was added to a stopped machine does not come up")
    q.command("system_reset")
    q.wait_event("RESET")
    m.wait_text("VT online 0-3 present 0-3", BOOT, "after a reset the guest does not find the vCPUs that were plugged in")
    q.command("device_del", id="seven")
    assert q.wait_event("DEVICE_DELETED", 60)["data"]["device"] == "seven"
    ost = [e for e in q.events if e["event"] == "ACPI_DEVICE_OST"]
    assert all(e["data"]["info"]["slot-type"] == "CPU" for e in ost)
    say(m, "end", "VT done", 30)


def test_cold_plugged(smp, linux):
    """-device at start: what a manager does for vCPUs that may be taken away later."""
    m = linux("-smp", "1,maxcpus=4", "-device", "max-x86_64-cpu,id=c2,socket-id=0,core-id=2,thread-id=0", script=AGENT, qmp=True)
    m.wait_text("VT online 0-1 present 0-1", BOOT, "a vCPU of -device is not there at start")
    m.qmp.command("device_del", id="c2")
    m.qmp.wait_event("DEVICE_DELETED", 60)
    say(m, "count", "VT online 0 present 0\r\n", 20)
    say(m, "end", "VT done", 30)


def test_guest_refuses(machine, flat):
    """A vCPU that the guest does not let go of: the error is reported, the vCPU stays, and one may ask again."""
    m = machine("-accel", "jit", "-m", "64", "-smp", "1,maxcpus=2", "-nodefaults", "-display", "none", "-serial", "stdio",
                "-device", "max-x86_64-cpu,id=c,socket-id=0,core-id=1,thread-id=0", "-kernel", flat("cpukeep"), qmp=True)
    q = m.qmp
    m.wait_text("ready\n", 20)
    for _ in range(2):
        q.command("device_del", id="c")
        info = q.wait_event("ACPI_DEVICE_OST", 20)["data"]["info"]
        assert info == {"device": "c", "slot": "1", "slot-type": "CPU", "source": 3, "status": 1}
        assert q.wait_event("DEVICE_UNPLUG_GUEST_ERROR", 20)["data"] == {"device": "c", "path": "/machine/peripheral/c"}
        assert [c["cpu-index"] for c in q.command("query-cpus-fast")] == [0, 1]
    assert q.command("query-acpi-ospm-status") == [info]


def test_refusals(machine, flat):
    m = machine("-accel", "jit", "-m", "64", "-smp", "2,maxcpus=8,sockets=2,cores=2,threads=2", "-nodefaults", "-display", "none", "-serial", "stdio",
                "-kernel", flat("halt"), qmp=True)
    q = m.qmp
    kind = q.command("query-hotpluggable-cpus")[0]["type"]

    def refused(*words, **arguments):
        error = q.execute("device_add", **arguments)["error"]
        assert error["class"] == "GenericError"
        for word in words:
            assert word in error["desc"], f"'{error['desc']}' does not name {word}"

    refused("socket-id", "not set", driver=kind, id="a")
    refused("socket-id", "0:1", driver=kind, **{"socket-id": 2, "core-id": 0, "thread-id": 0})
    refused("core-id", driver=kind, **{"socket-id": 1, "core-id": 5, "thread-id": 0})
    refused("thread-id", driver=kind, **{"socket-id": 1, "core-id": 1})
    refused("exists", driver=kind, **{"socket-id": 0, "core-id": 0, "thread-id": 1})
    refused(kind, driver="486-x86_64-cpu", **{"socket-id": 1, "core-id": 1, "thread-id": 1})
    refused("no property", driver=kind, colour="red", **{"socket-id": 1, "core-id": 1, "thread-id": 1})
    refused("identifier", driver=kind, id="7", **{"socket-id": 1, "core-id": 1, "thread-id": 1})
    q.command("device_add", driver=kind, id="a", **{"socket-id": 1, "core-id": 1, "thread-id": 1})
    refused("Duplicate", driver=kind, id="a", **{"socket-id": 1, "core-id": 1, "thread-id": 0})
    refused("exists", driver=kind, id="b", **{"socket-id": 1, "core-id": 1, "thread-id": 1})
    assert [c["cpu-index"] for c in q.command("query-cpus-fast")] == [0, 1, 7]
    assert next(c for c in q.command("query-cpus-fast") if c["cpu-index"] == 7)["props"] == {"socket-id": 1, "core-id": 1, "thread-id": 1}
    assert q.command("device_del", id="a") == {}, "a guest that does not answer is no error"


def test_machines_without_room(machine, flat):
    status, _, err = vmm.run(["-accel", "jit", "-machine", "microvm", "-smp", "1,maxcpus=2", "-display", "none", "-kernel", flat("halt")])
    assert status == 1 and "microvm" in err and "maxcpus" in err, err
    m = machine("-accel", "jit", "-m", "64", "-nodefaults", "-display", "none", "-serial", "stdio", "-kernel", flat("halt"), qmp=True)
    error = m.qmp.execute("device_add", driver="max-x86_64-cpu", **{"socket-id": 0, "core-id": 0, "thread-id": 0})["error"]["desc"]
    assert "maxcpus" in error, error


def test_hostile_guest_registers(machine, flat):
    """A guest that writes anything to the hot-plug registers, its own eject included, harms nobody."""
    m = machine("-accel", "jit", "-m", "64", "-smp", "2,maxcpus=4", "-nodefaults", "-display", "none", "-serial", "stdio",
                "-device", "max-x86_64-cpu,id=c,socket-id=0,core-id=2,thread-id=0", "-kernel", flat("cpuhp"), "-S", qmp=True)
    m.qmp.command("cont")
    text = m.wait_text("end\n", 20)
    assert re.search(r"next FFFFFFFF", text), text
    assert m.qmp.wait_event("DEVICE_DELETED", 10)["data"]["device"] == "c", "the guest may let go of a vCPU unasked"
    assert [c["cpu-index"] for c in m.qmp.command("query-cpus-fast")] == [0, 1], "only vCPUs that came as devices can be ejected"


def test_on_kvm(machine, flat):
    """The same registers and places on KVM, whose vCPUs cannot be destroyed: one that went is used again."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("/dev/kvm does not open here")
    m = machine("-accel", "kvm", "-m", "64", "-smp", "2,maxcpus=4", "-nodefaults", "-display", "none", "-serial", "stdio",
                "-device", "max-x86_64-cpu,id=c,socket-id=0,core-id=2,thread-id=0", "-kernel", flat("cpuhp"), "-S", qmp=True)
    q = m.qmp
    present = lambda: [c["cpu-index"] for c in q.command("query-cpus-fast")]
    q.command("cont")
    m.wait_text("end\n", 20)
    assert q.wait_event("DEVICE_DELETED", 10)["data"]["device"] == "c"
    assert present() == [0, 1]
    q.command("device_add", driver="max-x86_64-cpu", id="d", **{"socket-id": 0, "core-id": 2, "thread-id": 0})
    q.command("stop")
    q.command("device_add", driver="max-x86_64-cpu", id="e", **{"socket-id": 0, "core-id": 3, "thread-id": 0})
    q.command("cont")
    assert present() == [0, 1, 2, 3]
    q.command("system_reset")
    assert {q.wait_event("DEVICE_DELETED", 20)["data"]["device"] for _ in range(2)} == {"d", "e"}, "after the reset the guest ejects them again"
    assert present() == [0, 1]
