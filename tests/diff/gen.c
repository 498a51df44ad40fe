/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Random instruction sequences. Registers RBP, R13 (bases) and R15 (small index) keep their values, RSP stays inside the data:
 * every memory operand lands there. */
#include <stddef.h>
#include <string.h>

#include "diff.h"

struct gen {
    uint64_t s[2];
    struct diff_case *c;
};

static uint64_t next(struct gen *g) /* xorshift128+ */
{
    uint64_t a = g->s[0], b = g->s[1];
    g->s[0] = b;
    a ^= a << 23;
    g->s[1] = a ^ b ^ (a >> 17) ^ (b >> 26);
    return g->s[1] + b;
}

static unsigned below(struct gen *g, unsigned n) { return (unsigned)(next(g) >> 20) % n; }
static bool chance(struct gen *g, unsigned percent) { return below(g, 100) < percent; }
static void byte(struct gen *g, unsigned v) { g->c->code[g->c->size++] = (uint8_t)v; }
static void bytes(struct gen *g, uint64_t v, unsigned n) { while (n--) byte(g, v & 0xff), v >>= 8; }

static unsigned dest(struct gen *g) /* a register that may be written */
{
    static const uint8_t free_regs[] = { 0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 12, 14 };
    return free_regs[below(g, sizeof(free_regs))];
}

/* Values where arithmetic is interesting. */
static uint64_t value(struct gen *g)
{
    static const uint64_t edges[] = { 0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff,
                                      0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff, 0x100000000 };
    return chance(g, 30) ? edges[below(g, 16)] : chance(g, 30) ? next(g) >> below(g, 64) : next(g);
}

struct enc {
    unsigned map;      /* 0 one-byte, 1 0F, 2 0F38, 3 0F3A */
    unsigned opcode, pfx;
    bool w, opsize, byte_regs, lock;
    int reg;           /* register or opcode extension */
    int rm;            /* register, or -1: memory */
    unsigned align;    /* of a memory operand */
    unsigned imm_len; uint64_t imm;
};

static void encode(struct gen *g, const struct enc *e)
{
    unsigned form = below(g, 4), rex = e->w ? 8u : 0;
    unsigned modrm, sib = 0, disp_len = 0;
    int64_t disp = (int64_t)(below(g, 0x70) & ~(e->align ? e->align - 1 : 0));
    bool has_sib = false;
    if (e->reg >= 8)
        rex |= 4;
    modrm = ((unsigned)e->reg & 7) << 3;
    if (e->rm >= 0) {
        modrm |= 0xc0 | ((unsigned)e->rm & 7);
        if (e->rm >= 8)
            rex |= 1;
        if (e->byte_regs && ((e->rm >= 4 && e->rm < 8) || (e->reg >= 4 && e->reg < 8)))
            rex |= 0x40;
    } else {
        if (e->byte_regs && e->reg >= 4 && e->reg < 8)
            rex |= 0x40;
        if (e->align > 1 && form == 2)
            form = 0;
        switch (form) {
        case 0: /* [rbp+disp8] */
            modrm |= 0x45, disp_len = 1;
            break;
        case 1: /* [r13+disp32] */
            modrm |= 0x85, rex |= 1, disp_len = 4;
            disp += 0x100;
            break;
        case 2: /* [rbp+r15*s+disp8] */
            modrm |= 0x44, sib = below(g, 4) << 6 | 7 << 3 | 5, has_sib = true, rex |= 2, disp_len = 1;
            break;
        default: /* [rip+disp32]: fixed up below */
            modrm |= 0x05, disp_len = 4;
            break;
        }
    }
    if (rex)
        rex |= 0x40;
    if (e->lock)
        byte(g, 0xf0);
    if (e->opsize)
        byte(g, 0x66);
    if (e->pfx)
        byte(g, e->pfx);
    if (rex)
        byte(g, rex);
    if (e->map)
        byte(g, 0x0f);
    if (e->map == 2)
        byte(g, 0x38);
    if (e->map == 3)
        byte(g, 0x3a);
    byte(g, e->opcode);
    byte(g, modrm);
    if (has_sib)
        byte(g, sib);
    if (e->rm < 0 && form == 3)
        disp = (int64_t)(DIFF_DATA + 0x800 + (uint64_t)disp) - (int64_t)(DIFF_CODE + g->c->size + 4 + e->imm_len);
    bytes(g, (uint64_t)disp, disp_len);
    bytes(g, e->imm, e->imm_len);
}

