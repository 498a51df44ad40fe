/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The event loop. A program registers its own functions (virEventRegisterImpl) or takes this one (virEventRegisterDefaultImpl), which works on GLib's
 * default main context: virEventRunDefaultImpl() is one turn of it, and a program with a GLib main loop needs no call at all.
 * Removing from within a callback is allowed; the free function is called from the loop, never from the removing call.
 */
#include <glib-unix.h>

#include "manage/api/api.h"

/* One of each a process, as the C interface wants it. */
static struct {
    GMutex lock;
    bool registered;
    virEventAddHandleFunc add_handle;
    virEventUpdateHandleFunc update_handle;
    virEventRemoveHandleFunc remove_handle;
    virEventAddTimeoutFunc add_timeout;
    virEventUpdateTimeoutFunc update_timeout;
    virEventRemoveTimeoutFunc remove_timeout;
    GHashTable *items; /* id -> struct item, of the default implementation */
    int next;
} loop;

struct item {
    int id, fd, events, ms;
    gint refs;
    bool removed;
    GSource *source; /* NULL: switched off */
    virEventHandleCallback handle;
    virEventTimeoutCallback timeout;
    void *opaque;
    virFreeCallback free;
};

static void item_unref(gpointer opaque)
{
    struct item *i = opaque;
    if (g_atomic_int_dec_and_test(&i->refs))
        g_free(i);
}

static struct item *item_ref(struct item *i)
{
    g_atomic_int_inc(&i->refs);
    return i;
}

static GIOCondition to_condition(int events)
{
    return (events & VIR_EVENT_HANDLE_READABLE ? G_IO_IN : 0) | (events & VIR_EVENT_HANDLE_WRITABLE ? G_IO_OUT : 0) |
           (events & VIR_EVENT_HANDLE_ERROR ? G_IO_ERR : 0) | (events & VIR_EVENT_HANDLE_HANGUP ? G_IO_HUP : 0);
}

static int to_events(GIOCondition c)
{
    return (c & (G_IO_IN | G_IO_PRI) ? VIR_EVENT_HANDLE_READABLE : 0) | (c & G_IO_OUT ? VIR_EVENT_HANDLE_WRITABLE : 0) |
           (c & (G_IO_ERR | G_IO_NVAL) ? VIR_EVENT_HANDLE_ERROR : 0) | (c & G_IO_HUP ? VIR_EVENT_HANDLE_HANGUP : 0);
}

static bool item_alive(struct item *i)
{
    g_mutex_lock(&loop.lock);
    bool alive = !i->removed;
    g_mutex_unlock(&loop.lock);
    return alive;
}

static gboolean on_handle(gint fd, GIOCondition condition, gpointer opaque)
{
    struct item *i = opaque;
    if (item_alive(i))
        i->handle(i->id, i->fd, to_events(condition), i->opaque);
    return G_SOURCE_CONTINUE;
}

static gboolean on_timeout(gpointer opaque)
{
    struct item *i = opaque;
    if (item_alive(i))
        i->timeout(i->id, i->opaque);
    return G_SOURCE_CONTINUE;
}

/* Under the lock: the source follows the item's events or period. */
static void arm_locked(struct item *i)
{
    if (i->source) {
        g_source_destroy(i->source);
        g_clear_pointer(&i->source, g_source_unref);
    }
    if (i->removed || (i->handle ? !i->events : i->ms < 0))
        return;
    i->source = i->handle ? g_unix_fd_source_new(i->fd, to_condition(i->events)) : g_timeout_source_new((guint)i->ms);
    g_source_set_callback(i->source, i->handle ? (GSourceFunc)(void (*)(void))on_handle : on_timeout, item_ref(i), item_unref);
    g_source_attach(i->source, NULL);
}

static int add_item(struct item i)
{
    g_mutex_lock(&loop.lock);
    struct item *copy = g_memdup2(&i, sizeof(i));
    copy->refs = 1;
    copy->id = ++loop.next;
    g_hash_table_insert(loop.items, GINT_TO_POINTER(copy->id), copy);
    arm_locked(copy);
    int id = copy->id;
    g_mutex_unlock(&loop.lock);
    return id;
}

