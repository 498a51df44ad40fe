/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The only door to an accelerator. An accelerator runs guest CPUs; it knows nothing of devices, boards or
 * QMP. What the guest does to the outside (ports, MMIO, interrupt acknowledge) reaches the machine through
 * `struct accel_bus`, called on the vCPU's own thread with no accelerator lock held.
 *
 * Interrupt controllers are the machine's own devices (ACCEL_IRQCHIP_OFF), or the local APICs are inside the accelerator and
 * the rest outside (SPLIT), or local APICs, I/O APIC, 8259s and 8254 are all inside (ON). Inside, an accelerator also handles
 * HLT, INIT and start-up messages itself: its vCPUs run on, and ACCEL_EXIT_HALT never comes.
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
struct x86_lapic;
struct x86_irqchip;
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
    /* ACCEL_IRQCHIP_SPLIT: a local APIC ended a level-triggered interrupt that one of the first 24 routes had raised. */
    void (*ioapic_eoi)(void *opaque, unsigned vector);
};

enum accel_irqchip { ACCEL_IRQCHIP_OFF, ACCEL_IRQCHIP_SPLIT, ACCEL_IRQCHIP_ON };

/* What a machine asks of an accelerator at its start. */
struct accel_config {
    const struct accel_bus *bus;
    void *opaque; /* the bus's */
    const struct x86_cpu_model *model;
    unsigned sockets, cores, threads; /* topology that CPUID shows; their product is at least max_vcpus */
    unsigned max_vcpus;
    enum accel_irqchip irqchip; /* the accelerator may give less: ops->irqchip tells */
    unsigned dirty_ring;        /* entries per vCPU of a dirty ring; 0: dirty pages in a bitmap */
    const char *device;         /* the accelerator's device file or "/dev/fdset/N"; NULL: the usual */
};

/* One row per reason why guest code is left. */
struct accel_exit_reason {
    const char *name; /* "port-read": as in query-stats, lower case with dashes */
    const char *help; /* one line */
};
/* Counted by the vCPU's own thread; others read with relaxed atomics. */
struct accel_exit_count {
    uint64_t count;
    uint64_t ticks; /* of the host's TSC, from leaving the guest to going back */
};

struct accel_breakpoint {
    uint64_t address;
    uint8_t type; /* 0 execute, 1 write, 3 read or write: R/W of DR7 (SDM vol. 3, 17.2.4) */
    uint8_t size; /* 1, 2, 4, 8 */
};
struct accel_debug {
    bool single_step;
    bool software_breakpoints; /* INT3 exits to the host */
    unsigned nbreakpoints;     /* at most 4 */
    struct accel_breakpoint breakpoints[4];
};

enum accel_exit {
    ACCEL_EXIT_KICKED,   /* somebody called accel_vcpu_kick; look at your requests and run again */
    ACCEL_EXIT_HALT,     /* HLT with nothing pending: wait until accel_vcpu_has_work, then run again */
    ACCEL_EXIT_SHUTDOWN, /* triple fault */
    ACCEL_EXIT_RESET,    /* the accelerator's own interrupt controller saw a reset request */
    ACCEL_EXIT_DEBUG,    /* what vcpu_debug asked for */
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
    /* May this host run it? 0 no (reason in error), 1 yes but slowly, 2 yes. device: as in accel_config, or NULL. */
    int (*probe)(const char *device, GError **error);
    /* CPU features that it can give a guest on this host, as in x86_cpu_model.features. */
    void (*features)(const char *device, uint64_t *ret_features);
    struct accel *(*create)(const struct accel_config *config, GError **error); /* the config is copied, the model is not */
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

    /* ---- all from here on optional: NULL where an accelerator has none ---- */

    /* The machine has been idle for long: gives back memory that is kept only to be fast. Main thread, vCPUs may run. */
    void (*trim)(struct accel *);

