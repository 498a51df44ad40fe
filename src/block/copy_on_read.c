/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Filter "copy-on-read": what is read from a backing image is written into the image below the filter, so that it is there the
 * next time. While a piece is being copied no write to it passes, else the copy could undo the write.
 */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "block/drivers.h"
#include "block/filter.h"

enum { PIECE = 1 << 20 /* copied at once */, UNIT = 64 << 10 /* of an image that has no clusters */ };

struct range {
    uint64_t start, end;
    bool copy;
    GList link;
};
struct cor_state {
    char *bottom_name;
    struct block_node *bottom; /* referenced; images below it are not copied. NULL: all are */
    bool ready;
    uint64_t unit;
    GMutex lock;
    GCond changed;
    GQueue busy;               /* struct range: copies, and writes on their way */
};
static const struct keyval_key keys[] = {
    { "bottom", KV_STRING, offsetof(struct cor_state, bottom_name), "node-name of the lowest image that is copied" },
    { NULL }
};

static bool cor_open(struct block_node *n, unsigned flags, GError **error)
{
    struct cor_state *s = n->state;
    struct block_info info;
    filter_take_over(n);
    if (s->bottom_name) {
        struct block_node *b = block_find(n->graph, s->bottom_name);
        if (!b)
            return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Bottom node '%s' not found", s->bottom_name);
        s->bottom = block_node_ref(b);
    }
    if (!(flags & BLOCK_RDWR))
        return vireo_fail(error, VIREO_ERROR_INVALID, "copy-on-read needs an image that can be written: read-only=off");
    s->unit = block_get_info(filter_below(n), &info) || !info.cluster_size ? UNIT : MIN(info.cluster_size, PIECE);
    g_mutex_init(&s->lock);
    g_cond_init(&s->changed);
    g_queue_init(&s->busy);
    s->ready = true;
    return true;
}

static void cor_close(struct block_node *n)
{
    struct cor_state *s = n->state;
    block_node_unref(g_steal_pointer(&s->bottom));
    g_clear_pointer(&s->bottom_name, g_free);
    if (s->ready) {
        g_mutex_clear(&s->lock);
        g_cond_clear(&s->changed);
    }
    s->ready = false;
}

/* ---- who may go on ---- */

static bool in_the_way_locked(const struct cor_state *s, const struct range *r)
{
    for (const GList *l = s->busy.head; l; l = l->next) {
        const struct range *o = l->data;
        if (o->start < r->end && r->start < o->end && (o->copy || r->copy))
            return true;
    }
    return false;
}

static void begin(struct cor_state *s, struct range *r)
{
    r->link = (GList) { .data = r };
    g_mutex_lock(&s->lock);
    while (in_the_way_locked(s, r))
        g_cond_wait(&s->changed, &s->lock);
    g_queue_push_tail_link(&s->busy, &r->link);
    g_mutex_unlock(&s->lock);
}

static void end(struct cor_state *s, struct range *r)
{
    g_mutex_lock(&s->lock);
    g_queue_unlink(&s->busy, &r->link);
    g_cond_broadcast(&s->changed);
    g_mutex_unlock(&s->lock);
}

/* ---- reading ---- */

/* Whether the piece's content comes from an image that is copied. *ret_bytes: how far that holds. */
static int wants_copy(struct block_node *n, uint64_t offset, uint64_t bytes, bool *ret, uint64_t *ret_bytes)
{
    struct cor_state *s = n->state;
    struct block_node *below = block_skip_filters(filter_below(n));
    struct block_status st;
    int err = block_status(below, offset, bytes, &st);
    *ret = false;
    if (err)
        return err;
    *ret_bytes = MIN(st.bytes, bytes);
    if (st.flags & BLOCK_STATUS_ALLOCATED || !block_backing(below))
        return 0;
    *ret = true;
    if (!s->bottom)
        return 0;
    err = block_status_chain(below, block_backing(block_skip_filters(s->bottom)), offset, *ret_bytes, &st);
    *ret = st.flags & BLOCK_STATUS_ALLOCATED;
    *ret_bytes = MIN(st.bytes, *ret_bytes);
    return err;
}

