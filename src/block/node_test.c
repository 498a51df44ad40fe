/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Nodes: how they are named and opened, what errors say, who gets in while the graph is changed. */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "block/block.h"

enum { SIZE = 1 << 20 };

struct fixture {
    char *dir, *path;
    struct block_graph *g;
};

static void set_up(struct fixture *f, gconstpointer data)
{
    f->dir = g_dir_make_tmp("node_test.XXXXXX", NULL);
    f->path = g_build_filename(f->dir, "disk.img", NULL);
    int fd = g_open(f->path, O_CREAT | O_RDWR, 0600);
    g_assert_cmpint(ftruncate(fd, SIZE), ==, 0);
    close(fd);
    f->g = block_graph_create();
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    block_graph_destroy(f->g);
    g_unlink(f->path);
    g_rmdir(f->dir);
    g_free(f->path);
    g_free(f->dir);
}

static struct block_node *open_text(struct fixture *f, const char *text, unsigned flags, GError **error)
{
    keyval_auto *kv = keyval_parse(text, NULL, NULL);
    g_assert_nonnull(kv);
    return block_open_options(f->g, kv, flags, error);
}

static void test_options(struct fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = g_strdup_printf("driver=raw,node-name=top,offset=4096,size=8192,file.driver=file,file.node-name=low,file.filename=%s", f->path);
    struct block_node *n = open_text(f, text, BLOCK_RDWR, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(block_node_size(n), ==, 8192);
    g_assert_true(block_find(f->g, "top") == n);
    g_assert_true(block_find(f->g, "low") == block_child(n, "file"));
    g_assert_cmpint(block_pwrite(n, 100, 3, "abc", BLOCK_FUA), ==, 0);
    char got[4] = "";
    g_assert_cmpint(block_pread(block_find(f->g, "low"), 4196, 3, got), ==, 0);
    g_assert_cmpstr(got, ==, "abc");
    g_assert_cmpint(block_pwrite(n, 8190, 3, "abc", 0), ==, EINVAL); /* beyond the part */
    /* A second node of that name. */
    g_assert_null(open_text(f, text, BLOCK_RDWR, &error));
    g_assert_nonnull(error);
    block_node_unref(n);
    g_assert_null(block_find(f->g, "low"));
}

static void test_by_reference(struct fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = g_strdup_printf("driver=file,node-name=low,filename=%s", f->path);
    struct block_node *low = open_text(f, text, BLOCK_RDWR, &error);
    struct block_node *n = open_text(f, "driver=raw,node-name=top,file=low", BLOCK_RDWR, &error);
    g_assert_no_error(error);
    block_node_unref(low); /* top holds it */
    g_assert_true(block_child(n, "file") == low);
    g_assert_null(open_text(f, "driver=raw,file=nobody", 0, &error));
    g_assert_nonnull(strstr(error->message, "nobody"));
    block_node_unref(n);
}

static void refuse(struct fixture *f, const char *text, const char *says)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(open_text(f, text, 0, &error));
    g_assert_nonnull(error);
    if (!strstr(error->message, says))
        g_error("the error does not say '%s': %s", says, error->message);
    g_autoptr(GPtrArray) nodes = block_nodes(f->g); /* nothing half made stays */
    g_assert_cmpuint(nodes->len, ==, 0);
}

static void test_errors(struct fixture *f, gconstpointer data)
{
    refuse(f, "node-name=x", "driver");
    refuse(f, "driver=nothing", "nothing");
    refuse(f, "driver=raw", "\"file\"");
    refuse(f, "driver=file,filename=/nonexistent/x", "/nonexistent/x");
    refuse(f, "driver=raw,file.driver=file,file.filename=/dev/null", "/dev/null");
    g_autofree char *unknown = g_strdup_printf("driver=raw,file.driver=file,file.filename=%s,speed=9", f->path);
    refuse(f, unknown, "speed");
    g_autofree char *name = g_strdup_printf("driver=file,node-name=1x,filename=%s", f->path);
    refuse(f, name, "1x");
    g_autofree char *detect = g_strdup_printf("driver=raw,detect-zeroes=unmap,file.driver=file,file.filename=%s", f->path);
    refuse(f, detect, "discard=unmap");
    g_autofree char *both = g_strdup_printf("driver=raw,file=a,file.filename=%s", f->path);
    refuse(f, both, "file");
}

