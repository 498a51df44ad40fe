/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Dirty bitmaps against a plain array of flags, several threads that mark, and the changes of hands that backups make. */
#include "block/bitmap.h"

#include <string.h>

#include "block/driver.h"

static const struct block_driver stub = { .name = "stub" };

static void node_init(struct block_node *n, uint64_t size)
{
    *n = (struct block_node){ .driver = &stub, .name = (char *)"n", .size = size };
}

static void compare(struct block_bitmap *b, const uint8_t *model, uint64_t size, uint32_t g)
{
    uint64_t dirty = 0, at = 0, start, bytes, grains = (size + g - 1) / g;
    for (uint64_t i = 0; i < grains; i++) {
        g_assert_cmpint(block_bitmap_get(b, i * g), ==, model[i]);
        dirty += model[i];
    }
    g_assert_cmpuint(block_bitmap_count(b), ==, dirty * g);
    while (block_bitmap_next_dirty(b, at, UINT64_MAX, UINT64_MAX, &start, &bytes)) {
        for (uint64_t i = at / g; i < start / g; i++)
            g_assert_false(model[i]);
        for (uint64_t i = start / g; i < (start + bytes + g - 1) / g; i++)
            g_assert_true(model[i]);
        at = start + bytes;
        g_assert_cmpuint(block_bitmap_next_clean(b, start, size), ==, at);
    }
    for (uint64_t i = (at + g - 1) / g; i < grains; i++)
        g_assert_false(model[i]);
}

static void test_random(void)
{
    struct block_node n;
    const uint64_t size = 40000 * 512 + 100;
    const uint32_t g = 512;
    uint8_t *model = g_malloc0(size / g + 2);
    GRand *r = g_rand_new_with_seed(1);
    node_init(&n, size);
    struct block_bitmap *b = block_bitmap_create(&n, "b", g, NULL);
    for (int i = 0; i < 400; i++) {
        uint64_t at = (uint64_t)(g_rand_double(r) * size), len = g_rand_int_range(r, 1, i % 7 ? 5000 : 4000000);
        uint64_t end = MIN(at + len, size);
        if (i % 3 < 2) {
            block_bitmaps_mark(&n, at, len);
            memset(model + at / g, 1, (end - 1) / g + 1 - at / g);
        } else {
            uint64_t first = (at + g - 1) / g, stop = end == size ? (size + g - 1) / g : end / g;
            block_bitmap_reset(b, at, len);
            if (stop > first)
                memset(model + first, 0, stop - first);
        }
        if (i % 20 == 0)
            compare(b, model, size, g);
    }
    compare(b, model, size, g);

    /* As bytes and back, over what is there. */
    uint64_t total = block_bitmap_bytes_total(size, g);
    uint8_t *bytes = g_malloc(total);
    block_bitmap_read_bytes(b, 0, total, bytes);
    struct block_bitmap *c = block_bitmap_create(&n, "c", g, NULL);
    block_bitmap_set(c, 1000000, 3000000);
    block_bitmap_write_bytes(c, 0, 100, bytes);
    block_bitmap_write_bytes(c, 100, total - 100, bytes + 100);
    compare(c, model, size, g);

    /* Saved, cleared, restored. */
    struct block_bitmap_bits *bits = block_bitmap_save(c);
    block_bitmap_clear(c);
    g_assert_cmpuint(block_bitmap_count(c), ==, 0);
    block_bitmap_restore(c, bits);
    compare(c, model, size, g);

    /* Shrunk and grown again: what was cut off is gone. */
    n.size = 3000 * 512;
    block_bitmaps_resize(&n);
    compare(b, model, n.size, g);
    n.size = size;
    block_bitmaps_resize(&n);
    memset(model + 3000, 0, size / g + 1 - 3000);
    compare(b, model, size, g);

    /* Claiming takes every dirty grain once. */
    uint64_t at = 0, len, claimed = 0, before = block_bitmap_count(b);
    while (block_bitmap_take_dirty(b, 0, UINT64_MAX, 2048, &at, &len))
        claimed += len;
    g_assert_cmpuint(claimed, ==, before);
    block_bitmaps_end(&n);
    g_assert_null(n.bitmaps);
    g_rand_free(r);
    g_free(bytes);
    g_free(model);
}

