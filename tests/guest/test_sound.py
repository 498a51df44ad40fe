# SPDX-License-Identifier: GPL-2.0-or-later
"""Sound with Debian's snd_hda_intel: what the guest plays arrives in the file byte for byte, at the right pace of the virtual clock."""
import os
import struct
import subprocess

import pytest

BOOT = 120
MODULES = ("snd-hda-codec-generic", "snd-hda-intel")
WAIT = "for i in $(seq 200); do [ -e /dev/snd/pcmC0D0p ] && break; sleep 0.1; done\n"


@pytest.fixture(scope="module")
def soundtool(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("soundtool") / "soundtool")
    subprocess.run(["cc", "-O2", "-static", "-o", path, os.path.join(os.path.dirname(__file__), "soundtool.c")], check=True)
    with open(path, "rb") as f:
        return {"bin/soundtool": (0o100755, f.read())}


def samples(frames):
    """What soundtool plays."""
    seed, out = 1, bytearray()
    for _ in range(frames * 4):
        seed = (seed * 6364136223846793005 + 1442695040888963407) & (1 << 64) - 1
        out.append(seed >> 56)
    return bytes(out)


def wav(path):
    with open(path, "rb") as f:
        data = f.read()
    riff, size, wave, fmt, _, kind, channels, rate, _, _, bits, tag, length = struct.unpack("<4sI4s4sIHHIIHH4sI", data[:44])
    assert (riff, wave, fmt, kind, tag) == (b"RIFF", b"WAVE", b"fmt ", 1, b"data")
    assert size == len(data) - 8 and length == len(data) - 44, "the header's sizes are not the file's"
    return (channels, rate, bits), data[44:]


@pytest.mark.parametrize("card,codec,rate", [("ich9-intel-hda", "hda-duplex", 44100), ("intel-hda,msi=off", "hda-output", 48000), ("ich9-intel-hda", "hda-micro", 22050)])
def test_what_is_played_arrives(linux, work, soundtool, card, codec, rate):
    path, frames = os.path.join(work, "out.wav"), rate
    m = linux("-audiodev", f"wav,id=a,path={path}", "-device", f"{card},id=sound0", "-device", f"{codec},bus=sound0.0,cad=0,audiodev=a", kernel="generic",
              modules=MODULES, extra=soundtool, script=WAIT + f"""
cat /proc/asound/cards | sed 's/^/VT card /'
echo "VT codec $(cat /sys/class/sound/hwC0D0/vendor_id)"
soundtool play /dev/snd/pcmC0D0p {rate} {frames}
[ -e /dev/snd/pcmC0D0c ] && soundtool record /dev/snd/pcmC0D0c {rate} 4096
""")
    m.wait_text("VT played", BOOT, "the guest could not play")
    if codec != "hda-output":
        m.wait_text("VT recorded silence", 60)
    m.wait(30)
    form, data = wav(path)
    assert form == (2, rate, 16)
    assert samples(frames) in data, f"what the guest played ({frames * 4} bytes) is not in the file ({len(data)} bytes)" + m.tail()


def test_nowhere_and_libvirts_words(linux, soundtool):
    m = linux("-audiodev", '{"id":"audio1","driver":"none"}', "-device", '{"driver":"ich9-intel-hda","id":"sound0","bus":"pcie.0","addr":"0x1b"}', "-device",
              '{"driver":"hda-duplex","id":"sound0-codec0","bus":"sound0.0","cad":0,"audiodev":"audio1"}', kernel="generic", modules=MODULES, extra=soundtool,
              script=WAIT + "soundtool play /dev/snd/pcmC0D0p 48000 24000; grep . /sys/bus/pci/drivers/snd_hda_intel/*/device | sed 's/^/VT pci /'")
    m.wait_text("VT played", BOOT)
    m.wait_text("VT pci 0x293e", 30)
    m.wait(30)


def test_what_is_refused(machine):
    for words, message in (("-audiodev pa,id=a", "the audio driver 'pa' is not there; there are: none, wav"),
                           ("-device hda-duplex", "there is no HDA controller; put -device ich9-intel-hda before it"),
                           ("-device intel-hda -device hda-duplex,audiodev=x", "audiodev 'x' not found"),
                           ("-device intel-hda -device hda-duplex,cad=1 -device hda-micro,cad=1", "cad=1 is already taken")):
        m = machine("-nodefaults", "-display", "none", "-accel", "jit", *words.split())
        m.wait(20, status=1)
        assert message in m.stderr(), m.stderr()
