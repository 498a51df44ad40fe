/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "block/luks.h"

#include <errno.h>
#include <gcrypt.h>
#include <string.h>
#include <time.h>

#include "base/crypto.h"
#include "base/error.h"

/* Specification, 2 and 4.1. */
enum {
    SLOTS = 8, STRIPES = 4000, DIGEST_BYTES = 20, SALT_BYTES = 32, NAME_BYTES = 32, UUID_BYTES = 40,
    SLOT_ENABLED = 0x00ac71f3, SLOT_DISABLED = 0x0000dead,
    KEY_ALIGN = 4096,      /* of key material */
    MIN_ITERATIONS = 1000, /* 4.1 */
    ERASE_ROUNDS = 3,
};
static const uint8_t magic[6] = { 'L', 'U', 'K', 'S', 0xba, 0xbe };

struct disk_slot { /* 2.2; big-endian */
    uint32_t active, iterations;
    uint8_t salt[SALT_BYTES];
    uint32_t material /* sector */, stripes;
};
struct disk_header { /* 2.1; big-endian */
    uint8_t magic[6];
    uint16_t version;
    char cipher[NAME_BYTES], mode[NAME_BYTES], hash[NAME_BYTES];
    uint32_t payload /* sector */, key_bytes;
    uint8_t digest[DIGEST_BYTES], digest_salt[SALT_BYTES];
    uint32_t digest_iterations;
    char uuid[UUID_BYTES];
    struct disk_slot slot[SLOTS];
};
G_STATIC_ASSERT(sizeof(struct disk_header) == 592);

struct luks {
    struct luks_store store;
    struct disk_header h; /* as on the disk */
    struct crypt_spec spec;
    int hash, algorithm;  /* of the key derivation: number of crypt_hash_names, libgcrypt's */
    size_t hash_bytes, key_bytes;
    uint8_t key[CRYPT_KEY_MAX]; /* valid when payload is not NULL */
    struct crypt *payload;
};

static uint32_t be(uint32_t v)
{
    return GUINT32_FROM_BE(v);
}

static uint64_t slot_offset(const struct luks *l, unsigned i)
{
    return (uint64_t)be(l->h.slot[i].material) * CRYPT_SECTOR;
}

static bool slot_active(const struct luks *l, unsigned i)
{
    return be(l->h.slot[i].active) == SLOT_ENABLED;
}

static size_t material_bytes(const struct luks *l)
{
    return l->key_bytes * STRIPES;
}

unsigned luks_probe_version(const uint8_t *head, size_t n)
{
    return n >= 8 && !memcmp(head, magic, sizeof(magic)) ? head[6] * 256u + head[7] : 0;
}

/* ---- the anti-forensic splitter (specification, 2.4) ---- */

/* Every block of a digest's length becomes the hash of its number and itself; a last, shorter one that much of it. */
static void diffuse(const struct luks *l, uint8_t *block, size_t n)
{
    uint8_t digest[64];
    gcry_md_hd_t md;
    if (gcry_md_open(&md, l->algorithm, 0))
        g_error("gcry_md_open");
    for (uint32_t i = 0; n; i++) {
        uint32_t number = GUINT32_TO_BE(i);
        size_t part = MIN(n, l->hash_bytes);
        gcry_md_reset(md);
        gcry_md_write(md, &number, sizeof(number));
        gcry_md_write(md, block, part);
        memcpy(digest, gcry_md_read(md, l->algorithm), l->hash_bytes);
        memcpy(block, digest, part);
        block += part;
        n -= part;
    }
    gcry_md_close(md);
    explicit_bzero(digest, sizeof(digest));
}

static void mix(uint8_t *to, const uint8_t *stripe, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] ^= stripe[i];
}

