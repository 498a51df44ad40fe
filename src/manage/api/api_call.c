/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One call: the C arguments become the procedure's tuple, by its letters, and the reply becomes what C wants. */
#include <stdlib.h>
#include <string.h>

#include "manage/api/api.h"

/* ---- arguments ---- */

struct packer {
    const char *func;
    const char *at; /* next letter */
    va_list args;
    bool failed;
};

static GVariant *bytes(const void *data, gsize size)
{
    return g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, data ? data : "", size, 1);
}

/* GVariants are UTF-8; what a program passes need not be. */
static GVariant *text(struct packer *p, const char *s)
{
    if (s && g_utf8_validate(s, -1, NULL))
        return g_variant_new_string(s);
    if (!p->failed)
        api_fail(NULL, VIR_ERR_INVALID_ARG, s ? "a string in %s is not UTF-8" : "a string in %s must not be NULL", p->func);
    p->failed = true;
    return g_variant_new_string("");
}

static GVariant *handle(struct packer *p, const void *object, enum api_class class)
{
    if (!p->failed && !api_valid(p->func, object, class))
        p->failed = true;
    return p->failed ? NULL : api_object_variant(object);
}

static enum api_class class_of_letter(char c)
{
    static const struct { char c; enum api_class class; } letters[] = {
        { 'D', API_DOMAIN }, { 'N', API_NETWORK }, { 'P', API_POOL }, { 'F', API_NWFILTER }, { 'V', API_VOLUME },
        { 'S', API_SECRET }, { 'I', API_INTERFACE }, { 'Z', API_SNAPSHOT }, { '(', API_NODEDEV },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(letters); i++)
        if (letters[i].c == c)
            return letters[i].class;
    return 0;
}

/* Letters of two classes go by the handle: snapshots and checkpoints are Z, interfaces and bindings I. */
static GVariant *pack_handle(struct packer *p, char c, const void *object)
{
    enum api_class class = class_of_letter(c);
    if (c == '(') { /* records: (s) node device, (NU) port */
        class = !strncmp(p->at, "NU", 2) ? API_PORT : API_NODEDEV;
        p->at = strchr(p->at, ')') + 1;
    }
    if (c == 'I' && object && ((const struct api_object *)object)->magic == API_MAGIC + API_BINDING)
        class = API_BINDING;
    if (c == 'Z' && object && ((const struct api_object *)object)->magic == API_MAGIC + API_CHECKPOINT)
        class = API_CHECKPOINT;
    return handle(p, object, class);
}

static GVariant *pack_array(struct packer *p)
{
    while (g_ascii_isdigit(*p->at))
        p->at++;
    char c = *p->at++;
    const void *data = va_arg(p->args, const void *);
    unsigned n = va_arg(p->args, unsigned);
    if (!data)
        n = 0;
    if (c == 'T')
        return api_params_variant(data, (int)n);
    if (c == 'u' || c == 'i')
        return g_variant_new_fixed_array(c == 'u' ? G_VARIANT_TYPE_UINT32 : G_VARIANT_TYPE_INT32, data ? data : "", n, 4);
    if (c == 't' || c == 'x')
        return g_variant_new_fixed_array(c == 't' ? G_VARIANT_TYPE_UINT64 : G_VARIANT_TYPE_INT64, data ? data : "", n, 8);
    GVariantBuilder b;
    g_variant_builder_init(&b, c == 's' ? G_VARIANT_TYPE("as") : c == 'D' ? G_VARIANT_TYPE("a(sayi)") : G_VARIANT_TYPE("a*"));
    for (unsigned i = 0; i < n && !p->failed; i++) {
        GVariant *v = c == 's' ? text(p, ((const char *const *)data)[i]) : pack_handle(p, c, ((void *const *)data)[i]);
        if (v)
            g_variant_builder_add_value(&b, v);
    }
    return g_variant_builder_end(&b);
}

static GVariant *pack_one(struct packer *p);

static const GVariantType *pointer_type(char c)
{
    return c == 's' ? G_VARIANT_TYPE_STRING : c == 'O' || c == 'U' ? G_VARIANT_TYPE_BYTESTRING : c == 'D' ? G_VARIANT_TYPE("(sayi)") :
           c == 'V' ? G_VARIANT_TYPE("(sss)") : c == 'S' ? G_VARIANT_TYPE("(ayis)") : c == 'I' ? G_VARIANT_TYPE("(ss)") : c == '(' ? G_VARIANT_TYPE("(s)") :
                                                                                                                             G_VARIANT_TYPE("(say)");
}

