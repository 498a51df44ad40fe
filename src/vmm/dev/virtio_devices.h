/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The virtio devices' classes, for the list in devices.c, and what QMP asks of them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/device.h"

struct json_object;

extern const struct device_class virtio_blk_pci_class, virtio_blk_mmio_class, virtio_net_pci_class, virtio_net_mmio_class,
    virtio_rng_pci_class, virtio_rng_mmio_class, virtio_balloon_pci_class, virtio_balloon_mmio_class, virtio_serial_pci_class,
    virtio_serial_mmio_class, virtconsole_class, virtserialport_class;
extern const struct device_class pci_host_class /* "mch": 00:00.0 */, lpc_class /* "ICH9-LPC": 00:1f.0 */,
    ahci_class /* "ich9-ahci": 00:1f.2; the q35 board makes all three */;

/* QMP query-rx-filter: what a network card lets through; NULL: not a virtio network card. From now on its next change is told by
 * the event NIC_RX_FILTER_CHANGED. */
struct json_object *virtio_net_rx_filter(struct device *d);
/* QMP announce-self: asks the guest to tell the network where it is. False: not a virtio card, or its driver cannot. */
bool virtio_net_announce(struct device *d);

/* QMP balloon and query-balloon: the guest's memory in bytes. Error when there is no balloon, or the guest has no driver. */
bool virtio_balloon_set_target(struct machine *m, uint64_t bytes, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool virtio_balloon_actual(struct machine *m, uint64_t *ret_bytes, GError **error) G_GNUC_WARN_UNUSED_RESULT;
