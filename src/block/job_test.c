/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Jobs beside a disk that is being written to: several writers all the while, a model of what the disk holds, and the data after. */
#include "block/job.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>

#include "base/error.h"
#include "block/bitmap.h"
#include "block/driver.h"
#include "block/fence.h"

enum { SIZE = 8 << 20, WRITERS = 3, REGION = SIZE / 4 }; /* the last quarter is written by nobody */

struct fixture {
    char *dir;
    struct block_graph *g;
    struct block_jobs *jobs;
    struct block_device *disk;
    uint8_t *model, *start;   /* what the disk holds; what it held when the job began */
    gint stop, writes;
    GThread *writers[WRITERS];
};

struct later { void (*fn)(void *arg); void *arg; };
static gboolean call(void *opaque)
{
    struct later *l = opaque;
    l->fn(l->arg);
    return G_SOURCE_REMOVE;
}

static void later(void *opaque, void (*fn)(void *arg), void *arg)
{
    struct later l = { fn, arg };
    g_idle_add_full(G_PRIORITY_DEFAULT, call, g_memdup2(&l, sizeof(l)), g_free);
}

static char *path(struct fixture *f, const char *name)
{
    return g_build_filename(f->dir, name, NULL);
}

/* An image, made and open; backing: the node of another one. */
static struct block_node *image(struct fixture *f, const char *name, struct block_node *backing)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *file = path(f, name);
    keyval_auto *options = keyval_new(), *kv = keyval_new();
    struct block_create c = { .size = SIZE, .options = options, .backing_file = backing ? block_node_filename(backing) : NULL, .backing_format = "qcow2" };
    g_assert_true(block_create_image(f->g, file, "qcow2", &c, &error));
    keyval_add(kv, "driver", "qcow2");
    keyval_add(kv, "node-name", name);
    keyval_add(kv, "file.driver", "file");
    keyval_add(kv, "file.filename", file);
    keyval_add(kv, "backing", backing ? block_node_name(backing) : "");
    struct block_node *n = block_open_options(f->g, kv, BLOCK_RDWR | BLOCK_UNMAP, &error);
    g_assert_no_error(error);
    return n;
}

static void fill(struct block_node *n, uint8_t *model, uint64_t offset, uint64_t bytes, int byte)
{
    memset(model + offset, byte, bytes);
    g_assert_cmpint(block_pwrite(n, offset, bytes, model + offset, 0), ==, 0);
}

static struct block_node *base, *mid, *top; /* of one test at a time */

static void set_up(struct fixture *f, gconstpointer data)
{
    const struct block_device_options o = { .id = "d" };
    g_autoptr(GError) error = NULL;
    f->dir = g_dir_make_tmp("job_test.XXXXXX", &error);
    f->g = block_graph_create();
    f->jobs = block_jobs_create(f->g, later, NULL);
    f->model = g_malloc0(SIZE);
    base = image(f, "base", NULL);
    fill(base, f->model, 0, SIZE / 2, 1);
    mid = image(f, "mid", base);
    fill(mid, f->model, SIZE / 4, SIZE / 2, 2);
    top = image(f, "top", mid);
    fill(top, f->model, SIZE / 8 * 5, SIZE / 8 * 3, 3);
    f->disk = block_device_create(f->g, top, &o);
}

static void remove_all(const char *dir)
{
    g_autoptr(GDir) d = g_dir_open(dir, 0, NULL);
    const char *name;
    while ((name = g_dir_read_name(d))) {
        g_autofree char *file = g_build_filename(dir, name, NULL);
        g_unlink(file);
    }
    g_rmdir(dir);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    block_jobs_end(f->jobs);
    while (g_main_context_iteration(NULL, FALSE))
        ;
    block_jobs_destroy(f->jobs);
    block_device_destroy(f->disk);
    block_node_unref(top);
    block_node_unref(mid);
    block_node_unref(base);
    block_graph_destroy(f->g);
    remove_all(f->dir);
    g_free(f->dir);
    g_free(f->model);
    g_free(f->start);
}

/* ---- the guest ---- */

struct writer { struct fixture *f; unsigned number; };

