/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <gcrypt.h>
#include <string.h>
#include <unistd.h>

#include "base/crypto.h"
#include "base/error.h"
#include "base/fdset.h"

enum { SECRET_MAX = 1 << 20, MASTER_BYTES = 32, IV_BYTES = 16 };
const char *const secret_formats[] = { "raw", "base64", NULL };

/* The whole content of a file, pipes and /dev/fdset/N included. */
static uint8_t *read_file(const char *path, size_t *ret_n, GError **error)
{
    int fd = fdset_open(path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) {
        vireo_fail_errno(error, errno, "cannot open the secret's file '%s'", path);
        return NULL;
    }
    uint8_t *data = g_malloc0(SECRET_MAX + 1);
    size_t n = 0;
    ssize_t got = 1;
    while (n <= SECRET_MAX && (got = read(fd, data + n, SECRET_MAX + 1 - n)) != 0) {
        if (got < 0 && errno != EINTR)
            break;
        n += got > 0 ? (size_t)got : 0;
    }
    int err = errno;
    close(fd);
    if (got < 0)
        vireo_fail_errno(error, err, "cannot read the secret's file '%s'", path);
    else if (n > SECRET_MAX)
        vireo_fail(error, VIREO_ERROR_INVALID, "the secret's file '%s' has more than %d bytes", path, SECRET_MAX);
    if (got < 0 || n > SECRET_MAX) {
        crypto_free(data, SECRET_MAX + 1);
        return NULL;
    }
    *ret_n = n;
    return data;
}

/* Base64 with white space allowed between (files end with a newline); NULL: it is none. */
static uint8_t *decode(const uint8_t *text, size_t n, size_t *ret_n)
{
    uint8_t *out = g_malloc(n / 4 * 3 + 4);
    char *clean = g_malloc(n + 1);
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        if (!g_ascii_isspace(text[i]))
            clean[k++] = (char)text[i];
    }
    clean[k] = 0;
    size_t body = strspn(clean, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
    bool good = k % 4 == 0 && k - body <= 2 && strspn(clean + body, "=") == k - body;
    gint state = 0;
    guint save = 0;
    *ret_n = good ? g_base64_decode_step(clean, k, out, &state, &save) : 0;
    crypto_free(clean, n + 1);
    if (good)
        return out;
    g_free(out);
    return NULL;
}

/* AES-256-CBC with PKCS #7 padding (RFC 5652, 6.3), in place. */
static bool decrypt(uint8_t *data, size_t *n, const struct secret_options *o, secret_find_fn *find, void *opaque, GError **error)
{
    g_autoptr(GBytes) key = find(opaque, o->keyid, error);
    size_t key_n = 0, iv_n = 0;
    const void *key_data = key ? g_bytes_get_data(key, &key_n) : NULL;
    if (!key)
        return false;
    if (!o->iv)
        return vireo_fail(error, VIREO_ERROR_INVALID, "IV is required to decrypt secret: give iv= in base64");
    g_autofree uint8_t *iv = decode((const uint8_t *)o->iv, strlen(o->iv), &iv_n);
    if (!iv || iv_n != IV_BYTES)
        return vireo_fail(error, VIREO_ERROR_INVALID, "IV should be 16 bytes in length, in base64");
    if (key_n != MASTER_BYTES)
        return vireo_fail(error, VIREO_ERROR_INVALID, "the key secret '%s' should have 32 bytes, it has %zu", o->keyid, key_n);
    gcry_cipher_hd_t h;
    bool ok = *n && *n % 16 == 0 && !gcry_cipher_open(&h, GCRY_CIPHER_AES256, GCRY_CIPHER_MODE_CBC, 0);
    if (!ok)
        return vireo_fail(error, VIREO_ERROR_INVALID, "the encrypted secret's length is not a multiple of 16 bytes");
    ok = !gcry_cipher_setkey(h, key_data, key_n) && !gcry_cipher_setiv(h, iv, iv_n) && !gcry_cipher_decrypt(h, data, *n, NULL, 0);
    gcry_cipher_close(h);
    uint8_t pad = data[*n - 1];
    if (!ok || !pad || pad > 16)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Incorrect number of padding bytes found on decrypted data: is '%s' the right key?", o->keyid);
    *n -= pad;
    return true;
}

