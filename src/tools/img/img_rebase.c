/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vireo-img rebase: another backing image under an overlay, with the same content to its readers */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/driver.h"
#include "tools/img/img.h"
#include "tools/img/img_commands.h"

enum { BUFFER = 1 << 20, SECTOR = 512 };

struct args {
    struct img_common common;
    char *backing, *backing_format;
    bool unsafe;
};
#define A(member) offsetof(struct args, member)
static const struct img_option options[] = {
    IMG_OBJECT, IMG_IMAGE_OPTS, IMG_FORMAT, IMG_CACHE, IMG_SRC_CACHE,
    { 'b', NULL, IMG_STRING, A(backing), "FILE", "the new backing file; '' for none" },
    { 'F', NULL, IMG_STRING, A(backing_format), "FORMAT", "its format" },
    { 'u', NULL, IMG_FLAG, A(unsafe), NULL, "only write the name: the new backing file is said to have the same content" },
    IMG_PROGRESS, IMG_QUIET, IMG_SHARE, IMG_END
};

struct rebase {
    struct img *img;
    struct block_node *top, *old, *new; /* NULL: none */
    struct block_node *shared;          /* of the old chain: also in the new one; what comes from there stays */
    uint8_t *buffer[2];
    unsigned write_flags;
};

/* Sectors in which the old and the new backing image differ are written into the overlay. */
static int write_differences(struct rebase *r, uint64_t offset, uint64_t bytes)
{
    const uint8_t *a = r->buffer[0], *b = r->buffer[1];
    for (uint64_t at = 0; at < bytes;) {
        uint64_t run = 0;
        while (at < bytes && !memcmp(a + at, b + at, MIN(SECTOR, bytes - at)))
            at += SECTOR;
        while (at + run < bytes && memcmp(a + at + run, b + at + run, MIN(SECTOR, bytes - at - run)))
            run += SECTOR;
        run = at < bytes ? MIN(run, bytes - at) : 0;
        int err = 0;
        if (run && buffer_is_zero(a + at, run))
            err = block_write_zeroes(r->top, offset + at, run, r->write_flags);
        else if (run)
            err = block_pwrite(r->top, offset + at, run, a + at, r->write_flags);
        if (err)
            return err;
        at += run;
    }
    return 0;
}

static int rebase_piece(struct rebase *r, uint64_t offset, uint64_t bytes)
{
    for (uint64_t done = 0; done < bytes && !img_canceled(r->img); done += BUFFER) {
        uint64_t part = MIN(bytes - done, (uint64_t)BUFFER);
        for (int i = 0; i < 2; i++) {
            struct block_node *n = i ? r->new : r->old;
            int err = n ? img_read_padded(n, offset + done, part, r->buffer[i]) : 0;
            if (err)
                return err;
            if (!n)
                memset(r->buffer[i], 0, part);
        }
        int err = memcmp(r->buffer[0], r->buffer[1], part) ? write_differences(r, offset + done, part) : 0;
        if (err)
            return err;
    }
    return 0;
}

/* Until the name is written, the overlay reads the same as before, whatever has been copied. */
static bool copy(struct rebase *r, GError **error)
{
    uint64_t size = block_node_size(r->top);
    for (uint64_t at = 0; at < size;) {
        struct block_status s;
        int err = block_status(r->top, at, size - at, &s);
        bool own = !err && s.flags & BLOCK_STATUS_ALLOCATED;
        uint64_t bytes = err ? 0 : own ? s.bytes : MIN(s.bytes, 16u << 20);
        if (!err && !own && r->shared && r->old && at < block_node_size(r->old)) {
            err = block_status_chain(r->old, r->shared, at, MIN(bytes, block_node_size(r->old) - at), &s);
            bytes = MIN(bytes, s.bytes);
            own = !err && !(s.flags & BLOCK_STATUS_ALLOCATED) && at + bytes <= block_node_size(r->shared);
        }
        if (!err && !own)
            err = rebase_piece(r, at, bytes);
        if (err)
            return vireo_fail_errno(error, err, "error while copying at byte %" G_GUINT64_FORMAT, at);
        at += bytes;
        img_progress(r->img, (double)at / (double)size * 0.99);
        if (img_canceled(r->img))
            return img_interrupted(r->img, error);
    }
    int err = block_flush(r->top);
    return !err || vireo_fail_errno(error, err, "cannot write '%s'", block_node_filename(r->top));
}

