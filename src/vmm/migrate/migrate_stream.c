/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/migrate/migrate_stream.h"

#include <string.h>
#include <zlib.h>

#include "base/error.h"

static const char magic[8] = { 'V', 'I', 'R', 'E', 'O', 'M', 'I', 'G' };
enum { HEAD = 16, RECORD_HEAD = 12, RUN_HEAD = 16, NAME_MAX_ = 255 };

static void put32(uint8_t *to, uint32_t v)
{
    v = GUINT32_TO_LE(v);
    memcpy(to, &v, sizeof(v));
}

static void put64(uint8_t *to, uint64_t v)
{
    v = GUINT64_TO_LE(v);
    memcpy(to, &v, sizeof(v));
}

static uint32_t get32(const uint8_t *from)
{
    uint32_t v;
    memcpy(&v, from, sizeof(v));
    return GUINT32_FROM_LE(v);
}

static uint64_t get64(const uint8_t *from)
{
    uint64_t v;
    memcpy(&v, from, sizeof(v));
    return GUINT64_FROM_LE(v);
}

/* ---- writing ---- */

bool stream_write_head(const struct migrate_sink *k, GError **error)
{
    uint8_t head[HEAD] = { 0 };
    memcpy(head, magic, sizeof(magic));
    put32(head + 8, STREAM_VERSION);
    return k->write(k->opaque, head, sizeof(head), error);
}

bool stream_write(const struct migrate_sink *k, enum stream_record type, const void *a, size_t na, const void *b, size_t nb, GError **error)
{
    uint8_t head[RECORD_HEAD];
    if (na + nb > STREAM_RECORD_MAX)
        return vireo_fail(error, VIREO_ERROR_FAILED, "%zu bytes do not fit into one record of a saved machine", na + nb);
    put32(head, type);
    put32(head + 4, (uint32_t)(na + nb));
    uLong crc = crc32(crc32(crc32(0, head, 8), a, (uInt)na), b ? b : (const void *)"", (uInt)nb);
    put32(head + 8, (uint32_t)crc);
    return k->write(k->opaque, head, sizeof(head), error) && k->write(k->opaque, a, na, error) && (!nb || k->write(k->opaque, b, nb, error));
}

bool stream_write_text(const struct migrate_sink *k, const char *description, GError **error)
{
    return stream_write(k, STREAM_DESCRIPTION, description, strlen(description), NULL, 0, error);
}

bool stream_write_pages(const struct migrate_sink *k, uint32_t piece, uint64_t first, uint32_t count, const void *data, GError **error)
{
    uint8_t head[RUN_HEAD];
    put32(head, piece);
    put32(head + 4, count);
    put64(head + 8, first);
    return stream_write(k, STREAM_RAM, head, sizeof(head), data, (size_t)count * STREAM_PAGE, error);
}

bool stream_write_zeroes(const struct migrate_sink *k, uint32_t piece, uint64_t first, uint64_t count, GError **error)
{
    uint8_t head[RUN_HEAD + 8] = { 0 };
    put32(head, piece);
    put64(head + 8, first);
    put64(head + 16, count);
    return stream_write(k, STREAM_ZERO, head, sizeof(head), NULL, 0, error);
}

bool stream_write_state(const struct migrate_sink *k, const char *name, GBytes *values, GError **error)
{
    uint8_t head[1 + NAME_MAX_];
    size_t length = MIN(strlen(name), NAME_MAX_);
    gsize n;
    const void *data = g_bytes_get_data(values, &n);
    head[0] = (uint8_t)length;
    memcpy(head + 1, name, length);
    return stream_write(k, STREAM_STATE, head, 1 + length, data, n, error);
}

bool stream_write_end(const struct migrate_sink *k, uint32_t states, GError **error)
{
    uint8_t count[4];
    put32(count, states);
    return stream_write(k, STREAM_END, count, sizeof(count), NULL, 0, error);
}

/* ---- reading ---- */

struct reader {
    const struct migrate_source *source;
    const struct stream_taker *taker;
    uint8_t head[RECORD_HEAD];
    uint32_t type, length, states;
    uint64_t bytes; /* of all states */
    bool described;
};

static bool damaged(GError **error, const char *what)
{
    return vireo_fail(error, VIREO_ERROR_INVALID, "the saved machine is damaged: %s", what);
}

static bool read_head(struct reader *r, GError **error)
{
    uint8_t head[HEAD];
    if (!r->source->read(r->source->opaque, head, sizeof(head), error))
        return false;
    if (memcmp(head, magic, sizeof(magic)))
        return vireo_fail(error, VIREO_ERROR_INVALID, "this is not a saved machine of Vireo (its first bytes are others)");
    if (get32(head + 8) != STREAM_VERSION)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "the machine was saved in version %u of the format; this program knows version %u", get32(head + 8), STREAM_VERSION);
    return get32(head + 12) == 0 || damaged(error, "its header");
}

