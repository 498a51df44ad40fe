/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The status file of a running machine, STATE/qemu/NAME.xml: what a new daemon needs to find the process again.
 *
 *   <domstatus id= pid= start= state= ...>
 *     <network name= mac=/> <tap name=/> <job name= disk= .../>
 *     <snapshot snapshot= .../> <overlay disk= .../> <saving kind= path= .../> <migration phase= .../>
 *   <domain> ... the live document, as doc_format() writes it ...
 *   </domstatus>
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "manage/drivers/domain/backup/domain_backup.h"
#include "manage/drivers/domain/save/domain_save.h"
#include "manage/drivers/domain/migrate/domain_migrate.h"
#include "manage/drivers/domain/snapshot/domain_snapshot_record.h"
#include "manage/drivers/domain/domain_status.h"

static char *status_path(struct domain_driver *dr, const char *name) { return g_strdup_printf("%s/%s.xml", dr->state_dir, name); }

void domain_erase_status(struct domain *d)
{
    g_autofree char *path = status_path(d->driver, d->name);
    g_mutex_lock(&d->status_lock);
    unlink(path);
    g_mutex_unlock(&d->status_lock);
}

void domain_remove_tree(const char *path)
{
    g_autoptr(GDir) dir = path ? g_dir_open(path, 0, NULL) : NULL;
    const char *name;
    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *file = g_build_filename(path, name, NULL);
        unlink(file);
    }
    if (dir)
        rmdir(path);
}

/* ---- writing ---- */

static void attribute(GString *s, const char *name, const char *value)
{
    g_autofree char *escaped = g_markup_escape_text(value, -1);
    g_string_append_printf(s, " %s='%s'", name, escaped);
}

static void number(GString *s, const char *name, gint64 value) { g_string_append_printf(s, " %s='%" G_GINT64_FORMAT "'", name, value); }

static char *format_locked(struct domain *d)
{
    const struct domain_run *r = d->run;
    GString *s = g_string_new("<domstatus");
    attribute(s, "name", d->name);
    number(s, "id", d->id);
    number(s, "pid", d->pid);
    number(s, "start", (gint64)d->pid_start);
    number(s, "state", d->state);
    number(s, "reason", d->reason);
    number(s, "since", d->started);
    number(s, "autodestroy", d->autodestroy);
    number(s, "vireo", r && r->is_vireo);
    number(s, "rebooting", r && r->fake_reboot);
    number(s, "stopping", r && (r->ending || r->destroying) ? r->stop_reason : 0);
    number(s, "nodes", d->nodes);
    number(s, "agentpatience", d->agent_patience);
    number(s, "agenttimeout", d->agent_timeout);
    attribute(s, "dir", d->dir ? d->dir : "");
    g_string_append(s, ">\n");
    for (unsigned i = 0; r && r->networks && i + 1 < r->networks->len; i += 2) {
        g_string_append(s, "<network");
        attribute(s, "name", r->networks->pdata[i]);
        attribute(s, "mac", r->networks->pdata[i + 1]);
        g_string_append(s, "/>\n");
    }
    for (unsigned i = 0; r && r->taps && i < r->taps->len; i++) {
        g_string_append(s, "<tap");
        attribute(s, "name", r->taps->pdata[i]);
        g_string_append(s, "/>\n");
    }
    for (unsigned i = 0; d->jobs && i < d->jobs->len; i++)
        domain_blockjob_format(d->jobs->pdata[i], s);
    domain_backup_format_locked(d, s);
    domain_snapshot_record_format_locked(d, s);
    domain_saving_format_locked(d, s);
    domain_migration_format_locked(d, s);
    g_autofree char *live = doc_format(d->live);
    g_string_append(s, live);
    g_string_append(s, "</domstatus>\n");
    return g_string_free(s, FALSE);
}

bool domain_write_status(struct domain *d, GError **error)
{
    g_mutex_lock(&d->status_lock); /* else an older text could come after a newer one, or after the end */
    g_mutex_lock(&d->lock);
    g_autofree char *path = status_path(d->driver, d->name), *text = d->live ? format_locked(d) : NULL;
    g_mutex_unlock(&d->lock);
    bool ok = !text || manage_write_file(path, text, -1, 0600, error);
    g_mutex_unlock(&d->status_lock);
    return ok;
}

/* ---- reading ---- */

