/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ports and bridges behind which further PCI buses lie. Their identities are those by which QEMU's guests know them (1b36: Red Hat's
 * virtual devices; 8086:3420, 104c:823x: hardware that guests have drivers' tables for).
 */
#include "base/error.h"
#include "vmm/bus/pci_bridge.h"
#include "vmm/core/machine.h"
#include "vmm/core/state.h"

#define T struct pci_bridge
#define UNSET "18446744073709551615"

struct bridge_kind {
    struct pci_id id;
    int type;         /* enum pcie_port_type; -1: conventional */
    bool slot;
    uint8_t nslots;   /* of the bus behind it */
    bool express;     /* that bus */
};

/* Only one of a chassis number and slot number (PCI-to-PCI Bridge 1.2, 13.5; PCIe 3.0, 7.8.9). */
static bool check_slot(const T *b, GError **error)
{
    const GPtrArray *all = b->dev.machine->devices;
    for (guint i = 0; i < all->len; i++) {
        const struct device *other = all->pdata[i];
        const struct bridge_kind *k = other->class->bus_class;
        if (other->class->realize != b->dev.class->realize || !k->slot)
            continue;
        const T *o = (const T *)other;
        if (o->chassis == b->chassis && o->slot == b->slot)
            return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: Can't add chassis slot: chassis=%u,slot=%u is taken by '%s'; give each port a chassis= of "
                              "its own", b->dev.class->name, (unsigned)b->chassis, (unsigned)b->slot, other->id ? other->id : other->class->name);
    }
    return true;
}

static bool check_place(const T *b, const struct bridge_kind *k, GError **error)
{
    const struct pci_bus *bus = b->dev.bus ? pci_bus_find(b->dev.machine->pci, b->dev.bus) : b->dev.machine->pci;
    const struct pci_device *above = bus ? pci_bus_bridge(bus) : NULL;
    const char *name = b->dev.class->name;
    if (k->type == PCIE_ROOT_PORT && above)
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: a root port has its place on the root bus, pcie.0", name);
    if (k->type == PCIE_DOWNSTREAM && (!above || pcie_port_type_of(above) != PCIE_UPSTREAM))
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: its place is behind an upstream port; give bus=ID of an x3130-upstream", name);
    if (k->type == PCIE_UPSTREAM && (!above || (pcie_port_type_of(above) != PCIE_ROOT_PORT && pcie_port_type_of(above) != PCIE_DOWNSTREAM)))
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: its place is behind a port; give bus=ID of a pcie-root-port", name);
    return true;
}

static bool realize(struct device *d, GError **error)
{
    T *b = (T *)d;
    const struct bridge_kind *k = d->class->bus_class;
    if (!d->machine->pci)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "device %s needs a PCI bus, and this machine has none; use -M q35", d->class->name);
    if (!check_place(b, k, error) || (k->slot && !check_slot(b, error)))
        return false;
    pci_bridge_init(b, &k->id);
    if (k->type >= 0)
        pcie_port_init(b, k->type, k->slot);
    pci_msi_init(&b->pci);
    if (pci_bridge_plug(b, k->nslots, k->express, error))
        return true;
    pci_bridge_unplug(b);
    return false;
}

static void reset(struct device *d)
{
    pci_bridge_reset((T *)d);
}

static void save(struct device *d, struct state_writer *w)
{
    if (((T *)d)->eject)
        state_refuse(w, "the guest has just let go of a card, which is being taken away; try again");
}

static bool load(struct device *d, struct state_reader *r, GError **error)
{
    ((T *)d)->asked_at = g_get_monotonic_time();
    return true;
}

static void unrealize(struct device *d)
{
    pci_bridge_unplug((T *)d);
}

static const char *const speeds[] = { "2_5", "5", "8", "16", NULL }, *const widths[] = { "1", "2", "4", "8", "12", "16", "32", NULL },
                  *const on_off_auto[] = { "auto", "on", "off", NULL };

#define RESERVE(prop, member, text) { prop, PROP_SIZE, offsetof(T, member), .def = UNSET, .help = text }
#define BRIDGE_PROPS                                                                                                               \
    { "addr", PROP_PCI_ADDR, offsetof(T, addr), .def = "-1", .help = "slot[.function]" },                                           \
    { "bus-reserve", PROP_UINT, offsetof(T, bus_reserve), .def = UNSET, .help = "bus numbers kept free behind it" },                \
    RESERVE("io-reserve", io_reserve, "I/O ports kept free behind it"), RESERVE("mem-reserve", mem_reserve, "memory space kept free behind it"), \
    RESERVE("pref32-reserve", pref32_reserve, "the same, prefetchable, below 4 GiB"),                                               \
    RESERVE("pref64-reserve", pref64_reserve, "the same, prefetchable")