static void split(const struct luks *l, const uint8_t *key, uint8_t *material)
{
    uint8_t sum[CRYPT_KEY_MAX] = { 0 };
    size_t n = l->key_bytes;
    crypto_random(material, n * (STRIPES - 1));
    for (unsigned i = 0; i < STRIPES - 1; i++) {
        mix(sum, material + i * n, n);
        diffuse(l, sum, n);
    }
    memcpy(material + (STRIPES - 1) * n, sum, n);
    mix(material + (STRIPES - 1) * n, key, n);
    explicit_bzero(sum, sizeof(sum));
}

static void merge(const struct luks *l, const uint8_t *material, uint8_t *key)
{
    size_t n = l->key_bytes;
    memset(key, 0, n);
    for (unsigned i = 0; i < STRIPES - 1; i++) {
        mix(key, material + i * n, n);
        diffuse(l, key, n);
    }
    mix(key, material + (STRIPES - 1) * n, n);
}

/* ---- key derivation ---- */

/* PBKDF2 (RFC 8018, 5.2). */
static bool derive(const struct luks *l, const void *from, size_t n, const uint8_t *salt, uint32_t iterations, void *to, size_t to_n)
{
    return iterations && !gcry_kdf_derive(from, n, GCRY_KDF_PBKDF2, l->algorithm, salt, SALT_BYTES, iterations, to_n, to);
}

static uint64_t thread_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* How many iterations for a result of to_n bytes take `ms` on this host; at least the specification's. */
static uint32_t iterations_for(const struct luks *l, size_t to_n, uint64_t ms)
{
    static const uint8_t salt[SALT_BYTES] = { 1 };
    uint8_t out[CRYPT_KEY_MAX];
    uint64_t n = 4096, us = 0;
    for (; n < 1u << 24; n *= 2) {
        uint64_t began = thread_us();
        if (!derive(l, "passphrase", 10, salt, (uint32_t)n, out, to_n))
            return MIN_ITERATIONS;
        us = thread_us() - began;
        if (us > 50000 || (us > 2000 && us > ms * 1000))
            break;
    }
    uint64_t want = (uint64_t)((double)n * (double)ms * 1000 / (double)MAX(us, 1));
    return (uint32_t)CLAMP(want, MIN_ITERATIONS, UINT32_MAX);
}

static bool digest_fits(const struct luks *l, const uint8_t *key)
{
    uint8_t digest[DIGEST_BYTES];
    return derive(l, key, l->key_bytes, l->h.digest_salt, be(l->h.digest_iterations), digest, sizeof(digest)) &&
           !memcmp(digest, l->h.digest, sizeof(digest));
}

/* ---- slots ---- */

/* The slot's material is encrypted like the payload, its sectors counted from 0. */
static struct crypt *slot_crypt(const struct luks *l, const struct disk_slot *s, GBytes *passphrase, GError **error)
{
    uint8_t key[CRYPT_KEY_MAX];
    size_t n;
    const void *text = g_bytes_get_data(passphrase, &n);
    struct crypt *c = NULL;
    if (!n)
        vireo_fail(error, VIREO_ERROR_INVALID, "the passphrase is empty");
    else if (!derive(l, text, n, s->salt, be(s->iterations), key, l->key_bytes))
        vireo_fail(error, VIREO_ERROR_FAILED, "libgcrypt does not derive a key with PBKDF2 and %s", crypt_hash_names[l->hash]);
    else
        c = crypt_create(&l->spec, key, error);
    explicit_bzero(key, sizeof(key));
    return c;
}

enum slot_verdict { SLOT_NO, SLOT_YES, SLOT_ERROR };

/* Whether the passphrase opens slot i; then the payload's key. */
static enum slot_verdict slot_try(const struct luks *l, unsigned i, GBytes *passphrase, uint8_t *key, GError **error)
{
    size_t n = material_bytes(l), whole = (n + CRYPT_SECTOR - 1) / CRYPT_SECTOR * CRYPT_SECTOR;
    struct crypt *c = slot_crypt(l, &l->h.slot[i], passphrase, error);
    if (!c)
        return SLOT_ERROR;
    uint8_t *material = g_malloc(whole);
    int err = l->store.read(l->store.opaque, slot_offset(l, i), whole, material);
    if (!err)
        err = crypt_decrypt(c, 0, material, whole);
    if (!err)
        merge(l, material, key);
    crypto_free(material, whole);
    crypt_destroy(c);
    if (!err)
        return digest_fits(l, key) ? SLOT_YES : SLOT_NO;
    vireo_fail_errno(error, err, "cannot read key slot %u", i);
    return SLOT_ERROR;
}

