/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The host's CPU in libvirt's names: its features from the kernel's list, the best of the named models. */
#include <string.h>

#include "manage/drivers/host/host.h"
#include "manage/model/doc.h"

/* Where the kernel's name (arch/x86 cpufeatures, /proc/cpuinfo) is not libvirt's. */
static const char *const renamed[][2] = {
    { "pni", "pni" }, { "pclmulqdq", "pclmuldq" }, { "sse4_1", "sse4.1" }, { "sse4_2", "sse4.2" }, { "tsc_deadline_timer", "tsc-deadline" },
    { "sha_ni", "sha-ni" }, { "avx512_vnni", "avx512vnni" }, { "avx512_bitalg", "avx512bitalg" }, { "avx512_vpopcntdq", "avx512-vpopcntdq" },
    { "avx512_vbmi2", "avx512vbmi2" }, { "avx512_bf16", "avx512-bf16" }, { "avx512_fp16", "avx512-fp16" },
    { "avx512_vp2intersect", "avx512-vp2intersect" }, { "avx_vnni", "avx-vnni" }, { "amx_bf16", "amx-bf16" }, { "amx_tile", "amx-tile" }, { "amx_int8", "amx-int8" },
    { "tsxldtrk", "tsx-ldtrk" }, { "md_clear", "md-clear" }, { "arch_capabilities", "arch-capabilities" }, { "split_lock_detect", "split-lock-detect" }, { "nonstop_tsc", "invtsc" }, { "ds_cpl", "ds_cpl" }, { "cx16", "cx16" },
};
/* Where an emulator's name is not libvirt's. */
static const char *const of_emulators[][2] = {
    { "sse3", "pni" }, { "pclmulqdq", "pclmuldq" }, { "cmp-legacy", "cmp_legacy" }, { "ds-cpl", "ds_cpl" }, { "fxsr-opt", "fxsr_opt" }, { "lahf-lm", "lahf_lm" },
    { "nodeid-msr", "nodeid_msr" }, { "perfctr-core", "perfctr_core" }, { "perfctr-nb", "perfctr_nb" }, { "tsc-adjust", "tsc_adjust" },
};
/* Words of the kernel that are no CPUID feature of a guest. */
static const char *const not_features[] = { "constant_tsc", "rep_good", "nopl", "xtopology", "cpuid", "extd_apicid", "tsc_known_freq", "nonstop_tsc_s3", "aperfmperf",
                                            "arch_perfmon", "pebs", "bts", "pti", "ibrs_enhanced", "vmmcall", "tsc_reliable", "cpuid_fault", "ssbd", "hw_pstate", "up", NULL };

/* Models, the largest first, with what they have beyond the baseline of x86-64. */
static const struct {
    const char *name, *features;
} models[] = {
    { "Haswell", "sse4.2 popcnt aes pclmuldq avx avx2 bmi1 bmi2 fma f16c movbe rdrand fsgsbase smep erms invpcid pcid x2apic tsc-deadline" },
    { "EPYC", "sse4.2 popcnt aes pclmuldq avx avx2 bmi1 bmi2 fma f16c movbe rdrand fsgsbase smep smap adx rdseed sha-ni sse4a" },
    { "SandyBridge", "sse4.2 popcnt aes pclmuldq avx x2apic tsc-deadline xsave" },
    { "Westmere", "sse4.2 popcnt aes pclmuldq" },
    { "Nehalem", "sse4.2 popcnt cx16" },
    { "qemu64", "" },
};

const char *host_cpu_feature_name(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(of_emulators); i++)
        if (!strcmp(of_emulators[i][0], name))
            return of_emulators[i][1];
    return name;
}

static char *from_cpuinfo(const char *key)
{
    g_autofree char *text = NULL, *line = g_strconcat("\n", key, NULL);
    if (!g_file_get_contents("/proc/cpuinfo", &text, NULL, NULL))
        return g_strdup("");
    const char *at = g_str_has_prefix(text, key) ? text : strstr(text, line);
    at = at ? strchr(at, ':') : NULL;
    return at ? g_strndup(at + 1, strcspn(at + 1, "\n")) : g_strdup("");
}

