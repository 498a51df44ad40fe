/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libvireo: libvirt's public C interface. Reading order: api_object.c (what the handles are), api_call.c (one call: C arguments to a tuple, the tuple
 * to a connection, the reply to C), api_domain.c and its neighbours (one row a public function), api_connect.c and api_uri.c (opening), api_remote.c (a
 * daemon behind a socket), api_embed.c (the drivers in this process), api_events.c, api_stream.c, api_loop.c (the event loop), api_error.c.
 *
 * Every public function begins anew with the thread's last error, and sets it when it fails. Handles are reference-counted and may be used
 * from any thread; a handle holds its connection.
 */
#pragma once

#include <glib.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <stdbool.h>
#include <stdint.h>

#include "manage/core/manage.h"
#include "manage/rpc/rpc_uri.h"

/* ---- handles ---- */

enum api_class {
    API_CONN = 1,
    API_DOMAIN,
    API_NETWORK,
    API_POOL,
    API_VOLUME,
    API_NODEDEV,
    API_INTERFACE,
    API_SECRET,
    API_NWFILTER,
    API_BINDING,
    API_PORT,
    API_SNAPSHOT,
    API_CHECKPOINT,
    API_STREAM,
    API_NCLASSES
};

/* What all handles are. Members that a class does not use are NULL or 0. */
struct api_object {
    uint32_t magic; /* API_MAGIC + class; 0 once freed */
    gint refs;
    virConnectPtr conn;        /* held; a connection: itself, not held */
    struct api_object *parent; /* held: the domain of a snapshot, the network of a port */
    char *name;                /* volume: its name; binding: the port's device */
    char *more;                /* volume: its key; interface: MAC; secret: usage; binding: the filter; node device: parent, once asked for; domain: its name before a rename */
    char *pool;                /* volume */
    uint8_t uuid[16];
    int id;                    /* domain: -1 when inactive; secret: kind of usage */
};
#define API_MAGIC 0x56495200u

struct _virDomain { struct api_object o; };
struct _virNetwork { struct api_object o; };
struct _virStoragePool { struct api_object o; };
struct _virStorageVol { struct api_object o; };
struct _virNodeDevice { struct api_object o; };
struct _virInterface { struct api_object o; };
struct _virSecret { struct api_object o; };
struct _virNWFilter { struct api_object o; };
struct _virNWFilterBinding { struct api_object o; };
struct _virNetworkPort { struct api_object o; };
struct _virDomainSnapshot { struct api_object o; };
struct _virDomainCheckpoint { struct api_object o; };

#define API_CLASS(p)                                                                                                                                 \
    _Generic((p), virConnectPtr: API_CONN, virDomainPtr: API_DOMAIN, virNetworkPtr: API_NETWORK, virStoragePoolPtr: API_POOL,                        \
             virStorageVolPtr: API_VOLUME, virNodeDevicePtr: API_NODEDEV, virInterfacePtr: API_INTERFACE, virSecretPtr: API_SECRET,                  \
             virNWFilterPtr: API_NWFILTER, virNWFilterBindingPtr: API_BINDING, virNetworkPortPtr: API_PORT, virDomainSnapshotPtr: API_SNAPSHOT,      \
             virDomainCheckpointPtr: API_CHECKPOINT, virStreamPtr: API_STREAM)

/* Is it a living handle of this class? Else the last error is set: "invalid domain pointer in virDomainCreate". */
bool api_valid(const char *func, const void *object, enum api_class class);
/* Begins a public function: forgets the last error, checks the handle. */
bool api_begin(const char *func, const void *object, enum api_class class);
#define BEGIN(object) api_begin(__func__, (object), API_CLASS(object))

void *api_object_new(virConnectPtr conn, enum api_class class, const char *name);
/* The handle for a record of a reply. parent: NULL, or whose child it is (taken by reference). */
void *api_object_of(virConnectPtr conn, enum api_class class, GVariant *record, void *parent);
void *api_object_ref(void *object);
void api_object_unref(void *object); /* NULL is fine */
/* The record of a handle. */
GVariant *api_object_variant(const void *object);
/* NULL for NULL. */
static inline const char *api_name(const void *object) { return object ? ((const struct api_object *)object)->name : NULL; }

/* The public Ref and Free functions. */
int api_public_ref(const char *func, void *object, enum api_class class);
int api_public_free(const char *func, void *object, enum api_class class);

/* ---- connections ---- */

struct api_stream_link;

