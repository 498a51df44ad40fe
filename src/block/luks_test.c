/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* LUKS in memory: made, opened, its slots changed, damaged in every field; sectors against published vectors; secrets. */
#include "block/luks.h"

#include <errno.h>
#include <string.h>

#include "base/crypto.h"

#define ENCRYPTED "SI4JuWqmJF8bjD9IJ662eg=="

/* ---- sectors ---- */

/* IEEE 1619-2007, annex B, vector 4: AES-128-XTS, data unit 0, 512 bytes 00 01 02 ... */
static void test_xts_vector(void)
{
    static const uint8_t key[32] = { 0x27, 0x18, 0x28, 0x18, 0x28, 0x45, 0x90, 0x45, 0x23, 0x53, 0x60, 0x28, 0x74, 0x71, 0x35, 0x26,
                                     0x31, 0x41, 0x59, 0x26, 0x53, 0x58, 0x97, 0x93, 0x23, 0x84, 0x62, 0x64, 0x33, 0x83, 0x27, 0x95 };
    static const uint8_t begins[16] = { 0x27, 0xa7, 0x47, 0x9b, 0xef, 0xa1, 0xd4, 0x76, 0x48, 0x9f, 0x30, 0x8c, 0xd4, 0xcf, 0xa6, 0xe2 };
    const struct crypt_spec spec = { crypt_cipher_find("aes", 16), CRYPT_XTS, CRYPT_IV_PLAIN64, -1 };
    g_autoptr(GError) error = NULL;
    uint8_t data[1024], again[1024];
    struct crypt *c = crypt_create(&spec, key, &error);
    g_assert_no_error(error);
    for (unsigned i = 0; i < 1024; i++)
        data[i] = again[i] = (uint8_t)i;
    g_assert_cmpint(crypt_encrypt(c, 0, data, 1024), ==, 0);
    g_assert_cmpmem(data, 16, begins, 16);
    g_assert_true(memcmp(data, data + 512, 512)); /* another sector, another vector */
    g_assert_cmpint(crypt_decrypt(c, 0, data, 1024), ==, 0);
    g_assert_cmpmem(data, 1024, again, 1024);
    crypt_destroy(c);
}

static gpointer crypt_much(gpointer opaque)
{
    uint8_t data[4096], plain[4096];
    memset(plain, 0x5a, sizeof(plain));
    for (unsigned i = 0; i < 2000; i++) {
        memcpy(data, plain, sizeof(data));
        g_assert_cmpint(crypt_encrypt(opaque, i * 4096ull, data, sizeof(data)), ==, 0);
        g_assert_cmpint(crypt_decrypt(opaque, i * 4096ull, data, sizeof(data)), ==, 0);
        g_assert_cmpmem(data, sizeof(data), plain, sizeof(plain));
    }
    return NULL;
}

static void test_threads(void)
{
    const struct crypt_spec spec = { crypt_cipher_find("aes", 32), CRYPT_CBC, CRYPT_IV_ESSIV, 3 };
    uint8_t key[32] = { 1, 2, 3 };
    GThread *t[4];
    struct crypt *c = crypt_create(&spec, key, NULL);
    for (unsigned i = 0; i < 4; i++)
        t[i] = g_thread_new("crypt", crypt_much, c); /* a test has no sandbox */
    for (unsigned i = 0; i < 4; i++)
        g_thread_join(t[i]);
    crypt_destroy(c);
}

/* ---- volumes in memory ---- */

struct memory {
    uint8_t *data;
    size_t n;
    unsigned writes_left; /* then EIO, as a power cut */
};

static int mem_read(void *opaque, uint64_t offset, size_t bytes, void *buffer)
{
    const struct memory *m = opaque;
    g_assert_true(offset <= m->n && bytes <= m->n - offset); /* luks.c never asks for more than there is */
    memcpy(buffer, m->data + offset, bytes);
    return 0;
}

static int mem_write(void *opaque, uint64_t offset, size_t bytes, const void *buffer)
{
    struct memory *m = opaque;
    g_assert_true(offset <= m->n && bytes <= m->n - offset);
    if (!m->writes_left)
        return EIO;
    m->writes_left--;
    memcpy(m->data + offset, buffer, bytes);
    return 0;
}

static int mem_flush(void *opaque)
{
    return 0;
}

struct fixture {
    struct block_graph *g;
    struct secrets *secrets;
    struct memory m;
    struct luks_store store;
};

