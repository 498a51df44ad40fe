/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Requests of a connection (doc/proto.md, "Transmission"). Of the connection's threads one reads. As long as the client waits for
 * each answer, the same thread also carries requests out. Once a request came before the one before was answered, the reading
 * is handed to another thread first, for some time.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "block/bitmap.h"
#include "block/block.h"
#include "block/nbd_server_private.h"

enum {
    MAX_EXTENTS = 8192,          /* in one answer; the client asks again */
    KEPT_BUFFER = 2 << 20,       /* of a thread, between requests */
    SPARSE_READ = 32 << 10,      /* shorter reads do not look for holes */
    PREFETCH = 1 << 20,
    EAGER = 64,                  /* requests for which it is remembered that the client does not wait */
};

struct request {
    enum nbd_command type;
    unsigned flags;
    uint64_t offset;
    uint32_t length;
    uint64_t cookie;             /* as on the wire */
};

/* Of one thread. */
struct worker {
    struct nbd_peer *peer;
    uint8_t *buffer;
    size_t size;
};

static bool have_buffer(struct worker *w, size_t n)
{
    if (w->size >= n)
        return true;
    g_free(w->buffer);
    w->size = MAX(n, 64 << 10);
    w->buffer = g_try_malloc(w->size);
    if (!w->buffer)
        w->size = 0;
    return w->buffer;
}

static void trim_buffer(struct worker *w)
{
    if (w->size <= KEPT_BUFFER)
        return;
    g_clear_pointer(&w->buffer, g_free);
    w->size = 0;
}

/* ---- answers ---- */

static uint32_t wire_error(int err)
{
    static const struct {
        int err;
        uint32_t wire;
    } known[] = {
        { 0, 0 }, { EPERM, NBD_EPERM }, { EROFS, NBD_EPERM }, { EACCES, NBD_EPERM }, { ENOMEM, NBD_ENOMEM }, { EINVAL, NBD_EINVAL },
        { ENOSPC, NBD_ENOSPC }, { EFBIG, NBD_ENOSPC }, { EDQUOT, NBD_ENOSPC }, { EOVERFLOW, NBD_EOVERFLOW }, { ENOTSUP, NBD_ENOTSUP },
        { ESHUTDOWN, NBD_ESHUTDOWN },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(known); i++) {
        if (known[i].err == err)
            return known[i].wire;
    }
    return NBD_EIO;
}

static bool send_all(struct nbd_peer *p, struct iovec *iov, int niov)
{
    g_mutex_lock(&p->send_lock);
    bool ok = nbd_peer_send(p, iov, niov);
    g_mutex_unlock(&p->send_lock);
    return ok;
}

static bool send_simple(struct nbd_peer *p, const struct request *r, int err, const void *data, size_t n)
{
    struct nbd_simple_reply_wire head = { GUINT32_TO_BE(NBD_SIMPLE_REPLY_MAGIC), GUINT32_TO_BE(wire_error(err)), r->cookie };
    struct iovec iov[2] = { { &head, sizeof(head) }, { (void *)data, n } };
    return send_all(p, iov, n ? 2 : 1);
}

/* A chunk whose payload is `prefix` and then `data`. */
static bool send_chunk(struct nbd_peer *p, const struct request *r, unsigned flags, unsigned type, const void *prefix, size_t nprefix, const void *data,
                       size_t n)
{
    struct nbd_chunk_wire head = { GUINT32_TO_BE(NBD_STRUCTURED_REPLY_MAGIC), GUINT16_TO_BE((uint16_t)flags), GUINT16_TO_BE((uint16_t)type), r->cookie,
                                   GUINT32_TO_BE((uint32_t)(nprefix + n)) };
    struct iovec iov[3] = { { &head, sizeof(head) }, { (void *)prefix, nprefix }, { (void *)data, n } };
    return send_all(p, iov, n ? 3 : nprefix ? 2 : 1);
}

