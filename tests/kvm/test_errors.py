# SPDX-License-Identifier: GPL-2.0-or-later
"""What is missing for `-accel kvm` is named, with what to do: one line, exit status 1."""
import pytest

import vmm


@pytest.fixture
def kernel(outer, flat):
    return ["-kernel", outer.put(flat("hello"))]


def test_no_device(refused, kernel, outer):
    outer.shell("mv /dev/kvm /dev/kvm.away")
    try:
        refused([*kernel, "-accel", "kvm"], "there is no /dev/kvm", "kvm_amd", "-accel jit")
    finally:
        outer.shell("mv /dev/kvm.away /dev/kvm")


def test_no_permission(refused, kernel, outer):
    outer.shell("chmod 600 /dev/kvm")
    try:
        refused([*kernel, "-accel", "kvm"], "permission", "/dev/kvm", "group", uid=65534)
    finally:
        outer.shell("chmod 666 /dev/kvm")


def test_not_kvm(refused, kernel):
    refused([*kernel, "-accel", "kvm,device=/dev/null"], "/dev/null")


def test_an_ordinary_user_with_permission(bare):
    m = bare("hello", uid=65534)
    m.wait(30, 0x55, "the few-byte guest for an ordinary user who may open /dev/kvm")


def test_missing_cpu_feature(refused, kernel):
    refused([*kernel, "-accel", "kvm", "-cpu", "max,+avx512f,enforce"], "avx512f")


def test_more_vcpus_than_the_kernel_gives(refused, kernel):
    refused([*kernel, "-accel", "kvm", "-smp", "5000"], "5000")


def test_automatic_choice(outer, kernel):
    """The outer guest's CPU shows svm and /dev/kvm opens: KVM; without the device the translator. `-d accel` says which and why."""
    words = [outer.program, *outer.options, "-display", "none", "-nodefaults", *kernel, "-accel", "auto", "-d", "accel", "-device",
             "isa-debug-exit,iobase=0xf4,iosize=0x4"]
    status, _, err = outer.run(*words, check=False)
    assert status == 0x55 and err.count("-accel auto: using kvm") == 1, f"-accel auto says {err!r} and ends with {status}"
    outer.shell("mv /dev/kvm /dev/kvm.away")
    try:
        status, _, err = outer.run(*words, check=False)
        assert status == 0x55 and err.count("-accel auto: using jit") == 1 and "no /dev/kvm" in err, f"-accel auto says {err!r} and ends with {status}"
    finally:
        outer.shell("mv /dev/kvm.away /dev/kvm")


def test_preferences_in_order(outer, kernel):
    if vmm.IS_QEMU:
        pytest.skip("QEMU's name of the translator is another")
    words = [outer.program, "-display", "none", "-nodefaults", *kernel, "-accel", "kvm", "-accel", "jit", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x4"]
    outer.shell("mv /dev/kvm /dev/kvm.away")
    try:
        status, _, err = outer.run(*words, check=False)
        assert status == 0x55, f"-accel kvm -accel jit without /dev/kvm ends with {status}: {err}"
    finally:
        outer.shell("mv /dev/kvm.away /dev/kvm")
