/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The Linux/x86 boot protocol (Linux Documentation/arch/x86/boot.rst, zero-page.rst). */
#include <string.h>

#include "base/error.h"
#include "vmm/board/boot.h"

/* Offsets in the setup header, which are offsets in the file and in the zero page alike. */
enum {
    H_SETUP_SECTS = 0x1f1, H_SYSSIZE = 0x1f4, H_VID_MODE = 0x1fa, H_BOOT_FLAG = 0x1fe, H_JUMP = 0x200, H_MAGIC = 0x202, H_VERSION = 0x206,
    H_TYPE_OF_LOADER = 0x210, H_LOADFLAGS = 0x211, H_CODE32_START = 0x214, H_RAMDISK_IMAGE = 0x218, H_RAMDISK_SIZE = 0x21c,
    H_HEAP_END_PTR = 0x224, H_CMD_LINE_PTR = 0x228, H_INITRD_ADDR_MAX = 0x22c, H_ALIGNMENT = 0x230, H_RELOCATABLE = 0x234,
    H_XLOADFLAGS = 0x236, H_CMDLINE_SIZE = 0x238, H_PREF_ADDRESS = 0x258, H_INIT_SIZE = 0x260,
};
/* Fields of the zero page outside the header. */
enum { Z_EXT_MEM_K = 0x02, Z_ACPI_RSDP = 0x070, Z_ALT_MEM_K = 0x1e0, Z_E820_ENTRIES = 0x1e8, Z_E820_TABLE = 0x2d0, Z_E820_MAX = 128 };

#define LOADED_HIGH  0x01u
#define CAN_USE_HEAP 0x80u
#define XLF_KERNEL_64 0x01u

#define REAL_SETUP   0x90000u /* where the 16-bit setup code lies */
#define REAL_HEAP    0xe000u  /* in its segment: end of heap, stack top, start of the command line */
#define HIGH_LOAD    0x100000u

struct image {
    const uint8_t *data;
    size_t size;
    unsigned version;
    size_t setup_size;       /* boot sector and setup code */
    size_t payload;          /* bytes after it */
    bool high, relocatable, entry64;
    uint32_t alignment, cmdline_size;
    uint64_t pref, init_size, initrd_max;
};

static bool truncated(const struct boot_env *env, GError **error)
{
    return vireo_fail(error, VIREO_ERROR_INVALID, "kernel '%s' is truncated: its header promises more than the file has", env->kernel_path);
}

static bool parse(const struct boot_env *env, struct image *k, GError **error)
{
    const uint8_t *d = k->data;
    unsigned sects = d[H_SETUP_SECTS] ? d[H_SETUP_SECTS] : 4;
    k->version = get16(d + H_VERSION);
    k->setup_size = (sects + 1) * 512u;
    if (k->setup_size >= k->size || k->setup_size < 0x268)
        return truncated(env, error);
    k->payload = k->size - k->setup_size;
    if (k->version >= 0x0204 && k->payload + 16 < (uint64_t)get32(d + H_SYSSIZE) * 16) /* a rounded-up count of paragraphs */
        return truncated(env, error);
    k->high = k->version >= 0x0200 && (d[H_LOADFLAGS] & LOADED_HIGH);
    k->relocatable = k->version >= 0x0205 && d[H_RELOCATABLE];
    k->alignment = k->version >= 0x0205 && get32(d + H_ALIGNMENT) ? get32(d + H_ALIGNMENT) : 0x1000;
    k->entry64 = k->version >= 0x020c && (get16(d + H_XLOADFLAGS) & XLF_KERNEL_64) && k->payload > 0x200;
    k->cmdline_size = k->version >= 0x0206 ? get32(d + H_CMDLINE_SIZE) : 255;
    k->initrd_max = k->version >= 0x0203 ? get32(d + H_INITRD_ADDR_MAX) : 0x37ffffff;
    k->pref = k->version >= 0x020a ? get64(d + H_PREF_ADDRESS) : HIGH_LOAD;
    k->init_size = k->version >= 0x020a ? get32(d + H_INIT_SIZE) : k->payload;
    k->init_size = MAX(k->init_size, k->payload);
    if (k->alignment & (k->alignment - 1))
        return vireo_fail(error, VIREO_ERROR_INVALID, "kernel '%s' has a broken header: alignment %#x", env->kernel_path, k->alignment);
    return true;
}

