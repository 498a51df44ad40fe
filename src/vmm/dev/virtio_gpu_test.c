/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands of a driver that does everything wrong: answers of virtio 1.2, 5.7.6, memory within its bound, and pictures that arrive. */
#include "vmm/dev/virtio_gpu.c"

#include "vmm/core/fake_accel.h"

enum { RAM_SIZE = 1 << 20 };

struct fixture {
    struct machine m;
    uint8_t *ram;
    struct virtio_gpu g;
};

static void set_up(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    f->m.memory = guest_memory_create();
    f->ram = guest_memory_alloc(f->m.memory, "ram", RAM_SIZE, NULL);
    g_assert_true(guest_memory_add_ram(f->m.memory, 0, RAM_SIZE, f->ram, false, NULL));
    f->g.v.dev.machine = &f->m;
    f->g.max_bytes = 1 << 20;
    f->g.display = display_of(&f->m);
    g_assert_true(display_claim(f->g.display, "virtio-gpu-pci", NULL));
    f->g.resources = g_hash_table_new_full(NULL, NULL, NULL, resource_free);
}

static void tear_down(struct fixture *f)
{
    virtio_gpu_stop(&f->g.v);
    g_assert_cmpuint(f->g.bytes, ==, 0);
    g_hash_table_unref(f->g.resources);
    display_destroy(f->m.display);
    guest_memory_destroy(f->m.memory);
}

static uint32_t make(struct fixture *f, uint32_t id, uint32_t format, uint32_t width, uint32_t height)
{
    return create_2d(&f->g, &(struct create){ .id = id, .format = format, .width = width, .height = height });
}

/* ATTACH_BACKING with these entries behind the command; claimed: how many it says there are. */
static uint32_t back(struct fixture *f, uint32_t id, uint32_t claimed, const struct entry *entries, unsigned n)
{
    struct attach c = { .id = id, .n = claimed };
    struct iovec iov[2] = { { &c, sizeof(c) }, { (void *)entries, n * sizeof(*entries) } };
    struct virtio_chain chain = { .nout = 2, .out_len = iov[0].iov_len + iov[1].iov_len, .iov = iov };
    return attach(&f->g, &c, &chain);
}

static uint32_t move(struct fixture *f, uint32_t id, struct virtio_gpu_rect r, uint64_t offset)
{
    return transfer(&f->g, &(struct transfer){ .id = id, .r = r, .offset = offset });
}

static void test_resources_are_bounded(void)
{
    struct fixture f;
    set_up(&f);
    g_assert_cmphex(make(&f, 0, 2, 16, 16), ==, ERR_INVALID_RESOURCE_ID);
    g_assert_cmphex(make(&f, 1, 3000, 16, 16), ==, ERR_INVALID_PARAMETER);
    g_assert_cmphex(make(&f, 1, 2, 0, 16), ==, ERR_INVALID_PARAMETER);
    g_assert_cmphex(make(&f, 1, 2, 0x80000001, 0x80000001), ==, ERR_INVALID_PARAMETER); /* the product is small */
    g_assert_cmphex(make(&f, 1, 2, 8192, 8192), ==, ERR_OUT_OF_MEMORY);
    g_assert_cmphex(make(&f, 1, 2, 512, 256), ==, OK_NODATA);
    g_assert_cmphex(make(&f, 1, 2, 16, 16), ==, ERR_INVALID_RESOURCE_ID);
    g_assert_cmphex(make(&f, 2, 2, 512, 257), ==, ERR_OUT_OF_MEMORY);
    g_assert_cmphex(make(&f, 2, 2, 512, 128), ==, OK_NODATA);
    g_autofree struct entry *many = g_new0(struct entry, MAX_ENTRIES + 1);
    g_assert_cmphex(back(&f, 1, MAX_ENTRIES, many, MAX_ENTRIES), ==, OK_NODATA);
    g_assert_cmphex(back(&f, 2, 1, many, 1), ==, ERR_OUT_OF_MEMORY); /* lists count too */
    g_assert_cmphex(make(&f, 3, 2, 1, 1), ==, ERR_OUT_OF_MEMORY);
    g_assert_cmphex(detach(&f.g, &(struct by_id){ .id = 1 }), ==, OK_NODATA);
    g_assert_cmphex(make(&f, 3, 2, 1, 1), ==, OK_NODATA);
    g_assert_cmphex(unref(&f.g, &(struct by_id){ .id = 1 }), ==, OK_NODATA);
    g_assert_cmphex(unref(&f.g, &(struct by_id){ .id = 1 }), ==, ERR_INVALID_RESOURCE_ID);
    g_assert_cmphex(back(&f, 3, MAX_ENTRIES + 1, many, MAX_ENTRIES + 1), ==, ERR_UNSPEC);
    for (uint32_t id = 10; id < 10 + MAX_RESOURCES; id++)
        (void)make(&f, id, 2, 1, 1);
    g_assert_cmpuint(g_hash_table_size(f.g.resources), ==, MAX_RESOURCES);
    tear_down(&f);
}

