/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The host's network devices, as rtnetlink lists them; of this network namespace, whatever is mounted on /sys. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct interface_link {
    int index, master, parent;    /* master: bridge or bond that it is a port of; parent: device under a VLAN */
    char name[17], mac[18], kind[16]; /* kind: "bridge", "bond", "vlan", "veth", ...; "" for hardware and lo */
    uint32_t mtu;
    uint8_t operstate;            /* RFC 2863: 6 is up */
    bool stp;                     /* bridge */
    uint32_t delay;               /* bridge, in 1/100 s */
    uint16_t vlan;
    uint8_t bond_mode, use_carrier;
    uint32_t miimon, updelay, downdelay, arp_interval, arp_validate;
    uint32_t arp_target;          /* network byte order, 0: none */
};
/* NULL: error is set. By name. */
GArray *interface_links(GError **error);
/* Mbit/s; 0: not known. */
unsigned interface_speed(const char *name);
