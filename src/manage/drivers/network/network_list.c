/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which networks there are, and their files:
 *   CONFIG/qemu/networks/NAME.xml        the definition; autostart/NAME.xml is a link to it
 *   STATE/network/NAME.xml               the active network's document
 *   STATE/network/NAME.half              the document of one that is being made or taken away: what is found at start is swept
 *   STATE/network/NAME.ports             a line "UUID MAC[@DEVICE] DOMAIN" per attached interface; the device is that of a pool
 *   STATE/network/NAME.pid               dnsmasq
 *   LIB/dnsmasq/NAME.{conf,leases}
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "manage/drivers/network/network.h"

/* ---- networks ---- */

static guint uuid_hash(gconstpointer key)
{
    guint h;
    memcpy(&h, key, sizeof h);
    return h;
}

static gboolean uuid_equal(gconstpointer a, gconstpointer b) { return !memcmp(a, b, 16); }

void network_port_free(gpointer opaque)
{
    struct network_port *p = opaque;
    g_free(p->domain);
    g_free(p->mac);
    g_free(p->device);
    g_free(p);
}

struct network *network_new(struct network_driver *dr, const char *name, const uint8_t uuid[16])
{
    struct network *n = g_new0(struct network, 1);
    n->refs = 1;
    n->driver = dr;
    n->name = g_strdup(name);
    memcpy(n->uuid, uuid, 16);
    g_mutex_init(&n->lock);
    n->ports = g_ptr_array_new_with_free_func(network_port_free);
    return n;
}

struct network *network_ref(struct network *n)
{
    g_atomic_int_inc(&n->refs);
    return n;
}

void network_unref(struct network *n)
{
    if (!n || !g_atomic_int_dec_and_test(&n->refs))
        return;
    doc_free(n->defined);
    doc_free(n->live);
    g_ptr_array_unref(n->ports);
    g_mutex_clear(&n->lock);
    g_free(n->name);
    g_free(n);
}

static void unref_network(gpointer n) { network_unref(n); }

struct network_driver *network_driver_new(struct manage_state *s)
{
    struct network_driver *dr = g_new0(struct network_driver, 1);
    dr->state = s;
    g_mutex_init(&dr->change);
    g_mutex_init(&dr->lock);
    dr->by_name = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, unref_network);
    dr->by_uuid = g_hash_table_new(uuid_hash, uuid_equal);
    dr->config_dir = g_build_filename(s->dirs.config, "qemu", "networks", NULL);
    dr->autostart_dir = g_build_filename(dr->config_dir, "autostart", NULL);
    dr->state_dir = g_build_filename(s->dirs.state, "network", NULL);
    dr->lib_dir = g_build_filename(s->dirs.lib, "dnsmasq", NULL);
    return dr;
}

void network_driver_free(struct network_driver *dr)
{
    g_hash_table_unref(dr->by_uuid);
    g_hash_table_unref(dr->by_name);
    g_mutex_clear(&dr->change);
    g_mutex_clear(&dr->lock);
    g_free(dr->config_dir);
    g_free(dr->autostart_dir);
    g_free(dr->state_dir);
    g_free(dr->lib_dir);
    g_free(dr);
}

void network_list_add(struct network_driver *dr, struct network *n)
{
    g_mutex_lock(&dr->lock);
    g_hash_table_replace(dr->by_name, n->name, network_ref(n));
    g_hash_table_replace(dr->by_uuid, n->uuid, n);
    g_mutex_unlock(&dr->lock);
}

void network_list_remove(struct network_driver *dr, struct network *n)
{
    g_mutex_lock(&dr->lock);
    g_hash_table_remove(dr->by_uuid, n->uuid);
    g_hash_table_remove(dr->by_name, n->name);
    g_mutex_unlock(&dr->lock);
}

struct network *network_by_name(struct network_driver *dr, const char *name, GError **error)
{
    g_mutex_lock(&dr->lock);
    struct network *n = g_hash_table_lookup(dr->by_name, name);
    if (n)
        network_ref(n);
    g_mutex_unlock(&dr->lock);
    return n ? n : manage_null(error, VIR_ERR_NO_NETWORK, "no network with matching name '%s'", name);
}

struct network *network_by_uuid(struct network_driver *dr, const uint8_t uuid[16], const char *name, GError **error)
{
    g_mutex_lock(&dr->lock);
    struct network *n = g_hash_table_lookup(dr->by_uuid, uuid);
    if (n)
        network_ref(n);
    g_mutex_unlock(&dr->lock);
    if (n)
        return n;
    char text[37];
    manage_uuid_format(uuid, text);
    return name ? manage_null(error, VIR_ERR_NO_NETWORK, "no network with matching uuid '%s' (%s)", text, name)
                : manage_null(error, VIR_ERR_NO_NETWORK, "no network with matching uuid '%s'", text);
}

