/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/keyval.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"

static void pair_free(void *p)
{
    struct keyval_pair *pair = p;
    g_free(pair->key);
    g_free(pair->value);
    g_free(pair);
}

struct keyval *keyval_new(void)
{
    struct keyval *kv = g_new0(struct keyval, 1);
    kv->pairs = g_ptr_array_new_with_free_func(pair_free);
    return kv;
}

void keyval_free(struct keyval *kv)
{
    if (!kv)
        return;
    g_ptr_array_unref(kv->pairs);
    g_free(kv);
}

void keyval_add(struct keyval *kv, const char *key, const char *value)
{
    struct keyval_pair *pair = g_new0(struct keyval_pair, 1);
    pair->key = g_strdup(key);
    pair->value = g_strdup(value);
    g_ptr_array_add(kv->pairs, pair);
}

struct keyval *keyval_copy(const struct keyval *kv)
{
    struct keyval *copy = keyval_new();
    for (guint i = 0; i < kv->pairs->len; i++) {
        const struct keyval_pair *p = kv->pairs->pdata[i];
        keyval_add(copy, p->key, p->value);
    }
    return copy;
}

/* Text up to a single comma, ",," standing for one; *pos moves behind it. */
static char *take_value(const char **pos)
{
    GString *s = g_string_new(NULL);
    const char *p = *pos;
    for (; *p; p++) {
        if (*p == ',') {
            if (p[1] != ',')
                break;
            p++;
        }
        g_string_append_c(s, *p);
    }
    *pos = *p ? p + 1 : p;
    return g_string_free(s, FALSE);
}

static bool parse_item(struct keyval *kv, const char **pos, const char *implied, GError **error)
{
    size_t n = strcspn(*pos, "=,");
    if ((*pos)[n] == '=') {
        if (!n)
            return vireo_fail(error, VIREO_ERROR_INVALID, "a parameter without name at '%s'", *pos);
        g_autofree char *key = g_strndup(*pos, n);
        *pos += n + 1;
        g_autofree char *value = take_value(pos);
        keyval_add(kv, key, value);
        return true;
    }
    g_autofree char *word = take_value(pos);
    if (implied)
        keyval_add(kv, implied, word);
    else if (*word)
        keyval_add(kv, word, NULL);
    else
        return vireo_fail(error, VIREO_ERROR_INVALID, "an empty parameter; write ',,' for a comma inside a value");
    return true;
}

struct keyval *keyval_parse(const char *text, const char *implied, GError **error)
{
    keyval_auto *kv = keyval_new();
    if (*text == '{') {
        if (!json_flatten(text, kv, error))
            return NULL;
        return g_steal_pointer(&kv);
    }
    const char *pos = text;
    while (*pos) {
        if (!parse_item(kv, &pos, pos == text ? implied : NULL, error))
            return NULL;
    }
    return g_steal_pointer(&kv);
}

const char *keyval_get(const struct keyval *kv, const char *key)
{
    for (guint i = kv->pairs->len; i-- > 0;) {
        const struct keyval_pair *p = kv->pairs->pdata[i];
        if (!strcmp(p->key, key))
            return p->value ? p->value : "on";
    }
    return NULL;
}

char *keyval_take(struct keyval *kv, const char *key)
{
    char *value = g_strdup(keyval_get(kv, key));
    for (guint i = kv->pairs->len; i-- > 0;) {
        const struct keyval_pair *p = kv->pairs->pdata[i];
        if (!strcmp(p->key, key))
            g_ptr_array_remove_index(kv->pairs, i);
    }
    return value;
}

GHashTable *keyval_to_hash(const struct keyval *kv)
{
    GHashTable *h = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    for (guint i = 0; i < kv->pairs->len; i++) {
        const struct keyval_pair *p = kv->pairs->pdata[i];
        bool off = !p->value && g_str_has_prefix(p->key, "no") && p->key[2];
        g_hash_table_replace(h, g_strdup(off ? p->key + 2 : p->key), g_strdup(p->value ? p->value : off ? "off" : "on"));
    }
    return h;
}

