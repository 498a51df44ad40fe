/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Network cards: taps in bridges, macvtaps, the user-mode network with its forwards, sockets, and the cards themselves. */
#include "manage/drivers/domain/net/domain_bandwidth.h"
#include "manage/drivers/domain/net/domain_filter.h"
#include "manage/drivers/domain/net/domain_macvtap.h"
#include "manage/drivers/domain/command/domain_plan.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static struct plan_item *add_netdev(struct domain_build *b, const struct el *nic, const char *type)
{
    g_autofree char *id = g_strdup_printf("host%s", el_get_or(nic, "alias/@name", "net0"));
    struct json_object *o = json_object_new_object();
    js_set(o, "type", type);
    js_set(o, "id", id);
    return domain_plan_add(b, PLAN_NETDEV, id, o);
}

static bool is_virtio(const struct el *nic)
{
    return g_str_has_prefix(el_get_or(nic, "model/@type", ""), "virtio");
}

/* The kernel moves the packets, where it can. */
static bool add_vhost(struct domain_build *b, const struct el *nic, struct plan_item *item, unsigned queues)
{
    if (!b->d || !is_virtio(nic) || el_is(nic, "driver/@name", "qemu") || !domain_plan_kvm(b))
        return false;
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    for (unsigned i = 0; i < queues; i++) {
        int fd = open("/dev/vhost-net", O_RDWR | O_CLOEXEC);
        if (fd < 0)
            break;
        g_array_append_val(fds, fd);
    }
    if (fds->len < queues) {
        for (unsigned i = 0; i < fds->len; i++)
            close(g_array_index(fds, int, i));
        return false;
    }
    for (unsigned i = 0; i < queues; i++)
        domain_plan_fd(item, g_array_index(fds, int, i));
    item->vhost = true;
    js_bool(item->json, "vhost", true);
    return true;
}

static unsigned queues_of(const struct el *nic)
{
    uint64_t n = domain_number(nic, "driver/@queues", 1);
    return is_virtio(nic) ? CLAMP(n, 1, 16) : 1;
}

static bool needs_root(struct domain_build *b, const struct el *nic, const char *what, GError **error)
{
    return b->dr->state->privileged || manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "%s: %s needs a privileged daemon; <interface type='user'> works without",
                                                   el_get_or(nic, "alias/@name", "interface"), what);
}

/* The name that is asked for; NULL: any. */
static char *asked_name(const struct el *nic)
{
    static const char *const ours[] = { "vnet", "macvtap", "macvlan" };
    const char *asked = el_get(nic, "target/@dev");
    for (unsigned i = 0; asked && i < G_N_ELEMENTS(ours); i++)
        if (g_str_has_prefix(asked, ours[i]))
            return NULL;
    return g_strdup(asked);
}

static bool tap(struct domain_build *b, struct el *nic, const char *bridge, GError **error)
{
    unsigned queues = queues_of(nic);
    struct plan_item *item = add_netdev(b, nic, "tap");
    if (!b->d) {
        js_set(item->json, "fd", "-1");
        return true;
    }
    g_autofree char *name = asked_name(nic);
    if (!needs_root(b, nic, "a network card in a bridge", error))
        return false;
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    if (domain_tap_new(bridge, el_get(nic, "mac/@address"), domain_number(nic, "mtu/@size", 0), queues, &name, fds, error) < 0)
        return false;
    for (unsigned i = 0; i < fds->len; i++)
        domain_plan_fd(item, g_array_index(fds, int, i));
    el_set(nic, "target/@dev", name);
    g_ptr_array_add(b->plan->filtered, g_strdup(name));
    if (!domain_filter_apply(b->d, nic, bridge, error))
        return false;
    add_vhost(b, nic, item, queues);
    return !el_find(nic, "bandwidth") || domain_bandwidth_apply(b->d->id, nic, error);
}

