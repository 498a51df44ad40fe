/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The user-mode network: options, and a DHCP exchange of frames with it. */
#include <arpa/inet.h>
#include <string.h>

#include "base/error.h"
#include "vmm/core/fake_accel.h" /* machine.c wants one */
#include "vmm/net/net.h"
#include "vmm/net/slirp_options.h"

struct guest {
    bool ready;
    GMainLoop *loop;
    uint8_t offer[4];
    unsigned frames;
};

static bool can_receive(void *opaque)
{
    return ((struct guest *)opaque)->ready;
}

static void receive(void *opaque, const uint8_t *frame, size_t n)
{
    struct guest *g = opaque;
    g->frames++;
    /* Ethernet, IPv4 and UDP headers, to port 68: a BOOTP reply; its yiaddr. */
    if (n > 14 + 20 + 8 + 240 && frame[12] == 8 && frame[13] == 0 && frame[23] == 17 && frame[14 + 20 + 3] == 68) {
        memcpy(g->offer, frame + 14 + 20 + 8 + 16, 4);
        g_main_loop_quit(g->loop);
    }
}

static const struct net_frontend frontend = { can_receive, receive };

static size_t dhcp_discover(uint8_t *f)
{
    static const uint8_t mac[6] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 };
    static const uint8_t options[] = { 0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255 };
    const size_t bootp = 236 + 64, udp = 8 + bootp, ip = 20 + udp;
    memset(f, 0, 14 + ip);
    memset(f, 0xff, 6);
    memcpy(f + 6, mac, 6);
    f[12] = 8;
    uint8_t *h = f + 14;
    h[0] = 0x45;
    h[2] = ip >> 8;
    h[3] = ip & 0xff;
    h[8] = 64;
    h[9] = 17;
    memset(h + 16, 0xff, 4);
    uint32_t sum = 0;
    for (int i = 0; i < 20; i += 2)
        sum += h[i] << 8 | h[i + 1];
    sum = ~((sum & 0xffff) + (sum >> 16));
    h[10] = sum >> 8;
    h[11] = sum;
    uint8_t *u = h + 20;
    u[1] = 68;
    u[3] = 67;
    u[4] = udp >> 8;
    u[5] = udp & 0xff;
    uint8_t *b = u + 8;
    b[0] = 1;
    b[1] = 1;
    b[2] = 6;
    memcpy(b + 28, mac, 6);
    memcpy(b + 236, options, sizeof(options));
    return 14 + ip;
}

static gboolean give_up(gpointer opaque)
{
    g_main_loop_quit(((struct guest *)opaque)->loop);
    return G_SOURCE_REMOVE;
}

static gboolean become_ready(gpointer opaque)
{
    struct { struct guest *g; struct net_backend *b; } *x = opaque;
    x->g->ready = true;
    net_receive_ready(x->b);
    return G_SOURCE_REMOVE;
}

static void test_dhcp(void)
{
    g_autoptr(GHashTable) opts = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GPtrArray) forwards = g_ptr_array_new();
    g_autoptr(GError) error = NULL;
    uint8_t frame[1500];
    struct guest g = { .loop = g_main_loop_new(NULL, FALSE) };
    g_hash_table_insert(opts, (char *)"net", (char *)"192.168.76.0/24");
    g_hash_table_insert(opts, (char *)"dhcpstart", (char *)"192.168.76.9");
    g_ptr_array_add(forwards, (char *)"tcp:127.0.0.1:45873-:22");
    struct net_backend *b = net_backend_create("user", "n0", opts, forwards, &error);
    g_assert_no_error(error);
    g_assert_true(net_backend_attach(b, &frontend, &g, &error));
    g_assert_false(net_backend_attach(b, &frontend, &g, NULL));
    net_send(b, frame, dhcp_discover(frame));
    net_send(b, frame, 3); /* a frame that is none */
    struct { struct guest *g; struct net_backend *b; } x = { &g, b };
    g_timeout_add(50, become_ready, &x); /* until then the answer waits */
    guint t = g_timeout_add(5000, give_up, &g);
    g_main_loop_run(g.loop);
    g_source_remove(t);
    static const uint8_t expect[4] = { 192, 168, 76, 9 };
    g_assert_cmpmem(g.offer, 4, expect, 4);
    struct net_backend *second = net_backend_create("user", "n1", opts, forwards, &error); /* the port is taken */
    g_assert_null(second);
    g_assert_nonnull(error);
    g_test_message("%s", error->message);
    net_backend_detach(b);
    net_backend_destroy(b);
    g_main_loop_unref(g.loop);
}

