/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Nodes: opened from options or file names, with what stands below them; references, children and parents. */
#include "block/node.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "block/bitmap_mark.h"
#include "block/block_private.h"
#include "block/fence.h"

#define CHAIN_MAX 1000 /* backing images below one another */

static const char *const role_names[BLOCK_NROLES] = { "file", "backing", "data-file" };

/* What is being opened above: images in a backing chain must not come twice. */
struct opening {
    const struct opening *above;
    const struct block_node *node;
    unsigned depth;
};

static struct block_node *open_keyval(struct block_graph *g, struct keyval *kv, unsigned flags, struct block_node *file,
                                      const struct opening *above, GError **error);
static struct block_node *open_filename(struct block_graph *g, const char *filename, const char *format, const struct keyval *options,
                                        unsigned flags, const struct opening *above, GError **error);

/* ---- options of every node ---- */

struct general {
    bool read_only, auto_read_only, force_share, direct, no_flush;
    int discard, detect_zeroes;
};
static const char *const discard_values[] = { "ignore", "off", "unmap", "on", NULL };
static const char *const detect_values[] = { "off", "on", "unmap", NULL };
#define G(member) offsetof(struct general, member)
static const struct keyval_key general_keys[] = {
    { "read-only", KV_BOOL, G(read_only) },
    { "auto-read-only", KV_BOOL, G(auto_read_only) },
    { "force-share", KV_BOOL, G(force_share) },
    { "cache.direct", KV_BOOL, G(direct) },
    { "cache.no-flush", KV_BOOL, G(no_flush) },
    { "discard", KV_ENUM, G(discard), NULL, discard_values },
    { "detect-zeroes", KV_ENUM, G(detect_zeroes), NULL, detect_values },
    { NULL }
};

static void put_flag(unsigned *flags, unsigned flag, bool on)
{
    *flags = on ? *flags | flag : *flags & ~flag;
}

/* Takes the general options out of kv; what is given there wins over flags. */
static bool take_general(struct keyval *kv, unsigned *flags, enum block_detect_zeroes *ret_detect, GError **error)
{
    struct general o = { .read_only = !(*flags & BLOCK_RDWR), .auto_read_only = *flags & BLOCK_AUTO_READ_ONLY,
                         .force_share = *flags & BLOCK_FORCE_SHARE, .direct = *flags & BLOCK_DIRECT, .no_flush = *flags & BLOCK_NO_FLUSH,
                         .discard = *flags & BLOCK_UNMAP ? 2 : 0 };
    keyval_auto *mine = keyval_new();
    for (const struct keyval_key *k = general_keys; k->name; k++) {
        g_autofree char *value = keyval_take(kv, k->name);
        if (value)
            keyval_add(mine, k->name, value);
    }
    if (!keyval_load(mine, general_keys, &o, error))
        return false;
    put_flag(flags, BLOCK_RDWR, !o.read_only);
    put_flag(flags, BLOCK_AUTO_READ_ONLY, o.auto_read_only);
    put_flag(flags, BLOCK_FORCE_SHARE, o.force_share);
    put_flag(flags, BLOCK_DIRECT, o.direct);
    put_flag(flags, BLOCK_NO_FLUSH, o.no_flush);
    put_flag(flags, BLOCK_UNMAP, o.discard >= 2);
    *ret_detect = (enum block_detect_zeroes)o.detect_zeroes;
    if (o.detect_zeroes == BLOCK_DETECT_UNMAP && !(*flags & BLOCK_UNMAP))
        return vireo_fail(error, VIREO_ERROR_INVALID, "detect-zeroes=unmap needs discard=unmap");
    return true;
}

/* ---- children ---- */

static unsigned child_flags(unsigned flags, bool backing)
{
    unsigned pass = flags & (BLOCK_RDWR | BLOCK_FORCE_SHARE | BLOCK_AUTO_READ_ONLY | BLOCK_DIRECT | BLOCK_NO_FLUSH | BLOCK_AIO_NATIVE |
                             BLOCK_AIO_IO_URING | BLOCK_TEMPORARY | BLOCK_INACTIVE | BLOCK_NO_IO);
    if (backing)
        return pass & ~(unsigned)(BLOCK_RDWR | BLOCK_TEMPORARY | BLOCK_AUTO_READ_ONLY);
    return pass | BLOCK_UNMAP; /* the node above decides what is discarded */
}

