/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Character devices: the back end ("char" and the alias) and the device. */
#include "manage/drivers/domain/command/domain_plan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* A listening UNIX socket; long paths go through a descriptor of the directory. */
static int listen_unix(const char *path, GError **error)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    g_autofree char *dir = g_path_get_dirname(path), *base = g_path_get_basename(path);
    int at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC), s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int n = g_snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/%s", at, base);
    bool good = at >= 0 && s >= 0;
    if (good && n >= (int)sizeof(a.sun_path)) {
        good = false;
        errno = ENAMETOOLONG;
    }
    if (good)
        unlinkat(at, base, 0);
    good = good && bind(s, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(s, 1) == 0;
    if (!good)
        manage_fail_errno(error, errno, "cannot listen on '%s'", path);
    if (at >= 0)
        close(at);
    if (!good && s >= 0)
        close(s);
    return good ? s : -1;
}

void domain_char_gone(const struct el *e)
{
    const char *path = el_get(e, "source/@path");
    struct stat st;
    if (el_is(e, "@type", "unix") && el_is(e, "source/@mode", "bind") && path && lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
        unlink(path);
}

static bool goes_into_sandbox(const struct domain_build *b)
{
    return b->m.is_vireo && b->d && b->d->monitor;
}

static bool unix_backend(struct domain_build *b, struct el *e, struct json_object *data, int *ret_fd, GError **error)
{
    bool server = !el_is(e, "source/@mode", "connect");
    if (!el_get(e, "source/@path")) {
        if (!server)
            return manage_fail(error, VIR_ERR_XML_ERROR, "<%s>%s: a socket to connect to needs <source path=>", el_name(e), domain_line(e));
        g_autofree char *base = g_strdup(el_get_or(e, "target/@name", el_get_or(e, "alias/@name", "socket")));
        g_strdelimit(base, "/", '_');
        el_set(e, "source/@mode", "bind");
        g_autofree char *path = g_build_filename(b->dir ? b->dir : "/", base, NULL);
        el_set(e, "source/@path", path);
    }
    struct json_object *addr = json_object_new_object(), *where = json_object_new_object();
    js_set(addr, "type", "unix");
    js_set(where, "path", el_get(e, "source/@path"));
    json_object_object_add(addr, "data", where);
    json_object_object_add(data, "addr", addr);
    js_bool(data, "server", server);
    if (server)
        js_bool(data, "wait", false);
    if (!server && el_is(e, "source/reconnect/@enabled", "yes"))
        js_int(data, "reconnect", (int64_t)domain_number(e, "source/reconnect/@timeout", 1));
    if (server && b->d) {
        *ret_fd = listen_unix(el_get(e, "source/@path"), error);
        if (*ret_fd >= 0)
            g_ptr_array_add(b->plan->sockets, g_strdup(el_get(e, "source/@path")));
        return *ret_fd >= 0;
    }
    /* A vireo-vmm that runs is in its sandbox. */
    return !goes_into_sandbox(b) || el_is(e, "source/reconnect/@enabled", "yes") || (*ret_fd = domain_connect_socket(el_get(e, "source/@path"), error)) >= 0;
}

static int new_pty(GError **error)
{
    int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd >= 0 && grantpt(fd) == 0 && unlockpt(fd) == 0)
        return fd;
    manage_fail_errno(error, errno, "cannot open a pseudo terminal");
    if (fd >= 0)
        close(fd);
    return -1;
}

static void tcp_backend(const struct el *e, struct json_object *data)
{
    struct json_object *addr = json_object_new_object(), *where = json_object_new_object();
    bool server = el_is(e, "source/@mode", "bind");
    js_set(addr, "type", "inet");
    js_set(where, "host", el_get_or(e, "source/@host", "127.0.0.1"));
    js_set(where, "port", el_get_or(e, "source/@service", "0"));
    json_object_object_add(addr, "data", where);
    json_object_object_add(data, "addr", addr);
    js_bool(data, "server", server);
    if (server)
        js_bool(data, "wait", false);
    if (el_is(e, "protocol/@type", "telnet"))
        js_bool(data, "telnet", true);
}

static void udp_backend(const struct el *e, struct json_object *data)
{
    struct json_object *remote = json_object_new_object(), *where = json_object_new_object();
    js_set(remote, "type", "inet");
    js_set(where, "host", el_get_or(e, "source/@host", "127.0.0.1"));
    js_set(where, "port", el_get_or(e, "source/@service", "0"));
    json_object_object_add(remote, "data", where);
    json_object_object_add(data, "remote", remote);
}

static const struct backend {
    const char *type, *qemu, *path_key;
    bool vireo;
} backends[] = {
    { "pty", "pty", NULL, true }, { "null", "null", NULL, true },        { "stdio", "stdio", NULL, true },    { "file", "file", "out", true },      { "unix", "socket", NULL, true },
    { "tcp", "socket", NULL, true }, { "dev", "serial", "device", false }, { "pipe", "pipe", "device", false }, { "udp", "udp", NULL, false },       { "vc", "vc", NULL, false },
    { "spicevmc", "spicevmc", NULL, false },
};

