# SPDX-License-Identifier: GPL-2.0-or-later
"""Each source file says its licence on one of its first two lines, and what is linked into the library says the library's.
usage: licence.py SOURCE_ROOT"""
import os
import sys

KINDS = (".c", ".h", ".S", ".py", ".sh", ".asm", ".inc")
LIBRARY = ("src/manage/", "src/block/", "src/base/", "include/")
missing, seen = [], 0
for top in ("src", "include", "tests", "scripts"):
    for folder, _, names in os.walk(os.path.join(sys.argv[1], top)):
        for name in names:
            if name.endswith(KINDS):
                seen += 1
                with open(os.path.join(folder, name), encoding="utf-8") as f:
                    path, head = os.path.relpath(os.path.join(folder, name), sys.argv[1]), f.readline() + f.readline()
                    wanted = "LGPL-2.1-or-later" if path.startswith(LIBRARY) else "GPL-2.0-or-later"
                    if f"SPDX-License-Identifier: {wanted}" not in head:
                        missing.append(path)
print("\n".join(f"{m} does not say its licence, or another than its folder's" for m in missing) or f"{seen} files say their licence")
sys.exit(1 if missing or not seen else 0)
