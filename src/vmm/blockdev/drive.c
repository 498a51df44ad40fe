/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The keys of -drive: which are the drive's, which open flags, which options of the node. */
#include <string.h>

#include "base/error.h"
#include "vmm/blockdev/blockdev.h"

enum cache { WRITEBACK, NONE, WRITETHROUGH, DIRECTSYNC, UNSAFE, OFF };
static const char *const cache_values[] = { "writeback", "none", "writethrough", "directsync", "unsafe", "off", NULL };
static const char *const if_values[] = { "none", "virtio", "ide", "scsi", "sd", "mtd", "floppy", "pflash", "xen", NULL }; /* as enum blockdev_interface, less one */
static const char *const media_values[] = { "disk", "cdrom", NULL };
static const char *const werror_values[] = { "report", "ignore", "stop", "enospc", NULL };
static const char *const rerror_values[] = { "report", "ignore", "stop", NULL };
static const char *const discard_values[] = { "ignore", "off", "unmap", "on", NULL };
static const char *const detect_values[] = { "off", "on", "unmap", NULL };
static const char *const aio_values[] = { "threads", "native", "io_uring", NULL };

/* Numbers of -1: not given. */
struct keys {
    char *id, *file, *format, *node_name;
    uint64_t index, bus, unit;
    int interface, media, cache, aio, discard, detect_zeroes, rerror, werror;
    bool read_only, auto_read_only, force_share, snapshot, copy_on_read, direct, no_flush, writeback;
};
#define K(member) offsetof(struct keys, member)
static const struct keyval_key drive_keys[] = {
    { "file", KV_STRING, K(file), "image" },
    { "if", KV_ENUM, K(interface), "how it is attached", if_values },
    { "format", KV_STRING, K(format), "of the image" },
    { "driver", KV_STRING, K(format), "the same" },
    { "id", KV_STRING, K(id), "name for -device drive=" },
    { "node-name", KV_STRING, K(node_name), "name of the node, shown by QMP" },
    { "index", KV_UINT, K(index), "place among the disks", NULL, 0, 255 },
    { "bus", KV_UINT, K(bus), "bus of the interface", NULL, 0, 255 },
    { "unit", KV_UINT, K(unit), "place on the bus", NULL, 0, 255 },
    { "media", KV_ENUM, K(media), "disk or cdrom", media_values },
    { "readonly", KV_BOOL, K(read_only), "the guest cannot write" },
    { "read-only", KV_BOOL, K(read_only), "the same" },
    { "auto-read-only", KV_BOOL, K(auto_read_only), "read-only where writing is not permitted" },
    { "force-share", KV_BOOL, K(force_share), "read beside a writer" },
    { "snapshot", KV_BOOL, K(snapshot), "writes go to a temporary file" },
    { "copy-on-read", KV_BOOL, K(copy_on_read), "what is read is copied up from the backing image" },
    { "cache", KV_ENUM, K(cache), "host cache", cache_values },
    { "cache.direct", KV_BOOL, K(direct), "past the host's page cache" },
    { "cache.no-flush", KV_BOOL, K(no_flush), "flushes do nothing" },
    { "cache.writeback", KV_BOOL, K(writeback), "off: each write is on the disk before it completes" },
    { "aio", KV_ENUM, K(aio), "how requests wait", aio_values },
    { "rerror", KV_ENUM, K(rerror), "on a read error", rerror_values },
    { "werror", KV_ENUM, K(werror), "on a write error", werror_values },
    { "discard", KV_ENUM, K(discard), "unmap: free what the guest discards", discard_values },
    { "detect-zeroes", KV_ENUM, K(detect_zeroes), "store zeroes that are written as holes", detect_values },
    { NULL }
};

void blockdev_drive_clear(struct blockdev_drive *d)
{
    g_free(d->id);
    g_free(d->file);
    g_free(d->format);
    keyval_free(d->node);
    keyval_free(d->throttle);
    *d = (struct blockdev_drive){ 0 };
}

static void keys_clear(struct keys *k)
{
    g_free(k->id);
    g_free(k->file);
    g_free(k->format);
    g_free(k->node_name);
}

/* The names that limits had before they were throttling.*: bps, iops_rd, bps_max, iops_wr_max_length ..., iops_size, group. */
static void rename_limits(struct keyval *kv)
{
    static const char *const kinds[][2] = { { "bps", "bps-total" }, { "bps_rd", "bps-read" }, { "bps_wr", "bps-write" },
                                            { "iops", "iops-total" }, { "iops_rd", "iops-read" }, { "iops_wr", "iops-write" } };
    static const char *const tails[][2] = { { "", "" }, { "_max", "-max" }, { "_max_length", "-max-length" } };
    for (size_t i = 0; i < G_N_ELEMENTS(kinds) * G_N_ELEMENTS(tails) + 2; i++) {
        size_t k = i / G_N_ELEMENTS(tails), t = i % G_N_ELEMENTS(tails);
        bool last = k == G_N_ELEMENTS(kinds);
        g_autofree char *old = last ? g_strdup(t ? "group" : "iops_size") : g_strconcat(kinds[k][0], tails[t][0], NULL);
        g_autofree char *now = last ? g_strdup(t ? "throttling.group" : "throttling.iops-size") : g_strconcat("throttling.", kinds[k][1], tails[t][1], NULL);
        g_autofree char *value = keyval_take(kv, old);
        if (value)
            keyval_add(kv, now, value);
    }
}

