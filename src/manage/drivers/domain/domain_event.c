/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the machine tells (QMP events) becomes state and libvirt events. The monitor calls domain_on_event() on the main loop, which only passes it on: the work is
 * done in order by a worker, where it may write files and send commands.
 */
#include <json-c/json.h>
#include <string.h>

#include "manage/drivers/domain/domain.h"
#include "manage/drivers/domain/block/domain_blockjob.h"
#include "manage/drivers/domain/migrate/domain_migrate.h"
#include "manage/drivers/domain/save/domain_dump.h"

/* ---- sending ---- */

static void send_event(struct domain *d, unsigned id, GVariant *body) { manage_event(d->driver->state, MANAGE_DOMAIN, id, d->uuid, sizeof(d->uuid), body); }

void domain_event(struct domain *d, int event, int detail)
{
    if (manage_event_wanted(d->driver->state, MANAGE_DOMAIN, VIR_DOMAIN_EVENT_ID_LIFECYCLE))
        send_event(d, VIR_DOMAIN_EVENT_ID_LIFECYCLE, g_variant_new("(@(sayi)ii)", domain_variant(d), event, detail));
}

void domain_set_state(struct domain *d, int state, int reason, int event, int detail)
{
    g_autoptr(GError) error = NULL;
    g_mutex_lock(&d->lock);
    d->state = state;
    d->reason = reason;
    if (d->run)
        d->run->us = g_get_monotonic_time();
    g_mutex_unlock(&d->lock);
    if (!domain_write_status(d, &error))
        g_warning("domain '%s': its state cannot be noted: %s", d->name, error->message);
    if (event >= 0)
        domain_event(d, event, detail);
}

/* ---- state ---- */

static const struct { const char *qmp; int state, reason; } statuses[] = {
    { "running", VIR_DOMAIN_RUNNING, VIR_DOMAIN_RUNNING_UNKNOWN },
    { "paused", VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_UNKNOWN },
    { "prelaunch", VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_USER },
    { "inmigrate", VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_MIGRATION },
    { "io-error", VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_IOERROR },
    { "watchdog", VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_WATCHDOG },
    { "postmigrate", VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_MIGRATION },
    { "finish-migrate", VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_MIGRATION },
    { "save-vm", VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_SNAPSHOT },
    { "restore-vm", VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_SNAPSHOT },
    { "guest-panicked", VIR_DOMAIN_CRASHED, VIR_DOMAIN_CRASHED_PANICKED },
    { "shutdown", VIR_DOMAIN_SHUTDOWN, VIR_DOMAIN_SHUTDOWN_UNKNOWN },
    { "suspended", VIR_DOMAIN_PMSUSPENDED, VIR_DOMAIN_PMSUSPENDED_UNKNOWN },
};

static void powered_down(struct domain *d);

/* A machine that was attached again tells what it does now. One that has shut down in between is ended like one that tells us. */
bool domain_read_state(struct domain *d, GError **error)
{
    struct json_object *o = monitor_command(d, "query-status", NULL, error);
    const char *status = o ? json_object_get_string(json_object_object_get(o, "status")) : NULL;
    for (unsigned i = 0; status && i < G_N_ELEMENTS(statuses); i++) {
        if (strcmp(status, statuses[i].qmp))
            continue;
        if (d->state != statuses[i].state)
            domain_set_state(d, statuses[i].state, statuses[i].reason, -1, 0);
        if (statuses[i].state == VIR_DOMAIN_SHUTDOWN)
            powered_down(d);
    }
    json_object_put(o);
    return status != NULL;
}

/* ---- shutdown and reset ---- */

static bool command(struct domain *d, const char *name)
{
    g_autoptr(GError) error = NULL;
    struct json_object *o = monitor_command(d, name, NULL, &error);
    if (!o)
        g_warning("domain '%s': %s", d->name, error->message);
    json_object_put(o);
    return o != NULL;
}

static void start_over(struct domain *d)
{
    g_mutex_lock(&d->lock);
    if (d->run)
        d->run->fake_reboot = d->run->powered_down = false;
    g_mutex_unlock(&d->lock);
    if (command(d, "system_reset") && command(d, "cont"))
        domain_set_state(d, VIR_DOMAIN_RUNNING, VIR_DOMAIN_RUNNING_BOOTED, -1, 0);
}

