/* SPDX-License-Identifier: GPL-2.0-or-later */
/* --help, the manual page, and -o help: from the tables. */
#include <stdio.h>
#include <string.h>

#include "base/roff.h"
#include "block/driver.h"
#include "tools/img/img.h"

/* ---- the program ---- */

char *img_help(void)
{
    GString *s = g_string_new("vireo-img " VIREO_VERSION ": makes, shows, checks and converts disk images\n"
                              "usage: vireo-img COMMAND [OPTION]... [OPERAND]...\n\nCommands:\n");
    for (const struct img_command *const *c = img_commands; *c; c++)
        g_string_append_printf(s, "  %-10s %s\n", (*c)->name, (*c)->summary);
    g_string_append(s, "\n'vireo-img COMMAND --help' shows the options of one. Sizes are bytes, or have a suffix k, M, G, T, P or E (powers of 1024).\n"
                       "A file name may also be nbd://HOST/EXPORT, or json:{...} with the options of -blockdev.\nSupported formats:");
    for (const struct block_driver *const *d = block_drivers; *d; d++)
        g_string_append_printf(s, " %s", (*d)->name);
    g_string_append(s, "\nExample:\n  vireo-img create -f qcow2 disk.qcow2 20G\n");
    return g_string_free(s, FALSE);
}

static char *option_text(const struct img_option *o)
{
    g_autofree char *letter = o->letter ? g_strdup_printf("-%c", o->letter) : g_strdup("");
    g_autofree char *name = o->name ? g_strdup_printf("%s--%s", o->letter ? ", " : "", o->name) : g_strdup("");
    return g_strdup_printf("%s%s%s%s", letter, name, o->arg ? (o->name ? "=" : " ") : "", o->arg ? o->arg : "");
}

char *img_help_command(const struct img_command *c)
{
    GString *s = g_string_new(NULL);
    g_string_append_printf(s, "vireo-img %s: %s\nusage: vireo-img %s [OPTION]... %s\n\nOptions:\n", c->name, c->summary, c->name, c->operands);
    for (const struct img_option *o = c->options; o->letter || o->name; o++) {
        g_autofree char *text = option_text(o);
        g_string_append_printf(s, strlen(text) < 24 ? "  %-24s %s\n" : "  %s\n                           %s\n", text, o->help);
    }
    return g_string_free(s, FALSE);
}

/* ---- the manual page ---- */

char *img_man(void)
{
    GString *s = g_string_new(".TH VIREO\\-IMG 1 \"\" \"vireo " VIREO_VERSION "\"\n.SH NAME\nvireo\\-img \\- make, show, check and convert disk images\n"
                              ".SH SYNOPSIS\n.B vireo\\-img\n.I COMMAND\n.RI [ OPTION ]...\n.RI [ OPERAND ]...\n.SH DESCRIPTION\n"
                              "Arguments, output and exit status are those of qemu\\-img. Sizes are bytes, or have a suffix k, M, G, T, P or E (powers of 1024).\n"
                              "A file name may also be nbd://HOST/EXPORT, or json:{...} with the options of \\-blockdev.\n.SH COMMANDS\n");
    for (const struct img_command *const *c = img_commands; *c; c++) {
        g_string_append_printf(s, ".SS %s [OPTION]... ", (*c)->name);
        roff_text(s, (*c)->operands);
        g_string_append_c(s, '\n');
        roff_text(s, (*c)->summary);
        g_string_append(s, ".\n");
        for (const struct img_option *o = (*c)->options; o->letter || o->name; o++) {
            g_autofree char *text = option_text(o);
            g_string_append(s, ".TP\n\\fB");
            roff_text(s, text);
            g_string_append(s, "\\fR\n");
            roff_text(s, o->help);
            g_string_append(s, ".\n");
        }
    }
    g_string_append(s, ".SH SIGNALS\nSIGUSR1 makes a long command print its progress. SIGINT, SIGTERM and SIGHUP end it with nothing half done: a new image is\n"
                       "removed, one that was there before is consistent.\n.SH EXIT STATUS\n0, or 1 with one line on standard error. check: 2 the image is corrupt, "
                       "3 it has leaks, 63 its format\nhas no check. compare: 0 the images are identical, 1 they differ, 2 and more an error.\n");
    return g_string_free(s, FALSE);
}

