/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What callers of a migration may say: flags, parameters, addresses. One row each; what cannot be done is refused by its name. */
#include <errno.h>
#include <json-c/json.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "manage/drivers/domain/migrate/domain_migrate.h"

enum {
    KNOWN_FLAGS = VIR_MIGRATE_LIVE | VIR_MIGRATE_PEER2PEER | VIR_MIGRATE_PERSIST_DEST | VIR_MIGRATE_UNDEFINE_SOURCE | VIR_MIGRATE_PAUSED | VIR_MIGRATE_CHANGE_PROTECTION |
                  VIR_MIGRATE_UNSAFE | VIR_MIGRATE_OFFLINE | VIR_MIGRATE_COMPRESSED | VIR_MIGRATE_ABORT_ON_ERROR | VIR_MIGRATE_AUTO_CONVERGE |
                  VIR_MIGRATE_PARALLEL | MIGRATE_COPY_FLAGS | VIR_MIGRATE_NON_SHARED_SYNCHRONOUS_WRITES,
    CONNECTIONS_MAX = 255, CONNECTIONS = 2,
};

static const struct { uint32_t flag; const char *what; } refused[] = {
    { VIR_MIGRATE_TUNNELLED, "tunnelled migration (VIR_MIGRATE_TUNNELLED); the state goes from machine to machine" },
    { VIR_MIGRATE_RDMA_PIN_ALL, "migration by RDMA (VIR_MIGRATE_RDMA_PIN_ALL)" },
    { VIR_MIGRATE_POSTCOPY, "post-copy migration (VIR_MIGRATE_POSTCOPY)" },
    { VIR_MIGRATE_TLS, "encrypted migration (VIR_MIGRATE_TLS)" },
    { VIR_MIGRATE_POSTCOPY_RESUME, "post-copy migration (VIR_MIGRATE_POSTCOPY_RESUME)" },
    { VIR_MIGRATE_ZEROCOPY, "migration without copies in the kernel (VIR_MIGRATE_ZEROCOPY)" },
};

static const struct { const char *field; char type; gsize offset; } fields[] = {
    { VIR_MIGRATE_PARAM_URI, 's', offsetof(struct migrate_args, uri) },
    { VIR_MIGRATE_PARAM_DEST_NAME, 's', offsetof(struct migrate_args, name) },
    { VIR_MIGRATE_PARAM_DEST_XML, 's', offsetof(struct migrate_args, xml) },
    { VIR_MIGRATE_PARAM_PERSIST_XML, 's', offsetof(struct migrate_args, persistent_xml) },
    { VIR_MIGRATE_PARAM_LISTEN_ADDRESS, 's', offsetof(struct migrate_args, listen) },
    { VIR_MIGRATE_PARAM_BANDWIDTH, 't', offsetof(struct migrate_args, bandwidth) },
    { VIR_MIGRATE_PARAM_COMPRESSION, 's', offsetof(struct migrate_args, compression) },
    { VIR_MIGRATE_PARAM_COMPRESSION_XBZRLE_CACHE, 't', offsetof(struct migrate_args, xbzrle_cache) },
    { VIR_MIGRATE_PARAM_AUTO_CONVERGE_INITIAL, 'i', offsetof(struct migrate_args, throttle_initial) },
    { VIR_MIGRATE_PARAM_AUTO_CONVERGE_INCREMENT, 'i', offsetof(struct migrate_args, throttle_increment) },
    { VIR_MIGRATE_PARAM_DISKS_PORT, 'i', offsetof(struct migrate_args, disks_port) },
    { VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS, 'i', offsetof(struct migrate_args, connections) },
};

static bool check_flags(uint32_t flags, GError **error)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(refused); i++)
        if (flags & refused[i].flag)
            return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "there is no %s", refused[i].what);
    return manage_check_flags(flags, KNOWN_FLAGS, error);
}

