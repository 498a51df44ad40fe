/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/fdset.h"

_Atomic unsigned log_mask;
static bool timestamps;
static FILE *log_file; /* NULL: standard error; the process has one log */

static const struct { const char *name, *help; } categories[LOG_NCATEGORIES] = {
#define X(id, name, help) [LOG_##id] = { name, help },
    LOG_CATEGORIES(X)
#undef X
};

static void write_line(const char *prefix, const char *format, va_list ap)
{
    g_autofree char *text = g_strdup_vprintf(format, ap);
    FILE *f = log_file ? log_file : stderr;
    fprintf(f, "%s%s\n", prefix, text);
    fflush(f);
}

void log_write(enum log_category c, const char *format, ...)
{
    va_list ap;
    (void)c;
    va_start(ap, format);
    write_line("", format, ap);
    va_end(ap);
}

void log_set_timestamps(bool on)
{
    timestamps = on;
}

char *log_stamp(void)
{
    g_autoptr(GDateTime) now = timestamps ? g_date_time_new_now_utc() : NULL;
    g_autofree char *seconds = now ? g_date_time_format(now, "%Y-%m-%dT%H:%M:%S") : NULL;
    return now ? g_strdup_printf("%s.%06dZ ", seconds, g_date_time_get_microsecond(now)) : g_strdup("");
}

void log_warn(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *text = g_strdup_vprintf(format, ap);
    va_end(ap);
    g_autofree char *stamp = log_stamp();
    fprintf(stderr, "%s%s: warning: %s\n", stamp, g_get_prgname() ? g_get_prgname() : "vireo-vmm", text);
}

bool log_parse(const char *items, GError **error)
{
    unsigned mask = 0;
    g_auto(GStrv) names = g_strsplit(items, ",", -1);
    for (char **n = names; *n; n++) {
        unsigned c = 0;
        while (c < LOG_NCATEGORIES && strcmp(*n, categories[c].name))
            c++;
        if (c == LOG_NCATEGORIES) {
            g_autoptr(GString) all = g_string_new(NULL);
            for (unsigned i = 0; i < LOG_NCATEGORIES; i++)
                g_string_append_printf(all, " %s", categories[i].name);
            return vireo_fail(error, VIREO_ERROR_INVALID, "no log item '%s'; there are:%s", *n, all->str);
        }
        mask |= 1u << c;
    }
    atomic_store(&log_mask, mask);
    return true;
}

bool log_open(const char *path, GError **error)
{
    int fd = fdset_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    if (!f)
        return vireo_fail_errno(error, errno, "-D: cannot write log file '%s'", path);
    log_file = f;
    return true;
}

char *log_help(void)
{
    GString *s = g_string_new(NULL);
    for (unsigned c = 0; c < LOG_NCATEGORIES; c++)
        g_string_append_printf(s, "%-14s %s\n", categories[c].name, categories[c].help);
    return g_string_free(s, FALSE);
}
