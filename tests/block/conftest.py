# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of disk images, with Debian's programs as judges. VIREO_BUILD names the build directory."""
import os
import subprocess

import pytest

BUILD = os.environ.get("VIREO_BUILD", os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "build"))


def run(*words, status=0, **more):
    """Output of a program that must end with this status (None: any)."""
    for _ in range(20):
        done = subprocess.run([str(w) for w in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300, check=False, **more)
        text = done.stdout.decode("utf-8", "replace")
        if "Unable to get accurate CPU usage" not in text:  # the judge measures the CPU for LUKS, and gives up on a busy machine
            break
    assert status is None or done.returncode == status, f"{' '.join(map(str, words))} ended with status {done.returncode}: {text}"
    return text


class BlockIO:
    """tests/block/blockio.c on one image."""

    def __init__(self, options, *flags):
        self.process = subprocess.Popen([os.path.join(BUILD, "tests", "block", "blockio"), str(options), *flags], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)

    def __call__(self, line, expect="ok"):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().rstrip("\n")
        assert expect is None or answer == expect, f"{line}: {answer}"
        return answer

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(60) == 0
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *what):
        if what[0] is None:
            self.close()
        else:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def img(tmp_path):
    """A path for an image."""
    return tmp_path / "disk.img"
