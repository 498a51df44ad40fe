/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Block jobs begin: pull, commit, copy. All that can be wrong is found before the machine is told. */
#include "manage/drivers/domain/block/domain_blockjob.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/node.h"
#include "manage/drivers/domain/command/domain_command.h"
#include "manage/drivers/domain/stats/domain_stats.h"

/* ---- what they share ---- */

static struct domain_blockjob *job_new(const struct domain_blocktarget *t, int type, const struct el *top)
{
    static const char *const kinds[] = { [VIR_DOMAIN_BLOCK_JOB_TYPE_PULL] = "pull", [VIR_DOMAIN_BLOCK_JOB_TYPE_COPY] = "copy", [VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT] = "commit",
                                         [VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT] = "commit", [VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP] = "backup" };
    struct domain_blockjob *j = g_new0(struct domain_blockjob, 1);
    g_autofree char *node = domain_chain_node(top);
    j->name = g_strdup_printf("%s-%s-%s", kinds[type], t->name, node);
    j->disk = g_strdup(t->name);
    j->type = type;
    j->top = domain_chain_index(top);
    return j;
}

/* Arguments that all have. */
static struct json_object *job_args(const struct domain_blockjob *j, const char *node, uint64_t speed)
{
    struct json_object *o = json_object_new_object();
    js_set(o, "job-id", j->name);
    js_set(o, "device", node);
    js_bool(o, "auto-finalize", j->type != VIR_DOMAIN_BLOCK_JOB_TYPE_COPY && j->type != VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT); /* domain_blockjob_pending() */
    js_bool(o, "auto-dismiss", false);
    if (speed)
        js_int(o, "speed", (int64_t)speed);
    return o;
}

/* Notes the job and tells the machine to begin it. */
static bool begin(struct domain *d, struct domain_blockjob *j, const char *command, struct json_object *args, GError **error)
{
    g_autofree char *name = g_strdup(j->name);
    if (!domain_blockjob_note(d, j, error)) {
        json_object_put(args);
        return false;
    }
    if (domain_command_run(d, command, args, error))
        return true;
    domain_blockjob_drop(d, name);
    return false;
}

static bool begin_on(struct domain_blocktarget *t, const char *what, GError **error)
{
    if (!domain_begin(t->d, what, true, error))
        return false;
    if (domain_blocktarget_again(t, error) && domain_blockjob_none(t->d, t->name, error))
        return true;
    domain_end(t->d);
    return false;
}

/* How the image above names `base` from now on. relative: as seen from where it lies. */
static bool backing_name(const struct el *above, const struct el *base, bool relative, char **ret, GError **error)
{
    const char *from = domain_chain_path(above), *to = domain_chain_path(base);
    *ret = !to ? NULL : !relative ? g_strdup(to) : from ? domain_chain_relative(from, to) : NULL;
    if (relative && !*ret)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "can't keep relative backing relationship");
    return true;
}

/* Is the name in the header of `above` a relative one? What was absolute stays so. */
static bool named_relatively(const struct el *above)
{
    g_autofree char *name = domain_chain_path(above) ? domain_image_backing_name(domain_chain_path(above)) : NULL;
    return name && *name != '/' && !strchr(name, ':');
}

/* ---- pull ---- */

static bool pull(struct domain_blocktarget *t, const char *base, uint64_t speed, bool relative, GError **error)
{
    struct el *stop = base ? domain_chain_find(t->disk, base, error) : NULL;
    g_autofree char *node = domain_chain_node(t->disk), *stop_node = NULL, *name = NULL;
    if (base && !stop)
        return false;
    if (stop == t->disk)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "'%s' is the disk's own image: there is nothing between them to pull", base);
    if (relative && !stop)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "flag VIR_DOMAIN_BLOCK_REBASE_RELATIVE is valid only with non-null base");
    if (stop && !backing_name(t->disk, stop, relative, &name, error))
        return false;
    struct domain_blockjob *j = job_new(t, VIR_DOMAIN_BLOCK_JOB_TYPE_PULL, t->disk);
    struct json_object *args = job_args(j, node, speed);
    if (stop) {
        stop_node = domain_chain_node(stop);
        js_set(args, "base-node", stop_node);
        js_set(args, "backing-file", name);
        j->base = domain_chain_index(stop);
    }
    return begin(t->d, j, "block-stream", args, error);
}

