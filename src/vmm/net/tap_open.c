/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opens TAP interfaces: by name, by descriptor, by a helper program that may do what this process may not. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/keyval.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "vmm/net/net.h"
#include "vmm/net/net_fd.h"
#include "vmm/net/tap.h"
#include "vmm/net/vhost.h"

#define DEFAULT_SCRIPT "/etc/qemu-ifup"
#define DEFAULT_DOWNSCRIPT "/etc/qemu-ifdown"
#define DEFAULT_HELPER "/usr/lib/qemu/qemu-bridge-helper"
#define DEFAULT_BRIDGE "br0"

struct tap_options {
    char *ifname, *fd, *fds, *script, *downscript, *helper, *br, *vhostfd, *vhostfds;
    uint64_t queues, sndbuf, poll_us;
    bool vnet_hdr, vhost, vhostforce;
};
#define T(member) offsetof(struct tap_options, member)

static const struct keyval_key tap_keys[] = {
    { "ifname", KV_STRING, T(ifname), "name of the interface; %d in it stands for a number" },
    { "fd", KV_STRING, T(fd), "an open TAP interface" },
    { "fds", KV_STRING, T(fds), "several queues of one, separated by ':'" },
    { "script", KV_STRING, T(script), "program that sets the interface up, or no" },
    { "downscript", KV_STRING, T(downscript), "program that is run at the end, or no" },
    { "helper", KV_STRING, T(helper), "program that opens the interface" },
    { "br", KV_STRING, T(br), "bridge for the helper" },
    { "queues", KV_UINT, T(queues), "number of queues", NULL, 1, TAP_MAX_QUEUES },
    { "sndbuf", KV_SIZE, T(sndbuf), "bytes on their way before the guest waits; 0: no bound", NULL, 0, INT_MAX },
    { "vnet_hdr", KV_BOOL, T(vnet_hdr), "offloads" },
    { "vhost", KV_BOOL, T(vhost), "frames by the kernel" },
    { "vhostforce", KV_BOOL, T(vhostforce), "an error when the kernel cannot" },
    { "vhostfd", KV_STRING, T(vhostfd), "an open /dev/vhost-net" },
    { "vhostfds", KV_STRING, T(vhostfds), "one for each queue" },
    { "poll-us", KV_UINT, T(poll_us), "for vhost: microseconds of polling", NULL, 0, INT_MAX },
    { NULL }
};
static const struct keyval_key bridge_keys[] = {
    { "br", KV_STRING, T(br), "name of the bridge" }, { "helper", KV_STRING, T(helper), "program that opens the interface" }, { NULL }
};

static void options_clear(struct tap_options *o)
{
    char *all[] = { o->ifname, o->fd, o->fds, o->script, o->downscript, o->helper, o->br, o->vhostfd, o->vhostfds };
    for (unsigned i = 0; i < G_N_ELEMENTS(all); i++)
        g_free(all[i]);
}

static bool is_no(const char *script)
{
    return script && (!*script || !strcmp(script, "no"));
}

/* ---- what the host says about an interface ---- */

static bool read_attribute(const char *name, const char *attribute, long *ret)
{
    g_autofree char *path = g_strdup_printf("/sys/class/net/%s/%s", name, attribute), *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, NULL))
        return false;
    *ret = strtol(text, NULL, 0);
    return true;
}

static bool exists(const char *name)
{
    return if_nametoindex(name) != 0;
}

/* /sys may be that of another network namespace, or not there at all. */
static bool in_sysfs(const char *name)
{
    g_autofree char *path = g_strdup_printf("/sys/class/net/%s", name);
    return !access(path, F_OK);
}

static char *user_name(long uid)
{
    struct passwd *p = uid >= 0 ? getpwuid((uid_t)uid) : NULL;
    return p ? g_strdup_printf("'%s'", p->pw_name) : g_strdup_printf("%ld", uid);
}

