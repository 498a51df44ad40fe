/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/migrate/migrate_snapshot.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "block/node.h"
#include "vmm/blockdev/blockdev.h"
#include "vmm/core/machine.h"
#include "vmm/migrate/migrate.h"

enum { PIECE = 1 << 20 };

/* The images of a snapshot: struct block_node * without filters, referenced. */
struct images {
    struct block_graph *graph;
    GPtrArray *nodes;
    struct block_node *vmstate; /* one of them */
};

static void images_clear(struct images *i)
{
    if (i->nodes)
        g_ptr_array_unref(i->nodes);
}

/* ---- which images ---- */

/* The graph is quiet, or its users stand still. */
static const struct block_snapshot *find(GPtrArray *list, const char *tag)
{
    for (guint i = 0; list && i < list->len; i++) {
        const struct block_snapshot *s = list->pdata[i];
        if (!g_strcmp0(s->name, tag))
            return s;
    }
    return NULL;
}

/* Whether the image has the snapshot; *ret_state: bytes of machine state with it. */
static bool has(struct block_node *n, const char *tag, uint64_t *ret_state)
{
    GPtrArray *list = block_snapshot_list(n, NULL);
    const struct block_snapshot *s = find(list, tag);
    *ret_state = s ? s->vm_state_size : 0;
    bool found = s != NULL;
    if (list)
        g_ptr_array_unref(list);
    return found;
}

static bool take(struct images *i, const char *name, struct block_node *n, bool change, GError **error)
{
    struct block_node *image = block_skip_filters(n);
    GPtrArray *list = block_snapshot_list(image, NULL);
    const char *why = block_node_blocked(n);
    if (list)
        g_ptr_array_unref(list);
    if (!list)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Device '%s' is writable but does not support snapshots", name);
    if (change && block_node_read_only(image))
        return vireo_fail(error, VIREO_ERROR_PERMISSION, "Device '%s' is read only", name);
    if (why)
        return vireo_fail(error, VIREO_ERROR_BUSY, "Node '%s' is busy: %s", name, why);
    if (!g_ptr_array_find(i->nodes, image, NULL))
        g_ptr_array_add(i->nodes, block_node_ref(image));
    return true;
}

static bool take_named(struct images *i, struct blockdev *b, const struct migrate_snapshot *s, GError **error)
{
    for (const char *const *name = s->devices; *name; name++) {
        struct block_node *n = blockdev_find_node(b, *name, error);
        if (!n || !take(i, *name, n, true, error))
            return false;
    }
    return true;
}

static bool take_all(struct images *i, struct blockdev *b, GError **error)
{
    const GPtrArray *drives = blockdev_drives(b);
    for (guint k = 0; k < drives->len; k++) {
        struct block_device *d = drives->pdata[k];
        struct block_node *n = block_device_node(d);
        if (n && !block_read_only(d) && !take(i, block_node_name(n), n, true, error))
            return false;
    }
    return true;
}

static struct block_node *state_holder(const struct images *i, const char *tag)
{
    for (guint k = 0; k < i->nodes->len; k++) {
        uint64_t size;
        if (has(i->nodes->pdata[k], tag, &size) && size)
            return i->nodes->pdata[k];
    }
    return NULL;
}

static bool find_vmstate(struct images *i, struct blockdev *b, const struct migrate_snapshot *s, GError **error)
{
    struct block_node *n = s->vmstate ? blockdev_find_node(b, s->vmstate, NULL) : NULL;
    i->vmstate = n ? block_skip_filters(n) : s->vmstate ? NULL : state_holder(i, s->tag);
    if (i->vmstate && g_ptr_array_find(i->nodes, i->vmstate, NULL))
        return true;
    if (s->vmstate)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "vmstate block device '%s' does not exist, or is not one of the devices", s->vmstate);
    return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "no disk has a snapshot '%s' with the state of a machine", s->tag);
}

/* state: vmstate is looked for, too. images_clear in any case. */
static bool choose(struct machine *m, const struct migrate_snapshot *s, bool state, struct images *ret, GError **error)
{
    *ret = (struct images){ .nodes = g_ptr_array_new_with_free_func((GDestroyNotify)block_node_unref) };
    struct blockdev *b = m->blockdev;
    if (!b)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "the machine has no disks, and so no place for a snapshot");
    ret->graph = blockdev_graph(b);
    if (!*s->tag)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Name is empty");
    if (!(s->devices ? take_named(ret, b, s, error) : take_all(ret, b, error)))
        return false;
    if (!ret->nodes->len)
        return vireo_fail(error, VIREO_ERROR_INVALID, "At least one device is required for snapshot");
    return !state || find_vmstate(ret, b, s, error);
}

