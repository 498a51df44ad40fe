/* SPDX-License-Identifier: GPL-2.0-or-later */
/* list, dominfo, domstate: what domains there are and how they are. */
#include "vireo_commands.h"
#include "vireo_domain.h"

#include <stdlib.h>
#include <string.h>

const char *domain_state_text(int state)
{
    static const char *const texts[] = {"no state", "running", "idle", "paused", "in shutdown", "shut off", "crashed", "pmsuspended"};
    return state >= 0 && state < (int)G_N_ELEMENTS(texts) ? texts[state] : "no state";
}

static int by_id_then_name(const void *a, const void *b)
{
    virDomainPtr x = *(virDomainPtr *)a, y = *(virDomainPtr *)b;
    unsigned i = virDomainGetID(x), k = virDomainGetID(y);
    if (i != k)
        return i < k ? -1 : 1; /* without an id: the greatest number, so last */
    return strcasecmp(virDomainGetName(x), virDomainGetName(y));
}

static unsigned list_flags(struct call *c)
{
    unsigned flags = opt_flags(c, "inactive", VIR_CONNECT_LIST_DOMAINS_INACTIVE, "all", VIR_CONNECT_LIST_DOMAINS_INACTIVE | VIR_CONNECT_LIST_DOMAINS_ACTIVE,
        "persistent", VIR_CONNECT_LIST_DOMAINS_PERSISTENT, "transient", VIR_CONNECT_LIST_DOMAINS_TRANSIENT,
        "with-managed-save", VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE, "without-managed-save", VIR_CONNECT_LIST_DOMAINS_NO_MANAGEDSAVE,
        "with-snapshot", VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT, "without-snapshot", VIR_CONNECT_LIST_DOMAINS_NO_SNAPSHOT,
        "with-checkpoint", VIR_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT, "without-checkpoint", VIR_CONNECT_LIST_DOMAINS_NO_CHECKPOINT,
        "state-running", VIR_CONNECT_LIST_DOMAINS_RUNNING, "state-paused", VIR_CONNECT_LIST_DOMAINS_PAUSED, "state-shutoff", VIR_CONNECT_LIST_DOMAINS_SHUTOFF,
        "state-other", VIR_CONNECT_LIST_DOMAINS_OTHER, "autostart", VIR_CONNECT_LIST_DOMAINS_AUTOSTART, "no-autostart", VIR_CONNECT_LIST_DOMAINS_NO_AUTOSTART, NULL);
    if (!opt_bool(c, "inactive") && !opt_bool(c, "all"))
        flags |= VIR_CONNECT_LIST_DOMAINS_ACTIVE;
    return flags;
}

static char *title_of(virDomainPtr domain)
{
    char *title = virDomainGetMetadata(domain, VIR_DOMAIN_METADATA_TITLE, NULL, 0);
    return title ? title : g_strdup("");
}

static void note_states(GHashTable *states, virDomainStatsRecordPtr *records, int n)
{
    for (int i = 0; i < n; i++) {
        int state;
        if (virTypedParamsGetInt(records[i]->params, records[i]->nparams, "state.state", &state) == 1)
            g_hash_table_insert(states, g_strdup(virDomainGetName(records[i]->dom)), GINT_TO_POINTER(state));
    }
}

/* Name -> state of them all: by the statistics, thousands in one call, as each call is a way there and back. A daemon that does not tell is asked for each. */
static GHashTable *states_of(struct call *c, virDomainPtr *all, int n)
{
    enum { AT_ONCE = 4096 }; /* a call takes 16,384 */
    GHashTable *states = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (int at = 0; at < n; at += AT_ONCE) {
        g_autofree virDomainPtr *some = g_new0(virDomainPtr, AT_ONCE + 1); /* ends with NULL */
        memcpy(some, all + at, sizeof(*some) * MIN(AT_ONCE, n - at));
        virDomainStatsRecordPtr *records = NULL;
        int told = virDomainListGetStats(some, VIR_DOMAIN_STATS_STATE, &records, 0);
        if (told < 0) {
            forget_library_error(c->v);
            break;
        }
        note_states(states, records, told);
        virDomainStatsRecordListFree(records);
    }
    return states;
}

static int state_of(GHashTable *states, virDomainPtr domain)
{
    gpointer told;
    int state, reason;
    if (g_hash_table_lookup_extended(states, virDomainGetName(domain), NULL, &told))
        return GPOINTER_TO_INT(told);
    return virDomainGetState(domain, &state, &reason, 0) < 0 ? -1 : state;
}

