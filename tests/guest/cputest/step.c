/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Single step and debug registers: by the trap flag in our own frame, and by a tracer. */
#define _GNU_SOURCE
#include "cputest.h"

#include <stddef.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define P(name, text, ...) CODE(c_##name, text); static const struct start s_##name = { .flags = 0x100, __VA_ARGS__ }
#define S(name) show(#name, c_##name, &s_##name)

P(plain, "nop\nxor %eax, %eax\n1: inc %eax\ncmp $5, %eax\njne 1b\ncall 2f\njmp 3f\n2: ret\n3: nop");
P(movsb, "rep movsb\nnop", .si = ARENA, .di = ARENA + 64, .cx = 5);
P(movsb0, "rep movsb\nnop", .si = ARENA, .di = ARENA + 64);
P(stosq, "rep stosq\nnop", .di = ARENA + 64, .cx = 3);
P(scasb, "repne scasb\nnop", .di = ARENA + 64, .cx = 30, .ax = 0xd9, .keep_flags = 0x40);
P(cmpsb, "repe cmpsb\nnop", .si = ARENA, .di = ARENA, .cx = 4, .keep_flags = 0x40);
P(lodsb, "rep lodsb\nnop", .si = ARENA, .cx = 4);
P(movs_hole, "rep movsb\nnop", .si = ARENA, .di = HOLE - 3, .cx = 9);
P(pushf, "pushfq\npop %rax\nand $0x10100, %eax\nnop");
P(popf_clear, "pushfq\nandl $~0x100, (%rsp)\npopfq\nnop\nnop\npushfq\npop %rax\nand $0x100, %eax");
P(popf_keep, "pushfq\npopfq\nnop\nnop");
P(syscall, "movl $39, %eax\nsyscall\nnop\nxor %eax, %eax\nxor %ecx, %ecx\nand $0x100, %r11d\nnop");
P(int80, "movl $20, %eax\nint $0x80\nnop\nxor %eax, %eax");
P(mov_ss, "mov %ss, %eax\nmov %eax, %ss\nnop\nnop\nxor %eax, %eax");
P(mov_ss_twice, "mov %ss, %eax\nmov %eax, %ss\nmov %eax, %ss\nnop\nnop");
P(iret, "mov %rsp, %rbx\nmov %ss, %eax\npush %rax\npush %rbx\npushfq\nmov %cs, %eax\npush %rax\nlea 1f(%rip), %rax\npush %rax\niretq\n"
  "1: nop\nnop\nxor %eax, %eax");
P(iret_clear, "mov %rsp, %rbx\nmov %ss, %eax\npush %rax\npush %rbx\npushfq\nandl $~0x100, (%rsp)\nmov %cs, %eax\npush %rax\n"
  "lea 1f(%rip), %rax\npush %rax\niretq\n1: nop\nnop\nxor %eax, %eax");
P(int3, "nop\nint3\nnop");
P(div0, "nop\ndiv %ecx");
P(cpuid, "xor %eax, %eax\ncpuid\nxor %eax,%eax\nxor %ebx,%ebx\nxor %ecx,%ecx\nxor %edx,%edx");
P(jumps, "mov $3, %ecx\n1: loop 1b\njrcxz 2f\nnop\n2: lea 3f(%rip), %rax\njmp *%rax\nnop\n3: push $0\npush %rax\nmovl $4, %ecx\n"
  "cmp %ecx, %ecx\nje 4f\nnop\n4: cmovne %rbx, %rax\nlock xadd %ecx, (%rsp)");
P(fpu, "fld1\nfadd %st\nfstp %st(0)\nmovaps (%rbx), %xmm0\npaddd %xmm0, %xmm0\nmovaps %xmm0, (%rbx)", .bx = ARENA);
CODE(c_popf_set, "pushfq\norl $0x100, (%rsp)\npopfq\nnop\nnop");
static const struct start s_popf_set = { .ax = 1 };

static void trap_flag(void)
{
    S(plain); S(movsb); S(movsb0); S(stosq); S(scasb); S(cmpsb); S(lodsb); S(movs_hole); S(pushf); S(popf_clear); S(popf_keep);
    S(syscall); S(int80); S(mov_ss); S(mov_ss_twice); S(iret); S(iret_clear); S(int3); S(div0); S(cpuid); S(jumps); S(fpu);
    S(popf_set);
}

/* --- a tracer --- */

extern const u8 traced[], traced_end[], traced_load[], traced_store[], traced_rep[], traced_mid[];
__asm__(".pushsection .text\n"
        "traced: push %rbx\n mov $0x20000000, %ebx\n mov $3, %ecx\n"
        "1: dec %ecx\n jnz 1b\n"
        "traced_load: movl (%rbx), %eax\n nop\n"
        "traced_store: movl %eax, (%rbx)\n nop\n movb %al, 1(%rbx)\n nop\n movw %ax, 7(%rbx)\n nop\n movq %rax, 8(%rbx)\n nop\n"
        " addl $1, 4(%rbx)\n nop\n movups (%rbx), %xmm0\n nop\n movups %xmm0, 16(%rbx)\n nop\n lock incl 24(%rbx)\n nop\n"
        " push 8(%rbx)\n pop 32(%rbx)\n nop\n cmpxchg %ecx, (%rbx)\n nop\n mov %rbx, %rdi\n mov $6, %ecx\n"
        "traced_rep: rep stosb\n nop\n mov $39, %eax\n syscall\n nop\n"
        "traced_mid: nop\n pop %rbx\n"
        "traced_end: ret\n.popsection");

static pid_t start_traced(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        __asm__ volatile("sub $128, %%rsp\n call traced\n add $128, %%rsp"
                         : : : "rax", "rcx", "rdi", "rdx", "r11", "xmm0", "memory", "cc");
        _exit(7);
    }
    int status;
    waitpid(pid, &status, 0);
    return pid;
}

