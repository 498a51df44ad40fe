# SPDX-License-Identifier: GPL-2.0-or-later
"""Raw images, judged by qemu-io."""
import pytest
from conftest import BlockIO, run


@pytest.mark.parametrize("flags", [[], ["direct"], ["unmap"], ["direct", "unmap"]], ids=" ".join)
def test_what_is_written_is_read(img, flags):
    run("truncate", "-s", "16M", img)
    with BlockIO(f"driver=raw,file.driver=file,file.filename={img}", *flags) as io:
        io("w 1000 70000 0x11")
        io("w 4194304 4194304 0x22")
        io("z 5242880 65536")
        io("zu 6291456 1048576")
        io("f")
        io("r 1000 70000 0x11")
        io("r 0 1000 0")
        io("r 5242880 65536 0")
        io("w 16777216 1 1", "error EINVAL")
    run("qemu-io", "-f", "raw", "-c", "read -P 0x11 1000 70000", "-c", "read -P 0x22 4194304 1048576", "-c", "read -P 0 6291456 1048576",
        "-c", "read -P 0x22 7340032 1048576", img)


def test_compressed_writes_are_refused(img):
    run("truncate", "-s", "1M", img)
    with BlockIO(f"driver=raw,file.driver=file,file.filename={img}") as io:
        io("c 0 65536 1", "error EOPNOTSUPP")
