/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The tables add up to zero, and ACPICA's disassembler and compiler take every one of them. */
#include "base/keyval.h"
#include "vmm/board/acpi.h"

#include <glib/gstdio.h>
#include <string.h>

#include "vmm/board/boot.h"
#include "vmm/board/smbios.h"
#include "vmm/core/machine.h"

#define BASE 0xe0000u

static unsigned line(unsigned slot, unsigned pin) { return (slot + pin - 1) & 7; }

static struct acpi_config pc_config(void)
{
    return (struct acpi_config){ .ncpus = 3, .pci = true, .hpet = true, .i8042 = true, .rtc = true, .ecam_base = 0xb0000000, .ecam_buses = 1,
        .mem32_base = 0xc0000000, .mem32_size = 0x3ec00000, .mem64_base = 0x800000000, .mem64_size = 0x1000000000, .io_base = 0xc000,
        .io_size = 0x3000, .intx_line = line, .uart = { { 0x3f8, 4 }, { 0x2f8, 3 } }, .nuarts = 2 };
}

static struct acpi_config microvm_config(void)
{
    return (struct acpi_config){ .ncpus = 1, .rtc = true, .uart = { { 0x3f8, 4 } }, .nuarts = 1,
        .virtio_mmio = { { 0xfeb00000, 0x200, 16 }, { 0xfeb00200, 0x200, 17 } }, .nvirtio_mmio = 2 };
}

static unsigned sum(const uint8_t *p, size_t n)
{
    uint8_t s = 0;
    while (n--)
        s += *p++;
    return s;
}

static void check(const struct acpi_config *c, const char *const *names)
{
    uint64_t rsdp;
    g_autoptr(GBytes) block = acpi_build(c, BASE, &rsdp);
    gsize n;
    const uint8_t *d = g_bytes_get_data(block, &n);
    g_assert_cmpuint(rsdp, ==, BASE);
    g_assert_true(!memcmp(d, "RSD PTR ", 8));
    g_assert_cmpuint(sum(d, 20), ==, 0);
    g_assert_cmpuint(sum(d, 36), ==, 0);
    g_autofree char *iasl = g_find_program_in_path("iasl");
    g_autofree char *dir = g_dir_make_tmp("acpiXXXXXX", NULL);
    for (; *names; names++) {
        uint32_t size;
        const uint8_t *t = acpi_find(block, BASE, *names, &size);
        g_assert_nonnull(t);
        g_assert_cmpuint(sum(t, size), ==, 0);
        if (!iasl)
            continue;
        g_autofree char *aml = g_strdup_printf("%s/%s.aml", dir, *names), *dsl = g_strdup_printf("%s/%s.dsl", dir, *names);
        g_autofree char *out = NULL, *err = NULL;
        int status;
        g_assert_true(g_file_set_contents(aml, (const char *)t, size, NULL));
        char *disassemble[] = { iasl, "-d", aml, NULL }, *compile[] = { iasl, "-p", aml, dsl, NULL };
        g_assert_true(g_spawn_sync(NULL, disassemble, NULL, 0, NULL, NULL, &out, &err, &status, NULL));
        g_assert_cmpint(status, ==, 0);
        if (strstr(out, "Warning") || strstr(err, "Warning") || strstr(err, "Error"))
            g_error("iasl -d %s: %s%s", *names, out, err);
        g_clear_pointer(&out, g_free);
        g_clear_pointer(&err, g_free);
        g_assert_true(g_spawn_sync(NULL, compile, NULL, 0, NULL, NULL, &out, &err, &status, NULL));
        if (!strcmp(*names, "DSDT") && (status || !strstr(out, " 0 Errors") || !strstr(out, " 0 Warnings")))
            g_error("iasl %s: %s%s", *names, out, err);
        if (!g_getenv("KEEP")) {
            g_unlink(dsl);
            g_unlink(aml);
        }
    }
    if (!iasl)
        g_test_message("iasl is not installed: checksums only");
    if (g_getenv("KEEP"))
        g_print("# kept in %s\n", dir);
    g_rmdir(dir);
}

