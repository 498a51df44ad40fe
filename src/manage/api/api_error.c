/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The last error: one a thread, a copy in the connection it happened on, and a function that hears of each. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "manage/api/api.h"

/* What the C interface demands to be of the whole process. */
static struct {
    GMutex lock;
    virErrorFunc fn;
    void *data;
} process;

static void error_finish(gpointer e)
{
    virFreeError(e);
}

static virErrorPtr of_thread(void)
{
    static GPrivate key = G_PRIVATE_INIT(error_finish);
    virErrorPtr e = g_private_get(&key);
    if (!e) {
        e = g_new0(virError, 1);
        g_private_set(&key, e);
    }
    return e;
}

static void error_clear(virErrorPtr e)
{
    api_object_unref(e->dom);
    api_object_unref(e->net);
    g_free(e->message);
    g_free(e->str1);
    g_free(e->str2);
    g_free(e->str3);
    memset(e, 0, sizeof(*e));
}

static void error_copy(const virError *from, virErrorPtr to)
{
    error_clear(to);
    *to = *from;
    to->message = g_strdup(from->message);
    to->str1 = g_strdup(from->str1);
    to->str2 = g_strdup(from->str2);
    to->str3 = g_strdup(from->str3);
    to->conn = NULL; /* an error does not hold its connection */
    if (to->dom)
        api_object_ref(to->dom);
    if (to->net)
        api_object_ref(to->net);
}

/* ---- telling ---- */

static const char *origin(int domain)
{
    static const struct { int domain; const char *name; } names[] = {
        { VIR_FROM_NONE, "" }, { VIR_FROM_XML, "XML Util " }, { VIR_FROM_DOM, "Domain " }, { VIR_FROM_RPC, "XML-RPC " }, { VIR_FROM_QEMU, "QEMU Driver " },
        { VIR_FROM_NET, "Network " }, { VIR_FROM_TEST, "Test Driver " }, { VIR_FROM_REMOTE, "Remote Driver " }, { VIR_FROM_STORAGE, "Storage Driver " },
        { VIR_FROM_NETWORK, "Network Driver " }, { VIR_FROM_DOMAIN, "Domain Config " }, { VIR_FROM_NODEDEV, "Node Device Driver " },
        { VIR_FROM_INTERFACE, "Interface Driver " }, { VIR_FROM_SECRET, "Secret Driver " }, { VIR_FROM_NWFILTER, "Network Filter Driver " },
        { VIR_FROM_DOMAIN_SNAPSHOT, "Domain Snapshot " }, { VIR_FROM_STREAMS, "Streams " }, { VIR_FROM_POLKIT, "Polkit " }, { VIR_FROM_AUTH, "Auth " },
        { VIR_FROM_EVENT, "Event " }, { VIR_FROM_URI, "URI " },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++)
        if (names[i].domain == domain)
            return names[i].name;
    return "";
}

void virDefaultErrorFunc(virErrorPtr err)
{
    static const char *const levels[] = { "", "warning ", "error " };
    if (!err || err->code == VIR_ERR_OK)
        return;
    fprintf(stderr, "libvirt: %s%s: %s\n", origin(err->domain), levels[CLAMP((int)err->level, 0, 2)], err->message ? err->message : "");
}

/* The thread's error has been set: a copy to the connection, and who wants to hear of it does. */
static void tell(virConnectPtr conn)
{
    virErrorPtr e = of_thread();
    virErrorFunc fn = NULL;
    void *data = NULL;
    if (conn) {
        g_mutex_lock(&conn->lock);
        error_copy(e, &conn->last);
        conn->last.conn = conn;
        fn = conn->error_fn;
        data = conn->error_data;
        g_mutex_unlock(&conn->lock);
        e->conn = conn;
    }
    if (!fn) {
        g_mutex_lock(&process.lock);
        fn = process.fn;
        data = process.data;
        g_mutex_unlock(&process.lock);
    }
    int saved = errno;
    if (fn)
        fn(data, e);
    else
        virDefaultErrorFunc(e);
    errno = saved;
}

/* The sentence that belongs to a code which the library itself gives. */
static char *sentence(int code, const char *detail)
{
    static const struct { int code; const char *begin; } begins[] = {
        { VIR_ERR_INTERNAL_ERROR, "internal error: " }, { VIR_ERR_NO_SUPPORT, "this function is not supported by the connection driver: " },
        { VIR_ERR_NO_CONNECT, "no connection driver available for " },
        { VIR_ERR_OPERATION_DENIED, "operation forbidden: " }, { VIR_ERR_OPERATION_INVALID, "Requested operation is not valid: " },
        { VIR_ERR_AUTH_FAILED, "authentication failed: " }, { VIR_ERR_RPC, "RPC error: " }, { VIR_ERR_OVERFLOW, "numerical overflow: " },
        { VIR_ERR_INVALID_STREAM, "" }, { VIR_ERR_OPERATION_FAILED, "operation failed: " },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(begins); i++)
        if (begins[i].code == code)
            return g_strconcat(begins[i].begin, detail, NULL);
    return g_strdup(detail);
}

