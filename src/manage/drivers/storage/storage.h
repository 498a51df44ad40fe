/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Storage: pools (a place where disks lie) and volumes (the disks). Definitions are CONFIG/storage/NAME.xml, with a link in autostart/ where the pool
 * starts with the daemon; an active pool has a status file STATE/storage/NAME.xml, so that it is found again by the next daemon.
 *
 * The rooms of this folder: storage_driver.c (the table of calls, looking up), storage_pool.c (the objects and their files), storage_pool_calls.c,
 * storage_volume.c (a volume and its document), storage_volume_calls.c, storage_probe.c (headers of images), storage_image.c (making, copying, resizing
 * files), storage_stream.c, storage_wipe.c, storage_run.c (other programs), and one file for each kind of pool behind struct storage_backend.
 *
 * Locks, in this order (docs/locking.md): storage_pool.work, held by whoever starts, stops, builds, refreshes or redefines a pool, for as long as that takes;
 * storage.lock (the tables of pools and jobs); storage_pool.lock (all that readers see). The last two are held for moments, never over I/O. Making, copying, wiping
 * and moving volumes holds none of them: such work is counted in storage_pool.jobs, and while it is not 0 the pool is neither stopped nor refreshed.
 */
#pragma once

#include <libvirt/libvirt.h>
#include <sys/stat.h>
#include <time.h>

#include "manage/core/manage.h"
#include "manage/core/manage_services.h"
#include "manage/model/doc.h"

struct storage_backend;
struct storage_pool;

struct storage {
    struct manage_state *state;
    char *config, *autostart, *status; /* directories */
    GMutex lock;                       /* the tables below */
    GHashTable *by_name, *by_uuid;     /* struct storage_pool *; by_name owns a reference */
    GPtrArray *jobs;                   /* struct storage_job * that run */
};

/* ---- volumes ---- */

/* What is known of a file or device: a volume's target or what stands behind it. */
struct storage_target {
    char *path;
    char *format;                            /* NULL: the pool does not say */
    uint64_t capacity, allocation, physical; /* bytes; physical 0: not shown */
    bool has_perms, has_times;
    int64_t mode, uid, gid;                  /* of a definition: -1 where it does not say */
    struct timespec atime, mtime, ctime;
    char *label;
    char *encryption, *secret_uuid, *secret_usage; /* "luks", and the secret that opens it */
    char *compat;                            /* "0.10", "1.1" */
    bool has_features, lazy_refcounts, extended_l2, nocow;
    uint64_t cluster;
};

struct storage_extent {
    char *device;
    uint64_t start, end;
};

/* Constant once it stands in a pool's table, but for what is said to be under the pool's lock. */
struct storage_volume {
    gint refs;
    char *name, *key;
    int type; /* VIR_STORAGE_VOL_... */
    struct storage_target target, *backing; /* backing: NULL: none */
    GArray *extents;                        /* struct storage_extent, or NULL */
    char *partition;                        /* disk pools: "primary", "logical", ... */
    bool has_capacity, has_allocation;      /* of a definition: was said */
    /* under the pool's lock: */
    bool building;       /* being made: it has a name but no content */
    unsigned in_use;     /* streams, copies, wipes */
    char *building_path; /* where the content lies meanwhile */
};

