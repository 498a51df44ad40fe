/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MOVS, STOS, LODS, SCAS, CMPS, INS, OUTS with their repeats. SDM vol. 2; vol. 1, 7.3.9. Light code. Work goes in runs of
 * elements that stay in one page on either side and do not wrap; a run works on host memory directly. What is not plain
 * memory, or crosses a page, goes element by element. Registers are written after each run, so a fault or an interrupt
 * finds them as far as the instruction has come.
 */
#include "accel/jit/guest-x86/x86_helpers.h"

#define RUN_BYTES 4096u

struct string {
    struct jit_cpu *cpu;
    unsigned size, addrsize, rep;
    enum x86_seg seg; /* of the source */
    bool down;
    unsigned mmu;
    uint64_t amask, count; /* count: elements left */
};

/* One side of the operation: where it is, and how. */
struct side {
    unsigned reg;
    enum x86_seg seg;
    unsigned kind;
    uint64_t lin;
    uint8_t *host; /* NULL: element by element */
};

static struct string begin(struct jit_cpu *cpu, uint64_t c)
{
    struct string s = {
        .cpu = cpu, .size = c & 0xff, .addrsize = c >> 8 & 0xff, .rep = c >> 16 & 0xff, .seg = (enum x86_seg)(c >> 24 & 0xff),
        .down = (cpu->s.rflags & X86_FL_DF) != 0, .mmu = JIT_MODE_MMU(cpu->mode),
    };

    s.amask = s.addrsize == 8 ? ~0ull : s.addrsize == 4 ? 0xffffffffull : 0xffff;
    s.count = s.rep ? cpu->s.gpr[X86_RCX] & s.amask : 1;
    return s;
}

static uint64_t offset_of(const struct string *s, unsigned reg)
{
    return s->cpu->s.gpr[reg] & s->amask;
}

static void set_reg(const struct string *s, unsigned reg, uint64_t v)
{
    uint64_t *r = &s->cpu->s.gpr[reg];

    *r = s->addrsize == 2 ? (*r & ~0xffffull) | (v & 0xffff) : v & s->amask;
}

static void advance(const struct string *s, unsigned reg, uint64_t n)
{
    uint64_t bytes = n * s->size;

    set_reg(s, reg, s->cpu->s.gpr[reg] + (s->down ? -bytes : bytes));
}

static void consumed(struct string *s, uint64_t n)
{
    s->count -= n;
    if (s->rep) {
        set_reg(s, X86_RCX, s->count);
    }
}

/* Segments that need no check: all of ES CS SS DS in a flat mode, all in 64-bit code. */
static bool flat(const struct string *s, enum x86_seg seg)
{
    uint32_t mode = s->cpu->mode;

    return JIT_MODE_CODE(mode) == JIT_MODE_CODE64 || ((mode & JIT_MODE_FLAT) && seg <= X86_DS);
}

static uint64_t linear_of(const struct string *s, enum x86_seg seg, uint64_t off, unsigned kind)
{
    if (JIT_MODE_CODE(s->cpu->mode) == JIT_MODE_CODE64) {
        return seg >= X86_FS ? off + s->cpu->seg_base[seg] : off;
    }
    return flat(s, seg) ? (uint32_t)off : x86_seg_lin(s->cpu, seg, off, s->size, kind);
}

static uint64_t linear(const struct string *s, enum x86_seg seg, uint64_t off, unsigned kind)
{
    uint64_t lin = linear_of(s, seg, off, kind);
    if (s->cpu->mode & JIT_MODE_DEBUG) {
        x86_h_debug_check(s->cpu, lin, 0, s->size | kind);
    }
    return lin;
}

/* Elements from the one at `off` on that stay within the segment: 1 when it is not plainly so. */
static uint64_t within_segment(const struct string *s, enum x86_seg seg, uint64_t off)
{
    const struct x86_segment *d = &s->cpu->s.seg[seg];

    if (flat(s, seg)) {
        return UINT64_MAX;
    }
    /* expand-down data segments, and descending strings, one at a time */
    if (s->down || (d->attr & 0xc) == 4 || off > d->limit) {
        return 1;
    }
    return (d->limit - off) / s->size;
}