static GVariant *pack_optional(struct packer *p)
{
    va_list look;
    va_copy(look, p->args);
    const void *pointer = va_arg(look, const void *);
    va_end(look);
    if (pointer) {
        GVariant *v = pack_one(p);
        return v ? g_variant_new_maybe(NULL, v) : NULL;
    }
    char c = *p->at++;
    (void)va_arg(p->args, const void *);
    if (c == 'O')
        (void)va_arg(p->args, size_t);
    if (c == '(')
        p->at = strchr(p->at, ')') + 1;
    return g_variant_new_maybe(pointer_type(c), NULL);
}

static GVariant *pack_one(struct packer *p)
{
    char c = *p->at++;
    switch (c) {
    case 'i':
        return g_variant_new_int32(va_arg(p->args, int));
    case 'u':
        return g_variant_new_uint32(va_arg(p->args, unsigned));
    case 'b':
        return g_variant_new_boolean(va_arg(p->args, int));
    case 'x':
        return g_variant_new_int64(va_arg(p->args, int64_t));
    case 't':
        return g_variant_new_uint64(va_arg(p->args, uint64_t));
    case 'd':
        return g_variant_new_double(va_arg(p->args, double));
    case 's':
        return text(p, va_arg(p->args, const char *));
    case 'U': {
        const uint8_t *uuid = va_arg(p->args, const uint8_t *);
        if (!uuid && !p->failed) {
            api_fail(NULL, VIR_ERR_INVALID_ARG, "uuid in %s must not be NULL", p->func);
            p->failed = true;
        }
        return bytes(uuid, uuid ? 16 : 0);
    }
    case 'O': {
        const void *data = va_arg(p->args, const void *);
        return bytes(data, va_arg(p->args, size_t));
    }
    case 'm':
        return pack_optional(p);
    case 'a':
        return pack_array(p);
    default:
        return pack_handle(p, c, va_arg(p->args, const void *));
    }
}

/* Not floating; NULL: the last error is set. */
static GVariant *pack(struct packer *p)
{
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE_TUPLE);
    while (*p->at && !p->failed) {
        GVariant *v = pack_one(p);
        if (v)
            g_variant_builder_add_value(&b, v);
    }
    if (p->failed) {
        g_variant_builder_clear(&b);
        return NULL;
    }
    return g_variant_ref_sink(g_variant_builder_end(&b));
}

/* ---- the call ---- */

struct extra {
    const int *fds;
    unsigned nfds;
    GArray *ret_fds;
    virStreamPtr st;
};

static bool usable(const char *func, virConnectPtr conn, const struct rpc_proc *proc, unsigned number)
{
    if (!proc)
        api_fail(conn, VIR_ERR_NO_SUPPORT, "%s (procedure %u)", func, number);
    else if (conn->closed || !conn->backend)
        api_fail(conn, VIR_ERR_INVALID_CONN, "%s: the connection is closed", func);
    else if (conn->readonly && (proc->flags & RPC_WRITE))
        api_fail(conn, VIR_ERR_OPERATION_DENIED, "read only access prevents %s", func);
    else
        return true;
    return false;
}

static GVariant *vcall(const char *func, const struct api_object *o, enum api_class class, const struct extra *x, unsigned number, va_list args)
{
    if (!api_begin(func, o, class) || (x && x->st && !api_valid(func, x->st, API_STREAM)))
        return NULL;
    const struct rpc_proc *proc = rpc_proc(number);
    if (!usable(func, o->conn, proc, number))
        return NULL;
    struct packer p = { .func = func, .at = proc->args };
    va_copy(p.args, args);
    g_autoptr(GVariant) tuple = pack(&p);
    va_end(p.args);
    if (!tuple)
        return NULL;
    if (x && x->st && x->st->link) {
        api_fail(o->conn, VIR_ERR_INVALID_ARG, "%s: the stream is in use already", func);
        return NULL;
    }
    GError *error = NULL;
    static const struct extra none = { 0 };
    if (!x)
        x = &none;
    int domain = 0;
    GVariant *ret = o->conn->backend->call(o->conn, proc, tuple, x->fds, x->nfds, x->ret_fds, x->st, &domain, &error);
    if (!ret && g_error_matches(error, MANAGE_ERROR, VIR_ERR_NO_SUPPORT) && g_str_has_suffix(error->message, proc->name)) {
        g_error_free(error); /* programs know the function by its own name */
        api_fail(o->conn, VIR_ERR_NO_SUPPORT, "%s", func);
    } else if (!ret) {
        api_fail_error(o->conn, error, domain);
    }
    return ret;
}

