/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Values of a device out and back; damaged ones are errors that name them. */
#include <string.h>

#include "vmm/core/device.h"
#include "vmm/core/state.h"

struct thing {
    struct device dev;
    uint16_t a[3];
    uint64_t b;
    bool on;
    uint8_t extra;
};

static void thing_save(struct device *d, struct state_writer *w)
{
    state_put_u64(w, "extra", ((struct thing *)d)->extra);
}

static bool thing_load(struct device *d, struct state_reader *r, GError **error)
{
    uint64_t v;
    if (!state_get_u64(r, "extra", 9, &v, error))
        return false;
    ((struct thing *)d)->extra = (uint8_t)v;
    return true;
}

static const struct device_field fields[] = { DEVICE_ARRAY(struct thing, a), DEVICE_FIELD(struct thing, b), DEVICE_FIELD(struct thing, on), { NULL } };
static const struct device_class class = { .name = "thing", .size = sizeof(struct thing), .fields = fields, .save = thing_save, .load = thing_load };

static GBytes *saved(uint8_t extra)
{
    struct thing t = { .dev.class = &class, .a = { 1, 2, 0xffee }, .b = 0x1122334455667788, .extra = extra };
    struct state_writer *w = state_writer_new();
    device_save(&t.dev, w);
    return state_writer_end(w);
}

static bool load(GBytes *bytes, struct thing *ret, GError **error)
{
    struct state_reader *r = state_reader_new(bytes, "thing 'x'", error);
    *ret = (struct thing){ .dev.class = &class };
    if (!r)
        return false;
    if (!device_load(&ret->dev, r, error)) {
        state_reader_free(r);
        return false;
    }
    return state_reader_end(r, error);
}

static void expect(GBytes *bytes, const char *text)
{
    g_autoptr(GError) error = NULL;
    struct thing t;
    g_assert_false(load(bytes, &t, &error));
    g_assert_nonnull(strstr(error->message, text));
}

static void test_back(void)
{
    g_autoptr(GBytes) bytes = saved(9);
    g_autoptr(GError) error = NULL;
    struct thing t;
    g_assert_true(load(bytes, &t, &error));
    g_assert_cmpuint(t.a[2], ==, 0xffee);
    g_assert_cmpuint(t.b, ==, 0x1122334455667788);
    g_assert_cmpuint(t.extra, ==, 9);
}

static void test_bad(void)
{
    g_autoptr(GBytes) bytes = saved(10);
    size_t n;
    const uint8_t *data = g_bytes_get_data(bytes, &n);
    expect(bytes, "'extra' is 10, more than 9");
    for (size_t cut = 1; cut < n; cut++) { /* never more than an error */
        g_autoptr(GBytes) part = g_bytes_new(data, cut);
        g_autoptr(GError) error = NULL;
        struct thing t;
        g_assert_false(load(part, &t, &error));
    }
    g_autoptr(GBytes) twice = g_byte_array_free_to_bytes(g_byte_array_append(g_byte_array_append(g_byte_array_new(), data, (guint)n), data, (guint)n));
    expect(twice, "a value twice");
}

static void test_shape(void)
{
    static const uint8_t one = 1;
    struct state_writer *w = state_writer_new();
    state_put(w, "a", &one, 1, 1);
    g_autoptr(GBytes) narrow = state_writer_end(w);
    expect(narrow, "'a' has elements of 1 bytes, not 2");

    g_autoptr(GBytes) good = saved(1);
    w = state_writer_new();
    state_put(w, "news", &one, 1, 1);
    g_autoptr(GBytes) more = state_writer_end(w);
    GByteArray *both = g_byte_array_new();
    g_byte_array_append(both, g_bytes_get_data(good, NULL), (guint)g_bytes_get_size(good));
    g_byte_array_append(both, g_bytes_get_data(more, NULL), (guint)g_bytes_get_size(more));
    g_autoptr(GBytes) unknown = g_byte_array_free_to_bytes(both);
    expect(unknown, "it has 'news', which this version does not know");
}

static void test_truth(void)
{
    struct thing t = { .dev.class = &class };
    memset(&t.on, 2, 1);
    struct state_writer *w = state_writer_new();
    device_save(&t.dev, w);
    g_autoptr(GBytes) bytes = state_writer_end(w);
    expect(bytes, "'on' is neither 0 nor 1");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/state/back", test_back);
    g_test_add_func("/state/bad", test_bad);
    g_test_add_func("/state/shape", test_shape);
    g_test_add_func("/state/truth", test_truth);
    return g_test_run();
}
