/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/board/acpi.h"

#include <string.h>

#include "vmm/board/acpi_hotplug.h"
#include "vmm/board/acpi_memhp.h"
#include "vmm/board/aml.h"
#include "vmm/board/boot.h"
#include "vmm/dev/apic.h"
#include "vmm/dev/cpu_hotplug.h"
#include "vmm/dev/hpet.h"
#include "vmm/dev/ioapic.h"
#include "vmm/dev/mem_hotplug.h"
#include "vmm/dev/pm.h"

#define HEADER 36u
#define SCI 9u

struct builder {
    GByteArray *out;
    uint64_t base;
    uint64_t tables[16]; /* what the XSDT lists */
    unsigned ntables;
};

static void add(GByteArray *out, uint64_t v, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        uint8_t byte = (uint8_t)(v >> i * 8);
        g_byte_array_append(out, &byte, 1);
    }
}

static void add_text(GByteArray *out, const char *text, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        add(out, *text ? (uint8_t)*text++ : ' ', 1);
}

static uint8_t sum_to_zero(const uint8_t *p, size_t n)
{
    uint8_t sum = 0;
    while (n--)
        sum += *p++;
    return (uint8_t)-sum;
}

/* 5.2.6: the header; length and checksum come in table_end. Returns the table's offset. */
static guint table_begin(struct builder *b, const char *signature, uint8_t revision)
{
    while (b->out->len % 16)
        add(b->out, 0, 1);
    guint at = b->out->len;
    add_text(b->out, signature, 4);
    add(b->out, 0, 4);
    add(b->out, revision, 1);
    add(b->out, 0, 1);
    add_text(b->out, "VIREO", 6);
    add_text(b->out, "VIREOVMM", 8);
    add(b->out, 1, 4);
    add_text(b->out, "VREO", 4);
    add(b->out, 1, 4);
    return at;
}

static uint64_t table_end(struct builder *b, guint at, bool listed)
{
    put32(b->out->data + at + 4, b->out->len - at);
    b->out->data[at + 9] = sum_to_zero(b->out->data + at, b->out->len - at);
    if (listed)
        b->tables[b->ntables++] = b->base + at;
    return b->base + at;
}

/* 5.2.3.2: generic address structure. */
static void add_gas(GByteArray *out, bool port, uint8_t bits, uint8_t access, uint64_t address)
{
    add(out, port, 1);
    add(out, bits, 1);
    add(out, 0, 1);
    add(out, access, 1);
    add(out, address, 8);
}

/* --- DSDT ------------------------------------------------------------------------------------------------------------- */

static void dsdt_prt(struct aml *a, const struct acpi_config *c)
{
    aml_name(a, "_PRT");
    aml_begin_package(a, 31 * 4);
    for (unsigned slot = 1; slot < 32; slot++) {
        for (unsigned pin = 1; pin <= 4; pin++) {
            aml_begin_package(a, 4);
            aml_int(a, slot << 16 | 0xffff);
            aml_int(a, pin - 1);
            aml_int(a, 0);
            aml_int(a, 16 + c->intx_line(slot, pin));
            aml_end(a);
        }
    }
    aml_end(a);
}

static void dsdt_pci_crs(struct aml *a, const struct acpi_config *c)
{
    GByteArray *crs = aml_begin_crs();
    crs_word_range(crs, CRS_BUS, 0, c->ecam_buses);
    crs_io(crs, 0xcf8, 8);
    crs_word_range(crs, CRS_IO, 0, 0xcf8);
    crs_word_range(crs, CRS_IO, (uint16_t)c->io_base, c->io_size);
    crs_dword_range(crs, c->mem32_base, c->mem32_size);
    if (c->mem64_size)
        crs_qword_range(crs, c->mem64_base, c->mem64_size);
    aml_end_crs(a, crs);
}

/* ISA devices with fixed resources: one row each. */
static void dsdt_isa_device(struct aml *a, const char *name, const char *hid, unsigned uid, const uint16_t ports[][2], int irq)
{
    aml_begin_device(a, name);
    aml_name_eisaid(a, "_HID", hid);
    aml_name_int(a, "_UID", uid);
    aml_name_int(a, "_STA", 0xf);
    GByteArray *crs = aml_begin_crs();
    for (unsigned i = 0; ports && ports[i][1]; i++)
        crs_io(crs, ports[i][0], (uint8_t)ports[i][1]);
    if (irq >= 0)
        crs_irq(crs, (uint8_t)irq);
    aml_end_crs(a, crs);
    aml_end(a);
}