static gint by_name(gconstpointer a, gconstpointer b)
{
    return strcmp((*(struct network *const *)a)->name, (*(struct network *const *)b)->name);
}

GPtrArray *network_all(struct network_driver *dr)
{
    GPtrArray *list = g_ptr_array_new_with_free_func(unref_network);
    GHashTableIter i;
    gpointer n;
    g_mutex_lock(&dr->lock);
    g_hash_table_iter_init(&i, dr->by_name);
    while (g_hash_table_iter_next(&i, NULL, &n))
        g_ptr_array_add(list, network_ref(n));
    g_mutex_unlock(&dr->lock);
    g_ptr_array_sort(list, by_name);
    return list;
}

GVariant *network_variant(const struct network *n) { return g_variant_new("(s@ay)", n->name, manage_uuid_variant(n->uuid)); }

bool network_is_active(struct network *n)
{
    g_mutex_lock(&n->lock);
    bool active = n->live != NULL;
    g_mutex_unlock(&n->lock);
    return active;
}

static struct doc *copy_of(struct network *n, bool live)
{
    g_mutex_lock(&n->lock);
    const struct doc *d = live ? n->live : n->defined;
    struct doc *copy = d ? doc_copy(d) : NULL;
    g_mutex_unlock(&n->lock);
    return copy;
}

struct doc *network_live(struct network *n) { return copy_of(n, true); }
struct doc *network_definition(struct network *n) { return copy_of(n, false); }

void network_set_docs(struct network *n, struct doc *live, bool set_live, struct doc *defined, bool set_defined)
{
    struct doc *old_live = NULL, *old_defined = NULL;
    g_mutex_lock(&n->lock);
    if (set_live) {
        old_live = n->live;
        n->live = live;
    }
    if (set_defined) {
        old_defined = n->defined;
        n->defined = defined;
    }
    g_mutex_unlock(&n->lock);
    doc_free(old_live);
    doc_free(old_defined);
}

void network_event(struct network *n, int event)
{
    manage_event(n->driver->state, MANAGE_NETWORK, 0, n->uuid, 16, g_variant_new("(@(say)ii)", network_variant(n), event, 0));
}

/* ---- files ---- */

char *network_file(const char *dir, const char *name, const char *suffix) { return g_strconcat(dir, "/", name, suffix, NULL); }

static bool save(const char *dir, const char *name, const char *suffix, const struct doc *d, GError **error)
{
    g_autofree char *path = network_file(dir, name, suffix), *text = doc_format(d);
    return manage_write_file(path, text, -1, 0600, error);
}

bool network_save(struct network *n, const struct doc *defined, GError **error) { return save(n->driver->config_dir, n->name, ".xml", defined, error); }

bool network_save_status(struct network *n, const struct doc *live, GError **error) { return save(n->driver->state_dir, n->name, ".xml", live, error); }

void network_save_ports(struct network *n)
{
    g_autofree char *path = network_file(n->driver->state_dir, n->name, ".ports");
    g_autoptr(GString) text = g_string_new(NULL);
    g_autoptr(GError) error = NULL;
    g_mutex_lock(&n->lock);
    for (unsigned i = 0; i < n->ports->len; i++) {
        const struct network_port *p = n->ports->pdata[i];
        char uuid[37];
        manage_uuid_format(p->uuid, uuid);
        g_string_append_printf(text, "%s %s%s%s %s\n", uuid, p->mac, p->device ? "@" : "", p->device ? p->device : "", p->domain);
    }
    g_mutex_unlock(&n->lock);
    if (!(text->len ? manage_write_file(path, text->str, -1, 0600, &error) : manage_remove_file(path, &error)))
        g_warning("%s", error->message);
}

static void load_ports(struct network *n)
{
    g_autofree char *path = network_file(n->driver->state_dir, n->name, ".ports"), *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, NULL))
        return;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (unsigned i = 0; lines[i]; i++) {
        g_auto(GStrv) word = g_strsplit(lines[i], " ", 3);
        struct network_port p = { 0 };
        if (g_strv_length(word) != 3 || !manage_uuid_parse(word[0], p.uuid))
            continue;
        g_auto(GStrv) mac = g_strsplit(word[1], "@", 2);
        p.mac = g_strdup(mac[0] ? mac[0] : "");
        p.device = mac[0] ? g_strdup(mac[1]) : NULL;
        p.domain = g_strdup(word[2]);
        g_ptr_array_add(n->ports, g_memdup2(&p, sizeof p));
    }
}

