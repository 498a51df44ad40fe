/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From bindings to nftables. A binding's filter is a tree of filters; all their rules are collected, with the values that their variables have there. Two
 * layers see each frame one after the other, and both must let it pass: rules about frames (mac, vlan, stp, arp, rarp, ip, ipv6, or nothing), grouped
 * in chains that the root chain enters by EtherType in the order of their priorities; and rules about connections (tcp, udp, icmp ...) in one chain.
 * Each has a chain for what comes out of the guest and one for what goes into it.
 */
#include <stdlib.h>
#include <string.h>

#include "manage/core/manage_nft.h"
#include "manage/drivers/nwfilter/nwfilter.h"

enum { DEPTH_MAX = 64, RULES_MAX = 20000, ITERATORS_MAX = 8 };

struct instance {
    const struct el *rule, *protocol; /* protocol: NULL where the rule has none */
    const char *chain;
    int chain_priority, priority;
    bool layer3;
    GHashTable *vars; /* name -> GPtrArray of strings */
};

struct collection {
    struct nwfilter_driver *dr;
    GPtrArray *all; /* struct instance */
    GHashTable *used;
};

static void instance_free(gpointer opaque)
{
    struct instance *i = opaque;
    g_hash_table_unref(i->vars);
    g_free(i);
}

/* ---- variables ---- */

static void list_free(gpointer list) { g_ptr_array_unref(list); }

/* The parameters of a reference, over which those go that were given further outside. */
static GHashTable *vars_new(const struct el *ref, GHashTable *outer)
{
    GHashTable *vars = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, list_free);
    GHashTableIter i;
    gpointer key, value;
    el_each (p, ref, "parameter") {
        const char *name = el_get_or(p, "@name", "");
        GPtrArray *list = g_hash_table_lookup(vars, name);
        if (!list) {
            list = g_ptr_array_new_with_free_func(g_free);
            g_hash_table_insert(vars, g_strdup(name), list);
        }
        g_ptr_array_add(list, g_strdup(el_get_or(p, "@value", "")));
    }
    if (outer)
        g_hash_table_iter_init(&i, outer);
    while (outer && g_hash_table_iter_next(&i, &key, &value))
        g_hash_table_replace(vars, g_strdup(key), g_ptr_array_ref(value));
    return vars;
}

/* ---- collecting ---- */

static void add_rule(struct collection *c, const struct el *root, const struct el *rule, GHashTable *vars)
{
    static const char *const frames[] = { "mac", "vlan", "stp", "arp", "rarp", "ip", "ipv6", NULL };
    struct instance *i = g_new0(struct instance, 1);
    const char *own = el_get(root, "@priority");
    i->rule = rule;
    i->protocol = el_child(rule, NULL);
    i->chain = el_get_or(root, "@chain", "root");
    i->chain_priority = own ? atoi(own) : 0;
    i->priority = atoi(el_get_or(rule, "@priority", "500"));
    i->layer3 = i->protocol && !g_strv_contains(frames, el_name(i->protocol));
    i->vars = g_hash_table_ref(vars);
    g_ptr_array_add(c->all, i);
}

static bool collect(struct collection *c, const char *name, GHashTable *vars, unsigned depth, GError **error)
{
    const struct nwfilter *f = g_hash_table_lookup(c->dr->filters, name);
    if (c->used)
        g_hash_table_add(c->used, g_strdup(name));
    if (!f)
        return manage_fail(error, VIR_ERR_INTERNAL_ERROR, "referenced filter '%s' is missing", name);
    if (depth > DEPTH_MAX || c->all->len > RULES_MAX)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "filter '%s' refers to too many others", name);
    bool good = true;
    for (struct el *e = el_child(doc_root(f->def), NULL); e && good; e = el_next(e, NULL)) {
        if (!strcmp(el_name(e), "rule"))
            add_rule(c, doc_root(f->def), e, vars);
        if (strcmp(el_name(e), "filterref"))
            continue;
        g_autoptr(GHashTable) inner = vars_new(e, vars);
        good = collect(c, el_get_or(e, "@filter", ""), inner, depth + 1, error);
    }
    return good;
}

