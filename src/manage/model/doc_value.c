/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Values: is a text of the kind that the schema asks for, and how is it written canonically. */
#include "manage/model/doc_private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CPUSET_MAX = 16384 };

bool value_number(const char *text, uint64_t *ret)
{
    bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    if (!(hex ? g_ascii_isxdigit(text[2]) : g_ascii_isdigit(text[0]))) {
        return false;
    }
    char *end;
    errno = 0;
    unsigned long long v = strtoull(hex ? text + 2 : text, &end, hex ? 16 : 10);
    if (errno || *end) {
        return false;
    }
    *ret = v;
    return true;
}

uint64_t value_unit(const char *unit)
{
    static const char letters[] = "kmgtpe";
    if (!*unit || !g_ascii_strcasecmp(unit, "b") || !g_ascii_strcasecmp(unit, "byte") || !g_ascii_strcasecmp(unit, "bytes")) {
        return 1;
    }
    const char *at = strchr(letters, g_ascii_tolower(*unit));
    bool decimal = !g_ascii_strcasecmp(unit + 1, "b");
    if (!at || (unit[1] && !decimal && g_ascii_strcasecmp(unit + 1, "ib"))) {
        return 0;
    }
    uint64_t v = 1;
    for (const char *p = letters; p <= at; p++) {
        v *= decimal ? 1000 : 1024;
    }
    return v;
}

void value_append_list(GString *s, uint16_t list)
{
    const uint16_t *words = &schema_lists[list];
    for (unsigned i = 1; i <= words[0]; i++) {
        g_string_append_printf(s, "%s%s", i > 1 ? ", " : "", schema_words[words[i]]);
        if (s->len > 400 && i + 3 < words[0]) {
            g_string_append_printf(s, " and %u more", words[0] - i);
            break;
        }
    }
}

static const char *fail(char **ret_expected, char *text)
{
    *ret_expected = text;
    return NULL;
}

static const char *check_signed(const struct value_type *t, const char *text, GString *buffer, char **ret_expected)
{
    const struct schema_range *r = &schema_ranges[t->range];
    int64_t low = t->range ? r->low : INT64_MIN;
    int64_t high = t->range && r->high < INT64_MAX ? (int64_t)r->high : INT64_MAX;
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno || end == text || *end || v < low || v > high) {
        return fail(ret_expected, t->range ? g_strdup_printf("a whole number from %" G_GINT64_FORMAT " to %" G_GINT64_FORMAT, low, high)
                                           : g_strdup("a whole number"));
    }
    g_string_printf(buffer, "%lld", v);
    return buffer->str;
}

/* Most numbers are as they are to be: short, and without what would be written otherwise. */
static bool is_plain(const struct value_type *t, const char *text)
{
    const struct schema_range *r = &schema_ranges[t->range];
    bool hex = t->kind == KIND_HEX || t->kind == KIND_HEXA;
    const char *digits = text + (hex ? 2 : 0), *p = digits;
    if ((!hex && t->kind != KIND_UINT && t->kind != KIND_SCALED) || (hex && (text[0] != '0' || text[1] != 'x'))) {
        return false;
    }
    uint64_t v = 0;
    for (; g_ascii_isdigit(*p) || (hex && *p >= 'a' && *p <= 'f'); p++) {
        v = v * (hex ? 16 : 10) + (*p <= '9' ? *p - '0' : *p - 'a' + 10);
    }
    size_t length = p - digits;
    bool written = hex ? length == MAX(t->width, 1) || (length > t->width && *digits != '0') : length == 1 || *digits != '0';
    return !*p && length && length < 16 && written && (!t->range || (v >= (uint64_t)MAX(r->low, 0) && v <= r->high));
}

