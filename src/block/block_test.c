/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Raw images: what is written is read, with QEMU's programs as the judge of contents and locks. */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "block/block.h"
#include "block/queue.h"

struct fixture {
    char *dir, *path;
};

static void set_up(struct fixture *f, gconstpointer data)
{
    f->dir = g_dir_make_tmp("block_test.XXXXXX", NULL);
    g_assert_nonnull(f->dir);
    f->path = g_build_filename(f->dir, "disk.img", NULL);
    int fd = g_open(f->path, O_CREAT | O_RDWR, 0600);
    g_assert_cmpint(ftruncate(fd, 8 << 20), ==, 0);
    close(fd);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    g_unlink(f->path);
    g_rmdir(f->dir);
    g_free(f->path);
    g_free(f->dir);
}

struct wait {
    GMutex lock;
    GCond cond;
    int err;
    bool done;
};

static void done(struct block_request *r, int err)
{
    struct wait *w = r->opaque;
    g_mutex_lock(&w->lock);
    w->err = err;
    w->done = true;
    g_cond_signal(&w->cond);
    g_mutex_unlock(&w->lock);
}

static int run(struct block_device *b, enum block_op op, uint64_t offset, void *data, uint64_t n)
{
    struct iovec iov[2] = { { data, n / 3 }, { (char *)data + n / 3, n - n / 3 } };
    struct wait w = { .done = false };
    struct block_request r = { .op = op, .offset = offset, .length = n, .iov = iov, .niov = 2, .done = done, .opaque = &w };
    g_mutex_init(&w.lock);
    g_cond_init(&w.cond);
    block_submit(b, &r);
    g_mutex_lock(&w.lock);
    while (!w.done)
        g_cond_wait(&w.cond, &w.lock);
    g_mutex_unlock(&w.lock);
    block_drain(b);
    return w.err;
}

enum { WRITE_THROUGH = 1u << 31 }; /* beside enum block_open_flags */

static struct block_device *open_flags(const char *path, const char *format, unsigned flags, GError **error)
{
    struct block_graph *g = block_graph_create();
    const struct block_device_options o = { .write_through = flags & WRITE_THROUGH };
    block_node_auto *n = block_open_filename(g, path, format, NULL, flags & ~WRITE_THROUGH, error);
    if (n)
        return block_device_create(g, n, &o);
    block_graph_destroy(g);
    return NULL;
}

static void close_disk(struct block_device *b)
{
    struct block_graph *g = block_device_graph(b);
    block_device_destroy(b);
    block_graph_destroy(g);
}

static struct block_device *open_raw(struct fixture *f, unsigned flags)
{
    g_autoptr(GError) error = NULL;
    struct block_device *b = open_flags(f->path, "raw", flags | BLOCK_UNMAP, &error);
    g_assert_no_error(error);
    return b;
}

