/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Text to document. libxml2 reads the text and calls back for each element; the document is built and checked on the way. Document type declarations are
 * refused, so there are no entities but the five that XML has itself, and nothing is loaded from anywhere.
 */
#include "manage/core/manage_error.h"
#include "manage/model/doc_private.h"

#include <libxml/parser.h>
#include <libxml/parserInternals.h>
#include <libxml/SAX2.h>
#include <string.h>

/* An element that is open. */
struct frame {
    uint32_t el, last, before; /* last: its last child so far, and the one before that */
    unsigned last_place, before_place, text; /* text: where its text begins in the buffer */
    bool optional;             /* may be missing: nothing stands for it when it is empty */
    bool disordered;           /* children have come in another order than the schema's */
};

struct parser {
    struct doc *doc;
    xmlParserCtxtPtr xml;
    GArray *frames;
    GString *text, *scratch, *value, *size;
    struct raw *raw;      /* the element on top holds content without schema */
    unsigned raw_depth;
    unsigned dropped;     /* depth inside an element that is read and forgotten */
    unsigned nodes, depth, namespaces; /* namespaces: in scope */
    uint16_t declared[DOC_MAX_DEPTH + 1];
    bool failed;
    bool large;           /* worth a look at what makes libxml2 slow */
    bool outside;         /* the first frame is not of the text: doc_parse_at */
    GError **error;
};

static unsigned line_of(const struct parser *p)
{
    return p->xml && p->xml->input ? MAX(p->xml->input->line, 0) : 0;
}

static void G_GNUC_PRINTF(4, 5) fail_at(struct parser *p, int code, unsigned line, const char *format, ...)
{
    if (!p->failed) {
        va_list args;
        va_start(args, format);
        g_autofree char *text = g_strdup_vprintf(format, args);
        va_end(args);
        manage_fail(p->error, code, "XML document, line %u: %s", line, text);
        p->failed = true;
    }
    xmlStopParser(p->xml);
}

#define fail(p, ...) fail_at(p, VIR_ERR_XML_ERROR, line_of(p), __VA_ARGS__)

static struct frame *top(struct parser *p)
{
    return p->frames->len ? &g_array_index(p->frames, struct frame, p->frames->len - 1) : NULL;
}

static struct el *top_el(struct parser *p)
{
    return doc_el(p->doc, top(p)->el);
}

/* ---- names ---- */

/* "prefix:local" of the schema's namespaces, the local name without a namespace. NULL: a foreign namespace. */
static const char *schema_name(struct parser *p, const char *local, const char *prefix, const char *uri)
{
    if (!prefix && !uri) {
        return local;
    }
    for (const struct schema_namespace *n = schema_namespaces; uri && n->prefix; n++) {
        if (!strcmp(n->uri, uri)) {
            g_string_printf(p->scratch, "%s:%s", n->prefix, local);
            return p->scratch->str;
        }
    }
    return NULL;
}

static char *list_links(const struct schema_el *s, const struct attr_view *view, unsigned n)
{
    GString *out = g_string_new(NULL);
    for (unsigned i = 0; i < s->nlinks; i++) {
        const struct schema_link *l = &schema_links[s->links + i];
        if (schema_holds(l->cond, view, n) && !(l->flags & SCHEMA_DROP)) {
            g_string_append_printf(out, "%s%s", out->len ? ", " : "", schema_words[schema_els[l->el].name]);
        }
    }
    return g_string_free(out, FALSE);
}

static char *list_attrs(const struct schema_el *s, const struct attr_view *view, unsigned n)
{
    GString *out = g_string_new(NULL);
    for (unsigned i = 0; i < s->nattrs; i++) {
        const struct schema_attr *a = &schema_attrs[s->attrs + i];
        if (schema_holds(a->cond, view, n) && !(a->flags & SCHEMA_DROP)) {
            g_string_append_printf(out, "%s%s", out->len ? ", " : "", schema_words[a->name]);
        }
    }
    return g_string_free(out, FALSE);
}

/* ---- attributes ---- */

static uint32_t check_attribute(struct parser *p, const struct schema_el *s, const struct schema_attr *a, const char *value, uint16_t word)
{
    struct value_type type = { .list = a->list, .range = a->range, .kind = a->kind, .width = a->width };
    g_autofree char *expected = NULL;
    const char *good = value_check(&type, value, word, p->value, &expected);
    if (!good) {
        fail(p, "attribute '%s' of <%s> is '%.200s', expected is %s", schema_words[a->name], schema_words[s->name], value, expected);
        return 0;
    }
    return doc_grow_string(p->doc, good, good == value ? word : doc_word(good, strlen(good)));
}

