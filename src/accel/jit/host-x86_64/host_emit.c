/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "accel/jit/host-x86_64/host_emit.h"

#include <string.h>

void host_u8(struct host_emit *e, unsigned v)
{
    if (e->p < e->end)
        *e->p++ = (uint8_t)v;
    else
        e->overflow = true;
}

void host_u32(struct host_emit *e, uint32_t v)
{
    if (e->end - e->p >= 4) {
        memcpy(e->p, &v, 4);
        e->p += 4;
    } else {
        e->overflow = true;
    }
}

void host_u64(struct host_emit *e, uint64_t v)
{
    host_u32(e, (uint32_t)v);
    host_u32(e, (uint32_t)(v >> 32));
}

static void modrm(struct host_emit *e, unsigned reg, struct host_opnd rm)
{
    reg = (reg & 7) << 3;
    if (!rm.mem) {
        host_u8(e, 0xc0 | reg | (rm.reg & 7));
        return;
    }
    if (rm.reg == HOST_NOREG) { /* no base: SIB with base 101, mod 00, disp32 */
        unsigned index = rm.index == HOST_NOREG ? 4 : rm.index & 7;
        host_u8(e, reg | 4);
        host_u8(e, (unsigned)rm.scale << 6 | index << 3 | 5);
        host_u32(e, (uint32_t)rm.disp);
        return;
    }
    unsigned mod = rm.disp == 0 && (rm.reg & 7) != 5 ? 0 : rm.disp == (int8_t)rm.disp ? 1 : 2;
    if (rm.index != HOST_NOREG || (rm.reg & 7) == 4) {
        unsigned index = rm.index == HOST_NOREG ? 4 : rm.index & 7;
        host_u8(e, mod << 6 | reg | 4);
        host_u8(e, (unsigned)rm.scale << 6 | index << 3 | (rm.reg & 7));
    } else {
        host_u8(e, mod << 6 | reg | (rm.reg & 7));
    }
    if (mod == 1)
        host_u8(e, (uint8_t)rm.disp);
    else if (mod == 2)
        host_u32(e, (uint32_t)rm.disp);
}

void host_op(struct host_emit *e, unsigned width, uint32_t opcode, unsigned reg, struct host_opnd rm, unsigned flags)
{
    unsigned rex = (width == 8 ? 8u : 0u) | (reg & 8) >> 1;
    if (rm.reg != HOST_NOREG)
        rex |= (rm.reg & 8) >> 3;
    if (rm.mem && rm.index != HOST_NOREG)
        rex |= (rm.index & 8) >> 2;
    bool force = ((flags & HOST_R8) && reg >= 4) || ((flags & HOST_M8) && !rm.mem && rm.reg >= 4);
    if (flags & HOST_LOCK)
        host_u8(e, 0xf0);
    if (width == 2 || (flags & HOST_66))
        host_u8(e, 0x66);
    if (flags & HOST_F2)
        host_u8(e, 0xf2);
    if (flags & HOST_F3)
        host_u8(e, 0xf3);
    if ((rex || force) && !(flags & HOST_NOREX))
        host_u8(e, 0x40 | rex);
    if (opcode > 0xffff)
        host_u8(e, opcode >> 16);
    if (opcode > 0xff)
        host_u8(e, opcode >> 8 & 0xff);
    host_u8(e, opcode & 0xff);
    modrm(e, reg, rm);
}

void host_vex(struct host_emit *e, unsigned map, unsigned pp, bool w, bool l, unsigned opcode, unsigned reg, unsigned v,
              struct host_opnd rm)
{
    unsigned b = rm.reg != HOST_NOREG && (rm.reg & 8), x = rm.mem && rm.index != HOST_NOREG && (rm.index & 8);
    host_u8(e, 0xc4);
    host_u8(e, (reg & 8 ? 0 : 0x80u) | (x ? 0 : 0x40u) | (b ? 0 : 0x20u) | map);
    host_u8(e, (unsigned)w << 7 | (~v & 15) << 3 | (unsigned)l << 2 | pp);
    host_u8(e, opcode);
    modrm(e, reg, rm);
}

