/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CPU models: rows of features, and the parser of `-cpu`.
 *
 * About speculation. `max` offers AutoIBRS, SSB_NO, BTC_NO, SRSO_NO, TSA_*_NO and is an AMD Zen family, so that guests choose
 * their cheapest path (no retpolines, no page table isolation, no verw). What these bits say is about instructions that
 * the guest's program would run; under the translator it runs none of its own branches or loads: a retpoline or a fence of
 * the guest does not shape the host's speculation in translated code, it only costs time. The bits are no promise that two
 * programs in one guest cannot observe each other through the host's caches; a guest that needs that needs KVM on
 * mitigated hardware.
 */
#include "cpu/x86/x86_model.h"

#include <cpuid.h>
#include <string.h>
#include <linux/perf_event.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "base/error.h"
#include "cpu/x86/x86_state.h"

#define NWORDS ((X86_NFEATURES + 63) / 64)

struct feature_row {
    const char *name;
    uint32_t leaf;
    uint8_t subleaf, reg, bit;
};

static const struct feature_row features[] = {
#define X86_FEATURE(id, name, leaf, subleaf, reg, bit) { name, leaf, subleaf, reg, bit },
#include "x86_features.inc"
#undef X86_FEATURE
};
G_STATIC_ASSERT(G_N_ELEMENTS(features) == X86_NFEATURES);

/* Further names in use for the same bit. */
static const struct {
    const char *name;
    enum x86_feature feature;
} aliases[] = {
    { "pni", X86_FEAT_SSE3 },
    { "pclmuldq", X86_FEAT_PCLMULQDQ },
    { "i64", X86_FEAT_LM },
    { "xd", X86_FEAT_NX },
    { "ffxsr", X86_FEAT_FXSR_OPT },
    { "lzcnt", X86_FEAT_ABM },
    { "sha", X86_FEAT_SHA_NI },
    { "clfsh", X86_FEAT_CLFLUSH },
    { "psn", X86_FEAT_PN },
    { "tsc-deadline-timer", X86_FEAT_TSC_DEADLINE },
    { "constant-tsc", X86_FEAT_INVTSC },
    { "kvm-clock", X86_FEAT_KVM_CLOCK },
    { "kvmclock-stable", X86_FEAT_KVM_CLOCK_STABLE },
};

/* KVM's own features, which only KVM supports; named models get these too, with x2APIC, since guests run badly without. */
#define IS_KVM(f) (features[f].leaf == 0x40000001)
/* Offered, and only given to who asks: it is a promise about the host that the user makes. */
static const enum x86_feature on_request[] = { X86_FEAT_KVM_HINT_DEDICATED };

/* Bits that follow from state or topology and cannot be asked for. */
static const enum x86_feature derived[] = { X86_FEAT_OSXSAVE, X86_FEAT_OSPKE, X86_FEAT_HT, X86_FEAT_CMP_LEGACY };
/* What only one vendor's CPUs show; `max` and `host` leave out the other's. */
static const enum x86_feature intel_only[] = { X86_FEAT_SPEC_CTRL, X86_FEAT_STIBP, X86_FEAT_SSBD, X86_FEAT_MD_CLEAR,
                                               X86_FEAT_ARCH_CAPABILITIES };
static const enum x86_feature amd_only[] = {
    X86_FEAT_MMXEXT, X86_FEAT_FXSR_OPT, X86_FEAT_CR8LEGACY, X86_FEAT_SSE4A, X86_FEAT_MISALIGNSSE, X86_FEAT_TOPOEXT,
    X86_FEAT_CLZERO, X86_FEAT_XSAVEERPTR, X86_FEAT_IBPB, X86_FEAT_IBRS, X86_FEAT_AMD_STIBP, X86_FEAT_AMD_SSBD,
    X86_FEAT_AMD_NO_SSB, X86_FEAT_AMD_PSFD, X86_FEAT_BTC_NO, X86_FEAT_NO_NESTED_DATA_BP, X86_FEAT_LFENCE_ALWAYS_SERIALIZING,
    X86_FEAT_NULL_SEL_CLR_BASE, X86_FEAT_AUTO_IBRS, X86_FEAT_NO_SMM_CTL_MSR, X86_FEAT_SRSO_NO,
    X86_FEAT_SRSO_USER_KERNEL_NO, X86_FEAT_TSA_SQ_NO, X86_FEAT_TSA_L1_NO,
};

