/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Addresses of sockets in the options of back ends, and sockets made of them. All descriptors are non-blocking and close-on-exec. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/socket.h>

struct json_object;
struct keyval;

struct net_address {
    struct sockaddr_storage sa;
    socklen_t len;  /* 0: none */
    int fd;         /* type=fd: the descriptor; else -1 */
    char *text;     /* for messages */
    char *path;     /* of a UNIX socket in the file system; else NULL */
};
#define NET_NO_ADDRESS { .fd = -1 }

void net_address_clear(struct net_address *a); /* the descriptor stays open */
/* "prefix.type=inet|unix|fd" with its members, which are taken out of kv. Without any: ret->len is 0. */
bool net_address_take(struct keyval *kv, const char *prefix, struct net_address *ret, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* "host:port", "[v6]:port", ":port" (passive: any address). */
bool net_address_parse(const char *what, const char *text, bool passive, struct net_address *ret, GError **error) G_GNUC_WARN_UNUSED_RESULT;
struct json_object *net_address_json(const struct net_address *a); /* SocketAddress of QEMU's QMP reference */
bool net_address_multicast(const struct net_address *a); /* IPv4 */

/* -1 with error. */
int net_address_listen(const char *what, const struct net_address *a, GError **error) G_GNUC_WARN_UNUSED_RESULT;
int net_address_connect(const char *what, const struct net_address *a, GError **error) G_GNUC_WARN_UNUSED_RESULT; /* within 10 s */
int net_address_bind(const char *what, const struct net_address *a, GError **error) G_GNUC_WARN_UNUSED_RESULT;    /* datagrams */
