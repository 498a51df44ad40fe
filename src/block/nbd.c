/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Driver "nbd": an export of an NBD server. Options and forms of file names are QEMU's; the protocol is libnbd's (nbd_link.h). */
#include <errno.h>
#include <inttypes.h>
#include <libnbd.h>
#include <string.h>

#include "base/error.h"
#include "block/drivers.h"
#include "block/nbd_address.h"
#include "block/nbd_link.h"

#define DEFAULT_PORT "10809"
enum { MAX_NAME = 4096 /* of an export: protocol, "Values" */ };
static const uint64_t MAX_RANGE = 1 << 30; /* of zeroes and trim: below the protocol's 32 bits */

struct nbd_state {
    char *server[12];
    char *host, *port, *path, *export_name, *tls_creds, *tls_hostname, *context;
    uint64_t reconnect_delay, open_timeout;
    struct nbd_link *link;
    struct nbd_export_info info;
};

#define SERVER(i, name, help) { "server." name, KV_STRING, offsetof(struct nbd_state, server) + (i) * sizeof(char *), help }
static const struct keyval_key keys[] = {
    SERVER(0, "type", "inet, unix or fd"),
    SERVER(1, "host", "inet: name or address"),
    SERVER(2, "port", "inet: number or service"),
    SERVER(3, "path", "unix: the socket"),
    SERVER(4, "str", "fd: number of an inherited descriptor, or its name in getfd"),
    SERVER(5, "abstract", "unix: no file"),
    SERVER(6, "tight", "unix, abstract: the name is not padded"),
    SERVER(7, "ipv4", "inet: with or without"),
    SERVER(8, "ipv6", "inet: with or without"),
    SERVER(9, "numeric", "inet: host is an address"),
    SERVER(10, "keep-alive", "inet: always on"),
    SERVER(11, "to", "refused: one port"),
    { "host", KV_STRING, offsetof(struct nbd_state, host), "as server.type=inet" },
    { "port", KV_STRING, offsetof(struct nbd_state, port), "with host=; " DEFAULT_PORT },
    { "path", KV_STRING, offsetof(struct nbd_state, path), "as server.type=unix" },
    { "export", KV_STRING, offsetof(struct nbd_state, export_name), "name of the export" },
    { "tls-creds", KV_STRING, offsetof(struct nbd_state, tls_creds), "refused: TLS is not available" },
    { "tls-hostname", KV_STRING, offsetof(struct nbd_state, tls_hostname), "with tls-creds" },
    { "x-dirty-bitmap", KV_STRING, offsetof(struct nbd_state, context), "block status by this metadata context, such as qemu:dirty-bitmap:NAME" },
    { "reconnect-delay", KV_UINT, offsetof(struct nbd_state, reconnect_delay), "seconds that requests wait for a lost server; 0", NULL, 0, UINT32_MAX },
    { "open-timeout", KV_UINT, offsetof(struct nbd_state, open_timeout), "seconds that opening tries; 0: once", NULL, 0, UINT32_MAX },
    { NULL }
};

/* ---- names ---- */

static void add_inet(struct keyval *kv, const char *host, const char *port)
{
    keyval_add(kv, "server.type", "inet");
    keyval_add(kv, "server.host", host);
    keyval_add(kv, "server.port", port);
}

static void add_unix(struct keyval *kv, const char *path)
{
    keyval_add(kv, "server.type", "unix");
    keyval_add(kv, "server.path", path);
}

/* nbd://[host[:port]]/[export], nbd+unix:///[export]?socket=PATH; nbds the same with TLS (NBD URI specification). */
static bool parse_uri(const char *name, struct keyval *kv, GError **error)
{
    g_autoptr(GUri) uri = g_uri_parse(name, G_URI_FLAGS_NONE, NULL);
    const char *scheme = uri ? g_uri_get_scheme(uri) : NULL;
    if (!uri)
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s' is not a valid URI", name);
    if (g_str_has_prefix(scheme, "nbds"))
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "'%s': TLS is not available for NBD; tunnel the connection, for example with ssh -L", name);
    bool is_unix = g_str_has_suffix(scheme, "+unix");
    if (!is_unix && strcmp(scheme, "nbd") && strcmp(scheme, "nbd+tcp"))
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "'%s': of NBD there are nbd://, nbd+tcp:// and nbd+unix://", name);
    g_autoptr(GHashTable) query = g_uri_get_query(uri) ? g_uri_parse_params(g_uri_get_query(uri), -1, "&", G_URI_PARAMS_NONE, NULL) : NULL;
    const char *socket = query ? g_hash_table_lookup(query, "socket") : NULL, *host = g_uri_get_host(uri);
    if (query && g_hash_table_size(query) > (socket ? 1u : 0u))
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s': the only parameter of an NBD URI is socket=", name);
    if (is_unix != (socket != NULL) || (is_unix && host && *host))
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s': a UNIX socket is nbd+unix:///EXPORT?socket=PATH, all else nbd://HOST:PORT/EXPORT", name);
    g_autofree char *port = g_uri_get_port(uri) > 0 ? g_strdup_printf("%d", g_uri_get_port(uri)) : g_strdup(DEFAULT_PORT);
    if (is_unix)
        add_unix(kv, socket);
    else
        add_inet(kv, host && *host ? host : "localhost", port);
    const char *path = g_uri_get_path(uri);
    if (*path == '/' && path[1])
        keyval_add(kv, "export", path + 1);
    return true;
}

