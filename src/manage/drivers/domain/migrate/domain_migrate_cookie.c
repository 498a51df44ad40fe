/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the two daemons tell each other through the client: libvirt's <qemu-migration> documents, with the NUL that ends them.
 *
 *   <qemu-migration> <name> <uuid> <hostname> <hostuuid> [<nbd port=> <disk target= capacity=/> </nbd>] [<vireo asks='yes'/>] [<domain>...</domain>] </qemu-migration>
 *
 * Elements that are not known are passed over, as libvirt does; only a <feature> that is not known is refused: it says that without it the migration must not be.
 */
#include <string.h>

#include "manage/drivers/domain/migrate/domain_migrate.h"

enum { COOKIE_MAX = 4 << 20, DISKS_MAX = 1024 };

void migrate_cookie_clear(struct migrate_cookie *k)
{
    g_free(k->name);
    g_free(k->host);
    g_free(k->persistent);
    if (k->disks)
        g_array_unref(k->disks);
    *k = (struct migrate_cookie){ 0 };
}

static const char *host_uuid(struct manage_state *s) { return s->services->host_uuid ? s->services->host_uuid(s) : ""; }

/* <nbd> of libvirt: the source tells of sizes, the destination of its port. */
static char *nbd_text(const struct migrate_cookie *more)
{
    GString *to = g_string_new(NULL);
    if (!more || (!more->nbd_port && !more->disks))
        return g_string_free(to, FALSE);
    g_string_append(to, "  <nbd");
    if (more->nbd_port)
        g_string_append_printf(to, " port='%u'", more->nbd_port);
    g_string_append(to, ">\n");
    for (unsigned i = 0; more->disks && i < more->disks->len; i++) {
        const struct migrate_disk *m = &g_array_index(more->disks, struct migrate_disk, i);
        g_autofree char *target = g_markup_escape_text(m->target, -1);
        g_string_append_printf(to, "    <disk target='%s' capacity='%" G_GUINT64_FORMAT "'/>\n", target, m->size);
    }
    g_string_append(to, "  </nbd>\n");
    return g_string_free(to, FALSE);
}

GVariant *migrate_cookie_new(struct domain *d, const char *origin, const struct doc *persistent, const struct migrate_cookie *more)
{
    char uuid[37];
    manage_uuid_format(d->uuid, uuid);
    g_autofree char *head = g_markup_printf_escaped("<qemu-migration>\n  <name>%s</name>\n  <uuid>%s</uuid>\n  <hostname>%s</hostname>\n  <hostuuid>%s</hostuuid>\n", origin, uuid,
                                                    g_get_host_name(), host_uuid(d->driver->state));
    g_autofree char *definition = persistent ? doc_format(persistent) : NULL;
    g_autofree char *nbd = nbd_text(more);
    g_autofree char *text = g_strconcat(head, nbd, more && more->asks ? "  <vireo asks='yes'/>\n" : "", definition ? definition : "", "</qemu-migration>\n", NULL);
    return g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, text, strlen(text) + 1, 1);
}

/* ---- reading ---- */

struct reading {
    struct migrate_cookie *k;
    bool root, has_uuid, has_host_uuid;
};

static bool at_child(GMarkupParseContext *context)
{
    const GSList *stack = g_markup_parse_context_get_element_stack(context);
    return stack && stack->next && !stack->next->next;
}

/* <disk> in <nbd>. */
static void read_disk(struct reading *r, const char **names, const char **values)
{
    struct migrate_disk m = { 0 };
    for (unsigned i = 0; names[i]; i++) {
        if (!strcmp(names[i], "target"))
            g_strlcpy(m.target, values[i], sizeof(m.target));
        else if (!strcmp(names[i], "capacity"))
            m.size = g_ascii_strtoull(values[i], NULL, 10);
    }
    if (!r->k->disks)
        r->k->disks = g_array_new(FALSE, TRUE, sizeof(struct migrate_disk));
    if (r->k->disks->len < DISKS_MAX)
        g_array_append_val(r->k->disks, m);
}

static bool in_nbd(GMarkupParseContext *context)
{
    const GSList *stack = g_markup_parse_context_get_element_stack(context);
    return stack && stack->next && !strcmp(stack->next->data, "nbd") && stack->next->next && !stack->next->next->next;
}

