/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The QMP client against machines that do not keep to the protocol: whatever comes, callers get an error and the main loop goes on. */
#include <json-c/json.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "manage/drivers/domain/tune/domain_tune.h"

static const char greeting[] = "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n", welcome[] = "{\"return\": {}, \"id\": 0}\r\n";

struct bench {
    char *root, *path;
    struct manage_state state;
    struct domain_driver driver;
    GMainLoop *loop;
    GThread *loop_thread, *server_thread;
    struct domain *d;
    int listener;
    void (*serve)(int fd);
    GMutex lock;
    GString *events;
    bool ended;
};

static void on_event(struct domain *d, const char *name, struct json_object *data, gint64 us)
{
    struct bench *b = (struct bench *)d->driver->config_dir;
    g_mutex_lock(&b->lock);
    if (name)
        g_string_append_printf(b->events, "%s;", name);
    else
        b->ended = true;
    g_mutex_unlock(&b->lock);
}

static gpointer run_loop(gpointer loop)
{
    g_main_loop_run(loop);
    return NULL;
}

static gboolean quit(gpointer loop)
{
    g_main_loop_quit(loop);
    return G_SOURCE_REMOVE;
}

static gpointer run_server(gpointer opaque)
{
    struct bench *b = opaque;
    int fd = accept(b->listener, NULL, NULL);
    b->serve(fd);
    close(fd);
    return NULL;
}

static void say(int fd, const char *text) { g_assert_true(send(fd, text, strlen(text), MSG_NOSIGNAL) >= 0 || true); }

/* Reads one line; false: the client has gone. */
static bool hear(int fd)
{
    char c;
    while (recv(fd, &c, 1, 0) == 1)
        if (c == '\n')
            return true;
    return false;
}

static void bench_init(struct bench *b, void (*serve)(int fd))
{
    static const uint8_t uuid[16] = { 1 };
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    *b = (struct bench){ .serve = serve, .root = g_dir_make_tmp("monitor-XXXXXX", NULL), .events = g_string_new(NULL) };
    b->path = g_build_filename(b->root, "s", NULL);
    b->state.context = g_main_context_new();
    b->driver.state = &b->state;
    b->driver.config_dir = (char *)b; /* the way from the domain to us */
    b->driver.list = domain_list_new();
    b->loop = g_main_loop_new(b->state.context, FALSE);
    b->loop_thread = g_thread_new("loop", run_loop, b->loop);
    b->listener = socket(AF_UNIX, SOCK_STREAM, 0);
    g_strlcpy(a.sun_path, b->path, sizeof(a.sun_path));
    g_assert_cmpint(bind(b->listener, (struct sockaddr *)&a, sizeof(a)), ==, 0);
    g_assert_cmpint(listen(b->listener, 1), ==, 0);
    b->server_thread = g_thread_new("machine", run_server, b);
    b->d = domain_claim(&b->driver, uuid, "d", NULL);
}

static void bench_finish(struct bench *b)
{
    monitor_close(g_steal_pointer(&b->d->monitor));
    g_thread_join(b->server_thread);
    GSource *last = g_idle_source_new(); /* by the loop itself: it may not have begun yet */
    g_source_set_callback(last, quit, b->loop, NULL);
    g_source_attach(last, b->state.context);
    g_source_unref(last);
    g_thread_join(b->loop_thread);
    g_main_loop_unref(b->loop);
    close(b->listener);
    unlink(b->path);
    rmdir(b->root);
    g_string_free(b->events, TRUE);
    g_free(b->path);
    g_free(b->root);
}

/* Opens, sends one command, and says which code it fails with; 0: it did not. */
static int outcome(struct bench *b, unsigned wait_ms, bool *ret_opened)
{
    g_autoptr(GError) error = NULL;
    b->d->monitor = monitor_open(b->d, b->path, wait_ms, on_event, &error);
    *ret_opened = b->d->monitor != NULL;
    struct json_object *o = *ret_opened ? monitor_command(b->d, "query-status", NULL, &error) : NULL;
    json_object_put(o);
    return o ? 0 : error->code;
}

static void serve_well(int fd)
{
    say(fd, greeting);
    hear(fd);
    say(fd, "{\"event\":\"EARLY\",\"timestamp\":{\"seconds\":1,\"microseconds\":2}}\r\n");
    say(fd, welcome);
    hear(fd);
    say(fd, "{\"return\": {\"wrong\": 1}, \"id\": 77}\r\n{\"event\":\"ONE\"}\r\n\r\n{\"return\":{\"status\":\"x\"},\"id\":1}\r\n{\"event\":\"TWO\"}\r\n");
    hear(fd); /* the end */
}