static bool cannot_attach(const char *name, int err, bool several, GError **error)
{
    long flags = 0, owner = -1;
    bool there = exists(name), seen = there && in_sysfs(name), tap = seen && read_attribute(name, "tun_flags", &flags);
    g_autofree char *me = user_name((long)geteuid());
    if (seen && !tap)
        return vireo_fail(error, VIREO_ERROR_BUSY, "tap: the interface '%s' exists and is not a TAP interface; choose another ifname", name);
    if (err == EPERM && there) {
        read_attribute(name, "owner", &owner);
        g_autofree char *whose = owner >= 0 ? user_name(owner) : g_strdup(seen ? "nobody (only root)" : "that is another one");
        return vireo_fail(error, VIREO_ERROR_PERMISSION, "tap: the interface '%s' belongs to user %s, and this is user %s; run as that user, or "
                          "make it again: ip tuntap del %s mode tap; ip tuntap add %s mode tap user %s", name, whose, me, name, name, me);
    }
    if (err == EPERM)
        return vireo_fail(error, VIREO_ERROR_PERMISSION, "tap: user %s may not make the interface '%s'; as root: ip tuntap add %s mode tap user "
                          "%s, or give the capability CAP_NET_ADMIN, or use helper=" DEFAULT_HELPER, me, name, name, me);
    if (err == EBUSY && there)
        return vireo_fail(error, VIREO_ERROR_BUSY, "tap: another program uses the interface '%s'; end it or choose another ifname", name);
    if (err == EINVAL && tap && !(flags & IFF_TAP))
        return vireo_fail(error, VIREO_ERROR_BUSY, "tap: the interface '%s' is of kind tun, not tap; choose another ifname", name);
    if (err == EINVAL && tap && !!(flags & IFF_MULTI_QUEUE) != several)
        return vireo_fail(error, VIREO_ERROR_INVALID, "tap: the interface '%s' was made with%s multi_queue, and queues=%s; %s", name,
                          several ? "out" : "", several ? "N is given" : "1",
                          several ? "leave out queues=, or make it again: ip tuntap add NAME mode tap multi_queue" : "add queues=N");
    if (err == E2BIG)
        return vireo_fail(error, VIREO_ERROR_INVALID, "tap: the interface '%s' has no room for another queue; lower queues=", name);
    return vireo_fail_errno(error, err, "tap: cannot attach to the interface '%s'", name);
}

/* ---- opening ---- */

static int open_tun(GError **error)
{
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK), err = errno;
    if (fd >= 0)
        return fd;
    if (err == ENOENT || err == ENODEV || err == ENXIO)
        vireo_fail_errno(error, err, "tap: cannot open /dev/net/tun; load the module tun (modprobe tun), or in a container give it the device");
    else if (err == EACCES || err == EPERM)
        vireo_fail_errno(error, err, "tap: no permission for /dev/net/tun; make it readable and writable for this user (its usual mode is 0666), "
                         "or pass an open interface with fd=N, or use -netdev bridge");
    else
        vireo_fail_errno(error, err, "tap: cannot open /dev/net/tun");
    return -1;
}

static bool open_named(const struct tap_options *o, struct tap_queues *q, GError **error)
{
    unsigned n = o->queues ? (unsigned)o->queues : 1, features = 0;
    g_strlcpy(q->name, o->ifname ? o->ifname : "tap%d", sizeof(q->name));
    if (o->ifname && strlen(o->ifname) >= IFNAMSIZ)
        return vireo_fail(error, VIREO_ERROR_INVALID, "tap: ifname=%s is too long; an interface has at most %d characters", o->ifname, IFNAMSIZ - 1);
    for (unsigned i = 0; i < n; i++) {
        struct ifreq r = { .ifr_flags = IFF_TAP | IFF_NO_PI | (n > 1 ? IFF_MULTI_QUEUE : 0) };
        int fd = open_tun(error);
        if (fd < 0)
            return false;
        q->fd[q->n++] = fd;
        if (!i && o->vnet_hdr && !ioctl(fd, TUNGETFEATURES, &features))
            q->header = features & IFF_VNET_HDR;
        r.ifr_flags |= q->header ? IFF_VNET_HDR : 0;
        memcpy(r.ifr_name, q->name, sizeof(r.ifr_name));
        if (ioctl(fd, TUNSETIFF, &r) < 0)
            return cannot_attach(q->name, errno, n > 1, error);
        memcpy(q->name, r.ifr_name, sizeof(q->name));
    }
    return true;
}