static bool send_error_chunk(struct nbd_peer *p, const struct request *r, int err)
{
    struct {
        uint32_t error;
        uint16_t length;
    } __attribute__((packed)) body = { GUINT32_TO_BE(wire_error(err)), 0 };
    return send_chunk(p, r, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_ERROR, &body, sizeof(body), NULL, 0);
}

/* What has no data to give: done, or an error. Answers to reads are structured when that was negotiated (both kinds may be used for
 * the rest). */
static bool answer(struct nbd_peer *p, const struct request *r, int err)
{
    bool chunked = p->structured && (r->type == NBD_CMD_READ || r->type == NBD_CMD_BLOCK_STATUS);
    if (!chunked)
        return send_simple(p, r, err, NULL, 0);
    return err ? send_error_chunk(p, r, err) : send_chunk(p, r, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_NONE, NULL, 0, NULL, 0);
}

/* ---- on the node ---- */

static int run_read(struct nbd_export *e, uint64_t offset, uint64_t bytes, void *to)
{
    block_enter(e->graph);
    struct block_node *n = block_device_node(e->device);
    int err = n ? block_pread(n, offset, bytes, to) : EIO;
    block_leave(e->graph);
    return err;
}

static int run_write(struct nbd_export *e, const struct request *r, const void *from)
{
    bool fua = (r->flags & NBD_CMD_FLAG_FUA) || block_device_options(e->device)->write_through;
    unsigned flags = fua ? BLOCK_FUA : 0;
    unsigned zero = flags | (r->flags & NBD_CMD_FLAG_NO_HOLE ? 0 : BLOCK_MAY_UNMAP) | (r->flags & NBD_CMD_FLAG_FAST_ZERO ? BLOCK_NO_FALLBACK : 0);
    block_enter(e->graph);
    struct block_node *n = block_device_node(e->device);
    int err = EIO;
    if (!n)
        err = EIO;
    else if (r->type == NBD_CMD_WRITE)
        err = block_pwrite(n, r->offset, r->length, from, flags);
    else if (r->type == NBD_CMD_WRITE_ZEROES)
        err = block_write_zeroes(n, r->offset, r->length, zero);
    else if (r->type == NBD_CMD_TRIM)
        err = block_discard(n, r->offset, r->length);
    if (!err && r->type == NBD_CMD_TRIM && (r->flags & NBD_CMD_FLAG_FUA))
        err = block_flush(n);
    block_leave(e->graph);
    return err == EOPNOTSUPP && r->type == NBD_CMD_TRIM ? 0 : err;
}

static int run_flush(struct nbd_export *e)
{
    block_enter(e->graph);
    struct block_node *n = block_device_node(e->device);
    int err = n ? block_flush(n) : EIO;
    block_leave(e->graph);
    return err;
}

static int run_status(struct nbd_export *e, uint64_t offset, uint64_t bytes, struct block_status *ret)
{
    block_enter(e->graph);
    struct block_node *n = block_device_node(e->device);
    int err = n ? block_status_chain(n, NULL, offset, bytes, ret) : EIO;
    block_leave(e->graph);
    if (!err && !ret->bytes)
        err = EIO;
    if (!err)
        ret->bytes = MIN(ret->bytes, bytes);
    return err;
}

/* ---- reading ---- */

static bool send_data_chunk(struct nbd_peer *p, const struct request *r, uint64_t offset, const void *data, size_t n, bool last)
{
    uint64_t at = GUINT64_TO_BE(offset);
    return send_chunk(p, r, last ? NBD_REPLY_FLAG_DONE : 0, NBD_REPLY_TYPE_OFFSET_DATA, &at, sizeof(at), data, n);
}

static bool send_hole_chunk(struct nbd_peer *p, const struct request *r, uint64_t offset, uint32_t n, bool last)
{
    struct {
        uint64_t offset;
        uint32_t length;
    } __attribute__((packed)) hole = { GUINT64_TO_BE(offset), GUINT32_TO_BE(n) };
    return send_chunk(p, r, last ? NBD_REPLY_FLAG_DONE : 0, NBD_REPLY_TYPE_OFFSET_HOLE, &hole, sizeof(hole), NULL, 0);
}

