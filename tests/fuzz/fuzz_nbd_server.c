/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a client sends to the NBD server. The first byte says how far a well-behaved client has come before: nothing, the client
 * flags, or all of the negotiation (with structured replies and contexts, or without); the rest comes from the input.
 */
#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/keyval.h"
#include "block/bitmap.h"
#include "block/nbd_server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FLAGS "\0\0\0\3"
#define OPTION "IHAVEOPT\0\0\0"
#define STRUCTURED OPTION "\10\0\0\0\0"
#define GO OPTION "\7\0\0\0\7\0\0\0\1d\0\0"
static const struct {
    const char *text;
    size_t n;
} before[] = {
#define ROW(x) { x, sizeof(x) - 1 }
    ROW(""), ROW(FLAGS), ROW(FLAGS STRUCTURED), ROW(FLAGS GO), ROW(FLAGS STRUCTURED OPTION "\12\0\0\0\34\0\0\0\1d\0\0\0\1\0\0\0\17base:allocation" GO),
    ROW(FLAGS STRUCTURED GO),
};

static struct nbd_server *server(void)
{
    static struct nbd_server *s;
    if (s)
        return s;
    GError *error = NULL;
    struct block_graph *g = block_graph_create();
    keyval_auto *kv = keyval_parse("driver=null-co,size=64M,read-zeroes=on", NULL, NULL);
    struct block_node *n = block_open_options(g, kv, BLOCK_RDWR | BLOCK_UNMAP, &error);
    g_assert_no_error(error);
    s = nbd_server_start_fd(-1, 0);
    GPtrArray *bitmaps = g_ptr_array_new();
    g_ptr_array_add(bitmaps, block_bitmap_create(n, "bitmap", 0, &error));
    g_assert_no_error(error);
    const struct nbd_export_options o = { .name = "d", .description = "text", .writable = true, .allocation_depth = true, .bitmaps = bitmaps };
    g_assert_true(nbd_server_add(s, n, &o, NULL, NULL, &error));
    return s;
}

static void send_all(int fd, const void *data, size_t n)
{
    while (n) {
        ssize_t sent = send(fd, data, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent <= 0)
            return; /* more than fits: the rest does not come */
        data = (const char *)data + sent;
        n -= (size_t)sent;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fds[2];
    char waste[65536];
    if (!size || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
        return 0;
    unsigned how = data[0] % G_N_ELEMENTS(before);
    send_all(fds[0], before[how].text, before[how].n);
    send_all(fds[0], data + 1, size - 1);
    shutdown(fds[0], SHUT_WR);
    nbd_server_take(server(), fds[1]);
    for (size_t total = 0; total < (256u << 20);) { /* reading ends when the server hangs up */
        ssize_t got = recv(fds[0], waste, sizeof(waste), 0);
        if (got <= 0)
            break;
        total += (size_t)got;
    }
    close(fds[0]);
    return 0;
}
