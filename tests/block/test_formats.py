# SPDX-License-Identifier: GPL-2.0-or-later
"""vmdk, vhdx, vdi and vpc: images of qemu-img are read and written by us, ours by qemu-img; what is damaged is refused."""
import json
import os
import random
import struct
import subprocess

import pytest
from conftest import BUILD, BlockIO, run

SIZE = 20 << 20
FORMATS = [("vdi", ""), ("vdi", "static=on"), ("vmdk", ""), ("vmdk", "subformat=monolithicFlat"), ("vmdk", "subformat=twoGbMaxExtentSparse"),
           ("vmdk", "subformat=twoGbMaxExtentFlat"), ("vmdk", "subformat=streamOptimized"), ("vmdk", "zeroed_grain=on,adapter_type=lsilogic"), ("vhdx", ""), ("vhdx", "subformat=fixed"),
           ("vhdx", "block_size=1M,log_size=2M"), ("vpc", "force_size=on"), ("vpc", "subformat=fixed,force_size=on")]
WRITTEN = [f for f in FORMATS if f[0] != "vpc"]


def ours(*words, status=0):
    return run(os.path.join(BUILD, "vireo-img"), *words, status=status)


def options(text):
    return ("-o", text) if text else ()


@pytest.fixture
def content(tmp_path):
    """Pieces of data with holes between them, some at odd places."""
    path, rand = tmp_path / "content.raw", random.Random(1)
    with open(path, "wb") as f:
        f.truncate(SIZE)
        for _ in range(60):
            f.seek(rand.randrange(SIZE - 80000))
            f.write(bytes([rand.randrange(1, 256)]) * rand.randrange(1, 80000))
    return path


@pytest.mark.parametrize("form,how", FORMATS)
def test_images_of_qemu_img_are_read(content, tmp_path, form, how):
    image, back = tmp_path / "a.img", tmp_path / "back.raw"
    run("qemu-img", "convert", "-f", "raw", "-O", form, *options(how), content, image)
    ours("convert", "-f", form, "-O", "raw", image, back)
    run("cmp", content, back)
    mine, theirs = (json.loads(p("info", "--output=json", "-f", form, image)) for p in (ours, lambda *w: run("qemu-img", *w)))
    for key in ("virtual-size", "format", "cluster-size", "format-specific"):
        assert mine.get(key) == theirs.get(key), key
    if how != "subformat=fixed,force_size=on":  # a fixed VHD looks like raw
        assert json.loads(ours("info", "--output=json", image))["format"] == form


@pytest.mark.parametrize("form,how", WRITTEN)
def test_our_images_are_read_by_qemu_img(content, tmp_path, form, how):
    image = tmp_path / "a.img"
    ours("convert", "-f", "raw", "-O", form, *options(how), content, image)
    run("qemu-img", "compare", "-f", form, "-F", "raw", image, content)
    run("qemu-img", "check", "-f", form, image, status=None)
    mine, theirs = (json.loads(p("info", "--output=json", "-f", form, image)) for p in (ours, lambda *w: run("qemu-img", *w)))
    assert mine.get("format-specific") == theirs.get("format-specific") and mine["virtual-size"] == SIZE


@pytest.mark.parametrize("maker", ["ours", "theirs"])
@pytest.mark.parametrize("form,how", [f for f in WRITTEN if "stream" not in f[1]])
def test_random_writes(tmp_path, form, how, maker):
    """Against a model in memory; then qemu-img reads the same."""
    image, model_path, rand, model = tmp_path / "a.img", tmp_path / "model.raw", random.Random(2), bytearray(SIZE)
    (ours if maker == "ours" else lambda *w: run("qemu-img", *w))("create", "-q", "-f", form, *options(how), image, str(SIZE))
    with BlockIO(f"driver={form},file.driver=file,file.filename={image}", "unmap") as io:
        for _ in range(150):
            at, length, value = rand.randrange(SIZE - 300000), rand.randrange(1, 300000), rand.randrange(1, 256)
            if rand.random() < 0.5:
                at, length = at & ~511, (length + 511) & ~511
            if rand.random() < 0.8:
                io(f"w {at} {length} {value}")
                model[at:at + length] = bytes([value]) * length
            else:
                io(f"{rand.choice(['z', 'zu'])} {at} {length}")
                model[at:at + length] = bytes(length)
            if rand.random() < 0.1:
                io("f")
    model_path.write_bytes(model)
    run("qemu-img", "compare", "-f", form, "-F", "raw", image, model_path)
    ours("compare", "-f", form, "-F", "raw", image, model_path)


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def sealed(data):
    data = data[:4] + bytes(4) + data[8:]
    return data[:4] + struct.pack("<I", crc32c(data)) + data[8:]


