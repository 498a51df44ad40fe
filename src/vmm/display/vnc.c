/* SPDX-License-Identifier: GPL-2.0-or-later */
/* -vnc: its option, its socket, the module that serves on it, and what QMP tells and asks. Main thread, but for client_event. */
#include "vmm/display/vnc.h"

#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/crypto.h"
#include "base/error.h"
#include "base/json.h"
#include "base/keyval.h"
#include "base/leftover.h"
#include "base/sandbox.h"
#include "base/secret.h"
#include "vmm/core/machine.h"

#define MODULE "vireo-vnc.so"
enum { BASE_PORT = 5900, BACKLOG = 8 };

struct vnc {
    struct machine *machine;
    const struct vnc_module *module;
    struct vnc_server *server;
    char *host, *service;
    const char *family;
    bool password, listens;
    struct leftover *file; /* of a UNIX socket */
    GMutex lock;           /* clients; taken after no other */
    GPtrArray *clients;    /* of struct peer */
};

struct peer { const void *id; char *host, *service; };

static void peer_free(gpointer opaque)
{
    struct peer *p = opaque;
    g_free(p->host);
    g_free(p->service);
    g_free(p);
}

/* ---- what it is told as ---- */

static const char *auth_name(const struct vnc *v) { return v->password ? "vnc" : "none"; }

static struct json_object *basic_info(const char *host, const char *service, const char *family)
{
    return json_make("host", json_object_new_string(host), "service", json_object_new_string(service), "family", json_object_new_string(family), "websocket",
                     json_object_new_boolean(false), NULL);
}

static struct json_object *server_info(const struct vnc *v)
{
    struct json_object *o = basic_info(v->host, v->service, v->family);
    json_object_object_add(o, "auth", json_object_new_string(auth_name(v)));
    return o;
}

static struct json_object *client_info(const struct vnc *v, const char *host, const char *service)
{
    return basic_info(host, service, !strcmp(v->family, "unix") || !*host ? "unix" : strchr(host, ':') ? "ipv6" : "ipv4");
}

static struct json_object *clients_info(struct vnc *v)
{
    struct json_object *list = json_object_new_array();
    g_mutex_lock(&v->lock);
    for (guint i = 0; i < v->clients->len; i++) {
        const struct peer *p = v->clients->pdata[i];
        json_object_array_add(list, client_info(v, p->host, p->service));
    }
    g_mutex_unlock(&v->lock);
    return list;
}

struct json_object *vnc_query(struct vnc *v)
{
    if (!v || !v->listens)
        return json_make("enabled", json_object_new_boolean(false), NULL);
    return json_make("enabled", json_object_new_boolean(true), "host", json_object_new_string(v->host), "service", json_object_new_string(v->service), "family",
                     json_object_new_string(v->family), "auth", json_object_new_string(auth_name(v)), "clients", clients_info(v), NULL);
}

struct json_object *vnc_query_servers(struct vnc *v)
{
    struct json_object *list = json_object_new_array(), *servers = json_object_new_array();
    if (!v) {
        json_object_put(servers);
        return list;
    }
    if (v->listens)
        json_object_array_add(servers, server_info(v));
    json_object_array_add(list, json_make("id", json_object_new_string("default"), "server", servers, "clients", clients_info(v), "auth",
                                          json_object_new_string(auth_name(v)), NULL));
    return list;
}

/* The module's thread. */
static void client_event(void *opaque, enum vnc_event event, const void *id, const char *host, const char *service)
{
    struct vnc *v = opaque;
    g_mutex_lock(&v->lock);
    if (event == VNC_CONNECTED) {
        struct peer *p = g_new(struct peer, 1);
        *p = (struct peer){ id, g_strdup(host), g_strdup(service) };
        g_ptr_array_add(v->clients, p);
    }
    for (guint i = 0; event == VNC_DISCONNECTED && i < v->clients->len; i++)
        if (((struct peer *)v->clients->pdata[i])->id == id)
            g_ptr_array_remove_index(v->clients, i--);
    g_mutex_unlock(&v->lock);
    struct json_object *data = json_make("server", server_info(v), "client", client_info(v, host, service), NULL);
    switch (event) {
    case VNC_CONNECTED: machine_post_event(v->machine, "VNC_CONNECTED", data); break;
    case VNC_INITIALIZED: machine_post_event(v->machine, "VNC_INITIALIZED", data); break;
    case VNC_DISCONNECTED: machine_post_event(v->machine, "VNC_DISCONNECTED", data); break;
    }
}

bool vnc_set_password(struct vnc *v, const char *password, const int64_t *expires)
{
    if (!v || (password && !v->password))
        return false;
    v->module->set_password(v->server, password, expires);
    return true;
}

bool vnc_add_client(struct vnc *v, int fd, bool skip_password)
{
    if (v)
        v->module->add_client(v->server, fd, skip_password);
    return v != NULL;
}

/* ---- the socket ---- */