static void test_well(void)
{
    struct bench b;
    bool opened;
    bench_init(&b, serve_well);
    g_assert_cmpint(outcome(&b, 5000, &opened), ==, 0);
    for (unsigned i = 0; i < 500; i++) {
        g_mutex_lock(&b.lock);
        bool there = strstr(b.events->str, "TWO") != NULL;
        g_mutex_unlock(&b.lock);
        if (there)
            break;
        g_usleep(10000);
    }
    g_assert_cmpstr(b.events->str, ==, "ONE;TWO;");
    bench_finish(&b);
}

static void serve_nothing(int fd) { hear(fd); }
static void serve_close(int fd) { (void)fd; }
static void serve_http(int fd) { say(fd, "HTTP/1.0 200 OK\r\n\r\n"); }
static void serve_long_greeting(int fd)
{
    g_autofree char *a = g_strnfill(200000, 'a');
    say(fd, a);
    hear(fd);
}
static void serve_refusal(int fd)
{
    say(fd, greeting);
    hear(fd);
    say(fd, "{\"error\":{\"class\":\"GenericError\",\"desc\":\"no\"},\"id\":0}\r\n");
}

static void test_no_greeting(void)
{
    static const struct { void (*serve)(int fd); int code; } all[] = { { serve_nothing, VIR_ERR_OPERATION_TIMEOUT }, { serve_close, VIR_ERR_OPERATION_FAILED },
        { serve_http, VIR_ERR_INTERNAL_ERROR }, { serve_long_greeting, VIR_ERR_OPERATION_TIMEOUT }, { serve_refusal, VIR_ERR_INTERNAL_ERROR } };
    for (unsigned i = 0; i < G_N_ELEMENTS(all); i++) {
        struct bench b;
        bool opened;
        bench_init(&b, all[i].serve);
        g_assert_cmpint(outcome(&b, 300, &opened), ==, all[i].code);
        g_assert_false(opened);
        bench_finish(&b);
    }
}

static void answer_with(int fd, const char *text)
{
    say(fd, greeting);
    hear(fd);
    say(fd, welcome);
    hear(fd);
    say(fd, text);
}

static void serve_garbage(int fd) { answer_with(fd, "\001\002 this is no JSON\r\n"); hear(fd); }
static void serve_half(int fd) { answer_with(fd, "{\"return\": {\"status"); }
static void serve_deep(int fd)
{
    g_autofree char *a = g_strnfill(100000, '[');
    answer_with(fd, a);
    say(fd, "\r\n");
    hear(fd);
}
static void serve_endless(int fd)
{
    g_autofree char *a = g_strnfill(1 << 20, 'a');
    answer_with(fd, "{\"return\": \"");
    for (unsigned i = 0; i < 40; i++)
        if (send(fd, a, 1 << 20, MSG_NOSIGNAL) < 0)
            return;
    g_error("40 MiB of one message were taken");
}

static void test_bad_answers(void)
{
    void (*const all[])(int fd) = { serve_garbage, serve_half, serve_deep, serve_endless };
    for (unsigned i = 0; i < G_N_ELEMENTS(all); i++) {
        struct bench b;
        bool opened;
        if (all[i] != serve_half)
            g_test_expect_message("vireo", G_LOG_LEVEL_WARNING, "*monitor closed*");
        bench_init(&b, all[i]);
        g_assert_cmpint(outcome(&b, 5000, &opened), ==, VIR_ERR_OPERATION_FAILED);
        g_assert_true(opened);
        for (unsigned k = 0; k < 500 && !b.ended; k++)
            g_usleep(10000);
        g_assert_true(b.ended);
        bench_finish(&b);
        g_test_assert_expected_messages();
    }
}

/* Commands of many threads: each gets its own answer, though two that wait are answered in the opposite order. */
static void serve_swapped(int fd)
{
    say(fd, greeting);
    hear(fd);
    say(fd, welcome);
    for (unsigned i = 1; i <= 400; i++) {
        struct pollfd p = { fd, POLLIN, 0 };
        hear(fd);
        bool two = i < 400 && poll(&p, 1, 2) == 1;
        if (two)
            hear(fd);
        g_autofree char *a = two ? g_strdup_printf("{\"return\":{\"n\":%u},\"id\":%u}\r\n{\"return\":{\"n\":%u},\"id\":%u}\r\n", i + 1, i + 1, i, i)
                                 : g_strdup_printf("{\"return\":{\"n\":%u},\"id\":%u}\r\n", i, i);
        say(fd, a);
        i += two;
    }
    hear(fd);
}