/* The attributes of the text with zero bytes at their ends; view[].value points into p->scratch. */
static unsigned take_attributes(struct parser *p, const struct schema_el *s, int n, const xmlChar **attrs, struct attr_view view[128], bool *ret_good)
{
    unsigned count = 0;
    *ret_good = false;
    size_t bytes = 0;
    for (int i = 0; i < n; i++) {
        bytes += attrs[5 * i + 4] - attrs[5 * i + 3] + 1;
    }
    g_string_set_size(p->scratch, bytes);
    char *to = p->scratch->str;
    for (int i = 0; i < n; i++) {
        const char **a = (const char **)attrs + 5 * i;
        if (a[1] && (!a[2] || strncmp(a[2], "http://www.w3.org/", 18))) {
            fail(p, "unknown attribute '%s:%.100s' of <%s>", a[1], a[0], schema_words[s->name]);
            return 0;
        }
        if (a[1]) {
            continue; /* xml:lang, xsi:schemaLocation and the like say nothing about the object */
        }
        uint16_t name = schema_word(a[0], strlen(a[0]));
        if (!name || count == 128) {
            g_autofree char *known = list_attrs(s, NULL, 0);
            fail(p, *known ? "unknown attribute '%.100s' of <%s>, possible are: %s" : "unknown attribute '%.100s' of <%s>, which has none", a[0], schema_words[s->name],
                 known);
            return 0;
        }
        size_t length = a[4] - a[3];
        view[count++] = (struct attr_view){ name, doc_word(a[3], length), to };
        memcpy(to, a[3], length);
        to[length] = 0;
        to += length + 1;
    }
    *ret_good = true;
    return count;
}

/* Required attributes that are missing are an error, those with a value of their own get it. */
static bool add_missing(struct parser *p, const struct schema_el *s, struct attr_view view[128], unsigned *n)
{
    for (unsigned i = 0; i < s->nattrs; i++) {
        const struct schema_attr *a = &schema_attrs[s->attrs + i];
        if ((!a->fallback && !(a->flags & SCHEMA_REQUIRED)) || !schema_holds(a->cond, view, *n)) {
            continue;
        }
        unsigned k = 0;
        while (k < *n && view[k].name != a->name) {
            k++;
        }
        if (k == *n && a->fallback && *n < 128) {
            view[(*n)++] = (struct attr_view){ a->name, a->fallback, schema_words[a->fallback] };
        } else if (k == *n) {
            fail(p, "<%s> lacks the attribute '%s'", schema_words[s->name], schema_words[a->name]);
            return false;
        }
    }
    return true;
}

/* A size in another unit, rounded up. */
static bool scale(struct parser *p, const char *name, const char *text, const char *unit, uint16_t to, GString *out)
{
    uint64_t number = 0, bytes, factor = value_unit(unit), target = value_unit(schema_words[to]);
    if (!factor) {
        fail(p, "attribute 'unit' of <%s> is '%.100s', expected is one of: b, bytes, KB, k, KiB, MB, M, MiB, GB, G, GiB, TB, T, TiB, PB, P, PiB, EB, E, EiB", name, unit);
        return false;
    }
    if (!value_number(text, &number) || __builtin_mul_overflow(number, factor, &bytes)) {
        fail(p, "<%s> is '%.100s' %s, which is not a size below 16 EiB", name, text, unit);
        return false;
    }
    g_string_printf(out, "%" G_GUINT64_FORMAT, bytes / target + (bytes % target != 0));
    return true;
}

/* Brings the size in an attribute to the unit that the schema writes it in. */
static bool scale_attributes(struct parser *p, const struct schema_el *s, struct attr_view view[128], unsigned *n)
{
    const struct schema_attr *size = NULL;
    for (unsigned i = 0; i < s->nattrs && !size; i++) {
        size = schema_attrs[s->attrs + i].unit ? &schema_attrs[s->attrs + i] : NULL;
    }
    struct attr_view *value = NULL, *unit = NULL;
    uint16_t name = schema_word("unit", 4), names = schema_word("units", 5);
    name = schema_attr_of(s, name, NULL, 0, true) ? name : names;
    for (unsigned i = 0; i < *n; i++) {
        value = view[i].name == size->name ? &view[i] : value;
        unit = view[i].name == name ? &view[i] : unit;
    }
    if (!value || *n == 128) {
        return true;
    }
    if (!scale(p, schema_words[s->name], value->value, unit ? unit->value : schema_words[size->unit], size->unit, p->size)) {
        return false;
    }
    value->value = p->size->str;
    value->word = doc_word(p->size->str, p->size->len);
    if (unit) {
        unit->value = schema_words[size->unit];
        unit->word = size->unit;
    } else {
        view[(*n)++] = (struct attr_view){ name, size->unit, schema_words[size->unit] };
    }
    return true;
}

