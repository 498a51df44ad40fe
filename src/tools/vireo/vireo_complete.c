/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a word of a command line may become: commands, options, names of what there is. */
#include "vireo_commands.h"

#include <stdlib.h>
#include <string.h>

static void candidate(GPtrArray *found, const char *text, const char *word)
{
    if (g_str_has_prefix(text, word))
        g_ptr_array_add(found, g_strdup(text));
}

static void complete_commands(GPtrArray *found, const char *word)
{
    for (const struct command *const *list = vireo_commands; *list; list++)
        for (const struct command *cmd = *list; cmd->name; cmd++)
            if (!(cmd->flags & COMMAND_HIDDEN))
                candidate(found, cmd->name, word);
}

/* Names of what the connection or a domain has, by the name of the option that asks for them. */
#define COMPLETE_ALL(type, list_call, owner, name_call, free_call) \
    { \
        type *all = NULL; \
        int n = list_call(owner, &all, 0); \
        for (int i = 0; i < n; i++) { \
            candidate(found, name_call(all[i]), word); \
            free_call(all[i]); \
        } \
        free(all); \
    }
#define COMPLETE_NAMES(type, list_call, name_call) COMPLETE_ALL(type, list_call, v->connection, name_call, type##Free_)
#define COMPLETE_OF(type, list_call, name_call, free_call) COMPLETE_ALL(type, list_call, domain, name_call, free_call)
#define virDomainPtrFree_ virDomainFree
#define virNetworkPtrFree_ virNetworkFree
#define virStoragePoolPtrFree_ virStoragePoolFree
#define virNodeDevicePtrFree_ virNodeDeviceFree
#define virInterfacePtrFree_ virInterfaceFree
#define virNWFilterPtrFree_ virNWFilterFree

static void complete_secrets(struct vireo *v, GPtrArray *found, const char *word)
{
    virSecretPtr *all = NULL;
    int n = virConnectListAllSecrets(v->connection, &all, 0);
    for (int i = 0; i < n; i++) {
        char uuid[VIR_UUID_STRING_BUFLEN];
        if (virSecretGetUUIDString(all[i], uuid) == 0)
            candidate(found, uuid, word);
        virSecretFree(all[i]);
    }
    free(all);
}

static void complete_volumes(struct vireo *v, GPtrArray *found, const char *word)
{
    virStoragePoolPtr *pools = NULL;
    int n = virConnectListAllStoragePools(v->connection, &pools, VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE);
    for (int i = 0; i < n; i++) {
        virStorageVolPtr *all = NULL;
        int m = virStoragePoolListAllVolumes(pools[i], &all, 0);
        for (int j = 0; j < m; j++) {
            candidate(found, virStorageVolGetName(all[j]), word);
            virStorageVolFree(all[j]);
        }
        free(all);
        virStoragePoolFree(pools[i]);
    }
    free(pools);
}

/* Where in a domain's document stands what an option asks for; command NULL: in all of them. */
static const struct {
    const char *command, *option, *path;
} domain_parts[] = {
    {NULL, "path", "/domain/devices/disk/target/@dev"},
    {NULL, "device", "/domain/devices/disk/target/@dev"},
    {NULL, "dev", "/domain/devices/disk/target/@dev"},
    {"detach-disk", "target", "/domain/devices/disk/target/@dev"},
    {NULL, "interface", "/domain/devices/interface/target/@dev|/domain/devices/interface/mac/@address"},
    {"detach-interface", "mac", "/domain/devices/interface/mac/@address"},
    {"detach-device-alias", "alias", "/domain/devices/*/alias/@name"},
};

static void complete_nodes(virDomainPtr domain, GPtrArray *found, const char *path, const char *word)
{
    g_autofree char *text = virDomainGetXMLDesc(domain, 0);
    struct xml x;
    if (!text || !xml_open(&x, text))
        return;
    g_autoptr(GPtrArray) nodes = xml_nodes(&x, NULL, "%s", path);
    for (guint i = 0; nodes && i < nodes->len; i++) {
        g_autofree char *value = xml_text(&x, nodes->pdata[i], ".");
        if (value)
            candidate(found, value, word);
    }
    xml_close(&x);
}

/* What hangs on the domain that the line names; false: the option asks for something else. */
static bool complete_domains_own(struct vireo *v, GPtrArray *found, const struct command *cmd, const char *option, const char *name, const char *word)
{
    const char *path = NULL;
    for (unsigned i = 0; i < G_N_ELEMENTS(domain_parts) && !path; i++)
        if (!strcmp(option, domain_parts[i].option) && (!domain_parts[i].command || !strcmp(cmd->name, domain_parts[i].command)))
            path = domain_parts[i].path;
    bool snapshot = !strcmp(option, "snapshotname"), checkpoint = !strcmp(option, "checkpointname");
    if (!path && !snapshot && !checkpoint)
        return false;
    g_autoptr(virDomain) domain = virDomainLookupByName(v->connection, name);
    if (!domain)
        return true;
    if (snapshot)
        COMPLETE_OF(virDomainSnapshotPtr, virDomainListAllSnapshots, virDomainSnapshotGetName, virDomainSnapshotFree)
    else if (checkpoint)
        COMPLETE_OF(virDomainCheckpointPtr, virDomainListAllCheckpoints, virDomainCheckpointGetName, virDomainCheckpointFree)
    else
        complete_nodes(domain, found, path, word);
    return true;
}

