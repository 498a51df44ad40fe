/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* <filterref> of interfaces: the network filter driver puts rules on the tap before the machine has it, and takes them away behind it. */
#include "manage/drivers/domain/net/domain_filter.h"

#include <string.h>

bool domain_filter_refuse(const struct el *nic, GError **error)
{
    const char *type = el_get_or(nic, "@type", "");
    if (!el_find(nic, "filterref") || !strcmp(type, "network") || !strcmp(type, "bridge"))
        return true;
    return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "filterref is not supported for network interfaces of type %s", type);
}

/* A tap without a filter may have the name of one that was filtered: nothing of that one's rules is to be left. */
bool domain_filter_apply(struct domain *d, const struct el *nic, const char *bridge, GError **error)
{
    struct manage_state *s = d->driver->state;
    const struct el *ref = el_find(nic, "filterref");
    const char *port = el_get_or(nic, "target/@dev", "");
    char uuid[37];
    if (!ref) {
        domain_filter_gone(d, nic);
        return true;
    }
    if (!s->services->filter_attach)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the interface %s: there are no network filters here", el_get(nic, "mac/@address"));
    manage_uuid_format(d->uuid, uuid);
    struct manage_filter_place place = { d->name, uuid, port, bridge, el_get_or(nic, "mac/@address", ""), ref };
    return s->services->filter_attach(s, &place, error);
}

void domain_filter_gone(struct domain *d, const struct el *nic)
{
    struct manage_state *s = d->driver->state;
    const char *port = el_get(nic, "target/@dev");
    if (port && s->services->filter_detach)
        s->services->filter_detach(s, port);
}

void domain_filter_gone_all(struct domain *d, const struct doc *live)
{
    el_each (nic, live ? el_find(doc_root(live), "devices") : NULL, "interface")
        if (el_find(nic, "filterref"))
            domain_filter_gone(d, nic);
}

bool domain_filter_same(const struct el *a, const struct el *b)
{
    const struct el *x = el_find(a, "filterref"), *y = el_find(b, "filterref");
    return x && y ? el_equal(x, y) : !x && !y;
}
