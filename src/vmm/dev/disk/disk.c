/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/dev/disk/disk.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "vmm/core/machine.h"
#include "vmm/core/state.h"

enum { SECTOR = 512 };

const char *const disk_policies[] = { "auto", "report", "ignore", "stop", "enospc", NULL };
const char *const disk_on_off_auto[] = { "off", "on", "auto", NULL };

/* ---- errors of the host ---- */

static enum block_on_error policy(const struct disk *d, bool read)
{
    int own = read ? d->rerror : d->werror; /* "auto", then as enum block_on_error */
    const struct block_device_options *o = block_device_options(d->block);
    return own ? (enum block_on_error)(own - 1) : read ? o->rerror : o->werror;
}

/* True: the request stays and is tried again. *err becomes what the guest hears. */
static bool handle_error(struct disk *d, const struct disk_request *r, int *err)
{
    bool read = r->r.op == BLOCK_READ;
    enum block_on_error p = policy(d, read);
    if (*err == ENOMEDIUM || d->dropping)
        return false;
    bool stop = p == BLOCK_ON_ERROR_STOP || (p == BLOCK_ON_ERROR_ENOSPC && *err == ENOSPC && !read);
    const struct block_device_options *o = block_device_options(d->block);
    const struct block_node *node = block_device_node(d->block);
    struct block_io_error e = { .device = o->id ? o->id : "", .node = node ? block_node_name(node) : "", .operation = read ? "read" : "write",
                                .action = stop ? "stop" : p == BLOCK_ON_ERROR_IGNORE ? "ignore" : "report", .reason = g_strerror(*err),
                                .nospace = *err == ENOSPC };
    machine_report_io_error(d->dev->machine, &e);
    if (p == BLOCK_ON_ERROR_IGNORE)
        *err = 0;
    return stop;
}

/* ---- requests ---- */

static void tell(struct disk *d, struct disk_request *r, int err)
{
    if (err && handle_error(d, r, &err))
        g_queue_push_tail(&d->retry, r);
    else
        r->complete(r, err);
}

static struct disk_request *take_done(struct disk *d)
{
    struct disk_request *list = NULL;
    g_mutex_lock(&d->done_lock);
    while (d->done) { /* the first first */
        struct disk_request *r = d->done;
        d->done = r->next;
        r->next = list;
        list = r;
    }
    d->telling = list != NULL;
    g_mutex_unlock(&d->done_lock);
    return list;
}

/* While one thread tells of completions others only add theirs to the next batch. */
static void on_done(struct block_request *br, int err)
{
    struct disk_request *r = br->opaque;
    struct disk *d = r->disk;
    r->err = err;
    g_mutex_lock(&d->done_lock);
    bool mine = !d->telling;
    r->next = d->done;
    d->done = r;
    d->telling = true;
    g_mutex_unlock(&d->done_lock);
    if (!mine)
        return;
    g_mutex_lock(d->lock);
    struct disk_request *list = take_done(d);
    while (list) {
        for (struct disk_request *next; list; list = next) {
            next = list->next;
            d->inflight--;
            tell(d, list, list->err);
        }
        if (d->batch_done)
            d->batch_done(d->opaque);
        list = take_done(d);
    }
    if (!d->inflight)
        g_cond_broadcast(&d->idle);
    g_mutex_unlock(d->lock);
}

void disk_submit(struct disk *d, struct disk_request *r)
{
    int err;
    r->disk = d;
    r->r.done = on_done;
    r->r.opaque = r;
    if (!d->block) {
        r->complete(r, ENOMEDIUM);
        return;
    }
    if (block_try_now(d->block, &r->r, &err)) {
        tell(d, r, err);
        return;
    }
    d->inflight++;
    block_submit(d->block, &r->r);
}

static void on_hook(void *opaque, enum machine_hook_event ev)
{
    struct disk *d = opaque;
    struct disk_request *r;
    if (ev != HOOK_RUN)
        return;
    g_mutex_lock(d->lock);
    for (unsigned n = g_queue_get_length(&d->retry); n && (r = g_queue_pop_head(&d->retry)); n--) {
        d->inflight++;
        block_submit(d->block, &r->r);
    }
    g_mutex_unlock(d->lock);
}

void disk_settle(struct disk *d)
{
    struct disk_request *r;
    if (!d->dev)
        return;
    d->dropping = true;
    while (d->inflight)
        g_cond_wait(&d->idle, d->lock);
    while ((r = g_queue_pop_head(&d->retry)))
        r->complete(r, ECANCELED);
    d->dropping = false;
}

void disk_drain(struct disk *d)
{
    while (d->dev && d->inflight)
        g_cond_wait(&d->idle, d->lock);
}

void disk_save(const struct disk *d, struct state_writer *w)
{
    state_put_u64(w, "disk.write_back", disk_has_cache(d));
}

