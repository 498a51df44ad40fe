/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a saved machine consists of beside RAM: the table `parts`, in the order of saving and loading. */
#include <string.h>

#include "base/error.h"
#include "cpu/x86/x86_model.h"
#include "cpu/x86/x86_state.h"
#include "vmm/bus/pci.h"
#include "vmm/core/device.h"
#include "vmm/core/irqchip.h"
#include "vmm/core/machine.h"
#include "vmm/core/state.h"
#include "vmm/migrate/migrate_private.h"

/* ---- names of devices: the same in both machines, in whatever order these were put together ---- */

/* Its place from the root bus: "1c.0/00.0". */
static char *pci_place(const struct pci_device *d)
{
    const struct pci_device *bridge = pci_bus_bridge(d->bus);
    g_autofree char *above = bridge ? pci_place(bridge) : NULL;
    return g_strdup_printf("%s%s%02x.%x", above ? above : "", above ? "/" : "", PCI_SLOT(d->devfn), PCI_FUNC(d->devfn));
}

/* By its place where it has one: ids of what came and went while the machine ran are others where it is started anew. */
static char *plain_name(const struct device *d)
{
    const struct pci_device *pci = pci_function(d);
    g_autofree char *place = pci ? pci_place(pci) : NULL;
    if (place)
        return g_strdup_printf("%s at PCI %s", d->class->name, place);
    if (d->parent && *d->unit) {
        g_autofree char *parent = plain_name(d->parent);
        return g_strdup_printf("%s at %s of %s", d->class->name, d->unit, parent);
    }
    return g_strdup_printf("%s%s%s%s", d->class->name, d->id ? " '" : "", d->id ? d->id : "", d->id ? "'" : "");
}

static char *device_name(const struct machine *m, const struct device *d)
{
    g_autofree char *plain = plain_name(d);
    unsigned before = 0;
    for (guint i = 0; i < m->devices->len && m->devices->pdata[i] != d; i++) {
        g_autofree char *other = plain_name(m->devices->pdata[i]);
        before += !strcmp(other, plain);
    }
    return before ? g_strdup_printf("device %s number %u", plain, before + 1) : g_strdup_printf("device %s", plain);
}

/* ---- clocks ---- */

static bool save_clocks(struct machine *m, struct state_writer *w)
{
    struct machine_clocks c;
    machine_clocks_get(m, &c);
    state_put_u64(w, "tsc", c.tsc);
    state_put_u64(w, "nanoseconds", c.ns);
    state_put_u64(w, "accelerator_nanoseconds", c.accel_ns);
    return true;
}

static bool load_clocks(struct machine *m, struct state_reader *r, GError **error)
{
    struct machine_clocks c;
    if (!state_get_u64(r, "tsc", UINT64_MAX, &c.tsc, error) || !state_get_u64(r, "nanoseconds", INT64_MAX / 2, &c.ns, error) ||
        !state_get_u64(r, "accelerator_nanoseconds", INT64_MAX / 2, &c.accel_ns, error))
        return false;
    machine_clocks_set(m, &c);
    return true;
}

/* ---- vCPUs ---- */

