#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of elements and attributes in the sources of src/manage against the schemas: el_get() of a name that no schema has finds nothing for ever, el_set() of
one ends the daemon."""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MODEL = os.path.join(ROOT, "src", "manage", "model")
sys.dont_write_bytecode = True
sys.path.insert(0, MODEL)
import schema_compile  # noqa: E402 (the path is set above)

CALL = re.compile(r"\bel_(?:get|get_or|is|set|setf|find|add|child|next|each|get_u64|get_bytes) ?\(")


def tables():
    t = schema_compile.Tables()
    for name in sorted(os.listdir(MODEL)):
        if name.endswith(".schema"):
            t.load(os.path.join(MODEL, name))
    for root in t.roots.values():
        t.element(root)
    inside = {}
    for row in t.els[1:]:
        names = inside.setdefault(t.words[row[0]], set())
        names |= {"@" + t.words[a[0]] for a in t.attrs[row[4]:row[4] + row[5]]}
        names |= {t.words[t.els[link[0]][0]] for link in t.links[row[6]:row[6] + row[7]]}
    return inside


def paths(text):
    """(offset, path) of each literal that is the path of a call: the second argument, of el_each the third."""
    for m in CALL.finditer(text):
        want, depth, argument, at = (2 if "each" in m[0] else 1), 0, 0, m.end()
        while at < len(text):
            literal = re.compile(r'"((?:[^"\\]|\\.)*)"').match(text, at)
            if literal:
                if depth == 0 and argument == want:
                    yield at, literal[1]
                at = literal.end()
                continue
            c = text[at]
            depth += (c in "([{") - (c in ")]}")
            argument += c == "," and depth == 0
            at += 1
            if depth < 0:
                break


def main():
    inside = tables()
    known = set(inside).union(*inside.values())
    wrong = 0
    for folder, _, names in os.walk(os.path.join(ROOT, "src", "manage")):
        for name in sorted(names):
            path = os.path.join(folder, name)
            if not name.endswith(".c") or folder == MODEL:
                continue
            with open(path, encoding="utf-8") as f:
                text = f.read()
            for at, literal in paths(text):
                parts = [p for p in literal.split("/") if p]
                bad = [p for p in parts if p not in known] + [f"{a}/{b}" for a, b in zip(parts, parts[1:]) if a in inside and b not in inside[a]]
                if bad:
                    wrong += 1
                    print(f"{os.path.relpath(path, ROOT)}:{text.count(chr(10), 0, at) + 1}: \"{literal}\": no schema has {', '.join(bad)}")
    sys.exit(1 if wrong else 0)


main()
