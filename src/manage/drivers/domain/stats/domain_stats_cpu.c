/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Processor time that a machine has used, in all and by processor of the host (virsh cpu-stats). */
#include <string.h>

#include "manage/drivers/domain/tune/domain_tune.h"

bool domain_cpu_time(struct domain *d, uint64_t *ret_all, uint64_t *ret_user, uint64_t *ret_system)
{
    cgroup_auto *g = domain_cgroup(d);
    if (g && cgroup_get_time(g, ret_all, ret_user, ret_system))
        return true;
    g_mutex_lock(&d->lock);
    pid_t pid = d->pid;
    g_mutex_unlock(&d->lock);
    bool ok = domain_process_time(pid, ret_user, ret_system);
    *ret_all = *ret_user + *ret_system;
    return ok;
}

static void add(GPtrArray *list, const char *name, uint64_t v)
{
    g_ptr_array_add(list, g_variant_ref_sink(g_variant_new("(sv)", name, g_variant_new_uint64(v))));
}

static void total(struct domain *d, GPtrArray *list)
{
    uint64_t all = 0, user = 0, sys = 0;
    (void)domain_cpu_time(d, &all, &user, &sys);
    add(list, VIR_DOMAIN_CPU_STATS_CPUTIME, all);
    add(list, VIR_DOMAIN_CPU_STATS_USERTIME, user);
    add(list, VIR_DOMAIN_CPU_STATS_SYSTEMTIME, sys);
}

/* What the vCPUs' own groups have used, by processor. */
static GArray *vcpu_time(struct domain *d, const struct cgroup *g, unsigned cpus, GError **error)
{
    g_autoptr(GArray) threads = domain_vcpu_threads(d, error);
    if (!threads)
        return NULL;
    GArray *sum = g_array_sized_new(FALSE, TRUE, sizeof(uint64_t), cpus);
    g_array_set_size(sum, cpus);
    for (unsigned i = 0; i < threads->len; i++) {
        g_autofree char *child = g_strdup_printf("vcpu%u", g_array_index(threads, struct domain_vcpu, i).index);
        g_autoptr(GArray) one = cgroup_get_time_by_cpu(g, child);
        for (unsigned n = 0; one && n < MIN(one->len, cpus); n++)
            g_array_index(sum, uint64_t, n) += g_array_index(one, uint64_t, n);
    }
    return sum;
}

static bool by_cpu(struct domain *d, int start, uint32_t count, GPtrArray *list, unsigned *ret_cpus, GError **error)
{
    cgroup_auto *g = domain_cgroup_need(d, CGROUP_CPUACCT, error);
    if (!g)
        return false;
    g_autoptr(GArray) all = cgroup_get_time_by_cpu(g, NULL);
    if (!all)
        return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "operation 'getCpuacctPercpuUsage' not supported for backend 'cgroup V2'");
    *ret_cpus = all->len;
    if ((unsigned)start >= all->len)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "start_cpu %d larger than maximum of %d", start, (int)all->len - 1);
    g_autoptr(GArray) vcpus = vcpu_time(d, g, all->len, error);
    for (unsigned n = (unsigned)start; vcpus && n < all->len && n - (unsigned)start < count; n++) {
        add(list, VIR_DOMAIN_CPU_STATS_CPUTIME, g_array_index(all, uint64_t, n));
        add(list, VIR_DOMAIN_CPU_STATS_VCPUTIME, g_array_index(vcpus, uint64_t, n));
    }
    return vcpus != NULL;
}

/* Asked without room it tells how much is needed: numbers for each processor, or (for no processor) processors. */
static GVariant *get_cpu_stats(struct manage_call *c, GError **error)
{
    uint32_t nparams, ncpus, flags;
    int start;
    unsigned cpus = 1, each = 3;
    g_variant_get(c->args, "(@(sayi)uiuu)", NULL, &nparams, &start, &ncpus, &flags);
    domain_auto *d = manage_check_flags(flags, VIR_TYPED_PARAM_STRING_OKAY, error) ? domain_of_call(c, 0, error) : NULL;
    doc_auto *doc = d ? domain_live(d, error) : NULL;
    if (!doc)
        return NULL;
    if (start < -1 || (start == -1 && ncpus > 1) || ncpus > 16384)
        return manage_null(error, VIR_ERR_INVALID_ARG, "statistics of %u processors from %d on are not to be had", ncpus, start);
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func((GDestroyNotify)g_variant_unref);
    if (start < 0)
        total(d, list);
    else if (by_cpu(d, start, nparams && ncpus ? ncpus : 1, list, &cpus, error))
        each = 2;
    else
        return NULL;
    bool counting = !nparams || !ncpus;
    int answer = counting && !ncpus && start >= 0 ? (int)cpus : (int)each;
    if (counting)
        return g_variant_new("(@a(sv)i)", g_variant_new_array(G_VARIANT_TYPE("(sv)"), NULL, 0), answer);
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(sv)"));
    for (unsigned i = 0; i < list->len; i++)
        if (i % each < nparams)
            g_variant_builder_add_value(&b, list->pdata[i]);
    return g_variant_new("(a(sv)i)", &b, (int)MIN(each, nparams));
}

const struct manage_row domain_rows_stats_cpu[] = {
    { RPC_DOMAIN_GET_CPU_STATS, get_cpu_stats },
    { 0, NULL },
};
