#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Installs the Debian packages of the groups named: build, run, check, bench. Quick when all are there. On another
# distribution it names them and stops.
set -eu
build="gcc libc6-dev meson ninja-build pkg-config libglib2.0-dev libjson-c-dev libslirp-dev libseccomp-dev libnbd-dev liburing-dev libgcrypt20-dev zlib1g-dev libzstd-dev libisal-dev nasm libxml2-dev libudev-dev libedit-dev libvncserver-dev"
run="seabios ipxe-qemu mmdebstrap e2fsprogs fakeroot tar python3 uidmap ca-certificates openssh-client dnsmasq-base nftables libvirt-clients"
check="python3 python3-pytest qemu-utils qemu-system-x86 busybox-static cpio libcapstone-dev acpica-tools curl iproute2 seabios ipxe-qemu grub-pc-bin grub-common xorriso mtools passt git util-linux mawk sqlite3 openssl binutils cryptsetup-bin clang libclang-rt-14-dev nbdkit libnbd-bin libvirt-clients libvirt-daemon-system libvirt-daemon-driver-qemu python3-libvirt virtinst libvirt-dev nftables dnsmasq-base fdisk openssh-client groff-base lvm2 iputils-ping procps strace virt-manager xvfb xdotool imagemagick dbus dbus-daemon at-spi2-core python3-gi bzip2 xz-utils lzop zstd"
bench="qemu-system-x86 openssl gzip 7zip sqlite3 mawk"
want=
for group in "$@"; do
    case $group in
    build) want="$want $build" ;;
    run) want="$want $run" ;;
    check) want="$want $check" ;;
    bench) want="$want $bench" ;;
    *) echo "packages.sh: no group '$group'" >&2; exit 1 ;;
    esac
done
if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    echo "This is not Debian: please install what these Debian 12 packages hold, then call meson and ninja:" >&2
    echo "  $want" >&2
    exit 1
fi
missing=
for p in $want; do
    dpkg-query -W -f '${db:Status-Abbrev}' "$p" 2>/dev/null | grep -q '^ii' || missing="$missing $p"
done
[ -z "$missing" ] && exit 0
echo "installing:$missing"
sudo=
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "Not root and no sudo: please install as root:  apt-get install$missing" >&2
        exit 1
    fi
    sudo=sudo
fi
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
$sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
