/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Life of domains through manage_dispatch(), with the machine that was built: definitions on disk, start, events, a new daemon that finds what runs. */
#include <libvirt/libvirt.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "manage/drivers/domain/domain.h"

extern const struct manage_driver manage_driver_domain;

static const struct manage_driver *const drivers[] = { &manage_driver_domain, NULL };
static const struct manage_table table = { .type = "QEMU", .drivers = drivers };

struct world {
    char *root, *kernel;
    GMainContext *context;
    GMainLoop *loop;
    GThread *thread;
    struct manage_state *state;
    struct manage_conn *conn;
    GMutex lock;
    GPtrArray *events; /* char *: "name: event detail" */
};

static gpointer run_loop(gpointer opaque)
{
    struct world *w = opaque;
    g_main_context_push_thread_default(w->context);
    g_main_loop_run(w->loop);
    g_main_context_pop_thread_default(w->context);
    return NULL;
}

static gboolean quit(gpointer loop)
{
    g_main_loop_quit(loop);
    return G_SOURCE_REMOVE;
}

static void on_event(struct manage_conn *c, const struct rpc_proc *proc, GVariant *payload)
{
    struct world *w = c->opaque;
    g_mutex_lock(&w->lock);
    if (proc->number == RPC_DOMAIN_EVENT_CALLBACK_LIFECYCLE) {
        const char *name;
        int callback, event, detail;
        g_variant_get(payload, "(i(&s@ayi)ii)", &callback, &name, NULL, NULL, &event, &detail);
        g_ptr_array_add(w->events, g_strdup_printf("%s: %d %d", name, event, detail));
    }
    g_mutex_unlock(&w->lock);
}

static void up(struct world *w)
{
    g_autoptr(GError) error = NULL;
    w->context = g_main_context_new();
    w->loop = g_main_loop_new(w->context, FALSE);
    w->thread = g_thread_new("loop", run_loop, w);
    w->state = manage_state_new(&table, w->root, w->context, &error);
    g_assert_no_error(error);
    w->conn = manage_conn_new(w->state);
    w->conn->open = true;
    w->conn->opaque = w;
    w->conn->event = on_event;
}

static void down(struct world *w)
{
    manage_conn_close(w->conn);
    manage_conn_unref(w->conn);
    manage_state_free(w->state);
    GSource *last = g_idle_source_new(); /* by the loop itself: it may not have begun yet */
    g_source_set_callback(last, quit, w->loop, NULL);
    g_source_attach(last, w->context);
    g_source_unref(last);
    g_thread_join(w->thread);
    g_main_loop_unref(w->loop);
    g_main_context_unref(w->context);
}

/* A kernel by the multiboot standard (addresses in its header) that stops at once: cli, hlt, again. */
static char *make_kernel(const char *root)
{
    static const uint32_t header[] = { 0x1badb002, 0x10000, (uint32_t)-(0x1badb002 + 0x10000), 0x100000, 0x100000, 0x100024, 0x100024, 0x100020, 0x90fdebf4 };
    char *path = g_build_filename(root, "kernel", NULL);
    g_assert_true(g_file_set_contents(path, (const char *)header, sizeof(header), NULL));
    return path;
}

static char *xml(struct world *w, const char *name, const char *uuid, const char *devices)
{
    return g_strdup_printf("<domain type='qemu'><name>%s</name><uuid>%s</uuid><memory unit='MiB'>64</memory><vcpu>1</vcpu><os><type arch='x86_64'>hvm</type>"
                           "<kernel>%s</kernel></os>%s</domain>", name, uuid, w->kernel, devices);
}

static void world_init(struct world *w)
{
    *w = (struct world){ .root = g_dir_make_tmp("domain-XXXXXX", NULL), .events = g_ptr_array_new_with_free_func(g_free) };
    w->kernel = make_kernel(w->root);
    up(w);
}

static void world_finish(struct world *w)
{
    down(w);
    char *argv[] = { "rm", "-rf", w->root, NULL };
    g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
    g_ptr_array_unref(w->events);
    g_free(w->root);
    g_free(w->kernel);
}

static GVariant *call(struct world *w, unsigned proc, GVariant *args, GError **error)
{
    g_autoptr(GVariant) a = g_variant_ref_sink(args);
    struct manage_call c = { .conn = w->conn, .proc = rpc_proc(proc), .args = a };
    return manage_dispatch(&c, error);
}

static GVariant *ok(struct world *w, unsigned proc, GVariant *args)
{
    g_autoptr(GError) error = NULL;
    GVariant *v = call(w, proc, args, &error);
    g_assert_no_error(error);
    g_assert_nonnull(v);
    return v;
}

static void fails(struct world *w, unsigned proc, GVariant *args, int code, const char *text)
{
    g_autoptr(GError) error = NULL;
    GVariant *v = call(w, proc, args, &error);
    g_assert_null(v);
    g_assert_error(error, MANAGE_ERROR, code);
    g_autofree char *said = manage_error_text(error);
    if (!strstr(said, text))
        g_error("'%s' is not in: %s", text, said);
}

