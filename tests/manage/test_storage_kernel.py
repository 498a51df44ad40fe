# SPDX-License-Identifier: GPL-2.0-or-later
"""Storage pools on what the kernel has to bring: vireod and virsh in a Debian guest with LVM, partitions, file systems, NFS and iSCSI. One boot for all tests;
each leaves its disks as it found them, empty or not. The judges are the guest's own programs: lvs, parted, mount, iscsiadm."""
import re

import pytest

from storage_guest import storage_guest

LVM, DISK, FS, XFS = "/dev/vdc", "/dev/vdd", "/dev/vde", "/dev/vdf"
SIZES = (256, 256, 64, 320)
MIB = 1 << 20


@pytest.fixture(scope="module")
def guest():
    with storage_guest(SIZES, {}) as machine:
        yield machine


@pytest.fixture
def v(guest):
    """v(command, ...): virsh runs them, each must do what it is told; the last one's output. Pools that a failed test leaves go."""
    pools = set()

    def virsh(*commands, status=0):
        for command in commands:
            words = command.split()
            if words[0] == "pool-define-as":
                pools.add(words[1])
            text = guest.run(f"virsh -q {command}", status)
            if words[0] == "pool-undefine":
                pools.discard(words[1])
        return text
    yield virsh
    for pool in pools:
        guest.run(f"virsh -q pool-destroy {pool}; virsh -q pool-undefine {pool}", None)


@pytest.fixture
def refused(v):
    """refused(command, words...): virsh ends with an error that has these words."""
    def check(command, *words):
        text = v(command, status=1)
        for word in words:
            assert word in text, f"{command}: the error does not speak of '{word}': {text}"
    return check


def sizes(text):
    """Capacity, allocation, available of `pool-info --bytes`."""
    return [int(re.search(rf"{name}: +(\d+)", text)[1]) for name in ("Capacity", "Allocation", "Available")]


def volume(text):
    """Key, capacity, allocation, extents of a volume's document."""
    return (re.search("<key>(.*)</key>", text)[1], *(int(re.search(rf"<{n} unit='bytes'>(\d+)<", text)[1]) for n in ("capacity", "allocation")),
            [(int(a), int(b)) for a, b in re.findall(r"<extent start='(\d+)' end='(\d+)'/>", text)])


def same(guest, path, size="8M"):
    guest.run(f"cmp -n {size} /root/in {path}")


@pytest.fixture
def group(v, guest):
    """The volume group 'vg', built by its pool; gone at the end."""
    v(f"pool-define-as vg logical --source-dev {LVM}", "pool-build vg --overwrite", "pool-start vg")
    yield "vg"
    guest.run("virsh -q destroy m", None)
    guest.run("virsh -q pool-destroy vg; vgremove -f vg", None)
    v("pool-undefine vg")


def test_logical(guest, v, refused, group):
    assert re.search(rf"{LVM} +vg +lvm2", guest.run("pvs --noheadings"))
    v("vol-create-as vg lv 8M", "vol-create-as vg odd 5M")
    key, capacity, allocation, extents = volume(v("vol-dumpxml lv vg"))
    assert key == guest.run("lvs --noheadings -o uuid vg/lv").strip(), "the key of a volume that was just made is not the volume's UUID"
    assert (capacity, allocation, extents) == (8 * MIB, 8 * MIB, [(0, 8 * MIB)])
    assert volume(v("vol-dumpxml odd vg"))[1] == 8 * MIB, "lvm rounds up to extents of 4 MiB"
    v("vol-upload lv /root/in vg", "vol-clone lv copy vg", "vol-download copy /tmp/out vg")
    same(guest, "/dev/vg/copy")
    same(guest, "/tmp/out")
    refused("vol-resize copy 4M vg", "shrink")
    v("vol-resize copy 20M vg")
    key, capacity, _, extents = volume(v("vol-dumpxml copy vg"))
    assert capacity == sum(b - a for a, b in extents) == 20 * MIB
    assert guest.run("lvs --noheadings --units m -o lv_size vg/copy").strip() == "20.00m"
    v("vol-resize copy 8M vg --shrink", "vol-wipe odd vg")
    guest.run("cmp -n 8M /dev/zero /dev/vg/odd")
    capacity, allocation, available = sizes(v("pool-info vg --bytes"))
    assert [f"{capacity}B", f"{available}B"] == guest.run("vgs --noheadings --units b -o vg_size,vg_free vg").split()
    assert allocation == 24 * MIB == capacity - available
    refused("vol-create-as vg big 1G", "insufficient free space")
    refused("vol-create-as vg lv 4M", "exists already")
    refused("vol-create-as vg snapshot 4M", "reserved")
    assert guest.run("lvs --noheadings -o lv_name vg").split() == ["copy", "lv", "odd"], "something is left of a volume that could not be made"