static gpointer ask(gpointer opaque)
{
    struct bench *b = opaque;
    for (unsigned i = 0; i < 100; i++) {
        struct json_object *o = monitor_answer(b->d, "x", NULL, NULL, 0, NULL);
        g_assert_nonnull(o);
        g_assert_cmpint(json_object_get_int64(json_object_object_get(o, "id")), ==, json_object_get_int64(json_object_object_get(json_object_object_get(o, "return"), "n")));
        json_object_put(o);
    }
    return NULL;
}

static void test_threads(void)
{
    struct bench b;
    GThread *t[4];
    bench_init(&b, serve_swapped);
    b.d->monitor = monitor_open(b.d, b.path, 5000, on_event, NULL);
    g_assert_nonnull(b.d->monitor);
    for (unsigned i = 0; i < G_N_ELEMENTS(t); i++)
        t[i] = g_thread_new("client", ask, &b);
    for (unsigned i = 0; i < G_N_ELEMENTS(t); i++)
        g_thread_join(t[i]);
    bench_finish(&b);
}

/* ---- several questions at once ---- */

enum { BATCH = 5, LARGE = 24, LARGE_BYTES = 30000, LARGE_ANSWER = 100000, HUGE_ANSWER = 400000 };

/* Reads all of a batch before it answers, the last first; the third with an error. The batch after that is left unanswered until a single command has come. */
static void serve_batch(int fd)
{
    say(fd, greeting);
    hear(fd);
    say(fd, welcome);
    for (unsigned i = 0; i < BATCH; i++)
        hear(fd);
    for (unsigned i = BATCH; i > 0; i--) {
        g_autofree char *good = g_strdup_printf("{\"return\":{\"n\":%u},\"id\":%u}\r\n", i, i);
        say(fd, i == 3 ? "{\"error\":{\"class\":\"CommandNotFound\",\"desc\":\"what\"},\"id\":3}\r\n" : good);
    }
    for (unsigned i = 0; i < BATCH + 1; i++)
        hear(fd);
    for (unsigned i = BATCH + 1; i <= 2 * BATCH + 1; i++) {
        g_autofree char *late = g_strdup_printf("{\"return\":{\"n\":%u},\"id\":%u}\r\n", i, i);
        say(fd, late);
    }
    hear(fd);
}

static struct monitor_batch *ask_some(struct bench *b, unsigned n)
{
    struct monitor_question all[LARGE];
    for (unsigned i = 0; i < n; i++)
        all[i] = (struct monitor_question){ "query-something", i % 2 ? json_object_new_object() : NULL };
    return monitor_ask(b->d, all, n, NULL);
}

static int64_t number_of(struct json_object *o)
{
    int64_t n = o ? json_object_get_int64(json_object_object_get(o, "n")) : -1;
    json_object_put(o);
    return n;
}

static void test_batch(void)
{
    struct bench b;
    g_autoptr(GError) error = NULL;
    bench_init(&b, serve_batch);
    g_assert_null(ask_some(&b, BATCH)); /* not connected yet */
    b.d->monitor = monitor_open(b.d, b.path, 5000, on_event, NULL);
    g_assert_nonnull(b.d->monitor);
    struct monitor_batch *batch = ask_some(&b, BATCH);
    for (unsigned i = 0; i < BATCH; i++)
        if (i != 2)
            g_assert_cmpint(number_of(monitor_batch_answer(batch, i, NULL)), ==, i + 1);
    g_assert_null(monitor_batch_answer(batch, 2, &error));
    g_assert_cmpint(error->code, ==, VIR_ERR_OPERATION_UNSUPPORTED);
    monitor_batch_free(batch);
    monitor_batch_free(ask_some(&b, BATCH)); /* nobody waits for these */
    g_assert_cmpint(number_of(monitor_command(b.d, "query-status", NULL, NULL)), ==, 2 * BATCH + 1);
    bench_finish(&b);
}

/* Ends with some of its questions answered. */
static void serve_part(int fd)
{
    say(fd, greeting);
    hear(fd);
    say(fd, welcome);
    for (unsigned i = 0; i < BATCH; i++)
        hear(fd);
    say(fd, "{\"return\":{\"n\":2},\"id\":2}\r\n{\"return\":{\"n\":4},\"id\":4}\r\n");
}

static void test_batch_ended(void)
{
    struct bench b;
    bench_init(&b, serve_part);
    b.d->monitor = monitor_open(b.d, b.path, 5000, on_event, NULL);
    struct monitor_batch *batch = ask_some(&b, BATCH);
    for (unsigned i = 0; i < BATCH; i++) {
        g_autoptr(GError) error = NULL;
        g_assert_cmpint(number_of(monitor_batch_answer(batch, i, &error)), ==, i % 2 ? (int)i + 1 : -1);
        g_assert_cmpint(error ? error->code : 0, ==, i % 2 ? 0 : VIR_ERR_OPERATION_FAILED);
    }
    monitor_batch_free(batch);
    g_assert_null(ask_some(&b, BATCH));
    bench_finish(&b);
}