/* nbd:HOST:PORT[:exportname=NAME], nbd:unix:PATH[:exportname=NAME] */
static bool parse_old(const char *name, struct keyval *kv, GError **error)
{
    static const char separator[] = ":exportname=";
    const char *rest = name + strlen("nbd:"), *export_name = strstr(rest, separator);
    g_autofree char *where = export_name ? g_strndup(rest, (gsize)(export_name - rest)) : g_strdup(rest);
    if (export_name && export_name[strlen(separator)])
        keyval_add(kv, "export", export_name + strlen(separator));
    if (g_str_has_prefix(where, "unix:")) {
        add_unix(kv, where + strlen("unix:"));
        return true;
    }
    char *colon = strrchr(where, ':');
    if (!colon || colon == where || !colon[1])
        return vireo_fail(error, VIREO_ERROR_INVALID, "'%s': expected nbd:HOST:PORT[:exportname=NAME] or nbd:unix:PATH[:exportname=NAME]", name);
    *colon = '\0';
    char *host = where;
    size_t n = strlen(host);
    if (*host == '[' && host[n - 1] == ']') {
        host[n - 1] = '\0';
        host++;
    }
    add_inet(kv, host, colon + 1);
    return true;
}

static bool parse_filename(const char *filename, struct keyval *options, GError **error)
{
    return strstr(filename, "://") ? parse_uri(filename, options, error) : parse_old(filename, options, error);
}

/* As a user would name it again. */
static char *name_of(const struct nbd_address *a, const char *export_name)
{
    g_autofree char *export_text = g_uri_escape_string(export_name ? export_name : "", "/", FALSE);
    if (a->path) {
        g_autofree char *path = g_uri_escape_string(a->path, "/", FALSE);
        return g_strdup_printf("nbd+unix:///%s?socket=%s", export_text, path);
    }
    if (!a->port)
        return NULL;
    const char *slash = *export_text ? "/" : "";
    return g_strdup_printf(strchr(a->host, ':') ? "nbd://[%s]:%s%s%s" : "nbd://%s:%s%s%s", a->host, a->port, slash, export_text);
}

/* ---- opening ---- */

/* The address out of server.* or the short forms host= and path=. */
static bool address_of(struct nbd_state *s, struct nbd_address *ret, GError **error)
{
    keyval_auto *kv = keyval_new();
    bool any = false;
    for (size_t i = 0; i < G_N_ELEMENTS(s->server); i++) {
        if (s->server[i]) {
            keyval_add(kv, keys[i].name + strlen("server."), s->server[i]);
            any = true;
        }
    }
    if (any + (s->host != NULL) + (s->path != NULL) > 1)
        return vireo_fail(error, VIREO_ERROR_INVALID, "nbd: the server is said twice: give one of server.*, host= and path=");
    if (s->host) {
        keyval_add(kv, "type", "inet");
        keyval_add(kv, "host", s->host);
        keyval_add(kv, "port", s->port ? s->port : DEFAULT_PORT);
    } else if (s->path) {
        keyval_add(kv, "type", "unix");
        keyval_add(kv, "path", s->path);
    } else if (!any) {
        return vireo_fail(error, VIREO_ERROR_INVALID, "NBD server address missing: give server.type=inet with server.host and server.port, or server.type=unix "
                          "with server.path");
    }
    if (!nbd_address_take(kv, false, ret, error))
        return false;
    if (!kv->pairs->len)
        return true;
    vireo_fail(error, VIREO_ERROR_INVALID, "nbd: server.%s does not go with this type of address", ((struct keyval_pair *)kv->pairs->pdata[0])->key);
    nbd_address_clear(ret);
    return false;
}

