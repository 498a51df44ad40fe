/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs in the outer guest of the nested KVM tests: starts programs there for the test on the host and carries their standard
 * input and output, or connects to a UNIX socket there. TCP port 7000, one connection for each.
 *
 * A connection begins with a request: length (32 bits, big endian), then strings that end with 0:
 *   "exec" UID WORD...   runs the program as that user; frames both ways
 *   "connect" PATH       answered by '+' or '-'; then bytes both ways, as they are
 * A frame: kind (one byte), length (32 bits, big endian), data. To the agent: '0' standard input (empty: its end), 'k' a
 * signal's number in decimal. From the agent: '1' standard output, '2' standard error, 'x' the exit status in decimal (minus
 * the signal's number for one that a signal ended), the last one. A connection that closes ends the program and what it started.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <netinet/tcp.h>

enum { PORT = 7000, REQUEST = 65536, CHUNK = 32768 };

static void die(const char *what)
{
    fprintf(stderr, "agent: %s: %s\n", what, strerror(errno));
    exit(1);
}

static bool read_all(int fd, void *to, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = read(fd, (char *)to + done, size - done);
        if (n <= 0 && !(n < 0 && errno == EINTR))
            return false;
        done += n > 0 ? n : 0;
    }
    return true;
}

static bool write_all(int fd, const void *from, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = write(fd, (const char *)from + done, size - done);
        if (n < 0 && errno != EINTR)
            return false;
        done += n > 0 ? n : 0;
    }
    return true;
}

static bool frame(int fd, char kind, const void *data, size_t size)
{
    unsigned char head[5] = { kind, size >> 24, size >> 16, size >> 8, size };
    return write_all(fd, head, sizeof(head)) && write_all(fd, data, size);
}

struct program {
    int connection;
    pid_t pid;
    int in, out[2]; /* -1 once closed; out: standard output, standard error */
};

/* One frame of the client. False: the client is gone. */
static bool from_client(struct program *p)
{
    unsigned char head[5];
    static char data[REQUEST + 1];
    if (!read_all(p->connection, head, sizeof(head)))
        return false;
    size_t size = (size_t)head[1] << 24 | head[2] << 16 | head[3] << 8 | head[4];
    if (size > REQUEST || !read_all(p->connection, data, size))
        return false;
    data[size] = 0;
    if (head[0] == 'k') {
        kill(p->pid, atoi(data));
    } else if (p->in >= 0 && (size == 0 || !write_all(p->in, data, size))) {
        close(p->in);
        p->in = -1;
    }
    return true;
}

static void from_program(struct program *p, int which)
{
    static char data[CHUNK];
    ssize_t n = read(p->out[which], data, sizeof(data));
    if (n > 0) {
        if (!frame(p->connection, '1' + which, data, n))
            n = 0;
    }
    if (n == 0 || (n < 0 && errno != EINTR)) {
        close(p->out[which]);
        p->out[which] = -1;
    }
}

static void carry(struct program *p)
{
    for (;;) {
        struct pollfd fds[3] = { { p->connection, POLLIN, 0 }, { p->out[0], POLLIN, 0 }, { p->out[1], POLLIN, 0 } };
        if (p->out[0] < 0 && p->out[1] < 0)
            break;
        if (poll(fds, 3, -1) < 0)
            continue;
        if (fds[0].revents && !from_client(p))
            break;
        for (int i = 0; i < 2; i++)
            if (fds[i + 1].revents)
                from_program(p, i);
    }
}

static pid_t start(struct program *p, uid_t uid, char **words)
{
    int in[2], out[2], err[2];
    if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
        die("pipe");
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0) {
        setpgid(0, 0);
        signal(SIGPIPE, SIG_DFL);
        dup2(in[0], 0);
        dup2(out[1], 1);
        dup2(err[1], 2);
        if (uid && (setgroups(0, NULL) || setgid(uid) || setuid(uid)))
            die("setuid");
        execvp(words[0], words);
        fprintf(stderr, "agent: cannot run %s: %s\n", words[0], strerror(errno));
        _exit(127);
    }
    setpgid(pid, pid);
    close(in[0]);
    close(out[1]);
    close(err[1]);
    *p = (struct program){ p->connection, pid, in[1], { out[0], err[0] } };
    return pid;
}

static void run(int connection, uid_t uid, char **words)
{
    struct program p = { .connection = connection };
    int status = 0;
    start(&p, uid, words);
    carry(&p);
    if (p.out[0] >= 0 || p.out[1] >= 0)
        kill(-p.pid, SIGKILL);
    waitpid(p.pid, &status, 0);
    kill(-p.pid, SIGKILL);
    char text[16];
    int n = snprintf(text, sizeof(text), "%d", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
    frame(connection, 'x', text, n);
}

static void relay(int a, int b)
{
    static char data[CHUNK];
    for (;;) {
        struct pollfd fds[2] = { { a, POLLIN, 0 }, { b, POLLIN, 0 } };
        if (poll(fds, 2, -1) < 0)
            continue;
        for (int i = 0; i < 2; i++)
            if (fds[i].revents) {
                ssize_t n = read(fds[i].fd, data, sizeof(data));
                if (n <= 0 || !write_all(fds[!i].fd, data, n))
                    return;
            }
    }
}

static void serve(int connection)
{
    static char data[REQUEST + 1], *words[4096];
    uint32_t size;
    if (!read_all(connection, &size, 4) || (size = ntohl(size)) > REQUEST || !read_all(connection, data, size))
        return;
    int n = 0;
    for (char *at = data; at < data + size && n < 4095; at += strlen(at) + 1)
        words[n++] = at;
    if (n >= 3 && strcmp(words[0], "exec") == 0) {
        run(connection, atoi(words[1]), words + 2);
    } else if (n == 2 && strcmp(words[0], "connect") == 0) {
        struct sockaddr_un to = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (strlen(words[1]) >= sizeof(to.sun_path))
            return;
        strcpy(to.sun_path, words[1]);
        bool connected = fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0;
        if (write_all(connection, connected ? "+" : "-", 1) && connected)
            relay(connection, fd);
    }
}

int main(void)
{
    struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = INADDR_ANY };
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (listener < 0 || bind(listener, (struct sockaddr *)&here, sizeof(here)) || listen(listener, 16))
        die("listen");
    printf("VT outer guest is up\n");
    fflush(stdout);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_IGN);
    for (;;) {
        int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (connection < 0)
            continue;
        pid_t pid = fork();
        if (pid == 0) {
            close(listener);
            signal(SIGCHLD, SIG_DFL);
            setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
            serve(connection);
            exit(0);
        }
        close(connection);
    }
}
