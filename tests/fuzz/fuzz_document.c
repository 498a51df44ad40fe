/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * XML documents from a client or a file on disk, of every schema (the root element says which). Beside "nothing breaks" three things hold: what is
 * accepted is written in a form that is accepted again and stays as it is; a copy is equal; and an element copied into another document is equal.
 */
#include <stdint.h>
#include <string.h>

#include "manage/model/doc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct {
    const char *root;
    const struct schema *schema;
} schemas[] = {
    { "domain", &schema_domain }, { "network", &schema_network }, { "pool", &schema_pool }, { "volume", &schema_volume }, { "secret", &schema_secret },
    { "device", &schema_nodedev }, { "domainsnapshot", &schema_snapshot }, { "domaincheckpoint", &schema_checkpoint }, { "interface", &schema_interface },
    { "filter", &schema_nwfilter }, { "capabilities", &schema_capabilities }, { "domainCapabilities", &schema_domaincaps }, { "cpu", &schema_cpu },
    { "domainbackup", &schema_backup }, { "storagepoolCapabilities", &schema_poolcaps }, { "networkport", &schema_networkport },
    { "filterbinding", &schema_nwfilterbinding },
};

static const struct schema *schema_of(const char *text, size_t size)
{
    const char *at = memchr(text, '<', size);
    for (unsigned i = 0; at && i < G_N_ELEMENTS(schemas); i++) {
        size_t length = strlen(schemas[i].root), left = text + size - at - 1;
        if (left > length && !memcmp(at + 1, schemas[i].root, length) && strchr(" \t\r\n/>", at[1 + length])) {
            return schemas[i].schema;
        }
    }
    return &schema_domain;
}

static void edit(const struct schema *s, const struct doc *d)
{
    doc_auto *other = doc_new(s);
    el_each (c, doc_root(d), NULL) {
        struct el *copy = el_copy(doc_root(other), c);
        g_free(el_format(copy, 3));
    }
    while (el_child(doc_root(other), NULL)) {
        el_remove(el_child(doc_root(other), NULL));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    const struct schema *s = schema_of(text, size);
    g_autoptr(GError) error = NULL;
    doc_auto *d = doc_parse(s, text, size, &error);
    g_assert(!d == !!error && (d || *error->message));
    if (!d) {
        return 0;
    }
    g_autofree char *first = doc_format(d);
    doc_auto *again = doc_parse(s, first, -1, &error);
    g_assert(again);
    g_autofree char *second = doc_format(again);
    g_assert(!strcmp(first, second));
    doc_auto *copy = doc_copy(d);
    g_assert(el_equal(doc_root(d), doc_root(copy)));
    edit(s, d);
    return 0;
}
