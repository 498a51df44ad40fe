/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Locks: the controller's device.lock covers the slots. A vCPU is added and removed on the main thread; a guest's eject is
 * carried out there soon after (machine_call_later), since the vCPU that writes the register may be the one that goes.
 */
#include "vmm/dev/cpu_hotplug.h"

#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "vmm/core/machine.h"
#include "vmm/core/numa.h"

struct slot {
    struct device *cpu;     /* NULL: there from the start, or absent; main thread */
    uint8_t events;         /* CPU_SLOT_CAME, CPU_SLOT_LEAVE */
    bool present, leaving;  /* leaving: device_del was asked for */
    bool ejected;           /* the main thread has yet to take it away */
    bool reported;
    uint32_t ost_event, ost_status;
};

struct controller {
    struct device dev;
    struct io_window window;
    struct irq_line gpe;
    struct slot *slots;
    unsigned nslots;
    uint32_t selected;
};

struct cpu_device {
    struct device dev;
    uint64_t socket, core, thread, node;
    int die;
    int index; /* -1: not in its place yet */
};

static struct controller *controller_of(const struct machine *m)
{
    return (struct controller *)m->cpu_hotplug;
}

struct cpu_place cpu_place_of(const struct machine *m, unsigned index)
{
    unsigned threads = MAX(m->config->threads, 1u), cores = MAX(m->config->cores, 1u);
    return (struct cpu_place){ index / threads / cores, index / threads % cores, index % threads };
}

char *cpu_type_name(const struct machine *m)
{
    return g_strdup_printf("%s-x86_64-cpu", machine_cpu_model_name(m));
}

/* --- the registers ---------------------------------------------------------------------------------------------------- */

static struct slot *selected(struct controller *c)
{
    return c->selected < c->nslots ? &c->slots[c->selected] : NULL;
}

static uint32_t next_slot(const struct controller *c)
{
    for (unsigned i = 0; i < c->nslots; i++) {
        if (c->slots[i].events)
            return i;
    }
    return UINT32_MAX;
}

static uint64_t controller_read(void *opaque, uint64_t offset, unsigned size)
{
    struct controller *c = opaque;
    const struct slot *s = selected(c);
    switch (offset) {
    case CPU_HOTPLUG_SELECT:
        return c->selected;
    case CPU_HOTPLUG_STATUS:
        return s ? (s->present ? CPU_SLOT_PRESENT : 0u) | s->events : 0;
    case CPU_HOTPLUG_NEXT:
        return next_slot(c);
    default:
        return 0;
    }
}

static void take_ejected(void *opaque)
{
    struct controller *c = opaque;
    for (unsigned i = 0; i < c->nslots; i++) {
        g_mutex_lock(&c->dev.lock);
        struct device *gone = c->slots[i].ejected ? c->slots[i].cpu : NULL;
        c->slots[i].ejected = false;
        g_mutex_unlock(&c->dev.lock);
        if (gone)
            device_gone(gone);
    }
}

static void status_write(struct controller *c, uint32_t value)
{
    struct slot *s = selected(c);
    if (!s)
        return;
    s->events &= (uint8_t)~(value & (CPU_SLOT_CAME | CPU_SLOT_LEAVE));
    if (!(value & CPU_SLOT_EJECT) || !s->present)
        return;
    if (!s->cpu) {
        log_at(LOG_GUEST_ERRORS, "cpu-hotplug: vCPU %u was there from the start and cannot be ejected", c->selected);
        return;
    }
    s->present = false;
    s->ejected = true;
    machine_call_later(c->dev.machine, take_ejected, c);
}

static struct json_object *ost_info(const struct controller *c, unsigned index)
{
    const struct slot *s = &c->slots[index];
    g_autofree char *number = g_strdup_printf("%u", index);
    struct json_object *info = json_make("slot", json_object_new_string(number), "slot-type", json_object_new_string("CPU"), "source",
                                         json_object_new_int64(s->ost_event), "status", json_object_new_int64(s->ost_status), NULL);
    if (s->cpu && s->cpu->id)
        json_object_object_add(info, "device", json_object_new_string(s->cpu->id));
    return info;
}

/* ACPI 6.5, table 6.10: events that ask for a device to go; 6.13: the status of those that succeeded. */
static bool refuses_to_go(uint32_t event, uint32_t status)
{
    bool eject = event == 3 || event == 0x103;
    return eject && status != 0 && status != 0x84 /* in progress */;
}

