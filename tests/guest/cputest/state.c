/* SPDX-License-Identifier: GPL-2.0-or-later */
/* State that belongs to a thread: FS and GS, x87, MMX, SSE, MXCSR; time stamps; CPUID's promises. */
#define _GNU_SOURCE
#include "cputest.h"

#include <asm/prctl.h>
#include <cpuid.h>
#include <fenv.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static u64 gs_read(unsigned long offset)
{
    u64 v;
    __asm__ volatile("mov %%gs:(%1), %0" : "=r"(v) : "r"(offset));
    return v;
}

static void bases(void)
{
    u64 words[4] = { 11, 22, 33, 44 }, got = 0;
    syscall(SYS_arch_prctl, ARCH_SET_GS, words);
    syscall(SYS_arch_prctl, ARCH_GET_GS, &got);
    say("arch_prctl GS %d, reads %lu %lu", got == (u64)(uintptr_t)words, gs_read(0), gs_read(16));
    if (getauxval(AT_HWCAP2) & 2) {
        __asm__ volatile("wrgsbase %0" : : "r"(words + 1));
        __asm__ volatile("rdgsbase %0" : "=r"(got));
        say("wrgsbase %d reads %lu", got == (u64)(uintptr_t)(words + 1), gs_read(0));
        u64 fs;
        __asm__ volatile("rdfsbase %0" : "=r"(fs));
        syscall(SYS_arch_prctl, ARCH_GET_FS, &got);
        say("rdfsbase %d", fs == got);
        __asm__ volatile("mov %2, %%rcx\n wrfsbase %1\n mov %%fs:8, %0\n wrfsbase %%rcx" : "=&r"(got) : "r"(words), "r"(fs) : "rcx");
        say("wrfsbase reads %lu", got);
        for (int i = 0; i < 100; i++)
            sched_yield();
        say("GS after switches %lu", gs_read(0));
    } else {
        say("wrgsbase is not offered");
    }
    pid_t pid = fork();
    if (pid == 0)
        _exit((int)gs_read(0));
    int status;
    waitpid(pid, &status, 0);
    say("GS in a child %d", WEXITSTATUS(status));
    __asm__ volatile("mov %0, %%gs" : : "r"(0));
    __asm__ volatile("mov %%gs, %0" : "=r"(got));
    say("GS selector %lu", got & 0xffff);
}

static _Atomic u64 last_tsc;
static atomic_int tsc_wrong;

static u64 rdtscp(void)
{
    u32 lo, hi, aux;
    __asm__ volatile("rdtscp\n lfence" : "=a"(lo), "=d"(hi), "=c"(aux) : : "memory");
    return (u64)hi << 32 | lo;
}

static void *tsc_thread(void *arg)
{
    pin((unsigned)(uintptr_t)arg);
    for (double end = now() + 0.5; now() < end;)
        for (int i = 0; i < 1000; i++) {
            u64 before = atomic_load(&last_tsc), t = rdtscp();
            if (t < before)
                atomic_fetch_add(&tsc_wrong, 1);
            while (before < t && !atomic_compare_exchange_weak(&last_tsc, &before, t))
                ;
        }
    return NULL;
}

static void tsc(void)
{
    pthread_t th[4];
    for (uintptr_t i = 0; i < 4; i++)
        pthread_create(&th[i], NULL, tsc_thread, (void *)i);
    for (int i = 0; i < 4; i++)
        pthread_join(th[i], NULL);
    say("went back %d times", atomic_load(&tsc_wrong));
    pin(online_cpus() - 1);
    u32 aux, cpu;
    __asm__ volatile("rdtscp" : "=c"(aux) : : "rax", "rdx");
    syscall(SYS_getcpu, &cpu, NULL, NULL);
    say("TSC_AUX is the CPU %d", (aux & 0xfff) == cpu);
}

/* --- registers of threads --- */

static atomic_int fp_errors;
static struct lost { u8 want[512], got[512]; bool system_call; } fp_first; /* written by who counts the first */

