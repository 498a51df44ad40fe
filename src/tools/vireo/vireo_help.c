/* SPDX-License-Identifier: GPL-2.0-or-later */
/* help, and what is made from the table of commands: the manual page, the list of commands, the completion script. */
#include "vireo.h"

#include "base/roff.h"

#include <string.h>

static const struct {
    const char *option, *text;
} program_options[] = {
    {"-c, --connect=URI", "which hypervisor to talk to (else VIREO_DEFAULT_URI, LIBVIRT_DEFAULT_URI, or the library's choice)"},
    {"-d, --debug=NUM", "how much to tell about the program's own work, 0 to 4"},
    {"-e, --escape=CHAR", "the key that leaves a console, as ^] or one character"},
    {"-h, --help[=WHAT]", "this text; WHAT is man (manual page), commands (what is supported) or completion (script for bash)"},
    {"-k, --keepalive-interval=NUM", "seconds between keepalive messages, 0 for none"},
    {"-K, --keepalive-count=NUM", "unanswered keepalive messages after which the connection counts as lost"},
    {"-l, --log=FILE", "write errors to FILE as well"},
    {"-o, --output=FORMAT", "text or json: how listings are printed"},
    {"-q, --quiet", "no titles, no notes"},
    {"-r, --readonly", "a connection that can change nothing"},
    {"-t, --timing", "say how long each command took"},
    {"-v, --version[=long]", "the version of the program"},
    {"-V", "the version in more words"},
};

static const struct command_group *group_find(const char *keyword)
{
    if (!strcmp(keyword, "virsh")) /* the group's name in virsh */
        keyword = "vireo";
    for (const struct command_group *g = vireo_groups; g->keyword; g++)
        if (!strcmp(g->keyword, keyword) || !g_ascii_strcasecmp(g->title, keyword))
            return g;
    return NULL;
}

/* Calls `each` for the commands of a group that are shown. */
static void group_each(const struct command_group *g, void (*each)(const struct command *cmd, void *opaque), void *opaque)
{
    for (const struct command *const *list = vireo_commands; *list; list++)
        for (const struct command *cmd = *list; cmd->name; cmd++)
            if (!strcmp(cmd->group, g->keyword) && !(cmd->flags & COMMAND_HIDDEN))
                each(cmd, opaque);
}

static void print_line(const struct command *cmd, void *opaque)
{
    printf("    %-30s %s\n", cmd->name, cmd->summary);
}

void help_usage(void)
{
    printf("\nvireo [options]... [<command_string>]\nvireo [options]... <command> [args...]\n\n  options:\n");
    for (unsigned i = 0; i < G_N_ELEMENTS(program_options); i++)
        printf("    %-30s %s\n", program_options[i].option, program_options[i].text);
    printf("  commands (non interactive mode):\n\n");
    for (const struct command_group *g = vireo_groups; g->keyword; g++) {
        printf(" %s (help keyword '%s')\n", g->title, g->keyword);
        group_each(g, print_line, NULL);
        printf("\n");
    }
    printf("\n  (specify help <group> for details about the commands in the group)\n\n  (specify help <command> for details about the command)\n\n");
}

static void option_synopsis(const struct command_option *o, GString *s)
{
    switch (o->kind) {
    case OPTION_ALIAS: return;
    case OPTION_BOOL: g_string_append_printf(s, " [--%s]", o->name); return;
    case OPTION_ARGV: g_string_append_printf(s, o->required ? " <%s>..." : " [<%s>]...", o->name); return;
    case OPTION_INT:
    case OPTION_STRING: break;
    }
    if (o->required)
        g_string_append_printf(s, " <%s>", o->name);
    else
        g_string_append_printf(s, " [--%s <%s>]", o->name, o->kind == OPTION_INT ? "number" : "string");
}

static char *option_title(const struct command_option *o)
{
    const char *kind = o->kind == OPTION_INT ? "number" : "string";
    if (o->kind == OPTION_BOOL)
        return g_strdup_printf("--%s", o->name);
    if (o->kind == OPTION_ARGV)
        return g_strdup_printf(o->required ? "{[--%s] <string>}..." : "[[--%s] <string>]...", o->name);
    return g_strdup_printf(o->required ? "[--%s] <%s>" : "--%s <%s>", o->name, kind);
}

static void print_command(const struct command *cmd)
{
    g_autoptr(GPtrArray) options = command_options(cmd);
    g_autoptr(GString) synopsis = g_string_new(NULL);
    for (guint i = 0; i < options->len; i++)
        option_synopsis(options->pdata[i], synopsis);
    printf("  NAME\n    %s - %s\n\n  SYNOPSIS\n    %s%s\n\n  DESCRIPTION\n    %s.%s\n", cmd->name, cmd->summary, cmd->name, synopsis->str, cmd->summary,
        cmd->run ? "" : "\n    Not yet available in this version.");
    g_auto(GStrv) notes = g_strsplit(command_notes(cmd) ? command_notes(cmd) : "", "\n", -1);
    for (char **line = notes; *line; line++)
        printf("    %s\n", *line);
    if (options->len)
        printf("\n  OPTIONS\n");
    for (guint i = 0; i < options->len; i++) {
        struct command_option *o = options->pdata[i];
        if (o->kind == OPTION_ALIAS)
            continue;
        g_autofree char *title = option_title(o);
        printf("    %-15s  %s\n", title, option_help(cmd, o->name));
    }
    printf("\n");
}

