#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Fetches what the guest tests boot from Debian's packages: DIRECTORY/NAME/{vmlinuz,modules/} for NAME generic, cloud and
# 686-pae, DIRECTORY/busybox-{amd64,i386} and DIRECTORY/memtest.bin. Works in a private apt state, so that the host's own
# apt configuration (its architectures above all) stays as it is; root and an ordinary user alike.
# usage: make_kernels.sh DIRECTORY
set -eu
out=$1
mkdir -p "$out"
out=$(cd "$out" && pwd)
[ -f "$out/complete-10" ] && exit 0
work=$(mktemp -d "$out/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP

mkdir "$work/debs"
. "$(dirname "$0")/apt.sh"
private_apt "$work" '"amd64"; "i386"'

# The package that a linux-image-NAME package stands for.
image_of() {
    apt-cache depends "$1" 2>/dev/null | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }'
}
generic=$(image_of linux-image-amd64:amd64)
cloud=$(image_of linux-image-cloud-amd64:amd64)
pae=$(image_of linux-image-686-pae:i386)
if [ -z "$generic" ] || [ -z "$cloud" ] || [ -z "$pae" ]; then
    cat "$work/update.log" >&2
    echo "make_kernels.sh: the package lists name no kernel; is a Debian 12 mirror within reach?" >&2
    exit 1
fi
case $pae in *:i386) ;; *) pae=$pae:i386 ;; esac

echo "guest: downloading $generic, $cloud, $pae, memtest86+, busybox ..."
cd "$work/debs"
apt-get download -qq "$generic" "$cloud" "$pae" memtest86+ busybox-static:amd64 busybox-static:i386 > "$work/download.log" 2>&1 ||
    { cat "$work/download.log"; exit 1; }

