/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The host as a machine: processors, memory, their use. From /proc and /sys of the kernel (proc(5), sysfs-devices-system-cpu). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "manage/drivers/host/host.h"

#define NODES "/sys/devices/system/node"
#define CPUS "/sys/devices/system/cpu"

uint64_t host_read_number(uint64_t otherwise, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *path = g_strdup_vprintf(format, args), *text = NULL;
    va_end(args);
    return g_file_get_contents(path, &text, NULL, NULL) ? g_ascii_strtoull(text, NULL, 10) : otherwise;
}

unsigned host_parse_list(const char *text, uint8_t *map, gsize size)
{
    unsigned highest = 0;
    while (g_ascii_isdigit(*text)) {
        char *end;
        unsigned long from = strtoul(text, &end, 10), to = from;
        if (*end == '-')
            to = strtoul(end + 1, &end, 10);
        for (unsigned long i = from; i <= to && i < 65536; i++) {
            if (map && i / 8 < size)
                map[i / 8] |= (uint8_t)(1u << (i % 8));
            highest = MAX(highest, (unsigned)i + 1);
        }
        text = *end == ',' ? end + 1 : end;
    }
    return highest;
}

static unsigned count_list(const char *path, uint8_t *map, gsize size)
{
    g_autofree char *text = NULL;
    return g_file_get_contents(path, &text, NULL, NULL) ? host_parse_list(text, map, size) : 0;
}

/* "MemTotal:  123 kB" of /proc/meminfo or a node's meminfo; 0 where missing. */
static uint64_t mem_line(const char *text, const char *name)
{
    g_autofree char *key = g_strconcat(name, ":", NULL);
    const char *at = text ? strstr(text, key) : NULL;
    return at ? g_ascii_strtoull(at + strlen(key), NULL, 10) : 0;
}

static uint64_t meminfo(const char *name)
{
    g_autofree char *text = NULL;
    g_file_get_contents("/proc/meminfo", &text, NULL, NULL);
    return mem_line(text, name);
}

static unsigned cpu_mhz(void)
{
    g_autofree char *text = NULL;
    const char *at = g_file_get_contents("/proc/cpuinfo", &text, NULL, NULL) ? strstr(text, "cpu MHz") : NULL;
    at = at ? strchr(at, ':') : NULL;
    return at ? (unsigned)g_ascii_strtod(at + 1, NULL) : 0;
}

void host_topology(struct host_topology *t)
{
    uint8_t online[8192] = { 0 };
    unsigned highest = count_list(CPUS "/online", online, sizeof(online));
    g_autoptr(GHashTable) sockets = g_hash_table_new(NULL, NULL), cores = g_hash_table_new(NULL, NULL);
    *t = (struct host_topology){ .memory_kib = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 1024, .mhz = cpu_mhz() };
    for (unsigned i = 0; i < highest; i++) {
        if (!(online[i / 8] >> (i % 8) & 1))
            continue;
        uint64_t socket = host_read_number(0, CPUS "/cpu%u/topology/physical_package_id", i), core = host_read_number(i, CPUS "/cpu%u/topology/core_id", i);
        t->cpus++;
        g_hash_table_add(sockets, GUINT_TO_POINTER(socket + 1));
        g_hash_table_add(cores, GUINT_TO_POINTER((socket << 16 | core) + 1));
    }
    t->nodes = MAX(count_list(NODES "/online", NULL, 0), 1);
    t->sockets = MAX(g_hash_table_size(sockets), 1);
    t->cores = MAX(g_hash_table_size(cores) / t->sockets, 1);
    t->threads = MAX(t->cpus / MAX(g_hash_table_size(cores), 1), 1);
    if (t->sockets % t->nodes == 0) /* sockets of one node */
        t->sockets /= t->nodes;
    if (t->sockets * t->cores * t->threads * t->nodes != t->cpus) { /* uneven: one socket that holds all */
        t->nodes = t->sockets = t->threads = 1;
        t->cores = t->cpus;
    }
}

static GVariant *node_get_info(struct manage_call *c, GError **error)
{
    struct host_topology t;
    host_topology(&t);
    return g_variant_new("(stiiiiii)", "x86_64", t.memory_kib, (int)t.cpus, (int)t.mhz, (int)t.nodes, (int)t.sockets, (int)t.cores, (int)t.threads);
}

static GVariant *get_max_vcpus(struct manage_call *c, GError **error)
{
    const char *type = NULL;
    g_variant_get_child(c->args, 0, "m&s", &type);
    if (type && g_ascii_strcasecmp(type, "kvm") != 0 && g_ascii_strcasecmp(type, "qemu") != 0)
        return manage_null(error, VIR_ERR_INVALID_ARG, "unknown type '%s'; there are: kvm, qemu", type);
    return g_variant_new("(i)", 255);
}