static void ost_write(struct controller *c, uint32_t status)
{
    struct slot *s = selected(c);
    if (!s || !s->present)
        return;
    s->ost_status = status;
    s->reported = true;
    machine_post_event(c->dev.machine, "ACPI_DEVICE_OST", json_make("info", ost_info(c, c->selected), NULL));
    if (!s->cpu || !s->leaving || !refuses_to_go(s->ost_event, status))
        return;
    s->leaving = false;
    struct json_object *data = json_make("path", json_object_new_string("/machine/peripheral-anon"), NULL);
    if (s->cpu->id) {
        g_autofree char *path = g_strdup_printf("/machine/peripheral/%s", s->cpu->id);
        json_object_object_add(data, "path", json_object_new_string(path));
        json_object_object_add(data, "device", json_object_new_string(s->cpu->id));
    }
    machine_post_event(c->dev.machine, "DEVICE_UNPLUG_GUEST_ERROR", data);
}

static void controller_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct controller *c = opaque;
    struct slot *s = selected(c);
    switch (offset) {
    case CPU_HOTPLUG_SELECT:
        c->selected = (uint32_t)value;
        break;
    case CPU_HOTPLUG_STATUS:
        status_write(c, (uint32_t)value);
        break;
    case CPU_HOTPLUG_NEXT:
        if (s)
            s->ost_event = (uint32_t)value;
        break;
    case CPU_HOTPLUG_OST:
        ost_write(c, (uint32_t)value);
        break;
    }
}

static const struct io_ops controller_ops = { controller_read, controller_write, 4, 4 };

/* A guest that starts anew finds by _STA who is there. */
static void controller_reset(struct device *d)
{
    struct controller *c = (struct controller *)d;
    g_mutex_lock(&d->lock);
    c->selected = 0;
    for (unsigned i = 0; i < c->nslots; i++) {
        c->slots[i].events = 0;
        c->slots[i].reported = c->slots[i].leaving = false;
    }
    g_mutex_unlock(&d->lock);
}

static bool controller_realize(struct device *d, GError **error)
{
    struct controller *c = (struct controller *)d;
    c->nslots = d->machine->max_vcpus;
    c->slots = g_new0(struct slot, c->nslots);
    for (unsigned i = 0; i < c->nslots; i++)
        c->slots[i].present = d->machine->vcpus[i] != NULL;
    c->window = (struct io_window){ .name = "cpu-hotplug", .ops = &controller_ops, .opaque = c, .lock = &d->lock, .size = CPU_HOTPLUG_SIZE, .port = true };
    io_window_map(d->machine->memory, &c->window, CPU_HOTPLUG_BASE);
    return true;
}

static void controller_unrealize(struct device *d)
{
    struct controller *c = (struct controller *)d;
    io_window_unmap(d->machine->memory, &c->window);
    d->machine->cpu_hotplug = NULL;
    g_free(c->slots);
}

static const struct device_field controller_fields[] = { DEVICE_FIELD(struct controller, selected), { 0 } };
static const struct device_class controller_class = {
    .name = "cpu-hotplug", .help = "registers of vCPUs that come and go", .size = sizeof(struct controller), .fields = controller_fields,
    .realize = controller_realize, .reset = controller_reset, .unrealize = controller_unrealize,
};

struct device *cpu_hotplug_create(struct machine *m, struct irq_line gpe, GError **error)
{
    struct device *d = device_create(m, &controller_class);
    ((struct controller *)d)->gpe = gpe;
    if (!device_realize(d, error)) {
        device_destroy(d);
        return NULL;
    }
    m->cpu_hotplug = d;
    return d;
}

struct device *cpu_hotplug_device(const struct machine *m, unsigned index)
{
    const struct controller *c = controller_of(m);
    return c && index < c->nslots ? c->slots[index].cpu : NULL;
}

bool cpu_hotplug_ost(const struct machine *m, unsigned index, uint32_t *ret_event, uint32_t *ret_status)
{
    struct controller *c = controller_of(m);
    if (!c || index >= c->nslots)
        return false;
    g_mutex_lock(&c->dev.lock);
    *ret_event = c->slots[index].ost_event;
    *ret_status = c->slots[index].ost_status;
    bool reported = c->slots[index].reported;
    g_mutex_unlock(&c->dev.lock);
    return reported;
}

/* --- the vCPU as a device ----------------------------------------------------------------------------------------------- */

#define UNSET UINT64_C(0xffffffff)

static bool check_number(const char *name, uint64_t value, unsigned n, GError **error)
{
    if (value == UNSET)
        return vireo_fail(error, VIREO_ERROR_INVALID, "CPU %s is not set; query-hotpluggable-cpus lists the places that there are", name);
    return value < n || vireo_fail(error, VIREO_ERROR_INVALID, "Invalid CPU %s: %u must be in range 0:%u", name, (unsigned)value, n - 1);
}

