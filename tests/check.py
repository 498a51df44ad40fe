# SPDX-License-Identifier: GPL-2.0-or-later
"""`make check`: every suite in turn, the reasons of what was skipped, one closing line with the sum. The exit status is 0 only
when something ran and nothing failed.

usage: check.py BUILD_DIRECTORY [unit|diff|asan|fuzz|block|guest|manage|kvm]...
       check.py BUILD_DIRECTORY fuzz SECONDS   each fuzzer so long, from another place every time; what it learns is kept
"""
import concurrent.futures
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Sum:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.reasons = []
        self.daemon = None  # a vireod with sanitizers, once it is built

    def skip(self, name, reason):
        self.skipped += 1
        self.reasons.append(f"{name}: {reason or 'no reason given'}")

    def broken(self, what):
        print(f"FAILED: {what}", flush=True)
        self.failed += 1


def meson_suite(total, build, suite, env=None):
    log = os.path.join(build, "meson-logs", "testlog.json")
    if os.path.exists(log):
        os.unlink(log)  # an older run's results are not this one's
    subprocess.run(["meson", "test", "-C", build, "--suite", suite, "--print-errorlogs", "--no-rebuild", "--timeout-multiplier", "5"], check=False,
                   env=dict(os.environ, **(env or {})))
    if not os.path.exists(log):
        total.broken(f"the suite {suite} did not run in {build}")
        return
    with open(log, encoding="utf-8") as f:
        for line in f:
            test = json.loads(line)
            if test["result"] in ("OK", "EXPECTEDFAIL"):
                total.passed += 1
            elif test["result"] == "SKIP":
                lines = ((test.get("stdout") or "") + (test.get("stderr") or "")).splitlines()
                reasons = [line.partition("SKIP")[2].strip(": ") for line in lines if "SKIP" in line]
                total.skip(test["name"], reasons[-1] if reasons else "")
            else:
                total.failed += 1


def pytest(build, paths, name, env=None):
    """Runs these files or directories; (exit status, the results' file)."""
    junit = os.path.join(build, f"pytest-{name}.xml")
    if os.path.exists(junit):
        os.unlink(junit)
    # a directory of its own: the one that runs share loses, with each new run, the access that tests as another user need
    with tempfile.TemporaryDirectory(prefix="vireo-") as base:
        os.chmod(base, 0o755)
        status = subprocess.run(["/usr/bin/python3", "-B", "-m", "pytest", "-v", "--tb=short", "--durations=10", "-p", "no:cacheprovider",
                                 f"--junitxml={junit}", f"--basetemp={base}/t", *paths], cwd=ROOT, check=False,
                                env=dict(os.environ, VIREO_BUILD=os.path.abspath(build), **(env or {}))).returncode
    return status, junit


def count(total, what, status, junit):
    before = total.failed
    ran = 0
    if os.path.exists(junit):
        for case in ET.parse(junit).getroot().iter("testcase"):
            ran += 1
            skipped = case.find("skipped")
            if case.find("failure") is not None or case.find("error") is not None:
                total.failed += 1
            elif skipped is not None:
                total.skip(case.get("name"), skipped.get("message"))
            else:
                total.passed += 1
    if (status != 0 and total.failed == before) or not ran:
        total.broken(f"the tests in {what} ended with status {status} after {ran} tests")


PROGRAMS = {"block": "disk images and NBD", "guest": "whole guests", "manage": "the management layer"}
# These take longest, in this order: they go first, so that the end is not spent waiting for one of them.
LONG = ("guest/test_memtest.py", "guest/test_migrate_devices.py", "manage/test_migrate.py", "guest/test_migrate.py", "guest/test_network_host.py",
        "guest/test_systemd.py", "guest/test_cards.py", "guest/test_pci_hotplug.py", "guest/test_memory.py", "block/test_qcow2_crash.py",
        "guest/test_kernels.py", "manage/test_cloud.py", "manage/test_storage_kernel.py", "guest/test_disk.py", "guest/test_flat.py",
        "block/test_img.py", "block/test_nbd.py", "block/test_qcow2.py", "guest/test_hostile.py", "guest/test_cpu.py", "manage/test_save.py",
        "manage/test_snapshot_memory.py", "manage/test_schemas.py", "manage/test_interfaces_kernel.py", "manage/test_network_guests.py",
        "manage/test_cli.py", "guest/test_usb.py")


