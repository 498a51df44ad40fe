/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether two documents make machines that look the same to a guest: a saved guest cannot go on in another one. What is on the host's side may differ. */
#include "manage/drivers/domain/save/domain_save.h"

/* Of a device: what the guest sees of it. */
static const char *const shown[] = { "@device", "@model", "@bus", "@index", "@managed", "model", "mac", "address", "serial", "wwn", "readonly", "codec", "transient", "acpi" };
/* Their type says what they are on the host. */
static const char *const typed_on_host[] = { "disk", "interface", "serial", "parallel", "console", "channel", "redirdev", "smartcard", "rng" };
static const char *const without_target[] = { "disk", "interface" };
static const char *const host_only[] = { "emulator", "graphics", "video", "audio", "console" };
static const char *const machine[] = { "uuid", "name", "memory", "maxMemory", "vcpu", "os/type", "os/loader", "features", "cpu", "numatune" };

static bool among(const char *name, const char *const *list, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (g_str_equal(name, list[i]))
            return true;
    return false;
}
#define AMONG(name, list) among(name, list, G_N_ELEMENTS(list))

static void add(GString *to, const struct el *e, const char *path)
{
    const struct el *child = path[0] == '@' ? NULL : el_find(e, path);
    if (path[0] == '@' && el_get(e, path))
        g_string_append_printf(to, "%s=%s ", path, el_get(e, path));
    if (!child)
        return;
    g_autofree char *text = el_format(child, 0);
    g_string_append(to, text);
}

static char *signature(const struct el *e)
{
    GString *to = g_string_new(el_name(e));
    g_string_append_c(to, ' ');
    if (!AMONG(el_name(e), typed_on_host))
        add(to, e, "@type");
    if (AMONG(el_name(e), without_target))
        add(to, e, "target/@bus");
    else
        add(to, e, "target");
    for (unsigned i = 0; i < G_N_ELEMENTS(shown); i++)
        add(to, e, shown[i]);
    return g_string_free(to, FALSE);
}

static const struct el *next_seen(const struct el *devices, const struct el *e)
{
    do
        e = e ? el_next(e, NULL) : el_child(devices, NULL);
    while (e && AMONG(el_name(e), host_only));
    return e;
}

bool domain_same_machine(const struct doc *from, const struct doc *to, GError **error)
{
    const struct el *a = doc_root(from), *b = doc_root(to);
    for (unsigned i = 0; i < G_N_ELEMENTS(machine); i++) {
        const struct el *x = el_find(a, machine[i]), *y = el_find(b, machine[i]);
        g_autofree char *u = x ? el_format(x, 0) : NULL, *v = y ? el_format(y, 0) : NULL;
        if (g_strcmp0(u, v))
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "Target domain <%s> does not match source: the guest cannot go on in another machine", machine[i]);
    }
    if (g_strcmp0(el_get(a, "@type"), el_get(b, "@type")))
        return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "Target domain type %s does not match source %s", el_get_or(b, "@type", "?"), el_get_or(a, "@type", "?"));
    const struct el *m = el_find(a, "devices"), *n = el_find(b, "devices"), *x = next_seen(m, NULL), *y = next_seen(n, NULL);
    for (; x && y; x = next_seen(m, x), y = next_seen(n, y)) {
        g_autofree char *u = signature(x), *v = signature(y);
        if (!g_str_equal(u, v))
            return manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "Target domain device <%s> in line %u does not match source: the guest cannot go on with another one",
                               el_name(y), el_line(y));
    }
    return (!x && !y) || manage_fail(error, VIR_ERR_CONFIG_UNSUPPORTED, "Target domain device count does not match source: there is %s <%s>", x ? "no" : "another",
                                     el_name(x ? x : y));
}
