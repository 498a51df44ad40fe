/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/core/iothread.h"

#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/sandbox.h"
#include "vmm/core/machine.h"

static void *run(void *opaque)
{
    struct iothread *t = opaque;
    g_main_context_push_thread_default(t->context);
    g_mutex_lock(&t->lock);
    t->thread_id = gettid();
    t->started = true;
    g_cond_broadcast(&t->told);
    g_mutex_unlock(&t->lock);
    while (!__atomic_load_n(&t->quit, __ATOMIC_ACQUIRE))
        g_main_context_iteration(t->context, TRUE);
    g_main_context_pop_thread_default(t->context);
    return NULL;
}

static void init(struct object *o)
{
    struct iothread *t = (struct iothread *)o;
    t->poll_max_ns = 32768; /* QEMU's */
}

static bool complete(struct object *o, GError **error)
{
    struct iothread *t = (struct iothread *)o;
    g_autofree char *name = g_strdup_printf("IO %s", o->id);
    g_mutex_init(&t->lock);
    g_cond_init(&t->told);
    t->users = g_ptr_array_new_with_free_func(g_free);
    t->context = g_main_context_new();
    t->thread = sandbox_thread_new(SANDBOX_BLOCK, name, run, t);
    g_mutex_lock(&t->lock);
    while (!t->started)
        g_cond_wait(&t->told, &t->lock);
    g_mutex_unlock(&t->lock);
    return true;
}

static void finish(struct object *o)
{
    struct iothread *t = (struct iothread *)o;
    if (!t->thread)
        return;
    __atomic_store_n(&t->quit, true, __ATOMIC_RELEASE);
    g_main_context_wakeup(t->context);
    g_thread_join(t->thread);
    g_main_context_unref(t->context);
    g_ptr_array_unref(t->users);
    g_cond_clear(&t->told);
    g_mutex_clear(&t->lock);
}

static const struct keyval_key keys[] = {
    { "poll-max-ns", KV_UINT, offsetof(struct iothread, poll_max_ns), "accepted: the thread sleeps when it has nothing to do", .max = INT64_MAX },
    { "poll-grow", KV_UINT, offsetof(struct iothread, poll_grow), "accepted", .max = INT64_MAX },
    { "poll-shrink", KV_UINT, offsetof(struct iothread, poll_shrink), "accepted", .max = INT64_MAX },
    { "aio-max-batch", KV_UINT, offsetof(struct iothread, aio_max_batch), "accepted: batches are as large as what is ready", .max = INT64_MAX },
    { "thread-pool-min", KV_UINT, offsetof(struct iothread, pool_min), "accepted: workers belong to the disks", .max = INT64_MAX },
    { "thread-pool-max", KV_UINT, offsetof(struct iothread, pool_max), "accepted", .max = INT64_MAX },
    { NULL }
};
const struct object_class iothread_class = { "iothread", "a thread that serves queues of disks", sizeof(struct iothread), keys, init, complete, finish,
                                             .numbers_change = true };

struct iothread *iothread_find(const struct machine *m, const char *id, GError **error)
{
    struct object *o = object_find(m, id);
    if (o && o->class == &iothread_class)
        return (struct iothread *)o;
    if (o)
        vireo_fail(error, VIREO_ERROR_INVALID, "iothread=%s: the object is a %s", id, o->class->name);
    else
        vireo_fail(error, VIREO_ERROR_NOT_FOUND, "iothread=%s: there is no such object; add -object iothread,id=%s", id, id);
    return NULL;
}

void iothread_hold(struct iothread *t, const char *who)
{
    g_ptr_array_add(t->users, g_strdup(who));
    t->obj.user = t->users->pdata[0];
}

void iothread_release(struct iothread *t, const char *who)
{
    for (guint i = 0; i < t->users->len; i++) {
        if (!strcmp(t->users->pdata[i], who)) {
            g_ptr_array_remove_index(t->users, i);
            break;
        }
    }
    t->obj.user = t->users->len ? t->users->pdata[0] : NULL;
}

struct sync {
    struct iothread *t;
    bool done;
};

static gboolean sync_done(gpointer opaque)
{
    struct sync *s = opaque;
    g_mutex_lock(&s->t->lock);
    s->done = true;
    g_cond_broadcast(&s->t->told);
    g_mutex_unlock(&s->t->lock);
    return G_SOURCE_REMOVE;
}

void iothread_sync(struct iothread *t)
{
    struct sync s = { t, false };
    GSource *source = g_idle_source_new();
    g_source_set_priority(source, G_PRIORITY_HIGH);
    g_source_set_callback(source, sync_done, &s, NULL);
    g_source_attach(source, t->context);
    g_source_unref(source);
    g_mutex_lock(&t->lock);
    while (!s.done)
        g_cond_wait(&t->told, &t->lock);
    g_mutex_unlock(&t->lock);
}
