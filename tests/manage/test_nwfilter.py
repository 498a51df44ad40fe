# SPDX-License-Identifier: GPL-2.0-or-later
"""Network filters: documents as the real libvirt 9.0 prints and refuses them (recorded), bindings, and real frames through their rules: vireod in a network namespace,
guests as further namespaces behind ports of a bridge."""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

import libvirt
import pytest

from limits import SLOW
from network_lab import HERE, Lab, needs_root, wait_for

pytestmark = needs_root
libvirt.registerErrorHandler(lambda *_: None, None)

# What libvirt 9.0 made of a rule with this protocol: None: the same; else the canonical form, or the value that it refuses.
RULES = {
    "<mac srcmacaddr='AA:BB:CC:DD:EE:FF' protocolid='0x0800'/>": "<mac srcmacaddr='aa:bb:cc:dd:ee:ff' protocolid='ipv4'/>", "<mac protocolid='2048'/>": "<mac protocolid='ipv4'/>",
    "<mac protocolid='ARP'/>": "<mac protocolid='arp'/>", "<mac protocolid='0x600'/>": None, "<mac protocolid='100'/>": "protocolid has illegal value 100",
    "<mac srcmacaddr='xx'/>": "srcmacaddr has illegal value xx", "<mac srcmacaddr='$MAC' srcmacmask='ff:ff:ff:ff:ff'/>": "srcmacmask has illegal value ff:ff:ff:ff:ff",
    "<mac match='yes'/>": "<mac/>", "<mac match='no' srcmacaddr='1:2:3:4:5:6'/>": "<mac match='no' srcmacaddr='01:02:03:04:05:06'/>",
    "<ip protocol='17' dscp='0x10'/>": "<ip protocol='udp' dscp='0x10'/>", "<ip protocol='250'/>": None, "<ip protocol='300'/>": "protocol has illegal value 300",
    "<ip srcipaddr='1.2.3.4' srcipmask='255.255.255.0'/>": "<ip srcipaddr='1.2.3.4' srcipmask='24'/>", "<ip srcipaddr='1.2.3.4' srcipmask='255.0.255.0'/>": "srcipmask has illegal value 255.0.255.0",
    "<ip srcipaddr='1.2.3.4' srcipmask='33'/>": "srcipmask has illegal value 33", "<ip srcipaddr='::1'/>": "srcipaddr has illegal value ::1",
    "<ip srcportstart='80'/>": "IP rule with port specification requires protocol specification", "<ip protocol='tcp' srcportend='70000'/>": "srcportend has illegal value 70000",
    "<ip protocol='tcp' srcportstart='$PORT'/>": None, "<ip dscp='64'/>": "dscp has illegal value 64",
    "<ipv6 srcipaddr='FE80::1' srcipmask='ffff::'/>": "<ipv6 srcipaddr='fe80::1' srcipmask='16'/>", "<ipv6 protocol='58' type='128' typeend='129' code='0' codeend='1'/>":
    "<ipv6 protocol='icmpv6' type='128' typeend='129' code='0' codeend='1'/>", "<arp opcode='1'/>": "<arp opcode='Request'/>", "<arp opcode='foo'/>": "opcode has illegal value foo",
    "<arp opcode='Reply' gratuitous='yes'/>": "<arp opcode='Reply' gratuitous='true'/>", "<rarp opcode='4'/>": "<rarp opcode='Reply_Reverse'/>",
    "<vlan vlanid='0x12' encap-protocol='0x0806'/>": "<vlan vlanid='0x12' encap-protocol='arp'/>", "<vlan vlanid='4096'/>": "vlanid has illegal value 4096",
    "<stp type='0x80' flags='1' root-priority='0x10' root-cost='100000' root-cost-hi='200000'/>": None, "<tcp flags='SYN,ACK/SYN'/>": None, "<tcp flags='foo/ALL'/>": "flags has illegal value foo/ALL",
    "<tcp state='new,established'/>": "<tcp state='NEW,ESTABLISHED'/>", "<tcp state='FOO'/>": "state has illegal value FOO", "<tcp connlimit-above='0x10'/>": "connlimit-above has illegal value 0x10",
    "<icmp type='8' code='0'/>": None, "<icmp type='300'/>": "type has illegal value 300", "<igmp srcipaddr='$IP[@1]'/>": None, "<igmp srcipaddr='$IP[ 0 ]'/>": "<igmp srcipaddr='$IP[0]'/>",
    "<igmp srcipaddr='$a-b'/>": "srcipaddr has illegal value $a-b", "<udp srcportstart='1' srcportend='$X'/>": None, "<tcp comment='a &lt; b'/>": None,
}
CHAINS = {"root": "", "ipv4-foo": " priority='-700'", "arp": " priority='-500'", "vlan": " priority='-750'", "stp": "", "rarp-x": " priority='-400'", "foo": None, "ipv4-very-long-name-x": None}
STANDARD = 24


