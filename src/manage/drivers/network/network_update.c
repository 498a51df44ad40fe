/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virNetworkUpdate: one entry of a list in the document is added, changed or removed. One row per kind of entry. */
#include <libvirt/libvirt.h>
#include <string.h>

#include "manage/drivers/network/network.h"

struct section {
    unsigned number;       /* virNetworkUpdateSection */
    const char *parent;    /* path of the element that holds the list; "ip/dhcp": in one of several <ip> */
    const char *element;
    const char *what;      /* in messages */
    bool modify;           /* may be changed in place? */
    const char *const *key;   /* attributes of which one that is the same makes an entry the same, when adding and changing; NULL-terminated */
    bool all;              /* all attributes of `key` that are given must be the same */
};

static const char *const host_key[] = { "@mac", "@id", "@ip", "@name", NULL }, *const range_key[] = { "@start", "@end", NULL };
static const char *const name_key[] = { "@name", NULL }, *const dev_key[] = { "@dev", NULL }, *const ip_key[] = { "@ip", NULL };
static const char *const srv_key[] = { "@service", "@protocol", "@domain", "@target", "@port", "@priority", "@weight", NULL };

static const struct section sections[] = {
    { VIR_NETWORK_SECTION_IP_DHCP_HOST, "ip/dhcp", "host", "dhcp host", true, host_key, false },
    { VIR_NETWORK_SECTION_IP_DHCP_RANGE, "ip/dhcp", "range", "dhcp range", false, range_key, true },
    { VIR_NETWORK_SECTION_FORWARD_INTERFACE, "forward", "interface", "forward interface", false, dev_key, true },
    { VIR_NETWORK_SECTION_PORTGROUP, "", "portgroup", "portgroup", true, name_key, true },
    { VIR_NETWORK_SECTION_DNS_HOST, "dns", "host", "DNS HOST", false, ip_key, true },
    { VIR_NETWORK_SECTION_DNS_TXT, "dns", "txt", "DNS TXT", false, name_key, true },
    { VIR_NETWORK_SECTION_DNS_SRV, "dns", "srv", "DNS SRV", false, srv_key, true },
};

static const struct section *find_section(unsigned number, const char *network, GError **error)
{
    static const char *const names[] = { "(none)", "bridge", "domain", "ip", "ip dhcp host", "ip dhcp range", "forward", "forward interface", "forward pf" };
    for (unsigned i = 0; i < G_N_ELEMENTS(sections); i++)
        if (sections[i].number == number)
            return &sections[i];
    if (number < G_N_ELEMENTS(names))
        return manage_null(error, VIR_ERR_OPERATION_UNSUPPORTED, "can't update '%s' section of network '%s': edit the whole network instead", names[number], network);
    return manage_null(error, VIR_ERR_INVALID_ARG, "section %u of network '%s' is not known", number, network);
}

/* ---- which list ---- */

static bool same_family(const struct el *ip, const struct el *entry)
{
    struct net_addr net, a;
    const char *text = el_get(entry, "@ip");
    if (!text)
        text = el_get(entry, "@start");
    return net_addr_of(ip, "", &net, NULL) && (!text || (net_addr_parse(text, 0, &a) && a.family == net.family));
}

/* The <ip> of an entry: by its index, else the one that has <dhcp> already, else the first of the entry's family. */
static struct el *find_ip(struct el *root, const struct section *s, int index, const struct el *entry, GError **error)
{
    const char *network = el_get(root, "name");
    struct el *found = NULL;
    int i = 0;
    el_each (ip, root, "ip") {
        if (index >= 0 ? i == index : same_family(ip, entry) && (!found || (el_child(ip, "dhcp") && !el_child(found, "dhcp"))))
            found = ip;
        i++;
    }
    if (!found && index >= 0)
        return manage_null(error, VIR_ERR_OPERATION_INVALID, "couldn't update %s entry - no <ip> element found at index %d in network '%s'", s->what, index, network);
    if (!found)
        return manage_null(error, VIR_ERR_OPERATION_INVALID, "couldn't update %s entry - no <ip> element of its family in network '%s'", s->what, network);
    return found;
}

