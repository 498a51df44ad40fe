/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of a subcommand, by the rows of its description. getopt_long(3) finds options anywhere and by beginnings. */
#include <getopt.h>
#include <string.h>

#include "tools/img/img.h"

enum { LONG_BASE = 256 }; /* above all letters */

bool img_parse_size(const char *what, const char *text, uint64_t *ret, GError **error)
{
    uint64_t v;
    if (!keyval_size(what, text, 1, &v, NULL) || v > INT64_MAX)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid %s specified: '%s'. You may use k, M, G, T, P or E suffixes for kilobytes, megabytes, "
                          "gigabytes, terabytes, petabytes and exabytes.", what, text);
    *ret = v;
    return true;
}

static void action_free(void *p)
{
    struct img_action *a = p;
    g_free(a->value);
    g_free(a);
}

static void add_action(GPtrArray **list, const struct img_option *o, const char *value)
{
    struct img_action *a = g_new0(struct img_action, 1);
    a->option = o;
    a->value = g_strdup(value);
    if (!*list)
        *list = g_ptr_array_new_with_free_func(action_free);
    g_ptr_array_add(*list, a);
}

static bool store(const struct img_option *o, const char *value, void *args, GError **error)
{
    char *field = (char *)args + o->offset;
    switch (o->type) {
    case IMG_FLAG:
        *(bool *)field = true;
        return true;
    case IMG_STRING:
        g_free(*(char **)field);
        *(char **)field = g_strdup(value);
        return true;
    case IMG_LIST:
        if (!*(GPtrArray **)field)
            *(GPtrArray **)field = g_ptr_array_new_with_free_func(g_free);
        g_ptr_array_add(*(GPtrArray **)field, g_strdup(value));
        return true;
    case IMG_SIZE:
        return img_parse_size(o->help, value, (uint64_t *)field, error);
    case IMG_ACTION:
        add_action((GPtrArray **)field, o, value);
        return true;
    case IMG_IGNORED:
        return true;
    }
    return false;
}

void img_args_clear(const struct img_command *c, void *args)
{
    for (const struct img_option *o = c->options; o->letter || o->name; o++) {
        void *field = (char *)args + o->offset;
        if (o->type == IMG_STRING) {
            g_free(*(char **)field);
            *(char **)field = NULL;
        } else if ((o->type == IMG_LIST || o->type == IMG_ACTION) && *(GPtrArray **)field) {
            g_ptr_array_unref(*(GPtrArray **)field);
            *(GPtrArray **)field = NULL;
        }
    }
}

/* getopt's tables. */
static char *tables(const struct img_command *c, struct option *longs)
{
    GString *letters = g_string_new(":h");
    unsigned n = 0, i = 0;
    longs[n++] = (struct option){ "help", no_argument, NULL, 'h' };
    for (const struct img_option *o = c->options; o->letter || o->name; o++, i++) {
        if (o->letter)
            g_string_append_printf(letters, "%c%s", o->letter, o->arg ? ":" : "");
        if (o->name)
            longs[n++] = (struct option){ o->name, o->arg ? required_argument : no_argument, NULL, LONG_BASE + (int)i };
    }
    longs[n] = (struct option){ 0 };
    return g_string_free(letters, FALSE);
}

static const struct img_option *row(const struct img_command *c, int got)
{
    if (got >= LONG_BASE)
        return &c->options[got - LONG_BASE];
    for (const struct img_option *o = c->options; o->letter || o->name; o++) {
        if (o->letter == got)
            return o;
    }
    return NULL;
}

static enum img_parsed bad(const struct img_command *c, const char *what, const char *word, GError **error)
{
    vireo_fail(error, VIREO_ERROR_INVALID, "%s '%s'; try 'vireo-img %s --help'", what, word, c->name);
    return IMG_BAD;
}

enum img_parsed img_parse(const struct img_command *c, int argc, char **argv, void *args, GPtrArray *ret_operands, GError **error)
{
    struct option longs[64];
    g_autofree char *letters = tables(c, longs);
    const char *last = c->last_word && argc > 1 && strcmp(argv[argc - 1], "--help") && strcmp(argv[argc - 1], "-h") ? argv[--argc] : NULL;
    optind = 0;
    for (;;) {
        int got = getopt_long(argc, argv, letters, longs, NULL);
        if (got == -1)
            break;
        if (got == 'h')
            return IMG_HELP;
        if (got == ':')
            return bad(c, "missing argument for option", argv[optind - 1], error);
        if (got == '?')
            return bad(c, "unrecognized option", argv[optind - 1], error);
        if (!store(row(c, got), optarg, args, error))
            return IMG_BAD;
    }
    for (int i = optind; i < argc; i++)
        g_ptr_array_add(ret_operands, argv[i]);
    if (last)
        g_ptr_array_add(ret_operands, (char *)last);
    if (ret_operands->len >= c->min && ret_operands->len <= c->max)
        return IMG_RUN;
    vireo_fail(error, VIREO_ERROR_INVALID, "%s; try 'vireo-img %s --help'", c->expect, c->name);
    return IMG_BAD;
}