/* The child that kv names (a reference or nested options); NULL without error: kv says nothing. *ret_none: it says "none". */
static struct block_node *child_from_options(struct block_graph *g, struct keyval *kv, const char *role, unsigned flags,
                                             const struct opening *above, bool *ret_none, GError **error)
{
    keyval_auto *nested = keyval_take_nested(kv, role);
    g_autofree char *name = keyval_take(kv, role);
    *ret_none = name && !*name;
    if (nested && nested->pairs->len && name && *name) {
        vireo_fail(error, VIREO_ERROR_INVALID, "'%s' is given as a node's name and as options; keep one", role);
        return NULL;
    }
    if (name && *name) {
        struct block_node *found = block_find(g, name);
        if (!found)
            vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Cannot find device='' nor node-name='%s'", name);
        return found ? block_node_ref(found) : NULL;
    }
    if (!nested || !nested->pairs->len)
        return NULL;
    if (!keyval_get(nested, "driver")) {
        /* -drive file.filename=...: a file, or what its prefix says. */
        g_autofree char *filename = keyval_take(nested, "filename");
        if (filename)
            return open_filename(g, filename, "", nested, flags, above, error);
    }
    return open_keyval(g, nested, flags, NULL, above, error);
}

static bool has_prefix(const char *filename)
{
    const char *colon = strchr(filename, ':'), *slash = strchr(filename, '/');
    return colon && (!slash || colon < slash);
}

char *block_resolve(const char *base, const char *filename)
{
    const char *slash = strrchr(base, '/');
    if (g_path_is_absolute(filename) || has_prefix(filename) || !slash || (has_prefix(base) && !g_path_is_absolute(base)))
        return g_strdup(filename);
    return g_strdup_printf("%.*s%s", (int)(slash - base + 1), base, filename);
}

/* The name from which a relative name in n's metadata counts: that of the file below. */
static const char *base_name(const struct block_node *n)
{
    while (n->child[BLOCK_ROLE_FILE] && n->driver->kind != BLOCK_PROTOCOL)
        n = n->child[BLOCK_ROLE_FILE];
    return n->filename;
}

char *block_backing_resolved(const struct block_node *n)
{
    return n->backing_file ? block_resolve(base_name(n), n->backing_file) : NULL;
}

static bool check_loop(const struct block_node *n, const char *path, const struct opening *above, GError **error)
{
    g_autofree char *real = realpath(path, NULL);
    for (const struct opening *o = above; real && o; o = o->above) {
        const char *base = base_name(o->node);
        g_autofree char *other = realpath(base, NULL);
        if (other && !strcmp(other, real))
            return vireo_fail(error, VIREO_ERROR_INVALID, "the backing chain of '%s' comes back to '%s': its backing file must be another image; "
                              "set it right with: vireo-img rebase -u", n->filename, path);
    }
    return !above || above->depth < CHAIN_MAX || vireo_fail(error, VIREO_ERROR_INVALID, "the backing chain at '%s' has more than %d images", path, CHAIN_MAX);
}

/* The backing image that the metadata names. */
static bool open_backing(struct block_node *n, struct keyval *backing_options, unsigned flags, const struct opening *above, GError **error)
{
    g_autofree char *path = block_backing_resolved(n);
    const struct opening here = { above, n, above ? above->depth + 1 : 1 };
    GError *e = NULL;
    if (!check_loop(n, path, &here, error))
        return false;
    struct block_node *b = open_filename(n->graph, path, n->backing_format, backing_options, child_flags(flags, true), &here, &e);
    if (!b) {
        g_propagate_prefixed_error(error, e, "Could not open backing file of '%s': ", n->filename);
        return false;
    }
    n->child[BLOCK_ROLE_BACKING] = b;
    return true;
}

/* ---- opening ---- */

static struct block_node *node_new(struct block_graph *g, const struct block_driver *d)
{
    struct block_node *n = g_new0(struct block_node, 1);
    n->driver = d;
    n->graph = g;
    n->refs = 1;
    n->state = g_malloc0(MAX(d->state_size, 1));
    n->parents = g_ptr_array_new();
    n->blockers = g_ptr_array_new_with_free_func(g_free);
    n->limits = (struct block_limits){ .request_alignment = 1, .zeroes_alignment = 1, .discard_alignment = 1 };
    g_queue_init(&n->watches);
    g_rw_lock_init(&n->rmw);
    return n;
}

