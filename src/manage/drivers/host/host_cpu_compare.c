/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Comparing CPUs and finding what they have in common: sets of features under libvirt's names. What a named model has, the emulator tells (host_emulator_expand()). */
#include <string.h>

#include "manage/drivers/host/host.h"
#include "manage/model/doc.h"

static const struct host_model *find_model(const struct host_emulator *e, const char *name)
{
    for (unsigned i = 0; i < e->models->len; i++)
        if (!strcmp(((struct host_model *)e->models->pdata[i])->name, name))
            return e->models->pdata[i];
    return NULL;
}

static GHashTable *new_set(char **names)
{
    GHashTable *set = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (char **n = names; n && *n; n++)
        g_hash_table_add(set, g_strdup(host_cpu_feature_name(*n)));
    return set;
}

static gint by_name(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* What is in a and not in b, sorted; the strings are a's. b: NULL is an empty set. */
static GPtrArray *difference(GHashTable *a, GHashTable *b)
{
    GPtrArray *out = g_ptr_array_new();
    GHashTableIter it;
    gpointer name;
    g_hash_table_iter_init(&it, a);
    while (g_hash_table_iter_next(&it, &name, NULL))
        if (!b || !g_hash_table_contains(b, name))
            g_ptr_array_add(out, name);
    g_ptr_array_sort(out, by_name);
    return out;
}

/* The features that a <cpu> asks for, by its model and its own list; NULL with error. */
static GHashTable *set_of(const struct host_emulator *e, const struct el *cpu, GError **error)
{
    const char *name = el_get(cpu, "model");
    const struct host_model *model = name ? find_model(e, name) : NULL;
    if (name && !model)
        return manage_null(error, VIR_ERR_INTERNAL_ERROR, "Unknown CPU model %s: 'virsh cpu-models x86_64' lists those there are", name);
    GHashTable *set = new_set(model ? model->features : NULL);
    el_each(f, cpu, "feature") {
        const char *feature = el_get(f, "@name"), *policy = el_get_or(f, "@policy", "require");
        if (!feature)
            continue;
        if (!strcmp(policy, "require"))
            g_hash_table_add(set, g_strdup(feature));
        else
            g_hash_table_remove(set, feature);
    }
    return set;
}

/* The emulator that a call names (the hypervisor's calls do), with its models' features; NULL with error. */
static struct host_emulator *emulator_of(struct manage_call *c, bool hypervisor, GError **error)
{
    const char *path = NULL, *arch = NULL, *machine = NULL, *virt = NULL;
    if (hypervisor) {
        g_variant_get_child(c->args, 0, "m&s", &path);
        g_variant_get_child(c->args, 1, "m&s", &arch);
        g_variant_get_child(c->args, 2, "m&s", &machine);
        g_variant_get_child(c->args, 3, "m&s", &virt);
    }
    if (virt && strcmp(virt, "kvm") && strcmp(virt, "qemu"))
        return manage_null(error, VIR_ERR_INVALID_ARG, "unknown virttype: %s; there are: kvm, qemu", virt);
    struct host_emulator *e = host_emulator_get(c->conn->state, path, error);
    if (e && arch && !host_emulator_runs(e, arch)) {
        manage_fail(error, VIR_ERR_INVALID_ARG, "the emulator '%s' runs guests of the architecture %s, not %s", e->path, e->arch, arch);
    } else if (e && machine && !host_emulator_machine(e, machine)) {
        manage_fail(error, VIR_ERR_INVALID_ARG, "the machine '%s' is not supported by emulator '%s'", machine, e->path);
    } else if (e && host_emulator_expand(c->conn->state, e, error)) {
        return e;
    }
    if (e)
        host_emulator_unref(e);
    return NULL;
}

/* ---- comparing ---- */

static bool is_x86(const char *arch)
{
    return !arch || !strcmp(arch, "x86_64") || !strcmp(arch, "i686");
}

/* Those of a list that count, with commas between them; empty: none. */
static char *named(const GPtrArray *names)
{
    GString *text = g_string_new(NULL);
    for (unsigned i = 0; i < names->len; i++)
        if (!host_cpu_in_baseline(names->pdata[i]))
            g_string_append_printf(text, "%s%s", text->len ? ", " : "", (char *)names->pdata[i]);
    return g_string_free(text, FALSE);
}

/* Why a CPU cannot be had, for people; NULL: it can. ret_more: there is more than it asks for. */
static char *why_not(const struct el *cpu, const char *vendor, GHashTable *want, GHashTable *have, bool *ret_more)
{
    g_autoptr(GPtrArray) missing = difference(want, have), extra = difference(have, want);
    g_autofree char *lacks = named(missing), *more = named(extra);
    *ret_more = *more != 0;
    if (!is_x86(el_get(cpu, "arch")))
        return g_strdup_printf("CPU arch %s does not match host arch", el_get(cpu, "arch"));
    if (vendor && el_get(cpu, "vendor") && strcmp(vendor, el_get(cpu, "vendor")) != 0)
        return g_strdup_printf("host CPU vendor does not match required CPU vendor %s", el_get(cpu, "vendor"));
    if (*lacks)
        return g_strdup_printf("Host CPU does not provide required features: %s", lacks);
    el_each(f, cpu, "feature")
        if (el_is(f, "@policy", "forbid") && el_get(f, "@name") && g_hash_table_contains(have, el_get(f, "@name")))
            return g_strdup_printf("Host CPU provides forbidden features: %s", el_get(f, "@name"));
    return *more && el_is(cpu, "@match", "strict") ? g_strdup_printf("Host CPU does not strictly match guest CPU: Extra features: %s", more) : NULL;
}

GVariant *host_compare_cpu(struct manage_call *c, GError **error)
{
    bool hypervisor = c->proc->number == RPC_CONNECT_COMPARE_HYPERVISOR_CPU;
    g_autoptr(GVariant) v = g_variant_get_child_value(c->args, hypervisor ? 4 : 0), f = g_variant_get_child_value(c->args, hypervisor ? 5 : 1);
    uint32_t flags = g_variant_get_uint32(f);
    if (!manage_check_flags(flags, VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE | VIR_CONNECT_COMPARE_CPU_VALIDATE_XML, error))
        return NULL;
    const char *xml = g_variant_get_string(v, NULL), *inner = strstr(xml, "<cpu"), *end = strstr(xml, "</cpu>");
    g_autofree char *text = inner && end ? g_strndup(inner, (gsize)(end - inner) + 6) : g_strdup(xml); /* a capabilities document holds one */
    doc_auto *d = doc_parse(&schema_cpu, text, -1, error);
    host_emulator_auto *e = d ? emulator_of(c, hypervisor, error) : NULL;
    if (!e)
        return NULL;
    g_autoptr(GHashTable) want = is_x86(el_get(doc_root(d), "arch")) ? set_of(e, doc_root(d), error) : new_set(NULL);
    if (!want)
        return NULL;
    g_autofree char *vendor = NULL;
    g_auto(GStrv) features = host_cpu_features(&vendor);
    g_autoptr(GHashTable) have = new_set(hypervisor ? e->max_features : features);
    bool more;
    g_autofree char *why = why_not(doc_root(d), hypervisor ? NULL : vendor, want, have, &more);
    if (why && (flags & VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE))
        return manage_null(error, VIR_ERR_CPU_INCOMPATIBLE, "%s", why);
    return g_variant_new("(i)", why ? VIR_CPU_COMPARE_INCOMPATIBLE : more ? VIR_CPU_COMPARE_SUPERSET : VIR_CPU_COMPARE_IDENTICAL);
}

/* ---- what CPUs have in common ---- */

struct baseline {
    GHashTable *common;
    char *model;  /* that all of them name; NULL: they differ */
    char *vendor; /* of all of them; NULL: one does not say */
};

static void keep_common(GHashTable *set, GHashTable *with)
{
    g_autoptr(GPtrArray) gone = difference(set, with);
    for (unsigned i = 0; i < gone->len; i++)
        g_hash_table_remove(set, gone->pdata[i]);
}

static bool take_cpu(struct baseline *b, const struct host_emulator *e, const char *xml, unsigned index, GError **error)
{
    doc_auto *d = doc_parse(&schema_cpu, xml, -1, error);
    if (!d)
        return false;
    const struct el *cpu = doc_root(d);
    const char *model = el_get(cpu, "model"), *vendor = el_get(cpu, "vendor");
    if (!el_get(cpu, "arch") && !el_get(cpu, "@mode") && !el_get(cpu, "@match"))
        return manage_fail(error, VIR_ERR_XML_ERROR, "Missing CPU architecture: CPU %u lacks <arch>", index);
    if (!is_x86(el_get(cpu, "arch")))
        return manage_fail(error, VIR_ERR_NO_SUPPORT, "cannot compute baseline CPU of %s architecture", el_get(cpu, "arch"));
    if (!model)
        return manage_fail(error, VIR_ERR_XML_ERROR, "Missing CPU model name: CPU %u lacks <model>", index);
    g_autoptr(GHashTable) one = set_of(e, cpu, error);
    if (!one)
        return false;
    if (b->vendor && vendor && strcmp(b->vendor, vendor) != 0)
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "CPU vendors do not match: %s and %s", b->vendor, vendor);
    if (!b->common) {
        b->common = g_steal_pointer(&one);
        b->model = g_strdup(model);
        b->vendor = g_strdup(vendor);
        return true;
    }
    keep_common(b->common, one);
    if (g_strcmp0(b->model, model) != 0)
        g_clear_pointer(&b->model, g_free);
    if (!vendor)
        g_clear_pointer(&b->vendor, g_free);
    return true;
}