static void on_alarm(int sig)
{
    /* destroys what it can */
    (void)sig;
    __asm__ volatile("fninit\n fldpi\n pcmpeqd %%xmm0, %%xmm0\n movaps %%xmm0, %%xmm7\n movaps %%xmm0, %%xmm15\n"
                     "pushq $0x7f80\n ldmxcsr (%%rsp)\n pop %%rax" : : : "rax", "xmm0", "xmm7", "xmm15", "memory");
}

/* Loads everything from a seed, waits a moment, and looks again. */
static void check_registers(u64 seed, bool syscalls)
{
    u64 in[32];
    u8 fx[512] __attribute__((aligned(16))), back[512] __attribute__((aligned(16)));
    for (unsigned i = 0; i < 32; i++)
        in[i] = seed * (2 * i + 1) * 0x9e3779b97f4a7c15ull;
    memset(fx, 0, sizeof fx);
    memset(back, 0, sizeof back); /* the bytes behind each x87 register are reserved: not every CPU writes them */
    fx[0] = 0x7f, fx[1] = (u8)(3 + ((seed & 3) << 2)), fx[4] = 0xff;
    u32 mxcsr = 0x1f80 | (u32)(seed & 3) << 13 | (seed & 0x3f);
    memcpy(fx + 24, &mxcsr, 4);
    for (unsigned i = 0; i < 8; i++) {
        u64 m = in[i] | 1ull << 63;
        memcpy(fx + 32 + 16 * i, &m, 8);
        fx[32 + 16 * i + 8] = (u8)(seed + i), fx[32 + 16 * i + 9] = 0x3f;
    }
    memcpy(fx + 160, in, 256);
    u64 spin = 300 + seed % 100, nr = SYS_getppid;
    if (syscalls)
        __asm__ volatile("fxrstor %2\n syscall\n fxsave %0" : "+m"(back), "+a"(nr) : "m"(fx) : "rcx", "r11", "memory");
    else
        __asm__ volatile("fxrstor %2\n 1: dec %1\n jnz 1b\n fxsave %0" : "+m"(back), "+r"(spin) : "m"(fx) : "memory", "cc");
    fesetenv(FE_DFL_ENV);
    /* x87's last instruction and operand (bytes 6 to 23) are the CPU's own affair */
    if (!memcmp(fx, back, 6) && !memcmp(fx + 24, back + 24, 4) && !memcmp(fx + 32, back + 32, 160 + 256 - 32))
        return;
    if (!atomic_fetch_add(&fp_errors, 1)) {
        memcpy(fp_first.want, fx, sizeof fx);
        memcpy(fp_first.got, back, sizeof back);
        fp_first.system_call = syscalls;
    }
}

static void say_lost(void)
{
    for (unsigned i = 0; i < 160 + 256; i += 4)
        if ((i < 6 || i == 24 || i >= 32) && memcmp(fp_first.want + i, fp_first.got + i, i == 4 ? 2 : 4))
            say("lost: byte %u of FXSAVE is %08x, was %08x%s", i, *(u32 *)(fp_first.got + i), *(u32 *)(fp_first.want + i),
                fp_first.system_call ? ", with a system call" : "");
}

static void *fp_thread(void *arg)
{
    u64 seed = (u64)(uintptr_t)arg * 7919 + 1;
    for (double end = now() + 1; now() < end;)
        for (unsigned i = 0; i < 200; i++)
            check_registers(seed += 12, i % 8 == 0);
    return NULL;
}

static void fp_state(void)
{
    struct sigaction sa = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
    pthread_t th[6];
    timer_t timer;
    struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2 };
    struct itimerspec every = { { 0, 1500000 }, { 0, 1500000 } };
    sigaction(SIGUSR2, &sa, NULL);
    timer_create(CLOCK_MONOTONIC, &ev, &timer);
    timer_settime(timer, 0, &every, NULL);
    for (uintptr_t i = 0; i < 6; i++)
        pthread_create(&th[i], NULL, fp_thread, (void *)i);
    for (int i = 0; i < 6; i++)
        pthread_join(th[i], NULL);
    timer_delete(timer);
    say("registers lost %d times", atomic_load(&fp_errors));
    say_lost();
    /* across fork: the child has what the parent had */
    double a = 0;
    pid_t pid;
    __asm__ volatile("fldpi\n movq %2, %%xmm9\n syscall\n movq %%xmm9, %%rcx\n sub %2, %%rcx\n fldpi\n fcomip %%st(1), %%st\n"
                     "setnz %%cl\n fstp %%st(0)\n movzbl %%cl, %%ecx" : "=a"(pid), "=&c"(*(u64 *)&a)
                     : "r"(0x1122334455667788ull), "0"(SYS_fork) : "r11", "xmm9", "memory", "cc");
    if (pid == 0)
        _exit(*(u64 *)&a != 0);
    int status;
    waitpid(pid, &status, 0);
    say("after fork: parent %lu child %d", *(u64 *)&a, WEXITSTATUS(status));
}

