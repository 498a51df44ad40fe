/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The command line: one row per option; --help and the manual page come from the rows. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/roff.h"
#include "manage/daemon/daemon.h"

#ifndef VIREO_VERSION
#define VIREO_VERSION "0.1.0"
#endif

struct row {
    const char *name;
    char letter;
    const char *arg; /* NULL: none */
    void (*set)(struct daemon_options *o, const char *value, int *ret_exit);
    const char *help;
};

static void replace(char **to, const char *value)
{
    g_free(*to);
    *to = g_canonicalize_filename(value, NULL);
}

static void set_root(struct daemon_options *o, const char *v, int *e) { replace(&o->root, v); }
static void set_config(struct daemon_options *o, const char *v, int *e) { replace(&o->config, v); }
static void set_pid_file(struct daemon_options *o, const char *v, int *e) { replace(&o->pid_file, v); }
static void set_listen(struct daemon_options *o, const char *v, int *e) { o->listen = true; }
static void set_daemon(struct daemon_options *o, const char *v, int *e) { o->daemonize = true; }
static void set_verbose(struct daemon_options *o, const char *v, int *e) { o->verbose = true; }

static void set_timeout(struct daemon_options *o, const char *v, int *ret_exit)
{
    char *end;
    long n = strtol(v, &end, 10);
    if (!*v || *end || n <= 0 || n > 86400 * 365) {
        fprintf(stderr, "vireod: --timeout takes a number of seconds, not '%s'\n", v);
        *ret_exit = 1;
    }
    o->timeout = (int)n;
}

static void show_version(struct daemon_options *o, const char *v, int *ret_exit)
{
    printf("vireod version " VIREO_VERSION "\n");
    *ret_exit = 0;
}

static void show_config(struct daemon_options *o, const char *v, int *ret_exit)
{
    g_autofree char *text = daemon_config_text();
    fputs(text, stdout);
    *ret_exit = 0;
}

static void show_help(struct daemon_options *o, const char *v, int *ret_exit);

static const struct row rows[] = {
    { "root", 0, "DIR", set_root, "keep everything (etc, run, var) below this directory: for tests and for a second daemon" },
    { "config", 'f', "FILE", set_config, "read this configuration instead of /etc/vireo/vireod.conf" },
    { "listen", 'l', NULL, set_listen, "listen on TCP as well, as vireod.conf says (listen_addr, tcp_port, auth_tcp)" },
    { "timeout", 't', "SECONDS", set_timeout, "end after so many seconds without a client and without a running domain" },
    { "daemon", 'd', NULL, set_daemon, "go to the background once clients can connect; messages go to syslog" },
    { "pid-file", 'p', "FILE", set_pid_file, "write the process's number there instead of to vireod.pid beside the sockets" },
    { "verbose", 'v', NULL, set_verbose, "say more: clients that come and go, quick calls that were slow" },
    { "default-config", 0, NULL, show_config, "print the configuration file with all keys and their defaults, and exit" },
    { "version", 'V', NULL, show_version, "print the version and exit" },
    { "help", 'h', NULL, show_help, "print this help and exit; --help=man prints the manual page in roff" },
};

/* ---- help ---- */

static char *option_text(const struct row *r)
{
    g_autofree char *letter = r->letter ? g_strdup_printf("-%c, ", r->letter) : g_strdup("    ");
    return g_strdup_printf("%s--%s%s%s", letter, r->name, r->arg ? " " : "", r->arg ? r->arg : "");
}

static void print_help(void)
{
    printf("vireod " VIREO_VERSION ": keeps virtual machines, networks and storage, and serves libvirt's clients\nusage: vireod [OPTION]...\n\n");
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *text = option_text(&rows[i]);
        printf("  %-26s %s\n", text, rows[i].help);
    }
    printf("\nExample:\n  vireod --root /tmp/test & virsh -c 'qemu+unix:///system?socket=/tmp/test/run/vireo/libvirt-sock' list --all\n");
}

