/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sources of random numbers: objects of the types rng-random (a device file of the host) and rng-builtin (getrandom). */
#pragma once

#include <sys/types.h>

#include "vmm/core/object.h"

/* The object of this id when it is such a source; else NULL with error. */
struct object *rng_find(const struct machine *m, const char *id, GError **error);
/* Up to n bytes without waiting; how many. source NULL: getrandom. Any thread. */
size_t rng_read(struct object *source, void *ret, size_t n);
