/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The canonical state of a vCPU from and to the kernel: one group of registers after the other, each with the call that has it
 * (Documentation/virt/kvm/api.rst). The vCPU is outside KVM_RUN, and nothing is half done (kvm_vcpu.c).
 */
#include "accel/kvm/kvm.h"

#include <errno.h>
#include <string.h>
#include <x86intrin.h>

#include "base/error.h"
#include "cpu/x86/x86_state_text.h"

/* ---- general registers and segments (4.11, 4.13) ---- */

static void regs_out(const struct kvm_regs *r, struct x86_state *s)
{
    const uint64_t gpr[X86_NGPR] = { r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp, r->rsi, r->rdi,
                                     r->r8, r->r9, r->r10, r->r11, r->r12, r->r13, r->r14, r->r15 };
    memcpy(s->gpr, gpr, sizeof(gpr));
    s->rip = r->rip;
    s->rflags = r->rflags;
}

static void regs_in(const struct x86_state *s, struct kvm_regs *r)
{
    const uint64_t *g = s->gpr;
    *r = (struct kvm_regs){ .rax = g[X86_RAX], .rcx = g[X86_RCX], .rdx = g[X86_RDX], .rbx = g[X86_RBX], .rsp = g[X86_RSP], .rbp = g[X86_RBP],
                            .rsi = g[X86_RSI], .rdi = g[X86_RDI], .r8 = g[8], .r9 = g[9], .r10 = g[10], .r11 = g[11], .r12 = g[12],
                            .r13 = g[13], .r14 = g[14], .r15 = g[15], .rip = s->rip, .rflags = s->rflags | X86_FL_1 };
}

static struct x86_segment segment_out(const struct kvm_segment *k)
{
    uint32_t attr = k->type & X86_ATTR_TYPE;
    attr |= (k->s ? X86_ATTR_S : 0) | (k->dpl & 3u) << 5 | (k->present ? X86_ATTR_P : 0) | (k->avl ? X86_ATTR_AVL : 0);
    attr |= (k->l ? X86_ATTR_L : 0) | (k->db ? X86_ATTR_DB : 0) | (k->g ? X86_ATTR_G : 0) | (k->unusable ? X86_ATTR_UNUSABLE : 0);
    return (struct x86_segment){ .base = k->base, .limit = k->limit, .attr = attr, .sel = k->selector };
}

static struct kvm_segment segment_in(const struct x86_segment *s)
{
    uint32_t a = s->attr;
    return (struct kvm_segment){ .base = s->base, .limit = s->limit, .selector = s->sel, .type = a & X86_ATTR_TYPE, .present = !!(a & X86_ATTR_P),
                                 .dpl = X86_ATTR_DPL(a), .db = !!(a & X86_ATTR_DB), .s = !!(a & X86_ATTR_S), .l = !!(a & X86_ATTR_L),
                                 .g = !!(a & X86_ATTR_G), .avl = !!(a & X86_ATTR_AVL), .unusable = !!(a & X86_ATTR_UNUSABLE) };
}

static void sregs_out(const struct kvm_sregs *k, struct x86_state *s)
{
    const struct kvm_segment *seg[X86_NSEG] = { &k->es, &k->cs, &k->ss, &k->ds, &k->fs, &k->gs };
    for (unsigned i = 0; i < X86_NSEG; i++)
        s->seg[i] = segment_out(seg[i]);
    s->ldt = segment_out(&k->ldt);
    s->tr = segment_out(&k->tr);
    s->gdt = (struct x86_dtable){ .base = k->gdt.base, .limit = k->gdt.limit };
    s->idt = (struct x86_dtable){ .base = k->idt.base, .limit = k->idt.limit };
    s->cr0 = k->cr0;
    s->cr2 = k->cr2;
    s->cr3 = k->cr3;
    s->cr4 = k->cr4;
    s->cr8 = k->cr8;
    s->efer = k->efer;
    s->apic_base = k->apic_base;
}

