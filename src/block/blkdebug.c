/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Filter "blkdebug": errors on demand, for tests. Rules wait for an event; when it happens in the right state, an inject-error rule
 * becomes active and fails the requests that it is about, a set-state rule changes the state (the first is 1). Events are those of
 * requests; formats tell of none inside themselves.
 */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "block/drivers.h"
#include "block/filter.h"

enum event { EVENT_NONE, EVENT_READ_AIO, EVENT_WRITE_AIO, EVENT_PWRITEV, EVENT_PWRITEV_ZERO, EVENT_PWRITEV_DONE, EVENT_FLUSH_TO_OS, EVENT_FLUSH_TO_DISK,
             NEVENTS };
static const char *const event_names[] = { "none", "read_aio", "write_aio", "pwritev", "pwritev_zero", "pwritev_done", "flush_to_os", "flush_to_disk", NULL };
/* QEMU's, that formats would have to tell of. */
static const char *const other_events[] = {
    "l1_update", "l1_grow_alloc_table", "l1_grow_write_table", "l1_grow_activate_table", "l2_load", "l2_update", "l2_update_compressed",
    "l2_alloc_cow_read", "l2_alloc_write", "read_backing_aio", "read_compressed", "write_compressed", "vmstate_load", "vmstate_save", "cow_read",
    "cow_write", "reftable_load", "reftable_grow", "reftable_update", "refblock_load", "refblock_update", "refblock_update_part", "refblock_alloc",
    "refblock_alloc_hookup", "refblock_alloc_write", "refblock_alloc_write_blocks", "refblock_alloc_write_table", "refblock_alloc_switch_table",
    "cluster_alloc", "cluster_alloc_bytes", "cluster_free", "pwritev_rmw_head", "pwritev_rmw_after_head", "pwritev_rmw_tail", "pwritev_rmw_after_tail",
    "empty_image_prepare", "l1_shrink_write_table", "l1_shrink_free_l2_clusters", "cor_write", "cluster_alloc_space", NULL
};
enum iotype { IO_READ, IO_WRITE, IO_WRITE_ZEROES, IO_DISCARD, IO_FLUSH, IO_BLOCK_STATUS };
static const char *const iotype_names[] = { "read", "write", "write-zeroes", "discard", "flush", "block-status", NULL };

struct rule {
    bool set_state;
    enum event event;
    uint64_t state, new_state;   /* state 0: any */
    int err;
    int64_t offset;              /* bytes; -1: anywhere */
    unsigned iotypes;            /* bits */
    bool once, active;
};

struct blkdebug_state {
    char *config;
    uint64_t align, max_transfer, max_write_zero, max_discard, opt_write_zero, opt_discard;
    GMutex lock;                 /* rules, state */
    bool ready;
    GPtrArray *rules;            /* struct rule * */
    uint64_t state;
};
#define B(member) offsetof(struct blkdebug_state, member)
static const struct keyval_key keys[] = {
    { "config", KV_STRING, B(config), "file of rules" },
    { "align", KV_SIZE, B(align), "alignment that requests must have" },
    { "max-transfer", KV_SIZE, B(max_transfer), "of a request" },
    { "opt-write-zero", KV_SIZE, B(opt_write_zero), "alignment from which zeroes are cheap" },
    { "max-write-zero", KV_SIZE, B(max_write_zero), "of a request" },
    { "opt-discard", KV_SIZE, B(opt_discard), "alignment from which discarding is cheap" },
    { "max-discard", KV_SIZE, B(max_discard), "of a request" },
    { NULL }
};

/* ---- rules ---- */

static bool parse_event(const char *name, enum event *ret, GError **error)
{
    int i;
    for (i = 0; other_events[i]; i++) {
        if (!strcmp(other_events[i], name))
            return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "blkdebug: the event '%s' is not told of here; those of requests are: read_aio, write_aio, "
                              "pwritev, pwritev_zero, pwritev_done, flush_to_os, flush_to_disk", name);
    }
    if (!keyval_enum("event", name, event_names, &i, error))
        return false;
    *ret = (enum event)i;
    return true;
}

