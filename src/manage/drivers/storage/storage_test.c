/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pools, volumes and secrets through manage_dispatch(), below a temporary root. What the real virsh sees is in tests/manage/test_storage.py. */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "manage/core/manage.h"
#include "storage.h"

extern const struct manage_driver manage_driver_secret, manage_driver_storage;
static const struct manage_driver *const drivers[] = { &manage_driver_secret, &manage_driver_storage, NULL };
static const struct manage_table table = { "TEST", drivers };

struct fixture {
    char *root;
    GMainContext *context;
    struct manage_state *state;
    struct manage_conn *conn;
};

static void up(struct fixture *f)
{
    g_autoptr(GError) e = NULL;
    f->context = g_main_context_new();
    f->state = manage_state_new(&table, f->root, f->context, &e);
    g_assert_no_error(e);
    f->conn = manage_conn_new(f->state);
    f->conn->open = true;
}

static void down(struct fixture *f)
{
    manage_conn_close(f->conn);
    manage_conn_unref(f->conn);
    manage_state_free(f->state);
    g_main_context_unref(f->context);
}

static void setup(struct fixture *f, gconstpointer data)
{
    (void)data;
    f->root = g_dir_make_tmp("vireo-storage-XXXXXX", NULL);
    up(f);
}

static void remove_tree(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;
    while (dir && !g_file_test(path, G_FILE_TEST_IS_SYMLINK) && (name = g_dir_read_name(dir))) {
        g_autofree char *inner = g_build_filename(path, name, NULL);
        remove_tree(inner);
    }
    g_remove(path);
}

static void teardown(struct fixture *f, gconstpointer data)
{
    (void)data;
    down(f);
    remove_tree(f->root);
    g_free(f->root);
}

/* The reply, or NULL with *error; error NULL: it must succeed. */
static GVariant *call(struct fixture *f, unsigned proc, GVariant *args, GError **error)
{
    g_autoptr(GVariant) a = g_variant_ref_sink(args);
    g_autoptr(GError) e = NULL;
    struct manage_call c = { .conn = f->conn, .proc = rpc_proc(proc), .args = a };
    GVariant *ret = manage_dispatch(&c, &e);
    if (!error)
        g_assert_no_error(e);
    else if (e)
        g_propagate_error(error, g_steal_pointer(&e));
    return ret;
}

static void fails(struct fixture *f, unsigned proc, GVariant *args, int code)
{
    g_autoptr(GError) e = NULL;
    GVariant *ret = call(f, proc, args, &e);
    g_assert_null(ret);
    g_assert_nonnull(e);
    if (manage_error_code(e) != code)
        g_error("error %d instead of %d: %s", manage_error_code(e), code, e->message);
}

static GVariant *pool(struct fixture *f, const char *name)
{
    g_autoptr(GVariant) r = call(f, RPC_STORAGE_POOL_LOOKUP_BY_NAME, g_variant_new("(s)", name), NULL);
    return g_variant_get_child_value(r, 0);
}

static GVariant *make_volume(struct fixture *f, const char *pool_name, const char *xml, unsigned flags, GError **error)
{
    g_autoptr(GVariant) p = pool(f, pool_name);
    GVariant *r = call(f, RPC_STORAGE_VOL_CREATE_XML, g_variant_new("(@(say)su)", p, xml, flags), error);
    if (!r)
        return NULL;
    GVariant *v = g_variant_get_child_value(r, 0);
    g_variant_unref(r);
    return v;
}

static char *xml_of(struct fixture *f, GVariant *v)
{
    g_autoptr(GVariant) r = call(f, RPC_STORAGE_VOL_GET_XML_DESC, g_variant_new("(@(sss)u)", v, 0), NULL);
    char *text;
    g_variant_get(r, "(s)", &text);
    return text;
}

static unsigned files_in(struct fixture *f)
{
    g_autofree char *images = g_build_filename(f->root, "var/lib/vireo/images", NULL);
    g_autoptr(GDir) dir = g_dir_open(images, 0, NULL);
    unsigned n = 0;
    while (g_dir_read_name(dir))
        n++;
    return n;
}

