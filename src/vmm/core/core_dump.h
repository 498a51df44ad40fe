/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's memory as an ELF core of a 64-bit x86 machine: a segment for each range of RAM by its physical address, and for each vCPU a note with its registers as a process
 * has them (NT_PRSTATUS) and one with those that a system has (QEMU's). Debuggers and `crash` read it. The machine stands still meanwhile; it is written in pieces, between
 * which the main loop goes on. Main thread.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct machine;

enum core_dump_status { CORE_DUMP_NONE, CORE_DUMP_ACTIVE, CORE_DUMP_COMPLETED, CORE_DUMP_FAILED };

/* Physical memory from begin to before end, as far as it is RAM. fd is taken over in any case; its position is the file's beginning. False: nothing was begun. */
bool core_dump_start(struct machine *m, int fd, uint64_t begin, uint64_t end, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* To its end, now. *error: why it failed. */
bool core_dump_run(struct machine *m, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Of the one that is being written, or of the last; bytes of memory. */
enum core_dump_status core_dump_query(const struct machine *m, uint64_t *ret_done, uint64_t *ret_total);
void core_dump_finish(struct machine *m); /* before the machine goes */
