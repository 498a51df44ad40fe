#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes tests/fuzz/corpus/image: small images of each format by qemu-img, in the form that fuzz_image.c reads."""
import os
import struct
import subprocess
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
FORMATS = ("raw", "luks", "vdi", "vmdk", "vhdx", "vpc")
IMAGES = [("raw", "raw", []), ("luks", "luks", ["key-secret=s", "iter-time=300"]), ("luks-cbc", "luks", ["key-secret=s", "iter-time=300", "cipher-alg=serpent-128",
           "cipher-mode=cbc", "ivgen-alg=essiv", "ivgen-hash-alg=md5"]), ("vdi", "vdi", []), ("vdi-static", "vdi", ["static=on"]), ("vmdk", "vmdk", []),
          ("vmdk-stream", "vmdk", ["subformat=streamOptimized"]), ("vmdk-flat", "vmdk", ["subformat=monolithicFlat"]), ("vmdk-zeroed", "vmdk", ["zeroed_grain=on"]),
          ("vhdx", "vhdx", []), ("vhdx-fixed", "vhdx", ["subformat=fixed", "block_size=1M"]), ("vhdx-log", "vhdx", []), ("vpc", "vpc", []), ("vpc-fixed", "vpc", ["subformat=fixed"])]


def pieces(data):
    """(offset, bytes) of what is not zero; runs of zeroes shorter than 32 bytes stay inside."""
    at = 0
    while at < len(data):
        while at < len(data) and not any(data[at:at + 4096]):
            at += 4096
        if at >= len(data):
            return
        while data[at:at + 4] == bytes(4):
            at += 4
        end = data.find(bytes(32), at)
        end = min(len(data) if end < 0 else end + 3 & ~3, at + 0x8000)
        yield at, data[at:end]
        at = end


def main():
    out = os.path.join(HERE, "corpus", "image")
    os.makedirs(out, exist_ok=True)
    with tempfile.TemporaryDirectory() as d:
        content = os.path.join(d, "content")
        with open(content, "wb") as f:
            f.write(b"A" * 3000 + bytes(200000) + b"B" * 512 + bytes(1 << 20))
        for name, form, options in IMAGES:
            path = os.path.join(d, name + ".img")
            more = ["-o", ",".join(options)] if options else []
            subprocess.run(["qemu-img", "convert", "--object", "secret,id=s,data=abc", "-f", "raw", "-O", form, *more, content, path], check=True)
            if name == "vhdx-log":
                subprocess.run(["qemu-io", "-f", "vhdx", "-c", "write -P 7 1M 4k", "-c", "abort", path], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            with open(path, "rb") as f:
                data = f.read()
            text = bytes([FORMATS.index(form), 0]) + struct.pack("<I", len(data) // 512)
            parts = [(o, b[:600] if len(set(b)) > 2 else b[:16]) for o, b in pieces(data)]
            if form == "luks":  # key material is random: a little of it will do
                parts = [(o, b[:64] if o >= 4096 else b) for o, b in parts][:14]
            for o, b in parts[:60]:
                text += struct.pack("<IH", o // 4, len(b)) + b
            with open(os.path.join(out, name), "wb") as f:
                f.write(text)


main()
