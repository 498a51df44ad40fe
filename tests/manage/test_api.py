# SPDX-License-Identifier: GPL-2.0-or-later
"""libvireo: one program compiled against it and against libvirt prints the same; Debian's python3-libvirt works with it in libvirt's place, for calls,
events, streams and threads, over test:///default, a vireod, a libvirtd of our own, and the drivers in the program itself."""
import os
import shutil
import signal
import struct
import subprocess
import textwrap
import time

import pytest

from conftest import BUILD, HERE, PLAIN, Vireod
from limits import SLOW

ROOT = os.path.dirname(os.path.dirname(HERE))
LIBRARY = os.path.join(BUILD, "src/manage/api")


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The program of fifty calls, with libvirt's headers and library, and with ours."""
    where = tmp_path_factory.mktemp("api50")
    source = os.path.join(HERE, "api50.c")
    ours, theirs = str(where / "ours"), str(where / "theirs")
    cc = ["gcc", "-D_GNU_SOURCE", "-Wall", "-Werror", source]
    subprocess.run([*cc, "-I" + os.path.join(ROOT, "include/vireo"), "-o", ours, "-L" + LIBRARY, "-lvireo", "-Wl,-rpath," + LIBRARY], check=True)
    if os.path.exists("/usr/include/libvirt/libvirt.h"):
        subprocess.run([*cc, "-o", theirs, "-lvirt"], check=True)
    else:
        theirs = None
    return ours, theirs


@pytest.fixture(scope="module")
def in_libvirts_place(tmp_path_factory):
    """A directory where our library has libvirt's name, as an installation has in its vireo directory."""
    where = tmp_path_factory.mktemp("place")
    for name in ("libvirt.so.0", "libvirt-qemu.so.0", "libvirt-lxc.so.0"):
        os.symlink(os.path.join(LIBRARY, "libvireo.so.0"), where / name)
    return str(where)


