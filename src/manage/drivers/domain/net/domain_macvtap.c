/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manage/drivers/domain/net/domain_macvtap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "manage/core/manage.h"
#include "manage/core/manage_netlink.h"

enum { NAMES = 8192, DEVICE_WAIT_MS = 2000 };
#define RECORD "macvtap-"

/* ---- the file ---- */

static char *record_path(const char *dir, const char *name) { return g_strconcat(dir, "/" RECORD, name, NULL); }

/* "GUEST'S-ADDRESS DEVICE-BELOW ITS-ADDRESS-BEFORE", the last "-" where it keeps its own. */
static bool write_record(const struct domain_macvtap *m, const char *name, const char *before, GError **error)
{
    g_autofree char *path = record_path(m->dir, name), *text = g_strdup_printf("%s %s %s\n", m->mac, m->lower, before ? before : "-");
    return manage_write_file(path, text, -1, 0600, error);
}

/* ---- the devices ---- */

static bool set_address(const char *device, const char *mac, GError **error)
{
    struct netlink_request r;
    uint8_t bytes[6];
    netlink_begin(&r, RTM_NEWLINK, 0);
    struct ifinfomsg *info = netlink_payload(&r, sizeof *info);
    info->ifi_index = (int)if_nametoindex(device);
    int err = !manage_mac_parse(mac, bytes) ? EINVAL : !info->ifi_index ? ENODEV : 0;
    netlink_attr(&r, IFLA_ADDRESS, bytes, 6);
    err = err ? err : netlink_transact(&r);
    return !err || manage_fail_errno(error, err, "cannot give '%s' the address %s", device, mac);
}

static uint32_t mode_number(const char *mode)
{
    static const struct { const char *name; uint32_t number; } rows[] = { { "private", MACVLAN_MODE_PRIVATE }, { "vepa", MACVLAN_MODE_VEPA }, { "bridge", MACVLAN_MODE_BRIDGE },
                                                                          { "passthrough", MACVLAN_MODE_PASSTHRU } };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
        if (g_str_equal(rows[i].name, mode))
            return rows[i].number;
    return MACVLAN_MODE_VEPA;
}

/* 0 or an errno value. */
static int create(const struct domain_macvtap *m, const char *name)
{
    struct netlink_request r;
    uint8_t mac[6];
    if (!manage_mac_parse(m->mac, mac))
        return EINVAL;
    netlink_begin(&r, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
    struct ifinfomsg *info = netlink_payload(&r, sizeof *info);
    info->ifi_family = AF_UNSPEC;
    netlink_attr_u32(&r, IFLA_LINK, if_nametoindex(m->lower));
    netlink_attr(&r, IFLA_IFNAME, name, (unsigned)strlen(name) + 1);
    netlink_attr(&r, IFLA_ADDRESS, mac, 6);
    netlink_attr_u32(&r, IFLA_NUM_TX_QUEUES, m->queues);
    netlink_attr_u32(&r, IFLA_NUM_RX_QUEUES, m->queues);
    struct rtattr *link = netlink_nest(&r, IFLA_LINKINFO);
    netlink_attr(&r, IFLA_INFO_KIND, "macvtap", 7);
    struct rtattr *data = netlink_nest(&r, IFLA_INFO_DATA);
    netlink_attr_u32(&r, IFLA_MACVLAN_MODE, mode_number(m->mode));
    netlink_nest_end(&r, data);
    netlink_nest_end(&r, link);
    return netlink_transact(&r);
}

static bool cannot_create(const struct domain_macvtap *m, const char *name, int err, GError **error)
{
    const char *why = err == EOPNOTSUPP ? "the kernel has no macvtap (modprobe macvtap)"
                      : err == EPERM    ? "the daemon lacks CAP_NET_ADMIN"
                      : err == EBUSY    ? "the device is in a bridge or a bond, or belongs to another guest in mode passthrough"
                      : err == EINVAL   ? "the device does not take one: mode passthrough needs it for itself, and a loopback device takes none"
                                        : g_strerror(err);
    return manage_fail(error, err == EOPNOTSUPP ? VIR_ERR_CONFIG_UNSUPPORTED : VIR_ERR_SYSTEM_ERROR, "cannot make the macvtap '%s' on '%s' in mode %s: %s", name, m->lower, m->mode, why);
}

/* The record comes first; a name that is another's by now does not count. */
static int create_recorded(const struct domain_macvtap *m, const char *name, const char *before, GError **error)
{
    g_autofree char *path = record_path(m->dir, name);
    if (!write_record(m, name, before, error))
        return -1;
    int err = create(m, name);
    if (err)
        unlink(path);
    return err;
}

static bool create_named(const struct domain_macvtap *m, const char *before, char **name, GError **error)
{
    int err = EEXIST;
    if (*name) {
        if (strlen(*name) >= IFNAMSIZ || strchr(*name, '/'))
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "'%s' is no name for a device: at most %d characters, without '/'", *name, IFNAMSIZ - 1);
        err = create_recorded(m, *name, before, error);
    }
    for (unsigned i = 0; !*name && err == EEXIST && i < NAMES; i++) {
        g_autofree char *next = g_strdup_printf("macvtap%u", i);
        if (!manage_link_exists(next) && (err = create_recorded(m, next, before, error)) != EEXIST)
            *name = g_steal_pointer(&next);
    }
    if (err > 0)
        cannot_create(m, *name ? *name : "macvtap%d", err, error);
    return err == 0;
}

