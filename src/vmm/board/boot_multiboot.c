/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Multiboot Specification 0.6.96 (version 1): ELF and address-field images, memory map, command line, modules. */
#include <string.h>

#include "base/error.h"
#include "vmm/board/boot.h"

#define HEADER_MAGIC 0x1badb002u
#define LOADER_MAGIC 0x2badb002u
#define SEARCH 8192u
#define F_ADDRESSES 0x10000u
#define F_VIDEO 0x4u
#define F_KNOWN_REQUIRED 0x7u /* pages, memory, video: of the low 16 bits */
#define MAX_MODULES 64u

static const uint8_t *find_header(const uint8_t *d, size_t n)
{
    for (size_t at = 0; at + 12 <= MIN(n, SEARCH); at += 4) {
        if (get32(d + at) == HEADER_MAGIC && get32(d + at) + get32(d + at + 4) + get32(d + at + 8) == 0)
            return d + at;
    }
    return NULL;
}

/* 3.1.3: the address fields say where a flat image goes. */
static bool load_flat(const struct boot_env *env, const uint8_t *d, size_t n, const uint8_t *h, struct boot_image *b, struct boot_elf *ret,
                      GError **error)
{
    if ((size_t)(d + n - h) < 32)
        return vireo_fail(error, VIREO_ERROR_INVALID, "kernel '%s' is truncated in its Multiboot header", env->kernel_path);
    uint64_t header = get32(h + 12), load = get32(h + 16), load_end = get32(h + 20), bss_end = get32(h + 24), file = (uint64_t)(h - d);
    if (load > header || header - load > file)
        return vireo_fail(error, VIREO_ERROR_INVALID, "kernel '%s' has broken addresses in its Multiboot header", env->kernel_path);
    uint64_t from = file - (header - load), size = load_end ? load_end - load : n - from;
    uint64_t end = MAX(bss_end, load + size);
    if ((load_end && load_end < load) || size > n - from)
        return vireo_fail(error, VIREO_ERROR_INVALID, "kernel '%s' is truncated: its Multiboot header promises more", env->kernel_path);
    if (load < 0x100000 || end > env->low_size)
        return vireo_fail(error, VIREO_ERROR_INVALID, "kernel '%s' wants to lie at %#llx to %#llx, where the machine has no free memory; give it "
                          "more with -m", env->kernel_path, (unsigned long long)load, (unsigned long long)end);
    boot_image_add(b, load, d + from, size);
    if (end > load + size && !boot_image_add_zeroes(b, load + size, end - load - size, error))
        return false;
    *ret = (struct boot_elf){ .entry = get32(h + 28), .low = load, .high = end };
    return true;
}

struct strings { GByteArray *bytes; uint64_t base; };

static uint32_t add_string(struct strings *s, const char *text)
{
    uint32_t at = (uint32_t)(s->base + s->bytes->len);
    g_byte_array_append(s->bytes, (const uint8_t *)text, (guint)strlen(text) + 1);
    return at;
}

/* -initrd "FILE ARGUMENTS,FILE ARGUMENTS": each is a module on pages of its own above the kernel. */
static bool add_modules(const struct boot_env *env, struct boot_image *b, uint64_t at, uint8_t *info, struct strings *s, GError **error)
{
    g_auto(GStrv) items = g_strsplit(env->initrd_path ? env->initrd_path : "", ",", -1);
    uint8_t list[MAX_MODULES * 16] = { 0 };
    unsigned n = 0;
    for (char **i = items; *i && **i; i++, n++) {
        if (n == MAX_MODULES)
            return vireo_fail(error, VIREO_ERROR_INVALID, "-initrd: more than %u Multiboot modules", MAX_MODULES);
        g_auto(GStrv) words = g_strsplit(*i, " ", 2);
        struct boot_file *f = boot_file_open(env, words[0], "module", error);
        if (!f)
            return false;
        uint64_t size = f->size;
        at = (at + 0xfff) & ~0xfffull;
        if (at + size <= env->low_size)
            boot_image_add_file(b, at, f, 0, size);
        boot_file_unref(f);
        if (at + size > env->low_size)
            return vireo_fail(error, VIREO_ERROR_INVALID, "module '%s' does not fit into %llu MiB of memory; give the machine more with -m", words[0],
                              (unsigned long long)(env->low_size >> 20));
        put32(list + n * 16, (uint32_t)at);
        put32(list + n * 16 + 4, (uint32_t)(at + size));
        put32(list + n * 16 + 8, add_string(s, *i));
        at += size;
    }
    boot_image_add(b, BOOT_MODULES, list, sizeof(list));
    put32(info + 20, n);
    put32(info + 24, BOOT_MODULES);
    return true;
}

