/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Each kind of thread tries what it may not do: a child process closes the sandbox, starts a thread of the kind through the same
 * function as the program, and makes the call there. The kernel must end it, with a line that names kind and call.
 */
#include "base/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

enum { SURVIVED = 77, FAILED_TO_CLOSE = 78 };

struct attempt {
    const char *what;
    const char *call;      /* the name in the message */
    long number;
    long args[6];
    unsigned kinds;        /* bits of those that may not; 0: none may */
    unsigned feature;      /* with this feature main may */
};

#define BIT(k) (1u << SANDBOX_##k)
#define NARROW (BIT(VCPU_JIT) | BIT(VCPU_KVM) | BIT(CLOCK) | BIT(BLOCK) | BIT(NBD) | BIT(NET) | BIT(VNC))
#define ALL (NARROW | BIT(MAIN))
static const char path[] = "/tmp/sandbox_test.nothing";
#define PATH ((long)path)

static const struct attempt attempts[] = {
    { "run a program", "execve", SYS_execve, { PATH } },
    { "run a program from a descriptor", "execveat", SYS_execveat, { -1, PATH } },
    { "make a process", "fork", SYS_fork },
    { "make a process that shares memory", "vfork", SYS_vfork },
    { "make a process with clone", "clone", SYS_clone, { SIGCHLD } },
    { "make a user namespace", "unshare", SYS_unshare, { CLONE_NEWUSER } },
    { "trace", "ptrace", SYS_ptrace, { PTRACE_ATTACH, 1 } },
    { "write another process's memory", "process_vm_writev", SYS_process_vm_writev, { 1 } },
    { "signal another process", "kill", SYS_kill, { 1 } },
    { "signal a thread of another process", "tgkill", SYS_tgkill, { 1, 1, 0 } },
    { "create a file", "openat", SYS_openat, { AT_FDCWD, PATH, O_WRONLY | O_CREAT, 0600 } },
    { "open a file for writing", "openat", SYS_openat, { AT_FDCWD, PATH, O_RDWR } },
    { "open a file for writing, the old way", "open", SYS_open, { PATH, O_WRONLY } },
    { "open with openat2", "openat2", SYS_openat2, { AT_FDCWD, PATH } },
    { "create with creat", "creat", SYS_creat, { PATH, 0600 } },
    { "rename", "rename", SYS_rename, { PATH, PATH } },
    { "make a link", "symlinkat", SYS_symlinkat, { PATH, AT_FDCWD, PATH } },
    { "remove a file", "unlinkat", SYS_unlinkat, { AT_FDCWD, PATH }, ALL, SANDBOX_UNLINK },
    { "remove a file, the old way", "unlink", SYS_unlink, { PATH } },
    { "change rights", "fchmodat", SYS_fchmodat, { AT_FDCWD, PATH, 0777 } },
    { "mount", "mount", SYS_mount, { PATH, PATH } },
    { "change the root", "chroot", SYS_chroot, { PATH } },
    { "become another user", "setuid", SYS_setuid, { 0 } },
    { "map memory to execute", "mmap", SYS_mmap, { 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1 } },
    { "make memory executable", "mprotect", SYS_mprotect, { 4096, 4096, PROT_READ | PROT_EXEC } },
    { "make memory executable with a key", "pkey_mprotect", SYS_pkey_mprotect, { 4096, 4096, PROT_READ | PROT_EXEC } },
    { "load a BPF program", "bpf", SYS_bpf },
    { "open a performance counter", "perf_event_open", SYS_perf_event_open },
    { "make a ring of io_uring", "io_uring_setup", SYS_io_uring_setup, { 0 }, NARROW },
    { "user faults", "userfaultfd", SYS_userfaultfd },
    { "keys", "keyctl", SYS_keyctl },
    { "a kernel module", "finit_module", SYS_finit_module, { -1 } },
    { "reboot", "reboot", SYS_reboot },
    { "limits", "prlimit64", SYS_prlimit64 },
    { "handle the sandbox's signal", "rt_sigaction", SYS_rt_sigaction, { SIGSYS, 0, 0, 8 } },
    { "another prctl", "prctl", SYS_prctl, { PR_SET_DUMPABLE, 1 } },
    { "type into the terminal", "ioctl", SYS_ioctl, { 0, TIOCSTI, PATH } },
    { "a raw socket", "socket", SYS_socket, { AF_PACKET, SOCK_RAW } },
    { "a netlink socket", "socket", SYS_socket, { AF_NETLINK, SOCK_RAW } },
    { "an Internet socket", "socket", SYS_socket, { AF_INET, SOCK_STREAM }, ALL, SANDBOX_SOCKETS },
    { "a UNIX socket", "socket", SYS_socket, { AF_UNIX, SOCK_STREAM }, ALL, SANDBOX_SOCKETS },
    { "connect", "connect", SYS_connect, { -1 }, NARROW, SANDBOX_SOCKETS },
    { "accept", "accept4", SYS_accept4, { -1 }, NARROW & ~(BIT(BLOCK) | BIT(VNC)) },
    { "take descriptors", "recvmsg", SYS_recvmsg, { -1 }, BIT(VCPU_JIT) | BIT(VCPU_KVM) | BIT(CLOCK) | BIT(BLOCK) | BIT(NBD) | BIT(VNC) },
    { "disk I/O", "pwritev", SYS_pwritev, { -1 }, BIT(VCPU_JIT) | BIT(VCPU_KVM) | BIT(CLOCK) | BIT(NBD) | BIT(NET) | BIT(VNC) },
    { "another filter", "seccomp", SYS_seccomp, { 1 }, NARROW },
    { "make a thread", "clone", SYS_clone, { 0x3d0f00 }, BIT(VCPU_JIT) | BIT(VCPU_KVM) | BIT(CLOCK) | BIT(NBD) | BIT(NET) | BIT(VNC) },
    { "make a virtual machine", "ioctl", SYS_ioctl, { -1, KVM_CREATE_VM } },
    { "run a vCPU of KVM", "ioctl", SYS_ioctl, { -1, KVM_RUN }, BIT(VCPU_JIT) | BIT(CLOCK) | BIT(BLOCK) | BIT(NBD) | BIT(NET) | BIT(VNC) },
    { "set up a virtual machine", "ioctl", SYS_ioctl, { -1, KVM_SET_TSS_ADDR } },
    { "the 32-bit pointer calls", "?", 0x40000000 | SYS_getpid },
    { "a call that is not there", "?", 999 },
};

