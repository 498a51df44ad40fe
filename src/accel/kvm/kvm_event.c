/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ways between devices and guest that do not pass through the run loop: interrupt routes (4.52 KVM_SET_GSI_ROUTING), eventfds that
 * raise them (4.75 KVM_IRQFD) or are signalled by guest writes (4.59 KVM_IOEVENTFD), and the ring of coalesced writes (4.116).
 */
#include "accel/kvm/kvm.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/error.h"

/* ---- routes ---- */

static struct kvm_irq_routing_entry *entry_locked(struct kvm_machine *m)
{
    if (m->routing->nr == m->routing_room) {
        m->routing_room = MAX(64u, m->routing_room * 2);
        m->routing = g_realloc(m->routing, sizeof(*m->routing) + m->routing_room * sizeof(struct kvm_irq_routing_entry));
    }
    struct kvm_irq_routing_entry *e = &m->routing->entries[m->routing->nr++];
    memset(e, 0, sizeof(*e));
    return e;
}

static void pin_locked(struct kvm_machine *m, unsigned gsi, unsigned chip, unsigned pin)
{
    struct kvm_irq_routing_entry *e = entry_locked(m);
    e->gsi = gsi;
    e->type = KVM_IRQ_ROUTING_IRQCHIP;
    e->u.irqchip.irqchip = chip;
    e->u.irqchip.pin = pin;
}

static bool commit_locked(struct kvm_machine *m)
{
    /* seccomp(device): ioctl(KVM_SET_GSI_ROUTING) */
    return m->irqchip == ACCEL_IRQCHIP_OFF || kvm_ioctl(m->vm, KVM_SET_GSI_ROUTING, m->routing) == 0;
}

/* All inside: 0-15 reach the 8259s and the I/O APIC, where the timer's line 0 is input 2 (as the MADT says), 16-23 the I/O APIC. */
bool kvm_routes_init(struct kvm_machine *m, GError **error)
{
    g_mutex_init(&m->routes_lock);
    m->routing = g_malloc0(sizeof(*m->routing));
    m->route_used = g_malloc0(MAX(m->caps.routes, 64u) / 8 + 8);
    m->route_used[0] = (1u << KVM_IOAPIC_GSIS) - 1;
    if (m->irqchip != ACCEL_IRQCHIP_ON)
        return true;
    for (unsigned i = 0; i < 16; i++)
        if (i != 2)
            pin_locked(m, i, i < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, i % 8);
    for (unsigned i = 0; i < KVM_IOAPIC_GSIS; i++)
        if (i != 2)
            pin_locked(m, i, KVM_IRQCHIP_IOAPIC, i == 0 ? 2 : i);
    if (!commit_locked(m))
        return vireo_fail_errno(error, errno, "-accel kvm: cannot set the routes of interrupts");
    return true;
}

void kvm_routes_finish(struct kvm_machine *m)
{
    if (!m->routing)
        return;
    g_free(m->routing);
    g_free(m->route_used);
    g_mutex_clear(&m->routes_lock);
}

static struct kvm_irq_routing_entry *msi_locked(struct kvm_machine *m, unsigned route)
{
    for (unsigned i = 0; i < m->routing->nr; i++)
        if (m->routing->entries[i].gsi == route && m->routing->entries[i].type == KVM_IRQ_ROUTING_MSI)
            return &m->routing->entries[i];
    return NULL;
}

static bool same(const struct kvm_irq_routing_entry *e, uint64_t address, uint32_t data)
{
    return e->u.msi.address_lo == (uint32_t)address && e->u.msi.address_hi == (uint32_t)(address >> 32) && e->u.msi.data == data;
}

/* The table is given to the kernel as a whole, which waits there until no CPU uses the old one: only when something changes. */
static bool set_locked(struct kvm_machine *m, unsigned route, uint64_t address, uint32_t data, bool masked)
{
    struct kvm_irq_routing_entry *e = msi_locked(m, route);
    if (masked) {
        if (!e)
            return true;
        *e = m->routing->entries[--m->routing->nr];
        return commit_locked(m);
    }
    if (e && same(e, address, data))
        return true;
    if (!e)
        e = entry_locked(m);
    *e = (struct kvm_irq_routing_entry){ .gsi = route, .type = KVM_IRQ_ROUTING_MSI };
    e->u.msi.address_lo = (uint32_t)address;
    e->u.msi.address_hi = (uint32_t)(address >> 32);
    e->u.msi.data = data;
    return commit_locked(m);
}

int kvm_route_add(struct accel *a, uint64_t address, uint32_t data, GError **error)
{
    struct kvm_machine *m = kvm_machine_of(a);
    int route = -1;
    if (m->irqchip == ACCEL_IRQCHIP_OFF) {
        vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "-accel kvm: with kernel-irqchip=off the kernel delivers no interrupts of devices");
        return -1;
    }
    g_mutex_lock(&m->routes_lock);
    for (unsigned i = KVM_IOAPIC_GSIS; route < 0 && i < m->caps.routes; i++)
        if (!(m->route_used[i / 64] >> (i % 64) & 1))
            route = (int)i;
    if (route < 0) {
        vireo_fail(error, VIREO_ERROR_FAILED, "-accel kvm: all %u interrupt routes of the kernel are in use", m->caps.routes);
    } else if (!set_locked(m, (unsigned)route, address, data, false)) {
        vireo_fail_errno(error, errno, "-accel kvm: cannot add an interrupt route to message %#llx, %#x", (unsigned long long)address, data);
        (void)set_locked(m, (unsigned)route, 0, 0, true);
        route = -1;
    } else {
        m->route_used[route / 64] |= 1ull << (route % 64);
    }
    g_mutex_unlock(&m->routes_lock);
    return route;
}