static void node_free(struct block_node *n)
{
    if (n->name && n->open)
        block_graph_remove(n->graph, n);
    if (n->driver->close)
        n->driver->close(n);
    if (n->bitmaps)
        block_bitmaps_end(n);
    block_fence_free(n->fence);
    for (int i = 0; i < BLOCK_NROLES; i++)
        block_node_unref(g_steal_pointer(&n->child[i]));
    g_free(n->state);
    g_free(n->name);
    g_free(n->filename);
    g_free(n->backing_file);
    g_free(n->backing_format);
    g_ptr_array_unref(n->parents);
    g_ptr_array_unref(n->blockers);
    g_rw_lock_clear(&n->rmw);
    g_free(n);
}

/* What of kv is the driver's; the rest is unknown. */
static bool load_driver_options(struct block_node *n, struct keyval *kv, GError **error)
{
    static const struct keyval_key none[] = { { NULL } };
    GError *e = NULL;
    if (n->driver->take_options && !n->driver->take_options(n, kv, error))
        return false;
    if (keyval_load(kv, n->driver->keys ? n->driver->keys : none, n->state, &e))
        return true;
    g_propagate_prefixed_error(error, e, "driver '%s': ", n->driver->name);
    return false;
}

static char *name_of(const struct block_node *n, const struct keyval *kv)
{
    const char *filename = keyval_get(kv, "filename");
    if (filename)
        return g_strdup(filename);
    const struct block_node *file = n->child[BLOCK_ROLE_FILE];
    return g_strdup(file ? file->filename : n->driver->name);
}

static bool open_children(struct block_node *n, struct keyval *kv, unsigned flags, struct block_node *file, struct keyval **ret_backing,
                          const struct opening *above, GError **error)
{
    const struct block_driver *d = n->driver;
    GError *e = NULL;
    bool none;
    n->child[BLOCK_ROLE_FILE] = file;
    if (d->kind != BLOCK_PROTOCOL && !d->no_file && !file) {
        n->child[BLOCK_ROLE_FILE] = child_from_options(n->graph, kv, d->first_child ? d->first_child : "file", child_flags(flags, false), above, &none, &e);
        if (e) {
            g_propagate_error(error, e);
            return false;
        }
        if (!n->child[BLOCK_ROLE_FILE])
            return vireo_fail(error, VIREO_ERROR_INVALID, "A block device must be specified for \"%s\"", d->first_child ? d->first_child : "file");
    }
    if (d->second_child) {
        n->child[BLOCK_ROLE_DATA_FILE] = child_from_options(n->graph, kv, d->second_child, child_flags(flags, false), above, &none, &e);
        if (e) {
            g_propagate_error(error, e);
            return false;
        }
    }
    if (d->supports_data_file) {
        n->child[BLOCK_ROLE_DATA_FILE] = child_from_options(n->graph, kv, "data-file", child_flags(flags, false), above, &none, &e);
        if (e) {
            g_propagate_error(error, e);
            return false;
        }
    }
    if (!d->supports_backing)
        return true;
    /* backing.NAME without driver or filename are options for the image that the metadata names. */
    keyval_auto *nested = keyval_take_nested(kv, "backing");
    if (nested && nested->pairs->len && !keyval_get(nested, "driver") && !keyval_get(nested, "filename") && !keyval_get(nested, "file") &&
        !keyval_get(nested, "file.filename") && !keyval_get(nested, "file.driver")) {
        *ret_backing = g_steal_pointer(&nested);
        return true;
    }
    for (guint i = 0; nested && i < nested->pairs->len; i++) {
        const struct keyval_pair *p = nested->pairs->pdata[i];
        g_autofree char *key = g_strconcat("backing.", p->key, NULL);
        keyval_add(kv, key, p->value);
    }
    n->child[BLOCK_ROLE_BACKING] = child_from_options(n->graph, kv, "backing", child_flags(flags, true), above, &none, &e);
    n->backing_overridden = none || n->child[BLOCK_ROLE_BACKING];
    if (e)
        g_propagate_error(error, e);
    return !e;
}

static bool open_node(struct block_node *n, struct keyval *kv, unsigned flags, struct block_node *file, const struct opening *above, GError **error)
{
    keyval_auto *backing_options = NULL;
    if (!open_children(n, kv, flags, file, &backing_options, above, error))
        return false;
    n->filename = name_of(n, kv);
    n->flags = flags;
    if (!load_driver_options(n, kv, error) || !n->driver->open(n, flags, error))
        return false;
    if (n->driver->supports_backing && !n->backing_overridden && n->backing_file && !(flags & BLOCK_NO_BACKING) &&
        !open_backing(n, backing_options, flags, above, error))
        return false;
    if (!block_graph_add(n->graph, n, error))
        return false;
    n->open = true;
    return true;
}

