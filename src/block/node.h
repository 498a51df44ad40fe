/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Nodes: what an image consists of. A node is one use of a driver: a file of the host, the format inside it, a filter above it.
 * Nodes stand in a graph; each has a name that is unique there, children by role ("file", "backing", "data-file"), and parents.
 *
 * All I/O on nodes is synchronous and may be called by any number of threads that may wait; each driver locks for itself. What
 * does not want to wait uses block_device (block.h), which has threads and a ring for it.
 *
 * Entry. Whoever starts I/O from outside (a device of a guest, a job, an export, a tool) does it between block_enter and
 * block_leave. Whoever changes the graph, or does what the driver's vtable says needs a quiet node, does it between
 * block_quiesce and block_resume: then nobody is inside. Code that runs inside never enters again.
 *
 * Results of I/O are 0 or a positive errno value. Offsets and lengths are bytes of the node's content.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/json.h"
#include "base/keyval.h"
#include "base/secret.h"

struct block_driver;
struct block_graph;
struct block_node;

/* ---- the graph ---- */

/* An empty graph, of one machine or one run of a tool. */
struct block_graph *block_graph_create(void);
/* All nodes must have been released; NULL is allowed. */
void block_graph_destroy(struct block_graph *g);
/* Waits while somebody has quiesced the graph. */
void block_enter(struct block_graph *g);
/* The same without waiting. False: quiesced now; try again when block_graph's resume callback has been called. */
bool block_try_enter(struct block_graph *g);
void block_leave(struct block_graph *g);
/* Keeps new I/O out and waits until nobody is inside. Nests in one thread; other threads wait for their turn. */
void block_quiesce(struct block_graph *g);
void block_resume(struct block_graph *g);
/* Called (in the thread that resumed) when I/O may enter again. One per opaque; fn NULL takes it away. */
void block_graph_on_resume(struct block_graph *g, void (*fn)(void *opaque), void *opaque);
/* A fact about a node that users hear of (QMP events): name of the event, data (borrowed). Any thread. NULL: nobody listens. */
typedef void block_event_fn(void *opaque, const char *event, struct json_object *data);
void block_graph_set_events(struct block_graph *g, block_event_fn *fn, void *opaque);
void block_graph_event(struct block_graph *g, const char *event, struct json_object *data /* taken over */);
/* Where secrets (passphrases of encrypted images) are looked up by id; NULL: there are none. */
/* The set that throttle groups are found in (base/throttle.h), borrowed; without it the graph has one of its own. */
struct throttle_groups;
void block_graph_set_throttle(struct block_graph *g, struct throttle_groups *set);
struct throttle_groups *block_graph_throttle(struct block_graph *g);
void block_graph_set_secrets(struct block_graph *g, secret_find_fn *find, void *opaque);
/* A new reference, or NULL with error. */
GBytes *block_graph_secret(struct block_graph *g, const char *id, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The node of that name, not referenced, or NULL. */
struct block_node *block_find(struct block_graph *g, const char *node_name);
/* All nodes in order of creation, referenced; g_ptr_array_unref releases them. */
GPtrArray *block_nodes(struct block_graph *g);

/* ---- opening and releasing ---- */

enum block_open_flags {
    BLOCK_RDWR = 1 << 0,
    BLOCK_NO_BACKING = 1 << 1,   /* the backing file stays closed: what it holds reads as zeroes */
    BLOCK_NO_IO = 1 << 2,        /* only metadata will be read: no key is asked for */
    BLOCK_CHECK = 1 << 3,        /* for checking and repair: metadata that is wrong is no reason to refuse */
    BLOCK_FORCE_SHARE = 1 << 4,  /* read-only beside a writer: no lock is taken */
    BLOCK_AUTO_READ_ONLY = 1 << 5, /* opens read-only when writing is not permitted */
    BLOCK_DIRECT = 1 << 6,       /* past the host's page cache */
    BLOCK_NO_FLUSH = 1 << 7,     /* flushes do nothing */
    BLOCK_UNMAP = 1 << 8,      /* discards free space of the host (discard=unmap) */
    BLOCK_TEMPORARY = 1 << 9,    /* the file is removed once it is open */
    BLOCK_AIO_NATIVE = 1 << 10,  /* aio=native or io_uring: engine's choice, see engine.h */
    BLOCK_AIO_IO_URING = 1 << 11,
    BLOCK_INACTIVE = 1 << 12,    /* another process writes it until activated (incoming migration) */
};
enum block_detect_zeroes { BLOCK_DETECT_OFF, BLOCK_DETECT_ON, BLOCK_DETECT_UNMAP };

/* A file name as users give it: a path, /dev/fdset/N, "nbd://...", "json:{...}", a driver's prefix. format NULL: probed, with a
 * warning (log_warn) when it looks like raw and is writable. options: further options as of -blockdev for the format node, or
 * NULL. flags: enum block_open_flags. The result is referenced for the caller. */
struct block_node *block_open_filename(struct block_graph *g, const char *filename, const char *format, struct keyval *options,
                                       unsigned flags, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Options of QMP's BlockdevOptions as dotted keys (json_flatten): driver, node-name, read-only, cache.direct, file.driver ...;
 * a child is nested options or the name of a node. A key nobody knows is an error. Explicit options win over flags. */
struct block_node *block_open_options(struct block_graph *g, const struct keyval *options, unsigned flags, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
struct block_node *block_node_ref(struct block_node *n);
/* The last reference closes it: the graph must not be quiesced by another thread then. NULL is allowed. */
void block_node_unref(struct block_node *n);
static inline void block_node_cleanup(struct block_node **n)
{
    block_node_unref(*n);
}
#define block_node_auto __attribute__((cleanup(block_node_cleanup))) struct block_node

/* ---- what a node is ---- */

const char *block_node_name(const struct block_node *n);
const char *block_node_driver(const struct block_node *n);      /* "qcow2" */
const char *block_node_filename(const struct block_node *n);    /* as a user would name it again: a path, or "json:{...}" */
uint64_t block_node_size(const struct block_node *n);
unsigned block_node_refs(const struct block_node *n);           /* how many hold it */
bool block_node_has_file(const struct block_node *n);           /* stands on others: no file of the host by itself */
enum block_detect_zeroes block_node_detect_zeroes(const struct block_node *n);
/* The end of the last byte ever written. */
uint64_t block_write_highest(const struct block_node *n);
/* A write that reaches beyond this offset is told once, by the event BLOCK_WRITE_THRESHOLD, and the threshold is gone. 0: none. */
void block_set_write_threshold(struct block_node *n, uint64_t threshold);
uint64_t block_write_threshold(const struct block_node *n);
unsigned block_node_flags(const struct block_node *n);          /* as it was opened, after the options */
bool block_node_read_only(const struct block_node *n);
struct block_graph *block_node_graph(const struct block_node *n);
uint64_t block_node_allocated(struct block_node *n);            /* bytes that its files take on the host */
/* Children: the file below, the backing image (filters are not skipped), or NULL. Not referenced. */
struct block_node *block_child(const struct block_node *n, const char *role);
struct block_node *block_backing(const struct block_node *n);
/* The first node from n downwards that is no filter. */
struct block_node *block_skip_filters(struct block_node *n);
/* What the image's own metadata says its backing file is; NULL: none. */
const char *block_backing_filename(const struct block_node *n);
const char *block_backing_format(const struct block_node *n);
/* `filename` as it stands in the metadata of an image that is called `base`. The caller frees. */
char *block_resolve(const char *base, const char *filename);

/* ---- I/O ---- */

enum block_write_flags {
    BLOCK_FUA = 1 << 0,          /* on stable storage when it returns */
    BLOCK_MAY_UNMAP = 1 << 1,    /* zeroes may be made by deallocation */
    BLOCK_NO_FALLBACK = 1 << 2,  /* write_zeroes: EOPNOTSUPP rather than writing zero bytes */
    BLOCK_COMPRESSED = 1 << 3,   /* whole clusters (or the last, shorter), compressed */
    BLOCK_WRITE_UNCHANGED = 1 << 4, /* the content stays the same to readers: allowed on read-only nodes by copy-on-read */
};
int block_preadv(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov);
int block_pwritev(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov, unsigned flags);
int block_pread(struct block_node *n, uint64_t offset, uint64_t bytes, void *buffer);
int block_pwrite(struct block_node *n, uint64_t offset, uint64_t bytes, const void *buffer, unsigned flags);
int block_write_zeroes(struct block_node *n, uint64_t offset, uint64_t bytes, unsigned flags);
int block_discard(struct block_node *n, uint64_t offset, uint64_t bytes);
/* All completed writes are on stable storage, metadata included. */
int block_flush(struct block_node *n);
/* New size; bytes added read as zeroes. Needs a quiet graph. prealloc: "off", "metadata", "falloc", "full". exact: false lets a
 * device of fixed size stay larger. */
bool block_truncate(struct block_node *n, uint64_t size, bool exact, const char *prealloc, GError **error) G_GNUC_WARN_UNUSED_RESULT;

enum block_status_flags {
    BLOCK_STATUS_DATA = 1 << 0,
    BLOCK_STATUS_ZERO = 1 << 1,
    BLOCK_STATUS_ALLOCATED = 1 << 2, /* by this node, not its backing */
    BLOCK_STATUS_MAPPED = 1 << 3,    /* `map` and `file` say where */
    BLOCK_STATUS_EOF = 1 << 4,       /* it reaches the end of the node */
    BLOCK_STATUS_COMPRESSED = 1 << 5,
    BLOCK_STATUS_RECURSE = 1 << 6,   /* from drivers: `file` may know better whether it is zero */
};
struct block_status {
    unsigned flags;
    uint64_t bytes;           /* from the offset asked for: how far this holds, > 0 */
    uint64_t map;             /* offset in `file` of the first byte */
    struct block_node *file;  /* not referenced */
    unsigned depth;           /* block_status_chain: how many backing steps down it is allocated */
};
/* Of this node alone; bytes > 0 and within the size. */
int block_status(struct block_node *n, uint64_t offset, uint64_t bytes, struct block_status *ret);
/* Through the chain: where the content comes from, down to but without `base` (NULL: the whole chain). ALLOCATED: above base. */
int block_status_chain(struct block_node *n, struct block_node *base, uint64_t offset, uint64_t bytes, struct block_status *ret);

/* ---- what images have beside content ---- */

struct block_info { /* of a format */
    uint32_t cluster_size;     /* 0: none */
    bool dirty, corrupt, encrypted, compressed_possible, needs_compressed_writes;
    uint64_t vm_state_offset;
};
int block_get_info(struct block_node *n, struct block_info *ret);
/* QMP's ImageInfoSpecific, or NULL. */
struct json_object *block_specific_info(struct block_node *n);
/* QMP's ImageInfo; with backing-image nested when `chain`. */
struct json_object *block_image_info(struct block_node *n, bool chain);

struct block_check {
    uint64_t corruptions, leaks, check_errors, corruptions_fixed, leaks_fixed;
    uint64_t total_clusters, allocated_clusters, fragmented_clusters, compressed_clusters, image_end_offset;
    /* A person reads what is wrong, one line each; NULL: silent. */
    void (*say)(void *opaque, const char *line);
    void (*progress)(void *opaque, double part); /* 0..1, or NULL */
    void *opaque;
    const bool *cancel; /* becomes true: ECANCELED; or NULL */
};
enum { BLOCK_FIX_LEAKS = 1, BLOCK_FIX_ERRORS = 2 };
/* EOPNOTSUPP: the format has no check. */
int block_check(struct block_node *n, unsigned fix, struct block_check *c, GError **error);

struct block_snapshot { /* inside the image */
    char *id, *name;
    uint64_t vm_state_size, date_sec, date_nsec, vm_clock_nsec, icount /* UINT64_MAX: none */, disk_size;
};
/* GPtrArray of struct block_snapshot *, owned by the caller; NULL with error. */
GPtrArray *block_snapshot_list(struct block_node *n, GError **error);
bool block_snapshot_create(struct block_node *n, const struct block_snapshot *s /* id NULL: chosen */, GError **error);
/* id_or_name: an id first, then a name. */
bool block_snapshot_apply(struct block_node *n, const char *id_or_name, GError **error);
bool block_snapshot_delete(struct block_node *n, const char *id_or_name, GError **error);
/* Reads from then on come from the snapshot; only on read-only nodes. */
bool block_snapshot_load(struct block_node *n, const char *id_or_name, GError **error);
int block_vmstate_read(struct block_node *n, uint64_t offset, uint64_t bytes, void *buffer);
/* Quiet: tables that other I/O uses may move. */
int block_vmstate_write(struct block_node *n, uint64_t offset, uint64_t bytes, const void *buffer);

/* Writes the image's idea of its backing file; file NULL: none. The open backing child stays what it is. */
bool block_change_backing_file(struct block_node *n, const char *file, const char *format, GError **error);
/* Takes away all content of an image with a backing file: it reads what the backing image has. A format that cannot is an
 * error. Needs a quiet graph. */
bool block_make_empty(struct block_node *n, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Options as of create. progress(0..1) may be NULL. */
bool block_amend(struct block_node *n, struct keyval *options, bool force, void (*progress)(void *opaque, double part), void *opaque, GError **error);

/* ---- images that another process has in hand: migration ---- */

/* Whether all images can change hands so; an error names one that cannot. */
bool block_may_change_hands(struct block_graph *g, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Everything is on stable storage, locks are given up, and nothing writes any more: every node has BLOCK_INACTIVE. On failure all is as it was. */
bool block_inactivate_all(struct block_graph *g, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The other way: locks are taken, and what images say of themselves is read anew. On failure all is as it was; another process may have them. */
bool block_activate_all(struct block_graph *g, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* A node and all below it. Needs a quiet graph. */
bool block_activate(struct block_node *n, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- changes of the graph: between block_quiesce and block_resume ---- */

/* Puts child in the role, references it, and releases what was there; NULL leaves the role empty. A loop is an error. */
bool block_set_child(struct block_node *n, const char *role, struct block_node *child, GError **error);
/* Every parent (node or device) of `from` has `to` instead, but for `to` itself and those inside it. */
bool block_replace_node(struct block_node *from, struct block_node *to, GError **error);
bool block_reopen(struct block_node *n, const struct keyval *options /* NULL */, unsigned flags, GError **error);
/* Somebody uses the node in a way others have to know of ("mirror job 'j0'"): operations that do not go with it are refused with
 * this text. */
void block_node_block(struct block_node *n, const char *reason);
void block_node_unblock(struct block_node *n, const char *reason);
const char *block_node_blocked(const struct block_node *n); /* NULL: free */

/* ---- watching writes (jobs) ---- */

/* before: called in the writing thread before a write, write_zeroes or discard of a node's bytes takes effect; an error keeps the
 * write from happening (writes with BLOCK_WRITE_UNCHANGED are not told). after: once it has succeeded. end: after that, or when it has failed, for each `before` that returned 0. Any
 * may be NULL. Add and remove with the graph quiet. */
struct block_watch {
    int (*before)(struct block_watch *w, uint64_t offset, uint64_t bytes);
    void (*after)(struct block_watch *w, uint64_t offset, uint64_t bytes);
    void (*end)(struct block_watch *w, uint64_t offset, uint64_t bytes);
    GList link;
};
void block_watch_add(struct block_node *n, struct block_watch *w);
void block_watch_remove(struct block_node *n, struct block_watch *w);

/* ---- creating ---- */

struct block_create {
    uint64_t size;
    const char *backing_file, *backing_format; /* NULL: none. As the image is to name them */
    struct keyval *options;                    /* by the names of qemu-img -o, less size, backing_file, backing_fmt; taken out as used */
};
/* Makes the image `filename` in `format`. What was made is removed again when it fails; a file that was there before it is
 * overwritten, as users of qemu-img expect. */
bool block_create_image(struct block_graph *g, const char *filename, const char *format, struct block_create *c, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* Writes an empty image of `format` into an open node (QMP blockdev-create). */
bool block_format_node(struct block_node *file, const char *format, struct block_create *c, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- drivers ---- */

const struct block_driver *block_driver_find(const char *name);
/* All, in order, ends with NULL. */
extern const struct block_driver *const block_drivers[];
/* The driver whose format the first bytes are; raw when no other. */
const struct block_driver *block_probe(const uint8_t *head, size_t n, const char *filename);