static bool check_sum(const struct reader *r, const void *a, size_t na, const void *b, size_t nb, GError **error)
{
    uLong crc = crc32(crc32(crc32(0, r->head, 8), a, (uInt)na), b ? b : (const void *)"", (uInt)nb);
    return (uint32_t)crc == get32(r->head + 8) || damaged(error, "the checksum of a record is wrong");
}

/* The whole content, with a zero byte behind it; NULL with error. */
static uint8_t *read_content(struct reader *r, uint32_t min, uint32_t max, GError **error)
{
    if (r->length < min || r->length > max) {
        vireo_fail(error, VIREO_ERROR_INVALID, "the saved machine is damaged: a record of kind %u has %u bytes", r->type, r->length);
        return NULL;
    }
    g_autofree uint8_t *data = g_try_malloc((size_t)r->length + 1);
    if (!data) {
        vireo_fail(error, VIREO_ERROR_NO_MEMORY, "there is no memory for a record of %u bytes", r->length);
        return NULL;
    }
    if (!r->source->read(r->source->opaque, data, r->length, error) || !check_sum(r, data, r->length, NULL, 0, error))
        return NULL;
    data[r->length] = 0;
    return g_steal_pointer(&data);
}

static bool read_description(struct reader *r, GError **error)
{
    g_autofree uint8_t *text = read_content(r, 1, STREAM_DESCRIPTION_MAX, error);
    if (!text)
        return false;
    if (r->described || !g_utf8_validate((const char *)text, r->length, NULL))
        return damaged(error, "its description");
    r->described = true;
    return r->taker->description(r->taker->opaque, (const char *)text, error);
}

/* Straight to where the pages belong: what a wrong checksum leaves there is never run. */
static bool read_pages(struct reader *r, GError **error)
{
    uint8_t head[RUN_HEAD];
    if (r->length < RUN_HEAD)
        return damaged(error, "a record of RAM is too short");
    if (!r->source->read(r->source->opaque, head, sizeof(head), error))
        return false;
    uint32_t piece = get32(head), count = get32(head + 4);
    uint64_t first = get64(head + 8);
    if (!count || count > STREAM_PAGES_MAX || r->length != RUN_HEAD + count * STREAM_PAGE)
        return damaged(error, "a record of RAM has another length than its pages");
    void *host = r->taker->pages(r->taker->opaque, piece, first, count, error);
    if (!host || !r->source->read(r->source->opaque, host, (size_t)count * STREAM_PAGE, error) ||
        !check_sum(r, head, sizeof(head), host, (size_t)count * STREAM_PAGE, error))
        return false;
    r->taker->pages_there(r->taker->opaque, piece, first, count);
    return true;
}

static bool read_zeroes(struct reader *r, GError **error)
{
    g_autofree uint8_t *run = read_content(r, RUN_HEAD + 8, RUN_HEAD + 8, error);
    return run && r->taker->zeroes(r->taker->opaque, get32(run), get64(run + 8), get64(run + 16), error);
}

static bool read_state(struct reader *r, GError **error)
{
    r->bytes += r->length;
    if (++r->states > STREAM_STATES_MAX || r->bytes > STREAM_STATES_BYTES)
        return damaged(error, "it has more state than a machine can have");
    uint8_t *data = read_content(r, 2, STREAM_RECORD_MAX, error);
    if (!data)
        return false;
    size_t length = data[0];
    g_autoptr(GBytes) all = g_bytes_new_take(data, r->length);
    if (!length || 1 + length > r->length || memchr(data + 1, 0, length) || !g_utf8_validate((const char *)data + 1, (gssize)length, NULL))
        return damaged(error, "the name of a state");
    g_autofree char *name = g_strndup((const char *)data + 1, length);
    g_autoptr(GBytes) values = g_bytes_new_from_bytes(all, 1 + length, r->length - 1 - length);
    return r->taker->state(r->taker->opaque, name, values, error);
}

static bool read_end(struct reader *r, GError **error)
{
    g_autofree uint8_t *count = read_content(r, 4, 4, error);
    return count && (get32(count) == r->states || damaged(error, "some of its states are missing"));
}

bool stream_read(const struct migrate_source *s, const struct stream_taker *t, GError **error)
{
    static bool (*const kinds[])(struct reader *r, GError **error) = {
        [STREAM_DESCRIPTION] = read_description, [STREAM_RAM] = read_pages, [STREAM_ZERO] = read_zeroes, [STREAM_STATE] = read_state, [STREAM_END] = read_end,
    };
    struct reader r = { .source = s, .taker = t };
    if (!read_head(&r, error))
        return false;
    do {
        if (!s->read(s->opaque, r.head, sizeof(r.head), error))
            return false;
        r.type = get32(r.head);
        r.length = get32(r.head + 4);
        if (r.type < STREAM_DESCRIPTION || r.type > STREAM_END || (r.type == STREAM_DESCRIPTION) == r.described)
            return damaged(error, "a record is not of a kind that can be there");
        if (!kinds[r.type](&r, error))
            return false;
    } while (r.type != STREAM_END);
    return true;
}