#define PORT_PROPS                                                                                                                 \
    BRIDGE_PROPS,                                                                                                                  \
    { "port", PROP_UINT, offsetof(T, port), 0, 255, .def = "0", .help = "port number" },                                            \
    { "aer_log_max", PROP_UINT, offsetof(T, aer_log_max), 0, 128, .def = "8", .help = "accepted; errors are not reported" },        \
    { "x-speed", PROP_ENUM, offsetof(T, speed), .values = speeds, .def = "16", .help = "of the link, GT/s" },                       \
    { "x-width", PROP_ENUM, offsetof(T, width), .values = widths, .def = "32", .help = "of the link, lanes" },                      \
    { "disable-acs", PROP_BOOL, offsetof(T, disable_acs), .def = "on", .help = "accepted: there is no access control services capability" }
#define SLOT_PROPS                                                                                                                 \
    { "chassis", PROP_UINT, offsetof(T, chassis), 0, 255, .def = "0", .help = "chassis number: with slot, different for each port" }, \
    { "slot", PROP_UINT, offsetof(T, slot), 0, 0x1fff, .def = "0", .help = "physical slot number" },                                 \
    { "hotplug", PROP_BOOL, offsetof(T, hotplug), .def = "on", .help = "cards may come and go at run time" },                       \
    { "power_controller_present", PROP_BOOL, offsetof(T, power_controller), .def = "on", .help = "the guest can switch the slot's power" }, \
    { "x-native-hotplug", PROP_BOOL, offsetof(T, native_hotplug), .def = "on", .help = "accepted; there is no other way of hot-plug" }

static const struct device_prop port_props[] = { PORT_PROPS, SLOT_PROPS, { NULL } }, upstream_props[] = { PORT_PROPS, { NULL } },
    express_bridge_props[] = { BRIDGE_PROPS, { "msi", PROP_ENUM, offsetof(T, msi), .values = on_off_auto, .def = "auto", .help = "accepted" }, { NULL } },
    bridge_props[] = {
        BRIDGE_PROPS,
        { "chassis_nr", PROP_UINT, offsetof(T, chassis_nr), 0, 255, .def = "0", .help = "accepted: there is no slot numbering capability" },
        { "shpc", PROP_BOOL, offsetof(T, shpc), .def = "off", .help = "accepted: there is no standard hot-plug controller" },
        { "msi", PROP_ENUM, offsetof(T, msi), .values = on_off_auto, .def = "auto", .help = "accepted" },
        { NULL }
    };
static const struct device_field fields[] = { DEVICE_FIELD(T, unplug_asked), DEVICE_FIELD(T, blinked), DEVICE_FIELD(T, control), { NULL } };

#define BRIDGE(symbol, device_name, text, prop_rows, ...)                                                                          \
    static const struct bridge_kind symbol##_kind = __VA_ARGS__;                                                                   \
    extern const struct device_class symbol##_class;                                                                               \
    const struct device_class symbol##_class = {                                                                                   \
        .name = device_name, .help = text, .bus = DEV_BUS_PCI, .size = sizeof(T), .props = prop_rows, .fields = fields,             \
        .user_creatable = true, .realize = realize, .reset = reset, .unrealize = unrealize, .save = save, .load = load, .bus_class = &symbol##_kind,            \
    }

BRIDGE(pcie_root_port, "pcie-root-port", "PCI Express root port with a slot for one device, at run time too", port_props,
       { { 0x1b36, 0x000c, 0, 0, 0, 0x06, 0x04, 0, 1 }, PCIE_ROOT_PORT, true, 1, true });
BRIDGE(ioh3420, "ioh3420", "the same as Intel's IOH root port", port_props,
       { { 0x8086, 0x3420, 0, 0, 2, 0x06, 0x04, 0, 1 }, PCIE_ROOT_PORT, true, 1, true });
BRIDGE(x3130_upstream, "x3130-upstream", "upstream port of a PCI Express switch", upstream_props,
       { { 0x104c, 0x8232, 0, 0, 2, 0x06, 0x04, 0, 0 }, PCIE_UPSTREAM, false, 32, true });
BRIDGE(xio3130_downstream, "xio3130-downstream", "downstream port of a PCI Express switch, with a slot", port_props,
       { { 0x104c, 0x8233, 0, 0, 1, 0x06, 0x04, 0, 1 }, PCIE_DOWNSTREAM, true, 1, true });
BRIDGE(pcie_pci_bridge, "pcie-pci-bridge", "bridge from PCI Express to a conventional PCI bus", express_bridge_props,
       { { 0x1b36, 0x000e, 0, 0, 0, 0x06, 0x04, 0, 1 }, PCIE_TO_PCI, false, 32, false });
BRIDGE(pci_pci_bridge, "pci-bridge", "bridge to a conventional PCI bus", bridge_props,
       { { 0x1b36, 0x0001, 0, 0, 0, 0x06, 0x04, 0, 1 }, -1, false, 32, false });