/* What <on_poweroff>, <on_reboot>, <on_crash> say; "destroy" where nothing is said of the first and the last. */
static char *action(struct domain *d, const char *which)
{
    g_mutex_lock(&d->lock);
    char *what = g_strdup(d->live ? el_get_or(doc_root(d->live), which, strcmp(which, "on_reboot") ? "destroy" : "restart") : "destroy");
    g_mutex_unlock(&d->lock);
    return what;
}

/* The guest has powered itself off; the process stays (-no-shutdown) until we say what is to become of it. A restart that was asked for is one unless
 * reboots are to be the end. Inside a job. */
static void powered_down(struct domain *d)
{
    g_mutex_lock(&d->lock);
    bool reboot = d->run && d->run->fake_reboot, guest = d->run && d->run->shutdown_by_guest;
    g_mutex_unlock(&d->lock);
    g_autofree char *what = action(d, reboot ? "on_reboot" : "on_poweroff");
    if (!strcmp(what, "restart"))
        start_over(d);
    else if (strcmp(what, "preserve") || !guest)
        domain_stop(d, VIR_DOMAIN_SHUTOFF_SHUTDOWN);
}

static void on_shutdown(struct domain *d, struct json_object *data)
{
    const char *why = json_object_get_string(json_object_object_get(data, "reason"));
    bool guest = json_object_get_boolean(json_object_object_get(data, "guest"));
    g_mutex_lock(&d->lock);
    struct domain_run *run = d->run;
    bool again = run && run->powered_down, reboot = run && run->fake_reboot;
    if (run) {
        run->powered_down = !why || strcmp(why, "guest-panic");
        run->shutdown_by_guest = guest;
    }
    g_mutex_unlock(&d->lock);
    if (!run || again || (why && (!strcmp(why, "host-signal") || !strcmp(why, "guest-panic"))))
        return; /* its process is ending: seen there; or on_panic() has seen to it */
    if (!reboot)
        domain_set_state(d, VIR_DOMAIN_SHUTDOWN, VIR_DOMAIN_SHUTDOWN_UNKNOWN, VIR_DOMAIN_EVENT_SHUTDOWN,
                         guest ? VIR_DOMAIN_EVENT_SHUTDOWN_GUEST : VIR_DOMAIN_EVENT_SHUTDOWN_HOST);
    domain_begin_wait(d, "shutdown");
    if (d->run == run && why && strstr(why, "-reset")) /* -no-reboot: it was to reset */
        domain_stop(d, VIR_DOMAIN_SHUTOFF_SHUTDOWN);
    else if (d->run == run)
        powered_down(d);
    domain_end(d);
}

static void on_reset(struct domain *d, struct json_object *data)
{
    struct domain_run *run = d->run;
    g_autofree char *what = action(d, "on_reboot");
    send_event(d, VIR_DOMAIN_EVENT_ID_REBOOT, g_variant_new("(@(sayi))", domain_variant(d)));
    if (strcmp(what, "destroy") || !json_object_get_boolean(json_object_object_get(data, "guest")))
        return;
    domain_begin_wait(d, "reset");
    if (d->run == run && run)
        domain_stop(d, VIR_DOMAIN_SHUTOFF_SHUTDOWN);
    domain_end(d);
}

/* <on_crash>: coredump-* end like the action in their name, after the dump. */
static void on_panic(struct domain *d, struct json_object *data)
{
    struct domain_run *run = d->run;
    g_autofree char *what = action(d, "on_crash");
    domain_set_state(d, VIR_DOMAIN_CRASHED, VIR_DOMAIN_CRASHED_PANICKED, VIR_DOMAIN_EVENT_CRASHED, VIR_DOMAIN_EVENT_CRASHED_PANICKED);
    domain_log(d, "the guest has panicked");
    domain_begin_wait(d, "crash");
    if (d->run == run && run && g_str_has_prefix(what, "coredump-"))
        domain_dump_of_crash(d);
    if (d->run == run && run && g_str_has_suffix(what, "restart"))
        start_over(d);
    else if (d->run == run && run && strcmp(what, "preserve"))
        domain_stop(d, VIR_DOMAIN_SHUTOFF_CRASHED);
    domain_end(d);
}