static uint64_t at_most(uint64_t n, uint64_t limit)
{
    return n < limit ? n : limit;
}

/* Prepares a side and cuts the run *n to what it allows. Faults raise. */
static void prepare(const struct string *s, struct side *d, uint64_t *n)
{
    uint64_t off = offset_of(s, d->reg), room, page;
    unsigned left = 0;

    d->lin = linear(s, d->seg, off, d->kind);
    d->host = (uint8_t *)jit_host_ptr(s->cpu, d->lin, JIT_ACC(s->size, d->kind, s->mmu), &left);
    if (!d->host) {
        *n = 1;
        return;
    }
    if (s->down) {
        page = (d->lin & 4095) / s->size + 1;
        room = off / s->size + 1;
    } else {
        page = left / s->size;
        room = s->addrsize == 8 ? UINT64_MAX : (s->amask - off + 1) / s->size;
    }
    *n = at_most(*n, at_most(page, room));
    *n = at_most(*n, within_segment(s, d->seg, off));
    if (!*n) {
        *n = 1;
    }
}

/* Under the trap flag or with breakpoints each element is an end of its own. */
static bool one_by_one(const struct string *s)
{
    return s->cpu->mode & (JIT_MODE_STEP | JIT_MODE_DEBUG);
}

static uint64_t run_length(const struct string *s)
{
    if (one_by_one(s)) {
        return 1;
    }
    return at_most(s->count, RUN_BYTES / s->size);
}

/* After a run: 1 done, 0 to be continued later, -1 go on. */
static int finish(const struct string *s)
{
    if (!s->rep || !s->count) {
        return 1;
    }
    return one_by_one(s) || atomic_load_explicit(&s->cpu->attention, memory_order_relaxed) ? 0 : -1;
}

static uint64_t load_host(const uint8_t *p, unsigned size)
{
    switch (size) {
    case 1:
        return *p;
    case 2:
        return *(const volatile uint16_t *)p;
    case 4:
        return *(const volatile uint32_t *)p;
    default:
        return *(const volatile uint64_t *)p;
    }
}

static void store_host(uint8_t *p, unsigned size, uint64_t v)
{
    switch (size) {
    case 1:
        *(volatile uint8_t *)p = (uint8_t)v;
        break;
    case 2:
        *(volatile uint16_t *)p = (uint16_t)v;
        break;
    case 4:
        *(volatile uint32_t *)p = (uint32_t)v;
        break;
    default:
        *(volatile uint64_t *)p = v;
        break;
    }
}

static uint64_t load_side(const struct string *s, const struct side *d)
{
    return d->host ? load_host(d->host, s->size) : jit_load(s->cpu, d->lin, s->size, s->mmu);
}

/* ---- MOVS ---- */

/* The host's own instruction on elements of the same size: overlaps come out as the guest's would. */
static void copy_run(uint8_t *dst, const uint8_t *src, uint64_t n, unsigned size, bool down)
{
    uint64_t bytes = n * size, apart = (uint64_t)dst - (uint64_t)src;

    if (!down && (apart >= bytes || size == 1)) {
        /* no element reads what an earlier one wrote */
        if (bytes >= 32 || size == 1) {
            __asm__ volatile("rep movsb" : "+D"(dst), "+S"(src), "+c"(bytes) : : "memory");
            return;
        }
    }
    for (; n; n--) {
        store_host(dst, size, load_host(src, size));
        dst = down ? dst - size : dst + size;
        src = down ? src - size : src + size;
    }
}

uint64_t x86_h_movs(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    struct string s = begin(cpu, c);
    struct side src = { .reg = X86_RSI, .seg = s.seg, .kind = JIT_ACC_READ };
    struct side dst = { .reg = X86_RDI, .seg = X86_ES, .kind = JIT_ACC_WRITE };
    int done = s.count ? -1 : 1;

    while (done < 0) {
        uint64_t n = run_length(&s);

        prepare(&s, &src, &n);
        prepare(&s, &dst, &n);
        if (src.host && dst.host && n > 1) {
            copy_run(dst.host, src.host, n, s.size, s.down);
        } else {
            uint64_t v = load_side(&s, &src);

            n = 1;
            if (dst.host) {
                store_host(dst.host, s.size, v);
            } else {
                jit_store(cpu, dst.lin, s.size, s.mmu, v);
            }
        }
        advance(&s, X86_RSI, n);
        advance(&s, X86_RDI, n);
        consumed(&s, n);
        done = finish(&s);
    }
    return (uint64_t)done;
}

