/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VNC server (RFB 3.8, RFC 6143), by LibVNCServer, on a thread of its own with a main loop of its own: it sleeps until a client speaks
 * or the picture changes while somebody looks. A slow client makes the other viewers of this machine wait; never the machine.
 *
 * Beside the library's own extensions two of QEMU's are there: keys as scan codes (so that the person's keyboard layout does not matter),
 * and relative motion for guests without a pointer at absolute places.
 */
#include <glib-unix.h>
#include <linux/input-event-codes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <rfb/rfb.h>
#include <string.h>
#include <sys/random.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/display/vnc.h"

enum { FRAME_MS = 33, IDLE_FRAME_MS = 250, CLIENT_WAIT_MS = 2000, MAX_CLIENTS = 32, LOGIN_S = 60, TILE = 64, TILE_ROWS = 16 };
enum { ENCODING_POINTER = -257, ENCODING_KEYS = -258 }; /* QEMU's pseudo-encodings */

struct vnc_server {
    struct vnc_host host;
    char *name;
    rfbScreenInfoPtr screen;
    GMainContext *context;
    GMainLoop *loop;
    GThread *thread;
    uint32_t *pixels; /* the copy that is sent */
    int listen_fd;
    char *password;
    int64_t expires;  /* seconds since the epoch; 0: never */
    unsigned frame_ms;
    bool skip_password; /* of the client that is just coming */

    /* under the display's lock; partly noted by listeners */
    GPtrArray *clients; /* of struct client */
    bool resized, dirty, cursor, scheduled;
    unsigned x0, y0, x1, y1;
};

struct client {
    struct vnc_server *server;
    rfbClientPtr rfb;
    GSource *source;
    int fd;
    char *host, *service;
    int64_t since;     /* microseconds; for those that do not say who they are */
    bool announced;    /* as initialized */
    bool relative, told_absolute; /* it can send motions; what it was told last */
    uint8_t down[(KEY_MAX + 8) / 8]; /* keys that it holds */
};

/* ---- what changed; display's lock held, any thread ---- */

static gboolean frame(gpointer opaque);

static void schedule(struct vnc_server *s)
{
    if (s->scheduled || !s->clients->len)
        return;
    s->scheduled = true;
    GSource *t = g_timeout_source_new(s->dirty || s->resized ? FRAME_MS : s->frame_ms);
    g_source_set_callback(t, frame, s, NULL);
    g_source_attach(t, s->context);
    g_source_unref(t);
}

static void on_resized(void *opaque)
{
    struct vnc_server *s = opaque;
    s->resized = true;
    schedule(s);
}

static void on_changed(void *opaque, unsigned x, unsigned y, unsigned width, unsigned height)
{
    struct vnc_server *s = opaque;
    s->x0 = s->dirty ? MIN(s->x0, x) : x;
    s->y0 = s->dirty ? MIN(s->y0, y) : y;
    s->x1 = s->dirty ? MAX(s->x1, x + width) : x + width;
    s->y1 = s->dirty ? MAX(s->y1, y + height) : y + height;
    s->dirty = true;
    schedule(s);
}

static void on_cursor(void *opaque)
{
    struct vnc_server *s = opaque;
    s->cursor = true;
    schedule(s);
}

/* ---- the server's thread ---- */

/* 0x00RRGGBB */
static void set_format(rfbScreenInfoPtr r)
{
    r->serverFormat.redShift = 16;
    r->serverFormat.greenShift = 8;
    r->serverFormat.blueShift = 0;
}

/* The viewer sees a small dark picture before the guest shows anything. */
static void take_size(struct vnc_server *s, const struct display_picture *p)
{
    unsigned width = p->width ? p->width : 640, height = p->height ? p->height : 480;
    uint32_t *old = s->pixels;
    s->pixels = g_new0(uint32_t, (gsize)width * height);
    if (p->pixels)
        memcpy(s->pixels, p->pixels, (gsize)width * height * 4);
    rfbNewFramebuffer(s->screen, (char *)s->pixels, (int)width, (int)height, 8, 3, 4);
    set_format(s->screen); /* which the library has changed, for its clients too */
    for (guint i = 0; i < s->clients->len; i++)
        rfbSetTranslateFunction(((struct client *)s->clients->pdata[i])->rfb);
    g_free(old);
    s->resized = s->dirty = false;
}

/* Copies what differs of one tile, and marks it. */
static bool take_tile(struct vnc_server *s, const struct display_picture *p, unsigned x, unsigned y, unsigned width, unsigned height)
{
    bool differs = false;
    for (unsigned row = y; row < y + height; row++) {
        uint32_t *to = s->pixels + (gsize)row * p->width + x;
        const uint32_t *from = p->pixels + (gsize)row * p->width + x;
        if (!memcmp(to, from, (gsize)width * 4))
            continue;
        memcpy(to, from, (gsize)width * 4);
        differs = true;
    }
    if (differs)
        rfbMarkRectAsModified(s->screen, (int)x, (int)y, (int)(x + width), (int)(y + height));
    return differs;
}

/* Cards often draw much that is as before. */
static bool take_dirty(struct vnc_server *s, const struct display_picture *p)
{
    unsigned x1 = MIN(s->x1, p->width), y1 = MIN(s->y1, p->height);
    bool differs = false;
    for (unsigned y = s->y0; y < y1; y += TILE_ROWS)
        for (unsigned x = s->x0; x < x1; x += TILE)
            differs |= take_tile(s, p, x, y, MIN(TILE, x1 - x), MIN(TILE_ROWS, y1 - y));
    s->dirty = false;
    return differs;
}

static void take_cursor(struct vnc_server *s, const struct display_picture *p)
{
    s->cursor = false;
    if (!p->cursor) {
        rfbSetCursor(s->screen, NULL);
        return;
    }
    gsize n = (gsize)p->cursor_width * p->cursor_height;
    rfbCursorPtr c = calloc(1, sizeof(*c)); /* freed by the library */
    c->cleanup = c->cleanupRichSource = c->cleanupMask = TRUE;
    c->width = (unsigned short)p->cursor_width;
    c->height = (unsigned short)p->cursor_height;
    c->xhot = (unsigned short)p->hot_x;
    c->yhot = (unsigned short)p->hot_y;
    c->richSource = malloc(n * 4);
    memcpy(c->richSource, p->cursor, n * 4);
    unsigned row = (p->cursor_width + 7) / 8;
    c->mask = calloc(row, p->cursor_height);
    for (gsize i = 0; i < n; i++)
        if (p->cursor[i] >> 31) /* at least half covered */
            c->mask[i / p->cursor_width * row + i % p->cursor_width / 8] |= (unsigned char)(0x80 >> i % p->cursor_width % 8);
    rfbSetCursor(s->screen, c);
}

/* True: something is new. */
static bool update(struct vnc_server *s)
{
    const struct display_picture *p = s->host.lock(s->host.display);
    bool changed = s->resized || s->cursor;
    if (s->resized)
        take_size(s, p);
    if (s->dirty)
        changed |= take_dirty(s, p);
    if (s->cursor)
        take_cursor(s, p);
    s->host.unlock(s->host.display);
    return changed;
}

/* ---- QEMU's extensions ---- */

/* A picture of one rectangle that holds nothing but a pseudo-encoding, as an answer to the client's offer. */
static void tell(rfbClientPtr cl, int encoding, unsigned x)
{
    struct { uint8_t type, pad; uint16_t n, x, y, width, height; uint32_t encoding; } __attribute__((packed)) message = {
        rfbFramebufferUpdate, 0, htons(1), htons((uint16_t)x), 0, htons((uint16_t)cl->screen->width), htons((uint16_t)cl->screen->height), htonl((uint32_t)encoding)
    };
    if (rfbWriteExact(cl, (const char *)&message, sizeof(message)) < 0)
        rfbCloseClient(cl);
}

static void tell_pointer(struct client *c, bool absolute)
{
    c->told_absolute = absolute;
    tell(c->rfb, ENCODING_POINTER, absolute);
}

static rfbBool enable_encoding(rfbClientPtr cl, void **data, int encoding)
{
    struct client *c = cl->clientData;
    if (!c || (encoding != ENCODING_KEYS && encoding != ENCODING_POINTER))
        return FALSE;
    if (encoding == ENCODING_KEYS) {
        tell(cl, encoding, 0);
    } else {
        c->relative = true;
        tell_pointer(c, c->server->host.absolute(c->server->host.display));
    }
    return TRUE;
}

static void press(struct client *c, unsigned code, bool down)
{
    struct vnc_server *s = c->server;
    if (!code || code > KEY_MAX)
        return;
    c->down[code / 8] = (uint8_t)((c->down[code / 8] & ~(1u << code % 8)) | (unsigned)down << code % 8);
    s->host.key(s->host.display, code, down);
}

/* Message 255, 0: a key by its scan code. */
static rfbBool handle_message(rfbClientPtr cl, void *data, const rfbClientToServerMsg *message)
{
    struct { uint8_t kind; uint16_t down; uint32_t keysym, number; } __attribute__((packed)) m;
    if (message->type != 255)
        return FALSE;
    if (rfbReadExact(cl, (char *)&m, sizeof(m)) <= 0 || m.kind != 0) {
        rfbCloseClient(cl);
        return TRUE;
    }
    if (!cl->viewOnly)
        press(cl->clientData, ((struct client *)cl->clientData)->server->host.code_of_number(ntohl(m.number)), m.down != 0);
    return TRUE;
}

static int encodings[] = { ENCODING_KEYS, ENCODING_POINTER, 0 };
static rfbProtocolExtension extension = { .pseudoEncodings = encodings, .enablePseudoEncoding = enable_encoding, .handleMessage = handle_message };

/* ---- serving ---- */

static void look_after(struct vnc_server *s)
{
    bool absolute = s->host.absolute(s->host.display);
    int64_t now = g_get_monotonic_time();
    for (guint i = 0; i < s->clients->len; i++) { /* only this thread changes the list */
        struct client *c = s->clients->pdata[i];
        bool normal = c->rfb->state == RFB_NORMAL;
        if (normal && !c->announced) {
            c->announced = true;
            s->host.client(s->host.opaque, VNC_INITIALIZED, c, c->host, c->service);
        }
        if (normal && c->relative && c->told_absolute != absolute)
            tell_pointer(c, absolute);
        if (!normal && now - c->since > LOGIN_S * G_USEC_PER_SEC)
            shutdown(c->fd, SHUT_RDWR);
    }
}

static void serve(struct vnc_server *s)
{
    rfbProcessEvents(s->screen, 0);
    look_after(s);
}

/* Whoever has to be asked for changes is asked again, less often where nothing happens. */
static gboolean frame(gpointer opaque)
{
    struct vnc_server *s = opaque;
    bool polled = s->host.refresh(s->host.display);
    bool changed = update(s);
    s->frame_ms = changed ? FRAME_MS : MIN(s->frame_ms * 2, (unsigned)IDLE_FRAME_MS);
    s->host.lock(s->host.display);
    s->scheduled = false;
    if (polled)
        schedule(s);
    s->host.unlock(s->host.display);
    serve(s);
    return G_SOURCE_REMOVE;
}

/* ---- clients ---- */

static gboolean client_ready(gint fd, GIOCondition what, gpointer opaque)
{
    struct vnc_server *s = ((struct client *)opaque)->server;
    s->frame_ms = FRAME_MS; /* what a person does shows soon */
    serve(s);               /* may free the client and this source */
    return G_SOURCE_CONTINUE;
}

static gboolean login_check(gpointer opaque)
{
    serve(opaque);
    return G_SOURCE_REMOVE;
}

static void client_gone(rfbClientPtr cl)
{
    struct client *c = cl->clientData;
    struct vnc_server *s = c->server;
    for (unsigned code = 1; code <= KEY_MAX; code++)
        if (c->down[code / 8] >> code % 8 & 1)
            press(c, code, false);
    g_source_destroy(c->source);
    g_source_unref(c->source);
    s->host.lock(s->host.display);
    g_ptr_array_remove(s->clients, c);
    s->host.unlock(s->host.display);
    s->host.client(s->host.opaque, VNC_DISCONNECTED, c, c->host, c->service);
    g_free(c->host);
    g_free(c->service);
    g_free(c);
}

static void note_peer(struct client *c, int sock)
{
    char host[NI_MAXHOST] = "", service[NI_MAXSERV] = "";
    struct sockaddr_storage a;
    socklen_t size = sizeof(a);
    if (getpeername(sock, (struct sockaddr *)&a, &size) == 0 && a.ss_family != AF_UNIX)
        getnameinfo((struct sockaddr *)&a, size, host, sizeof(host), service, sizeof(service), NI_NUMERICHOST | NI_NUMERICSERV);
    c->host = g_strdup(g_str_has_prefix(host, "::ffff:") ? host + strlen("::ffff:") : host);
    c->service = g_strdup(service);
}

static void add_timer(struct vnc_server *s, guint seconds)
{
    GSource *t = g_timeout_source_new_seconds(seconds);
    g_source_set_callback(t, login_check, s, NULL);
    g_source_attach(t, s->context);
    g_source_unref(t);
}

static enum rfbNewClientAction client_came(rfbClientPtr cl)
{
    struct vnc_server *s = cl->screen->screenData;
    struct client *c = g_new0(struct client, 1);
    unsigned seed = 0;
    *c = (struct client){ .server = s, .rfb = cl, .fd = cl->sock, .since = g_get_monotonic_time() };
    note_peer(c, cl->sock);
    c->source = g_unix_fd_source_new(cl->sock, G_IO_IN | G_IO_HUP | G_IO_ERR);
    g_source_set_callback(c->source, G_SOURCE_FUNC(client_ready), c, NULL);
    g_source_attach(c->source, s->context);
    cl->clientData = c;
    cl->clientGoneHook = client_gone;
    cl->reverseConnection = s->skip_password; /* the library asks such a client for nothing */
    if (getrandom(&seed, sizeof(seed), 0) == sizeof(seed))
        srandom(seed); /* of the challenge */
    s->host.lock(s->host.display);
    g_ptr_array_add(s->clients, c);
    s->resized = s->cursor = true;
    s->host.unlock(s->host.display);
    s->host.refresh(s->host.display);
    update(s);
    s->host.lock(s->host.display);
    schedule(s);
    s->host.unlock(s->host.display);
    s->host.client(s->host.opaque, VNC_CONNECTED, c, c->host, c->service);
    add_timer(s, LOGIN_S + 1);
    return RFB_CLIENT_ACCEPT;
}

/* Takes the socket over. The library keeps sockets in sets of FD_SETSIZE. */
static void take_client(struct vnc_server *s, int sock, bool skip_password)
{
    int one = 1;
    if (s->clients->len >= MAX_CLIENTS || sock >= FD_SETSIZE) {
        close(sock);
        return;
    }
    setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    s->skip_password = skip_password;
    rfbNewClient(s->screen, sock);
    s->skip_password = false;
    serve(s);
}

/* seccomp(vnc, main): accept4 setsockopt getpeername getsockname fcntl(F_GETFL F_SETFL) select pselect6 sendto recvfrom shutdown uname */
static gboolean listener_ready(gint fd, GIOCondition what, gpointer opaque)
{
    int sock = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    if (sock >= 0)
        take_client(opaque, sock, false);
    return G_SOURCE_CONTINUE;
}

/* ---- input ---- */

static void on_key(rfbBool down, rfbKeySym keysym, rfbClientPtr cl)
{
    struct client *c = cl->clientData;
    press(c, c->server->host.code_of_keysym((uint32_t)keysym), down);
}

static void on_pointer(int mask, int x, int y, rfbClientPtr cl)
{
    struct client *c = cl->clientData;
    struct vnc_server *s = c->server;
    unsigned width = (unsigned)MAX(cl->screen->width - 1, 1), height = (unsigned)MAX(cl->screen->height - 1, 1), buttons = (unsigned)mask & 31;
    if (c->relative && !c->told_absolute)
        s->host.motion(s->host.display, x - 0x7fff, y - 0x7fff, buttons);
    else
        s->host.pointer(s->host.display, (unsigned)MAX(x, 0) * DISPLAY_POINTER_MAX / width, (unsigned)MAX(y, 0) * DISPLAY_POINTER_MAX / height, buttons);
}

/* VNC authentication (RFC 6143, 7.2.2): DES of the challenge by the password. */
static rfbBool check_password(rfbClientPtr cl, const char *response, int size)
{
    struct vnc_server *s = cl->screen->screenData;
    uint8_t expected[CHALLENGESIZE], differs = 0;
    if (!s->password || size != CHALLENGESIZE || (s->expires && g_get_real_time() / G_USEC_PER_SEC >= s->expires))
        return FALSE;
    memcpy(expected, cl->authChallenge, CHALLENGESIZE);
    rfbEncryptBytes(expected, s->password);
    for (unsigned i = 0; i < CHALLENGESIZE; i++)
        differs |= expected[i] ^ (uint8_t)response[i];
    return !differs;
}

static void quiet(const char *format, ...) { }

/* ---- life ---- */

static gpointer run(gpointer opaque)
{
    struct vnc_server *s = opaque;
    g_main_context_push_thread_default(s->context);
    g_main_loop_run(s->loop);
    g_main_context_pop_thread_default(s->context);
    return NULL;
}

static void make_screen(struct vnc_server *s, const struct vnc_config *config)
{
    rfbScreenInfoPtr r = s->screen = rfbGetScreen(NULL, NULL, 640, 480, 8, 3, 4);
    r->frameBuffer = (char *)s->pixels;
    r->desktopName = s->name;
    r->screenData = s;
    r->alwaysShared = config->share_ignore;
    set_format(r);
    r->newClientHook = client_came;
    r->kbdAddEvent = on_key;
    r->ptrAddEvent = on_pointer;
    r->autoPort = FALSE;
    r->port = r->ipv6port = 0; /* the socket is ours */
    r->deferUpdateTime = 0;
    if (config->password) {
        r->authPasswdData = s;
        r->passwordCheck = check_password;
    }
    rfbSetCursor(r, NULL);
}

static struct vnc_server *start(const struct vnc_host *host, const struct vnc_config *config, int listen_fd)
{
    struct vnc_server *s = g_new0(struct vnc_server, 1);
    uint8_t first[CHALLENGESIZE];
    s->host = *host;
    s->name = g_strdup(host->name);
    s->listen_fd = listen_fd;
    s->frame_ms = FRAME_MS;
    s->clients = g_ptr_array_new();
    s->context = g_main_context_new();
    s->loop = g_main_loop_new(s->context, FALSE);
    s->pixels = g_new0(uint32_t, 640 * 480);
    rfbLogEnable(0);
    rfbLog = rfbErr = quiet;
    rfbMaxClientWait = CLIENT_WAIT_MS;
    rfbRandomBytes(first); /* the library's own seed, the time, is used up: client_came gives better ones */
    rfbEncryptBytes(first, "password"); /* what the cipher needs at its first use is opened before the sandbox closes */
    rfbRegisterProtocolExtension(&extension);
    make_screen(s, config);
    if (listen_fd >= 0) {
        GSource *l = g_unix_fd_source_new(listen_fd, G_IO_IN);
        g_source_set_callback(l, G_SOURCE_FUNC(listener_ready), s, NULL);
        g_source_attach(l, s->context);
        g_source_unref(l);
    }
    const struct display_listener listener = { on_resized, on_changed, on_cursor, s };
    s->host.add_listener(s->host.display, &listener);
    s->thread = s->host.thread("vnc", run, s);
    return s;
}

/* fn(opaque) on the server's thread. Not g_main_context_invoke: that would run it here while the thread is not in its loop yet. */
static void do_later(struct vnc_server *s, GSourceFunc fn, void *opaque)
{
    GSource *source = g_idle_source_new();
    g_source_set_priority(source, G_PRIORITY_DEFAULT);
    g_source_set_callback(source, fn, opaque, NULL);
    g_source_attach(source, s->context);
    g_source_unref(source);
}

static gboolean do_stop(gpointer opaque)
{
    g_main_loop_quit(((struct vnc_server *)opaque)->loop);
    return G_SOURCE_REMOVE;
}

static void stop(struct vnc_server *s)
{
    s->host.lock(s->host.display);
    for (guint i = 0; i < s->clients->len; i++) /* none keeps the thread waiting any more */
        shutdown(((struct client *)s->clients->pdata[i])->fd, SHUT_RDWR);
    s->host.unlock(s->host.display);
    do_later(s, do_stop, s);
    g_thread_join(s->thread);
    s->host.remove_listener(s->host.display, s);
    rfbShutdownServer(s->screen, TRUE);
    rfbScreenCleanup(s->screen);
    rfbUnregisterProtocolExtension(&extension);
    if (s->listen_fd >= 0)
        close(s->listen_fd);
    g_ptr_array_unref(s->clients);
    g_main_loop_unref(s->loop);
    g_main_context_unref(s->context);
    g_free(s->pixels);
    g_free(s->password);
    g_free(s->name);
    g_free(s);
}

struct new_password {
    struct vnc_server *server;
    char *password;
    bool expires;
    int64_t when;
};

static gboolean take_password(gpointer opaque)
{
    struct new_password *n = opaque;
    if (n->password) {
        g_free(n->server->password);
        n->server->password = n->password;
    }
    if (n->expires)
        n->server->expires = n->when;
    g_free(n);
    return G_SOURCE_REMOVE;
}

static void set_password(struct vnc_server *s, const char *password, const int64_t *expires)
{
    struct new_password *n = g_new0(struct new_password, 1);
    *n = (struct new_password){ s, g_strdup(password), expires != NULL, expires ? *expires : 0 };
    do_later(s, take_password, n);
}

struct new_client { struct vnc_server *server; int fd; bool skip_password; };

static gboolean take_new_client(gpointer opaque)
{
    struct new_client *n = opaque;
    take_client(n->server, n->fd, n->skip_password);
    g_free(n);
    return G_SOURCE_REMOVE;
}

static void add_client(struct vnc_server *s, int fd, bool skip_password)
{
    struct new_client *n = g_new0(struct new_client, 1);
    *n = (struct new_client){ s, fd, skip_password };
    do_later(s, take_new_client, n);
}

const struct vnc_module vireo_vnc_module = { VNC_MODULE_VERSION, start, stop, set_password, add_client };
