/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The decoder: prefixes, opcode maps and operand forms (SDM vol. 2, chapter 2 and appendix A). It knows where an
 * instruction ends and how its operands are encoded; whether the instruction exists is the translator's question.
 */
#include <stddef.h>

#include "accel/jit/guest-x86/x86_insn.h"

enum form {
    NO = 0x00,    /* nothing follows the opcode */
    M = 0x40,     /* ModRM, ORed with one of these: */
    IB = 1,       /* imm8, sign-extended */
    IZ,           /* imm16 or imm32 by operand size, sign-extended */
    IV,           /* imm16, imm32 or imm64 */
    IW,           /* imm16, zero-extended */
    JB,           /* rel8 */
    JZ,           /* rel16 or rel32; in 64-bit code always rel32 */
    AP,           /* far pointer: offset in imm, selector in imm2 */
    MO,           /* moffs: an address of address size in imm2 */
    EN,           /* ENTER: imm16 in imm, imm8 in imm2 */
    G3B, G3V,     /* group 3: an immediate only for TEST (/0, /1) */
    MR = 0x80,    /* with M: mod is ignored, both fields are registers (MOV CR, DR) */
    PX = 0x20,    /* a prefix or escape: never looked up */
    UD = 0x3f     /* no such opcode */
};

#define MIB (M | IB)
#define MIZ (M | IZ)
#define ALU M, M, M, M, IB, IZ, NO, NO
#define ALUP M, M, M, M, IB, IZ, PX, NO
#define X8(a) a, a, a, a, a, a, a, a

static const uint8_t forms_one[256] = {
    /* 00 */ ALU, M, M, M, M, IB, IZ, NO, PX,
    /* 10 */ ALU, ALU,
    /* 20 */ ALUP, ALUP,
    /* 30 */ ALUP, ALUP,
    /* 40 */ X8(NO), X8(NO),
    /* 50 */ X8(NO), X8(NO),
    /* 60 */ NO, NO, M, M, PX, PX, PX, PX, IZ, MIZ, IB, MIB, NO, NO, NO, NO,
    /* 70 */ X8(JB), X8(JB),
    /* 80 */ MIB, MIZ, MIB, MIB, M, M, M, M, X8(M),
    /* 90 */ X8(NO), NO, NO, AP, NO, NO, NO, NO, NO,
    /* a0 */ MO, MO, MO, MO, NO, NO, NO, NO, IB, IZ, NO, NO, NO, NO, NO, NO,
    /* b0 */ X8(IB), X8(IV),
    /* c0 */ MIB, MIB, IW, NO, M, M, MIB, MIZ, EN, NO, IW, NO, NO, IB, NO, NO,
    /* d0 */ M, M, M, M, IB, IB, NO, NO, X8(M),
    /* e0 */ JB, JB, JB, JB, IB, IB, IB, IB, JZ, JZ, AP, JB, NO, NO, NO, NO,
    /* f0 */ PX, NO, PX, PX, NO, NO, M | G3B, M | G3V, NO, NO, NO, NO, NO, NO, M, M,
};

static const uint8_t forms_0f[256] = {
    /* 00 */ M, M, M, M, UD, NO, NO, NO, NO, NO, UD, NO, UD, M, UD, UD,
    /* 10 */ X8(M), X8(M),
    /* 20 */ M | MR, M | MR, M | MR, M | MR, UD, UD, UD, UD, X8(M),
    /* 30 */ NO, NO, NO, NO, NO, NO, UD, NO, PX, UD, PX, UD, UD, UD, UD, UD,
    /* 40 */ X8(M), X8(M),
    /* 50 */ X8(M), X8(M),
    /* 60 */ X8(M), X8(M),
    /* 70 */ MIB, MIB, MIB, MIB, M, M, M, NO, M, M, UD, UD, M, M, M, M,
    /* 80 */ X8(JZ), X8(JZ),
    /* 90 */ X8(M), X8(M),
    /* a0 */ NO, NO, NO, M, MIB, M, UD, UD, NO, NO, NO, M, MIB, M, M, M,
    /* b0 */ X8(M), M, M, MIB, M, M, M, M, M,
    /* c0 */ M, M, MIB, M, MIB, MIB, MIB, M, X8(NO),
    /* d0 */ X8(M), X8(M),
    /* e0 */ X8(M), X8(M),
    /* f0 */ X8(M), X8(M),
};

struct reader {
    const uint8_t *code;
    unsigned avail, pos;
    enum x86_decoded fail;
};

static uint8_t next8(struct reader *r)
{
    if (r->pos >= 15 || r->pos >= r->avail) {
        if (r->fail == X86_DECODED)
            r->fail = r->pos >= 15 ? X86_TOO_LONG : X86_NEED_MORE;
        return 0;
    }
    return r->code[r->pos++];
}

/* `size` bytes, little-endian, zero-extended. */
static uint64_t next_bytes(struct reader *r, unsigned size)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < size; i++)
        v |= (uint64_t)next8(r) << (8 * i);
    return v;
}

