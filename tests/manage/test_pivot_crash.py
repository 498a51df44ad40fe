# SPDX-License-Identifier: GPL-2.0-or-later
"""kill -9 of the daemon before each message that it sends or takes while a copy, or the image below, takes the place of a running machine's disk."""
import re
import time

import pytest

libvirt = pytest.importorskip("libvirt", reason="python3-libvirt is not installed")
from crash_lab import STEPS_MOST, Monitor, can_trace, end_machine, found_again, images, in_machine, lives_through, running  # noqa: E402, F401 pylint: disable=unused-import
from disk_lab import reads  # noqa: E402
from limits import SLOW  # noqa: E402

pytestmark = pytest.mark.skipif(can_trace() is not None, reason=str(can_trace()))


def begin_copy(vm, k):
    vm.virsh("blockcopy", "vm", "vda", vm.file(f"copy{k}"), "--transient-job", "--wait")


def begin_commit(vm, k):
    vm.snapshot(f"c{k}", "--disk-only", "--diskspec", "vdb,snapshot=no", "--diskspec", f"vda,file={vm.file(f'over{k}')}", "--no-metadata")
    vm.nbd_write("libvirt-%s-format" % re.search(r"index='(\d+)'", vm.disk())[1], 7, "0", "64k")
    vm.virsh("blockcommit", "vm", "vda", "--active", "--base", images(vm)["vda"][1], "--wait")


@pytest.mark.parametrize("begin, calls, machine_ends", [(begin_copy, "sendmsg", False), (begin_commit, "recvfrom", True)])
def test_pivot(running, begin, calls, machine_ends):
    """Whether the machine ends, too, or is found again: the next start has the image with what was written last."""
    pivoted = 0
    for k in range(1, STEPS_MOST):
        begin(running, k)
        before = images(running)["vda"][0]
        lived = lives_through(running, calls, k, lambda d: d.blockJobAbort("vda", libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT))
        if lived:
            break
        monitor = Monitor(running)
        pivoted += monitor.top(before) is None
        monitor.write(running, monitor.node(), 100 + k)
        monitor.close()
        if not machine_ends:  # it is found again
            found_again(running)
            end = time.monotonic() + 20 * SLOW
            while "ready='pivot'" in running.disk():
                assert time.monotonic() < end, running.disk()
                time.sleep(0.05)
            assert sorted(images(running).values()) == in_machine(running)
            if "<mirror" not in running.disk():
                assert images(running)["vda"][0] == images(running, "--inactive")["vda"][0]
            running.virsh("destroy", "vm")
        else:
            end_machine(running)
            running.daemon.start()
        reads(images(running, "--inactive")["vda"][0], 100 + k, "0", "64k")
        running.virsh("start", "vm", "--paused")
    print(k - 1, "kills,", pivoted, "after the pivot")
    assert lived and k > 2


@pytest.mark.parametrize("begin", [begin_copy, begin_commit])
def test_pivot_that_fails_after_all(running, begin):
    """The definition names the image that did not become the disk's: it goes back."""
    begin(running, 1)
    before = images(running), images(running, "--inactive")
    assert not lives_through(running, "rename", 2, lambda d: d.blockJobAbort("vda", libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT))
    monitor = Monitor(running)
    job = monitor.command("query-jobs")[0]
    assert job["status"] == "pending"
    assert " defined='" in (running.path / "run/vireo/qemu/vm.xml").read_text(encoding="utf-8")
    monitor.command("job-cancel", id=job["id"])
    monitor.close()
    found_again(running)
    running.until("No current block job", "blockjob", "vm", "vda")
    assert (images(running), images(running, "--inactive")) == before and "<mirror" not in running.disk()
    begin(running, 2)
    running.virsh("blockjob", "vm", "vda", "--pivot")
    assert sorted(images(running).values()) == in_machine(running) and images(running, "--inactive")["vda"][0] == images(running)["vda"][0]
