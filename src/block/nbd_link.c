/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "block/nbd_link.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "block/nbd_address.h"
#include "block/nbd_lib.h"

enum {
    CONNECT_MS = 10000,     /* for a socket, and as much again for the handshake */
    SILENCE_MS = 300000,    /* a server with calls under way that sends nothing for so long is dead */
    RETRY_US = 1000000,
    LOOK_MS = 100,          /* how often a handshake looks whether it is still wanted */
};

/* One connection. */
struct nbd_conn {
    const struct nbd_lib *lib;
    struct nbd_handle *handle;
    int wake_fd;            /* makes the polling thread look again */
    gint refs;              /* the link's and one of each call */
    GMutex lock;            /* the rest; taken inside libnbd's own lock */
    bool polling;
    GQueue waiting;         /* struct nbd_call *, those whose thread is in wait_for */
};

struct nbd_link {
    const struct nbd_lib *lib;
    struct nbd_address addr;
    char *export_name, *context;
    bool want_context, want_write;
    const struct nbd_tls *tls;
    uint64_t reconnect_delay;
    struct nbd_export_info info;
    GMutex lock;            /* all below */
    GCond changed;          /* a connection came or could not be made; or the end */
    struct nbd_conn *conn;
    gint64 lost_at, tried_at; /* monotonic; lost_at 0: connected */
    bool wanted;
    gint ending;            /* atomic */
    GThread *thread;
};

/* ---- one connection ---- */

static void conn_unref(struct nbd_conn *c)
{
    if (!c || !g_atomic_int_dec_and_test(&c->refs))
        return;
    c->lib->close(c->handle);
    close(c->wake_fd);
    g_mutex_clear(&c->lock);
    g_free(c);
}

static bool conn_dead(const struct nbd_conn *c)
{
    return c->lib->aio_is_dead(c->handle) == 1 || c->lib->aio_is_closed(c->handle) == 1;
}

/* Waits for the socket at most timeout_ms and lets libnbd act on it. False: nothing came. Errors show as a dead handle.
 * seccomp(block, main, nbd): recvfrom sendto eventfd2 shutdown */
static bool conn_turn(struct nbd_conn *c, int timeout_ms)
{
    unsigned dir = c->lib->aio_get_direction(c->handle);
    short events = (short)((dir & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) | (dir & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0));
    struct pollfd p[2] = { { c->lib->aio_get_fd(c->handle), events, 0 }, { c->wake_fd, POLLIN, 0 } };
    int got = poll(p, 2, timeout_ms);
    if (got <= 0)
        return got < 0 && errno == EINTR;
    uint64_t n;
    if (p[1].revents && read(c->wake_fd, &n, sizeof(n)) < 0 && errno != EAGAIN)
        return false;
    if ((dir & LIBNBD_AIO_DIRECTION_READ) && (p[0].revents & (POLLIN | POLLHUP | POLLERR)))
        c->lib->aio_notify_read(c->handle);
    else if (p[0].revents)
        c->lib->aio_notify_write(c->handle);
    return true;
}

static bool fail_nbd(const struct nbd_link *l, GError **error)
{
    const char *what = l->lib->get_error(), *call = "nbd_aio_notify_read: "; /* which of its functions found it, nobody needs to know */
    if (what && g_str_has_prefix(what, call))
        what += strlen(call);
    return vireo_fail(error, VIREO_ERROR_IO, "the NBD server at '%s': %s", l->addr.text, what ? what : "it closed the connection");
}

static bool set_up_tls(const struct nbd_conn *c, const struct nbd_tls *tls)
{
    struct nbd_handle *h = c->handle;
    if (!tls)
        return !c->lib->set_tls(h, LIBNBD_TLS_DISABLE);
    g_autofree char *psk = tls->psk ? g_build_filename(tls->dir, "keys.psk", NULL) : NULL;
    return !c->lib->set_tls(h, LIBNBD_TLS_REQUIRE) && !c->lib->set_tls_verify_peer(h, tls->verify) &&
           (psk ? !c->lib->set_tls_psk_file(h, psk) : !tls->dir || !c->lib->set_tls_certificates(h, tls->dir)) &&
           (!tls->username || !c->lib->set_tls_username(h, tls->username));
}

static bool handshake(struct nbd_link *l, struct nbd_conn *c, GError **error)
{
    gint64 deadline = g_get_monotonic_time() + CONNECT_MS * 1000;
    while (c->lib->aio_is_connecting(c->handle) == 1) {
        gint64 left = (deadline - g_get_monotonic_time()) / 1000;
        if (left <= 0 || g_atomic_int_get(&l->ending))
            return vireo_fail(error, VIREO_ERROR_IO, "the NBD server at '%s' does not answer", l->addr.text);
        (void)conn_turn(c, (int)MIN(left, LOOK_MS));
    }
    return c->lib->aio_is_ready(c->handle) == 1 || fail_nbd(l, error);
}

