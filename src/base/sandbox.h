/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The sandbox of this process: after set-up each thread may make only the system calls that its kind needs (seccomp(2)).
 *
 * What a kind may call is written beside the code that calls it, in comments of this form:
 *
 *     "seccomp(KIND[, KIND]...): call call(CONSTANT...) call!ERRNO ..."
 *
 * at the beginning of a comment or of a line of one, and to the end of that line.
 *
 * KIND is one of the names below, or `vcpu` (both kinds of vCPU), `device` (all threads that enter device code), `any`.
 * A list of constants restricts the argument that matters for the call (sandbox_gather.py says which); !ERRNO refuses the
 * call with that error instead of ending the process. sandbox_gather.py collects the comments at build time, and
 * sandbox_compile.c makes filters of them, so that nothing has to be computed at the start.
 *
 * The threads of a process share their memory: who has taken over one thread can in the end make others call for it. So the
 * list of the main thread, which also holds for threads that no code of ours started, is the union of all lists (main also
 * starts threads of each kind later, and a thread inherits its creator's filter); the narrower lists stand in front of it.
 *
 * State is the process's, as the filters are.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* X(identifier, name in comments, what it is) */
#define SANDBOX_KINDS(X) \
    X(MAIN, "main", "main loop") \
    X(VCPU_JIT, "vcpu-jit", "vCPU on the translator") \
    X(VCPU_KVM, "vcpu-kvm", "vCPU on KVM") \
    X(CLOCK, "clock", "timers") \
    X(BLOCK, "block", "disk worker") \
    X(NBD, "nbd", "NBD connections") \
    X(NET, "net", "network I/O") \
    X(VNC, "vnc", "VNC server") \
    X(MIGRATE, "migrate", "stream of a saved machine")

enum sandbox_kind {
#define X(id, name, what) SANDBOX_##id,
    SANDBOX_KINDS(X)
#undef X
    SANDBOX_NKINDS
};

/* What only some machines need after set-up; in comments `main+sockets`, `main+unlink`. */
enum sandbox_feature {
    SANDBOX_SOCKETS = 1, /* makes sockets of the host: user-mode network, a client that reconnects */
    SANDBOX_UNLINK = 2,  /* removes files at the end: PID file, UNIX sockets */
    SANDBOX_FILES = 4,   /* opens, makes and removes disk images of the host, when a QMP client says so */
    SANDBOX_NVARIANTS = 8
};

/* As g_thread_new, for a thread of this kind: the only way to start one. Before the sandbox is closed it gets its filter when
 * that happens, after it at once. A thread started by one of its own kind has the filter already. */
GThread *sandbox_thread_new(enum sandbox_kind kind, const char *name, GThreadFunc fn, void *opaque) G_GNUC_WARN_UNUSED_RESULT;

/* To be called at set-up by what will need the feature; without effect once the sandbox is closed. */
void sandbox_need(enum sandbox_feature feature);
/* A file that a library will open for reading later, by exactly this path: it will get what the file holds now (or, when it is
 * written in place, then). One that cannot be opened is forgotten. */
void sandbox_keep_file(const char *path);
/* A capability (linux/capability.h) that is kept, if the process has it: only for what it could not run without. */
void sandbox_keep_capability(unsigned capability);
/* Called in the thread that is about to end the process for a forbidden call; must be async-signal-safe. */
void sandbox_set_last_act(void (*fn)(void));

/* False: this build cannot have a sandbox (sanitizers make calls of their own). */
bool sandbox_possible(GError **error);
/* Gives up all capabilities of the calling thread, and the way to new ones. */
bool sandbox_drop_privileges(GError **error);
/* Closes the sandbox for all threads, the main thread being the caller. When it returns, each has its filter, no capabilities and
 * no_new_privs. Once. */
bool sandbox_close(GError **error);
bool sandbox_closed(void);

/* For what would open files of the host: true while that is possible; afterwards an error that says why not and what to do. */
bool sandbox_may_open(const char *what, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The same for what would make sockets of the host. */
bool sandbox_may_make_sockets(const char *what, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Whether this process may do what the feature is about: the sandbox is open, or was closed with it. */
bool sandbox_has(enum sandbox_feature feature);
/* The same for a disk image that is opened or made by its name; the main thread alone may, with SANDBOX_FILES. */
bool sandbox_may_open_image(const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;
