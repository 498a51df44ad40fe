/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The file: blocks of zeros that are written once, so that writing them again changes nothing in the file system but these blocks. A record begins at a block: header, name,
 * text. Records of one generation stand one behind the other from the first block on; emptying is zeros in the first block. The end is where a record has the wrong
 * sum, number or generation.
 *
 * A record that need not wait for the disk is only given to the kernel: a daemon that is killed does not lose it, a power cut may. The next record that waits takes all such records
 * before it along to the disk, in the same write, so that no record is ever on the disk behind a gap: what a call has answered for is never hidden by a removal that was lost.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "manage/core/manage.h"
#include "manage/drivers/domain/domain_journal.h"

enum {
    BLOCK = 4096,
    BLOCKS = 2048, /* 8 MiB: a thousand definitions of usual size */
    QUIET_US = 1000000,
    MAGIC = 0x4c4a5256,
};

struct record { /* native byte order: the journal never leaves its host */
    uint32_t magic, number;
    uint64_t generation, sum; /* sum: over all of the record, with 0 here */
    int64_t us;
    uint32_t name_size, text_size, gone, zero;
};

struct journal {
    GMutex lock; /* everything here */
    GCond changed;
    GThread *thread;
    char *dir;
    int fd, dir_fd;    /* fd: writes wait for the disk */
    int quick_fd;      /* of the same file: they do not */
    bool ready;        /* the file has all its blocks */
    bool closing;
    unsigned used;     /* blocks */
    unsigned synced;   /* of them, those that are on the disk */
    uint32_t number;   /* records */
    uint64_t generation;
    gint64 last_us;    /* monotonic, of the last record */
    GHashTable *files; /* names whose files may not be on the disk yet */
};

/* FNV-1a over 8 bytes at a time. */
static uint64_t sum_of(const uint8_t *p, size_t size)
{
    uint64_t h = 0xcbf29ce484222325, v;
    for (size_t i = 0; i < size; i += sizeof(v)) {
        memcpy(&v, p + i, sizeof(v));
        h = (h ^ v) * 0x100000001b3;
        h ^= h >> 29;
    }
    return h;
}

static unsigned blocks_of(uint64_t bytes) { return (unsigned)((bytes + BLOCK - 1) / BLOCK); }

static GHashTable *names_new(void) { return g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL); }

/* ---- what was left ---- */

/* The record at block `at`; NULL: the end. */
static const struct record *record_at(const uint8_t *all, unsigned at, uint32_t number, uint64_t generation)
{
    if (at >= BLOCKS)
        return NULL;
    const struct record *r = (const struct record *)(all + (size_t)at * BLOCK);
    uint64_t bytes = sizeof(*r) + (uint64_t)r->name_size + r->text_size;
    if (r->magic != MAGIC || r->number != number || (number && r->generation != generation) || bytes > (uint64_t)(BLOCKS - at) * BLOCK || !r->name_size)
        return NULL;
    size_t size = (size_t)blocks_of(bytes) * BLOCK;
    g_autofree uint8_t *copy = g_memdup2(r, size);
    ((struct record *)copy)->sum = 0;
    return sum_of(copy, size) == r->sum ? r : NULL;
}

/* Applies the last record of each name. They stay where they are, and new ones come behind them. */
static void replay(struct journal *j, const uint8_t *all, journal_apply apply, void *opaque)
{
    g_autoptr(GHashTable) last = names_new();
    const struct record *r;
    for (; (r = record_at(all, j->used, j->number, j->generation)); j->number++) {
        j->generation = r->generation;
        g_hash_table_replace(last, g_strndup((const char *)(r + 1), r->name_size), (gpointer)r);
        j->used += blocks_of(sizeof(*r) + (uint64_t)r->name_size + r->text_size);
    }
    GHashTableIter iter;
    gpointer name, value;
    g_hash_table_iter_init(&iter, last);
    while (g_hash_table_iter_next(&iter, &name, &value)) {
        r = value;
        g_autofree char *text = r->gone ? NULL : g_strndup((const char *)(r + 1) + r->name_size, r->text_size);
        if (strchr(name, '/'))
            continue;
        apply(name, text, r->us, opaque);
        g_hash_table_add(j->files, g_strdup(name)); /* as the journal says, perhaps in the host's cache only: a killed daemon did not get further */
    }
}

