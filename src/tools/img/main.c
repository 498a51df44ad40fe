/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vireo-img: one run is one subcommand. This file is the table of contents. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "tools/img/img.h"
#include "tools/img/img_commands.h"

const struct img_command *const img_commands[] = {
    &img_amend, &img_bench,  &img_bitmap,  &img_check,  &img_commit, &img_compare,  &img_convert, &img_create,
    &img_dd,    &img_info,   &img_map,     &img_measure, &img_rebase, &img_resize, &img_snapshot, NULL
};

static int print(char *text)
{
    fputs(text, stdout);
    g_free(text);
    return fflush(stdout) ? 1 : 0;
}

static const struct img_command *find(const char *name)
{
    for (const struct img_command *const *c = img_commands; *c; c++) {
        if (!strcmp((*c)->name, name))
            return *c;
    }
    return NULL;
}

static bool unknown_command(const char *name, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    for (const struct img_command *const *c = img_commands; *c; c++)
        g_ptr_array_add(names, (void *)(*c)->name);
    const char *near = nearest_name(name, (const char *const *)names->pdata, names->len);
    return vireo_fail(error, VIREO_ERROR_INVALID, "Command not found: %s%s%s%s; see vireo-img --help", name, near ? "; did you mean '" : "",
                      near ? near : "", near ? "'?" : "");
}

/* What stands before a subcommand. True: *ret_status is the exit status. */
static bool before_command(int argc, char **argv, int *ret_status, GError **error)
{
    const char *word = argc > 1 ? argv[1] : NULL;
    *ret_status = 1;
    if (!word)
        vireo_fail(error, VIREO_ERROR_INVALID, "Not enough arguments; try 'vireo-img --help'");
    else if (!strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help"))
        *ret_status = print(img_help());
    else if (!strcmp(word, "--help=man"))
        *ret_status = print(img_man());
    else if (!strcmp(word, "--version") || !strcmp(word, "-V"))
        *ret_status = print(g_strdup("vireo-img version " VIREO_VERSION "\n"));
    else if (*word == '-')
        vireo_fail(error, VIREO_ERROR_INVALID, "unrecognized option '%s'; try 'vireo-img --help'", word);
    else
        return false;
    return true;
}

static int run(struct img *img, int argc, char **argv, GError **error)
{
    int status;
    if (before_command(argc, argv, &status, error))
        return status;
    img->command = find(argv[1]);
    if (!img->command) {
        unknown_command(argv[1], error);
        return 1;
    }
    g_autofree void *args = g_malloc0(img->command->args_size);
    g_autoptr(GPtrArray) operands = g_ptr_array_new();
    if (img->command->defaults)
        img->command->defaults(args);
    switch (img_parse(img->command, argc - 1, argv + 1, args, operands, error)) {
    case IMG_RUN:
        img->quiet = ((struct img_common *)args)->quiet;
        status = img_run(img, args, (char **)operands->pdata, operands->len, error);
        if (status < 0)
            status = img->command->open_status ? img->command->open_status : 1;
        break;
    case IMG_HELP:
        status = print(img_help_command(img->command));
        break;
    case IMG_BAD:
        status = 1;
        break;
    }
    img_args_clear(img->command, args);
    return status;
}

int main(int argc, char **argv)
{
    struct img img = { 0 };
    GError *error = NULL;
    signal(SIGPIPE, SIG_IGN);
    g_set_prgname("vireo-img");
    int status = run(&img, argc, argv, &error);
    if ((fflush(stdout) || ferror(stdout)) && !error && !status)
        status = vireo_fail_errno(&error, errno, "cannot write to standard output") ? 0 : 1;
    if (error)
        fprintf(stderr, "vireo-img: %s\n", g_strdelimit(error->message, "\n\r", ' '));
    g_clear_error(&error);
    img_finish(&img); /* does not come back after an interrupt */
    return status;
}
