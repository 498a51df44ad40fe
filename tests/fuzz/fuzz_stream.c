/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A saved machine as somebody else may send it: the input is the content of records, whose lengths and checksums are made right, or the stream
 * as it is. */
#define main test_main
int test_main(int argc, char **argv);
#include "vmm/migrate/migrate_stream_test.c"
#undef main

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct place p;
    if (!p.ram) {
        p.ram = g_malloc0(PIECE_PAGES * STREAM_PAGE);
        p.seen = g_string_new(NULL);
    }
    if (size && data[0] & 1) {
        (void)!read_back(data + 1, size - 1, &p, NULL);
        return 0;
    }
    g_autoptr(GByteArray) a = g_byte_array_new();
    const struct migrate_sink k = { to_memory, a };
    (void)!stream_write_head(&k, NULL);
    for (size_t at = 1; at + 3 <= size;) { /* kind, length, content */
        size_t n = MIN((size_t)data[at + 1] | (size_t)data[at + 2] << 8, size - at - 3);
        (void)!stream_write(&k, data[at] % 7, data + at + 3, n, NULL, 0, NULL);
        at += 3 + n;
    }
    (void)!read_back(a->data, a->len, &p, NULL);
    return 0;
}
