/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between machine.c, vcpu.c and machine_bus.c; nobody else includes it. */
#pragma once

#include <stdatomic.h>

#include "vmm/core/machine.h"

/* What other threads asked for and the main loop has not done yet. */
struct machine_requests {
    enum machine_cause reset, shutdown; /* CAUSE_NONE: not asked */
    bool powerdown, exit, panicked, crashloaded, stop;
    enum machine_state stop_why;
    int exit_status;
    enum machine_cause exit_cause;
    GPtrArray *io_errors; /* struct block_io_error *, texts owned */
};

struct coalesced { bool port; uint64_t address, size; };

struct machine_impl {
    struct machine machine; /* first: a struct machine * is one of these */
    GMutex lock;            /* covers requests, scheduled, later, later_scheduled */
    struct machine_requests requests;
    bool scheduled;         /* the main loop has been told */
    GQueue later;           /* calls and events for the main thread, in order */
    bool later_scheduled;
    bool ended;
    struct vcpu **parked;   /* max_vcpus entries: vCPUs that were taken out; they live on, since any thread may be telling them something */
    uint64_t paused_tsc;    /* host TSC when the machine last stopped; 0: never ran */
    GRWLock gate;           /* readers: whoever raises an interrupt; writer: whoever replaces the accelerator */
    _Atomic uint32_t lines; /* interrupt controllers inside: levels of lines 0-23 */
    GArray *coalesced;      /* struct coalesced */
};

/* machine.c. With what the options say. NULL with error. */
struct accel *machine_make_accel(struct machine *m, const struct accel_ops *ops, const struct x86_cpu_model *model, GError **error);
enum accel_irqchip machine_irqchip_of(const struct accel_ops *ops, struct accel *a);
/* machine_bus.c */
extern const struct accel_bus machine_bus; /* opaque: the struct machine */

/* idle.c: calls accel->trim once each time the machine has been idle for half a minute. Main thread. */
struct idle_watch;
struct idle_watch *idle_watch_start(struct machine *m);
void idle_watch_stop(struct idle_watch *w);
void machine_run_hooks(struct machine *m, enum machine_hook_event ev);
void irqchip_coalesce_again(struct machine *m); /* in a new accelerator */

/* vcpu.c */
struct vcpu *vcpu_create(struct machine *m, unsigned index, GError **error);
void vcpu_destroy(struct vcpu *v);
/* The thread ends; the rest stays for vcpu_revive, which starts a new one, paused. */
void vcpu_park(struct vcpu *v);
void vcpu_revive(struct vcpu *v);
/* Asks the vCPU to leave guest code and stay out; vcpu_wait_paused waits for it. Not on a vCPU thread. */
void vcpu_pause(struct vcpu *v);
void vcpu_wait_paused(struct vcpu *v);
void vcpu_resume(struct vcpu *v);
/* No guest code before this monotonic time (g_get_monotonic_time), unless it is paused and resumed in between. */
void vcpu_nap(struct vcpu *v, int64_t until);
/* The calling vCPU, if the caller is one, will not return to guest code before vcpu_release. */
void vcpu_hold_current(struct machine *m);
void vcpu_release(struct vcpu *v);
/* Power-on state; the vCPU is paused. All vCPUs get the same TSC offset. */
void vcpu_reset(struct vcpu *v, uint64_t tsc_offset);
/* Moves the guest TSC; the vCPU is paused. */
void vcpu_shift_tsc(struct vcpu *v, int64_t delta);
/* For a change of accelerator; the vCPU is paused. */
struct vcpu_activity { uint32_t activity; uint8_t sipi_vector; }; /* as in struct x86_state */
void vcpu_settle(struct vcpu *v); /* INIT and start-up messages that have arrived take effect */
struct accel_vcpu *vcpu_swap_accel(struct vcpu *v, struct accel_vcpu *a); /* returns what it had */
void vcpu_adopt_activity(struct vcpu *v, const struct vcpu_activity *a);
void vcpu_rename(struct vcpu *v); /* its thread, after the accelerator */
void vcpu_set_current_index(unsigned index);