static void *try_it(void *opaque)
{
    const struct attempt *a = opaque;
    const long *v = a->args;
    syscall(a->number, v[0], v[1], v[2], v[3], v[4], v[5]);
    _exit(SURVIVED);
    return NULL;
}

static void *wait_and_try(void *opaque)
{
    while (!sandbox_closed())
        g_usleep(1000);
    g_usleep(5000); /* its own filter comes with the signal, before sandbox_close returns; closed is set a moment before */
    return try_it(opaque);
}

static void *nothing(void *opaque)
{
    return NULL;
}

/* The C library sets up signals of its own when the first thread is made: the program has made one before it closes the sandbox. */
static void first_thread(void)
{
    g_thread_join(g_thread_new("first", nothing, NULL));
}

/* In the child. early: the thread is there before the sandbox closes. */
static void child(enum sandbox_kind kind, const struct attempt *a, unsigned features, bool early)
{
    GError *error = NULL;
    GThread *t = NULL;
    sandbox_need(features);
    first_thread();
    if (kind != SANDBOX_MAIN && early)
        t = sandbox_thread_new(kind, "test", wait_and_try, (void *)a);
    if (!sandbox_close(&error)) {
        fprintf(stderr, "%s\n", error->message);
        _exit(FAILED_TO_CLOSE);
    }
    if (kind == SANDBOX_MAIN)
        try_it((void *)a);
    else if (!early)
        t = sandbox_thread_new(kind, "test", try_it, (void *)a);
    g_thread_join(t);
    _exit(SURVIVED);
}

/* How the child ended (wait status) and what it said. */
static int run_child(enum sandbox_kind kind, const struct attempt *a, unsigned features, bool early, char *said, size_t size)
{
    int fds[2], status;
    size_t n = 0;
    ssize_t got;
    g_assert_cmpint(pipe2(fds, O_CLOEXEC), ==, 0);
    pid_t pid = fork();
    if (!pid) {
        dup2(fds[1], STDERR_FILENO);
        child(kind, a, features, early);
    }
    close(fds[1]);
    while (n + 1 < size && (got = read(fds[0], said + n, size - 1 - n)) > 0)
        n += (size_t)got;
    said[n] = 0;
    close(fds[0]);
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    return status;
}

