/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a file is, by its first bytes. The content is hostile: a guest may have written any header into a raw disk. So nothing here follows a pointer further
 * than a bounded read, no file is opened for writing, and a backing file is only named and asked for its owner, never read.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "storage.h"

enum { HEAD = 4096, BACKING_MAX = 1023, EXTENSIONS_MAX = 64, ISO_AT = 32769 };

struct head {
    int fd;
    uint64_t size; /* of the file */
    size_t n;
    uint8_t bytes[HEAD];
};

static uint32_t be32(const uint8_t *p) { return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]; }
static uint64_t be64(const uint8_t *p) { return (uint64_t)be32(p) << 32 | be32(p + 4); }
static uint32_t le32(const uint8_t *p) { return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0]; }
static uint64_t le64(const uint8_t *p) { return (uint64_t)le32(p + 4) << 32 | le32(p); }

/* A piece of text in the file: the name of a backing file. NULL: it is not there, too long, or no text. */
static char *text_at(const struct head *h, uint64_t offset, uint64_t length)
{
    if (!length || length > BACKING_MAX || offset > h->size)
        return NULL;
    char buffer[BACKING_MAX + 1] = { 0 };
    if (pread(h->fd, buffer, length, (off_t)offset) != (ssize_t)length || !g_utf8_validate(buffer, -1, NULL) || !*buffer)
        return NULL;
    for (const char *c = buffer; *c; c++)
        if ((unsigned char)*c < 0x20)
            return NULL;
    return g_strdup(buffer);
}

/* ---- formats with more than a size ---- */

/* Header extension 0xe2792aca names the format of the backing file (qcow2 specification, "Header extensions"). */
static char *qcow2_backing_format(const struct head *h, uint32_t at)
{
    for (unsigned i = 0; i < EXTENSIONS_MAX && at + 8 <= h->n; i++) {
        uint32_t type = be32(h->bytes + at), length = be32(h->bytes + at + 4);
        if (!type || length > HEAD)
            return NULL;
        if (type == 0xe2792aca)
            return length < 32 ? text_at(h, at + 8, length) : NULL;
        at += 8 + ((length + 7) & ~7u);
    }
    return NULL;
}

static void qcow2(const struct head *h, struct storage_target *t, char **ret_backing, char **ret_format)
{
    uint32_t version = be32(h->bytes + 4), bits = be32(h->bytes + 20), crypt = be32(h->bytes + 32);
    t->capacity = be64(h->bytes + 24);
    if (bits >= 9 && bits <= 21)
        t->cluster = (uint64_t)1 << bits;
    if (crypt)
        t->encryption = g_strdup(crypt == 2 ? "luks" : "qcow");
    *ret_backing = text_at(h, be64(h->bytes + 8), be32(h->bytes + 16));
    if (version < 3) {
        *ret_format = qcow2_backing_format(h, 72);
        return;
    }
    t->compat = g_strdup("1.1");
    t->has_features = true;
    t->lazy_refcounts = be64(h->bytes + 80) & 1;
    t->extended_l2 = be64(h->bytes + 72) & 16;
    uint32_t length = be32(h->bytes + 100);
    *ret_format = length >= 104 && length < HEAD ? qcow2_backing_format(h, length) : NULL;
}

static void qcow(const struct head *h, struct storage_target *t, char **ret_backing, char **ret_format)
{
    (void)ret_format;
    t->capacity = be64(h->bytes + 24);
    if (be32(h->bytes + 36))
        t->encryption = g_strdup("qcow");
    *ret_backing = text_at(h, be64(h->bytes + 8), be32(h->bytes + 16));
}

static void qed(const struct head *h, struct storage_target *t, char **ret_backing, char **ret_format)
{
    uint64_t features = le64(h->bytes + 16);
    t->capacity = le64(h->bytes + 48);
    if (features & 1)
        *ret_backing = text_at(h, le32(h->bytes + 56), le32(h->bytes + 60));
    if (features & 4)
        *ret_format = g_strdup("raw");
}