/* The peer's program; -1: not installed. */
static int peer(const char *const *argv, char **ret_output)
{
    int status;
    g_autofree char *err = NULL;
    g_autofree char *found = g_find_program_in_path(argv[0]);
    if (!found)
        return -1;
    g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, ret_output, &err, &status, NULL));
    if (ret_output && err) {
        char *all = g_strconcat(*ret_output, err, NULL);
        g_free(*ret_output);
        *ret_output = all;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

static void test_contents(struct fixture *f, gconstpointer data)
{
    struct block_device *b = open_raw(f, BLOCK_RDWR | GPOINTER_TO_UINT(data));
    static uint8_t a[70000], z[70000];
    memset(a, 0x5a, sizeof(a));
    g_assert_cmpuint(block_size(b), ==, 8 << 20);
    g_assert_cmpint(run(b, BLOCK_WRITE, 512, a, 512 * 131), ==, 0); /* neither end on a page */
    g_assert_cmpint(run(b, BLOCK_READ, 512, z, 512 * 131), ==, 0);
    g_assert_cmpmem(a, 512 * 131, z, 512 * 131);
    g_assert_cmpint(run(b, BLOCK_READ, 0, z, 512), ==, 0);
    g_assert_cmpint(z[511], ==, 0);
    g_assert_cmpint(run(b, BLOCK_WRITE_ZEROES, 1024, NULL, 1024), ==, 0);
    g_assert_cmpint(run(b, BLOCK_READ, 1024, z, 2048), ==, 0);
    g_assert_cmpint(z[0] | z[1023], ==, 0);
    g_assert_cmpint(z[1024], ==, 0x5a);
    g_assert_cmpint(run(b, BLOCK_DISCARD, 8192, NULL, 8192), ==, 0);
    g_assert_cmpint(run(b, BLOCK_FLUSH, 0, NULL, 0), ==, 0);
    g_assert_cmpint(run(b, BLOCK_READ, (8 << 20) - 512, z, 1024), !=, 0); /* past the end */
    g_assert_cmpint(run(b, BLOCK_WRITE, ~0ull - 511, z, 1024), !=, 0);
    close_disk(b);
    const char *argv[] = { "qemu-io", "-f", "raw", "-c", "read -P 0x5a 512 512", "-c", "read -P 0 1024 1024", "-c", "read -P 0x5a 2048 512",
                           "-c", "read -P 0 67584 512", f->path, NULL };
    g_autofree char *out = NULL;
    int rc = peer(argv, &out);
    if (rc < 0) {
        g_test_skip("qemu-io is not installed: contents were not judged by it");
        return;
    }
    g_assert_cmpint(rc, ==, 0);
    g_assert_null(strstr(out, "verification failed"));
}

static void test_locks(struct fixture *f, gconstpointer data)
{
    const char *argv[] = { "qemu-io", "-f", "raw", "-c", "write -P 1 0 512", f->path, NULL };
    const char *argv_ro[] = { "qemu-io", "-r", "-f", "raw", "-c", "read 0 512", f->path, NULL };
    g_autofree char *out = NULL, *out2 = NULL, *out3 = NULL;
    struct block_device *b = open_raw(f, BLOCK_RDWR);
    int rc = peer(argv, &out);
    if (rc < 0) {
        close_disk(b);
        g_test_skip("qemu-io is not installed: locks were not judged by it");
        return;
    }
    g_assert_cmpint(rc, !=, 0);
    g_assert_nonnull(strstr(out, "lock"));
    const char *info[] = { "qemu-img", "resize", "-f", "raw", f->path, "9M", NULL };
    g_assert_cmpint(peer(info, &out3), !=, 0);
    g_assert_nonnull(strstr(out3, "lock"));
    close_disk(b);
    b = open_raw(f, 0); /* two readers get along, a writer is kept out */
    g_assert_cmpint(peer(argv_ro, &out2), ==, 0);
    g_clear_pointer(&out, g_free);
    g_assert_cmpint(peer(argv, &out), !=, 0);
    close_disk(b);
    g_clear_pointer(&out, g_free);
    g_assert_cmpint(peer(argv, &out), ==, 0);
}

/* The other way round: while QEMU's program has the image, it is refused here. */
static void test_refused(struct fixture *f, gconstpointer data)
{
    const char *argv[] = { "qemu-io", "-f", "raw", f->path, NULL };
    g_autofree char *found = g_find_program_in_path(argv[0]);
    g_autoptr(GError) error = NULL;
    int in, out;
    GPid pid;
    char prompt[8];
    if (!found) {
        g_test_skip("qemu-io is not installed: its locks were not tried");
        return;
    }
    g_assert_true(g_spawn_async_with_pipes(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &pid, &in, &out, NULL, NULL));
    g_assert_cmpint(read(out, prompt, sizeof(prompt)), >, 0); /* it has opened the image when it prompts */
    g_assert_null(open_flags(f->path, "raw", BLOCK_RDWR, &error));
    g_assert_error(error, VIREO_ERROR, VIREO_ERROR_BUSY);
    g_assert_nonnull(strstr(error->message, "(qemu-io)"));
    close(in);
    close(out);
}

static void test_two_here(struct fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    struct block_device *b = open_raw(f, BLOCK_RDWR);
    g_assert_null(open_flags(f->path, "raw", BLOCK_RDWR, &error));
    g_assert_error(error, VIREO_ERROR, VIREO_ERROR_BUSY);
    close_disk(b);
}

static void test_missing(struct fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL, error2 = NULL;
    g_assert_null(open_flags("/nonexistent/disk", "raw", BLOCK_RDWR, &error));
    g_assert_error(error, VIREO_ERROR, VIREO_ERROR_NOT_FOUND);
    g_assert_null(open_flags(f->path, "nothing", BLOCK_RDWR, &error2));
    g_assert_nonnull(strstr(error2->message, "nothing"));
}

static void test_odd_size(struct fixture *f, gconstpointer data)
{
    uint8_t z[512];
    g_assert_cmpint(truncate(f->path, 1000), ==, 0);
    struct block_device *b = open_raw(f, BLOCK_DIRECT);
    memset(z, 1, sizeof(z));
    g_assert_cmpuint(block_size(b), ==, 1024);
    g_assert_cmpint(run(b, BLOCK_READ, 512, z, 512), ==, 0);
    g_assert_cmpint(z[511], ==, 0); /* past the end of the file */
    g_assert_cmpint(run(b, BLOCK_WRITE, 0, z, 512), ==, EROFS);
    close_disk(b);
}

/* ---- queues ---- */

enum { Q_SIZE = 1 << 20, Q_UNIT = 4096, Q_DEPTH = 16 };
struct many {
    struct block_request r;
    struct iovec iov;
    uint8_t *buffer;
    unsigned unit;
    bool busy;
    unsigned *completed;
};

static void many_done(struct block_request *r, int err)
{
    struct many *m = r->opaque;
    g_assert_cmpint(err, ==, 0);
    m->busy = false;
    ++*m->completed;
}

/* Random reads and writes of units, no two of one unit at a time, against a model in memory. */
static void test_queue(struct fixture *f, gconstpointer data)
{
    struct block_device *b = open_raw(f, BLOCK_RDWR | GPOINTER_TO_UINT(data));
    struct block_queue *q = block_queue_create(block_device_graph(b), Q_DEPTH);
    struct many m[Q_DEPTH] = { 0 };
    bool taken[Q_SIZE / Q_UNIT] = { false };
    uint8_t model[Q_SIZE / Q_UNIT] = { 0 };
    unsigned completed = 0, rounds = 4000;
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);
    for (unsigned i = 0; i < rounds; i++) {
        struct many *x = &m[i % Q_DEPTH];
        while (x->busy)
            block_queue_reap(q, true);
        if (x->buffer && x->r.op == BLOCK_READ) {
            g_assert_cmpint(x->buffer[0], ==, model[x->unit]);
            g_assert_cmpint(x->buffer[Q_UNIT - 1], ==, model[x->unit]);
        }
        if (!x->buffer)
            g_assert_cmpint(posix_memalign((void **)&x->buffer, 4096, Q_UNIT), ==, 0);
        else
            taken[x->unit] = false;
        do
            x->unit = (unsigned)g_rand_int_range(rand, 0, Q_SIZE / Q_UNIT);
        while (taken[x->unit]);
        taken[x->unit] = true;
        x->iov = (struct iovec){ x->buffer, Q_UNIT };
        x->completed = &completed;
        x->busy = true;
        x->r = (struct block_request){ .op = g_rand_boolean(rand) ? BLOCK_WRITE : BLOCK_READ, .offset = (uint64_t)x->unit * Q_UNIT, .length = Q_UNIT,
                                       .iov = &x->iov, .niov = 1, .done = many_done, .opaque = x };
        if (x->r.op == BLOCK_WRITE)
            memset(x->buffer, model[x->unit] = (uint8_t)g_rand_int_range(rand, 1, 256), Q_UNIT);
        block_queue_add(q, b, &x->r);
    }
    while (block_queue_inflight(q))
        block_queue_reap(q, true);
    g_assert_cmpuint(completed, ==, rounds);
    for (unsigned i = 0; i < Q_DEPTH; i++)
        free(m[i].buffer);
    block_queue_destroy(q);
    struct block_stats stats;
    block_device_stats(b, &stats);
    g_assert_cmpuint(stats.operations[BLOCK_READ] + stats.operations[BLOCK_WRITE], ==, rounds);
    close_disk(b);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, data, fn) g_test_add("/block/" name, struct fixture, data, set_up, fn, tear_down)
    ADD("writeback", GUINT_TO_POINTER(0), test_contents);
    ADD("none", GUINT_TO_POINTER(BLOCK_DIRECT), test_contents);
    ADD("writethrough", GUINT_TO_POINTER(WRITE_THROUGH), test_contents);
    ADD("directsync", GUINT_TO_POINTER(BLOCK_DIRECT | WRITE_THROUGH), test_contents);
    ADD("unsafe", GUINT_TO_POINTER(BLOCK_NO_FLUSH), test_contents);
    ADD("locks", NULL, test_locks);
    ADD("refused", NULL, test_refused);
    ADD("two", NULL, test_two_here);
    ADD("missing", NULL, test_missing);
    ADD("queue/writeback", GUINT_TO_POINTER(0), test_queue);
    ADD("queue/none", GUINT_TO_POINTER(BLOCK_DIRECT), test_queue);
    ADD("queue/directsync", GUINT_TO_POINTER(BLOCK_DIRECT | WRITE_THROUGH), test_queue);
    ADD("odd-size", NULL, test_odd_size);
    return g_test_run();
}
