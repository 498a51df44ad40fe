/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names under their parents, drawn with branches. */
#include "vireo_tree.h"

#include <string.h>

struct node {
    char *name, *parent;
};

gpointer tree_node(const char *name, const char *parent)
{
    struct node *n = g_new0(struct node, 1);
    n->name = g_strdup(name);
    n->parent = parent && *parent ? g_strdup(parent) : NULL;
    return n;
}

void tree_node_free(gpointer node)
{
    struct node *n = node;
    g_free(n->name);
    g_free(n->parent);
    g_free(n);
}

/* The node, drawn behind `indent`, and all below it. `last`: no brother follows. Depth is bounded by the number of nodes: each is printed
 * under one parent only, and a ring has no root. */
static void print_node(struct call *c, GPtrArray *nodes, const struct node *node, GString *indent, bool root, bool last)
{
    gsize length = indent->len;
    say(c, "%s%s%s\n", indent->str, root ? "" : "+- ", node->name);
    g_autoptr(GPtrArray) below = g_ptr_array_new();
    for (guint i = 0; i < nodes->len; i++) {
        const struct node *n = nodes->pdata[i];
        if (n->parent && !strcmp(n->parent, node->name) && n != node)
            g_ptr_array_add(below, (gpointer)n);
    }
    if (!root)
        g_string_append(indent, last ? "    " : "|   ");
    if (root)
        g_string_append(indent, "  ");
    if (below->len)
        say(c, "%s|\n", indent->str);
    for (guint i = 0; i < below->len; i++)
        print_node(c, nodes, below->pdata[i], indent, false, i + 1 == below->len);
    g_string_truncate(indent, length);
    /* an empty line ends each branch */
    if (!below->len && last)
        say(c, "%s%s\n", indent->str, root ? "" : "  ");
}

static bool has_node(GPtrArray *nodes, const char *name)
{
    for (guint i = 0; i < nodes->len; i++)
        if (!strcmp(((struct node *)nodes->pdata[i])->name, name))
            return true;
    return false;
}

void tree_print(struct call *c, GPtrArray *nodes)
{
    g_autoptr(GString) indent = g_string_new(NULL);
    for (guint i = 0; i < nodes->len; i++) {
        const struct node *n = nodes->pdata[i];
        if (!n->parent || !has_node(nodes, n->parent))
            print_node(c, nodes, n, indent, true, true);
    }
}
