/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files that this process has made and that go when it ends: UNIX sockets, the PID file. The directory is held open, so that
 * the name means the same file after chroot(2), and the file is only removed while it is the one that was made. */
#pragma once

struct leftover;

/* The file just made at `path`; NULL when it cannot be examined, and then it stays. */
struct leftover *leftover_keep(const char *path);
/* Removes it, if it is still there and the rights of the process suffice. Takes NULL. */
void leftover_remove(struct leftover *l);
