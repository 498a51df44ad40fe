/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The block layer's NBD server and client without a machine, for tests:
 *
 *   nbdtool serve SOCKET|PORT [-w] [-d] [-n NAME] [-D DESCRIPTION] [-b BITMAP]... [-m MAX] OPTIONS
 *       exports the node of these -blockdev options until standard input is at its end; -w writable; -d with allocation depth;
 *       "remove" on standard input takes the export away.
 *   nbdtool io FILENAME|OPTIONS
 *       commands on standard input, one line each, answered by "ok ..." or "error TEXT": read OFFSET BYTES (prints a checksum and
 *       whether all is the same byte), write OFFSET BYTES BYTE, zero OFFSET BYTES, discard OFFSET BYTES, flush, status OFFSET BYTES,
 *       size, load THREADS SECONDS BYTES (random reads), bg-read OFFSET BYTES (answers later).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "block/bitmap.h"
#include "block/nbd_address.h"
#include "block/nbd_server.h"
#include "block/node.h"

static void die(GError *error)
{
    fprintf(stderr, "nbdtool: %s\n", error ? error->message : "usage: see the top of nbdtool.c");
    exit(1);
}

static struct block_node *open_any(struct block_graph *g, const char *what, unsigned flags)
{
    GError *error = NULL;
    struct block_node *n;
    if (g_str_has_prefix(what, "driver=")) {
        keyval_auto *kv = keyval_parse(what, NULL, &error);
        n = kv ? block_open_options(g, kv, flags, &error) : NULL;
    } else {
        n = block_open_filename(g, what, strstr(what, "nbd") ? "raw" : NULL, NULL, flags, &error);
    }
    if (!n)
        die(error);
    return n;
}

/* ---- serve ---- */

struct serving {
    GMainLoop *loop;
    struct nbd_server *server;
    struct nbd_export *export;
};

static void on_gone(void *opaque, struct nbd_export *e)
{
    printf("gone %s\n", nbd_export_id(e));
    fflush(stdout);
    ((struct serving *)opaque)->export = NULL;
}

static gboolean on_input(GIOChannel *c, GIOCondition cond, gpointer opaque)
{
    struct serving *s = opaque;
    g_autofree char *line = NULL;
    if (g_io_channel_read_line(c, &line, NULL, NULL, NULL) != G_IO_STATUS_NORMAL) {
        g_main_loop_quit(s->loop);
        return G_SOURCE_REMOVE;
    }
    if (g_str_has_prefix(line, "remove") && s->export)
        nbd_export_remove(s->export);
    return G_SOURCE_CONTINUE;
}

static struct nbd_address address_of(const char *text)
{
    GError *error = NULL;
    struct nbd_address a;
    keyval_auto *kv = keyval_new();
    bool port = strspn(text, "0123456789") == strlen(text);
    keyval_add(kv, "type", port ? "inet" : "unix");
    keyval_add(kv, port ? "port" : "path", text);
    if (port)
        keyval_add(kv, "host", "127.0.0.1");
    if (!nbd_address_take(kv, true, &a, &error))
        die(error);
    return a;
}

static int serve(int argc, char **argv)
{
    GError *error = NULL;
    struct nbd_export_options o = { .name = "" };
    g_autoptr(GPtrArray) names = g_ptr_array_new(), bitmaps = g_ptr_array_new();
    unsigned max = 0;
    int i = 1;
    for (; i < argc - 1; i++) {
        if (!strcmp(argv[i], "-w"))
            o.writable = true;
        else if (!strcmp(argv[i], "-d"))
            o.allocation_depth = true;
        else if (!strcmp(argv[i], "-n"))
            o.name = argv[++i];
        else if (!strcmp(argv[i], "-D"))
            o.description = argv[++i];
        else if (!strcmp(argv[i], "-b"))
            g_ptr_array_add(names, argv[++i]);
        else if (!strcmp(argv[i], "-m"))
            max = (unsigned)atoi(argv[++i]);
    }
    struct nbd_address a = address_of(argv[0]);
    struct block_graph *g = block_graph_create();
    struct block_node *n = open_any(g, argv[argc - 1], o.writable ? BLOCK_RDWR : 0);
    for (guint k = 0; k < names->len; k++) {
        struct block_bitmap *b = block_bitmap_find(n, names->pdata[k]);
        if (!b && !(b = block_bitmap_create(n, names->pdata[k], 0, &error)))
            die(error);
        g_ptr_array_add(bitmaps, b);
    }
    o.bitmaps = bitmaps->len ? bitmaps : NULL;
    struct serving s = { .loop = g_main_loop_new(NULL, FALSE), .server = nbd_server_start(&a, max, &error) };
    if (!s.server || !(s.export = nbd_server_add(s.server, n, &o, on_gone, &s, &error)))
        die(error);
    printf("ready\n");
    fflush(stdout);
    g_io_add_watch(g_io_channel_unix_new(0), G_IO_IN | G_IO_HUP, on_input, &s);
    g_main_loop_run(s.loop);
    nbd_server_stop(s.server);
    nbd_address_clear(&a);
    block_node_unref(n);
    block_graph_destroy(g);
    g_main_loop_unref(s.loop);
    return 0;
}

