/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * query-stats and query-stats-schemas: numbers about the running of the machine and of each vCPU. Two providers: "vireo" counts the
 * exits from guest code by reason, with the time spent on them, on every accelerator; "kvm" is what the kernel's own KVM counts
 * (Linux Documentation/virt/kvm/api.rst, KVM_GET_STATS_FD).
 */
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "vmm/core/machine.h"
#include "vmm/qmp/qmp.h"

const struct qmp_arg qmp_query_stats_args[] = { { "target", QMP_ARG_STRING }, { "vcpus", QMP_ARG_ARRAY, true }, { "providers", QMP_ARG_ARRAY, true },
                                                { NULL } };
const struct qmp_arg qmp_query_stats_schemas_args[] = { { "provider", QMP_ARG_STRING, true }, { NULL } };

/* What a client asks for: NULL for everything. Both are arrays that have been checked. */
struct filter {
    struct json_object *vcpus, *providers;
};

static bool array_has(struct json_object *array, const char *name)
{
    for (size_t i = 0; i < json_object_array_length(array); i++) {
        if (!strcmp(json_object_get_string(json_object_array_get_idx(array, i)), name))
            return true;
    }
    return false;
}

static bool strings_only(struct json_object *array, const char *name, GError **error)
{
    if (!json_object_is_type(array, json_type_array))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid parameter type for '%s', expected: array", name);
    for (size_t i = 0; i < json_object_array_length(array); i++) {
        if (!json_object_is_type(json_object_array_get_idx(array, i), json_type_string))
            return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid parameter type for '%s[%zu]', expected: string", name, i);
    }
    return true;
}

/* The providers' row for `name`; NULL: there is none. */
static struct json_object *provider_row(const struct filter *f, const char *name)
{
    for (size_t i = 0; i < json_object_array_length(f->providers); i++) {
        struct json_object *row = json_object_array_get_idx(f->providers, i);
        if (!strcmp(json_object_get_string(json_object_object_get(row, "provider")), name))
            return row;
    }
    return NULL;
}

static const char *const provider_names[] = { "vireo", "kvm", NULL };

static bool check_provider(const char *name, GError **error)
{
    return g_strv_contains(provider_names, name) ||
           vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'provider' does not accept value '%s'; there are vireo and kvm", name);
}

static bool check_providers(struct json_object *providers, GError **error)
{
    for (size_t i = 0; i < json_object_array_length(providers); i++) {
        struct json_object *row = json_object_array_get_idx(providers, i), *name = NULL, *names = NULL;
        if (!json_object_is_type(row, json_type_object) || !json_object_object_get_ex(row, "provider", &name) ||
            !json_object_is_type(name, json_type_string))
            return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'providers[%zu].provider' is missing", i);
        if (!check_provider(json_object_get_string(name), error))
            return false;
        json_object_object_foreach(row, key, value) {
            if (strcmp(key, "provider") && strcmp(key, "names"))
                return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'providers[%zu].%s' is unexpected", i, key);
            (void)value;
        }
        if (json_object_object_get_ex(row, "names", &names) && !strings_only(names, "names", error))
            return false;
    }
    return true;
}

static bool wants_provider(const struct filter *f, const char *provider)
{
    return !f->providers || provider_row(f, provider);
}

static bool wants_name(const struct filter *f, const char *provider, const char *name)
{
    struct json_object *row = f->providers ? provider_row(f, provider) : NULL, *names = row ? json_object_object_get(row, "names") : NULL;
    return !names || array_has(names, name);
}

static void add_stat(struct json_object *stats, const char *name, struct json_object *value)
{
    json_object_array_add(stats, json_make("name", json_object_new_string(name), "value", value, NULL));
}

/* One row of the answer; path NULL: of the machine. A row without numbers is left out. Takes stats over. */
static void add_result(struct json_object *list, const char *provider, const char *path, struct json_object *stats)
{
    if (!json_object_array_length(stats)) {
        json_object_put(stats);
        return;
    }
    struct json_object *row = json_make("provider", json_object_new_string(provider), NULL);
    if (path)
        json_object_object_add(row, "qom-path", json_object_new_string(path));
    json_object_object_add(row, "stats", stats);
    json_object_array_add(list, row);
}

