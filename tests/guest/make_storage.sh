#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Makes the root file system of the guest that proves the storage pools: DIRECTORY/storage.img, an ext4 disk with LVM, parted, NFS and iSCSI (both ends of
# them), Debian's virsh, and the libraries that vireod needs. The packages are unpacked, not set up: the test's own script is all that starts there.
# usage: make_storage.sh DIRECTORY
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
[ -f "$out/storage-1" ] && [ -f "$out/storage.img" ] && exit 0
work=$(mktemp -d "$out/.storage.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
PATH=$PATH:/usr/sbin:/sbin
. "$here/apt.sh"
private_apt "$work" '"amd64"'

# The last line: what vireod and vireo-vmm are linked with, and the firmware.
packages="dash base-files ncurses-base findutils diffutils hostname bash coreutils kmod mawk grep sed procps iproute2 udev util-linux mount fdisk e2fsprogs xfsprogs lvm2 parted dmsetup
    nfs-kernel-server nfs-common rpcbind open-iscsi tgt libvirt-clients
    libglib2.0-0 libjson-c5 libslirp0 libseccomp2 libnbd0 liburing2 libgcrypt20 zlib1g libzstd1 libisal2 libxml2 libudev1 libedit2 seabios"
echo "guest: downloading the storage guest's packages ..."
apt-get install -y -qq --download-only $packages > "$work/download.log" 2>&1 ||
    { cat "$work/update.log" "$work/download.log" >&2; echo "make_storage.sh: is a Debian 12 mirror within reach?" >&2; exit 1; }

cat > "$work/pack.sh" <<'PACK'
set -eu
cd "$1"
mkdir tree
# Nothing that is started is written in Perl or Python.
for deb in cache/archives/*.deb; do
    case ${deb##*/} in
    perl* | libperl* | lib*-perl_* | python* | libpython* | dpkg_* | debconf_* | passwd_*) continue ;;
    esac
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C tree --exclude './usr/share/doc/*' --exclude './usr/share/man/*' --exclude './usr/share/locale/*' --exclude './dev/*'
done
mkdir -p tree/proc tree/sys tree/dev tree/run tree/tmp tree/root tree/var/lib/nfs tree/mnt
printf 'root:x:0:0::/root:/bin/bash\nnobody:x:65534:65534::/:/bin/sh\nstatd:x:101:65534::/:/bin/false\n_rpc:x:102:65534::/:/bin/false\n' > tree/etc/passwd
printf 'root:x:0:\ndisk:x:6:\nkvm:x:104:\nnogroup:x:65534:\n' > tree/etc/group
printf '127.0.0.1 localhost\n' > tree/etc/hosts
echo storage > tree/etc/hostname
cp tree/usr/share/nfs-common/conffiles/* tree/etc/ 2>/dev/null || true
size=$(du -s --block-size=1M tree | cut -f 1)
truncate -s "$((size + size / 4 + 128))M" storage.img
mke2fs -q -t ext4 -F -L root -d tree storage.img
PACK
echo "guest: making the storage guest ..."
if [ "$(id -u)" = 0 ]; then sh "$work/pack.sh" "$work"; else fakeroot sh "$work/pack.sh" "$work"; fi
chmod a+r "$work/storage.img"
mv "$work/storage.img" "$out/storage.img"
touch "$out/storage-1"
