/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See throttle.h. Options, their checks and the sizes of the buckets are those that docs/throttle.txt of QEMU tells its users. */
#include "base/throttle.h"

#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/keyval.h"

#define MOST UINT64_C(1000000000000000) /* per second */
#define LOOK_US 50000                   /* how often who waits asks whether there is time */

static const struct {
    const char *option, *qmp;
} names[THROTTLE_NLIMITS] = {
    [THROTTLE_BPS_TOTAL] = { "bps-total", "bps" },    [THROTTLE_BPS_READ] = { "bps-read", "bps_rd" },
    [THROTTLE_BPS_WRITE] = { "bps-write", "bps_wr" }, [THROTTLE_IOPS_TOTAL] = { "iops-total", "iops" },
    [THROTTLE_IOPS_READ] = { "iops-read", "iops_rd" }, [THROTTLE_IOPS_WRITE] = { "iops-write", "iops_wr" },
};
/* bps_max, bps_rd_max ...: "_max" comes last. */
enum { AVG, MAX_RATE, MAX_LENGTH, NPARTS };
static const char *const option_tail[NPARTS] = { "", "-max", "-max-length" };
static const char *const qmp_tail[NPARTS] = { "", "_max", "_max_length" };

static uint64_t *part_of(struct throttle_config *c, int limit, int part)
{
    uint64_t *parts[NPARTS] = { &c->limit[limit].avg, &c->limit[limit].max, &c->limit[limit].max_length };
    return parts[part];
}

static bool take_number(struct keyval *kv, const char *key, uint64_t *to, GError **error)
{
    g_autofree char *value = keyval_take(kv, key);
    return !value || keyval_uint(key, value, 0, INT64_MAX, to, error);
}

bool throttle_config_take(struct keyval *kv, const char *prefix, struct throttle_config *c, GError **error)
{
    for (int i = 0; i < THROTTLE_NLIMITS; i++) {
        for (int part = 0; part < NPARTS; part++) {
            g_autofree char *key = g_strconcat(prefix, names[i].option, option_tail[part], NULL);
            if (!take_number(kv, key, part_of(c, i, part), error))
                return false;
        }
    }
    g_autofree char *key = g_strconcat(prefix, "iops-size", NULL);
    return take_number(kv, key, &c->iops_size, error);
}

static bool take_json(struct json_object *o, const char *key, uint64_t *to, GError **error)
{
    struct json_object *value;
    if (!json_object_object_get_ex(o, key, &value))
        return true;
    int64_t n = json_object_get_int64(value);
    if (!json_object_is_type(value, json_type_int))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid parameter type for '%s', expected: integer", key);
    if (n < 0)
        return vireo_fail(error, VIREO_ERROR_INVALID, "bps/iops/max values must be within [0, %" G_GUINT64_FORMAT "]", MOST);
    *to = (uint64_t)n;
    return true;
}

bool throttle_config_from_json(struct json_object *o, struct throttle_config *c, GError **error)
{
    for (int i = 0; i < THROTTLE_NLIMITS; i++) {
        for (int part = 0; part < NPARTS; part++) {
            g_autofree char *key = g_strconcat(names[i].qmp, qmp_tail[part], NULL);
            if (!take_json(o, key, part_of(c, i, part), error))
                return false;
        }
    }
    return take_json(o, "iops_size", &c->iops_size, error);
}

static bool any(const struct throttle_config *c, int a, int b)
{
    return c->limit[a].avg || c->limit[b].avg;
}

static bool check_limit(const struct throttle_config *c, int i, GError **error)
{
    uint64_t avg = c->limit[i].avg, max = c->limit[i].max, length = c->limit[i].max_length;
    if (avg > MOST || max > MOST)
        return vireo_fail(error, VIREO_ERROR_INVALID, "bps/iops/max values must be within [0, %" G_GUINT64_FORMAT "]", MOST);
    if (length > 1 && !max)
        return vireo_fail(error, VIREO_ERROR_INVALID, "burst length set without burst rate");
    if (max && !avg)
        return vireo_fail(error, VIREO_ERROR_INVALID, "bps_max/iops_max require corresponding bps/iops values");
    if (max && max < avg)
        return vireo_fail(error, VIREO_ERROR_INVALID, "bps_max/iops_max cannot be lower than bps/iops");
    if (max && length > MOST / max)
        return vireo_fail(error, VIREO_ERROR_INVALID, "burst length too high for this burst rate");
    return true;
}