static void dsdt_isa(struct aml *a, const struct acpi_config *c)
{
    static const uint16_t kbd[][2] = { { 0x60, 1 }, { 0x64, 1 }, { 0, 0 } }, rtc[][2] = { { 0x70, 2 }, { 0, 0 } };
    if (c->i8042) {
        dsdt_isa_device(a, "KBD_", "PNP0303", 0, kbd, 1);
        dsdt_isa_device(a, "MOU_", "PNP0F13", 0, NULL, 12);
    }
    if (c->rtc)
        dsdt_isa_device(a, "RTC_", "PNP0B00", 0, rtc, 8);
    for (unsigned i = 0; i < c->nuarts; i++) {
        const uint16_t ports[][2] = { { c->uart[i].port, 8 }, { 0, 0 } };
        char name[5] = { 'C', 'O', 'M', (char)('1' + i), 0 };
        dsdt_isa_device(a, name, "PNP0501", i + 1, ports, c->uart[i].irq);
    }
}

/* Where the machine's own registers are, so that nobody gives their addresses away. */
static void dsdt_motherboard(struct aml *a, const struct acpi_config *c)
{
    aml_begin_device(a, "MBRD");
    aml_name_eisaid(a, "_HID", "PNP0C02");
    aml_name_int(a, "_UID", 0);
    GByteArray *crs = aml_begin_crs();
    crs_io(crs, 0x4d0, 2);
    crs_io(crs, PM_BASE, 0x40);
    if (c->max_cpus > c->ncpus)
        crs_io(crs, CPU_HOTPLUG_BASE, CPU_HOTPLUG_SIZE);
    if (c->mem_slots)
        crs_io(crs, MEM_HOTPLUG_BASE, MEM_HOTPLUG_SIZE);
    if (c->pci)
        crs_memory32(crs, (uint32_t)c->ecam_base, c->ecam_buses << 20);
    crs_memory32(crs, IOAPIC_BASE, 0x1000);
    crs_memory32(crs, APIC_BASE, 0x100000);
    aml_end_crs(a, crs);
    aml_end(a);
}

static void dsdt_pci(struct aml *a, const struct acpi_config *c)
{
    aml_begin_device(a, "PCI0");
    aml_name_eisaid(a, "_HID", "PNP0A08");
    aml_name_eisaid(a, "_CID", "PNP0A03");
    aml_name_int(a, "_SEG", 0);
    aml_name_int(a, "_BBN", 0);
    aml_name_int(a, "_UID", 0);
    dsdt_pci_crs(a, c);
    dsdt_prt(a, c);
    aml_begin_method(a, "_OSC", 4); /* 6.2.11: whatever the OS wants to control it may */
    aml_return_arg(a, 3);
    aml_end(a);
    aml_begin_device(a, "ISA_");
    aml_name_int(a, "_ADR", 0x1f0000);
    dsdt_isa(a, c);
    aml_end(a);
    aml_end(a);
}

static void dsdt_virtio_mmio(struct aml *a, const struct acpi_config *c)
{
    for (unsigned i = 0; i < c->nvirtio_mmio; i++) {
        char name[5];
        g_snprintf(name, sizeof(name), "VR%02u", i);
        aml_begin_device(a, name);
        aml_name_string(a, "_HID", "LNRO0005"); /* how Linux knows virtio-mmio */
        aml_name_int(a, "_UID", i);
        aml_name_int(a, "_CCA", 1);
        GByteArray *crs = aml_begin_crs();
        crs_memory32(crs, (uint32_t)c->virtio_mmio[i].base, c->virtio_mmio[i].size);
        crs_gsi(crs, c->virtio_mmio[i].gsi, true);
        aml_end_crs(a, crs);
        aml_end(a);
    }
}

static void dsdt_hpet(struct aml *a)
{
    aml_begin_device(a, "HPET");
    aml_name_eisaid(a, "_HID", "PNP0103");
    aml_name_int(a, "_UID", 0);
    GByteArray *crs = aml_begin_crs();
    crs_memory32(crs, HPET_BASE, 0x400);
    aml_end_crs(a, crs);
    aml_end(a);
}

