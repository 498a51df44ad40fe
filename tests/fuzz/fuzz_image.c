/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hostile disk image of every format (qcow2 has fuzz_qcow2.c) is opened, asked about, read, and where it opens so, written. The input says which format,
 * how large the file is, and its pieces: where each begins and what is in it; all else is zeroes. Checksums are set right, for no
 * fuzzer guesses them. Opened without a key: what a passphrase opens is random to those who do not have it.
 *
 *   byte 0: format; byte 1: 1 no checksums, 2 read-only; bytes 2-5: size in sectors; then pieces: offset in units of 4 bytes (u32),
 *   length (u16), bytes
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "block/node.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SIZE_MAX_SECTORS (1u << 20)
static const char *const formats[] = { "raw", "luks", "vdi", "vmdk", "vhdx", "vpc" };

static uint32_t crc32c(const uint8_t *at, size_t n)
{
    uint32_t crc = UINT32_MAX;
    for (; n--; at++) {
        crc ^= *at;
        for (int i = 0; i < 8; i++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
    }
    return ~crc;
}

/* vhdx: a structure of n bytes with its checksum behind the signature. */
static void fix_crc(int fd, off_t at, size_t n, const char *signature)
{
    g_autofree uint8_t *b = g_malloc0(n);
    if (pread(fd, b, n, at) != (ssize_t)n || memcmp(b, signature, 4))
        return;
    memset(b + 4, 0, 4);
    uint32_t crc = GUINT32_TO_LE(crc32c(b, n));
    g_assert_true(pwrite(fd, &crc, 4, at + 4) == 4);
}

/* vpc: the bytes' sum, inverted. */
static void fix_sum(int fd, off_t at, size_t n, size_t where)
{
    g_autofree uint8_t *b = g_malloc0(n);
    uint32_t sum = 0;
    if (at < 0 || pread(fd, b, n, at) != (ssize_t)n)
        return;
    for (size_t i = 0; i < n; i++)
        sum += i >= where && i < where + 4 ? 0 : b[i];
    sum = GUINT32_TO_BE(~sum);
    g_assert_true(pwrite(fd, &sum, 4, at + (off_t)where) == 4);
}

static void fix(int fd, const char *format, off_t bytes)
{
    if (!strcmp(format, "vhdx")) {
        fix_crc(fd, 64 << 10, 4096, "head");
        fix_crc(fd, 128 << 10, 4096, "head");
        fix_crc(fd, 192 << 10, 64 << 10, "regi");
        fix_crc(fd, 256 << 10, 64 << 10, "regi");
        for (unsigned i = 0; i < 8; i++)
            fix_crc(fd, (1 << 20) + i * 8192, 8192, "loge");
    }
    if (!strcmp(format, "vpc")) {
        fix_sum(fd, 0, 512, 64);
        fix_sum(fd, bytes - 512, 512, 64);
        fix_sum(fd, 512, 1024, 36);
    }
}

static int make_file(const uint8_t *data, size_t size, const char *format)
{
    int fd = memfd_create("image", MFD_CLOEXEC);
    uint32_t sectors, at;
    uint16_t n;
    memcpy(&sectors, data + 2, 4);
    off_t bytes = (off_t)(sectors % (SIZE_MAX_SECTORS + 1)) * 512;
    g_assert_true(fd >= 0 && !ftruncate(fd, bytes));
    for (size_t i = 6; i + 6 <= size; i += n) {
        memcpy(&at, data + i, 4);
        memcpy(&n, data + i + 4, 2);
        i += 6;
        n = (uint16_t)MIN(n, size - i);
        off_t offset = (off_t)at * 4;
        if (offset + n <= bytes)
            g_assert_true(pwrite(fd, data + i, n, offset) == n);
    }
    if (!(data[1] & 1))
        fix(fd, format, bytes);
    return fd;
}

static void exercise(struct block_node *n, bool write)
{
    static uint8_t buffer[128 << 10];
    uint64_t size = block_node_size(n), places[] = { 0, 512, 65536 - 512, size / 2, size > 70000 ? size - 70000 : 0, size > 512 ? size - 512 : 0 };
    struct block_info info;
    struct block_status s;
    json_object_put(block_image_info(n, false));
    json_object_put(block_specific_info(n));
    block_get_info(n, &info);
    for (unsigned i = 0; i < G_N_ELEMENTS(places); i++) {
        uint64_t at = places[i] & ~511ull, bytes = at < size ? MIN(size - at, sizeof(buffer)) : 0;
        if (!bytes)
            continue;
        block_pread(n, at, bytes, buffer);
        if (!block_status(n, at, size - at, &s))
            g_assert_true(s.bytes && s.bytes <= size - at);
        if (write && i % 2)
            block_pwrite(n, at, MIN(bytes, 8192), buffer, i == 3 ? BLOCK_FUA : 0);
        else if (write)
            block_write_zeroes(n, at, MIN(bytes, 4096), BLOCK_MAY_UNMAP);
        if (write && i == 2)
            block_discard(n, at, bytes);
    }
    if (write)
        block_flush(n);
    struct block_check c = { 0 };
    block_check(n, 0, &c, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 6)
        return 0;
    const char *format = formats[data[0] % G_N_ELEMENTS(formats)];
    bool descriptor = !strcmp(format, "vmdk") && (size < 16 || memcmp(data + 12, "KDMV", 4)); /* names other files: those are left alone */
    bool locked = !strcmp(format, "luks"), write = !(data[1] & 2) && !descriptor && strcmp(format, "vpc") && strcmp(format, "luks");
    int fd = make_file(data, size, format);
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
    keyval_auto *kv = keyval_new();
    keyval_add(kv, "driver", format);
    keyval_add(kv, "file.driver", "file");
    keyval_add(kv, "file.filename", path);
    keyval_add(kv, "file.locking", "off");
    struct block_graph *g = block_graph_create();
    g_autoptr(GError) error = NULL;
    struct block_node *n = block_open_options(g, kv, (write ? BLOCK_RDWR | BLOCK_UNMAP : 0) | BLOCK_NO_BACKING | (locked && !write ? BLOCK_NO_IO : 0), &error);
    g_assert_true(!n == !!error);
    if (n)
        exercise(n, write);
    block_node_unref(n);
    block_graph_destroy(g);
    close(fd);
    return 0;
}
