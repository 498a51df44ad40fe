/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A plan: what a document needs in the machine, back ends before the devices that use them. At the start it becomes a command line, at run time QMP commands,
 * undone in reverse when one of them fails. So a device is described in one place.
 */
#pragma once

#include <json-c/json.h>

#include "manage/drivers/domain/complete/domain_complete.h"

enum plan_kind { PLAN_OPTION, PLAN_OBJECT, PLAN_CHARDEV, PLAN_BLOCKDEV, PLAN_NETDEV, PLAN_DEVICE };

struct plan_item {
    enum plan_kind kind;
    char *id;                 /* of object, chardev, node, netdev, device */
    struct json_object *json; /* QEMU's form; chardevs: that of chardev-add ("backend") */
    char *option, *text;      /* PLAN_OPTION: "-name", its value or NULL */
    GArray *fds;              /* int, owned; netdevs and chardevs: their descriptors */
    bool vhost;               /* netdev: the second half of fds are those of vhost */
};

struct domain_plan {
    GPtrArray *items;
    unsigned done;            /* items that the running machine has */
    GPtrArray *networks;      /* pairs network, mac: attached for this plan */
    GPtrArray *filtered;      /* char *: taps made for this plan, which may have a network filter (domain_filter.h) */
    GPtrArray *macvtaps;      /* char *: made for this plan (domain_macvtap.h) */
    GPtrArray *sockets;       /* char *: paths of UNIX sockets made for this plan */
    GPtrArray *after;         /* struct json_object *: {"execute", "arguments"} to be sent before the machine runs, or after the device has come */
    GPtrArray *notes;         /* char *: what was left out, for the domain's log */
};

struct domain_build {
    struct domain *d;         /* NULL: nothing is to be made on the host (domxml-to-native) */
    struct domain_driver *dr;
    struct doc *live;
    struct el *root, *devices;
    struct domain_machine m;
    struct domain_plan *plan;
    const char *dir;          /* for sockets */
    unsigned nodes;           /* d NULL: the last index given to an image */
};

struct domain_plan *domain_plan_new(void);
void domain_plan_free(struct domain_plan *p); /* closes descriptors */

/* A machine of the type 'kvm' may use it. Ours chooses by itself ('auto'); a QEMU is not asked for what the host does not have. */
bool domain_plan_kvm(const struct domain_build *b);

/* ---- adding ---- */

void domain_plan_option(struct domain_build *b, const char *option, const char *format, ...) G_GNUC_PRINTF(3, 4);
struct json_object *domain_plan_object(struct domain_build *b, const char *type, const char *id);
struct json_object *domain_plan_blockdev(struct domain_build *b, const char *driver, const char *node);
struct json_object *domain_plan_device(struct domain_build *b, const char *driver, const struct el *e); /* id: the alias; its address */
struct plan_item *domain_plan_add(struct domain_build *b, enum plan_kind kind, const char *id, struct json_object *json);
struct json_object *domain_plan_after(struct domain_build *b, const char *command); /* its arguments */
void domain_plan_note(struct domain_build *b, const char *format, ...) G_GNUC_PRINTF(2, 3);
void domain_plan_fd(struct plan_item *item, int fd); /* taken over */
/* "bus" and "addr" of a device's PCI address. */
void domain_plan_address(struct domain_build *b, struct json_object *o, const struct el *e);

void js_set(struct json_object *o, const char *key, const char *value); /* NULL: not */
void js_int(struct json_object *o, const char *key, int64_t value);
void js_bool(struct json_object *o, const char *key, bool value);
/* Commas doubled, as in QEMU's options. Free it. */
char *domain_plan_escape(const char *text);

/* ---- using ---- */

