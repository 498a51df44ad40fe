/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Back ends null, file and stdio. The terminal belongs to the process, and to the shell after it: its modes are put back
 * whatever ends the process, and O_NONBLOCK is only ever set on open file descriptions of our own.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fdset.h"
#include "base/sandbox.h"
#include "vmm/core/chardev_backend.h"

/* ---- null ---- */

static const struct keyval_key no_keys[] = { { NULL } };

static bool null_open(struct chardev *c, const void *opts, GError **error)
{
    chardev_connected(c, -1, -1, (struct chardev_out_mode){ 0 });
    return true;
}

const struct chardev_backend chardev_null = { "null", "output vanishes, no input", no_keys, 0, null_open };

/* ---- file ---- */

struct file_opts { char *path; bool append; };
static const struct keyval_key file_keys[] = {
    { "path", KV_STRING, offsetof(struct file_opts, path), "file to write" },
    { "append", KV_BOOL, offsetof(struct file_opts, append), "keep what is in it" },
    { NULL }
};

static bool file_open(struct chardev *c, const void *opts, GError **error)
{
    const struct file_opts *o = opts;
    if (!o->path || !*o->path)
        return vireo_fail(error, VIREO_ERROR_INVALID, "chardev: file: no filename given; write path=FILE");
    if (!fdset_path(o->path) && !sandbox_may_open_image(o->path, error))
        return false;
    int flags = O_CREAT | O_CLOEXEC | O_NONBLOCK | (o->append ? O_APPEND : O_TRUNC);
    int fd = fdset_open(o->path, O_WRONLY | flags, 0666);
    if (fd < 0 && errno == ENXIO) /* a FIFO that nobody reads yet */
        fd = fdset_open(o->path, O_RDWR | flags, 0666);
    if (fd < 0)
        return vireo_fail_errno(error, errno, "Could not open '%s'", o->path);
    chardev_connected(c, -1, fd, (struct chardev_out_mode){ 0 });
    return true;
}

const struct chardev_backend chardev_file = { "file", "output to a file: path=FILE[,append=on]", file_keys, sizeof(struct file_opts), file_open };

/* ---- the terminal of this process ---- */

static struct {
    volatile sig_atomic_t raw; /* modes have been changed and must go back */
    bool in_use, handlers;
    struct termios old, new;
} terminal;

/* A process in the background must not touch the terminal of the one in front.
 * seccomp(any): ioctl(TIOCGPGRP) getpgrp */
static bool in_foreground(void)
{
    pid_t front = tcgetpgrp(STDIN_FILENO);
    return front == -1 || front == getpgrp();
}