def unplug(image, sequences=(1, 2)):
    """As if the power had gone: the table of blocks is in the log and not yet where it belongs. Each entry has a part of it."""
    data, guid = bytearray(image.read_bytes()), bytes(range(16))
    bat, log = 2 << 20, 1 << 20
    page = bytes(data[bat:bat + 4096])
    data[bat:bat + 4096] = bytes(4096)
    for i, sequence in enumerate(sequences):
        part = page if i == len(sequences) - 1 else page[:8] + bytes(4088)
        entry = b"loge" + bytes(4) + struct.pack("<IIQII", 8192, 0, sequence, 1, 0) + guid + struct.pack("<QQ", len(data), len(data))
        entry += b"desc" + part[4092:] + part[:8] + struct.pack("<QQ", bat, sequence)
        entry = entry.ljust(4096, b"\0") + b"data" + struct.pack("<I", sequence >> 32) + part[8:4092] + struct.pack("<I", sequence & 0xffffffff)
        data[log + i * 8192:log + (i + 1) * 8192] = sealed(entry)
    for at in (0x10000, 0x20000):
        header = bytearray(data[at:at + 4096])
        header[48:64] = guid
        data[at:at + 4096] = sealed(bytes(header))
    image.write_bytes(data)


def test_vhdx_with_a_log_that_was_not_emptied(tmp_path):
    image, copy = tmp_path / "a.vhdx", tmp_path / "b.vhdx"
    run("qemu-img", "create", "-q", "-f", "vhdx", "-o", "block_size=1M", image, "20M")
    run("qemu-io", "-f", "vhdx", "-c", "write -P 7 5M 3M", "-c", "write -P 9 17M 1M", image)
    unplug(image)
    before = image.read_bytes()
    copy.write_bytes(before)
    with BlockIO(f"driver=vhdx,file.driver=file,file.filename={image}", "ro") as io:
        io(f"r {5 << 20} {3 << 20} 7")
        io(f"r {17 << 20} {1 << 20} 9")
        io(f"r 0 {5 << 20} 0")
    assert image.read_bytes() == before, "reading has changed the image"
    run("qemu-io", "-f", "vhdx", "-c", "read -P 7 5M 3M", "-c", "read -P 9 17M 1M", copy)  # the judge takes the log for one
    with BlockIO(f"driver=vhdx,file.driver=file,file.filename={image}") as io:
        io("w 0 4096 3")
    assert "dirty" not in run("qemu-img", "check", "-f", "vhdx", image)
    run("qemu-io", "-r", "-f", "vhdx", "-c", "read -P 7 5M 3M", "-c", "read -P 9 17M 1M", "-c", "read -P 3 0 4096", image)


def test_vhdx_with_a_damaged_log(tmp_path):
    image = tmp_path / "a.vhdx"
    run("qemu-img", "create", "-q", "-f", "vhdx", "-o", "block_size=1M", image, "20M")
    unplug(image)
    with open(image, "r+b") as f:
        f.seek((1 << 20) + 8192 + 100)
        f.write(b"x")
        f.seek((1 << 20) + 100)
        f.write(b"x")
    assert "log is damaged" in ours("convert", "-f", "vhdx", "-O", "raw", image, tmp_path / "out", status=1)


def test_vhdx_beyond_a_chunk(tmp_path):
    """More blocks than stand before the first entry of a sector bitmap."""
    for maker in (ours, lambda *w: run("qemu-img", *w)):
        image = tmp_path / "a.vhdx"
        maker("create", "-q", "-f", "vhdx", "-o", "block_size=1M", image, "9G")
        with BlockIO(f"driver=vhdx,file.driver=file,file.filename={image}") as io:
            for i, at in enumerate(((4 << 30) - 65536, 4 << 30, (8 << 30) + 1000)):
                io(f"w {at} 65536 {i + 1}")
        run("qemu-io", "-r", "-f", "vhdx", "-c", f"read -P 1 {(4 << 30) - 65536} 65536", "-c", "read -P 2 4G 65536", "-c", f"read -P 3 {(8 << 30) + 1000} 65536", image)


def test_vmdk_of_several_extents(tmp_path):
    for kind in ("Sparse", "Flat"):
        image = tmp_path / f"{kind}.vmdk"
        ours("create", "-q", "-f", "vmdk", "-o", f"subformat=twoGbMaxExtent{kind}", image, "5G")
        with BlockIO(f"driver=vmdk,file.driver=file,file.filename={image}") as io:
            io(f"w {(2 << 30) - 32768} 65536 5")
            io(f"w {(5 << 30) - 512} 512 6")
        run("qemu-io", "-r", "-f", "vmdk", "-c", f"read -P 5 {(2 << 30) - 32768} 65536", "-c", f"read -P 6 {(5 << 30) - 512} 512", image)
        assert len(json.loads(ours("info", "--output=json", image))["format-specific"]["data"]["extents"]) == 3