/* ---- running and paused ---- */

/* Events are worked on after commands that came later have had their effect: the machine is asked what is true now. */
static bool runs(struct domain *d)
{
    struct json_object *o = monitor_command(d, "query-status", NULL, NULL);
    bool yes = o && json_object_get_boolean(json_object_object_get(o, "running"));
    json_object_put(o);
    return yes;
}

static void on_stop(struct domain *d, struct json_object *data)
{
    if (domain_migrate_on_stop(d))
        return;
    g_mutex_lock(&d->lock);
    bool news = d->state == VIR_DOMAIN_RUNNING;
    g_mutex_unlock(&d->lock);
    if (news && !runs(d)) /* suspend says so itself before */
        domain_set_state(d, VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_UNKNOWN, VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_PAUSED);
}

static void on_resume(struct domain *d, struct json_object *data)
{
    if (domain_migrate_on_resume(d))
        return;
    g_mutex_lock(&d->lock);
    bool news = d->state == VIR_DOMAIN_PAUSED && d->reason != VIR_DOMAIN_PAUSED_STARTING_UP;
    g_mutex_unlock(&d->lock);
    if (news && runs(d))
        domain_set_state(d, VIR_DOMAIN_RUNNING, VIR_DOMAIN_RUNNING_UNPAUSED, VIR_DOMAIN_EVENT_RESUMED, VIR_DOMAIN_EVENT_RESUMED_UNPAUSED);
}

/* ---- devices ---- */

static const char *text(struct json_object *data, const char *name)
{
    const char *s = json_object_get_string(json_object_object_get(data, name));
    return s && g_utf8_validate(s, -1, NULL) ? s : "";
}

/* The device of a disk: alias and path of its image, from what the machine names (a qdev id, a path in its tree, a drive or node name). */
static void find_disk(struct domain *d, const char *device, const char *node, char **ret_alias, char **ret_path, char **ret_target)
{
    *ret_alias = g_strdup(device);
    *ret_path = g_strdup("");
    *ret_target = NULL;
    g_mutex_lock(&d->lock);
    struct el *devices = d->live ? el_find(doc_root(d->live), "devices") : NULL;
    el_each(disk, devices, "disk") {
        const char *alias = el_get(disk, "alias/@name");
        if (!alias || !(strstr(device, alias) || (*node && strstr(node, alias))))
            continue;
        g_free(*ret_alias);
        g_free(*ret_path);
        *ret_alias = g_strdup(alias);
        const char *path = el_get(disk, "source/@file");
        path = path ? path : el_get(disk, "source/@dev");
        *ret_path = g_strdup(path ? path : "");
        *ret_target = g_strdup(el_get(disk, "target/@dev"));
        break;
    }
    g_mutex_unlock(&d->lock);
}

static void on_io_error(struct domain *d, struct json_object *data)
{
    g_autofree char *alias = NULL, *path = NULL, *target = NULL;
    const char *what = text(data, "action"), *reason = json_object_get_boolean(json_object_object_get(data, "nospace")) ? "enospc" : "";
    int act = !strcmp(what, "stop") ? VIR_DOMAIN_EVENT_IO_ERROR_PAUSE : !strcmp(what, "report") ? VIR_DOMAIN_EVENT_IO_ERROR_REPORT : VIR_DOMAIN_EVENT_IO_ERROR_NONE;
    const char *named = json_object_object_get(data, "qom-path") ? text(data, "qom-path") : text(data, "device");
    find_disk(d, named, text(data, "node-name"), &alias, &path, &target);
    send_event(d, VIR_DOMAIN_EVENT_ID_IO_ERROR, g_variant_new("(@(sayi)ssi)", domain_variant(d), path, alias, act));
    send_event(d, VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON, g_variant_new("(@(sayi)ssis)", domain_variant(d), path, alias, act, reason));
    if (act == VIR_DOMAIN_EVENT_IO_ERROR_PAUSE)
        domain_set_state(d, VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_IOERROR, VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_IOERROR);
}

static void on_rtc(struct domain *d, struct json_object *data)
{
    send_event(d, VIR_DOMAIN_EVENT_ID_RTC_CHANGE, g_variant_new("(@(sayi)x)", domain_variant(d), json_object_get_int64(json_object_object_get(data, "offset"))));
}