/* VEX-encoded general register instruction (BMI): W, pp, map, v. */
static void encode_vex(struct gen *g, unsigned map, unsigned pp, bool w, unsigned opcode, unsigned reg, unsigned v, unsigned rm, int imm)
{
    byte(g, 0xc4);
    byte(g, (reg < 8 ? 0x80u : 0) | 0x40 | (rm < 8 ? 0x20u : 0) | map);
    byte(g, (w ? 0x80u : 0) | (~v & 15) << 3 | pp);
    byte(g, opcode);
    byte(g, 0xc0 | (reg & 7) << 3 | (rm & 7));
    if (imm >= 0)
        byte(g, (unsigned)imm);
}

static void defined_flags(struct gen *g) /* cmp r, r: all six flags defined again */
{
    encode(g, &(struct enc){ .opcode = 0x39, .w = true, .reg = (int)dest(g), .rm = (int)dest(g) });
}

/* Picks operand width: sets w/opsize/byte_regs; returns 1, 2, 4, 8. */
static unsigned width(struct gen *g, struct enc *e, bool byte_ok)
{
    switch (below(g, byte_ok ? 5 : 4)) {
    case 0: e->opsize = true; return 2;
    case 1:
    case 2: return 4;
    case 3: e->w = true; return 8;
    default: e->byte_regs = true; return 1;
    }
}

static int reg_or_mem(struct gen *g) { return chance(g, 40) ? -1 : (int)dest(g); }

static void gen_alu(struct gen *g)
{
    struct enc e = { .reg = (int)dest(g), .rm = reg_or_mem(g) };
    unsigned w = width(g, &e, true), op = below(g, 8);
    switch (below(g, 5)) {
    case 0: /* r/m, r and r, r/m */
    case 1:
        e.opcode = op << 3 | (chance(g, 50) ? 2u : 0) | (w != 1);
        e.lock = e.rm < 0 && !(e.opcode & 2) && op != 7 && chance(g, 20);
        break;
    case 2: /* immediate */
        e.reg = (int)op;
        e.opcode = w == 1 ? 0x80 : chance(g, 50) ? 0x83 : 0x81;
        e.imm = value(g);
        e.imm_len = e.opcode == 0x81 ? (w == 2 ? 2 : 4) : 1;
        break;
    case 3: /* inc dec not neg */
        e.opcode = (chance(g, 50) ? 0xfeu : 0xf6u) | (w != 1);
        e.reg = (e.opcode & 0xfe) == 0xfe ? (int)below(g, 2) : 2 + (int)below(g, 2);
        e.lock = e.rm < 0 && chance(g, 20);
        break;
    default: /* test */
        e.opcode = 0x84 | (w != 1);
    }
    encode(g, &e);
}

static void gen_move(struct gen *g)
{
    struct enc e = { .reg = (int)dest(g), .rm = reg_or_mem(g) };
    unsigned w;
    switch (below(g, 9)) {
    case 0:
        w = width(g, &e, true);
        e.opcode = (chance(g, 50) ? 0x88u : 0x8au) | (w != 1);
        break;
    case 1: /* movzx movsx */
        width(g, &e, false);
        e.map = 1;
        e.opcode = (chance(g, 50) ? 0xb6u : 0xbeu) | below(g, 2);
        e.byte_regs = !(e.opcode & 1);
        break;
    case 2: /* movsxd */
        e.w = true;
        e.opcode = 0x63;
        break;
    case 3: /* lea */
        e.rm = -1;
        width(g, &e, false);
        e.opcode = 0x8d;
        break;
    case 4: /* mov imm */
        w = width(g, &e, true);
        e.reg = 0;
        e.opcode = 0xc6 | (w != 1);
        e.imm = value(g);
        e.imm_len = w == 8 ? 4 : w;
        break;
    case 5: /* cmovcc, setcc */
        e.map = 1;
        if (chance(g, 50)) {
            width(g, &e, false);
            e.opcode = 0x40 | below(g, 16);
        } else {
            e.opcode = 0x90 | below(g, 16);
            e.reg = 0;
            e.byte_regs = true;
        }
        break;
    case 6: /* AH..BH as operands, no REX */
        e.reg = 4 + (int)below(g, 4);
        e.rm = (int)below(g, 4) + (chance(g, 50) ? 4 : 0);
        e.opcode = (uint8_t[]){ 0x88, 0x8a, 0x00, 0x30, 0x38, 0x84 }[below(g, 6)];
        break;
    case 7: /* bswap; cbw family; xlat-free */
        if (chance(g, 50)) {
            bool wide = chance(g, 50);
            unsigned r = dest(g);
            byte(g, 0x40 | (wide ? 8u : 0) | (r >= 8));
            byte(g, 0x0f);
            byte(g, 0xc8 | (r & 7));
        } else {
            unsigned p = below(g, 3);
            if (p)
                byte(g, p == 1 ? 0x66 : 0x48);
            byte(g, 0x98 + below(g, 2));
        }
        return;
    default: /* flags and accumulator odds and ends: lahf sahf cmc clc stc cld */
        byte(g, (uint8_t[]){ 0x9f, 0x9e, 0xf5, 0xf8, 0xf9, 0xfc }[below(g, 6)]);
        return;
    }
    encode(g, &e);
}