static void print_man(void)
{
    GString *s = g_string_new(".TH VIREOD 8 \"\" \"vireo " VIREO_VERSION "\"\n.SH NAME\nvireod \\- keep virtual machines, networks and storage\n"
                              ".SH SYNOPSIS\n.B vireod\n.RI [ OPTION ]...\n.SH DESCRIPTION\n"
                              "Keeps definitions of virtual machines, networks, storage pools and secrets, runs them, and serves clients over libvirt's\n"
                              "protocol. As root it is the system's daemon; started by another user it is the daemon of that user's session, with its files in\n"
                              "the user's XDG directories. Running machines are processes of their own: they go on when vireod ends, and the next one finds them.\n"
                              ".SH OPTIONS\n");
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *text = option_text(&rows[i]);
        g_string_append(s, ".TP\n\\fB");
        roff_text(s, g_strstrip(text));
        g_string_append(s, "\\fR\n");
        roff_text(s, rows[i].help);
        g_string_append(s, ".\n");
    }
    g_string_append(s, ".SH CONFIGURATION\n/etc/vireo/vireod.conf (in a session ~/.config/vireo/vireod.conf), lines\n.IR key \" = \" value ,\n"
                       "# begins a comment. The keys with their defaults:\n.PP\n.nf\n");
    g_autofree char *config = daemon_config_text();
    g_auto(GStrv) lines = g_strsplit(config, "\n", -1);
    for (unsigned i = 0; lines[i]; i++) {
        roff_text(s, lines[i]);
        g_string_append_c(s, '\n');
    }
    g_string_append(s, ".fi\n.SH SIGNALS\nSIGTERM and SIGINT end the daemon when the calls under way have ended; a second one ends it at once. SIGHUP reads the\n"
                       "configuration again: limits and keepalive change at once, sockets with the next start.\n"
                       ".SH FILES\n.TP\n/run/vireo/libvirt\\-sock, /run/vireo/libvirt\\-sock\\-ro\nthe sockets, also under the names vireo\\-sock and vireo\\-sock\\-ro.\n"
                       ".TP\n/etc/vireo, /var/lib/vireo, /var/log/vireo\ndefinitions, images, logs.\n.SH SEE ALSO\n.BR virsh (1),\n.BR vireo\\-vmm (1)\n");
    fputs(s->str, stdout);
    g_string_free(s, TRUE);
}

static void show_help(struct daemon_options *o, const char *v, int *ret_exit)
{
    if (v && strcmp(v, "man")) {
        fprintf(stderr, "vireod: --help or --help=man, not '--help=%s'\n", v);
        *ret_exit = 1;
        return;
    }
    v ? print_man() : print_help();
    *ret_exit = 0;
}

/* ---- parsing ---- */

static const struct row *find(const char *word, char **ret_value)
{
    *ret_value = NULL;
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        gsize n = strlen(rows[i].name);
        if (word[0] == '-' && word[1] == rows[i].letter && word[1] && !word[2])
            return &rows[i];
        if (!g_str_has_prefix(word, "--") || strncmp(word + 2, rows[i].name, n) || (word[2 + n] && word[2 + n] != '='))
            continue;
        *ret_value = word[2 + n] ? (char *)word + 3 + n : NULL;
        return &rows[i];
    }
    return NULL;
}

void daemon_options_parse(int argc, char **argv, struct daemon_options *ret, int *ret_exit)
{
    memset(ret, 0, sizeof(*ret));
    *ret_exit = -1;
    for (int i = 1; i < argc && *ret_exit < 0; i++) {
        char *value;
        const struct row *r = find(argv[i], &value);
        bool optional = r && r->set == show_help;
        if (r && r->arg && !value && i + 1 < argc)
            value = argv[++i];
        if (!r || (r->arg && !value) || (!r->arg && value && !optional)) {
            fprintf(stderr, !r ? "vireod: there is no option '%s'; --help lists them\n" :
                    r->arg ? "vireod: the option '%s' needs a value\n" : "vireod: the option '%s' takes no value\n", argv[i]);
            *ret_exit = 1;
            return;
        }
        r->set(ret, value, ret_exit);
    }
}

void daemon_options_free(struct daemon_options *o)
{
    g_free(o->root);
    g_free(o->config);
    g_free(o->pid_file);
}
