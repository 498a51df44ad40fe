/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The user-mode network: libslirp on the main loop. One GSource asks it before each poll which descriptors it waits for,
 * and runs it after; its timers are looked at in the same place. Frames of the guest come from any thread into a queue.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <slirp/libslirp.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "vmm/net/net_private.h"
#include "vmm/net/slirp_options.h"

enum { QUEUE_MAX = 1024 }; /* frames of the guest; more are dropped */

struct watch {
    int fd;
    gpointer tag;
    GIOCondition events;
    bool used;
};

struct timer {
    SlirpTimerCb fn;
    void *opaque;
    int64_t expires; /* ms; -1: not set */
};

struct slirp_backend {
    struct net_backend net;
    Slirp *slirp;
    GSource *source;
    GArray *watches;   /* struct watch */
    GPtrArray *timers; /* struct timer * */
    int64_t deadline;  /* ms: slirp wants to run then at the latest */
    GMutex lock;       /* covers queue, woken */
    GQueue queue;      /* GBytes */
    bool woken;
};

struct slirp_source {
    GSource source;
    struct slirp_backend *s;
};

static int64_t now_ms(void)
{
    return g_get_monotonic_time() / 1000;
}

/* ---- what slirp calls ---- */

static ssize_t send_packet(const void *buf, size_t n, void *opaque)
{
    net_deliver(opaque, buf, n);
    return n;
}

static void guest_error(const char *msg, void *opaque)
{
    log_at(LOG_GUEST_ERRORS, "network: %s", msg);
}

static int64_t clock_get_ns(void *opaque)
{
    return g_get_monotonic_time() * 1000;
}

static void *timer_new(SlirpTimerCb cb, void *cb_opaque, void *opaque)
{
    struct slirp_backend *s = opaque;
    struct timer *t = g_new(struct timer, 1);
    *t = (struct timer){ cb, cb_opaque, -1 };
    g_ptr_array_add(s->timers, t);
    return t;
}

static void timer_free(void *timer, void *opaque)
{
    struct slirp_backend *s = opaque;
    g_ptr_array_remove(s->timers, timer);
}

static void timer_mod(void *timer, int64_t expire_time, void *opaque)
{
    ((struct timer *)timer)->expires = expire_time;
}

static void poll_fd_changed(int fd, void *opaque)
{
}

static void notify(void *opaque)
{
    g_main_context_wakeup(NULL);
}

static const SlirpCb callbacks = {
    .send_packet = send_packet, .guest_error = guest_error, .clock_get_ns = clock_get_ns, .timer_new = timer_new, .timer_free = timer_free,
    .timer_mod = timer_mod, .register_poll_fd = poll_fd_changed, .unregister_poll_fd = poll_fd_changed, .notify = notify,
};

/* ---- poll ---- */

static const struct { int slirp; GIOCondition glib; } conditions[] = {
    { SLIRP_POLL_IN, G_IO_IN }, { SLIRP_POLL_OUT, G_IO_OUT }, { SLIRP_POLL_PRI, G_IO_PRI }, { SLIRP_POLL_ERR, G_IO_ERR },
    { SLIRP_POLL_HUP, G_IO_HUP },
};

/* A descriptor is only touched when what is wanted of it changed: each change wakes the loop. */
static int add_poll(int fd, int events, void *opaque)
{
    struct slirp_backend *s = opaque;
    GIOCondition wanted = 0;
    unsigned i;
    for (i = 0; i < G_N_ELEMENTS(conditions); i++)
        wanted |= events & conditions[i].slirp ? conditions[i].glib : 0;
    for (i = 0; i < s->watches->len; i++) {
        struct watch *w = &g_array_index(s->watches, struct watch, i);
        if (w->fd != fd || w->used)
            continue;
        if (w->events != wanted)
            g_source_modify_unix_fd(s->source, w->tag, wanted);
        w->events = wanted;
        w->used = true;
        return i;
    }
    struct watch w = { fd, g_source_add_unix_fd(s->source, fd, wanted), wanted, true };
    g_array_append_val(s->watches, w);
    return i;
}