def rule(text):
    return f"<filter name='t' chain='root'><rule action='accept' direction='in'>{text}</rule></filter>"


@pytest.fixture(scope="module")
def lab():
    root = tempfile.mkdtemp(prefix="vireo-nwf-")
    lab = Lab(root)
    lab.run("ip", "link", "add", "br0", "type", "bridge")
    lab.run("ip", "link", "set", "br0", "up")
    lab.connection = libvirt.open(lab.uri)
    yield lab
    lab.connection.close()
    lab.end()
    shutil.rmtree(root)


def refused(call, text, code=None):
    with pytest.raises(libvirt.libvirtError) as info:
        call()
    assert text in str(info.value) and (code is None or info.value.get_error_code() == code), info.value


def test_rules_as_libvirt(lab):
    c = lab.connection
    for given, what in RULES.items():
        if what and not what.startswith("<"):
            refused(lambda: c.nwfilterDefineXML(rule(given)), what, libvirt.VIR_ERR_INTERNAL_ERROR)
            continue
        f = c.nwfilterDefineXML(rule(given))
        expected = f"<rule action='accept' direction='in' priority='500'>\n    {what or given}\n  </rule>"
        assert expected in f.XMLDesc(), f"{given}: {f.XMLDesc()}"
        again = f.XMLDesc()
        assert c.nwfilterDefineXML(again).XMLDesc() == again, "what is printed is read again as it is"
        f.undefine()


def test_chains_and_whole_documents(lab):
    c = lab.connection
    for chain, priority in CHAINS.items():
        text = f"<filter name='t' chain='{chain}'/>"
        if priority is None:
            refused(lambda: c.nwfilterDefineXML(text), "chain", libvirt.VIR_ERR_INVALID_ARG)
            continue
        f = c.nwfilterDefineXML(text)
        assert f.XMLDesc() == f"<filter name='t' chain='{chain}'{priority}>\n  <uuid>{f.UUIDString()}</uuid>\n</filter>\n"
        f.undefine()
    for name in os.listdir(os.path.join(HERE, "golden/nwfilter")):
        with open(os.path.join(HERE, "golden/nwfilter", name), encoding="utf-8") as file:
            text = file.read()
        f = c.nwfilterDefineXML(text)
        assert f.XMLDesc() == text
        f.undefine()


def test_standard_filters(lab):
    c = lab.connection
    names = c.listNWFilters()
    assert len(names) == STANDARD == c.numOfNWFilters() and {"clean-traffic", "no-mac-spoofing", "no-ip-spoofing", "allow-arp", "qemu-announce-self-rarp"} < set(names)
    assert sorted(f.name() for f in c.listAllNWFilters()) == sorted(names)
    for name in names:
        f = c.nwfilterLookupByName(name)
        text = f.XMLDesc()
        assert c.nwfilterLookupByUUID(f.UUID()).name() == name and c.nwfilterDefineXML(text).XMLDesc() == text
    where = "/etc/libvirt/nwfilter"
    for name in os.listdir(where) if os.path.isdir(where) else []:
        with open(os.path.join(where, name), encoding="utf-8") as file:
            theirs = file.read()
        mine = c.nwfilterLookupByName(name[:-4])
        theirs = re.sub(r"<!--.*?-->", "", theirs, flags=re.S)
        theirs = re.sub(r"\s*<uuid>.*</uuid>", "", theirs).replace(f"name='{name[:-4]}'", "name='theirs'").replace(f'name="{name[:-4]}"', 'name="theirs"')
        judge = c.nwfilterDefineXML(theirs)
        plain = [re.sub(r"\s*<uuid>.*</uuid>|filter name='.*?'", "", f.XMLDesc()) for f in (judge, mine)]
        judge.undefine()
        assert plain[0] == plain[1], f"{name} is not what the filter of this name is elsewhere"


