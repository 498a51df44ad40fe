/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The walk over a region. */
#include "accel/jit/host-x86_64/host_compile.h"

#include <cpuid.h>
#include <string.h>

void hc_insn_entry(struct hc *c, uint32_t guest_off)
{
    struct host_code *ret = c->ret;
    struct host_insn_map *last = ret->ninsns ? &ret->insns[ret->ninsns - 1] : NULL;
    uint32_t off = host_off(&c->e);
    if (last && last->guest_off == guest_off)
        return;
    if (last && last->host_off == off) {
        last->guest_off = guest_off;
        return;
    }
    if (ret->ninsns >= HOST_MAX_INSNS) {
        c->failed = true;
        return;
    }
    ret->insns[ret->ninsns++] = (struct host_insn_map){ .host_off = off, .guest_off = guest_off };
}

struct hc_ool *hc_ool(struct hc *c, enum hc_ool_kind kind, unsigned op, uint32_t from)
{
    if (c->nools == IR_MAX_OPS) { /* each op has one at most */
        c->failed = true;
        c->nools--;
    }
    struct hc_ool *o = &c->ools[c->nools++];
    *o = (struct hc_ool){ .kind = (uint8_t)kind, .fl_host = c->fl_host, .fl_cc = c->fl_cc, .op = op, .from = from,
                          .guest_off = c->guest_off };
    return o;
}

/* ---- temporaries: linear scan, r15 first ---- */

struct interval { int first, last; };

static void touch(struct interval *iv, const struct ir_arg *a, int pos)
{
    if (a->kind != IR_T)
        return;
    if (iv[a->n].first < 0)
        iv[a->n].first = pos;
    iv[a->n].last = pos;
}

bool hc_alloc_temps(struct hc *c)
{
    struct interval iv[IR_MAX_TEMPS];
    int r15_until = -1, slot_until[HC_NTEMPS];
    for (unsigned t = 0; t < IR_MAX_TEMPS; t++)
        iv[t] = (struct interval){ -1, -1 };
    for (unsigned s = 0; s < HC_NTEMPS; s++)
        slot_until[s] = -1;
    memset(c->temp, 0, sizeof(c->temp));
    for (unsigned i = 0; i < c->r->nops; i++) {
        const struct ir_op *op = &c->r->ops[i];
        int pos = (int)(2 * i);
        touch(iv, &op->mem.base, pos); /* addresses are made before anything else */
        touch(iv, &op->mem.index, pos);
        touch(iv, &op->a, pos + 1);
        touch(iv, &op->b, pos + 1);
        touch(iv, &op->c, pos + 1);
        touch(iv, &op->dst, pos + 1);
    }
    bool given[IR_MAX_TEMPS] = { false };
    for (unsigned i = 0; i < c->r->nops; i++) {
        const struct ir_op *op = &c->r->ops[i];
        const struct ir_arg *args[] = { &op->mem.base, &op->mem.index, &op->a, &op->b, &op->c, &op->dst };
        for (unsigned k = 0; k < G_N_ELEMENTS(args); k++) {
            unsigned t = args[k]->n;
            if (args[k]->kind != IR_T || given[t])
                continue;
            given[t] = true;
            if (r15_until < iv[t].first) {
                c->temp[t] = HC_IN_R15;
                r15_until = iv[t].last;
                continue;
            }
            unsigned s = 0;
            while (s < HC_NTEMPS && slot_until[s] >= iv[t].first)
                s++;
            if (s == HC_NTEMPS)
                return false;
            c->temp[t] = (uint8_t)s;
            slot_until[s] = iv[t].last;
        }
    }
    return true;
}

/* ---- operands ---- */

struct host_opnd hc_loc(const struct hc *c, const struct ir_arg *a)
{
    static const uint8_t regs[16] = { R12, RCX, RDX, RBX, R13, RBP, RSI, RDI, R8, R9, R10, R11,
                                      HOST_NOREG, HOST_NOREG, HOST_NOREG, HOST_NOREG };
    switch (a->kind) {
    case IR_G:
        if (a->n == X86_RCX && c->rcx_in_mem)
            return host_m(RSP, OFF(scratch[4]));
        return regs[a->n & 15] != HOST_NOREG ? host_r(regs[a->n & 15]) : host_m(RSP, 8 * (a->n & 15));
    case IR_T:
        return c->temp[a->n] == HC_IN_R15 ? host_r(R15) : host_m(RSP, OFF(temps) + 8 * c->temp[a->n]);
    default:
        return host_m(R14, 0);
    }
}

bool hc_same(const struct hc *c, const struct ir_arg *a, const struct ir_arg *b)
{
    if ((a->kind != IR_G && a->kind != IR_T) || (b->kind != IR_G && b->kind != IR_T))
        return a->kind == IR_M && b->kind == IR_M;
    struct host_opnd x = hc_loc(c, a), y = hc_loc(c, b);
    return x.mem == y.mem && x.reg == y.reg && x.disp == y.disp;
}

void hc_fetch(struct hc *c, unsigned reg, unsigned width, const struct ir_arg *a)
{
    if (a->kind == IR_I) {
        uint64_t v = (uint64_t)a->imm;
        host_mov_ri(&c->e, reg, width == 8 ? v : v & (((uint64_t)1 << (8 * width)) - 1));
        return;
    }
    if (a->kind == IR_P) {
        if (a->imm > IR_P_MAX || a->imm < -IR_P_MAX) {
            c->failed = true;
            return;
        }
        unsigned w = width == 8 ? 8 : 4;
        host_load(&c->e, w, reg, host_m(RSP, OFF(rip_base)));
        host_add_keep(&c->e, w, reg, a->imm);
        return;
    }
    struct host_opnd o = hc_loc(c, a);
    if (a->kind == IR_M)
        host_load(&c->e, width, reg, o);
    else if (o.mem)
        host_load(&c->e, width == 8 ? 8 : 4, reg, o);
    else if (o.reg != reg)
        host_mov_rr(&c->e, width == 8 ? 8 : 4, reg, o.reg);
}

