/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A running machine is stopped, paused, restarted: destroy, shutdown, reboot, reset, suspend, resume. */
#include <json-c/json.h>
#include <string.h>
#include <unistd.h>

#include "manage/drivers/domain/domain.h"

enum { SHUTDOWN_FLAGS = VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN | VIR_DOMAIN_SHUTDOWN_GUEST_AGENT };

/* Inside a job: a command whose answer says nothing more. */
static bool command(struct domain *d, const char *name, GError **error)
{
    struct json_object *o = monitor_command(d, name, NULL, error);
    json_object_put(o);
    return o != NULL;
}

/* The domain of a call, running, inside job `job`; domain_end() and domain_unref() must follow. */
static struct domain *begin(struct manage_call *c, const char *job, GError **error)
{
    struct domain *d = domain_of_call(c, 0, error);
    if (!d || domain_begin(d, job, true, error))
        return d;
    domain_unref(d);
    return NULL;
}

static GVariant *end(struct domain *d, bool ok)
{
    domain_end(d);
    domain_unref(d);
    return ok ? manage_void() : NULL;
}

static uint32_t flags_of(struct manage_call *c)
{
    uint32_t flags;
    g_variant_get_child(c->args, 1, "u", &flags);
    return flags;
}

/* ---- destroy ---- */

static GVariant *destroy_with(struct manage_call *c, uint32_t flags, GError **error)
{
    if (!manage_check_flags(flags, VIR_DOMAIN_DESTROY_GRACEFUL | VIR_DOMAIN_DESTROY_REMOVE_LOGS, error))
        return NULL;
    domain_auto *found = domain_of_call(c, 0, error);
    if (!found)
        return NULL;
    g_mutex_lock(&found->lock);
    bool starting = found->busy && found->id >= 0 && found->run && !found->run->ending && !(flags & VIR_DOMAIN_DESTROY_GRACEFUL);
    if (starting) {
        found->run->stop_reason = VIR_DOMAIN_SHUTOFF_DESTROYED;
        found->run->destroying = true;
    }
    g_mutex_unlock(&found->lock);
    if (starting) {
        (void)domain_write_status(found, NULL); /* a daemon that comes after us finishes it */
        (void)domain_kill(found, 2000); /* whatever the job waits for: it ends */
    }
    struct domain *d = begin(c, "destroy", starting ? NULL : error);
    if (!d) {
        if (!starting)
            return NULL;
        g_clear_error(error);
        return manage_void(); /* the job that saw the process end has cleaned up */
    }
    if ((flags & VIR_DOMAIN_DESTROY_GRACEFUL) && !domain_kill(d, -1))
        return manage_fail(error, VIR_ERR_OPERATION_FAILED, "the machine of domain '%s' does not end when asked to; leave --graceful out", d->name), end(d, false);
    domain_stop(d, VIR_DOMAIN_SHUTOFF_DESTROYED);
    if (flags & VIR_DOMAIN_DESTROY_REMOVE_LOGS) {
        g_autofree char *log = g_strdup_printf("%s/%s.log", d->driver->log_dir, d->name);
        unlink(log);
    }
    return end(d, true);
}

static GVariant *destroy(struct manage_call *c, GError **error) { return destroy_with(c, 0, error); }
static GVariant *destroy_flags(struct manage_call *c, GError **error) { return destroy_with(c, flags_of(c), error); }

/* ---- shutdown and reboot ---- */

static void rebooting(struct domain *d, bool on)
{
    g_mutex_lock(&d->lock);
    if (d->run)
        d->run->fake_reboot = on;
    g_mutex_unlock(&d->lock);
    (void)!domain_write_status(d, NULL);
}

/* By the agent where it was asked for, or is there and nothing was asked for; else by the power button. */
static bool power(struct domain *d, uint32_t flags, bool reboot, GError **error)
{
    bool agent = (flags & VIR_DOMAIN_SHUTDOWN_GUEST_AGENT) || (!flags && domain_agent_ready(d));
    if (agent) {
        g_autoptr(GError) e = NULL;
        rebooting(d, false); /* the guest resets by itself */
        if (domain_agent_shutdown(d, reboot, &e))
            return true;
        if (!(flags & VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN) && flags) {
            g_propagate_error(error, g_steal_pointer(&e));
            return false;
        }
    }
    rebooting(d, reboot);
    return command(d, "system_powerdown", error);
}

static GVariant *shutdown_with(struct manage_call *c, uint32_t flags, bool reboot, GError **error)
{
    static const uint32_t others = VIR_DOMAIN_SHUTDOWN_INITCTL | VIR_DOMAIN_SHUTDOWN_SIGNAL | VIR_DOMAIN_SHUTDOWN_PARAVIRT;
    if (flags & others & ~SHUTDOWN_FLAGS)
        return manage_null(error, VIR_ERR_INVALID_ARG, "unsupported flags (0x%x): a machine is asked by ACPI or by the guest agent", flags & others);
    if (!manage_check_flags(flags, SHUTDOWN_FLAGS, error))
        return NULL;
    struct domain *d = begin(c, reboot ? "reboot" : "shutdown", error);
    return d ? end(d, power(d, flags, reboot, error)) : NULL;
}

static GVariant *shutdown_plain(struct manage_call *c, GError **error) { return shutdown_with(c, 0, false, error); }
static GVariant *shutdown_flags(struct manage_call *c, GError **error) { return shutdown_with(c, flags_of(c), false, error); }
static GVariant *reboot(struct manage_call *c, GError **error) { return shutdown_with(c, flags_of(c), true, error); }

