/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manage/core/manage_shape.h"

#include <string.h>

#include "manage/core/manage.h"
#include "manage/core/manage_run.h"

/* A packet that the kernel has not cut up yet counts whole: with a smaller bucket it would never pass. */
enum { BURST_MIN_KB = 66 };

static const char *const tc[] = { "tc", "-batch", "-", NULL }, *const tc_force[] = { "tc", "-force", "-batch", "-", NULL }, *const nft[] = { "nft", "-f", "-", NULL };

struct manage_rate manage_rate_of(const struct el *e)
{
    struct manage_rate r = { 0 };
    if (e) {
        el_get_u64(e, "@average", &r.average);
        el_get_u64(e, "@peak", &r.peak);
        el_get_u64(e, "@burst", &r.burst);
        el_get_u64(e, "@floor", &r.floor);
    }
    return r;
}

/* A token bucket that all of the device's traffic goes through (tc-htb(8)). */
static bool send_at(const char *device, const struct manage_rate *r, GError **error)
{
    g_autofree char *burst = r->burst ? g_strdup_printf(" burst %" G_GUINT64_FORMAT "kb", r->burst) : g_strdup("");
    g_autofree char *text = g_strdup_printf("qdisc add dev %s root handle 1: htb default 1\n"
                                            "class add dev %s parent 1: classid 1:1 htb rate %" G_GUINT64_FORMAT "kbps ceil %" G_GUINT64_FORMAT "kbps%s\n",
                                            device, device, r->average, MAX(r->peak, r->average), burst);
    return manage_run(tc, text, error);
}

/* tc-police(8). A kernel without it may have nftables' limit. */
static bool receive_at(const char *device, unsigned owner, const struct manage_rate *r, GError **error)
{
    uint64_t burst = MAX(r->burst ? r->burst : r->average, (uint64_t)BURST_MIN_KB);
    g_autoptr(GError) why = NULL;
    g_autofree char *text = g_strdup_printf("qdisc add dev %s ingress\nfilter add dev %s parent ffff: protocol all u32 match u32 0 0 police rate %" G_GUINT64_FORMAT
                                            "kbps burst %" G_GUINT64_FORMAT "kb mtu 128kb drop flowid :1\n", device, device, r->average, burst);
    if (manage_run(tc, text, &why))
        return true;
    g_autofree char *rules = g_strdup_printf("table netdev vireo_%s_%u {\n chain police {\n"
                                             "  type filter hook ingress device \"%s\" priority 0; policy accept;\n"
                                             "  limit rate over %" G_GUINT64_FORMAT "000 bytes/second burst %" G_GUINT64_FORMAT " kbytes drop\n }\n}\n",
                                             device, owner, device, r->average, burst);
    return manage_run(nft, rules, NULL) ||
           manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "what '%s' receives cannot be limited: the kernel needs cls_u32 and act_police, or nftables for netdev: %s", device, why->message);
}

/* The kernel takes nearly any name, these programs' languages do not. */
static bool check_name(const char *device, GError **error)
{
    for (const char *p = device; *p; p++)
        if (!g_ascii_isalnum(*p) && !strchr("_.-", *p))
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the rate of the device '%s' cannot be limited: its name is to have letters, digits, '_', '.' and '-' alone", device);
    return true;
}

void manage_shape_gone(const char *device, unsigned owner)
{
    if (!check_name(device, NULL))
        return;
    g_autofree char *rules = g_strdup_printf("add table netdev vireo_%s_%u\ndelete table netdev vireo_%s_%u\n", device, owner, device, owner);
    (void)!manage_run(nft, rules, NULL);
}

static void end(const char *device, unsigned owner)
{
    g_autofree char *text = g_strdup_printf("qdisc del dev %s root\nqdisc del dev %s ingress\n", device, device);
    (void)!manage_run(tc_force, text, NULL); /* one that is not there is an error to tc */
    manage_shape_gone(device, owner);
}

bool manage_shape(const char *device, unsigned owner, const struct manage_rate *send, const struct manage_rate *receive, GError **error)
{
    if (!check_name(device, error))
        return false;
    end(device, owner);
    if ((!send || !send->average || send_at(device, send, error)) && (!receive || !receive->average || receive_at(device, owner, receive, error)))
        return true;
    end(device, owner);
    return false;
}
