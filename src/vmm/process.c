/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What concerns the process rather than the machine: background, signals, pid file. */
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "base/fdset.h"
#include "base/leftover.h"
#include "vmm/core/chardev.h"
#include "vmm/core/machine.h"
#include "vmm/setup.h"

/* A signal handler has no argument of its own. */
static struct { int fd; volatile sig_atomic_t signal, pid; } caught = { .fd = -1 };

bool process_daemonize(struct vm *vm, GError **error)
{
    int fds[2];
    if (!vm->options.daemonize)
        return true;
    if (pipe2(fds, O_CLOEXEC))
        return vireo_fail_errno(error, errno, "-daemonize: cannot make a pipe");
    pid_t pid = fork(); /* no thread runs yet */
    if (pid < 0)
        return vireo_fail_errno(error, errno, "-daemonize: cannot fork");
    if (pid) {
        char ok = 0;
        close(fds[1]);
        while (read(fds[0], &ok, 1) < 0 && errno == EINTR)
            ;
        _exit(ok ? 0 : 1); /* what the child has to say about a failure it has said */
    }
    close(fds[0]);
    setsid();
    vm->daemon_fd = fds[1];
    vm->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC); /* now: another root may have none */
    return vm->null_fd >= 0 || vireo_fail_errno(error, errno, "-daemonize: cannot open /dev/null");
}

/* seccomp(main): dup2 */
bool process_detach(struct vm *vm, GError **error)
{
    if (vm->daemon_fd < 0)
        return true;
    for (int fd = 0; fd <= 2; fd++)
        dup2(vm->null_fd, fd);
    close(vm->null_fd);
    vm->null_fd = -1;
    if (write(vm->daemon_fd, "1", 1) != 1)
        return vireo_fail_errno(error, errno, "-daemonize: the parent is gone");
    close(vm->daemon_fd);
    vm->daemon_fd = -1;
    return true;
}

/* ---- signals ---- */

static void on_signal(int sig, siginfo_t *info, void *context)
{
    int err = errno;
    uint64_t one = 1;
    caught.signal = sig;
    caught.pid = info->si_pid;
    (void)!write(caught.fd, &one, sizeof(one)); /* a counter that is full is readable too */
    errno = err;
}

static gboolean on_cancel(gint fd, GIOCondition condition, gpointer opaque)
{
    struct vm *vm = opaque;
    uint64_t count;
    if (read(fd, &count, sizeof(count)) < 0)
        return G_SOURCE_CONTINUE;
    g_autofree char *stamp = log_stamp();
    if (caught.signal != SIGINT)
        fprintf(stderr, "%svireo-vmm: terminating on signal %d from pid %d\n", stamp, (int)caught.signal, (int)caught.pid);
    machine_request_shutdown(vm->machine, CAUSE_HOST_SIGNAL);
    return G_SOURCE_CONTINUE;
}

bool process_catch_signals(struct vm *vm, GError **error)
{
    static const int ending[] = { SIGTERM, SIGINT, SIGHUP };
    vm->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (vm->cancel_fd < 0)
        return vireo_fail_errno(error, errno, "cannot make an eventfd");
    caught.fd = vm->cancel_fd;
    struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK };
    sigemptyset(&sa.sa_mask);
    for (size_t i = 0; i < G_N_ELEMENTS(ending); i++)
        sigaction(ending[i], &sa, NULL);
    signal(SIGPIPE, SIG_IGN); /* a reader that goes away is an error of one write */
    signal(SIGXFSZ, SIG_IGN); /* so is a disk image at the file size limit */
    chardev_set_cancel_fd(vm->cancel_fd);
    vm->signal_source = g_unix_fd_source_new(vm->cancel_fd, G_IO_IN);
    g_source_set_callback(vm->signal_source, G_SOURCE_FUNC(on_cancel), vm, NULL);
    g_source_attach(vm->signal_source, NULL);
    return true;
}

/* ---- the pid file ---- */

bool process_write_pidfile(struct vm *vm, GError **error)
{
    const char *path = vm->options.pidfile;
    char text[32];
    if (!path)
        return true;
    int fd = fdset_open(path, O_CREAT | O_RDWR, 0600); /* stays open: the lock is the descriptor's */
    if (fd < 0)
        return vireo_fail_errno(error, errno, "-pidfile %s: cannot create PID file", path);
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    if (fcntl(fd, F_SETLK, &lock)) {
        close(fd);
        return vireo_fail(error, VIREO_ERROR_BUSY, "-pidfile %s: another running process has this PID file; end it or use another file", path);
    }
    vm->pidfile = fdset_path(path) ? NULL : leftover_keep(path);
    int n = snprintf(text, sizeof(text), "%d\n", (int)getpid());
    if (ftruncate(fd, 0) || write(fd, text, (size_t)n) != n)
        return vireo_fail_errno(error, errno, "-pidfile %s: cannot write PID file", path);
    return true;
}

void process_tear_down(struct vm *vm)
{
    leftover_remove(vm->pidfile);
    if (vm->signal_source) {
        g_source_destroy(vm->signal_source);
        g_source_unref(vm->signal_source);
    }
    if (vm->daemon_fd >= 0)
        close(vm->daemon_fd);
    if (vm->null_fd >= 0)
        close(vm->null_fd);
    g_free(vm->run_as);
    /* cancel_fd stays open: a signal may still come */
}
