# SPDX-License-Identifier: GPL-2.0-or-later
"""Each source file says its licence on one of its first two lines. usage: licence.py SOURCE_ROOT"""
import os
import sys

KINDS = (".c", ".h", ".S", ".py", ".sh", ".asm", ".inc")
missing, seen = [], 0
for top in ("src", "include", "tests", "scripts"):
    for folder, _, names in os.walk(os.path.join(sys.argv[1], top)):
        for name in names:
            if name.endswith(KINDS):
                seen += 1
                with open(os.path.join(folder, name), encoding="utf-8") as f:
                    if "SPDX-License-Identifier: " not in f.readline() + f.readline():
                        missing.append(os.path.relpath(os.path.join(folder, name), sys.argv[1]))
print("\n".join(f"{m} does not say its licence" for m in missing) or f"{seen} files say their licence")
sys.exit(1 if missing or not seen else 0)