/* The first block from which on nothing could pass for the next record: a power cut may have left some behind a gap. */
static unsigned end_of_remains(struct journal *j, const uint8_t *all)
{
    unsigned end = j->used;
    for (unsigned at = j->used; at < BLOCKS; at++) {
        const struct record *r = (const struct record *)(all + (size_t)at * BLOCK);
        if (r->magic == MAGIC && r->generation == j->generation)
            end = at + 1;
    }
    return end;
}

/* ---- blocks ---- */

/* n blocks of memory as O_DIRECT wants it, of zeros; free(). */
static void *blocks_new(unsigned n)
{
    void *p = NULL;
    if (posix_memalign(&p, BLOCK, (size_t)n * BLOCK))
        return NULL;
    return memset(p, 0, (size_t)n * BLOCK);
}

static bool write_blocks(int fd, const void *p, unsigned at, unsigned n)
{
    ssize_t size = (ssize_t)n * BLOCK, done;
    do
        done = pwrite(fd, p, (size_t)size, (off_t)at * BLOCK);
    while (done < 0 && errno == EINTR);
    return done == size;
}

static bool read_blocks(int fd, void *p, unsigned at, unsigned n)
{
    ssize_t size = (ssize_t)n * BLOCK, done;
    do
        done = pread(fd, p, (size_t)size, (off_t)at * BLOCK);
    while (done < 0 && errno == EINTR);
    return done == size;
}

static bool write_zeros(struct journal *j, unsigned at, unsigned n)
{
    void *p = blocks_new(n);
    bool ok = p && write_blocks(j->fd, p, at, n);
    free(p);
    return ok;
}

/* All blocks, once, where the file system has room for them and for the files as well: the last of it is not the journal's. */
static bool make_ready_locked(struct journal *j)
{
    const off_t size = (off_t)BLOCKS * BLOCK;
    struct stat st;
    struct statvfs room;
    if (j->ready)
        return true;
    bool whole = fstat(j->fd, &st) == 0 && st.st_size == size;
    if (!whole && (ftruncate(j->fd, 0) < 0 || fstatvfs(j->fd, &room) < 0 || (uint64_t)room.f_bavail * room.f_frsize < 2 * (uint64_t)size))
        return false;
    j->ready = write_zeros(j, 0, BLOCKS) && fsync(j->fd) == 0;
    if (!j->ready && !whole)
        (void)!ftruncate(j->fd, 0);
    return j->ready;
}

/* ---- files to the disk ---- */

/* wait: fsync; else the writing begins, so that one transaction of the file system has them all. */
static bool sync_file(struct journal *j, const char *name, bool wait)
{
    int fd = openat(j->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT; /* removed: the directory tells */
    bool ok = wait ? fsync(fd) == 0 : (sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE), true);
    close(fd);
    return ok;
}

static bool sync_files(struct journal *j, GHashTable *files)
{
    bool ok = true;
    for (int wait = 0; wait < 2; wait++) {
        GHashTableIter iter;
        gpointer name;
        g_hash_table_iter_init(&iter, files);
        while (g_hash_table_iter_next(&iter, &name, NULL))
            ok = sync_file(j, name, wait) && ok;
        ok = (wait || fsync(j->dir_fd) == 0) && ok;
    }
    return ok;
}

static bool empty_locked(struct journal *j)
{
    if (!write_zeros(j, 0, 1))
        return false;
    j->used = j->synced = 0;
    j->number = 0;
    j->generation++;
    g_hash_table_remove_all(j->files);
    return true;
}

