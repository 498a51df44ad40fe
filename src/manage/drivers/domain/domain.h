/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The domain driver's own structures; only files of this folder and those in it include it. Reading order: domain_driver.c (the rows), domain_list.c
 * (which domains there are), domain_store.c (definitions and status on disk), domain_journal.c, domain_define.c, domain_job.c, domain_start.c (a process is made),
 * monitor/ (QMP), domain_event.c (what the machine tells), domain_stop.c, domain_reattach.c (found again after a restart of the daemon). Then what one can do
 * without the rest: complete/ (a definition becomes whole), command/ (document to command line), device/ (attach and detach), net/ (taps, filters),
 * tune/ (vCPUs, memory, control groups), stats/, guest/ (the agent), block/ (images behind disks, jobs on them), snapshot/ (checkpoints too), backup/,
 * save/ (managed saves, dumps), migrate/.
 *
 * Locks: list->lock (hash tables alone), then domain->lock (everything in the domain that is not said to be constant). Neither is held while waiting for a
 * monitor, a process or another driver. What takes long on one domain (start, stop, attach, jobs) is bracketed by domain_begin() and
 * domain_end(): one such job a domain at a time; readers do not wait for it.
 */
#pragma once

#include <libvirt/libvirt.h>

#include "manage/core/manage.h"
#include "manage/core/manage_services.h"
#include "manage/model/doc.h"

struct cgroup;
struct cgroup_host;
struct domain_backup;
struct domain_saving;
struct domain_migration;
struct domain_driver;
struct json_object;
struct moments;
struct monitor;
struct domain_transfer;
struct snapshot_record;

struct domain {
    gint refs;
    struct domain_driver *driver;
    GMutex lock;
    GCond job_done;
    GMutex status_lock;        /* one writer of the status file at a time; taken before lock */
    uint8_t uuid[16];          /* constant */
    char *name;                /* changes by rename alone; under list->lock and domain->lock */
    int id;                    /* -1: not running */
    int state, reason;         /* virDomainState and its reason */
    bool persistent, autostart, autodestroy;
    bool removed;              /* no longer in the list */
    bool hidden;               /* being defined or created for the first time: lookups do not find it yet */
    bool updated;              /* the definition changed since the machine started */
    uint64_t owner;            /* conn->id of who started it with autodestroy */
    const char *os_type;       /* "hvm"; interned */

    /* What is seen without reading the document. */
    uint64_t max_kib, memory_kib;
    unsigned max_vcpus, vcpus;

    /* The documents. `defined`: as on disk, NULL for a transient domain or where it is not in memory at the moment: domain_definition() gets it.
     * `live`: of the running machine, with aliases, ports, paths; NULL when it does not run. */
    struct doc *live, *defined;
    unsigned definitions;      /* how many there have been: whoever reads one from disk sees whether it is still the definition */
    char *disks;               /* of domain_disk_list.c: what statistics tell of the definition's disks; NULL: not known */

    /* the process */
    pid_t pid;
    uint64_t pid_start;        /* field 22 of /proc/PID/stat: the same process after a restart of the daemon */
    struct monitor *monitor;
    char *dir;                 /* STATE/qemu/domain-ID-NAME, the name cut to 20 bytes: monitor socket, console sockets; made before
                                * domain_command_new() is called, removed at stop */
    gint64 started;            /* g_get_real_time() */
    uint64_t balloon_kib;
    struct domain_run *run;    /* of domain_start.c: networks attached, cgroup, log */
    GHashTable *stats;         /* of domain_stats.c */

    GQueue work;               /* of domain_job.c: what the machine told, to be done in order off the main loop */
    bool working;
    GHashTable *consoles;      /* of domain_console.c: device alias -> who uses it */