static void sregs_in(const struct x86_state *s, struct kvm_sregs *k)
{
    struct kvm_segment *seg[X86_NSEG] = { &k->es, &k->cs, &k->ss, &k->ds, &k->fs, &k->gs };
    memset(k, 0, sizeof(*k));
    for (unsigned i = 0; i < X86_NSEG; i++)
        *seg[i] = segment_in(&s->seg[i]);
    k->ldt = segment_in(&s->ldt);
    k->tr = segment_in(&s->tr);
    k->gdt = (struct kvm_dtable){ .base = s->gdt.base, .limit = s->gdt.limit };
    k->idt = (struct kvm_dtable){ .base = s->idt.base, .limit = s->idt.limit };
    k->cr0 = s->cr0;
    k->cr2 = s->cr2;
    k->cr3 = s->cr3;
    k->cr4 = s->cr4;
    k->cr8 = s->cr8;
    k->efer = s->efer;
    k->apic_base = s->apic_base;
}

/* ---- x87, SSE, AVX and what follows (4.42 KVM_GET_XSAVE, 4.134 KVM_GET_XSAVE2; always the standard form) ---- */

enum { AT_XSTATE_BV = 512, AT_XCOMP_BV = 520, LEGACY = 3 };

static bool xsave_get(struct kvm_vcpu *v, struct x86_state *s)
{
    const struct kvm_caps *c = &v->machine->caps;
    G_STATIC_ASSERT(sizeof(struct kvm_xsave) <= X86_XSAVE_SIZE);
    memset(s->xsave, 0, sizeof(s->xsave));
    if (c->xsave_size > sizeof(s->xsave))
        return false;
    if (kvm_ioctl(v->fd, c->xsave2 ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, s->xsave) < 0)
        return false;
    uint64_t bv; /* on a host that has PKRU the kernel shows it for a guest without, too */
    memcpy(&bv, s->xsave + AT_XSTATE_BV, 8);
    bv &= v->machine->xcr0_mask | LEGACY;
    memcpy(s->xsave + AT_XSTATE_BV, &bv, 8);
    return true;
}

static bool xsave_set(struct kvm_vcpu *v, const struct x86_state *s, GError **error)
{
    _Alignas(64) uint8_t image[X86_XSAVE_SIZE];
    uint64_t bv, none = 0;
    memcpy(image, s->xsave, sizeof(image));
    memcpy(&bv, image + AT_XSTATE_BV, 8);
    if (bv & ~(v->machine->xcr0_mask | LEGACY))
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "the guest uses vector registers (state components %#llx) that this vCPU does not have: use the same -cpu",
                          (unsigned long long)(bv & ~v->machine->xcr0_mask));
    memcpy(image + AT_XCOMP_BV, &none, 8);
    if (kvm_ioctl(v->fd, KVM_SET_XSAVE, image) < 0)
        return vireo_fail_errno(error, errno, "cannot set the floating-point and vector registers");
    return true;
}

static bool xcrs_set(struct kvm_vcpu *v, const struct x86_state *s, GError **error)
{
    struct kvm_xcrs x = { .nr_xcrs = 1, .xcrs = { { .xcr = 0, .value = s->xcr0 } } };
    if (!x86_model_has(v->machine->model, X86_FEAT_XSAVE))
        return true;
    if (kvm_ioctl(v->fd, KVM_SET_XCRS, &x) < 0)
        return vireo_fail_errno(error, errno, "cannot set XCR0 to %#llx: this vCPU has %#llx", (unsigned long long)s->xcr0,
                                (unsigned long long)v->machine->xcr0_mask);
    return true;
}

static void xcrs_get(struct kvm_vcpu *v, struct x86_state *s)
{
    struct kvm_xcrs x = { 0 };
    s->xcr0 = 1;
    if (kvm_ioctl(v->fd, KVM_GET_XCRS, &x) == 0)
        for (unsigned i = 0; i < MIN(x.nr_xcrs, (unsigned)KVM_MAX_XCRS); i++)
            if (x.xcrs[i].xcr == 0)
                s->xcr0 = x.xcrs[i].value;
}

/* ---- events (4.31 KVM_GET_VCPU_EVENTS) ---- */

static void events_out(const struct kvm_vcpu_events *e, struct x86_state *s)
{
    s->exception_pending = e->exception.injected || e->exception.pending;
    s->exception_vector = s->exception_pending ? e->exception.nr : 0;
    s->exception_has_error = s->exception_pending && e->exception.has_error_code;
    s->exception_error = s->exception_has_error ? e->exception.error_code : 0;
    s->interrupt_injected = e->interrupt.injected;
    s->interrupt_vector = e->interrupt.injected ? e->interrupt.nr : 0;
    s->interrupt_soft = e->interrupt.injected && e->interrupt.soft;
    s->interrupt_shadow = !!e->interrupt.shadow;
    s->nmi_injected = e->nmi.injected;
    s->nmi_pending = !!e->nmi.pending;
    s->nmi_blocked = e->nmi.masked;
    s->sipi_vector = (uint8_t)e->sipi_vector;
    s->smm = (e->flags & KVM_VCPUEVENT_VALID_SMM) && e->smi.smm;
    s->smi_pending = (e->flags & KVM_VCPUEVENT_VALID_SMM) && e->smi.pending;
    s->triple_fault_pending = (e->flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT) && e->triple_fault.pending;
}

