# SPDX-License-Identifier: GPL-2.0-or-later
"""vireo-img beside Debian's qemu-img: the same command lines in two directories, then the same exit status, the same output (but for
times, sizes on the host and the order of members) and the same content of every image."""
import json
import os
import re
import signal
import subprocess
import time

import pytest
from conftest import BUILD, run

IMG = os.path.join(BUILD, "vireo-img")
MIB = 1 << 20

# Inputs that most rows begin with; made by Debian's programs in both directories.
RAW = ["qemu-img create -q -f raw a.raw 10M", "qemu-io -f raw -c 'write -P 1 0 1M' -c 'write -P 2 5M 100k' -c 'write -P 0 7M 1M' a.raw"]
QCOW2 = ["qemu-img create -q -f qcow2 a.qcow2 64M", "qemu-io -c 'write -P 1 0 1M' -c 'write -P 2 5M 128k' -c 'write -z 10M 1M' a.qcow2"]
COMPRESSED = ["qemu-io -c 'write -c -P 3 20M 64k' a.qcow2"]
CHAIN = QCOW2 + ["qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 b.qcow2", "qemu-io -c 'write -P 9 3M 1M' -c 'write -P 8 512k 64k' b.qcow2",
                 "qemu-img create -q -f qcow2 -b b.qcow2 -F qcow2 c.qcow2", "qemu-io -c 'write -P 7 4M 1M' -c 'write -z 0 64k' -c 'write -P 6 30M 4k' c.qcow2"]
SHORT = ["qemu-img create -q -f raw s.raw 3M", "qemu-io -f raw -c 'write -P 5 0 3M' s.raw", "qemu-img create -q -f qcow2 -b s.raw -F raw t.qcow2 8M",
         "qemu-io -c 'write -P 4 1M 64k' t.qcow2"]
SNAPSHOTS = QCOW2 + ["qemu-img snapshot -c one a.qcow2", "qemu-io -c 'write -P 5 0 128k' a.qcow2", "qemu-img snapshot -c two a.qcow2"]
BITMAPS = QCOW2 + ["qemu-img bitmap --add a.qcow2 b0", "qemu-img bitmap --add --disable -g 4k a.qcow2 b1", "qemu-io -c 'write -P 5 2M 200k' a.qcow2"]

