# SPDX-License-Identifier: GPL-2.0-or-later
"""What the program says of itself and what is written about it are the same: each option of -help is in the manual page and in
docs/compatibility.md, with those that are refused.

usage: options.py PROGRAM SOURCE_ROOT
"""
import os
import re
import subprocess
import sys


def output(*args):
    done = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, timeout=30, check=False)
    if done.returncode or done.stderr:
        print(f"{' '.join(args)} ends with {done.returncode}: {done.stderr}")
        sys.exit(1)
    return done.stdout


def names_in(text):
    """Options mentioned in a text: -name, not within a word."""
    text = text.replace("\\-", "-").replace("\\fB", " ").replace("\\fR", " ").replace("\\fI", " ").replace("`", " ")
    return set(re.findall(r"(?<![\w-])-([A-Za-z][A-Za-z0-9_-]*)", text))


def main():
    program, source = sys.argv[1:3]
    wrong = []
    listed = set(re.findall(r"(?m)^\s*-([A-Za-z][A-Za-z0-9_-]*)", output(program, "-help")))
    if len(listed) < 30:
        wrong.append(f"-help lists {len(listed)} options only")
    with open(os.path.join(source, "src", "vmm", "options_table.c"), encoding="utf-8") as f:
        table = f.read()
    rows = set(re.findall(r'^\s*(?:\{|REFUSE\() ?"([A-Za-z][A-Za-z0-9_-]*)",', table, re.M))
    refused = set(re.findall(r'REFUSE\("([^"]+)"', table)) | set(re.findall(r'\{ "([^"]+)"[^}]*opt_refuse', table))
    manual = names_in(output(program, "-help=man"))
    wrong += [f"-{n} is in the table, not in -help" for n in sorted(rows - refused - listed - {"help=man"})]
    wrong += [f"-{n} is in -help, not in the manual page (-help=man)" for n in sorted(listed - manual)]
    compatibility = os.path.join(source, "docs", "compatibility.md")
    if os.path.exists(compatibility):
        with open(compatibility, encoding="utf-8") as f:
            written = names_in(f.read())
        wrong += [f"-{n} is {'refused by the program' if n in refused else 'an option'} and docs/compatibility.md does not mention it"
                  for n in sorted(rows - written)]
    page = os.path.join(source, "docs", "vireo-vmm.1")
    if os.path.exists(page):
        with open(page, encoding="utf-8") as f:
            wrong += [f"-{n} is in -help, not in docs/vireo-vmm.1" for n in sorted(listed - names_in(f.read()))]
    print("\n".join(wrong) or f"{len(listed)} options are documented")
    sys.exit(1 if wrong else 0)


main()
