/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The images behind a disk: read from their headers at the start, kept in the live document, taken apart after jobs. */
#include "manage/drivers/domain/block/domain_chain.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHAIN_DEPTH = 64 };

/* ---- reading ---- */

static bool is_backing(const struct el *e) { return g_str_equal(el_name(e), "backingStore"); }

unsigned domain_chain_index(const struct el *e) { return (unsigned)domain_number(e, is_backing(e) ? "@index" : "source/@index", 0); }

const char *domain_chain_path(const struct el *e)
{
    const char *file = el_get(e, "source/@file");
    return file ? file : el_get(e, "source/@dev");
}

const char *domain_chain_format(const struct el *e)
{
    return g_str_equal(el_name(e), "disk") ? el_get_or(e, "driver/@type", "raw") : el_get_or(e, "format/@type", "raw");
}

struct el *domain_chain_below(const struct el *e)
{
    struct el *below = el_find(e, "backingStore");
    return below && el_find(below, "source") ? below : NULL;
}

char *domain_chain_node(const struct el *e)
{
    unsigned index = domain_chain_index(e);
    return index ? g_strdup_printf("libvirt-%u-format", index) : NULL;
}

struct el *domain_chain_at(struct el *disk, unsigned index)
{
    struct el *e = disk;
    while (e && domain_chain_index(e) != index)
        e = domain_chain_below(e);
    return e;
}

static const char *target_of(const struct el *disk) { return el_get_or(disk, "target/@dev", "?"); }

/* "vda[3]" of this disk: 3. A path may have brackets too: only a number between them counts. */
static bool numbered(const struct el *disk, const char *name, unsigned *ret)
{
    gsize size = strlen(target_of(disk));
    if (strncmp(name, target_of(disk), size) != 0 || name[size] != '[')
        return false;
    char *end;
    guint64 n = g_ascii_strtoull(name + size + 1, &end, 10);
    *ret = (unsigned)MIN(n, G_MAXUINT32);
    return end > name + size + 1 && g_str_equal(end, "]");
}

struct el *domain_chain_find(struct el *disk, const char *name, GError **error)
{
    unsigned index;
    if (numbered(disk, name, &index)) {
        struct el *e = index ? domain_chain_at(disk, index) : disk;
        return e ? e : manage_null(error, VIR_ERR_INVALID_ARG, "could not find backing store index '%u' in chain for '%s'", index, target_of(disk));
    }
    for (struct el *e = disk; e; e = domain_chain_below(e)) {
        const char *path = domain_chain_path(e);
        if (path && g_str_equal(path, name))
            return e;
    }
    return manage_null(error, VIR_ERR_INVALID_ARG, "could not find image '%s' beneath '%s' in chain for '%s'", name,
                       domain_chain_path(disk) ? domain_chain_path(disk) : "?", target_of(disk));
}

GArray *domain_chain_indexes(const struct el *from, const struct el *to)
{
    GArray *all = g_array_new(FALSE, FALSE, sizeof(unsigned));
    for (const struct el *e = from; e && e != to; e = domain_chain_below(e)) {
        unsigned index = domain_chain_index(e);
        if (index)
            g_array_append_val(all, index);
    }
    return all;
}

char *domain_chain_relative(const char *from, const char *to)
{
    if (*from != '/' || *to != '/')
        return NULL;
    g_auto(GStrv) a = g_strsplit(from + 1, "/", -1), b = g_strsplit(to + 1, "/", -1);
    unsigned na = g_strv_length(a), nb = g_strv_length(b), same = 0;
    while (same + 1 < na && same + 1 < nb && g_str_equal(a[same], b[same]))
        same++;
    GString *s = g_string_new(NULL);
    for (unsigned i = same; i + 1 < na; i++)
        g_string_append(s, "../");
    for (unsigned i = same; i < nb; i++)
        g_string_append_printf(s, "%s%s", b[i], i + 1 < nb ? "/" : "");
    return g_string_free(s, FALSE);
}

/* ---- changing documents ---- */

void domain_chain_set_below(struct el *e, const struct el *below)
{
    struct el *old = el_find(e, "backingStore");
    struct el *new = el_add(e, "backingStore");
    if (below) {
        const struct el *rest = el_find(below, "backingStore");
        el_set(new, "@type", el_get_or(below, "@type", "file"));
        if (domain_chain_index(below))
            el_setf(new, "@index", "%u", domain_chain_index(below));
        el_set(new, "format/@type", domain_chain_format(below));
        if (el_find(below, "source"))
            el_set(el_copy(new, el_find(below, "source")), "@index", NULL);
        if (rest)
            el_copy(new, rest);
    }
    if (old)
        el_remove(old);
}

void domain_chain_take(struct el *disk, const struct el *image, bool indexes)
{
    struct el *old = el_find(disk, "source");
    unsigned index = domain_chain_index(image);
    if (old)
        el_remove(old);
    el_set(disk, "@type", el_get_or(image, "@type", "file"));
    el_set(disk, g_str_equal(el_name(disk), "disk") ? "driver/@type" : "format/@type", domain_chain_format(image));
    struct el *source = el_copy(disk, el_find(image, "source"));
    el_set(source, "@index", NULL);
    if (indexes && index)
        el_setf(source, "@index", "%u", index);
}

