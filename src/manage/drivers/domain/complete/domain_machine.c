/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manage/drivers/domain/complete/domain_complete.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What a QEMU says it has, by path. Filled on first use, kept for the driver's life; a new program file (by time of change) is asked again. */
struct domain_emulator {
    gint64 mtime;
    GHashTable *machines; /* name -> canonical name */
    char *standard;       /* the default machine */
};

static void emulator_free(gpointer p)
{
    struct domain_emulator *e = p;
    g_hash_table_unref(e->machines);
    g_free(e->standard);
    g_free(e);
}

/* A line is "NAME   text", with "(alias of OTHER)" or "(default)" in the text. */
static void parse_machine(struct domain_emulator *e, const char *line)
{
    g_autofree char *name = g_strndup(line, strcspn(line, " \t"));
    const char *alias = strstr(line, "(alias of ");
    if (!*name || !line[strlen(name)] || g_str_has_prefix(line, "Supported"))
        return;
    char *target = alias ? g_strndup(alias + 10, strcspn(alias + 10, ")")) : g_strdup(name);
    if (strstr(line, "(default)")) {
        g_free(e->standard);
        e->standard = g_strdup(target);
    }
    g_hash_table_insert(e->machines, g_steal_pointer(&name), target);
}

/* A program that does not answer is not waited for. */
static void bound_time(G_GNUC_UNUSED gpointer unused)
{
    alarm(15);
}

static struct domain_emulator *ask_machines(const char *path, gint64 mtime, GError **error)
{
    g_autofree char *out = NULL, *err = NULL;
    const char *argv[] = { path, "-machine", "help", NULL };
    int status = 0;
    g_autoptr(GError) why = NULL;
    if (!g_spawn_sync("/", (char **)argv, NULL, G_SPAWN_DEFAULT, bound_time, NULL, &out, &err, &status, &why) || !g_spawn_check_wait_status(status, &why))
        return manage_null(error, VIR_ERR_CONFIG_UNSUPPORTED, "the emulator '%s' does not tell which machines it has: %s%s%s", path, why->message,
                           err && *err ? ": " : "", err ? g_strchomp(err) : "");
    struct domain_emulator *e = g_new0(struct domain_emulator, 1);
    e->mtime = mtime;
    e->machines = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_auto(GStrv) lines = g_strsplit(out, "\n", 2000);
    for (char **l = lines; *l; l++)
        parse_machine(e, *l);
    return e;
}

/* The canonical name of a machine of a QEMU, NULL with an error; name NULL: its default. */
static char *canonical_machine(struct domain_driver *dr, const char *path, const char *name, GError **error)
{
    struct stat st;
    if (stat(path, &st) < 0) {
        manage_fail_errno(error, errno, "the emulator '%s' cannot be used", path);
        return NULL;
    }
    if (access(path, X_OK) < 0)
        return manage_null(error, VIR_ERR_CONFIG_UNSUPPORTED, "the emulator '%s' is not a program that may be executed", path);
    gint64 mtime = st.st_mtim.tv_sec * G_USEC_PER_SEC + st.st_mtim.tv_nsec / 1000;
    g_mutex_lock(&dr->emulators_lock);
    if (!dr->emulators)
        dr->emulators = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, emulator_free);
    struct domain_emulator *e = g_hash_table_lookup(dr->emulators, path);
    if (!e || e->mtime != mtime) {
        e = ask_machines(path, mtime, error);
        if (e)
            g_hash_table_replace(dr->emulators, g_strdup(path), e);
    }
    char *found = NULL;
    if (e) {
        const char *c = name ? g_hash_table_lookup(e->machines, name) : e->standard;
        if (c)
            found = g_strdup(c);
        else
            manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the emulator '%s' has no machine '%s'; '%s -machine help' lists them", path, name ? name : "(default)", path);
    }
    g_mutex_unlock(&dr->emulators_lock);
    return found;
}

static void classify(struct domain_machine *m)
{
    m->pcie = g_str_equal(m->name, "q35") || g_str_has_prefix(m->name, "pc-q35-");
    m->i440fx = g_str_equal(m->name, "pc") || g_str_has_prefix(m->name, "pc-i440fx-") || g_str_has_prefix(m->name, "pc-0.") || g_str_has_prefix(m->name, "pc-1.");
    m->has_pci = m->pcie || m->i440fx;
}

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return g_str_equal(a, b) || (stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino);
}

static bool is_vireo_vmm(const struct domain_driver *dr, const char *emulator)
{
    g_autofree char *base = g_path_get_basename(emulator);
    return g_str_equal(base, "vireo-vmm") || (dr->state->vmm && same_file(emulator, dr->state->vmm));
}

bool domain_machine_init(struct domain_machine *m, struct domain_driver *dr, const struct el *root, GError **error)
{
    const char *emulator = el_get(root, "devices/emulator"), *name = el_get(root, "os/type/@machine");
    memset(m, 0, sizeof(*m));
    m->emulator = g_strdup(emulator && *emulator ? emulator : dr->state->vmm ? dr->state->vmm : "vireo-vmm");
    m->is_vireo = is_vireo_vmm(dr, m->emulator);
    if (!m->is_vireo) {
        m->name = canonical_machine(dr, m->emulator, name, error);
        if (!m->name)
            return false;
    } else {
        m->name = g_strdup(name ? name : "q35");
    }
    classify(m);
    /* A board of QEMU that vireo-vmm lacks stays in the definition; it is refused at the start. */
    if (m->is_vireo && !m->has_pci && !g_str_equal(m->name, "microvm") && !g_str_equal(m->name, "isapc"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "there is no machine '%s'%s; vireo-vmm has q35, pc-q35-VERSION and microvm", m->name,
                           domain_line(el_find(root, "os/type")));
    return true;
}

void domain_machine_of(struct domain_machine *m, const struct domain_driver *dr, const struct el *root)
{
    memset(m, 0, sizeof(*m));
    m->emulator = g_strdup(el_get_or(root, "devices/emulator", dr->state->vmm ? dr->state->vmm : "vireo-vmm"));
    m->is_vireo = is_vireo_vmm(dr, m->emulator);
    m->name = g_strdup(el_get_or(root, "os/type/@machine", "q35"));
    classify(m);
}

void domain_machine_finish(struct domain_machine *m)
{
    g_clear_pointer(&m->emulator, g_free);
    g_clear_pointer(&m->name, g_free);
}
