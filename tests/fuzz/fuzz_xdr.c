/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bytes as the arguments or the answer of a procedure, typed parameters among them: what is decoded is a GVariant in normal form, encodes again and
 * decodes to the same. Byte 0 and 1: procedure, bit 15 its answer.
 */
#include <glib.h>
#include <string.h>

#include "manage/rpc/rpc_proc.h"
#include "manage/rpc/rpc_xdr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    unsigned number = (unsigned)(data[0] << 8 | data[1]);
    const struct rpc_proc *p = rpc_proc((number & 0x7fff) % RPC_NPROCS);
    if (!p)
        return 0;
    const char *letters = number >> 15 ? p->ret : p->args, *type = number >> 15 ? p->ret_type : p->args_type;
    g_autofree uint8_t *copy = g_memdup2(data + 2, size - 2); /* of just that size: reading beyond it is seen */
    g_autoptr(GError) error = NULL;
    gsize used = 0;
    g_autoptr(GVariant) v = rpc_decode_as(letters, type, copy, size - 2, &used, &error);
    g_assert((v != NULL) == (error == NULL));
    if (!v)
        return 0;
    g_assert(used <= size - 2);
    g_autoptr(GBytes) bytes = g_bytes_new(g_variant_get_data(v), g_variant_get_size(v));
    g_autoptr(GVariant) untrusted = g_variant_ref_sink(g_variant_new_from_bytes(G_VARIANT_TYPE(type), bytes, FALSE));
    g_assert(g_variant_is_normal_form(untrusted));
    g_autoptr(GByteArray) wire = g_byte_array_new();
    g_assert(rpc_encode(wire, letters, v, NULL));
    g_autoptr(GVariant) again = rpc_decode(letters, wire->data, wire->len, NULL);
    g_autofree char *one = g_variant_print(v, FALSE), *two = again ? g_variant_print(again, FALSE) : NULL; /* as text: a NaN is not equal to itself */
    g_assert_cmpstr(one, ==, two);
    return 0;
}
