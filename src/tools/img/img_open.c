/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opening images as the options say, and small things that several commands do with them. */
#include <stdlib.h>
#include <string.h>

#include "block/driver.h"
#include "tools/img/img.h"
#include "tools/img/img_commands.h"

bool img_output_json(const struct img_common *c, bool *ret, GError **error)
{
    *ret = c->output && !strcmp(c->output, "json");
    return !c->output || *ret || !strcmp(c->output, "human") ||
           vireo_fail(error, VIREO_ERROR_INVALID, "--output must be used with human or json as argument.");
}

bool img_cache(const char *what, const char *cache, unsigned *flags, bool *ret_write_through, GError **error)
{
    static const struct { const char *name; unsigned flags; bool write_through; } modes[] = {
        { "none", BLOCK_DIRECT, false }, { "off", BLOCK_DIRECT, false }, { "writeback", 0, false }, { "writethrough", 0, true },
        { "directsync", BLOCK_DIRECT, true }, { "unsafe", BLOCK_NO_FLUSH, false },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(modes); i++) {
        if (!strcmp(modes[i].name, cache ? cache : "writeback")) {
            *flags |= modes[i].flags;
            if (ret_write_through)
                *ret_write_through = modes[i].write_through;
            return true;
        }
    }
    return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid %s option: %s; there are: none, writeback, writethrough, directsync, unsafe", what, cache);
}

/* Text of --image-opts. A word alone is the name of a node, of which there are none yet. */
static struct block_node *open_image_opts(struct img *img, const char *text, unsigned flags, GError **error)
{
    keyval_auto *kv = keyval_parse(text, NULL, error);
    if (!kv)
        return NULL;
    if (!strchr(text, '=')) {
        vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Cannot find device='%s' nor node-name='%s': write driver=FORMAT,file.filename=%s", text, text, text);
        return NULL;
    }
    if (keyval_get(kv, "driver"))
        return block_open_options(img->graph, kv, flags, error);
    g_autofree char *filename = keyval_take(kv, keyval_get(kv, "file.filename") ? "file.filename" : "filename");
    if (!filename) {
        vireo_fail(error, VIREO_ERROR_INVALID, "neither driver= nor file.filename= is given");
        return NULL;
    }
    return block_open_filename(img->graph, filename, NULL, kv, flags, error);
}

struct block_node *img_open_as(struct img *img, const char *name, const char *format, bool image_opts, unsigned flags, GError **error)
{
    GError *e = NULL;
    struct block_node *n = image_opts ? open_image_opts(img, name, flags, &e) : block_open_filename(img->graph, name, format, NULL, flags, &e);
    if (!n)
        g_propagate_prefixed_error(error, e, "Could not open '%s': ", name);
    return n;
}

struct block_node *img_open(struct img *img, const struct img_common *c, const char *name, unsigned flags, GError **error)
{
    if (c->image_opts && c->format) {
        vireo_fail(error, VIREO_ERROR_INVALID, "--image-opts and --format are mutually exclusive");
        return NULL;
    }
    return img_open_as(img, name, c->format, c->image_opts, flags | (c->force_share ? BLOCK_FORCE_SHARE : 0), error);
}

bool img_load_snapshot(struct block_node *n, const char *text, GError **error)
{
    const char *name = g_str_has_prefix(text, "snapshot.id=") ? text + 12 : g_str_has_prefix(text, "snapshot.name=") ? text + 14 : text;
    GError *e = NULL;
    if (block_snapshot_load(n, name, &e))
        return true;
    g_propagate_prefixed_error(error, e, "Failed to load snapshot: ");
    return false;
}

struct keyval *img_join_options(const GPtrArray *texts, bool *ret_help, GError **error)
{
    struct keyval *all = keyval_new();
    *ret_help = false;
    for (guint i = 0; texts && i < texts->len; i++) {
        keyval_auto *kv = keyval_parse(texts->pdata[i], NULL, error);
        if (!kv) {
            keyval_free(all);
            return NULL;
        }
        for (guint k = 0; k < kv->pairs->len; k++) {
            const struct keyval_pair *p = kv->pairs->pdata[k];
            if (!p->value && (!strcmp(p->key, "help") || !strcmp(p->key, "?")))
                *ret_help = true;
            else
                keyval_add(all, p->key, p->value ? p->value : "on");
        }
    }
    return all;
}

int img_read_padded(struct block_node *n, uint64_t offset, uint64_t bytes, void *buffer)
{
    uint64_t size = block_node_size(n), have = offset < size ? MIN(bytes, size - offset) : 0;
    memset((char *)buffer + have, 0, bytes - have);
    return have ? block_pread(n, offset, have, buffer) : 0;
}

uint64_t img_zero_run(const uint8_t *p, uint64_t bytes, uint64_t unit, bool *ret_zero)
{
    uint64_t at = MIN(unit, bytes);
    *ret_zero = buffer_is_zero(p, at);
    while (at < bytes) {
        uint64_t part = MIN(unit, bytes - at);
        if (buffer_is_zero(p + at, part) != *ret_zero)
            break;
        at += part;
    }
    return at;
}

void *img_buffer(size_t bytes)
{
    void *p;
    return posix_memalign(&p, 4096, MAX(bytes, 4096)) ? NULL : p;
}

static bool add_objects(struct img *img, const struct img_common *c, GError **error)
{
    for (guint i = 0; c->objects && i < c->objects->len; i++) {
        if (!secrets_add(img->secrets, c->objects->pdata[i], error))
            return false;
    }
    return true;
}

int img_run(struct img *img, void *args, char **operands, unsigned n, GError **error)
{
    int status = -1;
    img->graph = block_graph_create();
    img->secrets = secrets_create();
    block_graph_set_secrets(img->graph, secrets_find, img->secrets);
    if (add_objects(img, args, error))
        status = img->command->run(img, args, operands, n, error);
    block_graph_destroy(g_steal_pointer(&img->graph));
    secrets_destroy(g_steal_pointer(&img->secrets));
    return status;
}