static void gen_shift(struct gen *g)
{
    struct enc e = { .reg = (int)below(g, 8), .rm = reg_or_mem(g) };
    if (chance(g, 25)) { /* shld shrd */
        e.map = 1;
        e.reg = (int)dest(g);
        unsigned w = width(g, &e, false);
        e.opcode = (chance(g, 50) ? 0xa4u : 0xacu);
        e.imm = below(g, w == 2 ? 16 : 64);
        e.imm_len = 1;
    } else {
        if (e.reg == 6)
            e.reg = 4;
        unsigned w = width(g, &e, true), form = below(g, 3);
        e.opcode = (form == 0 ? 0xd0u : form == 1 ? 0xd2u : 0xc0u) | (w != 1);
        e.imm_len = form == 2;
        e.imm = below(g, 70);
    }
    encode(g, &e);
    defined_flags(g);
}

static void gen_muldiv(struct gen *g)
{
    struct enc e = { .reg = (int)dest(g), .rm = reg_or_mem(g) };
    switch (below(g, 4)) {
    case 0:
        e.map = 1, e.opcode = 0xaf;
        width(g, &e, false);
        break;
    case 1:
        e.opcode = 0x69;
        e.imm_len = width(g, &e, false) == 2 ? 2 : 4;
        e.imm = value(g);
        break;
    case 2:
        e.opcode = 0x6b, e.imm_len = 1, e.imm = value(g);
        width(g, &e, false);
        break;
    default: /* mul imul; div idiv with a small dividend half the time */
        e.opcode = 0xf6;
        e.reg = 4 + (int)below(g, 4);
        if (e.reg >= 6 && chance(g, 80)) {
            encode(g, &(struct enc){ .opcode = 0x31, .reg = 2, .rm = 2 });
            encode(g, &(struct enc){ .opcode = 0x83, .reg = 1, .rm = e.rm, .w = true, .imm = 1 + below(g, 100), .imm_len = 1 });
        }
        e.opcode |= width(g, &e, true) != 1;
    }
    encode(g, &e);
    defined_flags(g);
}

static void gen_bits(struct gen *g)
{
    struct enc e = { .map = 1, .reg = (int)dest(g), .rm = reg_or_mem(g) };
    switch (below(g, 5)) {
    case 0: /* bt family, register bit number, register operand */
        width(g, &e, false);
        e.rm = (int)dest(g);
        e.opcode = (uint8_t[]){ 0xa3, 0xab, 0xb3, 0xbb }[below(g, 4)];
        break;
    case 1:
        e.opcode = 0xba;
        e.reg = 4 + (int)below(g, 4);
        width(g, &e, false);
        e.imm = below(g, 256), e.imm_len = 1;
        e.lock = e.rm < 0 && e.reg > 4 && chance(g, 30);
        break;
    case 2: /* bsf bsr with a source that is not zero */
        e.rm = (int)dest(g);
        encode(g, &(struct enc){ .opcode = 0x83, .reg = 1, .rm = e.rm, .w = true, .imm = 0x40, .imm_len = 1 });
        width(g, &e, false);
        e.opcode = 0xbc | below(g, 2);
        break;
    case 3: /* tzcnt lzcnt popcnt */
        width(g, &e, false);
        e.pfx = 0xf3;
        e.opcode = (uint8_t[]){ 0xbc, 0xbd, 0xb8 }[below(g, 3)];
        break;
    default: /* bt with a memory bit string: index from a register kept small */
        e.rm = -1;
        encode(g, &(struct enc){ .opcode = 0xc7, .rm = 8, .w = true, .imm = (uint64_t)(int64_t)((int)below(g, 0x1000) - 0x400), .imm_len = 4 });
        e.reg = 8;
        width(g, &e, false);
        e.opcode = (uint8_t[]){ 0xa3, 0xab, 0xb3, 0xbb }[below(g, 4)];
        e.lock = e.opcode != 0xa3 && chance(g, 30);
    }
    encode(g, &e);
    defined_flags(g);
}

