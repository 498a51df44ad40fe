/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Attach, detach, update: what domain_device.c, domain_device_update.c and domain_device_rows.c share. All inside a job (domain_begin). */
#pragma once

#include "manage/drivers/domain/command/domain_command.h"

/* Does the element that a client sent stand for this device? By alias, address, or what its kind is told apart by. */
bool domain_device_is(const struct el *asked, const struct el *e);
/* The device in a document, by element or (asked NULL) by alias; VIR_ERR_DEVICE_MISSING. */
struct el *domain_device_find(const struct doc *d, const struct el *asked, const char *alias, GError **error);
/* A changed device (or medium) in machine and documents. force: a locked tray is opened. */
bool domain_update_device(struct domain *d, const struct el *device, bool live, bool config, bool force, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Removes what a device that is gone used: nodes, netdev, chardev, objects. */
void domain_device_backends(struct domain *d, const struct el *e);
/* QMP with one argument; answers are thrown away. */
void domain_device_command(struct domain *d, const char *command, const char *key, const char *value);
