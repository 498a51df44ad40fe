/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * URIs: DRIVER[+TRANSPORT]://[USER@][HOST][:PORT]/PATH[?NAME=VALUE&...]. The parameters that only
 * the client's end reads (socket, mode, command, netcat, keyfile, no_tty, no_verify, proxy, sshauth, root ...) are not passed on to a daemon.
 */
#include <string.h>

#include "manage/core/manage_error.h"
#include "manage/rpc/rpc_uri.h"

static const char *const own_parameters[] = { "socket",  "mode",   "command",    "netcat",   "keyfile", "no_tty", "no_verify", "no_sanity",
                                              "pkipath", "proxy",  "sshauth",    "auth",     "name",    "known_hosts", "known_hosts_verify", "tls_priority", "root", NULL };

void rpc_uri_free(struct rpc_uri *u)
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

const char *rpc_uri_query(const struct rpc_uri *u, const char *name) { return u->query ? g_hash_table_lookup(u->query, name) : NULL; }

/* name=value pairs; what is not the library's own goes into `kept`, as it was written. */
static bool parse_query(struct rpc_uri *u, const char *query, GString *kept, GError **error)
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

static char *remote_uri(const struct rpc_uri *u, const char *kept)
{
    const char *name = rpc_uri_query(u, "name");
    if (name)
        return g_strdup(name);
    if (!strcmp(u->driver, "remote"))
        return g_strdup("");
    /* Both daemons know this name, so that vireo:///system may lead to either. */
    return g_strdup_printf("%s://%s%s", strcmp(u->driver, "vireo") ? u->driver : "qemu", u->path, kept);
}

struct rpc_uri *rpc_uri_parse(const char *text, GError **error)
{
    struct rpc_uri *u = g_new0(struct rpc_uri, 1);
    u->text = g_strdup(text);
    g_autoptr(GError) inner = NULL;
    g_autofree char *scheme = NULL, *query = NULL;
    if (!g_uri_split(text, G_URI_FLAGS_ENCODED_QUERY | G_URI_FLAGS_NON_DNS, &scheme, &u->user, &u->host, &u->port, &u->path, &query, NULL, &inner) || !scheme ||
        !strstr(text, ":/")) {
        manage_fail(error, VIR_ERR_INVALID_ARG, "'%s' is not a URI: DRIVER[+TRANSPORT]://[HOST]/PATH is expected, as in vireo:///system", text);
        rpc_uri_free(u);
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
        rpc_uri_free(u);
        return NULL;
    }
    u->remote = remote_uri(u, kept->str);
    return u;
}
