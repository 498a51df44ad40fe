/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One API call on its way to a driver, and what drivers share. A call is a procedure of the remote program (rpc/rpc_proc.h) with its
 * arguments as one GVariant tuple, whether it comes over a socket (vireod) or from the library in the same process (libvireo,
 * vireo:///embed and test:///default): both go through manage_dispatch(), so that access, checks and behaviour are the same.
 *
 * Threads: handlers run on any thread, many at once, also two for the same object. Rows marked RPC_QUICK run on the thread that reads
 * the sockets: they take locks for moments only, never wait for a monitor, a process or the disk.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "manage/core/manage_error.h"
#include "manage/rpc/rpc_proc.h"

struct manage_state;
struct manage_conn;
struct manage_stream;

/* ---- a call ---- */

struct manage_call {
    struct manage_conn *conn;
    const struct rpc_proc *proc;
    GVariant *args;               /* tuple of proc->args; checked: types, limits */
    const int *fds;               /* descriptors that came along; the caller's, dup them to keep */
    unsigned nfds;
    GArray *ret_fds;              /* int; descriptors to go with the reply: handed over */
    struct manage_stream *stream; /* set by the handler of a stream procedure with manage_call_stream() */
    bool encodes;                 /* the caller takes a reply as a message, too */
    GByteArray *encoded;          /* set by manage_reply_encoded() */
};

/* The reply as a tuple of proc->ret, floating or not; manage_void() where that is "". NULL: error is set. */
typedef GVariant *(*manage_handler)(struct manage_call *c, GError **error);

/* A long reply: rpc_message_blank() and behind it what rpc_put_...() made of proc->ret, without a GVariant for each number. Takes m; the handler returns what this returns. */
GVariant *manage_reply_encoded(struct manage_call *c, GByteArray *m);
/* The same for n numbers of 32 bits, which the most frequent calls answer. */
GVariant *manage_reply_i32(struct manage_call *c, unsigned n, ...);

static inline GVariant *manage_void(void) { return g_variant_new_tuple(NULL, 0); }

/* Row of a driver. A procedure stands in one driver of a table. */
struct manage_row {
    uint16_t proc; /* RPC_... */
    manage_handler fn;
};

/* Checks that every bit of flags is among `known`; else VIR_ERR_INVALID_ARG that names the bits. */
bool manage_check_flags(uint32_t flags, uint32_t known, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- drivers ---- */

/* One kind of object. All members but name may be NULL. */
struct manage_driver {
    const char *name; /* "domain", "network", ... */
    const struct manage_row *rows; /* ends with fn == NULL */
    const struct manage_row *const *more_rows; /* NULL-terminated list of further tables */
    /* Makes *ret_data, loads what lies on disk, finds what is running, starts what is to autostart (after all drivers have loaded:
     * autostart()). Called in the order of the table. */
    bool (*start)(struct manage_state *s, void **ret_data, GError **error);
    void (*autostart)(struct manage_state *s, void *data);
    void (*stop)(struct manage_state *s, void *data);          /* running objects go on running */
    void (*conn_closed)(struct manage_conn *c, void *data);    /* autodestroy and the like */
    void (*reload)(struct manage_state *s, void *data);        /* SIGHUP: look again whether what belongs to us is as it should be; main loop's thread, must not block */
};

/* A set of drivers behind a URI: the real ones, or the test driver's. NULL-terminated. */
struct manage_table {
    const char *type;                          /* virConnectGetType: "QEMU", "TEST" */
    const struct manage_driver *const *drivers;
};
extern const struct manage_table manage_table_host; /* drivers/drivers.c */
extern const struct manage_table manage_table_test; /* drivers/test/ */

/* ---- state: one per daemon (or per embedded connection) ---- */

struct manage_dirs {
    char *config; /* /etc/vireo: qemu/NAME.xml, qemu/autostart/, qemu/networks/, storage/, secrets/ as under /etc/libvirt */
    char *state;  /* /run/vireo: status files, sockets, pid files */
    char *lib;    /* /var/lib/vireo: images/, qemu/, dnsmasq/, boot/ */
    char *log;    /* /var/log/vireo: qemu/NAME.log */
    char *cache;  /* /var/cache/vireo */
};

/* The directories as of manage_state_new(); to be cleared. */
void manage_dirs_find(struct manage_dirs *ret, const char *root, bool privileged);
void manage_dirs_clear(struct manage_dirs *d);

struct manage_state {
    const struct manage_table *table;
    struct manage_dirs dirs;
    bool privileged;     /* root: bridges, nftables, cgroups; else session mode */
    bool embedded;       /* inside a client's process */
    char *uri;           /* what CONNECT_GET_URI answers, "vireo:///system" */
    char *vmm;           /* path of vireo-vmm */
    char *host_uuid;     /* what the configuration says of this host's UUID; NULL: it is found. Set before there are clients */
    GMainContext *context; /* the main loop that runs as long as the state lives; sources for timers, monitors, child watches */
    struct manage_events *events;
    const struct manage_services *services; /* what drivers ask of each other (core/manage_services.h); filled by start() */
    struct manage_private *p;
};

/* Loads all drivers. root: NULL for the system's directories (or XDG's when not root), else a directory that holds all of them.
 * The caller runs `context` from a thread of its own and holds it until manage_state_free(). */
struct manage_state *manage_state_new(const struct manage_table *table, const char *root, GMainContext *context, GError **error);
void manage_state_free(struct manage_state *s);
void manage_state_reload(struct manage_state *s); /* tells the drivers */
/* A driver's data by name; NULL where the table does not have it. */
void *manage_data(struct manage_state *s, const char *driver);
/* The handler's row of a procedure, NULL where no driver has it. */
manage_handler manage_find(const struct manage_state *s, unsigned proc);

/* ---- connections ---- */

struct manage_conn {
    gint refs;
    struct manage_state *state;
    uint64_t id;
    bool open, readonly;
    gint lost;               /* atomic: the client has gone while a call of it is under way (conn_closed comes after the last one): long work gives up */
    char *uri;               /* as the client named it */
    uid_t uid; gid_t gid; pid_t pid; /* of the peer; (uid_t)-1: not known (TCP) */
    /* Called from any thread when an event that this connection registered for has happened; must not block. payload: tuple as the
     * event procedure's args, callbackID first. */
    void (*event)(struct manage_conn *c, const struct rpc_proc *proc, GVariant *payload);
    void *opaque;
    void (*destroy)(struct manage_conn *c); /* before the memory is freed, with the last reference; may be NULL */
};
/* refs = 1. */
struct manage_conn *manage_conn_new(struct manage_state *s);
struct manage_conn *manage_conn_ref(struct manage_conn *c);
void manage_conn_unref(struct manage_conn *c);
/* The client has gone: deregisters its events, tells the drivers. */
void manage_conn_close(struct manage_conn *c);

/* Checks access (read-only), arguments' types and the connection, and calls the driver. Result as of manage_handler, never floating. Where c->encoded is set (only for who
 * said that it `encodes`) that is the reply, and the result is only not NULL. */
GVariant *manage_dispatch(struct manage_call *c, GError **error);

/* ---- events ---- */

/* Something happened to an object: delivered to every connection that registered for event `id` of this class, for all objects or
 * for this one. body: floating tuple of the event procedure's args without the callbackID (domain events: the domain first).
 * `key`: the object's UUID (16 bytes) or, for node devices, its name. Any thread. */
enum manage_class { MANAGE_DOMAIN, MANAGE_NETWORK, MANAGE_POOL, MANAGE_NODEDEV, MANAGE_SECRET, MANAGE_MONITOR /* what the emulator told; id 0, body: domain, name, ... */, MANAGE_NCLASSES };
void manage_event(struct manage_state *s, enum manage_class class, unsigned id, const void *key, gsize key_size, GVariant *body);
/* Has anybody registered for it, for whichever object? Else its body need not be made. */
bool manage_event_wanted(struct manage_state *s, enum manage_class class, unsigned id);

/* ---- streams ---- */

/* What a stream procedure leaves behind: calls that may block, made from one thread of the stream's own for reading and one for writing. */
struct manage_stream_ops {
    /* To the client. Returns bytes, 0 at the end, -1 with error. A hole: *ret_hole > 0 and returns 0 (sparse streams only). NULL: none. */
    gssize (*read)(void *o, void *buffer, gsize size, int64_t *ret_hole, GError **error);
    bool (*write)(void *o, const void *data, gsize size, GError **error); /* all of it. NULL: the client may not send */
    bool (*hole)(void *o, int64_t length, GError **error);                /* may be NULL: zeroes are written */
    bool (*finish)(void *o, GError **error);  /* the client has finished in good order: all data is to be there. May be NULL */
    void (*cancel)(void *o);                  /* from any thread: make read and write return soon, for good */
    void (*free)(void *o);                    /* after the threads have ended */
};
void manage_call_stream(struct manage_call *c, const struct manage_stream_ops *ops, void *opaque, bool sparse);
/* A stream over a descriptor (console, channel: bidirectional socket or pty; a file or pipe for reading). Takes the descriptor over. */
void manage_call_stream_fd(struct manage_call *c, int fd);
struct manage_stream {
    const struct manage_stream_ops *ops;
    void *opaque;
    bool sparse;
};

/* ---- objects on the wire ---- */

GVariant *manage_uuid_variant(const uint8_t uuid[16]);            /* "ay" of 16 bytes */
/* The UUID in a record ("D", "N", "P", "F": second member). */
const uint8_t *manage_variant_uuid(GVariant *record);
void manage_uuid_format(const uint8_t uuid[16], char text[37]);
bool manage_uuid_parse(const char *text, uint8_t ret_uuid[16]) G_GNUC_WARN_UNUSED_RESULT; /* dashes are optional */
void manage_uuid_random(uint8_t ret_uuid[16]);

/* Typed parameters: appends one row to a builder of type a(sv). */
void manage_param(GVariantBuilder *b, const char *field, GVariant *value);
void manage_param_u64(GVariantBuilder *b, const char *field, uint64_t v);
void manage_param_u32(GVariantBuilder *b, const char *field, uint32_t v);
void manage_param_i32(GVariantBuilder *b, const char *field, int32_t v);
void manage_param_string(GVariantBuilder *b, const char *field, const char *v);
void manage_param_bool(GVariantBuilder *b, const char *field, bool v);
/* The reply of a getter with `nparams`: asked with 0 it gives the number only. Takes the builder. "(@a(sv)i)". */
GVariant *manage_params_reply(GVariantBuilder *b, int nparams_asked);

/* ---- files ---- */

/* Writes a file as a whole: a temporary one beside it, fsync, rename, fsync of the directory. Makes missing directories (mode 0700). */
bool manage_write_file(const char *path, const char *text, gssize size, mode_t mode, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The same without waiting for the disk: for what need not outlive a crash of the host, or is in a journal. */
bool manage_put_file(const char *path, const char *text, gssize size, mode_t mode, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* What one read gives of a file of the kernel's (/proc, /sys), and a NUL: three system calls, where g_file_get_contents() makes seven. Bytes; -1: errno. */
gssize manage_read_small(const char *path, char *buf, gsize size);
bool manage_remove_file(const char *path, GError **error); /* and fsync of the directory; missing is fine */
/* Programs of ours, wherever they are. */
char *manage_find_vmm(void);
char *manage_find_daemon(void);
