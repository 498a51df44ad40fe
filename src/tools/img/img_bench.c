/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vireo-img bench: how fast requests are answered */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/block.h"
#include "block/queue.h"
#include "tools/img/img.h"
#include "tools/img/img_commands.h"

struct args {
    struct img_common common;
    char *aio, *count, *depth, *pattern, *flush_interval;
    uint64_t offset, size, step;
    bool native, no_drain, write;
};
#define A(member) offsetof(struct args, member)
static const struct img_option options[] = {
    { 'c', NULL, IMG_STRING, A(count), "COUNT", "how many requests (default 75000)" },
    { 'd', NULL, IMG_STRING, A(depth), "DEPTH", "how many at the same time (default 64)" },
    IMG_FORMAT,
    { 0, "flush-interval", IMG_STRING, A(flush_interval), "COUNT", "a flush after so many writes" },
    { 'i', NULL, IMG_STRING, A(aio), "AIO", "how requests wait: threads, native, io_uring" },
    { 'n', NULL, IMG_FLAG, A(native), NULL, "the same as -i native" },
    { 0, "no-drain", IMG_FLAG, A(no_drain), NULL, "flushes do not wait for the writes before them" },
    { 'o', NULL, IMG_SIZE, A(offset), "OFFSET", "offset" },
    { 0, "pattern", IMG_STRING, A(pattern), "BYTE", "what is written (default 0)" },
    IMG_QUIET,
    { 's', NULL, IMG_SIZE, A(size), "SIZE", "buffer size" },
    { 'S', NULL, IMG_SIZE, A(step), "SIZE", "step size" },
    IMG_CACHE,
    { 'w', NULL, IMG_FLAG, A(write), NULL, "writes instead of reads" },
    IMG_SHARE, IMG_OBJECT, IMG_IMAGE_OPTS, IMG_END
};

struct bench;
struct slot {
    struct block_request r;
    struct iovec iov;
    struct bench *b;
};
struct bench {
    struct block_device *device;
    struct block_queue *queue;
    const struct args *a;
    uint64_t size, step, image_size, offset;
    unsigned count, depth, flush_interval;
    unsigned begun, inflight, until_flush;
    bool flush_due, flushing;
    int err;
    struct slot *slots, flush;
    GPtrArray *idle; /* struct slot * */
};

static void request_done(struct block_request *r, int err)
{
    struct slot *s = r->opaque;
    struct bench *b = s->b;
    b->inflight--;
    if (err && !b->err)
        b->err = err;
    if (s == &b->flush)
        b->flushing = false;
    else
        g_ptr_array_add(b->idle, s);
}

static void begin(struct bench *b, struct slot *s)
{
    s->r = (struct block_request){ .op = b->a->write ? BLOCK_WRITE : BLOCK_READ, .offset = b->offset, .length = b->size, .iov = &s->iov, .niov = 1,
                                   .done = request_done, .opaque = s };
    b->inflight++;
    b->begun++;
    b->offset += b->step;
    /* It goes round: the last request before the end is a whole one. */
    if (b->image_size <= b->size)
        b->offset = 0;
    else
        b->offset %= b->image_size - b->size;
    if (b->flush_interval && ++b->until_flush == b->flush_interval) {
        b->until_flush = 0;
        b->flush_due = true;
    }
    block_queue_add(b->queue, b->device, &s->r);
}

static void begin_flush(struct bench *b)
{
    struct slot *s = &b->flush;
    s->r = (struct block_request){ .op = BLOCK_FLUSH, .done = request_done, .opaque = s };
    b->flush_due = false;
    b->flushing = true;
    b->inflight++;
    block_queue_add(b->queue, b->device, &s->r);
}

/* Whether requests may begin now: with draining, a flush stands alone. */
static bool may_begin(struct bench *b)
{
    if (b->flush_due && !b->flushing && (b->a->no_drain || !b->inflight))
        begin_flush(b);
    return b->a->no_drain ? !b->flush_due : !b->flush_due && !b->flushing;
}

static void loop(struct img *img, struct bench *b)
{
    while (!b->err && !img_canceled(img)) {
        while (b->begun < b->count && b->idle->len && may_begin(b))
            begin(b, g_ptr_array_steal_index_fast(b->idle, b->idle->len - 1));
        if (b->begun == b->count && b->flush_due)
            (void)may_begin(b);
        if (!b->inflight)
            break;
        block_queue_reap(b->queue, true);
    }
    while (b->inflight)
        block_queue_reap(b->queue, true);
}

