/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The codecs of compressed clusters: deflate without a header (RFC 1951) in a window of 4 KiB, as readers of the format set theirs
 * up with that window; and Zstandard frames (RFC 8878). Any number of threads at once: each takes a context out of a pool.
 *
 * Deflate is made by ISA-L where that library is there: seven times as fast as zlib for some 8 % more bytes. It is loaded when the first
 * cluster is compressed; a machine in its sandbox loads nothing any more and takes zlib. What comes out of images, which may be
 * hostile, is always read by zlib.
 */
#include "block/qcow2/qcow2.h"

#include <dlfcn.h>
#include <errno.h>
#include <isa-l/igzip_lib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "base/sandbox.h"

enum { DEFLATE_WINDOW = -12 /* log2 of bytes; negative: raw */, DEFLATE_MEMORY = 9 };

enum kind { DEFLATE, INFLATE, ZSTD_IN, ZSTD_OUT, FAST_DEFLATE, KINDS };
struct codec { /* q->codec */
    GMutex lock;
    GPtrArray *idle[KINDS]; /* contexts nobody uses */
};

/* ---- ISA-L ---- */

struct fast { /* a context of it */
    struct isal_zstream z;
    uint8_t level[ISAL_DEF_LVL3_DEFAULT];
};
struct fast_lib {
    __typeof__(&isal_deflate_init) init;
    __typeof__(&isal_deflate_reset) reset;
    __typeof__(&isal_deflate) deflate;
};