static bool pull_call(struct domain_blocktarget *t, const char *base, uint64_t speed, bool relative, GError **error)
{
    if (!begin_on(t, "block pull", error))
        return false;
    bool ok = pull(t, base, speed, relative, error);
    domain_end(t->d);
    return ok;
}

static GVariant *block_pull(struct manage_call *c, GError **error)
{
    uint64_t bandwidth, speed = 0;
    uint32_t flags;
    blocktarget_auto t = { NULL };
    g_variant_get_child(c->args, 2, "t", &bandwidth);
    g_variant_get_child(c->args, 3, "u", &flags);
    if (!manage_check_flags(flags, VIR_DOMAIN_BLOCK_PULL_BANDWIDTH_BYTES, error) || !domain_speed(bandwidth, flags & VIR_DOMAIN_BLOCK_PULL_BANDWIDTH_BYTES, &speed, error) ||
        !domain_blocktarget_find(c, &t, error))
        return NULL;
    return pull_call(&t, NULL, speed, false, error) ? manage_void() : NULL;
}

/* ---- commit ---- */

enum { COMMIT_FLAGS = VIR_DOMAIN_BLOCK_COMMIT_SHALLOW | VIR_DOMAIN_BLOCK_COMMIT_DELETE | VIR_DOMAIN_BLOCK_COMMIT_ACTIVE | VIR_DOMAIN_BLOCK_COMMIT_RELATIVE |
                      VIR_DOMAIN_BLOCK_COMMIT_BANDWIDTH_BYTES };

struct commit {
    const char *base_name, *top_name;
    uint64_t speed;
    uint32_t flags;
    struct el *top, *base, *above; /* above: the image whose backing file changes; NULL: active */
};

static const char *path_or(const struct el *e) { return domain_chain_path(e) ? domain_chain_path(e) : "?"; }

static bool commit_images(struct domain_blocktarget *t, struct commit *w, GError **error)
{
    bool active = w->flags & VIR_DOMAIN_BLOCK_COMMIT_ACTIVE;
    w->top = w->top_name ? domain_chain_find(t->disk, w->top_name, error) : t->disk;
    if (!w->top)
        return false;
    if (w->top == t->disk && !active)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "commit of '%s' active layer requires active flag", t->name);
    if (w->top != t->disk && active)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "active commit requested but '%s' is not active", path_or(w->top));
    struct el *below = domain_chain_below(w->top);
    if (!below)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "could not find base image in chain for '%s'", t->name);
    w->base = below;
    if (w->base_name) {
        w->base = domain_chain_find(t->disk, w->base_name, error);
        bool beneath = false;
        for (struct el *e = below; e && w->base; e = domain_chain_below(e))
            beneath |= e == w->base;
        if (w->base && !beneath)
            return manage_fail(error, VIR_ERR_INVALID_ARG, "could not find image '%s' beneath '%s' in chain for '%s'", w->base_name, path_or(w->top), t->name);
    } else if (!(w->flags & VIR_DOMAIN_BLOCK_COMMIT_SHALLOW)) {
        while (domain_chain_below(w->base))
            w->base = domain_chain_below(w->base);
    }
    if (!w->base)
        return false;
    if ((w->flags & VIR_DOMAIN_BLOCK_COMMIT_SHALLOW) && w->base != below)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "base '%s' is not immediately below '%s' in chain for '%s'", w->base_name, path_or(w->top), path_or(t->disk));
    w->above = active ? NULL : el_parent(w->top);
    if (active && (w->flags & VIR_DOMAIN_BLOCK_COMMIT_RELATIVE))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "nothing is to be kept relative when the active layer of '%s' is committed", t->name);
    return true;
}

