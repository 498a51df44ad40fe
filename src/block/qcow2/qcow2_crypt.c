/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * "Data encryption": what goes between guest data and the file of an encrypted image. LUKS counts sectors where they lie in the
 * file, the old AES method where the guest sees them. Metadata is never encrypted.
 */
#include "block/qcow2/qcow2.h"

#include <errno.h>
#include <string.h>

#include "block/luks.h"

struct qcow2_crypt {
    struct luks *luks; /* NULL: the old AES method */
    struct crypt *crypt, *aes;
};

static int store_read(void *opaque, uint64_t offset, size_t bytes, void *buffer)
{
    struct qcow2 *q = opaque;
    return qcow2_file_read(q, q->crypto_offset + offset, bytes, buffer);
}
static int store_write(void *opaque, uint64_t offset, size_t bytes, const void *buffer)
{
    struct qcow2 *q = opaque;
    if (offset + bytes > (qcow2_clusters(q, q->crypto_length) << q->cluster_bits))
        return EFBIG;
    return qcow2_file_write(q, q->crypto_offset + offset, bytes, buffer);
}
static int store_flush(void *opaque)
{
    return block_flush(qcow2_file(opaque));
}
static struct luks_store store_of(struct qcow2 *q)
{
    return (struct luks_store){store_read, store_write, store_flush, q, q->crypto_length, "encrypt.key-secret"};
}

static bool open_aes(struct qcow2 *q, struct qcow2_crypt *c, GError **error)
{
    if (!q->o.key_secret)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'encrypt.key-secret' is required for cipher");
    GBytes *secret = block_graph_secret(q->n->graph, q->o.key_secret, error);
    if (!secret)
        return false;
    c->crypt = c->aes = crypt_create_qcow_aes(secret, error);
    g_bytes_unref(secret);
    return c->crypt != NULL;
}

bool qcow2_crypt_open(struct qcow2 *q, unsigned flags, GError **error)
{
    bool aes = q->h.crypt_method == QCOW2_CRYPT_AES;
    if (q->o.encrypt_format && aes != (q->o.encrypt_format == 1))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Header reported '%s' encryption format but options specify '%s'", aes ? "aes" : "luks", aes ? "luks" : "aes");
    if (!aes && !q->crypto_offset)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s' is encrypted and has no encryption header", q->n->filename);
    struct qcow2_crypt *c = g_new0(struct qcow2_crypt, 1);
    q->crypt = c;
    if (aes)
        return flags & BLOCK_NO_IO || open_aes(q, c, error);
    const struct luks_store store = store_of(q);
    c->luks = luks_open(q->n->graph, &store, q->o.key_secret, flags, error);
    if (!c->luks)
        return false;
    c->crypt = luks_payload_crypt(c->luks);
    return true;
}

void qcow2_crypt_close(struct qcow2 *q)
{
    struct qcow2_crypt *c = g_steal_pointer(&q->crypt);
    if (!c)
        return;
    luks_destroy(c->luks);
    crypt_destroy(c->aes);
    g_free(c);
}

bool qcow2_crypt_create(struct qcow2 *q, const struct keyval *options, GError **error)
{
    uint64_t bytes, place;
    if (!luks_header_bytes(options, &bytes, error))
        return false;
    g_mutex_lock(&q->lock);
    int err = qcow2_alloc(q, qcow2_clusters(q, bytes), &place);
    g_mutex_unlock(&q->lock);
    if (!err) {
        q->crypto_offset = place;
        q->crypto_length = bytes;
        /* What luks_create does not write reads as zeroes. */
        err = block_write_zeroes(qcow2_file(q), place, qcow2_clusters(q, bytes) << q->cluster_bits, 0);
    }
    if (!err)
        err = qcow2_flush(q);
    if (err)
        return vireo_fail_errno(error, err, "cannot write the encryption header");
    const struct luks_store store = store_of(q);
    struct luks *l = luks_create(q->n->graph, &store, options, error);
    if (!l)
        return false;
    luks_destroy(l);
    q->h.crypt_method = QCOW2_CRYPT_LUKS;
    err = qcow2_header_write(q);
    if (!err)
        err = block_flush(qcow2_file(q));
    return !err || vireo_fail_errno(error, err, "cannot write the header");
}

bool qcow2_crypt_amend(struct qcow2 *q, const struct keyval *options, bool force, GError **error)
{
    struct qcow2_crypt *c = q->crypt;
    if (!c || !c->luks)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Only LUKS encryption options can be amended for qcow2 with qcow2");
    return luks_amend(c->luks, q->n->graph, options, force, error);
}

struct json_object *qcow2_crypt_info(const struct qcow2 *q)
{
    const struct qcow2_crypt *c = q->crypt;
    struct json_object *o = c && c->luks ? luks_info(c->luks) : json_object_new_object();
    json_object_object_add(o, "format", json_object_new_string(q->h.crypt_method == QCOW2_CRYPT_AES ? "aes" : "luks"));
    return o;
}

int qcow2_encrypt(struct qcow2 *q, uint64_t host_offset, uint64_t guest_offset, void *buffer, size_t bytes)
{
    struct qcow2_crypt *c = q->crypt;
    return c->crypt ? crypt_encrypt(c->crypt, c->luks ? host_offset : guest_offset, buffer, bytes) : EPERM;
}
int qcow2_decrypt(struct qcow2 *q, uint64_t host_offset, uint64_t guest_offset, void *buffer, size_t bytes)
{
    struct qcow2_crypt *c = q->crypt;
    return c->crypt ? crypt_decrypt(c->crypt, c->luks ? host_offset : guest_offset, buffer, bytes) : EPERM;
}