static void set_limits(struct block_node *n, const struct nbd_export_info *info)
{
    n->limits.request_alignment = info->min_block;
    n->limits.zeroes_alignment = n->limits.discard_alignment = info->preferred_block;
    n->limits.max_transfer = info->max_block;
    n->limits.max_zeroes = n->limits.max_discard = MAX_RANGE;
}

static bool nbd_open(struct block_node *n, unsigned flags, GError **error)
{
    struct nbd_state *s = n->state;
    struct nbd_address a;
    if (s->tls_creds || s->tls_hostname)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "nbd: TLS is not available; tunnel the connection, for example with ssh -L");
    if (s->export_name && strlen(s->export_name) > MAX_NAME)
        return vireo_fail(error, VIREO_ERROR_INVALID, "nbd: export name too long: at most %d bytes", MAX_NAME);
    if (!address_of(s, &a, error))
        return false;
    char *name = name_of(&a, s->export_name);
    if (name) {
        g_free(n->filename);
        n->filename = name;
    }
    struct nbd_link_options o = { .export_name = s->export_name, .context = s->context ? s->context : "base:allocation", .want_context = s->context != NULL,
                                  .reconnect_delay = s->reconnect_delay, .open_timeout = s->open_timeout,
                                  .want_write = (flags & BLOCK_RDWR) && !(flags & BLOCK_AUTO_READ_ONLY) };
    s->link = nbd_link_open(&a, &o, &s->info, error);
    if (!s->link)
        return false;
    if (s->info.read_only)
        n->flags &= ~(unsigned)BLOCK_RDWR;
    n->size = s->info.size;
    set_limits(n, &s->info);
    return true;
}

static void nbd_close_node(struct block_node *n)
{
    struct nbd_state *s = n->state;
    if (s->link && (n->flags & BLOCK_RDWR) && s->info.flush && !(n->flags & BLOCK_NO_FLUSH))
        (void)nbd_link_call(s->link, &(struct nbd_call) { .op = NBD_CALL_FLUSH });
    nbd_link_close(s->link);
    for (size_t i = 0; i < G_N_ELEMENTS(s->server); i++)
        g_free(s->server[i]);
    char *strings[] = { s->host, s->port, s->path, s->export_name, s->tls_creds, s->tls_hostname, s->context };
    for (size_t i = 0; i < G_N_ELEMENTS(strings); i++)
        g_free(strings[i]);
    memset(s, 0, sizeof(*s));
}

static bool nbd_reopen(struct block_node *n, unsigned flags, GError **error)
{
    struct nbd_state *s = n->state;
    if ((flags & BLOCK_RDWR) && s->info.read_only)
        return vireo_fail(error, VIREO_ERROR_PERMISSION, "the NBD server has '%s' read-only", n->filename);
    return true;
}

/* ---- I/O ---- */

static int nbd_preadv(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov)
{
    struct nbd_state *s = n->state;
    struct nbd_call call = { .op = NBD_CALL_READ, .offset = offset, .bytes = bytes };
    if (niov == 1) {
        call.buffer = iov[0].iov_base;
        return nbd_link_call(s->link, &call);
    }
    /* calloc: what a server leaves out must not be old memory of ours */
    g_autofree void *buffer = g_try_malloc0(bytes);
    call.buffer = buffer;
    int err = buffer ? nbd_link_call(s->link, &call) : ENOMEM;
    struct iov_cursor c = { iov, niov, 0 };
    if (!err)
        iov_cursor_write(&c, buffer, bytes);
    return err;
}

static int nbd_pwritev(struct block_node *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, int niov, unsigned flags)
{
    struct nbd_state *s = n->state;
    struct nbd_call call = { .op = NBD_CALL_WRITE, .offset = offset, .bytes = bytes };
    bool fua = (flags & BLOCK_FUA) && s->info.flush;
    if (fua && s->info.fua)
        call.flags = LIBNBD_CMD_FLAG_FUA;
    g_autofree void *buffer = NULL;
    if (niov == 1) {
        call.buffer = iov[0].iov_base;
    } else {
        buffer = call.buffer = g_try_malloc(bytes);
        if (!buffer)
            return ENOMEM;
        struct iov_cursor c = { iov, niov, 0 };
        iov_cursor_read(&c, buffer, bytes);
    }
    int err = nbd_link_call(s->link, &call);
    return err || !fua || s->info.fua ? err : nbd_link_call(s->link, &(struct nbd_call) { .op = NBD_CALL_FLUSH });
}

