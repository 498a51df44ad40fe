/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* New images. */
#include <string.h>

#include "block/block_private.h"

static bool unknown_option(const struct block_create *c, const char *format, GError **error)
{
    if (!c->options->pairs->len)
        return false;
    const struct keyval_pair *p = c->options->pairs->pdata[0];
    vireo_fail(error, VIREO_ERROR_INVALID, "Invalid parameter '%s': format '%s' has no such option; see them with -o help", p->key, format);
    return true;
}

bool block_format_node(struct block_node *file, const char *format, struct block_create *c, GError **error)
{
    const struct block_driver *d = block_driver_find(format);
    if (!d)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Unknown file format '%s'", format);
    if (!d->create)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Format driver '%s' does not support image creation", format);
    if (!d->create(file, c, error))
        return false;
    return !unknown_option(c, format, error);
}

static const struct block_driver *protocol_of(const char *filename)
{
    for (const struct block_driver *const *d = block_drivers; *d; d++) {
        for (const char *const *p = (*d)->prefixes; p && *p; p++) {
            if (g_str_has_prefix(filename, *p))
                return *d;
        }
    }
    return block_driver_find(block_file_is_device(filename) ? "host_device" : "file");
}

/* Options that only the protocol below knows, and those that both do (preallocation of raw). */
static bool take_protocol_options(const struct block_driver *d, const struct block_driver *p, struct block_create *c, struct keyval *to)
{
    for (const struct keyval_key *k = p->create_keys; k && k->name; k++) {
        bool both = false;
        for (const struct keyval_key *f = d->create_keys; f && f->name; f++)
            both |= !strcmp(f->name, k->name);
        g_autofree char *value = both ? NULL : keyval_take(c->options, k->name);
        if (value)
            keyval_add(to, k->name, value);
    }
    return true;
}

bool block_create_image(struct block_graph *g, const char *filename, const char *format, struct block_create *c, GError **error)
{
    const struct block_driver *d = block_driver_find(format), *p = protocol_of(filename);
    if (!d)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Unknown file format '%s'", format);
    if (!d->create)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Format driver '%s' does not support image creation", format);
    keyval_auto *options = keyval_new();
    bool raw = !strcmp(format, "raw"), made = false;
    struct block_create below = { .size = raw ? c->size : 0, .options = options };
    take_protocol_options(d, p, c, options);
    if (p->create_file && !p->create_file(g, filename, &below, &made, error))
        return false;
    block_node_auto *file = block_open_filename(g, filename, p->name, NULL, BLOCK_RDWR | BLOCK_UNMAP, error);
    bool ok = file && block_format_node(file, format, c, error);
    if (ok) {
        int err = block_flush(file);
        ok = !err || vireo_fail_errno(error, err, "cannot finish '%s'", filename);
    }
    if (!ok && made && p->remove_file)
        p->remove_file(filename);
    return ok;
}