static void test_default_pool(struct fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(GVariant) p = pool(f, "default");
    g_autoptr(GVariant) r = call(f, RPC_STORAGE_POOL_IS_ACTIVE, g_variant_new("(@(say))", p), NULL);
    g_autoptr(GVariant) a = call(f, RPC_STORAGE_POOL_GET_AUTOSTART, g_variant_new("(@(say))", p), NULL);
    int on;
    g_variant_get(r, "(i)", &on);
    g_assert_cmpint(on, ==, 1);
    g_variant_get(a, "(i)", &on);
    g_assert_cmpint(on, ==, 1);
}

/* A pool that is active stays so over a restart of the daemon; one that was stopped stays stopped. */
static void test_restart(struct fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(GVariant) v = make_volume(f, "default", "<volume><name>a</name><capacity>4096</capacity></volume>", 0, NULL);
    g_autofree char *xml = g_strdup_printf("<pool type='dir'><name>tmp</name><target><path>%s</path></target></pool>", f->root);
    g_autoptr(GVariant) t = call(f, RPC_STORAGE_POOL_CREATE_XML, g_variant_new("(su)", xml, 0), NULL);
    down(f);
    up(f);
    g_autoptr(GVariant) p = pool(f, "default"), tmp = pool(f, "tmp");
    g_autoptr(GVariant) n = call(f, RPC_STORAGE_POOL_NUM_OF_VOLUMES, g_variant_new("(@(say))", p), NULL);
    g_autoptr(GVariant) kept = call(f, RPC_STORAGE_POOL_IS_PERSISTENT, g_variant_new("(@(say))", tmp), NULL);
    int number;
    g_variant_get(n, "(i)", &number);
    g_assert_cmpint(number, ==, 1);
    g_variant_get(kept, "(i)", &number);
    g_assert_cmpint(number, ==, 0);
    g_autoptr(GVariant) d = call(f, RPC_STORAGE_POOL_DESTROY, g_variant_new("(@(say))", p), NULL);
    down(f);
    up(f);
    g_autoptr(GVariant) again = pool(f, "default");
    g_autoptr(GVariant) active = call(f, RPC_STORAGE_POOL_IS_ACTIVE, g_variant_new("(@(say))", again), NULL);
    g_variant_get(active, "(i)", &number);
    g_assert_cmpint(number, ==, 0);
}

static void test_refused(struct fixture *f, gconstpointer data)
{
    (void)data;
    fails(f, RPC_STORAGE_POOL_DEFINE_XML, g_variant_new("(su)", "<pool type='rbd'><name>x</name></pool>", 0), VIR_ERR_CONFIG_UNSUPPORTED);
    fails(f, RPC_STORAGE_POOL_DEFINE_XML, g_variant_new("(su)", "<pool type='dir'><name>x</name></pool>", 0), VIR_ERR_XML_ERROR);
    fails(f, RPC_STORAGE_POOL_DEFINE_XML, g_variant_new("(su)", "<pool type='dir'><name>../x</name><target><path>/x</path></target></pool>", 0), VIR_ERR_XML_ERROR);
    fails(f, RPC_STORAGE_POOL_DEFINE_XML, g_variant_new("(su)", "<pool type='dir'><name>default</name><target><path>/x</path></target></pool>", 0),
          VIR_ERR_OPERATION_FAILED);
    fails(f, RPC_STORAGE_POOL_DEFINE_XML, g_variant_new("(su)", "<pool type='dir'><name>x</name><target><path>/x</path></target></pool>", 64), VIR_ERR_INVALID_ARG);
    fails(f, RPC_STORAGE_POOL_LOOKUP_BY_NAME, g_variant_new("(s)", "nope"), VIR_ERR_NO_STORAGE_POOL);
    fails(f, RPC_STORAGE_VOL_LOOKUP_BY_PATH, g_variant_new("(s)", "/nope"), VIR_ERR_NO_STORAGE_VOL);
    g_autoptr(GVariant) p = pool(f, "default");
    fails(f, RPC_STORAGE_VOL_CREATE_XML, g_variant_new("(@(say)su)", p, "<volume><name>../x</name><capacity>1</capacity></volume>", 0), VIR_ERR_OPERATION_INVALID);
    fails(f, RPC_STORAGE_POOL_UNDEFINE, g_variant_new("(@(say))", p), VIR_ERR_OPERATION_INVALID);
    g_assert_cmpint(files_in(f), ==, 0);
}

static void check_contains(const char *text, const char *piece)
{
    if (!strstr(text, piece))
        g_error("'%s' is not in:\n%s", piece, text);
}