    /* Exits by reason: the table, and one count per row of it for a vCPU. */
    const struct accel_exit_reason *exit_reasons;
    unsigned nexit_reasons;
    const struct accel_exit_count *(*vcpu_exits)(struct accel_vcpu *);
    /* A new descriptor of the kernel's binary statistics of a vCPU, or with NULL of the machine; -1: none. */
    int (*stats_fd)(struct accel *, struct accel_vcpu *);
    /* The machine is about to run, or has just stopped (all vCPUs outside): clocks of the accelerator stand still meanwhile. */
    void (*run_state)(struct accel *, bool running);
    /* The clock that a guest reads by the accelerator's own means (kvmclock), nanoseconds, of a machine that stands still; where it goes on from. */
    uint64_t (*clock_get)(struct accel *);
    void (*clock_set)(struct accel *, uint64_t ns);
    bool (*vcpu_debug)(struct accel_vcpu *, const struct accel_debug *debug, GError **error);

    /* Interrupt controllers inside. */
    enum accel_irqchip (*irqchip)(struct accel *);                    /* NULL: OFF */
    void (*gsi_set)(struct accel *, unsigned gsi, bool level);        /* ON: ISA line 0-15 (0 is input 2 of the I/O APIC), I/O APIC 16-23 */
    void (*msi_send)(struct accel *, uint64_t address, uint32_t data);/* SPLIT and ON: as in SDM vol. 3, 10.11 */
    void (*irqchip_get)(struct accel *, struct x86_irqchip *ret);     /* ON; vCPUs outside */
    bool (*irqchip_set)(struct accel *, const struct x86_irqchip *, GError **error);
    void (*pit_output)(struct accel *, bool connected);               /* ON: of the 8254's counter 0 to line 0; vCPUs may run */
    void (*lapic_get)(struct accel_vcpu *, struct x86_lapic *ret);    /* SPLIT and ON; vCPU outside */
    bool (*lapic_set)(struct accel_vcpu *, const struct x86_lapic *, GError **error);
    /* Routes: an interrupt number (from 24 on; with SPLIT 0-23 are the I/O APIC's own and exist already) that stands for a
     * message. route_set: data may change; masked: it sends nothing. -1 with error: the kernel has no more. */
    int (*route_add)(struct accel *, uint64_t address, uint32_t data, GError **error);
    void (*route_set)(struct accel *, unsigned route, uint64_t address, uint32_t data, bool masked);
    void (*route_remove)(struct accel *, unsigned route);
    /* Writing to eventfd `fd` raises the route; resample (-1: none): written by the kernel at the end of a level interrupt. */
    bool (*irqfd)(struct accel *, int fd, int resample, unsigned route, bool on, GError **error);
    /* A guest write to the port or address (size 0: any; match: only of this value) signals `fd` and does not leave the guest
     * for the process. */
    bool (*ioeventfd)(struct accel *, int fd, bool port, uint64_t address, unsigned size, bool match, uint64_t value, bool on,
                      GError **error);
    /* Writes to [address, address+size) may be gathered and given to the bus later, in order, before the next exit. */
    void (*coalesce)(struct accel *, bool port, uint64_t address, uint64_t size, bool on);

    /* Log of written pages, device writes (ram_written) included. dirty_read adds to `bitmap`, one bit per 4 KiB page of
     * [gpa, gpa + size), bit 0 of word 0 first, what was written since the start or the last read, and forgets it. vCPUs may run. */
    bool (*dirty_start)(struct accel *, GError **error);
    void (*dirty_stop)(struct accel *);
    bool (*dirty_read)(struct accel *, uint64_t gpa, uint64_t size, uint64_t *bitmap, GError **error);
};

/* accel.c: the list of accelerators, and `auto`. */
/* name: of an accelerator ("tcg" is jit), or "auto": KVM where the CPU runs guests in hardware and the device opens, else the
 * translator. *ret_why: one line for the log; starts with "warning: " when the user should see it in any case. Caller frees. */
const struct accel_ops *accel_find(const char *name, const char *device, char **ret_why, GError **error) G_GNUC_WARN_UNUSED_RESULT;
const struct accel_ops *const *accel_list(void); /* NULL-terminated */

extern const struct accel_ops accel_jit, accel_kvm;
