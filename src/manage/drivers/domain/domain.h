/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The domain driver's own structures; only files of this folder include it. Reading order: domain_driver.c (the rows), domain_list.c
 * (which domains there are), domain_start.c (a process is made), domain_monitor.c (QMP), domain_command.c (document to command line),
 * domain_device*.c (attach and detach), domain_stats.c, domain_block.c.
 *
 * Locks: list->lock (hash tables alone), then domain->lock (everything in the domain that is not said to be constant). Neither is held while waiting for a
 * monitor, a process or another driver. What takes long on one domain (start, stop, attach, jobs) is bracketed by domain_begin() and
 * domain_end(): one such job a domain at a time; readers do not wait for it.
 */
#pragma once

#include "manage/core/manage.h"
#include "manage/core/manage_services.h"
#include "manage/model/doc.h"

struct domain_driver;
struct monitor;

struct domain {
    gint refs;
    struct domain_driver *driver;
    GMutex lock;
    GCond job_done;
    uint8_t uuid[16];          /* constant */
    char *name;                /* changes by rename alone; under list->lock and domain->lock */
    int id;                    /* -1: not running */
    int state, reason;         /* virDomainState and its reason */
    bool persistent, autostart, autodestroy;
    bool removed;              /* no longer in the list */

    /* What is seen without reading the document. */
    uint64_t max_kib, memory_kib;
    unsigned max_vcpus, vcpus;

    /* The documents. `defined`: as on disk, NULL for a transient domain or where it is not in memory at the moment: domain_definition() gets it.
     * `live`: of the running machine, with aliases, ports, paths; NULL when it does not run. */
    struct doc *live, *defined;

    /* the process */
    pid_t pid;
    uint64_t pid_start;        /* field 22 of /proc/PID/stat: the same process after a restart of the daemon */
    struct monitor *monitor;
    char *dir;                 /* STATE/qemu/NAME: monitor socket, console sockets; made at start, removed at stop */
    gint64 started;            /* g_get_real_time() */
    uint64_t balloon_kib;
    struct domain_run *run;    /* of domain_start.c: networks attached, cgroup, log */
    GHashTable *stats;         /* of domain_stats.c */

    bool busy;                 /* domain_begin() */
    const char *job;           /* what: "start", "attach" */
    gint64 job_started;
    struct domain_job *block;  /* of domain_block.c */
};

struct domain_driver {
    struct manage_state *state;
    struct domain_list *list;
    struct domain_caps *caps;  /* of domain_caps.c */
    gint next_id;
    GMutex emulators_lock;
    GHashTable *emulators;     /* of domain_machine.c: what each QEMU has; under emulators_lock */
    char *config_dir, *autostart_dir, *state_dir, *lib_dir, *log_dir; /* .../qemu */
};

/* ---- list (domain_list.c) ---- */

struct domain *domain_ref(struct domain *d);
void domain_unref(struct domain *d);
/* domain_auto *d = domain_by_name(...); */
static inline void domain_cleanup(struct domain **d)
{
    if (*d)
        domain_unref(*d);
}
#define domain_auto __attribute__((cleanup(domain_cleanup))) struct domain
/* A reference; NULL with VIR_ERR_NO_DOMAIN that says "Domain not found: no domain with matching ...". */
struct domain *domain_by_uuid(struct domain_driver *dr, const uint8_t uuid[16], const char *name, GError **error);
struct domain *domain_by_name(struct domain_driver *dr, const char *name, GError **error);
struct domain *domain_by_id(struct domain_driver *dr, int id, GError **error);
GPtrArray *domain_all(struct domain_driver *dr); /* of struct domain *, referenced, by name; g_ptr_array_unref */
/* The domain that a call's argument `i` (a "D") names. */
struct domain *domain_of_call(struct manage_call *c, unsigned i, GError **error);
/* The record D of a domain; takes d->lock itself. */
GVariant *domain_variant(struct domain *d);

