/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line: QEMU's option syntax. Each option is one row of options_table.c, from which the parser, its error
 * messages, -help and the man page come. Parsing opens and creates nothing.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/keyval.h"
#include "vmm/blockdev/blockdev.h"

struct machine_config;

/* One use of an option that makes something: kept as given for messages. */
struct option_item {
    const char *option;  /* "-drive"; static or interned */
    char *text;          /* what followed it */
    struct keyval *kv;   /* parsed; NULL for options of plain text */
};

/* A disk from -drive. */
struct option_drive {
    struct option_item *item;   /* not owned; for messages */
    struct blockdev_drive drive;
};

enum option_files { FILES_AUTO, FILES_ON, FILES_OFF };
struct options {
    struct machine_config *config;                    /* NULL once the machine has taken it over */
    GPtrArray *items;                                 /* owns every struct option_item */
    GPtrArray *chardevs, *netdevs, *nics, *devices, *serials, *qmps, *blockdevs, *objects, *numas, *audiodevs; /* struct option_item *, in order */
    GPtrArray *drives;                                /* struct option_drive * */
    bool nographic, display_none, no_net, daemonize, usb;
    char *pidfile, *log_file, *run_as, *chroot;
    char *vnc;                  /* what follows -vnc; NULL: no VNC server */
    char *vga;                  /* -vga; NULL: not given */
    bool sandbox;
    int sandbox_files;          /* -sandbox files=: enum option_files */
    bool snapshot;              /* -snapshot */
    char *incoming;             /* where a saved machine comes from; NULL: nowhere */
    bool only_migratable;       /* a device that cannot be saved is an error at start */
    char *loadvm;               /* the snapshot in the disks' images that it goes on from; NULL: none */
    bool accel_given, machine_accel_given;
};

enum options_result { OPTIONS_RUN, OPTIONS_DONE /* help or version has been printed */, OPTIONS_ERROR };
/* argv as main gets it. The error is one line without the program's name. */
enum options_result options_parse(struct options *o, int argc, char **argv, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void options_clear(struct options *o);

/* ---- between the files options_*.c ---- */

struct option_row {
    const char *name;  /* without "-"; NULL: heading of a group, in `help` */
    const char *args;  /* form of the argument; NULL: takes none */
    const char *help;  /* what it does; of a refused option: why it is not there, and what to use */
    /* Sets *error and returns false; the parser puts "-name argument: " before it. */
    bool (*handle)(struct options *o, const struct option_row *row, const char *arg, GError **error);
    size_t offset;               /* for the generic handlers: member of options, or of machine_config */
    const char *const *accepted; /* opt_accept_only, opt_one_of */
};
extern const struct option_row option_rows[]; /* ends with name and help NULL */
const struct keyval_key *options_machine_keys(void); /* of -machine */
bool option_refused(const struct option_row *row);

/* What is printed instead of running: handlers put it here by this call and return false. */
bool options_print(GError **error, char *text); /* takes text over */

/* A new item in `list`. parse: key=value text with this implied key; NULL: plain text. */
struct option_item *options_add_item(struct options *o, GPtrArray *list, const char *option, const char *text, bool parse, const char *implied,
                                     GError **error);

bool opt_help(struct options *, const struct option_row *, const char *, GError **);
bool opt_version(struct options *, const struct option_row *, const char *, GError **);

/* options_machine.c */
bool opt_machine(struct options *, const struct option_row *, const char *, GError **);
bool opt_accel(struct options *, const struct option_row *, const char *, GError **);
bool opt_enable_kvm(struct options *, const struct option_row *, const char *, GError **);
bool opt_cpu(struct options *, const struct option_row *, const char *, GError **);
bool opt_smp(struct options *, const struct option_row *, const char *, GError **);
bool opt_memory(struct options *, const struct option_row *, const char *, GError **);
bool opt_name(struct options *, const struct option_row *, const char *, GError **);
bool opt_uuid(struct options *, const struct option_row *, const char *, GError **);
bool opt_rtc(struct options *, const struct option_row *, const char *, GError **);
bool opt_no_hpet(struct options *, const struct option_row *, const char *, GError **);
bool opt_global(struct options *, const struct option_row *, const char *, GError **);
bool opt_msg(struct options *, const struct option_row *, const char *, GError **);
bool opt_audiodev(struct options *, const struct option_row *, const char *, GError **);
bool opt_usbdevice(struct options *, const struct option_row *, const char *, GError **);
bool opt_smbios(struct options *, const struct option_row *, const char *, GError **); /* options_smbios.c */
bool opt_boot(struct options *, const struct option_row *, const char *, GError **);
bool opt_action(struct options *, const struct option_row *, const char *, GError **);

/* options_process.c */
bool opt_sandbox(struct options *, const struct option_row *, const char *, GError **);
bool opt_run_with(struct options *, const struct option_row *, const char *, GError **);
bool opt_incoming(struct options *, const struct option_row *, const char *, GError **);
bool opt_add_fd(struct options *, const struct option_row *, const char *, GError **);
bool opt_overcommit(struct options *, const struct option_row *, const char *, GError **);
bool opt_numa(struct options *, const struct option_row *, const char *, GError **);

/* options_backend.c */
bool opt_drive(struct options *, const struct option_row *, const char *, GError **);
bool opt_hd(struct options *, const struct option_row *, const char *, GError **);
bool opt_blockdev(struct options *, const struct option_row *, const char *, GError **);
bool opt_device(struct options *, const struct option_row *, const char *, GError **);
bool opt_object(struct options *, const struct option_row *, const char *, GError **);
bool opt_chardev(struct options *, const struct option_row *, const char *, GError **);
bool opt_netdev(struct options *, const struct option_row *, const char *, GError **);
bool opt_nic(struct options *, const struct option_row *, const char *, GError **);
bool opt_net(struct options *, const struct option_row *, const char *, GError **);
bool opt_serial(struct options *, const struct option_row *, const char *, GError **);
bool opt_qmp(struct options *, const struct option_row *, const char *, GError **);
bool opt_mon(struct options *, const struct option_row *, const char *, GError **);
bool opt_log(struct options *, const struct option_row *, const char *, GError **);
void option_drive_free(void *drive);
