/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Consoles and channels as streams: over the pty or UNIX socket of the device's back end. One user at a time: the next with FORCE takes it over, without is refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "manage/drivers/domain/complete/domain_complete.h"

/* A console in use. The table of the domain and the stream hold a reference each; `users` counts those still attached. */
struct user {
    gint refs;
    int fd, cancel; /* cancel: an eventfd, readable for good */
    struct domain *domain; /* a reference */
    char *alias;
};

static void user_unref(gpointer opaque)
{
    struct user *u = opaque;
    if (!g_atomic_int_dec_and_test(&u->refs))
        return;
    close(u->fd);
    close(u->cancel);
    domain_unref(u->domain);
    g_free(u->alias);
    g_free(u);
}

static void user_cancel(void *opaque)
{
    struct user *u = opaque;
    uint64_t one = 1;
    (void)!write(u->cancel, &one, sizeof(one));
}

/* ---- stream ---- */

static bool ready(struct user *u, short events)
{
    struct pollfd p[2] = { { u->fd, events, 0 }, { u->cancel, POLLIN, 0 } };
    while (poll(p, 2, -1) < 0 && errno == EINTR)
        ;
    return !p[1].revents;
}

static gssize user_read(void *opaque, void *buffer, gsize size, int64_t *ret_hole, GError **error)
{
    struct user *u = opaque;
    while (ready(u, POLLIN)) {
        ssize_t n = read(u->fd, buffer, size);
        if (n >= 0)
            return n;
        if (errno == EIO) /* the machine's side has gone */
            return 0;
        if (errno != EAGAIN && errno != EINTR)
            return manage_fail_errno(error, errno, "cannot read from '%s'", u->alias), -1;
    }
    return 0;
}

static bool user_write(void *opaque, const void *data, gsize size, GError **error)
{
    struct user *u = opaque;
    for (gsize at = 0; at < size;) {
        if (!ready(u, POLLOUT))
            return manage_fail(error, VIR_ERR_OPERATION_ABORTED, "the console was taken over or its domain ended");
        ssize_t n = write(u->fd, (const char *)data + at, size - at);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return manage_fail_errno(error, errno, "cannot write to '%s'", u->alias);
        at += n > 0 ? (gsize)n : 0;
    }
    return true;
}

static void user_free(void *opaque)
{
    struct user *u = opaque;
    g_mutex_lock(&u->domain->lock);
    if (u->domain->consoles && g_hash_table_lookup(u->domain->consoles, u->alias) == u)
        g_hash_table_remove(u->domain->consoles, u->alias);
    g_mutex_unlock(&u->domain->lock);
    user_unref(u);
}

/* Puts u in the table; false: somebody else uses the device. */
static bool enter(struct domain *d, struct user *u, bool force)
{
    g_mutex_lock(&d->lock);
    if (!d->consoles)
        d->consoles = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, user_unref);
    struct user *other = g_hash_table_lookup(d->consoles, u->alias);
    bool ok = !other || force;
    if (ok && other)
        user_cancel(other);
    if (ok) {
        g_atomic_int_inc(&u->refs);
        g_hash_table_replace(d->consoles, g_strdup(u->alias), u);
    }
    g_mutex_unlock(&d->lock);
    return ok;
}

void domain_consoles_close(struct domain *d)
{
    GHashTableIter i;
    gpointer u;
    g_mutex_lock(&d->lock);
    if (d->consoles) {
        g_hash_table_iter_init(&i, d->consoles);
        while (g_hash_table_iter_next(&i, NULL, &u))
            user_cancel(u);
    }
    g_mutex_unlock(&d->lock);
}

/* ---- opening ---- */

static int open_pty(const char *path, GError **error)
{
    int fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    struct termios t;
    if (fd < 0)
        return manage_fail_errno(error, errno, "cannot open '%s'", path), -1;
    if (tcgetattr(fd, &t) == 0) {
        cfmakeraw(&t);
        tcsetattr(fd, TCSANOW, &t);
    }
    return fd;
}

int domain_connect_socket(const char *path, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(path), *name = g_path_get_basename(path);
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC), fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    g_snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/%s", at, name);
    int err = connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ? errno : 0;
    if (at >= 0)
        close(at);
    if (!err)
        return fd;
    close(fd);
    return manage_fail_errno(error, err, "cannot connect to '%s'", path), -1;
}

/* The device that a name means: its alias, or for channels its target's name; without a name the first. */
static struct el *find(struct el *devices, const char *const kinds[], const char *name)
{
    for (unsigned k = 0; kinds[k]; k++) {
        el_each(e, devices, kinds[k]) {
            bool can = el_is(e, "@type", "pty") || el_is(e, "@type", "unix");
            if (name ? el_is(e, "alias/@name", name) || el_is(e, "target/@name", name) : can)
                return e;
        }
    }
    return NULL;
}

