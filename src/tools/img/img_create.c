/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vireo-img create */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/img/img.h"
#include "tools/img/img_commands.h"

struct args {
    struct img_common common;
    char *backing, *backing_format;
    GPtrArray *options;
    bool unsafe;
};
#define A(member) offsetof(struct args, member)
static const struct img_option options[] = {
    IMG_OBJECT, IMG_QUIET,
    { 'f', NULL, IMG_STRING, IMG_COMMON(format), "FORMAT", "format of the new image (default raw)" },
    { 'b', NULL, IMG_STRING, A(backing), "FILE", "backing file: what the new image does not have itself is read from there" },
    { 'F', NULL, IMG_STRING, A(backing_format), "FORMAT", "format of the backing file" },
    { 'u', NULL, IMG_FLAG, A(unsafe), NULL, "do not look at the backing file" },
    { 'o', NULL, IMG_LIST, A(options), "KEY=VALUE,...", "options of the format; '-o help' lists them" },
    IMG_END
};

/* What "Formatting" shows, in this order: options that were given, and those that have a default. */
static const struct { const char *format, *key, *value; } shown[] = {
    { "qcow2", "encryption" }, { "qcow2", "encrypt.format" }, { "qcow2", "encrypt.key-secret" }, { "qcow2", "encrypt.cipher-alg" },
    { "qcow2", "encrypt.cipher-mode" }, { "qcow2", "encrypt.ivgen-alg" }, { "qcow2", "encrypt.ivgen-hash-alg" }, { "qcow2", "encrypt.hash-alg" },
    { "qcow2", "encrypt.iter-time" }, { "qcow2", "cluster_size", "65536" }, { "qcow2", "extended_l2", "off" }, { "qcow2", "preallocation" },
    { "qcow2", "compression_type", "zlib" }, { NULL, "size" }, { "qcow2", "compat" }, { NULL, "backing_file" }, { NULL, "backing_fmt" },
    { "qcow2", "data_file" }, { "qcow2", "data_file_raw" }, { "qcow2", "lazy_refcounts", "off" }, { "qcow2", "refcount_bits", "16" },
    { "vmdk", "adapter_type" }, { "vmdk", "compat6", "off" }, { "vmdk", "hwversion", "undefined" }, { "vmdk", "subformat" },
    { "vmdk", "toolsversion" }, { "vmdk", "zeroed_grain" }, { "vdi", "static", "off" }, { "vhdx", "log_size", "1048576" },
    { "vhdx", "block_size", "0" }, { "vhdx", "subformat" }, { "vhdx", "block_state_zero" },
};

/* Sizes are shown as numbers of bytes. */
static char *plain_value(const char *key, const char *value)
{
    uint64_t v;
    if (g_str_has_suffix(key, "size") || !strcmp(key, "extent_size_hint"))
        return keyval_size(key, value, 1, &v, NULL) ? g_strdup_printf("%" G_GUINT64_FORMAT, v) : g_strdup(value);
    return g_strdup(value);
}

static void put(GString *s, const char *key, const char *value)
{
    g_autofree char *plain = plain_value(key, value);
    if (strpbrk(plain, " ,"))
        g_string_append_printf(s, " %s=\"%s\"", key, plain);
    else
        g_string_append_printf(s, " %s=%s", key, plain);
}

static void print_formatting(const char *filename, const char *format, const struct block_create *c)
{
    g_autoptr(GString) s = g_string_new(NULL);
    keyval_auto *rest = keyval_copy(c->options);
    g_autofree char *size = g_strdup_printf("%" G_GUINT64_FORMAT, c->size);
    keyval_add(rest, "size", size);
    if (c->backing_file)
        keyval_add(rest, "backing_file", c->backing_file);
    if (c->backing_format)
        keyval_add(rest, "backing_fmt", c->backing_format);
    g_string_append_printf(s, "Formatting '%s', fmt=%s", filename, format);
    for (size_t i = 0; i < G_N_ELEMENTS(shown); i++) {
        if (shown[i].format && strcmp(shown[i].format, format))
            continue;
        g_autofree char *value = keyval_take(rest, shown[i].key);
        if (value || shown[i].value)
            put(s, shown[i].key, value ? value : shown[i].value);
    }
    for (guint i = 0; i < rest->pairs->len; i++) {
        const struct keyval_pair *p = rest->pairs->pdata[i];
        put(s, p->key, p->value ? p->value : "on");
    }
    puts(s->str);
    fflush(stdout);
}