static bool flush_locked(struct journal *j) { return !j->used || (sync_files(j, j->files) && empty_locked(j)); }

/* The files that are known now, without the lock, so that nobody waits; emptied when nobody wrote meanwhile. */
static void flush_quietly_locked(struct journal *j)
{
    GHashTable *files = j->files;
    uint32_t number = j->number;
    uint64_t generation = j->generation;
    j->files = names_new();
    g_mutex_unlock(&j->lock);
    bool ok = sync_files(j, files);
    g_mutex_lock(&j->lock);
    GHashTableIter iter;
    gpointer name;
    g_hash_table_iter_init(&iter, files);
    while (!ok && j->generation == generation && g_hash_table_iter_next(&iter, &name, NULL))
        g_hash_table_add(j->files, g_strdup(name));
    g_hash_table_unref(files);
    if (!ok || j->generation != generation || j->number != number || !empty_locked(j))
        j->last_us = g_get_monotonic_time(); /* later again */
}

static gpointer flusher(gpointer p)
{
    struct journal *j = p;
    g_mutex_lock(&j->lock);
    while (!j->closing) {
        if (!j->used)
            g_cond_wait(&j->changed, &j->lock);
        else if (g_get_monotonic_time() < j->last_us + QUIET_US)
            g_cond_wait_until(&j->changed, &j->lock, j->last_us + QUIET_US);
        else
            flush_quietly_locked(j);
    }
    g_mutex_unlock(&j->lock);
    return NULL;
}

/* ---- a change ---- */

/* p: n blocks of zeros. */
static void fill_record(struct journal *j, uint8_t *p, unsigned n, const char *file, const char *text)
{
    size_t name_size = strlen(file), text_size = text ? strlen(text) : 0;
    struct record *r = (struct record *)p;
    *r = (struct record){ .magic = MAGIC, .number = j->number, .generation = j->generation, .us = g_get_real_time(), .name_size = (uint32_t)name_size,
                          .text_size = (uint32_t)text_size, .gone = !text };
    memcpy(p + sizeof(*r), file, name_size);
    memcpy(p + sizeof(*r) + name_size, text ? text : "", text_size);
    r->sum = sum_of(p, (size_t)n * BLOCK);
}

/* The record of n blocks behind the others; wait: on the disk, with those before it that are not there. */
static bool append_locked(struct journal *j, unsigned n, const char *file, const char *text, bool wait)
{
    unsigned late = wait ? j->used - j->synced : 0;
    uint8_t *p = blocks_new(late + n);
    bool ok = p && (!late || read_blocks(j->quick_fd, p, j->synced, late));
    if (ok) {
        fill_record(j, p + (size_t)late * BLOCK, n, file, text);
        ok = write_blocks(wait ? j->fd : j->quick_fd, p, j->used - late, late + n);
    }
    free(p);
    return ok;
}

static bool write_record_locked(struct journal *j, const char *file, const char *text, bool wait)
{
    uint64_t bytes = sizeof(struct record) + (uint64_t)strlen(file) + (text ? strlen(text) : 0);
    if (bytes > (uint64_t)BLOCKS * BLOCK || !make_ready_locked(j))
        return false;
    unsigned n = blocks_of(bytes);
    if (j->used + n > BLOCKS && !flush_locked(j))
        return false;
    if (!append_locked(j, n, file, text, wait))
        return false;
    j->used += n;
    j->synced = wait ? j->used : j->synced;
    j->number++;
    j->last_us = g_get_monotonic_time();
    g_hash_table_add(j->files, g_strdup(file));
    if (j->number == 1)
        g_cond_signal(&j->changed);
    return true;
}

/* A file that is not there yet needs no other name first: what a killed daemon leaves of it is put right from the journal. */
static bool make_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    size_t size = strlen(text);
    bool ok = fd >= 0 && write(fd, text, size) == (ssize_t)size;
    if (fd >= 0)
        close(fd);
    if (fd >= 0 && !ok)
        unlink(path);
    return ok;
}

