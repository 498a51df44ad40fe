# SPDX-License-Identifier: GPL-2.0-or-later
"""CPUs compared and brought to what they have in common, by Debian's virsh; beside the real libvirtd where it knows the models as vireo-vmm does."""
import re
import shutil

import pytest

from test_complete import judge  # noqa: F401

HAVE_BOTH = pytest.mark.skipif(not shutil.which("libvirtd") or not shutil.which("qemu-system-x86_64"), reason="no libvirtd or QEMU here")


def cpu(model, more="", words="", arch="<arch>x86_64</arch>"):
    return f"<cpu{words}>{arch}<model>{model}</model>{more}</cpu>"


PAIRS = [("Westmere", "Penryn"), ("Nehalem", "SandyBridge"), ("Haswell", "Broadwell"), ("Penryn", "Conroe"), ("Westmere", "Westmere")]


@pytest.fixture
def ask(shared_vireod, tmp_path):
    def run(command, *cpus, status=0):
        (tmp_path / "cpu.xml").write_text("".join(cpus), encoding="utf-8")
        words = command.split()
        return shared_vireod.virsh(words[0], tmp_path / "cpu.xml", *words[1:], status=status)
    return run


@HAVE_BOTH
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_baseline_is_libvirtds(ask, judge, pair, tmp_path):  # noqa: F811
    ours = ask("cpu-baseline", *map(cpu, pair))
    theirs = judge("cpu-baseline", str(tmp_path / "cpu.xml")).stdout
    assert ours == theirs
    ours, theirs = ask("cpu-baseline --features", *map(cpu, pair)), judge("cpu-baseline", str(tmp_path / "cpu.xml"), "--features").stdout
    assert re.search("<model.*", ours)[0] == re.search("<model.*", theirs)[0]
    assert set(re.findall("name='(.*?)'", theirs)) - set(re.findall("name='(.*?)'", ours)) == set()


def test_baseline(ask):
    """The nearest model, with what it has too much taken away and what it lacks added; not what a guest cannot take along."""
    text = ask("cpu-baseline", cpu("EPYC"), cpu("Skylake-Client"))
    assert "qemu64" not in text and "policy='disable' name='pcid'" in text and "fallback='allow'" in text, text
    text = ask("cpu-baseline", cpu("Penryn", "<feature name='invtsc'/><feature name='sse4.2'/>"), cpu("Nehalem", "<feature name='invtsc'/>"))
    assert "name='invtsc'" in text and "sse4.1" not in text, text
    assert "invtsc" not in ask("cpu-baseline --migratable", cpu("Penryn", "<feature name='invtsc'/>"))
    assert "<vendor>Intel</vendor>" in ask("cpu-baseline", cpu("Penryn", "<vendor>Intel</vendor>"), cpu("Westmere", "<vendor>Intel</vendor>"))
    for cpus, say in (((cpu("Penryn", "<vendor>Intel</vendor>"), cpu("EPYC", "<vendor>AMD</vendor>")), "CPU vendors do not match: Intel and AMD"),
                      ((cpu("Nosuch"),), "Unknown CPU model Nosuch"), (("<cpu/>",), "Missing CPU architecture"), (("<cpu><arch>x86_64</arch></cpu>",), "Missing CPU model")):
        assert say in ask("cpu-baseline", *cpus, status=1), say


def test_what_the_machine_offers(ask):
    """The hypervisor's calls look at the emulator that is named, and refuse what they are told wrong."""
    assert "<model fallback='forbid'>Penryn</model>" in ask("hypervisor-cpu-baseline --virttype qemu", cpu("Westmere"), cpu("Penryn"))
    assert "superset" in ask("hypervisor-cpu-compare --virttype qemu", cpu("Penryn"))
    assert "required features: " in ask("hypervisor-cpu-compare --virttype qemu --error", cpu("Penryn", "<feature name='amx-tile'/>"), status=1)
    for words, say in (("--virttype foo", "unknown virttype: foo"), ("--emulator /nosuch", "there is no emulator '/nosuch'"), ("--machine foo", "machine 'foo' is not supported")):
        for command in "hypervisor-cpu-compare", "hypervisor-cpu-baseline":
            assert say in ask(f"{command} {words}", cpu("Penryn"), status=1)


def test_compare(ask):
    """Unknown models and architectures, forbidden features and vendors count; the reason is said when it is asked for."""
    assert "Unknown CPU model Nosuch" in ask("cpu-compare", cpu("Nosuch"), status=1)
    for text, say in ((cpu("POWER8", arch="<arch>ppc64</arch>"), "CPU arch ppc64 does not match host arch"),
                      (cpu("486", "<feature policy='forbid' name='sse2'/>", " match='exact'", ""), "forbidden features: sse2"),
                      (cpu("486", "<vendor>VIA</vendor>"), "vendor"), (cpu("486", words=" match='strict'", arch=""), "strictly match"),
                      (cpu("486", "<feature name='3dnowext'/><feature name='skinit'/>"), "required features: ")):
        assert "is incompatible with host CPU" in ask("cpu-compare", text, status=1)
        out = ask("cpu-compare --error", text, status=1)
        assert "the CPU is incompatible with host CPU: " in out and say in out, out
    assert "Host CPU is a superset" in ask("cpu-compare", cpu("486"))
    assert "Host CPU is a superset" in ask("cpu-compare", cpu("486", "<feature policy='optional' name='skinit'/>", " match='exact'", ""))