#define S struct x86_state
#define RAW(member) { #member, offsetof(S, member), 1, sizeof(((S *)0)->member) }
static const struct device_field vcpu_fields[] = {
    DEVICE_ARRAY(S, gpr), DEVICE_FIELD(S, rip), DEVICE_FIELD(S, rflags), RAW(seg), RAW(ldt), RAW(tr), RAW(gdt), RAW(idt), DEVICE_FIELD(S, cr0),
    DEVICE_FIELD(S, cr2), DEVICE_FIELD(S, cr3), DEVICE_FIELD(S, cr4), DEVICE_FIELD(S, cr8), DEVICE_FIELD(S, xcr0), DEVICE_ARRAY(S, dr), DEVICE_FIELD(S, dr6),
    DEVICE_FIELD(S, dr7), DEVICE_FIELD(S, efer), DEVICE_FIELD(S, star), DEVICE_FIELD(S, lstar), DEVICE_FIELD(S, cstar), DEVICE_FIELD(S, sfmask),
    DEVICE_FIELD(S, kernel_gs_base), DEVICE_FIELD(S, sysenter_cs), DEVICE_FIELD(S, sysenter_esp), DEVICE_FIELD(S, sysenter_eip), DEVICE_FIELD(S, pat),
    DEVICE_FIELD(S, apic_base), DEVICE_FIELD(S, misc_enable), DEVICE_FIELD(S, tsc_aux), DEVICE_FIELD(S, spec_ctrl), DEVICE_FIELD(S, feature_control),
    DEVICE_FIELD(S, tsc_adjust), DEVICE_FIELD(S, mtrr_def), DEVICE_ARRAY(S, mtrr_fix), DEVICE_ARRAY(S, mtrr_base), DEVICE_ARRAY(S, mtrr_mask),
    DEVICE_FIELD(S, mcg_status), DEVICE_FIELD(S, activity), DEVICE_FIELD(S, interrupt_shadow), DEVICE_FIELD(S, nmi_pending), DEVICE_FIELD(S, nmi_blocked),
    DEVICE_FIELD(S, exception_pending), DEVICE_FIELD(S, exception_vector), DEVICE_FIELD(S, exception_has_error), DEVICE_FIELD(S, exception_error),
    DEVICE_FIELD(S, interrupt_injected), DEVICE_FIELD(S, interrupt_vector), DEVICE_FIELD(S, interrupt_soft), DEVICE_FIELD(S, nmi_injected), DEVICE_FIELD(S, smm),
    DEVICE_FIELD(S, smi_pending), DEVICE_FIELD(S, sipi_vector), DEVICE_FIELD(S, triple_fault_pending), DEVICE_FIELD(S, smbase), DEVICE_FIELD(S, debugctl),
    DEVICE_FIELD(S, xss), DEVICE_ARRAY(S, xsave), { 0 }
};

static void save_vcpu(struct machine *m, unsigned i, struct state_writer *w)
{
    struct x86_state state = { 0 }, *s = &state;
    uint64_t tsc;
    machine_vcpu_save(m, i, s, &tsc);
    for (const struct device_field *f = vcpu_fields; f->name; f++)
        state_put(w, f->name, (const char *)s + f->offset, f->size, f->count);
    state_put_u64(w, "tsc", tsc);
    state_put(w, "msrs", s->msrs, 1, MIN(s->nmsrs, X86_MSRS_MAX) * (uint32_t)sizeof(s->msrs[0]));
    state_put(w, "nested", s->nested, 1, MIN(s->nested_size, X86_NESTED_SIZE));
}

/* What the accelerators do not repair or refuse by themselves. */
static bool sane(const struct x86_state *s, struct state_reader *r, GError **error)
{
    const uint8_t flags[] = { s->interrupt_shadow, s->nmi_pending, s->nmi_blocked, s->exception_pending, s->exception_has_error, s->interrupt_injected,
                              s->interrupt_soft, s->nmi_injected, s->smm, s->smi_pending, s->triple_fault_pending };
    for (size_t i = 0; i < sizeof(flags); i++) {
        if (flags[i] > 1)
            return state_bad(r, error, "one of its conditions is neither 0 nor 1");
    }
    if (s->activity > X86_SIPI_RECEIVED || s->exception_vector > 31 || s->cr8 > 15)
        return state_bad(r, error, "activity %u, exception %u, priority %u", s->activity, s->exception_vector, (unsigned)s->cr8);
    return true;
}

static bool load_vcpu(struct machine *m, unsigned i, struct state_reader *r, GError **error)
{
    struct x86_state state = { 0 }, *s = &state;
    uint64_t tsc;
    uint32_t msrs;
    for (const struct device_field *f = vcpu_fields; f->name; f++) {
        if (!state_get(r, f->name, (char *)s + f->offset, f->size, f->count, error))
            return false;
    }
    if (!state_get_u64(r, "tsc", UINT64_MAX, &tsc, error) || !state_get_some(r, "msrs", s->msrs, 1, sizeof(s->msrs), &msrs, error) ||
        !state_get_some(r, "nested", s->nested, 1, sizeof(s->nested), &s->nested_size, error) || !sane(s, r, error))
        return false;
    s->nmsrs = msrs / (uint32_t)sizeof(s->msrs[0]);
    return machine_vcpu_load(m, i, s, tsc, error);
}

/* ---- interrupt controllers, wherever they are ---- */

static void save_irqchip(struct machine *m, struct state_writer *w)
{
    g_autofree struct irqchip_state *s = irqchip_read(m);
    state_put(w, "chip", &s->chip, 1, sizeof(s->chip));
    for (unsigned i = 0; i < s->nlapics; i++) {
        g_autofree char *name = g_strdup_printf("lapic%u", i);
        if (m->vcpus[i])
            state_put(w, name, &s->lapic[i], 1, sizeof(s->lapic[i]));
    }
}

