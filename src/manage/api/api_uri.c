/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The aliases of URIs and the default one: from the environment and from libvirt.conf's uri_default and uri_aliases, in our file and in libvirt's. */
#include <string.h>
#include <unistd.h>

#include "manage/api/api.h"

static char *read_config(unsigned which)
{
    static const char *const system_files[] = { "/etc/vireo/vireo.conf", "/etc/libvirt/libvirt.conf" };
    static const char *const user_files[] = { "vireo/vireo.conf", "libvirt/libvirt.conf" };
    g_autofree char *path = geteuid() ? g_build_filename(g_get_user_config_dir(), user_files[which], NULL) : g_strdup(system_files[which]);
    char *text = NULL;
    gsize size = 0;
    if (!g_file_get_contents(path, &text, &size, NULL))
        return NULL;
    if (size < 1024 * 1024 && g_utf8_validate(text, (gssize)size, NULL))
        return text;
    g_free(text);
    return NULL;
}

/* Strings in quotes that follow `key =`, up to the end of the line or of the brackets. */
static GPtrArray *strings_of(const char *text, const char *key)
{
    GPtrArray *out = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *pattern = g_strdup_printf("^[ \\t]*%s[ \\t]*=[ \\t]*(\\[[^\\]]*\\]|\"[^\"\\n]*\"|'[^'\\n]*')", key);
    g_autoptr(GRegex) assignment = g_regex_new(pattern, G_REGEX_MULTILINE, 0, NULL), quoted = g_regex_new("[\"']([^\"'\\n]*)[\"']", 0, 0, NULL);
    g_autoptr(GRegex) comment = g_regex_new("(?m)^[ \\t]*#.*$", 0, 0, NULL);
    g_autofree char *plain = g_regex_replace(comment, text, -1, 0, "", 0, NULL);
    g_autoptr(GMatchInfo) m = NULL;
    if (!plain || !g_regex_match(assignment, plain, 0, &m))
        return out;
    g_autofree char *value = g_match_info_fetch(m, 1);
    g_autoptr(GMatchInfo) q = NULL;
    for (g_regex_match(quoted, value, 0, &q); g_match_info_matches(q); g_match_info_next(q, NULL))
        g_ptr_array_add(out, g_match_info_fetch(q, 1));
    return out;
}

char *api_uri_default(GError **error)
{
    for (unsigned i = 0; i < 2; i++) {
        static const char *const names[] = { "VIREO_DEFAULT_URI", "LIBVIRT_DEFAULT_URI" };
        const char *v = g_getenv(names[i]);
        if (v && *v)
            return g_strdup(v);
    }
    for (unsigned i = 0; i < 2; i++) {
        g_autofree char *text = read_config(i);
        g_autoptr(GPtrArray) found = text ? strings_of(text, "uri_default") : NULL;
        if (found && found->len)
            return g_strdup(found->pdata[0]);
    }
    return NULL;
}

char *api_uri_alias(const char *name, GError **error)
{
    for (unsigned i = 0; i < 2; i++) {
        g_autofree char *text = read_config(i);
        g_autoptr(GPtrArray) found = text ? strings_of(text, "uri_aliases") : NULL;
        for (unsigned k = 0; found && k < found->len; k++) {
            const char *entry = found->pdata[k], *equals = strchr(entry, '=');
            if (!equals) {
                manage_fail(error, VIR_ERR_INVALID_ARG, "uri_aliases: '%s' is not of the form NAME=URI", entry);
                return NULL;
            }
            if (strlen(name) == (gsize)(equals - entry) && !strncmp(entry, name, (gsize)(equals - entry)))
                return g_strdup(equals + 1);
        }
    }
    return NULL;
}
