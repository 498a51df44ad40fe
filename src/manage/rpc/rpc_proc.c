/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manage/rpc/rpc_proc.h"

#include <string.h>

#include "manage/rpc/rpc_xdr.h"

static struct rpc_proc procs[RPC_NPROCS] = {
#define RPC_PROC(number, name, NAME, priority, flags, args, ret) \
    [number] = { number, #name, priority, flags, args, ret, NULL, NULL, RPC_REMOTE_PROGRAM, number },
#include "manage/rpc/rpc_procs.inc"
#undef RPC_PROC
#define RPC_PROC(number, name, NAME, priority, flags, args, ret) \
    [number] = { number, #name, priority, flags, args, ret, NULL, NULL, RPC_QEMU_PROGRAM, number - RPC_QEMU_BASE },
#include "manage/rpc/rpc_procs_qemu.inc"
#undef RPC_PROC
};

/* The type of these letters, one string for all that have it. GLib forgets what it knows of a type when the last value of that type goes: one value of each stays, so that a
 * call needs not learn it again. */
static const char *type_of(GHashTable *known, const char *letters)
{
    g_autofree char *type = rpc_gvariant_type(letters);
    const char *own = g_hash_table_lookup(known, type);
    if (own)
        return own;
    own = g_intern_string(type);
    g_variant_ref_sink(g_variant_new_from_data(G_VARIANT_TYPE(own), NULL, 0, FALSE, NULL, NULL));
    g_hash_table_insert(known, (gpointer)own, (gpointer)own);
    return own;
}

const struct rpc_proc *rpc_proc(unsigned number)
{
    static gsize ready;
    if (g_once_init_enter(&ready)) {
        g_autoptr(GHashTable) known = g_hash_table_new(g_str_hash, g_str_equal);
        for (unsigned i = 0; i < RPC_NPROCS; i++) {
            if (!procs[i].args)
                continue;
            procs[i].args_type = type_of(known, procs[i].args);
            procs[i].ret_type = type_of(known, procs[i].ret);
        }
        g_once_init_leave(&ready, 1);
    }
    return number < RPC_NPROCS && procs[number].args ? &procs[number] : NULL;
}

const struct rpc_proc *rpc_proc_on_wire(uint32_t program, uint32_t procedure)
{
    if (program == RPC_REMOTE_PROGRAM)
        return procedure < RPC_QEMU_BASE ? rpc_proc(procedure) : NULL;
    return program == RPC_QEMU_PROGRAM && procedure < RPC_NPROCS - RPC_QEMU_BASE ? rpc_proc(RPC_QEMU_BASE + procedure) : NULL;
}

const struct rpc_proc *rpc_proc_by_name(const char *name)
{
    for (unsigned i = 0; i < RPC_NPROCS; i++)
        if (procs[i].args && !strcmp(procs[i].name, name))
            return rpc_proc(i);
    return NULL;
}
