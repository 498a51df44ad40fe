/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Listings: columns as wide as their widest cell, three blanks apart; or JSON. */
#include "vireo.h"

#include "base/json.h"

#include <string.h>

struct table {
    struct call *c;
    GPtrArray *titles; /* without their '#' */
    GArray *numbers;   /* gboolean per column */
    GPtrArray *rows;   /* GPtrArray of strings */
};

bool call_json(struct call *c)
{
    if (!c->command || !(c->command->flags & COMMAND_LIST))
        return false;
    const char *how = c->values ? opt_str(c, "output") : NULL;
    return how ? !strcmp(how, "json") : c->v->json;
}

struct table *table_new(struct call *c, const char *title, ...)
{
    struct table *t = g_new0(struct table, 1);
    t->c = c;
    t->titles = g_ptr_array_new_with_free_func(g_free);
    t->numbers = g_array_new(false, false, sizeof(gboolean));
    t->rows = g_ptr_array_new_with_free_func((GDestroyNotify)g_ptr_array_unref);
    va_list ap;
    va_start(ap, title);
    for (; title; title = va_arg(ap, const char *)) {
        gboolean number = g_str_has_suffix(title, "#");
        g_ptr_array_add(t->titles, g_strndup(title, strlen(title) - number));
        g_array_append_val(t->numbers, number);
    }
    va_end(ap);
    return t;
}

/* Control characters would let a name write all over the terminal. */
static char *printable(const char *text)
{
    GString *s = g_string_new(NULL);
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    for (const char *p = valid; *p; p = g_utf8_next_char(p)) {
        gunichar ch = g_utf8_get_char(p);
        if (g_unichar_iscntrl(ch))
            g_string_append_printf(s, "\\x%02x", ch);
        else
            g_string_append_unichar(s, ch);
    }
    return g_string_free(s, false);
}

void table_row(struct table *t, const char *cell, ...)
{
    if (!t)
        return;
    GPtrArray *row = g_ptr_array_new_with_free_func(g_free);
    va_list ap;
    va_start(ap, cell);
    for (; cell; cell = va_arg(ap, const char *))
        g_ptr_array_add(row, printable(cell));
    va_end(ap);
    g_ptr_array_add(t->rows, row);
}

static unsigned width(const char *text)
{
    unsigned n = 0;
    for (const char *p = text; *p; p = g_utf8_next_char(p)) {
        gunichar ch = g_utf8_get_char(p);
        n += g_unichar_iszerowidth(ch) ? 0 : g_unichar_iswide(ch) ? 2 : 1;
    }
    return n;
}

static void print_row(GPtrArray *row, const unsigned *widths)
{
    for (guint i = 0; i < row->len; i++) {
        printf(" %s", (char *)row->pdata[i]);
        if (i + 1 < row->len)
            printf("%*s", (int)(widths[i] - width(row->pdata[i]) + 2), "");
    }
    putchar('\n');
}

static void print_text(struct table *t)
{
    g_autofree unsigned *widths = g_new0(unsigned, t->titles->len);
    bool header = !t->c->v->quiet;
    unsigned rule = 0;
    for (guint i = 0; i < t->titles->len; i++) {
        widths[i] = header ? width(t->titles->pdata[i]) : 0;
        for (guint r = 0; r < t->rows->len; r++) {
            GPtrArray *row = t->rows->pdata[r];
            if (i < row->len)
                widths[i] = MAX(widths[i], width(row->pdata[i]));
        }
        rule += widths[i] + 3;
    }
    if (header) {
        print_row(t->titles, widths);
        for (unsigned i = 0; i < rule; i++)
            putchar('-');
        putchar('\n');
    }
    for (guint r = 0; r < t->rows->len; r++)
        print_row(t->rows->pdata[r], widths);
}

