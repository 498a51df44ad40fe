/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/core/memory.h"

#include "vmm/core/fake_accel.h"

struct reg { uint64_t last_offset, value; unsigned last_size, calls; };

static uint64_t constant_read(void *opaque, uint64_t offset, unsigned size)
{
    return 7;
}

static uint64_t reg_read(void *opaque, uint64_t offset, unsigned size)
{
    struct reg *r = opaque;
    r->last_offset = offset;
    r->last_size = size;
    r->calls++;
    return r->value >> offset * 8;
}

static void reg_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct reg *r = opaque;
    r->last_offset = offset;
    r->last_size = size;
    r->calls++;
    r->value = value;
}

static const struct io_ops constant = { constant_read, NULL, 0, 0 };
static const struct io_ops any = { reg_read, reg_write, 0, 0 }, bytes = { reg_read, reg_write, 1, 1 }, wide = { reg_read, reg_write, 4, 4 };

static void test_ram(void)
{
    struct guest_memory *m = guest_memory_create();
    GError *error = NULL;
    uint8_t *host = guest_memory_alloc(m, "ram", 0x10000, &error), buf[16] = { 1, 2, 3 };
    g_assert_no_error(error);
    g_assert_true(guest_memory_add_ram(m, 0x1000, 0x8000, host, false, &error));
    g_assert_true(guest_memory_add_ram(m, 0x9000, 0x1000, host + 0xf000, true, &error));
    g_assert_false(guest_memory_add_ram(m, 0x123, 0x1000, host, false, NULL));
    g_assert_true(guest_memory_write(m, 0x1ff8, buf, 16));
    g_assert_cmpint(host[0xff8], ==, 1);
    g_assert_false(guest_memory_write(m, 0x8ff8, buf, 16)); /* runs into ROM: nothing is written */
    g_assert_cmpint(host[0x7ff8], ==, 0);
    g_assert_true(guest_memory_read(m, 0x8ff8, buf, 16));
    g_assert_false(guest_memory_read(m, 0xfff, buf, 2));
    g_assert_false(guest_memory_read(m, UINT64_MAX - 3, buf, 8));
    g_assert_true(guest_memory_ptr(m, 0x2000, 0x7000, true) == host + 0x1000);
    g_assert_null(guest_memory_ptr(m, 0x2000, 0x7001, true));
    g_assert_null(guest_memory_ptr(m, 0x9000, 1, true));
    g_assert_nonnull(guest_memory_ptr(m, 0x9000, 1, false));
    g_assert_cmpuint(guest_io_read(m, false, 0x1ff8, 4), ==, 0x00030201);
    g_assert_cmpuint(guest_io_read(m, false, 0x20000, 4), ==, 0xffffffff);
    guest_memory_destroy(m);
}

static void test_windows(void)
{
    struct guest_memory *m = guest_memory_create();
    struct reg a = { .value = 0x8877665544332211 }, b = { .value = 0xb0 };
    struct io_window wa = { .name = "a", .ops = &any, .opaque = &a, .size = 8, .port = true };
    struct io_window wb = { .name = "b", .ops = &bytes, .opaque = &b, .size = 1, .port = true };
    io_window_map(m, &wb, 0xcf9);
    io_window_map(m, &wa, 0xcf8);
    g_assert_cmpuint(guest_io_read(m, true, 0xcf8, 4), ==, 0x44332211); /* the first byte's owner takes it whole */
    g_assert_cmpuint(a.last_size, ==, 4);
    g_assert_cmpuint(guest_io_read(m, true, 0xcf9, 1), ==, 0xb0);
    g_assert_cmpuint(guest_io_read(m, true, 0xcfe, 4), ==, 0xffff8877); /* leaves the window: byte by byte */
    io_window_unmap(m, &wb);
    g_assert_cmpuint(guest_io_read(m, true, 0xcf9, 1), ==, 0x22);
    io_window_map(m, &wa, 0x100);
    g_assert_cmpuint(guest_io_read(m, true, 0xcf9, 1), ==, 0xff);
    g_assert_cmpuint(guest_io_read(m, true, 0x101, 1), ==, 0x22);

    struct reg c = { .value = 0x44332211 };
    struct io_window wc = { .name = "c", .ops = &wide, .opaque = &c, .size = 0x1000 };
    io_window_map(m, &wc, 0xfed00000);
    g_assert_cmpuint(guest_io_read(m, false, 0xfed00000, 1), ==, 0xff); /* too narrow for the device */
    g_assert_cmpuint(guest_io_read(m, false, 0xfed00000, 4), ==, 0x44332211);
    c.calls = 0;
    guest_io_write(m, false, 0xfed00000, 8, 1);
    g_assert_cmpuint(c.calls, ==, 2);
    io_window_map(m, &wc, UINT64_MAX - 0xfff); /* wraps: not mapped past the end, and no crash */
    (void)guest_io_read(m, false, UINT64_MAX - 1, 8);
    guest_memory_destroy(m);
}

