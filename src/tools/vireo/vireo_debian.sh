#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Makes the image of `vireo run debian` from Debian's packages: DIRECTORY/{vmlinuz,initrd.img,disk.qcow2 or disk.img}. Nothing is mounted.
# A service of the image reads the seed (a volume labelled cidata, as cloud-init's NoCloud has it) at the first boot: host name, user, keys.
# usage: vireo_debian.sh DIRECTORY
set -eu
out=$1
mkdir -p "$out"
missing=
for tool in mmdebstrap mke2fs tar; do command -v $tool >/dev/null || missing="$missing $tool"; done
[ "$(id -u)" = 0 ] || command -v fakeroot >/dev/null || missing="$missing fakeroot"
if [ -n "$missing" ]; then
    echo "to make a Debian image this host lacks:$missing; install the packages mmdebstrap, e2fsprogs, tar and fakeroot, or name a cloud image: vireo run FILE" >&2
    exit 1
fi
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null | awk '
    $1 == "deb" { for (i = 2; i < NF; i++) if ($i ~ /^(http|file|copy)/ && $(i + 1) == "bookworm") { print $i; exit } }
    $1 == "URIs:" { uri = $2 }
    $1 == "Suites:" { for (i = 2; i <= NF; i++) if ($i == "bookworm") { print uri; exit } }')
if [ -z "$mirror" ]; then
    echo "no archive of Debian 12 (bookworm) in /etc/apt/sources.list or sources.list.d: add one" >&2
    exit 1
fi
work=$(mktemp -d "$out/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
mode=root
[ "$(id -u)" = 0 ] || mode=unshare
cat > "$work/seed" <<'SEED'
#!/bin/sh
# Reads the seed: local-hostname of meta-data; of user-data the first user's name, sudo and keys, each on a line of its own.
set -u
device=$(blkid -L cidata || blkid -L CIDATA) || exit 0
mkdir -p /run/cidata
mount -o ro "$device" /run/cidata || exit 0
data=/run/cidata/user-data
name=$(sed -n 's/^local-hostname: *//p' /run/cidata/meta-data | head -n 1)
if [ -n "$name" ]; then
    echo "$name" > /etc/hostname
    hostname "$name"
    printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$name" > /etc/hosts
fi
user=$(sed -n 's/^ *- name: *//p' $data | head -n 1)
case $user in '' | *[!a-z0-9_-]*) umount /run/cidata; exit 0 ;; esac
id "$user" >/dev/null 2>&1 || useradd -m -s /bin/bash "$user"
home=$(getent passwd "$user" | cut -d: -f6)
if grep -q '^ *sudo: *ALL' $data; then
    echo "$user ALL=(ALL) NOPASSWD:ALL" > /etc/sudoers.d/90-seed
    chmod 440 /etc/sudoers.d/90-seed
fi
mkdir -p "$home/.ssh"
sed -n 's/^ *- *\(\(ssh-\|ecdsa-\|sk-\).*\)/\1/p' $data > "$home/.ssh/authorized_keys"
chmod 700 "$home/.ssh"
chmod 600 "$home/.ssh/authorized_keys"
chown -R "$user:" "$home/.ssh"
umount /run/cidata
SEED
cat > "$work/seed.service" <<'UNIT'
[Unit]
Description=User and keys from the seed
After=local-fs.target
Before=ssh.service
ConditionPathExists=!/var/lib/seed-done
[Service]
Type=oneshot
ExecStart=/usr/local/sbin/seed
ExecStartPost=/bin/touch /var/lib/seed-done
[Install]
WantedBy=multi-user.target
UNIT
packages=systemd,systemd-sysv,dbus,udev,kmod,linux-image-cloud-amd64,initramfs-tools,zstd,iproute2,iputils-ping,procps,login,passwd,sudo,e2fsprogs,openssh-server,curl,ca-certificates,util-linux,libpam-systemd,less,nano,apt
echo "making the Debian image (some minutes, once) ..." >&2
mmdebstrap --mode=$mode --variant=minbase --include="$packages" \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook='echo debian > "$1/etc/hostname"; printf "127.0.0.1 localhost debian\n" > "$1/etc/hosts"' \
    --customize-hook='printf "/dev/vda / ext4 errors=remount-ro,x-systemd.growfs 0 1\n" > "$1/etc/fstab"' \
    --customize-hook='printf "[Match]\nName=en* eth*\n[Network]\nDHCP=yes\n" > "$1/etc/systemd/network/80-dhcp.network"' \
    --customize-hook="copy-in $work/seed /usr/local/sbin" --customize-hook='chmod 755 "$1/usr/local/sbin/seed"' \
    --customize-hook="copy-in $work/seed.service /etc/systemd/system" \
    --customize-hook='chroot "$1" systemctl enable systemd-networkd seed.service ssh.service' \
    --customize-hook='rm -f "$1"/etc/ssh/ssh_host_*; printf "[Service]\nExecStartPre=\nExecStartPre=/usr/bin/ssh-keygen -A\nExecStartPre=/usr/sbin/sshd -t\n" > "$1/keys.conf"; mkdir -p "$1/etc/systemd/system/ssh.service.d"; mv "$1/keys.conf" "$1/etc/systemd/system/ssh.service.d/keys.conf"' \
    --customize-hook='chroot "$1" systemctl disable apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer dpkg-db-backup.timer || true' \
    --customize-hook='rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/*; : > "$1/etc/machine-id"' \
    bookworm "$work/root.tar" "$mirror" > "$out/image.log" 2>&1 || { tail -n 20 "$out/image.log" >&2; exit 1; }
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
chmod a+r "$work/vmlinuz" "$work/initrd.img" "$work/disk.img"
mv "$work/vmlinuz" "$work/initrd.img" "$out/"
mv "$work/disk.img" "$out/disk.img"
