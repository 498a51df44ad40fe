/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Definitions on disk: CONFIG/qemu/NAME.xml, and a link in autostart/. Ten thousand of them are only names and numbers in memory: the head of each
 * file has a summary with a sum over the rest of the file, so that loading reads every file but parses only those that were changed by hand. The
 * document is read when somebody asks for it; the latest stay in memory.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manage/drivers/domain/domain.h"
#include "manage/drivers/domain/domain_journal.h"

enum { RECENT = 16 }; /* documents kept */

#define HEAD \
    "<!--\nThis file belongs to the daemon vireod: changes made here are seen at its next start.\nUse 'virsh edit' or 'vireo edit' instead, which check them.\n"
#define SUMMARY "summary: "

/* FNV-1a over 8 bytes at a time; the last ones with zeros behind them. */
static uint64_t sum_more(uint64_t h, const char *text)
{
    size_t left = strlen(text);
    for (uint64_t v = 0; left; v = 0) {
        size_t n = MIN(left, sizeof(v));
        memcpy(&v, text, n);
        h = (h ^ v) * 0x100000001b3;
        h ^= h >> 29;
        text += n;
        left -= n;
    }
    return h;
}

/* The name is part of it: a copied or renamed file is parsed. */
static uint64_t sum(const char *name, const char *text) { return sum_more(sum_more(0xcbf29ce484222325, name), text); }

char *domain_definition_path(struct domain_driver *dr, const char *name) { return g_strdup_printf("%s/%s.xml", dr->config_dir, name); }

static char *autostart_path(struct domain_driver *dr, const char *name) { return g_strdup_printf("%s/%s.xml", dr->autostart_dir, name); }

/* ---- summaries ---- */

struct summary {
    char uuid[37];
    uint64_t max_kib, memory_kib;
    unsigned max_vcpus, vcpus;
    char os_type[17];
};

static void summarize(const struct doc *doc, struct summary *s)
{
    const struct el *r = doc_root(doc);
    uint64_t bytes = 0, n = 1;
    *s = (struct summary){ 0 };
    g_strlcpy(s->uuid, el_get_or(r, "uuid", ""), sizeof(s->uuid));
    if (el_get_bytes(r, "memory", "KiB", &bytes))
        s->max_kib = bytes >> 10;
    s->memory_kib = el_get_bytes(r, "currentMemory", "KiB", &bytes) ? bytes >> 10 : s->max_kib;
    el_get_u64(r, "vcpu", &n);
    s->max_vcpus = s->vcpus = (unsigned)n;
    if (el_get_u64(r, "vcpu/@current", &n))
        s->vcpus = (unsigned)n;
    g_strlcpy(s->os_type, el_get_or(r, "os/type", "hvm"), sizeof(s->os_type));
}

static void use_summary(struct domain *d, const struct summary *s)
{
    d->max_kib = s->max_kib;
    d->memory_kib = s->memory_kib;
    d->max_vcpus = s->max_vcpus;
    d->vcpus = s->vcpus;
    d->os_type = g_intern_string(s->os_type);
}

void domain_summary_locked(struct domain *d, const struct doc *doc)
{
    struct summary s;
    summarize(doc, &s);
    use_summary(d, &s);
}

/* The document's text in a file: behind the comment at the head. */
static const char *body_of(const char *text)
{
    const char *end = g_str_has_prefix(text, "<!--") ? strstr(text, "-->\n") : NULL;
    return end ? end + 4 : text;
}

/* From the head of the file, where its sum is right. */
static bool read_summary(const char *name, const char *text, struct summary *s)
{
    const char *body = body_of(text), *at = strstr(text, SUMMARY);
    unsigned long long max, now, given;
    if (body == text || !at || at > body ||
        sscanf(at + strlen(SUMMARY), "%36s %llu %llu %u %u %16s %llx", s->uuid, &max, &now, &s->max_vcpus, &s->vcpus, s->os_type, &given) != 7)
        return false;
    s->max_kib = max;
    s->memory_kib = now;
    return given == sum(name, body);
}

/* ---- one definition ---- */

/* text NULL: removed; wait: for the disk. */
static bool put(struct domain_driver *dr, const char *name, const char *path, const char *text, bool wait, GError **error)
{
    g_autofree char *file = g_strdup_printf("%s.xml", name);
    if (dr->journal)
        return journal_put(dr->journal, file, text, wait, error);
    return text ? manage_write_file(path, text, -1, 0600, error) : manage_remove_file(path, error);
}

bool domain_write_definition(struct domain_driver *dr, const char *name, const struct doc *doc, GError **error)
{
    struct summary s;
    summarize(doc, &s);
    g_autofree char *body = doc_format(doc), *path = domain_definition_path(dr, name);
    g_autofree char *text = g_strdup_printf(HEAD SUMMARY "%s %llu %llu %u %u %s %llx\n-->\n%s", s.uuid, (unsigned long long)s.max_kib,
                                            (unsigned long long)s.memory_kib, s.max_vcpus, s.vcpus, s.os_type, (unsigned long long)sum(name, body), body);
    return put(dr, name, path, text, true, error);
}

