# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line `vireo` beside Debian's virsh: same command lines, same output and status.

`vireo-libvirt` is our program linked to libvirt's own library: with test:///default both programs then have the same machines, networks
and pools, made anew for each command line. `vireo` itself is tried on vireod, beside virsh on the same daemon. cli_lines.txt holds the
command lines; DIFFERENT says where vireo does something else, and why.
"""
import concurrent.futures
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import time

import pytest

from conftest import BUILD, HERE, PLAIN
from crash_lab import can_trace
from limits import SLOW

VIREO = os.path.join(BUILD, "vireo")
ON_LIBVIRT = os.path.join(BUILD, "vireo-libvirt")
SOURCE = os.path.dirname(os.path.dirname(HERE))

# Command line (or what it begins with): why the output differs.
DIFFERENT = {
    "net-name default": "virsh wants a UUID here, vireo takes a name too",
    "pool-name default": "virsh wants a UUID here, vireo takes a name too",
    "nodecpustats --percent": "virsh divides by zero on a host without numbers",
    "secret-list": "virsh asks such an old driver in the old way as well, and says so",
    "nwfilter-list": "virsh asks such an old driver in the old way as well, and says so",
    "nodedev-list": "vireo lists the devices of drivers that know no inactive ones, virsh fails",
    "vcpupin test 0 foo": "virsh adds what its parser said",
    "attach-disk test /foo vdb --address foo": "vireo says what addresses look like",
    "attach-disk test /foo vdb --targetbus virtio": "virsh says it was an internal error",
    "blockcopy test vda --dest /x --wait": "vireo has only the newer of two calls",
}
# Numbers that are not the same twice.
NOISE = [(r"CPU time:.*", "CPU time"), (r"Time: [\d.]+ ms", "Time"), (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"), (r"(rd|wr)_(req|bytes) \d+", r"\1 \2"),
         (r"number of .*", "number"), (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000", "DATE"), (r"<creationTime>\d+", "TIME"), (r"\b17\d{8}\b", "TIME"),
         (r"(errs|error count:)\s+\d+", "errs"),
         (r"(?m)^\d{4}-\d\d-\d\d [\d:.]+\+0000: \d+: (info|warning|debug) : .*\n?", "")] # libvirt's own log, of a host without a name in DNS


def quiet(text):
    for pattern, with_what in NOISE:
        text = re.sub(pattern, with_what, text)
    return text


def run(program, words, env=None, stdin="", timeout=30):
    done = subprocess.run([program, *words], env={**PLAIN, "EDITOR": "true", "TZ": "UTC", **(env or {})}, input=stdin, capture_output=True, text=True,
                          timeout=timeout * SLOW, check=False)
    return done.returncode, quiet(done.stdout), quiet(done.stderr)


def judge(words):
    """virsh. Of a job (save, dump) that is over before it waits for its end it waits for ever, as on a host with much to do: the threads that
    do such jobs begin a little later, and it is asked again when it does not end."""
    if not re.search("save|dump", words[-1]):
        return run("virsh", words)
    later = [] if can_trace() else ["-f", "-qq", "-o", "/dev/null", "-e", "trace=set_robust_list", "-e", "inject=set_robust_list:delay_exit=300000",
                                     "timeout", "-s", "KILL", str(20 * SLOW), "virsh"]  # which outlives its tracer
    for _ in range(10):
        try:
            return run("strace" if later else "virsh", [*later, *words], timeout=8)
        except subprocess.TimeoutExpired:
            pass
    raise AssertionError(f"virsh never ends: {words}")


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    """Documents for the command lines: another domain, network and pool."""
    folder = tmp_path_factory.mktemp("documents")

    def document(name, words, changes):
        text = subprocess.run(["virsh", "-c", "test:///default", *words], env=PLAIN, capture_output=True, text=True, check=True).stdout
        for old, new in [(r"\s*<uuid>.*</uuid>", "")] + changes:
            text = re.sub(old, new, text)
        (folder / name).write_text(text)
    document("new.xml", ["dumpxml", "test"], [("<name>test", "<name>new")])
    document("n.xml", ["net-dumpxml", "default"], [("<name>default", "<name>n2"), ("virbr0", "virbr9")])
    document("p.xml", ["pool-dumpxml", "default-pool"], [("<name>default-pool", "<name>p2")])
    return folder


def command_lines(folder):
    with open(os.path.join(HERE, "cli_lines.txt"), encoding="utf-8") as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                yield line.rstrip("\n").replace("@/", f"{folder}/")


def different(line, folder):
    plain = line.replace(f"{folder}/", "@/")
    return next((why for begin, why in DIFFERENT.items() if plain.startswith(begin)), None)


@pytest.mark.skipif(not os.path.exists(ON_LIBVIRT), reason="vireo-libvirt was not built: libvirt-dev is missing")
def test_same_as_virsh(documents):
    lines = [line for line in command_lines(documents) if not different(line, documents)]

    def both(line):
        words = line.split() if line.startswith("-") else ["-c", "test:///default", line]
        return line, judge(words), run(ON_LIBVIRT, words)
    wrong = []
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for line, theirs, ours in pool.map(both, lines):
            if theirs != ours:
                wrong.append(f"{line}\n  virsh: {theirs}\n  vireo: {ours}")
    assert not wrong, f"{len(wrong)} of {len(lines)} command lines differ:\n" + "\n".join(wrong)


# On vireod: what both programs are asked, one after the other.
ON_DAEMON = """list --all; dominfo a; domstate a --reason; domid a; domuuid a; domblklist a --details; domiflist a; dumpxml a; vcpucount a; vcpuinfo a; desc a;
dumpxml a --xpath //name; domifaddr a; autostart a; autostart a --disable; net-list --all; net-info default; net-dumpxml default; net-dhcp-leases default;
pool-list --all --details; pool-info default; pool-dumpxml default; vol-list default --details; secret-list; nodeinfo; uri; version; hostname; maxvcpus; capabilities;
nodedev-list --cap pci; nwfilter-list; iface-list --all; domstats --state; dominfo nosuch; start nosuch; net-start nosuch; domrename a a; setvcpus a 0; memtune a; schedinfo a; qemu-attach 1; send-process-signal a 1 hup;
list --inactive --name; list --uuid; freecell; nodecpumap; nodememstats; event --list; vol-info nosuch default; undefine a --nvram --keep-nvram; metadata a http://x"""
DOMAIN = """<domain type='qemu'><name>a</name><memory unit='MiB'>64</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices><disk type='file' device='disk'><source file='/tmp/none.img'/><target dev='vda' bus='virtio'/></disk><interface type='user'/><console type='pty'/></devices></domain>"""


