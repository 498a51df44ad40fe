/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Small helpers over json-c. */
#pragma once

#include <glib.h>
#include <json-c/json.h>
#include <stdbool.h>

struct keyval;

/* Parses one JSON object and adds its members to kv: nested objects and arrays as dotted keys ("file.filename", "l.0"),
 * true and false as on and off, numbers as text. */
bool json_flatten(const char *text, struct keyval *kv, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The same for an object that has been parsed already. */
bool json_flatten_object(struct json_object *o, struct keyval *kv, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* {key: value, ...} from pairs of (char *key, struct json_object *value), ended by NULL; takes the values over. */
struct json_object *json_make(const char *key, ...) G_GNUC_NULL_TERMINATED;
/* Releases on leaving the scope. */
static inline void json_cleanup(struct json_object **o)
{
    json_object_put(*o);
}
#define json_auto __attribute__((cleanup(json_cleanup))) struct json_object