struct model_row {
    const char *name, *base, *help, *vendor, *brand; /* NULL: the base's */
    uint16_t family, model;
    int8_t stepping;
    bool all;            /* everything supported; else `changes` of the base */
    const char *changes; /* names of features, `-` before those that go */
};

#define INTEL "GenuineIntel"
#define AMD "AuthenticAMD"
#define HYGON "HygonGenuine"

static const struct model_row models[] = {
    { "max", .help = "all features that the accelerator offers on this host (default)", .vendor = AMD, .brand = "Vireo Virtual CPU",
      .family = 25, .model = 17, .stepping = 1, .all = true },
    { "host", .help = "the same as max", .vendor = AMD, .brand = "Vireo Virtual CPU", .family = 25, .model = 17, .stepping = 1, .all = true },
    { "vireo64", .help = "x86-64-v2 baseline that every host can run", .vendor = AMD, .brand = "Vireo Virtual CPU, x86-64-v2",
      .family = 25, .model = 17, .stepping = 1,
      .changes = "fpu vme pse de tsc msr mce cx8 apic pae sep mtrr pge mca cmov pat pse36 mmx fxsr sse sse2 clflush syscall nx lm sse3 ssse3 cx16 "
                 "sse4.1 sse4.2 popcnt lahf-lm rdtscp x2apic tsc-deadline arat auto-ibrs ibpb amd-no-ssb btc-no srso-no tsa-sq-no tsa-l1-no "
                 "lfence-always-serializing null-sel-clr-base" },
#define X86_MODEL(name, base, vendor, family, model, stepping, brand, changes) \
    { name, base, NULL, vendor, brand, family, model, stepping, false, changes },
#define X86_VERSION(name, base, stepping, brand, changes) { name, base, NULL, NULL, brand, 0, 0, stepping, false, changes },
#define X86_ALIAS(name, base) { name, base, NULL, NULL, NULL, 0, 0, -1, false, NULL },
#include "x86_models.inc"
#undef X86_MODEL
#undef X86_VERSION
#undef X86_ALIAS
};

static void set_bit(uint64_t *set, unsigned f, bool on)
{
    if (on) {
        set[f / 64] |= 1ull << (f % 64);
    } else {
        set[f / 64] &= ~(1ull << (f % 64));
    }
}

static bool has_bit(const uint64_t *set, unsigned f)
{
    return set[f / 64] >> (f % 64) & 1;
}

/* '_', '-' and '.' are one character in feature names, and case does not matter. */
static char fold(char c)
{
    return c == '_' || c == '.' ? '-' : g_ascii_tolower(c);
}

static bool same_name(const char *a, const char *b)
{
    while (*a && fold(*a) == fold(*b)) {
        a++;
        b++;
    }
    return fold(*a) == fold(*b);
}

static int find_feature(const char *name)
{
    for (unsigned i = 0; i < X86_NFEATURES; i++) {
        if (same_name(features[i].name, name)) {
            return (int)i;
        }
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(aliases); i++) {
        if (same_name(aliases[i].name, name)) {
            return (int)aliases[i].feature;
        }
    }
    return -1;
}

/* Levenshtein distance; long names count as far away. */
static unsigned distance(const char *a, const char *b)
{
    unsigned row[33];
    size_t nb = strlen(b);

    if (nb > 32 || strlen(a) > 32) {
        return 99;
    }
    for (unsigned j = 0; j <= nb; j++) {
        row[j] = j;
    }
    for (unsigned i = 0; a[i]; i++) {
        unsigned diagonal = row[0];

        row[0] = i + 1;
        for (unsigned j = 0; j < nb; j++) {
            unsigned best = diagonal + (fold(a[i]) != fold(b[j]));

            diagonal = row[j + 1];
            row[j + 1] = MIN(best, MIN(diagonal, row[j]) + 1);
        }
    }
    return row[nb];
}