def test_same_on_vireod(vireod, tmp_path):
    (tmp_path / "a.xml").write_text(DOMAIN)
    vireod.virsh("define", tmp_path / "a.xml")
    wrong = []
    noise = [(r"(user|system|idle|iowait|free|buffers|cached|intr)\s*:.*", "number"), (r"\d+ KiB", "KiB")]
    for line in re.split(r";\s*", ON_DAEMON):
        answers = []
        for program in ("virsh", VIREO):
            status, out, error = run(program, ["-c", vireod.uri, line])
            if line.startswith(("node", "free", "capab")):
                for pattern, with_what in noise:
                    out = re.sub(pattern, with_what, out)
            answers.append((status, out, error))
        if answers[0] != answers[1]:
            wrong.append(f"{line}\n  virsh: {answers[0]}\n  vireo: {answers[1]}")
    assert not wrong, "\n".join(wrong)


# Both programs on a real libvirtd; each line leaves things as it found them.
ON_LIBVIRTD = """list --all; dominfo a; domblklist a --details; domiflist a; vcpucount a; vcpuinfo a; memtune a; schedinfo a; dumpxml a; domstate a --reason;
start a~domstate a~suspend a~domstate a --reason~resume a~domdisplay a~domjobinfo a~qemu-monitor-command a --pretty --return-value query-status~destroy a;
desc a text~desc a~desc a --title x~list --all --title~desc a ''~desc a --title ''; autostart a~autostart a --disable; net-list --all; net-info default; net-dumpxml default;
pool-define-as p dir --target @/pool~pool-build p~pool-start p~pool-list --details~vol-create-as p x.qcow2 10M --format qcow2~vol-list p --details~vol-info x.qcow2 p~vol-dumpxml x.qcow2 p
~vol-resize x.qcow2 20M p~vol-clone x.qcow2 y.qcow2 p~vol-delete y.qcow2 p~vol-delete x.qcow2 p~pool-destroy p~pool-delete p~pool-undefine p;
attach-disk a @/disk.img vdb --config~domblklist a --inactive~detach-disk a vdb --config; setmaxmem a 128M --config~dominfo a~setmaxmem a 64M --config; secret-list; nwfilter-list; nodedev-list --tree;
nodedev-list --cap pci; iface-list --all; version --daemon; domcapabilities; cpu-models x86_64; maxvcpus; freepages --all; event --event lifecycle --timeout 1; dominfo nosuch; undefine nosuch;
domxml-to-native qemu-argv a; snapshot-list a; checkpoint-list a; snapshot-create-as a s --print-xml"""


