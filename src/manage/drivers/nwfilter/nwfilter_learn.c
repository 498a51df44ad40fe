/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Learns the address of a guest whose filter needs it and that nobody gave (CTRL_IP_LEARNING). `any`: the sender of the first ARP or IPv4 packet that comes
 * from the guest, or what a DHCP server gives it; `dhcp`: the latter alone, for as long as the guest is there. A socket on the tap sees all its frames; it is
 * read on the main loop, and what it has found is put in force by a thread of the driver's own.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "manage/drivers/nwfilter/nwfilter.h"

enum { FRAME_MAX = 1600, FRAMES_A_TURN = 64, BOOTP_OPTIONS = 240, DHCP_TYPE = 53, DHCP_ACK = 5 };

struct learner {
    struct nwfilter_driver *dr;
    char *port;
    int fd;
    uint8_t mac[6];
    bool dhcp_only;
    GArray *servers; /* uint32_t, as on the wire: who may answer; empty: anybody */
    uint32_t last;
};

struct nwfilter_learned {
    char *port, *ip;
};

/* ---- frames ---- */

static bool is_guests(uint32_t address)
{
    uint8_t first = (uint8_t)address; /* network order: the first byte */
    return address && address != 0xffffffff && first != 0 && first != 127 && first < 224;
}

/* What an answer of a DHCP server gives to this guest; 0. */
static uint32_t acknowledged(const struct learner *l, const uint8_t *ip, size_t size)
{
    static const uint8_t cookie[] = { 0x63, 0x82, 0x53, 0x63 };
    size_t head = size >= 20 ? (ip[0] & 15) * 4u : 0;
    uint32_t server, address;
    if (head < 20 || size < head + 8 + BOOTP_OPTIONS || ip[9] != 17)
        return 0;
    const uint8_t *udp = ip + head, *bootp = udp + 8, *end = ip + size;
    if (udp[0] || udp[1] != 67 || udp[2] || udp[3] != 68 || bootp[0] != 2 || memcmp(bootp + 28, l->mac, 6) || memcmp(bootp + 236, cookie, 4))
        return 0;
    memcpy(&server, ip + 12, 4);
    memcpy(&address, bootp + 16, 4);
    bool known = !l->servers->len;
    for (unsigned i = 0; i < l->servers->len; i++)
        known |= g_array_index(l->servers, uint32_t, i) == server;
    for (const uint8_t *o = bootp + BOOTP_OPTIONS; known && o + 2 < end && *o != 255; o += *o ? 2 + o[1] : 1)
        if (*o == DHCP_TYPE)
            return o[2] == DHCP_ACK ? address : 0;
    return 0;
}

/* The address that a frame tells; 0: none. */
static uint32_t address_of(const struct learner *l, const uint8_t *frame, size_t size, bool to_guest)
{
    uint32_t address = 0;
    if (size < 14 + 20)
        return 0;
    unsigned type = (unsigned)frame[12] << 8 | frame[13];
    if (to_guest)
        return type == ETH_P_IP ? acknowledged(l, frame + 14, size - 14) : 0;
    if (l->dhcp_only || memcmp(frame + 6, l->mac, 6))
        return 0;
    if (type == ETH_P_IP)
        memcpy(&address, frame + 14 + 12, 4);
    else if (type == ETH_P_ARP && size >= 14 + 28 && !memcmp(frame + 14 + 8, l->mac, 6))
        memcpy(&address, frame + 14 + 14, 4);
    return address;
}

static void found(struct learner *l, uint32_t address)
{
    char text[INET_ADDRSTRLEN];
    struct nwfilter_learned *n = g_new0(struct nwfilter_learned, 1);
    l->last = address;
    n->port = g_strdup(l->port);
    n->ip = g_strdup(inet_ntop(AF_INET, &address, text, sizeof(text)));
    g_thread_pool_push(l->dr->learned, n, NULL);
}

