/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Domains: defining, starting, stopping, naming. */
#include "vireo_commands.h"

#include <stdlib.h>
#include <string.h>

/* Most commands here: look the domain up, make one call, say what came of it. */
static bool outcome(struct call *c, virDomainPtr domain, int result, const char *good, const char *bad)
{
    const char *name = virDomainGetName(domain);
    g_auto(GStrv) said = g_strsplit(result < 0 ? bad : good, "%s", 2);
    g_autofree char *text = g_strjoinv(name, said);
    if (result < 0)
        return complain(c, "%s", text);
    note(c, "%s\n", text);
    return true;
}

/* --pass-fds "3,5": a zero-terminated array is not needed, *ret_n counts. False said. */
static bool pass_fds(struct call *c, int **ret_fds, unsigned *ret_n)
{
    g_auto(GStrv) words = g_strsplit(opt_str(c, "pass-fds") ? opt_str(c, "pass-fds") : "", ",", -1);
    *ret_n = g_strv_length(words);
    *ret_fds = g_new0(int, *ret_n + 1);
    for (unsigned i = 0; i < *ret_n; i++) {
        guint64 number;
        if (!g_ascii_string_to_unsigned(words[i], 10, 0, G_MAXINT, &number, NULL))
            return complain(c, "Unable to parse FD number '%s'", words[i]);
        (*ret_fds)[i] = number;
    }
    return true;
}

static bool cmd_start(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain)
        return false;
    if (virDomainGetID(domain) != (unsigned)-1)
        return complain(c, "Domain is already active");
    g_autofree int *fds = NULL;
    unsigned nfds;
    if (!pass_fds(c, &fds, &nfds))
        return false;
    unsigned flags = opt_flags(c, "paused", VIR_DOMAIN_START_PAUSED, "autodestroy", VIR_DOMAIN_START_AUTODESTROY, "bypass-cache",
        VIR_DOMAIN_START_BYPASS_CACHE, "force-boot", VIR_DOMAIN_START_FORCE_BOOT, "reset-nvram", VIR_DOMAIN_START_RESET_NVRAM, NULL);
    int result = nfds ? virDomainCreateWithFiles(domain, nfds, fds, flags) : flags ? virDomainCreateWithFlags(domain, flags) : virDomainCreate(domain);
    if (!outcome(c, domain, result, "Domain '%s' started", "Failed to start domain '%s'"))
        return false;
    return !opt_bool(c, "console") || console_run(c, domain, NULL, 0);
}

static bool cmd_destroy(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain)
        return false;
    unsigned flags = opt_flags(c, "graceful", VIR_DOMAIN_DESTROY_GRACEFUL, "remove-logs", VIR_DOMAIN_DESTROY_REMOVE_LOGS, NULL);
    int result = flags ? virDomainDestroyFlags(domain, flags) : virDomainDestroy(domain);
    return outcome(c, domain, result, "Domain '%s' destroyed", "Failed to destroy domain '%s'");
}

/* --mode of shutdown and reboot: a list of ways, tried by the other side in its own order. */
static bool stop_mode(struct call *c, unsigned *ret_flags)
{
    static const struct {
        const char *name;
        unsigned shutdown;
    } modes[] = {{"acpi", VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN}, {"agent", VIR_DOMAIN_SHUTDOWN_GUEST_AGENT}, {"initctl", VIR_DOMAIN_SHUTDOWN_INITCTL},
        {"signal", VIR_DOMAIN_SHUTDOWN_SIGNAL}, {"paravirt", VIR_DOMAIN_SHUTDOWN_PARAVIRT}};
    *ret_flags = 0;
    g_auto(GStrv) words = g_strsplit(opt_str(c, "mode") ? opt_str(c, "mode") : "", ",", -1);
    for (char **w = words; *w; w++) {
        unsigned i = 0;
        while (i < G_N_ELEMENTS(modes) && strcmp(modes[i].name, *w))
            i++;
        if (i == G_N_ELEMENTS(modes))
            return complain(c, "Unknown mode %s value, expecting 'acpi', 'agent', 'initctl', 'signal', or 'paravirt'", *w);
        *ret_flags |= modes[i].shutdown; /* the reboot flags have the same numbers */
    }
    return true;
}

