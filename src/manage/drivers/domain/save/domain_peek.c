/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A look into a disk's file and into a guest's memory; and files that the machine writes for us. */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manage/drivers/domain/command/domain_plan.h"
#include "manage/drivers/domain/stats/domain_stats.h"

enum { PEEK_MAX = 4 << 20 }; /* what one reply of the protocol may carry */

/* ---- a file of ours that the machine writes ---- */

char *domain_lend_file(struct domain *d, int memory, int64_t *ret_set, GError **error)
{
    g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", memory);
    int fd = open(link, O_WRONLY | O_CLOEXEC); /* the machine opens for writing alone, and gets a descriptor of that kind */
    if (fd < 0) {
        manage_fail_errno(error, errno, "cannot open memory for the machine to write to");
        return NULL;
    }
    struct json_object *set = monitor_command_fds(d, "add-fd", json_object_new_object(), &fd, 1, error);
    close(fd);
    if (!set)
        return NULL;
    *ret_set = json_object_get_int64(json_object_object_get(set, "fdset-id"));
    json_object_put(set);
    return g_strdup_printf("/dev/fdset/%" G_GINT64_FORMAT, *ret_set);
}

void domain_lend_end(struct domain *d, int64_t set)
{
    struct json_object *args = json_object_new_object();
    js_int(args, "fdset-id", set);
    json_object_put(monitor_command_fds(d, "remove-fd", args, NULL, 0, NULL));
}

/* ---- disks ---- */

static bool read_at(int fd, const char *path, const char *name, uint64_t offset, void *buffer, size_t size, GError **error)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = pread(fd, (char *)buffer + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return manage_fail_errno(error, errno, "cannot read '%s'", path);
        if (!n)
            return manage_fail(error, VIR_ERR_INVALID_ARG, "'%s' starting from %" G_GUINT64_FORMAT " has only %zu bytes available", name, offset, done);
        done += (size_t)n;
    }
    return true;
}

/* Not what the guest sees: the bytes of the image's file, as it lies there. */
static GVariant *block_peek(struct manage_call *c, GError **error)
{
    const char *name;
    uint64_t offset;
    uint32_t size, flags;
    struct stat st;
    g_variant_get(c->args, "(@(sayi)&stuu)", NULL, &name, &offset, &size, &flags);
    domain_auto *d = manage_check_flags(flags, 0, error) ? domain_of_call(c, 0, error) : NULL;
    doc_auto *doc = d ? domain_any_document(d, error) : NULL;
    struct el *disk = doc ? domain_need_disk(doc, name, VIR_ERR_INVALID_ARG, "disk '%s' not found in domain", error) : NULL;
    if (!disk)
        return NULL;
    const char *path = el_get(disk, "source/@file") ? el_get(disk, "source/@file") : el_get(disk, "source/@dev");
    if (size > PEEK_MAX)
        return manage_null(error, VIR_ERR_INVALID_ARG, "at most %d bytes can be read at once, not %u", PEEK_MAX, size);
    if (offset > INT64_MAX - PEEK_MAX)
        return manage_null(error, VIR_ERR_INVALID_ARG, "'%s' starting from %" G_GUINT64_FORMAT " has only 0 bytes available", name, offset);
    if (!path)
        return manage_null(error, VIR_ERR_CONFIG_UNSUPPORTED, "disk '%s' has no file or device of this host", name);
    g_autofree uint8_t *buffer = g_malloc(MAX(size, 1));
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    bool good = (fd >= 0 && fstat(fd, &st) == 0) || manage_fail_errno(error, errno, "cannot open '%s'", path);
    good = good && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode) || manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "'%s' is neither a file nor a block device", path));
    good = good && read_at(fd, path, name, offset, buffer, size, error);
    if (fd >= 0)
        close(fd);
    if (!good)
        return NULL;
    return g_variant_new("(@ay)", g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, buffer, size, 1));
}

/* ---- memory ---- */

static bool save_memory(struct domain *d, bool physical, uint64_t address, uint32_t size, int memory, GError **error)
{
    int64_t set;
    g_autofree char *name = domain_lend_file(d, memory, &set, error);
    if (!name)
        return false;
    struct json_object *args = json_object_new_object();
    json_object_object_add(args, "val", json_object_new_int64((int64_t)address));
    js_int(args, "size", size);
    js_set(args, "filename", name);
    struct json_object *o = monitor_command_fds(d, physical ? "pmemsave" : "memsave", args, NULL, 0, error);
    json_object_put(o);
    domain_lend_end(d, set);
    return o != NULL;
}

static GVariant *memory_peek(struct manage_call *c, GError **error)
{
    uint64_t address;
    uint32_t size, flags;
    g_variant_get(c->args, "(@(sayi)tuu)", NULL, &address, &size, &flags);
    if (!manage_check_flags(flags, VIR_MEMORY_VIRTUAL | VIR_MEMORY_PHYSICAL, error))
        return NULL;
    if (flags != VIR_MEMORY_VIRTUAL && flags != VIR_MEMORY_PHYSICAL)
        return manage_null(error, VIR_ERR_INVALID_ARG, "flags parameter must be VIR_MEMORY_VIRTUAL or VIR_MEMORY_PHYSICAL");
    if (size > PEEK_MAX)
        return manage_null(error, VIR_ERR_INVALID_ARG, "at most %d bytes can be read at once, not %u", PEEK_MAX, size);
    domain_auto *d = domain_of_call(c, 0, error);
    if (!d || !domain_begin(d, "memory peek", true, error))
        return NULL;
    int memory = memfd_create("vireo-peek", MFD_CLOEXEC);
    g_autofree uint8_t *buffer = g_malloc(MAX(size, 1));
    bool good = memory >= 0 || manage_fail_errno(error, errno, "cannot make memory for the copy");
    good = good && (!size || save_memory(d, flags == VIR_MEMORY_PHYSICAL, address, size, memory, error));
    domain_end(d);
    good = good && read_at(memory, "the copy of memory", d->name, 0, buffer, size, error);
    if (memory >= 0)
        close(memory);
    if (!good)
        return NULL;
    return g_variant_new("(@ay)", g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, buffer, size, 1));
}

/* ---- what libvirt's driver for this kind of machine does not have either ---- */

static GVariant *send_signal(struct manage_call *c, GError **error)
{
    return manage_null(error, VIR_ERR_NO_SUPPORT, "this function is not supported by the connection driver: virDomainSendProcessSignal");
}

static GVariant *take_over(struct manage_call *c, GError **error)
{
    return manage_null(error, VIR_ERR_NO_SUPPORT, "this function is not supported by the connection driver: virDomainQemuAttach");
}

const struct manage_row domain_rows_peek[] = {
    { RPC_DOMAIN_BLOCK_PEEK, block_peek },
    { RPC_DOMAIN_MEMORY_PEEK, memory_peek },
    { RPC_DOMAIN_SEND_PROCESS_SIGNAL, send_signal },
    { RPC_QEMU_DOMAIN_ATTACH, take_over },
    { 0, NULL },
};