/* The drive's own keys go to k, throttling.* to d, the rest are the node's. */
static bool sort_keys(const struct keyval *given, struct keys *k, struct blockdev_drive *d, GError **error)
{
    keyval_auto *mine = keyval_new();
    d->node = keyval_copy(given);
    for (guint i = 0; i < given->pairs->len; i++) {
        const struct keyval_pair *p = given->pairs->pdata[i];
        for (const struct keyval_key *row = drive_keys; row->name; row++) {
            bool flag = !p->value && g_str_has_prefix(p->key, "no") && !strcmp(p->key + 2, row->name);
            if (strcmp(row->name, p->key) && !flag)
                continue;
            g_free(keyval_take(d->node, p->key));
            keyval_add(mine, p->key, p->value);
            break;
        }
    }
    rename_limits(d->node);
    d->throttle = keyval_take_nested(d->node, "throttling");
    if (d->throttle && !d->throttle->pairs->len)
        g_clear_pointer(&d->throttle, keyval_free);
    return keyval_load(mine, drive_keys, k, error);
}

static bool check(const struct keys *k, GError **error)
{
    if (k->cache >= 0 && (k->direct || k->no_flush || !k->writeback))
        return vireo_fail(error, VIREO_ERROR_INVALID, "cache= and cache.* contradict each other; keep one of them");
    if (k->copy_on_read && k->read_only)
        return vireo_fail(error, VIREO_ERROR_INVALID, "copy-on-read=on writes to the image: it does not go with readonly=on");
    if (k->index != UINT64_MAX && (k->bus != UINT64_MAX || k->unit != UINT64_MAX))
        return vireo_fail(error, VIREO_ERROR_INVALID, "index cannot be used with bus and unit");
    if (k->detect_zeroes == BLOCK_DETECT_UNMAP && k->discard < 2)
        return vireo_fail(error, VIREO_ERROR_INVALID, "detect-zeroes=unmap needs discard=unmap");
    return true;
}

static unsigned open_flags(const struct keys *k)
{
    bool direct = k->direct || k->cache == NONE || k->cache == OFF || k->cache == DIRECTSYNC, read_only = k->read_only || k->media == 1;
    return (read_only ? 0 : BLOCK_RDWR) | (k->auto_read_only ? BLOCK_AUTO_READ_ONLY : 0) | (k->force_share ? BLOCK_FORCE_SHARE : 0) |
           (k->discard >= 2 ? BLOCK_UNMAP : 0) | (direct ? BLOCK_DIRECT : 0) | (k->no_flush || k->cache == UNSAFE ? BLOCK_NO_FLUSH : 0) |
           (k->aio == 1 ? BLOCK_AIO_NATIVE : k->aio == 2 ? BLOCK_AIO_IO_URING : 0);
}

bool blockdev_drive_parse(const struct keyval *kv, struct blockdev_drive *ret, GError **error)
{
    struct keys k = { .interface = -1, .media = 0, .cache = -1, .aio = -1, .discard = -1, .detect_zeroes = -1, .rerror = BLOCK_ON_ERROR_REPORT,
                      .werror = BLOCK_ON_ERROR_ENOSPC, .index = UINT64_MAX, .bus = UINT64_MAX, .unit = UINT64_MAX, .writeback = true };
    *ret = (struct blockdev_drive){ 0 };
    bool ok = sort_keys(kv, &k, ret, error) && check(&k, error);
    if (ok) {
        ret->id = g_steal_pointer(&k.id);
        ret->file = g_steal_pointer(&k.file);
        ret->format = g_steal_pointer(&k.format);
        ret->interface = k.interface + 1;
        if (k.interface >= 0)
            ret->interface = BLOCKDEV_IF_NONE + k.interface;
        ret->media = k.media;
        ret->index = k.index;
        ret->bus = k.bus;
        ret->unit = k.unit;
        ret->snapshot = k.snapshot;
        ret->copy_on_read = k.copy_on_read;
        ret->rerror = k.rerror;
        ret->werror = k.werror;
        ret->flags = open_flags(&k);
        ret->write_through = !k.writeback || k.cache == WRITETHROUGH || k.cache == DIRECTSYNC;
        if (k.node_name)
            keyval_add(ret->node, "node-name", k.node_name);
        if (k.detect_zeroes > 0)
            keyval_add(ret->node, "detect-zeroes", detect_values[k.detect_zeroes]);
    }
    keys_clear(&k);
    if (!ok)
        blockdev_drive_clear(ret);
    return ok;
}
