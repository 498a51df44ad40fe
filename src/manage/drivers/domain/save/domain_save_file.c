/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The layout of files with a machine's state. They come from anywhere: every length is checked before it is used. */
#include "manage/drivers/domain/save/domain_save_file.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAGIC = 16, WORDS = 19, HEADER = MAGIC + 4 * WORDS, PADDING = 64 << 10, LENGTH_MOST = 32 << 20, VERSION = 2 };
enum { WORD_VERSION, WORD_LENGTH, WORD_RAN, WORD_FORMAT, WORD_COOKIE };

static const char magic_whole[MAGIC + 1] = "LibvirtQemudSave", magic_partial[MAGIC + 1] = "LibvirtQemudPart";
static const char *const programs[SAVE_FORMATS] = { NULL, "gzip", "bzip2", "xz", "lzop", "zstd" };

void save_image_free(struct save_image *i)
{
    if (!i)
        return;
    g_free(i->path);
    g_free(i->xml);
    g_free(i->cookie);
    g_free(i);
}

bool save_format_parse(const char *name, enum save_format *ret)
{
    for (unsigned i = 0; i < SAVE_FORMATS; i++)
        if (!strcmp(name, i ? programs[i] : "raw")) {
            *ret = (enum save_format)i;
            return true;
        }
    return false;
}

/* ---- reading ---- */

static bool read_all(int fd, void *to, size_t size)
{
    for (size_t at = 0; at < size;) {
        ssize_t n = read(fd, (char *)to + at, size - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        at += (size_t)n;
    }
    return true;
}

static bool write_all(int fd, const void *from, size_t size)
{
    for (size_t at = 0; at < size;) {
        ssize_t n = write(fd, (const char *)from + at, size - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            errno = n ? errno : ENOSPC;
            return false;
        }
        at += (size_t)n;
    }
    return true;
}

static uint32_t word(const uint8_t *header, unsigned i)
{
    uint32_t v;
    memcpy(&v, header + MAGIC + 4 * i, 4);
    return GUINT32_FROM_LE(v);
}

static bool read_rest(int fd, struct save_image *i, uint32_t cookie, GError **error)
{
    g_autofree char *data = g_malloc((gsize)i->length + 1);
    if (!read_all(fd, data, i->length))
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "'%s' ends before the machine's state begins", i->path);
    data[i->length] = '\0';
    i->xml = g_strdup(data);
    if (cookie)
        i->cookie = g_strdup(data + cookie);
    return g_utf8_validate(i->xml, -1, NULL) || manage_fail(error, VIR_ERR_OPERATION_FAILED, "the document in '%s' is no text", i->path);
}

static bool read_header(int fd, struct save_image *i, bool partial_too, GError **error)
{
    uint8_t h[HEADER];
    bool all = read_all(fd, h, sizeof(h));
    i->partial = !memcmp(h, magic_partial, MAGIC);
    if (!all)
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "failed to read qemu header: '%s' is too short for a file with a machine's state", i->path);
    if (!i->partial && memcmp(h, magic_whole, MAGIC))
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "image magic is incorrect: '%s' does not hold a machine's state", i->path);
    if (i->partial && !partial_too)
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "save image is incomplete: '%s' was never written to its end", i->path);
    if (word(h, WORD_VERSION) != VERSION)
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "image version is not supported: '%s' has version %u, not %d", i->path,
                           word(h, WORD_VERSION) == GUINT32_SWAP_LE_BE((uint32_t)VERSION) ? VERSION : word(h, WORD_VERSION), VERSION);
    i->length = word(h, WORD_LENGTH);
    i->ran = word(h, WORD_RAN) != 0;
    i->format = word(h, WORD_FORMAT);
    uint32_t cookie = word(h, WORD_COOKIE);
    if (i->length == 0 || i->length > LENGTH_MOST || (cookie && cookie >= i->length))
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "invalid header data length: '%s' says %u", i->path, i->length);
    if (i->format >= SAVE_FORMATS)
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "'%s' is packed in a way that is not known here (%u)", i->path, i->format);
    return read_rest(fd, i, cookie, error);
}

