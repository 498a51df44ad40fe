/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs a program and writes a line for each thing of the host that it or one of its threads opens by a name: files, and
 * connections to addresses. A seccomp filter hands these calls to this tracer (ptrace(2), PTRACE_EVENT_SECCOMP).
 *
 * usage: opens LOG PROGRAM [ARGUMENT]...
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

/* Which argument is the path; -1: none to show. */
static const struct { long call; int path; const char *name; } watched[] = {
    { SYS_open, 0, "open" }, { SYS_openat, 1, "openat" }, { SYS_openat2, 1, "openat2" }, { SYS_creat, 0, "creat" }, { SYS_connect, -1, "connect" },
    { SYS_open_by_handle_at, -1, "open_by_handle_at" }, { SYS_bind, -1, "bind" }, { SYS_execve, 0, "execve" }, { SYS_execveat, 1, "execveat" },
};
#define N (sizeof(watched) / sizeof(watched[0]))

static void watch(void)
{
    struct sock_filter code[N + 3] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)) };
    for (unsigned i = 0; i < N; i++)
        code[1 + i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)watched[i].call, (unsigned char)(N - i), 0);
    code[N + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[N + 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
    struct sock_fprog prog = { N + 3, code };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog)) {
        perror("opens: seccomp");
        _exit(126);
    }
}

static void report(FILE *log, pid_t pid)
{
    struct user_regs_struct r;
    char path[4096] = "";
    if (ptrace(PTRACE_GETREGS, pid, NULL, &r))
        return;
    for (unsigned i = 0; i < N; i++) {
        if (watched[i].call != (long)r.orig_rax)
            continue;
        struct iovec to = { path, sizeof(path) - 1 }, from = { (void *)(watched[i].path ? r.rsi : r.rdi), sizeof(path) - 1 };
        while (watched[i].path >= 0 && process_vm_readv(pid, &to, 1, &from, 1, 0) < 0 && from.iov_len > 1)
            from.iov_len = 4096 - ((size_t)from.iov_base & 4095) < from.iov_len ? 4096 - ((size_t)from.iov_base & 4095) : from.iov_len / 2;
        fprintf(log, "%s %s\n", watched[i].name, path);
        fflush(log);
    }
}

int main(int argc, char **argv)
{
    int status, result = 1;
    if (argc < 3)
        return 2;
    FILE *log = fopen(argv[1], "we");
    pid_t child = fork();
    if (!log || child < 0) {
        perror("opens");
        return 126;
    }
    if (!child) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        watch();
        execv(argv[2], argv + 2);
        perror(argv[2]);
        _exit(126);
    }
    waitpid(child, &status, 0);
    ptrace(PTRACE_SETOPTIONS, child, NULL, PTRACE_O_TRACESECCOMP | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_EXITKILL);
    ptrace(PTRACE_CONT, child, NULL, NULL);
    for (pid_t pid; (pid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR;) {
        if (pid < 0)
            continue;
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            if (pid == child)
                result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            continue;
        }
        int sig = WSTOPSIG(status), event = status >> 16;
        if (event == PTRACE_EVENT_SECCOMP)
            report(log, pid);
        /* Stops of the tracer's own are not the program's signals; a new thread begins with one. */
        ptrace(PTRACE_CONT, pid, NULL, (void *)(long)(event || sig == SIGSTOP || sig == SIGTRAP ? 0 : sig));
    }
    return result;
}
