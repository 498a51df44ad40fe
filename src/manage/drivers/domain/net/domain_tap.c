/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Taps: a network card of the host whose other end is a descriptor. They vanish with the last descriptor, so nothing has to be tidied up after a crash. */
#include "manage/drivers/domain/command/domain_plan.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static int open_queue(struct ifreq *r, bool several, GError **error)
{
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        manage_fail_errno(error, errno, "/dev/net/tun cannot be opened: a network card in a bridge needs it (root, and the kernel's tun module)");
        return -1;
    }
    r->ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (several ? IFF_MULTI_QUEUE : 0);
    if (ioctl(fd, TUNSETIFF, r) < 0) {
        manage_fail_errno(error, errno, "the tap '%s' cannot be made", r->ifr_name);
        close(fd);
        return -1;
    }
    return fd;
}

/* The host's end has an address that the bridge does not take for its own: it must not be the lowest of the bridge's. */
static bool set_address(int s, const char *name, const char *mac)
{
    struct ifreq r = { 0 };
    unsigned b[6];
    g_strlcpy(r.ifr_name, name, IFNAMSIZ);
    if (sscanf(mac, "%2x:%2x:%2x:%2x:%2x:%2x", b, b + 1, b + 2, b + 3, b + 4, b + 5) != 6)
        return false;
    r.ifr_hwaddr.sa_family = 1; /* Ethernet */
    for (unsigned i = 0; i < 6; i++)
        r.ifr_hwaddr.sa_data[i] = (char)(i ? b[i] : 0xfe);
    return ioctl(s, SIOCSIFHWADDR, &r) == 0;
}

static bool join(int s, const char *name, const char *bridge, unsigned mtu, GError **error)
{
    struct ifreq r = { 0 };
    g_strlcpy(r.ifr_name, bridge, IFNAMSIZ);
    if (!if_nametoindex(bridge))
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "there is no bridge '%s'", bridge);
    if (!mtu && ioctl(s, SIOCGIFMTU, &r) == 0)
        mtu = (unsigned)r.ifr_mtu;
    memset(&r, 0, sizeof(r));
    g_strlcpy(r.ifr_name, name, IFNAMSIZ);
    r.ifr_mtu = (int)mtu;
    if (mtu && ioctl(s, SIOCSIFMTU, &r) < 0)
        return manage_fail_errno(error, errno, "the tap '%s' does not take an MTU of %u", name, mtu);
    memset(&r, 0, sizeof(r));
    g_strlcpy(r.ifr_name, bridge, IFNAMSIZ);
    r.ifr_ifindex = (int)if_nametoindex(name);
    if (ioctl(s, SIOCBRADDIF, &r) < 0)
        return manage_fail_errno(error, errno, "the tap '%s' cannot join '%s': is that a bridge?", name, bridge);
    return true;
}

static bool set_up(int s, const char *name, GError **error)
{
    struct ifreq r = { 0 };
    g_strlcpy(r.ifr_name, name, IFNAMSIZ);
    if (ioctl(s, SIOCGIFFLAGS, &r) == 0) {
        r.ifr_flags |= IFF_UP;
        if (ioctl(s, SIOCSIFFLAGS, &r) == 0)
            return true;
    }
    return manage_fail_errno(error, errno, "the tap '%s' cannot be switched on", name);
}

int domain_tap_new(const char *bridge, const char *mac, unsigned mtu, unsigned queues, char **ret_name, GArray *ret_fds, GError **error)
{
    struct ifreq r = { 0 };
    unsigned before = ret_fds->len;
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (s < 0) {
        manage_fail_errno(error, errno, "no socket");
        return -1;
    }
    g_strlcpy(r.ifr_name, ret_name && *ret_name ? *ret_name : "vnet%d", IFNAMSIZ);
    bool good = true;
    for (unsigned i = 0; good && i < queues; i++) {
        int fd = open_queue(&r, queues > 1, error);
        good = fd >= 0;
        if (good)
            g_array_append_val(ret_fds, fd);
    }
    good = good && (set_address(s, r.ifr_name, mac) || manage_fail_errno(error, errno, "the tap '%s' does not take an address", r.ifr_name)) &&
           (!bridge || join(s, r.ifr_name, bridge, mtu, error)) && set_up(s, r.ifr_name, error);
    close(s);
    if (good) {
        g_free(*ret_name);
        *ret_name = g_strdup(r.ifr_name);
        return 0;
    }
    while (ret_fds->len > before) {
        close(g_array_index(ret_fds, int, ret_fds->len - 1));
        g_array_set_size(ret_fds, ret_fds->len - 1);
    }
    return -1;
}

bool domain_tap_move(const char *name, const char *from, const char *to, unsigned mtu, GError **error)
{
    struct ifreq r = { 0 };
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (s < 0)
        return manage_fail_errno(error, errno, "no socket");
    g_strlcpy(r.ifr_name, from, IFNAMSIZ);
    r.ifr_ifindex = (int)if_nametoindex(name);
    ioctl(s, SIOCBRDELIF, &r); /* somebody else may have taken it out */
    bool good = join(s, name, to, mtu, error);
    if (!good)
        join(s, name, from, mtu, NULL);
    close(s);
    return good;
}

void domain_tap_remove(G_GNUC_UNUSED const char *name)
{
    /* Not persistent: it went with the machine's descriptor. */
}
