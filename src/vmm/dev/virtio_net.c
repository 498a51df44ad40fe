/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Virtio network device (virtio 1.2, 5.1): the device itself. See virtio_net.h for its other parts. */
#include "vmm/dev/virtio_net.h"

#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "vmm/core/machine.h"
#include "vmm/core/state.h"
#include "vmm/dev/virtio_devices.h"

enum { CONFIG_SIZE = 17, CTRL_QUEUE_SIZE = 64, DEFAULT_VECTORS = 4 };
#define GUEST_OFFLOADS (NET_F_GUEST_CSUM | NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6 | NET_F_GUEST_ECN | NET_F_GUEST_UFO)

static const struct net_frontend frontend;

/* ---- features and configuration space ---- */

static uint64_t features(struct virtio_device *v)
{
    const struct virtio_net *s = (struct virtio_net *)v;
    bool h = s->header, c = s->prop_ctrl_vq, csum = h && s->prop_csum, gcsum = h && s->prop_guest_csum, gso = csum && s->prop_gso;
    const struct { bool on; uint64_t bit; } rows[] = {
        { true, NET_F_MAC },
        { s->prop_status, NET_F_STATUS },
        { s->prop_mrg_rxbuf, NET_F_MRG_RXBUF },
        { s->host_mtu, NET_F_MTU },
        { s->speed_text || s->duplex_text, NET_F_SPEED_DUPLEX },
        { csum, NET_F_CSUM },
        { gso && s->prop_host_tso4, NET_F_HOST_TSO4 },
        { gso && s->prop_host_tso6, NET_F_HOST_TSO6 },
        { gso && s->prop_host_ecn, NET_F_HOST_ECN },
        { gso && s->prop_host_ufo, NET_F_HOST_UFO },
        { gcsum, NET_F_GUEST_CSUM },
        { gcsum && s->prop_guest_tso4, NET_F_GUEST_TSO4 },
        { gcsum && s->prop_guest_tso6, NET_F_GUEST_TSO6 },
        { gcsum && s->prop_guest_ecn, NET_F_GUEST_ECN },
        { gcsum && s->prop_guest_ufo, NET_F_GUEST_UFO },
        { c, NET_F_CTRL_VQ },
        { c && s->prop_ctrl_rx, NET_F_CTRL_RX },
        { c && s->prop_ctrl_rx && s->prop_ctrl_rx_extra, NET_F_CTRL_RX_EXTRA },
        { c && s->prop_ctrl_vlan, NET_F_CTRL_VLAN },
        { c && s->prop_ctrl_mac_addr, NET_F_CTRL_MAC_ADDR },
        { c && s->prop_status && s->prop_guest_announce, NET_F_GUEST_ANNOUNCE },
        { c && gcsum && s->prop_ctrl_guest_offloads, NET_F_CTRL_GUEST_OFFLOADS },
        { c && s->prop_mq && s->npairs > 1, NET_F_MQ },
    };
    uint64_t all = 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
        all |= rows[i].on ? rows[i].bit : 0;
    return all;
}

static void features_set(struct virtio_device *v)
{
    struct virtio_net *s = (struct virtio_net *)v;
    s->offloads = v->features & GUEST_OFFLOADS;
    virtio_net_apply_offloads(s);
}

static void put(uint8_t *at, uint32_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        at[i] = (uint8_t)(value >> 8 * i);
}

/* 5.1.4 */
static void config_read(struct virtio_device *v, uint8_t *ret)
{
    struct virtio_net *s = (struct virtio_net *)v;
    memcpy(ret, s->guest_mac, 6);
    put(ret + 6, (s->backend && net_link(s->backend) ? NET_STATUS_LINK_UP : 0) | (s->announce ? NET_STATUS_ANNOUNCE : 0), 2);
    put(ret + 8, s->prop_mq ? s->npairs : 1, 2);
    put(ret + 10, (uint32_t)s->host_mtu, 2);
    put(ret + 12, s->speed, 4);
    ret[16] = s->duplex;
}

