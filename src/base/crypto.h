/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What users of libgcrypt need of each other. */
#pragma once

#include <glib.h>
#include <stddef.h>

/* Sets the library up; any thread, any number of times. To be called before anything of gcrypt.h. */
void crypto_init(void);
/* Bytes from the host's generator. */
void crypto_random(void *to, size_t n);
/* As g_bytes_new_take; the bytes are wiped before they are freed. */
GBytes *crypto_bytes_take(void *data, size_t n);
/* Wipes and frees; NULL is allowed. */
void crypto_free(void *data, size_t n);