def test_conflicts(lab):
    c = lab.connection
    f = c.nwfilterLookupByName("allow-arp")
    text = f.XMLDesc()
    refused(lambda: c.nwfilterDefineXML(re.sub(r"\s*<uuid>.*</uuid>", "", text)), f"filter 'allow-arp' already exists with uuid {f.UUIDString()}", libvirt.VIR_ERR_OPERATION_FAILED)
    refused(lambda: c.nwfilterDefineXML(text.replace("'allow-arp'", "'zz'")), "filter with same UUID but different name ('allow-arp') already exists", libvirt.VIR_ERR_OPERATION_FAILED)
    refused(lambda: c.nwfilterDefineXML("<filter name='t'><filterref filter='t'/></filter>"), "would introduce a loop", libvirt.VIR_ERR_OPERATION_FAILED)
    a = c.nwfilterDefineXML("<filter name='a'><filterref filter='b'/></filter>")
    refused(lambda: c.nwfilterDefineXML("<filter name='b'><filterref filter='a'/></filter>"), "loop")
    a.undefine()
    for name in ("../x", ".x", ""):
        refused(lambda: c.nwfilterDefineXML(f"<filter name='{name}'/>"), "name")
    refused(lambda: c.nwfilterLookupByName("nosuch"), "no nwfilter with matching name 'nosuch'", libvirt.VIR_ERR_NO_NWFILTER)


def test_definitions_survive_and_undefined_standard_filters_stay_away(lab):
    lab.connection.nwfilterDefineXML("<filter name='mine'><uuid>11111111-2222-3333-4444-555555555507</uuid></filter>")
    lab.connection.nwfilterLookupByName("no-ip-multicast").undefine()
    with open(f"{lab.root}/etc/vireo/nwfilter/allow-arp.xml", "w", encoding="utf-8"):
        pass  # as a power cut may leave a file
    restart(lab)
    names = lab.connection.listNWFilters()
    assert "allow-arp" in names and "chain='arp'" in lab.connection.nwfilterLookupByName("allow-arp").XMLDesc()
    assert "mine" in names and "no-ip-multicast" not in names and len(names) == STANDARD
    lab.connection.nwfilterLookupByName("mine").undefine()


def restart(lab, how=signal.SIGTERM):
    lab.connection.close()
    lab.daemon.send_signal(how)
    lab.daemon.wait(20 * SLOW)
    lab.start()
    lab.connection = libvirt.open(lab.uri)


# ---- frames ----

RECEIVE = """import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind(("eth0", 0)); s.settimeout(30)
print("ready", flush=True)
seen = []
while True:
    data, where = s.recvfrom(2048)
    if where[2] == 4 or b"frame:" not in data: continue
    tag = data[data.index(b"frame:") + 6:].split(b";")[0].decode()
    if tag == "end": break
    seen.append(tag)
print(" ".join(seen), flush=True)
"""
SEND = """import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
for line in sys.stdin: s.send(bytes.fromhex(line))
"""


def mac(text):
    return bytes(int(part, 16) for part in text.split(":"))


def ip(text):
    return bytes(int(part) for part in text.split("."))


