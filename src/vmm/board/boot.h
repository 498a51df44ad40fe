/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Boot protocols. A loader reads a kernel image and plans which bytes go where in guest memory (kept, so that each reset puts
 * them there again) and in what state the first vCPU begins.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct machine;

enum e820_type { E820_RAM = 1, E820_RESERVED = 2, E820_ACPI = 3 };
struct e820_entry { uint64_t base, size; uint32_t type; };
#define E820_MAX 32

/* Low memory that the boot data uses; all of it is free RAM to a kernel once it has copied what it wants. */
#define BOOT_GDT        0x06000u
#define BOOT_ZERO_PAGE  0x07000u /* 4 KiB; start info of PVH and multiboot too */
#define BOOT_PAGE_TABLE 0x09000u /* 6 pages: identity map of 4 GiB */
#define BOOT_STACK      0x10000u /* grows down */
#define BOOT_CMDLINE    0x20000u
#define BOOT_CMDLINE_MAX 0x10000u
#define BOOT_MODULES    0x30000u /* module list and its strings */

/* What the board has. */
struct boot_env {
    const char *kernel_path, *initrd_path; /* initrd_path may be NULL */
    struct boot_file *kernel;              /* set by boot_load */
    const char *cmdline;                   /* never NULL */
    uint64_t low_size;                     /* RAM from 0 up, below 4 GiB */
    struct e820_entry e820[E820_MAX];
    unsigned ne820;
    uint64_t rsdp;
    unsigned linux_entry;                  /* 16, 32 or 64: enter Linux there; 0: at the best it has */
};

enum boot_mode { BOOT_LONG64 /* identity-mapped, flat */, BOOT_PROT32 /* paging off, flat */, BOOT_REAL16 };

struct boot_entry {
    enum boot_mode mode;
    uint64_t rip;
    uint64_t rax, rbx, rsi, rsp;
    uint16_t cs, ds; /* REAL16: segments; ss = ds */
};

/* A file that belongs to the start. Of a regular file the descriptor is kept, not the bytes: each reset reads them from there
 * straight into guest memory. Of anything else (a pipe) the bytes are kept. Reference counted. */
struct boot_file {
    char *path;
    const char *what; /* "kernel", "initrd": for errors */
    int fd;           /* -1: bytes are kept */
    GBytes *bytes;
    uint64_t size;
};

struct boot_blob { uint64_t gpa; GBytes *bytes; struct boot_file *file; uint64_t offset, size; /* of file, when bytes is NULL */ };

struct boot_image {
    GArray *blobs; /* struct boot_blob */
    struct boot_entry entry;
};

/* Recognises the kernel at env->kernel_path and plans its start. Errors in words. */
struct boot_image *boot_load(const struct boot_env *env, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void boot_image_free(struct boot_image *b);
/* Puts the bytes into memory and the first vCPU into the entry state. Machine stopped, vCPUs reset. */
bool boot_enter(const struct boot_image *b, struct machine *m, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* For the loaders. The bytes are copied. */
void boot_image_add(struct boot_image *b, uint64_t gpa, const void *data, size_t size);
bool boot_image_add_zeroes(struct boot_image *b, uint64_t gpa, uint64_t size, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void boot_image_add_file(struct boot_image *b, uint64_t gpa, struct boot_file *f, uint64_t offset, uint64_t size); /* takes a reference */
bool boot_add_cmdline(struct boot_image *b, const struct boot_env *env, uint64_t gpa, size_t max, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* `what` names it in errors ("kernel", "initrd") and is static. One that is larger than the machine's low memory, or empty, is
 * refused before it is read. */
struct boot_file *boot_file_open(const struct boot_env *env, const char *path, const char *what, GError **error) G_GNUC_WARN_UNUSED_RESULT;
GBytes *boot_file_bytes(struct boot_file *f, GError **error) G_GNUC_WARN_UNUSED_RESULT; /* all of it */
void boot_file_unref(struct boot_file *f);
uint64_t boot_ram_above_4g(const struct boot_env *env);

/* Each says in *ret_mine whether the image is one of its kind; false: an error about it. */
bool boot_linux_load(const struct boot_env *env, GBytes *kernel, struct boot_image *b, bool *ret_mine, GError **error);
bool boot_pvh_load(const struct boot_env *env, GBytes *kernel, struct boot_image *b, bool *ret_mine, GError **error);
bool boot_multiboot_load(const struct boot_env *env, GBytes *kernel, struct boot_image *b, bool *ret_mine, GError **error);

/* ELF images: loads PT_LOAD segments at their physical addresses. */
struct boot_elf { uint64_t entry, low, high; /* physical extent */ uint64_t pvh_entry; bool has_pvh; bool is64; };
bool boot_elf_is(GBytes *image);
bool boot_elf_load(const struct boot_env *env, GBytes *image, struct boot_image *b, struct boot_elf *ret, GError **error);

/* Little-endian fields of images. */
static inline uint16_t get16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static inline uint32_t get32(const uint8_t *p) { return get16(p) | (uint32_t)get16(p + 2) << 16; }
static inline uint64_t get64(const uint8_t *p) { return get32(p) | (uint64_t)get32(p + 4) << 32; }
static inline void put16(uint8_t *p, uint16_t v) { p[0] = (uint8_t)v; p[1] = (uint8_t)(v >> 8); }
static inline void put32(uint8_t *p, uint32_t v) { put16(p, (uint16_t)v); put16(p + 2, (uint16_t)(v >> 16)); }
static inline void put64(uint8_t *p, uint64_t v) { put32(p, (uint32_t)v); put32(p + 4, (uint32_t)(v >> 32)); }
