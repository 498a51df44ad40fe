# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/benchmarks.md: each table stands between <!-- MARK --> and <!-- end of MARK -->."""
import os

PAGE = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "docs", "benchmarks.md")


def put(mark, text):
    """Replaces what stands at the mark."""
    with open(PAGE, encoding="utf-8") as f:
        before, rest = f.read().split(f"<!-- {mark} -->\n")
    after = rest.split(f"<!-- end of {mark} -->")[1]
    with open(PAGE + ".new", "w", encoding="utf-8") as f:
        f.write(f"{before}<!-- {mark} -->\n{text}\n<!-- end of {mark} -->{after}")
    os.replace(PAGE + ".new", PAGE)