/* Consumes what it knows of kv; takes `file` over. */
static struct block_node *open_keyval(struct block_graph *g, struct keyval *kv, unsigned flags, struct block_node *file,
                                      const struct opening *above, GError **error)
{
    g_autofree char *driver = keyval_take(kv, "driver"), *name = keyval_take(kv, "node-name");
    const struct block_driver *d = driver ? block_driver_find(driver) : NULL;
    enum block_detect_zeroes detect;
    if (!d || !take_general(kv, &flags, &detect, error)) {
        if (!driver)
            vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'driver' is missing");
        else if (!d)
            vireo_fail(error, VIREO_ERROR_INVALID, "Unknown driver '%s'", driver);
        block_node_unref(file);
        return NULL;
    }
    if (name && (!*name || !(g_ascii_isalpha(name[0])) || strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") != strlen(name) ||
                 strlen(name) > 31)) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Invalid node-name: '%s': a letter, then letters, digits, '-', '.' and '_', at most 31", name);
        block_node_unref(file);
        return NULL;
    }
    struct block_node *n = node_new(g, d);
    n->name = g_steal_pointer(&name);
    n->detect_zeroes = detect;
    if (open_node(n, kv, flags, file, above, error))
        return n;
    node_free(n);
    return NULL;
}

struct block_node *block_open_options(struct block_graph *g, const struct keyval *options, unsigned flags, GError **error)
{
    keyval_auto *kv = keyval_copy(options);
    return open_keyval(g, kv, flags, NULL, NULL, error);
}

/* ---- file names ---- */

static const struct block_driver *driver_of_prefix(const char *filename)
{
    for (const struct block_driver *const *d = block_drivers; *d; d++) {
        for (const char *const *p = (*d)->prefixes; p && *p; p++) {
            if (g_str_has_prefix(filename, *p))
                return *d;
        }
    }
    return NULL;
}

/* The protocol node that a file name means. */
static struct block_node *open_protocol(struct block_graph *g, const char *filename, struct keyval *kv, unsigned flags, const struct opening *above, GError **error)
{
    const struct block_driver *d = driver_of_prefix(filename);
    if (d) {
        keyval_add(kv, "driver", d->name);
        if (!d->parse_filename(filename, kv, error))
            return NULL;
    } else {
        const char *path = g_str_has_prefix(filename, "file:") ? filename + 5 : filename;
        keyval_add(kv, "driver", block_file_is_device(path) ? "host_device" : "file");
        keyval_add(kv, "filename", path);
    }
    struct block_node *n = open_keyval(g, kv, flags, NULL, above, error);
    if (n && d) {
        g_free(n->filename);
        n->filename = g_strdup(filename);
    }
    return n;
}

/* What images of formats start with that are known, and not read here. */
static const struct {
    const char *format, *bytes;
    unsigned size;
} foreign_magics[] = {
    { "qed", "QED", 4 }, { "parallels", "WithoutFreeSpace", 16 }, { "parallels", "WithouFreSpacExt", 16 }, { "bochs", "Bochs Virtual HD Image", 22 },
};

static bool check_foreign(const struct block_node *file, const uint8_t *head, GError **error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(foreign_magics); i++) {
        if (!memcmp(head, foreign_magics[i].bytes, foreign_magics[i].size))
            return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "disk '%s' is a %s image, which cannot be read here; convert it with: qemu-img convert "
                              "-O qcow2 '%s' '%s.qcow2'", file->filename, foreign_magics[i].format, file->filename, file->filename);
    }
    return true;
}

static const struct block_driver *probe_node(struct block_node *file, unsigned flags, GError **error)
{
    uint8_t head[2048] = { 0 };
    int err = file->size ? block_pread(file, 0, MIN(file->size, sizeof(head)), head) : 0;
    if (err) {
        vireo_fail_errno(error, err, "cannot read '%s'", file->filename);
        return NULL;
    }
    const struct block_driver *d = block_probe(head, sizeof(head), file->filename);
    if (!strcmp(d->name, "raw") && !check_foreign(file, head, error))
        return NULL;
    if (!strcmp(d->name, "raw") && flags & BLOCK_RDWR)
        log_warn("disk '%s': no format given, and it looks like raw; a guest could make it look like another format. Say format=raw", file->filename);
    return d;
}

/* Which of the options are for the protocol node below: those under "file.". */
static struct keyval *protocol_options(struct keyval *kv)
{
    struct keyval *nested = keyval_take_nested(kv, "file");
    return nested ? nested : keyval_new();
}

