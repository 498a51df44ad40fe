/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Waiting for events: one line each, until the first, ^C or --timeout. The event loop's thread calls back; this one waits. */
#include "vireo_commands.h"
#include "vireo_domain.h"

#include "base/json.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* A signal handler has no argument: one flag for the process. */
static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal)
{
    interrupted = 1;
}

bool vireo_interrupted(void)
{
    return interrupted;
}

void vireo_catch_interrupt(bool on)
{
    struct sigaction action = {.sa_handler = on ? on_interrupt : SIG_DFL};
    if (on)
        interrupted = 0;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL); /* the terminal has gone */
}

struct watch {
    struct call *c;
    bool loop, stamp;
    gint count; /* atomic */
};

/* One registered kind: what the callback needs to know. */
struct kind {
    struct watch *watch;
    const char *name;
    int id;
};

static const char *text_of(const char *const *names, unsigned n, int i)
{
    return i >= 0 && i < (int)n && names[i] ? names[i] : "unknown";
}
#define TEXT_OF(list, i) text_of(list, G_N_ELEMENTS(list), i)

static void event_line(struct watch *w, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void event_line(struct watch *w, const char *format, ...)
{
    if (!w->loop && g_atomic_int_get(&w->count))
        return;
    va_list ap;
    va_start(ap, format);
    g_autofree char *text = g_strdup_vprintf(format, ap);
    va_end(ap);
    g_autofree char *now = w->stamp ? now_text() : NULL;
    printf("%s%s%s", now ? now : "", now ? ": " : "", text);
    fflush(stdout);
    g_atomic_int_inc(&w->count);
}

static int on_lifecycle(virConnectPtr connection, virDomainPtr domain, int event, int detail, void *opaque)
{
    static const char *const events[] = {"Defined", "Undefined", "Started", "Suspended", "Resumed", "Stopped", "Shutdown", "PMSuspended", "Crashed"};
    static const char *const details[][9] = {{"Added", "Updated", "Renamed", "Snapshot"}, {"Removed", "Renamed"},
        {"Booted", "Migrated", "Restored", "Snapshot", "Event wakeup"},
        {"Paused", "Migrated", "I/O Error", "Watchdog", "Restored", "Snapshot", "API error", "Post-copy", "Post-copy Error"},
        {"Unpaused", "Migrated", "Snapshot", "Post-copy", "Post-copy Error"},
        {"Shutdown", "Destroyed", "Crashed", "Migrated", "Saved", "Failed", "Snapshot", "Daemon"}, {"Finished", "Guest request", "Host request"},
        {"Memory", "Disk"}, {"Panicked", "Crashloaded"}};
    struct kind *k = opaque;
    const char *why = event >= 0 && event < (int)G_N_ELEMENTS(details) ? TEXT_OF(details[event], detail) : "unknown";
    event_line(k->watch, "event 'lifecycle' for domain '%s': %s %s\n", virDomainGetName(domain), TEXT_OF(events, event), why);
    return 0;
}

static void on_plain(virConnectPtr connection, virDomainPtr domain, void *opaque)
{
    struct kind *k = opaque;
    event_line(k->watch, "event '%s' for domain '%s'\n", k->name, virDomainGetName(domain));
}

static void on_rtc(virConnectPtr connection, virDomainPtr domain, long long offset, void *opaque)
{
    struct kind *k = opaque;
    event_line(k->watch, "event 'rtc-change' for domain '%s': %lld\n", virDomainGetName(domain), offset);
}

static void on_watchdog(virConnectPtr connection, virDomainPtr domain, int action, void *opaque)
{
    static const char *const actions[] = {"none", "pause", "reset", "poweroff", "shutdown", "debug", "inject-nmi"};
    struct kind *k = opaque;
    event_line(k->watch, "event 'watchdog' for domain '%s': %s\n", virDomainGetName(domain), TEXT_OF(actions, action));
}

static const char *const io_actions[] = {"none", "pause", "report"};

static void on_io_error(virConnectPtr connection, virDomainPtr domain, const char *path, const char *alias, int action, void *opaque)
{
    struct kind *k = opaque;
    event_line(k->watch, "event 'io-error' for domain '%s': %s (%s) %s\n", virDomainGetName(domain), path, alias, TEXT_OF(io_actions, action));
}

static void on_io_reason(virConnectPtr connection, virDomainPtr domain, const char *path, const char *alias, int action, const char *reason, void *opaque)
{
    struct kind *k = opaque;
    event_line(k->watch, "event 'io-error-reason' for domain '%s': %s (%s) %s due to %s\n", virDomainGetName(domain), path, alias, TEXT_OF(io_actions, action), reason);
}

static void on_graphics(virConnectPtr connection, virDomainPtr domain, int phase, const virDomainEventGraphicsAddress *local,
    const virDomainEventGraphicsAddress *remote, const char *scheme, const virDomainEventGraphicsSubject *subject, void *opaque)
{
    static const char *const phases[] = {"connect", "initialize", "disconnect"};
    static const char *const families[] = {"IPv4", "IPv6", "unix"};
    struct kind *k = opaque;
    g_autoptr(GString) s = g_string_new(NULL);
    g_string_append_printf(s, "event 'graphics' for domain '%s': %s local[%s %s %s] remote[%s %s %s] %s\n", virDomainGetName(domain), TEXT_OF(phases, phase),
        TEXT_OF(families, local->family), local->node, local->service, TEXT_OF(families, remote->family), remote->node, remote->service, scheme);
    for (int i = 0; i < subject->nidentity; i++)
        g_string_append_printf(s, "\t%s=%s\n", subject->identities[i].type, subject->identities[i].name);
    event_line(k->watch, "%s", s->str);
}

static void on_block_job(virConnectPtr connection, virDomainPtr domain, const char *disk, int type, int status, void *opaque)
{
    static const char *const types[] = {"Unknown job", "Block Pull", "Block Copy", "Block Commit", "Active Block Commit", "Backup"};
    static const char *const states[] = {"completed", "failed", "canceled", "ready"};
    struct kind *k = opaque;
    event_line(k->watch, "event '%s' for domain '%s': %s for %s %s\n", k->name, virDomainGetName(domain), TEXT_OF(types, type), disk, TEXT_OF(states, status));
}

static void on_disk_change(virConnectPtr connection, virDomainPtr domain, const char *before, const char *after, const char *alias, int reason, void *opaque)
{
    static const char *const reasons[] = {"missing on start", "dropped for missing on start"};
    struct kind *k = opaque;
    event_line(k->watch, "event 'disk-change' for domain '%s' disk %s: %s -> %s: %s\n", virDomainGetName(domain), alias, before ? before : "", after ? after : "",
        reason == 0 ? "changed" : reason == 1 ? "dropped" : TEXT_OF(reasons, reason));
}

static void on_tray(virConnectPtr connection, virDomainPtr domain, const char *alias, int reason, void *opaque)
{
    static const char *const reasons[] = {"opened", "closed"};
    struct kind *k = opaque;
    event_line(k->watch, "event 'tray-change' for domain '%s' disk %s: %s\n", virDomainGetName(domain), alias, TEXT_OF(reasons, reason));
}

static void on_reason(virConnectPtr connection, virDomainPtr domain, int reason, void *opaque)
{
    struct kind *k = opaque;
    event_line(k->watch, "event '%s' for domain '%s'\n", k->name, virDomainGetName(domain));
}

static void on_balloon(virConnectPtr connection, virDomainPtr domain, unsigned long long actual, void *opaque)
{
    struct kind *k = opaque;
    event_line(k->watch, "event 'balloon-change' for domain '%s': %lluKiB\n", virDomainGetName(domain), actual);
}

static void on_device(virConnectPtr connection, virDomainPtr domain, const char *alias, void *opaque)
{
    struct kind *k = opaque;
    event_line(k->watch, "event '%s' for domain '%s': %s\n", k->name, virDomainGetName(domain), alias);
}

static void params_event(struct kind *k, virDomainPtr domain, virTypedParameterPtr params, int n)
{
    g_autoptr(GString) s = g_string_new(NULL);
    g_string_append_printf(s, "event '%s' for domain '%s':\n", k->name, virDomainGetName(domain));
    for (int i = 0; i < n; i++) {
        g_autofree char *text = param_text(&params[i]);
        g_string_append_printf(s, "\t%s: %s\n", params[i].field, text);
    }
    event_line(k->watch, "%s", s->str);
}

static void on_tunable(virConnectPtr connection, virDomainPtr domain, virTypedParameterPtr params, int n, void *opaque)
{
    params_event(opaque, domain, params, n);
}

static void on_agent(virConnectPtr connection, virDomainPtr domain, int state, int reason, void *opaque)
{
    static const char *const states[] = {NULL, "connected", "disconnected"};
    static const char *const reasons[] = {"unknown", "domain started", "channel event"};
    struct kind *k = opaque;
    event_line(k->watch, "event 'agent-lifecycle' for domain '%s': state: '%s' reason: '%s'\n", virDomainGetName(domain), TEXT_OF(states, state), TEXT_OF(reasons, reason));
}

static void on_iteration(virConnectPtr connection, virDomainPtr domain, int iteration, void *opaque)
{
    struct kind *k = opaque;
    event_line(k->watch, "event 'migration-iteration' for domain '%s': iteration: '%d'\n", virDomainGetName(domain), iteration);
}

static void on_metadata(virConnectPtr connection, virDomainPtr domain, int type, const char *uri, void *opaque)
{
    static const char *const types[] = {"description", "title", "element"};
    struct kind *k = opaque;
    event_line(k->watch, "event 'metadata-change' for domain '%s': type %s, uri %s\n", virDomainGetName(domain), TEXT_OF(types, type), uri ? uri : "");
}

static void on_threshold(virConnectPtr connection, virDomainPtr domain, const char *disk, const char *path, unsigned long long threshold, unsigned long long excess, void *opaque)
{
    struct kind *k = opaque;
    event_line(k->watch, "event 'block-threshold' for domain '%s': dev: %s(%s) %llu %llu\n", virDomainGetName(domain), disk, path ? path : "", threshold, excess);
}

static void on_memory_failure(virConnectPtr connection, virDomainPtr domain, int recipient, int action, unsigned flags, void *opaque)
{
    static const char *const recipients[] = {"hypervisor", "guest"};
    static const char *const actions[] = {"ignore", "inject", "fatal", "reset"};
    struct kind *k = opaque;
    event_line(k->watch, "event 'memory-failure' for domain '%s':\nrecipient: %s\naction: %s\nflags:\n\taction required: %d\n\trecursive: %d\n", virDomainGetName(domain),
        TEXT_OF(recipients, recipient), TEXT_OF(actions, action), !!(flags & VIR_DOMAIN_MEMORY_FAILURE_ACTION_REQUIRED), !!(flags & VIR_DOMAIN_MEMORY_FAILURE_RECURSIVE));
}

static void on_memory_size(virConnectPtr connection, virDomainPtr domain, const char *alias, unsigned long long size, void *opaque)
{
    struct kind *k = opaque;
    event_line(k->watch, "event 'memory-device-size-change' for domain '%s':\nalias: %s\nsize: %llu\n", virDomainGetName(domain), alias, size);
}

/* All kinds of events of domains; the number is the place in the table. */
static const struct {
    const char *name;
    void (*call)(void);
} domain_events[] = {
#define EVENT(name, function) {name, (void (*)(void))function}
    EVENT("lifecycle", on_lifecycle), EVENT("reboot", on_plain), EVENT("rtc-change", on_rtc), EVENT("watchdog", on_watchdog), EVENT("io-error", on_io_error),
    EVENT("graphics", on_graphics), EVENT("io-error-reason", on_io_reason), EVENT("control-error", on_plain), EVENT("block-job", on_block_job),
    EVENT("disk-change", on_disk_change), EVENT("tray-change", on_tray), EVENT("pm-wakeup", on_reason), EVENT("pm-suspend", on_reason),
    EVENT("balloon-change", on_balloon), EVENT("pm-suspend-disk", on_reason), EVENT("device-removed", on_device), EVENT("block-job-2", on_block_job),
    EVENT("tunable", on_tunable), EVENT("agent-lifecycle", on_agent), EVENT("device-added", on_device), EVENT("migration-iteration", on_iteration),
    EVENT("job-completed", on_tunable), EVENT("device-removal-failed", on_device), EVENT("metadata-change", on_metadata), EVENT("block-threshold", on_threshold),
    EVENT("memory-failure", on_memory_failure), EVENT("memory-device-size-change", on_memory_size),
};

/* Waits; says how it ended. True if anything came. */
static bool watch_wait(struct watch *w, int timeout)
{
    gint64 end = timeout ? g_get_monotonic_time() + timeout * G_USEC_PER_SEC : G_MAXINT64;
    const char *why = NULL;
    vireo_catch_interrupt(true);
    for (;;) {
        if (!w->loop && g_atomic_int_get(&w->count))
            break;
        if (vireo_interrupted())
            why = "event loop interrupted\n";
        else if (g_get_monotonic_time() > end)
            why = "event loop timed out\n";
        else if (g_atomic_int_get(&w->c->v->gone))
            why = "the connection was lost\n";
        if (why)
            break;
        g_usleep(20000);
    }
    vireo_catch_interrupt(false);
    if (why)
        note(w->c, "%s", why);
    return g_atomic_int_get(&w->count) > 0;
}

/* --list, --timeout and what all event commands check. Sets *ret_go if events shall be waited for. */
static bool watch_begin(struct call *c, const char *const *names, unsigned n, struct watch *w, int *timeout, bool *ret_go)
{
    *w = (struct watch){.c = c, .loop = opt_bool(c, "loop"), .stamp = opt_bool(c, "timestamp")};
    *timeout = 0;
    *ret_go = false;
    if (opt_bool(c, "list")) {
        struct table *t = json_table(c, "Event");
        for (unsigned i = 0; i < n; i++) {
            table_row(t, names[i], NULL);
            say(c, "%s\n", names[i]);
        }
        return table_print(t);
    }
    if (n && opt_str(c, "output") && call_json(c))
        return complain(c, "--output json goes with --list; events themselves come as lines of text");
    c->printed = true;
    if (opt_int(c, "timeout", timeout) < 0)
        return false;
    if (opt_str(c, "timeout") && *timeout < 1)
        return complain(c, "Numeric value '%s' for <%s> option is malformed or out of range", opt_str(c, "timeout"), "timeout");
    *ret_go = true;
    return true;
}

static int event_number(struct call *c, const char *const *names, unsigned n)
{
    const char *name = opt_str(c, "event");
    if (!name) {
        complain(c, "either --list or --event <type> is required");
        return -1;
    }
    for (unsigned i = 0; i < n; i++)
        if (!strcmp(names[i], name))
            return i;
    complain(c, "unknown event type %s", name);
    return -1;
}

static bool cmd_event(struct call *c)
{
    const char *names[G_N_ELEMENTS(domain_events)];
    struct kind kinds[G_N_ELEMENTS(domain_events)];
    struct watch w;
    int timeout, only = -1, ids[G_N_ELEMENTS(domain_events)];
    bool go, all = opt_bool(c, "all"), good = true;
    for (unsigned i = 0; i < G_N_ELEMENTS(domain_events); i++)
        names[i] = domain_events[i].name;
    if (!opt_exclusive(c, "all", "event", NULL) || !opt_exclusive(c, "list", "all", NULL) || !opt_exclusive(c, "list", "event", NULL)
        || !watch_begin(c, names, G_N_ELEMENTS(names), &w, &timeout, &go))
        return false;
    if (!go)
        return true;
    if (!all && !opt_str(c, "event"))
        return complain(c, "one of --list, --all, or --event <type> is required");
    if (!all && (only = event_number(c, names, G_N_ELEMENTS(names))) < 0)
        return false;
    g_autoptr(virDomain) domain = opt_str(c, "domain") ? arg_domain(c) : NULL;
    if (opt_str(c, "domain") && !domain)
        return false;
    for (unsigned i = 0; i < G_N_ELEMENTS(domain_events); i++) {
        ids[i] = -1;
        kinds[i] = (struct kind){&w, domain_events[i].name, i};
        /* the second kind of block jobs tells the same as the first */
        if (!good || (only >= 0 ? (int)i != only : i == VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2))
            continue;
        ids[i] = virConnectDomainEventRegisterAny(c->v->connection, domain, i, VIR_DOMAIN_EVENT_CALLBACK(domain_events[i].call), &kinds[i], NULL);
        good = ids[i] >= 0 || all;
    }
    forget_library_error(c->v);
    if (good) {
        good = watch_wait(&w, timeout);
        note(c, "events received: %d\n", g_atomic_int_get(&w.count));
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(domain_events); i++)
        if (ids[i] >= 0)
            virConnectDomainEventDeregisterAny(c->v->connection, ids[i]);
    return good;
}

static void on_network(virConnectPtr connection, virNetworkPtr network, int event, int detail, void *opaque)
{
    static const char *const events[] = {"Defined", "Undefined", "Started", "Stopped"};
    struct kind *k = opaque;
    event_line(k->watch, "event 'lifecycle' for network %s: %s\n", virNetworkGetName(network), TEXT_OF(events, event));
}

static void on_pool(virConnectPtr connection, virStoragePoolPtr pool, int event, int detail, void *opaque)
{
    static const char *const events[] = {"Defined", "Undefined", "Started", "Stopped", "Created", "Deleted"};
    struct kind *k = opaque;
    event_line(k->watch, "event 'lifecycle' for storage pool %s: %s\n", virStoragePoolGetName(pool), TEXT_OF(events, event));
}

static void on_pool_refresh(virConnectPtr connection, virStoragePoolPtr pool, void *opaque)
{
    struct kind *k = opaque;
    event_line(k->watch, "event '%s' for storage pool %s\n", k->name, virStoragePoolGetName(pool));
}

static void on_nodedev(virConnectPtr connection, virNodeDevicePtr device, int event, int detail, void *opaque)
{
    static const char *const events[] = {"Created", "Deleted", "Defined", "Undefined"};
    struct kind *k = opaque;
    event_line(k->watch, "event 'lifecycle' for node device %s: %s\n", virNodeDeviceGetName(device), TEXT_OF(events, event));
}

static void on_nodedev_update(virConnectPtr connection, virNodeDevicePtr device, void *opaque)
{
    struct kind *k = opaque;
    event_line(k->watch, "event '%s' for node device %s\n", k->name, virNodeDeviceGetName(device));
}

static void on_secret(virConnectPtr connection, virSecretPtr secret, int event, int detail, void *opaque)
{
    static const char *const events[] = {"Defined", "Undefined"};
    struct kind *k = opaque;
    char uuid[VIR_UUID_STRING_BUFLEN] = "";
    virSecretGetUUIDString(secret, uuid);
    event_line(k->watch, "event 'lifecycle' for secret %s: %s\n", uuid, TEXT_OF(events, event));
}

static void on_secret_value(virConnectPtr connection, virSecretPtr secret, void *opaque)
{
    struct kind *k = opaque;
    char uuid[VIR_UUID_STRING_BUFLEN] = "";
    virSecretGetUUIDString(secret, uuid);
    event_line(k->watch, "event '%s' for secret %s\n", k->name, uuid);
}

static bool watch_end(struct watch *w, int id, int timeout, int (*leave)(virConnectPtr connection, int id))
{
    if (id < 0)
        return false;
    bool good = watch_wait(w, timeout);
    note(w->c, "events received: %d\n", g_atomic_int_get(&w->count));
    leave(w->c->v->connection, id);
    return good;
}

static bool cmd_net_event(struct call *c)
{
    static const char *const names[] = {"lifecycle"};
    struct watch w;
    int timeout, number;
    bool go;
    if (!watch_begin(c, names, 1, &w, &timeout, &go) || !go)
        return !go && opt_bool(c, "list");
    if ((number = event_number(c, names, 1)) < 0)
        return false;
    struct kind k = {&w, names[number], number};
    g_autoptr(virNetwork) network = opt_str(c, "network") ? arg_network(c) : NULL;
    if (opt_str(c, "network") && !network)
        return false;
    return watch_end(&w, virConnectNetworkEventRegisterAny(c->v->connection, network, number, VIR_NETWORK_EVENT_CALLBACK((void (*)(void))on_network), &k, NULL), timeout,
        virConnectNetworkEventDeregisterAny);
}

static bool cmd_pool_event(struct call *c)
{
    static const char *const names[] = {"lifecycle", "refresh"};
    struct watch w;
    int timeout, number;
    bool go;
    if (!watch_begin(c, names, 2, &w, &timeout, &go) || !go)
        return !go && opt_bool(c, "list");
    if ((number = event_number(c, names, 2)) < 0)
        return false;
    struct kind k = {&w, names[number], number};
    g_autoptr(virStoragePool) pool = opt_str(c, "pool") ? arg_pool(c, "pool") : NULL;
    if (opt_str(c, "pool") && !pool)
        return false;
    void (*call)(void) = number ? (void (*)(void))on_pool_refresh : (void (*)(void))on_pool;
    return watch_end(&w, virConnectStoragePoolEventRegisterAny(c->v->connection, pool, number, VIR_STORAGE_POOL_EVENT_CALLBACK(call), &k, NULL), timeout,
        virConnectStoragePoolEventDeregisterAny);
}

static bool cmd_nodedev_event(struct call *c)
{
    static const char *const names[] = {"lifecycle", "update"};
    struct watch w;
    int timeout, number;
    bool go;
    if (!watch_begin(c, names, 2, &w, &timeout, &go) || !go)
        return !go && opt_bool(c, "list");
    if ((number = event_number(c, names, 2)) < 0)
        return false;
    struct kind k = {&w, names[number], number};
    g_autoptr(virNodeDevice) device = opt_str(c, "device") ? arg_nodedev(c) : NULL;
    if (opt_str(c, "device") && !device)
        return false;
    void (*call)(void) = number ? (void (*)(void))on_nodedev_update : (void (*)(void))on_nodedev;
    return watch_end(&w, virConnectNodeDeviceEventRegisterAny(c->v->connection, device, number, VIR_NODE_DEVICE_EVENT_CALLBACK(call), &k, NULL), timeout,
        virConnectNodeDeviceEventDeregisterAny);
}

static bool cmd_secret_event(struct call *c)
{
    static const char *const names[] = {"lifecycle", "value-changed"};
    struct watch w;
    int timeout, number;
    bool go;
    if (!watch_begin(c, names, 2, &w, &timeout, &go) || !go)
        return !go && opt_bool(c, "list");
    if ((number = event_number(c, names, 2)) < 0)
        return false;
    struct kind k = {&w, names[number], number};
    g_autoptr(virSecret) secret = opt_str(c, "secret") ? arg_secret(c) : NULL;
    if (opt_str(c, "secret") && !secret)
        return false;
    void (*call)(void) = number ? (void (*)(void))on_secret_value : (void (*)(void))on_secret;
    return watch_end(&w, virConnectSecretEventRegisterAny(c->v->connection, secret, number, VIR_SECRET_EVENT_CALLBACK(call), &k, NULL), timeout,
        virConnectSecretEventDeregisterAny);
}

static void on_monitor(virConnectPtr connection, virDomainPtr domain, const char *event, long long seconds, unsigned micros, const char *details, void *opaque)
{
    struct kind *k = opaque;
    g_autofree char *text = g_strdup(details ? details : "");
    json_auto *o = opt_bool(k->watch->c, "pretty") ? json_tokener_parse(text) : NULL;
    if (opt_bool(k->watch->c, "timestamp")) {
        event_line(k->watch, "event %s for domain '%s': %s\n", event, virDomainGetName(domain), text);
        return;
    }
    event_line(k->watch, "event %s at %lld.%06u for domain '%s': %s\n", event, seconds, micros, virDomainGetName(domain),
        o ? json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED) : text);
}

