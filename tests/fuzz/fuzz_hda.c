/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An HD Audio controller with a codec: registers, command ring, immediate verbs, streams with their lists. */
#include "fuzz.h"

extern const struct device_class ich9_intel_hda_class, hda_duplex_class;

enum { CORB = 0x1000, RIRB = 0x2000, POSITIONS = 0x3000, LISTS = 0x4000, DATA = 0x40000, STREAMS = 8 };

static void start(struct fixture *f)
{
    wr(f, 0, 0x08, 4, 0);
    wr(f, 0, 0x08, 4, 1);
    wr(f, 0, 0x40, 4, CORB);
    wr(f, 0, 0x50, 4, RIRB);
    wr(f, 0, 0x70, 4, POSITIONS | 1);
    wr(f, 0, 0x4c, 1, 2);
    wr(f, 0, 0x5c, 1, 3);
    wr(f, 0, 0x20, 4, 0xc00000ff);
}

static void op_verbs(struct fixture *f, struct input *in)
{
    unsigned how = take8(in), at = (unsigned)rd(f, 0, 0x48, 2) & 0xff;
    for (unsigned i = 0; i <= (how & 3); i++) {
        uint32_t verb = (uint32_t)take8(in) % 7 << 20 | (take32(in) & 0xfffff) | (how & 0x80 ? (uint32_t)take8(in) << 24 : 0);
        at = (at + 1) & 0xff;
        memcpy(f->ram + CORB + 4 * at, &verb, 4);
        if (how & 0x40) {
            wr(f, 0, 0x60, 4, verb);
            wr(f, 0, 0x68, 2, 1);
        }
    }
    wr(f, 0, 0x48, 2, at);
}

static void op_stream(struct fixture *f, struct input *in)
{
    unsigned how = take8(in), i = how % STREAMS, reg = 0x80 + 0x20 * i, entries = how >> 3 & 7;
    uint32_t total = 0;
    for (unsigned e = 0; e <= entries; e++) {
        uint32_t entry[4] = { DATA + take16(in) * 4u, 0, take16(in), take8(in) & 1 };
        memcpy(f->ram + LISTS + i * 4096 + e * 16, entry, 16);
        total += entry[2];
    }
    wr(f, 0, reg, 1, 1);
    wr(f, 0, reg, 1, 0);
    wr(f, 0, reg + 8, 4, how & 0x40 ? take32(in) : total);
    wr(f, 0, reg + 12, 2, how & 0x80 ? take8(in) : entries);
    wr(f, 0, reg + 18, 2, take16(in));
    wr(f, 0, reg + 24, 4, LISTS + i * 4096);
    wr(f, 0, reg, 4, 0x1e | (uint32_t)take8(in) % 3 << 20);
}

static void add(struct fixture *f, struct input *in)
{
    fixture_add(f, &ich9_intel_hda_class, (const char *const[]){ "msi", take8(in) & 1 ? "on" : "off", NULL });
    fixture_add(f, &hda_duplex_class, NULL);
}

static void play(struct fixture *f, struct input *in, unsigned op)
{
    if (op_common(f, in, op % 9))
        return;
    switch (op % 9) {
    case 4: start(f); break;
    case 5: (void)rd(f, 0, 0x84 + 0x20 * (op / 9 % STREAMS), 4); break; /* what is due is moved */
    case 6: op_settle(f, op > 200); break;
    case 7: op_verbs(f, in); break;
    default: op_stream(f, in);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct game game = { .add = add, .begin = start, .op = play };
    struct fixture f = { 0 };
    return fixture_play(&f, &game, data, size);
}