/* format "": the protocol node itself. */
static struct block_node *open_filename(struct block_graph *g, const char *filename, const char *format, const struct keyval *options,
                                        unsigned flags, const struct opening *above, GError **error)
{
    keyval_auto *kv = options ? keyval_copy(options) : keyval_new();
    if (g_str_has_prefix(filename, "json:")) {
        if (!json_flatten(filename + 5, kv, error))
            return NULL;
        if (format && *format && !keyval_get(kv, "driver"))
            keyval_add(kv, "driver", format);
        return open_keyval(g, kv, flags, NULL, above, error);
    }
    if (format && !*format)
        return open_protocol(g, filename, kv, flags, above, error);
    const struct block_driver *d = format ? block_driver_find(format) : NULL;
    if (format && !d) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Unknown driver '%s'", format);
        return NULL;
    }
    if (d && d->kind == BLOCK_PROTOCOL)
        return open_protocol(g, filename, kv, flags, above, error);
    unsigned below = flags;
    enum block_detect_zeroes unused;
    keyval_auto *general = keyval_copy(kv), *pkv = protocol_options(kv);
    if (!take_general(general, &below, &unused, error))
        return NULL;
    struct block_node *file = open_protocol(g, filename, pkv, child_flags(below, false), above, error);
    if (!file || (!d && !(d = probe_node(file, below, error)))) {
        block_node_unref(file);
        return NULL;
    }
    keyval_add(kv, "driver", d->name);
    if ((below & BLOCK_RDWR) && block_node_read_only(file)) /* auto-read-only */
        flags &= ~(unsigned)BLOCK_RDWR;
    return open_keyval(g, kv, flags, file, above, error);
}

struct block_node *block_open_filename(struct block_graph *g, const char *filename, const char *format, struct keyval *options,
                                       unsigned flags, GError **error)
{
    return open_filename(g, filename, format && *format ? format : NULL, options, flags, NULL, error);
}

/* ---- references ---- */

struct block_node *block_node_ref(struct block_node *n)
{
    g_atomic_int_inc(&n->refs);
    return n;
}

void block_node_unref(struct block_node *n)
{
    if (!n || !g_atomic_int_dec_and_test(&n->refs))
        return;
    node_free(n);
}

void block_parent_add(struct block_node *child, struct block_parent *p)
{
    g_rec_mutex_lock(&child->graph->tree);
    g_ptr_array_add(child->parents, p);
    g_rec_mutex_unlock(&child->graph->tree);
}

void block_parent_remove(struct block_node *child, struct block_parent *p)
{
    g_rec_mutex_lock(&child->graph->tree);
    g_ptr_array_remove(child->parents, p);
    g_rec_mutex_unlock(&child->graph->tree);
}

static bool reaches(const struct block_node *n, const struct block_node *target)
{
    if (n == target)
        return true;
    for (int i = 0; i < BLOCK_NROLES; i++) {
        if (n->child[i] && reaches(n->child[i], target))
            return true;
    }
    return false;
}

bool block_set_child(struct block_node *n, const char *role, struct block_node *child, GError **error)
{
    int r = 0;
    while (r < BLOCK_NROLES && strcmp(role_names[r], role))
        r++;
    g_return_val_if_fail(r < BLOCK_NROLES, false);
    if (child && reaches(child, n))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Making '%s' a %s child of '%s' would create a cycle", child->name, role, n->name);
    struct block_node *old = n->child[r];
    n->child[r] = child ? block_node_ref(child) : NULL;
    if (r == BLOCK_ROLE_BACKING)
        n->backing_overridden = true;
    block_node_unref(old);
    return true;
}

bool block_replace_node(struct block_node *from, struct block_node *to, GError **error)
{
    struct block_graph *g = from->graph;
    g_rec_mutex_lock(&g->tree);
    block_node_ref(from);
    for (guint i = 0; i < g->nodes->len; i++) {
        struct block_node *n = g->nodes->pdata[i];
        for (int r = 0; r < BLOCK_NROLES; r++) {
            if (n->child[r] == from && !reaches(to, n)) {
                n->child[r] = block_node_ref(to);
                block_node_unref(from);
            }
        }
    }
    while (from->parents->len) {
        struct block_parent *p = g_ptr_array_remove_index(from->parents, from->parents->len - 1);
        g_ptr_array_add(to->parents, p);
        p->replaced(p, block_node_ref(to));
    }
    g_rec_mutex_unlock(&g->tree);
    block_node_unref(from);
    return true;
}