/* The model with the fewest features to add or to take away; of several such the one with most features, then the first. */
static const struct host_model *nearest(const struct host_emulator *e, GHashTable *set)
{
    const struct host_model *best = NULL;
    unsigned best_distance = 0, best_size = 0;
    for (unsigned i = 0; i < e->models->len; i++) {
        const struct host_model *m = e->models->pdata[i];
        unsigned size = g_strv_length(m->features), common = 0;
        for (char **f = m->features; *f; f++)
            common += g_hash_table_contains(set, *f);
        unsigned distance = g_hash_table_size(set) + size - 2 * common;
        if (!best || distance < best_distance || (distance == best_distance && size > best_size)) {
            best = m;
            best_distance = distance;
            best_size = size;
        }
    }
    return best;
}

static void print_features(GString *out, const GPtrArray *names, const char *policy)
{
    for (unsigned i = 0; i < names->len; i++)
        g_string_append_printf(out, "  <feature policy='%s' name='%s'/>\n", policy, (char *)names->pdata[i]);
}

static GVariant *print_baseline(const struct baseline *b, const struct host_emulator *e, bool forbid, bool all, GError **error)
{
    const struct host_model *m = b->model ? find_model(e, b->model) : NULL;
    if (!g_hash_table_size(b->common) || (!m && !(m = nearest(e, b->common))))
        return manage_null(error, VIR_ERR_OPERATION_FAILED, "CPUs are incompatible: they have nothing in common");
    g_autoptr(GHashTable) own = new_set(m->features);
    g_autoptr(GPtrArray) more = difference(b->common, all ? NULL : own), less = difference(own, b->common);
    g_autoptr(GString) out = g_string_new("<cpu mode='custom' match='exact'>\n");
    g_string_append_printf(out, "  <model fallback='%s'>%s</model>\n", forbid || b->model ? "forbid" : "allow", m->name);
    if (b->vendor)
        g_string_append_printf(out, "  <vendor>%s</vendor>\n", b->vendor);
    print_features(out, more, "require");
    print_features(out, less, "disable");
    g_string_append(out, "</cpu>\n");
    return g_variant_new("(s)", out->str);
}

