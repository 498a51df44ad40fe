/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What one driver asks of another. A driver fills in its part of manage_services_of(state) in start(); a member that nobody filled is NULL, and the
 * asker says that this is missing here. Any thread; no locks of the asker's objects are held that the other driver might want.
 */
#pragma once

#include "manage/core/manage.h"
#include "manage/core/manage_shape.h"
#include "manage/model/doc.h"

/* Where a network puts an interface: one of the three. */
struct manage_network_place {
    const char *type;           /* what it is in the live document: "network", "bridge", "direct"; a constant */
    char *bridge;               /* a tap in this bridge */
    char *device, *mode;        /* a macvtap on this device of the host, in this mode */
    bool user;                  /* served in user mode (no privileges) */
    struct manage_rate in, out; /* of the portgroup: for an interface that has no <bandwidth> of its own */
};

static inline void manage_network_place_clear(struct manage_network_place *p)
{
    g_clear_pointer(&p->bridge, g_free);
    g_clear_pointer(&p->device, g_free);
    g_clear_pointer(&p->mode, g_free);
}

/* An interface that is to be filtered. filterref: <filterref filter=><parameter name= value=/>, of whichever document. */
struct manage_filter_place {
    const char *domain, *uuid, *port, *bridge, *mac;
    const struct el *filterref;
};

struct manage_services {
    /* network: a domain with <interface type='network'> starts. portgroup NULL: the network's default one, if any. On success manage_network_place_clear(ret), and
     * network_detach() when the interface goes. */
    bool (*network_attach)(struct manage_state *s, const char *network, const char *portgroup, const char *domain, const char *mac, struct manage_network_place *ret, GError **error);
    void (*network_detach)(struct manage_state *s, const char *network, const char *domain, const char *mac);
    /* Leases of all networks for a MAC address: array of char * "address/prefix"; NULL-terminated, g_strfreev. */
    char **(*network_leases)(struct manage_state *s, const char *network, const char *mac);
    /* The host name that the network's DHCP server knows for a MAC address; NULL: none. Free it. */
    char *(*network_lease_name)(struct manage_state *s, const char *network, const char *mac);
    /* nwfilter: a tap is there, and nothing has come through it yet; once more for a tap that is filtered: changes the filter. filter_detach() when it has gone; it may be
     * asked for any tap. filter_mend(): another program may have taken the rules away; true: they were put back. */
    bool (*filter_attach)(struct manage_state *s, const struct manage_filter_place *p, GError **error);
    void (*filter_detach)(struct manage_state *s, const char *port);
    bool (*filter_mend)(struct manage_state *s);
    /* storage: the path of <source pool= volume=>; free it. *ret_format: "raw", "qcow2". */
    char *(*volume_path)(struct manage_state *s, const char *pool, const char *volume, char **ret_format, GError **error);
    /* The pool and volume that a path belongs to, for refresh; may be NULL results. */
    bool (*volume_of_path)(struct manage_state *s, const char *path, char **ret_pool, char **ret_volume);
    /* secret: the value, by UUID text or by usage ("volume", "/path"). */
    GBytes *(*secret_value)(struct manage_state *s, const char *uuid, const char *usage_type, const char *usage, GError **error);
    /* The UUID text of the secret of that usage, or NULL; free it. */
    char *(*secret_uuid)(struct manage_state *s, const char *usage_type, const char *usage);
    /* host: its UUID as text, of the configuration or its own; owned by the driver. */
    const char *(*host_uuid)(struct manage_state *s);
    /* domain: names of running domains whose document uses this path as a writable disk (storage asks before wipe and delete). */
    char *(*disk_user)(struct manage_state *s, const char *path);
};
struct manage_services *manage_services_of(struct manage_state *s);
