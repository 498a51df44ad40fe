/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a block driver is: one description, listed in drivers.c. Included by drivers and by the files of src/block alone.
 *
 * Contract of all I/O methods: called by several threads at once, the driver locks for itself; may wait; offset and bytes lie
 * within the node's size and are multiples of limits.request_alignment (node_io.c reads, modifies and writes what is not), bytes
 * > 0; the iovec's lengths sum up to bytes. They return 0 or a positive errno value. "Quiet" methods are called with the graph
 * quiesced (node.h) and by one thread.
 */
#pragma once

#include "block/node.h"

enum block_driver_kind { BLOCK_PROTOCOL /* talks to something outside */, BLOCK_FORMAT, BLOCK_FILTER };

struct block_map { /* where a piece of a node's content lies */
    struct block_node *node; /* a protocol node with a descriptor (driver `file` or `host_device`) */
    uint64_t offset;         /* in it */
    bool zero;               /* for reading: nowhere, it reads as zeroes; node and offset say nothing */
    void *token[2];          /* the driver's own, from map_now to unmap */
    struct block_node *owner; /* set by whoever filled token: its unmap is called */
};

struct block_driver {
    const char *name, *help;
    enum block_driver_kind kind;
    size_t state_size;            /* of struct pointed to by node->state, zeroed */
    bool supports_backing;        /* has a "backing" child */
    bool supports_data_file;      /* may have a "data-file" child: opened when options name it, else by the driver */
    bool no_file;                 /* a format or filter without a "file" child */
    const char *first_child;      /* option of the "file" child when it is not called so ("image") */
    const char *second_child;     /* option of a child beside "file" ("data-file", "log"), open before `open` when options name it: child[BLOCK_ROLE_DATA_FILE] */
    bool growable;                /* writing past the end makes it larger, reading there gives zeroes: files under formats */
    const struct keyval_key *keys;/* options of -blockdev beside the general ones: offsets in *state; NULL: none. Strings are freed by the driver's close */
    /* Takes options out of kv that no row of keys can be (lists); *state has only zeroes. NULL: none. */
    bool (*take_options)(struct block_node *n, struct keyval *kv, GError **error);
    const char *const *prefixes;  /* of file names: "nbd:", "nbd://"; NULL */
    /* Turns a file name (prefix included) into options. */
    bool (*parse_filename)(const char *filename, struct keyval *options, GError **error);
    int (*probe)(const uint8_t *head, size_t n, const char *filename); /* 0: not this format .. 100: surely */

    /* node->state is filled from keys and the children named in options are open ("file"; for a protocol none). Must set node->size;
     * may set node->limits, node->backing_file, node->backing_format. On false close is called too. */
    bool (*open)(struct block_node *n, unsigned flags, GError **error);
    /* Quiet. Flushes what must not be lost; may be called after a failed open, then with state half set. */
    void (*close)(struct block_node *n);
    /* Quiet. Becomes writable or read-only, changes flags; prepared here and final. NULL: only flags that need nothing. */
    bool (*reopen)(struct block_node *n, unsigned flags, GError **error);

    int (*preadv)(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov);
    int (*pwritev)(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov, unsigned flags);
    /* flags: BLOCK_MAY_UNMAP, BLOCK_FUA. EOPNOTSUPP (for all or this piece): zero bytes are written instead. */
    int (*write_zeroes)(struct block_node *n, uint64_t offset, uint64_t bytes, unsigned flags);
    /* A hint; EOPNOTSUPP is success. */
    int (*discard)(struct block_node *n, uint64_t offset, uint64_t bytes);
    int (*flush)(struct block_node *n);
    bool supports_fua; /* pwritev and write_zeroes honour BLOCK_FUA; else node_io.c flushes */
    /* NULL: all is DATA, mapped one to one into "file". ret is zeroed; *ret->bytes may exceed bytes asked for. */
    int (*status)(struct block_node *n, uint64_t offset, uint64_t bytes, struct block_status *ret);

    /* The fast way, without waiting for anything but short locks, and without I/O: all of offset..offset+bytes is content of this
     * node that lies in one piece of a child; for writing: and may be overwritten there with no metadata to change. The driver
     * then keeps that piece from being freed or moved until unmap (may be NULL). A piece that reads as zeroes is said by ret->zero. False: the slow way. Sets ret->node to the CHILD
     * and offset in it; device.c goes on downwards. NULL: never (protocols with a descriptor set ret->node = n). */
    bool (*map_now)(struct block_node *n, bool write, uint64_t offset, uint64_t bytes, struct block_map *ret);
    void (*unmap)(struct block_node *n, struct block_map *map);