/* As QEMU: reads a byte at a time, and no command before the answer to the last has been taken. More than sockets hold, in both directions. */
static void serve_slowly(int fd, gsize bytes)
{
    g_autofree char *padding = g_strnfill(bytes, 'a');
    say(fd, greeting);
    hear(fd);
    say(fd, welcome);
    for (unsigned i = 1; i <= LARGE && hear(fd); i++) {
        g_autofree char *text = g_strdup_printf("{\"return\":{\"n\":%u,\"x\":\"%s\"},\"id\":%u}\r\n", i, padding, i);
        say(fd, text);
    }
    hear(fd);
}

static void serve_large(int fd) { serve_slowly(fd, LARGE_ANSWER); }
static void serve_huge(int fd) { serve_slowly(fd, HUGE_ANSWER); }

static void large_batch(void (*serve)(int fd), unsigned answered)
{
    struct bench b;
    struct monitor_question all[LARGE];
    g_autofree char *padding = g_strnfill(LARGE_BYTES, 'a');
    bench_init(&b, serve);
    b.d->monitor = monitor_open(b.d, b.path, 5000, on_event, NULL);
    for (unsigned i = 0; i < LARGE; i++) {
        all[i] = (struct monitor_question){ "query-something", json_object_new_object() };
        json_object_object_add(all[i].args, "x", json_object_new_string(padding));
    }
    struct monitor_batch *batch = monitor_ask(b.d, all, LARGE, NULL);
    for (unsigned i = 0; i < LARGE; i++) {
        g_autoptr(GError) error = NULL;
        g_assert_cmpint(number_of(monitor_batch_answer(batch, i, &error)), ==, i < answered ? (int)i + 1 : -1);
        g_assert_true(i < answered || strstr(error->message, "larger than 4 MiB"));
    }
    monitor_batch_free(batch);
    bench_finish(&b);
}

static void test_batch_large(void)
{
    large_batch(serve_large, LARGE);
    large_batch(serve_huge, (4 << 20) / HUGE_ANSWER);
}

/* A machine that names threads of others, and vCPUs that it cannot have. */
static void serve_threads(int fd)
{
    g_autofree char *vcpus = g_strdup_printf("{\"return\":[{\"cpu-index\":0,\"thread-id\":1},{\"cpu-index\":1,\"thread-id\":%d},{\"cpu-index\":99,\"thread-id\":%d},"
                                             "{\"cpu-index\":0,\"thread-id\":-5},7,{}],\"id\":1}\r\n", (int)getpid(), (int)getpid());
    g_autofree char *iothreads = g_strdup_printf("{\"return\":[{\"id\":\"iothread1\",\"thread-id\":1},{\"id\":\"iothread2\",\"thread-id\":%d},{\"id\":\"x\",\"thread-id\":%d}],\"id\":2}\r\n",
                                                 (int)getpid(), (int)getpid());
    say(fd, greeting);
    hear(fd);
    say(fd, welcome);
    hear(fd);
    say(fd, vcpus);
    hear(fd);
    say(fd, iothreads);
    hear(fd);
}

static void test_foreign_threads(void)
{
    struct bench b;
    bench_init(&b, serve_threads);
    b.d->monitor = monitor_open(b.d, b.path, 5000, on_event, NULL);
    b.d->pid = getpid();
    b.d->max_vcpus = 2;
    for (unsigned i = 0; i < 5; i++)
        g_test_expect_message("vireo", G_LOG_LEVEL_WARNING, "*is not one of its process*");
    g_autoptr(GArray) vcpus = domain_vcpu_threads(b.d, NULL), iothreads = domain_iothreads(b.d, NULL);
    g_test_assert_expected_messages();
    g_assert_cmpuint(vcpus->len, ==, 1);
    g_assert_cmpuint(g_array_index(vcpus, struct domain_vcpu, 0).index, ==, 1);
    g_assert_cmpuint(iothreads->len, ==, 1);
    g_assert_cmpuint(g_array_index(iothreads, struct domain_vcpu, 0).index, ==, 2);
    bench_finish(&b);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/monitor/well", test_well);
    g_test_add_func("/monitor/no_greeting", test_no_greeting);
    g_test_add_func("/monitor/bad_answers", test_bad_answers);
    g_test_add_func("/monitor/threads", test_threads);
    g_test_add_func("/monitor/batch", test_batch);
    g_test_add_func("/monitor/batch_ended", test_batch_ended);
    g_test_add_func("/monitor/batch_large", test_batch_large);
    g_test_add_func("/monitor/foreign_threads", test_foreign_threads);
    return g_test_run();
}