static void *writer(void *opaque)
{
    struct writer *w = opaque;
    struct fixture *f = w->f;
    g_autoptr(GRand) rand = g_rand_new_with_seed(w->number + 1);
    uint64_t from = (uint64_t)w->number * REGION;
    while (!g_atomic_int_get(&f->stop)) {
        uint64_t bytes = (uint64_t)g_rand_int_range(rand, 1, 200) * 512, offset = from + (uint64_t)g_rand_int_range(rand, 0, (int)((REGION - bytes) / 512 + 1)) * 512;
        int what = g_rand_int_range(rand, 0, 8), err;
        memset(f->model + offset, what ? g_rand_int_range(rand, 4, 250) : 0, bytes);
        const struct iovec iov = { f->model + offset, bytes };
        if (what)
            err = block_do(f->disk, BLOCK_WRITE, offset, bytes, &iov, 1, 0);
        else
            err = block_do(f->disk, BLOCK_WRITE_ZEROES, offset, bytes, NULL, 0, BLOCK_MAY_UNMAP);
        g_assert_cmpint(err, ==, 0);
        g_atomic_int_inc(&f->writes);
    }
    g_free(w);
    return NULL;
}

static void write_on(struct fixture *f)
{
    g_atomic_int_set(&f->stop, 0);
    for (unsigned i = 0; i < WRITERS; i++) {
        struct writer *w = g_new(struct writer, 1);
        *w = (struct writer){ f, i };
        f->writers[i] = g_thread_new("guest", writer, w);
    }
}

static void write_off(struct fixture *f)
{
    g_atomic_int_set(&f->stop, 1);
    for (unsigned i = 0; i < WRITERS; i++)
        g_thread_join(f->writers[i]);
}

static void same(struct block_node *n, const uint8_t *wanted)
{
    g_autofree uint8_t *data = g_malloc(SIZE);
    g_assert_cmpuint(block_node_size(n), ==, SIZE);
    g_assert_cmpint(block_pread(n, 0, SIZE, data), ==, 0);
    for (size_t i = 0; i < SIZE; i++) {
        if (data[i] != wanted[i])
            g_error("'%s' has %d where %d belongs, at %#zx", block_node_name(n), data[i], wanted[i], i);
    }
}

static bool sound(struct block_node *n)
{
    struct block_check c = { 0 };
    g_autoptr(GError) error = NULL;
    block_quiesce(block_node_graph(n));
    int err = block_check(n, 0, &c, &error);
    block_resume(block_node_graph(n));
    g_assert_no_error(error);
    return !err && !c.corruptions && !c.check_errors;
}

/* Until the job is ready, or gone. */
static void wait_ready(struct fixture *f, const char *id)
{
    for (;;) {
        g_main_context_iteration(NULL, FALSE);
        json_auto *list = block_jobs_query_block(f->jobs);
        if (!json_object_array_length(list) || json_object_get_boolean(json_object_object_get(json_object_array_get_idx(list, 0), "ready")))
            return;
        g_usleep(2000);
    }
}

static void wait_gone(struct fixture *f, const char *id)
{
    while (block_job_find(f->jobs, id)) {
        g_main_context_iteration(NULL, FALSE);
        g_usleep(1000);
    }
}

static void wait_writes(struct fixture *f, int n)
{
    int from = g_atomic_int_get(&f->writes);
    while (g_atomic_int_get(&f->writes) - from < n)
        g_usleep(1000);
}

static const struct block_job_options job = { .id = "j" };

/* ---- tests ---- */

enum { WRITE_BLOCKING = 1, CANCEL = 2 };

static void test_mirror(struct fixture *f, gconstpointer data)
{
    unsigned how = GPOINTER_TO_UINT(data);
    g_autoptr(GError) error = NULL;
    block_node_auto *to = image(f, "to", NULL);
    const struct block_mirror m = { .source = top, .target = to, .sync = BLOCK_SYNC_FULL, .write_blocking = how & WRITE_BLOCKING };
    write_on(f);
    struct block_job *j = block_job_mirror(f->jobs, &job, &m, &error);
    g_assert_no_error(error);
    wait_ready(f, "j");
    wait_writes(f, 200);
    j = block_job_find(f->jobs, "j");
    g_assert_nonnull(j);
    if (how & CANCEL) {
        write_off(f); /* so that it is known what the copy must hold */
        g_assert_true(block_job_cancel(j, false, &error));
        wait_gone(f, "j");
        g_assert_true(block_device_node(f->disk) == top);
    } else {
        while (!block_job_complete(j, NULL))
            g_usleep(1000);
        wait_gone(f, "j");
        g_assert_true(block_device_node(f->disk) == to);
        wait_writes(f, 50);
        write_off(f);
    }
    same(to, f->model);
    g_assert_true(sound(to) && sound(top));
}