static bool cmd_shutdown(struct call *c)
{
    unsigned flags;
    if (!stop_mode(c, &flags))
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain)
        return false;
    int result = flags ? virDomainShutdownFlags(domain, flags) : virDomainShutdown(domain);
    return outcome(c, domain, result, "Domain '%s' is being shutdown", "Failed to shutdown domain '%s'");
}

static bool cmd_reboot(struct call *c)
{
    unsigned flags;
    if (!stop_mode(c, &flags))
        return false;
    g_autoptr(virDomain) domain = arg_domain(c);
    return domain && outcome(c, domain, virDomainReboot(domain, flags), "Domain '%s' is being rebooted", "Failed to reboot domain '%s'");
}

static bool cmd_reset(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    return domain && outcome(c, domain, virDomainReset(domain, 0), "Domain '%s' was reset", "Failed to reset domain '%s'");
}

static bool cmd_suspend(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    return domain && outcome(c, domain, virDomainSuspend(domain), "Domain '%s' suspended", "Failed to suspend domain '%s'");
}

static bool cmd_resume(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    return domain && outcome(c, domain, virDomainResume(domain), "Domain '%s' resumed", "Failed to resume domain '%s'");
}

static bool cmd_define(struct call *c)
{
    g_autofree char *text = opt_file(c, "file");
    if (!text)
        return false;
    unsigned flags = opt_flags(c, "validate", VIR_DOMAIN_DEFINE_VALIDATE, NULL);
    g_autoptr(virDomain) domain = flags ? virDomainDefineXMLFlags(c->v->connection, text, flags) : virDomainDefineXML(c->v->connection, text);
    if (!domain)
        return complain(c, "Failed to define domain from %s", opt_str(c, "file"));
    note(c, "Domain '%s' defined from %s\n", virDomainGetName(domain), opt_str(c, "file"));
    return true;
}

static bool cmd_create(struct call *c)
{
    g_autofree char *text = opt_file(c, "file");
    if (!text)
        return false;
    g_autofree int *fds = NULL;
    unsigned nfds;
    if (!pass_fds(c, &fds, &nfds))
        return false;
    unsigned flags = opt_flags(c, "paused", VIR_DOMAIN_START_PAUSED, "autodestroy", VIR_DOMAIN_START_AUTODESTROY, "validate",
        VIR_DOMAIN_START_VALIDATE, "reset-nvram", VIR_DOMAIN_START_RESET_NVRAM, NULL);
    g_autoptr(virDomain) domain = nfds ? virDomainCreateXMLWithFiles(c->v->connection, text, nfds, fds, flags) : virDomainCreateXML(c->v->connection, text, flags);
    if (!domain)
        return complain(c, "Failed to create domain from %s", opt_str(c, "file"));
    note(c, "Domain '%s' created from %s\n", virDomainGetName(domain), opt_str(c, "file"));
    return !opt_bool(c, "console") || console_run(c, domain, NULL, 0);
}

static void volume_free(gpointer volume)
{
    virStorageVolFree(volume);
}

