/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a schema allows, as text for people: a line for each element and attribute. */
#include "manage/model/doc_private.h"

static const char *const kind_names[] = {
    [KIND_NONE] = "", [KIND_UINT] = "number", [KIND_INT] = "number, also negative", [KIND_HEX] = "hexadecimal number", [KIND_HEXU] = "hexadecimal number", [KIND_HEXA] = "hexadecimal number",
    [KIND_OCT] = "octal number", [KIND_BOOL] = "yes or no", [KIND_ONOFF] = "on or off", [KIND_UUID] = "UUID", [KIND_NAME] = "name", [KIND_PATH] = "path",
    [KIND_ABSPATH] = "path from the root", [KIND_MAC] = "MAC address", [KIND_IP] = "IP address", [KIND_SCALED] = "size", [KIND_CPUSET] = "list of processors",
    [KIND_TEXT] = "text", [KIND_ANY] = "text, may be empty", [KIND_WORDS] = "", [KIND_RAW] = "XML of any kind", [KIND_NUMBER] = "number with a fraction",
    [KIND_UNIT] = "unit of a size", [KIND_WWN] = "16 hexadecimal digits", [KIND_DISKDEV] = "name such as vda", [KIND_USBPORT] = "port such as 1.2",
    [KIND_TIME] = "time such as 2030-12-31T23:59:59",
};

static void put_words(GString *out, uint16_t list)
{
    const uint16_t *words = &schema_lists[list];
    for (unsigned i = 1; i <= words[0]; i++) {
        g_string_append_printf(out, "%s%s", i > 1 ? " | " : "", words[i] ? schema_words[words[i]] : "nothing");
    }
}

static void put_type(GString *out, unsigned kind, uint16_t list, uint16_t range)
{
    const char *separator = kind == KIND_NONE ? "" : ": ";
    g_string_append_printf(out, "%s%s", separator, kind_names[kind]);
    if (range) {
        const struct schema_range *r = &schema_ranges[range];
        bool open = r->high == UINT64_MAX;
        g_string_append_printf(out, open ? " from %" G_GINT64_FORMAT : " from %" G_GINT64_FORMAT " to %" G_GUINT64_FORMAT, r->low, r->high);
    }
    if (list) {
        g_string_append(out, kind == KIND_WORDS ? "" : " or ");
        put_words(out, list);
    }
}

static void put_condition(GString *out, uint16_t cond)
{
    for (const struct schema_cond *c = &schema_conds[cond]; cond; c++) {
        g_string_append_printf(out, "%s%s %s ", c == &schema_conds[cond] ? "  (if " : " and ", schema_words[c->name], c->negate ? "is none of" : "is");
        put_words(out, c->list);
        if (!c->more) {
            g_string_append_c(out, ')');
            return;
        }
    }
}

static void put_attribute(GString *out, const struct schema_attr *a, unsigned level)
{
    g_string_append_printf(out, "%*s@%s", level * 2, "", schema_words[a->name]);
    put_type(out, a->kind, a->list, a->range);
    g_string_append(out, a->flags & SCHEMA_REQUIRED ? ", required" : "");
    if (a->fallback) {
        g_string_append_printf(out, ", else %s", schema_words[a->fallback]);
    }
    put_condition(out, a->cond);
    g_string_append_c(out, '\n');
}

static void put_element(GString *out, const struct schema_link *l, unsigned level, GHashTable *told)
{
    const struct schema_el *s = &schema_els[l->el];
    g_string_append_printf(out, "%*s<%s>", level * 2, "", schema_words[s->name]);
    put_type(out, s->kind, s->list, s->range);
    g_string_append(out, l->flags & SCHEMA_REQUIRED ? l->flags & SCHEMA_MANY ? ", one or more" : ", required" : l->flags & SCHEMA_MANY ? ", any number" : "");
    g_string_append(out, l->flags & SCHEMA_DROP ? ", ignored" : "");
    put_condition(out, l->cond);
    bool first = g_hash_table_add(told, GUINT_TO_POINTER(l->el)) || !(s->nattrs || s->nlinks);
    g_string_append(out, first ? "\n" : ", as above\n");
    for (unsigned i = 0; first && i < s->nattrs; i++) {
        put_attribute(out, &schema_attrs[s->attrs + i], level + 1);
    }
    for (unsigned i = 0; first && i < s->nlinks; i++) {
        put_element(out, &schema_links[s->links + i], level + 1, told);
    }
}

char *schema_describe(const struct schema *s)
{
    g_autoptr(GHashTable) told = g_hash_table_new(NULL, NULL);
    GString *out = g_string_new(NULL);
    put_element(out, &(struct schema_link){ .el = s->root }, 0, told);
    return g_string_free(out, FALSE);
}
