/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A running machine moves to another host's daemon. Reading order: domain_migrate_args.c (what callers may say), domain_migrate_cookie.c (what the two daemons tell each
 * other through the client), domain_migrate_source.c and domain_migrate_target.c (the five calls Begin, Prepare, Perform, Finish, Confirm), domain_migrate_listen.c (where the state is taken), domain_migrate_disks.c (disks that are copied), domain_migrate_peer.c (this
 * daemon is the client of the other), domain_migrate_recover.c (clients and daemons that end in between), domain_migrate_tune.c (limits).
 *
 * The guest runs on one side: the source's machine stands still from the end of Perform, the destination's runs with Finish. A step that decides about it is in the
 * status file before it is done. While a migration lasts longer than a call, d->held keeps other work away (domain_begin()).
 */
#pragma once

#include "manage/drivers/domain/domain.h"

enum migration_phase {
    MIGRATION_BEGUN = 1,  /* source: a client has been told the document; the guest runs */
    MIGRATION_PERFORM,    /* source: the state is on its way */
    MIGRATION_PERFORMED,  /* source: all of it has left, the guest stands still */
    MIGRATION_FINISHING,  /* source, this daemon being the other's client: the other has been told to let it run */
    MIGRATION_PREPARED,   /* destination: the machine waits for its state */
    MIGRATION_FINISH,     /* destination: it is let run */
};

/* d->migration, under d->lock. */
struct domain_migration {
    enum migration_phase phase;
    uint32_t flags;       /* virDomainMigrateFlags */
    uint64_t owner;       /* conn->id of the client that drives it; 0: none */
    char *origin;         /* destination: the name that it has at its source */
    char *peer;           /* source: URI of the other daemon, whose client this one is */
    GPtrArray *made;      /* destination: images that were made for it: they go when it fails; NULL: none */
    bool paused;          /* source: the guest did not run when it began */
};

struct domain_migration *domain_migration_new(enum migration_phase phase, uint32_t flags, uint64_t owner);
void domain_migration_free(struct domain_migration *m);
/* In the status file; d->lock held. */
void domain_migration_format_locked(struct domain *d, GString *to);
struct domain_migration *domain_migration_parse(const char **names, const char **values);
/* Sets the phase (0: the migration is over, other work may begin) and writes it down. Takes d->lock. */
bool domain_migration_set(struct domain *d, enum migration_phase phase, GError **error);
/* The phase now, 0: none. Takes d->lock. */
enum migration_phase domain_migration_phase(struct domain *d);

/* ---- what callers say ---- */

#define MIGRATE_COPY_FLAGS ((uint32_t)(VIR_MIGRATE_NON_SHARED_DISK | VIR_MIGRATE_NON_SHARED_INC))

