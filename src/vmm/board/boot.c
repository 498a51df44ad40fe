/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/board/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fdset.h"
#include "cpu/x86/x86_state.h"
#include "vmm/core/machine.h"

#define PIECE 65536 /* bytes of a file whose size is not known */

static void add_bytes(struct boot_image *b, uint64_t gpa, GBytes *bytes)
{
    struct boot_blob blob = { .gpa = gpa, .bytes = g_bytes_ref(bytes) };
    g_array_append_val(b->blobs, blob);
}

void boot_image_add(struct boot_image *b, uint64_t gpa, const void *data, size_t size)
{
    g_autoptr(GBytes) bytes = g_bytes_new(data, size);
    add_bytes(b, gpa, bytes);
}

void boot_image_add_file(struct boot_image *b, uint64_t gpa, struct boot_file *f, uint64_t offset, uint64_t size)
{
    struct boot_blob blob = { .gpa = gpa, .file = g_rc_box_acquire(f), .offset = offset, .size = size };
    g_array_append_val(b->blobs, blob);
}

bool boot_image_add_zeroes(struct boot_image *b, uint64_t gpa, uint64_t size, GError **error)
{
    void *zeroes = g_try_malloc0(size);
    if (!zeroes)
        return vireo_fail(error, VIREO_ERROR_NO_MEMORY, "the kernel wants %llu MiB of zeroes, for which the host has no memory",
                          (unsigned long long)size >> 20);
    g_autoptr(GBytes) bytes = g_bytes_new_take(zeroes, size);
    add_bytes(b, gpa, bytes);
    return true;
}

bool boot_add_cmdline(struct boot_image *b, const struct boot_env *env, uint64_t gpa, size_t max, GError **error)
{
    size_t n = strlen(env->cmdline) + 1;
    if (n > max)
        return vireo_fail(error, VIREO_ERROR_INVALID, "the kernel command line (-append) has %zu bytes; this kernel takes %zu", n - 1, max - 1);
    boot_image_add(b, gpa, env->cmdline, n);
    return true;
}

static bool too_big(uint64_t size, const char *path, const char *what, GError **error)
{
    return vireo_fail(error, VIREO_ERROR_INVALID, "%s '%s' of %llu MiB does not fit into the machine's memory; give more with -m", what, path,
                      (unsigned long long)size >> 20);
}

/* Up to n bytes; fewer at the end of the file. -1: error. */
static ssize_t read_at(struct boot_file *f, void *to, size_t n, uint64_t offset)
{
    size_t done = 0;
    while (done < n) {
        ssize_t got = pread(f->fd, (char *)to + done, n - done, (off_t)(offset + done)); /* seccomp(main): pread64 */
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (!got)
            break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

static bool changed(const struct boot_file *f, ssize_t got, GError **error)
{
    if (got < 0)
        return vireo_fail_errno(error, errno, "cannot read %s '%s'", f->what, f->path);
    return vireo_fail(error, VIREO_ERROR_INVALID, "%s '%s' has become shorter since the machine was started", f->what, f->path);
}

GBytes *boot_file_bytes(struct boot_file *f, GError **error)
{
    if (f->bytes)
        return g_bytes_ref(f->bytes);
    g_autofree uint8_t *data = g_malloc(f->size);
    ssize_t got = read_at(f, data, f->size, 0);
    if (got == (ssize_t)f->size)
        return g_bytes_new_take(g_steal_pointer(&data), f->size);
    changed(f, got, error);
    return NULL;
}

/* A pipe and the like: to its end, now. */
static bool read_stream(struct boot_file *f, const struct boot_env *env, GError **error)
{
    g_autoptr(GByteArray) data = g_byte_array_new();
    g_autofree uint8_t *piece = g_malloc(PIECE);
    for (;;) {
        ssize_t n = read(f->fd, piece, PIECE);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return vireo_fail_errno(error, errno, "cannot read %s '%s'", f->what, f->path);
        if (!n)
            break;
        g_byte_array_append(data, piece, (guint)n);
        if (data->len > env->low_size)
            return too_big(data->len, f->path, f->what, error);
    }
    close(f->fd);
    f->fd = -1;
    f->size = data->len;
    f->bytes = g_byte_array_free_to_bytes(g_steal_pointer(&data));
    return true;
}

static bool file_ready(struct boot_file *f, const struct boot_env *env, GError **error)
{
    struct stat st;
    if (f->fd < 0)
        return vireo_fail_errno(error, errno, "cannot read %s: Failed to open file \342\200\234%s\342\200\235", f->what, f->path);
    if (fstat(f->fd, &st))
        return vireo_fail_errno(error, errno, "cannot read %s '%s'", f->what, f->path);
    if (S_ISDIR(st.st_mode))
        return vireo_fail(error, VIREO_ERROR_INVALID, "%s '%s' is a directory, not a file", f->what, f->path);
    f->size = (uint64_t)st.st_size;
    if ((!S_ISREG(st.st_mode) || !st.st_size) && !read_stream(f, env, error)) /* files of /proc say 0 */
        return false;
    if (f->size > env->low_size)
        return too_big(f->size, f->path, f->what, error);
    if (!f->size)
        return vireo_fail(error, VIREO_ERROR_INVALID, "%s '%s' is empty", f->what, f->path);
    return true;
}

struct boot_file *boot_file_open(const struct boot_env *env, const char *path, const char *what, GError **error)
{
    struct boot_file *f = g_rc_box_new0(struct boot_file);
    f->path = g_strdup(path);
    f->what = what;
    f->fd = fdset_open(path, O_RDONLY, 0);
    if (file_ready(f, env, error))
        return f;
    boot_file_unref(f);
    return NULL;
}

static void file_clear(void *opaque)
{
    struct boot_file *f = opaque;
    if (f->fd >= 0)
        close(f->fd);
    g_clear_pointer(&f->bytes, g_bytes_unref);
    g_free(f->path);
}

void boot_file_unref(struct boot_file *f)
{
    if (f)
        g_rc_box_release_full(f, file_clear);
}

uint64_t boot_ram_above_4g(const struct boot_env *env)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < env->ne820; i++) {
        if (env->e820[i].type == E820_RAM && env->e820[i].base >= 1ull << 32)
            sum += env->e820[i].size;
    }
    return sum;
}

