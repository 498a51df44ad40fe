/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside the code generator. host_compile.c walks the region, host_compile_flags.c keeps the guest's flags, _mem.c makes
 * memory operands, _op.c the operations, _exit.c control flow.
 *
 * Scratch: rax (TLB index, flag transfer, values; never live between operations), r14 (addresses, second value),
 * r15 (one temporary at a time; the others are in jit_cpu.temps).
 */
#pragma once

#include "accel/jit/host-x86_64/host.h"
#include "accel/jit/host-x86_64/host_emit.h"

#define OFF(field) ((int32_t)offsetof(struct jit_cpu, field))
#define HC_IN_R15 0xfe
#define HC_NTEMPS 64

enum hc_ool_kind { HC_OOL_MEM, HC_OOL_IRQ, HC_OOL_STUB, HC_OOL_MISS, HC_OOL_MISS_R14, HC_OOL_MISS_SLOT };

/* Code that stands after the region's straight line. */
struct hc_ool {
    uint8_t kind;
    bool fl_host, fl_cc, rcx_in_rax, save_flags;
    unsigned op;         /* index */
    uint32_t from;       /* rel32 that leads here */
    uint32_t back;       /* where to go on */
    uint32_t guest_off;  /* instruction it belongs to */
    unsigned exit;
    struct ir_arg rip;
    unsigned slot;
};

struct hc_fixup { uint32_t at; unsigned label; };

struct hc {
    struct host_emit e;
    const struct ir_region *r;
    const struct host_thunks *th;
    struct host_code *ret;
    uint16_t live[IR_MAX_OPS];       /* flags live after each op */
    uint16_t label_live[IR_MAX_LABELS];
    uint32_t label_off[IR_MAX_LABELS];
    uint16_t label_op[IR_MAX_LABELS], label_refs[IR_MAX_LABELS];
    uint8_t temp[IR_MAX_TEMPS];      /* HC_IN_R15 or slot */
    bool fl_host, fl_cc;             /* where the live flags are: EFLAGS, jit_cpu.cc */
    bool rcx_in_mem;                 /* guest RCX stands in scratch[4] for the moment */
    bool dead;                       /* after an exit: nothing to emit until a label */
    bool failed;
    uint32_t guest_off;
    unsigned nools, nfixups;
    struct hc_ool ools[IR_MAX_OPS];
    struct hc_fixup fixups[IR_MAX_OPS];
};

/* What an op means for the flags. */
struct hc_flags { unsigned def, use, live; };
struct hc_flags hc_flags(const struct hc *c, unsigned i);

/* flags */
void hc_flags_save(struct hc *c);                    /* to cc, if only in EFLAGS; keeps EFLAGS; uses rax */
void hc_flags_restore(struct hc *c);                 /* to EFLAGS, if not there; uses rax */
void hc_flags_before_clobber(struct hc *c, struct hc_flags f);
/* A condition: emits what is needed and returns the host condition to use. may_clobber: EFLAGS may be lost. */
unsigned hc_condition(struct hc *c, unsigned cond);
void hc_getf(struct hc *c, const struct ir_op *op);
void hc_setf(struct hc *c, const struct ir_op *op, struct hc_flags f);

/* operands */
struct host_opnd hc_loc(const struct hc *c, const struct ir_arg *a);
bool hc_same(const struct hc *c, const struct ir_arg *a, const struct ir_arg *b);
void hc_fetch(struct hc *c, unsigned reg, unsigned width, const struct ir_arg *a);
void hc_put(struct hc *c, const struct ir_arg *dst, unsigned width, unsigned reg);
bool hc_alloc_temps(struct hc *c);
bool hc_has_mem(const struct ir_op *op);

/* memory: computes the address; hc_mem leaves the host address in r14 */
void hc_lea(struct hc *c, const struct ir_op *op);
void hc_mem(struct hc *c, unsigned i);

/* the operation itself, its memory operand (if any) at [r14] */
void hc_body(struct hc *c, unsigned i);
void hc_host(struct hc *c, const struct ir_op *op);
/* control flow; false: not one of them */
bool hc_control(struct hc *c, unsigned i);
void hc_insn_entry(struct hc *c, uint32_t guest_off);
struct hc_ool *hc_ool(struct hc *c, enum hc_ool_kind kind, unsigned op, uint32_t from);
void hc_out_of_line(struct hc *c);

/* Pieces of thunks (host_thunks.c). base: register that holds cpu; depth: how far rsp is below cpu. */
void host_vec_save(struct host_emit *e, unsigned base); /* XMM and MXCSR to vec[], the host's MXCSR back */
void host_vec_load(struct host_emit *e, unsigned base);
void host_reload_guest(struct host_emit *e, int32_t depth, bool all);
/* r14 = guest rip: to it through the jump cache; rip_base is set first when `based`. Returns the jump taken on a miss. */
uint32_t host_lookup_r14(struct host_emit *e, bool based);
void host_push(struct host_emit *e, unsigned reg);
void host_pop(struct host_emit *e, unsigned reg);