bool migrate_args_check(const struct migrate_args *a, bool source, GError **error)
{
    if (!check_flags(a->flags, error))
        return false;
    if ((a->flags & VIR_MIGRATE_OFFLINE) && !(a->flags & VIR_MIGRATE_PERSIST_DEST))
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "offline migration must be specified with the persistent flag set");
    if ((a->flags & VIR_MIGRATE_OFFLINE) && (a->flags & VIR_MIGRATE_LIVE))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "live and offline migration exclude each other");
    if (a->compression && strcmp(a->compression, "xbzrle"))
        return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "there is no compression method '%s'; xbzrle is one", a->compression);
    if (source && (a->xbzrle_cache || a->compression) && !(a->flags & VIR_MIGRATE_COMPRESSED))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "parameters of compression need the flag for compressed migration");
    if (source && (a->throttle_initial || a->throttle_increment) && !(a->flags & VIR_MIGRATE_AUTO_CONVERGE))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "parameters of auto convergence need its flag");
    if ((a->flags & MIGRATE_COPY_FLAGS) == MIGRATE_COPY_FLAGS || ((a->flags & MIGRATE_COPY_FLAGS) && (a->flags & VIR_MIGRATE_OFFLINE)))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "disks are copied whole or their tops alone, and not offline");
    if ((a->flags & VIR_MIGRATE_NON_SHARED_SYNCHRONOUS_WRITES) && !(a->flags & MIGRATE_COPY_FLAGS))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "synchronous writes need a flag that has disks copied");
    if (a->disks_port < 0 || a->disks_port > 65535)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "%d is no port", a->disks_port);
    if (a->connections && !(a->flags & VIR_MIGRATE_PARALLEL))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "a number of connections needs the flag for parallel migration");
    if (a->connections < 0 || a->connections > CONNECTIONS_MAX)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "a parallel migration has 1 to %d connections, not %d", CONNECTIONS_MAX, a->connections);
    if (a->bandwidth > INT64_MAX / (1024 * 1024))
        return manage_fail(error, VIR_ERR_OVERFLOW, "bandwidth must be less than %llu", (unsigned long long)(INT64_MAX / (1024 * 1024)) + 1);
    return true;
}

static bool take(struct migrate_args *a, const char *field, GVariant *v, GError **error)
{
    if (!strcmp(field, VIR_MIGRATE_PARAM_MIGRATE_DISKS) && g_variant_is_of_type(v, G_VARIANT_TYPE_STRING)) {
        if (a->ndisks == G_N_ELEMENTS(a->disks))
            return manage_fail(error, VIR_ERR_INVALID_ARG, "a migration copies at most %u disks", a->ndisks);
        a->disks[a->ndisks++] = g_variant_get_string(v, NULL);
        return true;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(fields); i++) {
        if (strcmp(fields[i].field, field))
            continue;
        const char type[2] = { fields[i].type, 0 };
        if (!g_variant_is_of_type(v, G_VARIANT_TYPE(type)))
            return manage_fail(error, VIR_ERR_INVALID_ARG, "parameter '%s' of a migration has another type", field);
        void *to = (char *)a + fields[i].offset;
        if (*type == 's' && *(const char **)to)
            return manage_fail(error, VIR_ERR_INVALID_ARG, "parameter '%s' occurs more than once", field);
        if (*type == 's')
            *(const char **)to = g_variant_get_string(v, NULL);
        else if (*type == 't')
            *(uint64_t *)to = g_variant_get_uint64(v);
        else
            *(int *)to = g_variant_get_int32(v);
        return true;
    }
    return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "a migration has no parameter '%s' here", field);
}

bool migrate_args_parse(struct migrate_args *a, GVariant *params, uint32_t flags, GError **error)
{
    GVariantIter iter;
    *a = (struct migrate_args){ .flags = flags };
    if (!check_flags(flags, error)) /* before the parameters that belong to one that is refused */
        return false;
    g_variant_iter_init(&iter, params);
    for (;;) {
        const char *field;
        g_autoptr(GVariant) v = NULL;
        if (!g_variant_iter_next(&iter, "(&sv)", &field, &v))
            break;
        if (!take(a, field, v, error))
            return false;
    }
    return true;
}

const char **migrate_args_capabilities(const struct migrate_args *a, bool source, struct json_object **ret)
{
    GPtrArray *on = g_ptr_array_new();
    struct json_object *p = json_object_new_object();
    if (a->flags & VIR_MIGRATE_AUTO_CONVERGE)
        g_ptr_array_add(on, (char *)"auto-converge");
    if (a->flags & VIR_MIGRATE_COMPRESSED)
        g_ptr_array_add(on, (char *)"xbzrle");
    if (a->flags & VIR_MIGRATE_PARALLEL) {
        g_ptr_array_add(on, (char *)"multifd");
        json_object_object_add(p, "multifd-channels", json_object_new_int(a->connections ? a->connections : CONNECTIONS));
    }
    if (source && (a->flags & MIGRATE_COPY_FLAGS))
        g_ptr_array_add(on, (char *)"pause-before-switchover");
    g_ptr_array_add(on, NULL);
    if (a->throttle_initial)
        json_object_object_add(p, "cpu-throttle-initial", json_object_new_int(a->throttle_initial));
    if (a->throttle_increment)
        json_object_object_add(p, "cpu-throttle-increment", json_object_new_int(a->throttle_increment));
    if (a->xbzrle_cache)
        json_object_object_add(p, "xbzrle-cache-size", json_object_new_int64((int64_t)MIN(a->xbzrle_cache, (uint64_t)INT64_MAX)));
    if (json_object_object_length(p) == 0) {
        json_object_put(p);
        p = NULL;
    }
    *ret = p;
    return (const char **)g_ptr_array_free(on, FALSE);
}