static bool unknown_feature(const char *name, GError **error)
{
    const char *best = NULL;
    unsigned best_distance = 4;

    for (unsigned i = 0; i < X86_NFEATURES; i++) {
        unsigned d = distance(name, features[i].name);

        if (d < best_distance) {
            best = features[i].name;
            best_distance = d;
        }
    }
    if (best) {
        return vireo_fail(error, VIREO_ERROR_INVALID, "unknown CPU feature '%s'; did you mean '%s'?", name, best);
    }
    return vireo_fail(error, VIREO_ERROR_INVALID, "unknown CPU feature '%s'; '-cpu help' lists all", name);
}

static const struct model_row *model_row(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(models); i++) {
        if (same_name(models[i].name, name)) {
            return &models[i];
        }
    }
    return NULL;
}

static const struct model_row *find_model(const char *name, GError **error)
{
    const struct model_row *row = model_row(name);
    const char *best = NULL;
    unsigned best_distance = MIN(4, 1 + (unsigned)strlen(name) / 2);

    for (unsigned i = 0; !row && i < G_N_ELEMENTS(models); i++) {
        unsigned d = distance(name, models[i].name);

        if (d < best_distance) {
            best = models[i].name;
            best_distance = d;
        }
    }
    if (!row) {
        vireo_fail(error, VIREO_ERROR_INVALID, "unknown CPU model '%s'%s%s%s '-cpu help' lists all", name, best ? "; did you mean '" : ";",
                   best ? best : "", best ? "'?" : "");
    }
    return row;
}

/* The model with what its bases say; the features of a model that names them. */
static struct model_row resolve(const struct model_row *row, uint64_t *set)
{
    struct model_row ret = { 0 };

    memset(set, 0, NWORDS * sizeof(*set));
    if (row->base) {
        ret = resolve(model_row(row->base), set);
    } else {
        set_bit(set, X86_FEAT_HYPERVISOR, true);
    }
    ret.name = row->name;
    ret.all = row->all;
    ret.vendor = row->vendor ? row->vendor : ret.vendor;
    ret.brand = row->brand ? row->brand : ret.brand;
    ret.family = row->family ? row->family : ret.family;
    ret.model = row->family ? row->model : ret.model;
    ret.stepping = row->stepping >= 0 ? row->stepping : ret.stepping;
    for (const char *at = row->changes; at && *at; at += strcspn(at, " "), at += *at == ' ') {
        bool on = *at != '-';
        char name[32] = "";
        int f;

        at += !on;
        memcpy(name, at, MIN(strcspn(at, " "), sizeof(name) - 1));
        f = find_feature(name);
        g_assert(f >= 0); /* of our own table; the unit test goes through all */
        set_bit(set, (unsigned)f, on);
    }
    return ret;
}

/* ---- frequency of the host's TSC, which the guest's follows ---- */

static uint64_t tsc_hz_from_cpuid(void)
{
    unsigned a, b, c, d;

    if (__get_cpuid_count(0x15, 0, &a, &b, &c, &d) && a && b && c) {
        return (uint64_t)c * b / a;
    }
    return 0;
}

static uint64_t clock_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC_RAW, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A (time, TSC) pair as close together as a few tries make it. */
static void sample(uint64_t *ret_ns, uint64_t *ret_tsc)
{
    uint64_t best = UINT64_MAX;

    for (unsigned i = 0; i < 5; i++) {
        uint64_t before = __rdtsc(), ns = clock_ns(), after = __rdtsc();

        if (after - before < best) {
            best = after - before;
            *ret_ns = ns;
            *ret_tsc = before + (after - before) / 2;
        }
    }
}

/* What the kernel itself has measured, as it tells profilers: ns = (tsc * time_mult) >> time_shift (perf_event_open(2),
 * cap_user_time). 0 where that call is not allowed. */
static uint64_t tsc_hz_from_kernel(void)
{
    struct perf_event_attr attr = { .type = PERF_TYPE_SOFTWARE, .size = sizeof(attr), .config = PERF_COUNT_SW_DUMMY,
                                    .exclude_kernel = 1, .exclude_hv = 1 };
    uint64_t hz = 0;
    int fd = (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
    if (fd < 0)
        return 0;
    const struct perf_event_mmap_page *p = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ, MAP_SHARED, fd, 0);
    if (p != MAP_FAILED) {
        if (p->cap_user_time && p->time_mult)
            hz = (uint64_t)(((unsigned __int128)1000000000u << p->time_shift) / p->time_mult);
        munmap((void *)p, (size_t)sysconf(_SC_PAGESIZE));
    }
    close(fd);
    return hz;
}