static void test_volumes(struct fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(GVariant) raw = make_volume(f, "default", "<volume><name>a.raw</name><capacity unit='M'>2</capacity><allocation>0</allocation></volume>", 0, NULL);
    g_autoptr(GVariant) image = make_volume(f, "default", "<volume><name>b.qcow2</name><capacity unit='M'>4</capacity><target><format type='qcow2'/>"
                                            "<permissions><mode>0640</mode></permissions></target></volume>", 0, NULL);
    g_autofree char *xml = xml_of(f, raw), *xml2 = xml_of(f, image);
    check_contains(xml, "<capacity unit='bytes'>2097152</capacity>\n  <allocation unit='bytes'>0</allocation>\n  <physical unit='bytes'>2097152</physical>\n  <target>");
    check_contains(xml, "<format type='raw'/>\n    <permissions>\n      <mode>0600</mode>");
    check_contains(xml2, "<mode>0640</mode>");
    check_contains(xml2, "<clusterSize unit='B'>65536</clusterSize>");
    g_autofree char *path = g_build_filename(f->root, "var/lib/vireo/images/b.qcow2", NULL);
    g_autofree char *over = g_strdup_printf("<volume><name>c.qcow2</name><target><format type='qcow2'/><compat>1.1</compat><features><lazy_refcounts/></features></target>"
                                            "<backingStore><path>%s</path><format type='qcow2'/></backingStore></volume>", path);
    g_autoptr(GVariant) overlay = make_volume(f, "default", over, 0, NULL);
    g_autofree char *xml3 = xml_of(f, overlay);
    check_contains(xml3, "<capacity unit='bytes'>4194304</capacity>");
    check_contains(xml3, "<features>\n      <lazy_refcounts/>\n    </features>");
    check_contains(xml3, "</target>\n  <backingStore>\n    <path>");
    g_autoptr(GVariant) p = pool(f, "default");
    fails(f, RPC_STORAGE_VOL_CREATE_XML, g_variant_new("(@(say)su)", p, "<volume><name>a.raw</name><capacity>1</capacity></volume>", 0), VIR_ERR_STORAGE_VOL_EXIST);
    g_autoptr(GVariant) r = call(f, RPC_STORAGE_VOL_RESIZE, g_variant_new("(@(sss)tu)", raw, (guint64)4 << 20, 0), NULL);
    fails(f, RPC_STORAGE_VOL_RESIZE, g_variant_new("(@(sss)tu)", raw, (guint64)1 << 20, 0), VIR_ERR_INVALID_ARG);
    g_autoptr(GVariant) r2 = call(f, RPC_STORAGE_VOL_RESIZE, g_variant_new("(@(sss)tu)", image, (guint64)8 << 20, 0), NULL);
    g_autofree char *xml4 = xml_of(f, image);
    check_contains(xml4, "<capacity unit='bytes'>8388608</capacity>");
    g_autoptr(GVariant) d = call(f, RPC_STORAGE_VOL_DELETE, g_variant_new("(@(sss)u)", raw, 0), NULL);
    fails(f, RPC_STORAGE_VOL_GET_PATH, g_variant_new("(@(sss))", raw), VIR_ERR_NO_STORAGE_VOL);
    g_assert_cmpint(files_in(f), ==, 2);
}

static void test_clone(struct fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(GVariant) raw = make_volume(f, "default", "<volume><name>a</name><capacity unit='M'>3</capacity><allocation>0</allocation></volume>", 0, NULL);
    g_autofree char *path = g_build_filename(f->root, "var/lib/vireo/images/a", NULL), *copy = g_build_filename(f->root, "var/lib/vireo/images/d", NULL);
    g_autofree char *content = g_malloc0(3 << 20), *back = NULL;
    gsize size;
    memset(content + (1 << 20), 'x', 100000);
    g_assert_true(g_file_set_contents(path, content, 3 << 20, NULL));
    g_autoptr(GVariant) p = pool(f, "default");
    static const char *const steps[][2] = { { "b", "qcow2" }, { "c", "qcow2" }, { "d", "raw" } };
    GVariant *from = g_variant_ref(raw);
    for (unsigned i = 0; i < 3; i++) {
        g_autofree char *xml = g_strdup_printf("<volume><name>%s</name><capacity>0</capacity><target><format type='%s'/></target></volume>", steps[i][0], steps[i][1]);
        g_autoptr(GVariant) r = call(f, RPC_STORAGE_VOL_CREATE_XML_FROM, g_variant_new("(@(say)s@(sss)u)", p, xml, from, 0), NULL);
        g_variant_unref(from);
        from = g_variant_get_child_value(r, 0);
    }
    g_variant_unref(from);
    g_assert_true(g_file_get_contents(copy, &back, &size, NULL));
    g_assert_cmpuint(size, ==, 3 << 20);
    g_assert_cmpmem(back, size, content, size);
}

