/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The buses of a PCI Express machine: configuration space by ports CF8/CFC and by the memory window (ECAM), base address
 * registers that map register windows, INTx, MSI and MSI-X. The root bus (number 0) has 32 slots of 8 functions; further buses lie
 * behind bridges (pci_bridge.h), which decode as their registers say.
 * PCI Local Bus 3.0, chapter 6; PCI-to-PCI Bridge Architecture 1.2; PCI Express Base 3.0, 7.2.
 *
 * Locks: one lock (pci_lock) covers all buses: who is on them, configuration space and where windows are; it comes before a device's lock. A device's irq_lock
 * covers its interrupt state (INTx level, MSI, MSI-X table); it comes after the device's lock and before the interrupt
 * controllers'. pci_intx, pci_msi_send and pci_msix_send may be called on any thread with or without the device's lock.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/device.h"
#include "vmm/core/irq.h"
#include "vmm/core/memory.h"

struct machine;
struct pci_bus;
struct pci_device;

#define PCI_DEVFN(slot, fn) ((slot) << 3 | (fn))
#define PCI_SLOT(devfn) ((unsigned)(devfn) >> 3)
#define PCI_FUNC(devfn) ((unsigned)(devfn) & 7)
#define PCI_CONFIG_SIZE 256
#define PCIE_CONFIG_SIZE 4096
#define PCI_NBARS 6
#define PCI_ECAM_BUSES 256u
#define PCI_ECAM_SIZE (PCI_ECAM_BUSES << 20)
#define PCI_INTX_LINES 8         /* lines A-H; on the I/O APIC inputs 16-23 */

/* Configuration header (PCI 3.0, 6.1), the registers that are named in our code. */
enum {
    PCI_REG_VENDOR = 0x00, PCI_REG_DEVICE = 0x02, PCI_REG_COMMAND = 0x04, PCI_REG_STATUS = 0x06, PCI_REG_REVISION = 0x08,
    PCI_REG_CLASS = 0x09, PCI_REG_HEADER_TYPE = 0x0e, PCI_REG_BAR0 = 0x10, PCI_REG_SUBSYS_VENDOR = 0x2c,
    PCI_REG_SUBSYS = 0x2e, PCI_REG_ROM = 0x30, PCI_REG_CAP_PTR = 0x34, PCI_REG_INT_LINE = 0x3c, PCI_REG_INT_PIN = 0x3d,
    /* of bridges (PCI-to-PCI Bridge 1.2, 3.2) */
    PCI_REG_PRIMARY = 0x18, PCI_REG_SECONDARY = 0x19, PCI_REG_SUBORDINATE = 0x1a, PCI_REG_IO_BASE = 0x1c, PCI_REG_IO_LIMIT = 0x1d,
    PCI_REG_SECONDARY_STATUS = 0x1e, PCI_REG_MEM_BASE = 0x20, PCI_REG_MEM_LIMIT = 0x22, PCI_REG_PREF_BASE = 0x24,
    PCI_REG_PREF_LIMIT = 0x26, PCI_REG_PREF_BASE_HIGH = 0x28, PCI_REG_PREF_LIMIT_HIGH = 0x2c, PCI_REG_BRIDGE_CONTROL = 0x3e,
};
enum { PCI_CMD_IO = 1, PCI_CMD_MEMORY = 2, PCI_CMD_MASTER = 4, PCI_CMD_SERR = 0x100, PCI_CMD_INTX_OFF = 0x400 };
enum { PCI_CAP_MSI = 0x05, PCI_CAP_VENDOR = 0x09, PCI_CAP_EXPRESS = 0x10, PCI_CAP_MSIX = 0x11 };

/* ---- for the board ---- */

/* Creates the root bus, "pcie.0", and sets machine->pci. intx: PCI_INTX_LINES wires, copied; slot and pin choose one by pci_intx_line. */
struct pci_bus *pci_bus_create(struct machine *m, const struct irq_line *intx);
void pci_bus_destroy(struct pci_bus *bus); /* NULL allowed; devices are gone already */
/* Ports CF8-CFF. After the device that owns the reset control register CF9, which lies inside. */
void pci_bus_map_ports(struct pci_bus *bus);
/* The memory window of all buses: PCI_ECAM_SIZE bytes at `base`. */
void pci_bus_map_ecam(struct pci_bus *bus, uint64_t base);
/* Which of the lines 0-7 pin 1-4 (A-D) of a slot is wired to: for _PRT, GSI = 16 + this. */
unsigned pci_intx_line(unsigned slot, unsigned pin);