static const char *check_unsigned(const struct value_type *t, const char *text, GString *buffer, char **ret_expected)
{
    const struct schema_range *r = &schema_ranges[t->range];
    uint64_t low = t->range ? (uint64_t)MAX(r->low, 0) : 0, high = t->range ? r->high : UINT64_MAX, v;
    if (is_plain(t, text)) {
        return text;
    }
    bool hex = t->kind == KIND_HEX || t->kind == KIND_HEXU || t->width == 16;
    bool good = value_number(text, &v) && (hex || strspn(text, "0123456789") == strlen(text));
    if (t->kind == KIND_OCT || t->kind == KIND_HEXA) {
        bool octal = t->kind == KIND_OCT;
        char *end;
        errno = 0;
        v = strtoull(text, &end, octal ? 8 : 16);
        good = (octal ? g_ascii_isdigit(*text) : g_ascii_isxdigit(*text)) && !*end && !errno;
        high = t->range || !octal ? high : 07777;
    }
    if (!good || v < low || v > high) {
        const char *what = t->kind == KIND_OCT ? "an octal number" : t->kind == KIND_HEXA ? "a hexadecimal number" :
                           t->kind == KIND_HEX || t->kind == KIND_HEXU ? "a number, decimal or with 0x" : "a whole number";
        return fail(ret_expected, t->range ? g_strdup_printf("%s from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT, what, low, high) : g_strdup(what));
    }
    if (t->kind == KIND_HEX || t->kind == KIND_HEXA) {
        g_string_printf(buffer, "0x%0*" G_GINT64_MODIFIER "x", MAX(t->width, 1), v);
    } else if (t->kind == KIND_HEXU) {
        g_string_printf(buffer, "0x%0*" G_GINT64_MODIFIER "X", MAX(t->width, 1), v);
    } else if (t->kind == KIND_OCT) {
        g_string_printf(buffer, t->width ? "%0*" G_GINT64_MODIFIER "o" : "0%.*" G_GINT64_MODIFIER "o", MAX(t->width, 1), v);
    } else {
        g_string_printf(buffer, "%" G_GUINT64_FORMAT, v);
    }
    return buffer->str;
}

static const char *check_uuid(const char *text, GString *buffer, char **ret_expected)
{
    unsigned digits = 0;
    g_string_truncate(buffer, 0);
    for (const char *p = text; *p; p++) {
        if (*p == '-') {
            continue;
        }
        if (!g_ascii_isxdigit(*p) || digits == 32) {
            digits = 0;
            break;
        }
        if (digits == 8 || digits == 12 || digits == 16 || digits == 20) {
            g_string_append_c(buffer, '-');
        }
        g_string_append_c(buffer, g_ascii_tolower(*p));
        digits++;
    }
    return digits == 32 ? buffer->str : fail(ret_expected, g_strdup("a UUID, 32 hexadecimal digits"));
}

static const char *check_mac(const char *text, GString *buffer, char **ret_expected)
{
    g_string_truncate(buffer, 0);
    const char *p = text;
    for (unsigned i = 0; i < 6; i++) {
        char *end;
        unsigned long byte = g_ascii_isxdigit(*p) ? strtoul(p, &end, 16) : 256;
        if (byte > 255 || end > p + 2 || *end != (i < 5 ? ':' : 0)) {
            return fail(ret_expected, g_strdup("a MAC address such as 52:54:00:12:34:56"));
        }
        g_string_append_printf(buffer, i ? ":%02lx" : "%02lx", byte);
        p = end + 1;
    }
    return buffer->str;
}

static const char *check_ip(const char *text, char **ret_expected)
{
    uint8_t raw[16];
    return inet_pton(AF_INET, text, raw) == 1 || inet_pton(AF_INET6, text, raw) == 1 ? text : fail(ret_expected, g_strdup("an IPv4 or IPv6 address"));
}

/* One of a, a-b, ^a at *p; false: neither. */
static bool cpuset_part(const char **p, uint8_t *bits)
{
    bool set = **p != '^';
    *p += !set;
    char *end;
    if (!g_ascii_isdigit(**p)) {
        return false;
    }
    unsigned long low = strtoul(*p, &end, 10), high = low;
    if (*end == '-' && set && g_ascii_isdigit(end[1])) {
        high = strtoul(end + 1, &end, 10);
    }
    if (high < low || high >= CPUSET_MAX) {
        return false;
    }
    for (unsigned long i = low; i <= high; i++) {
        bits[i] = set;
    }
    *p = end;
    return true;
}

static const char *check_cpuset(const char *text, GString *buffer, char **ret_expected)
{
    g_autofree uint8_t *bits = g_malloc0(CPUSET_MAX + 1);
    bool good = true;
    for (const char *p = text; good && *p;) {
        good = cpuset_part(&p, bits) && (!*p || (*p == ',' && p[1]));
        p += good && *p == ',';
    }
    g_string_truncate(buffer, 0);
    for (unsigned i = 0; good && i < CPUSET_MAX; i++) {
        if (bits[i]) {
            unsigned low = i;
            while (bits[i + 1]) {
                i++;
            }
            g_string_append_printf(buffer, low == i ? "%s%u" : "%s%u-%u", buffer->len ? "," : "", low, i);
        }
    }
    return good && buffer->len ? buffer->str : fail(ret_expected, g_strdup("a list of processors such as 0-3,^2,8"));
}

static const char *check_name(const char *text, char **ret_expected)
{
    for (const char *p = text; *p; p++) {
        if (*p == '\n' || *p == '/') {
            return fail(ret_expected, g_strdup("a name without '/' and line breaks"));
        }
    }
    return *text ? text : fail(ret_expected, g_strdup("a name"));
}

static const char *check_decimal(const char *text, char **ret_expected)
{
    char *end;
    g_ascii_strtod(text, &end);
    return end != text && !*end ? text : fail(ret_expected, g_strdup("a number"));
}

/* Texts: the range is that of the length. */
static const char *check_text(const struct value_type *t, const char *text, char **ret_expected)
{
    const struct schema_range *r = &schema_ranges[t->range];
    glong length = g_utf8_strlen(text, -1);
    if (t->range && (length < r->low || (uint64_t)length > r->high)) {
        bool exact = r->low == (int64_t)r->high;
        return fail(ret_expected, exact ? g_strdup_printf("a text of %" G_GINT64_FORMAT " characters", r->low)
                                        : g_strdup_printf("a text of %" G_GINT64_FORMAT " to %" G_GUINT64_FORMAT " characters", r->low, r->high));
    }
    return *text || t->kind == KIND_ANY ? text : fail(ret_expected, g_strdup("a text"));
}

static const char *check_wwn(const char *text, char **ret_expected)
{
    const char *digits = g_str_has_prefix(text, "0x") ? text + 2 : text;
    bool good = strlen(digits) == 16 && strspn(digits, "0123456789abcdefABCDEF") == 16;
    return good ? text : fail(ret_expected, g_strdup("16 hexadecimal digits"));
}

static const char *check_diskdev(const char *text, char **ret_expected)
{
    static const char *const prefixes[] = { "fd", "hd", "sd", "vd", "xvd", "ubd" };
    const char *name = g_str_has_prefix(text, "ioemu:") ? text + 6 : text;
    for (unsigned i = 0; i < G_N_ELEMENTS(prefixes); i++) {
        const char *rest = name + strlen(prefixes[i]);
        if (g_str_has_prefix(name, prefixes[i]) && *rest && strspn(rest, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == strlen(rest)) {
            return text;
        }
    }
    return fail(ret_expected, g_strdup("a name such as vda, sdb, hdc or fda"));
}

/* One to four numbers with dots between them. */
static const char *check_usbport(const char *text, char **ret_expected)
{
    const char *p = text;
    for (unsigned parts = 1; parts <= 4 && g_ascii_isdigit(*p); parts++) {
        p += strspn(p, "0123456789");
        if (!*p) {
            return text;
        }
        p += *p == '.';
    }
    return fail(ret_expected, g_strdup("a port such as 2 or 1.3"));
}

static const char *check_time(const char *text, char **ret_expected)
{
    g_autoptr(GTimeZone) utc = g_time_zone_new_utc();
    g_autoptr(GDateTime) time = g_date_time_new_from_iso8601(text, utc);
    return time ? text : fail(ret_expected, g_strdup("a time such as 2030-12-31T23:59:59"));
}

static const char *check_kind(const struct value_type *t, const char *text, GString *buffer, char **ret_expected)
{
    switch (t->kind) {
    case KIND_UINT: case KIND_HEX: case KIND_HEXU: case KIND_HEXA: case KIND_OCT: case KIND_SCALED: return check_unsigned(t, text, buffer, ret_expected);
    case KIND_INT: return check_signed(t, text, buffer, ret_expected);
    case KIND_NUMBER: return check_decimal(text, ret_expected);
    case KIND_BOOL: return !strcmp(text, "yes") || !strcmp(text, "no") ? text : fail(ret_expected, g_strdup("yes or no"));
    case KIND_ONOFF: return !strcmp(text, "on") || !strcmp(text, "off") ? text : fail(ret_expected, g_strdup("on or off"));
    case KIND_UUID: return check_uuid(text, buffer, ret_expected);
    case KIND_NAME: return check_name(text, ret_expected);
    case KIND_PATH: return *text ? text : fail(ret_expected, g_strdup("a path"));
    case KIND_ABSPATH: return *text == '/' ? text : fail(ret_expected, g_strdup("a path from the root, beginning with '/'"));
    case KIND_MAC: return check_mac(text, buffer, ret_expected);
    case KIND_IP: return check_ip(text, ret_expected);
    case KIND_CPUSET: return check_cpuset(text, buffer, ret_expected);
    case KIND_TEXT: case KIND_ANY: return check_text(t, text, ret_expected);
    case KIND_UNIT: return value_unit(text) ? text : fail(ret_expected, g_strdup("one of: b, bytes, KB, k, KiB, MB, M, MiB, GB, G, GiB, TB, T, TiB, PB, P, PiB, EB, E, EiB"));
    case KIND_WWN: return check_wwn(text, ret_expected);
    case KIND_DISKDEV: return check_diskdev(text, ret_expected);
    case KIND_USBPORT: return check_usbport(text, ret_expected);
    case KIND_TIME: return check_time(text, ret_expected);
    case KIND_NONE: return !*text ? text : fail(ret_expected, g_strdup("no text"));
    default: return text;
    }
}

static char *expected_words(uint16_t list, char *kind)
{
    GString *s = g_string_new(NULL);
    value_append_list(s, list);
    if (kind) {
        g_string_append_printf(s, " or %s", kind);
        g_free(kind);
    } else if (schema_lists[list] > 1) {
        g_string_prepend(s, "one of: ");
    }
    return g_string_free(s, FALSE);
}

const char *value_check(const struct value_type *t, const char *text, uint16_t word, GString *buffer, char **ret_expected)
{
    const uint16_t *words = &schema_lists[t->list];
    for (unsigned i = 1; (word || !*text) && i <= words[0]; i++) {
        if (words[i] == word) {
            return text;
        }
    }
    if (t->kind == KIND_WORDS) {
        return fail(ret_expected, expected_words(t->list, NULL));
    }
    const char *good = check_kind(t, text, buffer, ret_expected);
    if (!good && t->list) {
        *ret_expected = expected_words(t->list, *ret_expected);
    }
    return good;
}
