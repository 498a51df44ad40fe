/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The VNC server: who looks, passwords, viewers that come by a descriptor. */
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fdset.h"
#include "vmm/core/machine.h"
#include "vmm/display/display.h"
#include "vmm/qmp/qmp_display.h"

static const char *text_of(struct json_object *args, const char *key) { return json_object_get_string(json_object_object_get(args, key)); }

struct json_object *qmp_query_vnc(struct machine *m, struct json_object *args, GError **error) { return vnc_query(display_vnc(m->display)); }
struct json_object *qmp_query_vnc_servers(struct machine *m, struct json_object *args, GError **error) { return vnc_query_servers(display_vnc(m->display)); }

/* True: about a VNC server, namely `display` or the only one. */
static bool about_vnc(struct json_object *args, GError **error)
{
    const char *protocol = text_of(args, "protocol");
    if (!strcmp(protocol, "spice"))
        return vireo_fail(error, VIREO_ERROR_NOT_FOUND, "SPICE is not in use");
    return !strcmp(protocol, "vnc") || vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'protocol' does not accept value '%s'", protocol);
}

static struct vnc *server(struct machine *m, struct json_object *args)
{
    const char *display = text_of(args, "display");
    return display && strcmp(display, "default") ? NULL : display_vnc(m->display);
}

const struct qmp_arg qmp_set_password_args[] = {
    { "protocol", QMP_ARG_STRING }, { "password", QMP_ARG_STRING }, { "connected", QMP_ARG_STRING, true }, { "display", QMP_ARG_STRING, true }, { NULL }
};

struct json_object *qmp_set_password(struct machine *m, struct json_object *args, GError **error)
{
    const char *connected = text_of(args, "connected");
    if (!about_vnc(args, error))
        return NULL;
    if (connected && strcmp(connected, "keep"))
        vireo_fail(error, VIREO_ERROR_INVALID, !strcmp(connected, "fail") || !strcmp(connected, "disconnect") ? "Invalid parameter 'connected'" :
                   "Parameter 'connected' does not accept value '%s'", connected);
    else if (!vnc_set_password(server(m, args), text_of(args, "password"), NULL))
        vireo_fail(error, VIREO_ERROR_FAILED, "Could not set password");
    return NULL;
}

const struct qmp_arg qmp_change_vnc_password_args[] = { { "password", QMP_ARG_STRING }, { NULL } };

struct json_object *qmp_change_vnc_password(struct machine *m, struct json_object *args, GError **error)
{
    if (!vnc_set_password(display_vnc(m->display), text_of(args, "password"), NULL))
        vireo_fail(error, VIREO_ERROR_FAILED, "Could not set password");
    return NULL;
}

/* "now", "never", "+SECONDS", "SECONDS" since the epoch. */
static bool parse_time(const char *text, int64_t *ret, GError **error)
{
    int64_t now = g_get_real_time() / G_USEC_PER_SEC;
    guint64 n = 0;
    bool relative = *text == '+';
    if (!strcmp(text, "never") || !strcmp(text, "now")) {
        *ret = text[2] == 'w' ? now : 0;
        return true;
    }
    if (!g_ascii_string_to_unsigned(text + relative, 10, 0, INT64_MAX / 2, &n, NULL))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter 'time' expects now, never, +SECONDS or SECONDS since 1970, not '%s'", text);
    *ret = MAX((int64_t)n + (relative ? now : 0), 1);
    return true;
}

const struct qmp_arg qmp_expire_password_args[] = { { "protocol", QMP_ARG_STRING }, { "time", QMP_ARG_STRING }, { "display", QMP_ARG_STRING, true }, { NULL } };

struct json_object *qmp_expire_password(struct machine *m, struct json_object *args, GError **error)
{
    int64_t when;
    if (about_vnc(args, error) && parse_time(text_of(args, "time"), &when, error) && !vnc_set_password(server(m, args), NULL, &when))
        vireo_fail(error, VIREO_ERROR_FAILED, "Could not set password expire time");
    return NULL;
}

const struct qmp_arg qmp_add_client_args[] = {
    { "protocol", QMP_ARG_STRING }, { "fdname", QMP_ARG_STRING }, { "skipauth", QMP_ARG_BOOL, true }, { "tls", QMP_ARG_BOOL, true }, { NULL }
};

struct json_object *qmp_add_client(struct machine *m, struct json_object *args, GError **error)
{
    const char *protocol = text_of(args, "protocol");
    if (strcmp(protocol, "vnc")) {
        vireo_fail(error, VIREO_ERROR_INVALID, "protocol '%s' is invalid; there is vnc", protocol);
        return NULL;
    }
    int fd = fdset_take(text_of(args, "fdname"), error);
    if (fd >= 0 && !vnc_add_client(display_vnc(m->display), fd, json_object_get_boolean(json_object_object_get(args, "skipauth")))) {
        close(fd);
        vireo_fail(error, VIREO_ERROR_FAILED, "there is no VNC server; start the machine with -vnc");
    }
    return NULL;
}