/* ---- the state in the image: in pieces, in between which requests can go on ---- */

struct area {
    const struct images *images;
    uint64_t at, size; /* of the piece in the buffer; reading: all there is */
    size_t used, next;
    uint8_t buffer[PIECE];
};

static bool flush(struct area *a, GError **error)
{
    block_quiesce(a->images->graph);
    int err = a->used ? block_vmstate_write(a->images->vmstate, a->at, a->used, a->buffer) : 0;
    block_resume(a->images->graph);
    a->at += a->used;
    a->used = 0;
    return !err || vireo_fail_errno(error, err, "cannot write the machine's state into '%s'", block_node_name(a->images->vmstate));
}

static bool area_write(void *opaque, const void *data, size_t size, GError **error)
{
    struct area *a = opaque;
    const uint8_t *from = data;
    while (size) {
        size_t part = MIN(size, PIECE - a->used);
        memcpy(a->buffer + a->used, from, part);
        a->used += part;
        from += part;
        size -= part;
        if (a->used == PIECE && !flush(a, error))
            return false;
    }
    return true;
}

static bool fill(struct area *a, GError **error)
{
    a->at += a->used;
    a->used = (size_t)MIN(PIECE, a->size - a->at);
    a->next = 0;
    if (!a->used)
        return vireo_fail(error, VIREO_ERROR_INVALID, "the machine's state in '%s' ends too early", block_node_name(a->images->vmstate));
    block_enter(a->images->graph);
    int err = block_vmstate_read(a->images->vmstate, a->at, a->used, a->buffer);
    block_leave(a->images->graph);
    return !err || vireo_fail_errno(error, err, "cannot read the machine's state from '%s'", block_node_name(a->images->vmstate));
}

static bool area_read(void *opaque, void *ret, size_t size, GError **error)
{
    struct area *a = opaque;
    uint8_t *to = ret;
    while (size) {
        if (a->next == a->used && !fill(a, error))
            return false;
        size_t part = MIN(size, a->used - a->next);
        memcpy(to, a->buffer + a->next, part);
        a->next += part;
        to += part;
        size -= part;
    }
    return true;
}

/* ---- saving ---- */

static bool none_has(const struct images *i, const char *tag, GError **error)
{
    for (guint k = 0; k < i->nodes->len; k++) {
        uint64_t size;
        if (has(i->nodes->pdata[k], tag, &size))
            return vireo_fail(error, VIREO_ERROR_INVALID, "Snapshot '%s' already exists in one or more devices", tag);
    }
    return true;
}

/* Also one that could not be finished. */
static void delete_all(const struct images *i, const char *tag, guint n)
{
    for (guint k = 0; k < n; k++) {
        uint64_t size;
        if (has(i->nodes->pdata[k], tag, &size))
            (void)!block_snapshot_delete(i->nodes->pdata[k], tag, NULL);
    }
}

/* In all images, or in none. */
static bool create_all(struct machine *m, const struct images *i, const char *tag, uint64_t state, GError **error)
{
    gint64 now = g_get_real_time();
    struct block_snapshot s = { .name = (char *)tag, .date_sec = (uint64_t)now / G_USEC_PER_SEC, .date_nsec = (uint64_t)now % G_USEC_PER_SEC * 1000,
                                .vm_clock_nsec = vclock_now(m->clock), .icount = UINT64_MAX };
    guint k = 0;
    block_quiesce(i->graph);
    for (; k < i->nodes->len; k++) {
        s.vm_state_size = i->nodes->pdata[k] == i->vmstate ? state : 0;
        if (!block_snapshot_create(i->nodes->pdata[k], &s, error)) {
            delete_all(i, tag, k + 1);
            break;
        }
    }
    block_resume(i->graph);
    return k == i->nodes->len;
}

static bool save_state(struct machine *m, const struct images *i, uint64_t *ret_size, GError **error)
{
    g_autofree struct area *a = g_new(struct area, 1);
    a->images = i;
    a->at = a->used = a->next = 0;
    const struct migrate_sink sink = { area_write, a };
    bool ok = migrate_save_machine(m, &sink, error) && flush(a, error);
    *ret_size = a->at;
    return ok;
}

