# SPDX-License-Identifier: GPL-2.0-or-later
"""Encrypted disks: LUKS volumes and qcow2 images, judged by qemu-img and cryptsetup in both directions; secrets; keys that come and go."""
import json
import os
import subprocess

import pytest
from conftest import BUILD, run

SIZE = 3 << 20
SECRET = ("--object", "secret,id=s,data=correct horse")
OTHER = ("--object", "secret,id=n,data=battery staple")
WRONG = ("--object", "secret,id=s,data=wrong")
FAST = "iter-time=10"
CIPHERS = ["aes-256", "aes-128,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256,hash-alg=sha1", "aes-192,cipher-mode=xts,hash-alg=sha512",
           "serpent-256", "serpent-128,cipher-mode=cbc,ivgen-alg=plain", "twofish-256,hash-alg=ripemd160", "twofish-128,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=md5",
           "cast5-128,cipher-mode=cbc,ivgen-alg=plain64"]


def ours(*words, status=0):
    return run(os.path.join(BUILD, "vireo-img"), *words, status=status)


def theirs(*words):
    """qemu-img, which on a busy host does not always manage to measure its key derivation."""
    for _ in range(10):
        text = run("qemu-img", *[str(w).replace("iter-time=10", "iter-time=100") for w in words], status=None)
        if "accurate CPU usage" not in text:
            break
    return run("true") if "qemu-img:" not in text else pytest.fail(text)


