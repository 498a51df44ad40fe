#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Makes the guest of `make run`, the tests and the benchmark from Debian's packages: DIRECTORY/{vmlinuz,initrd.img,disk.img}.
# It is the image of `vireo run debian` and more programs; root logs in without a password. What only a guest with a seed has, SSH and
# cloud-init, is off: make_cloud.sh switches it on.
# usage: make_rootfs.sh DIRECTORY
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
[ -f "$out/rootfs-2" ] && [ -f "$out/disk.img" ] && [ -f "$out/vmlinuz" ] && [ -f "$out/initrd.img" ] && exit 0
rm -f "$out/disk.img" "$out/rootfs-2"
program=$(mktemp)
trap 'rm -f "$program"' EXIT
trap 'exit 1' INT TERM HUP
cat > "$program" <<'TREE'
#!/bin/sh
set -eu
echo vireo > "$1/etc/hostname"
printf '127.0.0.1 localhost vireo\n' > "$1/etc/hosts"
chroot "$1" passwd -d root
chroot "$1" systemctl disable ssh.service seed.service
touch "$1/etc/cloud/cloud-init.disabled"
TREE
chmod 755 "$program"
sh "$here/../../src/tools/vireo/vireo_debian.sh" "$out" openssl,gzip,7zip,sqlite3,mawk,cloud-init "$program"
touch "$out/rootfs-2"
echo "guest: ready in $out"