static void *round_thread(void *arg)
{
    static const int modes[4] = { FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO };
    unsigned mode = (unsigned)(uintptr_t)arg;
    u64 h = 0;
    fesetround(modes[mode]);
    feclearexcept(FE_ALL_EXCEPT);
    if (mode & 1) {
        volatile double zero = 0, one = 1;
        one = one / zero;
    }
    for (int k = 0; k < 50; k++) {
        volatile double x = 1;
        volatile long double y = 1;
        for (int i = 1; i < 200; i++) {
            x = x / 3 + i;
            y = y / 7 + i;
        }
        double d = x, e = (double)y;
        h = (h ^ hash_bytes(&d, 8) ^ hash_bytes(&e, 8)) * 31;
        sched_yield();
    }
    return (void *)(uintptr_t)((h & 0xffffffffffffull) << 8 | (unsigned)fetestexcept(FE_DIVBYZERO | FE_INEXACT | FE_INVALID));
}

static void rounding(void)
{
    pthread_t th[4];
    for (uintptr_t i = 0; i < 4; i++)
        pthread_create(&th[i], NULL, round_thread, (void *)i);
    for (int i = 0; i < 4; i++) {
        void *r;
        pthread_join(th[i], &r);
        say("mode %d: %lx", i, (u64)(uintptr_t)r);
    }
    say("the first thread's MXCSR flags %x", (unsigned)fetestexcept(FE_ALL_EXCEPT));
}

/* --- features: what CPUID promises runs; prints only what goes wrong, because CPUs differ --- */