/* An empty value of it is as good as none. */
static bool is_nothing(const struct schema_attr *a)
{
    bool text = a->kind == KIND_TEXT || a->kind == KIND_NAME || a->kind == KIND_PATH || a->kind == KIND_ABSPATH || a->kind == KIND_UUID || a->kind == KIND_UNIT;
    return text && !(a->flags & SCHEMA_REQUIRED) && !a->list;
}

static bool put_attributes(struct parser *p, uint32_t el, const struct schema_el *s, const struct attr_view *view, unsigned n)
{
    uint32_t at = n ? doc_grow(p->doc, n * sizeof(struct el_attr)) : 0;
    unsigned kept = 0;
    for (unsigned i = 0; i < n; i++) {
        const struct schema_attr *a = schema_attr_of(s, view[i].name, view, n, false);
        if (!a) {
            g_autofree char *known = list_attrs(s, view, n);
            fail(p, *known ? "unknown attribute '%s' of <%s>, possible are: %s" : "unknown attribute '%s' of <%s>, which has none", schema_words[view[i].name],
                 schema_words[s->name], known);
            return false;
        }
        if (!*view[i].value && is_nothing(a)) {
            continue;
        }
        uint32_t value = check_attribute(p, s, a, view[i].value, view[i].word);
        if (!value) {
            return false;
        }
        if (!(a->flags & SCHEMA_DROP)) {
            ((struct el_attr *)doc_at(p->doc, at))[kept++] = (struct el_attr){ .value = value, .attr = a - schema_attrs, .name = a->name };
        }
    }
    struct el *e = doc_el(p->doc, el);
    e->attrs = at;
    e->nattrs = kept;
    return true;
}

/* ---- elements ---- */

static uint32_t new_el(struct parser *p, uint16_t schema)
{
    uint32_t at = doc_grow(p->doc, sizeof(struct el));
    *doc_el(p->doc, at) = (struct el){ .self = at, .schema = schema, .line = line_of(p) };
    return at;
}

static bool twice(struct parser *p, const struct el *first, const struct el *second)
{
    fail_at(p, VIR_ERR_XML_ERROR, second->line, "<%s> stands twice in <%s>; the first is in line %u", el_name(second), el_name(top_el(p)), first->line);
    return false;
}

static bool hang(struct parser *p, uint32_t el, const struct schema_link *link, unsigned place)
{
    struct frame *f = top(p);
    struct el *parent = doc_el(p->doc, f->el), *e = doc_el(p->doc, el), *last = doc_el(p->doc, f->last);
    e->parent = parent->self;
    if (last && place == f->last_place && !(link->flags & SCHEMA_MANY)) {
        return twice(p, last, e);
    }
    f->disordered |= last && place < f->last_place;
    *(last ? &last->next : &parent->child) = el;
    f->before = f->last;
    f->before_place = f->last_place;
    f->last = el;
    f->last_place = place;
    return true;
}

/* Brings the children into the schema's order, those of one name staying as they came, and finds what stands twice. */
static bool put_in_order(struct parser *p, struct el *e)
{
    const struct schema_el *s = el_schema(e);
    struct doc *d = p->doc;
    g_autofree uint32_t *heads = g_new0(uint32_t, 2 * s->nlinks);
    uint32_t *tails = heads + s->nlinks;
    bool move = !(s->flags & SCHEMA_UNORDERED);
    for (struct el *c = doc_el(d, e->child), *next; c; c = next) {
        unsigned place = schema_place(s, c->schema);
        next = doc_el(d, c->next);
        if (tails[place] && !(schema_links[s->links + place].flags & SCHEMA_MANY)) {
            return twice(p, doc_el(d, tails[place]), c);
        }
        if (move) {
            *(tails[place] ? &doc_el(d, tails[place])->next : &heads[place]) = c->self;
            c->next = 0;
        }
        tails[place] = c->self;
    }
    uint32_t *link = &e->child;
    for (unsigned i = 0; move && i < s->nlinks; i++) {
        if (heads[i]) {
            *link = heads[i];
            link = &doc_el(d, tails[i])->next;
        }
    }
    return true;
}

