/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an emulator offers, asked over QMP on its standard streams: `EMULATOR -machine none -qmp stdio`. */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/json.h"
#include "manage/drivers/host/host.h"

static void machine_free(gpointer opaque)
{
    struct host_machine *m = opaque;
    g_free(m->name);
    g_free(m->canonical);
    g_free(m);
}

static void model_free(gpointer opaque)
{
    struct host_model *m = opaque;
    g_free(m->name);
    g_strfreev(m->lacks);
    g_strfreev(m->features);
    g_free(m);
}

void host_emulator_unref(struct host_emulator *e)
{
    if (!g_atomic_int_dec_and_test(&e->refs))
        return;
    g_free(e->path);
    g_free(e->arch);
    g_ptr_array_unref(e->machines);
    g_ptr_array_unref(e->models);
    g_hash_table_unref(e->devices);
    g_hash_table_unref(e->commands);
    g_strfreev(e->max_features);
    g_free(e);
}

/* ---- answers ---- */

static const char *text_of(struct json_object *o, const char *key)
{
    struct json_object *v;
    return json_object_object_get_ex(o, key, &v) ? json_object_get_string(v) : NULL;
}

static bool flag_of(struct json_object *o, const char *key)
{
    struct json_object *v;
    return json_object_object_get_ex(o, key, &v) && json_object_get_boolean(v);
}

static void add_machine(struct host_emulator *e, const char *name, const char *canonical, unsigned max_cpus, bool is_default)
{
    struct host_machine *m = g_new0(struct host_machine, 1);
    *m = (struct host_machine){ g_strdup(name), g_strdup(canonical), max_cpus, is_default };
    g_ptr_array_add(e->machines, m);
}

static void take_machines(struct host_emulator *e, struct json_object *list)
{
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *o = json_object_array_get_idx(list, i);
        const char *name = text_of(o, "name"), *alias = text_of(o, "alias");
        unsigned max = (unsigned)json_object_get_int(json_object_object_get(o, "cpu-max"));
        if (!name || !strcmp(name, "none") || !strcmp(name, "x-remote"))
            continue;
        if (e->is_vireo && !strcmp(name, "q35")) { /* "pc-q35-VERSION" is the same machine whatever the version */
            add_machine(e, "pc-q35-7.2", NULL, max, false);
            add_machine(e, "q35", "pc-q35-7.2", max, true);
            continue;
        }
        add_machine(e, name, NULL, max, flag_of(o, "is-default"));
        if (alias)
            add_machine(e, alias, name, max, false);
    }
}

static void strv_add(char ***list, const char *name)
{
    unsigned n = *list ? g_strv_length(*list) : 0;
    *list = g_renew(char *, *list, n + 2);
    (*list)[n] = g_strdup(name);
    (*list)[n + 1] = NULL;
}

static void take_models(struct host_emulator *e, struct json_object *list)
{
    static const char *const not_named[] = { "max", "host", "base", NULL };
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *o = json_object_array_get_idx(list, i), *missing;
        const char *name = text_of(o, "name");
        if (!name || g_strv_contains(not_named, name) || strstr(name, "-v1") || (strlen(name) > 3 && name[strlen(name) - 2] == 'v' && name[strlen(name) - 3] == '-'))
            continue;
        struct host_model *m = g_new0(struct host_model, 1);
        m->name = g_strdup(name);
        m->usable = !json_object_object_get_ex(o, "unavailable-features", &missing) || !json_object_array_length(missing);
        for (size_t k = 0; !m->usable && k < json_object_array_length(missing); k++)
            strv_add(&m->lacks, json_object_get_string(json_object_array_get_idx(missing, k)));
        g_ptr_array_add(e->models, m);
    }
}

static void take_names(GHashTable *set, struct json_object *list)
{
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        const char *name = text_of(json_object_array_get_idx(list, i), "name");
        if (name)
            g_hash_table_add(set, g_strdup(name));
    }
}

static void take_version(struct host_emulator *e, struct json_object *o)
{
    struct json_object *q = json_object_object_get(o, "qemu");
    e->version = (uint64_t)json_object_get_int(json_object_object_get(q, "major")) * 1000000 +
                 (uint64_t)json_object_get_int(json_object_object_get(q, "minor")) * 1000 + (uint64_t)json_object_get_int(json_object_object_get(q, "micro"));
    const char *package = text_of(o, "package");
    e->is_vireo = package && g_str_has_prefix(package, "vireo");
}

static void take_features(struct host_emulator *e, struct json_object *o)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    struct json_object *props = json_object_object_get(json_object_object_get(o, "model"), "props");
    if (props) {
        json_object_object_foreach(props, key, value) {
            if (json_object_is_type(value, json_type_boolean) && json_object_get_boolean(value))
                g_ptr_array_add(names, g_strdup(key));
        }
    }
    g_ptr_array_add(names, NULL);
    e->max_features = (char **)g_ptr_array_free(g_steal_pointer(&names), FALSE);
}