def cryptsetup(path, passphrase):
    """Whether cryptsetup opens the volume with it (no device mapper needed)."""
    done = subprocess.run(["cryptsetup", "luksOpen", "--test-passphrase", str(path), "x", "--key-file", "-"], input=passphrase.encode(), check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    return done.returncode == 0


@pytest.fixture
def content(tmp_path):
    path = tmp_path / "content.raw"
    with open(path, "wb") as f:
        f.write(bytes(i * 7 % 251 for i in range(100000)) + bytes(SIZE - 300000) + b"end" * 66666 + b"..")
    assert os.path.getsize(path) == SIZE
    return path


def source(driver, path):
    key = "encrypt.key-secret" if driver == "qcow2" else "key-secret"
    return f"driver={driver},{key}=s,file.driver=file,file.filename={path}"


@pytest.mark.parametrize("cipher", CIPHERS)
def test_both_directions(content, tmp_path, cipher):
    mine, other, back = tmp_path / "mine.luks", tmp_path / "theirs.luks", tmp_path / "back.raw"
    options = f"key-secret=s,{FAST},cipher-alg={cipher}"
    ours("convert", *SECRET, "-f", "raw", "-O", "luks", "-o", options, content, mine)
    run("qemu-img", "compare", *SECRET, "--image-opts", source("luks", mine), f"driver=raw,file.filename={content}")
    if cipher in CIPHERS[::3]:  # qemu-img takes seconds for the key of each
        theirs("convert", *SECRET, "-f", "raw", "-O", "luks", "-o", options, content, other)
        ours("convert", *SECRET, "--image-opts", "-O", "raw", source("luks", other), back)
        run("cmp", content, back)
        assert os.path.getsize(mine) == os.path.getsize(other)
    if cipher.startswith(("aes-128", "aes-256")):  # others it asks of the device mapper
        assert cryptsetup(mine, "correct horse") and not cryptsetup(mine, "wrong")


def test_volume_of_cryptsetup(tmp_path):
    path, out = tmp_path / "c.luks", tmp_path / "out.raw"
    run("truncate", "-s", "8M", path)
    subprocess.run(["cryptsetup", "luksFormat", "-q", "--type", "luks1", "--pbkdf-force-iterations", "1000", str(path), "--key-file", "-"], input=b"correct horse", check=True)
    ours("convert", *SECRET, "--image-opts", "-O", "raw", source("luks", path), out)
    assert os.path.getsize(out) == 6 << 20
    subprocess.run(["cryptsetup", "luksFormat", "-q", "--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--offset", "8192", str(path), "--key-file", "-"],
                   input=b"correct horse", check=True)
    assert "version 2" in ours("info", "--image-opts", f"driver=luks,file.filename={path}", status=1)


def test_info_says_what_qemu_img_says(tmp_path):
    path = tmp_path / "a.luks"
    ours("create", *SECRET, "-f", "luks", "-o", f"key-secret=s,{FAST}", path, "1M")
    mine, other = (json.loads(p("info", "--output=json", path)) for p in (ours, lambda *w: run("qemu-img", *w)))
    assert mine["format-specific"] == other["format-specific"] and mine["encrypted"] and mine["virtual-size"] == 1 << 20
    dump = run("cryptsetup", "luksDump", path)
    assert mine["format-specific"]["data"]["uuid"] in dump and "xts-plain64" in dump


def test_wrong_and_missing_passphrases_are_named(tmp_path):
    for driver, options in (("luks", "key-secret=s"), ("qcow2", "encrypt.format=luks,encrypt.key-secret=s")):
        path, prefix = tmp_path / f"a.{driver}", "encrypt." if driver == "qcow2" else ""
        ours("create", *SECRET, "-f", driver, "-o", f"{options},{prefix}{FAST}", path, "1M")
        assert "Invalid password, cannot unlock any keyslot" in ours("convert", *WRONG, "--image-opts", "-O", "raw", source(driver, path), tmp_path / "o", status=1)
        assert "No secret with id 's'" in ours("convert", "--image-opts", "-O", "raw", source(driver, path), tmp_path / "o", status=1)
        assert prefix + "key-secret" in ours("convert", "-f", driver, "-O", "raw", path, tmp_path / "o", status=1)
    assert "key-secret" in ours("create", "-f", "luks", tmp_path / "b", "1M", status=1)
    assert not os.path.exists(tmp_path / "b")
    assert "twofish-192" in ours("create", *SECRET, "-f", "luks", "-o", "key-secret=s,cipher-alg=twofish-192", tmp_path / "b", "1M", status=1)


@pytest.mark.parametrize("driver,prefix", [("luks", ""), ("qcow2", "encrypt.")])
def test_keys_come_and_go(content, tmp_path, driver, prefix):
    path = tmp_path / "a.img"
    how = "encrypt.format=luks," if driver == "qcow2" else ""
    ours("convert", *SECRET, "-O", driver, "-o", f"{how}{prefix}key-secret=s,{prefix}{FAST}", content, path)

    def amend(options, status=0, key="s"):
        image = source(driver, path).replace("key-secret=s", f"key-secret={key}")
        return ours("amend", *SECRET, *OTHER, "-o", ",".join(prefix + o for o in options.split(",")), "--image-opts", image, status=status)

    def opens(key):
        image = source(driver, path).replace("key-secret=s", f"key-secret={key}")
        return subprocess.run(["qemu-img", "compare", *SECRET, *OTHER, "--image-opts", image, f"driver=raw,file.filename={content}"], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, check=False, timeout=60).returncode == 0

    amend(f"state=active,new-secret=n,{FAST}")
    assert opens("s") and opens("n")
    amend("state=inactive,old-secret=s", key="n")
    assert opens("n") and not opens("s")
    assert "last" in amend("state=inactive,old-secret=n", status=1, key="n") and opens("n")
    theirs("amend", *SECRET, *OTHER, "-o", ",".join(prefix + o for o in f"state=active,new-secret=s,{FAST}".split(",")), "--image-opts",
        source(driver, path).replace("key-secret=s", "key-secret=n"))
    ours("compare", *SECRET, "--image-opts", source(driver, path), f"driver=raw,file.driver=file,file.filename={content}")


@pytest.mark.parametrize("options", ["", "cluster_size=4096", "cluster_size=2M,extended_l2=on", "compat=0.10,encrypt.cipher-alg=serpent-128"])
def test_qcow2_both_directions(content, tmp_path, options):
    mine, other = tmp_path / "mine.qcow2", tmp_path / "theirs.qcow2"
    how = f"encrypt.format=luks,encrypt.key-secret=s,encrypt.{FAST}" + ("," + options if options else "")
    ours("convert", *SECRET, "-f", "raw", "-O", "qcow2", "-o", how, content, mine)
    run("qemu-img", "compare", *SECRET, "--image-opts", source("qcow2", mine), f"driver=raw,file.filename={content}")
    run("qemu-img", "check", *SECRET, "--image-opts", source("qcow2", mine))
    if options.startswith("cluster_size"):
        return
    theirs("convert", *SECRET, "-f", "raw", "-O", "qcow2", "-o", how, content, other)
    ours("compare", *SECRET, "--image-opts", source("qcow2", other), f"driver=raw,file.driver=file,file.filename={content}")
    assert b"end" * 100 not in open(mine, "rb").read()


def test_secret_files_and_encrypted_secrets(tmp_path):
    path, secret = tmp_path / "a.luks", tmp_path / "secret"
    secret.write_bytes(b"correct horse")
    ours("create", "--object", f"secret,id=s,file={secret}", "-f", "luks", "-o", f"key-secret=s,{FAST}", path, "1M")
    run("qemu-img", "convert", *SECRET, "--image-opts", "-O", "raw", source("luks", path), tmp_path / "o")
    key, iv = bytes(range(32)), bytes(range(16))
    packed = subprocess.run(["openssl", "enc", "-aes-256-cbc", "-a", "-A", "-K", key.hex(), "-iv", iv.hex()], input=b"correct horse", stdout=subprocess.PIPE, check=True).stdout
    key_file = tmp_path / "key"
    key_file.write_bytes(key)
    base64 = subprocess.run(["openssl", "base64", "-A"], input=iv, stdout=subprocess.PIPE, check=True).stdout.decode()
    objects = ("--object", f"secret,id=k,file={key_file}", "--object", f"secret,id=s,keyid=k,iv={base64},format=base64,data={packed.decode()}")
    ours("convert", *objects, "--image-opts", "-O", "raw", source("luks", path), tmp_path / "o")
    run("qemu-img", "convert", *objects, "--image-opts", "-O", "raw", source("luks", path), tmp_path / "o")
