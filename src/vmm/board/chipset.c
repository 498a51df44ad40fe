/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/board/chipset.h"

#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "cpu/x86/x86_model.h"
#include "vmm/board/bios.h"
#include "vmm/board/firmware.h"
#include "vmm/board/smbios.h"
#include "vmm/core/device.h"
#include "vmm/core/hostmem.h"
#include "vmm/core/numa.h"
#include "vmm/core/irqchip.h"
#include "vmm/dev/apic.h"
#include "vmm/dev/cpu_hotplug.h"
#include "vmm/dev/hpet.h"
#include "vmm/dev/i8237.h"
#include "vmm/dev/i8254.h"
#include "vmm/dev/i8259.h"
#include "vmm/dev/ioapic.h"
#include "vmm/dev/mem_hotplug.h"
#include "vmm/dev/pm.h"
#include "vmm/dev/rtc.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define RAM_MIN (16 * MIB)
#define RAM_MAX (256 * GIB)
#define HOLE_START 0xa0000ull
#define HOLE_END   0xc0000ull

/* Where RAM lies in the guest: [ram, ram + size) counted without holes is at `gpa`. */
struct ram_window { uint64_t ram, size, gpa; };

static unsigned ram_windows(const struct chipset *cs, struct ram_window ret[3])
{
    ret[0] = (struct ram_window){ 0, HOLE_START, 0 };
    ret[1] = (struct ram_window){ HOLE_END, cs->low_size - HOLE_END, HOLE_END };
    ret[2] = (struct ram_window){ cs->low_size, cs->high_size, 4 * GIB };
    return cs->high_size ? 3 : 2;
}

/* `at`: of the piece in RAM without holes; in_mem: its offset in its back end. The part in the VGA hole is not seen. */
static bool map_piece(struct chipset *cs, const struct ram_piece *p, uint64_t at, uint64_t in_mem, GError **error)
{
    struct ram_window windows[3];
    unsigned n = ram_windows(cs, windows);
    for (unsigned i = 0; i < n; i++) {
        const struct ram_window *w = &windows[i];
        uint64_t begin = MAX(at, w->ram), end = MIN(at + p->size, w->ram + w->size);
        if (begin >= end)
            continue;
        uint64_t gpa = w->gpa + (begin - w->ram);
        if (!guest_memory_add_ram(cs->machine->memory, gpa, end - begin, p->mem->host + in_mem + (begin - at), false, error))
            return false;
        acpi_add_memory(&cs->acpi, gpa, end - begin, p->node, false);
    }
    return true;
}

static bool create_ram(struct chipset *cs, uint64_t low_limit, uint64_t low_max, GError **error)
{
    struct machine *m = cs->machine;
    uint64_t size = m->config->ram_size & ~0xfffull;
    if (size < RAM_MIN || size > RAM_MAX)
        return vireo_fail(error, VIREO_ERROR_INVALID, "-m: this machine takes from %llu MiB to %llu GiB of memory, not %llu MiB",
                          RAM_MIN / MIB, RAM_MAX / GIB, (unsigned long long)(size / MIB));
    cs->low_size = size > low_limit ? low_max : size;
    cs->high_size = size - cs->low_size;
    uint64_t at = 0, in_mem_end = 0;
    for (guint i = 0; i < m->ram->len; i++) {
        const struct ram_piece *p = &g_array_index(m->ram, struct ram_piece, i);
        uint64_t in_mem = i && p[-1].mem == p->mem ? in_mem_end : 0;
        if (!map_piece(cs, p, at, in_mem, error))
            return false;
        in_mem_end = in_mem + p->size;
        at += p->size;
    }
    return true;
}

static void add_e820(struct chipset *cs, uint64_t base, uint64_t size, uint32_t type)
{
    if (cs->ne820 < E820_MAX && size)
        cs->e820[cs->ne820++] = (struct e820_entry){ base, size, type };
}