static void list_row(struct call *c, struct table *t, virDomainPtr domain, int state)
{
    unsigned number = virDomainGetID(domain);
    g_autofree char *id = number == (unsigned)-1 ? g_strdup("-") : g_strdup_printf("%u", number);
    const char *text = domain_state_text(state);
    if (number == (unsigned)-1 && opt_bool(c, "managed-save") && virDomainHasManagedSaveImage(domain, 0) > 0)
        text = "saved";
    g_autofree char *title = opt_bool(c, "title") ? title_of(domain) : NULL;
    table_row(t, id, virDomainGetName(domain), text, title, NULL);
}

static void list_plain(struct call *c, virDomainPtr domain)
{
    char uuid[VIR_UUID_STRING_BUFLEN] = "";
    bool named = opt_bool(c, "name"), by_uuid = opt_bool(c, "uuid"), by_id = opt_bool(c, "id");
    unsigned number = virDomainGetID(domain);
    const char *gap = "";
    if (by_uuid && virDomainGetUUIDString(domain, uuid) == 0) {
        say(c, "%s", uuid);
        gap = " ";
    }
    if (by_id) {
        g_autofree char *id = number == (unsigned)-1 ? g_strdup("-") : g_strdup_printf("%u", number);
        say(c, "%s%s", gap, id);
        gap = " ";
    }
    if (named)
        say(c, "%s%s", gap, virDomainGetName(domain));
    say(c, "\n");
}

static bool cmd_list(struct call *c)
{
    bool plain = opt_bool(c, "name") || opt_bool(c, "uuid") || opt_bool(c, "id");
    if (!opt_exclusive(c, "table", "name", NULL) || !opt_exclusive(c, "table", "id", NULL))
        return false;
    virDomainPtr *all = NULL;
    int n = virConnectListAllDomains(c->v->connection, &all, list_flags(c));
    if (n < 0)
        return complain(c, "Failed to list domains");
    qsort(all, n, sizeof *all, by_id_then_name);
    struct table *t = table_new(c, "Id#", "Name", "State", opt_bool(c, "title") ? "Title" : NULL, NULL);
    plain = plain && !call_json(c);
    g_autoptr(GHashTable) states = states_of(c, all, plain ? 0 : n);
    for (int i = 0; i < n; i++) {
        if (plain)
            list_plain(c, all[i]);
        else
            list_row(c, t, all[i], state_of(states, all[i]));
        virDomainFree(all[i]);
    }
    free(all);
    return plain ? table_drop(t) : table_print(t);
}

static void info_security(struct call *c, struct fields *f, virDomainPtr domain)
{
    virSecurityModel model = {};
    if (virNodeGetSecurityModel(c->v->connection, &model) < 0) {
        forget_library_error(c->v);
        return;
    }
    if (!model.model[0])
        return;
    field(f, "Security model:", "%s", model.model);
    field(f, "Security DOI:", "%s", model.doi);
    g_autofree virSecurityLabelPtr label = g_new0(virSecurityLabel, 1);
    if (virDomainGetSecurityLabel(domain, label) == 0 && label->label[0])
        field(f, "Security label:", "%s (%s)", label->label, label->enforcing ? "enforcing" : "permissive");
}

static bool cmd_dominfo(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain)
        return false;
    struct fields *f = fields_new(c, 15);
    unsigned id = virDomainGetID(domain);
    char uuid[VIR_UUID_STRING_BUFLEN];
    virDomainInfo info;
    int autostart;
    if (id == (unsigned)-1)
        field(f, "Id:", "-");
    else
        field(f, "Id:", "%u", id);
    field(f, "Name:", "%s", virDomainGetName(domain));
    if (virDomainGetUUIDString(domain, uuid) == 0)
        field(f, "UUID:", "%s", uuid);
    g_autofree char *os = virDomainGetOSType(domain);
    if (os)
        field(f, "OS Type:", "%s", os);
    if (virDomainGetInfo(domain, &info) == 0) {
        field(f, "State:", "%s", domain_state_text(info.state));
        field(f, "CPU(s):", "%d", info.nrVirtCpu);
        if (info.cpuTime)
            field(f, "CPU time:", "%.1lfs", info.cpuTime / 1000000000.0);
        if (info.maxMem == G_MAXUINT)
            field(f, "Max memory:", "no limit");
        else
            field(f, "Max memory:", "%lu KiB", info.maxMem);
        field(f, "Used memory:", "%lu KiB", info.memory);
    }
    int persistent = virDomainIsPersistent(domain);
    field(f, "Persistent:", "%s", persistent < 0 ? "unknown" : persistent ? "yes" : "no");
    if (virDomainGetAutostart(domain, &autostart) == 0)
        field(f, "Autostart:", "%s", autostart ? "enable" : "disable");
    int saved = virDomainHasManagedSaveImage(domain, 0);
    field(f, "Managed save:", "%s", saved < 0 ? "unknown" : saved ? "yes" : "no");
    info_security(c, f, domain);
    char **messages = NULL;
    int n = virDomainGetMessages(domain, &messages, 0);
    for (int i = 0; i < n; i++) {
        field(f, i ? "" : "Messages:", "%s", messages[i]);
        free(messages[i]);
    }
    free(messages);
    return fields_print(f);
}