/* ---- vireo: exits by reason ---- */

static char *exits_name(const struct accel_exit_reason *r) { return g_strdup_printf("%s-exits", r->name); }
static char *time_name(const struct accel_exit_reason *r) { return g_strdup_printf("%s-time", r->name); }

static struct json_object *exit_stats(const struct machine *m, const struct filter *f, const struct accel_exit_count *counts)
{
    struct json_object *stats = json_object_new_array();
    uint64_t hz = machine_tsc_hz(m), total = 0;
    for (unsigned i = 0; i < m->accel_ops->nexit_reasons; i++) {
        const struct accel_exit_reason *r = &m->accel_ops->exit_reasons[i];
        g_autofree char *exits = exits_name(r), *time = time_name(r);
        uint64_t count = __atomic_load_n(&counts[i].count, __ATOMIC_RELAXED), ticks = __atomic_load_n(&counts[i].ticks, __ATOMIC_RELAXED);
        total += count;
        if (wants_name(f, "vireo", exits))
            add_stat(stats, exits, json_object_new_int64((int64_t)count));
        if (wants_name(f, "vireo", time))
            add_stat(stats, time, json_object_new_int64((int64_t)((unsigned __int128)ticks * 1000000000u / hz)));
    }
    if (wants_name(f, "vireo", "exits"))
        add_stat(stats, "exits", json_object_new_int64((int64_t)total));
    return stats;
}

static void vireo_vm(struct machine *m, const struct filter *f, struct json_object *list)
{
    g_autofree struct accel_exit_count *sum = g_new0(struct accel_exit_count, m->accel_ops->nexit_reasons);
    machine_sum_exits(m, sum);
    add_result(list, "vireo", NULL, exit_stats(m, f, sum));
}

static void vireo_vcpu(struct machine *m, const struct filter *f, unsigned i, const char *path, struct json_object *list)
{
    const struct accel_exit_count *counts = vcpu_exits(m->vcpus[i]);
    if (counts)
        add_result(list, "vireo", path, exit_stats(m, f, counts));
}

static struct json_object *schema_row(const char *name, const char *type, const char *unit, int base, int exponent)
{
    struct json_object *row = json_make("name", json_object_new_string(name), "type", json_object_new_string(type), NULL);
    if (unit)
        json_object_object_add(row, "unit", json_object_new_string(unit));
    if (exponent)
        json_object_object_add(row, "base", json_object_new_int(base));
    json_object_object_add(row, "exponent", json_object_new_int(exponent));
    return row;
}

static void add_schema(struct json_object *list, const char *provider, const char *target, struct json_object *stats)
{
    json_object_array_add(list, json_make("provider", json_object_new_string(provider), "target", json_object_new_string(target), "stats", stats, NULL));
}

static struct json_object *vireo_schema(const struct machine *m)
{
    struct json_object *stats = json_object_new_array();
    for (unsigned i = 0; i < m->accel_ops->nexit_reasons; i++) {
        g_autofree char *exits = exits_name(&m->accel_ops->exit_reasons[i]), *time = time_name(&m->accel_ops->exit_reasons[i]);
        json_object_array_add(stats, schema_row(exits, "cumulative", NULL, 10, 0));
        json_object_array_add(stats, schema_row(time, "cumulative", "seconds", 10, -9));
    }
    json_object_array_add(stats, schema_row("exits", "cumulative", NULL, 10, 0));
    return stats;
}

/* ---- kvm: the kernel's binary statistics ---- */

#define KVM_STATS_MAX (1u << 20) /* bytes of descriptors or data; the kernel's have some ten thousand */

struct kvm_numbers {
    struct kvm_stats_header head;
    uint8_t *descs, *data;
    size_t desc_size, data_size;
};

static void kvm_numbers_clear(struct kvm_numbers *n)
{
    g_free(n->descs);
    g_free(n->data);
}

static const struct kvm_stats_desc *kvm_desc(const struct kvm_numbers *n, unsigned i)
{
    return (const struct kvm_stats_desc *)(n->descs + i * n->desc_size);
}

static bool read_at(int fd, void *to, size_t size, off_t at)
{
    return pread(fd, to, size, at) == (ssize_t)size;
}