static const struct schema_link *find_link(struct parser *p, const char *name, const char *local)
{
    const struct el *parent = top_el(p);
    const struct schema_el *s = el_schema(parent);
    struct attr_view view[128];
    unsigned n = s->flags & SCHEMA_VARIES ? el_view(parent, view) : 0;
    uint16_t word = name ? schema_word(name, strlen(name)) : 0;
    const struct schema_link *link = word ? schema_link_of(s, word, view, n, p->outside && p->frames->len == 1) : NULL;
    if (!link) {
        g_autofree char *known = list_links(s, view, n);
        fail(p, *known ? "unknown element <%.100s> in <%s>, possible are: %s" : "unknown element <%.100s> in <%s>, which holds no elements", local, el_name(parent), known);
    }
    return link;
}

/* The row of the element that begins: the root, or by the link from the element that is open. */
static uint16_t find_row(struct parser *p, const char *name, const char *local, const struct schema_link **ret_link)
{
    *ret_link = NULL;
    if (p->frames->len) {
        *ret_link = find_link(p, name, local);
        return *ret_link ? (*ret_link)->el : 0;
    }
    const struct schema *s = p->doc->schema;
    const char *root = schema_words[schema_els[s->root].name];
    if (!name || strcmp(name, root)) {
        fail(p, "the document is <%.100s>, expected is <%s>", local, root);
        return 0;
    }
    return s->root;
}

static void open_el(struct parser *p, uint16_t row, const struct schema_link *link, int nattrs, const xmlChar **attrs)
{
    const struct schema_el *s = &schema_els[row];
    struct attr_view view[128];
    bool good;
    unsigned n = take_attributes(p, s, nattrs, attrs, view, &good);
    if (!good || !add_missing(p, s, view, &n) || (s->flags & SCHEMA_SCALES && !scale_attributes(p, s, view, &n))) {
        return;
    }
    uint32_t el = new_el(p, row);
    if (!put_attributes(p, el, s, view, n)) {
        return;
    }
    if (link && !hang(p, el, link, link - &schema_links[el_schema(top_el(p))->links])) {
        return;
    }
    if (p->frames->len == p->outside) {
        p->doc->root = el;
    }
    struct frame f = { .el = el, .text = p->text->len, .optional = link && !(link->flags & SCHEMA_REQUIRED) };
    g_array_append_val(p->frames, f);
    if (s->kind == KIND_RAW) {
        p->raw = p->raw ? p->raw : raw_new();
        p->raw_depth = 1;
    }
}

static bool in_limits(struct parser *p, int namespaces, int attributes)
{
    if (++p->nodes > DOC_MAX_NODES) {
        fail(p, "more than %d elements", DOC_MAX_NODES);
        return false;
    }
    if (++p->depth >= DOC_MAX_DEPTH) {
        fail(p, "elements are nested more than %d deep", DOC_MAX_DEPTH);
        return false;
    }
    if (namespaces + attributes > DOC_MAX_ATTRIBUTES) {
        fail(p, "an element with more than %d attributes", DOC_MAX_ATTRIBUTES);
        return false;
    }
    p->declared[p->depth] = namespaces;
    p->namespaces += namespaces;
    if (p->namespaces > DOC_MAX_NAMESPACES) {
        fail(p, "more than %d namespaces are declared", DOC_MAX_NAMESPACES);
        return false;
    }
    return true;
}

static void too_long(struct parser *p)
{
    fail(p, "the content of <%s> is longer than %d bytes", el_name(top_el(p)), DOC_MAX_TEXT);
}

static void on_start(void *ctx, const xmlChar *local, const xmlChar *prefix, const xmlChar *uri, int nns, const xmlChar **ns, int nattrs, int ndefaulted,
                     const xmlChar **attrs)
{
    struct parser *p = ((xmlParserCtxtPtr)ctx)->_private;
    if (p->failed || !in_limits(p, nns, nattrs)) {
        return;
    }
    if (p->dropped) {
        p->dropped++;
        return;
    }
    if (p->raw_depth) {
        p->raw_depth++;
        if (!raw_start(p->raw, (const char *)local, (const char *)prefix, (const char *)uri, nns, ns, nattrs, attrs)) {
            too_long(p);
        }
        return;
    }
    const struct schema_link *link;
    uint16_t row = find_row(p, schema_name(p, (const char *)local, (const char *)prefix, (const char *)uri), (const char *)local, &link);
    if (row && link && link->flags & SCHEMA_DROP) {
        p->dropped = 1;
    } else if (row) {
        open_el(p, row, link, nattrs, attrs);
    }
}