static void gen_stack(struct gen *g)
{
    unsigned r = dest(g);
    switch (below(g, 6)) {
    case 0:
    case 1: /* push r; pop r2 */
        if (r >= 8)
            byte(g, 0x41);
        byte(g, 0x50 | (r & 7));
        r = dest(g);
        if (r >= 8)
            byte(g, 0x41);
        byte(g, 0x58 | (r & 7));
        break;
    case 2: /* pushfq; pop r */
        byte(g, 0x9c);
        byte(g, 0x59);
        break;
    case 3: /* push imm; pop m */
        byte(g, 0x68);
        bytes(g, value(g), 4);
        encode(g, &(struct enc){ .opcode = 0x8f, .reg = 0, .rm = -1 });
        break;
    case 4: /* 16-bit push and pop; push m */
        byte(g, 0x66), byte(g, 0x50);
        byte(g, 0x66), byte(g, 0x5a);
        encode(g, &(struct enc){ .opcode = 0xff, .reg = 6, .rm = -1 });
        byte(g, 0x5b);
        break;
    default: /* push rsp; pop rax... its value is the same everywhere; popfq of harmless flags */
        byte(g, 0x54);
        byte(g, 0x58);
        byte(g, 0x68), bytes(g, 0x202 | (value(g) & 0x8d5 & ~0x400ull), 4);
        byte(g, 0x9d);
    }
}

static void gen_string(struct gen *g)
{
    /* lea rsi,[rbp+x]; lea rdi,[r13+y]; mov ecx,n; (rep) op; cld at the end */
    encode(g, &(struct enc){ .opcode = 0x8d, .reg = 6, .rm = -1, .w = true });
    encode(g, &(struct enc){ .opcode = 0x8d, .reg = 7, .rm = -1, .w = true });
    byte(g, 0xb9);
    bytes(g, below(g, 24), 4);
    bool back = chance(g, 25);
    if (back)
        byte(g, 0xfd);
    if (chance(g, 70))
        byte(g, chance(g, 50) ? 0xf3 : 0xf2);
    unsigned p = below(g, 3);
    if (p)
        byte(g, p == 1 ? 0x66 : 0x48);
    byte(g, (uint8_t[]){ 0xa4, 0xa6, 0xaa, 0xac, 0xae }[below(g, 5)] | below(g, 2));
    if (back)
        byte(g, 0xfc);
}

static void gen_atomic(struct gen *g)
{
    struct enc e = { .reg = (int)dest(g), .rm = chance(g, 70) ? -1 : (int)dest(g) };
    unsigned w = width(g, &e, true);
    switch (below(g, 4)) {
    case 0: e.opcode = 0x86 | (w != 1); break; /* xchg */
    case 1: e.map = 1, e.opcode = 0xc0 | (w != 1); break; /* xadd */
    case 2: e.map = 1, e.opcode = 0xb0 | (w != 1); break; /* cmpxchg */
    default: e.map = 1, e.opcode = 0xc7, e.reg = 1, e.rm = -1, e.opsize = e.byte_regs = false; e.align = 16; /* cmpxchg8b/16b */
    }
    e.lock = e.rm < 0 && e.opcode != 0x86 && e.opcode != 0x87 && chance(g, 60);
    encode(g, &e);
}

static void gen_flow(struct gen *g)
{
    static void (*const body[])(struct gen *) = { gen_alu, gen_move, gen_alu, gen_bits };
    unsigned at;
    switch (below(g, 5)) {
    case 4: /* the same by an indirect call: lea rax,[rip+4]; call rax; jmp +1; ret */
        bytes(g, 0x00000004058d48, 7);
        bytes(g, 0xc301ebd0ff, 5);
        break;
    case 0: /* jcc over something */
        byte(g, 0x70 | below(g, 16));
        byte(g, 0);
        at = g->c->size;
        body[below(g, 4)](g);
        g->c->code[at - 1] = (uint8_t)(g->c->size - at);
        break;
    case 1: /* a loop counted in memory that no other operand reaches: mov dword [rbp-0x300], n; L: body; dec; jnz L */
        byte(g, 0xc7), byte(g, 0x85), bytes(g, (uint64_t)-0x300, 4), bytes(g, 1 + below(g, 20), 4);
        at = g->c->size;
        body[below(g, 4)](g);
        byte(g, 0xff), byte(g, 0x8d), bytes(g, (uint64_t)-0x300, 4);
        byte(g, 0x75), byte(g, (unsigned)(at - (g->c->size + 1)) & 0xff);
        break;
    case 2: /* call a stub and return: call +2; jmp +1; ret */
        byte(g, 0xe8), bytes(g, 2, 4);
        byte(g, 0xeb), byte(g, 1);
        byte(g, 0xc3);
        break;
    default: /* indirect jump over an instruction: lea rax,[rip+n]; jmp rax */
        byte(g, 0x48), byte(g, 0x8d), byte(g, 0x05);
        at = g->c->size;
        bytes(g, 0, 4);
        byte(g, 0xff), byte(g, 0xe0);
        body[below(g, 4)](g);
        g->c->code[at] = (uint8_t)(g->c->size - at - 4);
    }
}

