/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Threads claim pieces from the beginning to the end, read them at the same time, and write them in order (or not). Where the
 * sources say that there is nothing but zeroes, nothing is read.
 */
#include "tools/img/img_copy.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sandbox.h"
#include "block/driver.h"

enum { CHUNK = 512 << 10, OFFLOAD_CHUNK = 64 << 20, ZERO_CHUNK = 256 << 20, SECTOR = 512, SPIN_US = 200 };
enum kind { KIND_DATA, KIND_ZERO, KIND_SKIP };

struct piece {
    uint64_t offset, bytes, turn;
    enum kind kind;
};

struct run { /* all threads of one copy */
    const struct img_copy *c;
    GMutex lock;              /* covers what follows */
    GCond changed;
    uint64_t next;            /* not claimed yet */
    struct piece known;       /* what the sources say about what lies at `next`; bytes 0: not asked yet */
    uint64_t turns, turn;     /* given out; whose it is to write (also read without the lock) */
    unsigned waiting;         /* threads asleep until the turn changes */
    uint64_t done, written;
    int err;
    char *what;               /* was being done when err came */
    bool clone, copy_range;   /* atomic: not refused yet */
    gint64 began;
};

static void fail(struct run *r, int err, const char *what, uint64_t offset)
{
    g_mutex_lock(&r->lock);
    if (!r->err) {
        r->err = err;
        r->what = g_strdup_printf("error while %s at byte %" G_GUINT64_FORMAT, what, offset);
    }
    g_cond_broadcast(&r->changed);
    g_mutex_unlock(&r->lock);
}

static bool stopped(struct run *r)
{
    return __atomic_load_n(&r->err, __ATOMIC_RELAXED) || img_canceled(r->c->img);
}

static bool offloads(struct run *r)
{
    return __atomic_load_n(&r->clone, __ATOMIC_RELAXED) || __atomic_load_n(&r->copy_range, __ATOMIC_RELAXED);
}

/* ---- what to copy ---- */

/* The source at a place, and how much of it is left there. */
static struct block_node *source_at(const struct img_copy *c, uint64_t offset, uint64_t *ret_offset, uint64_t *ret_left)
{
    for (unsigned i = 0; i < c->nsources; i++) {
        uint64_t size = block_node_size(c->source[i]);
        if (offset < size) {
            *ret_offset = offset;
            *ret_left = size - offset;
            return c->source[i];
        }
        offset -= size;
    }
    g_assert_not_reached(); /* total is the sum of the sizes at most */
}

static int look(const struct img_copy *c, uint64_t offset, struct piece *ret)
{
    uint64_t at, left;
    struct block_status s;
    struct block_node *n = source_at(c, offset, &at, &left);
    int err = block_status_chain(n, c->base, at, MIN(left, c->total - offset), &s);
    if (err && c->salvage) /* reading will tell */
        s = (struct block_status){ .flags = BLOCK_STATUS_DATA | BLOCK_STATUS_ALLOCATED, .bytes = MIN(MIN(left, c->total - offset), (uint64_t)CHUNK) };
    else if (err)
        return err;
    *ret = (struct piece){ .offset = offset, .bytes = s.bytes, .kind = s.flags & BLOCK_STATUS_ZERO ? KIND_ZERO : KIND_DATA };
    if (c->above && !(s.flags & BLOCK_STATUS_ALLOCATED)) {
        ret->kind = offset < c->backing_size ? KIND_SKIP : KIND_ZERO;
        if (offset < c->backing_size)
            ret->bytes = MIN(ret->bytes, c->backing_size - offset);
    }
    return 0;
}

/* Whether a piece of nothing but zeroes (or of what is not copied) is one that the target can have without data: whole units. */
static uint64_t whole_units(const struct img_copy *c, const struct piece *p)
{
    uint64_t unit = MAX(c->unit, c->compressed ? 1 : c->sparse), end = p->offset + p->bytes, from = (p->offset + unit - 1) / unit * unit;
    uint64_t to = end >= c->total ? end : end / unit * unit;
    return from == p->offset && to > from ? to - from : 0;
}

