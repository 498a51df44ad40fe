/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A domain's memory, vCPUs and actions are changed: in the running machine, in the definition, or in both. */
#include <json-c/json.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "manage/drivers/domain/guest/domain_agent.h"
#include "manage/drivers/domain/tune/domain_tune.h"

enum {
    AFFECT = VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG,
    MEM_FLAGS = AFFECT | VIR_DOMAIN_MEM_MAXIMUM,
    VCPU_FLAGS = AFFECT | VIR_DOMAIN_VCPU_MAXIMUM | VIR_DOMAIN_VCPU_GUEST | VIR_DOMAIN_VCPU_HOTPLUGGABLE,
};

bool domain_edit(struct domain *d, uint32_t which, domain_editor edit, void *opaque, GError **error)
{
    if (which & VIR_DOMAIN_AFFECT_LIVE) {
        struct doc *live = domain_live(d, error);
        if (!live)
            return false;
        edit(doc_root(live), opaque);
        if (!domain_set_live(d, live, error))
            return false;
    }
    if (!(which & VIR_DOMAIN_AFFECT_CONFIG))
        return true;
    struct doc *doc = domain_definition(d, error);
    if (!doc)
        return false;
    edit(doc_root(doc), opaque);
    if (domain_set_definition(d, doc, error))
        return true;
    doc_free(doc);
    return false;
}

/* ---- memory ---- */

static void set_kib(struct el *root, const char *name, uint64_t kib)
{
    g_autofree char *unit = g_strconcat(name, "/@unit", NULL);
    el_setf(root, name, "%" G_GUINT64_FORMAT, kib);
    el_set(root, unit, "KiB");
}

static void edit_memory(struct el *root, void *opaque) { set_kib(root, "currentMemory", *(uint64_t *)opaque); }

static void edit_max_memory(struct el *root, void *opaque)
{
    uint64_t kib = *(uint64_t *)opaque, now = 0;
    set_kib(root, "memory", kib);
    if (el_get_bytes(root, "currentMemory", "KiB", &now) && now >> 10 > kib)
        set_kib(root, "currentMemory", kib);
}

static bool set_max(struct domain *d, uint64_t kib, uint32_t which, GError **error)
{
    if (which & VIR_DOMAIN_AFFECT_LIVE)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "cannot resize the maximum memory on an active domain");
    doc_auto *doc = domain_definition(d, error);
    if (!doc)
        return false;
    if (el_find(doc_root(doc), "cpu/numa/cell"))
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "initial memory size of a domain with NUMA nodes follows from its cells: edit them");
    return domain_edit(d, which, edit_max_memory, &kib, error);
}

static bool set_now(struct domain *d, uint64_t kib, uint32_t which, GError **error)
{
    uint64_t max = d->max_kib;
    if ((which & VIR_DOMAIN_AFFECT_CONFIG) && d->id >= 0) {
        doc_auto *doc = domain_definition(d, error);
        if (!doc)
            return false;
        if (el_get_bytes(doc_root(doc), "memory", "KiB", &max))
            max >>= 10;
    }
    if (kib > max || ((which & VIR_DOMAIN_AFFECT_LIVE) && kib > d->max_kib))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "cannot set memory higher than max memory");
    if (which & VIR_DOMAIN_AFFECT_LIVE) {
        struct json_object *args = json_object_new_object();
        json_object_object_add(args, "value", json_object_new_int64((int64_t)(kib << 10)));
        struct json_object *o = monitor_command(d, "balloon", args, error);
        json_object_put(o);
        if (!o)
            return false;
    }
    return domain_edit(d, which, edit_memory, &kib, error);
}

static GVariant *set_memory_with(struct manage_call *c, uint32_t flags, GError **error)
{
    uint64_t kib;
    uint32_t which;
    g_variant_get_child(c->args, 1, "t", &kib);
    if (!manage_check_flags(flags, MEM_FLAGS, error))
        return NULL;
    if (!kib || kib > UINT64_MAX >> 11)
        return manage_null(error, VIR_ERR_INVALID_ARG, "memory in virDomainSetMemoryFlags must not be zero, and below 2^53 KiB");
    struct domain *d = tune_begin(c, "set memory", flags & AFFECT, &which, error);
    return d ? tune_end(d, flags & VIR_DOMAIN_MEM_MAXIMUM ? set_max(d, kib, which, error) : set_now(d, kib, which, error)) : NULL;
}

