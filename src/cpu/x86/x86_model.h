/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest CPU models as data: what CPUID answers, which features exist, from one feature table.
 * A model is made from `-cpu NAME[,+feature][,-feature]` and is constant afterwards.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct x86_state;

/* One row per feature bit: the CPUID leaf, register and bit that show it. The order is the table's own
 * (x86_feature_table in x86_model.c, static_asserted to X86_NFEATURES). */
enum x86_feature {
#define X86_FEATURE(id, name, leaf, subleaf, reg, bit) X86_FEAT_##id,
#include "x86_features.inc"
#undef X86_FEATURE
    X86_NFEATURES
};

/* Frequency of the local APIC timer and of the crystal that CPUID 0x15 shows: 1 GHz, whatever device is behind it. */
#define X86_APIC_BUS_HZ 1000000000u

struct x86_cpu_topology {
    unsigned index;   /* this vCPU; its APIC id too */
    unsigned sockets, cores, threads;
};

struct x86_cpu_model {
    const char *name;
    char vendor[13];
    char brand[49];
    unsigned family, model, stepping;
    uint64_t features[(X86_NFEATURES + 63) / 64]; /* bit set: offered to the guest */
    unsigned phys_bits, virt_bits;
    char *dropped;    /* -cpu ...,check: names of the model's own features that the accelerator lacks; NULL: none, or not asked */
    uint64_t tsc_hz;  /* of the guest TSC, which runs at the host's rate */
};

static inline bool x86_model_has(const struct x86_cpu_model *m, enum x86_feature f)
{
    return m->features[f / 64] >> (f % 64) & 1;
}

/* Parses `-cpu` syntax. `supported` is the bit set (as in x86_cpu_model.features) that the accelerator can
 * run on this host; a feature asked for by name beyond it is an error that lists what is missing, a model's
 * own feature beyond it is dropped. Caller frees with x86_cpu_model_free. */
struct x86_cpu_model *x86_cpu_model_parse(const char *spec, const uint64_t *supported, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* The same without the frequency of the TSC, which is measured: no system calls. */
struct x86_cpu_model *x86_cpu_model_describe(const char *spec, const uint64_t *supported, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void x86_cpu_model_free(struct x86_cpu_model *m);
/* The features of the CPU that this program runs on, by CPUID. */
void x86_host_features(uint64_t ret_features[(X86_NFEATURES + 63) / 64]);
/* Answers CPUID for one vCPU: eax, ebx, ecx, edx into ret[0..3]. `state` gives what CPUID shows of it (CR4.OSXSAVE,
 * XCR0, the APIC enable bit). No libc calls, general registers only: the translator calls it from generated code. */
void x86_cpuid(const struct x86_cpu_model *m, const struct x86_cpu_topology *topo, const struct x86_state *state,
               uint32_t leaf, uint32_t subleaf, uint32_t ret[4]);
/* The state of a vCPU after power-on or INIT (SDM vol. 3, table 9-1). init: keeps what INIT keeps. `bsp` sets the
 * boot processor bit of IA32_APIC_BASE; others wait for SIPI. */
void x86_state_reset(struct x86_state *s, const struct x86_cpu_model *m, bool bsp, bool init);
/* The tables as data, for who lists them. Name of the i-th model, NULL beyond the last; name of a feature; -1: there is none
 * of that name. */
const char *x86_cpu_model_at(unsigned i);
/* The model that this one is another name of; NULL: none. */
const char *x86_cpu_model_alias_of(const char *model);
const char *x86_feature_name(enum x86_feature f);
int x86_feature_find(const char *name);
/* Names of the model's features that are not in `supported`, NULL-terminated; the caller frees the array alone. */
const char **x86_cpu_model_unavailable(const char *model, const uint64_t *supported);
/* Names of all models and features for -cpu help; the caller frees. */
char *x86_cpu_help(void);