static void add_commit_mirror(struct el *disk, void *opaque)
{
    struct el *mirror = el_add(disk, "mirror"), *base = domain_chain_at(disk, *(unsigned *)opaque);
    if (!base)
        return;
    el_set(mirror, "@type", el_get_or(base, "@type", "file"));
    el_set(mirror, "@job", "active-commit");
    domain_chain_take(mirror, base, true);
}

static void drop_mirror(struct el *disk, void *opaque)
{
    struct el *mirror = el_find(disk, "mirror");
    if (mirror)
        el_remove(mirror);
}

static bool commit(struct domain_blocktarget *t, struct commit *w, GError **error)
{
    g_autofree char *node = domain_chain_node(t->disk), *name = NULL;
    if (el_find(t->disk, "readonly"))
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "disk '%s' is read-only", t->name);
    if (!commit_images(t, w, error))
        return false;
    bool relative = w->above && ((w->flags & VIR_DOMAIN_BLOCK_COMMIT_RELATIVE) != 0);
    if (relative && !named_relatively(w->above))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "can't keep relative backing relationship: '%s' names '%s' by a path from the root", path_or(w->above),
                           path_or(w->top));
    if (w->above && !backing_name(w->above, w->base, relative, &name, error))
        return false;
    const char *path = domain_chain_path(w->base);
    if (path && !domain_image_check(path, "raw", true, t->name, error))
        return false;
    g_autofree char *top = domain_chain_node(w->top), *base = domain_chain_node(w->base);
    struct domain_blockjob *j = job_new(t, w->above ? VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT : VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT, w->top);
    struct json_object *args = job_args(j, node, w->speed);
    j->base = domain_chain_index(w->base);
    j->remove = w->flags & VIR_DOMAIN_BLOCK_COMMIT_DELETE;
    js_set(args, "top-node", top);
    js_set(args, "base-node", base);
    js_set(args, "backing-file", name);
    if (!w->above)
        domain_disk_edit(t->d, t->name, add_commit_mirror, &j->base);
    bool active = !w->above;
    if (begin(t->d, j, "block-commit", args, error))
        return true;
    if (active) {
        domain_disk_edit(t->d, t->name, drop_mirror, NULL);
        (void)!domain_write_status(t->d, NULL);
    }
    return false;
}

char *domain_blockjob_merge(struct domain *d, const char *disk, const char *path, GError **error)
{
    blocktarget_auto t = { .d = domain_ref(d), .name = disk };
    struct commit w = { .top_name = path, .flags = VIR_DOMAIN_BLOCK_COMMIT_SHALLOW | VIR_DOMAIN_BLOCK_COMMIT_DELETE };
    if (!domain_blocktarget_again(&t, error) || !domain_blockjob_none(d, disk, error))
        return NULL;
    if (!g_strcmp0(domain_chain_path(t.disk), path))
        w.flags |= VIR_DOMAIN_BLOCK_COMMIT_ACTIVE;
    if (!commit(&t, &w, error))
        return NULL;
    g_mutex_lock(&d->lock);
    struct domain_blockjob *j = domain_blockjob_of_locked(d, disk);
    char *name = j ? g_strdup(j->name) : NULL;
    g_mutex_unlock(&d->lock);
    return name;
}

static GVariant *block_commit(struct manage_call *c, GError **error)
{
    uint64_t bandwidth;
    struct commit w = { NULL };
    blocktarget_auto t = { NULL };
    g_variant_get_child(c->args, 2, "m&s", &w.base_name);
    g_variant_get_child(c->args, 3, "m&s", &w.top_name);
    g_variant_get_child(c->args, 4, "t", &bandwidth);
    g_variant_get_child(c->args, 5, "u", &w.flags);
    if (!manage_check_flags(w.flags, COMMIT_FLAGS, error) || !domain_speed(bandwidth, w.flags & VIR_DOMAIN_BLOCK_COMMIT_BANDWIDTH_BYTES, &w.speed, error) ||
        !domain_blocktarget_find(c, &t, error) || !begin_on(&t, "block commit", error))
        return NULL;
    bool ok = commit(&t, &w, error);
    domain_end(t.d);
    return ok ? manage_void() : NULL;
}

