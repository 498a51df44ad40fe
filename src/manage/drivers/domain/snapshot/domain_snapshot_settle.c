/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A live snapshot that was written down comes to one end or the other: the documents follow, or all of it is taken back. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/node.h"
#include "manage/drivers/domain/guest/domain_agent.h"
#include "manage/drivers/domain/snapshot/domain_checkpoint.h"
#include "manage/drivers/domain/save/domain_save.h"
#include "manage/drivers/domain/snapshot/domain_snapshot_record.h"
#include "manage/drivers/domain/stats/domain_stats.h"

/* ---- the definition ---- */

/* One disk of the definition; false: somebody has given it another image since, or it is already so. */
static bool edit_disk(struct el *disk, const struct snapshot_record_disk *k, bool over)
{
    const struct el *was = doc_root(k->defined), *from = el_find(disk, "source");
    bool is_over = !g_strcmp0(domain_chain_path(disk), record_path(k));
    if (!over && is_over) {
        domain_chain_put_back(disk, was);
    } else if (over && !is_over && from && el_equal(from, el_find(was, "source"))) {
        domain_snapshot_put_on_top(disk, record_overlay(k));
        domain_chain_forget(disk);
    } else {
        return false;
    }
    return true;
}

/* over: it names the overlays; else what it named before. One write for all disks. */
static bool define(struct domain *d, const struct snapshot_record *r, bool over, GError **error)
{
    bool changed = false, any = false;
    for (unsigned i = 0; i < r->disks->len; i++)
        any |= ((const struct snapshot_record_disk *)r->disks->pdata[i])->defined != NULL;
    if (!any || !d->persistent)
        return true;
    doc_auto *defined = domain_definition(d, error);
    for (unsigned i = 0; defined && i < r->disks->len; i++) {
        const struct snapshot_record_disk *k = r->disks->pdata[i];
        struct el *disk = k->defined ? domain_find_disk(defined, record_target(k)) : NULL;
        changed |= disk && edit_disk(disk, k, over);
    }
    if (!defined || (changed && !domain_follow_definition(d, defined, error)))
        return false;
    if (changed)
        defined = NULL;
    return true;
}

bool domain_snapshot_ready(struct domain *d, GError **error)
{
    if (!define(d, d->record, true, error))
        return false;
    g_mutex_lock(&d->lock);
    d->record->sent = true;
    g_mutex_unlock(&d->lock);
    return domain_write_status(d, error);
}

/* ---- what became of it ---- */

/* An overlay has nothing below it until the transaction puts it over the disk's image. */
static bool stands_over(struct json_object *nodes, const char *node)
{
    for (size_t i = 0; json_object_is_type(nodes, json_type_array) && i < json_object_array_length(nodes); i++) {
        struct json_object *o = json_object_array_get_idx(nodes, i), *name, *depth;
        if (json_object_object_get_ex(o, "node-name", &name) && !g_strcmp0(json_object_get_string(name), node))
            return json_object_object_get_ex(o, "backing_file_depth", &depth) && json_object_get_int64(depth) > 0;
    }
    return false;
}

static enum snapshot_fate ask(struct domain *d, struct snapshot_record *r)
{
    g_autoptr(GError) error = NULL;
    enum snapshot_fate fate = SNAPSHOT_NOT_TAKEN;
    struct json_object *nodes = monitor_command(d, "query-named-block-nodes", NULL, &error); /* not flat: QEMU counts no depth then */
    if (!nodes) {
        g_warning("domain '%s': whether the snapshot '%s' was taken is not known yet: %s", d->name, r->name, error->message);
        return SNAPSHOT_OPEN;
    }
    for (unsigned i = 0; i < r->disks->len; i++) {
        struct snapshot_record_disk *k = r->disks->pdata[i];
        g_autofree char *node = domain_chain_node(record_overlay(k));
        k->over = stands_over(nodes, node);
        fate = k->over ? SNAPSHOT_TAKEN : fate;
    }
    json_object_put(nodes);
    return fate;
}