static bool load_irqchip(struct machine *m, struct state_reader *r, GError **error)
{
    g_autofree struct irqchip_state *s = irqchip_read(m);
    if (!state_get(r, "chip", &s->chip, 1, sizeof(s->chip), error))
        return false;
    for (unsigned i = 0; i < s->nlapics; i++) {
        g_autofree char *name = g_strdup_printf("lapic%u", i);
        if (m->vcpus[i] && !state_get(r, name, &s->lapic[i], 1, sizeof(s->lapic[i]), error))
            return false;
    }
    if (!irqchip_write(m, s, error))
        return false;
    for (unsigned i = 0; i < m->max_vcpus; i++) {
        struct x86_state state;
        if (!m->vcpus[i])
            continue;
        vcpu_get_state(m->vcpus[i], &state); /* what it waits for may lie in its local APIC */
        machine_vcpu_loaded(m, i, &state);
    }
    return true;
}

/* ---- devices ---- */

static void save_device(struct device *d, struct state_writer *w)
{
    struct pci_device *pci = pci_function(d);
    if (pci)
        pci_device_save(pci, w);
    g_mutex_lock(&d->lock);
    device_save(d, w);
    g_mutex_unlock(&d->lock);
}

static bool load_device(struct device *d, struct state_reader *r, GError **error)
{
    struct pci_device *pci = pci_function(d);
    if (pci && !pci_device_load(pci, r, error))
        return false;
    g_mutex_lock(&d->lock);
    bool ok = device_load(d, r, error);
    g_mutex_unlock(&d->lock);
    return ok;
}

void state_drain(struct machine *m)
{
    for (guint i = 0; i < m->devices->len; i++) {
        struct device *d = m->devices->pdata[i];
        if (!d->class->drain)
            continue;
        g_mutex_lock(&d->lock);
        d->class->drain(d);
        g_mutex_unlock(&d->lock);
    }
}

bool migrate_possible(struct machine *m, GError **error)
{
    for (guint i = 0; i < m->devices->len; i++) {
        const struct device *d = m->devices->pdata[i];
        g_autofree char *name = d->class->unsaved ? device_name(m, d) : NULL;
        if (name)
            return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "the machine cannot be saved or migrated with the %s: %s", name, d->class->unsaved);
    }
    return true;
}

/* ---- the table ---- */

/* One record, or one for each of many things of a kind. */
struct part {
    unsigned (*count)(const struct machine *m); /* NULL: one */
    char *(*name)(const struct machine *m, unsigned i); /* NULL: there is none of this number */
    void (*save)(struct machine *m, unsigned i, struct state_writer *w);
    bool (*load)(struct machine *m, unsigned i, struct state_reader *r, GError **error);
};

static char *clocks_name(const struct machine *m, unsigned i) { return g_strdup("clocks"); }
static char *irqchip_name(const struct machine *m, unsigned i) { return g_strdup("interrupt controllers"); }
static char *vcpu_name(const struct machine *m, unsigned i) { return m->vcpus[i] ? g_strdup_printf("vCPU %u", i) : NULL; }
static unsigned vcpu_count(const struct machine *m) { return m->max_vcpus; }
static unsigned device_count(const struct machine *m) { return m->devices->len; }

/* A device that has nothing of its own has no record. */
static char *nth_device_name(const struct machine *m, unsigned i)
{
    const struct device *d = m->devices->pdata[i];
    return pci_function(d) || d->class->fields || d->class->save ? device_name(m, d) : NULL;
}

static void part_save_clocks(struct machine *m, unsigned i, struct state_writer *w) { (void)save_clocks(m, w); }
static bool part_load_clocks(struct machine *m, unsigned i, struct state_reader *r, GError **error) { return load_clocks(m, r, error); }
static void part_save_irqchip(struct machine *m, unsigned i, struct state_writer *w) { save_irqchip(m, w); }
static bool part_load_irqchip(struct machine *m, unsigned i, struct state_reader *r, GError **error) { return load_irqchip(m, r, error); }
static void part_save_device(struct machine *m, unsigned i, struct state_writer *w) { save_device(m->devices->pdata[i], w); }
static bool part_load_device(struct machine *m, unsigned i, struct state_reader *r, GError **error) { return load_device(m->devices->pdata[i], r, error); }

