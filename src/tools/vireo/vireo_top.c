/* SPDX-License-Identifier: GPL-2.0-or-later */
/* top: what each domain uses now, from the difference of two readings of all statistics. */
#include "vireo_commands.h"

#include "base/json.h"

#include <dlfcn.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

/* One reading of a domain; counters only grow. */
struct sample {
    unsigned long long cpu, memory, read, write, received, sent, exits; /* cpu: ns, memory: KiB, the others bytes and counts */
    unsigned vcpus;
    GHashTable *reasons; /* exits by reason: name -> count */
};

static void sample_free(gpointer p)
{
    struct sample *s = p;
    g_hash_table_unref(s->reasons);
    g_free(s);
}

static unsigned long long number(const virTypedParameter *p)
{
    g_autofree char *text = param_text(p);
    return g_ascii_strtoull(text, NULL, 10);
}

static void count_reason(struct sample *s, const char *name, unsigned long long n)
{
    gpointer before = g_hash_table_lookup(s->reasons, name);
    g_hash_table_replace(s->reasons, g_strdup(name), GSIZE_TO_POINTER(GPOINTER_TO_SIZE(before) + n));
}

/* "vcpu.0.halt_exits.sum" and the like. */
static void vcpu_exits(struct sample *s, const virTypedParameter *p)
{
    const char *name = strchr(p->field + 5, '.');
    if (!name || !g_str_has_suffix(name, "exits.sum"))
        return;
    g_autofree char *reason = g_strndup(name + 1, strlen(name + 1) - 4);
    if (!strcmp(reason, "exits"))
        s->exits += number(p);
    else
        count_reason(s, reason, number(p));
}

/* Our own emulator counts exits by reason on every accelerator, and tells it on its monitor. */
static void monitor_exits(struct sample *s, virDomainPtr domain)
{
    int (*run)(virDomainPtr, const char *, char **, unsigned) = (int (*)(virDomainPtr, const char *, char **, unsigned))dlsym(RTLD_DEFAULT, "virDomainQemuMonitorCommand");
    g_autofree char *text = NULL;
    if (!run || run(domain, "{\"execute\":\"query-stats\",\"arguments\":{\"target\":\"vm\",\"providers\":[{\"provider\":\"vireo\"}]}}", &text, 0) < 0)
        return;
    json_auto *o = json_tokener_parse(text);
    struct json_object *list, *stats, *name, *value;
    if (!o || !json_object_object_get_ex(o, "return", &list) || !json_object_is_type(list, json_type_array) || !json_object_array_length(list)
        || !json_object_object_get_ex(json_object_array_get_idx(list, 0), "stats", &stats) || !json_object_is_type(stats, json_type_array))
        return;
    for (size_t i = 0; i < json_object_array_length(stats); i++) {
        struct json_object *one = json_object_array_get_idx(stats, i);
        if (!json_object_object_get_ex(one, "name", &name) || !json_object_object_get_ex(one, "value", &value))
            continue;
        const char *key = json_object_get_string(name);
        if (!strcmp(key, "exits"))
            s->exits = json_object_get_int64(value);
        else if (g_str_has_suffix(key, "-exits"))
            count_reason(s, key, json_object_get_int64(value));
    }
}

static struct sample *read_sample(virDomainStatsRecordPtr record)
{
    struct sample *s = g_new0(struct sample, 1);
    s->reasons = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (int i = 0; i < record->nparams; i++) {
        const virTypedParameter *p = &record->params[i];
        if (!strcmp(p->field, "cpu.time"))
            s->cpu = number(p);
        else if (!strcmp(p->field, "vcpu.current"))
            s->vcpus = number(p);
        else if (!strcmp(p->field, "balloon.rss") || (!strcmp(p->field, "balloon.current") && !s->memory))
            s->memory = number(p);
        else if (g_str_has_suffix(p->field, ".rd.bytes"))
            s->read += number(p);
        else if (g_str_has_suffix(p->field, ".wr.bytes"))
            s->write += number(p);
        else if (g_str_has_suffix(p->field, ".rx.bytes"))
            s->received += number(p);
        else if (g_str_has_suffix(p->field, ".tx.bytes"))
            s->sent += number(p);
        else if (g_str_has_prefix(p->field, "vcpu."))
            vcpu_exits(s, p);
    }
    if (!s->exits)
        monitor_exits(s, record->dom);
    return s;
}

