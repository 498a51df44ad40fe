/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Typed parameters: the rows of C programs and those of the wire, and the public helpers. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "manage/api/api.h"

/* ---- to and from the wire ---- */

/* Rows are read from the list's serialised form, since four GVariants for each took most of the time of a call that returns thousands. GVariant Specification, 2.3 to 2.5:
   children that vary in size end where little-endian offsets at their container's end say, the last member of a tuple needs none; offsets are as wide as the size of their
   container asks for; rows and variants begin at multiples of 8; a variant is its value, a zero byte and its type. Values are in the host's byte order. */
static gsize offset_width(gsize size) { return size <= 0xff ? 1 : size <= 0xffff ? 2 : size <= 0xffffffff ? 4 : 8; }

static gsize offset_at(const guint8 *at, gsize width)
{
    guint64 v = 0;
    memcpy(&v, at, width);
    return (gsize)GUINT64_FROM_LE(v);
}

static gsize aligned(gsize n) { return (n + 7) & ~(gsize)7; }

/* `size` bytes of a value whose type is the letter behind it and a zero byte. */
static bool fill_value(virTypedParameterPtr p, const guint8 *value, gsize size)
{
    static const struct {
        char letter;
        int type;
        gsize size;
    } types[] = {
        { 'i', VIR_TYPED_PARAM_INT, sizeof(p->value.i) },    { 'u', VIR_TYPED_PARAM_UINT, sizeof(p->value.ui) },
        { 'x', VIR_TYPED_PARAM_LLONG, sizeof(p->value.l) },  { 't', VIR_TYPED_PARAM_ULLONG, sizeof(p->value.ul) },
        { 'd', VIR_TYPED_PARAM_DOUBLE, sizeof(p->value.d) }, { 'b', VIR_TYPED_PARAM_BOOLEAN, sizeof(p->value.b) },
    };
    if (size < 3 || value[size - 2])
        return false;
    char letter = (char)value[size - 1];
    size -= 2;
    if (letter == 's' && !value[size - 1]) {
        p->type = VIR_TYPED_PARAM_STRING;
        p->value.s = g_strdup((const char *)value);
        return true;
    }
    for (gsize i = 0; i < G_N_ELEMENTS(types); i++)
        if (types[i].letter == letter && types[i].size == size) {
            p->type = types[i].type;
            memcpy(&p->value, value, size);
            return true;
        }
    return false;
}

/* A row (sv). */
static bool fill_one(virTypedParameterPtr p, const guint8 *row, gsize size)
{
    gsize width = offset_width(size), end = size > width ? offset_at(row + size - width, width) : 0;
    memset(p, 0, sizeof(*p));
    if (!end || end > size - width || row[end - 1] || aligned(end) >= size - width)
        return api_fail(NULL, VIR_ERR_RPC, "a typed parameter is not well formed"), false;
    if (g_strlcpy(p->field, (const char *)row, sizeof(p->field)) >= sizeof(p->field))
        return api_fail(NULL, VIR_ERR_RPC, "the name of parameter '%.40s...' is too long", p->field), false;
    if (!fill_value(p, row + aligned(end), size - width - aligned(end)))
        return api_fail(NULL, VIR_ERR_RPC, "parameter '%s' has a type that C does not know", p->field), false;
    return true;
}

int api_params_fill(GVariant *list, virTypedParameterPtr params, int nparams)
{
    g_autoptr(GVariant) normal = g_variant_get_normal_form(list); /* the same one unless somebody made it by hand */
    const guint8 *data = g_variant_get_data(normal);
    gsize size = g_variant_get_size(normal), n = g_variant_n_children(normal), width = offset_width(size), end = 0;
    for (int i = 0; i < nparams; i++) {
        gsize start = aligned(end);
        end = offset_at(data + size - (n - (gsize)i) * width, width);
        if (!fill_one(&params[i], data + start, end - start)) {
            virTypedParamsClear(params, i);
            return -1;
        }
    }
    return 0;
}

