/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* nftables, for the drivers that have tables there: rules are made by the program nft, as text in one transaction; what is there is asked of the kernel. */
#pragma once

#include <netinet/in.h> /* before the kernel's own */

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>

#include "manage/core/manage_run.h"

#include <stdint.h>

/* One transaction; as of manage_run(). */
bool manage_nft_run(const char *text, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Lists what the kernel has (linux/netfilter/nf_tables.h): `type` NFT_MSG_GET...; false where it does not answer. */
bool manage_nft_dump(unsigned type, unsigned family, void (*each)(void *opaque, const struct nlmsghdr *h), void *opaque) G_GNUC_WARN_UNUSED_RESULT;
/* An attribute of such a message, or inside another (NULL: none); its text (""), its number (0). */
const struct nlattr *manage_nft_attr(const struct nlmsghdr *h, unsigned type);
const struct nlattr *manage_nft_inner(const struct nlattr *a, unsigned type);
const char *manage_nft_text(const struct nlattr *a);
uint32_t manage_nft_u32(const struct nlattr *a);
/* How many rules a table has; -1 where that cannot be known. */
int manage_nft_count(unsigned family, const char *table);
