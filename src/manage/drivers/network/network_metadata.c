/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Elements of <metadata>, found by their namespace. */
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <string.h>

#include "manage/drivers/network/network.h"

#define XML_OPTIONS (XML_PARSE_NONET | XML_PARSE_NOBLANKS | XML_PARSE_NOERROR | XML_PARSE_NOWARNING)

static xmlDoc *parse_raw(const char *raw)
{
    g_autofree char *text = g_strdup_printf("<metadata>%s</metadata>", raw ? raw : "");
    return xmlReadMemory(text, (int)strlen(text), NULL, NULL, XML_OPTIONS);
}

static xmlNode *find(xmlDoc *d, const char *uri)
{
    for (xmlNode *n = d ? xmlDocGetRootElement(d)->children : NULL; n; n = n->next)
        if (n->type == XML_ELEMENT_NODE && n->ns && !strcmp((const char *)n->ns->href, uri))
            return n;
    return NULL;
}

static char *dump(xmlDoc *d, xmlNode *node)
{
    xmlBuffer *b = xmlBufferCreate();
    xmlNodeDump(b, d, node, 0, 1);
    char *text = g_strdup((const char *)xmlBufferContent(b));
    xmlBufferFree(b);
    return text;
}

/* A namespace of the whole subtree, or none where the nodes have `from`. */
static void change_ns(xmlNode *node, const xmlNs *from, xmlNs *to)
{
    for (; node; node = node->next) {
        if (node->type != XML_ELEMENT_NODE)
            continue;
        if (node->ns == from)
            node->ns = to;
        change_ns(node->children, from, to);
    }
}

/* Without the namespace that it is kept under. */
char *network_metadata_get(const struct el *metadata, const char *uri)
{
    xmlDoc *d = metadata ? parse_raw(el_raw(metadata)) : NULL;
    xmlNode *node = find(d, uri);
    char *text = NULL;
    if (node) {
        xmlNs *own = node->ns;
        node->ns = NULL;
        change_ns(node->children, own, NULL);
        for (xmlNs **p = &node->nsDef; *p; p = &(*p)->next) {
            if (*p == own) {
                *p = own->next;
                xmlFreeNs(own);
                break;
            }
        }
        text = dump(d, node);
    }
    xmlFreeDoc(d);
    return text;
}

static bool add_new(xmlDoc *d, const char *text, const char *key, const char *uri, GError **error)
{
    xmlDoc *new = xmlReadMemory(text, (int)strlen(text), NULL, NULL, XML_OPTIONS);
    xmlNode *root = new ? xmlDocGetRootElement(new) : NULL;
    if (!root) {
        xmlFreeDoc(new);
        return manage_fail(error, VIR_ERR_XML_ERROR, "the metadata is not one well-formed XML element");
    }
    xmlNode *copy = xmlDocCopyNode(root, d, 1);
    xmlNs *ns = xmlNewNs(copy, BAD_CAST uri, BAD_CAST key);
    if (ns) {
        xmlSetNs(copy, ns);
        change_ns(copy->children, NULL, ns);
    }
    xmlAddChild(xmlDocGetRootElement(d), copy);
    xmlFreeDoc(new);
    return true;
}

bool network_metadata_set(struct el *root, const char *text, const char *key, const char *uri, GError **error)
{
    if (!uri || !*uri || (text && (!key || !*key)))
        return manage_fail(error, VIR_ERR_INVALID_ARG, "metadata needs a namespace URI, and a prefix (key) to be set under");
    struct el *metadata = el_child(root, "metadata");
    xmlDoc *d = parse_raw(metadata ? el_raw(metadata) : "");
    xmlNode *old = find(d, uri);
    if (old) {
        xmlUnlinkNode(old);
        xmlFreeNode(old);
    }
    bool ok = d && (!text || add_new(d, text, key, uri, error));
    g_autoptr(GString) raw = g_string_new(NULL);
    unsigned elements = 0;
    for (xmlNode *n = ok ? xmlDocGetRootElement(d)->children : NULL; n; n = n->next) {
        g_autofree char *piece = dump(d, n);
        g_string_append_printf(raw, "%s%s", raw->len ? "\n" : "", piece);
        elements += n->type == XML_ELEMENT_NODE;
    }
    xmlFreeDoc(d);
    if (!ok)
        return false;
    if (!elements)
        el_set(root, "metadata", NULL);
    else
        el_set_raw(metadata ? metadata : el_add(root, "metadata"), raw->str);
    return true;
}