static void test_lists_and_rects(void)
{
    struct fixture f;
    const struct entry good[2] = { { 0x1000, 24 }, { 0x3000, 1000 } }, outside[1] = { { RAM_SIZE - 8, 4096 } }, wraps[1] = { { UINT64_MAX - 7, 4096 } };
    set_up(&f);
    g_assert_cmphex(make(&f, 1, 2, 4, 4), ==, OK_NODATA);
    g_assert_cmphex(move(&f, 1, (struct virtio_gpu_rect){ 0, 0, 4, 4 }, 0), ==, ERR_UNSPEC); /* no backing */
    g_assert_cmphex(back(&f, 1, 0, good, 2), ==, ERR_UNSPEC);
    g_assert_cmphex(back(&f, 1, 3, good, 2), ==, ERR_INVALID_PARAMETER); /* more than there are */
    g_assert_cmphex(back(&f, 9, 2, good, 2), ==, ERR_INVALID_RESOURCE_ID);
    g_assert_cmphex(back(&f, 1, 1, outside, 1), ==, OK_NODATA);
    g_assert_cmphex(back(&f, 1, 2, good, 2), ==, ERR_UNSPEC); /* it has one */
    g_assert_cmphex(move(&f, 1, (struct virtio_gpu_rect){ 0, 0, 4, 4 }, 0), ==, ERR_UNSPEC);
    g_assert_cmphex(detach(&f.g, &(struct by_id){ .id = 1 }), ==, OK_NODATA);
    g_assert_cmphex(detach(&f.g, &(struct by_id){ .id = 1 }), ==, ERR_INVALID_RESOURCE_ID);
    g_assert_cmphex(back(&f, 1, 1, wraps, 1), ==, OK_NODATA);
    g_assert_cmphex(move(&f, 1, (struct virtio_gpu_rect){ 0, 0, 4, 4 }, 0), ==, ERR_UNSPEC);
    (void)detach(&f.g, &(struct by_id){ .id = 1 });
    g_assert_cmphex(back(&f, 1, 2, good, 2), ==, OK_NODATA);
    g_assert_cmphex(move(&f, 1, (struct virtio_gpu_rect){ 1, 0, 4, 4 }, 0), ==, ERR_INVALID_PARAMETER);
    g_assert_cmphex(move(&f, 1, (struct virtio_gpu_rect){ 0xffffffff, 0, 2, 1 }, 0), ==, ERR_INVALID_PARAMETER);
    g_assert_cmphex(move(&f, 1, (struct virtio_gpu_rect){ 0, 0, 4, 4 }, UINT64_MAX - 3), ==, ERR_INVALID_PARAMETER);
    g_assert_cmphex(move(&f, 1, (struct virtio_gpu_rect){ 0, 0, 4, 4 }, 1024 - 63), ==, ERR_UNSPEC); /* behind the end of the list */
    g_assert_cmphex(move(&f, 1, (struct virtio_gpu_rect){ 0, 0, 0, 0 }, 0), ==, OK_NODATA);
    g_assert_cmphex(set_scanout(&f.g, &(struct scanout){ .scanout = 1, .id = 1, .r = { 0, 0, 4, 4 } }), ==, ERR_INVALID_SCANOUT_ID);
    g_assert_cmphex(set_scanout(&f.g, &(struct scanout){ .id = 7, .r = { 0, 0, 4, 4 } }), ==, ERR_INVALID_RESOURCE_ID);
    g_assert_cmphex(set_scanout(&f.g, &(struct scanout){ .id = 1, .r = { 0, 0, 5, 4 } }), ==, ERR_INVALID_PARAMETER);
    g_assert_cmphex(flush(&f.g, &(struct flush){ .id = 1, .r = { 0, 3, 4, 2 } }), ==, ERR_INVALID_PARAMETER);
    tear_down(&f);
}

