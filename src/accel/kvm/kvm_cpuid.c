/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the guest sees by CPUID: the model's answers (src/cpu/x86), as a table for the kernel (4.20 KVM_SET_CPUID2); and which
 * features the kernel can give a guest on this host (4.46 KVM_GET_SUPPORTED_CPUID).
 */
#include "accel/kvm/kvm.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/error.h"

enum { MAX_ENTRIES = 256, SVM_LEAF = 0x8000000a };

struct feature_bit {
    uint32_t leaf;
    uint8_t subleaf, reg, bit;
};
static const struct feature_bit bits[X86_NFEATURES] = {
#define X86_FEATURE(id, name, leaf, subleaf, reg, bit) { leaf, subleaf, reg, bit },
#include "cpu/x86/x86_features.inc"
#undef X86_FEATURE
};

/* Features whose registers or leaves the models do not have: performance counters, branch records, enclaves, shadow stacks. */
static const uint16_t withheld[] = {
    X86_FEAT_PDCM, X86_FEAT_DS, X86_FEAT_DS_CPL, X86_FEAT_DTES64, X86_FEAT_PERFCTR_CORE, X86_FEAT_PERFCTR_NB, X86_FEAT_PERFCTR_LLC, X86_FEAT_ARCH_LBR,
    X86_FEAT_SGX, X86_FEAT_SGXLC, X86_FEAT_INTEL_PT, X86_FEAT_SHSTK, X86_FEAT_IBT, X86_FEAT_FRED, X86_FEAT_MONITOR, X86_FEAT_IBS, X86_FEAT_XFD,
    X86_FEAT_AMX_TILE, X86_FEAT_AMX_INT8, X86_FEAT_AMX_BF16, X86_FEAT_AMX_FP16, X86_FEAT_BUS_LOCK_DETECT, X86_FEAT_PCONFIG, X86_FEAT_CQM, X86_FEAT_RDT_A,
};
/* What depends on a local APIC in the kernel. */
static const uint16_t need_lapic[] = { X86_FEAT_KVM_PV_EOI, X86_FEAT_KVM_PV_UNHALT, X86_FEAT_KVM_PV_IPI, X86_FEAT_KVM_ASYNCPF, X86_FEAT_KVM_ASYNCPF_INT,
                                       X86_FEAT_KVM_ASYNCPF_VMEXIT, X86_FEAT_KVM_POLL_CONTROL, X86_FEAT_KVM_PV_SCHED_YIELD };

static struct kvm_cpuid2 *table_new(void)
{
    struct kvm_cpuid2 *t = g_malloc0(sizeof(*t) + MAX_ENTRIES * sizeof(struct kvm_cpuid_entry2));
    t->nent = MAX_ENTRIES;
    return t;
}

static struct kvm_cpuid2 *supported_table(int kvm)
{
    struct kvm_cpuid2 *t = table_new();
    if (kvm_ioctl(kvm, KVM_GET_SUPPORTED_CPUID, t) < 0)
        t->nent = 0;
    return t;
}

static const struct kvm_cpuid_entry2 *find(const struct kvm_cpuid2 *t, uint32_t leaf, uint32_t subleaf)
{
    for (unsigned i = 0; i < t->nent; i++)
        if (t->entries[i].function == leaf && (t->entries[i].index == subleaf || !(t->entries[i].flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX)))
            return &t->entries[i];
    return NULL;
}

static void set_bit(uint64_t *set, unsigned f, bool on)
{
    if (on)
        set[f / 64] |= 1ull << (f % 64);
    else
        set[f / 64] &= ~(1ull << (f % 64));
}

void kvm_features(const char *device, uint64_t *ret)
{
    memset(ret, 0, (X86_NFEATURES + 63) / 64 * sizeof(*ret));
    int fd = kvm_open(device, NULL);
    if (fd < 0)
        return;
    g_autofree struct kvm_cpuid2 *t = supported_table(fd);
    for (unsigned i = 0; i < X86_NFEATURES; i++) {
        const struct kvm_cpuid_entry2 *e = find(t, bits[i].leaf, bits[i].subleaf);
        const uint32_t regs[4] = { e ? e->eax : 0, e ? e->ebx : 0, e ? e->ecx : 0, e ? e->edx : 0 };
        set_bit(ret, i, regs[bits[i].reg] >> bits[i].bit & 1);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(withheld); i++)
        set_bit(ret, withheld[i], false);
    /* Provided by the kernel's, or our, local APIC whatever the CPU has. */
    set_bit(ret, X86_FEAT_X2APIC, true);
    set_bit(ret, X86_FEAT_HYPERVISOR, true);
    set_bit(ret, X86_FEAT_TSC_DEADLINE, kvm_check(fd, KVM_CAP_TSC_DEADLINE_TIMER));
    if (!kvm_check(fd, KVM_CAP_NESTED_STATE)) { /* its state could not be moved or reset */
        set_bit(ret, X86_FEAT_SVM, false);
        set_bit(ret, X86_FEAT_VMX, false);
    }
    for (unsigned i = 0; i < X86_NFEATURES; i++)
        if (bits[i].leaf == SVM_LEAF && !(ret[X86_FEAT_SVM / 64] >> (X86_FEAT_SVM % 64) & 1))
            set_bit(ret, i, false);
    close(fd);
}