static GVariant *set_max_memory(struct manage_call *c, GError **error) { return set_memory_with(c, VIR_DOMAIN_MEM_MAXIMUM, error); }
static GVariant *set_memory(struct manage_call *c, GError **error) { return set_memory_with(c, VIR_DOMAIN_AFFECT_LIVE, error); }
static GVariant *set_memory_flags(struct manage_call *c, GError **error) { return set_memory_with(c, tune_u32(c, 2), error); }

/* ---- vCPUs ---- */

static void edit_vcpus(struct el *root, void *opaque)
{
    unsigned n = *(unsigned *)opaque;
    uint64_t max = 1;
    el_get_u64(root, "vcpu", &max);
    if (n == max)
        el_set(root, "vcpu/@current", NULL);
    else
        el_setf(root, "vcpu/@current", "%u", n);
    struct el *each = el_find(root, "vcpus"); /* single ones: made anew by what completes a definition */
    if (each)
        el_remove(each);
}

static void edit_max_vcpus(struct el *root, void *opaque)
{
    unsigned n = *(unsigned *)opaque;
    uint64_t now = n;
    el_setf(root, "vcpu", "%u", n);
    if (el_get_u64(root, "vcpu/@current", &now) && now >= n)
        el_set(root, "vcpu/@current", NULL);
    struct el *each = el_find(root, "vcpus");
    if (each)
        el_remove(each);
}

static unsigned topology(const struct el *root)
{
    static const char *const parts[] = { "sockets", "dies", "clusters", "cores", "threads" };
    uint64_t n = 1, v;
    if (!el_find(root, "cpu/topology"))
        return 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(parts); i++) {
        g_autofree char *path = g_strconcat("cpu/topology/@", parts[i], NULL);
        n *= el_get_u64(root, path, &v) ? v : 1;
    }
    return (unsigned)n;
}

static bool set_max_vcpus(struct domain *d, unsigned n, uint32_t which, GError **error)
{
    if (which & VIR_DOMAIN_AFFECT_LIVE)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "maximum vcpu count of a live domain can't be modified");
    doc_auto *doc = domain_definition(d, error);
    if (!doc)
        return false;
    unsigned places = topology(doc_root(doc));
    if (places && places != n)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "CPU topology doesn't match the desired vcpu count: the topology has %u", places);
    return domain_edit(d, which, edit_max_vcpus, &n, error);
}

static bool set_vcpus_now(struct domain *d, unsigned n, uint32_t which, GError **error)
{
    unsigned max = d->max_vcpus;
    if (which & VIR_DOMAIN_AFFECT_CONFIG) {
        doc_auto *doc = domain_definition(d, error);
        uint64_t of_document = 1;
        if (!doc)
            return false;
        el_get_u64(doc_root(doc), "vcpu", &of_document);
        max = which & VIR_DOMAIN_AFFECT_LIVE ? MIN(max, (unsigned)of_document) : (unsigned)of_document;
    }
    if (n > max)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "requested vcpus is greater than max allowable vcpus for the domain: %u > %u", n, max);
    if ((which & VIR_DOMAIN_AFFECT_LIVE) && n != d->vcpus && !(domain_vcpus_hotplug(d, n, error) && domain_tune_threads(d, error)))
        return false;
    return domain_edit(d, which, edit_vcpus, &n, error) && (!(which & VIR_DOMAIN_AFFECT_LIVE) || domain_vcpus_list(d, n, error));
}

static GVariant *set_vcpus_with(struct manage_call *c, uint32_t flags, GError **error)
{
    unsigned n = tune_u32(c, 1);
    uint32_t which;
    if (!manage_check_flags(flags, VCPU_FLAGS, error))
        return NULL;
    if (n == 0 || n > 65535)
        return manage_null(error, VIR_ERR_INVALID_ARG, "a domain has 1 to 65535 vCPUs, not %u", n);
    if ((flags & VIR_DOMAIN_VCPU_GUEST) && (flags & (VIR_DOMAIN_AFFECT_CONFIG | VIR_DOMAIN_VCPU_MAXIMUM)))
        return manage_null(error, VIR_ERR_INVALID_ARG, "the guest's agent switches vCPUs of a running guest: flags 0x%x do not go with that", flags);
    struct domain *d = tune_begin(c, "set vcpus", flags & AFFECT, &which, error);
    if (d && (flags & VIR_DOMAIN_VCPU_GUEST))
        return tune_end(d, domain_guest_set_vcpus(d, n, error));
    return d ? tune_end(d, flags & VIR_DOMAIN_VCPU_MAXIMUM ? set_max_vcpus(d, n, which, error) : set_vcpus_now(d, n, which, error)) : NULL;
}

