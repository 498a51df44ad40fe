/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the plain Ethernet cards of this folder share: properties, their place at a network back end, sending that goes on in the
 * main loop when a guest has more to send than one register access should take.
 */
#pragma once

#include "vmm/bus/pci.h"
#include "vmm/core/device.h"
#include "vmm/net/net.h"

enum { NIC_TX_BURST = 256 /* packets in one go */ };

struct nic;

/* What a card does; all with the device's lock held, on any thread. */
struct nic_ops {
    /* Asked when frames may wait; a card that tells its driver of a full ring does it here. Without a driver frames are taken, and lost. */
    bool (*can_receive)(struct nic *n);
    void (*receive)(struct nic *n, const uint8_t *frame, size_t size);
    void (*send_more)(struct nic *n);   /* goes on with sending */
    void (*link_changed)(struct nic *n);
};

struct nic {
    struct device dev; /* first */
    struct pci_device pci;
    /* properties */
    char *netdev;
    uint8_t mac[6];
    int addr;
    uint64_t bootindex;
    struct net_backend *backend; /* NULL: the cable is not plugged in */
    const struct nic_ops *ops;
    guint later; /* source id */
    bool paused; /* the machine stands still, and with it its memory */
};

/* First in realize: gives a MAC address by default, checks the properties. */
bool nic_check(struct nic *n, const struct nic_ops *ops, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Last in realize, when the card can take frames: into its slot and to its back end. */
bool nic_plug(struct nic *n, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Also after a failed nic_plug. Neither guest nor network call the card after it, only its own timers; pci_device_unplug() when they have gone. Without the lock. */
void nic_unplug(struct nic *n);
void nic_send(struct nic *n, const uint8_t *frame, size_t size);
/* Calls `send_more` from the main loop, soon. Lock held. */
void nic_send_later(struct nic *n);
/* The guest has given receive buffers. */
void nic_ready(struct nic *n);
static inline bool nic_link(const struct nic *n) { return n->backend && net_link(n->backend); }
/* The function may access memory: bus master enable (PCI 3.0, 6.2.2). */
static inline bool nic_dma(const struct nic *n) { return pci_get16(n->pci.config + PCI_REG_COMMAND) & PCI_CMD_MASTER; }
bool nic_read(struct nic *n, uint64_t gpa, void *ret, uint64_t size) G_GNUC_WARN_UNUSED_RESULT;
/* What does not go to RAM is lost, as on a bus where nobody answers. */
void nic_write(struct nic *n, uint64_t gpa, const void *data, uint64_t size);

#define NIC_PROPS(type)                                                                                                     \
    { "netdev", PROP_NETDEV, offsetof(type, nic.netdev), .help = "the network; without it the link is down" },                \
    { "mac", PROP_MAC, offsetof(type, nic.mac), .help = "address; default 52:54:00:12:34:56 and up" },                        \
    { "addr", PROP_PCI_ADDR, offsetof(type, nic.addr), .def = "-1", .help = "slot[.function]" },                              \
    { "bootindex", PROP_UINT, offsetof(type, nic.bootindex), 0, UINT32_MAX, .def = "4294967295", .help = "place in the firmware\'s boot order; 4294967295: none" }

/* ---- serial EEPROM of 64 words, as a 93C46 answers (Microchip 93C46 datasheet) ---- */

struct eeprom93 {
    uint16_t word[64];
    bool select, clock, out;  /* levels of CS, SK, DO */
    bool writable;
    uint8_t bits;             /* clocked in since the start bit */
    bool started;
    uint32_t in;              /* opcode, address, data */
    uint16_t shift;           /* data on the way out */
};
/* New levels of the three inputs; `out` is what DO shows. */
void eeprom93_wires(struct eeprom93 *e, bool select, bool clock, bool in);
