/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The saved form of a device's values, one after the other: length of the name (1 byte), the name, size of an element (1 byte), number
 * of elements (4 bytes), the elements; all numbers little-endian.
 */
#include "vmm/core/state.h"

#include <stdarg.h>
#include <string.h>

#include "base/error.h"
#include "vmm/core/device.h"

#if G_BYTE_ORDER != G_LITTLE_ENDIAN
#error "elements are copied as they lie in memory: on a big-endian host they need turning"
#endif

struct state_writer {
    GByteArray *bytes;
    char *refused;
};

struct value {
    const uint8_t *data;
    uint32_t count;
    uint8_t size;
    bool read;
};

struct state_reader {
    GBytes *bytes;
    char *what;
    GHashTable *values; /* name -> struct value */
};

struct state_writer *state_writer_new(void)
{
    struct state_writer *w = g_new0(struct state_writer, 1);
    w->bytes = g_byte_array_new();
    return w;
}

void state_put(struct state_writer *w, const char *name, const void *data, unsigned size, uint32_t count)
{
    uint8_t length = (uint8_t)strlen(name), element = (uint8_t)size;
    uint32_t le = GUINT32_TO_LE(count);
    g_byte_array_append(w->bytes, &length, 1);
    g_byte_array_append(w->bytes, (const uint8_t *)name, length);
    g_byte_array_append(w->bytes, &element, 1);
    g_byte_array_append(w->bytes, (const uint8_t *)&le, sizeof(le));
    if (count)
        g_byte_array_append(w->bytes, data, size * count);
}

void state_put_u64(struct state_writer *w, const char *name, uint64_t value)
{
    state_put(w, name, &value, sizeof(value), 1);
}

void state_refuse(struct state_writer *w, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (!w->refused)
        w->refused = g_strdup_vprintf(format, args);
    va_end(args);
}

const char *state_refused(const struct state_writer *w)
{
    return w->refused;
}

GBytes *state_writer_end(struct state_writer *w)
{
    GBytes *bytes = g_byte_array_free_to_bytes(w->bytes);
    g_free(w->refused);
    g_free(w);
    return bytes;
}

/* One value from *at on, of *left bytes. */
static bool read_value(const uint8_t **at, size_t *left, char **ret_name, struct value *ret)
{
    const uint8_t *p = *at;
    size_t length = *left ? p[0] : 0;
    uint32_t le;
    if (!length || *left < 1 + length + 1 + sizeof(le) || memchr(p + 1, 0, length))
        return false;
    *ret = (struct value){ .size = p[1 + length] };
    memcpy(&le, p + 1 + length + 1, sizeof(le));
    ret->count = GUINT32_FROM_LE(le);
    ret->data = p + 1 + length + 1 + sizeof(le);
    size_t rest = *left - (size_t)(ret->data - p), bytes = (size_t)ret->size * ret->count;
    if ((ret->size != 1 && ret->size != 2 && ret->size != 4 && ret->size != 8) || bytes > rest)
        return false;
    *ret_name = g_strndup((const char *)p + 1, length);
    *at = ret->data + bytes;
    *left = rest - bytes;
    return true;
}

struct state_reader *state_reader_new(GBytes *bytes, const char *what, GError **error)
{
    struct state_reader *r = g_new0(struct state_reader, 1);
    size_t left;
    const uint8_t *at = g_bytes_get_data(bytes, &left);
    r->bytes = g_bytes_ref(bytes);
    r->what = g_strdup(what);
    r->values = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    while (left) {
        struct value v;
        char *name;
        if (!read_value(&at, &left, &name, &v)) {
            vireo_fail(error, VIREO_ERROR_INVALID, "the saved state of %s is cut off or damaged %zu bytes before its end", what, left);
            state_reader_free(r);
            return NULL;
        }
        if (!g_hash_table_insert(r->values, name, g_memdup2(&v, sizeof(v)))) {
            vireo_fail(error, VIREO_ERROR_INVALID, "the saved state of %s has a value twice", what);
            state_reader_free(r);
            return NULL;
        }
    }
    return r;
}

