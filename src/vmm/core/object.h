/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What -object and QMP object-add make: back ends without a device of their own (memory, random numbers). A class is one
 * description, its properties are rows of keys as options have them; the list of classes stands in object.c. Main thread.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/keyval.h"

struct machine;
struct object;

struct object_class {
    const char *name;                /* -object NAME */
    const char *help;                /* one line; when `complete` is NULL: why the class is not there */
    size_t size;                     /* of its struct, which starts with struct object */
    const struct keyval_key *keys;   /* its properties; strings and lists are freed with the object */
    void (*init)(struct object *o);  /* defaults, before the properties are set; may be NULL */
    bool (*complete)(struct object *o, GError **error); /* the properties are set: check and open */
    void (*finish)(struct object *o); /* gives back what complete took, also after it failed halfway; may be NULL */
    bool numbers_change;             /* qom-set may change its KV_UINT properties */
};

struct object {
    const struct object_class *class;
    struct machine *machine;
    char *id;
    const char *user; /* what holds it ("the device 'dimm0'"); NULL: object-del may take it. Set by whoever uses it. */
};

/* kv: qom-type, id and the class's properties. The object belongs to the machine. */
struct object *object_create(struct machine *m, const struct keyval *kv, GError **error) G_GNUC_WARN_UNUSED_RESULT;
struct object *object_find(const struct machine *m, const char *id); /* NULL: there is none */
/* QMP object-del. VIREO_ERROR_BUSY: something uses it. */
bool object_delete(struct machine *m, const char *id, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The i-th class, NULL beyond the last; by name, also one that is not there (complete is NULL). */
const struct object_class *object_class_at(unsigned i);
const struct object_class *object_class_find(const char *name);
void object_destroy_all(struct machine *m); /* after devices and the guest's memory map are gone */
/* The classes, or with a name its properties, in words; NULL: no such class. The caller frees. */
char *object_help(const char *name);

/* The classes; see their files. */
extern const struct object_class hostmem_ram_class, hostmem_memfd_class, hostmem_file_class, rng_random_class, rng_builtin_class, iothread_class, secret_class, throttle_group_class;
