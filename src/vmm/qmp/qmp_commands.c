/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The commands: one row each. Shapes of the answers: QMP reference of QEMU 7.2. */
#include <string.h>

#include "base/error.h"
#include "vmm/core/chardev.h"
#include "vmm/core/device.h"
#include "vmm/core/iothread.h"
#include "vmm/core/machine.h"
#include "vmm/dev/virtio_devices.h"
#include "vmm/migrate/migrate.h"
#include "vmm/qmp/qmp.h"
#include "vmm/qmp/qmp_block.h"
#include "vmm/qmp/qmp_chardev.h"
#include "vmm/qmp/qmp_display.h"
#include "vmm/qmp/qmp_fd.h"

/* ---- running and ending ---- */

static struct json_object *cmd_query_status(struct machine *m, struct json_object *args, GError **error)
{
    return json_make("status", json_object_new_string(machine_state_name(m->state)), "singlestep", json_object_new_boolean(false), "running",
                     json_object_new_boolean(m->state == MACHINE_RUNNING), NULL);
}

static struct json_object *cmd_stop(struct machine *m, struct json_object *args, GError **error)
{
    if (m->state == MACHINE_INMIGRATE) /* what comes is to stand still */
        m->config->start_paused = true;
    else if (m->state != MACHINE_FINISH_MIGRATE && m->state != MACHINE_POSTMIGRATE)
        machine_stop(m, MACHINE_PAUSED);
    return NULL;
}

static struct json_object *cmd_cont(struct machine *m, struct json_object *args, GError **error)
{
    if (m->state == MACHINE_SHUTDOWN || m->state == MACHINE_GUEST_PANICKED || m->state == MACHINE_INTERNAL_ERROR)
        vireo_fail(error, VIREO_ERROR_FAILED, "Resetting the Virtual Machine is required");
    else if (qmp_dump_active(m))
        vireo_fail(error, VIREO_ERROR_FAILED, "There is a dump in process, please wait.");
    else if (m->state == MACHINE_INMIGRATE)
        m->config->start_paused = false;
    else if (migrate_before_cont(m, error))
        machine_start(m);
    return NULL;
}

static struct json_object *cmd_system_reset(struct machine *m, struct json_object *args, GError **error)
{
    machine_request_reset(m, CAUSE_HOST_QMP_SYSTEM_RESET);
    return NULL;
}

static struct json_object *cmd_system_powerdown(struct machine *m, struct json_object *args, GError **error)
{
    machine_request_powerdown(m);
    return NULL;
}

static struct json_object *cmd_quit(struct machine *m, struct json_object *args, GError **error)
{
    machine_request_shutdown(m, CAUSE_HOST_QMP_QUIT);
    return NULL;
}

static struct json_object *cmd_inject_nmi(struct machine *m, struct json_object *args, GError **error)
{
    for (unsigned i = 0; i < m->max_vcpus; i++)
        vcpu_nmi(m, i);
    return NULL;
}

/* ---- what the machine is ---- */

struct json_object *qmp_version(void)
{
    struct json_object *version = json_make("micro", json_object_new_int(0), "minor", json_object_new_int(2), "major", json_object_new_int(7), NULL);
    return json_make("qemu", version, "package", json_object_new_string("vireo-" VIREO_VERSION), NULL);
}

static struct json_object *cmd_query_version(struct machine *m, struct json_object *args, GError **error)
{
    return qmp_version();
}

static struct json_object *cmd_query_name(struct machine *m, struct json_object *args, GError **error)
{
    return m->config->name ? json_make("name", json_object_new_string(m->config->name), NULL) : NULL;
}

static struct json_object *cmd_query_uuid(struct machine *m, struct json_object *args, GError **error)
{
    const char *uuid = m->config->uuid ? m->config->uuid : "00000000-0000-0000-0000-000000000000";
    return json_make("UUID", json_object_new_string(uuid), NULL);
}