/* A connected handle with its handshake done, or NULL. */
static struct nbd_conn *conn_open(struct nbd_link *l, GError **error)
{
    int fd = nbd_address_connect(&l->addr, CONNECT_MS, error);
    if (fd < 0)
        return NULL;
    struct nbd_conn *c = g_new0(struct nbd_conn, 1);
    c->lib = l->lib;
    c->refs = 1;
    g_mutex_init(&c->lock);
    c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    c->handle = c->lib->create();
    struct nbd_handle *h = c->handle;
    bool ok = h && !c->lib->set_export_name(h, l->export_name) && !c->lib->add_meta_context(h, l->context) && set_up_tls(c, l->tls) &&
              /* What the server leaves out of an answer would show old memory: read() zeroes its own buffers. */
              !c->lib->set_pread_initialize(h, false);
    if (!ok || c->lib->aio_connect_socket(h, fd) < 0) {
        fail_nbd(l, error);
        close(fd);
        ok = false;
    }
    if (ok && handshake(l, c, error))
        return c;
    conn_unref(c);
    return NULL;
}

static uint32_t block_size_of(const struct nbd_conn *c, int which, uint32_t none)
{
    int64_t n = c->lib->get_block_size(c->handle, which);
    return n > 0 && n <= UINT32_MAX ? (uint32_t)n : none;
}

static bool conn_info(struct nbd_link *l, struct nbd_conn *c, struct nbd_export_info *ret, GError **error)
{
    struct nbd_handle *h = c->handle;
    int64_t size = c->lib->get_size(h);
    if (size < 0)
        return fail_nbd(l, error);
    *ret = (struct nbd_export_info) {
        .size = (uint64_t)size,
        .min_block = block_size_of(c, LIBNBD_SIZE_MINIMUM, 1),
        .preferred_block = block_size_of(c, LIBNBD_SIZE_PREFERRED, 4096),
        .max_block = MIN(block_size_of(c, LIBNBD_SIZE_MAXIMUM, 32 << 20), 32 << 20), /* protocol, "Block size constraints" */
        .read_only = c->lib->is_read_only(h) == 1,
        .flush = c->lib->can_flush(h) == 1,
        .fua = c->lib->can_fua(h) == 1,
        .trim = c->lib->can_trim(h) == 1,
        .zero = c->lib->can_zero(h) == 1,
        .fast_zero = c->lib->can_fast_zero(h) == 1,
        .multi_conn = c->lib->can_multi_conn(h) == 1,
        .status = c->lib->can_meta_context(h, l->context) == 1,
    };
    if (ret->min_block & (ret->min_block - 1) || ret->min_block > 1 << 20 || ret->size % ret->min_block || ret->max_block < ret->min_block)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "the NBD server at '%s' names a minimum block size of %u bytes, which does not go with its size of %"
                          PRIu64 " bytes", l->addr.text, ret->min_block, ret->size);
    if (l->want_context && !ret->status)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "requested x-dirty-bitmap %s not found", l->context);
    if (l->want_write && ret->read_only)
        return vireo_fail(error, VIREO_ERROR_PERMISSION, "the NBD server at '%s' has this export read-only: use read-only=on", l->addr.text);
    return true;
}

/* ---- the link ---- */

/* The export must still be what the users of this link know. */
static bool same_export(struct nbd_link *l, struct nbd_conn *c, GError **error)
{
    struct nbd_export_info now;
    if (!conn_info(l, c, &now, error))
        return false;
    const struct nbd_export_info *was = &l->info;
    if (now.size != was->size || now.min_block > was->min_block || now.max_block < was->max_block || (was->zero && !now.zero) || (was->trim && !now.trim) ||
        (was->flush && !now.flush) || (was->fua && !now.fua) || (was->status && !now.status) || (was->fast_zero && !now.fast_zero))
        return vireo_fail(error, VIREO_ERROR_FAILED, "the NBD server at '%s' has another export now", l->addr.text);
    return true;
}

static void reconnect(struct nbd_link *l)
{
    struct nbd_conn *c = conn_open(l, NULL);
    if (c && !same_export(l, c, NULL)) {
        conn_unref(c);
        c = NULL;
    }
    g_mutex_lock(&l->lock);
    l->tried_at = g_get_monotonic_time();
    if (c) {
        conn_unref(l->conn);
        l->conn = c;
        l->lost_at = 0;
    }
    g_mutex_unlock(&l->lock);
}