/* ---- queues ---- */

/* 5.1.2: without NET_F_MQ there is one pair, and the control queue follows it. */
static unsigned control_queue(const struct virtio_net *s)
{
    return virtio_has(&s->v, NET_F_MQ) ? 2 * s->npairs : 2;
}

static void queue_notify(struct virtio_device *v, unsigned queue)
{
    struct virtio_net *s = (struct virtio_net *)v;
    if (virtio_has(v, NET_F_CTRL_VQ) && queue == control_queue(s))
        virtio_net_control(s, &v->queues[queue]);
    else if (queue >= 2 * s->npairs)
        return;
    else if (virtio_net_vhost_runs(s, queue / 2))
        return;
    else if (queue & 1)
        virtio_net_transmit(s, queue / 2);
    else if (s->backend)
        net_receive_ready_queue(s->backend, queue / 2);
}

static bool in_use(const struct virtio_net *s)
{
    for (unsigned i = 0; i < s->npairs; i++) {
        if (s->pairs[i].rx.busy || s->pairs[i].tx_busy)
            return true;
    }
    return false;
}

static void wait_idle(struct virtio_net *s)
{
    while (in_use(s))
        g_cond_wait(&s->idle, &s->v.dev.lock);
}

static void started(struct virtio_device *v)
{
    virtio_net_vhost_update((struct virtio_net *)v);
}

static void stop(struct virtio_device *v)
{
    struct virtio_net *s = (struct virtio_net *)v;
    wait_idle(s);
    virtio_net_vhost_update(s);
    for (unsigned i = 0; i < s->npairs; i++) {
        virtio_net_rx_drop(&s->pairs[i]);
        s->pairs[i].tx_blocked = s->pairs[i].tx_again = false;
    }
    virtio_net_filter_reset(s);
    s->announce = false;
    s->offloads = 0;
    virtio_net_use_pairs(s, 1);
}

/* ---- the machine and the back end ---- */

/* While the machine stands still, nothing changes in its memory. */
static void on_hook(void *opaque, enum machine_hook_event ev)
{
    struct virtio_net *s = opaque;
    if (ev != HOOK_STOP && ev != HOOK_RUN)
        return;
    g_mutex_lock(&s->v.dev.lock);
    s->paused = ev == HOOK_STOP;
    if (s->paused)
        wait_idle(s);
    virtio_net_vhost_update(s);
    for (unsigned i = 0; i < s->npairs && !s->paused; i++) {
        if (s->backend)
            net_receive_ready_queue(s->backend, i);
        virtio_net_transmit(s, i);
    }
    g_mutex_unlock(&s->v.dev.lock);
}

/* The machine stands still, and with it the back end: buffers that were taken ahead go back. */
static void drain(struct device *d)
{
    struct virtio_net *s = (struct virtio_net *)d;
    wait_idle(s);
    for (unsigned i = 0; i < s->npairs; i++)
        virtio_net_rx_return(&s->pairs[i]);
}

static void save(struct device *d, struct state_writer *w)
{
    virtio_save(&((struct virtio_net *)d)->v, w);
}

static bool load(struct device *d, struct state_reader *r, GError **error)
{
    struct virtio_net *s = (struct virtio_net *)d;
    if (s->nuni > NET_TABLE_MAX || s->nmulti > NET_TABLE_MAX)
        return state_bad(r, error, "its table of addresses has more than %u", NET_TABLE_MAX);
    if (s->used_pairs < 1 || s->used_pairs > s->npairs)
        return state_bad(r, error, "its driver uses %u pairs of queues, of %u", s->used_pairs, s->npairs);
    if (s->offloads & ~(s->v.features & GUEST_OFFLOADS))
        return state_bad(r, error, "its driver takes offloads that were not agreed");
    s->paused = true; /* until the machine runs */
    wait_idle(s);
    if (!virtio_load(&s->v, r, error))
        return false;
    for (unsigned i = 0; i < s->npairs; i++)
        virtio_net_rx_drop(&s->pairs[i]);
    virtio_net_apply_offloads(s);
    virtio_net_use_pairs(s, s->used_pairs);
    return true;
}

