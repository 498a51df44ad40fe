/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Filter "throttle": requests wait until the limits of a group let them begin (throttle.h). */
#include "base/error.h"
#include "block/drivers.h"
#include "block/filter.h"
#include "base/throttle.h"

struct throttle_state {
    char *group;
    struct throttle_member *member;
};
static const struct keyval_key keys[] = {
    { "throttle-group", KV_STRING, offsetof(struct throttle_state, group), "id of an -object throttle-group" },
    { NULL }
};

static bool throttle_open(struct block_node *n, unsigned flags, GError **error)
{
    struct throttle_state *s = n->state;
    if (!s->group)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Please specify a throttle group");
    struct throttle_group *g = throttle_group_find(block_graph_throttle(n->graph), s->group);
    if (!g)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Throttle group '%s' does not exist", s->group);
    s->member = throttle_join(g);
    filter_take_over(n);
    return true;
}

static void throttle_close(struct block_node *n)
{
    struct throttle_state *s = n->state;
    throttle_leave(g_steal_pointer(&s->member));
    g_clear_pointer(&s->group, g_free);
}

/* Whoever changes the graph does not wait for limits. */
static bool wanted(void *graph)
{
    return block_graph_wanted(graph);
}

static void begin(struct block_node *n, bool write, uint64_t bytes)
{
    throttle_wait(((struct throttle_state *)n->state)->member, write, bytes, wanted, n->graph);
}

static int throttle_preadv(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov)
{
    begin(n, false, bytes);
    return filter_preadv(n, offset, bytes, iov, niov);
}

static int throttle_pwritev(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov, unsigned flags)
{
    begin(n, true, bytes);
    return filter_pwritev(n, offset, bytes, iov, niov, flags);
}

static int throttle_write_zeroes(struct block_node *n, uint64_t offset, uint64_t bytes, unsigned flags)
{
    begin(n, true, bytes);
    return filter_write_zeroes(n, offset, bytes, flags);
}

static int throttle_discard(struct block_node *n, uint64_t offset, uint64_t bytes)
{
    begin(n, true, bytes);
    return filter_discard(n, offset, bytes);
}

const struct block_driver block_throttle = {
    .name = "throttle",
    .help = "limits bytes and requests per second",
    .kind = BLOCK_FILTER,
    .state_size = sizeof(struct throttle_state),
    .keys = keys,
    .open = throttle_open,
    .close = throttle_close,
    .reopen = filter_reopen,
    .preadv = throttle_preadv,
    .pwritev = throttle_pwritev,
    .write_zeroes = throttle_write_zeroes,
    .discard = throttle_discard,
    .supports_fua = true,
    .growable = true,
    .truncate = filter_truncate,
    .get_info = filter_get_info,
};
