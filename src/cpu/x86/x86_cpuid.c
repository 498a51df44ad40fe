/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CPUID, answered from a model. SDM vol. 2, "CPUID"; APM vol. 3, appendix E. Light code: generated code calls it,
 * so general registers only and no libc.
 */
#include "cpu/x86/x86_model.h"
#include "cpu/x86/x86_state.h"

enum { EAX, EBX, ECX, EDX };

struct feature_bit {
    uint32_t leaf;
    uint8_t subleaf, reg, bit;
};

static const struct feature_bit feature_bits[X86_NFEATURES] = {
#define X86_FEATURE(id, name, leaf, subleaf, reg, bit) { leaf, subleaf, reg, bit },
#include "x86_features.inc"
#undef X86_FEATURE
};

static bool is_intel(const struct x86_cpu_model *m)
{
    return m->vendor[0] == 'G';
}

static uint32_t bytes4(const char *p)
{
    return (uint8_t)p[0] | (uint32_t)(uint8_t)p[1] << 8 | (uint32_t)(uint8_t)p[2] << 16 | (uint32_t)(uint8_t)p[3] << 24;
}

/* Bits needed to number n things. */
static unsigned width_of(unsigned n)
{
    unsigned bits = 0;

    while ((1u << bits) < n) {
        bits++;
    }
    return bits;
}

static unsigned at_least_1(unsigned n)
{
    return n ? n : 1;
}

static void feature_leaf(const struct x86_cpu_model *m, uint32_t leaf, uint32_t subleaf, uint32_t ret[4])
{
    for (unsigned i = 0; i < X86_NFEATURES; i++) {
        const struct feature_bit *f = &feature_bits[i];

        if (f->leaf == leaf && f->subleaf == subleaf && x86_model_has(m, (enum x86_feature)i)) {
            ret[f->reg] |= 1u << f->bit;
        }
    }
}

static uint32_t signature(const struct x86_cpu_model *m)
{
    unsigned family = m->family < 15 ? m->family : 15;

    return m->stepping | (m->model & 15) << 4 | family << 8 | (m->family - family) << 20 |
           (m->family >= 6 ? (m->model >> 4) << 16 : 0);
}

static uint32_t max_basic_leaf(const struct x86_cpu_model *m)
{
    if (m->family < 6) {
        return 1;
    }
    if (!x86_model_has(m, X86_FEAT_LM)) {
        return 2;
    }
    return is_intel(m) ? 0x16 : 0xd;
}

static uint32_t max_extended_leaf(const struct x86_cpu_model *m)
{
    if (m->family < 6) {
        return 0;
    }
    if (x86_model_has(m, X86_FEAT_NULL_SEL_CLR_BASE) || x86_model_has(m, X86_FEAT_AUTO_IBRS) ||
        x86_model_has(m, X86_FEAT_LFENCE_ALWAYS_SERIALIZING)) {
        return 0x80000021;
    }
    return x86_model_has(m, X86_FEAT_TOPOEXT) ? 0x8000001e : 0x80000008;
}

static void leaf_1(const struct x86_cpu_model *m, const struct x86_cpu_topology *topo, const struct x86_state *state,
                   uint32_t ret[4])
{
    unsigned logical = at_least_1(topo->cores) * at_least_1(topo->threads);

    feature_leaf(m, 1, 0, ret);
    ret[EAX] = signature(m);
    ret[EBX] = topo->index << 24 | (x86_model_has(m, X86_FEAT_CLFLUSH) ? 8u << 8 : 0);
    if (logical > 1) {
        ret[EDX] |= 1u << 28; /* HTT: EBX 23-16 is valid */
        ret[EBX] |= (1u << width_of(logical)) << 16;
    }
    if (x86_model_has(m, X86_FEAT_XSAVE) && (state->cr4 & X86_CR4_OSXSAVE)) {
        ret[ECX] |= 1u << 27;
    }
    if (!(state->apic_base & 0x800)) {
        ret[EDX] &= ~(1u << 9);
    }
}

/* Caches as the deterministic leaves show them: SDM leaf 4, APM 0x8000001d. */
struct cache {
    uint8_t type, level;
    uint16_t ways;
    uint32_t sets;
};
static const struct cache caches[] = {
    { 1, 1, 8, 64 },     /* 32 KiB data */
    { 2, 1, 8, 64 },     /* 32 KiB code */
    { 3, 2, 8, 1024 },   /* 512 KiB */
    { 3, 3, 16, 16384 }, /* 16 MiB, of the package */
};

static void leaf_cache(const struct x86_cpu_topology *topo, uint32_t subleaf, bool amd, uint32_t ret[4])
{
    const struct cache *c = &caches[subleaf & 3];
    unsigned cores = at_least_1(topo->cores), threads = at_least_1(topo->threads);
    unsigned sharing = c->level == 3 ? cores * threads : threads;

    if (subleaf >= sizeof(caches) / sizeof(caches[0])) {
        return;
    }
    sharing = 1u << width_of(sharing);
    ret[EAX] = c->type | (uint32_t)c->level << 5 | 1u << 8 | (sharing - 1) << 14;
    if (!amd) {
        ret[EAX] |= ((1u << width_of(cores)) - 1) << 26;
    }
    ret[EBX] = 63 | (c->ways - 1u) << 22;
    ret[ECX] = c->sets - 1;
}

