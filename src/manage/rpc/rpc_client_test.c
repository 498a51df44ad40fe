/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The client's end against a small server on a socket pair. */
#include <fcntl.h>
#include <libvirt/libvirt.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "manage/core/manage_error.h"
#include "manage/rpc/rpc_client.h"
#include "manage/rpc/rpc_message.h"
#include "manage/rpc/rpc_xdr.h"

struct peer {
    int fd;
    GThread *thread;
    gint pongs;
};

static bool read_all(int fd, void *to, gsize size)
{
    for (gsize at = 0; at < size;) {
        ssize_t n = read(fd, (char *)to + at, size - at);
        if (n <= 0)
            return false;
        at += (gsize)n;
    }
    return true;
}

static void put(int fd, GByteArray *m)
{
    rpc_message_finish(m);
    g_assert_cmpint(write(fd, m->data, m->len), ==, m->len);
    g_byte_array_unref(m);
}

static void reply(int fd, const struct rpc_header *h, const char *letters, GVariant *v)
{
    GByteArray *m = rpc_message_new(h->program, h->procedure, RPC_REPLY, h->serial, RPC_OK);
    g_variant_ref_sink(v);
    g_assert_true(rpc_encode(m, letters, v, NULL));
    g_variant_unref(v);
    put(fd, m);
}

static void stream_word(int fd, const struct rpc_header *h, enum rpc_type type, enum rpc_status status, const void *data, gsize size)
{
    GByteArray *m = rpc_message_new(h->program, h->procedure, type, h->serial, status);
    g_byte_array_append(m, data, (guint)size);
    put(fd, m);
}

static void event(int fd)
{
    GByteArray *m = rpc_message_new(RPC_REMOTE_PROGRAM, RPC_CONNECT_EVENT_CONNECTION_CLOSED, RPC_MESSAGE, 1, RPC_OK);
    g_autoptr(GVariant) v = g_variant_ref_sink(g_variant_new("(i)", 3));
    g_assert_true(rpc_encode(m, "i", v, NULL));
    put(fd, m);
}

/* Answers supports_feature with the number it was asked, get_uri with an error, get_type with an event and then the reply; console: echoes. */
static gpointer peer_thread(gpointer opaque)
{
    struct peer *p = opaque;
    uint8_t head[RPC_HEADER];
    while (read_all(p->fd, head, sizeof(head))) {
        struct rpc_header h;
        rpc_header_read(head, &h);
        gsize size = h.length - RPC_HEADER;
        g_autofree uint8_t *payload = g_malloc(size + 1);
        g_assert_true(read_all(p->fd, payload, size));
        if (h.program == RPC_KEEPALIVE_PROGRAM) {
            g_atomic_int_inc(&p->pongs);
        } else if (h.type == RPC_STREAM) {
            if (h.status == RPC_CONTINUE)
                stream_word(p->fd, &h, RPC_STREAM, RPC_CONTINUE, payload, size);
            else
                stream_word(p->fd, &h, RPC_STREAM, RPC_OK, NULL, 0);
        } else if (h.procedure == RPC_CONNECT_SUPPORTS_FEATURE) {
            g_autoptr(GVariant) v = rpc_decode("i", payload, size, NULL);
            reply(p->fd, &h, "i", g_variant_ref(v));
        } else if (h.procedure == RPC_CONNECT_GET_URI) {
            GByteArray *m = rpc_message_new(h.program, h.procedure, RPC_REPLY, h.serial, RPC_ERROR);
            rpc_message_error(m, VIR_ERR_NO_DOMAIN, VIR_FROM_QEMU, "no such thing");
            put(p->fd, m);
        } else if (h.procedure == RPC_CONNECT_GET_TYPE) {
            event(p->fd);
            put(p->fd, rpc_message_new(RPC_KEEPALIVE_PROGRAM, RPC_KEEPALIVE_PING, RPC_MESSAGE, 0, RPC_OK));
            reply(p->fd, &h, "s", g_variant_new("(s)", "TEST"));
        } else if (h.procedure == RPC_DOMAIN_OPEN_CONSOLE) {
            reply(p->fd, &h, "", g_variant_new_tuple(NULL, 0));
            stream_word(p->fd, &h, RPC_STREAM, RPC_CONTINUE, "hello", 5);
        } else {
            break; /* hangs up */
        }
    }
    close(p->fd);
    return NULL;
}

static struct rpc_client *start(struct peer *p)
{
    int ends[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), ==, 0);
    *p = (struct peer){ .fd = ends[1] };
    p->thread = g_thread_new("peer", peer_thread, p);
    return rpc_client_fd(ends[0]);
}

static void stop(struct peer *p, struct rpc_client *c)
{
    rpc_client_unref(c);
    g_thread_join(p->thread);
}

static int feature(struct rpc_client *c, int n)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) ret = rpc_client_call(c, rpc_proc(RPC_CONNECT_SUPPORTS_FEATURE), g_variant_new("(i)", n), NULL, 0, NULL, NULL, &error);
    g_assert_no_error(error);
    int answer;
    g_variant_get(ret, "(i)", &answer);
    return answer;
}

static gpointer many(gpointer c)
{
    for (int i = 0; i < 2000; i++)
        g_assert_cmpint(feature(c, i), ==, i);
    return NULL;
}