static void test_huge(void)
{
    struct block_node n;
    uint64_t start, bytes;
    node_init(&n, UINT64_C(1) << 54); /* 16 PiB: sparse in memory, quick to walk */
    struct block_bitmap *b = block_bitmap_create(&n, NULL, 65536, NULL);
    block_bitmaps_mark(&n, (UINT64_C(1) << 53) + 5, 1);
    g_assert_true(block_bitmap_next_dirty(b, 0, UINT64_MAX, UINT64_MAX, &start, &bytes));
    g_assert_cmpuint(start, ==, UINT64_C(1) << 53);
    g_assert_cmpuint(bytes, ==, 65536);
    g_assert_false(block_bitmap_next_dirty(b, start + bytes, UINT64_MAX, UINT64_MAX, &start, &bytes));
    block_bitmap_release(b);
    block_bitmaps_end(&n);
}

static void test_merge_and_successor(void)
{
    struct block_node n, small;
    GError *error = NULL;
    node_init(&n, 10 << 20);
    node_init(&small, 5 << 20);
    struct block_bitmap *coarse = block_bitmap_create(&n, "coarse", 1 << 20, NULL), *fine = block_bitmap_create(&n, "fine", 4096, NULL);
    struct block_bitmap *other = block_bitmap_create(&small, "other", 4096, NULL);
    g_assert_null(block_bitmap_create(&n, "fine", 4096, NULL));
    g_assert_null(block_bitmap_create(&n, "odd", 5000, NULL));
    block_bitmap_set_enabled(coarse, false);
    block_bitmaps_mark(&n, 5 << 20, 4096);
    g_assert_cmpuint(block_bitmap_count(coarse), ==, 0);
    g_assert_cmpuint(block_bitmap_count(fine), ==, 4096);
    g_assert_true(block_bitmap_merge(coarse, fine, NULL));
    g_assert_cmpuint(block_bitmap_count(coarse), ==, 1 << 20);
    g_assert_true(block_bitmap_merge(fine, coarse, NULL));
    g_assert_cmpuint(block_bitmap_count(fine), ==, 1 << 20);
    g_assert_false(block_bitmap_merge(other, fine, &error));
    g_clear_error(&error);

    g_assert_true(block_bitmap_freeze(fine, NULL));
    g_assert_true(block_bitmap_busy(fine));
    g_assert_false(block_bitmap_check(fine, BLOCK_BITMAP_USABLE, &error));
    g_clear_error(&error);
    block_bitmaps_mark(&n, 0, 1);
    g_assert_cmpuint(block_bitmap_count(fine), ==, 1 << 20);
    block_bitmap_reclaim(fine);
    g_assert_cmpuint(block_bitmap_count(fine), ==, (1 << 20) + 4096);
    g_assert_true(block_bitmap_freeze(fine, NULL));
    block_bitmaps_mark(&n, 8192, 1);
    block_bitmap_abdicate(fine);
    g_assert_cmpuint(block_bitmap_count(fine), ==, 4096);
    g_assert_true(block_bitmap_get(fine, 8192));
    g_assert_true(block_bitmap_enabled(fine));
    g_assert_true(block_bitmap_next(&n, coarse) == fine);
    g_assert_true(block_bitmap_remove(coarse, NULL));
    g_assert_null(block_bitmap_find(&n, "coarse"));
    block_bitmaps_end(&n);
    block_bitmaps_end(&small);
}

static void *mark_thread(void *opaque)
{
    struct block_node *n = opaque;
    for (uint64_t i = 0; i < 200000; i++)
        block_bitmaps_mark(n, i * 7 % (64 << 20), 512);
    return NULL;
}

static void test_threads(void)
{
    struct block_node n;
    uint64_t at, len, seen = 0;
    node_init(&n, 64 << 20);
    struct block_bitmap *b = block_bitmap_create(&n, NULL, 512, NULL), *whole = block_bitmap_create(&n, NULL, 512, NULL);
    GThread *a = g_thread_new("a", mark_thread, &n), *c = g_thread_new("c", mark_thread, &n);
    for (int i = 0; i < 1000; i++)
        while (block_bitmap_take_dirty(b, 0, UINT64_MAX, 65536, &at, &len))
            seen += len;
    g_thread_join(a);
    g_thread_join(c);
    while (block_bitmap_take_dirty(b, 0, UINT64_MAX, 65536, &at, &len))
        seen += len;
    g_assert_cmpuint(block_bitmap_count(b), ==, 0);
    g_assert_cmpuint(seen, >=, block_bitmap_count(whole)); /* nothing marked was lost */
    block_bitmaps_end(&n);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/bitmap/random", test_random);
    g_test_add_func("/bitmap/huge", test_huge);
    g_test_add_func("/bitmap/merge-and-successor", test_merge_and_successor);
    g_test_add_func("/bitmap/threads", test_threads);
    return g_test_run();
}
