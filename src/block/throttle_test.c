/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "base/json.h"
#include "base/keyval.h"
#include "base/throttle.h"
#include "block/block.h"
#include "block/driver.h"

static struct throttle_config config_of(const char *text, const char **ret_error)
{
    struct throttle_config c = { 0 };
    GError *error = NULL;
    keyval_auto *kv = keyval_parse(text, NULL, NULL);
    bool ok = throttle_config_take(kv, "", &c, &error) && throttle_config_check(&c, &error);
    g_assert_cmpint(kv->pairs->len, ==, 0);
    g_assert_true(ok == !error);
    *ret_error = error ? g_intern_string(error->message) : NULL;
    g_clear_error(&error);
    return c;
}

static void test_config(void)
{
    static const struct {
        const char *text, *error; /* a part of it; NULL: good */
    } rows[] = {
        { "iops-total=100", NULL },
        { "bps-read=1000,bps-write=2000,iops-total=5,iops-size=4096", NULL },
        { "bps-total=1000,bps-total-max=5000,bps-total-max-length=60", NULL },
        { "bps-total=1,bps-read=1", "cannot be used at the same time" },
        { "iops-total=1,iops-write=1", "cannot be used at the same time" },
        { "iops-size=4096", "iops size requires" },
        { "bps-total=1,iops-size=4096", "iops size requires" },
        { "iops-total-max=5", "require corresponding" },
        { "iops-total=10,iops-total-max=5", "cannot be lower" },
        { "iops-total=10,iops-total-max-length=5", "without burst rate" },
        { "iops-total=1000000000000001", "must be within" },
        { "bps-total=100,bps-total-max=100000000000000,bps-total-max-length=1000", "burst length too high" },
        { "iops-total=x", "iops-total" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        const char *error;
        config_of(rows[i].text, &error);
        if (!rows[i].error != !error || (error && !strstr(error, rows[i].error)))
            g_error("%s: %s", rows[i].text, error ? error : "accepted");
    }
}

static void test_json(void)
{
    struct throttle_config c = { 0 };
    json_auto *in = json_tokener_parse("{\"bps\":0,\"bps_rd\":10,\"bps_rd_max\":20,\"bps_rd_max_length\":3,\"iops\":7,\"iops_size\":512}");
    g_assert_true(throttle_config_from_json(in, &c, NULL) && throttle_config_check(&c, NULL));
    g_assert_cmpint(c.limit[THROTTLE_BPS_READ].max_length, ==, 3);
    json_auto *out = json_object_new_object();
    throttle_config_info(&c, out);
    g_assert_cmpint(json_object_get_int(json_object_object_get(out, "bps_rd_max")), ==, 20);
    g_assert_cmpint(json_object_get_int(json_object_object_get(out, "bps_wr")), ==, 0);
    g_assert_false(json_object_object_get_ex(out, "iops_max", NULL));
    json_auto *bad = json_tokener_parse("{\"bps\":-1}");
    g_assert_false(throttle_config_from_json(bad, &c, NULL));
}

struct rig {
    struct block_graph *graph;
    struct throttle_group *group;
};

static struct rig rig_new(const char *text)
{
    struct rig r = { block_graph_create(), NULL };
    const char *error;
    struct throttle_config c = config_of(text, &error);
    g_assert_null(error);
    r.group = throttle_group_get(block_graph_throttle(r.graph), "g");
    throttle_group_set_config(r.group, &c);
    return r;
}

static void rig_end(struct rig *r)
{
    throttle_group_unref(r->group);
    block_graph_destroy(r->graph);
}

/* Seconds that `n` requests take, one after the other. */
static double run(struct rig *r, unsigned n, bool write, uint64_t bytes)
{
    struct throttle_member *m = throttle_join(r->group);
    gint64 began = g_get_monotonic_time();
    for (unsigned i = 0; i < n; i++)
        throttle_wait(m, write, bytes, NULL, NULL);
    throttle_leave(m);
    return (double)(g_get_monotonic_time() - began) / G_USEC_PER_SEC;
}

static void between(double x, double low, double high)
{
    if (x < low || x > high)
        g_error("took %.3f s, expected %.3f to %.3f", x, low, high);
}

static void test_rates(void)
{
    struct rig r = rig_new("iops-total=200");
    between(run(&r, 120, false, 4096), 0.45, 1.5); /* 20 at once, 100 at 200 per second */
    rig_end(&r);
    r = rig_new("bps-write=1000000");
    between(run(&r, 60, true, 10000), 0.45, 1.5);
    between(run(&r, 1000, false, 1000000), 0, 0.3); /* reads have no limit */
    rig_end(&r);
    r = rig_new("iops-total=100,iops-size=4096");
    between(run(&r, 15, false, 16384), 0.4, 1.5); /* each counts as four */
    rig_end(&r);
    r = rig_new("iops-total=10,iops-total-max=100");
    between(run(&r, 100, false, 512), 0, 0.3); /* a burst of one second's maximum */
    between(run(&r, 5, false, 512), 0.3, 1.5);
    rig_end(&r);
    r = rig_new("iops-total=10,iops-total-max=100,iops-total-max-length=2");
    between(run(&r, 60, false, 512), 0.4, 1.2); /* at the burst's rate */
    rig_end(&r);
}

struct runner {
    struct throttle_member *m;
    struct rig *r;
    gint *stop;
    gint done;
};

static bool stopped(void *stop)
{
    return g_atomic_int_get((gint *)stop);
}

static void *run_until(void *opaque)
{
    struct runner *w = opaque;
    while (!g_atomic_int_get(w->stop)) {
        throttle_wait(w->m, true, 512, stopped, w->stop);
        g_atomic_int_inc(&w->done);
    }
    return NULL;
}

/* One member has eight threads, the other one: both get the same. */
static void test_turns(void)
{
    struct rig r = rig_new("iops-write=400");
    gint stop = 0;
    struct runner w[2] = { { throttle_join(r.group), &r, &stop }, { throttle_join(r.group), &r, &stop } };
    GThread *t[9];
    for (int i = 0; i < 9; i++)
        t[i] = g_thread_new("runner", run_until, &w[i == 8]);
    g_usleep(G_USEC_PER_SEC);
    gint many = g_atomic_int_get(&w[0].done), one = g_atomic_int_get(&w[1].done);
    g_atomic_int_set(&stop, 1);
    for (int i = 0; i < 9; i++)
        g_thread_join(t[i]);
    g_assert_cmpint(many + one, <=, 520);
    g_assert_cmpint(one * 2, >=, many);
    throttle_leave(w[0].m);
    throttle_leave(w[1].m);
    rig_end(&r);
}

static bool wanted(void *graph)
{
    return block_graph_wanted(graph);
}

static void *wait_inside(void *opaque)
{
    struct runner *w = opaque;
    block_enter(w->r->graph);
    throttle_wait(w->m, false, 1 << 30, wanted, w->r->graph);
    throttle_wait(w->m, false, 1 << 30, wanted, w->r->graph); /* for a thousand seconds */
    block_leave(w->r->graph);
    return NULL;
}

static void test_quiesce_does_not_wait(void)
{
    struct rig r = rig_new("bps-total=1000000");
    struct runner w = { throttle_join(r.group), &r };
    GThread *t = g_thread_new("waiter", wait_inside, &w);
    g_usleep(100000);
    gint64 began = g_get_monotonic_time();
    block_quiesce(r.graph);
    block_resume(r.graph);
    between((double)(g_get_monotonic_time() - began) / G_USEC_PER_SEC, 0, 2);
    g_thread_join(t);
    throttle_leave(w.m);
    rig_end(&r);
}

static void test_device(void)
{
    struct block_graph *g = block_graph_create();
    GError *error = NULL;
    keyval_auto *kv = keyval_parse("driver=null-co,size=1M", NULL, NULL);
    struct block_node *n = block_open_options(g, kv, BLOCK_RDWR, &error);
    g_assert_no_error(error);
    struct block_device *b = block_device_create(g, n, &(struct block_device_options) { .id = "d" });
    const char *bad;
    struct throttle_config c = config_of("iops-total=100", &bad);
    char buffer[512];
    const struct iovec iov = { buffer, sizeof(buffer) };
    block_device_set_limits(b, "d", &c);
    gint64 began = g_get_monotonic_time();
    for (int i = 0; i < 60; i++)
        g_assert_cmpint(block_do(b, BLOCK_READ, 0, sizeof(buffer), &iov, 1, 0), ==, 0);
    between((double)(g_get_monotonic_time() - began) / G_USEC_PER_SEC, 0.4, 1.5);
    g_assert_cmpstr(throttle_group_name(block_device_limits(b)), ==, "d");
    block_device_set_limits(b, "d", &(struct throttle_config) { 0 });
    g_assert_null(block_device_limits(b));
    began = g_get_monotonic_time();
    for (int i = 0; i < 1000; i++)
        g_assert_cmpint(block_do(b, BLOCK_READ, 0, sizeof(buffer), &iov, 1, 0), ==, 0);
    between((double)(g_get_monotonic_time() - began) / G_USEC_PER_SEC, 0, 0.3);
    block_device_destroy(b);
    block_node_unref(n);
    block_graph_destroy(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/throttle/config", test_config);
    g_test_add_func("/throttle/json", test_json);
    g_test_add_func("/throttle/rates", test_rates);
    g_test_add_func("/throttle/turns", test_turns);
    g_test_add_func("/throttle/quiesce", test_quiesce_does_not_wait);
    g_test_add_func("/throttle/device", test_device);
    return g_test_run();
}
