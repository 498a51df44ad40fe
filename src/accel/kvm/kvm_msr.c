/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Model-specific registers (4.3 KVM_GET_MSR_INDEX_LIST, 4.18 KVM_GET_MSRS, 4.19 KVM_SET_MSRS). Those with a field of the
 * canonical state are rows here; of all others that the kernel lists as the guest's, the state names those that differ from
 * what a new vCPU has. So a guest that never touched them has none, and runs under any accelerator.
 */
#include "accel/kvm/kvm.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/error.h"

struct field {
    uint32_t index;
    uint16_t offset; /* in x86_state */
    bool soft;       /* a value that the kernel does not take is kept here: it changes nothing that the guest does */
};
#define F(index, name) { index, offsetof(struct x86_state, name), false }
#define SOFT(index, name) { index, offsetof(struct x86_state, name), true }
#define M(i) F(0x200 + 2 * i, mtrr_base[i]), F(0x201 + 2 * i, mtrr_mask[i])

/* SDM vol. 4, table 2-2; APM vol. 2, appendix A. EFER, APIC base and the segments' bases are in the special registers. */
static const struct field fields[] = {
    F(0x174, sysenter_cs), F(0x175, sysenter_esp), F(0x176, sysenter_eip), F(0x277, pat), F(0xc0000081, star), F(0xc0000082, lstar),
    F(0xc0000083, cstar), F(0xc0000084, sfmask), F(0xc0000102, kernel_gs_base),
    /* not on every host: */
    SOFT(0x3a, feature_control), F(0x3b, tsc_adjust), F(0x48, spec_ctrl), F(0x17a, mcg_status), SOFT(0x1a0, misc_enable), F(0x1d9, debugctl),
    F(0xda0, xss), F(0xc0000103, tsc_aux),
    /* never in the kernel's list, always there */
    F(0x2ff, mtrr_def), F(0x250, mtrr_fix[0]), F(0x258, mtrr_fix[1]), F(0x259, mtrr_fix[2]), F(0x268, mtrr_fix[3]), F(0x269, mtrr_fix[4]),
    F(0x26a, mtrr_fix[5]), F(0x26b, mtrr_fix[6]), F(0x26c, mtrr_fix[7]), F(0x26d, mtrr_fix[8]), F(0x26e, mtrr_fix[9]), F(0x26f, mtrr_fix[10]),
    M(0), M(1), M(2), M(3), M(4), M(5), M(6), M(7),
};
#define NFIELDS G_N_ELEMENTS(fields)
G_STATIC_ASSERT(NFIELDS <= 64); /* kvm_machine.msr_fields */
#define IA32_SMBASE 0x9e
#define IA32_DEBUGCTL 0x1d9

/* Registers in the kernel's list that are kept elsewhere, or describe the host and not the guest's state. */
static bool elsewhere(uint32_t i)
{
    static const uint32_t list[] = {
        0x10,  /* TSC: x86_state.tsc_offset */
        0x6e0, /* TSC deadline: the local APIC's state */
        0x1b, 0xc0000080, 0xc0000100, 0xc0000101, /* special registers */
        IA32_SMBASE,
        0x8b, 0xce, 0x10a, 0x345, 0xc0000104, /* microcode, platform, ARCH_CAPABILITIES, PERF_CAPABILITIES, TSC ratio */
        0x11, 0x12, /* kvmclock by its old numbers: the same registers as 0x4b564d00 and 01 */
        0x4b564d07, /* async page fault acknowledge: write-only */
    };
    for (unsigned k = 0; k < G_N_ELEMENTS(list); k++)
        if (list[k] == i)
            return true;
    for (unsigned k = 0; k < NFIELDS; k++)
        if (fields[k].index == i)
            return true;
    return (i >= 0x480 && i <= 0x493) ||              /* VMX capabilities */
           (i >= 0x40000000 && i <= 0x400000ff) ||    /* Hyper-V's, which we do not offer */
           (i >= 0xc1 && i <= 0xc8) || (i >= 0x186 && i <= 0x18d) || (i >= 0x309 && i <= 0x30c) || (i >= 0x38d && i <= 0x390) || i == 0x3f1 ||
           (i >= 0x600 && i <= 0x6a3 && i != 0x6a0 && i != 0x6a2) || (i >= 0xc0010000 && i <= 0xc0010007) || (i >= 0xc0010200 && i <= 0xc001020b) ||
           (i >= 0xc0000300 && i <= 0xc0000302);      /* performance counters: there is no virtual PMU */
}

static struct kvm_msrs *list_new(unsigned n)
{
    return g_malloc0(sizeof(struct kvm_msrs) + n * sizeof(struct kvm_msr_entry));
}

/* seccomp(main, vcpu-kvm): ioctl(KVM_GET_MSRS KVM_SET_MSRS) */
bool kvm_msr_read_one(struct kvm_vcpu *v, uint32_t index, uint64_t *ret)
{
    g_autofree struct kvm_msrs *l = list_new(1);
    l->nmsrs = 1;
    l->entries[0].index = index;
    if (kvm_ioctl(v->fd, KVM_GET_MSRS, l) != 1)
        return false;
    *ret = l->entries[0].data;
    return true;
}

