/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The guest's agent: JSON lines over the channel named org.qemu.guest_agent.0. Each command has a connection of its own that begins with
 * guest-sync-delimited, so that what an earlier one left in the channel is not taken for an answer. Inside a job: one command at a time.
 */
#include "manage/drivers/domain/guest/domain_agent.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { SYNC_SECONDS = 5, COMMAND_SECONDS = 60, ANSWER_LIMIT = 4 << 20, DEPTH = 32, DELIMITER = 0xff };

static const char agent_name[] = "org.qemu.guest_agent.0";

/* The channel's socket; NULL with what is wrong. */
static char *channel_path(struct domain *d, GError **error)
{
    char *path = NULL;
    bool found = false, connected = false;
    g_mutex_lock(&d->lock);
    bool running = d->id >= 0;
    struct el *devices = d->live ? el_find(doc_root(d->live), "devices") : NULL;
    el_each(c, devices, "channel") {
        if (!el_is(c, "target/@name", agent_name) || !el_is(c, "@type", "unix"))
            continue;
        found = true;
        connected = !el_is(c, "target/@state", "disconnected");
        path = connected ? g_strdup(el_get(c, "source/@path")) : NULL;
        break;
    }
    g_mutex_unlock(&d->lock);
    if (!running)
        manage_fail(error, VIR_ERR_OPERATION_INVALID, "domain is not running");
    else if (!found)
        manage_fail(error, VIR_ERR_ARGUMENT_UNSUPPORTED, "QEMU guest agent is not configured");
    else if (!path)
        manage_fail(error, VIR_ERR_AGENT_UNRESPONSIVE, "QEMU guest agent is not connected");
    return path;
}

bool domain_agent_ready(struct domain *d)
{
    g_autofree char *path = channel_path(d, NULL);
    return path != NULL;
}

static int connect_to(const char *path, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(path), *name = g_path_get_basename(path);
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC), fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/%s", at, name);
    int err = connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ? errno : 0;
    if (at >= 0)
        close(at);
    if (!err)
        return fd;
    close(fd);
    return manage_fail(error, VIR_ERR_AGENT_UNRESPONSIVE, "its channel '%s': %s", path, g_strerror(err)), -1;
}

/* Reads until a line has ended, into *text; false: time is up, or the channel has been closed. */
static bool read_line(int fd, GString *text, gint64 until)
{
    while (!memchr(text->str, '\n', text->len)) {
        char chunk[4096];
        gint64 left = until < 0 ? -1 : (until - g_get_monotonic_time()) / 1000;
        struct pollfd p = { fd, POLLIN, 0 };
        if ((until >= 0 && left <= 0) || text->len > ANSWER_LIMIT || poll(&p, 1, (int)left) == 0)
            return false;
        ssize_t n = recv(fd, chunk, sizeof(chunk), MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return false;
        g_string_append_len(text, chunk, MAX(n, 0));
    }
    return true;
}

static struct json_object *take_line(GString *text)
{
    char *end = memchr(text->str, '\n', text->len);
    gsize size = (gsize)(end - text->str) + 1;
    char *delimiter = g_strrstr_len(text->str, (gssize)size, "\xff");
    const char *from = delimiter ? delimiter + 1 : text->str;
    struct json_tokener *t = json_tokener_new_ex(DEPTH);
    struct json_object *o = json_tokener_parse_ex(t, from, (int)(text->str + size - from));
    bool ok = json_tokener_get_error(t) == json_tokener_success && json_object_is_type(o, json_type_object);
    json_tokener_free(t);
    g_string_erase(text, 0, (gssize)size);
    if (!ok)
        json_object_put(o);
    return ok ? o : NULL;
}

static bool send_all(int fd, const char *text, gsize size)
{
    for (gsize at = 0; at < size;) {
        ssize_t n = send(fd, text + at, size - at, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR)
            return false;
        at += n > 0 ? (gsize)n : 0;
    }
    return true;
}

/* How long its presence is waited for, and a command; < 0: as long as it takes. */
static void patience(struct domain *d, int *ret_sync, int *ret_command)
{
    g_mutex_lock(&d->lock);
    bool said = d->agent_patience;
    int seconds = said ? d->agent_timeout : COMMAND_SECONDS;
    g_mutex_unlock(&d->lock);
    if (said && seconds == VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_DEFAULT)
        seconds = SYNC_SECONDS;
    *ret_sync = seconds >= 0 ? MIN(seconds, SYNC_SECONDS) : SYNC_SECONDS;
    *ret_command = MAX(seconds, -1);
}

static bool sync_with(int fd, GString *text, int seconds)
{
    int64_t id = (g_get_monotonic_time() & 0x7fffffff) + 1;
    g_autofree char *hello = g_strdup_printf("%c{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":%lld}}\n", DELIMITER, (long long)id);
    gint64 until = g_get_monotonic_time() + seconds * G_TIME_SPAN_SECOND;
    if (!send_all(fd, hello, strlen(hello)))
        return false;
    for (unsigned i = 0; i < 100 && read_line(fd, text, until); i++) {
        struct json_object *o = take_line(text);
        bool same = o && json_object_get_int64(json_object_object_get(o, "return")) == id;
        json_object_put(o);
        if (same)
            return true;
    }
    return false;
}