# name: (inputs, commands)
ROWS = {
    "create raw": ([], ["create -f raw x 10M", "create x2 1.5G", "create x3 1000b", "create x4 -f raw 5k", "create -q -f raw x5 1M",
                        "create -f raw -o preallocation=falloc x6 1M", "create -f raw -o preallocation=full x7 1M", "create file:x8 1M"]),
    "create qcow2": ([], ["create -f qcow2 x 64M", "create -f qcow2 -o size=1M x2", "create -q -f qcow2 x3 1G", "create -f qcow2 -o cluster_size=4k,refcount_bits=64 x4 10M",
                          "create -f qcow2 -o compat=0.10,preallocation=metadata x5 1M", "create -f qcow2 -o extended_l2=on,compression_type=zstd x6 1M",
                          "create -f qcow2 -o lazy_refcounts=on -o cluster_size=2M x7 3M", "create -f qcow2 -o preallocation=full x8 2M",
                          "create -f qcow2 -o data_file=d.raw,data_file_raw=on x9 1M", "info x9", "info x4", "info x6"]),
    "create over another": (RAW + QCOW2, ["create -f qcow2 -b a.qcow2 -F qcow2 x", "create -f qcow2 -b a.raw -F raw x2 20M", "create -u -f qcow2 -b nope -F raw x3 1M",
                                          "create -f qcow2 -o backing_file=a.qcow2,backing_fmt=qcow2 x4", "info x", "info --backing-chain x2"]),
    "create refused": (QCOW2, ["create -f qcow2 -b a.qcow2 x", "create -f nope x 1M", "create -f raw", "create", "create -f qcow2 x", "create -f qcow2 -F raw x 1M",
                               "create -u -f qcow2 -b nope -F raw x", "create -f qcow2 -b nope -F raw x 1M", "create -f qcow2 -o cluster_size=3 x 1M",
                               "create -f qcow2 -o nope=3 x 1M", "create x 1Z", "create x -- -1", "create x 1 2", "create -b a.qcow2 x 1M",
                               "create -f qcow2 -o size=1M x 2M", "create -f qcow2 -b x -F qcow2 x", "create -f qcow2 /nope/x 1M", "create --frob x", "create -o"]),
    "info": (RAW + CHAIN, ["info a.raw", "info a.qcow2", "info b.qcow2", "info --backing-chain c.qcow2", "info --output=json a.raw", "info --output=json a.qcow2",
                           "info --output=json --backing-chain c.qcow2", "info -U a.qcow2", "info -f raw a.qcow2", "info --out=json a.raw",
                           "info --image-opts driver=qcow2,file.driver=file,file.filename=a.qcow2",
                           'info \'json:{"driver":"qcow2","file":{"driver":"file","filename":"a.qcow2"}}\'']),
    "info refused": (RAW, ["info nope", "info -f qcow2 a.raw", "info", "info a.raw a.raw", "info --output=xml a.raw", "info --image-opts a.raw",
                           "info -f raw --image-opts driver=raw,file.filename=a.raw", "frob", "", "--frob"]),
    "info of snapshots": (SNAPSHOTS, ["info a.qcow2", "info --output=json a.qcow2", "snapshot -l a.qcow2"]),
    "info of bitmaps": (BITMAPS, ["info a.qcow2", "info --output=json a.qcow2"]),
    "check": (CHAIN + COMPRESSED, ["check a.qcow2", "check c.qcow2", "check --output=json a.qcow2", "check -q a.qcow2", "check -r leaks a.qcow2", "check -r all c.qcow2",
                                   "check -T none a.qcow2"]),
    "check refused": (RAW, ["check -f raw a.raw", "check", "check -r foo a.raw", "check nope", "check -f qcow2 a.raw", "check -T foo a.raw", "check --frob a.raw"]),
    "convert": (RAW + CHAIN + COMPRESSED, ["convert -f raw -O qcow2 a.raw x", "convert -O raw a.qcow2 x2", "convert -O raw c.qcow2 x3", "convert -c -O qcow2 c.qcow2 x4",
                              "convert -O qcow2 -o cluster_size=4k,extended_l2=off c.qcow2 x5", "convert -f raw -O raw a.raw x6", "convert -S 0 -f raw -O raw a.raw x7",
                              "convert -S 64k -O qcow2 a.qcow2 x8", "convert -m 4 -W -f raw -O qcow2 a.raw x9", "convert -C -f raw -O raw a.raw x10",
                              "convert -t none -T none -O qcow2 c.qcow2 x11", "convert -t writeback -O raw a.qcow2 x12", "convert --salvage -f raw a.raw x13",
                              "convert -r 50M -f raw a.raw x14", "convert -q -p -f raw a.raw x15", "convert -O qcow2 -c -o compression_type=zstd a.qcow2 x16",
                              "convert -O qcow2 -o extended_l2=on,cluster_size=64k c.qcow2 x17", "convert -O qcow2 -o preallocation=metadata c.qcow2 x18",
                              "convert -O qcow2 -o compat=0.10 c.qcow2 x19"]),
    "convert several": (RAW + SHORT, ["convert -f raw -O raw a.raw s.raw x", "convert -f raw -O qcow2 a.raw s.raw a.raw x2", "convert -c -f raw -O qcow2 s.raw a.raw x3"]),
    "convert over another": (CHAIN + SHORT, ["convert -B b.qcow2 -F qcow2 -O qcow2 c.qcow2 x", "convert -O qcow2 -o backing_file=b.qcow2,backing_fmt=qcow2 c.qcow2 x2",
                                             "convert -c -B b.qcow2 -F qcow2 -O qcow2 c.qcow2 x3", "convert -B s.raw -F raw -O qcow2 t.qcow2 x4", "info x", "map t.qcow2"]),
    "convert into what is there": (RAW + QCOW2 + ["truncate -s 10M y.raw", "qemu-io -f raw -c 'write -P 77 0 10M' y.raw", "qemu-img create -q -f qcow2 y.qcow2 64M",
                                                  "qemu-io -c 'write -P 78 0 64M' y.qcow2", "qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 z.qcow2"],
                                   ["convert -n -f raw -O raw a.raw y.raw", "convert -n -O qcow2 a.qcow2 y.qcow2", "convert -n -f raw -O qcow2 a.raw z.qcow2",
                                    "convert -n --target-image-opts a.qcow2 driver=qcow2,file.filename=y.qcow2"]),
    "convert a snapshot": (SNAPSHOTS, ["convert -l one -O raw a.qcow2 x", "convert -l snapshot.name=two -O qcow2 a.qcow2 x2", "convert -l snapshot.id=1 -O raw a.qcow2 x3",
                                       "convert -l nope -O raw a.qcow2 x4"]),
    "convert with bitmaps": (BITMAPS, ["convert --bitmaps -O qcow2 a.qcow2 x", "info x"]),
    "convert refused": (RAW + QCOW2 + ["truncate -s 1M small.raw"],
                        ["convert --bitmaps -O raw a.qcow2 x2", "convert -O qcow2 a.raw", "convert", "convert -O nope a.raw x", "convert -c -O raw a.qcow2 x", "convert -B a.qcow2 -O qcow2 a.qcow2 x",
                         "convert -n -O qcow2 a.qcow2 nope", "convert -n -f raw -O raw a.raw small.raw", "convert -C -S 4k -O raw a.raw x", "convert -C -c -O qcow2 a.raw x",
                         "convert --target-is-zero -O raw a.raw x", "convert -m 17 a.raw x", "convert -m 0 a.raw x", "convert -S 1 a.raw x", "convert -S 513 a.raw x",
                         "convert -o nope=1 -O qcow2 a.raw x", "convert -r x a.raw x", "convert -O qcow2 nope x", "convert a.raw a.raw", "convert -n -o a=b -O qcow2 a.raw x",
                         "convert -t foo a.raw x", "convert -T foo a.raw x", "convert --target-image-opts -O raw a.raw x", "convert -f raw --bitmaps a.raw x"]),
    "resize": (RAW + QCOW2, ["resize -f raw a.raw 12M", "resize -f raw a.raw +1M", "resize -f raw --shrink a.raw -5M", "resize --preallocation=falloc -f raw a.raw 9M",
                             "resize -q -f raw a.raw 11M", "resize a.qcow2 80M", "resize --shrink a.qcow2 40M", "resize a.qcow2 +1G", "resize --preallocation=metadata a.qcow2 +1M"]),
    "resize refused": (RAW, ["resize -f raw a.raw 5M", "resize --preallocation=metadata -f raw a.raw 20M", "resize --preallocation=foo -f raw a.raw 20M",
                             "resize -f raw a.raw 1x", "resize a.raw", "resize", "resize -f raw --shrink a.raw -- -50M", "resize nope 4M", "resize -f raw a.raw 11M extra",
                             "resize -f raw a.raw 0", "resize -f raw a.raw +", "resize -f raw a.raw +-5"]),
    "snapshot": (QCOW2, ["snapshot -c one a.qcow2", "!qemu-io -c 'write -P 5 0 128k' a.qcow2", "snapshot -c two a.qcow2", "!qemu-io -c 'write -P 6 0 64k' a.qcow2",
                         "snapshot -l a.qcow2", "snapshot -a one a.qcow2", "snapshot -d one a.qcow2", "snapshot -a 2 a.qcow2", "snapshot -l a.qcow2", "check a.qcow2"]),
    "snapshot refused": (RAW + QCOW2, ["snapshot -c x -f raw a.raw", "snapshot -d nope a.qcow2", "snapshot -a nope a.qcow2", "snapshot -c x -d y a.qcow2", "snapshot",
                                       "snapshot -l nope"]),
    "commit": (CHAIN, ["commit c.qcow2", "info c.qcow2", "commit -q b.qcow2"]),
    "commit past one": (CHAIN, ["commit -b a.qcow2 c.qcow2"]),
    "commit and keep": (CHAIN, ["commit -d -t none c.qcow2"]),
    "commit into a shorter image": (SHORT, ["commit t.qcow2"]),
    "commit refused": (RAW + CHAIN, ["commit -b nope c.qcow2", "commit -f raw a.raw", "commit a.qcow2", "commit", "commit -t foo c.qcow2"]),
    "rebase": (CHAIN + ["cp a.qcow2 e.qcow2", "qemu-io -c 'write -P 33 40M 1M' -c 'write -P 34 0 4k' e.qcow2"],
               ["rebase -b a.qcow2 -F qcow2 c.qcow2", "info c.qcow2", "rebase -b e.qcow2 -F qcow2 c.qcow2", "rebase -u -b nope -F qcow2 b.qcow2", "info b.qcow2",
                "rebase -u -b e.qcow2 -F qcow2 b.qcow2", "rebase -b '' c.qcow2", "info c.qcow2"]),
    "rebase under a longer image": (SHORT + ["qemu-img create -q -f raw u.raw 2M", "qemu-io -f raw -c 'write -P 3 0 2M' u.raw"],
                                    ["rebase -b u.raw -F raw t.qcow2", "rebase -b s.raw -F raw t.qcow2", "rebase -b '' t.qcow2"]),
    "rebase refused": (RAW + CHAIN, ["rebase -b a.qcow2 c.qcow2", "rebase -u -b b.qcow2 -F nope c.qcow2", "rebase c.qcow2", "rebase -b nope -F raw c.qcow2",
                                     "rebase -f raw -b a.qcow2 -F qcow2 a.raw", "rebase -t foo -b x c.qcow2"]),
    "compare": (RAW + CHAIN + ["cp a.raw a2.raw", "cp a.raw a3.raw", "truncate -s 12M a3.raw", "cp a3.raw a4.raw", "qemu-io -f raw -c 'write -P 1 11534337 1' a4.raw",
                               "cp a3.raw a5.raw", "qemu-io -f raw -c 'write -P 1 1048577 1' a5.raw", "qemu-img convert -O qcow2 a.raw o.qcow2"],
                ["compare -f raw -F raw a.raw a2.raw", "compare a.raw o.qcow2", "compare -s -f raw -F raw a.raw a2.raw", "compare -s -f raw a.raw o.qcow2",
                 "compare -f raw -F raw a.raw a3.raw", "compare -s -f raw -F raw a.raw a3.raw", "compare -q -f raw -F raw a.raw a3.raw",
                 "compare -f raw -F raw a.raw a4.raw", "compare -f raw -F raw a4.raw a.raw", "compare -f raw -F raw a5.raw a.raw", "compare a.qcow2 b.qcow2",
                 "compare -s a.qcow2 c.qcow2", "compare -q a.qcow2 b.qcow2", "compare a.raw nope", "compare a.raw", "compare -f nope a.raw a2.raw", "compare a.raw a.raw a.raw",
                 "compare -T foo a.raw a.raw"]),
    "map": (RAW + CHAIN + SHORT, ["map -f raw a.raw", "map --output=json -f raw a.raw", "map c.qcow2", "map --output=json c.qcow2", "map --output=json t.qcow2",
                                  "map --output=json --start-offset=1M --max-length=3M b.qcow2", "map --start-offset=100M b.qcow2", "map --max-length=0 --output=json b.qcow2",
                                  "map --start-offset=1000 --max-length=1000 --output=json b.qcow2", "map --start-offset=x b.qcow2", "map"]),
    "map of compressed": (QCOW2 + COMPRESSED, ["map a.qcow2", "map --output=json a.qcow2"]),
    "measure": (RAW + CHAIN, ["measure -O qcow2 --size 1G", "measure --output=json -O qcow2 --size 1G", "measure -f raw a.raw", "measure -O qcow2 -f raw a.raw",
                              "measure -O qcow2 c.qcow2", "measure -O qcow2 --output=json a.qcow2", "measure -O raw --size 1000", "measure --size 1M",
                              "measure -O qcow2 -o preallocation=full --size 1M", "measure -O qcow2 -o cluster_size=4k --size 10G",
                              "measure -O qcow2 -o cluster_size=2M,refcount_bits=64 c.qcow2", "measure -O qcow2 -o extended_l2=on --size 1T"]),
    "measure of bitmaps": (BITMAPS, ["measure -O qcow2 a.qcow2"]),
    "measure refused": (RAW, ["measure -O qcow2", "measure -O nope --size 1", "measure -O qcow2 -o nope=1 --size 1M", "measure --size 1M a.raw", "measure -O qcow2 --size x"]),
    "bitmap": (QCOW2 + ["cp a.qcow2 b.qcow2"],
               ["bitmap --add a.qcow2 x", "bitmap --add -g 64k a.qcow2 y", "bitmap --disable a.qcow2 y", "!qemu-io -c 'write 1M 200k' a.qcow2",
                "bitmap --merge x --enable a.qcow2 y", "bitmap --clear a.qcow2 x", "bitmap -b a.qcow2 -F qcow2 --add --merge y b.qcow2 z", "info a.qcow2", "info b.qcow2",
                "bitmap --remove a.qcow2 x", "info a.qcow2", "check a.qcow2"]),
    "bitmap refused": (RAW + BITMAPS, ["bitmap --add a.qcow2 b0", "bitmap --add -g 3 a.qcow2 y", "bitmap --clear a.qcow2 nope", "bitmap a.qcow2 x", "bitmap",
                                       "bitmap --add -f raw a.raw x", "bitmap -g 64k --clear a.qcow2 b0", "bitmap -b a.qcow2 --add a.qcow2 w",
                                       "bitmap --merge nope a.qcow2 b0", "bitmap --frob a.qcow2 x", "bitmap --add a.qcow2"]),
    "amend": (QCOW2, ["amend -o compat=0.10 a.qcow2", "info a.qcow2", "amend -q -o compat=1.1,lazy_refcounts=on a.qcow2", "info a.qcow2", "amend -o refcount_bits=8 a.qcow2",
                      "info a.qcow2", "amend -o size=80M a.qcow2", "check a.qcow2"]),
    "amend refused": (RAW + QCOW2, ["amend a.qcow2", "amend -o help -f raw", "amend -o help", "amend -o cluster_size=4k a.qcow2", "amend -f raw -o x=1 a.raw",
                                    "amend -o x=1 a.qcow2", "amend -f nope -o help", "amend -o backing_file=zz,backing_fmt=raw a.qcow2", "amend -o compat=0.10 nope"]),
    "bench": (RAW + QCOW2, ["bench -c 100 -f raw a.raw", "bench -c 100 -w --pattern=7 -d 1 -s 512 -S 1k -o 4k --flush-interval=10 -f raw a.raw",
                            "bench -c 100 -w --pattern=9 -d 16 -s 512 -S 1k -o 4k --flush-interval=17 --no-drain -t none -f raw a.raw", "bench -c 0 -f raw a.raw",
                            "bench -f raw -i io_uring -c 10 a.raw", "bench -q -c 10 -f raw a.raw", "bench -U -c 10 a.qcow2", "bench -w -c 1000 -s 64k --pattern=3 a.qcow2",
                            "bench -c 50 -d 4 -t directsync -w -s 4k a.qcow2"]),
    "bench refused": (RAW, ["bench --flush-interval=10 a.raw", "bench -i foo a.raw", "bench -w --flush-interval=3 -d 8 -c 10 a.raw", "bench", "bench --pattern=300 -w a.raw",
                            "bench nope", "bench -t foo a.raw"]),
    "dd": (RAW, ["dd -f raw if=a.raw of=x bs=1M count=2", "dd -f raw -O qcow2 if=a.raw of=x2 bs=64k skip=3", "dd -f raw if=a.raw of=x3 bs=1000 count=3 skip=1",
                 "dd -f raw -O raw bs=1M if=a.raw of=x4 count=100", "dd -f raw if=a.raw of=x5 bs=1 count=1", "dd -f raw if=a.raw of=x6 skip=100000", "info -f raw x3"]),
    "dd refused": (RAW, ["dd if=a.raw", "dd of=x", "dd foo=1", "dd if=a.raw of=x bs=0", "dd if=a.raw of=x count=x", "dd if=nope of=x", "dd if=a.raw of=x conv=x", "dd if a.raw"]),
    "help": ([], ["create -f raw -o help x", "create -f raw -o help", "create -f qcow2 -o help", "convert -O qcow2 -o help a b", "create -f vdi -o help", "create -f luks -o help", "amend -f qcow2 -o help"]),
}

