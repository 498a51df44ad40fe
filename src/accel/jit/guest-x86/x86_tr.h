/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Private to the files x86_translate*.c and x86_run.c: one translation in the making.
 *
 * Two passes. x86_run_decode (x86_run.c) decodes a linear run of instructions and finds which of them are branch
 * targets; x86_translate then writes IR for each, with a LABEL at those targets. A branch out of the run goes to a
 * stub at the region's end: LABEL, EXIT_JMP.
 */
#pragma once

#include "accel/jit/guest-x86/x86_helpers.h"
#include "accel/jit/guest-x86/x86_insn.h"

#define X86_RUN_MAX 128   /* instructions in a region */
#define X86_EXITS_MAX 56  /* ways out by EXIT_JMP: below HOST_MAX_EXITS with those that the next instruction may add */
#define X86_STUBS_MAX 64

enum x86_flow {
    X86_FLOW_NEXT, /* goes on (as far as pass 1 knows) */
    X86_FLOW_COND, /* goes on, or to its direct target */
    X86_FLOW_JMP,  /* to its direct target */
    X86_FLOW_END   /* elsewhere */
};

/* x86_decode's verdicts, and one more. */
#define X86_RUN_GP 0x80 /* beyond the CS limit, or not canonical */

struct x86_slot {
    struct x86_insn in;
    uint64_t rip;
    uint8_t status;      /* enum x86_decoded or X86_RUN_GP */
    uint8_t flow;        /* enum x86_flow */
    bool target;         /* a branch of the run goes here */
    bool backward;       /* one from here or from below */
    bool labelled, placed;
    uint16_t label;
};

struct x86_run {
    struct x86_tr t; /* first: see x86_run_of */
    const uint8_t *page[2];
    uint64_t page_lin; /* linear address of page[0] */
    unsigned nslots, nstubs, nexits /* EXIT_JMPs so far */, npending /* labels of slots, not yet placed */;
    struct { uint64_t rip; unsigned label; } stubs[X86_STUBS_MAX];
    struct x86_slot slots[X86_RUN_MAX];
};

static inline struct x86_run *x86_run_of(struct x86_tr *t) { return (struct x86_run *)t; }

/* --- x86_run.c --- */
/* Fills slots. False: the first instruction cannot be fetched, *ret_gva and *ret_error say why. */
bool x86_run_decode(struct x86_run *run, unsigned max_insns, uint64_t *ret_gva, uint32_t *ret_error);
/* The slot that begins at rip, or NULL. */
struct x86_slot *x86_run_slot(struct x86_run *run, uint64_t rip);
/* The code byte at rip, if it is in the first page (the translation then depends on it), else -1. */
int x86_run_peek(struct x86_run *run, uint64_t rip);
/* Arithmetic flags that code at rip may read before it overwrites them. */
uint16_t x86_run_flags_live(struct x86_run *run, uint64_t rip);
/* Where a relative branch goes. */
uint64_t x86_rel_target(unsigned code, const struct x86_insn *in, uint64_t next);
uint64_t x86_wrap_rip(unsigned code, uint64_t rip);
uint16_t x86_cond_flags(unsigned cond);

/* --- x86_translate.c --- */
struct x86_opnd { /* a register or memory operand */
    enum { X86_O_REG, X86_O_HIGH /* AH CH DH BH of register n */, X86_O_MEM } kind;
    uint8_t n;
    struct ir_mem mem;
};
struct x86_opnd x86_opnd_reg(struct x86_tr *t, unsigned n, unsigned width);
struct x86_opnd x86_opnd_rm(struct x86_tr *t, unsigned width, unsigned access);
/* The operand as an argument: G, M, or a temp with a copy of a high byte. */
struct ir_arg x86_arg(struct x86_tr *t, const struct x86_opnd *o);
/* The operand's value in a register argument: loads memory into a temp. */
struct ir_arg x86_value(struct x86_tr *t, const struct x86_opnd *o, unsigned width);
/* dst = value (T, G or I). */
void x86_write(struct x86_tr *t, const struct x86_opnd *dst, unsigned width, struct ir_arg value);
void x86_deposit8h(struct x86_tr *t, unsigned n, struct ir_arg value);

