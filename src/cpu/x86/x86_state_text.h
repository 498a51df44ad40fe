/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A vCPU's state in words, and the differences between two. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "cpu/x86/x86_state.h"

/* All registers but vectors and MSRs without a field, on several lines without a newline at the end. The caller frees. */
char *x86_state_text(const struct x86_state *s);
/* The same in one line with what tells most: rip, rsp, cs, rflags, control registers, EFER. For one-line messages. */
char *x86_state_brief(const struct x86_state *s);
/* Calls `differs` for each number that is not the same, with a name such as "cs.base", "dr[2]", "msr 0x4b564d01" or "xsave+0x20"
 * (eight bytes from there). Parts that mean nothing are not compared: the vector of an exception that is not pending, what XSTATE_BV
 * says is in its initial state against zeros. Returns how many there were. */
unsigned x86_state_compare(const struct x86_state *a, const struct x86_state *b,
                           void (*differs)(void *opaque, const char *name, uint64_t a, uint64_t b), void *opaque);