/* ---- copy ---- */

enum { COPY_FLAGS = VIR_DOMAIN_BLOCK_COPY_SHALLOW | VIR_DOMAIN_BLOCK_COPY_REUSE_EXT | VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB | VIR_DOMAIN_BLOCK_COPY_SYNCHRONOUS_WRITES };

struct copy {
    const struct el *to;      /* <disk> of the call */
    uint64_t speed, buffer;
    uint32_t granularity, flags;
    bool made;                /* the file did not exist before */
    struct el *mirror;        /* in the target's copy of the document */
};

bool domain_node_size(struct domain *d, const char *node, uint64_t *ret, GError **error)
{
    struct json_object *args = json_object_new_object();
    js_bool(args, "flat", true);
    struct json_object *list = monitor_command(d, "query-named-block-nodes", args, error);
    bool found = false;
    for (size_t i = 0; list && json_object_is_type(list, json_type_array) && i < json_object_array_length(list) && !found; i++) {
        struct json_object *o = json_object_array_get_idx(list, i), *name, *image;
        if (!json_object_object_get_ex(o, "node-name", &name) || strcmp(json_object_get_string(name), node) || !json_object_object_get_ex(o, "image", &image))
            continue;
        *ret = (uint64_t)js_number(image, "virtual-size");
        found = true;
    }
    if (list && !found)
        manage_fail(error, VIR_ERR_INTERNAL_ERROR, "the machine has no node '%s'", node);
    json_object_put(list);
    return found;
}

bool domain_image_make(const char *path, const char *format, uint64_t size, const char *backing, const char *backing_format, const char *target, bool *ret_made, GError **error)
{
    struct stat st;
    bool there = stat(path, &st) == 0, device = there && S_ISBLK(st.st_mode);
    *ret_made = false;
    if (*path != '/')
        return manage_fail(error, VIR_ERR_INVALID_ARG, "the path '%s' of disk '%s' does not begin with '/'", path, target);
    if (there && !device && (!S_ISREG(st.st_mode) || st.st_size > 0))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "external destination file for disk %s already exists and is not a block device: %s", target, path);
    if (device && g_str_equal(format, "raw"))
        return true;
    int fd = there ? -1 : open(path, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0600); /* a guest's data is not for everybody */
    if (!there && fd < 0)
        return manage_fail_errno(error, errno, "cannot make the image '%s' for disk '%s'", path, target);
    if (fd >= 0)
        close(fd);
    keyval_auto *options = keyval_new();
    g_autoptr(GError) why = NULL;
    struct block_graph *g = block_graph_create();
    struct block_create w = { .size = size, .options = options, .backing_file = backing, .backing_format = backing_format };
    bool ok = block_create_image(g, path, format, &w, &why);
    block_graph_destroy(g);
    *ret_made = ok && !device;
    if (!ok && !there)
        unlink(path);
    else if (!ok && !device)
        (void)!truncate(path, 0);
    return ok || manage_fail(error, VIR_ERR_OPERATION_FAILED, "cannot make the image '%s' for disk '%s': %s", path, target, why->message);
}

/* The mirror in our copy of the document: as clients will see it, and from which the nodes are made. */
static bool describe(struct domain_blocktarget *t, struct copy *w, GError **error)
{
    const char *type = el_get_or(w->to, "@type", "file"), *format = el_get(w->to, "driver/@type"), *path = domain_chain_path(w->to);
    bool network = g_str_equal(type, "network");
    if ((!path || !*path) && !network)
        return manage_fail(error, VIR_ERR_XML_ERROR, "the copy of disk '%s' needs a <source> with a file, a device or a network: it has none", t->name);
    if (!g_str_equal(type, "file") && !g_str_equal(type, "block") && !network)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "a disk cannot be copied to the type '%s': file, block and network are there", type);
    if (network && !(w->flags & VIR_DOMAIN_BLOCK_COPY_REUSE_EXT))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "an image on the network is not made by the copy of disk '%s': make it, and say --reuse-external", t->name);
    format = format ? format : g_str_equal(type, "block") ? "raw" : domain_chain_format(t->disk);
    struct el *m = el_add(t->disk, "mirror");
    el_set(m, "@type", type);
    if (g_str_equal(type, "file")) {
        el_set(m, "@file", path);
        el_set(m, "@format", format);
    }
    el_set(m, "@job", "copy");
    el_set(m, "format/@type", format);
    el_set(el_copy(m, el_find(w->to, "source")), "@index", NULL);
    w->mirror = m;
    return true;
}