static struct value *look_up(struct state_reader *r, const char *name, unsigned size, GError **error)
{
    struct value *v = g_hash_table_lookup(r->values, name);
    if (!v) {
        state_bad(r, error, "it lacks '%s'", name);
        return NULL;
    }
    v->read = true;
    if (v->size == size)
        return v;
    state_bad(r, error, "'%s' has elements of %u bytes, not %u", name, v->size, size);
    return NULL;
}

bool state_get_count(struct state_reader *r, const char *name, unsigned size, uint32_t max, uint32_t *ret_count, GError **error)
{
    const struct value *v = look_up(r, name, size, error);
    if (!v)
        return false;
    if (v->count > max)
        return state_bad(r, error, "'%s' has %u elements, more than %u", name, v->count, max);
    *ret_count = v->count;
    return true;
}

bool state_get_some(struct state_reader *r, const char *name, void *ret, unsigned size, uint32_t max, uint32_t *ret_count, GError **error)
{
    const struct value *v = look_up(r, name, size, error);
    if (!v)
        return false;
    if (v->count > max)
        return state_bad(r, error, "'%s' has %u elements, more than %u", name, v->count, max);
    if (v->count)
        memcpy(ret, v->data, (size_t)size * v->count);
    *ret_count = v->count;
    return true;
}

bool state_get(struct state_reader *r, const char *name, void *ret, unsigned size, uint32_t count, GError **error)
{
    const struct value *v = look_up(r, name, size, error);
    if (!v)
        return false;
    if (v->count != count)
        return state_bad(r, error, "'%s' has %u elements, not %u", name, v->count, count);
    if (count)
        memcpy(ret, v->data, (size_t)size * count);
    return true;
}

bool state_get_u64(struct state_reader *r, const char *name, uint64_t max, uint64_t *ret, GError **error)
{
    uint64_t v = 0;
    if (!state_get(r, name, &v, sizeof(v), 1, error))
        return false;
    if (v > max)
        return state_bad(r, error, "'%s' is %" G_GUINT64_FORMAT ", more than %" G_GUINT64_FORMAT, name, v, max);
    *ret = v;
    return true;
}

const uint8_t *state_get_bytes(struct state_reader *r, const char *name, uint32_t *ret_size, GError **error)
{
    const struct value *v = look_up(r, name, 1, error);
    if (!v)
        return NULL;
    *ret_size = v->count;
    return v->data;
}

bool state_has(const struct state_reader *r, const char *name)
{
    return g_hash_table_contains(r->values, name);
}

bool state_bad(const struct state_reader *r, GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *why = g_strdup_vprintf(format, args);
    va_end(args);
    return vireo_fail(error, VIREO_ERROR_INVALID, "the saved state of %s cannot be used: %s", r->what, why);
}

bool state_reader_end(struct state_reader *r, GError **error)
{
    GHashTableIter it;
    void *name, *value;
    bool ok = true;
    g_hash_table_iter_init(&it, r->values);
    while (ok && g_hash_table_iter_next(&it, &name, &value)) {
        if (!((struct value *)value)->read)
            ok = state_bad(r, error, "it has '%s', which this version does not know", (char *)name);
    }
    state_reader_free(r);
    return ok;
}

void state_reader_free(struct state_reader *r)
{
    g_hash_table_unref(r->values);
    g_bytes_unref(r->bytes);
    g_free(r->what);
    g_free(r);
}

void device_save(struct device *d, struct state_writer *w)
{
    for (const struct device_field *f = d->class->fields; f && f->name; f++)
        state_put(w, f->name, (const char *)d + f->offset, f->size, f->count);
    if (d->class->save)
        d->class->save(d, w);
}

static bool load_field(struct device *d, const struct device_field *f, struct state_reader *r, GError **error)
{
    uint8_t *at = (uint8_t *)d + f->offset;
    if (!state_get(r, f->name, at, f->size, f->count, error))
        return false;
    for (unsigned i = 0; f->truth && i < f->count; i++) {
        if (at[i] > 1) {
            memset(at, 0, f->count);
            return state_bad(r, error, "'%s' is neither 0 nor 1", f->name);
        }
    }
    return true;
}

bool device_load(struct device *d, struct state_reader *r, GError **error)
{
    for (const struct device_field *f = d->class->fields; f && f->name; f++) {
        if (!load_field(d, f, r, error))
            return false;
    }
    return !d->class->load || d->class->load(d, r, error);
}
