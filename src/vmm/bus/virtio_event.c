/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/bus/virtio_event.h"

#include <errno.h>
#include <glib-unix.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "vmm/core/iothread.h"
#include "vmm/core/irqchip.h"
#include "vmm/core/machine.h"

struct queue_event {
    struct virtio_event *e;
    unsigned index;
    int kick, call;      /* -1: not there */
    bool external;       /* somebody else waits at `kick` */
    bool missed;         /* kicked while the machine stood still */
    bool bound;          /* the accelerator signals `kick`, for a write to: */
    uint64_t address;
    unsigned size;
    bool match;
    int route;           /* of `call` in the accelerator; -1: the main loop reads it */
    bool irqfd;
    uint64_t message;
    uint32_t data;
    GSource *kick_source, *call_source;
};

struct virtio_event {
    struct virtio_device *v;
    const struct virtio_event_ops *ops;
    bool away; /* the accelerator is being replaced */
    struct queue_event queues[VIRTIO_MAX_QUEUES];
};

static struct machine *machine_of(const struct virtio_event *e)
{
    return e->v->dev.machine;
}

static int make_fd(void)
{
    /* seccomp(device): eventfd2 */
    return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

static bool drain(int fd)
{
    uint64_t n;
    return read(fd, &n, sizeof(n)) == sizeof(n);
}

static void signal_fd(int fd)
{
    uint64_t one = 1;
    (void)!write(fd, &one, sizeof(one)); /* full is signalled, too */
}

static void drop_source(GSource **s)
{
    if (*s) {
        g_source_destroy(*s);
        g_clear_pointer(s, g_source_unref);
    }
}

static void watch(const struct virtio_event *e, GSource **s, int fd, GUnixFDSourceFunc fn, void *opaque)
{
    if (*s)
        return;
    *s = g_unix_fd_source_new(fd, G_IO_IN);
    g_source_set_callback(*s, G_SOURCE_FUNC(fn), opaque, NULL);
    g_source_attach(*s, e->v->iothread ? e->v->iothread->context : NULL);
}

/* ---- kicks ---- */

static gboolean on_kick(gint fd, GIOCondition condition, gpointer opaque)
{
    struct queue_event *q = opaque;
    struct virtio_device *v = q->e->v;
    g_mutex_lock(&v->dev.lock);
    if (q->kick >= 0 && !q->external && drain(q->kick)) {
        /* Nothing of guest memory may change while the machine stands still. */
        if (__atomic_load_n(&machine_of(q->e)->state, __ATOMIC_ACQUIRE) == MACHINE_RUNNING)
            virtio_serve(v, q->index);
        else
            q->missed = true;
    }
    g_mutex_unlock(&v->dev.lock);
    return G_SOURCE_CONTINUE;
}

static void unbind(struct queue_event *q)
{
    if (q->bound)
        machine_ioeventfd(machine_of(q->e), q->kick, q->address, q->size, q->match, q->index, false);
    q->bound = false;
}

static void bind(struct queue_event *q)
{
    struct virtio_device *v = q->e->v;
    uint64_t address = 0;
    unsigned size = 0;
    bool match = false;
    bool want = !q->e->away && (q->external || v->ioeventfd) && virtio_running(v) && v->queues[q->index].enabled &&
                q->e->ops->notify_at(v, q->index, &address, &size, &match);
    if (q->bound && (!want || address != q->address))
        unbind(q);
    const struct accel_ops *ops = machine_of(q->e)->accel_ops;
    bool can = ops && ops->ioeventfd;
    if (!want || q->bound || !(can || v->iothread))
        return;
    if (q->kick < 0 && (q->kick = make_fd()) < 0)
        return;
    q->address = address;
    q->size = size;
    q->match = match;
    q->bound = can && machine_ioeventfd(machine_of(q->e), q->kick, address, size, match, q->index, true);
    if ((q->bound || v->iothread) && !q->external)
        watch(q->e, &q->kick_source, q->kick, on_kick, q);
}

bool virtio_event_notify(struct virtio_event *e, unsigned queue)
{
    struct queue_event *q = queue < VIRTIO_MAX_QUEUES ? &e->queues[queue] : NULL;
    if (!q || !(q->external || (q->kick_source && e->v->iothread)))
        return true;
    signal_fd(q->kick);
    return false;
}

/* ---- calls ---- */

static gboolean on_call(gint fd, GIOCondition condition, gpointer opaque)
{
    struct queue_event *q = opaque;
    struct virtio_device *v = q->e->v;
    g_mutex_lock(&v->dev.lock);
    if (!q->irqfd && q->call >= 0 && drain(q->call) && virtio_running(v))
        v->transport->queue_interrupt(v, q->index);
    g_mutex_unlock(&v->dev.lock);
    return G_SOURCE_CONTINUE;
}

static void call_leave(struct queue_event *q)
{
    if (q->irqfd)
        machine_irqfd(machine_of(q->e), q->call, q->route, false);
    if (q->route >= 0)
        machine_route_remove(machine_of(q->e), q->route);
    q->irqfd = false;
    q->route = -1;
}

/* An interrupt that is masked comes to the process, which marks it as pending. */
static void update_call(struct queue_event *q)
{
    struct machine *m = machine_of(q->e);
    uint64_t address = 0;
    uint32_t data = 0;
    if (q->call < 0)
        return;
    bool want = !q->e->away && m->accel_ops && q->e->ops->message && q->e->ops->message(q->e->v, q->index, &address, &data);
    if (q->irqfd && want && (address != q->message || data != q->data))
        machine_route_set(m, q->route, address, data, false);
    if (q->irqfd && !want)
        call_leave(q);
    if (want && !q->irqfd) {
        q->route = machine_route_add(m, address, data);
        q->irqfd = q->route >= 0 && machine_irqfd(m, q->call, q->route, true);
        if (!q->irqfd)
            call_leave(q);
    }
    q->message = address;
    q->data = data;
    if (q->irqfd)
        drop_source(&q->call_source);
    else
        watch(q->e, &q->call_source, q->call, on_call, q);
}

void virtio_event_update(struct virtio_event *e)
{
    for (unsigned i = 0; i < e->v->nqueues; i++) {
        bind(&e->queues[i]);
        update_call(&e->queues[i]);
    }
}

/* ---- for devices ---- */

static struct queue_event *of(struct virtqueue *q)
{
    return q->v->event ? &q->v->event->queues[q->index] : NULL;
}

int virtio_queue_kick_fd(struct virtqueue *q)
{
    struct queue_event *e = of(q);
    if (!e || (e->kick < 0 && (e->kick = make_fd()) < 0))
        return -1;
    e->external = true;
    drop_source(&e->kick_source);
    bind(e);
    return e->kick;
}

void virtio_queue_kick_release(struct virtqueue *q)
{
    struct queue_event *e = of(q);
    if (!e || !e->external)
        return;
    e->external = false;
    if (!q->v->ioeventfd)
        unbind(e);
    if (e->bound)
        watch(e->e, &e->kick_source, e->kick, on_kick, e);
    else
        (void)drain(e->kick);
}

void virtio_queue_again(struct virtqueue *q)
{
    struct queue_event *e = of(q);
    if (!e || (e->kick < 0 && (e->kick = make_fd()) < 0))
        return;
    if (!e->external)
        watch(e->e, &e->kick_source, e->kick, on_kick, e);
    signal_fd(e->kick);
}

/* Before the machine runs a signal would be taken for one that was missed, which is the same. */
void virtio_event_look_again(struct virtio_event *e)
{
    for (unsigned i = 0; i < e->v->nqueues; i++) {
        if (e->v->queues[i].enabled && virtio_running(e->v))
            virtio_queue_again(&e->v->queues[i]);
    }
}

int virtio_queue_call_fd(struct virtqueue *q)
{
    struct queue_event *e = of(q);
    if (!e || (e->call < 0 && (e->call = make_fd()) < 0))
        return -1;
    update_call(e);
    return e->call;
}

/* ---- life ---- */

static void on_hook(void *opaque, enum machine_hook_event ev)
{
    struct virtio_event *e = opaque;
    g_mutex_lock(&e->v->dev.lock);
    for (unsigned i = 0; ev == HOOK_ACCEL_LEAVE && i < e->v->nqueues; i++) {
        unbind(&e->queues[i]);
        if (e->queues[i].call >= 0)
            call_leave(&e->queues[i]);
    }
    if (ev == HOOK_ACCEL_LEAVE || ev == HOOK_ACCEL_ENTER) {
        e->away = ev == HOOK_ACCEL_LEAVE;
        virtio_event_update(e);
    }
    for (unsigned i = 0; ev == HOOK_RUN && i < e->v->nqueues; i++) {
        if (e->queues[i].missed)
            signal_fd(e->queues[i].kick);
        e->queues[i].missed = false;
    }
    g_mutex_unlock(&e->v->dev.lock);
}

struct virtio_event *virtio_event_create(struct virtio_device *v, const struct virtio_event_ops *ops)
{
    struct virtio_event *e = g_new0(struct virtio_event, 1);
    e->v = v;
    e->ops = ops;
    for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++)
        e->queues[i] = (struct queue_event){ .e = e, .index = i, .kick = -1, .call = -1, .route = -1 };
    machine_add_hook(v->dev.machine, on_hook, e);
    v->event = e;
    return e;
}

void virtio_event_destroy(struct virtio_event *e)
{
    if (!e)
        return;
    machine_remove_hook(machine_of(e), on_hook, e);
    g_mutex_lock(&e->v->dev.lock);
    for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++) {
        drop_source(&e->queues[i].kick_source);
        drop_source(&e->queues[i].call_source);
    }
    g_mutex_unlock(&e->v->dev.lock);
    if (e->v->iothread)
        iothread_sync(e->v->iothread); /* none of them is at work any more */
    g_mutex_lock(&e->v->dev.lock);
    e->v->event = NULL;
    for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++) {
        struct queue_event *q = &e->queues[i];
        unbind(q);
        if (q->call >= 0)
            call_leave(q);
        if (q->kick >= 0)
            close(q->kick);
        if (q->call >= 0)
            close(q->call);
    }
    g_mutex_unlock(&e->v->dev.lock);
    g_free(e);
}
