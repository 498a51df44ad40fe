/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The stream: what is written is read, and what is damaged is refused, wherever it is damaged. */
#include "vmm/migrate/migrate_stream.h"

#include <string.h>

#include "base/error.h"

enum { PIECE_PAGES = 300 };

struct place {
    uint8_t *ram;
    GString *seen; /* what came, in order */
};

static bool to_memory(void *opaque, const void *data, size_t size, GError **error)
{
    g_byte_array_append(opaque, data, (guint)size);
    return true;
}

struct from { const uint8_t *at; size_t left; };

static bool from_memory(void *opaque, void *ret, size_t size, GError **error)
{
    struct from *f = opaque;
    if (size > f->left)
        return vireo_fail(error, VIREO_ERROR_IO, "the end");
    memcpy(ret, f->at, size);
    f->at += size;
    f->left -= size;
    return true;
}

static bool take_description(void *opaque, const char *text, GError **error)
{
    struct place *p = opaque;
    g_string_append_printf(p->seen, "description %s;", text);
    return true;
}

static bool inside(uint32_t piece, uint64_t first, uint64_t count, GError **error)
{
    return (!piece && first < PIECE_PAGES && count <= PIECE_PAGES - first) || vireo_fail(error, VIREO_ERROR_INVALID, "no such RAM");
}

static void *take_pages(void *opaque, uint32_t piece, uint64_t first, uint32_t count, GError **error)
{
    struct place *p = opaque;
    return inside(piece, first, count, error) ? p->ram + first * STREAM_PAGE : NULL;
}

static void pages_there(void *opaque, uint32_t piece, uint64_t first, uint32_t count)
{
    struct place *p = opaque;
    g_string_append_printf(p->seen, "pages %u+%u;", (unsigned)first, count);
}

static bool take_zeroes(void *opaque, uint32_t piece, uint64_t first, uint64_t count, GError **error)
{
    struct place *p = opaque;
    if (!inside(piece, first, count, error))
        return false;
    memset(p->ram + first * STREAM_PAGE, 0, count * STREAM_PAGE);
    g_string_append_printf(p->seen, "zeroes %u+%u;", (unsigned)first, (unsigned)count);
    return true;
}

static bool take_state(void *opaque, const char *name, GBytes *values, GError **error)
{
    struct place *p = opaque;
    g_string_append_printf(p->seen, "state %s %u;", name, (unsigned)g_bytes_get_size(values));
    return true;
}

static bool read_back(const uint8_t *data, size_t size, struct place *p, GError **error)
{
    struct from f = { data, size };
    const struct migrate_source s = { from_memory, &f };
    const struct stream_taker t = { take_description, take_pages, pages_there, take_zeroes, take_state, p };
    g_string_truncate(p->seen, 0);
    return stream_read(&s, &t, error);
}

static GByteArray *sample(const uint8_t *pages)
{
    GByteArray *a = g_byte_array_new();
    const struct migrate_sink k = { to_memory, a };
    g_autoptr(GBytes) values = g_bytes_new_static("0123456789", 10);
    g_assert_true(stream_write_head(&k, NULL) && stream_write_text(&k, "board q35\n", NULL) && stream_write_pages(&k, 0, 7, 3, pages, NULL) &&
                  stream_write_zeroes(&k, 0, 8, 1, NULL) && stream_write_pages(&k, 0, PIECE_PAGES - 1, 1, pages, NULL) &&
                  stream_write_state(&k, "vCPU 0", values, NULL) && stream_write_state(&k, "clocks", values, NULL) && stream_write_end(&k, 2, NULL));
    return a;
}

struct fixture { struct place p; uint8_t *pages; GByteArray *good; };

static void set_up(struct fixture *f, gconstpointer unused)
{
    f->p.ram = g_malloc0(PIECE_PAGES * STREAM_PAGE);
    f->p.seen = g_string_new(NULL);
    f->pages = g_malloc(3 * STREAM_PAGE);
    for (unsigned i = 0; i < 3 * STREAM_PAGE; i++)
        f->pages[i] = (uint8_t)(i * 7 + 1);
    f->good = sample(f->pages);
}

static void tear_down(struct fixture *f, gconstpointer unused)
{
    g_free(f->p.ram);
    g_free(f->pages);
    g_string_free(f->p.seen, TRUE);
    g_byte_array_unref(f->good);
}

