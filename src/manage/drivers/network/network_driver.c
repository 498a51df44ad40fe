/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The network driver: starts with the daemon, and what domains ask of it. */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manage/drivers/network/network.h"

/* ---- the network that is there from the beginning ---- */

static const char default_xml[] = "<network>\n"
                                  "  <name>default</name>\n"
                                  "  <forward mode='nat'/>\n"
                                  "  <bridge name='virbr0' stp='on' delay='0'/>\n"
                                  "  <ip address='192.168.122.1' netmask='255.255.255.0'>\n"
                                  "    <dhcp>\n"
                                  "      <range start='192.168.122.2' end='192.168.122.254'/>\n"
                                  "    </dhcp>\n"
                                  "  </ip>\n"
                                  "</network>\n";

/*
 * First start: there is no directory of definitions yet. One who removed `default` later does not get it again. The system's own daemon starts it with the
 * host; a second one, below a root directory, would take virbr0 away from that: there it is started when somebody asks for it.
 */
static bool define_default(struct network_driver *dr, GError **error)
{
    uint8_t uuid[16];
    bool autostart = !dr->state->privileged || !strcmp(dr->state->dirs.config, "/etc/vireo");
    doc_auto *d = doc_parse(&schema_network, default_xml, -1, error);
    if (!d || !network_complete(dr, d, error) || !manage_uuid_parse(el_get(doc_root(d), "uuid"), uuid))
        return false;
    network_auto *n = network_new(dr, "default", uuid);
    if (!network_save(n, d, error) || !network_set_autostart(n, autostart, error))
        return false;
    n->defined = g_steal_pointer(&d);
    n->autostart = autostart;
    network_list_add(dr, n);
    return true;
}

/* dnsmasq, as a user of its own, looks for its files there. */
static void make_searchable(const char *path)
{
    struct stat st;
    if (g_mkdir_with_parents(path, 0711) == 0 && stat(path, &st) == 0 && (st.st_mode & 0111) != 0111 && chmod(path, (st.st_mode & 07777) | 0111) < 0)
        g_warning("'%s' is not searchable for all: %s", path, g_strerror(errno));
}

/* ---- services ---- */

static bool may_attach(struct network *n, const struct doc *d, GError **error)
{
    const char *bridge = el_get(doc_root(d), "bridge/@name");
    if (network_mode(d) == NETWORK_POOL)
        return el_find(doc_root(d), "forward/interface") || manage_fail(error, VIR_ERR_INTERNAL_ERROR, "network '%s' uses a direct mode, but has no forward dev and no interface pool", n->name);
    if (!n->user && (!bridge || !manage_link_exists(bridge)))
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "network '%s': the bridge '%s' does not exist on the host: make it, or %s", n->name, bridge ? bridge : "",
                           network_is_virtual(network_mode(d)) ? "net-destroy and net-start the network" : "name another one in the network");
    return true;
}

unsigned network_connections_locked(const struct network *n, const char *device)
{
    unsigned count = 0;
    for (unsigned i = 0; i < n->ports->len; i++)
        count += !g_strcmp0(((const struct network_port *)n->ports->pdata[i])->device, device);
    return count;
}

/* Of a pool: the device that fewest interfaces have; one alone where the mode has no room for a second. n->lock is held. */
static bool choose_device_locked(const struct network *n, const struct doc *d, char **ret, GError **error)
{
    const char *best = NULL;
    unsigned least = 0;
    el_each (interface, el_find(doc_root(d), "forward"), "interface") {
        const char *device = el_get_or(interface, "@dev", "");
        unsigned count = network_connections_locked(n, device);
        if (!best || count < least) {
            best = device;
            least = count;
        }
    }
    if (!best || (least && el_is(doc_root(d), "forward/@mode", "passthrough")))
        return manage_fail(error, VIR_ERR_INTERNAL_ERROR, "network '%s' requires exclusive access to interfaces, but none are available", n->name);
    *ret = g_strdup(best);
    return true;
}

/* The portgroup of this name; NULL: the default one. */
static const struct el *portgroup_of(const struct doc *d, const char *name)
{
    el_each (group, doc_root(d), "portgroup")
        if (name ? el_is(group, "@name", name) : el_is(group, "@default", "yes"))
            return group;
    return NULL;
}

static void place(const struct doc *d, const char *portgroup, bool user, const char *device, struct manage_network_place *ret)
{
    const struct el *group = portgroup_of(d, portgroup);
    enum network_mode mode = network_mode(d);
    *ret = (struct manage_network_place){ .user = user, .type = mode == NETWORK_POOL ? "direct" : mode == NETWORK_BRIDGE ? "bridge" : "network" };
    if (mode == NETWORK_POOL) {
        ret->device = g_strdup(device);
        ret->mode = g_strdup(el_get(doc_root(d), "forward/@mode"));
    } else if (!user) {
        ret->bridge = g_strdup(el_get(doc_root(d), "bridge/@name"));
    }
    if (!group)
        return;
    ret->in = manage_rate_of(el_find(group, "bandwidth/inbound"));
    ret->out = manage_rate_of(el_find(group, "bandwidth/outbound"));
}