static void link_changed(void *opaque)
{
    struct virtio_net *s = opaque;
    g_mutex_lock(&s->v.dev.lock);
    virtio_config_changed(&s->v);
    g_mutex_unlock(&s->v.dev.lock);
}

static const struct net_frontend frontend = {
    .rx_buffers = virtio_net_rx_buffers, .rx_done = virtio_net_rx_done, .tx_ready = virtio_net_tx_ready, .link_changed = link_changed,
};

/* ---- for QMP ---- */

/* As QEMU names a card: its id, or its kind and number. */
static char *card_name(const struct virtio_net *s)
{
    unsigned n = 0;
    const GPtrArray *all = s->v.dev.machine->devices;
    for (guint i = 0; i < all->len && all->pdata[i] != s; i++)
        n += ((const struct device *)all->pdata[i])->class == s->v.dev.class;
    return s->v.dev.id ? g_strdup(s->v.dev.id) : g_strdup_printf("%s.%u", s->v.dev.class->name, n);
}

/* Once, until somebody looks. */
void virtio_net_filter_changed(struct virtio_net *s)
{
    if (s->filter_told)
        return;
    s->filter_told = true;
    g_autofree char *path = s->v.dev.id ? g_strdup_printf("/machine/peripheral/%s/virtio-backend", s->v.dev.id)
                                        : g_strdup("/machine/peripheral-anon/device/virtio-backend");
    struct json_object *data = json_make("path", json_object_new_string(path), NULL);
    if (s->v.dev.id)
        json_object_object_add(data, "name", json_object_new_string(s->v.dev.id));
    machine_post_event(s->v.dev.machine, "NIC_RX_FILTER_CHANGED", data);
}

static struct json_object *mac_json(const uint8_t *m)
{
    g_autofree char *text = g_strdup_printf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
    return json_object_new_string(text);
}

static struct json_object *table_json(const uint8_t *table, uint32_t n)
{
    struct json_object *list = json_object_new_array();
    for (uint32_t i = 0; i < n; i++)
        json_object_array_add(list, mac_json(table + 6 * i));
    return list;
}

static struct json_object *vlans_json(const struct virtio_net *s)
{
    struct json_object *list = json_object_new_array();
    for (unsigned i = 0; i < 4096; i++) {
        if (s->vlans[i / 32] >> i % 32 & 1)
            json_object_array_add(list, json_object_new_int((int)i));
    }
    return list;
}

static struct json_object *state_json(bool none, bool all)
{
    return json_object_new_string(none ? "none" : all ? "all" : "normal");
}

static struct json_object *filter_json(const struct virtio_net *s)
{
    const bool *m = s->mode;
    g_autofree char *name = card_name(s);
    return json_make("name", json_object_new_string(name), "promiscuous", json_object_new_boolean(m[NET_RX_PROMISC]),
                     "multicast", state_json(m[NET_RX_NOMULTI], m[NET_RX_ALLMULTI]), "unicast", state_json(m[NET_RX_NOUNI], m[NET_RX_ALLUNI]),
                     "vlan", state_json(false, !virtio_has(&s->v, NET_F_CTRL_VLAN)), "broadcast-allowed", json_object_new_boolean(!m[NET_RX_NOBCAST]),
                     "multicast-overflow", json_object_new_boolean(s->multi_overflow), "unicast-overflow", json_object_new_boolean(s->uni_overflow),
                     "main-mac", mac_json(s->guest_mac), "vlan-table", vlans_json(s), "unicast-table", table_json(s->uni, s->nuni),
                     "multicast-table", table_json(s->multi, s->nmulti), NULL);
}

static struct virtio_net *cast(struct device *d)
{
    return d->class == &virtio_net_pci_class || d->class == &virtio_net_mmio_class ? (struct virtio_net *)d : NULL;
}

