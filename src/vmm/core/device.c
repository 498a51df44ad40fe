/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Devices as descriptions: makes them from their class, sets properties from text, realizes and ends them. */
#include "vmm/core/device.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "vmm/core/machine.h"

static const char *const type_names[] = {
    [PROP_BOOL] = "on/off", [PROP_UINT] = "number", [PROP_SIZE] = "size", [PROP_STRING] = "text", [PROP_MAC] = "MAC address",
    [PROP_ENUM] = "one of", [PROP_PCI_ADDR] = "slot[.function], hexadecimal", [PROP_DRIVE] = "id of a -drive or -blockdev",
    [PROP_NETDEV] = "id of a -netdev", [PROP_CHARDEV] = "id of a -chardev",
};

static bool is_text(enum prop_type t)
{
    return t == PROP_STRING || t == PROP_DRIVE || t == PROP_NETDEV || t == PROP_CHARDEV;
}

static bool parse_bool(const char *text, bool *ret)
{
    static const char *const yes[] = { "on", "yes", "true", "1", "y", NULL }, *const no[] = { "off", "no", "false", "0", "n", NULL };
    *ret = g_strv_contains(yes, text);
    return *ret || g_strv_contains(no, text);
}

static bool parse_number(const char *text, bool suffix, uint64_t *ret)
{
    char *end;
    errno = 0;
    if (!g_ascii_isdigit(*text))
        return false;
    uint64_t v = g_ascii_strtoull(text, &end, 0);
    if (errno)
        return false;
    if (suffix && *end) {
        const char *units = "BKMGTP", *u = strchr(units, g_ascii_toupper(*end));
        if (!u)
            return false;
        unsigned shift = 10 * (unsigned)(u - units);
        if (shift && v >> (64 - shift))
            return false;
        v <<= shift;
        end++;
        if (g_ascii_tolower(*end) == 'i')
            end++;
        if (shift && g_ascii_tolower(*end) == 'b')
            end++;
    }
    *ret = v;
    return !*end;
}

