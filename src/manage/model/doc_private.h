/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How a document lies in memory. Ten thousand definitions are to be cheap, so elements are 32 bytes and attributes 8; they refer to one
 * another by 32-bit numbers: chunk (11 bits) and place in it (20 bits, in units of four bytes). A number with the highest bit set is a word of
 * the schema's tables, which costs nothing. A parsed document is one chunk of the exact size; what is added later goes to further chunks, so
 * that elements never move. What is replaced or removed stays in the chunk until the document is freed or copied through text.
 */
#pragma once

#include "manage/model/doc.h"
#include "manage/model/schema.h"

enum { DOC_UNIT = 4, DOC_PLACE_BITS = 20, DOC_PLACE_MASK = (1 << DOC_PLACE_BITS) - 1, DOC_CHUNK_MAX = DOC_PLACE_MASK * DOC_UNIT, DOC_MAX_CHUNKS = 2047 };
#define DOC_WORD 0x80000000u

/* Limits of what is read. */
enum { DOC_MAX_SIZE = 16 << 20, DOC_MAX_NODES = 200000, DOC_MAX_NAMESPACES = 1000, DOC_MAX_ATTRIBUTES = 120, DOC_MAX_DEPTH = 220, DOC_MAX_TEXT = 8 << 20, DOC_LARGE = 32 << 10 };

enum { EL_RAW = 1 };

struct el {
    uint32_t self, parent, next, child; /* next: also the list's order */
    uint32_t text, attrs;               /* attrs: array of struct el_attr */
    uint32_t line;
    uint16_t schema; /* row of schema_els */
    uint8_t nattrs, flags;
};

struct el_attr {
    uint32_t value;
    uint16_t attr; /* row of schema_attrs */
    uint16_t name;
};

struct doc_chunk {
    struct doc *doc;
    uint32_t used, size; /* bytes, with this header */
    uint32_t number;
};

struct doc {
    const struct schema *schema;
    struct doc_chunk **chunks;
    uint32_t nchunks, root;
};

static inline void *doc_at(const struct doc *d, uint32_t number)
{
    return (char *)d->chunks[number >> DOC_PLACE_BITS] + (size_t)(number & DOC_PLACE_MASK) * DOC_UNIT;
}

static inline struct el *doc_el(const struct doc *d, uint32_t number)
{
    return number ? doc_at(d, number) : NULL;
}

static inline const char *doc_string(const struct doc *d, uint32_t number)
{
    return number & DOC_WORD ? schema_words[number & ~DOC_WORD] : doc_at(d, number);
}

static inline struct doc *el_doc(const struct el *e)
{
    return ((struct doc_chunk *)((char *)e - (size_t)(e->self & DOC_PLACE_MASK) * DOC_UNIT))->doc;
}

static inline const struct schema_el *el_schema(const struct el *e)
{
    return &schema_els[e->schema];
}

/* doc.c: the first of this and those after it that has the name; word 0: any. */
struct el *doc_first_named(const struct doc *d, uint32_t at, uint16_t word);

/* doc_arena.c. Numbers stay good when a chunk moves, pointers do not: the first chunk moves only while doc_parse works (doc_grow). */
struct doc *doc_alloc(const struct schema *s, uint32_t size);
uint32_t doc_take(struct doc *d, size_t size);
uint32_t doc_grow(struct doc *d, size_t size);
uint32_t doc_add_string(struct doc *d, const char *text);
/* The same by doc_grow; word: what schema_word() says of it. */
uint32_t doc_grow_string(struct doc *d, const char *text, uint16_t word);
enum { DOC_WORD_MAX = 48 }; /* longer texts are not looked for among the words */
uint16_t doc_word(const char *text, size_t length);
/* Cuts the first chunk to what is used; before anybody has pointers. */
void doc_shrink(struct doc *d);

/* doc_table.c: questions to the tables. */

/* Number of a word; 0: no name or value of any schema. */
uint16_t schema_word(const char *text, size_t length);
struct attr_view {
    uint16_t name, word; /* word: of the value, 0 where it is none of the tables' */
    const char *value;
};
bool schema_holds(uint16_t cond, const struct attr_view *attrs, unsigned n);
/* The attribute of this name whose condition holds; NULL: none. loose: where none holds, the first of that name. */
const struct schema_attr *schema_attr_of(const struct schema_el *e, uint16_t name, const struct attr_view *attrs, unsigned n, bool loose);
const struct schema_link *schema_link_of(const struct schema_el *e, uint16_t name, const struct attr_view *attrs, unsigned n, bool loose);
/* Row of schema_els at a path from the root; 0: none. */
uint16_t schema_at(const struct schema *s, const char *path);
unsigned el_view(const struct el *e, struct attr_view view[128]);
/* Place of a row among the links of its parent. */
unsigned schema_place(const struct schema_el *parent, uint16_t el);

/* doc_value.c */

/* Is text a value of this kind? NULL: no (*ret_expected then says what was expected; free it). Else the canonical form: text itself, or written to buffer. */
struct value_type {
    uint16_t list, range;
    uint8_t kind, width;
};
const char *value_check(const struct value_type *t, const char *text, uint16_t word, GString *buffer, char **ret_expected);
/* A list of names for people, cut where it gets long. */
void value_append_list(GString *s, uint16_t list);
bool value_number(const char *text, uint64_t *ret);
/* Bytes of one unit; 0: no such unit. */
uint64_t value_unit(const char *unit);

/* doc_edit.c */
struct el *el_insert(struct el *parent, const struct schema_link *link);
/* A copy in as few chunks as may be. */
struct doc *doc_rebuild(const struct doc *d);

/* doc_raw.c: content without schema, made canonical: an element a line, attributes in double quotes, comments gone. */
struct raw;
struct raw *raw_new(void);
void raw_free(struct raw *r);
/* False: it has become longer than DOC_MAX_TEXT. */
bool raw_start(struct raw *r, const char *local, const char *prefix, const char *uri, int nns, const unsigned char **ns, int nattrs, const unsigned char **attrs);
void raw_end(struct raw *r);
bool raw_text(struct raw *r, const char *text, int size);
/* The content as text at the left margin; r is empty then. */
char *raw_finish(struct raw *r);
void raw_format(GString *out, const char *raw, unsigned level);
void doc_escape(GString *out, const char *text, bool attribute);
