/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where memory and threads lie on the host, and the guest's NUMA nodes: what was left out, and what must fit together. */
#include "manage/drivers/domain/complete/domain_complete.h"

#include <stdlib.h>

static bool has_cell(const struct el *root, uint64_t id)
{
    el_each(cell, el_find(root, "cpu/numa"), "cell")
        if (domain_number(cell, "@id", UINT64_MAX) == id)
            return true;
    return false;
}

static bool complete_numatune(struct domain_complete *c, GError **error)
{
    struct el *vcpu = el_find(c->root, "vcpu"), *tune = el_find(c->root, "numatune"), *memory = el_find(tune, "memory");
    if (memory && el_is(memory, "@placement", "auto") && !(vcpu && el_get(vcpu, "@cpuset")))
        el_set(c->root, "vcpu/@placement", "auto");
    if (vcpu && el_is(vcpu, "@placement", "auto")) {
        el_set(vcpu, "@cpuset", NULL);
        if (!memory) {
            el_set(c->root, "numatune/memory/@placement", "auto");
            tune = el_find(c->root, "numatune");
            memory = el_find(tune, "memory");
        }
    }
    static const char *const said[] = { "@mode", "@placement", "@nodeset" };
    bool empty = memory != NULL;
    for (unsigned i = 0; empty && i < G_N_ELEMENTS(said); i++)
        empty = !el_get(memory, said[i]);
    if (empty) {
        el_remove(memory);
    } else if (memory) {
        bool automatic = el_is(memory, "@placement", "auto");
        if (!automatic && !el_get(memory, "@nodeset"))
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<numatune> <memory>%s has no nodeset=, which only placement='auto' can do without", domain_line(memory));
        domain_default(memory, "@mode", "strict");
        el_set(memory, automatic ? "@nodeset" : "@placement", NULL);
    }
    el_each(node, tune, "memnode")
        if (!has_cell(c->root, domain_number(node, "@cellid", 0)))
            return manage_fail(error, VIR_ERR_XML_ERROR, "<memnode>%s is for the NUMA cell %s, which is not in <cpu> <numa>", domain_line(node), el_get(node, "@cellid"));
    if (tune && !el_child(tune, NULL))
        el_remove(tune);
    return true;
}

/* Sizes of pages: one for all, others for single NUMA cells. */
static bool complete_hugepages(struct domain_complete *c, GError **error)
{
    const struct el *master = NULL;
    bool cells = el_find(c->root, "cpu/numa/cell") != NULL;
    el_each(page, el_find(c->root, "memoryBacking/hugepages"), "page") {
        const char *nodes = el_get(page, "@nodeset");
        if (nodes && !cells && g_str_equal(nodes, "0")) {
            el_set(page, "@nodeset", NULL);
            nodes = NULL;
        }
        char *end = NULL;
        for (const char *p = nodes; p && *p; p = *end ? end + 1 : end) {
            uint64_t node = strtoull(p, &end, 10);
            if (end == p || !has_cell(c->root, node))
                return manage_fail(error, VIR_ERR_XML_ERROR, "<page>%s is for the NUMA cells %s, which are not all in <cpu> <numa>", domain_line(page), nodes);
        }
        if (!nodes && master)
            return manage_fail(error, VIR_ERR_XML_ERROR, "two <page>%s%s are for all memory: give all but one a nodeset=", domain_line(master), domain_line(page));
        master = nodes ? master : page;
    }
    return true;
}

static struct el *thread(struct el *ids, uint64_t id)
{
    el_each(t, ids, "iothread")
        if (domain_number(t, "@id", 0) == id)
            return t;
    return NULL;
}

/* As many as the larger of the number and the list says; the list is made whole where there is one. */
static bool complete_iothreads(struct domain_complete *c, GError **error)
{
    struct el *ids = el_find(c->root, "iothreadids");
    uint64_t want = domain_number(c->root, "iothreads", 0), have = 0;
    el_each(t, ids, "iothread") {
        if (thread(ids, domain_number(t, "@id", 0)) != t)
            return manage_fail(error, VIR_ERR_XML_ERROR, "<iothread>%s: the number %s is used twice", domain_line(t), el_get(t, "@id"));
        have++;
    }
    if (want > 4096)
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "<iothreads>%s: %s are too many", domain_line(el_find(c->root, "iothreads")), el_get(c->root, "iothreads"));
    for (unsigned id = 1; have && have < want; id++)
        if (!thread(ids, id)) {
            el_setf(el_add(ids, "iothread"), "@id", "%u", id);
            have++;
        }
    if (have > want)
        el_setf(c->root, "iothreads", "%u", (unsigned)have);
    return true;
}

