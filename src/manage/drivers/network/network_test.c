/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The network driver behind manage_dispatch(), with a root directory and, for root, a network namespace of its own. What needs clients and
 * guests is in tests/manage/test_network.py.
 */
#include <glib/gstdio.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "manage/core/manage.h"
#include "manage/core/manage_services.h"
#include "manage/drivers/network/network.h"

extern const struct manage_driver manage_driver_network, manage_driver_interface;
static const struct manage_driver *const drivers[] = { &manage_driver_network, &manage_driver_interface, NULL };
static const struct manage_table table = { .type = "QEMU", .drivers = drivers };

struct fixture {
    char *root;
    GMainContext *context;
    struct manage_state *state;
    struct manage_conn *conn;
};

static void up(struct fixture *f, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;
    if (!f->root)
        f->root = g_dir_make_tmp("network-test-XXXXXX", NULL);
    f->context = g_main_context_new();
    f->state = manage_state_new(&table, f->root, f->context, &error);
    g_assert_no_error(error);
    f->conn = manage_conn_new(f->state);
    f->conn->open = true;
}

/* The daemon ends; its networks go on. */
static void leave(struct fixture *f)
{
    manage_conn_close(f->conn);
    manage_conn_unref(f->conn);
    manage_state_free(f->state);
    g_main_context_unref(f->context);
}

static GVariant *try_call(struct fixture *f, unsigned proc, GVariant *args, GError **error)
{
    g_autoptr(GVariant) held = g_variant_ref_sink(args);
    struct manage_call c = { .conn = f->conn, .proc = rpc_proc(proc), .args = held };
    g_assert_nonnull(c.proc);
    return manage_dispatch(&c, error);
}

static GVariant *call(struct fixture *f, unsigned proc, GVariant *args)
{
    g_autoptr(GError) error = NULL;
    GVariant *v = try_call(f, proc, args, &error);
    g_assert_no_error(error);
    return v;
}

static void refused(struct fixture *f, unsigned proc, GVariant *args, int code, const char *words)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) v = try_call(f, proc, args, &error);
    g_assert_null(v);
    g_autofree char *text = manage_error_text(error);
    g_test_message("%s", text);
    if (!strstr(text, words))
        g_error("'%s' lacks '%s'", text, words);
    g_assert_cmpint(error->code, ==, code);
}

static GVariant *define(struct fixture *f, const char *xml)
{
    g_autoptr(GVariant) v = call(f, RPC_NETWORK_DEFINE_XML, g_variant_new("(s)", xml));
    return g_variant_get_child_value(v, 0);
}

static GVariant *network(struct fixture *f, const char *name)
{
    g_autoptr(GVariant) v = call(f, RPC_NETWORK_LOOKUP_BY_NAME, g_variant_new("(s)", name));
    return g_variant_get_child_value(v, 0);
}

static char *xml_of(struct fixture *f, GVariant *n, unsigned flags)
{
    g_autoptr(GVariant) v = call(f, RPC_NETWORK_GET_XML_DESC, g_variant_new("(@(say)u)", n, flags));
    char *text;
    g_variant_get_child(v, 0, "s", &text);
    return text;
}

static void on(struct fixture *f, unsigned proc, GVariant *n)
{
    g_autoptr(GVariant) v = call(f, proc, g_variant_new("(@(say))", n));
}

static void remove_network(struct fixture *f, const char *name)
{
    g_autoptr(GVariant) n = network(f, name);
    g_autoptr(GVariant) active = call(f, RPC_NETWORK_IS_ACTIVE, g_variant_new("(@(say))", n));
    int is;
    g_variant_get(active, "(i)", &is);
    if (is)
        on(f, RPC_NETWORK_DESTROY, n);
    on(f, RPC_NETWORK_UNDEFINE, n);
}