/* One row per group of vector opcodes: map, prefix (0, 0x66, 0xf2, 0xf3), opcode, immediate, memory alignment, memory size class. */
struct vec_row { uint8_t map, pfx, opcode, imm; uint8_t flags; };
enum { V_REGONLY = 1, V_MEMOK = 2, V_GPR_RM = 4, V_GPR_REG = 8, V_UNALIGNED = 16, V_FLAGS = 32, V_STORE = 64 };
static const struct vec_row vec_rows[] = {
#define A16(op) { 1, 0, op, 0, V_MEMOK }, { 1, 0x66, op, 0, V_MEMOK }, { 1, 0xf3, op, 0, V_MEMOK }, { 1, 0xf2, op, 0, V_MEMOK }
    A16(0x58), A16(0x59), A16(0x5c), A16(0x5d), A16(0x5e), A16(0x5f), A16(0x51),
    { 1, 0, 0x54, 0, V_MEMOK }, { 1, 0x66, 0x55, 0, V_MEMOK }, { 1, 0, 0x56, 0, V_MEMOK }, { 1, 0x66, 0x57, 0, V_MEMOK },
    { 1, 0, 0x14, 0, V_MEMOK }, { 1, 0x66, 0x15, 0, V_MEMOK }, { 1, 0, 0xc6, 1, V_MEMOK }, { 1, 0x66, 0xc6, 1, V_MEMOK },
    { 1, 0, 0xc2, 1, V_MEMOK }, { 1, 0xf2, 0xc2, 1, V_MEMOK }, { 1, 0, 0x5a, 0, V_MEMOK }, { 1, 0xf2, 0x5a, 0, V_MEMOK },
    { 1, 0xf3, 0x5a, 0, V_MEMOK }, { 1, 0x66, 0x5a, 0, V_MEMOK }, { 1, 0, 0x5b, 0, V_MEMOK }, { 1, 0x66, 0x5b, 0, V_MEMOK },
    { 1, 0xf3, 0x5b, 0, V_MEMOK }, { 1, 0xf3, 0xe6, 0, V_MEMOK }, { 1, 0x66, 0xe6, 0, V_MEMOK }, { 1, 0xf2, 0xe6, 0, V_MEMOK },
    { 1, 0, 0x2e, 0, V_MEMOK | V_FLAGS }, { 1, 0x66, 0x2f, 0, V_MEMOK | V_FLAGS },
    { 1, 0xf2, 0x2a, 0, V_MEMOK | V_GPR_RM }, { 1, 0xf3, 0x2a, 0, V_MEMOK | V_GPR_RM },
    { 1, 0xf2, 0x2d, 0, V_MEMOK | V_GPR_REG }, { 1, 0xf3, 0x2c, 0, V_MEMOK | V_GPR_REG },
    { 1, 0x66, 0x6e, 0, V_MEMOK | V_GPR_RM }, { 1, 0x66, 0x7e, 0, V_MEMOK | V_GPR_RM | V_STORE },
    { 1, 0xf3, 0x7e, 0, V_MEMOK }, { 1, 0x66, 0xd6, 0, V_MEMOK | V_STORE },
    { 1, 0, 0x10, 0, V_MEMOK | V_UNALIGNED }, { 1, 0, 0x11, 0, V_MEMOK | V_UNALIGNED | V_STORE }, { 1, 0xf3, 0x10, 0, V_MEMOK },
    { 1, 0xf2, 0x11, 0, V_MEMOK | V_STORE }, { 1, 0, 0x28, 0, V_MEMOK }, { 1, 0x66, 0x29, 0, V_MEMOK | V_STORE },
    { 1, 0x66, 0x6f, 0, V_MEMOK }, { 1, 0xf3, 0x6f, 0, V_MEMOK | V_UNALIGNED }, { 1, 0xf3, 0x7f, 0, V_MEMOK | V_UNALIGNED | V_STORE },
    { 1, 0x66, 0xd7, 0, V_REGONLY | V_GPR_REG }, { 1, 0, 0x50, 0, V_REGONLY | V_GPR_REG }, { 1, 0x66, 0x50, 0, V_REGONLY | V_GPR_REG },
    { 1, 0x66, 0xc4, 1, V_MEMOK | V_GPR_RM }, { 1, 0x66, 0xc5, 1, V_REGONLY | V_GPR_REG },
    { 1, 0x66, 0x70, 1, V_MEMOK }, { 1, 0xf2, 0x70, 1, V_MEMOK }, { 1, 0xf3, 0x70, 1, V_MEMOK },
#define I(op) { 1, 0x66, op, 0, V_MEMOK }
    I(0x60), I(0x61), I(0x62), I(0x63), I(0x64), I(0x65), I(0x66), I(0x67), I(0x68), I(0x69), I(0x6a), I(0x6b), I(0x6c), I(0x6d),
    I(0x74), I(0x75), I(0x76), I(0xd1), I(0xd2), I(0xd3), I(0xd4), I(0xd5), I(0xd8), I(0xd9), I(0xda), I(0xdb), I(0xdc), I(0xdd), I(0xde),
    I(0xdf), I(0xe0), I(0xe1), I(0xe2), I(0xe3), I(0xe4), I(0xe5), I(0xe8), I(0xe9), I(0xea), I(0xeb), I(0xec), I(0xed), I(0xee), I(0xef),
    I(0xf1), I(0xf2), I(0xf3), I(0xf4), I(0xf5), I(0xf6), I(0xf8), I(0xf9), I(0xfa), I(0xfb), I(0xfc), I(0xfd), I(0xfe),
    I(0x7c), I(0x7d), I(0xd0), { 1, 0xf2, 0x7c, 0, V_MEMOK }, { 1, 0xf2, 0xd0, 0, V_MEMOK }, { 1, 0xf3, 0x12, 0, V_MEMOK }, { 1, 0xf2, 0x12, 0, V_MEMOK },
#define S(op) { 2, 0x66, op, 0, V_MEMOK }
    S(0x00), S(0x01), S(0x02), S(0x03), S(0x04), S(0x05), S(0x06), S(0x07), S(0x08), S(0x09), S(0x0a), S(0x0b), S(0x1c), S(0x1d), S(0x1e),
    S(0x10), S(0x14), S(0x15), S(0x20), S(0x21), S(0x22), S(0x23), S(0x24), S(0x25), S(0x28), S(0x29), S(0x2b), S(0x30), S(0x31), S(0x32),
    S(0x33), S(0x34), S(0x35), S(0x37), S(0x38), S(0x39), S(0x3a), S(0x3b), S(0x3c), S(0x3d), S(0x3e), S(0x3f), S(0x40), S(0x41),
    { 2, 0x66, 0x17, 0, V_MEMOK | V_FLAGS }, S(0xdb), S(0xdc), S(0xdd), S(0xde), S(0xdf),
#define T(op) { 3, 0x66, op, 1, V_MEMOK }
    T(0x08), T(0x09), T(0x0a), T(0x0b), T(0x0c), T(0x0d), T(0x0e), T(0x0f), T(0x40), T(0x41), T(0x42), T(0x44), T(0xdf), T(0x21),
    { 3, 0x66, 0x60, 1, V_MEMOK | V_FLAGS | V_UNALIGNED }, { 3, 0x66, 0x61, 1, V_MEMOK | V_FLAGS | V_UNALIGNED },
    { 3, 0x66, 0x62, 1, V_MEMOK | V_FLAGS | V_UNALIGNED }, { 3, 0x66, 0x63, 1, V_MEMOK | V_FLAGS | V_UNALIGNED },
    { 3, 0x66, 0x14, 1, V_MEMOK | V_GPR_RM | V_STORE }, { 3, 0x66, 0x16, 1, V_MEMOK | V_GPR_RM | V_STORE },
    { 3, 0x66, 0x20, 1, V_MEMOK | V_GPR_RM }, { 3, 0x66, 0x22, 1, V_MEMOK | V_GPR_RM },
};

