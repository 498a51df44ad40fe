/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where a stream goes and comes from: descriptors of a client, sockets, a command's pipe. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fdset.h"
#include "base/sandbox.h"
#include "vmm/migrate/migrate_private.h"
#include "vmm/net/net_address.h"

enum { BUFFER = 1 << 20, WINDOW_US = 50000 };

/* seccomp(main): fcntl(F_GETFL F_SETFL) eventfd2 */
void channel_init(struct channel *c, int fd)
{
    struct stat st;
    *c = (struct channel){ .fd = fd, .cancel = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .buffer = g_malloc(BUFFER) };
    c->regular = !fstat(fd, &st) && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode));
    if (!c->regular)
        (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

void channel_clear(struct channel *c)
{
    if (c->fd >= 0)
        close(c->fd);
    if (c->cancel >= 0)
        close(c->cancel);
    g_free(c->buffer);
    *c = (struct channel){ .fd = -1, .cancel = -1 };
}

void channel_cancel(struct channel *c)
{
    uint64_t one = 1;
    (void)!write(c->cancel, &one, sizeof(one)); /* never read: it stays readable */
}

/* False: cancelled. */
static bool wait_for(struct channel *c, short what, int timeout_ms)
{
    struct pollfd fds[2] = { { .fd = c->cancel, .events = POLLIN }, { .fd = c->regular || !what ? -1 : c->fd, .events = what } };
    while (poll(fds, 2, c->regular && what ? 0 : timeout_ms) < 0 && errno == EINTR)
        ;
    return !(fds[0].revents & POLLIN);
}

static bool cancelled(GError **error)
{
    return vireo_fail(error, VIREO_ERROR_FAILED, "the migration was cancelled");
}

/* At most `limit` bytes a second, counted in pieces of WINDOW_US. */
static bool keep_limit(struct channel *c, GError **error)
{
    for (;;) {
        uint64_t limit = __atomic_load_n(&c->limit, __ATOMIC_RELAXED), most = limit / (1000000 / WINDOW_US);
        int64_t now = g_get_monotonic_time();
        if (now - c->window >= WINDOW_US) {
            /* what was too much in one window is paid for in the next */
            uint64_t passed = (uint64_t)(now - c->window) / WINDOW_US;
            c->in_window = c->window && c->in_window > passed * most ? c->in_window - passed * most : 0;
            c->window = now;
        }
        if (!limit || c->in_window < MAX(most, 1))
            return true;
        if (!wait_for(c, 0, 1 + (int)((WINDOW_US - (now - c->window)) / 1000)))
            return cancelled(error);
    }
}

static bool write_out(struct channel *c, const uint8_t *data, size_t size, GError **error)
{
    while (size) {
        if (!keep_limit(c, error))
            return false;
        if (!wait_for(c, POLLOUT, -1))
            return cancelled(error);
        ssize_t n = write(c->fd, data, MIN(size, 256 << 10));
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return vireo_fail_errno(error, errno, "the machine's state cannot be written to where it goes");
        if (n <= 0)
            continue;
        data += n;
        size -= (size_t)n;
        c->in_window += (uint64_t)n;
        __atomic_fetch_add(&c->bytes, (uint64_t)n, __ATOMIC_RELAXED);
    }
    return true;
}

bool channel_flush(struct channel *c, GError **error)
{
    size_t n = c->buffered;
    c->buffered = 0;
    return write_out(c, c->buffer, n, error);
}

bool channel_write(void *opaque, const void *data, size_t size, GError **error)
{
    struct channel *c = opaque;
    if (size > BUFFER - c->buffered && !channel_flush(c, error))
        return false;
    if (size >= BUFFER)
        return write_out(c, data, size, error);
    memcpy(c->buffer + c->buffered, data, size);
    c->buffered += size;
    return true;
}

/* Some bytes; false: error, or the end. */
static bool read_some(struct channel *c, void *to, size_t most, size_t *ret, GError **error)
{
    for (;;) {
        if (!wait_for(c, POLLIN, -1))
            return cancelled(error);
        ssize_t n = read(c->fd, to, most);
        if (n > 0) {
            *ret = (size_t)n;
            __atomic_fetch_add(&c->bytes, (uint64_t)n, __ATOMIC_RELAXED);
            return true;
        }
        if (!n)
            return vireo_fail(error, VIREO_ERROR_IO, "the saved machine ends in the middle, after %" G_GUINT64_FORMAT " bytes", c->bytes);
        if (errno != EAGAIN && errno != EINTR)
            return vireo_fail_errno(error, errno, "the saved machine cannot be read");
    }
}

bool channel_read(void *opaque, void *ret, size_t size, GError **error)
{
    struct channel *c = opaque;
    uint8_t *to = ret;
    while (size) {
        if (c->at < c->buffered) {
            size_t n = MIN(size, c->buffered - c->at);
            memcpy(to, c->buffer + c->at, n);
            c->at += n;
            to += n;
            size -= n;
            continue;
        }
        size_t n;
        if (size >= BUFFER / 4) { /* pages: straight to their place */
            if (!read_some(c, to, size, &n, error))
                return false;
            to += n;
            size -= n;
            continue;
        }
        c->at = c->buffered = 0;
        if (!read_some(c, c->buffer, BUFFER, &c->buffered, error))
            return false;
    }
    return true;
}

/* ---- addresses ---- */

static const char *after(const char *uri, const char *scheme)
{
    return g_str_has_prefix(uri, scheme) ? uri + strlen(scheme) : NULL;
}

bool channel_check(const char *uri, GError **error)
{
    static const char *const known[] = { "fd:", "unix:", "tcp:", "exec:" };
    for (size_t i = 0; i < G_N_ELEMENTS(known); i++) {
        if (g_str_has_prefix(uri, known[i]) && uri[strlen(known[i])])
            return true;
    }
    return vireo_fail(error, VIREO_ERROR_INVALID, "unknown migration protocol: '%s'; there are fd:NAME, unix:PATH, tcp:HOST:PORT and exec:COMMAND", uri);
}

static bool unix_address(const char *path, struct net_address *ret, GError **error)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&ret->sa;
    *ret = (struct net_address)NET_NO_ADDRESS;
    if (strlen(path) >= sizeof(un->sun_path))
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s' is too long for the name of a socket", path);
    un->sun_family = AF_UNIX;
    g_strlcpy(un->sun_path, path, sizeof(un->sun_path));
    ret->len = sizeof(*un);
    ret->path = g_strdup(path);
    ret->text = g_strdup_printf("unix:%s", path);
    return true;
}