/* ---- its descriptors ---- */

/* A host whose /dev is not filled by the kernel: the numbers are in /sys. */
static int open_by_number(const struct domain_macvtap *m, const char *name, unsigned index)
{
    unsigned major, minor;
    g_autofree char *numbers = g_strdup_printf("/sys/class/net/%s/tap%u/dev", name, index), *text = NULL, *node = g_strdup_printf("%s/tap%u", m->dir, index);
    if (!g_file_get_contents(numbers, &text, NULL, NULL) || sscanf(text, "%u:%u", &major, &minor) != 2 || mknod(node, S_IFCHR | 0600, makedev(major, minor)) < 0)
        return -1;
    int fd = open(node, O_RDWR | O_CLOEXEC);
    unlink(node);
    return fd;
}

static int open_device(const struct domain_macvtap *m, const char *name, GError **error)
{
    unsigned index = if_nametoindex(name);
    g_autofree char *path = g_strdup_printf("/dev/tap%u", index);
    int fd = open(path, O_RDWR | O_CLOEXEC), err = errno;
    if (fd < 0 && err == ENOENT)
        fd = open_by_number(m, name, index);
    for (unsigned i = 0; fd < 0 && err == ENOENT && i < DEVICE_WAIT_MS / 10; i++) { /* udev may make it by and by */
        g_usleep(10000);
        fd = open(path, O_RDWR | O_CLOEXEC);
    }
    if (fd < 0)
        manage_fail_errno(error, err, "cannot open '%s' of the macvtap '%s'", path, name);
    return fd;
}

static bool open_queues(const struct domain_macvtap *m, const char *name, GArray *fds, GError **error)
{
    for (unsigned i = 0; i < m->queues; i++) {
        struct ifreq r = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (m->queues > 1 ? IFF_MULTI_QUEUE : 0) };
        int fd = open_device(m, name, error);
        if (fd < 0)
            return false;
        g_array_append_val(fds, fd);
        if (ioctl(fd, TUNSETIFF, &r) < 0)
            return manage_fail_errno(error, errno, "the macvtap '%s' cannot be set up", name);
    }
    return true;
}

static void close_from(GArray *fds, unsigned before)
{
    while (fds->len > before) {
        close(g_array_index(fds, int, fds->len - 1));
        g_array_set_size(fds, fds->len - 1);
    }
}

/* ---- making and taking away ---- */

bool domain_macvtap_new(const struct domain_macvtap *m, char **ret_name, GArray *ret_fds, GError **error)
{
    unsigned before = ret_fds->len;
    if (!manage_link_exists(m->lower))
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "there is no network device '%s' on the host for an interface of type 'direct'", m->lower);
    bool own = g_str_equal(m->mode, "passthrough");
    g_autofree char *old = own ? manage_link_mac(m->lower) : NULL, *name = g_strdup(*ret_name);
    if (!create_named(m, old, &name, error))
        return false;
    /* In mode passthrough the address of one is the other's. */
    bool good = set_address(own ? m->lower : name, m->mac, error) && manage_link_up(m->lower, true, error) && open_queues(m, name, ret_fds, error) && manage_link_up(name, true, error);
    if (!good) {
        close_from(ret_fds, before);
        domain_macvtap_remove(m->dir, name);
        return false;
    }
    g_free(*ret_name);
    *ret_name = g_steal_pointer(&name);
    return true;
}

void domain_macvtap_remove(const char *dir, const char *name)
{
    g_autofree char *path = record_path(dir, name), *text = NULL;
    g_autoptr(GError) error = NULL;
    if (!g_file_get_contents(path, &text, NULL, NULL))
        return;
    g_auto(GStrv) words = g_strsplit(g_strchomp(text), " ", 3); /* the guest's address, the device below, that one's address */
    if (g_strv_length(words) == 3) {
        g_autofree char *now = manage_link_mac(name);
        bool ours = now && (!g_ascii_strcasecmp(now, words[0]) || !g_ascii_strcasecmp(now, words[2]));
        if (ours && !manage_link_delete(name, &error))
            g_warning("%s", error->message);
        g_clear_error(&error);
        g_autofree char *lower = manage_link_mac(words[1]);
        if (!g_str_equal(words[2], "-") && lower && !g_ascii_strcasecmp(lower, words[0]) && !set_address(words[1], words[2], &error))
            g_warning("%s", error->message);
    }
    unlink(path);
}

void domain_macvtap_remove_all(const char *path)
{
    g_autoptr(GDir) dir = path ? g_dir_open(path, 0, NULL) : NULL;
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    const char *name;
    while (dir && (name = g_dir_read_name(dir)))
        if (g_str_has_prefix(name, RECORD))
            g_ptr_array_add(names, g_strdup(name + strlen(RECORD)));
    for (unsigned i = 0; i < names->len; i++)
        domain_macvtap_remove(path, names->pdata[i]);
}
