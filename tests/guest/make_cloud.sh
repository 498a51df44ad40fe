#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Makes, of the guest of make_rootfs.sh, a cloud image and the image of `vireo run debian`, in seconds and without a mount:
#   DIRECTORY/cloud.img   a disk with a partition table, GRUB for a BIOS, Debian's generic kernel (the cloud kernel knows no SATA CD-ROM, which is
#                         where virt-install puts the seed), cloud-init and an SSH server
#   DIRECTORY/run/{vmlinuz,initrd.img,disk.img}   a file system with the service that reads a seed and an SSH server
# usage: make_cloud.sh DIRECTORY
set -eu
here=$(cd "$(dirname "$0")" && pwd)
"$here/make_rootfs.sh" "$1"
"$here/make_kernels.sh" "$1"
out=$(cd "$1" && pwd)
[ -f "$out/cloud-3" ] && [ "$out/cloud-3" -nt "$out/rootfs-2" ] && exit 0
work=$(mktemp -d "$out/.cloud.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
PATH=$PATH:/usr/sbin:/sbin

# What is the same in both: the services that make_rootfs.sh has switched off. debugfs says its errors and ends well: what it says is looked at.
change() {
    debugfs -w -f "$2" "$1" > "$work/said" 2>&1
    ! grep -v -e '^debugfs' -e '^Allocated inode' -e '^$' "$work/said" >&2 || { echo "make_cloud.sh: debugfs could not change $1" >&2; exit 1; }
}
mkdir "$work/run"
cat > "$work/run.debugfs" <<'CMD'
symlink /etc/systemd/system/multi-user.target.wants/ssh.service /lib/systemd/system/ssh.service
symlink /etc/systemd/system/multi-user.target.wants/seed.service /etc/systemd/system/seed.service
CMD
cp --sparse=always "$out/disk.img" "$work/run/disk.img"
change "$work/run/disk.img" "$work/run.debugfs"
ln "$out/vmlinuz" "$out/initrd.img" "$work/run/"

# What cloud-init is not to spend a translator's time on: data sources that are not there, keys that take long to make, modules without work here.
cat > "$work/90-vireo.cfg" <<'CFG'
datasource_list: [NoCloud, None]
ssh_genkeytypes: [ed25519]
ssh_quiet_keygen: true
cloud_init_modules: [growpart, resizefs, set_hostname, update_etc_hosts, users-groups, ssh]
cloud_config_modules: [set-passwords, runcmd]
cloud_final_modules: [scripts-user, final-message]
CFG
cat > "$work/fstab" <<'CFG'
LABEL=root / ext4 errors=remount-ro,x-systemd.growfs 0 1
CFG
cat > "$work/grub.cfg" <<'CFG'
linux /boot/vmlinuz console=ttyS0 quiet
initrd /boot/initrd.img
boot
CFG
# The RAM disk has the modules of the drivers, and hands over to the disk whose label is root.
/usr/bin/python3 -B - "$here" "$out" "$work/initrd" <<'PY'
import sys
sys.path.insert(0, sys.argv[1])
import initramfs
SCRIPT = """
until findfs LABEL=root >/dev/null 2>&1; do sleep 0.1; done
mount -t ext4 $(findfs LABEL=root) /mnt
mount --move /dev /mnt/dev
umount /proc /sys
exec switch_root /mnt /sbin/init
"""
MODULES = ("crc32c_generic", "crc32c_intel", "virtio_pci", "virtio_blk", "virtio_net", "virtio_scsi", "virtio_console", "virtio_balloon", "virtio_rng", "ahci", "sd_mod", "sr_mod", "isofs", "ext4",
           "button", "evdev")
with open(sys.argv[3], "wb") as f:
    f.write(initramfs.build(sys.argv[2], "generic", MODULES, SCRIPT))
PY
cat > "$work/cloud.debugfs" <<CMD
rm /etc/cloud/cloud-init.disabled
write $work/90-vireo.cfg /etc/cloud/cloud.cfg.d/99-vireo.cfg
rm /etc/fstab
write $work/fstab /etc/fstab
write $out/generic/vmlinuz /boot/vmlinuz
write $work/initrd /boot/initrd.img
mkdir /boot/grub
write $work/grub.cfg /boot/grub/grub.cfg
symlink /etc/systemd/system/multi-user.target.wants/ssh.service /lib/systemd/system/ssh.service
rm /etc/systemd/system/ssh.service.d/keys.conf
CMD
# One partition at 1 MiB; before it GRUB: its first sector, and from the second the rest, which finds its blocks without being told.
first=2048
size=$(stat -c %s "$out/disk.img")
truncate -s $((first * 512 + size)) "$work/cloud.img"
echo "$first,,L,*" | sfdisk -q --label dos "$work/cloud.img"
dd if="$out/disk.img" of="$work/cloud.img" bs=1M seek=1 conv=sparse,notrunc status=none
change "$work/cloud.img?offset=$((first * 512))" "$work/cloud.debugfs"
grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' -o "$work/core.img" biosdisk part_msdos ext2 linux boot minicmd
dd if=/usr/lib/grub/i386-pc/boot.img of="$work/cloud.img" bs=440 count=1 conv=notrunc status=none
dd if="$work/core.img" of="$work/cloud.img" bs=512 seek=1 conv=notrunc status=none

chmod a+r "$work/cloud.img" "$work/run/disk.img"
chmod a+rx "$work/run"
rm -rf "$out/run"
mv "$work/run" "$out/run"
mv "$work/cloud.img" "$out/cloud.img"
touch "$out/cloud-3"