static int default_add_handle(int fd, int events, virEventHandleCallback cb, void *opaque, virFreeCallback ff)
{
    return add_item((struct item){ .fd = fd, .events = events, .handle = cb, .opaque = opaque, .free = ff });
}

static int default_add_timeout(int ms, virEventTimeoutCallback cb, void *opaque, virFreeCallback ff)
{
    return add_item((struct item){ .ms = ms, .timeout = cb, .opaque = opaque, .free = ff });
}

static void update(int id, int events, int ms)
{
    g_mutex_lock(&loop.lock);
    struct item *i = g_hash_table_lookup(loop.items, GINT_TO_POINTER(id));
    if (i) {
        i->events = events;
        i->ms = ms;
        arm_locked(i);
    }
    g_mutex_unlock(&loop.lock);
}

static void default_update_handle(int watch, int events) { update(watch, events, 0); }
static void default_update_timeout(int timer, int ms) { update(timer, 0, ms); }

static gboolean on_removed(gpointer opaque)
{
    struct item *i = opaque;
    i->free(i->opaque);
    return G_SOURCE_REMOVE;
}

static int default_remove(int id)
{
    g_mutex_lock(&loop.lock);
    struct item *i = g_hash_table_lookup(loop.items, GINT_TO_POINTER(id));
    if (i) {
        i->removed = true;
        arm_locked(i);
        g_hash_table_remove(loop.items, GINT_TO_POINTER(id)); /* does not free */
    }
    g_mutex_unlock(&loop.lock);
    if (!i)
        return -1;
    if (i->free)
        g_idle_add_full(G_PRIORITY_DEFAULT, on_removed, i, item_unref);
    else
        item_unref(i);
    return 0;
}

bool api_loop_present(void)
{
    g_mutex_lock(&loop.lock);
    bool present = loop.registered;
    g_mutex_unlock(&loop.lock);
    return present;
}

/* ---- public ---- */

void virEventRegisterImpl(virEventAddHandleFunc addHandle, virEventUpdateHandleFunc updateHandle, virEventRemoveHandleFunc removeHandle,
                          virEventAddTimeoutFunc addTimeout, virEventUpdateTimeoutFunc updateTimeout, virEventRemoveTimeoutFunc removeTimeout)
{
    g_mutex_lock(&loop.lock);
    if (!loop.registered) { /* the first one stays: others hold its numbers */
        loop.add_handle = addHandle;
        loop.update_handle = updateHandle;
        loop.remove_handle = removeHandle;
        loop.add_timeout = addTimeout;
        loop.update_timeout = updateTimeout;
        loop.remove_timeout = removeTimeout;
        loop.items = g_hash_table_new(NULL, NULL);
        loop.registered = true;
    }
    g_mutex_unlock(&loop.lock);
}

int virEventRegisterDefaultImpl(void)
{
    virResetLastError();
    virEventRegisterImpl(default_add_handle, default_update_handle, default_remove, default_add_timeout, default_update_timeout, default_remove);
    return 0;
}

int virEventRunDefaultImpl(void)
{
    virResetLastError();
    g_main_context_iteration(NULL, TRUE);
    return 0;
}

static int no_loop(void)
{
    api_fail(NULL, VIR_ERR_INTERNAL_ERROR, "no event loop is registered: call virEventRegisterDefaultImpl() first");
    return -1;
}

int virEventAddHandle(int fd, int events, virEventHandleCallback cb, void *opaque, virFreeCallback ff)
{
    return api_loop_present() ? loop.add_handle(fd, events, cb, opaque, ff) : no_loop();
}

void virEventUpdateHandle(int watch, int events)
{
    if (api_loop_present())
        loop.update_handle(watch, events);
}

int virEventRemoveHandle(int watch) { return api_loop_present() ? loop.remove_handle(watch) : no_loop(); }

int virEventAddTimeout(int timeout, virEventTimeoutCallback cb, void *opaque, virFreeCallback ff)
{
    return api_loop_present() ? loop.add_timeout(timeout, cb, opaque, ff) : no_loop();
}

void virEventUpdateTimeout(int timer, int timeout)
{
    if (api_loop_present())
        loop.update_timeout(timer, timeout);
}

int virEventRemoveTimeout(int timer) { return api_loop_present() ? loop.remove_timeout(timer) : no_loop(); }
