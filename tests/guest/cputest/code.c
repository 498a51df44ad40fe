/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Code that changes: in place, through another mapping, by another thread, by another page at the same address. */
#define _GNU_SOURCE
#include "cputest.h"

#include <cpuid.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

typedef u32 (*function)(void);
#define RWX (PROT_READ | PROT_WRITE | PROT_EXEC)

/* mov $value, %eax; ret */
static void put(void *at, u32 value)
{
    u8 code[6] = { 0xb8, 0, 0, 0, 0, 0xc3 };
    memcpy(code + 1, &value, 4);
    memcpy(at, code, sizeof code);
}

static u8 *pages(int fd, u64 offset, int prot, unsigned n)
{
    return mmap(NULL, 4096 * n, prot, fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, fd, (off_t)offset);
}

static u32 call(const void *p)
{
    return ((function)(uintptr_t)p)();
}

static void rewrite(void)
{
    u8 *p = pages(-1, 0, RWX, 2);
    u32 wrong = 0;
    for (u32 i = 0; i < 3000; i++) {
        put(p + i % 64, i);
        wrong += call(p + i % 64) != i;
    }
    say("in place: wrong %u", wrong);
    for (u32 i = wrong = 0; i < 2000; i++) {
        put(p + 4096 - 3, i);
        wrong += call(p + 4096 - 3) != i;
    }
    say("across pages: wrong %u", wrong);
    /* an instruction that changes the next ones: the jump that follows is what makes it architectural */
    static const u8 next[] = { 0x31, 0xc0, 0xc6, 0x05, 0x02, 0, 0, 0, 7 /* movb $7, 2(%rip) */, 0xeb, 0, 0x04, 5 /* add $5, %al */, 0xc3 };
    memcpy(p, next, sizeof next);
    p[5 - 1] = 3; /* displacement: from the end of movb (9) to the immediate (12) */
    for (u32 i = wrong = 0; i < 200; i++) {
        p[12] = 5;
        wrong += call(p) != 7;
    }
    say("the next instruction: wrong %u", wrong);
    /* a loop that changes its own body: add $imm, %eax with imm incremented */
    static const u8 loop[] = { 0x31, 0xc0, 0xb9, 100, 0, 0, 0, 0x05, 1, 0, 0, 0, 0xff, 0x05, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xc9,
                               0x75, 0xf1, 0xc3 };
    memcpy(p + 100, loop, sizeof loop);
    say("a loop: %u", call(p + 100)); /* 1 + 2 + ... + 100 */
    /* data written beside the code by string instructions and locked operations */
    put(p, 99);
    for (u32 i = wrong = 0; i < 500; i++) {
        memset(p + 256, (int)i, 600);
        __asm__ volatile("lock incl %0" : "+m"(*(u32 *)(p + 1)) : : "cc");
        wrong += call(p) != 100 + i;
    }
    say("locked increment of code: wrong %u", wrong);
    u64 hi = 0, lo = 0;
    p[0] = 0xb8;
    for (u32 i = wrong = 0; i < 200; i++) {
        memcpy(&lo, p, 8), memcpy(&hi, p + 8, 8);
        u64 next_lo = (lo & ~0xffffffff00ull) | (u64)(7 * i) << 8;
        __asm__ volatile("lock cmpxchg16b %0" : "+m"(*(u8(*)[16])p), "+a"(lo), "+d"(hi) : "b"(next_lo), "c"(hi) : "cc");
        wrong += call(p) != 7 * i;
        __asm__ volatile("movups %1, %%xmm0\n movups %%xmm0, %0\n" : "=m"(*(u8(*)[16])(p + 16)) : "m"(*(u8(*)[16])p) : "xmm0");
        wrong += call(p + 16) != 7 * i;
    }
    say("cmpxchg16b and movups on code: wrong %u", wrong);
}

