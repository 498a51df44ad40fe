/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's side of a queue pair: /dev/vhost-net (<linux/vhost.h>) moves frames between a TAP interface and the guest's rings
 * by itself. One descriptor per pair; ring 0 receives, ring 1 transmits.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct guest_memory;
struct vhost;

struct vhost_ring {
    void *desc, *avail, *used; /* in this process */
    unsigned size;
    uint16_t last_avail;       /* where it goes on */
    int kick, call;            /* eventfds */
};

/* fd: an open /dev/vhost-net, which becomes the vhost's, or -1. */
struct vhost *vhost_open(int fd, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void vhost_close(struct vhost *h);
uint64_t vhost_features(const struct vhost *h); /* virtio features of the rings that it can */
/* From now on the kernel owns the rings, and frames of `tap`. On failure nothing has changed. Any thread. */
bool vhost_start(struct vhost *h, struct guest_memory *memory, uint64_t features, const struct vhost_ring rings[2], int tap, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* Stops, and says where each ring would have gone on. */
void vhost_stop(struct vhost *h, uint16_t ret_last_avail[2]);