/* Two samples 2 ms apart, each some 20 ns sharp: good to about 10 ppm, and a start is not held up for longer. */
static uint64_t tsc_hz_measured(void)
{
    uint64_t ns0 = 0, tsc0 = 0, ns1 = 0, tsc1 = 0;
    struct timespec wait = { .tv_nsec = 2000000 };

    sample(&ns0, &tsc0);
    nanosleep(&wait, NULL);
    sample(&ns1, &tsc1);
    if (ns1 <= ns0) {
        return 1000000000;
    }
    return (uint64_t)((unsigned __int128)(tsc1 - tsc0) * 1000000000u / (ns1 - ns0));
}

static uint64_t host_tsc_hz(void)
{
    uint64_t hz = tsc_hz_from_cpuid();

    if (!hz) {
        hz = tsc_hz_from_kernel();
    }
    return hz ? hz : tsc_hz_measured();
}

/* ---- parsing ---- */

struct request {
    const struct model_row *row;
    bool enforce, check;
    uint64_t on[NWORDS], off[NWORDS];
    uint64_t set[NWORDS]; /* of the model's table */
};

static bool parse_number(const char *key, const char *value, unsigned min, unsigned max, unsigned *ret, GError **error)
{
    guint64 v;

    if (!value || !g_ascii_string_to_unsigned(value, 10, min, max, &v, NULL)) {
        return vireo_fail(error, VIREO_ERROR_INVALID, "-cpu: %s must be a number from %u to %u, not '%s'", key, min, max,
                          value ? value : "");
    }
    *ret = (unsigned)v;
    return true;
}

static bool parse_bool(const char *key, const char *value, bool *ret, GError **error)
{
    if (!value || same_name(value, "on") || same_name(value, "yes") || same_name(value, "true")) {
        *ret = true;
        return true;
    }
    if (same_name(value, "off") || same_name(value, "no") || same_name(value, "false")) {
        *ret = false;
        return true;
    }
    return vireo_fail(error, VIREO_ERROR_INVALID, "-cpu: %s is on or off, not '%s'", key, value);
}

static bool parse_feature(struct request *r, const char *name, bool on, GError **error)
{
    int f = find_feature(name);

    if (f < 0) {
        return unknown_feature(name, error);
    }
    set_bit(r->on, (unsigned)f, on);
    set_bit(r->off, (unsigned)f, !on);
    if (f == X86_FEAT_KVM_CLOCK) { /* one clock, found by either of two bits */
        set_bit(r->on, X86_FEAT_KVM_CLOCK_OLD, on);
        set_bit(r->off, X86_FEAT_KVM_CLOCK_OLD, !on);
    }
    return true;
}

/* kvm=off: the guest shall not see that it runs on KVM. */
static void hide_kvm(struct request *r)
{
    for (unsigned i = 0; i < X86_NFEATURES; i++) {
        if (IS_KVM(i)) {
            set_bit(r->on, i, false);
            set_bit(r->off, i, true);
        }
    }
}

static bool parse_text(const char *key, const char *value, char *ret, size_t min, size_t max, GError **error)
{
    if (!value || strlen(value) < min || strlen(value) > max) {
        return vireo_fail(error, VIREO_ERROR_INVALID, "-cpu: %s takes %zu to %zu characters", key, min, max);
    }
    memset(ret, 0, max + 1);
    memcpy(ret, value, strlen(value));
    return true;
}

/* Width of the host's physical addresses; 0: it does not say. */
static unsigned host_phys_bits(void)
{
    unsigned a, b, c, d;

    return __get_cpuid(0x80000008, &a, &b, &c, &d) && (a & 0xff) >= 32 ? a & 0xff : 0;
}