static void alias(void)
{
    int fd = memfd_create("code", 0);
    if (ftruncate(fd, 8192))
        say("no file");
    u8 *w = pages(fd, 0, PROT_READ | PROT_WRITE, 2), *e = pages(fd, 0, PROT_READ | PROT_EXEC, 2);
    u32 wrong = 0;
    for (u32 i = 0; i < 3000; i++) {
        put(w + i % 128, i);
        wrong += call(e + i % 128) != i;
    }
    say("two mappings: wrong %u", wrong);
    for (u32 i = wrong = 0; i < 500; i++) {
        put((u8[16]){ 0 }, 0);
        u8 code[6] = { 0xb8, (u8)i, (u8)(i >> 8), 0, 0, 0xc3 };
        if (pwrite(fd, code, 6, 4000) != 6)
            wrong++;
        wrong += call(e + 4000) != i;
    }
    say("written by the kernel: wrong %u", wrong);
    put(w, 111);
    put(w + 4096, 222);
    for (u32 i = wrong = 0; i < 300; i++) {
        mmap(e, 4096, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, fd, i & 1 ? 4096 : 0);
        wrong += call(e) != (i & 1 ? 222u : 111u);
    }
    say("another page at the address: wrong %u", wrong);
    munmap(e, 4096);
    struct finish f;
    static const struct start s;
    snippet(e, &s, &f);
    say("unmapped: signal %d code %d error %lx there %d", f.sig, f.code, f.regs[19], f.addr == (u64)(uintptr_t)e);
}

static void protection(void)
{
    u8 *p = pages(-1, 0, PROT_READ | PROT_WRITE, 1);
    u32 wrong = 0;
    static const struct start s;
    struct finish f;
    for (u32 i = 0; i < 150; i++) {
        mprotect(p, 4096, PROT_READ | PROT_WRITE);
        put(p, i);
        snippet(p, &s, &f);
        wrong += f.sig != SIGSEGV || f.code != SEGV_ACCERR || f.regs[19] != 0x15;
        mprotect(p, 4096, PROT_READ | PROT_EXEC);
        wrong += call(p) != i;
    }
    say("toggles: wrong %u", wrong);
    mprotect(p, 4096, RWX);
    for (u32 i = wrong = 0; i < 60; i++) {
        put(p, i);
        wrong += call(p) != i;
        pid_t pid = fork();
        if (pid == 0) {
            put(p, i + 1000);
            _exit(call(p) != i + 1000);
        }
        wrong += call(p) != i;
        int status;
        waitpid(pid, &status, 0);
        wrong += status != 0;
        wrong += call(p) != i;
    }
    say("fork: wrong %u", wrong);
}

/* --- another thread changes the code: it writes, says so, and the runner executes CPUID first (SDM vol. 3, 8.1.3) --- */

static atomic_uint want, have;
static u8 *shared_code;

static void *runner(void *arg)
{
    u64 wrong = 0;
    unsigned eax, ebx, ecx, edx;
    (void)arg;
    pin(1);
    for (u32 i = 1; i <= 800; i++) {
        while (atomic_load(&want) != i)
            sched_yield();
        __cpuid(0, eax, ebx, ecx, edx);
        wrong += call(shared_code) != i;
        atomic_store(&have, i);
    }
    return (void *)(uintptr_t)wrong;
}

static void cross_thread(void)
{
    pthread_t th;
    void *wrong;
    shared_code = pages(-1, 0, RWX, 1);
    pthread_create(&th, NULL, runner, NULL);
    pin(0);
    for (u32 i = 1; i <= 800; i++) {
        put(shared_code, i);
        atomic_store(&want, i);
        while (atomic_load(&have) != i)
            sched_yield();
    }
    pthread_join(th, &wrong);
    say("wrong %lu", (u64)(uintptr_t)wrong);
}

/* One thread runs code that always returns one of two values while the other patches a four-byte immediate atomically. */
static atomic_bool stop_patching;

static void *patched(void *arg)
{
    u64 wrong = 0;
    (void)arg;
    pin(1);
    while (!atomic_load(&stop_patching))
        for (int i = 0; i < 100; i++) {
            u32 v = call(shared_code + 3);
            wrong += v != 0x11111111 && v != 0x22222222;
        }
    return (void *)(uintptr_t)wrong;
}

static void patching(void)
{
    pthread_t th;
    void *wrong;
    shared_code = pages(-1, 0, RWX, 1);
    put(shared_code + 3, 0x11111111);
    pthread_create(&th, NULL, patched, NULL);
    pin(0);
    for (u32 i = 0; i < 5000; i++) {
        *(volatile u32 *)(shared_code + 4) = i & 1 ? 0x22222222 : 0x11111111;
        if (i % 50 == 0)
            sched_yield();
    }
    stop_patching = true;
    pthread_join(th, &wrong);
    say("torn %lu", (u64)(uintptr_t)wrong);
}

const struct subtest code_tests[] = {
    { "rewrite", rewrite }, { "alias", alias }, { "protection", protection }, { "cross_thread", cross_thread },
    { "patching", patching }, { 0 },
};