/* ---- one rule for each combination of values ---- */

struct expansion {
    const struct instance *i;
    struct { unsigned id, length, at; } iterators[ITERATORS_MAX];
    unsigned n;
    GError **error;
    bool failed;
};

static const char *unresolved(struct expansion *x, const char *name)
{
    if (!x->failed)
        manage_fail(x->error, VIR_ERR_INTERNAL_ERROR, "Cannot instantiate filter due to unresolvable variables or unavailable list elements: %s", name);
    x->failed = true;
    return NULL;
}

/* What stands for a variable now; NULL: nothing does, which is an error. */
static const char *resolve(struct expansion *x, const char *name, int index, unsigned iterator)
{
    GPtrArray *list = g_hash_table_lookup(x->i->vars, name);
    if (!list || (index >= 0 && (unsigned)index >= list->len))
        return unresolved(x, name);
    if (index >= 0)
        return list->pdata[index];
    for (unsigned k = 0; k < x->n; k++)
        if (x->iterators[k].id == iterator)
            return x->iterators[k].at < list->len ? list->pdata[x->iterators[k].at] : unresolved(x, name);
    return unresolved(x, name);
}

/* Values of variables come from documents of others: only what its kind allows gets into the rules. */
static char *value_of(void *opaque, const char *attribute)
{
    struct expansion *x = opaque;
    const char *protocol = el_name(x->i->protocol);
    g_autofree char *path = g_strconcat("@", attribute, NULL), *name = NULL;
    const char *text = el_get(x->i->protocol, path), *value = text;
    int index;
    unsigned iterator;
    if (text && nwfilter_variable(text, &name, &index, &iterator))
        value = resolve(x, name, index, iterator);
    if (!value)
        return NULL;
    char *form = nwfilter_canonical(nwfilter_kind_of(protocol, attribute), nwfilter_is_ipv6(protocol), value);
    if (!form && !x->failed) {
        manage_fail(x->error, VIR_ERR_INTERNAL_ERROR, "%s has illegal value %s", attribute, value);
        x->failed = true;
    }
    return form;
}

static bool add_iterator(struct expansion *x, unsigned id, const char *name)
{
    GPtrArray *list = g_hash_table_lookup(x->i->vars, name);
    if (!list)
        return unresolved(x, name) != NULL;
    for (unsigned k = 0; k < x->n; k++)
        if (x->iterators[k].id == id) {
            x->iterators[k].length = MAX(x->iterators[k].length, list->len); /* a shorter list is told when its end is reached */
            return true;
        }
    if (x->n == ITERATORS_MAX)
        return manage_fail(x->error, VIR_ERR_CONFIG_UNSUPPORTED, "a rule of a network filter has more than %d iterators", ITERATORS_MAX);
    x->iterators[x->n].id = id;
    x->iterators[x->n++].length = list->len;
    return true;
}

static bool find_iterators(struct expansion *x)
{
    const char *attribute;
    for (unsigned k = 0; x->i->protocol && (attribute = nwfilter_attribute(k)); k++) {
        g_autofree char *path = g_strconcat("@", attribute, NULL), *name = NULL;
        const char *text = el_get(x->i->protocol, path);
        int index;
        unsigned iterator;
        if (text && nwfilter_variable(text, &name, &index, &iterator) && index < 0 && !add_iterator(x, iterator, name))
            return false;
    }
    return true;
}

static bool next(struct expansion *x)
{
    for (unsigned k = 0; k < x->n; k++) {
        if (++x->iterators[k].at < x->iterators[k].length)
            return true;
        x->iterators[k].at = 0;
    }
    return false;
}

/* ---- directions ---- */