static void down(struct fixture *f, gconstpointer unused)
{
    g_autoptr(GVariant) v = call(f, RPC_CONNECT_LIST_ALL_NETWORKS, g_variant_new("(iu)", 1, 0));
    g_autoptr(GVariant) list = g_variant_get_child_value(v, 0);
    for (gsize i = 0; i < g_variant_n_children(list); i++) {
        const char *name;
        g_variant_get_child(list, i, "(&s@ay)", &name, NULL);
        remove_network(f, name);
    }
    leave(f);
    g_autofree char *command = g_strdup_printf("rm -rf '%s'", f->root);
    g_assert_cmpint(system(command), ==, 0);
    g_free(f->root);
}

static bool has_link(const char *name)
{
    return manage_link_exists(name);
}

/* `default` is there from the first start, and comes back only where nobody removed it. */
static void test_default(struct fixture *f, gconstpointer unused)
{
    g_autoptr(GVariant) n = network(f, "default");
    g_autofree char *xml = xml_of(f, n, 0);
    g_assert_nonnull(strstr(xml, "<range start='192.168.122.2' end='192.168.122.254'/>"));
    g_autoptr(GVariant) autostart = call(f, RPC_NETWORK_GET_AUTOSTART, g_variant_new("(@(say))", n));
    int is;
    g_variant_get(autostart, "(i)", &is);
    g_assert_true(is == (geteuid() != 0)); /* below a root directory it is not started by itself where it would make a bridge */
    if (!is)
        on(f, RPC_NETWORK_CREATE, n);
    g_assert_true(has_link("virbr0") == (geteuid() == 0));
    remove_network(f, "default");
    g_assert_false(has_link("virbr0"));
    leave(f);
    up(f, NULL);
    refused(f, RPC_NETWORK_LOOKUP_BY_NAME, g_variant_new("(s)", "default"), VIR_ERR_NO_NETWORK, "Network not found");
}

/* Filled in at define as libvirt does, and what is wrong is named. */
static void test_define(struct fixture *f, gconstpointer unused)
{
    g_autoptr(GVariant) n = define(f, "<network><name>nat0</name><forward/><ip address='10.5.3.1' prefix='24'><dhcp/></ip></network>");
    g_autofree char *xml = xml_of(f, n, 0);
    g_assert_nonnull(strstr(xml, "  <forward mode='nat'/>\n  <bridge name='virbr1' stp='on' delay='0'/>\n  <mac address='52:54:00:"));
    g_assert_nonnull(strstr(xml, "  <ip address='10.5.3.1' prefix='24'>\n  </ip>\n</network>\n"));
    static const struct { const char *xml; int code; const char *words; } bad[] = {
        { "<network><name>nat0</name></network>", VIR_ERR_OPERATION_FAILED, "already exists with uuid" },
        { "<network><name>x</name><bridge name='virbr1'/></network>", VIR_ERR_INTERNAL_ERROR, "'virbr1' already in use by network 'nat0'" },
        { "<network><name>x</name><forward mode='nat'/></network>", VIR_ERR_XML_ERROR, "no IP address" },
        { "<network><name>x</name><ip address='1.2.3.1' netmask='255.255.255.1'/></network>", VIR_ERR_CONFIG_UNSUPPORTED, "netmask" },
        { "<network><name>x</name><ip address='1.2.3.1' prefix='33'/></network>", VIR_ERR_CONFIG_UNSUPPORTED, "Invalid IPv4 prefix" },
        { "<network><name>x</name><ip address='10.0.0.1' prefix='24'><dhcp><range start='10.0.1.2' end='10.0.1.9'/></dhcp></ip></network>", VIR_ERR_INTERNAL_ERROR,
          "not entirely within network 10.0.0.0/24" },
        { "<network><name>x</name><ip address='10.0.0.1' prefix='24'><dhcp><range start='10.0.0.9' end='10.0.0.2'/></dhcp></ip></network>", VIR_ERR_INTERNAL_ERROR,
          "reversed" },
        { "<network><name>x</name><mac address='01:00:00:00:00:01'/></network>", VIR_ERR_XML_ERROR, "multicast" },
        { "<network><name>x</name><dns><txt name='a' value='b&#10;dhcp-script=/bin/sh'/></dns><ip address='10.0.0.1' prefix='24'/></network>", VIR_ERR_XML_ERROR,
          "control character" },
        { "<network><name>x</name><ip address='10.0.0.1' prefix='24'/><route address='10.9.0.0' prefix='16' gateway='10.1.0.1'/></network>",
          VIR_ERR_CONFIG_UNSUPPORTED, "unreachable static route gateway" },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++)
        refused(f, RPC_NETWORK_DEFINE_XML, g_variant_new("(s)", bad[i].xml), bad[i].code, bad[i].words);
    refused(f, RPC_NETWORK_LOOKUP_BY_NAME, g_variant_new("(s)", "x"), VIR_ERR_NO_NETWORK, "'x'");
}

