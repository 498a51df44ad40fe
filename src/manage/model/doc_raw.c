/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Content that no schema describes. It is kept as text: at the left margin, two blanks a level where an element holds elements only, as it stands
 * where text is among them. Comments and processing instructions are dropped, CDATA becomes text. A line break after '>' and before '<' is
 * therefore always one of ours (those of mixed content are written as numbers), so that the text can be indented without being parsed again.
 */
#include "manage/model/doc_private.h"

#include <string.h>

struct raw_node {
    char *name;              /* NULL: text */
    GString *text;           /* of a text node; attributes as they are to be written */
    GPtrArray *inside;
    GPtrArray *declared;     /* "prefix" names that this element declares */
};

struct raw {
    GPtrArray *stack; /* [0]: the content as a whole */
    size_t size;      /* about what it will take as text */
};

static void node_free(void *p)
{
    struct raw_node *n = p;
    g_free(n->name);
    g_string_free(n->text, TRUE);
    g_clear_pointer(&n->inside, g_ptr_array_unref);
    g_clear_pointer(&n->declared, g_ptr_array_unref);
    g_free(n);
}

static struct raw_node *node_new(char *name)
{
    struct raw_node *n = g_new0(struct raw_node, 1);
    n->name = name;
    n->text = g_string_new(NULL);
    if (name) {
        n->inside = g_ptr_array_new_with_free_func(node_free);
        n->declared = g_ptr_array_new_with_free_func(g_free);
    }
    return n;
}

struct raw *raw_new(void)
{
    struct raw *r = g_new0(struct raw, 1);
    r->stack = g_ptr_array_new();
    g_ptr_array_add(r->stack, node_new(g_strdup("")));
    return r;
}

void raw_free(struct raw *r)
{
    if (r) {
        node_free(r->stack->pdata[0]);
        g_ptr_array_unref(r->stack);
        g_free(r);
    }
}

static struct raw_node *top(struct raw *r)
{
    return r->stack->pdata[r->stack->len - 1];
}

static void escape_len(GString *out, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        switch (text[i]) {
        case '&': g_string_append(out, "&amp;"); break;
        case '<': g_string_append(out, "&lt;"); break;
        case '>': g_string_append(out, "&gt;"); break;
        case '"': g_string_append(out, "&quot;"); break;
        case '\n': case '\r': case '\t': g_string_append_printf(out, "&#%d;", text[i]); break;
        default: g_string_append_c(out, text[i]);
        }
    }
}

/* A declaration may come many times that stood in the document once: past the limit nothing is added any more. */
static void declare(struct raw *r, struct raw_node *n, const char *prefix, const char *uri)
{
    r->size += strlen(uri);
    if (r->size > DOC_MAX_TEXT) {
        return;
    }
    g_string_append_printf(n->text, prefix ? " xmlns:%s=\"" : " xmlns%s=\"", prefix ? prefix : "");
    escape_len(n->text, uri, strlen(uri));
    g_string_append_c(n->text, '"');
    g_ptr_array_add(n->declared, g_strdup(prefix ? prefix : ""));
}

/* A prefix that the document declares further out has to be declared here. */
static void need(struct raw *r, struct raw_node *n, const char *prefix, const char *uri)
{
    const char *name = prefix ? prefix : "";
    if (!uri || !strcmp(name, "xml")) {
        return;
    }
    for (guint i = 0; i <= r->stack->len; i++) {
        const struct raw_node *at = i < r->stack->len ? r->stack->pdata[i] : n;
        if (g_ptr_array_find_with_equal_func(at->declared, name, g_str_equal, NULL)) {
            return;
        }
    }
    declare(r, n, prefix, uri);
}

