/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What must not be there twice in one domain. */
#include "manage/drivers/domain/complete/domain_complete.h"

static char *key_target(const struct el *e) { return g_strdup(el_get(e, "target/@dev")); }
static char *key_mac(const struct el *e) { return el_get(e, "mac/@address") ? g_ascii_strdown(el_get(e, "mac/@address"), -1) : NULL; }
static char *key_boot(const struct el *e) { return g_strdup(el_get(e, "boot/@order")); }
static char *key_channel(const struct el *e)
{
    return el_is(e, "target/@type", "virtio") && el_get(e, "target/@name") ? g_strdup(el_get(e, "target/@name")) : NULL;
}
static char *key_port(const struct el *e) { return g_strdup(el_get(e, "target/@port")); }
static char *key_wwn(const struct el *e) { return g_strdup(el_get(e, "wwn")); }
static char *key_alias(const struct el *e)
{
    const char *a = el_get(e, "alias/@name");
    return a && g_str_has_prefix(a, "ua-") ? g_strdup(a) : NULL;
}
static char *key_controller(const struct el *e)
{
    const char *model = el_get_or(e, "@model", "");
    bool companion = g_str_has_prefix(model, "ich9-uhci") || g_str_has_prefix(model, "ich9-ehci");
    return g_strconcat(el_get_or(e, "@type", ""), " ", el_get_or(e, "@index", ""), companion ? model : "", NULL);
}
static char *key_address(const struct el *e)
{
    const struct el *a = el_find(e, "address");
    const char *type = a ? el_get_or(a, "@type", "") : "";
    if (g_str_equal(type, "pci"))
        return g_strconcat("pci ", el_get_or(a, "@domain", "0x0000"), ":", el_get_or(a, "@bus", "0x00"), ":", el_get_or(a, "@slot", "0x00"), ".", el_get_or(a, "@function", "0x0"), NULL);
    if (g_str_equal(type, "drive") && g_str_equal(el_name(e), "disk"))
        return g_strdup_printf("drive %s %s:%s:%s:%s", el_get_or(e, "target/@bus", ""), el_get_or(a, "@controller", "0"), el_get_or(a, "@bus", "0"), el_get_or(a, "@target", "0"),
                               el_get_or(a, "@unit", "0"));
    if (g_str_equal(type, "virtio-serial") || g_str_equal(type, "usb") || g_str_equal(type, "ccid"))
        return g_strdup_printf("%s %s:%s:%s", type, el_get_or(a, "@controller", ""), el_get_or(a, "@bus", "0"), el_get_or(a, "@port", ""));
    if (g_str_equal(type, "dimm"))
        return g_strdup_printf("dimm %s", el_get_or(a, "@slot", ""));
    return NULL;
}

static const struct {
    const char *element; /* NULL: all devices */
    char *(*key)(const struct el *e); /* what must differ, NULL: nothing; free it */
    const char *what;
} unique[] = {
    { "disk", key_target, "the target" }, { "disk", key_wwn, "the WWN" },         { "interface", key_mac, "the MAC address" }, { NULL, key_boot, "the boot order" },
    { "channel", key_channel, "the channel name" }, { "serial", key_port, "the port" }, { "parallel", key_port, "the port" }, { "controller", key_controller, "type and index" },
    { NULL, key_address, "the address" }, { NULL, key_alias, "the alias" },
};

bool domain_complete_check(struct domain_complete *c, GError **error)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(unique); i++) {
        g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        el_each(e, c->devices, unique[i].element) {
            char *key = unique[i].key(e);
            struct el *other = key ? g_hash_table_lookup(seen, key) : NULL;
            if (other) {
                g_autofree char *k = key;
                return manage_fail(error, VIR_ERR_XML_ERROR, "%s '%s' is used twice: by <%s>%s and <%s>%s", unique[i].what, k, el_name(other), domain_line(other), el_name(e),
                                   domain_line(e));
            }
            if (key)
                g_hash_table_insert(seen, key, e);
        }
    }
    return true;
}