/* backing_file and backing_fmt may come by -o too; *a has them afterwards. */
static bool take_backing(struct args *a, struct keyval *kv, GError **error)
{
    char *file = keyval_take(kv, "backing_file"), *format = keyval_take(kv, "backing_fmt");
    if ((file && a->backing) || (format && a->backing_format)) {
        g_free(file);
        g_free(format);
        return vireo_fail(error, VIREO_ERROR_INVALID, "the backing file is given twice: keep -b and -F, or the options backing_file and backing_fmt");
    }
    if (file)
        a->backing = file;
    if (format)
        a->backing_format = format;
    if (a->backing && !*a->backing)
        g_clear_pointer(&a->backing, g_free);
    return true;
}

static bool find_size(struct args *a, struct keyval *kv, char **operands, unsigned n, bool *ret_given, uint64_t *ret, GError **error)
{
    g_autofree char *option = keyval_take(kv, "size");
    *ret_given = option || n > 1;
    if (option && n > 1)
        return vireo_fail(error, VIREO_ERROR_INVALID, "%s: The image size must be specified only once", operands[0]);
    return !*ret_given || img_parse_size("image size", n > 1 ? operands[1] : option, ret, error);
}

/* The backing image must be there, and gives the size. */
static bool look_at_backing(struct img *img, struct args *a, const char *filename, bool given, uint64_t *size, GError **error)
{
    g_autofree char *path = block_resolve(filename, a->backing);
    GError *e = NULL;
    if (!strcmp(path, filename))
        return vireo_fail(error, VIREO_ERROR_INVALID, "%s: Error: Trying to create an image with the same filename as the backing file", filename);
    block_node_auto *n = block_open_filename(img->graph, path, a->backing_format, NULL, BLOCK_NO_IO, &e);
    if (!n) {
        g_propagate_prefixed_error(error, e, "%s: Could not open backing image '%s' (-u does without): ", filename, path);
        return false;
    }
    if (!a->backing_format)
        return vireo_fail(error, VIREO_ERROR_INVALID, "%s: Backing file specified without backing format: say -F %s, which is what it looks like",
                          filename, block_node_driver(n));
    if (!given)
        *size = block_node_size(n);
    return true;
}

static bool create(struct img *img, struct args *a, char **operands, unsigned n, GError **error)
{
    const char *filename = n ? operands[0] : NULL, *format = a->common.format ? a->common.format : "raw";
    bool help, given;
    struct block_create c = { 0 };
    keyval_auto *kv = img_join_options(a->options, &help, error);
    if (!kv)
        return false;
    if (help)
        return img_help_options(format, filename, error);
    if (!filename)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Expecting image file name; try 'vireo-img create --help'");
    if (n > 2)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Unexpected argument: %s; try 'vireo-img create --help'", operands[2]);
    if (!find_size(a, kv, operands, n, &given, &c.size, error) || !take_backing(a, kv, error))
        return false;
    if (!block_driver_find(format))
        return vireo_fail(error, VIREO_ERROR_INVALID, "%s: Unknown file format '%s'", filename, format);
    if (a->backing_format && !block_driver_find(a->backing_format))
        return vireo_fail(error, VIREO_ERROR_INVALID, "%s: Unknown backing file format '%s'", filename, a->backing_format);
    if (a->backing && !a->unsafe && !look_at_backing(img, a, filename, given, &c.size, error))
        return false;
    if (!given && (!a->backing || a->unsafe))
        return vireo_fail(error, VIREO_ERROR_INVALID, "%s: Image creation needs a size parameter", filename);
    if (a->backing_format && !a->backing)
        return vireo_fail(error, VIREO_ERROR_INVALID, "%s: Backing format cannot be used without backing file", filename);
    c.backing_file = a->backing;
    c.backing_format = a->backing_format;
    c.options = kv;
    if (!a->common.quiet)
        print_formatting(filename, format, &c);
    GError *e = NULL;
    const char *prealloc = keyval_get(kv, "preallocation");
    if (prealloc && strcmp(prealloc, "off")) { /* which can take long */
        img_watch_start(img, false);
        img_watch_target(img, access(filename, F_OK) ? filename : NULL); /* one that is there may be somebody's */
        img_watch_at_once(img);
    }
    bool ok = block_create_image(img->graph, filename, format, &c, &e);
    if (img->watch)
        img_watch_keep(img); /* what failed has been removed already */
    if (!ok)
        g_propagate_prefixed_error(error, e, "%s: ", filename);
    return ok;
}

static int run(struct img *img, void *args, char **operands, unsigned n, GError **error)
{
    return create(img, args, operands, n, error) ? 0 : -1;
}

const struct img_command img_create = {
    .name = "create", .operands = "FILE [SIZE]", .summary = "makes a new image", .options = options, .args_size = sizeof(struct args),
    .min = 0, .max = UINT32_MAX, .run = run,
};