static bool adopt(int fd, bool want_header, struct tap_queues *q, GError **error)
{
    struct ifreq r = { 0 };
    if (q->n == TAP_MAX_QUEUES) {
        close(fd);
        return vireo_fail(error, VIREO_ERROR_INVALID, "tap: more than %d descriptors", TAP_MAX_QUEUES);
    }
    q->fd[q->n++] = fd;
    if (ioctl(fd, TUNGETIFF, &r) < 0)
        return vireo_fail(error, VIREO_ERROR_INVALID, "tap: descriptor %d is not a TAP interface", fd);
    if (!(r.ifr_flags & IFF_TAP) || !(r.ifr_flags & IFF_NO_PI))
        return vireo_fail(error, VIREO_ERROR_INVALID, "tap: the interface '%.15s' of descriptor %d needs the flags IFF_TAP and IFF_NO_PI", r.ifr_name, fd);
    bool header = r.ifr_flags & IFF_VNET_HDR;
    if (q->n > 1 && (header != q->header || strncmp(q->name, r.ifr_name, IFNAMSIZ)))
        return vireo_fail(error, VIREO_ERROR_INVALID, "tap: the descriptors are not queues of one interface ('%s' and '%.15s')", q->name, r.ifr_name);
    if (header && !want_header)
        return vireo_fail(error, VIREO_ERROR_INVALID, "tap: vnet_hdr=off, but the interface '%.15s' has the flag IFF_VNET_HDR", r.ifr_name);
    q->header = header;
    memcpy(q->name, r.ifr_name, sizeof(q->name));
    return true;
}

static bool open_passed(const struct tap_options *o, struct tap_queues *q, GError **error)
{
    g_auto(GStrv) names = g_strsplit(o->fds ? o->fds : o->fd, o->fds ? ":" : "\n", -1);
    unsigned n = g_strv_length(names);
    if (o->ifname || o->script || o->downscript || o->helper || o->br || o->queues || (o->fd && o->fds))
        return vireo_fail(error, VIREO_ERROR_INVALID, "tap: %s= names the interface; leave out ifname, script, downscript, helper, br, queues%s",
                          o->fds ? "fds" : "fd", o->fd && o->fds ? ", and one of fd and fds" : "");
    if (!n || n > TAP_MAX_QUEUES)
        return vireo_fail(error, VIREO_ERROR_INVALID, "tap: fds= takes 1 to %d descriptors", TAP_MAX_QUEUES);
    for (unsigned i = 0; i < n; i++) {
        int fd = net_fd_take("tap", names[i], error);
        if (fd < 0 || !adopt(fd, o->vnet_hdr, q, error))
            return false;
    }
    return true;
}

static bool set_buffers(const struct tap_options *o, struct tap_queues *q, GError **error)
{
    int size = NET_HEADER;
    for (unsigned i = 0; i < q->n; i++) {
        int sndbuf = o->sndbuf ? (int)o->sndbuf : INT_MAX;
        if (q->header && ioctl(q->fd[i], TUNSETVNETHDRSZ, &size) < 0)
            return vireo_fail_errno(error, errno, "tap: the interface '%s' takes no headers of %d bytes; add vnet_hdr=off", q->name, size);
        if (ioctl(q->fd[i], TUNSETSNDBUF, &sndbuf) < 0 && o->sndbuf)
            return vireo_fail_errno(error, errno, "tap: sndbuf=%d is not possible on '%s'", sndbuf, q->name);
        fcntl(q->fd[i], F_SETFL, fcntl(q->fd[i], F_GETFL) | O_NONBLOCK);
        fcntl(q->fd[i], F_SETFD, FD_CLOEXEC);
    }
    return true;
}

/* ---- programs: all of them start before the sandbox is closed ---- */