def frame(tag, kind="ipv4", src=None, dst="ff:ff:ff:ff:ff:ff", ip_src="10.0.0.5", ip_dst="10.0.0.9", arp_mac=None, arp_ip="10.0.0.5", op=1, ports=(1000, 2000), protocol=17):
    mark = f"frame:{tag};".encode()
    if kind in ("arp", "rarp"):
        body = bytes([0, 1, 8, 0, 6, 4, 0, op]) + mac(arp_mac or src) + ip(arp_ip) + bytes(6) + ip(ip_dst) + mark
    elif kind == "ipv4":
        udp = ports[0].to_bytes(2, "big") + ports[1].to_bytes(2, "big") + (8 + len(mark)).to_bytes(2, "big") + b"\0\0" + mark
        head = bytes([0x45, 0]) + (20 + len(udp)).to_bytes(2, "big") + bytes([0, 0, 0, 0, 64, protocol, 0, 0]) + ip(ip_src) + ip(ip_dst)
        total = sum(int.from_bytes(head[i:i + 2], "big") for i in range(0, 20, 2))
        total = 0xffff - ((total & 0xffff) + (total >> 16))
        body = head[:10] + total.to_bytes(2, "big") + head[12:] + udp
    elif kind == "ipv6":
        body = bytes([0x60, 0, 0, 0, 0, len(mark), 59, 64]) + mac("fe:80:00:00:00:00") * 2 + bytes(4) + mac("fe:80:00:00:00:01") * 2 + bytes(4) + mark
    else:
        body = bytes(4) + mark
    types = {"ipv4": 0x800, "arp": 0x806, "rarp": 0x8035, "ipv6": 0x86dd}
    return (mac(dst) + mac(src) + types.get(kind, kind if isinstance(kind, int) else 0).to_bytes(2, "big") + body).ljust(60, b"\0").hex()


MAC = "52:54:00:aa:bb:01"


@pytest.fixture
def guests(lab):
    """One that is filtered, one that is not, and one that tells the end."""
    yield lab.guest("br0", MAC), lab.guest("br0"), lab.guest("br0")
    for b in lab.connection.listAllNWFilterBindings():
        b.delete()
    lab.clean()


def passed(sender, receiver, helper, frames):
    """Which of the frames come through."""
    with subprocess.Popen(receiver.words(sys.executable, "-c", RECEIVE), stdout=subprocess.PIPE, text=True) as there:
        assert there.stdout.readline().strip() == "ready"
        sender.run(sys.executable, "-c", SEND, stdin="\n".join(frames))
        helper.run(sys.executable, "-c", SEND, stdin=frame("end", 0x88b5, "52:54:00:00:00:99"))
        return there.stdout.read().split()


def binding(port, filter_name, parameters=(("IP", "10.0.0.5"),)):
    inside = "".join(f"<parameter name='{name}' value='{value}'/>" for name, value in parameters)
    return (f"<filterbinding><owner><name>vm</name><uuid>11111111-2222-3333-4444-555555555501</uuid></owner><portdev name='{port}'/><linkdev name='br0'/>"
            f"<mac address='{MAC}'/><filterref filter='{filter_name}'>{inside}</filterref></filterbinding>")


OUT = [frame("good", src=MAC), frame("other-mac", src="52:54:00:aa:bb:02"), frame("other-ip", src=MAC, ip_src="10.0.0.6"), frame("dhcp", src=MAC, ip_src="0.0.0.0", ports=(68, 67)),
       frame("arp", "arp", MAC), frame("arp-other-ip", "arp", MAC, arp_ip="10.0.0.6"), frame("arp-other-mac", "arp", MAC, arp_mac="52:54:00:aa:bb:02"),
       frame("announce", "rarp", MAC, arp_mac=MAC, arp_ip="0.0.0.0", op=3, ip_dst="0.0.0.0"), frame("rarp-other", "rarp", MAC, op=4), frame("ipv6", "ipv6", MAC), frame("strange", 0x88b5, MAC),
       frame("vlan", 0x8100, MAC)]


def test_clean_traffic(lab, guests):
    guest, other, helper = guests
    assert len(passed(guest, other, helper, OUT)) == len(OUT), "without a filter everything comes through"
    b = lab.connection.nwfilterBindingCreateXML(binding(guest.port, "clean-traffic"))
    # the announcement asks for the target's address too: this one leaves it empty, so even that is none of ours
    assert passed(guest, other, helper, OUT) == ["good", "dhcp", "arp"]
    back = [frame("in-ip", src="52:54:00:00:00:77", ip_src="10.0.0.77"), frame("in-arp", "arp", "52:54:00:00:00:77", arp_ip="10.0.0.77"), frame("in-ipv6", "ipv6", "52:54:00:00:00:77")]
    with subprocess.Popen(guest.words(sys.executable, "-c", RECEIVE), stdout=subprocess.PIPE, text=True) as there:
        assert there.stdout.readline().strip() == "ready"
        other.run(sys.executable, "-c", SEND, stdin="\n".join(back + [frame("end", src="52:54:00:00:00:77")]))
        assert there.stdout.read().split() == ["in-ip", "in-arp"]
    b.delete()
    assert len(passed(guest, other, helper, OUT)) == len(OUT)
    assert "vireo_nwfilter" not in lab.run("nft", "list", "tables")


