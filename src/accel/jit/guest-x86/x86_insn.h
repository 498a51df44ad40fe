/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A decoded x86 instruction: prefixes, opcode, operands as encoded. The decoder (x86_decode.c) knows lengths and forms,
 * not meaning. Source: SDM vol. 2, chapter 2 and appendix A.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "accel/jit/engine/jit_cpu.h"
#include "accel/jit/ir/ir.h"

enum x86_map { X86_MAP_ONE, X86_MAP_0F, X86_MAP_0F38, X86_MAP_0F3A };

struct x86_insn {
    uint8_t bytes[15];
    uint8_t len;
    uint8_t map, opcode;     /* enum x86_map */
    bool lock, rep, repne, opsize_prefix, addrsize_prefix;
    uint8_t last_rep;        /* 0, 0xf2 or 0xf3: the last of them, for mandatory prefixes */
    uint8_t seg;             /* override: enum x86_seg, or IR_SEG_NONE */
    uint8_t rex;             /* 0 or 0x40-0x4f */
    bool vex;  uint8_t vex_v /* register, already inverted */, vex_pp; bool vex_l, vex_w;
    uint8_t opsize;          /* 2, 4, 8 bytes: effective operand size (REX.W, 66, code size; not the per-opcode
                                64-bit defaults, the translator knows those) */
    uint8_t addrsize;        /* 2, 4, 8 bytes */
    bool has_modrm;
    uint8_t modrm, mod, reg, rm; /* reg and rm with REX.R and REX.B; mod 3: rm is a register */
    /* memory form (mod != 3): */
    int8_t base, index;      /* GPR number, or -1 */
    uint8_t scale;
    int64_t disp;
    bool rip_relative;       /* disp is relative to the next instruction */
    uint8_t mem_seg;         /* segment that applies: override or default (SS for rBP/rSP bases) */
    uint64_t imm, imm2;      /* sign-extended as the form says; imm2: selector of a far pointer, or ENTER's level; moffs address */
    uint8_t imm_len;
};

enum x86_decoded { X86_DECODED, X86_NEED_MORE /* runs past `avail` bytes */, X86_TOO_LONG /* over 15 bytes: #GP */, X86_UNKNOWN /* #UD */ };
/* code_size 2, 4 or 8 (16-, 32-, 64-bit code). */
enum x86_decoded x86_decode(const uint8_t *code, unsigned avail, unsigned code_size, struct x86_insn *ret);

/* The translator's context for one region. */
struct x86_tr {
    struct jit_cpu *cpu;
    struct ir_region *r;
    uint32_t mode;
    unsigned code;       /* 2, 4, 8 */
    uint64_t rip, next;  /* of the current instruction; wrapped to 16/32 bits outside 64-bit code */
    const struct x86_insn *in;
    bool ended;          /* the region has its exit */
};

/* Shared by the translator's files (x86_translate.c). */
struct ir_op *x86_tr_emit(struct x86_tr *t, enum ir_opcode op, unsigned width);
/* Fills op->mem for the instruction's memory operand (segment base, limit check call first where the mode is not flat,
 * debug check). `size` and `access` (JIT_ACC_READ | JIT_ACC_WRITE) of what will be done. Call before emitting the op itself:
 * it returns the filled struct. */
struct ir_mem x86_tr_mem(struct x86_tr *t, unsigned size, unsigned access);
/* A temp holding the linear address of the memory operand (for helpers that take one). */
struct ir_arg x86_tr_linear(struct x86_tr *t, unsigned size, unsigned access);
/* dst (or ir_none()) = helper(cpu, a, b, c). */
void x86_tr_call(struct x86_tr *t, struct ir_arg dst, uint64_t (*fn)(struct jit_cpu *, uint64_t, uint64_t, uint64_t),
                 unsigned cflags, struct ir_arg a, struct ir_arg b, struct ir_arg c);
void x86_tr_raise(struct x86_tr *t, unsigned vector); /* #UD, #NM, #GP(0): ends the region */
bool x86_tr_has(struct x86_tr *t, enum x86_feature f);

/* x86_vector.c: x87, MMX, SSE*, AES, PCLMULQDQ, BMI, ADX, MOVBE, CRC32, RDRAND, POPCNT-like passthrough. Tries to translate
 * t->in; false: not one of its instructions (nothing emitted). */
bool x86_translate_vector(struct x86_tr *t);