/* ---- io ---- */

struct work {
    struct block_node *node;
    uint64_t offset, bytes;
    gint64 until;
    uint64_t done;
    unsigned seed;
    int err;
};

static void *background_read(void *opaque)
{
    struct work *w = opaque;
    g_autofree void *buffer = g_malloc(w->bytes);
    int err = block_pread(w->node, w->offset, w->bytes, buffer);
    printf("bg %s\n", err ? g_strerror(err) : "ok");
    fflush(stdout);
    return NULL;
}

static void *load(void *opaque)
{
    struct work *w = opaque;
    g_autofree void *buffer = g_malloc(w->bytes);
    uint64_t blocks = block_node_size(w->node) / w->bytes;
    while (!w->err && g_get_monotonic_time() < w->until) {
        w->err = block_pread(w->node, (uint64_t)rand_r(&w->seed) % blocks * w->bytes, w->bytes, buffer);
        w->done++;
    }
    return NULL;
}

static void run_load(struct block_node *n, unsigned threads, unsigned seconds, uint64_t bytes)
{
    struct work w[64];
    GThread *t[64];
    uint64_t done = 0;
    for (unsigned i = 0; i < threads && i < 64; i++) {
        w[i] = (struct work) { n, 0, bytes, g_get_monotonic_time() + seconds * G_USEC_PER_SEC, .seed = i };
        t[i] = g_thread_new("load", load, &w[i]);
    }
    for (unsigned i = 0; i < threads && i < 64; i++) {
        g_thread_join(t[i]);
        done += w[i].done;
        if (w[i].err)
            printf("error %s ", g_strerror(w[i].err));
    }
    printf("ok %" G_GUINT64_FORMAT " per second\n", done / MAX(seconds, 1));
}

static void run_line(struct block_graph *g, struct block_node *n, const char *line)
{
    char op[16] = "";
    unsigned long long offset = 0, bytes = 0, more = 0;
    sscanf(line, "%15s %llu %llu %llu", op, &offset, &bytes, &more);
    g_autofree uint8_t *buffer = !strcmp(op, "read") || !strcmp(op, "write") ? g_malloc(bytes + 1) : NULL;
    struct block_status st;
    int err = 0;
    if (!strcmp(op, "read")) {
        struct iovec iov[2] = { { buffer, bytes / 2 }, { buffer + bytes / 2, bytes - bytes / 2 } };
        err = block_preadv(n, offset, bytes, iov, 2);
        bool same = true;
        for (unsigned long long i = 1; i < bytes; i++)
            same &= buffer[i] == buffer[0];
        g_autofree char *sum = g_compute_checksum_for_data(G_CHECKSUM_SHA256, buffer, bytes);
        if (!err)
            printf("ok %s %s %d\n", sum, same ? "same" : "mixed", buffer[0]);
    } else if (!strcmp(op, "write")) {
        memset(buffer, (int)more, bytes);
        err = block_pwrite(n, offset, bytes, buffer, strstr(line, "fua") ? BLOCK_FUA : 0);
    } else if (!strcmp(op, "zero")) {
        err = block_write_zeroes(n, offset, bytes, more ? BLOCK_MAY_UNMAP : 0);
    } else if (!strcmp(op, "discard")) {
        err = block_discard(n, offset, bytes);
    } else if (!strcmp(op, "flush")) {
        err = block_flush(n);
    } else if (!strcmp(op, "status")) {
        err = block_status(n, offset, bytes, &st);
        if (!err)
            printf("ok %" G_GUINT64_FORMAT "%s%s\n", st.bytes, st.flags & BLOCK_STATUS_DATA ? " data" : "", st.flags & BLOCK_STATUS_ZERO ? " zero" : "");
    } else if (!strcmp(op, "size")) {
        printf("ok %" G_GUINT64_FORMAT "\n", block_node_size(n));
    } else if (!strcmp(op, "load")) {
        run_load(n, (unsigned)offset, (unsigned)bytes, more);
    } else if (!strcmp(op, "bg-read")) {
        static struct work w;
        w = (struct work) { n, offset, bytes };
        g_thread_unref(g_thread_new("bg", background_read, &w));
        printf("ok\n");
    } else {
        printf("error unknown command\n");
    }
    if (err)
        printf("error %s\n", g_strerror(err));
    else if (!strcmp(op, "write") || !strcmp(op, "zero") || !strcmp(op, "discard") || !strcmp(op, "flush"))
        printf("ok\n");
    fflush(stdout);
}

static int io(int argc, char **argv)
{
    struct block_graph *g = block_graph_create();
    struct block_node *n = open_any(g, argv[0], BLOCK_RDWR | BLOCK_AUTO_READ_ONLY | BLOCK_UNMAP);
    char line[256];
    printf("ready\n");
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin)) {
        block_enter(g);
        run_line(g, n, line);
        block_leave(g);
    }
    block_node_unref(n);
    block_graph_destroy(g);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc >= 4 && !strcmp(argv[1], "serve"))
        return serve(argc - 2, argv + 2);
    if (argc == 3 && !strcmp(argv[1], "io"))
        return io(argc - 2, argv + 2);
    die(NULL);
    return 1;
}