/* How a rule stands on one side of the guest; false: not at all. */
static bool on_side(const struct instance *i, bool from_guest, struct nwfilter_rule *r)
{
    const char *direction = el_get_or(i->rule, "@direction", "inout"), *action = el_get_or(i->rule, "@action", "accept");
    bool inout = !strcmp(direction, "inout"), written = inout ? !from_guest : !strcmp(direction, "out") == from_guest;
    const char *state = i->layer3 ? el_get(i->protocol, "@state") : NULL, *name = i->protocol ? el_name(i->protocol) : "";
    bool typed = g_str_has_prefix(name, "icmp") && (el_get(i->protocol, "@type") || el_get(i->protocol, "@code"));
    bool stateful = i->layer3 && !inout && !strcmp(action, "accept") && !el_is(i->rule, "@statematch", "false") && !el_get(i->protocol, "@connlimit-above");
    r->layer3 = i->layer3;
    r->mirrored = !written;
    r->protocol = i->protocol ? name : NULL;
    r->negated = el_is(i->protocol, "@match", "no");
    r->el = i->protocol;
    r->state = r->direction = NULL;
    r->verdict = strcmp(action, "reject") ? action : i->layer3 && from_guest ? "reject with icmpx port-unreachable" : "drop";
    if (!written && !inout && (!i->layer3 || typed || state))
        return false;
    if (state && strcmp(state, "NONE"))
        r->state = state; /* in lower case: the caller */
    else if (!state && stateful) {
        r->state = written ? "new,established" : "established";
        r->direction = typed ? NULL : written ? "original" : "reply";
    }
    return true;
}

static bool rule_lines(const struct instance *i, bool from_guest, GString *s, GError **error)
{
    struct expansion x = { .i = i, .error = error };
    struct nwfilter_rule r = { .value = value_of, .opaque = &x };
    if (!on_side(i, from_guest, &r))
        return true;
    g_autofree char *state = r.state ? g_ascii_strdown(r.state, -1) : NULL;
    r.state = state;
    if (!find_iterators(&x))
        return false;
    do {
        if (!nwfilter_rule_text(s, &r, x.failed ? NULL : error) || x.failed)
            return false;
        if (s->len > (4u << 20))
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "the variables of a network filter make too many rules");
    } while (next(&x));
    return true;
}

/* ---- chains ---- */

/* A rule of a chain, or the way into one: what is to be put in order. */
struct entry {
    int priority;
    char *text;
};

static void entry_free(gpointer opaque)
{
    g_free(((struct entry *)opaque)->text);
    g_free(opaque);
}

static int by_priority(gconstpointer a, gconstpointer b)
{
    int x = (*(struct entry *const *)a)->priority, y = (*(struct entry *const *)b)->priority;
    return (x > y) - (x < y);
}

static void add_entry(GPtrArray *list, int priority, char *text)
{
    struct entry *e = g_new(struct entry, 1);
    *e = (struct entry){ priority, text };
    g_ptr_array_add(list, e);
}

static void add_chain(GString *s, const char *name, GPtrArray *entries)
{
    g_ptr_array_sort(entries, by_priority);
    g_string_append_printf(s, "  chain %s {\n", name);
    for (unsigned i = 0; i < entries->len; i++)
        g_string_append(s, ((struct entry *)entries->pdata[i])->text);
    g_string_append(s, "  }\n");
}

/* Which frames a chain is for. */
static const char *chain_match(const char *chain)
{
    static const struct { const char *prefix, *match; } rows[] = { { "vlan", "ether type 0x8100 " }, { "stp", "ether daddr 01:80:c2:00:00:00 " }, { "arp", "ether type 0x0806 " },
                                                                   { "rarp", "ether type 0x8035 " }, { "ipv4", "ether type 0x0800 " }, { "ipv6", "ether type 0x86dd " } };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
        if (g_str_has_prefix(chain, rows[i].prefix))
            return rows[i].match;
    return "";
}