static GVariant *get_free_memory(struct manage_call *c, GError **error) { return g_variant_new("(t)", meminfo("MemFree") * 1024); }

static GVariant *cells_free_memory(struct manage_call *c, GError **error)
{
    int from, n;
    g_variant_get(c->args, "(ii)", &from, &n);
    int nodes = (int)MAX(count_list(NODES "/online", NULL, 0), 1);
    if (from < 0 || from >= nodes || n <= 0)
        return manage_null(error, VIR_ERR_INVALID_ARG, "start cell %d out of range (0-%d)", from, nodes - 1);
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("at"));
    for (int i = from; i < nodes && i < from + n; i++) {
        g_autofree char *path = g_strdup_printf(NODES "/node%d/meminfo", i), *text = NULL;
        uint64_t kib = g_file_get_contents(path, &text, NULL, NULL) ? mem_line(text, "MemFree") : meminfo("MemFree");
        g_variant_builder_add(&b, "t", kib * 1024);
    }
    return g_variant_new("(at)", &b);
}

/* ---- use ---- */

/* Rows of name and number; `asked` 0 gives the number of rows alone. */
static GVariant *stats_reply(GVariantBuilder *b, int asked)
{
    GVariant *list = g_variant_builder_end(b);
    int n = (int)g_variant_n_children(list);
    if (!asked) {
        g_variant_unref(g_variant_ref_sink(list));
        list = g_variant_new_array(G_VARIANT_TYPE("(st)"), NULL, 0);
    }
    return g_variant_new("(@a(st)i)", list, n);
}

static GVariant *get_cpu_stats(struct manage_call *c, GError **error)
{
    int cpu, asked;
    uint32_t flags;
    g_variant_get(c->args, "(iiu)", &cpu, &asked, &flags);
    g_autofree char *text = NULL, *name = cpu < 0 ? g_strdup("cpu ") : g_strdup_printf("cpu%d ", cpu);
    if (!manage_check_flags(flags, 0, error))
        return NULL;
    if (!g_file_get_contents("/proc/stat", &text, NULL, error))
        return NULL;
    const char *at = g_str_has_prefix(text, name) ? text : NULL;
    g_autofree char *line = g_strconcat("\n", name, NULL);
    if (!at && (at = strstr(text, line)))
        at++;
    unsigned long long v[7] = { 0 };
    if (!at || sscanf(at + strlen(name), "%llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6]) < 5)
        return manage_null(error, VIR_ERR_INVALID_ARG, "Invalid cpuNum in virNodeGetCPUStats: there is no CPU %d", cpu);
    uint64_t tick = 1000000000ull / (uint64_t)sysconf(_SC_CLK_TCK);
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(st)"));
    g_variant_builder_add(&b, "(st)", VIR_NODE_CPU_STATS_KERNEL, (v[2] + v[5] + v[6]) * tick);
    g_variant_builder_add(&b, "(st)", VIR_NODE_CPU_STATS_USER, (v[0] + v[1]) * tick);
    g_variant_builder_add(&b, "(st)", VIR_NODE_CPU_STATS_IDLE, v[3] * tick);
    g_variant_builder_add(&b, "(st)", VIR_NODE_CPU_STATS_IOWAIT, v[4] * tick);
    return stats_reply(&b, asked);
}

static GVariant *get_memory_stats(struct manage_call *c, GError **error)
{
    static const char *const all[][2] = { { VIR_NODE_MEMORY_STATS_TOTAL, "MemTotal" }, { VIR_NODE_MEMORY_STATS_FREE, "MemFree" },
                                          { VIR_NODE_MEMORY_STATS_BUFFERS, "Buffers" }, { VIR_NODE_MEMORY_STATS_CACHED, "Cached" } };
    int asked, cell;
    uint32_t flags;
    g_variant_get(c->args, "(iiu)", &asked, &cell, &flags);
    if (!manage_check_flags(flags, 0, error))
        return NULL;
    g_autofree char *path = cell < 0 ? g_strdup("/proc/meminfo") : g_strdup_printf(NODES "/node%d/meminfo", cell), *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, NULL))
        return manage_null(error, VIR_ERR_INVALID_ARG, "cell %d out of range", cell);
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(st)"));
    for (unsigned i = 0; i < (cell < 0 ? 4u : 2u); i++)
        g_variant_builder_add(&b, "(st)", all[i][0], mem_line(text, all[i][1]));
    return stats_reply(&b, asked);
}

