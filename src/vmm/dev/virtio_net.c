/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio network device (virtio 1.2, 5.1): one queue pair and the control queue; no offloads. Frames to the guest come on the
 * main thread; frames from it are copied to the back end on the vCPU's thread.
 */
#include <string.h>

#include "base/error.h"
#include "vmm/bus/virtio.h"
#include "vmm/core/machine.h"
#include "vmm/dev/virtio_devices.h"
#include "vmm/net/net.h"

#define F_MAC (1u << 5)
#define F_MRG_RXBUF (1u << 15)
#define F_STATUS (1u << 16)
#define F_CTRL_VQ (1u << 17)
#define F_CTRL_RX (1u << 18)
#define F_CTRL_RX_EXTRA (1u << 20)
#define F_CTRL_MAC_ADDR (1u << 23)
enum { Q_RX, Q_TX, Q_CTRL, NQUEUES };
enum { HEADER = 12, FRAME_MAX = 65536, CONFIG_SIZE = 12, QUEUE_SIZE = 256, TABLE_MAX = 64, TX_BURST = 1024, RX_MERGE_MAX = 64 };
enum { CTRL_RX = 0, CTRL_MAC = 1 };
enum { RX_PROMISC, RX_ALLMULTI, RX_ALLUNI, RX_NOMULTI, RX_NOUNI, RX_NOBCAST, RX_NMODES };

struct virtio_net {
    struct virtio_device v;
    char *netdev;
    uint8_t mac[6], guest_mac[6];
    bool mrg_rxbuf, status_feature, ctrl_vq;
    struct net_backend *backend;
    bool mode[RX_NMODES];
    uint32_t nuni, nmulti;
    bool uni_overflow, multi_overflow;
    uint8_t uni[TABLE_MAX * 6], multi[TABLE_MAX * 6];
    guint tx_later;
    uint8_t *frame; /* FRAME_MAX bytes for a frame that is in several pieces */
};

/* ---- to the guest ---- */

static bool in_table(const uint8_t *table, uint32_t n, const uint8_t *mac)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!memcmp(table + 6 * i, mac, 6))
            return true;
    }
    return false;
}

