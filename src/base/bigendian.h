/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Big-endian numbers at any address. */
#pragma once

#include <stdint.h>

static inline uint16_t be_get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}
static inline uint32_t be_get32(const uint8_t *p)
{
    return (uint32_t)be_get16(p) << 16 | be_get16(p + 2);
}
static inline uint64_t be_get64(const uint8_t *p)
{
    return (uint64_t)be_get32(p) << 32 | be_get32(p + 4);
}
/* The lowest `bytes` bytes of v. */
static inline void be_put(uint8_t *p, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        p[i] = (uint8_t)(v >> 8 * (bytes - 1 - i));
}
