/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/core/object.h"

#include <string.h>

#include "base/error.h"
#include "vmm/core/machine.h"

static const struct object_class
    no_epc = { .name = "memory-backend-epc", .help = "SGX is not there" },
    no_rng_egd = { .name = "rng-egd", .help = "use rng-random or rng-builtin" };

static const struct object_class *const classes[] = {
    &hostmem_ram_class, &hostmem_memfd_class, &hostmem_file_class, &rng_random_class, &rng_builtin_class, &iothread_class, &secret_class, &throttle_group_class,
    &no_epc, &no_rng_egd,
};

const struct object_class *object_class_at(unsigned i)
{
    return i < G_N_ELEMENTS(classes) ? classes[i] : NULL;
}

const struct object_class *object_class_find(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(classes); i++) {
        if (!strcmp(classes[i]->name, name))
            return classes[i];
    }
    return NULL;
}

static const struct object_class *find_class(const char *name, GError **error)
{
    const char *names[G_N_ELEMENTS(classes)];
    unsigned n = 0;
    for (size_t i = 0; i < G_N_ELEMENTS(classes); i++) {
        const struct object_class *c = classes[i];
        if (!strcmp(c->name, name) && !c->complete) {
            vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "objects of the type '%s' are not available: %s", name, c->help);
            return NULL;
        }
        if (!strcmp(c->name, name))
            return c;
        if (c->complete)
            names[n++] = c->name;
    }
    const char *near = nearest_name(name, names, n);
    vireo_fail(error, VIREO_ERROR_INVALID, "invalid object type: %s; %s%s%s-object help lists them", name, near ? "did you mean '" : "",
               near ? near : "", near ? "'? " : "");
    return NULL;
}

/* QEMU's rule (id_wellformed): a letter, then letters, digits, '-', '.', '_'. */
static bool good_id(const char *id)
{
    if (!g_ascii_isalpha(*id))
        return false;
    while (*++id) {
        if (!g_ascii_isalnum(*id) && !strchr("-._", *id))
            return false;
    }
    return true;
}

/* Lists come from JSON as "key.0", "key.1" ...: as if the key was repeated. */
static struct keyval *flat_lists(const struct keyval *kv)
{
    struct keyval *out = keyval_new();
    for (guint i = 0; i < kv->pairs->len; i++) {
        const struct keyval_pair *p = kv->pairs->pdata[i];
        const char *dot = strrchr(p->key, '.');
        bool number = dot && dot[1] && strspn(dot + 1, "0123456789") == strlen(dot + 1);
        g_autofree char *key = number ? g_strndup(p->key, (gsize)(dot - p->key)) : g_strdup(p->key);
        keyval_add(out, key, p->value);
    }
    return out;
}

static void destroy(struct object *o)
{
    if (o->class->finish)
        o->class->finish(o);
    for (const struct keyval_key *k = o->class->keys; k && k->name; k++) {
        void *field = (char *)o + k->offset;
        if (k->type == KV_STRING)
            g_free(*(char **)field);
        else if (k->type == KV_LIST && *(GPtrArray **)field)
            g_ptr_array_unref(*(GPtrArray **)field);
    }
    g_free(o->id);
    g_free(o);
}

struct object *object_create(struct machine *m, const struct keyval *given, GError **error)
{
    keyval_auto *kv = flat_lists(given);
    g_autofree char *type = keyval_take(kv, "qom-type"), *id = keyval_take(kv, "id");
    if (!type || !id) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Parameter '%s' is missing", type ? "id" : "qom-type");
        return NULL;
    }
    const struct object_class *c = find_class(type, error);
    if (!c)
        return NULL;
    if (!good_id(id)) {
        vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'id' expects an identifier: a letter, then letters, digits, '-', '.', '_'; not '%s'", id);
        return NULL;
    }
    if (object_find(m, id)) {
        vireo_fail(error, VIREO_ERROR_INVALID, "attempt to add duplicate property '%s' to object (type 'container'): there is such an object", id);
        return NULL;
    }
    struct object *o = g_malloc0(c->size);
    o->class = c;
    o->machine = m;
    o->id = g_steal_pointer(&id);
    if (c->init)
        c->init(o);
    static const struct keyval_key none[] = { { NULL } };
    if (!keyval_load(kv, c->keys ? c->keys : none, o, error) || !c->complete(o, error)) {
        g_prefix_error(error, "object '%s': ", o->id);
        destroy(o);
        return NULL;
    }
    g_ptr_array_add(m->objects, o);
    return o;
}

struct object *object_find(const struct machine *m, const char *id)
{
    for (guint i = 0; i < m->objects->len; i++) {
        struct object *o = m->objects->pdata[i];
        if (!strcmp(o->id, id))
            return o;
    }
    return NULL;
}

bool object_delete(struct machine *m, const char *id, GError **error)
{
    struct object *o = object_find(m, id);
    if (!o)
        return vireo_fail(error, VIREO_ERROR_INVALID, "object '%s' not found", id);
    if (o->user)
        return vireo_fail(error, VIREO_ERROR_BUSY, "object '%s' is in use by %s, can not be deleted", id, o->user);
    g_ptr_array_remove(m->objects, o);
    destroy(o);
    return true;
}

void object_destroy_all(struct machine *m)
{
    while (m->objects->len)
        destroy(g_ptr_array_remove_index(m->objects, m->objects->len - 1));
}

static char *class_help(const struct object_class *c)
{
    GString *s = g_string_new(NULL);
    g_string_append_printf(s, "%s: %s\n", c->name, c->help);
    for (const struct keyval_key *k = c->keys; k && k->name; k++) {
        if (k->type != KV_REFUSED && k->type != KV_IGNORED)
            g_string_append_printf(s, "  %s=...  %s\n", k->name, k->help ? k->help : "");
    }
    return g_string_free(s, FALSE);
}

char *object_help(const char *name)
{
    GString *s = g_string_new("List of user creatable objects:\n");
    for (size_t i = 0; i < G_N_ELEMENTS(classes); i++) {
        if (name && !strcmp(name, classes[i]->name)) {
            g_string_free(s, TRUE);
            return class_help(classes[i]);
        }
        if (classes[i]->complete)
            g_string_append_printf(s, "  %-24s %s\n", classes[i]->name, classes[i]->help);
    }
    return g_string_free(s, name != NULL);
}
