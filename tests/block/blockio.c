/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Drives a disk image for tests: blockio OPTIONS [flags...], commands on standard input, one answer line each.
 *
 *   OPTIONS      a file name (format probed), "json:{...}", or as of -blockdev (driver=...,...)
 *   flags        ro direct unmap unsafe
 *   w OFF LEN B  write bytes B          z OFF LEN    write zeroes         zu OFF LEN   the same, may deallocate
 *   d OFF LEN    discard                f            flush                r OFF LEN B  read, all must be B
 *   c OFF LEN B  write compressed       t SIZE       truncate             s            size
 *   t SIZE PREALLOC, b FILE FORMAT (what the metadata names as backing file; - for none)
 *   load SEED N THREADS UNIT FLUSH   N random writes, zeroes, discards of up to 8 units on so many threads, a flush after each
 *                FLUSH of them. Each write is said before it begins ("begin ...") and when it is done ("done ..."), and so are flushes.
 *
 * blockio create FORMAT FILE SIZE [OPTION=VALUE,... [BACKING BACKING_FORMAT]] makes an image.
 *
 * BLOCKIO_SECRET in the environment: a secret as of --object.
 *
 * Answers: "ok", "error NAME", "differs AT".
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/block.h"

struct session {
    struct block_graph *g;
    struct block_node *n;
    struct block_device *d;
};

static int with_buffer(struct session *s, enum block_op op, uint64_t offset, uint64_t bytes, int value, unsigned flags, uint64_t *ret_differs)
{
    char *buffer = NULL;
    if (posix_memalign((void **)&buffer, 4096, MAX(bytes, 4096)))
        return ENOMEM;
    memset(buffer, op == BLOCK_READ ? ~value : value, bytes);
    const struct iovec iov = { buffer, bytes };
    int err = block_do(s->d, op, offset, bytes, &iov, 1, flags);
    *ret_differs = UINT64_MAX;
    for (uint64_t i = 0; op == BLOCK_READ && !err && i < bytes; i++) {
        if ((uint8_t)buffer[i] != (uint8_t)value) {
            *ret_differs = offset + i;
            break;
        }
    }
    free(buffer);
    return err;
}

/* ---- load ---- */

struct load {
    struct session *s;
    unsigned long long seed, count, threads, unit, flush;
    GMutex lock;  /* covers what is below, and the output */
    GCond freed;
    uint8_t *taken; /* by unit */
    uint64_t units, issued;
    GRand *rand;
};