    /* Quiet. Sets n->size. */
    bool (*truncate)(struct block_node *n, uint64_t size, bool exact, const char *prealloc, GError **error);
    int (*get_info)(struct block_node *n, struct block_info *ret);
    struct json_object *(*specific_info)(struct block_node *n);
    uint64_t (*allocated)(struct block_node *n); /* NULL: that of "file" */
    int (*check)(struct block_node *n, unsigned fix, struct block_check *c, GError **error); /* quiet */
    /* Quiet; see node.h. */
    GPtrArray *(*snapshot_list)(struct block_node *n, GError **error);
    bool (*snapshot_create)(struct block_node *n, const struct block_snapshot *s, GError **error);
    bool (*snapshot_apply)(struct block_node *n, const char *id_or_name, GError **error);
    bool (*snapshot_delete)(struct block_node *n, const char *id_or_name, GError **error);
    bool (*snapshot_load)(struct block_node *n, const char *id_or_name, GError **error);
    int (*vmstate_read)(struct block_node *n, uint64_t offset, uint64_t bytes, void *buffer);
    int (*vmstate_write)(struct block_node *n, uint64_t offset, uint64_t bytes, const void *buffer);
    bool (*change_backing_file)(struct block_node *n, const char *file, const char *format, GError **error); /* quiet */
    bool (*make_empty)(struct block_node *n, GError **error); /* quiet; see node.h */
    const struct keyval_key *amend_keys; /* what amend takes, for help; NULL: create_keys */
    bool (*amend)(struct block_node *n, struct keyval *options, bool force, void (*progress)(void *, double), void *opaque, GError **error); /* quiet */
    /* Persistent dirty bitmaps: bitmap.h has the form. */
    const struct block_bitmap_driver *bitmaps;

    /* Creating. create_keys: what qemu-img -o knows, for help and checks (offsets unused). A protocol has create_file (makes or
     * empties the file; *ret_made: it was not there before); a format has create, which gets an open writable node. It takes what
     * it knows out of c->options. */
    const struct keyval_key *create_keys;
    bool (*create_file)(struct block_graph *g, const char *filename, struct block_create *c, bool *ret_made, GError **error);
    bool (*remove_file)(const char *filename);
    bool (*create)(struct block_node *file, struct block_create *c, GError **error);
    /* Bytes a new image of this format would need for a content of `size`, of which `data` bytes in whole clusters are data
     * (qemu-img measure). NULL: unknown. */
    bool (*measure)(struct block_create *c, uint64_t data, uint64_t *ret_required, uint64_t *ret_fully, GError **error);
};

struct block_limits {
    uint32_t request_alignment; /* bytes, power of two, default 1 */
    uint32_t zeroes_alignment;  /* below it write_zeroes is no better than writing; default 1 */
    uint32_t discard_alignment;
    uint32_t max_transfer;      /* 0: none */
    uint64_t max_zeroes, max_discard; /* 0: none */
};

enum { BLOCK_ROLE_FILE, BLOCK_ROLE_BACKING, BLOCK_ROLE_DATA_FILE, BLOCK_NROLES };

struct block_node {
    const struct block_driver *driver;
    struct block_graph *graph;
    void *state;
    char *name, *filename;       /* filename: as asked for */
    uint64_t size;               /* atomic to readers: changes only while quiet, or by the driver's own write past the end */
    unsigned flags;              /* enum block_open_flags */
    enum block_detect_zeroes detect_zeroes;
    char *backing_file, *backing_format; /* as the image says */
    bool backing_overridden;     /* options said another one, or none */
    struct block_limits limits;
    struct block_node *child[BLOCK_NROLES]; /* referenced */
    GPtrArray *parents;          /* struct block_parent *; graph lock */
    gint refs;
    bool auto_named, open;
    GQueue watches;              /* struct block_watch */
    GPtrArray *blockers;         /* char * */
    void *bitmaps;               /* bitmap.c's */
    GRWLock rmw;                 /* node_io.c: writer: read, modify, write of a part of an aligned unit; reader: other writes */
    uint64_t write_highest;      /* end of the last byte ever written: QMP wr_highest_offset; atomic */
    uint64_t write_threshold;    /* atomic; 0: none */
    struct block_fence *fence;   /* of a backup's target that stands on its source; changes while quiet; NULL: none */
};

/* Somebody who holds a node and follows block_replace_node. */
struct block_parent {
    struct block_node *node;     /* the parent, or NULL: */
    void *opaque;
    void (*replaced)(struct block_parent *p, struct block_node *to); /* takes over the reference to `to`, drops its own to the old one */
    const char *what;            /* "device 'disk0'" */
};
void block_parent_add(struct block_node *child, struct block_parent *p);
void block_parent_remove(struct block_node *child, struct block_parent *p);

/* ---- for drivers ---- */

/* Somebody waits in block_quiesce for all to come out: what would wait on purpose does not. */
bool block_graph_wanted(struct block_graph *g);

/* As fcntl's idea of an open description, for nodes that are one file of the host; -1: none. */
int block_node_fd(struct block_node *n);

/* A place in an iovec, and pieces of it. */
struct iov_cursor {
    const struct iovec *iov;
    int n;
    size_t skip;
};
/* The next vectors of at most `left` bytes; returns how many vectors, and their bytes. */
int iov_cursor_fill(const struct iov_cursor *c, struct iovec *ret, int max, uint64_t left, uint64_t *ret_bytes);
void iov_cursor_advance(struct iov_cursor *c, uint64_t bytes);
void iov_cursor_read(struct iov_cursor *c, void *to, uint64_t bytes);          /* out of the vectors */
void iov_cursor_write(struct iov_cursor *c, const void *from, uint64_t bytes); /* into them */
void iov_cursor_zero(struct iov_cursor *c, uint64_t bytes);
/* Vectors of bytes [skip, skip + bytes), newly allocated (g_free); *ret_n of them. */
struct iovec *iov_slice(const struct iovec *iov, int niov, uint64_t skip, uint64_t bytes, int *ret_n);
bool iov_is_zero(const struct iovec *iov, int niov);
bool buffer_is_zero(const void *buffer, size_t bytes);
