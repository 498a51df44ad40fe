/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/net/vhost.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/error.h"
#include "vmm/core/memory.h"

struct vhost {
    int fd;
    uint64_t features;
};

static bool failed(const char *what, GError **error)
{
    return vireo_fail_errno(error, errno, "vhost: %s", what);
}

static bool open_device(struct vhost *h, GError **error)
{
    h->fd = open("/dev/vhost-net", O_RDWR | O_CLOEXEC);
    if (h->fd >= 0)
        return true;
    int err = errno;
    if (err == ENOENT || err == ENODEV || err == ENXIO)
        return vireo_fail_errno(error, err, "vhost: cannot open /dev/vhost-net; load the module (modprobe vhost_net), or leave out vhost=on");
    return vireo_fail_errno(error, err, "vhost: cannot open /dev/vhost-net; give this user the right to it, pass it with vhostfd=N, or leave out "
                            "vhost=on");
}

/* seccomp(main): ioctl(VHOST_SET_OWNER VHOST_GET_FEATURES) */
struct vhost *vhost_open(int fd, GError **error)
{
    struct vhost *h = g_new0(struct vhost, 1);
    h->fd = fd;
    bool ok = fd >= 0 || open_device(h, error);
    ok = ok && (!ioctl(h->fd, VHOST_SET_OWNER) || failed("cannot become its owner; the descriptor may be in use", error));
    ok = ok && (!ioctl(h->fd, VHOST_GET_FEATURES, &h->features) || failed("it tells no features", error));
    if (ok)
        return h;
    vhost_close(h);
    return NULL;
}

void vhost_close(struct vhost *h)
{
    if (!h)
        return;
    if (h->fd >= 0)
        close(h->fd);
    g_free(h);
}

uint64_t vhost_features(const struct vhost *h)
{
    return h->features;
}

/* All RAM, as the kernel finds it in this process. */
static struct vhost_memory *memory_table(struct guest_memory *memory)
{
    g_autoptr(GArray) regions = g_array_new(FALSE, TRUE, sizeof(struct vhost_memory_region));
    uint64_t gpa, size;
    bool readonly;
    for (unsigned i = 0; guest_memory_ram_range(memory, i, &gpa, &size, &readonly); i++) {
        void *host = readonly ? NULL : guest_memory_ptr(memory, gpa, size, true);
        struct vhost_memory_region r = { .guest_phys_addr = gpa, .memory_size = size, .userspace_addr = (uintptr_t)host };
        if (host)
            g_array_append_val(regions, r);
    }
    struct vhost_memory *t = g_malloc0(sizeof(*t) + regions->len * sizeof(t->regions[0]));
    t->nregions = regions->len;
    for (unsigned i = 0; i < regions->len; i++)
        t->regions[i] = g_array_index(regions, struct vhost_memory_region, i);
    return t;
}

static bool set_ring(struct vhost *h, unsigned index, const struct vhost_ring *r, GError **error)
{
    struct vhost_vring_state number = { index, r->size }, base = { index, r->last_avail };
    struct vhost_vring_addr addr = { .index = index, .desc_user_addr = (uintptr_t)r->desc, .avail_user_addr = (uintptr_t)r->avail,
                                     .used_user_addr = (uintptr_t)r->used };
    struct vhost_vring_file kick = { index, r->kick }, call = { index, r->call };
    if (ioctl(h->fd, VHOST_SET_VRING_NUM, &number) || ioctl(h->fd, VHOST_SET_VRING_BASE, &base) || ioctl(h->fd, VHOST_SET_VRING_ADDR, &addr))
        return failed("the kernel does not take the guest's ring", error);
    if (ioctl(h->fd, VHOST_SET_VRING_KICK, &kick) || ioctl(h->fd, VHOST_SET_VRING_CALL, &call))
        return failed("the kernel does not take an eventfd", error);
    return true;
}

static void detach(struct vhost *h)
{
    for (unsigned i = 0; i < 2; i++) {
        struct vhost_vring_file none = { i, -1 };
        (void)!ioctl(h->fd, VHOST_NET_SET_BACKEND, &none);
    }
}

/* seccomp(device): ioctl(VHOST_SET_FEATURES VHOST_SET_MEM_TABLE VHOST_SET_VRING_NUM VHOST_SET_VRING_BASE VHOST_SET_VRING_ADDR)
 * seccomp(device): ioctl(VHOST_SET_VRING_KICK VHOST_SET_VRING_CALL VHOST_NET_SET_BACKEND VHOST_GET_VRING_BASE) */
bool vhost_start(struct vhost *h, struct guest_memory *memory, uint64_t features, const struct vhost_ring rings[2], int tap, GError **error)
{
    g_autofree struct vhost_memory *table = memory_table(memory);
    uint64_t wanted = features & h->features;
    if (ioctl(h->fd, VHOST_SET_FEATURES, &wanted))
        return failed("the kernel does not take the driver's features", error);
    if (ioctl(h->fd, VHOST_SET_MEM_TABLE, table))
        return failed("the kernel does not take the table of the guest's memory", error);
    for (unsigned i = 0; i < 2; i++) {
        if (!set_ring(h, i, &rings[i], error))
            return false;
    }
    for (unsigned i = 0; i < 2; i++) {
        struct vhost_vring_file backend = { i, tap };
        if (ioctl(h->fd, VHOST_NET_SET_BACKEND, &backend)) {
            failed("the kernel does not take the TAP interface", error);
            detach(h);
            return false;
        }
    }
    return true;
}

void vhost_stop(struct vhost *h, uint16_t ret_last_avail[2])
{
    detach(h);
    for (unsigned i = 0; i < 2; i++) {
        struct vhost_vring_state base = { i, 0 };
        (void)!ioctl(h->fd, VHOST_GET_VRING_BASE, &base);
        ret_last_avail[i] = (uint16_t)base.num;
    }
}