static struct el *child_or_new(struct el *parent, const char *name)
{
    struct el *e = el_child(parent, name);
    return e ? e : el_add(parent, name);
}

static struct el *find_parent(struct el *root, const struct section *s, int index, const struct el *entry, GError **error)
{
    if (!*s->parent)
        return root;
    if (strcmp(s->parent, "ip/dhcp"))
        return child_or_new(root, s->parent);
    struct el *ip = find_ip(root, s, index, entry, error);
    return ip ? child_or_new(ip, "dhcp") : NULL;
}

/* ---- which entry ---- */

static bool same_value(const char *path, const char *a, const char *b)
{
    struct net_addr x, y;
    if (net_addr_parse(a, 0, &x) && net_addr_parse(b, 0, &y))
        return x.family == y.family && !net_addr_compare(&x, &y);
    return !strcmp(path, "@mac") || !strcmp(path, "@id") ? !g_ascii_strcasecmp(a, b) : !strcmp(a, b);
}

/* Do both say the same in one attribute (any) or in each that `wanted` gives (all)? */
static bool matches(const struct section *s, const struct el *e, const struct el *wanted, bool all)
{
    bool some = false;
    for (unsigned i = 0; s->key[i]; i++) {
        const char *a = el_get(e, s->key[i]), *b = el_get(wanted, s->key[i]);
        if (!b)
            continue;
        bool same = a && same_value(s->key[i], a, b);
        if (same && !all)
            return true;
        if (!same && all)
            return false;
        some |= same;
    }
    return some;
}

static bool shares_hostname(const struct el *a, const struct el *b)
{
    el_each (x, a, "hostname")
        el_each (y, b, "hostname")
            if (!g_strcmp0(el_get(x, ""), el_get(y, "")))
                return true;
    return false;
}

static struct el *find_entry(const struct section *s, struct el *parent, const struct el *wanted, bool all)
{
    el_each (e, parent, s->element)
        if (matches(s, e, wanted, all) || (s->number == VIR_NETWORK_SECTION_DNS_HOST && shares_hostname(e, wanted)))
            return e;
    return NULL;
}

/* The entry's own tag, for messages. */
static char *first_line(const struct el *e)
{
    char *text = el_format(e, 0);
    text[strcspn(text, "\n")] = 0;
    return text;
}

static bool found_twice(const struct section *s, struct el *parent, const struct el *entry, const char *network, GError **error)
{
    g_autofree char *text = first_line(entry);
    if (g_str_has_prefix(s->what, "DNS"))
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "there is already at least one %s record with a matching field in network %s: %s", s->what, network, text);
    return manage_fail(error, VIR_ERR_OPERATION_INVALID, "there is an existing %s entry in network '%s' that matches \"%s\"", s->what, network, text);
}

static bool not_found(const struct section *s, const struct el *entry, const char *network, GError **error)
{
    g_autofree char *text = first_line(entry);
    if (s->number == VIR_NETWORK_SECTION_PORTGROUP)
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "couldn't find a portgroup entry in network '%s' matching <portgroup name='%s'>", network,
                           el_get_or(entry, "@name", ""));
    return manage_fail(error, VIR_ERR_OPERATION_INVALID, "couldn't locate a matching %s %s in network '%s': %s", s->what,
                       g_str_has_prefix(s->what, "DNS") ? "record" : "entry", network, text);
}

/* ---- changing ---- */

/* Puts `entry` in the list before `before` (NULL: at the end): what follows is put behind it again. */
static void insert(struct el *parent, const struct section *s, const struct el *entry, struct el *before)
{
    g_autoptr(GPtrArray) behind = g_ptr_array_new();
    for (struct el *e = before; e; e = el_next(e, s->element))
        g_ptr_array_add(behind, e);
    el_copy(parent, entry);
    for (unsigned i = 0; i < behind->len; i++) {
        el_copy(parent, behind->pdata[i]);
        el_remove(behind->pdata[i]);
    }
}

