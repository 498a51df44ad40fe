/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The tables that schema_compile.py makes of *.schema. One set for all schemas: an element that stands in a group is one row wherever the
 * group is put in, so that schemas share rows (a domain inside a snapshot) and may be recursive. Index 0 of each table means "none".
 * Only the files of this folder look inside.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum schema_kind {
    KIND_NONE, KIND_UINT, KIND_INT, KIND_HEX, KIND_HEXU, KIND_HEXA, KIND_OCT, KIND_BOOL, KIND_ONOFF, KIND_UUID, KIND_NAME, KIND_PATH, KIND_ABSPATH, KIND_MAC, KIND_IP,
    KIND_SCALED, KIND_CPUSET, KIND_TEXT, KIND_ANY, KIND_WORDS, KIND_RAW, KIND_NUMBER,
    KIND_UNIT, KIND_WWN, KIND_DISKDEV, KIND_USBPORT, KIND_TIME,
};

enum schema_flags {
    SCHEMA_REQUIRED = 1, /* of attributes and links */
    SCHEMA_XMLNS_FIRST = 1, /* of elements: declarations of namespaces go before the attributes */
    SCHEMA_MANY = 2,     /* of links */
    SCHEMA_DROP = 4,     /* of links and attributes: read and forgotten */
    SCHEMA_UNORDERED = 8,  /* of elements: children stay in the order in which they came */
    SCHEMA_OPEN = 16,    /* of elements: written with an end tag even when empty */
    SCHEMA_NEEDS = 32,   /* of elements: some child is required */
    SCHEMA_VARIES = 64,  /* of elements: some line depends on an attribute */
    SCHEMA_BLANK = 128,  /* of elements: an empty line goes before the first child and after this element */
    SCHEMA_SCALES = 256, /* of elements: some attribute is a size with a unit of its own */
    SCHEMA_PREFIXED = 512, /* of elements: children of a namespace are possible, which is declared here */
};

struct schema_attr {
    uint16_t name, list, range, cond;
    uint16_t fallback; /* word that stands where the attribute is missing */
    uint8_t kind, flags, width;
    uint16_t unit;     /* word: the size that it holds, with attribute "unit" or "units" beside it, is brought to this unit */
};

struct schema_el {
    uint16_t name, list, range, unit; /* unit: word, the one that a scaled number is brought to */
    uint16_t attrs, nattrs, links, nlinks;
    uint8_t kind, width;
    uint16_t flags;
};

/* That an element may stand in another. */
struct schema_link {
    uint16_t el, cond;
    uint8_t flags;
};

/* Holds when attribute `name` has (negate: has not) a word of `list`; word "-": is missing. `more`: the next row must hold as well. */
struct schema_cond {
    uint16_t name, list;
    bool negate, more;
};

struct schema_range {
    int64_t low;
    uint64_t high;
};

struct schema_namespace {
    const char *prefix, *uri;
};

struct schema {
    const char *name;
    uint16_t root;
};

extern const char *const schema_words[];      /* names and values */
extern const uint16_t schema_nwords, schema_missing; /* schema_missing: the word "-" */
extern const uint8_t schema_lengths[];        /* of the words; 255: that long or longer */
extern const uint16_t schema_hash[];          /* open addressing; word numbers */
extern const uint32_t schema_hash_mask;
extern const struct schema_attr schema_attrs[];
extern const struct schema_el schema_els[];
extern const struct schema_link schema_links[];
extern const struct schema_cond schema_conds[];
extern const struct schema_range schema_ranges[];
extern const uint16_t schema_lists[];         /* at an offset: the number of words, then the words */
extern const struct schema_namespace schema_namespaces[]; /* ends with NULL */