/* The guest's counter is the host's, within what is called equal elsewhere too: 250 parts per million. 0: as it is. */
static bool parse_tsc_frequency(const char *value, GError **error)
{
    guint64 hz, host = host_tsc_hz();

    if (!value || !g_ascii_string_to_unsigned(value, 10, 0, G_MAXINT64, &hz, NULL)) {
        return vireo_fail(error, VIREO_ERROR_INVALID, "-cpu: tsc-frequency takes a number of Hz, not '%s'", value ? value : "");
    }
    if (hz && (hz > host + host / 4000 || hz < host - host / 4000)) {
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED,
                          "-cpu: tsc-frequency=%s is not available: the guest's time stamp counter runs at the host's %" G_GUINT64_FORMAT " Hz", value, host);
    }
    return true;
}

/* A property of the CPU that is no feature bit. *ret_known false: it is none of these. */
static bool parse_property(struct request *r, struct x86_cpu_model *m, const char *key, const char *value,
                           bool *ret_known, GError **error)
{
    unsigned host_bits = MIN(host_phys_bits(), 46);
    /* Accepted for the sake of command lines written for others; they ask for what is so anyway. */
    static const char *const no_effect[] = { "migratable", "host-cache-info", "l3-cache", "fill-mtrr-mask", "vmware-cpuid-freq", "cpuid-0xb", "full-cpuid-auto-level",
                                             "legacy-cache", "x-migrate-smi-count" };
    const struct { const char *key; unsigned min, max; unsigned *ret; } numbers[] = {
        { "family", 3, 270, &m->family }, { "model", 0, 255, &m->model }, { "stepping", 0, 15, &m->stepping },
        { "phys-bits", 32, 46, &m->phys_bits },
    };

    static const struct { const char *key, *why; } refused[] = {
        { "level", "the leaves follow from the features" }, { "min-level", "the leaves follow from the features" },
        { "xlevel", "the leaves follow from the features" }, { "min-xlevel", "the leaves follow from the features" },
        { "xlevel2", "the leaves follow from the features" }, { "apic-id", "it follows from -smp" }, { "socket-id", "it follows from -smp" },
        { "host-phys-bits-limit", "give the width with phys-bits=N" }, { "ucode-rev", "it is the host's" }, { "hv-passthrough", "Hyper-V's interfaces are not there" },
        { "kvm-pv-enforce-cpuid", "a guest that uses what it does not see is not stopped" }, { "kvm-no-smi-migration", "migration is not there yet" },
        { "kvm-msi-ext-dest-id", "there are no more than 255 vCPUs" }, { "xen-vapic", "Xen's interfaces are not there" },
    };

    *ret_known = true;
    if (g_str_has_prefix(key, "hv-") || g_str_has_prefix(key, "hv_")) {
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "-cpu: '%s' is not available: Hyper-V's interfaces are not there; leave it out", key);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(refused); i++) {
        if (same_name(key, refused[i].key)) {
            return (value && same_name(value, "off")) ||
                   vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "-cpu: '%s' is not available: %s; leave it out", key, refused[i].why);
        }
    }
    if (same_name(key, "tsc-frequency")) {
        return parse_tsc_frequency(value, error);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(no_effect); i++) {
        bool ignored;

        if (same_name(key, no_effect[i])) {
            return parse_bool(key, value, &ignored, error);
        }
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(numbers); i++) {
        if (same_name(key, numbers[i].key)) {
            return parse_number(key, value, numbers[i].min, numbers[i].max, numbers[i].ret, error);
        }
    }
    if (same_name(key, "host-phys-bits")) {
        bool on;

        if (!parse_bool(key, value, &on, error)) {
            return false;
        }
        m->phys_bits = on && host_bits ? host_bits : m->phys_bits;
        return true;
    }
    if (same_name(key, "enforce")) {
        return parse_bool(key, value, &r->enforce, error);
    }
    if (same_name(key, "check")) {
        return parse_bool(key, value, &r->check, error);
    }
    if (same_name(key, "kvm")) {
        bool on;

        if (!parse_bool(key, value, &on, error)) {
            return false;
        }
        if (!on) {
            hide_kvm(r);
        }
        return true;
    }
    if (same_name(key, "vendor")) {
        return parse_text(key, value, m->vendor, 12, 12, error);
    }
    if (same_name(key, "model-id")) {
        return parse_text(key, value, m->brand, 0, 48, error);
    }
    if (same_name(key, "pmu")) {
        bool on;

        if (!parse_bool(key, value, &on, error)) {
            return false;
        }
        return !on || vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "-cpu: there is no virtual PMU; leave out 'pmu'");
    }
    *ret_known = false;
    return true;
}

