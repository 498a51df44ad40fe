/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The qcow2 image format, versions 2 and 3, after its published specification (QEMU, docs/interop/qcow2; sections named in the
 * code). This header is the room's own: nobody outside src/block/qcow2 includes it.
 *
 *   qcow2.c           the driver's table, opening, closing, what an image says about itself
 *   qcow2_header.c    header and extensions
 *   qcow2_refcount.c  reference counts, allocation and freeing of clusters
 *   qcow2_cache.c     the slices of L2 tables in memory, and the flush: the only place with an order of writes
 *   qcow2_map.c       guest offset -> what is there; new mappings, zeroes, discard
 *   qcow2_io.c        reading and writing of guest data, copy-on-write
 *   qcow2_create.c    new images;  qcow2_resize.c  other sizes
 *   qcow2_compress.c qcow2_check.c qcow2_snapshot.c qcow2_bitmap.c qcow2_amend.c
 *
 * What is on the disk when. Metadata changes in memory alone; qcow2_flush writes it, in an order in which a crash or a power cut
 * leaves at most leaked clusters:
 *
 *   1. reference counts that went up, and L2 tables nobody points to yet        -> flush of the files (guest data too)
 *   2. entries of the L2 tables and of the L1 table                             -> flush of the file
 *   3. only now the clusters freed before 1 lose their references in memory (written by the next flush) and may be used again,
 *      once no I/O that began before is still under way.
 *
 * Locks. `lock` covers all metadata in memory. No guest data is read or written under it, and L2 slices are read without it
 * (`loading`), so it is held for short. Functions that end in _locked want it held; those that say "may drop" let it go in between
 * and what was looked up before has to be looked up again. Quiet methods (driver.h) take it too, for uniformity.
 */
#pragma once

#include "base/error.h"
#include "block/driver.h"

enum {
    QCOW2_MAGIC = 0x514649fb,
    QCOW2_MIN_CLUSTER_BITS = 9,
    QCOW2_MAX_CLUSTER_BITS = 21,
    QCOW2_HEADER_V2 = 72,           /* bytes */
    QCOW2_HEADER_V3 = 104,
    QCOW2_HEADER_COMPRESSION = 112, /* with compression_type and its padding */
    QCOW2_MAX_L1_BYTES = 32 << 20,
    QCOW2_MAX_RT_BYTES = 8 << 20,
    QCOW2_MAX_SNAPSHOTS = 65536,
    QCOW2_MAX_SNAPSHOT_TABLE = 64 << 20,
    QCOW2_SUBCLUSTERS = 32,
};

/* Header extensions: types. */
enum {
    QCOW2_EXT_END = 0,
    QCOW2_EXT_BACKING_FORMAT = 0xe2792aca,
    QCOW2_EXT_FEATURE_NAMES = 0x6803f857,
    QCOW2_EXT_BITMAPS = 0x23852875,
    QCOW2_EXT_CRYPTO = 0x0537be77,
    QCOW2_EXT_DATA_FILE = 0x44415441,
};

#define QCOW2_INCOMPAT_DIRTY (UINT64_C(1) << 0)
#define QCOW2_INCOMPAT_CORRUPT (UINT64_C(1) << 1)
#define QCOW2_INCOMPAT_DATA_FILE (UINT64_C(1) << 2)
#define QCOW2_INCOMPAT_COMPRESSION (UINT64_C(1) << 3)
#define QCOW2_INCOMPAT_EXTENDED_L2 (UINT64_C(1) << 4)
#define QCOW2_INCOMPAT_KNOWN UINT64_C(0x1f)
#define QCOW2_COMPAT_LAZY_REFCOUNTS (UINT64_C(1) << 0)
#define QCOW2_AUTOCLEAR_BITMAPS (UINT64_C(1) << 0)
#define QCOW2_AUTOCLEAR_DATA_FILE_RAW (UINT64_C(1) << 1)
#define QCOW2_AUTOCLEAR_KNOWN UINT64_C(3)

/* Entries of L1 and L2 tables and of the refcount table. */
#define QCOW2_OFLAG_COPIED (UINT64_C(1) << 63)
#define QCOW2_OFLAG_COMPRESSED (UINT64_C(1) << 62)
#define QCOW2_OFLAG_ZERO UINT64_C(1)
#define QCOW2_L1_OFFSET_MASK UINT64_C(0x00fffffffffffe00)
#define QCOW2_L2_OFFSET_MASK UINT64_C(0x00fffffffffffe00)
#define QCOW2_RT_OFFSET_MASK UINT64_C(0xfffffffffffffe00)