static bool direct(struct domain_build *b, struct el *nic, GError **error)
{
    struct domain_macvtap m = { .dir = b->dir, .lower = el_get_or(nic, "source/@dev", ""), .mode = el_get_or(nic, "source/@mode", "vepa"), .mac = el_get_or(nic, "mac/@address", ""),
                                .queues = queues_of(nic) };
    struct plan_item *item = add_netdev(b, nic, "tap");
    if (el_find(nic, "mtu"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "setting MTU on interface type direct is not supported yet%s: it has that of '%s'", domain_line(nic), m.lower);
    if (!b->d) {
        js_set(item->json, "fd", "-1");
        return true;
    }
    g_autofree char *name = asked_name(nic);
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    if (!needs_root(b, nic, "an interface of type 'direct'", error) || !domain_macvtap_new(&m, &name, fds, error))
        return false;
    g_ptr_array_add(b->plan->macvtaps, g_strdup(name));
    for (unsigned i = 0; i < fds->len; i++)
        domain_plan_fd(item, g_array_index(fds, int, i));
    el_set(nic, "target/@dev", name);
    add_vhost(b, nic, item, m.queues);
    return !el_find(nic, "bandwidth") || domain_bandwidth_apply(b->d->id, nic, error);
}

/* Frames in packets of UDP or in a stream of TCP, between machines. */
static bool sockets(struct domain_build *b, const struct el *nic, const char *type)
{
    static const struct { const char *type, *key; } rows[] = { { "mcast", "mcast" }, { "server", "listen" }, { "client", "connect" }, { "udp", "udp" } };
    struct plan_item *item = add_netdev(b, nic, "socket");
    g_autofree char *where = g_strdup_printf("%s:%s", el_get_or(nic, "source/@address", ""), el_get_or(nic, "source/@port", "0"));
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
        if (g_str_equal(rows[i].type, type))
            js_set(item->json, rows[i].key, where);
    if (g_str_equal(type, "udp")) {
        g_autofree char *local = g_strdup_printf("%s:%s", el_get_or(nic, "source/local/@address", ""), el_get_or(nic, "source/local/@port", "0"));
        js_set(item->json, "localaddr", local);
    }
    if (el_find(nic, "bandwidth"))
        domain_plan_note(b, "the <bandwidth> of interface %s has no effect: it has no device on the host", el_get(nic, "mac/@address"));
    return true;
}

/* <portForward proto= address=><range start= end= to=/></portForward> as hostfwd. */
static bool add_forwards(struct json_object *o, const struct el *nic, GError **error)
{
    struct json_object *all = NULL;
    el_each(f, nic, "portForward") {
        const char *proto = el_get_or(f, "@proto", "tcp"), *address = el_get_or(f, "@address", "");
        if (!el_find(f, "range"))
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<portForward>%s: say which ports with <range start=>", domain_line(f));
        el_each(r, f, "range") {
            unsigned start = domain_number(r, "@start", 0), end = domain_number(r, "@end", start), to = domain_number(r, "@to", start);
            if (!start || end < start || end > 65535 || end - start > 1000)
                return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<range>%s: ports from 1 to 65535, at most 1000 in a row", domain_line(r));
            if (el_is(r, "@exclude", "yes"))
                return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<range exclude='yes'>%s is not there: give the ranges without it", domain_line(r));
            for (unsigned p = start; p <= end; p++) {
                struct json_object *one = json_object_new_object();
                g_autofree char *text = g_strdup_printf("%s:%s:%u-:%u", proto, address, p, to + p - start);
                js_set(one, "str", text);
                all = all ? all : json_object_new_array();
                json_object_array_add(all, one);
            }
        }
    }
    if (all)
        json_object_object_add(o, "hostfwd", all);
    return true;
}

static bool user(struct domain_build *b, const struct el *nic, GError **error)
{
    if (el_find(nic, "bandwidth"))
        domain_plan_note(b, "the <bandwidth> of interface %s has no effect: it has no device on the host", el_get(nic, "mac/@address"));
    struct plan_item *item = add_netdev(b, nic, "user");
    el_each(ip, nic, "ip") {
        g_autofree char *net = g_strdup_printf("%s/%u", el_get_or(ip, "@address", ""), (unsigned)domain_number(ip, "@prefix", 24));
        if (!el_is(ip, "@family", "ipv6"))
            js_set(item->json, "net", net);
        else if (!b->m.is_vireo)
            js_set(item->json, "ipv6-prefix", el_get(ip, "@address"));
    }
    return add_forwards(item->json, nic, error);
}

static bool in_place(struct domain_build *b, struct el *nic, const char *name, const struct manage_network_place *place, GError **error)
{
    if (place->user && el_find(nic, "filterref"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "filterref is not supported for network interfaces of type user: the network '%s' is served in user mode", name);
    if (place->user) {
        domain_plan_note(b, "the network '%s' is served in user mode", name);
        return user(b, nic, error);
    }
    domain_bandwidth_inherit(nic, place);
    if (place->device && el_find(nic, "filterref"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "filterref is not supported for network interfaces of type direct");
    domain_interface_place(nic, place->type, place->bridge, place->device, place->mode);
    return place->device ? direct(b, nic, error) : tap(b, nic, place->bridge, error);
}

static bool network(struct domain_build *b, struct el *nic, GError **error)
{
    g_autofree char *name = g_strdup(el_get_or(nic, "source/@network", ""));
    const char *mac = el_get_or(nic, "mac/@address", "");
    struct manage_state *s = b->dr->state;
    struct manage_network_place place;
    domain_interface_place(nic, NULL, NULL, NULL, NULL); /* where it was when this document was a running machine's does not count */
    if (!b->d)
        return tap(b, nic, "virbr0", error);
    if (!s->services->network_attach)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "an <interface type='network'>%s: there are no networks here", domain_line(nic));
    if (!s->services->network_attach(s, name, el_get(nic, "source/@portgroup"), b->d->name, mac, &place, error))
        return false;
    g_ptr_array_add(b->plan->networks, g_strdup(name));
    g_ptr_array_add(b->plan->networks, g_strdup(mac));
    bool good = in_place(b, nic, name, &place, error);
    manage_network_place_clear(&place);
    return good;
}

static const char *card(const struct domain_build *b, const char *model)
{
    static const struct { const char *model, *driver; bool vireo; } rows[] = {
        { "virtio", "virtio-net-pci", true }, { "virtio-non-transitional", "virtio-net-pci-non-transitional", true }, { "virtio-transitional", "virtio-net-pci-transitional", false },
        { "e1000", "e1000", true },           { "e1000e", "e1000e", true },                                           { "rtl8139", "rtl8139", true },
        { "vmxnet3", "vmxnet3", false },      { "pcnet", "pcnet", false },                                            { "ne2k_pci", "ne2k_pci", false },
        { "i82559er", "i82559er", false },    { "usb-net", "usb-net", false } };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
        if (g_str_equal(rows[i].model, model))
            return b->m.is_vireo && !rows[i].vireo ? NULL : g_str_equal(model, "virtio") && !b->m.has_pci ? "virtio-net-device" : rows[i].driver;
    return NULL;
}

/* <rom enabled= bar= file=/> */
static void add_rom(struct json_object *o, const struct el *nic)
{
    bool off = el_is(nic, "rom/@enabled", "no");
    if (!off && el_get(nic, "rom/@bar"))
        js_int(o, "rombar", el_is(nic, "rom/@bar", "on"));
    if (off || el_get(nic, "rom/@file"))
        js_set(o, "romfile", off ? "" : el_get(nic, "rom/@file"));
}

static bool add_card(struct domain_build *b, const struct el *nic, GError **error)
{
    static const struct { const char *path, *key; } onoff[] = { { "driver/host/@csum", "csum" }, { "driver/host/@gso", "gso" }, { "driver/host/@tso4", "host_tso4" },
        { "driver/host/@tso6", "host_tso6" }, { "driver/host/@ecn", "host_ecn" }, { "driver/host/@ufo", "host_ufo" }, { "driver/host/@mrg_rxbuf", "mrg_rxbuf" },
        { "driver/guest/@csum", "guest_csum" }, { "driver/guest/@tso4", "guest_tso4" }, { "driver/guest/@tso6", "guest_tso6" }, { "driver/guest/@ecn", "guest_ecn" },
        { "driver/guest/@ufo", "guest_ufo" }, { "driver/@ioeventfd", "ioeventfd" }, { "driver/@event_idx", "event_idx" }, { "driver/@rss", "rss" }, { "driver/@rss_hash_report", "hash" } };
    const char *model = el_get_or(nic, "model/@type", "virtio"), *driver = card(b, model);
    if (!driver)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the interface %s%s: there is no card '%s'; virtio, e1000e, e1000 and rtl8139 are there", el_get(nic, "mac/@address"),
                           domain_line(nic), model);
    struct json_object *o = domain_plan_device(b, driver, nic);
    g_autofree char *netdev = g_strdup_printf("host%s", el_get_or(nic, "alias/@name", "net0"));
    js_set(o, "netdev", netdev);
    js_set(o, "mac", el_get(nic, "mac/@address"));
    domain_plan_boot(b, o, nic);
    add_rom(o, nic);
    if (el_get(nic, "acpi/@index"))
        js_int(o, "acpi-index", (int64_t)domain_number(nic, "acpi/@index", 0));
    if (!is_virtio(nic))
        return true;
    for (unsigned i = 0; i < G_N_ELEMENTS(onoff); i++)
        if (el_get(nic, onoff[i].path))
            js_bool(o, onoff[i].key, el_is(nic, onoff[i].path, "on"));
    unsigned queues = queues_of(nic);
    if (queues > 1) {
        js_bool(o, "mq", true);
        js_int(o, "vectors", 2 * queues + 2);
    }
    if (el_find(nic, "mtu"))
        js_int(o, "host_mtu", (int64_t)domain_number(nic, "mtu/@size", 0));
    if (el_get(nic, "driver/@rx_queue_size"))
        js_int(o, "rx_queue_size", (int64_t)domain_number(nic, "driver/@rx_queue_size", 256));
    if (el_get(nic, "driver/@tx_queue_size"))
        js_int(o, "tx_queue_size", (int64_t)domain_number(nic, "driver/@tx_queue_size", 256));
    return true;
}

static bool refuse_unsupported(const struct el *nic, GError **error)
{
    static const char *const never[] = { "virtualport", "vlan", "port", "coalesce", "teaming", "downscript", "tune" };
    static const char *const settings[] = { "backend/@logFile", "backend/@tap", "backend/@vhost" };
    for (unsigned i = 0; i < G_N_ELEMENTS(settings); i++)
        if (el_get(nic, settings[i]))
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the interface %s%s: %s of <backend> is not there yet", el_get(nic, "mac/@address"), domain_line(nic),
                               strchr(settings[i], '@') + 1);
    for (unsigned i = 0; i < G_N_ELEMENTS(never); i++)
        if (el_find(nic, never[i]))
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the interface %s%s: <%s> is not there yet", el_get(nic, "mac/@address"), domain_line(nic), never[i]);
    return true;
}