static gpointer fast_load(gpointer unused)
{
    void *h = sandbox_closed() ? NULL : dlopen("libisal.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!h)
        return NULL;
    struct fast_lib *lib = g_new0(struct fast_lib, 1);
    lib->init = (__typeof__(lib->init))dlsym(h, "isal_deflate_init");
    lib->reset = (__typeof__(lib->reset))dlsym(h, "isal_deflate_reset");
    lib->deflate = (__typeof__(lib->deflate))dlsym(h, "isal_deflate");
    return lib->init && lib->reset && lib->deflate ? lib : NULL;
}

/* NULL: it is not there. The same for the whole process. */
static const struct fast_lib *fast_lib(void)
{
    static GOnce once = G_ONCE_INIT;
    return g_once(&once, fast_load, NULL);
}

static struct fast *fast_new(void)
{
    struct fast *f = g_new0(struct fast, 1);
    fast_lib()->init(&f->z);
    f->z.level = 3;
    f->z.level_buf = f->level;
    f->z.level_buf_size = sizeof(f->level);
    f->z.hist_bits = -DEFLATE_WINDOW;
    return f;
}

static int fast_cluster(struct fast *f, const void *from, size_t bytes, void *to, size_t max, size_t *ret_bytes)
{
    fast_lib()->reset(&f->z);
    f->z.end_of_stream = 1;
    f->z.next_in = (uint8_t *)from;
    f->z.avail_in = (uint32_t)bytes;
    f->z.next_out = to;
    f->z.avail_out = (uint32_t)max;
    if (fast_lib()->deflate(&f->z) != COMP_OK)
        return EIO;
    *ret_bytes = max - f->z.avail_out;
    return f->z.internal_state.state == ZSTATE_END ? 0 : ENOSPC;
}

/* ---- contexts ---- */

static struct codec *codec_of(struct qcow2 *q)
{
    struct codec *c = __atomic_load_n((struct codec **)&q->codec, __ATOMIC_ACQUIRE), *none = NULL;
    if (c)
        return c;
    c = g_new0(struct codec, 1);
    g_mutex_init(&c->lock);
    for (int i = 0; i < KINDS; i++)
        c->idle[i] = g_ptr_array_new();
    if (__atomic_compare_exchange_n((struct codec **)&q->codec, &none, c, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return c;
    for (int i = 0; i < KINDS; i++)
        g_ptr_array_unref(c->idle[i]);
    g_mutex_clear(&c->lock);
    g_free(c);
    return none;
}

static void *context_new(enum kind kind)
{
    z_stream *z;
    switch (kind) {
    case ZSTD_IN:
        return ZSTD_createCCtx();
    case ZSTD_OUT:
        return ZSTD_createDCtx();
    case FAST_DEFLATE:
        return fast_new();
    default:
        z = g_new0(z_stream, 1);
        if (kind == DEFLATE ? deflateInit2(z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, DEFLATE_WINDOW, DEFLATE_MEMORY, Z_DEFAULT_STRATEGY) == Z_OK
                            : inflateInit2(z, DEFLATE_WINDOW) == Z_OK)
            return z;
        g_free(z);
        return NULL;
    }
}

static void context_free(enum kind kind, void *context)
{
    switch (kind) {
    case ZSTD_IN:
        ZSTD_freeCCtx(context);
        return;
    case ZSTD_OUT:
        ZSTD_freeDCtx(context);
        return;
    case DEFLATE:
        deflateEnd(context);
        break;
    case INFLATE:
        inflateEnd(context);
        break;
    default:
        break;
    }
    g_free(context);
}

static void *context_take(struct qcow2 *q, enum kind kind)
{
    struct codec *c = codec_of(q);
    void *context = NULL;
    g_mutex_lock(&c->lock);
    if (c->idle[kind]->len)
        context = g_ptr_array_remove_index_fast(c->idle[kind], c->idle[kind]->len - 1);
    g_mutex_unlock(&c->lock);
    return context ? context : context_new(kind);
}

static void context_give(struct qcow2 *q, enum kind kind, void *context)
{
    struct codec *c = codec_of(q);
    g_mutex_lock(&c->lock);
    g_ptr_array_add(c->idle[kind], context);
    g_mutex_unlock(&c->lock);
}

void qcow2_codec_free(struct qcow2 *q)
{
    struct codec *c = q->codec;
    if (!c)
        return;
    for (int kind = 0; kind < KINDS; kind++) {
        for (guint i = 0; i < c->idle[kind]->len; i++)
            context_free(kind, g_ptr_array_index(c->idle[kind], i));
        g_ptr_array_unref(c->idle[kind]);
    }
    g_mutex_clear(&c->lock);
    g_free(c);
    q->codec = NULL;
}

static int deflate_cluster(z_stream *z, const void *from, size_t bytes, void *to, size_t max, size_t *ret_bytes)
{
    deflateReset(z);
    z->next_in = (Bytef *)from;
    z->avail_in = bytes;
    z->next_out = to;
    z->avail_out = max;
    int r = deflate(z, Z_FINISH);
    if (r != Z_STREAM_END)
        return r == Z_OK || r == Z_BUF_ERROR ? ENOSPC : EIO;
    *ret_bytes = max - z->avail_out;
    return 0;
}

/* What follows the data in the last sector is not ours: a full output is the end, whether or not the stream says so. */
static int inflate_cluster(z_stream *z, const void *from, size_t from_bytes, void *to, size_t bytes)
{
    inflateReset(z);
    z->next_in = (Bytef *)from;
    z->avail_in = from_bytes;
    z->next_out = to;
    z->avail_out = bytes;
    int r = inflate(z, Z_FINISH);
    return (r == Z_STREAM_END || r == Z_BUF_ERROR) && !z->avail_out ? 0 : EIO;
}

static int zstd_cluster(ZSTD_CCtx *z, const void *from, size_t bytes, void *to, size_t max, size_t *ret_bytes)
{
    size_t r = ZSTD_compressCCtx(z, to, max, from, bytes, ZSTD_CLEVEL_DEFAULT);
    if (ZSTD_isError(r))
        return ZSTD_getErrorCode(r) == ZSTD_error_dstSize_tooSmall ? ENOSPC : EIO;
    *ret_bytes = r;
    return 0;
}

static int unzstd_cluster(ZSTD_DCtx *z, const void *from, size_t from_bytes, void *to, size_t bytes)
{
    ZSTD_inBuffer in = { from, from_bytes, 0 };
    ZSTD_outBuffer out = { to, bytes, 0 };
    ZSTD_DCtx_reset(z, ZSTD_reset_session_only);
    while (out.pos < out.size) {
        size_t was_in = in.pos, was_out = out.pos, r = ZSTD_decompressStream(z, &out, &in);
        if (ZSTD_isError(r) || (in.pos == was_in && out.pos == was_out))
            return EIO;
    }
    return 0;
}

int qcow2_compress(struct qcow2 *q, const void *from, size_t bytes, void *to, size_t max, size_t *ret_bytes)
{
    enum kind kind = q->h.compression_type == QCOW2_COMPRESSION_ZSTD ? ZSTD_IN : fast_lib() ? FAST_DEFLATE : DEFLATE;
    void *context = context_take(q, kind);
    if (!context)
        return ENOMEM;
    int err = kind == ZSTD_IN ? zstd_cluster(context, from, bytes, to, max, ret_bytes)
            : kind == FAST_DEFLATE ? fast_cluster(context, from, bytes, to, max, ret_bytes)
                                   : deflate_cluster(context, from, bytes, to, max, ret_bytes);
    context_give(q, kind, context);
    return err;
}

int qcow2_decompress(struct qcow2 *q, const void *from, size_t from_bytes, void *to, size_t bytes)
{
    enum kind kind = q->h.compression_type == QCOW2_COMPRESSION_ZSTD ? ZSTD_OUT : INFLATE;
    void *context = context_take(q, kind);
    if (!context)
        return ENOMEM;
    int err = kind == ZSTD_OUT ? unzstd_cluster(context, from, from_bytes, to, bytes) : inflate_cluster(context, from, from_bytes, to, bytes);
    context_give(q, kind, context);
    return err;
}