def one(action, direction, protocol, priority=500, more=""):
    return f"<rule action='{action}' direction='{direction}' priority='{priority}' {more}>{protocol}</rule>"


@pytest.mark.parametrize("rules, frames, comes", [
    ([one("accept", "out", "<ip protocol='udp' dstportstart='2000' dstportend='2010'/>"), one("drop", "out", "", 600)],
     [frame("in", src=MAC, ports=(1, 2005)), frame("past", src=MAC, ports=(1, 2011)), frame("tcp", src=MAC, ports=(1, 2005), protocol=6)], ["in"]),
    ([one("drop", "out", "<ip match='no' srcipaddr='10.0.0.0' srcipmask='24'/>")], [frame("in", src=MAC), frame("outside", src=MAC, ip_src="10.0.1.5")], ["in"]),
    ([one("drop", "inout", "<mac dstmacaddr='52:54:00:11:00:00' dstmacmask='ff:ff:ff:ff:00:00'/>")],  # mirrored on the way out
     [frame("from", src="52:54:00:11:22:33"), frame("other", src="52:54:00:12:22:33")], ["other"]),
    ([one("accept", "out", "<ip srcipaddr='$IP' protocol='udp' dstportstart='$PORTS[@1]'/>"), one("drop", "out", "", 600)],
     [frame(f"{a}-{p}", src=MAC, ip_src=f"10.0.0.{a}", ports=(1, p)) for a in (5, 6, 7) for p in (10, 20, 30)], ["5-10", "5-20", "6-10", "6-20"]),
    ([one("accept", "out", "<ip srcipaddr='$IP' protocol='udp' dstportstart='$PORTS'/>"), one("drop", "out", "", 600)],  # side by side
     [frame(f"{a}-{p}", src=MAC, ip_src=f"10.0.0.{a}", ports=(1, p)) for a in (5, 6) for p in (10, 20)], ["5-10", "6-20"]),
    ([one("accept", "out", "<ip srcipaddr='$IP[1]'/>"), one("drop", "out", "", 600)], [frame("first", src=MAC), frame("second", src=MAC, ip_src="10.0.0.6")], ["second"]),
    ([one("drop", "out", "<udp dstportstart='7'/>"), one("drop", "in", "<udp srcportstart='9'/>")],  # rules of connections hold both ways
     [frame("a", src=MAC, ports=(1, 7)), frame("b", src=MAC, ports=(1, 9)), frame("c", src=MAC, ports=(1, 8))], ["c"]),
    ([one("accept", "out", "<udp dstportstart='7'/>", 500, "statematch='false'"), one("drop", "out", "<all/>", 600, "statematch='false'")],
     [frame("a", src=MAC, ports=(1, 7)), frame("b", src=MAC, ports=(1, 9)), frame("arp", "arp", MAC)], ["a", "arp"]),
    ([one("drop", "out", "<udp srcipfrom='10.0.0.5' srcipto='10.0.0.8'/>")], [frame("in", src=MAC, ip_src="10.0.0.8"), frame("out", src=MAC, ip_src="10.0.0.9")], ["out"]),
    ([one("drop", "out", "<arp opcode='Request' arpsrcipaddr='10.0.0.0' arpsrcipmask='30'/>")],
     [frame("a", "arp", MAC, arp_ip="10.0.0.3"), frame("b", "arp", MAC, arp_ip="10.0.0.4"), frame("c", "arp", MAC, arp_ip="10.0.0.3", op=2)], ["b", "c"]),
    ([one("return", "out", "<mac protocolid='arp'/>", 1), one("drop", "out", "<mac/>", 2), one("accept", "out", "", 3)], [frame("ip", src=MAC), frame("arp", "arp", MAC)], ["arp"]),
    ([one("drop", "out", "", -5), one("accept", "out", "<mac protocolid='arp'/>", -6)], [frame("ip", src=MAC), frame("arp", "arp", MAC)], ["arp"]),
])
def test_rules(lab, guests, rules, frames, comes):
    guest, other, helper = guests
    f = lab.connection.nwfilterDefineXML(f"<filter name='own'>{''.join(rules)}</filter>")
    b = lab.connection.nwfilterBindingCreateXML(binding(guest.port, "own", (("IP", "10.0.0.5"), ("IP", "10.0.0.6"), ("PORTS", "10"), ("PORTS", "20"))))
    got = passed(guest, other, helper, frames)
    b.delete()
    f.undefine()
    assert got == comes