/* forward dev= is the first interface. */
static void follow_forward(struct el *root)
{
    struct el *forward = el_child(root, "forward");
    if (forward)
        el_set(forward, "@dev", el_get(forward, "interface/@dev"));
}

static bool change(const struct section *s, struct el *parent, const struct el *entry, unsigned command, const char *network, GError **error)
{
    struct el *old;
    switch (command) {
    case VIR_NETWORK_UPDATE_COMMAND_ADD_FIRST:
    case VIR_NETWORK_UPDATE_COMMAND_ADD_LAST:
        if (find_entry(s, parent, entry, s->all))
            return found_twice(s, parent, entry, network, error);
        insert(parent, s, entry, command == VIR_NETWORK_UPDATE_COMMAND_ADD_FIRST ? el_child(parent, s->element) : NULL);
        return true;
    case VIR_NETWORK_UPDATE_COMMAND_MODIFY:
        if (!s->modify)
            return manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "%s%s cannot be modified, only added or deleted", s->what,
                               g_str_has_prefix(s->what, "DNS") ? " records" : "s");
        if (!(old = find_entry(s, parent, entry, s->all)))
            return not_found(s, entry, network, error);
        insert(parent, s, entry, el_next(old, s->element));
        el_remove(old);
        return true;
    case VIR_NETWORK_UPDATE_COMMAND_DELETE:
        if (!(old = find_entry(s, parent, entry, s->number != VIR_NETWORK_SECTION_DNS_HOST)))
            return not_found(s, entry, network, error);
        el_remove(old);
        return true;
    default:
        return manage_fail(error, VIR_ERR_INVALID_ARG, "unrecognized network update command code %u", command);
    }
}

/* The parent that was made for the search is not left empty. */
static void drop_parent(struct el *parent, const struct el *root)
{
    const char *name = el_name(parent);
    bool attributes = !strcmp(name, "dns") && (el_get(parent, "@enable") || el_get(parent, "@forwardPlainNames"));
    if (parent != root && (!strcmp(name, "dns") || !strcmp(name, "dhcp")) && !el_child(parent, NULL) && !attributes)
        el_remove(parent);
}

/* Where in the schema the entry stands, for its parsing: the list's own path. */
static struct doc *parse_entry(const struct section *s, const char *xml, const char *network, GError **error)
{
    struct doc *entry = doc_parse_at(&schema_network, s->parent, xml, -1, error);
    if (entry && strcmp(el_name(doc_root(entry)), s->element)) {
        manage_fail(error, VIR_ERR_XML_ERROR, "unexpected element <%s>, expecting <%s>, while updating network '%s'", el_name(doc_root(entry)), s->element, network);
        doc_free(entry);
        return NULL;
    }
    return entry;
}

bool network_update_doc(struct doc *d, unsigned command, unsigned number, int index, const char *xml, GError **error)
{
    struct el *root = doc_root(d);
    const char *network = el_get(root, "name");
    const struct section *s = find_section(number, network, error);
    doc_auto *parsed = s ? parse_entry(s, xml, network, error) : NULL;
    if (!parsed)
        return false;
    const struct el *entry = doc_root(parsed);
    if (s->number == VIR_NETWORK_SECTION_FORWARD_INTERFACE && !el_child(root, "forward"))
        return manage_fail(error, VIR_ERR_OPERATION_INVALID, "network '%s' has no <forward>: an isolated network has no way out", network);
    struct el *parent = find_parent(root, s, index, entry, error);
    if (!parent)
        return false;
    bool ok = change(s, parent, entry, command, network, error);
    if (s->number == VIR_NETWORK_SECTION_FORWARD_INTERFACE)
        follow_forward(root);
    drop_parent(parent, root);
    return ok && network_check(d, error);
}