#define UUID_A "11111111-2222-3333-4444-555555555501"
#define UUID_B "11111111-2222-3333-4444-555555555502"

/* Record D, for calls. */
static GVariant *lookup(struct world *w, const char *name)
{
    g_autoptr(GVariant) v = ok(w, RPC_DOMAIN_LOOKUP_BY_NAME, g_variant_new("(s)", name));
    return g_variant_get_child_value(v, 0);
}

static GVariant *args_of(struct world *w, const char *name)
{
    g_autoptr(GVariant) d = lookup(w, name);
    return g_variant_new("(@(sayi))", d);
}

static int state_of(struct world *w, const char *name, int *ret_reason)
{
    g_autoptr(GVariant) d = lookup(w, name);
    g_autoptr(GVariant) v = ok(w, RPC_DOMAIN_GET_STATE, g_variant_new("(@(sayi)u)", d, 0));
    int state;
    g_variant_get(v, "(ii)", &state, ret_reason);
    return state;
}

static void wait_state(struct world *w, const char *name, int state)
{
    int reason, got = -1;
    for (unsigned i = 0; i < 1000 && (got = state_of(w, name, &reason)) != state; i++)
        g_usleep(10000);
    g_assert_cmpint(got, ==, state);
}

static void wait_event(struct world *w, const char *what)
{
    for (unsigned i = 0; i < 1000; i++) {
        g_mutex_lock(&w->lock);
        bool there = false;
        for (unsigned k = 0; k < w->events->len && !there; k++)
            there = !strcmp(w->events->pdata[k], what);
        g_mutex_unlock(&w->lock);
        if (there)
            return;
        g_usleep(10000);
    }
    g_error("no event '%s'", what);
}

static GVariant *text(struct world *w, const char *name, const char *uuid)
{
    g_autofree char *x = xml(w, name, uuid, "");
    return g_variant_new("(s)", x);
}

static void drop(GVariant *v) { g_variant_unref(v); }

static void test_define(void)
{
    struct world w;
    world_init(&w);
    drop(ok(&w, RPC_DOMAIN_DEFINE_XML, text(&w, "a", UUID_A)));
    fails(&w, RPC_DOMAIN_DEFINE_XML, text(&w, "a", UUID_B), VIR_ERR_OPERATION_FAILED, "already exists with uuid");
    fails(&w, RPC_DOMAIN_DEFINE_XML, text(&w, "b", UUID_A), VIR_ERR_OPERATION_FAILED, "already defined with uuid");
    fails(&w, RPC_DOMAIN_DEFINE_XML, text(&w, "../b", UUID_B), VIR_ERR_XML_ERROR, "'/'");
    fails(&w, RPC_DOMAIN_LOOKUP_BY_NAME, g_variant_new("(s)", "nobody"), VIR_ERR_NO_DOMAIN, "Domain not found");
    drop(ok(&w, RPC_DOMAIN_SET_AUTOSTART, g_variant_new("(@(sayi)i)", lookup(&w, "a"), 1)));
    drop(ok(&w, RPC_DOMAIN_RENAME, g_variant_new("(@(sayi)msu)", lookup(&w, "a"), "c", 0)));
    g_autofree char *broken = g_build_filename(w.root, "etc/vireo/qemu/broken.xml", NULL), *mark = g_build_filename(w.root, "run/vireo/qemu/autostarted", NULL);
    g_file_set_contents(broken, "<domain", -1, NULL);
    down(&w);
    g_test_expect_message("vireo", G_LOG_LEVEL_WARNING, "*broken.xml: not loaded*");
    up(&w);
    g_test_assert_expected_messages();
    g_assert_true(g_file_test(broken, G_FILE_TEST_EXISTS) && g_file_test(mark, G_FILE_TEST_EXISTS));
    g_autoptr(GVariant) on = ok(&w, RPC_DOMAIN_GET_AUTOSTART, args_of(&w, "c"));
    g_autoptr(GVariant) all = ok(&w, RPC_CONNECT_LIST_ALL_DOMAINS, g_variant_new("(iu)", 0, VIR_CONNECT_LIST_DOMAINS_AUTOSTART));
    g_assert_cmpint(g_variant_n_children(all), ==, 2);
    g_autofree char *count = g_variant_print(all, FALSE), *one = g_variant_print(on, FALSE);
    g_assert_cmpstr(count, ==, "([], 1)");
    g_assert_cmpstr(one, ==, "(1,)");
    drop(ok(&w, RPC_DOMAIN_UNDEFINE, args_of(&w, "c")));
    fails(&w, RPC_DOMAIN_LOOKUP_BY_NAME, g_variant_new("(s)", "c"), VIR_ERR_NO_DOMAIN, "Domain not found");
    world_finish(&w);
}