bool throttle_config_check(const struct throttle_config *c, GError **error)
{
    const struct throttle_config *m = c;
    for (int base = THROTTLE_BPS_TOTAL; base <= THROTTLE_IOPS_TOTAL; base += THROTTLE_IOPS_TOTAL) {
        bool both = (m->limit[base].avg && any(m, base + 1, base + 2)) || (m->limit[base].max && (m->limit[base + 1].max || m->limit[base + 2].max));
        if (both)
            return vireo_fail(error, VIREO_ERROR_INVALID, "bps/iops/max total values and read/write values cannot be used at the same time");
    }
    if (c->iops_size && !c->limit[THROTTLE_IOPS_TOTAL].avg && !any(c, THROTTLE_IOPS_READ, THROTTLE_IOPS_WRITE))
        return vireo_fail(error, VIREO_ERROR_INVALID, "iops size requires an iops value to be set");
    for (int i = 0; i < THROTTLE_NLIMITS; i++) {
        if (!check_limit(c, i, error))
            return false;
    }
    return true;
}

bool throttle_config_on(const struct throttle_config *c)
{
    for (int i = 0; i < THROTTLE_NLIMITS; i++) {
        if (c->limit[i].avg)
            return true;
    }
    return false;
}

static void add(struct json_object *o, const char *name, const char *tail, uint64_t value)
{
    g_autofree char *key = g_strconcat(name, tail, NULL);
    json_object_object_add(o, key, json_object_new_int64((int64_t)value));
}

void throttle_config_info(const struct throttle_config *c, struct json_object *info)
{
    for (int i = 0; i < THROTTLE_NLIMITS; i++) {
        add(info, names[i].qmp, "", c->limit[i].avg);
        if (c->limit[i].max)
            add(info, names[i].qmp, "_max", c->limit[i].max);
        if (c->limit[i].max)
            add(info, names[i].qmp, "_max_length", MAX(c->limit[i].max_length, 1));
    }
    if (c->iops_size)
        add(info, "iops_size", "", c->iops_size);
}

struct json_object *throttle_config_limits(const struct throttle_config *c)
{
    struct json_object *o = json_object_new_object();
    for (int i = 0; i < THROTTLE_NLIMITS; i++) {
        add(o, names[i].option, "", c->limit[i].avg);
        add(o, names[i].option, "-max", c->limit[i].max);
        add(o, names[i].option, "-max-length", MAX(c->limit[i].max_length, 1));
    }
    add(o, "iops-size", "", c->iops_size);
    return o;
}

/* ---- buckets ---- */

struct bucket {
    double avg, max, length;
    double level;              /* bytes or requests */
    double burst;              /* the same, emptied at the burst's rate: only with a length of more than a second */
};

static void leak(struct bucket *b, double seconds)
{
    b->level = MAX(b->level - b->avg * seconds, 0);
    b->burst = MAX(b->burst - b->max * seconds, 0);
}

/* Seconds until it is empty enough for one more. */
static double wait_of(const struct bucket *b)
{
    if (b->avg <= 0)
        return 0;
    double room = b->max > 0 ? b->max * b->length : b->avg / 10, wait = (b->level - room) / b->avg;
    if (b->max > 0 && b->length > 1)
        wait = MAX(wait, (b->burst - b->max / 10) / b->max);
    return MAX(wait, 0);
}

/* ---- groups ---- */

struct waiter {
    GCond cond;
    uint64_t bytes;
};

struct throttle_member {
    struct throttle_group *group;
    GQueue waiting[2];         /* struct waiter *: reads, writes */
};

struct throttle_group {
    struct throttle_groups *set;
    char *name;
    gint refs;                 /* set->lock when it is the last */
    GMutex lock;               /* all below */
    struct throttle_config config;
    struct bucket bucket[THROTTLE_NLIMITS];
    gint64 leaked_at;          /* monotonic */
    GPtrArray *members;
    unsigned waiting[2];
    guint turn[2];             /* index of the member that is next */
};