static void say(const char *when, char what, uint64_t offset, uint64_t bytes, int value, uint64_t id)
{
    printf("%s %c %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT " %d %" G_GUINT64_FORMAT "\n", when, what, offset, bytes, value, id);
    fflush(stdout);
}

static bool overlaps(const struct load *l, uint64_t first, uint64_t n)
{
    for (uint64_t i = first; i < first + n; i++) {
        if (l->taken[i])
            return true;
    }
    return false;
}

static void *load_thread(void *opaque)
{
    struct load *l = opaque;
    uint64_t differs;
    g_mutex_lock(&l->lock);
    while (l->issued < l->count) {
        uint64_t id = ++l->issued, n, first;
        if (l->flush && id % l->flush == 0) {
            say("begin", 'f', 0, 0, 0, id);
            g_mutex_unlock(&l->lock);
            int err = block_do(l->s->d, BLOCK_FLUSH, 0, 0, NULL, 0, 0);
            g_mutex_lock(&l->lock);
            say(err ? "failed" : "done", 'f', 0, 0, err, id);
            continue;
        }
        do {
            n = 1 + g_rand_int(l->rand) % 8;
            first = g_rand_int(l->rand) % l->units;
            n = MIN(n, l->units - first);
        } while (overlaps(l, first, n));
        static const char kinds[] = "wwwwwwzud";
        char kind = kinds[g_rand_int(l->rand) % 9];
        int value = kind == 'w' ? 1 + (int)(g_rand_int(l->rand) % 255) : 0;
        memset(l->taken + first, 1, n);
        say("begin", kind, first * l->unit, n * l->unit, value, id);
        g_mutex_unlock(&l->lock);
        int err = kind == 'w'   ? with_buffer(l->s, BLOCK_WRITE, first * l->unit, n * l->unit, value, 0, &differs)
                  : kind == 'd' ? block_do(l->s->d, BLOCK_DISCARD, first * l->unit, n * l->unit, NULL, 0, 0)
                                : block_do(l->s->d, BLOCK_WRITE_ZEROES, first * l->unit, n * l->unit, NULL, 0, kind == 'u' ? BLOCK_MAY_UNMAP : 0);
        g_mutex_lock(&l->lock);
        memset(l->taken + first, 0, n);
        say(err ? "failed" : "done", kind, first * l->unit, n * l->unit, err ? err : value, id);
    }
    g_mutex_unlock(&l->lock);
    return NULL;
}

static void run_load(struct load *l)
{
    GThread *threads[16];
    l->threads = CLAMP(l->threads, 1, 16);
    l->units = block_size(l->s->d) / l->unit;
    l->taken = g_malloc0(l->units);
    l->rand = g_rand_new_with_seed((guint32)l->seed);
    g_mutex_init(&l->lock);
    for (unsigned i = 0; i < l->threads; i++)
        threads[i] = g_thread_new("load", load_thread, l);
    for (unsigned i = 0; i < l->threads; i++)
        g_thread_join(threads[i]);
    g_rand_free(l->rand);
    g_free(l->taken);
}

/* ---- commands ---- */

static void answer(int err, uint64_t differs)
{
    if (err)
        printf("error %s\n", strerrorname_np(err) ? strerrorname_np(err) : "?");
    else if (differs != UINT64_MAX)
        printf("differs %" G_GUINT64_FORMAT "\n", differs);
    else
        puts("ok");
    fflush(stdout);
}

static void command(struct session *s, const char *line)
{
    unsigned long long offset = 0, bytes = 0;
    int value = 0, err = EINVAL;
    uint64_t differs = UINT64_MAX;
    char verb[8] = "";
    struct load l = { .s = s };
    g_autoptr(GError) error = NULL;
    if (sscanf(line, "load %llu %llu %llu %llu %llu", &l.seed, &l.count, &l.threads, &l.unit, &l.flush) == 5) {
        run_load(&l);
        answer(0, UINT64_MAX);
        return;
    }
    (void)sscanf(line, "%7s %lli %lli %i", verb, (long long *)&offset, (long long *)&bytes, &value);
    if (!strcmp(verb, "w"))
        err = with_buffer(s, BLOCK_WRITE, offset, bytes, value, 0, &differs);
    else if (!strcmp(verb, "c"))
        err = with_buffer(s, BLOCK_WRITE, offset, bytes, value, BLOCK_COMPRESSED, &differs);
    else if (!strcmp(verb, "r"))
        err = with_buffer(s, BLOCK_READ, offset, bytes, value, 0, &differs);
    else if (!strcmp(verb, "z") || !strcmp(verb, "zu"))
        err = block_do(s->d, BLOCK_WRITE_ZEROES, offset, bytes, NULL, 0, verb[1] ? BLOCK_MAY_UNMAP : 0);
    else if (!strcmp(verb, "d"))
        err = block_do(s->d, BLOCK_DISCARD, offset, bytes, NULL, 0, 0);
    else if (!strcmp(verb, "f"))
        err = block_do(s->d, BLOCK_FLUSH, 0, 0, NULL, 0, 0);
    if (!strcmp(verb, "s")) {
        printf("%" G_GUINT64_FORMAT "\n", block_node_size(s->n));
        fflush(stdout);
    } else if (!strcmp(verb, "t")) {
        block_quiesce(s->g);
        char prealloc[16] = "off";
        (void)sscanf(line, "%*s %*i %15s", prealloc);
        bool ok = block_truncate(s->n, offset, true, prealloc, &error);
        block_resume(s->g);
        puts(ok ? "ok" : error->message);
        fflush(stdout);
    } else if (!strcmp(verb, "b")) {
        char file[128] = "", format[16] = "";
        (void)sscanf(line, "%*s %127s %15s", file, format);
        block_quiesce(s->g);
        bool ok = block_change_backing_file(s->n, strcmp(file, "-") ? file : NULL, *format ? format : NULL, &error);
        block_resume(s->g);
        puts(ok ? "ok" : error->message);
        fflush(stdout);
    } else {
        answer(err, differs);
    }
}

static struct secrets *secrets_from_environment(struct block_graph *g)
{
    struct secrets *s = secrets_create();
    const char *text = getenv("BLOCKIO_SECRET");
    if (text && !secrets_add(s, text, NULL))
        fprintf(stderr, "BLOCKIO_SECRET is no secret\n");
    block_graph_set_secrets(g, secrets_find, s);
    return s;
}

static int create(char **argv, int argc)
{
    g_autoptr(GError) error = NULL;
    keyval_auto *options = argc > 3 && *argv[3] ? keyval_parse(argv[3], NULL, &error) : keyval_new();
    struct block_create c = { .size = strtoull(argv[2], NULL, 0), .options = options, .backing_file = argc > 4 ? argv[4] : NULL, .backing_format = argc > 5 ? argv[5] : NULL };
    struct block_graph *g = block_graph_create();
    struct secrets *secrets = secrets_from_environment(g);
    bool ok = options && block_create_image(g, argv[1], argv[0], &c, &error);
    if (!ok)
        fprintf(stderr, "%s\n", error->message);
    block_graph_destroy(g);
    secrets_destroy(secrets);
    return !ok;
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    unsigned flags = BLOCK_RDWR;
    char line[256];
    if (argc < 2)
        return 2;
    if (argc >= 5 && !strcmp(argv[1], "create"))
        return create(argv + 2, argc - 2);
    for (int i = 2; i < argc; i++) {
        flags = !strcmp(argv[i], "ro") ? flags & ~(unsigned)BLOCK_RDWR : flags;
        flags |= !strcmp(argv[i], "direct") ? BLOCK_DIRECT : !strcmp(argv[i], "unmap") ? BLOCK_UNMAP : !strcmp(argv[i], "unsafe") ? BLOCK_NO_FLUSH : 0;
    }
    struct session s = { .g = block_graph_create() };
    struct secrets *secrets = secrets_from_environment(s.g);
    if (g_str_has_prefix(argv[1], "driver=")) {
        keyval_auto *kv = keyval_parse(argv[1], NULL, &error);
        s.n = kv ? block_open_options(s.g, kv, flags, &error) : NULL;
    } else {
        s.n = block_open_filename(s.g, argv[1], NULL, NULL, flags, &error);
    }
    if (!s.n) {
        fprintf(stderr, "%s\n", error->message);
        return 1;
    }
    s.d = block_device_create(s.g, s.n, &(struct block_device_options){ 0 });
    while (fgets(line, sizeof(line), stdin))
        command(&s, line);
    block_device_destroy(s.d);
    block_node_unref(s.n);
    block_graph_destroy(s.g);
    secrets_destroy(secrets);
    return 0;
}