static bool unlock(struct luks *l, GBytes *passphrase, GError **error)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        enum slot_verdict v = slot_active(l, i) ? slot_try(l, i, passphrase, l->key, error) : SLOT_NO;
        if (v == SLOT_ERROR)
            return false;
        if (v == SLOT_YES) {
            l->payload = crypt_create(&l->spec, l->key, error);
            return l->payload != NULL;
        }
    }
    return vireo_fail(error, VIREO_ERROR_PERMISSION, "Invalid password, cannot unlock any keyslot");
}

/* ---- the header ---- */

static int name_index(const char *const *names, const char *name)
{
    for (int i = 0; names[i]; i++) {
        if (!strcmp(names[i], name))
            return i;
    }
    return -1;
}

/* A field of the header, ended by a zero byte or by its end. */
static char *field(const char *text, size_t n)
{
    char *s = g_strndup(text, n);
    for (char *at = s; *at; at++) {
        if (!g_ascii_isprint(*at))
            *at = '?';
    }
    return s;
}

/* "xts-plain64", "cbc-essiv:sha256", "ecb" (specification, 6: cipher modes are those of dm-crypt). */
static bool parse_mode(const char *text, struct crypt_spec *ret, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(text, "-", 2);
    char *hash = parts[0] && parts[1] ? strchr(parts[1], ':') : NULL;
    if (hash)
        *hash++ = 0;
    ret->mode = parts[0] ? name_index(crypt_mode_names, parts[0]) : -1;
    ret->iv = parts[0] && parts[1] ? name_index(crypt_iv_names, parts[1]) : CRYPT_IV_NONE;
    ret->iv_hash = hash ? name_index(crypt_hash_names, hash) : -1;
    if (ret->mode < 0 || ret->iv < 0 || (hash && ret->iv_hash < 0))
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "the LUKS header names the cipher mode '%s', which is not supported", text);
    return true;
}

static bool parse_cipher(struct luks *l, GError **error)
{
    g_autofree char *cipher = field(l->h.cipher, NAME_BYTES), *mode = field(l->h.mode, NAME_BYTES), *hash = field(l->h.hash, NAME_BYTES);
    uint32_t key_bytes = be(l->h.key_bytes);
    if (!parse_mode(mode, &l->spec, error))
        return false;
    l->spec.cipher = key_bytes <= CRYPT_KEY_MAX ? crypt_cipher_find(cipher, key_bytes / (l->spec.mode == CRYPT_XTS ? 2 : 1)) : -1;
    if (l->spec.cipher < 0 || crypt_key_bytes(&l->spec) != key_bytes)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "the LUKS header names the cipher '%s' with %u bytes of key, which is not supported", cipher, key_bytes);
    l->key_bytes = key_bytes;
    l->hash = name_index(crypt_hash_names, hash);
    l->algorithm = crypt_hash_algorithm(l->hash, &l->hash_bytes);
    if (l->algorithm < 0)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "the LUKS header names the hash '%s', which is not supported", hash);
    return crypt_spec_check(&l->spec, error);
}