struct keyval *keyval_from_hash(GHashTable *hash)
{
    struct keyval *kv = keyval_new();
    GHashTableIter it;
    void *key, *value;
    if (hash) {
        g_hash_table_iter_init(&it, hash);
        while (g_hash_table_iter_next(&it, &key, &value))
            keyval_add(kv, key, value);
    }
    return kv;
}

struct keyval *keyval_take_nested(struct keyval *kv, const char *prefix)
{
    struct keyval *nested = keyval_new();
    size_t n = strlen(prefix);
    for (guint i = 0; i < kv->pairs->len;) {
        const struct keyval_pair *p = kv->pairs->pdata[i];
        if (!strncmp(p->key, prefix, n) && p->key[n] == '.') {
            keyval_add(nested, p->key + n + 1, p->value);
            g_ptr_array_remove_index(kv->pairs, i);
        } else {
            i++;
        }
    }
    return nested;
}

bool keyval_bool(const char *name, const char *value, bool *ret, GError **error)
{
    static const struct { const char *text; bool value; } forms[] = {
        { "on", true }, { "yes", true }, { "true", true }, { "y", true },
        { "off", false }, { "no", false }, { "false", false }, { "n", false },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(forms); i++) {
        if (!strcmp(value, forms[i].text)) {
            *ret = forms[i].value;
            return true;
        }
    }
    return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter '%s' expects 'on' or 'off', not '%s'", name, value);
}

bool keyval_uint(const char *name, const char *value, uint64_t min, uint64_t max, uint64_t *ret, GError **error)
{
    char *end;
    if (!max)
        max = UINT64_MAX;
    errno = 0;
    /* strtoull takes "-1" for the largest number. */
    uint64_t v = g_ascii_isdigit(*value) ? g_ascii_strtoull(value, &end, 0) : (end = (char *)value, 0);
    if (end == value || *end || errno)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter '%s' expects a number, not '%s'", name, value);
    if (v < min || v > max)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter '%s' must lie between %" G_GUINT64_FORMAT " and %" G_GUINT64_FORMAT
                          ", not %s", name, min, max, value);
    *ret = v;
    return true;
}

static uint64_t suffix_unit(char c)
{
    static const char suffixes[] = "KMGTPE";
    const char *p = c ? strchr(suffixes, g_ascii_toupper(c)) : NULL;
    return p ? UINT64_C(1) << (10 * (p - suffixes + 1)) : c == 'B' || c == 'b' ? 1 : 0;
}

bool keyval_size(const char *name, const char *value, uint64_t unit, uint64_t *ret, GError **error)
{
    char *end = (char *)value;
    uint64_t whole = 0;
    double fraction = 0;
    errno = 0;
    if (g_ascii_isdigit(*value))
        whole = g_ascii_strtoull(value, &end, g_str_has_prefix(value, "0x") ? 16 : 10);
    bool ok = end != value && !errno;
    if (ok && *end == '.') {
        char *f = end;
        fraction = g_ascii_strtod(f, &end);
        ok = end != f && fraction < 1;
    }
    if (ok && *end) {
        unit = suffix_unit(*end);
        ok = unit && !end[1];
    }
    if (!ok || (whole && unit > UINT64_MAX / whole))
        return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter '%s' expects a size below 2^64 with an optional suffix "
                          "K, M, G, T, P or E, not '%s'", name, value);
    *ret = whole * unit + (uint64_t)(fraction * (double)unit);
    return true;
}

bool keyval_enum(const char *name, const char *value, const char *const *names, int *ret, GError **error)
{
    for (int i = 0; names[i]; i++) {
        if (!strcmp(value, names[i])) {
            *ret = i;
            return true;
        }
    }
    g_autofree char *all = g_strjoinv("', '", (char **)names);
    return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter '%s' does not accept '%s'; there are: '%s'", name, value, all);
}