def test_logical_snapshots(guest, v, refused, group):
    v("vol-create-as vg base 12M", "vol-create-as vg snap 4M --backing-vol base", "vol-create-as vg sparse 64M --allocation 8M")
    text = v("vol-dumpxml snap vg")
    assert volume(text)[1:3] == (12 * MIB, 4 * MIB) and "<path>/dev/vg/base</path>" in text.split("<backingStore>")[1]
    text = v("vol-dumpxml sparse vg")
    assert volume(text)[1:3] == (64 * MIB, 8 * MIB) and "backingStore" not in text
    _, allocation, available = sizes(v("pool-info vg --bytes"))
    assert allocation == 24 * MIB and f"{available}B" == guest.run("vgs --noheadings --units b -o vg_free vg").strip()
    refused("vol-delete base vg", "'snap'", "delete that first")
    refused("vol-resize sparse 80M vg", "its size cannot be changed")
    v("pool-refresh vg")
    assert [line.split()[0] for line in v("vol-list vg").splitlines()] == ["base", "snap", "sparse"]
    guest.run("lvchange -an vg/sparse")
    v("pool-refresh vg")
    refused("vol-create-as vg sparse 4M", "not active")
    assert "sparse" in guest.run("lvs --noheadings vg")
    guest.run("lvchange -ay vg/sparse")
    v("pool-refresh vg", "vol-delete snap vg", "vol-delete base vg", "vol-delete sparse vg")
    assert guest.run("lvs --noheadings vg") == "" and sizes(v("pool-info vg --bytes"))[1] == 0


def test_logical_life(guest, v, refused, group):
    v("vol-create-as vg lv 4M", "pool-destroy vg")
    assert guest.run("lvs --noheadings -o lv_active vg").strip() == "" and "exist" not in guest.run("ls /dev/vg/lv", 2).replace("No such file", "")
    v("pool-start vg")
    assert "/dev/vg/lv" in v("vol-list vg")
    assert f"<device path='{LVM}'/>\n    <name>vg</name>\n    <format type='lvm2'/>" in v("find-storage-pool-sources-as logical")
    v("pool-destroy vg")
    refused("pool-build vg", "overwrite must be asked for")
    assert "lv" in guest.run("lvs --noheadings vg")
    v("pool-delete vg")
    assert guest.run("vgs --noheadings; pvs --noheadings") == ""
    refused("pool-start vg", "vg")


