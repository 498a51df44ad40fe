/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Taking a machine: -incoming, migrate-incoming. A thread reads the stream: RAM goes straight to its place, all else is kept until the end of the
 * stream. Then, on the main thread, the machine takes it, and after that the disks: their images belong to the other process until then.
 *
 * A stream that cannot be used ends this process, with one message: there is no machine.
 */
#include <stdio.h>
#include <glib-unix.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "vmm/blockdev/blockdev.h"
#include "vmm/core/machine.h"
#include "vmm/migrate/migrate_private.h"

struct migrate_in {
    struct migration *g;
    struct machine *machine;
    int listener;         /* -1: none */
    GSource *source;      /* of the listener, or the idle moment in which it begins */
    int fd;               /* -1: no connection yet */
    struct channel channel;
    bool open;            /* the channel is */
    struct loader *loader;
    GThread *thread;
    GError *error;
};

static void fail(struct migrate_in *in, const GError *error)
{
    g_autofree char *stamp = log_stamp();
    struct migration *g = in->g;
    fprintf(stderr, "%svireo-vmm: -incoming: %s\n", stamp, error->message);
    g_free(g->failure);
    g->failure = g_strdup(error->message);
    migration_set_status(g, MIGRATE_FAILED);
    machine_request_failure(in->machine, 1);
}

static bool apply(struct migrate_in *in, bool *ret_run, GError **error)
{
    struct machine *m = in->machine;
    bool ran;
    if (!loader_apply(in->loader, &ran, error))
        return false;
    *ret_run = ran && !m->config->start_paused;
    if (m->blockdev && (*ret_run || !in->g->caps[CAP_LATE_BLOCK_ACTIVATE]) && !blockdev_activate(m->blockdev, error)) {
        g_prefix_error(error, "the machine is here, but its disks are not: ");
        return false;
    }
    return true;
}

/* The stream has been read, or not. */
static void end(void *opaque)
{
    struct migrate_in *in = opaque;
    struct machine *m = in->machine;
    g_autoptr(GError) error = NULL;
    bool run = false;
    g_thread_join(g_steal_pointer(&in->thread));
    channel_clear(&in->channel);
    in->open = false;
    if (m->state != MACHINE_INMIGRATE)
        return; /* the process is about to end */
    if (in->error || !apply(in, &run, &error)) {
        fail(in, in->error ? in->error : error);
        return;
    }
    g_clear_pointer(&in->loader, loader_free);
    m->config->incoming = false;
    migration_set_status(in->g, MIGRATE_COMPLETED);
    if (m->announce)
        m->announce(m);
    if (run)
        machine_start(m);
}

static void *in_thread(void *opaque)
{
    struct migrate_in *in = opaque;
    const struct migrate_source s = { channel_read, &in->channel };
    (void)!loader_read(in->loader, &s, &in->error);
    machine_call_later(in->machine, end, in);
    return NULL;
}

static void begin(struct migrate_in *in)
{
    channel_init(&in->channel, in->fd);
    in->fd = -1;
    in->open = true;
    in->loader = loader_new(in->machine);
    migration_set_status(in->g, MIGRATE_ACTIVE);
    in->thread = sandbox_thread_new(SANDBOX_MIGRATE, "incoming", in_thread, in);
}

static void drop_source(struct migrate_in *in)
{
    if (in->source) {
        g_source_destroy(in->source);
        g_clear_pointer(&in->source, g_source_unref);
    }
}

static gboolean on_connection(gint fd, GIOCondition condition, gpointer opaque)
{
    struct migrate_in *in = opaque;
    g_autoptr(GError) error = NULL;
    in->fd = channel_accept(fd, &error);
    if (in->fd < 0) {
        log_warn("%s", error->message);
        return G_SOURCE_CONTINUE;
    }
    g_clear_pointer(&in->source, g_source_unref);
    close(in->listener);
    in->listener = -1;
    begin(in);
    return G_SOURCE_REMOVE;
}

/* The main loop runs, so the machine has been reset. */
static gboolean on_idle(gpointer opaque)
{
    struct migrate_in *in = opaque;
    g_clear_pointer(&in->source, g_source_unref);
    begin(in);
    return G_SOURCE_REMOVE;
}

bool migrate_in_begin(struct migration *g, const char *uri, GError **error)
{
    bool listens;
    int fd = channel_listen(uri, &listens, error);
    if (fd < 0)
        return false;
    struct migrate_in *in = g_new0(struct migrate_in, 1);
    *in = (struct migrate_in){ .g = g, .machine = g->machine, .listener = listens ? fd : -1, .fd = listens ? -1 : fd };
    g->in = in;
    migration_set_status(g, MIGRATE_SETUP);
    in->source = listens ? g_unix_fd_source_new(fd, G_IO_IN) : g_idle_source_new();
    g_source_set_callback(in->source, listens ? G_SOURCE_FUNC(on_connection) : on_idle, in, NULL);
    g_source_attach(in->source, NULL);
    return true;
}

void migrate_in_free(struct migrate_in *in)
{
    if (!in)
        return;
    drop_source(in);
    if (in->open)
        channel_cancel(&in->channel);
    if (in->thread)
        g_thread_join(in->thread);
    if (in->open)
        channel_clear(&in->channel);
    if (in->listener >= 0)
        close(in->listener);
    if (in->fd >= 0)
        close(in->fd);
    loader_free(in->loader);
    g_clear_error(&in->error);
    g_free(in);
}