/* Whether anything is in an overlay itself. What cannot be read counts as written to. */
static bool is_written(const char *path, const char *format)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return errno != ENOENT;
    struct block_graph *g = block_graph_create();
    struct block_node *n = block_open_filename(g, path, format, NULL, BLOCK_NO_BACKING, NULL);
    bool written = !n;
    uint64_t size = n ? block_node_size(n) : 0;
    if (n)
        block_enter(g);
    for (uint64_t at = 0; !written && at < size;) {
        struct block_status s = { 0 };
        written = block_status(n, at, MIN(size - at, (uint64_t)1 << 30), &s) || !s.bytes || (s.flags & BLOCK_STATUS_ALLOCATED);
        at += s.bytes;
    }
    if (n)
        block_leave(g);
    block_node_unref(n);
    block_graph_destroy(g);
    return written;
}

/*
 * Nobody can be asked. Overlays that hold nothing read as the images below: then all that the guest has written is there, whether they were in use or not, and the
 * snapshot that nobody was told of is taken back. One that holds something has it from the guest, or (a file of the caller's) it cannot be known: then the overlays stay
 * the disks' images. That keeps what the guest wrote if they were in use, and does not touch the images below if they were not.
 */
static enum snapshot_fate look(const struct domain *d, struct snapshot_record *r)
{
    g_autoptr(GString) names = g_string_new(NULL);
    enum snapshot_fate fate = SNAPSHOT_NOT_TAKEN;
    for (unsigned i = 0; i < r->disks->len; i++) {
        struct snapshot_record_disk *k = r->disks->pdata[i];
        k->over = true;
        if (is_written(record_path(k), domain_chain_format(record_overlay(k))))
            fate = SNAPSHOT_TAKEN;
        g_string_append_printf(names, "%s'%s' over '%s' (%s)", i ? ", " : "", record_path(k), k->below, record_target(k));
    }
    if (fate == SNAPSHOT_TAKEN)
        g_warning("domain '%s': its machine ended while the snapshot '%s' was taken; the overlays hold data, so they are the disks' images: %s", d->name, r->name, names->str);
    return fate;
}

/* ---- the rest ---- */

static void put_live(struct el *disk, void *opaque)
{
    const struct snapshot_record_disk *k = opaque;
    if (g_strcmp0(domain_chain_path(disk), record_path(k)) != 0)
        domain_snapshot_put_on_top(disk, record_overlay(k));
}

static void follow(struct domain *d, struct snapshot_record *r)
{
    g_autoptr(GError) error = NULL;
    for (unsigned i = 0; i < r->disks->len; i++) {
        struct snapshot_record_disk *k = r->disks->pdata[i];
        if (k->over)
            domain_disk_edit(d, record_target(k), put_live, k);
    }
    if (!define(d, r, true, &error))
        g_warning("domain '%s': the definition does not name the files of snapshot '%s': %s", d->name, r->name, error->message);
}

void domain_snapshot_follow(struct domain *d)
{
    for (unsigned i = 0; i < d->record->disks->len; i++)
        ((struct snapshot_record_disk *)d->record->disks->pdata[i])->over = true;
    follow(d, d->record);
    if (d->record->frozen)
        (void)!domain_write_status(d, NULL); /* the record stays until the guest runs on: that may take a while */
}

/* The file is as the daemon has made it: empty, or with its header. */
static bool is_made(const struct snapshot_record_disk *k)
{
    struct stat st;
    if (lstat(record_path(k), &st) < 0 || !S_ISREG(st.st_mode))
        return false;
    if (st.st_size == 0)
        return true;
    struct block_graph *g = block_graph_create();
    struct block_node *n = block_open_filename(g, record_path(k), domain_chain_format(record_overlay(k)), NULL, BLOCK_NO_BACKING, NULL);
    bool made = n && !g_strcmp0(block_backing_filename(n), k->below);
    block_node_unref(n);
    block_graph_destroy(g);
    return made;
}

