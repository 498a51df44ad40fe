/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Interrupt controllers inside the kernel: all of them (4.24 KVM_CREATE_IRQCHIP, 4.71 KVM_CREATE_PIT2), or the local APICs alone
 * (7.5 KVM_CAP_SPLIT_IRQCHIP); their state in canonical form.
 */
#include "accel/kvm/kvm.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "cpu/x86/x86_irqchip.h"

#include "base/error.h"

#define IA32_APIC_BASE_X2 0x400u
#define IA32_TSC_DEADLINE 0x6e0
#define IOAPIC_ADDRESS 0xfec00000u

static bool create_full(struct kvm_machine *m, GError **error)
{
    /* The kernel answers port 61h too: its bit 4 and 5 are counters of the 8254. */
    struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
    if (!kvm_check(m->vm, KVM_CAP_IRQCHIP) || !m->caps.pit2)
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "-accel kvm: this kernel's KVM has no interrupt controllers of its own; use kernel-irqchip=off");
    if (kvm_ioctl(m->vm, KVM_CREATE_IRQCHIP, NULL) < 0)
        return vireo_fail_errno(error, errno, "-accel kvm: cannot create interrupt controllers in the kernel (kernel-irqchip=off does without)");
    if (kvm_ioctl(m->vm, KVM_CREATE_PIT2, &pit) < 0)
        return vireo_fail_errno(error, errno, "-accel kvm: cannot create the 8254 timer in the kernel (kernel-irqchip=split does without)");
    return true;
}

bool kvm_irqchip_create(struct kvm_machine *m, enum accel_irqchip wanted, GError **error)
{
    if (wanted == ACCEL_IRQCHIP_ON) {
        if (!create_full(m, error))
            return false;
    } else if (wanted == ACCEL_IRQCHIP_SPLIT) {
        if (!m->caps.split || !kvm_enable(m->vm, KVM_CAP_SPLIT_IRQCHIP, KVM_IOAPIC_GSIS))
            return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "-accel kvm: this kernel's KVM has no kernel-irqchip=split (Linux 4.4); use on or off");
    }
    m->irqchip = wanted;
    /* 32-bit APIC ids in x2APIC mode, and no broadcast by 0xff there (7.6). */
    if (wanted != ACCEL_IRQCHIP_OFF && m->caps.x2apic_api)
        m->caps.x2apic_api = kvm_enable(m->vm, KVM_CAP_X2APIC_API, KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK);
    return true;
}

enum accel_irqchip kvm_irqchip_of(struct accel *a)
{
    return kvm_machine_of(a)->irqchip;
}

/* 4.25 KVM_IRQ_LINE. */
/* seccomp(device): ioctl(KVM_IRQ_LINE KVM_SIGNAL_MSI) */
void kvm_gsi_set(struct accel *a, unsigned gsi, bool level)
{
    struct kvm_machine *m = kvm_machine_of(a);
    struct kvm_irq_level l = { .irq = gsi, .level = level };
    uint32_t bit = 1u << (gsi & 31);
    if (m->irqchip != ACCEL_IRQCHIP_ON || gsi >= KVM_IOAPIC_GSIS)
        return;
    /* Lowering a line that is low, as each device does at a reset, is no call. */
    uint32_t before = level ? atomic_fetch_or(&m->lines, bit) : atomic_fetch_and(&m->lines, ~bit);
    if (level || (before & bit))
        (void)kvm_ioctl(m->vm, KVM_IRQ_LINE, &l);
}

/* 4.70 KVM_SIGNAL_MSI. */
void kvm_msi_send(struct accel *a, uint64_t address, uint32_t data)
{
    struct kvm_machine *m = kvm_machine_of(a);
    struct kvm_msi msi = { .address_lo = (uint32_t)address, .address_hi = (uint32_t)(address >> 32), .data = data };
    if (m->irqchip != ACCEL_IRQCHIP_OFF)
        (void)kvm_ioctl(m->vm, KVM_SIGNAL_MSI, &msi);
}

/* ---- 8259, I/O APIC (4.26 KVM_GET_IRQCHIP) ---- */

