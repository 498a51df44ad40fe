/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVM behind accel.h: the inside of this room. The kernel's interface is documented in the kernel's
 * Documentation/virt/kvm/api.rst; section numbers in comments are that file's.
 *
 *   kvm_machine.c  the device file, capabilities, the machine's descriptor, clock, statistics
 *   kvm_memory.c   memory slots, the log of written pages
 *   kvm_vcpu.c     a vCPU: creation, the run loop, kicks, interrupts, debugging
 *   kvm_exit.c     what each exit means, counts, error messages
 *   kvm_state.c    registers in canonical form, both ways; kvm_msr.c model-specific ones
 *   kvm_cpuid.c    the CPUID table, features that the kernel offers
 *   kvm_irqchip.c  interrupt controllers inside; kvm_event.c routes, irqfd, ioeventfd, coalesced writes
 */
#pragma once

#include <glib.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <linux/kvm.h>

#include "accel/accel.h"
#include "cpu/x86/x86_model.h"
#include "cpu/x86/x86_state.h"

#define KVM_IOAPIC_GSIS 24u
#define KVM_MSRS_MAX 256

/* Why guest code was left. X(identifier, name in query-stats, help) */
#define KVM_EXIT_ROWS(X) \
    X(PIO_READ, "port-read", "IN from a port that the kernel does not serve") \
    X(PIO_WRITE, "port-write", "OUT to a port that the kernel does not serve") \
    X(MMIO_READ, "mmio-read", "read of device memory") \
    X(MMIO_WRITE, "mmio-write", "write to device memory or to ROM") \
    X(HALT, "halt", "HLT, with the local APIC outside the kernel") \
    X(IRQ_WINDOW, "interrupt-window", "the guest can take the external interrupt that waits") \
    X(KICK, "kick", "another thread asked the vCPU to look at its requests, or a signal came") \
    X(MSR_READ, "msr-read", "RDMSR of a register that the machine has") \
    X(MSR_WRITE, "msr-write", "WRMSR of a register that the machine has") \
    X(EOI, "ioapic-eoi", "end of a level-triggered interrupt, with the I/O APIC outside the kernel") \
    X(TPR, "task-priority", "the guest lowered its task priority, with the local APIC outside the kernel") \
    X(DEBUG, "debug", "breakpoint or single step that the debugger asked for") \
    X(RING_FULL, "dirty-ring-full", "the vCPU's ring of written pages is full") \
    X(HYPERCALL, "hypercall", "VMCALL that the kernel gives to the process") \
    X(SHUTDOWN, "shutdown", "triple fault") \
    X(SYSTEM, "system-event", "reset or shutdown that the kernel's own device saw") \
    X(BUS_LOCK, "bus-lock", "a split lock") \
    X(ERROR, "error", "KVM could not go on") \
    X(OTHER, "other", "an exit that has no row of its own")

enum kvm_exit_row {
#define X(id, name, help) KVM_ROW_##id,
    KVM_EXIT_ROWS(X)
#undef X
    KVM_NROWS
};
extern const struct accel_exit_reason kvm_exit_reasons[KVM_NROWS];

/* What the kernel has beyond the minimum. */
struct kvm_caps {
    bool readonly_mem, manual_protect, dirty_ring_acq_rel, xsave2, tsc_offset_attr, smm, triple_fault, user_msr, msr_filter, sregs2, nested, vcpu_stats,
        coalesced_pio, irqfd, resample, ioeventfd, ioeventfd_any, signal_msi, kvmclock_ctrl, adjust_clock, mce, tsc_control, x2apic_api, split, pit2,
        debug;
    unsigned dirty_ring_bytes, slots, routes, max_vcpus, xsave_size, nested_size;
};

struct kvm_slot {
    uint32_t id;
    bool readonly;
    uint64_t gpa, size;
    uint8_t *host;
};

struct kvm_coalesced_zone {
    bool port;
    uint64_t address, size;
};

struct kvm_msr_list_copy {
    unsigned n;
    uint32_t index[KVM_MSRS_MAX];
};