HELP_TEXT = re.compile(r"( - ).*")


def words_of(line):
    import shlex
    return shlex.split(line)


def sorted_json(o):
    if isinstance(o, dict):
        return {k: sorted_json(v) for k, v in sorted(o.items()) if k not in ("actual-size", "date-sec", "date-nsec")}
    return [sorted_json(v) for v in o] if isinstance(o, list) else o


def normal(command, text):
    """What must be the same of the output."""
    text = text.replace("vireo-img", "qemu-img")
    try:
        return json.dumps(sorted_json(json.loads(text)), indent=1)
    except ValueError:
        pass
    text = re.sub(r"disk size: .*", "disk size: N", text)
    text = re.sub(r"completed in .* seconds", "completed in N seconds", text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "DATE", text)
    if "help" in command:
        text = re.sub(r"  backing_(file|fmt)=.*\n", "", text)  # qemu-img says that amend takes them, and refuses them
        text = re.sub(r"  preallocation=.*\n", "", text)  # of luks, which qemu-img 7.2 does not list
        text = HELP_TEXT.sub(r"\1TEXT", text)
    return text


def one(program, command, cwd):
    if command.startswith("!"):
        run(*words_of(command[1:]), cwd=cwd)
        return 0, "", ""
    done = subprocess.run([program] + words_of(command), cwd=cwd, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
    return done.returncode, normal(command, done.stdout), done.stderr


def backing(path):
    return json.loads(run("qemu-img", "info", "--output=json", path)).get("backing-filename")


def same_content(ours, theirs, name):
    a, b = os.path.join(ours, name), os.path.join(theirs, name)
    kind = [json.loads(run("qemu-img", "info", "-U", "--output=json", p))["format"] for p in (a, b)]
    assert kind[0] == kind[1], f"{name}: formats {kind}"
    if kind[0] in ("qcow2",):
        options = f"driver=qcow2,file.filename={a}" + (",backing=" if backing(a) else "")
        check = subprocess.run(["qemu-img", "check", "--image-opts", options], capture_output=True, text=True, timeout=60, check=False, cwd=ours)
        assert check.returncode == 0, f"{name}: qemu-img check: {check.stdout}{check.stderr}"
    mine, its = ([json.loads(run("qemu-img", "info", "--output=json", p)).get(k) for k in ("virtual-size", "backing-filename", "backing-filename-format")] for p in (a, b))
    assert mine == its, f"{name}: {mine}, and of qemu-img {its}"
    if mine[1] and not os.path.exists(os.path.join(ours, mine[1])):
        return
    run("qemu-img", "compare", "-f", kind[0], "-F", kind[0], a, b, cwd=ours)


@pytest.mark.parametrize("row", list(ROWS), ids=lambda name: name.replace(" ", "_"))
def test_same_as_qemu_img(tmp_path, row):
    inputs, commands = ROWS[row]
    sides = []
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
        for line in inputs:
            run(*words_of(line), cwd=tmp_path / name)
        sides.append(str(tmp_path / name))
    for command in commands:
        ours, theirs = one(IMG, command, sides[0]), one("qemu-img", command, sides[1])
        assert ours[0] == theirs[0], f"{command}: status {ours[0]}, qemu-img's {theirs[0]}\n{ours[1]}{ours[2]}\n{theirs[1]}{theirs[2]}"
        if theirs[0] != 0 and not command.startswith("compare"):
            assert len(ours[2].strip().splitlines()) == 1, f"{command}: an error is one line: {ours[2]}"
        # what fails is printed before or after the first error
        if theirs[0] == 0 or command.startswith(("compare", "map", "check")):
            assert ours[1] == theirs[1], f"{command}"
    left = [{n for n in os.listdir(s)} for s in sides]
    if "refused" in row:
        assert left[0] <= left[1], f"left behind: {left[0] - left[1]}"
    else:
        assert left[0] == left[1]
    for name in sorted(left[0] & left[1]):
        same_content(sides[0], sides[1], name)


# ---- what qemu-img does not do ----

def test_progress_is_shown(tmp_path):
    run("truncate", "-s", "20M", tmp_path / "a")
    text = run(IMG, "convert", "-p", "-f", "raw", "-O", "qcow2", tmp_path / "a", tmp_path / "b")
    assert text.startswith("    (0.00/100%)\r") and text.rstrip("\r\n").endswith("    (100.00/100%)")


def start_slow_convert(tmp_path, *more):
    run("qemu-img", "create", "-q", "-f", "raw", tmp_path / "a", "64M")
    run("qemu-io", "-f", "raw", "-c", "write -P 1 0 64M", tmp_path / "a")
    p = subprocess.Popen([IMG, "convert", "-r", "4M", "-f", "raw", "-O", "qcow2", *more, str(tmp_path / "a"), str(tmp_path / "b")], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
    for _ in range(1500):
        if (tmp_path / "b").exists() and (tmp_path / "b").stat().st_size > 2 * MIB:
            break
        time.sleep(0.02)
    return p


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda s: s.name)
def test_an_interrupted_convert_leaves_no_image(tmp_path, sig):
    p = start_slow_convert(tmp_path)
    assert (tmp_path / "b").exists()
    p.send_signal(sig)
    _, errors = p.communicate(timeout=20)
    assert p.returncode == -sig and not (tmp_path / "b").exists()
    assert errors.count("\n") == 1 and "interrupted" in errors


def test_an_interrupted_create_leaves_no_image(tmp_path):
    p = subprocess.Popen([IMG, "create", "-q", "-f", "raw", "-o", "preallocation=full", str(tmp_path / "a"), "8G"], stderr=subprocess.PIPE, text=True)
    for _ in range(3000):
        if (tmp_path / "a").exists() and (tmp_path / "a").stat().st_size:
            break
        time.sleep(0.01)
    p.send_signal(signal.SIGINT)
    _, errors = p.communicate(timeout=20)
    assert p.returncode == 128 + signal.SIGINT and not (tmp_path / "a").exists() and errors.count("\n") == 1


def test_output_that_cannot_be_written(tmp_path):
    run("truncate", "-s", "1M", tmp_path / "a")
    with open("/dev/full", "wb") as full:
        done = subprocess.run([IMG, "info", "-f", "raw", str(tmp_path / "a")], stdout=full, stderr=subprocess.PIPE, timeout=20, check=False)
    assert done.returncode == 1 and b"No space left" in done.stderr


def test_sigusr1_shows_the_progress(tmp_path):
    p = start_slow_convert(tmp_path)
    p.send_signal(signal.SIGUSR1)
    errors = ""
    while not re.search(r"\(\d+\.\d\d/100%\)", errors):
        part = os.read(p.stderr.fileno(), 4096).decode()
        assert part, f"it ended and has not shown its progress: {errors!r}"
        errors += part
    p.send_signal(signal.SIGINT)
    p.communicate(timeout=20)


def test_a_failed_convert_leaves_no_image(tmp_path):
    """A source that cannot be read to its end."""
    run("qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "a", "64M")
    run("qemu-io", "-c", "write -P 1 0 64M", tmp_path / "a")
    with open(tmp_path / "a", "r+b") as f:  # a cluster that lies at no cluster boundary
        f.seek(0x40000 + 8 * 500)
        f.write(bytes.fromhex("8000000000300200"))
    text = run(IMG, "convert", "-O", "raw", tmp_path / "a", tmp_path / "b", status=1)
    assert len([line for line in text.splitlines() if "warning" not in line]) == 1, text
    assert not (tmp_path / "b").exists()
    text = run(IMG, "convert", "--salvage", "-O", "raw", tmp_path / "a", tmp_path / "c")
    assert "error while reading" in text or "warning" in text
    run("qemu-io", "-f", "raw", "-c", "read -P 1 0 30M", "-c", "read -P 0 32768000 65536", "-c", "read -P 1 40M 24M", tmp_path / "c")


@pytest.mark.parametrize("how", ["commit", "rebase"])
def test_an_interrupted_change_leaves_a_consistent_image(tmp_path, how):
    run("qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "a", "256M")
    run("qemu-io", "-c", "write -P 1 0 256M", tmp_path / "a")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", tmp_path / "a", "-F", "qcow2", tmp_path / "b")
    run("qemu-io", "-c", "write -P 2 0 128M", tmp_path / "b")
    words = ["commit", "-r", "8M", tmp_path / "b"] if how == "commit" else ["rebase", "-b", "", tmp_path / "b"]
    p = subprocess.Popen([IMG, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(0.15 if how == "rebase" else 0.5)
    p.send_signal(signal.SIGINT)
    p.communicate(timeout=30)
    run("qemu-img", "check", tmp_path / "a")
    run("qemu-img", "check", tmp_path / "b")
    run("qemu-io", "-c", "read -P 2 0 128M", "-c", "read -P 1 128M 128M", tmp_path / "b")


def test_commit_empties_the_overlay(tmp_path):
    run("qemu-img", "create", "-q", "-f", "raw", tmp_path / "a", "8M")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", tmp_path / "a", "-F", "raw", tmp_path / "b")
    run("qemu-io", "-c", "write -P 2 0 4M", "-c", "write -z 5M 1M", tmp_path / "b")
    run(IMG, "commit", "-p", tmp_path / "b")
    assert all(e["depth"] == 1 for e in json.loads(run("qemu-img", "map", "--output=json", tmp_path / "b")))
    run("qemu-io", "-f", "raw", "-c", "read -P 2 0 4M", "-c", "read -P 0 4M 4M", tmp_path / "a")
    run("qemu-img", "check", tmp_path / "b")


def test_convert_stands_on_the_image_that_is_named(tmp_path):
    """-B names an image deeper in the chain: what lies between is copied."""
    for i, below in enumerate([None, "0", "1"]):
        run("qemu-img", "create", "-q", "-f", "qcow2", *(["-b", below, "-F", "qcow2"] if below else []), str(i), *([] if below else ["8M"]), cwd=tmp_path)
        run("qemu-io", "-c", f"write -P {i + 1} {i}M 2M", str(i), cwd=tmp_path)
    run(IMG, "convert", "-O", "qcow2", "-B", "0", "-F", "qcow2", "2", "x", cwd=tmp_path)
    run("qemu-img", "compare", "2", "x", cwd=tmp_path)


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_convert_of_scattered_data(tmp_path, threads):
    """Sectors here and there, by several threads, into every kind of target."""
    import random
    rng = random.Random(threads)
    with open(tmp_path / "a", "wb") as f:
        f.truncate(40 * MIB)
        for _ in range(800):
            f.seek(rng.randrange(0, 40 * MIB - 70000) & ~511)
            f.write(bytes([rng.randrange(256)]) * (512 * rng.choice([1, 1, 3, 8, 130])))
    for i, more in enumerate((["-O", "raw"], ["-O", "qcow2"], ["-O", "qcow2", "-c"], ["-O", "qcow2", "-c", "-W"], ["-O", "qcow2", "-o", "cluster_size=512"], ["-O", "qcow2", "-W"],
                              ["-O", "raw", "-W"], ["-O", "vdi"])):
        run(IMG, "convert", "-m", threads, "-f", "raw", *more, tmp_path / "a", tmp_path / f"x{i}")
        run("qemu-img", "compare", "-f", "raw", tmp_path / "a", tmp_path / f"x{i}")


def sample(tmp_path):
    for line in RAW:
        run(*words_of(line), cwd=tmp_path)


@pytest.mark.parametrize("fmt", ["vmdk", "vhdx", "vdi", "vpc"])
def test_formats_of_others(tmp_path, fmt):
    sample(tmp_path)
    written = run(IMG, "convert", "-f", "raw", "-O", fmt, "a.raw", "x", cwd=tmp_path, status=None)
    if written:
        assert "does not support image creation" in written
    else:
        run("qemu-img", "compare", "-f", "raw", "-F", fmt, "a.raw", "x", cwd=tmp_path)
    run("qemu-img", "convert", "-f", "raw", "-O", fmt, "a.raw", "y", cwd=tmp_path)
    run(IMG, "compare", "-f", "raw", "-F", fmt, "a.raw", "y", cwd=tmp_path)
    if fmt != "vpc":
        assert run(IMG, "info", "y", cwd=tmp_path) == run("qemu-img", "info", "y", cwd=tmp_path)


@pytest.mark.parametrize("fmt, options, key", [("luks", "key-secret=s,iter-time=10", "key-secret"),
                                               ("qcow2", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", "encrypt.key-secret"),
                                               ("qcow2", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10,preallocation=metadata", "encrypt.key-secret")],
                         ids=["luks", "qcow2", "preallocated"])
def test_encrypted_images(tmp_path, fmt, options, key):
    sample(tmp_path)
    secret = ["--object", "secret,id=s,data=abc"]
    run(IMG, "convert", *secret, "-f", "raw", "-O", fmt, "-o", options, "a.raw", "x", cwd=tmp_path)
    opened = f"driver={fmt},{key}=s,file.filename=x"
    run("qemu-img", "compare", *secret, "--image-opts", "driver=raw,file.filename=a.raw", opened, cwd=tmp_path)
    run(IMG, "convert", *secret, "--image-opts", "-O", "raw", opened, "y", cwd=tmp_path)
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", "a.raw", "y", cwd=tmp_path)
    wrong = run(IMG, "compare", "--object", "secret,id=s,data=wrong", "--image-opts", "driver=raw,file.filename=a.raw", opened, cwd=tmp_path, status=2)
    assert wrong.count("\n") == 1, wrong


def test_images_on_nbd_servers(tmp_path):
    sample(tmp_path)
    run("truncate", "-s", "10M", tmp_path / "b.raw")
    uri = f"nbd+unix:///disk?socket={tmp_path}/s"
    for name in ("a.raw", "b.raw"):
        server = subprocess.Popen(["qemu-nbd", "-t", "-f", "raw", "-k", f"{tmp_path}/s", "-e", "4", "-x", "disk", str(tmp_path / name)])
        try:
            for _ in range(1500):
                if (tmp_path / "s").exists():
                    break
                time.sleep(0.02)
            if name == "a.raw":
                assert "virtual size: 10 MiB" in run(IMG, "info", uri)
                run(IMG, "convert", "-f", "raw", "-O", "qcow2", uri, tmp_path / "x")
            else:
                run(IMG, "convert", "-n", "-O", "raw", tmp_path / "x", uri)
        finally:
            server.terminate()
            server.wait(20)
            (tmp_path / "s").unlink(missing_ok=True)
    run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", tmp_path / "a.raw", tmp_path / "x")
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", tmp_path / "a.raw", tmp_path / "b.raw")


def test_two_writers(tmp_path):
    """The second is refused, and the process that holds the image is named."""
    run("truncate", "-s", "64M", tmp_path / "a")
    p = subprocess.Popen([IMG, "bench", "-w", "-f", "raw", "-c", "2000000", str(tmp_path / "a")], stdout=subprocess.PIPE, text=True)
    try:
        p.stdout.readline()
        text = run(IMG, "resize", "-f", "raw", tmp_path / "a", "+1M", status=1)
        assert "in use" in text and str(p.pid) in text, text
        run(IMG, "info", "-U", "-f", "raw", tmp_path / "a")
    finally:
        p.kill()
        p.wait()


def test_every_command_has_help(tmp_path):
    text = run(IMG, "--help")
    names = re.findall(r"^  (\w+) +\w", text.split("Commands:")[1].split("\n\n")[0], re.M)
    assert len(names) == 15
    manual = run(IMG, "--help=man")
    for name in names:
        assert f"usage: vireo-img {name} " in run(IMG, name, "--help")
        assert f".SS {name} " in manual
    assert run(IMG, "--version").startswith("vireo-img version ")