/* Every slot, also one that is not in use, lies between the header and the payload and over no other. */
static bool check_slots(const struct luks *l, GError **error)
{
    uint64_t room = (material_bytes(l) + CRYPT_SECTOR - 1) / CRYPT_SECTOR * CRYPT_SECTOR;
    for (unsigned i = 0; i < SLOTS; i++) {
        const struct disk_slot *s = &l->h.slot[i];
        uint64_t at = slot_offset(l, i);
        if (be(s->active) != SLOT_ENABLED && be(s->active) != SLOT_DISABLED)
            return vireo_fail(error, VIREO_ERROR_INVALID, "Keyslot %u state is corrupted: the LUKS header is damaged", i);
        if (be(s->stripes) != STRIPES)
            return vireo_fail(error, VIREO_ERROR_INVALID, "Keyslot %u is corrupted (stripes %u != %d)", i, be(s->stripes), STRIPES);
        if (slot_active(l, i) && !s->iterations)
            return vireo_fail(error, VIREO_ERROR_INVALID, "Keyslot %u iteration count is zero", i);
        if (at < sizeof(struct disk_header) || at + room > luks_payload_offset(l))
            return vireo_fail(error, VIREO_ERROR_INVALID, "Keyslot %u is overlapping with the LUKS header or the payload", i);
        for (unsigned k = 0; k < i; k++) {
            if (at < slot_offset(l, k) + room && slot_offset(l, k) < at + room)
                return vireo_fail(error, VIREO_ERROR_INVALID, "Keyslots %u and %u are overlapping in the header", k, i);
        }
    }
    return true;
}

static bool parse(struct luks *l, GError **error)
{
    unsigned version = luks_probe_version((const uint8_t *)&l->h, sizeof(l->h));
    if (!version)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Volume is not in LUKS format");
    if (version != 1)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "LUKS version %u is not supported, only 1 is: convert it with 'cryptsetup convert --type luks1'", version);
    if (!parse_cipher(l, error))
        return false;
    if (!l->h.digest_iterations)
        return vireo_fail(error, VIREO_ERROR_INVALID, "LUKS key iteration count is zero");
    if (luks_payload_offset(l) < sizeof(l->h))
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "the LUKS payload begins at %" G_GUINT64_FORMAT ": a detached header is not supported", luks_payload_offset(l));
    if (luks_payload_offset(l) > l->store.size)
        return vireo_fail(error, VIREO_ERROR_INVALID, "LUKS payload is overlapping with the end: it begins at %" G_GUINT64_FORMAT ", there are %" G_GUINT64_FORMAT " bytes",
                          luks_payload_offset(l), l->store.size);
    return check_slots(l, error);
}

static GBytes *find_secret(struct block_graph *g, const char *id, const char *option, GError **error)
{
    if (id)
        return block_graph_secret(g, id, error);
    vireo_fail(error, VIREO_ERROR_INVALID, "Parameter '%s' is required for cipher: the id of an -object secret", option);
    return NULL;
}

struct luks *luks_open(struct block_graph *g, const struct luks_store *store, const char *key_secret, unsigned flags, GError **error)
{
    struct luks *l = g_new0(struct luks, 1);
    g_autoptr(GBytes) passphrase = NULL;
    crypto_init();
    l->store = *store;
    int err = store->size < sizeof(l->h) ? 0 : store->read(store->opaque, 0, sizeof(l->h), &l->h);
    bool ok = err ? vireo_fail_errno(error, err, "Unable to read LUKS header") : parse(l, error);
    if (ok && !(flags & BLOCK_NO_IO)) {
        passphrase = find_secret(g, key_secret, store->key_option, error);
        ok = passphrase && unlock(l, passphrase, error);
    }
    if (ok)
        return l;
    luks_destroy(l);
    return NULL;
}

void luks_destroy(struct luks *l)
{
    if (!l)
        return;
    crypt_destroy(l->payload);
    crypto_free(l, sizeof(*l));
}

struct crypt *luks_payload_crypt(const struct luks *l)
{
    return l->payload;
}

uint64_t luks_payload_offset(const struct luks *l)
{
    return (uint64_t)be(l->h.payload) * CRYPT_SECTOR;
}

