/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control protocol QMP (QEMU Machine Protocol specification, "qmp-spec"): JSON objects over a character back end. A
 * command is one row of qmp_commands.c. Everything runs on the main thread.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "base/json.h"

struct chardev;
struct machine;
struct qmp;

/* Serves `c` until qmp_destroy, which must come before c is closed and m destroyed. */
struct qmp *qmp_create(struct machine *m, struct chardev *c, bool pretty, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void qmp_destroy(struct qmp *q);

/* ---- between the files of this folder ---- */

enum qmp_arg_type { QMP_ARG_STRING, QMP_ARG_INT, QMP_ARG_BOOL, QMP_ARG_ARRAY, QMP_ARG_OBJECT, QMP_ARG_ANY };
/* Error class of VIREO_ERROR_NOT_FOUND: which thing the command is about. Other errors are GenericError. */
enum qmp_absent { QMP_ABSENT_GENERIC, QMP_ABSENT_NOT_ACTIVE, QMP_ABSENT_NOT_FOUND };
struct qmp_arg {
    const char *name;
    enum qmp_arg_type type;
    bool optional;
};
struct qmp_command {
    const char *name;
    /* Returns the value of "return" (the caller frees), or NULL: an empty object, or with *error set an error. args: checked
     * against the row, NULL when there are none. */
    struct json_object *(*run)(struct machine *m, struct json_object *args, GError **error);
    const struct qmp_arg *args; /* ends with name NULL; NULL: takes none */
    bool open;                  /* takes members beyond those rows (device_add, object-add) */
    enum qmp_absent absent;
};
extern const struct qmp_command qmp_commands[]; /* ends with name NULL */
/* Names and types of args (NULL: none) against the rows. */
bool qmp_check_args(const struct qmp_arg *rows, struct json_object *args, GError **error) G_GNUC_WARN_UNUSED_RESULT;
struct json_object *qmp_version(void);
bool qmp_command_known(const char *name); /* qmp_known.c: QEMU has a command of this name */

/* qmp_schema.c */
struct json_object *qmp_query_commands(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_query_qmp_schema(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_query_command_line_options(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_query_machines(struct machine *m, struct json_object *args, GError **error);
extern const struct qmp_arg qmp_query_command_line_options_args[];
extern const char *const qmp_events[]; /* all that are ever sent; NULL-terminated, sorted */

/* qmp_cpu.c */
struct json_object *qmp_query_cpus_fast(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_query_hotpluggable_cpus(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_query_acpi_ospm_status(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_query_cpu_definitions(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_query_cpu_model_expansion(struct machine *m, struct json_object *args, GError **error);
extern const struct qmp_arg qmp_query_cpu_model_expansion_args[];
char *qmp_cpu_path(const struct machine *m, unsigned i); /* of the vCPU as an object; the caller frees */

/* qmp_memory.c */
struct json_object *qmp_pmemsave(struct machine *m, struct json_object *args, GError **error);
extern const struct qmp_arg qmp_pmemsave_args[];

/* qmp_dump.c */
struct json_object *qmp_dump_guest_memory(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_query_dump(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_query_dump_capability(struct machine *m, struct json_object *args, GError **error);
extern const struct qmp_arg qmp_dump_guest_memory_args[];
bool qmp_dump_active(const struct machine *m); /* the machine stands still for it */

/* qmp_stats.c */
struct json_object *qmp_query_stats(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_query_stats_schemas(struct machine *m, struct json_object *args, GError **error);
extern const struct qmp_arg qmp_query_stats_args[], qmp_query_stats_schemas_args[];

/* qmp_accel.c */
struct json_object *qmp_accel_switch(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_vcpu_state_check(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_dirty_log_start(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_dirty_log_read(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_dirty_log_stop(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_calc_dirty_rate(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_query_dirty_rate(struct machine *m, struct json_object *args, GError **error);
extern const struct qmp_arg qmp_accel_switch_args[], qmp_calc_dirty_rate_args[];

/* qmp_device.c */
struct json_object *qmp_device_add(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_device_del(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_device_list_properties(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_qom_list_properties(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_qom_list_types(struct machine *m, struct json_object *args, GError **error);
/* qmp_qom.c */
struct json_object *qmp_object_add(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_object_del(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_query_memdev(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_query_memory_devices(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_query_memory_size(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_qom_get(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_qom_set(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_qom_list(struct machine *m, struct json_object *args, GError **error);
extern const struct qmp_arg qmp_object_add_args[], qmp_object_del_args[], qmp_qom_list_args[], qmp_qom_get_args[], qmp_qom_set_args[];

extern const struct qmp_arg qmp_device_add_args[], qmp_device_del_args[], qmp_device_list_properties_args[], qmp_qom_list_types_args[];

/* qmp_net.c */
struct json_object *qmp_netdev_add(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_netdev_del(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_set_link(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_query_rx_filter(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_query_pci(struct machine *m, struct json_object *args, GError **error); /* qmp_pci.c */
struct json_object *qmp_announce_self(struct machine *m, struct json_object *args, GError **error);
void qmp_announce_all(struct machine *m); /* all cards, after the machine came from elsewhere */
void qmp_announce_end(struct machine *m); /* the rounds still to come do not: the machine is about to go */
extern const struct qmp_arg qmp_netdev_add_args[], qmp_netdev_del_args[], qmp_set_link_args[], qmp_query_rx_filter_args[],
    qmp_announce_self_args[];

/* qmp_migrate.c */
struct json_object *qmp_migrate(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_migrate_cancel(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_migrate_incoming(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_query_migrate(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_query_migrate_capabilities(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_migrate_set_capabilities(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_query_migrate_parameters(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_migrate_set_parameters(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_migrate_continue(struct machine *m, struct json_object *args, GError **error);
struct json_object *qmp_migrate_postcopy(struct machine *m, struct json_object *args, GError **error);
extern const struct qmp_arg qmp_migrate_args[], qmp_migrate_incoming_args[], qmp_migrate_set_capabilities_args[], qmp_migrate_continue_args[],
    qmp_migrate_recover_args[];

/* Text in the form "{"a": 1, "b": [2, 3]}"; pretty: on several lines. */
void qmp_print(GString *s, struct json_object *o, bool pretty);