struct stats_fd { struct machine *machine; int fd; };

static void open_on_vcpu(struct vcpu *v, void *opaque)
{
    struct stats_fd *s = opaque;
    s->fd = s->machine->accel_ops->stats_fd(s->machine->accel, vcpu_accel(v));
}

/* A call on a vCPU's descriptor waits until KVM_RUN returns, which it may never do: so the vCPU's own thread makes it. */
static int open_stats(struct machine *m, struct vcpu *v)
{
    struct stats_fd s = { m, -1 };
    if (!m->accel_ops->stats_fd)
        return -1;
    if (!v)
        return m->accel_ops->stats_fd(m->accel, NULL);
    vcpu_run_on(v, open_on_vcpu, &s);
    return s.fd;
}

/* Header, descriptors and data of a descriptor of KVM_GET_STATS_FD, which is closed. False: the accelerator has none.
 * seccomp(main, vcpu-kvm): pread64 ioctl(KVM_GET_STATS_FD) */
static bool kvm_numbers_read(struct machine *m, struct vcpu *v, struct kvm_numbers *ret)
{
    memset(ret, 0, sizeof(*ret));
    int fd = open_stats(m, v);
    if (fd < 0)
        return false;
    bool ok = read_at(fd, &ret->head, sizeof(ret->head), 0) && ret->head.name_size < 256 && ret->head.num_desc < 4096;
    ret->desc_size = sizeof(struct kvm_stats_desc) + ret->head.name_size;
    if (ok) {
        ret->descs = g_malloc0(ret->desc_size * ret->head.num_desc + 1);
        ok = read_at(fd, ret->descs, ret->desc_size * ret->head.num_desc, ret->head.desc_offset);
    }
    for (unsigned i = 0; ok && i < ret->head.num_desc; i++) {
        const struct kvm_stats_desc *d = kvm_desc(ret, i);
        ret->data_size = MAX(ret->data_size, (size_t)d->offset + (size_t)d->size * 8);
    }
    ok = ok && ret->data_size < KVM_STATS_MAX;
    if (ok) {
        ret->data = g_malloc0(ret->data_size + 1);
        ok = read_at(fd, ret->data, ret->data_size, ret->head.data_offset);
    }
    close(fd);
    if (!ok)
        kvm_numbers_clear(ret);
    return ok;
}

static struct json_object *kvm_value(const struct kvm_numbers *n, const struct kvm_stats_desc *d)
{
    const uint8_t *at = n->data + d->offset;
    bool boolean = (d->flags & KVM_STATS_UNIT_MASK) == KVM_STATS_UNIT_BOOLEAN;
    uint64_t v;
    memcpy(&v, at, sizeof(v));
    if (d->size == 1)
        return boolean ? json_object_new_boolean(v != 0) : json_object_new_int64((int64_t)v);
    struct json_object *list = json_object_new_array();
    for (unsigned i = 0; i < d->size; i++) {
        memcpy(&v, at + i * 8, sizeof(v));
        json_object_array_add(list, json_object_new_int64((int64_t)v));
    }
    return list;
}

static void kvm_target(struct machine *m, const struct filter *f, struct vcpu *v, const char *path, struct json_object *list)
{
    struct kvm_numbers n;
    if (!kvm_numbers_read(m, v, &n))
        return;
    struct json_object *stats = json_object_new_array();
    for (unsigned i = 0; i < n.head.num_desc; i++) {
        const struct kvm_stats_desc *d = kvm_desc(&n, i);
        g_autofree char *name = g_strndup(d->name, n.head.name_size);
        if (d->size && wants_name(f, "kvm", name))
            add_stat(stats, name, kvm_value(&n, d));
    }
    add_result(list, "kvm", path, stats);
    kvm_numbers_clear(&n);
}

