# SPDX-License-Identifier: GPL-2.0-or-later
"""Documents that libvirt's own schemas allow, at random: what a real libvirt (its test driver, in this process) takes, ours takes, and what that prints ours prints byte
for byte. Kinds of documents that the test driver does not know: ours takes all that the schema allows.

Where the two differ on purpose, DIFFERENT says so. By hand with more of them: VIREO_SCHEMA_DOCUMENTS=20000, VIREO_SCHEMA_SEED=5."""
import os
import subprocess

import pytest
import relaxng

from limits import SLOW

libvirt = pytest.importorskip("libvirt", reason="python3-libvirt is not installed")
FOLDER = "/usr/share/libvirt/schemas"
TOOL = os.path.join(os.environ.get("VIREO_BUILD", "build"), "src", "manage", "rpc", "doc_test")
COUNT = int(os.environ.get("VIREO_SCHEMA_DOCUMENTS", "600"))
SEED = int(os.environ.get("VIREO_SCHEMA_SEED", "1"))
OS = "<os><type arch='x86_64'>hvm</type></os>"
DOMAIN = "<domain type='test'><name>n</name><uuid>11111111-2222-3333-4444-555555555555</uuid>%s%s%s</domain>"
SMALL = "<domain type='test'><name>n</name><memory>1024</memory><os><type arch='x86_64'>hvm</type></os></domain>"

# What our message, or the first line that differs, looks like, and why that is as it is.
DIFFERENT = {
    "16 EiB": "libvirt lets such a size become the largest there is; we say that it is none",
    "stands twice": "libvirt takes the first and drops the other",
    "expected is one of: bind, connect": "libvirt drops a mode that the type does not have",
    "'order' of <boot> is": "the schema's order has no end; firmware counts to 65535",
    "<weight> is": "libvirt takes weights here that no control group takes",
    "<vcpu> is": "more than 65535",
    "of <vcpupin> is": "more than 65535, or a set of processors that is empty",
    "'cpuset' of <vcpu> is": "a set of processors that is empty",
    "_quota> is": "less than -1: libvirt refuses that when it is to be used", "<quota> is": "the same",
    "'size' of <dirty-ring> is": "libvirt checks that for other types of domains",
    "'retries' of <spinlocks> is": "the same",
    "unknown element <target> in <smartcard>": "the schema knows one, libvirt has no use for it and drops it",
    "unknown element <model> in <target>": "the same, of devices that have no such model",
    "unknown attribute 'type' of <adapter>": "the same", "unknown attribute 'multifunction'": "the same", "unknown attribute 'device'": "the same",
    "unknown element <vendor> in <format>": "the same", "unknown element <product> in <format>": "the same",
    "unknown element <privateData>": "of libvirt's own status files",
    "'rotation_rate' of <target> is": "a rate of rotation that no disk can tell",
    "'startport' of <master> is": "libvirt drops what is no number",
    "'iothread' of <driver> is '0'": "libvirt takes that for none",
    "'queues' of <driver> is": "more than 65535", "_queue_size' of <driver> is": "the same",
    "of <nvram> is 'vhostuser'": "libvirt refuses such a domain when it is to run",
    "bound> is '0": "a bandwidth of 0: libvirt drops it",
    "<parent> is ''": "the text is what names it",
    "name without '/'": "libvirt takes a name here that cannot be a file's or an interface's",
    "<creationTime> is": "text that libvirt drops unless a snapshot is redefined",
    "<domain> lacks": "as old snapshots have it, with no more than a UUID: libvirt drops it unless a snapshot is redefined",
    "<backend model='egd'": "written with an end of its own by libvirt, which refuses such a domain when it is to run",
}

# Of documents that only the schema is a judge of.
UNJUDGED = dict(DIFFERENT, **{
    "with 0x": "the schema takes hexadecimal digits without 0x, libvirt's parser of these does not",
    "unknown attribute 'floor' of <outbound>": "libvirt refuses that as well",
})