static bool wanted(const struct virtio_net *s, const uint8_t *to)
{
    static const uint8_t broadcast[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
    if (s->mode[RX_PROMISC])
        return true;
    if (!memcmp(to, broadcast, 6))
        return !s->mode[RX_NOBCAST];
    if (to[0] & 1)
        return !s->mode[RX_NOMULTI] && (s->mode[RX_ALLMULTI] || s->multi_overflow || in_table(s->multi, s->nmulti, to));
    return !s->mode[RX_NOUNI] &&
           (s->mode[RX_ALLUNI] || s->uni_overflow || !memcmp(to, s->guest_mac, 6) || in_table(s->uni, s->nuni, to));
}

static bool can_receive(void *opaque)
{
    struct virtio_net *s = opaque;
    g_mutex_lock(&s->v.dev.lock);
    /* Without a driver frames are taken, and lost. */
    bool ok = !virtio_running(&s->v) || virtqueue_ready(&s->v.queues[Q_RX]);
    g_mutex_unlock(&s->v.dev.lock);
    return ok;
}

/* The header's num_buffers is written last, when it is known. */
static void deliver(struct virtio_net *s, const uint8_t *frame, size_t n)
{
    struct virtqueue *q = &s->v.queues[Q_RX];
    struct virtio_chain *chains[RX_MERGE_MAX];
    uint32_t written[RX_MERGE_MAX];
    uint8_t header[HEADER] = { 0 };
    bool merge = virtio_has(&s->v, F_MRG_RXBUF);
    size_t done = 0;
    unsigned count = 0;
    while (done < n || !count) {
        struct virtio_chain *c = count < (merge ? RX_MERGE_MAX : 1) ? virtqueue_pop(q) : NULL;
        if (!c)
            break;
        size_t skip = count ? 0 : HEADER;
        if (c->in_len < skip + !count) {
            virtio_broken(&s->v, "a receive buffer of %u bytes", (unsigned)c->in_len);
            virtqueue_push(c, 0);
            break;
        }
        size_t part = virtio_chain_write(c, skip, frame + done, n - done);
        done += part;
        written[count] = skip + part;
        chains[count++] = c;
        if (!part && count == RX_MERGE_MAX)
            break;
    }
    if (done < n) { /* not enough room: the buffers stay, the frame is lost */
        while (count)
            virtqueue_unpop(q, chains[--count]);
        return;
    }
    header[10] = count;
    virtio_chain_write(chains[0], 0, header, HEADER);
    virtqueue_push_batch(chains, written, count);
    virtqueue_interrupt(q);
}

static void receive(void *opaque, const uint8_t *frame, size_t n)
{
    struct virtio_net *s = opaque;
    g_mutex_lock(&s->v.dev.lock);
    if (virtio_running(&s->v) && n >= 14 && wanted(s, frame))
        deliver(s, frame, n);
    g_mutex_unlock(&s->v.dev.lock);
}

static const struct net_frontend frontend = { can_receive, receive };

/* ---- from the guest ---- */

static void transmit_one(struct virtio_net *s, struct virtio_chain *c)
{
    if (c->out_len < HEADER || c->out_len > HEADER + FRAME_MAX)
        virtio_broken(&s->v, "a frame of %" G_GUINT64_FORMAT " bytes", c->out_len);
    else if (s->backend)
        net_send(s->backend, s->frame, virtio_chain_read(c, HEADER, s->frame, FRAME_MAX));
    virtqueue_push(c, 0);
}

static gboolean transmit_later(gpointer opaque);

/* A guest that always has more to send may not keep the lock: after a burst the main loop goes on with it. */
static void transmit(struct virtio_net *s)
{
    struct virtqueue *q = &s->v.queues[Q_TX];
    struct virtio_chain *c;
    unsigned n = 0;
    do {
        virtqueue_want_notify(q, false);
        while (n < TX_BURST && (c = virtqueue_pop(q))) {
            transmit_one(s, c);
            n++;
        }
        if (n == TX_BURST) {
            if (!s->tx_later)
                s->tx_later = g_idle_add(transmit_later, s);
            break;
        }
    } while (virtqueue_want_notify(q, true));
    if (n)
        virtqueue_interrupt(q);
}

static gboolean transmit_later(gpointer opaque)
{
    struct virtio_net *s = opaque;
    g_mutex_lock(&s->v.dev.lock);
    s->tx_later = 0;
    if (virtio_running(&s->v))
        transmit(s);
    g_mutex_unlock(&s->v.dev.lock);
    return G_SOURCE_REMOVE;
}

/* ---- control queue (5.1.6.5) ---- */

static bool read_table(const struct virtio_chain *c, uint64_t *at, uint8_t *table, uint32_t *ret_n, bool *ret_overflow)
{
    uint32_t n;
    if (virtio_chain_read(c, *at, &n, 4) != 4 || (uint64_t)n * 6 > c->out_len - *at - 4)
        return false;
    *ret_overflow = n > TABLE_MAX;
    *ret_n = *ret_overflow ? 0 : n;
    virtio_chain_read(c, *at + 4, table, *ret_n * 6ul);
    *at += 4 + n * 6ull;
    return true;
}

static bool control(struct virtio_net *s, const struct virtio_chain *c)
{
    uint8_t h[2], value;
    uint64_t at = 2;
    if (virtio_chain_read(c, 0, h, 2) != 2)
        return false;
    if (h[0] == CTRL_RX && h[1] < RX_NMODES && virtio_chain_read(c, 2, &value, 1) == 1) {
        s->mode[h[1]] = value;
        return true;
    }
    if (h[0] == CTRL_MAC && h[1] == 0)
        return read_table(c, &at, s->uni, &s->nuni, &s->uni_overflow) && read_table(c, &at, s->multi, &s->nmulti, &s->multi_overflow);
    if (h[0] == CTRL_MAC && h[1] == 1)
        return c->out_len == 8 && virtio_chain_read(c, 2, s->guest_mac, 6) == 6;
    return false;
}

static void queue_notify(struct virtio_device *v, unsigned queue)
{
    struct virtio_net *s = (struct virtio_net *)v;
    struct virtqueue *q = &v->queues[queue];
    struct virtio_chain *c;
    if (queue == Q_RX && s->backend)
        net_receive_ready(s->backend);
    else if (queue == Q_TX)
        transmit(s);
    for (unsigned i = 0; queue == Q_CTRL && i < q->size && (c = virtqueue_pop(q)); i++) {
        uint8_t ack = control(s, c) ? 0 : 1;
        size_t n = virtio_chain_write(c, 0, &ack, 1);
        virtqueue_push(c, n);
        virtqueue_interrupt(q);
    }
}

/* ---- device ---- */

static uint64_t features(struct virtio_device *v)
{
    struct virtio_net *s = (struct virtio_net *)v;
    return F_MAC | (s->status_feature ? F_STATUS : 0) | (s->mrg_rxbuf ? F_MRG_RXBUF : 0) |
           (s->ctrl_vq ? F_CTRL_VQ | F_CTRL_RX | F_CTRL_RX_EXTRA | F_CTRL_MAC_ADDR : 0);
}

static void config_read(struct virtio_device *v, uint8_t *ret)
{
    struct virtio_net *s = (struct virtio_net *)v;
    memcpy(ret, s->guest_mac, 6);
    ret[6] = s->backend != NULL; /* link up */
    ret[8] = 1;                  /* max_virtqueue_pairs */
}

static void stop(struct virtio_device *v)
{
    struct virtio_net *s = (struct virtio_net *)v;
    memcpy(s->guest_mac, s->mac, 6);
    memset(s->mode, 0, sizeof(s->mode));
    s->mode[RX_PROMISC] = true; /* until a driver says otherwise */
    s->nuni = s->nmulti = 0;
    s->uni_overflow = s->multi_overflow = false;
}

/* A locally administered address that stays the same for a device's place among its kind. */
static void default_mac(struct virtio_net *s)
{
    static const uint8_t none[6] = { 0 };
    unsigned n = 0;
    if (memcmp(s->mac, none, 6))
        return;
    for (unsigned i = 0; i < s->v.dev.machine->devices->len; i++) {
        const struct device *d = g_ptr_array_index(s->v.dev.machine->devices, i);
        n += d->class->bus_class == s->v.dev.class->bus_class;
    }
    const uint8_t mac[6] = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x56 + n };
    memcpy(s->mac, mac, 6);
}

