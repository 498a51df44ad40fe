/* SPDX-License-Identifier: GPL-2.0-or-later */
/* -help, -version and the manual page, from the table of options. */
#include <string.h>

#include "base/roff.h"
#include "vmm/options.h"

#ifndef VIREO_VERSION
#define VIREO_VERSION "0.1.0"
#endif

static void help_row(GString *s, const struct option_row *r)
{
    gsize before = s->len;
    g_string_append_printf(s, "-%s%s%s", r->name, r->args ? " " : "", r->args ? r->args : "");
    gsize width = s->len - before;
    if (width < 24)
        g_string_append_printf(s, "%*s%s\n", (int)(24 - width), "", r->help);
    else
        g_string_append_printf(s, "\n%24s%s\n", "", r->help);
}

static char *help_text(void)
{
    GString *s = g_string_new("vireo-vmm " VIREO_VERSION ": runs one virtual machine\nusage: vireo-vmm -kernel FILE [option]...\n");
    for (const struct option_row *r = option_rows; r->name || r->help; r++) {
        if (!r->name)
            g_string_append_printf(s, "\n%s:\n", r->help);
        else if (!option_refused(r))
            help_row(s, r);
    }
    g_string_append(s, "\nOptions of QEMU that are not listed are refused with the reason. Example:\n"
                       "  vireo-vmm -nographic -m 1G -kernel vmlinuz -append console=ttyS0 -drive if=virtio,format=raw,file=disk.img\n");
    return g_string_free(s, FALSE);
}

static void man_row(GString *s, const struct option_row *r)
{
    g_string_append(s, ".TP\n\\fB\\-");
    roff_text(s, r->name);
    g_string_append(s, "\\fR ");
    roff_text(s, r->args ? r->args : "");
    g_string_append_c(s, '\n');
    if (option_refused(r))
        g_string_append(s, "Refused: ");
    roff_text(s, r->help);
    g_string_append(s, ".\n");
}

static char *man_page(void)
{
    GString *s = g_string_new(".TH VIREO\\-VMM 1 \"\" \"vireo " VIREO_VERSION "\"\n.SH NAME\nvireo\\-vmm \\- run one virtual machine\n"
                              ".SH SYNOPSIS\n.B vireo\\-vmm\n.B \\-kernel\n.I FILE\n.RI [ option ]...\n.SH DESCRIPTION\n"
                              "Runs one virtual machine in this process. The options are written as those of QEMU. In\n"
                              ".IR KEY = VALUE\nlists a comma inside a value is written twice.\n"
                              "An error is one line on standard error, with exit status 1. Otherwise the status is 0, or what the guest wrote to\n"
                              "isa\\-debug\\-exit.\n.SH OPTIONS\n");
    for (const struct option_row *r = option_rows; r->name || r->help; r++) {
        if (r->name) {
            man_row(s, r);
        } else {
            g_string_append(s, ".SS ");
            roff_text(s, r->help);
            g_string_append_c(s, '\n');
        }
    }
    g_string_append(s, ".SH SIGNALS\nSIGTERM, SIGINT and SIGHUP end the machine: disks are flushed, sockets and the pid file removed.\n");
    return g_string_free(s, FALSE);
}

bool opt_help(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    return options_print(error, strcmp(row->name, "help=man") ? help_text() : man_page());
}

bool opt_version(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    return options_print(error, g_strdup("vireo-vmm version " VIREO_VERSION "\n"));
}
