/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The connection, made when the first command needs it, and the event loop in a thread of its own. */
#include "vireo.h"

#include <string.h>

static void connection_closed(virConnectPtr connection, int reason, void *opaque)
{
    struct vireo *v = opaque;
    if (reason != VIR_CONNECT_CLOSE_REASON_CLIENT)
        g_atomic_int_set(&v->gone, reason + 1);
}

static gpointer loop_thread(gpointer opaque)
{
    struct vireo *v = opaque;
    while (g_atomic_int_get(&v->loop_runs))
        if (virEventRunDefaultImpl() < 0)
            break;
    return NULL;
}

static void tick(int timer, void *opaque)
{
}

bool vireo_loop(struct vireo *v)
{
    if (v->loop_runs)
        return true;
    if (virEventRegisterDefaultImpl() < 0)
        return false;
    /* A timer lets the loop come back now and then to see that it shall end. */
    virEventAddTimeout(1000, tick, NULL, NULL);
    g_atomic_int_set(&v->loop_runs, 1);
    g_thread_unref(g_thread_new("events", loop_thread, v));
    return true;
}

bool vireo_connect(struct vireo *v)
{
    static const char *const reasons[] = {"I/O error", "end of file", "keepalive timeout"};
    int gone = g_atomic_int_get(&v->gone);
    if (v->connection && gone) {
        vireo_error(v, "Disconnected from %s due to %s", v->uri ? v->uri : "the hypervisor", reasons[CLAMP(gone - 1, 0, 2)]);
        vireo_disconnect(v);
    }
    if (v->connection)
        return true;
    if (!vireo_loop(v))
        return false;
    v->connection = virConnectOpenAuth(v->uri, virConnectAuthPtrDefault, v->readonly ? VIR_CONNECT_RO : 0);
    if (!v->connection) {
        vireo_error(v, "failed to connect to the hypervisor");
        return false;
    }
    g_atomic_int_set(&v->gone, 0);
    virConnectRegisterCloseCallback(v->connection, connection_closed, v, NULL);
    if (v->keepalive_interval != 0) {
        int interval = v->keepalive_interval > 0 ? v->keepalive_interval : 5, count = v->keepalive_count >= 0 ? v->keepalive_count : 6;
        if (virConnectSetKeepAlive(v->connection, interval, count) != 0 && v->keepalive_interval > 0) {
            vireo_error(v, "Cannot setup keepalive on connection as requested, disconnecting");
            vireo_disconnect(v);
            return false;
        }
    }
    forget_library_error(v);
    return true;
}

void vireo_disconnect(struct vireo *v)
{
    if (!v->connection)
        return;
    virConnectUnregisterCloseCallback(v->connection, connection_closed);
    virConnectClose(v->connection);
    v->connection = NULL;
}