struct kvm_machine {
    struct accel_bus bus;
    void *opaque;
    const struct x86_cpu_model *model;
    struct x86_cpu_topology topo;
    unsigned max_vcpus;
    int kvm, vm; /* descriptors */
    enum accel_irqchip irqchip;
    struct kvm_caps caps;
    size_t run_size;
    struct kvm_cpuid2 *cpuid; /* of vCPU 0; others differ in their APIC id */
    uint64_t xcr0_mask;       /* state components that the guest may have */
    struct kvm_msr_list_copy msrs; /* those of the canonical form's remainder */
    uint64_t *msr_defaults;   /* their values in a new vCPU; NULL until there is one */
    _Atomic uint64_t msr_fields;      /* rows of kvm_msr.c's table that the kernel has */
    struct kvm_vcpu *_Atomic *vcpus;

    struct accel_exit_count gone[KVM_NROWS]; /* exits of vCPUs that are no more */

    GMutex slots_lock; /* covers the slots and the log */
    GArray *slots;     /* struct kvm_slot */
    uint8_t *slot_used;
    _Atomic bool logging;
    GHashTable *dirty; /* number of a 128 MiB piece -> bitmap of its pages: written, and not yet read by dirty_read */
    unsigned ring_entries;

    GMutex routes_lock; /* covers the routes */
    struct kvm_irq_routing *routing;
    unsigned routing_room;
    uint64_t *route_used; /* bit per interrupt number */

    GMutex ring_lock; /* covers the coalesced ring; held while its writes are given to the bus */
    struct kvm_coalesced_mmio_ring *_Atomic ring;
    unsigned ring_room;

    _Atomic uint32_t lines; /* gsi_set: up, as the kernel was last told */

    bool clock_running;
    uint64_t clock;
};

/* Requests to a vCPU, in kvm_vcpu.pending. */
enum { KVM_PEND_KICK = 1, KVM_PEND_INTR = 2, KVM_PEND_NMI = 4, KVM_PEND_SMI = 8 };

struct kvm_vcpu {
    struct kvm_machine *machine;
    unsigned index;
    int fd;
    struct kvm_run *run;
    struct kvm_dirty_gfn *ring; /* dirty ring; NULL: none */
    uint32_t ring_at;
    _Atomic uint32_t pending;
    _Atomic bool in_run; /* inside KVM_RUN, or about to enter it */
    _Atomic int tid;
    uint8_t tpr;         /* as the bus was last told */
    uint64_t apic_base;  /* likewise */
    uint32_t activity;   /* enum x86_activity, where the local APIC is outside */
    enum kvm_exit_row row; /* of the exit being handled */
    char *error;
    struct accel_exit_count counts[KVM_NROWS];
    uint64_t *msr_shadow;  /* values last set of canonical fields that the kernel has no register for */
};

/* 0 or more; -1 with errno. Restarted when a signal interrupts it; not for KVM_RUN. */
int kvm_ioctl(int fd, unsigned long request, const void *arg);
int kvm_check(int fd, unsigned cap); /* 4.4 KVM_CHECK_EXTENSION; 0: not there */
bool kvm_enable(int fd, unsigned cap, uint64_t arg0);

