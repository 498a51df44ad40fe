/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Settings of the host that clients may change: the kernel's merging of equal pages, pools of huge pages (Documentation/admin-guide/mm/{ksm,hugetlbpage}.rst). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "manage/drivers/host/host.h"

#define KSM "/sys/kernel/mm/ksm"

/* A number into a file of the kernel. */
static bool write_number(const char *path, uint64_t v, GError **error)
{
    char text[32];
    int n = g_snprintf(text, sizeof(text), "%" G_GUINT64_FORMAT "\n", v), fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, (size_t)n) == n;
    int err = errno;
    if (fd >= 0)
        close(fd);
    return ok || manage_fail_errno(error, err, "cannot write %" G_GUINT64_FORMAT " to '%s'", v, path);
}

static GVariant *set_memory_parameters(struct manage_call *c, GError **error)
{
    static const char *const names[] = { "pages_to_scan", "sleep_millisecs", "merge_across_nodes" };
    g_autoptr(GVariant) params = g_variant_get_child_value(c->args, 0);
    uint32_t flags;
    g_variant_get_child(c->args, 1, "u", &flags);
    if (!manage_check_flags(flags, 0, error))
        return NULL;
    for (int pass = 0; pass < 2; pass++) { /* all are looked at before the first is set */
        GVariantIter it;
        const char *field;
        GVariant *value;
        g_variant_iter_init(&it, params);
        while (g_variant_iter_next(&it, "(&sv)", &field, &value)) {
            g_autoptr(GVariant) own = value;
            unsigned i = 0;
            while (i < G_N_ELEMENTS(names) && !(g_str_has_prefix(field, "shm_") && !strcmp(field + 4, names[i])))
                i++;
            if (i == G_N_ELEMENTS(names))
                return manage_null(error, VIR_ERR_INVALID_ARG, "parameter '%s' not supported", field);
            if (!g_variant_is_of_type(value, G_VARIANT_TYPE_UINT32))
                return manage_null(error, VIR_ERR_INVALID_ARG, "parameter '%s' is a number without a sign", field);
            g_autofree char *path = g_build_filename(KSM, names[i], NULL);
            if (!pass && access(path, F_OK))
                return manage_null(error, VIR_ERR_OPERATION_INVALID, "Parameter '%s' is not supported by this kernel", field);
            if (pass && !write_number(path, g_variant_get_uint32(value), error))
                return NULL;
        }
    }
    return manage_void();
}

/* The pool's file: of a node, or of the whole host (node < 0). NULL: the host has no pages of this size. */
static char *pool_file(int node, uint32_t kib, GError **error)
{
    g_autofree char *dir = node < 0 ? g_strdup("/sys/kernel/mm") : g_strdup_printf("/sys/devices/system/node/node%d", node);
    char *path = g_strdup_printf("%s/hugepages/hugepages-%ukB/nr_hugepages", dir, kib);
    if (!access(path, F_OK))
        return path;
    manage_fail(error, VIR_ERR_OPERATION_FAILED, "page size %u KiB is not available on %s", kib, node < 0 ? "this host" : path);
    g_free(path);
    return NULL;
}

/* Adds pages to a pool, or makes it so large; the kernel gives as many as it can, fewer are an error. */
static bool change_pool(int node, uint32_t kib, uint64_t pages, bool set, GError **error)
{
    g_autofree char *path = pool_file(node, kib, error);
    if (!path)
        return false;
    uint64_t before = host_read_number(0, "%s", path), wanted = set ? pages : before + pages;
    if (wanted < pages && !set)
        return manage_fail(error, VIR_ERR_OVERFLOW, "%" G_GUINT64_FORMAT " more pages of %u KiB are too many", pages, kib);
    if (!write_number(path, wanted, error))
        return false;
    uint64_t now = host_read_number(0, "%s", path);
    return now == wanted || manage_fail(error, VIR_ERR_OPERATION_FAILED, "Unable to allocate %" G_GUINT64_FORMAT " pages of %u KiB. Allocated only %" G_GUINT64_FORMAT, pages, kib,
                                        set ? now : now - MIN(now, before));
}

static GVariant *alloc_pages(struct manage_call *c, GError **error)
{
    g_autoptr(GVariant) sizes = g_variant_get_child_value(c->args, 0), counts = g_variant_get_child_value(c->args, 1);
    int start;
    uint32_t cells, flags;
    g_variant_get_child(c->args, 2, "i", &start);
    g_variant_get_child(c->args, 3, "u", &cells);
    g_variant_get_child(c->args, 4, "u", &flags);
    if (!manage_check_flags(flags, VIR_NODE_ALLOC_PAGES_SET, error))
        return NULL;
    if (g_variant_n_children(sizes) != g_variant_n_children(counts))
        return manage_null(error, VIR_ERR_INVALID_ARG, "each page size needs a number of pages");
    struct host_topology t;
    host_topology(&t);
    if (start >= (int)t.nodes || start < -1)
        return manage_null(error, VIR_ERR_INTERNAL_ERROR, "start cell %d out of range (0-%u)", start, t.nodes - 1);
    int end = start < 0 ? 0 : (int)MIN((uint64_t)start + cells, t.nodes), changed = 0;
    for (int node = start; node < end; node++) {
        for (gsize i = 0; i < g_variant_n_children(sizes); i++, changed++) {
            uint32_t kib;
            uint64_t pages;
            g_variant_get_child(sizes, i, "u", &kib);
            g_variant_get_child(counts, i, "t", &pages);
            if (kib == (uint32_t)sysconf(_SC_PAGESIZE) / 1024)
                return manage_null(error, VIR_ERR_OPERATION_UNSUPPORTED, "pages of %u KiB are the system's own: there is no pool of them to change", kib);
            if (!change_pool(node, kib, pages, flags & VIR_NODE_ALLOC_PAGES_SET, error))
                return NULL;
        }
    }
    return g_variant_new("(i)", changed);
}

static GVariant *no_suspend(struct manage_call *c, GError **error)
{
    return manage_null(error, VIR_ERR_ARGUMENT_UNSUPPORTED, "vireo does not put the host to sleep; use systemctl suspend, and rtcwake for the time to wake up");
}

static GVariant *no_sev(struct manage_call *c, GError **error)
{
    return manage_null(error, VIR_ERR_OPERATION_UNSUPPORTED, "vireo does not start guests with encrypted memory (SEV)");
}

const struct manage_row host_tune_rows[] = {
    { RPC_NODE_SET_MEMORY_PARAMETERS, set_memory_parameters },
    { RPC_NODE_ALLOC_PAGES, alloc_pages },
    { RPC_NODE_SUSPEND_FOR_DURATION, no_suspend },
    { RPC_NODE_GET_SEV_INFO, no_sev },
    { 0, NULL },
};