static GVariant *make_baseline(struct manage_call *c, struct baseline *b, bool hypervisor, GError **error)
{
    static const char *const not_migratable[] = { "invtsc", "cmt", "mbm_total", "mbm_local" };
    g_autoptr(GVariant) list = g_variant_get_child_value(c->args, hypervisor ? 4 : 0), f = g_variant_get_child_value(c->args, hypervisor ? 5 : 1);
    uint32_t flags = g_variant_get_uint32(f);
    if (!manage_check_flags(flags, VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES | VIR_CONNECT_BASELINE_CPU_MIGRATABLE, error))
        return NULL;
    if (!g_variant_n_children(list))
        return manage_null(error, VIR_ERR_INVALID_ARG, "no CPUs given");
    host_emulator_auto *e = emulator_of(c, hypervisor, error);
    if (!e)
        return NULL;
    for (gsize i = 0; i < g_variant_n_children(list); i++) {
        g_autoptr(GVariant) v = g_variant_get_child_value(list, i);
        if (!take_cpu(b, e, g_variant_get_string(v, NULL), (unsigned)i, error))
            return NULL;
    }
    if (hypervisor) {
        g_autoptr(GHashTable) offered = new_set(e->max_features);
        keep_common(b->common, offered);
    }
    for (unsigned i = 0; (flags & VIR_CONNECT_BASELINE_CPU_MIGRATABLE) && i < G_N_ELEMENTS(not_migratable); i++)
        g_hash_table_remove(b->common, not_migratable[i]);
    return print_baseline(b, e, hypervisor, flags & VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES, error);
}

GVariant *host_baseline_cpu(struct manage_call *c, GError **error)
{
    struct baseline b = { 0 };
    GVariant *answer = make_baseline(c, &b, c->proc->number == RPC_CONNECT_BASELINE_HYPERVISOR_CPU, error);
    g_clear_pointer(&b.common, g_hash_table_unref);
    g_free(b.model);
    g_free(b.vendor);
    return answer;
}