/* Where BARs may be placed; a size of 0: none there. */
struct pci_windows {
    uint64_t mem32_base, mem32_size;
    uint64_t mem64_base, mem64_size; /* above 4 GiB; large 64-bit BARs go here, small ones below */
    uint32_t io_base, io_size;
    uint8_t gsi_base;                /* Interrupt Line register = gsi_base + pci_intx_line */
};
/* What firmware does at power-on: numbers the buses, gives every BAR and every bridge's windows an address, enables decoding and bus mastering, fills Interrupt Line. Machine
 * stopped; after each pci_bus_reset (that is: from board_reset, which comes after the devices' reset). */
bool pci_bus_assign(struct pci_bus *bus, const struct pci_windows *w, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Every function's configuration space back to power-on values, windows unmapped. Functions do it from their own reset
 * too (pci_device_reset); the board need not call it. */
void pci_bus_reset(struct pci_bus *bus);
/* Each function of this bus, in devfn order; NULL past the end. */
struct pci_device *pci_bus_next(struct pci_bus *bus, struct pci_device *prev);
/* The bus of that name, here or behind a bridge; NULL: there is none. Main thread. */
struct pci_bus *pci_bus_find(struct pci_bus *bus, const char *name);
const char *pci_bus_name(const struct pci_bus *bus);
unsigned pci_bus_number(const struct pci_bus *bus); /* as the guest, or the board, has numbered it */
/* The function that belongs to `owner`, on this bus or behind its bridges; NULL: none. Main thread. */
struct pci_device *pci_bus_function_of(struct pci_bus *bus, const struct device *owner);
/* Its path as firmware names it: "/pci@i0cf8/pci-bridge@1/scsi@0"; the caller frees. */
char *pci_firmware_path(const struct pci_device *d);
struct pci_device *pci_bus_bridge(const struct pci_bus *bus); /* NULL: it is the root bus */
/* The lock of all buses, for who looks at several registers at once. */
void pci_lock(struct pci_bus *bus);
void pci_unlock(struct pci_bus *bus);

/* ---- for devices ---- */

struct pci_id { /* what the header says */
    uint16_t vendor, device, subsys_vendor, subsys;
    uint8_t revision, class_code, subclass, prog_if;
    uint8_t int_pin; /* 0: none, 1: INTA */
};

enum pci_bar_kind { PCI_BAR_NONE, PCI_BAR_MEM32, PCI_BAR_MEM64 /* takes two */, PCI_BAR_MEM64_PREFETCH, PCI_BAR_MEM32_PREFETCH, PCI_BAR_IO };
struct pci_bar {
    enum pci_bar_kind kind;
    struct io_window window; /* window.base, window.mapped: where it is now */
};

struct pci_msix {
    uint16_t nvectors, cap;
    bool enabled, masked;
    uint8_t *table; /* 16 bytes each, as the guest sees it */
    uint8_t *pba;
    uint32_t pba_offset, pba_size;
};

/* A function. Embedded in a device (or in its transport); zeroed before pci_device_init. */
struct pci_device {
    const char *name;
    struct device *owner;
    struct pci_bus *bus;
    int devfn;
    uint8_t config[PCIE_CONFIG_SIZE], wmask[PCIE_CONFIG_SIZE] /* bits the guest may change */,
        w1c[PCIE_CONFIG_SIZE] /* bits a written 1 clears */, initial[PCIE_CONFIG_SIZE];
    struct pci_bar bars[PCI_NBARS], rom /* kind PCI_BAR_NONE: there is none */;
    const char *rom_default; /* the option ROM's image unless the user names another; set before pci_device_plug. NULL: none */
    uint8_t cap_last, cap_end, express_cap;
    struct pci_bus *secondary; /* a bridge: the bus behind it */
    bool plugged;
    GMutex irq_lock;
    bool intx_level, intx_driven;
    uint16_t msi_cap;
    struct pci_msix msix;
    /* Optional, bus lock held. config_read runs before the bytes are read, config_written after they have changed. */
    void (*config_read)(struct pci_device *d, unsigned offset, unsigned size);
    void (*config_written)(struct pci_device *d, unsigned offset, unsigned size);
    /* Optional: register windows have moved, or what MSI-X vectors send has changed. Bus lock held or none, irq_lock not. */
    void (*changed)(struct pci_device *d);
};

/* Fills the header. Then BARs and capabilities, then pci_device_plug. */
void pci_device_init(struct pci_device *d, struct device *owner, const char *name, const struct pci_id *id);
/* Onto the bus that d->owner->bus names (NULL: the root bus). devfn: the place, or -1: the first free slot. Error when taken, or when
 * the machine is live and the bus takes nothing then. The state of configuration space now is what a reset gives back. */
bool pci_device_plug(struct pci_device *d, struct machine *m, int devfn, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Off the bus: the guest does not reach its windows any more. Interrupts can still be raised, into nothing: whatever raises them is ended between this and: */
void pci_device_detach(struct pci_device *d);
void pci_device_unplug(struct pci_device *d); /* also of one never plugged: frees what init took */
void pci_device_reset(struct pci_device *d);
/* size: a power of two (memory: at least 16, ports: at least 4). lock: as io_window.lock. */
void pci_bar_init(struct pci_device *d, unsigned bar, enum pci_bar_kind kind, uint64_t size, const struct io_ops *ops,
                  void *opaque, GMutex *lock);
/* The same of memory of the card: `ram`, of guest_memory_alloc, `size` a power of two of at least 4096. */
void pci_bar_init_ram(struct pci_device *d, unsigned bar, enum pci_bar_kind kind, uint64_t size, void *ram);
/* Appends a capability of `size` bytes (its two header bytes included) and returns its offset; 0 when there is no room. */
uint8_t pci_cap_add(struct pci_device *d, uint8_t id, uint8_t size);
/* PCI Express capability (PCIe 3.0, 7.8): of a root complex integrated endpoint on the root bus, of an endpoint behind a port, none on a
 * conventional bus, which pci_device_plug settles. */
void pci_express_init(struct pci_device *d);
/* One-vector 64-bit maskless MSI (PCI 3.0, 6.8.1). */
void pci_msi_init(struct pci_device *d);
/* MSI-X with its table and pending bits in BAR `bar` of its own (PCI 3.0, 6.8.2). 1 to 2048 vectors. */
void pci_msix_init(struct pci_device *d, unsigned nvectors, unsigned bar);

void pci_intx(struct pci_device *d, bool level); /* the level the device wants; the command register may hold it back */
bool pci_msi_enabled(struct pci_device *d);
void pci_msi_send(struct pci_device *d);
bool pci_msix_enabled(struct pci_device *d);
void pci_msix_send(struct pci_device *d, unsigned vector); /* masked: pending; a vector that does not exist: nothing */

/* What the vector sends now; false: nothing (MSI-X off, masked, no such vector, no bus mastering). */
bool pci_msix_message(struct pci_device *d, unsigned vector, uint64_t *ret_address, uint32_t *ret_data);

static inline void pci_set16(uint8_t *p, uint16_t v) { p[0] = v; p[1] = v >> 8; }
static inline void pci_set32(uint8_t *p, uint32_t v) { pci_set16(p, v); pci_set16(p + 2, v >> 16); }
static inline uint16_t pci_get16(const uint8_t *p) { return p[0] | p[1] << 8; }
static inline uint32_t pci_get32(const uint8_t *p) { return pci_get16(p) | (uint32_t)pci_get16(p + 2) << 16; }
/* ---- saving and loading (vmm/core/state.h): what every function has, beside what its device's class saves; migrate.c calls both, the
 * function's first. Machine stopped, no device's lock held ---- */

/* The function that the device is; NULL: it is none. */
struct pci_device *pci_function(const struct device *owner);
/* Configuration space, MSI-X table and pending bits, INTx. Values are named "pci.". */
void pci_device_save(struct pci_device *d, struct state_writer *w);
/* Onto a function after its reset: windows are mapped where they were. What the guest cannot change stays as this machine has it, and must be
 * the same where it says what the function is. */
bool pci_device_load(struct pci_device *d, struct state_reader *r, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* What belongs to no function: the address register of the ports. */
void pci_host_save(struct pci_bus *bus, struct state_writer *w);
bool pci_host_load(struct pci_bus *bus, struct state_reader *r, GError **error) G_GNUC_WARN_UNUSED_RESULT;
