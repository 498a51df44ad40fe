/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Images that change hands: of two processes that have the same images open, one writes. The other has BLOCK_INACTIVE at all its nodes: no
 * locks, no writes, and what it has read of metadata is not to be trusted.
 */
#include <string.h>

#include "block/block_private.h"
#include "block/driver.h"

/* Formats that can let go of an image, and read it anew. */
static bool knows(const struct block_node *n)
{
    static const char *const formats[] = { "raw", "qcow2", "luks" };
    if (n->driver->kind != BLOCK_FORMAT || !(n->flags & BLOCK_RDWR))
        return true;
    for (size_t i = 0; i < G_N_ELEMENTS(formats); i++) {
        if (!strcmp(n->driver->name, formats[i]))
            return true;
    }
    return false;
}

bool block_may_change_hands(struct block_graph *g, GError **error)
{
    g_autoptr(GPtrArray) nodes = block_nodes(g);
    for (guint i = 0; i < nodes->len; i++) {
        const struct block_node *n = nodes->pdata[i];
        if (n->flags & BLOCK_TEMPORARY && n->driver->kind == BLOCK_FORMAT)
            return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "disk '%s' was opened with snapshot=on: what was written since is in a temporary file that no "
                              "other process can take over", n->filename);
        if (!knows(n))
            return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "disk '%s' has the format %s, which another process cannot take over while it is written; "
                              "convert it to qcow2 or raw", n->filename, n->driver->name);
    }
    return true;
}

static bool set(struct block_node *n, bool inactive, GError **error)
{
    unsigned flags = inactive ? n->flags | BLOCK_INACTIVE : n->flags & ~(unsigned)BLOCK_INACTIVE;
    if (n->driver->reopen && !n->driver->reopen(n, flags, error))
        return false;
    n->flags = flags;
    return true;
}

/* Formats let go before the files below them; files are taken before formats read them. */
static bool set_all(GPtrArray *nodes, bool inactive, GPtrArray *done, GError **error)
{
    for (unsigned pass = 0; pass < 2; pass++) {
        for (guint i = 0; i < nodes->len; i++) {
            struct block_node *n = nodes->pdata[inactive ? nodes->len - 1 - i : i];
            bool file = n->driver->kind == BLOCK_PROTOCOL;
            if (file != (inactive ? pass == 1 : pass == 0) || !!(n->flags & BLOCK_INACTIVE) == inactive || n->flags & BLOCK_TEMPORARY)
                continue;
            if (!set(n, inactive, error))
                return false;
            g_ptr_array_add(done, n);
        }
    }
    return true;
}

static bool change(struct block_graph *g, bool inactive, GError **error)
{
    g_autoptr(GPtrArray) nodes = block_nodes(g), done = g_ptr_array_new();
    block_quiesce(g);
    bool ok = set_all(nodes, inactive, done, error);
    for (guint i = done->len; !ok && i-- > 0;)
        (void)set(done->pdata[i], !inactive, NULL);
    block_resume(g);
    return ok;
}

bool block_inactivate_all(struct block_graph *g, GError **error)
{
    g_autoptr(GPtrArray) nodes = block_nodes(g);
    if (!block_may_change_hands(g, error))
        return false;
    for (guint i = 0; i < nodes->len; i++) {
        struct block_node *n = nodes->pdata[i];
        int err = 0;
        if (n->flags & BLOCK_RDWR && !(n->flags & BLOCK_INACTIVE)) {
            block_enter(g);
            err = block_flush(n);
            block_leave(g);
        }
        if (err)
            return vireo_fail_errno(error, err, "disk '%s' cannot be flushed", n->filename);
    }
    return change(g, true, error);
}

bool block_activate_all(struct block_graph *g, GError **error)
{
    return change(g, false, error);
}

static bool activate(struct block_node *n, GError **error)
{
    for (int i = 0; i < BLOCK_NROLES; i++) {
        if (n->child[i] && !activate(n->child[i], error))
            return false;
    }
    return !(n->flags & BLOCK_INACTIVE) || set(n, false, error);
}

bool block_activate(struct block_node *n, GError **error)
{
    return activate(n, error);
}