static uint64_t next_signed(struct reader *r, unsigned size)
{
    uint64_t v = next_bytes(r, size);
    unsigned shift = 64 - 8 * size;
    return (uint64_t)((int64_t)(v << shift) >> shift);
}

/* Legacy prefixes and REX; returns the first byte after them. */
static uint8_t decode_prefixes(struct reader *r, unsigned code_size, struct x86_insn *in)
{
    for (;;) {
        uint8_t b = next8(r);
        if (r->fail != X86_DECODED)
            return 0;
        switch (b) {
        case 0x26: case 0x2e: case 0x36: case 0x3e:
            if (code_size != 8)
                in->seg = b >> 3 & 3;
            break;
        case 0x64: case 0x65:
            in->seg = b - 0x64 + X86_FS;
            break;
        case 0x66:
            in->opsize_prefix = true;
            break;
        case 0x67:
            in->addrsize_prefix = true;
            break;
        case 0xf0:
            in->lock = true;
            break;
        case 0xf2:
            in->repne = true;
            in->last_rep = b;
            break;
        case 0xf3:
            in->rep = true;
            in->last_rep = b;
            break;
        default:
            if (code_size == 8 && (b & 0xf0) == 0x40) {
                in->rex = b;
                continue; /* counts only directly before the opcode */
            }
            return b;
        }
        in->rex = 0;
    }
}

static void decode_sizes(unsigned code_size, struct x86_insn *in)
{
    if (code_size == 8) {
        in->opsize = in->rex & 8 ? 8 : in->opsize_prefix ? 2 : 4;
        in->addrsize = in->addrsize_prefix ? 4 : 8;
    } else {
        in->opsize = (code_size == 2) != in->opsize_prefix ? 2 : 4;
        in->addrsize = (code_size == 2) != in->addrsize_prefix ? 2 : 4;
    }
}

/* The rest of a VEX prefix (SDM vol. 2, 2.3.5); `b` is C4 or C5. */
static bool decode_vex(struct reader *r, unsigned code_size, uint8_t b, struct x86_insn *in)
{
    if (in->rex || in->lock || in->opsize_prefix || in->last_rep)
        return false;
    uint8_t p1 = next8(r), p2 = b == 0xc4 ? next8(r) : (uint8_t)((p1 & 0x7f));
    uint8_t rxb = b == 0xc4 ? (uint8_t)(~p1 >> 5 & 7) : (uint8_t)(~p1 >> 5 & 4);
    unsigned map = b == 0xc4 ? p1 & 0x1f : 1;
    in->vex = true;
    in->vex_w = b == 0xc4 && (p2 & 0x80);
    in->vex_v = (uint8_t)(~p2 >> 3 & 15);
    in->vex_l = p2 & 4;
    in->vex_pp = p2 & 3;
    if (code_size != 8) {
        rxb = 0; /* the bits that are not fixed by telling VEX from LES and LDS are ignored */
        in->vex_v &= 7;
    } else {
        in->rex = (uint8_t)(0x40 | (in->vex_w ? 8 : 0) | rxb);
    }
    in->opsize = in->vex_w && code_size == 8 ? 8 : 4;
    in->map = (uint8_t)map;
    in->opcode = next8(r);
    return map >= 1 && map <= 3;
}

static void decode_mem16(struct reader *r, struct x86_insn *in)
{
    static const int8_t bases[8] = { X86_RBX, X86_RBX, X86_RBP, X86_RBP, X86_RSI, X86_RDI, X86_RBP, X86_RBX };
    static const int8_t indexes[8] = { X86_RSI, X86_RDI, X86_RSI, X86_RDI, -1, -1, -1, -1 };
    if (in->mod == 0 && in->rm == 6) {
        in->disp = (int64_t)next_bytes(r, 2);
        return;
    }
    in->base = bases[in->rm];
    in->index = indexes[in->rm];
    if (in->mod)
        in->disp = (int64_t)next_signed(r, in->mod == 1 ? 1 : 2);
}

static void decode_mem(struct reader *r, unsigned code_size, struct x86_insn *in)
{
    unsigned low = in->modrm & 7, rex = in->rex;
    bool disp32 = in->mod == 2;
    if (low == 4) {
        uint8_t sib = next8(r);
        unsigned index = (sib >> 3 & 7) | (rex & 2 ? 8 : 0);
        in->scale = sib >> 6;
        in->index = index == 4 ? -1 : (int8_t)index;
        if ((sib & 7) == 5 && in->mod == 0)
            disp32 = true;
        else
            in->base = (int8_t)((sib & 7) | (rex & 1 ? 8 : 0));
    } else if (low == 5 && in->mod == 0) {
        disp32 = true;
        in->rip_relative = code_size == 8;
    } else {
        in->base = (int8_t)in->rm;
    }
    if (disp32)
        in->disp = (int64_t)next_signed(r, 4);
    else if (in->mod == 1)
        in->disp = (int64_t)next_signed(r, 1);
}

