/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Address spaces: mappings that come and go under several threads, processes that fork, vfork and exec. */
#define _GNU_SOURCE
#include "cputest.h"

#include <pthread.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static atomic_int errors;
static _Atomic(u64 *) window;

static void *mapper(void *arg)
{
    u64 seed = (u64)(uintptr_t)arg + 1;
    pin((unsigned)seed);
    for (unsigned round = 0; round < 150; round++) {
        unsigned n = 1 + (unsigned)(seed % 13);
        u64 *p = mmap(NULL, n * 4096ul, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (unsigned i = 0; i < n * 512; i += 64) {
            errors += p[i] != 0;
            p[i] = seed ^ i;
        }
        mprotect(p, 4096, PROT_READ);
        for (unsigned i = 0; i < n * 512; i += 64)
            errors += p[i] != (seed ^ i);
        if (n > 1)
            madvise(p + 512, 4096, MADV_DONTNEED), errors += p[512] != 0;
        munmap(p, n * 4096ul);
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    }
    return NULL;
}

/* Reads a window that the main thread moves between two pages: a value of one or the other, and after the change was
 * announced never of the old one. */
static atomic_uint epoch, seen;

static void *watcher(void *arg)
{
    (void)arg;
    pin(1);
    for (u32 i = 1; i <= 150; i++) {
        while (atomic_load(&epoch) < i)
            sched_yield();
        errors += *(volatile u64 *)window != i % 2;
        atomic_store(&seen, i);
    }
    return NULL;
}

static void shootdown(void)
{
    pthread_t th[5];
    for (uintptr_t i = 0; i < 4; i++)
        pthread_create(&th[i], NULL, mapper, (void *)i);
    for (int i = 0; i < 4; i++)
        pthread_join(th[i], NULL);
    say("mappings: errors %d", atomic_load(&errors));
    int fd = memfd_create("pages", 0);
    u64 value[1024] = { 0 };
    value[512] = 1;
    if (write(fd, value, sizeof value) != sizeof value)
        say("no file");
    u64 *p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    window = p;
    pthread_create(&th[4], NULL, watcher, NULL);
    pin(0);
    for (u32 i = 1; i <= 150; i++) {
        mmap(p, 4096, PROT_READ, MAP_SHARED | MAP_FIXED, fd, i % 2 * 4096);
        atomic_store(&epoch, i);
        while (atomic_load(&seen) < i)
            sched_yield();
    }
    pthread_join(th[4], NULL);
    say("window: errors %d", atomic_load(&errors));
}

static sigjmp_buf back;

static void on_segv(int sig, siginfo_t *info, void *context)
{
    (void)context;
    errors += sig != SIGSEGV || info->si_code != SEGV_ACCERR;
    siglongjmp(back, 1);
}

static void write_protect(void)
{
    struct sigaction sa = { .sa_sigaction = on_segv, .sa_flags = SA_SIGINFO };
    volatile unsigned faults = 0;
    u8 *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sigaction(SIGSEGV, &sa, NULL);
    for (volatile int i = 0; i < 300; i++) {
        p[5] = (u8)i;
        mprotect(p, 4096, PROT_READ);
        if (!sigsetjmp(back, 1))
            p[5] = 99;
        else
            faults++;
        errors += p[5] != (u8)i;
        mprotect(p, 4096, PROT_READ | PROT_WRITE);
    }
    say("faults %u errors %d", faults, atomic_load(&errors));
}

static void processes(void)
{
    volatile int sum = 0;
    int status;
    char *shell[] = { "sh", "-c", "exit 3", NULL };
    volatile int shared = 0;
    for (volatile int i = 0; i < 10; i++) {
        pid_t pid = vfork();
        if (pid == 0) {
            shared++;
            execv("/bin/sh", shell);
            _exit(100);
        }
        waitpid(pid, &status, 0);
        sum += WEXITSTATUS(status);
    }
    say("vfork and exec: %d, the parent's variable %d", sum, shared);
    static int counter;
    u8 *big = malloc(1 << 20);
    memset(big, 1, 1 << 20);
    for (int i = sum = 0; i < 20; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            counter += 7;
            memset(big, 2, 1 << 18);
            _exit(counter + big[0] + big[(1 << 20) - 1]);
        }
        counter++;
        memset(big + 4096 * i, 1, 4096);
        waitpid(pid, &status, 0);
        sum += WEXITSTATUS(status);
    }
    say("fork: %d %d, data %lx", sum, counter, hash_bytes(big, 1 << 16));
}

static volatile int depth;
static int on_alt;

static void on_overflow(int sig, siginfo_t *info, void *context)
{
    char here;
    (void)sig, (void)context, (void)info;
    u8 *p = (u8 *)&here;
    stack_t ss;
    sigaltstack(NULL, &ss);
    on_alt = p >= (u8 *)ss.ss_sp && p < (u8 *)ss.ss_sp + ss.ss_size && (ss.ss_flags & SS_ONSTACK);
    siglongjmp(back, 1);
}

static int recurse(int n)
{
    volatile char room[4096];
    room[0] = (char)n;
    depth = n;
    return n < 1 << 30 ? recurse(n + 1) + room[0] : 0;
}

static void alternate_stack(void)
{
    struct sigaction sa = { .sa_sigaction = on_overflow, .sa_flags = SA_SIGINFO | SA_ONSTACK };
    stack_t ss = { .ss_sp = malloc(65536), .ss_size = 65536 };
    volatile int caught = 0;
    sigaltstack(&ss, NULL);
    sigaction(SIGSEGV, &sa, NULL);
    for (volatile int i = 0; i < 3; i++) {
        if (!sigsetjmp(back, 1))
            recurse(0);
        else
            caught++;
    }
    say("overflows caught %d on the other stack %d", caught, on_alt != 0);
}

const struct subtest memory_tests[] = {
    { "shootdown", shootdown }, { "write_protect", write_protect }, { "processes", processes }, { "alternate_stack", alternate_stack },
    { 0 },
};
