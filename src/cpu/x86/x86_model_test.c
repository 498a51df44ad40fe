/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "base/error.h"
#include "cpu/x86/x86_model.h"
#include "cpu/x86/x86_state.h"

#define NWORDS ((X86_NFEATURES + 63) / 64)

static const struct x86_cpu_topology one = { .sockets = 1, .cores = 1, .threads = 1 };

static void everything(uint64_t *ret) /* but for what KVM alone has: the end of the table */
{
    memset(ret, 0xff, NWORDS * sizeof(*ret));
    for (unsigned f = X86_FEAT_KVM_CLOCK_OLD; f < X86_NFEATURES; f++)
        ret[f / 64] &= ~(1ull << f % 64);
}

static struct x86_cpu_model *parse(const char *spec)
{
    uint64_t all[NWORDS];
    g_autoptr(GError) error = NULL;
    struct x86_cpu_model *m;

    everything(all);
    all[X86_FEAT_AVX2 / 64] &= ~(1ull << X86_FEAT_AVX2 % 64);
    m = x86_cpu_model_parse(spec, all, &error);
    g_assert_no_error(error);
    g_assert_nonnull(m);
    return m;
}

static void refused(const char *spec, int code, const char *part)
{
    uint64_t all[NWORDS];
    g_autoptr(GError) error = NULL;

    everything(all);
    all[X86_FEAT_AVX2 / 64] &= ~(1ull << X86_FEAT_AVX2 % 64);
    g_assert_null(x86_cpu_model_parse(spec, all, &error));
    g_assert_error(error, VIREO_ERROR, code);
    if (!strstr(error->message, part)) {
        g_error("-cpu %s: '%s' does not say '%s'", spec, error->message, part);
    }
}

static void test_accepted(void)
{
    struct x86_cpu_model *m = parse("max,-sse4.2,+aes,SSE4_1=off,vendor=GenuineIntel,check,family=6,model=60,model-id=ab");

    g_assert_false(x86_model_has(m, X86_FEAT_SSE4_2));
    g_assert_false(x86_model_has(m, X86_FEAT_SSE4_1));
    g_assert_true(x86_model_has(m, X86_FEAT_AES));
    g_assert_false(x86_model_has(m, X86_FEAT_AUTO_IBRS));
    g_assert_cmpstr(m->vendor, ==, "GenuineIntel");
    g_assert_cmpstr(m->brand, ==, "ab");
    g_assert_cmpuint(m->model, ==, 60);
    x86_cpu_model_free(m);
    m = parse("Haswell"); /* AVX2 is dropped in silence */
    g_assert_null(m->dropped);
    x86_cpu_model_free(m);
    m = parse("Haswell,check");
    g_assert_cmpstr(m->dropped, ==, "avx2");
    g_assert_true(x86_model_has(m, X86_FEAT_BMI2));
    g_assert_false(x86_model_has(m, X86_FEAT_AVX2));
    x86_cpu_model_free(m);
}

static bool has(const char *spec, enum x86_feature f)
{
    struct x86_cpu_model *m = parse(spec);
    bool ret = x86_model_has(m, f);

    x86_cpu_model_free(m);
    return ret;
}

/* The rows of x86_models.inc, which hang on each other. */
static void test_named_models(void)
{
    uint64_t all[NWORDS];
    struct x86_cpu_model *m;
    unsigned n = 0;

    everything(all);
    for (const char *name; (name = x86_cpu_model_at(n)); n++) {
        g_autoptr(GError) error = NULL;

        m = x86_cpu_model_describe(name, all, &error); /* asserts that bases and features are there */
        g_assert_no_error(error);
        g_assert_cmpuint(strlen(m->vendor), ==, 12);
        g_assert_true(x86_model_has(m, X86_FEAT_HYPERVISOR));
        g_assert_true(x86_model_has(m, X86_FEAT_FPU));
        x86_cpu_model_free(m);
    }
    g_assert_cmpuint(n, >, 125);
    g_assert_cmpstr(x86_cpu_model_alias_of("Haswell-noTSX"), ==, "Haswell-v2");
    g_assert_null(x86_cpu_model_alias_of("Haswell-v2"));
    m = parse("Icelake-Server-v5");
    g_assert_cmpuint(m->model, ==, 106);
    g_assert_true(x86_model_has(m, X86_FEAT_AVX512_VPOPCNTDQ) && x86_model_has(m, X86_FEAT_FSRM) && !x86_model_has(m, X86_FEAT_RTM));
    x86_cpu_model_free(m);
    m = parse("Haswell-noTSX-IBRS");
    g_assert_cmpuint(m->stepping, ==, 1);
    g_assert_true(x86_model_has(m, X86_FEAT_SPEC_CTRL) && x86_model_has(m, X86_FEAT_ERMS) && !x86_model_has(m, X86_FEAT_HLE));
    x86_cpu_model_free(m);
    g_assert_true(has("EPYC-Milan", X86_FEAT_SVME_ADDR_CHK) && has("EPYC-Milan", X86_FEAT_NPT) && has("EPYC-Milan,-npt", X86_FEAT_SVM));
    g_assert_false(has("EPYC-Milan,-svm", X86_FEAT_NPT) || has("EPYC-Milan,-npt", X86_FEAT_NPT) || has("EPYC", X86_FEAT_NPT) != has("EPYC", X86_FEAT_SVM));
}