static bool take_uint(struct keyval *kv, const char *key, uint64_t max, uint64_t *ret, GError **error)
{
    g_autofree char *value = keyval_take(kv, key);
    return !value || keyval_uint(key, value, 0, max, ret, error);
}

static bool take_flag(struct keyval *kv, const char *key, bool *ret, GError **error)
{
    g_autofree char *value = keyval_take(kv, key);
    return !value || keyval_bool(key, value, ret, error);
}

/* The members of one rule, taken out of kv. */
static bool parse_rule(struct keyval *kv, struct rule *r, GError **error)
{
    g_autofree char *event = keyval_take(kv, "event"), *iotype = keyval_take(kv, "iotype");
    uint64_t err = EIO, sector = UINT64_MAX;
    bool immediately; /* there is no other way here */
    int type = -1;
    if (!event)
        return vireo_fail(error, VIREO_ERROR_INVALID, "blkdebug: Missing event name for rule");
    if (!parse_event(event, &r->event, error) || !take_uint(kv, "state", UINT32_MAX, &r->state, error) ||
        !take_uint(kv, r->set_state ? "new_state" : "errno", r->set_state ? UINT32_MAX : 4095, r->set_state ? &r->new_state : &err, error))
        return false;
    if (!r->set_state && (!take_uint(kv, "sector", INT64_MAX / 512, &sector, error) || !take_flag(kv, "once", &r->once, error) ||
                          !take_flag(kv, "immediately", &immediately, error) || (iotype && !keyval_enum("iotype", iotype, iotype_names, &type, error))))
        return false;
    r->err = (int)err;
    r->offset = sector == UINT64_MAX ? -1 : (int64_t)(sector * 512);
    r->iotypes = type < 0 ? (1u << IO_BLOCK_STATUS) - 1 : 1u << type;
    r->active = r->event == EVENT_NONE && !r->set_state;
    if (kv->pairs->len)
        return vireo_fail(error, VIREO_ERROR_INVALID, "blkdebug: a rule has no member '%s'", ((struct keyval_pair *)kv->pairs->pdata[0])->key);
    return true;
}

static bool add_rule(struct blkdebug_state *s, bool set_state, struct keyval *kv, GError **error)
{
    struct rule r = { .set_state = set_state };
    if (!parse_rule(kv, &r, error))
        return false;
    g_ptr_array_add(s->rules, g_memdup2(&r, sizeof(r)));
    return true;
}

/* [inject-error] and [set-state] sections of lines NAME = "VALUE". */
static bool read_config(struct blkdebug_state *s, const char *text, GError **error)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    keyval_auto *kv = NULL;
    bool set_state = false;
    for (unsigned i = 0;; i++) {
        char *line = lines[i] ? g_strstrip(lines[i]) : NULL;
        if (line && (!*line || *line == '#'))
            continue;
        if (!line || *line == '[') {
            if (kv && !add_rule(s, set_state, kv, error))
                return false;
            if (!line)
                return true;
            set_state = g_str_has_prefix(line, "[set-state");
            if (!set_state && !g_str_has_prefix(line, "[inject-error"))
                return vireo_fail(error, VIREO_ERROR_INVALID, "blkdebug: line %u of the rules: expected [inject-error] or [set-state]", i + 1);
            keyval_free(kv);
            kv = keyval_new();
            continue;
        }
        char *equals = strchr(line, '=');
        if (!equals || !kv)
            return vireo_fail(error, VIREO_ERROR_INVALID, "blkdebug: line %u of the rules: expected NAME = \"VALUE\" in a section", i + 1);
        *equals = '\0';
        char *value = g_strstrip(equals + 1);
        size_t n = strlen(value);
        if (n >= 2 && *value == '"' && value[n - 1] == '"') {
            value[n - 1] = '\0';
            value++;
        }
        keyval_add(kv, g_strchomp(line), value);
    }
}