/* Structured, in as many chunks as there are pieces of data and of zeroes. An error after some chunks is the last one. */
static bool read_sparse(struct worker *w, const struct request *r)
{
    struct nbd_peer *p = w->peer;
    for (uint64_t at = r->offset, end = r->offset + r->length; at < end;) {
        struct block_status st = { .flags = BLOCK_STATUS_DATA, .bytes = end - at };
        int err = r->length >= SPARSE_READ && !(r->flags & NBD_CMD_FLAG_DF) ? run_status(p->export, at, end - at, &st) : 0;
        uint64_t n = st.bytes;
        bool last = at + n == end, ok;
        if (err) {
            ok = send_error_chunk(p, r, err);
            return ok;
        }
        if (st.flags & BLOCK_STATUS_ZERO)
            ok = send_hole_chunk(p, r, at, (uint32_t)n, last);
        else if ((err = run_read(p->export, at, n, w->buffer)))
            return send_error_chunk(p, r, err);
        else
            ok = send_data_chunk(p, r, at, w->buffer, n, last);
        if (!ok)
            return false;
        at += n;
    }
    return true;
}

static bool do_read(struct worker *w, const struct request *r)
{
    if (!have_buffer(w, r->length))
        return answer(w->peer, r, ENOMEM);
    if (!r->length)
        return answer(w->peer, r, 0);
    if (w->peer->structured)
        return read_sparse(w, r);
    int err = run_read(w->peer->export, r->offset, r->length, w->buffer);
    return send_simple(w->peer, r, err, w->buffer, err ? 0 : r->length);
}

/* The content goes into the caches of the host; nobody needs it here. */
static bool do_cache(struct worker *w, const struct request *r)
{
    int err = have_buffer(w, MIN(r->length, PREFETCH)) ? 0 : ENOMEM;
    for (uint64_t done = 0; !err && done < r->length;) {
        uint64_t n = MIN(r->length - done, PREFETCH);
        err = run_read(w->peer->export, r->offset + done, n, w->buffer);
        done += n;
    }
    return answer(w->peer, r, err);
}

/* ---- block status ---- */

struct extents {
    uint32_t (*at)[2];           /* length, flags; in network byte order only when sent */
    unsigned n, max;
};

/* Neighbours with the same flags are one. False: no room. */
static bool add_extent(struct extents *x, uint64_t bytes, uint32_t flags)
{
    if (x->n && x->at[x->n - 1][1] == flags && x->at[x->n - 1][0] + bytes <= UINT32_MAX) {
        x->at[x->n - 1][0] += (uint32_t)bytes;
        return true;
    }
    if (x->n == x->max)
        return false;
    x->at[x->n][0] = (uint32_t)bytes;
    x->at[x->n++][1] = flags;
    return true;
}

static uint32_t status_flags(unsigned context, const struct block_status *st)
{
    if (context == NBD_CONTEXT_DEPTH)
        return st->flags & BLOCK_STATUS_ALLOCATED ? st->depth + 1 : 0;
    return (st->flags & BLOCK_STATUS_DATA ? 0 : NBD_STATE_HOLE) | (st->flags & BLOCK_STATUS_ZERO ? NBD_STATE_ZERO : 0);
}

static int fill_status(struct nbd_export *e, unsigned context, const struct request *r, struct extents *x)
{
    for (uint64_t at = r->offset, end = r->offset + r->length; at < end;) {
        struct block_status st = { 0 };
        int err = run_status(e, at, end - at, &st);
        if (err)
            return err;
        if (!add_extent(x, st.bytes, status_flags(context, &st)))
            return 0;
        at += st.bytes;
    }
    return 0;
}