virTypedParameterPtr api_params_of(GVariant *list, int *ret_n)
{
    int n = (int)g_variant_n_children(list);
    virTypedParameterPtr params = g_new0(virTypedParameter, (gsize)n + 1);
    if (api_params_fill(list, params, n) < 0)
        n = 0;
    if (ret_n)
        *ret_n = n;
    return params;
}

static GVariant *value_of(const virTypedParameter *p)
{
    switch (p->type) {
    case VIR_TYPED_PARAM_INT:
        return g_variant_new_int32(p->value.i);
    case VIR_TYPED_PARAM_UINT:
        return g_variant_new_uint32(p->value.ui);
    case VIR_TYPED_PARAM_LLONG:
        return g_variant_new_int64(p->value.l);
    case VIR_TYPED_PARAM_ULLONG:
        return g_variant_new_uint64(p->value.ul);
    case VIR_TYPED_PARAM_DOUBLE:
        return g_variant_new_double(p->value.d);
    case VIR_TYPED_PARAM_BOOLEAN:
        return g_variant_new_boolean(p->value.b);
    default:
        return g_variant_new_string(p->value.s && g_utf8_validate(p->value.s, -1, NULL) ? p->value.s : "");
    }
}

GVariant *api_params_variant(const virTypedParameter *params, int nparams)
{
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(sv)"));
    for (int i = 0; i < nparams; i++)
        g_variant_builder_add(&b, "(sv)", params[i].field, value_of(&params[i]));
    return g_variant_builder_end(&b);
}

/* ---- public: finding ---- */

static virTypedParameterPtr find(virTypedParameterPtr params, int nparams, const char *name)
{
    for (int i = 0; params && name && i < nparams; i++)
        if (!strncmp(params[i].field, name, VIR_TYPED_PARAM_FIELD_LENGTH))
            return &params[i];
    return NULL;
}

virTypedParameterPtr virTypedParamsGet(virTypedParameterPtr params, int nparams, const char *name)
{
    virResetLastError();
    return find(params, nparams, name);
}

/* 1: found, 0: there is none, -1: it has another type. */
static int get(virTypedParameterPtr params, int nparams, const char *name, int type, virTypedParameterPtr *ret)
{
    static const char *const names[] = { "unknown", "int", "uint", "llong", "ullong", "double", "boolean", "string" };
    virResetLastError();
    *ret = find(params, nparams, name);
    if (!*ret || (*ret)->type == type)
        return *ret != NULL;
    api_fail(NULL, VIR_ERR_INVALID_ARG, "parameter '%s' is of type %s, not %s", name, (*ret)->type > 0 && (*ret)->type < 8 ? names[(*ret)->type] : "unknown",
             names[type]);
    return -1;
}

