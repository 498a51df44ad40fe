/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Places in vectors of memory, and what lies there. */
#include <string.h>

#include "block/driver.h"

int iov_cursor_fill(const struct iov_cursor *c, struct iovec *ret, int max, uint64_t left, uint64_t *ret_bytes)
{
    int n = 0;
    size_t skip = c->skip;
    *ret_bytes = 0;
    for (int i = 0; i < c->n && n < max && left; i++) {
        size_t part = MIN(c->iov[i].iov_len - skip, left);
        if (part)
            ret[n++] = (struct iovec){ (char *)c->iov[i].iov_base + skip, part };
        *ret_bytes += part;
        left -= part;
        skip = 0;
    }
    return n;
}

void iov_cursor_advance(struct iov_cursor *c, uint64_t bytes)
{
    while (c->n && bytes >= c->iov->iov_len - c->skip) {
        bytes -= c->iov->iov_len - c->skip;
        c->skip = 0;
        c->iov++;
        c->n--;
    }
    c->skip += bytes;
}

enum direction { OUT, IN, ZERO };

static void copy(struct iov_cursor *c, enum direction way, char *with, uint64_t bytes)
{
    while (bytes && c->n) {
        uint64_t part = MIN(bytes, c->iov->iov_len - c->skip);
        char *at = (char *)c->iov->iov_base + c->skip;
        switch (way) {
        case OUT: memcpy(with, at, part); with += part; break;
        case IN: memcpy(at, with, part); with += part; break;
        case ZERO: memset(at, 0, part); break;
        }
        bytes -= part;
        iov_cursor_advance(c, part);
    }
}

void iov_cursor_read(struct iov_cursor *c, void *to, uint64_t bytes)
{
    copy(c, OUT, to, bytes);
}

void iov_cursor_write(struct iov_cursor *c, const void *from, uint64_t bytes)
{
    copy(c, IN, (char *)from, bytes);
}

void iov_cursor_zero(struct iov_cursor *c, uint64_t bytes)
{
    copy(c, ZERO, NULL, bytes);
}

struct iovec *iov_slice(const struct iovec *iov, int niov, uint64_t skip, uint64_t bytes, int *ret_n)
{
    struct iov_cursor c = { iov, niov, 0 };
    uint64_t filled;
    struct iovec *ret = g_new(struct iovec, MAX(niov, 1));
    iov_cursor_advance(&c, skip);
    *ret_n = iov_cursor_fill(&c, ret, niov, bytes, &filled);
    return ret;
}

bool buffer_is_zero(const void *buffer, size_t bytes)
{
    const unsigned char *p = buffer;
    /* Ends and middle first: data that is not zero shows there most of the time. Then the buffer equals itself one byte on. */
    if (!bytes)
        return true;
    if (p[0] || p[bytes - 1] || p[bytes / 2])
        return false;
    return !memcmp(p, p + 1, bytes - 1);
}

bool iov_is_zero(const struct iovec *iov, int niov)
{
    for (int i = 0; i < niov; i++) {
        if (!buffer_is_zero(iov[i].iov_base, iov[i].iov_len))
            return false;
    }
    return true;
}
