/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manage/model/doc_private.h"

#include <string.h>

uint16_t schema_word(const char *text, size_t length)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < length; i++) {
        h = (h ^ (uint8_t)text[i]) * 16777619u;
    }
    for (uint32_t at = h & schema_hash_mask; schema_hash[at]; at = (at + 1) & schema_hash_mask) {
        uint16_t word = schema_hash[at];
        if (schema_lengths[word] == length && !memcmp(schema_words[word], text, length)) {
            return word;
        }
    }
    return 0;
}

static uint16_t view_word(const struct attr_view *attrs, unsigned n, uint16_t name)
{
    for (unsigned i = 0; i < n; i++) {
        if (attrs[i].name == name) {
            return attrs[i].word;
        }
    }
    return schema_missing;
}

static bool row_holds(const struct schema_cond *c, const struct attr_view *attrs, unsigned n)
{
    uint16_t word = view_word(attrs, n, c->name);
    const uint16_t *list = &schema_lists[c->list];
    for (unsigned i = 1; i <= list[0]; i++) {
        if (list[i] == word) {
            return !c->negate;
        }
    }
    return c->negate;
}

bool schema_holds(uint16_t cond, const struct attr_view *attrs, unsigned n)
{
    if (!cond) {
        return true;
    }
    for (const struct schema_cond *c = &schema_conds[cond];; c++) {
        if (!row_holds(c, attrs, n)) {
            return false;
        }
        if (!c->more) {
            return true;
        }
    }
}

const struct schema_attr *schema_attr_of(const struct schema_el *e, uint16_t name, const struct attr_view *attrs, unsigned n, bool loose)
{
    const struct schema_attr *first = NULL;
    for (unsigned i = 0; i < e->nattrs; i++) {
        const struct schema_attr *a = &schema_attrs[e->attrs + i];
        if (a->name == name) {
            if (schema_holds(a->cond, attrs, n)) {
                return a;
            }
            first = first ? first : a;
        }
    }
    return loose ? first : NULL;
}

const struct schema_link *schema_link_of(const struct schema_el *e, uint16_t name, const struct attr_view *attrs, unsigned n, bool loose)
{
    const struct schema_link *first = NULL;
    for (unsigned i = 0; i < e->nlinks; i++) {
        const struct schema_link *l = &schema_links[e->links + i];
        if (schema_els[l->el].name == name) {
            if (schema_holds(l->cond, attrs, n)) {
                return l;
            }
            first = first ? first : l;
        }
    }
    return loose ? first : NULL;
}

uint16_t schema_at(const struct schema *s, const char *path)
{
    uint16_t at = s->root;
    for (const char *p = path; *p; p += *p == '/') {
        size_t length = strcspn(p, "/");
        const struct schema_link *l = schema_link_of(&schema_els[at], schema_word(p, length), NULL, 0, true);
        if (!l) {
            return 0;
        }
        at = l->el;
        p += length;
    }
    return at;
}

unsigned el_view(const struct el *e, struct attr_view view[128])
{
    const struct doc *d = el_doc(e);
    const struct el_attr *attrs = e->nattrs ? doc_at(d, e->attrs) : NULL;
    unsigned n = MIN(e->nattrs, 128);
    for (unsigned i = 0; i < n; i++) {
        view[i] = (struct attr_view){ attrs[i].name, attrs[i].value & DOC_WORD ? attrs[i].value & ~DOC_WORD : 0, doc_string(d, attrs[i].value) };
    }
    return n;
}

unsigned schema_place(const struct schema_el *parent, uint16_t el)
{
    for (unsigned i = 0; i < parent->nlinks; i++) {
        if (schema_links[parent->links + i].el == el) {
            return i;
        }
    }
    return parent->nlinks;
}
