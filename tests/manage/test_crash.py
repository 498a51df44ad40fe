# SPDX-License-Identifier: GPL-2.0-or-later
"""kill -9 of the daemon at random moments while domains are defined, started, stopped and undefined: no definition is lost, no machine is an orphan."""
import os
import random
import signal
import threading
import time

import libvirt
import pytest

from limits import SLOW
from test_domain import kernel, machines, state_files, uuid, vireod, wait_for  # noqa: F401 fixtures

ROUNDS = int(os.environ.get("VIREO_CRASHES", "100"))
DOMAINS = 4

DOMAIN = """<domain type='qemu'><name>d{n}</name><uuid>{uuid}</uuid><title>{title}</title><memory unit='MiB'>16</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type><kernel>{kernel}</kernel></os></domain>"""


class Load:
    """One client with one domain. `known`: what the daemon has said; None while a call is on its way: either may be true."""

    def __init__(self, vireod, kernel, n, seed):
        self.vireod, self.kernel, self.n, self.random = vireod, kernel, n, random.Random(seed)
        self.title = None          # of the definition that was acknowledged; None: none
        self.maybe = ()            # titles that may be there instead, None among them
        self.running = False       # True, False, None
        self.stop = False
        self.failure = None

    def xml(self, title):
        return DOMAIN.format(n=self.n, uuid=uuid(self.n), title=title, kernel=self.kernel)

    def step(self, c):
        what = self.random.choice(("define", "start", "start", "destroy", "undefine", "define"))
        if what == "define":
            title = f"t{self.random.randrange(1 << 30)}"
            self.maybe = (title,)
            c.defineXML(self.xml(title))
            self.title, self.maybe = title, ()
        elif what == "undefine" and self.title and self.running is False:
            self.maybe = (None,)
            c.lookupByName(f"d{self.n}").undefine()
            self.title, self.maybe = None, ()
        elif what == "start" and self.title and self.running is False:
            self.running = None
            c.lookupByName(f"d{self.n}").create()
            self.running = True
        elif what == "destroy" and self.running:
            self.running = None
            c.lookupByName(f"d{self.n}").destroy()
            self.running = False

    def run(self):
        try:
            c = libvirt.open(self.vireod.uri)
        except libvirt.libvirtError:
            return
        try:
            while not self.stop:
                self.step(c)
        except libvirt.libvirtError as e:
            if not self.stop:
                self.failure = str(e)
        finally:
            try:
                c.close()
            except libvirt.libvirtError:
                pass

    def check(self, c, live):
        """After the new start: what was acknowledged is true; what was under way is one or the other."""
        try:
            d = c.lookupByName(f"d{self.n}")
            title = d.metadata(libvirt.VIR_DOMAIN_METADATA_TITLE, None, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
        except libvirt.libvirtError as e:
            assert e.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN, e
            d, title = None, None
        assert title == self.title or title in self.maybe, f"d{self.n} is {title}, not {self.title} or {self.maybe}"
        active = bool(d and d.isActive())
        assert self.running is None or active == self.running, f"d{self.n} runs: {active}, not {self.running}"
        assert active == (f"d{self.n}" in live), f"d{self.n} runs: {active}, and its process: {live}"
        self.title, self.maybe, self.running = title, (), active


def live_names(vireod):
    names = {}
    for pid in machines(vireod):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                words = f.read().split(b"\0")
        except OSError:
            continue
        if b"-name" in words:
            name = words[words.index(b"-name") + 1].decode().replace("guest=", "").split(",")[0]
            assert name not in names, f"two machines of {name}"
            names[name] = pid
    return names


def settled(vireod, c):
    """Machines that the new daemon ends because they were half started are gone soon."""
    def same():
        return sorted(live_names(vireod)) == sorted(d.name() for d in c.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE))
    wait_for("the machines and the list agree", same)
    return live_names(vireod)


@pytest.fixture(autouse=True)
def quiet():
    libvirt.registerErrorHandler(lambda *a: None, None)


def test_hundred_kills(vireod, kernel):
    seed = int(os.environ.get("VIREO_SEED", time.time_ns() & 0xffffffff))
    print("VIREO_SEED", seed)
    moments = random.Random(seed)
    loads = [Load(vireod, kernel, n, seed + n) for n in range(1, DOMAINS + 1)]
    kills = 0
    until = time.monotonic() + 35
    while kills < min(ROUNDS, 40) or kills < ROUNDS and time.monotonic() < until:
        threads = [threading.Thread(target=load.run) for load in loads]
        for load in loads:
            load.stop = False
        for t in threads:
            t.start()
        time.sleep(moments.uniform(0.02, 0.15))
        for load in loads:
            load.stop = True
        vireod.process.send_signal(signal.SIGKILL)
        vireod.process.wait()
        kills += 1
        for t in threads:
            t.join(20 * SLOW)
        assert not [load.failure for load in loads if load.failure]
        vireod.start()
        c = libvirt.open(vireod.uri)
        live = settled(vireod, c)
        for load in loads:
            load.check(c, live)
        c.close()
    print(kills, "kills")
    c = libvirt.open(vireod.uri)
    for d in c.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
        d.destroy()
    c.close()
    assert not machines(vireod) and not state_files(vireod)
    vireod.stop()
    vireod.start()
    folder = os.path.join(vireod.root, "etc/vireo/qemu")
    assert not [f for f in os.listdir(folder) if f.startswith(".")], "half written files are left"