/* The chains of one side and layer; true with *ret_any where there are any rules. Their names are numbers: nothing of a document's. */
static bool side_chains(GPtrArray *all, bool layer3, bool from_guest, const char *root_name, GString *s, bool *ret_any, GError **error)
{
    g_autoptr(GPtrArray) root = g_ptr_array_new_with_free_func(entry_free);
    g_autoptr(GHashTable) done = g_hash_table_new(g_str_hash, g_str_equal);
    *ret_any = false;
    for (unsigned k = 0; k < all->len; k++) {
        const struct instance *first = all->pdata[k];
        bool plain = layer3 || !strcmp(first->chain, "root");
        if (first->layer3 != layer3 || (!plain && !g_hash_table_add(done, (gpointer)first->chain)))
            continue;
        g_autoptr(GPtrArray) own = g_ptr_array_new_with_free_func(entry_free);
        for (unsigned n = k; n < (plain ? k + 1 : all->len); n++) {
            const struct instance *i = all->pdata[n];
            if (i->layer3 != layer3 || strcmp(i->chain, first->chain))
                continue;
            g_autoptr(GString) lines = g_string_new(NULL);
            if (!rule_lines(i, from_guest, lines, error))
                return false;
            if (lines->len)
                add_entry(plain ? root : own, i->priority, g_strdup(lines->str));
        }
        if (!own->len)
            continue;
        g_autofree char *name = g_strdup_printf("%s_%u", root_name, g_hash_table_size(done));
        add_chain(s, name, own);
        add_entry(root, first->chain_priority, g_strdup_printf("    %sjump %s\n", chain_match(first->chain), name));
    }
    if (root->len)
        add_chain(s, root_name, root);
    *ret_any = root->len > 0;
    return true;
}

/* ---- the table ---- */

static const struct { const char *name, *hook, *key; int priority; bool layer3, from_guest; } bases[] = {
    { "from", "prerouting", "iifname", -300, false, true },
    { "from3", "prerouting", "iifname", -150, true, true }, /* behind the tracking of connections */
    { "to", "postrouting", "oifname", 0, false, false },
    { "to3", "postrouting", "oifname", 100, true, false },
};

static bool uses_ip(const struct instance *i)
{
    const char *attribute;
    for (unsigned k = 0; i->protocol && (attribute = nwfilter_attribute(k)); k++) {
        g_autofree char *path = g_strconcat("@", attribute, NULL), *name = NULL;
        const char *text = el_get(i->protocol, path);
        int index;
        unsigned iterator;
        if (text && nwfilter_variable(text, &name, &index, &iterator) && !strcmp(name, "IP"))
            return true;
    }
    return false;
}

/* Until the guest's address is known: its own MAC address, IPv4 and ARP; or DHCP alone. */
static void waiting_chains(const struct nwbinding *b, unsigned number, GString *s, GString *const *maps)
{
    const char *mac = el_get_or(doc_root(b->def), "mac/@address", "");
    g_string_append_printf(maps[0], "%s\"%s\" : jump from_%u", maps[0]->len ? ", " : "", b->port, number);
    g_string_append_printf(s, "  chain from_%u {\n    ether saddr != %s drop\n", number, mac);
    if (b->mode == NW_LEARN_ANY) {
        g_string_append(s, "    ether type 0x0800 accept\n    ether type 0x0806 accept\n    drop\n  }\n");
        return;
    }
    g_string_append(s, "    ether type 0x0800 meta l4proto 17 @th,0,16 68 @th,16,16 67 accept\n    drop\n  }\n");
    g_string_append_printf(maps[2], "%s\"%s\" : jump to_%u", maps[2]->len ? ", " : "", b->port, number);
    g_string_append_printf(s, "  chain to_%u {\n    ether type 0x0800 meta l4proto 17 @th,0,16 67 @th,16,16 68 accept\n    drop\n  }\n", number);
}

/* The address as if it had been given. */
static void add_learned(GHashTable *vars, const char *ip)
{
    GPtrArray *list = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(list, g_strdup(ip));
    g_hash_table_insert(vars, g_strdup("IP"), list);
}