def test_same_on_libvirtd(tmp_path):
    if os.geteuid() != 0 or not shutil.which("libvirtd"):
        pytest.skip("no libvirtd here (or not root)")
    (tmp_path / "disk.img").write_bytes(bytes(2**20))
    (tmp_path / "libvirtd.conf").write_text(f'unix_sock_dir = "{tmp_path}"\nauth_unix_rw = "none"\nunix_sock_ro_perms = "0777"\n')
    (tmp_path / "a.xml").write_text(DOMAIN.replace("/tmp/none.img", f"{tmp_path}/disk.img").replace("<interface type='user'/>", "<graphics type='vnc' port='-1'/>"))
    script = ("mount --make-rprivate /; for d in /run /etc/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do mount -t tmpfs none $d || exit 1; done; ip link set lo up; "
              "printf 'user=\"root\"\\ngroup=\"root\"\\nsecurity_driver=\"none\"\\nstdio_handler=\"file\"\\nnamespaces=[]\\ncgroup_controllers=[]\\n' > /etc/libvirt/qemu.conf; "
              f"exec libvirtd -f {tmp_path}/libvirtd.conf -p {tmp_path}/pid -t 60")
    uri = f"qemu+unix:///system?socket={tmp_path}/libvirt-sock"
    noise = [(r"(CPU|system|user)( time)?:.*", "CPU"), (r'"?id"?: ?"libvirt-\d+"', "id"), (r"<[abcm]time>.*", "time"), (r"\d+\.\d+ GiB", "GiB"), (r"KiB: \d+", "KiB: free")]
    with subprocess.Popen(["unshare", "-m", "-n", "sh", "-c", script], env=PLAIN, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as daemon:
        try:
            until = time.monotonic() + 20 * SLOW
            while run("virsh", ["-c", uri, "define", str(tmp_path / "a.xml")])[0]:
                assert time.monotonic() < until and daemon.poll() is None, "libvirtd does not answer"
                time.sleep(0.2)
            wrong = []
            for line in re.split(r";\s*", ON_LIBVIRTD):
                line = re.sub(r"\s*~\s*", "; ", line).replace("@", str(tmp_path))
                answers = []
                for program in ("virsh", VIREO):
                    status, out, error = run(program, ["-c", uri, line])
                    for pattern, with_what in noise:
                        out = re.sub(pattern, with_what, out)
                    answers.append((status, out, error))
                if answers[0] != answers[1]:
                    wrong.append(f"{line}\n  virsh: {answers[0]}\n  vireo: {answers[1]}")
            run("virsh", ["-c", uri, "destroy a"])
            assert not wrong, "\n".join(wrong)
        finally:
            daemon.terminate()
            daemon.wait(20 * SLOW)


def test_listings_as_json(vireod, tmp_path):
    (tmp_path / "a.xml").write_text(DOMAIN)
    vireod.virsh("define", tmp_path / "a.xml")
    for line in ("list --all", "dominfo a", "domblklist a", "domblklist a --details", "domiflist a", "net-list --all", "net-info default", "pool-list --all",
                 "pool-list --details", "pool-info default", "vol-list default", "secret-list", "nodedev-list", "nodeinfo", "domstats", "top -b -n 1 --delay 1"):
        words = line.split()
        status, out, error = run(VIREO, ["-q", "-c", vireod.uri, *words, "--output", "json"])
        if "unknown procedure" in error:
            print(f"{line}: vireod does not serve this call yet")
            continue
        assert status == 0, f"{line}: {error}"
        assert isinstance(json.loads(out), (list, dict)), f"{line}: {out}"
    status, out, _ = run(VIREO, ["-q", "-c", vireod.uri, "--output", "json", "list", "--all"])
    assert json.loads(out) == [{"id": None, "name": "a", "state": "shut off"}]
    status, out, _ = run(VIREO, ["-q", "-c", vireod.uri, "-o", "json", "dominfo a"])
    assert json.loads(out)["cpus"] == 1 and json.loads(out)["max-memory"] == "65536 KiB"
    for command, key, value in (("blkdeviotune a vda --config", "total-iops-sec", 7), ("memtune a --config", "hard-limit", "unlimited"), ("schedinfo a --config", "scheduler", "posix")):
        if "iotune" in command:
            vireod.virsh("blkdeviotune", "a", "vda", "--total-iops-sec", "7", "--config")
        status, out, error = run(VIREO, ["-q", "-c", vireod.uri, "--output", "json", *command.split()])
        assert status == 0 and json.loads(out)[key] == value, f"{command}: {out} {error}"


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, words, env):
        self.pid, self.fd = pty.fork()
        if not self.pid:
            os.execvpe(words[0], words, env)
        self.seen = ""

    def expect(self, pattern, timeout=15):
        until = time.monotonic() + timeout * SLOW
        while not re.search(pattern, self.seen):
            assert time.monotonic() < until, f"'{pattern}' does not come; the terminal shows: {self.seen!r}"
            if select.select([self.fd], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.fd, 4096).decode(errors="replace")
                except OSError:
                    break
        assert re.search(pattern, self.seen), self.seen
        found, self.seen = self.seen, ""
        return found

    def send(self, text):
        os.write(self.fd, text.encode())

    def end(self):
        """Its status, when it has ended by itself."""
        until = time.monotonic() + 15 * SLOW
        while not (ended := os.waitpid(self.pid, os.WNOHANG))[0]:
            assert time.monotonic() < until, f"it does not end; the terminal shows: {self.seen!r}"
            if select.select([self.fd], [], [], 0.05)[0]:
                try:
                    self.seen += os.read(self.fd, 4096).decode(errors="replace")
                except OSError:
                    time.sleep(0.05)
        os.close(self.fd)
        return ended[1]