static bool place_kernel(const struct boot_env *env, const struct image *k, uint64_t *ret, GError **error)
{
    uint64_t at = k->relocatable ? k->pref : HIGH_LOAD;
    if (k->relocatable && (at < HIGH_LOAD || at + k->init_size > env->low_size))
        at = (HIGH_LOAD + k->alignment - 1) & ~(uint64_t)(k->alignment - 1);
    if (at + k->init_size > env->low_size || at + k->init_size < at)
        return vireo_fail(error, VIREO_ERROR_INVALID, "kernel '%s' needs %llu MiB of memory to start and the machine has %llu MiB; give it more "
                          "with -m", env->kernel_path, (unsigned long long)((at + k->init_size + 0xfffff) >> 20),
                          (unsigned long long)(env->low_size >> 20));
    *ret = at;
    return true;
}

/* As high as it may be, so that the kernel can unpack itself below. */
static bool place_initrd(const struct boot_env *env, const struct image *k, struct boot_image *b, uint64_t kernel_end, uint64_t *ret_at,
                         uint64_t *ret_size, GError **error)
{
    *ret_at = *ret_size = 0;
    if (!env->initrd_path)
        return true;
    struct boot_file *f = boot_file_open(env, env->initrd_path, "initrd", error);
    if (!f)
        return false;
    uint64_t size = f->size, top = MIN(env->low_size, k->initrd_max + 1);
    uint64_t at = size < top ? (top - size) & ~0xfffull : 0;
    bool fits = at && at >= kernel_end && size <= UINT32_MAX;
    if (fits)
        boot_image_add_file(b, at, f, 0, size);
    boot_file_unref(f);
    if (!fits)
        return vireo_fail(error, VIREO_ERROR_INVALID, "initrd '%s' (%llu MiB) and the kernel do not fit into %llu MiB of memory; give the machine "
                          "more with -m", env->initrd_path, (unsigned long long)(size >> 20), (unsigned long long)(env->low_size >> 20));
    *ret_at = at;
    *ret_size = size;
    return true;
}

static void fill_e820(uint8_t *zero, const struct boot_env *env)
{
    unsigned n = MIN(env->ne820, Z_E820_MAX);
    zero[Z_E820_ENTRIES] = (uint8_t)n;
    for (unsigned i = 0; i < n; i++) {
        uint8_t *e = zero + Z_E820_TABLE + i * 20;
        put64(e, env->e820[i].base);
        put64(e + 8, env->e820[i].size);
        put32(e + 16, env->e820[i].type);
    }
    uint64_t ext_k = (env->low_size >> 10) - 1024;
    put16(zero + Z_EXT_MEM_K, (uint16_t)MIN(ext_k, 0xffff));
    put32(zero + Z_ALT_MEM_K, (uint32_t)ext_k);
}

static bool load_protected(const struct boot_env *env, const struct image *k, struct boot_image *b, GError **error)
{
    uint64_t at = 0, initrd, initrd_size;
    if (!place_kernel(env, k, &at, error) || !place_initrd(env, k, b, at + k->init_size, &initrd, &initrd_size, error))
        return false;
    if (!boot_add_cmdline(b, env, BOOT_CMDLINE, MIN(k->cmdline_size + 1ull, BOOT_CMDLINE_MAX), error))
        return false;
    boot_image_add_file(b, at, env->kernel, k->setup_size, k->payload);

    uint8_t zero[4096] = { 0 };
    /* The header ends where the jump at 0x200 leads to (boot.rst, "32-bit boot protocol"). */
    size_t header_end = MIN(H_MAGIC + (size_t)k->data[H_JUMP + 1], 0x290u);
    memcpy(zero + H_SETUP_SECTS, k->data + H_SETUP_SECTS, header_end - H_SETUP_SECTS);
    zero[H_TYPE_OF_LOADER] = 0xff;
    put16(zero + H_VID_MODE, 0xffff);
    put32(zero + H_CODE32_START, (uint32_t)at);
    put32(zero + H_CMD_LINE_PTR, BOOT_CMDLINE);
    put32(zero + H_RAMDISK_IMAGE, (uint32_t)initrd);
    put32(zero + H_RAMDISK_SIZE, (uint32_t)initrd_size);
    put64(zero + Z_ACPI_RSDP, env->rsdp);
    fill_e820(zero, env);
    boot_image_add(b, BOOT_ZERO_PAGE, zero, sizeof(zero));
    bool enter64 = k->entry64 && env->linux_entry != 32;
    b->entry = (struct boot_entry){ .mode = enter64 ? BOOT_LONG64 : BOOT_PROT32, .rip = enter64 ? at + 0x200 : at,
                                    .rsi = BOOT_ZERO_PAGE, .rsp = BOOT_STACK };
    return true;
}