    bool busy;                 /* domain_begin() */
    unsigned waiting;          /* threads in domain_wait_locked() */
    const char *job;           /* what: "start", "attach" */
    const char *held;          /* something that lasts longer than a call (migration) and keeps most jobs waiting; NULL: nothing */
    gint64 job_started;
    GPtrArray *jobs;           /* of domain_blockjob.c: struct domain_blockjob *; NULL: none */
    struct domain_backup *backup; /* of domain_backup.c: the one that runs, or the last; NULL: none */
    struct domain_transfer *transfer; /* of domain_transfer.c: the state is on its way elsewhere, or was; NULL: no */
    struct domain_migration *migration; /* of domain_migrate.h: it moves to another host, or comes from one; NULL: no */
    uint64_t migrate_mib;      /* how fast it may move, MiB/s; 0: no limit */
    struct snapshot_record *record; /* of domain_snapshot_record.c: a live snapshot under way; NULL: none */
    struct moments *moments;   /* of domain_moment.c: snapshots and checkpoints; NULL: none */
    struct domain_saving *saving; /* of domain_save.h: a file with the machine's state that is being written, or used up; NULL: none */
    bool saved;                /* a managed save is there: the next start goes on from it */
    bool agent_patience;       /* somebody has said how long the guest's agent is waited for: */
    int agent_timeout;         /* seconds, or virDomainAgentResponseTimeoutValues */
    unsigned nodes;            /* the last index that an image of this machine got (domain_chain.h) */
};