struct storage_volume *storage_volume_new(const char *name);
struct storage_volume *storage_volume_ref(struct storage_volume *v);
void storage_volume_unref(struct storage_volume *v);
static inline void storage_volume_cleanup(struct storage_volume **v)
{
    storage_volume_unref(*v);
}
#define storage_volume_auto __attribute__((cleanup(storage_volume_cleanup))) struct storage_volume
void storage_target_clear(struct storage_target *t);
/* Extents are shown in the document. */
void storage_volume_add_extent(struct storage_volume *v, const char *device, uint64_t start, uint64_t end);
/* Path, and with it the key where the pool has no better one. */
void storage_volume_set_path(struct storage_volume *v, const char *path);
/* The document as clients see it; free it. */
char *storage_volume_xml(const struct storage_volume *v);
/* A definition by a client for a pool of this backend. Names with '/' are refused. */
struct storage_volume *storage_volume_parse(const struct storage_backend *b, const char *xml, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- pools ---- */

struct storage_pool {
    gint refs;
    struct storage *storage;
    const struct storage_backend *backend;
    char *name;       /* constant, as is uuid */
    uint8_t uuid[16];
    GMutex work;
    GMutex lock;      /* all below */
    struct doc *def;     /* what it is now; changes only under both locks */
    struct doc *new_def; /* what it becomes when it stops; NULL: the same */
    bool persistent, active, autostart, gone /* no longer in the tables */;
    unsigned jobs;
    uint64_t capacity, allocation, available;
    GHashTable *volumes; /* name -> struct storage_volume * */
};

struct storage_pool *storage_pool_ref(struct storage_pool *p);
void storage_pool_unref(struct storage_pool *p);
static inline void storage_pool_cleanup(struct storage_pool **p)
{
    storage_pool_unref(*p);
}
#define storage_pool_auto __attribute__((cleanup(storage_pool_cleanup))) struct storage_pool

/* Referenced; NULL with VIR_ERR_NO_STORAGE_POOL. */
struct storage_pool *storage_find_uuid(struct storage *s, const uint8_t uuid[16], const char *name, GError **error) G_GNUC_WARN_UNUSED_RESULT;
struct storage_pool *storage_find_name(struct storage *s, const char *name, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Of a call: its n-th argument is a pool. */
struct storage_pool *storage_find_arg(struct manage_call *c, unsigned n, GError **error) G_GNUC_WARN_UNUSED_RESULT;
GHashTable *storage_uuid_table(void);
/* All pools, referenced, by name. */
GPtrArray *storage_all(struct storage *s);
struct storage *storage_of(struct manage_call *c);
GVariant *storage_pool_record(const struct storage_pool *p); /* (say) */

/* Checks a definition and fills in what it leaves out; *ret_backend: what serves it. */
struct doc *storage_pool_parse(const char *xml, const struct storage_backend **ret_backend, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Enters a definition: a new pool, or a new definition of the one with the same name and UUID. Referenced. persistent: written to CONFIG.
 * Takes doc over. *ret_new: it was not there before. */
struct storage_pool *storage_pool_define(struct storage *s, struct doc *doc, const struct storage_backend *b, bool persistent, bool *ret_new, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* Takes an inactive pool out of the tables. */
void storage_pool_remove(struct storage_pool *p);
char *storage_pool_xml(struct storage_pool *p, bool inactive);
bool storage_pool_save(struct storage_pool *p, const struct doc *def, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool storage_pool_save_status(struct storage_pool *p, GError **error) G_GNUC_WARN_UNUSED_RESULT;
char *storage_pool_file(const struct storage_pool *p, const char *directory);
/* Loads what lies on disk; a file that cannot be read is named in the log and left alone. */
void storage_load(struct storage *s);

/* work is held. The pool's content is looked at anew; on failure the pool keeps what it had. */
bool storage_pool_refresh(struct storage_pool *p, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool storage_pool_start(struct storage_pool *p, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Has stopped, or was found stopped: the tables are emptied, the new definition comes into force, a transient pool goes away. lock is not held. */
void storage_pool_stopped(struct storage_pool *p);
void storage_pool_event(struct storage_pool *p, int event);
void storage_pool_refreshed(struct storage_pool *p); /* that event */
/* The pool's directory or device path: target/path of its definition; may be NULL. lock or work is held. */
const char *storage_pool_path(const struct storage_pool *p);
struct el *storage_pool_source(const struct storage_pool *p);

/* ---- jobs ---- */

/* Long work on volumes. It ends early when its client goes away or the daemon stops. */
struct storage_job {
    struct storage_pool *pool;
    struct manage_conn *conn;
    gint cancelled, over;
};
/* Fails where the pool is not active. */
bool storage_job_begin(struct storage_job *j, struct storage_pool *p, struct manage_conn *conn, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* It no longer counts; *j stays in use until storage_job_end(). Any thread, may come twice. */
void storage_job_over(struct storage_job *j);
void storage_job_end(struct storage_job *j);
/* False with VIR_ERR_OPERATION_ABORTED: stop. */
bool storage_job_goes_on(const struct storage_job *j, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- kinds of pools ---- */

struct storage_scan { /* what a refresh has found */
    GHashTable *volumes; /* name -> struct storage_volume *, owned */
    uint64_t capacity, allocation, available;
};
/* Takes the volume over. */
void storage_scan_add(struct storage_scan *scan, struct storage_volume *v);

struct storage_tool {
    const char *program, *package;
};

enum storage_needs { STORAGE_HOST = 1, STORAGE_DEVICE = 2, STORAGE_DIR = 4, STORAGE_NAME = 8, STORAGE_TARGET = 16, STORAGE_ROOT = 32 };

/* One kind of pool. Methods are called with `work` of the pool held and without its lock, those about volumes with neither; all may be NULL but refresh: then
 * the operation does nothing, or is refused where that would be a lie (build, delete, volumes). */
struct storage_backend {
    const char *type;
    unsigned number;                  /* bit of VIR_CONNECT_LIST_STORAGE_POOLS_..., less 6 */
    unsigned needs;                   /* what a definition must have */
    const struct storage_tool *tools; /* programs that the host must have; ends with NULL */
    const char *const *formats;       /* of source/format; the first is the default. NULL: none */
    const char *default_format;
    const char *const *volume_formats;
    const char *default_volume_format;
    bool volume_options;              /* the capabilities tell of volumes even without formats */

    bool (*check_def)(struct doc *def, GError **error); /* beyond `needs`; may fill in */
    /* A <sources> document. spec: the <source> of the client, or NULL. */
    char *(*find_sources)(struct storage *s, const struct el *spec, GError **error);
    bool (*is_active)(struct storage_pool *p, bool *ret, GError **error); /* outside: mounted, logged in; NULL: it is if its path is there */
    bool (*build)(struct storage_pool *p, unsigned flags, GError **error);
    bool (*start)(struct storage_pool *p, GError **error);
    bool (*stop)(struct storage_pool *p, GError **error);
    bool (*delete)(struct storage_pool *p, unsigned flags, GError **error);
    bool (*refresh)(struct storage_pool *p, struct storage_scan *ret, GError **error);

    /* Makes v, of which it may change path, key and sizes; from: what it is to hold, or NULL. Leaves nothing behind when it fails. */
    bool (*create_volume)(struct storage_job *j, struct storage_volume *v, struct storage_volume *from, unsigned flags, GError **error);
    bool (*delete_volume)(struct storage_pool *p, struct storage_volume *v, unsigned flags, GError **error);
    bool (*resize_volume)(struct storage_pool *p, struct storage_volume *v, uint64_t capacity, unsigned flags, GError **error);
    /* The volume as it is now, for a table entry of its own; NULL with error: it has gone. */
    struct storage_volume *(*look_at)(struct storage_pool *p, const struct storage_volume *v, GError **error);
};

extern const struct storage_backend *const storage_backends[]; /* ends with NULL */
extern const struct storage_backend storage_dir, storage_fs, storage_netfs, storage_logical, storage_disk, storage_iscsi;
/* NULL with error that says why a pool of this type is not served here. */
const struct storage_backend *storage_backend_find(const char *type, GError **error);
/* False with an error that names the package of the program that is missing. */
bool storage_backend_tools(const struct storage_backend *b, GError **error) G_GNUC_WARN_UNUSED_RESULT;
char *storage_capabilities(void); /* <storagepoolCapabilities> */

/* What pools of files have in common (storage_dir.c). */
bool storage_dir_refresh(struct storage_pool *p, struct storage_scan *ret, GError **error);
bool storage_dir_build(struct storage_pool *p, unsigned flags, GError **error);
bool storage_dir_delete(struct storage_pool *p, unsigned flags, GError **error);
bool storage_dir_create_volume(struct storage_job *j, struct storage_volume *v, struct storage_volume *from, unsigned flags, GError **error);
bool storage_dir_delete_volume(struct storage_pool *p, struct storage_volume *v, unsigned flags, GError **error);
bool storage_dir_resize_volume(struct storage_pool *p, struct storage_volume *v, uint64_t capacity, unsigned flags, GError **error);
struct storage_volume *storage_dir_look_at(struct storage_pool *p, const struct storage_volume *v, GError **error);
/* Into the definition: mode and owner of the target. */
void storage_dir_permissions(struct storage_pool *p);

/* What pools of block devices have in common (storage_device.c). */
bool storage_device_look(struct storage_volume *v, GError **error);
/* Waits until a device node has come; udev may take its time. */
bool storage_device_wait(const char *path, GError **error);
/* Waits until udev has done what there is to do; without udev it does nothing. */
void storage_device_settle(void);
/* The link of the directory (the pool's target: "/dev/disk/by-path") that leads to the device, or the device itself; free it. */
char *storage_device_stable(const char *directory, const char *device);
/* Mode and owner, as the definition says. */
bool storage_device_owner(const struct storage_volume *v, GError **error);
struct storage_volume *storage_device_look_at(struct storage_pool *p, const struct storage_volume *v, GError **error);
/* Waits for the device of v, sets its owner, and puts the content of `from` (or NULL) onto it. */
bool storage_device_fill(struct storage_job *j, struct storage_volume *v, struct storage_volume *from, GError **error);

/* ---- files and images ---- */

/* Looks at the header of a file or device: format, sizes, backing file, permissions, times. t->path is given; nothing is opened for writing, a FIFO or a
 * socket is never waited for. ret_backing may be NULL. `as`: NULL, or "raw" where content says nothing (volumes that a guest writes). */
enum storage_probe { STORAGE_PROBE_OK, STORAGE_PROBE_SKIP /* not a volume, or gone */, STORAGE_PROBE_ERROR };
enum storage_probe storage_probe(struct storage_target *t, int *ret_type, struct storage_target **ret_backing, GError **error);
/* Finds the secret of an encrypted volume by its path. */
void storage_probe_secret(struct storage *s, struct storage_target *t);

/* Makes the file of v (path, format, sizes, permissions) so that it is there as a whole or not at all; from: content to take over. */
bool storage_image_make(struct storage_job *j, struct storage_volume *v, struct storage_volume *from, unsigned flags, GError **error);
/* Copies the content of `from` onto a device that is there already. */
bool storage_image_fill(struct storage_job *j, struct storage_volume *to, struct storage_volume *from, GError **error);
bool storage_image_resize(struct storage *s, struct storage_volume *v, uint64_t capacity, unsigned flags, GError **error);
/* Is this the name of an unfinished file that nobody works on? Then it is removed. */
bool storage_image_leftover(int dir, const char *name);
bool storage_image_is_unfinished(const char *name);

bool storage_wipe(struct storage_job *j, const struct storage_volume *v, unsigned algorithm, GError **error);
/* Stream procedures; the job goes on until the stream ends, and is freed with it. */
bool storage_stream_open(struct manage_call *c, struct storage_job *j /* taken over on success */, struct storage_volume *v, bool upload, uint64_t offset,
                         uint64_t length, bool sparse, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- volumes in pools ---- */

/* The volume of a record (pool, name, key); both referenced. The pool must be active. */
struct storage_volume *storage_volume_find(struct manage_call *c, unsigned arg, struct storage_pool **ret_pool, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Puts a newer look into the table, if the volume is still there; the pool's sizes follow. Takes it over. */
void storage_volume_replace(struct storage_pool *p, struct storage_volume *v);
void storage_volume_let_go(struct storage_pool *p, const char *name);  /* in_use goes down; any thread */
void storage_volume_look_again(struct storage_pool *p, const char *name); /* the table's entry becomes what is there now */
void storage_volume_release(struct storage_pool *p, const char *name); /* both */

/* ---- other programs ---- */

/* Runs argv with LC_ALL=C; *ret_out (may be NULL) is its output. Fails with what it said on an exit status other than 0. */
bool storage_run(const char *const *argv, char **ret_out, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The same with text given on its standard input. */
bool storage_run_with(const char *const *argv, const char *input, char **ret_out, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The same, and the exit status in *ret_status instead of an error. */
bool storage_run_status(const char *const *argv, char **ret_out, int *ret_status, GError **error) G_GNUC_WARN_UNUSED_RESULT;

extern const struct manage_row storage_pool_rows[], storage_volume_rows[];
