/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bytes of a client of vireod: framing, dispatch, and the procedures of the test driver with whatever arguments. Byte 0: bit 0 the connection is open
 * already, bit 1 read-only, bit 2 what follows are raw bytes. Else records of (kind, procedure u16, serial, length u16, payload), to which
 * headers are made: no fuzzer finds many of those.
 */
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "manage/daemon/daemon.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *root;
static GMainContext *context;

static void remove_root(void)
{
    g_autofree char *command = g_strdup_printf("rm -rf '%s'", root);
    if (system(command))
        abort();
}

static void drain(int fd)
{
    static uint8_t away[1 << 16];
    while (recv(fd, away, sizeof(away), MSG_DONTWAIT) > 0)
        ;
}

static bool idle(struct client *c)
{
    g_mutex_lock(&c->lock);
    bool none = c->calls == 0;
    g_mutex_unlock(&c->lock);
    return none;
}

/* Gives bytes to the client and waits until all calls have ended. */
static bool give(struct client *c, int peer, const uint8_t *data, size_t size)
{
    if (send(peer, data, size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return false;
    for (int i = 0; i < 1000; i++) {
        if (!client_events(c, EPOLLIN))
            return false;
        while (!idle(c))
            g_thread_yield();
        drain(peer);
        if (!client_resume(c))
            return false;
        char more;
        if (recv(c->fd, &more, 1, MSG_PEEK | MSG_DONTWAIT) <= 0 && idle(c))
            return true;
    }
    return true;
}

static bool records(struct client *c, int peer, const uint8_t *at, const uint8_t *end)
{
    while (end - at >= 6) {
        static const uint32_t programs[] = { RPC_REMOTE_PROGRAM, RPC_REMOTE_PROGRAM, RPC_QEMU_PROGRAM, RPC_KEEPALIVE_PROGRAM };
        unsigned kind = at[0], procedure = (unsigned)(at[1] << 8 | at[2]) % 500, serial = at[3], n = (unsigned)(at[4] << 8 | at[5]);
        at += 6;
        n = MIN(n, (unsigned)(end - at));
        g_autoptr(GByteArray) m = rpc_message_new(programs[kind >> 6], procedure, kind & 8 ? kind & 7 : RPC_CALL, serial, kind >> 4 & 3);
        g_byte_array_append(m, at, n);
        rpc_message_finish(m);
        if (!give(c, peer, m->data, m->len))
            return false;
        at += n;
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int ends[2];
    if (!root) {
        root = g_dir_make_tmp("fuzz-rpc-XXXXXX", NULL);
        context = g_main_context_new();
        atexit(remove_root);
    }
    if (size < 2 || size > 8192 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return 0;
    struct manage_state *state = manage_state_new(&manage_table_test, root, context, NULL);
    struct daemon_config config;
    g_assert(daemon_config_load(&config, "/nonexistent", false, true, NULL));
    struct server *s = server_new(state, &config, g_ptr_array_new());
    s->workers = g_thread_pool_new(call_worker, s, 1, FALSE, NULL);
    const struct listener from = { .readonly = data[0] & 2 };
    struct client *c = client_new(s, ends[0], &from);
    struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };
    epoll_ctl(s->epoll, EPOLL_CTL_ADD, ends[0], &e);
    g_hash_table_add(s->clients, c);
    c->conn->open = data[0] & 1;
    c->conn->uri = c->conn->open ? g_strdup("test:///default") : NULL;
    if (data[0] & 4)
        give(c, ends[1], data + 1, size - 1);
    else
        records(c, ends[1], data + 1, data + size);
    g_hash_table_remove(s->clients, c);
    client_close(c);
    client_unref(c);
    close(ends[1]);
    while (g_main_context_iteration(context, FALSE))
        ;
    server_free(s);
    manage_state_free(state);
    return 0;
}
