/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An NVMe controller by its registers, queues and commands, as a driver makes them and as an attacker does. */
#include "fuzz.h"

extern const struct device_class nvme_class, nvme_ns_class;

enum { ASQ = 0x1000, ACQ = 0x2000, RINGS = 0x4000, DATA = 0x40000, ENTRIES = 8, QUEUES = 4, DOORBELLS = 0x1000 };

struct player {
    struct fixture f;
    unsigned tail[QUEUES], head[QUEUES];
};

static uint64_t sq(unsigned queue) { return queue ? RINGS + queue * 0x2000ull : ASQ; }

static void put(struct player *p, unsigned queue, const void *command)
{
    memcpy(p->f.ram + sq(queue) + 64 * p->tail[queue], command, 64);
    p->tail[queue] = (p->tail[queue] + 1) % ENTRIES;
    wr(&p->f, 0, DOORBELLS + 8 * queue, 4, p->tail[queue]);
}

static void admin(struct player *p, uint8_t opcode, uint64_t prp, uint32_t dw10, uint32_t dw11)
{
    uint32_t c[16] = { opcode, 0, 0, 0, 0, 0, (uint32_t)prp, (uint32_t)(prp >> 32), 0, 0, dw10, dw11 };
    put(p, 0, c);
}

static void start(struct player *p, unsigned how)
{
    memset(p->tail, 0, sizeof(p->tail));
    memset(p->head, 0, sizeof(p->head));
    wr(&p->f, 0, 0x14, 4, 0);
    wr(&p->f, 0, 0x24, 4, (ENTRIES - 1) | (ENTRIES - 1) << 16);
    wr(&p->f, 0, 0x28, 8, ASQ);
    wr(&p->f, 0, 0x30, 8, ACQ);
    wr(&p->f, 0, 0x14, 4, 1 | (how & 3) << 7 | 6 << 16 | 4 << 20);
    for (unsigned i = 1; i < QUEUES; i++) {
        admin(p, 5, sq(i) + 0x1000, i | (ENTRIES - 1) << 16, 3 | i << 16);
        admin(p, 1, sq(i), i | (ENTRIES - 1) << 16, 1 | i << 16);
        wr(&p->f, 0, DOORBELLS + 4, 4, p->head[0] = p->tail[0]);
    }
}

/* A command whose pointers mostly lead into RAM. */
static void op_command(struct player *p, struct input *in)
{
    unsigned how = take8(in), queue = how % QUEUES;
    uint32_t c[16];
    c[0] = take8(in) % 16 | (how & 0x0c) << 12 | (uint32_t)take8(in) << 16;
    c[1] = how & 0x10 ? 0xffffffff : 1 + (how >> 5 & 1);
    for (unsigned i = 2; i < 16; i++)
        c[i] = i < 6 || i > 12 ? 0 : take16(in);
    for (unsigned i = 0; i < 2 && !(how & 0x40); i++) {
        c[6 + 2 * i] = DATA + c[6 + 2 * i] % 0x8000 * (i && !(c[0] & 0xc000) ? 16 : 1);
        c[7 + 2 * i] = 0;
    }
    if (c[0] & 0xc000) { /* an SGL: length and type */
        c[8] = take16(in);
        c[9] = (uint32_t)take8(in) << 24;
    }
    if (how & 0x80)
        c[10] &= 0x3f;
    put(p, queue, c);
}

static void op_lists(struct player *p, struct input *in)
{
    unsigned at = DATA + take16(in) * 8, n = take8(in) & 15;
    for (unsigned i = 0; i < n; i++) {
        uint64_t entry = DATA + (uint64_t)take8(in) * 4096;
        memcpy(p->f.ram + at + 8 * i, &entry, 8);
    }
}

static void add(struct fixture *f, struct input *in)
{
    unsigned first = take8(in);
    const char *block = first & 1 ? "4096" : "512";
    if (first & 2) {
        fixture_add(f, &nvme_class, (const char *const[]){ "serial", "s", NULL });
        fixture_add(f, &nvme_ns_class, (const char *const[]){ "drive", "d", "nsid", "2", "logical_block_size", block, NULL });
    } else {
        fixture_add(f, &nvme_class, (const char *const[]){ "serial", "s", "drive", "d", "logical_block_size", block, "mdts", "3", NULL });
    }
}

static void begin(struct fixture *f) { start((struct player *)f, 0); }

static void play(struct fixture *f, struct input *in, unsigned op)
{
    struct player *p = (struct player *)f;
    unsigned q = op / 12 % QUEUES;
    if (op_common(f, in, op % 12))
        return;
    switch (op % 12) {
    case 4: op_lists(p, in); break;
    case 5: start(p, op / 12); break;
    case 6: wr(f, 0, DOORBELLS + 8 * q + 4 * (op >> 7), 4, take8(in)); break;
    case 7: wr(f, 0, DOORBELLS + 8 * q + 4, 4, p->head[q] = p->tail[q]); break;
    case 8: block_drain(f->disk); break;
    case 9: op_settle(f, op > 200); break;
    default: op_command(p, in);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct game game = { .disk = true, .add = add, .begin = begin, .op = play };
    struct player p = { 0 };
    return fixture_play(&p.f, &game, data, size);
}