/* Nothing here tags frames: a guest that was to be in a VLAN would be in none. */
static bool check_group(const struct network *n, const struct doc *d, const char *portgroup, GError **error)
{
    const struct el *group = portgroup_of(d, portgroup);
    if (el_find(group, "vlan"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "an interface connecting to network '%s' is requesting a vlan tag, but that is not supported for this type of network", n->name);
    return !el_find(group, "virtualport") ||
           manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the portgroup '%s' of network '%s' has a <virtualport>: that is not there", el_get_or(group, "@name", ""), n->name);
}

static bool attach(struct manage_state *s, const char *name, const char *portgroup, const char *domain, const char *mac, struct manage_network_place *ret, GError **error)
{
    struct network_driver *dr = manage_data(s, "network");
    network_auto *n = network_by_name(dr, name, error);
    if (!n)
        return false;
    doc_auto *d = network_live(n);
    if (!d)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "network '%s' is not active: start it with net-start %s", name, name);
    if (!may_attach(n, d, error) || !check_group(n, d, portgroup, error))
        return false;
    struct network_port *p = g_new0(struct network_port, 1);
    p->domain = g_strdup(domain);
    p->mac = g_strdup(mac ? mac : "");
    manage_uuid_random(p->uuid);
    g_mutex_lock(&n->lock);
    bool user = n->user, good = network_mode(d) != NETWORK_POOL || choose_device_locked(n, d, &p->device, error);
    if (good) {
        place(d, portgroup, user, p->device, ret);
        g_ptr_array_add(n->ports, p);
    } else {
        network_port_free(p);
    }
    g_mutex_unlock(&n->lock);
    if (good)
        network_save_ports(n);
    return good;
}

static void detach(struct manage_state *s, const char *name, const char *domain, const char *mac)
{
    network_auto *n = network_by_name(manage_data(s, "network"), name, NULL);
    bool found = false;
    if (!n)
        return;
    g_mutex_lock(&n->lock);
    for (unsigned i = 0; i < n->ports->len && !found; i++) {
        const struct network_port *p = n->ports->pdata[i];
        found = !strcmp(p->domain, domain) && (!mac || !g_ascii_strcasecmp(p->mac, mac));
        if (found)
            g_ptr_array_remove_index(n->ports, i);
    }
    g_mutex_unlock(&n->lock);
    if (found)
        network_save_ports(n);
}

static char **leases_of(struct manage_state *s, const char *name, const char *mac)
{
    g_autoptr(GPtrArray) all = network_all(manage_data(s, "network"));
    GPtrArray *found = g_ptr_array_new();
    for (unsigned i = 0; i < all->len; i++) {
        struct network *n = all->pdata[i];
        if (name && strcmp(n->name, name))
            continue;
        g_autoptr(GPtrArray) leases = network_leases(n, mac);
        for (unsigned k = 0; k < leases->len; k++) {
            const struct network_lease *l = leases->pdata[k];
            g_ptr_array_add(found, g_strdup_printf("%s/%u", l->ip, l->prefix));
        }
    }
    g_ptr_array_add(found, NULL);
    return (char **)g_ptr_array_free(found, FALSE);
}

static char *lease_name(struct manage_state *s, const char *name, const char *mac)
{
    g_autoptr(GPtrArray) all = network_all(manage_data(s, "network"));
    char *found = NULL;
    for (unsigned i = 0; i < all->len && !found; i++) {
        struct network *n = all->pdata[i];
        g_autoptr(GPtrArray) leases = strcmp(n->name, name) ? NULL : network_leases(n, mac);
        for (unsigned k = 0; leases && k < leases->len && !found; k++)
            found = g_strdup(((const struct network_lease *)leases->pdata[k])->hostname);
    }
    return found;
}

/* ---- the driver ---- */

static bool start(struct manage_state *s, void **ret_data, GError **error)
{
    struct network_driver *dr = network_driver_new(s);
    bool first = access(dr->config_dir, F_OK) != 0;
    if (s->privileged)
        make_searchable(s->dirs.lib);
    if (s->privileged)
        dr->watch = network_watch_new(dr);
    g_mutex_lock(&dr->change);
    bool ok = network_load_all(dr, error) && (!first || define_default(dr, error));
    g_mutex_unlock(&dr->change);
    if (!ok) {
        network_watch_free(dr->watch);
        network_driver_free(dr);
        return false;
    }
    struct manage_services *services = manage_services_of(s);
    services->network_attach = attach;
    services->network_detach = detach;
    services->network_leases = leases_of;
    services->network_lease_name = lease_name;
    *ret_data = dr;
    return true;
}

/* Once per life of the host: a network that was stopped by hand stays so when the daemon is started again. */
static void autostart(struct manage_state *s, void *data)
{
    struct network_driver *dr = data;
    g_autofree char *mark = g_build_filename(dr->state_dir, "autostarted", NULL);
    int fd = open(mark, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    close(fd);
    g_autoptr(GPtrArray) all = network_all(dr);
    for (unsigned i = 0; i < all->len; i++) {
        struct network *n = all->pdata[i];
        g_autoptr(GError) error = NULL;
        g_mutex_lock(&dr->change);
        doc_auto *d = n->autostart && !network_is_active(n) ? network_definition(n) : NULL;
        if (d && !network_start(n, d, &error))
            g_warning("network '%s' is not started: %s", n->name, error->message);
        g_mutex_unlock(&dr->change);
    }
}

static void stop(struct manage_state *s, void *data)
{
    struct network_driver *dr = data;
    network_watch_free(dr->watch);
    network_driver_free(dr);
}

static void reload(struct manage_state *s, void *data) { network_watch_look(((struct network_driver *)data)->watch); }

const struct manage_driver manage_driver_network = { .name = "network", .rows = network_rows, .start = start, .autostart = autostart, .stop = stop, .reload = reload };
