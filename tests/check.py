# SPDX-License-Identifier: GPL-2.0-or-later
"""`make check`: every suite in turn, one closing line with the sum. The exit status is 0 only when nothing failed."""
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET


def meson_suite(build, suite):
    """Runs one suite of meson tests; returns (passed, failed, skipped)."""
    subprocess.run(["meson", "test", "-C", build, "--suite", suite, "--print-errorlogs", "--no-rebuild"], check=False)
    passed = failed = skipped = 0
    with open(os.path.join(build, "meson-logs", "testlog.json")) as log:
        for line in log:
            result = json.loads(line)["result"]
            if result in ("OK", "EXPECTEDFAIL"):
                passed += 1
            elif result == "SKIP":
                skipped += 1
            else:
                failed += 1
    return passed, failed, skipped


def pytest_suite(build, paths):
    junit = os.path.join(build, "pytest.xml")
    if os.path.exists(junit):
        os.unlink(junit)
    env = dict(os.environ, VIREO_BUILD=os.path.abspath(build))
    status = subprocess.run(["/usr/bin/python3", "-m", "pytest", "-v", "-rs", "-p", "no:cacheprovider", f"--junitxml={junit}", *paths],
                            env=env).returncode
    if not os.path.exists(junit):
        return 0, 1, 0
    total = failed = skipped = 0
    for suite in ET.parse(junit).getroot().iter("testsuite"):
        total += int(suite.get("tests"))
        failed += int(suite.get("failures")) + int(suite.get("errors"))
        skipped += int(suite.get("skipped"))
    if status not in (0, 1, 5) and not failed:
        failed += 1
    return total - failed - skipped, failed, skipped


def sanitizer_build(build):
    """Unit and differential suites with AddressSanitizer and UndefinedBehaviorSanitizer."""
    asan = build.rstrip("/") + "-asan"
    if not os.path.exists(os.path.join(asan, "build.ninja")):
        subprocess.run(["meson", "setup", asan, "-Db_sanitize=address,undefined", "-Db_lundef=false"], check=True,
                       stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", asan, "--quiet"], check=True)
    return asan


def main():
    build = sys.argv[1]
    only = sys.argv[2:]
    steps = [("unit tests", "unit", lambda: meson_suite(build, "unit")),
             ("differential tests", "diff", lambda: meson_suite(build, "diff")),
             ("sanitizers", "asan", lambda: tuple(map(sum, zip(*(meson_suite(sanitizer_build(build), s) for s in ("unit", "diff")))))),
             ("whole guests", "guest", lambda: pytest_suite(build, ["tests"]))]
    sums = (0, 0, 0)
    for name, key, step in steps:
        if only and key not in only:
            continue
        print(f"== {name}", flush=True)
        sums = tuple(map(sum, zip(sums, step())))
    print("%d passed, %d failed, %d skipped" % sums)
    sys.exit(1 if sums[1] or not sums[0] else 0)


main()
