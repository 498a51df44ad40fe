/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Differential test of the x86-64 translator: the same instructions, registers and memory on the host's own CPU, in the IR
 * interpreter and in generated code; everything that a program can see is compared.
 *
 * Layout, the same virtual addresses everywhere: code at DIFF_CODE, data at DIFF_DATA (the guest maps them with page tables of
 * its own). Each case runs a second time DIFF_SHIFT higher, where the same pages are mapped once more: there the translator is to
 * run what it translated the first time. A case ends at its final UD2, or at the first instruction that faults; where it stopped is compared too.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define DIFF_CODE 0x10000000ull
#define DIFF_CODE_SIZE 0x2000u
#define DIFF_DATA 0x20000000ull
#define DIFF_DATA_SIZE 0x4000u
#define DIFF_SHIFT 0x123456789000ull

struct diff_state {
    uint64_t gpr[16]; /* in x86's encoding order */
    uint64_t rip, rflags;
    uint8_t fxsave[512];
    uint8_t data[DIFF_DATA_SIZE];
};

struct diff_case {
    uint8_t code[DIFF_CODE_SIZE];
    unsigned size;          /* without the final UD2, which is there too */
    unsigned starts[512];   /* offsets of the instructions */
    unsigned ninsns;
    uint64_t shift;         /* 0 or DIFF_SHIFT: where it runs now */
    bool in_place;          /* the guest has the code from the run before */
    bool undefined_flags;   /* some flag is undefined at the end: not compared */
};

/* Fills `c` and the initial state from a seed. `kind`: index into diff_kinds. */
void diff_generate(uint64_t seed, unsigned kind, struct diff_case *c, struct diff_state *init);
extern const char *const diff_kinds[]; /* NULL-terminated */

/* On the host's CPU, in a child process. False: the child could not be run. diff_native_begin comes first of all, while the process is small. */
bool diff_native_begin(void);
bool diff_native(const struct diff_case *c, const struct diff_state *init, struct diff_state *ret);

/* On the translator. */
struct diff_guest;
struct diff_guest *diff_guest_create(bool interpret);
bool diff_guest_run(struct diff_guest *g, const struct diff_case *c, const struct diff_state *init, struct diff_state *ret);
/* Two addresses that share a page and differ in the next, which code runs into: prints what is wrong. */
bool diff_guest_next_page(struct diff_guest *g);
unsigned diff_guest_translated(struct diff_guest *g); /* regions so far */
void diff_guest_destroy(struct diff_guest *g);