bool migrate_snapshot_save(struct machine *m, const struct migrate_snapshot *s, GError **error)
{
    struct images i;
    enum machine_state before = m->state;
    uint64_t size;
    bool ok = choose(m, s, true, &i, error) && none_has(&i, s->tag, error) && migrate_possible(m, error);
    if (ok) {
        machine_stop(m, MACHINE_SAVE_VM);
        ok = save_state(m, &i, &size, error) && create_all(m, &i, s->tag, size, error);
        if (before == MACHINE_RUNNING)
            machine_start(m);
        else
            machine_set_state(m, before);
    }
    images_clear(&i);
    return ok;
}

/* ---- loading ---- */

static bool all_have(const struct images *i, const char *tag, uint64_t *ret_state, GError **error)
{
    for (guint k = 0; k < i->nodes->len; k++) {
        uint64_t size;
        if (!has(i->nodes->pdata[k], tag, &size))
            return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Device '%s' does not have the requested snapshot '%s'", block_node_name(i->nodes->pdata[k]), tag);
        if (i->nodes->pdata[k] == i->vmstate)
            *ret_state = size;
    }
    return *ret_state || vireo_fail(error, VIREO_ERROR_INVALID, "the snapshot '%s' of '%s' has the disk alone: go back to it with vireo-img snapshot -a while the "
                                    "machine is off", tag, block_node_name(i->vmstate));
}

/* Whoever uses a disk of another size now is told. */
static void tell_sizes(struct machine *m, const struct images *i, const uint64_t *before)
{
    const GPtrArray *drives = blockdev_drives(m->blockdev);
    for (guint k = 0; k < i->nodes->len; k++) {
        for (guint d = 0; before[k] != block_node_size(i->nodes->pdata[k]) && d < drives->len; d++) {
            struct block_node *n = block_device_node(drives->pdata[d]);
            if (n && block_skip_filters(n) == i->nodes->pdata[k])
                block_device_tell(drives->pdata[d], true);
        }
    }
}

static bool apply_all(struct machine *m, const struct images *i, const char *tag, GError **error)
{
    g_autofree uint64_t *sizes = g_new(uint64_t, i->nodes->len);
    bool ok = true;
    block_quiesce(i->graph);
    for (guint k = 0; k < i->nodes->len; k++)
        sizes[k] = block_node_size(i->nodes->pdata[k]);
    for (guint k = 0; ok && k < i->nodes->len; k++) {
        ok = block_snapshot_apply(i->nodes->pdata[k], tag, error);
        if (!ok)
            g_prefix_error(error, "Could not load snapshot '%s' on '%s': ", tag, block_node_name(i->nodes->pdata[k]));
    }
    block_resume(i->graph);
    tell_sizes(m, i, sizes);
    return ok;
}

bool migrate_snapshot_load(struct machine *m, const struct migrate_snapshot *s, bool *ret_touched, GError **error)
{
    struct images i;
    uint64_t size = 0;
    bool ran, ok = choose(m, s, true, &i, error) && all_have(&i, s->tag, &size, error) && migrate_possible(m, error);
    *ret_touched = ok;
    if (ok) {
        g_autofree struct area *a = g_new(struct area, 1);
        *a = (struct area){ .images = &i, .size = size };
        const struct migrate_source source = { area_read, a };
        machine_stop(m, MACHINE_RESTORE_VM);
        machine_reset_now(m); /* requests that wait, or are under way, must not reach the disks as they are then */
        ok = apply_all(m, &i, s->tag, error) && migrate_load_machine(m, &source, &ran, error);
        machine_set_state(m, MACHINE_PAUSED);
    }
    images_clear(&i);
    return ok;
}

/* ---- deleting ---- */

bool migrate_snapshot_delete(struct machine *m, const struct migrate_snapshot *s, GError **error)
{
    struct images i;
    bool ok = choose(m, s, false, &i, error);
    if (ok)
        block_quiesce(i.graph);
    for (guint k = 0; ok && k < i.nodes->len; k++) {
        uint64_t size;
        ok = !has(i.nodes->pdata[k], s->tag, &size) || block_snapshot_delete(i.nodes->pdata[k], s->tag, error);
        if (!ok)
            g_prefix_error(error, "Could not delete snapshot '%s' on '%s': ", s->tag, block_node_name(i.nodes->pdata[k]));
    }
    if (i.graph)
        block_resume(i.graph);
    images_clear(&i);
    return ok;
}
