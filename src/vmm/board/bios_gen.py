#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""bios.asm -> C array: bios_gen.py NASM SOURCE OUTPUT"""
import os, subprocess, sys, tempfile

nasm, source, output = sys.argv[1:]
with tempfile.TemporaryDirectory() as d:
    binary = os.path.join(d, 'bios.bin')
    subprocess.run([nasm, '-f', 'bin', '-o', binary, source], check=True)
    data = open(binary, 'rb').read()
with open(output, 'w') as f:
    f.write('static const uint8_t bios_code[] = {\n')
    for i in range(0, len(data), 16):
        f.write('    ' + ' '.join('0x%02x,' % b for b in data[i:i + 16]) + '\n')
    f.write('};\n')
