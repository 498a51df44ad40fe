/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Runs a piece of code in a state of our choice and catches it at its fault. A signal handler writes the state into its
 * own frame and returns into the code; the fault's handler reads the frame and puts the first one back. */
#define _GNU_SOURCE
#include "cputest.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define TF 0x100u
#define MAX_STEPS 100000

static const struct start *begin;
static struct finish *finish;
static const void *entry;
static int phase;
static greg_t home[23];
static u8 home_fp[512];
static u8 alt_stack[65536] __attribute__((aligned(64)));

static void must_map(u64 at, size_t size, int prot)
{
    if (mmap((void *)at, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
        abort();
}

void arena_fill(void)
{
    mprotect((void *)RDONLY, 4096, PROT_READ | PROT_WRITE);
    for (unsigned i = 0; i < 4 * 4096; i++)
        ((u8 *)ARENA)[i] = (u8)(i * 7 + i / 256);
    for (unsigned i = 0; i < 4096; i++)
        ((u8 *)RDONLY)[i] = ((u8 *)DATA)[i] = (u8)(i * 11 + 3);
    mprotect((void *)RDONLY, 4096, PROT_READ);
    memset((void *)STACK, 0x5a, STACK_TOP - STACK);
}

void arena_map(void)
{
    must_map(ARENA, 4 * 4096, PROT_READ | PROT_WRITE);
    must_map(RDONLY, 4096, PROT_READ);
    must_map(DATA, 4096, PROT_READ | PROT_WRITE);
    must_map(STACK, STACK_TOP - STACK, PROT_READ | PROT_WRITE);
    arena_fill();
}

static void set_registers(greg_t *g)
{
    static const u8 order[] = { REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RSI, REG_RDI, REG_RBP };
    const u64 *values = &begin->ax;
    for (unsigned i = 0; i < sizeof order; i++)
        g[order[i]] = (greg_t)values[i];
    for (unsigned i = 0; i < 8; i++)
        g[REG_R8 + i] = (greg_t)(0x8888000000000000ull + i);
    g[REG_RSP] = (greg_t)(begin->sp ? begin->sp : STACK_TOP - 0x1000);
    g[REG_RIP] = (greg_t)(uintptr_t)entry;
    g[REG_EFL] = (greg_t)(begin->flags | 0x202);
    u64 selectors = (u64)g[REG_CSGSFS];
    if (begin->cs)
        selectors = (selectors & ~0xffffull) | begin->cs;
    if (begin->ss)
        selectors = (selectors & ~(0xffffull << 48)) | (u64)begin->ss << 48;
    g[REG_CSGSFS] = (greg_t)selectors;
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    greg_t *g = uc->uc_mcontext.gregs;
    u8 *fp = (u8 *)uc->uc_mcontext.fpregs;
    if (phase == 0) {
        memcpy(home, g, sizeof home);
        memcpy(home_fp, fp, sizeof home_fp);
        set_registers(g);
        if (begin->mxcsr)
            memcpy(fp + 24, &begin->mxcsr, 4);
        if (begin->fcw)
            memcpy(fp, &begin->fcw, 2);
        phase = 1;
        return;
    }
    if (sig == SIGTRAP && info->si_code == TRAP_TRACE && (begin->flags & TF) && finish->steps < MAX_STEPS) {
        finish->steps++;
        finish->step_hash = (finish->step_hash ^ ((u64)g[REG_RIP] - (uintptr_t)entry)) * 0x100000001b3ull;
        return;
    }
    finish->sig = sig;
    finish->code = info->si_code;
    finish->addr = (uintptr_t)info->si_addr;
    memcpy(finish->regs, g, sizeof finish->regs);
    memcpy(&finish->fcw, fp, 2);
    memcpy(&finish->fsw, fp + 2, 2);
    memcpy(&finish->mxcsr, fp + 24, 4);
    memcpy(g, home, sizeof home);
    memcpy(fp, home_fp, sizeof home_fp - 48); /* the last bytes describe the frame */
    phase = 2;
}

void snippet(const void *code, const struct start *start, struct finish *ret)
{
    static const int signals[] = { SIGUSR1, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP };
    stack_t ss = { .ss_sp = alt_stack, .ss_size = sizeof alt_stack };
    struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK };
    sigaltstack(&ss, NULL);
    for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++)
        sigaction(signals[i], &sa, NULL);
    memset(ret, 0, sizeof *ret);
    begin = start;
    finish = ret;
    entry = code;
    phase = 0;
    raise(SIGUSR1);
}

void show(const char *what, const void *code, const struct start *start)
{
    static const struct { u8 reg; const char *name; } names[] = {
        { REG_RAX, "ax" }, { REG_RBX, "bx" }, { REG_RCX, "cx" }, { REG_RDX, "dx" }, { REG_RSI, "si" }, { REG_RDI, "di" },
        { REG_RBP, "bp" }, { REG_RSP, "sp" } };
    struct finish f;
    char regs[300] = "";
    const u64 *in = &start->ax;
    arena_fill();
    snippet(code, start, &f);
    for (unsigned i = 0; i < 8; i++) {
        u64 before = i == 7 && !in[i] ? STACK_TOP - 0x1000 : in[i], after = f.regs[names[i].reg];
        if (i == 7 && start->ss)
            before &= 0xffff, after &= 0xffff; /* the upper half leaks through a 16-bit stack, and differs */
        if (before != after)
            sprintf(regs + strlen(regs), " %s=%lx", names[i].name, after);
    }
    for (unsigned i = 0; i < 8; i++)
        if (f.regs[REG_R8 + i] != 0x8888000000000000ull + i)
            sprintf(regs + strlen(regs), " r%u=%lx", 8 + i, f.regs[REG_R8 + i]);
    u64 memory = hash_bytes((void *)ARENA, 4 * 4096) ^ hash_bytes((void *)DATA, 4096) ^ hash_bytes((void *)STACK, STACK_TOP - STACK);
    u64 trap = f.regs[REG_TRAPNO], mask = 0x54500u | start->keep_flags; /* AC RF NT DF TF */
    bool addr = f.sig == SIGSEGV || f.sig == SIGBUS;
    char step[80] = "", addr_text[60] = "";
    if (addr)
        snprintf(addr_text, sizeof addr_text, " addr %lx", f.addr);
    else if (f.addr)
        snprintf(addr_text, sizeof addr_text, " at +%lx", f.addr - (uintptr_t)code);
    if (trap == 14)
        sprintf(addr_text + strlen(addr_text), " cr2 %lx", f.regs[REG_CR2]);
    if (start->flags & TF)
        snprintf(step, sizeof step, " steps %u rips %lx", f.steps, f.step_hash);
    say("%s: signal %d code %d trap %lu error %lx%s rip %+ld cs %lx flags %lx mxcsr %x x87 %x/%x memory %lx%s%s", what, f.sig,
        f.code, trap, f.regs[REG_ERR], addr_text, (long)(f.regs[REG_RIP] - (uintptr_t)code), f.regs[REG_CSGSFS] & 0xffff,
        f.regs[REG_EFL] & mask, f.mxcsr, f.fcw, f.fsw & 0x80ffu,
        start->any_memory ? 0 : memory, step, regs);
}