/* Start, find again after the end of the daemon, destroy: nothing is left. */
static void test_life(struct fixture *f, gconstpointer unused)
{
    g_autoptr(GVariant) n = define(f, "<network><name>a</name><forward mode='nat'/><bridge name='vrt9'/><ip address='10.77.1.1' prefix='24'><dhcp>"
                                      "<range start='10.77.1.2' end='10.77.1.20'/></dhcp></ip><ip family='ipv6' address='fd77::1' prefix='64'/></network>");
    on(f, RPC_NETWORK_CREATE, n);
    refused(f, RPC_NETWORK_CREATE, g_variant_new("(@(say))", n), VIR_ERR_OPERATION_INVALID, "already active");
    leave(f);
    up(f, NULL);
    struct network_driver *dr = manage_data(f->state, "network");
    network_auto *found = network_by_name(dr, "a", NULL);
    g_assert_true(network_is_active(found));
    if (geteuid() == 0) {
        g_assert_true(has_link("vrt9"));
        g_assert_cmpint(network_dns_find(dr, "a"), >, 0);
        g_assert_cmpint(system("nft list table inet vireo_vrt9 | grep -q masquerade"), ==, 0);
    } else {
        g_assert_true(found->user);
    }
    /* One that a killed daemon left before it had written its number down goes, too. */
    g_autofree char *config = network_file(dr->lib_dir, "a", ".conf"), *word = g_strconcat("--conf-file=", config, NULL);
    char *stray[] = { "sh", "-c", "read x", word, NULL };
    GPid pid = 0;
    int in, status = 0;
    g_assert_true(g_spawn_async_with_pipes(NULL, stray, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &pid, &in, NULL, NULL, NULL));
    on(f, RPC_NETWORK_DESTROY, n);
    bool ended = waitpid(pid, &status, WNOHANG) == pid && WIFSIGNALED(status);
    close(in);
    g_assert_true(ended || geteuid() != 0);
    g_assert_false(has_link("vrt9"));
    g_assert_cmpint(network_dns_find(dr, "a"), ==, 0);
    g_assert_cmpint(system("nft list table inet vireo_vrt9 2>/dev/null | grep -q ."), !=, 0);
    g_autofree char *listing = g_strdup_printf("find '%s' -name 'a.*' ! -path '*/qemu/networks/*' ! -name a.leases | grep .", f->root);
    g_assert_cmpint(system(listing), !=, 0);
}

/* What a kill in the middle of a start leaves is swept at the next start of the daemon. */
static void test_half(struct fixture *f, gconstpointer unused)
{
    if (geteuid() != 0) {
        g_test_skip("needs root: makes a bridge");
        return;
    }
    g_autoptr(GVariant) n = define(f, "<network><name>h</name><bridge name='vrt8'/><ip address='10.78.1.1' prefix='24'/></network>");
    on(f, RPC_NETWORK_CREATE, n);
    leave(f);
    g_autofree char *status = g_build_filename(f->root, "run/vireo/network/h.xml", NULL), *half = g_build_filename(f->root, "run/vireo/network/h.half", NULL);
    g_assert_cmpint(g_rename(status, half), ==, 0);
    up(f, NULL);
    g_assert_false(has_link("vrt8"));
    g_assert_cmpint(access(half, F_OK), !=, 0);
    network_auto *found = network_by_name(manage_data(f->state, "network"), "h", NULL);
    g_assert_false(network_is_active(found));
    g_assert_cmpint(system("nft list tables | grep -q vireo_vrt8"), !=, 0);
}