static int listen_on(const struct sockaddr *a, socklen_t size, int *err)
{
    int one = 1, zero = 0, fd = socket(a->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && a->sa_family != AF_UNIX)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (fd >= 0 && a->sa_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
    if (fd >= 0 && !bind(fd, a, size) && !listen(fd, BACKLOG))
        return fd;
    *err = errno;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* A socket that nobody listens on any more is in the way. */
static bool clear_stale(const struct sockaddr_un *a, GError **error)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int err = fd >= 0 && connect(fd, (const struct sockaddr *)a, sizeof(*a)) ? errno : 0;
    if (fd >= 0)
        close(fd);
    if (!err)
        return vireo_fail(error, VIREO_ERROR_FAILED, "another program listens on '%s'", a->sun_path);
    if (err == ECONNREFUSED)
        unlink(a->sun_path);
    return true;
}

static int listen_unix(struct vnc *v, const char *path, GError **error)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int err = 0;
    if (!*path || g_strlcpy(a.sun_path, path, sizeof(a.sun_path)) >= sizeof(a.sun_path)) {
        vireo_fail(error, VIREO_ERROR_INVALID, "a path of 1 to %zu bytes is needed", sizeof(a.sun_path) - 1);
        return -1;
    }
    if (!clear_stale(&a, error))
        return -1;
    int fd = listen_on((struct sockaddr *)&a, sizeof(a), &err);
    if (fd < 0) {
        vireo_fail_errno(error, err, "cannot listen on '%s'", path);
        return -1;
    }
    sandbox_need(SANDBOX_UNLINK);
    v->file = leftover_keep(path);
    v->host = g_strdup("");
    v->service = g_strdup(path);
    v->family = "unix";
    return fd;
}

/* Viewers come by vnc_add_client() alone. */
static void listen_nowhere(struct vnc *v)
{
    v->host = g_strdup("");
    v->service = g_strdup("");
    v->family = "unix";
}

/* Where the socket is bound: numbers. */
static void note_address(struct vnc *v, int fd)
{
    char host[NI_MAXHOST] = "", service[NI_MAXSERV] = "";
    struct sockaddr_storage a;
    socklen_t size = sizeof(a);
    if (!getsockname(fd, (struct sockaddr *)&a, &size))
        getnameinfo((struct sockaddr *)&a, size, host, sizeof(host), service, sizeof(service), NI_NUMERICHOST | NI_NUMERICSERV);
    v->host = g_strdup(host);
    v->service = g_strdup(service);
    v->family = a.ss_family == AF_INET6 ? "ipv6" : "ipv4";
}

static int try_port(const char *host, unsigned port, GError **error)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV }, *all = NULL;
    g_autofree char *service = g_strdup_printf("%u", port);
    int err = 0, fd = -1, what = getaddrinfo(*host ? host : NULL, service, &hints, &all);
    if (what) {
        vireo_fail(error, VIREO_ERROR_NOT_FOUND, "address resolution failed for %s: %s", host, gai_strerror(what));
        return -1;
    }
    for (int family = 0; family < 2 && fd < 0; family++) /* IPv6 first where no host is given: its socket takes both */
        for (struct addrinfo *a = all; a && fd < 0; a = a->ai_next)
            if ((a->ai_family == AF_INET6) == (!*host == !family))
                fd = listen_on(a->ai_addr, a->ai_addrlen, &err);
    freeaddrinfo(all);
    if (fd < 0)
        vireo_fail_errno(error, err, "cannot listen on %s:%u", *host ? host : "any address", port);
    return fd;
}

static int listen_tcp(struct vnc *v, const char *text, uint64_t to, GError **error)
{
    const char *colon = strrchr(text, ':');
    guint64 number;
    if (!colon || !g_ascii_string_to_unsigned(colon + 1, 10, 0, 65535 - BASE_PORT, &number, NULL)) {
        vireo_fail(error, VIREO_ERROR_INVALID, "the address is HOST:NUMBER, unix:PATH or none; the port is %d + NUMBER", BASE_PORT);
        return -1;
    }
    g_autofree char *host = *text == '[' && colon > text + 1 && colon[-1] == ']' ? g_strndup(text + 1, (gsize)(colon - text - 2)) : g_strndup(text, (gsize)(colon - text));
    int fd = -1;
    for (uint64_t n = number; fd < 0 && n <= MAX(to, number); n++) {
        g_clear_error(error);
        fd = try_port(host, BASE_PORT + (unsigned)n, error);
    }
    if (fd >= 0)
        note_address(v, fd);
    return fd;
}

/* ---- the module ---- */

static const struct vnc_module *load_module(GError **error)
{
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    self[MAX(n, 0)] = 0;
    g_autofree char *folder = g_path_get_dirname(self), *beside = g_build_filename(folder, MODULE, NULL);
    const char *path = !access(beside, F_OK) ? beside : VIREO_MODULE_DIR "/" MODULE;
    void *h = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const struct vnc_module *m = h ? dlsym(h, "vireo_vnc_module") : NULL;
    if (!m) {
        vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "the VNC server is a module of its own, which cannot be loaded (it needs LibVNCServer; Debian: libvncserver1): %s",
                   dlerror());
        return NULL;
    }
    if (m->version != VNC_MODULE_VERSION) {
        vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "'%s' is of another version of this program", path);
        return NULL;
    }
    return m;
}