static int known_locked(struct run *r)
{
    const struct img_copy *c = r->c;
    if (r->known.bytes)
        return 0;
    int err = look(c, r->next, &r->known);
    if (err || r->known.kind == KIND_DATA)
        return err;
    /* Neighbours of one kind are one piece: a chain of images answers cluster by cluster. */
    while (r->known.offset + r->known.bytes < c->total && r->known.bytes < ZERO_CHUNK) {
        struct piece more;
        err = look(c, r->known.offset + r->known.bytes, &more);
        if (err || more.kind != r->known.kind)
            return err;
        r->known.bytes += more.bytes;
    }
    return 0;
}

/* Moves `next` on; what is known of the rest stays known. */
static void consume_locked(struct run *r, uint64_t bytes)
{
    r->next += bytes;
    r->known.offset += bytes;
    r->known.bytes -= MIN(bytes, r->known.bytes);
}

/* Data, and what is too small between data, up to a chunk. */
static int claim_data_locked(struct run *r, struct piece *ret)
{
    const struct img_copy *c = r->c;
    uint64_t start = r->next, most = c->compressed ? c->unit : offloads(r) ? OFFLOAD_CHUNK : MAX((uint64_t)CHUNK, c->unit);
    uint64_t limit = MIN(c->total, (start + most) / most * most); /* so that pieces begin where buffers and clusters do */
    *ret = (struct piece){ .offset = start, .kind = KIND_DATA };
    while (r->next < limit) {
        int err = known_locked(r);
        if (err)
            return err;
        if (r->known.kind != KIND_DATA && whole_units(c, &r->known))
            break;
        consume_locked(r, MIN(r->known.bytes, limit - r->next));
    }
    ret->bytes = r->next - start;
    return 0;
}

/* False: nothing is left. */
static bool claim(struct run *r, struct piece *ret)
{
    const struct img_copy *c = r->c;
    int err = 0;
    g_mutex_lock(&r->lock);
    bool more = r->next < c->total && !r->err;
    if (more && !(err = known_locked(r))) {
        uint64_t whole = r->known.kind == KIND_DATA ? 0 : whole_units(c, &r->known);
        if (whole) {
            *ret = r->known;
            ret->bytes = whole;
            consume_locked(r, whole);
        } else {
            err = claim_data_locked(r, ret);
        }
    }
    ret->turn = r->turns++;
    uint64_t at = r->next;
    g_mutex_unlock(&r->lock);
    if (err)
        fail(r, err, "looking at what is allocated", at);
    return more && !err;
}

/* ---- reading and writing ---- */

static int read_hard(const struct img_copy *c, struct block_node *n, uint64_t at, uint64_t bytes, uint8_t *buffer)
{
    int err = block_pread(n, at, bytes, buffer);
    if (!err || !c->salvage)
        return err;
    for (uint64_t done = 0; done < bytes; done += SECTOR) {
        uint64_t part = MIN(bytes - done, SECTOR);
        err = block_pread(n, at + done, part, buffer + done);
        if (err) {
            log_warn("error while reading offset %" G_GUINT64_FORMAT ": %s", at + done, g_strerror(err));
            memset(buffer + done, 0, part);
        }
    }
    return 0;
}

static int read_sources(const struct img_copy *c, uint64_t offset, uint64_t bytes, uint8_t *buffer)
{
    for (uint64_t done = 0; done < bytes;) {
        uint64_t at, left;
        struct block_node *n = source_at(c, offset + done, &at, &left);
        uint64_t part = MIN(left, bytes - done);
        int err = read_hard(c, n, at, part, buffer + done);
        if (err)
            return err;
        done += part;
    }
    return 0;
}

static int write_zeroes(const struct img_copy *c, uint64_t offset, uint64_t bytes)
{
    bool there = c->target_zero && (!c->above || offset >= c->backing_size); /* else what is below would show */
    return there ? 0 : block_write_zeroes(c->target, offset, bytes, (c->write_flags & BLOCK_FUA) | BLOCK_MAY_UNMAP);
}