static void complete_values(struct vireo *v, GPtrArray *found, const struct command *cmd, const struct command_option *o, const char *domain, const char *word)
{
    if (!strcmp(o->name, "command"))
        complete_commands(found, word);
    if (!strcmp(o->name, "output")) {
        candidate(found, "text", word);
        candidate(found, "json", word);
    }
    if (!v->connection && !vireo_connect(v))
        return;
    if (domain && complete_domains_own(v, found, cmd, o->name, domain, word))
        ;
    else if (!strcmp(o->name, "domain"))
        COMPLETE_NAMES(virDomainPtr, virConnectListAllDomains, virDomainGetName)
    else if (!strcmp(o->name, "network"))
        COMPLETE_NAMES(virNetworkPtr, virConnectListAllNetworks, virNetworkGetName)
    else if (!strcmp(o->name, "pool") || !strcmp(o->name, "inputpool"))
        COMPLETE_NAMES(virStoragePoolPtr, virConnectListAllStoragePools, virStoragePoolGetName)
    else if (!strcmp(o->name, "device"))
        COMPLETE_NAMES(virNodeDevicePtr, virConnectListAllNodeDevices, virNodeDeviceGetName)
    else if (!strcmp(o->name, "interface"))
        COMPLETE_NAMES(virInterfacePtr, virConnectListAllInterfaces, virInterfaceGetName)
    else if (!strcmp(o->name, "nwfilter"))
        COMPLETE_NAMES(virNWFilterPtr, virConnectListAllNWFilters, virNWFilterGetName)
    else if (!strcmp(o->name, "secret"))
        complete_secrets(v, found, word);
    else if (!strcmp(o->name, "vol"))
        complete_volumes(v, found, word);
    forget_library_error(v);
}

/* Is the word behind this one its value? */
static bool takes_value(GPtrArray *options, const char *word)
{
    for (guint k = 0; k < options->len; k++) {
        struct command_option *o = options->pdata[k];
        if (g_str_has_prefix(word, "--") && !strcmp(o->name, word + 2))
            return o->kind != OPTION_BOOL;
    }
    return false;
}

/* Which option the next word by position would be. */
static const struct command_option *next_data(GPtrArray *options, char **words, int n)
{
    int data = 0;
    for (int i = 1; i < n; i++) {
        if (!g_str_has_prefix(words[i], "--")) {
            data++;
            continue;
        }
        if (takes_value(options, words[i]))
            i++;
    }
    for (guint k = 0; k < options->len; k++) {
        struct command_option *o = options->pdata[k];
        if (o->kind == OPTION_BOOL || o->kind == OPTION_ALIAS || o->named_only)
            continue;
        if (o->kind == OPTION_ARGV || data-- == 0)
            return o;
    }
    return NULL;
}

/* The domain that the words before the one to be completed name, if the command has one. */
static const char *domain_named(GPtrArray *options, char **words, int n)
{
    for (int i = 1; i < n; i++) {
        int before = i;
        if (!strcmp(words[i], "--domain"))
            return i + 1 < n ? words[i + 1] : NULL;
        if (g_str_has_prefix(words[i], "--"))
            continue;
        const struct command_option *o = next_data(options, words, before);
        if (o && !strcmp(o->name, "domain") && !(i > 1 && takes_value(options, words[i - 1])))
            return words[i];
    }
    return NULL;
}

/* Those that are not there yet. */
static void complete_options(GPtrArray *found, GPtrArray *options, char **words, int n, const char *word)
{
    for (guint i = 0; i < options->len; i++) {
        struct command_option *o = options->pdata[i];
        g_autofree char *name = g_strconcat("--", o->name, NULL);
        bool there = o->kind == OPTION_ALIAS;
        for (int k = 1; k < n && !there; k++)
            there = !strcmp(words[k], name);
        if (!there)
            candidate(found, name, word);
    }
}

char **complete_words(struct vireo *v, char **words, int n, const char *word)
{
    g_autoptr(GPtrArray) found = g_ptr_array_new();
    const struct command *cmd = n ? command_find(words[0]) : NULL;
    if (!n) {
        complete_commands(found, word);
    } else if (cmd) {
        g_autoptr(GPtrArray) options = command_options(cmd);
        const struct command_option *wanted = NULL;
        bool dash = g_str_has_prefix(word, "-");
        for (guint i = 0; i < options->len && n > 1; i++) {
            struct command_option *o = options->pdata[i];
            if (g_str_has_prefix(words[n - 1], "--") && !strcmp(words[n - 1] + 2, o->name) && o->kind != OPTION_BOOL)
                wanted = o;
        }
        bool value = wanted != NULL;
        if (!wanted && !dash)
            wanted = next_data(options, words, n);
        if (wanted)
            complete_values(v, found, cmd, wanted, domain_named(options, words, n), word);
        if (!value && (dash || (!wanted && !*word)))
            complete_options(found, options, words, n, word);
    }
    g_ptr_array_add(found, NULL);
    return (char **)g_ptr_array_steal(found, NULL);
}

char **complete_line(struct vireo *v, const char *line, const char *word)
{
    const char *start = strrchr(line, ';');
    g_autofree char *command = g_strdup(start ? start + 1 : line);
    g_auto(GStrv) words = g_strsplit_set(g_strstrip(command), " \t", -1);
    int n = 0;
    for (char **w = words; *w; w++)
        if (**w)
            words[n++] = *w;
        else
            g_free(*w);
    words[n] = NULL;
    return complete_words(v, words, n, word);
}
