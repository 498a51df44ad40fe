/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/dev/cpu_hotplug.h"

#include <string.h>

#include "base/error.h"
#include "vmm/core/machine.h"
#include "vmm/core/numa.h"
#include "vmm/core/plug_slots.h"

struct cpu_device {
    struct device dev;
    uint64_t socket, core, thread, node;
    int die;
    int index; /* -1: not in its place yet */
};

struct cpu_place cpu_place_of(const struct machine *m, unsigned index)
{
    unsigned threads = MAX(m->config->threads, 1u), cores = MAX(m->config->cores, 1u);
    return (struct cpu_place){ index / threads / cores, index / threads % cores, index % threads };
}

char *cpu_type_name(const struct machine *m)
{
    return g_strdup_printf("%s-x86_64-cpu", machine_cpu_model_name(m));
}

static const struct plug_kind kind = { .name = "cpu-hotplug", .type = "CPU", .base = CPU_HOTPLUG_BASE, .size = CPU_HOTPLUG_SIZE };

bool cpu_hotplug_create(struct machine *m, struct irq_line gpe, GError **error)
{
    struct plug_slots *p = plug_slots_create(m, &kind, m->max_vcpus, gpe, error);
    for (unsigned i = 0; p && i < p->n; i++)
        p->slots[i].present = m->vcpus[i] != NULL;
    m->cpu_slots = p;
    return p != NULL;
}

struct device *cpu_hotplug_device(const struct machine *m, unsigned index)
{
    return m->cpu_slots && index < m->cpu_slots->n ? m->cpu_slots->slots[index].dev : NULL;
}

bool cpu_hotplug_ost(const struct machine *m, unsigned index, uint32_t *ret_event, uint32_t *ret_status)
{
    return m->cpu_slots && plug_slot_ost(m->cpu_slots, index, ret_event, ret_status);
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
    g_autofree char *type = cpu_type_name(m);
    unsigned index = 0;
    cpu->index = -1;
    if (strcmp(d->driver, type))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid CPU type, expected cpu type: '%s'", type);
    if (!m->cpu_slots)
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
    plug_slot_fill(m->cpu_slots, index, d);
    return true;
}

static bool cpu_unplug(struct device *d, GError **error)
{
    plug_slot_ask(d->machine->cpu_slots, (unsigned)((struct cpu_device *)d)->index);
    return true;
}

static void cpu_unrealize(struct device *d)
{
    struct cpu_device *cpu = (struct cpu_device *)d;
    if (cpu->index < 0)
        return;
    machine_remove_vcpu(d->machine, (unsigned)cpu->index);
    if (d->machine->cpu_slots)
        plug_slot_clear(d->machine->cpu_slots, (unsigned)cpu->index);
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
    .props = cpu_props, .user_creatable = true, .hotplug = true, .unplug = cpu_unplug, .stateless = true, .realize = cpu_realize, .unrealize = cpu_unrealize,
};