static void test_backup(struct fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    block_node_auto *to = image(f, "to", NULL);
    const struct block_backup b = { .source = top, .target = to, .sync = BLOCK_SYNC_FULL };
    f->start = g_memdup2(f->model, SIZE);
    struct block_job *j = block_job_backup(f->jobs, &job, &b, &error);
    g_assert_no_error(error);
    g_assert_nonnull(j);
    write_on(f);
    wait_gone(f, "j");
    wait_writes(f, 50);
    write_off(f);
    same(to, f->start);
    same(top, f->model);
    g_assert_true(sound(to) && sound(top));
}

/* Two backups by one bitmap: after the second the copy is what the disk was when that began. */
static void test_incremental(struct fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    block_node_auto *to = image(f, "to", NULL);
    block_quiesce(f->g);
    struct block_bitmap *bitmap = block_bitmap_create(top, "b", 0, &error);
    block_resume(f->g);
    const struct block_backup full = { .source = top, .target = to, .sync = BLOCK_SYNC_FULL };
    const struct block_backup more = { .source = top, .target = to, .sync = BLOCK_SYNC_INCREMENTAL, .bitmap = bitmap };
    g_assert_nonnull(block_job_backup(f->jobs, &job, &full, &error));
    write_on(f);
    wait_gone(f, "j");
    wait_writes(f, 100);
    write_off(f);
    f->start = g_memdup2(f->model, SIZE);
    g_assert_nonnull(block_job_backup(f->jobs, &job, &more, &error));
    write_on(f);
    wait_gone(f, "j");
    wait_writes(f, 50);
    write_off(f);
    same(to, f->start);
    same(top, f->model);
    g_assert_cmpuint(block_bitmap_count(bitmap), >, 0);
    g_assert_false(block_bitmap_busy(bitmap));
}

/* A target that stands on the disk shows what that held when the job began, while it is being written to. */
static void test_old_content(struct fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    block_node_auto *to = image(f, "to", top);
    const struct block_backup b = { .source = top, .target = to, .sync = BLOCK_SYNC_NONE };
    g_autofree uint8_t *got = g_malloc(SIZE);
    f->start = g_memdup2(f->model, SIZE);
    struct block_job *j = block_job_backup(f->jobs, &job, &b, &error);
    g_assert_no_error(error);
    write_on(f);
    for (unsigned i = 0; i < 3000; i++) {
        uint64_t offset = (uint64_t)g_random_int_range(0, SIZE - 65536);
        struct block_status s;
        block_enter(f->g);
        g_assert_cmpint(block_pread(to, offset, 65536, got), ==, 0);
        g_assert_cmpint(block_status_chain(to, NULL, offset, 65536, &s), ==, 0);
        block_leave(f->g);
        g_assert_cmpint(memcmp(got, f->start + offset, 65536), ==, 0);
        for (uint64_t k = 0; s.flags & BLOCK_STATUS_ZERO && k < s.bytes; k++)
            g_assert_cmpint(f->start[offset + k], ==, 0);
    }
    write_off(f);
    same(to, f->start);
    same(top, f->model);
    g_assert_true(block_job_cancel(j, true, &error));
    wait_gone(f, "j");
    g_assert_true(sound(to) && sound(top));
}

static void *write_nines(void *opaque)
{
    struct fixture *f = opaque;
    g_autofree uint8_t *nines = g_malloc(65536);
    memset(nines, 9, 65536);
    block_enter(f->g);
    g_assert_cmpint(block_pwrite(top, 0, 65536, nines, 0), ==, 0);
    block_leave(f->g);
    return NULL;
}