static GThread *vnc_thread(const char *name, GThreadFunc fn, void *opaque) { return sandbox_thread_new(SANDBOX_VNC, name, fn, opaque); }

/* ---- the option ---- */

struct vnc_options { char *address, *password_secret; uint64_t to; bool password; int share; };
static const char *const shares[] = { "allow-exclusive", "ignore", NULL };
#define O(member) offsetof(struct vnc_options, member)
static const char *const off[] = { "off", NULL };
static const struct keyval_key option_keys[] = {
    { "vnc", KV_STRING, O(address), "HOST:NUMBER, unix:PATH or none" },
    { "to", KV_UINT, O(to), "the greatest number to try", NULL, 0, 65535 - BASE_PORT },
    { "password", KV_BOOL, O(password), "viewers need a password, which QMP sets" },
    { "password-secret", KV_STRING, O(password_secret), "the password is this -object secret" },
    { "share", KV_ENUM, O(share), "allow-exclusive: a viewer may throw the others out; ignore: it may not", shares },
    { "audiodev", KV_IGNORED, 0, "accepted: no sound goes over VNC" },
    { "lossy", KV_IGNORED, 0, "accepted" },
    { "non-adaptive", KV_IGNORED, 0, "accepted" },
    { "key-delay-ms", KV_IGNORED, 0, "accepted" },
    { "lock-key-sync", KV_IGNORED, 0, "accepted" },
    { "power-control", KV_ONLY, 0, "viewers cannot switch the machine off", off },
    { "websocket", KV_REFUSED, 0, "there is no port of its own for WebSocket; put a proxy (websockify) in front" },
    { "tls-creds", KV_REFUSED, 0, "TLS is not there; listen on 127.0.0.1 or a UNIX socket and tunnel it (ssh -L)" },
    { "tls-authz", KV_REFUSED, 0, "TLS is not there" },
    { "x509", KV_REFUSED, 0, "TLS is not there" },
    { "sasl", KV_REFUSED, 0, "SASL is not there; use password=on" },
    { "sasl-authz", KV_REFUSED, 0, "SASL is not there" },
    { "reverse", KV_REFUSED, 0, "the server does not connect to viewers" },
    { "display", KV_REFUSED, 0, "a machine has one head" },
    { "head", KV_REFUSED, 0, "a machine has one head" },
    { NULL }
};

static bool initial_password(struct vnc *v, const struct vnc_options *o, GError **error)
{
    if (!o->password_secret)
        return true;
    g_autoptr(GBytes) bytes = secrets_find(v->machine->secrets, o->password_secret, error);
    gsize size;
    const char *data = bytes ? g_bytes_get_data(bytes, &size) : NULL;
    if (!bytes)
        return false;
    g_autofree char *text = g_strndup(data, size);
    return vnc_set_password(v, text, NULL);
}

static bool start(struct vnc *v, const struct vnc_options *o, GError **error)
{
    struct display *d = display_of(v->machine);
    const struct vnc_host host = {
        d, display_add_listener, display_remove_listener, display_lock, display_unlock, display_refresh, display_key, display_pointer, display_motion,
        display_has_absolute_pointer, display_code_of_keysym, display_code_of_number, vnc_thread, client_event, v,
        v->machine->config->name ? v->machine->config->name : "Vireo"
    };
    v->password = o->password || o->password_secret;
    const struct vnc_config config = { v->password, o->share == 1 };
    crypto_init(); /* the library computes with libgcrypt, and leaves that to the program */
    v->module = load_module(error);
    if (!v->module)
        return false;
    int fd = -1;
    v->listens = strcmp(o->address, "none") != 0;
    if (!v->listens)
        listen_nowhere(v);
    else if ((fd = g_str_has_prefix(o->address, "unix:") ? listen_unix(v, o->address + strlen("unix:"), error) : listen_tcp(v, o->address, o->to, error)) < 0)
        return false;
    v->server = v->module->start(&host, &config, fd);
    return initial_password(v, o, error);
}

bool display_start_vnc(struct machine *m, const char *argument, GError **error)
{
    struct vnc_options o = { 0 };
    keyval_auto *kv = keyval_parse(argument, "vnc", error);
    struct vnc *v = g_new0(struct vnc, 1);
    v->machine = m;
    v->clients = g_ptr_array_new_with_free_func(peer_free);
    g_mutex_init(&v->lock);
    bool ok = kv && keyval_load(kv, option_keys, &o, error);
    if (ok && !o.address)
        ok = vireo_fail(error, VIREO_ERROR_INVALID, "an address is needed: HOST:NUMBER, unix:PATH or none");
    ok = ok && start(v, &o, error);
    g_free(o.address);
    g_free(o.password_secret);
    if (ok)
        display_set_vnc(display_of(m), v);
    else
        vnc_destroy(v);
    return ok;
}

void vnc_destroy(struct vnc *v)
{
    if (!v)
        return;
    if (v->server)
        v->module->stop(v->server);
    leftover_remove(v->file);
    g_ptr_array_unref(v->clients);
    g_mutex_clear(&v->lock);
    g_free(v->host);
    g_free(v->service);
    g_free(v);
}