#define TRY(name, promised, text) \
    do { \
        CODE(f_##name, text); \
        static const struct start s = { .bx = ARENA, .cx = 8, .dx = 0x33, .ax = 3, .si = ARENA + 64, .di = 5 }; \
        struct finish f; \
        snippet(f_##name, &s, &f); \
        u64 at = f.regs[16] - (uintptr_t)f_##name; \
        bool ran = f.sig == SIGILL && at > 0; \
        if (promised && !ran) \
            say(#name " is promised and does not run (signal %d at +%lu)", f.sig, at); \
        tried++; \
    } while (0)

static void cpuid_promises(void)
{
    u32 a, b, c, d, b7 = 0, c7 = 0, d7, c81 = 0, d81 = 0, unused, tried = 0, a1 = 0;
    __cpuid(1, a, b, c, d);
    if (__get_cpuid_max(0, NULL) >= 7)
        __cpuid_count(7, 0, unused, b7, c7, d7);
    if (__get_cpuid_max(0, NULL) >= 13 && c & 1u << 27)
        __cpuid_count(13, 1, a1, unused, unused, unused);
    __cpuid(0x80000001, unused, unused, c81, d81);
    TRY(sse3, (c & 1), "haddps %xmm0, %xmm1");
    TRY(pclmul, (c >> 1 & 1), "pclmulqdq $0, %xmm0, %xmm1");
    TRY(ssse3, (c >> 9 & 1), "pshufb %xmm0, %xmm1");
    TRY(cx16, (c >> 13 & 1), "cmpxchg16b (%rbx)");
    TRY(sse41, (c >> 19 & 1), "pminsb %xmm0, %xmm1");
    TRY(sse42, (c >> 20 & 1), "crc32b %al, %edx");
    TRY(movbe, (c >> 22 & 1), "movbe (%rbx), %eax");
    TRY(popcnt, (c >> 23 & 1), "popcnt %eax, %edx");
    TRY(aes, (c >> 25 & 1), "aesenc %xmm0, %xmm1");
    TRY(xsave, (c >> 27 & 1), "xor %ecx, %ecx\nxgetbv");
    TRY(avx, ((c >> 28 & 1) && (c >> 27 & 1)), "vaddps %ymm0, %ymm1, %ymm2");
    TRY(f16c, (c >> 29 & 1), "vcvtph2ps %xmm0, %xmm1");
    TRY(rdrand, (c >> 30 & 1), "rdrand %rax");
    TRY(fma, (c >> 12 & 1), "vfmadd132ps %xmm0, %xmm1, %xmm2");
    TRY(clflush, (d >> 19 & 1), "clflush (%rbx)");
    TRY(cmov, (d >> 15 & 1), "cmovc %eax, %edx");
    TRY(cx8, (d >> 8 & 1), "cmpxchg8b (%rbx)");
    TRY(fxsr, (d >> 24 & 1), "fxsave (%rbx)");
    TRY(sse2, (d >> 26 & 1), "paddq %xmm0, %xmm1");
    TRY(bmi1, (b7 >> 3 & 1), "andn %eax, %edx, %edi\nblsr %eax, %edx\ntzcnt %eax, %edx");
    TRY(avx2, (b7 >> 5 & 1), "vpaddd %ymm0, %ymm1, %ymm2");
    TRY(bmi2, (b7 >> 8 & 1), "pdep %eax, %edx, %edi\nmulx %eax, %edx, %edi\nrorx $3, %eax, %edx");
    TRY(rdseed, (b7 >> 18 & 1), "rdseed %rax");
    TRY(adx, (b7 >> 19 & 1), "adcx %eax, %edx\nadox %eax, %edx");
    TRY(clflushopt, (b7 >> 23 & 1), "clflushopt (%rbx)");
    TRY(clwb, (b7 >> 24 & 1), "clwb (%rbx)");
    TRY(sha, (b7 >> 29 & 1), "sha1nexte %xmm0, %xmm1");
    TRY(gfni, (c7 >> 8 & 1), "gf2p8mulb %xmm0, %xmm1");
    TRY(rdpid, (c7 >> 22 & 1), "rdpid %rax");
    TRY(lzcnt, (c81 >> 5 & 1), "lzcnt %eax, %edx");
    TRY(sse4a, (c81 >> 6 & 1), "extrq %xmm0, %xmm1\nmovntsd %xmm0, (%rbx)");
    TRY(prefetchw, (c81 >> 8 & 1), "prefetchw (%rbx)");
    TRY(rdtscp, (d81 >> 27 & 1), "rdtscp");
    TRY(lahf, (c81 & 1), "lahf\nsahf");
    TRY(xsaveopt, (a1 & 1), "movq $3, %rax\nxor %edx, %edx\nxsaveopt (%rbx)");
    TRY(xsavec, (a1 >> 1 & 1), "movq $3, %rax\nxor %edx, %edx\nxsavec (%rbx)");
    say("%u features tried", tried);
}

static void random_numbers(void)
{
    u32 a, b, c, d, good = 0, flags = 0, distinct = 0;
    u64 last = 0, v;
    __cpuid(1, a, b, c, d);
    if (!(c >> 30 & 1)) {
        say("20 of 20 distinct, other flags 0"); /* not offered: nothing to test */
        return;
    }
    for (int i = 0; i < 20; i++) {
        u64 f;
        do {
            __asm__ volatile("rdrand %0\n pushfq\n pop %1" : "=r"(v), "=r"(f));
        } while (!(f & 1));
        good++;
        flags |= (u32)f & 0x8d4;
        distinct += v != last;
        last = v;
    }
    say("%u of %u distinct, other flags %x", distinct, good, flags);
}

const struct subtest state_tests[] = {
    { "bases", bases }, { "tsc", tsc }, { "fp_state", fp_state }, { "rounding", rounding }, { "cpuid_promises", cpuid_promises },
    { "random_numbers", random_numbers }, { 0 },
};