GBytes *secret_load(const struct secret_options *o, secret_find_fn *find, void *opaque, GError **error)
{
    size_t n = 0;
    uint8_t *data;
    crypto_init();
    if (!o->data == !o->file) {
        vireo_fail(error, VIREO_ERROR_INVALID, o->data ? "'file' and 'data' are mutually exclusive" : "Must provide 'file' or 'data'");
        return NULL;
    }
    if (o->file) {
        data = read_file(o->file, &n, error);
    } else {
        n = strlen(o->data);
        data = g_memdup2(o->data, n + 1);
    }
    if (!data)
        return NULL;
    if (o->format == SECRET_BASE64) {
        size_t was = n;
        uint8_t *plain = decode(data, n, &n);
        crypto_free(data, was);
        data = plain;
    }
    if (!data) {
        vireo_fail(error, VIREO_ERROR_INVALID, "the secret is not valid base64");
        return NULL;
    }
    /* The format is that of what is encrypted; inside are the bytes themselves. */
    if (o->keyid && !decrypt(data, &n, o, find, opaque, error)) {
        crypto_free(data, n);
        return NULL;
    }
    return crypto_bytes_take(data, n);
}

/* ---- a set ---- */

struct secrets {
    GMutex lock;
    GHashTable *by_id; /* char *, GBytes * */
};

struct secrets *secrets_create(void)
{
    struct secrets *s = g_new(struct secrets, 1);
    s->by_id = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_bytes_unref);
    g_mutex_init(&s->lock);
    return s;
}

void secrets_destroy(struct secrets *s)
{
    if (!s)
        return;
    g_hash_table_unref(s->by_id);
    g_mutex_clear(&s->lock);
    g_free(s);
}

void secrets_put(struct secrets *s, const char *id, GBytes *bytes)
{
    g_mutex_lock(&s->lock);
    g_hash_table_replace(s->by_id, g_strdup(id), bytes);
    g_mutex_unlock(&s->lock);
}

void secrets_remove(struct secrets *s, const char *id)
{
    g_mutex_lock(&s->lock);
    g_hash_table_remove(s->by_id, id);
    g_mutex_unlock(&s->lock);
}

GBytes *secrets_find(void *opaque, const char *id, GError **error)
{
    struct secrets *s = opaque;
    g_mutex_lock(&s->lock);
    GBytes *found = g_hash_table_lookup(s->by_id, id);
    if (found)
        g_bytes_ref(found);
    g_mutex_unlock(&s->lock);
    if (!found)
        vireo_fail(error, VIREO_ERROR_NOT_FOUND, "No secret with id '%s'", id);
    return found;
}

static const struct keyval_key secret_keys[] = {
    { "data", KV_STRING, offsetof(struct secret_options, data) },
    { "file", KV_STRING, offsetof(struct secret_options, file) },
    { "format", KV_ENUM, offsetof(struct secret_options, format), NULL, secret_formats },
    { "keyid", KV_STRING, offsetof(struct secret_options, keyid) },
    { "iv", KV_STRING, offsetof(struct secret_options, iv) },
    { NULL }
};

bool secrets_add(struct secrets *s, const char *text, GError **error)
{
    keyval_auto *kv = keyval_parse(text, "qom-type", error);
    if (!kv)
        return false;
    g_autofree char *type = keyval_take(kv, "qom-type"), *id = keyval_take(kv, "id");
    struct secret_options o = { 0 };
    GBytes *bytes = NULL;
    if (!type || strcmp(type, "secret"))
        return vireo_fail(error, VIREO_ERROR_INVALID, "invalid object type: %s; there is 'secret'", type ? type : "none");
    if (!id || !*id)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'id' is missing");
    g_autoptr(GBytes) old = secrets_find(s, id, NULL);
    if (old)
        return vireo_fail(error, VIREO_ERROR_INVALID, "there is a secret with id '%s' already", id);
    if (keyval_load(kv, secret_keys, &o, error))
        bytes = secret_load(&o, secrets_find, s, error);
    crypto_free(o.data, o.data ? strlen(o.data) : 0);
    g_free(o.file);
    g_free(o.keyid);
    g_free(o.iv);
    if (!bytes) {
        g_prefix_error(error, "secret '%s': ", id);
        return false;
    }
    secrets_put(s, id, bytes);
    return true;
}
