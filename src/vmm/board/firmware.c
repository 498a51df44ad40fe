/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/board/firmware.h"

#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "vmm/board/smbios.h"
#include "vmm/bus/pci.h"
#include "vmm/core/device.h"
#include "vmm/core/firmware_file.h"
#include "vmm/core/memory.h"
#include "vmm/dev/fw_cfg.h"
#include "vmm/dev/rtc.h"

#define GIB (1ull << 30)
#define LOW_END 0x100000u
#define SHADOW_SIZE 0x20000u /* E0000h to FFFFFh */

struct firmware {
    struct device *fw_cfg;
    uint8_t *image; /* mapped, of the guest's memory */
    size_t size;
};

/* ---- the image ---- */

static bool load(struct firmware *f, struct machine *m, const char *path, GError **error)
{
    size_t room;
    f->image = firmware_file_load(m->memory, path, 65536, &f->size, &room, error);
    if (f->image && f->size % 65536)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s' is no BIOS image: its size must be a multiple of 64 KiB, up to 16 MiB", path);
    return f->image && guest_memory_add_ram(m->memory, 4 * GIB - f->size, f->size, f->image, true, error);
}

struct firmware *firmware_create(struct chipset *cs, GError **error)
{
    struct machine *m = cs->machine;
    g_autofree char *path = firmware_file_find(m->config->bios ? m->config->bios : "bios-256k.bin");
    if (!path) {
        vireo_fail(error, VIREO_ERROR_NOT_FOUND, m->config->bios ? "there is no firmware '%s' here or in /usr/share/seabios" :
                   "there is no kernel (-kernel) to start, and no firmware: install the package seabios, or name an image with -bios", m->config->bios);
        return NULL;
    }
    struct firmware *f = g_new0(struct firmware, 1);
    f->fw_cfg = load(f, m, path, error) ? fw_cfg_create(m, error) : NULL;
    if (f->fw_cfg)
        return f;
    firmware_free(f);
    return NULL;
}

void firmware_free(struct firmware *f) { g_free(f); }

uint64_t firmware_tables_at(const struct chipset *cs) { return cs->low_size - FIRMWARE_TABLES_SIZE; }

/* ---- what it is told ---- */

/* Rows of base, size, type (INT 15h E820h). Firmware marks its own memory itself; RAM is given from 0 on in one piece. */
static void tell_memory(struct chipset *cs, struct firmware *f)
{
    g_autoptr(GByteArray) rows = g_byte_array_new();
    const struct e820_entry fixed[] = { { 0, firmware_tables_at(cs), E820_RAM }, { firmware_tables_at(cs), FIRMWARE_TABLES_SIZE, E820_ACPI }, { 4 * GIB, cs->high_size, E820_RAM } };
    for (unsigned i = 0; i < G_N_ELEMENTS(fixed) + cs->ne820; i++) {
        struct e820_entry e = i < G_N_ELEMENTS(fixed) ? fixed[i] : cs->e820[i - G_N_ELEMENTS(fixed)];
        uint8_t row[20];
        if (!e.size || (i >= G_N_ELEMENTS(fixed) && (e.type != E820_RESERVED || e.base < LOW_END)))
            continue;
        put64(row, e.base);
        put64(row + 8, e.size);
        put32(row + 16, e.type);
        g_byte_array_append(rows, row, sizeof(row));
    }
    fw_cfg_set_file(f->fw_cfg, "etc/e820", rows->data, rows->len);
    fw_cfg_set_int(f->fw_cfg, FW_CFG_RAM_SIZE, cs->low_size + cs->high_size, 8);
}

/* The table loader's one command: file NAME goes to the zone where the RSDP is looked for (1: any memory, 2: below 1 MiB). */
static void tell_tables(struct firmware *f, const uint8_t *rsdp, size_t size)
{
    uint8_t command[128] = { 0 };
    put32(command, 1); /* allocate */
    memcpy(command + 4, "etc/acpi/rsdp", sizeof("etc/acpi/rsdp"));
    put32(command + 60, 16); /* alignment */
    command[64] = 2;
    fw_cfg_set_file(f->fw_cfg, "etc/acpi/rsdp", rsdp, size);
    fw_cfg_set_file(f->fw_cfg, "etc/table-loader", command, sizeof(command));
}

/* SMBIOS: the entry point, to whose place firmware adapts the address in it, and the structures (DSP0134, 5.2.1). */
static void tell_smbios(struct chipset *cs, struct firmware *f)
{
    gsize size;
    const uint8_t *all = g_bytes_get_data(cs->smbios, &size);
    if (size <= 0x20 || get32(all + 0x18) != CHIPSET_SMBIOS + 0x20)
        return;
    fw_cfg_set_file(f->fw_cfg, "etc/smbios/smbios-anchor", all, all[5]);
    fw_cfg_set_file(f->fw_cfg, "etc/smbios/smbios-tables", all + 0x20, MIN(get16(all + 0x16), size - 0x20));
}

