/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * URIs: DRIVER[+TRANSPORT]://[USER@][HOST][:PORT]/PATH[?NAME=VALUE&...], the aliases and the default of the configuration files. The parameters that only
 * the library reads (socket, mode, command, netcat, keyfile, no_tty, no_verify, proxy, sshauth, root ...) are not passed on to a daemon.
 */
#include <string.h>
#include <unistd.h>

#include "manage/api/api.h"

static const char *const own_parameters[] = { "socket",  "mode",   "command",    "netcat",   "keyfile", "no_tty", "no_verify", "no_sanity",
                                              "pkipath", "proxy",  "sshauth",    "auth",     "name",    "known_hosts", "known_hosts_verify", "tls_priority", "root", NULL };

void api_uri_free(struct api_uri *u)
{
    if (!u)
        return;
    g_free(u->text);
    g_free(u->driver);
    g_free(u->transport);
    g_free(u->user);
    g_free(u->host);
    g_free(u->path);
    g_free(u->remote);
    if (u->query)
        g_hash_table_unref(u->query);
    g_free(u);
}

const char *api_uri_query(const struct api_uri *u, const char *name) { return u->query ? g_hash_table_lookup(u->query, name) : NULL; }

/* name=value pairs; what is not the library's own goes into `kept`, as it was written. */
static bool parse_query(struct api_uri *u, const char *query, GString *kept, GError **error)
{
    u->query = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_auto(GStrv) pairs = g_strsplit_set(query ? query : "", "&;", -1);
    for (char **p = pairs; *p; p++) {
        if (!**p)
            continue;
        char *equals = strchr(*p, '=');
        g_autofree char *name = equals ? g_strndup(*p, (gsize)(equals - *p)) : g_strdup(*p);
        char *value = g_uri_unescape_string(equals ? equals + 1 : "", NULL);
        if (!value)
            return manage_fail(error, VIR_ERR_INVALID_ARG, "parameter '%s' of URI '%s' has a '%%' that is not followed by two hexadecimal digits", name, u->text);
        if (!g_strv_contains(own_parameters, name))
            g_string_append_printf(kept, "%c%s", kept->len ? '&' : '?', *p);
        g_hash_table_insert(u->query, g_steal_pointer(&name), value);
    }
    return true;
}

static char *remote_uri(const struct api_uri *u, const char *kept)
{
    const char *name = api_uri_query(u, "name");
    if (name)
        return g_strdup(name);
    if (!strcmp(u->driver, "remote"))
        return g_strdup("");
    /* Both daemons know this name, so that vireo:///system may lead to either. */
    return g_strdup_printf("%s://%s%s", strcmp(u->driver, "vireo") ? u->driver : "qemu", u->path, kept);
}

struct api_uri *api_uri_parse(const char *text, GError **error)
{
    struct api_uri *u = g_new0(struct api_uri, 1);
    u->text = g_strdup(text);
    g_autoptr(GError) inner = NULL;
    g_autofree char *scheme = NULL, *query = NULL;
    if (!g_uri_split(text, G_URI_FLAGS_ENCODED_QUERY | G_URI_FLAGS_NON_DNS, &scheme, &u->user, &u->host, &u->port, &u->path, &query, NULL, &inner) || !scheme ||
        !strstr(text, ":/")) {
        manage_fail(error, VIR_ERR_INVALID_ARG, "'%s' is not a URI: DRIVER[+TRANSPORT]://[HOST]/PATH is expected, as in vireo:///system", text);
        api_uri_free(u);
        return NULL;
    }
    char *plus = strchr(scheme, '+');
    u->driver = plus ? g_strndup(scheme, (gsize)(plus - scheme)) : g_strdup(scheme);
    u->transport = plus ? g_strdup(plus + 1) : NULL;
    if (u->port < 0)
        u->port = 0;
    if (u->host && !*u->host)
        g_clear_pointer(&u->host, g_free);
    g_autoptr(GString) kept = g_string_new(NULL);
    if (!parse_query(u, query, kept, error)) {
        api_uri_free(u);
        return NULL;
    }
    u->remote = remote_uri(u, kept->str);
    return u;
}

/* ---- configuration: libvirt.conf's uri_default and uri_aliases, in ours and in libvirt's files ---- */

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