/* The persistent definition: a copy (doc_free), from memory or disk. For a transient domain: a copy of the live document. Takes d->lock. */
struct doc *domain_definition(struct domain *d, GError **error);
/* Writes it to disk and makes it the definition; takes new over on success. Not under d->lock. */
bool domain_set_definition(struct domain *d, struct doc *new, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* A copy of the live document; NULL with VIR_ERR_OPERATION_INVALID "domain is not running". */
struct doc *domain_live(struct domain *d, GError **error);
/* The live document changed (device attached): replaces it, writes the status file. Takes new over. */
bool domain_set_live(struct domain *d, struct doc *new, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- jobs ---- */

/* Waits up to 30 s for the domain's turn: VIR_ERR_OPERATION_TIMEOUT that names the job it waits for. running: fail with
 * VIR_ERR_OPERATION_INVALID "domain is not running" when it does not. On success domain_end() must follow. */
bool domain_begin(struct domain *d, const char *job, bool running, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void domain_end(struct domain *d);

/* VIR_DOMAIN_AFFECT_LIVE | _CONFIG | _CURRENT(0) -> which; errors where the domain is not running or transient. */
bool domain_affect(struct domain *d, uint32_t flags, bool *ret_live, bool *ret_config, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- process (domain_start.c) ---- */

bool domain_start(struct domain *d, struct manage_call *c, uint32_t create_flags, GError **error) G_GNUC_WARN_UNUSED_RESULT; /* inside a job */
/* Ends the process and everything that belongs to it; `reason` is a virDomainShutoffReason, event detail follows from it. Inside a job, or from
 * the monitor's end of file. */
void domain_stop(struct domain *d, int reason);
/* Sets state and reason, writes the status file, sends the event (event < 0: none). */
void domain_set_state(struct domain *d, int state, int reason, int event, int detail);

/* ---- monitor (domain_monitor.c) ---- */

struct json_object;
/* Called on the state's main loop for each QMP event; and with name NULL when the connection has ended. */
typedef void (*monitor_event)(struct domain *d, const char *name, struct json_object *data, gint64 us);
struct monitor *monitor_open(struct domain *d, const char *socket_path, unsigned wait_ms, monitor_event fn, GError **error);
void monitor_close(struct monitor *m);
/* Sends one command and waits (not on the main loop's thread). args may be NULL, is taken over. Result: "return" of the answer, json_object_put it;
 * NULL: the machine's error (VIR_ERR_OPERATION_FAILED with its text), or the connection has ended. seconds 0: 60. */
struct json_object *monitor_command(struct domain *d, const char *name, struct json_object *args, GError **error);
/* The same with descriptors. */
struct json_object *monitor_command_fds(struct domain *d, const char *name, struct json_object *args, const int *fds, unsigned nfds, GError **error);

/* ---- document to machine (domain_command.c, domain_device.c) ---- */

/* Fills in a definition as libvirt does at define: uuid, defaults, controllers, addresses, machine type. Checks against what there is. */
bool domain_complete(struct domain_driver *dr, struct doc *d, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* What a start needs: the command line, descriptors that the process is to get, and the live document (aliases, pty paths come later). */
struct domain_command {
    GPtrArray *argv;         /* char *, NULL-terminated */
    GArray *fds;             /* int; the process gets each under the same number */
    GPtrArray *networks;     /* char * pairs network, mac: attached, to be detached at the end */
    GPtrArray *taps;         /* char *: taps made by us */
    char *emulator;
    bool is_vireo;           /* vireo-vmm, else a QEMU */
    GPtrArray *after;        /* struct json_object *: commands for domain_command_after() */
    struct domain_driver *driver;
    char *domain;            /* name, for the networks */
};
/* What has to be told before the machine runs: I/O limits, links that are down. */
bool domain_command_after(struct domain *d, GPtrArray *after, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* live: aliases are filled in. What the machine cannot do is refused here by element and line (VIR_ERR_CONFIG_UNSUPPORTED); nothing is left behind on errors. */
struct domain_command *domain_command_new(struct domain *d, struct doc *live, GError **error);
/* A line with the date in LOG/qemu/NAME.log (domain_start.c). */
void domain_log(struct domain *d, const char *text);
/* A tap that domain_command_new() made is taken away. */
void domain_tap_remove(const char *name);
void domain_command_free(struct domain_command *c); /* closes descriptors, detaches networks that are still in it */

bool domain_attach(struct domain *d, const char *xml, uint32_t flags, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool domain_detach(struct domain *d, const char *xml, const char *alias, uint32_t flags, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool domain_update(struct domain *d, const char *xml, uint32_t flags, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- rows of the other files, put together in domain_driver.c ---- */

extern const struct manage_row domain_rows_life[], domain_rows_list[], domain_rows_config[], domain_rows_device[], domain_rows_stats[], domain_rows_block[],
    domain_rows_host[], domain_rows_snapshot[];
