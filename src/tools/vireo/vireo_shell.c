/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The interactive shell: line editing with history and completion; and the commands that concern the program itself. */
#include "vireo_commands.h"

#include <editline/readline.h>
#include <errno.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void candidate(GPtrArray *found, const char *text, const char *word)
{
    if (g_str_has_prefix(text, word))
        g_ptr_array_add(found, g_strdup(text));
}

static void complete_commands(GPtrArray *found, const char *word)
{
    for (const struct command *const *list = vireo_commands; *list; list++)
        for (const struct command *cmd = *list; cmd->name; cmd++)
            if (!(cmd->flags & COMMAND_HIDDEN))
                candidate(found, cmd->name, word);
}

/* Names of what the connection has, by the name of the option that asks for them. */
#define COMPLETE_NAMES(type, list_call, name_call) \
    { \
        type *all = NULL; \
        int n = list_call(v->connection, &all, 0); \
        for (int i = 0; i < n; i++) { \
            candidate(found, name_call(all[i]), word); \
            type##Free_(all[i]); \
        } \
        free(all); \
    }
#define virDomainPtrFree_ virDomainFree
#define virNetworkPtrFree_ virNetworkFree
#define virStoragePoolPtrFree_ virStoragePoolFree
#define virNodeDevicePtrFree_ virNodeDeviceFree
#define virInterfacePtrFree_ virInterfaceFree
#define virNWFilterPtrFree_ virNWFilterFree

static void complete_secrets(struct vireo *v, GPtrArray *found, const char *word)
{
    virSecretPtr *all = NULL;
    int n = virConnectListAllSecrets(v->connection, &all, 0);
    for (int i = 0; i < n; i++) {
        char uuid[VIR_UUID_STRING_BUFLEN];
        if (virSecretGetUUIDString(all[i], uuid) == 0)
            candidate(found, uuid, word);
        virSecretFree(all[i]);
    }
    free(all);
}

static void complete_volumes(struct vireo *v, GPtrArray *found, const char *word)
{
    virStoragePoolPtr *pools = NULL;
    int n = virConnectListAllStoragePools(v->connection, &pools, VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE);
    for (int i = 0; i < n; i++) {
        virStorageVolPtr *all = NULL;
        int m = virStoragePoolListAllVolumes(pools[i], &all, 0);
        for (int j = 0; j < m; j++) {
            candidate(found, virStorageVolGetName(all[j]), word);
            virStorageVolFree(all[j]);
        }
        free(all);
        virStoragePoolFree(pools[i]);
    }
    free(pools);
}

static void complete_values(struct vireo *v, GPtrArray *found, const struct command_option *o, const char *word)
{
    if (!strcmp(o->name, "command"))
        complete_commands(found, word);
    if (!strcmp(o->name, "output")) {
        candidate(found, "text", word);
        candidate(found, "json", word);
    }
    if (!v->connection && !vireo_connect(v))
        return;
    if (!strcmp(o->name, "domain"))
        COMPLETE_NAMES(virDomainPtr, virConnectListAllDomains, virDomainGetName)
    else if (!strcmp(o->name, "network"))
        COMPLETE_NAMES(virNetworkPtr, virConnectListAllNetworks, virNetworkGetName)
    else if (!strcmp(o->name, "pool") || !strcmp(o->name, "inputpool"))
        COMPLETE_NAMES(virStoragePoolPtr, virConnectListAllStoragePools, virStoragePoolGetName)
    else if (!strcmp(o->name, "device"))
        COMPLETE_NAMES(virNodeDevicePtr, virConnectListAllNodeDevices, virNodeDeviceGetName)
    else if (!strcmp(o->name, "interface"))
        COMPLETE_NAMES(virInterfacePtr, virConnectListAllInterfaces, virInterfaceGetName)
    else if (!strcmp(o->name, "nwfilter"))
        COMPLETE_NAMES(virNWFilterPtr, virConnectListAllNWFilters, virNWFilterGetName)
    else if (!strcmp(o->name, "secret"))
        complete_secrets(v, found, word);
    else if (!strcmp(o->name, "vol"))
        complete_volumes(v, found, word);
    forget_library_error(v);
}