def test_vmdk_on_another_one(content, tmp_path):
    base, top, out = tmp_path / "base.vmdk", tmp_path / "top.vmdk", tmp_path / "out.raw"
    ours("convert", "-O", "vmdk", content, base)
    ours("create", "-q", "-f", "vmdk", "-b", "base.vmdk", "-F", "vmdk", top)
    with BlockIO(f"driver=vmdk,file.driver=file,file.filename={top}") as io:
        io("w 70000 9000 0x33")
    run("qemu-img", "convert", "-f", "vmdk", "-O", "raw", top, out)
    ours("compare", "-f", "vmdk", "-F", "raw", top, out)
    with BlockIO(f"driver=vmdk,file.driver=file,file.filename={base}") as io:
        io("w 0 512 1")
    text = ours("convert", "-f", "vmdk", "-O", "raw", top, out, status=1)
    assert "base.vmdk" in text and "changed" in text


def test_vpc_is_read_only(content, tmp_path):
    image = tmp_path / "a.vhd"
    run("qemu-img", "convert", "-O", "vpc", "-o", "force_size=on", content, image)
    done = subprocess.run([os.path.join(BUILD, "tests", "block", "blockio"), f"driver=vpc,file.driver=file,file.filename={image}"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          check=False, timeout=60)
    assert done.returncode == 1 and b"can only be read" in done.stderr


DAMAGE = [("vdi", 0x154, "<I", 0xffffffff, "block map"), ("vdi", 0x170, "<Q", 1 << 62, "VDI"), ("vdi", 0x178, "<I", 4096, "block size"), ("vdi", 0x44, "<I", 2, "version"),
          ("vmdk", 20, "<Q", 3, "grain size"), ("vmdk", 12, "<Q", 1 << 60, "measure"), ("vmdk", 44, "<I", 100000, "512"), ("vmdk", 56, "<Q", 1 << 40, "directory"),
          ("vmdk", 28, "<Q", 1 << 40, "descriptor"), ("vhdx", 192 << 10, "<I", 0, "region"), ("vpc", 60, ">I", 7, "checksum"), ("vpc", 512 + 32, ">I", 1 << 31, "header")]


@pytest.mark.parametrize("form,at,how,value,says", DAMAGE)
def test_damaged_headers_are_refused(tmp_path, form, at, how, value, says):
    image = tmp_path / "a.img"
    run("qemu-img", "create", "-q", "-f", form, image, "20M")
    with open(image, "r+b") as f:
        for place in (at, at + (64 << 10)) if form == "vhdx" else (at,):
            f.seek(place)
            f.write(struct.pack(how, value))
    text = ours("convert", "-f", form, "-O", "raw", image, tmp_path / "out", status=1)
    assert says in text and text.count("\n") == 1, text


@pytest.mark.parametrize("form,entry", [("vdi", 512), ("vmdk", 26 * 512 + 512), ("vhdx", 2 << 20)])
def test_check(tmp_path, form, entry):
    image = tmp_path / "a.img"
    run("qemu-img", "create", "-q", "-f", form, image, "20M")
    run("qemu-io", "-f", form, "-c", "write -P 1 0 2M", image)
    assert ours("check", "-f", form, image) == run("qemu-img", "check", "-f", form, image)
    with open(image, "r+b") as f:
        f.seek(entry)
        f.write(struct.pack("<Q", 1 << 40 | 6) if form == "vhdx" else struct.pack("<I", 0x100000))
    assert "ERROR" in ours("check", "-f", form, image, status=2)
    before = image.read_bytes()
    ours("check", "-r", "all", "-f", form, image, status=1 if form == "vdi" else 63)  # vdi: not even opened for writing
    assert image.read_bytes() == before


def test_a_table_that_points_elsewhere(tmp_path):
    """Entries past the file or twice the same are not written through."""
    image = tmp_path / "a.vdi"
    run("qemu-img", "create", "-q", "-f", "vdi", image, "20M")
    run("qemu-io", "-f", "vdi", "-c", "write -P 1 0 2M", image)
    for entry, says in ((99, "has no block"), (1, "used twice")):
        with open(image, "r+b") as f:
            f.seek(512)
            f.write(struct.pack("<I", entry))
        done = subprocess.run([os.path.join(BUILD, "tests", "block", "blockio"), f"driver=vdi,file.driver=file,file.filename={image}"], stdin=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, check=False, timeout=60)
        assert done.returncode == 1 and says in done.stderr.decode()
    with BlockIO(f"driver=vdi,file.driver=file,file.filename={image}", "ro") as io:
        io("r 1048576 1048576 1")
