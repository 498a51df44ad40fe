/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One IR_HOST operation for the interpreter: a stub made for it, run once. Slow, and the process's handlers of the three
 * signals are replaced meanwhile, so it must not run beside generated code of other threads.
 */
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "accel/jit/host-x86_64/host_compile.h"

#define STUB_SIZE 4096

static const uint8_t saved[] = { RBX, RBP, R12, R13, R14, R15 };
static const int signals[] = { SIGSEGV, SIGFPE, SIGILL, SIGBUS };

/* Where a fault on this thread goes on, while a stub runs. A signal handler has no other way to know. */
static _Thread_local const uint8_t *stub_begin, *stub_recover;

static void on_fault(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    const uint8_t *pc = (const uint8_t *)uc->uc_mcontext.gregs[REG_RIP];
    if (stub_begin && pc >= stub_begin && pc < stub_begin + STUB_SIZE) {
        uc->uc_mcontext.gregs[REG_RIP] = (greg_t)stub_recover;
        uc->uc_mcontext.gregs[REG_RAX] = sig;
    } else {
        signal(sig, SIG_DFL); /* not ours: happens again and ends the process as usual */
    }
}

static void leave_stub(struct host_emit *e)
{
    host_load(e, 8, RSP, host_m(RSP, OFF(scratch[6])));
    for (unsigned i = G_N_ELEMENTS(saved); i-- > 0;)
        host_pop(e, saved[i]);
    host_u8(e, 0xc3);
}

/* int stub(cpu): GPR operands in temps[0..2], results there; an x87 AX result in temps[3]. */
static bool make_stub(struct hc *c, const struct ir_op *op, void *mem, uint8_t *buf, const uint8_t **ret_recover)
{
    struct host_emit *e = &c->e;
    struct ir_op o = *op;
    *e = (struct host_emit){ .start = buf, .p = buf, .end = buf + STUB_SIZE };
    if (o.host.rm_kind == IR_HO_GPR)
        o.a = ir_t(0);
    if (o.host.v_kind == IR_HO_GPR)
        o.b = ir_t(1);
    if (o.host.reg_kind == IR_HO_GPR)
        o.c = ir_t(2);
    if (o.host.map == IR_MAP_X87 && o.dst.kind != IR_NONE)
        o.dst = ir_t(3);
    for (unsigned i = 0; i < G_N_ELEMENTS(saved); i++)
        host_push(e, saved[i]);
    host_op(e, 4, 0x0fae, 3, host_m(RDI, OFF(host_mxcsr)), 0); /* stmxcsr */
    host_store(e, 8, host_m(RDI, OFF(scratch[6])), RSP);
    host_vec_load(e, RDI);
    host_mov_rr(e, 8, RSP, RDI);
    host_reload_guest(e, 0, true);
    host_mov_ri(e, R14, (uint64_t)(uintptr_t)mem);
    c->fl_host = false;
    hc_flags_restore(c);
    hc_host(c, &o);
    if (op->dst.kind == IR_G && op->dst.n == X86_RCX && o.host.map != IR_MAP_X87)
        host_store(e, 8, host_m(RSP, OFF(s.gpr) + 8 * X86_RCX), RCX);
    c->fl_host = true;
    c->fl_cc = false;
    if (op->fdef)
        hc_flags_save(c);
    host_vec_save(e, RSP);
    host_mov_ri(e, RAX, 0);
    leave_stub(e);
    *ret_recover = e->p;
    host_op(e, 4, 0x0fae, 2, host_m(RSP, OFF(host_mxcsr)), 0); /* ldmxcsr */
    leave_stub(e);
    return !e->overflow;
}

int host_exec_one(struct jit_cpu *cpu, const struct ir_op *op, void *mem, uint64_t args[3])
{
    struct sigaction act, old[G_N_ELEMENTS(signals)];
    g_autofree struct hc *c = g_malloc(sizeof(*c));
    const uint8_t *recover;
    uint8_t *page = mmap(NULL, STUB_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return SIGILL;
    memset(c, 0, offsetof(struct hc, ools));
    for (unsigned i = 0; i < 4; i++)
        c->temp[i] = (uint8_t)i;
    memcpy(cpu->temps, args, 3 * sizeof(args[0]));
    if (!make_stub(c, op, mem, page, &recover) || mprotect(page, STUB_SIZE, PROT_READ | PROT_EXEC) < 0) {
        munmap(page, STUB_SIZE);
        return SIGILL;
    }
    memset(&act, 0, sizeof(act));
    act.sa_sigaction = on_fault;
    act.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++)
        sigaction(signals[i], &act, &old[i]);
    stub_begin = page;
    stub_recover = recover;
    uint16_t cc = cpu->cc;
    int sig = ((int (*)(struct jit_cpu *))(void *)page)(cpu);
    stub_begin = NULL;
    for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++)
        sigaction(signals[i], &old[i], NULL);
    munmap(page, STUB_SIZE);
    if (sig)
        return sig;
    memcpy(args, cpu->temps, 3 * sizeof(args[0]));
    if (op->host.map == IR_MAP_X87 && op->dst.kind != IR_NONE)
        args[0] = cpu->temps[3];
    if (op->fdef) { /* only those that the operation defines */
        uint16_t def = (uint16_t)((op->fdef & 0xd5u) << 8 | (op->fdef & X86_FL_OF ? 1u : 0u));
        cpu->cc = (uint16_t)((cc & ~def) | (cpu->cc & def));
    }
    return 0;
}
