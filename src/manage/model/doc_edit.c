/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Making and changing documents. */
#include "manage/model/doc_private.h"

#include <string.h>

static struct el *el_new(struct doc *d, uint16_t schema)
{
    uint32_t at = doc_take(d, sizeof(struct el));
    struct el *e = doc_at(d, at);
    *e = (struct el){ .self = at, .schema = schema };
    return e;
}

struct doc *doc_new(const struct schema *s)
{
    struct doc *d = doc_alloc(s, 512);
    d->root = el_new(d, s->root)->self;
    return d;
}

/* The last child that goes before one in place `place`; NULL: none. */
static struct el *before(const struct el *parent, unsigned place)
{
    const struct schema_el *s = el_schema(parent);
    struct el *last = NULL;
    el_each (c, parent, NULL) {
        if (!(s->flags & SCHEMA_UNORDERED) && schema_place(s, c->schema) > place) {
            break;
        }
        last = c;
    }
    return last;
}

static void hang(struct el *parent, struct el *e)
{
    struct el *last = before(parent, schema_place(el_schema(parent), e->schema));
    uint32_t *link = last ? &last->next : &parent->child;
    e->parent = parent->self;
    e->next = *link;
    *link = e->self;
}

struct el *el_insert(struct el *parent, const struct schema_link *link)
{
    struct el *e = el_new(el_doc(parent), link->el);
    hang(parent, e);
    return e;
}

static const struct schema_link *link_of(const struct el *parent, uint16_t name)
{
    struct attr_view view[128];
    return name ? schema_link_of(el_schema(parent), name, view, el_view(parent, view), true) : NULL;
}

/* name: of `length` bytes, and its word. */
static struct el *add_word(struct el *parent, uint16_t word, const char *name, size_t length)
{
    const struct schema_link *link = link_of(parent, word);
    if (!link) {
        g_error("no element '%.*s' in '%s' in schema '%s'", (int)length, name, el_name(parent), el_doc(parent)->schema->name);
    }
    return el_insert(parent, link);
}

struct el *el_add(struct el *parent, const char *name)
{
    size_t length = strlen(name);
    return add_word(parent, schema_word(name, length), name, length);
}

/* An attribute has changed on which the rows of children may depend: finds their rows anew, with all that is in them. */
static void settle(struct el *e)
{
    el_each (c, e, NULL) {
        const struct schema_link *link = link_of(e, el_schema(c)->name);
        if (link && link->el != c->schema) {
            c->schema = link->el;
            settle(c);
        }
    }
}

static void attr_remove(struct el *e, uint16_t name)
{
    struct el_attr *attrs = e->nattrs ? doc_at(el_doc(e), e->attrs) : NULL;
    for (unsigned i = 0; i < e->nattrs; i++) {
        if (attrs[i].name == name) {
            memmove(&attrs[i], &attrs[i + 1], (e->nattrs - i - 1) * sizeof *attrs);
            e->nattrs--;
            return;
        }
    }
}

static void attr_set(struct el *e, uint16_t name, const char *value)
{
    struct doc *d = el_doc(e);
    struct el_attr *attrs = e->nattrs ? doc_at(d, e->attrs) : NULL;
    for (unsigned i = 0; i < e->nattrs; i++) {
        if (attrs[i].name == name) {
            if (strcmp(doc_string(d, attrs[i].value), value)) {
                attrs[i].value = doc_add_string(d, value);
            }
            return;
        }
    }
    uint32_t at = doc_take(d, (e->nattrs + 1) * sizeof *attrs);
    struct el_attr *more = doc_at(d, at);
    if (e->nattrs) {
        memcpy(more, attrs, e->nattrs * sizeof *attrs);
    }
    more[e->nattrs] = (struct el_attr){ .value = doc_add_string(d, value), .name = name };
    e->attrs = at;
    e->nattrs++;
}