static void leaf_topology(const struct x86_cpu_topology *topo, uint32_t subleaf, uint32_t ret[4])
{
    unsigned cores = at_least_1(topo->cores), threads = at_least_1(topo->threads);

    ret[ECX] = subleaf & 0xff;
    ret[EDX] = topo->index;
    if (subleaf == 0) {
        ret[EAX] = width_of(threads);
        ret[EBX] = threads;
        ret[ECX] |= 1u << 8;
    } else if (subleaf == 1) {
        ret[EAX] = width_of(threads) + width_of(cores);
        ret[EBX] = threads * cores;
        ret[ECX] |= 2u << 8;
    }
}

/* SDM vol. 1, 13.2: x87 and SSE state, 576 bytes in either form. */
static void leaf_xsave(const struct x86_cpu_model *m, uint32_t subleaf, uint32_t ret[4])
{
    if (!x86_model_has(m, X86_FEAT_XSAVE)) {
        return;
    }
    if (subleaf == 0) {
        ret[EAX] = 3;
        ret[EBX] = ret[ECX] = 576;
    } else if (subleaf == 1) {
        feature_leaf(m, 0xd, 1, ret);
        ret[EBX] = x86_model_has(m, X86_FEAT_XSAVEC) ? 576 : 0;
    }
}

/* SDM vol. 2, leaf 0x15: TSC Hz = ECX * EBX / EAX. The crystal must be the APIC timer's clock, and guests multiply ECX / 1000
 * by EBX in 32 bits: the ratio is the best one with small terms (continued fraction), within some 0.1 ppm. */
static void leaf_tsc(const struct x86_cpu_model *m, uint32_t ret[4])
{
    uint64_t a = m->tsc_hz, b = X86_APIC_BUS_HZ, n0 = 0, d0 = 1, n1 = 1, d1 = 0;

    while (b) {
        uint64_t q = a / b, r = a % b, n2 = q * n1 + n0, d2 = q * d1 + d0;

        if (n2 > 4200 || d2 > 4200) {
            break;
        }
        n0 = n1, d0 = d1, n1 = n2, d1 = d2;
        a = b, b = r;
    }
    if (!n1 || !d1) {
        return;
    }
    ret[EAX] = (uint32_t)d1;
    ret[EBX] = (uint32_t)n1;
    ret[ECX] = X86_APIC_BUS_HZ;
}

static void leaf_8_extended(const struct x86_cpu_model *m, const struct x86_cpu_topology *topo, uint32_t ret[4])
{
    unsigned logical = at_least_1(topo->cores) * at_least_1(topo->threads);

    feature_leaf(m, 0x80000008, 0, ret);
    ret[EAX] = m->phys_bits | m->virt_bits << 8;
    if (!is_intel(m)) {
        ret[ECX] = (logical - 1) | width_of(logical) << 12;
    }
}

static void leaf_1_extended(const struct x86_cpu_model *m, const struct x86_cpu_topology *topo,
                            const struct x86_state *state, uint32_t ret[4])
{
    feature_leaf(m, 0x80000001, 0, ret);
    if (is_intel(m)) {
        return;
    }
    uint32_t basic[4] = { 0, 0, 0, 0 };

    leaf_1(m, topo, state, basic);
    ret[EAX] = basic[EAX];
    ret[EDX] |= basic[EDX] & 0x0183f3ff; /* the bits that AMD repeats here (APM vol. 3, E.4.2) */
    if (at_least_1(topo->cores) * at_least_1(topo->threads) > 1) {
        ret[ECX] |= 1u << 1; /* CmpLegacy */
    }
}

static void basic_leaf(const struct x86_cpu_model *m, const struct x86_cpu_topology *topo, const struct x86_state *state,
                       uint32_t leaf, uint32_t subleaf, uint32_t ret[4])
{
    switch (leaf) {
    case 0:
        ret[EAX] = max_basic_leaf(m);
        ret[EBX] = bytes4(m->vendor);
        ret[EDX] = bytes4(m->vendor + 4);
        ret[ECX] = bytes4(m->vendor + 8);
        break;
    case 1:
        leaf_1(m, topo, state, ret);
        break;
    case 2: /* "see leaf 4", and a 64-byte prefetch */
        if (is_intel(m)) {
            ret[EAX] = 0x00feff01;
            ret[EBX] = 0xf0;
        }
        break;
    case 4:
        if (is_intel(m)) {
            leaf_cache(topo, subleaf, false, ret);
        }
        break;
    case 5:
        if (x86_model_has(m, X86_FEAT_MONITOR)) {
            ret[EAX] = ret[EBX] = 64;
            ret[ECX] = 3;
        }
        break;
    case 6:
        feature_leaf(m, 6, 0, ret);
        break;
    case 7:
        if (subleaf <= 1) {
            feature_leaf(m, 7, subleaf, ret);
        }
        if (subleaf == 0) {
            ret[EAX] = 1;
        }
        break;
    case 0xb:
        leaf_topology(topo, subleaf, ret);
        break;
    case 0xd:
        leaf_xsave(m, subleaf, ret);
        break;
    case 0x15:
        leaf_tsc(m, ret);
        break;
    case 0x16:
        ret[EAX] = ret[EBX] = (uint32_t)(m->tsc_hz / 1000000);
        ret[ECX] = 100;
        break;
    }
}

