/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bridges, addresses and routes by rtnetlink (rtnetlink(7), linux/if_link.h); each request on a socket of its own. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "manage/core/manage_netlink.h"
#include "manage/drivers/network/network.h"

bool net_bridge_create(const char *name, const char *mac, bool stp, unsigned delay_s, unsigned mtu, GError **error)
{
    struct netlink_request r;
    uint8_t bytes[6];
    netlink_begin(&r, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
    struct ifinfomsg *info = netlink_payload(&r, sizeof *info);
    info->ifi_family = AF_UNSPEC;
    netlink_attr(&r, IFLA_IFNAME, name, (unsigned)strlen(name) + 1);
    if (mac && manage_mac_parse(mac, bytes))
        netlink_attr(&r, IFLA_ADDRESS, bytes, 6);
    if (mtu)
        netlink_attr_u32(&r, IFLA_MTU, mtu);
    struct rtattr *link = netlink_nest(&r, IFLA_LINKINFO);
    netlink_attr(&r, IFLA_INFO_KIND, "bridge", 6);
    struct rtattr *data = netlink_nest(&r, IFLA_INFO_DATA);
    netlink_attr_u32(&r, IFLA_BR_FORWARD_DELAY, delay_s * 100); /* USER_HZ; the kernel raises it where the protocol needs more */
    netlink_attr_u32(&r, IFLA_BR_STP_STATE, stp);
    netlink_nest_end(&r, data);
    netlink_nest_end(&r, link);
    int err = netlink_transact(&r);
    if (err == EEXIST)
        return manage_fail(error, VIR_ERR_OPERATION_FAILED,
                           "there is a device '%s' already that does not belong to this network: remove it, or name another <bridge name=> in the network", name);
    if (err == EPERM || err == EOPNOTSUPP)
        return manage_fail(error, VIR_ERR_SYSTEM_ERROR, "cannot make the bridge '%s': %s: %s", name, g_strerror(err),
                           err == EPERM ? "the daemon lacks CAP_NET_ADMIN (in a container: give it that, or run it without root for user-mode networks)"
                                        : "the kernel has no bridges (modprobe bridge)");
    return !err || manage_fail_errno(error, err, "cannot make the bridge '%s'", name);
}

bool net_addr_add(const char *name, const struct net_addr *a, GError **error)
{
    struct netlink_request r;
    unsigned size = net_addr_bits(a) / 8;
    netlink_begin(&r, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
    struct ifaddrmsg *m = netlink_payload(&r, sizeof *m);
    m->ifa_family = (uint8_t)a->family;
    m->ifa_prefixlen = (uint8_t)a->prefix;
    m->ifa_index = if_nametoindex(name);
    if (a->family == AF_INET6)
        m->ifa_flags = IFA_F_NODAD; /* a bridge without ports has no carrier: detection would never end, dnsmasq could not bind */
    netlink_attr(&r, IFA_LOCAL, a->bytes, size);
    netlink_attr(&r, IFA_ADDRESS, a->bytes, size);
    if (a->family == AF_INET && a->prefix < 31) {
        uint8_t broadcast[4];
        for (unsigned i = 0; i < 32; i += 8)
            broadcast[i / 8] = (uint8_t)(a->bytes[i / 8] | (a->prefix <= i ? 0xff : a->prefix >= i + 8 ? 0 : 0xff >> (a->prefix - i)));
        netlink_attr(&r, IFA_BROADCAST, broadcast, 4);
    }
    int err = netlink_transact(&r);
    g_autofree char *text = net_addr_format(a);
    return !err || manage_fail_errno(error, err, "cannot give the address %s/%u to '%s'", text, a->prefix, name);
}

bool net_route_add(const struct net_addr *to, const struct net_addr *via, unsigned metric, GError **error)
{
    struct netlink_request r;
    netlink_begin(&r, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL);
    struct rtmsg *m = netlink_payload(&r, sizeof *m);
    *m = (struct rtmsg){ .rtm_family = (uint8_t)to->family, .rtm_dst_len = (uint8_t)to->prefix, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_STATIC,
                         .rtm_scope = RT_SCOPE_UNIVERSE, .rtm_type = RTN_UNICAST };
    netlink_attr(&r, RTA_DST, to->bytes, net_addr_bits(to) / 8);
    netlink_attr(&r, RTA_GATEWAY, via->bytes, net_addr_bits(via) / 8);
    if (metric)
        netlink_attr_u32(&r, RTA_PRIORITY, metric);
    int err = netlink_transact(&r);
    g_autofree char *text = net_addr_format_net(to), *gateway = net_addr_format(via);
    return !err || manage_fail_errno(error, err, "cannot add the route to %s via %s", text, gateway);
}

/* ---- the routes of the host ---- */

static void add_route(GArray *list, const struct nlmsghdr *h)
{
    const struct rtmsg *m = NLMSG_DATA(h);
    if (h->nlmsg_type != RTM_NEWROUTE || h->nlmsg_len < NLMSG_LENGTH(sizeof *m) || m->rtm_type != RTN_UNICAST || m->rtm_table != RT_TABLE_MAIN ||
        (m->rtm_family != AF_INET && m->rtm_family != AF_INET6))
        return;
    struct net_route route = { .to = { .family = m->rtm_family, .prefix = m->rtm_dst_len }, .autoconf = m->rtm_protocol == RTPROT_RA };
    int left = (int)(h->nlmsg_len - NLMSG_LENGTH(sizeof *m));
    for (const struct rtattr *a = RTM_RTA(m); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
        if (a->rta_type == RTA_DST)
            memcpy(route.to.bytes, RTA_DATA(a), MIN(RTA_PAYLOAD(a), 16));
        else if (a->rta_type == RTA_OIF && RTA_PAYLOAD(a) >= 4)
            memcpy(&route.oif, RTA_DATA(a), 4);
    }
    if (!route.oif || !if_indextoname((unsigned)route.oif, route.device))
        g_strlcpy(route.device, "?", sizeof route.device);
    g_array_append_val(list, route);
}

GArray *net_routes(GError **error)
{
    struct netlink_request r;
    netlink_begin(&r, RTM_GETROUTE, NLM_F_DUMP);
    struct rtmsg *m = netlink_payload(&r, sizeof *m);
    m->rtm_family = AF_UNSPEC;
    int fd = netlink_socket();
    GArray *list = g_array_new(FALSE, FALSE, sizeof(struct net_route));
    g_autofree char *buffer = g_malloc(65536);
    bool done = false;
    int err = fd < 0 || send(fd, &r, r.h.nlmsg_len, 0) < 0 ? errno : 0;
    while (!err && !done) {
        ssize_t got = recv(fd, buffer, 65536, 0);
        if (got < 0) {
            err = errno == EINTR ? 0 : errno;
            continue;
        }
        unsigned n = (unsigned)got;
        for (struct nlmsghdr *h = (struct nlmsghdr *)buffer; NLMSG_OK(h, n) && !done; h = NLMSG_NEXT(h, n)) {
            if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR)
                done = true;
            else
                add_route(list, h);
        }
    }
    if (fd >= 0)
        close(fd);
    if (!err)
        return list;
    g_array_unref(list);
    manage_fail_errno(error, err, "cannot read the routes of the host");
    return NULL;
}

/* ---- /sys and /proc ---- */

bool net_sysctl(const char *value, GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *name = g_strdup_vprintf(format, args), *path = g_strconcat("/proc/sys/", name, NULL), *now = NULL;
    va_end(args);
    if (g_file_get_contents(path, &now, NULL, NULL) && !strcmp(g_strchomp(now), value))
        return true; /* /proc/sys may be read-only, with all as it should be */
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, value, strlen(value)) == (ssize_t)strlen(value);
    int err = errno;
    if (fd >= 0)
        close(fd);
    return ok || manage_fail_errno(error, err, "cannot set '%s' to %s", path, value);
}
