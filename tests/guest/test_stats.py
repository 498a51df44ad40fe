# SPDX-License-Identifier: GPL-2.0-or-later
"""Exits that one can see: query-stats counts what the guest did, -d exits shows it in words."""
import os
import re
import time

import pytest

import vmm

EXACT = {"port-read-exits": 12345 + 55, "port-write-exits": 678 + 11, "mmio-read-exits": 91, "mmio-write-exits": 23, "msr-read-exits": 0,
         "interrupt-exits": 0, "shutdown-exits": 0}


def stats(q, target="vm", **filters):
    return [{s["name"]: s["value"] for s in row["stats"]} | {"qom-path": row.get("qom-path")}
            for row in q.command("query-stats", target=target, **filters) if row["provider"] == "vireo"]


def until(deadline, condition, why):
    end = time.monotonic() + deadline * vmm.SLOW
    while not condition():
        assert time.monotonic() < end, why
        time.sleep(0.05)


def kvm_opens():
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR))
        return True
    except OSError:
        return False


@pytest.fixture
def counted(machine, flat):
    def start(*args, **kwargs):
        return machine("-accel", "jit", "-m", "64", "-nodefaults", "-display", "none", "-serial", "null", "-kernel", flat("counted"), *args,
                       qmp=True, **kwargs)
    if vmm.IS_QEMU:
        pytest.skip("QEMU's translator has no statistics of this kind")
    return start


def test_exact_numbers(counted):
    q = counted("-smp", "2").qmp
    until(20, lambda: stats(q)[0]["halt-exits"], "the guest does not come to its HLT")
    vm, = stats(q)
    for name, n in EXACT.items():
        assert vm[name] == n, f"{name}: the guest did {n}, {vm[name]} were counted"
    first, second = stats(q, "vcpu")
    assert first["qom-path"] == q.command("query-cpus-fast")[0]["qom-path"]
    for name, n in EXACT.items():
        assert first[name] == n
        assert second[name] == 0, "a vCPU that waits for its start-up message has no exits"
    assert 12400 * 10 < first["port-read-time"] < 20_000_000_000, "the time of 12400 accesses is plausible"
    only = stats(q, "vcpu", vcpus=[second["qom-path"]], providers=[{"provider": "vireo", "names": ["exits"]}])
    assert [set(row) for row in only] == [{"exits", "qom-path"}]
    assert only[0]["qom-path"] == second["qom-path"]


def test_numbers_under_kvm(machine, flat):
    """Accesses that the kernel does not serve are counted as on the translator, and the kernel's own numbers are there; also while the
    vCPU is in the kernel and does not come back by itself."""
    if not kvm_opens():
        pytest.skip("/dev/kvm does not open here")
    m = machine("-accel", "kvm", "-m", "64", "-smp", "2", "-nodefaults", "-display", "none", "-serial", "null", "-kernel", flat("counted"), qmp=True)
    q = m.qmp
    until(20, lambda: stats(q)[0]["port-write-exits"] == 678 + 11, "the guest does not do its accesses")
    vm, = stats(q)
    assert 12345 < vm["port-read-exits"] <= 12345 + 55, "a string instruction is one exit or several"
    schemas = {(s["provider"], s["target"]): {r["name"] for r in s["stats"]} for s in q.command("query-stats-schemas")}
    assert ("vireo", "vcpu") in schemas
    if ("kvm", "vcpu") not in schemas:
        return  # a kernel before 5.14
    rows = q.command("query-stats", target="vcpu", providers=[{"provider": "kvm"}])
    assert [r["qom-path"] for r in rows] == [c["qom-path"] for c in q.command("query-cpus-fast")]
    for row in rows:
        assert {s["name"] for s in row["stats"]} == schemas["kvm", "vcpu"]
        assert all(isinstance(s["value"], (int, bool, list)) for s in row["stats"])


def test_schema_names_every_number(counted):
    q = counted().qmp
    for target in ("vm", "vcpu"):
        schema = next(s for s in q.command("query-stats-schemas", provider="vireo") if s["target"] == target)
        described = {s["name"]: s for s in schema["stats"]}
        shown = set(stats(q, target)[0]) - {"qom-path"}
        assert set(described) == shown, "query-stats and query-stats-schemas do not speak of the same numbers"
        assert all(s["type"] == "cumulative" for s in described.values())
        assert described["halt-time"] == {"name": "halt-time", "type": "cumulative", "unit": "seconds", "base": 10, "exponent": -9}


def test_halt_time_is_the_sleep(counted):
    """A halt lasts until the vCPU runs again: stopping and going on ends one."""
    q = counted().qmp
    until(20, lambda: stats(q)[0]["halt-exits"], "the guest does not come to its HLT")
    time.sleep(0.5)
    q.command("inject-nmi")
    until(10, lambda: stats(q)[0]["halt-time"] > 400_000_000, "half a second of sleep is not in halt-time")


def test_trace_in_words(counted):
    m = counted("-d", "exits", "-no-reboot")
    until(20, lambda: stats(m.qmp)[0]["halt-exits"], "the guest does not come to its HLT")
    m.qmp.command("inject-nmi")  # ends the sleep; without an IDT it is a triple fault
    m.wait(10, 0)
    lines = [line for line in m.stderr().splitlines() if line.startswith("cpu 0: ")]
    kinds = {}
    for line in lines:
        found = re.fullmatch(r"cpu 0: ([a-z-]+): (.*); (\d+) ns", line)
        assert found, f"a line of the trace is not of the form that is documented: {line}"
        kinds.setdefault(found[1], []).append(found[2])
    assert len(kinds["port-read"]) == EXACT["port-read-exits"]
    assert len(kinds["mmio-write"]) == EXACT["mmio-write-exits"]
    assert kinds["port-read"][0].startswith("1 bytes from 0x80 (port80) gave "), kinds["port-read"][0]
    assert kinds["mmio-write"][0] == "4 bytes to 0xfec00000 (ioapic), 0x17", kinds["mmio-write"][0]
    assert kinds["halt"], "the end of the sleep is not in the trace"
