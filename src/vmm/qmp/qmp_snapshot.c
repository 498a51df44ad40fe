/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Snapshots of the whole machine inside its disks' images, as jobs (QEMU's QMP reference: snapshot-save, snapshot-load, snapshot-delete). */
#include "base/error.h"
#include "block/job.h"
#include "vmm/blockdev/blockdev.h"
#include "vmm/core/machine.h"
#include "vmm/migrate/migrate_snapshot.h"
#include "vmm/qmp/qmp_block.h"

enum what { SAVE, LOAD, DELETE };

struct snapshot {
    struct machine *m;
    enum what what;
    char *tag, *vmstate;
    char **devices;
};

static void snapshot_free(void *opaque)
{
    struct snapshot *s = opaque;
    g_free(s->tag);
    g_free(s->vmstate);
    g_strfreev(s->devices);
    g_free(s);
}

/* The main thread's; the monitor answers again when it is done. */
static bool run(void *opaque, GError **error)
{
    struct snapshot *s = opaque;
    const struct migrate_snapshot x = { s->tag, s->vmstate, (const char *const *)s->devices };
    enum machine_state before = s->m->state;
    bool touched, ok;
    if (s->what == SAVE)
        return migrate_snapshot_save(s->m, &x, error);
    if (s->what == DELETE)
        return migrate_snapshot_delete(s->m, &x, error);
    ok = migrate_snapshot_load(s->m, &x, &touched, error);
    if (ok && before == MACHINE_RUNNING)
        machine_start(s->m);
    return ok;
}

static bool take_devices(struct snapshot *s, struct json_object *list, GError **error)
{
    size_t n = json_object_array_length(list);
    s->devices = g_new0(char *, n + 1);
    for (size_t i = 0; i < n; i++) {
        struct json_object *name = json_object_array_get_idx(list, i);
        if (!json_object_is_type(name, json_type_string))
            return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid parameter type for 'devices[%zu]', expected: string", i);
        s->devices[i] = g_strdup(json_object_get_string(name));
    }
    return true;
}

static struct json_object *start(struct machine *m, enum what what, struct json_object *args, GError **error)
{
    static const char *const types[] = { "snapshot-save", "snapshot-load", "snapshot-delete" };
    struct blockdev *b = qmp_blockdev(m, error);
    const struct block_job_options o = { .id = qmp_text(args, "job-id"), .manual_dismiss = true };
    if (!b)
        return NULL;
    struct snapshot *s = g_new0(struct snapshot, 1);
    *s = (struct snapshot){ .m = m, .what = what, .tag = g_strdup(qmp_text(args, "tag")), .vmstate = g_strdup(qmp_text(args, "vmstate")) };
    if (take_devices(s, json_object_object_get(args, "devices"), error))
        (void)block_job_call(blockdev_jobs(b), &o, types[what], run, s, snapshot_free, true, error);
    else
        snapshot_free(s);
    return NULL;
}

const struct qmp_arg qmp_snapshot_save_args[] = { { "job-id", QMP_ARG_STRING }, { "tag", QMP_ARG_STRING }, { "vmstate", QMP_ARG_STRING }, { "devices", QMP_ARG_ARRAY }, { NULL } };
const struct qmp_arg qmp_snapshot_load_args[] = { { "job-id", QMP_ARG_STRING }, { "tag", QMP_ARG_STRING }, { "vmstate", QMP_ARG_STRING }, { "devices", QMP_ARG_ARRAY }, { NULL } };
const struct qmp_arg qmp_snapshot_delete_args[] = { { "job-id", QMP_ARG_STRING }, { "tag", QMP_ARG_STRING }, { "devices", QMP_ARG_ARRAY }, { NULL } };

struct json_object *qmp_snapshot_save(struct machine *m, struct json_object *args, GError **error) { return start(m, SAVE, args, error); }
struct json_object *qmp_snapshot_load(struct machine *m, struct json_object *args, GError **error) { return start(m, LOAD, args, error); }
struct json_object *qmp_snapshot_delete(struct machine *m, struct json_object *args, GError **error) { return start(m, DELETE, args, error); }