static void test_update(struct fixture *f, gconstpointer unused)
{
    g_autoptr(GVariant) n = define(f, "<network><name>u</name><bridge name='vrt7'/><ip address='10.79.1.1' prefix='24'/></network>");
    static const struct { unsigned command, section; const char *xml, *words; } step[] = {
        { 3, 4, "<host mac='52:54:00:00:00:02' name='b' ip='10.79.1.10'/>", NULL },
        { 3, 4, "<host mac='52:54:00:00:00:02' name='c' ip='10.79.1.11'/>", "existing dhcp host entry" },
        { 4, 4, "<host mac='52:54:00:00:00:03' ip='10.79.1.12'/>", NULL },
        { 1, 4, "<host mac='52:54:00:00:00:02' name='b' ip='10.79.1.20'/>", NULL },
        { 2, 4, "<host mac='52:54:00:00:00:09'/>", "couldn't locate a matching dhcp host" },
        { 1, 5, "<range start='10.79.1.100' end='10.79.1.110'/>", "cannot be modified" },
        { 3, 5, "<range start='10.79.1.100' end='10.79.1.110'/>", NULL },
        { 3, 11, "<txt name='t' value='v'/>", NULL },
        { 2, 11, "<txt name='t'/>", NULL },
        { 3, 9, "<portgroup name='p' default='yes'/>", NULL },
        { 3, 9, "<portgroup name='q' default='yes'/>", "default" },
        { 3, 1, "<bridge name='x'/>", "can't update 'bridge' section" },
        { 3, 4, "<hast/>", "hast" },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(step); i++) {
        GVariant *args = g_variant_new("(@(say)uuisu)", n, step[i].command, step[i].section, -1, step[i].xml, 2);
        g_autoptr(GError) error = NULL;
        g_autoptr(GVariant) v = try_call(f, RPC_NETWORK_UPDATE, args, &error);
        g_assert_true(step[i].words ? error && strstr(error->message, step[i].words) : v != NULL);
    }
    g_autofree char *xml = xml_of(f, n, 0);
    g_assert_nonnull(strstr(xml, "    <dhcp>\n      <range start='10.79.1.100' end='10.79.1.110'/>\n      <host mac='52:54:00:00:00:03' ip='10.79.1.12'/>\n"
                                 "      <host mac='52:54:00:00:00:02' name='b' ip='10.79.1.20'/>\n    </dhcp>\n"));
    g_assert_null(strstr(xml, "<txt"));
    g_assert_nonnull(strstr(xml, "  <portgroup name='p' default='yes'>\n  </portgroup>\n"));
}

static void set_metadata(struct fixture *f, GVariant *n, int type, const char *text, const char *key, const char *uri)
{
    g_autoptr(GVariant) v = call(f, RPC_NETWORK_SET_METADATA, g_variant_new("(@(say)imsmsmsu)", n, type, text, key, uri, 2));
}

