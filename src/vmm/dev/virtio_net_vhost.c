/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A network card whose rings the kernel serves (vhost=on). The guest's notifications are passed on to the kernel's eventfd by
 * this process, which looks whether the kernel still knows all memory; interrupts go their own way (virtio_event.h). The control queue stays here. While the machine stands still, and where
 * the accelerator must be told of each write to guest memory, the rings are back in the process's own hands.
 */
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "vmm/bus/virtio_event.h"
#include "vmm/core/machine.h"
#include "vmm/dev/virtio_net.h"
#include "vmm/net/vhost.h"

struct net_vhost_ring {
    struct virtqueue *q;
    int kick, call; /* call: the transport's */
};
struct net_vhost_pair {
    struct vhost *kernel;
    int tap;
    bool running;
    uint64_t memory; /* the generation of the memory map that the kernel knows */
    struct net_vhost_ring ring[2];
};
struct net_vhost {
    bool forced;
    struct net_vhost_pair pair[];
};

#define NEEDED (VIRTIO_F_VERSION_1 | NET_F_MRG_RXBUF | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC)

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
    s->vhost->forced = forced;
    for (unsigned i = 0; i < s->npairs; i++) {
        struct net_vhost_pair *p = &s->vhost->pair[i];
        p->kernel = net_vhost(s->backend, i, &p->tap, &forced);
        for (unsigned k = 0; k < 2; k++) {
            struct net_vhost_ring *r = &p->ring[k];
            *r = (struct net_vhost_ring){ &s->v.queues[2 * i + k], eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), -1 };
        }
    }
    return true;
}

void virtio_net_vhost_finish(struct virtio_net *s)
{
    for (unsigned i = 0; s->vhost && i < 2 * s->npairs; i++) {
        struct net_vhost_ring *r = &s->vhost->pair[i / 2].ring[i & 1];
        close(r->kick);
    }
    g_clear_pointer(&s->vhost, g_free);
}

static void stop_pair(struct virtio_net *s, unsigned i);

static bool start_pair(struct virtio_net *s, unsigned i, GError **error)
{
    struct net_vhost_pair *p = &s->vhost->pair[i];
    struct vhost_ring rings[2];
    uint64_t features = s->v.features & NEEDED;
    if ((features & vhost_features(p->kernel)) != features)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "vhost: the kernel lacks features that the driver has chosen");
    for (unsigned k = 0; k < 2; k++) {
        struct virtqueue_rings own;
        p->ring[k].call = virtio_queue_call_fd(p->ring[k].q);
        if (p->ring[k].call < 0)
            return vireo_fail(error, VIREO_ERROR_FAILED, "vhost: there are no more descriptors for queue %u", p->ring[k].q->index);
        if (!virtqueue_hand_over(p->ring[k].q, &own))
            return vireo_fail(error, VIREO_ERROR_FAILED, "vhost: queue %u is not ready", p->ring[k].q->index);
        rings[k] = (struct vhost_ring){ own.desc, own.avail, own.used, own.size, own.last_avail, p->ring[k].kick, p->ring[k].call };
    }
    p->memory = guest_memory_generation(s->v.dev.machine->memory);
    if (!vhost_start(p->kernel, s->v.dev.machine->memory, features, rings, p->tap, error))
        return false;
    p->running = true;
    return true;
}

/* Memory was plugged in, or the map changed in another way: the kernel gets the new table. */
static void renew_memory(struct virtio_net *s, unsigned i)
{
    if (s->vhost->pair[i].running && s->vhost->pair[i].memory != guest_memory_generation(s->v.dev.machine->memory)) {
        stop_pair(s, i);
        virtio_net_vhost_update(s);
    }
}

static void stop_pair(struct virtio_net *s, unsigned i)
{
    struct net_vhost_pair *p = &s->vhost->pair[i];
    uint16_t at[2];
    vhost_stop(p->kernel, at);
    p->running = false;
    for (unsigned k = 0; k < 2; k++)
        virtqueue_take_back(p->ring[k].q, at[k]);
}

/* What may have been missed on the way to the kernel, or from it, is told again. */
static void nudge(struct net_vhost_pair *p)
{
    uint64_t one = 1;
    for (unsigned k = 0; k < 2; k++) {
        (void)!write(p->ring[k].kick, &one, sizeof(one));
        (void)!write(p->ring[k].call, &one, sizeof(one));
    }
}

void virtio_net_vhost_update(struct virtio_net *s)
{
    bool on = s->vhost && virtio_running(&s->v) && !s->paused && !s->v.stopping && machine_memory_is_plain(s->v.dev.machine);
    for (unsigned i = 0; s->vhost && i < s->npairs; i++) {
        struct net_vhost_pair *p = &s->vhost->pair[i];
        g_autoptr(GError) error = NULL;
        bool wanted = on && i < s->used_pairs && p->ring[0].q->enabled && p->ring[1].q->enabled;
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

bool virtio_net_vhost_notify(struct virtio_net *s, unsigned queue)
{
    uint64_t one = 1;
    if (!virtio_net_vhost_runs(s, queue / 2))
        return false;
    renew_memory(s, queue / 2);
    (void)!write(s->vhost->pair[queue / 2].ring[queue & 1].kick, &one, sizeof(one));
    return true;
}