static void set_attribute(struct el *e, const char *name, const char *value)
{
    const struct schema_el *s = el_schema(e);
    uint16_t word = schema_word(name, strlen(name));
    if (!word || !schema_attr_of(s, word, NULL, 0, true)) {
        g_error("no attribute '%s' in '%s' in schema '%s'", name, el_name(e), el_doc(e)->schema->name);
    }
    if (value) {
        attr_set(e, word, value);
    } else {
        attr_remove(e, word);
    }
    if (s->flags & SCHEMA_VARIES) {
        settle(e);
    }
}

static void set_text(struct el *e, const char *value)
{
    struct doc *d = el_doc(e);
    if (!e->text || strcmp(doc_string(d, e->text), value)) {
        e->text = *value ? doc_add_string(d, value) : 0;
    }
}

void el_set(struct el *e, const char *path, const char *value)
{
    while (*path && *path != '@') {
        size_t length = strcspn(path, "/");
        uint16_t word = schema_word(path, length);
        struct el *child = word ? doc_first_named(el_doc(e), e->child, word) : NULL;
        if (!child && !value) {
            return;
        }
        e = child ? child : add_word(e, word, path, length);
        path += length;
        path += *path == '/';
    }
    if (*path == '@') {
        set_attribute(e, path + 1, value);
    } else if (value) {
        set_text(e, value);
    } else {
        el_remove(e);
    }
}

void el_setf(struct el *e, const char *path, const char *format, ...)
{
    char small[64];
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    size_t need = (size_t)g_vsnprintf(small, sizeof small, format, args);
    g_autofree char *big = need < sizeof small ? NULL : g_strdup_vprintf(format, again);
    va_end(again);
    va_end(args);
    el_set(e, path, big ? big : small);
}

void el_remove(struct el *e)
{
    struct el *parent = el_parent(e);
    g_assert(parent);
    struct doc *d = el_doc(e);
    uint32_t *link = &parent->child;
    while (*link != e->self) {
        link = &doc_el(d, *link)->next;
    }
    *link = e->next;
}

static void copy_into(struct el *to, const struct el *from)
{
    const struct doc *source = el_doc(from);
    struct doc *d = el_doc(to);
    to->flags = from->flags;
    to->line = from->line;
    to->text = from->text ? doc_add_string(d, doc_string(source, from->text)) : 0;
    if (from->nattrs) {
        const struct el_attr *old = doc_at(source, from->attrs);
        to->attrs = doc_take(d, from->nattrs * sizeof *old);
        struct el_attr *attrs = doc_at(d, to->attrs);
        for (unsigned i = 0; i < from->nattrs; i++) {
            attrs[i] = old[i];
            attrs[i].value = doc_add_string(d, doc_string(source, old[i].value));
        }
        to->nattrs = from->nattrs;
    }
    uint32_t *last = &to->child;
    el_each (c, from, NULL) {
        const struct schema_link *link = link_of(to, el_schema(c)->name);
        if (link) {
            struct el *copy = el_new(d, link->el);
            copy->parent = to->self;
            *last = copy->self;
            last = &copy->next;
            copy_into(copy, c);
        }
    }
}

struct doc *doc_rebuild(const struct doc *d)
{
    uint32_t size = 0;
    for (unsigned i = 0; i < d->nchunks; i++) {
        size += d->chunks[i]->used;
    }
    struct doc *copy = doc_alloc(d->schema, size);
    copy->root = el_new(copy, doc_root(d)->schema)->self;
    copy_into(doc_root(copy), doc_root(d));
    return copy;
}

struct el *el_copy(struct el *parent, const struct el *from)
{
    struct el *copy = el_add(parent, el_name(from));
    copy_into(copy, from);
    return copy;
}

void el_set_raw(struct el *e, const char *xml)
{
    g_assert(el_schema(e)->kind == KIND_RAW);
    e->flags |= EL_RAW;
    set_text(e, xml ? xml : "");
}