/* Runs it and waits; keep_fd (or -1) stays open in it. Its exit status, or -1 with errno. */
static int run_program(char *const *argv, int keep_fd)
{
    int status = 0;
    pid_t pid = fork();
    if (pid < 0)
        return -1;
    if (!pid) {
        if (keep_fd >= 0)
            fcntl(keep_fd, F_SETFD, 0);
        execv(argv[0], argv);
        _exit(127);
    }
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return -1;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static bool run_script(const char *script, const char *name, GError **error)
{
    char *argv[] = { (char *)script, (char *)name, NULL };
    if (access(script, X_OK))
        return vireo_fail_errno(error, errno, "tap: cannot run script=%s; script=no leaves it out", script);
    int status = run_program(argv, -1);
    return !status || vireo_fail(error, VIREO_ERROR_FAILED, "tap: script=%s ended with status %d for the interface '%s'", script, status, name);
}

/* After set-up no program can be started any more. So this one is forked now, and waits until this process closes the pipe or ends. */
static bool run_at_end(const char *script, struct tap_queues *q, GError **error)
{
    char *argv[] = { (char *)script, q->name, NULL }, byte;
    int ends[2];
    if (access(script, X_OK))
        return vireo_fail_errno(error, errno, "tap: cannot run downscript=%s; downscript=no leaves it out", script);
    if (pipe2(ends, O_CLOEXEC))
        return vireo_fail_errno(error, errno, "tap: cannot make a pipe");
    pid_t pid = fork();
    if (!pid) {
        dup2(ends[0], 0);
        close_range(3, ~0u, 0);
        setsid();
        while (read(0, &byte, 1) < 0 && errno == EINTR)
            ;
        execv(argv[0], argv);
        _exit(127);
    }
    close(ends[0]);
    q->at_end = ends[1];
    return pid > 0 || vireo_fail_errno(error, errno, "tap: cannot start a process");
}

static int receive_fd(int from)
{
    char byte, space[CMSG_SPACE(sizeof(int))];
    struct iovec iov = { &byte, 1 };
    struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space) };
    ssize_t n;
    int fd = -1;
    do {
        n = recvmsg(from, &h, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&h) : NULL;
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(&fd, CMSG_DATA(c), sizeof(fd));
    return fd;
}

/* The helper's side of the agreement: "--use-vnet --fd=N --br=NAME", and the interface comes as SCM_RIGHTS over N. A helper with
 * a space in it is a command line for the shell, to which those are added unless it has them. */
static bool open_helped(const char *helper, const char *br, bool header, struct tap_queues *q, GError **error)
{
    int pair[2];
    if (!helper)
        helper = DEFAULT_HELPER;
    if (!br)
        br = DEFAULT_BRIDGE;
    bool shell = strpbrk(helper, " \t");
    if (!shell && access(helper, X_OK))
        return vireo_fail_errno(error, errno, "bridge: cannot run helper=%s; Debian's is " DEFAULT_HELPER " of the package qemu-system-common",
                                helper);
    if (!exists(br))
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "bridge: there is no bridge '%s'; make it: ip link add %s type bridge; ip link set %s up, or "
                          "give another with br=", br, br, br);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        return vireo_fail_errno(error, errno, "bridge: cannot make a pair of sockets");
    g_autofree char *fd_arg = g_strdup_printf("--fd=%d", pair[1]), *br_arg = g_strdup_printf("--br=%s", br);
    g_autofree char *quoted = g_shell_quote(br_arg);
    g_autofree char *line = g_strdup_printf("exec %s%s %s%s%s", helper, header ? " --use-vnet" : "", fd_arg, strstr(helper, "--br=") ? "" : " ",
                                            strstr(helper, "--br=") ? "" : quoted);
    char *direct[] = { (char *)helper, header ? "--use-vnet" : fd_arg, header ? fd_arg : br_arg, header ? br_arg : NULL, NULL };
    char *by_shell[] = { "/bin/sh", "-c", line, NULL };
    int status = run_program(shell ? by_shell : direct, pair[1]);
    close(pair[1]);
    int fd = receive_fd(pair[0]);
    close(pair[0]);
    if (fd < 0)
        return vireo_fail(error, VIREO_ERROR_FAILED, "bridge: the helper '%s' gave no interface on '%s' (exit status %d); it may want a line "
                          "'allow %s' in /etc/qemu/bridge.conf, and the set-user-ID bit", helper, br, status, br);
    return adopt(fd, true, q, error);
}

/* ---- vhost ---- */

