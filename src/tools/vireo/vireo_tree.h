/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names under their parents, drawn with branches. */
#pragma once

#include "vireo.h"

/* A name and its parent's (NULL: none); free with tree_node_free. */
gpointer tree_node(const char *name, const char *parent);
void tree_node_free(gpointer node);
/* Prints the trees that the nodes make; a node whose parent is not among them is a root. */
void tree_print(struct call *c, GPtrArray *nodes);
