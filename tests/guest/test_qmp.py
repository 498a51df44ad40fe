# SPDX-License-Identifier: GPL-2.0-or-later
"""The control protocol: every command and event that the README promises."""
import json
import os
import subprocess

import pytest

import vmm

COMMANDS = ["qmp_capabilities", "query-status", "query-version", "query-commands", "query-cpus-fast", "query-block", "query-chardev", "stop",
            "cont", "system_reset", "system_powerdown", "quit"]


@pytest.fixture
def halted(machine, flat):
    """A machine whose guest has printed a line and halts for good."""
    def start(*args, **kwargs):
        m = machine("-accel", "jit", "-m", "64", "-nodefaults", "-display", "none", "-serial", "stdio", "-kernel", flat("halt"), *args,
                    qmp=True, **kwargs)
        if "-S" not in args:
            m.wait_text("halting\n", 20)
        return m
    return start


def test_greeting_and_negotiation(halted):
    m = halted()
    q = vmm.Qmp(m.qmp_path, greet=False)
    assert q.greeting["QMP"]["version"]["qemu"].keys() >= {"major", "minor", "micro"}, "clients look for a version in the greeting"
    assert isinstance(q.greeting["QMP"]["capabilities"], list)
    assert q.execute("query-status")["error"]["class"] == "CommandNotFound", "commands are refused before qmp_capabilities"
    assert q.execute("qmp_capabilities") == {"return": {}, "id": "qmp_capabilities"}, "the answer carries the request's id"
    assert q.command("query-status")["running"] is True
    q.close()


def test_every_promised_command_is_listed(halted):
    names = {c["name"] for c in halted().qmp.command("query-commands")}
    assert not set(COMMANDS) - names, "promised commands that query-commands does not list"


def test_queries(halted, work):
    image = f"{work}/disk"
    with open(image, "wb") as f:
        f.truncate(1 << 20)
    m = halted("-smp", "3", "-name", "a-name", "-uuid", "12345678-1234-1234-1234-123456789abc",
               "-drive", f"file={image},format=raw,if=none,id=d0", "-device", "virtio-blk-pci,drive=d0")
    q = m.qmp
    assert q.command("query-version")["qemu"].keys() >= {"major", "minor", "micro"}
    cpus = q.command("query-cpus-fast")
    assert sorted(c["cpu-index"] for c in cpus) == [0, 1, 2]
    for c in cpus:
        assert os.path.exists(f"/proc/{m.process.pid}/task/{c['thread-id']}"), "query-cpus-fast names a thread that is not there"
    assert len({c["thread-id"] for c in cpus}) == 3, "one thread per vCPU"
    drive = next(b for b in q.command("query-block") if b.get("device") == "d0")
    assert drive["inserted"]["file"] == image
    assert drive["inserted"]["drv"] == "raw"
    assert drive["inserted"]["ro"] is False
    assert drive["inserted"]["image"]["virtual-size"] == 1 << 20
    assert "serial0" in {c["label"] for c in q.command("query-chardev")} or vmm.IS_QEMU
    assert q.command("query-name")["name"] == "a-name"
    assert q.command("query-uuid")["UUID"] == "12345678-1234-1234-1234-123456789abc"