static void start_element(GMarkupParseContext *context, const char *element, const char **names, const char **values, gpointer opaque, GError **error)
{
    struct status *st = opaque;
    static const struct { const char *name; gsize offset; } numbers[] = {
        { "id", offsetof(struct status, id) }, { "pid", offsetof(struct status, pid) }, { "start", offsetof(struct status, start) },
        { "state", offsetof(struct status, state) }, { "reason", offsetof(struct status, reason) }, { "since", offsetof(struct status, since) },
        { "autodestroy", offsetof(struct status, autodestroy) }, { "vireo", offsetof(struct status, vireo) },
        { "rebooting", offsetof(struct status, rebooting) }, { "stopping", offsetof(struct status, stopping) },
        { "nodes", offsetof(struct status, nodes) }, { "agentpatience", offsetof(struct status, agent_patience) },
        { "agenttimeout", offsetof(struct status, agent_timeout) },
    };
    bool network = !strcmp(element, "network"), tap = !strcmp(element, "tap");
    if (!strcmp(element, "job")) {
        struct domain_blockjob *j = domain_blockjob_parse(names, values);
        if (j)
            g_ptr_array_add(st->jobs, j);
        return;
    }
    if (!strcmp(element, "backup")) {
        if (!st->backup)
            st->backup = domain_backup_parse(names, values);
        return;
    }
    if (!strcmp(element, "saving")) {
        if (!st->saving)
            st->saving = domain_saving_parse(names, values);
        return;
    }
    if (!strcmp(element, "migration")) {
        if (!st->migration)
            st->migration = domain_migration_parse(names, values);
        return;
    }
    if (!strcmp(element, "snapshot")) {
        if (!st->record)
            st->record = domain_snapshot_record_parse(names, values);
        return;
    }
    if (!strcmp(element, "overlay")) {
        if (st->record)
            domain_snapshot_record_parse_disk(st->record, names, values);
        return;
    }
    for (unsigned i = 0; names[i]; i++) {
        if (network || tap) {
            g_ptr_array_add(network ? st->networks : st->taps, g_strdup(values[i])); /* name, then mac: the order of writing */
            continue;
        }
        if (!strcmp(names[i], "dir"))
            g_free(st->dir), st->dir = g_strdup(values[i]);
        else if (!strcmp(names[i], "name"))
            g_free(st->name), st->name = g_strdup(values[i]);
        for (unsigned n = 0; n < G_N_ELEMENTS(numbers); n++)
            if (!strcmp(names[i], numbers[n].name))
                *(gint64 *)((char *)st + numbers[n].offset) = g_ascii_strtoll(values[i], NULL, 10);
    }
}

void status_free(struct status *st)
{
    if (!st)
        return;
    g_free(st->name);
    g_free(st->dir);
    g_ptr_array_unref(st->networks);
    g_ptr_array_unref(st->taps);
    g_ptr_array_unref(st->jobs);
    domain_backup_free(st->backup);
    domain_snapshot_record_free(st->record);
    domain_saving_free(st->saving);
    domain_migration_free(st->migration);
    doc_free(st->live);
    g_free(st);
}

static bool parse(struct status *st, char *text, GError **error)
{
    static const GMarkupParser parser = { .start_element = start_element };
    char *body = strstr(text, "\n<domain "), *end = g_strrstr(text, "</domstatus>");
    if (!body || !end || end < body)
        return manage_fail(error, VIR_ERR_XML_ERROR, "it is cut off");
    *end = '\0';
    st->live = doc_parse(&schema_domain, body + 1, -1, error);
    if (!st->live)
        return false;
    body[1] = '\0';
    g_autofree char *head = g_strconcat(text, "</domstatus>", NULL);
    GMarkupParseContext *context = g_markup_parse_context_new(&parser, 0, st, NULL);
    bool ok = g_markup_parse_context_parse(context, head, -1, error) && g_markup_parse_context_end_parse(context, error);
    g_markup_parse_context_free(context);
    if (ok && (!st->name || !st->dir))
        return manage_fail(error, VIR_ERR_XML_ERROR, "name or directory is missing");
    return ok;
}

struct status *status_read(const char *path, GError **error)
{
    g_autofree char *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, error))
        return NULL;
    struct status *st = g_new0(struct status, 1);
    st->networks = g_ptr_array_new_with_free_func(g_free);
    st->taps = g_ptr_array_new_with_free_func(g_free);
    st->jobs = g_ptr_array_new_with_free_func((GDestroyNotify)domain_blockjob_free);
    if (parse(st, text, error))
        return st;
    status_free(st);
    return NULL;
}
