/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdarg.h>
#include <stdio.h>
#include <syslog.h>

#include "manage/daemon/daemon.h"

/* Set once at start, before there are threads. */
static bool log_verbose, log_syslog;

static GLogWriterOutput writer(GLogLevelFlags level, const GLogField *fields, gsize n, gpointer opaque)
{
    for (gsize i = 0; i < n; i++)
        if (!g_strcmp0(fields[i].key, "MESSAGE") && (log_verbose || !(level & (G_LOG_LEVEL_DEBUG | G_LOG_LEVEL_INFO))))
            daemon_log("%s", (const char *)fields[i].value);
    return G_LOG_WRITER_HANDLED;
}

void daemon_log_init(bool verbose)
{
    log_verbose = verbose;
    g_log_set_writer_func(writer, NULL, NULL); /* GLib allows it once */
}

void daemon_log_to_syslog(void)
{
    openlog("vireod", LOG_PID, LOG_DAEMON);
    log_syslog = true;
}

static void say(const char *format, va_list args)
{
    g_autofree char *text = g_strdup_vprintf(format, args);
    if (log_syslog)
        syslog(LOG_NOTICE, "%s", text);
    else
        fprintf(stderr, "vireod: %s\n", text);
}

void daemon_log(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
}

void daemon_debug(const char *format, ...)
{
    if (!log_verbose)
        return;
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
}