enum { QCOW2_CRYPT_NONE, QCOW2_CRYPT_AES, QCOW2_CRYPT_LUKS };
enum { QCOW2_COMPRESSION_ZLIB, QCOW2_COMPRESSION_ZSTD };

struct qcow2_header { /* host byte order */
    uint32_t version, cluster_bits, crypt_method, l1_size, refcount_table_clusters, nb_snapshots;
    uint64_t backing_file_offset, size, l1_table_offset, refcount_table_offset, snapshots_offset;
    uint32_t backing_file_size;
    uint64_t incompatible, compatible, autoclear;
    uint32_t refcount_order, header_length;
    uint8_t compression_type;
};
/* head: the first n bytes of the image. Only what is wrong by itself is an error (magic, version, ranges of single fields), and
 * unknown incompatible features, by name where the image gives one. */
bool qcow2_header_parse(const uint8_t *head, size_t n, struct qcow2_header *ret, GError **error) G_GNUC_WARN_UNUSED_RESULT;

struct qcow2_extension { /* one nobody here knows: kept as it is */
    uint32_t type, length;
    uint8_t *data;
};

/* A piece of an L2 table of the active L1 table. */
struct qcow2_slice {
    uint64_t *entry;     /* as on the disk, big-endian; slice_bytes */
    uint32_t l1_index, number;
    unsigned pins;       /* > 0: stays where it is */
    bool used;           /* since the clock's hand last came by */
    bool loading, dirty, flushing;
};

/* A refcount block in memory. */
struct qcow2_block {
    uint8_t *data;       /* as on the disk; cluster_size */
    uint64_t index;      /* in the refcount table */
    uint32_t dirty_lo, dirty_hi; /* bytes; lo >= hi: clean */
    bool flushing, used;
};

/* Clusters whose mapping is being made: writers of the same guest clusters wait. */
struct qcow2_inflight {
    struct qcow2_inflight *next;
    uint64_t first, last; /* guest cluster numbers, both included */
};

struct qcow2_free { /* loses a reference once what pointed there is gone from the disk */
    uint64_t offset, bytes;
    enum qcow2_discard_type { QCOW2_DISCARD_NEVER, QCOW2_DISCARD_REQUEST, QCOW2_DISCARD_SNAPSHOT, QCOW2_DISCARD_OTHER } type;
};

struct qcow2_snapshot { /* qcow2_snapshot.c; an entry of the snapshot table */
    uint64_t l1_offset;
    uint32_t l1_size;
    char *id, *name;
    uint32_t date_sec, date_nsec;
    uint64_t vm_clock_nsec, vm_state_size, disk_size, icount;
    uint32_t extra_size; /* of unknown extra data beyond what is known */
    uint8_t *extra;
};

struct qcow2_options { /* runtime options; names as QEMU's */
    int lazy_refcounts, discard_request, discard_snapshot, discard_other; /* 0 not given, odd off, even on */
    int overlap, overlap_template; /* 0 not given, 1 none, more: checked */
    uint64_t cache_size, l2_cache_size, l2_cache_entry_size, refcount_cache_size;
    bool discard_no_unref;
    char *key_secret;
    int encrypt_format;            /* 0 not given, 1 aes, 2 luks */
};
static inline bool qcow2_on(int tristate, bool by_default)
{
    return tristate ? !(tristate & 1) : by_default;
}

struct qcow2 { /* node->state */
    struct qcow2_options o; /* first: offsets of the key table */
    struct block_node *n;   /* itself */

    struct qcow2_header h;  /* what the image's header holds, or will after the next qcow2_header_write */
    uint8_t *header_rest;   /* of the header past what is known here: header_length - QCOW2_HEADER_COMPRESSION bytes */
    GArray *extensions;     /* struct qcow2_extension: unknown ones, in order */
    char *backing_format, *data_file_name; /* extensions; NULL: none */
    uint64_t crypto_offset, crypto_length;
    uint32_t nb_bitmaps;    /* bitmaps extension; 0: none */
    uint64_t bitmap_directory_offset, bitmap_directory_size;