static uint32_t shown(struct fixture *f, unsigned x, unsigned y)
{
    const struct display_picture *p = display_lock(f->m.display);
    uint32_t pixel = x < p->width && y < p->height ? p->pixels[y * p->width + x] & 0xffffff : 0xdead;
    display_unlock(f->m.display);
    return pixel;
}

/* Pixels from two pieces of memory, by rows and at once, in the orders of bytes that there are. */
static void test_pictures_arrive(void)
{
    static const struct { uint32_t format; uint8_t bytes[4]; } formats[] = {
        { 2, { 0x33, 0x22, 0x11, 0 } }, { 3, { 0xff, 0x11, 0x22, 0x33 } }, { 67, { 0x11, 0x22, 0x33, 0 } }, { 68, { 0, 0x33, 0x22, 0x11 } },
    };
    const struct entry pieces[2] = { { 0x1000, 24 }, { 0x3000, 1000 } };
    struct fixture f;
    set_up(&f);
    for (unsigned i = 0; i < G_N_ELEMENTS(formats); i++) {
        uint32_t id = i + 1;
        memset(f.ram, 0, 0x4000);
        memcpy(f.ram + 0x1000 + 20, formats[i].bytes, 4);     /* pixel 5: x 1, y 1 */
        memcpy(f.ram + 0x3000 + 36, formats[i].bytes, 4); /* pixel 15: x 3, y 3 */
        g_assert_cmphex(make(&f, id, formats[i].format, 4, 4), ==, OK_NODATA);
        g_assert_cmphex(back(&f, id, 2, pieces, 2), ==, OK_NODATA);
        g_assert_cmphex(move(&f, id, (struct virtio_gpu_rect){ 0, 0, 4, 4 }, 0), ==, OK_NODATA);
        g_assert_cmphex(set_scanout(&f.g, &(struct scanout){ .id = id, .r = { 1, 1, 3, 3 } }), ==, OK_NODATA);
        g_assert_cmphex(shown(&f, 0, 0), ==, 0x112233);
        g_assert_cmphex(shown(&f, 2, 2), ==, 0x112233);
        g_assert_cmphex(shown(&f, 1, 1), ==, 0);
        memcpy(f.ram + 0x1000, formats[i].bytes, 4); /* pixel 0 is not part of the head */
        memcpy(f.ram + 0x3000, formats[i].bytes, 4);           /* pixel 6: x 2, y 1 */
        g_assert_cmphex(move(&f, id, (struct virtio_gpu_rect){ 2, 1, 1, 2 }, 24), ==, OK_NODATA);
        g_assert_cmphex(flush(&f.g, &(struct flush){ .id = id, .r = { 0, 0, 4, 4 } }), ==, OK_NODATA);
        g_assert_cmphex(shown(&f, 1, 0), ==, 0x112233);
    }
    g_assert_cmphex(unref(&f.g, &(struct by_id){ .id = G_N_ELEMENTS(formats) }), ==, OK_NODATA); /* the one that is shown */
    g_assert_cmphex(shown(&f, 0, 0), ==, 0xdead);
    tear_down(&f);
}

static void test_random_commands(void)
{
    struct fixture f;
    GRand *r = g_rand_new_with_seed(11);
    set_up(&f);
    for (unsigned n = 0; n < 100000; n++) {
        static const uint32_t sizes[] = { 0, 1, 3, 64, 100, 8192, 0x7fffffff, 0xffffffff };
#define ANY sizes[g_rand_int_range(r, 0, G_N_ELEMENTS(sizes))]
        const struct virtio_gpu_rect rect = { ANY, ANY, ANY, ANY };
        struct entry list[3];
        uint32_t id = (uint32_t)g_rand_int_range(r, 0, 12);
        for (unsigned i = 0; i < 3; i++)
            list[i] = (struct entry){ g_rand_int_range(r, 0, 4) ? g_rand_int(r) % RAM_SIZE : (uint64_t)g_rand_int(r) << 32 | 0xffffffff, ANY };
        switch (g_rand_int_range(r, 0, 8)) {
        case 0: (void)make(&f, id, 2, ANY, ANY); break;
        case 1: (void)unref(&f.g, &(struct by_id){ .id = id }); break;
        case 2: (void)back(&f, id, (uint32_t)g_rand_int_range(r, 0, 5), list, 3); break;
        case 3: (void)detach(&f.g, &(struct by_id){ .id = id }); break;
        case 4: (void)move(&f, id, rect, ANY); break;
        case 5: (void)set_scanout(&f.g, &(struct scanout){ .id = id, .r = rect }); break;
        case 6: (void)flush(&f.g, &(struct flush){ .id = id, .r = rect }); break;
        case 7: cursor(&f.g, &(struct cursor){ .h.type = UPDATE_CURSOR, .id = id, .hot_x = ANY, .hot_y = ANY }); break;
        }
        g_assert_cmpuint(f.g.bytes, <=, f.g.max_bytes);
    }
    g_rand_free(r);
    tear_down(&f);
}