static uint64_t build_dsdt(struct builder *b, const struct acpi_config *c)
{
    guint at = table_begin(b, "DSDT", 2);
    struct aml a = { .out = b->out };
    aml_begin_scope(&a, "\\_SB_");
    acpi_hotplug_cpus(&a, c);
    acpi_memhp_slots(&a, c);
    if (c->pci)
        dsdt_pci(&a, c);
    else
        dsdt_isa(&a, c);
    dsdt_motherboard(&a, c);
    if (c->hpet)
        dsdt_hpet(&a);
    dsdt_virtio_mmio(&a, c);
    aml_end(&a);
    acpi_hotplug_events(&a, c);
    acpi_memhp_event(&a, c);
    aml_name(&a, "\\_S5_");
    aml_begin_package(&a, 4);
    aml_int(&a, PM_S5_TYPE);
    aml_int(&a, PM_S5_TYPE);
    aml_int(&a, 0);
    aml_int(&a, 0);
    aml_end(&a);
    return table_end(b, at, false);
}

/* --- fixed tables --------------------------------------------------------------------------------------------------------- */

/* 5.2.10 */
static uint64_t build_facs(struct builder *b)
{
    while (b->out->len % 64)
        add(b->out, 0, 1);
    guint at = b->out->len;
    add_text(b->out, "FACS", 4);
    add(b->out, 64, 4);
    add(b->out, 0, 8);
    add(b->out, 0, 8);
    add(b->out, 0, 8);
    add(b->out, 2, 1);
    for (unsigned i = b->out->len - at; i < 64; i++)
        add(b->out, 0, 1);
    return b->base + at;
}

#define FADT_WBINVD (1u << 0)
#define FADT_PROC_C1 (1u << 2)
#define FADT_SLP_BUTTON_ABSENT (1u << 5) /* the power button is fixed hardware, a sleep button is not there */
#define FADT_FIX_RTC_ABSENT (1u << 6)
#define FADT_TMR_VAL_EXT (1u << 8)
#define FADT_RESET_REG (1u << 10)
#define BOOT_LEGACY 1u
#define BOOT_8042 2u
#define BOOT_NO_VGA 4u

/* 5.2.9, revision 5.1 */
static void build_fadt(struct builder *b, const struct acpi_config *c, uint64_t facs, uint64_t dsdt)
{
    GByteArray *o = b->out;
    guint at = table_begin(b, "FACP", 5);
    add(o, facs, 4);
    add(o, dsdt, 4);
    add(o, 0, 1);
    add(o, 1, 1);              /* preferred profile: desktop */
    add(o, SCI, 2);
    add(o, 0, 4);              /* no SMI command port: always in ACPI mode */
    add(o, 0, 4);
    add(o, PM_PM1_EVT, 4);
    add(o, 0, 4);
    add(o, PM_PM1_CNT, 4);
    add(o, 0, 8);              /* PM1b control, PM2 control */
    add(o, PM_TMR, 4);
    add(o, PM_GPE0, 4);
    add(o, 0, 4);
    add(o, 4, 1);              /* PM1 event, control, PM2, timer, GPE0, GPE1 lengths; GPE1 base */
    add(o, 2, 1);
    add(o, 0, 1);
    add(o, 4, 1);
    add(o, PM_GPE0_LEN, 1);
    add(o, 0, 3);              /* GPE1 length and base, CST command */
    add(o, 0xfff, 2);          /* C2, C3: not supported */
    add(o, 0xfff, 2);
    add(o, 0, 4);              /* flush size and stride */
    add(o, 0, 2);              /* duty */
    add(o, 0, 2);              /* RTC day and month alarm */
    add(o, c->rtc ? 0x32 : 0, 1); /* century register */
    add(o, BOOT_LEGACY | (c->i8042 ? BOOT_8042 : 0) | BOOT_NO_VGA, 2);
    add(o, 0, 1);
    add(o, FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON_ABSENT | FADT_FIX_RTC_ABSENT | FADT_TMR_VAL_EXT | FADT_RESET_REG, 4);
    add_gas(o, true, 8, 1, PM_RESET_REG);
    add(o, PM_RESET_VALUE, 1);
    add(o, 0, 2);
    add(o, 1, 1);              /* minor revision */
    add(o, facs, 8);
    add(o, dsdt, 8);
    add_gas(o, true, 32, 2, PM_PM1_EVT);
    add_gas(o, false, 0, 0, 0);
    add_gas(o, true, 16, 2, PM_PM1_CNT);
    add_gas(o, false, 0, 0, 0);
    add_gas(o, false, 0, 0, 0);
    add_gas(o, true, 32, 3, PM_TMR);
    add_gas(o, true, PM_GPE0_LEN * 8, 1, PM_GPE0);
    add_gas(o, false, 0, 0, 0);
    add_gas(o, false, 0, 0, 0); /* sleep control and status: hardware-reduced only */
    add_gas(o, false, 0, 0, 0);
    table_end(b, at, true);
}