static void test_accel(void)
{
    struct guest_memory *m = guest_memory_create();
    struct accel *a = fake_create(&(struct accel_config){ .max_vcpus = 1 }, NULL);
    uint8_t *host = guest_memory_alloc(m, "ram", 0x10000, NULL);
    struct reg r = { 0 };
    struct io_window w = { .name = "w", .ops = &any, .opaque = &r, .size = 0x1000 };
    g_assert_true(guest_memory_add_ram(m, 0, 0x10000, host, false, NULL));
    g_assert_true(guest_memory_set_accel(m, &fake_accel, a, NULL));
    g_assert_cmpuint(a->nmaps, ==, 1);
    io_window_map(m, &w, 0x4000); /* a device over RAM: the accelerator sees two pieces */
    g_assert_cmpuint(a->nmaps, ==, 2);
    io_window_unmap(m, &w);
    g_assert_cmpuint(a->nmaps, ==, 1);
    g_assert_cmpuint(a->maps[0].size, ==, 0x10000);
    w.behind = true; /* a base address register that the guest has put over RAM: RAM answers */
    io_window_map(m, &w, 0x4000);
    g_assert_cmpuint(a->nmaps, ==, 1);
    io_window_unmap(m, &w);
    uint32_t v = 5;
    g_assert_true(guest_memory_write(m, 0x100, &v, 4));
    g_assert_cmpuint(atomic_load(&a->written), ==, 4);
    guest_memory_destroy(m);
    fake_destroy(a);
}

struct churn { struct guest_memory *m; _Atomic bool stop; };

static void *reader(void *opaque)
{
    struct churn *c = opaque;
    uint64_t n = 0;
    while (!atomic_load(&c->stop)) {
        uint64_t v = guest_io_read(c->m, false, 0x100000 + (n++ % 64) * 0x1000, 4);
        g_assert_true(v == 0xffffffff || v == 7);
    }
    return NULL;
}

static void test_readers_and_writers(void)
{
    struct churn c = { guest_memory_create(), false };
    struct io_window w[64];
    GThread *t[2];
    for (unsigned i = 0; i < 64; i++) {
        w[i] = (struct io_window){ .name = "w", .ops = &constant, .size = 0x1000 };
    }
    for (unsigned i = 0; i < 2; i++)
        t[i] = g_thread_new("reader", reader, &c);
    for (unsigned n = 0; n < 2000; n++) {
        io_window_map(c.m, &w[n % 64], 0x100000 + n % 64 * 0x1000);
        if (n % 3 == 0)
            io_window_unmap(c.m, &w[n * 7 % 64]);
    }
    atomic_store(&c.stop, true);
    for (unsigned i = 0; i < 2; i++)
        g_thread_join(t[i]);
    guest_memory_destroy(c.m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/memory/ram", test_ram);
    g_test_add_func("/memory/windows", test_windows);
    g_test_add_func("/memory/accelerator", test_accel);
    g_test_add_func("/memory/concurrent", test_readers_and_writers);
    return g_test_run();
}