static void extended_leaf(const struct x86_cpu_model *m, const struct x86_cpu_topology *topo,
                          const struct x86_state *state, uint32_t leaf, uint32_t subleaf, uint32_t ret[4])
{
    unsigned threads = at_least_1(topo->threads);

    switch (leaf) {
    case 0x80000000:
        ret[EAX] = max_extended_leaf(m);
        if (!is_intel(m)) {
            ret[EBX] = bytes4(m->vendor);
            ret[EDX] = bytes4(m->vendor + 4);
            ret[ECX] = bytes4(m->vendor + 8);
        }
        break;
    case 0x80000001:
        leaf_1_extended(m, topo, state, ret);
        break;
    case 0x80000002:
    case 0x80000003:
    case 0x80000004:
        for (unsigned i = 0; i < 4; i++) {
            ret[i] = bytes4(m->brand + (leaf - 0x80000002) * 16 + i * 4);
        }
        break;
    case 0x80000005: /* L1: 32 KiB, 8 ways, 64-byte lines; TLBs of 64 entries */
        if (!is_intel(m)) {
            ret[EAX] = ret[EBX] = 0xff40ff40;
            ret[ECX] = ret[EDX] = 0x20080140;
        }
        break;
    case 0x80000006: /* L2: 512 KiB, 8 ways; L3: 16 MiB, 16 ways */
        ret[ECX] = 512u << 16 | 6u << 12 | 1u << 8 | 64;
        if (!is_intel(m)) {
            ret[EAX] = ret[EBX] = 0x64006400;
            ret[EDX] = 32u << 18 | 8u << 12 | 1u << 8 | 64;
        }
        break;
    case 0x80000007:
        feature_leaf(m, leaf, 0, ret);
        break;
    case 0x80000008:
        leaf_8_extended(m, topo, ret);
        break;
    case 0x8000001d:
        if (x86_model_has(m, X86_FEAT_TOPOEXT)) {
            leaf_cache(topo, subleaf, true, ret);
        }
        break;
    case 0x8000001e:
        if (x86_model_has(m, X86_FEAT_TOPOEXT)) {
            ret[EAX] = topo->index;
            ret[EBX] = (topo->index / threads % at_least_1(topo->cores)) | (threads - 1) << 8;
            ret[ECX] = topo->index >> width_of(at_least_1(topo->cores) * threads);
        }
        break;
    case 0x80000021:
        feature_leaf(m, leaf, 0, ret);
        break;
    }
}

/* A guest that gets any of KVM's features looks for them behind KVM's signature (Documentation/virt/kvm/x86/cpuid.rst). */
static void hypervisor_leaf(const struct x86_cpu_model *m, uint32_t leaf, uint32_t ret[4])
{
    if (leaf == 0x40000000) {
        uint32_t kvm[4] = { 0, 0, 0, 0 };

        feature_leaf(m, 0x40000001, 0, kvm);
        bool is_kvm = kvm[EAX] != 0;

        ret[EAX] = 0x40000010;
        ret[EBX] = bytes4(is_kvm ? "KVMK" : "Vire");
        ret[ECX] = bytes4(is_kvm ? "VMKV" : "oVir");
        ret[EDX] = bytes4(is_kvm ? "M\0\0" : "eo\0");
    } else if (leaf == 0x40000001) {
        feature_leaf(m, leaf, 0, ret);
    } else if (leaf == 0x40000010) {
        ret[EAX] = (uint32_t)(m->tsc_hz / 1000);
        ret[EBX] = X86_APIC_BUS_HZ / 1000;
    }
}

void x86_cpuid(const struct x86_cpu_model *m, const struct x86_cpu_topology *topo, const struct x86_state *state,
               uint32_t leaf, uint32_t subleaf, uint32_t ret[4])
{
    ret[0] = ret[1] = ret[2] = ret[3] = 0;
    if (leaf >> 28 == 4) {
        if (x86_model_has(m, X86_FEAT_HYPERVISOR) && leaf <= 0x40000010) {
            hypervisor_leaf(m, leaf, ret);
        }
        return;
    }
    if (leaf >> 31) {
        if (leaf <= max_extended_leaf(m)) {
            extended_leaf(m, topo, state, leaf, subleaf, ret);
        }
        return;
    }
    /* A basic leaf beyond the last: Intel repeats the last one, AMD answers zeros. Zeros surprise nobody. */
    if (leaf <= max_basic_leaf(m)) {
        basic_leaf(m, topo, state, leaf, subleaf, ret);
    }
}