static int nbd_write_zeroes(struct block_node *n, uint64_t offset, uint64_t bytes, unsigned flags)
{
    struct nbd_state *s = n->state;
    if (!s->info.zero || ((flags & BLOCK_NO_FALLBACK) && !s->info.fast_zero))
        return EOPNOTSUPP;
    bool fua = (flags & BLOCK_FUA) && s->info.flush;
    struct nbd_call call = { .op = NBD_CALL_ZERO, .offset = offset, .bytes = bytes };
    call.flags = (fua && s->info.fua ? LIBNBD_CMD_FLAG_FUA : 0) | (flags & BLOCK_MAY_UNMAP ? 0 : LIBNBD_CMD_FLAG_NO_HOLE) |
                 (flags & BLOCK_NO_FALLBACK ? LIBNBD_CMD_FLAG_FAST_ZERO : 0);
    int err = nbd_link_call(s->link, &call);
    return err || !fua || s->info.fua ? err : nbd_link_call(s->link, &(struct nbd_call) { .op = NBD_CALL_FLUSH });
}

static int nbd_discard(struct block_node *n, uint64_t offset, uint64_t bytes)
{
    struct nbd_state *s = n->state;
    return s->info.trim ? nbd_link_call(s->link, &(struct nbd_call) { .op = NBD_CALL_TRIM, .offset = offset, .bytes = bytes }) : EOPNOTSUPP;
}

static int nbd_flush_node(struct block_node *n)
{
    struct nbd_state *s = n->state;
    return s->info.flush ? nbd_link_call(s->link, &(struct nbd_call) { .op = NBD_CALL_FLUSH }) : 0;
}

/* base:allocation: bit 0 hole, bit 1 reads as zeroes. Another context's bit 0 is shown in its place, as in QEMU. */
static int nbd_status(struct block_node *n, uint64_t offset, uint64_t bytes, struct block_status *ret)
{
    struct nbd_state *s = n->state;
    ret->flags = BLOCK_STATUS_DATA | BLOCK_STATUS_ALLOCATED | BLOCK_STATUS_MAPPED;
    ret->bytes = bytes;
    ret->map = offset;
    ret->file = n;
    if (!s->info.status)
        return 0;
    uint64_t start = offset / s->info.min_block * s->info.min_block, end = MIN(offset + bytes, start + MAX_RANGE);
    end = MIN((end + s->info.min_block - 1) / s->info.min_block * s->info.min_block, n->size);
    struct nbd_call call = { .op = NBD_CALL_STATUS, .offset = start, .bytes = end - start, .flags = LIBNBD_CMD_FLAG_REQ_ONE };
    int err = nbd_link_call(s->link, &call);
    if (err)
        return err;
    if (call.extent <= offset - start) /* an answer without the extent, or one of no use */
        return EIO;
    ret->bytes = MIN(call.extent - (offset - start), n->size - offset);
    ret->flags = BLOCK_STATUS_ALLOCATED | BLOCK_STATUS_MAPPED | (call.extent_flags & 1 ? 0 : BLOCK_STATUS_DATA) | (call.extent_flags & 2 ? BLOCK_STATUS_ZERO : 0);
    return 0;
}

static bool nbd_truncate(struct block_node *n, uint64_t size, bool exact, const char *prealloc, GError **error)
{
    if (size == n->size || (!exact && size < n->size))
        return true;
    return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Cannot resize NBD nodes: '%s' has %" PRIu64 " bytes; resize it at the server", n->filename, n->size);
}

static int nbd_get_info(struct block_node *n, struct block_info *ret)
{
    return 0;
}

static uint64_t nbd_allocated(struct block_node *n)
{
    return 0; /* not known */
}

static const char *const prefixes[] = { "nbd:", "nbd://", "nbd+tcp://", "nbd+unix://", "nbds://", "nbds+unix://", NULL };

const struct block_driver block_nbd = {
    .name = "nbd",
    .help = "an export of an NBD server",
    .kind = BLOCK_PROTOCOL,
    .state_size = sizeof(struct nbd_state),
    .keys = keys,
    .prefixes = prefixes,
    .parse_filename = parse_filename,
    .open = nbd_open,
    .close = nbd_close_node,
    .reopen = nbd_reopen,
    .preadv = nbd_preadv,
    .pwritev = nbd_pwritev,
    .write_zeroes = nbd_write_zeroes,
    .discard = nbd_discard,
    .flush = nbd_flush_node,
    .supports_fua = true,
    .status = nbd_status,
    .truncate = nbd_truncate,
    .get_info = nbd_get_info,
    .allocated = nbd_allocated,
};