def test_shell(tmp_path):
    env = dict(PLAIN, HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path), TERM="vt100")
    t = Terminal([VIREO, "-c", "test:///default"], env)
    t.expect("Welcome to vireo(.|\n)*vireo # ")
    t.send("domst\tte\t\n")  # completes to "domstate", which "domstats" makes ambiguous, so the letter is typed
    t.expect("error: unknown command|vireo # ")
    t.send("dominf\t te\t\n")
    assert "Name:           test" in t.expect("(?s)Managed save.*vireo # ")
    t.send("net-na\t \n")
    t.expect("vireo # ")
    t.send("list --in\t\n")
    t.expect("(?s)Id .*vireo # ")
    t.send("cd /; pwd\n")
    t.expect("(?s)\n/\r?\n.*vireo # ")
    t.send("nonsense\n")
    t.expect("unknown command: 'nonsense'")
    t.send("quit\n")
    assert t.end() == 0
    assert "dominfo" in (tmp_path / "vireo" / "history").read_text()


def test_shell_from_a_pipe():
    status, out, error = run(VIREO, ["-c", "test:///default"], stdin="list --name\nnonsense\ndomname 1\nquit\nlist\n")
    assert status == 0 and "unknown command: 'nonsense'" in error
    assert out.count("test\n") == 2