bool network_set_autostart(struct network *n, bool on, GError **error)
{
    g_autofree char *link = network_file(n->driver->autostart_dir, n->name, ".xml"), *target = network_file(n->driver->config_dir, n->name, ".xml");
    if (!on)
        return manage_remove_file(link, error);
    if (g_mkdir_with_parents(n->driver->autostart_dir, 0700) < 0)
        return manage_fail_errno(error, errno, "cannot make the directory '%s'", n->driver->autostart_dir);
    if (symlink(target, link) < 0 && errno != EEXIST)
        return manage_fail_errno(error, errno, "cannot make the link '%s'", link);
    return true;
}

static struct doc *load(const char *path, GError **error)
{
    g_autofree char *text = NULL;
    gsize size;
    g_autoptr(GError) why = NULL;
    if (!g_file_get_contents(path, &text, &size, &why))
        return manage_null(error, VIR_ERR_INTERNAL_ERROR, "%s", why->message);
    return doc_parse(&schema_network, text, (gssize)size, error);
}

/* Name without the suffix, NULL where it does not end so or is hidden (a temporary file). */
static char *stem(const char *file, const char *suffix)
{
    return *file != '.' && g_str_has_suffix(file, suffix) ? g_strndup(file, strlen(file) - strlen(suffix)) : NULL;
}

/* The network that a file holds: it must have the file's name and a UUID. */
static struct network *of_document(struct network_driver *dr, const struct doc *d, const char *name, GError **error)
{
    uint8_t uuid[16];
    const struct el *root = doc_root(d);
    if (!el_is(root, "name", name) || !manage_uuid_parse(el_get_or(root, "uuid", ""), uuid))
        return manage_null(error, VIR_ERR_INTERNAL_ERROR, "its name or UUID is not that of network '%s'", name);
    struct network *n = network_by_name(dr, name, NULL);
    if (!n) {
        n = network_new(dr, name, uuid);
        network_list_add(dr, n);
    } else if (memcmp(n->uuid, uuid, 16)) {
        network_unref(n);
        return manage_null(error, VIR_ERR_INTERNAL_ERROR, "its UUID is not that of the network '%s' known by another file", name);
    }
    return n;
}

/* A file that cannot be read is named in the log and left alone; the others count. */
static void load_definition(struct network_driver *dr, const char *name)
{
    g_autofree char *path = network_file(dr->config_dir, name, ".xml"), *link = network_file(dr->autostart_dir, name, ".xml");
    g_autoptr(GError) error = NULL;
    struct doc *d = load(path, &error);
    network_auto *n = d ? of_document(dr, d, name, &error) : NULL;
    if (!n) {
        g_warning("network definition '%s' is left out: %s", path, error->message);
        doc_free(d);
        return;
    }
    network_set_docs(n, NULL, false, d, true);
    n->autostart = g_file_test(link, G_FILE_TEST_IS_SYMLINK);
}

static void load_status(struct network_driver *dr, const char *name)
{
    g_autofree char *path = network_file(dr->state_dir, name, ".xml");
    g_autoptr(GError) error = NULL;
    struct doc *d = load(path, &error);
    network_auto *n = d ? of_document(dr, d, name, &error) : NULL;
    if (!n) {
        g_warning("status of an active network '%s' is left out: %s", path, error->message);
        doc_free(d);
        return;
    }
    network_set_docs(n, d, true, NULL, false);
    load_ports(n);
    if (!network_find_again(n) && !n->defined)
        network_list_remove(dr, n);
}

static void sweep_half(struct network_driver *dr, const char *name)
{
    g_autofree char *path = network_file(dr->state_dir, name, ".half");
    doc_auto *d = load(path, NULL);
    if (d && network_is_virtual(network_mode(d)))
        network_sweep(dr, name, d);
    g_autofree char *status = network_file(dr->state_dir, name, ".xml");
    unlink(status);
    manage_remove_file(path, NULL);
}

static void each_file(struct network_driver *dr, const char *dir, const char *suffix, void (*fn)(struct network_driver *dr, const char *name))
{
    GDir *d = g_dir_open(dir, 0, NULL);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    for (const char *file; d && (file = g_dir_read_name(d));) {
        char *name = stem(file, suffix);
        if (name)
            g_ptr_array_add(names, name);
    }
    if (d)
        g_dir_close(d);
    for (unsigned i = 0; i < names->len; i++)
        fn(dr, names->pdata[i]);
}

bool network_load_all(struct network_driver *dr, GError **error)
{
    if (g_mkdir_with_parents(dr->state_dir, 0755) < 0)
        return manage_fail_errno(error, errno, "cannot make the directory '%s'", dr->state_dir);
    each_file(dr, dr->config_dir, ".xml", load_definition);
    each_file(dr, dr->state_dir, ".half", sweep_half);
    each_file(dr, dr->state_dir, ".xml", load_status);
    return true;
}
