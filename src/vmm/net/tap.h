/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opening of TAP interfaces, in the options of -netdev tap and bridge. */
#pragma once

#include <glib.h>
#include <net/if.h>
#include <stdbool.h>

enum { TAP_MAX_QUEUES = 16 };

struct vhost;

struct tap_queues {
    int fd[TAP_MAX_QUEUES]; /* non-blocking */
    unsigned n;
    struct vhost *vhost[TAP_MAX_QUEUES]; /* NULL: none */
    bool vhost_forced;      /* an error when it cannot be used */
    bool header;            /* each frame has NET_HEADER bytes before it */
    char name[IFNAMSIZ];
    int at_end;             /* closing it runs the script for the end, in a process of its own; 0: none */
};

/* On failure the caller closes what was opened. */
bool tap_open(GHashTable *opts, struct tap_queues *ret, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool tap_open_bridge(GHashTable *opts, struct tap_queues *ret, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void tap_close(struct tap_queues *q);