static void gen_sse(struct gen *g)
{
    const struct vec_row *r = &vec_rows[below(g, sizeof(vec_rows) / sizeof(vec_rows[0]))];
    struct enc e = { .map = r->map, .pfx = r->pfx, .opcode = r->opcode, .imm_len = r->imm, .imm = next(g) & 0xff };
    bool mem = !(r->flags & V_REGONLY) && chance(g, 35);
    e.reg = r->flags & V_GPR_REG ? (int)dest(g) : (int)below(g, 16);
    e.rm = mem ? -1 : r->flags & V_GPR_RM ? (int)dest(g) : (int)below(g, 16);
    e.align = mem && !(r->flags & V_UNALIGNED && chance(g, 80)) ? 16 : 0;
    if (chance(g, 3))
        e.align = 0; /* may fault, and then both must */
    e.w = r->flags & (V_GPR_RM | V_GPR_REG) && chance(g, 50);
    encode(g, &e);
}

static void gen_mmx(struct gen *g)
{
    static const uint8_t ops[] = { 0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x74, 0x75, 0x76, 0xd1, 0xd2,
                                   0xd3, 0xd4, 0xd5, 0xd8, 0xd9, 0xdb, 0xdc, 0xdd, 0xdf, 0xe0, 0xe3, 0xe4, 0xe5, 0xeb, 0xef, 0xf4, 0xf5, 0xf6, 0xfb, 0xfe, 0x6f, 0x7f };
    struct enc e = { .map = 1, .opcode = ops[below(g, sizeof(ops))], .reg = (int)below(g, 8), .rm = chance(g, 30) ? -1 : (int)below(g, 8) };
    encode(g, &e);
    if (chance(g, 30))
        encode(g, &(struct enc){ .map = 1, .opcode = chance(g, 50) ? 0x6e : 0x7e, .reg = (int)below(g, 8), .rm = (int)dest(g), .w = chance(g, 50) });
}

