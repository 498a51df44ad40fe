# SPDX-License-Identifier: GPL-2.0-or-later
"""Network cards for guests without virtio, under the drivers of Debian's generic kernel."""
import base64
import hashlib
import re

import pytest

import vmm
from test_network import BOOT, UP, web_server  # noqa: F401

CARDS = {"e1000e": ("e1000e", "e1000e"), "e1000": ("e1000", "e1000"), "8139cp": ("rtl8139", "8139cp"), "8139too": ("rtl8139,cplus=off", "8139too")}


def boot(linux, card, script, *more, **kwargs):
    device, module = CARDS[card]
    return linux("-netdev", "user,id=n", "-device", f"{device},netdev=n,mac=52:54:00:11:22:33", *more, script=script,
                 kernel="generic", modules=(module, "af_packet", "8021q"), **kwargs)


@pytest.mark.parametrize("card", CARDS)
def test_dhcp_ping_and_tcp_both_ways(linux, web_server, card):  # noqa: F811
    port, digest, posted = web_server
    m = boot(linux, card, UP + f"""
ping -c 2 -W 5 10.0.2.2 >/dev/null && echo "VT ping"
ping -c 2 -W 5 -s 1400 10.0.2.2 >/dev/null && echo "VT large ping"
wget -q -O /tmp/data http://10.0.2.2:{port}/ && echo "VT sum $(sha256sum < /tmp/data)"
base64 /tmp/data > /tmp/text  # wget sends text only
wget -q -O /dev/null --post-file=/tmp/text http://10.0.2.2:{port}/ && echo "VT posted"
cat /sys/class/net/eth0/address /sys/class/net/eth0/speed
grep eth0 /proc/net/dev; grep eth0 /proc/interrupts
ls -l /sys/class/net/eth0/device/driver
""")
    m.wait_text("VT dhcp 10.0.2.15 10.0.2.2 10.0.2.3", BOOT, "the guest gets no address from DHCP")
    m.wait_text("VT ping", 30, "the gateway does not answer pings")
    m.wait_text("VT large ping", 30)
    m.wait_text(f"VT sum {digest}", 90, "a download fails or differs")
    m.wait_text("VT posted", 90)
    assert [hashlib.sha256(base64.b64decode(p)).hexdigest() for p in posted] == [digest], "what the guest sent is not what arrived"
    rest = m.wait_text("VT done", 30)
    assert "52:54:00:11:22:33" in rest, "the card has another MAC address than was given" + m.tail()
    assert f"/{CARDS[card][1]}" in rest, "the card is not driven by the driver that it is for" + m.tail()
    speed = "100" if card.startswith("8139") else "1000"
    assert f"\n{speed}\n" in rest, f"the link is not at {speed} Mb/s" + m.tail()
    counters = re.search(r"eth0: *(.*)\n", rest).group(1).split()
    assert counters[2:4] == ["0", "0"] and counters[10] == "0", f"errors or drops were counted: {counters}"
    if card == "e1000e":
        assert rest.count("eth0-") >= 2, "the card does not run on MSI-X vectors for receiving and sending" + m.tail()


@pytest.mark.parametrize("card", CARDS)
def test_down_up_mtu_rebind(linux, web_server, card):  # noqa: F811
    """The interface goes down and up, the MTU changes, the driver lets go of the card and takes it again: each time it works."""
    port, digest, _ = web_server
    mtus = "1000 576 1500" if card == "8139too" else "1000 4000 1500"
    m = boot(linux, card, UP + f"""
works() {{
    ping -c 1 -W 5 10.0.2.2 >/dev/null || echo "VT $1: no ping"
}}
for i in 1 2 3 4 5 6 7 8; do
    ip link set eth0 down; ip link set eth0 up; ip route add default via 10.0.2.2; works "cycle $i"
done
echo "VT cycled"
for mtu in {mtus}; do
    ip link set eth0 down; ip link set eth0 mtu $mtu || echo "VT no mtu $mtu"; ip link set eth0 up; works "mtu $mtu"
done
echo "VT mtus"
wget -q -O - http://10.0.2.2:{port}/ | sha256sum
ip link set eth0 promisc on; works promisc; ip link set eth0 promisc off
ip link add link eth0 name v5 type vlan id 5 && ip link set v5 up && ip addr add 10.9.9.1/24 dev v5
ping -c 1 -W 1 10.9.9.2 >/dev/null; works "with a VLAN"; ip link del v5
cd /sys/class/net/eth0/device/driver
dev=$(basename $(readlink -f /sys/class/net/eth0/device))
for i in 1 2 3 4 5; do
    echo $dev > unbind; echo $dev > bind; ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; works "bind $i"
done
echo "VT bound"
""", append="net.ifnames=0")
    m.wait_text("VT dhcp 10.0.2.15", BOOT)
    bad = m.wait_text("VT cycled", 120) + m.wait_text("VT mtus", 60)
    rest = m.wait_text("VT bound", 120)
    assert digest in rest, "a download after a change of MTU fails or differs" + m.tail()
    assert "VT " not in bad + rest, "the card stops working: " + bad + rest


@pytest.mark.parametrize("card", ["e1000e", "8139cp"])
def test_reset_with_traffic(linux, card):
    """A machine that is reset while the card is in use starts again, and the card works."""
    m = boot(linux, card, UP + """
echo "VT up"
ping -q -i 0.01 -s 1400 10.0.2.2 >/dev/null &
sleep 3600
""", qmp=True, no_reboot=False)
    for _ in range(3):
        m.wait_text("VT dhcp 10.0.2.15", BOOT, "after a reset the guest gets no address")
        m.wait_text("VT up", 10)
        m.qmp.command("system_reset")
    m.wait_text("VT dhcp 10.0.2.15", BOOT)
    m.qmp.command("quit")
    m.wait(20, 0)


def test_nic_models(linux, flat):
    """-nic finds the cards by model; a model that is not there is refused with the list of those that are."""
    status, _, err = vmm.run(["-accel", "jit", "-nodefaults", "-display", "none", "-kernel", flat("halt"), "-nic", "user,model=ne2k_pci"])
    assert status == 1 and "ne2k_pci" in err and "e1000e" in err and "rtl8139" in err, err
    m = linux("-nic", "user,model=e1000e", "-nic", "user,model=rtl8139", "-nic", "user,model=virtio-net-pci", kernel="generic",
              modules=("e1000e", "8139cp", "virtio_pci", "virtio_net"), script="cat /sys/class/net/eth?/address; echo VT end")
    shown = m.wait_text("VT end", BOOT)
    assert {f"52:54:00:12:34:{n}" for n in (56, 57, 58)} <= set(shown.split()), "three cards do not get three MAC addresses" + m.tail()