static struct json_object *cmd_query_kvm(struct machine *m, struct json_object *args, GError **error)
{
    bool present = false;
    for (const struct accel_ops *const *a = accel_list(); *a; a++)
        present |= !strcmp((*a)->name, "kvm");
    bool enabled = m->accel_ops && !strcmp(m->accel_ops->name, "kvm");
    return json_make("enabled", json_object_new_boolean(enabled), "present", json_object_new_boolean(present), NULL);
}

static struct json_object *cmd_query_target(struct machine *m, struct json_object *args, GError **error)
{
    return json_make("arch", json_object_new_string("x86_64"), NULL);
}

/* Commands whose true answer is that there is none: no TPM, no jobs; no ticks of the RTC wait to be delivered. */
static struct json_object *cmd_empty_list(struct machine *m, struct json_object *args, GError **error)
{
    return json_object_new_array();
}

static struct json_object *cmd_query_replay(struct machine *m, struct json_object *args, GError **error)
{
    return json_make("mode", json_object_new_string("none"), "icount", json_object_new_int(0), NULL);
}

/* Windows of the host, of which there are none; VNC is not one of them in QEMU either. */
static struct json_object *cmd_query_display_options(struct machine *m, struct json_object *args, GError **error)
{
    return json_make("type", json_object_new_string("none"), NULL);
}

static struct json_object *cmd_query_chardev_backends(struct machine *m, struct json_object *args, GError **error)
{
    struct json_object *list = json_object_new_array();
    const char *name;
    for (unsigned i = 0; (name = chardev_backend_at(i)); i++)
        json_object_array_add(list, json_make("name", json_object_new_string(name), NULL));
    return list;
}

static struct json_object *cmd_query_vm_generation_id(struct machine *m, struct json_object *args, GError **error)
{
    vireo_fail(error, VIREO_ERROR_INVALID, "VM Generation ID device not found");
    return NULL;
}

/* Guests whose memory the host cannot read: none is. */
static struct json_object *cmd_query_sev(struct machine *m, struct json_object *args, GError **error)
{
    return json_make("enabled", json_object_new_boolean(false), "api-major", json_object_new_int(0), "api-minor", json_object_new_int(0), "build-id",
                     json_object_new_int(0), "policy", json_object_new_int(0), "state", json_object_new_string("uninit"), "handle", json_object_new_int(0), NULL);
}

static struct json_object *cmd_query_sgx(struct machine *m, struct json_object *args, GError **error)
{
    vireo_fail(error, VIREO_ERROR_INVALID, "No EPC regions defined, SGX not available");
    return NULL;
}

static struct json_object *cmd_nothing(struct machine *m, struct json_object *args, GError **error)
{
    return NULL;
}

static struct json_object *cmd_query_current_machine(struct machine *m, struct json_object *args, GError **error)
{
    return json_make("wakeup-suspend-support", json_object_new_boolean(false), NULL);
}

static struct json_object *cmd_query_iothreads(struct machine *m, struct json_object *args, GError **error)
{
    struct json_object *list = json_object_new_array();
    for (guint i = 0; i < m->objects->len; i++) {
        const struct object *o = m->objects->pdata[i];
        const struct iothread *t = m->objects->pdata[i];
        if (!strcmp(o->class->name, "iothread"))
            json_object_array_add(list, json_make("id", json_object_new_string(o->id), "thread-id", json_object_new_int(t->thread_id), "poll-max-ns",
                                                  json_object_new_uint64(t->poll_max_ns), "poll-grow", json_object_new_uint64(t->poll_grow),
                                                  "poll-shrink", json_object_new_uint64(t->poll_shrink), "aio-max-batch",
                                                  json_object_new_uint64(t->aio_max_batch), NULL));
    }
    return list;
}

