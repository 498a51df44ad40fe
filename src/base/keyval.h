/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Option text "a=b,c=d" and tables of the keys an option knows. The text's rules are those that users of QEMU's command
 * line know: ",," is a comma inside a value; the first item may be a value alone when the option has an implied key; a
 * later item alone is a flag (KEY is KEY=on, noKEY is KEY=off); a text that starts with '{' is JSON, whose nested members
 * become dotted keys. The order and repetition of keys are kept.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct keyval_pair {
    char *key;
    char *value; /* NULL: a flag, nothing after the key */
};
struct keyval {
    GPtrArray *pairs; /* struct keyval_pair *, in the order given */
};

/* implied: key of a first item without "="; NULL when there is none. */
struct keyval *keyval_parse(const char *text, const char *implied, GError **error) G_GNUC_WARN_UNUSED_RESULT;
struct keyval *keyval_new(void);
struct keyval *keyval_copy(const struct keyval *kv);
void keyval_free(struct keyval *kv);
static inline void keyval_cleanup(struct keyval **kv)
{
    keyval_free(*kv);
}
#define keyval_auto __attribute__((cleanup(keyval_cleanup))) struct keyval

void keyval_add(struct keyval *kv, const char *key, const char *value);
/* The last value of `key`, or NULL; "on" for a flag. */
const char *keyval_get(const struct keyval *kv, const char *key);
/* Removes every `key` and returns its last value (the caller frees), or NULL. */
char *keyval_take(struct keyval *kv, const char *key);
/* The pairs as a table of strings, later ones win; flags as in the rules above. */
GHashTable *keyval_to_hash(const struct keyval *kv);
struct keyval *keyval_from_hash(GHashTable *hash);
/* The members below "prefix.": keys without the prefix. Removes them from kv. */
struct keyval *keyval_take_nested(struct keyval *kv, const char *prefix);

/* One row per key that an option knows. */
enum keyval_type {
    KV_STRING,  /* char *, replaced (freed) */
    KV_BOOL,    /* bool: on off yes no true false y n */
    KV_UINT,    /* uint64_t in min..max (max 0: no limit) */
    KV_SIZE,    /* uint64_t in min..max, bytes; suffix K M G T P E (binary), fractions */
    KV_ENUM,    /* int: index into values */
    KV_LIST,    /* GPtrArray * of char *, created when NULL */
    KV_ONLY,    /* accepted without effect when the value is one of `values`; help says what others would need */
    KV_IGNORED, /* accepted without effect */
    KV_REFUSED  /* known and not available; help says why and what to do */
};
struct keyval_key {
    const char *name;
    enum keyval_type type;
    size_t offset; /* in the struct given to keyval_load */
    const char *help;
    const char *const *values; /* NULL-terminated */
    uint64_t min, max;
};
/* Stores every pair where its row says. A key without a row is an error that lists the keys and the nearest one; `to` may
 * be partly filled then. keys ends with name NULL. */
bool keyval_load(const struct keyval *kv, const struct keyval_key *keys, void *to, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Single values, with the name of the parameter for the message. */
bool keyval_bool(const char *name, const char *value, bool *ret, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool keyval_uint(const char *name, const char *value, uint64_t min, uint64_t max, uint64_t *ret, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
/* unit: what a number without suffix counts (1, or 1 << 20). */
bool keyval_size(const char *name, const char *value, uint64_t unit, uint64_t *ret, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Index of value in names (NULL-terminated); an error that lists them. */
bool keyval_enum(const char *name, const char *value, const char *const *names, int *ret, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/* The name nearest to `word` by edit distance, or NULL when none is near enough to be a slip of the hand. */
const char *nearest_name(const char *word, const char *const *names, size_t n);