/* The volumes that undefine shall remove: those of the disks that --storage names, or all. */
static GPtrArray *storage_of(struct call *c, virDomainPtr domain)
{
    GPtrArray *volumes = g_ptr_array_new_with_free_func(volume_free);
    g_auto(GStrv) wanted = opt_str(c, "storage") ? g_strsplit(opt_str(c, "storage"), ",", -1) : NULL;
    g_autofree char *text = virDomainGetXMLDesc(domain, VIR_DOMAIN_XML_INACTIVE);
    struct xml x;
    if (!xml_open(&x, text))
        return volumes;
    g_autoptr(GPtrArray) disks = xml_nodes(&x, NULL, "/domain/devices/disk");
    g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < disks->len; i++) {
        g_autofree char *target = xml_text(&x, disks->pdata[i], "./target/@dev");
        g_autofree char *source = xml_text(&x, disks->pdata[i], "./source/@file|./source/@dev|./source/@dir|./source/@name");
        g_autofree char *pool = xml_text(&x, disks->pdata[i], "./source/@pool");
        g_autofree char *in_pool = xml_text(&x, disks->pdata[i], "./source/@volume");
        if (wanted && !(target && g_strv_contains((const char *const *)wanted, target)) && !(source && g_strv_contains((const char *const *)wanted, source)))
            continue;
        if (target)
            g_ptr_array_add(found, g_strdup(target));
        if (source)
            g_ptr_array_add(found, g_strdup(source));
        virStorageVolPtr volume = NULL;
        if (pool && in_pool) {
            g_autoptr(virStoragePool) p = virStoragePoolLookupByName(c->v->connection, pool);
            volume = p ? virStorageVolLookupByName(p, in_pool) : NULL;
        } else if (source) {
            volume = virStorageVolLookupByPath(c->v->connection, source);
        }
        forget_library_error(c->v);
        if (volume)
            g_ptr_array_add(volumes, volume);
        else if (source)
            complain(c, "Storage volume '%s'(%s) is not managed by libvirt. Remove it manually.\n", target ? target : "", source);
    }
    xml_close(&x);
    for (char **w = wanted; w && *w; w++)
        if (!g_ptr_array_find_with_equal_func(found, *w, g_str_equal, NULL)) {
            complain(c, "Volume '%s' was not found in domain's definition.\n", *w);
            g_ptr_array_unref(volumes);
            return NULL;
        }
    return volumes;
}

static bool remove_storage(struct call *c, GPtrArray *volumes)
{
    bool good = true;
    unsigned flags = opt_flags(c, "delete-storage-volume-snapshots", VIR_STORAGE_VOL_DELETE_WITH_SNAPSHOTS, NULL);
    for (guint i = 0; i < volumes->len; i++) {
        virStorageVolPtr volume = volumes->pdata[i];
        g_autofree char *path = virStorageVolGetPath(volume);
        const char *name = virStorageVolGetName(volume);
        if (opt_bool(c, "wipe-storage")) {
            say(c, "Wiping volume '%s'(%s) ... ", name, path);
            fflush(stdout);
            if (virStorageVolWipe(volume, 0) < 0) {
                good = complain(c, "Failed! Volume not removed.");
                continue;
            }
            say(c, "Done.\n");
        }
        if (virStorageVolDelete(volume, flags) < 0)
            good = complain(c, "Failed to remove storage volume '%s'(%s)", name, path);
        else
            say(c, "Volume '%s'(%s) removed.\n", name, path);
    }
    return good;
}

static bool cmd_undefine(struct call *c)
{
    if (!opt_exclusive(c, "nvram", "keep-nvram", NULL) || !opt_exclusive(c, "tpm", "keep-tpm", NULL) || !opt_exclusive(c, "storage", "remove-all-storage", NULL))
        return false;
    unsigned flags = opt_flags(c, "managed-save", VIR_DOMAIN_UNDEFINE_MANAGED_SAVE, "snapshots-metadata", VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA,
        "checkpoints-metadata", VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA, "nvram", VIR_DOMAIN_UNDEFINE_NVRAM, "keep-nvram", VIR_DOMAIN_UNDEFINE_KEEP_NVRAM,
        "tpm", VIR_DOMAIN_UNDEFINE_TPM, "keep-tpm", VIR_DOMAIN_UNDEFINE_KEEP_TPM, NULL);
    bool storage = opt_str(c, "storage") || opt_bool(c, "remove-all-storage");
    if (!storage && opt_bool(c, "wipe-storage"))
        return complain(c, "'--wipe-storage' requires '--storage <string>' or '--remove-all-storage'");
    g_autoptr(virDomain) domain = arg_domain(c);
    g_autoptr(GPtrArray) volumes = NULL;
    if (!domain)
        return false;
    if (storage && virDomainIsActive(domain) == 1)
        return complain(c, "Storage volume deletion is supported only on stopped domains");
    if (storage && !(volumes = storage_of(c, domain)))
        return false;
    int result = flags ? virDomainUndefineFlags(domain, flags) : virDomainUndefine(domain);
    if (!outcome(c, domain, result, "Domain '%s' has been undefined", "Failed to undefine domain '%s'"))
        return false;
    return !volumes || remove_storage(c, volumes);
}