bool kvm_msr_write_one(struct kvm_vcpu *v, uint32_t index, uint64_t value)
{
    g_autofree struct kvm_msrs *l = list_new(1);
    l->nmsrs = 1;
    l->entries[0] = (struct kvm_msr_entry){ .index = index, .data = value };
    return kvm_ioctl(v->fd, KVM_SET_MSRS, l) == 1;
}

static int by_index(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

void kvm_msr_init(struct kvm_machine *m)
{
    g_autofree struct kvm_msr_list *l = g_malloc0(sizeof(*l) + 1024 * sizeof(uint32_t));
    l->nmsrs = 1024;
    if (kvm_ioctl(m->kvm, KVM_GET_MSR_INDEX_LIST, l) < 0)
        l->nmsrs = 0;
    for (unsigned i = 0; i < l->nmsrs && m->msrs.n < KVM_MSRS_MAX - 16; i++)
        if (!elsewhere(l->indices[i]))
            m->msrs.index[m->msrs.n++] = l->indices[i];
    for (uint32_t i = 0x400; m->caps.mce && i < 0x410; i++) /* machine check banks are not in the list */
        m->msrs.index[m->msrs.n++] = i;
    qsort(m->msrs.index, m->msrs.n, sizeof(uint32_t), by_index);
    m->msr_defaults = NULL;
}

/* Reads as many registers as there are; those that the vCPU does not have read as 0 and are noted in `absent` (bit per entry). */
static void read_list(struct kvm_vcpu *v, const uint32_t *index, unsigned n, uint64_t *ret, uint64_t *absent)
{
    g_autofree struct kvm_msrs *l = list_new(n);
    for (unsigned at = 0; at < n;) {
        l->nmsrs = n - at;
        for (unsigned i = at; i < n; i++)
            l->entries[i - at] = (struct kvm_msr_entry){ .index = index[i] };
        int got = kvm_ioctl(v->fd, KVM_GET_MSRS, l);
        got = got < 0 ? 0 : got;
        for (int i = 0; i < got; i++)
            ret[at + (unsigned)i] = l->entries[i].data;
        at += (unsigned)got;
        if (at < n) {
            ret[at] = 0;
            if (absent)
                absent[at / 64] |= 1ull << (at % 64);
            at++;
        }
    }
}

/* The registers of a new vCPU, and which exist at all: asked once, of the first vCPU. */
bool kvm_msr_vcpu_init(struct kvm_vcpu *v, GError **error)
{
    struct kvm_machine *m = v->machine;
    v->msr_shadow = g_new0(uint64_t, NFIELDS);
    if (m->msr_defaults)
        return true;
    uint64_t absent[KVM_MSRS_MAX / 64 + 1] = { 0 }, values[MAX(KVM_MSRS_MAX, NFIELDS)];
    uint32_t index[NFIELDS];
    read_list(v, m->msrs.index, m->msrs.n, values, absent);
    unsigned n = 0;
    for (unsigned i = 0; i < m->msrs.n; i++)
        if (!(absent[i / 64] >> (i % 64) & 1)) {
            m->msrs.index[n] = m->msrs.index[i];
            values[n++] = values[i];
        }
    m->msrs.n = n;
    m->msr_defaults = g_memdup2(values, MAX(n, 1u) * sizeof(uint64_t));
    for (unsigned i = 0; i < NFIELDS; i++)
        index[i] = fields[i].index;
    memset(absent, 0, sizeof(absent));
    read_list(v, index, NFIELDS, values, absent);
    atomic_store(&m->msr_fields, ~absent[0]);
    return true;
}

static bool has_field(const struct kvm_machine *m, unsigned i)
{
    return atomic_load_explicit(&m->msr_fields, memory_order_relaxed) >> i & 1;
}

static uint64_t *field_of(struct x86_state *s, unsigned i)
{
    return (uint64_t *)((char *)s + fields[i].offset);
}

/* On AMD-V the kernel keeps 32 bits of SYSENTER_ESP and _EIP when we write them, and all when the guest does, who cannot use the upper
 * ones (APM vol. 2, 6.1.2). */
static uint64_t uncut(const struct kvm_vcpu *v, unsigned i, uint64_t value)
{
    bool sysenter = fields[i].index == 0x175 || fields[i].index == 0x176;
    return sysenter && value == (uint32_t)v->msr_shadow[i] ? v->msr_shadow[i] : value;
}

bool kvm_msr_get(struct kvm_vcpu *v, struct x86_state *s)
{
    struct kvm_machine *m = v->machine;
    uint32_t index[NFIELDS + KVM_MSRS_MAX];
    uint64_t values[NFIELDS + KVM_MSRS_MAX], smbase;
    unsigned n = 0, at = 0;
    for (unsigned i = 0; i < NFIELDS; i++)
        if (has_field(m, i))
            index[n++] = fields[i].index;
    memcpy(index + n, m->msrs.index, m->msrs.n * sizeof(uint32_t));
    read_list(v, index, n + m->msrs.n, values, NULL);
    for (unsigned i = 0; i < NFIELDS; i++)
        *field_of(s, i) = has_field(m, i) ? uncut(v, i, values[at++]) : v->msr_shadow[i];
    for (unsigned i = 0; i < m->msrs.n && s->nmsrs < X86_MSRS_MAX; i++)
        if (values[n + i] != m->msr_defaults[i])
            s->msrs[s->nmsrs++] = (struct x86_msr){ .index = m->msrs.index[i], .value = values[n + i] };
    s->smbase = m->caps.smm && kvm_msr_read_one(v, IA32_SMBASE, &smbase) ? (uint32_t)smbase : 0;
    return true;
}

/* What the state says of register `index`; else its value in a new vCPU. */
static uint64_t wanted(const struct x86_state *s, uint32_t index, uint64_t otherwise, bool *ret_named)
{
    *ret_named = false;
    for (unsigned i = 0; i < MIN(s->nmsrs, (uint32_t)X86_MSRS_MAX); i++)
        if (s->msrs[i].index == index) {
            *ret_named = true;
            return s->msrs[i].value;
        }
    return otherwise;
}

static bool all_known(const struct kvm_machine *m, const struct x86_state *s, GError **error)
{
    for (unsigned i = 0; i < MIN(s->nmsrs, (uint32_t)X86_MSRS_MAX); i++) {
        if (s->msrs[i].value && !bsearch(&s->msrs[i].index, m->msrs.index, m->msrs.n, sizeof(uint32_t), by_index))
            return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "the guest uses MSR %#x (value %#llx), which this kernel's KVM does not have",
                              s->msrs[i].index, (unsigned long long)s->msrs[i].value);
    }
    return true;
}