static bool add_backend(struct domain_build *b, struct el *e, const char *id, GError **error)
{
    const char *type = el_get_or(e, "@type", "pty");
    const struct backend *k = NULL;
    for (unsigned i = 0; i < G_N_ELEMENTS(backends); i++)
        if (g_str_equal(backends[i].type, type) && (backends[i].vireo || !b->m.is_vireo))
            k = &backends[i];
    if (!k || (b->m.is_vireo && g_str_equal(type, "tcp") && el_is(e, "protocol/@type", "tls")))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<%s type='%s'>%s is not there: pty, unix, tcp, file and null are", el_name(e), type, domain_line(e));
    if (el_find(e, "log"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<%s>%s: <log> is not there yet; type='file' writes to a file", el_name(e), domain_line(e));
    struct json_object *o = json_object_new_object(), *backend = json_object_new_object(), *data = json_object_new_object();
    int fd = -1;
    js_set(o, "id", id);
    js_set(backend, "type", k->qemu);
    json_object_object_add(backend, "data", data);
    json_object_object_add(o, "backend", backend);
    struct plan_item *item = domain_plan_add(b, PLAN_CHARDEV, id, o);
    if (k->path_key)
        js_set(data, k->path_key, el_get(e, "source/@path"));
    if (g_str_equal(type, "file") && !el_is(e, "source/@append", "off"))
        js_bool(data, "append", el_is(e, "source/@append", "on"));
    if (g_str_equal(type, "spicevmc"))
        js_set(data, "type", "vdagent");
    if (g_str_equal(type, "unix") && !unix_backend(b, e, data, &fd, error))
        return false;
    if (g_str_equal(type, "pty") && goes_into_sandbox(b) && (fd = new_pty(error)) < 0)
        return false;
    if (fd >= 0)
        domain_plan_fd(item, fd);
    if (g_str_equal(type, "tcp"))
        tcp_backend(e, data);
    if (g_str_equal(type, "udp"))
        udp_backend(e, data);
    return true;
}

static bool serial_device(struct domain_build *b, struct el *e, const char *id, GError **error)
{
    static const struct { const char *type, *driver; bool vireo; } rows[] = { { "isa-serial", "isa-serial", true }, { "pci-serial", "pci-serial", false },
                                                                            { "usb-serial", "usb-serial", false }, { "isa-debug", "isa-debugcon", true } };
    const char *type = el_get_or(e, "target/@type", "isa-serial");
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (!g_str_equal(rows[i].type, type) || (b->m.is_vireo && !rows[i].vireo))
            continue;
        struct json_object *o = domain_plan_device(b, rows[i].driver, e);
        js_set(o, "chardev", id);
        if (i == 0)
            js_int(o, "index", (int64_t)domain_number(e, "target/@port", 0));
        if (i == 3 && el_get(e, "address/@iobase"))
            js_set(o, "iobase", el_get(e, "address/@iobase"));
        return true;
    }
    return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<serial>%s: a port of type '%s' is not there: isa-serial is", domain_line(e), type);
}

static bool virtio_port(struct domain_build *b, struct el *e, const char *driver, const char *id, GError **error)
{
    unsigned controller = domain_number(e, "address/@controller", 0);
    struct el *c = domain_controller(b->devices, "virtio-serial", controller);
    if (!c)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<%s>%s: there is no virtio-serial controller %u", el_name(e), domain_line(e), controller);
    struct json_object *o = domain_plan_device(b, driver, e);
    g_autofree char *bus = g_strdup_printf("%s.0", el_get_or(c, "alias/@name", "virtio-serial0"));
    if (el_get(e, "address/@port")) {
        js_set(o, "bus", bus);
        js_int(o, "nr", (int64_t)domain_number(e, "address/@port", 0));
    }
    js_set(o, "chardev", id);
    js_set(o, "name", el_get(e, "target/@name"));
    return true;
}

bool domain_plan_char(struct domain_build *b, struct el *e, GError **error)
{
    const char *name = el_name(e), *target = el_get_or(e, "target/@type", "");
    if (g_str_equal(name, "console") && g_str_equal(target, "serial"))
        return true; /* the serial port's other name */
    g_autofree char *id = g_strdup_printf("char%s", el_get_or(e, "alias/@name", name));
    if (g_str_equal(name, "parallel") && b->m.is_vireo)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<parallel>%s: the machine has no parallel port", domain_line(e));
    if ((g_str_equal(name, "console") || g_str_equal(name, "channel")) && !g_str_equal(target, "virtio"))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<%s>%s: target type '%s' is not there: virtio is", name, domain_line(e), target);
    if (!add_backend(b, e, id, error))
        return false;
    if (g_str_equal(name, "serial"))
        return serial_device(b, e, id, error);
    if (g_str_equal(name, "parallel")) {
        js_set(domain_plan_device(b, "isa-parallel", e), "chardev", id);
        return true;
    }
    return virtio_port(b, e, g_str_equal(name, "console") ? "virtconsole" : "virtserialport", id, error);
}