def test_disk_gpt(guest, v, refused):
    v(f"pool-define-as d disk --source-dev {DISK} --source-format gpt --target /dev", "pool-build d --overwrite", "pool-start d",
      "vol-create-as d vdd1 10M", "vol-create-as d vdd2 20M --format linux-swap")
    table = guest.run(f"parted -sm {DISK} unit MiB print").splitlines()
    assert ":gpt:" in table[1] and [line.split(":")[1:4] for line in table[2:]] == [["1.00MiB", "11.0MiB", "10.0MiB"], ["11.0MiB", "31.0MiB", "20.0MiB"]]
    assert "linux-swap" in v("vol-dumpxml vdd2 d") and volume(v("vol-dumpxml vdd1 d"))[3] == [(MIB, 11 * MIB)]
    refused("vol-create-as d new 5M", "expected 'vdd3'")
    refused("vol-create-as d vdd3 5M --format extended", "partition table")
    refused("vol-resize vdd1 20M d", "cannot be resized")
    v("vol-upload vdd1 /root/in d", "vol-clone vdd1 vdd3 d")
    same(guest, "/dev/vdd3")
    guest.run("mkfs.ext2 -q /dev/vdd2; mkdir -p /mnt/part; mount /dev/vdd2 /mnt/part")
    refused("vol-delete vdd2 d", "in use")
    assert len(guest.run(f"parted -sm {DISK} print").splitlines()) == 5, "a mounted partition has gone from the table"
    guest.run("umount /mnt/part")
    v("vol-delete vdd2 d")
    assert guest.run("ls /dev/vdd*").split() == ["/dev/vdd", "/dev/vdd1", "/dev/vdd3"]
    assert f"<freeExtent start='{11 * MIB}' end='{31 * MIB}'/>" in v("pool-dumpxml d")
    v("pool-destroy d", "pool-start d")
    assert re.findall(r"/dev/\S+", v("vol-list d")) == ["/dev/vdd1", "/dev/vdd3"]
    v("pool-destroy d", "pool-undefine d")
    # Names that last: the pool's device and directory by path.
    path = guest.run("for p in /dev/disk/by-path/pci*; do [ $(readlink -f $p) = /dev/vdd ] && echo $p; done; true").split()[0]
    v(f"pool-define-as d disk --source-dev {path} --source-format gpt --target /dev/disk/by-path", "pool-start d", "vol-create-as d vdd2 5M")
    assert re.findall(r"(vdd\d) +(\S+)", v("vol-list d")) == [(f"vdd{n}", f"{path}-part{n}") for n in (1, 2, 3)]
    v("vol-delete vdd3 d", "pool-destroy d", "pool-undefine d")
    v(f"pool-define-as d disk --source-dev {DISK} --source-format dos --target /dev")
    refused("pool-start d", "'gpt'", "'dos'")
    v("pool-undefine d")


def test_disk_dos(guest, v, refused):
    v(f"pool-define-as d disk --source-dev {DISK} --source-format dos --target /dev", "pool-build d --overwrite", "pool-start d", "vol-create-as d vdd1 10M",
      "vol-create-as d vdd2 100M --format extended", "vol-create-as d vdd5 20M", "vol-create-as d vdd6 20M", "vol-create-as d vdd3 5M", "vol-create-as d vdd4 5M")
    refused("vol-create-as d vdd8 5M", "expected 'vdd7'")
    refused("vol-create-as d vdd7 5M --format extended", "already exists")
    refused("vol-create-as d vdd7 70M", "extended partition")
    v("vol-create-as d vdd7 5M", "pool-refresh d")
    kinds = re.findall(r"^ *(\d) +\S+ +\S+ +(\S+) +(\w+)", guest.run(f"parted -s {DISK} unit MiB print"), re.M)
    assert sorted(kinds) == [("1", "10.0MiB", "primary"), ("2", "100MiB", "extended"), ("3", "5.00MiB", "primary"), ("4", "5.00MiB", "primary"),
                             ("5", "20.0MiB", "logical"), ("6", "20.0MiB", "logical"), ("7", "5.00MiB", "logical")]
    assert volume(v("vol-dumpxml vdd2 d"))[1:3] == (100 * MIB, 100 * MIB)
    refused("vol-delete vdd5 d", "other names")
    refused("vol-delete vdd2 d", "logical")
    guest.run("head -c 5M /root/in > /tmp/part")
    v("vol-upload vdd7 /tmp/part d")
    same(guest, "/dev/vdd7", "5M")
    v("vol-delete vdd7 d", "vol-delete vdd6 d", "vol-delete vdd5 d", "vol-delete vdd2 d")
    assert guest.run("ls /dev/vdd*").split() == ["/dev/vdd", "/dev/vdd1", "/dev/vdd3", "/dev/vdd4"]
    v("pool-destroy d", "pool-undefine d")
    v(f"pool-define-as d disk --source-dev {DISK} --source-format mac --target /dev")
    refused("pool-build d --overwrite", "'mac'", "dos, gpt, sun or dvh")
    v("pool-undefine d")