void domain_chain_forget(struct el *image)
{
    for (struct el *e = image; e; e = el_find(e, "backingStore")) {
        if (is_backing(e) && el_get(e, "@index"))
            el_set(e, "@index", NULL);
        if (el_find(e, "source") && el_get(e, "source/@index"))
            el_set(e, "source/@index", NULL);
    }
}

void domain_chain_put_back(struct el *disk, const struct el *was)
{
    static const char *const parts[] = { "source", "backingStore" };
    for (unsigned i = 0; i < G_N_ELEMENTS(parts); i++) {
        if (el_find(disk, parts[i]))
            el_remove(el_find(disk, parts[i]));
        if (el_find(was, parts[i]))
            el_copy(disk, el_find(was, parts[i]));
    }
    el_set(disk, "@type", el_get_or(was, "@type", "file"));
    if (el_find(disk, "driver"))
        el_set(disk, "driver/@type", el_get(was, "driver/@type"));
}

/* ---- reading images ---- */

unsigned domain_chain_next(struct domain_build *b)
{
    if (!b->d)
        return ++b->nodes;
    g_mutex_lock(&b->d->lock);
    unsigned n = ++b->d->nodes;
    g_mutex_unlock(&b->d->lock);
    return n;
}

/* What an image's own header says is below it, and so on, goes into the document. What is not a local file is left to the machine, which opens it by itself. */
static bool walk(struct el *image, const char *path, GError **error)
{
    g_autofree char *at = g_strdup(path), *format = g_strdup(domain_chain_format(image));
    struct stat st;
    for (unsigned depth = 0; depth < CHAIN_DEPTH; depth++) {
        g_autofree char *next = NULL, *next_format = NULL;
        bool elsewhere = false;
        if (!domain_image_backing(at, format, &next, &next_format, &elsewhere, error))
            return false;
        if (elsewhere)
            return true;
        struct el *below = el_add(image, "backingStore");
        if (!next)
            return true;
        bool block = stat(next, &st) == 0 && S_ISBLK(st.st_mode);
        el_set(below, "@type", block ? "block" : "file");
        el_set(below, "format/@type", next_format);
        el_set(below, block ? "source/@dev" : "source/@file", next);
        image = below;
        g_free(at);
        g_free(format);
        at = g_steal_pointer(&next);
        format = g_steal_pointer(&next_format);
    }
    return manage_fail(error, VIR_ERR_OPERATION_FAILED, "the images behind '%s' are more than %d deep: do they name each other?", path, CHAIN_DEPTH);
}

/* The end of what the document says: an empty <backingStore/>, or nothing; then `walk` looks further. */
static struct el *open_end(struct el *image)
{
    struct el *below;
    while ((below = el_find(image, "backingStore")) && el_find(below, "source"))
        image = below;
    return below ? NULL : image;
}

bool domain_chain_read(struct el *disk, const char *path, GError **error)
{
    struct el *end = open_end(disk);
    return !end || walk(end, domain_chain_path(end) ? domain_chain_path(end) : path, error);
}

static void number(struct domain_build *b, struct el *image)
{
    for (struct el *e = image; e; e = domain_chain_below(e))
        if (!domain_chain_index(e))
            el_setf(e, is_backing(e) ? "@index" : "source/@index", "%u", domain_chain_next(b));
}

bool domain_chain_complete_image(struct domain_build *b, struct el *image, bool write, bool look, const char *target, GError **error)
{
    const char *path = domain_chain_path(image);
    if (b->d && path && !domain_image_check(path, domain_chain_format(image), write, target, error))
        return false;
    if (b->d && path && look && !domain_chain_read(image, path, error))
        return false;
    number(b, image);
    return true;
}

bool domain_chain_complete(struct domain_build *b, struct el *disk, GError **error)
{
    const char *type = el_get_or(disk, "@type", "file"), *policy = el_get(disk, "source/@startupPolicy");
    bool network = g_str_equal(type, "network"), write = !el_find(disk, "readonly");
    g_autoptr(GError) why = NULL;
    if (el_get(disk, "source/@index"))
        return true;
    g_autofree char *path = network ? NULL : b->d || !g_str_equal(type, "volume") ? domain_image_path(b->dr, disk, &why) : g_strdup(el_get(disk, "source/@volume"));
    if (why) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    if (b->d && path && (!g_strcmp0(policy, "optional") || !g_strcmp0(policy, "requisite")) && access(path, F_OK) < 0) {
        domain_plan_note(b, "the image '%s' of the drive '%s' is missing: the drive is empty", path, target_of(disk));
        el_remove(el_find(disk, "source"));
        g_clear_pointer(&path, g_free);
    }
    if (!path && !network)
        return true; /* an empty drive */
    if (b->d && path && !domain_image_check(path, domain_chain_format(disk), write, target_of(disk), error))
        return false;
    if (b->d && path && !domain_chain_read(disk, path, error))
        return false;
    number(b, disk);
    return true;
}

/* ---- the machine ---- */

void domain_chain_delete(struct domain *d, GArray *indexes)
{
    static const char *const kinds[] = { "format", "storage" };
    for (unsigned i = 0; i < indexes->len; i++)
        for (unsigned k = 0; k < G_N_ELEMENTS(kinds); k++) {
            struct json_object *args = json_object_new_object();
            g_autofree char *node = g_strdup_printf("libvirt-%u-%s", g_array_index(indexes, unsigned, i), kinds[k]);
            js_set(args, "node-name", node);
            json_object_put(monitor_command(d, "blockdev-del", args, NULL));
        }
}