/* The handlers of signals call it, on any thread. */
/* seccomp(any): ioctl(TCSETS) rt_sigaction(SIGSEGV SIGBUS SIGILL SIGFPE SIGQUIT) */
static void set_modes(const struct termios *t)
{
    sigset_t ttou, before;
    sigemptyset(&ttou);
    sigaddset(&ttou, SIGTTOU);
    pthread_sigmask(SIG_BLOCK, &ttou, &before);
    tcsetattr(STDIN_FILENO, TCSANOW, t);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void chardev_restore_terminal(void)
{
    if (terminal.raw)
        set_modes(&terminal.old);
}

static void fatal_signal(int sig)
{
    chardev_restore_terminal();
    raise(sig); /* SA_RESETHAND: now the default action */
}

static void stop_signal(int sig)
{
    int err = errno;
    chardev_restore_terminal();
    raise(SIGSTOP);
    errno = err;
}

static void continue_signal(int sig)
{
    int err = errno;
    if (terminal.raw && in_foreground())
        set_modes(&terminal.new);
    errno = err;
}

/* Only where nobody else has asked for the signal. */
static void handle(int sig, void (*fn)(int), int flags)
{
    struct sigaction old, sa = { .sa_handler = fn, .sa_flags = flags };
    sigemptyset(&sa.sa_mask);
    if (!sigaction(sig, NULL, &old) && old.sa_handler == SIG_DFL && !(old.sa_flags & SA_SIGINFO))
        sigaction(sig, &sa, NULL);
}

static void install_handlers(void)
{
    static const int fatal[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGQUIT, SIGSYS, SIGTRAP };
    if (terminal.handlers)
        return;
    terminal.handlers = true;
    atexit(chardev_restore_terminal);
    for (size_t i = 0; i < G_N_ELEMENTS(fatal); i++)
        handle(fatal[i], fatal_signal, SA_RESETHAND | SA_NODEFER | SA_ONSTACK);
    handle(SIGTSTP, stop_signal, SA_RESTART | SA_ONSTACK);
    handle(SIGCONT, continue_signal, SA_RESTART | SA_ONSTACK);
}

static void terminal_raw(bool keep_signals)
{
    if (tcgetattr(STDIN_FILENO, &terminal.old))
        return; /* not a terminal */
    struct termios t = terminal.old;
    t.c_iflag &= ~(tcflag_t)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    t.c_oflag |= OPOST;
    t.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | IEXTEN | (keep_signals ? 0 : ISIG));
    t.c_cflag = (t.c_cflag & ~(tcflag_t)(CSIZE | PARENB)) | CS8;
    t.c_cc[VMIN] = 1;
    t.c_cc[VTIME] = 0;
    terminal.new = t;
    terminal.raw = 1;
    install_handlers();
    if (in_foreground())
        set_modes(&t);
}

/* ---- stdio ---- */

static const char *const signal_values[] = { "default", "off", "on", NULL };
enum { SIGNAL_DEFAULT, SIGNAL_OFF, SIGNAL_ON };
struct stdio_opts { int signal; };

/* A descriptor of our own, not blocking, for what `fd` is open on; otherwise a copy, to be polled before use. */
static int private_descriptor(int fd, int flags, bool *ret_poll)
{
    struct stat st;
    char path[32];
    *ret_poll = false;
    if (fstat(fd, &st))
        return -1;
    if (S_ISCHR(st.st_mode) || S_ISFIFO(st.st_mode)) {
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        int own = open(path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (own >= 0)
            return own;
    }
    *ret_poll = !S_ISREG(st.st_mode);
    return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

static bool is_socket(int fd)
{
    struct stat st;
    return !fstat(fd, &st) && S_ISSOCK(st.st_mode);
}

static bool stdio_open(struct chardev *c, const void *opts, GError **error)
{
    const struct stdio_opts *o = opts;
    bool poll_in, poll_out;
    if (terminal.in_use)
        return vireo_fail(error, VIREO_ERROR_BUSY, "cannot use stdio by multiple character devices; give the others another back end");
    terminal.in_use = true;
    c->state = &terminal;
    /* With Ctrl-A commands the interrupt character belongs to the guest. */
    terminal_raw(c->mux ? o->signal == SIGNAL_ON : o->signal != SIGNAL_OFF);
    int in = private_descriptor(STDIN_FILENO, O_RDONLY, &poll_in);
    int out = private_descriptor(STDOUT_FILENO, O_WRONLY, &poll_out);
    struct chardev_out_mode mode = { .send = is_socket(STDOUT_FILENO) };
    mode.poll_first = poll_out && !mode.send;
    chardev_connected(c, in, out, mode);
    return true;
}

static void stdio_close(struct chardev *c)
{
    chardev_restore_terminal();
    terminal.raw = 0;
    terminal.in_use = false;
}

static const struct keyval_key stdio_keys[] = {
    { "signal", KV_ENUM, offsetof(struct stdio_opts, signal), "on: Ctrl-C ends the program (default without mux)", signal_values },
    { NULL }
};

const struct chardev_backend chardev_stdio = {
    "stdio", "standard input and output[,signal=on|off]", stdio_keys, sizeof(struct stdio_opts), stdio_open, stdio_close
};
