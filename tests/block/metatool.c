/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What images hold beside their content, for tests. FILE may be options as of -blockdev. Exit status 1 and one line: an error.
 *
 *   metatool check FILE [leaks|all]           one line of numbers: errors corruptions leaks corruptions-fixed leaks-fixed allocated
 *                                             fragmented compressed total end; then what is wrong
 *   metatool snapshot FILE list | create NAME [STATE-SIZE] | apply NAME | delete NAME
 *   metatool vmstate FILE write|read TEXT     at the VM state's offset 100
 *   metatool bitmap FILE list | add NAME GRANULARITY | remove|enable|disable|clear NAME | merge TO FROM | get NAME
 *   metatool amend FILE OPTIONS
 *   metatool measure SIZE DATA OPTIONS
 *   metatool copy FILE RAW [SNAPSHOT]         the content
 *   metatool info FILE
 *   metatool compress FILE RAW                writes all of RAW compressed
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "block/bitmap.h"
#include "block/block.h"
#include "block/driver.h"

struct tool {
    struct block_graph *g;
    struct block_node *n;
    char **arg;
    int args;
    GError *error;
};

static const char *arg(const struct tool *t, int i)
{
    return i < t->args ? t->arg[i] : "";
}

static bool is(const struct tool *t, int i, const char *word)
{
    return !strcmp(arg(t, i), word);
}

static void say(void *opaque, const char *line)
{
    g_string_append_printf(opaque, "%s\n", line);
}

static bool check(struct tool *t)
{
    g_autoptr(GString) lines = g_string_new(NULL);
    struct block_check c = { .say = say, .opaque = lines };
    unsigned fix = is(t, 0, "all") ? BLOCK_FIX_LEAKS | BLOCK_FIX_ERRORS : is(t, 0, "leaks") ? BLOCK_FIX_LEAKS : 0;
    block_quiesce(t->g);
    int err = block_check(t->n, fix, &c, &t->error);
    block_resume(t->g);
    printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n%s", c.check_errors,
           c.corruptions, c.leaks, c.corruptions_fixed, c.leaks_fixed, c.allocated_clusters, c.fragmented_clusters, c.compressed_clusters,
           c.total_clusters, c.image_end_offset, lines->str);
    return !err;
}

static bool snapshot_list(struct tool *t)
{
    GPtrArray *list = block_snapshot_list(t->n, &t->error);
    for (guint i = 0; list && i < list->len; i++) {
        const struct block_snapshot *s = g_ptr_array_index(list, i);
        printf("%s %s %" PRIu64 " %" PRIu64 "\n", s->id, s->name, s->vm_state_size, s->disk_size);
    }
    if (list)
        g_ptr_array_unref(list);
    return list;
}

static bool snapshot(struct tool *t)
{
    struct block_snapshot s = { .name = (char *)arg(t, 1), .date_sec = 1700000000, .icount = UINT64_MAX, .vm_state_size = strtoull(arg(t, 2), NULL, 0) };
    bool ok;
    if (is(t, 0, "list"))
        return snapshot_list(t);
    block_quiesce(t->g);
    if (is(t, 0, "create"))
        ok = block_snapshot_create(t->n, &s, &t->error);
    else if (is(t, 0, "apply"))
        ok = block_snapshot_apply(t->n, arg(t, 1), &t->error);
    else
        ok = block_snapshot_delete(t->n, arg(t, 1), &t->error);
    block_resume(t->g);
    return ok;
}

static bool vmstate(struct tool *t)
{
    char text[4096] = "";
    size_t n = MIN(strlen(arg(t, 1)) + 1, sizeof(text));
    int err;
    block_quiesce(t->g);
    if (is(t, 0, "write"))
        err = block_vmstate_write(t->n, 100, n, arg(t, 1));
    else
        err = block_vmstate_read(t->n, 100, n, text);
    block_resume(t->g);
    puts(is(t, 0, "write") || !strcmp(text, arg(t, 1)) ? "same" : "differs");
    return !err || vireo_fail_errno(&t->error, err, "vmstate");
}

static void bitmap_list(struct tool *t)
{
    for (struct block_bitmap *b = NULL; (b = block_bitmap_next(t->n, b));)
        printf("%s %u %s%s%s %" PRIu64 "\n", block_bitmap_name(b), block_bitmap_granularity(b), block_bitmap_enabled(b) ? "enabled" : "disabled",
               block_bitmap_persistent(b) ? " persistent" : "", block_bitmap_inconsistent(b) ? " inconsistent" : "", block_bitmap_count(b));
}

static void bitmap_get(const struct block_bitmap *b)
{
    uint64_t at = 0, start, bytes;
    for (; block_bitmap_next_dirty(b, at, UINT64_MAX, UINT64_MAX, &start, &bytes); at = start + bytes)
        printf("%" PRIu64 " %" PRIu64 "\n", start, bytes);
}

static bool bitmap_add(struct tool *t)
{
    uint32_t granularity = (uint32_t)strtoul(arg(t, 2), NULL, 0);
    if (!block_bitmap_check_persistent(t->n, arg(t, 1), granularity, &t->error))
        return false;
    struct block_bitmap *b = block_bitmap_create(t->n, arg(t, 1), granularity, &t->error);
    if (b)
        block_bitmap_set_persistent(b, true);
    return b;
}

