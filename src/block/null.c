/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Drivers "null-co" and "null-aio": a disk that keeps nothing, to measure what is above it. What is read are zeroes, also without
 * read-zeroes=on: memory that nobody has written is not shown to anybody. The two are the same here.
 */
#include <string.h>

#include "base/error.h"
#include "block/drivers.h"

struct null_state {
    uint64_t latency_ns;
    bool read_zeroes;
    char *size_text;
};
static const struct keyval_key keys[] = {
    { "size", KV_STRING, offsetof(struct null_state, size_text), "bytes; 1G" },
    { "latency-ns", KV_UINT, offsetof(struct null_state, latency_ns), "that each request takes at least", NULL, 0, G_USEC_PER_SEC * UINT64_C(60000) },
    { "read-zeroes", KV_BOOL, offsetof(struct null_state, read_zeroes), "block status says that all is zeroes" },
    { NULL }
};

static void wait_a_bit(const struct null_state *s)
{
    if (s->latency_ns)
        g_usleep((gulong)((s->latency_ns + 999) / 1000)); /* clock_nanosleep: any thread may */
}

static bool parse_filename(const char *filename, struct keyval *options, GError **error)
{
    const char *rest = strstr(filename, "://") + 3;
    return !*rest || vireo_fail(error, VIREO_ERROR_INVALID, "'%s': nothing may follow the driver's name", filename);
}

static bool null_open(struct block_node *n, unsigned flags, GError **error)
{
    struct null_state *s = n->state;
    n->size = UINT64_C(1) << 30;
    if (s->size_text && (!keyval_size("size", s->size_text, 1, &n->size, error)))
        return false;
    return n->size <= INT64_MAX || vireo_fail(error, VIREO_ERROR_INVALID, "null: a size of %s is too large", s->size_text);
}

static void null_close(struct block_node *n)
{
    g_clear_pointer(&((struct null_state *)n->state)->size_text, g_free);
}

static bool null_reopen(struct block_node *n, unsigned flags, GError **error)
{
    return true;
}

static int null_preadv(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct iov_cursor c = { iov, niov, 0 };
    wait_a_bit(n->state);
    iov_cursor_zero(&c, bytes);
    return 0;
}

static int null_pwritev(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov, unsigned flags)
{
    wait_a_bit(n->state);
    return 0;
}

static int null_write_zeroes(struct block_node *n, uint64_t offset, uint64_t bytes, unsigned flags)
{
    wait_a_bit(n->state);
    return 0;
}

static int null_discard(struct block_node *n, uint64_t offset, uint64_t bytes)
{
    return 0;
}

static int null_flush(struct block_node *n)
{
    wait_a_bit(n->state);
    return 0;
}

static int null_status(struct block_node *n, uint64_t offset, uint64_t bytes, struct block_status *ret)
{
    const struct null_state *s = n->state;
    *ret = (struct block_status) { .flags = BLOCK_STATUS_ALLOCATED | BLOCK_STATUS_MAPPED | (s->read_zeroes ? BLOCK_STATUS_ZERO : BLOCK_STATUS_DATA),
                                   .bytes = bytes, .map = offset, .file = n };
    return 0;
}

static uint64_t null_allocated(struct block_node *n)
{
    return 0;
}

static const char *const co_prefixes[] = { "null-co://", NULL }, *const aio_prefixes[] = { "null-aio://", NULL };

#define NULL_DRIVER(text, text_prefixes) { \
    .name = text, .help = "keeps nothing, to measure what is above", .kind = BLOCK_PROTOCOL, .state_size = sizeof(struct null_state), .keys = keys, \
    .prefixes = text_prefixes, .parse_filename = parse_filename, .open = null_open, .close = null_close, .reopen = null_reopen, .preadv = null_preadv, \
    .pwritev = null_pwritev, .write_zeroes = null_write_zeroes, .discard = null_discard, .flush = null_flush, .supports_fua = true, \
    .status = null_status, .allocated = null_allocated }
const struct block_driver block_null_co = NULL_DRIVER("null-co", co_prefixes);
const struct block_driver block_null_aio = NULL_DRIVER("null-aio", aio_prefixes);
