/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Format "vmdk" after VMware's "Virtual Disk Format 5.0" (technical note): a descriptor, which is text, and extents, which are
 * flat or sparse (directory of grain tables -> grains), the latter also compressed. The room of vmdk*.c alone.
 *
 *   vmdk.c             opening, where grains are, writing
 *   vmdk_descriptor.c  the text
 *   vmdk_create.c      new images
 */
#pragma once

#include "base/error.h"
#include "block/drivers.h"
#include "block/mapped.h"
#include "block/metadata.h"

enum {
    VMDK_SECTOR = 512,
    VMDK_MAGIC = 0x564d444b,      /* "KDMV" */
    VMDK_COWD_MAGIC = 0x44574f43, /* "COWD" */
    VMDK_FLAG_NEWLINES = 1 << 0, VMDK_FLAG_RGD = 1 << 1, VMDK_FLAG_ZERO_GRAIN = 1 << 2, VMDK_FLAG_COMPRESSED = 1 << 16, VMDK_FLAG_MARKERS = 1 << 17,
    VMDK_DESCRIPTOR_MAX = 1 << 20,
    VMDK_GRAIN_MAX = 4 << 20,     /* bytes: one is held in memory to be unpacked */
    VMDK_MARKER = 12,             /* bytes of a grain's marker before its data */
};
#define VMDK_GD_AT_END UINT64_MAX
#define VMDK_NO_PARENT UINT32_C(0xffffffff)

struct vmdk_header { /* SparseExtentHeader, little-endian */
    uint32_t magic, version, flags;
    uint64_t capacity, grain, descriptor, descriptor_size;
    uint32_t gtes;
    uint64_t rgd, gd, overhead;
    uint8_t unclean, newlines[4];
    uint16_t compression;
    uint8_t rest[433];
} __attribute__((packed));
G_STATIC_ASSERT(sizeof(struct vmdk_header) == VMDK_SECTOR);

enum vmdk_kind { VMDK_FLAT, VMDK_SPARSE, VMDK_ZERO };
struct vmdk_extent {
    enum vmdk_kind kind;
    char *name, *type;       /* as the descriptor has them; type "" when the descriptor is inside */
    struct block_node *file; /* referenced; NULL: VMDK_ZERO */
    bool read_only;
    uint64_t start, bytes;   /* of the disk */
    uint64_t flat;           /* offset in the file */
    /* sparse */
    uint32_t grain;          /* bytes */
    uint32_t gtes;           /* entries of a grain table */
    uint64_t gd, rgd;        /* offsets in the file; rgd 0: none */
    uint64_t overhead;       /* no grain lies below */
    uint64_t next;           /* where a new grain goes; mapped.lock */
    bool zero_grains, compressed, markers;
    struct metadata *metadata;
};

struct vmdk {
    struct mapped m;
    GArray *extents;         /* struct vmdk_extent, in order */
    char *create_type, *descriptor; /* the text */
    uint64_t descriptor_at;  /* in the file, and room for it; 0: the file is the descriptor */
    uint64_t descriptor_room;
    uint32_t cid, parent_cid;
    gint cid_changed;        /* the content is no longer what the CID on the disk stands for, and the disk says so */
    bool parent_checked;
};

/* vmdk_descriptor.c */
/* The value of `key` without quotes, or NULL; the caller frees. */
char *vmdk_value(const char *text, const char *key);
uint32_t vmdk_cid(const char *text, const char *key); /* VMDK_NO_PARENT when it is not there */
/* One extent line: access, sectors, type, name, offset. False without error: no such line. */
struct vmdk_line {
    char access[16], type[32], *name;
    uint64_t sectors, offset;
};
bool vmdk_parse_line(const char *line, struct vmdk_line *ret);
/* The text with another CID. */
char *vmdk_with_cid(const char *text, uint32_t cid);
bool vmdk_is_descriptor(const char *head, size_t n);

/* vmdk.c: the CID of an open node, VMDK_NO_PARENT when it is not of this format. */
uint32_t vmdk_node_cid(const struct block_node *n);

/* vmdk_create.c */
extern const struct keyval_key vmdk_create_keys[];
bool vmdk_create(struct block_node *file, struct block_create *c, GError **error);