static void pic_out(const struct kvm_pic_state *k, struct x86_pic *p)
{
    *p = (struct x86_pic){ .last_irr = k->last_irr, .irr = k->irr, .imr = k->imr, .isr = k->isr, .priority_add = k->priority_add,
                           .irq_base = k->irq_base, .read_isr = k->read_reg_select, .poll = k->poll, .special_mask = k->special_mask,
                           .init_state = k->init_state, .auto_eoi = k->auto_eoi, .rotate_on_auto_eoi = k->rotate_on_auto_eoi,
                           .special_fully_nested = k->special_fully_nested_mode, .init4 = k->init4, .elcr = k->elcr, .elcr_mask = k->elcr_mask };
}

static void pic_in(const struct x86_pic *p, struct kvm_pic_state *k)
{
    *k = (struct kvm_pic_state){ .last_irr = p->last_irr, .irr = p->irr, .imr = p->imr, .isr = p->isr, .priority_add = p->priority_add,
                                 .irq_base = p->irq_base, .read_reg_select = p->read_isr, .poll = p->poll, .special_mask = p->special_mask,
                                 .init_state = p->init_state, .auto_eoi = p->auto_eoi, .rotate_on_auto_eoi = p->rotate_on_auto_eoi,
                                 .special_fully_nested_mode = p->special_fully_nested, .init4 = p->init4, .elcr = p->elcr, .elcr_mask = p->elcr_mask };
}

/* The kernel keeps requests, not lines: for a level-triggered input that is the same. */
static void ioapic_out(const struct kvm_ioapic_state *k, struct x86_ioapic *i)
{
    i->id = k->id;
    i->select = k->ioregsel;
    i->level = k->irr;
    for (unsigned n = 0; n < X86_IOAPIC_PINS; n++)
        i->redirection[n] = k->redirtbl[n].bits;
}

/* Setting a request delivers it: not for an edge-triggered input, whose edge was seen when it came. */
static void ioapic_in(const struct x86_ioapic *i, struct kvm_ioapic_state *k)
{
    *k = (struct kvm_ioapic_state){ .base_address = IOAPIC_ADDRESS, .ioregsel = i->select, .id = i->id, .irr = i->level };
    for (unsigned n = 0; n < X86_IOAPIC_PINS; n++) {
        k->redirtbl[n].bits = i->redirection[n];
        if (!(i->redirection[n] & 1u << 15))
            k->irr &= ~(1u << n);
    }
}

/* ---- 8254 (4.97 KVM_GET_PIT2); times are of the host's monotonic clock ---- */

static int64_t monotonic_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void pit_out(const struct kvm_pit_state2 *k, struct x86_irqchip *c)
{
    int64_t now = monotonic_ns();
    for (unsigned i = 0; i < 3; i++) {
        const struct kvm_pit_channel_state *s = &k->channels[i];
        c->pit[i] = (struct x86_pit_channel){ .count = s->count, .latched_count = s->latched_count, .count_latched = s->count_latched,
                                              .status_latched = s->status_latched, .status = s->status, .read_state = s->read_state,
                                              .write_state = s->write_state, .write_latch = s->write_latch, .rw_mode = s->rw_mode, .mode = s->mode,
                                              .bcd = s->bcd, .gate = s->gate,
                                              .age_ns = s->count_load_time && now > s->count_load_time ? (uint64_t)(now - s->count_load_time) : 0 };
    }
    c->pit_speaker = (k->channels[2].gate ? 1 : 0) | (k->flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON ? 2 : 0);
    c->pit_irq_off = !!(k->flags & KVM_PIT_FLAGS_HPET_LEGACY);
}

static void pit_in(const struct x86_irqchip *c, struct kvm_pit_state2 *k)
{
    int64_t now = monotonic_ns();
    memset(k, 0, sizeof(*k));
    for (unsigned i = 0; i < 3; i++) {
        const struct x86_pit_channel *p = &c->pit[i];
        k->channels[i] = (struct kvm_pit_channel_state){ .count = p->count, .latched_count = p->latched_count, .count_latched = p->count_latched,
                                                         .status_latched = p->status_latched, .status = p->status, .read_state = p->read_state,
                                                         .write_state = p->write_state, .write_latch = p->write_latch, .rw_mode = p->rw_mode,
                                                         .mode = p->mode, .bcd = p->bcd, .gate = p->gate, .count_load_time = now - (int64_t)p->age_ns };
    }
    k->flags = (c->pit_irq_off ? KVM_PIT_FLAGS_HPET_LEGACY : 0) | (c->pit_speaker & 2 ? KVM_PIT_FLAGS_SPEAKER_DATA_ON : 0);
}

