/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * First pass of a translation: fetching code, the run of instructions that becomes a region, its inner branch
 * targets; and which arithmetic flags are live at an address.
 */
#include "accel/jit/guest-x86/x86_tr.h"

#define PAGE 4096u
#define GAP_MAX 16 /* padding between an unconditional branch and an inner target */
#define JUMP_OVER_MAX 256 /* a jump over a loop's body to its condition stays in the run */

uint64_t x86_wrap_rip(unsigned code, uint64_t rip)
{
    return code == 8 ? rip : (uint32_t)rip;
}

uint64_t x86_rel_target(unsigned code, const struct x86_insn *in, uint64_t next)
{
    uint64_t target = next + in->imm;
    if (code == 8)
        return target;
    return in->opsize == 2 ? (uint16_t)target : (uint32_t)target;
}

static uint64_t linear(const struct x86_run *run, uint64_t rip)
{
    return run->t.code == 8 ? rip : (uint32_t)(run->t.cpu->seg_base[X86_CS] + rip);
}

/* The page that holds lin when it is one of the run's two; loads the second when `load`. */
static const uint8_t *page_at(struct x86_run *run, uint64_t lin, bool load, uint32_t *ret_error)
{
    uint64_t second = x86_wrap_rip(run->t.code, run->page_lin + PAGE);
    lin &= ~(uint64_t)(PAGE - 1);
    if (lin == run->page_lin)
        return run->page[0];
    if (lin != second)
        return NULL;
    if (!run->page[1] && load)
        run->page[1] = jit_fetch_page(run->t.cpu, second, ret_error);
    return run->page[1];
}

enum fetch { FETCHED, FETCH_FAULT, FETCH_OUTSIDE /* not in the run's pages */ };

/* Decodes the instruction at rip. `load`: may load the second page for one that straddles. */
static enum fetch decode_at(struct x86_run *run, uint64_t rip, bool load, struct x86_insn *in, uint8_t *ret_status,
                            uint64_t *ret_gva, uint32_t *ret_error)
{
    uint64_t lin = linear(run, rip);
    const uint8_t *page = page_at(run, lin, false, ret_error);
    if (!page)
        return FETCH_OUTSIDE;
    unsigned off = lin & (PAGE - 1), avail = PAGE - off;
    *ret_status = (uint8_t)x86_decode(page + off, avail, run->t.code, in);
    if (*ret_status != X86_NEED_MORE)
        return FETCHED;
    uint64_t lin2 = x86_wrap_rip(run->t.code, lin + avail);
    const uint8_t *page2 = page_at(run, lin2, load, ret_error);
    if (!page2) {
        *ret_gva = lin2;
        return load && lin2 == x86_wrap_rip(run->t.code, run->page_lin + PAGE) ? FETCH_FAULT : FETCH_OUTSIDE;
    }
    uint8_t buf[16];
    for (unsigned i = 0; i < sizeof buf; i++)
        buf[i] = i < avail ? page[off + i] : page2[i - avail];
    *ret_status = (uint8_t)x86_decode(buf, sizeof buf, run->t.code, in);
    return FETCHED;
}

static enum x86_flow flow_one(unsigned code, const struct x86_insn *in)
{
    switch (in->opcode) {
    case 0x70 ... 0x7f: case 0xe0 ... 0xe3:
        return X86_FLOW_COND;
    case 0xe9: case 0xeb:
        return X86_FLOW_JMP;
    case 0x07: case 0x17: case 0x1f: case 0x9a: case 0x9d: case 0xc2: case 0xc3: case 0xc4: case 0xc5: case 0xca:
    case 0xcb: case 0xcc: case 0xcd: case 0xcf: case 0xe8: case 0xea: case 0xf1: case 0xf4: case 0xfb:
        return X86_FLOW_END;
    case 0x8e:
        return code == 8 && x86_group(in) != X86_SS ? X86_FLOW_NEXT : X86_FLOW_END;
    case 0xff:
        return x86_group(in) >= 2 && x86_group(in) <= 5 ? X86_FLOW_END : X86_FLOW_NEXT;
    }
    return X86_FLOW_NEXT;
}

static enum x86_flow flow_of(unsigned code, const struct x86_insn *in)
{
    if (in->vex)
        return X86_FLOW_NEXT;
    if (in->map == X86_MAP_ONE)
        return flow_one(code, in);
    if (in->map != X86_MAP_0F)
        return X86_FLOW_NEXT;
    switch (in->opcode) {
    case 0x80 ... 0x8f:
        return X86_FLOW_COND;
    case 0x05: case 0x06: case 0x07: case 0x0b: case 0x22: case 0x23: case 0x30: case 0x34: case 0x35: case 0xb9:
    case 0xff:
        return X86_FLOW_END;
    }
    return X86_FLOW_NEXT;
}

