/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Disks of definitions, packed: statistics of ten thousand domains that do not run are made without reading ten thousand documents. */
#include <string.h>

#include "manage/drivers/domain/block/domain_chain.h"
#include "manage/drivers/domain/stats/domain_stats.h"

char *domain_disk_list_new(const struct doc *doc)
{
    GString *s = g_string_new(NULL);
    el_each(disk, el_find(doc_root(doc), "devices"), "disk") {
        const char *name = el_get_or(disk, "target/@dev", ""), *path = domain_disk_path(disk);
        g_string_append_c(s, g_str_equal(domain_chain_format(disk), "raw") ? 'r' : 'i');
        g_string_append_len(s, name, (gssize)strlen(name) + 1);
        g_string_append_len(s, path ? path : "", (gssize)strlen(path ? path : "") + 1);
    }
    char *packed = g_memdup2(s->str, s->len + 1); /* as small as it is */
    g_string_free(s, TRUE);
    return packed;
}

bool domain_disk_list_next(const char **at, bool *ret_raw, const char **ret_name, const char **ret_path)
{
    if (!**at)
        return false;
    *ret_raw = **at == 'r';
    *ret_name = *at + 1;
    *ret_path = *ret_name + strlen(*ret_name) + 1;
    *at = *ret_path + strlen(*ret_path) + 1;
    return true;
}

static char *copy_of(const char *list)
{
    const char *end = list, *name, *path;
    bool raw;
    while (domain_disk_list_next(&end, &raw, &name, &path))
        ;
    return g_memdup2(list, (gsize)(end - list) + 1);
}

char *domain_disk_list(struct domain *d)
{
    g_mutex_lock(&d->lock);
    char *have = d->disks ? copy_of(d->disks) : NULL;
    unsigned number = d->definitions;
    g_mutex_unlock(&d->lock);
    doc_auto *doc = have ? NULL : domain_definition_once(d, NULL);
    if (!doc)
        return have;
    have = domain_disk_list_new(doc);
    g_mutex_lock(&d->lock);
    if (!d->disks && d->definitions == number)
        d->disks = copy_of(have);
    g_mutex_unlock(&d->lock);
    return have;
}
