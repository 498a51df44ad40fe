/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * LUKS version 1 after its published on-disk format specification ("LUKS On-Disk Format Specification Version 1.2.3"): a header, eight
 * key slots, and a key for the payload that any of their passphrases opens. The header lies wherever its user says: at the start of
 * an image (luks_driver.c) or in a qcow2 image's crypto header.
 */
#pragma once

#include "block/crypt.h"
#include "block/node.h"

struct luks;

/* Where the header and the slots lie: offsets count from the start of the header. The functions return 0 or errno. */
struct luks_store {
    int (*read)(void *opaque, uint64_t offset, size_t bytes, void *buffer);
    int (*write)(void *opaque, uint64_t offset, size_t bytes, const void *buffer);
    int (*flush)(void *opaque);
    void *opaque;
    uint64_t size; /* bytes there are to read */
    const char *key_option; /* how users call the option key-secret here */
};

/* Creation options: key-secret, cipher-alg, cipher-mode, ivgen-alg, ivgen-hash-alg, hash-alg, iter-time (ms). */
extern const struct keyval_key luks_create_keys[];
/* Options of luks_amend: state (active, inactive), new-secret, old-secret, keyslot, iter-time. */
extern const struct keyval_key luks_amend_keys[];

/* key_secret: name of a secret of the graph (block_graph_set_secrets). flags: with BLOCK_NO_IO no key is asked for and
 * luks_payload_crypt is NULL. A header that breaks the specification and a wrong passphrase are errors. */
struct luks *luks_open(struct block_graph *g, const struct luks_store *store, const char *key_secret, unsigned flags, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Bytes that header and slots will take with these options: the payload's offset, a multiple of 4096. */
bool luks_header_bytes(const struct keyval *options, uint64_t *ret, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Writes header and first slot, then flushes. */
struct luks *luks_create(struct block_graph *g, const struct luks_store *store, const struct keyval *options, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void luks_destroy(struct luks *l); /* NULL is allowed */

struct crypt *luks_payload_crypt(const struct luks *l); /* the luks object's own */
uint64_t luks_payload_offset(const struct luks *l);     /* bytes */
/* QMP's QCryptoBlockInfoLUKS: what stands in the data of ImageInfoSpecific. */
struct json_object *luks_info(const struct luks *l);
/* Adds a passphrase to a free slot, or takes slots away; the store is writable. A crash leaves the slots as they were, or as they
 * shall be. force: also the last slot, also one that is in use. */
bool luks_amend(struct luks *l, struct block_graph *g, const struct keyval *options, bool force, GError **error);
/* Whether these first bytes are a LUKS header, of which version (0: none). */
unsigned luks_probe_version(const uint8_t *head, size_t n);