def test_empty_machine_answers_what_managers_ask(machine):
    """-machine none, as managers start it to learn what there is; in the sandbox, which is on by default."""
    m = machine("-S", "-no-user-config", "-nodefaults", "-display", "none", "-machine", "none,accel=tcg" if vmm.IS_QEMU else "none,accel=jit", qmp=True)
    q = m.qmp
    for name in ("query-version", "query-target", "query-commands", "query-qmp-schema", "query-kvm", "qom-list-types", "query-machines",
                 "query-cpu-definitions", "query-command-line-options", "query-migrate-capabilities", "query-tpm-models", "query-tpm-types",
                 "query-cpus-fast", "query-status", "query-stats-schemas", "query-tpm", "query-pr-managers", "query-vcpu-dirty-limit", "query-replay",
                 "query-display-options", "query-chardev-backends", "query-sev"):
        assert "return" in q.execute(name), f"{name} is not answered"
    for kind in ("virtio-balloon-pci", "virtio-net-pci", "virtio-blk-pci"):
        assert q.command("device-list-properties", typename=kind)
    for kind in ("none-machine", "memory-backend-file", "memory-backend-memfd"):
        assert q.command("qom-list-properties", typename=kind)
    assert "tcg-accel" in {t["name"] for t in q.command("qom-list-types")}
    base = q.command("query-cpu-model-expansion", type="static", model={"name": "max"})["model"]
    assert base["name"] == "base" and base["props"]["sse2"] is True
    full = q.command("query-cpu-model-expansion", type="full", model={"name": "base", "props": base["props"]})["model"]
    assert {n for n, on in base["props"].items() if on} <= {n for n, on in full["props"].items() if on is True}, "the two expansions differ"
    less = q.command("query-cpu-model-expansion", type="full", model={"name": "max", "props": {"sse4.2": False}})["model"]["props"]
    assert less["sse4.2"] is False
    assert {"null", "socket", "pty", "file", "stdio"} <= {b["name"] for b in q.command("query-chardev-backends")}
    assert (q.command("query-sev")["enabled"], q.command("query-replay")["mode"]) == (False, "none")
    for name in ("query-vm-generation-id", "query-sgx"):
        assert q.execute(name)["error"]["class"] == "GenericError"
    models = {d["name"]: d for d in q.command("query-cpu-definitions")}
    assert models["Skylake-Client-IBRS"]["alias-of"] == "Skylake-Client-v2" and "alias-of" not in models["EPYC-Milan-v1"]
    q.command("quit")
    m.wait(10, 0)


def test_one_balloon_and_its_polling(machine):
    m = machine("-S", "-nodefaults", "-display", "none", "-machine", "q35,mem_merge=off,graphics=off", "-m", "128,slots=2,maxmem=1G", "-smp", "1,maxcpus=2",
                "-device", "virtio-balloon-pci,id=b,guest-stats-polling-interval=7", qmp=True)
    q = m.qmp
    assert q.command("qom-get", path="b", property="guest-stats-polling-interval") == 7
    q.command("qom-set", path="b", property="guest-stats-polling-interval", value=0)
    assert q.command("qom-get", path="b", property="guest-stats-polling-interval") == 0
    assert [(r["slot"], r["slot-type"]) for r in q.command("query-acpi-ospm-status") if r["slot-type"] == "DIMM"] == [("0", "DIMM"), ("1", "DIMM")]
    q.command("object-add", **{"qom-type": "memory-backend-ram", "id": "mem", "size": 128 << 20})
    q.command("device_add", driver="pc-dimm", id="dimm", memdev="mem", slot=1)
    assert [r.get("device") for r in q.command("query-acpi-ospm-status") if r["slot-type"] == "DIMM"] == [None, "dimm"]
    place = next(c for c in q.command("query-hotpluggable-cpus") if "qom-path" not in c)
    q.command("device_add", driver=place["type"], id="cpu", **place["props"])
    assert q.command("qom-get", path="cpu", property="type") == place["type"]
    assert {"name": "cpu", "type": f"child<{place['type']}>"} in q.command("qom-list", path="/machine/peripheral")
    assert q.execute("netdev_del", id="nobody")["error"]["class"] == "DeviceNotFound"
    second = machine("-nodefaults", "-display", "none", "-S", "-device", "virtio-balloon-pci", "-device", "virtio-balloon-pci")
    second.wait(10, 1)
    assert "Only one balloon device" in second.stderr()


def test_stop_and_cont(halted):
    q = halted().qmp
    q.command("stop")
    q.wait_event("STOP")
    assert q.command("query-status") | {"running": False, "status": "paused"} == q.command("query-status")
    q.command("cont")
    event = q.wait_event("RESUME")
    assert event["timestamp"].keys() == {"seconds", "microseconds"}
    assert q.command("query-status")["running"] is True


def test_start_paused(halted):
    m = halted("-S")
    status = m.qmp.command("query-status")
    assert (status["status"], status["running"]) == ("prelaunch", False)
    assert m.text() == "", "with -S the guest ran before `cont`"
    m.qmp.command("cont")
    m.wait_text("halting\n", 20, "`cont` did not start a guest that waited with -S")


def test_system_reset(halted):
    m = halted()
    m.qmp.command("system_reset")
    event = m.qmp.wait_event("RESET")
    assert event["data"]["guest"] is False
    m.wait_text("halting\n", 20, "after system_reset the guest does not start again")


def test_quit(halted):
    m = halted()
    m.qmp.command("quit")
    event = m.qmp.wait_event("SHUTDOWN")
    assert event["data"] == {"guest": False, "reason": "host-qmp-quit"}
    m.wait(10, 0)
    assert not os.path.exists(m.qmp_path), "the QMP socket was left behind"