static int open_device(const struct el *e, GError **error)
{
    const char *path = el_get(e, "source/@path"), *alias = el_get_or(e, "alias/@name", el_name(e));
    if (el_is(e, "@type", "pty") && path)
        return open_pty(path, error);
    if (el_is(e, "@type", "unix") && path)
        return domain_connect_socket(path, error);
    manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "character device %s is not using a PTY or UNIX socket", alias);
    return -1;
}

static bool stream(struct manage_call *c, struct domain *d, const char *const kinds[], const char *what, const char *name, bool force, GError **error)
{
    static const struct manage_stream_ops ops = { .read = user_read, .write = user_write, .cancel = user_cancel, .free = user_free };
    doc_auto *live = domain_live(d, error);
    struct el *e = live ? find(el_find(doc_root(live), "devices"), kinds, name) : NULL;
    if (!e)
        return live ? manage_fail(error, VIR_ERR_INVALID_ARG, "cannot find %s '%s'", what, name ? name : "default") : false;
    struct user *u = g_new0(struct user, 1);
    u->refs = 1;
    u->domain = domain_ref(d);
    u->alias = g_strdup(el_get_or(e, "alias/@name", el_name(e)));
    u->cancel = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    u->fd = -1;
    bool ok = enter(d, u, force) || manage_fail(error, VIR_ERR_OPERATION_FAILED, "Active %s session exists for this domain", what);
    ok = ok && (u->fd = open_device(e, error)) >= 0;
    if (ok)
        manage_call_stream(c, &ops, u, false);
    else
        user_free(u);
    return ok;
}

static GVariant *open_console(struct manage_call *c, GError **error)
{
    static const char *const kinds[] = { "console", "serial", "parallel", NULL };
    const char *name = NULL;
    uint32_t flags;
    g_variant_get_child(c->args, 1, "m&s", &name);
    g_variant_get_child(c->args, 2, "u", &flags);
    domain_auto *d = manage_check_flags(flags, VIR_DOMAIN_CONSOLE_FORCE | VIR_DOMAIN_CONSOLE_SAFE, error) ? domain_of_call(c, 0, error) : NULL;
    return d && stream(c, d, kinds, "console", name, flags & VIR_DOMAIN_CONSOLE_FORCE, error) ? manage_void() : NULL;
}

static GVariant *open_channel(struct manage_call *c, GError **error)
{
    static const char *const kinds[] = { "channel", NULL };
    const char *name = NULL;
    uint32_t flags;
    g_variant_get_child(c->args, 1, "m&s", &name);
    g_variant_get_child(c->args, 2, "u", &flags);
    domain_auto *d = manage_check_flags(flags, VIR_DOMAIN_CHANNEL_FORCE, error) ? domain_of_call(c, 0, error) : NULL;
    return d && stream(c, d, kinds, "channel", name, flags & VIR_DOMAIN_CHANNEL_FORCE, error) ? manage_void() : NULL;
}

/* ---- ptys ---- */

/* The console that is the same device as the first serial port has its tty as well. */
static void set_pty(struct el *devices, const char *label, const char *path)
{
    static const char *const kinds[] = { "serial", "parallel", "console", "channel", NULL };
    for (unsigned k = 0; kinds[k]; k++) {
        el_each(e, devices, kinds[k]) {
            const char *alias = el_get(e, "alias/@name");
            if (!alias || !el_is(e, "@type", "pty") || strcmp(label + strlen("char"), alias))
                continue;
            el_set(e, "source/@path", path);
            if (!strcmp(kinds[k], "console") && domain_number(e, "target/@port", 0) == 0) /* as libvirtd has it */
                el_set(e, "@tty", path);
        }
    }
}

void domain_read_ptys(struct domain *d)
{
    g_autoptr(GError) error = NULL;
    struct json_object *list = monitor_command(d, "query-chardev", NULL, &error);
    g_mutex_lock(&d->lock);
    struct el *devices = d->live ? el_find(doc_root(d->live), "devices") : NULL;
    for (size_t i = 0; devices && list && json_object_is_type(list, json_type_array) && i < json_object_array_length(list); i++) {
        struct json_object *o = json_object_array_get_idx(list, i);
        const char *label = json_object_get_string(json_object_object_get(o, "label")), *file = json_object_get_string(json_object_object_get(o, "filename"));
        if (label && file && g_str_has_prefix(label, "char") && g_str_has_prefix(file, "pty:/dev/"))
            set_pty(devices, label, file + strlen("pty:"));
    }
    el_each(channel, devices, "channel") /* until the guest opens it: VSERPORT_CHANGE */
        if (el_is(channel, "target/@type", "virtio") && !el_get(channel, "target/@state"))
            el_set(channel, "target/@state", "disconnected");
    g_mutex_unlock(&d->lock);
    json_object_put(list);
}

const struct manage_row domain_rows_console[] = {
    { RPC_DOMAIN_OPEN_CONSOLE, open_console },
    { RPC_DOMAIN_OPEN_CHANNEL, open_channel },
    { 0, NULL },
};