/* A machine without anything to start from: its firmware says so and waits. */
static void test_life(void)
{
    struct world w;
    int reason;
    world_init(&w);
    drop(ok(&w, RPC_CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY, g_variant_new("(i@m(sayi))", 0, g_variant_new_maybe(G_VARIANT_TYPE("(sayi)"), NULL))));
    drop(ok(&w, RPC_DOMAIN_DEFINE_XML, text(&w, "a", UUID_A)));
    drop(ok(&w, RPC_DOMAIN_CREATE, args_of(&w, "a")));
    g_assert_cmpint(state_of(&w, "a", &reason), ==, VIR_DOMAIN_RUNNING);
    g_assert_cmpint(reason, ==, VIR_DOMAIN_RUNNING_BOOTED);
    fails(&w, RPC_DOMAIN_CREATE, args_of(&w, "a"), VIR_ERR_OPERATION_INVALID, "already running");
    drop(ok(&w, RPC_DOMAIN_SUSPEND, args_of(&w, "a")));
    g_assert_cmpint(state_of(&w, "a", &reason), ==, VIR_DOMAIN_PAUSED);
    down(&w); /* the machine goes on */
    up(&w);
    wait_state(&w, "a", VIR_DOMAIN_PAUSED);
    drop(ok(&w, RPC_CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY, g_variant_new("(i@m(sayi))", 0, g_variant_new_maybe(G_VARIANT_TYPE("(sayi)"), NULL))));
    drop(ok(&w, RPC_DOMAIN_RESUME, args_of(&w, "a")));
    g_assert_cmpint(state_of(&w, "a", &reason), ==, VIR_DOMAIN_RUNNING);
    drop(ok(&w, RPC_DOMAIN_DESTROY, args_of(&w, "a")));
    g_assert_cmpint(state_of(&w, "a", &reason), ==, VIR_DOMAIN_SHUTOFF);
    g_assert_cmpint(reason, ==, VIR_DOMAIN_SHUTOFF_DESTROYED);
    static const char *const told[] = { "a: 0 0", "a: 2 0", "a: 3 0", "a: 4 0", "a: 5 1" };
    for (unsigned i = 0; i < G_N_ELEMENTS(told); i++)
        wait_event(&w, told[i]);
    world_finish(&w);
}

/* An emulator that ends at once: its last words, and nothing left. */
static void test_dies(void)
{
    struct world w;
    world_init(&w);
    g_assert_true(g_file_set_contents(w.kernel, "no kernel at all", -1, NULL));
    g_autofree char *bad = xml(&w, "b", UUID_B, "");
    fails(&w, RPC_DOMAIN_CREATE_XML, g_variant_new("(su)", bad, 0), VIR_ERR_INTERNAL_ERROR, "is no kernel that this machine can start");
    fails(&w, RPC_DOMAIN_LOOKUP_BY_NAME, g_variant_new("(s)", "b"), VIR_ERR_NO_DOMAIN, "Domain not found");
    g_autofree char *state = g_build_filename(w.root, "run/vireo/qemu", NULL);
    g_autoptr(GDir) dir = g_dir_open(state, 0, NULL);
    const char *name;
    while ((name = g_dir_read_name(dir)))
        g_assert_cmpstr(name, ==, "autostarted");
    world_finish(&w);
}

static gpointer write_status(gpointer opaque)
{
    struct domain *d = opaque;
    for (bool up = true; up;) {
        g_assert_true(domain_write_status(d, NULL));
        g_mutex_lock(&d->lock);
        up = d->live;
        g_mutex_unlock(&d->lock);
    }
    return NULL;
}

/* Whatever notes something in the status file while the machine ends: no file stays. */
static void test_status_file_goes(void)
{
    static const uint8_t uuid[16] = { 1 };
    g_autofree char *dir = g_dir_make_tmp("vireo-status-XXXXXX", NULL), *path = g_build_filename(dir, "vm.xml", NULL);
    struct domain_driver dr = { .list = domain_list_new(), .state_dir = dir };
    struct domain *d = domain_claim(&dr, uuid, "vm", NULL);
    for (unsigned i = 0; i < 200; i++) {
        d->live = doc_parse(&schema_domain, "<domain type='qemu'><name>vm</name><memory>65536</memory><os><type>hvm</type></os></domain>", -1, NULL);
        g_assert_nonnull(d->live);
        GThread *writer = g_thread_new("writer", write_status, d);
        while (access(path, F_OK) < 0)
            g_thread_yield();
        g_usleep(i); /* wherever the other one is by then */
        g_mutex_lock(&d->lock);
        g_clear_pointer(&d->live, doc_free);
        g_mutex_unlock(&d->lock);
        domain_erase_status(d);
        g_thread_join(writer);
        g_assert_cmpint(access(path, F_OK), <, 0);
    }
    domain_unref(d);
    domain_list_free(dr.list);
    g_assert_cmpint(rmdir(dir), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#ifdef __SANITIZE_ADDRESS__
    g_setenv("VIREO_SANDBOX", "off", TRUE);
#endif
    g_test_add_func("/domain/define", test_define);
    g_test_add_func("/domain/life", test_life);
    g_test_add_func("/domain/dies", test_dies);
    g_test_add_func("/domain/status-file-goes", test_status_file_goes);
    return g_test_run();
}