void chipset_reserve(struct chipset *cs, uint64_t base, uint64_t size)
{
    add_e820(cs, base, size, E820_RESERVED);
}

/* ISA lines go to both controllers; the timer's is input 2 of the I/O APIC (MADT override), input 2 of the 8259 is the
 * cascade. */
static void isa_set(void *opaque, unsigned irq, bool level)
{
    struct chipset *cs = opaque;
    struct irq_line pic = i8259_line(cs->pic, irq), ioapic = ioapic_line(cs->ioapic, irq == 0 ? 2 : irq);
    machine_irq_begin(cs->machine);
    if (machine_irqchip_inside(cs->machine)) {
        machine_gsi_set(cs->machine, irq, level);
    } else {
        if (irq != 2)
            irq_set(&pic, level);
        irq_set(&ioapic, level);
    }
    machine_irq_end(cs->machine);
}

static void gsi_set(void *opaque, unsigned gsi, bool level)
{
    struct chipset *cs = opaque;
    struct irq_line ioapic = ioapic_line(cs->ioapic, gsi);
    machine_irq_begin(cs->machine);
    if (machine_irqchip_inside(cs->machine))
        machine_gsi_set(cs->machine, gsi, level);
    else
        irq_set(&ioapic, level);
    machine_irq_end(cs->machine);
}

/* ---- their state, when it moves into an accelerator and out ---- */

static void irqchip_get(struct machine *m, struct x86_irqchip *ret)
{
    struct chipset *cs = m->board;
    memset(ret, 0, sizeof(*ret));
    ioapic_state_get(cs->ioapic, &ret->ioapic);
    i8259_state_get(cs->pic, ret->pic);
    i8254_state_get(cs->pit, ret->pit, &ret->pit_speaker);
    ret->pit_irq_off = cs->hpet && hpet_legacy(cs->hpet);
}

static void irqchip_set(struct machine *m, const struct x86_irqchip *s)
{
    struct chipset *cs = m->board;
    ioapic_state_set(cs->ioapic, &s->ioapic);
    i8259_state_set(cs->pic, s->pic);
    i8254_state_set(cs->pit, s->pit, s->pit_speaker);
}

static void quiet(struct machine *m)
{
    struct chipset *cs = m->board;
    struct device *const inside[] = { cs->ioapic, cs->pic, cs->pit };
    if (machine_lapic_inside(m))
        apic_quiet(m);
    for (unsigned i = 0; machine_irqchip_inside(m) && i < G_N_ELEMENTS(inside); i++)
        inside[i]->class->reset(inside[i]);
}

static void ioapic_eoi(struct machine *m, unsigned vector)
{
    struct irq_line eoi = ioapic_eoi_line(((struct chipset *)m->board)->ioapic);
    eoi.set(eoi.opaque, vector, true);
}

static bool create_interrupts(struct chipset *cs, GError **error)
{
    struct machine *m = cs->machine;
    if (!apic_attach(m, m->max_vcpus, error))
        return false;
    cs->ioapic = ioapic_create(m, error);
    cs->pic = i8259_create(m, apic_extint_line(m), error);
    if (!cs->ioapic || !cs->pic)
        return false;
    apic_set_eoi(m, ioapic_eoi_line(cs->ioapic));
    apic_set_extint_ack(m, i8259_ack, cs->pic);
    for (unsigned i = 0; i < 24; i++)
        cs->gsi[i] = (struct irq_line){ gsi_set, cs, i };
    for (unsigned i = 0; i < 16; i++)
        cs->isa[i] = (struct irq_line){ isa_set, cs, i };
    m->chips.irqchip_get = irqchip_get;
    m->chips.irqchip_set = irqchip_set;
    m->chips.quiet = quiet;
    m->chips.ioapic_eoi = ioapic_eoi;
    m->gsi = cs->gsi;
    m->isa_irqs = cs->isa;
    return true;
}

