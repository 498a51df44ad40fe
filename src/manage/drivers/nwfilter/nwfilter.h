/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Network filters. A filter is a document of rules and references to other filters (CONFIG/nwfilter/NAME.xml); a binding says which filter is on
 * which tap, with which values for its variables (STATE/nwfilter-binding/TAP.xml). The rules of all bindings are one nftables table of family
 * bridge, which is always replaced as a whole, in one transaction: nothing can be half there, and nothing be left behind.
 *
 * nwfilter_filter.c    filters: define, undefine, list        nwfilter_rules.c   from bindings to rules: the tree of filters, variables, chains
 * nwfilter_check.c     values of rules, brought to one form   nwfilter_text.c    one rule as nftables wants it
 * nwfilter_standard.c  the filters that are there at first    nwfilter_binding.c bindings: calls, and what the domain driver asks
 * nwfilter_learn.c     addresses that nobody gave
 *
 * Locks: `change` is held over every change of filters, bindings and the kernel's rules; `lock`, inside it, for moments over the two tables. Who
 * holds `change` reads the tables without `lock`.
 */
#pragma once

#include "manage/core/manage.h"
#include "manage/core/manage_services.h"
#include "manage/model/doc.h"

struct nwfilter {
    char *name;
    uint8_t uuid[16];
    struct doc *def;
};

enum nwfilter_learn { NW_LEARN_ANY, NW_LEARN_DHCP, NW_LEARN_NONE }; /* CTRL_IP_LEARNING */

struct nwbinding {
    char *port;
    struct doc *def;
    bool domains; /* made for a machine: goes with its tap */
    enum nwfilter_learn mode;
    bool learns;      /* its rules need an address that nobody gave; known when they have been made */
    char *ip;         /* learned; NULL: not yet */
    GSource *learner; /* nwfilter_learn.c; NULL: none */
};

struct nwfilter_driver {
    struct manage_state *state;
    char *config_dir, *state_dir;
    char *table;       /* its name in the kernel */
    GMutex change, lock;
    GHashTable *filters;  /* name -> struct nwfilter */
    GHashTable *bindings; /* port -> struct nwbinding */
    GThreadPool *learned; /* one thread: puts learned addresses in force */
    unsigned rules;       /* how many there are to be; 0: not known */
};

/* ---- filters ---- */

struct nwfilter_driver *nwfilter_driver_of(struct manage_call *c);
void nwfilter_free(gpointer f);
void nwfilter_load(struct nwfilter_driver *dr);
/* The standard filters, where there has never been a directory of filters. */
void nwfilter_standard(struct nwfilter_driver *dr);
/* The one whose file this is, anew; NULL: it is none of them. */
struct nwfilter *nwfilter_standard_again(const char *file);
bool nwfilter_save(struct nwfilter_driver *dr, struct nwfilter *f, GError **error) G_GNUC_WARN_UNUSED_RESULT;
extern const struct manage_row nwfilter_rows_filter[], nwfilter_rows_binding[];

/* ---- documents ---- */

enum nwfilter_kind { NW_ANY, NW_MAC, NW_MACMASK, NW_IP, NW_IPMASK, NW_IP4, NW_IP4MASK, NW_U8, NW_DSCP, NW_U16, NW_VLAN, NW_U32, NW_COUNT, NW_ETHER, NW_PROTOCOL, NW_ARP, NW_BOOL, NW_TCPFLAGS,
                     NW_STATE, NW_IPSET, NW_IPSETFLAGS };
enum nwfilter_kind nwfilter_kind_of(const char *protocol, const char *attribute);
const char *nwfilter_attribute(unsigned i); /* all that have a kind, one after another; NULL: no more */
bool nwfilter_is_ipv6(const char *protocol);
/* A value in its canonical form; NULL: it is none. Free it. */
char *nwfilter_canonical(enum nwfilter_kind kind, bool ipv6, const char *value);
/* Words of L2 and L3 protocols, ARP operations: the number; -1. */
int nwfilter_number(enum nwfilter_kind kind, const char *value);
/* "$NAME", "$NAME[2]", "$NAME[@1]": false: it is no variable. ret_index: that element (-1: all), ret_iterator: which run over the elements. */
bool nwfilter_variable(const char *value, char **ret_name, int *ret_index, unsigned *ret_iterator);
/* Checks a whole filter and brings it to canonical form. */
bool nwfilter_check(struct doc *def, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The priority that belongs to a chain's name by itself, 0 for none. */
int nwfilter_chain_priority(const char *chain);

/* ---- rules ---- */

/* Replaces the kernel's rules by those of all bindings. Under `change`. */
bool nwfilter_apply(struct nwfilter_driver *dr, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The text for nft; NULL: a binding's filter cannot be made into rules. used (may be NULL): set of the names of all filters that take part. */
char *nwfilter_ruleset(struct nwfilter_driver *dr, GHashTable *used, GError **error);
/* Another program may have taken rules away: puts them back. True: it did. */
bool nwfilter_mend(struct manage_state *s);

/* A rule with its variables replaced, as the document's attributes: protocol NULL: any. */
struct nwfilter_rule {
    const char *protocol;
    bool negated, mirrored, layer3;
    const char *state; /* "new,established": what the connection has to be; NULL */
    const char *direction; /* of the connection: "original", "reply"; NULL */
    const char *verdict;
    const struct el *el; /* of the protocol; NULL */
    char *(*value)(void *opaque, const char *attribute); /* NULL: not given. Free it */
    void *opaque;
};
/* Appends one line; false: something of it cannot be done. */
bool nwfilter_rule_text(GString *s, const struct nwfilter_rule *r, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- bindings ---- */

void nwfilter_binding_free(gpointer b);
void nwfilter_binding_load(struct nwfilter_driver *dr);
/* Writes the learned address down. */
bool nwfilter_binding_note(struct nwfilter_driver *dr, const struct nwbinding *b, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- learning: under `change` ---- */

/* Begins and ends it, as the bindings want by now. */
void nwfilter_learn_sync(struct nwfilter_driver *dr);
void nwfilter_learn_end(struct nwbinding *b);
void nwfilter_learn_done(gpointer what, gpointer driver);

void nwfilter_binding_serve(struct nwfilter_driver *dr);
