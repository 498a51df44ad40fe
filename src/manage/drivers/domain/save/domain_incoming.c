/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A machine takes in the state that it begins with; and one that was giving its state away when the daemon before ended keeps it. */
#include <string.h>

#include "manage/drivers/domain/command/domain_command.h"
#include "manage/drivers/domain/save/domain_save.h"

enum { FIRST_LOOK_MS = 5, LOOK_MS = 50, STOP_SECONDS = 30 };

static bool tell(struct domain *d, const char *command, struct json_object *args, const int *fd, GError **error)
{
    struct json_object *o = monitor_command_fds(d, command, args, fd, fd ? 1 : 0, error);
    json_object_put(o);
    return o != NULL;
}

static struct json_object *word(const char *key, const char *value)
{
    struct json_object *o = json_object_new_object();
    js_set(o, key, value);
    return o;
}

/* The machine's status of the transfer; false: it does not answer, or has ended. */
static bool status_of(struct domain *d, char **ret_status, char **ret_why, GError **error)
{
    struct json_object *o = monitor_command(d, "query-migrate", NULL, error);
    *ret_status = g_strdup(o ? json_object_get_string(json_object_object_get(o, "status")) : NULL);
    *ret_why = g_strdup(o ? json_object_get_string(json_object_object_get(o, "error-desc")) : NULL);
    json_object_put(o);
    return o != NULL;
}

static bool arrived(struct domain *d, GError **error)
{
    for (unsigned ms = FIRST_LOOK_MS;; ms = MIN(ms * 2, LOOK_MS)) {
        g_autofree char *status = NULL, *why = NULL;
        if (!status_of(d, &status, &why, error))
            return false;
        if (!g_strcmp0(status, "completed"))
            return true;
        if (!g_strcmp0(status, "failed") || !g_strcmp0(status, "cancelled"))
            return manage_fail(error, VIR_ERR_OPERATION_FAILED, "the machine of domain '%s' cannot go on from this state%s%s", d->name, why ? ": " : "", why ? why : "");
        g_usleep(ms * 1000);
    }
}

bool domain_take_state(struct domain *d, const char *uri, int fd, GError **error)
{
    if (fd >= 0 && !tell(d, "getfd", word("fdname", "incoming"), &fd, error))
        return false;
    return tell(d, "migrate-incoming", word("uri", fd >= 0 ? "fd:incoming" : uri), NULL, error) && arrived(d, error);
}

bool domain_stop_sending(struct domain *d, GError **error)
{
    static const char *const under_way[] = { "setup", "active", "pre-switchover", "device", "cancelling", "wait-unplug" };
    gint64 until = g_get_monotonic_time() + STOP_SECONDS * G_TIME_SPAN_SECOND;
    for (bool told = false;; told = true) {
        g_autofree char *status = NULL, *why = NULL;
        bool busy = false;
        if (!status_of(d, &status, &why, error))
            return false;
        for (unsigned i = 0; i < G_N_ELEMENTS(under_way); i++)
            busy |= !g_strcmp0(status, under_way[i]);
        if (!busy)
            return true;
        if (!told)
            (void)!tell(d, "migrate_cancel", NULL, NULL, NULL);
        if (g_get_monotonic_time() > until)
            return manage_fail(error, VIR_ERR_OPERATION_TIMEOUT, "the machine of domain '%s' does not stop sending its state", d->name);
        g_usleep(20000);
    }
}