static void gen_x87(struct gen *g)
{
    if (chance(g, 45)) { /* memory: all of D8-DF but environment and state */
        unsigned op = below(g, 8), reg = below(g, 8);
        if (op == 1 && (reg == 4 || reg == 6))
            reg = 0;
        if (op == 5 && (reg == 4 || reg == 6))
            reg = 0;
        if ((op == 1 && reg == 1) || (op == 3 && (reg == 4 || reg == 6)))
            reg = 0;
        encode(g, &(struct enc){ .opcode = 0xd8 | op, .reg = (int)reg, .rm = -1 });
        return;
    }
    static const uint8_t regs[][2] = { { 0xd8, 0xc0 }, { 0xd8, 0xc8 }, { 0xd8, 0xe0 }, { 0xd8, 0xf0 }, { 0xd9, 0xc0 }, { 0xd9, 0xc8 }, { 0xdc, 0xc0 },
                                       { 0xdc, 0xe8 }, { 0xdd, 0xd0 }, { 0xdd, 0xd8 }, { 0xde, 0xc0 }, { 0xde, 0xc8 }, { 0xde, 0xf0 }, { 0xda, 0xc0 },
                                       { 0xdb, 0xc8 }, { 0xdb, 0xf0 }, { 0xdf, 0xe8 }, { 0xdd, 0xe0 }, { 0xdd, 0xc0 } };
    static const uint8_t d9[] = { 0xe0, 0xe1, 0xe4, 0xe5, 0xe8, 0xe9, 0xea, 0xeb, 0xec, 0xed, 0xee, 0xfa, 0xfc, 0xfd, 0xf4, 0xf6, 0xf7, 0xf8, 0xf5, 0xd0, 0xf1, 0xf2 };
    if (chance(g, 50)) {
        const uint8_t *r = regs[below(g, sizeof(regs) / 2)];
        byte(g, r[0]);
        byte(g, r[1] | below(g, 8));
    } else {
        byte(g, 0xd9);
        byte(g, d9[below(g, sizeof(d9))]);
    }
    if (chance(g, 15))
        byte(g, 0xdf), byte(g, 0xe0); /* fnstsw ax */
}