bool domain_plan_interface(struct domain_build *b, struct el *nic, GError **error)
{
    const char *type = el_get_or(nic, "@type", "");
    if (!refuse_unsupported(nic, error) || (!el_get(nic, "source/@network") && !domain_filter_refuse(nic, error)) || (b->d && !domain_image_conflicts(b->dr, b->d, nic, error)))
        return false;
    bool good;
    if (el_get(nic, "source/@network"))
        good = network(b, nic, error);
    else if (g_str_equal(type, "bridge"))
        good = tap(b, nic, el_get(nic, "source/@bridge"), error);
    else if (g_str_equal(type, "ethernet"))
        good = tap(b, nic, NULL, error);
    else if (g_str_equal(type, "user"))
        good = user(b, nic, error);
    else if (g_str_equal(type, "direct"))
        good = direct(b, nic, error);
    else if (g_str_equal(type, "mcast") || g_str_equal(type, "udp") || g_str_equal(type, "server") || g_str_equal(type, "client"))
        good = sockets(b, nic, type);
    else
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the interface %s%s: type '%s' is not there: network, bridge, direct, ethernet, user, mcast, udp, server and client are", el_get(nic, "mac/@address"),
                           domain_line(nic), type);
    if (!good || !add_card(b, nic, error))
        return false;
    if (el_is(nic, "link/@state", "down")) {
        struct json_object *args = domain_plan_after(b, "set_link");
        js_set(args, "name", el_get_or(nic, "alias/@name", "net0"));
        js_bool(args, "up", false);
    }
    return true;
}
