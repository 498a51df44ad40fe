# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's control groups on a real cgroup v2 with all controllers: its unit test, run in a guest whose kernel has one."""
import os
import re
import subprocess

from vmm import BUILD

SCRIPT = """
mkdir -p /cg && mount -t tmpfs tmpfs /sys/fs/cgroup 2>/dev/null
mount -t cgroup2 none /sys/fs/cgroup
echo "VT controllers $(cat /sys/fs/cgroup/cgroup.controllers)"
/cgroup_test -p /cgroup/real-v2 2>&1 | sed 's/^/VT /'
echo "VT left $(ls -d /sys/fs/cgroup/machine/*/ 2>/dev/null)"
"""


def test_cgroup_v2(linux):
    program = os.path.join(BUILD, "src/manage/drivers/domain_cgroup_test")
    libraries = re.findall(r"(/\S+) \(0x", subprocess.run(["ldd", program], stdout=subprocess.PIPE, text=True, check=True).stdout)
    extra = {}
    for path in [program] + libraries:
        name = "cgroup_test" if path == program else path.lstrip("/")
        parts = name.split("/")[:-1]
        for i in range(1, len(parts) + 1):
            extra.setdefault("/".join(parts[:i]), (0o40755, b""))
        with open(path, "rb") as f:
            extra[name] = (0o100755, f.read())
    m = linux("-smp", "2", script=SCRIPT, extra=extra, memory="256")
    m.wait_text("VT done", 90)
    out = "".join(line[3:] + "\n" for line in m.text().replace("\r", "").splitlines() if line.startswith("VT "))
    m.wait(30)
    assert "ok 1 /cgroup/real-v2\n" in out, out
    assert "# v2 controllers: cpu cpuset memory io \n" in out, out
    assert "left \n" in out or "left\n" in out, out
