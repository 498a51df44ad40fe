/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Contexts of the library are for one thread at a time: there is a pool of them, as many as were ever in use at once, each keyed
 * when it was made. Initialization vectors are those of dm-crypt (its documentation, "iv"): plain, the sector's number in 32 bits,
 * little-endian; plain64, in 64; essiv, that encrypted with the hash of the key.
 */
#include "block/crypt.h"

#include <errno.h>
#include <gcrypt.h>
#include <string.h>

#include "base/crypto.h"
#include "base/error.h"

static const struct cipher {
    const char *family;
    int algorithm;
    uint8_t key, block; /* bytes */
} ciphers[] = {
    { "aes", GCRY_CIPHER_AES128, 16, 16 }, { "aes", GCRY_CIPHER_AES192, 24, 16 }, { "aes", GCRY_CIPHER_AES256, 32, 16 },
    { "cast5", GCRY_CIPHER_CAST5, 16, 8 },
    { "serpent", GCRY_CIPHER_SERPENT128, 16, 16 }, { "serpent", GCRY_CIPHER_SERPENT192, 24, 16 }, { "serpent", GCRY_CIPHER_SERPENT256, 32, 16 },
    { "twofish", GCRY_CIPHER_TWOFISH128, 16, 16 }, { "twofish", 0, 24, 16 }, { "twofish", GCRY_CIPHER_TWOFISH, 32, 16 },
};
const char *const crypt_cipher_names[] = { "aes-128", "aes-192", "aes-256", "cast5-128", "serpent-128", "serpent-192", "serpent-256",
                                           "twofish-128", "twofish-192", "twofish-256", NULL };
G_STATIC_ASSERT(G_N_ELEMENTS(crypt_cipher_names) == G_N_ELEMENTS(ciphers) + 1);
const char *const crypt_mode_names[] = { "ecb", "cbc", "xts", "ctr", NULL };
static const int modes[] = { GCRY_CIPHER_MODE_ECB, GCRY_CIPHER_MODE_CBC, GCRY_CIPHER_MODE_XTS, GCRY_CIPHER_MODE_CTR };
const char *const crypt_iv_names[] = { "none", "plain", "plain64", "essiv", NULL };
const char *const crypt_hash_names[] = { "md5", "sha1", "sha224", "sha256", "sha384", "sha512", "ripemd160", NULL };
static const struct { int algorithm, bytes; } hashes[] = { { GCRY_MD_MD5, 16 }, { GCRY_MD_SHA1, 20 }, { GCRY_MD_SHA224, 28 }, { GCRY_MD_SHA256, 32 },
                                                           { GCRY_MD_SHA384, 48 }, { GCRY_MD_SHA512, 64 }, { GCRY_MD_RMD160, 20 } };
G_STATIC_ASSERT(G_N_ELEMENTS(crypt_hash_names) == G_N_ELEMENTS(hashes) + 1);

struct context { /* of one thread at a time */
    gcry_cipher_hd_t data, essiv;
};
struct crypt {
    struct crypt_spec spec;
    unsigned block;       /* bytes of the cipher's block: those of the vector */
    uint8_t key[CRYPT_KEY_MAX];
    size_t key_bytes;
    uint8_t essiv_key[64];
    size_t essiv_bytes;
    int essiv_algorithm;
    GMutex lock;          /* the pool */
    GPtrArray *idle;      /* struct context * */
};

size_t crypt_key_bytes(const struct crypt_spec *spec)
{
    return (size_t)ciphers[spec->cipher].key * (spec->mode == CRYPT_XTS ? 2 : 1);
}

int crypt_cipher_find(const char *family, size_t key_bytes)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(ciphers); i++) {
        if (!strcmp(ciphers[i].family, family) && ciphers[i].key == key_bytes)
            return (int)i;
    }
    return -1;
}

const char *crypt_cipher_family(int cipher)
{
    return ciphers[cipher].family;
}

int crypt_hash_algorithm(int hash, size_t *ret_bytes)
{
    if (hash < 0 || hash >= (int)G_N_ELEMENTS(hashes) || gcry_md_test_algo(hashes[hash].algorithm))
        return -1;
    *ret_bytes = (size_t)hashes[hash].bytes;
    return hashes[hash].algorithm;
}

/* The cipher of the same family whose key is as long as the hash's digest. */
static int essiv_cipher(const struct crypt_spec *spec)
{
    size_t bytes = 0;
    int cipher = crypt_hash_algorithm(spec->iv_hash, &bytes) < 0 ? -1 : crypt_cipher_find(ciphers[spec->cipher].family, bytes);
    return cipher >= 0 && ciphers[cipher].algorithm ? cipher : -1;
}

bool crypt_spec_check(const struct crypt_spec *spec, GError **error)
{
    const struct cipher *c = &ciphers[spec->cipher];
    const char *name = crypt_cipher_names[spec->cipher], *mode = crypt_mode_names[spec->mode];
    crypto_init();
    if (!c->algorithm || gcry_cipher_test_algo(c->algorithm))
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "the cipher %s is not available: libgcrypt does not have it", name);
    if (spec->mode == CRYPT_XTS && c->block != 16)
        return vireo_fail(error, VIREO_ERROR_INVALID, "the mode xts needs a cipher with blocks of 16 bytes; %s has %u", name, c->block);
    if (spec->iv == CRYPT_IV_ESSIV && spec->iv_hash < 0)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Hash algorithm must be specified for ESSIV: ivgen-hash-alg");
    if (spec->iv == CRYPT_IV_ESSIV && essiv_cipher(spec) < 0)
        return vireo_fail(error, VIREO_ERROR_INVALID, "essiv with the hash %s does not go with the cipher %s: there is none with such a long key",
                          crypt_hash_names[spec->iv_hash], name);
    if (spec->iv == CRYPT_IV_NONE && spec->mode != CRYPT_ECB)
        return vireo_fail(error, VIREO_ERROR_INVALID, "the mode %s needs an initialization vector: ivgen-alg", mode);
    return true;
}