static void gen_bmi(struct gen *g)
{
    bool w = chance(g, 50);
    unsigned a = dest(g), b = dest(g), c = dest(g);
    switch (below(g, 11)) {
    case 0: encode_vex(g, 2, 0, w, 0xf2, a, b, c, -1); defined_flags(g); break;           /* andn */
    case 1: encode_vex(g, 2, 0, w, 0xf7, a, b, c, -1); defined_flags(g); break;           /* bextr */
    case 2: encode_vex(g, 2, 0, w, 0xf3, 1 + below(g, 3), b, c, -1); defined_flags(g); break; /* blsr blsmsk blsi */
    case 3: encode_vex(g, 2, 0, w, 0xf5, a, b, c, -1); defined_flags(g); break;           /* bzhi */
    case 4: encode_vex(g, 2, 2 + below(g, 2), w, 0xf5, a, b, c, -1); break;               /* pext pdep */
    case 5: encode_vex(g, 3, 3, w, 0xf0, a, 0, c, (int)below(g, 64)); break;              /* rorx */
    case 6: encode_vex(g, 2, 1 + below(g, 3), w, 0xf7, a, b, c, -1); break;               /* shlx sarx shrx */
    case 7: encode_vex(g, 2, 3, w, 0xf6, a, b, c, -1); break;                             /* mulx */
    case 8: encode(g, &(struct enc){ .map = 2, .pfx = chance(g, 50) ? 0x66u : 0xf3u, .opcode = 0xf6, .reg = (int)a, .rm = reg_or_mem(g), .w = w }); break;
    case 9: encode(g, &(struct enc){ .map = 2, .opcode = 0xf0 | below(g, 2), .reg = (int)a, .rm = -1, .w = w, .opsize = !w && chance(g, 30) }); break; /* movbe */
    default: encode(g, &(struct enc){ .map = 2, .pfx = 0xf2, .opcode = 0xf0 | below(g, 2), .reg = (int)a, .rm = reg_or_mem(g), .w = w, .byte_regs = true }); /* crc32 */
    }
}

static void (*const generators[])(struct gen *) = { gen_alu, gen_move, gen_shift, gen_muldiv, gen_bits, gen_stack, gen_string,
                                                    gen_atomic, gen_flow, gen_sse, gen_mmx, gen_x87, gen_bmi, NULL };
const char *const diff_kinds[] = { "alu", "move", "shift", "muldiv", "bits", "stack", "string", "atomic", "flow", "sse", "mmx", "x87",
                                   "bmi", "mixed", NULL };

static void random_xmm(struct gen *g, uint8_t *at)
{
    for (unsigned i = 0; i < 4; i++) {
        uint32_t v = (uint32_t)value(g);
        if (chance(g, 40)) { /* a float of moderate size */
            float f = (float)(int32_t)next(g) / (float)(1 + below(g, 100000));
            memcpy(&v, &f, 4);
        }
        memcpy(at + i * 4, &v, 4);
    }
    if (chance(g, 30)) {
        double d = (double)(int64_t)next(g) / (double)(1 + below(g, 1000000));
        memcpy(at + (chance(g, 50) ? 8 : 0), &d, 8);
    }
}

void diff_generate(uint64_t seed, unsigned kind, struct diff_case *c, struct diff_state *init)
{
    struct gen g = { { seed * 0x9e3779b97f4a7c15ull + 1, ~seed * 0xbf58476d1ce4e5b9ull + kind }, c };
    for (unsigned i = 0; i < 8; i++)
        next(&g);
    memset(c->code, 0xcc, sizeof(c->code));
    c->size = c->ninsns = 0;
    c->shift = 0;
    c->in_place = false;
    if (chance(&g, 30)) /* over the end of the page */
        c->size = 0x1000 - 1 - below(&g, chance(&g, 50) ? 40 : 300);
    unsigned first = c->size;
    memset(init, 0, sizeof(*init));
    for (unsigned i = 0; i < 16; i++)
        init->gpr[i] = value(&g);
    init->gpr[4] = DIFF_DATA + 0x3000;
    init->gpr[5] = DIFF_DATA + 0x400;
    init->gpr[13] = DIFF_DATA + 0xf80 - 0x100 + (chance(&g, 20) ? below(&g, 0x80) & ~15u : 0); /* its operands reach over a page end */
    init->gpr[15] = below(&g, 16);
    init->rip = DIFF_CODE + first;
    init->rflags = 0x202 | (next(&g) & 0x8d5);
    for (unsigned i = 0; i < DIFF_DATA_SIZE; i += 16)
        random_xmm(&g, init->data + i);
    init->fxsave[0] = 0x7f, init->fxsave[1] = 3;             /* FCW: all masked, extended precision */
    init->fxsave[24] = 0x80, init->fxsave[25] = 0x1f;        /* MXCSR: all masked */
    if (chance(&g, 20))
        init->fxsave[25] |= (uint8_t)(below(&g, 4) << 5);    /* rounding mode */
    for (unsigned i = 0; i < 16; i++)
        random_xmm(&g, init->fxsave + 160 + i * 16);
    unsigned n = 1 + below(&g, 14);
    for (unsigned i = 0; i < n && c->size - first < 1500; i++) {
        c->starts[c->ninsns++] = c->size;
        unsigned k = generators[kind] ? kind : below(&g, sizeof(generators) / sizeof(generators[0]) - 1);
        generators[k](&g);
    }
    c->starts[c->ninsns] = c->size;
    c->code[c->size] = 0x0f;
    c->code[c->size + 1] = 0x0b;
}
