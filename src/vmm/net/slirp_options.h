/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The options of -netdev user. */
#pragma once

#include <glib.h>
#include <netinet/in.h>
#include <slirp/libslirp.h>
#include <stdbool.h>

struct slirp_forward {
    bool udp;
    struct in_addr host, guest; /* guest 0.0.0.0: the address that DHCP gives first */
    uint16_t host_port, guest_port;
};

/* Fills the configuration; its texts are those of `opts`. */
bool slirp_options_parse(GHashTable *opts, SlirpConfig *ret, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* "(tcp|udp):[hostaddr]:hostport-[guestaddr]:guestport"; no protocol: tcp. */
bool slirp_forward_parse(const char *text, struct slirp_forward *ret, GError **error) G_GNUC_WARN_UNUSED_RESULT;