/* ---- contexts ---- */

static void context_free(gpointer opaque)
{
    struct context *x = opaque;
    if (x->data)
        gcry_cipher_close(x->data);
    if (x->essiv)
        gcry_cipher_close(x->essiv);
    g_free(x);
}

static struct context *context_new(const struct crypt *c)
{
    struct context *x = g_new0(struct context, 1);
    bool ok = !gcry_cipher_open(&x->data, ciphers[c->spec.cipher].algorithm, modes[c->spec.mode], 0) && !gcry_cipher_setkey(x->data, c->key, c->key_bytes);
    if (ok && c->spec.iv == CRYPT_IV_ESSIV)
        ok = !gcry_cipher_open(&x->essiv, c->essiv_algorithm, GCRY_CIPHER_MODE_ECB, 0) && !gcry_cipher_setkey(x->essiv, c->essiv_key, c->essiv_bytes);
    if (ok)
        return x;
    context_free(x);
    return NULL;
}

static struct context *context_take(struct crypt *c)
{
    g_mutex_lock(&c->lock);
    struct context *x = c->idle->len ? g_ptr_array_steal_index_fast(c->idle, c->idle->len - 1) : NULL;
    g_mutex_unlock(&c->lock);
    return x ? x : context_new(c);
}

static void context_give(struct crypt *c, struct context *x)
{
    g_mutex_lock(&c->lock);
    g_ptr_array_add(c->idle, x);
    g_mutex_unlock(&c->lock);
}

struct crypt *crypt_create(const struct crypt_spec *spec, const void *key, GError **error)
{
    size_t hash_bytes = 0;
    if (!crypt_spec_check(spec, error))
        return NULL;
    struct crypt *c = g_new0(struct crypt, 1);
    c->spec = *spec;
    c->block = ciphers[spec->cipher].block;
    c->key_bytes = crypt_key_bytes(spec);
    memcpy(c->key, key, c->key_bytes);
    if (spec->iv == CRYPT_IV_ESSIV) {
        gcry_md_hash_buffer(crypt_hash_algorithm(spec->iv_hash, &hash_bytes), c->essiv_key, key, c->key_bytes);
        c->essiv_bytes = hash_bytes;
        c->essiv_algorithm = ciphers[essiv_cipher(spec)].algorithm;
    }
    g_mutex_init(&c->lock);
    c->idle = g_ptr_array_new_with_free_func(context_free);
    struct context *x = context_new(c);
    if (x) {
        g_ptr_array_add(c->idle, x);
        return c;
    }
    crypt_destroy(c);
    vireo_fail(error, VIREO_ERROR_FAILED, "libgcrypt does not take the key for %s-%s: a weak one", crypt_cipher_names[spec->cipher], crypt_mode_names[spec->mode]);
    return NULL;
}

struct crypt *crypt_create_qcow_aes(GBytes *passphrase, GError **error)
{
    static const struct crypt_spec spec = { .cipher = 0, .mode = CRYPT_CBC, .iv = CRYPT_IV_PLAIN64, .iv_hash = -1 };
    uint8_t key[16] = { 0 };
    size_t n;
    const void *text = g_bytes_get_data(passphrase, &n);
    if (n)
        memcpy(key, text, MIN(n, sizeof(key)));
    struct crypt *c = crypt_create(&spec, key, error);
    explicit_bzero(key, sizeof(key));
    return c;
}

void crypt_destroy(struct crypt *c)
{
    if (!c)
        return;
    g_ptr_array_unref(c->idle);
    g_mutex_clear(&c->lock);
    crypto_free(c, sizeof(*c));
}

/* ---- sectors ---- */

static bool sector_vector(const struct crypt *c, struct context *x, uint64_t sector)
{
    uint8_t iv[16] = { 0 };
    uint64_t number = GUINT64_TO_LE(c->spec.iv == CRYPT_IV_PLAIN ? (uint32_t)sector : sector);
    if (c->spec.mode == CRYPT_ECB)
        return true;
    memcpy(iv, &number, sizeof(number)); /* blocks have at least 8 bytes */
    if (x->essiv && gcry_cipher_encrypt(x->essiv, iv, c->block, NULL, 0))
        return false;
    return !(c->spec.mode == CRYPT_CTR ? gcry_cipher_setctr(x->data, iv, c->block) : gcry_cipher_setiv(x->data, iv, c->block));
}

static int crypt_sectors(struct crypt *c, bool encrypt, uint64_t offset, uint8_t *at, size_t bytes)
{
    struct context *x = context_take(c);
    bool ok = x != NULL;
    for (; ok && bytes; at += CRYPT_SECTOR, offset += CRYPT_SECTOR, bytes -= CRYPT_SECTOR) {
        ok = sector_vector(c, x, offset / CRYPT_SECTOR) &&
             !(encrypt ? gcry_cipher_encrypt(x->data, at, CRYPT_SECTOR, NULL, 0) : gcry_cipher_decrypt(x->data, at, CRYPT_SECTOR, NULL, 0));
    }
    if (x)
        context_give(c, x);
    return ok ? 0 : EIO;
}

int crypt_encrypt(struct crypt *c, uint64_t offset, void *buffer, size_t bytes)
{
    return crypt_sectors(c, true, offset, buffer, bytes);
}

int crypt_decrypt(struct crypt *c, uint64_t offset, void *buffer, size_t bytes)
{
    return crypt_sectors(c, false, offset, buffer, bytes);
}