/* dst = reg at width. With width 4, reg is zero-extended already when it is a scratch register. */
void hc_put(struct hc *c, const struct ir_arg *dst, unsigned width, unsigned reg)
{
    struct host_emit *e = &c->e;
    struct host_opnd o = hc_loc(c, dst);
    if (dst->kind == IR_M) {
        host_store(e, width, o, reg);
    } else if (dst->kind == IR_T && width < 4) {
        unsigned to = o.mem ? RAX : o.reg;
        host_load(e, width, to, host_r(reg));
        if (o.mem)
            host_store(e, 8, o, to);
    } else if (!o.mem) {
        host_mov_rr(e, width, o.reg, reg);
    } else {
        if (width == 4 && reg != RAX && reg != R14) {
            host_mov_rr(e, 4, RAX, reg);
            reg = RAX;
        }
        host_store(e, width == 4 ? 8 : width, o, reg);
    }
}

bool hc_has_mem(const struct ir_op *op)
{
    if (op->opcode == IR_HOST)
        return op->host.rm_kind == IR_HO_MEM;
    return op->dst.kind == IR_M || op->a.kind == IR_M || op->b.kind == IR_M || op->c.kind == IR_M;
}

/* ---- the walk ---- */

static void plain_op(struct hc *c, unsigned i)
{
    const struct ir_op *op = &c->r->ops[i];
    unsigned mem_ool = c->nools;
    bool mem = hc_has_mem(op);
    if (mem)
        hc_mem(c, i);
    hc_body(c, i);
    if (mem && c->nools > mem_ool && c->ools[mem_ool].back == 0)
        c->ools[mem_ool].back = host_off(&c->e);
}

static void walk(struct hc *c)
{
    for (unsigned i = 0; i < c->r->nops && !c->e.overflow && !c->failed; i++) {
        const struct ir_op *op = &c->r->ops[i];
        if (c->dead && op->opcode != IR_LABEL) {
            if (op->opcode == IR_INSN)
                c->guest_off = (uint32_t)ir_rip_offset(c->r, &op->a);
            continue;
        }
        if (op->opcode == IR_INSN) {
            c->guest_off = (uint32_t)ir_rip_offset(c->r, &op->a);
            hc_insn_entry(c, c->guest_off);
        } else if (!hc_control(c, i)) {
            plain_op(c, i);
        }
        if (op->opcode == IR_LABEL)
            hc_insn_entry(c, c->guest_off);
    }
    if (!c->dead) { /* no front end leaves this open */
        host_u8(&c->e, 0x0f);
        host_u8(&c->e, 0x0b);
    }
}

static void find_labels(struct hc *c)
{
    for (unsigned i = 0; i < c->r->nops; i++) {
        const struct ir_op *op = &c->r->ops[i];
        if (op->opcode == IR_LABEL) {
            c->label_live[op->a.imm] = c->live[i];
            c->label_op[op->a.imm] = (uint16_t)i;
        } else if (op->opcode == IR_BR || op->opcode == IR_BRCC) {
            c->label_refs[op->a.imm]++;
        } else if (op->opcode == IR_BRZ || op->opcode == IR_BRNZ) {
            c->label_refs[op->b.imm]++;
        }
    }
}

bool host_compile(const struct ir_region *r, uint8_t *buf, size_t size, struct host_code *ret)
{
    if (r->nops > IR_MAX_OPS)
        return false;
    g_autofree struct hc *c = g_malloc(sizeof(*c));
    memset(c, 0, offsetof(struct hc, ools));
    c->e = (struct host_emit){ .start = buf, .p = buf, .end = buf + size };
    c->r = r;
    c->th = ret->thunks;
    c->ret = ret;
    c->fl_cc = true;
    ret->ninsns = ret->nexits = 0;
    ret->entry_off = 0;
    ret->code = buf;
    ir_flag_liveness(r, c->live);
    find_labels(c);
    memset(c->label_off, 0xff, sizeof(c->label_off));
    if (!hc_alloc_temps(c))
        return false;
    walk(c);
    if (!c->e.overflow && !c->failed)
        hc_out_of_line(c);
    for (unsigned i = 0; i < c->nfixups && !c->e.overflow; i++)
        c->failed |= c->label_off[c->fixups[i].label] == UINT32_MAX;
    for (unsigned i = 0; i < c->nfixups && !c->e.overflow; i++)
        host_fix(&c->e, c->fixups[i].at, c->label_off[c->fixups[i].label]);
    ret->size = (size_t)(c->e.p - buf);
    return !c->e.overflow && !c->failed;
}

void host_patch_exit(uint8_t *code, const struct host_exit *e, const void *target)
{
    const uint8_t *to = target ? target : code + e->stub_off;
    uint32_t rel = (uint32_t)(to - (code + e->patch_off + 4));
    __atomic_store_n((uint32_t *)(void *)(code + e->patch_off), rel, __ATOMIC_RELEASE);
}

bool host_supported(void)
{
    /* Asked directly: the compiler's own table costs some thirty CPUIDs at each start of the program. */
    unsigned a, b, c, d, ebx7;
    if (__get_cpuid_max(0, NULL) < 7)
        return false;
    __cpuid(1, a, b, c, d);
    __cpuid_count(7, 0, a, ebx7, b, d);
    return (c & bit_SSE4_2) && (c & bit_POPCNT) && (ebx7 & bit_BMI) && (ebx7 & bit_BMI2);
}
