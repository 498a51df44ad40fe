/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Format "luks": an image that is a LUKS volume (luks.h). Sectors are encrypted by their number within the payload. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "block/drivers.h"
#include "block/luks.h"

enum { PIECE = 256 << 10 /* bytes encrypted at a time: they stay in the processor's cache */ };

struct volume {
    char *key_secret;
    struct luks *luks;
    struct crypt *crypt; /* luks's; NULL: opened without key */
    uint64_t payload;
};
static const struct keyval_key volume_keys[] = {
    { "key-secret", KV_STRING, offsetof(struct volume, key_secret), "id of the secret that is the passphrase" },
    { NULL }
};

static struct block_node *file(const struct block_node *n)
{
    return n->child[BLOCK_ROLE_FILE];
}

static int store_read(void *opaque, uint64_t offset, size_t bytes, void *buffer)
{
    return block_pread(opaque, offset, bytes, buffer);
}

static int store_write(void *opaque, uint64_t offset, size_t bytes, const void *buffer)
{
    return block_pwrite(opaque, offset, bytes, buffer, 0);
}

static int store_flush(void *opaque)
{
    return block_flush(opaque);
}

static struct luks_store store_of(struct block_node *f)
{
    return (struct luks_store){ store_read, store_write, store_flush, f, block_node_size(f), "key-secret" };
}

static int luks_probe(const uint8_t *head, size_t n, const char *filename)
{
    return luks_probe_version(head, n) == 1 ? 100 : 0;
}

static bool luks_driver_open(struct block_node *n, unsigned flags, GError **error)
{
    struct volume *v = n->state;
    const struct luks_store store = store_of(file(n));
    v->luks = luks_open(n->graph, &store, v->key_secret, flags, error);
    if (!v->luks)
        return false;
    v->crypt = luks_payload_crypt(v->luks);
    v->payload = luks_payload_offset(v->luks);
    n->size = (block_node_size(file(n)) - v->payload) & ~(uint64_t)(CRYPT_SECTOR - 1);
    n->limits.request_alignment = CRYPT_SECTOR;
    return true;
}

static void luks_driver_close(struct block_node *n)
{
    struct volume *v = n->state;
    luks_destroy(g_steal_pointer(&v->luks));
    g_free(g_steal_pointer(&v->key_secret));
}

/* ---- I/O ---- */

static bool whole_sectors(const struct iovec *iov, int niov)
{
    for (int i = 0; i < niov; i++) {
        if (iov[i].iov_len % CRYPT_SECTOR)
            return false;
    }
    return true;
}

static int decrypt_in_place(struct volume *v, uint64_t offset, const struct iovec *iov, int niov)
{
    int err = 0;
    for (int i = 0; i < niov && !err; i++) {
        err = crypt_decrypt(v->crypt, offset, iov[i].iov_base, iov[i].iov_len);
        offset += iov[i].iov_len;
    }
    return err;
}

static int luks_preadv(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct volume *v = n->state;
    if (!v->crypt)
        return EPERM;
    if (whole_sectors(iov, niov)) {
        int err = block_preadv(file(n), v->payload + offset, bytes, iov, niov);
        return err ? err : decrypt_in_place(v, offset, iov, niov);
    }
    struct iov_cursor to = { iov, niov, 0 };
    uint8_t *piece = aligned_alloc(4096, MIN((bytes + 4095) & ~4095ull, PIECE));
    int err = piece ? 0 : ENOMEM;
    for (uint64_t part; bytes && !err; bytes -= part, offset += part) {
        part = MIN(bytes, PIECE);
        err = block_pread(file(n), v->payload + offset, part, piece);
        if (!err)
            err = crypt_decrypt(v->crypt, offset, piece, part);
        if (!err)
            iov_cursor_write(&to, piece, part);
    }
    free(piece);
    return err;
}

static int luks_pwritev(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov, unsigned flags)
{
    struct volume *v = n->state;
    if (!v->crypt)
        return EPERM;
    if (flags & BLOCK_COMPRESSED)
        return EOPNOTSUPP;
    struct iov_cursor from = { iov, niov, 0 };
    uint8_t *piece = aligned_alloc(4096, MIN((bytes + 4095) & ~4095ull, PIECE));
    int err = piece ? 0 : ENOMEM;
    for (uint64_t part; bytes && !err; bytes -= part, offset += part) {
        part = MIN(bytes, PIECE);
        iov_cursor_read(&from, piece, part);
        err = crypt_encrypt(v->crypt, offset, piece, part);
        if (!err)
            err = block_pwrite(file(n), v->payload + offset, part, piece, flags & BLOCK_FUA);
    }
    free(piece);
    return err;
}

static int luks_flush(struct block_node *n)
{
    return block_flush(file(n));
}