static bool check_children(struct parser *p, const struct el *e)
{
    const struct schema_el *s = el_schema(e);
    struct attr_view view[128];
    unsigned n = s->flags & SCHEMA_NEEDS ? el_view(e, view) : 0;
    for (unsigned i = 0; s->flags & SCHEMA_NEEDS && i < s->nlinks; i++) {
        const struct schema_link *l = &schema_links[s->links + i];
        const char *name = schema_words[schema_els[l->el].name];
        if (l->flags & SCHEMA_REQUIRED && schema_holds(l->cond, view, n) && !el_child(e, name)) {
            fail_at(p, VIR_ERR_XML_ERROR, e->line, "<%s> lacks the element <%s>", el_name(e), name);
            return false;
        }
    }
    return true;
}

/* Brings the size that is the element's text to the unit that the schema writes it in. */
static bool scale_text(struct parser *p, struct el *e, const char *text)
{
    const struct schema_el *s = el_schema(e);
    if (!scale(p, el_name(e), text, el_get_or(e, "@unit", schema_words[s->unit]), s->unit, p->value)) {
        return false;
    }
    struct el_attr *attrs = e->nattrs ? doc_at(p->doc, e->attrs) : NULL;
    uint16_t name = schema_word("unit", 4);
    for (unsigned i = 0; i < e->nattrs; i++) {
        if (attrs[i].name == name) {
            attrs[i].value = DOC_WORD | s->unit;
            return true;
        }
    }
    uint32_t self = e->self, at = doc_grow(p->doc, (e->nattrs + 1) * sizeof *attrs);
    e = doc_el(p->doc, self); /* may have moved */
    attrs = doc_at(p->doc, at);
    if (e->nattrs) {
        memcpy(attrs, doc_at(p->doc, e->attrs), e->nattrs * sizeof *attrs);
    }
    attrs[e->nattrs++] = (struct el_attr){ .value = DOC_WORD | s->unit, .name = name };
    e->attrs = at;
    return true;
}

static char *trim(char *text)
{
    text += strspn(text, " \t\r\n");
    size_t size = strlen(text);
    while (size && strchr(" \t\r\n", text[size - 1])) {
        text[--size] = 0;
    }
    return text;
}

/* Takes an element that has just been read back out of its parent. */
static void forget(struct parser *p)
{
    struct frame *f = &g_array_index(p->frames, struct frame, p->frames->len - 2);
    *(f->before ? &doc_el(p->doc, f->before)->next : &doc_el(p->doc, f->el)->child) = 0;
    f->last = f->before;
    f->last_place = f->before_place;
}

static bool only_unit(const struct el *e)
{
    return !e->nattrs || (e->nattrs == 1 && el_get(e, "@unit"));
}

static void close_text(struct parser *p, uint32_t el, bool optional, char *text)
{
    const struct schema_el *s = el_schema(doc_el(p->doc, el));
    if (s->kind != KIND_TEXT && s->kind != KIND_ANY && s->kind != KIND_PATH) {
        text = trim(text);
    }
    if (s->kind == KIND_NONE && *text) {
        fail(p, "text '%.60s' in <%s>, where only %s may stand", text, schema_words[s->name], s->nlinks ? "elements" : "attributes");
        return;
    }
    if (s->kind == KIND_NONE || (s->nlinks && !*trim(text) && s->kind != KIND_WORDS)) {
        return;
    }
    struct value_type type = { .list = s->list, .range = s->range, .kind = s->kind, .width = s->width };
    g_autofree char *expected = NULL;
    const char *good = value_check(&type, text, doc_word(text, strlen(text)), p->value, &expected);
    if (!good && !*text && optional && only_unit(doc_el(p->doc, el))) {
        forget(p);
        return;
    }
    if (!good) {
        fail(p, "<%s> is '%.200s', expected is %s", schema_words[s->name], text, expected);
        return;
    }
    if (s->unit) {
        if (!scale_text(p, doc_el(p->doc, el), text)) {
            return;
        }
        good = p->value->str;
    }
    uint32_t at = *good ? doc_grow_string(p->doc, good, doc_word(good, strlen(good))) : 0;
    doc_el(p->doc, el)->text = at;
}