/* Where firmware leaves the size of memory (IBM PC AT CMOS layout and its usual extensions). */
static void set_cmos(struct chipset *cs)
{
    uint64_t ext_k = MIN(cs->low_size / 1024 - 1024, 0xffff);
    uint64_t above16 = cs->low_size > 16 * MIB ? MIN((cs->low_size - 16 * MIB) >> 16, 0xffff) : 0, high = cs->high_size >> 16;
    const struct { uint8_t index, value; } rows[] = {
        { 0x14, 0x06 }, { 0x15, 640 & 0xff }, { 0x16, 640 >> 8 }, { 0x17, ext_k & 0xff }, { 0x18, ext_k >> 8 & 0xff }, { 0x30, ext_k & 0xff },
        { 0x31, ext_k >> 8 & 0xff }, { 0x34, above16 & 0xff }, { 0x35, above16 >> 8 & 0xff }, { 0x5b, high & 0xff },
        { 0x5c, high >> 8 & 0xff }, { 0x5d, high >> 16 & 0xff }, { 0x5f, (cs->machine->nvcpus - 1) & 0xff },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
        rtc_set_cmos(cs->rtc, rows[i].index, rows[i].value);
}

static bool add_port80(struct machine *m, GError **error)
{
    const struct device_class *class = device_class_find("port80");
    struct device *d = class ? device_create(m, class) : NULL;
    if (!d || device_realize(d, error))
        return true;
    device_destroy(d);
    return false;
}

static bool create_timers(struct chipset *cs, bool with_hpet, GError **error)
{
    struct machine *m = cs->machine;
    struct irq_line irq0 = cs->isa[0], irq8 = cs->isa[8];
    if (with_hpet) {
        cs->hpet = hpet_create(m, cs->gsi, irq0, irq8, error);
        if (!cs->hpet)
            return false;
        irq0 = hpet_legacy_input(cs->hpet, 0);
        irq8 = hpet_legacy_input(cs->hpet, 1);
    }
    cs->pit = i8254_create(m, irq0, error);
    cs->rtc = cs->pit ? rtc_create(m, irq8, error) : NULL;
    cs->pm = cs->rtc ? pm_create(m, cs->isa[9], error) : NULL;
    return cs->pm && i8237_create(m, error) && add_port80(m, error) &&
           (m->max_vcpus == m->nvcpus || cpu_hotplug_create(m, pm_gpe_line(cs->pm, CPU_HOTPLUG_GPE), error));
}

/* Above RAM: room for what -m maxmem= promises, each module at an address of 128 MiB or better. */
static bool create_plug_region(struct chipset *cs, GError **error)
{
    struct machine *m = cs->machine;
    const struct machine_config *c = m->config;
    uint64_t limit = UINT64_C(1) << (m->cpu_model ? m->cpu_model->phys_bits : 36u);
    cs->high_end = 4 * GIB + cs->high_size;
    if (!c->max_ram_size)
        return true;
    m->plug_base = (cs->high_end + GIB - 1) & ~(GIB - 1);
    m->plug_size = (c->max_ram_size - c->ram_size + (c->mem_slots + 1) * 128 * MIB + GIB - 1) & ~(GIB - 1);
    cs->high_end = m->plug_base + m->plug_size;
    if (cs->high_end > limit)
        return vireo_fail(error, VIREO_ERROR_INVALID, "-m maxmem: the CPU addresses %llu GiB, this needs %llu GiB; give it more with -cpu MODEL,phys-bits=N",
                          (unsigned long long)(limit / GIB), (unsigned long long)(cs->high_end / GIB));
    if (m->numa->nnodes)
        acpi_add_memory(&cs->acpi, m->plug_base, m->plug_size, m->numa->nnodes - 1, true);
    cs->acpi.mem_slots = c->mem_slots;
    return !c->mem_slots || mem_hotplug_create(m, pm_gpe_line(cs->pm, MEM_HOTPLUG_GPE), error);
}

static void powerdown(struct machine *m)
{
    pm_power_button(((struct chipset *)m->board)->pm);
}

static void put(struct chipset *cs, uint64_t gpa, GBytes *bytes)
{
    gsize n = 0;
    const void *data = bytes ? g_bytes_get_data(bytes, &n) : NULL;
    if (n && !guest_memory_write(cs->machine->memory, gpa, data, n))
        log_warn("firmware tables do not fit into guest memory");
}

/* The tables say which vCPUs are there now; where they lie does not change. */
static uint64_t build_tables(struct chipset *cs)
{
    const struct machine *m = cs->machine;
    uint8_t present[ACPI_MAX_CPUS] = { 0 };
    for (unsigned i = 0; i < MIN(m->max_vcpus, ACPI_MAX_CPUS); i++)
        present[i] = m->vcpus[i] != NULL;
    g_clear_pointer(&cs->tables, g_bytes_unref);
    cs->acpi.cpu_present = present;
    cs->tables = acpi_build(&cs->acpi, cs->firmware ? firmware_tables_at(cs) : CHIPSET_FIRMWARE, &cs->rsdp);
    cs->acpi.cpu_present = NULL;
    return cs->rsdp;
}

/* After the devices' reset: firmware is put in place, or what it would have done before it starts the kernel. */
static void board_reset(struct machine *m)
{
    struct chipset *cs = m->board;
    g_autoptr(GError) error = NULL;
    build_tables(cs);
    if (cs->firmware) {
        firmware_reset(cs, cs->firmware); /* the first vCPU is where a reset has put it: at the image's last 16 bytes */
    } else {
        put(cs, CHIPSET_FIRMWARE, cs->tables);
        put(cs, CHIPSET_SMBIOS, cs->smbios);
        bios_install(m, cs->e820, cs->ne820, cs->low_size);
    }
    if ((cs->reset && !cs->reset(cs, &error)) || (cs->boot && !boot_enter(cs->boot, m, &error))) {
        log_warn("the machine cannot start: %s", error->message);
        machine_request_shutdown(m, CAUSE_HOST_ERROR);
    }
}

struct chipset *chipset_create(struct machine *m, uint64_t low_limit, uint64_t low_max, bool with_hpet, GError **error)
{
    struct chipset *cs = g_new0(struct chipset, 1);
    cs->machine = m;
    m->board = cs;
    m->board_reset = board_reset;
    m->board_powerdown = powerdown;
    if (!create_ram(cs, low_limit, low_max, error) || !machine_create_cpus(m, error) || !create_interrupts(cs, error) ||
        !create_timers(cs, with_hpet, error) || !create_plug_region(cs, error))
        return NULL; /* chipset_destroy through m->board */
    set_cmos(cs);
    add_e820(cs, 0, CHIPSET_EBDA, E820_RAM);
    add_e820(cs, CHIPSET_EBDA, HOLE_START - CHIPSET_EBDA, E820_RESERVED);
    add_e820(cs, CHIPSET_FIRMWARE, MIB - CHIPSET_FIRMWARE, E820_RESERVED);
    add_e820(cs, MIB, cs->low_size - MIB, E820_RAM);
    chipset_reserve(cs, IOAPIC_BASE, 0x1000);
    chipset_reserve(cs, APIC_BASE, 0x1000);
    add_e820(cs, 4 * GIB, cs->high_size, E820_RAM);
    cs->acpi.ncpus = m->nvcpus;
    cs->acpi.max_cpus = m->max_vcpus;
    cs->acpi.rtc = true;
    cs->acpi.hpet = with_hpet;
    return cs;
}

static uint64_t uint_prop(const struct device *d, const char *name)
{
    for (const struct device_prop *p = d->class->props; p && p->name; p++) {
        if (!strcmp(p->name, name) && p->type == PROP_UINT)
            return *(const uint64_t *)((const char *)d + p->offset);
    }
    return 0;
}

void chipset_find_uarts(struct chipset *cs)
{
    static const struct { uint16_t port; uint8_t irq; } com[] = { { 0x3f8, 4 }, { 0x2f8, 3 }, { 0x3e8, 4 }, { 0x2e8, 3 } };
    GPtrArray *devices = cs->machine->devices;
    for (unsigned i = 0; i < devices->len && cs->acpi.nuarts < ACPI_MAX_UARTS; i++) {
        const struct device *d = g_ptr_array_index(devices, i);
        if (strcmp(d->class->name, "isa-serial"))
            continue;
        uint64_t port = uint_prop(d, "iobase"), irq = uint_prop(d, "irq"), index = MIN(uint_prop(d, "index"), 3);
        unsigned n = cs->acpi.nuarts++;
        cs->acpi.uart[n].port = (uint16_t)(port ? port : com[index].port);
        cs->acpi.uart[n].irq = (uint8_t)(irq ? irq & 15 : com[index].irq);
    }
}

static int by_base(const void *a, const void *b)
{
    const struct e820_entry *x = a, *y = b;
    return x->base < y->base ? -1 : x->base > y->base;
}

bool chipset_finish(struct chipset *cs, const char *extra_cmdline, GError **error)
{
    struct machine_config *c = cs->machine->config;
    struct boot_env env = { .kernel_path = c->kernel, .initrd_path = c->initrd, .low_size = cs->low_size, .linux_entry = c->linux_entry };
    if (!c->kernel && !cs->firmware)
        return vireo_fail(error, VIREO_ERROR_INVALID, "there is nothing to start: this board has no firmware; give a kernel with -kernel "
                          "(Linux, Multiboot or PVH)");
    chipset_find_uarts(cs);
    cs->acpi.nnodes = cs->machine->numa->nnodes;
    cs->acpi.cpu_node = cs->machine->numa->cpu_node;
    cs->acpi.distance = cs->machine->numa->distances ? cs->machine->numa->distance : NULL;
    env.rsdp = build_tables(cs);
    if (!cs->firmware && g_bytes_get_size(cs->tables) > CHIPSET_SMBIOS - CHIPSET_FIRMWARE)
        return vireo_fail(error, VIREO_ERROR_FAILED, "the ACPI tables of a machine with %u CPUs do not fit; use fewer", cs->acpi.max_cpus);
    cs->smbios = smbios_build(c, cs->machine->nvcpus, CHIPSET_SMBIOS, CHIPSET_BIOS - CHIPSET_SMBIOS);
    if (!cs->smbios)
        return vireo_fail(error, VIREO_ERROR_INVALID, "the texts given with -smbios do not fit into %u KiB; use shorter ones", (CHIPSET_BIOS - CHIPSET_SMBIOS) >> 10);
    qsort(cs->e820, cs->ne820, sizeof(cs->e820[0]), by_base);
    if (cs->firmware)
        return firmware_finish(cs, cs->firmware, error);
    memcpy(env.e820, cs->e820, sizeof(cs->e820));
    env.ne820 = cs->ne820;
    g_autofree char *line = g_strconcat(extra_cmdline ? extra_cmdline : "", c->append ? c->append : "", NULL);
    env.cmdline = line;
    cs->boot = boot_load(&env, error);
    return cs->boot != NULL;
}

void chipset_destroy(struct chipset *cs)
{
    if (!cs)
        return;
    boot_image_free(cs->boot);
    firmware_free(cs->firmware);
    g_clear_pointer(&cs->tables, g_bytes_unref);
    g_clear_pointer(&cs->smbios, g_bytes_unref);
    apic_detach(cs->machine);
    g_clear_pointer(&cs->acpi.memory, g_array_unref);
    cs->machine->board = NULL;
    g_free(cs);
}