static bool parse_item(struct request *r, struct x86_cpu_model *m, char *item, GError **error)
{
    char *value = strchr(item, '=');
    bool known, on;

    if (item[0] == '+' || item[0] == '-') {
        return parse_feature(r, item + 1, item[0] == '+', error);
    }
    if (value) {
        *value++ = 0;
    }
    if (!parse_property(r, m, item, value, &known, error)) {
        return false;
    }
    if (known) {
        return true;
    }
    if (find_feature(item) < 0) {
        return unknown_feature(item, error);
    }
    return parse_bool(item, value, &on, error) && parse_feature(r, item, on, error);
}

static bool supports_kvm(const uint64_t *supported)
{
    return has_bit(supported, X86_FEAT_KVM_CLOCK) || has_bit(supported, X86_FEAT_KVM_STEAL_TIME);
}

/* What a named model has other than its table says, as QEMU has it: under KVM everything that helps a guest there, and no
 * nested virtualization or MONITOR unless asked for; under the translator no VME. */
static void adapt_to_accelerator(uint64_t *set, const uint64_t *supported, unsigned family)
{
    static const enum x86_feature off_on_kvm[] = { X86_FEAT_SVM, X86_FEAT_MONITOR, X86_FEAT_ACPI };

    if (!supports_kvm(supported)) {
        set_bit(set, X86_FEAT_VME, has_bit(set, X86_FEAT_VME) && has_bit(supported, X86_FEAT_VME));
        return;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(off_on_kvm); i++) {
        set_bit(set, off_on_kvm[i], false);
    }
    for (unsigned i = 0; family >= 6 && i < X86_NFEATURES; i++) {
        if (has_bit(supported, i) && (IS_KVM(i) || i == X86_FEAT_X2APIC)) {
            set_bit(set, i, true);
        }
    }
}

static bool is_svm_part(unsigned f)
{
    return features[f].leaf == 0x8000000a;
}

/* `vendor` is the one that the guest sees, `set` what the model's table has. */
static void model_features(const struct model_row *row, const char *vendor, unsigned family, const uint64_t *set, const uint64_t *supported,
                           uint64_t *ret)
{
    bool intel = !strcmp(vendor, INTEL);
    const enum x86_feature *foreign = intel ? amd_only : intel_only;
    unsigned nforeign = intel ? G_N_ELEMENTS(amd_only) : G_N_ELEMENTS(intel_only);

    memcpy(ret, row->all ? supported : set, NWORDS * sizeof(*ret));
    if (!row->all) {
        adapt_to_accelerator(ret, supported, family);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(on_request); i++) {
        set_bit(ret, on_request[i], false);
    }
    for (unsigned i = 0; row->all && i < nforeign; i++) {
        set_bit(ret, foreign[i], false);
    }
}

/* What SVM's own leaf shows goes with SVM. */
static void drop_svm_parts(uint64_t *set)
{
    for (unsigned i = 0; i < X86_NFEATURES; i++) {
        if (is_svm_part(i)) {
            set_bit(set, i, false);
        }
    }
}

static char *list_features(const uint64_t *set)
{
    GString *s = g_string_new(NULL);

    for (unsigned i = 0; i < X86_NFEATURES; i++) {
        if (has_bit(set, i)) {
            g_string_append_printf(s, "%s%s", s->len ? " " : "", features[i].name);
        }
    }
    return g_string_free(s, FALSE);
}

/* What of `wanted` is not in `supported`; false when nothing. Derived bits are never missing. */
static bool missing(const uint64_t *wanted, const uint64_t *supported, uint64_t *ret)
{
    bool any = false;

    for (unsigned i = 0; i < NWORDS; i++) {
        ret[i] = wanted[i] & ~supported[i];
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(derived); i++) {
        set_bit(ret, derived[i], false);
    }
    for (unsigned i = 0; i < NWORDS; i++) {
        any |= ret[i] != 0;
    }
    return any;
}

