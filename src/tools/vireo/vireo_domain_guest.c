/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What goes on inside the guest: its agent, file systems, users, clock, keyboard. */
#include "vireo_commands.h"
#include "vireo_domain.h"

#include <linux/input-event-codes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static bool cmd_fsfreeze(struct call *c)
{
    char **points = opt_list(c, "mountpoint");
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain)
        return false;
    int n = virDomainFSFreeze(domain, (const char **)points, points ? g_strv_length(points) : 0, 0);
    if (n < 0)
        return complain(c, "Unable to freeze filesystems");
    note(c, "Froze %d filesystem(s)\n", n);
    return true;
}

static bool cmd_fsthaw(struct call *c)
{
    char **points = opt_list(c, "mountpoint");
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain)
        return false;
    int n = virDomainFSThaw(domain, (const char **)points, points ? g_strv_length(points) : 0, 0);
    if (n < 0)
        return complain(c, "Unable to thaw filesystems");
    note(c, "Thawed %d filesystem(s)\n", n);
    return true;
}

static bool cmd_fstrim(struct call *c)
{
    unsigned long long minimum = 0;
    g_autoptr(virDomain) domain = opt_ull(c, "minimum", &minimum) >= 0 ? arg_domain(c) : NULL;
    return domain && (virDomainFSTrim(domain, opt_str(c, "mountpoint"), minimum, 0) == 0 || complain(c, "Unable to invoke fstrim"));
}

static bool cmd_fsinfo(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    virDomainFSInfoPtr *all = NULL;
    if (!domain)
        return false;
    int n = virDomainGetFSInfo(domain, &all, 0);
    if (n < 0)
        return complain(c, "Unable to get filesystem information");
    if (!n && !call_json(c)) {
        note(c, "No filesystems are mounted in the domain");
        return true;
    }
    struct table *t = table_new(c, "Mountpoint", "Name", "Type", "Target", NULL);
    for (int i = 0; i < n; i++) {
        g_autoptr(GString) targets = g_string_new(NULL);
        for (size_t k = 0; k < all[i]->ndevAlias; k++)
            g_string_append_printf(targets, "%s%s", k ? "," : "", all[i]->devAlias[k]);
        table_row(t, all[i]->mountpoint, all[i]->name, all[i]->fstype, targets->str, NULL);
        virDomainFSInfoFree(all[i]);
    }
    free(all);
    return table_print(t);
}

static bool cmd_guestinfo(struct call *c)
{
    unsigned types = opt_flags(c, "user", VIR_DOMAIN_GUEST_INFO_USERS, "os", VIR_DOMAIN_GUEST_INFO_OS, "timezone", VIR_DOMAIN_GUEST_INFO_TIMEZONE,
        "hostname", VIR_DOMAIN_GUEST_INFO_HOSTNAME, "filesystem", VIR_DOMAIN_GUEST_INFO_FILESYSTEM, "disk", VIR_DOMAIN_GUEST_INFO_DISKS,
        "interface", VIR_DOMAIN_GUEST_INFO_INTERFACES, NULL);
    g_autoptr(virDomain) domain = arg_domain(c);
    struct params p = {};
    if (!domain || virDomainGetGuestInfo(domain, types, &p.list, &p.n, 0) < 0)
        return false;
    for (int i = 0; i < p.n; i++) {
        g_autofree char *text = param_text(&p.list[i]);
        value_line(c, p.list[i].field, text, "%-20s: %s", p.list[i].field, text);
    }
    params_clear(&p);
    return true;
}

static bool cmd_domhostname(struct call *c)
{
    const char *source = opt_str(c, "source");
    unsigned flags = 0;
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain)
        return false;
    if (source && strcmp(source, "lease") && strcmp(source, "agent"))
        return complain(c, "Unknown data source '%s'", source);
    if (source)
        flags = !strcmp(source, "lease") ? VIR_DOMAIN_GET_HOSTNAME_LEASE : VIR_DOMAIN_GET_HOSTNAME_AGENT;
    g_autofree char *name = virDomainGetHostname(domain, flags);
    if (!name)
        return complain(c, "failed to get hostname");
    return say_value(c, "hostname", "%s", name);
}