static const char *const reasons_running[] = {"unknown", "booted", "migrated", "restored", "from snapshot", "unpaused", "migration canceled", "save canceled",
    "event wakeup", "crashed", "post-copy", "post-copy failed"};
static const char *const reasons_paused[] = {"unknown", "user", "migrating", "saving", "dumping", "I/O error", "watchdog", "from snapshot", "shutting down",
    "creating snapshot", "crashed", "starting up", "post-copy", "post-copy failed", "api error"};
static const char *const reasons_shutdown[] = {"unknown", "user"};
static const char *const reasons_shutoff[] = {"unknown", "shutdown", "destroyed", "crashed", "migrated", "saved", "failed", "from snapshot", "daemon"};
static const char *const reasons_crashed[] = {"unknown", "panicked"};

static const char *reason_text(int state, int reason)
{
#define PICK(list) return reason >= 0 && reason < (int)G_N_ELEMENTS(list) ? list[reason] : "unknown"
    switch (state) {
    case VIR_DOMAIN_RUNNING: PICK(reasons_running);
    case VIR_DOMAIN_PAUSED: PICK(reasons_paused);
    case VIR_DOMAIN_SHUTDOWN: PICK(reasons_shutdown);
    case VIR_DOMAIN_SHUTOFF: PICK(reasons_shutoff);
    case VIR_DOMAIN_CRASHED: PICK(reasons_crashed);
    }
#undef PICK
    return "unknown";
}

static bool cmd_domstate(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    int state, reason;
    if (!domain || virDomainGetState(domain, &state, &reason, 0) < 0)
        return false;
    json_member(c, "state", "%s", domain_state_text(state));
    json_member(c, "reason", "%s", reason_text(state, reason));
    if (opt_bool(c, "reason"))
        say(c, "%s (%s)\n", domain_state_text(state), reason_text(state, reason));
    else
        say(c, "%s\n", domain_state_text(state));
    return true;
}

static bool cmd_domcontrol(struct call *c)
{
    static const char *const states[] = {"ok", "background job", "occupied", "error"};
    static const char *const details[] = {"", "unknown", "monitor failure", "internal (locking) error"};
    g_autoptr(virDomain) domain = arg_domain(c);
    virDomainControlInfo info;
    if (!domain || virDomainGetControlInfo(domain, &info, 0) < 0)
        return false;
    const char *state = info.state < G_N_ELEMENTS(states) ? states[info.state] : "unknown";
    json_member(c, "state", "%s", state);
    if (info.state == VIR_DOMAIN_CONTROL_ERROR)
        say(c, "%s: %s\n", state, info.details < G_N_ELEMENTS(details) ? details[info.details] : "unknown");
    else if (info.state != VIR_DOMAIN_CONTROL_OK)
        say(c, "%s (%0.3fs)\n", state, info.stateTime / 1000.0);
    else
        say(c, "%s\n", state);
    return true;
}

const struct command domain_list_commands[] = {
    {"domcontrol", "monitor", "domain!", cmd_domcontrol, COMMAND_LIST, "Tell whether the emulator answers"},
    {"dominfo", "monitor", "domain!", cmd_dominfo, COMMAND_LIST, "Tell what a domain is and how it is"},
    {"domstate", "monitor", "domain! reason", cmd_domstate, COMMAND_LIST, "Print the state of a domain"},
    {"list", "monitor",
        "inactive all transient persistent with-snapshot without-snapshot with-checkpoint without-checkpoint state-running "
        "state-paused state-shutoff state-other autostart no-autostart with-managed-save without-managed-save uuid name id table "
        "managed-save title",
        cmd_list, COMMAND_LIST, "List domains"},
    {},
};
