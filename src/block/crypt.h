/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Sectors of 512 bytes, each encrypted by itself: a block cipher, its mode, and where a sector's initialization vector comes from.
 * Any number of threads may use one at a time.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CRYPT_SECTOR = 512, CRYPT_KEY_MAX = 64 };
enum crypt_mode { CRYPT_ECB, CRYPT_CBC, CRYPT_XTS, CRYPT_CTR };
enum crypt_iv { CRYPT_IV_NONE, CRYPT_IV_PLAIN, CRYPT_IV_PLAIN64, CRYPT_IV_ESSIV };

/* Names as qemu-img has them, each list ends with NULL; the place in it is the number. */
extern const char *const crypt_cipher_names[], *const crypt_mode_names[], *const crypt_iv_names[], *const crypt_hash_names[];

struct crypt_spec {
    int cipher, mode, iv;
    int iv_hash; /* of ESSIV; -1: none */
};
struct crypt;

/* Bytes of key that it takes: twice the cipher's with XTS. */
size_t crypt_key_bytes(const struct crypt_spec *spec);
/* The number of a cipher by its family ("aes") and bytes of key, less what the mode doubles; -1: there is none. */
int crypt_cipher_find(const char *family, size_t key_bytes);
/* "aes" of "aes-256". */
const char *crypt_cipher_family(int cipher);
/* libgcrypt's number of a hash, and the bytes of its digest; -1: there is none. */
int crypt_hash_algorithm(int hash, size_t *ret_bytes);
/* Whether all of it goes together and is available. */
bool crypt_spec_check(const struct crypt_spec *spec, GError **error) G_GNUC_WARN_UNUSED_RESULT;

struct crypt *crypt_create(const struct crypt_spec *spec, const void *key, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The method of qcow2's crypt_method 1: AES-128-CBC, the passphrase's first 16 bytes are the key (qcow2 specification). */
struct crypt *crypt_create_qcow_aes(GBytes *passphrase, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void crypt_destroy(struct crypt *c); /* NULL is allowed */
/* In place; bytes and offset are multiples of 512, offset says which sector the first is. 0 or EIO. */
int crypt_encrypt(struct crypt *c, uint64_t offset, void *buffer, size_t bytes);
int crypt_decrypt(struct crypt *c, uint64_t offset, void *buffer, size_t bytes);