static void test_round(struct fixture *f, gconstpointer unused)
{
    GError *error = NULL;
    g_assert_true(read_back(f->good->data, f->good->len, &f->p, &error));
    g_assert_no_error(error);
    g_assert_cmpstr(f->p.seen->str, ==, "description board q35\n;pages 7+3;zeroes 8+1;pages 299+1;state vCPU 0 10;state clocks 10;");
    g_assert_cmpmem(f->p.ram + 7 * STREAM_PAGE, STREAM_PAGE, f->pages, STREAM_PAGE);
    g_assert_cmpuint(f->p.ram[8 * STREAM_PAGE + 100], ==, 0);
    g_assert_cmpmem(f->p.ram + 9 * STREAM_PAGE, STREAM_PAGE, f->pages + 2 * STREAM_PAGE, STREAM_PAGE);
}

/* Cut anywhere, and with any one bit of its heads, or of some of its content, flipped. */
static void test_damaged(struct fixture *f, gconstpointer unused)
{
    for (guint n = 0; n < f->good->len; n += n < 200 ? 1 : 97)
        g_assert_false(read_back(f->good->data, n, &f->p, NULL));
    for (guint at = 0; at < f->good->len; at += at < 200 || at + 200 > f->good->len ? 1 : 53) {
        for (unsigned bit = 0; bit < 8; bit++) {
            f->good->data[at] ^= (uint8_t)(1 << bit);
            g_assert_false(read_back(f->good->data, f->good->len, &f->p, NULL));
            f->good->data[at] ^= (uint8_t)(1 << bit);
        }
    }
    g_assert_true(read_back(f->good->data, f->good->len, &f->p, NULL));
}

/* Sound records that say what cannot be. */
static void test_impossible(struct fixture *f, gconstpointer unused)
{
    static const struct { uint32_t piece; uint64_t first, count; } zeroes[] = { { 1, 0, 1 }, { 0, PIECE_PAGES, 1 }, { 0, 1, PIECE_PAGES }, { 0, 5, UINT64_MAX }, { 0, UINT64_MAX, 2 } };
    for (unsigned i = 0; i < G_N_ELEMENTS(zeroes); i++) {
        g_autoptr(GByteArray) a = g_byte_array_new();
        const struct migrate_sink k = { to_memory, a };
        g_assert_true(stream_write_head(&k, NULL) && stream_write_text(&k, "x", NULL) && stream_write_zeroes(&k, zeroes[i].piece, zeroes[i].first, zeroes[i].count, NULL) &&
                      stream_write_end(&k, 0, NULL));
        g_assert_false(read_back(a->data, a->len, &f->p, NULL));
    }
    g_autoptr(GByteArray) late = g_byte_array_new(), twice = g_byte_array_new(), missing = g_byte_array_new(), long_run = g_byte_array_new();
    const struct migrate_sink l = { to_memory, late }, t = { to_memory, twice }, m = { to_memory, missing }, g = { to_memory, long_run };
    g_assert_true(stream_write_head(&l, NULL) && stream_write_pages(&l, 0, 0, 1, f->pages, NULL) && stream_write_text(&l, "x", NULL) && stream_write_end(&l, 0, NULL));
    g_assert_false(read_back(late->data, late->len, &f->p, NULL)); /* the description comes first */
    g_assert_true(stream_write_head(&t, NULL) && stream_write_text(&t, "x", NULL) && stream_write_text(&t, "x", NULL) && stream_write_end(&t, 0, NULL));
    g_assert_false(read_back(twice->data, twice->len, &f->p, NULL));
    g_assert_true(stream_write_head(&m, NULL) && stream_write_text(&m, "x", NULL) && stream_write_end(&m, 1, NULL));
    g_assert_false(read_back(missing->data, missing->len, &f->p, NULL));
    g_autofree uint8_t *many = g_malloc0((STREAM_PAGES_MAX + 1) * STREAM_PAGE);
    g_assert_true(stream_write_head(&g, NULL) && stream_write_text(&g, "x", NULL) && stream_write_pages(&g, 0, 0, STREAM_PAGES_MAX + 1, many, NULL) && stream_write_end(&g, 0, NULL));
    g_assert_false(read_back(long_run->data, long_run->len, &f->p, NULL));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/stream/round", struct fixture, NULL, set_up, test_round, tear_down);
    g_test_add("/stream/damaged", struct fixture, NULL, set_up, test_damaged, tear_down);
    g_test_add("/stream/impossible", struct fixture, NULL, set_up, test_impossible, tear_down);
    return g_test_run();
}