struct domain_driver {
    struct manage_state *state;
    struct domain_list *list;
    struct domain_caps *caps;  /* of domain_caps.c */
    gint next_id;
    GHashTable *offline;       /* of domain_migrate_target.c: name -> definition that an offline migration has brought; under offline_lock */
    GMutex offline_lock;
    gint next_port;            /* of domain_migrate_listen.c: where the next port for a migration is looked for */
    gint acceptors;            /* its threads */
    GMutex emulators_lock;
    GHashTable *emulators;     /* of domain_machine.c: what each QEMU has; under emulators_lock */
    struct cgroup_host *cgroups; /* of domain_cgroup.c; constant */
    GThreadPool *workers;      /* domain_queue() */
    GQueue recent;             /* of domain_store.c: domains whose definition is in memory, latest first */
    GMutex recent_lock;
    struct journal *journal;   /* of domain_journal.c: definitions on their way to the disk; constant; NULL: they are written through */
    gint stopping;             /* domain_driver_stop() has begun: processes go on, nobody follows them */
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
/* Without an error: NULL when there is none. */
struct domain *domain_find_name(struct domain_driver *dr, const char *name);
struct domain *domain_by_uuid(struct domain_driver *dr, const uint8_t uuid[16], const char *name, GError **error);
struct domain *domain_by_name(struct domain_driver *dr, const char *name, GError **error);
struct domain *domain_by_id(struct domain_driver *dr, int id, GError **error);
GPtrArray *domain_all(struct domain_driver *dr); /* of struct domain *, referenced, by name; g_ptr_array_unref */
/* The domain that a call's argument `i` (a "D") names. */
struct domain *domain_of_call(struct manage_call *c, unsigned i, GError **error);
/* The record D of a domain; takes d->lock itself. */
GVariant *domain_variant(struct domain *d);
/* The same as a piece of a message (rpc_xdr.h). */
bool domain_put(GByteArray *to, struct domain *d, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* And as the whole reply. */
GVariant *domain_reply(struct manage_call *c, struct domain *d, GError **error);

/* A new domain in the list, hidden, or the one that is there with this name and UUID; VIR_ERR_OPERATION_FAILED where another has one of them. */
struct domain *domain_claim(struct domain_driver *dr, const uint8_t uuid[16], const char *name, GError **error);
void domain_set_id(struct domain *d, int id);
void domain_show(struct domain *d);     /* not hidden any more */
void domain_remove(struct domain *d);   /* from the list; takes list->lock and d->lock */
bool domain_rename(struct domain *d, const char *name, GError **error);
struct domain_list *domain_list_new(void);
void domain_list_free(struct domain_list *l);

/* ---- disk (domain_store.c) ---- */

void domain_load_definitions(struct domain_driver *dr);
/* Fills name-independent summary fields (memory, vcpus, os type) from a document; d->lock held. */
void domain_summary_locked(struct domain *d, const struct doc *doc);
char *domain_definition_path(struct domain_driver *dr, const char *name);
/* Definition (text) as it goes to the file NAME.xml. */
bool domain_write_definition(struct domain_driver *dr, const char *name, const struct doc *doc, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool domain_remove_definition(struct domain_driver *dr, const char *name, bool wait, GError **error); /* the file alone; missing is fine; wait: for the disk */
bool domain_erase_definition(struct domain *d, GError **error) G_GNUC_WARN_UNUSED_RESULT; /* and the autostart mark */
bool domain_write_autostart(struct domain *d, bool on, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The definition is no longer kept in memory. Takes d->lock. */
void domain_forget_definition(struct domain *d);
/* Its definition is off the disk: the domain goes, or is a transient one while it runs. Inside a job. */
void domain_undefined(struct domain *d);
/* The status file of a running domain from what is in *d; nothing is written once d->live is gone. Takes d->status_lock and d->lock. */
bool domain_write_status(struct domain *d, GError **error);
/* After d->live has gone, so that none of those who still note something writes it again. Takes d->status_lock. */
void domain_erase_status(struct domain *d);

/* The persistent definition: a copy (doc_free), from memory or disk. For a transient domain: a copy of the live document. Takes d->lock. */
struct doc *domain_definition(struct domain *d, GError **error);
/* The same without taking the document into memory, for those who go through all domains. */
struct doc *domain_definition_once(struct domain *d, GError **error);
/* Is there an element of this name in the definition? Its text is looked at, not parsed: true also where it cannot be read. Takes d->lock. */
bool domain_definition_names(struct domain *d, const char *element);
/* Writes it to disk and makes it the definition; takes new over on success. Not under d->lock. */
bool domain_set_definition(struct domain *d, struct doc *new, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The same for one that follows what the running machine does by itself (its disks have other images now): it does not count as changed since the start. */
bool domain_follow_definition(struct domain *d, struct doc *new, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* A copy of the live document; NULL with VIR_ERR_OPERATION_INVALID "domain is not running". */
struct doc *domain_live(struct domain *d, GError **error);
/* The live document changed (device attached): replaces it, writes the status file. Takes new over. */
bool domain_set_live(struct domain *d, struct doc *new, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The name of a running domain that has this file open, or NULL: what manage_services.disk_user asks (domain_disk_user.c). */
char *domain_disk_user(struct manage_state *state, const char *path);

/* What statistics tell of the disks of a domain that does not run, without its document (domain_disk_list.c): for each a byte ('r': raw, 'i': an image with a
 * header), name and path with a NUL each; a NUL at the end. g_free. */
char *domain_disk_list_new(const struct doc *doc);
/* The next disk; false: no more. *at begins with the list. */
bool domain_disk_list_next(const char **at, bool *ret_raw, const char **ret_name, const char **ret_path);
/* A copy of d's, read from the definition the first time. NULL: the definition cannot be read. */
char *domain_disk_list(struct domain *d);

/* CPU time of a process in nanoseconds, and its resident memory; false (0): it has gone. */
bool domain_process_time(pid_t pid, uint64_t *ret_user, uint64_t *ret_system);
uint64_t domain_process_kib(pid_t pid);

/* ---- jobs ---- */

/* Waits up to 30 s for the domain's turn: VIR_ERR_OPERATION_TIMEOUT that names the job it waits for. running: fail with
 * VIR_ERR_OPERATION_INVALID "domain is not running" when it does not. On success domain_end() must follow. */
bool domain_begin(struct domain *d, const char *job, bool running, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void domain_end(struct domain *d);
/* Waits for the end of a job, whichever; until: monotonic time, G_MAXINT64: for ever. False: the time is over. d->lock is held. */
bool domain_wait_locked(struct domain *d, gint64 until);

/* The same without a limit of time, for what must happen; no check. */
void domain_begin_wait(struct domain *d, const char *job);
/* Runs fn(d, opaque) on a worker thread: in order for one domain, several domains at once. opaque is fn's to free. */
typedef void (*domain_work)(struct domain *d, void *opaque);
void domain_queue(struct domain *d, domain_work fn, void *opaque);

/* VIR_DOMAIN_AFFECT_LIVE | _CONFIG | _CURRENT(0) -> which; errors where the domain is not running or transient. */
bool domain_affect(struct domain *d, uint32_t flags, bool *ret_live, bool *ret_config, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Changes the live document, the definition, or both (VIR_DOMAIN_AFFECT_*), by the same function. Inside a job. */
typedef void (*domain_editor)(struct el *root, void *opaque);
bool domain_edit(struct domain *d, uint32_t which, domain_editor edit, void *opaque, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Threads of the vCPUs, as the machine tells them, and of its own process; of struct domain_vcpu. */
struct domain_vcpu {
    unsigned index;
    pid_t tid;
};
GArray *domain_vcpu_threads(struct domain *d, GError **error);

/* ---- agent (domain_agent.c) ---- */

bool domain_agent_ready(struct domain *d); /* a channel for it is there and the guest has opened it */
bool domain_agent_shutdown(struct domain *d, bool reboot, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- process (domain_start.c) ---- */

#define DOMAIN_START_FROM_SNAPSHOT 0x80000000u /* beside the flags of virDomainCreateFlags: what clients are told */
#define DOMAIN_START_RESTORED      0x40000000u
#define DOMAIN_START_HELD          0x20000000u /* the machine is there and does not run; its state is the caller's to set and tell */
bool domain_start(struct domain *d, struct manage_call *c, uint32_t create_flags, GError **error) G_GNUC_WARN_UNUSED_RESULT; /* inside a job */
/* What of a running machine belongs to the life cycle alone. */
struct domain_run {
    bool is_vireo;
    int pidfd;                 /* readable when the process has ended */
    GSource *watch;            /* of pidfd */
    GPtrArray *networks, *taps; /* taken from struct domain_command */
    struct cgroup *cgroup;     /* of domain_tune.c; NULL: none */
    bool powered_down;         /* SHUTDOWN was told */
    bool shutdown_by_guest;
    bool ending;               /* domain_stop() works on it */
    bool destroying;           /* told to end by a destroy that does not wait for the job under way: stop_reason says why */
    bool fake_reboot;          /* the next SHUTDOWN is to be a start from reset */
    int stop_reason;           /* virDomainShutoffReason for the end of the process if nothing else is known; 0: crashed */
    gint64 us;                 /* of the state's last change, monotonic */
};
/* The same from a document that the caller has made (create): taken over. */
bool domain_start_document(struct domain *d, struct doc *live, struct manage_call *c, uint32_t create_flags, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The state that a machine begins with, from a file or another host. */
struct domain_incoming {
    int fd;                    /* stays the caller's; -1: uri */
    const char *uri;           /* NULL as well: the machine waits for `migrate-incoming`, which is the caller's to say (with DOMAIN_START_HELD) */
    /* It is all there and the machine does not run yet; NULL: nothing to do. False with an error: the machine ends. */
    bool (*loaded)(struct domain *d, void *opaque, GError **error);
    void *opaque;
};
/* domain_incoming.c: a machine that was started with `-incoming defer` reads its state from uri, or fd where that is not -1; waits for the end. */
bool domain_take_state(struct domain *d, const char *uri, int fd, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* As domain_start_document(); in: the machine begins with that state instead of booting. */
bool domain_start_incoming(struct domain *d, struct doc *live, struct manage_call *c, uint32_t create_flags, const struct domain_incoming *in, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* From its managed save where it has one, unless the flags say to boot; else domain_start(). Inside a job (domain_save_managed.c). */
bool domain_start_or_restore(struct domain *d, struct manage_call *c, uint32_t create_flags, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Ends the process and everything that belongs to it; `reason` is a virDomainShutoffReason, event detail follows from it. Inside a job, or from
 * the monitor's end of file. */
void domain_stop(struct domain *d, int reason);
/* Sets state and reason, writes the status file, sends the event (event < 0: none). */
void domain_set_state(struct domain *d, int state, int reason, int event, int detail);
/* Life cycle event. */
void domain_event(struct domain *d, int event, int detail);
/* SIGTERM, and SIGKILL after `term_ms`; true when it has ended. term_ms < 0: never SIGKILL, waits 15 s. */
bool domain_kill(struct domain *d, int term_ms);
/* Follows pid: a pidfd source on the main loop. false: it is not there any more. */
bool domain_watch(struct domain *d);
void domain_run_free(struct domain_run *r);
void domain_monitor_lost(struct domain *d, void *run); /* a domain_work */
void domain_remove_tree(const char *dir);              /* of files and sockets, one level; NULL is fine */
/* Field 22 of /proc/PID/stat; 0: there is no such process. */
uint64_t domain_pid_start(pid_t pid);
/* The machine tells which pty each character device got: into the live document. */
int domain_connect_socket(const char *path, GError **error); /* a UNIX socket, however long its path */
void domain_read_ptys(struct domain *d); /* and notes that nobody in the guest has opened a channel yet */
/* What the machine says of itself (query-status) into state and reason, without an event. */
bool domain_read_state(struct domain *d, GError **error);
/* Status files: running machines are attached again, those that ended are noted. */
void domain_attach_running(struct domain_driver *dr);
void domain_consoles_close(struct domain *d); /* streams of the domain's consoles end */
void domain_do_work(gpointer domain, gpointer unused); /* of dr->workers */
void domain_on_event(struct domain *d, const char *name, struct json_object *data, gint64 us); /* monitor_event */

/* ---- monitor (domain_monitor.c) ---- */

/* Called on the state's main loop for each QMP event; and with name NULL when the connection has ended. */
typedef void (*monitor_event)(struct domain *d, const char *name, struct json_object *data, gint64 us);
struct monitor *monitor_open(struct domain *d, const char *socket_path, unsigned wait_ms, monitor_event fn, GError **error);
void monitor_close(struct monitor *m);
/* Sends one command and waits (not on the main loop's thread). args may be NULL, is taken over. Result: "return" of the answer, json_object_put it;
 * NULL: the machine's error (VIR_ERR_OPERATION_FAILED with its text), or the connection has ended. seconds 0: 60. */
struct json_object *monitor_command(struct domain *d, const char *name, struct json_object *args, GError **error);
/* The same with descriptors. */
/* A file of ours (memfd) that a command of the machine may write: gives it a descriptor, and returns the name to say in the command. domain_lend_end() takes it back. */
char *domain_lend_file(struct domain *d, int memory, int64_t *ret_set, GError **error);
void domain_lend_end(struct domain *d, int64_t set);
struct json_object *monitor_command_fds(struct domain *d, const char *name, struct json_object *args, const int *fds, unsigned nfds, GError **error);

/* Several commands on their way at once: all in one write, and whoever collects the answers is woken when the last is there. args may be NULL, is taken over in any
 * case; name must live as long as the batch. NULL: the machine does not run. */
struct monitor_question {
    const char *name;
    struct json_object *args;
};
struct monitor_batch *monitor_ask(struct domain *d, const struct monitor_question *all, unsigned n, GError **error);
/* As monitor_command(), of question i, once; waits for all of them at the first call, 60 s from monitor_ask() on at most. One thread. */
struct json_object *monitor_batch_answer(struct monitor_batch *b, unsigned i, GError **error);
void monitor_batch_free(struct monitor_batch *b); /* what has not been collected is dropped, also what has not come yet; NULL is fine */

/* The whole answer, an error of the machine's as well. */
struct json_object *monitor_answer(struct domain *d, const char *name, struct json_object *args, const int *fds, unsigned nfds, GError **error);

/* ---- document to machine (domain_command.c, domain_device.c) ---- */

/* Fills in a definition as libvirt does at define: uuid, defaults, controllers, addresses, machine type. Checks against what there is. */
bool domain_complete(struct domain_driver *dr, struct doc *d, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* What a start needs: the command line, descriptors that the process is to get, and the live document (aliases, pty paths come later).
 * domain_start.c adds by itself: -S, -no-shutdown, -no-reboot where on_reboot says so, and the monitor (a listening socket by descriptor:
 * -chardev socket,id=charmonitor,fd=N,server=on,wait=off -mon chardev=charmonitor,id=monitor,mode=control). Character devices' chardev ids are
 * "char" and the device's alias (charserial0): so their ptys are found. */
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
/* The machine has let go of a device: its back ends go, and its element in the live document. false: there is none of this alias. Not under d->lock. */
bool domain_device_deleted(struct domain *d, const char *alias);

/* ---- rows of the other files, put together in domain_driver.c ---- */

void domain_read_vnc(struct domain *d); /* on which port viewers are waited for, where the machine chose */
/* Record of VIR_DOMAIN_EVENT_ID_GRAPHICS from what the machine tells of a viewer (domain_display.c). */
GVariant *domain_viewer_event(struct domain *d, int phase, struct json_object *data);

extern const struct manage_row domain_rows_display[], domain_rows_peek[], domain_rows_blockjob[], domain_rows_checkpoint[], domain_rows_backup[], domain_rows_blockstart[], domain_rows_life[], domain_rows_save[], domain_rows_managed_save[], domain_rows_dump[], domain_rows_migrate[], domain_rows_migrate_tune[], domain_rows_list[], domain_rows_config[], domain_rows_device[], domain_rows_stats[], domain_rows_block[], domain_rows_iotune[],
    domain_rows_host[], domain_rows_snapshot[], domain_rows_define[], domain_rows_info[], domain_rows_metadata[], domain_rows_console[], domain_rows_agent[], domain_rows_guest[], domain_rows_stats_all[], domain_rows_pin[],
    domain_rows_sched[], domain_rows_limits[], domain_rows_blkio[], domain_rows_iothread[], domain_rows_stats_cpu[], domain_rows_perf[], domain_rows_threshold[], domain_rows_vcpu[], domain_rows_guest_vcpus[], domain_rows_bandwidth[];