static struct boot_image *load(const struct boot_env *env, GError **error)
{
    static bool (*const loaders[])(const struct boot_env *, GBytes *, struct boot_image *, bool *, GError **) = {
        boot_linux_load, boot_multiboot_load, boot_pvh_load,
    };
    g_autoptr(GBytes) kernel = boot_file_bytes(env->kernel, error);
    if (!kernel)
        return NULL;
    struct boot_image *b = g_new0(struct boot_image, 1);
    b->blobs = g_array_new(FALSE, FALSE, sizeof(struct boot_blob));
    for (unsigned i = 0; i < G_N_ELEMENTS(loaders); i++) {
        bool mine = false;
        if (!loaders[i](env, kernel, b, &mine, error)) {
            boot_image_free(b);
            return NULL;
        }
        if (mine && env->linux_entry && loaders[i] != boot_linux_load) {
            boot_image_free(b);
            vireo_fail(error, VIREO_ERROR_INVALID, "kernel '%s' is not a Linux bzImage: -machine linux-entry= does not apply to it", env->kernel_path);
            return NULL;
        }
        if (mine)
            return b;
    }
    boot_image_free(b);
    vireo_fail(error, VIREO_ERROR_INVALID, "'%s' is no kernel that this machine can start; it takes x86 Linux (bzImage), Multiboot 1, and "
               "ELF with a PVH entry point", env->kernel_path);
    return NULL;
}

struct boot_image *boot_load(const struct boot_env *env, GError **error)
{
    struct boot_env with = *env;
    with.kernel = boot_file_open(env, env->kernel_path, "kernel", error);
    struct boot_image *b = with.kernel ? load(&with, error) : NULL;
    boot_file_unref(with.kernel);
    return b;
}

void boot_image_free(struct boot_image *b)
{
    if (!b)
        return;
    for (unsigned i = 0; i < b->blobs->len; i++) {
        struct boot_blob *blob = &g_array_index(b->blobs, struct boot_blob, i);
        g_clear_pointer(&blob->bytes, g_bytes_unref);
        boot_file_unref(blob->file);
    }
    g_array_free(b->blobs, TRUE);
    g_free(b);
}

static bool write_bytes(struct machine *m, uint64_t gpa, const void *data, size_t n, GError **error)
{
    if (guest_memory_write(m->memory, gpa, data, n))
        return true;
    return vireo_fail(error, VIREO_ERROR_INVALID, "the machine has too little memory: boot data of %zu bytes does not fit at %#llx", n,
                      (unsigned long long)gpa);
}

static bool put_file(struct machine *m, const struct boot_blob *blob, GError **error)
{
    struct boot_file *f = blob->file;
    if (f->bytes)
        return write_bytes(m, blob->gpa, (const uint8_t *)g_bytes_get_data(f->bytes, NULL) + blob->offset, blob->size, error);
    void *to = guest_memory_ptr(m->memory, blob->gpa, blob->size, true);
    if (to) { /* one piece of RAM: no copy in between */
        ssize_t got = read_at(f, to, blob->size, blob->offset);
        guest_memory_written(m->memory, blob->gpa, blob->size);
        return got == (ssize_t)blob->size || changed(f, got, error);
    }
    g_autofree uint8_t *piece = g_malloc(PIECE);
    for (uint64_t done = 0, n; done < blob->size; done += n) {
        n = MIN(blob->size - done, PIECE);
        ssize_t got = read_at(f, piece, n, blob->offset + done);
        if (got != (ssize_t)n)
            return changed(f, got, error);
        if (!write_bytes(m, blob->gpa + done, piece, n, error))
            return false;
    }
    return true;
}