/* seccomp(main): ioctl(KVM_GET_IRQCHIP KVM_SET_IRQCHIP KVM_GET_PIT2 KVM_SET_PIT2) */
void kvm_irqchip_get(struct accel *a, struct x86_irqchip *ret)
{
    struct kvm_machine *m = kvm_machine_of(a);
    memset(ret, 0, sizeof(*ret));
    if (m->irqchip != ACCEL_IRQCHIP_ON)
        return;
    for (uint32_t id = KVM_IRQCHIP_PIC_MASTER; id <= KVM_IRQCHIP_IOAPIC; id++) {
        struct kvm_irqchip chip = { .chip_id = id };
        if (kvm_ioctl(m->vm, KVM_GET_IRQCHIP, &chip) < 0)
            continue;
        if (id == KVM_IRQCHIP_IOAPIC)
            ioapic_out(&chip.chip.ioapic, &ret->ioapic);
        else
            pic_out(&chip.chip.pic, &ret->pic[id]);
    }
    struct kvm_pit_state2 pit = { 0 };
    if (kvm_ioctl(m->vm, KVM_GET_PIT2, &pit) == 0)
        pit_out(&pit, ret);
}

bool kvm_irqchip_set(struct accel *a, const struct x86_irqchip *c, GError **error)
{
    struct kvm_machine *m = kvm_machine_of(a);
    struct kvm_pit_state2 pit;
    if (m->irqchip != ACCEL_IRQCHIP_ON)
        return true;
    for (uint32_t id = KVM_IRQCHIP_PIC_MASTER; id <= KVM_IRQCHIP_IOAPIC; id++) {
        struct kvm_irqchip chip = { .chip_id = id };
        if (id == KVM_IRQCHIP_IOAPIC)
            ioapic_in(&c->ioapic, &chip.chip.ioapic);
        else
            pic_in(&c->pic[id], &chip.chip.pic);
        if (id == KVM_IRQCHIP_PIC_MASTER)
            chip.chip.pic.last_irr &= (uint8_t)~1u; /* the kernel's 8254 sends pulses: its line rests low, where the device's rests high */
        if (kvm_ioctl(m->vm, KVM_SET_IRQCHIP, &chip) < 0)
            return vireo_fail_errno(error, errno, "-accel kvm: cannot set the state of an interrupt controller");
    }
    /* Lines that the controllers have seen high: lowering them is news to the kernel. */
    atomic_store(&m->lines, ((c->pic[0].last_irr & ~1u) | (uint32_t)c->pic[1].last_irr << 8 | c->ioapic.level) & 0xffffffu);
    pit_in(c, &pit);
    if (kvm_ioctl(m->vm, KVM_SET_PIT2, &pit) < 0)
        return vireo_fail_errno(error, errno, "-accel kvm: cannot set the state of the 8254 timer");
    return true;
}

/* The kernel's flag for "the HPET has taken line 0 over". */
/* seccomp(vcpu-kvm): ioctl(KVM_GET_PIT2 KVM_SET_PIT2) */
void kvm_pit_output(struct accel *a, bool connected)
{
    struct kvm_machine *m = kvm_machine_of(a);
    struct kvm_pit_state2 pit = { 0 };
    if (m->irqchip != ACCEL_IRQCHIP_ON || kvm_ioctl(m->vm, KVM_GET_PIT2, &pit) < 0)
        return;
    uint32_t flags = connected ? pit.flags & ~(uint32_t)KVM_PIT_FLAGS_HPET_LEGACY : pit.flags | KVM_PIT_FLAGS_HPET_LEGACY;
    if (flags == pit.flags)
        return;
    pit.flags = flags;
    (void)kvm_ioctl(m->vm, KVM_SET_PIT2, &pit);
}

/* ---- one local APIC (4.57 KVM_GET_LAPIC) ---- */