static struct block_node *find_shared(struct block_node *old, struct block_node *new)
{
    g_autofree char *real = new ? realpath(block_node_filename(new), NULL) : NULL;
    for (struct block_node *n = block_skip_filters(old); n && real; n = block_skip_filters(block_backing(n))) {
        g_autofree char *other = realpath(block_node_filename(n), NULL);
        if (other && !strcmp(other, real))
            return n;
    }
    return NULL;
}

static bool change_name(struct block_node *top, const struct args *a, GError **error)
{
    const char *file = a->backing && *a->backing ? a->backing : NULL;
    GError *e = NULL;
    block_quiesce(block_node_graph(top));
    bool ok = (!file || a->backing_format || vireo_fail(&e, VIREO_ERROR_INVALID, "backing format must be specified: -F FORMAT")) &&
              block_change_backing_file(top, file, file ? a->backing_format : NULL, &e);
    block_resume(block_node_graph(top));
    if (!ok)
        g_propagate_prefixed_error(error, e, "Could not change the backing file to '%s': ", file ? file : "");
    return ok;
}

static bool safe(struct img *img, const struct args *a, const char *filename, struct block_node *top, unsigned src_flags, unsigned write_flags, GError **error)
{
    struct rebase r = { .img = img, .top = top, .old = block_skip_filters(block_backing(block_skip_filters(top))), .write_flags = write_flags };
    block_node_auto *new = NULL;
    if (*a->backing) {
        g_autofree char *path = block_resolve(block_node_filename(top), a->backing);
        GError *e = NULL;
        new = block_open_filename(img->graph, path, a->backing_format, NULL, src_flags, &e);
        if (!new) {
            g_propagate_prefixed_error(error, e, "Could not open new backing file '%s': ", path);
            return false;
        }
        g_autofree char *mine = realpath(filename, NULL), *its = realpath(path, NULL);
        if (mine && its && !strcmp(mine, its))
            return vireo_fail(error, VIREO_ERROR_INVALID, "'%s' cannot be its own backing file", filename);
    }
    if (!a->backing_format && *a->backing)
        return change_name(top, a, error); /* says what is missing, before anything is copied */
    r.new = new;
    r.shared = find_shared(r.old, new);
    r.buffer[0] = img_buffer(BUFFER);
    r.buffer[1] = img_buffer(BUFFER);
    bool ok = r.buffer[0] && r.buffer[1] ? copy(&r, error) : vireo_fail_errno(error, ENOMEM, "no buffers");
    free(r.buffer[0]);
    free(r.buffer[1]);
    return ok && change_name(top, a, error);
}

static bool rebase(struct img *img, const struct args *a, const char *filename, GError **error)
{
    unsigned flags = BLOCK_RDWR, src_flags = a->common.force_share ? BLOCK_FORCE_SHARE : 0;
    bool write_through;
    if (!img_cache("cache", a->common.cache, &flags, &write_through, error) || !img_cache("source cache", a->common.src_cache, &src_flags, NULL, error))
        return false;
    if (a->backing_format && !block_driver_find(a->backing_format))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid format name: '%s'", a->backing_format);
    img_watch_start(img, a->common.progress);
    block_node_auto *top = img_open(img, &a->common, filename, flags | (a->unsafe ? BLOCK_NO_BACKING : 0), error);
    if (!top || !(a->unsafe ? change_name(top, a, error) : safe(img, a, filename, top, src_flags, write_through ? BLOCK_FUA : 0, error)))
        return false;
    img_progress(img, 1);
    return true;
}

static int run(struct img *img, void *args, char **operands, unsigned n, GError **error)
{
    const struct args *a = args;
    if (!a->unsafe && !a->backing) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Must specify backing file (-b) or use unsafe mode (-u); try 'vireo-img rebase --help'");
        return -1;
    }
    return rebase(img, a, operands[0], error) ? 0 : -1;
}

const struct img_command img_rebase = {
    .name = "rebase", .operands = "FILE", .summary = "changes the backing file of an image", .options = options, .args_size = sizeof(struct args), .min = 1,
    .max = 1, .expect = "Expecting one image file name", .run = run,
};
