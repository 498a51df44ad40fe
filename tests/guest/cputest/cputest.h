/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CPU conformance program: the same static binary runs on the host and in a guest, and must print the same lines.
 * Every subtest runs in a process of its own and prints lines that start with its name. A line says what the CPU did in
 * values that no scheduler, clock or CPU model decides.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef uint64_t u64;
typedef uint32_t u32;
typedef uint16_t u16;
typedef uint8_t u8;

struct subtest {
    const char *name;
    void (*run)(void);
};
extern const struct subtest fault_tests[], step_tests[], mode_tests[], state_tests[], atomic_tests[], code_tests[], memory_tests[];

/* print_line("what: ..."): one line of the running subtest. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
u64 hash_bytes(const void *data, size_t n);
unsigned online_cpus(void);
void pin(unsigned cpu);
double now(void);

/* Memory at addresses of our own, so that they can be printed. */
#define ARENA 0x20000000ul   /* four pages, read and write */
#define HOLE 0x20004000ul    /* nothing */
#define RDONLY 0x20005000ul  /* one page, read only */
#define DATA 0x20006000ul    /* one page, read and write, then nothing */
#define STACK 0x21000000ul   /* 64 KiB; nothing below and nothing above */
#define STACK_TOP (STACK + 0x10000)
void arena_map(void);
void arena_fill(void);

/* A piece of code that ends in a fault of its own or in the UD2 that CODE adds. */
#define CODE(name, text) \
    extern const u8 name[]; \
    __asm__(".pushsection .snippets, \"ax\", @progbits\n.balign 64\n" #name ":\n" text "\nud2\n.popsection")

/* State to begin with; 0 means: any good value. */
struct start {
    u64 ax, bx, cx, dx, si, di, bp, sp, flags;
    u16 cs, ss;
    u32 mxcsr;
    u16 fcw;
    bool any_memory; /* what it leaves in memory is not to be printed */
    u32 keep_flags; /* which flags to print besides RF TF DF NT AC */
};

struct finish {
    int sig, code;
    u64 addr, regs[23];
    u32 mxcsr;
    u16 fcw, fsw;
    unsigned steps; /* with TF: traps on the way */
    u64 step_hash;
};

/* Runs code from `start` to its first fault, through signal frames both ways. */
void snippet(const void *code, const struct start *start, struct finish *ret);
/* The same, and prints everything. */
void show(const char *what, const void *code, const struct start *start);