/* ---- addresses ---- */

static bool parse_port(const char *text, unsigned *ret)
{
    guint64 n;
    if (!g_ascii_string_to_unsigned(text, 10, 1, 65535, &n, NULL))
        return false;
    *ret = (unsigned)n;
    return true;
}

bool migrate_uri_parse(const char *uri, char **ret_host, unsigned *ret_port, bool *ret_unix, GError **error)
{
    *ret_port = 0;
    *ret_unix = g_str_has_prefix(uri, "unix:");
    if (*ret_unix) {
        const char *path = uri + strlen("unix:");
        path += g_str_has_prefix(path, "//") ? 2 : 0;
        if (*path != '/' || strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path) || strpbrk(path, ",\n"))
            return manage_fail(error, VIR_ERR_INVALID_ARG, "'%s' names no socket: unix:///PATH is expected, of at most 107 bytes", uri);
        *ret_host = g_strdup(path);
        return true;
    }
    if (!g_str_has_prefix(uri, "tcp:"))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "'%s' is no address for a migration: tcp://HOST[:PORT] and unix:///PATH are", uri);
    const char *at = uri + strlen("tcp:");
    at += g_str_has_prefix(at, "//") ? 2 : 0;
    gsize n = *at == '[' ? strcspn(++at, "]") : strcspn(at, ":/");
    const char *rest = at + n + (at[n] == ']');
    gsize end = strlen(rest);
    g_autofree char *port = g_strndup(rest, end && rest[end - 1] == '/' ? end - 1 : end);
    bool bad = !n || n > 255 || (*port && (*port != ':' || !parse_port(port + 1, ret_port)));
    for (gsize i = 0; i < n; i++)
        bad |= !g_ascii_isalnum(at[i]) && !strchr(".-_:%", at[i]);
    if (bad)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "'%s' is no address for a migration: tcp://HOST[:PORT] is expected", uri);
    *ret_host = g_strndup(at, n);
    return true;
}

static int connect_unix(const char *path, GError **error)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    g_strlcpy(a.sun_path, path, sizeof(a.sun_path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
        return fd;
    manage_fail_errno(error, errno, "unable to connect to the destination's machine at '%s'", path);
    if (fd >= 0)
        close(fd);
    return -1;
}

static int connect_tcp(const char *host, unsigned port, GError **error)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG }, *all = NULL;
    g_autofree char *service = g_strdup_printf("%u", port);
    int code = getaddrinfo(host, service, &hints, &all), fd = -1, err = 0;
    if (code) {
        manage_fail(error, VIR_ERR_OPERATION_FAILED, "unable to connect to the destination: host '%s' is not known: %s; name an address with --migrateuri", host, gai_strerror(code));
        return -1;
    }
    for (struct addrinfo *a = all; a && fd < 0; a = a->ai_next) {
        const struct timeval patience = { .tv_sec = 10 };
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
            continue;
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)); /* how long connect() waits */
        if (connect(fd, a->ai_addr, a->ai_addrlen) == 0)
            break;
        err = errno == EINPROGRESS ? ETIMEDOUT : errno;
        close(fd);
        fd = -1;
    }
    freeaddrinfo(all);
    const struct timeval none = { 0 };
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof(none));
    else
        manage_fail_errno(error, err, "unable to connect to the destination's machine at '%s:%u'", host, port);
    return fd;
}

char *migrate_uri_machine(const char *uri, GError **error)
{
    g_autofree char *host = NULL;
    unsigned port;
    bool local;
    if (!migrate_uri_parse(uri, &host, &port, &local, error))
        return NULL;
    if (!local && !port)
        return manage_null(error, VIR_ERR_INVALID_ARG, "address '%s' has no port", uri);
    return local ? g_strdup_printf("unix:%s", host) : g_strdup_printf(strchr(host, ':') ? "tcp:[%s]:%u" : "tcp:%s:%u", host, port);
}

int migrate_uri_connect(const char *uri, GError **error)
{
    g_autofree char *host = NULL;
    unsigned port;
    bool local;
    if (!migrate_uri_parse(uri, &host, &port, &local, error))
        return -1;
    if (local)
        return connect_unix(host, error);
    if (port)
        return connect_tcp(host, port, error);
    manage_fail(error, VIR_ERR_INVALID_ARG, "address '%s' has no port", uri);
    return -1;
}
