/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What guest physical addresses and I/O ports mean. Readers (vCPU threads, I/O threads) take no lock: the map is
 * an immutable sorted array, replaced whole by a writer and freed after all readers have left it (see memory.c).
 * Later registrations win over earlier ones where they overlap only if their priority is higher (RAM 0, devices 1,
 * windows that a guest may put anywhere -1).
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct accel;
struct accel_ops;
struct guest_memory;

/* Register access of a device. `offset` counts from the start of its window; size 1, 2, 4 or 8 (ports: up to 4). Called on
 * any vCPU thread with `lock` (when not NULL) held by the dispatcher. */
struct io_ops {
    uint64_t (*read)(void *opaque, uint64_t offset, unsigned size);
    void (*write)(void *opaque, uint64_t offset, unsigned size, uint64_t value);
    uint8_t min_size, max_size; /* what the device takes; others are split or, when narrower, refused: reads all ones. 0: 1 and 8 */
};

struct guest_memory *guest_memory_create(void);
void guest_memory_destroy(struct guest_memory *m);
/* RAM of `size` bytes of the map's own: anonymous, only used pages cost; `name` for messages. Mapped at one or more places by
 * guest_memory_add_ram. Returns its host address, NULL with error. Freed with the map. */
void *guest_memory_alloc(struct guest_memory *m, const char *name, uint64_t size, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* gpa, size page aligned. */
bool guest_memory_add_ram(struct guest_memory *m, uint64_t gpa, uint64_t size, void *host, bool readonly, GError **error);
/* Who owns the host memory of [host, host + size): how discarded pages go back to the host. discard is called on any thread, with
 * an offset from `host`; remove before its owner goes. */
void guest_memory_add_owner(struct guest_memory *m, void *host, uint64_t size, void (*discard)(void *owner, uint64_t offset, uint64_t size), void *owner);
void guest_memory_remove_owner(struct guest_memory *m, void *owner);
/* The guest does not need what is in these pages: the host gets them back, they read as zeroes. Addresses are hostile: what is not
 * RAM is left alone. */
void guest_memory_discard(struct guest_memory *m, uint64_t gpa, uint64_t size);
void guest_memory_remove_ram(struct guest_memory *m, uint64_t gpa, uint64_t size);
/* fn is called after RAM has come or gone, on the thread that did it, with whatever locks that holds: it only leaves a request. */
void guest_memory_watch_ram(struct guest_memory *m, void (*fn)(void *opaque), void *opaque); /* main thread */
void guest_memory_unwatch_ram(struct guest_memory *m, void *opaque);
/* Everything mapped now and later is shown to the accelerator, once it is known. */
bool guest_memory_set_accel(struct guest_memory *m, const struct accel_ops *ops, struct accel *a, GError **error);

/* For a change of accelerator: shows everything that is mapped to `a`; then puts it in the place of the one before. When
 * guest_memory_use returns, nobody is inside the one before. */
bool guest_memory_show(struct guest_memory *m, const struct accel_ops *ops, struct accel *a, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void guest_memory_use(struct guest_memory *m, const struct accel_ops *ops, struct accel *a);

/* A window of device registers in physical memory or port space. The caller owns it (usually inside the device) and
 * keeps it until removed. */
struct io_window {
    const char *name;
    const struct io_ops *ops;
    void *opaque;
    GMutex *lock;   /* held around ops; NULL: the device locks by itself */
    uint64_t base, size;
    bool port;      /* I/O port space */
    bool behind;    /* where RAM or another window lies it is hidden, as a chipset decodes its own addresses first */
    void *ram;      /* not NULL: no registers but memory of a card, whole pages (guest_memory_alloc); ops are not used */
    bool rom;       /* of such memory: the guest cannot write it */
    bool mapped;
};
void io_window_map(struct guest_memory *m, struct io_window *w, uint64_t base); /* moves it when mapped already */
void io_window_unmap(struct guest_memory *m, struct io_window *w);

/* Dispatch, for the accelerator's bus callbacks. */
uint64_t guest_io_read(struct guest_memory *m, bool port, uint64_t addr, unsigned size);
void guest_io_write(struct guest_memory *m, bool port, uint64_t addr, unsigned size, uint64_t value);

/* Who answers at that address: a window's name, "RAM", or NULL: nobody. */
const char *guest_io_owner(struct guest_memory *m, bool port, uint64_t addr);

/* Device access to guest RAM (DMA). Addresses are hostile: false when any byte is not RAM (nothing is copied then). Writes
 * tell the accelerator. guest_memory_ptr: host pointer to [gpa, gpa+size) when it is one piece of writable (or any, if !write)
 * RAM, else NULL; after writing through it call guest_memory_written. */
bool guest_memory_read(struct guest_memory *m, uint64_t gpa, void *ret, uint64_t size) G_GNUC_WARN_UNUSED_RESULT;
bool guest_memory_write(struct guest_memory *m, uint64_t gpa, const void *data, uint64_t size) G_GNUC_WARN_UNUSED_RESULT;
void *guest_memory_ptr(struct guest_memory *m, uint64_t gpa, uint64_t size, bool write);
void guest_memory_written(struct guest_memory *m, uint64_t gpa, uint64_t size);
/* RAM ranges in order (for the e820 table): returns false past the last one. */
bool guest_memory_ram_range(struct guest_memory *m, unsigned index, uint64_t *ret_gpa, uint64_t *ret_size, bool *ret_readonly);