static GVariant *set_vcpus(struct manage_call *c, GError **error) { return set_vcpus_with(c, VIR_DOMAIN_AFFECT_LIVE, error); }
static GVariant *set_vcpus_flags(struct manage_call *c, GError **error) { return set_vcpus_with(c, tune_u32(c, 2), error); }

static GVariant *get_vcpus_flags(struct manage_call *c, GError **error)
{
    uint32_t flags = tune_u32(c, 1);
    bool live, config;
    uint64_t n = 1, now;
    if (!manage_check_flags(flags, VCPU_FLAGS & ~VIR_DOMAIN_VCPU_HOTPLUGGABLE, error))
        return NULL;
    if ((flags & AFFECT) == AFFECT)
        return manage_null(error, VIR_ERR_INVALID_ARG, "flags for the running machine and for the definition exclude each other");
    domain_auto *d = domain_of_call(c, 0, error);
    if (d && (flags & VIR_DOMAIN_VCPU_GUEST)) {
        if (!domain_begin(d, "guest agent", true, error))
            return NULL;
        int count = domain_guest_count_vcpus(d, flags & VIR_DOMAIN_VCPU_MAXIMUM, error);
        domain_end(d);
        return count < 0 ? NULL : g_variant_new("(i)", count);
    }
    if (!d || !domain_affect(d, flags & AFFECT, &live, &config, error))
        return NULL;
    doc_auto *doc = live ? domain_live(d, error) : domain_definition(d, error);
    if (!doc)
        return NULL;
    el_get_u64(doc_root(doc), "vcpu", &n);
    if (!(flags & VIR_DOMAIN_VCPU_MAXIMUM) && el_get_u64(doc_root(doc), "vcpu/@current", &now))
        n = now;
    return g_variant_new("(i)", (int)n);
}

static GVariant *get_max_vcpus(struct manage_call *c, GError **error)
{
    domain_auto *d = domain_of_call(c, 0, error);
    return d ? g_variant_new("(i)", (int)d->max_vcpus) : NULL;
}

GArray *domain_vcpu_threads(struct domain *d, GError **error)
{
    struct json_object *list = monitor_command(d, "query-cpus-fast", NULL, error);
    if (!list)
        return NULL;
    GArray *ret = g_array_new(FALSE, FALSE, sizeof(struct domain_vcpu));
    for (size_t i = 0; json_object_is_type(list, json_type_array) && i < json_object_array_length(list); i++) {
        struct json_object *o = json_object_array_get_idx(list, i);
        struct domain_vcpu v = { (unsigned)json_object_get_int64(json_object_object_get(o, "cpu-index")), (pid_t)json_object_get_int64(json_object_object_get(o, "thread-id")) };
        if (v.index < d->max_vcpus && domain_owns_thread(d, v.tid))
            g_array_append_val(ret, v);
    }
    json_object_put(list);
    return ret;
}

/* What the kernel says of a thread: time, the processor it ran on last. */
static bool thread_stat(pid_t pid, pid_t tid, uint64_t *ret_ns, int *ret_cpu)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/task/%d/stat", (int)pid, (int)tid), *text = NULL;
    unsigned long long user, system;
    if (!g_file_get_contents(path, &text, NULL, NULL))
        return false;
    const char *at = strrchr(text, ')'); /* field 39, behind 24 that nobody here wants */
    if (!at || sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d %*u %*u %*d %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u "
                               "%*u %*d %d", &user, &system, ret_cpu) != 3)
        return false;
    *ret_ns = (user + system) * (1000000000ull / (unsigned long long)sysconf(_SC_CLK_TCK));
    return true;
}