static void test_json(struct fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *name = g_strdup_printf("json:{\"driver\": \"raw\", \"size\": 4096, \"file\": {\"driver\": \"file\", \"filename\": \"%s\"}}", f->path);
    block_node_auto *n = block_open_filename(f->g, name, NULL, NULL, 0, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(block_node_size(n), ==, 4096);
    g_assert_cmpint(block_pwrite(n, 0, 1, "x", 0), ==, EROFS);
}

static void test_zeroes(struct fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = g_strdup_printf("driver=raw,discard=unmap,detect-zeroes=unmap,file.driver=file,file.filename=%s", f->path);
    block_node_auto *n = open_text(f, text, BLOCK_RDWR, &error);
    g_assert_no_error(error);
    g_autofree uint8_t *buffer = g_malloc(SIZE);
    memset(buffer, 7, SIZE);
    g_assert_cmpint(block_pwrite(n, 0, SIZE, buffer, 0), ==, 0);
    uint64_t full = block_node_allocated(n);
    memset(buffer, 0, SIZE);
    g_assert_cmpint(block_pwrite(n, SIZE / 2, SIZE / 2, buffer, 0), ==, 0);
    g_assert_cmpuint(block_node_allocated(n), <, full); /* zeroes were found and freed */
    struct block_status s;
    g_assert_cmpint(block_status(n, 0, SIZE, &s), ==, 0);
    g_assert_true(s.flags & BLOCK_STATUS_DATA && !(s.flags & BLOCK_STATUS_ZERO));
    g_assert_cmpuint(s.bytes, ==, SIZE / 2);
    g_assert_cmpint(block_status_chain(n, NULL, SIZE / 2, SIZE / 2, &s), ==, 0);
    g_assert_true(s.flags & BLOCK_STATUS_ZERO && s.flags & BLOCK_STATUS_EOF);
    g_assert_cmpuint(s.bytes, ==, SIZE / 2);
}

static void test_size(struct fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    block_node_auto *n = block_open_filename(f->g, f->path, "raw", NULL, BLOCK_RDWR, &error);
    g_assert_true(block_truncate(n, 2 * SIZE, true, "falloc", &error));
    g_assert_cmpuint(block_node_size(n), ==, 2 * SIZE);
    g_assert_cmpuint(block_node_allocated(n), >=, SIZE);
    g_assert_true(block_truncate(n, SIZE, true, NULL, &error));
    g_assert_false(block_truncate(n, SIZE * 2, true, "metadata", &error));
    g_assert_cmpuint(block_node_size(n), ==, SIZE);
}

static void test_reopen(struct fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    block_node_auto *n = block_open_filename(f->g, f->path, "raw", NULL, 0, &error);
    block_quiesce(f->g);
    g_assert_true(block_reopen(n, NULL, BLOCK_RDWR, &error));
    block_resume(f->g);
    g_assert_cmpint(block_pwrite(n, 0, 1, "x", 0), ==, 0);
    block_quiesce(f->g);
    g_assert_true(block_reopen(n, NULL, 0, &error));
    block_resume(f->g);
    g_assert_cmpint(block_pwrite(n, 0, 1, "y", 0), ==, EROFS);
    char got;
    g_assert_cmpint(block_pread(n, 0, 1, &got), ==, 0);
    g_assert_cmpint(got, ==, 'x');
}

/* ---- the gate ---- */

struct gate {
    struct block_graph *g;
    gint inside, wrong, stop, entered;
};

static void *enters(void *opaque)
{
    struct gate *s = opaque;
    while (!g_atomic_int_get(&s->stop)) {
        block_enter(s->g);
        g_atomic_int_inc(&s->inside);
        g_atomic_int_inc(&s->entered);
        g_thread_yield();
        g_atomic_int_add(&s->inside, -1);
        block_leave(s->g);
    }
    return NULL;
}

static void *changes(void *opaque)
{
    struct gate *s = opaque;
    for (int i = 0; i < 300; i++) {
        block_quiesce(s->g);
        block_quiesce(s->g); /* nests */
        if (g_atomic_int_get(&s->inside) || block_try_enter(s->g))
            g_atomic_int_inc(&s->wrong);
        block_resume(s->g);
        g_thread_yield();
        if (g_atomic_int_get(&s->inside))
            g_atomic_int_inc(&s->wrong);
        block_resume(s->g);
    }
    return NULL;
}

static void test_gate(struct fixture *f, gconstpointer data)
{
    struct gate s = { .g = f->g };
    GThread *t[5];
    for (int i = 0; i < 5; i++)
        t[i] = g_thread_new("t", i < 3 ? enters : changes, &s);
    g_thread_join(t[3]);
    g_thread_join(t[4]);
    g_atomic_int_set(&s.stop, 1);
    for (int i = 0; i < 3; i++)
        g_thread_join(t[i]);
    g_assert_cmpint(s.wrong, ==, 0);
    g_assert_cmpint(s.entered, >, 0);
}

struct watch {
    struct block_watch w;
    uint64_t before, after;
    int err;
};

static int on_before(struct block_watch *w, uint64_t offset, uint64_t bytes)
{
    struct watch *x = (struct watch *)w;
    x->before += bytes;
    return x->err;
}

static void on_after(struct block_watch *w, uint64_t offset, uint64_t bytes)
{
    ((struct watch *)w)->after += bytes;
}

static void test_watch(struct fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    block_node_auto *n = block_open_filename(f->g, f->path, "raw", NULL, BLOCK_RDWR, &error);
    struct watch x = { .w = { .before = on_before, .after = on_after } };
    block_watch_add(n, &x.w);
    g_assert_cmpint(block_pwrite(n, 0, 4, "abcd", 0), ==, 0);
    g_assert_cmpint(block_write_zeroes(n, 4096, 4096, 0), ==, 0);
    g_assert_cmpuint(x.before, ==, 4100);
    g_assert_cmpuint(x.after, ==, 4100);
    x.err = ENOSPC;
    g_assert_cmpint(block_pwrite(n, 0, 4, "zzzz", 0), ==, ENOSPC);
    g_assert_cmpuint(x.after, ==, 4100);
    char got[5] = "";
    g_assert_cmpint(block_pread(n, 0, 4, got), ==, 0);
    g_assert_cmpstr(got, ==, "abcd");
    block_watch_remove(n, &x.w);
}

/* What a device stands on is replaced while requests wait outside. */
static void counted(struct block_request *r, int err)
{
    g_atomic_int_add((gint *)r->opaque, err ? 1000 : 1);
}

static void test_replace(struct fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *second = g_build_filename(f->dir, "second.img", NULL);
    keyval_auto *none = keyval_new();
    struct block_create c = { .size = SIZE, .options = none };
    g_assert_true(block_create_image(f->g, second, "raw", &c, &error));
    block_node_auto *a = block_open_filename(f->g, f->path, "raw", NULL, BLOCK_RDWR, &error);
    block_node_auto *b = block_open_filename(f->g, second, "raw", NULL, BLOCK_RDWR, &error);
    g_assert_no_error(error);
    struct block_device *d = block_device_create(f->g, a, &(struct block_device_options){ 0 });
    gint count = 0;
    char data4[4] = "late";
    const struct iovec iov = { data4, 4 };
    struct block_request r = { .op = BLOCK_WRITE, .length = 4, .iov = &iov, .niov = 1, .done = counted, .opaque = &count };
    block_quiesce(f->g);
    block_submit(d, &r);
    g_assert_true(block_replace_node(a, b, &error));
    g_assert_true(block_device_node(d) == b);
    g_usleep(20000);
    g_assert_cmpint(g_atomic_int_get(&count), ==, 0); /* it waits */
    block_resume(f->g);
    block_drain(d);
    g_assert_cmpint(count, ==, 1);
    char got[5] = "";
    g_assert_cmpint(block_pread(b, 0, 4, got), ==, 0);
    g_assert_cmpstr(got, ==, "late");
    g_assert_cmpint(block_pread(a, 0, 4, got), ==, 0);
    g_assert_cmpint(got[0], ==, 0);
    block_device_set_node(d, NULL);
    g_assert_cmpint(block_do(d, BLOCK_READ, 0, 4, &iov, 1, 0), ==, ENOMEDIUM);
    block_device_destroy(d);
    g_unlink(second);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, fn) g_test_add("/node/" name, struct fixture, NULL, set_up, fn, tear_down)
    ADD("options", test_options);
    ADD("by-reference", test_by_reference);
    ADD("errors", test_errors);
    ADD("json", test_json);
    ADD("zeroes", test_zeroes);
    ADD("size", test_size);
    ADD("reopen", test_reopen);
    ADD("gate", test_gate);
    ADD("watch", test_watch);
    ADD("replace", test_replace);
    return g_test_run();
}