/* Devices compute from the clocks, and pull lines while they come to life: so the controllers come after them. */
static const struct part parts[] = {
    { NULL, clocks_name, part_save_clocks, part_load_clocks },
    { vcpu_count, vcpu_name, save_vcpu, load_vcpu },
    { device_count, nth_device_name, part_save_device, part_load_device },
    { NULL, irqchip_name, part_save_irqchip, part_load_irqchip },
};

static void named_state_free(void *opaque)
{
    struct named_state *s = opaque;
    g_free(s->name);
    g_bytes_unref(s->values);
    g_free(s);
}

static bool collect(GPtrArray *all, char *name, struct state_writer *w, GError **error)
{
    g_autofree char *why = g_strdup(state_refused(w));
    struct named_state s = { name, state_writer_end(w) };
    g_ptr_array_add(all, g_memdup2(&s, sizeof(s)));
    if (g_bytes_get_size(s.values) > STREAM_RECORD_MAX - 256)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "the state of the %s is too large to be saved", name);
    return !why || vireo_fail(error, VIREO_ERROR_BUSY, "the machine cannot be saved now: %s: %s", name, why);
}

static bool collect_part(struct machine *m, const struct part *p, GPtrArray *all, GError **error)
{
    for (unsigned i = 0, n = p->count ? p->count(m) : 1; i < n; i++) {
        char *name = p->name(m, i);
        if (!name)
            continue;
        struct state_writer *w = state_writer_new();
        p->save(m, i, w);
        if (!collect(all, name, w, error))
            return false;
    }
    return true;
}

GPtrArray *state_collect(struct machine *m, enum machine_state was, GError **error)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(named_state_free);
    struct state_writer *w = state_writer_new();
    const char *state = machine_state_name(was);
    state_put(w, "state", state, 1, (uint32_t)strlen(state));
    if (!collect(all, g_strdup("run state"), w, error))
        return NULL;
    for (size_t i = 0; i < G_N_ELEMENTS(parts); i++) {
        if (!collect_part(m, &parts[i], all, error))
            return NULL;
    }
    return g_steal_pointer(&all);
}

/* ---- loading ---- */

/* Takes the reader of the name out of states. */
static struct state_reader *take(GHashTable *states, const char *name, GError **error)
{
    GBytes *values = g_hash_table_lookup(states, name);
    if (!values) {
        vireo_fail(error, VIREO_ERROR_INVALID, "the saved machine has no state of: %s", name);
        return NULL;
    }
    struct state_reader *r = state_reader_new(values, name, error);
    if (r)
        g_hash_table_remove(states, name);
    return r;
}

static bool apply_one(struct machine *m, const struct part *p, unsigned i, const char *name, GHashTable *states, GError **error)
{
    struct state_reader *r = take(states, name, error);
    if (!r)
        return false;
    if (p->load(m, i, r, error))
        return state_reader_end(r, error);
    state_reader_free(r);
    return false;
}

static bool apply_state(struct machine *m, GHashTable *states, enum machine_state *ret, GError **error)
{
    static const enum machine_state kept[] = { MACHINE_RUNNING, MACHINE_PAUSED, MACHINE_SHUTDOWN, MACHINE_IO_ERROR, MACHINE_GUEST_PANICKED, MACHINE_INTERNAL_ERROR };
    struct state_reader *r = take(states, "run state", error);
    char name[32] = "";
    uint32_t n = 0;
    if (!r)
        return false;
    if (!state_get_some(r, "state", name, 1, sizeof(name) - 1, &n, error)) {
        state_reader_free(r);
        return false;
    }
    *ret = MACHINE_PAUSED; /* also of one that had not begun to run: its power-on state is there, and stays */
    for (size_t i = 0; i < G_N_ELEMENTS(kept); i++) {
        if (!strcmp(name, machine_state_name(kept[i])))
            *ret = kept[i];
    }
    return state_reader_end(r, error);
}

bool state_apply(struct machine *m, GHashTable *states, bool *ret_ran, GError **error)
{
    enum machine_state was;
    if (!apply_state(m, states, &was, error))
        return false;
    for (size_t k = 0; k < G_N_ELEMENTS(parts); k++) {
        const struct part *p = &parts[k];
        for (unsigned i = 0, n = p->count ? p->count(m) : 1; i < n; i++) {
            g_autofree char *name = p->name(m, i);
            if (name && !apply_one(m, p, i, name, states, error))
                return false;
        }
    }
    if (g_hash_table_size(states)) {
        GHashTableIter it;
        void *name, *value;
        g_hash_table_iter_init(&it, states);
        (void)g_hash_table_iter_next(&it, &name, &value);
        return vireo_fail(error, VIREO_ERROR_INVALID, "the saved machine has a state of '%s', which this one has not", (char *)name);
    }
    *ret_ran = was == MACHINE_RUNNING;
    machine_set_state(m, was == MACHINE_RUNNING ? MACHINE_PAUSED : was);
    return true;
}

