/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A damaged qcow2 image and what a user does with it. The image is one of a few that are whole, in memory, with words of its
 * header and tables replaced by the input's; then the input says what is read, written, snapshotted, checked and repaired.
 *
 * Two things must hold beside "nothing breaks": a repair that says that all is mended leaves nothing for the next check to find;
 * and an image that was whole, and that nobody damaged, never has errors, whatever is done with it.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "block/bitmap.h"
#include "block/block.h"
#include "block/driver.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DISK = 256 << 10, LARGEST = 16 << 20 };

struct input {
    const uint8_t *at;
    size_t left;
};

static uint64_t take(struct input *in, unsigned n)
{
    uint64_t v = 0;
    for (; n; n--) {
        v = v << 8 | (in->left ? *in->at : 0);
        in->at += in->left != 0;
        in->left -= in->left != 0;
    }
    return v;
}

/* An abort, which libFuzzer keeps the input of. */
static void broken(const char *format, ...) G_GNUC_PRINTF(1, 2);
static void broken(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    fputs("\n", stderr);
    abort();
}

/* ---- whole images ---- */

static const char *const variants[] = { "cluster_size=512", "cluster_size=512,compat=0.10", "cluster_size=512,refcount_bits=1", "cluster_size=512,refcount_bits=64",
    "cluster_size=16k,extended_l2=on", "cluster_size=512,lazy_refcounts=on", "cluster_size=4k,compression_type=zstd,refcount_bits=2", "cluster_size=64k" };

struct whole {
    uint8_t *data;
    size_t size;
    uint64_t place[8]; /* of what is damaged: see there */
};

static uint64_t be(const uint8_t *p, unsigned n)
{
    uint64_t v = 0;
    while (n--)
        v = v << 8 | *p++;
    return v;
}

static struct block_node *open_image(struct block_graph *g, int fd, unsigned flags, GError **error)
{
    g_autofree char *name = g_strdup_printf("/proc/self/fd/%d", fd);
    return block_open_filename(g, name, "qcow2", NULL, flags | BLOCK_NO_BACKING | BLOCK_NO_FLUSH, error);
}

static void fill(struct block_graph *g, struct block_node *n, bool bitmaps, bool snapshots)
{
    g_autofree char *buffer = g_malloc(65536);
    struct block_snapshot s = { .name = (char *)"s", .icount = UINT64_MAX };
    for (int i = 0; i < 65536; i++)
        buffer[i] = (char)(i % 251);
    struct block_info info;
    g_assert_cmpint(block_get_info(n, &info), ==, 0);
    block_enter(g);
    g_assert_cmpint(block_pwrite(n, 0, 40000, buffer, 0), ==, 0);
    g_assert_cmpint(block_pwrite(n, 131072, info.cluster_size, buffer, BLOCK_COMPRESSED), ==, 0);
    g_assert_cmpint(block_write_zeroes(n, 65536, 32768, 0), ==, 0);
    block_leave(g);
    block_quiesce(g);
    if (snapshots)
        g_assert_true(block_snapshot_create(n, &s, NULL));
    if (bitmaps)
        block_bitmap_set_persistent(block_bitmap_create(n, "b", 4096, NULL), true);
    block_resume(g);
    block_enter(g);
    g_assert_cmpint(block_pwrite(n, 1000, 5000, buffer, 0), ==, 0);
    block_leave(g);
}

static void place_tables(struct whole *w)
{
    uint64_t bits = be(w->data + 20, 4), mask = UINT64_C(0xfffffffffffe00);
    w->place[1] = be(w->data + 40, 8); /* L1 */
    w->place[2] = be(w->data + 48, 8); /* refcount table */
    w->place[3] = be(w->data + w->place[2], 8); /* first refcount block */
    w->place[4] = be(w->data + 64, 8); /* snapshots */
    w->place[5] = be(w->data + w->place[1], 8) & mask; /* first L2 */
    w->place[6] = be(w->data + w->place[1] + 8, 8) & mask; /* second */
    for (size_t i = 104; i + 32 < (size_t)1 << bits && i + 32 < w->size; i++) {
        if (be(w->data + i, 4) == 0x23852875)
            w->place[7] = be(w->data + i + 24, 8); /* directory of bitmaps */
    }
}