/* Whoever has looked into the target and not yet at the disk is waited for. */
static void test_write_waits_for_a_reader(struct fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    block_node_auto *to = image(f, "to", top);
    const struct block_backup b = { .source = top, .target = to, .sync = BLOCK_SYNC_NONE };
    struct block_fence_reader r;
    struct block_status s = { 0 };
    uint8_t byte;
    struct block_job *j = block_job_backup(f->jobs, &job, &b, &error);
    g_assert_no_error(error);
    g_assert_cmpint(block_fence_enter(to->fence, &r, 0, 65536), ==, 0);
    GThread *writer = g_thread_new("writer", write_nines, f);
    while (!(s.flags & BLOCK_STATUS_ALLOCATED))
        g_assert_cmpint(block_status(to, 0, 65536, &s), ==, 0);
    for (unsigned i = 0; i < 50; i++, g_usleep(1000)) {
        g_assert_cmpint(block_pread(top, 0, 1, &byte), ==, 0);
        g_assert_cmpint(byte, ==, 1);
    }
    block_fence_leave(to->fence, &r);
    g_thread_join(writer);
    g_assert_cmpint(block_pread(top, 0, 1, &byte), ==, 0);
    g_assert_cmpint(byte, ==, 9);
    g_assert_cmpint(block_pread(to, 0, 1, &byte), ==, 0);
    g_assert_cmpint(byte, ==, 1);
    block_fence_break(to->fence);
    g_assert_cmpint(block_pread(to, 0, 1, &byte), ==, EIO);
    g_assert_true(block_job_cancel(j, true, &error));
    wait_gone(f, "j");
}

static void test_stream(struct fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    const struct block_stream s = { .node = top, .base = data ? base : NULL };
    write_on(f);
    g_assert_nonnull(block_job_stream(f->jobs, &job, &s, &error));
    g_assert_no_error(error);
    wait_gone(f, "j");
    wait_writes(f, 50);
    write_off(f);
    g_assert_true(block_backing(top) == (data ? base : NULL));
    same(top, f->model);
    g_assert_true(sound(top));
}

static void test_commit(struct fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    const struct block_commit c = { .active = top, .top = data ? top : mid, .base = base };
    write_on(f);
    struct block_job *j = block_job_commit(f->jobs, &job, &c, &error);
    g_assert_no_error(error);
    if (data) {
        wait_ready(f, "j");
        wait_writes(f, 100);
        while (!block_job_complete(j, NULL))
            g_usleep(1000);
    }
    wait_gone(f, "j");
    wait_writes(f, 50);
    write_off(f);
    g_assert_true(data ? block_device_node(f->disk) == base : block_backing(top) == base);
    same(block_device_node(f->disk), f->model);
    g_assert_true(sound(base) && sound(top));
}

/* Cancelled by force in the midst: the disk has lost nothing. */
static void test_cancel(struct fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    const struct block_stream s = { .node = top };
    const struct block_job_options slow = { .id = "j", .speed = 1 << 20 };
    write_on(f);
    struct block_job *j = block_job_stream(f->jobs, &slow, &s, &error);
    g_assert_no_error(error);
    wait_writes(f, 50);
    g_assert_true(block_job_pause(j, &error));
    wait_writes(f, 50);
    g_assert_true(block_job_cancel(j, true, &error));
    wait_gone(f, "j");
    write_off(f);
    g_assert_true(block_backing(top) == mid && !block_node_blocked(top) && !block_node_blocked(base));
    same(top, f->model);
    g_assert_true(sound(top));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, data, fn) g_test_add("/job/" name, struct fixture, GUINT_TO_POINTER(data), set_up, fn, tear_down)
    ADD("mirror", 0, test_mirror);
    ADD("mirror-write-blocking", WRITE_BLOCKING, test_mirror);
    ADD("mirror-cancel", CANCEL, test_mirror);
    ADD("backup", 0, test_backup);
    ADD("old-content", 0, test_old_content);
    ADD("write-waits-for-a-reader", 0, test_write_waits_for_a_reader);
    ADD("incremental", 0, test_incremental);
    ADD("stream", 0, test_stream);
    ADD("stream-base", 1, test_stream);
    ADD("commit", 0, test_commit);
    ADD("commit-active", 1, test_commit);
    ADD("cancel", 0, test_cancel);
    return g_test_run();
}