static void threads(void)
{
    struct peer p;
    struct rpc_client *c = start(&p);
    GThread *t[8];
    for (unsigned i = 0; i < G_N_ELEMENTS(t); i++)
        t[i] = g_thread_new("caller", many, c);
    for (unsigned i = 0; i < G_N_ELEMENTS(t); i++)
        g_thread_join(t[i]);
    stop(&p, c);
}

static void errors(void)
{
    struct peer p;
    struct rpc_client *c = start(&p);
    g_autoptr(GError) error = NULL;
    int domain = 0;
    g_assert_null(rpc_client_call(c, rpc_proc(RPC_CONNECT_GET_URI), g_variant_new("()"), NULL, 0, NULL, &domain, &error));
    g_assert_error(error, MANAGE_ERROR, VIR_ERR_NO_DOMAIN);
    g_assert_cmpstr(error->message, ==, "no such thing");
    g_assert_cmpint(domain, ==, VIR_FROM_QEMU);
    stop(&p, c);
}

static void count_event(void *opaque, const struct rpc_proc *proc, GVariant *payload)
{
    g_assert_cmpuint(proc->number, ==, RPC_CONNECT_EVENT_CONNECTION_CLOSED);
    g_atomic_int_inc((gint *)opaque);
}

static void count_closed(void *opaque, int reason)
{
    g_assert_cmpint(reason, ==, VIR_CONNECT_CLOSE_REASON_EOF);
    g_atomic_int_add((gint *)opaque, 100);
}

static const struct rpc_client_callbacks callbacks = { count_event, count_closed };

static void wait_for(gint *number, gint value)
{
    for (int i = 0; i < 2000 && g_atomic_int_get(number) != value; i++)
        g_usleep(1000);
    g_assert_cmpint(g_atomic_int_get(number), ==, value);
}

static void events(void)
{
    struct peer p;
    struct rpc_client *c = start(&p);
    gint seen = 0;
    rpc_client_set_callbacks(c, &callbacks, &seen);
    g_autoptr(GVariant) ret = rpc_client_call(c, rpc_proc(RPC_CONNECT_GET_TYPE), g_variant_new("()"), NULL, 0, NULL, NULL, NULL);
    g_assert_nonnull(ret);
    g_assert_cmpint(g_atomic_int_get(&seen), ==, 1);
    wait_for(&p.pongs, 1);
    g_usleep(50000);
    event(p.fd); /* while nobody calls */
    wait_for(&seen, 2);
    /* The server hangs up on a call it does not know: the call fails, closed() is called once. */
    g_autoptr(GError) error = NULL;
    g_assert_null(rpc_client_call(c, rpc_proc(RPC_CONNECT_GET_HOSTNAME), g_variant_new("()"), NULL, 0, NULL, NULL, &error));
    g_assert_error(error, MANAGE_ERROR, VIR_ERR_SYSTEM_ERROR);
    wait_for(&seen, 102);
    g_assert_false(rpc_client_alive(c));
    g_clear_error(&error);
    g_assert_null(rpc_client_call(c, rpc_proc(RPC_CONNECT_GET_TYPE), g_variant_new("()"), NULL, 0, NULL, NULL, &error));
    g_assert_nonnull(error);
    stop(&p, c);
    g_assert_cmpint(seen, ==, 102);
}

static void keepalive(void)
{
    struct peer p;
    struct rpc_client *c = start(&p);
    rpc_client_keepalive(c, 1, 10);
    wait_for(&p.pongs, 1); /* the peer counts what comes of the program, and does not answer */
    g_assert_true(rpc_client_alive(c));
    stop(&p, c);
}

static struct rpc_stream *console(struct rpc_client *c)
{
    struct rpc_stream *s = NULL;
    g_autoptr(GVariant) uuid = g_variant_ref_sink(g_variant_new_parsed("@ay [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]"));
    g_autoptr(GVariant) ret = rpc_client_call_stream(c, rpc_proc(RPC_DOMAIN_OPEN_CONSOLE), g_variant_new("((s@ayi)msu)", "a", uuid, 1, NULL, 0), &s, NULL, NULL);
    g_assert_nonnull(ret);
    return s;
}

static void streams(void)
{
    struct peer p;
    struct rpc_client *c = start(&p);
    struct rpc_stream *s = console(c), *other = console(c);
    g_autoptr(GError) error = NULL;
    char text[100];
    g_assert_cmpint(rpc_stream_recv(s, text, 3, NULL, false, &error), ==, 3);
    g_assert_cmpint(rpc_stream_recv(s, text + 3, 50, NULL, false, &error), ==, 2);
    g_assert_cmpmem(text, 5, "hello", 5);
    g_assert_cmpint(rpc_stream_recv(s, text, 3, NULL, true, &error), ==, -2);
    g_assert_cmpint(rpc_stream_send(s, "ping!", 5, false, &error), ==, 5);
    g_assert_cmpint(rpc_stream_recv(s, text, 50, NULL, false, &error), ==, 5);
    g_assert_cmpmem(text, 5, "ping!", 5);
    g_assert_cmpint(feature(c, 7), ==, 7);
    g_assert_true(rpc_stream_finish(s, &error));
    g_assert_cmpint(rpc_stream_send(s, "x", 1, false, &error), ==, -1);
    rpc_stream_free(s);
    rpc_stream_free(other);
    stop(&p, c);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/client/threads", threads);
    g_test_add_func("/client/errors", errors);
    g_test_add_func("/client/events", events);
    g_test_add_func("/client/keepalive", keepalive);
    g_test_add_func("/client/streams", streams);
    return g_test_run();
}
