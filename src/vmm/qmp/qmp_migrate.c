/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The commands of migration; what they do is in vmm/migrate. */
#include "base/error.h"
#include "vmm/core/machine.h"
#include "vmm/migrate/migrate.h"
#include "vmm/qmp/qmp.h"

const struct qmp_arg qmp_migrate_args[] = { { "uri", QMP_ARG_STRING }, { "blk", QMP_ARG_BOOL, true }, { "inc", QMP_ARG_BOOL, true }, { "detach", QMP_ARG_BOOL, true },
                                            { "resume", QMP_ARG_BOOL, true }, { NULL } };
const struct qmp_arg qmp_migrate_incoming_args[] = { { "uri", QMP_ARG_STRING }, { NULL } };
const struct qmp_arg qmp_migrate_set_capabilities_args[] = { { "capabilities", QMP_ARG_ARRAY }, { NULL } };
const struct qmp_arg qmp_migrate_continue_args[] = { { "state", QMP_ARG_STRING }, { NULL } };
const struct qmp_arg qmp_migrate_recover_args[] = { { "uri", QMP_ARG_STRING }, { NULL } };

static const char *text_of(struct json_object *args, const char *key)
{
    return json_object_get_string(json_object_object_get(args, key));
}

static bool on(struct json_object *args, const char *key)
{
    return json_object_get_boolean(json_object_object_get(args, key));
}

struct json_object *qmp_migrate(struct machine *m, struct json_object *args, GError **error)
{
    if (on(args, "blk") || on(args, "inc"))
        vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "disks are not part of the stream: mirror them to an NBD server of the other side, or share them");
    else if (on(args, "resume"))
        vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Cannot resume if there is no paused migration");
    else
        (void)!migrate_start(m, text_of(args, "uri"), error);
    return NULL;
}

struct json_object *qmp_migrate_cancel(struct machine *m, struct json_object *args, GError **error)
{
    migrate_cancel(m);
    return NULL;
}

struct json_object *qmp_migrate_incoming(struct machine *m, struct json_object *args, GError **error)
{
    (void)!migrate_incoming(m, text_of(args, "uri"), error);
    return NULL;
}

struct json_object *qmp_query_migrate(struct machine *m, struct json_object *args, GError **error)
{
    return migrate_query(m);
}

struct json_object *qmp_query_migrate_capabilities(struct machine *m, struct json_object *args, GError **error)
{
    return migrate_query_capabilities(m);
}

struct json_object *qmp_migrate_set_capabilities(struct machine *m, struct json_object *args, GError **error)
{
    struct json_object *list = json_object_object_get(args, "capabilities");
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *one = json_object_array_get_idx(list, i), *name = NULL, *state = NULL;
        bool shaped = json_object_is_type(one, json_type_object) && json_object_object_get_ex(one, "capability", &name) && json_object_object_get_ex(one, "state", &state) &&
                      json_object_is_type(name, json_type_string) && json_object_is_type(state, json_type_boolean);
        if (!shaped) {
            vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'capabilities' takes objects of a name 'capability' and a truth 'state'");
            return NULL;
        }
        if (!migrate_set_capability(m, json_object_get_string(name), json_object_get_boolean(state), error))
            return NULL;
    }
    return NULL;
}

struct json_object *qmp_query_migrate_parameters(struct machine *m, struct json_object *args, GError **error)
{
    return migrate_query_parameters(m);
}

struct json_object *qmp_migrate_set_parameters(struct machine *m, struct json_object *args, GError **error)
{
    if (args)
        (void)!migrate_set_parameters(m, args, error);
    return NULL;
}

struct json_object *qmp_migrate_continue(struct machine *m, struct json_object *args, GError **error)
{
    (void)!migrate_continue(m, text_of(args, "state"), error);
    return NULL;
}

/* What belongs to postcopy. */
struct json_object *qmp_migrate_postcopy(struct machine *m, struct json_object *args, GError **error)
{
    vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "there is no postcopy: a migration is not paused or recovered, it is begun again");
    return NULL;
}