/* From what every hypervisor tells, where it does not know all statistics at once. */
static GHashTable *read_each(struct call *c)
{
    virDomainPtr *domains = NULL;
    int n = virConnectListAllDomains(c->v->connection, &domains, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
    if (n < 0)
        return NULL;
    GHashTable *all = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, sample_free);
    for (int i = 0; i < n; i++) {
        struct sample *s = g_new0(struct sample, 1);
        virDomainInfo info;
        s->reasons = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        if (virDomainGetInfo(domains[i], &info) == 0) {
            s->cpu = info.cpuTime;
            s->memory = info.memory;
            s->vcpus = info.nrVirtCpu;
        }
        monitor_exits(s, domains[i]);
        g_hash_table_replace(all, g_strdup(virDomainGetName(domains[i])), s);
        virDomainFree(domains[i]);
    }
    free(domains);
    forget_library_error(c->v);
    return all;
}

/* All running domains: name -> sample. NULL on error. */
static GHashTable *read_all(struct call *c)
{
    virDomainStatsRecordPtr *records = NULL;
    unsigned stats = VIR_DOMAIN_STATS_STATE | VIR_DOMAIN_STATS_CPU_TOTAL | VIR_DOMAIN_STATS_BALLOON | VIR_DOMAIN_STATS_VCPU | VIR_DOMAIN_STATS_INTERFACE | VIR_DOMAIN_STATS_BLOCK;
    int n = virConnectGetAllDomainStats(c->v->connection, stats | VIR_DOMAIN_STATS_VM, &records, VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE);
    if (n < 0)
        return read_each(c);
    GHashTable *all = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, sample_free);
    for (int i = 0; i < n; i++)
        g_hash_table_replace(all, g_strdup(virDomainGetName(records[i]->dom)), read_sample(records[i]));
    if (records)
        virDomainStatsRecordListFree(records);
    forget_library_error(c->v);
    return all;
}

static char *rate(unsigned long long now, unsigned long long before, double seconds)
{
    const char *unit;
    double value = pretty_size(now > before ? (unsigned long long)((now - before) / seconds) : 0, &unit);
    return *unit == 'B' ? g_strdup_printf("%.0f", value) : g_strdup_printf("%.1f%c", value, *unit);
}

struct reason {
    const char *name;
    unsigned long long n;
};

static int by_count(const void *a, const void *b)
{
    const struct reason *x = a, *y = b;
    return x->n < y->n ? 1 : x->n > y->n ? -1 : 0;
}

/* The three most frequent reasons, with their share. */
static char *reasons(const struct sample *now, const struct sample *before)
{
    g_autoptr(GArray) all = g_array_new(false, false, sizeof(struct reason));
    GHashTableIter i;
    gpointer name, n;
    unsigned long long total = 0;
    g_hash_table_iter_init(&i, now->reasons);
    while (g_hash_table_iter_next(&i, &name, &n)) {
        unsigned long long old = before ? GPOINTER_TO_SIZE(g_hash_table_lookup(before->reasons, name)) : 0;
        struct reason r = {name, GPOINTER_TO_SIZE(n) > old ? GPOINTER_TO_SIZE(n) - old : 0};
        total += r.n;
        if (r.n)
            g_array_append_val(all, r);
    }
    g_array_sort(all, by_count);
    GString *s = g_string_new(NULL);
    for (guint k = 0; k < all->len && k < 3; k++) {
        const struct reason *r = &g_array_index(all, struct reason, k);
        size_t length = g_str_has_suffix(r->name, "-exits") || g_str_has_suffix(r->name, "_exits") ? strlen(r->name) - 6 : strlen(r->name);
        g_string_append_printf(s, "%s%.*s %.0f%%", k ? ", " : "", (int)length, r->name, 100.0 * r->n / total);
    }
    if (!s->len)
        g_string_append_c(s, '-');
    return g_string_free(s, false);
}

struct line {
    const char *name;
    const struct sample *now, *before;
    double cpu; /* percent of one processor */
};

static int by_cpu(const void *a, const void *b)
{
    const struct line *x = a, *y = b;
    return x->cpu < y->cpu ? 1 : x->cpu > y->cpu ? -1 : strcmp(x->name, y->name);
}

