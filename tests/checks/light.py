# SPDX-License-Identifier: GPL-2.0-or-later
"""Helpers of generated code run while the guest's vector registers are in the host's: they may call nothing outside and touch no
vector register. Looks at the objects of the *_light libraries.

usage: light.py BUILD_DIRECTORY
"""
import glob
import os
import re
import subprocess
import sys

# Instructions whose operand is no register and that save or load state whole are what some helpers are for.
VECTOR = re.compile(r"%(?:xmm|ymm|zmm|mm)\d|\b(?:f(?:ld|st|add|mul|div|sub|ild|ist)[a-z]*)\b")
# Sanitized builds call their run-time, which keeps registers in its own way; they are for the logic.
SANITIZER = re.compile(r"^__(?:asan|ubsan|tsan|sanitizer)_")


def symbols(objects, option):
    out = subprocess.run(["nm", option, *objects], stdout=subprocess.PIPE, text=True, check=True).stdout
    return {line.split()[-1] for line in out.splitlines() if line and not line.endswith(":")}


def main():
    build = sys.argv[1]
    objects = sorted(glob.glob(os.path.join(build, "src", "**", "lib*_light.a.p", "*.o"), recursive=True))
    if not objects:
        print("no objects of *_light libraries: nothing built?")
        sys.exit(1)
    own = glob.glob(os.path.join(build, "src", "accel", "jit", "**", "*.o"), recursive=True)
    own += glob.glob(os.path.join(build, "src", "cpu", "**", "*.o"), recursive=True)
    own = [o for o in own if "_test" not in o]
    light_defined = symbols(objects, "--defined-only")
    known = symbols(own, "--defined-only") | {"_GLOBAL_OFFSET_TABLE_"}
    wrong = []
    sanitized = False
    for o in objects:
        name = os.path.basename(o)
        for symbol in sorted(symbols([o], "--undefined-only")):
            if SANITIZER.match(symbol):
                sanitized = True
            elif symbol not in known:
                wrong.append(f"{name} calls or reads {symbol}, which is outside the translator")
        text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", o], stdout=subprocess.PIPE, text=True, check=True).stdout
        function = "?"
        for line in text.splitlines():
            head = re.match(r"[0-9a-f]+ <([^>]+)>:", line)
            if head:
                function = head.group(1)
            elif VECTOR.search(line.split("\t", 1)[-1]) and not allowed(function):
                wrong.append(f"{name}: {function} touches a vector or x87 register: {line.split(chr(9), 1)[-1].strip()}")
    if sanitized:
        print("SKIP: a sanitized build's helpers call its run-time")
        sys.exit(77)
    print("\n".join(wrong[:40]) or f"{len(objects)} objects, {len(light_defined)} symbols: no call outside, no vector register")
    sys.exit(1 if wrong else 0)


def allowed(function):
    """Functions that move the guest's vector state on purpose, in inline assembler."""
    return re.search(r"fxsave|fxrstor|xsave|xrstor|fldenv|fnstenv|frstor|fnsave", function) is not None


main()
