/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cpu/x86/x86_state_text.h"

#include <stddef.h>
#include <string.h>

enum kind { KIND_FIELD, KIND_ARRAY, KIND_SEGMENT, KIND_TABLE };
struct row {
    const char *name;
    size_t offset;
    enum kind kind;
    uint16_t size, count; /* of one number; numbers */
};

#define MEMBER(m) (((struct x86_state *)0)->m)
#define FIELD(name, m) { name, offsetof(struct x86_state, m), KIND_FIELD, sizeof(MEMBER(m)), 1 },
#define ARRAY(name, m) { name, offsetof(struct x86_state, m), KIND_ARRAY, sizeof(MEMBER(m)[0]), sizeof(MEMBER(m)) / sizeof(MEMBER(m)[0]) },
#define SEGMENT(name, m) { name, offsetof(struct x86_state, m), KIND_SEGMENT, 0, 1 },
#define TABLE(name, m) { name, offsetof(struct x86_state, m), KIND_TABLE, 0, 1 },
static const struct row rows[] = {
#include "cpu/x86/x86_state_fields.inc"
};

static uint64_t number(const void *p, unsigned size)
{
    uint64_t v = 0;
    memcpy(&v, p, size);
    return v;
}

/* ---- comparing ---- */

struct compare {
    void (*differs)(void *opaque, const char *name, uint64_t a, uint64_t b);
    void *opaque;
    unsigned n;
};

static void check(struct compare *c, uint64_t a, uint64_t b, const char *format, ...) G_GNUC_PRINTF(4, 5);
static void check(struct compare *c, uint64_t a, uint64_t b, const char *format, ...)
{
    if (a == b)
        return;
    va_list ap;
    va_start(ap, format);
    g_autofree char *name = g_strdup_vprintf(format, ap);
    va_end(ap);
    c->n++;
    if (c->differs)
        c->differs(c->opaque, name, a, b);
}

/* Base, limit and rights of an unusable segment mean nothing but for the bases of FS and GS (SDM vol. 3, 3.4.4), and the
 * accessed bit of a null selector neither. */
static void compare_segment(struct compare *c, const char *name, const struct x86_segment *a, const struct x86_segment *b)
{
    check(c, a->sel, b->sel, "%s.sel", name);
    check(c, a->attr & X86_ATTR_UNUSABLE, b->attr & X86_ATTR_UNUSABLE, "%s.unusable", name);
    bool unusable = a->attr & b->attr & X86_ATTR_UNUSABLE;
    if (!unusable || name[0] == 'f' || name[0] == 'g')
        check(c, a->base, b->base, "%s.base", name);
    if (unusable)
        return;
    check(c, a->limit, b->limit, "%s.limit", name);
    check(c, a->attr, b->attr, "%s.attr", name);
}

static void compare_row(struct compare *c, const struct row *r, const struct x86_state *sa, const struct x86_state *sb)
{
    const uint8_t *a = (const uint8_t *)sa + r->offset, *b = (const uint8_t *)sb + r->offset;
    switch (r->kind) {
    case KIND_FIELD:
        check(c, number(a, r->size), number(b, r->size), "%s", r->name);
        break;
    case KIND_ARRAY:
        for (unsigned i = 0; i < r->count; i++)
            check(c, number(a + i * r->size, r->size), number(b + i * r->size, r->size), "%s[%u]", r->name, i);
        break;
    case KIND_SEGMENT:
        compare_segment(c, r->name, (const struct x86_segment *)a, (const struct x86_segment *)b);
        break;
    case KIND_TABLE:
        check(c, ((const struct x86_dtable *)a)->base, ((const struct x86_dtable *)b)->base, "%s.base", r->name);
        check(c, ((const struct x86_dtable *)a)->limit, ((const struct x86_dtable *)b)->limit, "%s.limit", r->name);
        break;
    }
}

/* What goes with something that is not there. */
static bool meaningless(const struct row *r, const struct x86_state *a, const struct x86_state *b)
{
    if (g_str_has_prefix(r->name, "exception_") && r->offset != offsetof(struct x86_state, exception_pending))
        return !a->exception_pending && !b->exception_pending;
    if (r->offset == offsetof(struct x86_state, interrupt_vector) || r->offset == offsetof(struct x86_state, interrupt_soft))
        return !a->interrupt_injected && !b->interrupt_injected;
    if (r->offset == offsetof(struct x86_state, sipi_vector))
        return a->activity != X86_SIPI_RECEIVED && b->activity != X86_SIPI_RECEIVED;
    return false;
}

enum { AT_MXCSR_MASK = 28, AT_UNUSED = 416, AT_HEADER = 512, AT_EXTENDED = 576 };

/* The image with components that are in their initial state filled in (SDM vol. 1, 13.6), as far as they have a fixed place. */
static void expand(const struct x86_state *s, uint8_t *ret)
{
    uint64_t bv = number(s->xsave + AT_HEADER, 8);
    memcpy(ret, s->xsave, X86_XSAVE_SIZE);
    if (!(bv & 1)) {
        memset(ret, 0, 24);
        memset(ret + 32, 0, 128);
        ret[0] = 0x7f;
        ret[1] = 0x03;
    }
    if (!(bv & 2))
        memset(ret + 160, 0, 256);
    if (!(bv & 4))
        memset(ret + AT_EXTENDED, 0, 256);
    memset(ret + AT_MXCSR_MASK, 0, 4);                  /* the processor's, not the guest's */
    memset(ret + AT_UNUSED, 0, AT_EXTENDED - AT_UNUSED);
}