static bool events_set(struct kvm_vcpu *v, const struct x86_state *s, GError **error)
{
    const struct kvm_caps *c = &v->machine->caps;
    struct kvm_vcpu_events e = {
        .exception = { .injected = s->exception_pending, .nr = s->exception_vector, .has_error_code = s->exception_has_error,
                       .error_code = s->exception_error },
        .interrupt = { .injected = s->interrupt_injected, .nr = s->interrupt_vector, .soft = s->interrupt_soft,
                       .shadow = s->interrupt_shadow ? KVM_X86_SHADOW_INT_STI : 0 },
        .nmi = { .injected = s->nmi_injected, .pending = s->nmi_pending, .masked = s->nmi_blocked },
        .sipi_vector = s->sipi_vector,
        .flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR | KVM_VCPUEVENT_VALID_SHADOW,
    };
    if (c->smm) {
        e.flags |= KVM_VCPUEVENT_VALID_SMM;
        e.smi.smm = s->smm;
        e.smi.pending = s->smi_pending;
    } else if (s->smm || s->smi_pending) {
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "the guest is in system management mode, which this kernel's KVM does not have");
    }
    if (c->triple_fault) {
        e.flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
        e.triple_fault.pending = s->triple_fault_pending;
    }
    if (kvm_ioctl(v->fd, KVM_SET_VCPU_EVENTS, &e) < 0)
        return vireo_fail_errno(error, errno, "cannot set the pending events");
    return true;
}

/* ---- activity (4.38 KVM_GET_MP_STATE): the kernel's where the local APIC is inside, else ours ---- */

static uint32_t activity_get(struct kvm_vcpu *v)
{
    struct kvm_mp_state mp = { 0 };
    if (v->machine->irqchip == ACCEL_IRQCHIP_OFF || kvm_ioctl(v->fd, KVM_GET_MP_STATE, &mp) < 0)
        return v->activity;
    switch (mp.mp_state) {
    case KVM_MP_STATE_HALTED:
        return X86_HALTED;
    case KVM_MP_STATE_UNINITIALIZED:
    case KVM_MP_STATE_INIT_RECEIVED:
        return X86_WAIT_SIPI;
    case KVM_MP_STATE_SIPI_RECEIVED:
        return X86_SIPI_RECEIVED;
    default:
        return X86_RUNNING;
    }
}

static bool activity_set(struct kvm_vcpu *v, uint32_t activity, GError **error)
{
    static const uint32_t states[] = { [X86_RUNNING] = KVM_MP_STATE_RUNNABLE, [X86_HALTED] = KVM_MP_STATE_HALTED,
                                       [X86_WAIT_SIPI] = KVM_MP_STATE_INIT_RECEIVED, [X86_INIT_RECEIVED] = KVM_MP_STATE_INIT_RECEIVED,
                                       [X86_SIPI_RECEIVED] = KVM_MP_STATE_SIPI_RECEIVED };
    v->activity = activity;
    if (v->machine->irqchip == ACCEL_IRQCHIP_OFF)
        return true;
    struct kvm_mp_state mp = { .mp_state = activity < G_N_ELEMENTS(states) ? states[activity] : KVM_MP_STATE_RUNNABLE };
    if (kvm_ioctl(v->fd, KVM_SET_MP_STATE, &mp) < 0)
        return vireo_fail_errno(error, errno, "cannot set the vCPU's activity");
    return true;
}

/* ---- what the guest runs as a hypervisor itself (4.114 KVM_GET_NESTED_STATE) ---- */

static bool nested_is_nothing(const struct kvm_nested_state *n)
{
    if (n->flags & (KVM_STATE_NESTED_GUEST_MODE | KVM_STATE_NESTED_RUN_PENDING))
        return false;
    if (n->format == KVM_STATE_NESTED_FORMAT_VMX)
        return n->hdr.vmx.vmxon_pa == ~0ull;
    return n->flags & KVM_STATE_NESTED_GIF_SET;
}