static void test_hostile(struct fixture *f, gconstpointer data)
{
    (void)data;
    g_autofree char *dir = g_build_filename(f->root, "var/lib/vireo/images", NULL);
    GRand *r = g_rand_new_with_seed(5);
    static const char *const magics[] = { "QFI\xfb\0\0\0\3", "QFI\xfb\0\0\0\1", "QED\0", "KDMV", "LUKS\xba\xbe\0\1", "conectix", "WithoutFreeSpace", "OOOM" };
    static const unsigned lengths[] = { 8, 8, 4, 4, 8, 8, 16, 4 };
    for (unsigned i = 0; i < 400; i++) {
        g_autofree char *path = g_strdup_printf("%s/h%u", dir, i);
        char head[600];
        gsize n = (gsize)g_rand_int_range(r, 0, sizeof(head));
        for (gsize k = 0; k < sizeof(head); k++)
            head[k] = (char)g_rand_int(r);
        memcpy(head, magics[i % 8], lengths[i % 8]);
        g_assert_true(g_file_set_contents(path, head, (gssize)n, NULL));
    }
    g_rand_free(r);
    g_autoptr(GVariant) p = pool(f, "default");
    g_autoptr(GVariant) v = call(f, RPC_STORAGE_POOL_REFRESH, g_variant_new("(@(say)u)", p, 0), NULL);
    g_autoptr(GVariant) list = call(f, RPC_STORAGE_POOL_LIST_ALL_VOLUMES, g_variant_new("(@(say)iu)", p, 1, 0), NULL);
    g_autoptr(GVariant) all = g_variant_get_child_value(list, 0);
    g_assert_cmpuint(g_variant_n_children(all), ==, 400);
    for (unsigned i = 0; i < 400; i++) {
        g_autoptr(GVariant) one = g_variant_get_child_value(all, i);
        g_autofree char *xml = xml_of(f, one);
        doc_auto *d = doc_parse(&schema_volume, xml, -1, NULL);
        g_assert_nonnull(d);
    }
}

/* On file systems where new files have names: what nobody works on goes at the next look, what somebody works on stays; neither is a volume. */
static void test_leftovers(struct fixture *f, gconstpointer data)
{
    (void)data;
    g_autofree char *dead = g_build_filename(f->root, "var/lib/vireo/images/.vireo-a.123456.unfinished", NULL);
    g_autofree char *busy = g_build_filename(f->root, "var/lib/vireo/images/.vireo-b.123456.unfinished", NULL);
    g_assert_true(g_file_set_contents(dead, "x", 1, NULL) && g_file_set_contents(busy, "x", 1, NULL));
    int fd = open(busy, O_RDWR);
    struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 300, .l_len = 1 };
    g_assert_cmpint(fcntl(fd, F_OFD_SETLK, &l), ==, 0);
    g_autoptr(GVariant) p = pool(f, "default");
    g_autoptr(GVariant) r = call(f, RPC_STORAGE_POOL_REFRESH, g_variant_new("(@(say)u)", p, 0), NULL);
    g_assert_false(g_file_test(dead, G_FILE_TEST_EXISTS));
    g_assert_true(g_file_test(busy, G_FILE_TEST_EXISTS));
    g_autoptr(GVariant) n = call(f, RPC_STORAGE_POOL_NUM_OF_VOLUMES, g_variant_new("(@(say))", p), NULL);
    int number;
    g_variant_get(n, "(i)", &number);
    g_assert_cmpint(number, ==, 0);
    close(fd);
}

/* A copy whose client goes away leaves nothing. */
static gpointer close_soon(gpointer opaque)
{
    struct fixture *f = opaque;
    g_usleep(20000);
    manage_driver_storage.conn_closed(f->conn, manage_data(f->state, "storage"));
    return NULL;
}