static bool address_of(const char *uri, bool passive, struct net_address *ret, GError **error)
{
    const char *path = after(uri, "unix:"), *tcp = after(uri, "tcp:");
    if (path)
        return unix_address(path, ret, error);
    g_autofree char *text = g_strndup(tcp, strcspn(tcp, ",")); /* options of QEMU's, as in tcp:0:4444,to=... */
    if (g_str_has_prefix(text, "0:")) {
        g_autofree char *any = g_strdup(text + 1);
        return net_address_parse("migration", any, passive, ret, error);
    }
    return net_address_parse("migration", text, passive, ret, error);
}

/* The shell's other end. */
static int run_command(const char *command, bool reads, GError **error)
{
    const char *const argv[] = { "/bin/sh", "-c", command, NULL };
    int fd = -1;
    if (!sandbox_may_open("a command for migration (exec:)", error)) /* only before the sandbox is closed */
        return -1;
    /* before the sandbox */
    if (!g_spawn_async_with_pipes(NULL, (char **)argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, NULL, reads ? &fd : NULL, reads ? NULL : &fd, NULL, error))
        return -1;
    return fd;
}

/* The address of a socket to be made; else *ret_fd is what the URI names already, -1 with error. */
static bool needs_socket(const char *uri, bool passive, struct net_address *ret, int *ret_fd, GError **error)
{
    const char *name = after(uri, "fd:"), *command = after(uri, "exec:");
    *ret_fd = -1;
    if (!channel_check(uri, error))
        return false;
    if (name)
        *ret_fd = fdset_take(name, error);
    else if (command)
        *ret_fd = run_command(command, !passive, error);
    else
        return sandbox_may_make_sockets(passive ? "a socket for migration; pass a descriptor with fd:NAME instead"
                                                : "a connection for migration; pass a descriptor with fd:NAME instead", error) &&
               address_of(uri, passive, ret, error);
    return false;
}

int channel_connect(const char *uri, GError **error)
{
    struct net_address a;
    int fd;
    if (!needs_socket(uri, false, &a, &fd, error))
        return fd;
    fd = net_address_connect("migration", &a, error);
    net_address_clear(&a);
    return fd;
}

int channel_listen(const char *uri, bool *ret_listens, GError **error)
{
    struct net_address a;
    int fd;
    *ret_listens = needs_socket(uri, true, &a, &fd, error);
    if (!*ret_listens)
        return fd;
    fd = net_address_listen("migration", &a, error);
    net_address_clear(&a);
    return fd;
}

/* seccomp(main): accept4 */
int channel_accept(int fd, GError **error)
{
    int got = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    if (got < 0)
        vireo_fail_errno(error, errno, "migration: no connection could be accepted");
    return got;
}