/* The thread that makes connections anew: nobody else needs to make sockets. */
static void *link_thread(void *opaque)
{
    struct nbd_link *l = opaque;
    g_mutex_lock(&l->lock);
    while (!l->ending) {
        gint64 due = l->tried_at + RETRY_US;
        if (!l->wanted)
            g_cond_wait(&l->changed, &l->lock);
        else if (l->tried_at && g_get_monotonic_time() < due)
            g_cond_wait_until(&l->changed, &l->lock, due);
        else {
            l->wanted = false;
            g_mutex_unlock(&l->lock);
            reconnect(l);
            g_mutex_lock(&l->lock);
            g_cond_broadcast(&l->changed);
        }
    }
    g_mutex_unlock(&l->lock);
    return NULL;
}

/* The connection, referenced; NULL: it is dead. */
static struct nbd_conn *pick_locked(struct nbd_link *l)
{
    struct nbd_conn *c = l->conn && !conn_dead(l->conn) ? l->conn : NULL;
    if (c)
        g_atomic_int_inc(&c->refs);
    return c;
}

/* As pick_locked; when there is none asks for it and waits as long as the user said. One attempt is waited for in any case,
 * unless the last has just failed. */
static struct nbd_conn *pick(struct nbd_link *l)
{
    g_mutex_lock(&l->lock);
    struct nbd_conn *c = pick_locked(l);
    if (!c && !l->lost_at)
        l->lost_at = g_get_monotonic_time();
    bool tried = false;
    while (!c && !l->ending && l->thread) {
        gint64 now = g_get_monotonic_time(), deadline = l->lost_at + (gint64)l->reconnect_delay * G_USEC_PER_SEC, before = l->tried_at;
        if (now >= deadline && (tried || (before && now < before + RETRY_US)))
            break;
        l->wanted = true;
        g_cond_broadcast(&l->changed);
        while (l->tried_at == before && !l->ending)
            g_cond_wait(&l->changed, &l->lock);
        tried = true;
        c = pick_locked(l);
    }
    g_mutex_unlock(&l->lock);
    return c;
}

struct nbd_link *nbd_link_open(struct nbd_address *addr, const struct nbd_link_options *o, struct nbd_export_info *ret, GError **error)
{
    const struct nbd_lib *lib = nbd_lib_load(error);
    if (!lib) {
        nbd_address_clear(addr);
        return NULL;
    }
    struct nbd_link *l = g_new0(struct nbd_link, 1);
    l->lib = lib;
    l->addr = *addr;
    *addr = (struct nbd_address) { 0 };
    l->export_name = g_strdup(o->export_name ? o->export_name : "");
    l->context = g_strdup(o->context);
    l->want_context = o->want_context;
    l->want_write = o->want_write;
    l->tls = o->tls;
    l->reconnect_delay = o->reconnect_delay;
    g_mutex_init(&l->lock);
    g_cond_init(&l->changed);
    gint64 deadline = g_get_monotonic_time() + (gint64)o->open_timeout * G_USEC_PER_SEC;
    for (;;) {
        g_autoptr(GError) failed = NULL;
        l->conn = conn_open(l, &failed);
        if (l->conn)
            break;
        if (g_get_monotonic_time() >= deadline) {
            g_propagate_error(error, g_steal_pointer(&failed));
            nbd_link_close(l);
            return NULL;
        }
        g_usleep(RETRY_US);
    }
    if (!conn_info(l, l->conn, &l->info, error)) {
        nbd_link_close(l);
        return NULL;
    }
    *ret = l->info;
    if (!sandbox_closed())
        sandbox_need(SANDBOX_SOCKETS); /* to come back */
    if (!l->addr.fd_name && sandbox_has(SANDBOX_SOCKETS))
        l->thread = sandbox_thread_new(SANDBOX_NBD, "nbd", link_thread, l);
    return l;
}

void nbd_link_close(struct nbd_link *l)
{
    if (!l)
        return;
    g_mutex_lock(&l->lock);
    g_atomic_int_set(&l->ending, 1);
    g_cond_broadcast(&l->changed);
    g_mutex_unlock(&l->lock);
    if (l->thread)
        g_thread_join(l->thread);
    if (l->conn && l->lib->aio_is_ready(l->conn->handle) == 1)
        l->lib->aio_disconnect(l->conn->handle, 0); /* the server need not wonder */
    conn_unref(l->conn);
    g_mutex_clear(&l->lock);
    g_cond_clear(&l->changed);
    nbd_address_clear(&l->addr);
    g_free(l->export_name);
    g_free(l->context);
    g_free(l);
}