def test_what_cannot_be_done_is_refused(lab, guests):
    c, port = lab.connection, guests[0].port
    for text, message in (("<tcp connlimit-above='5'/>", "connlimit-above='5' of <tcp>"), ("<arp gratuitous='true'/>", "gratuitous='true'"), ("<stp root-priority='5'/>", "root-priority"),
                          ("<tcp srcipaddr='$NONE'/>", "unresolvable variables or unavailable list elements: NONE"), ("<tcp srcipaddr='$IP[7]'/>", "unavailable list elements: IP")):
        f = c.nwfilterDefineXML(rule(text))
        refused(lambda: c.nwfilterBindingCreateXML(binding(port, "t")), message)
        f.undefine()
    f = c.nwfilterDefineXML(rule("<tcp srcipaddr='$IP'/>"))
    for evil in ("1.2.3.4 accept; }", "x", "::1", "10.0.0.0/8"):
        refused(lambda: c.nwfilterBindingCreateXML(binding(port, "t", (("IP", evil),))), f"srcipaddr has illegal value {evil}")
    f.undefine()
    for evil in ("a b", "x\"y", "a/b", "x*", "averylongdevicename", ""):
        refused(lambda: c.nwfilterBindingCreateXML(binding(evil.replace('"', "&quot;"), "allow-arp")), "")
    refused(lambda: c.nwfilterBindingCreateXML(binding(port, "nosuch")), "referenced filter 'nosuch' is missing", libvirt.VIR_ERR_INTERNAL_ERROR)
    assert not c.listAllNWFilterBindings() and "vireo_nwfilter" not in lab.run("nft", "list", "tables")


def test_binding_document_and_use(lab, guests):
    c, port = lab.connection, guests[0].port
    b = c.nwfilterBindingCreateXML(binding(port, "clean-traffic", (("MAC", "52:54:00:AA:bb:02"), ("IP", "10.0.0.5"))))
    assert b.XMLDesc() == f"""<filterbinding>
  <owner>
    <name>vm</name>
    <uuid>11111111-2222-3333-4444-555555555501</uuid>
  </owner>
  <portdev name='{port}'/>
  <linkdev name='br0'/>
  <mac address='52:54:00:aa:bb:01'/>
  <filterref filter='clean-traffic'>
    <parameter name='IP' value='10.0.0.5'/>
    <parameter name='MAC' value='52:54:00:AA:bb:02'/>
  </filterref>
</filterbinding>
"""
    refused(lambda: c.nwfilterBindingCreateXML(binding(port, "allow-arp")), f"binding '{port}' already exists", libvirt.VIR_ERR_OPERATION_FAILED)
    for name in ("clean-traffic", "no-arp-ip-spoofing"):
        refused(lambda: c.nwfilterLookupByName(name).undefine(), "nwfilter is in use", libvirt.VIR_ERR_OPERATION_INVALID)
    assert [(x.portDev(), x.filterName()) for x in c.listAllNWFilterBindings()] == [(port, "clean-traffic")]
    restart(lab, signal.SIGKILL)
    b = lab.connection.nwfilterBindingLookupByPortDev(port)
    assert b.filterName() == "clean-traffic" and f'"{port}"' in lab.run("nft", "list", "ruleset")
    b.delete()
    refused(lambda: lab.connection.nwfilterBindingLookupByPortDev(port), f"no nwfilter binding for port dev '{port}'", libvirt.VIR_ERR_NO_NWFILTER_BINDING)


