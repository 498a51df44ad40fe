/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The kinds of pools, those that are not served, and what clients are told of them. */
#include <string.h>

#include "storage.h"

const struct storage_backend *const storage_backends[] = { &storage_dir, &storage_fs, &storage_netfs, &storage_logical, &storage_disk, &storage_iscsi, NULL };

/* All kinds that there are, in the order of the capabilities. Volumes: those kinds whose capabilities tell of formats though they are not served. */
static const struct { const char *type; bool volumes, without_formats; } kinds[] = {
    { "dir" }, { "fs" }, { "netfs" }, { "logical" }, { "disk" }, { "iscsi" }, { "iscsi-direct" }, { "scsi" }, { "mpath" },
    { "rbd", true, true }, { "sheepdog" }, { "gluster", true, false }, { "zfs" }, { "vstorage", true, false },
};

static const struct storage_backend *find(const char *type)
{
    for (const struct storage_backend *const *b = storage_backends; *b; b++)
        if (!strcmp((*b)->type, type))
            return *b;
    return NULL;
}

const struct storage_backend *storage_backend_find(const char *type, GError **error)
{
    const struct storage_backend *b = find(type);
    if (b)
        return b;
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (!strcmp(kinds[i].type, type))
            return manage_null(error, VIR_ERR_CONFIG_UNSUPPORTED, "missing backend for pool type '%s': vireo serves pools of type dir, fs, netfs, logical, disk and iscsi",
                               type);
    return manage_null(error, VIR_ERR_XML_ERROR, "unknown storage pool type '%s'", type);
}

/* Where administrators' programs may lie. */
static bool is_there(const char *program)
{
    static const char *const places[] = { "/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin", NULL };
    g_autofree char *found = g_find_program_in_path(program);
    for (unsigned i = 0; !found && places[i]; i++) {
        g_autofree char *path = g_build_filename(places[i], program, NULL);
        if (g_file_test(path, G_FILE_TEST_IS_EXECUTABLE))
            found = g_steal_pointer(&path);
    }
    return found;
}

bool storage_backend_tools(const struct storage_backend *b, GError **error)
{
    for (const struct storage_tool *t = b->tools; t && t->program; t++)
        if (!is_there(t->program))
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "pools of type '%s' need the program '%s', which is not on this host: install the package '%s'",
                               b->type, t->program, t->package);
    return true;
}

static void put_values(struct el *options, const char *name, const char *const *values)
{
    struct el *e = el_add(options, "enum");
    el_set(e, "@name", name);
    for (unsigned i = 0; values && values[i]; i++)
        el_set(el_add(e, "value"), "", values[i]);
}

char *storage_capabilities(void)
{
    doc_auto *d = doc_new(&schema_poolcaps);
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        const struct storage_backend *b = find(kinds[i].type);
        struct el *pool = el_add(doc_root(d), "pool");
        el_set(pool, "@type", kinds[i].type);
        el_set(pool, "@supported", b && storage_backend_tools(b, NULL) ? "yes" : "no");
        if (b && b->formats) {
            struct el *o = el_add(pool, "poolOptions");
            el_set(o, "defaultFormat/@type", b->default_format);
            put_values(o, "sourceFormatType", b->formats);
        }
        if (b ? b->volume_options : kinds[i].volumes) {
            struct el *o = el_add(pool, "volOptions");
            el_set(o, "defaultFormat/@type", b ? b->default_volume_format : "raw");
            put_values(o, "targetFormatType", b ? b->volume_formats : kinds[i].without_formats ? NULL : storage_dir.volume_formats);
        }
    }
    return doc_format(d);
}