static void decode_modrm(struct reader *r, unsigned code_size, bool regs_only, struct x86_insn *in)
{
    in->has_modrm = true;
    in->modrm = next8(r);
    in->mod = regs_only ? 3 : in->modrm >> 6;
    in->reg = (in->modrm >> 3 & 7) | (in->rex & 4 ? 8 : 0);
    in->rm = (in->modrm & 7) | (in->rex & 1 ? 8 : 0);
    if (in->mod == 3)
        return;
    if (in->addrsize == 2)
        decode_mem16(r, in);
    else
        decode_mem(r, code_size, in);
    if (in->seg != IR_SEG_NONE)
        in->mem_seg = in->seg;
    else if (in->base == X86_RSP || in->base == X86_RBP)
        in->mem_seg = X86_SS;
}

static void decode_imm(struct reader *r, unsigned code_size, unsigned form, struct x86_insn *in)
{
    unsigned z = in->opsize == 2 ? 2 : 4, before = r->pos;
    switch (form) {
    case IB: case JB:
        in->imm = next_signed(r, 1);
        break;
    case IZ:
        in->imm = next_signed(r, z);
        break;
    case IV:
        in->imm = next_signed(r, in->opsize);
        break;
    case IW:
        in->imm = next_bytes(r, 2);
        break;
    case JZ:
        in->imm = next_signed(r, code_size == 8 ? 4 : z);
        break;
    case AP:
        in->imm = next_bytes(r, z);
        in->imm2 = next_bytes(r, 2);
        break;
    case MO:
        in->imm2 = next_bytes(r, in->addrsize);
        break;
    case EN:
        in->imm = next_bytes(r, 2);
        in->imm2 = next_bytes(r, 1);
        break;
    case G3B:
        if ((in->modrm >> 3 & 7) < 2)
            in->imm = next_signed(r, 1);
        break;
    case G3V:
        if ((in->modrm >> 3 & 7) < 2)
            in->imm = next_signed(r, z);
        break;
    }
    in->imm_len = (uint8_t)(r->pos - before);
}

/* Opcode bytes after the prefixes. False: no such opcode. */
static bool decode_opcode(struct reader *r, unsigned code_size, uint8_t b, struct x86_insn *in, uint8_t *ret_form)
{
    if (b == 0x62 || b == 0xc4 || b == 0xc5) {
        /* Outside 64-bit code these are BOUND, LES and LDS unless the next byte, as ModRM, names a register. */
        uint8_t peek = r->pos < r->avail && r->pos < 15 ? r->code[r->pos] : (next8(r), 0);
        if (r->fail != X86_DECODED)
            return true;
        if (code_size == 8 || peek >> 6 == 3) {
            if (b == 0x62 || !decode_vex(r, code_size, b, in))
                return false;
            *ret_form = in->map == X86_MAP_0F3A ? MIB : in->map == X86_MAP_0F38 ? M : forms_0f[in->opcode];
            return *ret_form != UD && *ret_form != PX;
        }
    }
    in->map = X86_MAP_ONE;
    in->opcode = b;
    *ret_form = forms_one[b];
    if (b == 0x0f) {
        in->map = X86_MAP_0F;
        in->opcode = next8(r);
        *ret_form = forms_0f[in->opcode];
        if (in->opcode == 0x38 || in->opcode == 0x3a) {
            bool imm = in->opcode == 0x3a;
            in->map = imm ? X86_MAP_0F3A : X86_MAP_0F38;
            in->opcode = next8(r);
            *ret_form = imm ? MIB : M;
        }
    }
    return *ret_form != UD || r->fail != X86_DECODED;
}

enum x86_decoded x86_decode(const uint8_t *code, unsigned avail, unsigned code_size, struct x86_insn *ret)
{
    struct reader r = { .code = code, .avail = avail, .fail = X86_DECODED };
    uint8_t form = NO;
    *ret = (struct x86_insn){ .seg = IR_SEG_NONE, .base = -1, .index = -1, .mem_seg = X86_DS };
    uint8_t b = decode_prefixes(&r, code_size, ret);
    bool known = true;
    if (r.fail == X86_DECODED) {
        decode_sizes(code_size, ret);
        known = decode_opcode(&r, code_size, b, ret, &form);
    }
    if (known && r.fail == X86_DECODED) {
        if (form & M)
            decode_modrm(&r, code_size, form & MR, ret);
        else if (ret->seg != IR_SEG_NONE)
            ret->mem_seg = ret->seg;
        decode_imm(&r, code_size, form & 0x1f, ret);
    }
    ret->len = (uint8_t)r.pos;
    for (unsigned i = 0; i < r.pos; i++)
        ret->bytes[i] = code[i];
    if (r.fail != X86_DECODED)
        return r.fail;
    return known ? X86_DECODED : X86_UNKNOWN;
}