static void nested_get(struct kvm_vcpu *v, struct x86_state *s)
{
    struct kvm_nested_state *n = (struct kvm_nested_state *)s->nested;
    s->nested_size = 0;
    memset(s->nested, 0, sizeof(s->nested));
    if (!v->machine->caps.nested)
        return;
    n->size = v->machine->caps.nested_size;
    if (kvm_ioctl(v->fd, KVM_GET_NESTED_STATE, n) == 0 && !nested_is_nothing(n))
        s->nested_size = n->size;
    else
        memset(s->nested, 0, sizeof(s->nested));
}

static bool nested_set(struct kvm_vcpu *v, const struct x86_state *s, GError **error)
{
    const struct kvm_nested_state *n = (const struct kvm_nested_state *)s->nested;
    if (!v->machine->caps.nested) {
        if (s->nested_size)
            return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "the guest runs guests of its own, which needs -cpu ...,+svm or +vmx and a kernel with KVM_CAP_NESTED_STATE");
        return true;
    }
    struct kvm_nested_state none = { .size = sizeof(none) };
    if (!s->nested_size) {
        bool vmx = x86_model_has(v->machine->model, X86_FEAT_VMX);
        none.format = vmx ? KVM_STATE_NESTED_FORMAT_VMX : KVM_STATE_NESTED_FORMAT_SVM;
        if (vmx)
            none.hdr.vmx.vmxon_pa = none.hdr.vmx.vmcs12_pa = ~0ull;
        else
            none.flags = KVM_STATE_NESTED_GIF_SET;
        n = &none;
    } else if (s->nested_size > sizeof(s->nested) || s->nested_size < sizeof(none) || n->size > s->nested_size) {
        return vireo_fail(error, VIREO_ERROR_INVALID, "the state of the guest's own guests is cut short");
    }
    if (kvm_ioctl(v->fd, KVM_SET_NESTED_STATE, n) < 0 && s->nested_size)
        return vireo_fail_errno(error, errno, "cannot set the state of the guest's own guests");
    return true;
}

/* ---- the time stamp counter ---- */

static struct kvm_device_attr tsc_attr(uint64_t *value)
{
    return (struct kvm_device_attr){ .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)value };
}

#define IA32_TSC 0x10

static void tsc_get(struct kvm_vcpu *v, struct x86_state *s)
{
    uint64_t tsc;
    struct kvm_device_attr attr = tsc_attr(&s->tsc_offset);
    if (kvm_ioctl(v->fd, KVM_GET_DEVICE_ATTR, &attr) == 0)
        return;
    if (kvm_msr_read_one(v, IA32_TSC, &tsc))
        s->tsc_offset = tsc - __rdtsc();
}

/* Older kernels take a value for now instead of an offset, and one close to what another vCPU was given as the same offset. */
static bool tsc_set(struct kvm_vcpu *v, const struct x86_state *s, GError **error)
{
    uint64_t offset = s->tsc_offset;
    struct kvm_device_attr attr = tsc_attr(&offset);
    if (kvm_ioctl(v->fd, KVM_SET_DEVICE_ATTR, &attr) == 0 || kvm_msr_write_one(v, IA32_TSC, __rdtsc() + offset))
        return true;
    return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "cannot set the guest's time stamp counter");
}

/* ---- all of it ---- */

/* seccomp(main, vcpu-kvm): ioctl(KVM_GET_REGS KVM_GET_SREGS KVM_GET_DEBUGREGS KVM_GET_VCPU_EVENTS KVM_GET_MP_STATE)
 * seccomp(main, vcpu-kvm): ioctl(KVM_GET_XSAVE KVM_GET_XSAVE2 KVM_GET_XCRS KVM_GET_NESTED_STATE KVM_GET_DEVICE_ATTR) */
