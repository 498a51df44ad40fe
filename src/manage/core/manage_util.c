/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* UUIDs, typed parameters, files written as a whole. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manage/core/manage.h"

/* ---- UUIDs (RFC 4122) ---- */

GVariant *manage_uuid_variant(const uint8_t uuid[16]) { return g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, uuid, 16, 1); }

const uint8_t *manage_variant_uuid(GVariant *record)
{
    g_autoptr(GVariant) v = g_variant_get_child_value(record, 1);
    gsize n;
    const uint8_t *uuid = g_variant_get_fixed_array(v, &n, 1);
    g_assert(n == 16);
    return uuid; /* lies in the record's own data */
}

void manage_uuid_format(const uint8_t u[16], char text[37])
{
    g_snprintf(text, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8],
               u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
}

bool manage_uuid_parse(const char *text, uint8_t ret_uuid[16])
{
    uint8_t uuid[16];
    for (unsigned i = 0; i < 16; i++) {
        while (*text == '-' || g_ascii_isspace(*text))
            text++;
        if (!g_ascii_isxdigit(text[0]) || !g_ascii_isxdigit(text[1]))
            return false;
        uuid[i] = (uint8_t)(g_ascii_xdigit_value(text[0]) << 4 | g_ascii_xdigit_value(text[1]));
        text += 2;
    }
    while (g_ascii_isspace(*text))
        text++;
    if (*text)
        return false;
    memcpy(ret_uuid, uuid, 16);
    return true;
}

void manage_uuid_random(uint8_t u[16])
{
    if (getrandom(u, 16, 0) != 16)
        g_error("no random numbers: %s", g_strerror(errno));
    u[6] = (uint8_t)((u[6] & 0x0f) | 0x40); /* version 4 */
    u[8] = (uint8_t)((u[8] & 0x3f) | 0x80);
}

/* ---- typed parameters ---- */

void manage_param(GVariantBuilder *b, const char *field, GVariant *value)
{
    GVariant *pair[] = { g_variant_new_string(field), g_variant_new_variant(value) };
    g_variant_builder_add_value(b, g_variant_new_tuple(pair, G_N_ELEMENTS(pair))); /* g_variant_builder_add() would read "(sv)" each time */
}
void manage_param_u64(GVariantBuilder *b, const char *field, uint64_t v) { manage_param(b, field, g_variant_new_uint64(v)); }
void manage_param_u32(GVariantBuilder *b, const char *field, uint32_t v) { manage_param(b, field, g_variant_new_uint32(v)); }
void manage_param_i32(GVariantBuilder *b, const char *field, int32_t v) { manage_param(b, field, g_variant_new_int32(v)); }
void manage_param_bool(GVariantBuilder *b, const char *field, bool v) { manage_param(b, field, g_variant_new_boolean(v)); }
void manage_param_string(GVariantBuilder *b, const char *field, const char *v)
{
    manage_param(b, field, g_variant_new_take_string(g_utf8_make_valid(v ? v : "", -1)));
}

GVariant *manage_params_reply(GVariantBuilder *b, int nparams_asked)
{
    GVariant *list = g_variant_builder_end(b);
    int n = (int)g_variant_n_children(list);
    if (nparams_asked == 0) {
        g_variant_unref(g_variant_ref_sink(list));
        list = g_variant_new_array(G_VARIANT_TYPE("(sv)"), NULL, 0);
    }
    return g_variant_new("(@a(sv)i)", list, n);
}

/* ---- files ---- */

static bool sync_dir(const char *path, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(path);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    if (!ok)
        manage_fail_errno(error, errno, "cannot write the directory '%s'", dir);
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool write_all(int fd, const char *text, gsize size)
{
    for (gsize at = 0; at < size;) {
        ssize_t n = write(fd, text + at, size - at);
        if (n < 0 && errno != EINTR)
            return false;
        at += n > 0 ? (gsize)n : 0;
    }
    return true;
}

static bool put_file(const char *path, const char *text, gssize size, mode_t mode, bool sync, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(path), *name = g_path_get_basename(path);
    if (g_mkdir_with_parents(dir, 0700) < 0)
        return manage_fail_errno(error, errno, "cannot make the directory '%s'", dir);
    g_autofree char *temporary = g_strdup_printf("%s/.%s.XXXXXX", dir, name);
    int fd = g_mkstemp_full(temporary, O_WRONLY | O_CLOEXEC, (int)mode);
    if (fd < 0)
        return manage_fail_errno(error, errno, "cannot make a file in '%s'", dir);
    bool ok = fchmod(fd, mode) == 0 && write_all(fd, text, size < 0 ? strlen(text) : (gsize)size) && (!sync || fsync(fd) == 0);
    int err = errno;
    close(fd);
    if (ok && rename(temporary, path) < 0) {
        ok = false;
        err = errno;
    }
    if (!ok) {
        unlink(temporary);
        return manage_fail_errno(error, err, "cannot write '%s'", path);
    }
    return true;
}

bool manage_write_file(const char *path, const char *text, gssize size, mode_t mode, GError **error)
{
    return put_file(path, text, size, mode, true, error) && sync_dir(path, error);
}

bool manage_put_file(const char *path, const char *text, gssize size, mode_t mode, GError **error) { return put_file(path, text, size, mode, false, error); }

gssize manage_read_small(const char *path, char *buf, gsize size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = -1;
    do
        n = fd >= 0 ? read(fd, buf, size - 1) : -1;
    while (n < 0 && fd >= 0 && errno == EINTR);
    if (fd >= 0)
        close(fd);
    buf[MAX(n, 0)] = 0;
    return n;
}

bool manage_remove_file(const char *path, GError **error)
{
    if (unlink(path) < 0) {
        if (errno == ENOENT)
            return true;
        return manage_fail_errno(error, errno, "cannot remove '%s'", path);
    }
    return sync_dir(path, error);
}

/* As the environment names it, beside the program that runs (a build directory), in `folder` beside its own (an installation), in PATH, where this build is installed. */
static char *find_program(const char *variable, const char *name, const char *folder, const char *installed)
{
    const char *named = g_getenv(variable);
    if (named)
        return g_strdup(named);
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL), *dir = self ? g_path_get_dirname(self) : NULL, *above = dir ? g_path_get_dirname(dir) : NULL;
    g_autofree char *beside = dir ? g_build_filename(dir, name, NULL) : NULL, *near = dir ? g_build_filename(above, folder, name, NULL) : NULL;
    if (beside && access(beside, X_OK) == 0)
        return g_steal_pointer(&beside);
    if (near && access(near, X_OK) == 0)
        return g_steal_pointer(&near);
    char *found = g_find_program_in_path(name);
    return found ? found : g_build_filename(installed, name, NULL);
}

char *manage_find_vmm(void) { return find_program("VIREO_VMM", "vireo-vmm", "bin", VIREO_BINDIR); }
char *manage_find_daemon(void) { return find_program("VIREOD_PATH", "vireod", "sbin", VIREO_SBINDIR); }