struct migrate_args {
    uint32_t flags;
    const char *uri, *name, *xml, *persistent_xml, *listen;
    uint64_t bandwidth;   /* MiB/s, 0: none said */
    uint64_t xbzrle_cache;
    int throttle_initial, throttle_increment, connections, disks_port;
    const char *disks[64]; /* targets of those to copy; none: all that can be written to */
    unsigned ndisks;
    const char *compression;
};
/* From typed parameters, a(sv); strings are the variant's. What this daemon cannot do is refused by name. */
bool migrate_args_parse(struct migrate_args *ret, GVariant *params, uint32_t flags, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Do they go together? source: the destination is told all parameters, but not of the flags that are the source's alone. */
bool migrate_args_check(const struct migrate_args *a, bool source, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Capabilities and parameters of the machine's migration for both ends; *ret_parameters NULL: none. NULL-terminated list, g_free it alone. */
const char **migrate_args_capabilities(const struct migrate_args *a, bool source, struct json_object **ret_parameters);
/* tcp:HOST[:PORT], tcp://HOST[:PORT], unix:///PATH. For unix *ret_host is the path and *ret_unix true; *ret_port 0: none. */
bool migrate_uri_parse(const char *uri, char **ret_host, unsigned *ret_port, bool *ret_unix, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The same as the machine takes it; NULL. */
char *migrate_uri_machine(const char *uri, GError **error);
/* A connected socket for it; -1. */
int migrate_uri_connect(const char *uri, GError **error);

/* ---- cookies: <qemu-migration> ---- */

struct migrate_disk {
    char target[32];
    uint64_t size; /* bytes */
};

struct migrate_cookie {
    char *name, *host;    /* the domain at its source; the host that speaks */
    uint8_t uuid[16], host_uuid[16];
    char *persistent;     /* <domain>, the definition; NULL: none */
    GArray *disks;        /* struct migrate_disk, that the source will copy; NULL: none */
    unsigned nbd_port;    /* where the destination takes them; 0: nowhere */
    bool asks;            /* the source asks again for what became of it when it loses the destination in Finish */
};
void migrate_cookie_clear(struct migrate_cookie *k);
/* "ay" of it, floating. persistent may be NULL; disks, nbd_port and asks are taken from `more`, which may be NULL. */
GVariant *migrate_cookie_new(struct domain *d, const char *origin, const struct doc *persistent, const struct migrate_cookie *more);
/* Of the other side: must be of this domain (origin, uuid; NULL: not compared) and of another host. An empty one is fine where `must` is not set. */
bool migrate_cookie_parse(struct manage_state *s, GVariant *bytes, const char *origin, const uint8_t *uuid, bool must, struct migrate_cookie *ret, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- disks that are copied (domain_migrate_disks.c) ---- */

bool migrate_copies(const struct migrate_args *a, const struct el *disk); /* is it one? */
bool migrate_disks_check(const struct migrate_args *a, const struct doc *doc, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Source: what the destination is told of them. */
bool migrate_disks_cookie(struct domain *d, const struct migrate_args *a, const struct doc *live, struct migrate_cookie *k, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Destination: images that are not there are made, and their paths added to `made`; unmake removes them. */
bool migrate_disks_make(const struct migrate_args *a, const struct doc *doc, const struct migrate_cookie *k, GPtrArray *made, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void migrate_disks_unmake(GPtrArray *made);
/* The machine serves them; *ret_port 0: there are none. close: no more. */
bool migrate_disks_serve(struct domain *d, const struct migrate_args *a, unsigned *ret_port, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void migrate_disks_close(struct domain *d);
/* Source: copies under way. copy: begins them and returns when all are ready, the guest running on. let_go: ends them; of copies that are ready nothing is missing there. */
struct migrate_copying {
    struct domain *d;
    GPtrArray *names, *targets; /* of the jobs, of the disks */
};
bool migrate_disks_copy(struct migrate_copying *c, const struct migrate_args *a, unsigned port, uint64_t speed, bool (*go_on)(struct domain *d, void *opaque), void *opaque, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool migrate_disks_let_go(struct migrate_copying *c, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void migrate_copying_clear(struct migrate_copying *c);

/* ---- source (domain_migrate_source.c); each takes and ends the domain's job itself ---- */

/* owner 0: this daemon drives it. Results: the document for the other side (g_free) and a cookie, floating. */
bool migrate_begin(struct domain *d, const struct migrate_args *a, uint64_t owner, const char *peer, char **ret_xml, GVariant **ret_cookie, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* go_on: as in domain_transfer.h. On errors the guest runs on as before and the migration is over. */
bool migrate_perform(struct domain *d, const struct migrate_args *a, uint64_t owner, GVariant *cookie, bool (*go_on)(void *opaque), void *opaque, GVariant **ret_cookie,
                     GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* moved: the guest runs there, what is left of it here goes; else it runs on here. */
bool migrate_confirm(struct domain *d, uint32_t flags, bool moved, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Inside a job: the guest goes on here, as far as the migration had stopped it; the migration is over. */
void migrate_back(struct domain *d);
/* Nobody knows where the guest runs: it stays paused, other work may begin. Inside a job. why: for the log. */
void migrate_leave(struct domain *d, const char *why);
/* The definition goes, and the domain with the machine. Inside a job. */
void migrate_undefine(struct domain *d);

/* ---- destination (domain_migrate_target.c) ---- */

/* Starts the machine that waits for its state at *ret_uri. Offline: *ret_uri stays NULL. */
bool migrate_prepare(struct domain_driver *dr, struct manage_call *c, const struct migrate_args *a, GVariant *cookie, char **ret_uri, GVariant **ret_cookie, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* A reference to the domain that runs; canceled, and on errors: NULL, and nothing is left of it here. */
struct domain *migrate_finish(struct domain_driver *dr, struct manage_call *c, const char *name, uint32_t flags, GVariant *cookie, bool canceled, GVariant **ret_cookie, GError **error);

/* Where the state is taken (domain_migrate_listen.c): *ret_uri is for the source. The daemon listens, and hands the first connection to the machine. */
bool migrate_listen(struct domain *d, const struct migrate_args *a, char **ret_uri, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* A listening socket; host NULL: any address; *port 0: the first free one of the range. -1. */
int migrate_listen_somewhere(struct domain_driver *dr, const char *host, unsigned *port, GError **error);
int migrate_listen_tcp(const char *host, unsigned port, int *ret_err);
void migrate_listen_stop(struct domain_driver *dr); /* the daemon ends: waits for its threads */

/* ---- this daemon as the other's client (domain_migrate_peer.c) ---- */

bool migrate_peer(struct domain *d, struct manage_conn *conn, const char *peer, const struct migrate_args *a, GVariant *params, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Which side has it? Asks the other daemon for half a minute. Inside a job: the answer is done. False: nobody knows. */
bool migrate_resolve(struct domain *d, const char *peer, uint32_t flags);

/* ---- what others ask (domain_migrate_recover.c) ---- */

/* Offline migrations that this client has not finished. */
void domain_migrate_forget_offline(struct domain_driver *dr, uint64_t conn);
void domain_migrate_conn_closed(struct domain *d, uint64_t conn);
/* At a start of the daemon, before the machine's monitor is there: true: it is a half made one, to be ended. */
bool domain_migrate_half(const struct domain_migration *m);
/* The same when it is there; inside a job. */
void domain_migrate_found(struct domain *d);
/* STOP and RESUME of the machine: true: they belong to the migration, and have been told. */
bool domain_migrate_on_stop(struct domain *d);
bool domain_migrate_on_resume(struct domain *d);
