/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The thread that reads all sockets: one epoll set of listeners and clients. */
#include <errno.h>
#include <malloc.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "manage/core/manage_error.h"
#include "manage/daemon/daemon.h"

#define BATCH 64
#define BUFFER (256u << 10)

void server_resume(struct server *s, struct client *c)
{
    uint64_t one = 1;
    g_mutex_lock(&s->lock);
    g_ptr_array_add(s->resume, client_ref(c));
    g_mutex_unlock(&s->lock);
    (void)!write(s->wake_fd, &one, sizeof(one));
}

static void drop(struct server *s, struct client *c)
{
    if (!g_hash_table_remove(s->clients, c))
        return;
    client_close(c);
    g_ptr_array_add(s->dead, c); /* events of this round may still name it */
    if (g_hash_table_size(s->clients) == 0)
        s->idle_since = s->now;
}

/* ---- new clients ---- */

static unsigned count_clients(struct server *s, uid_t uid, bool unopened)
{
    GHashTableIter iter;
    gpointer c;
    unsigned n = 0;
    g_hash_table_iter_init(&iter, s->clients);
    while (g_hash_table_iter_next(&iter, &c, NULL)) {
        const struct manage_conn *conn = ((struct client *)c)->conn;
        n += conn->uid == uid && (!unopened || !conn->open);
    }
    return n;
}

/* Limits are by user, so that one who fills them locks out nobody but himself. */
static const char *refusal(struct server *s, uid_t uid)
{
    if (g_hash_table_size(s->clients) >= (unsigned)s->config.max_clients)
        return "max_clients";
    if (uid == 0 || uid == geteuid())
        return NULL;
    if (count_clients(s, uid, true) >= (unsigned)s->config.max_anonymous_clients)
        return "max_anonymous_clients";
    return count_clients(s, uid, false) >= (unsigned)s->config.max_user_clients ? "max_user_clients" : NULL;
}

static void accept_client(struct server *s, struct listener *l)
{
    int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
            daemon_log("cannot accept a client: %s", g_strerror(errno));
            g_usleep(10000); /* the listener stays readable: no endless loop at full speed */
        }
        return;
    }
    struct client *c = client_new(s, fd, l);
    const char *limit = refusal(s, c->conn->uid);
    struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };
    if (limit || epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &e) < 0) {
        daemon_log("refused a client of user %d: the limit %s is reached", (int)c->conn->uid, limit ? limit : "of epoll");
        client_close(c);
        client_unref(c);
        return;
    }
    c->waiting = EPOLLIN;
    g_hash_table_add(s->clients, c);
}

/* ---- the loop ---- */

static void resume_clients(struct server *s)
{
    uint64_t n;
    (void)!read(s->wake_fd, &n, sizeof(n));
    g_mutex_lock(&s->lock);
    GPtrArray *list = s->resume;
    s->resume = g_ptr_array_new();
    g_mutex_unlock(&s->lock);
    for (guint i = 0; i < list->len; i++) {
        struct client *c = list->pdata[i];
        if (g_hash_table_contains(s->clients, c) && !client_resume(c))
            drop(s, c);
        client_unref(c);
    }
    g_ptr_array_unref(list);
}

static void handle(struct server *s, const struct epoll_event *e)
{
    struct watched *w = e->data.ptr;
    if (w->kind == WATCHED_WAKE)
        resume_clients(s);
    else if (w->kind == WATCHED_LISTENER)
        accept_client(s, (struct listener *)w);
    else if (g_hash_table_contains(s->clients, w) && !client_events((struct client *)w, e->events))
        drop(s, (struct client *)w);
}

/* Once a second: silence, and the end of an idle daemon. */
static void tick(struct server *s)
{
    g_autoptr(GPtrArray) gone = g_ptr_array_new();
    GHashTableIter iter;
    gpointer c;
    if (g_atomic_int_get(&s->trim) > 0 && g_atomic_int_dec_and_test(&s->trim))
        malloc_trim(0);
    g_hash_table_iter_init(&iter, s->clients);
    while (g_hash_table_iter_next(&iter, &c, NULL))
        if (!client_tick(c, s->now))
            g_ptr_array_add(gone, c);
    for (guint i = 0; i < gone->len; i++)
        drop(s, gone->pdata[i]);
    if (s->timeout > 0 && g_hash_table_size(s->clients) == 0 && s->now - s->idle_since >= s->timeout * G_USEC_PER_SEC) {
        s->idle_since = s->now;
        s->idle(s->idle_opaque);
    }
}

static bool stopping(struct server *s)
{
    g_mutex_lock(&s->lock);
    bool stop = s->stopping;
    g_mutex_unlock(&s->lock);
    return stop;
}

