/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening and closing, and what the library says of itself. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "manage/api/api.h"

/* ---- credentials on the terminal, for programs that have no way of their own ---- */

static int default_credentials(virConnectCredentialPtr cred, unsigned int ncred, void *cbdata)
{
    for (unsigned i = 0; i < ncred; i++) {
        char line[1024];
        bool secret = cred[i].type == VIR_CRED_PASSPHRASE || cred[i].type == VIR_CRED_NOECHOPROMPT;
        fprintf(stdout, "%s: ", cred[i].prompt ? cred[i].prompt : "");
        fflush(stdout);
        if (secret) {
            const char *typed = getpass("");
            cred[i].result = g_strdup(typed ? typed : "");
        } else {
            if (!fgets(line, sizeof(line), stdin))
                return -1;
            line[strcspn(line, "\n")] = 0;
            cred[i].result = g_strdup(*line || !cred[i].defresult ? line : cred[i].defresult);
        }
        cred[i].resultlen = (unsigned)strlen(cred[i].result);
    }
    return 0;
}

static int default_types[] = { VIR_CRED_AUTHNAME, VIR_CRED_ECHOPROMPT, VIR_CRED_REALM, VIR_CRED_PASSPHRASE, VIR_CRED_NOECHOPROMPT, VIR_CRED_EXTERNAL };
static virConnectAuth default_auth = { default_types, G_N_ELEMENTS(default_types), default_credentials, NULL };
virConnectAuthPtr virConnectAuthPtrDefault = &default_auth;

/* ---- opening ---- */

/* The drivers in this process: vireo:///embed, test:///... without a transport. */
static bool embedded(const struct rpc_uri *u)
{
    return !u->transport && !u->host && ((!strcmp(u->driver, "vireo") && g_str_has_prefix(u->path, "/embed")) || !strcmp(u->driver, "test"));
}

static struct rpc_uri *find_uri(const char *name, unsigned flags, GError **error)
{
    GError *inner = NULL;
    g_autofree char *text = name && *name ? g_strdup(name) : api_uri_default(&inner);
    if (inner) {
        g_propagate_error(error, inner);
        return NULL;
    }
    if (!text) /* probing: root has the system's daemon, others their session */
        text = g_strdup(geteuid() ? "vireo:///session" : "vireo:///system");
    if (!(flags & VIR_CONNECT_NO_ALIASES) && !strstr(text, ":/")) {
        char *stands_for = api_uri_alias(text, &inner);
        if (inner) {
            g_propagate_error(error, inner);
            return NULL;
        }
        if (stands_for) {
            g_free(text);
            text = stands_for;
        }
    }
    return rpc_uri_parse(text, error);
}

static virConnectPtr open_uri(const char *func, const char *name, virConnectAuthPtr auth, unsigned flags)
{
    GError *error = NULL;
    virResetLastError();
    if (flags & ~(unsigned)(VIR_CONNECT_RO | VIR_CONNECT_NO_ALIASES)) {
        api_fail(NULL, VIR_ERR_INVALID_ARG, "unsupported flags (0x%x) in function %s", flags, func);
        return NULL;
    }
    struct rpc_uri *uri = find_uri(name, flags, &error);
    if (!uri) {
        api_fail_error(NULL, error, VIR_FROM_URI);
        return NULL;
    }
    virConnectPtr conn = api_object_new(NULL, API_CONN, NULL);
    g_mutex_init(&conn->lock);
    conn->readonly = flags & VIR_CONNECT_RO;
    bool good = embedded(uri) ? api_embed_open(conn, uri, flags, &error) : api_remote_open(conn, uri, auth, flags, &error);
    rpc_uri_free(uri);
    if (good)
        return conn;
    conn->closed = true;
    api_object_unref(conn);
    bool unreached = g_error_matches(error, MANAGE_ERROR, VIR_ERR_SYSTEM_ERROR);
    api_fail_error(NULL, error, unreached ? VIR_FROM_RPC : 0); /* programs that wait for a daemon look for this */
    return NULL;
}

virConnectPtr virConnectOpen(const char *name) { return open_uri(__func__, name, NULL, 0); }
virConnectPtr virConnectOpenReadOnly(const char *name) { return open_uri(__func__, name, NULL, VIR_CONNECT_RO); }
virConnectPtr virConnectOpenAuth(const char *name, virConnectAuthPtr auth, unsigned int flags) { return open_uri(__func__, name, auth, flags); }

int virConnectRef(virConnectPtr conn) { return api_public_ref(ON(conn)); }

/* 0 when this was the last reference, 1 when others are left. */
int virConnectClose(virConnectPtr conn)
{
    if (!BEGIN(conn))
        return -1;
    bool last = g_atomic_int_get(&conn->o.refs) == 1;
    api_object_unref(conn);
    return !last;
}

/* ---- the connection ---- */

char *virConnectGetURI(virConnectPtr conn)
{
    if (!BEGIN(conn))
        return NULL;
    return conn->uri ? g_strdup(conn->uri) : STRING(conn, CONNECT_GET_URI);
}

const char *virConnectGetType(virConnectPtr conn)
{
    if (!BEGIN(conn))
        return NULL;
    if (conn->o.name)
        return conn->o.name;
    char *type = STRING(conn, CONNECT_GET_TYPE);
    if (type && !g_atomic_pointer_compare_and_exchange(&conn->o.name, NULL, type))
        g_free(type);
    return conn->o.name;
}

int virConnectIsEncrypted(virConnectPtr conn) { return BEGIN(conn) ? conn->backend->encrypted : -1; }

int virConnectIsSecure(virConnectPtr conn)
{
    if (!BEGIN(conn))
        return -1;
    return conn->backend->secure || conn->backend->encrypted ? INT(conn, CONNECT_IS_SECURE) : 0;
}

int virConnectIsAlive(virConnectPtr conn) { return BEGIN(conn) ? conn->backend->alive(conn) : -1; }

int virConnectSetKeepAlive(virConnectPtr conn, int interval, unsigned int count)
{
    if (!BEGIN(conn))
        return -1;
    if (!api_loop_present()) {
        api_fail(conn, VIR_ERR_INTERNAL_ERROR, "keepalive needs an event loop: call virEventRegisterDefaultImpl() before the connection is opened");
        return -1;
    }
    return conn->backend->keepalive(conn, interval, count);
}

/* ---- the library ---- */

int virInitialize(void)
{
    virResetLastError();
    return 0;
}

int virGetVersion(unsigned long *libVer, const char *type, unsigned long *typeVer)
{
    virResetLastError();
    if (libVer)
        *libVer = LIBVIR_VERSION_NUMBER;
    if (typeVer)
        *typeVer = LIBVIR_VERSION_NUMBER;
    return 0;
}
