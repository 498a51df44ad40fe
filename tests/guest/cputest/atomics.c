/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Four threads on shared cache lines: counters must come out exact, forbidden outcomes must not be seen. */
#define _GNU_SOURCE
#include "cputest.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#define THREADS 4
#define ROUNDS 8000

static struct {
    u64 add, xadd, cmpxchg, inc8;
    u64 pair8[1];
    u64 pair16[2] __attribute__((aligned(16)));
    u64 sum, spin_count;
    u32 spin, bits[4];
    u8 split[64];
} s __attribute__((aligned(4096)));
static atomic_int bit_errors;
static atomic_ullong taken;

static void *torture(void *arg)
{
    unsigned me = (unsigned)(uintptr_t)arg;
    pin(me);
    for (unsigned i = 0; i < ROUNDS; i++) {
        u64 one = 1, t, old;
        __asm__ volatile("lock addq %1, %0" : "+m"(s.add) : "r"(one) : "cc");
        t = 1;
        __asm__ volatile("lock xaddq %1, %0" : "+m"(s.xadd), "+r"(t) : : "cc");
        u8 ok;
        do {
            old = *(volatile u64 *)&s.cmpxchg;
            __asm__ volatile("lock cmpxchgq %3, %0\n sete %1" : "+m"(s.cmpxchg), "=q"(ok), "+a"(old) : "r"(old + 1) : "cc");
        } while (!ok);
        u32 lo = 0, hi = 0;
        do {
            u64 next = ((u64)hi << 32 | lo) + 0x100000001ull;
            __asm__ volatile("lock cmpxchg8b %0\n sete %1" : "+m"(s.pair8), "=q"(ok), "+a"(lo), "+d"(hi)
                             : "b"((u32)next), "c"((u32)(next >> 32)) : "cc");
        } while (!ok);
        u64 qlo = 0, qhi = 0;
        do
            __asm__ volatile("lock cmpxchg16b %0\n sete %1" : "+m"(s.pair16), "=q"(ok), "+a"(qlo), "+d"(qhi)
                             : "b"(qlo + 1), "c"(qhi - 1) : "cc");
        while (!ok);
        __asm__ volatile("lock incb %0\n lock notl %1\n lock notl %1\n lock subw $1, %2\n lock negq %3\n lock negq %3"
                         : "+m"(s.inc8), "+m"(s.split[40]), "+m"(s.split[48]), "+m"(s.split[56]) : : "cc");
        __asm__ volatile("lock addl $1, %0" : "+m"(*(u32 *)(s.split + 6)) : : "cc"); /* not aligned */
        t = i & 1023;
        __asm__ volatile("xchgq %1, %0" : "+m"(s.sum), "+r"(t));
        atomic_fetch_add(&taken, (i & 1023) - t);
        u8 was;
        __asm__ volatile("lock btsl %2, %0\n setc %1" : "+m"(s.bits), "=q"(was) : "r"(me * 32 + (i & 31)) : "cc", "memory");
        bit_errors += was;
        __asm__ volatile("lock btrl %2, %0\n setc %1" : "+m"(s.bits), "=q"(was) : "r"(me * 32 + (i & 31)) : "cc", "memory");
        bit_errors += !was;
        for (u32 v = 1; ; v = 1) {
            __asm__ volatile("xchgl %1, %0" : "+m"(s.spin), "+r"(v) : : "memory");
            if (!v)
                break;
            __asm__ volatile("pause");
            sched_yield();
        }
        s.spin_count++;
        __asm__ volatile("movl $0, %0" : "=m"(s.spin) : : "memory");
    }
    return NULL;
}

