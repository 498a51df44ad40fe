# SPDX-License-Identifier: GPL-2.0-or-later
"""`--output json` on every command of `vireo` that shows something. The table of commands decides: what lists, prints, shows or tells is a
listing, and has either a line below that is run and read, or a reason why it has none."""
import json
import os
import re
import subprocess

import pytest

from conftest import BUILD, PLAIN, Vireod
from limits import SLOW

VIREO = os.path.join(BUILD, "vireo")
DOMAIN = """<domain type='qemu'><name>a</name><memory unit='MiB'>64</memory><vcpu current='1'>2</vcpu><iothreads>1</iothreads><os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{0}/a.qcow2'/><target dev='vda' bus='virtio'/></disk>
<interface type='user'><mac address='52:54:00:00:00:0a'/></interface><console type='pty'/><graphics type='vnc' autoport='yes'/></devices></domain>"""

# What shows something that is not a listing: why.
OTHER = {
    r".*dumpxml|capabilities|domcapabilities|sysinfo|pool-capabilities|find-storage-pool-sources.*|snapshot-current|metadata": "a document",
    r"secret-get-value": "the value itself, for a pipe",
    r"echo|pwd|help": "of the shell",
}
# Arguments with which each listing is run while the domain runs.
LISTINGS = {
    "domid": "a", "domname": "a", "domuuid": "a", "blkdeviotune": "a vda", "blkiotune": "a", "cpu-stats": "a", "domiftune": "a 52:54:00:00:00:0a", "emulatorpin": "a",
    "iothreadinfo": "a", "memtune": "a", "numatune": "a", "perf": "a", "schedinfo": "a", "vcpucount": "a", "vcpuinfo": "a", "vcpupin": "a", "blockjob": "a vda",
    "domdisplay": "a", "vncdisplay": "a", "ttyconsole": "a", "domjobinfo": "a", "migrate-compcache": "a", "migrate-getmaxdowntime": "a", "migrate-getspeed": "a",
    "desc": "a", "domlaunchsecinfo": "a", "domcontrol": "a", "dominfo": "a", "domstate": "a --reason", "list": "--all", "domblkerror": "a", "domblkinfo": "a vda", "domblklist": "a --details",
    "domblkstat": "a vda", "domif-getlink": "a 52:54:00:00:00:0a", "domifaddr": "a", "domiflist": "a", "domifstat": "a @interface", "dommemstat": "a", "domstats": "a",
    "event": "--list", "net-event": "--list", "nodedev-event": "--list", "pool-event": "--list", "secret-event": "--list", "top": "-b -n 1 --delay 1",
    "cpu-models": "x86_64", "freecell": "--all", "freepages": "--all", "hostname": "", "maxvcpus": "", "node-memory-tune": "", "nodecpumap": "", "nodecpustats": "",
    "nodeinfo": "", "nodememstats": "", "uri": "", "version": "--daemon", "checkpoint-list": "a", "checkpoint-info": "a c2", "checkpoint-parent": "a c2",
    "snapshot-list": "a", "snapshot-info": "a s2", "snapshot-parent": "a s2", "iface-list": "--all", "iface-mac": "lo", "iface-name": "00:00:00:00:00:00",
    "nwfilter-list": "", "nwfilter-binding-list": "", "net-list": "--all", "net-info": "default", "net-name": "default", "net-uuid": "default",
    "net-dhcp-leases": "default", "net-port-list": "default", "nodedev-list": "", "nodedev-info": "@device", "secret-list": "", "pool-list": "--all --details",
    "pool-info": "default", "pool-name": "default", "pool-uuid": "default", "vol-list": "default --details", "vol-info": "v default", "vol-key": "v default",
    "vol-name": "@root/v", "vol-path": "v default", "vol-pool": "@root/v",
}
# Listings of what this daemon or guest has not: they must fail, and print nothing.
FAILING = {"domfsinfo": "a", "domhostname": "a --source agent", "domtime": "a", "get-user-sshkeys": "a root", "guestinfo": "a", "guestvcpus": "a",
           "nodesevinfo": "", "domifaddr": "a --source agent", "freecell": "--cellno 99", "cpu-stats": "a --start 9999", "event": "--event lifecycle"}


def vireo(uri, *words, before=(), output=("--output", "json")):
    done = subprocess.run([VIREO, *before, "-c", uri, *words, *output], capture_output=True, text=True, env=PLAIN, timeout=30 * SLOW, check=False)
    return done.returncode, done.stdout, done.stderr


def commands():
    """Name, summary and whether it takes --output, of each command in help."""
    text = subprocess.run([VIREO, "--help=man"], capture_output=True, text=True, env=PLAIN, check=True).stdout
    usage = subprocess.run([VIREO, "--help"], capture_output=True, text=True, env=PLAIN, check=True).stdout
    rows = re.findall(r"(?m)^    ([a-z][\w-]*) +(\S.*)$", usage[usage.index("help keyword"):])
    assert len(rows) > 200 and text
    helps = subprocess.run([VIREO, "; ".join(f"help {name}" for name, _ in rows)], capture_output=True, text=True, env=PLAIN, check=True).stdout
    takes = {part.split(" ", 1)[0]: "--output <string>" in part for part in helps.split("  NAME\n    ")[1:]}
    return [(name, summary, takes[name]) for name, summary in rows]