void kvm_route_set(struct accel *a, unsigned route, uint64_t address, uint32_t data, bool masked)
{
    struct kvm_machine *m = kvm_machine_of(a);
    if (route >= m->caps.routes || (route < KVM_IOAPIC_GSIS && m->irqchip != ACCEL_IRQCHIP_SPLIT))
        return;
    g_mutex_lock(&m->routes_lock);
    if (!set_locked(m, route, address, data, masked))
        (void)set_locked(m, route, 0, 0, true); /* a message that the kernel does not take reaches nobody */
    g_mutex_unlock(&m->routes_lock);
}

void kvm_route_remove(struct accel *a, unsigned route)
{
    struct kvm_machine *m = kvm_machine_of(a);
    if (route < KVM_IOAPIC_GSIS || route >= m->caps.routes)
        return;
    g_mutex_lock(&m->routes_lock);
    (void)set_locked(m, route, 0, 0, true);
    m->route_used[route / 64] &= ~(1ull << (route % 64));
    g_mutex_unlock(&m->routes_lock);
}

/* ---- eventfds ---- */

/* seccomp(device): ioctl(KVM_IRQFD KVM_IOEVENTFD) */
bool kvm_irqfd(struct accel *a, int fd, int resample, unsigned route, bool on, GError **error)
{
    struct kvm_machine *m = kvm_machine_of(a);
    struct kvm_irqfd k = { .fd = (uint32_t)fd, .gsi = route, .flags = on ? 0 : KVM_IRQFD_FLAG_DEASSIGN };
    if (!m->caps.irqfd || m->irqchip == ACCEL_IRQCHIP_OFF || (resample >= 0 && !m->caps.resample))
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "-accel kvm: no eventfd can raise an interrupt here (kernel-irqchip=off, or an old kernel)");
    if (on && resample >= 0) {
        k.flags |= KVM_IRQFD_FLAG_RESAMPLE;
        k.resamplefd = (uint32_t)resample;
    }
    if (kvm_ioctl(m->vm, KVM_IRQFD, &k) < 0)
        return vireo_fail_errno(error, errno, "-accel kvm: cannot connect an eventfd with interrupt %u", route);
    return true;
}

bool kvm_ioeventfd(struct accel *a, int fd, bool port, uint64_t address, unsigned size, bool match, uint64_t value, bool on, GError **error)
{
    struct kvm_machine *m = kvm_machine_of(a);
    struct kvm_ioeventfd k = { .datamatch = match ? value : 0, .addr = address, .len = size, .fd = fd,
                               .flags = (port ? KVM_IOEVENTFD_FLAG_PIO : 0) | (match ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0) |
                                        (on ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN) };
    if (!m->caps.ioeventfd || (!size && !m->caps.ioeventfd_any))
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "-accel kvm: this kernel cannot signal an eventfd for a guest's write");
    if (kvm_ioctl(m->vm, KVM_IOEVENTFD, &k) < 0)
        return vireo_fail_errno(error, errno, "-accel kvm: cannot connect an eventfd with %s %#llx", port ? "port" : "address", (unsigned long long)address);
    return true;
}

/* ---- coalesced writes ---- */

/* seccomp(vcpu-kvm): ioctl(KVM_REGISTER_COALESCED_MMIO KVM_UNREGISTER_COALESCED_MMIO) */
void kvm_coalesce(struct accel *a, bool port, uint64_t address, uint64_t size, bool on)
{
    struct kvm_machine *m = kvm_machine_of(a);
    struct kvm_coalesced_mmio_zone z = { .addr = address, .size = (uint32_t)size, .pio = port };
    if (!atomic_load(&m->ring) || (port && !m->caps.coalesced_pio) || size > G_MAXUINT32)
        return;
    (void)kvm_ioctl(m->vm, on ? KVM_REGISTER_COALESCED_MMIO : KVM_UNREGISTER_COALESCED_MMIO, &z);
}

static void give(struct kvm_vcpu *v, const struct kvm_coalesced_mmio *c)
{
    struct kvm_machine *m = v->machine;
    uint64_t value = 0;
    unsigned size = c->len;
    if (size != 1 && size != 2 && size != 4 && size != 8)
        return;
    memcpy(&value, c->data, size);
    if (c->pio)
        m->bus.pio_write(m->opaque, v->index, (uint16_t)c->phys_addr, MIN(size, 4u), value);
    else
        m->bus.mmio_write(m->opaque, v->index, c->phys_addr, size, value);
}

/* One ring for all vCPUs: who comes out first gives everybody's writes to the bus, and others wait for that, so that a write comes
 * before what its vCPU does next. */
void kvm_coalesced_drain(struct kvm_vcpu *v)
{
    struct kvm_machine *m = v->machine;
    struct kvm_coalesced_mmio_ring *ring = atomic_load_explicit(&m->ring, memory_order_relaxed);
    if (!ring || __atomic_load_n(&ring->first, __ATOMIC_RELAXED) == __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE))
        return;
    g_mutex_lock(&m->ring_lock);
    while (ring->first != __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE)) {
        uint32_t at = ring->first % m->ring_room;
        struct kvm_coalesced_mmio c = ring->coalesced_mmio[at];
        give(v, &c);
        __atomic_store_n(&ring->first, (at + 1) % m->ring_room, __ATOMIC_RELEASE);
    }
    g_mutex_unlock(&m->ring_lock);
}