static bool cmd_domtime(struct call *c)
{
    bool now = opt_bool(c, "now"), sync = opt_bool(c, "sync");
    unsigned long long given = 0;
    if (!opt_exclusive(c, "time", "now", NULL) || !opt_exclusive(c, "time", "sync", NULL) || !opt_exclusive(c, "now", "sync", NULL))
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    int set = domain ? opt_ull(c, "time", &given) : -1;
    if (set < 0)
        return false;
    if (set || now || sync) {
        long long seconds = now ? (long long)time(NULL) : (long long)given;
        return virDomainSetTime(domain, seconds, 0, sync ? VIR_DOMAIN_TIME_SYNC : 0) == 0;
    }
    long long seconds;
    unsigned nanoseconds;
    if (virDomainGetTime(domain, &seconds, &nanoseconds, 0) < 0)
        return false;
    json_member(c, "time", "%lld", seconds);
    if (opt_bool(c, "pretty")) {
        g_autoptr(GDateTime) when = g_date_time_new_from_unix_utc(seconds);
        g_autofree char *text = when ? g_date_time_format(when, "%Y-%m-%d %H:%M:%S") : g_strdup("-");
        say(c, "Time: %s", text);
    } else {
        say(c, "Time: %lld", seconds);
    }
    return true;
}

static bool cmd_user_password(struct call *c)
{
    const char *user = opt_str(c, "user");
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain || virDomainSetUserPassword(domain, user, opt_str(c, "password"), opt_flags(c, "encrypted", VIR_DOMAIN_PASSWORD_ENCRYPTED, NULL)) < 0)
        return false;
    note(c, "Password set successfully for %s in %s", user, virDomainGetName(domain));
    return true;
}

static bool cmd_get_sshkeys(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    char **keys = NULL;
    int n = domain ? virDomainAuthorizedSSHKeysGet(domain, opt_str(c, "user"), &keys, 0) : -1;
    struct table *t = n < 0 ? NULL : json_table(c, "Key");
    for (int i = 0; i < n; i++) {
        table_row(t, keys[i], NULL);
        say(c, "%s\n", keys[i]);
        free(keys[i]);
    }
    free(keys);
    return table_print(t) && n >= 0;
}

static bool cmd_set_sshkeys(struct call *c)
{
    const char *file = opt_str(c, "file");
    unsigned flags = opt_flags(c, "remove", VIR_DOMAIN_AUTHORIZED_SSH_KEYS_SET_REMOVE, NULL);
    if (!opt_exclusive(c, "remove", "reset", NULL))
        return false;
    if (!file && !opt_bool(c, "reset"))
        return complain(c, "Option --%s is required", "file");
    if (!opt_bool(c, "reset") && !flags)
        flags = VIR_DOMAIN_AUTHORIZED_SSH_KEYS_SET_APPEND;
    g_autofree char *text = file ? opt_file(c, "file") : g_strdup("");
    g_autoptr(virDomain) domain = text ? arg_domain(c) : NULL;
    if (!domain)
        return false;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    g_autoptr(GPtrArray) keys = g_ptr_array_new();
    for (char **l = lines; *l; l++)
        if (*g_strstrip(*l) && **l != '#')
            g_ptr_array_add(keys, *l);
    if (file && !keys->len)
        return complain(c, "File %s contains no keys", file);
    return virDomainAuthorizedSSHKeysSet(domain, opt_str(c, "user"), (const char **)keys->pdata, keys->len, flags) == 0;
}

static bool cmd_agent_timeout(struct call *c)
{
    int seconds = VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK;
    g_autoptr(virDomain) domain = opt_int(c, "timeout", &seconds) >= 0 ? arg_domain(c) : NULL;
    return domain && virDomainAgentSetResponseTimeout(domain, seconds, 0) == 0;
}