struct throttle_groups {
    gint refs;                 /* its owner's and one of each group */
    GMutex lock;
    GPtrArray *groups;
};

struct throttle_groups *throttle_groups_create(void)
{
    struct throttle_groups *s = g_new0(struct throttle_groups, 1);
    s->refs = 1;
    g_mutex_init(&s->lock);
    s->groups = g_ptr_array_new();
    return s;
}

void throttle_groups_destroy(struct throttle_groups *s)
{
    if (!s || !g_atomic_int_dec_and_test(&s->refs))
        return;
    g_ptr_array_unref(s->groups);
    g_mutex_clear(&s->lock);
    g_free(s);
}

static struct throttle_group *find_locked(struct throttle_groups *s, const char *name)
{
    for (guint i = 0; i < s->groups->len; i++) {
        struct throttle_group *g = s->groups->pdata[i];
        if (!strcmp(g->name, name))
            return g;
    }
    return NULL;
}

struct throttle_group *throttle_group_get(struct throttle_groups *s, const char *name)
{
    g_mutex_lock(&s->lock);
    struct throttle_group *g = find_locked(s, name);
    if (!g) {
        g = g_new0(struct throttle_group, 1);
        g->set = s;
        g_atomic_int_inc(&s->refs);
        g->name = g_strdup(name);
        g_mutex_init(&g->lock);
        g->members = g_ptr_array_new();
        g_ptr_array_add(s->groups, g);
    }
    g->refs++;
    g_mutex_unlock(&s->lock);
    return g;
}

struct throttle_group *throttle_group_find(struct throttle_groups *s, const char *name)
{
    g_mutex_lock(&s->lock);
    struct throttle_group *g = find_locked(s, name);
    g_mutex_unlock(&s->lock);
    return g;
}

struct throttle_group *throttle_group_ref(struct throttle_group *g)
{
    g_mutex_lock(&g->set->lock);
    g->refs++;
    g_mutex_unlock(&g->set->lock);
    return g;
}

void throttle_group_unref(struct throttle_group *g)
{
    if (!g)
        return;
    struct throttle_groups *s = g->set;
    g_mutex_lock(&s->lock);
    bool last = !--g->refs;
    if (last)
        g_ptr_array_remove(s->groups, g);
    g_mutex_unlock(&s->lock);
    if (!last)
        return;
    g_ptr_array_unref(g->members);
    g_mutex_clear(&g->lock);
    g_free(g->name);
    g_free(g);
    throttle_groups_destroy(s);
}

const char *throttle_group_name(const struct throttle_group *g)
{
    return g->name;
}

void throttle_group_config(struct throttle_group *g, struct throttle_config *ret)
{
    g_mutex_lock(&g->lock);
    *ret = g->config;
    g_mutex_unlock(&g->lock);
}

static void wake_all_locked(struct throttle_group *g)
{
    for (guint i = 0; i < g->members->len; i++) {
        struct throttle_member *m = g->members->pdata[i];
        for (int dir = 0; dir < 2; dir++) {
            for (GList *l = m->waiting[dir].head; l; l = l->next)
                g_cond_signal(&((struct waiter *)l->data)->cond);
        }
    }
}

void throttle_group_set_config(struct throttle_group *g, const struct throttle_config *c)
{
    g_mutex_lock(&g->lock);
    g->config = *c;
    for (int i = 0; i < THROTTLE_NLIMITS; i++)
        g->bucket[i] = (struct bucket) { (double)c->limit[i].avg, (double)c->limit[i].max, (double)MAX(c->limit[i].max_length, 1), 0, 0 };
    g->leaked_at = g_get_monotonic_time();
    wake_all_locked(g);
    g_mutex_unlock(&g->lock);
}

/* ---- requests ---- */

/* The limits that count for a direction. */
static const int counts[2][4] = { { THROTTLE_BPS_TOTAL, THROTTLE_BPS_READ, THROTTLE_IOPS_TOTAL, THROTTLE_IOPS_READ },
                                  { THROTTLE_BPS_TOTAL, THROTTLE_BPS_WRITE, THROTTLE_IOPS_TOTAL, THROTTLE_IOPS_WRITE } };

