/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Character back ends: null, stdio, file, UNIX socket, pty; and the multiplexer that puts `Ctrl-A` commands over one
 * (mon:stdio). A front end (serial port, QMP, virtio console) attaches handlers. Output never blocks a vCPU: what the
 * host does not take is buffered up to a bound, then the front end is told "busy" (chardev_can_write).
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct chardev;
enum chardev_event { CHARDEV_OPENED, CHARDEV_CLOSED, CHARDEV_BREAK, CHARDEV_WRITABLE };

struct chardev_handlers {
    /* How many bytes the front end takes now; reading from the host waits while 0. Main thread. */
    size_t (*can_receive)(void *opaque);
    void (*receive)(void *opaque, const uint8_t *data, size_t n);
    void (*event)(void *opaque, enum chardev_event ev); /* may be NULL */
};

/* Name of the i-th back end that -chardev takes; NULL beyond the last. */
const char *chardev_backend_at(unsigned i);

/* Parses the syntax of -serial/-chardev's short form: "stdio", "mon:stdio", "null", "none" gives NULL without error, "file:PATH",
 * "unix:PATH[,server=on|off][,wait=on|off]", "tcp:HOST:PORT[,...]", "telnet:HOST:PORT[,...]", "pty". Opens it. */
struct machine;
struct chardev *chardev_open(const char *id, const char *spec, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The long form: -chardev BACKEND,id=ID,key=value...; keys in a GHashTable of strings. */
struct chardev *chardev_open_opts(const char *backend, const char *id, GHashTable *opts, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Closes, removes sockets it made, restores terminal modes. */
void chardev_close(struct chardev *c);
/* One front end at a time (the multiplexer: several, switched by Ctrl-A c). Error when taken. */
bool chardev_attach(struct chardev *c, const struct chardev_handlers *h, void *opaque, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void chardev_detach(struct chardev *c);
/* Any thread. Returns how many bytes were taken (all, unless the bound is reached). */
size_t chardev_write(struct chardev *c, const void *data, size_t n);
bool chardev_can_write(struct chardev *c);
void chardev_receive_ready(struct chardev *c); /* the front end can take input again; any thread */
/* QMP: descriptors that a client passes over its UNIX socket (SCM_RIGHTS) are kept, the last one only, until they are taken. */
void chardev_accept_fds(struct chardev *c);
int chardev_take_fd(struct chardev *c);          /* the caller's; -1: none came */
void chardev_put_fd(struct chardev *c, int fd);  /* back, or -1 */
const char *chardev_id(const struct chardev *c);
const char *chardev_filename(const struct chardev *c); /* as query-chardev shows it: "stdio", "pty:/dev/pts/3", "unix:PATH,server=on", ... */
bool chardev_frontend_open(const struct chardev *c);
bool chardev_busy(const struct chardev *c); /* has a front end, or is there for several: it has to stay */
/* What Ctrl-A x does in the multiplexer, and where its help is printed: set once by main. */
void chardev_set_quit(void (*quit)(void *opaque), void *opaque);
/* A descriptor that becomes readable when the process is asked to end: what waits for a client (wait=on) gives up then. */
void chardev_set_cancel_fd(int fd);
/* Does -chardev know this back end? Lists them for help; the caller frees. */
char *chardev_help(void);
/* For a signal handler or abnormal exit: terminal modes back as they were. Async-signal-safe. */
void chardev_restore_terminal(void);