/* Options of a command line; descriptors go over to fds under the numbers that the options name. */
void domain_plan_argv(struct domain_plan *p, GPtrArray *argv, GArray *fds);
/* Sends it to the running machine, devices last. On failure p->done items are there: domain_plan_undo(). */
bool domain_plan_send(struct domain_plan *p, struct domain *d, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool domain_plan_made(const struct domain_plan *p, const char *device); /* a device of this id is there */
/* Takes away again what was made. A device goes when its guest lets go. */
void domain_plan_undo(struct domain_plan *p, struct domain *d);

/* ---- parts ---- */

/* domain_iotune.c: arguments of block_set_io_throttle. */
void domain_iotune_args(const struct el *disk, bool is_vireo, struct json_object *args);
/* The device of one element and its back ends; VIR_ERR_CONFIG_UNSUPPORTED for what the machine does not have. */
bool domain_plan_element(struct domain_build *b, struct el *e, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool domain_plan_disk(struct domain_build *b, struct el *e, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Storage of a disk alone: node names in *ret_top; nothing for an empty drive (NULL). */
bool domain_plan_storage(struct domain_build *b, struct el *disk, char **ret_top, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* What the documents of all disks do not say of their images is read from them, and all get their indexes. */
bool domain_plan_chains(struct domain_build *b, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool domain_plan_interface(struct domain_build *b, struct el *e, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool domain_plan_char(struct domain_build *b, struct el *e, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* domain_command_char.c: the socket that listened for a character device is no more. */
void domain_char_gone(const struct el *e);
bool domain_plan_input(struct domain_build *b, struct el *e, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool domain_plan_audio(struct domain_build *b, struct el *e, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool domain_plan_graphics(struct domain_build *b, struct el *e, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool domain_plan_video(struct domain_build *b, struct el *e, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool domain_plan_sound(struct domain_build *b, struct el *e, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool domain_plan_hub(struct domain_build *b, struct el *e, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* "bus" and "port" of a device on a USB controller, by its address; vireo-vmm's must be an xHCI. */
bool domain_plan_usb(struct domain_build *b, struct json_object *o, const struct el *e, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* "never", or the second since 1970 at which the password of a <graphics> ends, as text; g_free. NULL: what it says is no time. */
char *domain_password_end(const struct el *graphics, GError **error);
/* What vireo-vmm lacks: an error, or a note where leaving it out changes nothing for the guest. *ret_skip: it is left out. */
bool domain_plan_lacks(struct domain_build *b, const struct el *e, bool *ret_skip, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Machine, CPU, memory, clock, boot: all that is not a device. */
struct json_object *domain_plan_memory(struct domain_build *b, const char *id, uint64_t bytes, bool shared);
bool domain_plan_machine(struct domain_build *b, GError **error) G_GNUC_WARN_UNUSED_RESULT;

void domain_plan_boot(struct domain_build *b, struct json_object *o, const struct el *e); /* bootindex */

/* domain_image.c: what is behind a disk can be opened by this process; says what is wrong if not. write: the disk is not read-only. */
bool domain_image_check(const char *path, const char *format, bool write, const char *target, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* What the header of an image in this format says is below it: a resolved path and its format; NULL: nothing. elsewhere: no local file, or a format whose header is not read here. */
bool domain_image_backing(const char *path, const char *format, char **ret_path, char **ret_format, bool *ret_elsewhere, GError **error) G_GNUC_WARN_UNUSED_RESULT;
char *domain_image_backing_name(const char *path); /* as it stands in the header; NULL: none */
/* Path of a disk's local image, NULL: none (network, empty). Volumes are asked for. */
char *domain_image_path(struct domain_driver *dr, const struct el *disk, GError **error);
/* No other running domain writes to this image or has this MAC address. */
bool domain_image_conflicts(struct domain_driver *dr, struct domain *self, const struct el *device, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* domain_tap.c: a tap in a bridge, up; name is "vnetN". -1 with an error. */
int domain_tap_new(const char *bridge, const char *mac, unsigned mtu, unsigned queues, char **ret_name, GArray *ret_fds, GError **error);
/* From one bridge into another; on errors it is where it was. mtu 0: that of the bridge. */
bool domain_tap_move(const char *name, const char *from, const char *to, unsigned mtu, GError **error) G_GNUC_WARN_UNUSED_RESULT;
