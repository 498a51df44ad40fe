/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The journal of the directory with the definitions: what was defined last is on the disk by one write of a few blocks in place, and the files themselves follow without anybody
 * waiting for the file system's own journal (which takes ten times as long, and as long as the host's other writers like). A crash at any instant, also of the
 * host, loses nothing that a call has waited for: the next daemon brings the files to what the journal says.
 *
 * Threads: any; the journal has a lock of its own and a thread that gets files to the disk and empties the journal, a second after the last change.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

struct journal;

/* What the journal says of a file: text NULL means removed. us: of the record, g_get_real_time(). */
typedef void (*journal_apply)(const char *file, const char *text, gint64 us, void *opaque);

/* The journal in the file `path` of the files in `dir`, which exists. What a daemon left that was killed is given to apply(), the last word on each file; it writes through to
 * the disk what it has to change. That the rest is on the disk nobody waits for: the records stay in the journal until it is. NULL, without error: it cannot be used (another process has it, or the file system does not take it); callers write files directly then. */
struct journal *journal_open(const char *path, const char *dir, journal_apply apply, void *opaque);
/* Files to the disk, thread ended. NULL is fine. */
void journal_close(struct journal *j);
/* The file (a name in dir) has this text (NULL: it is gone), whatever happens, and the file is changed. wait: when it returns, that is on the disk. Else it is safe from the daemon's
 * end alone, and a power cut within the next seconds may undo it; but none that comes after a later call that waits. */
bool journal_put(struct journal *j, const char *file, const char *text, bool wait, GError **error) G_GNUC_WARN_UNUSED_RESULT;