static void test_cancel(struct fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(GVariant) raw = make_volume(f, "default", "<volume><name>a</name><capacity unit='G'>200</capacity><allocation>0</allocation></volume>", 0, NULL);
    g_autofree char *path = g_build_filename(f->root, "var/lib/vireo/images/a", NULL);
    g_autoptr(GVariant) p = pool(f, "default");
    g_autoptr(GError) e = NULL;
    int fd = g_open(path, O_WRONLY);
    for (off_t at = 0; at < (off_t)200 << 30; at += 64 << 20) /* many pieces */
        g_assert_cmpint(pwrite(fd, "data", 4, at), ==, 4);
    close(fd);
    GThread *thread = g_thread_new("closer", close_soon, f);
    GVariant *v = call(f, RPC_STORAGE_VOL_CREATE_XML_FROM, g_variant_new("(@(say)s@(sss)u)", p, "<volume><name>b</name><capacity>0</capacity><target><format type='qcow2'/>"
                       "</target></volume>", raw, 0), &e);
    g_thread_join(thread);
    g_assert_null(v);
    g_assert_cmpint(manage_error_code(e), ==, VIR_ERR_OPERATION_ABORTED);
    g_assert_cmpint(files_in(f), ==, 1);
}

static void test_secrets(struct fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(GVariant) r = call(f, RPC_SECRET_DEFINE_XML, g_variant_new("(su)", "<secret ephemeral='no' private='no'><usage type='volume'><volume>/x</volume></usage></secret>", 0), NULL);
    g_autoptr(GVariant) s = g_variant_get_child_value(r, 0);
    g_autoptr(GVariant) set = call(f, RPC_SECRET_SET_VALUE, g_variant_new("(@(ayis)@ayu)", s, g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, "pass", 4, 1), 0), NULL);
    down(f);
    up(f);
    g_autoptr(GVariant) got = call(f, RPC_SECRET_GET_VALUE, g_variant_new("(@(ayis)u)", s, 0), NULL);
    g_autoptr(GVariant) bytes = g_variant_get_child_value(got, 0);
    g_assert_cmpmem(g_variant_get_data(bytes), g_variant_get_size(bytes), "pass", 4);
    fails(f, RPC_SECRET_DEFINE_XML, g_variant_new("(su)", "<secret><usage type='volume'><volume>/x</volume></usage></secret>", 0), VIR_ERR_OPERATION_FAILED);
    g_autoptr(GVariant) p = call(f, RPC_SECRET_DEFINE_XML, g_variant_new("(su)", "<secret ephemeral='yes' private='yes'/>", 0), NULL);
    g_autoptr(GVariant) hidden = g_variant_get_child_value(p, 0);
    g_autoptr(GVariant) set2 = call(f, RPC_SECRET_SET_VALUE, g_variant_new("(@(ayis)@ayu)", hidden, g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, "x", 1, 1), 0), NULL);
    fails(f, RPC_SECRET_GET_VALUE, g_variant_new("(@(ayis)u)", hidden, 0), VIR_ERR_INVALID_SECRET);
    /* A LUKS volume with it, and a copy of that into the clear. */
    g_autofree char *uuid = f->state->services->secret_uuid(f->state, "volume", "/x");
    g_autofree char *xml = g_strdup_printf("<volume><name>l</name><capacity unit='M'>1</capacity><target><format type='raw'/><encryption format='luks'><secret type='passphrase' uuid='%s'/>"
                                           "</encryption></target></volume>", uuid);
    g_autoptr(GVariant) v = make_volume(f, "default", xml, 0, NULL);
    g_autofree char *luks = xml_of(f, v);
    check_contains(luks, "<capacity unit='bytes'>1048576</capacity>");
    check_contains(luks, "<encryption format='luks'>\n    </encryption>");
    g_autoptr(GVariant) gone = call(f, RPC_SECRET_UNDEFINE, g_variant_new("(@(ayis))", s), NULL);
    fails(f, RPC_SECRET_GET_VALUE, g_variant_new("(@(ayis)u)", s, 0), VIR_ERR_NO_SECRET);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add("/storage/" #name, struct fixture, NULL, setup, test_##name, teardown)
    TEST(default_pool);
    TEST(restart);
    TEST(refused);
    TEST(volumes);
    TEST(clone);
    TEST(hostile);
    TEST(leftovers);
    TEST(cancel);
    TEST(secrets);
    return g_test_run();
}