static bool cmd_monitor_event(struct call *c)
{
    int (*enter)(virConnectPtr, virDomainPtr, const char *, void (*)(virConnectPtr, virDomainPtr, const char *, long long, unsigned, const char *, void *), void *,
        virFreeCallback, unsigned) = qemu_call(c, "virConnectDomainQemuMonitorEventRegister");
    int (*leave)(virConnectPtr, int) = qemu_call(c, "virConnectDomainQemuMonitorEventDeregister");
    struct watch w;
    int timeout;
    bool go;
    if (!enter || !leave || !watch_begin(c, NULL, 0, &w, &timeout, &go))
        return false;
    g_autoptr(virDomain) domain = opt_str(c, "domain") ? arg_domain(c) : NULL;
    if (opt_str(c, "domain") && !domain)
        return false;
    struct kind k = {&w, "monitor", 0};
    /* 1: the name is a regular expression; 2: letters count as the same */
    unsigned flags = opt_flags(c, "regex", 1u, "no-case", 2u, NULL);
    return watch_end(&w, enter(c->v->connection, domain, opt_str(c, "event"), on_monitor, &k, NULL, flags), timeout, leave);
}

const struct command event_commands[] = {
    {"event", "events", "domain= event= all loop timeout# list timestamp", cmd_event, COMMAND_LIST, "Wait for events of domains"},
    {"net-event", "network", "network= event= loop timeout# list timestamp", cmd_net_event, COMMAND_LIST, "Wait for events of networks"},
    {"nodedev-event", "nodedev", "device= event= loop timeout# list timestamp", cmd_nodedev_event, COMMAND_LIST, "Wait for events of host devices"},
    {"pool-event", "pool", "pool= event= loop timeout# list timestamp", cmd_pool_event, COMMAND_LIST, "Wait for events of storage pools"},
    {"qemu-monitor-event", "domain",
        "domain= event= pretty loop timeout# regex no-case timestamp",
        cmd_monitor_event, 0, "Wait for events that the emulator sends"},
    {"secret-event", "secret", "secret= event= loop timeout# list timestamp", cmd_secret_event, COMMAND_LIST, "Wait for events of secrets"},
    {},
};