/* Table 5.47: enabled, or to be enabled later. */
static uint32_t madt_flags(const struct acpi_config *c, unsigned i)
{
    return i < c->ncpus || (c->cpu_present && c->cpu_present[i]) ? 1 : 2;
}

/* 5.2.12. Revision 5 has the flag "online capable". */
static void build_madt(struct builder *b, const struct acpi_config *c)
{
    GByteArray *o = b->out;
    unsigned n = MAX(c->ncpus, c->max_cpus);
    guint at = table_begin(b, "APIC", n > c->ncpus ? 5 : 4);
    add(o, APIC_BASE, 4);
    add(o, 1, 4); /* there are 8259s too */
    for (unsigned i = 0; i < n; i++) {
        if (i < 255) {
            add(o, 0x0800, 2); /* local APIC */
            add(o, i, 1);
            add(o, i, 1);
            add(o, madt_flags(c, i), 4);
        } else {
            add(o, 0x1009, 2); /* local x2APIC */
            add(o, 0, 2);
            add(o, i, 4);
            add(o, madt_flags(c, i), 4);
            add(o, i, 4);
        }
    }
    add(o, 0x0c01, 2); /* I/O APIC */
    add(o, 0, 2);
    add(o, IOAPIC_BASE, 4);
    add(o, 0, 4);
    static const struct { uint8_t irq, gsi, flags; } overrides[] = { { 0, 2, 0 }, { SCI, SCI, 0x0d /* active high, level */ } };
    for (unsigned i = 0; i < G_N_ELEMENTS(overrides); i++) {
        add(o, 0x0a02, 2);
        add(o, 0, 1);
        add(o, overrides[i].irq, 1);
        add(o, overrides[i].gsi, 4);
        add(o, overrides[i].flags, 2);
    }
    add(o, 0x0604, 2); /* NMI on LINT1 of all */
    add(o, 0xff, 1);
    add(o, 0, 2);
    add(o, 1, 1);
    if (n > 255) {
        add(o, 0x0c0a, 2);
        add(o, 0, 2);
        add(o, 0xffffffff, 4);
        add(o, 1, 1);
        add(o, 0, 3);
    }
    table_end(b, at, true);
}

/* IA-PC HPET 1.0a, 3.2.4 */
static void build_hpet(struct builder *b)
{
    guint at = table_begin(b, "HPET", 1);
    add(b->out, 0x8086a201, 4);
    add_gas(b->out, false, 64, 0, HPET_BASE);
    add(b->out, 0, 1);
    add(b->out, 0x1000, 2);
    add(b->out, 0, 1);
    table_end(b, at, true);
}

/* PCI Firmware Specification 3.2, 4.1.2 */
static void build_mcfg(struct builder *b, const struct acpi_config *c)
{
    guint at = table_begin(b, "MCFG", 1);
    add(b->out, 0, 8);
    add(b->out, c->ecam_base, 8);
    add(b->out, 0, 2);
    add(b->out, 0, 1);
    add(b->out, c->ecam_buses - 1, 1);
    add(b->out, 0, 4);
    table_end(b, at, true);
}

void acpi_add_memory(struct acpi_config *c, uint64_t base, uint64_t size, unsigned node, bool hotplug)
{
    struct acpi_memory row = { base, size, (uint8_t)node, hotplug };
    if (!c->memory)
        c->memory = g_array_new(FALSE, FALSE, sizeof(struct acpi_memory));
    g_array_append_val(c->memory, row);
}

