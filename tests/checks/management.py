# SPDX-License-Identifier: GPL-2.0-or-later
"""Holds libvireo against its headers, and docs/compatibility-manage.md against the programs: every function that a header declares is exported, under
libvirt's version of it where libvirt is installed, and nothing else is; each function of the C interface and each procedure of the protocol is listed as
there or not yet, as the drivers say. A function is there when the drivers serve every procedure that it calls.

usage: management.py LIBRARY SERVED SOURCE_ROOT [--write]     SERVED: the program manage-served; --write: makes its sections of the page anew
"""
import os
import re
import subprocess
import sys

HEAD = """# What there is of libvirt 9.0, name by name

"There" means that it works against `vireod` and in the program itself (`vireo:///embed`), with the limits that [compatibility.md](compatibility.md) names;
"not yet" means that it fails by name, with libvirt's "not supported" (VIR_ERR_NO_SUPPORT, "unknown procedure" on the wire), so that clients go on without.
Against a `libvirtd` the library passes all calls on. The test `management` holds this page against the programs and makes these sections anew:
`tests/checks/management.py LIBRARY SERVED SOURCE_ROOT --write`.
"""
FUNCTIONS, PROCEDURES = "C functions", "RPC procedures"
DAEMON = {"auth_list", "auth_polkit", "connect_open", "connect_close"}  # the socket's own


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as f:
        return f.read()


def declared(root):
    """Functions and variables of the headers."""
    names, folder = set(), os.path.join(root, "include/vireo/libvirt")
    for name in os.listdir(folder):
        text = re.sub(r"/\*.*?\*/", "", read(folder, name), flags=re.S)
        names |= set(re.findall(r"(?m)^(?!typedef|#|\s|struct|extern).*?\b(vir\w+)\(", text)) | set(re.findall(r"(?m)^extern .*?\b(vir\w+);", text))
    return names


def exported(library):
    """name -> version of the dynamic symbols that a library defines."""
    out = subprocess.run(["nm", "-D", "--defined-only", "--with-symbol-versions", library], stdout=subprocess.PIPE, text=True, check=True).stdout
    return dict((line.split()[-1].split("@@") + [""])[:2] for line in out.splitlines() if " A " not in line)


def rows(root):
    """Procedures: name -> (NAME, is it a message from the server)."""
    text = read(root, "src/manage/rpc/rpc_procs.inc") + read(root, "src/manage/rpc/rpc_procs_qemu.inc")
    return {m[1]: (m[2], "RPC_EVENT" in m[3]) for m in re.finditer(r"(?m)^RPC_PROC\([^,]+, (\w+), (\w+), \d, (.*?), (?:\"|NULL)", text)}


def calls(root, procs):
    """Public function -> procedures that it calls, by itself or through others; None where it is refused by name."""
    by_macro, bodies, found = {upper: name for name, (upper, message) in procs.items() if not message}, {}, {}
    for name in sorted(os.listdir(os.path.join(root, "src/manage/api"))):
        if not name.endswith(".c"):
            continue
        text = read(root, "src/manage/api", name)
        starts = [(m.start(), m[1]) for m in re.finditer(r"(?m)^[a-zA-Z][^\n;=]*?\b(\w+)\([^;]*?\)\s*\{", text)]
        for (at, function), (end, _) in zip(starts, starts[1:] + [(len(text), "")]):
            bodies[name, function] = text[at:end]
            if not text[at:].startswith("static"):
                bodies["", function] = text[at:end]

    def used(file, function, seen):
        body = bodies.get((file, function)) or bodies.get(("", function), "")
        if function in seen or not body:
            return set()
        words = set(re.findall(r"\b\w+\b", body[body.index("("):]))
        out = {by_macro[w[4:] if w.startswith("RPC_") else w] for w in words if (w[4:] if w.startswith("RPC_") else w) in by_macro}
        for other in words & {f for _, f in bodies}:
            out |= used(file, other, seen | {function})
        return out | ({"(nothing)"} if "NO_SUPPORT" in words and "VIR_ERR_NO_SUPPORT" not in words else set())

    for file, function in bodies:
        if file and function.startswith("vir"):
            found[function] = used(file, function, set())
    return found


def section(title, there, missing):
    out = f"## {title}\n"
    for state, names in (("There", there), ("Not yet", missing)):
        line = f"\n**{state}**:" if names else ""
        for word in (f"`{n}`" for n in sorted(names)):
            if len(line) + len(word) > 148:
                out, line = out + line + "\n", word
            else:
                line += " " + word
        out += line + "\n" if line else ""
    return out


def sections(text):
    """title -> the whole section, heading and all; "" -> what stands before the first."""
    parts = re.split(r"(?m)^(?=## )", text)
    return {"": parts[0], **{p.split("\n", 1)[0][3:].strip(): p for p in parts[1:]}}


def main():
    library, served_program, root = sys.argv[1:4]
    path, wrong = os.path.join(root, "docs/compatibility-manage.md"), []
    names, have = declared(root), exported(library)
    wrong += [f"{n} is in a header, and the library does not export it" for n in sorted(names - set(have))]
    wrong += [f"the library exports {n}, which no header declares" for n in sorted(set(have) - names)]
    for theirs in ("libvirt.so.0", "libvirt-qemu.so.0", "libvirt-lxc.so.0"):
        real = os.path.join("/usr/lib/x86_64-linux-gnu", theirs)
        versions = exported(real) if os.path.exists(real) else {}
        wrong += [f"{n} has version {have[n]} instead of {v} of {theirs}" for n, v in versions.items() if n in names and n in have and have[n] != v]
    lines = subprocess.run([served_program], stdout=subprocess.PIPE, text=True, check=True).stdout.split("\n")
    served = {line.split()[1] for line in lines if line} | DAEMON
    procedures = rows(root)
    functions = calls(root, procedures)
    functions = {n: functions.get(n, set()) for n in names if not n.endswith("PtrDefault")}
    procs = {p for p, (_, message) in procedures.items() if not message}
    there = {n for n, used in functions.items() if used <= served}
    new = {FUNCTIONS: section(FUNCTIONS, there, set(functions) - there), PROCEDURES: section(PROCEDURES, procs & served, procs - served)}
    page = sections(read(path)) if os.path.exists(path) else {"": HEAD + "\n"}
    if "--write" in sys.argv:
        page.update({k: v.rstrip("\n") + "\n\n" for k, v in new.items()})
        with open(path, "w", encoding="utf-8") as f:
            f.write("".join(page.values()).rstrip("\n") + "\n")
        return
    for title, text in new.items():
        said = page.get(title, "")
        for state in ("There", "Not yet"):
            words = [set(re.findall(r"`(\w+)`", (re.search(rf"\*\*{state}\*\*:(.*?)(?=\n\n|\Z)", t, re.S) or ["", ""])[1])) for t in (said, text)]
            wrong += [f"{title}: `{n}` is listed under '{state}', the program says otherwise" for n in sorted(words[0] - words[1])]
            wrong += [f"{title}: `{n}` is to be listed under '{state}'" for n in sorted(words[1] - words[0])]
    if wrong:
        wrong.append("if the programs are right: tests/checks/management.py LIBRARY SERVED SOURCE_ROOT --write")
    print("\n".join(wrong) or f"{len(there)} of {len(functions)} functions, {len(procs & served)} of {len(procs)} procedures")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