/* ---- what the machine is ---- */

static void describe_cpu(const struct machine *m, GString *s)
{
    const struct x86_cpu_model *c = m->cpu_model;
    g_string_append_printf(s, "CPU %s family %u model %u stepping %u, %u physical and %u virtual address bits\n", c->vendor, c->family, c->model, c->stepping, c->phys_bits,
                           c->virt_bits);
    for (unsigned f = 0; f < X86_NFEATURES; f++) {
        if (x86_model_has(c, f))
            g_string_append_printf(s, "CPU feature %s\n", x86_feature_name(f));
    }
}

char *state_describe(struct machine *m, const struct ram_map *r)
{
    const struct machine_config *c = m->config;
    GString *s = g_string_new(NULL);
    g_string_append_printf(s, "board %s\n", !strcmp(c->board, "pc") ? "q35" : c->board);
    for (unsigned i = 0; i < r->n; i++)
        g_string_append_printf(s, "RAM of %" G_GUINT64_FORMAT " KiB at 0x%" G_GINT64_MODIFIER "x\n", r->runs[i].size / 1024, r->runs[i].gpa);
    g_string_append_printf(s, "up to %u vCPUs in %u sockets, %u cores, %u threads\n", m->max_vcpus, MAX(c->sockets, 1u), MAX(c->cores, 1u), MAX(c->threads, 1u));
    for (unsigned i = 0; i < m->max_vcpus; i++) {
        if (m->vcpus[i])
            g_string_append_printf(s, "vCPU %u\n", i);
    }
    describe_cpu(m, s);
    for (guint i = 0; i < m->devices->len; i++) {
        g_autofree char *name = device_name(m, m->devices->pdata[i]);
        g_string_append_printf(s, "%s\n", name);
    }
    g_string_append_printf(s, "TSC %" G_GUINT64_FORMAT " Hz\n", machine_tsc_hz(m));
    return g_string_free(s, FALSE);
}

enum { LISTED = 12 };

static GHashTable *lines_of(char **lines, uint64_t *ret_hz)
{
    GHashTable *set = g_hash_table_new(g_str_hash, g_str_equal);
    *ret_hz = 0;
    for (char **l = lines; *l; l++) {
        if (g_str_has_prefix(*l, "TSC "))
            *ret_hz = g_ascii_strtoull(*l + 4, NULL, 10);
        else if (**l)
            g_hash_table_add(set, *l);
    }
    return set;
}

/* Up to LISTED lines that only `lines` has. */
static void list_missing(char **lines, GHashTable *other, const char *what, GString *to)
{
    unsigned n = 0;
    for (char **l = lines; *l; l++) {
        if (!**l || g_str_has_prefix(*l, "TSC ") || g_hash_table_contains(other, *l))
            continue;
        if (n++ < LISTED)
            g_string_append_printf(to, "%s%s%s", n > 1 ? ", " : what, n > 1 ? "" : " ", *l);
    }
    if (n > LISTED)
        g_string_append_printf(to, " and %u more", n - LISTED);
}

bool state_compare(const char *saved, const char *here, GError **error)
{
    g_auto(GStrv) a = g_strsplit(saved, "\n", 0), b = g_strsplit(here, "\n", 0);
    uint64_t hz_a, hz_b;
    g_autoptr(GHashTable) set_a = lines_of(a, &hz_a), set_b = lines_of(b, &hz_b);
    g_autoptr(GString) only_a = g_string_new(NULL), only_b = g_string_new(NULL);
    list_missing(a, set_b, "it has, and this one has not:", only_a);
    list_missing(b, set_a, "this one has, and it has not:", only_b);
    if (only_a->len || only_b->len)
        return vireo_fail(error, VIREO_ERROR_INVALID, "the saved machine is not like this one: %s%s%s; start it with the same options", only_a->str,
                          only_a->len && only_b->len ? "; " : "", only_b->str);
    if (MAX(hz_a, hz_b) - MIN(hz_a, hz_b) > hz_b / 1000)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "the saved machine's time stamp counter runs at %" G_GUINT64_FORMAT " Hz, this host's at %" G_GUINT64_FORMAT, hz_a, hz_b);
    return true;
}