def test_changed_filter_and_flushed_rules(lab, guests):
    guest, other, helper = guests
    c = lab.connection
    frames = [frame("ip", src=MAC), frame("arp", "arp", MAC)]
    text = "<filter name='own'><uuid>11111111-2222-3333-4444-555555555508</uuid>%s</filter>"
    f = c.nwfilterDefineXML(text % one("drop", "out", "<mac protocolid='arp'/>"))
    b = c.nwfilterBindingCreateXML(binding(guest.port, "own"))
    assert passed(guest, other, helper, frames) == ["ip"]
    c.nwfilterDefineXML(text % one("drop", "out", "<mac protocolid='ipv4'/>"))
    assert passed(guest, other, helper, frames) == ["arp"], "a changed filter is felt at once"
    refused(lambda: c.nwfilterDefineXML(text % one("drop", "out", "<ip srcipaddr='$NONE'/>")), "NONE")
    assert passed(guest, other, helper, frames) == ["arp"] and "protocolid='ipv4'" in f.XMLDesc(), "one that cannot be changed so stays as it was"
    lab.run("nft", "flush", "ruleset")
    wait_for("the rules are back", lambda: guest.port in lab.run("nft", "list", "ruleset"))
    assert passed(guest, other, helper, frames) == ["arp"]
    b.delete()
    f.undefine()


def acknowledge(address, chaddr=MAC, server="10.0.0.1", kind=5):
    """What a DHCP server says when it gives an address."""
    bootp = bytes([2, 1, 6, 0]) + bytes(12) + ip(address) + bytes(8) + mac(chaddr) + bytes(10 + 64 + 128) + bytes([0x63, 0x82, 0x53, 0x63, 53, 1, kind, 255])
    udp = (67).to_bytes(2, "big") + (68).to_bytes(2, "big") + (8 + len(bootp)).to_bytes(2, "big") + b"\0\0" + bootp
    head = bytes([0x45, 0]) + (20 + len(udp)).to_bytes(2, "big") + bytes([0, 0, 0, 0, 64, 17, 0, 0]) + ip(server) + ip("255.255.255.255")
    total = sum(int.from_bytes(head[i:i + 2], "big") for i in range(0, 20, 2))
    total = 0xffff - ((total & 0xffff) + (total >> 16))
    return (mac("ff:ff:ff:ff:ff:ff") + mac("52:54:00:00:00:01") + b"\x08\0" + head[:10] + total.to_bytes(2, "big") + head[12:] + udp).hex()


def test_address_is_learned_from_the_first_packet(lab, guests):
    guest, other, helper = guests
    lab.connection.nwfilterBindingCreateXML(binding(guest.port, "clean-traffic", ()))
    assert passed(guest, other, helper, [frame("other-mac", src="52:54:00:aa:bb:02"), frame("ipv6", "ipv6", MAC), frame("probe", "arp", MAC, arp_ip="0.0.0.0")]) == ["probe"]
    assert "10.0.0.6" not in lab.run("nft", "list", "ruleset")
    assert passed(guest, other, helper, [frame("first", src=MAC, ip_src="10.0.0.6")]) == ["first"]
    wait_for("the rules have the address", lambda: "10.0.0.6" in lab.run("nft", "list", "ruleset"))
    assert passed(guest, other, helper, OUT) == ["other-ip", "dhcp", "arp-other-ip"], "it is held to the address that it had first"
    restart(lab, signal.SIGKILL)
    assert passed(guest, other, helper, OUT) == ["other-ip", "dhcp", "arp-other-ip"], "the next daemon knows the address"
    lab.connection.nwfilterBindingLookupByPortDev(guest.port).delete()
    b = lab.connection.nwfilterBindingCreateXML(binding(guest.port, "clean-traffic", ()))
    assert passed(guest, other, helper, OUT[:1]) == ["good"], "another guest begins anew"
    b.delete()