struct json_object *luks_info(const struct luks *l)
{
    struct json_object *slots = json_object_new_array();
    g_autofree char *uuid = field(l->h.uuid, UUID_BYTES);
    for (unsigned i = 0; i < SLOTS; i++) {
        struct json_object *s = json_make("active", json_object_new_boolean(slot_active(l, i)), NULL);
        if (slot_active(l, i)) {
            json_object_object_add(s, "iters", json_object_new_int64(be(l->h.slot[i].iterations)));
            json_object_object_add(s, "key-offset", json_object_new_int64((int64_t)slot_offset(l, i)));
            json_object_object_add(s, "stripes", json_object_new_int64(be(l->h.slot[i].stripes)));
        } else {
            json_object_object_add(s, "key-offset", json_object_new_int64((int64_t)slot_offset(l, i)));
        }
        json_object_array_add(slots, s);
    }
    struct json_object *o = json_make("ivgen-alg", json_object_new_string(crypt_iv_names[l->spec.iv == CRYPT_IV_NONE ? CRYPT_IV_PLAIN : l->spec.iv]), NULL);
    if (l->spec.iv == CRYPT_IV_ESSIV)
        json_object_object_add(o, "ivgen-hash-alg", json_object_new_string(crypt_hash_names[l->spec.iv_hash]));
    json_object_object_add(o, "hash-alg", json_object_new_string(crypt_hash_names[l->hash]));
    json_object_object_add(o, "cipher-alg", json_object_new_string(crypt_cipher_names[l->spec.cipher]));
    json_object_object_add(o, "uuid", json_object_new_string(uuid));
    json_object_object_add(o, "cipher-mode", json_object_new_string(crypt_mode_names[l->spec.mode]));
    json_object_object_add(o, "slots", slots);
    json_object_object_add(o, "payload-offset", json_object_new_int64((int64_t)luks_payload_offset(l)));
    json_object_object_add(o, "master-key-iters", json_object_new_int64(be(l->h.digest_iterations)));
    return o;
}

/* ---- creating ---- */

struct create_options {
    char *key_secret;
    int cipher, mode, iv, iv_hash /* 0: none, else index + 1 */, hash;
    uint64_t iter_time; /* ms */
};
static const char *const create_iv_names[] = { "plain", "plain64", "essiv", NULL };
static const char *const create_iv_hashes[] = { "", "md5", "sha1", "sha224", "sha256", "sha384", "sha512", "ripemd160", NULL };
#define C(member) offsetof(struct create_options, member)
const struct keyval_key luks_create_keys[] = {
    { "cipher-alg", KV_ENUM, C(cipher), "Name of encryption cipher algorithm", crypt_cipher_names },
    { "cipher-mode", KV_ENUM, C(mode), "Name of encryption cipher mode", crypt_mode_names },
    { "hash-alg", KV_ENUM, C(hash), "Name of encryption hash algorithm", crypt_hash_names },
    { "iter-time", KV_UINT, C(iter_time), "Time to spend in PBKDF in milliseconds", .min = 1, .max = 3600000 },
    { "ivgen-alg", KV_ENUM, C(iv), "Name of IV generator algorithm", create_iv_names },
    { "ivgen-hash-alg", KV_ENUM, C(iv_hash), "Name of IV generator hash algorithm", create_iv_hashes },
    { "key-secret", KV_STRING, C(key_secret), "ID of the secret that provides the keyslot passphrase" },
    { NULL }
};

/* Defaults as qemu-img's: aes-256-xts-plain64, sha256, two seconds. */
static bool load_create(const struct keyval *options, struct create_options *ret, struct luks *l, GError **error)
{
    *ret = (struct create_options){ .cipher = crypt_cipher_find("aes", 32), .mode = CRYPT_XTS, .iv = 1, .hash = 3, .iter_time = 2000 };
    crypto_init();
    if (!keyval_load(options, luks_create_keys, ret, error))
        return false;
    l->spec = (struct crypt_spec){ ret->cipher, ret->mode, ret->iv + 1, ret->iv_hash - 1 };
    if (l->spec.iv == CRYPT_IV_ESSIV && l->spec.iv_hash < 0)
        l->spec.iv_hash = 3;
    if (l->spec.iv != CRYPT_IV_ESSIV)
        l->spec.iv_hash = -1;
    l->hash = ret->hash;
    l->algorithm = crypt_hash_algorithm(l->hash, &l->hash_bytes);
    if (l->algorithm < 0)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "the hash %s is not available: libgcrypt does not have it", crypt_hash_names[l->hash]);
    l->key_bytes = crypt_key_bytes(&l->spec);
    return crypt_spec_check(&l->spec, error);
}