/* ---- STOS, LODS ---- */

static void fill_run(uint8_t *dst, uint64_t n, unsigned size, uint64_t v, bool down)
{
    if (down || n * size < 32) {
        for (; n; n--) {
            store_host(dst, size, v);
            dst = down ? dst - size : dst + size;
        }
        return;
    }
    switch (size) {
    case 1:
        __asm__ volatile("rep stosb" : "+D"(dst), "+c"(n) : "a"(v) : "memory");
        break;
    case 2:
        __asm__ volatile("rep stosw" : "+D"(dst), "+c"(n) : "a"(v) : "memory");
        break;
    case 4:
        __asm__ volatile("rep stosl" : "+D"(dst), "+c"(n) : "a"(v) : "memory");
        break;
    default:
        __asm__ volatile("rep stosq" : "+D"(dst), "+c"(n) : "a"(v) : "memory");
        break;
    }
}

uint64_t x86_h_stos(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    struct string s = begin(cpu, c);
    struct side dst = { .reg = X86_RDI, .seg = X86_ES, .kind = JIT_ACC_WRITE };
    uint64_t v = cpu->s.gpr[X86_RAX];
    int done = s.count ? -1 : 1;

    while (done < 0) {
        uint64_t n = run_length(&s);

        prepare(&s, &dst, &n);
        if (dst.host) {
            fill_run(dst.host, n, s.size, v, s.down);
        } else {
            jit_store(cpu, dst.lin, s.size, s.mmu, v);
        }
        advance(&s, X86_RDI, n);
        consumed(&s, n);
        done = finish(&s);
    }
    return (uint64_t)done;
}

static void set_rax(struct jit_cpu *cpu, unsigned size, uint64_t v)
{
    uint64_t *rax = &cpu->s.gpr[X86_RAX];

    switch (size) {
    case 1:
        *rax = (*rax & ~0xffull) | (v & 0xff);
        break;
    case 2:
        *rax = (*rax & ~0xffffull) | (v & 0xffff);
        break;
    case 4:
        *rax = (uint32_t)v;
        break;
    default:
        *rax = v;
        break;
    }
}

uint64_t x86_h_lods(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    struct string s = begin(cpu, c);
    struct side src = { .reg = X86_RSI, .seg = s.seg, .kind = JIT_ACC_READ };
    int done = s.count ? -1 : 1;

    while (done < 0) {
        uint64_t n = 1;

        prepare(&s, &src, &n);
        set_rax(cpu, s.size, load_side(&s, &src));
        advance(&s, X86_RSI, 1);
        consumed(&s, 1);
        done = finish(&s);
    }
    return (uint64_t)done;
}

/* ---- SCAS, CMPS ---- */

/* Flags of x - y in the form of jit_cpu.cc, which is LAHF and SETO's. */
static uint16_t compare(uint64_t x, uint64_t y, unsigned size)
{
    uint16_t cc;

    switch (size) {
    case 1:
        __asm__("cmpb %b2, %b1; lahf; seto %%al" : "=a"(cc) : "q"(x), "q"(y) : "cc");
        break;
    case 2:
        __asm__("cmpw %w2, %w1; lahf; seto %%al" : "=a"(cc) : "r"(x), "r"(y) : "cc");
        break;
    case 4:
        __asm__("cmpl %k2, %k1; lahf; seto %%al" : "=a"(cc) : "r"(x), "r"(y) : "cc");
        break;
    default:
        __asm__("cmpq %q2, %q1; lahf; seto %%al" : "=a"(cc) : "r"(x), "r"(y) : "cc");
        break;
    }
    return cc;
}

static bool goes_on(const struct string *s, bool equal)
{
    return s->rep == 1 ? equal : !equal;
}

/* Number of elements, 1 to n, up to and including the first at which the repeat ends; last values into *x, *y. Without `q`
 * the comparison is with *x. */
