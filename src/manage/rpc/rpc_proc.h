/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The procedures of the remote program (0x20008086), one row each in rpc_procs.inc: number, name, priority, flags, arguments, result.
 * Types are written in letters (RFC 4506 encodings, docs of the wire facts), and each has a GVariant type with which drivers and the library work:
 *
 *   i u x t d b   int, unsigned, hyper, unsigned hyper, double, bool (4 bytes)    i u x t d b
 *   y q           char, short: 4 bytes each on the wire                           y q
 *   s             string                                                          s
 *   U             UUID, 16 bytes without a length                                 ay
 *   O             opaque<>                                                        ay
 *   C             char[32], one 4-byte item a character                           s
 *   mX            optional                                                        mX
 *   aX, a16384X   list, with its limit                                            aX
 *   (XY)          record                                                          (XY)
 *   T             typed parameter                                                 (sv), v one of i u x t d b s
 *   D N P F       domain (sUi); network, pool, nwfilter (sU)                      (sayi) (say)
 *   V S I         volume (sss); secret (Uis); interface (ss)                      (sss) (ayis) (ss)
 *   Z             snapshot or checkpoint (sD)                                     (s(sayi))
 *
 * The arguments of a call are one tuple: "su" is (su). Unknown procedure numbers have no row.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

enum rpc_flag {
    RPC_WRITE = 1,    /* changes something: refused on a read-only connection */
    RPC_QUICK = 2,    /* in memory alone: answered by the thread that reads the sockets */
    RPC_STREAM_READ = 4, RPC_STREAM_WRITE = 8,
    RPC_FDS = 16,     /* descriptors go along */
    RPC_EVENT = 32,   /* a message from the server, never called */
    RPC_FREE = 64,    /* may be called before the connection is open */
};

struct rpc_proc {
    uint16_t number;
    const char *name;      /* "domain_create" */
    uint8_t priority;
    uint8_t flags;
    const char *args, *ret; /* in the letters above */
    const char *args_type, *ret_type; /* GVariant types, "(su)"; filled at first use */
    uint32_t program;       /* RPC_REMOTE_PROGRAM or RPC_QEMU_PROGRAM, and the procedure's number there */
    uint16_t wire;
};

#define RPC_REMOTE_PROGRAM 0x20008086u
#define RPC_QEMU_PROGRAM 0x20008087u
#define RPC_KEEPALIVE_PROGRAM 0x6b656570u

/* RPC_DOMAIN_CREATE = 9, ...: made from rpc_procs.inc. The procedures of the qemu program (rpc_procs_qemu.inc) have their numbers behind: RPC_QEMU_BASE + 1... */
#define RPC_QEMU_BASE 460
#define RPC_PROC(number, name, NAME, priority, flags, args, ret) RPC_##NAME = number,
enum rpc_number {
#include "manage/rpc/rpc_procs.inc"
#include "manage/rpc/rpc_procs_qemu.inc"
    RPC_NPROCS = RPC_QEMU_BASE + 8
};
#undef RPC_PROC

const struct rpc_proc *rpc_proc(unsigned number);          /* NULL: there is none */
const struct rpc_proc *rpc_proc_on_wire(uint32_t program, uint32_t procedure); /* the same, as a message names it */
const struct rpc_proc *rpc_proc_by_name(const char *name);