/* The vCPU that the topology properties name. */
static bool find_index(const struct cpu_device *d, unsigned *ret, GError **error)
{
    const struct machine *m = d->dev.machine;
    const struct machine_config *c = m->config;
    unsigned threads = MAX(c->threads, 1u), cores = MAX(c->cores, 1u);
    if (!check_number("socket-id", d->socket, MAX(c->sockets, 1u), error) || !check_number("core-id", d->core, cores, error) ||
        !check_number("thread-id", d->thread, threads, error))
        return false;
    uint64_t index = (d->socket * cores + d->core) * threads + d->thread;
    if (index >= m->max_vcpus)
        return vireo_fail(error, VIREO_ERROR_INVALID, "there is no place for a vCPU in socket %u, core %u, thread %u", (unsigned)d->socket,
                          (unsigned)d->core, (unsigned)d->thread);
    if (d->node != UNSET && m->numa && m->numa->nnodes && d->node != m->numa->cpu_node[index])
        return vireo_fail(error, VIREO_ERROR_INVALID, "node-id=%u must be %u, or left out: -numa decides the vCPU's node", (unsigned)d->node,
                          m->numa->cpu_node[index]);
    *ret = (unsigned)index;
    return true;
}

static bool cpu_realize(struct device *d, GError **error)
{
    struct cpu_device *cpu = (struct cpu_device *)d;
    struct machine *m = d->machine;
    struct controller *c = controller_of(m);
    g_autofree char *type = cpu_type_name(m);
    unsigned index = 0;
    cpu->index = -1;
    if (strcmp(d->driver, type))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid CPU type, expected cpu type: '%s'", type);
    if (!c)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "this machine has no place for another vCPU; start it with -smp N,maxcpus=M%s",
                          m->pci ? "" : " on the board q35: others cannot take vCPUs at run time");
    if (!find_index(cpu, &index, error))
        return false;
    if (m->vcpus[index])
        return vireo_fail(error, VIREO_ERROR_INVALID, "CPU[%u] with socket-id %u, core-id %u, thread-id %u exists", index, (unsigned)cpu->socket,
                          (unsigned)cpu->core, (unsigned)cpu->thread);
    if (!machine_add_vcpu(m, index, error))
        return false;
    cpu->index = (int)index;
    g_mutex_lock(&c->dev.lock);
    struct slot *s = &c->slots[index];
    *s = (struct slot){ .cpu = d, .present = true, .events = m->live ? CPU_SLOT_CAME : 0 };
    g_mutex_unlock(&c->dev.lock);
    if (m->live)
        irq_pulse(&c->gpe);
    return true;
}

/* Asking twice asks the guest again: it may have been busy, or not up yet. */
static bool cpu_unplug(struct device *d, GError **error)
{
    struct controller *c = controller_of(d->machine);
    g_mutex_lock(&c->dev.lock);
    struct slot *s = &c->slots[((struct cpu_device *)d)->index];
    s->events |= CPU_SLOT_LEAVE;
    s->leaving = true;
    g_mutex_unlock(&c->dev.lock);
    irq_pulse(&c->gpe);
    return true;
}

static void cpu_unrealize(struct device *d)
{
    struct cpu_device *cpu = (struct cpu_device *)d;
    struct controller *c = controller_of(d->machine);
    if (cpu->index < 0)
        return;
    machine_remove_vcpu(d->machine, (unsigned)cpu->index);
    if (!c)
        return;
    g_mutex_lock(&c->dev.lock);
    c->slots[cpu->index] = (struct slot){ 0 };
    g_mutex_unlock(&c->dev.lock);
}

#define PLACE(name, member, def, help) { name, PROP_UINT, offsetof(struct cpu_device, member), 0, UNSET, NULL, def, help }
static const struct device_prop cpu_props[] = {
    PLACE("socket-id", socket, "4294967295", "package"),
    { "die-id", PROP_ENUM, offsetof(struct cpu_device, die), 0, 0, (const char *const[]){ "0", NULL }, "0", "die in the package: there is one" },
    PLACE("core-id", core, "4294967295", "core in the package"), PLACE("thread-id", thread, "4294967295", "thread in the core"),
    PLACE("node-id", node, "4294967295", "NUMA node, which -numa has decided"),
    { NULL }
};

extern const struct device_class cpu_device_class;
const struct device_class cpu_device_class = {
    .name = "x86_64-cpu", .help = "a vCPU at run time; its name is MODEL-x86_64-cpu, as query-hotpluggable-cpus shows it", .size = sizeof(struct cpu_device),
    .props = cpu_props, .user_creatable = true, .hotplug = true, .unplug = cpu_unplug, .realize = cpu_realize, .unrealize = cpu_unrealize,
};