static void vmdk(const struct head *h, struct storage_target *t, char **ret_backing, char **ret_format)
{
    (void)ret_backing;
    (void)ret_format;
    uint64_t sectors = le64(h->bytes + 12);
    t->capacity = sectors < (uint64_t)1 << 54 ? sectors * 512 : h->size;
}

/* LUKS 1: the content lies behind the header and the key material. */
static void luks(const struct head *h, struct storage_target *t, char **ret_backing, char **ret_format)
{
    (void)ret_backing;
    (void)ret_format;
    uint64_t payload = h->bytes[7] == 1 ? (uint64_t)be32(h->bytes + 104) * 512 : 0;
    t->encryption = g_strdup(h->bytes[7] == 1 ? "luks" : "luks2");
    t->capacity = payload < h->size ? h->size - payload : 0;
}

/* One row a format. size_at 0: `more` says it, or the file's size. */
static const struct magic {
    const char *format;
    uint16_t at, length;
    const char *bytes;
    uint16_t size_at;
    bool size_be;
    uint16_t size_unit;
    uint32_t version_at, version_min, version_max; /* big-endian; version_at 0: none */
    void (*more)(const struct head *h, struct storage_target *t, char **ret_backing, char **ret_format);
} magics[] = {
    { "qcow2", 0, 4, "QFI\xfb", 0, true, 1, 4, 2, 3, qcow2 },
    { "qcow", 0, 4, "QFI\xfb", 0, true, 1, 4, 1, 1, qcow },
    { "raw", 0, 6, "LUKS\xba\xbe", 0, true, 1, 0, 0, 0, luks },
    { "qed", 0, 4, "QED\0", 0, false, 1, 0, 0, 0, qed },
    { "vmdk", 0, 4, "KDMV", 0, false, 512, 0, 0, 0, vmdk },
    { "vdi", 64, 4, "\x7f\x10\xda\xbe", 368, false, 1, 0, 0, 0, NULL },
    { "vpc", 0, 8, "conectix", 48, true, 1, 0, 0, 0, NULL },
    { "ploop", 0, 16, "WithoutFreeSpace", 36, false, 512, 0, 0, 0, NULL },
    { "ploop", 0, 16, "WithouFreSpacExt", 36, false, 512, 0, 0, 0, NULL },
    { "cow", 0, 4, "OOOM", 1036, true, 1, 0, 0, 0, NULL },
    { "bochs", 0, 22, "Bochs Virtual HD Image", 0, false, 1, 0, 0, 0, NULL },
    { "cloop", 0, 10, "#!/bin/sh\n", 0, false, 1, 0, 0, 0, NULL },
};

static bool fits(const struct magic *m, const struct head *h)
{
    if (h->n < 128 || (size_t)(m->at + m->length) > h->n || memcmp(h->bytes + m->at, m->bytes, m->length))
        return false;
    if (!strcmp(m->format, "cloop") && (h->n < 32 || memcmp(h->bytes + 10, "#V2.0 Format\n", 13)))
        return false;
    uint32_t version = m->version_at ? be32(h->bytes + m->version_at) : 0;
    return version >= m->version_min && version <= m->version_max;
}

static void read_format(const struct head *h, struct storage_target *t, char **ret_backing, char **ret_format)
{
    const char *format = "raw";
    char iso[5];
    for (unsigned i = 0; i < G_N_ELEMENTS(magics); i++) {
        const struct magic *m = &magics[i];
        if (!fits(m, h))
            continue;
        format = m->format;
        if (m->more)
            m->more(h, t, ret_backing, ret_format);
        else if (m->size_at && m->size_at + 8u <= h->n)
            t->capacity = (m->size_be ? be64(h->bytes + m->size_at) : le64(h->bytes + m->size_at)) * m->size_unit;
        break;
    }
    if (!strcmp(format, "raw") && !t->encryption && h->size >= ISO_AT + 5 && pread(h->fd, iso, 5, ISO_AT) == 5 && !memcmp(iso, "CD001", 5))
        format = "iso";
    if (t->capacity > INT64_MAX) /* no image is that large: what the header says is not believed */
        t->capacity = h->size;
    g_free(t->format);
    t->format = g_strdup(format);
}