    /* geometry */
    unsigned cluster_bits, l2_bits /* log2 of entries of a table */, slice_bits /* of a slice */, entry_words /* 1, extended: 2 */;
    unsigned subcluster_bits; /* log2 of the unit of allocation to readers: cluster, or a 32nd of it */
    unsigned refcount_bits, rb_bits /* log2 of entries of a refcount block */;
    uint64_t cluster_size;
    uint64_t refcount_max;
    unsigned slices_per_table;
    uint32_t slice_bytes;
    bool extended, external, raw_external;

    GMutex lock;
    GCond cond;             /* a slice was loaded, an in-flight mapping ended, a flush ended */
    bool read_only;
    int failed;             /* errno of a metadata error after which memory and disk no longer agree: nothing is written any more */
    bool metadata_preallocated; /* at opening the file took much less space than its clusters: data may be holes */
    bool corrupt;           /* found so while running; or marked so */

    uint64_t *l1;           /* host byte order, l1_size entries of h */
    GArray *l1_dirty;       /* uint32_t: indices to write */
    uint8_t *l1_new;        /* bitmap over l1: that table is not on the disk yet */
    struct qcow2_slice ***dir; /* [l1 index] -> slices of that table, or NULL */
    struct qcow2_slice **slices; /* the cache */
    unsigned nslices, max_slices, hand;
    unsigned dirty_slices;

    uint64_t *rt;           /* refcount table, host byte order */
    uint64_t rt_entries;    /* in memory; the disk's until rt_moved is flushed */
    GArray *rt_dirty;       /* uint64_t: indices to write */
    bool rt_moved;          /* the whole of it, then the header, have to be written: it will lie at */
    uint64_t rt_new_offset;
    uint32_t rt_new_clusters;
    GArray *homeless;       /* uint64_t: blocks made in memory that have no place in the file yet (within an allocation only) */
    GPtrArray *block_list;  /* struct qcow2_block */
    struct qcow2_block **blocks; /* by index; rt_entries */
    unsigned max_blocks, block_hand;
    uint64_t free_from;     /* no cluster below is free */
    uint64_t fresh_from;    /* bytes: from here on nobody ever wrote to the file: it reads as zeroes */
    uint64_t compressed_next; /* bytes: the next compressed cluster may begin here; 0: in a new cluster */
    bool lazy;              /* lazy refcounts are on */
    bool closing;           /* the flush writes everything, lazy or not */
    bool dirty_marked;      /* the dirty bit is on the disk (lazy refcounts) */

    GArray *frees;          /* struct qcow2_free: since the last flush began */
    GArray *reclaim[2];     /* flushed; may be used again once `users` of that epoch is 0 */
    unsigned epoch;         /* 0 or 1: of I/O that begins now */
    gint users[2];          /* I/O under way on host clusters, by epoch */
    uint64_t frees_clusters;/* in `frees` */
    unsigned reclaiming;    /* threads inside qcow2_reclaim's part without the lock */

    struct qcow2_inflight *inflight;
    bool waiters;           /* somebody waits for inflight */

    bool flush_running;
    uint64_t flush_begun, flush_ended; /* counts */

    uint8_t *meta;          /* bitmap over host clusters: metadata lies there (overlap checks); NULL: not wanted */
    uint64_t meta_clusters;

    GArray *snapshots;      /* struct qcow2_snapshot; qcow2_snapshot.c */
    void *bitmaps;          /* qcow2_bitmap.c's */
    GMutex unpacked_lock;   /* covers the next two; a leaf */
    uint8_t *unpacked;      /* the compressed cluster read last */
    uint64_t unpacked_entry;
    void *codec;            /* qcow2_compress.c's */
    void *crypt;            /* qcow2_crypt.c's; NULL: not encrypted */
};

static inline struct qcow2 *qcow2_of(struct block_node *n)
{
    return n->state;
}
/* Where metadata is; where guest data is (the same without an external data file). */
static inline struct block_node *qcow2_file(const struct qcow2 *q)
{
    return q->n->child[BLOCK_ROLE_FILE];
}
static inline struct block_node *qcow2_data(const struct qcow2 *q)
{
    return q->n->child[q->external ? BLOCK_ROLE_DATA_FILE : BLOCK_ROLE_FILE];
}
static inline uint64_t qcow2_clusters(const struct qcow2 *q, uint64_t bytes) /* rounded up */
{
    return (bytes >> q->cluster_bits) + ((bytes & (q->cluster_size - 1)) != 0);
}
/* Host clusters are `cluster_size * 512`-limited in the descriptor of compressed ones: offset and bytes (to the end of the last
 * sector) of one. */
