/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The interactive shell: line editing with history; and the commands that concern the program itself. */
#include "vireo_commands.h"

#include <editline/readline.h>
#include <errno.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