static struct json_object *kvm_schema(struct machine *m, struct vcpu *v)
{
    static const char *const types[] = { "cumulative", "instant", "peak", "linear-histogram", "log2-histogram" };
    static const char *const units[] = { NULL, "bytes", "seconds", "cycles", "boolean" };
    struct kvm_numbers n;
    if (!kvm_numbers_read(m, v, &n))
        return NULL;
    struct json_object *stats = json_object_new_array();
    for (unsigned i = 0; i < n.head.num_desc; i++) {
        const struct kvm_stats_desc *d = kvm_desc(&n, i);
        g_autofree char *name = g_strndup(d->name, n.head.name_size);
        unsigned type = (d->flags & KVM_STATS_TYPE_MASK) >> KVM_STATS_TYPE_SHIFT, unit = (d->flags & KVM_STATS_UNIT_MASK) >> KVM_STATS_UNIT_SHIFT;
        bool two = (d->flags & KVM_STATS_BASE_MASK) == KVM_STATS_BASE_POW2;
        if (type >= G_N_ELEMENTS(types) || unit >= G_N_ELEMENTS(units))
            continue; /* of a newer kernel */
        struct json_object *row = schema_row(name, types[type], units[unit], two ? 2 : 10, d->exponent);
        if (type == 3)
            json_object_object_add(row, "bucket-size", json_object_new_int64(d->bucket_size));
        json_object_array_add(stats, row);
    }
    kvm_numbers_clear(&n);
    return stats;
}

/* ---- the commands ---- */

static bool counts_exits(const struct machine *m)
{
    return m->accel_ops && m->accel_ops->vcpu_exits && m->accel_ops->nexit_reasons;
}

static void stats_of_vm(struct machine *m, const struct filter *f, struct json_object *list)
{
    if (wants_provider(f, "vireo") && counts_exits(m))
        vireo_vm(m, f, list);
    if (wants_provider(f, "kvm") && m->accel_ops)
        kvm_target(m, f, NULL, NULL, list);
}

static void stats_of_vcpus(struct machine *m, const struct filter *f, struct json_object *list)
{
    for (unsigned i = 0; i < m->max_vcpus; i++) {
        g_autofree char *path = m->vcpus[i] ? qmp_cpu_path(m, i) : NULL;
        if (!path || (f->vcpus && !array_has(f->vcpus, path)))
            continue;
        if (wants_provider(f, "vireo") && counts_exits(m))
            vireo_vcpu(m, f, i, path, list);
        if (wants_provider(f, "kvm") && m->accel_ops)
            kvm_target(m, f, m->vcpus[i], path, list);
    }
}

struct json_object *qmp_query_stats(struct machine *m, struct json_object *args, GError **error)
{
    const char *target = json_object_get_string(json_object_object_get(args, "target"));
    struct filter f = { NULL, NULL };
    bool vcpus = !strcmp(target, "vcpu");
    json_object_object_get_ex(args, "vcpus", &f.vcpus);
    json_object_object_get_ex(args, "providers", &f.providers);
    if ((f.vcpus && !strings_only(f.vcpus, "vcpus", error)) || (f.providers && !check_providers(f.providers, error)))
        return NULL;
    if (!vcpus && f.vcpus) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'vcpus' is unexpected");
        return NULL;
    }
    if (!vcpus && strcmp(target, "vm")) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'target' does not accept value '%s'; there are vm and vcpu", target);
        return NULL;
    }
    struct json_object *list = json_object_new_array();
    if (vcpus)
        stats_of_vcpus(m, &f, list);
    else
        stats_of_vm(m, &f, list);
    return list;
}

struct json_object *qmp_query_stats_schemas(struct machine *m, struct json_object *args, GError **error)
{
    struct json_object *provider = NULL, *row, *list;
    json_object_object_get_ex(args, "provider", &provider);
    const char *name = provider ? json_object_get_string(provider) : NULL;
    if (name && !check_provider(name, error))
        return NULL;
    list = json_object_new_array();
    if (counts_exits(m) && (!name || !strcmp(name, "vireo"))) {
        add_schema(list, "vireo", "vm", vireo_schema(m));
        add_schema(list, "vireo", "vcpu", vireo_schema(m));
    }
    if (m->accel_ops && (!name || !strcmp(name, "kvm"))) {
        if ((row = kvm_schema(m, NULL)))
            add_schema(list, "kvm", "vm", row);
        if (m->max_vcpus && m->vcpus[0] && (row = kvm_schema(m, m->vcpus[0])))
            add_schema(list, "kvm", "vcpu", row);
    }
    return list;
}