static struct json_object *cmd_query_chardev(struct machine *m, struct json_object *args, GError **error)
{
    struct json_object *list = json_object_new_array();
    GList *ids = g_list_sort(g_hash_table_get_keys(m->chardevs), (GCompareFunc)strcmp);
    for (GList *l = ids; l; l = l->next) {
        const struct chardev *c = g_hash_table_lookup(m->chardevs, l->data);
        json_object_array_add(list, json_make("frontend-open", json_object_new_boolean(chardev_frontend_open(c)), "filename",
                                              json_object_new_string(chardev_filename(c)), "label", json_object_new_string(chardev_id(c)), NULL));
    }
    g_list_free(ids);
    return list;
}

/* ---- balloon ---- */

static struct json_object *cmd_balloon(struct machine *m, struct json_object *args, GError **error)
{
    int64_t value = json_object_get_int64(json_object_object_get(args, "value"));
    if (value <= 0)
        vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'value' expects a size");
    else
        (void)!virtio_balloon_set_target(m, (uint64_t)value, error);
    return NULL;
}

static struct json_object *cmd_query_balloon(struct machine *m, struct json_object *args, GError **error)
{
    uint64_t actual;
    if (!virtio_balloon_actual(m, &actual, error))
        return NULL;
    return json_make("actual", json_object_new_int64((int64_t)actual), NULL);
}

static const struct qmp_arg balloon_args[] = { { "value", QMP_ARG_INT }, { NULL } };

/* ---- what follows a reset or the guest's end ---- */

/* 0 or 1: which of the two; -1: not given; -2: neither, and the error is set. */
static int action(struct json_object *args, const char *name, const char *first, const char *second, GError **error)
{
    const char *text = json_object_get_string(json_object_object_get(args, name));
    if (!text)
        return -1;
    if (!strcmp(text, first))
        return 0;
    if (second && !strcmp(text, second))
        return 1;
    vireo_fail(error, VIREO_ERROR_INVALID, "Parameter '%s' does not accept value '%s'", name, text);
    return -2;
}

static struct json_object *cmd_set_action(struct machine *m, struct json_object *args, GError **error)
{
    int reboot = action(args, "reboot", "reset", "shutdown", error);
    int shutdown = reboot == -2 ? -2 : action(args, "shutdown", "poweroff", "pause", error);
    int panic = shutdown == -2 ? -2 : action(args, "panic", "shutdown", NULL, error);
    if (panic == -2)
        return NULL;
    if (json_object_object_get(args, "watchdog")) {
        vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "there is no watchdog whose action could be set");
        return NULL;
    }
    if (reboot >= 0)
        m->config->no_reboot = reboot;
    if (shutdown >= 0)
        m->config->no_shutdown = shutdown;
    return NULL;
}

static const struct qmp_arg set_action_args[] = { { "reboot", QMP_ARG_STRING, true }, { "shutdown", QMP_ARG_STRING, true }, { "panic", QMP_ARG_STRING, true },
                                                  { "watchdog", QMP_ARG_STRING, true }, { NULL } };

