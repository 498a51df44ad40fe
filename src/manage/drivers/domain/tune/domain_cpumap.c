/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sets of processors and nodes. */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "manage/drivers/domain/tune/domain_tune.h"

bool cpu_map_test(const struct cpu_map *m, unsigned n) { return n < CPU_MAP_BITS && (m->bits[n / 8] & 1u << n % 8); }

bool cpu_map_empty(const struct cpu_map *m)
{
    for (unsigned i = 0; i < sizeof(m->bits); i++)
        if (m->bits[i])
            return false;
    return true;
}

bool cpu_map_subset(const struct cpu_map *m, const struct cpu_map *of)
{
    for (unsigned i = 0; i < sizeof(m->bits); i++)
        if (m->bits[i] & ~of->bits[i])
            return false;
    return true;
}

static bool part(struct cpu_map *m, const char *s)
{
    bool out = *s == '^';
    char *end;
    s += out;
    if (!g_ascii_isdigit(*s))
        return false;
    unsigned long from = strtoul(s, &end, 10), to = from;
    if (*end == '-' && g_ascii_isdigit(end[1]))
        to = strtoul(end + 1, &end, 10);
    if (*end || to < from || to >= CPU_MAP_BITS)
        return false;
    for (unsigned long n = from; n <= to; n++)
        m->bits[n / 8] = (uint8_t)(out ? m->bits[n / 8] & ~(1u << n % 8) : m->bits[n / 8] | 1u << n % 8);
    return true;
}

bool cpu_map_parse(struct cpu_map *ret, const char *text)
{
    struct cpu_map m = { { 0 } };
    g_auto(GStrv) parts = g_strsplit(text, ",", -1);
    for (char **p = parts; *p; p++)
        if (!part(&m, g_strstrip(*p)))
            return false;
    if (cpu_map_empty(&m))
        return false;
    *ret = m;
    return true;
}

char *cpu_map_format(const struct cpu_map *m)
{
    GString *s = g_string_new(NULL);
    for (unsigned n = 0, end; n < CPU_MAP_BITS; n = end + 1) {
        for (end = n; cpu_map_test(m, end); end++)
            ;
        if (end == n)
            continue;
        g_string_append_printf(s, end - n > 1 ? "%s%u-%u" : "%s%u", s->len ? "," : "", n, end - 1);
    }
    return g_string_free(s, FALSE);
}

static void read_list(struct cpu_map *ret, const char *path)
{
    g_autofree char *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, NULL) || !cpu_map_parse(ret, g_strchomp(text)))
        *ret = (struct cpu_map){ { 1 } };
}

void cpu_map_online(struct cpu_map *ret) { read_list(ret, "/sys/devices/system/cpu/online"); }
void cpu_map_nodes(struct cpu_map *ret) { read_list(ret, "/sys/devices/system/node/online"); }

bool cpu_map_argument(struct cpu_map *ret, GVariant *args, unsigned i, GError **error)
{
    g_autoptr(GVariant) v = g_variant_get_child_value(args, i);
    gsize n;
    const uint8_t *bytes = g_variant_get_fixed_array(v, &n, 1);
    *ret = (struct cpu_map){ { 0 } };
    memcpy(ret->bits, bytes, MIN(n, sizeof(ret->bits)));
    return !cpu_map_empty(ret) || manage_fail(error, VIR_ERR_INVALID_ARG, "Empty cpu list for pinning");
}

bool cpu_map_apply(const struct cpu_map *m, pid_t tid, GError **error)
{
    cpu_set_t *set = CPU_ALLOC(CPU_MAP_BITS);
    size_t size = CPU_ALLOC_SIZE(CPU_MAP_BITS);
    CPU_ZERO_S(size, set);
    for (unsigned n = 0; n < CPU_MAP_BITS; n++)
        if (cpu_map_test(m, n))
            CPU_SET_S(n, size, set);
    bool ok = sched_setaffinity(tid, size, set) == 0;
    int err = errno;
    CPU_FREE(set);
    if (ok)
        return true;
    g_autofree char *list = cpu_map_format(m);
    return manage_fail_errno(error, err, "cannot set CPU affinity on process %d to '%s'", (int)tid, list);
}

void cpu_map_of_thread(struct cpu_map *ret, pid_t tid)
{
    cpu_set_t *set = CPU_ALLOC(CPU_MAP_BITS);
    size_t size = CPU_ALLOC_SIZE(CPU_MAP_BITS);
    CPU_ZERO_S(size, set);
    *ret = (struct cpu_map){ { 0 } };
    if (sched_getaffinity(tid, size, set) == 0)
        for (unsigned n = 0; n < CPU_MAP_BITS; n++)
            if (CPU_ISSET_S(n, size, set))
                ret->bits[n / 8] |= (uint8_t)(1u << n % 8);
    CPU_FREE(set);
}
