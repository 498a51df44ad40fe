/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Documents: domain, network, pool, ... as trees of elements that follow a schema. The schemas are text (*.schema, its grammar is in
 * schema.md) made into tables at build time; parser, checker, formatter and reference walk those tables, nothing else knows the elements.
 * Reading is by path: el_get(e, "os/type/@arch"). A document in canonical form survives doc_parse and doc_format byte for byte.
 * No I/O here. A document is not locked: who shares one between threads locks or copies it.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct schema;
struct doc;
struct el;

extern const struct schema schema_domain, schema_network, schema_pool, schema_volume, schema_secret, schema_nodedev, schema_snapshot, schema_checkpoint,
    schema_interface, schema_nwfilter, schema_capabilities, schema_domaincaps, schema_cpu, schema_backup, schema_poolcaps, schema_networkport, schema_nwfilterbinding;

/* Parses and checks. Errors (VIR_ERR_XML_ERROR, VIR_ERR_XML_DETAIL) name line, element and what was expected. size < 0: a string. Document type
 * declarations are refused; depth, number of nodes and size are bounded. Values come out canonical: sizes in the schema's unit, UUIDs and MAC
 * addresses in lower case, numbers without leading zeroes; attributes that the schema gives a value for are there. */
struct doc *doc_parse(const struct schema *s, const char *xml, gssize size, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The same for one element that may stand under `path` of the schema: doc_parse_at(&schema_domain, "devices", "<disk ...") */
struct doc *doc_parse_at(const struct schema *s, const char *path, const char *xml, gssize size, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* An empty document with the root element alone. */
struct doc *doc_new(const struct schema *s);
/* A copy also lets go of what changes have left behind: what is changed for ever is to be replaced by its copy now and then. */
struct doc *doc_copy(const struct doc *d);
void doc_free(struct doc *d);
/* Releases on leaving the scope: doc_auto *d = doc_parse(...); */
static inline void doc_cleanup(struct doc **d)
{
    doc_free(*d);
}
#define doc_auto __attribute__((cleanup(doc_cleanup))) struct doc
/* Canonical text: the schema's order, two blanks a level, single quotes, a newline at the end. */
char *doc_format(const struct doc *d);
/* One element as text, indented by `level` levels. */
char *el_format(const struct el *e, unsigned level);

/* For people: all elements and attributes with their values, a line each. Free it. */
char *schema_describe(const struct schema *s);

/* ---- reading ---- */

struct el *doc_root(const struct doc *d);
const char *el_name(const struct el *e);
unsigned el_line(const struct el *e); /* of the text it came from; 0: made by the program */
struct el *el_parent(const struct el *e);
/* First child, or the next sibling after e; name NULL: any. NULL when there is none; e NULL gives NULL. */
struct el *el_child(const struct el *e, const char *name);
struct el *el_next(const struct el *e, const char *name);
#define el_each(c, e, name) for (struct el *c = el_child(e, name); c; c = el_next(c, name))
/* Path of child names, "a/b"; the first of each name. */
struct el *el_find(const struct el *e, const char *path);
/* Text of the element at "a/b", or the attribute at "a/b/@c" or "@c"; NULL where missing. An element without text gives "". Owned by the document. */
const char *el_get(const struct el *e, const char *path);
/* The same with a default. */
const char *el_get_or(const struct el *e, const char *path, const char *otherwise);
bool el_is(const struct el *e, const char *path, const char *value); /* equal? false where missing */
/* Numbers: decimal, or 0x; false where missing or not a number. */
bool el_get_u64(const struct el *e, const char *path, uint64_t *ret);
/* Sizes in bytes: the element's text times its unit attribute (b, bytes, KB, k, KiB, M, MiB, MB, ...; `unit` where there is no attribute). */
bool el_get_bytes(const struct el *e, const char *path, const char *unit, uint64_t *ret);

/* ---- changing ---- */

/* Strings that were read before stay good until the document is freed. Values are not checked; that is for doc_parse. */
/* All names must be in the schema (a defect of the caller: asserted). Children are kept in the schema's order, among the same name in order of adding. */
struct el *el_add(struct el *parent, const char *name);
/* Sets text or attribute at a path, making the elements on the way. value NULL: removes the attribute, or the element. printf-like form: el_setf. */
void el_set(struct el *e, const char *path, const char *value);
void el_setf(struct el *e, const char *path, const char *format, ...) G_GNUC_PRINTF(3, 4);
void el_remove(struct el *e);
struct el *el_copy(struct el *parent, const struct el *from); /* a copy of from becomes a child of parent; same schema */
bool el_equal(const struct el *a, const struct el *b);
/* Content that no schema describes (metadata): raw XML children. */
void el_set_raw(struct el *e, const char *xml);
const char *el_raw(const struct el *e);
