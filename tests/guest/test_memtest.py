# SPDX-License-Identifier: GPL-2.0-or-later
"""memtest86+, the memory tester of every PC: one whole pass without an error, read from its screen on the serial port."""
import re
import time

import vmm

LIMIT = 400  # seconds; its last test alone waits 80, to see whether bits fade


def screen(m):
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", " ", m.text())


def test_memtest86plus_passes(machine, kernels):
    m = machine("-accel", "jit", "-m", "16", "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot", "-kernel",
                f"{kernels}/memtest.bin", "-append", "console=ttyS0,115200 nosmp")
    end = time.monotonic() + LIMIT * vmm.SLOW
    while not re.search(r"Pass:\s+[1-9]", screen(m)):
        if not m.running():
            m.fail("memtest86+ ended the machine")
        if time.monotonic() > end:
            m.fail(f"memtest86+ does not finish a pass within {LIMIT} s")
        time.sleep(1)
    counts = set(re.findall(r"Errors:\s+(\d+)", screen(m)))
    assert counts == {"0"}, f"memtest86+ counts errors: {counts}"