void kvm_get_state(struct accel_vcpu *av, struct x86_state *s)
{
    struct kvm_vcpu *v = kvm_vcpu_of(av);
    struct kvm_machine *m = v->machine;
    struct kvm_vcpu_events events = { 0 };
    struct kvm_regs regs = { 0 };
    struct kvm_sregs sregs = { 0 };
    struct kvm_debugregs dbg = { 0 };
    memset(s, 0, offsetof(struct x86_state, xsave));
    s->nmsrs = 0;
    /* Events first: reading them moves an exception's CR2 or DR6 into place. */
    (void)kvm_ioctl(v->fd, KVM_GET_VCPU_EVENTS, &events);
    events_out(&events, s);
    s->activity = activity_get(v);
    (void)kvm_ioctl(v->fd, KVM_GET_REGS, &regs);
    regs_out(&regs, s);
    (void)kvm_ioctl(v->fd, KVM_GET_SREGS, &sregs);
    sregs_out(&sregs, s);
    if (m->irqchip == ACCEL_IRQCHIP_OFF)
        s->cr8 = m->bus.get_tpr(m->opaque, v->index);
    (void)kvm_ioctl(v->fd, KVM_GET_DEBUGREGS, &dbg);
    memcpy(s->dr, dbg.db, sizeof(s->dr));
    s->dr6 = dbg.dr6;
    s->dr7 = dbg.dr7;
    xcrs_get(v, s);
    (void)xsave_get(v, s);
    (void)kvm_msr_get(v, s);
    tsc_get(v, s);
    nested_get(v, s);
    if (atomic_load(&v->pending) & KVM_PEND_NMI)
        s->nmi_pending = 1;
    if (atomic_load(&v->pending) & KVM_PEND_SMI)
        s->smi_pending = 1;
}

static bool registers_set(struct kvm_vcpu *v, const struct x86_state *s, GError **error)
{
    struct kvm_sregs sregs;
    struct kvm_regs regs;
    struct kvm_debugregs dbg = { .dr6 = s->dr6, .dr7 = s->dr7 };
    memcpy(dbg.db, s->dr, sizeof(dbg.db));
    sregs_in(s, &sregs);
    regs_in(s, &regs);
    if (kvm_ioctl(v->fd, KVM_SET_SREGS, &sregs) < 0)
        return vireo_fail_errno(error, errno, "KVM refuses the control registers: CR0 %#llx, CR3 %#llx, CR4 %#llx, EFER %#llx, APIC base %#llx",
                                (unsigned long long)s->cr0, (unsigned long long)s->cr3, (unsigned long long)s->cr4,
                                (unsigned long long)s->efer, (unsigned long long)s->apic_base);
    if (!nested_set(v, s, error))
        return false;
    if (kvm_ioctl(v->fd, KVM_SET_REGS, &regs) < 0)
        return vireo_fail_errno(error, errno, "KVM refuses the general registers");
    if (kvm_ioctl(v->fd, KVM_SET_DEBUGREGS, &dbg) < 0)
        return vireo_fail_errno(error, errno, "KVM refuses the debug registers: DR6 %#llx, DR7 %#llx", (unsigned long long)s->dr6, (unsigned long long)s->dr7);
    return true;
}

/* seccomp(main, vcpu-kvm): ioctl(KVM_SET_REGS KVM_SET_SREGS KVM_SET_DEBUGREGS KVM_SET_VCPU_EVENTS KVM_SET_MP_STATE)
 * seccomp(main, vcpu-kvm): ioctl(KVM_SET_XSAVE KVM_SET_XCRS KVM_SET_NESTED_STATE KVM_SET_DEVICE_ATTR) */
bool kvm_set_state(struct accel_vcpu *av, const struct x86_state *s, GError **error)
{
    struct kvm_vcpu *v = kvm_vcpu_of(av);
    atomic_fetch_and(&v->pending, ~(uint32_t)(KVM_PEND_NMI | KVM_PEND_SMI));
    if (!registers_set(v, s, error) || !xcrs_set(v, s, error) || !xsave_set(v, s, error) || !kvm_msr_set(v, s, error) || !tsc_set(v, s, error) ||
        !activity_set(v, s->activity, error) || !events_set(v, s, error))
        return false;
    /* The kernel tells these when it leaves the guest; until then they are those of the old state. */
    v->run->ready_for_interrupt_injection = 0;
    v->run->if_flag = !!(s->rflags & X86_FL_IF);
    v->run->cr8 = s->cr8;
    v->run->apic_base = v->apic_base = s->apic_base;
    v->tpr = s->cr8 & 15;
    return true;
}

char *kvm_describe_registers(struct kvm_vcpu *v)
{
    struct x86_state s;
    memset(&s, 0, sizeof(s));
    kvm_get_state((struct accel_vcpu *)v, &s);
    return g_strdelimit(x86_state_text(&s), "\n", ' '); /* a message is one line */
}