static bool cmd_autostart(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain)
        return false;
    if (opt_bool(c, "disable"))
        return outcome(c, domain, virDomainSetAutostart(domain, 0), "Domain '%s' unmarked as autostarted", "Failed to unmark domain '%s' as autostarted");
    return outcome(c, domain, virDomainSetAutostart(domain, 1), "Domain '%s' marked as autostarted", "Failed to mark domain '%s' as autostarted");
}

static bool cmd_domrename(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain)
        return false;
    if (virDomainRename(domain, opt_str(c, "new-name"), 0) < 0)
        return false;
    note(c, "Domain successfully renamed\n");
    return true;
}

static bool cmd_domid(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain)
        return false;
    unsigned id = virDomainGetID(domain);
    return id == (unsigned)-1 ? say_value(c, "id", "-") : say_value(c, "id", "%u", id);
}

static bool cmd_domname(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    return domain && say_value(c, "name", "%s", virDomainGetName(domain));
}

static bool cmd_domuuid(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    char uuid[VIR_UUID_STRING_BUFLEN];
    if (!domain || virDomainGetUUIDString(domain, uuid) < 0)
        return domain && complain(c, "failed to get domain UUID");
    return say_value(c, "uuid", "%s", uuid);
}

static bool cmd_dumpxml(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain)
        return false;
    unsigned flags = opt_flags(c, "inactive", VIR_DOMAIN_XML_INACTIVE, "security-info", VIR_DOMAIN_XML_SECURE, "update-cpu",
        VIR_DOMAIN_XML_UPDATE_CPU, "migratable", VIR_DOMAIN_XML_MIGRATABLE, NULL);
    g_autofree char *text = virDomainGetXMLDesc(domain, flags);
    return text && print_document(c, text);
}

static bool store_domain(struct call *c, const char *text, void *opaque)
{
    virDomainPtr *slot = opaque;
    virDomainPtr changed = virDomainDefineXMLFlags(c->v->connection, text, opt_bool(c, "skip-validate") ? 0 : VIR_DOMAIN_DEFINE_VALIDATE);
    if (!changed)
        return false;
    virDomainFree(*slot);
    *slot = changed;
    return true;
}

static bool cmd_edit(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    g_autofree char *text = domain ? virDomainGetXMLDesc(domain, VIR_DOMAIN_XML_SECURE | VIR_DOMAIN_XML_INACTIVE) : NULL;
    if (!text)
        return false;
    g_autofree char *nothing = g_strdup_printf("Domain '%s' XML configuration not changed.\n", virDomainGetName(domain));
    virDomainPtr before = domain;
    if (!edit_document(c, text, store_domain, &domain, nothing))
        return false;
    if (domain != before)
        note(c, "Domain '%s' XML configuration edited.\n", virDomainGetName(domain));
    return true;
}

static bool cmd_lifecycle_action(struct call *c)
{
    static const char *const types[] = {"poweroff", "reboot", "crash"};
    static const char *const actions[] = {"destroy", "restart", "rename-restart", "preserve", "coredump-destroy", "coredump-restart"};
    const char *type = opt_str(c, "type"), *action = opt_str(c, "action");
    unsigned flags, t = 0, a = 0;
    if (!opt_affect(c, &flags))
        return false;
    while (t < G_N_ELEMENTS(types) && strcmp(types[t], type))
        t++;
    while (a < G_N_ELEMENTS(actions) && strcmp(actions[a], action))
        a++;
    if (t == G_N_ELEMENTS(types))
        return complain(c, "Invalid lifecycle type '%s'.", type);
    if (a == G_N_ELEMENTS(actions))
        return complain(c, "Invalid lifecycle action '%s'.", action);
    g_autoptr(virDomain) domain = arg_domain(c);
    return domain && virDomainSetLifecycleAction(domain, t, a, flags) == 0;
}

static bool cmd_dompmsuspend(struct call *c)
{
    static const char *const targets[] = {"mem", "disk", "hybrid"};
    const char *target = opt_str(c, "target");
    unsigned long long duration = 0;
    unsigned i = 0;
    if (opt_ull(c, "duration", &duration) < 0)
        return false;
    while (i < G_N_ELEMENTS(targets) && strcmp(targets[i], target))
        i++;
    if (i == G_N_ELEMENTS(targets))
        return complain(c, "Invalid target");
    g_autoptr(virDomain) domain = arg_domain(c);
    return domain && outcome(c, domain, virDomainPMSuspendForDuration(domain, i, duration, 0), "Domain '%s' successfully suspended", "Domain '%s' could not be suspended");
}

