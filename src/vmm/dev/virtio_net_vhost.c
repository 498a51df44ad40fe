/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A network card whose rings the kernel serves (vhost=on). The guest's notifications and the kernel's interrupts go through the
 * queues' eventfds (vmm/bus/virtio_event.h); the control queue stays here. While the machine stands still, and where
 * the accelerator must be told of each write to guest memory, the rings are back in the process's own hands.
 */
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "vmm/bus/virtio_event.h"
#include "vmm/core/machine.h"
#include "vmm/dev/virtio_net.h"
#include "vmm/net/vhost.h"

struct net_vhost_pair {
    struct vhost *kernel;
    int tap;
    bool running;
    int kick[2], call[2]; /* the queues'; while it runs */
};
struct net_vhost {
    unsigned npairs;
    struct net_vhost_pair pair[];
};

#define NEEDED (VIRTIO_F_VERSION_1 | NET_F_MRG_RXBUF | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC)

static struct virtqueue *queue_of(struct virtio_net *s, unsigned pair, unsigned k)
{
    return &s->v.queues[2 * pair + k];
}

static void stop_pair(struct virtio_net *s, unsigned i);

/* Memory was plugged in or out: the kernel gets the new table. Main thread. */
static void renew_memory(void *opaque)
{
    struct virtio_net *s = opaque;
    g_mutex_lock(&s->v.dev.lock);
    for (unsigned i = 0; s->vhost && i < s->npairs; i++) {
        if (s->vhost->pair[i].running)
            stop_pair(s, i);
    }
    virtio_net_vhost_update(s);
    g_mutex_unlock(&s->v.dev.lock);
}

static void memory_changed(void *opaque)
{
    struct virtio_net *s = opaque;
    machine_call_later(s->v.dev.machine, renew_memory, s);
}

bool virtio_net_vhost_init(struct virtio_net *s, GError **error)
{
    bool forced = false;
    int tap;
    if (!s->backend || !s->header || !net_vhost(s->backend, 0, &tap, &forced))
        return true;
    if (!machine_memory_is_plain(s->v.dev.machine)) {
        const char *why = "the kernel would write the guest's memory behind the translator's back";
        if (forced)
            return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "device %s: vhost needs -accel kvm: %s; leave out vhostforce and vhost",
                              s->v.dev.class->name, why);
        log_warn("device %s: going on without vhost: %s", s->v.dev.class->name, why);
    }
    s->vhost = g_malloc0(sizeof(*s->vhost) + s->npairs * sizeof(s->vhost->pair[0]));
    s->vhost->npairs = s->npairs;
    for (unsigned i = 0; i < s->npairs; i++)
        s->vhost->pair[i].kernel = net_vhost(s->backend, i, &s->vhost->pair[i].tap, &forced);
    guest_memory_watch_ram(s->v.dev.machine->memory, memory_changed, s);
    return true;
}

void virtio_net_vhost_finish(struct virtio_net *s)
{
    guest_memory_unwatch_ram(s->v.dev.machine->memory, s);
    g_clear_pointer(&s->vhost, g_free);
}

static bool start_pair(struct virtio_net *s, unsigned i, GError **error)
{
    struct net_vhost_pair *p = &s->vhost->pair[i];
    struct vhost_ring rings[2];
    uint64_t features = s->v.features & NEEDED;
    if ((features & vhost_features(p->kernel)) != features)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "vhost: the kernel lacks features that the driver has chosen");
    for (unsigned k = 0; k < 2; k++) {
        struct virtqueue *q = queue_of(s, i, k);
        struct virtqueue_rings own;
        if (!virtqueue_hand_over(q, &own))
            return vireo_fail(error, VIREO_ERROR_FAILED, "vhost: queue %u is not ready", q->index);
        rings[k] = (struct vhost_ring){ own.desc, own.avail, own.used, own.size, own.last_avail, virtio_queue_kick_fd(q), virtio_queue_call_fd(q) };
        p->kick[k] = rings[k].kick;
        p->call[k] = rings[k].call;
    }
    p->running = rings[0].kick >= 0 && rings[0].call >= 0 && rings[1].kick >= 0 && rings[1].call >= 0 &&
                 vhost_start(p->kernel, s->v.dev.machine->memory, features, rings, p->tap, error);
    if (p->running)
        return true;
    for (unsigned k = 0; k < 2; k++)
        virtio_queue_kick_release(queue_of(s, i, k));
    return (error && *error) ? false : vireo_fail(error, VIREO_ERROR_FAILED, "vhost: the host has no more descriptors");
}

static void stop_pair(struct virtio_net *s, unsigned i)
{
    struct net_vhost_pair *p = &s->vhost->pair[i];
    uint16_t at[2];
    vhost_stop(p->kernel, at);
    p->running = false;
    for (unsigned k = 0; k < 2; k++) {
        virtio_queue_kick_release(queue_of(s, i, k));
        virtqueue_take_back(queue_of(s, i, k), at[k]);
    }
}

/* What may have been missed on the way to the kernel, or from it, is told again. */
static void nudge(struct net_vhost_pair *p)
{
    uint64_t one = 1;
    for (unsigned k = 0; k < 2; k++) {
        (void)!write(p->kick[k], &one, sizeof(one));
        (void)!write(p->call[k], &one, sizeof(one));
    }
}

void virtio_net_vhost_update(struct virtio_net *s)
{
    bool on = s->vhost && virtio_running(&s->v) && !s->paused && !s->v.stopping && machine_memory_is_plain(s->v.dev.machine);
    for (unsigned i = 0; s->vhost && i < s->npairs; i++) {
        struct net_vhost_pair *p = &s->vhost->pair[i];
        g_autoptr(GError) error = NULL;
        bool wanted = on && i < s->used_pairs && queue_of(s, i, 0)->enabled && queue_of(s, i, 1)->enabled;
        if (p->running && !wanted) {
            stop_pair(s, i);
        } else if (!p->running && wanted && !s->pairs[i].rx.busy && !s->pairs[i].tx_busy) {
            virtio_net_rx_return(&s->pairs[i]);
            if (start_pair(s, i, &error))
                nudge(p);
            else
                log_warn("%s; going on without vhost", error->message);
        }
    }
}

bool virtio_net_vhost_runs(const struct virtio_net *s, unsigned pair)
{
    return s->vhost && s->vhost->pair[pair].running;
}
