/* SPDX-License-Identifier: GPL-2.0-or-later */
/* console: the terminal and a stream, until the escape key or the end. The event loop's thread moves data from the stream, this one from
 * the keyboard. */
#include "vireo_commands.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

struct console {
    virStreamPtr stream;
    GMutex lock; /* covers pending and ended */
    GString *pending; /* typed, not yet taken by the stream */
    bool ended;
    int wake[2]; /* written when ended */
};

static void console_end(struct console *con)
{
    con->ended = true;
    if (write(con->wake[1], "", 1) < 0)
        return;
}

static void write_all(int fd, const char *data, size_t n)
{
    while (n) {
        ssize_t m = write(fd, data, n);
        if (m < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (m <= 0)
            return;
        data += m;
        n -= m;
    }
}

/* Called with the lock held. */
static void console_interest(struct console *con)
{
    int events = VIR_STREAM_EVENT_READABLE | (con->pending->len ? VIR_STREAM_EVENT_WRITABLE : 0);
    virStreamEventUpdateCallback(con->stream, events);
}

static void console_ready(virStreamPtr stream, int events, void *opaque)
{
    struct console *con = opaque;
    char data[4096];
    g_mutex_lock(&con->lock);
    if (!con->ended && (events & VIR_STREAM_EVENT_READABLE)) {
        int n = virStreamRecv(stream, data, sizeof data);
        if (n > 0)
            write_all(STDOUT_FILENO, data, n);
        else if (n != -2)
            console_end(con);
    }
    if (!con->ended && (events & VIR_STREAM_EVENT_WRITABLE) && con->pending->len) {
        int n = virStreamSend(stream, con->pending->str, con->pending->len);
        if (n > 0)
            g_string_erase(con->pending, 0, n);
        else if (n != -2)
            console_end(con);
        if (!con->ended)
            console_interest(con);
    }
    if (!con->ended && (events & (VIR_STREAM_EVENT_ERROR | VIR_STREAM_EVENT_HANGUP)))
        console_end(con);
    g_mutex_unlock(&con->lock);
}

static void console_type(struct console *con, char escape)
{
    struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = con->wake[0], .events = POLLIN}};
    char data[1024];
    while (poll(fds, 2, -1) >= 0 || errno == EINTR) {
        if (fds[1].revents)
            return;
        if (!(fds[0].revents & (POLLIN | POLLHUP)))
            continue;
        ssize_t n = read(STDIN_FILENO, data, sizeof data);
        const char *leave = n > 0 ? memchr(data, escape, n) : NULL;
        if (n <= 0 || leave == data)
            return;
        g_mutex_lock(&con->lock);
        g_string_append_len(con->pending, data, leave ? leave - data : n);
        console_interest(con);
        g_mutex_unlock(&con->lock);
        if (leave)
            return;
    }
}

bool console_run(struct call *c, virDomainPtr domain, const char *device, unsigned flags)
{
    if (virDomainIsActive(domain) != 1)
        return complain(c, "The domain is not running");
    if (!isatty(STDIN_FILENO))
        return complain(c, "Cannot run interactive console without a controlling TTY");
    struct console con = {.stream = virStreamNew(c->v->connection, VIR_STREAM_NONBLOCK)};
    if (!con.stream || virDomainOpenConsole(domain, device, con.stream, flags) < 0 || pipe(con.wake) < 0) {
        if (con.stream)
            virStreamFree(con.stream);
        return false;
    }
    note(c, "Connected to domain '%s'\nEscape character is ^%c (Ctrl + %c)\n", virDomainGetName(domain), c->v->escape ^ 0x40, c->v->escape ^ 0x40);
    fflush(stdout);
    g_mutex_init(&con.lock);
    con.pending = g_string_new(NULL);
    struct termios before, raw;
    tcgetattr(STDIN_FILENO, &before);
    raw = before;
    cfmakeraw(&raw);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw);
    if (virStreamEventAddCallback(con.stream, VIR_STREAM_EVENT_READABLE | VIR_STREAM_EVENT_HANGUP | VIR_STREAM_EVENT_ERROR, console_ready, &con, NULL) == 0)
        console_type(&con, c->v->escape);
    g_mutex_lock(&con.lock);
    con.ended = true;
    g_mutex_unlock(&con.lock);
    virStreamEventRemoveCallback(con.stream);
    virStreamAbort(con.stream);
    virStreamFree(con.stream);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    g_string_free(con.pending, true);
    close(con.wake[0]);
    close(con.wake[1]);
    puts("");
    return true;
}

static bool cmd_console(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    unsigned flags = opt_flags(c, "force", VIR_DOMAIN_CONSOLE_FORCE, "safe", VIR_DOMAIN_CONSOLE_SAFE, NULL);
    return domain && console_run(c, domain, opt_str(c, "devname"), flags);
}

const struct command console_commands[] = {
    {"console", "domain", "domain! devname= force safe", cmd_console, 0, "Connect this terminal to a guest's console"},
    {},
};