static size_t edit_distance(const char *a, const char *b)
{
    size_t n = strlen(b);
    g_autofree size_t *row = g_new(size_t, n + 1);
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t change = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = MIN(change, MIN(row[j], row[j - 1]) + 1);
        }
    }
    return row[n];
}

const char *nearest_name(const char *word, const char *const *names, size_t n)
{
    const char *best = NULL;
    size_t best_distance = strlen(word) / 3 + 2;
    if (strlen(word) > 64)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        size_t d = edit_distance(word, names[i]);
        if (d < best_distance) {
            best = names[i];
            best_distance = d;
        }
    }
    return best;
}

static bool unknown_key(const char *key, const struct keyval_key *keys, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    for (const struct keyval_key *k = keys; k->name; k++) {
        if (k->type != KV_REFUSED)
            g_ptr_array_add(names, (void *)k->name);
    }
    const char *near = nearest_name(key, (const char *const *)names->pdata, names->len);
    g_autofree char *hint = near ? g_strdup_printf("did you mean '%s'? ", near) : g_strdup("");
    if (!names->len)
        return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid parameter '%s'; none is taken here", key);
    g_ptr_array_add(names, NULL);
    g_autofree char *all = g_strjoinv(", ", (char **)names->pdata);
    return vireo_fail(error, VIREO_ERROR_INVALID, "Invalid parameter '%s'; %sthere are: %s", key, hint, all);
}

static const struct keyval_key *find_key(const struct keyval_key *keys, const char *name)
{
    for (; keys->name; keys++) {
        if (!strcmp(keys->name, name))
            return keys;
    }
    return NULL;
}

static bool store(const struct keyval_key *k, const char *value, void *to, GError **error)
{
    char *field = (char *)to + k->offset;
    uint64_t u = 0;
    switch (k->type) {
    case KV_STRING:
        g_free(*(char **)field);
        *(char **)field = g_strdup(value);
        return true;
    case KV_LIST:
        if (!*(GPtrArray **)field)
            *(GPtrArray **)field = g_ptr_array_new_with_free_func(g_free);
        g_ptr_array_add(*(GPtrArray **)field, g_strdup(value));
        return true;
    case KV_BOOL:
        return keyval_bool(k->name, value, (bool *)field, error);
    case KV_UINT:
        return keyval_uint(k->name, value, k->min, k->max, (uint64_t *)field, error);
    case KV_SIZE:
        if (!keyval_size(k->name, value, 1, &u, error))
            return false;
        if (u < k->min || (k->max && u > k->max))
            return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter '%s' must lie between %" G_GUINT64_FORMAT " and %"
                              G_GUINT64_FORMAT " bytes", k->name, k->min, k->max ? k->max : UINT64_MAX);
        *(uint64_t *)field = u;
        return true;
    case KV_ENUM:
        return keyval_enum(k->name, value, k->values, (int *)field, error);
    case KV_ONLY:
        return g_strv_contains(k->values, value)
               || vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Parameter '%s=%s' is not available: %s", k->name, value, k->help);
    case KV_IGNORED:
        return true;
    case KV_REFUSED:
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "Parameter '%s' is not available: %s", k->name, k->help);
    }
    return false;
}

bool keyval_load(const struct keyval *kv, const struct keyval_key *keys, void *to, GError **error)
{
    for (guint i = 0; i < kv->pairs->len; i++) {
        const struct keyval_pair *p = kv->pairs->pdata[i];
        const struct keyval_key *k = find_key(keys, p->key);
        const char *value = p->value;
        if (!value) { /* a flag */
            bool off = !k && g_str_has_prefix(p->key, "no") && (k = find_key(keys, p->key + 2)) != NULL;
            if (k && (k->type == KV_STRING || k->type == KV_UINT || k->type == KV_SIZE || k->type == KV_LIST))
                return vireo_fail(error, VIREO_ERROR_INVALID, "Parameter '%s' needs a value: %s=...", p->key, p->key);
            value = off ? "off" : "on";
        }
        if (!k)
            return unknown_key(p->key, keys, error);
        if (!store(k, value, to, error))
            return false;
    }
    return true;
}
