/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Documents as canonical text. */
#include "manage/model/doc_private.h"

#include <string.h>

/* g_string_append_len() without the call where there is room, which is nearly always: a document is hundreds of small pieces. */
static inline void append(GString *out, const char *text, size_t size)
{
    if (out->len + size < out->allocated_len) {
        memcpy(out->str + out->len, text, size);
        out->len += size;
        out->str[out->len] = 0;
    } else {
        g_string_append_len(out, text, size);
    }
}

/* Line ends and tabs are written as numbers where a reader would make blanks of them. */
void doc_escape(GString *out, const char *text, bool attribute)
{
    static const bool special[256] = { [0] = true, ['&'] = true, ['<'] = true, ['>'] = true, ['\''] = true, ['"'] = true, ['\r'] = true, ['\n'] = true, ['\t'] = true };
    const char *plain = text; /* from here on nothing has been written */
    for (const char *p = text;; p++) {
        if (!special[(uint8_t)*p] || (!attribute && (*p == '\n' || *p == '\t'))) {
            continue;
        }
        append(out, plain, p - plain);
        plain = p + 1;
        switch (*p) {
        case 0: return;
        case '&': g_string_append(out, "&amp;"); break;
        case '<': g_string_append(out, "&lt;"); break;
        case '>': g_string_append(out, "&gt;"); break;
        case '\'': g_string_append(out, "&apos;"); break;
        case '"': g_string_append(out, "&quot;"); break;
        default: g_string_append_printf(out, "&#%d;", *p); break;
        }
    }
}

static void indent(GString *out, unsigned level)
{
    static const char blanks[] = "                                ";
    for (size_t left = 2 * (size_t)level; left;) {
        size_t n = MIN(left, sizeof blanks - 1);
        append(out, blanks, n);
        left -= n;
    }
}

static void put_attribute(GString *out, uint16_t name, const char *value)
{
    g_string_append_c(out, ' ');
    append(out, schema_words[name], schema_lengths[name]);
    append(out, "='", 2);
    doc_escape(out, value, true);
    g_string_append_c(out, '\'');
}

/* In the order of the schema: for each of its rows that applies, the attribute of that name. */
static void put_attributes(GString *out, const struct el *e)
{
    const struct schema_el *s = el_schema(e);
    struct attr_view view[128];
    unsigned n = el_view(e, view), left = n;
    for (unsigned i = 0; left && i < s->nattrs; i++) {
        const struct schema_attr *a = &schema_attrs[s->attrs + i];
        for (unsigned k = 0; k < n; k++) {
            if (view[k].name == a->name && view[k].value && schema_attr_of(s, a->name, view, n, true) == a) {
                put_attribute(out, a->name, view[k].value);
                left--;
                break;
            }
        }
    }
}

/* Namespaces of the children of an element without one are declared there. */
static void put_namespaces(GString *out, const struct el *e)
{
    for (const struct schema_namespace *n = schema_namespaces; n->prefix; n++) {
        size_t length = strlen(n->prefix);
        el_each (c, e, NULL) {
            if (!strncmp(el_name(c), n->prefix, length) && el_name(c)[length] == ':') {
                g_string_append_printf(out, " xmlns:%s='%s'", n->prefix, n->uri);
                break;
            }
        }
    }
}

static void put(GString *out, const struct el *e, unsigned level)
{
    const struct schema_el *s = el_schema(e);
    const char *name = el_name(e), *text = el_raw(e);
    size_t length = schema_lengths[s->name];
    bool children = e->child || (s->kind == KIND_RAW && *text);
    indent(out, level);
    g_string_append_c(out, '<');
    append(out, name, length);
    bool declares = e->child && s->flags & SCHEMA_PREFIXED;
    if (declares && s->flags & SCHEMA_XMLNS_FIRST) {
        put_namespaces(out, e);
    }
    put_attributes(out, e);
    if (declares && !(s->flags & SCHEMA_XMLNS_FIRST)) {
        put_namespaces(out, e);
    }
    if (!children && !*text && !(s->flags & SCHEMA_OPEN)) {
        append(out, "/>\n", 3);
        return;
    }
    g_string_append_c(out, '>');
    if (children || (s->flags & SCHEMA_OPEN && s->kind == KIND_NONE)) {
        g_string_append(out, s->flags & SCHEMA_BLANK ? "\n\n" : "\n");
        if (s->kind == KIND_RAW) {
            raw_format(out, text, level + 1);
        }
        el_each (c, e, NULL) {
            put(out, c, level + 1);
            if (s->flags & SCHEMA_BLANK) {
                g_string_append_c(out, '\n');
            }
        }
        indent(out, level);
    } else {
        doc_escape(out, text, false);
    }
    append(out, "</", 2);
    append(out, name, length);
    append(out, ">\n", 2);
}

char *el_format(const struct el *e, unsigned level)
{
    GString *out = g_string_sized_new(4096);
    put(out, e, level);
    return g_string_free(out, FALSE);
}

char *doc_format(const struct doc *d)
{
    return el_format(doc_root(d), 0);
}