# Only what the tests load is unpacked: a whole kernel package is some 400 MB.
unpack_kernel() {
    mkdir -p "$work/tree/$1" "$work/new/$1/modules"
    dpkg-deb --fsys-tarfile "$2" | tar -x -C "$work/tree/$1" --wildcards './boot/vmlinuz*' './lib/modules/*/modules.builtin' \
        './lib/modules/*/kernel/drivers/virtio' './lib/modules/*/kernel/drivers/block/virtio_blk.ko' \
        './lib/modules/*/kernel/drivers/net/virtio_net.ko' './lib/modules/*/kernel/drivers/net/net_failover.ko' \
        './lib/modules/*/kernel/net/core/failover.ko' './lib/modules/*/kernel/drivers/char' \
        './lib/modules/*/kernel/fs/ext4' './lib/modules/*/kernel/fs/jbd2' './lib/modules/*/kernel/fs/mbcache.ko' \
        './lib/modules/*/kernel/lib/crc*' './lib/modules/*/kernel/crypto/crc*' './lib/modules/*/kernel/arch/x86/crypto/crc*' \
        './lib/modules/*/kernel/arch/x86/kvm' './lib/modules/*/kernel/virt' './lib/modules/*/kernel/drivers/crypto/ccp' \
        './lib/modules/*/kernel/drivers/vhost' './lib/modules/*/kernel/drivers/net/tun.ko' './lib/modules/*/kernel/drivers/net/tap.ko' \
        './lib/modules/*/kernel/drivers/net/ethernet/intel/e1000' './lib/modules/*/kernel/drivers/net/ethernet/intel/e1000e' \
        './lib/modules/*/kernel/drivers/net/ethernet/realtek/8139*' './lib/modules/*/kernel/drivers/net/mii.ko' \
        './lib/modules/*/kernel/net/8021q' './lib/modules/*/kernel/net/802' './lib/modules/*/kernel/net/llc' \
        './lib/modules/*/kernel/net/packet' './lib/modules/*/kernel/drivers/misc/pvpanic*' './lib/modules/*/kernel/drivers/acpi/button.ko' \
        './lib/modules/*/kernel/drivers/ata/*ahci.ko' './lib/modules/*/kernel/drivers/ata/libata.ko' './lib/modules/*/kernel/drivers/cdrom' \
        './lib/modules/*/kernel/drivers/scsi/s[cdr]*_*.ko' './lib/modules/*/kernel/drivers/scsi/virtio_scsi.ko' \
        './lib/modules/*/kernel/drivers/gpu/drm/drm*.ko' './lib/modules/*/kernel/drivers/gpu/drm/ttm' './lib/modules/*/kernel/drivers/gpu/drm/tiny/bochs.ko' \
        './lib/modules/*/kernel/drivers/gpu/drm/virtio' './lib/modules/*/kernel/drivers/media/cec' \
        './lib/modules/*/kernel/drivers/input/evdev.ko' './lib/modules/*/kernel/drivers/input/mouse/psmouse.ko' \
        './lib/modules/*/kernel/drivers/nvme/host' './lib/modules/*/kernel/block' './lib/modules/*/kernel/fs/isofs' \
        './lib/modules/*/kernel/drivers/usb/core' './lib/modules/*/kernel/drivers/usb/common' './lib/modules/*/kernel/drivers/usb/host/xhci*' \
        './lib/modules/*/kernel/drivers/usb/storage/usb-storage.ko' './lib/modules/*/kernel/drivers/hid/*hid*.ko' './lib/modules/*/kernel/drivers/hid/usbhid' \
        './lib/modules/*/kernel/drivers/input/*.ko' './lib/modules/*/kernel/sound/core' './lib/modules/*/kernel/sound/hda' \
        './lib/modules/*/kernel/sound/pci/hda' './lib/modules/*/kernel/sound/soundcore.ko' './lib/modules/*/kernel/drivers/leds/trigger/ledtrig-audio.ko' \
        './lib/modules/*/kernel/drivers/md/dm-mod.ko' './lib/modules/*/kernel/drivers/md/dm-snapshot.ko' './lib/modules/*/kernel/drivers/md/dm-bufio.ko' './lib/modules/*/kernel/drivers/md/dm-zero.ko' \
        './lib/modules/*/kernel/fs/nfs' './lib/modules/*/kernel/fs/nfsd' './lib/modules/*/kernel/fs/nfs_common' './lib/modules/*/kernel/fs/lockd' \
        './lib/modules/*/kernel/fs/fscache' './lib/modules/*/kernel/fs/netfs' './lib/modules/*/kernel/net/sunrpc' './lib/modules/*/kernel/net/dns_resolver' \
        './lib/modules/*/kernel/fs/xfs' './lib/modules/*/kernel/lib/libcrc32c.ko' './lib/modules/*/kernel/drivers/scsi/*iscsi*.ko' './lib/modules/*/kernel/drivers/dax' \
        './lib/modules/*/kernel/drivers/net/macv*.ko' './lib/modules/*/kernel/drivers/net/veth.ko' './lib/modules/*/kernel/net/bridge/bridge.ko' \
        './lib/modules/*/kernel/net/sched/sch_htb.ko' './lib/modules/*/kernel/net/sched/sch_ingress.ko' './lib/modules/*/kernel/net/sched/cls_u32.ko' './lib/modules/*/kernel/net/sched/act_police.ko' \
        2> "$work/tar.log" || grep -v 'Not found in archive\|previous errors' "$work/tar.log" >&2 || true
    cp "$work/tree/$1"/boot/vmlinuz* "$work/new/$1/vmlinuz"
    cp "$work/tree/$1"/lib/modules/*/modules.builtin "$work/new/$1/"
    find "$work/tree/$1" -name '*.ko' -exec cp {} "$work/new/$1/modules/" \;
}
echo "guest: unpacking ..."
unpack_kernel generic linux-image-*[0-9]-amd64_*.deb
unpack_kernel cloud linux-image-*-cloud-amd64_*.deb
unpack_kernel 686-pae linux-image-*-686-pae_*.deb
for arch in amd64 i386; do
    dpkg-deb --fsys-tarfile busybox-static_*_$arch.deb | tar -x -O ./bin/busybox > "$work/new/busybox-$arch"
    chmod 755 "$work/new/busybox-$arch"
done
dpkg-deb --fsys-tarfile memtest86+_*.deb | tar -x -C "$work/tree" ./boot
cp "$work"/tree/boot/memtest86+x64.bin "$work/new/memtest.bin"
rm -rf "$out/generic" "$out/cloud" "$out/686-pae"
mv "$work"/new/* "$out/"
: > "$out/complete-10"
