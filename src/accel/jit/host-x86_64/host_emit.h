/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An x86-64 assembler as small as the back end needs: one function encodes "opcode reg, r/m" with prefixes, REX, ModRM,
 * SIB and displacement (SDM vol. 2, chapter 2); the rest are short forms. Overflow of the buffer is remembered, not written.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum host_reg { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15, HOST_NOREG = 0xff };

struct host_emit {
    uint8_t *start, *p, *end;
    bool overflow;
};

struct host_opnd {
    bool mem;
    uint8_t reg;            /* the register, or the base */
    uint8_t index, scale;   /* HOST_NOREG: none */
    int32_t disp;
};

static inline struct host_opnd host_r(unsigned reg)
{
    return (struct host_opnd){ .reg = (uint8_t)reg, .index = HOST_NOREG };
}
static inline struct host_opnd host_m(unsigned base, int32_t disp)
{
    return (struct host_opnd){ .mem = true, .reg = (uint8_t)base, .index = HOST_NOREG, .disp = disp };
}
static inline struct host_opnd host_mx(unsigned base, unsigned index, unsigned scale, int32_t disp)
{
    return (struct host_opnd){ .mem = true, .reg = (uint8_t)base, .index = (uint8_t)index, .scale = (uint8_t)scale,
                               .disp = disp };
}

/* Flags of host_op. */
#define HOST_R8   0x01u /* the reg field names a byte register (REX needed for SPL..DIL) */
#define HOST_M8   0x02u /* likewise r/m */
#define HOST_66   0x04u
#define HOST_F2   0x08u
#define HOST_F3   0x10u
#define HOST_LOCK 0x20u
#define HOST_NOREX 0x40u /* AH..BH are meant: no REX may appear */

static inline uint32_t host_off(const struct host_emit *e) { return (uint32_t)(e->p - e->start); }
void host_u8(struct host_emit *e, unsigned v);
void host_u32(struct host_emit *e, uint32_t v);
void host_u64(struct host_emit *e, uint64_t v);
/* width 2 adds the 66 prefix, 8 sets REX.W; opcode is 0xNN, 0x0fNN, 0x0f38NN or 0x0f3aNN. base HOST_NOREG: absolute disp32. */
void host_op(struct host_emit *e, unsigned width, uint32_t opcode, unsigned reg, struct host_opnd rm, unsigned flags);
/* VEX-encoded: map 1 0F, 2 0F38, 3 0F3A; pp 0 none, 1 66, 2 F3, 3 F2. */
void host_vex(struct host_emit *e, unsigned map, unsigned pp, bool w, bool l, unsigned opcode, unsigned reg, unsigned v,
              struct host_opnd rm);
/* Moves that leave the flags alone. */
void host_mov_ri(struct host_emit *e, unsigned reg, uint64_t imm);
void host_mov_rr(struct host_emit *e, unsigned width, unsigned dst, unsigned src);
void host_load(struct host_emit *e, unsigned width, unsigned reg, struct host_opnd m);   /* zero-extends 1 and 2 */
void host_store(struct host_emit *e, unsigned width, struct host_opnd m, unsigned reg);
/* reg += v, flags kept; |v| within a few times 2^31. */
void host_add_keep(struct host_emit *e, unsigned width, unsigned reg, int64_t v);
/* group 1 ALU: op 0 add, 1 or, 2 adc, 3 sbb, 4 and, 5 sub, 6 xor, 7 cmp, with an immediate that fits 32 bits signed */
void host_alu_imm(struct host_emit *e, unsigned width, unsigned op, struct host_opnd rm, int32_t imm, unsigned flags);
/* Jumps: return the offset of the rel32 to be patched by host_fix. */
uint32_t host_jmp(struct host_emit *e);
uint32_t host_jcc(struct host_emit *e, unsigned cond);
uint32_t host_call(struct host_emit *e);
void host_fix(struct host_emit *e, uint32_t at, uint32_t target_off);
void host_jmp_abs(struct host_emit *e, const void *target);
void host_call_abs(struct host_emit *e, const void *target);