static uint64_t slot_room(const struct luks *l)
{
    return (material_bytes(l) + KEY_ALIGN - 1) / KEY_ALIGN * KEY_ALIGN;
}

bool luks_header_bytes(const struct keyval *options, uint64_t *ret, GError **error)
{
    struct luks l = { 0 };
    struct create_options o;
    bool ok = load_create(options, &o, &l, error);
    g_free(o.key_secret);
    if (ok)
        *ret = KEY_ALIGN + SLOTS * slot_room(&l);
    return ok;
}

static void make_uuid(char *to)
{
    g_autofree char *uuid = g_uuid_string_random();
    memcpy(to, uuid, strlen(uuid) + 1);
}

static void fill_header(struct luks *l)
{
    struct disk_header *h = &l->h;
    g_autofree char *hash = l->spec.iv_hash >= 0 ? g_strconcat(":", crypt_hash_names[l->spec.iv_hash], NULL) : g_strdup("");
    memcpy(h->magic, magic, sizeof(magic));
    h->version = GUINT16_TO_BE(1);
    g_strlcpy(h->cipher, crypt_cipher_family(l->spec.cipher), NAME_BYTES);
    g_snprintf(h->mode, NAME_BYTES, "%s-%s%s", crypt_mode_names[l->spec.mode], crypt_iv_names[l->spec.iv], hash);
    g_strlcpy(h->hash, crypt_hash_names[l->hash], NAME_BYTES);
    h->key_bytes = GUINT32_TO_BE((uint32_t)l->key_bytes);
    h->payload = GUINT32_TO_BE((uint32_t)((KEY_ALIGN + SLOTS * slot_room(l)) / CRYPT_SECTOR));
    make_uuid(h->uuid);
    for (unsigned i = 0; i < SLOTS; i++) {
        h->slot[i].active = GUINT32_TO_BE(SLOT_DISABLED);
        h->slot[i].material = GUINT32_TO_BE((uint32_t)((KEY_ALIGN + i * slot_room(l)) / CRYPT_SECTOR));
        h->slot[i].stripes = GUINT32_TO_BE(STRIPES);
    }
}

static bool write_header(const struct luks *l, GError **error)
{
    int err = l->store.write(l->store.opaque, 0, sizeof(l->h), &l->h);
    if (!err)
        err = l->store.flush(l->store.opaque);
    return !err || vireo_fail_errno(error, err, "cannot write the LUKS header");
}

/* The payload's key into slot i: its material first, so that a header which names it can rely on it. */
static bool slot_fill(struct luks *l, unsigned i, GBytes *passphrase, uint64_t iter_time, GError **error)
{
    struct disk_slot s = l->h.slot[i];
    size_t n = material_bytes(l), whole = (n + CRYPT_SECTOR - 1) / CRYPT_SECTOR * CRYPT_SECTOR;
    s.active = GUINT32_TO_BE(SLOT_ENABLED);
    s.iterations = GUINT32_TO_BE(iterations_for(l, l->key_bytes, iter_time));
    crypto_random(s.salt, sizeof(s.salt));
    struct crypt *c = slot_crypt(l, &s, passphrase, error);
    if (!c)
        return false;
    uint8_t *material = g_malloc0(whole);
    split(l, l->key, material);
    int err = crypt_encrypt(c, 0, material, whole);
    if (!err)
        err = l->store.write(l->store.opaque, slot_offset(l, i), whole, material);
    if (!err)
        err = l->store.flush(l->store.opaque);
    crypto_free(material, whole);
    crypt_destroy(c);
    if (err)
        return vireo_fail_errno(error, err, "cannot write key slot %u", i);
    const struct disk_slot old = l->h.slot[i];
    l->h.slot[i] = s;
    if (write_header(l, error))
        return true;
    l->h.slot[i] = old;
    return false;
}

