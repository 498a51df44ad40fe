/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The intermediate representation: what a front end writes, the optimiser improves, the interpreter
 * (ir_interp.c) and a host back end execute.
 *
 * A region is a list of operations made from a run of guest instructions. Control enters at the top and
 * leaves by an EXIT operation; inside it may branch to LABELs, loops included. Values:
 *
 *   G(n)  guest general register n, 64 bits, live across regions (a back end keeps most of them in host
 *         registers all the time). Written with width 1 or 2 it merges into the low bits; width 4
 *         zero-extends to 64; width 8 replaces. (What x86 wants, and ARM never uses 1 or 2.)
 *   T(n)  temporary, 64 bits, lives inside the region, not across LABELs. Any write zero-extends.
 *   I     constant, sign-extended to 64 bits, truncated to the width of the operation.
 *   P     jit_cpu.rip_base + constant: an address that moves with the code (see below).
 *   M     the memory operand of the operation (at most one in each), a guest virtual address; see ir_mem.
 *
 * Code that moves. In modes where jit_mode_relative() holds a region serves every linear address at which its physical page is
 * mapped. It then embeds no address of itself: what depends on rip is P, where rip_base is the linear address of the page
 * that holds the region's first instruction, wherever that is now. P may stand as: the source of MOV and STS, the base of an
 * address, an argument of CALL, the target of IRQ_CHECK, EXIT_JMP, EXIT_IND, EXIT_LOOP and the address of INSN.
 *
 * Flags. Arithmetic flags (CF PF AF ZF SF OF, as X86_FL_*) are one implicit value. `fdef` are the flags an
 * operation writes, `fuse` those it reads, as x86 defines them for that operation. The optimiser computes
 * `flive`: which of fdef somebody may read later; a back end owes only those. At a CALL, an EXIT and
 * a label that needs them they stand in memory (jit_cpu.cc). A memory operand that faults does NOT count
 * as a reader: flags that the following instructions overwrite without reading may be stale in the
 * exception frame (they are dead to the program; see docs/architecture.md). A front end that must be
 * precise there (single step, debug registers) makes regions of one instruction.
 *
 * Faults. Before the first operation of each guest instruction stands INSN; memory operands and CALLs may
 * fault and must see all guest registers as they were at the start of their instruction: a front end writes
 * guest registers only after the last operation of that instruction that may fault.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct jit_cpu;

#define IR_MAX_OPS 2048
#define IR_MAX_TEMPS 256
#define IR_MAX_LABELS 128
#define IR_P_MAX ((int64_t)1 << 32)

enum ir_kind { IR_NONE, IR_G, IR_T, IR_I, IR_M, IR_P };

struct ir_arg {
    uint8_t kind;
    uint8_t n;   /* register or temporary number */
    int64_t imm; /* IR_I, IR_P: there within IR_P_MAX of 0 */
};

/* Address of a memory operand: segment base + (base + (index << scale) + disp) truncated to `abits`.
 * Without a segment the sum is already linear. In 64-bit code abits is 64. For seg != none with abits < 64,
 * the linear sum is again truncated to 32 bits. */
#define IR_SEG_NONE 0xff
struct ir_mem {
    struct ir_arg base, index; /* IR_NONE, IR_G or IR_T; base also IR_P */
    int64_t disp;
    uint8_t scale;  /* 0..3 */
    uint8_t abits;  /* 16, 32 or 64 */
    uint8_t seg;    /* enum x86_seg whose base is added, or IR_SEG_NONE */
    uint8_t align;  /* 16: host instruction faults when misaligned and the guest gets #GP; else 0 */
};

enum ir_cond { /* x86's own numbering: Jcc opcode low nibble */
    IR_CC_O, IR_CC_NO, IR_CC_B, IR_CC_AE, IR_CC_E, IR_CC_NE, IR_CC_BE, IR_CC_A,
    IR_CC_S, IR_CC_NS, IR_CC_P, IR_CC_NP, IR_CC_L, IR_CC_GE, IR_CC_LE, IR_CC_G
};