def test_edit(vireod, tmp_path):
    (tmp_path / "a.xml").write_text(DOMAIN)
    vireod.virsh("define", tmp_path / "a.xml")
    env = {"EDITOR": "sed -i s/65536/131072/"}
    where = ["-c", vireod.uri]
    status, out, error = run(VIREO, [*where, "edit", "a"], env)
    assert status == 0 and "Domain 'a' XML configuration edited." in out, error
    assert "Max memory:     131072 KiB" in vireod.virsh("dominfo", "a")
    status, out, _ = run(VIREO, [*where, "edit", "a"])
    assert status == 0 and "not changed" in out
    bad = {"EDITOR": "sed -i s/vcpu/vcpuu/g"}
    status, _, error = run(VIREO, [*where, "edit", "a"], bad, stdin="n\n")
    assert status == 1 and "Failed. Try again? [y,n,f,?]:" in error and "vcpuu" in error
    assert "vcpuu" not in vireod.virsh("dumpxml", "a")


def test_volumes_travel(vireod, tmp_path):
    data = os.urandom(300000)
    (tmp_path / "in").write_bytes(data)
    where = ["-c", vireod.uri]
    assert run(VIREO, [*where, f"vol-create-as default v 1M; vol-upload v {tmp_path}/in default; vol-download v {tmp_path}/out default"])[0] == 0
    assert (tmp_path / "out").read_bytes() == data + bytes(2**20 - len(data))
    assert run(VIREO, [*where, "vol-download", "v", f"{tmp_path}/part", "default", "--offset", "100", "--length", "1k"])[0] == 0
    assert (tmp_path / "part").read_bytes() == data[100:1124]
    status, _, error = run(VIREO, [*where, "vol-download", "nosuch", f"{tmp_path}/none", "default"])
    assert status == 1 and "failed to get vol 'nosuch'" in error and not (tmp_path / "none").exists()


def test_events(vireod, tmp_path):
    with subprocess.Popen([VIREO, "-c", vireod.uri, "event", "--event", "lifecycle"], env=PLAIN, stdout=subprocess.PIPE, text=True) as p:
        for n in range(1000):  # until it listens
            (tmp_path / "a.xml").write_text(DOMAIN.replace("<name>a<", f"<name>a{n}<"))
            vireod.virsh("define", tmp_path / "a.xml")
            if p.poll() is not None:
                break
        out = p.communicate(timeout=25 * SLOW)[0]
    assert p.returncode == 0 and re.search(r"event 'lifecycle' for domain 'a\d+': Defined Added\nevents received: 1\n", out), out


def test_readonly(vireod, tmp_path):
    (tmp_path / "a.xml").write_text(DOMAIN)
    vireod.virsh("define", tmp_path / "a.xml")
    status, _, error = run(VIREO, ["-r", "-c", vireod.uri + "-ro", "undefine", "a"])
    assert status == 1 and "error:" in error and "read only" in error
    assert "a" in vireod.virsh("list", "--all")


def test_run_and_rm(vireod, tmp_path):
    """A guest from a raw image (it need not boot), its document, disks and seed; then all of it gone."""
    (tmp_path / "image.img").write_bytes(bytes(2**20))
    key = tmp_path / "key.pub"
    key.write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFake me\n")
    where = ["-c", vireod.uri]
    status, out, error = run(VIREO, [*where, "run", str(tmp_path / "image.img"), "--name", "g", "--ssh-key", str(key), "--user", "ann", "--memory", "128M",
                                     "--vcpus", "1", "--disk", "64M", "--network", "user", "--no-wait"])
    assert status == 0 and "Domain 'g' started" in out, error
    assert "running" in vireod.virsh("domstate", "g")
    assert "g-seed.iso" in vireod.virsh("vol-list", "default") and "g.qcow2" in vireod.virsh("vol-list", "default")
    vireod.virsh("vol-download", "g-seed.iso", tmp_path / "seed.iso", "default")
    label = subprocess.run(["blkid", "-o", "export", tmp_path / "seed.iso"], capture_output=True, text=True, check=True).stdout
    assert "LABEL=cidata" in label and "TYPE=iso9660" in label
    text = (tmp_path / "seed.iso").read_bytes()
    assert b"- name: ann\n" in text and b"ssh-ed25519 AAAA" in text and b"local-hostname: g\n" in text
    backing = subprocess.run(["qemu-img", "info", "-U", "--output=json", vireod.virsh("vol-path", "g.qcow2", "default").strip()], capture_output=True, check=True).stdout
    assert json.loads(backing)["backing-filename"] == str(tmp_path / "image.img") and json.loads(backing)["virtual-size"] == 64 * 2**20
    status, _, error = run(VIREO, [*where, "run", str(tmp_path / "image.img"), "--name", "g", "--ssh-key", str(key)])
    assert status == 1 and "there is a domain 'g' already" in error
    status, _, error = run(VIREO, [*where, "rm", "g"], stdin="n\n")
    assert status == 1 and "nothing was removed" in error and "running" in vireod.virsh("domstate", "g")
    status, out, error = run(VIREO, [*where, "rm", "g"], stdin="y\n")
    assert status == 0 and "Domain 'g' removed" in out, error
    assert "g" not in vireod.virsh("list", "--all", "--name").split() and vireod.virsh("vol-list", "default").count("g.qcow2") == 0
    status, _, error = run(VIREO, [*where, "run", "/none.qcow2"])
    assert status == 1 and "there is no image '/none.qcow2'" in error


