/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shared by the files that hand a guest instruction to the host as itself (IR_HOST): x86_vector.c (MMX, SSE..., and the
 * entry), x86_x87.c (the x87 unit), x86_bits.c (BMI, ADX, MOVBE, CRC32, RDRAND). Each entry answers like
 * x86_translate_vector.
 */
#pragma once

#include "accel/jit/guest-x86/x86_insn.h"

bool x86_translate_x87(struct x86_tr *t);  /* one-byte opcodes 9B, D8-DF */
bool x86_translate_bits(struct x86_tr *t); /* general-register instructions outside the base set */

/* The mandatory prefix: 0, 0x66, 0xf2 or 0xf3; of several, the last F2 or F3 wins over 66 (SDM vol. 2, 2.1.2). */
static inline uint8_t x86_vector_pfx(const struct x86_insn *in)
{
    return in->last_rep ? in->last_rep : in->opsize_prefix ? 0x66 : 0;
}

/* 8 with REX.W, else 4. */
static inline unsigned x86_vector_gwidth(const struct x86_insn *in)
{
    return in->rex & 8 ? 8 : 4;
}

/* Appends an IR_HOST operation for the legacy-encoded opcode of t->in with map and prefix filled in; where the
 * instruction has a memory operand of msize bytes, that too (access: JIT_ACC_READ, JIT_ACC_WRITE). */
struct ir_op *x86_vector_emit(struct x86_tr *t, uint8_t map, uint8_t pfx, unsigned msize, unsigned access);
struct ir_arg x86_vector_temp(struct x86_tr *t);
/* dst = src at width. */
void x86_vector_mov(struct x86_tr *t, struct ir_arg dst, struct ir_arg src, unsigned width);
