/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manage/rpc/rpc_message.h"

#include <string.h>

#include "manage/core/manage_error.h"
#include "manage/rpc/rpc_xdr.h"

static uint32_t get(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return GUINT32_FROM_BE(v);
}

static void put(uint8_t *p, uint32_t v)
{
    v = GUINT32_TO_BE(v);
    memcpy(p, &v, 4);
}

void rpc_header_read(const uint8_t p[RPC_HEADER], struct rpc_header *ret)
{
    *ret = (struct rpc_header){ get(p), get(p + 4), get(p + 8), get(p + 12), get(p + 16), get(p + 20), get(p + 24) };
}

GByteArray *rpc_message_blank(void)
{
    GByteArray *m = g_byte_array_sized_new(64);
    return g_byte_array_set_size(m, RPC_HEADER);
}

void rpc_message_head(GByteArray *m, uint32_t program, uint32_t procedure, enum rpc_type type, uint32_t serial, enum rpc_status status)
{
    const uint32_t words[] = { 0, program, 1, procedure, type, serial, status };
    for (unsigned i = 0; i < G_N_ELEMENTS(words); i++)
        put(m->data + 4 * i, words[i]);
}

GByteArray *rpc_message_new(uint32_t program, uint32_t procedure, enum rpc_type type, uint32_t serial, enum rpc_status status)
{
    GByteArray *m = rpc_message_blank();
    rpc_message_head(m, program, procedure, type, serial, status);
    return m;
}

void rpc_message_fds(GByteArray *m, unsigned nfds)
{
    g_byte_array_set_size(m, m->len + 4);
    put(m->data + m->len - 4, nfds);
}

void rpc_message_finish(GByteArray *m) { put(m->data, m->len); }

/* code, domain, message, level, domain, three strings, two numbers, network */
#define ERROR_LETTERS "iimsimDmsmsmsiimN"
#define ERROR_TYPE "(iimsim(sayi)msmsmsiim(say))"
#define LEVEL_ERROR 2

void rpc_message_error(GByteArray *m, int code, int domain, const char *message)
{
    g_autofree char *valid = g_utf8_make_valid(message, MIN(strlen(message), 65536));
    g_autoptr(GVariant) v = g_variant_ref_sink(g_variant_new("(iimsi@m(sayi)msmsmsii@m(say))", code, domain, valid, LEVEL_ERROR,
        g_variant_new_maybe(G_VARIANT_TYPE("(sayi)"), NULL), "%s", valid, NULL, -1, -1, g_variant_new_maybe(G_VARIANT_TYPE("(say)"), NULL)));
    if (!rpc_encode(m, ERROR_LETTERS, v, NULL))
        g_assert_not_reached();
}

void rpc_message_read_error(const void *payload, gsize size, int *ret_domain, GError **error)
{
    g_autoptr(GVariant) v = rpc_decode_as(ERROR_LETTERS, ERROR_TYPE, payload, size, NULL, NULL);
    if (!v) {
        if (ret_domain)
            *ret_domain = VIR_FROM_RPC;
        manage_fail(error, VIR_ERR_RPC, "the server answered with an error that cannot be decoded");
        return;
    }
    int code, domain;
    const char *message;
    g_variant_get_child(v, 0, "i", &code);
    g_variant_get_child(v, 1, "i", &domain);
    g_variant_get_child(v, 2, "m&s", &message);
    if (ret_domain)
        *ret_domain = domain;
    manage_fail(error, code, "%s", message ? message : "the server gave no reason");
}
