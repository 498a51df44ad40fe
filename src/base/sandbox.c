/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Closing the sandbox. Threads that run already are asked by SIGSYS, the signal of the sandbox itself, and install their
 * filter in its handler, wherever they are; a forbidden call raises the same signal with another code.
 */
#include "base/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/error.h"
#include "base/sandbox_private.h"
#include "sandbox_filters.inc"

/*
 * What each thread needs for being one.
 *
 * Locks, time, GLib's wake-ups and the C library's streams:
 * seccomp(any): futex read write writev readv close poll ppoll clock_gettime clock_nanosleep nanosleep gettimeofday time
 *
 * malloc (it counts CPUs for its arenas) and qsort (it looks how much memory there is):
 * seccomp(any): brk mmap munmap mremap mprotect madvise(MADV_DONTNEED MADV_FREE MADV_HUGEPAGE)
 * seccomp(any): sched_getaffinity sysinfo getrandom sched_yield
 *
 * Files are opened before. open(2) and openat(2) are on no list: when one comes, on_open says what happens. Libraries look
 * for files when they feel like it (gconv, locale) and can do without.
 * seccomp(any): newfstatat(AT_EMPTY_PATH) fstat access!EACCES readlink!EACCES lseek
 *
 * The beginning and the end of a thread:
 * seccomp(any): set_robust_list rseq prctl(PR_SET_NAME) gettid getpid exit exit_group restart_syscall
 *
 * Signals: handlers of our own, abort(3) and raise(3) inside this process; g_log looks whether standard error is a terminal:
 * seccomp(any): rt_sigreturn rt_sigprocmask rt_sigaction(SIGABRT SIGTRAP) tgkill sigaltstack ioctl(TCGETS) getpeername
 *
 * A new thread (sandbox_thread_new); clone3 hides its flags from a filter, and the C library does without:
 * seccomp(main, block): clone clone3!ENOSYS
 * seccomp(main): seccomp(SECCOMP_SET_MODE_FILTER)
 */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1 /* si_code of a forbidden call (linux/asm-generic/siginfo.h) */
#endif
#define FILTER_MAX 1024 /* instructions */

struct member {
    pid_t tid;
    enum sandbox_kind kind;
};

static struct {
    GMutex lock; /* covers members, starting and closing */
    GArray *members;
    unsigned starting;  /* threads that have been made and are no members yet */
    GCond started;
    _Atomic bool closed;
    unsigned features;
    void (*last_act)(void);
    struct { char *path; int fd; } kept[4];
    unsigned nkept;
    uint64_t keep;          /* capabilities */
    _Atomic int asked;      /* threads that have not answered yet */
    _Atomic int failed;     /* errno of one that could not */
} box;

static _Thread_local struct {
    enum sandbox_kind kind;
    bool inside; /* has its filter */
} self;

static const char *const kind_names[] = {
#define X(id, name, what) [SANDBOX_##id] = name,
    SANDBOX_KINDS(X)
#undef X
};

/* ---- inside the signal handler: only what is async-signal-safe ---- */

static int install(const struct sock_fprog *prog, unsigned flags)
{
    struct sock_filter code[FILTER_MAX];
    struct sock_fprog copy = { prog->len, code };
    uint32_t pid = (uint32_t)getpid();
    if (prog->len > FILTER_MAX)
        return E2BIG;
    for (unsigned i = 0; i < prog->len; i++) {
        code[i] = prog->filter[i];
        if (code[i].k == SANDBOX_SELF && BPF_CLASS(code[i].code) == BPF_JMP)
            code[i].k = pid;
    }
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &copy) ? errno : 0;
}

/* seccomp(main): capget capset */
static int drop_capabilities(void)
{
    struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct some[_LINUX_CAPABILITY_U32S_3] = { { 0 } };
    if (box.keep && syscall(SYS_capget, &header, some))
        return errno;
    for (unsigned i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
        some[i].effective = some[i].permitted = some[i].permitted & (uint32_t)(box.keep >> 32 * i);
        some[i].inheritable = 0;
    }
    return syscall(SYS_capset, &header, some) ? errno : 0;
}

/* The calling thread, whose kind is set, goes inside. */
static int enter(void)
{
    int err = drop_capabilities();
    if (!err && self.kind != SANDBOX_MAIN)
        err = install(&filters[self.kind], 0);
    self.inside = !err;
    return err;
}

