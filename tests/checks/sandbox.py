# SPDX-License-Identifier: GPL-2.0-or-later
"""Threads are made by sandbox_thread_new alone, so that each has a kind, and a list of system calls once the sandbox is closed;
processes are made before that. usage: sandbox.py SOURCE_ROOT"""
import os
import re
import sys

# The machine's process has the sandbox; the daemon and its clients are other processes.
OUTSIDE = ("manage", "tools/vireo")
# The sandbox itself; going to the background, before any thread is there.
ALLOWED = {"base/sandbox.c": "g_thread_new", "vmm/process.c": "fork"}
CALLS = re.compile(r"\b(g_thread_new|g_thread_try_new|g_thread_pool_new\w*|pthread_create|thrd_create|g_task_run_in_thread|fork|vfork|system|popen|"
                   r"g_spawn_\w+|posix_spawnp?|clone)\s*\(")
COMMENT = re.compile(r"/\*.*?\*/", re.S)

# What runs before the sandbox is closed may make processes; each such place says so: "before the sandbox".
BEFORE = re.compile(r"/\*[^*]*before the sandbox[^*]*\*/")

breaches, seen = [], 0
root = os.path.join(sys.argv[1], "src")
for folder, _, names in os.walk(root):
    for name in sorted(names):
        path = os.path.relpath(os.path.join(folder, name), root)
        if not name.endswith(".c") or name.endswith("_test.c") or path.startswith(tuple(o + "/" for o in OUTSIDE)):
            continue
        seen += 1
        with open(os.path.join(folder, name), encoding="utf-8") as f:
            text = f.read()
        code = COMMENT.sub(lambda m: "\n" * m.group().count("\n"), text)
        code = re.sub(r'"(\\.|[^"\\\n])*"', '""', code)
        excused = bool(BEFORE.search(text))
        for m in CALLS.finditer(code):
            thread = "thread" in m.group(1) or "thrd" in m.group(1)
            if ALLOWED.get(path) != m.group(1) and (thread or not excused):
                line = code.count("\n", 0, m.start()) + 1
                breaches.append(f"src/{path}:{line}: {m.group(1)}: " + ("make threads with sandbox_thread_new (base/sandbox.h)" if thread else
                                "no process can be made once the sandbox is closed; if this runs earlier, say so in a comment ('before the sandbox')"))
print("\n".join(breaches) or f"{seen} files make threads and processes as the sandbox wants it")
sys.exit(1 if breaches or seen < 50 else 0)