/* How calls get to the drivers. Any thread. */
struct api_backend {
    /* Result not floating. st: NULL, or the stream that the procedure begins. ret_fds: NULL, or int array for descriptors that come back. */
    GVariant *(*call)(virConnectPtr conn, const struct rpc_proc *proc, GVariant *args, const int *fds, unsigned nfds, GArray *ret_fds, virStreamPtr st,
                      int *ret_domain, GError **error); /* *ret_domain: virErrorDomain of the error where the other side named it */
    void (*close)(virConnectPtr conn); /* no callbacks after it */
    bool (*alive)(virConnectPtr conn);
    int (*keepalive)(virConnectPtr conn, int interval, unsigned count); /* 0, 1: not supported by the other side, -1: error is set */
    bool secure, encrypted;

    /* streams; `link` is what call() has put into the stream */
    int (*send)(virStreamPtr st, const void *data, size_t size, bool wait, GError **error); /* bytes, -2: would block, -1 */
    bool (*send_hole)(virStreamPtr st, int64_t length, GError **error);
    int (*recv)(virStreamPtr st, void *data, size_t size, bool wait, int64_t *ret_hole, GError **error); /* bytes, 0: end or hole, -2, -1 */
    bool (*finish)(virStreamPtr st, bool abort, GError **error);
    int (*ready)(virStreamPtr st); /* VIR_STREAM_EVENT_... that would not block now */
    void (*forget)(virStreamPtr st); /* frees the link */
};



struct _virConnect {
    struct api_object o;
    const struct api_backend *backend;
    void *link; /* the backend's */
    char *uri;  /* as opened, without what only the library reads; NULL: ask the daemon */
    bool readonly, closed;
    bool typed_strings; /* the other side knows typed parameters that are strings */
    bool event_filter;  /* and callback numbers in events */
    GMutex lock;        /* what follows */
    virErrorFunc error_fn;
    void *error_data;
    virError last;
    virConnectCloseFunc close_fn;
    void *close_data;
    virFreeCallback close_free;
    struct api_events *events; /* made at the first registration */
};

struct _virStream {
    struct api_object o;
    unsigned flags; /* VIR_STREAM_NONBLOCK */
    void *link;     /* NULL: no transfer */
    GMutex lock;    /* what follows */
    int64_t hole;   /* of the other side, not yet taken by virStreamRecvHole() */
    int watch, wake, wanted; /* event callback: its handle in the loop, its eventfd, VIR_STREAM_EVENT_... */
    virStreamEventCallback fn;
    void *fn_data;
    virFreeCallback fn_free;
};

/* ---- errors (api_error.c) ---- */

/* Sets the last error; `format` completes the sentence that libvirt's clients know for the code ("invalid argument: ..."). conn may be NULL. */
void api_fail(virConnectPtr conn, int code, const char *format, ...) G_GNUC_PRINTF(3, 4);
/* Sets the last error from one of a driver, a daemon or the transport; takes it over. domain 0: by the error's number. */
void api_fail_error(virConnectPtr conn, GError *error, int domain);
void api_error_free_conn(virConnectPtr conn);
void api_error_restore(virErrorPtr e); /* is the thread's last error again; of virSaveLastError(), taken over */
#define API_NULL_ARG(name) (api_fail(NULL, VIR_ERR_INVALID_ARG, "%s in %s must not be NULL", (name), __func__))
/* Fails by name: the public function is not served by any procedure. */
#define NO_SUPPORT(object, result) (BEGIN(object) ? (api_fail((object)->o.conn, VIR_ERR_NO_SUPPORT, "%s", __func__), (result)) : (result))

/* ---- calls (api_call.c) ---- */

/*
 * Calls procedure `proc` on the connection of `object`. The arguments follow the procedure's letters (rpc/rpc_proc.h):
 *   i int, u unsigned, x t (u)int64_t, d double, s const char *, U const unsigned char *, D N P F V S I Z handles, (s) a node device,
 *   O const void *, size_t; aXi aXu aXt aXs aXT aXD: pointer, unsigned; m before a pointer: it may be NULL.
 * NULL: the last error is set.
 */