/* ---- calls ---- */

/* The answer has come, or the connection is lost (ENOTCONN). In the thread that happens to drive libnbd, inside its lock. */
static int on_done(void *opaque, int *error)
{
    struct nbd_call *call = opaque;
    struct nbd_conn *c = call->conn;
    g_mutex_lock(&c->lock);
    call->err = *error;
    call->done = true;
    if (call->waiting)
        g_cond_signal(&call->cond);
    g_mutex_unlock(&c->lock);
    return 1; /* libnbd forgets the command */
}

/* The first extent is what was asked for; a server may tell more. Pairs of length and flags. */
static int on_extent(void *opaque, const char *context, uint64_t offset, uint32_t *entries, size_t n, int *error)
{
    struct nbd_call *call = opaque;
    if (n >= 2 && !call->extent && offset == call->offset && !strcmp(context, call->context)) {
        call->extent = entries[0];
        call->extent_flags = entries[1];
    }
    return 0;
}

static bool issue(struct nbd_call *call)
{
    const struct nbd_conn *c = call->conn;
    struct nbd_handle *h = c->handle;
    nbd_completion_callback done = { .callback = on_done, .user_data = call };
    nbd_extent_callback extent = { .callback = on_extent, .user_data = call };
    switch (call->op) {
    case NBD_CALL_READ:
        return c->lib->aio_pread(h, call->buffer, call->bytes, call->offset, done, call->flags) >= 0;
    case NBD_CALL_WRITE:
        return c->lib->aio_pwrite(h, call->buffer, call->bytes, call->offset, done, call->flags) >= 0;
    case NBD_CALL_FLUSH:
        return c->lib->aio_flush(h, done, 0) >= 0;
    case NBD_CALL_TRIM:
        return c->lib->aio_trim(h, call->bytes, call->offset, done, call->flags) >= 0;
    case NBD_CALL_ZERO:
        return c->lib->aio_zero(h, call->bytes, call->offset, done, call->flags) >= 0;
    case NBD_CALL_STATUS:
        return c->lib->aio_block_status(h, call->bytes, call->offset, extent, done, call->flags) >= 0;
    }
    return false;
}

/* The thread that polls may have to look for room to send now. */
static void wake_poller(struct nbd_conn *c)
{
    if (!(c->lib->aio_get_direction(c->handle) & LIBNBD_AIO_DIRECTION_WRITE))
        return;
    uint64_t one = 1;
    g_mutex_lock(&c->lock);
    if (c->polling && write(c->wake_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
        log_warn("NBD: cannot wake a thread");
    g_mutex_unlock(&c->lock);
}

static void wait_for(struct nbd_call *call)
{
    struct nbd_conn *c = call->conn;
    g_mutex_lock(&c->lock);
    call->waiting = true;
    g_queue_push_tail(&c->waiting, call);
    while (!call->done) {
        if (c->polling) {
            g_cond_wait(&call->cond, &c->lock);
            continue;
        }
        c->polling = true;
        g_mutex_unlock(&c->lock);
        if (!conn_turn(c, SILENCE_MS) && !conn_dead(c))
            shutdown(c->lib->aio_get_fd(c->handle), SHUT_RDWR); /* the next turn finds it closed */
        g_mutex_lock(&c->lock);
        c->polling = false;
    }
    g_queue_remove(&c->waiting, call);
    if (!c->polling && c->waiting.head)
        g_cond_signal(&((struct nbd_call *)c->waiting.head->data)->cond);
    g_mutex_unlock(&c->lock);
}

/* Once, on one connection. ENOTCONN: it is lost. */
static int call_on(struct nbd_conn *c, struct nbd_call *call)
{
    call->conn = c;
    call->done = call->waiting = false;
    call->err = 0;
    call->extent = 0;
    g_cond_init(&call->cond);
    if (issue(call)) {
        wake_poller(c);
        wait_for(call);
    } else {
        call->err = conn_dead(c) ? ENOTCONN : c->lib->get_errno() ? c->lib->get_errno() : EIO;
    }
    g_cond_clear(&call->cond);
    return call->err;
}

int nbd_link_call(struct nbd_link *l, struct nbd_call *call)
{
    call->context = l->context;
    for (;;) {
        struct nbd_conn *c = pick(l);
        if (!c)
            return EIO;
        int err = call_on(c, call);
        bool lost = err && conn_dead(c);
        conn_unref(c);
        if (!lost)
            return err;
        if (!l->reconnect_delay) /* the call may have been carried out, or not */
            return EIO;
    }
}