def ours(schema, path, text):
    path.write_text(text, encoding="utf-8")
    done = subprocess.run([TOOL, "format", schema, str(path)], capture_output=True, encoding="utf-8", check=False, timeout=20 * SLOW)
    return done.returncode == 0, done.stdout


def first_difference(a, b):
    lines = zip(a.split("\n") + [""], b.split("\n") + [""])
    return next(f"libvirt: {x}  ours: {y}" for x, y in lines if x != y)


class Findings:
    """What no one meant, once for each shape of it."""

    def __init__(self, different):
        self.different, self.found, self.taken = different, {}, 0

    def add(self, what, text):
        if 'model="none"' in text and "<memballoon" in text and "of <address> is" in what:
            return # libvirt does not look at the address of a balloon that is none
        if not any(pattern in what for pattern in self.different):
            self.found.setdefault(relaxng.shape(what), f"{what.strip()}\n    of {text[:1500]}")

    def check(self, schema, path, text, printed):
        good, out = ours(schema, path, text)
        if not good:
            self.add(out, text)
            return
        self.taken += 1
        if printed is None:
            return
        good, out = ours(schema, path, printed)
        if not good:
            self.add(out, printed)
        elif out != printed:
            self.add(first_difference(printed, out), printed)

    def report(self):
        assert not self.found, "\n".join(self.found.values())
        assert self.taken > COUNT // 20, f"only {self.taken} documents of {COUNT} were compared"


@pytest.fixture(scope="module", name="judge")
def fixture_judge():
    libvirt.registerErrorHandler(lambda context, error: None, None)
    connection = libvirt.open("test:///default")
    yield connection
    connection.close()


def defined(define, text, flags=0):
    """What libvirt makes of it; None: it refuses."""
    try:
        thing = define(text)
        printed = thing.XMLDesc(flags)
        (thing.undefine if hasattr(thing, "undefine") else thing.delete)()
        return printed
    except libvirt.libvirtError:
        return None


def test_domains(judge, tmp_path):
    grammar = relaxng.Grammar(os.path.join(FOLDER, "domain.rng"))
    drawer = relaxng.Drawer(grammar, SEED, replace={"privatedata": ""})
    devices = relaxng.inside(grammar, "devices")
    others = relaxng.inside(grammar, "domaincontents", skip=("devices", "ids", "hvs")) or relaxng.inside(grammar, "domain", skip=("devices", "ids", "hvs"))
    findings = Findings(DIFFERENT)
    for _ in range(COUNT):
        device = drawer.random.random() < 0.7
        piece = drawer.document(drawer.random.choice(devices if device else others))
        body = OS + f"<devices>{piece}</devices>" if device else piece if "<os" in piece else OS + piece
        text = DOMAIN % ("" if not device and "<memory" in body else "<memory unit='KiB'>6048576</memory>", "" if "<vcpu" in body else "<vcpu>8</vcpu>", body)
        printed = defined(judge.defineXML, text, libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
        if printed:
            findings.check("domain", tmp_path / "in.xml", text, printed)
    findings.report()


KINDS = {"network": ("network.rng", "networkDefineXML"), "interface": ("interface.rng", "interfaceDefineXML"), "pool": ("storagepool.rng", "storagePoolDefineXML"),
         "secret": ("secret.rng", None), "nodedev": ("nodedev.rng", None), "networkport": ("networkport.rng", None), "nwfilter": ("nwfilter.rng", None)}


@pytest.mark.parametrize("schema", KINDS)
def test_others(judge, tmp_path, schema):
    file, define = KINDS[schema]
    grammar = relaxng.Grammar(os.path.join(FOLDER, file))
    drawer = relaxng.Drawer(grammar, SEED)
    findings = Findings(DIFFERENT if define else UNJUDGED)
    for _ in range(COUNT // 2):
        text = drawer.document(grammar.start)
        printed = defined(getattr(judge, define), text) if define else None
        if printed or not define:
            findings.check(schema, tmp_path / "in.xml", text, printed)
    findings.report()
