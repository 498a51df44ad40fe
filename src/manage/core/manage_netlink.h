/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* rtnetlink(7): requests are built on the stack, each goes by a socket of its own; and what both drivers of networks and domains do with the host's devices. */
#pragma once

#include <glib.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <stdint.h>

struct netlink_request {
    struct nlmsghdr h;
    char data[1024];
};

void netlink_begin(struct netlink_request *r, unsigned short type, unsigned short flags);
void *netlink_payload(struct netlink_request *r, unsigned size); /* room for the family's header */
struct rtattr *netlink_attr(struct netlink_request *r, unsigned short type, const void *data, unsigned size);
void netlink_attr_u32(struct netlink_request *r, unsigned short type, uint32_t v);
struct rtattr *netlink_nest(struct netlink_request *r, unsigned short type);
void netlink_nest_end(struct netlink_request *r, struct rtattr *a);
int netlink_socket(void); /* -1: errno */
/* Sends and waits for the acknowledgement: 0 or an errno value. */
int netlink_transact(struct netlink_request *r);

bool manage_mac_parse(const char *text, uint8_t mac[6]);
bool manage_link_exists(const char *name);
bool manage_link_delete(const char *name, GError **error); /* one that is not there is fine */
bool manage_link_up(const char *name, bool up, GError **error) G_GNUC_WARN_UNUSED_RESULT;
char *manage_link_mac(const char *name); /* NULL: no such link */
struct manage_link_stats {
    uint64_t received[4], sent[4]; /* bytes, packets, errors, dropped */
};
bool manage_link_stats(const char *name, struct manage_link_stats *ret); /* false: no such link */