/* inject-error.N.NAME and set-state.N.NAME */
static bool blkdebug_take_options(struct block_node *n, struct keyval *kv, GError **error)
{
    static const char *const lists[] = { "inject-error", "set-state" };
    struct blkdebug_state *s = n->state;
    g_mutex_init(&s->lock);
    s->rules = g_ptr_array_new_with_free_func(g_free);
    s->state = 1;
    s->ready = true;
    for (int list = 0; list < 2; list++) {
        keyval_auto *nested = keyval_take_nested(kv, lists[list]);
        for (unsigned i = 0; nested && nested->pairs->len; i++) {
            g_autofree char *index = g_strdup_printf("%u", i);
            keyval_auto *rule = keyval_take_nested(nested, index);
            if (!rule || !rule->pairs->len)
                return vireo_fail(error, VIREO_ERROR_INVALID, "blkdebug: %s.%u is missing", lists[list], i);
            if (!add_rule(s, list == 1, rule, error))
                return false;
        }
    }
    return true;
}

/* ---- what happens ---- */

static void happen_locked(struct blkdebug_state *s, enum event e)
{
    uint64_t state = s->state;
    for (guint i = 0; i < s->rules->len; i++) {
        struct rule *r = s->rules->pdata[i];
        if (r->event != e || (r->state && r->state != s->state))
            continue;
        if (r->set_state)
            state = r->new_state;
        else
            r->active = true;
    }
    s->state = state;
}

/* The events of a request come first; then the error of the first active rule that is about it, or 0. */
static int check(struct block_node *n, enum iotype type, const enum event *events, unsigned nevents, uint64_t offset, uint64_t bytes)
{
    struct blkdebug_state *s = n->state;
    int err = 0;
    g_mutex_lock(&s->lock);
    for (unsigned i = 0; i < nevents; i++)
        happen_locked(s, events[i]);
    for (guint i = 0; i < s->rules->len && !err; i++) {
        struct rule *r = s->rules->pdata[i];
        bool there = r->offset < 0 || (type != IO_FLUSH && (uint64_t)r->offset >= offset && (uint64_t)r->offset < offset + bytes);
        if (!r->active || !(r->iotypes >> type & 1) || !there || (r->event == EVENT_NONE && r->state && r->state != s->state))
            continue;
        err = r->err;
        if (r->once)
            g_ptr_array_remove_index(s->rules, i);
    }
    g_mutex_unlock(&s->lock);
    return err;
}

static bool debug_open(struct block_node *n, unsigned flags, GError **error)
{
    struct blkdebug_state *s = n->state;
    g_autofree char *text = NULL;
    g_autoptr(GError) e = NULL;
    if (s->config && *s->config && !g_file_get_contents(s->config, &text, NULL, &e))
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "blkdebug: Could not read the rules: %s", e->message);
    if (text && !read_config(s, text, error))
        return false;
    filter_take_over(n);
    if (s->align & (s->align - 1) || s->align > 1 << 20)
        return vireo_fail(error, VIREO_ERROR_INVALID, "blkdebug: align must be a power of two up to 1M");
    n->limits.request_alignment = (uint32_t)MAX(n->limits.request_alignment, s->align);
    const uint64_t unit = n->limits.request_alignment;
    if (s->max_transfer % unit || s->max_write_zero % unit || s->max_discard % unit || s->max_transfer > UINT32_MAX)
        return vireo_fail(error, VIREO_ERROR_INVALID, "blkdebug: max-transfer, max-write-zero and max-discard must be multiples of %" G_GUINT64_FORMAT, unit);
    n->limits.max_transfer = (uint32_t)s->max_transfer;
    n->limits.max_zeroes = s->max_write_zero;
    n->limits.max_discard = s->max_discard;
    n->limits.zeroes_alignment = (uint32_t)MAX(n->limits.zeroes_alignment, MIN(s->opt_write_zero, 1 << 30));
    n->limits.discard_alignment = (uint32_t)MAX(n->limits.discard_alignment, MIN(s->opt_discard, 1 << 30));
    return true;
}

