/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ELF kernels, and their PVH entry (Xen public/arch-x86/hvm/start_info.h, docs/misc/pvh.pandoc; note type 18). */
#include <elf.h>
#include <string.h>

#include "base/error.h"
#include "vmm/board/boot.h"

#define NOTE_PHYS32_ENTRY 18u
#define START_MAGIC 0x336ec578u

bool boot_elf_is(GBytes *image)
{
    gsize n;
    const uint8_t *d = g_bytes_get_data(image, &n);
    return n >= sizeof(Elf32_Ehdr) && !memcmp(d, ELFMAG, SELFMAG);
}

struct segment { uint32_t type; uint64_t offset, paddr, vaddr, filesz, memsz, align; };

/* One program header of either class; false: outside the file. */
static bool read_segment(const uint8_t *d, size_t n, bool is64, unsigned i, struct segment *ret)
{
    uint64_t off = is64 ? get64(d + 32) : get32(d + 28);
    uint64_t size = get16(d + (is64 ? 54 : 42));
    uint64_t min = is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
    if (size < min || off > n || (n - off) / size <= i)
        return false;
    const uint8_t *p = d + off + i * size;
    if (is64)
        *ret = (struct segment){ get32(p), get64(p + 8), get64(p + 24), get64(p + 16), get64(p + 32), get64(p + 40), get64(p + 48) };
    else
        *ret = (struct segment){ get32(p), get32(p + 4), get32(p + 12), get32(p + 8), get32(p + 16), get32(p + 20), get32(p + 28) };
    return ret->offset <= n && ret->filesz <= n - ret->offset;
}

static void find_pvh_note(const uint8_t *p, uint64_t n, struct boot_elf *ret)
{
    uint64_t at = 0;
    while (n >= 12 && at <= n - 12) {
        uint64_t namesz = get32(p + at), descsz = get32(p + at + 4), type = get32(p + at + 8);
        uint64_t name = at + 12, desc = name + ((namesz + 3) & ~3ull), next = desc + ((descsz + 3) & ~3ull);
        if (desc + descsz > n)
            return;
        if (type == NOTE_PHYS32_ENTRY && namesz == 4 && !memcmp(p + name, "Xen", 4) && descsz >= 4) {
            ret->pvh_entry = descsz >= 8 ? get64(p + desc) : get32(p + desc);
            ret->has_pvh = true;
        }
        at = next;
    }
}

static bool load_segment(const struct boot_env *env, const uint8_t *d, const struct segment *s, struct boot_image *b, struct boot_elf *ret,
                         GError **error)
{
    if (s->filesz > s->memsz || s->paddr + s->memsz < s->paddr)
        return vireo_fail(error, VIREO_ERROR_INVALID, "kernel '%s' has a broken ELF program header", env->kernel_path);
    if (s->paddr + s->memsz > env->low_size)
        return vireo_fail(error, VIREO_ERROR_INVALID, "kernel '%s' wants memory up to %llu MiB and the machine has %llu MiB below 4 GiB; give it "
                          "more with -m", env->kernel_path, (unsigned long long)(s->paddr + s->memsz) >> 20,
                          (unsigned long long)env->low_size >> 20);
    if (s->paddr < 0x100000 && s->paddr + s->memsz > 0xa0000)
        return vireo_fail(error, VIREO_ERROR_INVALID, "kernel '%s' wants to lie in the PC's memory hole below 1 MiB", env->kernel_path);
    boot_image_add(b, s->paddr, d + s->offset, s->filesz);
    if (s->memsz > s->filesz && !boot_image_add_zeroes(b, s->paddr + s->filesz, s->memsz - s->filesz, error))
        return false;
    ret->low = MIN(ret->low, s->paddr);
    ret->high = MAX(ret->high, s->paddr + s->memsz);
    if (ret->entry >= s->vaddr && ret->entry - s->vaddr < s->memsz && s->vaddr != s->paddr)
        ret->entry = ret->entry - s->vaddr + s->paddr;
    return true;
}