bool disk_load(struct disk *d, struct state_reader *r, GError **error)
{
    uint64_t on;
    if (!state_get_u64(r, "disk.write_back", 1, &on, error))
        return false;
    disk_set_cache(d, on);
    return true;
}

int disk_slice(const struct iovec *iov, unsigned n, uint64_t skip, uint64_t length, struct iovec *ret)
{
    int count = 0;
    for (unsigned i = 0; i < n && length; i++) {
        uint64_t off = MIN(skip, iov[i].iov_len), part = MIN(iov[i].iov_len - off, length);
        skip -= off;
        if (part)
            ret[count++] = (struct iovec){ (char *)iov[i].iov_base + off, part };
        length -= part;
    }
    return count;
}

/* ---- the write cache ---- */

bool disk_has_cache(const struct disk *d)
{
    return d->block && !block_device_options(d->block)->write_through;
}

void disk_set_cache(struct disk *d, bool write_back)
{
    if (d->block)
        block_device_set_write_through(d->block, !write_back);
}

void disk_reset_cache(struct disk *d)
{
    disk_set_cache(d, !d->write_through);
}

bool disk_has_medium(const struct disk *d)
{
    return d->block && block_device_node(d->block);
}

/* ---- life ---- */

static bool is_block_size(uint64_t n)
{
    return n >= SECTOR && !(n & (n - 1));
}

static bool check_sizes(struct disk *d, bool any_size, GError **error)
{
    const char *name = d->dev->class->name;
    if (!d->logical_block_size)
        d->logical_block_size = SECTOR;
    if (!d->physical_block_size)
        d->physical_block_size = MAX(SECTOR, d->logical_block_size);
    if (!is_block_size(d->logical_block_size) || !is_block_size(d->physical_block_size))
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: %s_block_size must be a power of two from 512 to 2097152", name,
                          is_block_size(d->logical_block_size) ? "physical" : "logical");
    if (d->logical_block_size > d->physical_block_size)
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: logical_block_size > physical_block_size not supported", name);
    if (d->min_io_size % d->logical_block_size || d->opt_io_size % d->logical_block_size)
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: %s must be a multiple of logical_block_size", name,
                          d->min_io_size % d->logical_block_size ? "min_io_size" : "opt_io_size");
    if (d->discard_granularity == UINT32_MAX)
        d->discard_granularity = d->logical_block_size;
    if (d->discard_granularity % d->logical_block_size)
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: discard_granularity must be a multiple of logical_block_size", name);
    if (d->block && !any_size && block_size(d->block) % d->logical_block_size)
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: logical_block_size=%" G_GUINT64_FORMAT ": the disk's size is not a multiple of it",
                          name, d->logical_block_size);
    return true;
}

static bool find_drive(struct disk *d, bool may_be_empty, GError **error)
{
    const char *name = d->dev->class->name;
    if (!d->drive || !*d->drive)
        return may_be_empty || vireo_fail(error, VIREO_ERROR_INVALID, "device %s needs drive=ID of a -drive or -blockdev", name);
    struct block_device *b = g_hash_table_lookup(d->dev->machine->drives, d->drive);
    if (!b)
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "device %s: there is no drive '%s'", name, d->drive);
    if (!may_be_empty && !block_device_node(b))
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: the drive '%s' has no medium", name, d->drive);
    if (!block_claim(b, d->dev->id ? d->dev->id : name, error))
        return false;
    d->block = b;
    d->write_through = block_device_options(b)->write_through;
    return true;
}

static void on_change(void *opaque, bool resized)
{
    struct disk *d = opaque;
    if (d->changed)
        d->changed(d->opaque, resized);
}

bool disk_open(struct disk *d, struct device *dev, GMutex *lock, bool may_be_empty, GError **error)
{
    d->dev = dev;
    d->lock = lock ? lock : &dev->lock;
    g_cond_init(&d->idle);
    g_queue_init(&d->retry);
    g_mutex_init(&d->done_lock);
    machine_add_hook(dev->machine, on_hook, d);
    if (!find_drive(d, may_be_empty, error) || !check_sizes(d, may_be_empty, error)) {
        disk_close(d);
        return false;
    }
    if (d->block) {
        if (d->write_cache < 2)
            block_device_set_write_through(d->block, !d->write_cache);
        d->write_through = block_device_options(d->block)->write_through;
        block_device_on_change(d->block, on_change, d);
    }
    return true;
}

void disk_close(struct disk *d)
{
    if (!d->dev)
        return;
    machine_remove_hook(d->dev->machine, on_hook, d);
    if (d->block) {
        block_device_on_change(d->block, NULL, NULL);
        g_mutex_lock(d->lock);
        disk_settle(d);
        g_mutex_unlock(d->lock);
        block_drain(d->block); /* the last completion may still hold the lock on its way out */
        disk_reset_cache(d);
        block_unclaim(d->block);
    }
    d->block = NULL;
    g_cond_clear(&d->idle);
    g_mutex_clear(&d->done_lock);
    d->dev = NULL;
}