/* Nobody else writes to it. */
static bool unused(struct domain_blocktarget *t, const struct el *image, GError **error)
{
    const char *path = domain_chain_path(image);
    g_autofree char *user = path ? domain_disk_user(t->d->driver->state, path) : NULL;
    return !user || manage_fail(error, VIR_ERR_OPERATION_INVALID, "the image '%s' is in use by the running domain '%s'", path, user);
}

static bool make_target(struct domain_blocktarget *t, struct copy *w, const char *node, GError **error)
{
    const struct el *below = w->flags & VIR_DOMAIN_BLOCK_COPY_SHALLOW ? domain_chain_below(t->disk) : NULL;
    const char *format = domain_chain_format(w->mirror);
    uint64_t size;
    if (w->flags & VIR_DOMAIN_BLOCK_COPY_REUSE_EXT)
        return true;
    if (below && g_str_equal(format, "raw"))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "non-raw destination is needed for a shallow copy of disk '%s': raw images have no backing file", t->name);
    return domain_node_size(t->d, node, &size, error) &&
           domain_image_make(domain_chain_path(w->mirror), format, size, below ? domain_chain_path(below) : NULL, below ? domain_chain_format(below) : NULL, t->name, &w->made, error);
}

/* What the target stands on: the disk's own images when the copy is shallow and new, its own when it was there, else nothing. */
static bool settle_below(struct domain_blocktarget *t, struct copy *w, struct domain_build *b, struct el **ret_shared, GError **error)
{
    bool shallow = w->flags & VIR_DOMAIN_BLOCK_COPY_SHALLOW, reuse = w->flags & VIR_DOMAIN_BLOCK_COPY_REUSE_EXT;
    *ret_shared = shallow && !reuse ? domain_chain_below(t->disk) : NULL;
    if (!shallow)
        domain_chain_set_below(w->mirror, NULL);
    return domain_chain_complete_image(b, w->mirror, true, shallow && reuse, t->name, error);
}

/* The plan's last node gets the disk's own backing node, without its own copy of what is below. */
static void share(struct domain_build *b, const struct el *shared)
{
    g_autofree char *node = shared ? domain_chain_node(shared) : NULL;
    struct plan_item *top = b->plan->items->pdata[b->plan->items->len - 1];
    if (node)
        js_set(top->json, "backing", node);
}

static void put_mirror(struct el *disk, void *opaque)
{
    drop_mirror(disk, NULL);
    el_copy(disk, opaque);
}

static bool mirror(struct domain_blocktarget *t, struct copy *w, const char *node, GError **error)
{
    g_autofree char *to = domain_chain_node(w->mirror);
    struct domain_blockjob *j = job_new(t, VIR_DOMAIN_BLOCK_JOB_TYPE_COPY, t->disk);
    struct json_object *args = job_args(j, node, w->speed);
    j->shallow = w->flags & VIR_DOMAIN_BLOCK_COPY_SHALLOW;
    js_set(args, "target", to);
    js_set(args, "sync", j->shallow ? "top" : "full");
    if (w->granularity)
        js_int(args, "granularity", w->granularity);
    if (w->buffer)
        js_int(args, "buf-size", (int64_t)w->buffer);
    if (w->flags & VIR_DOMAIN_BLOCK_COPY_SYNCHRONOUS_WRITES)
        js_set(args, "copy-mode", "write-blocking");
    domain_disk_edit(t->d, t->name, put_mirror, w->mirror);
    if (begin(t->d, j, "blockdev-mirror", args, error))
        return true;
    domain_disk_edit(t->d, t->name, drop_mirror, NULL);
    (void)!domain_write_status(t->d, NULL);
    return false;
}