def test_address_is_learned_from_dhcp(lab, guests):
    guest, other, helper = guests
    b = lab.connection.nwfilterBindingCreateXML(binding(guest.port, "clean-traffic", (("CTRL_IP_LEARNING", "dhcp"), ("DHCPSERVER", "10.0.0.1"))))
    assert passed(guest, other, helper, OUT) == ["dhcp"], "before it has an address it may only ask for one"
    wrong = [acknowledge("10.0.0.7", server="10.0.0.2"), acknowledge("10.0.0.7", chaddr="52:54:00:aa:bb:02"), acknowledge("10.0.0.7", kind=2), acknowledge("127.0.0.1")]
    other.run(sys.executable, "-c", SEND, stdin="\n".join(wrong + [acknowledge("10.0.0.5")]))
    wait_for("the rules have the address", lambda: "10.0.0.5" in lab.run("nft", "list", "ruleset"))
    with open(f"{lab.root}/vireod.log", encoding="utf-8") as log:
        said = re.findall(f"'{guest.port}' has the address (.*) from now on", log.read())
    assert said == ["10.0.0.5"], "what is no answer to this guest, or of another server, tells nothing"
    assert passed(guest, other, helper, OUT) == ["good", "dhcp", "arp"]
    other.run(sys.executable, "-c", SEND, stdin=acknowledge("10.0.0.6"))
    wait_for("the next lease counts", lambda: "10.0.0.6" in lab.run("nft", "list", "ruleset"))
    assert passed(guest, other, helper, OUT) == ["other-ip", "dhcp", "arp-other-ip"]
    b.delete()
    for mode, message in (("none", "unresolvable variables or unavailable list elements: IP"), ("sometimes", "CTRL_IP_LEARNING is 'sometimes'")):
        refused(lambda: lab.connection.nwfilterBindingCreateXML(binding(guest.port, "clean-traffic", (("CTRL_IP_LEARNING", mode),))), message)


# ---- machines ----

DOMAIN = """<domain type='qemu'><name>vm</name><memory unit='MiB'>32</memory><os><type arch='x86_64' machine='q35'>hvm</type></os><devices>
<interface type='{0}'><mac address='52:54:00:aa:bb:01'/><source bridge='br0'/><model type='virtio'/>{1}</interface></devices></domain>"""
FILTER = "<filterref filter='clean-traffic'><parameter name='IP' value='10.0.0.5'/></filterref>"


def bound(lab):
    return {b.portDev(): b.filterName() for b in lab.connection.listAllNWFilterBindings()}


@pytest.mark.skipif(not os.path.exists("/dev/net/tun"), reason="no /dev/net/tun")
def test_machine(lab):
    c = lab.connection
    c.defineXML(DOMAIN.format("bridge", FILTER)).create()
    try:
        assert bound(lab) == {"vnet0": "clean-traffic"}
        text = lab.run("nft", "list", "ruleset")
        assert '"vnet0" : jump' in text and "52:54:00:aa:bb:01" in text and "10.0.0.5" in text
        nic = re.search(r"<interface.*?</interface>", c.lookupByName("vm").XMLDesc(), re.S).group(0)
        c.lookupByName("vm").updateDeviceFlags(re.sub(r"<filterref.*</filterref>", "<filterref filter='no-mac-spoofing'/>", nic, flags=re.S), libvirt.VIR_DOMAIN_AFFECT_LIVE)
        assert bound(lab) == {"vnet0": "no-mac-spoofing"} and "10.0.0.5" not in lab.run("nft", "list", "ruleset")
        restart(lab, signal.SIGKILL)
        assert bound(lab) == {"vnet0": "no-mac-spoofing"} and '"vnet0" : jump' in lab.run("nft", "list", "ruleset")
        refused(lambda: lab.connection.nwfilterLookupByName("no-mac-spoofing").undefine(), "in use")
    finally:
        lab.connection.lookupByName("vm").destroy()
    assert not bound(lab) and "vireo_nwfilter" not in lab.run("nft", "list", "tables"), "something is left behind the machine"
    lab.connection.lookupByName("vm").create()
    assert bound(lab) == {"vnet0": "clean-traffic"}
    lab.connection.lookupByName("vm").destroy()
    lab.connection.lookupByName("vm").undefine()
    assert not bound(lab)


@pytest.mark.skipif(not os.path.exists("/dev/net/tun"), reason="no /dev/net/tun")
def test_machine_that_cannot_be_filtered_does_not_start(lab):
    for kind, ref, message in (("bridge", "<filterref filter='nosuch'/>", "referenced filter 'nosuch' is missing"), ("user", FILTER, "filterref is not supported for network interfaces of type user"),
                               ("ethernet", FILTER, "filterref is not supported for network interfaces of type ethernet")):
        text = DOMAIN.format(kind, ref)
        if kind != "bridge":
            text = text.replace("<source bridge='br0'/>", "")
        refused(lambda: lab.connection.createXML(text), message)
        assert not bound(lab) and "vireo_nwfilter" not in lab.run("nft", "list", "tables")
        assert "vnet" not in lab.run("ip", "-br", "link")
