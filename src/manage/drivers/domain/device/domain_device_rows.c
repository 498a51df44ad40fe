/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The calls about devices, and the one that shows a document's command line. */
#include "manage/drivers/domain/device/domain_device.h"

#include <libvirt/libvirt.h>
#include <string.h>

enum { AFFECT = VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG };

static const char *string_arg(struct manage_call *c, unsigned i)
{
    const char *s = NULL;
    g_variant_get_child(c->args, i, "&s", &s);
    return s;
}

static uint32_t flags_arg(struct manage_call *c, unsigned i)
{
    uint32_t f = 0;
    g_variant_get_child(c->args, i, "u", &f);
    return f;
}

static GVariant *done(bool good)
{
    return good ? manage_void() : NULL;
}

/* The calls of old work on the running machine alone. */
static GVariant *attach(struct manage_call *c, GError **error)
{
    domain_auto *d = domain_of_call(c, 0, error);
    return done(d && domain_attach(d, string_arg(c, 1), VIR_DOMAIN_AFFECT_LIVE, error));
}

static GVariant *detach(struct manage_call *c, GError **error)
{
    domain_auto *d = domain_of_call(c, 0, error);
    return done(d && domain_detach(d, string_arg(c, 1), NULL, VIR_DOMAIN_AFFECT_LIVE, error));
}

static GVariant *attach_flags(struct manage_call *c, GError **error)
{
    uint32_t flags = flags_arg(c, 2);
    domain_auto *d = manage_check_flags(flags, AFFECT | VIR_DOMAIN_DEVICE_MODIFY_FORCE, error) ? domain_of_call(c, 0, error) : NULL;
    return done(d && domain_attach(d, string_arg(c, 1), flags, error));
}

static GVariant *detach_flags(struct manage_call *c, GError **error)
{
    uint32_t flags = flags_arg(c, 2);
    domain_auto *d = manage_check_flags(flags, AFFECT | VIR_DOMAIN_DEVICE_MODIFY_FORCE, error) ? domain_of_call(c, 0, error) : NULL;
    return done(d && domain_detach(d, string_arg(c, 1), NULL, flags, error));
}

static GVariant *update_flags(struct manage_call *c, GError **error)
{
    uint32_t flags = flags_arg(c, 2);
    domain_auto *d = manage_check_flags(flags, AFFECT | VIR_DOMAIN_DEVICE_MODIFY_FORCE, error) ? domain_of_call(c, 0, error) : NULL;
    return done(d && domain_update(d, string_arg(c, 1), flags, error));
}

static GVariant *detach_alias(struct manage_call *c, GError **error)
{
    uint32_t flags = flags_arg(c, 2);
    domain_auto *d = manage_check_flags(flags, AFFECT, error) ? domain_of_call(c, 0, error) : NULL;
    return done(d && domain_detach(d, NULL, string_arg(c, 1), flags, error));
}

/* A shell's words: quoted where they have to be. */
static char *shell_line(const struct el *root, const char *emulator, GPtrArray *argv)
{
    g_autoptr(GString) s = g_string_new("LC_ALL=C ");
    el_each(own, el_find(root, "qemu:commandline"), "qemu:env") {
        g_autofree char *q = g_shell_quote(el_get_or(own, "@value", ""));
        g_string_append_printf(s, "%s=%s ", el_get(own, "@name"), q);
    }
    g_string_append(s, emulator);
    for (unsigned i = 0; i < argv->len; i++) {
        const char *word = argv->pdata[i];
        bool plain = *word != 0;
        for (const char *p = word; *p; p++)
            plain = plain && (g_ascii_isalnum(*p) || strchr("-_=,./:+@%", *p));
        g_autofree char *quoted = plain ? g_strdup(word) : g_shell_quote(word);
        g_string_append_printf(s, " %s", quoted);
    }
    g_string_append_c(s, '\n');
    return g_string_free(g_steal_pointer(&s), FALSE);
}

static GVariant *to_native(struct manage_call *c, GError **error)
{
    const char *format = string_arg(c, 0);
    struct domain_driver *dr = manage_data(c->conn->state, "domain");
    if (!manage_check_flags(flags_arg(c, 2), 0, error))
        return NULL;
    if (g_strcmp0(format, "qemu-argv") != 0)
        return manage_null(error, VIR_ERR_INVALID_ARG, "there is no native format '%s': 'qemu-argv' is", format);
    doc_auto *d = doc_parse(&schema_domain, string_arg(c, 1), -1, error);
    if (!d || !domain_complete(dr, d, error))
        return NULL;
    struct domain_build b;
    domain_build_init(&b, NULL, dr, d);
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    bool good = domain_build_all(&b, error);
    if (good)
        domain_plan_argv(b.plan, argv, fds);
    g_autofree char *text = good ? shell_line(b.root, b.m.emulator, argv) : NULL;
    domain_build_finish(&b);
    return good ? g_variant_new("(s)", text) : NULL;
}

/* As libvirt 9.0 answers for QEMU: command lines are not read back. */
static GVariant *from_native(struct manage_call *c, GError **error)
{
    return manage_null(error, VIR_ERR_NO_SUPPORT, "this function is not supported by the connection driver: virConnectDomainXMLFromNative");
}

const struct manage_row domain_rows_device[] = {
    { RPC_DOMAIN_ATTACH_DEVICE, attach },
    { RPC_DOMAIN_DETACH_DEVICE, detach },
    { RPC_DOMAIN_ATTACH_DEVICE_FLAGS, attach_flags },
    { RPC_DOMAIN_DETACH_DEVICE_FLAGS, detach_flags },
    { RPC_DOMAIN_UPDATE_DEVICE_FLAGS, update_flags },
    { RPC_DOMAIN_DETACH_DEVICE_ALIAS, detach_alias },
    { RPC_CONNECT_DOMAIN_XML_FROM_NATIVE, from_native },
    { RPC_CONNECT_DOMAIN_XML_TO_NATIVE, to_native },
    { 0, NULL },
};