static void counters(void)
{
    pthread_t th[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        pthread_create(&th[i], NULL, torture, (void *)i);
    for (int i = 0; i < THREADS; i++)
        pthread_join(th[i], NULL);
    u32 lines;
    memcpy(&lines, s.split + 6, 4);
    say("add %lu xadd %lu cmpxchg %lu cmpxchg8b %lx cmpxchg16b %lx %lx incb %lx xchg %d bits %x errors %d spin %lu unaligned %u subw %x",
        s.add, s.xadd, s.cmpxchg, s.pair8[0], s.pair16[0], s.pair16[1], s.inc8, taken == s.sum, s.bits[0] | s.bits[1] | s.bits[2] | s.bits[3],
        atomic_load(&bit_errors), s.spin_count, lines, s.split[48] | s.split[49] << 8);
}

/* --- litmus tests: two threads meet at each round --- */

static volatile u64 x, y __attribute__((aligned(64)));
static u64 pad[8] __attribute__((aligned(64)));
static u64 r0, r1;
static atomic_uint arrived, go;
static bool message_passing;

static void meet(unsigned round)
{
    if (atomic_fetch_add(&arrived, 1) == 2 * round + 1)
        atomic_store(&go, round + 1);
    for (unsigned n = 0; atomic_load(&go) <= round; n++)
        if (n > 200)
            sched_yield();
}

#define LITMUS_ROUNDS 3000
static void *litmus_thread(void *arg)
{
    bool second = arg;
    u64 bad = 0;
    pin(second);
    for (unsigned i = 0; i < LITMUS_ROUNDS; i++) {
        if (!second)
            x = y = 0;
        meet(2 * i);
        if (message_passing) {
            if (!second)
                __asm__ volatile("movq $1, %0\n movq $1, %1" : "=m"(x), "=m"(y) : : "memory");
            else
                __asm__ volatile("movq %2, %0\n movq %3, %1" : "=&r"(r0), "=&r"(r1) : "m"(y), "m"(x) : "memory");
        } else if (!second) {
            __asm__ volatile("movq $1, %1\n mfence\n movq %2, %0" : "=r"(r0), "=m"(x) : "m"(y) : "memory");
        } else {
            __asm__ volatile("movq $1, %1\n lock orq $0, (%%rsp)\n movq %2, %0" : "=r"(r1), "=m"(y) : "m"(x) : "memory", "cc");
        }
        meet(2 * i + 1);
        bad += message_passing ? r0 == 1 && r1 == 0 : r0 == 0 && r1 == 0;
    }
    return (void *)(uintptr_t)bad;
}

static void litmus(const char *what, bool mp)
{
    pthread_t a, b;
    void *bad;
    (void)pad;
    message_passing = mp;
    arrived = go = 0;
    pthread_create(&a, NULL, litmus_thread, NULL);
    pthread_create(&b, NULL, litmus_thread, (void *)1);
    pthread_join(a, &bad);
    pthread_join(b, NULL);
    say("%s: forbidden outcomes %lu", what, (u64)(uintptr_t)bad);
}

static void litmus_tests(void)
{
    litmus("store buffer with fences", false);
    litmus("message passing", true);
}

/* Dekker's algorithm with mfence. */
static volatile u32 flag[2], turn;
static volatile u64 dekker_count;

static void *dekker(void *arg)
{
    unsigned me = arg != NULL;
    pin(me);
    for (int i = 0; i < 2000; i++) {
        flag[me] = 1;
        __asm__ volatile("mfence" : : : "memory");
        while (flag[!me]) {
            if (turn != me) {
                flag[me] = 0;
                while (turn != me)
                    sched_yield();
                flag[me] = 1;
                __asm__ volatile("mfence" : : : "memory");
            }
        }
        dekker_count++;
        turn = !me;
        flag[me] = 0;
        if (i % 64 == 0)
            sched_yield();
    }
    turn = !me;
    return NULL;
}

static void dekker_test(void)
{
    pthread_t a, b;
    pthread_create(&a, NULL, dekker, NULL);
    pthread_create(&b, NULL, dekker, (void *)1);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    say("count %lu", dekker_count);
}

const struct subtest atomic_tests[] = { { "counters", counters }, { "litmus", litmus_tests }, { "dekker", dekker_test }, { 0 } };