const struct qmp_command qmp_commands[] = {
    { "qmp_capabilities", NULL }, /* qmp.c: it belongs to the session */
    { "query-version", cmd_query_version },
    { "query-commands", qmp_query_commands },
    { "query-qmp-schema", qmp_query_qmp_schema },
    { "query-command-line-options", qmp_query_command_line_options, qmp_query_command_line_options_args },
    { "query-machines", qmp_query_machines },
    { "query-current-machine", cmd_query_current_machine },
    { "migrate", qmp_migrate, qmp_migrate_args },
    { "migrate_cancel", qmp_migrate_cancel },
    { "migrate-incoming", qmp_migrate_incoming, qmp_migrate_incoming_args },
    { "migrate-continue", qmp_migrate_continue, qmp_migrate_continue_args },
    { "migrate-set-capabilities", qmp_migrate_set_capabilities, qmp_migrate_set_capabilities_args },
    { "migrate-set-parameters", qmp_migrate_set_parameters, NULL, .open = true },
    { "migrate-start-postcopy", qmp_migrate_postcopy },
    { "migrate-pause", qmp_migrate_postcopy },
    { "migrate-recover", qmp_migrate_postcopy, qmp_migrate_recover_args },
    { "query-migrate", qmp_query_migrate },
    { "query-migrate-capabilities", qmp_query_migrate_capabilities },
    { "query-migrate-parameters", qmp_query_migrate_parameters },
    { "query-tpm-models", cmd_empty_list },
    { "query-tpm-types", cmd_empty_list },
    { "query-tpm", cmd_empty_list },
    { "query-pr-managers", cmd_empty_list },
    { "query-vcpu-dirty-limit", cmd_empty_list },
    { "query-replay", cmd_query_replay },
    { "query-display-options", cmd_query_display_options },
    { "query-chardev-backends", cmd_query_chardev_backends },
    { "query-vm-generation-id", cmd_query_vm_generation_id },
    { "query-sev", cmd_query_sev },
    { "query-sgx", cmd_query_sgx },
    { "rtc-reset-reinjection", cmd_nothing },
    { "query-status", cmd_query_status },
    { "stop", cmd_stop },
    { "cont", cmd_cont },
    { "system_reset", cmd_system_reset },
    { "system_powerdown", cmd_system_powerdown },
    { "quit", cmd_quit },
    { "inject-nmi", cmd_inject_nmi },
    { "set-action", cmd_set_action, set_action_args },
    { "query-name", cmd_query_name },
    { "query-uuid", cmd_query_uuid },
    { "query-kvm", cmd_query_kvm },
    { "query-target", cmd_query_target },
    { "query-cpus-fast", qmp_query_cpus_fast },
    { "query-hotpluggable-cpus", qmp_query_hotpluggable_cpus },
    { "query-acpi-ospm-status", qmp_query_acpi_ospm_status },
    { "query-stats", qmp_query_stats, qmp_query_stats_args },
    { "query-stats-schemas", qmp_query_stats_schemas, qmp_query_stats_schemas_args },
    { "x-accel-switch", qmp_accel_switch, qmp_accel_switch_args },
    { "x-vcpu-state-check", qmp_vcpu_state_check },
    { "x-dirty-log-start", qmp_dirty_log_start },
    { "x-dirty-log-read", qmp_dirty_log_read },
    { "x-dirty-log-stop", qmp_dirty_log_stop },
    { "calc-dirty-rate", qmp_calc_dirty_rate, qmp_calc_dirty_rate_args },
    { "query-dirty-rate", qmp_query_dirty_rate },
    { "query-cpu-definitions", qmp_query_cpu_definitions },
    { "query-cpu-model-expansion", qmp_query_cpu_model_expansion, qmp_query_cpu_model_expansion_args },
    { "query-memory-size-summary", qmp_query_memory_size },
    { "pmemsave", qmp_pmemsave, qmp_pmemsave_args },
    { "dump-guest-memory", qmp_dump_guest_memory, qmp_dump_guest_memory_args },
    { "query-dump", qmp_query_dump },
    { "query-dump-guest-memory-capability", qmp_query_dump_capability },
    { "query-memory-devices", qmp_query_memory_devices },
    { "query-memdev", qmp_query_memdev },
    { "object-add", qmp_object_add, qmp_object_add_args, .open = true },
    { "object-del", qmp_object_del, qmp_object_del_args },
    { "query-iothreads", cmd_query_iothreads },
    { "query-chardev", cmd_query_chardev },
    { "chardev-add", qmp_chardev_add, qmp_chardev_add_args },
    { "chardev-remove", qmp_chardev_remove, qmp_chardev_remove_args },
    { "query-pci", qmp_query_pci },
    { "screendump", qmp_screendump, qmp_screendump_args, .absent = QMP_ABSENT_NOT_FOUND },
    { "send-key", qmp_send_key, qmp_send_key_args },
    { "input-send-event", qmp_input_send_event, qmp_input_send_event_args, .absent = QMP_ABSENT_NOT_FOUND },
    { "query-mice", qmp_query_mice },
    { "query-vnc", qmp_query_vnc },
    { "query-vnc-servers", qmp_query_vnc_servers },
    { "set_password", qmp_set_password, qmp_set_password_args, .absent = QMP_ABSENT_NOT_ACTIVE },
    { "change-vnc-password", qmp_change_vnc_password, qmp_change_vnc_password_args },
    { "expire_password", qmp_expire_password, qmp_expire_password_args, .absent = QMP_ABSENT_NOT_ACTIVE },
    { "add_client", qmp_add_client, qmp_add_client_args },
#define BLOCK(name, function, ...) { name, qmp_##function, qmp_##function##_args, ##__VA_ARGS__ }
    BLOCK("query-block", query_block),
    BLOCK("query-named-block-nodes", query_named_block_nodes),
    BLOCK("query-blockstats", query_blockstats),
    BLOCK("blockdev-add", blockdev_add, .open = true),
    BLOCK("blockdev-del", blockdev_del),
    BLOCK("blockdev-reopen", blockdev_reopen),
    BLOCK("block_resize", block_resize, .absent = QMP_ABSENT_NOT_FOUND),
    BLOCK("change-backing-file", change_backing_file),
    BLOCK("block-set-write-threshold", block_set_write_threshold, .absent = QMP_ABSENT_NOT_FOUND),
    BLOCK("blockdev-open-tray", blockdev_open_tray, .absent = QMP_ABSENT_NOT_FOUND),
    BLOCK("blockdev-close-tray", blockdev_close_tray, .absent = QMP_ABSENT_NOT_FOUND),
    BLOCK("blockdev-insert-medium", blockdev_insert_medium),
    BLOCK("blockdev-remove-medium", blockdev_remove_medium, .absent = QMP_ABSENT_NOT_FOUND),
    BLOCK("blockdev-change-medium", blockdev_change_medium, .absent = QMP_ABSENT_NOT_FOUND),
    BLOCK("eject", eject, .absent = QMP_ABSENT_NOT_FOUND),
    BLOCK("x-blockdev-change", x_blockdev_change),
    BLOCK("nbd-server-start", nbd_server_start),
    BLOCK("nbd-server-stop", nbd_server_stop),
    BLOCK("nbd-server-add", nbd_server_add),
    BLOCK("nbd-server-remove", nbd_server_remove),
    BLOCK("block-export-add", block_export_add),
    BLOCK("block-export-del", block_export_del),
    BLOCK("query-block-exports", query_block_exports),
    BLOCK("block_set_io_throttle", block_set_io_throttle, .absent = QMP_ABSENT_NOT_FOUND),
    BLOCK("block-commit", block_commit),
    BLOCK("block-stream", block_stream),
    BLOCK("blockdev-mirror", blockdev_mirror),
    BLOCK("drive-mirror", drive_mirror),
    BLOCK("blockdev-backup", blockdev_backup),
    BLOCK("drive-backup", drive_backup),
    BLOCK("blockdev-create", blockdev_create),
    BLOCK("transaction", transaction),
    BLOCK("blockdev-snapshot", blockdev_snapshot),
    BLOCK("blockdev-snapshot-sync", blockdev_snapshot_sync),
    BLOCK("blockdev-snapshot-internal-sync", blockdev_snapshot_internal_sync),
    BLOCK("blockdev-snapshot-delete-internal-sync", blockdev_snapshot_delete_internal_sync),
    BLOCK("block-dirty-bitmap-add", block_dirty_bitmap_add),
    BLOCK("block-dirty-bitmap-remove", block_dirty_bitmap_remove),
    BLOCK("block-dirty-bitmap-clear", block_dirty_bitmap_clear),
    BLOCK("block-dirty-bitmap-enable", block_dirty_bitmap_enable),
    BLOCK("block-dirty-bitmap-disable", block_dirty_bitmap_disable),
    BLOCK("block-dirty-bitmap-merge", block_dirty_bitmap_merge),
    BLOCK("snapshot-save", snapshot_save),
    BLOCK("snapshot-load", snapshot_load),
    BLOCK("snapshot-delete", snapshot_delete),
    BLOCK("query-jobs", query_jobs),
    BLOCK("query-block-jobs", query_block_jobs),
    BLOCK("job-cancel", job_cancel),
    BLOCK("job-pause", job_pause),
    BLOCK("job-resume", job_resume),
    BLOCK("job-complete", job_complete),
    BLOCK("job-finalize", job_finalize),
    BLOCK("job-dismiss", job_dismiss),
    BLOCK("block-job-cancel", block_job_cancel, .absent = QMP_ABSENT_NOT_ACTIVE),
    BLOCK("block-job-pause", block_job_pause, .absent = QMP_ABSENT_NOT_ACTIVE),
    BLOCK("block-job-resume", block_job_resume, .absent = QMP_ABSENT_NOT_ACTIVE),
    BLOCK("block-job-complete", block_job_complete, .absent = QMP_ABSENT_NOT_ACTIVE),
    BLOCK("block-job-finalize", block_job_finalize, .absent = QMP_ABSENT_NOT_ACTIVE),
    BLOCK("block-job-dismiss", block_job_dismiss, .absent = QMP_ABSENT_NOT_ACTIVE),
    BLOCK("block-job-set-speed", block_job_set_speed, .absent = QMP_ABSENT_NOT_ACTIVE),
    { "device_add", qmp_device_add, qmp_device_add_args, .open = true },
    { "device_del", qmp_device_del, qmp_device_del_args, .absent = QMP_ABSENT_NOT_FOUND },
    { "device-list-properties", qmp_device_list_properties, qmp_device_list_properties_args, .absent = QMP_ABSENT_NOT_FOUND },
    { "qom-list-properties", qmp_qom_list_properties, qmp_device_list_properties_args, .absent = QMP_ABSENT_NOT_FOUND },
    { "qom-list-types", qmp_qom_list_types, qmp_qom_list_types_args },
    { "netdev_add", qmp_netdev_add, qmp_netdev_add_args, .open = true },
    { "netdev_del", qmp_netdev_del, qmp_netdev_del_args, .absent = QMP_ABSENT_NOT_FOUND },
    { "set_link", qmp_set_link, qmp_set_link_args, .absent = QMP_ABSENT_NOT_FOUND },
    { "query-rx-filter", qmp_query_rx_filter, qmp_query_rx_filter_args },
    { "announce-self", qmp_announce_self, qmp_announce_self_args },
    { "qom-list", qmp_qom_list, qmp_qom_list_args, .absent = QMP_ABSENT_NOT_FOUND },
    { "qom-get", qmp_qom_get, qmp_qom_get_args, .absent = QMP_ABSENT_NOT_FOUND },
    { "qom-set", qmp_qom_set, qmp_qom_set_args, .absent = QMP_ABSENT_NOT_FOUND },
    { "balloon", cmd_balloon, balloon_args, .absent = QMP_ABSENT_NOT_ACTIVE },
    { "query-balloon", cmd_query_balloon, .absent = QMP_ABSENT_NOT_ACTIVE },
    { "getfd", qmp_getfd, qmp_getfd_args },
    { "closefd", qmp_closefd, qmp_closefd_args },
    { "add-fd", qmp_add_fd, qmp_add_fd_args },
    { "remove-fd", qmp_remove_fd, qmp_remove_fd_args },
    { "query-fdsets", qmp_query_fdsets },
    { NULL, NULL }
};