static bool cmd_dompmwakeup(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    return domain && outcome(c, domain, virDomainPMWakeup(domain, 0), "Domain '%s' successfully woken up", "Domain '%s' could not be woken up");
}

static bool cmd_inject_nmi(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    return domain && virDomainInjectNMI(domain, 0) == 0;
}

static bool cmd_fd_associate(struct call *c)
{
    unsigned flags = opt_flags(c, "seclabel-writable", VIR_DOMAIN_FD_ASSOCIATE_SECLABEL_WRITABLE, "seclabel-restore", VIR_DOMAIN_FD_ASSOCIATE_SECLABEL_RESTORE, NULL);
    g_autofree int *fds = NULL;
    unsigned nfds;
    g_autoptr(virDomain) domain = pass_fds(c, &fds, &nfds) ? arg_domain(c) : NULL;
    return domain && virDomainFDAssociate(domain, opt_str(c, "name"), nfds, fds, flags) == 0;
}

const struct command domain_commands[] = {
    {"autostart", "domain", "domain! disable", cmd_autostart, 0, "Start a domain with the host, or no longer"},
    {"create", "domain",
        "file! console paused autodestroy pass-fds= validate reset-nvram",
        cmd_create, 0, "Start a domain that lives as long as it runs, from a document"},
    {"define", "domain", "file! validate", cmd_define, 0, "Store a domain from a document, without starting it"},
    {"destroy", "domain", "domain! graceful remove-logs", cmd_destroy, 0, "Stop a domain at once, as if its power were cut"},
    {"dom-fd-associate", "domain", "domain! name! pass-fds! seclabel-writable seclabel-restore", cmd_fd_associate, 0, "Give a domain file descriptors for its disks"},
    {"domid", "domain", "domain!", cmd_domid, COMMAND_LIST, "Print the id of a running domain"},
    {"domname", "domain", "domain!", cmd_domname, COMMAND_LIST, "Print the name of a domain"},
    {"dompmsuspend", "domain", "domain! target! duration#@", cmd_dompmsuspend, 0, "Send the guest to sleep"},
    {"dompmwakeup", "domain", "domain!", cmd_dompmwakeup, 0, "Wake a sleeping guest"},
    {"domrename", "domain", "domain! new-name!", cmd_domrename, 0, "Give a stopped domain another name"},
    {"domuuid", "domain", "domain!", cmd_domuuid, COMMAND_LIST, "Print the UUID of a domain"},
    {"dumpxml", "domain", "domain! inactive security-info update-cpu migratable xpath=@ wrap", cmd_dumpxml, 0, "Print the document of a domain"},
    {"edit", "domain", "domain! skip-validate", cmd_edit, 0, "Change the document of a domain in an editor"},
    {"inject-nmi", "domain", "domain!", cmd_inject_nmi, 0, "Send the guest a non-maskable interrupt"},
    {"reboot", "domain", "domain! mode=", cmd_reboot, 0, "Ask the guest to start again"},
    {"reset", "domain", "domain!", cmd_reset, 0, "Press the reset button of a domain"},
    {"resume", "domain", "domain!", cmd_resume, 0, "Let a paused domain go on"},
    {"set-lifecycle-action", "domain",
        "domain! type! action! config live current",
        cmd_lifecycle_action, 0, "Choose what follows when the guest powers off, reboots or crashes"},
    {"shutdown", "domain", "domain! mode=", cmd_shutdown, 0, "Ask the guest to power off"},
    {"start", "domain",
        "domain! console paused autodestroy bypass-cache force-boot pass-fds= reset-nvram",
        cmd_start, 0, "Start a domain that has been defined"},
    {"suspend", "domain", "domain!", cmd_suspend, 0, "Pause a domain"},
    {"undefine", "domain",
        "domain! managed-save storage= remove-all-storage delete-storage-volume-snapshots wipe-storage snapshots-metadata "
        "checkpoints-metadata nvram keep-nvram tpm keep-tpm",
        cmd_undefine, 0, "Forget the definition of a domain"},
    {},
};
