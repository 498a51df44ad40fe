# SPDX-License-Identifier: GPL-2.0-or-later
"""Part of manage.py: domains that run. vireod has them run by vireo-vmm and libvirtd by QEMU; in rows that say "QEMU on both sides" vireod has QEMU run them, too.

The guest is tests/guest/asm/hello.asm, which needs no disk, writes a line to its serial port with its first instructions, and halts.
"""
import os
import socket
import statistics
import subprocess
import threading
import time
import uuid

import libvirt

HERE = os.path.dirname(os.path.abspath(__file__))
QEMU = "/usr/bin/qemu-system-x86_64"
AT_ONCE = 4
FIRST = b"f" # of "few bytes"
DOMAIN = """<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>32</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{kernel}</kernel>
  </os>
  <features><acpi/><apic/></features>
  <devices>
    {emulator}
    <controller type='usb' model='none'/>
    {serial}
    <memballoon model='none'/>
  </devices>
</domain>
"""


def document(name, kernel, qemu, serial=""):
    return DOMAIN.format(name=name, uuid=uuid.uuid5(uuid.NAMESPACE_DNS, name), kernel=kernel, emulator=f"<emulator>{QEMU}</emulator>" if qemu else "", serial=serial)


def check(good, text):
    if not good:
        raise RuntimeError(text)


def flat(work):
    path = os.path.join(work, "hello.flat")
    if not os.path.exists(path):
        asm = os.path.join(os.path.dirname(HERE), "guest", "asm")
        subprocess.run(["nasm", "-f", "bin", "-I", asm + "/", "-o", path, os.path.join(asm, "hello.asm")], check=True)
        os.chmod(path, 0o644)
    return path


class FirstInstruction:
    """A domain whose serial port is a socket of ours: the time of its first byte."""

    def __init__(self, work, connection, qemu):
        self.path = os.path.join(work, "serial.sock")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(4)
        self.listener.settimeout(30)
        os.chmod(self.path, 0o777)
        serial = f"<serial type='unix'><source mode='connect' path='{self.path}'/></serial>"
        self.domain = connection.defineXML(document("first", flat(work), qemu, serial))

    def close(self):
        self.domain.undefine()
        self.listener.close()
        os.unlink(self.path)

    def start(self):
        """(seconds to the first instruction, seconds to the end of the call)"""
        arrived = []

        def wait():
            try:
                with self.listener.accept()[0] as peer:
                    peer.settimeout(30)
                    byte = peer.recv(1)
                    arrived.append((time.monotonic(), byte))
            except OSError as e:
                arrived.append((0, e))

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        begun = time.monotonic()
        self.domain.create()
        returned = time.monotonic() - begun
        thread.join()
        self.domain.destroy()
        check(arrived[0][1] == FIRST, f"the guest did not write its line: {arrived[0][1]}")
        return arrived[0][0] - begun, returned


def one(bench, d, qemu, row):
    connection = libvirt.open(d.uri)
    first = FirstInstruction(d.work, connection, qemu)
    try:
        first.start() # fills the page cache
        before = d.cpu()
        runs = [first.start() for _ in range(bench.args.starts)]
        cpu = (d.cpu() - before) / len(runs)
    finally:
        first.close()
        connection.close()
    bench.note(f"{row}: call to the first instruction, median of {len(runs)}", d.side, statistics.median(r[0] for r in runs), "s", cpu)
    bench.note(f"{row}: call to the first instruction, best", d.side, min(r[0] for r in runs), "s")
    bench.note(f"{row}: until the call returns, median", d.side, statistics.median(r[1] for r in runs), "s")


def hundred(bench, d):
    count, total = bench.args.running, bench.args.running + bench.args.sizes[0]
    names = [f"run{i:03}" for i in range(count)]
    folder = os.path.join(d.work, "running")
    os.makedirs(folder, exist_ok=True)
    for name in names:
        with open(f"{folder}/{name}.xml", "w", encoding="utf-8") as f:
            f.write(document(name, flat(d.work), d.side == "libvirtd"))
    d.virsh(script="".join(f"define {folder}/{n}.xml\n" for n in names))
    bench.call(f"start {count} domains, {AT_ONCE} virsh at once", d.side, d.clients(["".join(f"start {n}\n" for n in names[i::AT_ONCE]) for i in range(AT_ONCE)]),
               beside=min(AT_ONCE, os.cpu_count()))
    try:
        out = d.virsh(["list", "--name"]).out
        check(sorted(out.split()) == names, f"lists {len(out.split())} of {count} running domains")
        for what, words in ((f"list{{}}, {count} running of {total} domains", ["list"]), (f"list --all{{}}, {count} running of {total} domains", ["list", "--all"]),
                            (f"domstats{{}}, of the {count} that run", ["domstats", "--list-running"])):
            for row, program in (("virsh " + what.format(""), "virsh"), (what.format(" by the own client"), d.own)):
                call = min(d.virsh(words, program=program) for _ in range(3))
                check(call.out.count("run") >= count, f"{program} {words} shows {call.out.count('run')} of {count} domains")
                bench.call(row, d.side, call)
        time.sleep(3)
        bench.note(f"memory after that, {count} running of {total} domains", d.side, d.memory(), "MiB")
        d.stop() # machines go on
        took = d.start()
        bench.note(f"start with {count} running of {total} domains, to the first answer", d.side, took, "s", d.cpu())
        check(sorted(d.virsh(["list", "--name"]).out.split()) == names, "a new daemon does not find the machines again")
    finally:
        bench.call(f"destroy {count} domains, {AT_ONCE} virsh at once", d.side, d.clients(["".join(f"destroy {n}\n" for n in names[i::AT_ONCE]) for i in range(AT_ONCE)]),
               beside=min(AT_ONCE, os.cpu_count()))


def run(bench, d):
    try:
        one(bench, d, d.side == "libvirtd", "start of a domain")
        one(bench, d, True, "start of a domain, QEMU on both sides")
        hundred(bench, d)
    except (libvirt.libvirtError, RuntimeError) as e:
        bench.trouble(d.side, f"running domains: {e}")