/* The order of kinds of disks, as letters of -boot order=, where PC firmware keeps it in CMOS: four bits each, three of them. */
static void tell_order(struct chipset *cs)
{
    const char *order = cs->machine->config->boot_order ? cs->machine->config->boot_order : "cad";
    unsigned code = 0;
    for (unsigned i = 0; i < 3 && order[i]; i++)
        code |= (order[i] == 'a' ? 1u : order[i] == 'c' ? 2u : order[i] == 'd' ? 3u : 4u) << 4 * i;
    rtc_set_cmos(cs->rtc, 0x3d, (uint8_t)code);
    rtc_set_cmos(cs->rtc, 0x38, (uint8_t)(code >> 4 & 0xf0) | 1); /* bit 0: no look at a floppy's signature */
}

struct boot_row {
    uint64_t index;
    char *path;
};

static int by_index(const void *a, const void *b)
{
    const struct boot_row *x = a, *y = b;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* Devices with a bootindex, one path a line: firmware tries them first, in this order. */
static void tell_bootorder(struct chipset *cs, struct firmware *f)
{
    struct machine *m = cs->machine;
    g_autoptr(GArray) rows = g_array_new(FALSE, FALSE, sizeof(struct boot_row));
    g_autoptr(GString) text = g_string_new(NULL);
    for (unsigned i = 0; i < m->devices->len; i++) {
        const struct device *d = m->devices->pdata[i];
        struct boot_row row = { device_bootindex(d), NULL };
        struct pci_device *function = row.index == UINT32_MAX ? NULL : pci_bus_function_of(m->pci, d->boot_controller ? d->boot_controller : d);
        if (!function)
            continue;
        g_autofree char *path = pci_firmware_path(function);
        row.path = g_strconcat(path, d->boot_controller ? d->boot_unit : function->config[PCI_REG_CLASS + 2] == 1 ? "/disk@0,0" : "", NULL);
        g_array_append_val(rows, row);
    }
    g_array_sort(rows, by_index);
    for (unsigned i = 0; i < rows->len; i++) {
        struct boot_row *row = &g_array_index(rows, struct boot_row, i);
        g_string_append_printf(text, "%s%s", i ? "\n" : "", row->path);
        g_free(row->path);
    }
    if (rows->len)
        fw_cfg_set_file(f->fw_cfg, "bootorder", text->str, text->len + 1);
}

/* A card with an option ROM, by which firmware shows what it prints. */
static bool has_screen(struct pci_bus *bus)
{
    bool found = false;
    for (struct pci_device *d = NULL; !found && (d = pci_bus_next(bus, d));)
        found = d->secondary ? has_screen(d->secondary) : d->config[PCI_REG_CLASS + 2] == 3 && d->rom.kind != PCI_BAR_NONE;
    return found;
}

bool firmware_finish(struct chipset *cs, struct firmware *f, GError **error)
{
    uint8_t states[6] = { 128, 0, 0, 128, 128, 128 }; /* S0, S5 alone */
    if (g_bytes_get_size(cs->tables) > FIRMWARE_TABLES_SIZE)
        return vireo_fail(error, VIREO_ERROR_FAILED, "the ACPI tables of a machine with %u CPUs do not fit; use fewer", cs->acpi.max_cpus);
    tell_memory(cs, f);
    tell_smbios(cs, f);
    tell_order(cs);
    tell_bootorder(cs, f);
    fw_cfg_set_file(f->fw_cfg, "etc/system-states", states, sizeof(states));
    fw_cfg_set_int(f->fw_cfg, FW_CFG_NB_CPUS, cs->machine->nvcpus, 2);
    fw_cfg_set_int(f->fw_cfg, FW_CFG_MAX_CPUS, cs->machine->max_vcpus, 2);
    bool screen = has_screen(cs->machine->pci);
    fw_cfg_set_int(f->fw_cfg, FW_CFG_NOGRAPHIC, !screen, 2);
    fw_cfg_set_int(f->fw_cfg, FW_CFG_BOOT_MENU, 0, 2);
    /* the screen of a machine without one: what BIOS and boot loader print goes to the first serial port */
    const uint8_t com1[2] = { 0xf8, 0x03 };
    if (!screen)
        fw_cfg_set_file(f->fw_cfg, "etc/sercon-port", com1, sizeof(com1));
    return true;
}

void firmware_reset(struct chipset *cs, struct firmware *f)
{
    struct guest_memory *m = cs->machine->memory;
    size_t shadow = MIN(f->size, SHADOW_SIZE);
    g_autofree uint8_t *zeroes = g_malloc0(SHADOW_SIZE);
    gsize n;
    const uint8_t *tables = g_bytes_get_data(cs->tables, &n);
    uint64_t at = firmware_tables_at(cs);
    if (!guest_memory_write(m, 0xc0000, zeroes, 0x20000) || !guest_memory_write(m, LOW_END - shadow, f->image + f->size - shadow, shadow) ||
        !guest_memory_write(m, at, tables, n))
        log_warn("the firmware does not fit into guest memory");
    if (cs->rsdp >= at && cs->rsdp + 36 <= at + n)
        tell_tables(f, tables + (cs->rsdp - at), 36);
}
