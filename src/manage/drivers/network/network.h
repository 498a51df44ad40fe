/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The network driver's own structures; only files of this folder include it. Reading order: network_driver.c (start and services),
 * network_calls.c and network_parts.c (the procedures), network_list.c (which networks there are, their files), network_define.c (checks and defaults),
 * network_start.c (a network is made and taken away) with network_netlink.c (bridge, addresses, routes), network_dns.c (dnsmasq) and
 * network_firewall.c (nftables), network_watch.c (what others destroy is mended), network_update.c (parts of a network change).
 *
 * Locks: driver->change serializes everything that changes a network or the list, and is held over files and processes; then
 * driver->lock (hash tables alone); then network->lock (documents, flags, ports). Readers take the last two for moments only.
 */
#pragma once

#include "manage/core/manage.h"
#include "manage/core/manage_netlink.h"
#include "manage/core/manage_run.h"
#include "manage/core/manage_services.h"
#include "manage/model/doc.h"

struct network_port {
    char *domain, *mac;
    char *device;         /* of a pool: the one that it got; NULL */
    uint8_t uuid[16];
};

struct network_driver {
    struct manage_state *state;
    GMutex change, lock;
    GHashTable *by_name;  /* char * -> struct network *, owns a reference */
    GHashTable *by_uuid;  /* uint8_t[16] in the network -> struct network *, none of its own */
    char *config_dir, *autostart_dir, *state_dir, *lib_dir;
    struct network_watch *watch;
};

struct network {
    gint refs;
    struct network_driver *driver;
    char *name;           /* constant */
    uint8_t uuid[16];     /* constant */
    GMutex lock;          /* what follows */
    struct doc *defined;  /* as on disk; NULL: transient */
    struct doc *live;     /* of the active network; NULL: not active */
    bool autostart;
    bool user;            /* active without a bridge of its own: served by the machine itself (no privileges) */
    GPtrArray *ports;     /* struct network_port * */
    /* Under driver->change: */
    pid_t dnsmasq;        /* 0: none */
    GSource *dns_source;  /* hears of its end */
    gint64 dns_started;   /* g_get_monotonic_time(), when it was started again by itself */
    unsigned rules;       /* in our nftables table after it was made; 0: there is none */
};

/* ---- list (network_list.c) ---- */

struct network_driver *network_driver_new(struct manage_state *s);
void network_driver_free(struct network_driver *dr);
struct network *network_new(struct network_driver *dr, const char *name, const uint8_t uuid[16]);
struct network *network_ref(struct network *n);
void network_unref(struct network *n);
static inline void network_cleanup(struct network **n)
{
    if (*n)
        network_unref(*n);
}
/* network_auto *n = network_by_name(...); */
#define network_auto __attribute__((cleanup(network_cleanup))) struct network
/* A reference; NULL with VIR_ERR_NO_NETWORK. */
struct network *network_by_name(struct network_driver *dr, const char *name, GError **error);
struct network *network_by_uuid(struct network_driver *dr, const uint8_t uuid[16], const char *name, GError **error);
GPtrArray *network_all(struct network_driver *dr); /* of struct network *, referenced, by name */
void network_list_add(struct network_driver *dr, struct network *n);
void network_list_remove(struct network_driver *dr, struct network *n);
GVariant *network_variant(const struct network *n); /* "(say)" */
bool network_is_active(struct network *n);
void network_event(struct network *n, int event); /* virNetworkEventLifecycleType */
/* Copies of the documents; NULL where there is none. */
struct doc *network_live(struct network *n);
struct doc *network_definition(struct network *n);
void network_set_docs(struct network *n, struct doc *live, bool set_live, struct doc *defined, bool set_defined); /* takes over */

void network_port_free(gpointer port);
unsigned network_connections_locked(const struct network *n, const char *device); /* interfaces on a device of a pool; n->lock is held (network_driver.c) */