/* seccomp(main, vcpu-kvm): ioctl(KVM_GET_LAPIC KVM_SET_LAPIC) */
/* A one-shot timer that expired when its vCPU was outside already is in no register: the kernel raises the interrupt at the next
 * entry. From the registers alone that cannot be told from one whose interrupt the guest has had; so both expire once more, at
 * once: an interrupt too many does no harm where one too few leaves a guest asleep. (Of a TSC deadline the kernel keeps the
 * value until the interrupt is raised.) SDM vol. 3, 10.5.4 and figure 10-8. */
static void keep_expired_timer(struct x86_lapic *l)
{
    enum { ISR = 0x10, IRR = 0x20, LVT_TIMER = 0x32, INITIAL = 0x38, CURRENT = 0x39 };
    uint32_t lvt = l->regs[LVT_TIMER], vector = lvt & 0xff, bit = 1u << (vector % 32);
    bool armed = !(lvt & 0x70000) && l->regs[INITIAL] && !l->regs[CURRENT]; /* one-shot, not masked, at its end */
    if ((lvt & 0x60000) == 0x20000 && l->regs[INITIAL] && !l->regs[CURRENT])
        l->regs[CURRENT] = 1; /* periodic, seen between its end and the next beginning: it goes on */
    if (armed && !((l->regs[ISR + vector / 32] | l->regs[IRR + vector / 32]) & bit))
        l->regs[CURRENT] = 1;
}

void kvm_lapic_get(struct accel_vcpu *av, struct x86_lapic *ret)
{
    struct kvm_vcpu *v = kvm_vcpu_of(av);
    struct kvm_lapic_state k = { 0 };
    struct kvm_sregs sregs = { 0 };
    memset(ret, 0, sizeof(*ret));
    (void)kvm_ioctl(v->fd, KVM_GET_SREGS, &sregs);
    ret->base = sregs.apic_base;
    if (kvm_ioctl(v->fd, KVM_GET_LAPIC, &k) == 0)
        for (unsigned i = 0; i < G_N_ELEMENTS(ret->regs); i++)
            memcpy(&ret->regs[i], k.regs + 16 * i, 4);
    keep_expired_timer(ret);
    (void)kvm_msr_read_one(v, IA32_TSC_DEADLINE, &ret->tsc_deadline);
    /* Without the 32-bit format the kernel shows the id where xAPIC mode has it. */
    if ((ret->base & IA32_APIC_BASE_X2) && !v->machine->caps.x2apic_api)
        ret->regs[2] >>= 24;
}

/* The base register comes first, since it says in which format the id is; the deadline last, since it arms the timer. */
bool kvm_lapic_set(struct accel_vcpu *av, const struct x86_lapic *l, GError **error)
{
    struct kvm_vcpu *v = kvm_vcpu_of(av);
    struct kvm_lapic_state k = { 0 };
    struct kvm_sregs sregs = { 0 };
    if (kvm_ioctl(v->fd, KVM_GET_SREGS, &sregs) < 0)
        return vireo_fail_errno(error, errno, "-accel kvm: cannot read the control registers of vCPU %u", v->index);
    if (sregs.apic_base != l->base) {
        sregs.apic_base = l->base;
        if (kvm_ioctl(v->fd, KVM_SET_SREGS, &sregs) < 0)
            return vireo_fail_errno(error, errno, "-accel kvm: cannot set IA32_APIC_BASE of vCPU %u to %#llx", v->index, (unsigned long long)l->base);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(l->regs); i++)
        memcpy(k.regs + 16 * i, &l->regs[i], 4);
    if ((l->base & IA32_APIC_BASE_X2) && !v->machine->caps.x2apic_api) {
        uint32_t id = l->regs[2] << 24;
        memcpy(k.regs + 16 * 2, &id, 4);
    }
    if (kvm_ioctl(v->fd, KVM_SET_LAPIC, &k) < 0)
        return vireo_fail_errno(error, errno, "-accel kvm: cannot set the local APIC of vCPU %u", v->index);
    if (x86_model_has(v->machine->model, X86_FEAT_TSC_DEADLINE) && !kvm_msr_write_one(v, IA32_TSC_DEADLINE, l->tsc_deadline) && l->tsc_deadline)
        return vireo_fail(error, VIREO_ERROR_FAILED, "-accel kvm: cannot arm the local APIC timer of vCPU %u", v->index);
    return true;
}