static void set_up(struct fixture *f, gconstpointer opaque)
{
    g_autoptr(GError) error = NULL;
    keyval_auto *kv = keyval_parse("key-secret=a,iter-time=1,cipher-alg=aes-128", NULL, NULL);
    uint64_t bytes;
    f->g = block_graph_create();
    f->secrets = secrets_create();
    block_graph_set_secrets(f->g, secrets_find, f->secrets);
    g_assert_true(secrets_add(f->secrets, "secret,id=a,data=alpha", NULL) && secrets_add(f->secrets, "secret,id=b,data=beta", NULL) &&
                  secrets_add(f->secrets, "secret,id=none,data=other", NULL));
    g_assert_true(luks_header_bytes(kv, &bytes, NULL));
    g_assert_cmpuint(bytes, ==, 4096 + 8 * 131072);
    f->m = (struct memory){ g_malloc0(bytes), bytes, UINT_MAX };
    f->store = (struct luks_store){ mem_read, mem_write, mem_flush, &f->m, bytes, "key-secret" };
    struct luks *l = luks_create(f->g, &f->store, kv, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(luks_payload_offset(l), ==, bytes);
    luks_destroy(l);
}

static void tear_down(struct fixture *f, gconstpointer opaque)
{
    g_free(f->m.data);
    secrets_destroy(f->secrets);
    block_graph_destroy(f->g);
}

static bool opens(struct fixture *f, const char *secret)
{
    g_autoptr(GError) error = NULL;
    struct luks *l = luks_open(f->g, &f->store, secret, 0, &error);
    if (!l)
        g_assert_cmpstr(error->message, ==, "Invalid password, cannot unlock any keyslot");
    luks_destroy(l);
    return l != NULL;
}

static bool amend(struct fixture *f, const char *secret, const char *options, bool force)
{
    keyval_auto *kv = keyval_parse(options, NULL, NULL);
    struct luks *l = luks_open(f->g, &f->store, secret, 0, NULL);
    g_assert_nonnull(l);
    bool ok = luks_amend(l, f->g, kv, force, NULL);
    luks_destroy(l);
    return ok;
}

static void test_open(struct fixture *f, gconstpointer opaque)
{
    g_autoptr(GError) error = NULL;
    g_assert_true(opens(f, "a"));
    g_assert_false(opens(f, "b"));
    struct luks *l = luks_open(f->g, &f->store, NULL, BLOCK_NO_IO, &error);
    g_assert_no_error(error);
    g_assert_null(luks_payload_crypt(l));
    luks_destroy(l);
    g_assert_null(luks_open(f->g, &f->store, NULL, 0, &error));
    g_assert_nonnull(strstr(error->message, "key-secret"));
}

static void test_slots(struct fixture *f, gconstpointer opaque)
{
    g_assert_true(amend(f, "a", "state=active,new-secret=b,iter-time=1", false));
    g_assert_true(opens(f, "a") && opens(f, "b"));
    g_assert_false(amend(f, "a", "state=active,new-secret=b,keyslot=0", false)); /* in use */
    g_assert_false(amend(f, "a", "state=inactive,old-secret=none", false));
    g_assert_false(amend(f, "a", "state=inactive,keyslot=5", false));
    g_assert_true(amend(f, "b", "state=inactive,old-secret=a", false));
    g_assert_true(!opens(f, "a") && opens(f, "b"));
    g_assert_false(amend(f, "b", "state=inactive,keyslot=1", false)); /* the last */
    g_assert_true(opens(f, "b"));
    for (unsigned i = 0; i < 7; i++)
        g_assert_true(amend(f, "b", "state=active,new-secret=a,iter-time=1", false));
    g_assert_false(amend(f, "b", "state=active,new-secret=a,iter-time=1", false)); /* all taken */
    g_assert_true(amend(f, "b", "state=inactive,keyslot=1", false));
    g_assert_false(opens(f, "b"));
}

/* Whatever write is the last, one of the passphrases opens it. */
static void test_power_cut(struct fixture *f, gconstpointer opaque)
{
    g_autofree uint8_t *copy = g_memdup2(f->m.data, f->m.n);
    for (unsigned cut = 0; cut < 3; cut++) {
        memcpy(f->m.data, copy, f->m.n);
        f->m.writes_left = cut;
        bool done = amend(f, "a", "state=active,new-secret=b,iter-time=1", false);
        g_assert_cmpint(done, ==, cut >= 2);
        g_assert_true(opens(f, "a"));
        g_assert_cmpint(opens(f, "b"), ==, done);
    }
    memcpy(copy, f->m.data, f->m.n);
    for (unsigned cut = 0; cut < 5; cut++) {
        memcpy(f->m.data, copy, f->m.n);
        f->m.writes_left = cut;
        amend(f, "b", "state=inactive,old-secret=a", false);
        g_assert_true(opens(f, "b"));
        g_assert_cmpint(opens(f, "a"), ==, cut == 0);
    }
}

/* Every byte of the header with other values: refused, or opened, and never read outside of the store. */
static void test_hostile(struct fixture *f, gconstpointer opaque)
{
    static const uint8_t values[] = { 0, 1, 0x7f, 0x80, 0xff };
    unsigned refused = 0;
    for (unsigned at = 0; at < 592; at++) {
        uint8_t was = f->m.data[at];
        for (unsigned i = 0; i < G_N_ELEMENTS(values); i++) {
            g_autoptr(GError) error = NULL;
            f->m.data[at] = values[i];
            struct luks *l = luks_open(f->g, &f->store, NULL, BLOCK_NO_IO, &error);
            g_assert_cmpint(!l, ==, error != NULL);
            refused += !l;
            if (l)
                json_object_put(luks_info(l));
            luks_destroy(l);
        }
        f->m.data[at] = was;
    }
    g_assert_cmpuint(refused, >, 500);
    g_assert_true(opens(f, "a"));
}

/* ---- secrets ---- */

static char *secret_text(struct secrets *s, const char *id)
{
    g_autoptr(GBytes) b = secrets_find(s, id, NULL);
    return b ? g_strndup(g_bytes_get_data(b, NULL), g_bytes_get_size(b)) : NULL;
}

static void expect_refused(struct secrets *s, const char *text, const char *says)
{
    g_autoptr(GError) error = NULL;
    g_assert_false(secrets_add(s, text, &error));
    g_assert_nonnull(strstr(error->message, says));
}

static void test_secrets(void)
{
    struct secrets *s = secrets_create();
    g_assert_true(secrets_add(s, "secret,id=raw,data=le,,tter", NULL));
    g_autofree char *raw = secret_text(s, "raw");
    g_assert_cmpstr(raw, ==, "le,tter");
    g_assert_true(secrets_add(s, "secret,id=b64,data=bGV0bWVpbg==,format=base64", NULL));
    g_autofree char *b64 = secret_text(s, "b64");
    g_assert_cmpstr(b64, ==, "letmein");
    /* printf letmein | openssl enc -aes-256-cbc -K 00 01 .. 1f -iv 00 .. 0f -a */
    g_assert_true(secrets_add(s, "secret,id=key,data=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=,format=base64", NULL));
    g_autoptr(GError) error = NULL;
    bool ok = secrets_add(s, "secret,id=enc,data=" ENCRYPTED ",format=base64,keyid=key,iv=AAECAwQFBgcICQoLDA0ODw==", &error);
    g_assert_no_error(error);
    g_assert_true(ok);
    g_autofree char *enc = secret_text(s, "enc");
    g_assert_cmpstr(enc, ==, "letmein");
    expect_refused(s, "secret,id=raw,data=x", "already");
    expect_refused(s, "secret,id=x", "Must provide");
    expect_refused(s, "secret,id=x,data=a,file=b", "mutually exclusive");
    expect_refused(s, "secret,id=x,data=a_b,format=base64", "base64");
    expect_refused(s, "secret,id=x,file=/nonexistent/f", "/nonexistent/f");
    expect_refused(s, "secret,id=x,data=" ENCRYPTED ",format=base64,keyid=key", "IV is required");
    expect_refused(s, "secret,id=x,data=" ENCRYPTED ",format=base64,keyid=raw,iv=AAECAwQFBgcICQoLDA0ODw==", "32 bytes");
    secrets_destroy(s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    crypto_init();
    g_test_add_func("/crypt/xts-vector", test_xts_vector);
    g_test_add_func("/crypt/threads", test_threads);
    g_test_add("/luks/open", struct fixture, NULL, set_up, test_open, tear_down);
    g_test_add("/luks/slots", struct fixture, NULL, set_up, test_slots, tear_down);
    g_test_add("/luks/power-cut", struct fixture, NULL, set_up, test_power_cut, tear_down);
    g_test_add("/luks/hostile", struct fixture, NULL, set_up, test_hostile, tear_down);
    g_test_add_func("/secrets", test_secrets);
    return g_test_run();
}
