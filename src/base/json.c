/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/json.h"

#include <stdarg.h>
#include <string.h>

#include "base/error.h"
#include "base/keyval.h"

static bool flatten(struct json_object *o, const char *prefix, struct keyval *kv, GError **error)
{
    switch (json_object_get_type(o)) {
    case json_type_object: {
        json_object_object_foreach(o, key, value) {
            g_autofree char *name = *prefix ? g_strdup_printf("%s.%s", prefix, key) : g_strdup(key);
            if (!flatten(value, name, kv, error))
                return false;
        }
        return true;
    }
    case json_type_array:
        for (size_t i = 0; i < json_object_array_length(o); i++) {
            g_autofree char *name = g_strdup_printf("%s.%zu", prefix, i);
            if (!flatten(json_object_array_get_idx(o, i), name, kv, error))
                return false;
        }
        return true;
    case json_type_null:
        /* The one member that may be null in QEMU's options: no backing image. */
        if (!strcmp(prefix, "backing") || g_str_has_suffix(prefix, ".backing")) {
            keyval_add(kv, prefix, "");
            return true;
        }
        return vireo_fail(error, VIREO_ERROR_INVALID, "JSON member '%s' is null", prefix);
    case json_type_boolean:
        keyval_add(kv, prefix, json_object_get_boolean(o) ? "on" : "off");
        return true;
    default:
        keyval_add(kv, prefix, json_object_get_string(o));
        return true;
    }
}

bool json_flatten(const char *text, struct keyval *kv, GError **error)
{
    struct json_tokener *tok = json_tokener_new_ex(16);
    json_tokener_set_flags(tok, JSON_TOKENER_STRICT);
    json_auto *o = json_tokener_parse_ex(tok, text, (int)strlen(text) + 1);
    enum json_tokener_error e = json_tokener_get_error(tok);
    json_tokener_free(tok);
    if (e != json_tokener_success)
        return vireo_fail(error, VIREO_ERROR_INVALID, "JSON: %s", json_tokener_error_desc(e));
    if (!json_object_is_type(o, json_type_object))
        return vireo_fail(error, VIREO_ERROR_INVALID, "JSON: an object was expected");
    return flatten(o, "", kv, error);
}

bool json_flatten_object(struct json_object *o, struct keyval *kv, GError **error)
{
    return flatten(o, "", kv, error);
}

struct json_object *json_make(const char *key, ...)
{
    struct json_object *o = json_object_new_object();
    va_list ap;
    va_start(ap, key);
    for (; key; key = va_arg(ap, const char *))
        json_object_object_add(o, key, va_arg(ap, struct json_object *));
    va_end(ap);
    return o;
}