/* Copies what is still to be copied of the range, which is held. All of it is in `buffer` then. */
static int copy(struct block_node *n, const struct range *r, uint8_t *buffer)
{
    struct block_node *below = filter_below(n);
    int err = block_pread(below, r->start, r->end - r->start, buffer);
    for (uint64_t at = r->start; at < r->end && !err;) {
        bool wanted;
        uint64_t bytes;
        const uint8_t *data = buffer + (at - r->start);
        err = wants_copy(n, at, r->end - at, &wanted, &bytes);
        if (err || !wanted)
            ;
        else if (buffer_is_zero(data, bytes))
            err = block_write_zeroes(below, at, bytes, BLOCK_WRITE_UNCHANGED);
        else
            err = block_pwrite(below, at, bytes, data, BLOCK_WRITE_UNCHANGED);
        at += err ? 0 : bytes;
    }
    return err;
}

/* Reads offset..offset+bytes, at most PIECE, with the units around it copied. */
static int read_and_copy(struct block_node *n, uint64_t offset, uint64_t bytes, struct iov_cursor *c)
{
    struct cor_state *s = n->state;
    struct range r = { .start = offset / s->unit * s->unit, .copy = true };
    r.end = MIN((offset + bytes + s->unit - 1) / s->unit * s->unit, n->size);
    g_autofree uint8_t *buffer = g_try_malloc(r.end - r.start);
    if (!buffer)
        return ENOMEM;
    begin(s, &r);
    int err = copy(n, &r, buffer);
    end(s, &r);
    if (!err)
        iov_cursor_write(c, buffer + (offset - r.start), bytes);
    return err;
}

static int cor_preadv(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct iov_cursor c = { iov, niov, 0 };
    for (uint64_t done = 0; done < bytes;) {
        bool wanted;
        uint64_t part;
        int err = wants_copy(n, offset + done, MIN(bytes - done, PIECE), &wanted, &part), count;
        if (!err && wanted) {
            err = read_and_copy(n, offset + done, part, &c);
        } else if (!err) {
            g_autofree struct iovec *piece = iov_slice(iov, niov, done, part, &count);
            err = filter_preadv(n, offset + done, part, piece, count);
        }
        if (err)
            return err;
        done += part;
        c = (struct iov_cursor) { iov, niov, 0 };
        iov_cursor_advance(&c, done);
    }
    return 0;
}

/* ---- writing ---- */

static int cor_pwritev(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov, unsigned flags)
{
    struct range r = { .start = offset, .end = offset + bytes };
    begin(n->state, &r);
    int err = filter_pwritev(n, offset, bytes, iov, niov, flags);
    end(n->state, &r);
    return err;
}

static int cor_write_zeroes(struct block_node *n, uint64_t offset, uint64_t bytes, unsigned flags)
{
    struct range r = { .start = offset, .end = offset + bytes };
    begin(n->state, &r);
    int err = filter_write_zeroes(n, offset, bytes, flags);
    end(n->state, &r);
    return err;
}

static int cor_discard(struct block_node *n, uint64_t offset, uint64_t bytes)
{
    struct range r = { .start = offset, .end = offset + bytes };
    begin(n->state, &r);
    int err = filter_discard(n, offset, bytes);
    end(n->state, &r);
    return err;
}

const struct block_driver block_copy_on_read = {
    .name = "copy-on-read",
    .help = "copies what is read from backing images into the image",
    .kind = BLOCK_FILTER,
    .state_size = sizeof(struct cor_state),
    .keys = keys,
    .open = cor_open,
    .close = cor_close,
    .reopen = filter_reopen,
    .preadv = cor_preadv,
    .pwritev = cor_pwritev,
    .write_zeroes = cor_write_zeroes,
    .discard = cor_discard,
    .supports_fua = true,
    .growable = true,
    .truncate = filter_truncate,
    .get_info = filter_get_info,
};
