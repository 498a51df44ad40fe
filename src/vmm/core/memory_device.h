/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory beyond the RAM at start: modules (pc-dimm) and virtio-mem, in a region of guest addresses that the board leaves free
 * for them (-m maxmem=). Main thread but for memory_device_dimms.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct device;
struct hostmem;
struct json_object;
struct machine;

struct memory_device {
    struct device *dev;
    const char *kind;       /* as query-memory-devices names it: "dimm", "virtio-mem" */
    struct hostmem *mem;
    uint64_t base, size;    /* where its memory is, or may come; set by memory_device_add */
    unsigned node;
    uint64_t (*plugged)(const struct memory_device *d); /* bytes that the guest has of it */
    void (*describe)(const struct memory_device *d, struct json_object *data); /* adds what only this kind has; may be NULL */
    char *user;             /* what mem->obj.user points to */
};

/* The whole of `mem` at `base` (0: anywhere), an address that is a multiple of `align`: checks that it is free, takes the memory.
 * It is not mapped yet. dev, kind, mem, node, plugged are set. */
bool memory_device_add(struct machine *m, struct memory_device *d, uint64_t base, uint64_t align, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void memory_device_remove(struct machine *m, struct memory_device *d);
uint64_t memory_device_plugged(const struct machine *m); /* bytes beyond the RAM at start that the guest has */
uint64_t memory_device_dimms(const struct machine *m);   /* of these, modules. Any thread. */
struct json_object *memory_device_query(const struct machine *m); /* QMP query-memory-devices */
