/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Serial ports, parallel ports, channels and consoles. The first <console> of a PC is the first <serial> seen from the other side: each makes the
 * other where it is missing.
 */
#include "manage/drivers/domain/complete/domain_complete.h"

static bool numbered(struct el *devices, const char *name, unsigned port)
{
    el_each(e, devices, name)
        if (domain_number(e, "target/@port", UINT64_MAX) == port)
            return true;
    return false;
}

static void number_ports(struct el *devices, const char *name)
{
    el_each(e, devices, name) {
        unsigned n = 0;
        if (el_get(e, "target/@port"))
            continue;
        while (numbered(devices, name, n))
            n++;
        el_setf(e, "target/@port", "%u", n);
    }
}

static void complete_serial(struct el *e)
{
    static const char *const rows[][2] = { { "isa-serial", "isa-serial" }, { "pci-serial", "pci-serial" }, { "usb-serial", "usb-serial" }, { "isa-debug", "isa-debugcon" } };
    domain_default(e, "target/@type", "isa-serial");
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
        if (el_is(e, "target/@type", rows[i][0]))
            domain_default(e, "target/model/@name", rows[i][1]);
}

/* The source of a character device: what a TCP one speaks, and modes. */
static bool complete_source(struct el *e, GError **error)
{
    static const struct { const char *type, *path; } needs[] = { { "file", "source/@path" }, { "dev", "source/@path" }, { "pipe", "source/@path" }, { "tcp", "source/@service" } };
    const char *type = el_get(e, "@type");
    if (!type) {
        el_set(e, "@type", "pty");
        return true;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(needs); i++)
        if (g_str_equal(type, needs[i].type) && !el_get(e, needs[i].path))
            return manage_fail(error, VIR_ERR_XML_ERROR, "<%s type='%s'>%s has no <source %s=>", el_name(e), type, domain_line(e),
                               g_str_equal(type, "tcp") ? "host= service" : "path");
    if (g_str_equal(type, "tcp"))
        domain_default(e, "protocol/@type", "raw");
    if ((g_str_equal(type, "tcp") || g_str_equal(type, "udp") || g_str_equal(type, "unix")) && (el_get(e, "source/@service") || el_get(e, "source/@path")))
        domain_default(e, "source/@mode", "connect");
    struct el *source = el_find(e, "source");
    if (g_str_equal(type, "unix") && source && !el_get(source, "@path") && !el_is(source, "@mode", "connect"))
        el_remove(source); /* a socket of our own, whose place is known when the machine starts */
    return true;
}

static void copy_char(struct el *to, const struct el *from)
{
    el_set(to, "@type", el_get_or(from, "@type", "pty"));
    static const char *const parts[] = { "source", "protocol", "log" };
    for (unsigned i = 0; i < G_N_ELEMENTS(parts); i++) {
        const struct el *p = el_find(from, parts[i]);
        for (bool wanted = p && !el_find(to, parts[i]); wanted && p; p = el_next(p, parts[i]))
            el_copy(to, p);
    }
}

/* The first console is the first serial port's other name. */
static void pair_console(struct domain_complete *c)
{
    struct el *serial = el_child(c->devices, "serial"), *console = el_child(c->devices, "console");
    if (console) {
        const char *type = el_get(console, "target/@type");
        if (type && !g_str_equal(type, "serial")) {
            /* A virtio console comes first only where there is no serial port. */
            if (!serial || !el_is(serial, "target/@type", "isa-serial"))
                return;
            /* The paired one has to be the first: the others move behind it. */
            struct el *first = el_add(c->devices, "console");
            copy_char(first, serial);
            el_set(first, "target/@type", "serial");
            el_set(first, "target/@port", el_get(serial, "target/@port"));
            for (struct el *e = el_child(c->devices, "console"), *next; e && e != first; e = next) {
                next = el_next(e, "console");
                el_copy(c->devices, e);
                el_remove(e);
            }
            return;
        }
        if (!serial) {
            serial = el_add(c->devices, "serial");
            copy_char(serial, console);
            complete_serial(serial);
            el_set(serial, "target/@port", "0");
        }
        el_set(console, "target/@type", "serial");
        el_set(console, "target/@port", el_get(serial, "target/@port"));
        static const char *const parts[] = { "source", "protocol" };
        for (unsigned i = 0; i < G_N_ELEMENTS(parts); i++)
            while (el_find(console, parts[i]))
                el_remove(el_find(console, parts[i]));
        copy_char(console, serial);
    } else if (serial && el_is(serial, "target/@type", "isa-serial")) {
        console = el_add(c->devices, "console");
        copy_char(console, serial);
        el_set(console, "target/@type", "serial");
        el_set(console, "target/@port", el_get(serial, "target/@port"));
    }
}

/* Consoles are counted as the document has them: one that is made for the serial port counts from the next time on. */
static void number_consoles(struct el *devices)
{
    unsigned n = 0;
    el_each(e, devices, "console") {
        domain_default(e, "target/@type", n ? "virtio" : "serial");
        if (!el_is(e, "target/@type", "serial"))
            el_setf(e, "target/@port", "%u", n);
        else
            domain_default(e, "target/@port", "0");
        n++;
    }
}

bool domain_complete_chars(struct domain_complete *c, GError **error)
{
    static const char *const kinds[] = { "serial", "parallel", "console", "channel" };
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++)
        el_each(e, c->devices, kinds[i]) {
            if (!complete_source(e, error))
                return false;
            if (g_str_equal(kinds[i], "channel") && !el_get(e, "target/@type"))
                return manage_fail(error, VIR_ERR_XML_ERROR, "a <channel>%s needs <target type='virtio' name=...>", domain_line(e));
        }
    el_each(e, c->devices, NULL) { /* those that are no character devices, and have one behind them */
        struct el *back = g_str_equal(el_name(e), "rng") ? el_find(e, "backend") : g_str_equal(el_name(e), "smartcard") || g_str_equal(el_name(e), "redirdev") ? e : NULL;
        if (back && el_get(back, "@type") && !complete_source(back, error))
            return false;
    }
    el_each(e, c->devices, "serial")
        complete_serial(e);
    el_each(e, c->devices, "parallel")
        if (el_get(e, "target/@type"))
            el_set(e, "target/@type", NULL); /* there is one kind */
    number_ports(c->devices, "serial");
    number_consoles(c->devices);
    pair_console(c);
    number_ports(c->devices, "parallel");
    return true;
}
