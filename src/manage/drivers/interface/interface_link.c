/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manage/drivers/interface/interface_link.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "manage/core/manage_error.h"

static uint32_t number(const struct rtattr *a)
{
    uint32_t v = 0;
    memcpy(&v, RTA_DATA(a), MIN(RTA_PAYLOAD(a), sizeof v)); /* little-endian hosts only, as all of Vireo's */
    return v;
}

static void text(char *to, gsize size, const struct rtattr *a)
{
    gsize n = MIN(RTA_PAYLOAD(a), size - 1);
    memcpy(to, RTA_DATA(a), n);
    to[n] = 0;
}

static void read_bond(struct interface_link *l, const struct rtattr *a)
{
    switch (a->rta_type & NLA_TYPE_MASK) {
    case IFLA_BOND_MODE: l->bond_mode = (uint8_t)number(a); break;
    case IFLA_BOND_MIIMON: l->miimon = number(a); break;
    case IFLA_BOND_UPDELAY: l->updelay = number(a); break;
    case IFLA_BOND_DOWNDELAY: l->downdelay = number(a); break;
    case IFLA_BOND_USE_CARRIER: l->use_carrier = (uint8_t)number(a); break;
    case IFLA_BOND_ARP_INTERVAL: l->arp_interval = number(a); break;
    case IFLA_BOND_ARP_VALIDATE: l->arp_validate = number(a); break;
    case IFLA_BOND_ARP_IP_TARGET:
        if (RTA_PAYLOAD(a) >= RTA_LENGTH(4))
            l->arp_target = number(RTA_DATA(a));
        break;
    default: break;
    }
}

static void read_data(struct interface_link *l, const struct rtattr *data)
{
    int left = (int)RTA_PAYLOAD(data);
    for (const struct rtattr *a = RTA_DATA(data); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
        unsigned type = a->rta_type & NLA_TYPE_MASK;
        if (!strcmp(l->kind, "bridge") && type == IFLA_BR_FORWARD_DELAY)
            l->delay = number(a);
        else if (!strcmp(l->kind, "bridge") && type == IFLA_BR_STP_STATE)
            l->stp = number(a) != 0;
        else if (!strcmp(l->kind, "vlan") && type == IFLA_VLAN_ID)
            l->vlan = (uint16_t)number(a);
        else if (!strcmp(l->kind, "bond"))
            read_bond(l, a);
    }
}

static void read_info(struct interface_link *l, const struct rtattr *info)
{
    int left = (int)RTA_PAYLOAD(info);
    for (const struct rtattr *a = RTA_DATA(info); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
        if ((a->rta_type & NLA_TYPE_MASK) == IFLA_INFO_KIND)
            text(l->kind, sizeof l->kind, a);
        else if ((a->rta_type & NLA_TYPE_MASK) == IFLA_INFO_DATA)
            read_data(l, a);
    }
}

static void read_link(GArray *list, const struct nlmsghdr *h)
{
    const struct ifinfomsg *m = NLMSG_DATA(h);
    if (h->nlmsg_type != RTM_NEWLINK || h->nlmsg_len < NLMSG_LENGTH(sizeof *m))
        return;
    struct interface_link l = { .index = m->ifi_index };
    int left = (int)(h->nlmsg_len - NLMSG_LENGTH(sizeof *m));
    for (const struct rtattr *a = IFLA_RTA(m); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
        const uint8_t *b = RTA_DATA(a);
        switch (a->rta_type & NLA_TYPE_MASK) {
        case IFLA_IFNAME: text(l.name, sizeof l.name, a); break;
        case IFLA_MTU: l.mtu = number(a); break;
        case IFLA_OPERSTATE: l.operstate = (uint8_t)number(a); break;
        case IFLA_MASTER: l.master = (int)number(a); break;
        case IFLA_LINK: l.parent = (int)number(a); break;
        case IFLA_LINKINFO: read_info(&l, a); break;
        case IFLA_ADDRESS:
            if (RTA_PAYLOAD(a) == 6)
                g_snprintf(l.mac, sizeof l.mac, "%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5]);
            break;
        default: break;
        }
    }
    if (*l.name && *l.mac)
        g_array_append_val(list, l);
}

static gint by_name(gconstpointer a, gconstpointer b)
{
    return strcmp(((const struct interface_link *)a)->name, ((const struct interface_link *)b)->name);
}

static int dump(int fd, GArray *list)
{
    struct { struct nlmsghdr h; struct ifinfomsg m; } request = { { sizeof request, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, 0 }, { .ifi_family = AF_UNSPEC } };
    struct timeval wait = { 5, 0 };
    g_autofree char *buffer = g_malloc(65536);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    if (send(fd, &request, sizeof request, 0) < 0)
        return errno;
    for (;;) {
        ssize_t got = recv(fd, buffer, 65536, 0);
        if (got < 0 && errno != EINTR)
            return errno;
        unsigned left = got > 0 ? (unsigned)got : 0;
        for (struct nlmsghdr *h = (struct nlmsghdr *)buffer; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
            if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR)
                return 0;
            read_link(list, h);
        }
    }
}

GArray *interface_links(GError **error)
{
    GArray *list = g_array_new(FALSE, FALSE, sizeof(struct interface_link));
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), err = fd < 0 ? errno : dump(fd, list);
    if (fd >= 0)
        close(fd);
    if (err) {
        g_array_unref(list);
        manage_fail_errno(error, err, "cannot list the network devices of the host");
        return NULL;
    }
    g_array_sort(list, by_name);
    return list;
}

unsigned interface_speed(const char *name)
{
    struct ethtool_cmd command = { .cmd = ETHTOOL_GSET };
    struct ifreq request = { .ifr_data = (char *)&command };
    g_strlcpy(request.ifr_name, name, sizeof request.ifr_name);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && ioctl(fd, SIOCETHTOOL, &request) == 0;
    if (fd >= 0)
        close(fd);
    uint32_t speed = ok ? ethtool_cmd_speed(&command) : 0;
    return speed == (uint32_t)SPEED_UNKNOWN || speed == 65535 ? 0 : speed;
}