/* Runs of zeroes become no data. */
static int write_data(const struct img_copy *c, uint64_t offset, uint64_t bytes, const uint8_t *buffer)
{
    if (!c->sparse)
        return block_pwrite(c->target, offset, bytes, buffer, c->write_flags);
    if (c->compressed)
        return buffer_is_zero(buffer, bytes) ? write_zeroes(c, offset, bytes) : block_pwrite(c->target, offset, bytes, buffer, c->write_flags | BLOCK_COMPRESSED);
    uint64_t unit = MAX(c->unit, c->sparse);
    for (uint64_t done = 0, run; done < bytes; done += run) {
        bool zero;
        uint64_t head = (unit - (offset + done) % unit) % unit;
        run = head && head < bytes - done ? head : img_zero_run(buffer + done, bytes - done, unit, &zero);
        if (head && head < bytes - done)
            zero = buffer_is_zero(buffer + done, run);
        int err = zero ? write_zeroes(c, offset + done, run) : block_pwrite(c->target, offset + done, run, buffer + done, c->write_flags);
        if (err)
            return err;
    }
    return 0;
}

/* ---- by the host's file system ---- */

/* Descriptors and offsets of a piece that lies in one file on both sides. */
static bool files_of(const struct img_copy *c, const struct piece *p, int ret_fd[2], uint64_t ret_at[2], uint64_t *ret_bytes)
{
    struct block_status s[2];
    uint64_t at, left;
    struct block_node *n = source_at(c, p->offset, &at, &left);
    uint64_t bytes = MIN(left, p->bytes);
    if (block_status_chain(n, NULL, at, bytes, &s[0]) || block_status(c->target, p->offset, MIN(bytes, s[0].bytes), &s[1]))
        return false;
    for (int i = 0; i < 2; i++) {
        ret_fd[i] = s[i].flags & BLOCK_STATUS_MAPPED && s[i].file ? block_node_fd(s[i].file) : -1;
        ret_at[i] = s[i].map;
        if (ret_fd[i] < 0)
            return false;
    }
    *ret_bytes = s[1].bytes = MIN(s[0].bytes, bytes);
    return true;
}

/* How much of the piece has been copied; *flag becomes false when this file system cannot. */
static uint64_t offload(struct run *r, const struct piece *p)
{
    int fd[2];
    uint64_t at[2], bytes;
    if (!files_of(r->c, p, fd, at, &bytes)) { /* a format, or no file: small pieces again */
        __atomic_store_n(&r->clone, false, __ATOMIC_RELAXED);
        __atomic_store_n(&r->copy_range, false, __ATOMIC_RELAXED);
        return 0;
    }
    if (__atomic_load_n(&r->clone, __ATOMIC_RELAXED)) {
        struct file_clone_range range = { .src_fd = fd[0], .src_offset = at[0], .src_length = bytes, .dest_offset = at[1] };
        if (ioctl(fd[1], FICLONERANGE, &range) == 0)
            return bytes;
        __atomic_store_n(&r->clone, false, __ATOMIC_RELAXED);
    }
    if (!__atomic_load_n(&r->copy_range, __ATOMIC_RELAXED))
        return 0;
    uint64_t done = 0;
    while (done < bytes) {
        off_t from = (off_t)(at[0] + done), to = (off_t)(at[1] + done);
        ssize_t got = copy_file_range(fd[0], &from, fd[1], &to, bytes - done, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            __atomic_store_n(&r->copy_range, false, __ATOMIC_RELAXED);
            break;
        }
        done += (uint64_t)got;
    }
    return done;
}

/* ---- threads ---- */

/*
 * A turn is over in some ten microseconds where data lies in memory, and a thread takes longer than that to fall asleep and wake up,
 * with nobody writing meanwhile: so look for a while first. A disk's turn is longer, and looking for it costs little beside it.
 */
static bool wait_turn(struct run *r, const struct piece *p)
{
    if (!r->c->ordered)
        return !stopped(r);
    for (gint64 end = g_get_monotonic_time() + SPIN_US; g_get_monotonic_time() < end;)
        if (__atomic_load_n(&r->turn, __ATOMIC_ACQUIRE) == p->turn)
            return !stopped(r);
    g_mutex_lock(&r->lock);
    r->waiting++;
    while (r->turn != p->turn && !r->err)
        g_cond_wait(&r->changed, &r->lock);
    r->waiting--;
    g_mutex_unlock(&r->lock);
    return !stopped(r);
}