static bool choose_features(struct x86_cpu_model *m, const struct request *r, const uint64_t *supported, GError **error)
{
    uint64_t base[NWORDS], lack[NWORDS];

    model_features(r->row, m->vendor, m->family, r->set, supported, base);
    for (unsigned i = 0; i < NWORDS; i++) {
        base[i] &= ~r->off[i];
    }
    if (!has_bit(base, X86_FEAT_SVM) && !has_bit(r->on, X86_FEAT_SVM)) {
        drop_svm_parts(base);
    }
    if (missing(r->on, supported, lack)) {
        g_autofree char *list = list_features(lack);

        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "-cpu: this host's accelerator does not offer: %s", list);
    }
    if (r->enforce && missing(base, supported, lack)) {
        g_autofree char *list = list_features(lack);

        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED,
                          "-cpu %s,enforce: this host's accelerator does not offer: %s; leave out 'enforce' to do without",
                          r->row->name, list);
    }
    if (r->check && missing(base, supported, lack)) {
        m->dropped = list_features(lack);
    }
    for (unsigned i = 0; i < NWORDS; i++) {
        m->features[i] = (base[i] & supported[i]) | r->on[i];
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(derived); i++) {
        set_bit(m->features, derived[i], false);
    }
    if (!x86_model_has(m, X86_FEAT_SVM)) {
        drop_svm_parts(m->features);
    }
    return true;
}

/* Where the host's CPU itself runs the guest, `host` and `max` are that CPU: workarounds and microcode go by its name, and no
 * guest may think that addresses are wider than they are. */
static void host_identity(struct x86_cpu_model *m, bool all)
{
    unsigned a, b, c, d, name[12];

    if (host_phys_bits()) {
        m->phys_bits = MIN(m->phys_bits, host_phys_bits());
    }
    if (!all || !__get_cpuid(0, &a, &b, &c, &d)) {
        return;
    }
    memcpy(m->vendor, &b, 4);
    memcpy(m->vendor + 4, &d, 4);
    memcpy(m->vendor + 8, &c, 4);
    if (__get_cpuid(1, &a, &b, &c, &d)) {
        m->family = (a >> 8 & 15) + ((a >> 8 & 15) == 15 ? a >> 20 & 0xff : 0);
        m->model = (a >> 4 & 15) | (a >> 12 & 0xf0);
        m->stepping = a & 15;
    }
    for (unsigned i = 0; i < 3; i++) {
        if (!__get_cpuid(0x80000002 + i, &name[4 * i], &name[4 * i + 1], &name[4 * i + 2], &name[4 * i + 3])) {
            return;
        }
    }
    memcpy(m->brand, name, 48);
    m->brand[48] = 0;
}

struct x86_cpu_model *x86_cpu_model_describe(const char *spec, const uint64_t *supported, GError **error)
{
    g_auto(GStrv) items = g_strsplit(spec && *spec ? spec : "max", ",", -1);
    struct request r = { .row = find_model(items[0], error) };
    struct x86_cpu_model *m;

    if (!r.row) {
        return NULL;
    }
    struct model_row row = resolve(r.row, r.set);
    m = g_new0(struct x86_cpu_model, 1);
    m->name = row.name;
    g_strlcpy(m->vendor, row.vendor, sizeof(m->vendor));
    g_strlcpy(m->brand, row.brand, sizeof(m->brand));
    m->family = row.family;
    m->model = row.model;
    m->stepping = (unsigned)row.stepping;
    m->phys_bits = 40;
    m->virt_bits = 48;
    if (supports_kvm(supported)) {
        host_identity(m, r.row->all);
    }
    for (unsigned i = 1; items[i]; i++) {
        GError *err = NULL;

        if (*items[i] && !parse_item(&r, m, items[i], &err)) {
            g_propagate_error(error, err);
            x86_cpu_model_free(m);
            return NULL;
        }
    }
    if (!choose_features(m, &r, supported, error)) {
        x86_cpu_model_free(m);
        return NULL;
    }
    if (!x86_model_has(m, X86_FEAT_LM)) {
        m->phys_bits = MIN(m->phys_bits, 36);
        m->virt_bits = 32;
    } else if (x86_model_has(m, X86_FEAT_LA57)) {
        m->virt_bits = 57; /* Linux takes addresses beyond this for not canonical */
    }
    return m;
}