static int fill_bitmap(struct nbd_export *e, const struct block_bitmap *b, const struct request *r, struct extents *x)
{
    uint64_t at = r->offset, end = r->offset + r->length, start, bytes;
    block_enter(e->graph);
    while (at < end) {
        bool dirty = block_bitmap_next_dirty(b, at, end, end - at, &start, &bytes);
        if (!dirty)
            start = end;
        if ((start > at && !add_extent(x, start - at, 0)) || (dirty && !add_extent(x, bytes, NBD_STATE_DIRTY)))
            break;
        at = dirty ? start + bytes : end;
    }
    block_leave(e->graph);
    return 0;
}

/* One chunk per context that the client has chosen. */
static bool do_status(struct worker *w, const struct request *r)
{
    struct nbd_peer *p = w->peer;
    struct nbd_export *e = p->export;
    uint32_t (*room)[2] = g_malloc(MAX_EXTENTS * sizeof(*room));
    bool ok = true;
    for (unsigned id = 1; ok && p->contexts >> id; id++) {
        if (!(p->contexts >> id & 1))
            continue;
        struct extents x = { .at = room, .max = r->flags & NBD_CMD_FLAG_REQ_ONE ? 1 : MAX_EXTENTS };
        int err = id < NBD_CONTEXT_BITMAP ? fill_status(e, id, r, &x) : fill_bitmap(e, e->bitmaps->pdata[id - NBD_CONTEXT_BITMAP], r, &x);
        if (err) {
            ok = send_error_chunk(p, r, err);
            break;
        }
        for (unsigned i = 0; i < x.n; i++) {
            x.at[i][0] = GUINT32_TO_BE(x.at[i][0]);
            x.at[i][1] = GUINT32_TO_BE(x.at[i][1]);
        }
        uint32_t wire = GUINT32_TO_BE(id);
        bool last = !(p->contexts >> id >> 1);
        ok = send_chunk(p, r, last ? NBD_REPLY_FLAG_DONE : 0, NBD_REPLY_TYPE_BLOCK_STATUS, &wire, sizeof(wire), room, x.n * sizeof(*room));
    }
    g_free(room);
    return ok;
}

/* ---- requests ---- */

static const struct {
    unsigned flags;              /* that it may have */
    bool range, writes;
} commands[NBD_NCOMMANDS] = {
    [NBD_CMD_READ] = { NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_DF, true, false },
    [NBD_CMD_WRITE] = { NBD_CMD_FLAG_FUA, true, true },
    [NBD_CMD_DISC] = { 0, false, false },
    [NBD_CMD_FLUSH] = { NBD_CMD_FLAG_FUA, false, false },
    [NBD_CMD_TRIM] = { NBD_CMD_FLAG_FUA, true, true },
    [NBD_CMD_CACHE] = { NBD_CMD_FLAG_FUA, true, false },
    [NBD_CMD_WRITE_ZEROES] = { NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO, true, true },
    [NBD_CMD_BLOCK_STATUS] = { NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE, true, false },
};

/* 0 or the error that the request is answered with. */
static int check(const struct nbd_peer *p, const struct request *r)
{
    const struct nbd_export *e = p->export;
    if (r->type >= NBD_NCOMMANDS || (r->flags & ~commands[r->type].flags) || ((r->flags & NBD_CMD_FLAG_DF) && !p->structured))
        return EINVAL;
    if (commands[r->type].writes && !e->writable)
        return EPERM;
    if ((r->flags & NBD_CMD_FLAG_FAST_ZERO) && !e->fast_zero)
        return EINVAL;
    bool beyond = r->offset > e->size || r->length > e->size - r->offset;
    if (commands[r->type].range && beyond)
        return r->type == NBD_CMD_WRITE || r->type == NBD_CMD_WRITE_ZEROES ? ENOSPC : EINVAL;
    if (r->type == NBD_CMD_READ && r->length > NBD_MAX_PAYLOAD)
        return r->flags & NBD_CMD_FLAG_DF ? EOVERFLOW : EINVAL;
    if (r->type == NBD_CMD_BLOCK_STATUS && (!p->contexts || !r->length))
        return EINVAL;
    return 0;
}

