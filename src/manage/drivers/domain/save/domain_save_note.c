/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The note of a file that is being written or used up, and what a daemon does with one that it finds. */
#include "manage/drivers/domain/save/domain_dump.h"
#include "manage/drivers/domain/save/domain_save.h"
#include "manage/drivers/domain/snapshot/domain_snapshot.h"

#include <json-c/json.h>
#include <string.h>
#include <unistd.h>

static const char *const kinds[] = { [SAVING_SAVE] = "save", [SAVING_DUMP] = "dump", [SAVING_MEMORY] = "memory", [SAVING_INSIDE] = "inside", [SAVING_USED] = "used" };

void domain_saving_free(struct domain_saving *s)
{
    if (!s)
        return;
    g_free(s->path);
    g_free(s);
}

/* ---- in the status file ---- */

void domain_saving_format_locked(struct domain *d, GString *to)
{
    const struct domain_saving *s = d->saving;
    if (!s)
        return;
    g_autofree char *path = g_markup_escape_text(s->path, -1);
    g_string_append_printf(to, "<saving kind='%s' path='%s' ran='%d' managed='%d' taken='%d'/>\n", kinds[s->kind], path, s->ran, s->managed, s->taken);
}

struct domain_saving *domain_saving_parse(const char **names, const char **values)
{
    struct domain_saving *s = g_new0(struct domain_saving, 1);
    for (unsigned i = 0; names[i]; i++) {
        for (unsigned k = 0; !strcmp(names[i], "kind") && k < G_N_ELEMENTS(kinds); k++)
            if (!strcmp(values[i], kinds[k]))
                s->kind = (enum saving_kind)k;
        if (!strcmp(names[i], "path"))
            g_free(s->path), s->path = g_strdup(values[i]);
        else if (!strcmp(names[i], "ran"))
            s->ran = values[i][0] == '1';
        else if (!strcmp(names[i], "managed"))
            s->managed = values[i][0] == '1';
        else if (!strcmp(names[i], "taken"))
            s->taken = values[i][0] == '1';
    }
    if (s->path)
        return s;
    domain_saving_free(s);
    return NULL;
}

bool domain_saving_note(struct domain *d, enum saving_kind kind, const char *path, bool ran, bool managed, GError **error)
{
    struct domain_saving *s = g_new0(struct domain_saving, 1);
    *s = (struct domain_saving){ kind, g_strdup(path), ran, managed, false };
    g_mutex_lock(&d->lock);
    domain_saving_free(d->saving);
    d->saving = s;
    g_mutex_unlock(&d->lock);
    if (domain_write_status(d, error))
        return true;
    domain_saving_drop(d);
    return false;
}

void domain_saving_drop(struct domain *d)
{
    g_mutex_lock(&d->lock);
    bool there = d->saving != NULL;
    g_clear_pointer(&d->saving, domain_saving_free);
    g_mutex_unlock(&d->lock);
    if (there)
        (void)!domain_write_status(d, NULL);
}

void domain_saving_taken(struct domain *d)
{
    g_mutex_lock(&d->lock);
    if (d->saving)
        d->saving->taken = true;
    g_mutex_unlock(&d->lock);
}

/* A copy; free its path. */
static bool saving_of(struct domain *d, struct domain_saving *ret)
{
    g_mutex_lock(&d->lock);
    bool there = d->saving != NULL;
    if (there) {
        *ret = *d->saving;
        ret->path = g_strdup(ret->path);
    }
    g_mutex_unlock(&d->lock);
    return there;
}

/* ---- found ---- */

static bool runs(struct domain *d)
{
    struct json_object *o = monitor_command(d, "query-status", NULL, NULL);
    bool yes = o && json_object_get_boolean(json_object_object_get(o, "running"));
    json_object_put(o);
    return yes;
}

/* The state is whole, and the machine was to end. */
static bool is_saved(struct domain *d, const struct domain_saving *s)
{
    if (s->kind != SAVING_SAVE || save_image_kind(s->path) != SAVE_WHOLE)
        return false;
    g_mutex_lock(&d->lock);
    d->saved |= s->managed;
    g_mutex_unlock(&d->lock);
    return true;
}

bool domain_saving_settle(struct domain *d)
{
    struct domain_saving s;
    g_autoptr(GError) error = NULL;
    if (!saving_of(d, &s))
        return true;
    g_autofree char *path = s.path;
    if (is_saved(d, &s)) {
        domain_stop(d, VIR_DOMAIN_SHUTOFF_SAVED);
        return false;
    }
    if (s.kind == SAVING_DUMP)
        (void)!domain_dump_wait(d, NULL);
    if (s.kind != SAVING_USED && !domain_stop_sending(d, &error))
        g_warning("domain '%s': %s", d->name, error->message);
    bool kept = s.kind == SAVING_MEMORY && domain_snapshot_settle_memory(d, path, true);
    if (s.kind == SAVING_INSIDE)
        domain_snapshot_settle_inside(d, path, true);
    else if (s.kind == SAVING_USED || s.kind == SAVING_DUMP || (s.kind == SAVING_SAVE && save_image_kind(path) == SAVE_PARTIAL))
        save_image_remove(path);
    if (s.managed) {
        g_mutex_lock(&d->lock);
        d->saved = false;
        g_mutex_unlock(&d->lock);
    }
    if (s.kind != SAVING_USED && s.kind != SAVING_INSIDE && !kept) {
        g_warning("domain '%s': '%s' was not written to its end by the daemon before and is removed; the guest is as it was", d->name, path);
    }
    g_clear_error(&error);
    if (s.ran && !runs(d) && !domain_let_go(d, s.kind == SAVING_USED ? VIR_DOMAIN_RUNNING_RESTORED : VIR_DOMAIN_RUNNING_SAVE_CANCELED, &error))
        g_warning("domain '%s': it does not run on: %s", d->name, error->message);
    domain_saving_drop(d);
    return true;
}

void domain_saving_gone(struct domain *d)
{
    struct domain_saving s;
    if (!saving_of(d, &s))
        return;
    g_autofree char *path = s.path;
    bool whole = is_saved(d, &s);
    if (s.kind == SAVING_MEMORY)
        (void)domain_snapshot_settle_memory(d, path, false);
    if (s.kind == SAVING_INSIDE)
        domain_snapshot_settle_inside(d, path, false);
    if (s.kind == SAVING_DUMP || (s.kind == SAVING_SAVE && !whole && save_image_kind(path) == SAVE_PARTIAL))
        save_image_remove(path);
    g_mutex_lock(&d->lock);
    if (s.kind == SAVING_SAVE && s.managed)
        d->saved = whole;
    g_clear_pointer(&d->saving, domain_saving_free);
    g_mutex_unlock(&d->lock);
}