/* Which option the next word by position would be. */
static const struct command_option *next_data(GPtrArray *options, char **words, int n)
{
    int data = 0;
    for (int i = 1; i < n; i++) {
        if (!g_str_has_prefix(words[i], "--")) {
            data++;
            continue;
        }
        for (guint k = 0; k < options->len; k++) {
            struct command_option *o = options->pdata[k];
            if (!strcmp(o->name, words[i] + 2) && o->kind != OPTION_BOOL && !strchr(words[i], '='))
                i++;
        }
    }
    for (guint k = 0; k < options->len; k++) {
        struct command_option *o = options->pdata[k];
        if (o->kind == OPTION_BOOL || o->kind == OPTION_ALIAS || o->named_only)
            continue;
        if (o->kind == OPTION_ARGV || data-- == 0)
            return o;
    }
    return NULL;
}

static char **complete_words(struct vireo *v, char **words, int n, const char *word)
{
    g_autoptr(GPtrArray) found = g_ptr_array_new();
    const struct command *cmd = n ? command_find(words[0]) : NULL;
    if (!n) {
        complete_commands(found, word);
    } else if (cmd) {
        g_autoptr(GPtrArray) options = command_options(cmd);
        const struct command_option *wanted = NULL;
        for (guint i = 0; i < options->len; i++) {
            struct command_option *o = options->pdata[i];
            g_autofree char *name = g_strconcat("--", o->name, NULL);
            if (g_str_has_prefix(word, "-") && o->kind != OPTION_ALIAS)
                candidate(found, name, word);
            if (n > 1 && !strcmp(words[n - 1], name) && o->kind != OPTION_BOOL)
                wanted = o;
        }
        if (!wanted && !g_str_has_prefix(word, "-"))
            wanted = next_data(options, words, n);
        if (wanted)
            complete_values(v, found, wanted, word);
    }
    g_ptr_array_add(found, NULL);
    return (char **)g_ptr_array_steal(found, NULL);
}

char **complete_line(struct vireo *v, const char *line, const char *word)
{
    const char *start = strrchr(line, ';');
    g_autofree char *command = g_strdup(start ? start + 1 : line);
    g_auto(GStrv) words = g_strsplit_set(g_strstrip(command), " \t", -1);
    int n = 0;
    for (char **w = words; *w; w++)
        if (**w)
            words[n++] = *w;
        else
            g_free(*w);
    words[n] = NULL;
    return complete_words(v, words, n, word);
}

/* The completion hook of the library has no argument of ours: this is the one shell of the process. */
static struct vireo *the_shell;

static char **offer(const char *text, int start, int end)
{
    g_autofree char *line = g_strndup(rl_line_buffer, start);
    g_auto(GStrv) found = complete_line(the_shell, line, text);
    rl_attempted_completion_over = found[0] != NULL;
    if (!found[0])
        return NULL;
    /* The library wants its common beginning first, all in malloc'ed memory. */
    unsigned n = g_strv_length(found);
    size_t common = strlen(found[0]);
    for (unsigned i = 1; i < n; i++)
        for (size_t k = 0; k < common; k++)
            if (found[i][k] != found[0][k])
                common = k;
    char **all = calloc(n + 2, sizeof *all);
    all[0] = strndup(found[0], common);
    for (unsigned i = 0; i < n && n > 1; i++)
        all[i + 1] = strdup(found[i]);
    return all;
}

static char *history_path(void)
{
    g_autofree char *folder = g_build_filename(g_get_user_cache_dir(), "vireo", NULL);
    if (g_mkdir_with_parents(folder, 0700) < 0)
        return NULL;
    return g_build_filename(folder, "history", NULL);
}

static void shell_line(struct vireo *v, char *line, bool keep)
{
    if (!*g_strstrip(line))
        return;
    if (keep)
        add_history(line);
    GPtrArray *calls = parse_line(v, line);
    if (calls) {
        run_calls(v, calls);
        g_ptr_array_unref(calls);
    }
}

/* Commands from a file or a pipe: the prompt is shown all the same, nothing is kept. */
static void shell_plain(struct vireo *v, const char *prompt)
{
    char *line = NULL;
    size_t size = 0;
    while (!v->leave) {
        printf("%s", prompt);
        fflush(stdout);
        ssize_t n = getline(&line, &size, stdin);
        if (n < 0)
            break;
        shell_line(v, line, false);
    }
    free(line);
}

