/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ssh and rm: guests that run has made, by the notes in their metadata; ssh works for other guests too. */
#include "vireo_commands.h"
#include "vireo_run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool run_notes_read(virDomainPtr domain, struct run_notes *notes)
{
    *notes = (struct run_notes){};
    g_autofree char *text = virDomainGetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, RUN_NAMESPACE, 0);
    struct xml x;
    if (!xml_open(&x, text))
        return false;
    notes->user = xml_text(&x, NULL, "/*/@user");
    notes->key = xml_text(&x, NULL, "/*/@key");
    notes->port = xml_text(&x, NULL, "/*/@port");
    notes->pool = xml_text(&x, NULL, "/*/@pool");
    g_autoptr(GPtrArray) volumes = xml_nodes(&x, NULL, "/*/*[local-name()='volume']");
    notes->volumes = g_new0(char *, volumes->len + 1);
    for (guint i = 0; i < volumes->len; i++)
        notes->volumes[i] = xml_text(&x, volumes->pdata[i], "string(.)");
    xml_close(&x);
    return true;
}

void run_notes_clear(struct run_notes *notes)
{
    g_free(notes->user);
    g_free(notes->key);
    g_free(notes->port);
    g_free(notes->pool);
    g_strfreev(notes->volumes);
    *notes = (struct run_notes){};
}

static char *address_from(virDomainPtr domain, unsigned source)
{
    virDomainInterfacePtr *all = NULL;
    char *found = NULL;
    int n = virDomainInterfaceAddresses(domain, &all, source, 0);
    for (int i = 0; i < n; i++) {
        for (unsigned k = 0; !found && k < all[i]->naddrs; k++)
            if (all[i]->addrs[k].type == VIR_IP_ADDR_TYPE_IPV4 && !g_str_has_prefix(all[i]->addrs[k].addr, "127."))
                found = g_strdup(all[i]->addrs[k].addr);
        virDomainInterfaceFree(all[i]);
    }
    free(all);
    return found;
}

char *guest_address(struct call *c, virDomainPtr domain)
{
    static const unsigned sources[] = {VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE, VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT, VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP};
    for (unsigned i = 0; i < G_N_ELEMENTS(sources); i++) {
        char *found = address_from(domain, sources[i]);
        forget_library_error(c->v);
        if (found)
            return found;
    }
    return NULL;
}

char **ssh_command(struct call *c, virDomainPtr domain, const struct run_notes *notes)
{
    g_autofree char *address = notes->port ? g_strdup("127.0.0.1") : guest_address(c, domain);
    if (!address) {
        complain(c, "no address of '%s' is known: it has no lease, no agent answers and it is not in the host's ARP table", virDomainGetName(domain));
        return NULL;
    }
    GPtrArray *words = g_ptr_array_new();
    g_ptr_array_add(words, g_strdup("ssh"));
    if (notes->user) { /* a guest of ours: its host key is new each time, and known to nobody else */
        static const char *const fresh[] = {"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"};
        for (unsigned i = 0; i < G_N_ELEMENTS(fresh); i++)
            g_ptr_array_add(words, g_strdup(fresh[i]));
    }
    if (notes->key && g_file_test(notes->key, G_FILE_TEST_EXISTS)) {
        g_ptr_array_add(words, g_strdup("-i"));
        g_ptr_array_add(words, g_strdup(notes->key));
    }
    if (notes->port) {
        g_ptr_array_add(words, g_strdup("-p"));
        g_ptr_array_add(words, g_strdup(notes->port));
    }
    const char *user = opt_str(c, "user") ? opt_str(c, "user") : notes->user;
    g_ptr_array_add(words, user ? g_strdup_printf("%s@%s", user, address) : g_strdup(address));
    g_ptr_array_add(words, NULL);
    return (char **)g_ptr_array_free(words, false);
}

static bool cmd_ssh(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    if (!domain)
        return false;
    if (virDomainIsActive(domain) != 1)
        return complain(c, "the domain '%s' is not running", virDomainGetName(domain));
    struct run_notes notes;
    run_notes_read(domain, &notes);
    forget_library_error(c->v);
    g_auto(GStrv) words = ssh_command(c, domain, &notes);
    run_notes_clear(&notes);
    if (!words)
        return false;
    g_autoptr(GPtrArray) all = g_ptr_array_new();
    for (char **w = words; *w; w++)
        g_ptr_array_add(all, *w);
    for (char **w = opt_list(c, "command"); w && *w; w++)
        g_ptr_array_add(all, *w);
    g_ptr_array_add(all, NULL);
    int status = 0;
    g_autoptr(GError) error = NULL;
    fflush(stdout);
    if (!g_spawn_sync(NULL, (char **)all->pdata, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_CHILD_INHERITS_STDIN, NULL, NULL, NULL, NULL, &status, &error))
        return complain(c, "ssh cannot be started: %s", error->message);
    c->v->quiet = true; /* what the guest printed is the output, nothing follows it */
    return g_spawn_check_wait_status(status, NULL);
}

static bool remove_volumes(struct call *c, const struct run_notes *notes)
{
    g_autoptr(virStoragePool) pool = notes->pool ? virStoragePoolLookupByName(c->v->connection, notes->pool) : NULL;
    bool good = true;
    for (char **name = notes->volumes; pool && name && *name; name++) {
        g_autoptr(virStorageVol) volume = virStorageVolLookupByName(pool, *name);
        if (!volume) {
            forget_library_error(c->v);
            continue;
        }
        if (virStorageVolDelete(volume, 0) < 0)
            good = complain(c, "the volume '%s' cannot be deleted", *name);
        else
            note(c, "Volume '%s' deleted\n", *name);
    }
    return good;
}

static bool cmd_rm(struct call *c)
{
    g_autoptr(virDomain) domain = arg_domain(c);
    struct run_notes notes;
    if (!domain)
        return false;
    const char *name = virDomainGetName(domain);
    if (!run_notes_read(domain, &notes)) {
        forget_library_error(c->v);
        return complain(c, "'%s' was not made by `vireo run`: stop it with destroy, forget it with undefine --remove-all-storage", name);
    }
    g_autofree char *volumes = g_strjoinv(", ", notes.volumes);
    bool good = opt_bool(c, "yes") || confirm(c, "Stop '%s', forget it and delete %s?", name, *volumes ? volumes : "nothing else");
    if (!good) {
        run_notes_clear(&notes);
        return complain(c, "nothing was removed");
    }
    if (virDomainIsActive(domain) == 1 && virDomainDestroy(domain) < 0)
        good = complain(c, "the domain '%s' cannot be stopped", name);
    if (good && virDomainIsPersistent(domain) == 1) {
        unsigned flags = VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA | VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | VIR_DOMAIN_UNDEFINE_NVRAM;
        if (virDomainUndefineFlags(domain, flags) < 0 && virDomainUndefine(domain) < 0)
            good = complain(c, "the domain '%s' cannot be undefined", name);
    }
    forget_library_error(c->v);
    good = good && remove_volumes(c, &notes);
    if (good)
        note(c, "Domain '%s' removed\n", name);
    run_notes_clear(&notes);
    return good;
}

const struct command quick_commands[] = {
    {"rm", "quick", "domain! yes", cmd_rm, 0, "Take away a guest that run has made, with its disks"},
    {"ssh", "quick", "domain! user=@ command...", cmd_ssh, 0, "Log in to a guest, or run a command there"},
    {},
};