#define GETTER(Name, TYPE, ctype, member)                                                                        \
    int virTypedParamsGet##Name(virTypedParameterPtr params, int nparams, const char *name, ctype *value)        \
    {                                                                                                            \
        virTypedParameterPtr p;                                                                                  \
        int found = get(params, nparams, name, VIR_TYPED_PARAM_##TYPE, &p);                                      \
        if (found > 0 && value)                                                                                  \
            *value = p->value.member;                                                                            \
        return found;                                                                                            \
    }
GETTER(Int, INT, int, i)
GETTER(UInt, UINT, unsigned int, ui)
GETTER(LLong, LLONG, long long, l)
GETTER(ULLong, ULLONG, unsigned long long, ul)
GETTER(Double, DOUBLE, double, d)
GETTER(String, STRING, const char *, s)

int virTypedParamsGetBoolean(virTypedParameterPtr params, int nparams, const char *name, int *value)
{
    virTypedParameterPtr p;
    int found = get(params, nparams, name, VIR_TYPED_PARAM_BOOLEAN, &p);
    if (found > 0 && value)
        *value = !!p->value.b;
    return found;
}

/* ---- public: building ---- */

/* A new last row, or NULL with the last error. */
static virTypedParameterPtr add(virTypedParameterPtr *params, int *nparams, int *maxparams, const char *name, int type)
{
    virResetLastError();
    if (!params || !nparams || !maxparams || !name || strlen(name) >= VIR_TYPED_PARAM_FIELD_LENGTH) {
        api_fail(NULL, VIR_ERR_INVALID_ARG, "a parameter needs a name of at most %d characters", VIR_TYPED_PARAM_FIELD_LENGTH - 1);
        return NULL;
    }
    if (*nparams + 1 > *maxparams) {
        int more = MAX(*maxparams * 2, 8);
        *params = g_renew(virTypedParameter, *params, (gsize)more);
        *maxparams = more;
    }
    virTypedParameterPtr p = &(*params)[(*nparams)++];
    memset(p, 0, sizeof(*p));
    g_strlcpy(p->field, name, sizeof(p->field));
    p->type = type;
    return p;
}

#define ADDER(Name, TYPE, ctype, member, expression)                                                                                \
    int virTypedParamsAdd##Name(virTypedParameterPtr *params, int *nparams, int *maxparams, const char *name, ctype value)          \
    {                                                                                                                               \
        virTypedParameterPtr p = add(params, nparams, maxparams, name, VIR_TYPED_PARAM_##TYPE);                                     \
        if (p)                                                                                                                      \
            p->value.member = expression;                                                                                           \
        return p ? 0 : -1;                                                                                                          \
    }
ADDER(Int, INT, int, i, value)
ADDER(UInt, UINT, unsigned int, ui, value)
ADDER(LLong, LLONG, long long, l, value)
ADDER(ULLong, ULLONG, unsigned long long, ul, value)
ADDER(Double, DOUBLE, double, d, value)
ADDER(Boolean, BOOLEAN, int, b, (char)!!value)
ADDER(String, STRING, const char *, s, g_strdup(value))

int virTypedParamsAddStringList(virTypedParameterPtr *params, int *nparams, int *maxparams, const char *name, const char **values)
{
    for (; values && *values; values++)
        if (virTypedParamsAddString(params, nparams, maxparams, name, *values) < 0)
            return -1;
    return 0;
}

static bool parse(virTypedParameterPtr p, const char *value)
{
    char *end = NULL;
    errno = 0;
    switch (p->type) {
    case VIR_TYPED_PARAM_INT: {
        long v = strtol(value, &end, 10);
        p->value.i = (int)v;
        return v == (int)v && !errno && end != value && !*end;
    }
    case VIR_TYPED_PARAM_UINT: {
        unsigned long v = strtoul(value, &end, 10);
        p->value.ui = (unsigned)v;
        return v == (unsigned)v && !errno && end != value && !*end;
    }
    case VIR_TYPED_PARAM_LLONG:
        p->value.l = strtoll(value, &end, 10);
        return !errno && end != value && !*end;
    case VIR_TYPED_PARAM_ULLONG:
        p->value.ul = strtoull(value, &end, 10);
        return !errno && end != value && !*end;
    case VIR_TYPED_PARAM_DOUBLE:
        p->value.d = g_ascii_strtod(value, &end);
        return !errno && end != value && !*end;
    case VIR_TYPED_PARAM_BOOLEAN:
        p->value.b = !strcmp(value, "1");
        return p->value.b || !strcmp(value, "0");
    case VIR_TYPED_PARAM_STRING:
        p->value.s = g_strdup(value);
        return true;
    default:
        return false;
    }
}

int virTypedParamsAddFromString(virTypedParameterPtr *params, int *nparams, int *maxparams, const char *name, int type, const char *value)
{
    virTypedParameterPtr p = add(params, nparams, maxparams, name, type);
    if (!p)
        return -1;
    if (value && parse(p, value))
        return 0;
    (*nparams)--;
    api_fail(NULL, VIR_ERR_INVALID_ARG, "'%s' is not a value for parameter '%s'", value ? value : "(null)", name);
    return -1;
}

void virTypedParamsClear(virTypedParameterPtr params, int nparams)
{
    for (int i = 0; params && i < nparams; i++) {
        if (params[i].type == VIR_TYPED_PARAM_STRING)
            g_clear_pointer(&params[i].value.s, g_free);
    }
}

void virTypedParamsFree(virTypedParameterPtr params, int nparams)
{
    virTypedParamsClear(params, nparams);
    g_free(params);
}