static bool open_vhosts(const struct tap_options *o, struct tap_queues *q, GError **error)
{
    const char *text = o->vhostfds ? o->vhostfds : o->vhostfd;
    g_auto(GStrv) names = text ? g_strsplit(text, o->vhostfds ? ":" : "\n", -1) : NULL;
    if (text && g_strv_length(names) != q->n)
        return vireo_fail(error, VIREO_ERROR_INVALID, "tap: %s= names %u descriptors for %u queues", o->vhostfds ? "vhostfds" : "vhostfd",
                          g_strv_length(names), q->n);
    for (unsigned i = 0; i < q->n; i++) {
        int fd = text ? net_fd_take("tap: vhostfd", names[i], error) : -1;
        q->vhost[i] = text && fd < 0 ? NULL : vhost_open(fd, error);
        if (!q->vhost[i])
            return false;
    }
    return true;
}

/* Without vhostforce the process does the kernel's work where that cannot. */
static bool set_up_vhost(const struct tap_options *o, struct tap_queues *q, GError **error)
{
    g_autoptr(GError) e = NULL;
    if (!o->vhost && !o->vhostforce && !o->vhostfd && !o->vhostfds)
        return true;
    q->vhost_forced = o->vhostforce;
    if (!q->header)
        vireo_fail(&e, VIREO_ERROR_INVALID, "vhost: the interface has no headers (vnet_hdr=off)");
    if (!e && open_vhosts(o, q, &e))
        return true;
    if (o->vhostforce || o->vhostfd || o->vhostfds) {
        g_propagate_error(error, g_steal_pointer(&e));
        return false;
    }
    log_warn("tap: %s; going on without vhost", e->message);
    for (unsigned i = 0; i < q->n; i++)
        g_clear_pointer(&q->vhost[i], vhost_close);
    return true;
}

/* ---- the options ---- */

static bool load(GHashTable *opts, const struct keyval_key *keys, struct tap_options *o, GError **error)
{
    keyval_auto *kv = keyval_from_hash(opts);
    return keyval_load(kv, keys, o, error);
}

/* seccomp(main): ioctl(TUNGETIFF TUNSETVNETHDRSZ TUNSETSNDBUF) fcntl(F_GETFL F_SETFL F_GETFD F_SETFD) */
static bool open_and_set_up(struct tap_options *o, struct tap_queues *q, GError **error)
{
    if (o->fd || o->fds)
        return open_passed(o, q, error) && set_buffers(o, q, error);
    if (!sandbox_may_open("a TAP interface by name", error))
        return false;
    if (o->helper) {
        if (o->ifname || o->script || o->downscript || o->queues)
            return vireo_fail(error, VIREO_ERROR_INVALID, "tap: helper= opens the interface; leave out ifname, script, downscript, queues");
        return open_helped(o->helper, o->br, o->vnet_hdr, q, error) && set_buffers(o, q, error);
    }
    const char *script = o->script ? o->script : access(DEFAULT_SCRIPT, X_OK) ? "no" : DEFAULT_SCRIPT;
    const char *down = o->downscript ? o->downscript : access(DEFAULT_DOWNSCRIPT, X_OK) ? "no" : DEFAULT_DOWNSCRIPT;
    if (!open_named(o, q, error) || !set_buffers(o, q, error))
        return false;
    if (!is_no(script) && !run_script(script, q->name, error))
        return false;
    return is_no(down) || run_at_end(down, q, error);
}

bool tap_open(GHashTable *opts, struct tap_queues *ret, GError **error)
{
    struct tap_options o = { .vnet_hdr = true };
    bool ok = load(opts, tap_keys, &o, error) && open_and_set_up(&o, ret, error) && set_up_vhost(&o, ret, error);
    options_clear(&o);
    return ok;
}

bool tap_open_bridge(GHashTable *opts, struct tap_queues *ret, GError **error)
{
    struct tap_options o = { .vnet_hdr = true };
    bool ok = load(opts, bridge_keys, &o, error) && sandbox_may_open("a TAP interface by a helper", error) && open_helped(o.helper, o.br, true, ret, error) && set_buffers(&o, ret, error);
    options_clear(&o);
    return ok;
}

void tap_close(struct tap_queues *q)
{
    if (q->at_end > 0)
        close(q->at_end);
    q->at_end = 0;
    while (q->n) {
        vhost_close(q->vhost[--q->n]);
        close(q->fd[q->n]);
    }
}
