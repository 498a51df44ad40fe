/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whom a client wants to reach, and how: libvirt's URIs. */
#pragma once

#include <glib.h>

struct rpc_uri {
    char *text;      /* as given, after aliases */
    char *driver;    /* "vireo", "qemu", "test" */
    char *transport; /* "unix", "tcp", "ssh", "ext", "tls"; NULL: none named */
    char *user, *host, *path;
    int port;        /* 0: none */
    GHashTable *query; /* name -> value */
    char *remote;    /* what the daemon is asked for: without transport and the library's own parameters */
};
/* Errors: VIR_ERR_INVALID_ARG that names what is wrong. */
struct rpc_uri *rpc_uri_parse(const char *text, GError **error);
void rpc_uri_free(struct rpc_uri *u);
const char *rpc_uri_query(const struct rpc_uri *u, const char *name); /* NULL: not there */