static bool copy(struct domain_blocktarget *t, struct copy *w, GError **error)
{
    struct domain_build b;
    struct el *shared = NULL;
    g_autofree char *node = domain_chain_node(t->disk);
    if (t->d->persistent && !(w->flags & VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB))
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "domain is not transient");
    if (!describe(t, w, error) || !unused(t, w->mirror, error) || !make_target(t, w, node, error))
        return false;
    g_autofree char *path = g_strdup(domain_chain_path(w->mirror));
    domain_build_init(&b, t->d, t->d->driver, t->live);
    bool ok = settle_below(t, w, &b, &shared, error) && domain_plan_image(&b, t->disk, w->mirror, true, error);
    if (ok) {
        share(&b, shared);
        ok = domain_plan_send(b.plan, t->d, error) && mirror(t, w, node, error);
        if (!ok)
            domain_plan_undo(b.plan, t->d);
    }
    domain_build_finish(&b);
    if (!ok && w->made)
        unlink(path);
    return ok;
}

static bool copy_call(struct domain_blocktarget *t, const char *xml, struct copy *w, GError **error)
{
    doc_auto *to = doc_parse_at(&schema_domain, "devices", xml, -1, error);
    if (!to)
        return false;
    w->to = doc_root(to);
    if (!g_str_equal(el_name(w->to), "disk"))
        return manage_fail(error, VIR_ERR_XML_ERROR, "expecting root element of 'disk', not '%s'", el_name(w->to));
    if (!begin_on(t, "block copy", error))
        return false;
    bool ok = copy(t, w, error);
    domain_end(t->d);
    return ok;
}

char *domain_blockjob_copy(struct domain *d, const char *disk, const char *xml, uint32_t flags, uint64_t speed, GError **error)
{
    blocktarget_auto t = { .d = domain_ref(d), .name = disk };
    doc_auto *to = doc_parse_at(&schema_domain, "devices", xml, -1, error);
    struct copy w = { .flags = flags | VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB | VIR_DOMAIN_BLOCK_COPY_REUSE_EXT, .speed = speed };
    if (!to || !domain_blocktarget_again(&t, error) || !domain_blockjob_none(d, disk, error))
        return NULL;
    w.to = doc_root(to);
    if (!copy(&t, &w, error))
        return NULL;
    g_mutex_lock(&d->lock);
    struct domain_blockjob *j = domain_blockjob_of_locked(d, disk);
    char *name = g_strdup(j ? j->name : "");
    g_mutex_unlock(&d->lock);
    return name;
}

static bool copy_params(GVariant *params, struct copy *w, GError **error)
{
    GVariantIter it;
    const char *field;
    GVariant *value;
    bool ok = true;
    g_variant_iter_init(&it, params);
    while (ok && g_variant_iter_next(&it, "(&sv)", &field, &value)) {
        bool wide = g_variant_is_of_type(value, G_VARIANT_TYPE_UINT64), narrow = g_variant_is_of_type(value, G_VARIANT_TYPE_UINT32);
        if (!strcmp(field, VIR_DOMAIN_BLOCK_COPY_BANDWIDTH) && wide)
            ok = domain_speed(g_variant_get_uint64(value), true, &w->speed, error);
        else if (!strcmp(field, VIR_DOMAIN_BLOCK_COPY_BUF_SIZE) && wide)
            w->buffer = g_variant_get_uint64(value);
        else if (!strcmp(field, VIR_DOMAIN_BLOCK_COPY_GRANULARITY) && narrow)
            w->granularity = g_variant_get_uint32(value);
        else
            ok = manage_fail(error, VIR_ERR_INVALID_ARG, "parameter '%s' not supported, or not of its type", field);
        g_variant_unref(value);
    }
    if (ok && w->granularity & (w->granularity - 1))
        ok = manage_fail(error, VIR_ERR_INVALID_ARG, "granularity must be power of 2");
    return ok;
}

