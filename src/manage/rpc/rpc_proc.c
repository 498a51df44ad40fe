/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "manage/rpc/rpc_proc.h"

#include <string.h>

#include "manage/rpc/rpc_xdr.h"

static struct rpc_proc procs[RPC_NPROCS] = {
#define RPC_PROC(number, name, NAME, priority, flags, args, ret) [number] = { number, #name, priority, flags, args, ret, NULL, NULL },
#include "manage/rpc/rpc_procs.inc"
#undef RPC_PROC
};

const struct rpc_proc *rpc_proc(unsigned number)
{
    static gsize ready;
    if (g_once_init_enter(&ready)) {
        for (unsigned i = 0; i < RPC_NPROCS; i++) {
            if (!procs[i].args)
                continue;
            procs[i].args_type = rpc_gvariant_type(procs[i].args);
            procs[i].ret_type = rpc_gvariant_type(procs[i].ret);
        }
        g_once_init_leave(&ready, 1);
    }
    return number < RPC_NPROCS && procs[number].args ? &procs[number] : NULL;
}

const struct rpc_proc *rpc_proc_by_name(const char *name)
{
    for (unsigned i = 0; i < RPC_NPROCS; i++)
        if (procs[i].args && !strcmp(procs[i].name, name))
            return rpc_proc(i);
    return NULL;
}