bool boot_elf_load(const struct boot_env *env, GBytes *image, struct boot_image *b, struct boot_elf *ret, GError **error)
{
    gsize n;
    const uint8_t *d = g_bytes_get_data(image, &n);
    bool is64 = d[EI_CLASS] == ELFCLASS64;
    unsigned machine = get16(d + 18), phnum = get16(d + (is64 ? 56 : 44));
    if ((is64 && n < sizeof(Elf64_Ehdr)) || d[EI_DATA] != ELFDATA2LSB || (machine != EM_X86_64 && machine != EM_386))
        return vireo_fail(error, VIREO_ERROR_INVALID, "kernel '%s' is ELF for another kind of CPU (machine %u); this machine is x86", env->kernel_path, machine);
    *ret = (struct boot_elf){ .entry = is64 ? get64(d + 24) : get32(d + 24), .low = UINT64_MAX, .is64 = is64 };
    for (unsigned i = 0; i < phnum; i++) {
        struct segment s;
        if (!read_segment(d, n, is64, i, &s))
            return vireo_fail(error, VIREO_ERROR_INVALID, "kernel '%s' is truncated: ELF segment %u lies outside the file", env->kernel_path, i);
        if (s.type == PT_LOAD && s.memsz && !load_segment(env, d, &s, b, ret, error))
            return false;
        if (s.type == PT_NOTE)
            find_pvh_note(d + s.offset, s.filesz, ret);
    }
    if (!ret->high)
        return vireo_fail(error, VIREO_ERROR_INVALID, "kernel '%s' is ELF with nothing to load", env->kernel_path);
    return true;
}

static bool add_initrd(const struct boot_env *env, struct boot_image *b, uint64_t kernel_end, uint8_t *module, GError **error)
{
    struct boot_file *f = boot_file_open(env, env->initrd_path, "initrd", error);
    if (!f)
        return false;
    uint64_t size = f->size, at = size < env->low_size ? (env->low_size - size) & ~0xfffull : 0;
    bool fits = at && at >= kernel_end;
    if (fits)
        boot_image_add_file(b, at, f, 0, size);
    boot_file_unref(f);
    if (!fits)
        return vireo_fail(error, VIREO_ERROR_INVALID, "initrd '%s' and the kernel do not fit into %llu MiB of memory; give the machine more with -m",
                          env->initrd_path, (unsigned long long)(env->low_size >> 20));
    put64(module, at);
    put64(module + 8, size);
    return true;
}

bool boot_pvh_load(const struct boot_env *env, GBytes *kernel, struct boot_image *b, bool *ret_mine, GError **error)
{
    struct boot_elf elf;
    uint8_t info[56] = { 0 }, map[E820_MAX * 24] = { 0 }, module[32] = { 0 };
    if (!boot_elf_is(kernel))
        return true;
    *ret_mine = true;
    if (!boot_elf_load(env, kernel, b, &elf, error))
        return false;
    if (!elf.has_pvh)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s' is ELF without a PVH entry point or a Multiboot header; is it a kernel?",
                          env->kernel_path);
    if (elf.pvh_entry >= env->low_size || elf.low < BOOT_MODULES + 0x10000)
        return vireo_fail(error, VIREO_ERROR_INVALID, "kernel '%s' has an entry point or segment where it cannot be", env->kernel_path);
    if (!boot_add_cmdline(b, env, BOOT_CMDLINE, BOOT_CMDLINE_MAX, error))
        return false;
    if (env->initrd_path && !add_initrd(env, b, elf.high, module, error))
        return false;
    put32(info, START_MAGIC);
    put32(info + 4, 1);
    put32(info + 12, env->initrd_path ? 1 : 0);
    put64(info + 16, BOOT_MODULES);
    put64(info + 24, BOOT_CMDLINE);
    put64(info + 32, env->rsdp);
    put64(info + 40, BOOT_MODULES + sizeof(module));
    put32(info + 48, env->ne820);
    for (unsigned i = 0; i < env->ne820; i++) {
        put64(map + i * 24, env->e820[i].base);
        put64(map + i * 24 + 8, env->e820[i].size);
        put32(map + i * 24 + 16, env->e820[i].type);
    }
    boot_image_add(b, BOOT_ZERO_PAGE, info, sizeof(info));
    boot_image_add(b, BOOT_MODULES, module, sizeof(module));
    boot_image_add(b, BOOT_MODULES + sizeof(module), map, env->ne820 * 24);
    b->entry = (struct boot_entry){ .mode = BOOT_PROT32, .rip = elf.pvh_entry, .rbx = BOOT_ZERO_PAGE, .rsp = BOOT_STACK };
    return true;
}