enum ir_opcode {
    /* --- structure --- */
    IR_INSN,      /* start of a guest instruction: a = I(rip) or P, b = I(length in bytes) */
    IR_LABEL,     /* a = I(label) */
    IR_BR,        /* a = I(label) */
    IR_BRCC,      /* if flags satisfy cond: a = I(label). fuse set */
    IR_BRZ,       /* if (a truncated to width) == 0: b = I(label) */
    IR_BRNZ,
    IR_IRQ_CHECK, /* if jit_cpu.attention != 0: leave with rip = a (I, P), flags in memory. The front end puts one
                     at the top of each region and before each backward branch inside it */
    /* --- moves: dst = ... at `width`; dst or a may be M (load, store) --- */
    IR_MOV,
    IR_MOVZX,     /* from `swidth` (1, 2, 4) to width */
    IR_MOVSX,
    IR_LEA,       /* dst = the address of mem, no access, truncated to width */
    IR_LDS,       /* dst = state field: a = I(byte offset into jit_cpu), swidth bytes, zero-extended to width */
    IR_STS,       /* state field at b = I(offset), width bytes = a */
    IR_XCHG,      /* dst <-> a; dst may be M: always atomic then */
    IR_CMOV,      /* if cond: dst = a (a may be M and is always read); width 4 zero-extends dst either way */
    IR_SETCC,     /* dst = cond ? 1 : 0, width 1; dst may be M */
    /* --- arithmetic: dst = a op b, fdef as x86. If dst is M then a is the same M: read-modify-write, one
           write-checked access; with `lock` atomic. a or b may be M when dst is not --- */
    IR_ADD, IR_ADC, IR_SUB, IR_SBB, IR_AND, IR_OR, IR_XOR,
    IR_CMP, IR_TEST,                  /* flags only; no dst; a or b may be M */
    IR_INC, IR_DEC, IR_NEG, IR_NOT,   /* dst = op a; inc and dec keep CF; not defines none */
    IR_SHL, IR_SHR, IR_SAR, IR_ROL, IR_ROR, IR_RCL, IR_RCR,
                                      /* b = I or a register: count masked to 5 (6 for width 8) bits; a zero count
                                         leaves flags alone (with a variable count the op therefore fuses all) */
    IR_SHLD, IR_SHRD,                 /* dst = shift a, filled from b; count in c (I or register) */
    IR_IMUL,                          /* dst = low half of a * b, signed; width 2, 4, 8 */
    IR_MUL_WIDE, IR_IMUL_WIDE,        /* x86 one-operand multiply: width 1: AX = AL * a; else rDX:rAX = rAX * a */
    IR_DIV_WIDE, IR_IDIV_WIDE,        /* x86 one-operand divide by a; faults #DE before writing anything */
    IR_BT, IR_BTS, IR_BTR, IR_BTC,    /* a = bit string (register, or M of that width with b already reduced), b =
                                         bit number masked to width; dst = a changed, none for BT */
    IR_BSF, IR_BSR,                   /* zero source: dst unchanged, ZF = 1 */
    IR_TZCNT, IR_LZCNT, IR_POPCNT, IR_BSWAP,
    IR_XADD,                          /* dst <-> dst + b: b (G or T) receives old dst; dst may be M, lock */
    IR_CMPXCHG,                       /* compare G(0) at width with dst (G or M), ZF; equal: dst = b, else G(0) = dst */
    IR_EXT8H,     /* dst (T) = (a (G) >> 8) & 0xff: AH CH DH BH. No flags */
    IR_DEP8H,     /* bits 15:8 of dst (G) = low 8 bits of a. No flags */
    IR_MULX,                          /* dst = high, c (G/T) = low half of G(RDX) * b; no flags */
    IR_GETF,      /* dst (width 8) = the six arithmetic flags at their X86_FL places */
    IR_SETF,      /* the flags in fdef = a's bits at those places; others keep */
    /* --- the guest instruction itself, operands renamed --- */
    IR_HOST,      /* see ir_host */
    /* --- out of line --- */
    IR_CALL,      /* dst (optional G/T) = fn(cpu, args 0..2 = a, b, c); see IR_CALL_* in `cflags` */
    IR_FENCE,     /* full memory barrier */
    /* --- leaving. All guest state is in its place, flags (if flive) in memory --- */
    IR_EXIT_JMP,  /* to guest rip a = I or P: chained. cflags: IR_EXIT_* */
    IR_EXIT_IND,  /* to guest rip a (G/T): looked up inline. cflags: IR_EXIT_* */
    IR_EXIT_STATE,/* to whatever jit_cpu.s.rip and the mode say now (after a CALL that changed them): looked
                     up again with the new mode, interrupts checked */
    IR_EXIT_LOOP, /* back to the run loop: a = I(enum jit_leave), s.rip = b (I, P or T) */
    IR_NOPCODES
};