struct json_object *virtio_net_rx_filter(struct device *d)
{
    struct virtio_net *s = cast(d);
    if (!s)
        return NULL;
    g_mutex_lock(&d->lock);
    struct json_object *o = filter_json(s);
    s->filter_told = false;
    g_mutex_unlock(&d->lock);
    return o;
}

bool virtio_net_announce(struct device *d)
{
    struct virtio_net *s = cast(d);
    if (!s)
        return false;
    g_mutex_lock(&d->lock);
    bool can = virtio_running(&s->v) && virtio_has(&s->v, NET_F_GUEST_ANNOUNCE | NET_F_CTRL_VQ);
    if (can) {
        s->announce = true;
        virtio_config_changed(&s->v);
    }
    g_mutex_unlock(&d->lock);
    return can;
}

/* ---- life ---- */

static bool power_of_two(uint64_t n)
{
    return n && !(n & (n - 1));
}

static bool check_props(struct virtio_net *s, GError **error)
{
    const char *name = s->v.dev.class->name;
    const struct { bool bad; const char *text; } rules[] = {
        { s->mac[0] & 1, "mac is a multicast address; its first byte must be even" },
        { !power_of_two(s->rx_queue_size) || s->rx_queue_size < 64, "rx_queue_size must be a power of 2 from 64 to 1024" },
        { !power_of_two(s->tx_queue_size) || s->tx_queue_size < 64, "tx_queue_size must be a power of 2 from 64 to 1024" },
        { s->host_mtu && s->host_mtu < 68, "host_mtu must be from 68 to 65535" },
        { s->prop_rss || s->prop_hash, "rss=on and hash=on are not there yet; leave them out" },
        { s->prop_failover, "failover=on needs a card to fail over to, which is not there yet" },
        { s->duplex_text && strcmp(s->duplex_text, "half") && strcmp(s->duplex_text, "full"), "duplex must be half or full" },
        { s->tx && strcmp(s->tx, "bh") && strcmp(s->tx, "timer"), "tx must be bh or timer" },
    };
    guint64 speed = 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(rules); i++) {
        if (rules[i].bad)
            return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: %s", name, rules[i].text);
    }
    bool unknown = !s->speed_text || !strcmp(s->speed_text, "-1");
    if (!unknown && !g_ascii_string_to_unsigned(s->speed_text, 10, 0, INT32_MAX, &speed, NULL))
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: speed=%s must be Mbit/s, or -1 for unknown", name, s->speed_text);
    s->speed = unknown ? UINT32_MAX : (uint32_t)speed;
    s->duplex = !s->duplex_text ? 0xff : !strcmp(s->duplex_text, "full");
    return true;
}

static bool attach(struct virtio_net *s, GError **error)
{
    const struct device *d = &s->v.dev;
    s->npairs = 1;
    if (!s->netdev)
        return true;
    struct net_backend *b = g_hash_table_lookup(d->machine->netdevs, s->netdev);
    if (!b)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "device %s: there is no netdev '%s'; add -netdev TYPE,id=%s", d->class->name, s->netdev,
                          s->netdev);
    if (net_attached(b))
        return vireo_fail(error, VIREO_ERROR_BUSY, "device %s: netdev '%s' is already used by another device", d->class->name, s->netdev);
    if (s->prop_mq)
        s->npairs = MIN(net_queues(b), NET_MAX_PAIRS);
    s->backend = b;
    s->header = net_has_header(b);
    return true;
}

static void free_pairs(struct virtio_net *s)
{
    for (unsigned i = 0; i < s->npairs; i++) {
        virtio_net_rx_drop(&s->pairs[i]);
        g_free(s->pairs[i].rx.spill);
    }
    g_clear_pointer(&s->pairs, g_free);
    g_cond_clear(&s->idle);
}

static void make_pairs(struct virtio_net *s)
{
    g_cond_init(&s->idle);
    s->pairs = g_new0(struct net_pair, s->npairs);
    for (unsigned i = 0; i < s->npairs; i++) {
        s->pairs[i].s = s;
        s->pairs[i].index = i;
    }
}

