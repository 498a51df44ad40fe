/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Title, description, and elements of other programs' namespaces in <metadata>. */
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <string.h>

#include "manage/drivers/domain/domain.h"

enum { AFFECT = VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG, PARSE = XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING };

struct change {
    int type;
    const char *text, *key, *uri; /* text NULL: it goes */
};

/* ---- namespaces ---- */

static xmlDocPtr parse_content(const char *raw)
{
    g_autofree char *text = g_strconcat("<metadata>", raw ? raw : "", "</metadata>", NULL);
    return xmlReadMemory(text, (int)strlen(text), NULL, NULL, PARSE);
}

static xmlNodePtr find(xmlDocPtr doc, const char *uri)
{
    xmlNodePtr root = doc ? xmlDocGetRootElement(doc) : NULL;
    for (xmlNodePtr n = root ? root->children : NULL; n; n = n->next)
        if (n->type == XML_ELEMENT_NODE && n->ns && !strcmp((const char *)n->ns->href, uri))
            return n;
    return NULL;
}

static char *dump(xmlNodePtr n)
{
    xmlBufferPtr b = xmlBufferCreate();
    xmlNodeDump(b, n->doc, n, 0, 0);
    char *text = g_strdup((const char *)xmlBufferContent(b));
    xmlBufferFree(b);
    return text;
}

static void set_namespace(xmlNodePtr n, xmlNsPtr ns)
{
    for (; n; n = n->next) {
        if (n->type != XML_ELEMENT_NODE)
            continue;
        xmlSetNs(n, ns);
        set_namespace(n->children, ns);
    }
}

static bool has_attribute_of(const xmlNode *n, const xmlNs *ns)
{
    for (const xmlAttr *a = n->properties; a; a = a->next) {
        if (a->ns == ns)
            return true;
    }
    for (const xmlNode *child = n->children; child; child = child->next) {
        if (child->type == XML_ELEMENT_NODE && has_attribute_of(child, ns))
            return true;
    }
    return false;
}

/* Elements of the namespace lose it, those inside first, for they point to the definitions of those around them; a definition that attributes
 * need stays. */
static void strip_namespace(xmlNodePtr n, const char *uri)
{
    for (; n; n = n->next) {
        if (n->type != XML_ELEMENT_NODE)
            continue;
        strip_namespace(n->children, uri);
        if (n->ns && !strcmp((const char *)n->ns->href, uri))
            xmlSetNs(n, NULL);
        for (xmlNsPtr *at = &n->nsDef; *at;) {
            xmlNsPtr def = *at;
            if (strcmp((const char *)def->href, uri) || has_attribute_of(n, def)) {
                at = &def->next;
                continue;
            }
            *at = def->next;
            xmlFreeNs(def);
        }
    }
}

/* The namespace with this prefix and URI, defined at the element if it is not; NULL: the element uses the prefix for another. */
static xmlNsPtr namespace_of(xmlNodePtr n, const struct change *c)
{
    xmlNsPtr ns = xmlSearchNs(n->doc, n, BAD_CAST c->key);
    if (!ns)
        return xmlNewNs(n, BAD_CAST c->uri, BAD_CAST c->key);
    return strcmp((const char *)ns->href, c->uri) ? NULL : ns;
}

/* The children of <metadata> without `uri`'s, then the new one. */
static char *replaced(const char *raw, const struct change *c)
{
    GString *s = g_string_new(NULL);
    xmlDocPtr doc = parse_content(raw);
    xmlNodePtr root = doc ? xmlDocGetRootElement(doc) : NULL, old = find(doc, c->uri);
    for (xmlNodePtr n = root ? root->children : NULL; n; n = n->next) {
        if (n == old || n->type != XML_ELEMENT_NODE)
            continue;
        g_autofree char *text = dump(n);
        g_string_append_printf(s, "%s\n", text);
    }
    xmlFreeDoc(doc);
    xmlDocPtr new = c->text ? xmlReadMemory(c->text, (int)strlen(c->text), NULL, NULL, PARSE) : NULL;
    if (new) {
        xmlNodePtr n = xmlDocGetRootElement(new);
        set_namespace(n, namespace_of(n, c));
        g_autofree char *text = dump(n);
        g_string_append_printf(s, "%s\n", text);
        xmlFreeDoc(new);
    }
    g_autofree char *text = g_strdup_printf("<metadata>%s</metadata>", s->str);
    doc_auto *canonical = s->len ? doc_parse_at(&schema_domain, "", text, -1, NULL) : NULL;
    g_string_free(s, TRUE);
    return g_strdup(canonical ? el_raw(doc_root(canonical)) : "");
}

/* ---- setting ---- */

static void edit(struct el *root, void *opaque)
{
    const struct change *c = opaque;
    struct el *e = el_find(root, "metadata");
    if (c->type == VIR_DOMAIN_METADATA_DESCRIPTION) {
        el_set(root, "description", c->text && *c->text ? c->text : NULL);
    } else if (c->type == VIR_DOMAIN_METADATA_TITLE) {
        el_set(root, "title", c->text && *c->text ? c->text : NULL);
    } else {
        g_autofree char *raw = replaced(e ? el_raw(e) : NULL, c);
        if (!*raw && e)
            el_remove(e);
        else if (*raw)
            el_set_raw(e ? e : el_add(root, "metadata"), raw);
    }
}

