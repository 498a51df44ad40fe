/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The trace log of -d and -D: categories that are off cost one load and a branch. Warnings for the user go through
 * log_warn, always printed. Thread-safe; one line per call, no newline in the format.
 */
#pragma once

#include <glib.h>
#include <stdatomic.h>
#include <stdbool.h>

/* One row per category: identifier, name for -d, help. */
#define LOG_CATEGORIES(X)                                                     \
    X(GUEST_ERRORS, "guest_errors", "what the guest does that hardware would not allow") \
    X(UNIMP, "unimp", "what the guest asks for and the machine does not have")  \
    X(IN_ASM, "in_asm", "guest code as it is translated: address and bytes")     \
    X(IR, "op", "the intermediate representation before optimising")             \
    X(IR_OPT, "op_opt", "the intermediate representation after optimising")      \
    X(OUT_ASM, "out_asm", "host code address and size of each region")          \
    X(INT, "int", "interrupts and exceptions")                                  \
    X(EXEC, "exec", "each region as it is looked up")                           \
    X(EXITS, "exits", "exits from guest execution to devices")                  \
    X(RESET, "cpu_reset", "vCPU resets")                                        \
    X(ACCEL, "accel", "which accelerator is used and why, and its counters at the end")

enum log_category {
#define X(id, name, help) LOG_##id,
    LOG_CATEGORIES(X)
#undef X
    LOG_NCATEGORIES
};

extern _Atomic unsigned log_mask; /* bit per category; set once at start */
static inline bool log_on(enum log_category c)
{
    return atomic_load_explicit(&log_mask, memory_order_relaxed) >> c & 1u;
}
void log_write(enum log_category c, const char *format, ...) G_GNUC_PRINTF(2, 3);
#define log_at(c, ...) do { if (log_on(c)) log_write(c, __VA_ARGS__); } while (0)
/* -msg timestamp=on. log_stamp: what a line on standard error begins with, before the program's name; the caller frees. */
void log_set_timestamps(bool on);
char *log_stamp(void);
void log_warn(const char *format, ...) G_GNUC_PRINTF(1, 2);
/* Parses the value of -d ("int,exec", "help" is the caller's); unknown names are an error that lists all. */
bool log_parse(const char *items, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool log_open(const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT; /* -D */
char *log_help(void); /* caller frees */