@pytest.fixture(scope="module")
def libvirtd(tmp_path_factory):
    """Debian's libvirtd in mount and network namespaces of its own; only its sockets are seen from here. None where it is not installed."""
    if not shutil.which("libvirtd") or os.geteuid() != 0:
        yield None
        return
    where = tmp_path_factory.mktemp("libvirtd")
    (where / "libvirtd.conf").write_text(f'unix_sock_dir = "{where}"\nauth_unix_rw = "none"\nauth_unix_ro = "none"\nunix_sock_ro_perms = "0777"\n')
    script = (f"ip link set lo up; for d in /run/libvirt /etc/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do mkdir -p $d; mount -t tmpfs tmpfs $d; done; "
              f"mkdir -p /etc/libvirt/qemu; printf 'stdio_handler = \"file\"\\nsecurity_driver = \"none\"\\nuser = \"root\"\\ngroup = \"root\"\\n"
              f"cgroup_controllers = []\\nremember_owner = 0\\nnamespaces = []\\n' > /etc/libvirt/qemu.conf; "
              f"exec libvirtd -f {where}/libvirtd.conf -p {where}/pid -t 60")
    with open(where / "log", "wb") as log:
        process = subprocess.Popen(["unshare", "-m", "-n", "sh", "-c", script], stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    until = time.monotonic() + 30 * SLOW
    while not os.path.exists(where / "libvirt-sock"):
        assert process.poll() is None and time.monotonic() < until, (where / "log").read_text()
        time.sleep(0.1)
    yield f"qemu+unix:///system?socket={where}/libvirt-sock"
    process.terminate()
    process.wait(20 * SLOW)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """The smallest guest: a Multiboot header (0.6.96, 3.1) with addresses, then CLI, HLT, and a jump back to it."""
    path = tmp_path_factory.mktemp("kernel") / "halt"
    path.write_bytes(struct.pack("<8I", 0x1badb002, 0x10003, -(0x1badb002 + 0x10003) & 0xffffffff, 0x100000, 0x100000, 0x100024, 0x100024, 0x100020) +
                     b"\xfa\xf4\xeb\xfc")
    return str(path)


@pytest.fixture(scope="module")
def echo_kernel(tmp_path_factory):
    """Says A on COM1 and answers each byte with the next one of the alphabet."""
    path = tmp_path_factory.mktemp("kernel") / "echo"
    code = bytes.fromhex("66baf803 b041 ee 66bafd03 ec a801 74f7 66baf803 ec fec0 ee ebed".replace(" ", ""))
    end = 0x100020 + len(code)
    path.write_bytes(struct.pack("<8I", 0x1badb002, 0x10003, -(0x1badb002 + 0x10003) & 0xffffffff, 0x100000, 0x100000, end, end, 0x100020) + code)
    return str(path)


def output(program, *args, env=None):
    done = subprocess.run([program, *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60 * SLOW, check=False, text=True, env=dict(PLAIN, **(env or {})))
    assert done.returncode == 0, f"{program} {args} ended with {done.returncode}: {done.stdout}"
    return done.stdout


def same(programs, uri, *args):
    ours, theirs = programs
    mine = output(ours, uri, *args)
    assert int(mine.splitlines()[-1].split()[0]) >= 50, mine
    if theirs is None:
        pytest.skip("libvirt-dev is not installed: nothing to compare with")
    assert mine == output(theirs, uri, *args)
    return mine


def test_fifty_calls_print_the_same_with_both_libraries_on_vireod(programs, shared_vireod):
    text = same(programs, shared_vireod.uri)
    assert "virConnectOpen: 0" in text and "event of fifty: 0 0" in text and "error 42" in text and "error 29" in text


def test_fifty_calls_print_the_same_when_a_domain_runs_on_vireod(programs, shared_vireod, kernel):
    text = same(programs, shared_vireod.uri, kernel)
    assert "virDomainCreateWithFlags: 0" in text and "event of fifty: 2 0" in text and "event of fifty: 5 1" in text, text


def test_fifty_calls_print_the_same_with_both_libraries_on_libvirtd(programs, libvirtd, kernel):
    if not libvirtd:
        pytest.skip("no libvirtd here (or not root)")
    text = same(programs, libvirtd, kernel)
    assert "virDomainDefineXML: 0" in text


def test_the_test_driver_takes_the_fifty_calls(programs):
    text = output(programs[0], "test:///default", "/kernel")
    assert "virDomainDefineXML: 0" in text and "virDomainSuspend: 0" in text and "id -1" in text, text


SAME_IN_BOTH = ("list --all", "dumpxml test", "domstate test --reason", "domid test", "domuuid test", "vcpucount test", "domblklist test", "domiflist test",
                "net-list --all", "net-dumpxml default", "net-info default", "pool-list --all", "pool-dumpxml default-pool", "pool-info default-pool",
                "vol-list default-pool", "iface-list --all", "iface-dumpxml eth1", "nodeinfo", "freecell", "version", "uri", "maxvcpus", "snapshot-list test",
                "suspend test", "start test", "shutdown test", "destroy nope", "domrename test other", "setmem test 1048576", "domjobinfo test")


def test_the_test_driver_says_what_libvirts_says():
    ours = os.path.join(BUILD, "vireo")
    if not shutil.which("virsh") or not os.path.exists(ours):
        pytest.skip("no virsh or no vireo to compare")
    for words in SAME_IN_BOTH:
        said = [subprocess.run([program, "-c", "test:///default", *words.split()], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20 * SLOW,
                               env=PLAIN, check=False).stdout for program in ("virsh", ours)]
        assert said[0] == said[1], words


def python(place, script, *args, uri="test:///default", status=0, env=None):
    """Runs a script of Debian's python3-libvirt with our library; `c` is an open connection, `wait(n)` runs until n things are in `got`."""
    head = """
        import libvirt, sys, threading, time, os
        libvirt.registerErrorHandler(lambda *a: None, None)
        libvirt.virEventRegisterDefaultImpl()
        threading.Thread(target=lambda: [libvirt.virEventRunDefaultImpl() for _ in iter(int, 1)], daemon=True).start()
        got = []
        def wait(n, seconds=20):
            until = time.monotonic() + seconds
            while len(got) < n and time.monotonic() < until: time.sleep(0.01)
            assert len(got) >= n, (n, got)
        c = libvirt.open(sys.argv[1])
    """
    code = textwrap.dedent(head) + textwrap.dedent(script)
    done = subprocess.run(["/usr/bin/python3", "-c", code, uri, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60 * SLOW,
                          env=dict(PLAIN, LD_LIBRARY_PATH=place, **(env or {})), check=False)
    if "No module named 'libvirt'" in done.stdout:
        pytest.skip("python3-libvirt is not installed")
    assert done.returncode == status, done.stdout
    return done.stdout


def test_python3_libvirt_works_with_our_library_in_libvirts_place(in_libvirts_place, shared_vireod):
    script = """
        maps = open('/proc/self/maps').read()
        assert 'libvireo.so.0' in maps and 'libvirt.so.0.9' not in maps
        xml = "<domain type='%s'><name>py</name><memory>65536</memory><os><type>hvm</type></os></domain>" % ('test' if c.getType() == 'TEST' else 'qemu')
        c.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lambda conn, dom, event, detail, o: got.append((dom.name(), event, o)), 'mine')
        d = c.defineXML(xml)
        assert d.name() == 'py' and len(d.UUID()) == 16 and d.ID() == -1 and d.state() == [5, 0], d.state()
        assert d.maxMemory() == 65536 and 'py' in [x.name() for x in c.listAllDomains()] and 'py' in c.listDefinedDomains()
        d.setAutostart(1); assert d.autostart() == 1
        d.setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, 'a title', None, None)
        assert d.metadata(libvirt.VIR_DOMAIN_METADATA_TITLE, None) == 'a title'
        d.undefine(); wait(2)
        assert got[0] == ('py', 0, 'mine') and got[-1] == ('py', 1, 'mine'), got
        try:
            c.lookupByName('py'); assert False
        except libvirt.libvirtError as e:
            assert e.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN and 'no domain with matching name' in str(e), e
    """
    python(in_libvirts_place, script)
    python(in_libvirts_place, script, uri=shared_vireod.uri)


def test_events_of_networks_pools_and_secrets(in_libvirts_place, shared_vireod):
    python(in_libvirts_place, """
        c.networkEventRegisterAny(None, libvirt.VIR_NETWORK_EVENT_ID_LIFECYCLE, lambda conn, n, event, detail, o: got.append((n.name(), event)), None)
        n = c.networkDefineXML('<network><name>evented</name></network>'); wait(1); n.undefine(); wait(2)
        assert got == [('evented', 0), ('evented', 1)], got
        del got[:]
        c.storagePoolEventRegisterAny(None, libvirt.VIR_STORAGE_POOL_EVENT_ID_LIFECYCLE, lambda conn, p, event, detail, o: got.append((p.name(), event)), None)
        p = c.storagePoolDefineXML("<pool type='dir'><name>evp</name><target><path>%s</path></target></pool>" % sys.argv[2]); wait(1); p.undefine(); wait(2)
        assert got == [('evp', 0), ('evp', 1)], got
        del got[:]
        c.secretEventRegisterAny(None, libvirt.VIR_SECRET_EVENT_ID_LIFECYCLE, lambda conn, s, event, detail, o: got.append((s.usageID(), event)), None)
        s = c.secretDefineXML("<secret><usage type='volume'><volume>/v</volume></usage></secret>"); s.setValue(b'a\\0b'); assert s.value() == b'a\\0b'
        wait(1); s.undefine(); wait(2)
        assert got == [('/v', 0), ('/v', 1)], got
    """, os.path.join(shared_vireod.root, "pool"), uri=shared_vireod.uri)


STREAMS = """
    import hashlib
    path = sys.argv[2]; os.makedirs(path, exist_ok=True)
    p = c.storagePoolCreateXML("<pool type='dir'><name>streams</name><target><path>%s</path></target></pool>" % path)
    v = p.createXML("<volume><name>a.img</name><capacity>3000000</capacity><target><format type='raw'/></target></volume>")
    data = os.urandom(1 << 20) + bytes(900000) + os.urandom(3000000 - (1 << 20) - 900000)
    at = [0]
    def source(st, n, o):
        piece = data[at[0]:at[0] + n]; at[0] += len(piece); return piece
    st = c.newStream(); v.upload(st, 0, len(data)); st.sendAll(source, None); st.finish()
    assert open(path + '/a.img', 'rb').read() == data
    back = bytearray()
    st = c.newStream(); v.download(st, 0, 0); st.recvAll(lambda st, piece, o: back.extend(piece), None); st.finish()
    assert bytes(back) == data
    st = c.newStream(); v.download(st, 5, 100); assert st.recv(1000) == data[5:105]; assert st.recv(10) == b''; st.finish()
    st = c.newStream(); v.download(st, 0, 0); assert len(st.recv(1000)) == 1000; st.abort()
    def destroy():
        "The daemon lets go of a volume a moment after it has acknowledged the end of a stream."
        for _ in range(100):
            try: return p.destroy()
            except libvirt.libvirtError as e:
                if 'jobs running' not in str(e): raise
                time.sleep(0.02)
"""


def test_volumes_go_up_and_down(in_libvirts_place, shared_vireod, tmp_path):
    python(in_libvirts_place, STREAMS + "    destroy()\n", os.path.join(shared_vireod.root, "streams"), uri=shared_vireod.uri)


def test_sparse_and_nonblocking_streams(in_libvirts_place, shared_vireod):
    python(in_libvirts_place, STREAMS + """
    os.truncate(path + '/a.img', 0); os.truncate(path + '/a.img', 3000000)
    with open(path + '/a.img', 'r+b') as f: f.seek(1 << 20); f.write(b'data')
    seen = []
    st = c.newStream(); v.download(st, 0, 0, libvirt.VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM)
    st.sparseRecvAll(lambda st, piece, o: seen.append(piece), lambda st, n, o: seen.append(n), None); st.finish()
    assert sum(x if isinstance(x, int) else len(x) for x in seen) == 3000000 and any(isinstance(x, int) for x in seen), seen
    back = bytearray(); done = threading.Event()
    st = c.newStream(libvirt.VIR_STREAM_NONBLOCK); v.download(st, 0, 0)
    def ready(st, events, o):
        while True:
            piece = st.recv(65536)
            if piece == -2: return
            if not piece:
                st.eventRemoveCallback(); done.set(); return
            back.extend(piece)
    st.eventAddCallback(libvirt.VIR_STREAM_EVENT_READABLE, ready, None)
    assert done.wait(20), len(back)
    st.finish()
    assert bytes(back) == open(path + '/a.img', 'rb').read()
    destroy()
""", os.path.join(shared_vireod.root, "sparse"), uri=shared_vireod.uri)


def test_many_threads_share_one_connection(in_libvirts_place, shared_vireod):
    script = """
        faults = []
        kind = 'test' if c.getType() == 'TEST' else 'qemu'
        def work(n):
            try:
                for i in range(20):
                    d = c.defineXML("<domain type='%s'><name>t%d-%d</name><memory>65536</memory><os><type>hvm</type></os></domain>" % (kind, n, i))
                    assert c.lookupByName(d.name()).UUIDString() == d.UUIDString()
                    try: c.lookupByName('missing%d' % n); faults.append('found')
                    except libvirt.libvirtError as e:
                        if 'missing%d' % n not in str(e): faults.append(str(e))
                    d.undefine()
            except Exception as e: faults.append(repr(e))
        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        [t.start() for t in threads]; [t.join() for t in threads]
        assert not faults, faults[:3]
    """
    python(in_libvirts_place, script)
    python(in_libvirts_place, script, uri=shared_vireod.uri)


def test_a_program_hears_that_its_daemon_has_gone(in_libvirts_place, tmp_path):
    daemon = Vireod(tmp_path)
    try:
        python(in_libvirts_place, """
            c.registerCloseCallback(lambda conn, reason, o: got.append(reason), None)
            os.kill(int(sys.argv[2]), 9); wait(1)
            assert got == [libvirt.VIR_CONNECT_CLOSE_REASON_EOF], got
            assert c.isAlive() == 0
            try: c.getHostname(); assert False
            except libvirt.libvirtError as e: print(e)
        """, daemon.process.pid, uri=daemon.uri)
    finally:
        daemon.stop(signal.SIGKILL, status=None)


def test_drivers_in_the_program_itself(in_libvirts_place, tmp_path, kernel):
    """Objects are found again by the next program, running domains too: they outlive the one that started them."""
    uri = f"vireo:///embed?root={tmp_path}"
    python(in_libvirts_place, STREAMS + """
    destroy()
    assert c.listAllDomains() == []
    assert c.getURI().startswith('vireo:///embed') and c.getType() == 'QEMU'
    d = c.defineXML("<domain type='qemu'><name>kept</name><memory>65536</memory><os><type>hvm</type><kernel>%s</kernel></os></domain>" % sys.argv[3])
    c.domainEventRegisterAny(d, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lambda conn, dom, event, detail, o: got.append(event), None)
    d.create(); wait(1); assert got[0] == libvirt.VIR_DOMAIN_EVENT_STARTED, got
    other = libvirt.open(sys.argv[1])
    assert [x.name() for x in other.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_RUNNING)] == ['kept']
    """, os.path.join(tmp_path, "pool"), kernel, uri=uri, env={"VIREO_VMM": os.path.join(BUILD, "vireo-vmm")})
    python(in_libvirts_place, """
        d, = c.listAllDomains()
        assert d.name() == 'kept' and d.isActive(), d.state()
        d.destroy(); d.undefine()
    """, uri=uri)
    python(in_libvirts_place, "assert c.listAllDomains() == []", uri=uri)


def test_events_of_one_object_alone(in_libvirts_place, shared_vireod):
    python(in_libvirts_place, """
        n, other = [c.networkDefineXML('<network><name>%s</name></network>' % name) for name in ('wanted', 'unwanted')]
        first = c.networkEventRegisterAny(n, libvirt.VIR_NETWORK_EVENT_ID_LIFECYCLE, lambda conn, n, event, detail, o: got.append((o, n.name(), event)), 'a')
        c.networkEventRegisterAny(n, libvirt.VIR_NETWORK_EVENT_ID_LIFECYCLE, lambda conn, n, event, detail, o: got.append((o, n.name(), event)), 'b')
        c.networkEventDeregisterAny(first)
        other.undefine(); n.undefine(); wait(1); time.sleep(0.1)
        assert got == [('b', 'wanted', 1)], got
        try:
            c.networkEventDeregisterAny(first); assert False
        except libvirt.libvirtError as e:
            assert e.get_error_code() == libvirt.VIR_ERR_INVALID_ARG, e
    """, uri=shared_vireod.uri)


TWICE = """
    said = [[], []]
    numbers = [c.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lambda conn, d, event, detail, o: (o.append(event), got.append(event)), o) for o in said]
    old = lambda conn, d, event, detail, o: (o.append(event), got.append(event))
    said.append([])
    c.domainEventRegister(old, said[2])
    xml = "<domain type='qemu'><name>twice</name><memory>65536</memory><os><type>hvm</type></os></domain>"
    d = c.defineXML(xml); wait(3)
    c.domainEventDeregisterAny(numbers[0])
    d.undefine(); wait(5)
    c.domainEventDeregister(old); c.domainEventDeregisterAny(numbers[1])
    c.defineXML(xml).undefine(); time.sleep(0.1)
    number = c.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lambda conn, d, event, detail, o: got.append('again'), None)
    c.defineXML(xml); wait(6)
    c.lookupByName('twice').undefine()
    assert said == [[0], [0, 1], [0, 1]] and got[5] == 'again', (said, got)
"""


def test_two_callbacks_for_one_event(in_libvirts_place, shared_vireod):
    python(in_libvirts_place, TWICE, uri=shared_vireod.uri)


def test_two_callbacks_for_one_event_of_libvirtd(in_libvirts_place, libvirtd):
    """libvirtd takes one registration of an event on a connection."""
    if not libvirtd:
        pytest.skip("no libvirtd here (or not root)")
    python(in_libvirts_place, TWICE, uri=libvirtd)


def test_a_handle_has_the_new_name_after_a_rename(in_libvirts_place, shared_vireod):
    python(in_libvirts_place, """
        d = c.defineXML("<domain type='qemu'><name>before</name><memory>65536</memory><os><type>hvm</type></os></domain>")
        d.rename('after')
        assert d.name() == 'after'
        d.rename('later')
        assert d.name() == 'later'
        d.undefine()
    """, uri=shared_vireod.uri)


def test_a_loop_of_the_programs_own(in_libvirts_place):
    """python3-libvirt's asyncio loop takes our handles and timers."""
    done = subprocess.run(["/usr/bin/python3", "-c", textwrap.dedent("""
        import asyncio, libvirt, libvirtaio
        async def main():
            libvirtaio.virEventRegisterAsyncIOImpl()
            c, got, over = libvirt.open('test:///default'), [], asyncio.Event()
            number = c.domainEventRegisterAny(None, 0, lambda conn, dom, event, *rest: (got.append(event), over.set() if event == 1 else None), None)
            c.defineXML("<domain type='test'><name>aio</name><memory>65536</memory><os><type>hvm</type></os></domain>").undefine()
            await asyncio.wait_for(over.wait(), 15)
            c.domainEventDeregisterAny(number)
            print('got', got)
        asyncio.run(main())
    """)], env=dict(PLAIN, LD_LIBRARY_PATH=in_libvirts_place), text=True, timeout=20 * SLOW, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if "No module named" in done.stdout:
        pytest.skip("python3-libvirt is not installed")
    assert "got [0, 1]" in done.stdout, done.stdout


def test_a_session_starts_its_daemon(in_libvirts_place, tmp_path):
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("needs root, to become an ordinary user by setpriv")
    home = tmp_path / "home"
    for name in ("run", "config", "data", "cache"):
        (home / name).mkdir(parents=True)
    (home / "config/vireo").mkdir()
    (home / "config/vireo/vireo.conf").write_text('# uri_aliases = [ "no=qemu:///no" ]\nuri_aliases = [\n  "here=vireo:///session",\n  "there=qemu:///x"\n]\n')
    for d, _, _ in os.walk(tmp_path):
        os.chown(d, 65534, 65534)
    for d in [tmp_path, *tmp_path.parents][:3]:
        os.chmod(d, os.stat(d).st_mode | 0o011)
    env = dict(PLAIN, HOME=str(home), XDG_RUNTIME_DIR=str(home / "run"), XDG_CONFIG_HOME=str(home / "config"), XDG_DATA_HOME=str(home / "data"),
               XDG_CACHE_HOME=str(home / "cache"), VIREOD_PATH=os.path.join(BUILD, "vireod"), LD_LIBRARY_PATH=in_libvirts_place)
    del env["LIBVIRT_AUTOSTART"]
    code = ("import libvirt; c = libvirt.open('vireo:///session'); print(c.getURI(), c.getType(), [n.name() for n in c.listAllNetworks()]); "
            "print('alias', libvirt.open('here').getURI())")
    os.chmod(in_libvirts_place, 0o755)
    for d in [in_libvirts_place, *map(str, __import__("pathlib").Path(in_libvirts_place).parents)][:3]:
        os.chmod(d, os.stat(d).st_mode | 0o055)
    done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c", code], env=env, text=True, timeout=40 * SLOW,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    try:
        assert done.returncode == 0 and "vireo:///session QEMU" in done.stdout and "alias vireo:///session" in done.stdout, done.stdout
    finally:
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/environ", "rb") as f:
                    mine = f"XDG_RUNTIME_DIR={home}/run".encode() in f.read()
                if mine:
                    os.kill(int(pid), signal.SIGTERM)
            except OSError:
                pass


def test_mistakes_in_uris_are_named(in_libvirts_place):
    for uri, words in (("nonsense", "is not a URI"), ("qemu+tls://host/system", "transport 'tls' is not supported"), ("vireo:///embed", "?root=DIR"),
                       ("test:///other.xml", "reads no file"), ("qemu+ssh:///system", "names no host"), ("qemu+ssh://-oProxyCommand=x/system", "no name of a host"),
                       ("qemu+ext:///system", "?command="), ("qemu+unix:///system?socket=/no/such", "/no/such"), ("qemu:///system?socket=%zz", "is not a URI")):
        code = f"import libvirt\ntry: libvirt.open({uri!r})\nexcept libvirt.libvirtError as e: print('said:', e)"
        done = subprocess.run(["/usr/bin/python3", "-c", code], env=dict(PLAIN, LD_LIBRARY_PATH=in_libvirts_place), text=True, timeout=20 * SLOW,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        said = [line for line in done.stdout.splitlines() if line.startswith("said:")]
        assert said and words in said[0], (uri, done.stdout)


def test_bindings_of_all_of_libvirt_load(in_libvirts_place):
    """Ruby's and Go's are linked with libvirt-lxc too, and Debian's needs what its libvirt.so keeps for itself."""
    python(in_libvirts_place, """
        import libvirt_lxc
        d = c.lookupByName('test')
        try: libvirt_lxc.lxcOpenNamespace(d, 0); assert False
        except libvirt.libvirtError as e: assert e.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT, e
    """)


def test_a_daemon_that_is_not_there_is_an_error_of_the_transport(in_libvirts_place, tmp_path):
    """OpenStack's Nova and others tell by number and origin that the connection is what failed."""
    code = (f"import libvirt\ntry: libvirt.open('qemu+unix:///system?socket={tmp_path}/none')\n"
            "except libvirt.libvirtError as e: print('said:', e.get_error_code() == libvirt.VIR_ERR_SYSTEM_ERROR, e.get_error_domain() == libvirt.VIR_FROM_RPC)")
    done = subprocess.run(["/usr/bin/python3", "-c", code], env=dict(PLAIN, LD_LIBRARY_PATH=in_libvirts_place), text=True, timeout=20 * SLOW,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert "said: True True" in done.stdout, done.stdout


def test_ext_transport_and_aliases(in_libvirts_place, shared_vireod, tmp_path):
    relay = tmp_path / "relay"
    relay.write_text(f"#!/bin/sh\nexec /usr/bin/python3 -c \"\nimport os, socket, threading\ns = socket.socket(socket.AF_UNIX); s.connect('{shared_vireod.socket}')\n"
                     "def pump(read, write):\n    while True:\n        d = read(65536)\n        if not d: os._exit(0)\n        write(d)\n"
                     "threading.Thread(target=pump, args=(lambda n: os.read(0, n), s.sendall)).start()\npump(s.recv, lambda d: os.write(1, d))\n\"\n")
    relay.chmod(0o755)
    python(in_libvirts_place, "assert c.getType() == 'QEMU' and c.listAllDomains() is not None", uri=f"qemu+ext:///system?command={relay}")
    python(in_libvirts_place, "assert libvirt.open(None).getType() == 'QEMU'", env={"LIBVIRT_DEFAULT_URI": shared_vireod.uri})


def test_the_emulators_monitor_through_python3_libvirt(in_libvirts_place, libvirtd, kernel):
    if not libvirtd:
        pytest.skip("no libvirtd here (or not root)")
    python(in_libvirts_place, """
        import libvirt_qemu
        d = c.createXML("<domain type='qemu'><name>monitored</name><memory>65536</memory><os><type>hvm</type><kernel>%s</kernel></os></domain>" % sys.argv[2],
                        libvirt.VIR_DOMAIN_START_PAUSED)
        number = libvirt_qemu.qemuMonitorEventRegister(c, d, 'RESUME', lambda conn, dom, event, *rest: got.append((dom.name(), event)), None, 0)
        assert '"running":false' in libvirt_qemu.qemuMonitorCommand(d, '{"execute":"query-status"}', 0)
        d.resume(); wait(1); assert got == [('monitored', 'RESUME')], got
        libvirt_qemu.qemuMonitorEventDeregister(c, number)
        d.destroy()
    """, kernel, uri=libvirtd)


CONSOLE = """
    d = c.createXML("<domain type='qemu'><name>talking</name><memory>65536</memory><os><type>hvm</type><kernel>%s</kernel></os>"
                    "<devices><serial type='pty'/></devices></domain>" % sys.argv[2], libvirt.VIR_DOMAIN_START_PAUSED)
    try:
        st = c.newStream(); d.openConsole(None, st)
        d.resume()  # the machine looks now and then whether somebody has opened its terminal: the guest's A may be lost
        for byte, answer in ((b'a', b'b'), (b'x', b'y'), (b'0', b'1')):
            assert st.send(byte) == 1
            said = b''
            while answer not in said:
                piece = st.recv(100); assert piece, said
                said += piece
        st.finish()
        st = c.newStream(libvirt.VIR_STREAM_NONBLOCK); d.openConsole(None, st, libvirt.VIR_DOMAIN_CONSOLE_FORCE)
        assert st.recv(100) == -2
        def ready(st, events, o):
            if events & libvirt.VIR_STREAM_EVENT_WRITABLE:
                st.send(b'k'); st.eventUpdateCallback(libvirt.VIR_STREAM_EVENT_READABLE)
            if events & libvirt.VIR_STREAM_EVENT_READABLE:
                got.append(st.recv(100))
        st.eventAddCallback(libvirt.VIR_STREAM_EVENT_READABLE | libvirt.VIR_STREAM_EVENT_WRITABLE, ready, None)
        wait(1); assert got == [b'l'], got
        st.eventRemoveCallback(); st.abort()
    finally:
        d.destroy()
"""


def test_a_console_both_ways_on_vireod(in_libvirts_place, shared_vireod, echo_kernel):
    python(in_libvirts_place, CONSOLE, echo_kernel, uri=shared_vireod.uri)


def test_a_console_both_ways_on_libvirtd(in_libvirts_place, libvirtd, echo_kernel):
    if not libvirtd:
        pytest.skip("no libvirtd here (or not root)")
    python(in_libvirts_place, CONSOLE, echo_kernel, uri=libvirtd)


def test_a_console_both_ways_with_the_drivers_in_the_program(in_libvirts_place, echo_kernel, tmp_path):
    python(in_libvirts_place, CONSOLE, echo_kernel, uri=f"vireo:///embed?root={tmp_path}", env={"VIREO_VMM": os.path.join(BUILD, "vireo-vmm")})
