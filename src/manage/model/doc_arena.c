/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manage/model/doc_private.h"

#include <string.h>

static struct doc_chunk *chunk_new(struct doc *d, uint32_t size)
{
    struct doc_chunk *c = g_malloc(size);
    *c = (struct doc_chunk){ .doc = d, .used = sizeof *c, .size = size, .number = d->nchunks };
    d->chunks = g_renew(struct doc_chunk *, d->chunks, d->nchunks + 1);
    d->chunks[d->nchunks++] = c;
    return c;
}

struct doc *doc_alloc(const struct schema *s, uint32_t size)
{
    struct doc *d = g_new0(struct doc, 1);
    d->schema = s;
    chunk_new(d, CLAMP(size, 256, DOC_CHUNK_MAX));
    return d;
}

static uint32_t take_from(struct doc_chunk *c, size_t size)
{
    uint32_t at = c->used;
    c->used += size;
    return c->number << DOC_PLACE_BITS | at / DOC_UNIT;
}

uint32_t doc_take(struct doc *d, size_t size)
{
    size = (size + DOC_UNIT - 1) / DOC_UNIT * DOC_UNIT;
    struct doc_chunk *c = d->chunks[d->nchunks - 1];
    if (c->used + size > c->size) {
        g_assert(d->nchunks < DOC_MAX_CHUNKS);
        c = chunk_new(d, CLAMP((size_t)512 << MIN(d->nchunks, 13), size + sizeof *c, MAX(size + sizeof *c, DOC_CHUNK_MAX)));
    }
    return take_from(c, size);
}

uint32_t doc_grow(struct doc *d, size_t size)
{
    struct doc_chunk *c = d->chunks[0];
    size = (size + DOC_UNIT - 1) / DOC_UNIT * DOC_UNIT;
    if (d->nchunks == 1 && c->used + size > c->size && c->used + size <= DOC_CHUNK_MAX) {
        c->size = MIN(MAX(c->size * 2, c->used + size), DOC_CHUNK_MAX);
        d->chunks[0] = c = g_realloc(c, c->size);
    }
    return doc_take(d, size);
}

uint16_t doc_word(const char *text, size_t length)
{
    return length <= DOC_WORD_MAX ? schema_word(text, length) : 0;
}

uint32_t doc_add_string(struct doc *d, const char *text)
{
    size_t length = strlen(text);
    uint16_t word = doc_word(text, length);
    if (word) {
        return DOC_WORD | word;
    }
    uint32_t at = doc_take(d, length + 1);
    memcpy(doc_at(d, at), text, length + 1);
    return at;
}

uint32_t doc_grow_string(struct doc *d, const char *text, uint16_t word)
{
    if (word) {
        return DOC_WORD | word;
    }
    size_t size = strlen(text) + 1;
    uint32_t at = doc_grow(d, size);
    memcpy(doc_at(d, at), text, size);
    return at;
}

void doc_shrink(struct doc *d)
{
    struct doc_chunk *c = d->chunks[0];
    c->size = c->used;
    d->chunks[0] = c = g_realloc(c, c->size);
}

/* A document that has been changed is copied element by element, so that the copy is free of what was replaced. */
struct doc *doc_copy(const struct doc *d)
{
    if (d->nchunks > 1) {
        return doc_rebuild(d);
    }
    struct doc *copy = g_memdup2(d, sizeof *d);
    copy->chunks = g_new(struct doc_chunk *, 1);
    copy->chunks[0] = g_malloc(d->chunks[0]->used);
    memcpy(copy->chunks[0], d->chunks[0], d->chunks[0]->used);
    copy->chunks[0]->size = d->chunks[0]->used;
    copy->chunks[0]->doc = copy;
    return copy;
}

void doc_free(struct doc *d)
{
    if (d) {
        for (unsigned i = 0; i < d->nchunks; i++) {
            g_free(d->chunks[i]);
        }
        g_free(d->chunks);
        g_free(d);
    }
}