static bool measure(struct img *img, struct bench *b, struct block_node *n, bool write_through, int pattern, GError **error)
{
    size_t unit = (b->size + 4095) & ~(size_t)4095;
    uint8_t *memory = img_buffer(MAX(unit * b->depth, 4096));
    if (!memory)
        return vireo_fail_errno(error, ENOMEM, "no buffers");
    memset(memory, pattern, unit * b->depth);
    const struct block_device_options o = { .write_through = write_through };
    const struct iovec all = { memory, unit * b->depth };
    b->device = block_device_create(img->graph, n, &o);
    b->queue = block_queue_create(img->graph, b->depth);
    (void)block_queue_register(b->queue, &all, 1);
    block_queue_set_may_wait(b->queue, true);
    b->slots = g_new0(struct slot, b->depth);
    b->idle = g_ptr_array_sized_new(b->depth);
    b->flush.b = b;
    for (unsigned i = 0; i < b->depth; i++) {
        b->slots[i].b = b;
        b->slots[i].iov = (struct iovec){ memory + i * unit, b->size };
        g_ptr_array_add(b->idle, &b->slots[i]);
    }
    gint64 began = g_get_monotonic_time();
    loop(img, b);
    gint64 took = g_get_monotonic_time() - began;
    block_queue_destroy(b->queue);
    block_device_destroy(b->device);
    g_ptr_array_unref(b->idle);
    g_free(b->slots);
    free(memory);
    if (img_canceled(img))
        return img_interrupted(img, error);
    if (b->err)
        return vireo_fail_errno(error, b->err, "Failed request");
    printf("Run completed in %3.3f seconds.\n", (double)took / 1e6);
    return true;
}

static bool number(const char *what, const char *text, uint64_t max, unsigned *ret, GError **error)
{
    uint64_t v;
    if (!text)
        return true;
    if (!keyval_uint(what, text, 0, 0, &v, NULL) || v > max)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid %s specified", what);
    *ret = (unsigned)v;
    return true;
}

static bool aio_flags(const struct args *a, unsigned *flags, GError **error)
{
    const char *aio = a->native ? "native" : a->aio ? a->aio : "threads";
    if (!strcmp(aio, "native"))
        *flags |= BLOCK_AIO_NATIVE;
    else if (!strcmp(aio, "io_uring"))
        *flags |= BLOCK_AIO_IO_URING;
    else if (strcmp(aio, "threads"))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid aio option: %s; there are: threads, native, io_uring", aio);
    return true;
}

static bool bench(struct img *img, const struct args *a, const char *filename, GError **error)
{
    struct bench b = { .a = a, .size = a->size, .step = a->step ? a->step : a->size, .count = 75000, .depth = 64, .offset = a->offset };
    unsigned flags = a->write ? BLOCK_RDWR : 0, pattern = 0;
    bool write_through;
    if (!number("request count", a->count, INT_MAX, &b.count, error) || !number("queue depth", a->depth, 65536, &b.depth, error) ||
        !number("pattern byte", a->pattern, 255, &pattern, error) || !number("flush interval", a->flush_interval, INT_MAX, &b.flush_interval, error) ||
        !aio_flags(a, &flags, error) || !img_cache("cache", a->common.cache, &flags, &write_through, error))
        return false;
    if (!b.depth)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid queue depth specified");
    if (b.size > INT_MAX)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid buffer size specified");
    if (!a->write && b.flush_interval)
        return vireo_fail(error, VIREO_ERROR_INVALID, "--flush-interval is only available in write tests");
    if (b.flush_interval && b.flush_interval < b.depth)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Flush interval can't be smaller than depth");
    img_watch_start(img, false);
    block_node_auto *n = img_open(img, &a->common, filename, flags, error);
    if (!n)
        return false;
    b.image_size = block_node_size(n);
    printf("Sending %u %s requests, %" G_GUINT64_FORMAT " bytes each, %u in parallel (starting at offset %" G_GUINT64_FORMAT ", step size %" G_GUINT64_FORMAT ")\n",
           b.count, a->write ? "write" : "read", b.size, b.depth, b.offset, b.step);
    if (b.flush_interval)
        printf("Sending flush every %u requests\n", b.flush_interval);
    fflush(stdout);
    return measure(img, &b, n, write_through, (int)pattern, error);
}

static int run(struct img *img, void *args, char **operands, unsigned n, GError **error)
{
    return bench(img, args, operands[0], error) ? 0 : -1;
}

static void defaults(void *args)
{
    ((struct args *)args)->size = 4096;
}

const struct img_command img_bench = {
    .name = "bench", .operands = "FILE", .summary = "measures how fast an image answers requests", .options = options, .args_size = sizeof(struct args),
    .min = 1, .max = 1, .expect = "Expecting one image file name", .defaults = defaults, .run = run,
};