static GVariant *block_copy(struct manage_call *c, GError **error)
{
    const char *xml;
    struct copy w = { NULL };
    blocktarget_auto t = { NULL };
    g_variant_get_child(c->args, 2, "&s", &xml);
    g_autoptr(GVariant) params = g_variant_get_child_value(c->args, 3);
    g_variant_get_child(c->args, 4, "u", &w.flags);
    if (!manage_check_flags(w.flags, COPY_FLAGS, error) || !copy_params(params, &w, error) || !domain_blocktarget_find(c, &t, error))
        return NULL;
    return copy_call(&t, xml, &w, error) ? manage_void() : NULL;
}

/* ---- rebase: a pull with a base, or a copy by a path ---- */

enum { REBASE_FLAGS = VIR_DOMAIN_BLOCK_REBASE_SHALLOW | VIR_DOMAIN_BLOCK_REBASE_REUSE_EXT | VIR_DOMAIN_BLOCK_REBASE_COPY_RAW | VIR_DOMAIN_BLOCK_REBASE_COPY |
                      VIR_DOMAIN_BLOCK_REBASE_RELATIVE | VIR_DOMAIN_BLOCK_REBASE_COPY_DEV | VIR_DOMAIN_BLOCK_REBASE_BANDWIDTH_BYTES };

static bool rebase_copy(struct domain_blocktarget *t, const char *path, uint64_t speed, uint32_t flags, GError **error)
{
    bool device = flags & VIR_DOMAIN_BLOCK_REBASE_COPY_DEV;
    g_autofree char *escaped = g_markup_escape_text(path ? path : "", -1);
    g_autofree char *xml = g_strdup_printf("<disk type='%s'><source %s='%s'/>%s</disk>", device ? "block" : "file", device ? "dev" : "file", escaped,
                                           flags & VIR_DOMAIN_BLOCK_REBASE_COPY_RAW ? "<driver type='raw'/>" : "");
    struct copy w = { .speed = speed, .flags = VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB * !t->d->persistent };
    w.flags |= flags & VIR_DOMAIN_BLOCK_REBASE_SHALLOW ? VIR_DOMAIN_BLOCK_COPY_SHALLOW : 0;
    w.flags |= flags & VIR_DOMAIN_BLOCK_REBASE_REUSE_EXT ? VIR_DOMAIN_BLOCK_COPY_REUSE_EXT : 0;
    return copy_call(t, xml, &w, error);
}

static GVariant *block_rebase(struct manage_call *c, GError **error)
{
    const char *base;
    uint64_t bandwidth, speed = 0;
    uint32_t flags;
    blocktarget_auto t = { NULL };
    g_variant_get_child(c->args, 2, "m&s", &base);
    g_variant_get_child(c->args, 3, "t", &bandwidth);
    g_variant_get_child(c->args, 4, "u", &flags);
    if (!manage_check_flags(flags, REBASE_FLAGS, error) || !domain_speed(bandwidth, flags & VIR_DOMAIN_BLOCK_REBASE_BANDWIDTH_BYTES, &speed, error) ||
        !domain_blocktarget_find(c, &t, error))
        return NULL;
    bool ok = flags & VIR_DOMAIN_BLOCK_REBASE_COPY ? rebase_copy(&t, base, speed, flags, error) : pull_call(&t, base, speed, flags & VIR_DOMAIN_BLOCK_REBASE_RELATIVE, error);
    return ok ? manage_void() : NULL;
}

const struct manage_row domain_rows_blockstart[] = {
    { RPC_DOMAIN_BLOCK_PULL, block_pull },
    { RPC_DOMAIN_BLOCK_COMMIT, block_commit },
    { RPC_DOMAIN_BLOCK_COPY, block_copy },
    { RPC_DOMAIN_BLOCK_REBASE, block_rebase },
    { 0, NULL },
};