static void test_pc(void)
{
    static const char *const names[] = { "DSDT", "FACP", "APIC", "HPET", "MCFG", "WAET", "XSDT", "RSDT", NULL };
    struct acpi_config c = pc_config();
    check(&c, names);
}

/* Slots for vCPUs that come later; the MADT says which are there. */
static void test_cpu_hotplug(void)
{
    static const char *const names[] = { "DSDT", "APIC", NULL };
    static const uint8_t present[255] = { [5] = 1 };
    struct acpi_config c = pc_config();
    c.max_cpus = 8;
    c.cpu_present = present;
    check(&c, names);
    uint64_t rsdp;
    uint32_t size;
    g_autoptr(GBytes) block = acpi_build(&c, BASE, &rsdp);
    const uint8_t *t = acpi_find(block, BASE, "APIC", &size);
    g_assert_cmpuint(t[8], ==, 5);
    for (unsigned i = 0; i < 8; i++) {
        const uint8_t *entry = t + 44 + i * 8;
        g_assert(entry[0] == 0 && entry[1] == 8 && entry[2] == i && entry[3] == i);
        g_assert_cmpuint(entry[4], ==, i < 3 || i == 5 ? 1 : 2);
    }
    c.max_cpus = 255;
    g_autoptr(GBytes) many = acpi_build(&c, BASE, &rsdp);
    g_assert_cmpuint(g_bytes_get_size(many), <, 0x10000);
}

/* Slots for memory modules, and the tables of nodes. */
static void test_memory(void)
{
    static const char *const names[] = { "DSDT", "SRAT", "SLIT", NULL };
    static uint8_t distance[2][128] = { { 10, 31 }, { 41, 10 } }, cpu_node[256] = { 0, 1, 1 };
    struct acpi_config c = pc_config();
    c.mem_slots = 3;
    c.nnodes = 2;
    c.cpu_node = cpu_node;
    c.distance = (const uint8_t(*)[128])distance;
    acpi_add_memory(&c, 0, 0xa0000, 0, false);
    acpi_add_memory(&c, 1ull << 32, 5ull << 30, 1, false);
    acpi_add_memory(&c, 1ull << 35, 1ull << 33, 1, true);
    check(&c, names);
    uint64_t rsdp;
    uint32_t size;
    g_autoptr(GBytes) block = acpi_build(&c, BASE, &rsdp);
    const uint8_t *t = acpi_find(block, BASE, "SRAT", &size);
    g_assert_cmpuint(size, ==, 48 + 3 * 16 + 3 * 40);
    g_assert_cmpuint(t[48 + 16 + 2], ==, 1); /* node of CPU 1 */
    const uint8_t *m = t + 48 + 3 * 16;
    g_assert_true(get32(m + 40 + 2) == 1 && get64(m + 40 + 8) == 1ull << 32 && get64(m + 40 + 16) == 5ull << 30 && get32(m + 40 + 28) == 1);
    g_assert_cmpuint(get32(m + 80 + 28), ==, 3); /* there, and more may come */
    t = acpi_find(block, BASE, "SLIT", &size);
    g_assert_cmpmem(t + 36, size - 36, ((const uint8_t[]){ 2, 0, 0, 0, 0, 0, 0, 0, 10, 31, 41, 10 }), 12);
    c.mem_slots = 256;
    c.max_cpus = 255;
    g_autoptr(GBytes) many = acpi_build(&c, BASE, &rsdp);
    g_assert_cmpuint(g_bytes_get_size(many), <, 0x10000);
    g_array_unref(c.memory);
}

static void test_microvm(void)
{
    static const char *const names[] = { "DSDT", "FACP", "APIC", NULL };
    struct acpi_config c = microvm_config();
    check(&c, names);
}

/* The structure of this type, or NULL; *ret_n: how many there are. */
static const uint8_t *smbios_structure(const uint8_t *d, gsize n, uint8_t type)
{
    for (gsize at = 0x20; at < n; at += 2) {
        if (d[at] == type)
            return d + at;
        at += d[at + 1];
        while (at + 1 < n && (d[at] || d[at + 1]))
            at++;
    }
    return NULL;
}