GVariant *api_call(const char *func, const void *object, enum api_class class, unsigned proc, ...);
int api_void(const char *func, const void *object, enum api_class class, unsigned proc, ...);        /* 0 or -1 */
int api_int(const char *func, const void *object, enum api_class class, unsigned proc, ...);         /* the reply's number or -1 */
char *api_string(const char *func, const void *object, enum api_class class, unsigned proc, ...);    /* the reply's string, malloc'd */
/* The reply's record as a new handle. parent: NULL or the handle's parent. */
void *api_make(const char *func, const void *object, enum api_class class, enum api_class made, void *parent, unsigned proc, ...);
/* The reply's list as an array of handles (NULL-terminated; array NULL: only their number). */
int api_list(const char *func, const void *object, enum api_class class, enum api_class made, void *parent, void *array, unsigned proc, ...);
/* The reply's names into an array of maxnames. */
int api_names(const char *func, const void *object, enum api_class class, char **names, int maxnames, unsigned proc, ...);
/* The reply's names as a new array, NULL-terminated. */
int api_names_new(const char *func, const void *object, enum api_class class, char ***ret_names, unsigned proc, ...);
/* Getters with `nparams`: into the caller's array of *nparams rows, or *nparams = 0: asks for the number. */
int api_params(const char *func, const void *object, enum api_class class, virTypedParameterPtr params, int *nparams, unsigned proc, ...);
/* Getters that allocate. */
int api_params_new(const char *func, const void *object, enum api_class class, virTypedParameterPtr *ret_params, int *ret_nparams, unsigned proc, ...);
/* With descriptors, either way. */
GVariant *api_call_fds(const char *func, const void *object, enum api_class class, const int *fds, unsigned nfds, GArray *ret_fds, unsigned proc, ...);
/* Begins a stream. */
GVariant *api_call_stream(const char *func, const void *object, enum api_class class, virStreamPtr st, unsigned proc, ...);

#define ON(o) __func__, (o), API_CLASS(o)
#define CALL(o, PROC, ...) api_call(ON(o), RPC_##PROC, ##__VA_ARGS__)
#define VOID(o, PROC, ...) api_void(ON(o), RPC_##PROC, ##__VA_ARGS__)
#define INT(o, PROC, ...) api_int(ON(o), RPC_##PROC, ##__VA_ARGS__)
#define STRING(o, PROC, ...) api_string(ON(o), RPC_##PROC, ##__VA_ARGS__)
#define MAKE(o, CLASS, PROC, ...) api_make(ON(o), API_##CLASS, NULL, RPC_##PROC, ##__VA_ARGS__)
#define LIST(o, CLASS, array, PROC, ...) api_list(ON(o), API_##CLASS, NULL, (array), RPC_##PROC, ##__VA_ARGS__)
#define NAMES(o, names, max, PROC, ...) api_names(ON(o), (char **)(names), (max), RPC_##PROC, ##__VA_ARGS__)
#define PARAMS(o, params, n, PROC, ...) api_params(ON(o), (params), (n), RPC_##PROC, ##__VA_ARGS__)
#define PARAMS_NEW(o, params, n, PROC, ...) api_params_new(ON(o), (params), (n), RPC_##PROC, ##__VA_ARGS__)
#define STREAM(o, st, PROC, ...) api_call_stream(ON(o), (st), RPC_##PROC, ##__VA_ARGS__)

/* flags with VIR_TYPED_PARAM_STRING_OKAY, where the other side knows it. object may be NULL. */
unsigned api_string_flags(const void *object, unsigned flags);
/* nparams of a getter: 0 for NULL. */
static inline int api_count(const int *n) { return n && *n > 0 ? *n : 0; }

/* A list "a(sv)" as rows; 0 or -1. */
int api_params_fill(GVariant *list, virTypedParameterPtr params, int nparams);
virTypedParameterPtr api_params_of(GVariant *list, int *ret_n);
GVariant *api_params_variant(const virTypedParameter *params, int nparams);

/* ---- events (api_events.c) ---- */

/* From the backend, any thread: an event message, or the end of the connection. */
void api_event_received(virConnectPtr conn, const struct rpc_proc *proc, GVariant *payload);
void api_conn_lost(virConnectPtr conn, int reason);
void api_events_free(virConnectPtr conn);
/* Is there an event loop that events could come from? */
bool api_loop_present(void);

/* ---- streams (api_stream.c) ---- */

/* From the backend, any thread: what the stream can do may have changed. */
void api_stream_changed(virStreamPtr st);

/* ---- opening (api_uri.c, api_remote.c, api_embed.c) ---- */

/* The URI that an open without one means, NULL: probe; and what an alias stands for. Free it. */
char *api_uri_default(GError **error);
char *api_uri_alias(const char *name, GError **error); /* NULL without error: no such alias */

/* Each sets conn->backend and conn->link and opens; false: error is set. */
bool api_remote_open(virConnectPtr conn, const struct rpc_uri *uri, virConnectAuthPtr auth, unsigned flags, GError **error);
bool api_embed_open(virConnectPtr conn, const struct rpc_uri *uri, unsigned flags, GError **error);