/* False: the connection is at its end. What belongs to a write is in the worker's buffer; *ret_err as of check. */
static bool read_request(struct worker *w, struct request *ret, int *ret_err)
{
    struct nbd_peer *p = w->peer;
    struct nbd_request_wire wire;
    if (!nbd_peer_read(p, &wire, sizeof(wire)) || wire.magic != GUINT32_TO_BE(NBD_REQUEST_MAGIC))
        return false;
    *ret = (struct request) { GUINT16_FROM_BE(wire.type), GUINT16_FROM_BE(wire.flags), GUINT64_FROM_BE(wire.offset), GUINT32_FROM_BE(wire.length), wire.cookie };
    if (ret->type == NBD_CMD_DISC)
        return false;
    *ret_err = check(p, ret);
    if (ret->type != NBD_CMD_WRITE)
        return true;
    if (ret->length > NBD_MAX_PAYLOAD)
        return false;
    if (!*ret_err && !have_buffer(w, ret->length))
        *ret_err = ENOMEM;
    return *ret_err ? nbd_peer_skip(p, ret->length) : nbd_peer_read(p, w->buffer, ret->length);
}

static bool carry_out(struct worker *w, const struct request *r, int err)
{
    if (err)
        return answer(w->peer, r, err);
    switch (r->type) {
    case NBD_CMD_READ:
        return do_read(w, r);
    case NBD_CMD_CACHE:
        return do_cache(w, r);
    case NBD_CMD_BLOCK_STATUS:
        return do_status(w, r);
    case NBD_CMD_FLUSH:
        return answer(w->peer, r, run_flush(w->peer->export));
    default:
        return answer(w->peer, r, r->length ? run_write(w->peer->export, r, w->buffer) : 0);
    }
}

/* ---- threads of a connection ---- */

/* A request is there already. */
static bool more_pending(struct nbd_peer *p)
{
    if (p->in_end > p->in_at)
        return true;
    uint8_t byte;
    return recv(p->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/* The caller becomes the one that reads. False: the end. */
static bool begin_reading(struct nbd_peer *p)
{
    g_mutex_lock(&p->lock);
    p->waiting++;
    while (p->reading && !p->ending)
        g_cond_wait(&p->idle, &p->lock);
    p->waiting--;
    bool on = !p->ending;
    if (on)
        p->reading = true;
    g_mutex_unlock(&p->lock);
    return on;
}

/* Somebody else reads on, if there may be more than one at work. */
static void hand_over(struct nbd_peer *p)
{
    g_mutex_lock(&p->lock);
    p->reading = false;
    bool more = !p->waiting && p->threads < NBD_MAX_THREADS;
    p->threads += more;
    if (p->waiting)
        g_cond_signal(&p->idle);
    g_mutex_unlock(&p->lock);
    if (more)
        nbd_peer_more_threads(p);
}

static void end_all(struct nbd_peer *p)
{
    g_mutex_lock(&p->lock);
    p->ending = true;
    g_cond_broadcast(&p->idle);
    g_mutex_unlock(&p->lock);
    shutdown(p->fd, SHUT_RDWR); /* whoever reads or sends comes out */
}

void nbd_transmit(struct nbd_peer *p)
{
    struct worker w = { .peer = p };
    bool on = begin_reading(p);
    while (on) {
        struct request r;
        int err = 0;
        p->eager = more_pending(p) ? EAGER : p->eager ? p->eager - 1 : 0;
        on = read_request(&w, &r, &err);
        if (!on)
            break;
        bool shared = p->eager || p->in_end > p->in_at;
        if (shared)
            hand_over(p);
        on = carry_out(&w, &r, err);
        trim_buffer(&w);
        if (on && shared)
            on = begin_reading(p);
    }
    end_all(p);
    g_free(w.buffer);
}