int shell_main(struct vireo *v)
{
    v->interactive = true;
    if (!vireo_connect(v)) {
        report_library_error(v);
        return 1;
    }
    if (!v->quiet)
        printf("Welcome to vireo, the virtualization interactive terminal.\n\nType:  'help' for help with commands\n       'quit' to quit\n\n");
    const char *prompt = v->readonly ? "vireo > " : "vireo # ";
    if (!isatty(STDIN_FILENO)) {
        shell_plain(v, prompt);
        return 0;
    }
    the_shell = v;
    rl_readline_name = (char *)"vireo";
    rl_attempted_completion_function = offer;
    using_history();
    stifle_history(500);
    g_autofree char *history = history_path();
    if (history)
        read_history(history);
    while (!v->leave) {
        g_autofree char *line = readline(prompt);
        if (!line) {
            puts("");
            break;
        }
        shell_line(v, line, true);
    }
    if (history && write_history(history) == 0)
        g_chmod(history, 0600);
    return 0;
}

static bool cmd_quit(struct call *c)
{
    c->v->leave = true;
    return true;
}

static bool cmd_cd(struct call *c)
{
    if (!c->v->interactive)
        return complain(c, "cd: command valid only in interactive mode");
    const char *folder = opt_str(c, "dir") ? opt_str(c, "dir") : g_get_home_dir();
    return g_chdir(folder) == 0 || complain(c, "cd: %s: %s", g_strerror(errno), folder);
}

static bool cmd_pwd(struct call *c)
{
    g_autofree char *folder = g_get_current_dir();
    say(c, "%s\n", folder);
    return true;
}

static bool cmd_echo(struct call *c)
{
    char **words = opt_list(c, "string");
    g_autoptr(GString) s = g_string_new(NULL);
    for (; words && *words; words++) {
        g_autofree char *xml = opt_bool(c, "xml") ? g_markup_escape_text(*words, -1) : g_strdup(*words);
        bool plain = *xml && !xml[strspn(xml, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-./:=@%+,")];
        g_autofree char *word = opt_bool(c, "shell") && !plain ? g_shell_quote(xml) : g_steal_pointer(&xml);
        g_string_append_printf(s, "%s%s", s->len ? " " : "", word);
    }
    if (opt_bool(c, "err"))
        return complain(c, "%s", s->str);
    say(c, "%s", s->str);
    return true;
}

static bool cmd_connect(struct call *c)
{
    struct vireo *v = c->v;
    vireo_disconnect(v);
    g_free(v->uri);
    v->uri = g_strdup(opt_str(c, "name"));
    v->readonly = opt_bool(c, "readonly");
    return vireo_connect(v);
}

/* For the completion script: the words so far, the last of which is to be completed. */
static bool cmd_complete(struct call *c)
{
    char **words = opt_list(c, "string");
    int n = words ? g_strv_length(words) : 0;
    g_auto(GStrv) found = complete_words(c->v, words, MAX(n - 1, 0), n ? words[n - 1] : "");
    for (char **f = found; *f; f++)
        say(c, "%s\n", *f);
    return true;
}

const struct command shell_commands[] = {
    {"cd", "vireo", "dir=", cmd_cd, COMMAND_LOCAL, "Change the directory that relative file names start from"},
    {"complete", "vireo", "string...", cmd_complete, COMMAND_LOCAL | COMMAND_HIDDEN, "Completions of a command line, for the shell"},
    {"connect", "vireo", "name= readonly", cmd_connect, COMMAND_LOCAL, "Connect to a hypervisor, leaving the one before"},
    {"echo", "vireo", "shell xml split err string...", cmd_echo, COMMAND_LOCAL, "Print the arguments, quoted for a shell or a document if asked"},
    {"exit", "vireo", "", cmd_quit, COMMAND_LOCAL, "Leave the interactive shell"},
    {"help", "vireo", "command=", help_command, COMMAND_LOCAL, "Tell about all commands, those of a group, or one"},
    {"pwd", "vireo", "", cmd_pwd, COMMAND_LOCAL, "Print the current directory"},
    {"quit", "vireo", "", cmd_quit, COMMAND_LOCAL, "Leave the interactive shell"},
    {},
};
