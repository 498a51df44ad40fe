/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a definition needs to become whole, shared by the domain_complete*.c, domain_address*.c and domain_command*.c: which program will run it, and small
 * helpers over documents.
 */
#pragma once

#include "manage/drivers/domain/domain.h"

/* The program that runs a domain, and the board. */
struct domain_machine {
    char *emulator;   /* path */
    bool is_vireo;    /* vireo-vmm: else a QEMU */
    char *name;       /* canonical, "pc-q35-7.2"; vireo-vmm's "q35" */
    bool pcie;        /* q35: pcie-root */
    bool i440fx;      /* pc: pci-root */
    bool has_pci;
};

/* Reads emulator and machine of the document; what is missing gets this installation's defaults. VIR_ERR_CONFIG_UNSUPPORTED for machines that the
 * emulator does not have. Asks a QEMU for its machines (once per program file). */
bool domain_machine_init(struct domain_machine *m, struct domain_driver *dr, const struct el *root, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void domain_machine_finish(struct domain_machine *m);
/* The same for a document that is complete: looks at nothing but the document. */
void domain_machine_of(struct domain_machine *m, const struct domain_driver *dr, const struct el *root);

struct domain_complete {
    struct domain_driver *dr;
    struct doc *doc;
    struct el *root, *devices;
    struct domain_machine machine;
    bool running;      /* a device comes to a machine that runs: it finds ports that are there, or none */
    GHashTable *fixed; /* devices whose address the chipset gave; of domain_address_pci() */
};

/* ---- helpers ---- */

/* Sets what is not there. */
void domain_default(struct el *e, const char *path, const char *value);
/* The file with a machine's UEFI variables where its definition names none. The caller owns it. */
char *domain_nvram_path(const struct domain_driver *dr, const char *name);
/* " (line 12)", or "" for an element that did not come from text. Valid until the sixteenth next call in the same thread. */
const char *domain_line(const struct el *e);
/* Number at a path, or otherwise. */
uint64_t domain_number(const struct el *e, const char *path, uint64_t otherwise);
/* Index that a disk's name stands for: "sda" 0, "sdaa" 26; -1: not such a name. */
int domain_disk_index(const char *target);
/* Next free index of controllers of a type. */
struct el *domain_controller(struct el *devices, const char *type, unsigned index);
struct el *domain_add_controller(struct el *devices, const char *type, unsigned index, const char *model);
/* What became of an interface of a network, in the live document: its type there, and the bridge or the device with its mode. type NULL: none of it, as in the
 * definition. Interfaces that name no network stay as they are. */
void domain_interface_place(struct el *nic, const char *type, const char *bridge, const char *device, const char *mode);
/* Takes out of a device what only a running machine's document has: alias, index, names of taps and ptys. */
void domain_forget_live(struct el *e);
/* "Disk 'vda'", "Interface 52:54:...": how messages name a device. Free it. */
char *domain_device_label(const struct el *device);

/* ---- steps (domain_complete_device.c, _char.c, _check.c, domain_address*.c) ---- */

bool domain_complete_disks(struct domain_complete *c, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool domain_complete_interfaces(struct domain_complete *c, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool domain_complete_chars(struct domain_complete *c, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool domain_complete_others(struct domain_complete *c, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool domain_complete_controllers(struct domain_complete *c, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool domain_complete_check(struct domain_complete *c, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* One device that is about to be added to `devices` of a complete document: defaults of its own, not its address. */
bool domain_complete_device(struct domain_complete *c, struct el *device, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* domain_iotune.c: limits of a disk that exclude each other, or have no sense alone; code: of the error. */
bool domain_iotune_check(const struct el *disk, int code, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* domain_complete_refuse.c: what no machine here can have, and what does not fit together. */
bool domain_complete_refuse(struct domain_complete *c, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* domain_complete_tune.c: where memory and threads lie, and the guest's NUMA nodes. */
bool domain_complete_tune(struct domain_complete *c, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Drive, virtio-serial, USB, CCID and memory slot addresses, with the controllers they need. */
bool domain_address_small(struct domain_complete *c, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool domain_usb_used(struct el *devices, unsigned bus); /* is a device there */
unsigned domain_usb_ports(const struct el *controller); /* how many devices a USB controller takes */
/* PCI addresses; adds root ports and bridges. grow false: only places that are there (hot-plug). */
bool domain_address_pci(struct domain_complete *c, bool grow, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool domain_address_pci_all(struct domain_complete *c, GError **error) G_GNUC_WARN_UNUSED_RESULT; /* grow */

/* domain_alias.c: gives an alias to every device that has none. */
void domain_alias_all(struct doc *d);
void domain_alias_one(struct el *devices, struct el *device);
