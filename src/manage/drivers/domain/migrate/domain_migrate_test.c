/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the other side of a migration says is hostile: cookies and addresses. */
#include <string.h>

#include "manage/drivers/domain/migrate/domain_migrate.h"

#define HERE "11111111-2222-3333-4444-555555555555"
#define THERE "aaaaaaaa-2222-3333-4444-555555555555"
#define HEAD "<qemu-migration><name>vm</name><uuid>0d3f5c36-5c0f-4a32-9d0e-5f1f0f5f2b5a</uuid><hostname>h</hostname>"
#define GOOD HEAD "<hostuuid>" THERE "</hostuuid>"

static const char *host_uuid(struct manage_state *s) { return HERE; }

static bool parse(const char *text, gsize size, struct migrate_cookie *k, GError **error)
{
    struct manage_services services = { .host_uuid = host_uuid };
    struct manage_state s = { .services = &services };
    g_autoptr(GVariant) bytes = g_variant_ref_sink(g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, text, size, 1));
    return migrate_cookie_parse(&s, bytes, "vm", NULL, true, k, error);
}

static void test_cookie(void)
{
    static const char text[] = GOOD "<feature name='persistent'/><feature name='lockstate'/><lockstate driver='nop'/><strange><name>x</name></strange><nbd port='49153'><disk target='vda' "
                                    "capacity='8388608'/></nbd><vireo asks='yes'/><domain type='kvm'><name>vm</name></domain></qemu-migration>";
    struct migrate_cookie k;
    g_autoptr(GError) error = NULL;
    g_assert_true(parse(text, sizeof(text), &k, &error));
    g_assert_cmpstr(k.name, ==, "vm");
    g_assert_cmpstr(k.persistent, ==, "<domain type='kvm'><name>vm</name></domain>");
    g_assert_true(k.asks);
    g_assert_cmpuint(k.nbd_port, ==, 49153);
    g_assert_cmpuint(k.disks->len, ==, 1);
    g_assert_cmpstr(g_array_index(k.disks, struct migrate_disk, 0).target, ==, "vda");
    g_assert_cmpuint(g_array_index(k.disks, struct migrate_disk, 0).size, ==, 8388608);
    migrate_cookie_clear(&k);
}

static void test_bad_cookies(void)
{
    static const struct { const char *text, *says; } bad[] = {
        { "", "terminated" },
        { "x", "cannot be read" },
        { "<other/>", "<qemu-migration>" },
        { "<qemu-migration/>", "needs name" },
        { HEAD "</qemu-migration>", "needs name" },
        { HEAD "<hostuuid>" HERE "</hostuuid></qemu-migration>", "same host" },
        { "<qemu-migration><name>other</name><uuid>0d3f5c36-5c0f-4a32-9d0e-5f1f0f5f2b5a</uuid><hostname>h</hostname><hostuuid>" THERE "</hostuuid></qemu-migration>", "of domain 'other'" },
        { GOOD "<feature name='wings'/></qemu-migration>", "'wings'" },
        { GOOD "<lockstate driver='sanlock'/></qemu-migration>", "'sanlock'" },
        { GOOD "<uuid>no</uuid></qemu-migration>", "needs name" },
        { GOOD, "cannot be read" },
        { "</domain><domain " GOOD "</qemu-migration>", "cannot be read" },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        struct migrate_cookie k;
        g_autoptr(GError) error = NULL;
        g_assert_false(parse(bad[i].text, strlen(bad[i].text) + (*bad[i].text != 0), &k, &error));
        g_assert_nonnull(strstr(error->message, bad[i].says));
        g_assert_null(k.name);
    }
    struct migrate_cookie k;
    g_assert_false(parse(GOOD "</qemu-migration>", strlen(GOOD "</qemu-migration>"), &k, NULL)); /* without its NUL */
    g_assert_false(parse("a\0b", 4, &k, NULL));
}

static void test_addresses(void)
{
    static const struct { const char *uri, *host; unsigned port; bool local; } good[] = {
        { "tcp:host:49152", "host", 49152, false }, { "tcp://host", "host", 0, false },           { "tcp://host:1/", "host", 1, false },
        { "tcp://[::1]:65535", "::1", 65535, false }, { "tcp:127.0.0.1", "127.0.0.1", 0, false }, { "unix:///run/x", "/run/x", 0, true },
        { "unix:/run/x", "/run/x", 0, true },
    };
    static const char *const bad[] = { "", "tcp:", "tcp://", "tcp://host:0", "tcp://host:65536", "tcp://host:x", "tcp://ho st:1", "tcp://host,file=x:1", "exec:cat", "fd:5", "unix:x", "rdma://host:1",
                                       "unix:///a,b", "tcp://-x;y:1" };
    for (unsigned i = 0; i < G_N_ELEMENTS(good); i++) {
        g_autofree char *host = NULL;
        unsigned port;
        bool local;
        g_assert_true(migrate_uri_parse(good[i].uri, &host, &port, &local, NULL));
        g_assert_cmpstr(host, ==, good[i].host);
        g_assert_true(port == good[i].port && local == good[i].local);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *host = NULL;
        g_autoptr(GError) error = NULL;
        unsigned port;
        bool local;
        g_assert_false(migrate_uri_parse(bad[i], &host, &port, &local, &error));
        g_assert_nonnull(error);
    }
    g_autofree char *machine = migrate_uri_machine("tcp://[::1]:5", NULL);
    g_assert_cmpstr(machine, ==, "tcp:[::1]:5");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/migrate/cookie", test_cookie);
    g_test_add_func("/migrate/bad-cookies", test_bad_cookies);
    g_test_add_func("/migrate/addresses", test_addresses);
    return g_test_run();
}