/* ---- the questions, in the order of their answers ---- */

static const char questions[] = "{\"execute\":\"qmp_capabilities\"}\n"
                                "{\"execute\":\"query-version\",\"id\":\"version\"}\n"
                                "{\"execute\":\"query-target\",\"id\":\"target\"}\n"
                                "{\"execute\":\"query-machines\",\"id\":\"machines\"}\n"
                                "{\"execute\":\"query-cpu-definitions\",\"id\":\"models\"}\n"
                                "{\"execute\":\"qom-list-types\",\"arguments\":{\"implements\":\"device\"},\"id\":\"devices\"}\n"
                                "{\"execute\":\"query-commands\",\"id\":\"commands\"}\n"
                                "{\"execute\":\"query-kvm\",\"id\":\"kvm\"}\n"
                                "{\"execute\":\"query-cpu-model-expansion\",\"arguments\":{\"type\":\"full\",\"model\":{\"name\":\"max\"}},\"id\":\"max\"}\n"
                                "{\"execute\":\"quit\"}\n";

static void take_answer(struct host_emulator *e, const char *line)
{
    json_auto *o = json_tokener_parse(line);
    struct json_object *ret;
    const char *id = o ? text_of(o, "id") : NULL;
    if (!id || !json_object_object_get_ex(o, "return", &ret))
        return;
    bool list = json_object_is_type(ret, json_type_array);
    if (!strcmp(id, "version"))
        take_version(e, ret);
    else if (!strcmp(id, "target"))
        e->arch = g_strdup(text_of(ret, "arch"));
    else if (!strcmp(id, "machines") && list)
        take_machines(e, ret);
    else if (!strcmp(id, "models") && list)
        take_models(e, ret);
    else if (!strcmp(id, "devices") && list)
        take_names(e->devices, ret);
    else if (!strcmp(id, "commands") && list)
        take_names(e->commands, ret);
    else if (!strcmp(id, "kvm"))
        e->kvm = flag_of(ret, "present");
    else if (!strcmp(id, "max"))
        take_features(e, ret);
}

/* All that a file has from where it stands. */
static char *read_all(int fd)
{
    GString *text = g_string_new(NULL);
    char buffer[4096];
    for (ssize_t n; (n = read(fd, buffer, sizeof(buffer))) > 0 || (n < 0 && errno == EINTR);)
        if (n > 0)
            g_string_append_len(text, buffer, n);
    return g_string_free(text, FALSE);
}