bool domain_remove_definition(struct domain_driver *dr, const char *name, bool wait, GError **error)
{
    g_autofree char *path = domain_definition_path(dr, name);
    return put(dr, name, path, NULL, wait, error);
}

static struct doc *read_definition(struct domain_driver *dr, const char *name, GError **error)
{
    g_autofree char *path = domain_definition_path(dr, name), *text = NULL;
    g_autoptr(GError) e = NULL;
    if (!g_file_get_contents(path, &text, NULL, &e))
        return manage_null(error, VIR_ERR_OPERATION_FAILED, "cannot read the definition of domain '%s': %s", name, e->message);
    struct doc *doc = doc_parse(&schema_domain, body_of(text), -1, &e);
    return doc ? doc : manage_null(error, VIR_ERR_XML_ERROR, "%s: %s", path, e->message);
}

bool domain_erase_definition(struct domain *d, GError **error)
{
    g_autofree char *mark = autostart_path(d->driver, d->name);
    return manage_remove_file(mark, error) && domain_remove_definition(d->driver, d->name, false, error);
}

bool domain_write_autostart(struct domain *d, bool on, GError **error)
{
    g_autofree char *path = domain_definition_path(d->driver, d->name), *mark = autostart_path(d->driver, d->name);
    if (!on)
        return manage_remove_file(mark, error);
    if (g_mkdir_with_parents(d->driver->autostart_dir, 0700) < 0)
        return manage_fail_errno(error, errno, "cannot make the directory '%s'", d->driver->autostart_dir);
    if (symlink(path, mark) < 0 && errno != EEXIST)
        return manage_fail_errno(error, errno, "cannot make the link '%s'", mark);
    return true;
}

/* ---- documents in memory ---- */

void domain_forget_definition(struct domain *d)
{
    struct domain_driver *dr = d->driver;
    g_mutex_lock(&dr->recent_lock);
    bool there = g_queue_remove(&dr->recent, d);
    g_mutex_unlock(&dr->recent_lock);
    g_mutex_lock(&d->lock);
    doc_free(d->defined);
    d->defined = NULL;
    d->definitions++;
    g_clear_pointer(&d->disks, g_free);
    g_mutex_unlock(&d->lock);
    if (there)
        domain_unref(d);
}

/* d's document has come into memory: the one that was not asked for for longest goes. */
static void remember(struct domain *d)
{
    struct domain_driver *dr = d->driver;
    struct domain *old = NULL;
    g_mutex_lock(&dr->recent_lock);
    if (!g_queue_find(&dr->recent, d))
        g_queue_push_head(&dr->recent, domain_ref(d));
    if (dr->recent.length > RECENT)
        old = g_queue_pop_tail(&dr->recent);
    g_mutex_unlock(&dr->recent_lock);
    if (!old)
        return;
    g_mutex_lock(&old->lock);
    doc_free(old->defined);
    old->defined = NULL;
    g_mutex_unlock(&old->lock);
    domain_unref(old);
}

/* keep: in memory, for who asks next. */
static struct doc *definition(struct domain *d, bool keep, GError **error)
{
    g_mutex_lock(&d->lock);
    const struct doc *have = d->persistent ? d->defined : d->live;
    struct doc *copy = have ? doc_copy(have) : NULL;
    bool transient = !d->persistent;
    g_autofree char *name = g_strdup(d->name);
    g_mutex_unlock(&d->lock);
    if (copy)
        return copy;
    if (transient)
        return manage_null(error, VIR_ERR_OPERATION_INVALID, "domain '%s' has no definition", name);
    struct doc *doc = read_definition(d->driver, name, error);
    if (!doc || !keep)
        return doc;
    g_mutex_lock(&d->lock);
    keep = !d->defined && d->persistent && !d->removed;
    if (keep)
        d->defined = doc_copy(doc);
    g_mutex_unlock(&d->lock);
    if (keep)
        remember(d);
    return doc;
}

struct doc *domain_definition(struct domain *d, GError **error) { return definition(d, true, error); }
struct doc *domain_definition_once(struct domain *d, GError **error) { return definition(d, false, error); }

bool domain_definition_names(struct domain *d, const char *element)
{
    g_mutex_lock(&d->lock);
    g_autofree char *path = domain_definition_path(d->driver, d->name), *text = NULL, *start = g_strconcat("<", element, NULL);
    g_mutex_unlock(&d->lock);
    return !g_file_get_contents(path, &text, NULL, NULL) || strstr(body_of(text), start);
}

static bool set_definition(struct domain *d, struct doc *new, bool follows, GError **error)
{
    g_mutex_lock(&d->lock);
    g_autofree char *name = g_strdup(d->name);
    g_mutex_unlock(&d->lock);
    if (!domain_write_definition(d->driver, name, new, error))
        return false;
    g_mutex_lock(&d->lock);
    doc_free(d->defined);
    d->defined = new;
    d->definitions++;
    g_clear_pointer(&d->disks, g_free);
    d->persistent = true;
    d->updated = d->id >= 0 && (d->updated || !follows);
    if (d->id < 0)
        domain_summary_locked(d, new);
    g_mutex_unlock(&d->lock);
    remember(d);
    return true;
}