/* An address in the code segment, of this code or near it, as an argument: P in code that moves, else I. */
struct ir_arg x86_rip_arg(const struct x86_tr *t, uint64_t rip);
struct ir_arg x86_temp(struct x86_tr *t);
struct ir_op *x86_mov(struct x86_tr *t, struct ir_arg dst, struct ir_arg src, unsigned width);
/* A temp with the low `width` bytes of a register, zero-extended (the register itself when 8). */
struct ir_arg x86_zx(struct x86_tr *t, struct ir_arg a, unsigned width);
struct ir_arg x86_load(struct x86_tr *t, struct ir_mem mem, unsigned width);
void x86_store(struct x86_tr *t, struct ir_mem mem, struct ir_arg value, unsigned width);
struct ir_arg x86_lds(struct x86_tr *t, unsigned offset, unsigned size);
void x86_sts(struct x86_tr *t, unsigned offset, struct ir_arg value, unsigned size);
/* Offset of the memory operand in its segment, no checks. */
struct ir_mem x86_mem_raw(struct x86_tr *t);
/* Adds the segment to an offset: limit check, debug check, base. access 0: no check. */
struct ir_mem x86_mem_seg(struct x86_tr *t, struct ir_mem raw, unsigned seg, unsigned size, unsigned access);
struct ir_arg x86_lea(struct x86_tr *t, struct ir_mem mem);

typedef uint64_t x86_helper_fn(struct jit_cpu *, uint64_t, uint64_t, uint64_t);
#define X86_CALL_FLAGS 0x100u /* with IR_CALL_*: the helper reads and writes arithmetic flags */
struct ir_op *x86_call(struct x86_tr *t, struct ir_arg dst, x86_helper_fn *fn, unsigned cflags, struct ir_arg a,
                       struct ir_arg b, struct ir_arg c);
/* s.rip = the next instruction, before a helper marked NEXT. */
void x86_set_next(struct x86_tr *t);
unsigned x86_label_for(struct x86_tr *t, uint64_t target);      /* inside the run, or an exit stub */
unsigned x86_label_exit(struct x86_tr *t, uint64_t target);     /* always an exit stub */
void x86_place_label(struct x86_tr *t, unsigned label);
void x86_branch_cond(struct x86_tr *t, unsigned cond, unsigned label);
void x86_branch_zero(struct x86_tr *t, bool if_zero, struct ir_arg a, unsigned width, unsigned label);
/* Ends of a region; they set t->ended. ret_rip: for IR_EXIT_CALLHINT. */
void x86_exit_jmp(struct x86_tr *t, uint64_t rip, unsigned hint, uint64_t ret_rip);
void x86_exit_ind(struct x86_tr *t, struct ir_arg rip, unsigned hint, uint64_t ret_rip);
void x86_exit_state(struct x86_tr *t);
/* True when CPL is 0; else it has raised #GP(0). */
bool x86_need_cpl0(struct x86_tr *t);

static inline unsigned x86_group(const struct x86_insn *in) { return in->modrm >> 3 & 7; }
static inline bool x86_is_mem(const struct x86_insn *in) { return in->mod != 3; }
static inline bool x86_protected(const struct x86_tr *t) { return t->mode & JIT_MODE_PE; }
#define X86_OFFSET(field) ((unsigned)offsetof(struct jit_cpu, field))

/* --- one instruction each; false: not one of theirs, nothing emitted --- */
bool x86_translate_int(struct x86_tr *t);   /* x86_translate_int.c: one-byte arithmetic and moves */
bool x86_translate_int0f(struct x86_tr *t); /* x86_translate_0f.c: two-byte ones */
bool x86_translate_ctl(struct x86_tr *t);   /* x86_translate_ctl.c: stack, branches, interrupts */
bool x86_translate_sys(struct x86_tr *t);   /* x86_translate_sys.c */

/* --- x86_translate_ctl.c --- */
unsigned x86_stack_width(const struct x86_tr *t);   /* of rSP */
unsigned x86_stack_opsize(const struct x86_tr *t);  /* of what PUSH and POP move */
void x86_push(struct x86_tr *t, struct ir_arg value, unsigned width);
/* Top of the stack in a temp; rSP is moved by x86_sp_add after the last fault. */
struct ir_arg x86_peek(struct x86_tr *t, unsigned width);
void x86_sp_add(struct x86_tr *t, int64_t n);
/* A far pointer in memory: offset and selector in temps. */
void x86_load_far(struct x86_tr *t, struct ir_arg *ret_off, struct ir_arg *ret_sel);
