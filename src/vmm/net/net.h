/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Network back ends. A frame is an Ethernet frame without FCS. A back end calls the attached front end's `receive`
 * on the main thread; net_send may be called on any thread (queued to the main thread where the library needs it).
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct net_backend;
struct net_frontend {
    bool (*can_receive)(void *opaque);
    void (*receive)(void *opaque, const uint8_t *frame, size_t n);
};
/* -netdev user,id=ID,... (opts: strings by key; repeated hostfwd in a GPtrArray of char *). Other types: an error that says
 * what there is. */
struct net_backend *net_backend_create(const char *type, const char *id, GHashTable *opts, GPtrArray *hostfwd, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
void net_backend_destroy(struct net_backend *b);
bool net_backend_attach(struct net_backend *b, const struct net_frontend *f, void *opaque, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void net_backend_detach(struct net_backend *b);
void net_send(struct net_backend *b, const uint8_t *frame, size_t n);
void net_receive_ready(struct net_backend *b); /* the front end has buffers again */
const char *net_backend_id(const struct net_backend *b);
