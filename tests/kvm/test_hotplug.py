# SPDX-License-Identifier: GPL-2.0-or-later
"""vCPUs that come and go on `-accel kvm`, under the real kvm.ko: Debian's kernel brings them up and lets them go."""
import pytest

import vmm

BOOT = 150

AGENT = """
count() { echo "VT online $(cat /sys/devices/system/cpu/online) present $(cat /sys/devices/system/cpu/present)"; }
count
while read word n; do
    case $word in
    up) await "echo 1 > /sys/devices/system/cpu/cpu$n/online" 2>/dev/null # the file comes a little after its directory
        taskset $(printf %x $((1 << n))) sh -c 'echo "VT on $(cut -d" " -f39 /proc/self/stat)"'; count ;;
    count) count ;;
    end) break ;;
    esac
done
"""


@pytest.mark.parametrize("irqchip", ["on", "split", "off"])
def test_a_place_is_filled_emptied_and_filled_again(linux, irqchip):
    m = linux("-machine", f"q35,kernel-irqchip={irqchip}", "-smp", "1,maxcpus=3", script=AGENT, qmp=True)
    m.wait_text("VT online 0 present 0", BOOT, "the guest does not start with one of three vCPUs")

    def say(text, wait, why):
        m.process.stdin.write(text.encode() + b"\n")
        m.process.stdin.flush()
        m.wait_text(wait, 60, why)

    kind = m.qmp.command("query-hotpluggable-cpus")[0]["type"]
    for _ in range(2):
        m.qmp.command("device_add", driver=kind, id="second", **{"socket-id": 0, "core-id": 1, "thread-id": 0})
        say("up 1", "VT online 0-1 present 0-1", f"a vCPU that was plugged in does not come up on KVM (kernel-irqchip={irqchip})")
        assert len(m.qmp.command("query-cpus-fast")) == 2
        m.qmp.command("device_del", id="second")
        assert m.qmp.wait_event("DEVICE_DELETED", 60)["data"]["device"] == "second"
        say("count", "VT online 0 present 0", "the guest keeps a vCPU that it let go")
    if not vmm.IS_QEMU:
        names = {r["provider"] for r in m.qmp.command("query-stats", target="vcpu")}
        assert names >= {"vireo", "kvm"}, "numbers of both providers are there under the real KVM"
    say("end", "VT done", "the guest does not go on")
    m.wait(60, 0)