struct save_image *save_image_read(const char *path, bool *ret_partial, GError **error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) {
        manage_fail_errno(error, errno, "Failed to open file '%s'", path);
        return NULL;
    }
    struct save_image *i = g_new0(struct save_image, 1);
    i->path = g_strdup(path);
    bool ok = read_header(fd, i, ret_partial != NULL, error);
    close(fd);
    if (ret_partial)
        *ret_partial = i->partial;
    if (ok)
        return i;
    save_image_free(i);
    return NULL;
}

enum save_kind save_image_kind(const char *path)
{
    char magic[MAGIC];
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    enum save_kind kind = SAVE_NONE;
    if (fd >= 0 && fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode))) {
        bool all = read_all(fd, magic, MAGIC);
        kind = all && !memcmp(magic, magic_whole, MAGIC) ? SAVE_WHOLE : !all || !memcmp(magic, magic_partial, MAGIC) ? SAVE_PARTIAL : SAVE_NONE;
    }
    if (fd >= 0)
        close(fd);
    return kind;
}

/* ---- writing ---- */

/* Nothing is there yet: can something be? */
static bool can_make(const char *path, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(path);
    return access(dir, W_OK | X_OK) == 0 || manage_fail_errno(error, errno, "Failed to create file '%s'", path);
}

bool save_file_prepare(struct manage_state *s, const char *path, GError **error)
{
    struct stat st;
    g_autofree char *user = domain_disk_user(s, path);
    if (!g_path_is_absolute(path))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "'%s' must be the file's path from the root", path);
    if (user)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "'%s' is an image of the running domain '%s'", path, user);
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT)
        return can_make(path, error);
    if (fd < 0 && errno != ENXIO)
        return manage_fail_errno(error, errno, "Failed to create file '%s'", path);
    bool good = fd >= 0 && fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode));
    bool ok = good && (S_ISREG(st.st_mode) ? ftruncate(fd, 0) == 0 : pwrite(fd, magic_partial, MAGIC, 0) == MAGIC);
    int err = errno;
    if (fd >= 0)
        close(fd);
    if (!good)
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "'%s' is neither a file nor a disk", path);
    return ok || manage_fail_errno(error, err, "cannot write '%s'", path);
}

int save_file_open(const char *path, GError **error)
{
    struct stat st;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
    if (fd >= 0 && fstat(fd, &st) == 0 && (!S_ISREG(st.st_mode) || ftruncate(fd, 0) == 0))
        return fd;
    manage_fail_errno(error, errno, "Failed to create file '%s'", path);
    if (fd >= 0)
        close(fd);
    return -1;
}

/* Header and document; `room`: how long both are with the cookie and what is free behind them. 0: to be chosen. */
static char *head(const char *magic, const char *xml, const char *cookie, bool ran, uint32_t format, uint32_t length, gsize *ret_size)
{
    gsize xml_size = strlen(xml) + 1, cookie_size = cookie ? strlen(cookie) + 1 : 0;
    if (!length)
        length = (uint32_t)(xml_size + cookie_size + PADDING);
    uint32_t words[WORDS] = { VERSION, length, ran, format, cookie ? (uint32_t)xml_size : 0 };
    char *data = g_malloc0(HEADER + (gsize)length);
    for (unsigned i = 0; i < WORDS; i++)
        words[i] = GUINT32_TO_LE(words[i]);
    memcpy(data, magic, MAGIC);
    memcpy(data + MAGIC, words, sizeof(words));
    memcpy(data + HEADER, xml, xml_size);
    if (cookie)
        memcpy(data + HEADER + xml_size, cookie, cookie_size);
    *ret_size = HEADER + (gsize)length;
    return data;
}

static bool sync_directory(const char *path)
{
    g_autofree char *dir = g_path_get_dirname(path);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

int save_image_begin(const char *path, const char *xml, bool ran, enum save_format format, GError **error)
{
    gsize size;
    if (strlen(xml) > LENGTH_MOST - 2 * PADDING)
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "the domain's document is too long to be saved"), -1;
    g_autofree char *data = head(magic_partial, xml, NULL, ran, format, 0, &size);
    int fd = save_file_open(path, error);
    if (fd < 0 || write_all(fd, data, size))
        return fd;
    manage_fail_errno(error, errno, "cannot write '%s'", path);
    close(fd);
    return -1;
}

