/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manage/drivers/domain/net/domain_move.h"

#include "manage/drivers/domain/command/domain_plan.h"
#include "manage/drivers/domain/net/domain_bandwidth.h"

#include <string.h>

bool domain_interface_moves(const struct el *e, const struct el *old)
{
    const char *network = el_get(e, "source/@network"), *bridge = el_get(e, "source/@bridge");
    if (!el_get(old, "target/@dev") || !el_get(old, "source/@bridge") || (!el_is(e, "@type", "network") && !el_is(e, "@type", "bridge")))
        return false;
    return network ? !el_is(old, "source/@network", network) : bridge && (el_get(old, "source/@network") || !el_is(old, "source/@bridge", bridge));
}

static bool join(const struct el *nic, const char *from, const char *to, GError **error)
{
    return domain_tap_move(el_get(nic, "target/@dev"), from, to, domain_number(nic, "mtu/@size", 0), error);
}

static void enter(struct domain *d, const char *network, const char *mac)
{
    g_mutex_lock(&d->lock);
    if (d->run && d->run->networks) {
        g_ptr_array_add(d->run->networks, g_strdup(network));
        g_ptr_array_add(d->run->networks, g_strdup(mac));
    }
    g_mutex_unlock(&d->lock);
}

static bool into_network(struct domain *d, struct el *e, const struct el *old, GError **error)
{
    struct manage_state *s = d->driver->state;
    g_autofree char *network = g_strdup(el_get(e, "source/@network"));
    const char *mac = el_get_or(old, "mac/@address", "");
    struct manage_network_place place;
    if (!s->services->network_attach || !s->services->network_attach(s, network, el_get(e, "source/@portgroup"), d->name, mac, &place, error))
        return s->services->network_attach ? false : manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "an <interface type='network'>: there are no networks here");
    bool good = place.bridge || manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "the network '%s' has no bridge: an interface that is in one cannot go there while the machine runs", network);
    if (good) {
        domain_bandwidth_inherit(e, &place);
        domain_interface_place(e, place.type, place.bridge, NULL, NULL);
        good = join(old, el_get(old, "source/@bridge"), place.bridge, error);
    }
    if (good)
        enter(d, network, mac);
    else
        s->services->network_detach(s, network, d->name, mac);
    manage_network_place_clear(&place);
    return good;
}

bool domain_interface_move(struct domain *d, struct el *e, const struct el *old, GError **error)
{
    return el_get(e, "source/@network") ? into_network(d, e, old, error) : join(old, el_get(old, "source/@bridge"), el_get(e, "source/@bridge"), error);
}

void domain_interface_move_back(struct domain *d, const struct el *e, const struct el *old)
{
    (void)!join(old, el_get(e, "source/@bridge"), el_get(old, "source/@bridge"), NULL);
    domain_interface_leave(d, e);
}

void domain_interface_leave(struct domain *d, const struct el *e)
{
    const char *network = el_get(e, "source/@network"), *mac = el_get(e, "mac/@address");
    bool found = false;
    if (!g_str_equal(el_name(e), "interface") || !network || !mac)
        return;
    g_mutex_lock(&d->lock);
    GPtrArray *n = d->run ? d->run->networks : NULL;
    for (unsigned i = 0; n && i + 1 < n->len && !found; i += 2) {
        found = g_str_equal(n->pdata[i], network) && !g_ascii_strcasecmp(n->pdata[i + 1], mac);
        if (found)
            g_ptr_array_remove_range(n, i, 2);
    }
    g_mutex_unlock(&d->lock);
    if (found && d->driver->state->services->network_detach)
        d->driver->state->services->network_detach(d->driver->state, network, d->name, mac);
}