/* String `i` of a structure, counted from 1. */
static const char *smbios_string(const uint8_t *s, unsigned i)
{
    const char *p = (const char *)s + s[1];
    while (i > 1 && --i)
        p += strlen(p) + 1;
    return p;
}

static void test_smbios_texts(void)
{
    static const char *const given[][2] = { { "0.release", "12.34" }, { "1.serial", "ds=nocloud" }, { "1.manufacturer", "Me" }, { "1.product", "" }, { "1.serial", "ds=other" },
        { "1.uuid", "ffeeddcc-bbaa-9988-7766-554433221100" }, { "2.product", "board" }, { "3.sku", "S1" }, { "11.value", "one" }, { "11.value", "two" } };
    keyval_auto *kv = keyval_new();
    for (unsigned i = 0; i < G_N_ELEMENTS(given); i++)
        keyval_add(kv, given[i][0], given[i][1]);
    struct machine_config c = { .board = "q35", .uuid = (char *)"00112233-4455-6677-8899-aabbccddeeff", .ram_size = 1 << 30, .smbios = kv };
    g_autoptr(GBytes) b = smbios_build(&c, 1, 0xf0000, 0x4000);
    gsize n;
    const uint8_t *d = g_bytes_get_data(b, &n), *s = smbios_structure(d, n, 0);
    g_assert_cmpuint(s[0x14] << 8 | s[0x15], ==, 12 << 8 | 34);
    s = smbios_structure(d, n, 1);
    g_assert_cmpstr(smbios_string(s, s[4]), ==, "Me");
    g_assert_cmpuint(s[5], ==, 0); /* an empty text: no string */
    g_assert_cmpstr(smbios_string(s, s[7]), ==, "ds=other"); /* the later one counts */
    g_assert_cmpuint(s[8], ==, 0xcc);
    const uint8_t *board = smbios_structure(d, n, 2), *chassis = smbios_structure(d, n, 3);
    g_assert_cmpstr(smbios_string(board, board[5]), ==, "board");
    g_assert_cmpuint(get16(board + 0x0b), ==, get16(chassis + 2));
    g_assert_cmpstr(smbios_string(chassis, chassis[0x15]), ==, "S1");
    s = smbios_structure(d, n, 11);
    g_assert_cmpuint(s[4], ==, 2);
    g_assert_cmpstr(smbios_string(s, 2), ==, "two");
    g_assert_null(smbios_build(&c, 1, 0xf0000, 0x100)); /* what does not fit */
}

static void test_smbios(void)
{
    struct machine_config c = { .board = "q35", .uuid = (char *)"00112233-4455-6677-8899-aabbccddeeff", .ram_size = 4ull << 30, .sockets = 1 };
    g_autoptr(GBytes) b = smbios_build(&c, 2, 0xf0000, 0x4000);
    gsize n;
    const uint8_t *d = g_bytes_get_data(b, &n);
    g_assert_cmpuint(sum(d, 0x1f), ==, 0);
    g_assert_cmpuint(sum(d + 0x10, 0xf), ==, 0);
    unsigned count = 0, last = 0;
    for (gsize at = 0x20; at < n; count++) { /* walks every structure to the end */
        last = d[at];
        at += d[at + 1];
        while (at + 1 < n && (d[at] || d[at + 1]))
            at++;
        at += 2;
    }
    g_assert_cmpuint(count, ==, get16(d + 0x1c));
    g_assert_cmpuint(last, ==, 127);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/acpi/pc", test_pc);
    g_test_add_func("/acpi/cpu-hotplug", test_cpu_hotplug);
    g_test_add_func("/acpi/memory", test_memory);
    g_test_add_func("/acpi/microvm", test_microvm);
    g_test_add_func("/smbios", test_smbios);
    g_test_add_func("/smbios/texts", test_smbios_texts);
    return g_test_run();
}