static bool realize(struct device *d, GError **error)
{
    struct virtio_net *s = (struct virtio_net *)d;
    static const uint16_t sizes[NQUEUES] = { QUEUE_SIZE, QUEUE_SIZE, 64 };
    default_mac(s);
    if (s->mac[0] & 1)
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: mac is a multicast address; its first byte must be even", d->class->name);
    if (s->netdev) {
        s->backend = g_hash_table_lookup(d->machine->netdevs, s->netdev);
        if (!s->backend)
            return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "device %s: there is no netdev '%s'", d->class->name, s->netdev);
        if (!net_backend_attach(s->backend, &frontend, s, error))
            return false;
    }
    s->frame = g_malloc(FRAME_MAX);
    stop(&s->v);
    if (virtio_realize(&s->v, s->ctrl_vq ? NQUEUES : Q_CTRL, sizes, error))
        return true;
    if (s->backend)
        net_backend_detach(s->backend);
    g_clear_pointer(&s->frame, g_free);
    return false;
}

static void unrealize(struct device *d)
{
    struct virtio_net *s = (struct virtio_net *)d;
    if (s->backend)
        net_backend_detach(s->backend);
    virtio_unrealize(&s->v);
    if (s->tx_later)
        g_source_remove(s->tx_later);
    g_free(s->frame);
}

#define T struct virtio_net
#define NET_PROPS                                                                                                      \
    { "netdev", PROP_NETDEV, offsetof(T, netdev), .help = "the network; without it the link is down" },                 \
    { "mac", PROP_MAC, offsetof(T, mac), .help = "address; default 52:54:00:12:34:56 and up" },                         \
    { "mrg_rxbuf", PROP_BOOL, offsetof(T, mrg_rxbuf), .def = "on", .help = "offer mergeable receive buffers" },         \
    { "status", PROP_BOOL, offsetof(T, status_feature), .def = "on", .help = "offer the link status" },                 \
    { "ctrl_vq", PROP_BOOL, offsetof(T, ctrl_vq), .def = "on", .help = "offer the control queue" }

static const struct device_prop pci_props[] = { NET_PROPS, VIRTIO_PCI_PROPS(T, "4"), { NULL } };
static const struct device_prop mmio_props[] = { NET_PROPS, VIRTIO_COMMON_PROPS(T), { NULL } };
static const struct device_field fields[] = {
    VIRTIO_FIELDS(T), DEVICE_ARRAY(T, guest_mac), DEVICE_ARRAY(T, mode), DEVICE_FIELD(T, nuni), DEVICE_FIELD(T, nmulti),
    DEVICE_FIELD(T, uni_overflow), DEVICE_FIELD(T, multi_overflow), DEVICE_ARRAY(T, uni), DEVICE_ARRAY(T, multi), { NULL }
};
static const struct virtio_class net = {
    .name = "virtio-net", .id = VIRTIO_ID_NET, .pci_class = 0x02, .pci_subclass = 0x00, .config_size = CONFIG_SIZE, .features = features,
    .config_read = config_read, .queue_notify = queue_notify, .stop = stop,
};

const struct device_class virtio_net_pci_class = {
    .name = "virtio-net-pci", .help = "virtio network card", .bus = DEV_BUS_PCI, .size = sizeof(T), .props = pci_props, .fields = fields,
    .user_creatable = true, .realize = realize, .reset = virtio_device_reset, .unrealize = unrealize, .bus_class = &net,
};
const struct device_class virtio_net_mmio_class = {
    .name = "virtio-net-device", .help = "virtio network card in an MMIO slot", .bus = DEV_BUS_VIRTIO, .size = sizeof(T), .props = mmio_props,
    .fields = fields, .user_creatable = true, .realize = realize, .reset = virtio_device_reset, .unrealize = unrealize, .bus_class = &net,
};