static bool plug(struct virtio_net *s, GError **error)
{
    uint16_t sizes[2 * NET_MAX_PAIRS + 1];
    unsigned n = 2 * s->npairs;
    for (unsigned i = 0; i < n; i++)
        sizes[i] = (uint16_t)(i & 1 ? s->tx_queue_size : s->rx_queue_size);
    if (s->prop_ctrl_vq)
        sizes[n++] = CTRL_QUEUE_SIZE;
    /* As many vectors as there are queues, and one for the configuration, unless the user asked for another number. */
    if (s->npairs > 1 && s->v.pci_vectors == DEFAULT_VECTORS)
        s->v.pci_vectors = n + 1;
    s->v.packed = s->v.packed && !s->vhost; /* the kernel's has split rings only */
    return virtio_realize(&s->v, n, sizes, error);
}

static bool realize(struct device *d, GError **error)
{
    struct virtio_net *s = (struct virtio_net *)d;
    device_default_mac(d->machine, s->mac);
    if (!check_props(s, error) || !attach(s, error))
        return false;
    make_pairs(s);
    stop(&s->v);
    if (!virtio_net_vhost_init(s, error) || !plug(s, error)) {
        virtio_net_vhost_finish(s);
        free_pairs(s);
        return false;
    }
    if (s->backend) {
        net_use_header(s->backend, s->header);
        if (!net_backend_attach(s->backend, &frontend, s, error))
            g_assert_not_reached();
    }
    machine_add_hook(d->machine, on_hook, s);
    return true;
}

static void unrealize(struct device *d)
{
    struct virtio_net *s = (struct virtio_net *)d;
    machine_remove_hook(d->machine, on_hook, s);
    if (s->backend)
        net_backend_detach(s->backend);
    virtio_unrealize(&s->v);
    virtio_net_vhost_finish(s);
    if (s->tx_later)
        g_source_remove(s->tx_later);
    free_pairs(s);
}

#define T struct virtio_net
#define ON(text, member, what) { text, PROP_BOOL, offsetof(T, member), .def = "on", .help = what }
#define NET_PROPS                                                                                                      \
    { "netdev", PROP_NETDEV, offsetof(T, netdev), .help = "the network; without it the link is down" },                 \
    { "mac", PROP_MAC, offsetof(T, mac), .help = "address; default 52:54:00:12:34:56 and up" },                         \
    { "mq", PROP_BOOL, offsetof(T, prop_mq), .def = "off", .help = "as many queue pairs as the netdev has" },           \
    { "rx_queue_size", PROP_UINT, offsetof(T, rx_queue_size), 64, 1024, .def = "256", .help = "entries of a receive queue" }, \
    { "tx_queue_size", PROP_UINT, offsetof(T, tx_queue_size), 64, 1024, .def = "256", .help = "entries of a transmit queue" }, \
    { "host_mtu", PROP_UINT, offsetof(T, host_mtu), 0, 65535, .def = "0", .help = "largest packet that the guest is told of; 0: it is not told" }, \
    { "speed", PROP_STRING, offsetof(T, speed_text), .help = "Mbit/s that the guest is told of; -1: unknown" },         \
    { "duplex", PROP_STRING, offsetof(T, duplex_text), .help = "half or full, that the guest is told of" },             \
    ON("csum", prop_csum, "the guest may leave checksums to the host"),                                                 \
    ON("gso", prop_gso, "the guest may leave segmentation to the host"),                                                \
    ON("host_tso4", prop_host_tso4, "of TCP over IPv4"),                                                                \
    ON("host_tso6", prop_host_tso6, "of TCP over IPv6"),                                                                \
    ON("host_ecn", prop_host_ecn, "of TCP with congestion notification"),                                               \
    ON("host_ufo", prop_host_ufo, "of UDP"),                                                                            \
    ON("guest_csum", prop_guest_csum, "the guest takes packets without checksums"),                                     \
    ON("guest_tso4", prop_guest_tso4, "the guest takes large packets: TCP over IPv4"),                                  \
    ON("guest_tso6", prop_guest_tso6, "TCP over IPv6"),                                                                 \
    ON("guest_ecn", prop_guest_ecn, "TCP with congestion notification"),                                                \
    ON("guest_ufo", prop_guest_ufo, "UDP"),                                                                             \
    ON("mrg_rxbuf", prop_mrg_rxbuf, "offer mergeable receive buffers"),                                                 \
    ON("status", prop_status, "offer the link status"),                                                                 \
    ON("guest_announce", prop_guest_announce, "offer that the guest announces itself when asked"),                      \
    ON("ctrl_vq", prop_ctrl_vq, "offer the control queue"),                                                             \
    ON("ctrl_rx", prop_ctrl_rx, "offer receive modes"),                                                                 \
    ON("ctrl_rx_extra", prop_ctrl_rx_extra, "offer more receive modes"),                                                \
    ON("ctrl_vlan", prop_ctrl_vlan, "offer the VLAN filter"),                                                           \
    ON("ctrl_mac_addr", prop_ctrl_mac_addr, "the guest may change its address"),                                        \
    ON("ctrl_guest_offloads", prop_ctrl_guest_offloads, "the guest may change what it takes"),                          \
    { "rss", PROP_BOOL, offsetof(T, prop_rss), .def = "off", .help = "only off" },                                      \
    { "hash", PROP_BOOL, offsetof(T, prop_hash), .def = "off", .help = "only off" },                                    \
    { "failover", PROP_BOOL, offsetof(T, prop_failover), .def = "off", .help = "only off" },                            \
    { "tx", PROP_STRING, offsetof(T, tx), .help = "accepted (bh, timer): frames are sent at once" },                    \
    { "x-txtimer", PROP_UINT, offsetof(T, x_txtimer), 0, UINT32_MAX, .def = "150000", .help = "accepted" },             \
    { "x-txburst", PROP_UINT, offsetof(T, x_txburst), 0, UINT32_MAX, .def = "256", .help = "accepted" }