/* in: what it reads; err: where it complains. What it writes; NULL: it could not be started. */
static char *run(const char *path, int in, int err, GError **error)
{
    const char *argv[] = { path, "-S", "-nodefaults", "-machine", "none", "-display", "none", "-qmp", "stdio", NULL };
    int out = memfd_create("answers", MFD_CLOEXEC); /* no pipe: what is in one that is full when it quits would be lost */
    GPid pid;
    if (out < 0)
        return manage_fail_errno(error, errno, "cannot make a file in memory"), NULL;
    bool started = g_spawn_async_with_fds(NULL, (char **)argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &pid, in, out, err, error);
    while (started && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    char *text = started && lseek(out, 0, SEEK_SET) == 0 ? read_all(out) : NULL;
    close(out);
    return text;
}

static char *run_with_questions(const char *path, const char *text, char **ret_err, GError **error)
{
    int in = memfd_create("questions", MFD_CLOEXEC), err = memfd_create("complaints", MFD_CLOEXEC);
    char *out = NULL;
    if (in < 0 || err < 0 || write(in, text, strlen(text)) < 0 || lseek(in, 0, SEEK_SET) < 0)
        manage_fail_errno(error, errno, "cannot make a file in memory");
    else
        out = run(path, in, err, error);
    if (out && lseek(err, 0, SEEK_SET) == 0)
        *ret_err = read_all(err);
    if (in >= 0)
        close(in);
    if (err >= 0)
        close(err);
    return out;
}

static bool ask(struct host_emulator *e, GError **error)
{
    g_autofree char *err = NULL, *out = run_with_questions(e->path, questions, &err, error);
    if (!out) {
        g_prefix_error(error, "cannot ask the emulator '%s' what it offers: ", e->path);
        return false;
    }
    g_auto(GStrv) lines = g_strsplit(out, "\n", -1);
    for (char **l = lines; *l; l++)
        take_answer(e, *l);
    if (!e->version || !e->machines->len)
        return manage_fail(error, VIR_ERR_INTERNAL_ERROR, "the emulator '%s' does not answer on QMP%s%s", e->path, err && *err ? ": " : "", err ? g_strchomp(err) : "");
    if (!e->arch)
        e->arch = g_strdup("x86_64");
    if (!e->max_features)
        e->max_features = g_new0(char *, 1);
    return true;
}

bool host_emulator_runs(const struct host_emulator *e, const char *arch)
{
    return !strcmp(arch, e->arch) || (!strcmp(arch, "i686") && !strcmp(e->arch, "x86_64"));
}

const struct host_machine *host_emulator_machine(const struct host_emulator *e, const char *name)
{
    for (unsigned i = 0; i < e->machines->len; i++) {
        const struct host_machine *m = e->machines->pdata[i];
        if (name ? !strcmp(m->name, name) : m->is_default)
            return m;
    }
    return NULL;
}

/* ---- features of the models ---- */

static gint by_name(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* What a model has: what the machine would give, and what it lacks for that. */
static void take_expansion(struct host_model *m, struct json_object *props)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    json_object_object_foreach(props, key, value) {
        if (json_object_is_type(value, json_type_boolean) && json_object_get_boolean(value) && strcmp(key, "hypervisor") != 0 && !g_str_has_prefix(key, "kvm"))
            g_ptr_array_add(names, g_strdup(host_cpu_feature_name(key)));
    }
    for (char **l = m->lacks; l && *l; l++)
        g_ptr_array_add(names, g_strdup(host_cpu_feature_name(*l)));
    g_ptr_array_sort(names, by_name);
    g_ptr_array_add(names, NULL);
    m->features = (char **)g_ptr_array_free(g_steal_pointer(&names), FALSE);
}

static bool expand(struct host_emulator *e, GError **error)
{
    g_autoptr(GString) text = g_string_new("{\"execute\":\"qmp_capabilities\"}\n");
    for (unsigned i = 0; i < e->models->len; i++)
        g_string_append_printf(text, "{\"execute\":\"query-cpu-model-expansion\",\"arguments\":{\"type\":\"static\",\"model\":{\"name\":\"%s\"}},\"id\":%u}\n",
                               ((struct host_model *)e->models->pdata[i])->name, i);
    g_string_append(text, "{\"execute\":\"quit\"}\n");
    g_autofree char *err = NULL, *out = run_with_questions(e->path, text->str, &err, error);
    if (!out)
        return false;
    g_auto(GStrv) lines = g_strsplit(out, "\n", -1);
    for (char **l = lines; *l; l++) {
        json_auto *o = json_tokener_parse(*l);
        struct json_object *id, *props = o ? json_object_object_get(json_object_object_get(json_object_object_get(o, "return"), "model"), "props") : NULL;
        if (!props || !json_object_object_get_ex(o, "id", &id) || json_object_get_int64(id) < 0 || json_object_get_int64(id) >= e->models->len)
            continue;
        struct host_model *m = e->models->pdata[json_object_get_int64(id)];
        if (!m->features)
            take_expansion(m, props);
    }
    for (unsigned i = 0; i < e->models->len; i++)
        if (!((struct host_model *)e->models->pdata[i])->features)
            return manage_fail(error, VIR_ERR_INTERNAL_ERROR, "the emulator '%s' does not say what its CPU model '%s' has", e->path, ((struct host_model *)e->models->pdata[i])->name);
    return true;
}

bool host_emulator_expand(struct manage_state *s, struct host_emulator *e, GError **error)
{
    struct host_data *h = manage_data(s, "host");
    g_mutex_lock(&h->lock);
    bool ok = !e->models->len || ((struct host_model *)e->models->pdata[e->models->len - 1])->features || expand(e, error);
    g_mutex_unlock(&h->lock);
    return ok;
}

struct host_emulator *host_emulator_get(struct manage_state *s, const char *path, GError **error)
{
    struct host_data *h = manage_data(s, "host");
    struct stat st;
    if (!path || !*path)
        path = s->vmm;
    if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
        return manage_null(error, VIR_ERR_INVALID_ARG, "there is no emulator '%s': name the path of a program in <emulator>", path);
    g_mutex_lock(&h->lock);
    struct host_emulator *e = g_hash_table_lookup(h->emulators, path);
    if (e && (e->mtime != st.st_mtime || e->size != st.st_size))
        e = NULL;
    if (!e) {
        e = g_new0(struct host_emulator, 1);
        *e = (struct host_emulator){ .refs = 1, .path = g_strdup(path), .mtime = st.st_mtime, .size = st.st_size,
                                     .machines = g_ptr_array_new_with_free_func(machine_free), .models = g_ptr_array_new_with_free_func(model_free),
                                     .devices = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
                                     .commands = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL) };
        if (ask(e, error)) {
            g_hash_table_replace(h->emulators, e->path, e);
        } else {
            host_emulator_unref(e);
            e = NULL;
        }
    }
    if (e)
        g_atomic_int_inc(&e->refs);
    g_mutex_unlock(&h->lock);
    return e;
}