static uint64_t compare_run(const struct string *s, const uint8_t *p, const uint8_t *q, uint64_t n, uint64_t *x, uint64_t *y)
{
    int64_t step = s->down ? -(int64_t)s->size : (int64_t)s->size;
    uint64_t mask = s->size == 8 ? ~0ull : (1ull << (8 * s->size)) - 1, i;

    for (i = 1;; i++) {
        uint64_t u = q ? load_host(p, s->size) : *x, v = load_host(q ? q : p, s->size);

        if (i == n || !goes_on(s, (u & mask) == v)) {
            *x = u;
            *y = v;
            return i;
        }
        p += step;
        q = q ? q + step : NULL;
    }
}

uint64_t x86_h_scas(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    struct string s = begin(cpu, c);
    struct side dst = { .reg = X86_RDI, .seg = X86_ES, .kind = JIT_ACC_READ };
    int done = s.count ? -1 : 1;

    while (done < 0) {
        uint64_t n = run_length(&s), x = cpu->s.gpr[X86_RAX], y;

        prepare(&s, &dst, &n);
        if (dst.host) {
            n = compare_run(&s, dst.host, NULL, n, &x, &y);
        } else {
            y = jit_load(cpu, dst.lin, s.size, s.mmu);
        }
        cpu->cc = compare(x, y, s.size);
        advance(&s, X86_RDI, n);
        consumed(&s, n);
        done = goes_on(&s, cpu->cc >> 8 & X86_FL_ZF) ? finish(&s) : 1;
    }
    return (uint64_t)done;
}

uint64_t x86_h_cmps(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    struct string s = begin(cpu, c);
    struct side src = { .reg = X86_RSI, .seg = s.seg, .kind = JIT_ACC_READ };
    struct side dst = { .reg = X86_RDI, .seg = X86_ES, .kind = JIT_ACC_READ };
    int done = s.count ? -1 : 1;

    while (done < 0) {
        uint64_t n = run_length(&s), x, y;

        prepare(&s, &src, &n);
        prepare(&s, &dst, &n);
        if (src.host && dst.host) {
            n = compare_run(&s, src.host, dst.host, n, &x, &y);
        } else {
            n = 1;
            x = load_side(&s, &src);
            y = load_side(&s, &dst);
        }
        cpu->cc = compare(x, y, s.size);
        advance(&s, X86_RSI, n);
        advance(&s, X86_RDI, n);
        consumed(&s, n);
        done = goes_on(&s, cpu->cc >> 8 & X86_FL_ZF) ? finish(&s) : 1;
    }
    return (uint64_t)done;
}

/* ---- INS, OUTS ---- */

uint64_t x86_h_ins(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    struct string s = begin(cpu, c);
    unsigned port = cpu->s.gpr[X86_RDX] & 0xffff;
    int done = s.count ? -1 : 1;

    x86_io_check(cpu, port, s.size);
    while (done < 0) {
        uint64_t lin = linear(&s, X86_ES, offset_of(&s, X86_RDI), JIT_ACC_WRITE);

        jit_probe(cpu, lin, s.size, JIT_ACC_WRITE, s.mmu); /* reading the port cannot be undone */
        jit_store(cpu, lin, s.size, s.mmu, jit_pio_read(cpu, port, s.size));
        advance(&s, X86_RDI, 1);
        consumed(&s, 1);
        done = finish(&s);
    }
    return (uint64_t)done;
}

uint64_t x86_h_outs(struct jit_cpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
    struct string s = begin(cpu, c);
    unsigned port = cpu->s.gpr[X86_RDX] & 0xffff;
    int done = s.count ? -1 : 1;

    x86_io_check(cpu, port, s.size);
    while (done < 0) {
        uint64_t lin = linear(&s, s.seg, offset_of(&s, X86_RSI), JIT_ACC_READ);
        uint64_t v = jit_load(cpu, lin, s.size, s.mmu);

        jit_pio_write(cpu, port, s.size, v);
        advance(&s, X86_RSI, 1);
        consumed(&s, 1);
        done = finish(&s);
    }
    return (uint64_t)done;
}