def test_run_refuses_before_it_makes(vireod, tmp_path):
    """Names that are taken, a disk too small and what is no image are refused while nothing is there yet."""
    (tmp_path / "image.img").write_bytes(bytes(2**20))
    (tmp_path / "empty.img").write_bytes(b"")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "big.qcow2", "20G"], check=True)
    (tmp_path / "key.pub").write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFake me\n")
    vireod.virsh("vol-create-as", "default", "taken-seed.iso", "1M")
    before = vireod.virsh("vol-list", "default")
    for image, words, message in (("image.img", ["--name", "taken"], "there is a volume 'taken-seed.iso' in the pool 'default' already"),
                                  ("image.img", ["--name", "a b"], "'a b' is no name for a guest"),
                                  ("image.img", ["--name", "-x"], "is no name for a guest"),
                                  ("big.qcow2", ["--disk", "5G"], "the disk of the image has 21474836480 bytes, --disk cannot be less"),
                                  ("empty.img", [], "is no image"), (".", [], "is no image")):
        status, _, error = run(VIREO, ["-c", vireod.uri, "run", str(tmp_path / image), "--ssh-key", str(tmp_path / "key.pub"), "--network", "user", "--no-wait", *words])
        assert status == 1 and message in error, f"{image} {words}: {error}"
    assert vireod.virsh("vol-list", "default") == before and vireod.virsh("list", "--all", "--name").strip() == ""


def test_run_interrupted_leaves_nothing(vireod, tmp_path):
    """While the Debian image is made: the maker ends, its directory is empty, no guest is there."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "mmdebstrap").write_text(f"#!/bin/sh\ntouch $TMPDIR/tree {tmp_path}/begun\nsleep 60\n")
    (tools / "mmdebstrap").chmod(0o755)
    env = {**PLAIN, "PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(tmp_path / "home"), "XDG_CONFIG_HOME": str(tmp_path / "home/.config")}
    with subprocess.Popen([VIREO, "-c", vireod.uri, "run", "debian", "--base-dir", tmp_path / "base", "--network", "user"], env=env, stderr=subprocess.PIPE, text=True) as p:
        until = time.monotonic() + 30 * SLOW
        while not (tmp_path / "begun").exists():
            assert p.poll() is None and time.monotonic() < until, "the image is not begun: " + p.stderr.read()
            time.sleep(0.05)
        assert [name for name in os.listdir(tmp_path / "base") if name.startswith(".debian.")]
        p.send_signal(signal.SIGINT)
        error = p.communicate(timeout=30 * SLOW)[1]
    assert p.returncode == 1 and "interrupted: nothing was made" in error, error
    assert sorted(os.listdir(tmp_path / "base")) == [".making", "image.log"]
    assert vireod.virsh("list", "--all", "--name").strip() == "" and "debian" not in vireod.virsh("vol-list", "default")


def test_list_of_commands():
    """docs/compatibility-manage.md and the program name the same commands, and each of virsh's is among them."""
    text = subprocess.run([VIREO, "--help=commands"], capture_output=True, text=True, check=True).stdout
    with open(os.path.join(SOURCE, "docs/compatibility-manage.md"), encoding="utf-8") as f:
        assert text.strip() in f.read(), "docs/compatibility-manage.md: put the output of `vireo --help=commands` into the section Commands"
    ours = set(re.findall(r"^\| `([a-z0-9-]+)` \|", text, re.M))
    theirs = set(re.findall(r"^    ([a-z0-9-]+) ", subprocess.run(["virsh", "help"], env=PLAIN, capture_output=True, text=True, check=True).stdout, re.M))
    assert len(theirs) > 250 and theirs <= ours, f"not named: {sorted(theirs - ours)}"


