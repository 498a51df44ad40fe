/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Hears of changes of nftables (netlink group NFNLGRP_NFTABLES) on the state's main loop; when one of our tables lost something, a thread
 * looks after all active networks, 50 ms later, or later where it happens again and again. The end of a network's dnsmasq is heard of by its pidfd.
 * Nothing polls.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "manage/drivers/network/network.h"

#define DELAY_MIN_MS 50
#define DELAY_MAX_MS 5000

struct network_watch {
    struct network_driver *driver;
    int fd;
    GSource *source;
    GThreadPool *pool; /* one thread */
    GMutex lock;       /* what follows */
    GSource *timer;    /* NULL: none is due */
    gint64 last;       /* when it was mended */
    unsigned delay_ms;
};

/* The first attribute of table, chain and rule messages is the table's name. */
static bool is_ours(const struct nlmsghdr *h)
{
    unsigned at = NLMSG_LENGTH(sizeof(struct nfgenmsg));
    while (at + NLA_HDRLEN <= h->nlmsg_len) {
        const struct nlattr *a = (const struct nlattr *)((const char *)h + at);
        if (a->nla_len < NLA_HDRLEN || at + a->nla_len > h->nlmsg_len)
            break;
        if ((a->nla_type & NLA_TYPE_MASK) == NFTA_TABLE_NAME)
            return a->nla_len > NLA_HDRLEN + 6 && !memcmp((const char *)a + NLA_HDRLEN, "vireo_", 6);
        at += NLA_ALIGN(a->nla_len);
    }
    return false;
}

static bool is_loss(const struct nlmsghdr *h)
{
    unsigned type = h->nlmsg_type & 0xff;
    return h->nlmsg_type >> 8 == NFNL_SUBSYS_NFTABLES && (type == NFT_MSG_DELTABLE || type == NFT_MSG_DELCHAIN || type == NFT_MSG_DELRULE) && is_ours(h);
}

/* ---- dnsmasq ---- */

#define DNS_AGAIN_S 10 /* one that ends sooner than so after it was started again is left alone */

/* It has ended: by us, then there is nothing to do; or by itself. */
static void mend_dns(struct network *n)
{
    doc_auto *d = network_live(n);
    g_autoptr(GError) error = NULL;
    gint64 now = g_get_monotonic_time();
    if (!d || n->user || !network_is_virtual(network_mode(d)) || !network_dns_wanted(d) || network_dns_find(n->driver, n->name))
        return;
    if (n->dns_started && now - n->dns_started < DNS_AGAIN_S * G_USEC_PER_SEC) {
        g_warning("network '%s': dnsmasq has ended again and is left alone: net-destroy and net-start bring it back", n->name);
        return;
    }
    g_message("network '%s': dnsmasq has ended by itself and is started again", n->name);
    n->dns_started = now;
    if (!network_dns_start(n, d, &error))
        g_warning("%s", error->message);
}

struct dns_end {
    struct network *network;
    int pidfd;
};

static void dns_end_free(gpointer opaque)
{
    struct dns_end *e = opaque;
    close(e->pidfd);
    network_unref(e->network);
    g_free(e);
}

static gboolean dns_ended(gpointer opaque)
{
    struct network *n = ((struct dns_end *)opaque)->network;
    if (n->driver->watch)
        g_thread_pool_push(n->driver->watch->pool, network_ref(n), NULL);
    return G_SOURCE_REMOVE;
}

static gboolean dns_dispatch(GSource *source, GSourceFunc callback, gpointer opaque) { return callback(opaque); }

void network_watch_dns(struct network *n)
{
    static GSourceFuncs funcs = { .dispatch = dns_dispatch };
    if (n->dns_source) {
        g_source_destroy(n->dns_source);
        g_clear_pointer(&n->dns_source, g_source_unref);
    }
    int pidfd = n->dnsmasq && n->driver->watch ? (int)syscall(SYS_pidfd_open, n->dnsmasq, 0) : -1;
    if (pidfd < 0)
        return;
    fcntl(pidfd, F_SETFD, FD_CLOEXEC);
    struct dns_end *e = g_new0(struct dns_end, 1);
    *e = (struct dns_end){ network_ref(n), pidfd };
    n->dns_source = g_source_new(&funcs, sizeof(GSource));
    g_source_add_unix_fd(n->dns_source, pidfd, G_IO_IN);
    g_source_set_callback(n->dns_source, dns_ended, e, dns_end_free);
    g_source_attach(n->dns_source, n->driver->state->context);
}

/* ---- nftables ---- */