static GVariant *get_vcpus(struct manage_call *c, GError **error)
{
    int max, bytes;
    g_variant_get_child(c->args, 1, "i", &max);
    g_variant_get_child(c->args, 2, "i", &bytes);
    if (max < 0 || bytes < 0 || max > 16384 || (int64_t)max * bytes > 1 << 22)
        return manage_null(error, VIR_ERR_RPC, "too much is asked for: %d vCPUs with maps of %d bytes", max, bytes);
    domain_auto *d = domain_of_call(c, 0, error);
    if (!d)
        return NULL;
    if (d->id < 0)
        return manage_null(error, VIR_ERR_OPERATION_INVALID, "cannot retrieve vcpu information for inactive domain");
    g_autoptr(GArray) threads = domain_vcpu_threads(d, error);
    if (!threads)
        return NULL;
    unsigned n = MIN((unsigned)max, threads->len);
    GVariantBuilder b;
    g_autofree uint8_t *maps = g_malloc0((gsize)n * (gsize)bytes + 1);
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(uiti)"));
    for (unsigned i = 0; i < n; i++) {
        const struct domain_vcpu *v = &g_array_index(threads, struct domain_vcpu, i);
        uint64_t ns = 0;
        int cpu = -1;
        cpu_set_t set;
        CPU_ZERO(&set);
        (void)thread_stat(d->pid, v->tid, &ns, &cpu);
        (void)sched_getaffinity(v->tid, sizeof(set), &set);
        for (int k = 0; k < bytes * 8 && k < CPU_SETSIZE; k++)
            if (CPU_ISSET(k, &set))
                maps[i * (unsigned)bytes + (unsigned)k / 8] |= (uint8_t)(1 << k % 8);
        g_variant_builder_add(&b, "(uiti)", v->index, VIR_VCPU_RUNNING, ns, cpu);
    }
    return g_variant_new("(a(uiti)@ay)", &b, g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, maps, (gsize)n * (gsize)bytes, 1));
}

/* ---- what happens at the guest's end ---- */

struct life {
    const char *path, *value;
};

static void edit_action(struct el *root, void *opaque)
{
    const struct life *l = opaque;
    el_set(root, l->path, l->value);
}

static GVariant *set_lifecycle_action(struct manage_call *c, GError **error)
{
    static const char *const types[] = { "on_poweroff", "on_reboot", "on_crash" };
    static const char *const actions[] = { "destroy", "restart", "rename-restart", "preserve", "coredump-destroy", "coredump-restart" };
    uint32_t type = tune_u32(c, 1), act = tune_u32(c, 2), flags = tune_u32(c, 3), which;
    if (!manage_check_flags(flags, AFFECT, error))
        return NULL;
    if (type >= G_N_ELEMENTS(types) || act >= G_N_ELEMENTS(actions) || (type != 2 && act >= 4))
        return manage_null(error, VIR_ERR_INVALID_ARG, "there is no lifecycle event %u with action %u", type, act);
    if (act == 2)
        return manage_null(error, VIR_ERR_CONFIG_UNSUPPORTED, "rename-restart is not supported: use restart");
    if (act == VIR_DOMAIN_LIFECYCLE_ACTION_PRESERVE && type != VIR_DOMAIN_LIFECYCLE_CRASH)
        return manage_null(error, VIR_ERR_CONFIG_UNSUPPORTED, "qemu driver doesn't support the 'preserve' action for 'on_reboot'/'on_poweroff'");
    struct life l = { types[type], actions[act] };
    struct domain *d = tune_begin(c, "set lifecycle action", flags, &which, error);
    if (!d)
        return NULL;
    if (type == 1 && (which & VIR_DOMAIN_AFFECT_LIVE)) {
        struct json_object *args = json_object_new_object();
        json_object_object_add(args, "reboot", json_object_new_string(act == 0 ? "shutdown" : "reset"));
        struct json_object *o = monitor_command(d, "set-action", args, error);
        json_object_put(o);
        if (!o)
            return tune_end(d, false);
    }
    return tune_end(d, domain_edit(d, which, edit_action, &l, error));
}

const struct manage_row domain_rows_config[] = {
    { RPC_DOMAIN_SET_MAX_MEMORY, set_max_memory },
    { RPC_DOMAIN_SET_MEMORY, set_memory },
    { RPC_DOMAIN_SET_MEMORY_FLAGS, set_memory_flags },
    { RPC_DOMAIN_SET_VCPUS, set_vcpus },
    { RPC_DOMAIN_SET_VCPUS_FLAGS, set_vcpus_flags },
    { RPC_DOMAIN_GET_VCPUS_FLAGS, get_vcpus_flags },
    { RPC_DOMAIN_GET_MAX_VCPUS, get_max_vcpus },
    { RPC_DOMAIN_GET_VCPUS, get_vcpus },
    { RPC_DOMAIN_SET_LIFECYCLE_ACTION, set_lifecycle_action },
    { 0, NULL },
};
