#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Makes the image of `vireo run debian` from Debian's packages: DIRECTORY/{vmlinuz,initrd.img,disk.img}. Nothing is mounted.
# A service of the image reads the seed (a volume labelled cidata, as cloud-init's NoCloud has it) at the first boot: host name, user, keys.
# usage: vireo_debian.sh DIRECTORY [MORE_PACKAGES [PROGRAM]]   PROGRAM gets the finished tree's path before it becomes a disk
set -eu
out=$1
more=${2:+,$2}
program=${3:-true}
PATH=$PATH:/usr/sbin:/sbin # where an ordinary user does not look for mke2fs

refuse() {
    echo "to make a Debian image this host lacks $1, or name a cloud image: vireo run FILE" >&2
    exit 1
}
user=$(id -un)
missing=
for tool in mmdebstrap mke2fs tar flock; do command -v $tool >/dev/null || missing="$missing $tool"; done
[ "$(id -u)" = 0 ] || command -v fakeroot >/dev/null || missing="$missing fakeroot"
[ "$(id -u)" = 0 ] || command -v newuidmap >/dev/null || missing="$missing newuidmap"
[ -z "$missing" ] || refuse "$(echo $missing | sed 's/ /, /g'): apt-get install mmdebstrap e2fsprogs tar util-linux fakeroot uidmap"
mode=root
if [ "$(id -u)" != 0 ]; then
    mode=unshare
    grep -q "^\($user\|$(id -u)\):" /etc/subuid 2>/dev/null ||
        refuse "a range of user ids for $user in /etc/subuid and /etc/subgid: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $user"
    unshare -U true 2>/dev/null || refuse "user namespaces (a chroot has none): sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces above 0"
fi
# The host's own mirror, if it names one for Debian 12; other archives that it uses are of no use here.
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null | awk '
    $1 == "deb" { for (i = 2; i < NF; i++) if ($i ~ /^(http|file|copy)/ && $(i + 1) == "bookworm") { print $i; exit } }
    $1 == "URIs:" { uri = $2 }
    $1 == "Suites:" { for (i = 2; i <= NF; i++) if ($i == "bookworm") { print uri; exit } }')
[ -n "$mirror" ] || refuse "an archive of Debian 12 (bookworm): add one to /etc/apt/sources.list or sources.list.d"