static GVariant *reset(struct manage_call *c, GError **error)
{
    if (!manage_check_flags(flags_of(c), 0, error))
        return NULL;
    struct domain *d = begin(c, "reset", error);
    if (!d)
        return NULL;
    rebooting(d, false);
    bool ok = command(d, "system_reset", error);
    if (ok && d->state == VIR_DOMAIN_CRASHED)
        domain_set_state(d, VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_UNKNOWN, -1, 0);
    return end(d, ok);
}

/* ---- suspend and resume ---- */

static GVariant *suspend(struct manage_call *c, GError **error)
{
    struct domain *d = begin(c, "suspend", error);
    if (!d)
        return NULL;
    if (d->state == VIR_DOMAIN_PMSUSPENDED)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "domain is pmsuspended"), end(d, false);
    if (d->state == VIR_DOMAIN_PAUSED)
        return end(d, true);
    int state = d->state, reason = d->reason;
    g_mutex_lock(&d->lock);
    d->state = VIR_DOMAIN_PAUSED; /* before its STOP arrives, which is told here */
    d->reason = VIR_DOMAIN_PAUSED_USER;
    g_mutex_unlock(&d->lock);
    bool ok = command(d, "stop", error);
    if (ok)
        domain_set_state(d, VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_USER, VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_PAUSED);
    else
        domain_set_state(d, state, reason, -1, 0);
    return end(d, ok);
}

static GVariant *resume(struct manage_call *c, GError **error)
{
    struct domain *d = begin(c, "resume", error);
    if (!d)
        return NULL;
    if (d->state == VIR_DOMAIN_PMSUSPENDED)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "domain is pmsuspended"), end(d, false);
    if (d->state == VIR_DOMAIN_RUNNING)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "domain is already running"), end(d, false);
    int state = d->state, reason = d->reason;
    g_mutex_lock(&d->lock);
    d->state = VIR_DOMAIN_RUNNING;
    d->reason = VIR_DOMAIN_RUNNING_UNPAUSED;
    g_mutex_unlock(&d->lock);
    bool ok = command(d, "cont", error);
    if (ok)
        domain_set_state(d, VIR_DOMAIN_RUNNING, VIR_DOMAIN_RUNNING_UNPAUSED, VIR_DOMAIN_EVENT_RESUMED, VIR_DOMAIN_EVENT_RESUMED_UNPAUSED);
    else
        domain_set_state(d, state, reason, -1, 0);
    return end(d, ok);
}

/* ---- signals to the machine ---- */

static GVariant *inject_nmi(struct manage_call *c, GError **error)
{
    if (!manage_check_flags(flags_of(c), 0, error))
        return NULL;
    struct domain *d = begin(c, "inject NMI", error);
    return d ? end(d, command(d, "inject-nmi", error)) : NULL;
}

static GVariant *pm_wakeup(struct manage_call *c, GError **error)
{
    if (!manage_check_flags(flags_of(c), 0, error))
        return NULL;
    struct domain *d = begin(c, "wake up", error);
    g_autoptr(GMutexLocker) lock = d ? g_mutex_locker_new(&d->lock) : NULL;
    bool asleep = d && d->state == VIR_DOMAIN_PMSUSPENDED;
    g_clear_pointer(&lock, g_mutex_locker_free);
    if (d && !asleep)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "Unable to wake up: guest is not in suspended state"), end(d, false);
    return d ? end(d, command(d, "system_wakeup", error)) : NULL;
}

/* ---- encrypted memory ---- */

/* No guest here has encrypted memory: nothing is told of its launch, as by libvirtd of such a guest. */
static GVariant *launch_security(struct manage_call *c, GError **error)
{
    domain_auto *d = domain_of_call(c, 0, error);
    return d && manage_check_flags(flags_of(c), VIR_TYPED_PARAM_STRING_OKAY, error) ? g_variant_new("(@a(sv))", g_variant_new_array(G_VARIANT_TYPE("(sv)"), NULL, 0)) : NULL;
}

static GVariant *set_launch_security(struct manage_call *c, GError **error)
{
    return manage_null(error, VIR_ERR_OPERATION_UNSUPPORTED, "setting a launch secret is only for guests with encrypted memory (SEV), which vireo does not start");
}

const struct manage_row domain_rows_life[] = {
    { RPC_DOMAIN_GET_LAUNCH_SECURITY_INFO, launch_security },
    { RPC_DOMAIN_SET_LAUNCH_SECURITY_STATE, set_launch_security },
    { RPC_DOMAIN_DESTROY, destroy },
    { RPC_DOMAIN_DESTROY_FLAGS, destroy_flags },
    { RPC_DOMAIN_SHUTDOWN, shutdown_plain },
    { RPC_DOMAIN_SHUTDOWN_FLAGS, shutdown_flags },
    { RPC_DOMAIN_REBOOT, reboot },
    { RPC_DOMAIN_RESET, reset },
    { RPC_DOMAIN_SUSPEND, suspend },
    { RPC_DOMAIN_RESUME, resume },
    { RPC_DOMAIN_INJECT_NMI, inject_nmi },
    { RPC_DOMAIN_PM_WAKEUP, pm_wakeup },
    { 0, NULL },
};