/* What lies in the file is not what a reader sees: nothing is mapped, and no hole below is a hole here. */
static int luks_status(struct block_node *n, uint64_t offset, uint64_t bytes, struct block_status *ret)
{
    ret->flags = BLOCK_STATUS_DATA | BLOCK_STATUS_ALLOCATED;
    ret->bytes = bytes;
    return 0;
}

static bool luks_truncate(struct block_node *n, uint64_t size, bool exact, const char *prealloc, GError **error)
{
    const struct volume *v = n->state;
    if (size > INT64_MAX - v->payload)
        return vireo_fail(error, VIREO_ERROR_INVALID, "The requested file size is too large");
    if (!block_truncate(file(n), v->payload + size, exact, prealloc, error))
        return false;
    n->size = size;
    return true;
}

/* ---- what it is ---- */

static int luks_get_info(struct block_node *n, struct block_info *ret)
{
    ret->encrypted = true;
    return 0;
}

static struct json_object *luks_specific_info(struct block_node *n)
{
    const struct volume *v = n->state;
    return json_make("type", json_object_new_string("luks"), "data", luks_info(v->luks), NULL);
}

static bool luks_driver_amend(struct block_node *n, struct keyval *options, bool force, void (*progress)(void *, double), void *opaque, GError **error)
{
    struct volume *v = n->state;
    return luks_amend(v->luks, n->graph, options, force, error);
}

/* ---- creating ---- */

static bool luks_driver_create(struct block_node *f, struct block_create *c, GError **error)
{
    const struct luks_store store = store_of(f);
    keyval_auto *mine = keyval_new();
    g_autofree char *prealloc = keyval_take(c->options, "preallocation");
    uint64_t payload = 0;
    if (c->backing_file)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Backing file not supported for file format 'luks'");
    for (const struct keyval_key *k = luks_create_keys; k->name; k++) {
        g_autofree char *value = keyval_take(c->options, k->name);
        if (value)
            keyval_add(mine, k->name, value);
    }
    if (!luks_header_bytes(mine, &payload, error))
        return false;
    if (c->size > INT64_MAX - payload)
        return vireo_fail(error, VIREO_ERROR_INVALID, "The requested file size is too large");
    /* What lay there before must not be taken for a slot's material: the file starts from nothing. */
    if (!block_truncate(f, 0, false, "off", error) || !block_truncate(f, payload + c->size, false, prealloc ? prealloc : "off", error))
        return false;
    struct luks *l = luks_create(f->graph, &store, mine, error);
    luks_destroy(l);
    return l != NULL;
}

static bool luks_measure(struct block_create *c, uint64_t data, uint64_t *ret_required, uint64_t *ret_fully, GError **error)
{
    keyval_auto *mine = keyval_new();
    uint64_t payload = 0;
    for (const struct keyval_key *k = luks_create_keys; k->name; k++) {
        g_autofree char *value = keyval_take(c->options, k->name);
        if (value)
            keyval_add(mine, k->name, value);
    }
    if (!luks_header_bytes(mine, &payload, error))
        return false;
    *ret_required = *ret_fully = payload + c->size;
    return true;
}

static const char *const prealloc_values[] = { "off", "falloc", "full", NULL };
static const struct keyval_key create_keys[] = {
    { "cipher-alg", KV_STRING, 0, "Name of encryption cipher algorithm" },
    { "cipher-mode", KV_STRING, 0, "Name of encryption cipher mode" },
    { "hash-alg", KV_STRING, 0, "Name of encryption hash algorithm" },
    { "iter-time", KV_UINT, 0, "Time to spend in PBKDF in milliseconds" },
    { "ivgen-alg", KV_STRING, 0, "Name of IV generator algorithm" },
    { "ivgen-hash-alg", KV_STRING, 0, "Name of IV generator hash algorithm" },
    { "key-secret", KV_STRING, 0, "ID of the secret that provides the keyslot passphrase" },
    { "preallocation", KV_ENUM, 0, "Preallocation mode (allowed values: off, falloc, full)", prealloc_values },
    { NULL }
};

const struct block_driver block_luks = {
    .name = "luks", .help = "a LUKS volume, version 1", .kind = BLOCK_FORMAT, .state_size = sizeof(struct volume), .keys = volume_keys, .probe = luks_probe,
    .open = luks_driver_open, .close = luks_driver_close, .preadv = luks_preadv, .pwritev = luks_pwritev, .supports_fua = true, .flush = luks_flush,
    .status = luks_status, .truncate = luks_truncate, .get_info = luks_get_info, .specific_info = luks_specific_info, .amend = luks_driver_amend,
    .create_keys = create_keys, .create = luks_driver_create, .measure = luks_measure,
};