static void mend_rules(struct network_watch *w)
{
    g_autoptr(GPtrArray) all = network_all(w->driver);
    bool mended = false;
    for (unsigned i = 0; i < all->len; i++) {
        g_mutex_lock(&w->driver->change);
        mended |= network_firewall_mend(all->pdata[i]);
        g_mutex_unlock(&w->driver->change);
    }
    const struct manage_services *services = w->driver->state->services;
    mended |= services->filter_mend && services->filter_mend(w->driver->state);
    g_mutex_lock(&w->lock);
    if (!mended)
        w->last = 0; /* it was our own change that was heard of */
    g_mutex_unlock(&w->lock);
}

/* Work of the pool's thread: the watch itself (rules), or a network whose dnsmasq has ended. */
static void work(gpointer what, gpointer opaque)
{
    struct network_watch *w = opaque;
    if (what == w) {
        mend_rules(w);
        return;
    }
    struct network *n = what;
    g_mutex_lock(&w->driver->change);
    mend_dns(n);
    g_mutex_unlock(&w->driver->change);
    network_unref(n);
}

static gboolean due(gpointer opaque)
{
    struct network_watch *w = opaque;
    g_mutex_lock(&w->lock);
    g_source_unref(w->timer);
    w->timer = NULL;
    w->last = g_get_monotonic_time();
    g_mutex_unlock(&w->lock);
    g_thread_pool_push(w->pool, w, NULL);
    return G_SOURCE_REMOVE;
}

static void lost(struct network_watch *w)
{
    g_mutex_lock(&w->lock);
    if (!w->timer) {
        bool again = w->last && g_get_monotonic_time() - w->last < 1000000LL + w->delay_ms * 1000LL;
        w->delay_ms = again ? MIN(w->delay_ms * 2, DELAY_MAX_MS) : DELAY_MIN_MS;
        w->timer = g_timeout_source_new(w->delay_ms);
        g_source_set_callback(w->timer, due, w, NULL);
        g_source_attach(w->timer, w->driver->state->context);
    }
    g_mutex_unlock(&w->lock);
}

void network_watch_look(struct network_watch *w)
{
    if (w)
        lost(w);
}

static gboolean heard(gint fd, GIOCondition condition, gpointer opaque)
{
    struct network_watch *w = opaque;
    union { struct nlmsghdr h; char data[16384]; } m;
    for (;;) {
        ssize_t got = recv(fd, &m, sizeof m, MSG_DONTWAIT | MSG_TRUNC);
        if (got < 0 && errno == ENOBUFS) {
            lost(w); /* something was missed */
            continue;
        }
        if (got <= 0)
            return G_SOURCE_CONTINUE;
        unsigned left = (unsigned)MIN(got, (ssize_t)sizeof m);
        for (struct nlmsghdr *h = &m.h; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left))
            if (is_loss(h))
                lost(w);
    }
}

static gboolean fd_dispatch(GSource *source, GSourceFunc callback, gpointer opaque)
{
    return ((gboolean (*)(gint, GIOCondition, gpointer))(void *)callback)(((struct network_watch *)opaque)->fd, G_IO_IN, opaque);
}

static GSource *fd_source_new(int fd)
{
    static GSourceFuncs funcs = { .dispatch = fd_dispatch };
    GSource *source = g_source_new(&funcs, sizeof(GSource));
    g_source_add_unix_fd(source, fd, G_IO_IN);
    return source;
}

struct network_watch *network_watch_new(struct network_driver *dr)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER), group = NFNLGRP_NFTABLES;
    struct sockaddr_nl address = { .nl_family = AF_NETLINK };
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) < 0) {
        g_warning("nftables cannot be watched (%s): rules that another program takes away are put back at the next start of a network only", g_strerror(errno));
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    struct network_watch *w = g_new0(struct network_watch, 1);
    w->driver = dr;
    w->fd = fd;
    g_mutex_init(&w->lock);
    w->pool = g_thread_pool_new(work, w, 1, FALSE, NULL);
    w->source = fd_source_new(fd);
    g_source_set_callback(w->source, (GSourceFunc)(void *)heard, w, NULL);
    g_source_attach(w->source, dr->state->context);
    return w;
}

/* The caller holds the main loop: no callback runs. */
void network_watch_free(struct network_watch *w)
{
    if (!w)
        return;
    g_source_destroy(w->source);
    g_source_unref(w->source);
    g_autoptr(GPtrArray) all = network_all(w->driver);
    g_mutex_lock(&w->driver->change);
    for (unsigned i = 0; i < all->len; i++) {
        ((struct network *)all->pdata[i])->dnsmasq = 0; /* goes on running, unheard */
        network_watch_dns(all->pdata[i]);
    }
    g_mutex_unlock(&w->driver->change);
    if (w->timer) {
        g_source_destroy(w->timer);
        g_source_unref(w->timer);
    }
    g_thread_pool_free(w->pool, FALSE, TRUE);
    close(w->fd);
    g_mutex_clear(&w->lock);
    g_free(w);
}