# These run against a vireod with sanitizers, when `make check` has built one.
SANITIZED = {f"manage/test_{name}.py" for name in ("backup", "block", "devices", "display", "documents", "domain", "jobs", "nodedev", "secret", "snapshots", "storage")}
SANITIZERS = {"ASAN_OPTIONS": "abort_on_error=1:detect_leaks=0", "UBSAN_OPTIONS": "halt_on_error=1:abort_on_error=1:print_stacktrace=1"}


def programs(total, build, directories):
    """Files of tests of whole programs, two at a time; of all directories in one queue, so that neither CPU waits at the end of each."""
    files = [f"{directory}/{name}" for directory in directories for name in os.listdir(os.path.join(ROOT, "tests", directory))
             if name.startswith("test_") and name.endswith(".py")]
    files.sort(key=lambda name: (LONG.index(name) if name in LONG else len(LONG), -os.path.getsize(os.path.join(ROOT, "tests", name))))
    env = {"VIREO_SLOW": "2"}  # two share the host
    sanitized = dict(env, VIREO_DAEMON=total.daemon, **SANITIZERS) if total.daemon else env
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        runs = [(name, pool.submit(pytest, build, [os.path.join(ROOT, "tests", name)], name.replace("/test_", "-").removesuffix(".py"),
                                   sanitized if name in SANITIZED else env)) for name in files]
        for name, run in runs:
            count(total, f"tests/{name}", *run.result())


NESTED_LONG = ("state", "boot", "dirty", "hostile_rings", "cpu", "vhost", "hotplug", "flat", "errors")


def nested(total, build):
    """Two outer guests side by side, each on one CPU (tests/kvm/outer.py says why); the files are dealt to them, the long ones first: a new
    outer guest for each file would take longer to come up than many a file. Everything in there is emulated twice: where other machines take a part of the
    host's time, it takes three times as long, and a guest that was on its way (seen: it printed its word just after) is not one that hangs."""
    names = [name for name in os.listdir(os.path.join(ROOT, "tests", "kvm")) if name.startswith("test_") and name.endswith(".py")]
    order = [f"test_{name}.py" for name in NESTED_LONG]
    names.sort(key=lambda name: (order.index(name) if name in order else len(order), name))
    cpus = sorted(os.sched_getaffinity(0))[:2]
    hands = [[] for _ in cpus]
    for i, name in enumerate(names):
        turn, seat = divmod(i, len(cpus))
        hands[len(cpus) - 1 - seat if turn % 2 else seat].append(os.path.join(ROOT, "tests", "kvm", name))
    with concurrent.futures.ThreadPoolExecutor(len(cpus)) as pool:
        runs = [pool.submit(pytest, build, hand, f"kvm{cpu}", {"VIREO_OUTER_CPU": str(cpu), "VIREO_SLOW": "4"}) for cpu, hand in zip(cpus, hands)]
        for run in runs:
            count(total, "tests/kvm", *run.result())


def sanitizers(total, build):
    """Unit and differential suites with AddressSanitizer and UndefinedBehaviorSanitizer; a vireod with them for later tests."""
    asan = build.rstrip("/") + "-asan"
    try:
        if not os.path.exists(os.path.join(asan, "build.ninja")):
            # -O1 and line numbers: what the sanitizers see is the same or more, and the compiler needs half the time
            subprocess.run(["meson", "setup", asan, ROOT, "-Db_sanitize=address,undefined", "-Db_lundef=false", "-Doptimization=1", "-Dc_args=-g1"], check=True,
                           stdout=subprocess.DEVNULL)
        subprocess.run(["ninja", "-C", asan, "--quiet", "meson-test-prereq", "vireod"], check=True)
        total.daemon = os.path.join(os.path.abspath(build), "vireod-sanitized")  # beside the vireo-vmm that it starts
        shutil.copy(os.path.join(asan, "vireod"), total.daemon)
    except subprocess.CalledProcessError as e:
        total.broken(f"the build with sanitizers: {e}")
        return
    for suite in ("unit", "diff"):
        meson_suite(total, asan, suite, SANITIZERS)


FUZZERS = ("virtio", "nic", "nvme", "usb", "hda", "qmp", "options", "qcow2", "image", "nbd_server", "nbd_client", "document", "stream", "xdr", "rpc")
FUZZ_SECONDS = 10  # each, two at a time