static int get_revents(int index, void *opaque)
{
    struct slirp_backend *s = opaque;
    int events = 0;
    if (index < 0 || (unsigned)index >= s->watches->len)
        return 0;
    GIOCondition got = g_source_query_unix_fd(s->source, g_array_index(s->watches, struct watch, index).tag);
    for (unsigned i = 0; i < G_N_ELEMENTS(conditions); i++)
        events |= got & conditions[i].glib ? conditions[i].slirp : 0;
    return events;
}

/* Forgets descriptors that slirp no longer waits for. Only before it is asked again, since it keeps indices until then. */
static void drop_unused(struct slirp_backend *s)
{
    for (unsigned i = s->watches->len; i-- > 0;) {
        struct watch *w = &g_array_index(s->watches, struct watch, i);
        if (!w->used) {
            g_source_remove_unix_fd(s->source, w->tag);
            g_array_remove_index(s->watches, i);
        } else {
            w->used = false;
        }
    }
}

static bool has_work(struct slirp_backend *s)
{
    g_mutex_lock(&s->lock);
    bool work = s->woken || !g_queue_is_empty(&s->queue);
    g_mutex_unlock(&s->lock);
    return work;
}

static int64_t next_timer(struct slirp_backend *s)
{
    int64_t next = G_MAXINT64;
    for (unsigned i = 0; i < s->timers->len; i++) {
        const struct timer *t = g_ptr_array_index(s->timers, i);
        if (t->expires >= 0)
            next = MIN(next, t->expires);
    }
    return next;
}

static gboolean prepare(GSource *source, gint *timeout)
{
    struct slirp_backend *s = ((struct slirp_source *)source)->s;
    uint32_t ms = G_MAXUINT32;
    drop_unused(s);
    slirp_pollfds_fill(s->slirp, &ms, add_poll, s);
    int64_t left = next_timer(s);
    if (left != G_MAXINT64)
        ms = MIN((int64_t)ms, MAX(left - now_ms(), 0));
    *timeout = ms > G_MAXINT ? -1 : (gint)ms;
    s->deadline = ms > G_MAXINT ? G_MAXINT64 : now_ms() + ms;
    return has_work(s);
}

/* Only when there is something: GLib wakes the loop once after each dispatch of a source with descriptors. */
static gboolean check(GSource *source)
{
    struct slirp_backend *s = ((struct slirp_source *)source)->s;
    for (unsigned i = 0; i < s->watches->len; i++) {
        if (g_source_query_unix_fd(source, g_array_index(s->watches, struct watch, i).tag))
            return TRUE;
    }
    return now_ms() >= s->deadline || has_work(s);
}

static void run_timers(struct slirp_backend *s)
{
    int64_t now = now_ms();
    for (unsigned i = 0; i < s->timers->len; i++) {
        struct timer *t = g_ptr_array_index(s->timers, i);
        if (t->expires < 0 || t->expires > now)
            continue;
        t->expires = -1;
        t->fn(t->opaque);
    }
}