def test_options_of_commands():
    """Each option of virsh's commands is known; each option of ours has a line of help."""
    names = re.findall(r"^    ([a-z0-9-]+) ", subprocess.run(["virsh", "help"], env=PLAIN, capture_output=True, text=True, check=True).stdout, re.M)
    line = ";".join(f"help {name}" for name in names)
    wrong = []

    def options(program):
        text = subprocess.run([program, "-q", line], env=PLAIN, capture_output=True, text=True, check=True).stdout
        found = {}
        for part in re.split(r"^  NAME\n", text, flags=re.M)[1:]:
            name = re.match(r"\s*([a-z0-9-]+) ", part)[1]
            rows = part.split("  OPTIONS\n")[1] if "  OPTIONS\n" in part else ""
            found[name] = dict(re.findall(r"^    [\[{]*--([\w-]+)[^ \n]*(?: <\w+>)?[\]}.]*[ ]*(.*)$", rows, re.M))
        return found
    theirs, ours = options("virsh"), options(VIREO)
    for name in names:
        missing = set(theirs[name]) - set(ours[name])
        silent = [o for o, text in ours[name].items() if not text.strip()]
        if missing or silent:
            wrong.append(f"{name}: unknown {sorted(missing)}, without help {silent}")
    assert not wrong, "\n".join(wrong)


def test_manual_page():
    page = subprocess.run([VIREO, "--help=man"], capture_output=True, text=True, check=True).stdout
    assert page.startswith(".TH VIREO 1") and ".SS dominfo" in page and "\\-\\-remove\\-all\\-storage" in page


def test_completion(tmp_path):
    script = tmp_path / "vireo.bash"
    script.write_text(subprocess.run([VIREO, "--help=completion"], capture_output=True, text=True, check=True).stdout)
    test = f"""PATH={BUILD}:$PATH; . {script}
ask() {{ COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _vireo; echo "${{COMPREPLY[*]}}"; }}
ask vireo -c test:///default dominf
ask vireo -c test:///default dominfo te
ask vireo -c test:///default dominfo --dom
ask vireo -c test:///default net-start --network de"""
    out = subprocess.run(["bash", "-c", test], env=PLAIN, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL).stdout
    assert out.split("\n")[:4] == ["dominfo", "test", "--domain", "default"]


def test_completion_knows_the_domain(shared_vireod, tmp_path):
    """What belongs to the domain that the line names: disks, interfaces, snapshots; and options that are not there yet where nothing goes by position."""
    document = tmp_path / "c.xml"
    document.write_text("<domain type='qemu'><name>c</name><memory unit='MiB'>16</memory><os><type arch='x86_64' machine='q35'>hvm</type></os><devices>"
                        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{tmp_path}/c.qcow2'/><target dev='vdb' bus='virtio'/></disk>"
                        "<interface type='user'><mac address='52:54:00:00:00:77'/></interface></devices></domain>")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "c.qcow2", "1M"], check=True)
    shared_vireod.virsh("define", document)
    shared_vireod.virsh("snapshot-create-as", "c", "before")

    def ask(*words):
        return run(VIREO, ["-c", shared_vireod.uri, "complete", "--", *words])[1].split()

    assert ask("detach-disk", "c", "") == ["vdb"] and ask("domblkinfo", "--domain", "c", "--device", "v") == ["vdb"]
    assert ask("domif-setlink", "c", "") == ["52:54:00:00:00:77"]
    assert ask("snapshot-revert", "c", "") == ["before"] and ask("snapshot-delete", "--snapshotname", "b", "") == ["c"]
    assert ask("nodedev-dumpxml", "comp") == ["computer"]
    assert "--name" in ask("list", "") and "--all" not in ask("list", "--all", "")
    shared_vireod.virsh("undefine", "c", "--snapshots-metadata")


def test_help_of_echo():
    assert "file with a document" not in run(VIREO, ["help", "echo"])[1]