struct x86_slot *x86_run_slot(struct x86_run *run, uint64_t rip)
{
    unsigned lo = 0, hi = run->nslots;
    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        if (run->slots[mid].rip == rip)
            return &run->slots[mid];
        if (run->slots[mid].rip < rip)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

static bool beyond_limit(const struct x86_run *run, uint64_t last)
{
    const struct x86_tr *t = &run->t;
    if (t->code == 8) /* canonical: 48 bits, SDM vol. 1, 3.3.7.1 */
        return (uint64_t)((int64_t)(last << 16) >> 16) != last;
    return !(t->mode & JIT_MODE_FLAT) && last > t->cpu->s.seg[X86_CS].limit;
}

/* The nearest inner target at or a little after `next`, which nothing falls into. */
static bool pending_target(const struct x86_run *run, const uint64_t *targets, unsigned n, uint64_t next, uint64_t *ret)
{
    uint64_t best = UINT64_MAX;
    for (unsigned i = 0; i < n; i++)
        if (targets[i] >= next && targets[i] - next < GAP_MAX && targets[i] < best)
            best = targets[i];
    *ret = best;
    return best != UINT64_MAX && linear(run, best) >= run->page_lin;
}

static void mark_targets(struct x86_run *run)
{
    for (unsigned i = 0; i < run->nslots; i++) {
        struct x86_slot *s = &run->slots[i], *to;
        if (s->flow != X86_FLOW_COND && s->flow != X86_FLOW_JMP)
            continue;
        to = x86_run_slot(run, x86_rel_target(run->t.code, &s->in, x86_wrap_rip(run->t.code, s->rip + s->in.len)));
        if (to) {
            to->target = true;
            to->backward |= to <= s;
        }
    }
}

bool x86_run_decode(struct x86_run *run, unsigned max_insns, uint64_t *ret_gva, uint32_t *ret_error)
{
    struct x86_tr *t = &run->t;
    uint64_t rip = t->r->rip, targets[X86_RUN_MAX];
    unsigned ntargets = 0;
    if (max_insns > X86_RUN_MAX)
        max_insns = X86_RUN_MAX;
    run->nslots = run->nstubs = run->nexits = run->npending = 0;
    run->page[0] = run->page[1] = NULL;
    run->page_lin = linear(run, rip) & ~(uint64_t)(PAGE - 1);
    while (run->nslots < max_insns) {
        struct x86_slot *s = &run->slots[run->nslots];
        s->rip = rip;
        s->target = s->backward = s->labelled = s->placed = false;
        s->flow = X86_FLOW_END;
        if (beyond_limit(run, rip)) {
            s->status = X86_RUN_GP;
            s->in.len = 1;
            if (!run->nslots)
                run->nslots = 1;
            break;
        }
        if (!run->page[0] && !(run->page[0] = jit_fetch_page(t->cpu, run->page_lin, ret_error))) {
            *ret_gva = linear(run, rip);
            return false;
        }
        enum fetch f = decode_at(run, rip, true, &s->in, &s->status, ret_gva, ret_error);
        if (f == FETCH_FAULT && !run->nslots)
            return false;
        if (f != FETCHED)
            break;
        if (s->in.len == 0)
            s->in.len = 1;
        if (beyond_limit(run, rip + s->in.len - 1))
            s->status = X86_RUN_GP;
        if (s->status != X86_DECODED && run->nslots && s->status == X86_RUN_GP)
            break;
        run->nslots++;
        uint64_t next = x86_wrap_rip(t->code, rip + s->in.len);
        if (s->status == X86_DECODED)
            s->flow = (uint8_t)flow_of(t->code, &s->in);
        if (s->flow == X86_FLOW_COND || s->flow == X86_FLOW_JMP)
            targets[ntargets++] = x86_rel_target(t->code, &s->in, next);
        if (next < rip)
            break; /* wrapped: a run ascends */
        bool over = s->flow == X86_FLOW_JMP && targets[ntargets - 1] - next < JUMP_OVER_MAX;
        if (!over && (s->flow == X86_FLOW_JMP || s->flow == X86_FLOW_END)) {
            if (!pending_target(run, targets, ntargets, next, &next))
                break;
        }
        rip = next;
    }
    mark_targets(run);
    return true;
}

/* --- flags --- */

uint16_t x86_cond_flags(unsigned cond)
{
    static const uint16_t flags[8] = {
        X86_FL_OF, X86_FL_CF, X86_FL_ZF, X86_FL_CF | X86_FL_ZF, X86_FL_SF, X86_FL_PF, X86_FL_SF | X86_FL_OF,
        X86_FL_ZF | X86_FL_SF | X86_FL_OF
    };
    return flags[cond >> 1 & 7];
}

#define ARITH ((uint16_t)X86_FL_ARITH)
#define INCDEC ((uint16_t)(X86_FL_ARITH & ~X86_FL_CF))

static uint16_t alu_use(unsigned n)
{
    return n == 2 || n == 3 ? X86_FL_CF : 0; /* ADC, SBB */
}

static bool effect_one(const struct x86_insn *in, unsigned code, uint16_t *use, uint16_t *def)
{
    unsigned op = in->opcode, g = x86_group(in);
    if (op < 0x40) {
        *use = alu_use(op >> 3);
        *def = ARITH;
        return (op & 7) < 6;
    }
    switch (op) {
    case 0x40 ... 0x4f:
        *def = INCDEC;
        return code != 8;
    case 0x63:
        return code == 8;
    case 0x50 ... 0x5f: case 0x68: case 0x6a: case 0x86 ... 0x8d: case 0x90 ... 0x99: case 0xa0 ... 0xa3:
    case 0xb0 ... 0xbf: case 0xc6: case 0xc7: case 0xc9:
        return true;
    case 0x80 ... 0x83:
        *use = alu_use(g);
        *def = ARITH;
        return true;
    case 0x69: case 0x6b: case 0x84: case 0x85: case 0xa8: case 0xa9:
        *def = ARITH;
        return true;
    case 0xc0: case 0xc1:
        *def = ARITH;
        return g >= 4 && (in->imm & 31);
    case 0xd0: case 0xd1:
        *def = ARITH;
        return g >= 4;
    case 0xf6: case 0xf7:
        *def = g != 2 ? ARITH : 0;
        return true;
    case 0xfe: case 0xff:
        *def = g < 2 ? INCDEC : 0;
        return g < 2 || (op == 0xff && g == 6);
    }
    return false;
}

/* What an instruction that goes on reads and certainly writes. False: not known. */
static bool effect(const struct x86_insn *in, unsigned code, uint16_t *use, uint16_t *def)
{
    *use = *def = 0;
    if (in->vex || (in->map != X86_MAP_ONE && in->map != X86_MAP_0F))
        return false;
    if (in->map == X86_MAP_ONE)
        return effect_one(in, code, use, def);
    switch (in->opcode) {
    case 0x40 ... 0x4f: case 0x90 ... 0x9f:
        *use = x86_cond_flags(in->opcode & 15);
        return true;
    case 0x2e: case 0x2f: case 0xaf:
        *def = ARITH;
        return true;
    case 0x0d: case 0x10: case 0x11: case 0x18 ... 0x1f: case 0x28: case 0x29: case 0x57: case 0x6e: case 0x6f:
    case 0x7e: case 0x7f: case 0xa3: case 0xab: case 0xb3: case 0xb6: case 0xb7: case 0xba: case 0xbb: case 0xbe:
    case 0xbf: case 0xc8 ... 0xcf: case 0xd6: case 0xef:
        return true;
    }
    return false;
}

/* Remembers that the translation depends on these bytes. False when they are not all in the first page, the only one that is
 * certainly watched for writes. */
static bool note_scan(struct x86_run *run, uint64_t rip, unsigned len)
{
    struct ir_region *r = run->t.r;
    uint64_t lin = linear(run, rip);
    unsigned off = lin & (PAGE - 1);
    if (lin - off != run->page_lin || off + len > PAGE)
        return false;
    if (r->scan_lo == r->scan_hi) {
        r->scan_lo = off;
        r->scan_hi = off + len;
    }
    r->scan_lo = MIN(r->scan_lo, off);
    r->scan_hi = MAX(r->scan_hi, off + len);
    return true;
}

int x86_run_peek(struct x86_run *run, uint64_t rip)
{
    uint64_t lin = linear(run, rip);
    if (lin - (lin & (PAGE - 1)) != run->page_lin || !run->page[0] || !note_scan(run, rip, 1))
        return -1;
    return run->page[0][lin & (PAGE - 1)];
}

static uint16_t live_at(struct x86_run *run, uint64_t rip, unsigned budget, unsigned depth)
{
    uint16_t live = 0, killed = 0;
    while (budget--) {
        struct x86_insn in;
        uint8_t status;
        uint64_t gva;
        uint32_t error;
        uint16_t use, def;
        if (decode_at(run, rip, false, &in, &status, &gva, &error) != FETCHED || status != X86_DECODED ||
            !note_scan(run, rip, in.len))
            break;
        uint64_t next = x86_wrap_rip(run->t.code, rip + in.len);
        enum x86_flow flow = flow_of(run->t.code, &in);
        if (flow == X86_FLOW_JMP) {
            rip = x86_rel_target(run->t.code, &in, next);
            continue;
        }
        if (flow == X86_FLOW_COND && (in.map == X86_MAP_0F || in.opcode < 0x80) && depth) {
            uint16_t other = live_at(run, x86_rel_target(run->t.code, &in, next), 3, depth - 1);
            live |= (x86_cond_flags(in.opcode & 15) | other) & ~killed;
            rip = next;
            continue;
        }
        if (flow != X86_FLOW_NEXT || !effect(&in, run->t.code, &use, &def))
            break;
        live |= use & ~killed;
        killed |= def;
        if ((live | killed) == ARITH)
            return live;
        rip = next;
    }
    return live | (ARITH & ~killed);
}

uint16_t x86_run_flags_live(struct x86_run *run, uint64_t rip)
{
    if (run->t.mode & JIT_MODE_SINGLE)
        return ARITH;
    return live_at(run, rip, 6, 1);
}
