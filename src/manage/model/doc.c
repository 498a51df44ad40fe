/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading documents. */
#include "manage/model/doc_private.h"

#include <string.h>

struct el *doc_root(const struct doc *d)
{
    return doc_el(d, d->root);
}

const char *el_name(const struct el *e)
{
    return schema_words[el_schema(e)->name];
}

unsigned el_line(const struct el *e)
{
    return e->line;
}

struct el *el_parent(const struct el *e)
{
    return doc_el(el_doc(e), e->parent);
}

struct el *doc_first_named(const struct doc *d, uint32_t at, uint16_t word)
{
    struct el *e = doc_el(d, at);
    while (e && word && el_schema(e)->name != word) {
        e = doc_el(d, e->next);
    }
    return e;
}

static struct el *named(const struct doc *d, uint32_t at, const char *name)
{
    uint16_t word = name ? schema_word(name, strlen(name)) : 0;
    return name && !word ? NULL : doc_first_named(d, at, word);
}

struct el *el_child(const struct el *e, const char *name)
{
    return e ? named(el_doc(e), e->child, name) : NULL;
}

struct el *el_next(const struct el *e, const char *name)
{
    if (e && name && !strcmp(name, el_name(e))) { /* el_each(): the name need not be looked up for each */
        return doc_first_named(el_doc(e), e->next, el_schema(e)->name);
    }
    return e ? named(el_doc(e), e->next, name) : NULL;
}

struct el *el_find(const struct el *e, const char *path)
{
    const struct doc *d = e ? el_doc(e) : NULL;
    while (e && *path) {
        size_t length = strcspn(path, "/");
        uint16_t word = schema_word(path, length);
        e = word ? doc_first_named(d, e->child, word) : NULL;
        path += length;
        path += *path == '/';
    }
    return (struct el *)e;
}

static const char *attribute(const struct el *e, const char *name)
{
    const struct doc *d = el_doc(e);
    const struct el_attr *attrs = e->nattrs ? doc_at(d, e->attrs) : NULL;
    for (unsigned i = 0; i < e->nattrs; i++) {
        if (!strcmp(schema_words[attrs[i].name], name)) { /* there are few: cheaper than looking the word up */
            return doc_string(d, attrs[i].value);
        }
    }
    return NULL;
}

const char *el_get(const struct el *e, const char *path)
{
    const char *at = strchr(path, '@');
    char buffer[256];
    if (at && at != path) {
        g_assert((size_t)(at - path) < sizeof buffer);
        memcpy(buffer, path, at - path);
        buffer[at - path - 1] = 0;
        e = el_find(e, buffer);
    } else if (!at) {
        e = el_find(e, path);
    }
    if (!e) {
        return NULL;
    }
    return at ? attribute(e, at + 1) : e->text ? doc_string(el_doc(e), e->text) : "";
}

const char *el_get_or(const struct el *e, const char *path, const char *otherwise)
{
    const char *value = el_get(e, path);
    return value ? value : otherwise;
}

bool el_is(const struct el *e, const char *path, const char *value)
{
    const char *have = el_get(e, path);
    return have && !strcmp(have, value);
}

bool el_get_u64(const struct el *e, const char *path, uint64_t *ret)
{
    const char *text = el_get(e, path);
    return text && value_number(text, ret);
}

bool el_get_bytes(const struct el *e, const char *path, const char *unit, uint64_t *ret)
{
    const struct el *at = el_find(e, path);
    uint64_t number, factor = at ? value_unit(el_get_or(at, "@unit", unit)) : 0;
    if (!factor || !value_number(el_get(at, ""), &number)) {
        return false;
    }
    return !__builtin_mul_overflow(number, factor, ret);
}

const char *el_raw(const struct el *e)
{
    return e->text ? doc_string(el_doc(e), e->text) : "";
}

static bool attrs_equal(const struct el *a, const struct el *b)
{
    const struct doc *da = el_doc(a), *db = el_doc(b);
    const struct el_attr *x = a->nattrs ? doc_at(da, a->attrs) : NULL, *y = b->nattrs ? doc_at(db, b->attrs) : NULL;
    for (unsigned i = 0; i < a->nattrs; i++) {
        unsigned j = 0;
        while (j < b->nattrs && y[j].name != x[i].name) {
            j++;
        }
        if (j == b->nattrs || strcmp(doc_string(da, x[i].value), doc_string(db, y[j].value))) {
            return false;
        }
    }
    return a->nattrs == b->nattrs;
}

bool el_equal(const struct el *a, const struct el *b)
{
    if (!a || !b) {
        return a == b;
    }
    if (el_schema(a)->name != el_schema(b)->name || strcmp(el_raw(a), el_raw(b)) || !attrs_equal(a, b)) {
        return false;
    }
    const struct el *x = el_child(a, NULL), *y = el_child(b, NULL);
    while (x && y && el_equal(x, y)) {
        x = el_next(x, NULL);
        y = el_next(y, NULL);
    }
    return !x && !y;
}