static void answer_request(void)
{
    int err = enter();
    if (err)
        atomic_store(&box.failed, err);
    atomic_fetch_sub(&box.asked, 1);
    syscall(SYS_futex, &box.asked, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* The line is all that a user sees of the end, so it says who and what. The call made then is forbidden too; with SIGSYS
 * blocked, as it is here, the kernel ends the process with that signal. */
static G_GNUC_NORETURN void end_process(int call)
{
    char text[256];
    const char *name = call >= 0 && call < (int)G_N_ELEMENTS(call_names) && call_names[call] ? call_names[call] : "?";
    int n = snprintf(text, sizeof(text), "vireo-vmm: sandbox: a thread of kind '%s' made the system call %d (%s), which is not in its list; "
                     "the process ends. If you did nothing special, please report it; -sandbox off starts without\n", kind_names[self.kind], call, name);
    (void)!write(STDERR_FILENO, text, (size_t)n);
    if (box.last_act)
        box.last_act();
    for (;;)
        syscall(SYS_acct, NULL);
}

/* A file that was kept: a copy of its descriptor, at the beginning. Another one, to read: refused. Writing ends the process. */
static long on_open(int call, const char *path, long flags)
{
    if ((flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)))
        end_process(call);
    for (unsigned i = 0; i < box.nkept; i++) {
        if (strcmp(box.kept[i].path, path))
            continue;
        int fd = fcntl(box.kept[i].fd, F_DUPFD_CLOEXEC, 3);
        return fd < 0 || lseek(fd, 0, SEEK_SET) < 0 ? -EACCES : fd;
    }
    return -EACCES;
}

/* System call: number in RAX, arguments in RDI, RSI, RDX, R10 (syscall(2)); the result goes to RAX. */
static void on_forbidden(int call, ucontext_t *context)
{
    greg_t *r = context->uc_mcontext.gregs;
    if (call == SYS_openat)
        r[REG_RAX] = on_open(call, (const char *)r[REG_RSI], r[REG_RDX]);
    else if (call == SYS_open)
        r[REG_RAX] = on_open(call, (const char *)r[REG_RDI], r[REG_RSI]);
    else
        end_process(call);
}

static void on_sigsys(int sig, siginfo_t *info, void *context)
{
    int err = errno;
    if (info->si_code == SYS_SECCOMP)
        on_forbidden(info->si_syscall, context);
    else if (info->si_pid == getpid() && !self.inside && atomic_load(&box.closed))
        answer_request();
    errno = err;
}

/* ---- threads ---- */

struct start {
    enum sandbox_kind kind;
    bool inherited;
    GThreadFunc fn;
    void *opaque;
};

static void member_add(void)
{
    struct member m = { (pid_t)syscall(SYS_gettid), self.kind };
    g_mutex_lock(&box.lock);
    box.starting--;
    g_cond_signal(&box.started);
    if (!atomic_load(&box.closed)) {
        if (!box.members)
            box.members = g_array_new(FALSE, FALSE, sizeof(struct member));
        g_array_append_val(box.members, m);
        g_mutex_unlock(&box.lock);
        return;
    }
    g_mutex_unlock(&box.lock);
    if (self.inside)
        return;
    int err = enter();
    if (err)
        g_error("sandbox: a new thread of kind '%s' cannot go inside: %s", kind_names[self.kind], g_strerror(err));
}

static void member_remove(void)
{
    pid_t tid = (pid_t)syscall(SYS_gettid);
    g_mutex_lock(&box.lock);
    for (guint i = 0; box.members && i < box.members->len; i++) {
        if (g_array_index(box.members, struct member, i).tid == tid)
            g_array_remove_index_fast(box.members, i--);
    }
    g_mutex_unlock(&box.lock);
}

static void *run(void *opaque)
{
    struct start s = *(struct start *)opaque;
    g_free(opaque);
    self.kind = s.kind;
    self.inside = s.inherited;
    member_add();
    void *result = s.fn(s.opaque);
    member_remove();
    return result;
}

GThread *sandbox_thread_new(enum sandbox_kind kind, const char *name, GThreadFunc fn, void *opaque)
{
    struct start *s = g_new(struct start, 1);
    *s = (struct start){ kind, self.inside && self.kind == kind, fn, opaque };
    g_mutex_lock(&box.lock);
    box.starting++;
    g_mutex_unlock(&box.lock);
    return g_thread_new(name, run, s);
}

/* ---- closing ---- */

void sandbox_need(enum sandbox_feature feature)
{
    if (!sandbox_closed()) /* later it comes too late */
        box.features |= feature;
}

void sandbox_keep_capability(unsigned capability)
{
    box.keep |= UINT64_C(1) << capability;
}

void sandbox_set_last_act(void (*fn)(void))
{
    box.last_act = fn;
}

void sandbox_keep_file(const char *path)
{
    int fd = box.nkept < G_N_ELEMENTS(box.kept) ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    for (unsigned i = 0; i < box.nkept && fd >= 0; i++) {
        if (!strcmp(box.kept[i].path, path)) {
            close(fd);
            return;
        }
    }
    if (fd < 0)
        return;
    box.kept[box.nkept].path = g_strdup(path);
    box.kept[box.nkept++].fd = fd;
}

bool sandbox_closed(void)
{
    return atomic_load(&box.closed);
}

bool sandbox_possible(GError **error)
{
    return !SANITIZED || vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "a build with sanitizers has no sandbox: they make system calls of their own");
}

