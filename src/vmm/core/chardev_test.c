/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/core/chardev.h"
#include "vmm/core/chardev_telnet.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct front {
    GString *got;
    size_t room;
    unsigned opened, closed, breaks, writable;
    bool quit;
};

static size_t front_room(void *opaque)
{
    struct front *f = opaque;
    return f->room;
}

static void front_receive(void *opaque, const uint8_t *data, size_t n)
{
    struct front *f = opaque;
    g_assert_cmpuint(n, <=, f->room);
    f->room -= n;
    g_string_append_len(f->got, (const char *)data, (gssize)n);
}

static void front_event(void *opaque, enum chardev_event ev)
{
    struct front *f = opaque;
    unsigned *count[] = { &f->opened, &f->closed, &f->breaks, &f->writable };
    ++*count[ev];
}

static const struct chardev_handlers handlers = { front_room, front_receive, front_event };

static void settle(void)
{
    for (int i = 0; i < 20; i++) {
        while (g_main_context_iteration(NULL, FALSE))
            ;
        g_usleep(500);
    }
}

static int dial(const char *path)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    g_strlcpy(a.sun_path, path, sizeof(a.sun_path));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    g_assert_cmpint(connect(fd, (struct sockaddr *)&a, sizeof(a)), ==, 0);
    settle();
    return fd;
}

static char *temp_path(const char *name)
{
    g_autofree char *dir = g_dir_make_tmp("vireo-chardev-XXXXXX", NULL);
    return g_build_filename(dir, name, NULL);
}

static void remove_temp(const char *path)
{
    g_autofree char *dir = g_path_get_dirname(path);
    g_assert_cmpint(access(path, F_OK), ==, -1); /* the back end has removed its socket */
    g_assert_cmpint(rmdir(dir), ==, 0);
}

static struct chardev *open_at(const char *format, const char *path)
{
    g_autofree char *spec = g_strdup_printf(format, path);
    GError *error = NULL;
    struct chardev *c = chardev_open("c0", spec, &error);
    g_assert_no_error(error);
    return c;
}

static void test_socket(void)
{
    g_autofree char *path = temp_path("s");
    struct chardev *c = open_at("unix:%s,server=on,wait=off", path);
    struct front f = { g_string_new(NULL), 3 };
    g_assert_true(g_str_has_prefix(chardev_filename(c), "disconnected:unix:"));
    g_assert_cmpuint(chardev_write(c, "lost", 4), ==, 4);
    g_assert_true(chardev_attach(c, &handlers, &f, NULL));
    g_autoptr(GError) error = NULL;
    g_assert_false(chardev_attach(c, &handlers, &f, &error));
    g_assert_cmpstr(error->message, ==, "chardev 'c0' is already in use by another device; give each its own");
    for (int round = 1; round <= 2; round++) {
        int fd = dial(path);
        char buf[16] = "";
        g_assert_cmpuint(f.opened, ==, round);
        g_assert_cmpint(write(fd, "hello", 5), ==, 5);
        settle();
        g_assert_cmpstr(f.got->str, ==, "hel"); /* the rest waits */
        f.room = 3;
        chardev_receive_ready(c);
        settle();
        g_assert_cmpstr(f.got->str, ==, "hello");
        g_assert_cmpuint(chardev_write(c, "out", 3), ==, 3);
        g_assert_cmpint(read(fd, buf, sizeof(buf)), ==, 3);
        g_assert_cmpstr(buf, ==, "out");
        close(fd);
        f.room = 3;
        settle();
        g_assert_cmpuint(f.closed, ==, round);
        g_string_truncate(f.got, 0);
    }
    chardev_close(c);
    remove_temp(path);
    g_string_free(f.got, TRUE);
}

static void expect(int fd, const char *data, size_t n)
{
    char buf[64];
    settle();
    g_assert_cmpmem(buf, recv(fd, buf, sizeof(buf), MSG_DONTWAIT), data, n);
}
#define EXPECT(fd, text) expect(fd, text, sizeof(text) - 1)

/* RFC 854: offers, refusals, doubled IACs, BREAK, ends of lines; commands that come in pieces. */
static void test_telnet(void)
{
    g_autofree char *path = temp_path("s");
    struct chardev *c = open_at("unix:%s,server=on,wait=off,telnet=on", path);
    struct front f = { g_string_new(NULL), 100 };
    g_assert_true(chardev_attach(c, &handlers, &f, NULL));
    for (int round = 1; round <= 2; round++) {
        static const char sent[] = "a\xff\xfd\x01\xff\xfd\x03\xff\xfb\x18" "b\r\0c\r\nd\xff\xfa\x18x\xff\xffy\xff\xf0" "e\xff\xff\xff\xf3\xff\xfb\0\r\0\xff\xfd\x22g";
        int fd = dial(path);
        EXPECT(fd, "\xff\xfb\x01\xff\xfb\x03\xff\xfb\0\xff\xfd\0");
        for (size_t i = 0; i < sizeof(sent) - 1; i += (size_t)round) {
            g_assert_cmpint(write(fd, sent + i, MIN((size_t)round, sizeof(sent) - 1 - i)), >, 0);
            settle();
        }
        g_assert_cmpmem(f.got->str, f.got->len, "ab\rc\r\nde\xff\r\0g", 12);
        g_assert_cmpuint(f.breaks, ==, round);
        EXPECT(fd, "\xff\xfe\x18\xff\xfc\x22");
        g_assert_cmpuint(chardev_write(c, "x\xffy\xff", 4), ==, 4);
        EXPECT(fd, "x\xff\xffy\xff\xff");
        close(fd);
        settle();
        g_string_truncate(f.got, 0);
        f.room = 100;
    }
    chardev_close(c);
    remove_temp(path);
    g_string_free(f.got, TRUE);
}

