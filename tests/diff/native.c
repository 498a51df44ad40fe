/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Runs a case on the host's CPU: a child process enters it by returning from a signal handler whose frame holds the wanted
 * registers, and leaves it by the signal that the final UD2, or a fault, raises. The children are those of a process that was made
 * before there was anything else: a fork of one with guests and their code takes many times as long. */
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "diff.h"

/* ucontext's order of registers, by x86's encoding number. */
static const int greg_of[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                 REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };

static const struct diff_state *start; /* what the handlers work on: a signal handler has no other way */
static struct diff_state *result;

static void on_enter(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    (void)sig, (void)info;
    for (unsigned i = 0; i < 16; i++)
        uc->uc_mcontext.gregs[greg_of[i]] = (greg_t)start->gpr[i];
    uc->uc_mcontext.gregs[REG_RIP] = (greg_t)start->rip;
    uc->uc_mcontext.gregs[REG_EFL] = (greg_t)start->rflags;
    uint8_t *fp = (uint8_t *)uc->uc_mcontext.fpregs;
    memcpy(fp, start->fxsave, 416); /* the rest of the frame's area is the kernel's, */
    fp[512] |= 3;                   /* but XSTATE_BV must say that these two components are there */
}

static void on_stop(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    (void)sig, (void)info;
    for (unsigned i = 0; i < 16; i++)
        result->gpr[i] = (uint64_t)uc->uc_mcontext.gregs[greg_of[i]];
    result->rip = (uint64_t)uc->uc_mcontext.gregs[REG_RIP];
    result->rflags = (uint64_t)uc->uc_mcontext.gregs[REG_EFL];
    memcpy(result->fxsave, uc->uc_mcontext.fpregs, 416);
    memcpy(result->data, (void *)DIFF_DATA, DIFF_DATA_SIZE);
    _exit(0);
}

static void child(const struct diff_case *c)
{
    void *code_at = (void *)(DIFF_CODE + c->shift), *data_at = (void *)(DIFF_DATA + c->shift);
    int fd = memfd_create("data", 0);
    void *code = mmap(code_at, DIFF_CODE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (fd < 0 || ftruncate(fd, DIFF_DATA_SIZE) || code != code_at)
        _exit(2);
    void *data = mmap((void *)DIFF_DATA, DIFF_DATA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
    if (data != (void *)DIFF_DATA)
        _exit(2);
    if (c->shift && mmap(data_at, DIFF_DATA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0) != data_at)
        _exit(2);
    memcpy(code, c->code, DIFF_CODE_SIZE);
    memcpy(data, start->data, DIFF_DATA_SIZE);
    stack_t ss = { .ss_sp = malloc(262144), .ss_size = 262144 };
    sigaltstack(&ss, NULL);
    struct sigaction sa = { .sa_sigaction = on_stop, .sa_flags = SA_SIGINFO | SA_ONSTACK };
    const int stops[] = { SIGILL, SIGSEGV, SIGBUS, SIGFPE, SIGTRAP };
    for (unsigned i = 0; i < sizeof(stops) / sizeof(stops[0]); i++)
        sigaction(stops[i], &sa, NULL);
    sa.sa_sigaction = on_enter;
    sigaction(SIGUSR1, &sa, NULL);
    alarm(5);
    raise(SIGUSR1);
    _exit(3);
}

/* What the two processes share: the case, and what became of it. */
struct exchange {
    struct diff_case c;
    struct diff_state init, result;
};
static struct exchange *exchange;
static int line = -1; /* to the process that begins the children */

static _Noreturn void serve(int fd)
{
    uint8_t byte;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    start = &exchange->init;
    result = &exchange->result;
    while (read(fd, &byte, 1) == 1) {
        int status;
        pid_t pid = fork();
        if (pid == 0)
            child(&exchange->c);
        byte = pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && !WEXITSTATUS(status);
        if (write(fd, &byte, 1) != 1)
            break;
    }
    _exit(0);
}

bool diff_native_begin(void)
{
    int fds[2];
    exchange = mmap(NULL, sizeof(*exchange), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (exchange == MAP_FAILED || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
        return false;
    pid_t pid = fork();
    if (pid == 0) {
        close(fds[0]);
        serve(fds[1]);
    }
    close(fds[1]);
    line = fds[0];
    return pid > 0;
}

bool diff_native(const struct diff_case *c, const struct diff_state *init, struct diff_state *ret)
{
    uint8_t byte = 0;
    exchange->c = *c;
    exchange->init = *init;
    if (write(line, &byte, 1) != 1 || read(line, &byte, 1) != 1 || !byte)
        return false;
    *ret = exchange->result;
    return true;
}