static void compare_xsave(struct compare *c, const struct x86_state *a, const struct x86_state *b)
{
    g_autofree uint8_t *x = g_malloc(X86_XSAVE_SIZE), *y = g_malloc(X86_XSAVE_SIZE);
    expand(a, x);
    expand(b, y);
    for (unsigned i = 0; i < X86_XSAVE_SIZE; i += 8)
        check(c, number(x + i, 8), number(y + i, 8), "xsave+%#x", i);
}

/* Both lists are in ascending order. One that only one side has counts as zero on the other. */
static void compare_msrs(struct compare *c, const struct x86_state *a, const struct x86_state *b)
{
    unsigned i = 0, j = 0, na = MIN(a->nmsrs, X86_MSRS_MAX), nb = MIN(b->nmsrs, X86_MSRS_MAX);
    while (i < na || j < nb) {
        uint32_t x = i < na ? a->msrs[i].index : UINT32_MAX, y = j < nb ? b->msrs[j].index : UINT32_MAX, at = MIN(x, y);
        check(c, x == at ? a->msrs[i].value : 0, y == at ? b->msrs[j].value : 0, "msr %#x", at);
        i += x == at;
        j += y == at;
    }
}

unsigned x86_state_compare(const struct x86_state *a, const struct x86_state *b,
                           void (*differs)(void *opaque, const char *name, uint64_t a, uint64_t b), void *opaque)
{
    struct compare c = { differs, opaque, 0 };
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (!meaningless(&rows[i], a, b))
            compare_row(&c, &rows[i], a, b);
    }
    compare_xsave(&c, a, b);
    compare_msrs(&c, a, b);
    check(&c, a->nested_size, b->nested_size, "nested.size");
    for (unsigned i = 0; i < MIN(MIN(a->nested_size, b->nested_size), X86_NESTED_SIZE); i += 8)
        check(&c, number(a->nested + i, 8), number(b->nested + i, 8), "nested+%#x", i);
    return c.n;
}

/* ---- words ---- */

static void print_row(GString *s, const struct row *r, const struct x86_state *state)
{
    const uint8_t *p = (const uint8_t *)state + r->offset;
    const struct x86_segment *seg = (const struct x86_segment *)p;
    const struct x86_dtable *table = (const struct x86_dtable *)p;
    switch (r->kind) {
    case KIND_FIELD:
        g_string_append_printf(s, "%s=%0*" G_GINT64_MODIFIER "x", r->name, r->size == 8 ? 16 : 1, number(p, r->size));
        break;
    case KIND_ARRAY:
        for (unsigned i = 0; i < r->count; i++)
            g_string_append_printf(s, "%s%s[%u]=%" G_GINT64_MODIFIER "x", i ? " " : "", r->name, i, number(p + i * r->size, r->size));
        break;
    case KIND_SEGMENT:
        g_string_append_printf(s, "%s=%04x base %016" G_GINT64_MODIFIER "x limit %08x rights %05x", r->name, seg->sel, seg->base, seg->limit,
                               seg->attr);
        break;
    case KIND_TABLE:
        g_string_append_printf(s, "%s base %016" G_GINT64_MODIFIER "x limit %04x", r->name, table->base, table->limit);
        break;
    }
}

/* Which rows begin a line; MTRRs are left out, they fill a page and nobody looks for them. */
char *x86_state_text(const struct x86_state *state)
{
    static const char *const heads[] = { "rax", "rsi", "r10", "r14", "es", "cs", "ss", "ds", "fs", "gs", "ldt", "tr", "gdt", "idt", "cr0", "cr8",
                                         "dr", "efer", "cstar", "sysenter_cs", "pat", "tsc_aux", "tsc_offset", "mcg_status", "exception_pending",
                                         "interrupt_injected", "smm", NULL };
    GString *s = g_string_new(NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (g_str_has_prefix(rows[i].name, "mtrr"))
            continue;
        if (s->len)
            g_string_append_c(s, g_strv_contains(heads, rows[i].name) ? '\n' : ' ');
        print_row(s, &rows[i], state);
    }
    return g_string_free(s, FALSE);
}

char *x86_state_brief(const struct x86_state *s)
{
    return g_strdup_printf("rip %04x:%" G_GINT64_MODIFIER "x rsp %" G_GINT64_MODIFIER "x rflags %" G_GINT64_MODIFIER "x cr0 %" G_GINT64_MODIFIER
                           "x cr2 %" G_GINT64_MODIFIER "x cr3 %" G_GINT64_MODIFIER "x cr4 %" G_GINT64_MODIFIER "x efer %" G_GINT64_MODIFIER
                           "x rax %" G_GINT64_MODIFIER "x rcx %" G_GINT64_MODIFIER "x rdx %" G_GINT64_MODIFIER "x", s->seg[X86_CS].sel, s->rip,
                           s->gpr[X86_RSP], s->rflags, s->cr0, s->cr2, s->cr3, s->cr4, s->efer, s->gpr[X86_RAX], s->gpr[X86_RCX], s->gpr[X86_RDX]);
}