bool raw_start(struct raw *r, const char *local, const char *prefix, const char *uri, int nns, const unsigned char **ns, int nattrs, const unsigned char **attrs)
{
    struct raw_node *n = node_new(prefix ? g_strconcat(prefix, ":", local, NULL) : g_strdup(local));
    for (int i = 0; i < nns; i++) {
        declare(r, n, (const char *)ns[2 * i], ns[2 * i + 1] ? (const char *)ns[2 * i + 1] : "");
    }
    need(r, n, prefix, uri);
    for (int i = 0; i < nattrs; i++) {
        const char **a = (const char **)attrs + 5 * i;
        if (a[1]) {
            need(r, n, a[1], a[2]);
        }
    }
    for (int i = 0; i < nattrs; i++) {
        const char **a = (const char **)attrs + 5 * i;
        g_string_append_printf(n->text, " %s%s%s=\"", a[1] ? a[1] : "", a[1] ? ":" : "", a[0]);
        escape_len(n->text, a[3], a[4] - a[3]);
        g_string_append_c(n->text, '"');
    }
    r->size += n->text->len + 8;
    g_ptr_array_add(top(r)->inside, n);
    g_ptr_array_add(r->stack, n);
    return r->size <= DOC_MAX_TEXT;
}

void raw_end(struct raw *r)
{
    g_ptr_array_set_size(r->stack, r->stack->len - 1);
}

bool raw_text(struct raw *r, const char *text, int size)
{
    r->size += size;
    GPtrArray *inside = top(r)->inside;
    struct raw_node *last = inside->len ? inside->pdata[inside->len - 1] : NULL;
    if (!last || last->name) {
        last = node_new(NULL);
        g_ptr_array_add(inside, last);
    }
    g_string_append_len(last->text, text, size);
    return r->size <= DOC_MAX_TEXT;
}

static bool blank(const char *text)
{
    return !text[strspn(text, " \t\r\n")];
}

static bool is_mixed(const struct raw_node *n)
{
    bool text = false;
    for (guint i = 0; i < n->inside->len; i++) {
        const struct raw_node *c = n->inside->pdata[i];
        text |= !c->name && (!blank(c->text->str) || n->inside->len == 1);
    }
    return text;
}

static void put_text(GString *out, const char *text)
{
    bool number = blank(text);
    for (const char *p = text; *p; p++) {
        switch (*p) {
        case '&': g_string_append(out, "&amp;"); break;
        case '<': g_string_append(out, "&lt;"); break;
        case '>': g_string_append(out, "&gt;"); break;
        case '\r': g_string_append(out, "&#13;"); break;
        case '\n': g_string_append(out, number ? "&#10;" : "\n"); break;
        default: g_string_append_c(out, *p);
        }
    }
}

static void put_node(GString *out, const struct raw_node *n, unsigned level, bool inlined)
{
    if (!n->name) {
        put_text(out, n->text->str);
        return;
    }
    g_string_append_printf(out, "%*s<%s%s", inlined ? 0 : (int)level * 2, "", n->name, n->text->str);
    bool mixed = is_mixed(n), any = false;
    for (guint i = 0; i < n->inside->len; i++) {
        const struct raw_node *c = n->inside->pdata[i];
        if (mixed || inlined ? true : c->name != NULL) {
            g_string_append(out, any ? "" : mixed || inlined ? ">" : ">\n");
            any = true;
            put_node(out, c, level + 1, mixed || inlined);
        }
    }
    if (any) {
        g_string_append_printf(out, "%*s</%s>", mixed || inlined ? 0 : (int)level * 2, "", n->name);
    } else {
        g_string_append(out, "/>");
    }
    g_string_append(out, inlined ? "" : "\n");
}

char *raw_finish(struct raw *r)
{
    struct raw_node *all = r->stack->pdata[0];
    GString *out = g_string_new(NULL);
    for (guint i = 0; i < all->inside->len; i++) {
        struct raw_node *c = all->inside->pdata[i];
        if (c->name) {
            put_node(out, c, 0, false);
        }
    }
    g_ptr_array_set_size(all->inside, 0);
    r->size = 0;
    return g_string_free(out, FALSE);
}

void raw_format(GString *out, const char *raw, unsigned level)
{
    bool line = true;
    for (const char *p = raw; *p;) {
        if (line) {
            for (unsigned i = 0; i < level; i++) {
                g_string_append_len(out, "  ", 2);
            }
        }
        const char *end = strchr(p, '\n');
        size_t size = end ? (size_t)(end - p) + 1 : strlen(p);
        g_string_append_len(out, p, size);
        line = end && end > raw && end[-1] == '>' && end[1 + strspn(end + 1, " ")] == '<';
        p += size;
    }
    if (*raw && raw[strlen(raw) - 1] != '\n') {
        g_string_append_c(out, '\n');
    }
}