struct luks *luks_create(struct block_graph *g, const struct luks_store *store, const struct keyval *options, GError **error)
{
    struct luks *l = g_new0(struct luks, 1);
    struct create_options o;
    g_autoptr(GBytes) passphrase = NULL;
    l->store = *store;
    bool ok = load_create(options, &o, l, error);
    if (ok) {
        passphrase = find_secret(g, o.key_secret, store->key_option, error);
        ok = passphrase != NULL;
    }
    if (ok) {
        fill_header(l);
        crypto_random(l->key, l->key_bytes);
        crypto_random(l->h.digest_salt, SALT_BYTES);
        l->h.digest_iterations = GUINT32_TO_BE(iterations_for(l, DIGEST_BYTES, MAX(o.iter_time / 8, 1)));
        ok = derive(l, l->key, l->key_bytes, l->h.digest_salt, be(l->h.digest_iterations), l->h.digest, DIGEST_BYTES) ||
             vireo_fail(error, VIREO_ERROR_FAILED, "libgcrypt does not derive a key with PBKDF2 and %s", crypt_hash_names[l->hash]);
    }
    ok = ok && slot_fill(l, 0, passphrase, o.iter_time, error) && (l->payload = crypt_create(&l->spec, l->key, error));
    g_free(o.key_secret);
    if (ok)
        return l;
    luks_destroy(l);
    return NULL;
}

/* ---- changing slots ---- */

struct amend_options {
    int state; /* of state_names */
    char *new_secret, *old_secret;
    uint64_t slot; /* SLOTS: none given */
    uint64_t iter_time;
};
enum { STATE_NONE, STATE_ACTIVE, STATE_INACTIVE };
static const char *const state_names[] = { "", "active", "inactive", NULL };
#define A(member) offsetof(struct amend_options, member)
const struct keyval_key luks_amend_keys[] = {
    { "iter-time", KV_UINT, A(iter_time), "Time to spend in PBKDF in milliseconds", .min = 1, .max = 3600000 },
    { "keyslot", KV_UINT, A(slot), "Select a single keyslot to modify explicitly", .min = 0, .max = SLOTS - 1 },
    { "new-secret", KV_STRING, A(new_secret), "New secret to set in the matching keyslots. Empty string to erase" },
    { "old-secret", KV_STRING, A(old_secret), "Select all keyslots that match this password" },
    { "state", KV_ENUM, A(state), "Select new state of affected keyslots (active/inactive)", state_names },
    { NULL }
};

static unsigned active_slots(const struct luks *l)
{
    unsigned n = 0;
    for (unsigned i = 0; i < SLOTS; i++)
        n += slot_active(l, i);
    return n;
}

static bool add_slot(struct luks *l, struct block_graph *g, const struct amend_options *o, bool force, GError **error)
{
    unsigned i = 0;
    if (!o->new_secret)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'new-secret' is required to activate a keyslot");
    if (o->old_secret)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'old-secret' must not be given when activating keyslots");
    if (o->slot < SLOTS) {
        i = (unsigned)o->slot;
        if (slot_active(l, i) && !force)
            return vireo_fail(error, VIREO_ERROR_INVALID, "Can't update an active keyslot %u: take it away first (state=inactive)", i);
    } else {
        while (i < SLOTS && slot_active(l, i))
            i++;
        if (i == SLOTS)
            return vireo_fail(error, VIREO_ERROR_INVALID, "Can't add a keyslot - all keyslots are in use");
    }
    g_autoptr(GBytes) passphrase = block_graph_secret(g, o->new_secret, error);
    return passphrase && slot_fill(l, i, passphrase, o->iter_time, error);
}

