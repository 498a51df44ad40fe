/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Jobs over QMP: what they do, and what they are told. */
#include <string.h>

#include "base/error.h"
#include "block/job.h"
#include "vmm/blockdev/blockdev.h"
#include "vmm/core/machine.h"
#include "vmm/qmp/qmp_block.h"

const struct qmp_arg qmp_query_jobs_args[] = { { NULL } };
const struct qmp_arg qmp_query_block_jobs_args[] = { { NULL } };

struct json_object *qmp_query_jobs(struct machine *m, struct json_object *args, GError **error)
{
    return m->blockdev ? block_jobs_query(blockdev_jobs(m->blockdev)) : json_object_new_array();
}

struct json_object *qmp_query_block_jobs(struct machine *m, struct json_object *args, GError **error)
{
    return m->blockdev ? block_jobs_query_block(blockdev_jobs(m->blockdev)) : json_object_new_array();
}

static struct block_job *find(struct machine *m, struct json_object *args, GError **error)
{
    struct block_job *j = m->blockdev ? block_job_find(blockdev_jobs(m->blockdev), qmp_text(args, "id")) : NULL;
    if (!j)
        vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Job not found");
    return j;
}

/* Of the older commands, which name a job by `device` or `id`. */
static struct block_job *find_block(struct machine *m, struct json_object *args, GError **error)
{
    const char *id = qmp_text(args, "device") ? qmp_text(args, "device") : qmp_text(args, "id");
    struct block_job *j = m->blockdev ? block_job_find(blockdev_jobs(m->blockdev), id) : NULL;
    if (j && block_job_is_block(j))
        return j;
    vireo_fail(error, VIREO_ERROR_NOT_FOUND, "Block job '%s' not found", id);
    return NULL;
}

#define JOB_COMMAND(verb, ...)                                                                                             \
    const struct qmp_arg qmp_job_##verb##_args[] = { { "id", QMP_ARG_STRING }, { NULL } };                                  \
    struct json_object *qmp_job_##verb(struct machine *m, struct json_object *args, GError **error)                         \
    {                                                                                                                      \
        struct block_job *j = find(m, args, error);                                                                        \
        if (j)                                                                                                             \
            (void)!block_job_##verb(j, ##__VA_ARGS__, error);                                                              \
        return NULL;                                                                                                       \
    }
JOB_COMMAND(cancel, true)
JOB_COMMAND(pause)
JOB_COMMAND(resume)
JOB_COMMAND(complete)
JOB_COMMAND(finalize)
JOB_COMMAND(dismiss)

#define BLOCK_JOB_COMMAND(verb, key)                                                                                       \
    const struct qmp_arg qmp_block_job_##verb##_args[] = { { key, QMP_ARG_STRING }, { NULL } };                             \
    struct json_object *qmp_block_job_##verb(struct machine *m, struct json_object *args, GError **error)                   \
    {                                                                                                                      \
        struct block_job *j = find_block(m, args, error);                                                                  \
        if (j)                                                                                                             \
            (void)!block_job_##verb(j, error);                                                                             \
        return NULL;                                                                                                       \
    }
BLOCK_JOB_COMMAND(pause, "device")
BLOCK_JOB_COMMAND(resume, "device")
BLOCK_JOB_COMMAND(complete, "device")
BLOCK_JOB_COMMAND(finalize, "id")
BLOCK_JOB_COMMAND(dismiss, "id")

const struct qmp_arg qmp_block_job_cancel_args[] = { { "device", QMP_ARG_STRING }, { "force", QMP_ARG_BOOL, true }, { NULL } };
struct json_object *qmp_block_job_cancel(struct machine *m, struct json_object *args, GError **error)
{
    struct block_job *j = find_block(m, args, error);
    bool force = qmp_flag(args, "force", false);
    if (j && !force && block_job_user_paused(j))
        vireo_fail(error, VIREO_ERROR_BUSY, "The block job for device '%s' is currently paused", qmp_text(args, "device"));
    else if (j)
        (void)!block_job_cancel(j, force, error);
    return NULL;
}

const struct qmp_arg qmp_block_job_set_speed_args[] = { { "device", QMP_ARG_STRING }, { "speed", QMP_ARG_INT }, { NULL } };
struct json_object *qmp_block_job_set_speed(struct machine *m, struct json_object *args, GError **error)
{
    struct block_job *j = find_block(m, args, error);
    if (j)
        (void)!block_job_set_speed(j, qmp_number(args, "speed", 0), error);
    return NULL;
}
