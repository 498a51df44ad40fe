# SPDX-License-Identifier: GPL-2.0-or-later
"""`make check`: every suite in turn, the reasons of what was skipped, one closing line with the sum. The exit status is 0 only
when something ran and nothing failed.

usage: check.py BUILD_DIRECTORY [unit|diff|asan|guest|kvm]...
"""
import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Sum:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.reasons = []

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
    subprocess.run(["meson", "test", "-C", build, "--suite", suite, "--print-errorlogs", "--no-rebuild"], check=False,
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
                words = (test.get("stdout") or test.get("stderr") or "").strip().splitlines()
                total.skip(test["name"], words[-1] if words else "")
            else:
                total.failed += 1


def guests(total, build, directory="guest"):
    junit = os.path.join(build, f"pytest-{directory}.xml")
    if os.path.exists(junit):
        os.unlink(junit)
    status = subprocess.run(["/usr/bin/python3", "-B", "-m", "pytest", "-v", "--tb=short", "--durations=10", "-p", "no:cacheprovider",
                             f"--junitxml={junit}", os.path.join(ROOT, "tests", directory)], cwd=ROOT, check=False,
                            env=dict(os.environ, VIREO_BUILD=os.path.abspath(build))).returncode
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
        total.broken(f"the tests in tests/{directory} ended with status {status} after {ran} tests")


def sanitizers(total, build):
    """Unit and differential suites with AddressSanitizer and UndefinedBehaviorSanitizer."""
    asan = build.rstrip("/") + "-asan"
    try:
        if not os.path.exists(os.path.join(asan, "build.ninja")):
            subprocess.run(["meson", "setup", asan, ROOT, "-Db_sanitize=address,undefined", "-Db_lundef=false"], check=True,
                           stdout=subprocess.DEVNULL)
        subprocess.run(["ninja", "-C", asan, "--quiet"], check=True)
    except subprocess.CalledProcessError as e:
        total.broken(f"the build with sanitizers: {e}")
        return
    env = {"ASAN_OPTIONS": "abort_on_error=1:detect_leaks=0", "UBSAN_OPTIONS": "halt_on_error=1:abort_on_error=1:print_stacktrace=1"}
    for suite in ("unit", "diff"):
        meson_suite(total, asan, suite, env)


def main():
    build, only = sys.argv[1], sys.argv[2:]
    total = Sum()
    steps = (("unit", "unit tests", lambda: meson_suite(total, build, "unit")),
             ("diff", "differential tests", lambda: meson_suite(total, build, "diff")),
             ("asan", "unit and differential tests with sanitizers", lambda: sanitizers(total, build)),
             ("guest", "whole guests", lambda: guests(total, build)),
             ("kvm", "KVM, in a guest with the real kvm.ko", lambda: guests(total, build, "kvm")))
    unknown = set(only) - {key for key, _, _ in steps}
    if unknown:
        sys.exit(f"check.py: no suite {', '.join(sorted(unknown))}; there are: {', '.join(key for key, _, _ in steps)}")
    for key, name, step in steps:
        if only and key not in only:
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
