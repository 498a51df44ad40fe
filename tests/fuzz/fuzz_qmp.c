/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bytes of a QMP client: parser, command table and the commands themselves, against the machine of the unit tests, which only
 * remembers what it was asked. */
#define main qmp_test_main
#include "vmm/qmp/qmp_test.c"
#undef main

#include "base/fdset.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first byte: whether capabilities were negotiated, and how large the pieces are in which the rest arrives. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct machine m;
    fdset_refuse_names();
    if (!size || size > 4096)
        return 0;
    size_t piece = data[0] >> 1 ? data[0] >> 1 : size;
    if (!added)
        added = g_string_new(NULL);
    g_string_truncate(added, 0);
    struct qmp *q = start(&m);
    if (data[0] & 1)
        talk(NEGOTIATE);
    for (size_t at = 1; at < size; at += piece) {
        line.accept = 1 << 20;
        g_string_truncate(line.out, 0);
        size_t n = MIN(piece, size - at);
        /* a copy of just that size: reading beyond it is seen */
        g_autofree uint8_t *copy = g_memdup2(data + at, n);
        line.h->receive(line.opaque, copy, n);
        while (g_main_context_iteration(NULL, FALSE))
            ;
    }
    finish(q, &m);
    return 0;
}