static void start_element(GMarkupParseContext *context, const char *element, const char **names, const char **values, gpointer opaque, GError **error)
{
    struct reading *r = opaque;
    const char *feature = NULL;
    /* What libvirtd insists on and is so here: definitions go along, documents have all devices that were added since the start; a lock manager is looked at by its name. */
    static const char *const known[] = { "persistent", "nbd", "memory-hotplug", "cpu-hotplug", "lockstate", NULL };
    if (!r->root) {
        r->root = !strcmp(element, "qemu-migration");
        if (!r->root)
            manage_fail(error, VIR_ERR_XML_ERROR, "a cookie of a migration begins with <qemu-migration>, not with <%s>", element);
        return;
    }
    if (!strcmp(element, "disk") && in_nbd(context))
        read_disk(r, names, values);
    if (!at_child(context))
        return;
    for (unsigned i = 0; names[i]; i++) {
        if (!strcmp(element, "nbd") && !strcmp(names[i], "port"))
            r->k->nbd_port = (unsigned)MIN(g_ascii_strtoull(values[i], NULL, 10), 65535);
        if (!strcmp(element, "feature") && !strcmp(names[i], "name"))
            feature = values[i];
        if (!strcmp(element, "vireo") && !strcmp(names[i], "asks"))
            r->k->asks = !strcmp(values[i], "yes");
        if (!strcmp(element, "lockstate") && !strcmp(names[i], "driver") && strcmp(values[i], "nop"))
            manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "the other side of the migration locks disks with '%s', which is not known here", values[i]);
    }
    if (feature && !g_strv_contains(known, feature))
        manage_fail(error, VIR_ERR_OPERATION_UNSUPPORTED, "the other side of the migration insists on '%s', which is not known here", feature);
}

static void text_of(GMarkupParseContext *context, const char *text, gsize size, gpointer opaque, GError **error)
{
    struct reading *r = opaque;
    const char *element = g_markup_parse_context_get_element(context);
    if (!at_child(context))
        return;
    g_autofree char *value = g_strstrip(g_strndup(text, size));
    if (!strcmp(element, "name") && !r->k->name)
        r->k->name = g_steal_pointer(&value);
    else if (!strcmp(element, "hostname") && !r->k->host)
        r->k->host = g_steal_pointer(&value);
    else if (!strcmp(element, "uuid"))
        r->has_uuid = manage_uuid_parse(value, r->k->uuid);
    else if (!strcmp(element, "hostuuid"))
        r->has_host_uuid = manage_uuid_parse(value, r->k->host_uuid);
}

/* The definition inside is taken out as text: it has a schema of its own. */
static void cut_definition(char *text, struct migrate_cookie *k)
{
    char *from = strstr(text, "<domain "), *to = g_strrstr(text, "</domain>");
    if (!from || !to || to < from)
        return;
    to += strlen("</domain>");
    k->persistent = g_strndup(from, (gsize)(to - from));
    memset(from, ' ', (gsize)(to - from));
}

static bool parse(const char *bytes, struct migrate_cookie *k, GError **error)
{
    static const GMarkupParser parser = { .start_element = start_element, .text = text_of };
    struct reading r = { .k = k };
    g_autoptr(GError) e = NULL;
    g_autofree char *text = g_strdup(bytes);
    cut_definition(text, k);
    GMarkupParseContext *context = g_markup_parse_context_new(&parser, G_MARKUP_TREAT_CDATA_AS_TEXT, &r, NULL);
    bool ok = g_markup_parse_context_parse(context, text, -1, &e) && g_markup_parse_context_end_parse(context, &e);
    g_markup_parse_context_free(context);
    if (!ok && e->domain == G_MARKUP_ERROR)
        return manage_fail(error, VIR_ERR_XML_ERROR, "the cookie of the migration cannot be read: %s", e->message);
    if (!ok) {
        g_propagate_error(error, g_steal_pointer(&e));
        return false;
    }
    return (k->name && k->host && r.has_uuid && r.has_host_uuid) ||
           manage_fail(error, VIR_ERR_XML_ERROR, "a cookie of a migration needs name, uuid, hostname and hostuuid");
}

static bool fits(struct manage_state *s, const struct migrate_cookie *k, const char *origin, const uint8_t *uuid, GError **error)
{
    uint8_t own[16];
    if (origin && strcmp(origin, k->name))
        return manage_fail(error, VIR_ERR_INTERNAL_ERROR, "the cookie of the migration is of domain '%s', not of '%s'", k->name, origin);
    if (uuid && memcmp(uuid, k->uuid, 16))
        return manage_fail(error, VIR_ERR_INTERNAL_ERROR, "the cookie of the migration is of a domain with another UUID");
    if (manage_uuid_parse(host_uuid(s), own) && !memcmp(own, k->host_uuid, 16))
        return manage_fail(error, VIR_ERR_INTERNAL_ERROR, "Attempt to migrate guest to the same host %s", host_uuid(s));
    return true;
}

bool migrate_cookie_parse(struct manage_state *s, GVariant *bytes, const char *origin, const uint8_t *uuid, bool must, struct migrate_cookie *k, GError **error)
{
    gsize size = 0;
    const char *text = bytes ? g_variant_get_fixed_array(bytes, &size, 1) : NULL;
    *k = (struct migrate_cookie){ 0 };
    if (!size && !must)
        return true;
    if (!size || size > COOKIE_MAX || text[size - 1] || strlen(text) != size - 1 || !g_utf8_validate(text, -1, NULL))
        return manage_fail(error, VIR_ERR_INTERNAL_ERROR, "Migration cookie was not NULL terminated text of at most %d bytes", COOKIE_MAX);
    if (parse(text, k, error) && fits(s, k, origin, uuid, error))
        return true;
    migrate_cookie_clear(k);
    return false;
}