/* Keys of Linux's input layer by name; the names of other key tables only by number. */
#define KEY(name) {#name, name}
static const struct {
    const char *name;
    unsigned code;
} keys[] = {
    KEY(KEY_ESC), KEY(KEY_1), KEY(KEY_2), KEY(KEY_3), KEY(KEY_4), KEY(KEY_5), KEY(KEY_6), KEY(KEY_7), KEY(KEY_8), KEY(KEY_9), KEY(KEY_0), KEY(KEY_MINUS),
    KEY(KEY_EQUAL), KEY(KEY_BACKSPACE), KEY(KEY_TAB), KEY(KEY_Q), KEY(KEY_W), KEY(KEY_E), KEY(KEY_R), KEY(KEY_T), KEY(KEY_Y), KEY(KEY_U), KEY(KEY_I), KEY(KEY_O),
    KEY(KEY_P), KEY(KEY_LEFTBRACE), KEY(KEY_RIGHTBRACE), KEY(KEY_ENTER), KEY(KEY_LEFTCTRL), KEY(KEY_A), KEY(KEY_S), KEY(KEY_D), KEY(KEY_F), KEY(KEY_G), KEY(KEY_H),
    KEY(KEY_J), KEY(KEY_K), KEY(KEY_L), KEY(KEY_SEMICOLON), KEY(KEY_APOSTROPHE), KEY(KEY_GRAVE), KEY(KEY_LEFTSHIFT), KEY(KEY_BACKSLASH), KEY(KEY_Z), KEY(KEY_X),
    KEY(KEY_C), KEY(KEY_V), KEY(KEY_B), KEY(KEY_N), KEY(KEY_M), KEY(KEY_COMMA), KEY(KEY_DOT), KEY(KEY_SLASH), KEY(KEY_RIGHTSHIFT), KEY(KEY_KPASTERISK),
    KEY(KEY_LEFTALT), KEY(KEY_SPACE), KEY(KEY_CAPSLOCK), KEY(KEY_F1), KEY(KEY_F2), KEY(KEY_F3), KEY(KEY_F4), KEY(KEY_F5), KEY(KEY_F6), KEY(KEY_F7), KEY(KEY_F8),
    KEY(KEY_F9), KEY(KEY_F10), KEY(KEY_NUMLOCK), KEY(KEY_SCROLLLOCK), KEY(KEY_KP7), KEY(KEY_KP8), KEY(KEY_KP9), KEY(KEY_KPMINUS), KEY(KEY_KP4), KEY(KEY_KP5),
    KEY(KEY_KP6), KEY(KEY_KPPLUS), KEY(KEY_KP1), KEY(KEY_KP2), KEY(KEY_KP3), KEY(KEY_KP0), KEY(KEY_KPDOT), KEY(KEY_102ND), KEY(KEY_F11), KEY(KEY_F12),
    KEY(KEY_KPENTER), KEY(KEY_RIGHTCTRL), KEY(KEY_KPSLASH), KEY(KEY_SYSRQ), KEY(KEY_RIGHTALT), KEY(KEY_HOME), KEY(KEY_UP), KEY(KEY_PAGEUP), KEY(KEY_LEFT),
    KEY(KEY_RIGHT), KEY(KEY_END), KEY(KEY_DOWN), KEY(KEY_PAGEDOWN), KEY(KEY_INSERT), KEY(KEY_DELETE), KEY(KEY_MUTE), KEY(KEY_VOLUMEDOWN), KEY(KEY_VOLUMEUP),
    KEY(KEY_POWER), KEY(KEY_PAUSE), KEY(KEY_LEFTMETA), KEY(KEY_RIGHTMETA), KEY(KEY_COMPOSE), KEY(KEY_SLEEP), KEY(KEY_WAKEUP), KEY(KEY_MENU),
};

static bool key_code(struct call *c, bool names, const char *text, unsigned *ret_code)
{
    char *end;
    unsigned long n = strtoul(text, &end, 0);
    if (end != text && !*end && n && n <= 0xffff) {
        *ret_code = n;
        return true;
    }
    for (unsigned i = 0; names && i < G_N_ELEMENTS(keys); i++)
        if (!strcmp(keys[i].name, text)) {
            *ret_code = keys[i].code;
            return true;
        }
    return complain(c, "invalid keycode: '%s'", text);
}