/* cflags of IR_CALL. A helper always sees s.gpr[], cc and (when it asks, jit_sync_rip) s.rip current. */
#define IR_CALL_WRITES_G  0x01 /* it may change guest registers: reload them after */
#define IR_CALL_NORETURN  0x02 /* it never comes back (raises an exception) */
#define IR_CALL_PURE      0x04 /* touches no guest register and cannot fault: no spill needed */
/* cflags of the exits: prediction hints, free to ignore */
#define IR_EXIT_CALLHINT  0x10 /* this is a call; the return address is in c = I(rip) or P */
#define IR_EXIT_RETHINT   0x20 /* this is a return */

/* A guest instruction that the host executes itself. Guest vector register n is host vector register n
 * and the guest x87/MMX state is in the host's x87 unit, always, while generated code runs. */
enum ir_host_map { IR_MAP_0F = 1, IR_MAP_0F38 = 2, IR_MAP_0F3A = 3, IR_MAP_X87 = 4 /* opcode D8..DF */ };
enum ir_host_opnd { /* what a ModRM field names */
    IR_HO_NONE, IR_HO_XMM, IR_HO_MM, IR_HO_GPR, /* GPR: ir_arg G or T, read and/or written at gwidth */
    IR_HO_MEM,      /* rm only: the op's memory operand */
    IR_HO_FIXED     /* a fixed ModRM field value (opcode extension in reg, x87 register in rm) */
};
struct ir_host {
    uint8_t map, opcode, pfx;  /* pfx 0, 0x66, 0xf2 or 0xf3; with 0xf2/f3 a further 0x66 is not kept */
    bool w, vex, vexl;         /* REX.W / VEX.W; VEX encoding (vvvv from `v`) */
    uint8_t reg_kind, reg;     /* XMM/MM number, or fixed value; for GPR the operand is arg c below */
    uint8_t rm_kind, rm;       /* likewise; for GPR the operand is op.a */
    uint8_t v_kind;            /* VEX.vvvv: IR_HO_NONE or IR_HO_GPR = op.b */
    bool has_imm;
    uint8_t imm;
    /* GPR operands: reg field = op.c, rm field = op.a, vvvv = op.b. Which are read and written: */
    bool reg_read, reg_write, rm_read, rm_write, v_write;
    uint8_t gwidth;            /* width of GPR operands: 4 or 8 (merging narrower ones is the front end's job) */
    uint8_t msize;             /* bytes of the memory operand: 1, 2, 4, 8, 10, 16 */
    uint8_t maccess;           /* 1 read, 2 write, 3 both */
    /* XMM0 as an implicit operand (PBLENDVB, ...) needs nothing: numbers are the same. Implicit general registers:
     * op.dst = G(1): the instruction writes RCX (as ECX, zero-extended; PCMPxSTRI). op.b = G(0) with v_kind IR_HO_NONE: it
     * reads RAX and RDX (PCMPESTRx; RDX is in its place anyway). x87 with op.dst = G or T: it writes AX (FNSTSW AX), which
     * goes to dst at width 2.
     * reg_kind and rm_kind both IR_HO_NONE: the opcode has no ModRM byte (EMMS).
     * CRC32 with opcode F0 (0F38, pfx 0xf2) takes the low byte of the rm register: a REX prefix is always needed. The reg
     * operand of MOVBE with pfx 0x66 is its low 16 bits (gwidth says 4): the rest of a loaded one is undefined. */
};

