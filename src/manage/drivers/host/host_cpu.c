/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The host's CPU in libvirt's names: its features from the kernel's list, the best of the named models, comparison, baseline. */
#include <string.h>

#include "manage/drivers/host/host.h"
#include "manage/model/doc.h"

/* Where the kernel's name (arch/x86 cpufeatures, /proc/cpuinfo) is not libvirt's. */
static const char *const renamed[][2] = {
    { "pni", "pni" }, { "pclmulqdq", "pclmuldq" }, { "sse4_1", "sse4.1" }, { "sse4_2", "sse4.2" }, { "tsc_deadline_timer", "tsc-deadline" },
    { "sha_ni", "sha-ni" }, { "avx512_vnni", "avx512vnni" }, { "avx512_bitalg", "avx512bitalg" }, { "avx512_vpopcntdq", "avx512-vpopcntdq" },
    { "avx512_vbmi2", "avx512vbmi2" }, { "avx512_bf16", "avx512-bf16" }, { "nonstop_tsc", "invtsc" }, { "ds_cpl", "ds_cpl" }, { "cx16", "cx16" },
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

/* In every x86-64 CPU (AMD64 Architecture, baseline): not listed beside a model. */
static bool in_baseline(const char *feature)
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
        if (!in_baseline(*f) && !g_strv_contains((const char *const *)of_model, *f))
            g_string_append_printf(out, "      <feature name='%s'/>\n", *f);
    g_string_append(out, "      <pages unit='KiB' size='4'/>\n      <pages unit='KiB' size='2048'/>\n      <pages unit='KiB' size='1048576'/>\n");
}

/* ---- calls ---- */

/* A <cpu> document's model and features as one set of names; NULL with error. */
static GHashTable *set_of(const char *xml, GError **error)
{
    doc_auto *d = doc_parse(&schema_cpu, xml, -1, error);
    if (!d)
        return NULL;
    GHashTable *set = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_auto(GStrv) words = g_strsplit(features_of(el_get_or(doc_root(d), "model", "")), " ", -1);
    for (char **w = words; *w; w++)
        if (**w)
            g_hash_table_add(set, g_strdup(*w));
    el_each(f, doc_root(d), "feature") {
        const char *name = el_get(f, "@name"), *policy = el_get_or(f, "@policy", "require");
        if (!name)
            continue;
        if (!strcmp(policy, "disable") || !strcmp(policy, "forbid"))
            g_hash_table_remove(set, name);
        else
            g_hash_table_add(set, g_strdup(name));
    }
    return set;
}

/* 0 incompatible, 1 identical, 2 the host has more. */
GVariant *host_compare_cpu(struct manage_call *c, GError **error)
{
    bool hypervisor = c->proc->number == RPC_CONNECT_COMPARE_HYPERVISOR_CPU;
    g_autoptr(GVariant) v = g_variant_get_child_value(c->args, hypervisor ? 4 : 0), f = g_variant_get_child_value(c->args, hypervisor ? 5 : 1);
    uint32_t flags = g_variant_get_uint32(f);
    if (!manage_check_flags(flags, VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE | VIR_CONNECT_COMPARE_CPU_VALIDATE_XML, error))
        return NULL;
    const char *xml = g_variant_get_string(v, NULL), *inner = strstr(xml, "<cpu"), *end = strstr(xml, "</cpu>");
    g_autofree char *cpu = inner && end ? g_strndup(inner, (gsize)(end - inner) + 6) : g_strdup(xml); /* a capabilities document holds one */
    g_autoptr(GHashTable) want = set_of(cpu, error);
    if (!want)
        return NULL;
    g_auto(GStrv) have = host_cpu_features(NULL);
    g_autoptr(GString) missing = g_string_new(NULL);
    unsigned extra = 0;
    GHashTableIter it;
    gpointer name;
    g_hash_table_iter_init(&it, want);
    while (g_hash_table_iter_next(&it, &name, NULL))
        if (!g_strv_contains((const char *const *)have, name) && !in_baseline(name))
            g_string_append_printf(missing, "%s%s", missing->len ? ", " : "", (char *)name);
    for (char **h = have; *h; h++)
        extra += !in_baseline(*h) && !g_hash_table_contains(want, *h);
    if (missing->len && (flags & VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE))
        return manage_null(error, VIR_ERR_CPU_INCOMPATIBLE, "the host's CPU lacks these features: %s", missing->str);
    return g_variant_new("(i)", missing->len ? VIR_CPU_COMPARE_INCOMPATIBLE : extra ? VIR_CPU_COMPARE_SUPERSET : VIR_CPU_COMPARE_IDENTICAL);
}

GVariant *host_baseline_cpu(struct manage_call *c, GError **error)
{
    bool hypervisor = c->proc->number == RPC_CONNECT_BASELINE_HYPERVISOR_CPU;
    g_autoptr(GVariant) list = g_variant_get_child_value(c->args, hypervisor ? 4 : 0);
    g_autoptr(GHashTable) common = NULL;
    if (!g_variant_n_children(list))
        return manage_null(error, VIR_ERR_INVALID_ARG, "no CPUs given");
    for (gsize i = 0; i < g_variant_n_children(list); i++) {
        g_autoptr(GVariant) v = g_variant_get_child_value(list, i);
        g_autoptr(GHashTable) one = set_of(g_variant_get_string(v, NULL), error);
        if (!one)
            return NULL;
        if (!common) {
            common = g_steal_pointer(&one);
            continue;
        }
        GHashTableIter it;
        gpointer name;
        g_hash_table_iter_init(&it, common);
        while (g_hash_table_iter_next(&it, &name, NULL))
            if (!g_hash_table_contains(one, name))
                g_hash_table_iter_remove(&it);
    }
    g_autofree char **names = (char **)g_hash_table_get_keys_as_array(common, NULL);
    const char *model = host_cpu_model(names);
    g_auto(GStrv) of_model = g_strsplit(features_of(model), " ", -1);
    g_autoptr(GString) out = g_string_new("<cpu mode='custom' match='exact'>\n");
    g_string_append_printf(out, "  <model fallback='forbid'>%s</model>\n", model);
    for (char **n = names; *n; n++)
        if (!in_baseline(*n) && !g_strv_contains((const char *const *)of_model, *n))
            g_string_append_printf(out, "  <feature policy='require' name='%s'/>\n", *n);
    g_string_append(out, "</cpu>\n");
    return g_variant_new("(s)", out->str);
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
