# SPDX-License-Identifier: GPL-2.0-or-later
"""Holds docs/compatibility-list.md against the program, both ways, and against Debian's QEMU for completeness when that is installed:
each option, device, CPU model, QMP command and event of QEMU is listed as there or not yet; what the page says is there the program
takes, what it says is missing the program refuses by name; what the program has is named in docs/compatibility.md too.

usage: compatibility.py PROGRAM SOURCE_ROOT [--write]      --write: makes the page anew from what the program and QEMU say
"""
import concurrent.futures
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile

QEMU = "qemu-system-x86_64"
KINDS = ["Options", "Devices", "CPU models", "QMP commands", "QMP events"]
STATES = ["There", "Not yet", "Of Vireo alone"]
HEAD = """# What there is of QEMU 7.2, name by name

Names that Debian's `qemu-system-x86_64` 7.2 has for x86-64. "There" means that `vireo-vmm` takes it, with the limits that
[compatibility.md](compatibility.md) names; "not yet" means that it says so, by name, when asked for it. The test `compatibility`
holds this page against the program and makes it anew: `tests/checks/compatibility.py PROGRAM SOURCE_ROOT --write`.
"""


def run(program, *args):
    done = subprocess.run([program, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=30, check=False)
    return done.returncode, done.stdout, done.stderr


def option_names(text):
    """From -help: "-h or -help  ...", "-fda/-fdb file ..."."""
    names = set()
    for line in text.splitlines():
        m = re.match(r"-[A-Za-z][\w-]*(?:(?:/| or )-[A-Za-z][\w-]*)*", line)
        if m:
            names |= set(re.findall(r"(?:^|[/ ])-([A-Za-z][\w-]*)", m[0]))
    return names


def talk(program, args, commands):
    """Answers to QMP commands, one each, events left out."""
    with tempfile.NamedTemporaryFile(suffix=".flat") as image:
        # Multiboot 0.6.96, 3.1: a header with addresses, then CLI, HLT, and a jump back to it.
        image.write(struct.pack("<8I", 0x1badb002, 0x10003, -(0x1badb002 + 0x10003) & 0xffffffff, 0x100000, 0x100000, 0x100024, 0x100024, 0x100020) +
                    b"\xfa\xf4\xeb\xfc")
        image.flush()
        text = "".join(json.dumps({"execute": c, "arguments": a} if a else {"execute": c}) + "\n" for c, a in [("qmp_capabilities", None), *commands])
        with subprocess.Popen([program, *args, "-S", "-display", "none", "-nodefaults", "-qmp", "stdio", "-kernel", image.name], text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE) as p:
            p.stdin.write(text)
            p.stdin.flush()
            answers = []
            while len(answers) < len(commands) + 1:
                line = p.stdout.readline()
                if not line:
                    break
                message = json.loads(line)
                if "event" not in message and "QMP" not in message:
                    answers.append(message)
            p.kill()
        return answers[1:]


def of_qemu():
    """{kind: names}, or None where QEMU is not installed."""
    if not shutil.which(QEMU):
        return None
    devices = run(QEMU, "-device", "help")[1]
    names = set(re.findall(r'(?m)^name "([^"]+)"', devices)) | set(re.findall(r'alias "([^"]+)"', devices))
    commands, schema = talk(QEMU, ["-accel", "tcg"], [("query-commands", None), ("query-qmp-schema", None)])
    return {"Options": option_names(run(QEMU, "-help")[1]), "Devices": {n for n in names if not n.endswith("-x86_64-cpu")},
            "CPU models": {n[:-len("-x86_64-cpu")] for n in names if n.endswith("-x86_64-cpu")},
            "QMP commands": {c["name"] for c in commands["return"]},
            "QMP events": {s["name"] for s in schema["return"] if s["meta-type"] == "event"}}


def of_program(program, source):
    with open(os.path.join(source, "src", "vmm", "options_table.c"), encoding="utf-8") as f:
        refused = set(re.findall(r'REFUSE\("([^"]+)"', f.read()))
    commands, schema = talk(program, [], [("query-commands", None), ("query-qmp-schema", None)])
    return {"Options": option_names(run(program, "-help")[1]) - refused,
            "Devices": set(re.findall(r'(?m)^name "([^"]+)"', run(program, "-device", "help")[1])),
            "CPU models": set(re.findall(r"(?m)^  ([A-Za-z0-9][\w-]*) ", run(program, "-cpu", "help")[1].split("\nFeatures:")[0])),
            "QMP commands": {c["name"] for c in commands["return"]},
            "QMP events": {s["name"] for s in schema["return"] if s["meta-type"] == "event"}}


def takes_device(program, name):
    """1: there; 0: refused as not there yet; -1: not known."""
    status, _, err = run(program, "-device", name + ",help")
    return 1 if status == 0 else 0 if "not there yet" in err else -1


def refuses_option(program, name):
    """An option that is not there: named, with a reason, and not taken for a slip of the hand."""
    status, _, err = run(program, "-" + name, "x")
    return status == 1 and f"-{name}" in err and "invalid option" not in err


def read_page(path):
    page, kind, state = {k: {s: set() for s in STATES} for k in KINDS}, None, None
    with open(path, encoding="utf-8") as f:
        for line in f:
            if line.startswith("## "):
                kind, state = line[3:].strip(), None
            m = re.match(r"\*\*([^*]+)\*\*:", line)
            if m:
                state = m[1]
            if kind in page and state in STATES:
                page[kind][state] |= set(re.findall(r"`([^`]+)`", line))
    return page


def write_page(path, qemu, known, program):
    out = HEAD
    for kind in KINDS:
        names, have = qemu[kind] | known[kind], program[kind]
        groups = {"There": names & have, "Not yet": names - have, "Of Vireo alone": have - names}
        out += f"\n## {kind}\n"
        for state in STATES:
            words = [f"`{n}`" for n in sorted(groups[state], key=lambda n: (n.lower(), n))]
            line = f"**{state}**:" if words else ""
            if words:
                out += "\n"
            for w in words:
                if len(line) + len(w) > 118:
                    out += line + "\n"
                    line = w
                else:
                    line += " " + w
            out += line + "\n" if line else ""
    with open(path, "w", encoding="utf-8") as f:
        f.write(out)


def events_in_source(source):
    names = set()
    for folder, _, files in os.walk(os.path.join(source, "src", "vmm")):
        for name in files:
            if name.endswith(".c") and not name.endswith("_test.c"):
                with open(os.path.join(folder, name), encoding="utf-8") as f:
                    text = f.read()
                names |= set(re.findall(r'machine_(?:post_)?event\([^;"]*?"([A-Z_]+)"', text)) | set(re.findall(r'\[EVENT_\w+\] = "([A-Z_]+)"', text))
    for folder, _, files in os.walk(os.path.join(source, "src", "block")):
        for name in files:
            if name.endswith(".c") and not name.endswith("_test.c"):
                with open(os.path.join(folder, name), encoding="utf-8") as f:
                    names |= set(re.findall(r'"((?:BLOCK|JOB)_[A-Z_]+)"', f.read()))
    return names


def main():
    program, source = sys.argv[1:3]
    path = os.path.join(source, "docs", "compatibility-list.md")
    qemu, have, wrong = of_qemu(), of_program(program, source), []
    aliases = {}
    page = read_page(path) if os.path.exists(path) else None
    names = (qemu["Devices"] if qemu else set()) | (page["Devices"]["There"] | page["Devices"]["Not yet"] if page else set())
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        aliases = dict(zip(sorted(names), pool.map(lambda n: takes_device(program, n), sorted(names))))
    have["Devices"] |= {n for n, state in aliases.items() if state == 1}
    if "--write" in sys.argv:
        if not qemu and not page:
            sys.exit(f"{QEMU} is not installed, and there is no page to take its names from")
        known = {k: page[k]["There"] | page[k]["Not yet"] if page else set() for k in KINDS}
        write_page(path, qemu or known, known, have)
        return
    for kind in KINDS:
        said = page[kind]
        there = said["There"] | said["Of Vireo alone"]
        wrong += [f"{kind}: `{n}` is said to be there; the program does not have it" for n in sorted(there - have[kind])]
        wrong += [f"{kind}: the program has `{n}`; the page does not say so" for n in sorted(have[kind] - there)]
        wrong += [f"{kind}: `{n}` is listed twice" for n in sorted(there & said["Not yet"])]
        if qemu:
            wrong += [f"{kind}: QEMU's `{n}` is not listed" for n in sorted(qemu[kind] - said["There"] - said["Not yet"])]
    wrong += [f"Devices: the program does not know that `{n}` is a device of QEMU" for n, s in aliases.items() if s < 0]
    wrong += [f"Options: the program does not refuse -{n} by name" for n in sorted(page["Options"]["Not yet"]) if not refuses_option(program, n)]
    missing = sorted(page["QMP commands"]["Not yet"])
    for name, answer in zip(missing, talk(program, [], [(n, None) for n in missing])):
        if "not there yet" not in answer.get("error", {}).get("desc", ""):
            wrong.append(f"QMP commands: {name} is answered by {answer} instead of an error that says it is not there yet")
    sent = events_in_source(source)
    wrong += [f"QMP events: {n} is sent, and qmp_events[] does not have it" for n in sorted(sent - have["QMP events"])]
    wrong += [f"QMP events: {n} is in qmp_events[], and nothing sends it" for n in sorted(have["QMP events"] - sent)]
    with open(os.path.join(source, "docs", "compatibility.md"), encoding="utf-8") as f:
        text = f.read()
    words = {name.split()[0] for name in re.findall(r"`([^`]+)`", text)}  # a command may stand with its arguments
    listed = set(re.findall(r'(?m)^name "([^"]+)"', run(program, "-device", "help")[1])) - {"x86_64-cpu"}
    wrong += [f"docs/compatibility.md does not name `{n}`" for n in sorted((listed | have["QMP commands"] | have["QMP events"]) - words)]
    if not qemu:
        print(f"{QEMU} is not installed: the lists are not compared with it")
    if wrong:
        wrong.append("if the program is right: tests/checks/compatibility.py PROGRAM SOURCE_ROOT --write, and docs/compatibility.md by hand")
    print("\n".join(wrong) or ", ".join(f"{len(page[k]['There'])} of {len(page[k]['There'] | page[k]['Not yet'])} {k}" for k in KINDS))
    sys.exit(1 if wrong else 0)


main()