/* ---- the table of a machine ---- */

struct builder {
    struct kvm_machine *m;
    struct kvm_cpuid2 *t;
    const struct kvm_cpuid2 *host;
    struct x86_state state; /* as x86_cpuid wants it: all on, the kernel switches off what follows from the registers */
};

static void add(struct builder *b, uint32_t leaf, uint32_t subleaf, bool indexed, const uint32_t r[4])
{
    if (b->t->nent == MAX_ENTRIES)
        return;
    b->t->entries[b->t->nent++] = (struct kvm_cpuid_entry2){ .function = leaf, .index = subleaf, .flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
                                                             .eax = r[0], .ebx = r[1], .ecx = r[2], .edx = r[3] };
}

static void add_model(struct builder *b, uint32_t leaf, uint32_t subleaf, bool indexed)
{
    uint32_t r[4];
    x86_cpuid(b->m->model, &b->m->topo, &b->state, leaf, subleaf, r);
    if (!indexed || subleaf == 0 || r[0] || r[1] || r[2] || r[3])
        add(b, leaf, subleaf, indexed, r);
}

/* State components that belong to the model's features (SDM vol. 1, 13.1). */
static uint64_t components(const struct x86_cpu_model *m)
{
    static const struct { uint16_t feature; uint16_t mask; } rows[] = {
        { X86_FEAT_AVX, 1u << 2 }, { X86_FEAT_MPX, 3u << 3 }, { X86_FEAT_AVX512F, 7u << 5 }, { X86_FEAT_PKU, 1u << 9 },
    };
    uint64_t mask = 3;
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
        if (x86_model_has(m, (enum x86_feature)rows[i].feature))
            mask |= rows[i].mask;
    return mask;
}

/* Leaf 0xd: sizes and places of the components are the host's, since its instructions store them. */
static void add_xsave(struct builder *b)
{
    const struct kvm_cpuid_entry2 *main = find(b->host, 0xd, 0), *one = find(b->host, 0xd, 1);
    uint32_t size = 576, r[4], model[4];
    b->m->xcr0_mask = 1;
    if (!main || !x86_model_has(b->m->model, X86_FEAT_XSAVE)) {
        if (!x86_model_has(b->m->model, X86_FEAT_XSAVE) || !main)
            b->m->xcr0_mask = 3; /* FXSAVE's */
        return;
    }
    uint64_t mask = components(b->m->model) & (main->eax | (uint64_t)main->edx << 32);
    b->m->xcr0_mask = mask;
    for (unsigned i = 2; i < 63; i++) {
        const struct kvm_cpuid_entry2 *e = mask >> i & 1 ? find(b->host, 0xd, i) : NULL;
        if (e)
            size = MAX(size, e->ebx + e->eax);
    }
    add(b, 0xd, 0, true, (const uint32_t[4]){ (uint32_t)mask, size, size, (uint32_t)(mask >> 32) });
    x86_cpuid(b->m->model, &b->m->topo, &b->state, 0xd, 1, model);
    memcpy(r, (const uint32_t[4]){ one ? model[0] & one->eax : 0, size, 0, 0 }, sizeof(r));
    add(b, 0xd, 1, true, r);
    for (unsigned i = 2; i < 63; i++) {
        const struct kvm_cpuid_entry2 *e = mask >> i & 1 ? find(b->host, 0xd, i) : NULL;
        if (e)
            add(b, 0xd, i, true, (const uint32_t[4]){ e->eax, e->ebx, e->ecx, e->edx });
    }
}

static void add_basic(struct builder *b)
{
    uint32_t r[4];
    x86_cpuid(b->m->model, &b->m->topo, &b->state, 0, 0, r);
    for (uint32_t leaf = 0; leaf <= MIN(r[0], 0x20u); leaf++) {
        unsigned n = leaf == 4 ? 5 : leaf == 7 ? 2 : leaf == 0xb ? 3 : 1;
        if (leaf == 0xd)
            add_xsave(b);
        for (uint32_t sub = 0; leaf != 0xd && sub < n; sub++)
            add_model(b, leaf, sub, n > 1);
    }
}

