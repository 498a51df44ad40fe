# SPDX-License-Identifier: GPL-2.0-or-later
"""memtest86+, the memory tester of every PC: one whole pass without an error, read from its screen on the serial port."""
import re


def test_memtest86plus_passes(machine, kernels):
    m = machine("-accel", "jit", "-m", "16", "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot", "-kernel",
                f"{kernels}/memtest.bin", "-append", "console=ttyS0,115200 nosmp")
    m.wait_text("Memtest86+", 30, "memtest86+ does not draw its screen on the serial port")
    # Its last test waits twice 80 seconds, to see whether bits fade.
    m.wait_text("Pass completed, no errors", 400, "memtest86+ does not report a pass without errors")
    screen = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", " ", m.text())
    counts = set(re.findall(r"Errors:\s*(\d+)", screen))
    assert counts <= {"0"}, f"memtest86+ counts errors: {counts}"
