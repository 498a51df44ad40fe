/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Snapshots and checkpoints: there are none yet. Lists are empty, so that clients that look go on; making one is refused by name. */
#include "manage/drivers/domain/domain.h"

static GVariant *none(struct manage_call *c, GError **error)
{
    domain_auto *d = domain_of_call(c, 0, error);
    return d ? g_variant_new("(i)", 0) : NULL;
}

static GVariant *no_names(struct manage_call *c, GError **error)
{
    domain_auto *d = domain_of_call(c, 0, error);
    return d ? g_variant_new("(@as)", g_variant_new_array(G_VARIANT_TYPE_STRING, NULL, 0)) : NULL;
}

static GVariant *no_records(struct manage_call *c, GError **error)
{
    domain_auto *d = domain_of_call(c, 0, error);
    return d ? g_variant_new("(@a(s(sayi))i)", g_variant_new_array(G_VARIANT_TYPE("(s(sayi))"), NULL, 0), 0) : NULL;
}

static GVariant *no_current(struct manage_call *c, GError **error)
{
    domain_auto *d = domain_of_call(c, 0, error);
    return d ? manage_null(error, VIR_ERR_NO_DOMAIN_SNAPSHOT, "the domain does not have a current snapshot") : NULL;
}

static GVariant *not_found(struct manage_call *c, GError **error)
{
    const char *name;
    g_variant_get_child(c->args, 1, "&s", &name);
    domain_auto *d = domain_of_call(c, 0, error);
    return d ? manage_null(error, VIR_ERR_NO_DOMAIN_SNAPSHOT, "no domain snapshot with matching name '%s'", name) : NULL;
}

static GVariant *refused(struct manage_call *c, GError **error)
{
    domain_auto *d = domain_of_call(c, 0, error);
    return d ? manage_null(error, VIR_ERR_OPERATION_UNSUPPORTED, "snapshots of domains are not there yet; snapshots inside an image: vireo-img snapshot, with the domain shut off") : NULL;
}

const struct manage_row domain_rows_snapshot[] = {
    { RPC_DOMAIN_SNAPSHOT_NUM, none },
    { RPC_DOMAIN_SNAPSHOT_LIST_NAMES, no_names },
    { RPC_DOMAIN_LIST_ALL_SNAPSHOTS, no_records },
    { RPC_DOMAIN_HAS_CURRENT_SNAPSHOT, none },
    { RPC_DOMAIN_SNAPSHOT_CURRENT, no_current },
    { RPC_DOMAIN_SNAPSHOT_LOOKUP_BY_NAME, not_found },
    { RPC_DOMAIN_SNAPSHOT_CREATE_XML, refused },
    { RPC_DOMAIN_LIST_ALL_CHECKPOINTS, no_records },
    { 0, NULL },
};