static void test_refused(void)
{
    refused("pentium9", VIREO_ERROR_INVALID, "did you mean 'pentium");
    refused("cyrix", VIREO_ERROR_INVALID, "-cpu help");
    refused("max,+ssse4", VIREO_ERROR_INVALID, "did you mean");
    refused("max,+avx2", VIREO_ERROR_UNSUPPORTED, "avx2");
    refused("Haswell,enforce", VIREO_ERROR_UNSUPPORTED, "avx2");
    refused("max,vendor=short", VIREO_ERROR_INVALID, "vendor");
    refused("max,family=0x6", VIREO_ERROR_INVALID, "family");
    refused("max,aes=maybe", VIREO_ERROR_INVALID, "aes");
    refused("max,hv_relaxed", VIREO_ERROR_UNSUPPORTED, "Hyper-V");
    refused("max,level=13", VIREO_ERROR_UNSUPPORTED, "follow from the features");
    refused("max,tsc-frequency=1234567", VIREO_ERROR_UNSUPPORTED, "the host's");
    refused("max,pmu=on", VIREO_ERROR_UNSUPPORTED, "PMU");
}

static void test_cpuid(void)
{
    struct x86_cpu_model *m = parse("max");
    struct x86_state *s = g_new0(struct x86_state, 1);
    const struct x86_cpu_topology topo = { .index = 3, .sockets = 1, .cores = 2, .threads = 2 };
    uint32_t r[4];

    s->apic_base = 0xfee00800;
    x86_cpuid(m, &one, s, 0, 0, r);
    g_assert_cmphex(r[1], ==, 0x68747541);
    g_assert_cmphex(r[3], ==, 0x69746e65);
    g_assert_cmphex(r[2], ==, 0x444d4163);
    g_assert_cmphex(r[0], ==, 0xd);
    x86_cpuid(m, &one, s, 1, 0, r);
    g_assert_cmphex(r[0], ==, 0x00a10f11); /* family 25, model 17, stepping 1 */
    g_assert_cmphex(r[2] & 1u << 27, ==, 0);
    g_assert_cmphex(r[3] & 1u << 28, ==, 0);
    g_assert_cmphex(r[3] & 1u << 9, !=, 0);
    s->cr4 = X86_CR4_OSXSAVE;
    s->apic_base = 0xfee00000;
    x86_cpuid(m, &topo, s, 1, 0, r);
    g_assert_cmphex(r[2] & 1u << 27, !=, 0);
    g_assert_cmphex(r[3] & 1u << 28, !=, 0);
    g_assert_cmphex(r[3] & 1u << 9, ==, 0);
    g_assert_cmphex(r[1] >> 16, ==, 0x0304);
    x86_cpuid(m, &topo, s, 0xb, 1, r);
    g_assert_cmphex(r[0], ==, 2);
    g_assert_cmphex(r[1], ==, 4);
    g_assert_cmphex(r[2], ==, 0x201);
    g_assert_cmphex(r[3], ==, 3);
    x86_cpuid(m, &one, s, 0xd, 0, r);
    g_assert_cmpuint(r[1], ==, 576);
    x86_cpuid(m, &one, s, 0x40000000, 0, r);
    g_assert_cmpmem(&r[1], 12, "VireoVireo\0\0", 12);
    x86_cpuid(m, &one, s, 0x80000021, 0, r);
    g_assert_cmphex(r[0] & 0x100, ==, 0x100);
    x86_cpuid(m, &one, s, 0x80000008, 0, r);
    g_assert_cmphex(r[0], ==, 0x3928);
    x86_cpuid(m, &one, s, 0x80000001, 0, r);
    g_assert_cmphex(r[3] & 0x20100800, ==, 0x20100800);
    x86_cpuid(m, &one, s, 0xdeadbeef, 0, r);
    g_assert_cmphex(r[0] | r[1] | r[2] | r[3], ==, 0);
    x86_cpu_model_free(m);
    g_free(s);
}

static bool has_kvm(const char *spec, enum x86_feature f, bool *ret_signature, bool *ret_x2apic)
{
    uint64_t all[NWORDS];
    uint32_t r[4];
    g_autoptr(GError) error = NULL;
    struct x86_state *s = g_new0(struct x86_state, 1);

    memset(all, 0xff, sizeof(all));
    struct x86_cpu_model *m = x86_cpu_model_parse(spec, all, &error);
    g_assert_no_error(error);
    bool has = x86_model_has(m, f);
    x86_cpuid(m, &one, s, 0x40000000, 0, r);
    *ret_signature = !memcmp(&r[1], "KVMKVMKVM\0\0\0", 12);
    *ret_x2apic = x86_model_has(m, X86_FEAT_X2APIC);
    x86_cpu_model_free(m);
    g_free(s);
    return has;
}

