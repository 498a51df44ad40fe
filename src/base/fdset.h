/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Descriptors that somebody else has opened for this process: sets of them, each a file opened in one or more ways, which go by
 * the file name /dev/fdset/N (-add-fd, QMP add-fd); and single ones with a name (QMP getfd). A process that gets all it needs so
 * opens nothing by itself. They are the process's, whatever the machine.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* As open(2), for files that a user names. /dev/fdset/N: a copy of the descriptor in set N whose access mode is that of `flags`;
 * it shares the position and status flags of what was passed. The flags O_TRUNC and O_APPEND are honoured, O_CREAT has no meaning.
 * errno ENOENT: no such set; EACCES: none in it with that access mode. The result is close-on-exec. */
int fdset_open(const char *path, int flags, mode_t mode);
/* From now on fdset_open opens nothing by name (EACCES): for fuzzers, whose names come from nowhere. */
void fdset_refuse_names(void);
/* Whether `path` is of the form /dev/fdset/N. */
bool fdset_path(const char *path);

/* The descriptor that `text` of an option fd= means: the number of one that was inherited, or the name of one passed by getfd.
 * It is the caller's from now on, close-on-exec. -1 with *error: there is none. */
int fdset_take(const char *text, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- for -add-fd and QMP ---- */

/* Lays a descriptor out for the command that is run next (-1: none) and returns what lay there and was not taken. */
int fdset_offer(int fd);

/* Takes fd over. set -1: a new one. The number of the set, -1 with *error. */
int64_t fdset_add(int64_t set, int fd, const char *opaque, GError **error);
/* Closes one descriptor of a set, or with fd -1 all of them; an empty set is gone. Copies that are in use stay open. */
bool fdset_remove(int64_t set, int64_t fd, GError **error);
void fdset_foreach(void (*fn)(int64_t set, int fd, const char *opaque, void *data), void *data);
/* Takes fd over; another one of this name is closed. */
bool fdset_name(const char *name, int fd, GError **error);
bool fdset_unname(const char *name, GError **error);