static gboolean heard(gpointer opaque)
{
    struct learner *l = opaque;
    uint8_t frame[FRAME_MAX];
    struct sockaddr_ll from;
    for (unsigned i = 0; i < FRAMES_A_TURN; i++) {
        socklen_t length = sizeof(from);
        ssize_t n = recvfrom(l->fd, frame, sizeof(frame), MSG_DONTWAIT, (struct sockaddr *)&from, &length);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR || errno == ENETDOWN ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
        uint32_t address = address_of(l, frame, (size_t)n, from.sll_pkttype == PACKET_OUTGOING);
        if (!is_guests(address) || address == l->last)
            continue;
        found(l, address);
        if (!l->dhcp_only)
            return G_SOURCE_REMOVE;
    }
    return G_SOURCE_CONTINUE;
}

/* ---- begin and end ---- */

static void learner_free(gpointer opaque)
{
    struct learner *l = opaque;
    close(l->fd);
    g_array_unref(l->servers);
    g_free(l->port);
    g_free(l);
}

static gboolean dispatch(GSource *source, GSourceFunc callback, gpointer opaque) { return callback(opaque); }

static int open_port(const char *port)
{
    struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)if_nametoindex(port) };
    int fd = at.sll_ifindex ? socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) : -1;
    if (fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static void begin(struct nwfilter_driver *dr, struct nwbinding *b)
{
    static GSourceFuncs funcs = { .dispatch = dispatch };
    const struct el *root = doc_root(b->def);
    int fd = open_port(b->port);
    if (fd < 0) {
        g_warning("the address of '%s' cannot be learned: its frames cannot be read (%s)", b->port, g_strerror(errno));
        return;
    }
    struct learner *l = g_new0(struct learner, 1);
    *l = (struct learner){ .dr = dr, .port = g_strdup(b->port), .fd = fd, .dhcp_only = b->mode == NW_LEARN_DHCP, .servers = g_array_new(FALSE, FALSE, sizeof(uint32_t)) };
    (void)!sscanf(el_get_or(root, "mac/@address", ""), "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx", l->mac, l->mac + 1, l->mac + 2, l->mac + 3, l->mac + 4, l->mac + 5);
    el_each (p, el_find(root, "filterref"), "parameter") {
        uint32_t address;
        if (el_is(p, "@name", "DHCPSERVER") && inet_pton(AF_INET, el_get_or(p, "@value", ""), &address) == 1)
            g_array_append_val(l->servers, address);
    }
    b->learner = g_source_new(&funcs, sizeof(GSource));
    g_source_add_unix_fd(b->learner, fd, G_IO_IN);
    g_source_set_callback(b->learner, heard, l, learner_free);
    g_source_attach(b->learner, dr->state->context);
}

void nwfilter_learn_end(struct nwbinding *b)
{
    if (!b->learner)
        return;
    g_source_destroy(b->learner);
    g_clear_pointer(&b->learner, g_source_unref);
}

void nwfilter_learn_sync(struct nwfilter_driver *dr)
{
    GHashTableIter i;
    gpointer value;
    g_hash_table_iter_init(&i, dr->bindings);
    while (g_hash_table_iter_next(&i, NULL, &value)) {
        struct nwbinding *b = value;
        bool wanted = b->learns && (!b->ip || b->mode == NW_LEARN_DHCP);
        if (wanted && !b->learner)
            begin(dr, b);
        else if (!wanted)
            nwfilter_learn_end(b);
    }
}

/* The driver's thread. */
void nwfilter_learn_done(gpointer what, gpointer opaque)
{
    struct nwfilter_driver *dr = opaque;
    struct nwfilter_learned *n = what;
    g_autoptr(GError) error = NULL;
    g_mutex_lock(&dr->change);
    struct nwbinding *b = g_hash_table_lookup(dr->bindings, n->port);
    if (b && b->learns && g_strcmp0(b->ip, n->ip)) {
        g_autofree char *before = b->ip;
        b->ip = g_strdup(n->ip);
        g_message("'%s' has the address %s from now on: its network filter holds it to that", b->port, b->ip);
        if (!nwfilter_binding_note(dr, b, &error) || !nwfilter_apply(dr, &error)) {
            g_warning("the address %s of '%s' is not in force: %s", n->ip, n->port, error->message);
            g_free(b->ip);
            b->ip = g_steal_pointer(&before);
        }
    }
    g_mutex_unlock(&dr->change);
    g_free(n->port);
    g_free(n->ip);
    g_free(n);
}