/* The header ceases to name the slot before its material is overwritten: in between, the material is merely there. */
static bool erase_slot(struct luks *l, unsigned i, GError **error)
{
    size_t whole = (material_bytes(l) + CRYPT_SECTOR - 1) / CRYPT_SECTOR * CRYPT_SECTOR;
    struct disk_slot *s = &l->h.slot[i], old = *s;
    s->active = GUINT32_TO_BE(SLOT_DISABLED);
    s->iterations = 0;
    memset(s->salt, 0, sizeof(s->salt));
    if (!write_header(l, error)) {
        *s = old;
        return false;
    }
    g_autofree uint8_t *noise = g_malloc(whole);
    int err = 0;
    for (unsigned k = 0; k < ERASE_ROUNDS && !err; k++) {
        crypto_random(noise, whole);
        err = l->store.write(l->store.opaque, slot_offset(l, i), whole, noise);
        if (!err)
            err = l->store.flush(l->store.opaque);
    }
    return !err || vireo_fail_errno(error, err, "key slot %u is not in use any more, but its key material could not be overwritten", i);
}

static bool match_slots(const struct luks *l, struct block_graph *g, const char *secret, uint8_t *ret, GError **error)
{
    g_autoptr(GBytes) passphrase = block_graph_secret(g, secret, error);
    uint8_t key[CRYPT_KEY_MAX];
    bool ok = passphrase != NULL;
    for (unsigned i = 0; ok && i < SLOTS; i++) {
        enum slot_verdict v = slot_active(l, i) ? slot_try(l, i, passphrase, key, error) : SLOT_NO;
        if (v == SLOT_YES)
            *ret |= (uint8_t)(1u << i);
        ok = v != SLOT_ERROR;
    }
    explicit_bzero(key, sizeof(key));
    return ok && (*ret || vireo_fail(error, VIREO_ERROR_INVALID, "No keyslots match given (old) password for erase operation"));
}

static bool remove_slots(struct luks *l, struct block_graph *g, const struct amend_options *o, bool force, GError **error)
{
    uint8_t which = 0;
    if (o->new_secret)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'new-secret' must not be given when erasing keyslots");
    if (!o->old_secret && o->slot >= SLOTS)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Either 'old-secret' or 'keyslot' must be given to erase keyslots");
    if (o->old_secret && o->slot < SLOTS)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'old-secret' and 'keyslot' are mutually exclusive here: give one");
    if (o->old_secret && !match_slots(l, g, o->old_secret, &which, error))
        return false;
    if (!o->old_secret)
        which = slot_active(l, (unsigned)o->slot) ? (uint8_t)(1u << o->slot) : 0;
    if (!o->old_secret && !which && !force)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Can't erase inactive keyslot %u", (unsigned)o->slot);
    if (!force && active_slots(l) == (unsigned)__builtin_popcount(which))
        return vireo_fail(error, VIREO_ERROR_INVALID, "%s will make all data on the image inaccessible: it is the last active keyslot; use --force",
                          o->old_secret ? "All the active keyslots match the (old) password that was given and erasing them" : "Erasing the keyslot");
    for (unsigned i = 0; i < SLOTS; i++) {
        if (which >> i & 1 && !erase_slot(l, i, error))
            return false;
    }
    return true;
}

bool luks_amend(struct luks *l, struct block_graph *g, const struct keyval *options, bool force, GError **error)
{
    struct amend_options o = { .slot = SLOTS, .iter_time = 2000 };
    bool ok = keyval_load(options, luks_amend_keys, &o, error);
    if (ok && !o.state)
        ok = vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'state' is missing: active or inactive");
    if (ok && !l->payload)
        ok = vireo_fail(error, VIREO_ERROR_INVALID, "the image is open without its key: give key-secret");
    ok = ok && (o.state == STATE_ACTIVE ? add_slot(l, g, &o, force, error) : remove_slots(l, g, &o, force, error));
    g_free(o.new_secret);
    g_free(o.old_secret);
    return ok;
}