/* A client that asks for nothing but options, with one that has begun before. */
static void test_telnet_replies(void)
{
    enum { N = 3 * 100 + 1 };
    struct chardev_telnet t;
    g_autofree uint8_t *data = g_malloc(N), *reply = g_malloc(N + TELNET_REPLY);
    uint8_t greeting[TELNET_GREETING], begun[] = { 0xff, 0xfd };
    bool broken;
    size_t n;
    telnet_start(&t, greeting);
    g_assert_cmpuint(telnet_input(&t, begun, sizeof(begun), &broken, reply, &n), ==, 0);
    data[0] = 0x22;
    for (unsigned i = 1; i < N; i += 3)
        memcpy(data + i, "\xff\xfd\x22", 3);
    g_assert_cmpuint(telnet_input(&t, data, N, &broken, reply, &n), ==, 0);
    g_assert_cmpuint(n, ==, 3 * 101);
    g_assert_cmpuint(n, <=, N + TELNET_REPLY);
}

static void test_busy(void)
{
    g_autofree char *path = temp_path("s");
    struct chardev *c = open_at("unix:%s,server=on,wait=off", path);
    struct front f = { g_string_new(NULL), 0 };
    g_assert_true(chardev_attach(c, &handlers, &f, NULL));
    int fd = dial(path);
    static char block[100000];
    size_t sent = 0, n, got = 0;
    do
        sent += n = chardev_write(c, block, sizeof(block));
    while (n == sizeof(block) && sent < (100u << 20));
    g_assert_cmpuint(n, <, sizeof(block)); /* a peer that does not read: bounded */
    g_assert_false(chardev_can_write(c));
    fcntl(fd, F_SETFL, O_NONBLOCK);
    for (int i = 0; i < 1000 && got < sent; i++) {
        ssize_t r = read(fd, block, sizeof(block));
        got += r > 0 ? (size_t)r : 0;
        while (g_main_context_iteration(NULL, FALSE))
            ;
    }
    g_assert_cmpuint(got, ==, sent);
    g_assert_cmpuint(f.writable, ==, 1);
    close(fd);
    chardev_close(c);
    remove_temp(path);
    g_string_free(f.got, TRUE);
}

static void on_quit(void *opaque)
{
    *(bool *)opaque = true;
}

static void test_mux(void)
{
    g_autofree char *path = temp_path("s");
    struct chardev *c = open_at("mon:unix:%s,server=on,wait=off", path);
    struct front f = { g_string_new(NULL), 100 };
    bool quit = false;
    char buf[512] = "";
    chardev_set_quit(on_quit, &quit);
    g_assert_true(chardev_attach(c, &handlers, &f, NULL));
    int fd = dial(path);
    g_assert_cmpint(write(fd, "a\001\001b\001", 5), ==, 5);
    settle();
    g_assert_cmpint(write(fd, "bc\001h", 4), ==, 4);
    settle();
    g_assert_cmpstr(f.got->str, ==, "a\001bc");
    g_assert_cmpuint(f.breaks, ==, 1);
    g_assert_cmpint(read(fd, buf, sizeof(buf) - 1), >, 0);
    g_assert_nonnull(strstr(buf, "Ctrl-A x"));
    g_assert_cmpint(write(fd, "\001c", 2), ==, 2);
    settle();
    memset(buf, 0, sizeof(buf));
    g_assert_cmpint(read(fd, buf, sizeof(buf) - 1), >, 0);
    g_assert_nonnull(strstr(buf, "no monitor"));
    f.room = 0; /* a guest that hangs does not keep Ctrl-A x from working */
    g_assert_cmpint(write(fd, "xyz\001x", 5), ==, 5);
    settle();
    g_assert_true(quit);
    close(fd);
    chardev_close(c);
    remove_temp(path);
    g_string_free(f.got, TRUE);
}

static void test_errors(void)
{
    static const struct { const char *spec, *message; } bad[] = {
        { "unix:/nonexistent/x", "Failed to connect to '/nonexistent/x': No such file or directory" },
        { "unix:/nonexistent/x,server=on,wait=off", "Failed to bind socket to /nonexistent/x: No such file or directory" },
        { "unix:/dev/null,server=on,wait=off", "cannot make socket '/dev/null': a file of that name is there; remove it" },
        { "unix:x,wait=off", "'wait' option is incompatible with socket in client connect mode; add server=on" },
        { "file:", "chardev: file: no filename given; write path=FILE" },
        { "file:/nonexistent/x", "Could not open '/nonexistent/x': No such file or directory" },
        { "unix:", "chardev: socket: give one of path=, host= with port=, fd=" },
        { "pty,x=1", NULL }, { "vc", NULL }, { "", NULL },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(chardev_open("c0", bad[i].spec, &error));
        g_assert_nonnull(error);
        if (bad[i].message)
            g_assert_cmpstr(error->message, ==, bad[i].message);
    }
    g_autoptr(GError) error = NULL;
    g_assert_null(chardev_open("c0", "none", &error));
    g_assert_no_error(error);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/chardev/socket", test_socket);
    g_test_add_func("/chardev/telnet", test_telnet);
    g_test_add_func("/chardev/telnet-replies", test_telnet_replies);
    g_test_add_func("/chardev/busy", test_busy);
    g_test_add_func("/chardev/mux", test_mux);
    g_test_add_func("/chardev/errors", test_errors);
    return g_test_run();
}