bool help_command(struct call *c)
{
    const char *what = opt_str(c, "command");
    if (!what) {
        printf("Grouped commands:\n\n");
        for (const struct command_group *g = vireo_groups; g->keyword; g++) {
            printf(" %s (help keyword '%s'):\n", g->title, g->keyword);
            group_each(g, print_line, NULL);
            printf("\n");
        }
        return true;
    }
    const struct command *cmd = command_find(what);
    const struct command_group *g = group_find(what);
    if (cmd) {
        print_command(cmd);
    } else if (g) {
        printf(" %s (help keyword '%s'):\n", g->title, g->keyword);
        group_each(g, print_line, NULL);
    } else {
        return complain(c, "command or command group '%s' doesn't exist", what);
    }
    return true;
}

static void man_command(const struct command *cmd, void *opaque)
{
    GString *s = opaque;
    g_autoptr(GPtrArray) options = command_options(cmd);
    g_autoptr(GString) synopsis = g_string_new(NULL);
    for (guint i = 0; i < options->len; i++)
        option_synopsis(options->pdata[i], synopsis);
    g_string_append_printf(s, ".SS %s\n.B ", cmd->name);
    roff_text(s, cmd->name);
    roff_text(s, synopsis->str);
    g_string_append(s, "\n.PP\n");
    roff_text(s, cmd->summary);
    g_string_append(s, cmd->run ? ".\n" : ". Not yet available.\n");
    if (command_notes(cmd)) {
        roff_text(s, command_notes(cmd));
        g_string_append_c(s, '\n');
    }
    for (guint i = 0; i < options->len; i++) {
        struct command_option *o = options->pdata[i];
        if (o->kind == OPTION_ALIAS)
            continue;
        g_string_append(s, ".TP\n.B \\-\\-");
        roff_text(s, o->name);
        g_string_append_c(s, '\n');
        roff_text(s, option_help(cmd, o->name));
        g_string_append_c(s, '\n');
    }
}

static void print_man(void)
{
    g_autoptr(GString) s = g_string_new(".TH VIREO 1 \"\" \"vireo " VIREO_VERSION "\"\n.SH NAME\nvireo \\- manages virtual machines, networks and storage\n"
        ".SH SYNOPSIS\n.B vireo\n[options] [command [arguments]]\n.SH DESCRIPTION\nTalks to vireod, or to libvirtd. Commands, options and columns are those "
        "of virsh. Several commands in one argument are separated by semicolons. Without a command an interactive shell starts. "
        "A domain is named by id, name or UUID. Sizes take suffixes such as KiB, M or GB.\n.SH OPTIONS\n");
    for (unsigned i = 0; i < G_N_ELEMENTS(program_options); i++) {
        g_string_append(s, ".TP\n.B ");
        roff_text(s, program_options[i].option);
        g_string_append_c(s, '\n');
        roff_text(s, program_options[i].text);
        g_string_append_c(s, '\n');
    }
    for (const struct command_group *g = vireo_groups; g->keyword; g++) {
        g_string_append_printf(s, ".SH %s\n", g->title);
        group_each(g, man_command, s);
    }
    g_string_append(s, ".SH EXIT STATUS\n0 if the last command succeeded, else 1.\n.SH ENVIRONMENT\n.TP\n.B VIREO_DEFAULT_URI, LIBVIRT_DEFAULT_URI\n"
        "which hypervisor to talk to when \\-c is not given\n.TP\n.B VISUAL, EDITOR\nthe editor of the edit commands\n.SH SEE ALSO\n.BR vireod (8),\n.BR vireo\\-vmm (1),\n.BR vireo\\-img (1)\n");
    fputs(s->str, stdout);
}

static void list_command(const struct command *cmd, void *opaque)
{
    printf("| `%s` | %s |\n", cmd->name, cmd->run ? "supported" : "not yet");
}

/* The table of docs/compatibility-manage.md. */
static void print_commands(void)
{
    for (const struct command_group *g = vireo_groups; g->keyword; g++) {
        printf("### %s\n\n| command | state |\n|---|---|\n", g->title);
        group_each(g, list_command, NULL);
        printf("\n");
    }
}

static const char completion_script[] =
    "# bash completion for vireo: the program itself knows what fits.\n"
    "_vireo()\n{\n"
    "    local word=${COMP_WORDS[COMP_CWORD]} line i options=() c=${COMP_WORDS[1]} uri=()\n"
    "    i=1\n"
    "    while ((i < COMP_CWORD)); do\n"
    "        case ${COMP_WORDS[i]} in\n"
    "        -c|--connect) uri=(-c \"${COMP_WORDS[i+1]}\"); ((i += 2)) ;;\n"
    "        -e|-k|-K|-l|-d|-o|--escape|--log|--debug|--output) ((i += 2)) ;;\n"
    "        -*) ((i += 1)) ;;\n"
    "        *) break ;;\n"
    "        esac\n"
    "    done\n"
    "    if [[ $i -eq $COMP_CWORD && $word == -* ]]; then\n"
    "        COMPREPLY=($(compgen -W \"--connect --debug --escape --help --log --output --quiet --readonly --timing --version\" -- \"$word\"))\n"
    "        return\n"
    "    fi\n"
    "    local IFS=$'\\n'\n"
    "    COMPREPLY=($(vireo -q -r \"${uri[@]}\" complete -- \"${COMP_WORDS[@]:i:COMP_CWORD-i+1}\" 2>/dev/null </dev/null))\n"
    "    [[ ${#COMPREPLY[@]} -eq 0 ]] && COMPREPLY=($(compgen -f -- \"$word\"))\n"
    "}\n"
    "complete -o filenames -F _vireo vireo\n";

bool help_special(const char *what)
{
    if (!strcmp(what, "man"))
        print_man();
    else if (!strcmp(what, "commands"))
        print_commands();
    else if (!strcmp(what, "completion"))
        fputs(completion_script, stdout);
    else
        return false;
    return true;
}