@pytest.mark.parametrize("kind, device", [("ext4", FS), ("xfs", XFS)])
def test_fs(guest, v, refused, kind, device):
    v(f"pool-define-as f fs --source-dev {device} --source-format {kind} --target /srv/fs", "pool-build f")
    refused("pool-start f", "mount")
    v("pool-build f --no-overwrite")
    refused("pool-build f --no-overwrite", "overwrite must be asked for")
    v("pool-start f")
    where, what, options = guest.run("findmnt -no SOURCE,FSTYPE,OPTIONS /srv/fs").split()
    assert (where, what) == (device, kind) and {"nodev", "nosuid", "noexec"} <= set(options.split(","))
    v("vol-create-as f raw 10M", "vol-create-as f q 50M --format qcow2")
    guest.run("touch /srv/fs/new")
    v("pool-refresh f")
    assert {line.split()[0] for line in v("vol-list f").splitlines()} - {"lost+found"} == {"new", "q", "raw"}
    capacity, _, available = sizes(v("pool-info f --bytes"))
    size, used = map(int, guest.run("df --output=size,used /srv/fs | tail -n 1").split())
    assert (capacity // 1024, available // 1024) == (size, size - used)
    refused("pool-delete f", "active")
    v("pool-destroy f")
    guest.run("findmnt /srv/fs", 1)
    v("pool-start f")
    assert "raw" in v("vol-list f")
    v("pool-destroy f", "pool-delete f", "pool-undefine f")


def test_nfs(guest, v, refused):
    guest.run("rpcbind -w; mkdir -p /srv/export /srv/other; mount -t tmpfs -o size=64m tmpfs /srv/export; mount -t nfsd nfsd /proc/fs/nfsd\n"
              "printf '/srv/export *(rw,no_root_squash,fsid=1,no_subtree_check)\\n/srv/other 127.0.0.1(ro,fsid=2)\\n' > /etc/exports\n"
              "touch /var/lib/nfs/etab /var/lib/nfs/rmtab; exportfs -ra; echo 1 > /proc/sys/fs/nfs/nlm_grace_period; echo 3 > /proc/sys/fs/nfs/nlm_timeout\n"
              "echo 10 > /proc/fs/nfsd/nfsv4leasetime; echo 10 > /proc/fs/nfsd/nfsv4gracetime; rpc.nfsd 2 && rpc.mountd && echo Y > /proc/fs/nfsd/v4_end_grace")
    text = v("find-storage-pool-sources-as netfs localhost")
    assert re.findall("<dir path='(.*)'/>\n    <format type='nfs'/>", text) == ["/srv/export", "/srv/other"] and text.count("<host name='localhost'/>") == 2
    refused("find-storage-pool-sources-as netfs", "hostname must be specified")
    for kind, version in (("auto", "4.2"), ("nfs", "3")):
        protocol = f"--source-protocol-ver {version}" if kind == "nfs" else ""
        v(f"pool-define-as n netfs --source-host localhost --source-path /srv/export --source-format {kind} {protocol} --target /srv/nfs", "pool-build n", "pool-start n")
        where, options = guest.run("findmnt -no SOURCE,OPTIONS /srv/nfs").split()
        assert where == "localhost:/srv/export" and {"nodev", "nosuid", "noexec", f"vers={version}"} <= set(options.split(","))
        v("vol-create-as n raw 8M", "vol-create-as n q 100M --format qcow2", "vol-upload raw /root/in n", "vol-clone raw copy n", "vol-resize q 120M n")
        same(guest, "/srv/export/copy")
        assert guest.run("ls -A /srv/export").split() == ["copy", "q", "raw"], "something is left beside the volumes"
        guest.run("touch /srv/export/.vireo-x.123456.unfinished")
        v("pool-refresh n")
        assert guest.run("ls -A /srv/export").split() == ["copy", "q", "raw"], "what a killed daemon left on NFS does not go"
        v("vol-delete copy n", "vol-delete raw n", "vol-delete q n", "pool-destroy n")
        guest.run("findmnt /srv/nfs", 1)
        v("pool-delete n", "pool-undefine n")
    v("pool-define-as n netfs --source-host localhost --source-path /srv/nothing --source-format nfs --target /srv/nfs", "pool-build n")
    refused("pool-start n", "/srv/nothing")
    v("pool-undefine n")


def test_iscsi(guest, v, refused):
    target = "iqn.2026-11.example:one"
    guest.run("echo InitiatorName=iqn.2026-11.example:here > /etc/iscsi/initiatorname.iscsi; truncate -s 32M /root/one /root/two; tgtd; iscsid\n"
              "t() { tgtadm --lld iscsi --tid 1 \"$@\"; }; until t --op new --mode target -T " + target + " 2>/dev/null; do sleep 0.1; done\n"
              "t --op new --mode logicalunit --lun 1 -b /root/one; t --op new --mode logicalunit --lun 2 -b /root/two; t --op bind --mode target -I ALL")
    assert f"<host name='127.0.0.1'/>\n    <device path='{target}'/>" in v("find-storage-pool-sources-as iscsi 127.0.0.1")
    assert "No records" in guest.run("iscsiadm -m node", None), "asking for targets has left a record"
    guest.run("iscsiadm -m discovery -t st -p 127.0.0.1")  # an administrator's, with another group number than ours would have
    v(f"pool-define-as i iscsi --source-host 127.0.0.1 --source-dev {target} --target /dev/disk/by-path", "pool-start i")
    assert target in guest.run("iscsiadm -m session")
    units = re.findall(r"(unit:0:0:\d) +(\S+)", v("vol-list i"))
    assert units == [(f"unit:0:0:{n}", f"/dev/disk/by-path/ip-127.0.0.1:3260-iscsi-{target}-lun-{n}") for n in (1, 2)]
    assert sizes(v("pool-info i --bytes")) == [64 * MIB, 64 * MIB, 0]
    v("vol-upload unit:0:0:1 /root/in i")
    same(guest, "/root/one")
    refused("vol-create-as i x 1M", "cannot make volumes")
    refused("vol-delete unit:0:0:1 i", "cannot delete volumes")
    v("pool-destroy i")
    assert "No active sessions" in guest.run("iscsiadm -m session", None) and "No such file" in guest.run("ls /dev/sda", 2)
    guest.run("tgtadm --lld iscsi --op new --mode account --user ann --password swordfish12; tgtadm --lld iscsi --op bind --mode account --tid 1 --user ann")
    refused("pool-start i", "authorization failure")
    uuid = "6e12ab3c-4d2c-44d1-9a30-0d5e8a7c1f00"
    guest.run("cat > /tmp/i.xml <<'END'\n"
              f"<pool type='iscsi'><name>i</name><source><host name='127.0.0.1'/><device path='{target}'/><auth type='chap' username='ann'><secret usage='chap-i'/></auth>"
              "</source><target><path>/dev/disk/by-path</path></target></pool>\nEND")
    guest.run(f"echo \"<secret ephemeral='no' private='yes'><uuid>{uuid}</uuid><usage type='iscsi'><target>chap-i</target></usage></secret>\" > /tmp/s.xml; printf swordfish12 > /tmp/key")
    v("pool-undefine i", "pool-define /tmp/i.xml")
    refused("pool-start i", "secret")
    v("secret-define /tmp/s.xml", f"secret-set-value {uuid} --file /tmp/key --plain", "pool-start i")
    assert len(v("vol-list i").splitlines()) == 2
    guest.run("cmp /root/one /dev/disk/by-path/*lun-1")
    v("pool-destroy i", "pool-undefine i")
    guest.run("sed -i \"s,</source>,<initiator><iqn name='iqn.2026-11.example:own'/></initiator></source>,\" /tmp/i.xml")
    v("pool-define /tmp/i.xml", "pool-start i")
    assert re.search(r"Initiatorname: (\S+)", guest.run("iscsiadm -m session -P 1"))[1] == "iqn.2026-11.example:own"
    assert len(v("vol-list i").splitlines()) == 2
    v("pool-destroy i", "pool-undefine i")
    assert "No active sessions" in guest.run("iscsiadm -m session", None)
    guest.run("iscsiadm -m node -o delete", None)
    v(f"pool-define-as i iscsi --source-host 127.0.0.1 --source-dev {target}:none --target /dev/disk/by-path")
    refused("pool-start i", f"{target}:none")
    v("pool-undefine i")


DOMAIN = """<domain type='qemu'><name>m</name><memory unit='MiB'>32</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices><emulator>/usr/bin/vireo-vmm</emulator>
<disk type='volume' device='disk'><driver name='qemu' type='raw'/><source pool='vg' volume='lv'/><target dev='vda' bus='virtio'/></disk>
<disk type='volume' device='disk'><driver name='qemu' type='raw'/><source pool='d' volume='vdd1'/><target dev='vdb' bus='virtio'/></disk></devices></domain>"""


def test_domain(guest, v, refused, group):
    """A machine whose disks are a logical volume and a partition, by the names of pool and volume."""
    v(f"pool-define-as d disk --source-dev {DISK} --source-format gpt --target /dev", "pool-build d --overwrite", "pool-start d", "vol-create-as d vdd1 10M",
      "vol-create-as vg lv 8M")
    guest.run(f"cat > /tmp/m.xml <<'END'\n{DOMAIN}\nEND")
    v("create --paused /tmp/m.xml")
    assert {"/dev/vdd1", guest.run("readlink -f /dev/vg/lv").strip()} <= set(guest.run("readlink /proc/$(pidof vireo-vmm)/fd/*").split())
    for disk, size in (("vda", 8 * MIB), ("vdb", 10 * MIB)):
        assert re.findall(r":\s+(\d+)", v(f"domblkinfo m {disk}")) == [str(size)] * 3
    text = v("domstats m --block")
    assert "block.0.path=/dev/vg/lv\n" in text and f"block.0.capacity={8 * MIB}\n" in text and f"block.1.physical={10 * MIB}\n" in text
    for command in ("vol-delete lv vg", "vol-wipe lv vg", "vol-resize lv 16M vg", "vol-delete vdd1 d"):
        refused(command, "in use by domain 'm'")
    refused("pool-destroy vg", "in use")
    v("destroy m", "vol-delete lv vg", "vol-delete vdd1 d", "pool-destroy d", "pool-undefine d")


def test_daemon_restarts(guest, v, group):
    """Pools go on over the end of a daemon; after a restart of the host those that start by themselves are made ready again, and others left alone."""
    v(f"pool-define-as d disk --source-dev {DISK} --source-format gpt --target /dev", "pool-build d --overwrite", "pool-start d",
      f"pool-define-as f fs --source-dev {FS} --source-format ext4 --target /srv/fs", "pool-build f --overwrite", "pool-start f", "vol-create-as vg lv 4M",
      "vol-create-as d vdd1 5M", "vol-create-as f v 1M", "pool-autostart vg", "pool-autostart f")
    again = ("kill -9 $(pidof vireod); rm -f /srv/run/vireo/libvirt-sock; {} (/srv/vireod --root /srv >> /tmp/vireod.log 2>&1 &)\n"
             "until virsh -q uri >/dev/null 2>&1; do sleep 0.1; done")
    guest.run(again.format(""))
    assert sorted(v("pool-list --name").split()) == ["d", "default", "f", "vg"]
    assert "lv" in v("vol-list vg") and "vdd1" in v("vol-list d") and "v" in v("vol-list f")
    guest.run(again.format("umount /srv/fs; vgchange -qan vg; rm -rf /srv/run/vireo/storage;"))
    assert sorted(v("pool-list --name").split()) == ["default", "f", "vg"]
    assert guest.run("findmnt -no SOURCE /srv/fs").strip() == FS and "active" in guest.run("lvs --noheadings -o lv_active vg")
    v("pool-destroy f", "pool-undefine f", "pool-undefine d")


@pytest.mark.parametrize("definition, command, program, package", [
    (f"x logical --source-dev {LVM}", "pool-build x", "/sbin/lvcreate", "lvm2"), (f"x disk --source-dev {DISK} --target /dev", "pool-build x", "/sbin/sfdisk", "fdisk"),
    (f"x fs --source-dev {FS} --source-format ext4 --target /srv/x", "pool-build x --overwrite", "/sbin/mkfs.ext4", "e2fsprogs"),
    ("x netfs --source-host localhost --source-path /srv --source-format nfs --target /srv", "pool-start x", "/sbin/mount.nfs", "nfs-common"),
    ("x iscsi --source-host localhost --source-dev iqn.x --target /dev", "pool-start x", "/sbin/iscsiadm", "open-iscsi"),
])
def test_missing_tool(guest, v, refused, definition, command, program, package):
    v(f"pool-define-as {definition}")
    guest.run(f"mv {program} /root/away")
    try:
        refused(command, f"'{program.rsplit('/', 1)[1]}'", f"'{package}'")
    finally:
        guest.run(f"mv /root/away {program}")
        v("pool-undefine x")


def test_others_are_refused(refused):
    for kind, words in (("iscsi-direct", "--source-host h --source-dev d --source-initiator i"), ("scsi", "--adapter-name scsi_host0"), ("mpath", ""), ("zfs", "--source-name z")):
        refused(f"pool-define-as x {kind} {words} --target /dev", f"'{kind}'", "iscsi")