def test_signal_is_reported(halted):
    m = halted()
    m.qmp.command("query-status")
    m.process.terminate()
    assert m.qmp.wait_event("SHUTDOWN")["data"]["reason"] == "host-signal"
    m.wait(10, 0)


def test_guest_reset_is_reported(machine, flat):
    m = machine("-accel", "jit", "-m", "64", "-nodefaults", "-display", "none", "-serial", "stdio", "-kernel", flat("triple"), "-no-reboot", "-S",
                qmp=True)
    m.qmp.command("cont")
    assert m.qmp.wait_event("SHUTDOWN")["data"] == {"guest": True, "reason": "guest-reset"}
    m.wait(10, 0)


def test_power_button_is_reported(halted):
    q = halted().qmp
    q.command("system_powerdown")
    q.wait_event("POWERDOWN")
    assert q.command("query-status")["running"] is True, "a guest that ignores its power button goes on"


def test_guest_panic_is_reported(machine, flat):
    m = machine("-accel", "jit", "-m", "64", "-nodefaults", "-display", "none", "-serial", "stdio", "-device", "pvpanic", "-kernel", flat("panic"),
                "-no-reboot", "-S", qmp=True)
    m.qmp.command("cont")
    assert m.qmp.wait_event("GUEST_PANICKED")["data"]["action"] in ("pause", "poweroff"), "the guest's panic is not reported"


def test_bad_requests_get_an_answer_each(halted):
    q = halted().qmp
    for bad, why in ((b"this is not JSON\n", "text"), (b'{"execute": 3}\n', "a command that is no string"), (b"[]\n", "an array"),
                     (b'{"execute": "query-status", "arguments": []}\n', "arguments that are no object"),
                     (b'{"no": "command"}\n', "no command"), (b'{"execute": "query-status", "extra": 1}\n', "an unknown member"),
                     (b"\xff\xfe{}\n", "bytes that are not UTF-8")):
        q.send_raw(bad)
        assert q.reply()["error"]["class"] == "GenericError", f"{why} as a request is answered with an error"
        q.send_raw(b'{"execute": "query-status", "id": "after"}\n')
        answer = q.reply()
        while "error" in answer and answer.get("id") != "after":  # one bad line may be several bad tokens
            answer = q.reply()
        assert "return" in answer, f"after {why} the session does not go on: {answer}"
    assert q.execute("no-such-command")["error"]["class"] == "CommandNotFound"
    assert "error" in q.execute("query-status", unknown=1), "an unknown argument is refused"


def test_endless_request_is_bounded(halted):
    if vmm.IS_QEMU:
        pytest.skip("QEMU's own bound is 64 MiB")
    m = halted()
    q = m.qmp
    try:
        for _ in range(128):
            q.send_raw(b'{"execute": "' + b"x" * (1 << 20))
    except OSError:
        pass  # the connection may be closed
    with open(f"/proc/{m.process.pid}/status", encoding="ascii") as f:
        rss = int(next(line for line in f if line.startswith("VmRSS")).split()[1])
    assert rss < 300 * 1024, f"a request without an end made the program {rss} KiB big"
    q.close()
    assert vmm.Qmp(m.qmp_path).command("query-status")["running"], "after a client that misbehaved the next one is served"


def test_clients_come_and_go(halted):
    m = halted()
    for _ in range(5):
        q = vmm.Qmp(m.qmp_path)
        assert q.command("query-status")["status"] == "running"
        q.close()


def test_on_standard_input_and_output(flat):
    """-qmp stdio, as scripts use it."""
    p = subprocess.Popen([vmm.VMM, *vmm.options("-accel", "jit", "-nodefaults", "-display", "none", "-serial", "null", "-qmp", "stdio", "-kernel",
                                                flat("halt"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert "QMP" in json.loads(p.stdout.readline())
        for command in ("qmp_capabilities", "query-status", "quit"):
            p.stdin.write(json.dumps({"execute": command}).encode() + b"\n")
            p.stdin.flush()
            answer = {"event": None}
            while "event" in answer:
                answer = json.loads(p.stdout.readline())
            assert "return" in answer
        assert p.wait(10) == 0
    finally:
        p.kill()
        p.wait()
        p.stdin.close()
        p.stdout.close()