/* "MAC address" becomes "mac-address". */
static char *json_key(const char *title)
{
    g_autofree char *low = g_ascii_strdown(title, -1);
    g_strchomp(g_strdelimit(low, ":", ' '));
    g_strdelimit(low, " /_", '-');
    GString *s = g_string_new(NULL);
    for (const char *p = low; *p; p++)
        if (g_ascii_isalnum(*p) || *p == '-' || *p == '.')
            g_string_append_c(s, *p);
    return g_string_free(s, false);
}

/* "-" is how a table says that there is nothing. */
static struct json_object *json_cell(const char *text, bool number)
{
    char *end;
    if (!strcmp(text, "-"))
        return NULL;
    gint64 n = g_ascii_strtoll(text, &end, 10);
    if (number && end != text && !*end)
        return json_object_new_int64(n);
    return json_object_new_string(text);
}

static void print_json_value(struct json_object *o)
{
    puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE));
}

static void print_json(struct table *t)
{
    json_auto *all = json_object_new_array();
    for (guint r = 0; r < t->rows->len; r++) {
        struct json_object *o = json_object_new_object();
        GPtrArray *row = t->rows->pdata[r];
        for (guint i = 0; i < row->len && i < t->titles->len; i++) {
            g_autofree char *key = json_key(t->titles->pdata[i]);
            json_object_object_add(o, key, json_cell(row->pdata[i], g_array_index(t->numbers, gboolean, i)));
        }
        json_object_array_add(all, o);
    }
    print_json_value(all);
    t->c->printed = true;
}

bool table_print(struct table *t)
{
    if (!t)
        return true;
    if (call_json(t->c))
        print_json(t);
    else
        print_text(t);
    return table_drop(t);
}

bool table_drop(struct table *t)
{
    if (!t)
        return true;
    g_ptr_array_unref(t->titles);
    g_array_unref(t->numbers);
    g_ptr_array_unref(t->rows);
    g_free(t);
    return true;
}

struct fields {
    struct call *c;
    int width;
    struct json_object *json;
};

struct fields *fields_new(struct call *c, int padding)
{
    struct fields *f = g_new0(struct fields, 1);
    f->c = c;
    f->width = padding;
    f->json = call_json(c) ? json_object_new_object() : NULL;
    return f;
}

void field(struct fields *f, const char *label, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *text = g_strdup_vprintf(format, ap);
    va_end(ap);
    if (f->json) {
        g_autofree char *key = json_key(label);
        json_object_object_add(f->json, key, json_cell(text, true));
    } else {
        printf("%-*s %s\n", f->width, label, text);
    }
}

bool fields_print(struct fields *f)
{
    if (f->json) {
        print_json_value(f->json);
        f->c->printed = true;
        json_object_put(f->json);
    }
    g_free(f);
    return true;
}

static void tell(struct call *c, const char *key, struct json_object *value)
{
    if (!c->told)
        c->told = fields_new(c, 0);
    g_autofree char *name = json_key(key);
    json_object_object_add(c->told->json, name, value);
}

void json_member(struct call *c, const char *key, const char *format, ...)
{
    if (!call_json(c))
        return;
    va_list ap;
    va_start(ap, format);
    g_autofree char *text = g_strdup_vprintf(format, ap);
    va_end(ap);
    tell(c, key, json_cell(text, strcmp(format, "%s")));
}

void value_line(struct call *c, const char *key, const char *value, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *line = g_strdup_vprintf(format, ap);
    va_end(ap);
    if (call_json(c))
        tell(c, key, json_cell(value, true));
    else
        say(c, "%s\n", line);
}

bool say_value(struct call *c, const char *key, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *text = g_strdup_vprintf(format, ap);
    va_end(ap);
    if (call_json(c))
        tell(c, key, json_cell(text, strcmp(format, "%s")));
    else
        say(c, "%s\n", text);
    return true;
}

void json_print(struct call *c, struct json_object *value)
{
    print_json_value(value);
    c->printed = true;
}