bool block_reopen(struct block_node *n, const struct keyval *options, unsigned flags, GError **error)
{
    enum block_detect_zeroes detect = n->detect_zeroes;
    if (options) {
        keyval_auto *kv = keyval_copy(options);
        if (!take_general(kv, &flags, &detect, error))
            return false;
    }
    struct block_node *file = n->child[BLOCK_ROLE_FILE];
    unsigned old = n->flags;
    /* Downwards first when it becomes writable, last when it becomes read-only. */
    if (file && (flags & BLOCK_RDWR) && !block_reopen(file, NULL, child_flags(flags, false), error))
        return false;
    if (n->driver->reopen ? !n->driver->reopen(n, flags, error)
                          : ((flags ^ n->flags) & BLOCK_RDWR && n->driver->kind == BLOCK_PROTOCOL &&
                             !vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "driver '%s' cannot be reopened", n->driver->name))) {
        if (file && (flags & BLOCK_RDWR) && !(old & BLOCK_RDWR))
            (void)block_reopen(file, NULL, child_flags(old, false), NULL);
        return false;
    }
    n->flags = flags;
    n->detect_zeroes = detect;
    return !file || (flags & BLOCK_RDWR) || block_reopen(file, NULL, child_flags(flags, false), error);
}

/* ---- what a node is ---- */

const char *block_node_name(const struct block_node *n) { return n->name; }
const char *block_node_driver(const struct block_node *n) { return n->driver->name; }
const char *block_node_filename(const struct block_node *n) { return n->filename; }
uint64_t block_node_size(const struct block_node *n) { return __atomic_load_n(&n->size, __ATOMIC_RELAXED); }
enum block_detect_zeroes block_node_detect_zeroes(const struct block_node *n) { return n->detect_zeroes; }
unsigned block_node_refs(const struct block_node *n) { return (unsigned)g_atomic_int_get(&n->refs); }
bool block_node_has_file(const struct block_node *n) { return n->driver->kind != BLOCK_PROTOCOL; }
unsigned block_node_flags(const struct block_node *n) { return n->flags; }
bool block_node_read_only(const struct block_node *n) { return !(n->flags & BLOCK_RDWR); }
struct block_graph *block_node_graph(const struct block_node *n) { return n->graph; }
const char *block_backing_filename(const struct block_node *n) { return n->backing_file; }
const char *block_backing_format(const struct block_node *n) { return n->backing_format; }

uint64_t block_node_allocated(struct block_node *n)
{
    if (n->driver->allocated)
        return n->driver->allocated(n);
    uint64_t sum = 0;
    for (int i = 0; i < BLOCK_NROLES; i++) {
        if (i != BLOCK_ROLE_BACKING && n->child[i])
            sum += block_node_allocated(n->child[i]);
    }
    return sum;
}

struct block_node *block_child(const struct block_node *n, const char *role)
{
    for (int r = 0; r < BLOCK_NROLES; r++) {
        if (!strcmp(role_names[r], role))
            return n->child[r];
    }
    return NULL;
}

struct block_node *block_backing(const struct block_node *n)
{
    return n->child[BLOCK_ROLE_BACKING];
}

struct block_node *block_skip_filters(struct block_node *n)
{
    while (n && n->driver->kind == BLOCK_FILTER && n->child[BLOCK_ROLE_FILE])
        n = n->child[BLOCK_ROLE_FILE];
    return n;
}

void block_node_block(struct block_node *n, const char *reason)
{
    g_rec_mutex_lock(&n->graph->tree);
    g_ptr_array_add(n->blockers, g_strdup(reason));
    g_rec_mutex_unlock(&n->graph->tree);
}

void block_node_unblock(struct block_node *n, const char *reason)
{
    guint i;
    g_rec_mutex_lock(&n->graph->tree);
    if (g_ptr_array_find_with_equal_func(n->blockers, reason, g_str_equal, &i))
        g_ptr_array_remove_index(n->blockers, i);
    g_rec_mutex_unlock(&n->graph->tree);
}

const char *block_node_blocked(const struct block_node *n)
{
    return n->blockers->len ? n->blockers->pdata[0] : NULL;
}

void block_watch_add(struct block_node *n, struct block_watch *w)
{
    w->link.data = w;
    g_queue_push_tail_link(&n->watches, &w->link);
}

void block_watch_remove(struct block_node *n, struct block_watch *w)
{
    g_queue_unlink(&n->watches, &w->link);
}
