/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the program says: results, notes, errors, questions, progress. */
#include "vireo.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

void say(struct call *c, const char *format, ...)
{
    if (call_json(c))
        return;
    va_list ap;
    va_start(ap, format);
    vprintf(format, ap);
    va_end(ap);
}

void note(struct call *c, const char *format, ...)
{
    if (c->v->quiet || call_json(c))
        return;
    va_list ap;
    va_start(ap, format);
    vprintf(format, ap);
    va_end(ap);
}

static void error_line(struct vireo *v, const char *text)
{
    fflush(stdout);
    fprintf(stderr, "error: %s\n", text);
    if (v->log) {
        fprintf(v->log, "error: %s\n", text);
        fflush(v->log);
    }
}

bool complain(struct call *c, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *text = g_strdup_vprintf(format, ap);
    va_end(ap);
    error_line(c->v, text);
    return false;
}

void vireo_error(struct vireo *v, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *text = g_strdup_vprintf(format, ap);
    va_end(ap);
    error_line(v, text);
}

void report_library_error(struct vireo *v)
{
    if (v->last_error && v->last_error->code != VIR_ERR_OK && v->last_error->message)
        error_line(v, v->last_error->message);
    forget_library_error(v);
}

void forget_library_error(struct vireo *v)
{
    if (v->last_error)
        virFreeError(v->last_error);
    v->last_error = NULL;
    virResetLastError();
}

double pretty_size(unsigned long long bytes, const char **ret_unit)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = bytes;
    unsigned i = 0;
    for (; value >= 1024 && i + 1 < G_N_ELEMENTS(units); i++)
        value /= 1024;
    *ret_unit = units[i];
    return value;
}

bool confirm(struct call *c, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *text = g_strdup_vprintf(format, ap);
    va_end(ap);
    fprintf(stderr, "%s [y/N]: ", text);
    fflush(stderr);
    char answer[16];
    return fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

char *now_text(void)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *seconds = g_date_time_format(now, "%Y-%m-%d %H:%M:%S");
    return g_strdup_printf("%s.%03d+0000", seconds, g_date_time_get_microsecond(now) / 1000);
}

void progress(struct call *c, const char *what, unsigned long long done, unsigned long long total)
{
    if (!isatty(STDERR_FILENO) || c->v->quiet)
        return;
    char bar[31];
    unsigned part = total ? (unsigned)((double)done / total * 30) : 0;
    memset(bar, ' ', 30);
    memset(bar, '#', MIN(part, 30));
    bar[30] = 0;
    fprintf(stderr, "\r%s [%s] %3.0f %%", what, bar, total ? 100.0 * done / total : 0.0);
    if (done >= total)
        fputc('\n', stderr);
    fflush(stderr);
}