static bool put_blob(struct machine *m, const struct boot_blob *blob, GError **error)
{
    if (blob->file)
        return put_file(m, blob, error);
    gsize n;
    const void *data = g_bytes_get_data(blob->bytes, &n);
    return write_bytes(m, blob->gpa, data, n, error);
}

/* Descriptors as boot.rst asks for them: selector 0x10 code, 0x18 data; 0x08 is a 64-bit code segment's twin for PVH and
 * others that want a first entry; 0x20 a TSS. */
static bool write_gdt(struct machine *m, bool long_mode, GError **error)
{
    uint64_t gdt[5] = { 0, long_mode ? 0x00af9b000000ffffull : 0x00cf9b000000ffffull, long_mode ? 0x00af9b000000ffffull : 0x00cf9b000000ffffull,
                        0x00cf93000000ffffull, 0x00008b0000000067ull };
    return write_bytes(m, BOOT_GDT, gdt, sizeof(gdt), error);
}

static bool write_page_tables(struct machine *m, GError **error)
{
    g_autofree uint64_t *t = g_new0(uint64_t, 6 * 512);
    t[0] = (BOOT_PAGE_TABLE + 0x1000) | 3;
    for (unsigned i = 0; i < 4; i++)
        t[512 + i] = (BOOT_PAGE_TABLE + 0x2000 + i * 0x1000) | 3;
    for (uint64_t i = 0; i < 2048; i++)
        t[1024 + i] = i << 21 | 0x83; /* 2 MiB pages */
    return write_bytes(m, BOOT_PAGE_TABLE, t, 6 * 4096, error);
}

static void set_flat(struct x86_state *s, bool long_mode)
{
    struct x86_segment data = { .limit = 0xffffffff, .sel = 0x18, .attr = 3 | X86_ATTR_S | X86_ATTR_P | X86_ATTR_DB | X86_ATTR_G };
    for (unsigned i = 0; i < X86_NSEG; i++)
        s->seg[i] = data;
    s->seg[X86_CS].sel = 0x10;
    s->seg[X86_CS].attr = 0xb | X86_ATTR_S | X86_ATTR_P | X86_ATTR_G | (long_mode ? X86_ATTR_L : X86_ATTR_DB);
    s->tr = (struct x86_segment){ .limit = 0x67, .sel = 0x20, .attr = 0xb | X86_ATTR_P };
    s->gdt = (struct x86_dtable){ .base = BOOT_GDT, .limit = 5 * 8 - 1 };
    s->idt = (struct x86_dtable){ .base = 0, .limit = 0 };
    s->cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_NE;
    if (long_mode) {
        s->cr0 |= X86_CR0_PG;
        s->cr3 = BOOT_PAGE_TABLE;
        s->cr4 |= X86_CR4_PAE;
        s->efer |= X86_EFER_LME | X86_EFER_LMA;
    }
}

static void set_real(struct x86_state *s, const struct boot_entry *e)
{
    for (unsigned i = 0; i < X86_NSEG; i++) {
        s->seg[i].sel = e->ds;
        s->seg[i].base = (uint64_t)e->ds << 4;
    }
    s->seg[X86_CS].sel = e->cs;
    s->seg[X86_CS].base = (uint64_t)e->cs << 4;
    s->idt = (struct x86_dtable){ .base = 0, .limit = 0x3ff };
}

/* Memory type write-back everywhere, as firmware sets the MTRRs (SDM vol. 3, 11.11): default WB, no ranges. */
static void set_mtrr(struct x86_state *s)
{
    s->mtrr_def = 0xc06;
    for (unsigned i = 0; i < G_N_ELEMENTS(s->mtrr_fix); i++)
        s->mtrr_fix[i] = 0x0606060606060606ull;
}

bool boot_enter(const struct boot_image *b, struct machine *m, GError **error)
{
    const struct boot_entry *e = &b->entry;
    struct x86_state s;
    for (unsigned i = 0; i < b->blobs->len; i++) {
        if (!put_blob(m, &g_array_index(b->blobs, struct boot_blob, i), error))
            return false;
    }
    if (e->mode != BOOT_REAL16 && !write_gdt(m, e->mode == BOOT_LONG64, error))
        return false;
    if (e->mode == BOOT_LONG64 && !write_page_tables(m, error))
        return false;
    vcpu_get_state(m->vcpus[0], &s);
    s.rip = e->rip;
    s.gpr[X86_RAX] = e->rax;
    s.gpr[X86_RBX] = e->rbx;
    s.gpr[X86_RSI] = e->rsi;
    s.gpr[X86_RSP] = e->rsp;
    s.gpr[X86_RDX] = 0;
    s.cr0 &= ~(uint64_t)(X86_CR0_CD | X86_CR0_NW);
    set_mtrr(&s);
    if (e->mode == BOOT_REAL16)
        set_real(&s, e);
    else
        set_flat(&s, e->mode == BOOT_LONG64);
    s.activity = X86_RUNNING;
    return vcpu_set_state(m->vcpus[0], &s, error);
}