/* 5.2.16: the nodes of CPUs and memory. */
static void build_srat(struct builder *b, const struct acpi_config *c)
{
    GByteArray *o = b->out;
    guint at = table_begin(b, "SRAT", 3);
    add(o, 1, 4);
    add(o, 0, 8);
    for (unsigned i = 0; i < MAX(c->ncpus, c->max_cpus); i++) {
        unsigned node = c->cpu_node[i];
        if (i < 255) {
            add(o, 0x1000, 2); /* local APIC affinity */
            add(o, node & 0xff, 1);
            add(o, i, 1);
            add(o, 1, 4);
            add(o, 0, 8); /* SAPIC id, upper bits of the node, clock domain */
        } else {
            add(o, 0x1802, 2); /* local x2APIC affinity */
            add(o, 0, 2);
            add(o, node, 4);
            add(o, i, 4);
            add(o, 1, 4);
            add(o, 0, 8);
        }
    }
    for (guint i = 0; c->memory && i < c->memory->len; i++) {
        const struct acpi_memory *m = &g_array_index(c->memory, struct acpi_memory, i);
        add(o, 0x2801, 2); /* memory affinity */
        add(o, m->node, 4);
        add(o, 0, 2);
        add(o, m->base, 8);
        add(o, m->size, 8);
        add(o, 0, 4);
        add(o, m->hotplug ? 3 : 1, 4);
        add(o, 0, 8);
    }
    table_end(b, at, true);
}

/* 5.2.17 */
static void build_slit(struct builder *b, const struct acpi_config *c)
{
    guint at = table_begin(b, "SLIT", 1);
    add(b->out, c->nnodes, 8);
    for (unsigned i = 0; i < c->nnodes; i++) {
        for (unsigned j = 0; j < c->nnodes; j++)
            add(b->out, c->distance[i][j], 1);
    }
    table_end(b, at, true);
}

/* Windows ACPI Emulated Devices Table 1.0: RTC and PM timer need no work-arounds. */
static void build_waet(struct builder *b)
{
    guint at = table_begin(b, "WAET", 1);
    add(b->out, 2, 4);
    table_end(b, at, true);
}

static uint64_t build_root(struct builder *b, bool wide)
{
    guint at = table_begin(b, wide ? "XSDT" : "RSDT", 1);
    for (unsigned i = 0; i < b->ntables; i++)
        add(b->out, b->tables[i], wide ? 8 : 4);
    return table_end(b, at, false);
}

GBytes *acpi_build(const struct acpi_config *c, uint64_t base, uint64_t *ret_rsdp)
{
    struct builder b = { g_byte_array_new(), base, { 0 }, 0 };
    uint8_t rsdp[36] = "RSD PTR ";
    g_byte_array_append(b.out, rsdp, sizeof(rsdp)); /* first: filled in at the end */
    uint64_t facs = build_facs(&b), dsdt = build_dsdt(&b, c);
    build_fadt(&b, c, facs, dsdt);
    build_madt(&b, c);
    if (c->hpet)
        build_hpet(&b);
    if (c->pci)
        build_mcfg(&b, c);
    if (c->nnodes)
        build_srat(&b, c);
    if (c->nnodes && c->distance)
        build_slit(&b, c);
    build_waet(&b);
    uint64_t rsdt = build_root(&b, false), xsdt = build_root(&b, true);
    memcpy(rsdp + 9, "VIREO ", 6);
    rsdp[15] = 2;
    put32(rsdp + 16, (uint32_t)rsdt);
    put32(rsdp + 20, sizeof(rsdp));
    put64(rsdp + 24, xsdt);
    rsdp[8] = sum_to_zero(rsdp, 20);
    rsdp[32] = sum_to_zero(rsdp, sizeof(rsdp));
    memcpy(b.out->data, rsdp, sizeof(rsdp));
    *ret_rsdp = base;
    return g_byte_array_free_to_bytes(b.out);
}

const uint8_t *acpi_find(GBytes *block, uint64_t base, const char *signature, uint32_t *ret_size)
{
    gsize n;
    const uint8_t *d = g_bytes_get_data(block, &n);
    for (gsize at = 48; at + HEADER <= n; at += 16) {
        if (memcmp(d + at, signature, 4) || get32(d + at + 4) < HEADER || get32(d + at + 4) > n - at)
            continue;
        *ret_size = get32(d + at + 4);
        return d + at;
    }
    return NULL;
}
