/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the program and the module vireo-vnc, which alone is linked with the VNC library: a machine without -vnc does not carry it. */
#pragma once

#include "vmm/display/display.h"

#define VNC_MODULE_VERSION 1

enum vnc_event { VNC_CONNECTED, VNC_INITIALIZED, VNC_DISCONNECTED };

/* What the module may use of the program. */
struct vnc_host {
    struct display *display;
    void (*add_listener)(struct display *d, const struct display_listener *l);
    void (*remove_listener)(struct display *d, const void *opaque);
    const struct display_picture *(*lock)(struct display *d);
    void (*unlock)(struct display *d);
    bool (*refresh)(struct display *d);
    void (*key)(struct display *d, unsigned code, bool down);
    void (*pointer)(struct display *d, unsigned x, unsigned y, unsigned buttons);
    void (*motion)(struct display *d, int dx, int dy, unsigned buttons);
    bool (*absolute)(struct display *d);
    unsigned (*code_of_keysym)(uint32_t keysym);
    unsigned (*code_of_number)(unsigned number);
    GThread *(*thread)(const char *name, GThreadFunc fn, void *opaque);
    /* A client came, has told that it is ready, or went; from the module's thread. id: names it as long as it is there. host, service: of the other
     * side; empty for UNIX sockets. */
    void (*client)(void *opaque, enum vnc_event event, const void *id, const char *host, const char *service);
    void *opaque;
    const char *name; /* of the machine, shown by viewers */
};

struct vnc_config {
    bool password;     /* a client must know it; none is set at first, and nobody gets in */
    bool share_ignore; /* a client that wants to be alone does not throw the others out */
};

struct vnc_module {
    unsigned version;
    /* Serves on this listening socket, which it takes over (-1: there is none). The strings of host are copied. */
    struct vnc_server *(*start)(const struct vnc_host *host, const struct vnc_config *config, int listen_fd);
    void (*stop)(struct vnc_server *s);
    /* expires: seconds since the epoch; 0: never. password NULL: only the other one is changed. */
    void (*set_password)(struct vnc_server *s, const char *password, const int64_t *expires);
    /* A client on a socket that is connected already; it is taken over. skip_password: it is let in without. */
    void (*add_client)(struct vnc_server *s, int fd, bool skip_password);
};
/* The module's only symbol. */
extern const struct vnc_module vireo_vnc_module;