static bool cmd_send_key(struct call *c)
{
    static const char *const sets[] = {"linux", "xt", "atset1", "atset2", "atset3", "os_x", "xt_kbd", "usb", "win32", "qnum"};
    const char *set = opt_str(c, "codeset") ? opt_str(c, "codeset") : "linux";
    unsigned codes[VIR_DOMAIN_SEND_KEY_MAX_KEYS], n = 0, number = 0, hold = 0;
    g_autoptr(virDomain) domain = opt_uint(c, "holdtime", &hold) >= 0 ? arg_domain(c) : NULL;
    if (!domain)
        return false;
    if (!strcmp(set, "rfb"))
        set = "qnum";
    while (number < G_N_ELEMENTS(sets) && strcmp(sets[number], set))
        number++;
    if (number == G_N_ELEMENTS(sets))
        return complain(c, "unknown codeset: '%s'", set);
    for (char **k = opt_list(c, "keycode"); *k; k++) {
        if (n == G_N_ELEMENTS(codes))
            return complain(c, "too many keycodes");
        if (!key_code(c, number == 0, *k, &codes[n++]))
            return false;
    }
    return virDomainSendKey(domain, number, hold, codes, n, 0) == 0;
}

static bool cmd_send_signal(struct call *c)
{
    static const char *const names[] = {"nop", "hup", "int", "quit", "ill", "trap", "abrt", "bus", "fpe", "kill", "usr1", "segv", "usr2", "pipe", "alrm",
        "term", "stkflt", "chld", "cont", "stop", "tstp", "ttin", "ttou", "urg", "xcpu", "xfsz", "vtalrm", "prof", "winch", "poll", "pwr", "sys"};
    char *end;
    const char *pid = opt_str(c, "pid"), *name = opt_str(c, "signame");
    long long number = g_ascii_strtoll(pid, &end, 10);
    if (end == pid || *end)
        return complain(c, "malformed PID value: %s", pid);
    unsigned long signal = strtoul(name, &end, 10);
    if (end == name || *end) {
        g_autofree char *low = g_ascii_strdown(name, -1);
        const char *plain = g_str_has_prefix(low, "sig_") ? low + 4 : g_str_has_prefix(low, "sig") ? low + 3 : low;
        for (signal = 0; signal < G_N_ELEMENTS(names) && strcmp(names[signal], plain);)
            signal++;
        if (signal == G_N_ELEMENTS(names))
            return complain(c, "malformed signal name: %s", name);
    }
    g_autoptr(virDomain) domain = arg_domain(c);
    return domain && virDomainSendProcessSignal(domain, number, signal, 0) == 0;
}

static bool cmd_launchsec(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    struct params p = {};
    if (!domain)
        return false;
    if (virDomainGetLaunchSecurityInfo(domain, &p.list, &p.n, 0) < 0)
        return complain(c, "Unable to get launch security parameters");
    for (int i = 0; i < p.n; i++) {
        g_autofree char *text = param_text(&p.list[i]);
        value_line(c, p.list[i].field, text, "%-15s: %s", p.list[i].field, text);
    }
    params_clear(&p);
    return true;
}

static bool cmd_set_launchsec(struct call *c)
{
    if (!opt_str(c, "secrethdr") || !opt_str(c, "secret"))
        return complain(c, "Both secret and the secret header are required");
    g_autofree char *header = opt_file(c, "secrethdr"), *secret = header ? opt_file(c, "secret") : NULL;
    g_autoptr(virDomain) domain = secret ? arg_domain(c) : NULL;
    struct params p = {};
    if (!domain)
        return false;
    virTypedParamsAddString(&p.list, &p.n, &p.max, VIR_DOMAIN_LAUNCH_SECURITY_SEV_SECRET_HEADER, g_strchomp(header));
    virTypedParamsAddString(&p.list, &p.n, &p.max, VIR_DOMAIN_LAUNCH_SECURITY_SEV_SECRET, g_strchomp(secret));
    bool good = params_from_option(c, &p, "set-address", VIR_DOMAIN_LAUNCH_SECURITY_SEV_SECRET_SET_ADDRESS, VIR_TYPED_PARAM_ULLONG)
        && (virDomainSetLaunchSecurityState(domain, p.list, p.n, 0) == 0 || complain(c, "Unable to set launch security state"));
    params_clear(&p);
    return good;
}