static void on_watchdog(struct domain *d, struct json_object *data)
{
    static const char *const actions[] = { "none", "pause", "reset", "poweroff", "shutdown", "debug", "inject-nmi" }; /* virDomainEventWatchdogAction */
    const char *what = text(data, "action");
    for (int i = 0; i < (int)G_N_ELEMENTS(actions); i++)
        if (!strcmp(what, actions[i]))
            send_event(d, VIR_DOMAIN_EVENT_ID_WATCHDOG, g_variant_new("(@(sayi)i)", domain_variant(d), i));
    if (!strcmp(what, "pause"))
        domain_set_state(d, VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_WATCHDOG, VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG);
}

static void on_tray(struct domain *d, struct json_object *data)
{
    g_autofree char *alias = NULL, *path = NULL, *target = NULL;
    find_disk(d, json_object_object_get(data, "id") ? text(data, "id") : text(data, "device"), "", &alias, &path, &target);
    int reason = json_object_get_boolean(json_object_object_get(data, "tray-open")) ? VIR_DOMAIN_EVENT_TRAY_CHANGE_OPEN : VIR_DOMAIN_EVENT_TRAY_CHANGE_CLOSE;
    send_event(d, VIR_DOMAIN_EVENT_ID_TRAY_CHANGE, g_variant_new("(@(sayi)si)", domain_variant(d), alias, reason));
}

static void on_balloon(struct domain *d, struct json_object *data)
{
    uint64_t kib = (uint64_t)json_object_get_int64(json_object_object_get(data, "actual")) >> 10;
    g_mutex_lock(&d->lock);
    d->balloon_kib = kib;
    g_mutex_unlock(&d->lock);
    send_event(d, VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE, g_variant_new("(@(sayi)t)", domain_variant(d), kib));
}

/* A port of a virtio console was opened or closed in the guest: the agent's tells whether it is there. */
static void on_vserport(struct domain *d, struct json_object *data)
{
    const char *id = text(data, "id");
    bool open = json_object_get_boolean(json_object_object_get(data, "open")), agent = false;
    g_mutex_lock(&d->lock);
    struct el *devices = d->live ? el_find(doc_root(d->live), "devices") : NULL;
    el_each(channel, devices, "channel") {
        if (!el_is(channel, "alias/@name", id))
            continue;
        el_set(channel, "target/@state", open ? "connected" : "disconnected");
        agent = el_is(channel, "target/@name", "org.qemu.guest_agent.0");
    }
    g_mutex_unlock(&d->lock);
    (void)!domain_write_status(d, NULL);
    if (agent)
        send_event(d, VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE,
                   g_variant_new("(@(sayi)ii)", domain_variant(d), open ? VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED : VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_DISCONNECTED,
                                 VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_REASON_CHANNEL));
}

static void on_threshold(struct domain *d, struct json_object *data)
{
    g_autofree char *alias = NULL, *path = NULL, *target = NULL;
    const char *node = text(data, "node-name");
    find_disk(d, node, node, &alias, &path, &target);
    send_event(d, VIR_DOMAIN_EVENT_ID_BLOCK_THRESHOLD,
               g_variant_new("(@(sayi)smstt)", domain_variant(d), target ? target : node, *path ? path : NULL,
                             (uint64_t)json_object_get_int64(json_object_object_get(data, "write-threshold")),
                             (uint64_t)json_object_get_int64(json_object_object_get(data, "amount-exceeded"))));
}

static void on_memory_size(struct domain *d, struct json_object *data)
{
    send_event(d, VIR_DOMAIN_EVENT_ID_MEMORY_DEVICE_SIZE_CHANGE,
               g_variant_new("(@(sayi)st)", domain_variant(d), text(data, "id"), (uint64_t)json_object_get_int64(json_object_object_get(data, "size")) >> 10));
}

/* A device has left the machine: it leaves the live document. */
static void on_deleted(struct domain *d, struct json_object *data)
{
    const char *alias = text(data, "device");
    if (!*alias)
        return; /* a part of a device, without a name of its own */
    domain_device_deleted(d, alias);
    send_event(d, VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, g_variant_new("(@(sayi)s)", domain_variant(d), alias));
}