/* ---- NUMA cells ---- */

static struct el *cell_of(struct el *numa, uint64_t id)
{
    el_each(cell, numa, "cell")
        if (domain_number(cell, "@id", UINT64_MAX) == id)
            return cell;
    return NULL;
}

static struct el *sibling_of(const struct el *cell, uint64_t id)
{
    el_each(s, el_find(cell, "distances"), "sibling")
        if (domain_number(s, "@id", UINT64_MAX) == id)
            return s;
    return NULL;
}

static void add_distance(struct el *cell, uint64_t to, const char *value)
{
    if (sibling_of(cell, to))
        return;
    struct el *all = el_find(cell, "distances");
    struct el *s = el_add(all ? all : el_add(cell, "distances"), "sibling");
    el_setf(s, "@id", "%" G_GUINT64_FORMAT, to);
    el_set(s, "@value", value);
}

static bool check_distances(struct el *numa, GError **error)
{
    el_each(cell, numa, "cell")
        el_each(s, el_find(cell, "distances"), "sibling") {
            uint64_t value = domain_number(s, "@value", 0);
            bool self = el_is(s, "@id", el_get_or(cell, "@id", ""));
            if (!cell_of(numa, domain_number(s, "@id", UINT64_MAX)))
                return manage_fail(error, VIR_ERR_XML_ERROR, "<sibling>%s: there is no NUMA cell %s", domain_line(s), el_get(s, "@id"));
            if (sibling_of(cell, domain_number(s, "@id", UINT64_MAX)) != s)
                return manage_fail(error, VIR_ERR_XML_ERROR, "<sibling>%s: the distance to cell %s stands twice", domain_line(s), el_get(s, "@id"));
            if (value < 10 || value > 255 || self != (value == 10))
                return manage_fail(error, VIR_ERR_XML_ERROR, "<sibling>%s: the distance %s is not one: 10 is a cell's from itself, to others it is from 11 to 255", domain_line(s),
                                   el_get(s, "@value"));
        }
    return true;
}

static int by_id(const void *a, const void *b)
{
    uint64_t x = domain_number(*(struct el *const *)a, "@id", 0), y = domain_number(*(struct el *const *)b, "@id", 0);
    return x < y ? -1 : x > y;
}

static void sort_by_id(struct el *parent, const char *name)
{
    g_autoptr(GPtrArray) order = g_ptr_array_new();
    bool moved = false;
    el_each(e, parent, name) {
        moved |= order->len && by_id(&order->pdata[order->len - 1], &(struct el *){ e }) > 0;
        g_ptr_array_add(order, e);
    }
    if (!moved)
        return;
    g_ptr_array_sort(order, by_id);
    for (unsigned i = 0; i < order->len; i++) {
        el_copy(parent, order->pdata[i]);
        el_remove(order->pdata[i]);
    }
}

/* A distance that one of two cells names holds for both. */
static bool complete_numa(struct domain_complete *c, GError **error)
{
    struct el *numa = el_find(c->root, "cpu/numa");
    unsigned n = 0;
    el_each(cell, numa, "cell") {
        if (cell_of(numa, domain_number(cell, "@id", UINT64_MAX)) != cell)
            return manage_fail(error, VIR_ERR_XML_ERROR, "two NUMA cells%s have the id %s", domain_line(cell), el_get(cell, "@id"));
        n++;
    }
    el_each(cell, numa, "cell")
        if (domain_number(cell, "@id", 0) >= n)
            return manage_fail(error, VIR_ERR_XML_ERROR, "the NUMA cell%s has the id %s: ids go from 0 to one less than there are cells", domain_line(cell), el_get(cell, "@id"));
    if (!check_distances(numa, error))
        return false;
    sort_by_id(numa, "cell");
    el_each(cell, numa, "cell")
        el_each(s, el_find(cell, "distances"), "sibling")
            add_distance(cell_of(numa, domain_number(s, "@id", 0)), domain_number(cell, "@id", 0), el_get(s, "@value"));
    el_each(cell, numa, "cell") {
        if (el_find(cell, "distances"))
            add_distance(cell, domain_number(cell, "@id", 0), "10");
        sort_by_id(el_find(cell, "distances"), "sibling");
    }
    return true;
}

bool domain_complete_tune(struct domain_complete *c, GError **error)
{
    return complete_numa(c, error) && complete_numatune(c, error) && complete_hugepages(c, error) && complete_iothreads(c, error);
}