static void set(virConnectPtr conn, int code, int domain, char *message, const char *detail)
{
    virErrorPtr e = of_thread();
    error_clear(e);
    e->code = code;
    e->domain = domain;
    e->level = VIR_ERR_ERROR;
    e->message = message;
    e->str1 = g_strdup(detail);
    e->int1 = e->int2 = -1;
    tell(conn);
}

void api_fail(virConnectPtr conn, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *detail = g_strdup_vprintf(format, args);
    va_end(args);
    int domain = code == VIR_ERR_INVALID_DOMAIN ? VIR_FROM_DOM : code == VIR_ERR_INVALID_STREAM ? VIR_FROM_STREAMS : manage_error_domain(code);
    set(conn, code, domain == VIR_FROM_QEMU ? VIR_FROM_NONE : domain, sentence(code, detail), detail);
}

void api_fail_error(virConnectPtr conn, GError *error, int domain)
{
    if (!error) {
        api_fail(conn, VIR_ERR_INTERNAL_ERROR, "the call failed without an error");
        return;
    }
    int code = manage_error_code(error);
    if (code == VIR_ERR_RPC && g_str_has_prefix(error->message, "unknown procedure")) /* an older daemon */
        code = VIR_ERR_NO_SUPPORT;
    set(conn, code, domain ? domain : manage_error_domain(code), g_strdup(error->message), error->message);
    g_error_free(error);
}

void api_error_free_conn(virConnectPtr conn)
{
    error_clear(&conn->last);
}

/* ---- public ---- */

virErrorPtr virGetLastError(void)
{
    virErrorPtr e = of_thread();
    return e->code == VIR_ERR_OK ? NULL : e;
}

int virGetLastErrorCode(void) { return of_thread()->code; }
int virGetLastErrorDomain(void) { return of_thread()->domain; }

const char *virGetLastErrorMessage(void)
{
    virErrorPtr e = of_thread();
    return e->code == VIR_ERR_OK ? "no error" : e->message ? e->message : "unknown error";
}

void virResetLastError(void) { error_clear(of_thread()); }

void virResetError(virErrorPtr err)
{
    if (err)
        error_clear(err);
}

void virFreeError(virErrorPtr err)
{
    if (err)
        error_clear(err);
    g_free(err);
}

virErrorPtr virSaveLastError(void)
{
    int saved = errno;
    virErrorPtr copy = g_new0(virError, 1);
    error_copy(of_thread(), copy);
    copy->conn = of_thread()->conn;
    errno = saved;
    return copy;
}

void api_error_restore(virErrorPtr e)
{
    virErrorPtr own = of_thread();
    error_clear(own);
    error_copy(e, own);
    virFreeError(e);
}

int virCopyLastError(virErrorPtr to)
{
    if (!to)
        return -1;
    memset(to, 0, sizeof(*to)); /* by contract its old contents are not to be freed */
    error_copy(of_thread(), to);
    return to->code;
}

virErrorPtr virConnGetLastError(virConnectPtr conn) { return conn && conn->last.code != VIR_ERR_OK ? &conn->last : NULL; }

int virConnCopyLastError(virConnectPtr conn, virErrorPtr to)
{
    if (!conn || !to)
        return -1;
    memset(to, 0, sizeof(*to));
    g_mutex_lock(&conn->lock);
    error_copy(&conn->last, to);
    g_mutex_unlock(&conn->lock);
    return to->code;
}

void virConnResetLastError(virConnectPtr conn)
{
    if (!conn)
        return;
    g_mutex_lock(&conn->lock);
    error_clear(&conn->last);
    g_mutex_unlock(&conn->lock);
}

void virSetErrorFunc(void *userData, virErrorFunc handler)
{
    g_mutex_lock(&process.lock);
    process.fn = handler;
    process.data = userData;
    g_mutex_unlock(&process.lock);
}

void virConnSetErrorFunc(virConnectPtr conn, void *userData, virErrorFunc handler)
{
    if (!conn)
        return;
    g_mutex_lock(&conn->lock);
    conn->error_fn = handler;
    conn->error_data = userData;
    g_mutex_unlock(&conn->lock);
}