static void on_unplug_error(struct domain *d, struct json_object *data)
{
    send_event(d, VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED, g_variant_new("(@(sayi)s)", domain_variant(d), text(data, "device")));
}

static void on_job(struct domain *d, struct json_object *data) { domain_blockjob_changed(d, text(data, "id"), text(data, "status")); }

/* ---- viewers ---- */

static void tell_viewer(struct domain *d, int phase, struct json_object *data) { send_event(d, VIR_DOMAIN_EVENT_ID_GRAPHICS, domain_viewer_event(d, phase, data)); }
static void on_viewer_connect(struct domain *d, struct json_object *data) { tell_viewer(d, VIR_DOMAIN_EVENT_GRAPHICS_CONNECT, data); }
static void on_viewer_ready(struct domain *d, struct json_object *data) { tell_viewer(d, VIR_DOMAIN_EVENT_GRAPHICS_INITIALIZE, data); }
static void on_viewer_gone(struct domain *d, struct json_object *data) { tell_viewer(d, VIR_DOMAIN_EVENT_GRAPHICS_DISCONNECT, data); }

/* ---- all of them ---- */

static const struct { const char *name; void (*fn)(struct domain *d, struct json_object *data); } events[] = {
    { "SHUTDOWN", on_shutdown },
    { "RESET", on_reset },
    { "STOP", on_stop },
    { "RESUME", on_resume },
    { "GUEST_PANICKED", on_panic },
    { "BLOCK_IO_ERROR", on_io_error },
    { "RTC_CHANGE", on_rtc },
    { "WATCHDOG", on_watchdog },
    { "DEVICE_TRAY_MOVED", on_tray },
    { "BALLOON_CHANGE", on_balloon },
    { "VSERPORT_CHANGE", on_vserport },
    { "BLOCK_WRITE_THRESHOLD", on_threshold },
    { "MEMORY_DEVICE_SIZE_CHANGE", on_memory_size },
    { "DEVICE_DELETED", on_deleted },
    { "DEVICE_UNPLUG_GUEST_ERROR", on_unplug_error },
    { "JOB_STATUS_CHANGE", on_job },
    { "VNC_CONNECTED", on_viewer_connect },
    { "VNC_INITIALIZED", on_viewer_ready },
    { "VNC_DISCONNECTED", on_viewer_gone },
};

struct told {
    char *name;
    struct json_object *data;
    const struct domain_run *run;
    gint64 us;
};

/* For clients of the qemu program, as it was said. */
static void pass_on(struct domain *d, const struct told *t)
{
    if (!manage_event_wanted(d->driver->state, MANAGE_MONITOR, 0))
        return;
    const char *data = t->data ? json_object_to_json_string_ext(t->data, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE) : NULL;
    manage_event(d->driver->state, MANAGE_MONITOR, 0, d->uuid, sizeof(d->uuid),
                 g_variant_new("(@(sayi)sxums)", domain_variant(d), t->name, (gint64)(t->us / G_USEC_PER_SEC), (guint32)(t->us % G_USEC_PER_SEC), data));
}

static void work(struct domain *d, void *opaque)
{
    struct told *t = opaque;
    pass_on(d, t);
    g_mutex_lock(&d->lock);
    bool current = d->run == t->run;
    g_mutex_unlock(&d->lock);
    for (unsigned i = 0; current && i < G_N_ELEMENTS(events); i++)
        if (!strcmp(t->name, events[i].name))
            events[i].fn(d, t->data);
    json_object_put(t->data);
    g_free(t->name);
    g_free(t);
}

void domain_on_event(struct domain *d, const char *name, struct json_object *data, gint64 us)
{
    g_mutex_lock(&d->lock);
    struct domain_run *run = d->run;
    bool ending = !run || run->ending;
    g_mutex_unlock(&d->lock);
    if (!run || g_atomic_int_get(&d->driver->stopping))
        return;
    if (!name) {
        if (!ending)
            domain_queue(d, domain_monitor_lost, run);
        return;
    }
    struct told *t = g_new0(struct told, 1);
    *t = (struct told){ g_strdup(name), NULL, run, us };
    if (data)
        json_object_deep_copy(data, &t->data, NULL); /* its own: reference counts of json-c are not for two threads */
    domain_queue(d, work, t);
}