bool sandbox_may_open(const char *what, GError **error)
{
    return !sandbox_closed() || vireo_fail(error, VIREO_ERROR_PERMISSION, "%s: the sandbox opens nothing of the host once the machine is set up; pass an "
                                           "open descriptor (QMP getfd or add-fd), or start with -sandbox off", what);
}

bool sandbox_has(enum sandbox_feature feature)
{
    return !sandbox_closed() || (box.features & feature);
}

bool sandbox_may_make_sockets(const char *what, GError **error)
{
    return sandbox_has(SANDBOX_SOCKETS) || vireo_fail(error, VIREO_ERROR_PERMISSION, "%s: the sandbox of this machine makes no sockets of the host; pass a socket "
                                                      "(QMP getfd, address of type fd), or start with -sandbox off", what);
}

bool sandbox_may_open_image(const char *path, GError **error)
{
    return !sandbox_closed() || (box.features & SANDBOX_FILES) ||
           vireo_fail(error, VIREO_ERROR_PERMISSION, "%s: the sandbox of this process opens no file by name once the machine is set up; pass a descriptor (QMP add-fd, "
                      "file name /dev/fdset/N), or start with -sandbox on,files=on", path);
}

bool sandbox_drop_privileges(GError **error)
{
    for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) && errno == EPERM)
            break; /* not root: there is nothing to drop */
    }
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return vireo_fail_errno(error, errno, "-sandbox on: cannot give up new privileges");
    int err = drop_capabilities();
    return !err || vireo_fail_errno(error, err, "-sandbox on: cannot drop capabilities");
}

/* Each member installs its filter; returns when all have. A thread that ended meanwhile does not count. */
static int ask_members_locked(void)
{
    guint n = box.members ? box.members->len : 0;
    atomic_store(&box.asked, (int)n);
    for (guint i = 0; i < n; i++) {
        if (syscall(SYS_tgkill, getpid(), g_array_index(box.members, struct member, i).tid, SIGSYS))
            atomic_fetch_sub(&box.asked, 1);
    }
    for (int left; (left = atomic_load(&box.asked)) > 0;)
        syscall(SYS_futex, &box.asked, FUTEX_WAIT_PRIVATE, left, NULL, NULL, 0);
    return atomic_load(&box.failed);
}

bool sandbox_close(GError **error)
{
    struct sigaction sa = { .sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK };
    sigemptyset(&sa.sa_mask);
    if (!sandbox_possible(error) || !sandbox_drop_privileges(error))
        return false;
    if (sigaction(SIGSYS, &sa, NULL))
        return vireo_fail_errno(error, errno, "-sandbox on: SIGSYS");
    g_mutex_lock(&box.lock);
    while (box.starting)
        g_cond_wait(&box.started, &box.lock);
    int err = install(&main_filters[box.features], SECCOMP_FILTER_FLAG_TSYNC);
    if (!err) {
        self.inside = true;
        atomic_store(&box.closed, true);
        err = ask_members_locked();
    }
    g_mutex_unlock(&box.lock);
    return !err || vireo_fail_errno(error, err, "-sandbox on: this kernel does not take the filter of system calls; start with -sandbox off");
}
