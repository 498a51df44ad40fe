/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A live snapshot is written down before it is taken (domain_snapshot_settle.c: its end). */
#include "manage/drivers/domain/snapshot/domain_snapshot_record.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "manage/drivers/domain/stats/domain_stats.h"

/* ---- memory ---- */

static void disk_free(gpointer p)
{
    struct snapshot_record_disk *k = p;
    doc_free(k->disk);
    doc_free(k->defined);
    g_free(k->below);
    g_free(k);
}

static struct snapshot_record *record_new(void)
{
    struct snapshot_record *r = g_new0(struct snapshot_record, 1);
    r->disks = g_ptr_array_new_with_free_func(disk_free);
    return r;
}

void domain_snapshot_record_free(struct snapshot_record *r)
{
    if (!r)
        return;
    g_free(r->name);
    g_free(r->current);
    g_ptr_array_unref(r->disks);
    g_free(r);
}

static struct doc *disk_document(const struct el *disk)
{
    g_autofree char *text = disk ? el_format(disk, 0) : NULL;
    return text ? doc_parse_at(&schema_domain, "devices", text, -1, NULL) : NULL;
}

/* ---- in the status file ---- */

static void attribute(GString *to, const char *name, const char *value)
{
    g_autofree char *escaped = value ? g_markup_escape_text(value, -1) : NULL;
    if (escaped)
        g_string_append_printf(to, " %s='%s'", name, escaped);
}

void domain_snapshot_record_format_locked(struct domain *d, GString *to)
{
    const struct snapshot_record *r = d->record;
    if (!r)
        return;
    g_string_append(to, "<snapshot");
    attribute(to, "snapshot", r->name);
    attribute(to, "current", r->current);
    g_string_append_printf(to, " metadata='%d' frozen='%d' sent='%d'/>\n", r->metadata, r->frozen, r->sent);
    for (unsigned i = 0; i < r->disks->len; i++) {
        const struct snapshot_record_disk *k = r->disks->pdata[i];
        g_autofree char *disk = el_format(doc_root(k->disk), 0), *defined = k->defined ? el_format(doc_root(k->defined), 0) : NULL;
        g_string_append(to, "<overlay");
        attribute(to, "disk", disk);
        attribute(to, "defined", defined);
        attribute(to, "below", k->below);
        g_string_append_printf(to, " before='%d'/>\n", (int)k->before);
    }
}

static const char *value_of(const char **names, const char **values, const char *name)
{
    for (unsigned i = 0; names[i]; i++)
        if (g_str_equal(names[i], name))
            return values[i];
    return NULL;
}

struct snapshot_record *domain_snapshot_record_parse(const char **names, const char **values)
{
    struct snapshot_record *r = record_new();
    r->name = g_strdup(value_of(names, values, "snapshot"));
    r->current = g_strdup(value_of(names, values, "current"));
    r->metadata = !g_strcmp0(value_of(names, values, "metadata"), "1");
    r->frozen = !g_strcmp0(value_of(names, values, "frozen"), "1");
    r->sent = !g_strcmp0(value_of(names, values, "sent"), "1");
    if (r->name && domain_moment_name_ok(MOMENT_SNAPSHOT, r->name, NULL))
        return r; /* the name is a file's */
    domain_snapshot_record_free(r);
    return NULL;
}

void domain_snapshot_record_parse_disk(struct snapshot_record *r, const char **names, const char **values)
{
    const char *disk = value_of(names, values, "disk"), *defined = value_of(names, values, "defined"), *before = value_of(names, values, "before");
    g_autoptr(GError) error = NULL;
    struct snapshot_record_disk *k = g_new0(struct snapshot_record_disk, 1);
    k->disk = disk ? doc_parse_at(&schema_domain, "devices", disk, -1, &error) : NULL;
    k->defined = defined ? doc_parse_at(&schema_domain, "devices", defined, -1, NULL) : NULL;
    k->below = g_strdup(value_of(names, values, "below"));
    k->before = !g_strcmp0(before, "2") ? OVERLAY_ABSENT : !g_strcmp0(before, "1") ? OVERLAY_EMPTY : OVERLAY_THEIRS;
    if (k->disk && k->below && record_overlay(k) && record_path(k) && domain_chain_index(record_overlay(k))) {
        g_ptr_array_add(r->disks, k);
        return;
    }
    g_warning("the record of snapshot '%s' has a disk that cannot be read%s%s", r->name, error ? ": " : "", error ? error->message : "");
    disk_free(k);
}

/* ---- overlays in documents ---- */

struct el *domain_snapshot_overlay(struct snapshot_disk *k)
{
    struct el *m = el_add(k->disk, "mirror");
    struct stat st;
    bool block = stat(k->path, &st) == 0 && S_ISBLK(st.st_mode);
    el_set(m, "@type", block ? "block" : "file");
    el_set(m, "format/@type", k->format);
    el_set(m, block ? "source/@dev" : "source/@file", k->path);
    domain_chain_set_below(m, NULL);
    return m;
}