mkdir -p "$out"
out=$(cd "$out" && pwd)
# One maker at a time; what one that was killed has left goes.
exec 9> "$out/.making"
flock -n 9 || { echo "another program makes this image: waiting for it ..." >&2; flock 9; }
[ ! -f "$out/disk.img" ] || [ ! -f "$out/vmlinuz" ] || [ ! -f "$out/initrd.img" ] || exit 0
rm -rf "$out"/.debian.*
work=$(mktemp -d "$out/.debian.XXXXXX")
tmp=$work # of mmdebstrap; in a user namespace it is not to be below a home that nobody else may search
[ $mode = root ] || tmp=$(mktemp -d)
trap 'rm -rf "$work" "$tmp"' EXIT
trap 'exit 130' INT TERM HUP
chmod 755 "$work" "$tmp"

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
Before=ssh.service systemd-user-sessions.service
ConditionPathExists=!/var/lib/seed-done
[Service]
Type=oneshot
ExecStart=/usr/local/sbin/seed
ExecStartPost=/bin/touch /var/lib/seed-done
[Install]
WantedBy=multi-user.target
UNIT
# Each guest has a host key of its own, of the kind that is made in no time.
cat > "$work/sshd.conf" <<'CONF'
HostKey /etc/ssh/ssh_host_ed25519_key
CONF
cat > "$work/keys.conf" <<'UNIT'
[Service]
ExecStartPre=
ExecStartPre=/bin/sh -c "test -s /etc/ssh/ssh_host_ed25519_key || ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key"
ExecStartPre=/usr/sbin/sshd -t
UNIT
cat > "$work/tree.sh" <<'TREE'
set -eu
tree=$1 work=$2
echo debian > "$tree/etc/hostname"
printf '127.0.0.1 localhost debian\n' > "$tree/etc/hosts"
printf '/dev/vda / ext4 errors=remount-ro,x-systemd.growfs 0 1\n' > "$tree/etc/fstab"
printf '[Match]\nName=en* eth*\n[Network]\nDHCP=yes\n' > "$tree/etc/systemd/network/80-dhcp.network"
install -m 755 "$work/seed" "$tree/usr/local/sbin/seed"
install -m 644 "$work/seed.service" "$tree/etc/systemd/system/seed.service"
rm -f "$tree"/etc/ssh/ssh_host_*
install -m 644 "$work/sshd.conf" "$tree/etc/ssh/sshd_config.d/keys.conf"
install -D -m 644 "$work/keys.conf" "$tree/etc/systemd/system/ssh.service.d/keys.conf"
chroot "$tree" systemctl enable systemd-networkd seed.service ssh.service
chroot "$tree" systemctl disable apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer dpkg-db-backup.timer || true
rm -rf "$tree"/var/cache/apt/* "$tree"/var/lib/apt/lists/* "$tree"/usr/share/info
: > "$tree/etc/machine-id"
TREE

# On a terminal a line that says how far it is: packages fetched, unpacked, set up. What else is said goes to the log.
show() {
    total=510 known=0 done=0 shown=0 # what there is to do is known only when the second list of packages is
    while IFS= read -r line; do
        printf '%s\n' "$line" >> "$out/image.log"
        case $line in
        *" newly installed, "*) line=${line%% newly*}; known=$((known + 3 * ${line##* })); [ $known -lt $total ] || total=$known; continue ;;
        Get:*) [ $known -gt 0 ] || continue; what="fetching packages" ;;
        Unpacking*) what="unpacking packages" ;;
        "Setting up"*) what="setting up packages" ;;
        "I: "*...) what=${line#I: }; what=${what%...}; done=$((done - 1)) ;;
        *) continue ;;
        esac
        done=$((done + 1))
        [ -t 2 ] && [ $((done * 100 / total)) -ge $shown ] && [ $done -le $total ] || continue
        shown=$((done * 100 / total))
        printf '\r%3d %% %-40.40s' $shown "$what" >&2
    done
    [ ! -t 2 ] || printf '\r%50s\r' "" >&2
}
: > "$out/image.log"
packages=systemd,systemd-sysv,dbus,udev,kmod,linux-image-cloud-amd64,initramfs-tools,zstd,iproute2,iputils-ping,procps,login,passwd,sudo,e2fsprogs,openssh-server,curl,ca-certificates,util-linux,libpam-systemd,less,nano,apt
format=tar target=$work/root.tar
[ $mode != root ] || format=directory target=$work/root
echo "making the Debian image from packages (about a minute, once) ..." >&2
{
    if TMPDIR=$tmp mmdebstrap --verbose --mode=$mode --format=$format --variant=minbase --include="$packages$more" \
        --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook="sh $work/tree.sh \"\$1\" $work" --customize-hook="$program \"\$1\"" \
        bookworm "$target" "$mirror" 2>&1 9>&-; then
        : > "$work/made"
    fi
} | show
[ -f "$work/made" ] || { grep -E '^(E|W|Err):|error' "$out/image.log" | tail -n 20 >&2; exit 1; }

cat > "$work/pack.sh" <<'PACK'
set -eu
cd "$1"
if [ -f root.tar ]; then
    mkdir root
    tar -C root -xf root.tar --exclude='./dev/*'
    rm root.tar
else
    rm -rf root/dev/*
fi
cp root/boot/vmlinuz-* vmlinuz
cp root/boot/initrd.img-* initrd.img
rm -f root/boot/initrd.img-* root/boot/vmlinuz-*
truncate -s 2G disk.img
mke2fs -q -t ext4 -F -L root -d root disk.img
PACK
if [ "$(id -u)" = 0 ]; then sh "$work/pack.sh" "$work"; else fakeroot sh "$work/pack.sh" "$work"; fi
chmod a+r "$work/vmlinuz" "$work/initrd.img" "$work/disk.img"
mv "$work/vmlinuz" "$work/initrd.img" "$out/"
mv "$work/disk.img" "$out/disk.img"