def test_each_listing_is_known():
    wrong = []
    for name, summary, takes in commands():
        shows = summary.split()[0] in ("List", "Show", "Tell", "Print")
        other = any(re.fullmatch(pattern, name) for pattern in OTHER)
        tried = name in LISTINGS or name in FAILING
        if shows and not other and not takes:
            wrong.append(f"{name}: it shows something ({summary}) and knows no --output json")
        if takes and not tried:
            wrong.append(f"{name}: it takes --output, and no test runs it")
        if tried and not takes:
            wrong.append(f"{name}: --output is gone")
    assert not wrong, "\n".join(wrong)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    root = tmp_path_factory.mktemp("json")
    daemon = Vireod(root)
    (root / "a.xml").write_text(DOMAIN.format(root))
    subprocess.run([os.path.join(BUILD, "vireo-img"), "create", "-q", "-f", "qcow2", root / "a.qcow2", "1M"], check=True)
    daemon.virsh("define", root / "a.xml")
    daemon.virsh("start", "a")
    daemon.virsh("desc", "a", "for the test")
    daemon.virsh("vol-create-as", "default", "v", "1M")
    daemon.volume = daemon.virsh("vol-path", "v", "default").strip()
    for name in ("1", "2"):
        daemon.virsh("checkpoint-create-as", "a", f"c{name}")
    for name in ("1", "2"):
        daemon.virsh("snapshot-create-as", "a", f"s{name}", "--disk-only", "--diskspec", f"vda,file={root}/a.{name}")
    yield daemon
    daemon.virsh("destroy", "a")
    daemon.stop()
    daemon.sweep()


def arguments(daemon, text):
    words = text.replace("@root/v", daemon.volume).split()
    if "@interface" in words:
        words[words.index("@interface")] = json.loads(vireo(daemon.uri, "domiflist", "a")[1])[0]["interface"] or "none"
    if "@device" in words:
        words[words.index("@device")] = json.loads(vireo(daemon.uri, "nodedev-list")[1])[0]["name"]
    return words


# What the machine and the network of this test have not (an interface of libslirp has no device on the host).
PARDON = {"domifstat": "is not a known interface", "net-port-list": "is not active"}


def test_listings_are_json(daemon):
    wrong = []
    for name, text in LISTINGS.items():
        status, out, error = vireo(daemon.uri, name, *arguments(daemon, text))
        if status and name in PARDON and PARDON[name] in error:
            print(f"{name}: not here: {error.strip()}")
            assert not out
            continue
        try:
            value = json.loads(out)
        except ValueError:
            value = None
        plain = vireo(daemon.uri, name, *arguments(daemon, text), before=("-q",), output=())[1].strip()
        if status or not isinstance(value, (list, dict)):
            wrong.append(f"{name} {text}: status {status}, {out!r} {error!r}")
        elif not value and plain and not re.match("No ", plain):
            wrong.append(f"{name} {text}: the text is {plain!r}, JSON is empty")
    assert not wrong, "\n".join(wrong)


def test_failing_listings_print_nothing(daemon):
    for name, text in FAILING.items():
        status, out, error = vireo(daemon.uri, name, *text.split())
        assert status and error and not out, f"{name} {text}: {status} {out!r} {error!r}"


def test_values(daemon):
    def value(line):
        status, out, error = vireo(daemon.uri, *line.split())
        assert not status, error
        return json.loads(out)
    assert value("domstate a --reason") == {"state": "running", "reason": "booted"}
    assert value("domname a") == {"name": "a"} and value("domid a") == {"id": 1}
    assert {"which": "maximum", "where": "config", "count": 2} in value("vcpucount a")
    assert value("vcpucount a --config") == {"count": 1}
    assert value("vcpuinfo a")[0]["state"] == "running" and value("vcpuinfo a")[0]["vcpu"] == 0
    assert value("desc a") == {"description": "for the test"}
    assert value("version")["library"].count(".") == 2
    assert {"event": "lifecycle"} in value("event --list")
    assert {"model": "qemu64"} in value("cpu-models x86_64")
    assert value("snapshot-parent a s2") == {"parent": "s1"} and value("checkpoint-parent a c2") == {"parent": "c1"}
    assert value("domjobinfo a") == {"job-type": "None"}
    assert set(value("freepages --all")[0]) == {"node", "page-kib", "free"}
    assert isinstance(value("nodememstats")["total"], int)
    assert value("blockjob a vda") == {}
    # the global option, on a command without listing: as without
    assert vireo(daemon.uri, "dumpxml", "a", before=("-o", "json"), output=())[1].startswith("<domain")