static bool check(const struct change *c, GError **error)
{
    if (c->type < 0 || c->type > VIR_DOMAIN_METADATA_ELEMENT)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "unknown metadata type %d", c->type);
    if (c->type == VIR_DOMAIN_METADATA_TITLE && c->text && strchr(c->text, '\n'))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "metadata title can't contain newlines");
    if (c->type != VIR_DOMAIN_METADATA_ELEMENT)
        return true;
    if (!c->uri || !*c->uri)
        return manage_fail(error, VIR_ERR_INVALID_ARG, "an element of metadata needs the URI of its namespace");
    if (!c->text)
        return true;
    if (!c->key || !*c->key || xmlValidateNCName(BAD_CAST c->key, 0))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "an element of metadata needs a key: the prefix of its namespace");
    xmlDocPtr doc = xmlReadMemory(c->text, (int)strlen(c->text), NULL, NULL, PARSE);
    xmlNodePtr n = doc ? xmlDocGetRootElement(doc) : NULL;
    bool free_prefix = n && namespace_of(n, c);
    xmlFreeDoc(doc);
    if (!n)
        return manage_fail(error, VIR_ERR_XML_ERROR, "(metadata_xml): the element is not well-formed XML");
    return free_prefix || manage_fail(error, VIR_ERR_INVALID_ARG, "the element uses the prefix '%s' for another namespace: choose another key", c->key);
}

static GVariant *set_metadata(struct manage_call *call, GError **error)
{
    struct change c;
    uint32_t flags;
    bool live, config;
    g_variant_get_child(call->args, 1, "i", &c.type);
    g_variant_get_child(call->args, 2, "m&s", &c.text);
    g_variant_get_child(call->args, 3, "m&s", &c.key);
    g_variant_get_child(call->args, 4, "m&s", &c.uri);
    g_variant_get_child(call->args, 5, "u", &flags);
    if (!manage_check_flags(flags, AFFECT, error) || !check(&c, error))
        return NULL;
    domain_auto *d = domain_of_call(call, 0, error);
    if (!d || !domain_begin(d, "set metadata", false, error))
        return NULL;
    bool ok = domain_affect(d, flags, &live, &config, error) &&
              domain_edit(d, (live ? VIR_DOMAIN_AFFECT_LIVE : 0) | (config ? VIR_DOMAIN_AFFECT_CONFIG : 0), edit, &c, error);
    domain_end(d);
    if (!ok)
        return NULL;
    manage_event(call->conn->state, MANAGE_DOMAIN, VIR_DOMAIN_EVENT_ID_METADATA_CHANGE, d->uuid, sizeof(d->uuid),
                 g_variant_new("(@(sayi)ims)", domain_variant(d), c.type, c.type == VIR_DOMAIN_METADATA_ELEMENT ? c.uri : NULL));
    return manage_void();
}

/* ---- getting ---- */

static char *element(const struct el *root, const char *uri)
{
    struct el *e = el_find(root, "metadata");
    xmlDocPtr doc = e ? parse_content(el_raw(e)) : NULL;
    xmlNodePtr n = find(doc, uri);
    xmlDocPtr alone = n ? xmlNewDoc(BAD_CAST "1.0") : NULL;
    char *text = NULL;
    if (alone) {
        xmlNodePtr copy = xmlDocCopyNode(n, alone, 1);
        xmlDocSetRootElement(alone, copy);
        strip_namespace(copy, uri);
        text = dump(copy);
        xmlFreeDoc(alone);
    }
    xmlFreeDoc(doc);
    return text;
}

static GVariant *get_metadata(struct manage_call *c, GError **error)
{
    static const char *const names[] = { "description", "title" };
    int type;
    const char *uri = NULL;
    uint32_t flags;
    bool live, config;
    g_variant_get_child(c->args, 1, "i", &type);
    g_variant_get_child(c->args, 2, "m&s", &uri);
    g_variant_get_child(c->args, 3, "u", &flags);
    if (!manage_check_flags(flags, AFFECT, error))
        return NULL;
    if (type < 0 || type > VIR_DOMAIN_METADATA_ELEMENT || (type == VIR_DOMAIN_METADATA_ELEMENT && !uri))
        return manage_null(error, VIR_ERR_INVALID_ARG, type > VIR_DOMAIN_METADATA_ELEMENT || type < 0 ? "unknown metadata type" : "an element needs the URI of its namespace");
    domain_auto *d = domain_of_call(c, 0, error);
    if (!d || !domain_affect(d, flags, &live, &config, error))
        return NULL;
    doc_auto *doc = live ? domain_live(d, error) : domain_definition(d, error);
    if (!doc)
        return NULL;
    g_autofree char *text = type == VIR_DOMAIN_METADATA_ELEMENT ? element(doc_root(doc), uri) : g_strdup(el_get(doc_root(doc), names[type]));
    if (!text)
        return manage_null(error, VIR_ERR_NO_DOMAIN_METADATA, "Requested metadata element is not present");
    return g_variant_new("(s)", text);
}

const struct manage_row domain_rows_metadata[] = {
    { RPC_DOMAIN_SET_METADATA, set_metadata },
    { RPC_DOMAIN_GET_METADATA, get_metadata },
    { 0, NULL },
};
