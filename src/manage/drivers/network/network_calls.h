/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the two files of procedures share: arguments of a call, and those rows that are in network_parts.c. */
#pragma once

#include "manage/drivers/network/network.h"

static inline struct network_driver *driver_of(struct manage_call *c) { return manage_data(c->conn->state, "network"); }

/* The network that argument 0 names: by its UUID, as clients keep that. */
static inline struct network *network_of(struct manage_call *c, GError **error)
{
    g_autoptr(GVariant) record = g_variant_get_child_value(c->args, 0);
    const char *name;
    g_variant_get_child(record, 0, "&s", &name);
    return network_by_uuid(driver_of(c), manage_variant_uuid(record), name, error);
}

static inline int int_arg(struct manage_call *c, unsigned i)
{
    int v;
    g_variant_get_child(c->args, i, "i", &v);
    return v;
}

static inline uint32_t uint_arg(struct manage_call *c, unsigned i)
{
    uint32_t v;
    g_variant_get_child(c->args, i, "u", &v);
    return v;
}

static inline const char *string_arg(struct manage_call *c, unsigned i)
{
    const char *v;
    g_variant_get_child(c->args, i, "&s", &v);
    return v;
}

static inline const char *maybe_arg(struct manage_call *c, unsigned i)
{
    const char *v;
    g_variant_get_child(c->args, i, "m&s", &v);
    return v;
}

struct seen {
    bool active, persistent, autostart;
};

static inline struct seen look(struct network *n)
{
    g_mutex_lock(&n->lock);
    struct seen s = { n->live != NULL, n->defined != NULL, n->autostart };
    g_mutex_unlock(&n->lock);
    return s;
}

/* network_parts.c */
GVariant *network_call_update(struct manage_call *c, GError **error);
GVariant *network_call_dhcp_leases(struct manage_call *c, GError **error);
GVariant *network_call_list_all_ports(struct manage_call *c, GError **error);
GVariant *network_call_port_lookup(struct manage_call *c, GError **error);
GVariant *network_call_port_xml(struct manage_call *c, GError **error);
GVariant *network_call_port_refuse(struct manage_call *c, GError **error);
GVariant *network_call_get_metadata(struct manage_call *c, GError **error);
GVariant *network_call_set_metadata(struct manage_call *c, GError **error);