static bool bitmap_change(struct tool *t, struct block_bitmap *b)
{
    struct block_bitmap *from = block_bitmap_find(t->n, arg(t, 2));
    if (is(t, 0, "remove"))
        return block_bitmap_remove(b, &t->error);
    if (is(t, 0, "get")) {
        bitmap_get(b);
        return true;
    }
    if (!block_bitmap_check(b, BLOCK_BITMAP_USABLE, &t->error))
        return false;
    if (is(t, 0, "merge"))
        return from && block_bitmap_merge(b, from, &t->error);
    if (is(t, 0, "clear"))
        block_bitmap_clear(b);
    else
        block_bitmap_set_enabled(b, is(t, 0, "enable"));
    return true;
}

static bool bitmap(struct tool *t)
{
    bool ok = true;
    block_quiesce(t->g);
    struct block_bitmap *b = block_bitmap_find(t->n, arg(t, 1));
    if (is(t, 0, "list"))
        bitmap_list(t);
    else if (is(t, 0, "add"))
        ok = bitmap_add(t);
    else
        ok = b ? bitmap_change(t, b) : vireo_fail(&t->error, VIREO_ERROR_NOT_FOUND, "Dirty bitmap '%s' not found", arg(t, 1));
    block_resume(t->g);
    return ok;
}

static bool amend(struct tool *t)
{
    keyval_auto *kv = keyval_parse(arg(t, 0), NULL, &t->error);
    block_quiesce(t->g);
    bool ok = kv && block_amend(t->n, kv, false, NULL, NULL, &t->error);
    block_resume(t->g);
    return ok;
}

static bool copy(struct tool *t)
{
    enum { PIECE = 1 << 20 };
    g_autofree char *buffer = g_malloc(PIECE);
    FILE *out = fopen(arg(t, 0), "wb");
    int err = out ? 0 : 1;
    if (*arg(t, 1) && !block_snapshot_load(t->n, arg(t, 1), &t->error))
        return false;
    block_enter(t->g);
    for (uint64_t at = 0, n; !err && at < block_node_size(t->n); at += n) {
        n = MIN(PIECE, block_node_size(t->n) - at);
        err = block_pread(t->n, at, n, buffer);
        if (fwrite(buffer, 1, n, out) != n)
            err = 1;
    }
    block_leave(t->g);
    if (out)
        fclose(out);
    return !err || vireo_fail_errno(&t->error, err, "cannot copy");
}

static bool compress(struct tool *t)
{
    struct block_info info = { 0 };
    g_autofree char *data = NULL;
    gsize bytes;
    int err = block_get_info(t->n, &info);
    if (!g_file_get_contents(arg(t, 0), &data, &bytes, &t->error))
        return false;
    block_enter(t->g);
    for (uint64_t at = 0; !err && at < bytes; at += info.cluster_size)
        err = block_pwrite(t->n, at, MIN(info.cluster_size, bytes - at), data + at, BLOCK_COMPRESSED);
    block_leave(t->g);
    return !err || vireo_fail_errno(&t->error, err, "cannot write compressed");
}

static bool info(struct tool *t)
{
    json_auto *o = block_specific_info(t->n);
    puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
    return true;
}

static bool measure(struct tool *t, const char *size)
{
    keyval_auto *kv = *arg(t, 1) ? keyval_parse(arg(t, 1), NULL, &t->error) : keyval_new();
    struct block_create c = { .size = strtoull(size, NULL, 0), .options = kv };
    uint64_t required, fully;
    if (!kv || !block_driver_find("qcow2")->measure(&c, strtoull(arg(t, 0), NULL, 0), &required, &fully, &t->error))
        return false;
    printf("%" PRIu64 " %" PRIu64 "\n", required, fully);
    return true;
}

static const struct {
    const char *name;
    bool (*run)(struct tool *t);
    unsigned flags;
} verbs[] = {
    { "check", check, BLOCK_CHECK | BLOCK_NO_BACKING }, { "snapshot", snapshot, BLOCK_RDWR }, { "vmstate", vmstate, BLOCK_RDWR }, { "bitmap", bitmap, BLOCK_RDWR },
    { "amend", amend, BLOCK_RDWR }, { "copy", copy, 0 }, { "info", info, 0 }, { "compress", compress, BLOCK_RDWR },
};

int main(int argc, char **argv)
{
    struct tool t = { .g = block_graph_create(), .arg = argv + 3, .args = argc - 3 };
    bool ok = false;
    if (argc >= 4 && !strcmp(argv[1], "measure"))
        ok = measure(&t, argv[2]);
    for (size_t i = 0; argc >= 3 && i < G_N_ELEMENTS(verbs); i++) {
        if (strcmp(argv[1], verbs[i].name))
            continue;
        unsigned flags = verbs[i].flags | (verbs[i].run == check && argc > 3 ? BLOCK_RDWR : 0);
        if (g_str_has_prefix(argv[2], "driver=")) {
            keyval_auto *kv = keyval_parse(argv[2], NULL, &t.error);
            t.n = kv ? block_open_options(t.g, kv, flags, &t.error) : NULL;
        } else {
            t.n = block_open_filename(t.g, argv[2], "qcow2", NULL, flags, &t.error);
        }
        ok = t.n && verbs[i].run(&t);
        block_node_unref(t.n);
    }
    if (!ok)
        printf("%s\n", t.error ? t.error->message : "usage: see metatool.c");
    g_clear_error(&t.error);
    block_graph_destroy(t.g);
    return !ok;
}