static void debug_close(struct block_node *n)
{
    struct blkdebug_state *s = n->state;
    g_clear_pointer(&s->config, g_free);
    if (!s->ready)
        return;
    g_ptr_array_unref(s->rules);
    g_mutex_clear(&s->lock);
    s->ready = false;
}

static int debug_preadv(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov)
{
    static const enum event events[] = { EVENT_READ_AIO };
    int err = check(n, IO_READ, events, 1, offset, bytes);
    return err ? err : filter_preadv(n, offset, bytes, iov, niov);
}

static void done(struct block_node *n)
{
    struct blkdebug_state *s = n->state;
    g_mutex_lock(&s->lock);
    happen_locked(s, EVENT_PWRITEV_DONE);
    g_mutex_unlock(&s->lock);
}

static int debug_pwritev(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov, unsigned flags)
{
    static const enum event events[] = { EVENT_WRITE_AIO, EVENT_PWRITEV };
    int err = check(n, IO_WRITE, events, 2, offset, bytes);
    err = err ? err : filter_pwritev(n, offset, bytes, iov, niov, flags);
    done(n);
    return err;
}

static int debug_write_zeroes(struct block_node *n, uint64_t offset, uint64_t bytes, unsigned flags)
{
    static const enum event events[] = { EVENT_PWRITEV_ZERO };
    int err = check(n, IO_WRITE_ZEROES, events, 1, offset, bytes);
    err = err ? err : filter_write_zeroes(n, offset, bytes, flags);
    done(n);
    return err;
}

static int debug_discard(struct block_node *n, uint64_t offset, uint64_t bytes)
{
    int err = check(n, IO_DISCARD, NULL, 0, offset, bytes);
    return err ? err : filter_discard(n, offset, bytes);
}

static int debug_flush(struct block_node *n)
{
    static const enum event events[] = { EVENT_FLUSH_TO_OS, EVENT_FLUSH_TO_DISK };
    int err = check(n, IO_FLUSH, events, 2, 0, 0);
    return err ? err : block_flush(filter_below(n));
}

static int debug_status(struct block_node *n, uint64_t offset, uint64_t bytes, struct block_status *ret)
{
    int err = check(n, IO_BLOCK_STATUS, NULL, 0, offset, bytes);
    *ret = (struct block_status) { .flags = BLOCK_STATUS_DATA | BLOCK_STATUS_ALLOCATED | BLOCK_STATUS_MAPPED | BLOCK_STATUS_RECURSE, .bytes = bytes,
                                   .map = offset, .file = filter_below(n) };
    return err;
}

/* blkdebug:CONFIG:IMAGE */
static bool parse_filename(const char *filename, struct keyval *options, GError **error)
{
    const char *config = filename + strlen("blkdebug:"), *colon = strchr(config, ':');
    if (!colon)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s': blkdebug requires both config file and image path: blkdebug:CONFIG:IMAGE", filename);
    g_autofree char *name = g_strndup(config, (gsize)(colon - config));
    if (*name)
        keyval_add(options, "config", name);
    keyval_add(options, "image.filename", colon + 1);
    return true;
}

static const char *const prefixes[] = { "blkdebug:", NULL };

const struct block_driver block_blkdebug = {
    .name = "blkdebug",
    .help = "errors on demand, for tests",
    .kind = BLOCK_FILTER,
    .state_size = sizeof(struct blkdebug_state),
    .keys = keys,
    .first_child = "image",
    .take_options = blkdebug_take_options,
    .prefixes = prefixes,
    .parse_filename = parse_filename,
    .open = debug_open,
    .close = debug_close,
    .reopen = filter_reopen,
    .preadv = debug_preadv,
    .pwritev = debug_pwritev,
    .write_zeroes = debug_write_zeroes,
    .discard = debug_discard,
    .flush = debug_flush,
    .supports_fua = false,
    .status = debug_status,
    .growable = true,
    .truncate = filter_truncate,
    .get_info = filter_get_info,
};
