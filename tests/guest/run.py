# SPDX-License-Identifier: GPL-2.0-or-later
"""`make run`: boots the Debian guest of make_rootfs.sh in this terminal.

With a terminal on standard input the machine's serial console is that terminal (Ctrl-A x ends it, Ctrl-A h helps). Without
one, the guest is powered off through its power button once it shows `login:`.
"""
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time

LIMIT = 600  # seconds without a terminal; a boot takes about one


def command(build):
    guest = os.path.join(build, "guest")
    return [os.path.join(build, "vireo-vmm"), "-name", "vireo-run", "-accel", "auto", "-smp", str(min(4, os.cpu_count() or 1)),
            "-m", "1G", "-nographic", "-no-reboot",
            "-kernel", os.path.join(guest, "vmlinuz"), "-initrd", os.path.join(guest, "initrd.img"),
            "-append", "root=/dev/vda rw console=ttyS0",
            "-drive", f"file={guest}/disk.img,format=raw,if=virtio", "-nic", "user,model=virtio-net-pci"]


def press_power_button(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        stream = s.makefile("rw")
        stream.readline()
        for execute in ("qmp_capabilities", "system_powerdown"):
            stream.write(json.dumps({"execute": execute}) + "\n")
            stream.flush()
            stream.readline()


def unattended(cmd):
    with tempfile.TemporaryDirectory() as tmp:
        qmp = os.path.join(tmp, "qmp")
        vmm = subprocess.Popen(cmd + ["-qmp", f"unix:{qmp},server=on,wait=off"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        timer = threading.Timer(LIMIT, vmm.kill)
        timer.start()
        seen, pressed = b"", False
        while chunk := os.read(vmm.stdout.fileno(), 65536):
            sys.stdout.buffer.write(chunk)
            sys.stdout.flush()
            seen = (seen + chunk)[-4096:]
            if not pressed and b"login:" in seen:
                time.sleep(1)  # logind, which answers the button, starts beside getty
                press_power_button(qmp)
                pressed = True
        timer.cancel()
        status = vmm.wait()
        if not pressed:
            print("\nrun: the guest ended, or was ended after", LIMIT, "seconds, before it showed `login:`", file=sys.stderr)
            return status or 1
        return status


def main():
    cmd = command(sys.argv[1])
    if sys.stdin.isatty():
        print("The guest's console follows: log in as root, no password. `poweroff` in the guest or Ctrl-A x ends it.")
        sys.stdout.flush()
        os.execv(cmd[0], cmd)
    sys.exit(unattended(cmd))


main()