static gboolean keep(gpointer opaque)
{
    return G_SOURCE_CONTINUE;
}

/* An idle network must not keep the main loop busy. */
static void test_idle(void)
{
    g_autoptr(GHashTable) opts = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GPtrArray) forwards = g_ptr_array_new();
    g_ptr_array_add(forwards, (char *)"udp::45874-:53");
    struct net_backend *b = net_backend_create("user", "n0", opts, forwards, NULL);
    g_assert_nonnull(b);
    gint64 end = g_get_monotonic_time() + 300000;
    unsigned rounds = 0;
    guint t = g_timeout_add(100, keep, NULL);
    while (g_get_monotonic_time() < end) {
        g_main_context_iteration(NULL, TRUE);
        rounds++;
    }
    g_source_remove(t);
    g_assert_cmpuint(rounds, <, 50);
    net_backend_destroy(b);
}

static void test_options(void)
{
    static const struct { const char *key, *value; bool ok; } cases[] = {
        { "net", "10.1.0.0/16", true },       { "net", "10.1.0.0/255.255.0.0", true }, { "net", "10.1.0.0/30", false },
        { "net", "nonsense", false },         { "net", "10.1.0.0/255.0.255.0", false }, { "restrict", "on", true },
        { "restrict", "maybe", false },       { "ipv6", "off", true },                 { "host", "10.0.2.9", true },
        { "host", "10.0.3.9", false },        { "dns", "10.0.2.2", false },            { "tftp", "/srv", false },
        { "smb", "/srv", false },             { "bootfile", "x", false },              { "unheard", "of", false },
        { "hostname", "guest", true },        { "domainname", "example.org", true },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GHashTable) opts = g_hash_table_new(g_str_hash, g_str_equal);
        g_autoptr(GError) error = NULL;
        SlirpConfig c;
        g_hash_table_insert(opts, (char *)cases[i].key, (char *)cases[i].value);
        bool ok = slirp_options_parse(opts, &c, &error);
        g_test_message("%s=%s: %s", cases[i].key, cases[i].value, error ? error->message : "taken");
        g_assert_cmpint(ok, ==, cases[i].ok);
    }
    static const struct { const char *text; bool ok; } forwards[] = {
        { "tcp::2222-:22", true }, { "udp:127.0.0.1:53-10.0.2.15:53", true }, { "::2222-:22", true }, { "tcp::0-:22", false },
        { "tcp::2222", false },    { "sctp::1-:2", false },                   { "tcp:host:1-:2", false }, { "", false },
        { "tcp::99999-:2", false },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(forwards); i++) {
        struct slirp_forward f;
        g_test_message("%s", forwards[i].text);
        g_assert_cmpint(slirp_forward_parse(forwards[i].text, &f, NULL), ==, forwards[i].ok);
    }
}

static void test_types(void)
{
    g_autoptr(GHashTable) opts = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GError) error = NULL;
    g_assert_null(net_backend_create("hubport", "n0", opts, NULL, &error));
    g_assert_error(error, VIREO_ERROR, VIREO_ERROR_UNSUPPORTED);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/net/options", test_options);
    g_test_add_func("/net/types", test_types);
    g_test_add_func("/net/dhcp", test_dhcp);
    g_test_add_func("/net/idle", test_idle);
    return g_test_run();
}