/* ---- files ---- */

static void take_stat(struct storage_target *t, const struct stat *st)
{
    t->has_perms = t->has_times = true;
    t->mode = st->st_mode & 07777;
    t->uid = st->st_uid;
    t->gid = st->st_gid;
    t->atime = st->st_atim;
    t->mtime = st->st_mtim;
    t->ctime = st->st_ctim;
}

/* A name with a protocol ("nbd://...", "json:...") is no path. */
static bool is_path(const char *name)
{
    size_t word = strcspn(name, ":/");
    return name[word] != ':';
}

static struct storage_target *backing_of(const char *image, const char *name, const char *format)
{
    struct storage_target *b = g_new0(struct storage_target, 1);
    struct stat st;
    if (is_path(name)) {
        g_autofree char *dir = g_path_get_dirname(image);
        b->path = g_canonicalize_filename(name, dir);
        if (stat(b->path, &st) == 0)
            take_stat(b, &st);
    } else {
        b->path = g_strdup(g_str_has_prefix(name, "file:") ? name + 5 : name);
    }
    b->format = g_strdup(format ? format : "raw");
    return b;
}

static int open_quietly(const char *path)
{
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | O_NOATIME);
    return fd >= 0 || errno != EPERM ? fd : open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

static void read_head(struct storage_target *t, int fd, const struct stat *st, struct storage_target **ret_backing)
{
    struct head h = { .fd = fd, .size = t->physical };
    g_autofree char *backing = NULL, *format = NULL;
    ssize_t n = st->st_size || S_ISBLK(st->st_mode) ? pread(fd, h.bytes, sizeof(h.bytes), 0) : 0;
    h.n = n > 0 ? (size_t)n : 0;
    read_format(&h, t, &backing, &format);
    if (backing && ret_backing)
        *ret_backing = backing_of(t->path, backing, format);
}

enum storage_probe storage_probe(struct storage_target *t, int *ret_type, struct storage_target **ret_backing, GError **error)
{
    struct stat st;
    /* What is no file, directory or device is not even opened: opening a FIFO wakes its writer. */
    if (stat(t->path, &st) < 0)
        return errno == ENOENT || errno == ELOOP || errno == ENOTDIR ? STORAGE_PROBE_SKIP
                                                                     : (manage_fail_errno(error, errno, "cannot look at '%s'", t->path), STORAGE_PROBE_ERROR);
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode) && !S_ISBLK(st.st_mode))
        return STORAGE_PROBE_SKIP;
    take_stat(t, &st);
    *ret_type = S_ISDIR(st.st_mode) ? VIR_STORAGE_VOL_DIR : VIR_STORAGE_VOL_FILE;
    if (S_ISDIR(st.st_mode)) {
        t->format = g_strdup("dir");
        return STORAGE_PROBE_OK;
    }
    int fd = open_quietly(t->path);
    if (S_ISBLK(st.st_mode)) {
        off_t end = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;
        t->capacity = t->allocation = t->physical = end > 0 ? (uint64_t)end : 0;
    } else {
        t->capacity = t->physical = (uint64_t)st.st_size;
        t->allocation = (uint64_t)st.st_blocks * 512;
    }
    t->format = g_strdup("raw");
    if (fd >= 0) { /* one that may not be read is a volume all the same */
        read_head(t, fd, &st, ret_backing);
        close(fd);
    }
    return STORAGE_PROBE_OK;
}

void storage_probe_secret(struct storage *s, struct storage_target *t)
{
    const struct manage_services *services = s->state->services;
    if (!t->encryption || !services->secret_uuid)
        return;
    t->secret_uuid = services->secret_uuid(s->state, "volume", t->path);
}
