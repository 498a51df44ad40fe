/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From options to a running process. Each setup_* is one step of main.c; on failure it sets *error, and tear_down undoes
 * whatever has been done.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "vmm/options.h"

struct blockdev;
struct board;
struct leftover;
struct machine;
struct run_as;

struct vm {
    struct options options;
    struct machine *machine;
    const struct board *board;
    GPtrArray *qmps; /* what was opened, in order */
    struct blockdev *blockdev;  /* disks and their nodes */
    int cancel_fd;              /* eventfd: readable once a signal has asked for the end */
    GSource *signal_source;
    int daemon_fd, null_fd;     /* -1: none */
    struct leftover *pidfile;
    struct run_as *run_as;      /* process_confine.c; NULL: the user stays */
};

/* process.c */
bool process_daemonize(struct vm *vm, GError **error);      /* the parent does not return: it waits for process_detach */
bool process_catch_signals(struct vm *vm, GError **error);
bool process_write_pidfile(struct vm *vm, GError **error);
bool process_detach(struct vm *vm, GError **error);         /* -daemonize: all is open, the parent may end */
void process_tear_down(struct vm *vm);

/* process_confine.c */
bool process_find_user(struct vm *vm, GError **error);      /* -run-with user=: while the host's files can be read */
bool process_confine(struct vm *vm, GError **error);        /* root directory and user */
bool process_close_sandbox(struct vm *vm, GError **error);  /* last: nothing is opened after it */

/* setup_backends.c */
bool setup_log(struct vm *vm, GError **error);
bool setup_objects(struct vm *vm, GError **error);
bool setup_memory(struct vm *vm, GError **error);  /* what the RAM consists of, NUMA nodes */
bool setup_lock_memory(struct vm *vm, GError **error);
bool setup_chardevs(struct vm *vm, GError **error);
bool setup_drives(struct vm *vm, GError **error);
bool setup_netdevs(struct vm *vm, GError **error);
bool setup_audiodevs(struct vm *vm, GError **error);
bool setup_display(struct vm *vm, GError **error);
bool setup_qmp(struct vm *vm, GError **error);
void setup_tear_down_backends(struct vm *vm);
/* The back end that `spec` ("chardev:ID" or a short form) means; a new one gets `id`. *ret NULL for "none". */
bool setup_find_chardev(struct vm *vm, const char *id, const char *spec, struct chardev **ret, GError **error);
/* A network back end from key=value; id when kv has none. Keys of the card must have been taken out. */

/* setup_devices.c */
bool setup_serial(struct vm *vm, GError **error);
bool setup_disks(struct vm *vm, GError **error);
bool setup_nics(struct vm *vm, GError **error);
bool setup_devices(struct vm *vm, GError **error);
bool setup_vga(struct vm *vm, GError **error);