static void make_whole(struct whole *w, const char *options)
{
    GError *error = NULL;
    int fd = memfd_create("whole", MFD_CLOEXEC);
    g_autofree char *name = g_strdup_printf("/proc/self/fd/%d", fd);
    keyval_auto *kv = keyval_parse(options, NULL, NULL);
    struct block_create c = { .size = DISK, .options = kv };
    struct block_graph *g = block_graph_create();
    if (!block_create_image(g, name, "qcow2", &c, &error))
        g_error("%s: %s", options, error->message);
    struct block_node *n = open_image(g, fd, BLOCK_RDWR, &error);
    if (!n)
        g_error("%s: %s", options, error->message);
    fill(g, n, !strstr(options, "0.10"), !strstr(options, "refcount_bits=1"));
    block_node_unref(n);
    block_graph_destroy(g);
    w->size = (size_t)lseek(fd, 0, SEEK_END);
    w->data = g_malloc0(w->size + 65536);
    g_assert_cmpint(pread(fd, w->data, w->size, 0), ==, (ssize_t)w->size);
    close(fd);
    place_tables(w);
}

/* ---- one image and what is done with it ---- */

struct run {
    struct block_graph *g;
    struct block_node *n;
    struct input in;
    int fd;
    bool damaged, lazy;
    uint8_t buffer[65536];
};

static void damage(struct run *r, const struct whole *w)
{
    uint8_t bytes[8];
    for (unsigned n = (unsigned)take(&r->in, 1) % 8; n; n--) {
        unsigned what = (unsigned)take(&r->in, 1), len = 1 + (what >> 3) % 8;
        uint64_t at = w->place[what % 8] + take(&r->in, what & 0x40 ? 2 : 1) * (what % 8 ? 8 : 4);
        for (unsigned i = 0; i < len; i++)
            bytes[i] = (uint8_t)take(&r->in, 1);
        r->damaged = true;
        if (at < LARGEST)
            (void)!pwrite(r->fd, bytes, len, (off_t)at);
    }
}

/* Offset and length of something within the disk; false: there is no such thing. */
static bool range(struct run *r, uint64_t *offset, uint64_t *bytes)
{
    uint64_t size = block_node_size(r->n);
    *offset = take(&r->in, 2) * 64;
    *bytes = 1 + take(&r->in, 1) * 97;
    if (*offset & 64)
        *offset = (*offset & ~UINT64_C(511)), *bytes = (*bytes + 511) & ~UINT64_C(511);
    if (*offset >= size)
        *offset = size ? (*offset % size) & ~UINT64_C(511) : 0;
    *bytes = MIN(*bytes, size - *offset);
    return *bytes;
}

static void reopen(struct run *r, unsigned flags)
{
    g_autoptr(GError) error = NULL;
    block_node_unref(r->n);
    r->n = open_image(r->g, r->fd, flags, &error);
    g_assert_true(r->n || error);
    if (!r->n && !r->damaged && !(lseek(r->fd, 0, SEEK_END) > LARGEST))
        broken("a whole image is refused: %s", error->message);
}

static int do_check(struct run *r, unsigned fix, struct block_check *c)
{
    g_autoptr(GError) error = NULL;
    block_quiesce(r->g);
    int err = block_check(r->n, fix, c, &error);
    block_resume(r->g);
    return err;
}

static void repair_and_look_again(struct run *r, unsigned fix)
{
    struct block_check first = { 0 }, second = { 0 };
    if (do_check(r, fix, &first) || first.check_errors || first.corruptions || fix != (BLOCK_FIX_LEAKS | BLOCK_FIX_ERRORS))
        return;
    if (do_check(r, 0, &second))
        return;
    if (second.check_errors || second.corruptions || second.leaks)
        broken("a repair left %d errors, %d corruptions, %d leaks", (int)second.check_errors, (int)second.corruptions, (int)second.leaks);
}

static void op_io(struct run *r, unsigned op)
{
    uint64_t offset, bytes;
    struct block_status st;
    struct block_info info = { 0 };
    if (!range(r, &offset, &bytes))
        return;
    block_enter(r->g);
    switch (op) {
    case 0: (void)block_pread(r->n, offset, bytes, r->buffer); break;
    case 1: (void)block_pwrite(r->n, offset, bytes, r->buffer, 0); break;
    case 2: (void)block_write_zeroes(r->n, offset, bytes, bytes & 1 ? BLOCK_MAY_UNMAP : 0); break;
    case 3: (void)block_discard(r->n, offset, bytes); break;
    case 4: (void)block_status_chain(r->n, NULL, offset, bytes, &st); break;
    case 5:
        (void)block_get_info(r->n, &info);
        offset &= ~(uint64_t)(MAX(info.cluster_size, 512) - 1);
        (void)block_pwrite(r->n, offset, MIN(MAX(info.cluster_size, 512), block_node_size(r->n) - offset), r->buffer, BLOCK_COMPRESSED);
        break;
    }
    block_leave(r->g);
}