static bool parse_mac(const char *text, uint8_t ret[6])
{
    unsigned b[6];
    int n = 0;
    if (sscanf(text, "%2x%*1[:-]%2x%*1[:-]%2x%*1[:-]%2x%*1[:-]%2x%*1[:-]%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &n) != 6 ||
        text[n])
        return false;
    for (unsigned i = 0; i < 6; i++)
        ret[i] = (uint8_t)b[i];
    return true;
}

static bool parse_pci_addr(const char *text, int *ret)
{
    char *end;
    if (!strcmp(text, "-1")) { /* any free slot */
        *ret = -1;
        return true;
    }
    uint64_t slot = g_ascii_strtoull(text, &end, 16), fn = 0;
    if (end == text || slot > 31)
        return false;
    if (*end == '.') {
        const char *f = end + 1;
        fn = g_ascii_strtoull(f, &end, 16);
        if (end == f || fn > 7)
            return false;
    }
    *ret = (int)(slot << 3 | fn);
    return !*end;
}

static bool parse_enum(const struct device_prop *p, const char *text, int *ret)
{
    for (int i = 0; p->values[i]; i++) {
        if (!g_ascii_strcasecmp(p->values[i], text)) {
            *ret = i;
            return true;
        }
    }
    return false;
}

/* What a property takes, in words. */
static char *prop_expects(const struct device_prop *p)
{
    if (p->type == PROP_ENUM) {
        g_autofree char *all = g_strjoinv(", ", (char **)p->values);
        return g_strdup_printf("one of: %s", all);
    }
    if ((p->type == PROP_UINT || p->type == PROP_SIZE) && p->max)
        return g_strdup_printf("%s from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT, type_names[p->type], p->min, p->max);
    return g_strdup(type_names[p->type]);
}

static bool store(struct device *d, const struct device_prop *p, const char *text)
{
    void *at = (char *)d + p->offset;
    uint64_t v;
    switch (p->type) {
    case PROP_BOOL:
        return parse_bool(text, at);
    case PROP_UINT:
    case PROP_SIZE:
        if (!parse_number(text, p->type == PROP_SIZE, &v) || v < p->min || (p->max && v > p->max))
            return false;
        *(uint64_t *)at = v;
        return true;
    case PROP_MAC:
        return parse_mac(text, at);
    case PROP_ENUM:
        return parse_enum(p, text, at);
    case PROP_PCI_ADDR:
        return parse_pci_addr(text, at);
    default:
        g_free(*(char **)at);
        *(char **)at = g_strdup(text);
        return true;
    }
}

static void set_defaults(struct device *d, const struct device_prop *p)
{
    for (; p && p->name; p++) {
        if (p->type == PROP_PCI_ADDR)
            *(int *)((char *)d + p->offset) = -1;
        if (p->def && !store(d, p, p->def))
            g_error("device %s: the default '%s' of %s is wrong", d->class->name, p->def, p->name);
    }
}

struct device *device_create(struct machine *m, const struct device_class *c)
{
    struct device *d = g_malloc0(c->size);
    d->class = c;
    d->machine = m;
    g_mutex_init(&d->lock);
    set_defaults(d, c->props);
    set_defaults(d, device_bus_props(c));
    return d;
}

const struct device_prop *device_bus_props(const struct device_class *c)
{
    static const struct device_prop pci[] = {
        { "multifunction", PROP_BOOL, offsetof(struct device, multifunction), .def = "off", .help = "more functions follow in this slot" },
        { "romfile", PROP_STRING, offsetof(struct device, romfile), .help = "image of its option ROM, for firmware; empty: none" },
        { "rombar", PROP_UINT, offsetof(struct device, rombar), 0, 1, .def = "1", .help = "whether the guest sees the option ROM" },
        { NULL }
    };
    return c->bus == DEV_BUS_PCI ? pci : NULL;
}

static const struct device_prop *find_prop(const struct device_class *c, const char *name)
{
    const struct device_prop *tables[] = { c->props, device_bus_props(c) };
    for (unsigned i = 0; i < G_N_ELEMENTS(tables); i++) {
        for (const struct device_prop *p = tables[i]; p && p->name; p++) {
            if (!strcmp(p->name, name))
                return p;
        }
    }
    return NULL;
}

bool device_set_prop(struct device *d, const char *name, const char *value, GError **error)
{
    if (!strcmp(name, "id")) {
        g_free(d->id);
        d->id = g_strdup(value);
        return true;
    }
    const struct device_prop *p = find_prop(d->class, name);
    if (!p)
        return vireo_fail(error, VIREO_ERROR_INVALID, "device %s has no property '%s'; see -device %s,help", d->class->name, name, d->class->name);
    if (store(d, p, value))
        return true;
    g_autofree char *expects = prop_expects(p);
    return vireo_fail(error, VIREO_ERROR_INVALID, "device %s: %s=%s is not possible; it takes %s", d->class->name, name, value, expects);
}

/* A drive may have to be made of the node that the property names. */
static bool resolve_drives(struct device *d, GError **error)
{
    for (const struct device_prop *p = d->class->props; p && p->name && d->machine->resolve_drive; p++) {
        const char *name = p->type == PROP_DRIVE ? *(char *const *)((const char *)d + p->offset) : NULL;
        if (name && *name && !d->machine->resolve_drive(d->machine, name, error)) {
            g_prefix_error(error, "device %s: ", d->class->name);
            return false;
        }
    }
    return true;
}

bool device_realize(struct device *d, GError **error)
{
    if (!resolve_drives(d, error))
        return false;
    if (d->class->realize && !d->class->realize(d, error))
        return false;
    d->realized = true;
    g_ptr_array_add(d->machine->devices, d);
    return true;
}

void device_destroy(struct device *d)
{
    if (!d)
        return;
    if (d->realized) {
        g_ptr_array_remove(d->machine->devices, d);
        if (d->class->unrealize)
            d->class->unrealize(d);
    }
    for (const struct device_prop *p = d->class->props; p && p->name; p++) {
        if (is_text(p->type))
            g_free(*(char **)((char *)d + p->offset));
    }
    g_free(d->romfile);
    g_free(d->id);
    g_free(d->driver);
    g_free(d->bus);
    g_mutex_clear(&d->lock);
    g_free(d);
}

uint64_t device_bootindex(const struct device *d)
{
    for (const struct device_prop *p = d->class->props; p && p->name; p++) {
        if (!strcmp(p->name, "bootindex"))
            return *(const uint64_t *)((const char *)d + p->offset);
    }
    return UINT32_MAX;
}

static bool is_network_card(const struct device_class *c)
{
    for (const struct device_prop *p = c->props; p && p->name; p++) {
        if (p->type == PROP_MAC)
            return true;
    }
    return false;
}

void device_default_mac(const struct machine *m, uint8_t mac[6])
{
    static const uint8_t none[6] = { 0 };
    uint8_t n = 0;
    if (memcmp(mac, none, 6))
        return;
    for (unsigned i = 0; i < m->devices->len; i++)
        n += is_network_card(((const struct device *)g_ptr_array_index(m->devices, i))->class);
    memcpy(mac, (const uint8_t[]){ 0x52, 0x54, 0x00, 0x12, 0x34, 0x56 + n }, 6);
}

static void help_rows(GString *s, const struct device_prop *p)
{
    for (; p && p->name; p++) {
        g_autofree char *expects = prop_expects(p);
        g_string_append_printf(s, "  %s=<%s>  %s", p->name, expects, p->help ? p->help : "");
        if (p->def)
            g_string_append_printf(s, " (default: %s)", p->def);
        g_string_append_c(s, '\n');
    }
}

char *device_class_help(const struct device_class *c)
{
    GString *s = g_string_new(NULL);
    g_string_append_printf(s, "%s: %s\n", c->name, c->help);
    help_rows(s, c->props);
    help_rows(s, device_bus_props(c));
    return g_string_free(s, FALSE);
}
