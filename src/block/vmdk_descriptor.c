/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/vmdk.h"

static char *unquoted(const char *from)
{
    char *s = g_strstrip(g_strdup(from));
    size_t n = strlen(s);
    if (n >= 2 && s[0] == '"' && s[n - 1] == '"') {
        memmove(s, s + 1, n - 2);
        s[n - 2] = 0;
    }
    return s;
}

char *vmdk_value(const char *text, const char *key)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **l = lines; *l; l++) {
        char *equal = strchr(*l, '=');
        if (!equal || **l == '#')
            continue;
        g_autofree char *name = g_strstrip(g_strndup(*l, (gsize)(equal - *l)));
        if (!strcmp(name, key))
            return unquoted(equal + 1);
    }
    return NULL;
}

uint32_t vmdk_cid(const char *text, const char *key)
{
    g_autofree char *value = vmdk_value(text, key);
    return value ? (uint32_t)strtoul(value, NULL, 16) : VMDK_NO_PARENT;
}

bool vmdk_parse_line(const char *line, struct vmdk_line *ret)
{
    int after = 0;
    unsigned long long sectors;
    if (sscanf(line, "%15s %llu %31s%n", ret->access, &sectors, ret->type, &after) != 3 || !after)
        return false;
    if (strcmp(ret->access, "RW") && strcmp(ret->access, "RDONLY") && strcmp(ret->access, "NOACCESS"))
        return false;
    ret->sectors = sectors;
    ret->offset = 0;
    ret->name = NULL;
    const char *open = strchr(line + after, '"'), *close = open ? strchr(open + 1, '"') : NULL;
    if (close) {
        ret->name = g_strndup(open + 1, (gsize)(close - open - 1));
        ret->offset = g_ascii_strtoull(close + 1, NULL, 10);
    }
    return true;
}

char *vmdk_with_cid(const char *text, uint32_t cid)
{
    GString *s = g_string_new(NULL);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **l = lines; *l; l++) {
        if (g_str_has_prefix(*l, "CID="))
            g_string_append_printf(s, "CID=%08x", cid);
        else
            g_string_append(s, *l);
        if (l[1])
            g_string_append_c(s, '\n');
    }
    return g_string_free(s, FALSE);
}

/* Comments and empty lines, then "version=". */
bool vmdk_is_descriptor(const char *head, size_t n)
{
    for (size_t at = 0; at < n;) {
        const char *line = head + at, *end = memchr(line, '\n', n - at);
        size_t bytes = end ? (size_t)(end - line) : n - at, blank = 0;
        while (blank < bytes && g_ascii_isspace(line[blank]))
            blank++;
        if (blank < bytes && *line != '#')
            return bytes >= 9 && !memcmp(line, "version=", 8) && line[8] >= '1' && line[8] <= '3';
        at += bytes + 1;
    }
    return false;
}
