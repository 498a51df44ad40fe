/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a server answers to the NBD client. All answers lie in the socket before the client asks. The first byte says how much of
 * them is right: nothing, the greeting, or all of the negotiation; the rest, answers to requests included, comes from the input.
 */
#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/keyval.h"
#include "block/node.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HELLO "NBDMAGICIHAVEOPT\0\3"
#define REPLY(option, type) "\0\3\350\211\4\125\145\251\0\0\0" option type
#define ACK "\0\0\0\1\0\0\0\0"
#define STRUCTURED REPLY("\10", ACK)
#define CONTEXT REPLY("\12", "\0\0\0\4\0\0\0\23\0\0\0\1base:allocation") REPLY("\12", ACK)
#define EXPORT REPLY("\7", "\0\0\0\3\0\0\0\14\0\0\0\0\0\0\0\20\0\0\4\155") REPLY("\7", ACK)
static const struct {
    const char *text;
    size_t n;
} before[] = {
#define ROW(x) { x, sizeof(x) - 1 }
    ROW(""), ROW(HELLO), ROW(HELLO STRUCTURED), ROW(HELLO STRUCTURED CONTEXT), ROW(HELLO STRUCTURED CONTEXT EXPORT),
    ROW(HELLO REPLY("\10", "\200\0\0\1\0\0\0\0") EXPORT),
};

static void send_all(int fd, const void *data, size_t n)
{
    while (n) {
        ssize_t sent = send(fd, data, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent <= 0)
            return;
        data = (const char *)data + sent;
        n -= (size_t)sent;
    }
}

static void use(struct block_node *n)
{
    uint8_t buffer[4096];
    struct block_status st;
    if (block_node_size(n) < sizeof(buffer))
        return;
    (void)block_pread(n, 0, sizeof(buffer), buffer);
    (void)block_status(n, 0, block_node_size(n), &st);
    (void)block_pwrite(n, 512, 512, buffer, BLOCK_FUA);
    (void)block_write_zeroes(n, 0, 4096, BLOCK_MAY_UNMAP);
    (void)block_discard(n, 0, 4096);
    (void)block_flush(n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fds[2];
    if (!size || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
        return 0;
    unsigned how = data[0] % G_N_ELEMENTS(before);
    send_all(fds[0], before[how].text, before[how].n);
    send_all(fds[0], data + 1, size - 1);
    shutdown(fds[0], SHUT_WR);
    struct block_graph *g = block_graph_create();
    keyval_auto *kv = keyval_new();
    g_autofree char *fd = g_strdup_printf("%d", fds[1]);
    keyval_add(kv, "driver", "nbd");
    keyval_add(kv, "server.type", "fd");
    keyval_add(kv, "server.str", fd);
    GError *error = NULL;
    struct block_node *n = block_open_options(g, kv, BLOCK_RDWR | BLOCK_AUTO_READ_ONLY | BLOCK_UNMAP, &error);
    g_clear_error(&error);
    if (n) {
        block_enter(g);
        use(n);
        block_leave(g);
    }
    block_node_unref(n);
    block_graph_destroy(g);
    close(fds[0]);
    return 0;
}