static void on_end(void *ctx, const xmlChar *local, const xmlChar *prefix, const xmlChar *uri)
{
    struct parser *p = ((xmlParserCtxtPtr)ctx)->_private;
    if (p->failed) {
        return;
    }
    p->namespaces -= p->declared[p->depth--];
    if (p->dropped) {
        p->dropped--;
        return;
    }
    if (p->raw_depth > 1) {
        p->raw_depth--;
        raw_end(p->raw);
        return;
    }
    struct frame f = *top(p);
    if (p->raw_depth) {
        p->raw_depth = 0;
        g_autofree char *raw = raw_finish(p->raw);
        uint32_t at = *raw ? doc_grow_string(p->doc, raw, 0) : 0;
        doc_el(p->doc, f.el)->text = at;
        doc_el(p->doc, f.el)->flags |= EL_RAW;
    } else {
        close_text(p, f.el, f.optional && p->frames->len > 1, p->text->str + f.text);
    }
    g_string_truncate(p->text, f.text);
    struct el *e = doc_el(p->doc, f.el);
    if (!p->failed && (f.disordered || el_schema(e)->flags & SCHEMA_UNORDERED) && !put_in_order(p, e)) {
        return;
    }
    if (!p->failed && check_children(p, doc_el(p->doc, f.el))) {
        g_array_set_size(p->frames, p->frames->len - 1);
    }
}

static bool is_blank(const char *text, int size)
{
    int i = 0;
    while (i < size && (text[i] == ' ' || text[i] == '\n' || text[i] == '\t' || text[i] == '\r')) {
        i++;
    }
    return i == size;
}

static void on_text(void *ctx, const xmlChar *text, int size)
{
    struct parser *p = ((xmlParserCtxtPtr)ctx)->_private;
    if (p->failed || p->dropped || !p->frames->len) {
        return;
    }
    if (p->raw_depth) {
        if (p->raw_depth > 1 && !raw_text(p->raw, (const char *)text, size)) {
            too_long(p);
        }
        return;
    }
    if (el_schema(top_el(p))->kind == KIND_NONE && is_blank((const char *)text, size)) {
        return; /* what indents the elements */
    }
    if (p->text->len + size > DOC_MAX_TEXT) {
        too_long(p);
        return;
    }
    g_string_append_len(p->text, (const char *)text, size);
}

static void on_doctype(void *ctx, const xmlChar *name, const xmlChar *id, const xmlChar *system)
{
    struct parser *p = ((xmlParserCtxtPtr)ctx)->_private;
    fail(p, "document type declarations (<!DOCTYPE ...>) and entities are not allowed");
}

static void on_error(void *ctx, xmlErrorPtr e)
{
    struct parser *p = ((xmlParserCtxtPtr)ctx)->_private;
    if (e->level < XML_ERR_ERROR || e->domain == XML_FROM_NAMESPACE) {
        return;
    }
    g_autofree char *text = g_strdup(e->message ? e->message : "it ends too early");
    g_strstrip(text);
    fail_at(p, VIR_ERR_XML_DETAIL, MAX(e->line, 0), "not well-formed: %s", text);
}

static void setup(struct parser *p, xmlParserCtxtPtr xml)
{
    xmlSAXHandler sax = {
        .internalSubset = on_doctype, .characters = on_text, .ignorableWhitespace = on_text, .cdataBlock = on_text, .startElementNs = on_start,
        .endElementNs = on_end, .serror = on_error, .initialized = XML_SAX2_MAGIC,
    };
    *xml->sax = sax;
    xml->_private = p;
    xml->options = XML_PARSE_NONET;
    xml->replaceEntities = 1; /* the five of XML itself: others cannot be declared. Else libxml2 hands &amp; in attributes on as &#38; */
    xml->loadsubset = 0;
    if (p->large) { /* find_crowd() knows no other encoding */
        xml->options |= XML_PARSE_IGNORE_ENC;
        xml->encoding = xmlStrdup((const xmlChar *)"UTF-8");
    }
    xml->linenumbers = 1;
    p->xml = xml;
}

/* libxml2 compares the attributes of an element with one another before it hands them over: a large text is looked through for elements with very many of them before. Returns
 * the line of the first one, else 0. */