static const char *const kind_names[] = {
#define X(id, name, what) [SANDBOX_##id] = name,
    SANDBOX_KINDS(X)
#undef X
};

static bool no_sandbox(void)
{
    g_autoptr(GError) error = NULL;
    if (sandbox_possible(&error))
        return false;
    g_test_skip(error->message);
    return true;
}

static void expect_end(enum sandbox_kind kind, const struct attempt *a, unsigned features, bool early)
{
    char said[1024];
    int status = run_child(kind, a, features, early, said, sizeof(said));
    g_autofree char *kind_part = g_strdup_printf("kind '%s'", kind_names[kind]), *call_part = g_strdup_printf("(%s)", a->call);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS && strstr(said, call_part) && strstr(said, kind_part))
        return;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS && (a->number & 0x40000000))
        return; /* another architecture's call: ended by the kernel alone */
    g_error("a thread of kind '%s' may %s (%s): status %#x, it said: %s", kind_names[kind], a->what, a->call, status, said);
}

static void test_forbidden(gconstpointer data)
{
    enum sandbox_kind kind = GPOINTER_TO_INT(data);
    if (no_sandbox())
        return;
    for (size_t i = 0; i < G_N_ELEMENTS(attempts); i++) {
        const struct attempt *a = &attempts[i];
        if (a->kinds && !(a->kinds & 1u << kind))
            continue;
        expect_end(kind, a, 0, true);
        expect_end(kind, a, kind == SANDBOX_MAIN || kind == SANDBOX_NBD ? 0 : SANDBOX_SOCKETS | SANDBOX_UNLINK, false);
    }
}

/* Not ended: the call is made, or refused with an error. */
static void expect_alive(enum sandbox_kind kind, const struct attempt *a, unsigned features)
{
    char said[1024];
    int status = run_child(kind, a, features, false, said, sizeof(said));
    if (!WIFEXITED(status) || WEXITSTATUS(status) != SURVIVED)
        g_error("a thread of kind '%s' could not %s (%s): status %#x, it said: %s", kind_names[kind], a->what, a->call, status, said);
}

static void test_allowed(void)
{
    static const struct attempt any[] = {
        { "ask for the time", "clock_gettime", SYS_clock_gettime, { 0, 0 } },
        { "signal itself", "getpid", SYS_getpid },
        { "map memory", "mmap", SYS_mmap, { 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1 } },
        { "be refused a file", "openat", SYS_openat, { AT_FDCWD, PATH, O_RDONLY } },
        { "read", "read", SYS_read, { -1 } },
    };
    if (no_sandbox())
        return;
    for (int kind = 0; kind < SANDBOX_NKINDS; kind++) {
        for (size_t i = 0; i < G_N_ELEMENTS(any); i++)
            expect_alive((enum sandbox_kind)kind, &any[i], 0);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(attempts); i++) {
        if (attempts[i].feature)
            expect_alive(SANDBOX_MAIN, &attempts[i], attempts[i].feature);
    }
}