static void finish(struct run *r, const struct piece *p)
{
    const struct img_copy *c = r->c;
    gint64 late = 0;
    g_mutex_lock(&r->lock);
    __atomic_store_n(&r->turn, r->turn + 1, __ATOMIC_RELEASE);
    r->done += p->bytes;
    if (p->kind == KIND_DATA)
        r->written += p->bytes;
    if (c->rate)
        late = r->began + (gint64)((double)r->written * 1e6 / (double)c->rate) - g_get_monotonic_time();
    double part = (double)r->done / (double)c->total * c->progress_end;
    if (r->waiting)
        g_cond_broadcast(&r->changed);
    g_mutex_unlock(&r->lock);
    img_progress(c->img, part);
    for (; late > 0 && !stopped(r); late -= 100000)
        g_usleep((gulong)MIN(late, 100000));
}

static void copy_piece(struct run *r, struct piece p, uint8_t *buffer)
{
    const struct img_copy *c = r->c;
    uint64_t most = c->compressed ? c->unit : MAX((uint64_t)CHUNK, c->unit), done = 0;
    int err = 0;
    bool mine = false;
    if (p.kind == KIND_DATA && offloads(r))
        done = offload(r, &p);
    while (done < p.bytes && !err) {
        uint64_t part = p.kind == KIND_DATA || !c->sparse ? MIN(p.bytes - done, most) : p.bytes - done;
        if (p.kind == KIND_SKIP)
            break;
        bool data = p.kind == KIND_DATA || !c->sparse;
        if (data && (err = read_sources(c, p.offset + done, part, buffer))) {
            fail(r, err, "reading", p.offset + done);
            return;
        }
        if (!mine && !(mine = wait_turn(r, &p)))
            return;
        err = data ? write_data(c, p.offset + done, part, buffer) : write_zeroes(c, p.offset + done, part);
        if (err) {
            fail(r, err, "writing", p.offset + done);
            return;
        }
        done += part;
        if (stopped(r))
            return;
    }
    if (mine || wait_turn(r, &p))
        finish(r, &p);
}

static void *copy_thread(void *opaque)
{
    struct run *r = opaque;
    struct piece p;
    uint8_t *buffer = img_buffer(MAX((uint64_t)CHUNK, r->c->unit));
    if (!buffer)
        fail(r, ENOMEM, "reading", 0);
    while (buffer && !stopped(r) && claim(r, &p))
        copy_piece(r, p, buffer);
    /* Others may wait for a turn that was given to this one. */
    if (stopped(r)) {
        g_mutex_lock(&r->lock);
        if (!r->err)
            r->err = ECANCELED;
        g_cond_broadcast(&r->changed);
        g_mutex_unlock(&r->lock);
    }
    free(buffer);
    return NULL;
}

unsigned img_copy_threads(unsigned asked, uint64_t total)
{
    unsigned n = asked ? asked : CLAMP(g_get_num_processors(), 2, 8);
    return (unsigned)MIN(n, 1 + total / CHUNK);
}

bool img_copy(struct img_copy *c, GError **error)
{
    struct run r = { .c = c, .clone = c->clone, .copy_range = c->copy_range, .began = g_get_monotonic_time() };
    GThread *threads[64];
    unsigned n = MIN(MAX(c->threads, 1), G_N_ELEMENTS(threads));
    g_mutex_init(&r.lock);
    g_cond_init(&r.changed);
    for (unsigned i = 1; i < n; i++)
        threads[i] = sandbox_thread_new(SANDBOX_BLOCK, "copy", copy_thread, &r);
    copy_thread(&r);
    for (unsigned i = 1; i < n; i++)
        g_thread_join(threads[i]);
    g_mutex_clear(&r.lock);
    g_cond_clear(&r.changed);
    bool ok = !r.err && !img_canceled(c->img);
    if (img_canceled(c->img))
        img_interrupted(c->img, error);
    else if (r.err)
        vireo_fail_errno(error, r.err, "%s", r.what ? r.what : "copying failed");
    g_free(r.what);
    return ok;
}