static void op_bitmap(struct run *r)
{
    struct block_bitmap *b = block_bitmap_next(r->n, NULL);
    unsigned what = (unsigned)take(&r->in, 1);
    if (what % 4 == 0 && block_bitmap_check_persistent(r->n, "n", 512u << (what >> 4), NULL) && (b = block_bitmap_create(r->n, "n", 512u << (what >> 4), NULL)))
        block_bitmap_set_persistent(b, true);
    else if (b && what % 4 == 1)
        (void)!block_bitmap_remove(b, NULL);
    else if (b && what % 4 == 2 && block_bitmap_check(b, BLOCK_BITMAP_USABLE, NULL))
        block_bitmap_clear(b);
    else if (b && block_bitmap_check(b, BLOCK_BITMAP_USABLE, NULL))
        block_bitmap_set_enabled(b, what & 16);
}

static void op_amend(struct run *r)
{
    static const char *const texts[] = { "compat=1.1", "compat=0.10", "refcount_bits=1", "refcount_bits=8", "refcount_bits=16", "refcount_bits=64", "lazy_refcounts=on",
        "lazy_refcounts=off", "backing_file=x,backing_fmt=raw", "backing_file=" };
    keyval_auto *kv = keyval_parse(texts[take(&r->in, 1) % G_N_ELEMENTS(texts)], NULL, NULL);
    (void)!block_amend(r->n, kv, false, NULL, NULL, NULL);
}

static void op_quiet(struct run *r, unsigned op)
{
    struct block_snapshot s = { .name = (char *)"t", .icount = UINT64_MAX };
    char id[2] = { (char)('1' + take(&r->in, 1) % 4) };
    block_quiesce(r->g);
    switch (op) {
    case 8: (void)!block_snapshot_create(r->n, &s, NULL); break;
    case 9: (void)!block_snapshot_apply(r->n, id, NULL); break;
    case 10: (void)!block_snapshot_delete(r->n, id, NULL); break;
    case 11: op_bitmap(r); break;
    case 12: op_amend(r); break;
    case 13: (void)!block_truncate(r->n, take(&r->in, 2) * 64, false, "off", NULL); break;
    case 14: (void)block_vmstate_write(r->n, take(&r->in, 1) * 100, 700, r->buffer); break;
    case 15: (void)block_vmstate_read(r->n, take(&r->in, 1) * 100, 700, r->buffer); break;
    case 16: (void)!block_snapshot_load(r->n, id, NULL); break;
    }
    block_resume(r->g);
}

static void play(struct run *r)
{
    for (unsigned n = 0; n < 40 && r->in.left && r->n; n++) {
        unsigned op = (unsigned)take(&r->in, 1) % 21;
        if (op < 6)
            op_io(r, op);
        else if (op == 6)
            (void)(block_enter(r->g), block_flush(r->n), block_leave(r->g), 0);
        else if (op == 7)
            reopen(r, take(&r->in, 1) & 3 ? BLOCK_RDWR : 0);
        else if (op < 17)
            op_quiet(r, op);
        else
            repair_and_look_again(r, op & 3);
        if (lseek(r->fd, 0, SEEK_END) > LARGEST)
            break;
    }
    if (r->n) {
        json_auto *info = block_specific_info(r->n);
        (void)info;
    }
}

static void look_at_the_end(struct run *r)
{
    struct block_check c = { 0 };
    reopen(r, BLOCK_RDWR | BLOCK_CHECK);
    if (!r->n)
        return;
    if (!r->damaged && !do_check(r, 0, &c) && (c.corruptions || c.check_errors))
        broken("a whole image has %d corruptions, %d errors after all this", (int)c.corruptions, (int)c.check_errors);
    repair_and_look_again(r, BLOCK_FIX_LEAKS | BLOCK_FIX_ERRORS);
    block_node_unref(r->n);
    r->n = NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct whole whole[G_N_ELEMENTS(variants)];
    static struct run r;
    struct input in = { data, size };
    size_t v = take(&in, 1) % G_N_ELEMENTS(variants);
    for (size_t i = 0; i < G_N_ELEMENTS(variants); i++) {
        if (!whole[i].data)
            make_whole(&whole[i], variants[i]);
    }
    r = (struct run){ .g = block_graph_create(), .in = in, .fd = memfd_create("image", MFD_CLOEXEC) };
    g_assert_cmpint(pwrite(r.fd, whole[v].data, whole[v].size, 0), ==, (ssize_t)whole[v].size);
    for (size_t i = 0; i < sizeof(r.buffer); i++)
        r.buffer[i] = (uint8_t)(i * 3);
    damage(&r, &whole[v]);
    reopen(&r, take(&r.in, 1) & 1 ? 0 : BLOCK_RDWR);
    play(&r);
    look_at_the_end(&r);
    block_node_unref(r.n);
    block_graph_destroy(r.g);
    close(r.fd);
    return 0;
}
