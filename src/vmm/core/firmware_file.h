/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Images that firmware consists of: the BIOS, option ROMs of cards. They come from files of the host. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

struct guest_memory;

/* The path of the image `name`: as given where it has a slash or lies in the working directory, else where distributions put SeaBIOS and iPXE. The
 * caller frees; NULL: there is none. Names of -add-fd (/dev/fdset/N) are paths. */
char *firmware_file_find(const char *name);
/* What lies at `path`, in memory of the guest's (guest_memory_alloc) of `unit` bytes at least, or more by doubling it; the rest reads as zeroes.
 * Up to 16 MiB; ret_size is the file's. NULL with error. */
void *firmware_file_load(struct guest_memory *m, const char *path, size_t unit, size_t *ret_size, size_t *ret_room, GError **error) G_GNUC_WARN_UNUSED_RESULT;