void host_mov_ri(struct host_emit *e, unsigned reg, uint64_t imm)
{
    if (imm <= UINT32_MAX) {
        if (reg & 8)
            host_u8(e, 0x41);
        host_u8(e, 0xb8 | (reg & 7));
        host_u32(e, (uint32_t)imm);
    } else if ((int64_t)imm == (int32_t)imm) {
        host_op(e, 8, 0xc7, 0, host_r(reg), 0);
        host_u32(e, (uint32_t)imm);
    } else {
        host_u8(e, 0x48 | reg >> 3);
        host_u8(e, 0xb8 | (reg & 7));
        host_u64(e, imm);
    }
}

void host_mov_rr(struct host_emit *e, unsigned width, unsigned dst, unsigned src)
{
    if (width == 1)
        host_op(e, 1, 0x8a, dst, host_r(src), HOST_R8 | HOST_M8);
    else if (dst != src || width == 4)
        host_op(e, width, 0x8b, dst, host_r(src), 0);
}

void host_load(struct host_emit *e, unsigned width, unsigned reg, struct host_opnd m)
{
    if (width == 1)
        host_op(e, 4, 0x0fb6, reg, m, HOST_M8);
    else if (width == 2)
        host_op(e, 4, 0x0fb7, reg, m, 0);
    else
        host_op(e, width, 0x8b, reg, m, 0);
}

void host_store(struct host_emit *e, unsigned width, struct host_opnd m, unsigned reg)
{
    if (width == 1)
        host_op(e, 1, 0x88, reg, m, HOST_R8);
    else
        host_op(e, width, 0x89, reg, m, 0);
}

void host_add_keep(struct host_emit *e, unsigned width, unsigned reg, int64_t v)
{
    while (v) {
        int64_t part = v > INT32_MAX ? INT32_MAX : v < INT32_MIN ? INT32_MIN : v;
        host_op(e, width, 0x8d, reg, host_m(reg, (int32_t)part), 0); /* lea */
        v -= part;
    }
}

void host_alu_imm(struct host_emit *e, unsigned width, unsigned op, struct host_opnd rm, int32_t imm, unsigned flags)
{
    if (width == 1) {
        host_op(e, 1, 0x80, op, rm, flags | HOST_M8);
        host_u8(e, (uint8_t)imm);
    } else if (imm == (int8_t)imm || (width == 2 && (int16_t)imm == (int8_t)imm)) {
        host_op(e, width, 0x83, op, rm, flags);
        host_u8(e, (uint8_t)imm);
    } else {
        host_op(e, width, 0x81, op, rm, flags);
        host_u8(e, (uint8_t)imm);
        host_u8(e, (uint8_t)(imm >> 8));
        if (width != 2) {
            host_u8(e, (uint8_t)(imm >> 16));
            host_u8(e, (uint8_t)(imm >> 24));
        }
    }
}

static uint32_t rel32(struct host_emit *e)
{
    uint32_t at = host_off(e);
    host_u32(e, 0);
    return at;
}

uint32_t host_jmp(struct host_emit *e)
{
    host_u8(e, 0xe9);
    return rel32(e);
}

uint32_t host_jcc(struct host_emit *e, unsigned cond)
{
    host_u8(e, 0x0f);
    host_u8(e, 0x80 | cond);
    return rel32(e);
}

uint32_t host_call(struct host_emit *e)
{
    host_u8(e, 0xe8);
    return rel32(e);
}

void host_fix(struct host_emit *e, uint32_t at, uint32_t target_off)
{
    uint32_t rel = target_off - (at + 4);
    if (!e->overflow)
        memcpy(e->start + at, &rel, 4);
}

static void fix_abs(struct host_emit *e, uint32_t at, const void *target)
{
    host_fix(e, at, (uint32_t)((const uint8_t *)target - e->start));
}

void host_jmp_abs(struct host_emit *e, const void *target)
{
    fix_abs(e, host_jmp(e), target);
}

void host_call_abs(struct host_emit *e, const void *target)
{
    fix_abs(e, host_call(e), target);
}
