/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside of the character back ends. chardev.c does everything that has to do with descriptors: watching, reading,
 * buffering, front ends. A back end only opens and closes, and says when its peer comes and goes.
 * Used by chardev*.c alone.
 */
#pragma once

#include "base/keyval.h"
#include "vmm/core/chardev.h"
#include "vmm/core/chardev_telnet.h"

#define CHARDEV_OUT_MAX (64 * 1024) /* bytes kept for a host that does not take them */
#define CHARDEV_IN_MAX 4096 /* bytes read at once */
#define CHARDEV_FRONTENDS_MAX 4

struct chardev_mux;

struct chardev_backend {
    const char *name; /* -chardev NAME */
    const char *help;
    const struct keyval_key *keys; /* loaded into a struct of opts_size, given to open */
    size_t opts_size;
    bool (*open)(struct chardev *c, const void *opts, GError **error);
    void (*close)(struct chardev *c);  /* may be NULL; descriptors are closed by chardev.c */
    void (*hangup)(struct chardev *c); /* end of input; NULL: output goes on without input */
};

struct chardev_out_mode { bool send /* a socket */, poll_first /* a blocking descriptor */; };

struct chardev {
    const struct chardev_backend *backend;
    char *id, *filename;
    void *state;        /* the back end's own */
    void *opts;
    bool opened;
    struct chardev_mux *mux; /* NULL: none */
    /* main thread only */
    GSource *in_source;
    int fd_in, passed_fd;
    bool accept_fds;
    struct chardev_telnet *telnet; /* NULL: bytes are what they are; set before a peer is there */
    bool in_ended;
    struct { const struct chardev_handlers *h; void *opaque; } frontends[CHARDEV_FRONTENDS_MAX];
    unsigned nfrontends, focus;
    /* under lock */
    GMutex lock;
    int fd_out;
    struct chardev_out_mode out_mode;
    GByteArray *out;
    GSource *out_source, *pump_source;
    bool busy_told;     /* a front end was refused bytes: tell it when there is room again */
    bool connected;     /* false: output is thrown away, as on a cable that nobody holds */
};

/* Descriptors of a peer, owned by c from now on; the front ends hear OPENED. -1: none in this direction. Main thread. */
void chardev_connected(struct chardev *c, int fd_in, int fd_out, struct chardev_out_mode mode);
/* The peer is gone: closes its descriptors; the front ends hear CLOSED. */
void chardev_disconnected(struct chardev *c);
void chardev_set_filename(struct chardev *c, char *filename); /* takes it over */
/* Reading again if a front end has room. Main thread. */
void chardev_pump(struct chardev *c);
int chardev_cancel_fd(void);

extern const struct chardev_backend chardev_null, chardev_file, chardev_stdio, chardev_socket, chardev_pty;

/* chardev_mux.c: Ctrl-A commands in the input of c. */
struct chardev_mux *chardev_mux_create(struct chardev *c);
void chardev_mux_destroy(struct chardev_mux *m);
size_t chardev_mux_room(const struct chardev_mux *m);
void chardev_mux_input(struct chardev_mux *m, const uint8_t *data, size_t n);
void chardev_mux_deliver(struct chardev_mux *m);
void chardev_quit(void);