static gboolean dispatch(GSource *source, GSourceFunc fn, gpointer data)
{
    struct slirp_backend *s = ((struct slirp_source *)source)->s;
    GQueue frames;
    GBytes *frame;
    g_mutex_lock(&s->lock);
    frames = s->queue;
    g_queue_init(&s->queue);
    s->woken = false;
    g_mutex_unlock(&s->lock);
    slirp_pollfds_poll(s->slirp, 0, get_revents, s);
    while ((frame = g_queue_pop_head(&frames))) {
        slirp_input(s->slirp, g_bytes_get_data(frame, NULL), g_bytes_get_size(frame));
        g_bytes_unref(frame);
    }
    run_timers(s);
    net_flush(&s->net);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs source_funcs = { prepare, check, dispatch, NULL, NULL, NULL };

/* ---- back end ---- */

static enum net_sent slirp_sendv(struct net_backend *b, unsigned queue, const struct iovec *iov, unsigned n)
{
    struct slirp_backend *s = (struct slirp_backend *)b;
    size_t size = net_iov_length(iov, n);
    bool wake = false, taken = false;
    uint8_t *frame = g_malloc(size);
    GBytes *bytes = g_bytes_new_take(frame, net_iov_gather(iov, n, frame, size));
    g_mutex_lock(&s->lock);
    if (g_queue_get_length(&s->queue) < QUEUE_MAX) {
        wake = g_queue_is_empty(&s->queue);
        g_queue_push_tail(&s->queue, bytes);
        taken = true;
    }
    g_mutex_unlock(&s->lock);
    if (wake)
        g_main_context_wakeup(NULL);
    if (taken)
        return NET_SENT;
    g_bytes_unref(bytes);
    return NET_DROPPED;
}

static void slirp_wake(struct net_backend *b, unsigned queue)
{
    struct slirp_backend *s = (struct slirp_backend *)b;
    g_mutex_lock(&s->lock);
    bool wake = !s->woken;
    s->woken = true;
    g_mutex_unlock(&s->lock);
    if (wake)
        g_main_context_wakeup(NULL);
}

static void slirp_destroy(struct net_backend *b)
{
    struct slirp_backend *s = (struct slirp_backend *)b;
    if (s->slirp)
        slirp_cleanup(s->slirp);
    if (s->source) {
        g_source_destroy(s->source);
        g_source_unref(s->source);
    }
    g_queue_clear_full(&s->queue, (GDestroyNotify)g_bytes_unref);
    g_array_free(s->watches, TRUE);
    g_ptr_array_free(s->timers, TRUE);
    g_mutex_clear(&s->lock);
    g_free(s);
}

static bool add_forwards(struct slirp_backend *s, const SlirpConfig *c, GPtrArray *hostfwd, GError **error)
{
    for (unsigned i = 0; hostfwd && i < hostfwd->len; i++) {
        struct slirp_forward f;
        const char *text = g_ptr_array_index(hostfwd, i);
        if (!slirp_forward_parse(text, &f, error))
            return false;
        if (!f.guest.s_addr)
            f.guest = c->vdhcp_start;
        errno = 0;
        if (slirp_add_hostfwd(s->slirp, f.udp, f.host, f.host_port, f.guest, f.guest_port) < 0)
            return vireo_fail_errno(error, errno ? errno : EADDRINUSE, "netdev user: cannot listen for hostfwd=%s; choose another host port", text);
    }
    return true;
}

/* What libslirp calls for the guest, all on the main loop. It reads /etc/resolv.conf for the first question of the guest and
 * when that has changed.
 * seccomp(main+sockets): socket(AF_INET AF_INET6) bind connect listen accept shutdown newfstatat ioctl(FIONREAD)
 * seccomp(main+sockets): recvfrom recvmsg sendto getsockopt setsockopt getsockname getpeername fcntl(F_GETFL F_SETFL F_GETFD F_SETFD) */
static struct net_backend *slirp_create(const char *id, GHashTable *opts, GPtrArray *hostfwd, GError **error)
{
    SlirpConfig config;
    if (!slirp_options_parse(opts, &config, error))
        return NULL;
    sandbox_need(SANDBOX_SOCKETS);
    sandbox_keep_file("/etc/resolv.conf");
    struct slirp_backend *s = g_new0(struct slirp_backend, 1);
    g_mutex_init(&s->lock);
    g_queue_init(&s->queue);
    g_queue_init(&s->net.waiting);
    s->watches = g_array_new(FALSE, FALSE, sizeof(struct watch));
    s->timers = g_ptr_array_new_with_free_func(g_free);
    s->slirp = slirp_new(&config, &callbacks, s);
    if (!s->slirp || !add_forwards(s, &config, hostfwd, error)) {
        if (!s->slirp)
            vireo_fail(error, VIREO_ERROR_FAILED, "netdev '%s': the user-mode network refuses this configuration", id);
        slirp_destroy(&s->net);
        return NULL;
    }
    s->source = g_source_new(&source_funcs, sizeof(struct slirp_source));
    g_source_set_name(s->source, "slirp");
    ((struct slirp_source *)s->source)->s = s;
    g_source_attach(s->source, NULL);
    return &s->net;
}

const struct net_backend_ops net_slirp = {
    .type = "user", .create = slirp_create, .destroy = slirp_destroy, .sendv = slirp_sendv, .wake = slirp_wake,
};