struct ir_op {
    uint8_t opcode;
    uint8_t width;   /* 1, 2, 4, 8 */
    uint8_t swidth;
    uint8_t cond;    /* enum ir_cond */
    uint8_t cflags;
    bool lock;
    uint16_t fdef, fuse, flive; /* X86_FL_ARITH subsets; X86_FL_OF fits in 16 bits */
    struct ir_arg dst, a, b, c;
    struct ir_mem mem;
    union {
        struct ir_host host;
        uint64_t (*fn)(struct jit_cpu *, uint64_t, uint64_t, uint64_t); /* IR_CALL */
    };
};

struct ir_region {
    struct ir_op *ops; /* IR_MAX_OPS of them, owned by the translator context */
    unsigned nops, ntemps, nlabels;
    uint64_t rip;       /* guest virtual address of the first instruction; with P: one of those it may have */
    uint32_t mode;      /* jit_mode it was translated for */
    uint16_t exit_flags_live; /* flags that a successor may read; X86_FL_ARITH when not known */
    unsigned ninsns;
    uint32_t guest_bytes; /* guest code covered: [rip, rip + guest_bytes), at most two pages */
    /* Page offsets [scan_lo, scan_hi) of code in the first page that was read to narrow the exits' `fuse`: when it changes,
     * the translation is stale, as with the code covered. */
    uint32_t scan_lo, scan_hi;
};

static inline struct ir_arg ir_g(unsigned n) { return (struct ir_arg){ .kind = IR_G, .n = (uint8_t)n }; }
static inline struct ir_arg ir_t(unsigned n) { return (struct ir_arg){ .kind = IR_T, .n = (uint8_t)n }; }
static inline struct ir_arg ir_i(int64_t v) { return (struct ir_arg){ .kind = IR_I, .imm = v }; }
static inline struct ir_arg ir_p(int64_t v) { return (struct ir_arg){ .kind = IR_P, .imm = v }; }
static inline struct ir_arg ir_m(void) { return (struct ir_arg){ .kind = IR_M }; }
static inline struct ir_arg ir_none(void) { return (struct ir_arg){ .kind = IR_NONE }; }

/* Distance of an address (I or P) from the region's first instruction. */
static inline uint64_t ir_rip_offset(const struct ir_region *r, const struct ir_arg *a)
{
    return (uint64_t)a->imm - (a->kind == IR_P ? r->rip & 0xfff : r->rip);
}

/* Appends a zeroed op and returns it; the caller fills it in. When the region is full it returns a scratch op
 * and sets nops past IR_MAX_OPS: the front end checks room before each guest instruction (64 ops suffice). */
struct ir_op *ir_emit(struct ir_region *r, enum ir_opcode opcode, unsigned width);
unsigned ir_new_temp(struct ir_region *r);
unsigned ir_new_label(struct ir_region *r);
/* fdef and fuse of an opcode as x86 defines it are filled by ir_emit; front ends adjust. ir_op_flags gives what counts: it
 * adds the flags that `cond` needs and knows shifts by constants, so a front end may leave those alone. */
void ir_op_flags(const struct ir_op *op, unsigned *ret_def, unsigned *ret_use);
/* The same where only `live` are read afterwards: a shift by a variable count reads what it may have to keep. */
void ir_op_flags_at(const struct ir_op *op, unsigned live, unsigned *ret_def, unsigned *ret_use);
/* Flags that somebody may read after each op (ret_live_after[r->nops]); readers are `fuse`, exits included. */
void ir_flag_liveness(const struct ir_region *r, uint16_t *ret_live_after);
/* Optimiser: constant folding and copy propagation into operands and addresses, dead temporaries, flag liveness
 * (fills flive). `fuse` of an exit says which flags its target may read: the front end narrows it when it knows. */
void ir_optimise(struct ir_region *r);
/* One line per op, in words; the caller frees. */
char *ir_print(const struct ir_region *r);

/* Executes the region on cpu (state in cpu->s, flags in cpu->cc) until an exit; s.rip is set. Faults unwind
 * through jit_raise as in generated code. IR_HOST ops are run through host_exec (NULL where there is no such
 * host: they raise #UD). Returns an enum jit_leave. */
int ir_interp(struct jit_cpu *cpu, const struct ir_region *r);