#define WITH_ARGS(last, statement)  \
    do {                            \
        va_list args;               \
        va_start(args, last);       \
        statement;                  \
        va_end(args);               \
    } while (0)

GVariant *api_call(const char *func, const void *object, enum api_class class, unsigned proc, ...)
{
    GVariant *ret;
    WITH_ARGS(proc, ret = vcall(func, object, class, NULL, proc, args));
    return ret;
}

GVariant *api_call_fds(const char *func, const void *object, enum api_class class, const int *fds, unsigned nfds, GArray *ret_fds, unsigned proc, ...)
{
    GVariant *ret;
    const struct extra x = { fds, nfds, ret_fds, NULL };
    WITH_ARGS(proc, ret = vcall(func, object, class, &x, proc, args));
    return ret;
}

GVariant *api_call_stream(const char *func, const void *object, enum api_class class, virStreamPtr st, unsigned proc, ...)
{
    if (!st) {
        if (api_begin(func, object, class))
            api_valid(func, st, API_STREAM);
        return NULL;
    }
    GVariant *ret;
    const struct extra x = { .st = st };
    WITH_ARGS(proc, ret = vcall(func, object, class, &x, proc, args));
    return ret;
}

int api_void(const char *func, const void *object, enum api_class class, unsigned proc, ...)
{
    g_autoptr(GVariant) ret = NULL;
    WITH_ARGS(proc, ret = vcall(func, object, class, NULL, proc, args));
    return ret ? 0 : -1;
}

/* ---- replies ---- */

static int number_of(GVariant *v)
{
    switch (g_variant_classify(v)) {
    case G_VARIANT_CLASS_UINT32:
        return (int)g_variant_get_uint32(v);
    case G_VARIANT_CLASS_BYTE:
        return (int8_t)g_variant_get_byte(v);
    case G_VARIANT_CLASS_UINT16:
        return g_variant_get_uint16(v);
    default:
        return g_variant_is_of_type(v, G_VARIANT_TYPE_INT32) ? g_variant_get_int32(v) : 0;
    }
}

int api_int(const char *func, const void *object, enum api_class class, unsigned proc, ...)
{
    g_autoptr(GVariant) ret = NULL;
    WITH_ARGS(proc, ret = vcall(func, object, class, NULL, proc, args));
    if (!ret)
        return -1;
    g_autoptr(GVariant) v = g_variant_get_child_value(ret, 0);
    return number_of(v);
}

char *api_string(const char *func, const void *object, enum api_class class, unsigned proc, ...)
{
    g_autoptr(GVariant) ret = NULL;
    WITH_ARGS(proc, ret = vcall(func, object, class, NULL, proc, args));
    if (!ret)
        return NULL;
    g_autoptr(GVariant) v = g_variant_get_child_value(ret, 0);
    if (!g_variant_is_of_type(v, G_VARIANT_TYPE("ms")))
        return g_variant_dup_string(v, NULL);
    g_autoptr(GVariant) s = g_variant_get_maybe(v);
    return s ? g_variant_dup_string(s, NULL) : NULL;
}

void *api_make(const char *func, const void *object, enum api_class class, enum api_class made, void *parent, unsigned proc, ...)
{
    g_autoptr(GVariant) ret = NULL;
    WITH_ARGS(proc, ret = vcall(func, object, class, NULL, proc, args));
    if (!ret)
        return NULL;
    g_autoptr(GVariant) v = g_variant_get_child_value(ret, 0);
    return api_object_of(((const struct api_object *)object)->conn, made, v, parent);
}