static void show(struct call *c, GHashTable *now, GHashTable *before, double seconds, unsigned rows)
{
    g_autoptr(GArray) lines = g_array_new(false, false, sizeof(struct line));
    GHashTableIter i;
    gpointer name, sample;
    g_hash_table_iter_init(&i, now);
    while (g_hash_table_iter_next(&i, &name, &sample)) {
        struct line l = {name, sample, before ? g_hash_table_lookup(before, name) : NULL, 0};
        if (l.before && l.now->cpu > l.before->cpu)
            l.cpu = (l.now->cpu - l.before->cpu) / seconds / 1e7;
        g_array_append_val(lines, l);
    }
    g_array_sort(lines, by_cpu);
    struct table *t = table_new(c, "Name", "vCPUs#", "CPU %", "Memory", "Read/s", "Write/s", "In/s", "Out/s", "Exits/s#", "Exits by reason", NULL);
    for (guint k = 0; k < lines->len && k < rows; k++) {
        const struct line *l = &g_array_index(lines, struct line, k);
        const struct sample *b = l->before ? l->before : l->now;
        const char *unit;
        double size = pretty_size(l->now->memory * 1024, &unit);
        g_autofree char *vcpus = g_strdup_printf("%u", l->now->vcpus), *cpu = g_strdup_printf("%.1f", l->cpu), *memory = g_strdup_printf("%.0f %s", size, unit);
        g_autofree char *in = rate(l->now->received, b->received, seconds), *out = rate(l->now->sent, b->sent, seconds);
        g_autofree char *rd = rate(l->now->read, b->read, seconds), *wr = rate(l->now->write, b->write, seconds);
        g_autofree char *exits = !l->now->exits ? g_strdup("-") : g_strdup_printf("%.0f", l->now->exits > b->exits ? (l->now->exits - b->exits) / seconds : 0.0);
        g_autofree char *why = reasons(l->now, l->before);
        table_row(t, l->name, vcpus, cpu, memory, rd, wr, in, out, exits, why, NULL);
    }
    table_print(t);
}

/* Waits for the next reading, or a key; true to leave. */
static bool pause_top(unsigned ms, bool keys)
{
    struct pollfd fd = {.fd = keys ? STDIN_FILENO : -1, .events = POLLIN};
    gint64 end = g_get_monotonic_time() + ms * 1000ll;
    while (!vireo_interrupted()) {
        gint64 left = (end - g_get_monotonic_time()) / 1000;
        if (left <= 0)
            return false;
        if (poll(&fd, 1, MIN(left, 200)) > 0) {
            char key;
            if (read(STDIN_FILENO, &key, 1) != 1 || key == 'q')
                return true;
        }
    }
    return true;
}

static bool cmd_top(struct call *c)
{
    unsigned rounds = 0, delay = 2;
    bool batch = opt_bool(c, "batch") || !isatty(STDOUT_FILENO), keys = !batch && isatty(STDIN_FILENO);
    if (opt_uint(c, "count", &rounds) < 0 || opt_uint(c, "delay", &delay) < 0)
        return false;
    if (!delay)
        return complain(c, "--delay counts in seconds, at least one");
    struct termios before_keys, raw;
    if (keys && tcgetattr(STDIN_FILENO, &before_keys) == 0) {
        raw = before_keys;
        raw.c_lflag &= ~(ICANON | ECHO);
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    vireo_catch_interrupt(true);
    GHashTable *before = read_all(c);
    gint64 then = g_get_monotonic_time();
    bool good = before != NULL, leave = false;
    for (unsigned n = 0; good && !leave && (!rounds || n < rounds); n++) {
        leave = pause_top(n || batch ? delay * 1000 : 300, keys);
        if (leave)
            break;
        GHashTable *now = read_all(c);
        gint64 time = g_get_monotonic_time();
        struct winsize size = {.ws_row = 24};
        good = now != NULL;
        if (!batch) {
            ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
            g_autofree char *when = now_text();
            printf("\033[H\033[J%.19s  %u running  (q leaves)\n\n", when, now ? g_hash_table_size(now) : 0);
        }
        if (good)
            show(c, now, before, MAX(time - then, 1) / 1e6, batch ? G_MAXUINT : MAX(size.ws_row, 8) - 6u);
        fflush(stdout);
        g_hash_table_unref(before);
        before = now;
        then = time;
    }
    if (before)
        g_hash_table_unref(before);
    vireo_catch_interrupt(false);
    if (keys)
        tcsetattr(STDIN_FILENO, TCSANOW, &before_keys);
    return good;
}

const struct command top_commands[] = {
    {"top", "quick", "batch count#@ delay#@ b>batch n>count", cmd_top, COMMAND_LIST, "Show live what each domain uses"},
    {},
};