/* The magic comes last: what has it is all there. */
bool save_image_complete(int fd, const char *path, bool drop, GError **error)
{
    if (fsync(fd) < 0 || pwrite(fd, magic_whole, MAGIC, 0) != MAGIC || fsync(fd) < 0 || !sync_directory(path))
        return manage_fail_errno(error, errno, "cannot write '%s' to the disk", path);
    if (drop)
        (void)!posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    return true;
}

void save_image_remove(const char *path)
{
    struct stat st;
    if (lstat(path, &st) == 0 && (S_ISREG(st.st_mode) || S_ISLNK(st.st_mode)))
        unlink(path);
}

bool save_image_rewrite(struct save_image *i, const char *xml, bool ran, GError **error)
{
    gsize size, need = strlen(xml) + 1 + (i->cookie ? strlen(i->cookie) + 1 : 0);
    if (need > i->length)
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "new xml too large to fit in file: %zu bytes, there is room for %u", need, i->length);
    g_autofree char *data = head(magic_whole, xml, i->cookie, ran, i->format, i->length, &size);
    int fd = open(i->path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    bool ok = fd >= 0 && write_all(fd, data, size) && fsync(fd) == 0;
    int err = errno;
    if (fd >= 0)
        close(fd);
    return ok || manage_fail_errno(error, err, "cannot write '%s'", i->path);
}

/* ---- packed ones ---- */

struct save_packer {
    GPid pid;
    const char *program;
};

/* Reads from one end and writes to the other; both are the caller's. ret NULL: nobody waits for its end. */
static bool spawn(enum save_format format, bool pack, int in, int out, GPid *ret, GError **error)
{
    char *argv[] = { (char *)programs[format], (char *)(pack ? "-c" : "-dc"), NULL };
    g_autoptr(GError) e = NULL;
    if (g_spawn_async_with_fds(NULL, argv, NULL, G_SPAWN_SEARCH_PATH | (ret ? G_SPAWN_DO_NOT_REAP_CHILD : 0) | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL, ret, in, out, -1, &e))
        return true;
    return manage_fail(error, VIR_ERR_OPERATION_FAILED, "a machine's state packed by %s needs that program: %s", programs[format], e->message);
}

struct save_packer *save_packer_new(enum save_format format, int fd, int *ret_fd, GError **error)
{
    int ends[2];
    GPid pid;
    if (!g_unix_open_pipe(ends, FD_CLOEXEC, NULL))
        return manage_null(error, VIR_ERR_OPERATION_FAILED, "no descriptors are left for a pipe");
    bool ok = spawn(format, true, ends[0], fd, &pid, error);
    close(ends[0]);
    if (!ok) {
        close(ends[1]);
        return NULL;
    }
    struct save_packer *p = g_new0(struct save_packer, 1);
    *p = (struct save_packer){ pid, programs[format] };
    *ret_fd = ends[1];
    return p;
}

bool save_packer_finish(struct save_packer *p, GError **error)
{
    int status = -1;
    while (waitpid(p->pid, &status, 0) < 0 && errno == EINTR)
        ;
    bool ok = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    const char *program = p->program;
    g_free(p);
    return ok || manage_fail(error, VIR_ERR_OPERATION_FAILED, "the program %s has failed", program);
}

int save_image_stream(const struct save_image *i, GError **error)
{
    int ends[2], fd = open(i->path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0 || lseek(fd, HEADER + (off_t)i->length, SEEK_SET) < 0) {
        manage_fail_errno(error, errno, "Failed to open file '%s'", i->path);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    if (i->format == SAVE_RAW)
        return fd;
    bool pipe = g_unix_open_pipe(ends, FD_CLOEXEC, NULL);
    bool ok = pipe ? spawn(i->format, false, fd, ends[1], NULL, error) : manage_fail(error, VIR_ERR_OPERATION_FAILED, "no descriptors are left for a pipe");
    close(fd);
    if (pipe)
        close(ends[1]);
    if (pipe && !ok)
        close(ends[0]);
    return ok ? ends[0] : -1;
}