def fuzz(total, build, seconds=None):
    """libFuzzer over what guests and clients send, from the checked-in corpus. The short run begins at a fixed seed."""
    if not shutil.which("clang"):
        total.skip("fuzz", "clang is not installed; scripts/packages.sh check installs it, and libFuzzer")
        return
    tree = build.rstrip("/") + "-fuzz"
    try:
        if not os.path.exists(os.path.join(tree, "build.ninja")):
            subprocess.run(["meson", "setup", tree, ROOT, "-Dfuzz=true", "-Db_sanitize=address,undefined", "-Db_lundef=false", "-Doptimization=1",
                            "-Dc_args=-g1 -fsanitize=fuzzer-no-link"], check=True, stdout=subprocess.DEVNULL, env=dict(os.environ, CC="clang"))
        subprocess.run(["ninja", "-C", tree, "--quiet", "fuzzers"], check=True)
    except subprocess.CalledProcessError as e:
        total.broken(f"the build of the fuzzers: {e}")
        return
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for name, status, log in pool.map(lambda name: fuzz_one(tree, name, seconds), FUZZERS):
            with open(log, encoding="utf-8", errors="replace") as f:
                lines = f.read().splitlines()
            done = [line for line in lines if line.startswith("Done ")]
            if status == 0 and done:
                print(f"fuzz_{name}: {done[-1]}", flush=True)
                total.passed += 1
                continue
            # what went wrong, where, and the input that does it
            first = next((i for i, line in enumerate(lines) if "ERROR" in line or "runtime error" in line), max(len(lines) - 30, 0))
            print("\n".join(lines[first:first + 30] + [line for line in lines[first + 30:] if "Test unit written" in line]))
            total.broken(f"fuzz_{name}, status {status}; all it said: {log}")


def fuzz_one(tree, name, seconds):
    here = os.path.join(ROOT, "tests", "fuzz")
    kept = os.path.join(os.path.abspath(tree), "corpus", name)
    if seconds is None:
        shutil.rmtree(kept, ignore_errors=True)  # the short run is not to depend on earlier ones
    os.makedirs(kept, exist_ok=True)
    log = os.path.join(os.path.abspath(tree), f"fuzz_{name}.log")
    words = os.path.join(here, name + ".dict")
    args = [os.path.join(tree, "tests", "fuzz", "fuzz_" + name), f"-max_total_time={seconds or FUZZ_SECONDS}",
            "-max_len=8192" if name == "document" else "-max_len=1024",
            "-len_control=0", "-timeout=20", "-close_fd_mask=1", f"-artifact_prefix={os.path.abspath(tree)}/{name}-"]
    args += ["-seed=1"] if seconds is None else []
    args += [f"-dict={words}"] if os.path.exists(words) else []
    env = dict(os.environ, G_DEBUG="fatal-criticals", ASAN_OPTIONS="abort_on_error=1",
               UBSAN_OPTIONS="halt_on_error=1:abort_on_error=1:print_stacktrace=1")
    with open(log, "wb") as f:
        try:
            status = subprocess.run(args + [kept, os.path.join(here, "corpus", name)] + ([os.path.join(ROOT, "tests", "manage", "golden")] if name == "document" else []), check=False, stdin=subprocess.DEVNULL,
                                    stdout=subprocess.DEVNULL, stderr=f, env=env, timeout=(seconds or FUZZ_SECONDS) + 120).returncode
        except subprocess.TimeoutExpired:
            status = "none: it did not end"
    return name, status, log


def main():
    build, only = sys.argv[1], sys.argv[2:]
    seconds = int(only.pop()) if len(only) == 2 and only[0] == "fuzz" and only[1].isdigit() else None
    total = Sum()
    steps = {"unit": ("unit tests", lambda: meson_suite(total, build, "unit")),
             "diff": ("differential tests", lambda: meson_suite(total, build, "diff")),
             "asan": ("unit and differential tests with sanitizers", lambda: sanitizers(total, build)),
             "fuzz": ("fuzzers", lambda: fuzz(total, build, seconds))}
    there = [*steps, *PROGRAMS, "kvm"]
    if unknown := set(only) - set(there):
        sys.exit(f"check.py: no suite {', '.join(sorted(unknown))}; there are: {', '.join(there)}")
    wanted = [key for key in PROGRAMS if not only or key in only]
    if wanted:
        steps["programs"] = ("; ".join(PROGRAMS[key] for key in wanted), lambda: programs(total, build, wanted))
    steps["kvm"] = ("KVM, in a guest with the real kvm.ko", lambda: nested(total, build))
    for key, (name, step) in steps.items():
        if only and key not in (*only, "programs"):
            continue
        print(f"== {name}", flush=True)
        start = time.monotonic()
        step()
        print(f"== {name}: {time.monotonic() - start:.0f} s", flush=True)
    for reason in total.reasons:
        print("skipped " + reason)
    print(f"{total.passed} passed, {total.failed} failed, {total.skipped} skipped")
    sys.exit(1 if total.failed or not total.passed else 0)


main()