char **host_cpu_features(char **ret_vendor)
{
    g_autofree char *flags = from_cpuinfo("flags"), *vendor = g_strstrip(from_cpuinfo("vendor_id"));
    g_auto(GStrv) words = g_strsplit(g_strstrip(flags), " ", -1);
    GPtrArray *out = g_ptr_array_new();
    for (char **w = words; *w; w++) {
        const char *name = *w;
        if (!*name || g_strv_contains(not_features, name))
            continue;
        for (unsigned i = 0; i < G_N_ELEMENTS(renamed); i++)
            if (!strcmp(renamed[i][0], name))
                name = renamed[i][1];
        if (!strcmp(vendor, "GenuineIntel") && !strcmp(name, "ibrs"))
            name = "spec-ctrl"; /* one bit of Intel's CPUID is two words of the kernel; AMD has a bit for each */
        else if (!strcmp(vendor, "GenuineIntel") && !strcmp(name, "ibpb"))
            continue;
        g_ptr_array_add(out, g_strdup(name));
    }
    g_ptr_array_add(out, NULL);
    if (ret_vendor)
        *ret_vendor = !strcmp(vendor, "GenuineIntel") ? g_strdup("Intel") : !strcmp(vendor, "AuthenticAMD") ? g_strdup("AMD") : NULL;
    return (char **)g_ptr_array_free(out, FALSE);
}

static bool has_all(char **have, const char *want)
{
    g_auto(GStrv) words = g_strsplit(want, " ", -1);
    for (char **w = words; *w; w++)
        if (**w && !g_strv_contains((const char *const *)have, *w))
            return false;
    return true;
}

const char *host_cpu_model(char **features)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(models); i++)
        if (has_all(features, models[i].features))
            return models[i].name;
    return "qemu64";
}

static const char *features_of(const char *model)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(models); i++)
        if (!strcmp(models[i].name, model))
            return models[i].features;
    return "";
}

/* AMD64 Architecture, baseline. */
bool host_cpu_in_baseline(const char *feature)
{
    static const char *const baseline[] = { "fpu", "de", "pse", "tsc", "msr", "pae", "mce", "cx8", "apic", "sep", "mtrr", "pge", "mca", "cmov", "pat", "pse36", "clflush",
                                            "mmx", "fxsr", "sse", "sse2", "syscall", "nx", "lm", "pni", NULL };
    return g_strv_contains(baseline, feature);
}

void host_cpu_xml(GString *out)
{
    struct host_topology t;
    g_autofree char *vendor = NULL;
    g_auto(GStrv) features = host_cpu_features(&vendor);
    const char *model = host_cpu_model(features);
    g_auto(GStrv) of_model = g_strsplit(features_of(model), " ", -1);
    host_topology(&t);
    g_string_append_printf(out, "      <arch>x86_64</arch>\n      <model>%s</model>\n", model);
    if (vendor)
        g_string_append_printf(out, "      <vendor>%s</vendor>\n", vendor);
    g_string_append_printf(out, "      <topology sockets='%u' dies='1' cores='%u' threads='%u'/>\n", t.sockets, t.cores, t.threads);
    for (char **f = features; *f; f++)
        if (!host_cpu_in_baseline(*f) && !g_strv_contains((const char *const *)of_model, *f))
            g_string_append_printf(out, "      <feature name='%s'/>\n", *f);
    g_string_append(out, "      <pages unit='KiB' size='4'/>\n      <pages unit='KiB' size='2048'/>\n      <pages unit='KiB' size='1048576'/>\n");
}

GVariant *host_cpu_model_names(struct manage_call *c, GError **error)
{
    const char *arch;
    int need;
    uint32_t flags;
    g_variant_get(c->args, "(&siu)", &arch, &need, &flags);
    if (!manage_check_flags(flags, 0, error))
        return NULL;
    if (strcmp(arch, "x86_64") && strcmp(arch, "i686"))
        return manage_null(error, VIR_ERR_INVALID_ARG, "cannot find architecture %s", arch);
    host_emulator_auto *e = host_emulator_get(c->conn->state, NULL, error);
    if (!e)
        return NULL;
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("as"));
    for (unsigned i = 0; need && i < e->models->len; i++)
        g_variant_builder_add(&b, "s", ((struct host_model *)e->models->pdata[i])->name);
    return g_variant_new("(asi)", &b, (int)e->models->len);
}