/* QEMU's names and defaults for what KVM offers its guests. */
static void test_address_widths(void)
{
    g_autofree struct x86_state *s = g_new0(struct x86_state, 1);
    uint64_t all[NWORDS];
    uint32_t r[4];
    memset(all, 0xff, sizeof(all));
    for (int la57 = 0; la57 < 2; la57++) {
        struct x86_cpu_model *m = x86_cpu_model_parse(la57 ? "max,+la57" : "max,-la57", all, NULL);
        g_assert_nonnull(m);
        x86_cpuid(m, &one, s, 0x80000008, 0, r);
        g_assert_cmpuint(r[0] >> 8 & 0xff, ==, la57 ? 57 : 48);
        x86_cpu_model_free(m);
    }
}

static void test_kvm(void)
{
    bool sign, x2;

    g_assert_true(has_kvm("max", X86_FEAT_KVM_CLOCK, &sign, &x2));
    g_assert_true(sign);
    g_assert_false(has_kvm("max", X86_FEAT_KVM_HINT_DEDICATED, &sign, &x2));
    g_assert_true(has_kvm("max,+kvm-hint-dedicated", X86_FEAT_KVM_HINT_DEDICATED, &sign, &x2));
    g_assert_false(has_kvm("host,-kvmclock", X86_FEAT_KVM_CLOCK, &sign, &x2));
    g_assert_false(has_kvm("host,kvmclock=off", X86_FEAT_KVM_CLOCK_OLD, &sign, &x2));
    g_assert_true(sign);
    g_assert_false(has_kvm("host,kvm=off", X86_FEAT_KVM_STEAL_TIME, &sign, &x2));
    g_assert_false(sign);
    g_assert_true(has_kvm("Haswell,-kvm_pv_eoi", X86_FEAT_KVM_ASYNCPF_INT, &sign, &x2));
    g_assert_true(x2);
    g_assert_false(has_kvm("Haswell,-kvm_pv_eoi,-x2apic", X86_FEAT_KVM_PV_EOI, &sign, &x2));
    g_assert_false(x2);
}

static void test_tsc(void)
{
    struct x86_cpu_model *m = parse("Nehalem");
    uint32_t r[4];
    struct x86_state *s = g_new0(struct x86_state, 1);
    static const uint64_t rates[] = { 2596142000, 1000000000, 2999999871, 400000000, 5100000123 };

    g_assert_cmpuint(m->tsc_hz, >, 100000000);
    g_assert_cmpuint(m->tsc_hz, <, 10000000000);
    for (unsigned i = 0; i < G_N_ELEMENTS(rates); i++) {
        double hz;

        m->tsc_hz = rates[i];
        x86_cpuid(m, &one, s, 0x15, 0, r);
        hz = (double)r[2] * r[1] / r[0];
        g_assert_cmpfloat(hz / (double)rates[i], >, 1 - 2e-6);
        g_assert_cmpfloat(hz / (double)rates[i], <, 1 + 2e-6);
        g_assert_cmpuint((uint64_t)(r[2] / 1000) * r[1], <, 1ull << 32);
    }
    x86_cpu_model_free(m);
    g_free(s);
}

static void test_reset(void)
{
    struct x86_cpu_model *m = parse("max");
    struct x86_state *s = g_new0(struct x86_state, 1);

    memset(s, 0x5a, sizeof(*s));
    x86_state_reset(s, m, true, false);
    g_assert_cmphex(s->seg[X86_CS].base + s->rip, ==, 0xfffffff0);
    g_assert_cmphex(s->gpr[X86_RDX], ==, 0x00a10f11);
    g_assert_cmphex(s->apic_base, ==, 0xfee00900);
    g_assert_cmphex(s->cr0, ==, 0x60000010);
    g_assert_cmphex(s->pat, ==, 0x0007040600070406);
    s->pat = 1;
    s->cr0 = 0x80000011;
    x86_state_reset(s, m, false, true);
    g_assert_cmphex(s->pat, ==, 1);
    g_assert_cmphex(s->cr0, ==, 0x10);
    g_assert_cmpuint(s->activity, ==, X86_WAIT_SIPI);
    x86_cpu_model_free(m);
    g_free(s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/x86-model/accepted", test_accepted);
    g_test_add_func("/x86-model/refused", test_refused);
    g_test_add_func("/x86-model/named-models", test_named_models);
    g_test_add_func("/x86-model/cpuid", test_cpuid);
    g_test_add_func("/x86-model/address-widths", test_address_widths);
    g_test_add_func("/x86-model/kvm", test_kvm);
    g_test_add_func("/x86-model/tsc", test_tsc);
    g_test_add_func("/x86-model/reset", test_reset);
    return g_test_run();
}