/* Files. */
char *network_file(const char *dir, const char *name, const char *suffix);
bool network_save(struct network *n, const struct doc *defined, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool network_save_status(struct network *n, const struct doc *live, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void network_save_ports(struct network *n);
bool network_load_all(struct network_driver *dr, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool network_set_autostart(struct network *n, bool on, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- addresses (network_addr.c) ---- */

struct net_addr {
    int family;           /* AF_INET, AF_INET6; 0: none */
    uint8_t bytes[16];    /* network byte order; 4 or 16 */
    unsigned prefix;
};
bool net_addr_parse(const char *text, int family, struct net_addr *ret) G_GNUC_WARN_UNUSED_RESULT; /* family 0: any */
char *net_addr_format(const struct net_addr *a);          /* without the prefix */
char *net_addr_format_net(const struct net_addr *a);      /* "192.168.122.0/24": bits behind the prefix are 0 */
bool net_addr_in(const struct net_addr *a, const struct net_addr *net); /* is a within net/prefix? */
bool net_addr_overlap(const struct net_addr *a, const struct net_addr *b);
int net_addr_compare(const struct net_addr *a, const struct net_addr *b);
unsigned net_addr_bits(const struct net_addr *a);
/* Address and prefix of an <ip> or <route> element; the class decides where neither prefix nor netmask stands. False with an error. */
bool net_addr_of(const struct el *e, const char *network, struct net_addr *ret, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool net_mac_valid(const char *text);

/* ---- definitions (network_define.c) ---- */

enum network_mode { NETWORK_ISOLATED, NETWORK_NAT, NETWORK_ROUTE, NETWORK_OPEN, NETWORK_BRIDGE, NETWORK_POOL /* macvtap, hostdev */ };
enum network_mode network_mode(const struct doc *d);
static inline bool network_is_virtual(enum network_mode m) { return m < NETWORK_BRIDGE; } /* the bridge is ours */
/* Checks a document and fills in uuid, MAC address, bridge as libvirt does at define. `uuid` and `name` of the result are in the document. */
bool network_complete(struct network_driver *dr, struct doc *d, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The checks alone, after an update. */
bool network_check(const struct doc *d, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Name, UUID and bridge against all other networks. *ret: the network that is defined anew, referenced, or NULL. */
bool network_check_unique(struct network_driver *dr, const struct doc *d, bool create, struct network **ret, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- start and stop (network_start.c); driver->change is held ---- */

bool network_start(struct network *n, const struct doc *d, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void network_stop(struct network *n);
/* Takes away what a start or stop that was cut off has left, after its document. */
void network_sweep(struct network_driver *dr, const char *name, const struct doc *d);
/* After a start of the daemon: is it all there? False: it was gone and has been taken down. */
bool network_find_again(struct network *n);

/* ---- kernel (network_netlink.c) ---- */

struct net_route {
    struct net_addr to;   /* prefix 0: default route */
    int oif;
    char device[17];
    bool autoconf;        /* made by a router advertisement */
};
bool net_bridge_create(const char *name, const char *mac, bool stp, unsigned delay_s, unsigned mtu, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool net_addr_add(const char *name, const struct net_addr *a, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool net_route_add(const struct net_addr *to, const struct net_addr *via, unsigned metric, GError **error) G_GNUC_WARN_UNUSED_RESULT;
GArray *net_routes(GError **error); /* of struct net_route, main table */
bool net_sysctl(const char *value, GError **error, const char *path_format, ...) G_GNUC_PRINTF(3, 4);

/* ---- dnsmasq (network_dns.c, network_leases.c) ---- */

bool network_dns_wanted(const struct doc *d);
/* The text of its configuration; n NULL: for a check alone, without the paths. */
char *network_dns_config(const struct network *n, const struct doc *d, GError **error);
/* Writes the files and starts it. */
bool network_dns_start(struct network *n, const struct doc *d, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void network_dns_stop(struct network_driver *dr, const char *name);
pid_t network_dns_find(struct network_driver *dr, const char *name); /* of the process that runs, 0 */
void network_dns_remove_files(struct network_driver *dr, const char *name, bool leases);

struct network_lease {
    int64_t expiry;       /* seconds since 1970, 0: never */
    bool v6;
    char *mac, *iaid, *ip, *hostname, *clientid; /* NULL: none */
    unsigned prefix;
};
GPtrArray *network_leases(struct network *n, const char *mac); /* of struct network_lease *, those that are valid now */

/* ---- nftables (network_firewall.c, network_watch.c) ---- */

bool network_firewall_apply(struct network *n, const struct doc *d, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void network_firewall_remove(const char *bridge);
/* Are all our rules there? Applies them again where not; true: something was missing. */
bool network_firewall_mend(struct network *n);
/* Says in the log which chain of another table drops what this network forwards: our rules cannot allow it. */
void network_firewall_warn(const struct network *n, const struct doc *d);
struct network_watch *network_watch_new(struct network_driver *dr);
void network_watch_free(struct network_watch *w);
void network_watch_look(struct network_watch *w); /* now, in the thread of the watch */
/* dnsmasq of the network is another process now, or none (n->dnsmasq): its end is heard of. driver->change is held. */
void network_watch_dns(struct network *n);

/* ---- parts (network_update.c) ---- */

/* One virNetworkUpdate on one document. */
bool network_update_doc(struct doc *d, unsigned command, unsigned section, int parent, const char *xml, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- <metadata> (network_metadata.c) ---- */

char *network_metadata_get(const struct el *metadata, const char *uri); /* NULL: there is none */
/* text NULL: removes it. */
bool network_metadata_set(struct el *root, const char *text, const char *key, const char *uri, GError **error) G_GNUC_WARN_UNUSED_RESULT;

extern const struct manage_row network_rows[];
