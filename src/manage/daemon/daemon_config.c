/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vireod.conf: lines `key = value`, values plain or in double quotes, # begins a comment. One row per key. */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "manage/core/manage_error.h"
#include "manage/daemon/daemon.h"

struct key {
    const char *name;
    gsize offset;
    bool text;
    int min, max;           /* of a number */
    const char *initial;    /* default; in session mode sockets are for the user alone whatever is said here */
    const char *help;
};

#define NUMBER(member, min, max, initial, help) { #member, offsetof(struct daemon_config, member), false, min, max, initial, help }
#define TEXT(member, initial, help) { #member, offsetof(struct daemon_config, member), true, 0, 0, initial, help }

static const struct key keys[] = {
    NUMBER(libvirt_names, 0, 1, "0", "1: serve the sockets of libvirtd too (libvirt-sock and virtqemud-sock in /run/libvirt, in a session in "
           "$XDG_RUNTIME_DIR/libvirt), so that clients need no ?socket= in their URI. Refused while a libvirtd listens there."),
    TEXT(unix_sock_group, "", "Group that the sockets are given to; empty: root's."),
    TEXT(unix_sock_rw_perms, "0700", "Mode of the main socket, octal. Whoever may write to it may do everything, as root: 0770 with a group lets its members in."),
    TEXT(unix_sock_ro_perms, "0777", "Mode of the read-only socket, octal."),
    NUMBER(listen_tcp, 0, 1, "0", "1: listen on TCP as well (the option --listen does the same). There is no encryption and no authentication."),
    TEXT(listen_addr, "127.0.0.1", "Address to listen on. Every user who reaches it has full access: keep it on the loopback, or behind ssh."),
    TEXT(tcp_port, "16509", "TCP port or service name."),
    TEXT(auth_tcp, "", "Must be \"none\" for TCP to be served: an acknowledgement that nobody is asked who he is."),
    TEXT(host_uuid, "", "UUID of this host, by which a migration knows that source and destination are two; empty: the firmware's, else one that is made once and kept."),
    NUMBER(max_clients, 1, 100000, "5000", "Connections at one time."),
    NUMBER(max_anonymous_clients, 1, 100000, "20", "Connections of one ordinary user that have not been opened yet."),
    NUMBER(max_user_clients, 1, 100000, "500", "Connections of one ordinary user."),
    NUMBER(max_workers, 1, 1000, "64", "Threads for calls that take their time."),
    NUMBER(max_client_requests, 1, 1000, "5", "Such calls of one connection at one time; it is not read from while it has more."),
    NUMBER(keepalive_interval, -1, 3600, "5", "Seconds of silence before a client is asked whether it is there; -1: never. Only clients that know the question."),
    NUMBER(keepalive_count, 0, 1000, "5", "Unanswered questions after which the client is disconnected."),
};

static void *member(struct daemon_config *c, const struct key *k) { return (char *)c + k->offset; }

static bool set(struct daemon_config *c, const struct key *k, const char *value, GError **error)
{
    if (k->text) {
        char **at = member(c, k);
        g_free(*at);
        *at = g_strdup(value);
        return true;
    }
    char *end;
    errno = 0;
    long n = strtol(value, &end, 10);
    if (!*value || *end || errno || n < k->min || n > k->max)
        return manage_fail(error, VIR_ERR_CONF_SYNTAX, "%s takes a number from %d to %d, not '%s'", k->name, k->min, k->max, value);
    *(int *)member(c, k) = (int)n;
    return true;
}

static const struct key *find(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(keys); i++)
        if (!strcmp(keys[i].name, name))
            return &keys[i];
    return NULL;
}

/* The value of a line without its quotes and comment; NULL: not well formed. Changes the text. */
static char *value_of(char *text)
{
    text = g_strstrip(text);
    if (*text != '"') {
        char *comment = strchr(text, '#');
        if (comment)
            *comment = 0;
        return g_strstrip(text);
    }
    char *end = strchr(text + 1, '"');
    if (!end)
        return NULL;
    char *rest = g_strstrip(end + 1);
    if (*rest && *rest != '#')
        return NULL;
    *end = 0;
    return text + 1;
}

static bool parse_line(struct daemon_config *c, char *line, GError **error)
{
    line = g_strstrip(line);
    if (!*line || *line == '#')
        return true;
    char *equals = strchr(line, '='), *value = equals ? value_of(equals + 1) : NULL;
    if (!value)
        return manage_fail(error, VIR_ERR_CONF_SYNTAX, "'%s' is not of the form: key = value", line);
    *equals = 0;
    const struct key *k = find(g_strstrip(line));
    if (!k)
        return manage_fail(error, VIR_ERR_CONF_SYNTAX, "there is no key '%s'", line);
    return set(c, k, value, error);
}

bool daemon_config_load(struct daemon_config *c, const char *path, bool must, bool privileged, GError **error)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) why = NULL;
    memset(c, 0, sizeof(*c));
    for (unsigned i = 0; i < G_N_ELEMENTS(keys); i++)
        if (!set(c, &keys[i], keys[i].initial, error))
            return false;
    if (!g_file_get_contents(path, &text, NULL, &why)) {
        if (!must && g_error_matches(why, G_FILE_ERROR, G_FILE_ERROR_NOENT))
            return true;
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "cannot read the configuration: %s", why->message);
    }
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (unsigned i = 0; lines[i]; i++)
        if (!parse_line(c, lines[i], &why))
            return manage_fail(error, VIR_ERR_CONF_SYNTAX, "%s, line %u: %s", path, i + 1, why->message);
    return true;
}

void daemon_config_clear(struct daemon_config *c)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(keys); i++)
        if (keys[i].text)
            g_free(*(char **)member(c, &keys[i]));
    memset(c, 0, sizeof(*c));
}

static void append_wrapped(GString *to, const char *text)
{
    g_auto(GStrv) words = g_strsplit(text, " ", -1);
    gsize column = 0;
    for (unsigned i = 0; words[i]; i++) {
        if (column == 0 || column + strlen(words[i]) > 96) {
            g_string_append(to, column ? "\n#" : "#");
            column = 1;
        }
        g_string_append_printf(to, " %s", words[i]);
        column += strlen(words[i]) + 1;
    }
    g_string_append_c(to, '\n');
}

char *daemon_config_text(void)
{
    GString *to = g_string_new("# Configuration of vireod. Each key stands here with its default value.\n");
    for (unsigned i = 0; i < G_N_ELEMENTS(keys); i++) {
        const char *quote = keys[i].text ? "\"" : "";
        g_string_append_c(to, '\n');
        append_wrapped(to, keys[i].help);
        g_string_append_printf(to, "#%s = %s%s%s\n", keys[i].name, quote, keys[i].initial, quote);
    }
    return g_string_free(to, FALSE);
}