struct x86_cpu_model *x86_cpu_model_parse(const char *spec, const uint64_t *supported, GError **error)
{
    struct x86_cpu_model *m = x86_cpu_model_describe(spec, supported, error);

    if (m) {
        m->tsc_hz = host_tsc_hz();
    }
    return m;
}

void x86_cpu_model_free(struct x86_cpu_model *m)
{
    if (m) {
        g_free(m->dropped);
    }
    g_free(m);
}

void x86_host_features(uint64_t ret_features[(X86_NFEATURES + 63) / 64])
{
    /* The table has a leaf's rows together: CPUID once for each, since in a virtual machine each costs many microseconds. */
    uint32_t leaf = ~0u, subleaf = ~0u, r[4] = { 0 };
    uint32_t max[2] = { __get_cpuid_max(0, NULL), __get_cpuid_max(0x80000000u, NULL) };

    memset(ret_features, 0, NWORDS * sizeof(*ret_features));
    for (unsigned i = 0; i < X86_NFEATURES; i++) {
        if (features[i].leaf > max[features[i].leaf >> 31])
            continue;
        if (features[i].leaf != leaf || features[i].subleaf != subleaf) {
            leaf = features[i].leaf;
            subleaf = features[i].subleaf;
            __cpuid_count(leaf, subleaf, r[0], r[1], r[2], r[3]);
        }
        if (r[features[i].reg] >> features[i].bit & 1)
            set_bit(ret_features, i, true);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(derived); i++) {
        set_bit(ret_features, derived[i], false);
    }
}

char *x86_cpu_help(void)
{
    GString *s = g_string_new("CPU models (-cpu NAME[,+feature][,-feature][,feature=on|off][,enforce]"
                              "[,vendor=..][,family=..][,model=..][,stepping=..][,model-id=..][,phys-bits=..]):\n");
    unsigned column = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(models); i++) {
        const struct model_row *row = &models[i];
        uint64_t set[NWORDS];

        if (row->base && !row->changes) {
            g_string_append_printf(s, "  %-24s the same as %s\n", row->name, row->base);
        } else {
            g_string_append_printf(s, "  %-24s %s\n", row->name, row->help ? row->help : resolve(row, set).brand);
        }
    }
    g_string_append(s, "\nFeatures:\n ");
    for (unsigned i = 0; i < X86_NFEATURES; i++) {
        column += (unsigned)strlen(features[i].name) + 1;
        if (column > 76) {
            g_string_append(s, "\n ");
            column = (unsigned)strlen(features[i].name) + 1;
        }
        g_string_append_printf(s, " %s", features[i].name);
    }
    g_string_append_c(s, '\n');
    return g_string_free(s, FALSE);
}

const char *x86_cpu_model_at(unsigned i)
{
    return i < G_N_ELEMENTS(models) ? models[i].name : NULL;
}

const char *x86_cpu_model_alias_of(const char *model)
{
    const struct model_row *row = model_row(model);

    return row && row->base && !row->changes ? row->base : NULL;
}

const char *x86_feature_name(enum x86_feature f)
{
    return features[f].name;
}

int x86_feature_find(const char *name)
{
    return find_feature(name);
}

const char **x86_cpu_model_unavailable(const char *model, const uint64_t *supported)
{
    const struct model_row *row = find_model(model, NULL);
    uint64_t set[NWORDS], own[NWORDS], lack[NWORDS];
    GPtrArray *names = g_ptr_array_new();

    if (row) {
        struct model_row whole = resolve(row, own);

        model_features(row, whole.vendor, whole.family, own, supported, set);
        if (!has_bit(set, X86_FEAT_SVM)) {
            drop_svm_parts(set);
        }
        missing(set, supported, lack);
        for (unsigned i = 0; i < X86_NFEATURES; i++) {
            if (has_bit(lack, i)) {
                g_ptr_array_add(names, (void *)features[i].name);
            }
        }
    }
    g_ptr_array_add(names, NULL);
    return (const char **)g_ptr_array_free(names, FALSE);
}
