# SPDX-License-Identifier: GPL-2.0-or-later
"""The cost of leaving the guest for the process and going back: tests/guest/asm/exits.asm under both programs in turn, on the
translators on this host, and on KVM in the outer guest of the nested KVM tests (tests/kvm/outer.py).

usage: exits.py BUILD [--write]

The best of the runs counts. --write puts the tables into docs/benchmarks.md.
"""
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
GUEST = os.path.join(os.path.dirname(HERE), "guest")
KVM = os.path.join(os.path.dirname(HERE), "kvm")
sys.path[:0] = [GUEST, KVM]
# Name in the guest: what the table says.
EXITS = {"port-read": "port read (ACPI PM timer)", "mmio-read": "MMIO read (HPET)", "ipi": "IPI to a vCPU that spins, and back",
         "halt": "IPI to a halted vCPU, and back to one"}
# The same with each vCPU's thread on a CPU of its own: otherwise the row tells where the scheduler happens to wake a thread.
PINNED = {"ipi": "the same, each vCPU on a CPU of its own: spins", "halt": "the same, each vCPU on a CPU of its own: halted"}
PIN = """#!/bin/sh
"$@" </dev/null &
p=$!
cpus=
while [ "$cpus" != xx ] && [ -d /proc/$p ]; do
    cpus=
    for t in /proc/$p/task/*; do
        case "$(cat $t/comm 2>/dev/null)" in
        CPU\\ [01]/KVM) n=$(cut -c5 $t/comm); taskset -p $((n + 1)) ${t##*/} >/dev/null && cpus=${cpus}x;;
        esac
    done
done
wait $p
"""
QEMU_FILES = ("bios-256k.bin", "kvmvapic.bin", "linuxboot_dma.bin", "multiboot_dma.bin")


def assemble(out, count):
    target = os.path.join(out, f"exits-{count}.flat")
    subprocess.run(["nasm", "-f", "bin", "-I", f"{GUEST}/asm/", f"-DCOUNT={count}", "-o", target, f"{GUEST}/asm/exits.asm"], check=True)
    return target


def options(kernel):
    return ["-machine", "q35", "-smp", "2", "-m", "64", "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot", "-device",
            "isa-debug-exit,iobase=0xf4,iosize=0x4", "-kernel", kernel]


def measure(command):
    """{name: seconds of one}."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=200, check=False)
    found = re.findall(r"(\S+) ([0-9A-F]{8}) ([0-9A-F]{8}) ([0-9A-F]{8})", done.stdout.decode("ascii", "replace"))
    if done.returncode != 3 or len(found) != len(EXITS):
        raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}: {done.stdout!r} {done.stderr[-300:]!r}")
    return {name: int(ticks, 16) * int(period, 16) / 1e15 / int(count, 16) for name, count, ticks, period in found}


def in_turn(commands, runs):
    """{(name, side): [seconds]} of the commands {side: words}, one after the other so many times."""
    times = {}
    for _ in range(runs):
        for side, command in commands.items():
            for name, seconds in measure(command).items():
                times.setdefault((name, side), []).append(seconds)
    return times


def on_translators(programs, out, runs):
    kernel = assemble(out, 100000)
    return in_turn({side: words + options(kernel) for side, words in programs.items()}, runs)


def nested(programs, out, guest, runs):
    """On KVM in the outer guest, both programs in the same one."""
    import initramfs
    import outer
    subprocess.run([f"{GUEST}/make_kernels.sh", guest], check=True)
    files = {}
    for name in QEMU_FILES:
        for path in (f"/usr/share/seabios/{name}", f"/usr/share/qemu/{name}"):
            if os.path.exists(path):
                with open(path, "rb") as f:
                    files[f"usr/share/qemu/{name}"] = (0o100644, f.read())
    files["pin"] = (0o100755, PIN.encode())
    with tempfile.TemporaryDirectory() as tmp:
        o = outer.Outer(initramfs, guest, tmp, {side: words[0] for side, words in programs.items()}, files)
        try:
            kernel = o.put(assemble(out, 4000))
            extra = {"vireo": [], "qemu": ["-L", "/usr/share/qemu"]}
            words = {side: ["/" + side, *extra[side], "-accel", "kvm", "-cpu", "host", "-name", "exits,debug-threads=on"] + options(kernel)
                     for side in programs}
            times = in_turn({side: o.wrapper() + words[side] for side in programs}, runs)
            pinned = in_turn({side: o.wrapper() + ["/pin", *words[side]] for side in programs}, runs)
            return {**times, **{("pinned " + name, side): pinned[name, side] for name, side in pinned if name in PINNED}}
        finally:
            o.end()


def table(times, title, goal):
    lines = [f"| {title} | vireo-vmm, µs | QEMU, µs | vireo-vmm / QEMU |", "|---|---:|---:|---:|"]
    for name, label in [*EXITS.items(), *(("pinned " + name, label) for name, label in PINNED.items())]:
        if all((name, side) in times for side in ("vireo", "qemu")):
            ours, theirs = min(times[name, "vireo"]), min(times[name, "qemu"])
            lines.append(f"| {label} | {ours * 1e6:.2f} | {theirs * 1e6:.2f} | {ours / theirs:.2f}{'' if ours <= goal * theirs else f' (goal: {goal})'} |")
    return "\n".join(lines)


def main():
    words = [w for w in sys.argv[1:] if w != "--write"]
    build = os.path.abspath(words[0])
    out = os.path.join(build, "bench")
    os.makedirs(out, exist_ok=True)
    programs = {"vireo": [os.path.join(build, "vireo-vmm")], "qemu": ["/usr/bin/qemu-system-x86_64"]}
    jit = {"vireo": programs["vireo"] + ["-accel", "jit"], "qemu": programs["qemu"] + ["-accel", "tcg"]}
    first = table(on_translators(jit, out, 5), "one exit to the process and back, translators", 0.5)
    print("\n" + first, flush=True)
    second = table(nested(programs, out, os.path.join(build, "guest"), 8), "the same, KVM in the outer guest", 1)
    print("\n" + second, flush=True)
    if "--write" in sys.argv:
        import idle
        idle.write(os.path.join(os.path.dirname(os.path.dirname(HERE)), "docs", "benchmarks.md"), "exits", first + "\n\n" + second)


if __name__ == "__main__":
    main()
