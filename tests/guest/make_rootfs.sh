#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Makes the guest of `make run`, the tests and the benchmark from Debian's packages: build/guest/{vmlinuz,initrd.img,disk.img}.
# A systemd root file system on an ext4 image; nothing is mounted, no loop device is used. Root logs in without a password.
# usage: make_rootfs.sh DIRECTORY
set -eu
out=$1
mkdir -p "$out"
out=$(cd "$out" && pwd)
[ -f "$out/disk.img" ] && [ -f "$out/vmlinuz" ] && [ -f "$out/initrd.img" ] && exit 0

# The host's own mirror, if it names one for Debian 12; other archives that it uses are of no use here.
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null | awk '
    $1 == "deb" { for (i = 2; i < NF; i++) if ($i ~ /^(http|file|copy)/ && $(i + 1) == "bookworm") { print $i; exit } }
    $1 == "URIs:" { uri = $2 }
    $1 == "Suites:" { for (i = 2; i <= NF; i++) if ($i == "bookworm") { print uri; exit } }')
if [ -z "$mirror" ]; then
    echo "guest: no archive of Debian 12 (bookworm) in /etc/apt/sources.list or sources.list.d: add one" >&2
    exit 1
fi
work=$(mktemp -d "$out/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP

packages=systemd,systemd-sysv,dbus,udev,kmod,linux-image-cloud-amd64,initramfs-tools,zstd,iproute2,iputils-ping,procps,login,passwd,e2fsprogs,openssl,gzip,7zip,sqlite3,mawk,curl,util-linux,libpam-systemd

echo "guest: installing Debian 12 packages into a directory (about a minute) ..."
# One file system tree in a tar file; in a user namespace where we are not root.
mode=root
if [ "$(id -u)" != 0 ]; then
    missing=
    command -v newuidmap >/dev/null || missing="the package uidmap (apt-get install uidmap)"
    [ -n "$missing" ] || grep -q "^\($(id -un)\|$(id -u)\):" /etc/subuid 2>/dev/null ||
        missing="a range of user ids in /etc/subuid and /etc/subgid (usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $(id -un))"
    [ -n "$missing" ] || unshare -U true 2>/dev/null ||
        missing="user namespaces (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces above 0; a chroot has none)"
    mode=unshare
    if [ -n "$missing" ]; then
        echo "make_rootfs.sh: to make the guest's files as an ordinary user this host lacks: $missing; or run it as root" >&2
        exit 1
    fi
fi
mmdebstrap --mode=$mode --variant=minbase --include="$packages" \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook='echo vireo > "$1/etc/hostname"; printf "127.0.0.1 localhost vireo\n" > "$1/etc/hosts"' \
    --customize-hook='printf "/dev/vda / ext4 errors=remount-ro 0 1\n" > "$1/etc/fstab"' \
    --customize-hook='chroot "$1" passwd -d root' \
    --customize-hook='printf "[Match]\nName=en* eth*\n[Network]\nDHCP=yes\n" > "$1/etc/systemd/network/80-dhcp.network"' \
    --customize-hook='chroot "$1" systemctl enable systemd-networkd' \
    --customize-hook='chroot "$1" systemctl disable apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer dpkg-db-backup.timer || true' \
    --customize-hook='rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/usr/share/info' \
    bookworm "$work/root.tar" "$mirror" > "$out/rootfs.log" 2>&1 || { tail -n 20 "$out/rootfs.log"; exit 1; }

echo "guest: making the disk image ..."
mkdir "$work/root"
cat > "$work/pack.sh" <<'PACK'
set -eu
tar -C "$1/root" -xf "$1/root.tar" --exclude='./dev/*'
cp "$1"/root/boot/vmlinuz-* "$1/vmlinuz"
cp "$1"/root/boot/initrd.img-* "$1/initrd.img"
rm -f "$1"/root/boot/initrd.img-* "$1"/root/boot/vmlinuz-*
truncate -s 2G "$1/disk.img"
mke2fs -q -t ext4 -F -L root -d "$1/root" "$1/disk.img"
PACK
if [ "$(id -u)" = 0 ]; then sh "$work/pack.sh" "$work"; else fakeroot sh "$work/pack.sh" "$work"; fi
mv "$work/vmlinuz" "$work/initrd.img" "$out/"
mv "$work/disk.img" "$out/disk.img"
chmod a+r "$out/vmlinuz" "$out/initrd.img"
echo "guest: ready in $out"