static bool binding_chains(struct nwfilter_driver *dr, struct nwbinding *b, unsigned number, GString *s, GString *const *maps, GHashTable *used, GError **error)
{
    const struct el *ref = el_find(doc_root(b->def), "filterref");
    struct collection c = { dr, g_ptr_array_new_with_free_func(instance_free), used };
    g_autoptr(GPtrArray) all = c.all;
    g_autoptr(GHashTable) vars = vars_new(ref, NULL);
    bool given = g_hash_table_contains(vars, "IP");
    if (!given && b->ip)
        add_learned(vars, b->ip);
    bool good = collect(&c, el_get_or(ref, "@filter", ""), vars, 0, error);
    b->learns = false;
    for (unsigned i = 0; i < all->len && !given && b->mode != NW_LEARN_NONE; i++)
        b->learns |= uses_ip(all->pdata[i]) && (b->ip || !g_hash_table_contains(((struct instance *)all->pdata[i])->vars, "IP"));
    if (good && b->learns && !b->ip) {
        waiting_chains(b, number, s, maps);
        return true;
    }
    for (unsigned i = 0; good && i < G_N_ELEMENTS(bases); i++) {
        g_autofree char *root = g_strdup_printf("%s_%u", bases[i].name, number);
        bool any;
        good = side_chains(all, bases[i].layer3, bases[i].from_guest, root, s, &any, error);
        if (good && any)
            g_string_append_printf(maps[i], "%s\"%s\" : jump %s", maps[i]->len ? ", " : "", b->port, root);
    }
    return good;
}

static void add_base(GString *s, unsigned i, const GString *map)
{
    if (!map->len)
        return;
    g_string_append_printf(s, "  map %s_ports {\n    type ifname : verdict\n    elements = { %s }\n  }\n", bases[i].name, map->str);
    g_string_append_printf(s, "  chain %s {\n    type filter hook %s priority %d; policy accept;\n    %s vmap @%s_ports\n  }\n", bases[i].name, bases[i].hook, bases[i].priority, bases[i].key,
                           bases[i].name);
}

char *nwfilter_ruleset(struct nwfilter_driver *dr, GHashTable *used, GError **error)
{
    g_autoptr(GString) s = g_string_new(NULL);
    GString *maps[G_N_ELEMENTS(bases)];
    GList *all = g_list_sort(g_hash_table_get_keys(dr->bindings), (GCompareFunc)strcmp);
    unsigned number = 0;
    bool good = true;
    for (unsigned i = 0; i < G_N_ELEMENTS(bases); i++)
        maps[i] = g_string_new(NULL);
    g_string_append_printf(s, "table bridge %s { }\ndelete table bridge %s\n", dr->table, dr->table);
    if (all)
        g_string_append_printf(s, "table bridge %s {\n", dr->table);
    for (GList *l = all; l && (good || used); l = l->next, number++) {
        g_autoptr(GError) why = NULL;
        bool ok = binding_chains(dr, g_hash_table_lookup(dr->bindings, l->data), number, s, maps, used, &why);
        if (!ok && good)
            g_propagate_error(error, g_steal_pointer(&why));
        good &= ok;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(bases); i++) {
        add_base(s, i, maps[i]);
        g_string_free(maps[i], TRUE);
    }
    if (all)
        g_string_append(s, "}\n");
    g_list_free(all);
    return good ? g_strdup(s->str) : NULL;
}

bool nwfilter_apply(struct nwfilter_driver *dr, GError **error)
{
    int have = manage_nft_count(NFPROTO_BRIDGE, dr->table);
    if (!g_hash_table_size(dr->bindings) && have <= 0) {
        dr->rules = 0;
        return true;
    }
    g_autofree char *text = nwfilter_ruleset(dr, NULL, error);
    g_autoptr(GError) why = NULL;
    if (!text)
        return false;
    if (!manage_nft_run(text, &why))
        return manage_fail(error, why->code, "the rules of network filters cannot be made: %s", why->message);
    have = manage_nft_count(NFPROTO_BRIDGE, dr->table);
    dr->rules = have > 0 ? (unsigned)have : 0;
    nwfilter_learn_sync(dr);
    return true;
}

bool nwfilter_mend(struct manage_state *s)
{
    struct nwfilter_driver *dr = manage_data(s, "nwfilter");
    g_autoptr(GError) error = NULL;
    g_mutex_lock(&dr->change);
    int have = dr->rules ? manage_nft_count(NFPROTO_BRIDGE, dr->table) : -1;
    bool lost = have >= 0 && (unsigned)have != dr->rules;
    if (lost) {
        g_message("the rules of network filters were taken away by another program and are put back");
        if (!nwfilter_apply(dr, &error))
            g_warning("%s", error->message);
    }
    g_mutex_unlock(&dr->change);
    return lost;
}
