/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Network interfaces: link and offloads, as ethtool's requests tell them. */
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "nodedev.h"

/* In the order in which they are shown. flag 0: the request's answer is yes or no. */
static const struct {
    const char *name;
    uint32_t request, flag;
} features[] = {
    { "rx", ETHTOOL_GRXCSUM, 0 }, { "tx", ETHTOOL_GTXCSUM, 0 }, { "sg", ETHTOOL_GSG, 0 }, { "tso", ETHTOOL_GTSO, 0 }, { "gso", ETHTOOL_GGSO, 0 },
    { "gro", ETHTOOL_GGRO, 0 }, { "lro", ETHTOOL_GFLAGS, ETH_FLAG_LRO }, { "rxvlan", ETHTOOL_GFLAGS, ETH_FLAG_RXVLAN },
    { "txvlan", ETHTOOL_GFLAGS, ETH_FLAG_TXVLAN }, { "ntuple", ETHTOOL_GFLAGS, ETH_FLAG_NTUPLE }, { "rxhash", ETHTOOL_GFLAGS, ETH_FLAG_RXHASH },
};

static bool ask(int fd, const char *interface, void *request)
{
    struct ifreq r = { 0 };
    g_strlcpy(r.ifr_name, interface, sizeof(r.ifr_name));
    r.ifr_data = request;
    return ioctl(fd, SIOCETHTOOL, &r) == 0;
}

static void put_feature(struct el *cap, const char *name) { el_set(el_add(cap, "feature"), "@name", name); }

/* Bit 25 of the kernel's features: segmentation of UDP tunnels. */
static bool udp_tunnels(int fd, const char *interface)
{
    enum { BIT = 25 };
    union {
        struct ethtool_gfeatures head;
        uint8_t space[sizeof(struct ethtool_gfeatures) + 2 * sizeof(struct ethtool_get_features_block)];
    } f = { .head = { .cmd = ETHTOOL_GFEATURES, .size = 2 } };
    return ask(fd, interface, &f.head) && (f.head.features[BIT / 32].active & (1u << BIT % 32));
}

void nodedev_describe_net(struct el *cap, struct udev_device *u)
{
    const char *name = udev_device_get_sysname(u);
    g_autofree char *address = nodedev_attr(u, "address"), *state = nodedev_attr(u, "operstate"), *speed = nodedev_attr(u, "speed");
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    el_set(cap, "interface", name);
    if (address)
        el_set(cap, "address", address);
    struct el *link = el_add(cap, "link");
    if (speed && !g_strcmp0(state, "up") && strtol(speed, NULL, 10))
        el_setf(link, "@speed", "%u", (unsigned)strtol(speed, NULL, 10)); /* unknown is -1, and shown so */
    if (state && *state)
        el_set(link, "@state", state);
    for (unsigned i = 0; i < G_N_ELEMENTS(features) && fd >= 0; i++) {
        struct ethtool_value v = { features[i].request, 0 };
        if (ask(fd, name, &v) && (features[i].flag ? v.data & features[i].flag : v.data))
            put_feature(cap, features[i].name);
    }
    if (fd >= 0 && udp_tunnels(fd, name))
        put_feature(cap, "txudptnl");
    if (fd >= 0)
        close(fd);
    bool wireless = !g_strcmp0(udev_device_get_devtype(u), "wlan");
    el_set(el_add(cap, "capability"), "@type", wireless ? "80211" : "80203");
}