bool kvm_msr_set(struct kvm_vcpu *v, const struct x86_state *s, GError **error)
{
    struct kvm_machine *m = v->machine;
    g_autofree struct kvm_msrs *l = list_new(NFIELDS + KVM_MSRS_MAX);
    bool must[NFIELDS + KVM_MSRS_MAX] = { false };
    uint8_t row[NFIELDS]; /* of each entry that is a field's */
    unsigned n = 0, at = 0;
    if (!all_known(m, s, error))
        return false;
    for (unsigned i = 0; i < NFIELDS; i++) {
        uint64_t value = *field_of((struct x86_state *)s, i);
        v->msr_shadow[i] = value;
        uint64_t now;
        if (!has_field(m, i) || (fields[i].index == IA32_DEBUGCTL && kvm_msr_read_one(v, IA32_DEBUGCTL, &now) && now == value))
            continue; /* the kernel notes every write of DEBUGCTL in its log */
        must[n] = value != 0 && !fields[i].soft;
        row[n] = (uint8_t)i;
        l->entries[n++] = (struct kvm_msr_entry){ .index = fields[i].index, .data = value };
    }
    unsigned nfields = n;
    for (unsigned i = 0; i < m->msrs.n; i++) {
        uint64_t value = wanted(s, m->msrs.index[i], m->msr_defaults[i], &must[n]);
        l->entries[n++] = (struct kvm_msr_entry){ .index = m->msrs.index[i], .data = value };
    }
    if (m->caps.smm && s->smbase)
        (void)kvm_msr_write_one(v, IA32_SMBASE, s->smbase);
    /* The call stops at the first register that the kernel refuses: an error when it matters, else on behind it. */
    while (at < n) {
        g_autofree struct kvm_msrs *part = list_new(n - at);
        part->nmsrs = n - at;
        memcpy(part->entries, l->entries + at, (n - at) * sizeof(*l->entries));
        int done = kvm_ioctl(v->fd, KVM_SET_MSRS, part);
        at += done < 0 ? 0 : (unsigned)done;
        if (at < n && must[at])
            return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "KVM refuses the value %#llx of MSR %#x", (unsigned long long)l->entries[at].data,
                              l->entries[at].index);
        if (at < nfields && fields[row[at]].soft)
            atomic_fetch_and(&m->msr_fields, ~(1ull << row[at]));
        at++;
    }
    return true;
}

/* ---- registers that belong to the machine: with the local APIC outside, accesses to what the kernel has no part in come to
 * the bus (7.21 KVM_CAP_X86_USER_SPACE_MSR, 4.97 KVM_X86_SET_MSR_FILTER) ---- */

bool kvm_msr_filter(struct kvm_machine *m, GError **error)
{
    uint8_t none[1] = { 0 };
    struct kvm_msr_filter f = { .flags = KVM_MSR_FILTER_DEFAULT_ALLOW,
                                .ranges = { { .flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, .nmsrs = 1, .base = 0x6e0, .bitmap = none } } };
    if (m->irqchip != ACCEL_IRQCHIP_OFF)
        return true;
    m->caps.user_msr = m->caps.user_msr && m->caps.msr_filter &&
                       kvm_enable(m->vm, KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER) &&
                       kvm_ioctl(m->vm, KVM_X86_SET_MSR_FILTER, &f) == 0;
    return true;
}