struct json_object *domain_agent_answer(struct domain *d, const char *command, int seconds, bool may_vanish, GError **error)
{
    g_autofree char *path = channel_path(d, error), *line = g_strconcat(command, "\n", NULL);
    int fd = path ? connect_to(path, error) : -1;
    if (fd < 0)
        return NULL;
    g_autoptr(GString) text = g_string_new(NULL);
    gint64 until = seconds < 0 ? -1 : g_get_monotonic_time() + seconds * G_TIME_SPAN_SECOND;
    struct json_object *o = NULL;
    int sync, any;
    patience(d, &sync, &any);
    if (!sync_with(fd, text, sync) || !send_all(fd, line, strlen(line)))
        manage_fail(error, VIR_ERR_AGENT_UNRESPONSIVE, "it did not answer within %d s", sync);
    else if (read_line(fd, text, until))
        o = take_line(text);
    else if (may_vanish)
        o = json_object_new_object();
    else
        manage_fail(error, VIR_ERR_AGENT_UNRESPONSIVE, "guest agent command timed out: there was no answer %s", seconds < 0 ? "before its channel was closed" : "in time");
    if (!o && error && !*error)
        manage_fail(error, VIR_ERR_INTERNAL_ERROR, "what the guest agent answered is not JSON");
    close(fd);
    return o;
}

struct json_object *domain_agent_command(struct domain *d, const char *name, struct json_object *args, bool may_vanish, GError **error)
{
    struct json_object *o = json_object_new_object();
    int sync, seconds;
    patience(d, &sync, &seconds);
    json_object_object_add(o, "execute", json_object_new_string(name));
    if (args)
        json_object_object_add(o, "arguments", args);
    struct json_object *answer = domain_agent_answer(d, json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN), may_vanish ? 3 : seconds, may_vanish, error);
    json_object_put(o);
    if (!answer)
        return NULL;
    struct json_object *e = json_object_object_get(answer, "error"), *ret = json_object_get(json_object_object_get(answer, "return"));
    const char *desc = json_object_get_string(json_object_object_get(e, "desc"));
    if (e)
        manage_fail(error, VIR_ERR_INTERNAL_ERROR, "unable to execute QEMU agent command '%s': %s", name, desc ? desc : "no reason given");
    else if (!ret)
        ret = json_object_new_object();
    json_object_put(answer);
    return ret;
}

bool domain_agent_shutdown(struct domain *d, bool reboot, GError **error)
{
    struct json_object *args = json_object_new_object();
    json_object_object_add(args, "mode", json_object_new_string(reboot ? "reboot" : "powerdown"));
    struct json_object *o = domain_agent_command(d, "guest-shutdown", args, true, error);
    json_object_put(o);
    return o != NULL;
}