static bool cmd_dirtyrate(struct call *c)
{
    const char *mode = opt_str(c, "mode");
    int seconds = 1;
    unsigned flags = 0;
    if (mode) {
        if (!strcmp(mode, "dirty-bitmap"))
            flags = VIR_DOMAIN_DIRTYRATE_MODE_DIRTY_BITMAP;
        else if (!strcmp(mode, "dirty-ring"))
            flags = VIR_DOMAIN_DIRTYRATE_MODE_DIRTY_RING;
        else if (strcmp(mode, "page-sampling"))
            return complain(c, "Unknown calculation mode '%s'", mode);
    }
    g_autoptr(virDomain) domain = opt_int(c, "seconds", &seconds) >= 0 ? arg_domain(c) : NULL;
    if (!domain || virDomainStartDirtyRateCalc(domain, seconds, flags) < 0)
        return false;
    note(c, "Start to calculate domain's memory dirty rate successfully.\n");
    return true;
}

const struct command domain_guest_commands[] = {
    {"domdirtyrate-calc", "domain", "domain! seconds# mode=", cmd_dirtyrate, 0, "Measure how fast the guest writes its memory"},
    {"domfsfreeze", "domain", "domain! mountpoint...", cmd_fsfreeze, 0, "Stop all writing to the guest's file systems"},
    {"domfsinfo", "domain", "domain!", cmd_fsinfo, COMMAND_LIST, "List the file systems mounted in the guest"},
    {"domfsthaw", "domain", "domain! mountpoint...", cmd_fsthaw, 0, "Let frozen file systems go on"},
    {"domfstrim", "domain", "domain! minimum# mountpoint=", cmd_fstrim, 0, "Give unused blocks of the guest's file systems back"},
    {"domhostname", "domain", "domain! source=", cmd_domhostname, COMMAND_LIST, "Print the host name of the guest"},
    {"domlaunchsecinfo", "domain", "domain!", cmd_launchsec, COMMAND_LIST, "Tell how an encrypted guest was started"},
    {"domsetlaunchsecstate", "domain",
        "domain! secrethdr=@ secret=@ set-address#",
        cmd_set_launchsec, 0, "Put a secret into an encrypted guest before it runs"},
    {"domtime", "monitor", "domain! now pretty sync time#", cmd_domtime, COMMAND_LIST, "Show or set the guest's clock"},
    {"get-user-sshkeys", "domain", "domain! user!", cmd_get_sshkeys, COMMAND_LIST, "List the SSH keys that may log in as a user"},
    {"guest-agent-timeout", "domain", "domain! timeout#@", cmd_agent_timeout, 0, "Set how long to wait for the guest's agent"},
    {"guestinfo", "domain", "domain! user os timezone hostname filesystem disk interface", cmd_guestinfo, COMMAND_LIST, "Print what the guest's agent tells"},
    {"send-key", "domain", "domain! codeset=@ holdtime#@ keycode...!", cmd_send_key, 0, "Press keys on the guest's keyboard"},
    {"send-process-signal", "domain", "domain! pid! signame!", cmd_send_signal, 0, "Send a signal to a process of the guest"},
    {"set-user-password", "domain", "domain! user! password! encrypted", cmd_user_password, 0, "Set a user's password in the guest"},
    {"set-user-sshkeys", "domain", "domain! user! file= reset remove", cmd_set_sshkeys, 0, "Set which SSH keys may log in as a user"},
    {},
};
