/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What nftables has, asked by netlink. */
#include "manage/core/manage_nft.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The attribute of a message, or of a nest; NULL. */
static const struct nlattr *find_attr(const char *at, const char *end, unsigned type)
{
    while (at + NLA_HDRLEN <= end) {
        const struct nlattr *a = (const struct nlattr *)at;
        if (a->nla_len < NLA_HDRLEN || a->nla_len > end - at)
            return NULL;
        if ((a->nla_type & NLA_TYPE_MASK) == type)
            return a;
        at += NLA_ALIGN(a->nla_len);
    }
    return NULL;
}

const struct nlattr *manage_nft_attr(const struct nlmsghdr *h, unsigned type)
{
    return find_attr((const char *)h + NLMSG_LENGTH(sizeof(struct nfgenmsg)), (const char *)h + h->nlmsg_len, type);
}

const struct nlattr *manage_nft_inner(const struct nlattr *a, unsigned type)
{
    return a ? find_attr((const char *)a + NLA_HDRLEN, (const char *)a + a->nla_len, type) : NULL;
}

const char *manage_nft_text(const struct nlattr *a)
{
    const char *text = a ? (const char *)a + NLA_HDRLEN : "";
    return a && a->nla_len > NLA_HDRLEN && !((const char *)a)[a->nla_len - 1] ? text : "";
}

uint32_t manage_nft_u32(const struct nlattr *a)
{
    uint32_t v = 0;
    if (a && a->nla_len >= NLA_HDRLEN + 4)
        memcpy(&v, (const char *)a + NLA_HDRLEN, 4);
    return ntohl(v);
}

bool manage_nft_dump(unsigned type, unsigned family, void (*each)(void *opaque, const struct nlmsghdr *h), void *opaque)
{
    struct { struct nlmsghdr h; struct nfgenmsg g; } request = { { sizeof request, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), NLM_F_REQUEST | NLM_F_DUMP, 1, 0 },
                                                                 { (uint8_t)family, NFNETLINK_V0, 0 } };
    g_autofree char *buffer = g_malloc(65536);
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
    struct timeval wait = { 5, 0 };
    bool ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) == 0 && send(fd, &request, sizeof request, 0) >= 0, done = false;
    while (ok && !done) {
        ssize_t got = recv(fd, buffer, 65536, 0);
        unsigned left = got > 0 ? (unsigned)got : 0;
        ok = got > 0 || (got < 0 && errno == EINTR);
        for (struct nlmsghdr *h = (struct nlmsghdr *)buffer; NLMSG_OK(h, left) && !done; h = NLMSG_NEXT(h, left)) {
            done = h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR;
            if (!done && h->nlmsg_len >= NLMSG_LENGTH(sizeof(struct nfgenmsg)))
                each(opaque, h);
        }
    }
    if (fd >= 0)
        close(fd);
    return ok;
}

struct count {
    const char *table;
    int n;
};

static void count_rule(void *opaque, const struct nlmsghdr *h)
{
    struct count *c = opaque;
    c->n += !strcmp(manage_nft_text(manage_nft_attr(h, NFTA_RULE_TABLE)), c->table);
}

int manage_nft_count(unsigned family, const char *table)
{
    struct count c = { table, 0 };
    return manage_nft_dump(NFT_MSG_GETRULE, family, count_rule, &c) ? c.n : -1;
}

bool manage_nft_run(const char *text, GError **error)
{
    static const char *const nft[] = { "nft", "-f", "-", NULL };
    return manage_run(nft, text, error);
}