void domain_snapshot_put_on_top(struct el *disk, const struct el *overlay)
{
    doc_auto *old = doc_parse_at(&schema_domain, "devices", "<disk type='file'/>", -1, NULL);
    domain_chain_take(doc_root(old), disk, true);
    if (el_find(disk, "backingStore"))
        el_copy(doc_root(old), el_find(disk, "backingStore"));
    domain_chain_take(disk, overlay, domain_chain_index(overlay) != 0);
    domain_chain_set_below(disk, doc_root(old));
}

/* ---- before ---- */

/* Files of the daemon's are those that were not there, and those that were empty; what the caller has made is never touched. */
static enum overlay_before look_before(const struct snapshot *s, const char *path)
{
    struct stat st;
    if (s->flags & VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT)
        return OVERLAY_THEIRS;
    if (lstat(path, &st) < 0)
        return errno == ENOENT ? OVERLAY_ABSENT : OVERLAY_THEIRS;
    return S_ISREG(st.st_mode) && st.st_size == 0 ? OVERLAY_EMPTY : OVERLAY_THEIRS;
}

static unsigned next_index(struct domain *d)
{
    g_mutex_lock(&d->lock);
    unsigned n = ++d->nodes;
    g_mutex_unlock(&d->lock);
    return n;
}

/* The definition means the same image as long as it names the one that is the disk's. */
static bool same_image(struct domain_driver *dr, const struct el *a, const struct el *b)
{
    g_autofree char *one = domain_image_path(dr, a, NULL), *other = domain_image_path(dr, b, NULL);
    return one && !g_strcmp0(one, other);
}

static bool note_disk(struct snapshot *s, struct snapshot_record *r, struct snapshot_disk *k, struct doc *defined, GError **error)
{
    const char *target = el_get_or(k->disk, "target/@dev", "?");
    g_autofree char *below = domain_image_path(s->d->driver, k->disk, error);
    if (!below)
        return error && *error ? false : manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "external snapshots of disk '%s' need a local image", target);
    k->index = next_index(s->d);
    el_setf(domain_snapshot_overlay(k), "source/@index", "%u", k->index);
    struct el *own = defined ? domain_find_disk(defined, target) : NULL;
    struct snapshot_record_disk *n = g_new0(struct snapshot_record_disk, 1);
    n->disk = disk_document(k->disk);
    n->defined = own && same_image(s->d->driver, own, k->disk) ? disk_document(own) : NULL;
    n->below = g_steal_pointer(&below);
    n->before = look_before(s, k->path);
    if (n->disk) {
        g_ptr_array_add(r->disks, n);
        return true;
    }
    disk_free(n);
    return manage_fail(error, VIR_ERR_INTERNAL_ERROR, "the element of disk '%s' cannot be written down", target);
}

void domain_snapshot_set_record(struct domain *d, struct snapshot_record *r)
{
    g_mutex_lock(&d->lock);
    struct snapshot_record *old = d->record;
    d->record = r;
    g_mutex_unlock(&d->lock);
    domain_snapshot_record_free(old);
}

static bool note_all(struct snapshot *s, struct snapshot_record *r, GError **error)
{
    struct domain *d = s->d;
    r->name = g_strdup(el_get_or(doc_root(s->doc), "name", ""));
    r->metadata = !(s->flags & VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA);
    r->frozen = s->flags & VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE;
    g_mutex_lock(&d->lock);
    r->current = g_strdup(domain_moment_current_locked(d, MOMENT_SNAPSHOT));
    g_mutex_unlock(&d->lock);
    doc_auto *defined = d->persistent ? domain_definition(d, error) : NULL;
    bool ok = defined || !d->persistent;
    for (unsigned i = 0; ok && i < s->disks->len; i++)
        ok = note_disk(s, r, &g_array_index(s->disks, struct snapshot_disk, i), defined, error);
    return ok;
}

bool domain_snapshot_intend(struct snapshot *s, GError **error)
{
    struct domain *d = s->d;
    if (d->record && domain_snapshot_settle(d, true) == SNAPSHOT_OPEN)
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "whether the snapshot '%s' was taken is not known: the machine does not answer", d->record->name);
    for (unsigned i = 0; i < s->disks->len; i++)
        if (!domain_blockjob_none(d, el_get_or(g_array_index(s->disks, struct snapshot_disk, i).disk, "target/@dev", "?"), error))
            return false;
    struct snapshot_record *r = record_new();
    if (!note_all(s, r, error)) {
        domain_snapshot_record_free(r);
        return false;
    }
    domain_snapshot_set_record(d, r);
    if (domain_write_status(d, error))
        return true;
    domain_snapshot_set_record(d, NULL);
    return false;
}