bool boot_multiboot_load(const struct boot_env *env, GBytes *kernel, struct boot_image *b, bool *ret_mine, GError **error)
{
    gsize n;
    const uint8_t *d = g_bytes_get_data(kernel, &n), *h = find_header(d, n);
    struct boot_elf elf = { 0 };
    if (!h)
        return true;
    *ret_mine = true;
    uint32_t flags = get32(h + 4);
    if (flags & 0xffff & ~F_KNOWN_REQUIRED)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "kernel '%s' asks for Multiboot features %#x that are not there", env->kernel_path, flags & 0xffff);
    if (!(flags & F_ADDRESSES) && !boot_elf_is(kernel))
        return vireo_fail(error, VIREO_ERROR_INVALID, "kernel '%s' has a Multiboot header without addresses and is not ELF", env->kernel_path);
    if (!(flags & F_ADDRESSES ? load_flat(env, d, n, h, b, &elf, error) : boot_elf_load(env, kernel, b, &elf, error)))
        return false;
    if (elf.is64 && !(flags & F_ADDRESSES))
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "kernel '%s' is 64-bit ELF; Multiboot 1 starts 32-bit kernels", env->kernel_path);
    if (elf.low < 0x100000)
        return vireo_fail(error, VIREO_ERROR_INVALID, "kernel '%s' wants to lie below 1 MiB, where the boot data is", env->kernel_path);

    uint8_t info[0x74] = { 0 }, map[E820_MAX * 24] = { 0 };
    struct strings s = { g_byte_array_new(), BOOT_MODULES + MAX_MODULES * 16 };
    g_autofree char *line = g_strconcat(env->kernel_path, *env->cmdline ? " " : "", env->cmdline, NULL);
    put32(info, 0x1 | 0x4 | 0x8 | 0x40 | 0x200);
    put32(info + 4, 639);
    put32(info + 8, (uint32_t)((env->low_size >> 10) - 1024));
    put32(info + 16, add_string(&s, line));
    put32(info + 64, add_string(&s, "vireo-vmm"));
    bool ok = add_modules(env, b, elf.high, info, &s, error);
    for (unsigned i = 0; i < env->ne820; i++) {
        put32(map + i * 24, 20);
        put64(map + i * 24 + 4, env->e820[i].base);
        put64(map + i * 24 + 12, env->e820[i].size);
        put32(map + i * 24 + 20, env->e820[i].type);
    }
    put32(info + 44, env->ne820 * 24);
    put32(info + 48, BOOT_ZERO_PAGE + 0x100);
    boot_image_add(b, BOOT_ZERO_PAGE, info, sizeof(info));
    boot_image_add(b, BOOT_ZERO_PAGE + 0x100, map, sizeof(map));
    if (ok && s.bytes->len > 0x10000)
        ok = vireo_fail(error, VIREO_ERROR_INVALID, "the kernel command line and module lines are longer than 64 KiB");
    boot_image_add(b, s.base, s.bytes->data, s.bytes->len);
    g_byte_array_free(s.bytes, TRUE);
    b->entry = (struct boot_entry){ .mode = BOOT_PROT32, .rip = elf.entry, .rax = LOADER_MAGIC, .rbx = BOOT_ZERO_PAGE, .rsp = BOOT_STACK };
    return ok;
}
