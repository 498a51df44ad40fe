# SPDX-License-Identifier: GPL-2.0-or-later
"""A Debian guest under vireo-vmm with vireod and virsh inside, and in its kernel what the host's may lack: device mapper, NFS, iSCSI. A root shell on the
serial console takes commands. Of the root file system (make_storage.sh) nothing is set up: the script below starts what the pools talk to."""
import contextlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
GUEST = os.path.join(os.path.dirname(HERE), "guest")
sys.path.insert(0, GUEST)
import initramfs  # noqa: E402
import vmm  # noqa: E402

MODULES = ("virtio_pci", "virtio_blk", "ext4", "crc32c_generic", "dm-mod", "dm-snapshot", "dm-zero", "xfs", "nfs", "nfsv3", "nfsv4", "nfsd", "sd_mod", "iscsi_tcp")
# The RAM disk hands over to the root file system; vdb is an archive of what this build has made.
HAND_OVER = """
mount -t ext4 /dev/vda /mnt
tar -x -f /dev/vdb -C /mnt
mount --move /dev /mnt/dev; mount --move /proc /mnt/proc; mount --move /sys /mnt/sys
exec switch_root /mnt /bin/bash /start
"""
START = r"""
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C HOME=/root LIBVIRT_DEFAULT_URI='qemu+unix:///system?socket=/srv/run/vireo/libvirt-sock'
mount -t tmpfs -o mode=755 tmpfs /run; mount -t tmpfs -o mode=1777 tmpfs /tmp; mkdir -p /dev/pts /run/lock /run/rpcbind /run/udev; mount -t devpts devpts /dev/pts
ip link set lo up
/lib/systemd/systemd-udevd --daemon
udevadm trigger --action=add; udevadm settle
/srv/vireod --root /srv > /tmp/vireod.log 2>&1 &
while ! [ -S /srv/run/vireo/libvirt-sock ]; do sleep 0.05; done
cd /root; dd if=/dev/urandom of=/root/in bs=1M count=8 2>/dev/null
stty -echo -onlcr
echo "VT ready"
export PS1= PS2=
exec bash --noprofile --norc --noediting
"""


def make_material():
    """The directory with kernels and the root file system; made by one run at a time."""
    where = os.environ.get("VIREO_GUEST", os.path.join(vmm.BUILD, "guest"))
    os.makedirs(where, exist_ok=True)
    for script in ("make_kernels.sh", "make_storage.sh"):
        subprocess.run(["flock", os.path.join(where, ".lock"), os.path.join(GUEST, script), where], check=True)
    return where


def archive(path, files):
    """{path there: path here, or bytes}"""
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            if isinstance(content, str):
                with open(content, "rb") as f:
                    content = f.read()
            info = tarfile.TarInfo(name)
            info.mode, info.size = 0o755, len(content)
            tar.addfile(info, io.BytesIO(content))


class StorageGuest:
    def __init__(self, work, disks, files, modules=MODULES):
        """disks: sizes in MiB of empty virtio disks, vdc and on."""
        where = make_material()
        archive(f"{work}/files.tar", {"start": START.encode(), "srv/vireod": f"{vmm.BUILD}/vireod", "usr/bin/vireo-vmm": f"{vmm.BUILD}/vireo-vmm", **files})
        with open(f"{work}/initrd", "wb") as f:
            f.write(initramfs.build(where, "generic", modules, HAND_OVER, compress=False))
        drives = ["-drive", f"file={where}/storage.img,format=raw,if=virtio,snapshot=on", "-drive", f"file={work}/files.tar,format=raw,if=virtio,readonly=on"]
        for n, size in enumerate(disks):
            with open(f"{work}/disk{n}", "wb") as f:
                f.truncate(size << 20)
            drives += ["-drive", f"file={work}/disk{n},format=raw,if=virtio"]
        self.machine = vmm.Machine(["-machine", "q35", "-accel", "jit", "-smp", "2", "-m", "2048", "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio",
                                    "-kernel", initramfs.unpacked(where, "generic"), "-initrd", f"{work}/initrd", "-append", "console=ttyS0 panic=-1 quiet", *drives],
                                   f"{work}/console")
        self.steps = 0
        try:
            self.machine.wait_text("VT ready", 90, "the storage guest did not start")
        except BaseException:
            self.machine.kill()
            raise

    def run(self, command, status=0, deadline=60):
        """What the command prints (errors too); it must end with this status (None: any)."""
        self.steps += 1
        self.machine.send(f"{{ {command}\n}} </dev/null 2>&1; echo {self.steps}-ended-with $?\n")
        text = self.machine.wait_text(f"{self.steps}-ended-with ", deadline, f"no end of: {command}")
        got = int(self.machine.wait_text("\n", 10))
        if status is not None and got != status:
            self.machine.fail(f"{command}: exit status {got} instead of {status}: {text}")
        return text

    def virsh(self, *commands, status=0):
        """Debian's virsh runs these commands in one go; the words of one that fails end the others."""
        return self.run("virsh -q " + " ".join(f"'{c}'" for c in commands) if len(commands) == 1 else "virsh -q '" + "; ".join(commands) + "'", status)

    def end(self):
        self.machine.kill()


@contextlib.contextmanager
def storage_guest(*args):
    """A StorageGuest with a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="vireo-storage-", ignore_cleanup_errors=True) as work:
        machine = StorageGuest(work, *args)
        try:
            yield machine
        finally:
            machine.end()