bool domain_set_definition(struct domain *d, struct doc *new, GError **error) { return set_definition(d, new, false, error); }
bool domain_follow_definition(struct domain *d, struct doc *new, GError **error) { return set_definition(d, new, true, error); }

struct doc *domain_live(struct domain *d, GError **error)
{
    g_mutex_lock(&d->lock);
    struct doc *copy = d->id >= 0 && d->live ? doc_copy(d->live) : NULL;
    g_mutex_unlock(&d->lock);
    return copy ? copy : manage_null(error, VIR_ERR_OPERATION_INVALID, "domain is not running");
}

bool domain_set_live(struct domain *d, struct doc *new, GError **error)
{
    g_mutex_lock(&d->lock);
    doc_free(d->live);
    d->live = new;
    domain_summary_locked(d, new);
    g_mutex_unlock(&d->lock);
    return domain_write_status(d, error);
}

/* ---- loading ---- */

/* A file without a good summary: parsed. NULL name in the document's place is an error that names the file. */
static bool parse_summary(const char *name, const char *text, struct summary *s, char **ret_disks, GError **error)
{
    doc_auto *doc = doc_parse(&schema_domain, body_of(text), -1, error);
    if (!doc)
        return false;
    const char *inside = el_get_or(doc_root(doc), "name", "");
    if (strcmp(inside, name))
        return manage_fail(error, VIR_ERR_XML_ERROR, "the domain inside is named '%s'", inside);
    summarize(doc, s);
    if (!*s->uuid)
        return manage_fail(error, VIR_ERR_XML_ERROR, "the domain inside has no UUID; define it anew with 'virsh define'");
    *ret_disks = domain_disk_list_new(doc);
    return true;
}

static bool load(struct domain_driver *dr, const char *name, GError **error)
{
    g_autofree char *path = domain_definition_path(dr, name), *text = NULL, *mark = autostart_path(dr, name), *disks = NULL;
    struct summary s;
    uint8_t uuid[16];
    if (!g_file_get_contents(path, &text, NULL, error))
        return false;
    if (!read_summary(name, text, &s) && !parse_summary(name, text, &s, &disks, error))
        return false;
    if (!manage_uuid_parse(s.uuid, uuid))
        return manage_fail(error, VIR_ERR_XML_ERROR, "'%s' is no UUID", s.uuid);
    domain_auto *d = domain_claim(dr, uuid, name, error);
    if (!d)
        return false;
    use_summary(d, &s);
    d->disks = g_steal_pointer(&disks);
    d->persistent = true;
    d->autostart = access(mark, F_OK) == 0;
    domain_show(d);
    return true;
}

/* Somebody has changed the file since the record: a document that can be read, not what a crash of the host leaves of a file. */
static bool changed_since(const char *path, const char *text, gint64 us)
{
    struct stat st;
    if (stat(path, &st) < 0 || st.st_mtim.tv_sec * G_USEC_PER_SEC + st.st_mtim.tv_nsec / 1000 < us)
        return false;
    doc_auto *doc = doc_parse(&schema_domain, body_of(text), -1, NULL);
    return doc != NULL;
}

/* journal_apply: what the last daemon had answered for, and could not bring to the disk any more. */
static void restore(const char *file, const char *text, gint64 us, void *opaque)
{
    struct domain_driver *dr = opaque;
    g_autofree char *path = g_build_filename(dr->config_dir, file, NULL), *have = NULL;
    g_autoptr(GError) error = NULL;
    if (file[0] == '.' || !g_str_has_suffix(file, ".xml"))
        return;
    bool there = g_file_get_contents(path, &have, NULL, NULL);
    if (there == (text != NULL) && (!there || !strcmp(have, text)))
        return;
    if (there && changed_since(path, have, us))
        return;
    if (!(text ? manage_write_file(path, text, -1, 0600, &error) : manage_remove_file(path, &error)))
        g_warning("%s", error->message);
}

void domain_load_definitions(struct domain_driver *dr)
{
    g_autofree char *journal = g_build_filename(dr->lib_dir, "definitions.journal", NULL);
    dr->journal = journal_open(journal, dr->config_dir, restore, dr);
    g_autoptr(GDir) dir = g_dir_open(dr->config_dir, 0, NULL);
    const char *file;
    while (dir && (file = g_dir_read_name(dir))) {
        g_autoptr(GError) error = NULL;
        if (file[0] == '.' && strstr(file, ".xml.")) { /* what a killed daemon left half written */
            g_autofree char *half = g_build_filename(dr->config_dir, file, NULL);
            unlink(half);
        }
        if (file[0] == '.' || !g_str_has_suffix(file, ".xml"))
            continue;
        g_autofree char *name = g_strndup(file, strlen(file) - 4);
        if (!load(dr, name, &error))
            g_warning("%s/%s: not loaded, the file is left as it is: %s", dr->config_dir, file, error->message);
    }
}