/* kvm_machine.c */
int kvm_open(const char *device, GError **error);
/* kvm_memory.c */
void kvm_memory_init(struct kvm_machine *m);
void kvm_memory_finish(struct kvm_machine *m);
bool kvm_map_ram(struct accel *, uint64_t gpa, uint64_t size, void *host, bool readonly, GError **error);
void kvm_unmap_ram(struct accel *, uint64_t gpa, uint64_t size);
void kvm_ram_written(struct accel *, uint64_t gpa, uint64_t size);
bool kvm_dirty_start(struct accel *, GError **error);
void kvm_dirty_stop(struct accel *);
bool kvm_dirty_read(struct accel *, uint64_t gpa, uint64_t size, uint64_t *bitmap, GError **error);
void kvm_dirty_ring_full(struct kvm_machine *m); /* makes room in the rings */
/* kvm_vcpu.c */
bool kvm_vcpu_signals(GError **error);
struct accel_vcpu *kvm_vcpu_create(struct accel *, unsigned index, GError **error);
void kvm_vcpu_destroy(struct accel_vcpu *);
enum accel_exit kvm_vcpu_run(struct accel_vcpu *);
const char *kvm_vcpu_error(struct accel_vcpu *);
void kvm_vcpu_kick(struct accel_vcpu *);
void kvm_vcpu_interrupt(struct accel_vcpu *, enum accel_irq irq, bool level);
bool kvm_vcpu_has_work(struct accel_vcpu *);
bool kvm_vcpu_debug(struct accel_vcpu *, const struct accel_debug *debug, GError **error);
/* kvm_exit.c: answers the exit in v->run. *ret is set when the vCPU leaves vcpu_run for it; else it goes on. */
bool kvm_exit_handle(struct kvm_vcpu *v, enum accel_exit *ret);
/* KVM_RUN itself failed with errno value err. */
enum accel_exit kvm_exit_failed(struct kvm_vcpu *v, int err);
/* kvm_state.c */
void kvm_get_state(struct accel_vcpu *, struct x86_state *ret);
bool kvm_set_state(struct accel_vcpu *, const struct x86_state *state, GError **error);
char *kvm_describe_registers(struct kvm_vcpu *v); /* caller frees */
/* kvm_msr.c */
void kvm_msr_init(struct kvm_machine *m);
bool kvm_msr_vcpu_init(struct kvm_vcpu *v, GError **error); /* after KVM_SET_CPUID2 */
bool kvm_msr_get(struct kvm_vcpu *v, struct x86_state *ret);
bool kvm_msr_set(struct kvm_vcpu *v, const struct x86_state *s, GError **error);
bool kvm_msr_read_one(struct kvm_vcpu *v, uint32_t index, uint64_t *ret);
bool kvm_msr_write_one(struct kvm_vcpu *v, uint32_t index, uint64_t value);
bool kvm_msr_filter(struct kvm_machine *m, GError **error); /* sends the machine's own MSRs to the process */
/* kvm_cpuid.c */
void kvm_features(const char *device, uint64_t *ret_features);
bool kvm_cpuid_init(struct kvm_machine *m, GError **error);
bool kvm_cpuid_set(struct kvm_vcpu *v, GError **error);
/* kvm_irqchip.c */
bool kvm_irqchip_create(struct kvm_machine *m, enum accel_irqchip wanted, GError **error);
enum accel_irqchip kvm_irqchip_of(struct accel *);
void kvm_gsi_set(struct accel *, unsigned gsi, bool level);
void kvm_msi_send(struct accel *, uint64_t address, uint32_t data);
void kvm_irqchip_get(struct accel *, struct x86_irqchip *ret);
bool kvm_irqchip_set(struct accel *, const struct x86_irqchip *, GError **error);
void kvm_pit_output(struct accel *, bool connected);
void kvm_lapic_get(struct accel_vcpu *, struct x86_lapic *ret);
bool kvm_lapic_set(struct accel_vcpu *, const struct x86_lapic *, GError **error);
/* kvm_event.c */
bool kvm_routes_init(struct kvm_machine *m, GError **error);
void kvm_routes_finish(struct kvm_machine *m);
int kvm_route_add(struct accel *, uint64_t address, uint32_t data, GError **error);
void kvm_route_set(struct accel *, unsigned route, uint64_t address, uint32_t data, bool masked);
void kvm_route_remove(struct accel *, unsigned route);
bool kvm_irqfd(struct accel *, int fd, int resample, unsigned route, bool on, GError **error);
bool kvm_ioeventfd(struct accel *, int fd, bool port, uint64_t address, unsigned size, bool match, uint64_t value, bool on, GError **error);
void kvm_coalesce(struct accel *, bool port, uint64_t address, uint64_t size, bool on);
void kvm_coalesced_drain(struct kvm_vcpu *v);

static inline struct kvm_machine *kvm_machine_of(struct accel *a) { return (struct kvm_machine *)a; }
static inline struct kvm_vcpu *kvm_vcpu_of(struct accel_vcpu *v) { return (struct kvm_vcpu *)v; }
