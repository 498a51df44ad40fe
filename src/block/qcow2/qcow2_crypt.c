/* SPDX-License-Identifier: GPL-2.0-or-later */
/* "Data encryption": what goes between guest data and the file of an encrypted image. Not available yet: such images open for
 * their metadata alone. */
#include "block/qcow2/qcow2.h"

#include <errno.h>

bool qcow2_crypt_open(struct qcow2 *q, unsigned flags, GError **error)
{
    return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "'%s' is encrypted, which is not supported yet", q->n->filename);
}
void qcow2_crypt_close(struct qcow2 *q)
{
}
struct json_object *qcow2_crypt_info(const struct qcow2 *q)
{
    return json_make("format", json_object_new_string(q->h.crypt_method == QCOW2_CRYPT_AES ? "aes" : "luks"), NULL);
}
int qcow2_encrypt(struct qcow2 *q, uint64_t host_offset, uint64_t guest_offset, void *buffer, size_t bytes)
{
    return EIO;
}
int qcow2_decrypt(struct qcow2 *q, uint64_t host_offset, uint64_t guest_offset, void *buffer, size_t bytes)
{
    return EIO;
}