/* ---- options of formats ---- */

static const struct keyval_key size_key[] = { { "size", KV_SIZE, 0, "Virtual disk size" }, { NULL } };
static const struct keyval_key backing_keys[] = {
    { "backing_file", KV_STRING, 0, "File name of a base image" }, { "backing_fmt", KV_STRING, 0, "Image format of the base image" }, { NULL }
};

static int by_name(gconstpointer a, gconstpointer b)
{
    return strcmp((*(const struct keyval_key *const *)a)->name, (*(const struct keyval_key *const *)b)->name);
}

static void add_keys(GPtrArray *keys, const struct keyval_key *from)
{
    for (; from && from->name; from++) {
        bool there = from->type == KV_REFUSED;
        for (guint i = 0; i < keys->len; i++)
            there |= !strcmp(((const struct keyval_key *)keys->pdata[i])->name, from->name);
        if (!there)
            g_ptr_array_add(keys, (void *)from);
    }
}

static const char *type_text(enum keyval_type t)
{
    return t == KV_BOOL ? "bool (on/off)" : t == KV_UINT ? "num" : t == KV_SIZE ? "size" : "str";
}

static void print_keys(GPtrArray *keys)
{
    g_ptr_array_sort(keys, by_name);
    for (guint i = 0; i < keys->len; i++) {
        const struct keyval_key *k = keys->pdata[i];
        g_autofree char *name = g_strdup_printf("  %s=<%s>", k->name, type_text(k->type));
        printf("%-24s - %s\n", name, k->help ? k->help : "");
    }
}

static GPtrArray *format_keys(const struct block_driver *d)
{
    GPtrArray *keys = g_ptr_array_new();
    add_keys(keys, d->create_keys);
    add_keys(keys, size_key);
    if (d->supports_backing)
        add_keys(keys, backing_keys);
    return keys;
}

bool img_help_options(const char *format, const char *filename, GError **error)
{
    const struct block_driver *d = block_driver_find(format), *p = block_driver_find("file");
    if (!d)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Unknown file format '%s'", format);
    if (!d->create)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Format driver '%s' does not support image creation", format);
    g_autoptr(GPtrArray) keys = format_keys(d);
    if (filename) {
        add_keys(keys, p->create_keys);
        puts("Supported options:");
    } else {
        printf("Supported %s options:\n", format);
    }
    print_keys(keys);
    if (!filename)
        puts("\nThe protocol level may support further options.\nSpecify the target filename to include those options.");
    return true;
}

bool img_check_options(const struct block_driver *d, const struct keyval *kv, GError **error)
{
    g_autoptr(GPtrArray) keys = format_keys(d);
    for (guint i = 0; i < kv->pairs->len; i++) {
        const struct keyval_pair *p = kv->pairs->pdata[i];
        bool known = false;
        for (guint k = 0; k < keys->len; k++)
            known |= !strcmp(((const struct keyval_key *)keys->pdata[k])->name, p->key);
        if (!known)
            return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid parameter '%s': format '%s' has no such option; see them with -o help", p->key, d->name);
    }
    return true;
}

bool img_help_amend(const char *format, GError **error)
{
    const struct block_driver *d = block_driver_find(format);
    if (!d)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Unknown file format '%s'", format);
    printf("Amend options for '%s':\n", format);
    if (d->amend_keys) {
        g_autoptr(GPtrArray) keys = g_ptr_array_new();
        add_keys(keys, d->amend_keys);
        print_keys(keys);
    } else {
        g_autoptr(GPtrArray) keys = format_keys(d);
        print_keys(keys);
    }
    return true;
}