static double seconds_to_wait_locked(struct throttle_group *g, bool write)
{
    gint64 now = g_get_monotonic_time();
    double wait = 0;
    for (int i = 0; i < THROTTLE_NLIMITS; i++)
        leak(&g->bucket[i], (double)(now - g->leaked_at) / G_USEC_PER_SEC);
    g->leaked_at = now;
    for (int i = 0; i < 4; i++)
        wait = MAX(wait, wait_of(&g->bucket[counts[write][i]]));
    return wait;
}

static void count_locked(struct throttle_group *g, bool write, uint64_t bytes)
{
    double requests = g->config.iops_size && bytes > g->config.iops_size ? (double)bytes / (double)g->config.iops_size : 1;
    for (int i = 0; i < 4; i++) {
        double units = i < 2 ? (double)bytes : requests;
        g->bucket[counts[write][i]].level += units;
        g->bucket[counts[write][i]].burst += units;
    }
}

/* The one whose turn it is; NULL: nobody waits. */
static struct throttle_member *next_locked(struct throttle_group *g, bool write)
{
    for (guint i = 0; i < g->members->len; i++) {
        struct throttle_member *m = g->members->pdata[(g->turn[write] + i) % g->members->len];
        if (m->waiting[write].head) {
            g->turn[write] = (g->turn[write] + i) % g->members->len;
            return m;
        }
    }
    return NULL;
}

static void signal_next_locked(struct throttle_group *g, bool write)
{
    struct throttle_member *m = next_locked(g, write);
    if (m)
        g_cond_signal(&((struct waiter *)m->waiting[write].head->data)->cond);
}

bool throttle_try(struct throttle_member *m, bool write, uint64_t bytes)
{
    struct throttle_group *g = m->group;
    g_mutex_lock(&g->lock);
    bool now = !g->waiting[write] && seconds_to_wait_locked(g, write) <= 0;
    if (now)
        count_locked(g, write, bytes);
    g_mutex_unlock(&g->lock);
    return now;
}

static void wait_locked(struct throttle_member *m, bool write, struct waiter *w, bool (*hurry)(void *opaque), void *opaque)
{
    struct throttle_group *g = m->group;
    while (!hurry || !hurry(opaque)) {
        gint64 until = g_get_monotonic_time() + LOOK_US;
        if (m->waiting[write].head->data == w && next_locked(g, write) == m) {
            double seconds = seconds_to_wait_locked(g, write);
            if (seconds <= 0) {
                g->turn[write] = (g->turn[write] + 1) % g->members->len;
                break;
            }
            until = MIN(until, g_get_monotonic_time() + (gint64)(seconds * G_USEC_PER_SEC) + 1);
        }
        g_cond_wait_until(&w->cond, &g->lock, until);
    }
}

void throttle_wait(struct throttle_member *m, bool write, uint64_t bytes, bool (*hurry)(void *opaque), void *opaque)
{
    struct throttle_group *g = m->group;
    if (throttle_try(m, write, bytes))
        return;
    struct waiter w = { .bytes = bytes };
    g_cond_init(&w.cond);
    g_mutex_lock(&g->lock);
    g_queue_push_tail(&m->waiting[write], &w);
    g->waiting[write]++;
    wait_locked(m, write, &w, hurry, opaque);
    count_locked(g, write, bytes);
    g_queue_remove(&m->waiting[write], &w);
    g->waiting[write]--;
    signal_next_locked(g, write);
    g_mutex_unlock(&g->lock);
    g_cond_clear(&w.cond);
}

/* ---- members ---- */

struct throttle_member *throttle_join(struct throttle_group *g)
{
    struct throttle_member *m = g_new0(struct throttle_member, 1);
    m->group = throttle_group_ref(g);
    g_mutex_lock(&g->lock);
    g_ptr_array_add(g->members, m);
    g_mutex_unlock(&g->lock);
    return m;
}

void throttle_leave(struct throttle_member *m)
{
    if (!m)
        return;
    struct throttle_group *g = m->group;
    g_mutex_lock(&g->lock);
    g_ptr_array_remove(g->members, m);
    g->turn[0] = g->turn[1] = 0;
    g_mutex_unlock(&g->lock);
    throttle_group_unref(g);
    g_free(m);
}

struct throttle_group *throttle_member_group(const struct throttle_member *m)
{
    return m->group;
}
