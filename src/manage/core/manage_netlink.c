/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manage/core/manage_netlink.h"

#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "manage/core/manage_error.h"

void *netlink_payload(struct netlink_request *r, unsigned size)
{
    void *at = (char *)&r->h + NLMSG_ALIGN(r->h.nlmsg_len);
    r->h.nlmsg_len = NLMSG_ALIGN(r->h.nlmsg_len) + size;
    g_assert(r->h.nlmsg_len <= sizeof *r);
    return at;
}

struct rtattr *netlink_attr(struct netlink_request *r, unsigned short type, const void *data, unsigned size)
{
    struct rtattr *a = netlink_payload(r, RTA_LENGTH(size));
    a->rta_type = type;
    a->rta_len = (unsigned short)RTA_LENGTH(size);
    if (size)
        memcpy(RTA_DATA(a), data, size);
    return a;
}

void netlink_attr_u32(struct netlink_request *r, unsigned short type, uint32_t v) { netlink_attr(r, type, &v, sizeof v); }

struct rtattr *netlink_nest(struct netlink_request *r, unsigned short type) { return netlink_attr(r, type, NULL, 0); }

void netlink_nest_end(struct netlink_request *r, struct rtattr *a) { a->rta_len = (unsigned short)((char *)&r->h + r->h.nlmsg_len - (char *)a); }

void netlink_begin(struct netlink_request *r, unsigned short type, unsigned short flags)
{
    memset(r, 0, sizeof *r);
    r->h.nlmsg_len = NLMSG_HDRLEN;
    r->h.nlmsg_type = type;
    r->h.nlmsg_flags = (unsigned short)(NLM_F_REQUEST | flags);
    r->h.nlmsg_seq = 1;
}

int netlink_socket(void)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    struct timeval wait = { 10, 0 };
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    return fd;
}

/* Sends and waits for the acknowledgement: 0 or an errno value. */
int netlink_transact(struct netlink_request *r)
{
    union { struct nlmsghdr h; char data[8192]; } reply;
    int fd = netlink_socket();
    if (fd < 0)
        return errno;
    r->h.nlmsg_flags |= NLM_F_ACK;
    int err = send(fd, r, r->h.nlmsg_len, 0) < 0 ? errno : 0;
    while (!err) {
        ssize_t n = recv(fd, &reply, sizeof reply, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < (ssize_t)NLMSG_LENGTH(sizeof(struct nlmsgerr))) {
            err = n < 0 ? errno : EPROTO;
            break;
        }
        if (reply.h.nlmsg_type == NLMSG_ERROR) {
            err = -((struct nlmsgerr *)NLMSG_DATA(&reply.h))->error;
            break;
        }
    }
    close(fd);
    return err;
}

/* ---- devices ---- */

bool manage_link_exists(const char *name) { return if_nametoindex(name) != 0; }

bool manage_mac_parse(const char *text, uint8_t mac[6])
{
    return sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) == 6;
}

bool manage_link_delete(const char *name, GError **error)
{
    struct netlink_request r;
    netlink_begin(&r, RTM_DELLINK, 0);
    struct ifinfomsg *info = netlink_payload(&r, sizeof *info);
    if (!(info->ifi_index = (int)if_nametoindex(name)))
        return true;
    int err = netlink_transact(&r);
    return !err || err == ENODEV || manage_fail_errno(error, err, "cannot remove the device '%s'", name);
}

bool manage_link_up(const char *name, bool up, GError **error)
{
    struct netlink_request r;
    netlink_begin(&r, RTM_NEWLINK, 0);
    struct ifinfomsg *info = netlink_payload(&r, sizeof *info);
    info->ifi_index = (int)if_nametoindex(name);
    info->ifi_flags = up ? IFF_UP : 0;
    info->ifi_change = IFF_UP;
    int err = info->ifi_index ? netlink_transact(&r) : ENODEV;
    return !err || manage_fail_errno(error, err, "cannot bring the device '%s' %s", name, up ? "up" : "down");
}

/* Not by /sys: what is mounted there may belong to another network namespace. Attributes from the first on; NULL: no such device. */
static const struct rtattr *ask(const char *name, char *reply, unsigned size, int *ret_left)
{
    struct netlink_request r;
    netlink_begin(&r, RTM_GETLINK, 0);
    struct ifinfomsg *info = netlink_payload(&r, sizeof *info);
    if (!(info->ifi_index = (int)if_nametoindex(name)))
        return NULL;
    int fd = netlink_socket();
    ssize_t n = fd >= 0 && send(fd, &r, r.h.nlmsg_len, 0) >= 0 ? recv(fd, reply, size, 0) : -1;
    if (fd >= 0)
        close(fd);
    const struct nlmsghdr *h = (const struct nlmsghdr *)reply;
    if (n < (ssize_t)NLMSG_LENGTH(sizeof *info) || h->nlmsg_type != RTM_NEWLINK)
        return NULL;
    *ret_left = (int)((unsigned)n - NLMSG_LENGTH(sizeof *info));
    return IFLA_RTA(NLMSG_DATA(h));
}

union reply { struct nlmsghdr h; char data[16384]; };

char *manage_link_mac(const char *name)
{
    union reply reply;
    char *text = NULL;
    int left = 0;
    for (const struct rtattr *a = ask(name, reply.data, sizeof reply, &left); a && RTA_OK(a, left); a = RTA_NEXT(a, left)) {
        const uint8_t *b = RTA_DATA(a);
        if (a->rta_type == IFLA_ADDRESS && RTA_PAYLOAD(a) == 6 && !text)
            text = g_strdup_printf("%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5]);
    }
    return text;
}

bool manage_link_stats(const char *name, struct manage_link_stats *ret)
{
    union reply reply;
    int left = 0;
    for (const struct rtattr *a = ask(name, reply.data, sizeof reply, &left); a && RTA_OK(a, left); a = RTA_NEXT(a, left)) {
        struct rtnl_link_stats64 s;
        if (a->rta_type != IFLA_STATS64 || RTA_PAYLOAD(a) < offsetof(struct rtnl_link_stats64, multicast))
            continue;
        memset(&s, 0, sizeof s);
        memcpy(&s, RTA_DATA(a), MIN(RTA_PAYLOAD(a), sizeof s));
        *ret = (struct manage_link_stats){ { s.rx_bytes, s.rx_packets, s.rx_errors, s.rx_dropped }, { s.tx_bytes, s.tx_packets, s.tx_errors, s.tx_dropped } };
        return true;
    }
    return false;
}