static void remove_file(const struct domain *d, const struct snapshot_record_disk *k)
{
    const char *path = record_path(k);
    if (k->before == OVERLAY_THEIRS || access(path, F_OK) < 0)
        return;
    if (!is_made(k))
        g_warning("domain '%s': the file '%s' is left where it is: it is not what was to become the overlay of disk '%s'", d->name, path, record_target(k));
    else if (k->before == OVERLAY_EMPTY ? truncate(path, 0) < 0 : unlink(path) < 0)
        g_warning("domain '%s': the overlay '%s' is not used and cannot be removed: %s", d->name, path, g_strerror(errno));
}

/* Whatever names a file goes before the file. False: the definition cannot be written; it stays right with the overlays. */
static bool take_back(struct domain *d, struct snapshot_record *r, bool running)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GArray) nodes = g_array_new(FALSE, FALSE, sizeof(unsigned));
    if (!define(d, r, false, &error)) {
        g_warning("domain '%s': the snapshot '%s' was not taken, and its overlays stay in the definition: %s", d->name, r->name, error->message);
        return false;
    }
    for (unsigned i = 0; i < r->disks->len; i++) {
        unsigned index = domain_chain_index(record_overlay(r->disks->pdata[i]));
        g_array_append_val(nodes, index);
    }
    if (running)
        domain_chain_delete(d, nodes);
    for (unsigned i = 0; i < r->disks->len; i++)
        remove_file(d, r->disks->pdata[i]);
    if (r->metadata && (!domain_moment_remove(d, MOMENT_SNAPSHOT, r->name, &error) || !domain_moment_set_current(d, MOMENT_SNAPSHOT, r->current, &error)))
        g_warning("domain '%s': the snapshot '%s' was not taken, and its document stays: %s", d->name, r->name, error->message);
    return true;
}

static void thaw(struct domain *d)
{
    g_autoptr(GError) error = NULL;
    struct json_object *o = domain_agent_command(d, "guest-fsfreeze-thaw", NULL, false, &error);
    json_object_put(o);
    if (!o)
        g_warning("domain '%s': its file systems were frozen for a snapshot and are not thawed: %s", d->name, error->message);
}

enum snapshot_fate domain_snapshot_settle(struct domain *d, bool running)
{
    struct snapshot_record *r = d->record;
    if (!r)
        return SNAPSHOT_NOT_TAKEN;
    enum snapshot_fate fate = !r->sent ? SNAPSHOT_NOT_TAKEN : running ? ask(d, r) : look(d, r);
    if (fate == SNAPSHOT_TAKEN) {
        follow(d, r);
        domain_saving_taken(d);
    } else if (fate == SNAPSHOT_OPEN || !take_back(d, r, running)) {
        return SNAPSHOT_OPEN;
    }
    if (running && r->frozen)
        thaw(d);
    domain_snapshot_set_record(d, NULL);
    if (running)
        (void)!domain_write_status(d, NULL); /* where this fails the record is found again, and the same is done */
    return fate;
}

bool domain_snapshot_conclude(struct domain *d, bool ok, GError **error)
{
    g_mutex_lock(&d->lock);
    d->record->frozen = false; /* thawed by now, or never frozen */
    g_mutex_unlock(&d->lock);
    if (!ok) {
        ok = domain_snapshot_settle(d, true) == SNAPSHOT_TAKEN; /* the answer alone was lost */
        if (ok)
            g_clear_error(error);
        return ok;
    }
    domain_snapshot_set_record(d, NULL);
    domain_saving_taken(d);
    g_autoptr(GError) why = NULL;
    if (!domain_write_status(d, &why))
        g_warning("domain '%s': the snapshot is taken, and the status file does not say so: %s", d->name, why->message);
    return true;
}