int api_list(const char *func, const void *object, enum api_class class, enum api_class made, void *parent, void *array, unsigned proc, ...)
{
    g_autoptr(GVariant) ret = NULL;
    if (array)
        *(void **)array = NULL;
    WITH_ARGS(proc, ret = vcall(func, object, class, NULL, proc, args));
    if (!ret)
        return -1;
    g_autoptr(GVariant) list = g_variant_get_child_value(ret, 0), count = g_variant_get_child_value(ret, 1);
    if (!array)
        return number_of(count);
    gsize n = g_variant_n_children(list);
    void **out = g_new0(void *, n + 1);
    for (gsize i = 0; i < n; i++) {
        g_autoptr(GVariant) record = g_variant_get_child_value(list, i);
        out[i] = api_object_of(((const struct api_object *)object)->conn, made, record, parent);
    }
    *(void **)array = out;
    return (int)n;
}

int api_names(const char *func, const void *object, enum api_class class, char **names, int maxnames, unsigned proc, ...)
{
    g_autoptr(GVariant) ret = NULL;
    WITH_ARGS(proc, ret = vcall(func, object, class, NULL, proc, args));
    if (!ret)
        return -1;
    g_autoptr(GVariant) list = g_variant_get_child_value(ret, 0);
    int n = MIN((int)g_variant_n_children(list), MAX(maxnames, 0));
    for (int i = 0; names && i < n; i++)
        g_variant_get_child(list, (gsize)i, "s", &names[i]);
    return n;
}

int api_names_new(const char *func, const void *object, enum api_class class, char ***ret_names, unsigned proc, ...)
{
    g_autoptr(GVariant) ret = NULL;
    WITH_ARGS(proc, ret = vcall(func, object, class, NULL, proc, args));
    if (!ret)
        return -1;
    g_autoptr(GVariant) list = g_variant_get_child_value(ret, 0);
    if (ret_names)
        *ret_names = g_variant_dup_strv(list, NULL);
    if (ret_names || g_variant_n_children(ret) < 2)
        return (int)g_variant_n_children(list);
    g_autoptr(GVariant) count = g_variant_get_child_value(ret, 1);
    return number_of(count);
}

int api_params(const char *func, const void *object, enum api_class class, virTypedParameterPtr params, int *nparams, unsigned proc, ...)
{
    g_autoptr(GVariant) ret = NULL;
    bool counts = rpc_proc(proc) && g_str_has_suffix(rpc_proc(proc)->ret, "i"); /* can be asked for the number */
    if (!api_begin(func, object, class))
        return -1;
    if (!nparams || *nparams < 0 || (!counts && !*nparams) || (*nparams && !params)) {
        const char *fault = !nparams ? "nparams in %s must not be NULL" : *nparams > 0 ? "params in %s must not be NULL" :
                                      *nparams < 0 ? "nparams in %s must not be negative" : "*nparams in %s must be greater than zero";
        g_autofree char *text = g_strdup_printf(fault, func);
        api_fail(NULL, VIR_ERR_INVALID_ARG, "%s", text);
        return -1;
    }
    WITH_ARGS(proc, ret = vcall(func, object, class, NULL, proc, args));
    if (!ret)
        return -1;
    g_autoptr(GVariant) list = g_variant_get_child_value(ret, 0);
    if (!*nparams && g_variant_n_children(ret) > 1) {
        g_autoptr(GVariant) count = g_variant_get_child_value(ret, 1);
        *nparams = MAX(number_of(count), 0);
        return 0;
    }
    *nparams = MIN((int)g_variant_n_children(list), *nparams);
    return api_params_fill(list, params, *nparams);
}

int api_params_new(const char *func, const void *object, enum api_class class, virTypedParameterPtr *ret_params, int *ret_nparams, unsigned proc, ...)
{
    g_autoptr(GVariant) ret = NULL;
    WITH_ARGS(proc, ret = vcall(func, object, class, NULL, proc, args));
    if (!ret)
        return -1;
    if (!ret_params || !ret_nparams) {
        api_fail(NULL, VIR_ERR_INVALID_ARG, "%s in %s must not be NULL", ret_params ? "nparams" : "params", func);
        return -1;
    }
    g_autoptr(GVariant) list = g_variant_get_child_value(ret, 0);
    *ret_params = api_params_of(list, ret_nparams);
    return 0;
}

unsigned api_string_flags(const void *object, unsigned flags)
{
    const struct api_object *o = object;
    return o && o->conn && o->conn->typed_strings ? flags | VIR_TYPED_PARAM_STRING_OKAY : flags;
}