static bool change(const char *path, const char *text, bool sync, GError **error)
{
    if (!text)
        return sync ? manage_remove_file(path, error) : unlink(path) == 0 || errno == ENOENT || manage_fail_errno(error, errno, "cannot remove '%s'", path);
    if (sync)
        return manage_write_file(path, text, -1, 0600, error);
    return make_file(path, text) || manage_put_file(path, text, -1, 0600, error);
}

bool journal_put(struct journal *j, const char *file, const char *text, bool wait, GError **error)
{
    g_autofree char *path = g_build_filename(j->dir, file, NULL);
    g_mutex_lock(&j->lock);
    bool noted = write_record_locked(j, file, text, wait);
    /* Not in the journal: written through, once nothing older is there that a new daemon would put in its place. */
    bool ok = noted || flush_locked(j) || manage_fail(error, VIR_ERR_OPERATION_FAILED, "cannot write the files in '%s' to the disk", j->dir);
    ok = ok && change(path, text, !noted, error);
    if (!ok && noted)
        (void)!flush_locked(j); /* what the caller is told has failed is not to happen later */
    g_mutex_unlock(&j->lock);
    return ok;
}

/* ---- begin and end ---- */

/*
 * What a killed daemon left. Nobody waits for the disk: that the files are on it is the flusher's affair, as after any other record.
 */
static void take_over(struct journal *j, journal_apply apply, void *opaque)
{
    struct stat st;
    if (fstat(j->fd, &st) < 0 || st.st_size != (off_t)BLOCKS * BLOCK)
        return; /* just made: not one record was ever in it */
    uint8_t *all = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, j->fd, 0);
    if (all == MAP_FAILED)
        return;
    replay(j, all, apply, opaque);
    unsigned end = j->used ? end_of_remains(j, all) : 1;
    munmap(all, (size_t)st.st_size);
    j->ready = end == j->used || write_zeros(j, j->used, end - j->used) || flush_locked(j);
    if (!j->used)
        j->generation = (uint64_t)g_get_real_time();
    j->last_us = g_get_monotonic_time();
}

static int open_file(const char *path)
{
    const int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_DSYNC;
    int fd = open(path, flags | O_DIRECT, 0600);
    return fd >= 0 || errno != EINVAL ? fd : open(path, flags, 0600);
}

struct journal *journal_open(const char *path, const char *dir, journal_apply apply, void *opaque)
{
    int fd = open_file(path), dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), quick_fd = fd >= 0 ? open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW) : -1;
    if (fd < 0 || dir_fd < 0 || quick_fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0) {
        const int all[] = { fd, dir_fd, quick_fd };
        for (unsigned i = 0; i < G_N_ELEMENTS(all); i++)
            if (all[i] >= 0)
                close(all[i]);
        return NULL;
    }
    struct journal *j = g_new0(struct journal, 1);
    g_mutex_init(&j->lock);
    g_cond_init(&j->changed);
    j->fd = fd;
    j->quick_fd = quick_fd;
    j->dir_fd = dir_fd;
    j->dir = g_strdup(dir);
    j->files = names_new();
    j->generation = (uint64_t)g_get_real_time();
    g_mutex_lock(&j->lock);
    take_over(j, apply, opaque);
    g_mutex_unlock(&j->lock);
    j->thread = g_thread_new("journal", flusher, j);
    return j;
}

void journal_close(struct journal *j)
{
    if (!j)
        return;
    g_mutex_lock(&j->lock);
    j->closing = true;
    g_cond_signal(&j->changed);
    g_mutex_unlock(&j->lock);
    g_thread_join(j->thread);
    (void)!flush_locked(j); /* where that failed, the next daemon reads it */
    close(j->fd);
    close(j->quick_fd);
    close(j->dir_fd);
    g_hash_table_unref(j->files);
    g_mutex_clear(&j->lock);
    g_cond_clear(&j->changed);
    g_free(j->dir);
    g_free(j);
}