static unsigned no_vectors(struct virtio_device *v) { return 0; }
static void nothing(struct virtio_device *v) { }

/* A resource whose rows are black, as in the guest's memory, or neither; another without memory: the same in a second card. */
static void test_saved(void)
{
    struct fixture f, to;
    const struct entry parts[2] = { { 0x1000, 40 }, { 0x3000, 1000 } };
    set_up(&f);
    set_up(&to);
    for (unsigned i = 0; i < RAM_SIZE; i++)
        f.ram[i] = to.ram[i] = (uint8_t)(i * 7);
    g_assert_cmphex(make(&f, 7, 67, 4, 4), ==, OK_NODATA);
    g_assert_cmphex(make(&f, 9, 2, 3, 2), ==, OK_NODATA);
    g_assert_cmphex(back(&f, 7, 2, parts, 2), ==, OK_NODATA);
    g_assert_cmphex(move(&f, 7, (struct virtio_gpu_rect){ 0, 1, 4, 2 }, 16), ==, OK_NODATA);
    f.ram[0x1000 + 32] ^= 1;
    to.ram[0x1000 + 32] ^= 1; /* row 2 is another one there now */
    find(&f.g, 9)->pixels[5] = 0x12345678;
    g_assert_cmphex(set_scanout(&f.g, &(struct scanout){ .id = 7, .r = { 1, 1, 2, 3 } }), ==, OK_NODATA);
    struct state_writer *w = state_writer_new();
    static const struct virtio_transport_ops transport = { .vectors = no_vectors, .loaded = nothing };
    f.g.v.transport = to.g.v.transport = &transport;
    f.g.v.config_vector = to.g.v.config_vector = VIRTIO_NO_VECTOR;
    f.g.v.dev.class = to.g.v.dev.class = &virtio_gpu_pci_class;
    device_save(&f.g.v.dev, w);
    g_autoptr(GBytes) bytes = state_writer_end(w);
    struct state_reader *r = state_reader_new(bytes, "gpu", NULL);
    g_assert_true(device_load(&to.g.v.dev, r, NULL) && state_reader_end(r, NULL));
    for (unsigned i = 0; i < 2; i++) {
        const struct resource *a = find(&f.g, i ? 9 : 7), *b = find(&to.g, i ? 9 : 7);
        g_assert_nonnull(b);
        g_assert_cmpmem(a->pixels, a->width * a->height * 4, b->pixels, b->width * b->height * 4);
        g_assert_cmpuint(a->nbacking, ==, b->nbacking);
        g_assert_cmpmem(a->backing, a->nbacking * sizeof(*a->backing), b->backing, b->nbacking * sizeof(*b->backing));
    }
    g_assert_cmpuint(f.g.bytes, ==, to.g.bytes);
    g_assert_cmpuint(to.g.shown, ==, 7);
    g_assert_cmpuint(to.g.view.height, ==, 3);
    tear_down(&f);
    tear_down(&to);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/virtio-gpu/resources-are-bounded", test_resources_are_bounded);
    g_test_add_func("/virtio-gpu/lists-and-rects", test_lists_and_rects);
    g_test_add_func("/virtio-gpu/pictures-arrive", test_pictures_arrive);
    g_test_add_func("/virtio-gpu/random-commands", test_random_commands);
    g_test_add_func("/virtio-gpu/saved", test_saved);
    return g_test_run();
}