static void stop_accepting(struct server *s)
{
    for (guint i = 0; i < s->listeners->len; i++)
        epoll_ctl(s->epoll, EPOLL_CTL_DEL, ((struct listener *)s->listeners->pdata[i])->fd, NULL);
}

static void drop_all(struct server *s)
{
    GList *all = g_hash_table_get_keys(s->clients);
    for (GList *l = all; l; l = l->next)
        drop(s, l->data);
    g_list_free(all);
}

static gpointer server_thread(gpointer opaque)
{
    struct server *s = opaque;
    struct epoll_event events[BATCH];
    while (!stopping(s)) {
        bool timers = s->timeout > 0 || g_hash_table_size(s->clients) > 0 || g_atomic_int_get(&s->trim);
        int n = epoll_wait(s->epoll, events, BATCH, timers ? 1000 : -1);
        s->now = g_get_monotonic_time();
        for (int i = 0; i < n; i++)
            handle(s, &events[i]);
        if (s->now >= s->next_tick) {
            s->next_tick = s->now + G_USEC_PER_SEC;
            tick(s);
        }
        g_ptr_array_set_size(s->dead, 0);
    }
    stop_accepting(s);
    drop_all(s);
    g_ptr_array_set_size(s->dead, 0);
    return NULL;
}

/* ---- life ---- */

struct server *server_new(struct manage_state *state, struct daemon_config *config, GPtrArray *listeners)
{
    struct server *s = g_new0(struct server, 1);
    s->state = state;
    s->config = *config;
    *config = (struct daemon_config){ 0 };
    s->listeners = listeners;
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s->wake.kind = WATCHED_WAKE;
    s->clients = g_hash_table_new(NULL, NULL);
    s->dead = g_ptr_array_new_with_free_func((GDestroyNotify)client_unref);
    s->buffer = g_malloc(BUFFER);
    s->resume = g_ptr_array_new();
    s->now = s->idle_since = g_get_monotonic_time();
    g_mutex_init(&s->lock);
    return s;
}

bool server_start(struct server *s, GError **error)
{
    struct epoll_event e = { .events = EPOLLIN, .data.ptr = &s->wake };
    if (s->epoll < 0 || s->wake_fd < 0 || epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->wake_fd, &e) < 0)
        return manage_fail_errno(error, errno, "cannot make an epoll set");
    for (guint i = 0; i < s->listeners->len; i++) {
        struct listener *l = s->listeners->pdata[i];
        e.data.ptr = l;
        if (epoll_ctl(s->epoll, EPOLL_CTL_ADD, l->fd, &e) < 0)
            return manage_fail_errno(error, errno, "cannot wait for clients");
    }
    s->workers = g_thread_pool_new(call_worker, s, s->config.max_workers, FALSE, error);
    s->thread = s->workers ? g_thread_try_new("sockets", server_thread, s, error) : NULL;
    return s->thread != NULL;
}

void server_set_timeout(struct server *s, int seconds, void (*idle)(void *opaque), void *opaque)
{
    s->timeout = seconds;
    s->idle = idle;
    s->idle_opaque = opaque;
}

void server_reload(struct server *s, struct daemon_config *config)
{
    struct daemon_config *c = &s->config;
    g_mutex_lock(&s->lock);
    c->max_clients = config->max_clients;
    c->max_anonymous_clients = config->max_anonymous_clients;
    c->max_user_clients = config->max_user_clients;
    c->max_workers = config->max_workers;
    c->max_client_requests = config->max_client_requests;
    c->keepalive_interval = config->keepalive_interval;
    c->keepalive_count = config->keepalive_count;
    g_mutex_unlock(&s->lock);
    g_thread_pool_set_max_threads(s->workers, config->max_workers, NULL);
}

void server_free(struct server *s)
{
    if (!s)
        return;
    uint64_t one = 1;
    g_mutex_lock(&s->lock);
    s->stopping = true;
    g_mutex_unlock(&s->lock);
    (void)!write(s->wake_fd, &one, sizeof(one));
    if (s->thread)
        g_thread_join(s->thread);
    if (s->workers)
        g_thread_pool_free(s->workers, FALSE, TRUE);
    for (int i = 0; i < 500 && g_atomic_int_get(&s->streams) > 0; i++) /* cancelled; their threads are about to end */
        g_usleep(10000);
    for (guint i = 0; i < s->resume->len; i++)
        client_unref(s->resume->pdata[i]);
    g_ptr_array_unref(s->resume);
    g_ptr_array_unref(s->listeners);
    g_ptr_array_unref(s->dead);
    g_hash_table_unref(s->clients);
    close(s->epoll);
    close(s->wake_fd);
    g_free(s->buffer);
    g_mutex_clear(&s->lock);
    daemon_config_clear(&s->config);
    g_free(s);
}
