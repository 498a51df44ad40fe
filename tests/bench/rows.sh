#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The fixed pieces of work of the benchmark; the same file runs in the guests and, for the native times, on the host.
# usage: rows.sh ROW DIRECTORY     `prepare` makes the data in DIRECTORY, each other row works on it.
set -eu
row=$1
cd "$2"
seven() {
    for p in 7zz 7z 7zr; do
        command -v $p >/dev/null && break
    done
    $p "$@"
}
case $row in
prepare)
    # `program` is a big shared library of the guest, put there by bench.py: what gzip and 7-Zip get is the same everywhere.
    [ -f zeros ] || head -c 134217728 /dev/zero >zeros
    openssl genrsa -out key 2048 2>/dev/null
    cat program zeros >/dev/null
    ;;
sha256) openssl dgst -sha256 zeros ;;
aes) openssl enc -aes-128-cbc -K 000102030405060708090a0b0c0d0e0f -iv 00000000000000000000000000000000 -in zeros -out /dev/null 2>&1 ;;
rsa) openssl speed -elapsed -seconds 3 rsa2048 2>&1 ;; # fixed time: bench.py reads how much was done in it
gzip) gzip -9 -c program >packed.gz && gzip -t packed.gz ;;
7zip) rm -f packed.7z && seven a -mmt1 -mx5 packed.7z program >/dev/null ;;
sqlite)
    n=$(sqlite3 :memory: 'with recursive c(x) as (select 1 union all select x + 1 from c where x < 400000) select count(*) from c')
    [ "$n" = 400000 ]
    ;;
awk) mawk 'BEGIN { for (i = 1; i <= 1000000; i++) s += sqrt(i) * 1.5 / (i + 0.25) - s * 0.001; printf "%.12g\n", s }' ;;
fork)
    i=0
    while [ $i -lt 300 ]; do
        /bin/true
        i=$((i + 1))
    done
    ;;
bytes) dd if=/dev/zero of=/dev/null bs=1 count=300000 2>/dev/null ;;
*)
    echo "rows.sh: no row '$row'" >&2
    exit 1
    ;;
esac
