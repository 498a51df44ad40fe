# SPDX-License-Identifier: GPL-2.0-or-later
"""What a disk's image holds once the guest is done with it, by e2fsprogs on the host."""
import hashlib
import re
import subprocess


def fsck(path, repair=False):
    done = subprocess.run(["e2fsck", "-f", "-y" if repair else "-n", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    # 1: "errors corrected", which replaying the journal counts as.
    assert done.returncode in ((0, 1) if repair else (0,)), f"e2fsck finds the guest's file system broken:\n{done.stdout}"


def holds_what_was_written(m, path, text, files):
    """The guest has printed so many lines "VT sum SHA256  ./NAME": the image has a whole file system with these files."""
    sums = re.findall(r"VT sum (\w{64})  \./(\S+)", text)
    assert len(sums) == files, f"the guest sees {len(sums)} files of {files}" + m.tail()
    fsck(path)
    for digest, name in sums:
        data = subprocess.run(["debugfs", "-R", f"cat /{name}", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
        assert hashlib.sha256(data).hexdigest() == digest, f"the file {name} on the image is not what the guest wrote"