static GVariant *get_cpu_map(struct manage_call *c, GError **error)
{
    int need_map, need_online;
    uint32_t flags;
    g_variant_get(c->args, "(iiu)", &need_map, &need_online, &flags);
    uint8_t map[8192] = { 0 };
    unsigned present = count_list(CPUS "/present", NULL, 0), online = 0;
    if (!manage_check_flags(flags, 0, error))
        return NULL;
    count_list(CPUS "/online", map, sizeof(map));
    for (unsigned i = 0; i < present; i++)
        online += map[i / 8] >> (i % 8) & 1;
    GVariant *bytes = g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, map, need_map ? (present + 7) / 8 : 0, 1);
    return g_variant_new("(@ayui)", bytes, need_online ? online : 0, (int)present);
}

static GVariant *get_free_pages(struct manage_call *c, GError **error)
{
    g_autoptr(GVariantIter) sizes = NULL;
    int start;
    uint32_t cells, flags, kib;
    g_variant_get(c->args, "(auiuu)", &sizes, &start, &cells, &flags);
    if (!manage_check_flags(flags, 0, error))
        return NULL;
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("at"));
    int nodes = (int)MAX(count_list(NODES "/online", NULL, 0), 1);
    if (start >= nodes)
        return manage_null(error, VIR_ERR_INTERNAL_ERROR, "start cell %d out of range (0-%d)", start, nodes - 1);
    g_autoptr(GArray) want = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    while (g_variant_iter_next(sizes, "u", &kib))
        g_array_append_val(want, kib);
    for (int i = MAX(start, 0); i < nodes && (uint32_t)(i - MAX(start, 0)) < cells; i++) {
        for (unsigned k = 0; k < want->len; k++) {
            kib = g_array_index(want, uint32_t, k);
            g_autofree char *path = g_strdup_printf(NODES "/node%d/meminfo", i), *text = NULL;
            uint64_t free_kib = g_file_get_contents(path, &text, NULL, NULL) ? mem_line(text, "MemFree") : meminfo("MemFree");
            bool base = kib == (uint32_t)sysconf(_SC_PAGESIZE) / 1024;
            uint64_t n = base ? free_kib / kib : host_read_number(UINT64_MAX, NODES "/node%d/hugepages/hugepages-%ukB/free_hugepages", i, kib);
            if (n == UINT64_MAX)
                n = host_read_number(UINT64_MAX, "/sys/kernel/mm/hugepages/hugepages-%ukB/free_hugepages", kib);
            if (n == UINT64_MAX) {
                g_variant_builder_clear(&b);
                return manage_null(error, VIR_ERR_OPERATION_FAILED, "page size %u KiB is not available on node %d", kib, i);
            }
            g_variant_builder_add(&b, "t", n);
        }
    }
    return g_variant_new("(at)", &b);
}

static GVariant *get_security_model(struct manage_call *c, GError **error)
{
    return g_variant_new("(@ay@ay)", g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, "none", 5, 1), g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, "0", 2, 1));
}

/* KSM, under the kernel's names. */
static GVariant *get_memory_parameters(struct manage_call *c, GError **error)
{
    static const char *const names[] = { "pages_to_scan", "sleep_millisecs", "pages_shared", "pages_sharing", "pages_unshared", "pages_volatile", "full_scans", "merge_across_nodes" };
    int asked;
    uint32_t flags;
    g_variant_get(c->args, "(iu)", &asked, &flags);
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(sv)"));
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        uint64_t v = host_read_number(UINT64_MAX, "/sys/kernel/mm/ksm/%s", names[i]);
        g_autofree char *field = g_strconcat("shm_", names[i], NULL);
        if (v != UINT64_MAX && (i < 2 || i == 7))
            manage_param_u32(&b, field, (uint32_t)v);
        else if (v != UINT64_MAX)
            manage_param_u64(&b, field, v);
    }
    return manage_params_reply(&b, asked);
}

const struct manage_row host_node_rows[] = {
    { RPC_NODE_GET_INFO, node_get_info },
    { RPC_CONNECT_GET_MAX_VCPUS, get_max_vcpus },
    { RPC_NODE_GET_FREE_MEMORY, get_free_memory },
    { RPC_NODE_GET_CELLS_FREE_MEMORY, cells_free_memory },
    { RPC_NODE_GET_CPU_STATS, get_cpu_stats },
    { RPC_NODE_GET_MEMORY_STATS, get_memory_stats },
    { RPC_NODE_GET_CPU_MAP, get_cpu_map },
    { RPC_NODE_GET_FREE_PAGES, get_free_pages },
    { RPC_NODE_GET_SECURITY_MODEL, get_security_model },
    { RPC_NODE_GET_MEMORY_PARAMETERS, get_memory_parameters },
    { 0, NULL },
};