static void test_metadata(struct fixture *f, gconstpointer unused)
{
    g_autoptr(GVariant) n = define(f, "<network><name>m</name><metadata><o:p xmlns:o='urn:o'/></metadata><bridge name='vrt5'/></network>");
    set_metadata(f, n, 2, "<z a='1'><b>t</b></z>", "k", "http://x/y");
    set_metadata(f, n, 1, "A title", NULL, NULL);
    g_autofree char *xml = xml_of(f, n, 0);
    g_assert_nonnull(strstr(xml, "  <title>A title</title>\n  <metadata>\n    <o:p xmlns:o=\"urn:o\"/>\n    <k:z xmlns:k=\"http://x/y\" a=\"1\">\n      <k:b>t</k:b>\n    </k:z>\n"
                                 "  </metadata>\n"));
    g_autoptr(GVariant) got = call(f, RPC_NETWORK_GET_METADATA, g_variant_new("(@(say)imsu)", n, 2, "http://x/y", 2));
    const char *text;
    g_variant_get(got, "(&s)", &text);
    g_assert_cmpstr(text, ==, "<z a=\"1\">\n  <b>t</b>\n</z>");
    refused(f, RPC_NETWORK_GET_METADATA, g_variant_new("(@(say)imsu)", n, 2, "urn:none", 2), 111, "not present");
    refused(f, RPC_NETWORK_SET_METADATA, g_variant_new("(@(say)imsmsmsu)", n, 2, "<z", "k", "urn:x", 2), VIR_ERR_XML_ERROR, "not one well-formed");
    set_metadata(f, n, 2, NULL, NULL, "http://x/y");
    set_metadata(f, n, 1, NULL, NULL, NULL);
    g_autofree char *after = xml_of(f, n, 0);
    g_assert_null(strstr(after, "k:z"));
    g_assert_null(strstr(after, "title"));
    g_assert_nonnull(strstr(after, "o:p"));
}

static void test_services(struct fixture *f, gconstpointer unused)
{
    g_autoptr(GVariant) n = define(f, "<network><name>s</name><bridge name='vrt6'/><ip address='10.80.1.1' prefix='24'/>"
                                      "<portgroup name='slow'><bandwidth><inbound average='100' peak='200' burst='64'/></bandwidth></portgroup></network>");
    struct manage_network_place place;
    g_autoptr(GError) error = NULL;
    const struct manage_services *services = f->state->services;
    g_assert_false(services->network_attach(f->state, "s", NULL, "guest", "52:54:00:00:00:01", &place, &error));
    g_assert_nonnull(strstr(error->message, "not active"));
    g_clear_error(&error);
    on(f, RPC_NETWORK_CREATE, n);
    g_assert_true(services->network_attach(f->state, "s", NULL, "guest", "52:54:00:00:00:01", &place, &error));
    g_assert_no_error(error);
    g_assert_true(geteuid() == 0 ? !place.user && !strcmp(place.bridge, "vrt6") : place.user && !place.bridge);
    g_assert_true(!place.in.average && !place.out.average && !place.device);
    manage_network_place_clear(&place);
    g_autofree char *xml = xml_of(f, n, 0);
    g_assert_true(g_str_has_prefix(xml, "<network connections='1'>\n"));
    services->network_detach(f->state, "s", "guest", "52:54:00:00:00:01");
    g_assert_true(services->network_attach(f->state, "s", "slow", "guest", "52:54:00:00:00:01", &place, &error));
    g_assert_true(place.in.average == 100 && place.in.peak == 200 && place.in.burst == 64 && !place.out.average);
    manage_network_place_clear(&place);
    services->network_detach(f->state, "s", "guest", "52:54:00:00:00:01");
    g_autofree char *after = xml_of(f, n, 0);
    g_assert_true(g_str_has_prefix(after, "<network>\n"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (geteuid() == 0 && (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)) {
        g_printerr("1..0 # SKIP no network namespace for the test's bridges\n");
        return 77;
    }
    if (geteuid() == 0 && !manage_link_up("lo", true, NULL))
        return 1;
    static const struct { const char *name; void (*fn)(struct fixture *f, gconstpointer unused); } tests[] = {
        { "/network/default", test_default }, { "/network/define", test_define }, { "/network/life", test_life },
        { "/network/half", test_half }, { "/network/update", test_update }, { "/network/services", test_services }, { "/network/metadata", test_metadata },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].name, struct fixture, NULL, up, tests[i].fn, down);
    return g_test_run();
}