static long poke(pid_t pid, unsigned reg, u64 value)
{
    return ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg) + 8 * reg, value);
}

/* DR7 for breakpoint n: rw 0 execute, 1 write, 3 read or write; length code. */
static u64 dr7(unsigned n, unsigned rw, unsigned size)
{
    unsigned len = size == 8 ? 2 : size - 1;
    return 1ull << (2 * n) | (u64)(rw | len << 2) << (16 + 4 * n);
}

/* Runs to the end and names each stop. */
static void follow(const char *what, pid_t pid)
{
    char text[400];
    int status, at = 0, stops = 0;
    for (;;) {
        ptrace(PTRACE_CONT, pid, 0, 0);
        waitpid(pid, &status, 0);
        if (!WIFSTOPPED(status) || ++stops > 20)
            break;
        struct user_regs_struct regs;
        ptrace(PTRACE_GETREGS, pid, 0, &regs);
        u64 dr6 = (u64)ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, u_debugreg) + 48, 0);
        siginfo_t info;
        ptrace(PTRACE_GETSIGINFO, pid, 0, &info);
        at += snprintf(text + at, sizeof text - (size_t)at, " %+ld(dr6 %lx code %d%s cx %llx)", (long)(regs.rip - (uintptr_t)traced),
                       dr6 & 0xf00f, info.si_code, regs.eflags & 0x10000 ? " RF" : "", regs.rip < (uintptr_t)traced_mid ? regs.rcx : 0);
        poke(pid, 6, 0);
        if (at > 340)
            break;
    }
    say("%s:%s; end %x", what, at ? text : " none", WIFEXITED(status) ? WEXITSTATUS(status) : 0x1000 + WTERMSIG(status));
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
}

static void breakpoint(const char *what, u64 at, unsigned rw, unsigned size)
{
    pid_t pid = start_traced();
    long a = poke(pid, 1, at), b = poke(pid, 7, dr7(1, rw, size));
    if (a || b)
        say("%s: POKEUSER fails", what);
    follow(what, pid);
}

static void breakpoints(void)
{
    breakpoint("execute", (uintptr_t)traced, 0, 1);
    breakpoint("execute a load", (uintptr_t)traced_load, 0, 1);
    breakpoint("execute a repeated store", (uintptr_t)traced_rep, 0, 1);
    breakpoint("execute return", (uintptr_t)traced_end, 0, 1);
    breakpoint("execute in a loop", (uintptr_t)traced + 11, 0, 1);
    breakpoint("write 1", ARENA + 1, 1, 1);
    breakpoint("write 2", ARENA + 8, 1, 2);
    breakpoint("write 4", ARENA + 4, 1, 4);
    breakpoint("write 8", ARENA + 8, 1, 8);
    breakpoint("access 1", ARENA + 3, 3, 1);
    breakpoint("access 4", ARENA + 24, 3, 4);
    breakpoint("access 8", ARENA, 3, 8);
    breakpoint("write on the stack by push", ARENA + 32, 3, 8);
    pid_t pid = start_traced();
    poke(pid, 0, (uintptr_t)traced_store);
    poke(pid, 1, ARENA);
    poke(pid, 2, ARENA + 2);
    poke(pid, 3, ARENA + 16);
    poke(pid, 7, dr7(0, 0, 1) | dr7(1, 1, 4) | dr7(2, 3, 2) | dr7(3, 1, 8));
    follow("four at once", pid);
}

static void singlestep(void)
{
    pid_t pid = start_traced();
    int status, steps = 0;
    u64 hash = 0;
    poke(pid, 0, (uintptr_t)traced);
    poke(pid, 7, dr7(0, 0, 1));
    ptrace(PTRACE_CONT, pid, 0, 0);
    waitpid(pid, &status, 0);
    poke(pid, 7, 0);
    struct user_regs_struct regs;
    do {
        ptrace(PTRACE_SINGLESTEP, pid, 0, 0);
        waitpid(pid, &status, 0);
        ptrace(PTRACE_GETREGS, pid, 0, &regs);
        hash = (hash ^ (regs.rip - (uintptr_t)traced)) * 0x100000001b3ull;
        hash ^= regs.eflags & 0x10100;
    } while (WIFSTOPPED(status) && regs.rip != (uintptr_t)traced_end && ++steps < 500);
    say("steps %d hash %lx", steps, hash);
    /* with breakpoints on as well: both bits of DR6 */
    poke(pid, 1, ARENA);
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);

    pid = start_traced();
    poke(pid, 0, (uintptr_t)traced);
    poke(pid, 1, ARENA);
    poke(pid, 7, dr7(0, 0, 1) | dr7(1, 1, 4));
    ptrace(PTRACE_CONT, pid, 0, 0);
    waitpid(pid, &status, 0);
    hash = steps = 0;
    do {
        ptrace(PTRACE_SINGLESTEP, pid, 0, 0);
        waitpid(pid, &status, 0);
        ptrace(PTRACE_GETREGS, pid, 0, &regs);
        u64 dr6 = (u64)ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, u_debugreg) + 48, 0) & 0xf00f;
        poke(pid, 6, 0);
        hash = (hash ^ (regs.rip - (uintptr_t)traced) ^ dr6 << 20) * 0x100000001b3ull;
    } while (WIFSTOPPED(status) && regs.rip != (uintptr_t)traced_end && ++steps < 500);
    say("with breakpoints: steps %d hash %lx", steps, hash);
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
}

const struct subtest step_tests[] = {
    { "trap_flag", trap_flag }, { "breakpoints", breakpoints }, { "singlestep", singlestep }, { 0 },
};