/* A library opens a file later: it gets the one that was kept, from its beginning each time. */
static void test_kept_file(void)
{
    int status;
    if (no_sandbox())
        return;
    pid_t pid = fork();
    if (!pid) {
        char a[16] = "", b[16] = "";
        sandbox_keep_file("/proc/self/comm");
        sandbox_keep_file("/nowhere/at/all");
        if (!sandbox_close(NULL))
            _exit(FAILED_TO_CLOSE);
        for (int i = 0; i < 2; i++) {
            FILE *f = fopen("/proc/self/comm", "re");
            if (!f || !fgets(i ? b : a, sizeof(a), f))
                _exit(1);
            fclose(f);
        }
        _exit(strcmp(a, b) || !*a || open("/nowhere/at/all", O_RDONLY) >= 0 || errno != EACCES);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_cmpint(status, ==, 0);
}

static int compare_ints(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* In a child: what libraries and the C runtime do on rare occasions. Exits 0 when it lives through it. */
static void *rare(void *opaque)
{
    errno = 0;
    int fd = open("/etc/hosts", O_RDONLY);
    if (fd >= 0 || errno != EACCES)
        _exit(10);
    g_autofree char *big = g_malloc0(64 << 20); /* mmap; then the arena */
    for (int i = 0; i < 2000; i++)
        g_free(g_malloc0(100 + (size_t)i * 50));
    g_warning("a warning inside: %s", g_strerror(ENOTEMPTY));
    static int numbers[200000];
    for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++)
        numbers[i] = (int)(i * 7919 % 100003);
    qsort(numbers, G_N_ELEMENTS(numbers), sizeof(int), compare_ints);
    g_usleep(10);
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *text = now ? g_date_time_format(now, "%Y") : NULL;
    if (!text || strlen(text) != 4)
        _exit(11);
    if (write(open("/dev/null", O_RDONLY), "x", 1) != -1)
        _exit(12);
    return NULL;
}

static void test_rare(void)
{
    if (no_sandbox())
        return;
    for (int kind = 0; kind < SANDBOX_NKINDS; kind++) {
        int status;
        pid_t pid = fork();
        if (!pid) {
            dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
            g_log_set_writer_func(g_log_writer_standard_streams, NULL, NULL);
            g_log_set_always_fatal(G_LOG_FATAL_MASK);
            first_thread();
            if (!sandbox_close(NULL))
                _exit(FAILED_TO_CLOSE);
            if (kind == SANDBOX_MAIN)
                rare(NULL);
            else
                g_thread_join(sandbox_thread_new((enum sandbox_kind)kind, "rare", rare, NULL));
            _exit(0);
        }
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        if (status)
            g_error("kind '%s' did not live through what libraries do: status %#x", kind_names[kind], status);
    }
}

/* abort(3) inside ends with SIGABRT, not with the sandbox's signal: a core dump then shows the reason. */
static void *abort_it(void *opaque)
{
    abort();
}

static void test_abort(void)
{
    if (no_sandbox())
        return;
    int status;
    pid_t pid = fork();
    if (!pid) {
        first_thread();
        if (!sandbox_close(NULL))
            _exit(FAILED_TO_CLOSE);
        g_thread_join(sandbox_thread_new(SANDBOX_VCPU_JIT, "abort", abort_it, NULL));
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

/* Every thread of a closed process is inside and has no capabilities; one that a library started has at least the filter. */
static void *idle(void *opaque)
{
    for (;;)
        g_usleep(100000);
    return NULL;
}

static bool all_inside(pid_t pid)
{
    g_autofree char *folder = g_strdup_printf("/proc/%d/task", pid);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *tid;
    unsigned n = 0;
    while ((tid = g_dir_read_name(dir))) {
        g_autofree char *file = g_build_filename(folder, tid, "status", NULL), *text = NULL;
        if (!g_file_get_contents(file, &text, NULL, NULL) || !strstr(text, "\nSeccomp:\t2\n") || !strstr(text, "\nNoNewPrivs:\t1\n") ||
            (!strstr(text, "Name:\tforeign\n") && (!strstr(text, "\nCapEff:\t0000000000000000\n") || !strstr(text, "\nCapPrm:\t0000000000000000\n"))))
            return false;
        n++;
    }
    return n == 5;
}

static void test_threads(void)
{
    int fds[2];
    char byte;
    if (no_sandbox())
        return;
    g_assert_cmpint(pipe2(fds, O_CLOEXEC), ==, 0);
    pid_t pid = fork();
    if (!pid) {
        (void)!sandbox_thread_new(SANDBOX_CLOCK, "early", idle, NULL);
        (void)!sandbox_thread_new(SANDBOX_MAIN, "helper", idle, NULL);
        (void)!g_thread_new("foreign", idle, NULL);
        if (!sandbox_close(NULL))
            _exit(FAILED_TO_CLOSE);
        (void)!sandbox_thread_new(SANDBOX_BLOCK, "late", idle, NULL);
        g_usleep(100000);
        (void)!write(fds[1], "1", 1);
        idle(NULL);
    }
    g_assert_cmpint(read(fds[0], &byte, 1), ==, 1);
    bool ok = all_inside(pid);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    g_assert_true(ok);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (int kind = 0; kind < SANDBOX_NKINDS; kind++) {
        g_autofree char *name = g_strdup_printf("/sandbox/forbidden/%s", kind_names[kind]);
        g_test_add_data_func(name, GINT_TO_POINTER(kind), test_forbidden);
    }
    g_test_add_func("/sandbox/allowed", test_allowed);
    g_test_add_func("/sandbox/rare", test_rare);
    g_test_add_func("/sandbox/abort", test_abort);
    g_test_add_func("/sandbox/kept-file", test_kept_file);
    g_test_add_func("/sandbox/threads", test_threads);
    return g_test_run();
}
