/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The only door to an accelerator. An accelerator runs guest CPUs; it knows nothing of devices, boards or
 * QMP. What the guest does to the outside (ports, MMIO, interrupt acknowledge) reaches the machine through
 * `struct accel_bus`, called on the vCPU's own thread with no accelerator lock held.
 *
 * Threads: accel_vcpu_run, _get_state and _set_state are called on the vCPU's own thread (or, for the
 * latter two, on any thread while that vCPU is certainly not running). accel_vcpu_kick, accel_vcpu_interrupt,
 * accel_map_ram, accel_unmap_ram and accel_ram_written may be called on any thread at any time.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct accel;      /* one machine under one accelerator */
struct accel_vcpu; /* one vCPU of it */
struct x86_state;
struct x86_cpu_model;

/* What the machine offers to an accelerator. `opaque` is the machine's; `cpu` the vCPU's index. */
struct accel_bus {
    /* size 1, 2 or 4 bytes for ports, 1, 2, 4 or 8 for MMIO; wider accesses are split by the caller.
     * Values are in the low bits, host order. An address nobody answers reads as all ones. */
    uint64_t (*pio_read)(void *opaque, unsigned cpu, uint16_t port, unsigned size);
    void (*pio_write)(void *opaque, unsigned cpu, uint16_t port, unsigned size, uint64_t value);
    uint64_t (*mmio_read)(void *opaque, unsigned cpu, uint64_t gpa, unsigned size);
    void (*mmio_write)(void *opaque, unsigned cpu, uint64_t gpa, unsigned size, uint64_t value);
    /* Acknowledges the highest pending external interrupt (local APIC, then 8259) and returns its vector,
     * or -1 when there is none that may be delivered at the current priority. */
    int (*ack_interrupt)(void *opaque, unsigned cpu);
    /* Task priority register (CR8), 0 to 15. */
    unsigned (*get_tpr)(void *opaque, unsigned cpu);
    void (*set_tpr)(void *opaque, unsigned cpu, unsigned tpr);
    /* MSRs that belong to the machine: IA32_APIC_BASE, x2APIC 0x800-0x8ff, TSC deadline. False: no such
     * MSR, or the value is not allowed; the guest gets #GP. */
    bool (*msr_read)(void *opaque, unsigned cpu, uint32_t index, uint64_t *ret);
    bool (*msr_write)(void *opaque, unsigned cpu, uint32_t index, uint64_t value);
};

enum accel_exit {
    ACCEL_EXIT_KICKED,   /* somebody called accel_vcpu_kick; look at your requests and run again */
    ACCEL_EXIT_HALT,     /* HLT with nothing pending: wait until accel_vcpu_has_work, then run again */
    ACCEL_EXIT_SHUTDOWN, /* triple fault */
    ACCEL_EXIT_ERROR     /* accel_vcpu_error tells; the machine stops */
};

/* Lines into a vCPU, latched until the accelerator has taken them. */
enum accel_irq {
    ACCEL_IRQ_INTR, /* level: ack_interrupt has something (set and cleared by the APIC) */
    ACCEL_IRQ_NMI,  /* edge */
    ACCEL_IRQ_SMI,  /* edge; an accelerator without SMM ignores it */
};

struct accel_ops {
    const char *name; /* as in -accel NAME */
    const char *help; /* one line */
    /* May this host run it? 0 no (reason in error), 1 yes but slowly, 2 yes. */
    int (*probe)(GError **error);
    /* CPU features that it can give a guest on this host, as in x86_cpu_model.features. */
    void (*features)(uint64_t *ret_features);
    struct accel *(*create)(const struct accel_bus *bus, void *opaque, const struct x86_cpu_model *model,
                            unsigned max_vcpus, GError **error);
    void (*destroy)(struct accel *);
    /* Guest physical [gpa, gpa+size) is backed by host memory at `host`; page aligned. readonly: ROM,
     * writes go to mmio_write. The memory stays the caller's and must outlive the mapping. */
    bool (*map_ram)(struct accel *, uint64_t gpa, uint64_t size, void *host, bool readonly, GError **error);
    void (*unmap_ram)(struct accel *, uint64_t gpa, uint64_t size);
    /* A device wrote guest RAM (DMA): whatever the accelerator derived from those bytes is stale. */
    void (*ram_written)(struct accel *, uint64_t gpa, uint64_t size);
    /* index 0..max_vcpus-1; the new vCPU is in its architectural reset state. */
    struct accel_vcpu *(*vcpu_create)(struct accel *, unsigned index, GError **error);
    void (*vcpu_destroy)(struct accel_vcpu *);
    enum accel_exit (*vcpu_run)(struct accel_vcpu *);
    const char *(*vcpu_error)(struct accel_vcpu *);
    void (*vcpu_kick)(struct accel_vcpu *);
    void (*vcpu_interrupt)(struct accel_vcpu *, enum accel_irq irq, bool level);
    /* A halted vCPU should run again: an unmasked interrupt, NMI, or a state change is waiting. */
    bool (*vcpu_has_work)(struct accel_vcpu *);
    void (*vcpu_get_state)(struct accel_vcpu *, struct x86_state *ret);
    bool (*vcpu_set_state)(struct accel_vcpu *, const struct x86_state *state, GError **error);
    /* Optional: one line of counters for -d stats; the caller frees. */
    char *(*stats)(struct accel *);
};

/* accel.c: the list of accelerators, and `auto`. */
const struct accel_ops *accel_find(const char *name, char **ret_why, GError **error) G_GNUC_WARN_UNUSED_RESULT;
const struct accel_ops *const *accel_list(void); /* NULL-terminated */

extern const struct accel_ops accel_jit;
