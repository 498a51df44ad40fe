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

/* GLib forgets what it knows of a type when the last value of that type goes: one value of each type stays, so that a call needs not learn it again. */
static void keep_type(const char *type)
{
    g_variant_ref_sink(g_variant_new_from_data(G_VARIANT_TYPE(type), NULL, 0, FALSE, NULL, NULL));
}

const struct rpc_proc *rpc_proc(unsigned number)
{
    static gsize ready;
    if (g_once_init_enter(&ready)) {
        for (unsigned i = 0; i < RPC_NPROCS; i++) {
            if (!procs[i].args)
                continue;
            procs[i].args_type = rpc_gvariant_type(procs[i].args);
            procs[i].ret_type = rpc_gvariant_type(procs[i].ret);
            keep_type(procs[i].args_type);
            keep_type(procs[i].ret_type);
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