void qcow2_compressed_place(const struct qcow2 *q, uint64_t entry, uint64_t *ret_offset, uint64_t *ret_bytes);

/* ---- metadata by offset in the image file ---- */

/* What lies beyond the end of the file reads as zeroes. 0 or errno. */
int qcow2_file_read(struct qcow2 *q, uint64_t offset, uint64_t bytes, void *buffer);
int qcow2_file_write(struct qcow2 *q, uint64_t offset, uint64_t bytes, const void *buffer);
/* Tables of big-endian 64-bit words from and to host order. */
int qcow2_table_read(struct qcow2 *q, uint64_t offset, uint64_t entries, uint64_t *ret);
int qcow2_table_write(struct qcow2 *q, uint64_t offset, uint64_t entries, const uint64_t *table);

/* The extensions and the backing file's name out of the first cluster (n bytes) into q. */
bool qcow2_extensions_parse(struct qcow2 *q, const uint8_t *head, size_t n, char **ret_backing, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void qcow2_extensions_free(struct qcow2 *q);
/* Sizes and shifts out of q->h. */
void qcow2_geometry(struct qcow2 *q);
/* Writes the first cluster from q->h and the extensions' fields, unknown ones and unknown fields kept. E2BIG (ENOSPC): the names do not fit.
 * Writes at once and does not flush. */
int qcow2_header_write(struct qcow2 *q);
/* Changes feature bits of h and on the disk only those (v3), then flushes the file. */
int qcow2_header_features(struct qcow2 *q);

/* Something in the image is wrong (format: what, where). Marks it corrupt when it is writable and `fatal`; sends the event.
 * Returns EIO. */
int qcow2_corrupt(struct qcow2 *q, bool fatal, uint64_t offset, uint64_t bytes, const char *format, ...) G_GNUC_PRINTF(5, 6);

/* ---- reference counts and allocation: with q->lock held ---- */

int qcow2_refcount_get(struct qcow2 *q, uint64_t cluster, uint64_t *ret);
/* Sets one, in memory; blocks that are missing are made. ENOSPC, ERANGE (does not fit refcount_bits). A cluster set to 0 may be reused
 * at once: who frees what the disk may still point to uses qcow2_free. */
int qcow2_refcount_set(struct qcow2 *q, uint64_t cluster, uint64_t value);
/* Adds to the counts of all clusters that bytes offset..offset+bytes touch. All or nothing. */
int qcow2_refcount_add(struct qcow2 *q, uint64_t offset, uint64_t bytes, int delta);
/* `clusters` adjacent free clusters, count 1 each; the offset of the first. ENOSPC, EFBIG. */
int qcow2_alloc(struct qcow2 *q, uint64_t clusters, uint64_t *ret_offset);
/* As many as there are in one piece at the first free place, at least 1. */
int qcow2_alloc_some(struct qcow2 *q, uint64_t clusters, uint64_t *ret_offset, uint64_t *ret_clusters);
/* After the next flush all clusters that bytes offset..offset+bytes touch lose one reference. */
void qcow2_free(struct qcow2 *q, uint64_t offset, uint64_t bytes, enum qcow2_discard_type type);
/* The same for what an L2 entry refers to (data, preallocated zeroes, compressed). */
void qcow2_free_entry(struct qcow2 *q, uint64_t entry, enum qcow2_discard_type type);
/* Overlap checks: metadata begins or ceases to lie there. */
void qcow2_meta_mark(struct qcow2 *q, uint64_t offset, uint64_t bytes, bool on);
/* False (and the image is marked corrupt): a write of guest data or of new metadata would hit metadata. */
bool qcow2_meta_ok(struct qcow2 *q, uint64_t offset, uint64_t bytes);
/* Flushed frees whose readers are gone; may drop the lock (host discard). */
void qcow2_reclaim(struct qcow2 *q);

/* ---- L1 and L2: with q->lock held ---- */

/* The slice that holds guest cluster `cluster`, read when needed (may drop); NULL with *ret_err 0: no such table. write: the table is
 * made, or copied when shared, first, and the slice is marked dirty. */
struct qcow2_slice *qcow2_slice_get(struct qcow2 *q, uint64_t cluster, bool write, int *ret_err);
/* Only what is in memory. */
struct qcow2_slice *qcow2_slice_peek(struct qcow2 *q, uint64_t cluster);
static inline unsigned qcow2_slice_index(const struct qcow2 *q, uint64_t cluster)
{
    return (cluster & ((1u << q->slice_bits) - 1)) * q->entry_words;
}
static inline uint64_t qcow2_entry(const struct qcow2_slice *s, unsigned index)
{
    return GUINT64_FROM_BE(s->entry[index]);
}
void qcow2_l1_set(struct qcow2 *q, uint32_t index, uint64_t value); /* in memory, and to be written by the next flush */
/* The active L1 table is from now on that one (written and flushed here with its place in the header; the cache is emptied; the old table is
 * not freed). Its clusters have been allocated. Everything has been flushed before. */
int qcow2_l1_switch(struct qcow2 *q, uint64_t offset, uint32_t size, const uint64_t *table);
/* At least so many entries. May drop; quiet. */
int qcow2_l1_grow(struct qcow2 *q, uint32_t size);
/* L1 entry and slices of a table that has been freed. Quiet: no flush is running. */
void qcow2_table_forget(struct qcow2 *q, uint32_t index);
/* Forgets all slices, which are not dirty, and the directory. */
void qcow2_cache_empty(struct qcow2 *q);

/* The L2 table of that index exists, is not shared, and may be written. *ret_dropped: the lock was let go. */
int qcow2_table_for_write(struct qcow2 *q, uint32_t index, bool *ret_dropped);

/* ---- qcow2_map.c: what lies at a guest offset; with q->lock held ---- */

enum qcow2_kind {
    QCOW2_UNALLOCATED, /* the backing image, or zeroes */
    QCOW2_ZERO,
    QCOW2_ZERO_HOST,   /* zeroes, with a host cluster kept for later */
    QCOW2_DATA,
    QCOW2_COMPRESSED
};
struct qcow2_extent {
    enum qcow2_kind kind;
    bool copied;       /* the host cluster is nobody else's */
    uint64_t bytes;    /* from the offset asked for: how far it is so; DATA and ZERO_HOST: in one piece of the host file */
    uint64_t host;     /* of the first byte: DATA, ZERO_HOST */
    uint64_t entry;    /* L2 entry of the first cluster */
};
/* May drop, before it has looked. */
int qcow2_lookup(struct qcow2 *q, uint64_t offset, uint64_t bytes, struct qcow2_extent *ret);
/* The same in a slice that holds the offset; never beyond that slice. */
int qcow2_classify(struct qcow2 *q, const struct qcow2_slice *s, uint64_t offset, uint64_t bytes, struct qcow2_extent *ret);
/* Whether unallocated bytes there read as zeroes because no backing image has them. */
bool qcow2_no_backing(const struct qcow2 *q, uint64_t offset);
/* The slice of `cluster`, its table writable, with nobody making mappings of clusters first..last. May drop before. */
struct qcow2_slice *qcow2_slice_alone(struct qcow2 *q, uint64_t cluster, uint64_t last, int *ret_err);
void qcow2_slice_dirty(struct qcow2 *q, struct qcow2_slice *s);

/* ---- the whole: without q->lock ---- */

/* All metadata and data on stable storage. */
int qcow2_flush(struct qcow2 *q);
/* The same twice over, so that frees are on the disk as well and nothing in memory differs from it. */
int qcow2_flush_all(struct qcow2 *q);
/* Forgets all metadata in memory and reads it again (after check and snapshots wrote to the file by offset). Quiet; flush before. */
bool qcow2_reload(struct qcow2 *q, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Guest data, also beyond the end of the disk (VM state): what preadv and pwritev do. */
int qcow2_data_read(struct qcow2 *q, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov);
int qcow2_data_write(struct qcow2 *q, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov);
/* Whole clusters cease to be mapped. full: to "unallocated", else so that they read as zeroes where the version can say that. */
int qcow2_unmap_clusters(struct qcow2 *q, uint64_t offset, uint64_t bytes, enum qcow2_discard_type type, bool full);
/* Whole subclusters read as zeroes. */
int qcow2_zero_clusters(struct qcow2 *q, uint64_t offset, uint64_t bytes, bool may_unmap);
enum qcow2_prealloc { QCOW2_PREALLOC_OFF, QCOW2_PREALLOC_METADATA, QCOW2_PREALLOC_FALLOC, QCOW2_PREALLOC_FULL };
/* Places for all guest clusters from byte `from` to `to` that have none. */
int qcow2_preallocate(struct qcow2 *q, uint64_t from, uint64_t to, enum qcow2_prealloc mode);
uint64_t qcow2_vm_state_offset(const struct qcow2 *q);

/* ---- qcow2_compress.c ---- */

/* One cluster; any thread. *ret_bytes <= max; ENOSPC: does not get smaller than max. */
int qcow2_compress(struct qcow2 *q, const void *from, size_t bytes, void *to, size_t max, size_t *ret_bytes);
/* Exactly `bytes` come out, from at most `from_bytes` (there may be more than needed). EIO: damaged. */
int qcow2_decompress(struct qcow2 *q, const void *from, size_t from_bytes, void *to, size_t bytes);
void qcow2_codec_free(struct qcow2 *q);

/* ---- qcow2_crypt.c: bytes are whole sectors of 512 ---- */

bool qcow2_crypt_open(struct qcow2 *q, unsigned flags, GError **error);
void qcow2_crypt_close(struct qcow2 *q);
/* Makes a LUKS header in a new image, which is open without a key. options: those of creation, less "encrypt.". */
bool qcow2_crypt_create(struct qcow2 *q, const struct keyval *options, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* options: less "encrypt.". */
bool qcow2_crypt_amend(struct qcow2 *q, const struct keyval *options, bool force, GError **error) G_GNUC_WARN_UNUSED_RESULT;
struct json_object *qcow2_crypt_info(const struct qcow2 *q);
int qcow2_encrypt(struct qcow2 *q, uint64_t host_offset, uint64_t guest_offset, void *buffer, size_t bytes);
int qcow2_decrypt(struct qcow2 *q, uint64_t host_offset, uint64_t guest_offset, void *buffer, size_t bytes);

/* ---- driver methods that live in files of their own ---- */

bool qcow2_create(struct block_node *file, struct block_create *c, GError **error);
bool qcow2_truncate(struct block_node *n, uint64_t size, bool exact, const char *prealloc, GError **error);
int qcow2_preadv(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov);
int qcow2_pwritev(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov, unsigned flags);
int qcow2_write_zeroes(struct block_node *n, uint64_t offset, uint64_t bytes, unsigned flags);
int qcow2_discard(struct block_node *n, uint64_t offset, uint64_t bytes);
int qcow2_status(struct block_node *n, uint64_t offset, uint64_t bytes, struct block_status *ret);
bool qcow2_map_now(struct block_node *n, bool write, uint64_t offset, uint64_t bytes, struct block_map *ret);
void qcow2_unmap(struct block_node *n, struct block_map *map);
int qcow2_check(struct block_node *n, unsigned fix, struct block_check *c, GError **error);
/* At opening: the table of snapshots into q->snapshots. */
bool qcow2_snapshots_read(struct qcow2 *q, GError **error);
void qcow2_snapshots_free(struct qcow2 *q);
GPtrArray *qcow2_snapshot_list(struct block_node *n, GError **error);
bool qcow2_snapshot_create(struct block_node *n, const struct block_snapshot *s, GError **error);
bool qcow2_snapshot_apply(struct block_node *n, const char *id_or_name, GError **error);
bool qcow2_snapshot_delete(struct block_node *n, const char *id_or_name, GError **error);
bool qcow2_snapshot_load(struct block_node *n, const char *id_or_name, GError **error);
int qcow2_vmstate_read(struct block_node *n, uint64_t offset, uint64_t bytes, void *buffer);
int qcow2_vmstate_write(struct block_node *n, uint64_t offset, uint64_t bytes, const void *buffer);
bool qcow2_amend(struct block_node *n, struct keyval *options, bool force, void (*progress)(void *, double), void *opaque, GError **error);
bool qcow2_measure(struct block_create *c, uint64_t data, uint64_t *ret_required, uint64_t *ret_fully, GError **error);
/* At opening (after the header's extensions are known) and before closing; the driver's bitmaps. */
bool qcow2_bitmaps_open(struct qcow2 *q, GError **error);
bool qcow2_bitmaps_store(struct qcow2 *q, GError **error);
void qcow2_bitmaps_free(struct qcow2 *q);
/* Adds "bitmaps" to the format's own information when there are any. */
void qcow2_bitmaps_info(const struct qcow2 *q, struct json_object *data);
extern const struct block_bitmap_driver qcow2_bitmap_driver;
extern const struct block_driver qcow2_driver;
extern const struct keyval_key qcow2_create_keys[], qcow2_amend_keys[];