/* The setup code runs in real mode and asks the BIOS (bios.asm). */
static bool load_real(const struct boot_env *env, const struct image *k, struct boot_image *b, GError **error)
{
    uint64_t initrd, initrd_size, at = k->high ? HIGH_LOAD : 0x10000;
    if (k->setup_size > 0x8000 || (!k->high && k->payload > 0x80000))
        return vireo_fail(error, VIREO_ERROR_INVALID, "kernel '%s' has a broken header: it does not fit into low memory", env->kernel_path);
    if (at + k->payload > env->low_size)
        return vireo_fail(error, VIREO_ERROR_INVALID, "kernel '%s' does not fit into %llu MiB of memory; give the machine more with -m",
                          env->kernel_path, (unsigned long long)(env->low_size >> 20));
    /* It moves itself to the preferred address and unpacks there. */
    uint64_t end = MAX(at, HIGH_LOAD) + k->payload, run = MAX(k->pref, HIGH_LOAD);
    if (k->high && run + k->init_size <= env->low_size)
        end = MAX(end, run + k->init_size);
    if (!place_initrd(env, k, b, end, &initrd, &initrd_size, error))
        return false;
    if (!boot_add_cmdline(b, env, REAL_SETUP + REAL_HEAP, MIN(k->cmdline_size + 1ull, 0x1000), error))
        return false;
    g_autofree uint8_t *setup = g_memdup2(k->data, k->setup_size);
    if (k->version >= 0x0200) {
        setup[H_TYPE_OF_LOADER] = 0xff;
        put32(setup + H_RAMDISK_IMAGE, (uint32_t)initrd);
        put32(setup + H_RAMDISK_SIZE, (uint32_t)initrd_size);
    }
    if (k->version >= 0x0201) {
        setup[H_LOADFLAGS] |= CAN_USE_HEAP;
        put16(setup + H_HEAP_END_PTR, REAL_HEAP - 0x200);
    }
    if (k->version >= 0x0202) {
        put32(setup + H_CMD_LINE_PTR, REAL_SETUP + REAL_HEAP);
    } else {
        put16(setup + 0x20, 0xa33f); /* the old way: magic and offset in the boot sector */
        put16(setup + 0x22, REAL_HEAP);
    }
    boot_image_add(b, REAL_SETUP, setup, k->setup_size);
    boot_image_add_file(b, at, env->kernel, k->setup_size, k->payload);
    b->entry = (struct boot_entry){ .mode = BOOT_REAL16, .cs = (REAL_SETUP >> 4) + 0x20, .ds = REAL_SETUP >> 4, .rsp = REAL_HEAP };
    return true;
}

bool boot_linux_load(const struct boot_env *env, GBytes *kernel, struct boot_image *b, bool *ret_mine, GError **error)
{
    struct image k = { 0 };
    k.data = g_bytes_get_data(kernel, &k.size);
    if (k.size < 0x268 || get16(k.data + H_BOOT_FLAG) != 0xaa55 || memcmp(k.data + H_MAGIC, "HdrS", 4))
        return true;
    *ret_mine = true;
    if (!parse(env, &k, error))
        return false;
    bool only16 = k.version < 0x0204 || !k.high;
    if ((env->linux_entry == 64 && !k.entry64) || (env->linux_entry == 32 && only16))
        return vireo_fail(error, VIREO_ERROR_INVALID, "kernel '%s' has no %u-bit entry; choose another with -machine linux-entry=, or leave it out",
                          env->kernel_path, env->linux_entry);
    return only16 || env->linux_entry == 16 ? load_real(env, &k, b, error) : load_protected(env, &k, b, error);
}