static unsigned find_crowd(const char *xml, size_t size)
{
    static const struct { const char *start, *end; } skipped[] = { { "<!--", "-->" }, { "<![CDATA[", "]]>" }, { "<?", "?>" } };
    unsigned line = 1, count = 0;
    char quote = 0;
    bool inside = false;
    for (size_t i = 0; i < size; i++) {
        line += xml[i] == '\n';
        if (quote) {
            quote = xml[i] == quote ? 0 : quote;
        } else if (inside && (xml[i] == '"' || xml[i] == '\'')) {
            quote = xml[i];
        } else if (xml[i] == '<') {
            inside = true;
            count = 0;
            for (unsigned k = 0; k < G_N_ELEMENTS(skipped); k++) {
                size_t length = strlen(skipped[k].start);
                bool starts = size - i > length && !memcmp(xml + i, skipped[k].start, length);
                const char *end = starts ? g_strstr_len(xml + i, size - i, skipped[k].end) : NULL;
                if (end) {
                    i = end - xml; /* lines in there are not counted: the number is for orientation */
                    inside = false;
                }
            }
        } else if (xml[i] == '>') {
            inside = false;
        } else if (inside && xml[i] == '=' && ++count > 3 * DOC_MAX_ATTRIBUTES) {
            return line;
        }
    }
    return 0;
}

static void run(struct parser *p, const char *xml, size_t size)
{
    xmlParserCtxtPtr ctxt = size ? xmlCreateMemoryParserCtxt(xml, size) : NULL;
    if (!ctxt) {
        manage_fail(p->error, VIR_ERR_XML_ERROR, "the XML document is empty");
        p->failed = true;
        return;
    }
    setup(p, ctxt);
    unsigned crowd = p->large ? find_crowd(xml, size) : 0;
    if (crowd) {
        fail_at(p, VIR_ERR_XML_ERROR, crowd, "an element with more than %d attributes", DOC_MAX_ATTRIBUTES);
    } else {
        xmlParseDocument(ctxt);
    }
    if (!p->failed && (!ctxt->wellFormed || p->frames->len != p->outside)) {
        fail_at(p, VIR_ERR_XML_DETAIL, line_of(p), "not well-formed");
    }
    xmlFreeParserCtxt(ctxt);
}

/* parent: row of the element around the text; 0: none. */
static struct doc *parse(const struct schema *s, uint16_t parent, const char *xml, gssize size, GError **error)
{
    static gsize once;
    if (g_once_init_enter(&once)) {
        xmlInitParser();
        g_once_init_leave(&once, 1);
    }
    size_t bytes = size < 0 ? strlen(xml) : (size_t)size;
    if (bytes > DOC_MAX_SIZE) {
        return manage_null(error, VIR_ERR_XML_ERROR, "the XML document has %zu bytes, more than the %d that are allowed", bytes, DOC_MAX_SIZE);
    }
    struct parser p = { .doc = doc_alloc(s, bytes + bytes / 4 + 64), .error = error, .large = bytes > DOC_LARGE };
    p.frames = g_array_sized_new(FALSE, FALSE, sizeof(struct frame), 16);
    p.text = g_string_sized_new(256);
    p.scratch = g_string_sized_new(256);
    p.value = g_string_sized_new(64);
    p.size = g_string_sized_new(24);
    if (parent) {
        struct frame outside = { .el = new_el(&p, parent) };
        g_array_append_val(p.frames, outside);
        p.outside = true;
    }
    run(&p, xml, bytes);
    g_array_unref(p.frames);
    g_string_free(p.text, TRUE);
    g_string_free(p.scratch, TRUE);
    g_string_free(p.value, TRUE);
    g_string_free(p.size, TRUE);
    raw_free(p.raw);
    if (!p.failed && p.outside) {
        doc_root(p.doc)->parent = 0;
    }
    if (p.failed) {
        g_clear_pointer(&p.doc, doc_free);
        return NULL;
    }
    doc_shrink(p.doc);
    return p.doc;
}

struct doc *doc_parse(const struct schema *s, const char *xml, gssize size, GError **error)
{
    return parse(s, 0, xml, size, error);
}

struct doc *doc_parse_at(const struct schema *s, const char *path, const char *xml, gssize size, GError **error)
{
    uint16_t parent = schema_at(s, path);
    g_assert(parent);
    return parse(s, parent, xml, size, error);
}