static const struct device_prop pci_props[] = { NET_PROPS, VIRTIO_PCI_PROPS(T, "4"), { NULL } };
static const struct device_prop mmio_props[] = { NET_PROPS, VIRTIO_COMMON_PROPS(T), { NULL } };
static const struct device_field fields[] = {
    VIRTIO_FIELDS(T), DEVICE_ARRAY(T, guest_mac), DEVICE_ARRAY(T, mode), DEVICE_FIELD(T, announce), DEVICE_FIELD(T, nuni),
    DEVICE_FIELD(T, nmulti), DEVICE_FIELD(T, uni_overflow), DEVICE_FIELD(T, multi_overflow), DEVICE_ARRAY(T, uni), DEVICE_ARRAY(T, multi),
    DEVICE_ARRAY(T, vlans), DEVICE_FIELD(T, offloads), DEVICE_FIELD(T, used_pairs), { NULL }
};
static const struct virtio_class net = {
    .name = "virtio-net", .id = VIRTIO_ID_NET, .pci_class = 0x02, .pci_subclass = 0x00, .config_size = CONFIG_SIZE, .features = features,
    .features_set = features_set, .config_read = config_read, .queue_notify = queue_notify, .started = started, .stop = stop,
};

const struct device_class virtio_net_pci_class = {
    .name = "virtio-net-pci", .help = "virtio network card", .bus = DEV_BUS_PCI, .size = sizeof(T), .props = pci_props, .fields = fields,
    .user_creatable = true, .realize = realize, .reset = virtio_device_reset, .unrealize = unrealize, .drain = drain, .save = save, .load = load, .bus_class = &net,
};
const struct device_class virtio_net_mmio_class = {
    .name = "virtio-net-device", .help = "virtio network card in an MMIO slot", .bus = DEV_BUS_VIRTIO, .size = sizeof(T), .props = mmio_props,
    .fields = fields, .user_creatable = true, .realize = realize, .reset = virtio_device_reset, .unrealize = unrealize, .drain = drain, .save = save, .load = load, .bus_class = &net,
};