static void add_hypervisor(struct builder *b)
{
    uint32_t r[4];
    if (!x86_model_has(b->m->model, X86_FEAT_HYPERVISOR))
        return;
    x86_cpuid(b->m->model, &b->m->topo, &b->state, 0x40000000, 0, r);
    for (uint32_t leaf = 0x40000000; leaf <= MIN(r[0], 0x40000010u); leaf++)
        add_model(b, leaf, 0, false);
}

/* EDX of SVM's leaf: what the model has of what has a name, and what the kernel has of the rest. */
static uint32_t svm_features(const struct x86_cpu_model *m, uint32_t edx)
{
    for (unsigned i = 0; i < X86_NFEATURES; i++)
        if (bits[i].leaf == SVM_LEAF && !x86_model_has(m, (enum x86_feature)i))
            edx &= ~(1u << bits[i].bit);
    return edx;
}

static void add_extended(struct builder *b)
{
    uint32_t r[4];
    x86_cpuid(b->m->model, &b->m->topo, &b->state, 0x80000000, 0, r);
    for (uint32_t leaf = 0x80000000; r[0] && leaf <= MIN(r[0], 0x80000025u); leaf++) {
        const struct kvm_cpuid_entry2 *svm = leaf == SVM_LEAF && x86_model_has(b->m->model, X86_FEAT_SVM) ? find(b->host, leaf, 0) : NULL;
        if (svm)
            add(b, leaf, 0, false, (const uint32_t[4]){ svm->eax, svm->ebx, svm->ecx, svm_features(b->m->model, svm->edx) });
        for (uint32_t sub = 0; !svm && sub < (leaf == 0x8000001d ? 5u : 1u); sub++)
            add_model(b, leaf, sub, leaf == 0x8000001d);
    }
}

static void clear_feature(struct kvm_cpuid2 *t, unsigned f)
{
    for (unsigned i = 0; i < t->nent; i++) {
        struct kvm_cpuid_entry2 *e = &t->entries[i];
        uint32_t *regs[4] = { &e->eax, &e->ebx, &e->ecx, &e->edx };
        if (e->function == bits[f].leaf && e->index == bits[f].subleaf)
            *regs[bits[f].reg] &= ~(1u << bits[f].bit);
    }
}

bool kvm_cpuid_init(struct kvm_machine *m, GError **error)
{
    struct kvm_cpuid2 *host = supported_table(m->kvm);
    struct builder b = { .m = m, .t = table_new(), .host = host };
    b.t->nent = 0;
    b.state.apic_base = 0x800;
    add_basic(&b);
    add_hypervisor(&b);
    add_extended(&b);
    for (unsigned i = 0; m->irqchip == ACCEL_IRQCHIP_OFF && i < G_N_ELEMENTS(need_lapic); i++)
        clear_feature(b.t, need_lapic[i]);
    /* A deadline is met by who knows the guest's TSC: outside the kernel that is only so while the host's is stable. */
    if (m->irqchip == ACCEL_IRQCHIP_OFF)
        clear_feature(b.t, X86_FEAT_TSC_DEADLINE);
    if (m->irqchip == ACCEL_IRQCHIP_OFF && !m->caps.user_msr)
        clear_feature(b.t, X86_FEAT_X2APIC);
    m->cpuid = g_realloc(b.t, sizeof(*b.t) + b.t->nent * sizeof(struct kvm_cpuid_entry2));
    g_free(host);
    return true;
}

/* The leaves that name the vCPU's APIC id. */
/* seccomp(main): ioctl(KVM_SET_CPUID2) */
bool kvm_cpuid_set(struct kvm_vcpu *v, GError **error)
{
    struct kvm_machine *m = v->machine;
    size_t size = sizeof(*m->cpuid) + m->cpuid->nent * sizeof(struct kvm_cpuid_entry2);
    g_autofree struct kvm_cpuid2 *t = g_memdup2(m->cpuid, size);
    struct x86_cpu_topology topo = m->topo;
    struct x86_state state = { .apic_base = 0x800 };
    topo.index = v->index;
    for (unsigned i = 0; i < t->nent; i++) {
        struct kvm_cpuid_entry2 *e = &t->entries[i];
        if (e->function == 1) {
            e->ebx = (e->ebx & 0xffffff) | (v->index & 0xff) << 24;
        } else if (e->function == 0xb) {
            e->edx = v->index;
        } else if (e->function == 0x8000001e) {
            uint32_t r[4];
            x86_cpuid(m->model, &topo, &state, e->function, 0, r);
            e->eax = r[0], e->ebx = r[1], e->ecx = r[2], e->edx = r[3];
        }
    }
    if (kvm_ioctl(v->fd, KVM_SET_CPUID2, t) < 0)
        return vireo_fail_errno(error, errno, "-accel kvm: the kernel refuses the CPU model '%s'", m->model->name);
    return true;
}
