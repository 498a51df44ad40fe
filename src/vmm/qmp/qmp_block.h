/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Block commands of QMP; for the table in qmp_commands.c. Shapes of arguments and answers: QMP reference of QEMU 7.2. */
#pragma once

#include "vmm/qmp/qmp.h"

struct blockdev;
struct block_job;

/* X(function, command): those that are rows; each has an argument table of the same name. */
#define QMP_BLOCK_COMMAND(name) \
    struct json_object *qmp_##name(struct machine *m, struct json_object *args, GError **error); \
    extern const struct qmp_arg qmp_##name##_args[];

/* qmp_block.c: what there is */
QMP_BLOCK_COMMAND(query_block)
QMP_BLOCK_COMMAND(query_named_block_nodes)
QMP_BLOCK_COMMAND(query_blockstats)
/* qmp_blockdev.c: nodes and drives */
QMP_BLOCK_COMMAND(blockdev_add)
QMP_BLOCK_COMMAND(blockdev_del)
QMP_BLOCK_COMMAND(blockdev_reopen)
QMP_BLOCK_COMMAND(block_resize)
QMP_BLOCK_COMMAND(change_backing_file)
QMP_BLOCK_COMMAND(block_set_write_threshold)
QMP_BLOCK_COMMAND(blockdev_open_tray)
QMP_BLOCK_COMMAND(blockdev_close_tray)
QMP_BLOCK_COMMAND(blockdev_insert_medium)
QMP_BLOCK_COMMAND(blockdev_remove_medium)
QMP_BLOCK_COMMAND(blockdev_change_medium)
QMP_BLOCK_COMMAND(eject)
QMP_BLOCK_COMMAND(x_blockdev_change)

/* qmp_job.c */
QMP_BLOCK_COMMAND(query_jobs)
QMP_BLOCK_COMMAND(query_block_jobs)
QMP_BLOCK_COMMAND(job_cancel)
QMP_BLOCK_COMMAND(job_pause)
QMP_BLOCK_COMMAND(job_resume)
QMP_BLOCK_COMMAND(job_complete)
QMP_BLOCK_COMMAND(job_finalize)
QMP_BLOCK_COMMAND(job_dismiss)
QMP_BLOCK_COMMAND(block_job_cancel)
QMP_BLOCK_COMMAND(block_job_pause)
QMP_BLOCK_COMMAND(block_job_resume)
QMP_BLOCK_COMMAND(block_job_complete)
QMP_BLOCK_COMMAND(block_job_finalize)
QMP_BLOCK_COMMAND(block_job_dismiss)
QMP_BLOCK_COMMAND(block_job_set_speed)

/* qmp_nbd.c */
QMP_BLOCK_COMMAND(nbd_server_start)
QMP_BLOCK_COMMAND(nbd_server_stop)
QMP_BLOCK_COMMAND(nbd_server_add)
QMP_BLOCK_COMMAND(nbd_server_remove)
QMP_BLOCK_COMMAND(block_export_add)
QMP_BLOCK_COMMAND(block_export_del)
QMP_BLOCK_COMMAND(query_block_exports)
QMP_BLOCK_COMMAND(block_set_io_throttle)
/* qmp_block_job.c */
QMP_BLOCK_COMMAND(block_commit)
QMP_BLOCK_COMMAND(block_stream)
QMP_BLOCK_COMMAND(blockdev_mirror)
QMP_BLOCK_COMMAND(drive_mirror)
QMP_BLOCK_COMMAND(blockdev_backup)
QMP_BLOCK_COMMAND(drive_backup)
QMP_BLOCK_COMMAND(blockdev_create)
/* qmp_transaction.c */
QMP_BLOCK_COMMAND(transaction)
QMP_BLOCK_COMMAND(blockdev_snapshot)
QMP_BLOCK_COMMAND(blockdev_snapshot_sync)
QMP_BLOCK_COMMAND(blockdev_snapshot_internal_sync)
QMP_BLOCK_COMMAND(blockdev_snapshot_delete_internal_sync)
QMP_BLOCK_COMMAND(block_dirty_bitmap_add)
QMP_BLOCK_COMMAND(block_dirty_bitmap_remove)
QMP_BLOCK_COMMAND(block_dirty_bitmap_clear)
QMP_BLOCK_COMMAND(block_dirty_bitmap_enable)
QMP_BLOCK_COMMAND(block_dirty_bitmap_disable)
QMP_BLOCK_COMMAND(block_dirty_bitmap_merge)

/* qmp_snapshot.c */
QMP_BLOCK_COMMAND(snapshot_save)
QMP_BLOCK_COMMAND(snapshot_load)
QMP_BLOCK_COMMAND(snapshot_delete)

struct block_job_options;
struct block_job_txn;
struct block_node;
bool qmp_job_options(struct blockdev *b, struct json_object *args, const struct block_node *n, struct block_job_options *ret, GError **error);
/* drive: the target is a file, not a node. hold: the job is not started yet. */
struct block_job *qmp_backup(struct blockdev *b, struct json_object *args, bool drive, bool hold, struct block_job_txn *txn, GError **error);

/* ---- arguments; the row has checked types ---- */

const char *qmp_text(struct json_object *args, const char *name);              /* NULL: not given */
bool qmp_flag(struct json_object *args, const char *name, bool otherwise);
int64_t qmp_number(struct json_object *args, const char *name, int64_t otherwise);
/* The index in `names` (NULL-terminated) of the text; `otherwise` when it is not given. */
bool qmp_choice(struct json_object *args, const char *name, const char *const *names, int otherwise, int *ret, GError **error);
/* The machine's disks; an error on a machine without. */
struct blockdev *qmp_blockdev(struct machine *m, GError **error);
