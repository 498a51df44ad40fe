/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Overwriting what a volume holds. The sequences are those that each method is published with; passes that only verify are left out. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <unistd.h>

#include "storage.h"

enum { CHUNK = 1 << 20, MAX_PASSES = 35 };

/* A pass: up to three bytes that repeat; RANDOM: fresh random data. */
struct pass {
    int16_t bytes; /* how many; RANDOM */
    uint8_t pattern[3];
};
#define RANDOM { -1, { 0 } }
#define BYTE(b) { 1, { b } }
#define R4 RANDOM, RANDOM, RANDOM, RANDOM
#define R7 R4, RANDOM, RANDOM, RANDOM

static const struct method {
    const char *name;
    unsigned repeat;
    struct pass pass[MAX_PASSES]; /* ends with bytes == 0 */
} methods[] = {
    [VIR_STORAGE_VOL_WIPE_ALG_ZERO] = { "zero", 1, { BYTE(0) } },
    [VIR_STORAGE_VOL_WIPE_ALG_NNSA] = { "nnsa", 1, { RANDOM, RANDOM, BYTE(0) } },
    [VIR_STORAGE_VOL_WIPE_ALG_DOD] = { "dod", 1, { RANDOM, BYTE(0), BYTE(0xff) } },
    [VIR_STORAGE_VOL_WIPE_ALG_BSI] = { "bsi", 1, { BYTE(0xff), BYTE(0xfe), BYTE(0xfd), BYTE(0xfb), BYTE(0xf7), BYTE(0xef), BYTE(0xdf), BYTE(0xbf), BYTE(0x7f) } },
    [VIR_STORAGE_VOL_WIPE_ALG_GUTMANN] = { "gutmann", 1, { R4, BYTE(0x55), BYTE(0xaa), { 3, { 0x92, 0x49, 0x24 } }, { 3, { 0x49, 0x24, 0x92 } },
        { 3, { 0x24, 0x92, 0x49 } }, BYTE(0x00), BYTE(0x11), BYTE(0x22), BYTE(0x33), BYTE(0x44), BYTE(0x55), BYTE(0x66), BYTE(0x77), BYTE(0x88), BYTE(0x99),
        BYTE(0xaa), BYTE(0xbb), BYTE(0xcc), BYTE(0xdd), BYTE(0xee), BYTE(0xff), { 3, { 0x92, 0x49, 0x24 } }, { 3, { 0x49, 0x24, 0x92 } },
        { 3, { 0x24, 0x92, 0x49 } }, { 3, { 0x6d, 0xb6, 0xdb } }, { 3, { 0xb6, 0xdb, 0x6d } }, { 3, { 0xdb, 0x6d, 0xb6 } }, R4 } },
    [VIR_STORAGE_VOL_WIPE_ALG_SCHNEIER] = { "schneier", 1, { BYTE(0xff), BYTE(0x00), R4, RANDOM } },
    [VIR_STORAGE_VOL_WIPE_ALG_PFITZNER7] = { "pfitzner7", 1, { R7 } },
    [VIR_STORAGE_VOL_WIPE_ALG_PFITZNER33] = { "pfitzner33", 33, { RANDOM } },
    [VIR_STORAGE_VOL_WIPE_ALG_RANDOM] = { "random", 1, { RANDOM } },
    [VIR_STORAGE_VOL_WIPE_ALG_TRIM] = { "trim", 1, { { 0 } } },
};

static void fill(const struct pass *p, uint8_t *buffer, size_t size)
{
    if (p->bytes == 1)
        memset(buffer, p->pattern[0], size);
    else
        for (size_t i = 0; i < size; i++)
            buffer[i] = p->pattern[i % 3];
}

static bool random_bytes(uint8_t *buffer, size_t size, GError **error)
{
    for (size_t at = 0; at < size;) {
        ssize_t n = getrandom(buffer + at, MIN(size - at, 256), 0);
        if (n < 0 && errno != EINTR)
            return manage_fail_errno(error, errno, "no random numbers");
        at += n > 0 ? (size_t)n : 0;
    }
    return true;
}

static bool overwrite(const struct storage_job *j, int fd, const struct pass *p, uint64_t size, uint8_t *buffer, const char *what, GError **error)
{
    const size_t unit = p->bytes == 3 ? CHUNK - CHUNK % 3 : CHUNK; /* the pattern goes on over the edge */
    if (p->bytes > 0)
        fill(p, buffer, unit);
    for (uint64_t at = 0; at < size;) {
        size_t n = MIN(unit, size - at);
        if (!storage_job_goes_on(j, error) || (p->bytes < 0 && !random_bytes(buffer, n, error)))
            return false;
        ssize_t done = pwrite(fd, buffer, n, (off_t)at);
        if (done < 0 && errno != EINTR)
            return manage_fail_errno(error, errno, "cannot wipe volume '%s'", what);
        at += done > 0 ? (uint64_t)done : 0;
    }
    return fdatasync(fd) == 0 || manage_fail_errno(error, errno, "cannot wipe volume '%s'", what);
}

/* A sparse file gives its blocks back, which is faster and writes nothing that was not there. */
static bool empty_sparse(int fd, const struct stat *st, bool *ret_done, const char *what, GError **error)
{
    *ret_done = S_ISREG(st->st_mode) && (uint64_t)st->st_blocks * 512 < (uint64_t)st->st_size;
    if (*ret_done && (ftruncate(fd, 0) < 0 || ftruncate(fd, st->st_size) < 0))
        return manage_fail_errno(error, errno, "cannot wipe volume '%s'", what);
    return true;
}

static bool trim(int fd, const struct stat *st, uint64_t size, const char *what, GError **error)
{
    uint64_t range[2] = { 0, size };
    int r = S_ISBLK(st->st_mode) ? ioctl(fd, BLKDISCARD, range) : fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)MAX(size, 1));
    return r == 0 || manage_fail_errno(error, errno, "'trim' is not possible with volume '%s'; 'zero' is", what);
}

static bool wipe_fd(const struct storage_job *j, int fd, const struct method *m, const char *what, GError **error)
{
    struct stat st;
    off_t end = lseek(fd, 0, SEEK_END);
    bool done = false;
    if (fstat(fd, &st) < 0 || end < 0)
        return manage_fail_errno(error, errno, "cannot look at volume '%s'", what);
    if (m == &methods[VIR_STORAGE_VOL_WIPE_ALG_TRIM])
        return trim(fd, &st, (uint64_t)end, what, error);
    if (m == &methods[VIR_STORAGE_VOL_WIPE_ALG_ZERO] && (!empty_sparse(fd, &st, &done, what, error) || done))
        return done;
    g_autofree uint8_t *buffer = g_malloc(CHUNK);
    for (unsigned r = 0; r < m->repeat; r++)
        for (unsigned i = 0; i < MAX_PASSES && m->pass[i].bytes; i++)
            if (!overwrite(j, fd, &m->pass[i], (uint64_t)end, buffer, what, error))
                return false;
    return true;
}

bool storage_wipe(struct storage_job *j, const struct storage_volume *v, unsigned algorithm, GError **error)
{
    if (algorithm >= G_N_ELEMENTS(methods))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "wiping algorithm %u not supported", algorithm);
    if (v->type == VIR_STORAGE_VOL_DIR)
        return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "volume '%s' is a directory: wipe what is in it", v->name);
    int fd = open(v->target.path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return manage_fail_errno(error, errno, "cannot open '%s'", v->target.path);
    bool ok = wipe_fd(j, fd, &methods[algorithm], v->name, error);
    close(fd);
    return ok;
}
