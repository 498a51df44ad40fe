/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One virtual machine: memory, clock, vCPU threads, devices, and its run state. The main loop (GLib's default main context)
 * owns the run state; everything else asks it through machine_request_*.
 *
 * Lock order: machine.lock before a device's lock before the interrupt controllers' locks; see docs/locking.md.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "accel/accel.h"
#include "vmm/core/irq.h"
#include "vmm/core/memory.h"
#include "vmm/core/vclock.h"

struct apic_group;
struct block_device;
struct blockdev;
struct core_dump;
struct device;
struct numa;
struct machine;
struct json_object;
struct secrets;
struct throttle_groups;
struct vcpu;
struct pci_bus;
struct plug_slots;
struct x86_cpu_model;
struct x86_state;
struct x86_lapic;
struct x86_irqchip;

enum machine_state { MACHINE_PRELAUNCH /* -S or not yet started */, MACHINE_RUNNING, MACHINE_PAUSED, MACHINE_SHUTDOWN, MACHINE_IO_ERROR,
                     MACHINE_GUEST_PANICKED, MACHINE_INTERNAL_ERROR, MACHINE_INMIGRATE /* waits for a saved state */, MACHINE_FINISH_MIGRATE, MACHINE_POSTMIGRATE,
                     MACHINE_SAVE_VM, MACHINE_RESTORE_VM, MACHINE_NSTATES };

/* Why the guest or the host wants the machine to end or reset; the names on QMP are QEMU's (SHUTDOWN event `reason`). */
enum machine_cause { CAUSE_NONE, CAUSE_HOST_QMP_QUIT, CAUSE_HOST_QMP_SYSTEM_RESET, CAUSE_HOST_SIGNAL, CAUSE_HOST_UI, CAUSE_GUEST_SHUTDOWN,
                     CAUSE_GUEST_RESET, CAUSE_GUEST_PANIC, CAUSE_HOST_ERROR };

/* Events that QMP forwards. `data` depends: cause for SHUTDOWN and RESET; a text for BLOCK_IO_ERROR. Called on the main thread. */
enum machine_event { EVENT_SHUTDOWN, EVENT_RESET, EVENT_STOP, EVENT_RESUME, EVENT_POWERDOWN, EVENT_GUEST_PANICKED, EVENT_BLOCK_IO_ERROR,
                     EVENT_GUEST_CRASHLOADED };
struct block_io_error { const char *device, *node, *operation /* "read" or "write" */, *action /* "stop", "report", "ignore" */, *reason; bool nospace; };

struct machine_listener {
    void (*event)(void *opaque, enum machine_event ev, enum machine_cause cause, const struct block_io_error *io);
    void *opaque;
    /* Events by name, as QMP sends them; data is borrowed and may be NULL. May be NULL. */
    void (*named)(void *opaque, const char *name, struct json_object *data);
};

struct machine_config { /* filled by the options; plain values */
    char *name, *uuid;
    char *bios;        /* -bios; NULL: the default image */
    char *boot_order;  /* letters a c d n; NULL: "cad" */
    const char *board;             /* "q35", "microvm" */
    uint64_t ram_size;             /* at start */
    uint64_t max_ram_size;         /* with what may be plugged; 0: nothing may */
    bool ram_size_given;
    unsigned mem_slots;            /* for pc-dimm */
    char *memory_backend;          /* id of the object that is the RAM */
    char *mem_path;
    GPtrArray *globals;            /* "DRIVER.PROPERTY=VALUE": of all such devices; NULL: none */
    struct keyval *smbios;         /* "TYPE.KEY": texts of the SMBIOS tables, checked; NULL: the machine's own */
    bool no_hpet;
    bool mem_prealloc, no_mem_merge, dump_guest_core, mem_lock;
    unsigned cpus, max_cpus, sockets, cores, threads;
    char *cpu_spec;                /* -cpu */
    char *accel_name;              /* "jit", "auto", or several with colons between, the best first */
    int irqchip;                   /* enum accel_irqchip wanted of the accelerator, or -1: all inside where it can */
    unsigned dirty_ring;           /* entries per vCPU, 0: a bitmap */
    char *accel_device;            /* its device file, NULL: the usual one */
    char *kernel, *initrd, *append;
    unsigned linux_entry;          /* 16, 32, 64; 0: the best that the kernel has */
    bool no_reboot, no_shutdown, start_paused, nodefaults;
    bool incoming;                 /* the state comes from elsewhere (vmm/migrate) */
    bool rtc_localtime; int64_t rtc_base; /* seconds since the epoch, or -1: now */
};

/* The machine's own interrupt controllers, for when their state moves (vmm/core/irqchip.h); set by those who make them. Machine
 * stopped, but for ioapic_eoi. lapic_set and irqchip_set bring timers and lines to the vCPUs to life. */
struct machine_chips {
    void (*lapic_get)(struct machine *m, unsigned cpu, struct x86_lapic *ret);
    void (*lapic_set)(struct machine *m, unsigned cpu, const struct x86_lapic *s);
    void (*irqchip_get)(struct machine *m, struct x86_irqchip *ret);
    void (*irqchip_set)(struct machine *m, const struct x86_irqchip *s);
    void (*quiet)(struct machine *m); /* what is inside the accelerator now: no timers, no lines */
    void (*ioapic_eoi)(struct machine *m, unsigned vector);
};

/* Told on the main thread, in the order of adding; RUN before the vCPUs run, STOP when they are outside. LEAVE and ENTER: the machine
 * stands still, and its accelerator is about to be, has been, replaced. */
enum machine_hook_event { HOOK_RUN, HOOK_STOP, HOOK_ACCEL_LEAVE, HOOK_ACCEL_ENTER };
typedef void (*machine_hook_fn)(void *opaque, enum machine_hook_event ev);

struct machine {
    struct machine_config *config;
    struct guest_memory *memory;
    GPtrArray *objects;            /* struct object *, in order (vmm/core/object.h) */
    struct throttle_groups *throttle; /* groups of I/O limits (base/throttle.h) */
    struct secrets *secrets;       /* what objects of the class secret hold; any thread */
    GArray *ram;                   /* struct ram_piece: the RAM at start (vmm/core/numa.h) */
    struct numa *numa;
    uint64_t plug_base, plug_size; /* guest addresses for memory that is plugged; size 0: none (vmm/core/memory_device.h) */
    GPtrArray *memory_devices;     /* struct memory_device * */
    uint64_t plugged_dimms;        /* bytes of modules, of these; atomic */
    int cancel_fd;                 /* readable when the process is asked to end; -1: none */
    bool ending;                   /* machine_destroy: nobody looks at guest memory any more */
    struct vclock *clock;
    const struct accel_ops *accel_ops;
    struct accel *accel;
    enum accel_irqchip irqchip;    /* what the accelerator has inside */
    struct machine_chips chips;
    struct dirty_log *dirty_log;   /* vmm/core/dirty_log.h; NULL: off */
    struct dirty_rate *dirty_rate; /* the last calc-dirty-rate; NULL: none yet */
    void (*announce)(struct machine *m); /* its cards tell the networks where they are now; NULL: nobody can */
    GSList *announcements;         /* of QMP announce-self, under way (vmm/qmp/qmp_net.c) */
    struct x86_cpu_model *cpu_model;
    uint64_t *cpu_supported;       /* features that the accelerator has on this host, as in x86_cpu_model.features; NULL: not asked */
    struct vcpu **vcpus;           /* max_vcpus entries; NULL: that vCPU is not plugged in. The main thread writes */
    unsigned max_vcpus;            /* -smp maxcpus */
    unsigned nvcpus;               /* how many are there now */
    struct plug_slots *cpu_slots;  /* where the guest is told of vCPUs that come and go (vmm/dev/cpu_hotplug.h); NULL: they do not */
    struct plug_slots *mem_slots;  /* for memory modules (vmm/dev/mem_hotplug.h); NULL: there are none */
    GPtrArray *devices;            /* struct device *, in order of realize; reset in that order */
    struct pci_bus *pci;           /* NULL on microvm */
    struct virtio_mmio_slots *virtio_mmio; /* NULL on boards without virtio-mmio (vmm/bus/virtio.h) */
    struct msi_sink msi;
    const struct irq_line *isa_irqs; /* 16 lines (global system interrupts 0-15) */
    struct irq_line *gsi;          /* 24 lines of the I/O APIC */
    void *board;                   /* the board's own */
    struct apic_group *apics;      /* local APICs (vmm/dev/apic.h) */
    void (*board_reset)(struct machine *m);           /* loads the boot state again (kernel registers, memory) */
    void (*board_powerdown)(struct machine *m);       /* the power button */
    void (*board_destroy)(struct machine *m);         /* called by machine_destroy when the devices are gone */
    /* what the accelerator's bus callbacks need from the interrupt controllers; set by the board */
    int (*ack_interrupt)(struct machine *m, unsigned cpu);
    unsigned (*get_tpr)(struct machine *m, unsigned cpu);
    void (*set_tpr)(struct machine *m, unsigned cpu, unsigned tpr);
    void (*reset_lapic)(struct machine *m, unsigned cpu); /* power-on state of one vCPU's local APIC: it came or went */
    bool (*msr_read)(struct machine *m, unsigned cpu, uint32_t index, uint64_t *ret);
    bool (*msr_write)(struct machine *m, unsigned cpu, uint32_t index, uint64_t value);
    /* back ends by id, so that devices find them without knowing who made them */
    struct blockdev *blockdev; /* disks and their nodes (vmm/blockdev); NULL: there are none, as in tests */
    /* Sees to it that `name`, the id of a drive or the name of a node, is in drives; called for what a device is given as drive= before
     * it is realized. NULL: what is there is there. */
    struct block_device *(*resolve_drive)(struct machine *m, const char *name, GError **error);
    GHashTable *drives;   /* id -> struct block_device * (src/block/block.h) */
    GHashTable *netdevs;  /* id -> struct net_backend * (src/vmm/net/net.h) */
    GHashTable *audiodevs; /* id -> struct audiodev * (src/vmm/dev/audio/audiodev.h), which it owns; NULL: none */
    struct audiodev *default_audiodev; /* the first of them */
    GHashTable *chardevs; /* id -> struct chardev * (src/vmm/core/chardev.h) */
    struct display *display;       /* vmm/display; NULL: nobody shows anything */
    void (*display_destroy)(struct display *d);
    enum machine_state state;      /* main thread writes */
    bool live;                     /* the board is finished: what is added now is hot-plugged, and the guest is told */
    uint64_t tsc_offset;           /* guest TSC = host TSC + this, in all vCPUs since the last reset; written with vCPUs stopped */
    GArray *listeners;             /* struct machine_listener */
    struct migration *migration;   /* vmm/migrate; NULL: not set up */
    GArray *hooks;                 /* machine_hook.c; NULL: none yet */
    struct core_dump *core_dump;   /* core_dump.c: the one that is being written, or the last; NULL: none */
    int exit_status; bool exit_status_set; /* isa-debug-exit */
    GMainLoop *loop;
};

struct machine *machine_create(struct machine_config *config); /* takes the config over */
void machine_destroy(struct machine *m);
/* Accelerator and CPU model alone. */
bool machine_create_accel(struct machine *m, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Accelerator, CPU model, vCPUs (not yet running). Before that the board has made RAM. */
bool machine_create_cpus(struct machine *m, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* One vCPU more, index below max_vcpus and not there yet, in its power-on state: it waits for a start-up message. Main thread,
 * the machine running or not. */
bool machine_add_vcpu(struct machine *m, unsigned index, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Its thread ends. The guest must have let go of it. Main thread. */
void machine_remove_vcpu(struct machine *m, unsigned index);
/* May the guest switch its local APICs to x2APIC mode? (-cpu ...,-x2apic) */
bool machine_has_x2apic(const struct machine *m);
const char *machine_cpu_model_name(const struct machine *m);
/* Machine stopped. Replaces the accelerator by the one of this name; all state goes with it. On failure the machine is as before. */
bool machine_switch_accel(struct machine *m, const char *name, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Main thread. A hook may not remove others. */
void machine_add_hook(struct machine *m, machine_hook_fn fn, void *opaque);
void machine_remove_hook(struct machine *m, machine_hook_fn fn, void *opaque);
/* Guest TSC of a vCPU that has not moved its own; stands still with the machine. */
uint64_t machine_guest_tsc(const struct machine *m);
uint64_t machine_tsc_hz(const struct machine *m); /* of the guest's time stamp counter */
/* Whether others (the kernel) may write guest memory without guest_memory_written: not where code is translated from it. */
bool machine_memory_is_plain(const struct machine *m);
void machine_add_listener(struct machine *m, struct machine_listener l);
void machine_remove_listener(struct machine *m, void *opaque); /* all with this opaque; not from a listener */
/* Main thread. Between them no vCPU is in guest code or in a device's method, whether the machine runs or not; no events, and the clock
 * goes on. What a device gives back that a guest can reach is given back here. Not nested. */
void machine_hold_vcpus(struct machine *m);
void machine_let_vcpus(struct machine *m);
/* All vCPUs stay out of guest code for so many microseconds, at most until the machine is stopped. Does not wait for them. Main thread. */
void machine_nap(struct machine *m, int64_t us);

/* An event of this name (QEMU's QMP reference) to all listeners; takes data over, which may be NULL. Main thread. */
void machine_event(struct machine *m, const char *name, struct json_object *data);
/* The same from any thread: sent by the main loop soon after. */
void machine_post_event(struct machine *m, const char *name, struct json_object *data);
/* Calls fn(opaque) on the main thread soon after; not at all when the machine ends before. Any thread. */
void machine_call_later(struct machine *m, void (*fn)(void *opaque), void *opaque);

/* Main thread. */
void machine_start(struct machine *m);  /* from PRELAUNCH or PAUSED to RUNNING: QMP cont */
void machine_stop(struct machine *m, enum machine_state why); /* all vCPUs are outside guest code when it returns */
/* All devices, vCPUs and the board are as after power-on, and RAM as that leaves it. The machine is not running. */
void machine_reset_now(struct machine *m);
/* The machine stands still, and is now in this state: for those that move its state about. No event. */
void machine_set_state(struct machine *m, enum machine_state s);
/* What a machine that stands still has beside devices and vCPUs: guest TSC and virtual clock when it stopped. Set: they stand there. */
struct machine_clocks { uint64_t tsc, ns, accel_ns /* the accelerator's own, if it has one */; };
void machine_clocks_get(const struct machine *m, struct machine_clocks *ret);
void machine_clocks_set(struct machine *m, const struct machine_clocks *c);
/* vCPUs for saving and loading; the machine stands still. tsc: guest TSC of that vCPU, in the place of the offset. */
void machine_vcpu_save(struct machine *m, unsigned index, struct x86_state *ret, uint64_t *ret_tsc);
bool machine_vcpu_load(struct machine *m, unsigned index, struct x86_state *s, uint64_t tsc, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* After vCPUs and interrupt controllers: who waits for what. */
void machine_vcpu_loaded(struct machine *m, unsigned index, const struct x86_state *s);
/* Runs the main loop until the machine ends; returns the process's exit status (0, or isa-debug-exit's value). */
int machine_main(struct machine *m);
const char *machine_state_name(enum machine_state s); /* QMP RunState: "running", "paused", "prelaunch", ... */
const char *machine_cause_name(enum machine_cause c);

/* Any thread: acted on by the main loop soon after; the calling vCPU is kicked out of guest code before it runs on. */
void machine_request_reset(struct machine *m, enum machine_cause cause);
void machine_request_shutdown(struct machine *m, enum machine_cause cause);
void machine_request_powerdown(struct machine *m); /* power button */
void machine_request_stop(struct machine *m, enum machine_state why);
void machine_request_exit(struct machine *m, int status); /* isa-debug-exit */
void machine_request_failure(struct machine *m, int status); /* the same, and the fault is the host's */
void machine_guest_panicked(struct machine *m);
void machine_guest_crashloaded(struct machine *m); /* its crash kernel took over: an event, nothing more */
void machine_report_io_error(struct machine *m, const struct block_io_error *e); /* copied; event, and stop when action is "stop" */

/* vcpu.c: one thread each, named "CPU N/JIT". */
unsigned vcpu_index(const struct vcpu *v);
/* The vCPU whose access is being dispatched on this thread (its local APIC answers); 0 elsewhere. */
unsigned vcpu_current_index(void);
int vcpu_thread_id(struct vcpu *v);
uint64_t vcpu_cpu_time_ns(const struct vcpu *v); /* that its thread has used */
/* Exits by reason, one count per row of accel_ops.exit_reasons; NULL: the accelerator does not count. */
const struct accel_exit_count *vcpu_exits(struct vcpu *v);
/* The sum over all vCPUs, those that are gone included; ret has accel_ops.nexit_reasons rows. */
void machine_sum_exits(struct machine *m, struct accel_exit_count *ret);
bool vcpu_halted(const struct vcpu *v);
struct accel_vcpu *vcpu_accel(struct vcpu *v);
/* Interrupt controllers: level of the external interrupt input; wakes a halted vCPU. */
void vcpu_set_intr(struct machine *m, unsigned index, bool level);
void vcpu_nmi(struct machine *m, unsigned index);
void vcpu_init(struct machine *m, unsigned index);               /* INIT signal: takes effect on the vCPU's thread */
void vcpu_sipi(struct machine *m, unsigned index, uint8_t vector);/* start-up IPI: CS = vector << 8, IP 0 */
/* Boot state of the first vCPU, machine stopped. */
void vcpu_get_state(struct vcpu *v, struct x86_state *ret);
bool vcpu_set_state(struct vcpu *v, const struct x86_state *s, GError **error);
/* Runs fn on the vCPU's own thread while it is outside guest code, and waits for it. Any thread but that one. */
void vcpu_run_on(struct vcpu *v, void (*fn)(struct vcpu *v, void *opaque), void *opaque);
